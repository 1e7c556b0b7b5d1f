/* Metadata: brokers, topics, leaders. Answered from the shard's own routes; only creating a topic goes to loop 0. */
#include <limits.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

typedef struct kafka_metadata_response_topic answer_topic;

static void fill_topic(struct request *r, const struct kafka_metadata_request *in, const struct topic_route *t,
                       answer_topic *out) {
    struct broker *b = request_shard(r)->broker;
    out->error_code = 0;
    out->name = kafka_string_view(arena_strndup(&r->arena, t->name, t->name_size), t->name_size);
    out->topic_id = uuid_to_kafka(&t->id);
    out->is_internal = topic_is_internal(t->name, t->name_size);
    if (in->include_topic_authorized_operations) out->topic_authorized_operations = TOPIC_OPERATIONS;
    out->partitions.items = kafka_new(&kafka_metadata_response_partition_type, &r->arena, (size_t)t->partition_count);
    out->partitions.count = t->partition_count;
    int32_t *self = arena_alloc(&r->arena, sizeof(*self));
    *self = b->config->node_id;
    for (int32_t i = 0; i < t->partition_count; i++) {
        struct kafka_metadata_response_partition *p = &out->partitions.items[i];
        p->partition_index = i;
        p->leader_id = b->config->node_id;
        p->leader_epoch = t->partitions[i].leader_epoch;
        p->replica_nodes = p->isr_nodes = (struct kafka_int32_array){self, 1};
    }
}

struct auto_create {
    struct broker *broker;
    const char *name;
    enum err err;
};

static void auto_create_there(void *arg) {
    struct auto_create *a = arg;
    const struct config *c = a->broker->config;
    struct topic_wish wish = {a->name, c->num_partitions, (int16_t)c->default_replication_factor, NULL, 0};
    struct uuid id;
    if (!broker_has_room_for(a->broker, broker_partitions_there(a->broker) + wish.partition_count)) {
        a->err = ERR_POLICY_VIOLATION;
        return;
    }
    a->err = broker_create_topic(a->broker, &wish, &id);
    if (a->err == OK)
        log_info(a->broker->env->log, "topic created", "topic=%s partitions=%d by=metadata", a->name,
                 wish.partition_count);
}

/* Creates it if that is allowed and wanted. Suspends. */
static enum err topic_auto_create(struct request *r, const struct kafka_metadata_request *in,
                                  struct kafka_string name) {
    struct broker *b = request_shard(r)->broker;
    if (!meta_topic_name_valid(name.data, (size_t)name.size)) return ERR_INVALID_TOPIC;
    if (!atomic_load(&b->auto_create_topics) || !in->allow_auto_topic_creation) return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (topic_is_internal(name.data, (size_t)name.size)) return ERR_UNKNOWN_TOPIC_OR_PARTITION; /* made when needed */
    struct auto_create a = {b, arena_strndup(&r->arena, name.data, (size_t)name.size), OK};
    loop_call(b->o.loop0, auto_create_there, &a);
    if (a.err == OK || a.err == ERR_TOPIC_EXISTS) return OK;
    /* Nobody knows yet; the client asks again. */
    if (a.err == ERR_POLICY_VIOLATION) return ERR_UNKNOWN_TOPIC_OR_PARTITION; /* the log says why */
    return err_class(a.err) == ERR_CLASS_FATAL ? a.err : ERR_UNKNOWN_TOPIC_OR_PARTITION;
}

static void answer_named(struct request *r, const struct kafka_metadata_request *in, struct kafka_string name,
                         answer_topic *out) {
    struct shard *s = request_shard(r);
    out->name = name;
    enum err e = OK;
    if (!routes_by_name(&s->routes, name.data, (size_t)name.size)) e = topic_auto_create(r, in, name);
    const struct topic_route *t = e == OK ? routes_by_name(&s->routes, name.data, (size_t)name.size) : NULL;
    if (t) {
        fill_topic(r, in, t, out);
    } else {
        out->error_code = request_error(r, e == OK ? ERR_UNKNOWN_TOPIC_OR_PARTITION : e);
        if (in->include_topic_authorized_operations) out->topic_authorized_operations = TOPIC_OPERATIONS;
    }
}

static void answer_one(struct request *r, const struct kafka_metadata_request *in,
                       const struct kafka_metadata_request_topic *want, answer_topic *out) {
    bool by_id = !kafka_uuid_is_zero(&want->topic_id) || want->name.size < 0;
    if (!by_id) {
        answer_named(r, in, want->name, out);
    } else if (request_version(r) < 12) { /* The fields are there from 10 on, and mean something from 12 on. */
        out->name = want->name.size < 0 ? kafka_string_of("") : want->name;
        out->topic_id = want->topic_id;
        out->error_code = request_error(r, ERR_INVALID_REQUEST);
    } else {
        const struct topic_route *t = routes_by_id(&request_shard(r)->routes, want->topic_id.bytes);
        out->name = (struct kafka_string){NULL, -1};
        out->topic_id = want->topic_id;
        if (t) {
            fill_topic(r, in, t, out);
        } else {
            out->error_code = request_error(r, ERR_UNKNOWN_TOPIC_ID);
        }
    }
}

/* With what it becomes on its way: hardly more than half of it. */
static size_t topic_bytes(const struct topic_route *t) {
    size_t partitions = (size_t)t->partition_count * sizeof(struct kafka_metadata_response_partition);
    return 2 * (sizeof(answer_topic) + t->name_size + partitions);
}

static void answer_all(struct request *r, const struct kafka_metadata_request *in,
                       struct kafka_metadata_response *out) {
    struct shard *s = request_shard(r);
    const struct topic_route *t;
    size_t bytes = 0, n = 0;
    for (size_t cursor = 0; (t = mapstr_next(&s->routes.by_id, &cursor, NULL, NULL)) != NULL;) bytes += topic_bytes(t);
    request_answer_make(r, bytes, false);
    size_t count = s->routes.by_id.count;
    out->topics.items = kafka_new(&kafka_metadata_response_topic_type, &r->arena, count);
    for (size_t cursor = 0; (t = mapstr_next(&s->routes.by_id, &cursor, NULL, NULL)) != NULL;)
        fill_topic(r, in, t, &out->topics.items[n++]);
    ASSERT(n == count);
    out->topics.count = (int32_t)n;
}

/* While the store does not tell whether another leads: what is known may as well be said, for it leads here and no further.
 * But that a topic does not exist is said by nobody who is not sure. */
static void answer_check(struct request *r, struct kafka_metadata_response *out) {
    if (request_stands(r)) return;
    for (int32_t i = 0; i < out->topics.count; i++) {
        int16_t *code = &out->topics.items[i].error_code;
        if (*code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION || *code == KAFKA_UNKNOWN_TOPIC_ID)
            *code = KAFKA_LEADER_NOT_AVAILABLE;
    }
}

enum request_outcome handle_metadata(struct request *r, const void *message, void *response) {
    const struct kafka_metadata_request *in = message;
    struct kafka_metadata_response *out = response;
    struct broker *b = request_shard(r)->broker;
    const struct config *c = b->config;
    out->brokers.items = kafka_new(&kafka_metadata_response_broker_type, &r->arena, 1);
    out->brokers.count = 1;
    out->brokers.items[0] = (struct kafka_metadata_response_broker){
        .node_id = c->node_id,
        .host = kafka_string_of(listener_host(r)),
        .port = listener_port(r),
        .rack = c->broker_rack[0] ? kafka_string_of(c->broker_rack) : (struct kafka_string){NULL, -1},
    };
    out->cluster_id = kafka_string_of(b->cluster_id);
    out->controller_id = c->node_id;
    if (in->include_cluster_authorized_operations) out->cluster_authorized_operations = CLUSTER_OPERATIONS;
    if (in->topics.count < 0 || (in->topics.count == 0 && request_version(r) == 0)) {
        answer_all(r, in, out);
        answer_check(r, out);
        return REQUEST_ANSWER;
    }
    out->topics.items = kafka_new(&kafka_metadata_response_topic_type, &r->arena, (size_t)in->topics.count);
    size_t before = r->arena.used_bytes;
    struct mapstr seen; /* A topic named a million times is answered once. */
    mapstr_init(&seen, b->env->mem);
    for (int32_t i = 0; i < in->topics.count; i++) {
        const struct kafka_metadata_request_topic *want = &in->topics.items[i];
        bool first = want->name.size >= 0 ? !mapstr_put(&seen, want->name.data, (size_t)want->name.size, out)
                                          : !mapstr_put(&seen, want->topic_id.bytes, sizeof(want->topic_id.bytes), out);
        if (!first) continue;
        answer_one(r, in, want, &out->topics.items[out->topics.count++]);
        request_answer_make(r, 2 * (r->arena.used_bytes - before), true);
    }
    mapstr_deinit(&seen);
    answer_check(r, out);
    return REQUEST_ANSWER;
}
