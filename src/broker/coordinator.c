/* FindCoordinator. There are no group and transaction coordinators here: the answer says so, in the words in which
 * clients expect it. For transactions that is the error that producer_id.c gives, for the same reason: it comes first,
 * and would be retried in vain otherwise. */
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

enum { KEY_TRANSACTION = 1 };

#define NO_COORDINATOR "this broker has no group and transaction coordinator"

enum request_outcome handle_find_coordinator(struct request *r, const void *message, void *response) {
    const struct kafka_find_coordinator_request *in = message;
    struct kafka_find_coordinator_response *out = response;
    int16_t code = request_error(r, in->key_type == KEY_TRANSACTION ? ERR_TRANSACTIONAL_ID_AUTHORIZATION
                                                                    : ERR_COORDINATOR_NOT_AVAILABLE);
    if (request_version(r) < 4) {
        out->error_code = code;
        if (request_version(r) >= 1) out->error_message = kafka_string_of(NO_COORDINATOR);
        out->node_id = -1;
        out->port = -1;
        return REQUEST_ANSWER;
    }
    int32_t count = in->coordinator_keys.count;
    out->coordinators.items = kafka_new(&kafka_find_coordinator_response_coordinator_type, &r->arena, (size_t)count);
    out->coordinators.count = count;
    for (int32_t i = 0; i < count; i++) {
        struct kafka_find_coordinator_response_coordinator *c = &out->coordinators.items[i];
        c->key = in->coordinator_keys.items[i];
        c->node_id = -1;
        c->port = -1;
        c->error_code = code;
        c->error_message = kafka_string_of(NO_COORDINATOR);
    }
    return REQUEST_ANSWER;
}
