/* Any bytes as a response: the first byte picks the API, the second the version, the rest is the frame. */
#include "base/assert.h"
#include "kafka/codec.h"
#include "kafka/frame.h"
#include "kafka/kafka_messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const struct kafka_api *api = &kafka_apis[data[0] % KAFKA_API_COUNT];
    int16_t version = (int16_t)(api->min_version + data[1] % (api->max_version - api->min_version + 1));
    data += 2;
    size -= 2;
    struct mem m;
    mem_init_heap(&m);
    struct arena a;
    arena_init(&a, &m);
    int32_t correlation_id;
    const uint8_t *body;
    size_t body_size;
    if (kafka_response_open(api, version, data, size, &a, &correlation_id, &body, &body_size) == OK) {
        void *message = mem_zalloc(&m, api->response->size);
        enum err e = kafka_decode(api->response, version, body, body_size, &a, message);
        ASSERT(e == OK || e == ERR_PROTOCOL);
        ASSERT(a.held_bytes <= kafka_decode_bound(size));
        if (e == OK) {
            struct outbuf o;
            outbuf_init(&o, &m);
            e = kafka_response_encode(api, version, correlation_id, message, &o);
            ASSERT(e == OK);
            outbuf_deinit(&o);
        }
        mem_free(&m, message);
    }
    arena_deinit(&a);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
