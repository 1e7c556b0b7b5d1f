/* Every message of the schema, in every version, made of the input: requests, responses, and what the coordinator
 * stores. The first byte picks the message, the second the version; the rest says what its fields are, by the same
 * descriptors that the codec walks. Such a message
 *   - encodes, to as many bytes as kafka_encoded_size says;
 *   - travels in a frame with the header of its API and version, and comes out of it with the same fields;
 *   - decodes from no shorter piece of those bytes;
 *   - when a byte of it is changed, decodes to something that can be said again, or not at all.
 * At the start each message is sent through once in each version, with little and with much in it: whatever the fuzzer
 * does with its time, nothing of the schema is left out. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "feed.h"
#include "kafka/frame.h"
#include "kafka/kafka_messages.h"

#define CORRELATION 77

int LLVMFuzzerInitialize(int *argc, char ***argv);

struct subject {
    const struct kafka_struct *type;
    const struct kafka_api *api; /* NULL: stored, has no frame */
    bool request;
};

static const struct kafka_struct *const stored[] = {&kafka_offset_commit_key_type, &kafka_offset_commit_value_type,
                                                    &kafka_group_metadata_key_type, &kafka_group_metadata_value_type};
#define SUBJECTS (2 * KAFKA_API_COUNT + ARRAY_LEN(stored))

static struct subject subject_of(size_t i) {
    if (i >= 2 * KAFKA_API_COUNT) return (struct subject){.type = stored[i - 2 * KAFKA_API_COUNT]};
    const struct kafka_api *api = &kafka_apis[i / 2];
    bool request = i % 2 == 0;
    return (struct subject){request ? api->request : api->response, api, request};
}

/* --- A message of the input. */

static void fill(struct feed *f, struct arena *a, const struct kafka_struct *type, int16_t version, void *message);

/* null: a null is allowed here. */
static void fill_value(struct feed *f, struct arena *a, const struct kafka_field *field, int16_t version, bool null,
                       void *p) {
    size_t got;
    switch ((enum kafka_kind)field->kind) {
    case KAFKA_BOOL:
        *(bool *)p = feed_u8(f) & 1;
        return;
    case KAFKA_STRING:
    case KAFKA_BYTES:
    case KAFKA_RECORDS: {
        uint8_t n = feed_u8(f);
        /* Lengths of one and of two bytes as a varint; now and then a long one. */
        size_t size = n < 0xf0 ? n & 31 : n == 0xff ? (size_t)300 : n;
        const uint8_t *bytes = feed_bytes(f, size, &got);
        bool none = null && n == 0;
        if (field->kind == KAFKA_RECORDS)
            *(struct kafka_records *)p =
                (struct kafka_records){.data = none ? NULL : bytes, .size = none ? -1 : (int32_t)got};
        else
            *(struct kafka_bytes *)p = (struct kafka_bytes){none ? NULL : bytes, none ? -1 : (int32_t)got};
        return;
    }
    case KAFKA_STRUCT:
        fill(f, a, field->of, version, p);
        return;
    case KAFKA_STRUCT_POINTER: {
        void *inner = NULL;
        if (!null || (feed_u8(f) & 1)) {
            inner = arena_zalloc(a, field->of->size);
            kafka_init(field->of, inner);
            fill(f, a, field->of, version, inner);
        }
        memcpy(p, &inner, sizeof(inner));
        return;
    }
    default: {
        const uint8_t *bytes = feed_bytes(f, kafka_field_size(field), &got);
        memset(p, 0, kafka_field_size(field));
        memcpy(p, bytes, got);
        return;
    }
    }
}

static void fill(struct feed *f, struct arena *a, const struct kafka_struct *type, int16_t version, void *message) {
    for (unsigned i = 0; i < type->field_count; i++) {
        const struct kafka_field *field = &type->fields[i];
        void *p = (uint8_t *)message + field->offset;
        if (!kafka_versions_have(field->versions, version)) continue;
        if (kafka_versions_have(field->tagged, version) && !(feed_u8(f) & 1)) continue; /* keeps its default */
        bool null = kafka_versions_have(field->nullable, version);
        if (!(field->flags & KAFKA_FIELD_ARRAY)) {
            fill_value(f, a, field, version, null, p);
            continue;
        }
        uint8_t n = feed_u8(f);
        struct kafka_array array = {NULL, null && n == 0 ? -1 : n & 3};
        if (array.count > 0) {
            array.items = arena_zalloc(a, (size_t)array.count * kafka_field_size(field));
            for (int32_t k = 0; k < array.count; k++) {
                uint8_t *item = (uint8_t *)array.items + (size_t)k * kafka_field_size(field);
                if (field->kind == KAFKA_STRUCT) kafka_init(field->of, item);
                fill_value(f, a, field, version, false, item);
            }
        }
        memcpy(p, &array, sizeof(array));
    }
}

/* --- Equality, field by field. */

static bool same(const struct kafka_struct *type, const void *a, const void *b);

static bool same_value(const struct kafka_field *field, const void *a, const void *b) {
    switch ((enum kafka_kind)field->kind) {
    case KAFKA_STRING:
    case KAFKA_BYTES: {
        const struct kafka_bytes *x = a, *y = b;
        return x->size == y->size && (x->size <= 0 || memcmp(x->data, y->data, (size_t)x->size) == 0);
    }
    case KAFKA_RECORDS: {
        const struct kafka_records *x = a, *y = b;
        return x->size == y->size && (x->size <= 0 || memcmp(x->data, y->data, (size_t)x->size) == 0);
    }
    case KAFKA_STRUCT:
        return same(field->of, a, b);
    case KAFKA_STRUCT_POINTER: {
        const void *x, *y;
        memcpy(&x, a, sizeof(x));
        memcpy(&y, b, sizeof(y));
        return x && y ? same(field->of, x, y) : x == y;
    }
    default:
        return memcmp(a, b, kafka_field_size(field)) == 0;
    }
}

static bool same(const struct kafka_struct *type, const void *a, const void *b) {
    for (unsigned i = 0; i < type->field_count; i++) {
        const struct kafka_field *field = &type->fields[i];
        const uint8_t *p = (const uint8_t *)a + field->offset, *q = (const uint8_t *)b + field->offset;
        if (!(field->flags & KAFKA_FIELD_ARRAY)) {
            if (!same_value(field, p, q)) return false;
            continue;
        }
        struct kafka_array x, y;
        memcpy(&x, p, sizeof(x));
        memcpy(&y, q, sizeof(y));
        if (x.count != y.count) return false;
        for (int32_t k = 0; k < x.count; k++) {
            size_t at = (size_t)k * kafka_field_size(field);
            if (!same_value(field, (uint8_t *)x.items + at, (uint8_t *)y.items + at)) return false;
        }
    }
    return true;
}

/* --- What must hold. */

static uint8_t *flatten(struct mem *m, struct outbuf *o, size_t *size) {
    struct slices s;
    slices_init(&s, m);
    outbuf_finish(o, &s);
    uint8_t *all = mem_alloc(m, s.size_bytes + 1), *at = all;
    for (size_t i = 0; i < s.count; at += s.items[i].size, i++) memcpy(at, s.items[i].data, s.items[i].size);
    *size = s.size_bytes;
    slices_deinit(&s);
    return all;
}

static uint8_t *encoded(struct mem *m, const struct kafka_struct *type, int16_t version, const void *message,
                        size_t *size) {
    struct outbuf o;
    outbuf_init(&o, m);
    size_t counted = 0;
    enum err e = kafka_encode(type, version, message, &o);
    ASSERT(e == OK);
    uint8_t *bytes = flatten(m, &o, size);
    e = kafka_encoded_size(type, version, message, &counted);
    ASSERT(e == OK && counted == *size);
    outbuf_deinit(&o);
    return bytes;
}

/* In its frame, and out of it. */
static void travel(struct mem *m, struct arena *a, const struct subject *s, int16_t version, const void *message) {
    struct outbuf o;
    outbuf_init(&o, m);
    struct kafka_string client = kafka_string_of(version & 1 ? "fuzz" : NULL);
    enum err e = s->request ? kafka_request_encode(s->api, version, CORRELATION, client, message, &o)
                            : kafka_response_encode(s->api, version, CORRELATION, message, &o);
    ASSERT(e == OK);
    size_t size;
    uint8_t *frame = flatten(m, &o, &size);
    ASSERT(be32_get(frame) == size - KAFKA_FRAME_SIZE_BYTES);
    const uint8_t *body;
    size_t body_size;
    int32_t correlation;
    if (s->request) {
        struct kafka_request_info info;
        e = kafka_request_open(frame + 4, size - 4, a, &info);
        ASSERT(e == OK && info.api == s->api && info.api_version == version);
        ASSERT(kafka_string_equal(info.client_id, client));
        correlation = info.correlation_id;
        body = info.body;
        body_size = info.body_size;
    } else {
        e = kafka_response_open(s->api, version, frame + 4, size - 4, a, &correlation, &body, &body_size);
        ASSERT(e == OK);
    }
    ASSERT(correlation == CORRELATION);
    void *back = arena_zalloc(a, s->type->size);
    e = kafka_decode(s->type, version, body, body_size, a, back);
    ASSERT(e == OK && same(s->type, message, back));
    mem_free(m, frame);
    outbuf_deinit(&o);
}

/* A shorter piece is no message; a changed one is none, or one that can be said again. */
static void damage(struct mem *m, struct arena *a, const struct subject *s, int16_t version, uint8_t *bytes,
                   size_t size, struct feed *f) {
    if (size == 0) return;
    void *message = arena_zalloc(a, s->type->size);
    enum err e = kafka_decode(s->type, version, bytes, feed_u16(f) % size, a, message);
    ASSERT(e == ERR_PROTOCOL);
    for (unsigned changes = feed_u8(f) & 3; changes > 0; changes--) bytes[feed_u16(f) % size] = feed_u8(f);
    struct arena bounded;
    arena_init(&bounded, m);
    e = kafka_decode(s->type, version, bytes, size, &bounded, message);
    ASSERT(e == OK || e == ERR_PROTOCOL);
    ASSERT(bounded.held_bytes <= kafka_decode_bound(size));
    if (e == OK) {
        size_t first_size, second_size;
        uint8_t *first = encoded(m, s->type, version, message, &first_size);
        void *back = arena_zalloc(a, s->type->size);
        e = kafka_decode(s->type, version, first, first_size, a, back);
        ASSERT(e == OK && same(s->type, message, back));
        uint8_t *second = encoded(m, s->type, version, back, &second_size);
        ASSERT(first_size == second_size && memcmp(first, second, first_size) == 0);
        mem_free(m, first);
        mem_free(m, second);
    }
    arena_deinit(&bounded);
}

/* Returns the size of the message. */
static size_t run(const struct subject *s, int16_t version, struct feed *f) {
    struct mem m;
    mem_init_heap(&m);
    struct arena a;
    arena_init(&a, &m);
    void *message = arena_zalloc(&a, s->type->size), *back = arena_zalloc(&a, s->type->size);
    kafka_init(s->type, message);
    fill(f, &a, s->type, version, message);
    size_t size;
    uint8_t *bytes = encoded(&m, s->type, version, message, &size);
    enum err e = kafka_decode(s->type, version, bytes, size, &a, back);
    ASSERT(e == OK && same(s->type, message, back));
    if (s->api) travel(&m, &a, s, version, message);
    damage(&m, &a, s, version, bytes, size, f);
    mem_free(&m, bytes);
    arena_deinit(&a);
    ASSERT(m.allocated_bytes == 0);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct feed f = feed_of(data, size);
    struct subject s = subject_of(feed_u8(&f) % SUBJECTS);
    int versions = s.type->last_version - s.type->first_version + 1;
    run(&s, (int16_t)(s.type->first_version + feed_u8(&f) % versions), &f);
    return 0;
}

/* The message in every version: with nothing in it, with much, with something that ends early. Returns its bytes. */
static size_t run_versions(const struct subject *s, uint32_t seed) {
    static uint8_t input[4096];
    size_t bytes = 0;
    for (int16_t version = s->type->first_version; version <= s->type->last_version; version++) {
        for (int round = 0; round < 3; round++) {
            for (size_t k = 0; k < sizeof(input); k++) {
                seed = seed * 1664525u + 1013904223u;
                input[k] = round == 0 ? 0 : (uint8_t)(seed >> 24);
            }
            struct feed f = feed_of(input, round == 1 ? sizeof(input) : 60);
            bytes += run(s, version, &f);
        }
    }
    return bytes;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    bool list = getenv("FUZZ_LIST") != NULL;
    for (size_t i = 0; i < SUBJECTS; i++) {
        struct subject s = subject_of(i);
        if (s.api) ASSERT(s.type->first_version == s.api->min_version && s.type->last_version == s.api->max_version);
        size_t bytes = run_versions(&s, (uint32_t)i + 1);
        if (list)
            printf("%-36s %-8s versions %d-%d, flexible from %d, %zu bytes\n", s.type->name,
                   !s.api      ? "stored"
                   : s.request ? "request"
                               : "response",
                   s.type->first_version, s.type->last_version, s.type->first_flexible, bytes);
    }
    return 0;
}
