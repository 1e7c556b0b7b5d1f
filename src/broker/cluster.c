/* What the cluster looks like: DescribeCluster, DescribeTopicPartitions, DescribeLogDirs. From the shard's own routes;
 * only sizes are asked for where the partitions are. */
#include <stdlib.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/spread.h"
#include "kafka/kafka_messages.h"

/* --- DescribeCluster. */

/* Kafka protocol: DescribeCluster 1 and later. A broker knows brokers; only a controller's own listener would know
 * controllers. */
enum { ENDPOINT_BROKERS = 1, ENDPOINT_CONTROLLERS = 2 };

enum request_outcome handle_describe_cluster(struct request *r, const void *message, void *response) {
    const struct kafka_describe_cluster_request *in = message;
    struct kafka_describe_cluster_response *out = response;
    struct broker *b = request_shard(r)->broker;
    const struct config *c = b->config;
    if (in->endpoint_type != ENDPOINT_BROKERS) {
        bool known = in->endpoint_type == ENDPOINT_CONTROLLERS;
        out->error_code = known ? KAFKA_MISMATCHED_ENDPOINT_TYPE : KAFKA_UNSUPPORTED_ENDPOINT_TYPE;
        out->error_message = kafka_string_of(
            known ? "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                  : arena_printf(&r->arena, "Unsupported endpoint type %d", in->endpoint_type));
        return REQUEST_ANSWER;
    }
    out->cluster_id = kafka_string_of(b->cluster_id);
    out->controller_id = c->node_id;
    out->brokers.items = kafka_new(&kafka_describe_cluster_response_broker_type, &r->arena, 1);
    out->brokers.count = 1;
    out->brokers.items[0] = (struct kafka_describe_cluster_response_broker){
        .broker_id = c->node_id,
        .host = kafka_string_of(listener_host(r)),
        .port = listener_port(r),
        .rack = c->broker_rack[0] ? kafka_string_of(c->broker_rack) : (struct kafka_string){NULL, -1},
    };
    if (in->include_cluster_authorized_operations) out->cluster_authorized_operations = CLUSTER_OPERATIONS;
    return REQUEST_ANSWER;
}

/* --- DescribeTopicPartitions: pages of topics by name and partitions by number. */

#define PAGE_PARTITIONS_MAX 2000 /* Kafka: max.request.partition.size.limit */

struct page {
    struct request *r;
    struct kafka_string *names; /* sorted, each once */
    size_t count;
    int32_t left; /* partitions that the answer may still take */
    struct kafka_describe_topic_partitions_response *out;
};

static int name_order(const void *a, const void *b) {
    const struct kafka_string *x = a, *y = b;
    size_t n = (size_t)(x->size < y->size ? x->size : y->size);
    int order = n ? memcmp(x->data, y->data, n) : 0;
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

/* The names that the request is about, from the cursor's on. */
static void page_names(struct page *p, const struct kafka_describe_topic_partitions_request *in) {
    const struct routes *routes = &request_shard(p->r)->routes;
    bool all = in->topics.count <= 0;
    size_t count = all ? routes->by_id.count : (size_t)in->topics.count;
    struct kafka_string from = in->cursor ? in->cursor->topic_name : (struct kafka_string){"", 0};
    p->names = ARENA_ARRAY(&p->r->arena, struct kafka_string, count);
    const struct topic_route *t;
    size_t cursor = 0, n = 0;
    for (size_t i = 0; i < count; i++) {
        struct kafka_string name;
        if (all) {
            t = mapstr_next(&routes->by_id, &cursor, NULL, NULL);
            ASSERT(t);
            name = kafka_string_view(t->name, t->name_size);
        } else {
            name = in->topics.items[i].name;
        }
        if (name_order(&name, &from) >= 0) p->names[n++] = name;
    }
    qsort(p->names, n, sizeof(*p->names), name_order);
    for (size_t i = 0; i < n; i++) {
        if (p->count == 0 || !kafka_string_equal(p->names[p->count - 1], p->names[i]))
            p->names[p->count++] = p->names[i];
    }
}

static struct kafka_string name_copy(struct request *r, struct kafka_string s) {
    return kafka_string_view(arena_strndup(&r->arena, s.data, (size_t)s.size), (size_t)s.size);
}

static void page_next(struct page *p, struct kafka_string name, int32_t partition) {
    struct kafka_describe_topic_partitions_response_next_cursor *next =
        kafka_new(&kafka_describe_topic_partitions_response_next_cursor_type, &p->r->arena, 1);
    next->topic_name = name_copy(p->r, name);
    next->partition_index = partition;
    p->out->next_cursor = next;
}

/* The partitions from `first` on that the page has room for. False: that was not all. */
static bool page_topic(struct page *p, const struct topic_route *t, int32_t first,
                       struct kafka_describe_topic_partitions_response_topic *out) {
    struct request *r = p->r;
    out->topic_id = uuid_to_kafka(&t->id);
    out->is_internal = topic_is_internal(t->name, t->name_size);
    out->topic_authorized_operations = TOPIC_OPERATIONS;
    int32_t count = t->partition_count > first ? t->partition_count - first : 0;
    if (count > p->left) count = p->left;
    out->partitions.items =
        kafka_new(&kafka_describe_topic_partitions_response_partition_type, &r->arena, (size_t)count);
    out->partitions.count = count;
    int32_t *self = arena_alloc(&r->arena, sizeof(*self));
    *self = request_shard(r)->broker->config->node_id;
    for (int32_t i = 0; i < count; i++) {
        struct kafka_describe_topic_partitions_response_partition *q = &out->partitions.items[i];
        q->partition_index = first + i;
        q->leader_id = *self;
        q->leader_epoch = t->partitions[first + i].leader_epoch;
        q->replica_nodes = q->isr_nodes = (struct kafka_int32_array){self, 1};
        q->eligible_leader_replicas = q->last_known_elr = (struct kafka_int32_array){NULL, 0};
    }
    p->left -= count;
    return first + count >= t->partition_count;
}

/* Does the cursor stand where a page of this request can end? */
static bool cursor_fits(const struct kafka_describe_topic_partitions_request *in) {
    if (!in->cursor) return true;
    if (in->cursor->partition_index < 0) return false;
    for (int32_t i = 0; i < in->topics.count; i++) {
        if (kafka_string_equal(in->topics.items[i].name, in->cursor->topic_name)) return true;
    }
    return in->topics.count <= 0;
}

/* There is no place for an error of the request as a whole, so each topic has it. */
static void page_refuse(struct page *p, const struct kafka_describe_topic_partitions_request *in) {
    p->out->topics.items =
        kafka_new(&kafka_describe_topic_partitions_response_topic_type, &p->r->arena, (size_t)in->topics.count);
    p->out->topics.count = in->topics.count;
    for (int32_t i = 0; i < in->topics.count; i++) {
        p->out->topics.items[i].name = in->topics.items[i].name;
        p->out->topics.items[i].error_code = request_error(p->r, ERR_INVALID_REQUEST);
    }
}

/* While the store does not tell whether another leads: what is known is said, as Metadata says it; that a topic does not
 * exist is said by nobody who is not sure. */
static void page_check(struct page *p) {
    if (request_stands(p->r)) return;
    for (int32_t i = 0; i < p->out->topics.count; i++) {
        int16_t *code = &p->out->topics.items[i].error_code;
        if (*code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION) *code = KAFKA_LEADER_NOT_AVAILABLE;
    }
}

enum request_outcome handle_describe_topic_partitions(struct request *r, const void *message, void *response) {
    const struct kafka_describe_topic_partitions_request *in = message;
    struct page p = {.r = r, .out = response};
    if (!cursor_fits(in)) {
        page_refuse(&p, in);
        page_check(&p);
        return REQUEST_ANSWER;
    }
    p.left = in->response_partition_limit < PAGE_PARTITIONS_MAX ? in->response_partition_limit : PAGE_PARTITIONS_MAX;
    if (p.left < 1) p.left = 1;
    size_t names = request_shard(r)->routes.by_id.count * sizeof(struct kafka_string);
    request_answer_make(
        r, names + 2 * (size_t)p.left * sizeof(struct kafka_describe_topic_partitions_response_partition), false);
    page_names(&p, in);
    /* Each takes a place in the page, but for what is not there, and the cursor's when it stands behind the last. */
    size_t most = in->topics.count > 0 || p.count < (size_t)p.left + 2 ? p.count : (size_t)p.left + 2;
    p.out->topics.items = kafka_new(&kafka_describe_topic_partitions_response_topic_type, &r->arena, most);
    for (size_t i = 0; i < p.count; i++) {
        struct kafka_string name = p.names[i];
        bool resumed = in->cursor && kafka_string_equal(in->cursor->topic_name, name);
        int32_t first = resumed ? in->cursor->partition_index : 0;
        if (p.left == 0) {
            page_next(&p, name, first);
            break;
        }
        const struct topic_route *t = routes_by_name(&request_shard(r)->routes, name.data, (size_t)name.size);
        ASSERT((size_t)p.out->topics.count < most);
        struct kafka_describe_topic_partitions_response_topic *out = &p.out->topics.items[p.out->topics.count++];
        out->name = name_copy(r, name);
        if (!t) {
            bool valid = meta_topic_name_valid(name.data, (size_t)name.size);
            if (valid) out->topic_authorized_operations = TOPIC_OPERATIONS;
            out->error_code = request_error(r, valid ? ERR_UNKNOWN_TOPIC_OR_PARTITION : ERR_INVALID_TOPIC);
        } else if (!page_topic(&p, t, first, out)) {
            page_next(&p, name, first + out->partitions.count);
            break;
        }
    }
    page_check(&p);
    return REQUEST_ANSWER;
}

/* --- DescribeLogDirs. There is one: the object store, by its address. How much it could hold is not known. */

struct log_dir {
    struct request *r;
    struct spot *spots;
    struct kafka_describe_log_dirs_response_partition **out;
    size_t count, capacity;
};

static enum err size_one(void *ctx, size_t i, struct partition *p) {
    struct log_dir *d = ctx;
    d->out[i]->partition_size = (int64_t)partition_size_bytes(p);
    return OK;
}

/* The address without what follows its '?': an option may be nobody's business. */
static struct kafka_string log_dir_name(struct request *r) {
    const char *url = request_shard(r)->broker->config->storage_url;
    return kafka_string_of(arena_strndup(&r->arena, url, strcspn(url, "?")));
}

static void log_dir_topic(struct log_dir *d, struct topic_route *t, const int32_t *partitions, int32_t count,
                          struct kafka_describe_log_dirs_response_topic *out) {
    out->name = name_copy(d->r, kafka_string_view(t->name, t->name_size));
    out->partitions.items = kafka_new(&kafka_describe_log_dirs_response_partition_type, &d->r->arena, (size_t)count);
    for (int32_t i = 0; i < count; i++) {
        int32_t index = partitions ? partitions[i] : i;
        if (index < 0 || index >= t->partition_count) continue; /* as Kafka: what is not here is left out */
        ASSERT(d->count < d->capacity);
        d->spots[d->count] = (struct spot){.route = topic_route_ref(t), .index = index};
        d->out[d->count] = &out->partitions.items[out->partitions.count++];
        d->out[d->count++]->partition_index = index;
    }
}

static void log_dir_capacity(struct log_dir *d, size_t capacity) {
    d->capacity = capacity;
    d->spots = ARENA_ARRAY(&d->r->arena, struct spot, capacity);
    d->out = ARENA_ARRAY(&d->r->arena, struct kafka_describe_log_dirs_response_partition *, capacity);
}

/* What is asked, the answer, and that once more on its way. */
static size_t log_dir_bytes(const struct topic_route *t) {
    size_t each = sizeof(struct spot) + sizeof(void *) + 2 * sizeof(struct kafka_describe_log_dirs_response_partition);
    return (size_t)t->partition_count * each +
           2 * (sizeof(struct kafka_describe_log_dirs_response_topic) + t->name_size);
}

static void log_dir_all(struct log_dir *d, struct kafka_describe_log_dirs_response_result *result) {
    const struct routes *routes = &request_shard(d->r)->routes;
    struct topic_route *t;
    size_t partitions = 0, bytes = 0;
    for (size_t cursor = 0; (t = mapstr_next(&routes->by_id, &cursor, NULL, NULL)) != NULL;) bytes += log_dir_bytes(t);
    request_answer_make(d->r, bytes, false);
    for (size_t cursor = 0; (t = mapstr_next(&routes->by_id, &cursor, NULL, NULL)) != NULL;)
        partitions += (size_t)t->partition_count;
    log_dir_capacity(d, partitions);
    result->topics.items = kafka_new(&kafka_describe_log_dirs_response_topic_type, &d->r->arena, routes->by_id.count);
    for (size_t cursor = 0; (t = mapstr_next(&routes->by_id, &cursor, NULL, NULL)) != NULL;)
        log_dir_topic(d, t, NULL, t->partition_count, &result->topics.items[result->topics.count++]);
}

static void log_dir_wanted(struct log_dir *d, const struct kafka_describe_log_dirs_request *in,
                           struct kafka_describe_log_dirs_response_result *result) {
    size_t partitions = 0;
    for (int32_t i = 0; i < in->topics.count; i++) partitions += (size_t)in->topics.items[i].partitions.count;
    log_dir_capacity(d, partitions);
    result->topics.items =
        kafka_new(&kafka_describe_log_dirs_response_topic_type, &d->r->arena, (size_t)in->topics.count);
    for (int32_t i = 0; i < in->topics.count; i++) {
        const struct kafka_describe_log_dirs_request_topic *w = &in->topics.items[i];
        struct topic_route *t = routes_by_name(&request_shard(d->r)->routes, w->topic.data, (size_t)w->topic.size);
        if (!t) continue;
        struct kafka_describe_log_dirs_response_topic *out = &result->topics.items[result->topics.count];
        log_dir_topic(d, t, w->partitions.items, w->partitions.count, out);
        if (out->partitions.count > 0) result->topics.count++;
    }
}

enum request_outcome handle_describe_log_dirs(struct request *r, const void *message, void *response) {
    const struct kafka_describe_log_dirs_request *in = message;
    struct kafka_describe_log_dirs_response *out = response;
    struct log_dir d = {.r = r};
    out->results.items = kafka_new(&kafka_describe_log_dirs_response_result_type, &r->arena, 1);
    out->results.count = 1;
    struct kafka_describe_log_dirs_response_result *result = &out->results.items[0];
    result->log_dir = log_dir_name(r);
    if (in->topics.count < 0) {
        log_dir_all(&d, result);
    } else {
        log_dir_wanted(&d, in, result);
    }
    spots_run(r, "DescribeLogDirs", d.spots, d.count, size_one, &d);
    for (size_t i = 0; i < d.count; i++) {
        /* No place for an error: one that cannot be opened has a size that is not known. */
        if (d.spots[i].err != OK) d.out[i]->partition_size = -1;
    }
    spots_release(d.spots, d.count);
    return REQUEST_ANSWER;
}
