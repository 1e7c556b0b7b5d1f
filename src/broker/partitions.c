/* CreatePartitions, and what is asked of partitions' leaders and replicas: ElectLeaders, AlterPartitionReassignments,
 * ListPartitionReassignments. The checks and their words are Kafka's. While there is one broker it leads everything and
 * holds every replica, so no election is needed and nothing can be moved elsewhere. */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/crew.h"
#include "kafka/kafka_messages.h"

#define COMMITS_MAX 64u
#define PARTITIONS_MAX 10000 /* of one request, as with Kafka's controller */

/* What is wrong with the brokers that a partition is to have; NULL: nothing. */
static const char *replicas_wrong(struct request *r, struct kafka_int32_array replicas) {
    int32_t self = request_shard(r)->broker->config->node_id;
    if (replicas.count <= 0) return "The manual partition assignment includes an empty replica list.";
    for (int32_t i = 0; i < replicas.count; i++) {
        if (replicas.items[i] != self) {
            return arena_printf(&r->arena,
                                "The manual partition assignment includes broker %d, but no such broker is registered.",
                                replicas.items[i]);
        }
        if (i > 0) {
            return arena_printf(&r->arena, "The manual partition assignment includes the broker %d more than once.",
                                replicas.items[i]);
        }
    }
    return NULL;
}

/* --- CreatePartitions. In one call on loop 0, several topics at a time: their commits share group commits. */

struct growth {
    const struct kafka_create_partitions_request_topic *want;
    struct kafka_create_partitions_response_result *out;
    enum err err;
    const char *why; /* NULL: the error's own text */
    bool refused;    /* as a duplicate in the same request */
};

struct growths {
    struct request *r;
    struct broker *broker;
    struct growth *items;
    size_t count;
    bool validate_only;
    int64_t partitions_there, partitions_total; /* before this request; that are new */
};

static enum err refuse(struct growth *g, enum err e, const char *why) {
    g->why = why;
    return e;
}

static enum err check_count(struct growths *all, struct growth *g, const struct meta_topic *t) {
    struct arena *a = &all->r->arena;
    const struct kafka_create_partitions_request_topic *w = g->want;
    if (w->count == t->partition_count) {
        return refuse(g, ERR_INVALID_PARTITIONS, arena_printf(a, "Topic already has %d partition(s).", w->count));
    }
    if (w->count < t->partition_count) {
        return refuse(g, ERR_INVALID_PARTITIONS,
                      arena_printf(a, "The topic %s currently has %d partition(s); %d would not be an increase.",
                                   t->name, t->partition_count, w->count));
    }
    int32_t more = w->count - t->partition_count;
    if (more > PARTITIONS_MAX || all->partitions_total + more > PARTITIONS_MAX)
        return refuse(g, ERR_POLICY_VIOLATION, "Excessively large number of partitions per request.");
    if (w->count > META_TOPIC_PARTITIONS_MAX) {
        return refuse(g, ERR_INVALID_PARTITIONS,
                      arena_printf(a, "A topic has at most %d partitions.", META_TOPIC_PARTITIONS_MAX));
    }
    if (w->assignments.count >= 0 && w->assignments.count != more) {
        return refuse(
            g, ERR_INVALID_REPLICA_ASSIGNMENT,
            arena_printf(a, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.",
                         more, w->assignments.count));
    }
    for (int32_t i = 0; i < w->assignments.count; i++) {
        const char *why = replicas_wrong(all->r, w->assignments.items[i].broker_ids);
        if (why) return refuse(g, ERR_INVALID_REPLICA_ASSIGNMENT, why);
    }
    if (!broker_has_room_for(all->broker, all->partitions_there + all->partitions_total + more))
        return refuse(g, ERR_POLICY_VIOLATION, "The broker has no memory for so many partitions more (state.bytes).");
    all->partitions_total += more;
    return OK;
}

static void grow_one(void *ctx, size_t i) {
    struct growths *all = ctx;
    struct growth *g = &all->items[i];
    if (g->refused) return;
    struct broker *b = all->broker;
    const struct meta_topic *t = meta_topic_by_name(b->meta, g->want->name.data, (size_t)g->want->name.size);
    g->err = t ? check_count(all, g, t) : ERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (g->err == OK && topic_is_internal(t->name, strlen(t->name))) {
        /* Kafka allows it, and the groups whose partition is another one then have lost their offsets. */
        g->err =
            refuse(g, ERR_INVALID_TOPIC,
                   "The number of partitions of this topic says where each group's offsets lie: it cannot change.");
    }
    if (g->err != OK || all->validate_only) return;
    struct uuid id = t->id;
    g->err = broker_add_partitions(b, &id, g->want->count);
    if (g->err == ERR_UNKNOWN_TOPIC_ID) g->err = ERR_UNKNOWN_TOPIC_OR_PARTITION; /* gone meanwhile */
    if (g->err != OK) return;
    log_info(b->env->log, "partitions added", "topic=%.*s partitions=%d by=client", (int)g->want->name.size,
             g->want->name.data, g->want->count);
}

static void grow_there(void *arg) {
    struct growths *all = arg;
    all->partitions_there = broker_partitions_there(all->broker);
    crew_run("CreatePartitions", all->count, COMMITS_MAX, grow_one, all);
}

enum request_outcome handle_create_partitions(struct request *r, const void *message, void *response) {
    const struct kafka_create_partitions_request *in = message;
    struct kafka_create_partitions_response *out = response;
    struct broker *b = request_shard(r)->broker;
    struct growths all = {.r = r, .broker = b, .count = (size_t)in->topics.count, .validate_only = in->validate_only};
    all.items = ARENA_ARRAY(&r->arena, struct growth, all.count);
    out->results.items = kafka_new(&kafka_create_partitions_response_result_type, &r->arena, all.count);
    struct mapstr seen;
    mapstr_init(&seen, b->env->mem);
    size_t n = 0;
    for (size_t i = 0; i < all.count; i++) {
        const struct kafka_create_partitions_request_topic *w = &in->topics.items[i];
        struct growth *twice = mapstr_get(&seen, w->name.data, (size_t)w->name.size);
        if (twice) { /* As Kafka: one answer for all that share a name, of which none is more right than another. */
            twice->refused = true;
            twice->err = refuse(twice, ERR_INVALID_REQUEST, "Duplicate topic name.");
            continue;
        }
        out->results.items[n].name = w->name;
        all.items[n] = (struct growth){.want = w, .out = &out->results.items[n]};
        mapstr_put(&seen, w->name.data, (size_t)w->name.size, &all.items[n]);
        n++;
    }
    mapstr_deinit(&seen);
    all.count = n;
    out->results.count = (int32_t)n;
    loop_call(b->o.loop0, grow_there, &all);
    for (size_t i = 0; i < all.count; i++) {
        const struct growth *g = &all.items[i];
        if (g->err == OK) continue;
        g->out->error_code = request_error(r, g->err);
        g->out->error_message = kafka_string_of(g->why ? g->why : err_text(g->err));
    }
    return REQUEST_ANSWER;
}

/* --- ElectLeaders. */

enum { ELECT_PREFERRED = 0, ELECT_UNCLEAN = 1 };

static void elect_topic(struct request *r, const struct kafka_elect_leaders_request_topic_partition *want,
                        struct kafka_elect_leaders_response_replica_election_result *out) {
    const struct topic_route *t = routes_by_name(&request_shard(r)->routes, want->topic.data, (size_t)want->topic.size);
    out->topic = want->topic;
    out->partition_result.items =
        kafka_new(&kafka_elect_leaders_response_partition_result_type, &r->arena, (size_t)want->partitions.count);
    out->partition_result.count = want->partitions.count;
    for (int32_t i = 0; i < want->partitions.count; i++) {
        struct kafka_elect_leaders_response_partition_result *p = &out->partition_result.items[i];
        p->partition_id = want->partitions.items[i];
        if (t && p->partition_id >= 0 && p->partition_id < t->partition_count) {
            p->error_code = KAFKA_ELECTION_NOT_NEEDED;
            p->error_message = kafka_string_of("Leader election not needed for topic partition.");
            continue;
        }
        p->error_code = request_error(r, ERR_UNKNOWN_TOPIC_OR_PARTITION);
        p->error_message = kafka_string_of(
            t ? arena_printf(&r->arena, "No such partition as %s-%d", t->name, p->partition_id)
              : arena_printf(&r->arena, "No such topic as %.*s", (int)want->topic.size, want->topic.data));
    }
}

/* As Kafka: every topic, but of the partitions only those for which something was to be done: none. */
static void elect_all(struct request *r, struct kafka_elect_leaders_response *out) {
    const struct routes *routes = &request_shard(r)->routes;
    out->replica_election_results.items =
        kafka_new(&kafka_elect_leaders_response_replica_election_result_type, &r->arena, routes->by_id.count);
    const struct topic_route *t;
    for (size_t cursor = 0; (t = mapstr_next(&routes->by_id, &cursor, NULL, NULL)) != NULL;) {
        out->replica_election_results.items[out->replica_election_results.count++].topic =
            kafka_string_view(arena_strndup(&r->arena, t->name, t->name_size), t->name_size);
    }
}

enum request_outcome handle_elect_leaders(struct request *r, const void *message, void *response) {
    const struct kafka_elect_leaders_request *in = message;
    struct kafka_elect_leaders_response *out = response;
    if (in->election_type != ELECT_PREFERRED && in->election_type != ELECT_UNCLEAN) {
        out->error_code = request_error(r, ERR_INVALID_REQUEST);
        return REQUEST_ANSWER;
    }
    if (in->topic_partitions.count < 0) {
        elect_all(r, out);
        return REQUEST_ANSWER;
    }
    size_t count = (size_t)in->topic_partitions.count;
    out->replica_election_results.items =
        kafka_new(&kafka_elect_leaders_response_replica_election_result_type, &r->arena, count);
    out->replica_election_results.count = in->topic_partitions.count;
    for (size_t i = 0; i < count; i++)
        elect_topic(r, &in->topic_partitions.items[i], &out->replica_election_results.items[i]);
    return REQUEST_ANSWER;
}

/* --- Reassignments. To where a partition is already: done. There is never one under way. */

static void reassign_one(struct request *r, struct kafka_string topic,
                         const struct kafka_alter_partition_reassignments_request_partition *want,
                         struct kafka_alter_partition_reassignments_response_partition *out) {
    const struct topic_route *t = routes_by_name(&request_shard(r)->routes, topic.data, (size_t)topic.size);
    const char *why = NULL;
    out->partition_index = want->partition_index;
    out->error_message = (struct kafka_string){NULL, -1};
    if (!t) {
        out->error_code = request_error(r, ERR_UNKNOWN_TOPIC_OR_PARTITION);
        why = arena_printf(&r->arena, "Unable to find a topic named %.*s.", (int)topic.size, topic.data);
    } else if (want->partition_index < 0 || want->partition_index >= t->partition_count) {
        out->error_code = request_error(r, ERR_UNKNOWN_TOPIC_OR_PARTITION);
        why = arena_printf(&r->arena, "Unable to find partition %s:%d.", t->name, want->partition_index);
    } else if (want->replicas.count < 0) {
        out->error_code = KAFKA_NO_REASSIGNMENT_IN_PROGRESS;
        why = "No partition reassignment is in progress.";
    } else {
        why = replicas_wrong(r, want->replicas);
        if (why) out->error_code = request_error(r, ERR_INVALID_REPLICA_ASSIGNMENT);
    }
    if (why) out->error_message = kafka_string_of(why);
}

enum request_outcome handle_alter_partition_reassignments(struct request *r, const void *message, void *response) {
    const struct kafka_alter_partition_reassignments_request *in = message;
    struct kafka_alter_partition_reassignments_response *out = response;
    out->allow_replication_factor_change = in->allow_replication_factor_change;
    out->error_message = (struct kafka_string){NULL, -1};
    out->responses.items =
        kafka_new(&kafka_alter_partition_reassignments_response_response_type, &r->arena, (size_t)in->topics.count);
    out->responses.count = in->topics.count;
    for (int32_t t = 0; t < in->topics.count; t++) {
        const struct kafka_alter_partition_reassignments_request_topic *want = &in->topics.items[t];
        struct kafka_alter_partition_reassignments_response_response *topic = &out->responses.items[t];
        topic->name = want->name;
        topic->partitions.items = kafka_new(&kafka_alter_partition_reassignments_response_partition_type, &r->arena,
                                            (size_t)want->partitions.count);
        topic->partitions.count = want->partitions.count;
        for (int32_t p = 0; p < want->partitions.count; p++)
            reassign_one(r, want->name, &want->partitions.items[p], &topic->partitions.items[p]);
    }
    return REQUEST_ANSWER;
}

enum request_outcome handle_list_partition_reassignments(struct request *r, const void *message, void *response) {
    (void)r;
    (void)message;
    struct kafka_list_partition_reassignments_response *out = response;
    out->error_message = (struct kafka_string){NULL, -1};
    return REQUEST_ANSWER;
}
