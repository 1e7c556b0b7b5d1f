/* Object compaction. An upload holds a little of each of many streams; what a stream has would be in ever more objects,
 * a start and each quiet hour add small ones. So adjacent ranges of a stream become one, by tiers (sizes.h): each byte
 * is written again once for each tier, and any 256 adjacent ranges of a stream hold one that is large, or are soon
 * fewer. A run is always as long as its tier says, however many follow: so the runs of streams that are written to alike
 * lie in the same objects.
 *
 * A job takes the runs of many streams, in the order of their ids, as much as it has memory for. Streams lie in objects
 * in that order, so what it reads is a large part of each object, in few GETs; what it writes is one object, with the
 * pieces side by side again. Blocks are checked and go over as they are. Then one ledger entry replaces the ranges of
 * all, each stream by itself: only if it still has that epoch and those ranges (or what a trim left of them). A crash
 * leaves the old ones or the new ones, and objects that nobody names.
 *
 * Nobody waits for it: it takes as long as COMPACT_WITHIN_NS allows for all there is to do, and pauses between
 * requests. Log compaction rewrites ranges as well: `replacing` keeps the two apart. */
#include "stream/compact.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/streams_priv.h"

#define READERS 4u                     /* GETs of a job at a time */
#define RETRY_NS (10 * NS_PER_S)       /* after a failure: nothing here is urgent, and the store may be in trouble */
#define NOTE_LOOK 256u                 /* last ranges that an entry looks at */
#define CHECK_STEP ((size_t)512 << 10) /* bytes that are checked in one turn of the loop */

/* ---- which ---- */

bool compact_find_run(const struct state_range *ranges, size_t count, uint64_t budget, struct compact_run *out) {
    static const struct {
        uint64_t below;
        unsigned ranges;
    } tiers[] = {{COMPACT_LOW_BELOW, COMPACT_LOW_RANGES}, {COMPACT_HIGH_BELOW, COMPACT_HIGH_RANGES}};
    uint64_t from = 0;
    for (size_t t = 0; t < ARRAY_LEN(tiers); from = tiers[t].below, t++) {
        struct compact_run run = {0};
        unsigned of_tier = 0;
        for (size_t i = 0; i < count; i++) {
            uint64_t size = ranges[i].size_bytes;
            if (size >= tiers[t].below) {
                run = (struct compact_run){.first = i + 1};
                of_tier = 0;
                continue;
            }
            run.count++;
            run.bytes += size;
            of_tier += size >= from;
            for (; run.bytes > budget; run.first++, run.count--) {
                uint64_t gone = ranges[run.first].size_bytes;
                run.bytes -= gone;
                of_tier -= gone >= from;
            }
            if (of_tier == tiers[t].ranges) {
                *out = run;
                return true;
            }
        }
    }
    return false;
}

/* Nothing here may cost what all streams cost, for it happens with each entry: so streams that may have something to
 * merge are in a list, from the entry on that gave them their last range. One that has not after all leaves it when that
 * is seen. */
static struct ledger_stream *crowded_of(struct list *node) {
    return LIST_ENTRY(node, struct ledger_stream, crowded);
}

static bool is_crowded(const struct streams *s, const struct ledger_stream *c, struct compact_run *run) {
    return !c->refused && !c->unreadable &&
           compact_find_run(c->state.ranges, c->state.range_count, s->options.compact_bytes, run);
}

/* A run becomes long enough by what is added behind it: the last ranges tell. */
void compact_note(struct streams *s, struct ledger_stream *c) {
    struct compact_run run;
    if (c->refused || c->unreadable || !list_empty(&c->crowded)) return;
    size_t n = c->state.range_count, look = n < NOTE_LOOK ? n : NOTE_LOOK;
    if (compact_find_run(c->state.ranges + (n - look), look, s->options.compact_bytes, &run))
        list_push_back(&s->crowded, &c->crowded);
}

void compact_begin(struct streams *s) {
    size_t cursor = 0;
    struct ledger_stream *c;
    struct compact_run run;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) {
        if (list_empty(&c->crowded) && is_crowded(s, c, &run)) list_push_back(&s->crowded, &c->crowded);
    }
    compact_poke(s);
}

/* ---- a job ---- */

struct replacement {
    struct stream_id stream;
    int32_t epoch;
    struct state_range *old; /* copies: the committed state may move while we read */
    size_t old_count;
    uint64_t old_bytes;
    bool failed; /* it cannot be read: the others are merged without it */
    struct object_piece piece;
    uint64_t piece_size;
    uint32_t piece_crc;
    struct state_range range;
};

/* What lies side by side in one object. */
struct span {
    struct object_id object;
    uint64_t position, size;
    enum err error;
    struct slice data;
};

/* Where one old range is. */
struct source {
    size_t item, old, span;
};

struct compaction {
    struct streams *s;
    struct replacement *items; /* by stream */
    size_t count, capacity;
    uint64_t bytes, rate; /* of input; a second */
    struct source *sources;
    size_t source_count;
    struct span *spans;
    size_t span_count, span_capacity, next_span;
    uint64_t held_bytes; /* of the spans that were asked for: counted */
    unsigned readers;
    struct waitq read_ended;
    enum err error; /* the first that is no range's own */
    size_t checked; /* bytes since the loop's last turn */
    /* Of what is written. */
    bool has_object;
    struct object_id object;
    struct slices body;
    uint32_t body_crc;
};

struct candidate {
    struct ledger_stream *c;
    struct compact_run run;
};

static int by_stream(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->c->id.v < y->c->id.v ? -1 : x->c->id.v > y->c->id.v;
}

static void take(struct compaction *k, const struct candidate *x) {
    struct streams *s = k->s;
    k->bytes += x->run.bytes;
    k->items = mem_grow(s->mem, k->items, k->count, &k->capacity, sizeof(*k->items));
    struct replacement *r = &k->items[k->count++];
    *r = (struct replacement){.stream = x->c->id, .epoch = x->c->epoch, .old_count = x->run.count};
    r->old_bytes = x->run.bytes;
    r->old = mem_alloc(s->mem, r->old_count * sizeof(*r->old));
    memcpy(r->old, &x->c->state.ranges[x->run.first], r->old_count * sizeof(*r->old));
    object_piece_init(&r->piece, s->mem);
    x->c->replacing = true;
    s->compact_last = x->c->id;
}

/* From behind the last one that was merged on, and round. */
static void choose(struct compaction *k) {
    struct streams *s = k->s;
    struct candidate *all = NULL;
    size_t count = 0, capacity = 0, first = 0;
    uint64_t debt = 0;
    LIST_EACH_SAFE(it, &s->crowded) {
        struct candidate x = {.c = crowded_of(it)};
        if (!is_crowded(s, x.c, &x.run)) {
            list_remove(it);
            continue;
        }
        debt += x.run.bytes;
        if (x.c->replacing) continue;
        all = mem_grow(s->mem, all, count, &capacity, sizeof(*all));
        all[count++] = x;
    }
    if (count > 1) qsort(all, count, sizeof(*all), by_stream);
    while (first < count && all[first].c->id.v <= s->compact_last.v) first++;
    for (size_t i = 0; i < count; i++) {
        const struct candidate *x = &all[(first + i) % count];
        if (k->count > 0 && k->bytes + x->run.bytes > s->options.compact_bytes) break;
        take(k, x);
    }
    mem_free(s->mem, all);
    metric_set(s->env->metrics, M_MERGE_DEBT, (int64_t)debt);
    k->rate = debt / (COMPACT_WITHIN_NS / NS_PER_S);
    if (k->rate < COMPACT_RATE_MIN) k->rate = COMPACT_RATE_MIN;
}

/* Half of a byte's time is for reading it, half for writing it. A little goes at once: a broker that is started again
 * and again, and lives for milliseconds, would otherwise never come to the end of what only a start makes. */
static uint64_t pace_ns(const struct compaction *k, uint64_t bytes) {
    return (uint64_t)((double)bytes / 2 / (double)k->rate * (double)NS_PER_S);
}

static void pace(struct compaction *k, uint64_t bytes) {
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
    const struct state_range *x = source_range(ctx, a), *y = source_range(ctx, b);
    if (x->object.creator.v != y->object.creator.v) return x->object.creator.v < y->object.creator.v ? -1 : 1;
    if (x->object.kind != y->object.kind) return x->object.kind < y->object.kind ? -1 : 1;
    if (x->object.number != y->object.number) return x->object.number < y->object.number ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

/* One GET, where what is read in vain is little, or no more than what is wanted: the runs of some streams end an object
 * later than those of their neighbours. */
static bool joins(const struct span *x, uint64_t position) {
    uint64_t end = x->position + x->size;
    if (position < end) return false;
    uint64_t gap = position - end;
    return gap <= COMPACT_GAP || (gap <= COMPACT_GAP_MAX && gap <= x->size);
}

static void plan(struct compaction *k) {
    struct mem *m = k->s->mem;
    for (size_t i = 0; i < k->count; i++) k->source_count += k->items[i].old_count;
    k->sources = mem_alloc(m, k->source_count * sizeof(*k->sources));
    size_t n = 0;
    for (size_t i = 0; i < k->count; i++) {
        for (size_t o = 0; o < k->items[i].old_count; o++) k->sources[n++] = (struct source){.item = i, .old = o};
    }
    if (n > 1) qsort_r(k->sources, n, sizeof(*k->sources), by_place, k);
    for (size_t i = 0; i < n; i++) {
        const struct state_range *r = source_range(k, &k->sources[i]);
        struct span *last = k->span_count > 0 ? &k->spans[k->span_count - 1] : NULL;
        uint64_t end = r->position + r->size_bytes;
        if (last && object_id_equal(last->object, r->object) && joins(last, r->position) &&
            end - last->position <= COMPACT_GET_MAX) {
            last->size = end - last->position;
        } else {
            k->spans = mem_grow(m, k->spans, k->span_count, &k->span_capacity, sizeof(*k->spans));
            k->spans[k->span_count++] =
                (struct span){.object = r->object, .position = r->position, .size = r->size_bytes};
        }
        k->sources[i].span = k->span_count - 1;
    }
}

/* What is wrong with the object, for ever, and not with the store now. */
static bool is_lost(enum err e) {
    return e == ERR_NOT_FOUND || e == ERR_CORRUPT || e == ERR_TRUNCATED || e == ERR_VERSION;
}

static void reader(void *arg) {
    struct compaction *k = arg;
    struct streams *s = k->s;
    while (k->next_span < k->span_count && k->error == OK) {
        struct span *x = &k->spans[k->next_span++];
        pace(k, x->size);
        if (s->closing || s->fenced) {
            k->error = ERR_CANCELLED;
            break;
        }
        char key[OBJECT_KEY_MAX];
        object_key(key, s->generation, x->object);
        k->held_bytes += x->size;
        metric_gauge_add(s->env->metrics, M_COMPACTION_BYTES, (int64_t)x->size);
        x->error = store_get(s->store, key, x->position, (size_t)x->size, STORE_FOR_COMPACTION, &x->data);
        if (x->error == OK && x->data.size != x->size) x->error = ERR_TRUNCATED;
        if (x->error != OK && !is_lost(x->error) && k->error == OK) k->error = x->error;
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
static enum err add_range(struct compaction *k, struct replacement *t, const struct state_range *r,
                          const struct span *x) {
    struct mem *m = k->s->mem;
    if (x->error != OK) return x->error;
    struct slice data = slice_sub(x->data, (size_t)(r->position - x->position), (size_t)r->size_bytes);
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
static bool still_has(const struct streams *s, const struct replacement *t, const struct state_range *r) {
    const struct ledger_stream *c = ledger_image_get(&s->image, t->stream);
    return c && c->epoch == t->epoch && r->end_offset > c->state.start_offset;
}

static void unreadable(struct compaction *k, struct replacement *t, const struct state_range *r, enum err e) {
    struct streams *s = k->s;
    t->failed = true;
    if (!still_has(s, t, r)) return;
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, r->object);
    ledger_image_get(&s->image, t->stream)->unreadable = true;
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
    for (size_t i = 0; i < k->source_count && !k->s->closing; i++) {
        const struct source *x = &k->sources[i];
        struct replacement *t = &k->items[x->item];
        if (t->failed) continue;
        enum err e = add_range(k, t, &t->old[x->old], &k->spans[x->span]);
        if (e != OK) unreadable(k, t, &t->old[x->old], e);
    }
    if (k->s->closing && k->error == OK) k->error = ERR_CANCELLED;
    uint64_t bytes = 0;
    for (size_t i = 0; i < k->count; i++) bytes += k->items[i].failed ? 0 : k->items[i].piece.data_size;
    k->has_object = bytes > COMPACT_ENTRY_MAX;
    if (k->has_object) k->object = (struct object_id){k->s->options.incarnation, k->s->next_data_object++, OBJECT_DATA};
    for (size_t i = 0; i < k->count; i++) {
        struct replacement *t = &k->items[i];
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

static void apply(struct streams *s, struct replacement *r, struct commit_mail **mails) {
    struct ledger_stream *c = ledger_image_get(&s->image, r->stream);
    object_uses_range(&s->uses, r->range.object, 1);
    if (c && c->epoch == r->epoch && state_replace_ranges(&c->state, &r->range) == OK) {
        c->dirty = true;
        /* Those that a trim removed meanwhile are no longer counted. */
        for (size_t i = 0; i < r->old_count; i++) {
            if (r->old[i].end_offset > c->state.start_offset) object_uses_range(&s->uses, r->old[i].object, -1);
        }
        struct commit_item *item = upload_mail_item(s, mails, r->stream);
        *item = (struct commit_item){.stream = r->stream,
                                     .range = r->range,
                                     .has_range = true,
                                     .replaces = true,
                                     .start_offset = c->state.start_offset};
    } else {
        object_uses_range(&s->uses, r->range.object, -1);
    }
}

/* For MUTANT_DELETE_EARLY. */
static void delete_replaced(struct compaction *k) {
    struct streams *s = k->s;
    for (size_t n = 0; n < k->count; n++) {
        for (size_t i = 0; i < k->items[n].old_count && !k->items[n].failed; i++) {
            struct object_id id = k->items[n].old[i].object;
            if (id.kind != OBJECT_DATA && id.creator.v == s->options.incarnation.v) continue; /* still log */
            const struct object_use *use = object_uses_get(&s->uses, id);
            if (use && use->ranges > 1) continue;
            char key[OBJECT_KEY_MAX];
            const char *keys = key;
            object_key(key, s->generation, id);
            enum err e = store_delete(s->store, &keys, 1, STORE_FOR_DELETION);
            (void)e;
        }
    }
}

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
    pace(k, k->body.size_bytes);
    enum err e = upload_put_object(s, k->object, data, k->body.count + 1, STORE_FOR_COMPACTION);
    mem_free(s->mem, data);
    return e;
}

static void encode_head(const struct compaction *k, struct buf *out) {
    struct object_head h = {0};
    for (size_t i = 0; i < k->count; i++) h.section_count += !k->items[i].failed;
    log_wal_names(k->s, &h);
    object_head_begin(out, &h);
    for (size_t i = 0; i < k->count; i++) {
        const struct replacement *t = &k->items[i];
        if (t->failed) continue;
        struct stream_state delta;
        state_init_delta(&delta, k->s->mem, t->range.first_offset);
        delta.end_offset = t->range.end_offset;
        state_add_range(&delta, &t->range);
        object_head_section(out, t->stream, t->epoch, OBJECT_REPLACED, &delta);
        state_deinit(&delta);
    }
}

static enum err write_entry(struct compaction *k) {
    struct streams *s = k->s;
    struct buf head;
    buf_init(&head, s->mem);
    encode_head(k, &head);
    uint64_t number = 0;
    struct slice head_slice = slice_borrow(head.data, head.size);
    const struct slices none = {0}, *body = k->has_object ? &none : &k->body;
    enum err e = ledger_enter(s);
    if (e != OK) goto out;
    if (env_mutant(s->env, MUTANT_DELETE_EARLY)) delete_replaced(k);
    e = objlog_append(s->log, OBJLOG_DATA, &head_slice, body->items, body->count, k->has_object ? 0 : k->body_crc,
                      &number);
    if (e == OK) {
        struct object_id entry = {s->options.incarnation, number, OBJECT_LEDGER_ENTRY};
        object_uses_check(&s->uses, object_uses_add(&s->uses, entry));
        struct commit_mail **mails = upload_mails_create(s);
        for (size_t n = 0; n < k->count; n++) {
            struct replacement *t = &k->items[n];
            if (t->failed) continue;
            if (!k->has_object) {
                t->range.object = entry;
                t->range.position += OBJLOG_HEADER_SIZE + head.size;
            }
            apply(s, t, mails);
        }
        upload_post_mails(s, mails);
        checkpoint_entry_made(s);
    }
    ledger_leave(s);
out:
    buf_deinit(&head);
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
        if (c) c->replacing = false;
        object_piece_deinit(&k->items[n].piece);
        mem_free(s->mem, k->items[n].old);
    }
    if (k->span_count > 0) env_offload(s->env, spans_free, k);
    mem_free(s->mem, k->items);
    mem_free(s->mem, k->spans);
    mem_free(s->mem, k->sources);
    slices_deinit(&k->body);
}

static enum err job_run(struct compaction *k) {
    choose(k);
    if (k->count == 0) return ERR_NOT_FOUND;
    uint64_t begun_ns = env_now_ns(k->s->env);
    plan(k);
    read_spans(k);
    if (k->error == OK) put_together(k);
    if (k->error != OK) return k->error;
    if (k->body.size_bytes == 0) return OK; /* nothing that can be read, or is still there */
    enum err e = k->has_object && !env_mutant(k->s->env, MUTANT_MERGED_LATE) ? put_object(k) : OK;
    if (e == OK) e = write_entry(k);
    if (e == OK && k->has_object && env_mutant(k->s->env, MUTANT_MERGED_LATE)) e = put_object(k);
    /* No entry names it, and none will. */
    if (e != OK && k->has_object) object_uses_check(&k->s->uses, object_uses_add(&k->s->uses, k->object));
    if (e != OK) return e;
    metric_add(k->s->env->metrics, M_MERGED_BYTES, 0, k->bytes);
    log_debug(k->s->env->log, "ranges merged",
              "streams=%zu ranges=%zu bytes=%" PRIu64 " gets=%zu took_ms=%d rate=%" PRIu64, k->count, k->source_count,
              k->bytes, k->span_count, (int)((env_now_ns(k->s->env) - begun_ns) / NS_PER_MS), k->rate);
    return OK;
}

static void compact(void *arg) {
    struct streams *s = arg;
    struct compaction k = {.s = s};
    slices_init(&k.body, s->mem);
    enum err e = job_run(&k);
    if (e == ERR_FENCED) log_fatal(s, e, "another broker has fenced this ledger");
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

void compact_poke(struct streams *s) {
    if (s->compacting || timer_armed(&s->compact_timer) || s->closing || s->fenced) return;
    struct compact_run run;
    while (!list_empty(&s->crowded) && !is_crowded(s, crowded_of(s->crowded.next), &run)) list_remove(s->crowded.next);
    if (list_empty(&s->crowded)) return;
    s->compacting = true;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "compact", compact, s);
}
