#include "kafka/frame.h"

#include "base/assert.h"
#include "kafka/kafka_messages.h"

const struct kafka_api *kafka_api_find(int16_t key) {
    if (key < 0 || key > KAFKA_API_KEY_MAX || kafka_api_index[key] < 0) return NULL;
    return &kafka_apis[kafka_api_index[key]];
}

int16_t kafka_request_header_version(const struct kafka_api *api, int16_t version) {
    return version >= api->first_flexible ? 2 : 1;
}

int16_t kafka_response_header_version(const struct kafka_api *api, int16_t version) {
    if (api->key == KAFKA_API_API_VERSIONS) return 0;
    return version >= api->first_flexible ? 1 : 0;
}

enum err kafka_request_open(const uint8_t *frame, size_t size, struct arena *a, struct kafka_request_info *info) {
    *info = (struct kafka_request_info){.client_id = {NULL, -1}};
    if (size < 8) return ERR_PROTOCOL;
    info->api_key = (int16_t)be16_get(frame);
    info->api_version = (int16_t)be16_get(frame + 2);
    info->correlation_id = (int32_t)be32_get(frame + 4);
    info->api = kafka_api_find(info->api_key);
    if (!info->api || info->api_version < info->api->min_version || info->api_version > info->api->max_version) {
        return ERR_UNSUPPORTED_VERSION;
    }
    struct kafka_request_header h;
    size_t used = 0;
    int16_t header_version = kafka_request_header_version(info->api, info->api_version);
    enum err e = kafka_decode_prefix(&kafka_request_header_type, header_version, frame, size, a, &h, &used);
    if (e != OK) return ERR_PROTOCOL;
    info->client_id = h.client_id;
    info->body = frame + used;
    info->body_size = size - used;
    return OK;
}

/* The size in front counts everything behind it. */
static enum err frame_end(uint8_t *size_field, size_t begin, const struct outbuf *out) {
    size_t size = outbuf_size(out) - begin - KAFKA_FRAME_SIZE_BYTES;
    if (size > INT32_MAX) return ERR_TOO_LARGE;
    be32_put(size_field, (uint32_t)size);
    return OK;
}

enum err kafka_response_encode(const struct kafka_api *api, int16_t version, int32_t correlation_id,
                               const void *response, struct outbuf *out) {
    size_t begin = outbuf_size(out);
    uint8_t *size_field = outbuf_extend(out, KAFKA_FRAME_SIZE_BYTES);
    struct kafka_response_header h = {.correlation_id = correlation_id};
    enum err e = kafka_response_header_encode(&h, kafka_response_header_version(api, version), out);
    if (e == OK) e = kafka_encode(api->response, version, response, out);
    return e == OK ? frame_end(size_field, begin, out) : e;
}

enum err kafka_request_encode(const struct kafka_api *api, int16_t version, int32_t correlation_id,
                              struct kafka_string client_id, const void *request, struct outbuf *out) {
    size_t begin = outbuf_size(out);
    uint8_t *size_field = outbuf_extend(out, KAFKA_FRAME_SIZE_BYTES);
    struct kafka_request_header h = {api->key, version, correlation_id, client_id};
    enum err e = kafka_request_header_encode(&h, kafka_request_header_version(api, version), out);
    if (e == OK) e = kafka_encode(api->request, version, request, out);
    return e == OK ? frame_end(size_field, begin, out) : e;
}

enum err kafka_response_open(const struct kafka_api *api, int16_t version, const uint8_t *frame, size_t size,
                             struct arena *a, int32_t *correlation_id, const uint8_t **body, size_t *body_size) {
    struct kafka_response_header h;
    size_t used = 0;
    enum err e = kafka_decode_prefix(&kafka_response_header_type, kafka_response_header_version(api, version), frame,
                                     size, a, &h, &used);
    if (e != OK) return e;
    *correlation_id = h.correlation_id;
    *body = frame + used;
    *body_size = size - used;
    return OK;
}
