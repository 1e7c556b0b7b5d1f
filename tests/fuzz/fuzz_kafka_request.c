/* Any bytes as a request's frame: header, then the body of whatever API and version it names. What decodes must encode
 * again, and that must decode to the same; memory stays within the stated bound. */
#include "base/assert.h"
#include "kafka/codec.h"
#include "kafka/frame.h"
#include "kafka/outbuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(struct mem *m, const struct kafka_struct *type, int16_t version, const void *message,
                  struct slices *out) {
    struct outbuf o;
    outbuf_init(&o, m);
    enum err e = kafka_encode(type, version, message, &o);
    ASSERT(e == OK);
    outbuf_finish(&o, out);
    size_t counted = 0;
    e = kafka_encoded_size(type, version, message, &counted);
    ASSERT(e == OK && counted == out->size_bytes);
    outbuf_deinit(&o);
}

static uint8_t *flatten(struct mem *m, const struct slices *s) {
    uint8_t *all = mem_alloc(m, s->size_bytes), *at = all;
    for (size_t i = 0; i < s->count; at += s->items[i].size, i++) memcpy(at, s->items[i].data, s->items[i].size);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct arena a;
    arena_init(&a, &m);
    struct kafka_request_info info;
    enum err opened = kafka_request_open(data, size, &a, &info);
    ASSERT(opened == OK || opened == ERR_PROTOCOL || opened == ERR_UNSUPPORTED_VERSION);
    if (opened == ERR_UNSUPPORTED_VERSION) {
        const struct kafka_api *api = kafka_api_find(info.api_key);
        ASSERT(info.api == api && info.correlation_id == (int32_t)be32_get(data + 4) && !info.body);
        ASSERT(!api || info.api_version < api->min_version || info.api_version > api->max_version);
    }
    if (opened == OK) {
        ASSERT(info.body >= data && info.body + info.body_size == data + size);
        const struct kafka_struct *type = info.api->request;
        void *message = mem_zalloc(&m, type->size);
        enum err e = kafka_decode(type, info.api_version, info.body, info.body_size, &a, message);
        ASSERT(e == OK || e == ERR_PROTOCOL);
        ASSERT(a.held_bytes <= kafka_decode_bound(size));
        if (e == OK) {
            struct slices one, two;
            slices_init(&one, &m);
            slices_init(&two, &m);
            again(&m, type, info.api_version, message, &one);
            uint8_t *first = flatten(&m, &one);
            e = kafka_decode(type, info.api_version, first, one.size_bytes, &a, message);
            ASSERT(e == OK);
            again(&m, type, info.api_version, message, &two);
            uint8_t *second = flatten(&m, &two);
            ASSERT(one.size_bytes == two.size_bytes && memcmp(first, second, one.size_bytes) == 0);
            mem_free(&m, first);
            mem_free(&m, second);
            slices_deinit(&one);
            slices_deinit(&two);
        }
        mem_free(&m, message);
    }
    arena_deinit(&a);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
