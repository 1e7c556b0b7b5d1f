#include "broker/group_call.h"

#include "base/assert.h"
#include "broker/broker_priv.h"

static void call_returned(struct mail *m);

struct group_calls *group_calls_create(struct request *r, void *response, size_t count,
                                       void (*run)(struct group_call *, struct coord *, struct coord_now),
                                       void (*finish)(struct group_calls *)) {
    struct group_calls *all = ARENA_NEW(&r->arena, struct group_calls);
    *all =
        (struct group_calls){.r = r, .response = response, .count = count, .open = count, .run = run, .finish = finish};
    all->items = ARENA_ARRAY(&r->arena, struct group_call, count);
    for (size_t i = 0; i < count; i++) {
        struct group_call *call = &all->items[i];
        call->all = all;
        arena_init(&call->arena, r->arena.mem);
        call->mail.deliver = call_returned;
        call->reply.arena = &call->arena;
        call->reply.done = group_call_done;
        call->reply.context = call;
        list_init(&call->reply.link);
    }
    return all;
}

/* The answer is filled in, and what it says is known to be so. */
static void all_answer(struct group_calls *all) {
    request_answer(all->r, all->response);
    for (size_t i = 0; i < all->count; i++) arena_deinit(&all->items[i].arena);
}

/* What the rules have said, what the answer is made of, and that once more on its way. */
static size_t call_bytes(const struct group_call *call) {
    return 3 * call->arena.used_bytes;
}

/* What came late cannot wait any more, but counts. */
static void all_fill(struct group_calls *all) {
    ASSERT(all->open == 0);
    size_t bytes = 0;
    for (size_t i = 0; i < all->count; i++) bytes += call_bytes(&all->items[i]);
    if (bytes > CONN_ANSWER_LEAST && !all->r->made) request_charge(all->r, bytes);
    all->finish(all);
}

/* Or it says nothing about the groups. Suspends. */
static void all_confirm(struct group_calls *all) {
    if (request_stands(all->r)) return;
    for (size_t i = 0; i < all->count; i++) {
        all->items[i].reply.error = ERR_COORDINATOR_NOT_AVAILABLE;
        all->items[i].refused = true;
    }
    all->response = kafka_new(all->r->info.api->response, &all->r->arena, 1);
    all->finish(all);
}

static void all_end(struct group_calls *all) {
    struct request *r = all->r;
    all_answer(all);
    request_release_frame(r);
    request_end(r);
}

static void confirm_main(void *arg) {
    struct group_calls *all = arg;
    all_confirm(all);
    all_end(all);
}

static void call_returned(struct mail *m) {
    struct group_call *call = CONTAINER_OF(m, struct group_call, mail);
    struct group_calls *all = call->all;
    ASSERT(!call->at_once && all->open > 0);
    if (--all->open > 0 || !all->waiting) return;
    all_fill(all);
    if (request_is_fresh(all->r)) {
        all_end(all);
    } else {
        fiber_spawn(request_shard(all->r)->loop, "freshness", confirm_main, all);
    }
}

void group_call_done(struct coord_reply *reply) {
    struct group_call *call = reply->context;
    ASSERT(loop_current() == call->home->loop);
    if (call->inside) {
        call->at_once = true;
        return;
    }
    loop_post(request_shard(call->all->r)->loop, &call->mail);
}

struct errand {
    struct group_call *call;
    struct topic_route *route;
    int32_t index;
};

static void call_there(void *arg) {
    struct errand *e = arg;
    struct group_call *call = e->call;
    struct coordinator *c;
    call->reply.error = coordinator_acquire(call->home, e->route, e->index, &c);
    if (call->reply.error != OK) {
        call->refused = call->at_once = true;
        return;
    }
    call->inside = true;
    call->all->run(call, coordinator_rules(c), coordinator_now(c));
    call->inside = false;
    coordinator_called(c);
}

static void woken(struct request *r, bool cancelled) {
    /* A client that has gone changes nothing for the group: its session ends in time. A broker that stops answers
     * through its coordinators. */
    (void)r;
    (void)cancelled;
}

enum request_outcome group_calls_run(struct group_calls *all) {
    struct request *r = all->r;
    struct shard *s = request_shard(r);
    struct topic_route *route = NULL;
    enum err e = all->count > 0 ? offsets_topic_route(s, &route) : OK;
    size_t bytes = 0;
    for (size_t i = 0; i < all->count; i++) {
        struct group_call *call = &all->items[i];
        if (e != OK) {
            call->reply.error = e;
            call->refused = call->at_once = true;
        } else {
            struct errand errand = {call, route, 0};
            size_t size = call->group.size > 0 ? (size_t)call->group.size : 0;
            errand.index = offsets_topic_partition(call->group.data, size, route->partition_count);
            call->home = &s->broker->shards[route->partitions[errand.index].shard];
            loop_call(call->home->loop, call_there, &errand);
        }
        /* What was answered at once; the rest comes by mail, perhaps before this line. */
        if (!call->at_once) continue;
        all->open--;
        /* What is too much for one answer is left out, but for a group's that is so large by itself. */
        bytes += call_bytes(call);
        if (e == OK && bytes > request_answer_most(r)) e = ERR_POLICY_VIOLATION;
        if (r->api->flags & API_LARGE) request_answer_make(r, bytes, true);
    }
    topic_route_unref(route);
    if (all->open == 0) {
        all_fill(all);
        all_confirm(all);
        all_answer(all);
        return REQUEST_ANSWER;
    }
    if (!all->keeps_frame) request_release_frame(r);
    all->waiting = true;
    request_wait(r, woken, all);
    return REQUEST_LATER;
}
