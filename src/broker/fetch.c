/* Fetch: reads record batches of many partitions, and waits for more where there are too few.
 *
 *   1. The session (fetch_session.h) says which partitions may have something; routes say where they live. They are put
 * into groups, one per shard.
 *   2. All groups read, in the order of the request: first what is in memory, then, several at once, what has to come
 * from the store.
 *   3. If that is less than min.bytes, and nothing went wrong, the bytes are dropped and the request lets go of its
 * fiber and its frame. It leaves a watch on every partition, a timer for max.wait, and its `wake`. Whichever comes
 * first starts a fiber that takes the watches off and reads again. What rests in a session needs no watch of the
 * request's: the session has one, and tells when there is news; then it says anew which partitions to read.
 *
 * Watches live on their partitions' shards. A group adds up there what is ready for it and, if it is not the request's
 * own shard, mails that there is news; the groups' sums are compared with min.bytes on the request's loop. Taking the
 * watches off is a loop_call to each group: when it returns, no more mail of the group can be under way, as mail from
 * one loop arrives in order. */
#include <limits.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/crew.h"
#include "kafka/kafka_messages.h"

#define STORE_READS_MAX 16u /* at once, for one request and shard */
#define ITEMS_A_TURN 256u   /* then others may run: a session may be of 100,000 partitions */
/* So long the store is asked for what fits into one answer; then what is there goes out. Many small objects on a slow
 * store would else take longer than clients wait, who would ask for the same again and never come on. (Kafka:
 * remote.fetch.max.wait.ms.) */
#define STORE_READS_NS (500 * NS_PER_MS)
#define CONVERTED_BYTES_MAX                                                                                            \
    ((size_t)16 << 20) /* the most that an answer in an old format carries: it is memory of its own */

struct fetch_item {
    const struct fetch_want *want;
    struct topic_route *route; /* a reference; NULL: err tells why */
    enum err err;
    bool busy;   /* has to come from the store */
    bool quiet;  /* read once, and its watch has told nothing since: not read again */
    bool rested; /* the session watches it */
    struct partition_fetched fetched;
    struct slices records; /* batches; for old versions one message set */
};

struct fetch_watch {
    struct partition_watch watch;
    struct fetch_group *group;
    struct fetch_item *item;
    struct stream_id stream;
    uint64_t offset, ready_bytes;
};

/* The items of one shard. */
struct fetch_group {
    struct fetch *fetch;
    struct shard *shard;
    struct fetch_item **items;
    size_t count;
    struct fetch_watch *watches;
    size_t watch_count;
    /* Written on the group's shard, read on the request's. */
    _Atomic uint64_t ready_bytes;
    _Atomic bool urgent; /* a partition has gone */
    _Atomic bool mailed;
    struct mail mail;
};

struct fetch {
    struct request *r;
    struct env *env;
    struct loop *loop;
    struct fetch_plan plan;
    struct fetch_item *items;
    struct fetch_group *groups;
    size_t group_count;
    size_t max_bytes, min_bytes;
    size_t granted_bytes; /* of the answers' budget */
    bool read_committed;
    int16_t version;
    /* Of one reading. Groups read one after another, so that these are touched by one loop at a time. */
    size_t bytes, budget;
    uint64_t store_until_ns; /* 0: nothing has to come from the store yet */
    /* Of the waiting. */
    struct timer timer;
    bool watching, triggered, cancelled, news;
};

/* --- Reading, on a partition's shard. */

/* Versions 0 and 1 know magic 0, versions 2 and 3 magic 1. */
static bool fetch_converts(const struct fetch *f) {
    return f->version < 4;
}

/* Before version 3 the limits are hard. A reader that asks for less than a message gets a part of it, by which it knows
 * (KIP-74). */
static bool fetch_is_hard(const struct fetch *f) {
    return f->version < 3;
}

/* What can be said before anything is read. */
static enum err item_check_format(const struct fetch *f, const struct partition *p) {
    if (f->version < 10 && partition_is_zstd(p)) return ERR_UNSUPPORTED_COMPRESSION;
    if (fetch_converts(f) && !partition_down_converts(p)) return ERR_UNSUPPORTED_VERSION;
    return OK;
}

/* Suspends. */
static void item_convert(struct fetch *f, struct shard *s, struct fetch_item *item, size_t granted, bool whole_first) {
    if (item->err != OK || item->records.count == 0) return;
    struct message_set_down how = {
        .magic = f->version < 2 ? 0 : 1,
        .from_offset = item->want->offset,
        .max_bytes = granted,
        .whole_first = whole_first && !fetch_is_hard(f),
        .cut_first = fetch_is_hard(f),
    };
    item->err = conversions_down(&s->conversions, &how, &item->records);
}

static void item_read(struct fetch *f, struct shard *s, struct fetch_item *item, bool cached_only) {
    struct slot *slot;
    item->busy = false;
    item->err = shard_acquire(s, item->route, item->want->index, &slot);
    if (item->err != OK) return;
    size_t wanted = item->want->max_bytes > 0 ? (size_t)item->want->max_bytes : 0;
    size_t granted = wanted < f->budget ? wanted : f->budget;
    f->budget -= granted; /* others read at the same time */
    bool whole_first = f->bytes == 0;
    struct partition_fetch how = {
        .offset = (uint64_t)item->want->offset, /* a negative one is out of any range */
        .current_leader_epoch = item->want->current_leader_epoch,
        .last_fetched_epoch = item->want->last_fetched_epoch,
        .max_bytes = granted,
        .whole_first = fetch_is_hard(f) ? granted > 0 : whole_first,
        .cached_only = cached_only,
        .until_ns = f->store_until_ns,
    };
    item->err = item_check_format(f, slot_partition(slot));
    if (item->err == OK) item->err = partition_read(slot_partition(slot), &how, &item->fetched, &item->records);
    slot_release(slot);
    if (fetch_converts(f)) item_convert(f, s, item, granted, whole_first);
    size_t got = item->records.size_bytes;
    f->bytes += got;
    if (got < granted) f->budget += granted - got;
    if (item->err == ERR_BUSY && cached_only) {
        item->busy = true;
        item->err = OK;
    }
}

/* In a walk over a group's items. Suspends now and then. */
static void let_others_run(size_t walked) {
    if (walked % ITEMS_A_TURN == ITEMS_A_TURN - 1) fiber_yield();
}

static void group_read_cached(void *arg) {
    struct fetch_group *g = arg;
    for (size_t i = 0; i < g->count; i++) {
        if (!g->items[i]->quiet) item_read(g->fetch, g->shard, g->items[i], true);
        let_others_run(i);
    }
}

struct store_read {
    struct fetch_group *group;
    struct fetch_item **busy;
};

static void store_read_one(void *ctx, size_t i) {
    const struct store_read *s = ctx;
    struct fetch *f = s->group->fetch;
    /* Its turn comes with the next request. */
    if (f->bytes > 0 && (f->budget == 0 || env_now_ns(f->env) >= f->store_until_ns)) return;
    item_read(f, s->group->shard, s->busy[i], false);
}

/* The first one reads alone: only when it brought nothing may another return a batch above the limits. */
static void group_read_store(void *arg) {
    struct fetch_group *g = arg;
    struct fetch *f = g->fetch;
    struct store_read s = {g, mem_zalloc(f->env->mem, g->count * sizeof(struct fetch_item *))};
    size_t count = 0;
    for (size_t i = 0; i < g->count; i++) {
        if (g->items[i]->busy) s.busy[count++] = g->items[i];
    }
    size_t first = 0;
    while (first < count && f->bytes == 0) store_read_one(&s, first++);
    struct store_read rest = {g, s.busy + first};
    if (first < count) crew_run("fetch", count - first, STORE_READS_MAX, store_read_one, &rest);
    mem_free(f->env->mem, s.busy);
}

/* --- Reading, on the request's loop. */

static bool group_is_busy(const struct fetch_group *g) {
    for (size_t i = 0; i < g->count; i++) {
        if (g->items[i]->busy) return true;
    }
    return false;
}

static void fetch_drop_records(struct fetch *f) {
    for (size_t i = 0; i < f->plan.count; i++) slices_clear(&f->items[i].records);
    f->bytes = 0;
}

static void fetch_read_granted(struct fetch *f) {
    fetch_drop_records(f);
    f->budget = f->granted_bytes;
    f->store_until_ns = 0;
    for (size_t i = 0; i < f->group_count; i++) loop_call(f->groups[i].shard->loop, group_read_cached, &f->groups[i]);
    for (size_t i = 0; i < f->group_count; i++) {
        if (!group_is_busy(&f->groups[i])) continue;
        if (f->store_until_ns == 0) f->store_until_ns = env_now_ns(f->env) + STORE_READS_NS;
        loop_call(f->groups[i].shard->loop, group_read_store, &f->groups[i]);
    }
}

static void fetch_read(struct fetch *f) {
    /* Less than is wanted while much waits to be sent: it keeps commit blocks in memory, which writers then lack. */
    f->granted_bytes = request_answer_grant(f->r, f->max_bytes);
    fetch_read_granted(f);
    /* A batch is larger than that, and there are others to be sent: it waits for these, outside of memory. */
    while (!request_answer_took(f->r, f->bytes)) {
        f->granted_bytes = f->bytes;
        fetch_drop_records(f);
        request_answer_await(f->r, f->granted_bytes);
        fetch_read_granted(f);
    }
}

/* Enough, or something that the client should hear of now. */
static bool fetch_is_done(const struct fetch *f) {
    size_t enough = f->min_bytes < f->granted_bytes ? f->min_bytes : f->granted_bytes;
    if (f->bytes >= enough || f->plan.count + f->plan.resting == 0) return true;
    for (size_t i = 0; i < f->plan.count; i++) {
        if (f->items[i].err != OK || f->items[i].fetched.diverging_epoch >= 0) return true;
    }
    return false;
}

/* --- The answer. */

static int16_t item_error(struct fetch *f, const struct fetch_item *item) {
    if (item->err == OK) return 0;
    request_error(f->r, item->err); /* counts it */
    int16_t code = kafka_read_error_of(item->err);
    /* Readers from before version 6 take this one for the end; the other they try again. */
    return code == KAFKA_KAFKA_STORAGE_ERROR && f->version < 6 ? KAFKA_NOT_LEADER_OR_FOLLOWER : code;
}

static void answer_item(struct fetch *f, const struct fetch_item *item, int16_t error_code,
                        struct kafka_fetch_response_partition *out) {
    const struct partition_fetched *had = &item->fetched;
    out->partition_index = item->want->index;
    out->error_code = error_code;
    bool known = item->err == OK;
    out->high_watermark = known ? (int64_t)had->high_watermark : -1;
    out->last_stable_offset = known ? (int64_t)had->last_stable_offset : -1;
    out->log_start_offset = known ? (int64_t)had->log_start_offset : -1;
    /* No transactions, so none that were aborted; null says that they were not asked for. */
    bool nowhere = item->err == ERR_UNKNOWN_TOPIC_OR_PARTITION || item->err == ERR_UNKNOWN_TOPIC_ID;
    out->aborted_transactions.count = f->read_committed || nowhere ? 0 : -1; /* for these Kafka says that it is none */
    if (known && had->diverging_epoch >= 0) {
        out->diverging_epoch.epoch = had->diverging_epoch;
        out->diverging_epoch.end_offset = (int64_t)had->diverging_end_offset;
    }
    if (item->err == ERR_FENCED_LEADER_EPOCH && item->route && request_version(f->r) >= 12) {
        out->current_leader.leader_id = request_shard(f->r)->broker->config->node_id;
        out->current_leader.leader_epoch = item->route->partitions[item->want->index].leader_epoch;
    }
    if (item->err == OK && item->records.count > 0) {
        out->records.slices = item->records.items;
        out->records.slice_count = (uint32_t)item->records.count;
        out->records.size = (int32_t)item->records.size_bytes;
    } else {
        out->records = (struct kafka_records){.data = (const uint8_t *)"", .size = 0};
    }
}

static bool same_topic(const struct fetch *f, const struct fetch_want *a, const struct fetch_want *b) {
    return f->plan.by_id ? memcmp(&a->id, &b->id, sizeof(a->id)) == 0 : kafka_string_equal(a->name, b->name);
}

static void answer_topics(struct fetch *f, const struct fetch_told *told, const bool *include,
                          struct kafka_fetch_response *out) {
    struct arena *a = &f->r->arena;
    size_t count = f->plan.count, topics = 0, parts = 0;
    const struct fetch_want *last = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!include[i]) continue;
        parts++;
        if (!last || !same_topic(f, last, f->items[i].want)) topics++;
        last = f->items[i].want;
    }
    out->responses.items = kafka_new(&kafka_fetch_response_topic_type, a, topics);
    struct kafka_fetch_response_partition *next = kafka_new(&kafka_fetch_response_partition_type, a, parts);
    last = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!include[i]) continue;
        const struct fetch_item *item = &f->items[i];
        if (!last || !same_topic(f, last, item->want)) {
            struct kafka_fetch_response_topic *t = &out->responses.items[out->responses.count++];
            t->topic = f->plan.by_id ? kafka_string_of("") : item->want->name;
            t->topic_id = item->want->id;
            t->partitions.items = next;
        }
        last = item->want;
        answer_item(f, item, told[i].error_code, next++);
        out->responses.items[out->responses.count - 1].partitions.count++;
    }
}

/* The item's partition, if it can rest: it is here, nothing was wrong with it, and the reader is at its end. Borrowed
 * until the next suspension. */
static struct partition *item_still(const struct fetch *f, const struct fetch_item *item) {
    const struct partition_fetched *had = &item->fetched;
    if (f->min_bytes > 1 || f->version < 10) return NULL; /* what a session adds up to; formats that may be refused */
    if (item->err != OK || item->busy || item->records.size_bytes > 0 || had->diverging_epoch >= 0) return NULL;
    if ((uint64_t)item->want->offset != had->high_watermark) return NULL;
    struct shard *s = request_shard(f->r);
    const struct partition_route *at = &item->route->partitions[item->want->index];
    struct slot *slot = at->shard == s->index ? shard_acquire_open(s, at->stream) : NULL;
    if (!slot) return NULL;
    struct partition *p = slot_partition(slot);
    slot_release(slot);
    return p;
}

static struct fetch_told item_told(const struct fetch *f, const struct fetch_item *item, int16_t error_code) {
    return (struct fetch_told){
        .error_code = error_code,
        .high_watermark = (int64_t)item->fetched.high_watermark,
        .log_start_offset = (int64_t)item->fetched.log_start_offset,
        .records_bytes = item->err == OK ? item->records.size_bytes : 0,
        .diverging = item->err == OK && item->fetched.diverging_epoch >= 0,
        .still = f->plan.kind == FETCH_WITHOUT_SESSION ? NULL : item_still(f, item),
    };
}

/* Its reader is catching up: all that it gets is old. */
static bool fetch_is_behind(const struct fetch *f) {
    bool old = false;
    for (size_t i = 0; i < f->plan.count; i++) {
        if (f->items[i].records.size_bytes == 0) continue;
        if (!f->items[i].fetched.old) return false;
        old = true;
    }
    return old;
}

/* Encodes the answer and hands it over; the records are no longer needed then. */
static void fetch_answer(struct fetch *f) {
    struct request *r = f->r;
    struct kafka_fetch_response *out = kafka_new(&kafka_fetch_response_type, &r->arena, 1);
    /* Converted sets are memory of their own; batches lie in caches. */
    if (fetch_converts(f)) request_charge(r, f->bytes);
    struct fetch_told *told = ARENA_ARRAY(&r->arena, struct fetch_told, f->plan.count);
    bool *include = ARENA_ARRAY(&r->arena, bool, f->plan.count);
    for (size_t i = 0; i < f->plan.count; i++) told[i] = item_told(f, &f->items[i], item_error(f, &f->items[i]));
    enum err e =
        fetch_plan_finish(&request_shard(r)->sessions, &f->plan, told, include, env_now_ns(f->env), &out->session_id);
    if (e != OK) {
        out->error_code = request_error(r, e);
    } else {
        answer_topics(f, told, include, out);
    }
    r->patient = fetch_is_behind(f);
    request_answer(r, out);
}

/* A reader is told that it is wrong only when that is certain. Suspends then. */
static void fetch_check_errors(struct fetch *f) {
    struct request *r = f->r;
    for (size_t i = 0; i < f->plan.count; i++) {
        const struct fetch_item *item = &f->items[i];
        r->accuses |= kafka_error_accuses(item->err) || (item->err == OK && item->fetched.diverging_epoch >= 0);
    }
    if (request_stands(r)) return;
    for (size_t i = 0; i < f->plan.count; i++) {
        struct fetch_item *item = &f->items[i];
        if (kafka_error_accuses(item->err) || item->fetched.diverging_epoch >= 0) item->err = ERR_NOT_LEADER;
    }
}

static void fetch_end(struct fetch *f) {
    for (size_t i = 0; i < f->plan.count; i++) {
        slices_deinit(&f->items[i].records);
        topic_route_unref(f->items[i].route);
    }
}

/* --- Waiting. */

static void fetch_resume(void *arg);

static uint64_t fetch_ready_bytes(const struct fetch *f) {
    uint64_t ready = 0;
    for (size_t i = 0; i < f->group_count; i++)
        ready += atomic_load_explicit(&f->groups[i].ready_bytes, memory_order_relaxed);
    return ready;
}

/* Ends the waiting, whatever the reason: once. What there is to say may have to stand in line, also beyond max.wait, as that
 * of a fetch that comes now. */
static void fetch_trigger(struct fetch *f) {
    if (f->triggered) return;
    f->triggered = true;
    timer_disarm(&f->timer);
    uint64_t ready = fetch_ready_bytes(f);
    if (f->news && ready < CONN_ANSWER_LEAST) ready = CONN_ANSWER_LEAST; /* the session has not looked how much */
    if (ready > f->max_bytes) ready = f->max_bytes;
    request_resume(f->r, f->cancelled ? 0 : (size_t)ready, fetch_resume);
}

static void fetch_check(struct fetch *f) {
    if (!f->watching) return; /* still putting watches on: handle_fetch looks afterwards */
    bool urgent = false;
    for (size_t i = 0; i < f->group_count; i++)
        urgent |= atomic_load_explicit(&f->groups[i].urgent, memory_order_relaxed);
    if (urgent || f->news || fetch_ready_bytes(f) >= f->min_bytes) fetch_trigger(f);
}

static void group_mail_arrived(struct mail *m) {
    struct fetch_group *g = CONTAINER_OF(m, struct fetch_group, mail);
    atomic_store(&g->mailed, false);
    fetch_check(g->fetch);
}

/* On the group's shard. */
static void group_news(struct fetch_group *g) {
    if (g->shard->loop == g->fetch->loop) {
        fetch_check(g->fetch);
    } else if (!atomic_exchange(&g->mailed, true)) {
        loop_post(g->fetch->loop, &g->mail);
    }
}

static void watch_look(struct fetch_watch *w) {
    struct fetch_group *g = w->group;
    struct slot *slot = shard_acquire_open(g->shard, w->stream);
    if (!slot) {
        atomic_store_explicit(&g->urgent, true, memory_order_relaxed);
        return;
    }
    const struct partition *p = slot_partition(slot);
    uint64_t ready = partition_ready_bytes(p, w->offset), high_watermark = partition_high_watermark(p);
    atomic_fetch_add_explicit(&g->ready_bytes, ready - w->ready_bytes, memory_order_relaxed);
    w->ready_bytes = ready;
    partition_watch_on(slot_partition(slot), &w->watch, w->offset > high_watermark ? w->offset : high_watermark);
    slot_release(slot);
}

static void watch_ready(struct partition_watch *watch) {
    struct fetch_watch *w = CONTAINER_OF(watch, struct fetch_watch, watch);
    watch_look(w);
    group_news(w->group);
}

static void group_watch(void *arg) {
    struct fetch_group *g = arg;
    for (size_t i = 0; i < g->count; i++) {
        struct fetch_item *item = g->items[i];
        if (item->rested) continue;
        struct fetch_watch *w = &g->watches[g->watch_count++];
        *w = (struct fetch_watch){.group = g,
                                  .item = item,
                                  .stream = item->route->partitions[item->want->index].stream,
                                  .offset = (uint64_t)item->want->offset};
        partition_watch_init(&w->watch, watch_ready);
        watch_look(w);
        let_others_run(i);
    }
}

/* Of those whose watch has told nothing, what was read before the waiting holds still; when a partition has gone, all are
 * looked at. */
static void group_unwatch(void *arg) {
    struct fetch_group *g = arg;
    for (size_t i = 0; i < g->watch_count; i++) {
        partition_watch_off(&g->watches[i].watch);
        g->watches[i].item->quiet = g->watches[i].ready_bytes == 0;
        let_others_run(i);
    }
    g->watch_count = 0;
    for (size_t i = 0; atomic_load_explicit(&g->urgent, memory_order_relaxed) && i < g->count; i++)
        g->items[i]->quiet = false;
}

static void fetch_timed_out(struct timer *t) {
    fetch_trigger(CONTAINER_OF(t, struct fetch, timer));
}

static void fetch_woken(struct request *r, bool cancelled) {
    struct fetch *f = r->waiter;
    f->cancelled |= cancelled;
    if (f->triggered)
        request_resume_now(r);
    else
        fetch_trigger(f);
}

static void session_has_news(void *ctx) {
    struct fetch *f = ctx;
    f->news = true;
    fetch_check(f);
}

static void fetch_resolve(struct fetch *f);

static void fetch_resume(void *arg) {
    struct fetch *f = arg;
    struct request *r = f->r;
    struct fetch_sessions *sessions = &request_shard(r)->sessions;
    for (size_t i = 0; i < f->group_count; i++) loop_call(f->groups[i].shard->loop, group_unwatch, &f->groups[i]);
    if (f->cancelled) {
        fetch_plan_drop(sessions, &f->plan);
    } else {
        struct fetch_plan before = f->plan;
        if (fetch_plan_again(sessions, &r->arena, &f->plan)) {
            struct fetch_plan now = f->plan;
            f->plan = before;
            fetch_end(f);
            f->plan = now;
            fetch_resolve(f);
        }
        fetch_read(f);
        fetch_check_errors(f);
        fetch_answer(f);
    }
    fetch_end(f);
    request_end(r);
}

/* The request lets go of fiber and frame. */
static enum request_outcome fetch_wait(struct fetch *f, int32_t max_wait_ms) {
    struct request *r = f->r;
    fetch_drop_records(f);
    request_release_frame(r);
    if (f->plan.kind == FETCH_INCREMENTAL) {
        struct fetch_told *told = ARENA_ARRAY(&r->arena, struct fetch_told, f->plan.count);
        bool *rested = ARENA_ARRAY(&r->arena, bool, f->plan.count);
        for (size_t i = 0; i < f->plan.count; i++) told[i] = item_told(f, &f->items[i], 0);
        fetch_plan_wait(&request_shard(r)->sessions, &f->plan, told, rested, session_has_news, f);
        for (size_t i = 0; i < f->plan.count; i++) f->items[i].rested = rested[i];
    }
    for (size_t i = 0; i < f->group_count; i++) {
        struct fetch_group *g = &f->groups[i];
        g->watches = ARENA_ARRAY(&r->arena, struct fetch_watch, g->count);
        loop_call(g->shard->loop, group_watch, g);
    }
    timer_arm(&f->timer, r->received_ns + (uint32_t)max_wait_ms * NS_PER_MS);
    f->watching = true;
    request_wait(r, fetch_woken, f);
    fetch_check(f);
    return REQUEST_LATER;
}

/* --- The beginning. */

/* Borrowed until the next suspension. `last`: what came before, mostly of the same topic; or NULL. */
static struct topic_route *item_topic(const struct fetch *f, const struct routes *routes, const struct fetch_want *w,
                                      const struct fetch_item *last) {
    if (f->plan.by_id) {
        if (last && last->route && memcmp(&last->want->id, &w->id, sizeof(w->id)) == 0) return last->route;
        return routes_by_id(routes, w->id.bytes);
    }
    if (last && last->route && last->want->name.data == w->name.data) return last->route;
    return routes_by_name(routes, w->name.data, (size_t)w->name.size);
}

/* Suspends now and then. */
static void fetch_resolve(struct fetch *f) {
    struct request *r = f->r;
    struct shard *s = request_shard(r);
    size_t count = f->plan.count;
    request_charge(r, count * sizeof(struct fetch_item) * 2); /* a small request may stand for a large session */
    size_t *sizes = ARENA_ARRAY(&r->arena, size_t, s->broker->shard_count);
    f->items = ARENA_ARRAY(&r->arena, struct fetch_item, count);
    for (size_t i = 0; i < count; i++) {
        struct fetch_item *item = &f->items[i];
        const struct fetch_want *w = &f->plan.wants[i];
        item->want = w;
        item->fetched.diverging_epoch = -1;
        slices_init(&item->records, f->env->mem);
        let_others_run(i);
        struct topic_route *t = item_topic(f, &s->routes, w, i > 0 ? item - 1 : NULL);
        if (!t || w->index < 0 || w->index >= t->partition_count) {
            item->err = !t && f->plan.by_id ? ERR_UNKNOWN_TOPIC_ID : ERR_UNKNOWN_TOPIC_OR_PARTITION;
            continue;
        }
        item->route = topic_route_ref(t);
        sizes[t->partitions[w->index].shard]++;
    }
    f->group_count = 0;
    f->groups = ARENA_ARRAY(&r->arena, struct fetch_group, s->broker->shard_count);
    for (unsigned i = 0; i < s->broker->shard_count; i++) {
        if (sizes[i] == 0) continue;
        struct fetch_group *g = &f->groups[f->group_count++];
        g->fetch = f;
        g->shard = &s->broker->shards[i];
        g->mail.deliver = group_mail_arrived;
        g->items = ARENA_ARRAY(&r->arena, struct fetch_item *, sizes[i]);
        for (size_t k = 0; k < count; k++) {
            struct fetch_item *item = &f->items[k];
            if (item->route && item->route->partitions[item->want->index].shard == i) g->items[g->count++] = item;
        }
    }
}

/* What the client and the operator allow. */
static size_t fetch_limit(const struct request *r, int32_t asked) {
    const struct shard *s = request_shard(r);
    const struct config *c = s->broker->config;
    size_t limit = asked > 0 ? (size_t)asked : 0;
    return limit < (size_t)c->fetch_max_bytes ? limit : (size_t)c->fetch_max_bytes;
}

enum request_outcome handle_fetch(struct request *r, const void *message, void *response) {
    const struct kafka_fetch_request *in = message;
    struct kafka_fetch_response *out = response;
    struct env *env = r->conns->o.env;
    struct fetch *f = ARENA_NEW(&r->arena, struct fetch);
    f->r = r;
    f->env = env;
    f->version = request_version(r);
    f->loop = r->conns->o.loop;
    timer_init(&f->timer, fetch_timed_out);
    enum err e =
        fetch_plan_make(&request_shard(r)->sessions, in, request_version(r), env_now_ns(env), &r->arena, &f->plan);
    if (e != OK) {
        out->error_code = request_error(r, e);
        return REQUEST_ANSWER;
    }
    f->min_bytes = in->min_bytes > 0 ? (size_t)in->min_bytes : 0;
    f->max_bytes = fetch_limit(r, in->max_bytes);
    if (fetch_converts(f) && f->max_bytes > CONVERTED_BYTES_MAX) f->max_bytes = CONVERTED_BYTES_MAX;
    if (f->min_bytes > f->max_bytes) f->min_bytes = f->max_bytes;
    f->read_committed = in->isolation_level == 1;
    int32_t max_wait_ms = in->max_wait_ms;
    fetch_resolve(f);
    fetch_read(f);
    if (max_wait_ms > 0 && !fetch_is_done(f)) return fetch_wait(f, max_wait_ms);
    fetch_check_errors(f);
    fetch_answer(f);
    fetch_end(f);
    return REQUEST_ANSWER;
}
