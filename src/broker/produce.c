/* Produce, in two steps. The append step orders the batches of all partitions and copies them;
 * when it is over, the frame's memory goes back and the connection's next Produce may start. The second step waits
 * until everything is durable.
 *
 * Each partition's part runs on its home shard: one loop_call per shard and step. What remote shards write is looked at
 * only after their call has returned (`settled`), for a time-out may answer in between: then REQUEST_TIMED_OUT for
 * every partition that is not settled, since its records may be there later. The time-out counts in the second step
 * only: a request that waits for room in the first holds its connection back, since an answer would let the next one
 * overtake it. */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

/* Clients that ask for no patience at all get this much: with Kafka, a write to a single replica never times out. */
#define TIMEOUT_MIN_MS 1000

struct part {
    struct topic_route *route; /* a reference; NULL: err tells why */
    struct kafka_string name;  /* as the answer repeats it; in the arena */
    struct kafka_uuid topic_id;
    int32_t index;
    uint8_t *records;
    size_t size;
    struct slot *slot; /* held from append to the end of the wait */
    struct partition_append_result result;
    enum err err;
    bool unknown; /* appended, and then not confirmed */
    bool settled; /* on the connection's loop: result and err may be read */
};

struct produce {
    struct request *r;
    struct part *parts;
    size_t count;
    size_t topic_count;
    size_t *topic_sizes; /* partitions of each topic, in order */
    bool fresh;          /* what clients are accused of is so */
    struct timer timer;
};

/* --- What runs on a partition's shard. */

struct shard_job {
    struct produce *p;
    struct shard *shard;
    int16_t version;
    bool wait; /* for the client wants to know; else release right after the append */
};

static bool part_is_at(const struct part *part, const struct shard *s) {
    return part->route && !part->settled && part->route->partitions[part->index].shard == s->index;
}

static void append_there(void *arg) {
    const struct shard_job *j = arg;
    for (size_t i = 0; i < j->p->count; i++) {
        struct part *part = &j->p->parts[i];
        if (!part_is_at(part, j->shard)) continue;
        part->err = shard_acquire(j->shard, part->route, part->index, &part->slot);
        if (part->err != OK) continue;
        part->err = partition_append(slot_partition(part->slot), part->records, part->size, j->version, &part->result);
        if (part->err == OK && j->wait) continue;
        slot_release(part->slot);
        part->slot = NULL;
    }
}

static void wait_there(void *arg) {
    const struct shard_job *j = arg;
    for (size_t i = 0; i < j->p->count; i++) {
        struct part *part = &j->p->parts[i];
        if (!part_is_at(part, j->shard) || !part->slot) continue;
        if (!env_mutant(j->shard->env, MUTANT_PRODUCE_EARLY))
            part->err = partition_wait(slot_partition(part->slot), part->result.end_offset);
        part->unknown = part->err != OK;
        slot_release(part->slot);
        part->slot = NULL;
    }
}

/* --- The request's own loop. */

static bool produce_uses(const struct produce *p, const struct shard *s) {
    for (size_t i = 0; i < p->count; i++) {
        if (part_is_at(&p->parts[i], s)) return true;
    }
    return false;
}

static void produce_on_shards(struct produce *p, fiber_fn *fn, bool wait, bool settle) {
    struct broker *b = request_shard(p->r)->broker;
    for (unsigned s = 0; s < b->shard_count; s++) {
        struct shard_job j = {p, &b->shards[s], request_version(p->r), wait};
        if (!produce_uses(p, j.shard)) continue;
        loop_call(j.shard->loop, fn, &j);
        if (!settle) continue;
        for (size_t i = 0; i < p->count; i++) {
            if (part_is_at(&p->parts[i], j.shard)) p->parts[i].settled = true;
        }
    }
}

/* Leader epochs and the like may have changed; what a client sees for an internal error of an append. */
static int16_t append_error(struct request *r, enum err e) {
    int16_t code = request_error(r, e);
    /* The partition is being closed: nothing was appended, and soon somebody else will lead. */
    return e == ERR_CLOSED ? KAFKA_NOT_LEADER_OR_FOLLOWER : code;
}

/* Kafka protocol: Produce 5 and later. With these a broker has not looked at its log. */
static bool tells_log_start(enum err e) {
    return e != ERR_CORRUPT_MESSAGE && e != ERR_MESSAGE_TOO_LARGE && e != ERR_RECORD_LIST_TOO_LARGE &&
           e != ERR_NOT_LEADER && e != ERR_CLOSED;
}

static void answer_part(struct produce *p, const struct part *part, struct kafka_produce_response_partition *out) {
    struct request *r = p->r;
    out->index = part->index;
    out->base_offset = -1;
    if (!part->settled || part->unknown) {
        out->error_code = request_error(r, ERR_REQUEST_TIMED_OUT);
        return;
    }
    if (part->err == OK) {
        out->base_offset = (int64_t)part->result.base_offset;
        out->log_append_time_ms = part->result.log_append_time_ms;
        out->log_start_offset = (int64_t)part->result.log_start_offset;
        return;
    }
    if (!p->fresh && kafka_error_accuses(part->err)) {
        out->error_code = request_error(r, ERR_NOT_LEADER); /* nothing was appended: that can be tried again */
        return;
    }
    out->error_code = append_error(r, part->err);
    if (tells_log_start(part->err)) out->log_start_offset = (int64_t)part->result.log_start_offset;
    if (part->result.message) out->error_message = kafka_string_of(part->result.message);
    if (part->result.message && part->result.bad_record >= 0) {
        out->record_errors.items = kafka_new(&kafka_produce_response_record_error_type, &r->arena, 1);
        out->record_errors.count = 1;
        out->record_errors.items[0].batch_index = part->result.bad_record;
        out->record_errors.items[0].batch_index_error_message = kafka_string_of(part->result.message);
    }
}

static void produce_answer(struct produce *p) {
    struct request *r = p->r;
    struct kafka_produce_response *out = kafka_new(&kafka_produce_response_type, &r->arena, 1);
    out->responses.items = kafka_new(&kafka_produce_response_topic_type, &r->arena, p->topic_count);
    const struct part *part = p->parts;
    for (size_t t = 0; t < p->topic_count; t++) {
        size_t n = p->topic_sizes[t];
        if (n == 0) continue; /* nothing was asked of it */
        struct kafka_produce_response_topic *topic = &out->responses.items[out->responses.count++];
        topic->partition_responses.items = kafka_new(&kafka_produce_response_partition_type, &r->arena, n);
        topic->partition_responses.count = (int32_t)n;
        topic->name = part->name;
        topic->topic_id = part->topic_id;
        for (size_t i = 0; i < n; i++) answer_part(p, part++, &topic->partition_responses.items[i]);
    }
    request_answer(r, out);
}

static void produce_timed_out(struct timer *t) {
    produce_answer(CONTAINER_OF(t, struct produce, timer));
}

/* Kafka's order of checks: the request as a whole, then what can be said without the partition. */
static enum err request_check(const struct kafka_produce_request *in) {
    if (in->acks < -1 || in->acks > 1) return ERR_INVALID_REQUIRED_ACKS;
    if (in->transactional_id.size >= 0) return ERR_TRANSACTIONAL_ID_AUTHORIZATION;
    return OK;
}

static void part_resolve(struct request *r, const struct kafka_produce_request_topic *t, enum err refused,
                         struct part *part) {
    const struct routes *routes = &request_shard(r)->routes;
    bool by_id = request_version(r) >= 13;
    struct topic_route *route =
        by_id ? routes_by_id(routes, t->topic_id.bytes) : routes_by_name(routes, t->name.data, (size_t)t->name.size);
    part->err = refused;
    if (part->err == OK && !route) part->err = by_id ? ERR_UNKNOWN_TOPIC_ID : ERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (part->err == OK && (part->index < 0 || part->index >= route->partition_count))
        part->err = ERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (part->err == OK && topic_is_internal(route->name, route->name_size)) part->err = ERR_INVALID_TOPIC;
    if (part->err == OK) {
        part->route = topic_route_ref(route);
    } else {
        part->settled = true;
    }
}

static void produce_resolve(struct produce *p, const struct kafka_produce_request *in) {
    struct request *r = p->r;
    enum err refused = request_check(in);
    p->topic_count = (size_t)in->topic_data.count;
    p->topic_sizes = ARENA_ARRAY(&r->arena, size_t, p->topic_count);
    for (size_t t = 0; t < p->topic_count; t++)
        p->count += p->topic_sizes[t] = (size_t)in->topic_data.items[t].partition_data.count;
    p->parts = ARENA_ARRAY(&r->arena, struct part, p->count);
    struct part *part = p->parts;
    for (size_t t = 0; t < p->topic_count; t++) {
        const struct kafka_produce_request_topic *topic = &in->topic_data.items[t];
        struct kafka_string name = {NULL, 0};
        if (topic->name.size > 0)
            name = kafka_string_view(arena_strndup(&r->arena, topic->name.data, (size_t)topic->name.size),
                                     (size_t)topic->name.size);
        for (size_t i = 0; i < p->topic_sizes[t]; i++, part++) {
            const struct kafka_produce_request_partition *want = &topic->partition_data.items[i];
            part->name = name;
            part->topic_id = topic->topic_id;
            part->index = want->index;
            /* The decoder's views are into the frame, whose bytes are ours to change. */
            part->records = (uint8_t *)(uintptr_t)want->records.data;
            part->size = want->records.size > 0 ? (size_t)want->records.size : 0;
            part->result.bad_record = -1;
            part->result.log_start_offset = UINT64_MAX; /* -1 for clients, until there is a partition */
            part_resolve(r, topic, refused, part);
        }
    }
}

/* Is an accusation among the errors true? Suspends if there is one. */
static void produce_check(struct produce *p) {
    for (size_t i = 0; i < p->count; i++) p->r->accuses |= kafka_error_accuses(p->parts[i].err);
    p->fresh = request_stands(p->r);
}

static bool produce_failed(const struct produce *p) {
    for (size_t i = 0; i < p->count; i++) {
        if (p->parts[i].err != OK) return true;
    }
    return false;
}

enum request_outcome handle_produce(struct request *r, const void *message, void *response) {
    const struct kafka_produce_request *in = message;
    (void)response;
    struct produce *p = ARENA_NEW(&r->arena, struct produce);
    p->r = r;
    produce_resolve(p, in);
    int16_t acks = in->acks;
    int64_t timeout_ms = in->timeout_ms > TIMEOUT_MIN_MS ? in->timeout_ms : TIMEOUT_MIN_MS;
    timer_init(&p->timer, produce_timed_out);
    produce_on_shards(p, append_there, acks != 0, false);
    request_release_frame(r);
    request_append_done(r);
    if (acks != 0) {
        timer_arm(&p->timer, r->received_ns + (uint64_t)timeout_ms * NS_PER_MS);
        produce_on_shards(p, wait_there, true, true);
        timer_disarm(&p->timer);
        if (!r->answered) {
            produce_check(p);
            produce_answer(p);
        }
    }
    enum request_outcome outcome = acks != 0 ? REQUEST_ANSWER : produce_failed(p) ? REQUEST_CLOSE : REQUEST_NO_ANSWER;
    for (size_t i = 0; i < p->count; i++) topic_route_unref(p->parts[i].route);
    return outcome;
}
