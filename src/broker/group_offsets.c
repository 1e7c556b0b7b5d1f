/* Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete. Which topics and partitions there are is looked up here;
 * the rest is coord/'s. Offsets are committed for a topic, not for its name: what a topic that is gone had committed is
 * not shown for the one that has its name now.
 *
 * Version 0 of OffsetCommit and OffsetFetch meant ZooKeeper. A Kafka without it refuses both with UNSUPPORTED_VERSION
 * for each partition, and so do we. */
#include <string.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/group_call.h"
#include "kafka/kafka_messages.h"

/* --- OffsetCommit. */

struct commit {
    const struct kafka_offset_commit_request *in;
    struct coord_commit what;
};

/* Whether this is the topic of that name, as far as the home shard has heard; a zero id is any. */
static bool topic_is(const struct group_call *call, struct kafka_string name, const struct kafka_uuid *id) {
    const struct topic_route *route = routes_by_name(&call->home->routes, name.data, (size_t)name.size);
    return route && (kafka_uuid_is_zero(id) || memcmp(id->bytes, route->id.bytes, sizeof(id->bytes)) == 0);
}

/* A commit for a topic that has been deleted meanwhile: the home shard hears of the deletion before its coordinators
 * forget the topic's offsets, so that none comes behind. */
static void commit_check_again(struct group_call *call, struct coord_commit *what) {
    for (size_t i = 0; i < what->item_count; i++) {
        struct coord_commit_item *item = &what->items[i];
        if (item->error == OK && !topic_is(call, item->topic, &item->topic_id))
            item->error = ERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
}

static void commit_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    struct commit *c = call->op;
    commit_check_again(call, &c->what);
    metric_add(call->home->env->metrics, M_OFFSET_COMMITS, 0, c->what.item_count);
    coord_commit_offsets(rules, now, &c->what, &call->reply);
}

static void commit_finish(struct group_calls *all) {
    struct kafka_offset_commit_response *out = all->response;
    struct group_call *call = &all->items[0];
    const struct commit *c = call->op;
    const struct kafka_offset_commit_request *in = c->in;
    struct arena *a = &all->r->arena;
    out->topics.items = kafka_new(&kafka_offset_commit_response_topic_type, a, (size_t)in->topics.count);
    out->topics.count = in->topics.count;
    const struct coord_commit_item *item = c->what.items;
    for (int32_t t = 0; t < in->topics.count; t++) {
        const struct kafka_offset_commit_request_topic *want = &in->topics.items[t];
        struct kafka_offset_commit_response_topic *topic = &out->topics.items[t];
        int32_t n = want->partitions.count;
        topic->name = want->name;
        topic->topic_id = want->topic_id;
        topic->partitions.items = kafka_new(&kafka_offset_commit_response_partition_type, a, (size_t)n);
        topic->partitions.count = n;
        for (int32_t p = 0; p < n; p++, item++) {
            bool told = item->error != OK && !(call->refused && kafka_error_accuses(item->error));
            enum err e = told || !call->refused ? item->error : call->reply.error;
            topic->partitions.items[p].partition_index = want->partitions.items[p].partition_index;
            topic->partitions.items[p].error_code = request_error(all->r, e);
        }
    }
}

/* The name is copied: it must outlive what the routes know now. */
static void commit_topic(struct request *r, const struct kafka_offset_commit_request_topic *want,
                         struct coord_commit_item *items) {
    const struct routes *routes = &request_shard(r)->routes;
    bool by_id = request_version(r) >= 10;
    const struct topic_route *route = by_id ? routes_by_id(routes, want->topic_id.bytes)
                                            : routes_by_name(routes, want->name.data, (size_t)want->name.size);
    struct kafka_string name = want->name;
    if (by_id && route)
        name = kafka_string_view(arena_strndup(&r->arena, route->name, route->name_size), route->name_size);
    struct kafka_uuid id = {{0}};
    if (route && !env_mutant(request_shard(r)->env, MUTANT_OFFSETS_BY_NAME)) id = uuid_to_kafka(&route->id);
    for (int32_t i = 0; i < want->partitions.count; i++) {
        const struct kafka_offset_commit_request_partition *p = &want->partitions.items[i];
        items[i] = (struct coord_commit_item){.topic = name,
                                              .partition = p->partition_index,
                                              .leader_epoch = p->committed_leader_epoch,
                                              .offset = p->committed_offset,
                                              .commit_timestamp_ms = p->commit_timestamp,
                                              .topic_id = id,
                                              .metadata = p->committed_metadata};
        if (request_version(r) == 0)
            items[i].error = ERR_UNSUPPORTED_VERSION;
        else if (!route && by_id)
            items[i].error = ERR_UNKNOWN_TOPIC_ID;
        else if (!route || p->partition_index < 0 || p->partition_index >= route->partition_count)
            items[i].error = ERR_UNKNOWN_TOPIC_OR_PARTITION;
    }
}

enum request_outcome handle_offset_commit(struct request *r, const void *message, void *response) {
    const struct kafka_offset_commit_request *in = message;
    size_t count = 0;
    for (int32_t t = 0; t < in->topics.count; t++) count += (size_t)in->topics.items[t].partitions.count;
    struct commit *c = ARENA_NEW(&r->arena, struct commit);
    *c = (struct commit){.in = in,
                         .what = {.group_id = in->group_id,
                                  .member_id = in->member_id,
                                  .group_instance_id = in->group_instance_id,
                                  .generation = in->generation_id_or_member_epoch,
                                  .retention_ms = in->retention_time_ms,
                                  .item_count = count}};
    c->what.items = ARENA_ARRAY(&r->arena, struct coord_commit_item, count);
    struct coord_commit_item *items = c->what.items;
    for (int32_t t = 0; t < in->topics.count; t++) {
        commit_topic(r, &in->topics.items[t], items);
        items += in->topics.items[t].partitions.count;
    }
    bool any = count == 0;
    for (size_t i = 0; i < count; i++) any |= c->what.items[i].error == OK;
    /* As Kafka: where no partition is left, the coordinator is not asked. */
    struct group_calls *all = group_calls_create(r, response, 1, commit_run, commit_finish);
    all->items[0].group = in->group_id;
    all->items[0].op = c;
    all->keeps_frame = true; /* what is committed */
    if (any) return group_calls_run(all);
    commit_finish(all);
    return REQUEST_ANSWER;
}

/* --- OffsetFetch. */

struct fetch_topic {
    struct kafka_string name; /* no data: the id is not known */
    struct kafka_uuid id;
    struct kafka_int32_array partitions;
};

struct fetch {
    struct coord_fetch what;
    struct fetch_topic *topics; /* as asked for; unless all */
    size_t topic_count;
};

/* Only of topics that are there, whether the rules have forgotten the others or not. */
static void fetch_check(const struct group_call *call, struct coord_fetch *what) {
    size_t kept = 0;
    for (size_t i = 0; i < what->item_count; i++) {
        struct coord_offset_item *item = &what->items[i];
        bool found = item->error == OK || item->error == ERR_OFFSET_METADATA_TOO_LARGE;
        bool hide = found && !topic_is(call, item->topic, &item->topic_id);
        if (hide && what->all) continue;
        if (hide) {
            item->error = OK;
            item->offset = item->leader_epoch = -1;
            item->metadata = kafka_string_of("");
        }
        what->items[kept++] = *item;
    }
    what->item_count = kept;
}

static void fetch_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    (void)now;
    struct fetch *f = call->op;
    call->reply.error = coord_fetch_offsets(rules, &f->what, &call->arena);
    if (call->reply.error == OK) fetch_check(call, &f->what);
    group_call_done(&call->reply);
}

/* Items for what was asked for, topic after topic. */
static void fetch_fill(struct request *r, struct fetch *f) {
    for (size_t t = 0; t < f->topic_count; t++) f->what.item_count += (size_t)f->topics[t].partitions.count;
    f->what.items = ARENA_ARRAY(&r->arena, struct coord_offset_item, f->what.item_count);
    struct coord_offset_item *item = f->what.items;
    for (size_t t = 0; t < f->topic_count; t++) {
        for (int32_t p = 0; p < f->topics[t].partitions.count; p++, item++) {
            *item = (struct coord_offset_item){.topic = f->topics[t].name,
                                               .topic_id = f->topics[t].id,
                                               .partition = f->topics[t].partitions.items[p],
                                               .leader_epoch = -1,
                                               .offset = -1};
            if (!f->topics[t].name.data) item->error = ERR_UNKNOWN_TOPIC_ID;
            if (request_version(r) == 0) item->error = ERR_UNSUPPORTED_VERSION;
        }
    }
}

/* All offsets of a group: topics from the items, which are sorted. Those that are gone have no id to be named by. */
static void fetch_group(struct request *r, struct fetch *f) {
    struct arena *a = &r->arena;
    const struct routes *routes = &request_shard(r)->routes;
    struct fetch_topic *topics = ARENA_ARRAY(a, struct fetch_topic, f->what.item_count);
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < f->what.item_count;) {
        size_t end = i;
        while (end < f->what.item_count && kafka_string_equal(f->what.items[end].topic, f->what.items[i].topic)) end++;
        struct kafka_string name = f->what.items[i].topic;
        const struct topic_route *route = routes_by_name(routes, name.data, (size_t)name.size);
        if (request_version(r) < 10 || route) {
            topics[n].name = name;
            if (route) topics[n].id = uuid_to_kafka(&route->id);
            topics[n++].partitions.count = (int32_t)(end - i);
            memmove(&f->what.items[kept], &f->what.items[i], (end - i) * sizeof(*f->what.items));
            kept += end - i;
        }
        i = end;
    }
    f->topics = topics;
    f->topic_count = n;
    f->what.item_count = kept;
}

static void tell_old(struct group_calls *all, const struct group_call *call, const struct fetch *f) {
    struct request *r = all->r;
    struct kafka_offset_fetch_response *out = all->response;
    enum err whole = call->reply.error;
    int16_t code = request_error(r, whole);
    if (request_version(r) >= 2) out->error_code = code;
    if (whole != OK && request_version(r) >= 2) return;
    out->topics.items = kafka_new(&kafka_offset_fetch_response_topic_type, &r->arena, f->topic_count);
    out->topics.count = (int32_t)f->topic_count;
    const struct coord_offset_item *item = f->what.items;
    for (size_t t = 0; t < f->topic_count; t++) {
        int32_t n = f->topics[t].partitions.count;
        struct kafka_offset_fetch_response_topic *topic = &out->topics.items[t];
        topic->name = f->topics[t].name;
        topic->partitions.items = kafka_new(&kafka_offset_fetch_response_partition_type, &r->arena, (size_t)n);
        topic->partitions.count = n;
        for (int32_t p = 0; p < n; p++, item++) {
            topic->partitions.items[p] = (struct kafka_offset_fetch_response_partition){
                .partition_index = item->partition,
                .committed_offset = whole == OK && item->error == OK ? item->offset : -1,
                .committed_leader_epoch = item->leader_epoch,
                .metadata = item->metadata.size > 0 ? item->metadata : kafka_string_of(""),
                .error_code = request_error(r, item->error == OK ? whole : item->error)};
        }
    }
}

static void tell_group(struct group_calls *all, const struct group_call *call, const struct fetch *f,
                       struct kafka_offset_fetch_response_group *g) {
    struct request *r = all->r;
    g->group_id = call->group;
    g->error_code = request_error(r, call->reply.error);
    if (call->reply.error != OK) return;
    g->topics.items = kafka_new(&kafka_offset_fetch_response_group_topic_type, &r->arena, f->topic_count);
    g->topics.count = (int32_t)f->topic_count;
    const struct coord_offset_item *item = f->what.items;
    for (size_t t = 0; t < f->topic_count; t++) {
        int32_t n = f->topics[t].partitions.count;
        struct kafka_offset_fetch_response_group_topic *topic = &g->topics.items[t];
        topic->name = f->topics[t].name;
        topic->topic_id = f->topics[t].id;
        topic->partitions.items =
            kafka_new(&kafka_offset_fetch_response_group_topic_partition_type, &r->arena, (size_t)n);
        topic->partitions.count = n;
        for (int32_t p = 0; p < n; p++, item++) {
            topic->partitions.items[p] = (struct kafka_offset_fetch_response_group_topic_partition){
                .partition_index = item->partition,
                .committed_offset = item->error == OK ? item->offset : -1,
                .committed_leader_epoch = item->leader_epoch,
                .metadata = item->metadata.size > 0 ? item->metadata : kafka_string_of(""),
                .error_code = request_error(r, item->error)};
        }
    }
}

static void fetch_finish(struct group_calls *all) {
    struct request *r = all->r;
    struct kafka_offset_fetch_response *out = all->response;
    if (request_version(r) >= 8) {
        out->groups.items = kafka_new(&kafka_offset_fetch_response_group_type, &r->arena, all->count);
        out->groups.count = (int32_t)all->count;
    }
    for (size_t i = 0; i < all->count; i++) {
        struct group_call *call = &all->items[i];
        struct fetch *f = call->op;
        if (f->what.all && call->reply.error == OK) fetch_group(r, f);
        if (request_version(r) < 8)
            tell_old(all, call, f);
        else
            tell_group(all, call, f, &out->groups.items[i]);
    }
}

static struct fetch *fetch_of_old(struct request *r, const struct kafka_offset_fetch_request *in) {
    struct fetch *f = ARENA_NEW(&r->arena, struct fetch);
    f->what.all = in->topics.count < 0;
    f->topic_count = f->what.all ? 0 : (size_t)in->topics.count;
    f->topics = ARENA_ARRAY(&r->arena, struct fetch_topic, f->topic_count);
    for (size_t t = 0; t < f->topic_count; t++) {
        f->topics[t].name = in->topics.items[t].name;
        f->topics[t].partitions = in->topics.items[t].partition_indexes;
    }
    return f;
}

static struct fetch *fetch_of_group(struct request *r, const struct kafka_offset_fetch_request_group *in) {
    struct fetch *f = ARENA_NEW(&r->arena, struct fetch);
    f->what.all = in->topics.count < 0;
    f->topic_count = f->what.all ? 0 : (size_t)in->topics.count;
    f->topics = ARENA_ARRAY(&r->arena, struct fetch_topic, f->topic_count);
    for (size_t t = 0; t < f->topic_count; t++) {
        const struct kafka_offset_fetch_request_group_topic *want = &in->topics.items[t];
        f->topics[t] =
            (struct fetch_topic){.name = want->name, .id = want->topic_id, .partitions = want->partition_indexes};
        if (request_version(r) < 10) continue;
        const struct topic_route *route = routes_by_id(&request_shard(r)->routes, want->topic_id.bytes);
        f->topics[t].name =
            route ? kafka_string_view(arena_strndup(&r->arena, route->name, route->name_size), route->name_size)
                  : (struct kafka_string){NULL, 0};
    }
    return f;
}

enum request_outcome handle_offset_fetch(struct request *r, const void *message, void *response) {
    const struct kafka_offset_fetch_request *in = message;
    bool old = request_version(r) < 8;
    size_t count = old ? 1 : (size_t)in->groups.count;
    struct group_calls *all = group_calls_create(r, response, count, fetch_run, fetch_finish);
    for (size_t i = 0; i < count; i++) {
        struct group_call *call = &all->items[i];
        struct fetch *f = old ? fetch_of_old(r, in) : fetch_of_group(r, &in->groups.items[i]);
        call->group = f->what.group_id = old ? in->group_id : in->groups.items[i].group_id;
        f->what.require_stable = in->require_stable;
        if (!f->what.all) fetch_fill(r, f);
        call->op = f;
    }
    return group_calls_run(all);
}

/* --- OffsetDelete. */

struct deletion {
    const struct kafka_offset_delete_request *in;
    struct coord_delete_item *items;
    size_t count;
};

static void offset_delete_run(struct group_call *call, struct coord *rules, struct coord_now now) {
    struct deletion *d = call->op;
    coord_delete_offsets(rules, now, call->group, d->items, d->count, &call->reply);
}

static void offset_delete_finish(struct group_calls *all) {
    struct request *r = all->r;
    struct kafka_offset_delete_response *out = all->response;
    const struct deletion *d = all->items[0].op;
    out->error_code = request_error(r, all->items[0].reply.error);
    if (out->error_code != 0) return;
    size_t topics = (size_t)d->in->topics.count;
    out->topics.items = kafka_new(&kafka_offset_delete_response_topic_type, &r->arena, topics);
    out->topics.count = d->in->topics.count;
    const struct coord_delete_item *item = d->items;
    for (size_t t = 0; t < topics; t++) {
        const struct kafka_offset_delete_request_topic *want = &d->in->topics.items[t];
        struct kafka_offset_delete_response_topic *topic = &out->topics.items[t];
        int32_t n = want->partitions.count;
        topic->name = want->name;
        topic->partitions.items = kafka_new(&kafka_offset_delete_response_partition_type, &r->arena, (size_t)n);
        topic->partitions.count = n;
        for (int32_t p = 0; p < n; p++, item++) {
            topic->partitions.items[p].partition_index = item->partition;
            topic->partitions.items[p].error_code = request_error(r, item->error);
        }
    }
}

enum request_outcome handle_offset_delete(struct request *r, const void *message, void *response) {
    const struct kafka_offset_delete_request *in = message;
    struct deletion *d = ARENA_NEW(&r->arena, struct deletion);
    d->in = in;
    for (int32_t t = 0; t < in->topics.count; t++) d->count += (size_t)in->topics.items[t].partitions.count;
    d->items = ARENA_ARRAY(&r->arena, struct coord_delete_item, d->count);
    struct coord_delete_item *item = d->items;
    for (int32_t t = 0; t < in->topics.count; t++) {
        const struct kafka_offset_delete_request_topic *want = &in->topics.items[t];
        const struct topic_route *route =
            routes_by_name(&request_shard(r)->routes, want->name.data, (size_t)want->name.size);
        for (int32_t p = 0; p < want->partitions.count; p++, item++) {
            int32_t index = want->partitions.items[p].partition_index;
            *item = (struct coord_delete_item){.topic = want->name, .partition = index};
            if (!route || index < 0 || index >= route->partition_count) item->error = ERR_UNKNOWN_TOPIC_OR_PARTITION;
        }
    }
    struct group_calls *all = group_calls_create(r, response, 1, offset_delete_run, offset_delete_finish);
    all->items[0].group = in->group_id;
    all->items[0].op = d;
    all->keeps_frame = true;
    return group_calls_run(all);
}
