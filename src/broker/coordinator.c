#include "broker/coordinator.h"

#include <inttypes.h>

#include "base/assert.h"
#include "base/format.h"
#include "broker/broker_priv.h"
#include "kafka/batch.h"

#define COORDINATOR_MAGIC 0xc0027d01u
/* How long a request waits for a coordinator that is being loaded before it is told so. */
#define LOAD_PATIENCE_NS (2 * NS_PER_S)
/* How long a stop waits for pending writes. */
#define STOP_PATIENCE_NS (5 * NS_PER_S)
#define COUNT_EVERY_NS (200 * NS_PER_MS)
#define NEWER_EVERY_MS 10000
#define CROWDED_EVERY_MS 60000
/* Of keys and values in one batch; a larger record has one of its own. */
#define BATCH_BYTES ((size_t)1 << 20)

enum coordinator_state {
    COORDINATOR_LOADING,
    COORDINATOR_ACTIVE,
    COORDINATOR_ENDING /* the rules have answered everything; its fibers end, then it goes */
};

/* A batch on its way. */
struct outgoing {
    struct list node;
    uint64_t sequence;   /* of the rules */
    bool last;           /* of the batches that this sequence became */
    uint64_t end_offset; /* once appended */
    struct buf bytes;    /* until then */
};

struct coordinator {
    unsigned magic;
    struct shard *shard;
    struct stream_id stream;
    int32_t epoch, index;
    enum coordinator_state state;
    struct topic_route *route; /* a reference, while loading */
    struct slot *slot;         /* holds the partition open */
    struct coord *rules;
    struct waitq changed; /* loaded, or gone: who waits looks it up again */
    struct list unwritten, unconfirmed;
    bool writing, confirming; /* a fiber is at it */
    struct waitq quiet;       /* something was confirmed, or a fiber has ended */
    struct timer due, count;
    struct coord_counts counted; /* as the metrics have them */
    size_t bytes_counted;        /* the same */
};

static void write_main(void *arg);
static void confirm_main(void *arg);

struct coord *coordinator_rules(struct coordinator *c) {
    CHECK_OBJ(c, COORDINATOR_MAGIC);
    return c->rules;
}

struct coord_now coordinator_now(const struct coordinator *c) {
    struct env *env = c->shard->env;
    return (struct coord_now){(int64_t)(env_now_ns(env) / NS_PER_MS), env_wall_ms(env)};
}

/* --- Counting. */

static void count_as(struct coordinator *c, const struct coord_counts *now) {
    struct metrics *m = c->shard->env->metrics;
    const struct coord_counts *was = &c->counted;
    static const enum metric_gauge by_state[5] = {M_GROUPS_EMPTY, M_GROUPS_PREPARING, M_GROUPS_COMPLETING,
                                                  M_GROUPS_STABLE, M_GROUPS_DEAD};
    for (size_t i = 0; i < ARRAY_LEN(by_state); i++)
        metric_gauge_add(m, by_state[i], (int64_t)now->by_state[i] - (int64_t)was->by_state[i]);
    metric_gauge_add(m, M_GROUP_MEMBERS, (int64_t)now->members - (int64_t)was->members);
    metric_gauge_add(m, M_GROUP_OFFSETS, (int64_t)now->offsets - (int64_t)was->offsets);
    c->counted = *now;
}

/* With every call: what is refused follows from it. */
static void count_bytes(struct coordinator *c, size_t now) {
    if (now == c->bytes_counted) return;
    metric_gauge_add(c->shard->env->metrics, M_GROUP_BYTES, (int64_t)now - (int64_t)c->bytes_counted);
    c->bytes_counted = now;
}

static bool rules_crowded(void *ctx) {
    const struct coordinator *c = ctx;
    struct shard *s = c->shard;
    if (!memory_is_over(s->env->metrics, MEMORY_GROUPS)) return false;
    if (log_due(&s->crowded_said_ms, (int64_t)(env_now_ns(s->env) / NS_PER_MS), CROWDED_EVERY_MS))
        log_warn(s->env->log,
                 "new members of groups and new committed offsets are refused: their share of state.bytes is used up",
                 "bytes=%" PRId64, memory_used_bytes(s->env->metrics, MEMORY_GROUPS));
    return true;
}

/* Now and then, for it walks all groups. */
static void count_fired(struct timer *t) {
    struct coordinator *c = CONTAINER_OF(t, struct coordinator, count);
    CHECK_OBJ(c, COORDINATOR_MAGIC);
    struct coord_counts now;
    coord_counts(c->rules, &now);
    count_as(c, &now);
}

/* --- Between the rules and the partition. */

/* Of records [first, end). */
static struct outgoing *outgoing_create(struct coordinator *c, const struct coord_effects *e, size_t first,
                                        size_t end) {
    struct mem *m = c->shard->env->mem;
    struct outgoing *o = MEM_NEW(m, struct outgoing);
    o->sequence = e->sequence;
    o->last = end == e->count;
    buf_init(&o->bytes, m);
    struct batch_options options = BATCH_OPTIONS_DEFAULT;
    options.partition_leader_epoch = c->epoch;
    struct batch_builder builder;
    batch_builder_init(&builder, m, &options);
    int64_t now_ms = env_wall_ms(c->shard->env);
    for (size_t i = first; i < end; i++) {
        const struct coord_record *r = &e->records[i];
        batch_builder_add(&builder, now_ms, r->key, r->key_size, r->value, r->value_size, NULL, 0);
    }
    enum err err = batch_builder_finish(&builder, &o->bytes);
    ASSERT(err == OK);
    batch_builder_deinit(&builder);
    metric_add(c->shard->env->metrics, M_COORDINATOR_RECORDS, 0, end - first);
    return o;
}

/* What one call of the rules wants stored may be much, a topic's deletion for one: in batches that find room, of which
 * only the last confirms it. */
static void outgoing_push(struct coordinator *c, const struct coord_effects *e) {
    for (size_t first = 0, end; first < e->count; first = end) {
        size_t bytes = e->records[first].key_size + e->records[first].value_size;
        for (end = first + 1; end < e->count; end++) {
            bytes += e->records[end].key_size + e->records[end].value_size;
            if (bytes > BATCH_BYTES) break;
        }
        list_push_back(&c->unwritten, &outgoing_create(c, e, first, end)->node);
    }
}

static void outgoing_free(struct coordinator *c, struct outgoing *o) {
    buf_deinit(&o->bytes);
    mem_free(c->shard->env->mem, o);
}

static void outgoing_free_all(struct coordinator *c, struct list *l) {
    struct list *n;
    while ((n = list_pop_front(l)) != NULL) outgoing_free(c, LIST_ENTRY(n, struct outgoing, node));
}

static void due_fired(struct timer *t) {
    struct coordinator *c = CONTAINER_OF(t, struct coordinator, due);
    CHECK_OBJ(c, COORDINATOR_MAGIC);
    ASSERT(c->state == COORDINATOR_ACTIVE);
    coord_tick(c->rules, coordinator_now(c));
    coordinator_called(c);
}

static void set_timers(struct coordinator *c) {
    uint64_t now_ns = env_now_ns(c->shard->env);
    int64_t due_ms = coord_next_due(c->rules);
    if (due_ms == INT64_MAX) {
        timer_disarm(&c->due);
    } else {
        /* Never at once: the loop must go round. */
        uint64_t due_ns = due_ms > 0 ? (uint64_t)due_ms * NS_PER_MS : 0;
        timer_arm(&c->due, due_ns > now_ns ? due_ns : now_ns + NS_PER_MS);
    }
    if (!timer_armed(&c->count)) timer_arm(&c->count, now_ns + COUNT_EVERY_NS);
}

void coordinator_called(struct coordinator *c) {
    CHECK_OBJ(c, COORDINATOR_MAGIC);
    struct shard *s = c->shard;
    ASSERT(c->state == COORDINATOR_ACTIVE && s->loop == loop_current());
    struct coord_effects e;
    count_bytes(c, coord_bytes(c->rules));
    while (coord_effects_take(c->rules, &e)) {
        outgoing_push(c, &e);
        coord_effects_deinit(&e);
    }
    if (!list_empty(&c->unwritten) && !c->writing) {
        c->writing = true;
        fiber_spawn(s->loop, "coordinator write", write_main, c);
    }
    set_timers(c);
}

/* --- The end. */

/* Everything is answered; waits until the fibers have ended, gives the partition back. Suspends. Closes the partition
 * too, for its table was taken: who comes next needs it again. */
static void coordinator_close(struct coordinator *c) {
    struct shard *s = c->shard;
    ASSERT(c->state == COORDINATOR_ENDING);
    while (c->writing || c->confirming) waitq_wait(&c->quiet);
    timer_disarm(&c->due);
    timer_disarm(&c->count);
    static const struct coord_counts nothing;
    count_as(c, &nothing);
    count_bytes(c, 0);
    metric_gauge_add(s->env->metrics, M_COORDINATORS, -1);
    coord_destroy(c->rules);
    outgoing_free_all(c, &c->unwritten);
    outgoing_free_all(c, &c->unconfirmed);
    slot_release(c->slot);
    shard_close_stream(s, c->stream);
    void *was = map64_remove(&s->coordinators, c->stream.v);
    ASSERT(was == c);
    waitq_wake_all(&c->changed);
    waitq_wake_all(&c->quiet);
    c->magic = 0;
    mem_free(s->env->mem, c);
}

static void close_main(void *arg) {
    struct coordinator *c = arg;
    struct shard *s = c->shard;
    coordinator_close(c);
    waitgroup_done(&s->background);
}

static void coordinator_fail(struct coordinator *c, uint64_t sequence, enum err why) {
    if (c->state != COORDINATOR_ACTIVE) return;
    struct shard *s = c->shard;
    c->state = COORDINATOR_ENDING;
    timer_disarm(&c->due);
    log_error(s->env->log, "coordinator cannot write; it is loaded anew", "topic=%s partition=%d err=%s", OFFSETS_TOPIC,
              c->index, err_name(why));
    coord_write_failed(c->rules, sequence);
    waitgroup_add(&s->background);
    fiber_spawn(s->loop, "coordinator end", close_main, c);
}

/* --- Writing. Two fibers while there is something to do: batches are appended one after the other without waiting for
 * each other's durability, and confirmed in the same order. */

static void write_main(void *arg) {
    struct coordinator *c = arg;
    struct list *n;
    while (c->state == COORDINATOR_ACTIVE && (n = list_pop_front(&c->unwritten)) != NULL) {
        struct outgoing *o = LIST_ENTRY(n, struct outgoing, node);
        enum err e = partition_append_table(slot_partition(c->slot), o->bytes.data, o->bytes.size, &o->end_offset);
        if (e != OK) {
            coordinator_fail(c, o->sequence, e);
            outgoing_free(c, o);
            break;
        }
        buf_deinit(&o->bytes);
        list_push_back(&c->unconfirmed, &o->node);
        if (c->confirming) continue;
        c->confirming = true;
        fiber_spawn(c->shard->loop, "coordinator confirm", confirm_main, c);
    }
    c->writing = false;
    waitq_wake_all(&c->quiet);
}

static void confirm_main(void *arg) {
    struct coordinator *c = arg;
    while (c->state == COORDINATOR_ACTIVE && !list_empty(&c->unconfirmed)) {
        struct partition *p = slot_partition(c->slot);
        struct outgoing *first = LIST_ENTRY(c->unconfirmed.next, struct outgoing, node);
        uint64_t sequence = first->sequence;
        enum err e = partition_wait(p, first->end_offset);
        if (c->state != COORDINATOR_ACTIVE) break;
        if (e != OK) {
            coordinator_fail(c, sequence, e);
            break;
        }
        uint64_t durable = partition_high_watermark(p), confirmed = 0;
        while (!list_empty(&c->unconfirmed)) {
            struct outgoing *o = LIST_ENTRY(c->unconfirmed.next, struct outgoing, node);
            if (o->end_offset > durable) break;
            if (o->last) confirmed = o->sequence;
            list_remove(&o->node);
            outgoing_free(c, o);
        }
        if (confirmed > 0) {
            coord_durable(c->rules, coordinator_now(c), confirmed);
            coordinator_called(c);
        }
        waitq_wake_all(&c->quiet);
    }
    c->confirming = false;
    waitq_wake_all(&c->quiet);
}

static bool is_settled(const struct coordinator *c) {
    return !c->writing && !c->confirming && list_empty(&c->unwritten) && list_empty(&c->unconfirmed);
}

/* --- What an operator reads. */

static void rules_event(void *ctx, const struct coord_event *e) {
    struct coordinator *c = ctx;
    struct logger *log = c->shard->env->log;
    struct metrics *m = c->shard->env->metrics;
    char group[160], member[160], client[160], host[80], protocol[80];
    log_quote(group, sizeof(group), e->group.data, (size_t)e->group.size);
    log_quote(member, sizeof(member), e->member.data, (size_t)e->member.size);
    switch (e->kind) {
    case COORD_REBALANCE_BEGINS:
        metric_add(m, M_GROUP_REBALANCES, 0, 1);
        log_info(log, "group rebalances", "group=%s reason=\"%s\" generation=%d members=%zu", group, e->reason,
                 e->generation, e->members);
        break;
    case COORD_GENERATION_MADE:
        log_quote(protocol, sizeof(protocol), e->protocol.data, e->protocol.size > 0 ? (size_t)e->protocol.size : 0);
        log_info(log, "group has a new generation", "group=%s generation=%d members=%zu protocol=%s leader=%s", group,
                 e->generation, e->members, protocol, member);
        break;
    case COORD_MEMBER_EXPIRED:
        metric_add(m, M_GROUP_MEMBERS_EXPIRED, 0, 1);
        log_quote(client, sizeof(client), e->client_id.data, (size_t)e->client_id.size);
        log_quote(host, sizeof(host), e->host.data, (size_t)e->host.size);
        log_warn(log, "group member expired", "group=%s member=%s client=%s host=%s reason=\"%s\" generation=%d", group,
                 member, client, host, e->reason, e->generation);
        break;
    case COORD_GROUP_REMOVED:
        log_info(log, "group removed", "group=%s reason=\"%s\" generation=%d", group, e->reason, e->generation);
        break;
    }
}

/* --- Loading. */

static void rules_config(const struct config *c, struct coord_config *out) {
    coord_config_init(out);
    out->session_timeout_min_ms = c->group_min_session_timeout_ms;
    out->session_timeout_max_ms = c->group_max_session_timeout_ms;
    out->group_max_size = c->group_max_size;
    out->initial_rebalance_delay_ms = c->group_initial_rebalance_delay_ms;
    out->offset_metadata_max_bytes = c->offset_metadata_max_bytes;
    out->offsets_retention_ms = (int64_t)c->offsets_retention_minutes * 60 * 1000;
    out->offsets_check_interval_ms = c->offsets_retention_check_interval_ms;
}

/* Kafka: OffsetCommitKey. The topic of a committed offset's key; false for other keys. */
static bool key_topic(const char *key, size_t size, const char **topic, size_t *topic_size) {
    const uint8_t *k = (const uint8_t *)key;
    if (size < 4 || be16_get(k) > 1) return false;
    size_t group = be16_get(k + 2);
    if (size < 6 + group) return false;
    *topic_size = be16_get(k + 4 + group);
    *topic = key + 6 + group;
    return size >= 6 + group + *topic_size;
}

/* Tells the rules which topics there are: some went, or were made anew, while nobody could write it down. The routes are at
 * least as new as those by which anything in the table was committed. */
static void tell_topics(struct coordinator *c, const struct state_table *table) {
    struct shard *s = c->shard;
    struct mapstr topics;
    mapstr_init(&topics, s->env->mem);
    const char *key, *topic;
    size_t key_size, topic_size;
    for (size_t cursor = 0; state_table_next(table, &cursor, &key, &key_size) != NULL;) {
        if (key_topic(key, key_size, &topic, &topic_size)) mapstr_put(&topics, topic, topic_size, c);
    }
    for (size_t cursor = 0; mapstr_next(&topics, &cursor, &topic, &topic_size) != NULL;) {
        const struct topic_route *route = routes_by_name(&s->routes, topic, topic_size);
        struct kafka_uuid id = {{0}};
        if (route) id = uuid_to_kafka(&route->id);
        coord_topic_is(c->rules, coordinator_now(c), kafka_string_view(topic, topic_size), route ? &id : NULL);
    }
    mapstr_deinit(&topics);
}

/* For MUTANT_LOAD_LESS and MUTANT_FORGET_GROUPS. */
static bool is_left_out(const struct env *env, const struct state_table *table, const struct state_table_entry *e,
                        const char *key, size_t key_size) {
    /* Kafka: GroupMetadataKey. */
    if (env_mutant(env, MUTANT_FORGET_GROUPS)) return key_size > 1 && be16_get((const uint8_t *)key) == 2;
    const struct state_table_entry *other;
    for (size_t cursor = 0; (other = state_table_next(table, &cursor, &key, &key_size)) != NULL;) {
        if (other->offset > e->offset) return false;
    }
    return true;
}

/* A record that a newer program wrote may be a group's offsets: without it they would be begun anew. So the partition is not
 * served; said once in a while, for each request tries again. */
static void say_newer(struct coordinator *c, const struct state_table_entry *e, const char *key) {
    struct shard *s = c->shard;
    if (!log_due(&s->newer_said_ms, (int64_t)(env_now_ns(s->env) / NS_PER_MS), NEWER_EVERY_MS)) return;
    enum format f = be16_get((const uint8_t *)key) == 2 ? FORMAT_GROUP_VALUE : FORMAT_OFFSET_VALUE;
    format_newer(s->env->log, f, be16_get(e->value), "topic=%s partition=%d offset=%" PRIu64, OFFSETS_TOPIC, c->index,
                 e->offset);
}

static enum err load_rules(struct coordinator *c) {
    struct shard *s = c->shard;
    uint64_t began = env_now_ns(s->env), seed;
    struct coord_config config;
    rules_config(s->broker->config, &config);
    config.mutant = s->env->mutant;
    config.event = rules_event;
    config.event_ctx = c;
    config.crowded = rules_crowded;
    config.crowded_ctx = c;
    env_random(s->env, &seed, sizeof(seed));
    c->rules = coord_create(s->env->mem, &config, seed);
    struct state_table *table = partition_take_table(slot_partition(c->slot));
    const struct state_table_entry *e;
    const char *key;
    size_t key_size, left_out = 0;
    enum err newer = OK;
    bool spoil = env_mutant(s->env, MUTANT_LOAD_LESS) || env_mutant(s->env, MUTANT_FORGET_GROUPS);
    for (size_t cursor = 0; (e = state_table_next(table, &cursor, &key, &key_size)) != NULL;) {
        if (spoil && is_left_out(s->env, table, e, key, key_size)) continue;
        enum err err = coord_load(c->rules, key, key_size, e->value, (size_t)e->value_size);
        if (err == OK) continue;
        if (err == ERR_VERSION) {
            newer = err;
            say_newer(c, e, key);
            break;
        }
        if (left_out++ == 0)
            log_error(s->env->log, "a record of a coordinator cannot be read; it is left out",
                      "topic=%s partition=%d offset=%" PRIu64 " err=%s", OFFSETS_TOPIC, c->index, e->offset,
                      err_name(err));
    }
    if (newer != OK) {
        state_table_destroy(table);
        coord_destroy(c->rules);
        slot_release(c->slot);
        shard_close_stream(s, c->stream);
        return newer;
    }
    coord_loaded(c->rules, coordinator_now(c));
    c->state = COORDINATOR_ACTIVE;
    metric_gauge_add(s->env->metrics, M_COORDINATORS, 1);
    metric_add(s->env->metrics, M_COORDINATOR_LOADED_RECORDS, 0, state_table_count(table));
    tell_topics(c, table);
    struct coord_counts counts;
    coord_counts(c->rules, &counts);
    count_as(c, &counts);
    count_bytes(c, coord_bytes(c->rules));
    if (state_table_count(table) > 0)
        log_info(s->env->log, "coordinator loaded",
                 "topic=%s partition=%d records=%zu groups=%zu members=%zu offsets=%zu left_out=%zu ms=%" PRIu64,
                 OFFSETS_TOPIC, c->index, state_table_count(table), counts.groups, counts.members, counts.offsets,
                 left_out, (uint64_t)((env_now_ns(s->env) - began) / NS_PER_MS));
    state_table_destroy(table);
    coordinator_called(c);
    return OK;
}

static void load_main(void *arg) {
    struct coordinator *c = arg;
    struct shard *s = c->shard;
    enum err e = shard_acquire(s, c->route, c->index, &c->slot);
    topic_route_unref(c->route);
    c->route = NULL;
    if (e == OK) e = load_rules(c);
    if (e == OK) {
        waitq_wake_all(&c->changed);
        if (s->stopping) {
            c->state = COORDINATOR_ENDING;
            timer_disarm(&c->due);
            coord_unload(c->rules);
        }
    } else {
        if (e != ERR_VERSION)
            log_error(s->env->log, "coordinator cannot be loaded", "topic=%s partition=%d err=%s", OFFSETS_TOPIC,
                      c->index, err_name(e));
        map64_remove(&s->coordinators, c->stream.v);
        waitq_wake_all(&c->changed);
        c->magic = 0;
        mem_free(s->env->mem, c);
    }
    waitgroup_done(&s->background);
}

static void coordinator_load(struct shard *s, const struct topic_route *t, int32_t index) {
    struct coordinator *c = MEM_NEW(s->env->mem, struct coordinator);
    INIT_OBJ(c, COORDINATOR_MAGIC);
    c->shard = s;
    c->stream = t->partitions[index].stream;
    c->epoch = t->partitions[index].leader_epoch;
    c->index = index;
    c->route = topic_route_ref((struct topic_route *)(uintptr_t)t);
    waitq_init(&c->changed);
    waitq_init(&c->quiet);
    list_init(&c->unwritten);
    list_init(&c->unconfirmed);
    timer_init(&c->due, due_fired);
    timer_init(&c->count, count_fired);
    (void)map64_put(&s->coordinators, c->stream.v, c);
    waitgroup_add(&s->background);
    fiber_spawn(s->loop, "coordinator load", load_main, c);
}

enum err coordinator_acquire(struct shard *s, const struct topic_route *t, int32_t index, struct coordinator **out) {
    CHECK_OBJ(t, TOPIC_ROUTE_MAGIC);
    ASSERT(index >= 0 && index < t->partition_count && t->partitions[index].shard == s->index);
    uint64_t deadline = env_now_ns(s->env) + LOAD_PATIENCE_NS;
    bool tried = false;
    while (!s->stopping) {
        struct coordinator *c = map64_get(&s->coordinators, t->partitions[index].stream.v);
        if (!c) {
            if (tried) return ERR_COORDINATOR_NOT_AVAILABLE;
            tried = true;
            coordinator_load(s, t, index);
            continue;
        }
        CHECK_OBJ(c, COORDINATOR_MAGIC);
        if (c->state == COORDINATOR_ACTIVE) {
            /* Another tenure than the one it was loaded in: nothing that it knows may be believed. */
            if (c->epoch != t->partitions[index].leader_epoch) return ERR_NOT_COORDINATOR;
            *out = c;
            return OK;
        }
        if (!waitq_wait_until(&c->changed, deadline)) return ERR_COORDINATOR_LOAD_IN_PROGRESS;
    }
    return ERR_NOT_COORDINATOR;
}

/* --- All of a shard. */

enum err coordinators_load(struct shard *s) {
    struct topic_route *t = routes_by_name(&s->routes, OFFSETS_TOPIC, strlen(OFFSETS_TOPIC));
    if (!t) return OK;
    topic_route_ref(t);
    enum err first = OK;
    for (int32_t i = 0; i < t->partition_count; i++) {
        struct coordinator *c;
        if (t->partitions[i].shard != s->index) continue;
        enum err e = coordinator_acquire(s, t, i, &c);
        if (first == OK) first = e;
    }
    topic_route_unref(t);
    return first;
}

void coordinators_each(struct shard *s, void (*fn)(void *ctx, struct coordinator *c), void *ctx) {
    struct coordinator *c;
    for (size_t cursor = 0; (c = map64_next(&s->coordinators, &cursor, NULL)) != NULL;) {
        if (c->state == COORDINATOR_ACTIVE) fn(ctx, c);
    }
}

/* Their streams: who suspends in between looks each up again. */
static size_t list_streams(struct shard *s, uint64_t **out) {
    size_t n = 0;
    *out = mem_alloc(s->env->mem, (s->coordinators.count + 1) * sizeof(**out));
    uint64_t key;
    for (size_t cursor = 0; map64_next(&s->coordinators, &cursor, &key) != NULL;) (*out)[n++] = key;
    return n;
}

/* Waits until what is on its way to the partition is durable, or the time has come. */
static void settle(struct shard *s, uint64_t stream, uint64_t deadline_ns) {
    struct coordinator *c;
    while ((c = map64_get(&s->coordinators, stream)) != NULL && c->state == COORDINATOR_ACTIVE && !is_settled(c)) {
        if (!waitq_wait_until(&c->quiet, deadline_ns)) return;
    }
}

static void topic_deleted(void *ctx, struct coordinator *c) {
    const struct topic_route *t = ctx;
    struct kafka_uuid id = uuid_to_kafka(&t->id);
    coord_topic_deleted(c->rules, coordinator_now(c), kafka_string_view(t->name, t->name_size), &id);
    coordinator_called(c);
}

void coordinators_topic_deleted(struct shard *s, const struct topic_route *t) {
    CHECK_OBJ(t, TOPIC_ROUTE_MAGIC);
    if (env_mutant(s->env, MUTANT_OFFSETS_BY_NAME)) return;
    coordinators_each(s, topic_deleted, (void *)(uintptr_t)t);
}

void coordinators_stop(struct shard *s) {
    ASSERT(s->stopping);
    uint64_t *streams, deadline = env_now_ns(s->env) + STOP_PATIENCE_NS;
    size_t count = list_streams(s, &streams);
    for (size_t i = 0; i < count; i++) {
        settle(s, streams[i], deadline);
        struct coordinator *c = map64_get(&s->coordinators, streams[i]);
        if (!c || c->state != COORDINATOR_ACTIVE) continue;
        c->state = COORDINATOR_ENDING;
        timer_disarm(&c->due);
        coord_unload(c->rules);
    }
    mem_free(s->env->mem, streams);
}

void coordinators_close(struct shard *s) {
    ASSERT(s->stopping);
    for (;;) {
        size_t cursor = 0;
        struct coordinator *c = map64_next(&s->coordinators, &cursor, NULL);
        if (!c) break;
        coordinator_close(c); /* shard's background fibers have ended: none is loading, none is being closed */
    }
}
