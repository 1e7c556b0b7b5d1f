/* Any bytes as a response: the first byte is the API's key (or, where there is none of that key, picks one), the second its
 * version (or picks one), the rest is the frame. What decodes encodes again, and that decodes to the same bytes; memory
 * stays within the stated bound. */
#include "base/assert.h"
#include "feed.h"
#include "kafka/codec.h"
#include "kafka/frame.h"
#include "kafka/kafka_messages.h"

#define CORRELATION 5

/* The body of the answer as it would be sent. */
static uint8_t *again(struct mem *m, const struct kafka_api *api, int16_t version, const void *message, size_t *size) {
    struct outbuf o;
    struct slices s;
    outbuf_init(&o, m);
    slices_init(&s, m);
    enum err e = kafka_response_encode(api, version, CORRELATION, message, &o);
    ASSERT(e == OK);
    outbuf_finish(&o, &s);
    uint8_t *all = mem_alloc(m, s.size_bytes), *at = all;
    for (size_t i = 0; i < s.count; at += s.items[i].size, i++) memcpy(at, s.items[i].data, s.items[i].size);
    *size = s.size_bytes;
    ASSERT(be32_get(all) == *size - KAFKA_FRAME_SIZE_BYTES);
    slices_deinit(&s);
    outbuf_deinit(&o);
    return all;
}

static enum err open_and_decode(const struct kafka_api *api, int16_t version, const uint8_t *frame, size_t size,
                                struct arena *a, void *message, int32_t *correlation) {
    const uint8_t *body;
    size_t body_size;
    enum err e = kafka_response_open(api, version, frame, size, a, correlation, &body, &body_size);
    return e == OK ? kafka_decode(api->response, version, body, body_size, a, message) : e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const struct kafka_api *api = kafka_api_find(data[0]);
    if (!api) api = &kafka_apis[data[0] % KAFKA_API_COUNT];
    int versions = api->max_version - api->min_version + 1;
    int16_t version = (int16_t)(api->min_version + (data[1] - api->min_version + 256 * versions) % versions);
    data += 2;
    size -= 2;
    struct mem m;
    mem_init_heap(&m);
    struct arena a;
    arena_init(&a, &m);
    int32_t correlation;
    void *message = mem_zalloc(&m, api->response->size);
    enum err e = open_and_decode(api, version, data, size, &a, message, &correlation);
    ASSERT(e == OK || e == ERR_PROTOCOL);
    ASSERT(a.held_bytes <= kafka_decode_bound(size));
    if (e == OK) {
        size_t one_size, two_size;
        uint8_t *one = again(&m, api, version, message, &one_size);
        e = open_and_decode(api, version, one + 4, one_size - 4, &a, message, &correlation);
        ASSERT(e == OK && correlation == CORRELATION);
        uint8_t *two = again(&m, api, version, message, &two_size);
        ASSERT(one_size == two_size && memcmp(one, two, one_size) == 0);
        mem_free(&m, one);
        mem_free(&m, two);
    }
    mem_free(&m, message);
    arena_deinit(&a);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
