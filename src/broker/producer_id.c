/* InitProducerId, for idempotent producers: an id that nobody has had before, with epoch 0.
 *
 * With a transactional id it is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: there is no transaction
 * coordinator, and of the codes that clients know, this is the one on which all of them give up at once with an error
 * that names transactions. NOT_COORDINATOR or COORDINATOR_NOT_AVAILABLE would be retried until the application's
 * patience ends. */
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

struct new_id {
    struct broker *broker;
    int64_t id;
    enum err err;
};

static void new_id_there(void *arg) {
    struct new_id *n = arg;
    n->err = broker_new_producer_id(n->broker, &n->id);
}

enum request_outcome handle_init_producer_id(struct request *r, const void *message, void *response) {
    const struct kafka_init_producer_id_request *in = message;
    struct kafka_init_producer_id_response *out = response;
    out->producer_epoch = -1;
    /* One of a producer's id and epoch without the other, or an empty transactional id. */
    if (in->transactional_id.size == 0 || (in->producer_id < 0) != (in->producer_epoch < 0)) {
        out->error_code = request_error(r, ERR_INVALID_REQUEST);
        return REQUEST_ANSWER;
    }
    if (in->transactional_id.size > 0) {
        out->error_code = request_error(r, ERR_TRANSACTIONAL_ID_AUTHORIZATION);
        return REQUEST_ANSWER;
    }
    /* A producer that has an id already (KIP-360) wants its sequence numbers to begin anew: a new id is that, too. */
    struct new_id n = {.broker = request_shard(r)->broker};
    loop_call(n.broker->o.loop0, new_id_there, &n);
    if (n.err != OK) {
        /* Nothing is lost by an id that nobody uses, so that an unknown outcome may be retried like any other. */
        out->error_code = KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
        request_error(r, n.err);
        return REQUEST_ANSWER;
    }
    out->producer_id = n.id;
    out->producer_epoch = 0;
    return REQUEST_ANSWER;
}
