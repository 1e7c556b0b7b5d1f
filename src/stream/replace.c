#include "stream/replace.h"

#include <inttypes.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "kafka/batch.h"
#include "stream/replacement.h"
#include "stream/streams_priv.h"

#define REPLACE_MAGIC 0x4e91ace1u
/* Nothing here is urgent: after so many failures of one request the whole is given up, to be begun again later. */
#define ATTEMPTS_MAX 6u

struct output { /* an object that is durable and that nothing names yet */
    struct state_range range;
};

struct replace {
    unsigned magic;
    struct streams *s;
    struct stream_id stream;
    int32_t epoch;
    struct stream_state state;
    uint64_t io_bytes;
    /* The run. */
    bool running;
    uint64_t first_offset, end_offset;
    struct object_piece piece;
    uint64_t piece_bytes; /* that it holds, counted */
    struct output *outputs;
    size_t output_count, output_capacity;
};

bool streams_look(struct streams *s, struct stream_id id, void (*look)(void *ctx, const struct stream_state *committed),
                  void *ctx) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(loop_current() == s->options.log_loop);
    const struct ledger_stream *c = ledger_image_get(&s->image, id);
    if (!s->started || s->closing || s->fenced || !c || c->refused || c->replacing) return false;
    look(ctx, &c->state);
    return true;
}

enum err replace_begin(struct streams *s, struct stream_id id, struct replace **out) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(loop_current() == s->options.log_loop);
    if (!s->started || s->closing || s->fenced) return ERR_CLOSED;
    struct ledger_stream *c = ledger_image_get(&s->image, id);
    if (!c || c->refused) return ERR_NOT_FOUND;
    if (c->replacing) return ERR_BUSY;
    c->replacing = true;
    struct replace *r = MEM_NEW(s->mem, struct replace);
    INIT_OBJ(r, REPLACE_MAGIC);
    r->s = s;
    r->stream = id;
    r->epoch = c->epoch;
    struct stream_state without_table = c->state;
    without_table.table = NULL;
    state_copy(&r->state, &without_table, s->mem);
    *out = r;
    return OK;
}

void replace_end(struct replace *r) {
    CHECK_OBJ(r, REPLACE_MAGIC);
    struct streams *s = r->s;
    replace_run_drop(r);
    struct ledger_stream *c = ledger_image_get(&s->image, r->stream);
    if (c) {
        ASSERT(c->replacing);
        c->replacing = false;
        compact_enlist(s, c);
        compact_poke(s);
    }
    state_deinit(&r->state);
    mem_free(s->mem, r->outputs);
    r->magic = 0;
    mem_free(s->mem, r);
}

const struct stream_state *replace_state(const struct replace *r) {
    return &r->state;
}

uint64_t replace_io_bytes(const struct replace *r) {
    return r->io_bytes;
}

/* What log compaction holds (M_CLEANER_BYTES). */
static void hold(struct replace *r, uint64_t more, uint64_t less) {
    metric_gauge_add(r->s->env->metrics, M_CLEANER_BYTES, (int64_t)more - (int64_t)less);
}

/* ---- reading ---- */

static bool stopping(const struct streams *s) {
    return s->closing || s->close_begun || s->fenced;
}

static bool again(struct streams *s, enum err e, unsigned *attempt) {
    if (e == OK || e == ERR_NOT_FOUND || err_class(e) == ERR_CLASS_FATAL || stopping(s)) return false;
    if (++*attempt == ATTEMPTS_MAX) return false;
    env_backoff(s->env, *attempt, 50 * NS_PER_MS, 2 * NS_PER_S);
    return !stopping(s);
}

static void drop_read(struct replace *r, struct slice *read) {
    hold(r, 0, read->size);
    slice_unref(read);
}

/* *out until drop_read. */
static enum err get(struct replace *r, const struct state_range *g, uint64_t position, uint64_t size,
                    struct slice *out) {
    struct streams *s = r->s;
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, g->object);
    enum err e;
    unsigned attempt = 0;
    do {
        if (stopping(s)) return ERR_CANCELLED;
        e = store_get(s->store, key, g->position + position, (size_t)size, STORE_FOR_COMPACTION, out);
        if (e == OK && out->size != size) {
            slice_unref(out);
            e = ERR_TRUNCATED;
        }
    } while (again(s, e, &attempt));
    if (e == OK) {
        r->io_bytes += size;
        hold(r, size, 0);
    }
    if (e != ERR_NOT_FOUND) return e;
    /* Deleted with its topic, or by a trim: that ends it. Else it is missing; or a broker that has overtaken us has
     * replaced it. */
    const struct ledger_stream *c = ledger_image_get(&s->image, r->stream);
    if (!c || c->state.start_offset >= g->end_offset) return ERR_STALE;
    if (replacement_overtaken(s)) return ERR_FENCED;
    log_warn(s->env->log, "an object that a partition needs is missing", "stream=%" PRIu64 " key=%s", r->stream.v, key);
    return ERR_IO;
}

struct reading {
    struct replace *r;
    const struct state_range *range;
    struct object_block *blocks;
    enum err (*block)(void *ctx, struct slice block);
    void *ctx;
};

/* Blocks [first, end) lie in `data`, which begins at `position` of the piece. */
static enum err give_blocks(struct reading *d, struct slice data, uint64_t position, uint32_t first, uint32_t end) {
    enum err e = OK;
    for (uint32_t i = first; i < end && e == OK; i++) {
        const struct object_block *b = &d->blocks[i];
        struct slice block = slice_sub(data, (size_t)(b->position - position), b->size);
        e = crc32c(0, block.data, block.size) == b->crc ? d->block(d->ctx, block) : ERR_CORRUPT;
        slice_unref(&block);
    }
    return e;
}

static enum err read_index(struct reading *d, struct slice *whole) {
    struct replace *r = d->r;
    const struct state_range *g = d->range;
    /* One request where a second would be of little more. */
    uint64_t size = g->size_bytes <= REPLACE_READ_BYTES ? g->size_bytes : object_index_size(g->block_count);
    enum err e = get(r, g, 0, size, whole);
    if (e != OK) return e;
    e = object_index_decode(whole->data, whole->size, g->block_count, g->size_bytes, d->blocks);
    if (e != OK) drop_read(r, whole);
    return e;
}

static enum err read_blocks(struct reading *d, uint64_t from, uint64_t to) {
    struct slice whole;
    enum err e = read_index(d, &whole);
    if (e != OK) return e;
    bool all = whole.size == d->range->size_bytes;
    uint32_t count = d->range->block_count, first = 0, end;
    while (first < count && d->blocks[first].end_offset <= from) first++;
    for (end = first; end < count && d->blocks[end].first_offset < to;) end++;
    if (all) {
        e = give_blocks(d, whole, 0, first, end);
        first = end;
    }
    drop_read(d->r, &whole);
    while (first < end && e == OK) {
        uint64_t size = 0, position = d->blocks[first].position;
        uint32_t last = first;
        do {
            size += d->blocks[last++].size;
        } while (last < end && size + d->blocks[last].size <= REPLACE_READ_BYTES);
        struct slice data;
        e = get(d->r, d->range, position, size, &data);
        if (e != OK) break;
        e = give_blocks(d, data, position, first, last);
        drop_read(d->r, &data);
        first = last;
    }
    return e;
}

enum err replace_read(struct replace *r, uint32_t index, uint64_t from, uint64_t to,
                      enum err (*block)(void *ctx, struct slice block), void *ctx) {
    CHECK_OBJ(r, REPLACE_MAGIC);
    ASSERT(index < r->state.range_count);
    struct reading d = {.r = r, .range = &r->state.ranges[index], .block = block, .ctx = ctx};
    d.blocks = mem_alloc(r->s->mem, (d.range->block_count + 1) * sizeof(*d.blocks));
    enum err e = read_blocks(&d, from, to);
    mem_free(r->s->mem, d.blocks);
    return e;
}

/* ---- writing ---- */

void replace_run_begin(struct replace *r, uint32_t first, uint32_t count) {
    CHECK_OBJ(r, REPLACE_MAGIC);
    ASSERT(!r->running && count > 0 && first + count <= r->state.range_count && r->output_count == 0);
    r->running = true;
    r->first_offset = r->state.ranges[first].first_offset;
    r->end_offset = r->state.ranges[first + count - 1].end_offset;
    object_piece_init(&r->piece, r->s->mem);
    object_piece_begin(&r->piece, r->first_offset);
}

static void piece_end(struct replace *r) {
    object_piece_deinit(&r->piece);
    hold(r, 0, r->piece_bytes);
    r->piece_bytes = 0;
}

/* Objects without an entry that names them: nobody needs them. */
static void drop_outputs(struct replace *r) {
    for (size_t i = 0; i < r->output_count; i++)
        object_uses_check(&r->s->uses, object_uses_add(&r->s->uses, r->outputs[i].range.object));
    r->output_count = 0;
    collect_poke(r->s);
}

void replace_run_drop(struct replace *r) {
    CHECK_OBJ(r, REPLACE_MAGIC);
    if (!r->running) return;
    r->running = false;
    piece_end(r);
    if (r->output_count > 0) drop_outputs(r);
}

static enum err put_object(struct replace *r, struct object_id id, uint64_t piece_size) {
    struct streams *s = r->s;
    const struct object_piece *p = &r->piece;
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, id);
    uint8_t header[OBJECT_DATA_HEADER];
    object_data_header(header, id, r->stream, piece_size);
    size_t n = p->parts.count + 2;
    struct slice *data = mem_alloc(s->mem, n * sizeof(*data));
    data[0] = slice_borrow(header, sizeof(header));
    data[1] = slice_borrow(p->index, p->index_size);
    memcpy(data + 2, p->parts.items, p->parts.count * sizeof(*data));
    enum err e;
    unsigned attempt = 0;
    do {
        /* The name is ours alone: what lies there already is this. */
        e = store_put(s->store, key, data, n, true, STORE_FOR_COMPACTION);
        if (e == ERR_EXISTS) e = OK;
    } while (again(s, e, &attempt));
    mem_free(s->mem, data);
    r->io_bytes += piece_size;
    return e;
}

/* What has come so far becomes an object. */
static enum err flush(struct replace *r) {
    struct streams *s = r->s;
    uint32_t crc;
    uint64_t size = object_piece_finish(&r->piece, &crc);
    struct object_id id = {s->options.incarnation, s->next_data_object++, OBJECT_DATA};
    /* Noted before it is sent: it may be there whatever the answer is. */
    r->outputs = mem_grow(s->mem, r->outputs, r->output_count, &r->output_capacity, sizeof(*r->outputs));
    r->outputs[r->output_count++] = (struct output){.range = {.object = id,
                                                              .first_offset = r->piece.first_offset,
                                                              .end_offset = r->piece.end_offset,
                                                              .max_timestamp = r->piece.max_timestamp,
                                                              .position = OBJECT_DATA_HEADER,
                                                              .size_bytes = size,
                                                              .block_count = (uint32_t)r->piece.block_count}};
    enum err e = put_object(r, id, size);
    uint64_t end = r->piece.end_offset;
    piece_end(r);
    object_piece_init(&r->piece, s->mem);
    object_piece_begin(&r->piece, end);
    return e;
}

enum err replace_run_add(struct replace *r, struct slice batches) {
    CHECK_OBJ(r, REPLACE_MAGIC);
    ASSERT(r->running);
    enum err e = OK;
    for (size_t at = 0; at < batches.size && e == OK;) {
        struct batch_header h;
        e = batch_parse_unchecked(batches.data + at, batches.size - at, &h);
        if (e != OK || (uint64_t)h.base_offset < r->piece.end_offset ||
            (uint64_t)batch_end_offset(&h) > r->end_offset) {
            e = ERR_CORRUPT;
            break;
        }
        object_piece_add(&r->piece, slice_sub(batches, at, h.size), (uint64_t)h.base_offset,
                         (uint64_t)batch_end_offset(&h), h.max_timestamp);
        at += h.size;
        r->piece_bytes += h.size;
        hold(r, h.size, 0);
        if (r->piece.data_size >= REPLACE_OBJECT_BYTES) e = flush(r);
    }
    slice_unref(&batches);
    return e;
}

/* ---- committing ---- */

/* The last of it: in the entry's body where it is small and alone, else an object like the others. */
static enum err finish_piece(struct replace *r, struct slices *body, uint32_t *body_crc, struct state_range *inside) {
    struct object_piece *p = &r->piece;
    *inside = (struct state_range){0};
    if (p->block_count == 0) return OK;
    if (r->output_count > 0 || p->data_size > COMPACT_ENTRY_MAX) return flush(r);
    uint64_t size = object_piece_finish(p, body_crc);
    slices_push(body, slice_borrow(p->index, p->index_size));
    for (size_t i = 0; i < p->parts.count; i++)
        slices_push(body, slice_borrow(p->parts.items[i].data, p->parts.items[i].size));
    *inside = (struct state_range){.object = {{0}, OBJECT_THIS_ENTRY, OBJECT_LEDGER_ENTRY},
                                   .first_offset = p->first_offset,
                                   .end_offset = p->end_offset,
                                   .max_timestamp = p->max_timestamp,
                                   .size_bytes = size,
                                   .block_count = (uint32_t)p->block_count};
    r->io_bytes += size;
    return OK;
}

enum err replace_run_commit(struct replace *r) {
    CHECK_OBJ(r, REPLACE_MAGIC);
    ASSERT(r->running);
    if (r->piece.end_offset != r->end_offset) return ERR_CORRUPT; /* a range that does not hold what it says */
    struct slices body;
    struct state_range inside;
    uint32_t body_crc = 0;
    slices_init(&body, r->s->mem);
    enum err e = finish_piece(r, &body, &body_crc, &inside);
    if (e == OK) {
        struct replacement x = {.stream = r->stream, .epoch = r->epoch};
        x.ranges = mem_alloc(r->s->mem, (r->output_count + 1) * sizeof(*x.ranges));
        for (size_t i = 0; i < r->output_count; i++) x.ranges[x.count++] = r->outputs[i].range;
        if (inside.block_count > 0) x.ranges[x.count++] = inside;
        e = replacement_commit(r->s, &x, 1, &body, body_crc, true);
        if (e == OK) {
            r->output_count = 0; /* named now */
            e = x.result;
        }
        mem_free(r->s->mem, x.ranges);
    }
    slices_deinit(&body);
    if (e == OK) {
        replace_run_drop(r);
        collect_poke(r->s);
    }
    return e;
}

enum err replace_progress(struct replace *r, uint64_t clean_offset, const struct state_segment *segments,
                          uint32_t count) {
    CHECK_OBJ(r, REPLACE_MAGIC);
    struct streams *s = r->s;
    ASSERT(clean_offset > 0 && clean_offset <= r->state.end_offset);
    struct stream_state delta;
    state_init_delta(&delta, s->mem, count > 0 ? segments[0].base_offset : 0);
    delta.end_offset = delta.clean_offset = clean_offset;
    if (count > 0) {
        delta.segments = mem_alloc(s->mem, count * sizeof(*segments));
        memcpy(delta.segments, segments, count * sizeof(*segments));
        delta.segment_count = delta.segment_capacity = count;
    }
    struct buf head;
    buf_init(&head, s->mem);
    struct object_head h = {.section_count = 1};
    log_wal_names(s, &h);
    object_head_begin(&head, &h);
    object_head_section(&head, r->stream, r->epoch, OBJECT_CLEANED, &delta);
    enum err e = ledger_enter(s);
    if (e == OK) {
        const struct slices none = {0};
        uint64_t number;
        e = replacement_append(s, &head, &none, 0, &number);
        struct ledger_stream *c = ledger_image_get(&s->image, r->stream);
        if (e == OK && c && c->epoch == r->epoch) {
            enum err applied = state_apply_cleaned(&c->state, &delta);
            ASSERT(applied == OK); /* the end only rises */
            c->dirty = true;
        }
        if (e == OK) checkpoint_entry_made(s);
        ledger_leave(s);
    }
    buf_deinit(&head);
    state_deinit(&delta);
    return e;
}
