/* Consumer groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, DescribeGroups, ListGroups, DeleteGroups, and
 * FindCoordinator. What they mean is coord/'s business; here they are carried to it and back (group_call.h). */
#include <stdio.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/group_call.h"
#include "kafka/kafka_messages.h"

/* Bits of Kafka's AclOperation that apply to a group; without ACLs everybody may do everything. */
#define GROUP_OPERATIONS ((1 << 3) | (1 << 6) | (1 << 8))

/* What a member says, or a leader assigns, is kept in one record of the group. Larger ones could not be written; Kafka,
 * whose limit is the topic's max.message.bytes, answers the same. */
#define GROUP_REQUEST_MAX ((size_t)8 << 20)

/* --- FindCoordinator. There is one broker, so it is the coordinator of every group. */

enum { KEY_GROUP = 0, KEY_TRANSACTION = 1 };

struct found {
    enum err err;
    const char *why; /* NULL: none */
};

static struct found find_one(struct request *r, int8_t key_type) {
    /* As producer_id.c refuses transactions, for the same reason: this comes first, and would be retried in vain. */
    if (key_type == KEY_TRANSACTION)
        return (struct found){ERR_TRANSACTIONAL_ID_AUTHORIZATION, "this broker has no transaction coordinator"};
    if (key_type != KEY_GROUP) return (struct found){ERR_INVALID_REQUEST, "there are no coordinators of this kind"};
    struct topic_route *route;
    enum err e = offsets_topic_route(request_shard(r), &route);
    if (e != OK) return (struct found){e, "the topic of the group coordinators cannot be made now"};
    topic_route_unref(route);
    return (struct found){OK, NULL};
}

enum request_outcome handle_find_coordinator(struct request *r, const void *message, void *response) {
    const struct kafka_find_coordinator_request *in = message;
    struct kafka_find_coordinator_response *out = response;
    struct found f = find_one(r, in->key_type);
    int16_t code = request_error(r, f.err);
    int32_t node = f.err == OK ? request_shard(r)->broker->config->node_id : -1;
    int32_t port = f.err == OK ? listener_port(r) : -1;
    struct kafka_string host = kafka_string_of(f.err == OK ? listener_host(r) : "");
    if (request_version(r) < 4) {
        out->error_code = code;
        if (request_version(r) >= 1) out->error_message = kafka_string_of(f.why);
        out->node_id = node;
        out->host = host;
        out->port = port;
        return REQUEST_ANSWER;
    }
    int32_t count = in->coordinator_keys.count;
    out->coordinators.items = kafka_new(&kafka_find_coordinator_response_coordinator_type, &r->arena, (size_t)count);
    out->coordinators.count = count;
    for (int32_t i = 0; i < count; i++) {
        out->coordinators.items[i] =
            (struct kafka_find_coordinator_response_coordinator){.key = in->coordinator_keys.items[i],
                                                                 .node_id = node,
                                                                 .host = host,
                                                                 .port = port,
                                                                 .error_code = code,
                                                                 .error_message = kafka_string_of(f.why)};
    }
    return REQUEST_ANSWER;
}

/* --- Members. One call each. */

static const void *call_request(const struct group_call *call) {
    return call->op;
}

static enum request_outcome call_one(struct request *r, const void *in, void *out, struct kafka_string group,
                                     void (*run)(struct group_call *, struct coord *, struct coord_now),
                                     void (*finish)(struct group_calls *)) {
    struct group_calls *all = group_calls_create(r, out, 1, run, finish);
    all->items[0].group = group;
    all->items[0].op = (void *)(uintptr_t)in;
    return group_calls_run(all);
}

/* The error of the one call, counted. */
static int16_t call_error(struct group_calls *all) {
    return request_error(all->r, all->items[0].reply.error);
}

static void join_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    struct request *r = call->all->r;
    char host[sizeof(r->peer.host) + 1];
    int n = snprintf(host, sizeof(host), "/%s", r->peer.host); /* as Java prints an address */
    struct coord_client client = {
        .client_id = r->info.client_id, .host = kafka_string_view(host, (size_t)n), .api_version = request_version(r)};
    coord_join(rules, now, &client, call_request(call), &call->reply);
}

static void join_finish(struct group_calls *all) {
    struct group_call *call = &all->items[0];
    int16_t code = call_error(all);
    if (!call->refused) {
        all->response = call->reply.answer.join;
        return;
    }
    struct kafka_join_group_response *out = all->response;
    const struct kafka_join_group_request *in = call_request(call);
    out->error_code = code;
    /* What was asked is gone when the rules have taken their time. */
    out->member_id = call->reply.answer.join ? call->reply.answer.join->member_id : in->member_id;
    if (request_version(all->r) < 7) out->protocol_name = kafka_string_of(""); /* cannot be null */
}

enum request_outcome handle_join_group(struct request *r, const void *message, void *response) {
    const struct kafka_join_group_request *in = message;
    struct kafka_join_group_response *out = response;
    if (r->frame.size > GROUP_REQUEST_MAX) {
        out->error_code = KAFKA_UNKNOWN_SERVER_ERROR;
        out->member_id = in->member_id;
        if (request_version(r) < 7) out->protocol_name = kafka_string_of("");
        return REQUEST_ANSWER;
    }
    return call_one(r, in, response, in->group_id, join_run, join_finish);
}

static void sync_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    coord_sync(rules, now, request_version(call->all->r), call_request(call), &call->reply);
}

static void sync_finish(struct group_calls *all) {
    struct group_call *call = &all->items[0];
    int16_t code = call_error(all);
    if (call->refused) {
        ((struct kafka_sync_group_response *)all->response)->error_code = code;
    } else {
        all->response = call->reply.answer.sync;
    }
}

enum request_outcome handle_sync_group(struct request *r, const void *message, void *response) {
    const struct kafka_sync_group_request *in = message;
    if (r->frame.size > GROUP_REQUEST_MAX) {
        ((struct kafka_sync_group_response *)response)->error_code = KAFKA_UNKNOWN_SERVER_ERROR;
        return REQUEST_ANSWER;
    }
    return call_one(r, in, response, in->group_id, sync_run, sync_finish);
}

static void heartbeat_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    coord_heartbeat(rules, now, call_request(call), &call->reply);
}

static void heartbeat_finish(struct group_calls *all) {
    ((struct kafka_heartbeat_response *)all->response)->error_code = call_error(all);
}

enum request_outcome handle_heartbeat(struct request *r, const void *message, void *response) {
    const struct kafka_heartbeat_request *in = message;
    return call_one(r, in, response, in->group_id, heartbeat_run, heartbeat_finish);
}

static void leave_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    coord_leave(rules, now, request_version(call->all->r), call_request(call), &call->reply);
}

static void leave_finish(struct group_calls *all) {
    struct group_call *call = &all->items[0];
    int16_t code = call_error(all);
    if (call->refused) {
        ((struct kafka_leave_group_response *)all->response)->error_code = code;
    } else {
        all->response = call->reply.answer.leave;
    }
}

enum request_outcome handle_leave_group(struct request *r, const void *message, void *response) {
    const struct kafka_leave_group_request *in = message;
    return call_one(r, in, response, in->group_id, leave_run, leave_finish);
}

/* --- Looking at groups, and deleting them. */

static void describe_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    (void)now;
    coord_describe(rules, request_version(call->all->r), call->group, &call->reply);
}

static void describe_finish(struct group_calls *all) {
    struct kafka_describe_groups_response *out = all->response;
    const struct kafka_describe_groups_request *in = all->ctx;
    out->groups.items = kafka_new(&kafka_describe_groups_response_group_type, &all->r->arena, all->count);
    out->groups.count = (int32_t)all->count;
    for (size_t i = 0; i < all->count; i++) {
        struct group_call *call = &all->items[i];
        struct kafka_describe_groups_response_group *g = &out->groups.items[i];
        int16_t code = request_error(all->r, call->reply.error);
        if (call->refused) {
            g->error_code = code;
            g->group_id = call->group;
            g->group_state = kafka_string_of("");
        } else {
            *g = *call->reply.answer.describe;
        }
        if (in->include_authorized_operations && g->error_code == 0) g->authorized_operations = GROUP_OPERATIONS;
    }
}

enum request_outcome handle_describe_groups(struct request *r, const void *message, void *response) {
    const struct kafka_describe_groups_request *in = message;
    struct group_calls *all = group_calls_create(r, response, (size_t)in->groups.count, describe_run, describe_finish);
    all->ctx = (void *)(uintptr_t)in;
    all->keeps_frame = true; /* the names of the groups */
    for (size_t i = 0; i < all->count; i++) all->items[i].group = in->groups.items[i];
    return group_calls_run(all);
}

static void delete_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    coord_delete_group(rules, now, call->group, &call->reply);
}

static void delete_finish(struct group_calls *all) {
    struct kafka_delete_groups_response *out = all->response;
    out->results.items = kafka_new(&kafka_delete_groups_response_result_type, &all->r->arena, all->count);
    out->results.count = (int32_t)all->count;
    for (size_t i = 0; i < all->count; i++) {
        const struct group_call *call = &all->items[i];
        out->results.items[i].group_id = call->group;
        out->results.items[i].error_code = request_error(all->r, call->reply.error);
        if (call->reply.error != OK) continue;
        char group[300];
        log_quote(group, sizeof(group), call->group.data, (size_t)call->group.size);
        log_info(request_shard(all->r)->env->log, "group deleted", "group=%s by=client", group);
    }
}

enum request_outcome handle_delete_groups(struct request *r, const void *message, void *response) {
    const struct kafka_delete_groups_request *in = message;
    struct group_calls *all =
        group_calls_create(r, response, (size_t)in->groups_names.count, delete_run, delete_finish);
    all->keeps_frame = true;
    for (size_t i = 0; i < all->count; i++) all->items[i].group = in->groups_names.items[i];
    return group_calls_run(all);
}

/* --- ListGroups: every coordinator is asked. */

struct listing {
    struct request *r;
    const struct kafka_list_groups_request *in;
    struct shard *shard;
    struct kafka_list_groups_response_group *items;
    size_t count, capacity;
    enum err err;
};

static void list_one(void *ctx, struct coordinator *c) {
    struct listing *l = ctx;
    struct kafka_list_groups_response_group_array some = {0};
    enum err e = coord_list(coordinator_rules(c), &l->in->states_filter, &l->in->types_filter, &some, &l->r->arena);
    if (e != OK) l->err = e;
    for (int32_t i = 0; e == OK && i < some.count; i++) {
        l->items = mem_grow(l->shard->env->mem, l->items, l->count, &l->capacity, sizeof(*l->items));
        l->items[l->count++] = some.items[i];
    }
}

static void list_there(void *arg) {
    struct listing *l = arg;
    enum err e = coordinators_load(l->shard);
    if (e != OK && l->err == OK) l->err = e;
    coordinators_each(l->shard, list_one, l);
}

enum request_outcome handle_list_groups(struct request *r, const void *message, void *response) {
    struct kafka_list_groups_response *out = response;
    struct broker *b = request_shard(r)->broker;
    struct listing l = {.r = r, .in = message};
    /* One takes a third of what it is counted as, at most, until all of it is on its way. */
    request_answer_make(r, (size_t)memory_used_bytes(b->env->metrics, MEMORY_GROUPS) / 2, false);
    for (unsigned i = 0; i < b->shard_count; i++) {
        l.shard = &b->shards[i];
        loop_call(l.shard->loop, list_there, &l);
    }
    out->error_code = request_error(r, l.err);
    if (l.count > 0) {
        out->groups.items = arena_copy(&r->arena, l.items, l.count * sizeof(*l.items));
        out->groups.count = (int32_t)l.count;
    }
    mem_free(b->env->mem, l.items);
    return REQUEST_ANSWER;
}
