/* Reading a stream: from the log cache where the tail is, from objects through the block cache below it. */
#include "base/assert.h"
#include "kafka/batch.h"
#include "stream/streams_priv.h"

#define LOOK_AGAIN_MAX 5u

struct read {
    struct stream *s;
    uint64_t offset, limit;
    size_t max_bytes, taken;
    bool whole_first, cached_only, full;
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

static bool from_cache(struct read *r) {
    size_t i = stream_cache_find(r->s, r->offset);
    if (i == SIZE_MAX) return false;
    metric_add(r->s->shard->engine->env->metrics, M_LOG_CACHE_READS, 0, 1);
    for (; i < r->s->cache_count; i++) {
        struct cache_entry *e = stream_cache_at(r->s, i);
        struct slice batch = slice_of(&e->slab->slab, (size_t)(e->data - e->slab->slab.data), e->size);
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
    for (unsigned i = 0; s->cursors && i < STREAM_CURSORS; i++) {
        if (s->cursors[i].used && s->cursors[i].next_offset == offset) return s->cursors[i];
    }
    return (struct read_cursor){.next_offset = offset};
}

static size_t window_of(const struct read_cursor *c) {
    if (!c->used) return WINDOW_MIN;
    return c->window_bytes < WINDOW_MAX ? c->window_bytes * 2 : WINDOW_MAX;
}

static void move_cursor(struct stream *s, uint64_t from, const struct read_cursor *to) {
    if (!s->cursors) s->cursors = mem_zalloc(s->shard->engine->mem, STREAM_CURSORS * sizeof(*s->cursors));
    struct read_cursor *mine = &s->cursors[0];
    for (unsigned i = 0; i < STREAM_CURSORS; i++) {
        struct read_cursor *c = &s->cursors[i];
        if (c->used && c->next_offset == from) {
            mine = c;
            break;
        }
        if (c->used < mine->used) mine = c; /* the one least recently used */
    }
    *mine = *to;
    mine->used = ++s->cursor_clock;
}

/* Does the batch that lies there begin with what is wanted next? Bytes of objects never change, but these are from outside. */
static bool begins_at(const struct read *r, struct slice block, size_t at) {
    struct batch_header h;
    return at < block.size && batch_parse_unchecked(block.data + at, block.size - at, &h) == OK &&
           (uint64_t)h.base_offset == r->offset;
}

/* From the batch at *at on. *at: then of the first one that found no room, or the block's size. */
static enum err take_block(struct read *r, struct slice block, size_t *at) {
    while (*at < block.size) {
        struct batch_header h;
        enum err e = batch_parse_unchecked(block.data + *at, block.size - *at, &h);
        if (e != OK) return ERR_CORRUPT;
        uint64_t end = (uint64_t)batch_end_offset(&h);
        if (end > r->offset && !take(r, slice_sub(block, *at, h.size), end)) return OK;
        *at += h.size;
    }
    return OK;
}

/* Only what is in memory may still come. */
static bool without_store(const struct read *r) {
    return r->cached_only || (r->taken > 0 && env_now_ns(r->s->shard->engine->env) >= r->until_ns);
}

/* Everything that is wanted of one piece. */
static enum err from_piece(struct read *r, const struct state_range *piece) {
    struct read_cache *cache = r->s->shard->blocks;
    if (!read_cache_has_index(cache, piece) && without_store(r)) return ERR_BUSY;
    const struct object_block *blocks;
    struct slice hold;
    enum err e = read_cache_index(cache, piece, &blocks, &hold);
    if (e != OK) return e;
    uint64_t from = r->offset;
    struct read_cursor cursor = cursor_at(r->s, from);
    size_t window = window_of(&cursor);
    uint32_t i = block_of(blocks, piece->block_count, r->offset);
    while (e == OK && i < piece->block_count && !r->full) {
        if (!read_cache_has(cache, piece, &blocks[i]) && without_store(r)) {
            e = ERR_BUSY;
            break;
        }
        struct slice block;
        e = read_cache_block(cache, piece, blocks, i, window, &block);
        if (e != OK) break;
        if (window > WINDOW_MIN && i + 1 < piece->block_count) read_cache_prefetch(cache, piece, blocks, i + 1, window);
        uint64_t before = r->offset, position = piece->position + blocks[i].position;
        bool known =
            cursor.at > 0 && cursor.block_position == position && object_id_equal(cursor.object, piece->object);
        size_t at = known && begins_at(r, block, cursor.at) ? cursor.at : 0;
        e = take_block(r, block, &at);
        cursor = (struct read_cursor){.object = piece->object, .block_position = position};
        if (at < block.size) cursor.at = (uint32_t)at;
        slice_unref(&block);
        if (e == OK && !r->full && r->offset == before) e = ERR_CORRUPT; /* a block must bring us forward */
        i++;
    }
    if (e == OK && !r->full && r->offset == from) e = ERR_CORRUPT; /* a piece that does not hold what its range says */
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
        if (from_cache(r)) continue;
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
    enum err e = read_cache_index(s->shard->blocks, piece, &blocks, &hold);
    if (e != OK) return e == ERR_NOT_FOUND ? ERR_STALE : e; /* a missing object is not a missing timestamp */
    e = ERR_NOT_FOUND;
    for (uint32_t i = block_of(blocks, piece->block_count, from); i < piece->block_count && e == ERR_NOT_FOUND; i++) {
        if (blocks[i].max_timestamp < timestamp) continue;
        if (env_mutant(s->shard->engine->env, MUTANT_TIME_INDEX) && blocks[i].max_timestamp == timestamp) continue;
        struct slice block;
        enum err got = read_cache_block(s->shard->blocks, piece, blocks, i, WINDOW_MIN, &block);
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
