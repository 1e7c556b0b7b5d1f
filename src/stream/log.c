/* The log side, first part: blocks come in from the shards, go to the WAL, and are confirmed; and what happens when
 * the WAL fails. */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"
#include "stream/wal_claim.h"

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
        wal_submit(s->wal, b);
        return;
    } else {
        log_queue_push(s, QUEUE_UNACKED, b);
    }
    upload_poke(s);
}

static void wal_full(void *ctx) {
    upload_want(ctx);
}

static void wal_confirmed(void *ctx, struct block *b) {
    struct streams *s = ctx;
    log_queue_push(s, QUEUE_PENDING, b);
    log_publish_durable(s, b);
    if (env_mutant(s->env, MUTANT_WAL_TRIM_EARLY)) wal_trim(s->wal, b->wal_end);
    metric_set(s->env->metrics, M_WAL_USED_BYTES, (int64_t)wal_used_bytes(s->wal));
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

static void wal_went_wrong(void *ctx, enum err why) {
    struct streams *s = ctx;
    if (s->closing) return; /* nobody waits any more: the blocks stay in the WAL's lists until it is closed */
    s->wal_mode = WAL_MODE_FAILED;
    if (why == ERR_FENCED) {
        log_fatal(s, why, "the WAL carries a takeover mark: another broker has taken it over");
        return;
    }
    char path[300];
    log_error(s->env->log,
              "wal write failed: its outcome is unknown; acknowledging from the object store until it works again",
              "error=%s path=%s", err_name(why),
              log_quote(path, sizeof(path), wal_path(s->wal), strlen(wal_path(s->wal))));
    struct list back;
    list_init(&back);
    wal_take_unconfirmed(s->wal, &back);
    struct block_queue *q = &s->queues[QUEUE_UNACKED];
    LIST_EACH(it, &back) q->bytes += LIST_ENTRY(it, struct block, node)->size;
    list_splice_back(&back, &q->blocks); /* what came since is behind them */
    list_splice_back(&q->blocks, &back);
    upload_poke(s);
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

/* Who holds the store alone shares its WAL with nobody either. */
static bool wal_is_shared(const struct streams_options *o) {
    return o->wal_takeover_mark && !o->store->exclusive;
}

static const char wal_is_nobodys[] =
    "the file or device has no WAL yet, and with takeover=mark it must have one, with an id that one start alone can "
    "claim: run `oxbow wal init` on it once; or say takeover=lock in wal.url if only one machine can ever reach it";

enum err streams_check_wal(const struct streams_options *o, const char **why) {
    if (!o->wal_path) return OK;
    enum err e = wal_check_free(o->env, o->wal_path, why);
    if (e != OK || !wal_is_shared(o)) return e;
    struct wal_options look = {.env = o->env, .path = o->wal_path, .read_only = true};
    struct wal *w;
    e = wal_open(&look, &w, why);
    if (e != OK && e != ERR_NOT_FOUND) return OK; /* said again when it is opened in earnest */
    bool is_one = e == OK && wal_superblock(w);
    if (e == OK) wal_close(w, false);
    if (is_one) return OK;
    *why = wal_is_nobodys;
    return ERR_NOT_FOUND;
}

static enum err open_wal(struct streams *s, const char **why) {
    const struct streams_options *o = &s->options;
    struct wal_options wal = {.env = o->env,
                              .path = o->wal_path,
                              .size_bytes = o->wal_size_bytes,
                              .takeover_mark = o->wal_takeover_mark,
                              .depth = WAL_DEPTH,
                              .confirmed = wal_confirmed,
                              .failed = wal_went_wrong,
                              .full = wal_full,
                              .ctx = s};
    return wal_open(&wal, &s->wal, why);
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
    timer_init(&s->close_timer, close_timer_fire);
    if (s->options.upload_wal_percent == 0) s->options.upload_wal_percent = 50;
    if (s->options.compact_bytes < COMPACT_BYTES_MIN) s->options.compact_bytes = COMPACT_BYTES_MIN;
    for (unsigned k = 0; k < QUEUE_KINDS; k++) list_init(&s->queues[k].blocks);
    list_init(&s->crowded);
    ledger_image_init(&s->image, m);
    object_uses_init(&s->uses, m);
    enum err e = o->wal_path ? open_wal(s, why) : OK;
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

/* A ring that others reach, whom nothing shuts out: may we begin it anew? ERR_FENCED: nobody may (wal.h, rule 7). */
static enum err claim_wal(struct streams *s, const uint8_t next_id[16], const char **why) {
    const struct wal_superblock *before = wal_superblock(s->wal);
    if (!before) {
        *why = wal_is_nobodys;
        return ERR_NOT_FOUND;
    }
    if (before->generation[0] && strcmp(before->generation, s->generation) != 0) {
        *why =
            "wal.url holds the WAL of another cluster, whose brokers may still use it: give another wal.url, or make it "
            "new with `oxbow wal init` when no machine writes to it any more";
        return ERR_FOREIGN;
    }
    struct incarnation taken;
    *why = "the takeover mark of the WAL could not be read";
    enum err e = wal_read_mark(s->wal, &taken);
    if (e != ERR_NOT_FOUND) return e == OK ? ERR_FENCED : e;
    if (!before->closed) return ERR_FENCED;
    if (env_mutant(s->env, MUTANT_NO_WAL_CLAIM)) return OK;
    struct wal_claim claim = {.claimant = s->options.incarnation};
    memcpy(claim.wal_id, before->wal_id, sizeof(claim.wal_id));
    memcpy(claim.next_id, next_id, sizeof(claim.next_id));
    *why = "the claim of the WAL could not be written to the object store";
    e = wal_claim_take(s->store, s->generation, &claim, &s->closing);
    return e == ERR_EXISTS ? ERR_FENCED : e;
}

static enum err format_wal(struct streams *s, const char **why) {
    const struct wal_superblock *before = wal_superblock(s->wal);
    if (before && !before->closed && strcmp(before->generation, s->generation) != 0) {
        *why = "wal.url holds the WAL of another cluster that was not stopped in order: it may have records that are "
               "nowhere else; give another wal.url, or start that cluster once with it";
        return ERR_FOREIGN;
    }
    uint8_t wal_id[16];
    env_random(s->env, wal_id, sizeof(wal_id));
    if (wal_is_shared(&s->options)) {
        enum err e = claim_wal(s, wal_id, why);
        if (e != OK) return e;
    }
    *why = "the WAL could not be formatted";
    enum err e = wal_format(s->wal, s->generation, s->options.incarnation, wal_id);
    /* From the next entry on our ledger names the WAL that a recovery has to ask for; before it is durable nothing is
     * acknowledged. */
    if (e == OK) memcpy(s->wal_id, wal_id, sizeof(wal_id));
    return e;
}

/* What the ring held has been recovered. Whoever wrote to it last may still do so, and nobody can tell: so we go on
 * without it. */
static void wal_left_alone(struct streams *s) {
    char path[300];
    log_error(
        s->env->log,
        "the WAL was not closed in order, or another start has claimed it: it is never written to again, and "
        "records are acknowledged from the object store. All that it held is there. To have a WAL again: make it new "
        "with `oxbow wal init --force` when no other machine writes to it any more, or give another wal.url; then "
        "start again",
        "path=%s", log_quote(path, sizeof(path), wal_path(s->wal), strlen(wal_path(s->wal))));
    wal_close(s->wal, false);
    s->wal = NULL;
    metric_set(s->env->metrics, M_WAL_FAILED, 1);
}

enum err streams_start(struct streams *s, const char **why) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(!s->started);
    enum err e = s->wal ? format_wal(s, why) : OK;
    if (e == ERR_FENCED && wal_is_shared(&s->options)) {
        wal_left_alone(s);
        e = OK;
    }
    if (e != OK) return e;
    *why = "the first entry of the ledger could not be written";
    e = upload_announce(s);
    if (e != OK) return e;
    s->started = true;
    /* else it has failed already, while it was prepared in the background */
    if (s->wal && s->wal_mode == WAL_MODE_OFF) s->wal_mode = WAL_MODE_ON;
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
    timer_disarm(&s->checkpoint_timer); /* an entry that ended only now may have armed it */
    if (s->wal) {
        in_order = in_order && s->wal_mode == WAL_MODE_ON;
        if (!in_order) wal_abandon(s->wal, &s->queues[QUEUE_UNACKED].blocks);
        wal_close(s->wal, in_order);
    }
    for (unsigned k = 0; k < QUEUE_KINDS; k++) destroy_blocks(&s->queues[k].blocks);
    /* Commit mail for the shards may still be on its way: a call behind it finds it delivered. */
    for (unsigned i = 0; i < s->shard_count; i++) {
        struct stop_call c = {&s->shards[i], ERR_CLOSED};
        loop_call(s->shards[i].loop, deinit_shard, &c);
    }
    objlog_destroy(s->log);
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
