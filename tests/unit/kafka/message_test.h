/* What the tests of messages share: a walk over a message's descriptor that prints it as one line of text (the form of
 * tests/golden/kafka), one that fills it with random contents, and the reader of the golden files. */
#ifndef OXBOW_TESTS_KAFKA_MESSAGE_TEST_H
#define OXBOW_TESTS_KAFKA_MESSAGE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "kafka/codec.h"
#include "kafka/frame.h"
#include "kafka/kafka_messages.h"

static inline void dump_hex(struct buf *out, const uint8_t *data, size_t size) {
    buf_u8(out, 'x');
    for (size_t i = 0; i < size; i++) buf_printf(out, "%02x", data[i]);
}

static inline void dump_struct(struct buf *out, const struct kafka_struct *type, const void *message);

static inline void dump_value(struct buf *out, const struct kafka_field *f, const void *p) {
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_BOOL:
        buf_printf(out, "%s", *(const bool *)p ? "true" : "false");
        break;
    case KAFKA_INT8:
        buf_printf(out, "%d", *(const int8_t *)p);
        break;
    case KAFKA_INT16:
        buf_printf(out, "%d", *(const int16_t *)p);
        break;
    case KAFKA_UINT16:
        buf_printf(out, "%u", *(const uint16_t *)p);
        break;
    case KAFKA_INT32:
        buf_printf(out, "%d", *(const int32_t *)p);
        break;
    case KAFKA_UINT32:
        buf_printf(out, "%u", *(const uint32_t *)p);
        break;
    case KAFKA_INT64:
        buf_printf(out, "%lld", (long long)*(const int64_t *)p);
        break;
    case KAFKA_FLOAT64:
        buf_printf(out, "%.17g", *(const double *)p);
        break;
    case KAFKA_UUID:
        dump_hex(out, p, 16);
        break;
    case KAFKA_STRING: {
        const struct kafka_string *s = p;
        if (s->size < 0) buf_printf(out, "null");
        if (s->size >= 0) buf_printf(out, "\"%.*s\"", s->size, s->data);
        break;
    }
    case KAFKA_BYTES: {
        const struct kafka_bytes *b = p;
        if (b->size < 0) buf_printf(out, "null");
        if (b->size >= 0) dump_hex(out, b->data, (size_t)b->size);
        break;
    }
    case KAFKA_RECORDS: {
        const struct kafka_records *r = p;
        if (r->size < 0) buf_printf(out, "null");
        if (r->size >= 0) dump_hex(out, r->data, (size_t)r->size);
        break;
    }
    case KAFKA_STRUCT:
        dump_struct(out, f->of, p);
        break;
    case KAFKA_STRUCT_POINTER: {
        const void *inner;
        memcpy(&inner, p, sizeof(inner));
        if (inner) dump_struct(out, f->of, inner);
        if (!inner) buf_printf(out, "null");
        break;
    }
    }
}

static inline void dump_struct(struct buf *out, const struct kafka_struct *type, const void *message) {
    buf_printf(out, "{");
    for (unsigned i = 0; i < type->field_count; i++) {
        const struct kafka_field *f = &type->fields[i];
        const uint8_t *p = (const uint8_t *)message + f->offset;
        buf_printf(out, "%s%s=", i ? " " : "", f->name);
        if (!(f->flags & KAFKA_FIELD_ARRAY)) {
            dump_value(out, f, p);
            continue;
        }
        struct kafka_array a;
        memcpy(&a, p, sizeof(a));
        if (a.count < 0) buf_printf(out, "null");
        if (a.count >= 0) buf_printf(out, "[");
        for (int32_t k = 0; k < a.count; k++) {
            if (k) buf_printf(out, " ");
            dump_value(out, f, (const uint8_t *)a.items + (size_t)k * kafka_field_size(f));
        }
        if (a.count >= 0) buf_printf(out, "]");
    }
    buf_printf(out, "}");
}

/* NUL-terminated; freed with buf_deinit. */
static inline struct buf dump_message(struct mem *m, const struct kafka_struct *type, const void *message) {
    struct buf b;
    buf_init(&b, m);
    dump_struct(&b, type, message);
    buf_u8(&b, 0);
    return b;
}

/* ---- Random contents ---- */

static inline void fill_struct(struct rng *r, struct arena *a, const struct kafka_struct *type, int16_t version,
                               void *message);

static inline void fill_value(struct rng *r, struct arena *a, const struct kafka_field *f, int16_t version, void *p) {
    bool null = version >= f->nullable.min && version <= f->nullable.max && !(f->flags & KAFKA_FIELD_ARRAY) &&
                rng_chance(r, 0.25);
    size_t length = rng_chance(r, 0.1) ? rng_below(r, 300) : rng_below(r, 12);
    uint8_t *bytes = arena_alloc(a, length);
    for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)('a' + rng_below(r, 26));
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_BOOL:
        *(bool *)p = rng_chance(r, 0.5);
        break;
    case KAFKA_STRING:
        *(struct kafka_string *)p = null ? kafka_string_of(NULL) : kafka_string_view((char *)bytes, length);
        break;
    case KAFKA_BYTES:
        *(struct kafka_bytes *)p = (struct kafka_bytes){null ? NULL : bytes, null ? -1 : (int32_t)length};
        break;
    case KAFKA_RECORDS:
        *(struct kafka_records *)p =
            (struct kafka_records){.data = null ? NULL : bytes, .size = null ? -1 : (int32_t)length};
        break;
    case KAFKA_STRUCT:
        fill_struct(r, a, f->of, version, p);
        break;
    case KAFKA_STRUCT_POINTER: {
        void *inner = null ? NULL : kafka_new(f->of, a, 1);
        if (inner) fill_struct(r, a, f->of, version, inner);
        memcpy(p, &inner, sizeof(inner));
        break;
    }
    default:
        rng_fill(r, p, kafka_field_size(f));
    }
}

/* Fields that the version has; the rest keep their defaults, and so do some others. */
static inline void fill_struct(struct rng *r, struct arena *a, const struct kafka_struct *type, int16_t version,
                               void *message) {
    kafka_init(type, message);
    for (unsigned i = 0; i < type->field_count; i++) {
        const struct kafka_field *f = &type->fields[i];
        uint8_t *p = (uint8_t *)message + f->offset;
        bool nullable = version >= f->nullable.min && version <= f->nullable.max;
        if (version < f->versions.min || version > f->versions.max) continue;
        /* A null default may stand only where the version has null. */
        if (rng_chance(r, 0.2) && (nullable || !(f->flags & KAFKA_FIELD_DEFAULT_NULL))) continue;
        if (!(f->flags & KAFKA_FIELD_ARRAY)) {
            fill_value(r, a, f, version, p);
            continue;
        }
        struct kafka_array array = {
            NULL, nullable && rng_chance(r, 0.2) ? -1 : (int32_t)rng_below(r, rng_chance(r, 0.05) ? 150 : 4)};
        if (array.count > 0) array.items = arena_zalloc(a, (size_t)array.count * kafka_field_size(f));
        for (int32_t k = 0; k < array.count; k++) {
            fill_value(r, a, f, version, (uint8_t *)array.items + (size_t)k * kafka_field_size(f));
        }
        memcpy(p, &array, sizeof(array));
    }
}

/* ---- Encoded bytes ---- */

/* The contents of an outbuf in one allocation of exactly their size, so that a sanitizer sees every read past the end.
 * Free with free(). */
static inline uint8_t *flatten(struct outbuf *o, size_t *size) {
    struct slices s;
    slices_init(&s, o->mem);
    outbuf_finish(o, &s);
    *size = s.size_bytes;
    uint8_t *all = malloc(s.size_bytes ? s.size_bytes : 1), *at = all;
    assert_non_null(all);
    for (size_t i = 0; i < s.count; i++) {
        memcpy(at, s.items[i].data, s.items[i].size);
        at += s.items[i].size;
    }
    assert_int_equal(at - all, s.size_bytes);
    slices_deinit(&s);
    return all;
}

/* A copy of exactly n bytes. */
static inline uint8_t *exact_copy(const uint8_t *data, size_t n) {
    uint8_t *p = malloc(n ? n : 1);
    assert_non_null(p);
    if (n) memcpy(p, data, n);
    return p;
}

/* ---- Golden files ---- */

/* Opens tests/golden/<name>, wherever the test is run: under the working directory or under one of its parents, or
 * under a parent of the test's own program. */
static inline FILE *golden_open(const char *name) {
    char path[2048], from[2][1024] = {{0}};
    if (!getcwd(from[0], sizeof(from[0]))) from[0][0] = '\0';
    if (readlink("/proc/self/exe", from[1], sizeof(from[1]) - 1) < 0) from[1][0] = '\0';
    for (int i = 0; i < 2; i++) {
        for (char *cut = from[i] + strlen(from[i]); cut; cut = strrchr(from[i], '/')) {
            *cut = '\0';
            snprintf(path, sizeof(path), "%s/tests/golden/%s", from[i], name);
            FILE *f = fopen(path, "r");
            if (f) return f;
        }
    }
    fail_msg("tests/golden/%s was not found", name);
    return NULL;
}

/* Hex digits up to the end of the line into exactly sized memory; free with free(). */
static inline uint8_t *golden_bytes(const char *hex, size_t *size) {
    size_t n = strspn(hex, "0123456789abcdef") / 2;
    uint8_t *data = malloc(n ? n : 1);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++) {
        unsigned v;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        data[i] = (uint8_t)v;
    }
    *size = n;
    return data;
}

/* A field's default as its descriptor tells it, compared with what a message begins with. */
static inline void check_default(const struct kafka_field *f, const void *p) {
    int32_t null = f->flags & KAFKA_FIELD_DEFAULT_NULL ? -1 : 0;
    if (f->flags & KAFKA_FIELD_ARRAY) {
        assert_int_equal(((const struct kafka_array *)p)->count, null);
    } else if (f->width) {
        assert_int_equal(f->width, kafka_field_size(f));
        assert_memory_equal(p, &f->default_int, f->width); /* its low bytes */
    } else if (f->kind == KAFKA_BOOL) {
        assert_int_equal(*(const bool *)p, f->default_int);
    } else if (f->kind == KAFKA_STRING) {
        const char *text = f->default_string ? f->default_string : "";
        const struct kafka_string *s = p;
        assert_int_equal(s->size, null ? null : (int)strlen(text));
        if (!null) assert_memory_equal(s->data, text, strlen(text));
    } else if (f->kind == KAFKA_BYTES) {
        assert_int_equal(((const struct kafka_bytes *)p)->size, null);
    } else if (f->kind == KAFKA_RECORDS) {
        assert_int_equal(((const struct kafka_records *)p)->size, null);
    } else if (f->kind == KAFKA_STRUCT) {
        for (unsigned i = 0; i < f->of->field_count; i++) {
            check_default(&f->of->fields[i], (const uint8_t *)p + f->of->fields[i].offset);
        }
    } else {
        static const uint8_t zeros[sizeof(struct kafka_uuid)];
        assert_memory_equal(p, zeros, kafka_field_size(f));
    }
}

/* Layouts and defaults say once more what the fields say: by these. */
static inline void check_tables(const struct kafka_struct *type) {
    for (int16_t v = type->first_version; v <= type->last_version; v++) {
        unsigned wire = 0, tagged = 0, lacking = 0;
        for (unsigned i = 0; i < type->field_count; i++) {
            const struct kafka_field *f = &type->fields[i];
            bool has = kafka_versions_have(f->versions, v), tag = kafka_versions_have(f->tagged, v);
            if (has && tag) tagged |= 1u << i;
            if (has && !tag) wire |= 1u << i;
            if (!has && !(f->flags & KAFKA_FIELD_IGNORABLE)) lacking |= 1u << i;
        }
        const struct kafka_layout *layout = kafka_layout_of(type, v);
        assert_int_equal(layout->wire, wire);
        assert_int_equal(layout->tagged, tagged);
        assert_int_equal(layout->lacking, lacking);
    }
    for (unsigned i = 0; i < type->field_count; i++) {
        const struct kafka_field *f = &type->fields[i];
        check_default(f, (const uint8_t *)type->defaults + f->offset);
        bool number = f->kind >= KAFKA_INT8 && f->kind <= KAFKA_FLOAT64 && !(f->flags & KAFKA_FIELD_ARRAY);
        assert_int_equal(f->width != 0, number);
        if (f->of) check_tables(f->of);
    }
}

#endif
