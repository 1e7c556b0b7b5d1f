/* The log side, first part: blocks come in from the shards, go to the WAL (log_wal.c), and are confirmed; the engine's
 * beginning and end. */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"

#define CLOSE_PATIENCE_NS (10 * NS_PER_S)

static void post_durable(struct lane *n, uint64_t sequence) {
    struct stream_shard *h = n->shard;
    if (h->loop == h->engine->options.log_loop) {
        lane_on_durable(n, sequence);
        return;
    }
    atomic_store(&n->posted_durable, sequence);
    if (!atomic_exchange(&n->durable_mail_out, true)) loop_post(h->loop, &n->durable_mail);
}

void log_publish_durable(struct streams *s, struct block *b) {
    unsigned lane = block_lane(b);
    ASSERT(lane < s->shard_count * LANE_KINDS);
    ASSERT(block_sequence(b) == s->lane_durable[lane] + 1);
    s->lane_durable[lane] = block_sequence(b);
    post_durable(lane_by_number(s, lane), block_sequence(b));
}

void log_queue_push(struct streams *s, enum queue_kind kind, struct block *b) {
    struct block_queue *q = &s->queues[kind];
    list_push_back(&q->blocks, &b->node);
    q->bytes += b->size;
}

void log_submit(struct streams *s, struct block *b) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(loop_current() == s->options.log_loop);
    unsigned lane = block_lane(b);
    ASSERT(block_sequence(b) == s->lane_submitted[lane] + 1);
    s->lane_submitted[lane] = block_sequence(b);
    if (lane % LANE_KINDS == LANE_LEDGER) {
        s->ledger_queue_used_ns = env_now_ns(s->env);
        log_queue_push(s, QUEUE_LEDGER, b);
    } else if (s->wal_mode == WAL_MODE_ON) {
        log_wal_submit(s, b);
        return;
    } else {
        log_queue_push(s, QUEUE_UNACKED, b);
    }
    upload_poke(s);
}

struct stop_call {
    struct stream_shard *shard;
    enum err why;
};

static void stop_shard(void *arg) {
    struct stop_call *c = arg;
    for (unsigned k = 0; k < LANE_KINDS; k++) {
        struct lane *n = &c->shard->lanes[k];
        if (!c->shard->stopped && n->open && n->open->records > 0) lane_seal(n);
    }
    shard_stop(c->shard, c->why);
}

/* On the shard's own loop: reads ahead may still be under way there. */
static void deinit_shard(void *arg) {
    struct stop_call *c = arg;
    shard_stop(c->shard, c->why);
    shard_deinit(c->shard);
}

static void stop_shard_and_free(void *arg) {
    struct stop_call *c = arg;
    shard_stop(c->shard, c->why);
    mem_free(c->shard->engine->mem, c);
}

/* Whoever waits on a shard is told. */
static void stop_shards(struct streams *s, enum err why) {
    for (unsigned i = 0; i < s->shard_count; i++) {
        /* Here at once: while we close, a fiber begun now might find the shard gone. On another loop it comes before the
         * close does. */
        if (s->shards[i].loop == s->options.log_loop) {
            shard_stop(&s->shards[i], why);
            continue;
        }
        struct stop_call *c = MEM_NEW(s->mem, struct stop_call);
        *c = (struct stop_call){&s->shards[i], why};
        loop_spawn(s->shards[i].loop, "stop-shard", stop_shard_and_free, c);
    }
}

void log_fatal(struct streams *s, enum err why, const char *what) {
    if (s->fenced) return;
    s->fenced = true;
    log_error(s->env->log, what, "error=%s", err_name(why));
    upload_wake_everybody(s);
    stop_shards(s, why);
    s->options.fatal(s->options.ctx, why, what);
}

/* ---- open, start, close ---- */

/* Has the store something to do that somebody may wait for? Before the close: records that it has to confirm; entries,
 * for these make room, and let streams change what confirms them; a checkpoint that a dropped stream waits for. */
static bool waits_for_store(const struct streams *s) {
    return s->close_begun || s->flushing > 0 || s->entries_under_way > 0 || !waitq_empty(&s->checkpoint_lock.waiters) ||
           !list_empty(&s->queues[QUEUE_LEDGER].blocks) || !list_empty(&s->queues[QUEUE_UNACKED].blocks);
}

/* A stop does not wait for a store that does nothing: what is not uploaded is in the WAL, or was not acknowledged. */
static void close_timer_fire(struct timer *t) {
    struct streams *s = CONTAINER_OF(t, struct streams, close_timer);
    if (s->closing || s->fenced) return;
    if (s->close_seen != objlog_durable(s->log) || !waits_for_store(s)) {
        s->close_seen = objlog_durable(s->log);
        timer_arm(t, env_now_ns(s->env) + CLOSE_PATIENCE_NS);
        return;
    }
    log_warn(
        s->env->log,
        "stopping without the object store: it does not answer; what was acknowledged and is not there stays in the WAL",
        "wal_bytes=%" PRIu64 " unacknowledged_bytes=%" PRIu64, s->queues[QUEUE_PENDING].bytes,
        s->queues[QUEUE_LEDGER].bytes + s->queues[QUEUE_UNACKED].bytes);
    s->closing = true;
    objlog_stop(s->log);
    upload_wake_everybody(s);
    if (!s->close_begun) stop_shards(s, ERR_CLOSED);
}

void streams_stopping(struct streams *s) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(loop_current() == s->options.log_loop);
    if (!s->started || s->closing || s->fenced) return;
    s->close_seen = objlog_durable(s->log);
    timer_arm(&s->close_timer, env_now_ns(s->env) + CLOSE_PATIENCE_NS);
}

enum err streams_open(const struct streams_options *o, struct streams **out, const char **why) {
    ASSERT(o->producer_expiration_ms > 0);
    ASSERT(o->shard_count > 0 && o->incarnation.v != 0 && loop_current() == o->log_loop);
    struct mem *m = o->env->mem;
    struct streams *s = MEM_NEW(m, struct streams);
    INIT_OBJ(s, STREAMS_MAGIC);
    s->options = *o;
    s->env = o->env;
    s->mem = m;
    s->store = o->store;
    s->generation = mem_strdup(m, o->generation);
    s->shard_count = o->shard_count;
    fiber_mutex_init(&s->checkpoint_lock);
    waitq_init(&s->ticket_wait);
    waitq_init(&s->entry_ended);
    waitq_init(&s->upload_done);
    waitq_init(&s->upload_wake);
    waitq_init(&s->compact_wake);
    waitgroup_init(&s->background);
    timer_init(&s->checkpoint_timer, checkpoint_due);
    timer_init(&s->compact_timer, compact_due);
    timer_init(&s->poor_timer, compact_poor_due);
    timer_init(&s->close_timer, close_timer_fire);
    timer_init(&s->stuck_timer, collect_stuck_due);
    if (s->options.upload_wal_percent == 0) s->options.upload_wal_percent = 50;
    if (s->options.compact_bytes < COMPACT_BYTES_MIN) s->options.compact_bytes = COMPACT_BYTES_MIN;
    for (unsigned k = 0; k < QUEUE_KINDS; k++) list_init(&s->queues[k].blocks);
    list_init(&s->crowded);
    list_init(&s->nearly);
    ledger_image_init(&s->image, m);
    object_uses_init(&s->uses, m);
    enum err e = log_wal_open(s, why);
    if (e != OK) {
        mem_free(m, s->generation);
        mem_free(m, s);
        return e;
    }
    object_ledger_prefix(s->ledger_prefix, s->generation, o->incarnation);
    struct objlog_options log = {.store = o->store,
                                 .prefix = s->ledger_prefix,
                                 .depth = OBJLOG_DEPTH_MAX,
                                 .writer = o->incarnation.v,
                                 .purpose = STORE_FOR_LEDGER};
    s->log = objlog_create(&log);
    s->lane_submitted = mem_zalloc(m, s->shard_count * LANE_KINDS * sizeof(*s->lane_submitted));
    s->lane_durable = mem_zalloc(m, s->shard_count * LANE_KINDS * sizeof(*s->lane_durable));
    s->lane_uploaded = mem_zalloc(m, s->shard_count * LANE_KINDS * sizeof(*s->lane_uploaded));
    s->shards = mem_zalloc(m, s->shard_count * sizeof(*s->shards));
    for (unsigned i = 0; i < s->shard_count; i++) shard_init(&s->shards[i], s, o->shards[i], i);
    *out = s;
    return OK;
}

enum err streams_start(struct streams *s, const char **why) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(!s->started);
    enum err e = log_wal_format(s, why);
    if (e != OK) return e;
    *why = "the first entry of the ledger could not be written";
    e = upload_announce(s);
    if (e != OK) return e;
    s->started = true;
    log_wal_start(s);
    upload_start(s);
    collect_poke(s);  /* what the recoveries made superfluous waited for this */
    compact_begin(s); /* each start left a small range; one that lives too briefly to upload must merge them, too */
    *why = NULL;
    return OK;
}

void streams_set_producer_expiration(struct streams *s, int64_t ms) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(loop_current() == s->options.log_loop && ms > 0);
    s->options.producer_expiration_ms = ms;
}

static void destroy_blocks(struct list *blocks) {
    for (struct list *n; (n = list_pop_front(blocks)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
}

void streams_close(struct streams *s) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    for (unsigned i = 0; i < s->shard_count; i++) {
        struct stop_call c = {&s->shards[i], ERR_CLOSED};
        loop_call(s->shards[i].loop, stop_shard, &c);
    }
    bool in_order = false;
    s->close_begun = true;
    if (s->started && !s->fenced && !s->closing) {
        s->close_seen = objlog_durable(s->log);
        timer_arm(&s->close_timer, env_now_ns(s->env) + CLOSE_PATIENCE_NS);
        in_order = upload_flush(s) == OK && checkpoint_write(s, true) == OK;
    }
    timer_disarm(&s->close_timer);
    s->closing = true;
    objlog_stop(s->log);
    upload_wake_everybody(s);
    waitgroup_wait(&s->background);
    timer_disarm(&s->compact_timer);
    timer_disarm(&s->poor_timer);
    timer_disarm(&s->stuck_timer);
    timer_disarm(&s->checkpoint_timer); /* an entry that ended only now may have armed it */
    log_wal_close(s, in_order && s->wal_mode == WAL_MODE_ON);
    for (unsigned k = 0; k < QUEUE_KINDS; k++) destroy_blocks(&s->queues[k].blocks);
    /* Commit mail for the shards may still be on its way: a call behind it finds it delivered. */
    for (unsigned i = 0; i < s->shard_count; i++) {
        struct stop_call c = {&s->shards[i], ERR_CLOSED};
        loop_call(s->shards[i].loop, deinit_shard, &c);
    }
    objlog_destroy(s->log);
    mem_free(s->mem, s->stuck.items);
    object_uses_deinit(&s->uses);
    ledger_image_deinit(&s->image);
    mem_free(s->mem, s->shards);
    mem_free(s->mem, s->lane_submitted);
    mem_free(s->mem, s->lane_durable);
    mem_free(s->mem, s->lane_uploaded);
    mem_free(s->mem, s->generation);
    s->magic = 0;
    mem_free(s->mem, s);
}
