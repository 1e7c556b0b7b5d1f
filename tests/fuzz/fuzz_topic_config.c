/* Any texts as what clients set on topics: overrides that are committed already, then changes. u8 flags, then for each:
 * u8 operation, u8 which property (from 0xf0 on: u8 size, of which below 64 counts, and a name), u8 size and value. What is accepted goes in, is shown as it was set, and is accepted again; what is refused has a reason,
 * and changes nothing. */
#include "base/assert.h"
#include "feed.h"
#include "partition/topic_config.h"

#define OVERRIDES_MAX 8u

struct overrides {
    struct meta_config items[OVERRIDES_MAX];
    size_t count;
};

static char *text_of(struct mem *m, struct feed *f) {
    size_t size;
    const uint8_t *bytes =
        feed_bytes(f, feed_u8(f) & 63, &size); /* for a long unknown name, long is looked for its like */
    return mem_strndup(m, (const char *)bytes, size);
}

static char *name_of(struct mem *m, struct feed *f) {
    uint8_t which = feed_u8(f);
    if (which >= 0xf0) return text_of(m, f);
    struct topic_config_row row;
    topic_config_row((enum topic_property)(which % TOPIC_PROPERTIES), &row);
    return mem_strdup(m, row.name);
}

/* Sets or removes; false: there is no room. */
static bool put(struct mem *m, struct overrides *o, const char *name, const char *value) {
    size_t i = 0;
    while (i < o->count && strcmp(o->items[i].name, name) != 0) i++;
    if (i < o->count) {
        mem_free(m, (void *)(uintptr_t)o->items[i].name);
        mem_free(m, (void *)(uintptr_t)o->items[i].value);
        o->items[i] = o->items[--o->count];
    }
    if (!value) return true;
    if (o->count == OVERRIDES_MAX) return false;
    o->items[o->count++] = (struct meta_config){.name = mem_strdup(m, name), .value = mem_strdup(m, value)};
    return true;
}

static void show(const struct topic_config *defaults, const struct overrides *o) {
    struct topic_config_entry e;
    size_t shown = 0;
    for (size_t cursor = 0; topic_config_describe(defaults, o->items, o->count, &cursor, &e);) {
        ASSERT(e.name && e.value && e.broker_value && e.default_value && e.text);
        shown++;
    }
    ASSERT(shown >= TOPIC_PROPERTIES || shown > 0);
}

static void change(struct mem *m, struct feed *f, const struct topic_config *defaults, struct overrides *o) {
    int op = (int8_t)feed_u8(f);
    if (op > 5) op &= 3;
    char *name = name_of(m, f), *operand = text_of(m, f), why[TOPIC_CONFIG_WHY_SIZE] = "";
    struct buf value;
    buf_init(&value, m);
    bool remove = false;
    enum err e =
        topic_config_alter(defaults, o->items, o->count, op, name, operand, &value, &remove, NULL, why, sizeof(why));
    if (e != OK) {
        ASSERT(e == ERR_INVALID_CONFIG || e == ERR_INVALID_REQUEST);
        ASSERT(why[0]);
    } else if (remove) {
        put(m, o, name, NULL);
    } else {
        struct overrides with = *o;
        struct topic_config c;
        ASSERT(value.size > 0 && value.data[value.size - 1] == '\0');
        if (with.count < OVERRIDES_MAX) {
            with.items[with.count++] = (struct meta_config){.name = name, .value = (char *)value.data};
            e = topic_config_resolve(defaults, with.items, with.count, &c, NULL, why, sizeof(why));
            ASSERT(e == OK || (e == ERR_INVALID_CONFIG && why[0]));
            if (e == OK) put(m, o, name, (const char *)value.data);
        }
    }
    buf_deinit(&value);
    mem_free(m, name);
    mem_free(m, operand);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct feed f = feed_of(data, size);
    struct overrides o = {.count = 0};
    struct topic_config defaults, c;
    topic_config_init(&defaults);
    uint8_t flags = feed_u8(&f);
    /* A newer version may have committed anything. */
    for (unsigned i = 0; i < (flags & 3u); i++) {
        char *name = name_of(&m, &f), *value = text_of(&m, &f);
        put(&m, &o, name, value);
        mem_free(&m, name);
        mem_free(&m, value);
    }
    topic_config_apply(&defaults, o.items, o.count, &c);
    for (unsigned i = 0; i < 8 && feed_left(&f) > 0; i++) change(&m, &f, &defaults, &o);
    show(&defaults, &o);
    topic_config_apply(&defaults, o.items, o.count, &c);
    while (o.count > 0) put(&m, &o, o.items[0].name, NULL);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
