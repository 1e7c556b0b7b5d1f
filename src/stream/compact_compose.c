/* Object compaction, third part: an object of gigabytes, which the store puts together itself. The blocks of the old
 * ranges go over as they are, checksums and all, without passing through here: only their indexes are read, and become
 * one. What a store copies has a least size, so the first range is read whole and goes along with the new index in front
 * of it. A block that is damaged stays so: whoever reads it finds out. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/compact_priv.h"

struct compose {
    struct compaction *k;
    struct compact_item *item;
    struct object_block *blocks; /* of all, as the old indexes have them, then as the new one does */
    uint32_t block_count;
    struct slice first; /* the first range */
    uint8_t *head;      /* header and index */
    size_t head_size;
    struct store_part *parts;
    size_t part_count;
    char (*keys)[OBJECT_KEY_MAX];
};

/* Its index, or, of the first, all. Suspends. */
static enum err read_index(struct compose *x, size_t i, uint32_t at) {
    struct compaction *k = x->k;
    struct streams *s = k->s;
    const struct state_range *r = &x->item->old[i];
    uint64_t size = i == 0 ? r->size_bytes : object_index_size(r->block_count);
    compact_pace(k, size);
    struct slice data = {0};
    enum err e = store_get(s->store, x->keys[i], r->position, (size_t)size, STORE_FOR_COMPACTION, &data);
    if (e == OK && data.size != size) e = ERR_TRUNCATED;
    struct object_block *blocks = x->blocks + at;
    if (e == OK) e = object_index_decode(data.data, data.size, r->block_count, r->size_bytes, blocks);
    if (e == OK && (r->block_count == 0 || blocks[0].first_offset != r->first_offset ||
                    blocks[r->block_count - 1].end_offset != r->end_offset))
        e = ERR_CORRUPT;
    for (uint32_t b = 0; i == 0 && b < r->block_count && e == OK; b++) {
        if (crc32c(0, data.data + blocks[b].position, blocks[b].size) != blocks[b].crc) e = ERR_CORRUPT;
        fiber_yield();
    }
    if (i == 0 && e == OK)
        x->first = data;
    else
        slice_unref(&data);
    return e;
}

static void make_parts(struct compose *x) {
    const struct compact_item *t = x->item;
    uint64_t position = object_index_size(x->block_count), block = 0;
    for (size_t i = 0; i < t->old_count; i++) {
        const struct state_range *r = &t->old[i];
        uint64_t index_size = object_index_size(r->block_count), size = r->size_bytes - index_size;
        x->parts[++x->part_count] =
            i == 0 ? (struct store_part){.data = slice_borrow(x->first.data + index_size, (size_t)size)}
                   : (struct store_part){.key = x->keys[i], .position = r->position + index_size, .size = size};
        for (uint32_t b = 0; b < r->block_count; b++) {
            if (!env_mutant(x->k->s->env, MUTANT_COMPOSED_OFF)) x->blocks[block].position = position;
            position += x->blocks[block++].size;
        }
    }
    x->item->piece_size = position;
    x->head_size = OBJECT_DATA_HEADER + object_index_size(x->block_count);
    x->head = mem_alloc(x->k->s->mem, x->head_size);
    object_data_header(x->head, x->k->object, t->stream, position);
    object_index_encode(x->blocks, x->block_count, x->head + OBJECT_DATA_HEADER);
    x->parts[0] = (struct store_part){.data = slice_borrow(x->head, x->head_size)};
    x->part_count++;
}

/* Suspends, for minutes. */
static enum err put(struct compose *x) {
    struct streams *s = x->k->s;
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, x->k->object);
    enum err e;
    unsigned failures = 0;
    for (;;) {
        e = store_compose(s->store, key, x->parts, x->part_count, STORE_FOR_COMPACTION);
        if (e == ERR_EXISTS) e = OK; /* the name is ours alone */
        if (e == OK || e == ERR_UNSUPPORTED || e == ERR_NOT_FOUND || e == ERR_TRUNCATED || e == ERR_TOO_LARGE) return e;
        if (s->closing || s->fenced) return s->fenced ? ERR_FENCED : ERR_CANCELLED;
        env_backoff(s->env, failures < 8 ? failures++ : failures, 50 * NS_PER_MS, 5 * NS_PER_S);
    }
}

static void set_range(struct compose *x) {
    struct compact_item *t = x->item;
    t->range = (struct state_range){.object = x->k->object,
                                    .first_offset = t->old[0].first_offset,
                                    .end_offset = t->old[t->old_count - 1].end_offset,
                                    .max_timestamp = INT64_MIN,
                                    .position = OBJECT_DATA_HEADER,
                                    .size_bytes = t->piece_size,
                                    .block_count = x->block_count};
    for (size_t i = 0; i < t->old_count; i++) {
        if (t->old[i].max_timestamp > t->range.max_timestamp) t->range.max_timestamp = t->old[i].max_timestamp;
    }
}

static enum err compose(struct compose *x) {
    struct compaction *k = x->k;
    struct streams *s = k->s;
    struct compact_item *t = x->item;
    enum err e = OK;
    uint32_t at = 0;
    for (size_t i = 0; i < t->old_count && e == OK; i++) {
        object_key(x->keys[i], s->generation, t->old[i].object);
        e = s->closing || s->fenced ? ERR_CANCELLED : read_index(x, i, at);
        if (e != OK && compact_is_lost(e)) {
            compact_unreadable(k, t, &t->old[i], e);
            return k->error;
        }
        at += t->old[i].block_count;
    }
    if (e != OK) return e;
    k->object = (struct object_id){s->options.incarnation, s->next_data_object++, OBJECT_DATA};
    k->has_object = true;
    make_parts(x);
    e = put(x);
    if (e == OK) set_range(x);
    if (e == ERR_UNSUPPORTED) {
        s->no_compose = true; /* the next one is read and written */
        t->failed = true;
        e = OK;
    }
    return e;
}

enum err compact_compose(struct compaction *k) {
    ASSERT(k->count == 1 && k->compose);
    struct mem *m = k->s->mem;
    struct compose x = {.k = k, .item = &k->items[0]};
    uint64_t blocks = 0;
    for (size_t i = 0; i < x.item->old_count; i++) blocks += x.item->old[i].block_count;
    ASSERT(blocks <= UINT32_MAX);
    x.block_count = (uint32_t)blocks;
    x.blocks = mem_alloc(m, (blocks + 1) * sizeof(*x.blocks));
    x.parts = mem_alloc(m, (x.item->old_count + 1) * sizeof(*x.parts));
    x.keys = mem_alloc(m, x.item->old_count * sizeof(*x.keys));
    int64_t held_bytes = (int64_t)x.item->old[0].size_bytes;
    metric_gauge_add(k->s->env->metrics, M_COMPACTION_BYTES, held_bytes);
    enum err e = compose(&x);
    slice_unref(&x.first);
    metric_gauge_add(k->s->env->metrics, M_COMPACTION_BYTES, -held_bytes);
    mem_free(m, x.head);
    mem_free(m, x.blocks);
    mem_free(m, x.parts);
    mem_free(m, x.keys);
    return e;
}
