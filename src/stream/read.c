/* Reading a stream: from the log cache where the tail is, from objects through the block cache below it. */
#include "base/assert.h"
#include "kafka/batch.h"
#include "stream/streams_priv.h"

#define LOOK_AGAIN_MAX 5u
#define PIECES_AHEAD_MAX 16u           /* that one reader looks at for its read-ahead */
#define TURN_BYTES ((size_t)256 << 10) /* taken, or so many batches looked at: then others may run */
#define TURN_BATCHES 1024u

struct read {
    struct stream *s;
    uint64_t offset, limit;
    size_t max_bytes, taken;
    bool whole_first, cached_only, full;
    size_t turn_bytes;     /* of `taken`, when others were last let run */
    unsigned turn_batches; /* looked at since */
    uint64_t until_ns;
    struct slices *out;
};

/* Takes a batch if it fits; false when the answer is complete. */
static bool take(struct read *r, struct slice batch, uint64_t end_offset) {
    if (end_offset > r->limit || (r->taken + batch.size > r->max_bytes && !(r->whole_first && r->taken == 0))) {
        r->full = true;
        slice_unref(&batch);
        return false;
    }
    r->taken += batch.size;
    struct slice *last = r->out->count ? &r->out->items[r->out->count - 1] : NULL;
    if (last && last->slab == batch.slab && last->data + last->size == batch.data && batch.slab) {
        last->size += batch.size; /* a run within one block */
        r->out->size_bytes += batch.size;
        slice_unref(&batch);
    } else {
        slices_push(r->out, batch);
    }
    r->offset = end_offset;
    return true;
}

/* A reader of much that lies in memory would else hold up all others of its loop. Suspends then: look things up again. */
static void let_others_run(struct read *r) {
    if (r->taken - r->turn_bytes < TURN_BYTES && r->turn_batches < TURN_BATCHES) return;
    r->turn_bytes = r->taken;
    r->turn_batches = 0;
    fiber_yield();
}

/* Out of the log cache: lent, or, while more is lent than may be, copied, where that takes much less than the slab that it
 * would keep. So what can be lent at most is what was when it became too much, and what answers then held of the cache. */
static struct slice lend(const struct read *r, const struct cache_entry *e, bool copies) {
    struct slab *from = &e->slab->slab;
    if (!copies || e->size > from->size / 2) return slice_of(from, (size_t)(e->data - from->data), e->size);
    struct slab *slab = slab_create(r->s->shard->engine->mem, e->size, 16);
    memcpy(slab->data, e->data, e->size);
    struct slice s = slice_of(slab, 0, e->size);
    slab_unref(slab);
    return s;
}

static bool from_cache(struct read *r) {
    size_t i = stream_cache_find(r->s, r->offset);
    if (i == SIZE_MAX) return false;
    const struct metrics *m = r->s->shard->engine->env->metrics;
    bool copies = memory_is_over(m, MEMORY_LOG_CACHE_LENT);
    metric_add(r->s->shard->engine->env->metrics, M_LOG_CACHE_READS, 0, 1);
    for (; i < r->s->cache_count && r->turn_batches < TURN_BATCHES; i++) {
        r->turn_batches++;
        struct cache_entry *e = stream_cache_at(r->s, i);
        struct slice batch = lend(r, e, copies);
        if (!take(r, batch, e->end_offset)) break;
    }
    return true;
}

/* ---- objects ---- */

static uint32_t block_of(const struct object_block *blocks, uint32_t count, uint64_t offset) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (blocks[mid].end_offset > offset)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* Read-ahead grows as long as one reads in sequence, and a block of small batches is not walked through again from its
 * start. Several readers of a stream have a cursor each. */
static struct read_cursor cursor_at(const struct stream *s, uint64_t offset) {
    for (unsigned i = 0; i < s->cursor_count; i++) {
        if (s->cursors[i].used && s->cursors[i].next_offset == offset) return s->cursors[i];
    }
    return (struct read_cursor){.next_offset = offset};
}

static size_t window_of(const struct read_cursor *c) {
    if (!c->used) return WINDOW_MIN;
    return c->window_bytes < WINDOW_MAX ? c->window_bytes * 2 : WINDOW_MAX;
}

/* The one least recently used makes way for a reader that has just begun, unless it has read on and on: then there are
 * more cursors. */
static struct read_cursor *cursor_for(struct stream *s, uint64_t from) {
    struct read_cursor *oldest = NULL;
    for (unsigned i = 0; i < s->cursor_count; i++) {
        struct read_cursor *c = &s->cursors[i];
        if (c->used && c->next_offset == from) return c;
        if (!oldest || c->used < oldest->used) oldest = c;
    }
    bool precious = !oldest || (oldest->used && oldest->window_bytes > WINDOW_MIN);
    if (!precious || s->cursor_count >= STREAM_CURSORS_MAX) return oldest;
    unsigned count = s->cursor_count ? s->cursor_count * 2 : STREAM_CURSORS_MIN;
    s->cursors = mem_realloc(s->shard->engine->mem, s->cursors, count * sizeof(*s->cursors));
    memset(s->cursors + s->cursor_count, 0, (count - s->cursor_count) * sizeof(*s->cursors));
    oldest = &s->cursors[s->cursor_count];
    s->cursor_count = count;
    return oldest;
}

static void move_cursor(struct stream *s, uint64_t from, const struct read_cursor *to) {
    struct read_cursor *mine = cursor_for(s, from);
    *mine = *to;
    mine->used = ++s->cursor_clock;
}

/* Is what lies there the first batch that ends above what is wanted, all before it ending below? Offsets may be left out
 * between two batches. Bytes of objects never change, but these are from outside. */
static bool begins_at(const struct read *r, struct slice block, size_t at) {
    struct batch_header h;
    return at < block.size && batch_parse_unchecked(block.data + at, block.size - at, &h) == OK &&
           (uint64_t)h.base_offset >= r->offset;
}

/* From the batch at *at on. *at: then of the first one that found no room, or the block's size. Then, too, what is wanted
 * next lies behind the block, whether or not its last offsets have been left out. */
static enum err take_block(struct read *r, struct slice block, const struct object_block *of, size_t *at) {
    while (*at < block.size) {
        struct batch_header h;
        enum err e = batch_parse_unchecked(block.data + *at, block.size - *at, &h);
        if (e != OK) return ERR_CORRUPT;
        uint64_t end = (uint64_t)batch_end_offset(&h);
        /* Another block than its index says. */
        if ((uint64_t)h.base_offset < of->first_offset || end > of->end_offset) return ERR_CORRUPT;
        r->turn_batches++;
        if (end > r->offset && !take(r, slice_sub(block, *at, h.size), end)) return OK;
        *at += h.size;
    }
    if (of->end_offset > r->limit)
        r->full = true;
    else if (of->end_offset > r->offset)
        r->offset = of->end_offset;
    return OK;
}

/* Only what is in memory may still come. */
static bool without_store(const struct read *r) {
    return r->cached_only || (r->taken > 0 && env_now_ns(r->s->shard->engine->env) >= r->until_ns);
}

/* What comes behind block `index`, of this piece and those that follow. A GET for a little more of the same is sent later,
 * for more; a piece that is hardly larger than what is left comes whole. */
static void read_ahead(const struct read *r, const struct state_range *piece, const struct object_block *blocks,
                       uint32_t index, size_t window) {
    struct stream *s = r->s;
    struct read_cache *cache = s->shard->blocks;
    size_t worth = window / 2 < READ_GET_MAX ? window / 2 : READ_GET_MAX;
    size_t left = read_cache_prefetch(cache, piece, blocks, index + 1, window, worth);
    uint64_t offset = piece->end_offset;
    for (unsigned i = 0; left > 0 && i < PIECES_AHEAD_MAX; i++) {
        if (offset >= s->durable_end || stream_cache_find(s, offset) != SIZE_MAX) return;
        const struct state_range *next = stream_range_find(s, offset);
        if (!next) return;
        offset = next->end_offset;
        if (left < next->size_bytes && next->size_bytes / 2 < left) left = (size_t)next->size_bytes;
        left = read_cache_prefetch_piece(cache, next, left, worth);
    }
}

/* One block, from where the cursor says on, if it says so of this block. */
static enum err from_block(struct read *r, const struct state_range *piece, const struct object_block *blocks,
                           uint32_t i, size_t window, struct read_cursor *cursor) {
    struct slice block;
    enum err e = read_cache_block(r->s->shard->blocks, piece, blocks, i, window, cursor->reader, &block);
    if (e != OK) return e;
    if (window > WINDOW_MIN) read_ahead(r, piece, blocks, i, window);
    uint64_t position = piece->position + blocks[i].position;
    bool known = cursor->at > 0 && cursor->block_position == position && object_id_equal(cursor->object, piece->object);
    size_t at = known && begins_at(r, block, cursor->at) ? cursor->at : 0;
    e = take_block(r, block, &blocks[i], &at);
    cursor->object = piece->object;
    cursor->block_position = position;
    cursor->at = at < block.size ? (uint32_t)at : 0;
    slice_unref(&block);
    return e;
}

/* Whatever the piece held is taken: its last offsets may have been left out. */
static enum err past_piece(struct read *r, const struct state_range *piece) {
    if (piece->end_offset > r->limit)
        r->full = true;
    else if (r->offset < piece->end_offset)
        r->offset = piece->end_offset;
    return OK;
}

static bool holds_range(const struct state_range *piece, const struct object_block *blocks) {
    return blocks[0].first_offset >= piece->first_offset &&
           blocks[piece->block_count - 1].end_offset <= piece->end_offset;
}

/* Everything that is wanted of one piece. */
static enum err from_piece(struct read *r, const struct state_range *piece) {
    struct read_cache *cache = r->s->shard->blocks;
    struct metrics *metrics = r->s->shard->engine->env->metrics;
    if (piece->block_count == 0) return past_piece(r, piece);
    if (!read_cache_has_index(cache, piece) && without_store(r)) return ERR_BUSY;
    uint64_t from = r->offset;
    struct read_cursor cursor = cursor_at(r->s, from);
    if (!cursor.reader) cursor.reader = read_cache_reader(cache);
    size_t window = window_of(&cursor), share = read_cache_share(cache, &cursor.seen);
    if (window > share) window = share;
    const struct object_block *blocks;
    struct slice hold;
    enum err e = read_cache_index(cache, piece, from <= piece->first_offset ? window : 0, &blocks, &hold);
    if (e != OK) return e;
    if (!holds_range(piece, blocks)) e = ERR_CORRUPT;
    uint32_t i = block_of(blocks, piece->block_count, r->offset);
    for (; e == OK && i < piece->block_count && !r->full; i++) {
        if (!read_cache_has(cache, piece, &blocks[i]) && without_store(r)) {
            e = ERR_BUSY;
            break;
        }
        if (r->taken > 0 && read_cache_crowded(cache)) {
            metric_add(metrics, M_READ_CUT_SHORT, 0, 1);
            r->full = true;
            break;
        }
        e = from_block(r, piece, blocks, i, window, &cursor);
        if (e == OK) let_others_run(r);
    }
    if (e == OK && !r->full) e = past_piece(r, piece);
    cursor.next_offset = r->offset;
    cursor.window_bytes = window;
    if (r->offset > from) move_cursor(r->s, from, &cursor);
    slice_unref(&hold);
    return e;
}

/* Whatever an object of old ranges was like when it was read, it says nothing: it may be gone, and a broker that is about
 * to learn that it is late may have put its own under that name. */
static bool has_changed(const struct stream *s, uint64_t version, uint64_t offset) {
    return s->ranges_version != version || offset < s->durable_start;
}

static enum err read_on(struct read *r) {
    struct stream *s = r->s;
    unsigned looked_again = 0;
    while (r->offset < r->limit && !r->full) {
        if (s->shard->stopped) return s->shard->stop_reason;
        if (r->offset < s->durable_start) return ERR_OFFSET_OUT_OF_RANGE;
        if (from_cache(r)) {
            let_others_run(r);
            continue;
        }
        const struct state_range *found = stream_range_find(s, r->offset);
        if (!found) return ERR_OFFSET_OUT_OF_RANGE; /* trimmed while we read */
        struct state_range piece = *found;
        uint64_t version = s->ranges_version;
        enum err e = from_piece(r, &piece);
        if (e != OK && has_changed(s, version, r->offset) && looked_again++ < LOOK_AGAIN_MAX) continue;
        if (e != OK) return r->taken > 0 ? OK : e;
    }
    return OK;
}

enum err stream_read(struct stream *s, uint64_t offset, uint64_t limit, size_t max_bytes, bool whole_first,
                     bool cached_only, uint64_t until_ns, struct slices *out) {
    CHECK_OBJ(s, STREAM_MAGIC);
    ASSERT(limit <= stream_durable_end(s) || env_mutant(s->shard->engine->env, MUTANT_FETCH_AHEAD));
    ASSERT(loop_current() == s->shard->loop);
    if (offset < s->durable_start || offset > limit) return ERR_OFFSET_OUT_OF_RANGE;
    struct read r = {.s = s,
                     .offset = offset,
                     .limit = limit,
                     .max_bytes = max_bytes,
                     .whole_first = whole_first,
                     .cached_only = cached_only,
                     .until_ns = until_ns,
                     .out = out};
    s->readers++;
    enum err e = read_on(&r);
    if (--s->readers == 0) waitq_wake_all(&s->quiet);
    return e;
}

bool stream_is_fresh(const struct stream *s, uint64_t offset) {
    CHECK_OBJ(s, STREAM_MAGIC);
    return stream_cache_find(s, offset) != SIZE_MAX;
}

/* ---- by timestamp ---- */

static bool batch_at(const uint8_t *data, size_t size, uint64_t from, uint64_t limit, int64_t timestamp,
                     size_t *batch_size, bool *hit) {
    struct batch_header h;
    if (batch_parse_unchecked(data, size, &h) != OK) return false;
    *batch_size = h.size;
    /* Of one without records log compaction has left the header, with a time that no record has. */
    *hit = h.record_count > 0 && (uint64_t)batch_end_offset(&h) > from && (uint64_t)batch_end_offset(&h) <= limit &&
           h.max_timestamp >= timestamp;
    return true;
}

static enum err find_in_piece(struct stream *s, const struct state_range *piece, uint64_t from, uint64_t limit,
                              int64_t timestamp, struct slice *batch) {
    const struct object_block *blocks;
    struct slice hold;
    enum err e = read_cache_index(s->shard->blocks, piece, 0, &blocks, &hold);
    if (e != OK) return e == ERR_NOT_FOUND ? ERR_STALE : e; /* a missing object is not a missing timestamp */
    e = ERR_NOT_FOUND;
    for (uint32_t i = block_of(blocks, piece->block_count, from); i < piece->block_count && e == ERR_NOT_FOUND; i++) {
        if (blocks[i].max_timestamp < timestamp) continue;
        if (env_mutant(s->shard->engine->env, MUTANT_TIME_INDEX) && blocks[i].max_timestamp == timestamp) continue;
        struct slice block;
        enum err got = read_cache_block(s->shard->blocks, piece, blocks, i, WINDOW_MIN,
                                        read_cache_reader(s->shard->blocks), &block);
        if (got != OK) {
            e = got == ERR_NOT_FOUND ? ERR_STALE : got;
            break;
        }
        size_t at = 0, size = 0;
        bool hit = false;
        while (at < block.size && !hit) {
            if (!batch_at(block.data + at, block.size - at, from, limit, timestamp, &size, &hit)) {
                e = ERR_CORRUPT;
                break;
            }
            if (hit) {
                *batch = slice_sub(block, at, size);
                e = OK;
            }
            at += size;
        }
        slice_unref(&block);
    }
    slice_unref(&hold);
    return e;
}

static enum err find_on(struct stream *s, uint64_t from, uint64_t limit, int64_t timestamp, struct slice *batch) {
    unsigned looked_again = 0;
    while (from < limit) {
        if (from < s->durable_start) from = s->durable_start;
        size_t i = stream_cache_find(s, from);
        if (i != SIZE_MAX) {
            for (; i < s->cache_count; i++) {
                struct cache_entry *c = stream_cache_at(s, i);
                if (c->end_offset > limit) return ERR_NOT_FOUND;
                if (c->max_timestamp < timestamp) continue;
                *batch = slice_of(&c->slab->slab, (size_t)(c->data - c->slab->slab.data), c->size);
                return OK;
            }
            return ERR_NOT_FOUND;
        }
        const struct state_range *found = stream_range_find(s, from);
        if (!found) return ERR_NOT_FOUND;
        struct state_range piece = *found;
        if (piece.max_timestamp >= timestamp) {
            uint64_t version = s->ranges_version;
            enum err e = find_in_piece(s, &piece, from, limit, timestamp, batch);
            bool failed = e != OK && e != ERR_NOT_FOUND;
            if (failed && has_changed(s, version, from) && looked_again++ < LOOK_AGAIN_MAX) continue;
            if (e != ERR_NOT_FOUND) return e;
        }
        from = piece.end_offset;
    }
    return ERR_NOT_FOUND;
}

enum err stream_find_timestamp(struct stream *s, uint64_t from, uint64_t limit, int64_t timestamp,
                               struct slice *batch) {
    CHECK_OBJ(s, STREAM_MAGIC);
    s->readers++;
    enum err e = find_on(s, from, limit, timestamp, batch);
    if (--s->readers == 0) waitq_wake_all(&s->quiet);
    return e;
}
