/* What administrators ask of partitions: DeleteRecords, OffsetForLeaderEpoch, DescribeProducers. Each partition answers
 * for itself, on its shard (spread.h). */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/spread.h"
#include "kafka/kafka_messages.h"

/* --- DeleteRecords. A request that takes longer than its time-out is answered for what is settled by then; the others
 * may be done all the same. */

/* Clients that ask for no patience at all get this much: with Kafka, what a single replica does is never late. */
#define TIMEOUT_MIN_MS 1000

struct deletion {
    int64_t offset, low_watermark;
};

struct deletions {
    struct request *r;
    const struct kafka_delete_records_request *in;
    struct spot *spots;
    struct deletion *items;
    struct timer timer;
};

static enum err delete_one(void *ctx, size_t i, struct partition *p) {
    struct deletion *d = &((struct deletions *)ctx)->items[i];
    return partition_delete_records(p, d->offset, &d->low_watermark);
}

static void delete_answer(struct deletions *d) {
    struct request *r = d->r;
    struct kafka_delete_records_response *out = kafka_new(&kafka_delete_records_response_type, &r->arena, 1);
    out->topics.items = kafka_new(&kafka_delete_records_response_topic_type, &r->arena, (size_t)d->in->topics.count);
    out->topics.count = d->in->topics.count;
    size_t n = 0;
    for (int32_t t = 0; t < d->in->topics.count; t++) {
        const struct kafka_delete_records_request_topic *want = &d->in->topics.items[t];
        struct kafka_delete_records_response_topic *topic = &out->topics.items[t];
        size_t count = (size_t)want->partitions.count;
        topic->name = want->name;
        topic->partitions.items = kafka_new(&kafka_delete_records_response_partition_type, &r->arena, count);
        topic->partitions.count = want->partitions.count;
        for (size_t i = 0; i < count; i++, n++) {
            struct kafka_delete_records_response_partition *p = &topic->partitions.items[i];
            bool late = !d->spots[n].settled;
            enum err e = late ? ERR_REQUEST_TIMED_OUT : d->spots[n].err;
            p->partition_index = want->partitions.items[i].partition_index;
            p->low_watermark = e == OK ? d->items[n].low_watermark : -1;
            p->error_code = request_error(r, e);
        }
    }
    request_answer(r, out);
}

static void delete_timed_out(struct timer *t) {
    delete_answer(CONTAINER_OF(t, struct deletions, timer));
}

enum request_outcome handle_delete_records(struct request *r, const void *message, void *response) {
    (void)response;
    struct deletions *d = ARENA_NEW(&r->arena, struct deletions);
    d->r = r;
    d->in = message;
    size_t count = 0, n = 0;
    for (int32_t t = 0; t < d->in->topics.count; t++) count += (size_t)d->in->topics.items[t].partitions.count;
    d->spots = ARENA_ARRAY(&r->arena, struct spot, count);
    d->items = ARENA_ARRAY(&r->arena, struct deletion, count);
    for (int32_t t = 0; t < d->in->topics.count; t++) {
        const struct kafka_delete_records_request_topic *want = &d->in->topics.items[t];
        for (int32_t p = 0; p < want->partitions.count; p++, n++) {
            d->items[n].offset = want->partitions.items[p].offset;
            d->items[n].low_watermark = -1;
            spot_find(r, want->name, want->partitions.items[p].partition_index, &d->spots[n]);
            if (d->spots[n].settled || !topic_is_internal(want->name.data, (size_t)want->name.size)) continue;
            d->spots[n].err = ERR_INVALID_TOPIC;
            d->spots[n].settled = true;
        }
    }
    int64_t timeout_ms = d->in->timeout_ms > TIMEOUT_MIN_MS ? d->in->timeout_ms : TIMEOUT_MIN_MS;
    timer_init(&d->timer, delete_timed_out);
    timer_arm(&d->timer, r->received_ns + (uint64_t)timeout_ms * NS_PER_MS);
    spots_run(r, "DeleteRecords", d->spots, count, delete_one, d);
    timer_disarm(&d->timer);
    if (!r->answered) delete_answer(d);
    spots_release(d->spots, count);
    return REQUEST_ANSWER;
}

/* --- OffsetForLeaderEpoch. Consumers and debuggers (replica id -2) are answered alike. */

struct epoch_question {
    int32_t current_leader_epoch, leader_epoch;
    struct kafka_offset_for_leader_epoch_response_partition *out;
};

static enum err epoch_one(void *ctx, size_t i, struct partition *p) {
    struct epoch_question *q = &((struct epoch_question *)ctx)[i];
    return partition_epoch_end(p, q->current_leader_epoch, q->leader_epoch, &q->out->leader_epoch, &q->out->end_offset);
}

enum request_outcome handle_offset_for_leader_epoch(struct request *r, const void *message, void *response) {
    const struct kafka_offset_for_leader_epoch_request *in = message;
    struct kafka_offset_for_leader_epoch_response *out = response;
    size_t count = 0, n = 0;
    for (int32_t t = 0; t < in->topics.count; t++) count += (size_t)in->topics.items[t].partitions.count;
    struct spot *spots = ARENA_ARRAY(&r->arena, struct spot, count);
    struct epoch_question *questions = ARENA_ARRAY(&r->arena, struct epoch_question, count);
    out->topics.items =
        kafka_new(&kafka_offset_for_leader_epoch_response_topic_type, &r->arena, (size_t)in->topics.count);
    out->topics.count = in->topics.count;
    for (int32_t t = 0; t < in->topics.count; t++) {
        const struct kafka_offset_for_leader_epoch_request_topic *want = &in->topics.items[t];
        struct kafka_offset_for_leader_epoch_response_topic *topic = &out->topics.items[t];
        topic->topic = want->topic;
        topic->partitions.items = kafka_new(&kafka_offset_for_leader_epoch_response_partition_type, &r->arena,
                                            (size_t)want->partitions.count);
        topic->partitions.count = want->partitions.count;
        for (int32_t p = 0; p < want->partitions.count; p++, n++) {
            const struct kafka_offset_for_leader_epoch_request_partition *w = &want->partitions.items[p];
            topic->partitions.items[p].partition = w->partition;
            questions[n] =
                (struct epoch_question){w->current_leader_epoch, w->leader_epoch, &topic->partitions.items[p]};
            spot_find(r, want->topic, w->partition, &spots[n]);
        }
    }
    spots_run(r, "OffsetForLeaderEpoch", spots, count, epoch_one, questions);
    for (size_t i = 0; i < count; i++) {
        if (spots[i].err == OK) continue;
        request_error(r, spots[i].err); /* counts it */
        questions[i].out->error_code = kafka_read_error_of(spots[i].err);
        questions[i].out->leader_epoch = -1;
        questions[i].out->end_offset = -1;
    }
    /* An end below what a reader has read tells it that the log was cut off there. */
    r->accuses = true;
    for (size_t i = 0, stands = request_stands(r); !stands && i < count; i++) {
        questions[i].out->error_code = request_error(r, ERR_NOT_LEADER);
        questions[i].out->leader_epoch = -1;
        questions[i].out->end_offset = -1;
    }
    spots_release(spots, count);
    return REQUEST_ANSWER;
}

/* --- DescribeProducers. */

struct producers_question {
    struct mem *mem;
    struct kafka_describe_producers_response_partition *out;
    struct partition_producer *found;
    size_t count;
};

static enum err producers_one(void *ctx, size_t i, struct partition *p) {
    struct producers_question *q = &((struct producers_question *)ctx)[i];
    q->count = partition_producers(p, q->mem, &q->found);
    return OK;
}

static void producers_answer(struct request *r, struct producers_question *q) {
    q->out->active_producers.items =
        kafka_new(&kafka_describe_producers_response_active_producer_type, &r->arena, q->count);
    q->out->active_producers.count = (int32_t)q->count;
    for (size_t i = 0; i < q->count; i++) {
        struct kafka_describe_producers_response_active_producer *a = &q->out->active_producers.items[i];
        a->producer_id = q->found[i].producer_id;
        a->producer_epoch = q->found[i].epoch;
        a->last_sequence = q->found[i].last_sequence;
        a->last_timestamp = q->found[i].last_timestamp;
        a->coordinator_epoch = -1;
        a->current_txn_start_offset = -1;
    }
}

enum request_outcome handle_describe_producers(struct request *r, const void *message, void *response) {
    const struct kafka_describe_producers_request *in = message;
    struct kafka_describe_producers_response *out = response;
    size_t count = 0, n = 0;
    for (int32_t t = 0; t < in->topics.count; t++) count += (size_t)in->topics.items[t].partition_indexes.count;
    struct spot *spots = ARENA_ARRAY(&r->arena, struct spot, count);
    struct producers_question *questions = ARENA_ARRAY(&r->arena, struct producers_question, count);
    struct map64 seen;
    map64_init(&seen, request_shard(r)->env->mem);
    out->topics.items = kafka_new(&kafka_describe_producers_response_topic_type, &r->arena, (size_t)in->topics.count);
    out->topics.count = in->topics.count;
    for (int32_t t = 0; t < in->topics.count; t++) {
        const struct kafka_describe_producers_request_topic *want = &in->topics.items[t];
        struct kafka_describe_producers_response_topic *topic = &out->topics.items[t];
        topic->name = want->name;
        topic->partitions.items = kafka_new(&kafka_describe_producers_response_partition_type, &r->arena,
                                            (size_t)want->partition_indexes.count);
        topic->partitions.count = want->partition_indexes.count;
        for (int32_t p = 0; p < want->partition_indexes.count; p++, n++) {
            topic->partitions.items[p].partition_index = want->partition_indexes.items[p];
            questions[n] =
                (struct producers_question){.mem = request_shard(r)->env->mem, .out = &topic->partitions.items[p]};
            spot_find(r, want->name, want->partition_indexes.items[p], &spots[n]);
            if (!meta_topic_name_valid(want->name.data, (size_t)want->name.size)) spots[n].err = ERR_INVALID_TOPIC;
            /* A partition may have thousands of them: once is enough. */
            if (spots[n].settled || !map64_put(&seen, spots[n].route->partitions[spots[n].index].stream.v, out))
                continue;
            spots[n].err = ERR_INVALID_REQUEST;
            spots[n].settled = true;
        }
    }
    map64_deinit(&seen);
    /* One takes a fifth of what it is counted as; how many are where is not known here. */
    request_answer_make(r, (size_t)memory_used_bytes(r->conns->o.env->metrics, MEMORY_PRODUCERS) / 4, false);
    spots_run(r, "DescribeProducers", spots, count, producers_one, questions);
    for (size_t i = 0; i < count; i++) {
        if (spots[i].err == OK) {
            producers_answer(r, &questions[i]);
        } else {
            request_error(r, spots[i].err);
            questions[i].out->error_code = kafka_read_error_of(spots[i].err);
            questions[i].out->error_message = kafka_string_of(err_text(spots[i].err));
        }
        mem_free(request_shard(r)->env->mem, questions[i].found);
    }
    spots_release(spots, count);
    return REQUEST_ANSWER;
}
