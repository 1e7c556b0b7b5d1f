/* Topic configuration: the table at run time, one parser per type, and the three ways in which clients meet it
 * (create, alter, describe). */
#include "partition/topic_config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/nearest.h"

enum { EFFECT = 1, OLD = 2 };
/* How a value is kept and read; TYPE_* of the protocol alone does not tell. */
enum row_kind { ROW_INT, ROW_LONG, ROW_DOUBLE, ROW_ENUM, ROW_BOOL, ROW_SET, ROW_KEPT };

struct row {
    const char *name, *synonym;
    enum row_kind kind;
    enum topic_type type;
    size_t field; /* offset in struct topic_config; none for ROW_KEPT */
    int64_t initial;
    const char *initial_text; /* ROW_KEPT, ROW_DOUBLE */
    const char *values;
    int64_t min, max;
    unsigned flags;
    const char *text;
};

#define FIELD(f) offsetof(struct topic_config, f)
static const struct row rows[TOPIC_PROPERTIES] = {
#define TOPIC_INT(f, name, synonym, initial, min, max, flags, text)                                                    \
    {name, synonym, ROW_INT, TOPIC_TYPE_INT, FIELD(f), initial, NULL, "", min, max, flags, text},
#define TOPIC_LONG(f, name, synonym, initial, min, max, flags, text)                                                   \
    {name, synonym, ROW_LONG, TOPIC_TYPE_LONG, FIELD(f), initial, NULL, "", min, max, flags, text},
#define TOPIC_DOUBLE(f, name, synonym, initial, min, max, flags, text)                                                 \
    {name, synonym, ROW_DOUBLE, TOPIC_TYPE_DOUBLE, FIELD(f), 0, initial, "", min, max, flags, text},
#define TOPIC_ENUM(f, name, synonym, initial, values, flags, text)                                                     \
    {name, synonym, ROW_ENUM, TOPIC_TYPE_STRING, FIELD(f), initial, NULL, values, 0, 0, flags, text},
#define TOPIC_BOOL(f, name, synonym, initial, flags, text)                                                             \
    {name, synonym, ROW_BOOL, TOPIC_TYPE_BOOLEAN, FIELD(f), initial, NULL, "", 0, 0, flags, text},
#define TOPIC_SET(f, name, synonym, initial, values, flags, text)                                                      \
    {name, synonym, ROW_SET, TOPIC_TYPE_LIST, FIELD(f), initial, NULL, values, 0, 0, flags, text},
#define TOPIC_KEPT(id, name, synonym, type, initial, values, min, max, flags, text)                                    \
    {name, synonym, ROW_KEPT, type, 0, 0, initial, values, min, max, flags, text},
#include "partition/topic_config_table.h"
};
_Static_assert(TOPIC_PROPERTIES <= 64, "one bit each in topic_config.set");

static enum err fail(char *why, size_t why_size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static enum err fail(char *why, size_t why_size, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, why_size, format, ap);
    va_end(ap);
    return ERR_INVALID_CONFIG;
}

/* A piece of text without the white space around it. */
struct piece {
    const char *at;
    size_t size;
};

static struct piece trimmed(const char *at, size_t size) {
    while (size > 0 && strchr(" \t\r\n", at[0])) at++, size--;
    while (size > 0 && strchr(" \t\r\n", at[size - 1])) size--;
    return (struct piece){at, size};
}

static bool piece_is(struct piece p, const char *text) {
    return strlen(text) == p.size && strncasecmp(p.at, text, p.size) == 0;
}

/* The next element of a list with that separator; false after the last. Empty elements are passed over. */
static bool piece_next(const char **cursor, char separator, struct piece *out) {
    while (**cursor) {
        const char *end = strchr(*cursor, separator);
        size_t size = end ? (size_t)(end - *cursor) : strlen(*cursor);
        *out = trimmed(*cursor, size);
        *cursor += size + (end ? 1 : 0);
        if (out->size > 0) return true;
    }
    return false;
}

/* The place of `p` in "a|b|c", -1 if it has none. As with Kafka, case counts here. */
static int value_index(const char *values, struct piece p) {
    struct piece v;
    for (int i = 0; piece_next(&values, '|', &v); i++) {
        if (v.size == p.size && memcmp(v.at, p.at, p.size) == 0) return i;
    }
    return -1;
}

static enum err parse_number(const struct row *r, const char *value, int64_t *out, char *why, size_t why_size) {
    struct piece p = trimmed(value, strlen(value));
    char digits[32], *end = digits;
    errno = 0;
    *out = 0;
    bool plain = p.size > 0 && p.size < sizeof(digits) && !strchr(" \t\r\n", p.at[0]);
    if (plain) {
        memcpy(digits, p.at, p.size);
        digits[p.size] = '\0';
        *out = strtoll(digits, &end, 10);
        plain = *end == '\0' && end != digits && errno == 0;
    }
    if (plain && *out >= r->min && *out <= r->max) return OK;
    int64_t top = r->type == TOPIC_TYPE_INT ? INT32_MAX : INT64_MAX;
    if (r->max < top) {
        return fail(why, why_size, "%s: expected a whole number from %" PRId64 " to %" PRId64 ", found '%.*s'", r->name,
                    r->min, r->max, (int)(p.size > 64 ? 64 : p.size), p.at);
    }
    return fail(why, why_size, "%s: expected a whole number of at least %" PRId64 " that fits %d bits, found '%.*s'",
                r->name, r->min, r->type == TOPIC_TYPE_INT ? 32 : 64, (int)(p.size > 64 ? 64 : p.size), p.at);
}

static enum err parse_one_of(const struct row *r, const char *value, int64_t *out, char *why, size_t why_size) {
    int index = value_index(r->values, trimmed(value, strlen(value)));
    if (index < 0) return fail(why, why_size, "%s: expected one of %s, found '%.64s'", r->name, r->values, value);
    *out = index;
    return OK;
}

static enum err parse_set(const struct row *r, const char *value, int64_t *out, char *why, size_t why_size) {
    *out = 0;
    struct piece p;
    while (piece_next(&value, ',', &p)) {
        int index = value_index(r->values, p);
        if (index < 0) {
            return fail(why, why_size, "%s: expected a list of %s, found '%.*s' in it", r->name, r->values,
                        (int)(p.size > 64 ? 64 : p.size), p.at);
        }
        *out |= (int64_t)1 << index;
    }
    return OK;
}

/* "*" or a list of partition:broker. */
static bool replicas_valid(const char *value) {
    struct piece p;
    const char *cursor = value;
    if (piece_next(&cursor, ',', &p) && p.size == 1 && p.at[0] == '*') return !piece_next(&cursor, ',', &p);
    while (piece_next(&value, ',', &p)) {
        const char *colon = memchr(p.at, ':', p.size);
        if (!colon || colon == p.at || colon + 1 == p.at + p.size) return false;
        for (size_t i = 0; i < p.size; i++) {
            if (p.at + i != colon && (p.at[i] < '0' || p.at[i] > '9')) return false;
        }
    }
    return true;
}

static enum err check_kept(const struct row *r, const char *value, char *why, size_t why_size) {
    struct piece p = trimmed(value, strlen(value));
    int64_t number;
    char *end;
    switch (r->type) {
    case TOPIC_TYPE_BOOLEAN:
        if (piece_is(p, "true") || piece_is(p, "false")) return OK;
        return fail(why, why_size, "%s: expected true or false, found '%.64s'", r->name, value);
    case TOPIC_TYPE_INT:
    case TOPIC_TYPE_LONG:
        return parse_number(r, value, &number, why, why_size);
    case TOPIC_TYPE_DOUBLE: {
        double d = strtod(value, &end);
        if (end != value && end >= p.at + p.size && isfinite(d) && d >= (double)r->min && d <= (double)r->max)
            return OK;
        return fail(why, why_size, "%s: expected a number from %" PRId64 " to %" PRId64 ", found '%.64s'", r->name,
                    r->min, r->max, value);
    }
    case TOPIC_TYPE_LIST:
        if (replicas_valid(value)) return OK;
        return fail(why, why_size, "%s: expected * or a list of partition:broker, found '%.64s'", r->name, value);
    case TOPIC_TYPE_STRING:
        if (p.size > 0) return OK;
        return fail(why, why_size, "%s: expected a text, found none", r->name);
    }
    UNREACHABLE();
}

/* Of ROW_DOUBLE the number's bits. */
static int64_t field_get(const struct topic_config *c, const struct row *r) {
    ASSERT(r->kind != ROW_KEPT);
    const char *at = (const char *)c + r->field;
    if (r->kind == ROW_LONG || r->kind == ROW_DOUBLE) {
        int64_t v;
        memcpy(&v, at, sizeof(v));
        return v;
    }
    int32_t v;
    memcpy(&v, at, sizeof(v));
    return v;
}

static void field_put(struct topic_config *c, const struct row *r, int64_t value) {
    ASSERT(r->kind != ROW_KEPT);
    char *at = (char *)c + r->field;
    if (r->kind == ROW_LONG || r->kind == ROW_DOUBLE) {
        memcpy(at, &value, sizeof(value));
        return;
    }
    ASSERT(value >= INT32_MIN && value <= INT32_MAX);
    int32_t v = (int32_t)value;
    memcpy(at, &v, sizeof(v));
}

static int64_t bits_of(double d) {
    int64_t v;
    memcpy(&v, &d, sizeof(v));
    return v;
}

void topic_config_init(struct topic_config *c) {
    memset(c, 0, sizeof(*c));
    for (size_t i = 0; i < TOPIC_PROPERTIES; i++) {
        const struct row *r = &rows[i];
        if (r->kind == ROW_DOUBLE)
            field_put(c, r, bits_of(strtod(r->initial_text, NULL)));
        else if (r->kind != ROW_KEPT)
            field_put(c, r, r->initial);
    }
}

enum topic_property topic_config_find(const char *name) {
    size_t i = 0;
    while (i < TOPIC_PROPERTIES && strcmp(rows[i].name, name) != 0) i++;
    return (enum topic_property)i;
}

/* Names are compared with all that there are only as long as *suggestions (NULL: always) is not 0. */
static enum err unknown(const char *name, unsigned *suggestions, char *why, size_t why_size) {
    if (suggestions && *suggestions == 0) return fail(why, why_size, "Unknown topic config name: %.128s", name);
    if (suggestions) --*suggestions;
    struct nearest n;
    nearest_init(&n, name);
    for (size_t i = 0; i < TOPIC_PROPERTIES; i++) nearest_try(&n, rows[i].name);
    const char *best = nearest_plausible(&n);
    if (!best) return fail(why, why_size, "Unknown topic config name: %.128s", name);
    return fail(why, why_size, "Unknown topic config name: %.128s (nearest: %s)", name, best);
}

static enum err set(struct topic_config *c, const char *name, const char *value, unsigned *suggestions, char *why,
                    size_t why_size) {
    size_t p = topic_config_find(name);
    if (p == TOPIC_PROPERTIES) return unknown(name, suggestions, why, why_size);
    const struct row *r = &rows[p];
    int64_t v = 0;
    enum err e = OK;
    switch (r->kind) {
    case ROW_INT:
    case ROW_LONG:
        e = parse_number(r, value, &v, why, why_size);
        if (e == OK && p == TOPIC_compression_gzip_level && v == 0) {
            e = fail(why, why_size, "%s: expected -1 or a whole number from 1 to 9, found '0'", r->name);
        }
        break;
    case ROW_ENUM:
        e = parse_one_of(r, value, &v, why, why_size);
        break;
    case ROW_BOOL:
        e = check_kept(r, value, why, why_size);
        v = piece_is(trimmed(value, strlen(value)), "true");
        break;
    case ROW_SET:
        e = parse_set(r, value, &v, why, why_size);
        break;
    case ROW_DOUBLE:
        e = check_kept(r, value, why, why_size);
        v = bits_of(strtod(value, NULL));
        break;
    case ROW_KEPT:
        e = check_kept(r, value, why, why_size);
        break;
    }
    if (e != OK) return e;
    if (r->kind != ROW_KEPT) field_put(c, r, v);
    c->set |= UINT64_C(1) << p;
    return OK;
}

enum err topic_config_set(struct topic_config *c, const char *name, const char *value, char *why, size_t why_size) {
    return set(c, name, value, NULL, why, why_size);
}

static bool is_set(const struct topic_config *c, enum topic_property p) {
    return (c->set >> p & 1) != 0;
}

double topic_config_cleanable_ratio(const struct topic_config *c) {
    return c->min_cleanable_dirty_ratio;
}

int64_t topic_config_segment_ms(const struct topic_config *c) {
    bool compacts = (c->cleanup_policy & TOPIC_CLEANUP_COMPACT) != 0;
    return compacts && c->max_compaction_lag_ms < c->segment_ms ? c->max_compaction_lag_ms : c->segment_ms;
}

int64_t topic_config_before_max_ms(const struct topic_config *c) {
    bool newer =
        is_set(c, TOPIC_message_timestamp_before_max_ms) || !is_set(c, TOPIC_message_timestamp_difference_max_ms);
    return newer ? c->message_timestamp_before_max_ms : c->message_timestamp_difference_max_ms;
}

int64_t topic_config_after_max_ms(const struct topic_config *c) {
    bool newer =
        is_set(c, TOPIC_message_timestamp_after_max_ms) || !is_set(c, TOPIC_message_timestamp_difference_max_ms);
    return newer ? c->message_timestamp_after_max_ms : c->message_timestamp_difference_max_ms;
}

enum err topic_config_resolve(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                              struct topic_config *out, unsigned *suggestions, char *why, size_t why_size) {
    *out = *defaults;
    out->set = 0;
    for (size_t i = 0; i < count; i++) {
        if (!overrides[i].value) return fail(why, why_size, "%.128s: expected a value, found none", overrides[i].name);
        enum err e = set(out, overrides[i].name, overrides[i].value, suggestions, why, why_size);
        if (e != OK) return e;
    }
    if (out->min_compaction_lag_ms > out->max_compaction_lag_ms) {
        return fail(why, why_size,
                    "min.compaction.lag.ms: expected at most max.compaction.lag.ms (%" PRId64 "), found %" PRId64,
                    out->max_compaction_lag_ms, out->min_compaction_lag_ms);
    }
    return OK;
}

void topic_config_apply(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                        struct topic_config *out) {
    char why[TOPIC_CONFIG_WHY_SIZE];
    *out = *defaults;
    out->set = 0;
    for (size_t i = 0; i < count; i++) {
        /* Nobody is told of an unknown name, so none like it is looked for: that takes long, and describing a topic
         * comes here for each property. */
        if (!overrides[i].value || topic_config_find(overrides[i].name) == TOPIC_PROPERTIES) continue;
        /* A failure leaves the value as it was, which is what the contract says. */
        unsigned none = 0;
        enum err ignored = set(out, overrides[i].name, overrides[i].value, &none, why, sizeof(why));
        (void)ignored;
    }
}

static const char *override_of(const struct meta_config *overrides, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(overrides[i].name, name) == 0) return overrides[i].value;
    }
    return NULL;
}

const char *topic_config_double_text(double d, char *out, size_t out_size) {
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(out, out_size, "%.*g", digits, d);
        if (strtod(out, NULL) == d) break;
    }
    size_t used = strlen(out);
    if (!strpbrk(out, ".e")) (void)snprintf(out + used, out_size - used, ".0");
    return out;
}

/* The value as text; for ROW_KEPT, whose text is not here, Kafka's default. */
static const char *value_text(const struct topic_config *c, const struct row *r, char *out, size_t out_size) {
    if (r->kind == ROW_KEPT) return r->initial_text;
    int64_t v = field_get(c, r);
    if (r->kind == ROW_DOUBLE) {
        double d;
        memcpy(&d, &v, sizeof(d));
        return topic_config_double_text(d, out, out_size);
    }
    if (r->kind == ROW_INT || r->kind == ROW_LONG) {
        (void)snprintf(out, out_size, "%" PRId64, v);
        return out;
    }
    if (r->kind == ROW_BOOL) return v ? "true" : "false";
    size_t used = 0;
    struct piece p;
    const char *cursor = r->values;
    out[0] = '\0';
    for (int i = 0; piece_next(&cursor, '|', &p); i++) {
        if (r->kind == ROW_ENUM ? i != v : (v >> i & 1) == 0) continue;
        ASSERT(used + p.size + 2 <= out_size);
        if (used > 0) out[used++] = ',';
        memcpy(out + used, p.at, p.size);
        used += p.size;
        out[used] = '\0';
    }
    return out;
}

/* ROW_SET: what was set, each value once and in its order; all of them fit `out`. */
static const char *set_text(const struct row *r, const char *set, char *out, size_t out_size) {
    size_t used = 0;
    int64_t seen = 0;
    struct piece p;
    out[0] = '\0';
    while (piece_next(&set, ',', &p)) {
        int index = value_index(r->values, p);
        if (index < 0 || (seen >> index & 1) != 0) continue;
        seen |= (int64_t)1 << index;
        ASSERT(used + p.size + 2 <= out_size);
        if (used > 0) out[used++] = ',';
        memcpy(out + used, p.at, p.size);
        used += p.size;
        out[used] = '\0';
    }
    return out;
}

static bool list_holds(const char *list, struct piece wanted) {
    struct piece p;
    while (piece_next(&list, ',', &p)) {
        if (p.size == wanted.size && memcmp(p.at, wanted.at, p.size) == 0) return true;
    }
    return false;
}

static void list_add(struct buf *out, size_t start, struct piece p) {
    if (out->size > start) buf_u8(out, ',');
    buf_put(out, p.at, p.size);
}

enum err topic_config_alter(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                            int op, const char *name, const char *operand, struct buf *value, bool *remove,
                            unsigned *suggestions, char *why, size_t why_size) {
    *remove = false;
    if (op == TOPIC_CONFIG_DELETE) { /* also one that is not known: tools clean up what older releases had */
        *remove = true;
        return OK;
    }
    size_t property = topic_config_find(name);
    if (property == TOPIC_PROPERTIES) return unknown(name, suggestions, why, why_size);
    const struct row *r = &rows[property];
    if (op < TOPIC_CONFIG_SET || op > TOPIC_CONFIG_SUBTRACT || !operand) {
        (void)fail(why, why_size,
                   operand ? "%.128s: expected an operation from 0 to 3, found another"
                           : "%.128s: expected a value, found none",
                   name);
        return ERR_INVALID_REQUEST;
    }
    size_t start = value->size;
    if (op == TOPIC_CONFIG_SET) {
        buf_put(value, operand, strlen(operand));
    } else {
        if (r->type != TOPIC_TYPE_LIST) {
            return fail(why, why_size, "Can't %s to key %s because its type is not LIST",
                        op == TOPIC_CONFIG_APPEND ? "APPEND" : "SUBTRACT", r->name);
        }
        char buffer[64];
        const char *old = override_of(overrides, count, name);
        if (!old) old = value_text(defaults, r, buffer, sizeof(buffer));
        struct piece p;
        for (const char *cursor = old; piece_next(&cursor, ',', &p);) {
            if (op == TOPIC_CONFIG_APPEND || !list_holds(operand, p)) list_add(value, start, p);
        }
        for (const char *cursor = operand; op == TOPIC_CONFIG_APPEND && piece_next(&cursor, ',', &p);) {
            if (!list_holds(old, p)) list_add(value, start, p);
        }
    }
    buf_u8(value, 0);
    struct topic_config scratch = *defaults;
    enum err e = set(&scratch, name, (const char *)value->data + start, NULL, why, why_size);
    if (e != OK) value->size = start;
    return e;
}

bool topic_config_describe(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                           size_t *cursor, struct topic_config_entry *out) {
    for (; *cursor < TOPIC_PROPERTIES; (*cursor)++) {
        const struct row *r = &rows[*cursor];
        const char *set = override_of(overrides, count, r->name);
        if (!set && (r->flags & OLD) != 0) continue;
        struct topic_config c, kafka;
        topic_config_init(&kafka);
        topic_config_apply(defaults, overrides, count, &c);
        out->property = (enum topic_property) * cursor;
        out->name = r->name;
        out->broker_value = value_text(defaults, r, out->buffer[1], sizeof(out->buffer[1]));
        out->default_value = value_text(&kafka, r, out->buffer[2], sizeof(out->buffer[2]));
        if (set && (r->kind == ROW_KEPT || r->kind == ROW_DOUBLE)) {
            out->value = set;
        } else if (set && r->kind == ROW_SET) {
            out->value = set_text(r, set, out->buffer[0], sizeof(out->buffer[0]));
        } else {
            out->value = value_text(&c, r, out->buffer[0], sizeof(out->buffer[0]));
        }
        out->broker_set = strcmp(out->broker_value, out->default_value) != 0;
        out->is_default = set == NULL;
        out->source = set ? TOPIC_SOURCE_TOPIC : out->broker_set ? TOPIC_SOURCE_BROKER : TOPIC_SOURCE_DEFAULT;
        out->effect = (r->flags & EFFECT) != 0;
        out->type = r->type;
        out->synonym = r->synonym;
        out->text = r->text;
        (*cursor)++;
        return true;
    }
    return false;
}

enum topic_property topic_config_find_synonym(const char *name) {
    size_t i = 0;
    while (i < TOPIC_PROPERTIES && ((rows[i].flags & OLD) != 0 || strcmp(rows[i].synonym, name) != 0)) i++;
    return (enum topic_property)i;
}

void topic_config_row(enum topic_property p, struct topic_config_row *out) {
    ASSERT(p < TOPIC_PROPERTIES);
    const struct row *r = &rows[p];
    struct topic_config kafka;
    topic_config_init(&kafka);
    out->name = r->name;
    out->synonym = r->synonym;
    out->text = r->text;
    out->type = r->type;
    out->effect = (r->flags & EFFECT) != 0;
    out->old = (r->flags & OLD) != 0;
    out->default_value = value_text(&kafka, r, out->buffer, sizeof(out->buffer));
}
