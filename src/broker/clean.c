/* Log compaction: one fiber that, again and again, takes the partition with the largest share of bytes not yet compacted
 * (partition/clean.h says which are worth it) and compacts it (partition/cleaner.h), no faster than
 * log.cleaner.io.max.bytes.per.second; when there is none it rests for log.cleaner.backoff.ms. Looking costs memory
 * alone, no request. Everything on loop 0, which is the log loop.
 *
 * A partition in which something is damaged is left alone until the next start, and counted. */
#include <inttypes.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "partition/cleaner.h"

struct cleaner {
    struct broker *broker;
    struct map64 uncleanable; /* stream id -> struct uncleanable * */
    uint64_t paced_ns;        /* what has been moved is paid for up to here */
};

struct uncleanable {
    uint64_t bytes;
};

struct candidate {
    struct topic_route *route; /* a reference, or NULL: there is none */
    int32_t index;
    struct clean_choice choice;
};

struct look {
    struct cleaner *cleaner;
    struct topic_route *route;
    int32_t index;
    int64_t now_ms;
    struct candidate best;
    double ratio; /* the highest of all */
    int64_t overdue_ms;
};

static void look_at(void *ctx, const struct stream_state *committed) {
    struct look *l = ctx;
    struct clean_choice c;
    bool worth_it = clean_choose(committed, &l->route->config, l->now_ms, &c);
    if (c.ratio > l->ratio) l->ratio = c.ratio;
    if (c.overdue_ms > l->overdue_ms) l->overdue_ms = c.overdue_ms;
    if (!worth_it || (l->best.route && c.ratio <= l->best.choice.ratio)) return;
    topic_route_unref(l->best.route);
    l->best = (struct candidate){topic_route_ref(l->route), l->index, c};
}

static void choose(struct cleaner *k, struct candidate *out) {
    struct broker *b = k->broker;
    struct look l = {.cleaner = k, .now_ms = env_wall_ms(b->env)};
    for (size_t cursor = 0; (l.route = mapstr_next(&b->shards[0].routes.by_id, &cursor, NULL, NULL)) != NULL;) {
        if ((l.route->config.cleanup_policy & TOPIC_CLEANUP_COMPACT) == 0) continue;
        for (l.index = 0; l.index < l.route->partition_count; l.index++) {
            struct stream_id stream = l.route->partitions[l.index].stream;
            if (!map64_get(&k->uncleanable, stream.v)) (void)streams_look(b->streams, stream, look_at, &l);
        }
    }
    *out = l.best;
    metric_set(b->env->metrics, M_CLEANER_DIRTY_PERCENT, (int64_t)(l.ratio * 100));
    metric_set(b->env->metrics, M_CLEANER_DELAY_SECONDS, l.overdue_ms / 1000);
}

/* False: the broker stops. Suspends. */
static bool wait_until(struct broker *b, uint64_t until_ns) {
    while (!b->tidy_stopped && env_now_ns(b->env) < until_ns) (void)waitq_wait_until(&b->tidy_stop, until_ns);
    return !b->tidy_stopped;
}

/* Time is owed for each byte; what was not used is not saved up. */
static bool pace(void *ctx, uint64_t bytes) {
    struct cleaner *k = ctx;
    struct broker *b = k->broker;
    double most = b->config->log_cleaner_io_max_bytes_per_second, owed_ns = (double)bytes / most * (double)NS_PER_S;
    uint64_t now_ns = env_now_ns(b->env);
    if (k->paced_ns < now_ns) k->paced_ns = now_ns;
    if (!(owed_ns < (double)(3600 * NS_PER_S))) owed_ns = (double)(3600 * NS_PER_S);
    k->paced_ns += (uint64_t)owed_ns;
    return wait_until(b, k->paced_ns);
}

struct report {
    struct shard *shard;
    struct stream_id stream;
    const struct stream_state *progress;
};

static void report_there(void *arg) {
    struct report *r = arg;
    struct slot *slot = shard_acquire_open(r->shard, r->stream);
    if (!slot) return; /* whoever opens it finds the committed state */
    partition_cleaned(slot_partition(slot), r->progress);
    slot_release(slot);
}

static void count(struct broker *b, const struct cleaner_result *r) {
    struct metrics *m = b->env->metrics;
    metric_add(m, M_CLEANER_BYTES_BEFORE, 0, r->counts.bytes);
    metric_add(m, M_CLEANER_BYTES_AFTER, 0, r->counts.bytes_kept);
    metric_add(m, M_CLEANER_RECORDS_REMOVED, 0, r->counts.records - r->counts.records_kept);
    metric_add(m, M_CLEANER_RECORDS_WITHOUT_KEY, 0, r->counts.records_without_key);
}

static void tell(struct broker *b, const struct topic_route *t, int32_t index, const struct cleaner_result *r,
                 uint64_t began_ns) {
    const struct clean_counts *n = &r->counts;
    log_info(b->env->log, "log compacted",
             "topic=%s partition=%d dirty_from=%" PRIu64 " clean_to=%" PRIu64 " dirty_percent=%d bytes_before=%" PRIu64
             " bytes_after=%" PRIu64 " records_before=%" PRIu64 " records_after=%" PRIu64 " tombstones_kept=%" PRIu64
             " tombstones_dropped=%" PRIu64 " keys=%" PRIu64 " map_full=%s runs=%u runs_replaced=%u io_bytes=%" PRIu64
             " ms=%" PRIu64,
             t->name, index, r->choice.first_dirty, r->clean_offset, (int)(r->choice.ratio * 100), n->bytes,
             n->bytes_kept, n->records, n->records_kept, n->tombstones_kept, n->tombstones_dropped, r->keys,
             r->map_full ? "true" : "false", r->runs, r->runs_replaced, r->io_bytes,
             (uint64_t)((env_now_ns(b->env) - began_ns) / NS_PER_MS));
    if (n->records_without_key > 0)
        log_warn(b->env->log, "a compacted topic had records without a key; they are gone",
                 "topic=%s partition=%d records=%" PRIu64, t->name, index, n->records_without_key);
}

static void give_up(struct cleaner *k, const struct candidate *c, enum err e) {
    struct broker *b = k->broker;
    uint64_t stream = c->route->partitions[c->index].stream.v;
    struct uncleanable *u = MEM_NEW(b->env->mem, struct uncleanable);
    u->bytes = c->choice.dirty_bytes;
    (void)map64_put(&k->uncleanable, stream, u);
    metric_gauge_add(b->env->metrics, M_CLEANER_UNCLEANABLE_PARTITIONS, 1);
    metric_gauge_add(b->env->metrics, M_CLEANER_UNCLEANABLE_BYTES, (int64_t)u->bytes);
    log_error(b->env->log, "a partition cannot be compacted, and is left as it is until the next start",
              "topic=%s partition=%d stream=%" PRIu64 " err=%s", c->route->name, c->index, stream, err_name(e));
}

static bool is_damage(enum err e) {
    return e == ERR_CORRUPT || e == ERR_CORRUPT_MESSAGE || e == ERR_INVALID_RECORD || e == ERR_TRUNCATED ||
           e == ERR_TOO_LARGE;
}

/* One pass; true: look for the next one at once. Suspends. */
static bool clean(struct cleaner *k, const struct candidate *c) {
    struct broker *b = k->broker;
    const struct topic_route *t = c->route;
    struct cleaner_options o = {.env = b->env,
                                .streams = b->streams,
                                .stream = t->partitions[c->index].stream,
                                .config = &t->config,
                                .map_bytes = (uint64_t)b->config->log_cleaner_dedupe_buffer_size,
                                .map_load = (unsigned)(b->config->log_cleaner_io_buffer_load_factor * 100),
                                .go_on = pace,
                                .ctx = k};
    if (o.map_load < 1) o.map_load = 1;
    struct cleaner_result r;
    uint64_t began_ns = env_now_ns(b->env);
    enum err e = cleaner_run(&o, &r);
    count(b, &r);
    if (e == OK) {
        metric_add(b->env->metrics, M_CLEANER_PASSES, 0, 1);
        struct report report = {&b->shards[t->partitions[c->index].shard], o.stream, &r.progress};
        loop_call(report.shard->loop, report_there, &report);
        tell(b, t, c->index, &r, began_ns);
    } else if (is_damage(e)) {
        give_up(k, c, e);
    } else if (e != ERR_CANCELLED && e != ERR_CLOSED && e != ERR_NOT_FOUND && e != ERR_STALE && e != ERR_BUSY &&
               e != ERR_FENCED) {
        metric_add(b->env->metrics, M_CLEANER_FAILURES, 0, 1);
        log_warn(b->env->log, "log compaction failed; it is tried again",
                 "topic=%s partition=%d err=%s retry_ms=%" PRId64, t->name, c->index, err_name(e),
                 b->config->log_cleaner_backoff_ms);
    }
    cleaner_result_deinit(&r);
    return e == OK || is_damage(e);
}

static void forget_uncleanable(struct cleaner *k) {
    size_t cursor = 0;
    struct uncleanable *u;
    while ((u = map64_next(&k->uncleanable, &cursor, NULL)) != NULL) mem_free(k->broker->env->mem, u);
    map64_deinit(&k->uncleanable);
}

static void clean_main(void *arg) {
    struct broker *b = arg;
    struct cleaner k = {.broker = b};
    map64_init(&k.uncleanable, b->env->mem);
    uint64_t rest_ns = (uint64_t)b->config->log_cleaner_backoff_ms;
    rest_ns = rest_ns < INT64_MAX / NS_PER_MS ? rest_ns * NS_PER_MS : INT64_MAX;
    if (rest_ns < NS_PER_MS) rest_ns = NS_PER_MS;
    bool at_once = false;
    while (at_once ? !b->tidy_stopped : wait_until(b, env_now_ns(b->env) + rest_ns)) {
        struct candidate c;
        choose(&k, &c);
        at_once = c.route != NULL && clean(&k, &c);
        topic_route_unref(c.route);
    }
    forget_uncleanable(&k);
    waitgroup_done(&b->background);
}

void broker_clean_begin(struct broker *b) {
    ASSERT(loop_current() == b->o.loop0 && !b->tidy_stopped);
    if (!b->config->log_cleaner_enable) return;
    waitgroup_add(&b->background);
    fiber_spawn(b->o.loop0, "log cleaner", clean_main, b);
}
