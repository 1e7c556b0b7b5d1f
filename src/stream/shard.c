/* The shard side of the engine: filling commit blocks, the log cache, and what becomes of an append once it is
 * durable or uploaded. */
#include "base/assert.h"
#include "stream/streams_priv.h"

/* When a block is sealed. A group costs its write, an interrupt and a wake-up, some 25 us of processor time, whatever is
 * in it: so what comes while a write is under way waits for that one, and is one group then. But not for long: on a
 * device that takes its time, which may do several things at once, another write begins every GROUP_WAIT_NS; and a block
 * that is large is worth one of its own. WAL_DEPTH at most are under way. */
#define GROUP_WORTH_BYTES (64u << 10) /* for each write that is under way */
#define GROUP_WAIT_NS (250 * NS_PER_US)
#define CACHE_RING_KEPT 8u /* entries: a ring that has any is not made smaller than this */

/* The open block may go, now or at the end of this turn of the loop; or later. */
static void seal_soon(struct lane *n) {
    if (n->seal_posted) return;
    uint64_t under_way = n->sealed_sequence - n->durable_sequence;
    bool by_wal = n->number % LANE_KINDS == LANE_WAL;
    if (under_way >= (by_wal ? WAL_DEPTH : LANE_LEDGER_DEPTH)) return;
    if (by_wal && n->open->size < under_way * GROUP_WORTH_BYTES) {
        if (!timer_armed(&n->seal_timer)) timer_arm(&n->seal_timer, n->sealed_ns + GROUP_WAIT_NS);
        return;
    }
    n->seal_posted = true;
    loop_post(n->shard->loop, &n->seal_mail);
}

/* Once the shard is stopped, whoever waited for what is in the open block has been told: it goes nowhere any more. The WAL
 * may be given up, and its last write end after that. */
static void seal_if_due(struct lane *n) {
    if (!n->shard->stopped && n->open && n->open->records > 0) lane_seal(n);
}

static void seal_mail_deliver(struct mail *m) {
    struct lane *n = CONTAINER_OF(m, struct lane, seal_mail);
    n->seal_posted = false;
    seal_if_due(n);
}

static void seal_timer_fire(struct timer *t) {
    struct lane *n = CONTAINER_OF(t, struct lane, seal_timer);
    if (!n->seal_posted && n->sealed_sequence - n->durable_sequence < WAL_DEPTH) seal_if_due(n);
}

static void durable_mail_deliver(struct mail *m) {
    struct lane *n = CONTAINER_OF(m, struct lane, durable_mail);
    atomic_store(&n->durable_mail_out, false);
    lane_on_durable(n, atomic_load(&n->posted_durable));
}

/* Its share of what the engine may have. */
static struct read_cache *block_cache_create(const struct streams *s) {
    const struct streams_options *o = &s->options;
    uint64_t limit = o->cache_block_bytes / s->shard_count, ahead = o->read_ahead_bytes / s->shard_count;
    unsigned gets = o->read_gets_max ? o->read_gets_max : READ_GETS_DEFAULT;
    if (s->store->gets_at_once > 0 && gets > s->store->gets_at_once) gets = s->store->gets_at_once;
    struct read_cache_options c = {.env = s->env,
                                   .store = s->store,
                                   .generation = s->generation,
                                   .limit_bytes = limit,
                                   .ahead_bytes = ahead > 0 && ahead < limit / 2 ? ahead : limit / 2,
                                   .gets_max = gets > s->shard_count ? gets / s->shard_count : 1};
    c.lent_bytes = c.ahead_bytes;
    return read_cache_create(&c);
}

void shard_init(struct stream_shard *h, struct streams *s, struct loop *loop, unsigned index) {
    *h = (struct stream_shard){.engine = s, .loop = loop, .index = index};
    INIT_OBJ(h, STREAM_SHARD_MAGIC);
    map64_init(&h->streams, s->mem);
    list_init(&h->slabs);
    waitq_init(&h->room);
    waitq_init(&h->moved);
    for (unsigned k = 0; k < LANE_KINDS; k++) {
        struct lane *n = &h->lanes[k];
        n->shard = h;
        n->number = index * LANE_KINDS + k;
        n->next_sequence = 1;
        n->seal_mail.deliver = seal_mail_deliver;
        timer_init(&n->seal_timer, seal_timer_fire);
        n->durable_mail.deliver = durable_mail_deliver;
    }
    h->cache_limit = s->options.cache_log_bytes / s->shard_count;
    if (h->cache_limit < 4ull * COMMIT_SLAB_SIZE) h->cache_limit = 4ull * COMMIT_SLAB_SIZE;
    h->blocks = block_cache_create(s);
}

static void slab_drop(struct stream_shard *h, struct commit_slab *slab) {
    list_remove(&slab->node);
    h->cache_bytes -= slab->slab.size;
    metric_gauge_add(h->engine->env->metrics, M_LOG_CACHE_BYTES, -(int64_t)slab->slab.size);
    struct lane *n = &h->lanes[slab->lane % LANE_KINDS];
    if (n->slab == slab) n->slab = NULL;
    /* What is evicted makes room for the next one: with its pages, which the kernel would otherwise have to find and
     * clear. */
    bool ours = atomic_load_explicit(&slab->slab.refs, memory_order_acquire) == 1;
    if (!h->spare && slab->slab.size == COMMIT_SLAB_SIZE && ours) {
        h->spare = slab;
    } else {
        if (!ours) {
            slab->lent = h->engine->env->metrics;
            metric_gauge_add(slab->lent, M_LOG_CACHE_LENT_BYTES, (int64_t)slab->slab.size);
        }
        slab_unref(&slab->slab);
    }
}

void shard_deinit(struct stream_shard *h) {
    CHECK_OBJ(h, STREAM_SHARD_MAGIC);
    ASSERT(h->streams.count == 0);
    for (unsigned k = 0; k < LANE_KINDS; k++) {
        if (h->lanes[k].open) block_destroy(h->lanes[k].open);
    }
    while (!list_empty(&h->slabs)) slab_drop(h, LIST_ENTRY(h->slabs.next, struct commit_slab, node));
    if (h->spare) slab_unref(&h->spare->slab);
    map64_deinit(&h->streams);
    for (unsigned k = 0; k < LANE_KINDS; k++) mem_free(h->engine->mem, h->lanes[k].fifo);
    read_cache_destroy(h->blocks);
}

struct stream_shard *shard_of_loop(struct streams *s, struct loop *l) {
    for (unsigned i = 0; i < s->shard_count; i++) {
        if (s->shards[i].loop == l) return &s->shards[i];
    }
    UNREACHABLE();
}

/* ---- log cache ---- */

struct cache_entry *stream_cache_at(const struct stream *s, size_t index) {
    ASSERT(index < s->cache_count);
    return &s->cache[(s->cache_head + index) & (s->cache_capacity - 1)];
}

/* Small batches have more of an index than one would think: it counts as what it is of. */
static void cache_resize(struct stream *s, size_t capacity) {
    struct stream_shard *h = s->shard;
    struct mem *m = h->engine->mem;
    struct cache_entry *ring = capacity > 0 ? mem_alloc(m, capacity * sizeof(*ring)) : NULL;
    for (size_t i = 0; i < s->cache_count; i++) ring[i] = *stream_cache_at(s, i);
    mem_free(m, s->cache);
    int64_t more = ((int64_t)capacity - (int64_t)s->cache_capacity) * (int64_t)sizeof(*ring);
    h->index_bytes = (uint64_t)((int64_t)h->index_bytes + more);
    metric_gauge_add(h->engine->env->metrics, M_LOG_CACHE_BYTES, more);
    s->cache = ring;
    s->cache_capacity = capacity;
    s->cache_head = 0;
}

void stream_cache_drop(struct stream *s) {
    s->cache_count = 0;
    cache_resize(s, 0);
}

/* Entries have gone. What a burst needed is not kept. */
static void cache_shrink(struct stream *s) {
    if (s->cache_count == 0) {
        if (s->cache_capacity > 0) cache_resize(s, 0);
    } else if (s->cache_capacity > CACHE_RING_KEPT && s->cache_count <= s->cache_capacity / 4)
        cache_resize(s, s->cache_capacity / 2);
}

static void cache_push(struct stream *s, const struct cache_entry *e) {
    if (s->cache_count == s->cache_capacity) cache_resize(s, s->cache_capacity ? s->cache_capacity * 2 : 4);
    s->cache_count++;
    *stream_cache_at(s, s->cache_count - 1) = *e;
}

/* The oldest entries, up to there, are no longer read from the cache. All are in the ledger. */
static void cache_forget(struct stream *s, uint64_t end_offset) {
    while (s->cache_count && stream_cache_at(s, 0)->end_offset <= end_offset) {
        s->cache_head = (s->cache_head + 1) & (s->cache_capacity - 1);
        s->cache_count--;
    }
    cache_shrink(s);
}

size_t stream_cache_find(const struct stream *s, uint64_t offset) {
    if (s->cache_count == 0 || offset < stream_cache_at(s, 0)->base_offset) return SIZE_MAX;
    size_t low = 0, high = s->cache_count; /* the first entry whose end is above offset */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (stream_cache_at(s, mid)->end_offset > offset)
            high = mid;
        else
            low = mid + 1;
    }
    return low < s->cache_count ? low : SIZE_MAX;
}

/* Its entries that lie in the slab, which are the oldest. */
static void cache_leave(struct stream *s, const struct commit_slab *slab) {
    size_t before = s->cache_count;
    while (s->cache_count && stream_cache_at(s, 0)->slab == slab) {
        s->cache_head = (s->cache_head + 1) & (s->cache_capacity - 1);
        s->cache_count--;
    }
    if (s->cache_count < before) cache_shrink(s);
}

/* Drops the oldest slab from the cache: entries of each stream lie in the order of slabs, so those of this one come
 * first. */
static void evict_oldest(struct stream_shard *h) {
    struct commit_slab *slab = LIST_ENTRY(h->slabs.next, struct commit_slab, node);
    ASSERT(slab->last_sequence <= h->lanes[slab->lane % LANE_KINDS].uploaded_sequence);
    const uint8_t *at = slab->slab.data, *end = at + slab->filled;
    while (at < end) {
        struct group_header g;
        enum err e = group_decode(at, (size_t)(end - at), &g);
        /* never placed in a WAL, so the header was not written: its size is unknown, look at every stream */
        if (e != OK) {
            break;
        }
        size_t position = GROUP_HEADER_SIZE;
        while (position < g.size) {
            struct record_header r;
            const uint8_t *payload;
            record_peek(at + position, &r, &payload);
            position += record_size(r.payload_size);
            struct stream *s = map64_get(&h->streams, r.stream.v);
            if (s) cache_leave(s, slab);
        }
        at += (g.size + ENV_FILE_ALIGN - 1) & ~(size_t)(ENV_FILE_ALIGN - 1);
    }
    if (at < end) {
        size_t cursor = 0;
        struct stream *s;
        while ((s = map64_next(&h->streams, &cursor, NULL)) != NULL) cache_leave(s, slab);
    }
    slab_drop(h, slab);
}

/* What answers hold beyond their share is missing here: so both together stay within what they may, and who does not read
 * costs others a shorter cache. Some of it is left in any case. */
static uint64_t cache_limit_now(const struct stream_shard *h) {
    const struct metrics *m = h->engine->env->metrics;
    int64_t limit = atomic_load_explicit(&m->memory_limits[MEMORY_LOG_CACHE_LENT], memory_order_relaxed);
    int64_t over = memory_used_bytes(m, MEMORY_LOG_CACHE_LENT) - limit;
    if (limit == 0 || over <= 0) return h->cache_limit;
    uint64_t missing = (uint64_t)over / h->engine->shard_count, most = h->cache_limit - h->cache_limit / 8;
    return h->cache_limit - (missing < most ? missing : most);
}

static bool evict_for(struct stream_shard *h, size_t size) {
    /* What goes may stay with an answer, and leaves as much less for the others. */
    while (h->cache_bytes + h->index_bytes + size > cache_limit_now(h)) {
        if (list_empty(&h->slabs)) return true; /* larger than the whole budget: alone, it may */
        struct commit_slab *oldest = LIST_ENTRY(h->slabs.next, struct commit_slab, node);
        const struct lane *n = &h->lanes[oldest->lane % LANE_KINDS];
        if (oldest->last_sequence > n->uploaded_sequence || (n->open && n->open->slab == oldest)) return false;
        evict_oldest(h);
    }
    return true;
}

/* ---- filling ---- */

static size_t slab_size_for(size_t payload_size) {
    size_t need = GROUP_HEADER_SIZE + record_size(payload_size);
    return need > COMMIT_SLAB_SIZE ? need : COMMIT_SLAB_SIZE;
}

static bool slab_has_room(const struct commit_slab *slab, size_t payload_size) {
    return slab && slab->slab.size - slab->filled >= GROUP_HEADER_SIZE + record_size(payload_size) &&
           slab->slab.size - slab->filled >= ENV_FILE_ALIGN;
}

static bool has_room(struct lane *n, size_t size) {
    if (n->open && block_fits(n->open, size)) return true;
    if (!n->open && slab_has_room(n->slab, size)) return true;
    return evict_for(n->shard, slab_size_for(size));
}

/* Suspends until the stream is in the lane that it is wanted in. All its records are in the ledger then, so that what
 * comes on another way comes behind them; and the new lane begins another slab, because a stream's entries in the cache
 * lie in the order of slabs. */
static enum err change_lane(struct stream *s) {
    struct stream_shard *h = s->shard;
    while (s->lane != s->wanted_lane) {
        if (h->stopped) return h->stop_reason;
        struct lane *old = &h->lanes[s->lane];
        bool all_in_ledger = s->uploaded_end == s->appended_end && s->pending == 0;
        if (all_in_ledger || env_mutant(h->engine->env, MUTANT_CHANGE_EARLY)) {
            s->lane = s->wanted_lane;
            struct lane *now = &h->lanes[s->lane];
            if (now->open && now->open->records > 0) lane_seal(now);
            now->slab = NULL;
            break;
        }
        if (old->open && old->open->records > 0) lane_seal(old);
        upload_want(h->engine);
        waitq_wait(&h->moved);
    }
    return h->stopped ? h->stop_reason : OK; /* while we waited another may have changed the lane, and the stop come */
}

void stream_set_durability(struct stream *s, enum stream_durability durability) {
    CHECK_OBJ(s, STREAM_MAGIC);
    bool by_ledger = durability == STREAM_DURABILITY_OBJECT || !log_wal_is(s->shard->engine);
    s->wanted_lane = by_ledger ? LANE_LEDGER : LANE_WAL;
}

enum err stream_reserve(struct stream *s, size_t size) {
    CHECK_OBJ(s, STREAM_MAGIC);
    struct stream_shard *h = s->shard;
    if (size > (1u << 30) ||
        (log_wal_is(h->engine) && slab_size_for(size) + ENV_FILE_ALIGN > log_wal_capacity(h->engine) / 2))
        return ERR_TOO_LARGE;
    if (h->stopped) return h->stop_reason;
    enum err e = change_lane(s);
    if (e != OK) return e;
    if (waitq_empty(&h->room) && has_room(&h->lanes[s->lane], size)) return OK;
    for (;;) {
        upload_want(h->engine);
        waitq_wait(&h->room);
        if (h->stopped) return h->stop_reason;
        if (s->lane == s->wanted_lane && has_room(&h->lanes[s->lane], size)) {
            waitq_wake_one(&h->room); /* perhaps there is room for the next one too */
            return OK;
        }
        if (s->lane == s->wanted_lane) continue;
        waitq_wake_one(&h->room); /* ours is not the next append that fits */
        e = change_lane(s);
        if (e != OK) return e;
        if (has_room(&h->lanes[s->lane], size)) return OK;
    }
}

static void open_block(struct lane *n, size_t payload_size) {
    struct stream_shard *h = n->shard;
    struct streams *s = h->engine;
    if (!slab_has_room(n->slab, payload_size)) {
        size_t size = slab_size_for(payload_size);
        struct commit_slab *slab = h->spare;
        if (slab && size == COMMIT_SLAB_SIZE) {
            h->spare = NULL;
            slab->filled = 0;
            ASSERT(!slab->lent);
        } else {
            slab = commit_slab_create(s->mem, size);
        }
        list_push_back(&h->slabs, &slab->node);
        h->cache_bytes += slab->slab.size;
        metric_gauge_add(s->env->metrics, M_LOG_CACHE_BYTES, (int64_t)slab->slab.size);
        n->slab = slab;
    }
    uint64_t id = (uint64_t)n->number << 48 | n->next_sequence++;
    n->open = block_create(s->mem, n->slab, id, s->options.incarnation, env_now_ns(s->env));
    n->open->owner = s;
}

static void block_mail_deliver(struct mail *m) {
    struct block *b = CONTAINER_OF(m, struct block, mail);
    log_submit(b->owner, b);
}

void lane_seal(struct lane *n) {
    struct stream_shard *h = n->shard;
    struct block *b = n->open;
    n->open = NULL;
    block_seal(b, env_now_ns(h->engine->env));
    n->sealed_sequence = block_sequence(b);
    n->sealed_ns = b->sealed_ns;
    timer_disarm(&n->seal_timer);
    if (n->number % LANE_KINDS == LANE_LEDGER) {
        /* No WAL writes the header; who evicts the slab finds the block's size there (evict_oldest). */
        struct group_header g = {.kind = GROUP_RECORDS,
                                 .incarnation = b->incarnation,
                                 .block_id = b->id,
                                 .size = b->size,
                                 .record_count = b->records};
        group_encode(b->data, &g);
    }
    b->mail.deliver = block_mail_deliver;
    if (h->engine->options.log_loop == h->loop) {
        log_submit(h->engine, b);
    } else {
        loop_post(h->engine->options.log_loop, &b->mail);
    }
}

static void fifo_push(struct lane *n, const struct shard_fifo *f) {
    if (n->fifo_count == n->fifo_capacity) {
        struct mem *m = n->shard->engine->mem;
        size_t capacity = n->fifo_capacity ? n->fifo_capacity * 2 : 64;
        struct shard_fifo *grown = mem_alloc(m, capacity * sizeof(*grown));
        for (size_t i = 0; i < n->fifo_count; i++) grown[i] = n->fifo[(n->fifo_head + i) & (n->fifo_capacity - 1)];
        mem_free(m, n->fifo);
        n->fifo = grown;
        n->fifo_capacity = capacity;
        n->fifo_head = 0;
    }
    n->fifo[(n->fifo_head + n->fifo_count++) & (n->fifo_capacity - 1)] = *f;
}

/* For MUTANT_CACHE_ORDER. */
static void swap_newest(struct stream *s) {
    if (s->cache_count < 2 || s->durable_end == s->appended_end) return;
    struct cache_entry *a = stream_cache_at(s, s->cache_count - 2), *b = stream_cache_at(s, s->cache_count - 1);
    if (a->slab != b->slab) return;
    struct cache_entry was = *a;
    a->data = b->data;
    a->size = b->size;
    b->data = was.data;
    b->size = was.size;
}

void stream_append(struct stream *s, const struct stream_record *r) {
    CHECK_OBJ(s, STREAM_MAGIC);
    struct stream_shard *h = s->shard;
    struct lane *n = &h->lanes[s->lane];
    ASSERT(!h->stopped && s->loaded && loop_current() == h->loop && s->lane == s->wanted_lane);
    if (r->type == STREAM_BATCH) {
        ASSERT(r->base_offset == s->appended_end && r->end_offset > r->base_offset);
    } else {
        ASSERT(r->type == STREAM_TRIM && r->end_offset <= s->appended_end && r->payload_size == 0);
    }
    if (n->open && !block_fits(n->open, r->payload_size)) lane_seal(n);
    if (!n->open) open_block(n, r->payload_size);
    struct record_header header = {.payload_size = (uint32_t)r->payload_size,
                                   .type = r->type,
                                   .flags = r->flags,
                                   .epoch = s->epoch,
                                   .stream = s->id,
                                   .base_offset = r->base_offset,
                                   .end_offset = r->end_offset,
                                   .max_timestamp = r->max_timestamp};
    const uint8_t *at = block_append(n->open, &header, r->payload, r->payload_crc);
    struct shard_fifo f = {.stream = s, .sequence = block_sequence(n->open)};
    if (r->type == STREAM_BATCH) {
        struct cache_entry e = {r->base_offset,           r->end_offset, r->max_timestamp, n->open->slab, at,
                                (uint32_t)r->payload_size};
        cache_push(s, &e);
        if (env_mutant(h->engine->env, MUTANT_CACHE_ORDER)) swap_newest(s);
        s->appended_end = f.end_offset = r->end_offset;
    } else {
        f.start_offset = r->end_offset;
        if (env_mutant(h->engine->env, MUTANT_TRIM_UNSAVED)) s->durable_start = r->end_offset;
    }
    fifo_push(n, &f);
    s->pending++;
    if (n->open->size >= BLOCK_SIZE_MAX) {
        lane_seal(n);
    } else {
        seal_soon(n);
    }
}

/* ---- durable, uploaded ---- */

void lane_on_durable(struct lane *n, uint64_t sequence) {
    if (sequence <= n->durable_sequence) return;
    ASSERT(sequence <= n->sealed_sequence);
    n->durable_sequence = sequence;
    struct stream *last = NULL;
    while (n->fifo_count > 0 && n->fifo[n->fifo_head].sequence <= sequence) {
        struct shard_fifo f = n->fifo[n->fifo_head];
        n->fifo_head = (n->fifo_head + 1) & (n->fifo_capacity - 1);
        n->fifo_count--;
        struct stream *s = f.stream;
        if (f.end_offset) {
            ASSERT(f.end_offset > s->durable_end);
            s->durable_end = f.end_offset;
        }
        if (f.start_offset > s->durable_start) s->durable_start = f.start_offset;
        ASSERT(s->pending > 0);
        s->pending--;
        /* Runs of one stream are told once. */
        bool same_follows =
            n->fifo_count > 0 && n->fifo[n->fifo_head].sequence <= sequence && n->fifo[n->fifo_head].stream == s;
        if (same_follows) continue;
        last = s;
        waitq_wake_all(&last->durable_waiters);
        if (last->pending == 0) waitq_wake_all(&last->quiet);
        if (last->durable) last->durable(last->ctx);
    }
    if (!n->shard->stopped && n->open && n->open->records > 0) seal_soon(n);
}

static void add_range(struct stream *s, const struct state_range *r) {
    if (s->range_count > 0) {
        const struct state_range *last = &s->ranges[s->range_count - 1];
        if (r->end_offset <= last->end_offset) return; /* known from the copy at opening */
        ASSERT(r->first_offset == last->end_offset);
    }
    s->ranges = mem_grow(s->shard->engine->mem, s->ranges, s->range_count, &s->range_capacity, sizeof(*s->ranges));
    s->ranges[s->range_count++] = *r;
}

/* Those that cover the offsets of r[0..count) become r. */
static void replace_ranges(struct stream *s, const struct state_range *r, size_t count) {
    uint64_t from = r[0].first_offset, to = r[count - 1].end_offset;
    size_t first = 0;
    while (first < s->range_count && s->ranges[first].end_offset <= from) first++;
    size_t end = first;
    while (end < s->range_count && s->ranges[end].end_offset <= to) end++;
    if (end == first || s->ranges[end - 1].end_offset != to || s->ranges[first].first_offset < from) return;
    size_t behind = s->range_count - end;
    while (s->range_capacity < first + count + behind)
        s->ranges =
            mem_grow(s->shard->engine->mem, s->ranges, s->range_capacity, &s->range_capacity, sizeof(*s->ranges));
    memmove(&s->ranges[first + count], &s->ranges[end], behind * sizeof(*s->ranges));
    memcpy(&s->ranges[first], r, count * sizeof(*r));
    s->range_count = first + count + behind;
}

void shard_on_commit(struct commit_mail *m) {
    struct stream_shard *h = m->shard;
    CHECK_OBJ(h, STREAM_SHARD_MAGIC);
    for (size_t i = 0; i < m->count; i++) {
        struct commit_item *c = &m->items[i];
        struct stream *s = map64_get(&h->streams, c->stream.v);
        if (!s) continue;
        if (!s->loaded) { /* being opened: the copy that is on its way may or may not have this */
            s->missed = true;
            continue;
        }
        s->ranges_version++;
        if (c->end_offset > s->uploaded_end) s->uploaded_end = c->end_offset;
        if (c->has_range) add_range(s, &c->range);
        if (c->replaced) {
            replace_ranges(s, c->replaced, c->replaced_count);
            if (c->forget) cache_forget(s, c->replaced[c->replaced_count - 1].end_offset);
        }
        size_t gone = 0;
        while (gone < s->range_count && s->ranges[gone].end_offset <= c->start_offset) gone++;
        if (gone > 0) {
            memmove(s->ranges, s->ranges + gone, (s->range_count - gone) * sizeof(*s->ranges));
            s->range_count -= gone;
        }
    }
    for (unsigned k = 0; k < LANE_KINDS; k++) {
        if (m->uploaded_sequence[k] > h->lanes[k].uploaded_sequence)
            h->lanes[k].uploaded_sequence = m->uploaded_sequence[k];
    }
    /* Also when nothing of ours was in it: it used up the wish for an upload, and whoever waits for room has to
     * utter it again. */
    waitq_wake_one(&h->room);
    waitq_wake_all(&h->moved);
    for (size_t i = 0; i < m->count; i++) mem_free(h->engine->mem, m->items[i].replaced);
    mem_free(h->engine->mem, m->items);
    mem_free(h->engine->mem, m);
}

void shard_stop(struct stream_shard *h, enum err why) {
    if (h->stopped) return;
    h->stopped = true;
    h->stop_reason = why;
    for (unsigned k = 0; k < LANE_KINDS; k++) timer_disarm(&h->lanes[k].seal_timer);
    waitq_wake_all(&h->room);
    waitq_wake_all(&h->moved);
    size_t cursor = 0;
    struct stream *s;
    while ((s = map64_next(&h->streams, &cursor, NULL)) != NULL) {
        waitq_wake_all(&s->durable_waiters);
        waitq_wake_all(&s->quiet);
    }
}

const struct state_range *stream_range_find(const struct stream *s, uint64_t offset) {
    size_t low = 0, high = s->range_count; /* the first range whose end is above offset */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->ranges[mid].end_offset > offset)
            high = mid;
        else
            low = mid + 1;
    }
    if (low == s->range_count || s->ranges[low].first_offset > offset) return NULL;
    return &s->ranges[low];
}
