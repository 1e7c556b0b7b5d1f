/* Many small ranges of a stream become one. Each start and each quiet hour leaves a small piece of a partition in an
 * object; without this, objects would grow in number with restarts.
 * Once a stream has SMALL_RANGES adjacent small ranges they, and all small ones that follow, are read, checked, and
 * written again as one; the ledger entry that says so replaces them atomically. All at once: what has been merged is
 * mostly small itself, and would be read and written again with each few that are added. */
#include <inttypes.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "kafka/batch.h"
#include "stream/streams_priv.h"

struct replacement {
    struct stream_id stream;
    int32_t epoch;
    struct state_range *old; /* copies: the committed state may move while we read */
    size_t old_count;
    struct object_piece piece;
    uint64_t piece_size;
    uint32_t piece_crc;
    struct state_range range;
};

struct compaction {
    struct streams *s;
    struct replacement *items;
    size_t count, capacity;
    uint64_t bytes;
};

/* The first run of small ranges that is long enough, as far as one entry takes it; the active end of a stream included. */
static bool find_run(const struct ledger_stream *c, size_t *first, size_t *count) {
    size_t run = 0, i = 0;
    uint64_t bytes = 0;
    for (; i < c->state.range_count; i++) {
        uint64_t size = c->state.ranges[i].size_bytes;
        bool small = size < SMALL_BYTES;
        if (run >= SMALL_RANGES && (!small || bytes + size > REPLACE_ENTRY_BYTES)) break;
        run = small ? run + 1 : 0;
        bytes = small ? bytes + size : 0;
    }
    *first = i - run;
    *count = run;
    return run >= SMALL_RANGES;
}

/* Nothing here may cost what all streams cost, for it happens with each entry: so streams that may have something to
 * merge are in a list, from the entry on that gave them their last range. One that has not after all leaves it when that
 * is seen. */
static struct ledger_stream *crowded_of(struct list *node) {
    return LIST_ENTRY(node, struct ledger_stream, crowded);
}

static bool is_crowded(const struct ledger_stream *c, size_t *first, size_t *count) {
    return !c->refused && !c->replacing && c->state.range_count >= SMALL_RANGES && find_run(c, first, count);
}

/* A run becomes long enough by what is added behind it: the last ranges alone tell. */
void compact_note(struct streams *s, struct ledger_stream *c) {
    uint32_t n = c->state.range_count;
    if (n < SMALL_RANGES || c->refused || !list_empty(&c->crowded)) return;
    for (uint32_t i = n - SMALL_RANGES; i < n; i++) {
        if (c->state.ranges[i].size_bytes >= SMALL_BYTES) return;
    }
    list_push_back(&s->crowded, &c->crowded);
}

void compact_begin(struct streams *s) {
    size_t cursor = 0, first, count;
    struct ledger_stream *c;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) {
        if (list_empty(&c->crowded) && is_crowded(c, &first, &count)) list_push_back(&s->crowded, &c->crowded);
    }
    compact_poke(s);
}

static void choose(struct compaction *k) {
    struct streams *s = k->s;
    LIST_EACH_SAFE(it, &s->crowded) {
        struct ledger_stream *c = crowded_of(it);
        size_t first, count;
        if (k->bytes >= REPLACE_ENTRY_BYTES) break;
        if (!is_crowded(c, &first, &count)) {
            list_remove(it);
            continue;
        }
        uint64_t bytes = 0;
        for (size_t i = 0; i < count; i++) bytes += c->state.ranges[first + i].size_bytes;
        if (k->count > 0 && k->bytes + bytes > REPLACE_ENTRY_BYTES) continue; /* its turn comes */
        k->bytes += bytes;
        k->items = mem_grow(s->mem, k->items, k->count, &k->capacity, sizeof(*k->items));
        struct replacement *r = &k->items[k->count++];
        *r = (struct replacement){.stream = c->id, .epoch = c->epoch, .old_count = count};
        r->old = mem_alloc(s->mem, count * sizeof(*r->old));
        memcpy(r->old, &c->state.ranges[first], count * sizeof(*r->old));
        object_piece_init(&r->piece, s->mem);
        object_piece_begin(&r->piece, r->old[0].first_offset); /* its first records may be missing: log compaction */
    }
    /* What they have left to merge comes after the others'. */
    for (size_t n = 0; n < k->count; n++) {
        struct ledger_stream *c = ledger_image_get(&s->image, k->items[n].stream);
        list_remove(&c->crowded);
        list_push_back(&s->crowded, &c->crowded);
        c->replacing = true;
    }
}

static enum err add_block(struct object_piece *piece, struct slice block, const struct object_block *b) {
    if (crc32c(0, block.data, block.size) != b->crc) return ERR_CORRUPT;
    size_t at = 0;
    while (at < block.size) {
        struct batch_header h;
        enum err e = batch_parse_unchecked(block.data + at, block.size - at, &h);
        if (e != OK) return e;
        object_piece_add(piece, slice_sub(block, at, h.size), (uint64_t)h.base_offset, (uint64_t)batch_end_offset(&h),
                         h.max_timestamp);
        at += h.size;
    }
    return OK;
}

static enum err read_range(struct streams *s, const struct state_range *r, struct object_piece *piece) {
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, r->object);
    struct slice data;
    enum err e = store_get(s->store, key, r->position, (size_t)r->size_bytes, STORE_FOR_COMPACTION, &data);
    if (e != OK) return e;
    struct object_block *blocks = mem_alloc(s->mem, r->block_count * sizeof(*blocks));
    e = data.size == r->size_bytes ? object_index_decode(data.data, data.size, r->block_count, r->size_bytes, blocks)
                                   : ERR_TRUNCATED;
    for (uint32_t i = 0; i < r->block_count && e == OK; i++) {
        struct slice block = slice_sub(data, (size_t)blocks[i].position, blocks[i].size);
        e = add_block(piece, block, &blocks[i]);
        slice_unref(&block);
    }
    mem_free(s->mem, blocks);
    slice_unref(&data);
    return e;
}

static enum err read_all(struct compaction *k) {
    for (size_t n = 0; n < k->count; n++) {
        struct replacement *r = &k->items[n];
        for (size_t i = 0; i < r->old_count; i++) {
            if (k->s->closing) return ERR_CANCELLED;
            enum err e = read_range(k->s, &r->old[i], &r->piece);
            if (e != OK) return e;
        }
        if (r->piece.first_offset != r->old[0].first_offset ||
            r->piece.end_offset != r->old[r->old_count - 1].end_offset)
            return ERR_GAP;
    }
    return OK;
}

static void apply(struct streams *s, struct replacement *r, struct commit_mail **mails) {
    struct ledger_stream *c = ledger_image_get(&s->image, r->stream);
    object_uses_range(&s->uses, r->range.object, 1);
    if (c && state_replace_ranges(&c->state, &r->range) == OK) {
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
        for (size_t i = 0; i < k->items[n].old_count; i++) {
            struct object_id id = k->items[n].old[i].object;
            if (id.kind != OBJECT_DATA && id.creator.v == s->options.incarnation.v) continue; /* still log */
            char key[OBJECT_KEY_MAX];
            const char *keys = key;
            object_key(key, s->generation, id);
            enum err e = store_delete(s->store, &keys, 1, STORE_FOR_OTHER);
            (void)e;
        }
    }
}

static enum err write_entry(struct compaction *k) {
    struct streams *s = k->s;
    struct buf head;
    struct slices body;
    uint32_t body_crc = 0;
    buf_init(&head, s->mem);
    slices_init(&body, s->mem);
    struct object_head h = {.section_count = (uint32_t)k->count};
    memcpy(h.wal_id, s->wal_id, sizeof(h.wal_id));
    object_head_begin(&head, &h);
    for (size_t n = 0; n < k->count; n++) {
        struct replacement *r = &k->items[n];
        struct object_piece *p = &r->piece;
        r->piece_size = object_piece_finish(p, &r->piece_crc);
        r->range = (struct state_range){.object = {{0}, OBJECT_THIS_ENTRY, OBJECT_LEDGER_ENTRY},
                                        .first_offset = p->first_offset,
                                        .end_offset = p->end_offset,
                                        .max_timestamp = p->max_timestamp,
                                        .position = body.size_bytes,
                                        .size_bytes = r->piece_size,
                                        .block_count = (uint32_t)p->block_count};
        slices_push(&body, slice_borrow(p->index, p->index_size));
        for (size_t i = 0; i < p->parts.count; i++)
            slices_push(&body, slice_borrow(p->parts.items[i].data, p->parts.items[i].size));
        body_crc = crc32c_combine(body_crc, r->piece_crc, r->piece_size);
        struct stream_state delta;
        state_init_delta(&delta, s->mem, p->first_offset);
        delta.end_offset = p->end_offset;
        state_add_range(&delta, &r->range);
        object_head_section(&head, r->stream, r->epoch, OBJECT_REPLACED, &delta);
        state_deinit(&delta);
    }
    uint64_t number = 0;
    struct slice head_slice = slice_borrow(head.data, head.size);
    enum err e = ledger_enter(s);
    if (e != OK) goto out;
    if (env_mutant(s->env, MUTANT_DELETE_EARLY)) delete_replaced(k);
    e = objlog_append(s->log, OBJLOG_DATA, &head_slice, body.items, body.count, body_crc, &number);
    if (e == OK) {
        struct commit_mail **mails = upload_mails_create(s);
        for (size_t n = 0; n < k->count; n++) {
            struct replacement *r = &k->items[n];
            r->range.object = (struct object_id){s->options.incarnation, number, OBJECT_LEDGER_ENTRY};
            r->range.position += OBJLOG_HEADER_SIZE + head.size;
            apply(s, r, mails);
        }
        upload_post_mails(s, mails);
        checkpoint_entry_made(s);
    }
    ledger_leave(s);
out:
    slices_deinit(&body);
    buf_deinit(&head);
    return e;
}

/* After a failure, whether or not entries follow: nothing here is urgent, and the store may be in trouble. */
#define COMPACT_RETRY_NS (10 * NS_PER_S)

static void compact(void *arg) {
    struct streams *s = arg;
    struct compaction k = {.s = s};
    choose(&k);
    enum err e = k.count > 0 ? read_all(&k) : ERR_NOT_FOUND;
    if (e == OK) e = write_entry(&k);
    if (e != OK && e != ERR_NOT_FOUND && !s->closing && !s->fenced) {
        log_warn(s->env->log, "small ranges were not merged", "error=%s retry_s=%d", err_name(e),
                 (int)(COMPACT_RETRY_NS / NS_PER_S));
        timer_arm(&s->compact_timer, env_now_ns(s->env) + COMPACT_RETRY_NS);
    }
    for (size_t n = 0; n < k.count; n++) {
        struct ledger_stream *c = ledger_image_get(&s->image, k.items[n].stream);
        if (c) c->replacing = false;
        object_piece_deinit(&k.items[n].piece);
        mem_free(s->mem, k.items[n].old);
    }
    mem_free(s->mem, k.items);
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
    size_t first, count;
    while (!list_empty(&s->crowded) && !is_crowded(crowded_of(s->crowded.next), &first, &count))
        list_remove(s->crowded.next);
    if (list_empty(&s->crowded)) return;
    s->compacting = true;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "compact", compact, s);
}
