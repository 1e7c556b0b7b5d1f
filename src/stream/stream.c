/* Opening, closing and asking a stream. Appending is in shard.c, reading in read.c. */
#include "stream/stream.h"

#include "base/assert.h"
#include "stream/streams_priv.h"

unsigned stream_home(struct stream_id id, unsigned shard_count) {
    return (unsigned)(hash64(id.v) % shard_count);
}

struct open_call {
    struct streams *engine;
    struct stream *stream;
    struct stream_state copy;
    enum err error;
};

/* On the log loop: a copy of the committed state. What is committed after it was taken and before the opening fiber
 * runs again is seen by `missed`. */
static void open_on_log(void *arg) {
    struct open_call *c = arg;
    struct streams *s = c->engine;
    if (s->closing || s->fenced) {
        c->error = ERR_CLOSED;
        return;
    }
    struct ledger_stream *committed = ledger_image_get(&s->image, c->stream->id);
    if (!committed) committed = ledger_image_add(&s->image, c->stream->id, c->stream->epoch);
    if (committed->refused) {
        c->error = ERR_GAP;
        return;
    }
    if (committed->epoch != c->stream->epoch) {
        c->error = ERR_STALE;
        return;
    }
    /* Opened again in one life: what it appended before must be in the committed state, or offsets would be given
     * twice. */
    if (committed->opened) {
        c->error = upload_flush(s);
        if (c->error != OK) return;
        committed = ledger_image_get(&s->image, c->stream->id);
        if (!committed) {
            c->error = ERR_CLOSED;
            return;
        }
    }
    committed->opened = true;
    state_copy(&c->copy, &committed->state, s->mem);
}

static void load(struct stream *s, struct stream_state *copy) {
    s->ranges = copy->ranges;
    s->range_count = copy->range_count;
    s->range_capacity = copy->range_capacity;
    copy->ranges = NULL;
    copy->range_count = copy->range_capacity = 0;
    s->appended_end = s->durable_end = s->uploaded_end = copy->end_offset;
    s->durable_start = copy->start_offset;
    s->loaded = true;
}

enum err stream_open(struct streams *engine, struct stream_id id, int32_t epoch, void (*durable)(void *ctx), void *ctx,
                     struct stream_state *live, struct stream **out) {
    CHECK_OBJ(engine, STREAMS_MAGIC);
    struct stream_shard *h = shard_of_loop(engine, loop_current());
    ASSERT(stream_home(id, engine->shard_count) == h->index);
    if (h->stopped) return h->stop_reason;
    if (map64_get(&h->streams, id.v)) return ERR_BUSY;
    struct stream *s = MEM_NEW(engine->mem, struct stream);
    INIT_OBJ(s, STREAM_MAGIC);
    s->shard = h;
    s->id = id;
    s->epoch = epoch;
    s->durable = durable;
    s->ctx = ctx;
    waitq_init(&s->durable_waiters);
    waitq_init(&s->quiet);
    s->lane = s->wanted_lane = log_wal_is(engine) ? LANE_WAL : LANE_LEDGER;
    (void)map64_put(&h->streams, id.v, s);
    struct open_call call = {.engine = engine, .stream = s, .error = OK};
    do {
        if (s->missed) state_deinit(&call.copy);
        s->missed = false;
        loop_call(engine->options.log_loop, open_on_log, &call);
    } while (s->missed && call.error == OK);
    if (call.error != OK) {
        (void)map64_remove(&h->streams, id.v);
        mem_free(engine->mem, s);
        return call.error;
    }
    load(s, &call.copy);
    *live = call.copy;
    *out = s;
    return OK;
}

static void forget_appends(struct lane *n, const struct stream *s) {
    size_t kept = 0;
    for (size_t i = 0; i < n->fifo_count; i++) {
        struct shard_fifo f = n->fifo[(n->fifo_head + i) & (n->fifo_capacity - 1)];
        if (f.stream != s) n->fifo[(n->fifo_head + kept++) & (n->fifo_capacity - 1)] = f;
    }
    n->fifo_count = kept;
}

void stream_close(struct stream *s) {
    CHECK_OBJ(s, STREAM_MAGIC);
    struct stream_shard *h = s->shard;
    struct mem *m = h->engine->mem;
    s->durable = NULL;
    /* Appends that are not durable yet refer to us. When the engine has stopped they never will be. */
    while (s->readers > 0 || (s->pending > 0 && !h->stopped)) waitq_wait(&s->quiet);
    if (s->pending > 0) {
        for (unsigned k = 0; k < LANE_KINDS; k++) forget_appends(&h->lanes[k], s);
    }
    ASSERT(waitq_empty(&s->durable_waiters));
    void *gone = map64_remove(&h->streams, s->id.v);
    ASSERT(gone == s);
    stream_cache_drop(s);
    mem_free(m, s->ranges);
    mem_free(m, s->cursors);
    s->magic = 0;
    mem_free(m, s);
}

struct drop_call {
    struct streams *engine;
    struct stream_id id;
};

static void drop_on_log(void *arg) {
    struct drop_call *c = arg;
    struct streams *s = c->engine;
    if (s->closing) return;
    waitgroup_add(&s->background);
    fiber_mutex_lock(&s->checkpoint_lock); /* not in the middle of a checkpoint */
    struct ledger_stream *l = ledger_image_get(&s->image, c->id);
    if (l) {
        upload_count_ranges(s, l, -1);
        if (l->written)
            object_uses_pin(&s->uses, (struct object_id){s->options.incarnation, l->pointer.entry, OBJECT_LEDGER_ENTRY},
                            -1, 0);
        ledger_image_remove(&s->image, c->id);
    }
    fiber_mutex_unlock(&s->checkpoint_lock);
    if (l) checkpoint_entry_made(s); /* entries of ours that held its records are freed by the next checkpoint */
    collect_poke(s);
    waitgroup_done(&s->background);
}

void streams_drop(struct streams *s, struct stream_id id) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    struct drop_call c = {s, id};
    loop_call(s->options.log_loop, drop_on_log, &c);
}

enum err stream_wait_durable(struct stream *s, uint64_t end_offset) {
    CHECK_OBJ(s, STREAM_MAGIC);
    ASSERT(end_offset <= s->appended_end);
    while (s->durable_end < end_offset) {
        if (s->shard->stopped) return s->shard->stop_reason;
        waitq_wait(&s->durable_waiters);
    }
    return OK;
}

enum err stream_wait_start(struct stream *s, uint64_t start_offset) {
    CHECK_OBJ(s, STREAM_MAGIC);
    ASSERT(start_offset <= s->appended_end);
    while (s->durable_start < start_offset) {
        if (s->shard->stopped) return s->shard->stop_reason;
        waitq_wait(&s->durable_waiters);
    }
    return OK;
}

uint64_t stream_appended_end(const struct stream *s) {
    return s->appended_end;
}

uint64_t stream_durable_end(const struct stream *s) {
    if (env_mutant(s->shard->engine->env, MUTANT_SHOW_EARLY)) return s->appended_end;
    return s->durable_end;
}

uint64_t stream_durable_start(const struct stream *s) {
    return s->durable_start;
}

uint64_t stream_size_bytes(const struct stream *s) {
    uint64_t size = 0, end = 0;
    for (size_t i = 0; i < s->range_count; i++) {
        size += s->ranges[i].size_bytes;
        end = s->ranges[i].end_offset;
    }
    for (size_t i = 0; i < s->cache_count; i++) {
        struct cache_entry *e = stream_cache_at(s, i);
        if (e->base_offset >= end) size += e->size;
    }
    return size;
}
