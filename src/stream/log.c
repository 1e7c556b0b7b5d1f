/* The log side, first part: blocks come in from the shards, go to the WAL, and are confirmed; and what happens when
 * the WAL fails. */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"

#define CLOSE_PATIENCE_NS (10 * NS_PER_S)

static void post_durable(struct stream_shard *h, uint64_t sequence) {
    struct streams *s = h->engine;
    if (h->loop == s->options.log_loop) {
        shard_on_durable(h, sequence);
        return;
    }
    atomic_store(&h->posted_durable, sequence);
    if (!atomic_exchange(&h->durable_mail_out, true)) loop_post(h->loop, &h->durable_mail);
}

void log_publish_durable(struct streams *s, struct block *b) {
    unsigned shard = block_shard(b);
    ASSERT(shard < s->shard_count);
    ASSERT(block_sequence(b) == s->shard_durable[shard] + 1);
    s->shard_durable[shard] = block_sequence(b);
    post_durable(&s->shards[shard], block_sequence(b));
}

void log_submit(struct streams *s, struct block *b) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(loop_current() == s->options.log_loop);
    if (s->wal_mode == WAL_MODE_ON) {
        wal_submit(s->wal, b);
        return;
    }
    list_push_back(&s->unacked, &b->node);
    s->unacked_bytes += b->size;
    upload_poke(s);
}

static void wal_full(void *ctx) {
    upload_want(ctx);
}

static void wal_confirmed(void *ctx, struct block *b) {
    struct streams *s = ctx;
    list_push_back(&s->pending, &b->node);
    s->pending_bytes += b->size;
    log_publish_durable(s, b);
    if (OX_UNLIKELY(s->options.mutant == STREAM_MUTANT_TRIM_EARLY)) wal_trim(s->wal, b->wal_end);
    metric_set(s->env->metrics, M_WAL_USED_BYTES, (int64_t)wal_used_bytes(s->wal));
    upload_poke(s);
}

struct stop_call {
    struct stream_shard *shard;
    enum err why;
};

static void stop_shard(void *arg) {
    struct stop_call *c = arg;
    if (!c->shard->stopped && c->shard->open && c->shard->open->records > 0) shard_seal(c->shard);
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

void log_fatal(struct streams *s, enum err why, const char *what) {
    if (s->fenced) return;
    s->fenced = true;
    log_error(s->env->log, what, "error=%s", err_name(why));
    waitq_wake_all(&s->upload_done);
    for (unsigned i = 0; i < s->shard_count; i++) {
        struct stop_call *c = MEM_NEW(s->mem, struct stop_call);
        *c = (struct stop_call){&s->shards[i], why};
        loop_spawn(s->shards[i].loop, "stop-shard", stop_shard_and_free, c);
    }
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
    struct list first;
    list_init(&first);
    LIST_EACH_SAFE(it, &back) {
        struct block *b = LIST_ENTRY(it, struct block, node);
        s->unacked_bytes += b->size;
        list_remove(it);
        list_push_back(&first, it);
    }
    list_splice_back(&first, &s->unacked);
    list_splice_back(&s->unacked, &first);
    upload_poke(s);
}

/* ---- open, start, close ---- */

static void upload_timer_fire(struct timer *t) {
    upload_poke(CONTAINER_OF(t, struct streams, upload_timer));
}

/* A stop does not wait for a store that does nothing: what is not uploaded is in the WAL. */
static void close_timer_fire(struct timer *t) {
    struct streams *s = CONTAINER_OF(t, struct streams, close_timer);
    if (s->close_seen != objlog_durable(s->log)) {
        s->close_seen = objlog_durable(s->log);
        timer_arm(t, env_now_ns(s->env) + CLOSE_PATIENCE_NS);
        return;
    }
    log_warn(s->env->log, "stopping without the object store: it does not answer; the rest stays in the WAL",
             "pending_bytes=%" PRIu64, s->pending_bytes + s->unacked_bytes);
    s->closing = true;
    objlog_stop(s->log);
    waitq_wake_all(&s->upload_wake);
    waitq_wake_all(&s->upload_done);
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
    fiber_mutex_init(&s->ledger_lock);
    waitq_init(&s->upload_done);
    waitq_init(&s->upload_wake);
    waitgroup_init(&s->background);
    timer_init(&s->upload_timer, upload_timer_fire);
    timer_init(&s->checkpoint_timer, upload_checkpoint_due);
    timer_init(&s->close_timer, close_timer_fire);
    if (s->options.upload_wal_percent == 0) s->options.upload_wal_percent = 50;
    list_init(&s->pending);
    list_init(&s->unacked);
    ledger_image_init(&s->image, m);
    object_uses_init(&s->uses, m);
    struct wal_options wal = {.env = o->env,
                              .path = o->wal_path,
                              .size_bytes = o->wal_size_bytes,
                              .takeover_mark = o->wal_takeover_mark,
                              /* Who holds the store alone shares its WAL with nobody either. */
                              .no_lock = o->wal_takeover_mark && !o->store->exclusive,
                              .mutant = o->mutant,
                              .depth = WAL_DEPTH,
                              .confirmed = wal_confirmed,
                              .failed = wal_went_wrong,
                              .full = wal_full,
                              .ctx = s};
    enum err e = wal_open(&wal, &s->wal, why);
    if (e != OK) {
        mem_free(m, s->generation);
        mem_free(m, s);
        return e;
    }
    object_ledger_prefix(s->ledger_prefix, s->generation, o->incarnation);
    struct objlog_options log = {.store = o->store,
                                 .prefix = s->ledger_prefix,
                                 .depth = 1,
                                 .writer = o->incarnation.v,
                                 .purpose = STORE_FOR_LEDGER};
    s->log = objlog_create(&log);
    s->shard_durable = mem_zalloc(m, s->shard_count * sizeof(*s->shard_durable));
    s->shards = mem_zalloc(m, s->shard_count * sizeof(*s->shards));
    for (unsigned i = 0; i < s->shard_count; i++) shard_init(&s->shards[i], s, o->shards[i], i);
    *out = s;
    return OK;
}

enum err streams_start(struct streams *s, const char **why) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(s->wal_mode == WAL_MODE_OFF);
    const struct wal_superblock *before = wal_superblock(s->wal);
    if (before && !before->closed && strcmp(before->generation, s->generation) != 0) {
        *why = "wal.url holds the WAL of another cluster that was not stopped in order: it may have records that are "
               "nowhere else; give another wal.url, or start that cluster once with it";
        return ERR_FOREIGN;
    }
    uint8_t wal_id[16];
    env_random(s->env, wal_id, sizeof(wal_id));
    *why = "the WAL could not be formatted";
    enum err e = wal_format(s->wal, s->generation, s->options.incarnation, wal_id);
    if (e == ERR_FENCED)
        *why =
            "the WAL was taken over by another broker and is never used again: clear the file or device, or give another wal.url";
    if (e != OK) return e;
    /* From this entry on our ledger names the WAL that a recovery has to ask for; before it is durable nothing is
     * acknowledged. */
    memcpy(s->wal_id, wal_id, sizeof(wal_id));
    *why = "the ledger entry that names the WAL could not be written";
    e = upload_announce(s);
    if (e != OK) return e;
    /* else it has failed already, while it was prepared in the background */
    if (s->wal_mode == WAL_MODE_OFF) s->wal_mode = WAL_MODE_ON;
    compact_poke(s); /* each start left a small range; one that lives too briefly to upload must merge them, too */
    *why = NULL;
    return OK;
}

void streams_set_producer_expiration(struct streams *s, int64_t ms) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(loop_current() == s->options.log_loop && ms > 0);
    s->options.producer_expiration_ms = ms;
}

void streams_close(struct streams *s) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    for (unsigned i = 0; i < s->shard_count; i++) {
        struct stop_call c = {&s->shards[i], ERR_CLOSED};
        loop_call(s->shards[i].loop, stop_shard, &c);
    }
    bool in_order = false;
    if (s->wal_mode != WAL_MODE_OFF && !s->fenced) {
        s->close_seen = objlog_durable(s->log);
        timer_arm(&s->close_timer, env_now_ns(s->env) + CLOSE_PATIENCE_NS);
        in_order = upload_flush(s) == OK && upload_checkpoint(s, true) == OK;
        timer_disarm(&s->close_timer);
    }
    s->closing = true;
    timer_disarm(&s->upload_timer);
    timer_disarm(&s->checkpoint_timer);
    objlog_stop(s->log);
    waitq_wake_all(&s->upload_wake);
    while (s->uploading) waitq_wait(&s->upload_done);
    waitgroup_wait(&s->background);
    in_order = in_order && s->wal_mode == WAL_MODE_ON;
    if (!in_order) wal_abandon(s->wal, &s->unacked);
    wal_close(s->wal, in_order);
    for (struct list *n; (n = list_pop_front(&s->pending)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
    for (struct list *n; (n = list_pop_front(&s->unacked)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
    /* Commit mail for the shards may still be on its way: a call behind it finds it delivered. */
    for (unsigned i = 0; i < s->shard_count; i++) {
        struct stop_call c = {&s->shards[i], ERR_CLOSED};
        loop_call(s->shards[i].loop, deinit_shard, &c);
    }
    objlog_destroy(s->log);
    object_uses_deinit(&s->uses);
    ledger_image_deinit(&s->image);
    mem_free(s->mem, s->shards);
    mem_free(s->mem, s->shard_durable);
    mem_free(s->mem, s->generation);
    s->magic = 0;
    mem_free(s->mem, s);
}
