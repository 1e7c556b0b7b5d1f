/* How blocks come into the cache. What is wanted stands in line: first what somebody waits for, in the order of asking,
 * then what is to be read ahead. A few fibers take from it, one GET each. Whoever takes the first in line takes what lies
 * beside it in the same object too: adjacent blocks, and small pieces of other streams that were asked for in the same turn
 * of the loop, for a fiber that was spawned runs after those who are asking.
 *
 * A GET begins when it finds room in the cache, or nothing else is under way. So the first in line is never passed by
 * somebody smaller, and never waits for anything but GETs that end.
 *
 * The bytes are verified by a worker when they are many: some megabytes at once would hold up the loop, and with it the
 * producers and the readers at the tail that it serves. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/read_cache_priv.h"

/* Bytes that do not verify may have been damaged on the way: they are read again so often before the object is taken to
 * be damaged. */
#define DAMAGED_MAX 4u
#define RETRIES_MAX 10u
#define RETRY_MIN_NS (20 * NS_PER_MS)
#define RETRY_MAX_NS (2 * NS_PER_S)
/* What a GET's memory may take above the bytes that were asked for. */
#define GET_EXTRA_BYTES (12u << 10)

struct flight { /* one GET, for loads of one object that lie close to each other */
    struct read_cache *cache;
    struct list loads;
    unsigned count;
    uint64_t from, end; /* in the object */
    uint64_t charged;
    struct slice raw;
};

/* ---- in line ---- */

static void fly(void *arg);

static void poke(struct read_cache *c) {
    while (c->fibers < c->o.gets_max && c->fibers - c->busy < c->queued) {
        c->fibers++;
        waitgroup_add(&c->running);
        fiber_spawn(loop_current(), "read", fly, c);
    }
}

static struct load *load_create(struct read_cache *c, const struct state_range *piece, bool wanted) {
    struct load *l = MEM_NEW(c->o.env->mem, struct load);
    list_init(&l->node);
    l->piece = *piece;
    l->wanted = wanted;
    return l;
}

static void load_free(struct read_cache *c, struct load *l) {
    struct mem *m = c->o.env->mem;
    slice_unref(&l->decoded);
    mem_free(m, l->entries);
    mem_free(m, l->blocks);
    mem_free(m, l->good);
    mem_free(m, l);
}

static void note_waits(struct read_cache *c, struct load *l) {
    if (!l->waited) metric_add(c->o.env->metrics, M_READ_BUDGET_WAITS, 0, 1);
    l->waited = true;
}

static void line_up(struct read_cache *c, struct load *l) {
    list_push_back(l->wanted ? &c->wanted : &c->later, &l->node);
    c->queued++;
    if (l->wanted && c->busy == c->o.gets_max) note_waits(c, l);
    poke(c);
}

void load_blocks(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                 uint32_t count, bool wanted) {
    ASSERT(count > 0);
    struct mem *m = c->o.env->mem;
    struct load *l = load_create(c, piece, wanted);
    const struct object_block *last = &blocks[count - 1];
    l->from = blocks[0].position;
    l->size = last->position + last->size - l->from;
    l->count = count;
    l->blocks = mem_alloc(m, count * sizeof(*blocks));
    memcpy(l->blocks, blocks, count * sizeof(*blocks));
    l->entries = mem_alloc(m, count * sizeof(struct cached *));
    for (uint32_t i = 0; i < count; i++) {
        l->entries[i] = cached_begin(c, piece, blocks[i].position, blocks[i].size, l);
        l->entries[i]->ahead = i > 0 || !wanted;
    }
    line_up(c, l);
}

/* How much of the piece comes with its index. A small one comes whole; of others so many blocks as fit the window, were
 * they all of one size, for what is cut off in the middle has to be fetched again. */
static uint64_t with_index(const struct state_range *piece, size_t window_bytes) {
    uint64_t size = object_index_size(piece->block_count),
             rest = piece->size_bytes > size ? piece->size_bytes - size : 0;
    uint64_t most = window_bytes < READ_GET_MAX ? window_bytes : READ_GET_MAX;
    if (piece->size_bytes <= FIRST_READ_BYTES || rest <= most) return rest;
    if (most == 0 || piece->block_count == 0) return 0;
    uint64_t mean = rest / piece->block_count, blocks = mean > 0 && most > mean ? most / mean : 1;
    uint64_t wanted = blocks * mean + mean / 16;
    return wanted < rest ? wanted : rest;
}

void load_index(struct read_cache *c, const struct state_range *piece, size_t window_bytes, bool wanted) {
    struct load *l = load_create(c, piece, wanted);
    uint64_t more = with_index(piece, window_bytes);
    if (more > 0 && read_ahead_take(c, more)) l->reserved = more;
    if (l->reserved == 0 && (!wanted || piece->size_bytes > FIRST_READ_BYTES)) more = 0;
    l->index = true;
    l->size = object_index_size(piece->block_count) + more;
    l->count = 1;
    l->entries = mem_alloc(c->o.env->mem, sizeof(struct cached *));
    l->entries[0] = cached_begin(c, piece, 0, piece->block_count * sizeof(struct object_block), l);
    line_up(c, l);
}

void load_hurry(struct read_cache *c, struct load *l) {
    if (l->wanted) return;
    l->wanted = true;
    if (l->flying) return;
    list_remove(&l->node);
    list_push_back(&c->wanted, &l->node);
}

static void load_fail(struct read_cache *c, struct load *l, enum err error) {
    for (uint32_t i = 0; i < l->count; i++) cached_failed(c, l->entries[i], error);
    budget_give(&c->ahead, l->reserved);
    load_free(c, l);
}

void loads_cancel(struct read_cache *c) {
    struct list *n;
    while ((n = list_pop_front(&c->wanted)) != NULL || (n = list_pop_front(&c->later)) != NULL) {
        c->queued--;
        load_fail(c, LIST_ENTRY(n, struct load, node), ERR_CLOSED);
    }
}

/* ---- what goes together ---- */

static bool joins(struct read_cache *c, const struct flight *f, const struct load *l) {
    const struct load *first = LIST_ENTRY(f->loads.next, struct load, node);
    if (l->alone || first->alone || !object_id_equal(l->piece.object, first->piece.object)) return false;
    uint64_t from = l->piece.position + l->from, end = from + l->size;
    if (from > f->end + READ_GAP_MAX || f->from > end + READ_GAP_MAX) return false;
    uint64_t low = from < f->from ? from : f->from, high = end > f->end ? end : f->end;
    return high - low <= READ_GET_MAX && read_cache_make_room(c, high - low + GET_EXTRA_BYTES);
}

static void join(struct read_cache *c, struct flight *f, struct load *l) {
    uint64_t from = l->piece.position + l->from, end = from + l->size;
    if (f->count == 0 || from < f->from) f->from = from;
    if (f->count == 0 || end > f->end) f->end = end;
    list_remove(&l->node);
    list_push_back(&f->loads, &l->node);
    l->flying = true;
    f->count++;
    c->queued--;
}

/* Each that joins may bring another within reach. */
static void join_neighbours(struct read_cache *c, struct flight *f) {
    struct list *lines[] = {&c->wanted, &c->later};
    for (unsigned before = 0; before != f->count;) {
        before = f->count;
        for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
            LIST_EACH_SAFE(it, lines[i]) {
                struct load *l = LIST_ENTRY(it, struct load, node);
                if (joins(c, f, l)) join(c, f, l);
            }
        }
    }
}

/* Takes what is next; false: nothing is, or there is no room for it before a GET ends. */
static bool take_off(struct read_cache *c, struct flight *f) {
    struct list *line = !list_empty(&c->wanted) ? &c->wanted : &c->later;
    if (list_empty(line)) return false;
    struct load *first = LIST_ENTRY(line->next, struct load, node);
    uint64_t need = first->size + GET_EXTRA_BYTES;
    if (!read_cache_make_room(c, need)) {
        if (c->gets > 0) {
            note_waits(c, first);
            return false;
        }
        read_cache_make_empty(c); /* too large for all that there is: alone */
    }
    *f = (struct flight){.cache = c};
    list_init(&f->loads);
    join(c, f, first);
    join_neighbours(c, f);
    f->charged = f->end - f->from + GET_EXTRA_BYTES;
    c->under_way_bytes += f->charged;
    metric_gauge_add(c->o.env->metrics, M_BLOCK_CACHE_BYTES, (int64_t)f->charged);
    c->gets++;
    c->busy++;
    read_cache_check(c);
    return true;
}

/* ---- the GET ---- */

static enum err fetch(struct flight *f) {
    struct read_cache *c = f->cache;
    const struct load *first = LIST_ENTRY(f->loads.next, struct load, node);
    char key[OBJECT_KEY_MAX];
    object_key(key, c->generation, first->piece.object);
    uint64_t size = f->end - f->from;
    for (unsigned attempt = 0;; attempt++) {
        enum err e = store_get(c->o.store, key, f->from, (size_t)size, STORE_FOR_READ, &f->raw);
        if (e == OK && f->raw.size != size) {
            slice_unref(&f->raw);
            e = ERR_TRUNCATED;
        }
        if (e == OK || err_class(e) == ERR_CLASS_FATAL || attempt >= RETRIES_MAX || c->closing) return e;
        env_backoff(c->o.env, attempt, RETRY_MIN_NS, RETRY_MAX_NS);
    }
}

/* The decoded blocks lie in a slab of their own. */
static enum err decode_index(struct mem *m, const struct load *l, const uint8_t *data, struct slice *out) {
    size_t size = l->piece.block_count * sizeof(struct object_block);
    struct slab *slab = slab_create(m, size, 16);
    enum err e = object_index_decode(data, (size_t)l->size, l->piece.block_count, l->piece.size_bytes,
                                     (struct object_block *)(void *)slab->data);
    if (e == OK) *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return e;
}

/* Blocks of which all has come: a run's all, of an index's the first ones. */
static uint32_t whole_blocks(const struct load *l, const struct object_block **blocks) {
    *blocks = l->blocks;
    if (!l->index) return l->count;
    *blocks = (const struct object_block *)(const void *)l->decoded.data;
    uint32_t count = 0;
    while (l->decoded.slab && count < l->piece.block_count &&
           (*blocks)[count].position + (*blocks)[count].size <= l->size)
        count++;
    return count;
}

/* On a worker's thread, or the loop's: touches the flight alone. */
static void verify(void *arg) {
    struct flight *f = arg;
    struct mem *m = f->cache->o.env->mem;
    LIST_EACH(it, &f->loads) {
        struct load *l = LIST_ENTRY(it, struct load, node);
        const uint8_t *data = f->raw.data + (l->piece.position + l->from - f->from);
        if (l->index) l->index_error = decode_index(m, l, data, &l->decoded);
        const struct object_block *blocks;
        uint32_t count = whole_blocks(l, &blocks);
        l->good = mem_zalloc(m, count * sizeof(bool));
        l->good_count = 0;
        for (uint32_t i = 0; i < count; i++) {
            l->good[i] = crc32c(0, data + (blocks[i].position - l->from), blocks[i].size) == blocks[i].crc;
            l->good_count += l->good[i];
        }
    }
}

/* ---- arrival ---- */

/* Blocks that nobody has asked for may be damaged: they are not kept, and fetched again by who does ask. */
static bool load_is_right(const struct load *l) {
    return l->index ? l->index_error == OK : l->good_count == l->count;
}

static void run_arrived(struct read_cache *c, struct flight *f, struct load *l, struct extent *x) {
    uint64_t base = l->piece.position - f->from;
    for (uint32_t i = 0; i < l->count; i++) {
        uint64_t position = base + l->blocks[i].position;
        if (i > 0 && env_mutant(c->o.env, MUTANT_FIRST_BLOCK)) position = base + l->blocks[i - 1].position;
        if (l->good[i])
            cached_arrived(c, l->entries[i], x, position);
        else
            cached_failed(c, l->entries[i], ERR_CORRUPT);
    }
}

static void index_arrived(struct read_cache *c, struct flight *f, struct load *l, struct extent *x) {
    const struct object_block *blocks;
    uint32_t count = whole_blocks(l, &blocks);
    budget_give(&c->ahead, l->reserved);
    l->reserved = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!l->good[i] || cached_find(c, &l->piece, blocks[i].position)) continue;
        struct cached *e = cached_begin(c, &l->piece, blocks[i].position, blocks[i].size, l);
        e->ahead = budget_take(&c->ahead, e->size);
        cached_arrived(c, e, x, l->piece.position - f->from + blocks[i].position);
    }
    struct slice decoded = slice_sub(l->decoded, 0, l->decoded.size);
    struct extent *index = extent_create(c, decoded);
    cached_arrived(c, l->entries[0], index, 0);
    extent_keep(c, index, true);
}

static void again(struct read_cache *c, struct load *l) {
    slice_unref(&l->decoded);
    mem_free(c->o.env->mem, l->good);
    l->good = NULL;
    l->alone = true;
    l->flying = false;
    list_push_front(&c->wanted, &l->node);
    l->wanted = true;
    c->queued++;
}

/* Every load of it ends, or stands in line again, alone. Gives how often one has been damaged, if any was. */
static unsigned land(struct flight *f, enum err error) {
    struct read_cache *c = f->cache;
    bool together = f->count > 1;
    unsigned damaged = 0;
    c->gets--;
    c->under_way_bytes -= f->charged;
    metric_gauge_add(c->o.env->metrics, M_BLOCK_CACHE_BYTES, -(int64_t)f->charged);
    struct extent *x = error == OK ? extent_create(c, f->raw) : NULL;
    for (struct list *n; (n = list_pop_front(&f->loads)) != NULL;) {
        struct load *l = LIST_ENTRY(n, struct load, node);
        if (error != OK && together && !c->closing) { /* it may be the fault of another's place */
            again(c, l);
        } else if (error != OK) {
            load_fail(c, l, error);
        } else if (!load_is_right(l) && l->attempts < DAMAGED_MAX && !c->closing) {
            damaged = ++l->attempts;
            again(c, l);
        } else if (l->index && l->index_error != OK) {
            load_fail(c, l, l->index_error);
        } else {
            if (l->index)
                index_arrived(c, f, l, x);
            else
                run_arrived(c, f, l, x);
            load_free(c, l);
        }
    }
    if (x && !list_empty(&x->entries)) {
        extent_keep(c, x, false);
    } else if (x) {
        extent_forget(c, x);
    }
    read_cache_check(c);
    return damaged;
}

static void fly(void *arg) {
    struct read_cache *c = arg;
    struct flight f;
    while (take_off(c, &f)) {
        enum err e = fetch(&f);
        if (e == OK && f.raw.size > VERIFY_HERE_MAX)
            env_offload(c->o.env, verify, &f);
        else if (e == OK)
            verify(&f);
        unsigned damaged = land(&f, e);
        if (damaged > 0) env_backoff(c->o.env, damaged, RETRY_MIN_NS, RETRY_MAX_NS);
        c->busy--;
    }
    c->fibers--;
    waitgroup_done(&c->running);
}
