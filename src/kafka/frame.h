/* Frames on a connection: int32 size, header, body. Which header a message has depends on its API and version. */
#ifndef OXBOW_KAFKA_FRAME_H
#define OXBOW_KAFKA_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kafka/codec.h"

#define KAFKA_FRAME_SIZE_BYTES ((size_t)4)

/* A request's header as it came; client_id borrows from the frame. */
struct kafka_request_info {
    int16_t api_key, api_version;
    int32_t correlation_id;
    struct kafka_string client_id;
    const struct kafka_api *api; /* NULL: unknown key */
    const uint8_t *body;         /* borrows */
    size_t body_size;
};

/* The API of a key, or NULL when it is not in the schema. */
const struct kafka_api *kafka_api_find(int16_t key);

/* Header version of a request (1, 2) or response (0, 1). Answers to ApiVersions always have header 0, for a client
 * reads them before it knows what the broker speaks. `api` is not NULL; `version` may lie outside its range. */
int16_t kafka_request_header_version(const struct kafka_api *api, int16_t version);
int16_t kafka_response_header_version(const struct kafka_api *api, int16_t version);

/* Opens the frame of a request (without its size field). ERR_PROTOCOL when not even the header can be read.
 * ERR_UNSUPPORTED_VERSION for an unknown API or a version outside its range: key, version and correlation id are then
 * set (and api, if the key is known), client id and body are not. For ApiVersions that is answered with error 35 in a
 * version 0 body; any other such connection is closed. The arena is used by no field of today's headers. */
enum err kafka_request_open(const uint8_t *frame, size_t size, struct arena *a,
                            struct kafka_request_info *info) WARN_UNUSED;

/* Appends a whole frame: size, header, body. For requests, `client_id` may be null. Errors as of kafka_encode;
 * ERR_TOO_LARGE for a frame of 2 GiB. kafka_response_encode answers in `version`, which for the case above is 0. */
enum err kafka_response_encode(const struct kafka_api *api, int16_t version, int32_t correlation_id,
                               const void *response, struct outbuf *out) WARN_UNUSED;
enum err kafka_request_encode(const struct kafka_api *api, int16_t version, int32_t correlation_id,
                              struct kafka_string client_id, const void *request, struct outbuf *out) WARN_UNUSED;
/* Opens the frame of a response (without its size field) to a request of (api, version): correlation id and body.
 * ERR_PROTOCOL. */
enum err kafka_response_open(const struct kafka_api *api, int16_t version, const uint8_t *frame, size_t size,
                             struct arena *a, int32_t *correlation_id, const uint8_t **body,
                             size_t *body_size) WARN_UNUSED;

#endif
