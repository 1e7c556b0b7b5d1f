#include "broker/shard.h"

#include <inttypes.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/memory.h"

#define SLOT_MAGIC 0x5107a001u
#define OPEN_COMPLAIN_EVERY_MS 1000

enum slot_state { SLOT_OPENING, SLOT_OPEN, SLOT_CLOSING };

struct slot {
    unsigned magic;
    struct shard *shard;
    struct stream_id stream;
    enum slot_state state;
    struct partition *partition;
    unsigned users; /* that hold it open */
    bool doomed;    /* close it as soon as it is open */
    struct waitq changed;
    struct topic_route *route; /* as of the last change; a reference */
    int32_t index;
};

struct partition *slot_partition(const struct slot *slot) {
    CHECK_OBJ(slot, SLOT_MAGIC);
    return slot->partition;
}

static void retain_fired(struct timer *t);
static bool office_known(void *shard, uint64_t after_ns);
static enum err confirm_office(void *shard, uint64_t after_ns);

void broker_shard_init(struct shard *s, struct broker *b, unsigned index, struct loop *loop) {
    INIT_OBJ(s, SHARD_MAGIC);
    s->index = index;
    s->broker = b;
    s->env = b->env;
    s->loop = loop;
    routes_init(&s->routes, b->env->mem);
    map64_init(&s->slots, b->env->mem);
    map64_init(&s->coordinators, b->env->mem);
    waitgroup_init(&s->background);
    timer_init(&s->retain, retain_fired);
    uint64_t seed;
    env_random(b->env, &seed, sizeof(seed));
    const struct config *c = b->config;
    int64_t limits[MEMORY_BUDGETS];
    (void)memory_limits(c, b->shard_count, limits);
    fetch_sessions_init(&s->sessions, b->env->mem, b->env->metrics,
                        (size_t)c->max_incremental_fetch_session_cache_slots / b->shard_count,
                        (size_t)limits[MEMORY_SESSIONS] / b->shard_count, index, b->shard_count, seed);
    uint64_t budget = (uint64_t)c->queued_max_request_bytes / b->shard_count;
    /* As much again as requests themselves may take: half of it for those under way, half for what comes of them. */
    conversions_init(&s->conversions, b->env, budget / 2);
    conns_init(&s->conns,
               &(struct conns_options){
                   .env = b->env,
                   .loop = loop,
                   .apis = api_table,
                   .api_count = api_table_count,
                   .shard = s,
                   .office_known = office_known,
                   .confirm_office = confirm_office,
                   .quota = &b->quota,
                   .budget_bytes = budget > (1u << 20) ? budget : 1u << 20,
                   .answer_bytes = (uint64_t)c->queued_max_response_bytes / b->shard_count,
                   .max_frame_bytes = (size_t)c->socket_request_max_bytes,
                   .idle_ns = c->connections_max_idle_ms > 0 ? (uint64_t)c->connections_max_idle_ms * NS_PER_MS : 0,
               });
}

/* --- Clients. */

static bool office_known(void *shard, uint64_t after_ns) {
    const struct shard *s = shard;
    return broker_office_known(s->broker, after_ns);
}

static enum err confirm_office(void *shard, uint64_t after_ns) {
    const struct shard *s = shard;
    return broker_confirm_office(s->broker, after_ns);
}

static void shard_accepted(void *ctx, struct env_conn *sock) {
    struct shard_listener *l = ctx;
    conns_accept(&l->shard->conns, sock, l->listener);
}

enum err shard_listen(struct shard *s, bool reuse_port, const char **which) {
    struct broker *b = s->broker;
    ASSERT(b->listener_count <= SHARD_LISTENERS_MAX);
    for (size_t i = 0; i < b->listener_count; i++) {
        struct listener *l = &b->listeners[i];
        struct shard_listener *sl = &s->listeners[i];
        *sl = (struct shard_listener){.shard = s, .listener = l};
        struct env_address bound;
        enum err e = env_listen(s->env, l->host, l->port, reuse_port, shard_accepted, sl, &sl->handle, &bound);
        if (e != OK) {
            *which = l->name;
            return e;
        }
        s->listener_count = i + 1;
        if (s->index == 0) l->port = bound.port;
        if (l->advertised_port == 0) l->advertised_port = bound.port;
    }
    return OK;
}

void shard_close_clients(struct shard *s, uint64_t limit_ns) {
    s->stopping = true;
    for (size_t i = 0; i < s->listener_count; i++) env_listener_close(s->env, s->listeners[i].handle);
    s->listener_count = 0;
    coordinators_stop(s); /* or those who wait for a group would hold the drain up */
    conns_drain(&s->conns, limit_ns);
}

/* --- Partitions. */

static void slot_free(struct slot *slot) {
    ASSERT(slot->users == 0 && waitq_empty(&slot->changed));
    topic_route_unref(slot->route);
    slot->magic = 0;
    mem_free(slot->shard->env->mem, slot);
}

void slot_release(struct slot *slot) {
    CHECK_OBJ(slot, SLOT_MAGIC);
    ASSERT(slot->users > 0);
    if (--slot->users == 0) waitq_wake_all(&slot->changed);
}

/* Waits until nobody uses it, closes it, and frees it. */
static void slot_close(struct slot *slot) {
    struct shard *s = slot->shard;
    slot->state = SLOT_CLOSING;
    waitq_wake_all(&slot->changed);
    while (slot->users > 0) waitq_wait(&slot->changed);
    partition_close(slot->partition);
    metric_gauge_add(s->env->metrics, M_PARTITIONS, -1);
    metric_gauge_add(s->env->metrics, M_PARTITION_BYTES, -PARTITION_BYTES);
    void *was = map64_remove(&s->slots, slot->stream.v);
    ASSERT(was == slot);
    /* Those who waited for the end look it up again and find nothing. */
    waitq_wake_all(&slot->changed);
    slot_free(slot);
}

static enum err slot_open(struct slot *slot) {
    struct shard *s = slot->shard;
    struct topic_route *t = topic_route_ref(slot->route);
    struct partition_options o = {
        .streams = s->broker->streams,
        .env = s->env,
        .stream = slot->stream,
        .leader_epoch = t->partitions[slot->index].leader_epoch,
        .config = &t->config,
        .topic = t->name,
        .index = slot->index,
        .conversions = &s->conversions,
        .producer_id_expiration_ms = atomic_load(&s->broker->producer_expiration_ms),
    };
    enum err e = partition_open(&o, &slot->partition);
    if (e != OK && log_due(&s->open_complained, env_wall_ms(s->env), OPEN_COMPLAIN_EVERY_MS)) {
        log_error(s->env->log, "partition cannot be opened", "topic=%s partition=%d stream=%" PRIu64 " err=%s", t->name,
                  slot->index, slot->stream.v, err_name(e));
    }
    topic_route_unref(t);
    return e;
}

/* A new slot, opened by the calling fiber. Others wait for it meanwhile. */
static enum err shard_open_slot(struct shard *s, struct topic_route *t, int32_t index, struct slot **out) {
    struct slot *slot = MEM_NEW(s->env->mem, struct slot);
    INIT_OBJ(slot, SLOT_MAGIC);
    slot->shard = s;
    slot->stream = t->partitions[index].stream;
    slot->route = topic_route_ref(t);
    slot->index = index;
    slot->users = 1;
    waitq_init(&slot->changed);
    map64_put(&s->slots, slot->stream.v, slot);
    enum err e = slot_open(slot);
    if (e != OK) {
        map64_remove(&s->slots, slot->stream.v);
        waitq_wake_all(&slot->changed);
        slot->users = 0;
        slot_free(slot);
        return e;
    }
    slot->state = SLOT_OPEN;
    metric_gauge_add(s->env->metrics, M_PARTITIONS, 1);
    metric_gauge_add(s->env->metrics, M_PARTITION_BYTES, PARTITION_BYTES);
    partition_configure(slot->partition, &slot->route->config); /* it may have changed meanwhile */
    partition_set_producer_expiration(slot->partition, atomic_load(&s->broker->producer_expiration_ms));
    waitq_wake_all(&slot->changed);
    *out = slot;
    return OK;
}

enum err shard_acquire(struct shard *s, const struct topic_route *t, int32_t index, struct slot **out) {
    CHECK_OBJ(s, SHARD_MAGIC);
    CHECK_OBJ(t, TOPIC_ROUTE_MAGIC);
    ASSERT(index >= 0 && index < t->partition_count && t->partitions[index].shard == s->index);
    struct stream_id stream = t->partitions[index].stream;
    for (;;) {
        struct slot *slot = map64_get(&s->slots, stream.v);
        if (!slot) {
            struct topic_route *now = routes_by_id(&s->routes, t->id.bytes);
            if (!now || index >= now->partition_count) return ERR_UNKNOWN_TOPIC_OR_PARTITION;
            return shard_open_slot(s, now, index, out);
        }
        if (slot->state == SLOT_OPEN && !slot->doomed) {
            slot->users++;
            *out = slot;
            return OK;
        }
        if (slot->state == SLOT_CLOSING || slot->doomed) return ERR_UNKNOWN_TOPIC_OR_PARTITION;
        waitq_wait(&slot->changed);
    }
}

struct slot *shard_acquire_open(struct shard *s, struct stream_id stream) {
    struct slot *slot = map64_get(&s->slots, stream.v);
    if (!slot || slot->state != SLOT_OPEN || slot->doomed) return NULL;
    slot->users++;
    return slot;
}

void shard_close_stream(struct shard *s, struct stream_id stream) {
    struct slot *slot;
    while ((slot = map64_get(&s->slots, stream.v)) != NULL) {
        slot->doomed = true;
        if (slot->state == SLOT_OPEN) {
            slot_close(slot);
            return;
        }
        waitq_wait(&slot->changed); /* opening, or another fiber closes it */
    }
}

void shard_close_partitions(struct shard *s) {
    ASSERT(s->stopping);
    timer_disarm(&s->retain);
    waitgroup_wait(&s->background);
    coordinators_close(s);
    /* From a list: each removal from the map that is being walked would have the walk begin anew. None is opened any
     * more, so that one round is enough. */
    size_t count = 0;
    uint64_t *streams = mem_alloc(s->env->mem, (s->slots.count + 1) * sizeof(*streams));
    for (size_t cursor = 0; map64_next(&s->slots, &cursor, &streams[count]) != NULL;) count++;
    for (size_t i = 0; i < count; i++) shard_close_stream(s, (struct stream_id){streams[i]});
    mem_free(s->env->mem, streams);
}

void broker_shard_deinit(struct shard *s) {
    ASSERT(s->slots.count == 0 && s->coordinators.count == 0);
    conns_deinit(&s->conns);
    fetch_sessions_deinit(&s->sessions);
    routes_deinit(&s->routes);
    map64_deinit(&s->slots);
    map64_deinit(&s->coordinators);
    s->magic = 0;
}

/* --- Changes of topics. */

void shard_topic_changed(struct shard *s, struct topic_route *t) {
    CHECK_OBJ(s, SHARD_MAGIC);
    for (int32_t i = 0; i < t->partition_count; i++) {
        if (t->partitions[i].shard != s->index) continue;
        struct slot *slot = map64_get(&s->slots, t->partitions[i].stream.v);
        if (!slot) continue;
        topic_route_unref(slot->route);
        slot->route = topic_route_ref(t);
        if (slot->state == SLOT_OPEN) partition_configure(slot->partition, &t->config);
    }
    routes_put(&s->routes, t);
}

void shard_set_producer_expiration(struct shard *s, int64_t ms) {
    CHECK_OBJ(s, SHARD_MAGIC);
    const struct slot *slot;
    for (size_t cursor = 0; (slot = map64_next(&s->slots, &cursor, NULL)) != NULL;) {
        if (slot->state == SLOT_OPEN) partition_set_producer_expiration(slot->partition, ms);
    }
}

void shard_topic_removed(struct shard *s, const struct uuid *id) {
    CHECK_OBJ(s, SHARD_MAGIC);
    struct topic_route *t = routes_by_id(&s->routes, id->bytes);
    if (!t) return;
    topic_route_ref(t);
    routes_remove(&s->routes, id);
    coordinators_topic_deleted(s, t);
    topic_route_unref(t);
}

/* --- Retention, and opening in the background. */

struct chore {
    struct topic_route *route;
    int32_t index;
};

/* All partitions of this shard, with a reference to their routes each: a walk that suspends cannot use the maps
 * themselves. */
static size_t shard_list_partitions(struct shard *s, struct chore **out) {
    size_t count = 0, capacity = 0;
    struct chore *list = NULL;
    struct topic_route *t;
    for (size_t cursor = 0; (t = mapstr_next(&s->routes.by_id, &cursor, NULL, NULL)) != NULL;) {
        for (int32_t i = 0; i < t->partition_count; i++) {
            if (t->partitions[i].shard != s->index) continue;
            list = mem_grow(s->env->mem, list, count, &capacity, sizeof(*list));
            list[count++] = (struct chore){topic_route_ref(t), i};
        }
    }
    *out = list;
    return count;
}

static void shard_visit_partitions(struct shard *s, bool retain) {
    struct chore *list;
    size_t count = shard_list_partitions(s, &list);
    for (size_t i = 0; i < count; i++) {
        struct slot *slot;
        if (!s->stopping && shard_acquire(s, list[i].route, list[i].index, &slot) == OK) {
            if (retain && !s->stopping) partition_retain(slot->partition, env_wall_ms(s->env));
            slot_release(slot);
        }
        topic_route_unref(list[i].route);
        fiber_yield();
    }
    mem_free(s->env->mem, list);
}

static void retain_arm(struct shard *s) {
    if (!s->stopping)
        timer_arm(&s->retain,
                  env_now_ns(s->env) + (uint64_t)s->broker->config->log_retention_check_interval_ms * NS_PER_MS);
}

static void retain_main(void *arg) {
    struct shard *s = arg;
    shard_visit_partitions(s, true);
    retain_arm(s);
    waitgroup_done(&s->background);
}

static void retain_fired(struct timer *t) {
    struct shard *s = CONTAINER_OF(t, struct shard, retain);
    waitgroup_add(&s->background);
    fiber_spawn(s->loop, "retention", retain_main, s);
}

static void warm_up_main(void *arg) {
    struct shard *s = arg;
    shard_visit_partitions(s, false);
    /* Sessions and offsets run out also where nobody asks. */
    enum err ignored = coordinators_load(s);
    (void)ignored;
    waitgroup_done(&s->background);
}

void shard_warm_up(struct shard *s) {
    retain_arm(s);
    waitgroup_add(&s->background);
    fiber_spawn(s->loop, "warm up", warm_up_main, s);
}

void shard_count_topics(struct shard *s, struct shard_topic_count **items, size_t *count, size_t *capacity) {
    struct mapstr seen;
    mapstr_init(&seen, s->env->mem);
    struct slot *slot;
    for (size_t cursor = 0; (slot = map64_next(&s->slots, &cursor, NULL)) != NULL;) {
        if (slot->state != SLOT_OPEN) continue;
        const struct topic_route *t = slot->route;
        size_t place = (size_t)(uintptr_t)mapstr_get(&seen, t->name, t->name_size);
        if (place == 0) {
            *items = mem_grow(s->env->mem, *items, *count, capacity, sizeof(**items));
            (*items)[(*count)++] = (struct shard_topic_count){.name = mem_strdup(s->env->mem, t->name)};
            place = *count;
            mapstr_put(&seen, t->name, t->name_size, (void *)(uintptr_t)place);
        }
        struct shard_topic_count *c = &(*items)[place - 1];
        const struct partition_counters *k = partition_counters(slot->partition);
        c->bytes_in += k->bytes_in;
        c->bytes_out += k->bytes_out;
        c->records_in += k->records_in;
        c->size_bytes += partition_size_bytes(slot->partition);
        c->partitions++;
    }
    mapstr_deinit(&seen);
}
