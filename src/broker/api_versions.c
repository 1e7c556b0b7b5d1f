/* ApiVersions: what this broker speaks, from the table of handlers. */
#include <ctype.h>

#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

/* KIP-511: letters and digits, with '-' and '.' between them. */
static bool software_name_valid(struct kafka_string s) {
    if (s.size <= 0) return false;
    for (int32_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        bool inner = i > 0 && i < s.size - 1;
        if (!(c < 128 && isalnum(c)) && !(inner && (c == '-' || c == '.'))) return false;
    }
    return true;
}

enum request_outcome handle_api_versions(struct request *r, const void *message, void *response) {
    const struct kafka_api_versions_request *in = message;
    struct kafka_api_versions_response *out = response;
    if (request_version(r) >= 3 &&
        (!software_name_valid(in->client_software_name) || !software_name_valid(in->client_software_version))) {
        out->error_code = request_error(r, ERR_INVALID_REQUEST);
        return REQUEST_ANSWER;
    }
    const struct conns *set = r->conns;
    out->api_keys.items = kafka_new(&kafka_api_versions_response_api_type, &r->arena, set->o.api_count);
    out->api_keys.count = (int32_t)set->o.api_count;
    for (size_t i = 0; i < set->o.api_count; i++) {
        const struct api *a = &set->o.apis[i];
        out->api_keys.items[i] = (struct kafka_api_versions_response_api){a->key, a->min_version, a->max_version};
    }
    return REQUEST_ANSWER;
}
