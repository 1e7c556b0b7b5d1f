#include "base/format.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"

#define PLACE_MAX 400u

static const struct format_row {
    struct format_info info;
    unsigned position, width;
} rows[FORMAT_COUNT] = {
#define X(n, id, text, oldest, newest, position, width) [FORMAT_##n] = {{id, text, oldest, newest}, position, width},
#include "base/format_table.h"
#undef X
};

const struct format_info *format_info(enum format f) {
    ASSERT((unsigned)f < FORMAT_COUNT);
    return &rows[f].info;
}

unsigned format_found(enum format f, const uint8_t *data, size_t size) {
    ASSERT((unsigned)f < FORMAT_COUNT);
    const struct format_row *r = &rows[f];
    if (size < r->position + r->width) return 0;
    unsigned found = 0;
    for (unsigned i = r->width; i > 0; i--) found = found << 8 | data[r->position + i - 1];
    return found;
}

void format_newer(struct logger *l, enum format f, unsigned found, const char *place, ...) {
    const struct format_info *info = format_info(f);
    char where[PLACE_MAX];
    va_list args;
    va_start(args, place);
    (void)vsnprintf(where, sizeof(where), place, args);
    va_end(args);
    log_error(l, "a newer version of Oxbow wrote this; nothing was changed",
              "format=%s what=\"%s\" found=%u known=%u..%u %s error=ERR_VERSION advice=\"run the version of Oxbow that "
              "wrote it, or a later one, on this store and WAL\"",
              info->id, info->text, found, info->oldest, info->newest, where);
}
