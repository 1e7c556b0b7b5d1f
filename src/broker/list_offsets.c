/* ListOffsets: the ends of partitions, and offsets by time. */
#include "broker/broker_priv.h"
#include "broker/crew.h"
#include "kafka/kafka_messages.h"

/* Version 0 names where segments begin; a client cannot make us list more of them than this for one partition. */
#define SEGMENTS_MAX 1000
#define LOOKUPS_MAX 16u /* at once, for one request and shard: those by time may go to the store */

/* Kafka protocol: ListOffsets, special timestamps, and since when they may be asked for. */
enum {
    LATEST = -1,
    EARLIEST = -2,
    MAX_TIMESTAMP = -3,
    EARLIEST_LOCAL = -4,
    LATEST_TIERED = -5,
    EARLIEST_PENDING_UPLOAD = -6
};

static int16_t special_since(int64_t timestamp) {
    switch (timestamp) {
    case LATEST:
    case EARLIEST:
        return 0;
    case MAX_TIMESTAMP:
        return 7;
    case EARLIEST_LOCAL:
        return 8;
    case LATEST_TIERED:
        return 9;
    case EARLIEST_PENDING_UPLOAD:
        return 11;
    default:
        return INT16_MAX;
    }
}

struct lookup {
    const struct kafka_list_offsets_request_partition *want;
    struct kafka_list_offsets_response_partition *out;
    struct topic_route *route; /* a reference; NULL: answered already */
    int64_t *segments;         /* version 0: room for so many, and how many there are */
    size_t segments_max, segment_count;
    enum err err;
};

struct lookups { /* of one shard */
    struct shard *shard;
    struct lookup **items;
    size_t count;
};

static void lookup_one(void *ctx, size_t i) {
    const struct lookups *l = ctx;
    struct lookup *k = l->items[i];
    struct slot *slot;
    k->err = shard_acquire(l->shard, k->route, k->want->partition_index, &slot);
    if (k->err != OK) return;
    if (k->segments) {
        k->err = partition_list_segments(slot_partition(slot), k->want->timestamp, k->segments_max, k->segments,
                                         &k->segment_count);
    } else {
        k->err = partition_list_offset(slot_partition(slot), k->want->timestamp, k->want->current_leader_epoch,
                                       &k->out->offset, &k->out->timestamp, &k->out->leader_epoch);
    }
    slot_release(slot);
}

static void lookups_there(void *arg) {
    struct lookups *l = arg;
    crew_run("ListOffsets", l->count, LOOKUPS_MAX, lookup_one, l);
}

/* What can be said without the partition. */
static void lookup_resolve(struct request *r, struct kafka_string name, struct lookup *k) {
    struct topic_route *t = routes_by_name(&request_shard(r)->routes, name.data, (size_t)name.size);
    int32_t index = k->want->partition_index;
    k->out->partition_index = index;
    if (k->want->timestamp < 0 && request_version(r) < special_since(k->want->timestamp)) {
        k->err = ERR_UNSUPPORTED_VERSION;
    } else if (!t || index < 0 || index >= t->partition_count) {
        k->err = ERR_UNKNOWN_TOPIC_OR_PARTITION;
    } else if (k->want->timestamp != LATEST_TIERED && k->want->timestamp != EARLIEST_PENDING_UPLOAD) {
        k->route = topic_route_ref(t);
    } /* else there are no tiers: offset -1 */
    if (!k->route || request_version(r) > 0) return;
    int32_t most = k->want->max_num_offsets < SEGMENTS_MAX ? k->want->max_num_offsets : SEGMENTS_MAX;
    k->segments_max = most > 0 ? (size_t)most : 0;
    request_charge(r, k->segments_max * sizeof(int64_t));
    k->segments = ARENA_ARRAY(&r->arena, int64_t, k->segments_max + 1);
}

/* As Kafka: a partition that stands in the request again is refused, with one answer. True: `k` is the repetition. */
static bool lookup_repeats(struct map64 *seen, struct lookup *k) {
    if (!k->route || k->segments) return false; /* version 0 minds nothing */
    uint64_t stream = k->route->partitions[k->want->partition_index].stream.v;
    struct lookup *first = map64_get(seen, stream);
    if (!first) {
        map64_put(seen, stream, k);
        return false;
    }
    topic_route_unref(k->route);
    if (first->route) topic_route_unref(first->route);
    first->route = NULL;
    first->err = ERR_INVALID_REQUEST;
    return true;
}

/* Fills the lookups and the places of their answers; how many there are. */
static size_t lookups_from(struct request *r, const struct kafka_list_offsets_request *in,
                           struct kafka_list_offsets_response *out, struct lookup *lookups) {
    size_t n = 0;
    struct map64 seen;
    map64_init(&seen, request_shard(r)->env->mem);
    out->topics.items = kafka_new(&kafka_list_offsets_response_topic_type, &r->arena, (size_t)in->topics.count);
    out->topics.count = in->topics.count;
    for (int32_t t = 0; t < in->topics.count; t++) {
        const struct kafka_list_offsets_request_topic *want = &in->topics.items[t];
        struct kafka_list_offsets_response_topic *topic = &out->topics.items[t];
        topic->name = want->name;
        topic->partitions.items =
            kafka_new(&kafka_list_offsets_response_partition_type, &r->arena, (size_t)want->partitions.count);
        for (int32_t p = 0; p < want->partitions.count; p++) {
            struct lookup *k = &lookups[n];
            *k = (struct lookup){.want = &want->partitions.items[p],
                                 .out = &topic->partitions.items[topic->partitions.count]};
            lookup_resolve(r, want->name, k);
            if (lookup_repeats(&seen, k)) continue;
            topic->partitions.count++;
            n++;
        }
    }
    map64_deinit(&seen);
    return n;
}

enum request_outcome handle_list_offsets(struct request *r, const void *message, void *response) {
    const struct kafka_list_offsets_request *in = message;
    struct broker *b = request_shard(r)->broker;
    size_t count = 0;
    for (int32_t t = 0; t < in->topics.count; t++) count += (size_t)in->topics.items[t].partitions.count;
    struct lookup *lookups = ARENA_ARRAY(&r->arena, struct lookup, count);
    count = lookups_from(r, in, response, lookups);
    struct lookup **items = ARENA_ARRAY(&r->arena, struct lookup *, count);
    for (unsigned s = 0; s < b->shard_count; s++) {
        struct lookups l = {&b->shards[s], items, 0};
        for (size_t i = 0; i < count; i++) {
            if (lookups[i].route && lookups[i].route->partitions[lookups[i].want->partition_index].shard == s)
                items[l.count++] = &lookups[i];
        }
        if (l.count > 0) loop_call(l.shard->loop, lookups_there, &l);
    }
    for (size_t i = 0; i < count; i++) {
        topic_route_unref(lookups[i].route);
        if (request_version(r) < 4) lookups[i].out->leader_epoch = -1; /* cannot be said */
        if (lookups[i].err == OK && lookups[i].segments) {
            lookups[i].out->old_style_offsets.items = lookups[i].segments;
            lookups[i].out->old_style_offsets.count = (int32_t)lookups[i].segment_count;
        }
        if (lookups[i].err == OK) continue;
        request_error(r, lookups[i].err); /* counts it */
        lookups[i].out->error_code = kafka_read_error_of(lookups[i].err);
        lookups[i].out->offset = lookups[i].out->timestamp = -1;
        lookups[i].out->leader_epoch = -1;
    }
    for (size_t i = 0, stands = request_stands(r); !stands && i < count; i++) {
        int32_t index = lookups[i].want->partition_index;
        kafka_list_offsets_response_partition_init(lookups[i].out);
        lookups[i].out->partition_index = index;
        lookups[i].out->error_code = request_error(r, ERR_NOT_LEADER);
    }
    return REQUEST_ANSWER;
}
