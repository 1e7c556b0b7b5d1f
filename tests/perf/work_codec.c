/* Decoding and encoding, request and response, of the APIs that clients call all the time, in every version that is spoken.
 * Messages are made from the schema: three elements in each array, strings of sixteen bytes, everything set. */
#include <stdbool.h>

#include "count.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "kafka/frame.h"
#include "kafka/kafka_messages.h"

#define ELEMENTS 3
#define TEXT_SIZE 16
#define RECORDS_SIZE 256
#define REPEATS 20u
#define VERSIONS_MAX 32

static uint8_t some_bytes[RECORDS_SIZE];

static void fill(struct arena *a, const struct kafka_struct *type, int16_t version, void *message);

static void fill_value(struct arena *a, const struct kafka_field *f, int16_t version, void *p) {
    switch ((enum kafka_kind)f->kind) {
    case KAFKA_STRING:
        *(struct kafka_string *)p = kafka_string_view((const char *)some_bytes, TEXT_SIZE);
        return;
    case KAFKA_BYTES:
        *(struct kafka_bytes *)p = (struct kafka_bytes){some_bytes, TEXT_SIZE};
        return;
    case KAFKA_RECORDS:
        *(struct kafka_records *)p = (struct kafka_records){.data = some_bytes, .size = RECORDS_SIZE};
        return;
    case KAFKA_STRUCT:
        fill(a, f->of, version, p);
        return;
    case KAFKA_STRUCT_POINTER: {
        void *inner = kafka_new(f->of, a, 1);
        fill(a, f->of, version, inner);
        memcpy(p, &inner, sizeof(inner));
        return;
    }
    default:
        memset(p, 1, kafka_field_size(f));
    }
}

static void fill(struct arena *a, const struct kafka_struct *type, int16_t version, void *message) {
    for (unsigned i = 0; i < type->field_count; i++) {
        const struct kafka_field *f = &type->fields[i];
        uint8_t *p = (uint8_t *)message + f->offset;
        if (!kafka_versions_have(f->versions, version)) continue;
        if (!(f->flags & KAFKA_FIELD_ARRAY)) {
            fill_value(a, f, version, p);
            continue;
        }
        struct kafka_array array = {arena_zalloc(a, kafka_field_size(f) * ELEMENTS), ELEMENTS};
        for (unsigned n = 0; n < ELEMENTS; n++) {
            uint8_t *item = (uint8_t *)array.items + n * kafka_field_size(f);
            if (f->kind == KAFKA_STRUCT) kafka_init(f->of, item);
            fill_value(a, f, version, item);
        }
        memcpy(p, &array, sizeof(array));
    }
}

/* One direction of an API, in one version. */
struct subject {
    const struct kafka_struct *type;
    int16_t version;
    void *message;
    uint8_t *bytes;
    size_t size;
};

static void subject_make(struct subject *s, struct arena *a, struct mem *m, const struct kafka_struct *type,
                         int16_t version) {
    struct outbuf out;
    struct slices slices;
    *s = (struct subject){.type = type, .version = version, .message = kafka_new(type, a, 1)};
    fill(a, type, version, s->message);
    outbuf_init(&out, m);
    slices_init(&slices, m);
    enum err e = kafka_encode(type, version, s->message, &out);
    ASSERT(e == OK);
    outbuf_finish(&out, &slices);
    s->bytes = arena_alloc(a, RECORDS_SIZE * 1024);
    for (size_t i = 0; i < slices.count; i++) {
        ASSERT(s->size + slices.items[i].size <= (size_t)RECORDS_SIZE * 1024);
        memcpy(s->bytes + s->size, slices.items[i].data, slices.items[i].size);
        s->size += slices.items[i].size;
    }
    slices_deinit(&slices);
    outbuf_deinit(&out);
}

static void decode_all(const struct subject *subjects, unsigned count, struct arena *a) {
    for (unsigned i = 0; i < count; i++) {
        const struct subject *s = &subjects[i];
        arena_reset(a);
        void *message = arena_alloc(a, s->type->size);
        enum err e = kafka_decode(s->type, s->version, s->bytes, s->size, a, message);
        ASSERT(e == OK);
    }
}

static void encode_all(const struct subject *subjects, unsigned count, struct outbuf *out) {
    for (unsigned i = 0; i < count; i++) {
        const struct subject *s = &subjects[i];
        enum err e = kafka_encode(s->type, s->version, s->message, out);
        ASSERT(e == OK && outbuf_size(out) == s->size);
        outbuf_clear(out);
    }
}

static void api(struct mem *m, int16_t key, int16_t first, const char *name) {
    const struct kafka_api *k = kafka_api_find(key);
    struct subject subjects[2 * VERSIONS_MAX];
    unsigned count = 0;
    struct arena kept, a;
    struct outbuf out;
    char text[64];
    arena_init(&kept, m);
    arena_init(&a, m);
    outbuf_init(&out, m);
    ASSERT(first >= k->min_version && k->max_version < VERSIONS_MAX);
    for (int16_t v = first; v <= k->max_version; v++) {
        subject_make(&subjects[count++], &kept, m, k->request, v);
        subject_make(&subjects[count++], &kept, m, k->response, v);
    }
    count_begin();
    for (unsigned i = 0; i < REPEATS; i++) decode_all(subjects, count, &a);
    (void)snprintf(text, sizeof(text), "decode-%s", name);
    count_end(text, (uint64_t)REPEATS * count, "messages");
    count_begin();
    for (unsigned i = 0; i < REPEATS; i++) encode_all(subjects, count, &out);
    (void)snprintf(text, sizeof(text), "encode-%s", name);
    count_end(text, (uint64_t)REPEATS * count, "messages");
    outbuf_deinit(&out);
    arena_deinit(&a);
    arena_deinit(&kept);
}

void work_codec(void) {
    struct mem m;
    mem_init_heap(&m);
    memset(some_bytes, 'x', sizeof(some_bytes));
    count_only(NULL);
    api(&m, KAFKA_API_PRODUCE, 3, "produce");
    api(&m, KAFKA_API_FETCH, 4, "fetch");
    api(&m, KAFKA_API_METADATA, 0, "metadata");
    api(&m, KAFKA_API_LIST_OFFSETS, 1, "list-offsets");
    api(&m, KAFKA_API_OFFSET_COMMIT, 2, "offset-commit");
    api(&m, KAFKA_API_OFFSET_FETCH, 1, "offset-fetch");
    api(&m, KAFKA_API_JOIN_GROUP, 0, "join-group");
    api(&m, KAFKA_API_SYNC_GROUP, 0, "sync-group");
    api(&m, KAFKA_API_HEARTBEAT, 0, "heartbeat");
    api(&m, KAFKA_API_API_VERSIONS, 0, "api-versions");
}
