/* Object compaction. An upload holds a little of each of many streams; what a stream has would be in ever more objects,
 * a start and each quiet hour add small ones. So adjacent ranges of a stream become one, by tiers (compact.h, sizes.h): each
 * byte is written again once for each tier.
 *
 * A job takes the runs of many streams, as much as it has memory for, and such as lie in the same objects. Streams lie in
 * objects in the order of their ids, so what it reads is a large part of each object, in few GETs; what it writes is one
 * object, with the pieces side by side again. Blocks are checked and go over as they are. Then one ledger entry replaces
 * the ranges of all, each stream by itself: only if it still has that epoch and those ranges (or what a trim left of
 * them). A crash leaves the old ones or the new ones, and objects that nobody names.
 *
 * Now and then a job takes what is left in *poor* objects: those of which little is still needed, and those that are small
 * themselves, of which there may be many with a range of another stream in each. What is in them is written again, merged
 * or not, so that they can be deleted (compact_choose.c says when).
 *
 * Nobody waits for it: it takes as long as COMPACT_WITHIN_NS allows for all there is to do, and pauses between
 * requests. Log compaction rewrites ranges as well: `replacing` keeps the two apart. */
#include "stream/compact.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/compact_priv.h"

#define READERS 4u                     /* GETs of a job at a time */
#define RETRY_NS (10 * NS_PER_S)       /* after a failure: nothing here is urgent, and the store may be in trouble */
#define CHECK_STEP ((size_t)512 << 10) /* bytes that are checked in one turn of the loop */

/* Half of a byte's time is for reading it, half for writing it. A little goes at once: a broker that is started again
 * and again, and lives for milliseconds, would otherwise never come to the end of what only a start makes. */
static uint64_t pace_ns(const struct compaction *k, uint64_t bytes) {
    return (uint64_t)((double)bytes / 2 / (double)k->rate * (double)NS_PER_S);
}

void compact_pace(struct compaction *k, uint64_t bytes) {
    struct streams *s = k->s;
    uint64_t now_ns = env_now_ns(s->env), free_ns = s->compact_free_ns > now_ns ? s->compact_free_ns : now_ns;
    uint64_t at_once_ns = pace_ns(k, COMPACT_AT_ONCE), at_ns = free_ns > at_once_ns ? free_ns - at_once_ns : 0;
    s->compact_free_ns = free_ns + pace_ns(k, bytes);
    while (!s->closing && !s->fenced && env_now_ns(s->env) < at_ns) (void)waitq_wait_until(&s->compact_wake, at_ns);
}

/* ---- reading ---- */

static const struct state_range *source_range(const struct compaction *k, const struct source *x) {
    return &k->items[x->item].old[x->old];
}

static int by_place(const void *a, const void *b, void *ctx) {
    return compact_by_place(source_range(ctx, a), source_range(ctx, b));
}

/* What is chosen fits into memory, mostly with what lies between. Where it does not, these are GETs of their own. */
static void plan(struct compaction *k) {
    struct mem *m = k->s->mem;
    uint64_t budget = k->s->options.compact_bytes, vain = budget > k->bytes ? budget - k->bytes : 0;
    for (size_t i = 0; i < k->count; i++) k->source_count += k->items[i].old_count;
    k->sources = mem_alloc(m, k->source_count * sizeof(*k->sources));
    size_t n = 0;
    for (size_t i = 0; i < k->count; i++) {
        for (size_t o = 0; o < k->items[i].old_count; o++) k->sources[n++] = (struct source){.item = i, .old = o};
    }
    if (n > 1) qsort_r(k->sources, n, sizeof(*k->sources), by_place, k);
    for (size_t i = 0; i < n; i++) {
        const struct state_range *r = source_range(k, &k->sources[i]);
        if (k->span_count == 0 || !compact_span_join(&k->spans[k->span_count - 1].at, r, &vain)) {
            k->spans = mem_grow(m, k->spans, k->span_count, &k->span_capacity, sizeof(*k->spans));
            k->spans[k->span_count++] = (struct span){.at = {r->object, r->position, r->size_bytes}};
        }
        k->sources[i].span = k->span_count - 1;
    }
}

bool compact_is_lost(enum err e) {
    return e == ERR_NOT_FOUND || e == ERR_CORRUPT || e == ERR_TRUNCATED || e == ERR_VERSION;
}

static void reader(void *arg) {
    struct compaction *k = arg;
    struct streams *s = k->s;
    while (k->next_span < k->span_count && k->error == OK) {
        struct span *x = &k->spans[k->next_span++];
        compact_pace(k, x->at.size);
        if (s->closing || s->fenced) {
            k->error = ERR_CANCELLED;
            break;
        }
        char key[OBJECT_KEY_MAX];
        object_key(key, s->generation, x->at.object);
        k->held_bytes += x->at.size;
        DCHECK(k->held_bytes <= s->options.compact_bytes);
        metric_gauge_add(s->env->metrics, M_COMPACTION_BYTES, (int64_t)x->at.size);
        x->error = store_get(s->store, key, x->at.position, (size_t)x->at.size, STORE_FOR_COMPACTION, &x->data);
        if (x->error == OK && x->data.size != x->at.size) x->error = ERR_TRUNCATED;
        if (x->error != OK && !compact_is_lost(x->error) && k->error == OK) k->error = x->error;
    }
    k->readers--;
    waitq_wake_all(&k->read_ended);
}

static void read_spans(struct compaction *k) {
    waitq_init(&k->read_ended);
    while (k->readers < READERS && k->readers < k->span_count) {
        k->readers++;
        fiber_spawn(loop_current(), "compact-read", reader, k);
    }
    while (k->readers > 0) waitq_wait(&k->read_ended);
}

/* ---- checking, and putting together ---- */

/* Suspends. */
static enum err add_range(struct compaction *k, struct compact_item *t, const struct state_range *r,
                          const struct span *x) {
    struct mem *m = k->s->mem;
    if (x->error != OK) return x->error;
    struct slice data = slice_sub(x->data, (size_t)(r->position - x->at.position), (size_t)r->size_bytes);
    struct object_block *blocks = mem_alloc(m, r->block_count * sizeof(*blocks));
    enum err e = object_index_decode(data.data, data.size, r->block_count, r->size_bytes, blocks);
    if (e == OK && (r->block_count == 0 || blocks[0].first_offset != r->first_offset ||
                    blocks[r->block_count - 1].end_offset != r->end_offset))
        e = ERR_CORRUPT;
    for (uint32_t i = 0; i < r->block_count && e == OK; i++) {
        struct slice block = slice_sub(data, (size_t)blocks[i].position, blocks[i].size);
        if (crc32c(0, block.data, block.size) != blocks[i].crc) {
            slice_unref(&block);
            e = ERR_CORRUPT;
            break;
        }
        k->checked += block.size;
        object_piece_add_block(&t->piece, block, &blocks[i]);
        if (k->checked >= CHECK_STEP) {
            k->checked = 0;
            fiber_yield();
        }
    }
    mem_free(m, blocks);
    slice_unref(&data);
    return e;
}

/* It is still the stream's: neither trimmed nor dropped since it was chosen. */
static bool still_has(const struct streams *s, const struct compact_item *t, const struct state_range *r) {
    const struct ledger_stream *c = ledger_image_get(&s->image, t->stream);
    return c && c->epoch == t->epoch && r->end_offset > c->state.start_offset;
}

void compact_unreadable(struct compaction *k, struct compact_item *t, const struct state_range *r, enum err e) {
    struct streams *s = k->s;
    t->failed = true;
    if (!still_has(s, t, r)) return;
    if (e == ERR_NOT_FOUND && replacement_overtaken(s)) {
        k->error = ERR_FENCED;
        return;
    }
    struct ledger_stream *c = ledger_image_get(&s->image, t->stream);
    if (!c) return;
    c->unreadable = true;
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, r->object);
    log_error(s->env->log, "a range that was to be merged cannot be read; it stays as it is",
              "error=%s stream=%" PRIu64 " first_offset=%" PRIu64 " end_offset=%" PRIu64 " key=%s position=%" PRIu64,
              err_name(e), t->stream.v, r->first_offset, r->end_offset, key, r->position);
}

static int by_item(const void *a, const void *b) {
    const struct source *x = a, *y = b;
    if (x->item != y->item) return x->item < y->item ? -1 : 1;
    return x->old < y->old ? -1 : x->old > y->old;
}

/* Suspends. */
static void put_together(struct compaction *k) {
    if (k->source_count > 1) qsort(k->sources, k->source_count, sizeof(*k->sources), by_item);
    for (size_t i = 0; i < k->source_count && !k->s->closing && k->error == OK; i++) {
        const struct source *x = &k->sources[i];
        struct compact_item *t = &k->items[x->item];
        if (t->failed) continue;
        enum err e = add_range(k, t, &t->old[x->old], &k->spans[x->span]);
        if (e != OK) compact_unreadable(k, t, &t->old[x->old], e);
    }
    if (k->s->closing && k->error == OK) k->error = ERR_CANCELLED;
    uint64_t bytes = 0;
    for (size_t i = 0; i < k->count; i++) bytes += k->items[i].failed ? 0 : k->items[i].piece.data_size;
    k->has_object = bytes > COMPACT_ENTRY_MAX;
    if (k->has_object) k->object = (struct object_id){k->s->options.incarnation, k->s->next_data_object++, OBJECT_DATA};
    for (size_t i = 0; i < k->count; i++) {
        struct compact_item *t = &k->items[i];
        struct object_piece *p = &t->piece;
        if (t->failed || p->block_count == 0) {
            t->failed = true;
            continue;
        }
        t->piece_size = object_piece_finish(p, &t->piece_crc);
        t->range = (struct state_range){.object = {{0}, OBJECT_THIS_ENTRY, OBJECT_LEDGER_ENTRY},
                                        .first_offset = p->first_offset,
                                        .end_offset = p->end_offset,
                                        .max_timestamp = p->max_timestamp,
                                        .position = k->body.size_bytes,
                                        .size_bytes = t->piece_size,
                                        .block_count = (uint32_t)p->block_count};
        if (k->has_object) {
            t->range.object = k->object;
            t->range.position += OBJECT_DATA_HEADER;
        }
        slices_push(&k->body, slice_borrow(p->index, p->index_size));
        for (size_t n = 0; n < p->parts.count; n++)
            slices_push(&k->body, slice_borrow(p->parts.items[n].data, p->parts.items[n].size));
        k->body_crc = crc32c_combine(k->body_crc, t->piece_crc, t->piece_size);
    }
}

/* ---- writing ---- */

static enum err put_object(struct compaction *k) {
    struct streams *s = k->s;
    uint8_t header[OBJECT_DATA_HEADER];
    size_t whose = 0, pieces = 0;
    for (size_t i = 0; i < k->count; i++) {
        if (k->items[i].failed) continue;
        whose = i;
        pieces++;
    }
    struct stream_id one = pieces == 1 ? k->items[whose].stream : (struct stream_id){0};
    object_data_header(header, k->object, one, k->body.size_bytes);
    struct slice *data = mem_alloc(s->mem, (k->body.count + 1) * sizeof(*data));
    data[0] = slice_borrow(header, sizeof(header));
    memcpy(data + 1, k->body.items, k->body.count * sizeof(*data));
    compact_pace(k, k->body.size_bytes);
    enum err e = upload_put_object(s, k->object, data, k->body.count + 1, STORE_FOR_COMPACTION);
    mem_free(s->mem, data);
    return e;
}

static enum err write_entry(struct compaction *k) {
    struct streams *s = k->s;
    struct replacement *list = mem_alloc(s->mem, k->count * sizeof(*list));
    size_t count = 0;
    for (size_t i = 0; i < k->count; i++) {
        struct compact_item *t = &k->items[i];
        if (t->failed) continue;
        list[count++] = (struct replacement){.stream = t->stream, .epoch = t->epoch, .ranges = &t->range, .count = 1};
    }
    const struct slices none = {0}, *body = k->has_object ? &none : &k->body;
    enum err e = replacement_commit(s, list, count, body, k->has_object ? 0 : k->body_crc, false);
    mem_free(s->mem, list);
    return e;
}

/* ---- the fiber ---- */

/* Of a worker thread: to give so much memory back takes the kernel tens of milliseconds. */
static void spans_free(void *arg) {
    struct compaction *k = arg;
    for (size_t i = 0; i < k->span_count; i++) slice_unref(&k->spans[i].data);
    metric_gauge_add(k->s->env->metrics, M_COMPACTION_BYTES, -(int64_t)k->held_bytes);
}

static void job_deinit(struct compaction *k) {
    struct streams *s = k->s;
    for (size_t n = 0; n < k->count; n++) {
        struct ledger_stream *c = ledger_image_get(&s->image, k->items[n].stream);
        if (c && c->replacing) {
            c->replacing = false;
            compact_enlist(s, c);
        }
        object_piece_deinit(&k->items[n].piece);
        mem_free(s->mem, k->items[n].old);
    }
    if (k->span_count > 0) env_offload(s->env, spans_free, k);
    mem_free(s->mem, k->items);
    mem_free(s->mem, k->spans);
    mem_free(s->mem, k->sources);
    slices_deinit(&k->body);
}

/* For MUTANT_POOR_DROPS. */
static void delete_poor(struct compaction *k) {
    for (size_t i = 0; i < k->source_count && k->poor; i++) {
        char key[OBJECT_KEY_MAX];
        const char *keys = key;
        object_key(key, k->s->generation, source_range(k, &k->sources[i])->object);
        enum err e = store_delete(k->s->store, &keys, 1, STORE_FOR_DELETION);
        (void)e;
    }
}

static enum err rewrite(struct compaction *k) {
    plan(k);
    read_spans(k);
    if (k->error == OK) put_together(k);
    if (k->error != OK || k->body.size_bytes == 0) return k->error; /* nothing can be read, or is still there */
    return k->has_object && !env_mutant(k->s->env, MUTANT_MERGED_LATE) ? put_object(k) : OK;
}

static bool all_failed(const struct compaction *k) {
    for (size_t i = 0; i < k->count; i++) {
        if (!k->items[i].failed) return false;
    }
    return true;
}

static void choose(struct compaction *k) {
    if (!compact_choose_poor(k) && !compact_choose_large(k)) compact_choose_runs(k);
}

static enum err job_run(struct compaction *k) {
    choose(k);
    if (k->count == 0) return ERR_NOT_FOUND;
    uint64_t begun_ns = env_now_ns(k->s->env);
    enum err e = k->compose ? compact_compose(k) : rewrite(k);
    bool none = e == OK && all_failed(k);
    if (e == OK && !none) e = write_entry(k);
    if (e == OK && !none && k->has_object && env_mutant(k->s->env, MUTANT_MERGED_LATE)) e = put_object(k);
    /* No entry names it, and none will. */
    if ((e != OK || none) && k->has_object) object_uses_check(&k->s->uses, object_uses_add(&k->s->uses, k->object));
    if (e != OK || none) return e;
    if (env_mutant(k->s->env, MUTANT_POOR_DROPS)) delete_poor(k);
    metric_add(k->s->env->metrics, M_MERGED_BYTES, 0, k->bytes);
    log_debug(k->s->env->log,
              k->compose ? "a large object composed"
              : k->poor  ? "poor objects rewritten"
                         : "ranges merged",
              "streams=%zu ranges=%zu bytes=%" PRIu64 " gets=%zu took_ms=%d rate=%" PRIu64, k->count,
              k->compose ? k->items[0].old_count : k->source_count, k->bytes, k->span_count,
              (int)((env_now_ns(k->s->env) - begun_ns) / NS_PER_MS), k->rate);
    return OK;
}

static void compact(void *arg) {
    struct streams *s = arg;
    struct compaction k = {.s = s};
    slices_init(&k.body, s->mem);
    enum err e = job_run(&k);
    if (e != OK && e != ERR_NOT_FOUND && e != ERR_CANCELLED && !s->fenced) {
        log_warn(s->env->log, "small ranges were not merged", "error=%s retry_s=%d", err_name(e),
                 (int)(RETRY_NS / NS_PER_S));
        timer_arm(&s->compact_timer, env_now_ns(s->env) + RETRY_NS);
    }
    job_deinit(&k);
    s->compacting = false;
    if (e == OK) {
        collect_poke(s);
        compact_poke(s);
    }
    waitgroup_done(&s->background);
}

void compact_due(struct timer *t) {
    compact_poke(CONTAINER_OF(t, struct streams, compact_timer));
}

void compact_poor_due(struct timer *t) {
    compact_poke(CONTAINER_OF(t, struct streams, poor_timer));
}

void compact_poke(struct streams *s) {
    if (s->compacting || timer_armed(&s->compact_timer) || s->closing || s->fenced || !s->started) return;
    if (!compact_has_run(s) && env_now_ns(s->env) < s->poor_look_ns) {
        if (!timer_armed(&s->poor_timer)) timer_arm(&s->poor_timer, s->poor_look_ns);
        return;
    }
    s->compacting = true;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "compact", compact, s);
}
