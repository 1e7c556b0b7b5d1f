/* The one list of stored formats (format_table.h), and what is said when one is met that only a newer program knows: which
 * format, the version found, the versions known, where, and what to do. Who meets one answers with ERR_VERSION, changes
 * nothing, and has said this once. docs/formats.md has the bytes. */
#ifndef OXBOW_BASE_FORMAT_H
#define OXBOW_BASE_FORMAT_H

#include <assert.h> /* static_assert: the formats' own files hold their constants to the table */
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum format {
#define X(name, id, text, oldest, newest, position, width) FORMAT_##name,
#include "base/format_table.h"
#undef X
    FORMAT_COUNT
};

enum {
#define X(name, id, text, oldest, newest, position, width)                                                             \
    FORMAT_##name##_OLDEST = oldest, FORMAT_##name##_NEWEST = newest,
#include "base/format_table.h"
#undef X
};

struct format_info {
    const char *id, *text;
    unsigned oldest, newest;
};
const struct format_info *format_info(enum format f);
/* The version that bytes of this format carry; 0 if they end before it, or it does not lie in them as an integer. */
unsigned format_found(enum format f, const uint8_t *data, size_t size);
/* One line of level error; the place as logfmt fields. */
void format_newer(struct logger *l, enum format f, unsigned found, const char *place, ...)
    __attribute__((format(printf, 4, 5)));

#endif
