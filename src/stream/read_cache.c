/* What the block cache keeps, and for whom. Memory comes in extents, the bytes of one GET each, and goes in extents. An
 * extent begins among what is read ahead; when all of it has been used it goes into the small queue, and from there, when
 * room is needed, to the main one if another reader used it too, or out. What goes out of the small queue is remembered
 * for a while by its hash: if it comes again it belongs to the main one. The main queue is a clock: what was used since it
 * last came by stays for another round.
 *
 * "Used by another reader" is what counts, not "used again": one reader comes back to a block whenever its answer ended in
 * the middle of it. */
#include "stream/read_cache_priv.h"

#include "base/assert.h"

#define SMALL_PERCENT 10u
#define INDEX_PERCENT 12u
#define USES_MAX 3u
#define GHOST_BYTES (64u << 10) /* one is remembered for so much of the limit, */
#define GHOSTS_MIN 64u          /* between so many */
#define GHOSTS_MAX 8192u        /* and so many */
#define MAP_ENTRY_BYTES 128u    /* what the map takes for one, about */
#define EPOCH_NS NS_PER_S
#define STALE_NS (5 * NS_PER_S) /* what was read ahead and is not used for so long has lost its reader */

/* ---- beginning and end ---- */

struct read_cache *read_cache_create(const struct read_cache_options *o) {
    ASSERT(o->gets_max > 0 && o->ahead_bytes <= o->limit_bytes / 2);
    struct mem *m = o->env->mem;
    struct read_cache *c = MEM_NEW(m, struct read_cache);
    INIT_OBJ(c, READ_CACHE_MAGIC);
    c->o = *o;
    c->generation = mem_strdup(m, o->generation);
    c->held = MEM_NEW(m, struct read_held);
    *c->held = (struct read_held){.mem = m, .metrics = o->env->metrics};
    atomic_init(&c->held->refs, 1);
    mapstr_init(&c->map, m);
    for (unsigned i = 0; i < READ_PLACES; i++) list_init(&c->places[i]);
    c->ahead.limit_bytes = o->ahead_bytes;
    uint64_t ghosts = o->limit_bytes / GHOST_BYTES;
    c->ghost_capacity = ghosts < GHOSTS_MIN ? GHOSTS_MIN : ghosts > GHOSTS_MAX ? GHOSTS_MAX : (size_t)ghosts;
    map64_init(&c->ghost_map, m);
    list_init(&c->wanted);
    list_init(&c->later);
    waitgroup_init(&c->running);
    return c;
}

static void held_unref(struct read_held *h) {
    if (atomic_fetch_sub(&h->refs, 1) == 1) mem_free(h->mem, h);
}

static void extent_evict(struct read_cache *c, struct extent *x);

void read_cache_destroy(struct read_cache *c) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    c->closing = true;
    loads_cancel(c);
    waitgroup_wait(&c->running);
    read_cache_check(c);
    for (unsigned i = 0; i < READ_PLACES; i++) {
        while (!list_empty(&c->places[i])) extent_evict(c, LIST_ENTRY(c->places[i].next, struct extent, node));
    }
    ASSERT(c->map.count == 0 && c->bytes == 0 && c->under_way_bytes == 0 && c->ahead.used_bytes == 0);
    mapstr_deinit(&c->map);
    map64_deinit(&c->ghost_map);
    struct mem *m = c->o.env->mem;
    mem_free(m, c->ghosts);
    mem_free(m, c->generation);
    held_unref(c->held);
    c->magic = 0;
    mem_free(m, c);
}

struct read_cache_use read_cache_use(const struct read_cache *c) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    return (struct read_cache_use){c->bytes, c->under_way_bytes, c->ahead.used_bytes,
                                   atomic_load_explicit(&c->held->lent_bytes, memory_order_relaxed), c->gets};
}

/* The budgets. A single GET above the limit is there alone. */
void read_cache_check(const struct read_cache *c) {
    DCHECK(c->bytes + c->under_way_bytes <= c->o.limit_bytes || (c->bytes == 0 && c->gets == 1));
    DCHECK(c->ahead.used_bytes <= c->o.ahead_bytes);
    DCHECK(c->fibers <= c->o.gets_max && c->gets <= c->fibers);
    DCHECK((c->gets == 0) == (c->under_way_bytes == 0));
#ifdef OXBOW_DCHECK
    uint64_t bytes = 0;
    for (unsigned i = 0; i < READ_PLACES; i++) bytes += c->place_bytes[i];
    DCHECK(bytes == c->bytes);
#endif
}

/* ---- keys ---- */

static void key_of(const struct read_cache *c, const struct state_range *piece, uint64_t position,
                   uint8_t out[READ_KEY_SIZE]) {
    le64_put(out, piece->object.creator.v);
    le64_put(out + 8, piece->object.number);
    le64_put(out + 16, piece->position + position);
    out[24] = (uint8_t)piece->object.kind;
    if (position > 0 && env_mutant(c->o.env, MUTANT_CACHE_KEY)) memset(out + 8, 0, 8);
}

struct cached *cached_find(const struct read_cache *c, const struct state_range *piece, uint64_t position) {
    uint8_t key[READ_KEY_SIZE];
    key_of(c, piece, position, key);
    return mapstr_get(&c->map, key, sizeof(key));
}

/* ---- what has gone ---- */

static void ghost_add(struct read_cache *c, const struct cached *e) {
    if (!c->ghosts) c->ghosts = mem_zalloc(c->o.env->mem, c->ghost_capacity * sizeof(*c->ghosts));
    uint64_t *slot = &c->ghosts[c->ghost_next % c->ghost_capacity];
    void *last_round = (void *)(uintptr_t)(c->ghost_next + 1 - c->ghost_capacity);
    if (c->ghost_next >= c->ghost_capacity && map64_get(&c->ghost_map, *slot) == last_round)
        (void)map64_remove(&c->ghost_map, *slot);
    *slot = hash_bytes(e->key, sizeof(e->key));
    (void)map64_put(&c->ghost_map, *slot, (void *)(uintptr_t)(++c->ghost_next));
}

static bool ghost_remove(struct read_cache *c, const struct cached *e) {
    return c->ghost_map.count > 0 && map64_remove(&c->ghost_map, hash_bytes(e->key, sizeof(e->key))) != NULL;
}

/* ---- extents ---- */

static void extent_release(struct slab *s) {
    struct extent *x = CONTAINER_OF(s, struct extent, slab);
    struct read_held *h = x->held;
    atomic_fetch_sub_explicit(&h->lent_bytes, x->bytes, memory_order_relaxed);
    metric_gauge_add(h->metrics, M_BLOCK_CACHE_LENT_BYTES, -(int64_t)x->bytes);
    slice_unref(&x->raw);
    x->slab.magic = 0;
    mem_free(h->mem, x);
    held_unref(h);
}

struct extent *extent_create(struct read_cache *c, struct slice raw) {
    struct extent *x = MEM_NEW(c->o.env->mem, struct extent);
    slab_init(&x->slab, (uint8_t *)(uintptr_t)raw.data, raw.size, extent_release, x);
    x->raw = raw;
    x->held = c->held;
    atomic_fetch_add(&c->held->refs, 1);
    x->bytes = sizeof(*x) + (raw.slab ? raw.slab->size : raw.size);
    list_init(&x->node);
    list_init(&x->entries);
    return x;
}

static void extent_put(struct read_cache *c, struct extent *x, enum read_place place) {
    list_push_back(&c->places[place], &x->node);
    x->place = place;
    c->place_bytes[place] += x->bytes;
}

static void extent_take(struct read_cache *c, struct extent *x) {
    list_remove(&x->node);
    c->place_bytes[x->place] -= x->bytes;
}

void extent_keep(struct read_cache *c, struct extent *x, bool index) {
    c->bytes += x->bytes;
    metric_gauge_add(c->o.env->metrics, M_BLOCK_CACHE_BYTES, (int64_t)x->bytes);
    x->used_ns = env_now_ns(c->o.env);
    enum read_place place = index ? READ_INDEX : x->ahead > 0 ? READ_AHEAD : x->again ? READ_MAIN : READ_SMALL;
    extent_put(c, x, place);
    if (!read_cache_make_room(c, 0)) read_cache_make_empty(c);
}

/* ---- entries ---- */

struct cached *cached_begin(struct read_cache *c, const struct state_range *piece, uint64_t position, uint64_t size,
                            struct load *l) {
    struct cached *e = MEM_NEW(c->o.env->mem, struct cached);
    key_of(c, piece, position, e->key);
    list_init(&e->node);
    waitq_init(&e->loaded);
    e->size = size;
    e->load = l;
    void *before = mapstr_put(&c->map, e->key, sizeof(e->key), e);
    ASSERT(!before);
    return e;
}

static void cached_free(struct read_cache *c, struct cached *e) {
    slice_unref(&e->data);
    mem_free(c->o.env->mem, e);
}

/* Out of the map; those who wait still look at it. */
static void cached_leave(struct read_cache *c, struct cached *e) {
    ASSERT(!e->load && !e->gone);
    (void)mapstr_remove(&c->map, e->key, sizeof(e->key));
    list_remove(&e->node);
    if (e->ahead) {
        if (!env_mutant(c->o.env, MUTANT_AHEAD_LEAK)) budget_give(&c->ahead, e->size);
        metric_add(c->o.env->metrics, M_READ_AHEAD_WASTED_BYTES, 0, e->size);
        e->ahead = false;
    }
    e->gone = true;
    if (e->waiting == 0) cached_free(c, e);
}

void cached_arrived(struct read_cache *c, struct cached *e, struct extent *x, uint64_t position) {
    e->load = NULL;
    e->extent = x;
    e->data = slice_of(&x->slab, (size_t)position, (size_t)e->size);
    list_push_back(&x->entries, &e->node);
    x->bytes += sizeof(*e) + MAP_ENTRY_BYTES;
    if (e->ahead) x->ahead++;
    if (ghost_remove(c, e)) x->again = true;
    waitq_wake_all(&e->loaded);
}

void cached_failed(struct read_cache *c, struct cached *e, enum err error) {
    e->load = NULL;
    e->error = error;
    waitq_wake_all(&e->loaded);
    cached_leave(c, e);
}

/* Suspends while it is on its way; then its data, as a reference of the caller's. */
static enum err cached_await(struct read_cache *c, struct cached *e, struct slice *out) {
    e->waiting++;
    if (e->load) load_hurry(c, e->load);
    while (e->load) waitq_wait(&e->loaded);
    e->waiting--;
    enum err error = e->error;
    if (error == OK) *out = slice_sub(e->data, 0, e->data.size);
    if (e->gone && e->waiting == 0) cached_free(c, e);
    return error;
}

/* ---- who uses what ---- */

static void use(struct read_cache *c, struct cached *e, uint64_t reader) {
    struct extent *x = e->extent;
    if (e->ahead) {
        e->ahead = false;
        x->ahead--;
        budget_give(&c->ahead, e->size);
        metric_add(c->o.env->metrics, M_READ_AHEAD_USED_BYTES, 0, e->size);
    }
    if (x->last_reader != 0 && x->last_reader != reader && x->uses < USES_MAX) x->uses++;
    x->last_reader = reader;
    if (x->place == READ_AHEAD) {
        x->used_ns = env_now_ns(c->o.env);
        extent_take(c, x);
        extent_put(c, x, x->ahead > 0 ? READ_AHEAD : x->again ? READ_MAIN : READ_SMALL);
    } else if (x->place == READ_INDEX) {
        extent_take(c, x);
        extent_put(c, x, READ_INDEX);
    }
}

/* From here on it is lent; if nobody has borrowed it, only until the end of this. */
void extent_forget(struct read_cache *c, struct extent *x) {
    atomic_fetch_add_explicit(&c->held->lent_bytes, x->bytes, memory_order_relaxed);
    metric_gauge_add(c->o.env->metrics, M_BLOCK_CACHE_LENT_BYTES, (int64_t)x->bytes);
    slab_unref(&x->slab);
}

static void extent_evict(struct read_cache *c, struct extent *x) {
    while (!list_empty(&x->entries)) {
        struct cached *e = LIST_ENTRY(x->entries.next, struct cached, node);
        if (x->place == READ_SMALL) ghost_add(c, e);
        cached_leave(c, e);
    }
    extent_take(c, x);
    c->bytes -= x->bytes;
    metric_gauge_add(c->o.env->metrics, M_BLOCK_CACHE_BYTES, -(int64_t)x->bytes);
    metric_add(c->o.env->metrics, M_BLOCK_CACHE_EVICTED_BYTES, 0, x->bytes);
    extent_forget(c, x);
}

static struct extent *first_of(const struct read_cache *c, enum read_place place) {
    return list_empty(&c->places[place]) ? NULL : LIST_ENTRY(c->places[place].next, struct extent, node);
}

/* What goes next; NULL: there is nothing. Each extent is passed over a few times at most. */
static struct extent *least(struct read_cache *c) {
    if (c->place_bytes[READ_INDEX] > c->o.limit_bytes / 100 * INDEX_PERCENT) return first_of(c, READ_INDEX);
    for (;;) {
        struct extent *small = first_of(c, READ_SMALL), *main = first_of(c, READ_MAIN);
        if (small && (!main || c->place_bytes[READ_SMALL] > c->o.limit_bytes / 100 * SMALL_PERCENT)) {
            if (small->uses == 0) return small;
            small->uses = 0;
            extent_take(c, small);
            extent_put(c, small, READ_MAIN);
        } else if (main) {
            if (main->uses == 0) return main;
            main->uses--;
            extent_take(c, main);
            extent_put(c, main, READ_MAIN);
        } else {
            struct extent *ahead = first_of(c, READ_AHEAD);
            return ahead ? ahead : first_of(c, READ_INDEX);
        }
    }
}

bool read_cache_make_room(struct read_cache *c, uint64_t bytes) {
    uint64_t others = c->under_way_bytes + bytes;
    if (others > c->o.limit_bytes) return false;
    while (c->bytes + others > c->o.limit_bytes) extent_evict(c, least(c));
    return true;
}

void read_cache_make_empty(struct read_cache *c) {
    struct extent *x;
    while ((x = least(c)) != NULL) extent_evict(c, x);
}

bool read_ahead_take(struct read_cache *c, uint64_t bytes) {
    while (!budget_take(&c->ahead, bytes)) {
        struct extent *x = first_of(c, READ_AHEAD);
        if (bytes > c->o.ahead_bytes || !x || env_now_ns(c->o.env) - x->used_ns < STALE_NS) return false;
        extent_evict(c, x);
    }
    return true;
}

/* ---- readers ---- */

uint64_t read_cache_reader(struct read_cache *c) {
    return ++c->reader_ids;
}

size_t read_cache_share(struct read_cache *c, uint64_t *seen) {
    uint64_t now = env_now_ns(c->o.env);
    if (c->epoch == 0 || now - c->epoch_ns >= EPOCH_NS) {
        c->active = c->seen;
        c->seen = 0;
        c->epoch_ns = now;
        c->epoch++;
    }
    if (*seen != c->epoch) c->seen++;
    *seen = c->epoch;
    unsigned readers = c->active > c->seen ? c->active : c->seen;
    return (size_t)(c->o.ahead_bytes / (readers ? readers : 1));
}

bool read_cache_crowded(const struct read_cache *c) {
    return atomic_load_explicit(&c->held->lent_bytes, memory_order_relaxed) > c->o.lent_bytes;
}

/* Counts, and waits if it has to be. */
static enum err get(struct read_cache *c, struct cached *e, uint64_t reader, struct slice *out) {
    /* Hold on to it: what it lies in may go as soon as it is here. */
    e->waiting++;
    enum err error = cached_await(c, e, out);
    e->waiting--;
    if (error == OK && !e->gone) use(c, e, reader);
    if (e->gone && e->waiting == 0) cached_free(c, e);
    return error;
}

enum err read_cache_index(struct read_cache *c, const struct state_range *piece, size_t window_bytes,
                          const struct object_block **blocks, struct slice *hold) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    if (c->closing) return ERR_CLOSED;
    struct cached *e = cached_find(c, piece, 0);
    if (!e) {
        load_index(c, piece, window_bytes, true);
        e = cached_find(c, piece, 0);
    }
    enum err error = get(c, e, 0, hold);
    /* Another piece at the same place: one of the two ranges is wrong. */
    if (error == OK && hold->size != piece->block_count * sizeof(struct object_block)) {
        slice_unref(hold);
        error = ERR_CORRUPT;
    }
    if (error == OK) *blocks = (const struct object_block *)(const void *)hold->data;
    return error;
}

bool read_cache_has_index(const struct read_cache *c, const struct state_range *piece) {
    struct cached *e = cached_find(c, piece, 0);
    return e && !e->load;
}

bool read_cache_has(const struct read_cache *c, const struct state_range *piece, const struct object_block *block) {
    struct cached *e = cached_find(c, piece, block->position);
    return e && !e->load;
}

/* Blocks from `first` on that are not there, for one GET of at most `most` bytes; all that is read ahead is taken from its
 * budget. */
static uint32_t run_of(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                       uint32_t first, uint64_t most, bool wanted) {
    uint32_t end = first;
    uint64_t size = 0;
    while (end < piece->block_count && !cached_find(c, piece, blocks[end].position)) {
        bool free_of_budget = wanted && end == first;
        if (end > first && size + blocks[end].size > most) break;
        if (!free_of_budget && !read_ahead_take(c, blocks[end].size)) {
            metric_add(c->o.env->metrics, M_READ_AHEAD_REFUSED, 0, 1);
            break;
        }
        size += blocks[end].size;
        end++;
    }
    return end - first;
}

enum err read_cache_block(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                          uint32_t index, size_t window_bytes, uint64_t reader, struct slice *out) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    ASSERT(index < piece->block_count && reader > 0);
    if (c->closing) return ERR_CLOSED;
    struct cached *e = cached_find(c, piece, blocks[index].position);
    if (e) {
        metric_add(c->o.env->metrics, e->load ? M_BLOCK_CACHE_WAITS : M_BLOCK_CACHE_HITS, 0, 1);
    } else {
        metric_add(c->o.env->metrics, M_BLOCK_CACHE_MISSES, 0, 1);
        uint64_t most = window_bytes < READ_GET_MAX ? window_bytes : READ_GET_MAX;
        uint32_t count = run_of(c, piece, blocks, index, most, true);
        load_blocks(c, piece, blocks + index, count, true);
        e = cached_find(c, piece, blocks[index].position);
    }
    enum err error = get(c, e, reader, out);
    if (error == OK && out->size != blocks[index].size) { /* two pieces at one place */
        slice_unref(out);
        error = ERR_CORRUPT;
    }
    return error;
}

size_t read_cache_prefetch(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                           uint32_t index, size_t window_bytes, size_t worth_bytes) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    uint64_t covered = 0;
    uint32_t i = index;
    while (i < piece->block_count && covered < window_bytes && !c->closing) {
        if (cached_find(c, piece, blocks[i].position)) {
            covered += blocks[i++].size;
            continue;
        }
        if (window_bytes - covered < worth_bytes && piece->size_bytes > window_bytes) return 0;
        uint64_t left = window_bytes - covered, most = left < READ_GET_MAX ? left : READ_GET_MAX;
        uint32_t count = run_of(c, piece, blocks, i, most, false);
        if (count == 0) return 0;
        load_blocks(c, piece, blocks + i, count, false);
        for (uint32_t end = i + count; i < end; i++) covered += blocks[i].size;
    }
    return i == piece->block_count && covered < window_bytes ? (size_t)(window_bytes - covered) : 0;
}

size_t read_cache_prefetch_piece(struct read_cache *c, const struct state_range *piece, size_t window_bytes,
                                 size_t worth_bytes) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    if (piece->block_count == 0 || c->closing) return window_bytes;
    struct cached *e = cached_find(c, piece, 0);
    if (!e && window_bytes < worth_bytes && window_bytes < piece->size_bytes) return 0;
    if (!e) load_index(c, piece, window_bytes, false);
    if (e && !e->load && e->data.size == piece->block_count * sizeof(struct object_block)) {
        const struct object_block *blocks = (const struct object_block *)(const void *)e->data.data;
        return read_cache_prefetch(c, piece, blocks, 0, window_bytes, worth_bytes);
    }
    /* Its blocks are on their way with it, or come when it is known. */
    return piece->size_bytes < window_bytes ? window_bytes - (size_t)piece->size_bytes : 0;
}
