#include "stream/read_cache.h"

#include "base/assert.h"
#include "base/crc32c.h"

#define READ_CACHE_MAGIC 0x4eadcac4u

/* Bytes that do not verify may have been damaged on the way: they are read again so often before the object is taken to
 * be damaged. */
#define DAMAGED_MAX 4u

/* One index or block. While it is on its way, `loading` is set and whoever wants it waits. */
struct cached {
    struct list lru;
    uint8_t key[25];
    struct slice data;
    enum err error; /* of the load that has ended */
    bool loading, index;
    unsigned waiting; /* fibers that will look at it: not to be freed */
    struct waitq loaded;
    size_t charged;
    uint32_t block_count;
};

struct read_cache {
    unsigned magic;
    struct env *env;
    struct store *store;
    char *generation;
    struct mapstr map;
    struct list lru; /* least recently used first; loading ones are not in it */
    uint64_t bytes, limit;
    struct waitgroup loads;
};

struct read_cache *read_cache_create(struct env *env, struct store *store, const char *generation,
                                     uint64_t limit_bytes) {
    struct read_cache *c = MEM_NEW(env->mem, struct read_cache);
    INIT_OBJ(c, READ_CACHE_MAGIC);
    c->env = env;
    c->store = store;
    c->generation = mem_strdup(env->mem, generation);
    c->limit = limit_bytes;
    mapstr_init(&c->map, env->mem);
    list_init(&c->lru);
    waitgroup_init(&c->loads);
    return c;
}

static void key_of(const struct read_cache *c, const struct state_range *piece, uint64_t position, uint8_t out[25]) {
    le64_put(out, piece->object.creator.v);
    le64_put(out + 8, piece->object.number);
    le64_put(out + 16, piece->position + position);
    out[24] = (uint8_t)piece->object.kind;
    if (position > 0 && env_mutant(c->env, MUTANT_CACHE_KEY)) memset(out + 8, 0, 8);
}

static void drop(struct read_cache *c, struct cached *e) {
    ASSERT(!e->loading && e->waiting == 0);
    (void)mapstr_remove(&c->map, e->key, sizeof(e->key));
    list_remove(&e->lru);
    c->bytes -= e->charged;
    metric_gauge_add(c->env->metrics, M_BLOCK_CACHE_BYTES, -(int64_t)e->charged);
    slice_unref(&e->data);
    mem_free(c->env->mem, e);
}

void read_cache_destroy(struct read_cache *c) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    waitgroup_wait(&c->loads);
    while (!list_empty(&c->lru)) drop(c, LIST_ENTRY(c->lru.next, struct cached, lru));
    ASSERT(c->map.count == 0);
    mapstr_deinit(&c->map);
    mem_free(c->env->mem, c->generation);
    struct mem *m = c->env->mem;
    c->magic = 0;
    mem_free(m, c);
}

static struct cached *find(const struct read_cache *c, const struct state_range *piece, uint64_t position) {
    uint8_t key[25];
    key_of(c, piece, position, key);
    return mapstr_get(&c->map, key, sizeof(key));
}

static struct cached *begin(struct read_cache *c, const struct state_range *piece, uint64_t position) {
    struct cached *e = MEM_NEW(c->env->mem, struct cached);
    key_of(c, piece, position, e->key);
    list_init(&e->lru);
    waitq_init(&e->loaded);
    e->loading = true;
    (void)mapstr_put(&c->map, e->key, sizeof(e->key), e);
    return e;
}

static void evict(struct read_cache *c) {
    struct list *it = c->lru.next;
    while (c->bytes > c->limit && it != &c->lru) {
        struct cached *e = LIST_ENTRY(it, struct cached, lru);
        it = it->next;
        if (e->waiting == 0) drop(c, e);
    }
}

/* Ends a load; takes the reference in data when error is OK. Entries that failed leave the map; the last who waits
 * frees them. */
static void finish(struct read_cache *c, struct cached *e, enum err error, struct slice data) {
    ASSERT(e->loading);
    e->loading = false;
    e->error = error;
    if (error == OK) {
        e->data = data;
        e->charged = data.size + sizeof(*e);
        c->bytes += e->charged;
        metric_gauge_add(c->env->metrics, M_BLOCK_CACHE_BYTES, (int64_t)e->charged);
        list_push_back(&c->lru, &e->lru);
    } else {
        (void)mapstr_remove(&c->map, e->key, sizeof(e->key));
        if (e->waiting == 0) {
            mem_free(c->env->mem, e);
            return;
        }
    }
    if (e->waiting > 0) waitq_wake_all(&e->loaded);
}

/* Suspends while it loads; then its data, as a reference of the caller's. */
static enum err await(struct read_cache *c, struct cached *e, struct slice *out) {
    e->waiting++;
    while (e->loading) waitq_wait(&e->loaded);
    e->waiting--;
    enum err error = e->error;
    if (error == OK) {
        *out = slice_sub(e->data, 0, e->data.size);
        list_remove(&e->lru);
        list_push_back(&c->lru, &e->lru);
    } else if (e->waiting == 0) {
        mem_free(c->env->mem, e);
    }
    return error;
}

static enum err get(struct read_cache *c, const struct state_range *piece, uint64_t position, uint64_t size,
                    struct slice *out) {
    char key[OBJECT_KEY_MAX];
    object_key(key, c->generation, piece->object);
    metric_add(c->env->metrics, M_BLOCK_CACHE_MISSES, 0, 1);
    for (unsigned attempt = 0;; attempt++) {
        enum err e = store_get(c->store, key, piece->position + position, (size_t)size, STORE_FOR_READ, out);
        if (e == OK && out->size != size) {
            slice_unref(out);
            e = ERR_TRUNCATED;
        }
        if (e == OK || err_class(e) == ERR_CLASS_FATAL || attempt >= 10) return e;
        env_backoff(c->env, attempt, 20 * NS_PER_MS, 2 * NS_PER_S);
    }
}

/* ---- index ---- */

/* The decoded blocks lie in a slab of their own. */
static enum err decode_index(struct read_cache *c, const struct state_range *piece, struct slice raw,
                             struct slice *out) {
    size_t size = piece->block_count * sizeof(struct object_block);
    struct slab *slab = slab_create(c->env->mem, size, 16);
    enum err e = object_index_decode(raw.data, raw.size, piece->block_count, piece->size_bytes,
                                     (struct object_block *)(void *)slab->data);
    if (e == OK) *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return e;
}

static void keep_blocks_of(struct read_cache *c, const struct state_range *piece, struct slice index,
                           struct slice raw) {
    const struct object_block *blocks = (const struct object_block *)(const void *)index.data;
    for (uint32_t i = 0; i < piece->block_count; i++) {
        const struct object_block *b = &blocks[i];
        if (b->position + b->size > raw.size) return;
        if (find(c, piece, b->position) || crc32c(0, raw.data + b->position, b->size) != b->crc) continue;
        finish(c, begin(c, piece, b->position), OK, slice_sub(raw, (size_t)b->position, b->size));
    }
}

static void load_index(struct read_cache *c, const struct state_range *piece, struct cached *e) {
    waitgroup_add(&c->loads);
    uint64_t size = piece->size_bytes <= FIRST_READ_BYTES ? piece->size_bytes : object_index_size(piece->block_count);
    struct slice raw = {0}, index = {0};
    enum err error;
    for (unsigned attempt = 0;; attempt++) {
        error = get(c, piece, 0, size, &raw);
        if (error != OK) break;
        error = decode_index(c, piece, raw, &index);
        if (error == OK || attempt == DAMAGED_MAX) break;
        slice_unref(&raw);
        env_backoff(c->env, attempt, 20 * NS_PER_MS, 2 * NS_PER_S);
    }
    if (error == OK && size == piece->size_bytes) keep_blocks_of(c, piece, index, raw);
    slice_unref(&raw);
    finish(c, e, error, index);
    evict(c);
    waitgroup_done(&c->loads);
}

enum err read_cache_index(struct read_cache *c, const struct state_range *piece, const struct object_block **blocks,
                          struct slice *hold) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    struct cached *e = find(c, piece, 0);
    if (!e) {
        e = begin(c, piece, 0);
        e->waiting++; /* holds it through the load: with a small budget it could be evicted at once */
        load_index(c, piece, e);
        e->waiting--;
    }
    enum err error = await(c, e, hold);
    /* Another piece at the same place: one of the two ranges is wrong. */
    if (error == OK && hold->size != piece->block_count * sizeof(struct object_block)) {
        slice_unref(hold);
        error = ERR_CORRUPT;
    }
    if (error == OK) *blocks = (const struct object_block *)(const void *)hold->data;
    return error;
}

bool read_cache_has_index(const struct read_cache *c, const struct state_range *piece) {
    struct cached *e = find(c, piece, 0);
    return e && !e->loading;
}

/* ---- blocks ---- */

struct load {
    struct read_cache *cache;
    struct state_range piece;
    struct slice hold; /* the index */
    const struct object_block *blocks;
    uint32_t first, count;
    struct cached **entries;
};

/* Marks block `index`, and those behind it that are not there yet and fit the window, as on their way. */
static struct load *plan(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                         uint32_t index, size_t window_bytes) {
    uint32_t end = index;
    uint64_t size = 0;
    while (end < piece->block_count && !find(c, piece, blocks[end].position)) {
        if (end > index && size + blocks[end].size > window_bytes) break;
        size += blocks[end].size;
        end++;
    }
    if (end == index) return NULL;
    struct load *l = MEM_NEW(c->env->mem, struct load);
    *l = (struct load){.cache = c, .piece = *piece, .first = index, .count = end - index};
    /* Copies what it needs of the index: the caller's may go while we suspend. */
    size_t bytes = l->count * sizeof(*blocks);
    struct slab *copy = slab_create(c->env->mem, bytes, 16);
    memcpy(copy->data, blocks + index, bytes);
    l->hold = slice_of(copy, 0, bytes);
    slab_unref(copy);
    l->blocks = (const struct object_block *)(const void *)l->hold.data;
    l->entries = mem_alloc(c->env->mem, l->count * sizeof(struct cached *));
    for (uint32_t i = 0; i < l->count; i++) l->entries[i] = begin(c, piece, l->blocks[i].position);
    waitgroup_add(&c->loads);
    return l;
}

static bool block_matches(const struct object_block *b, struct slice raw, uint64_t from) {
    return crc32c(0, raw.data + (b->position - from), b->size) == b->crc;
}

static bool all_match(const struct load *l, struct slice raw, uint64_t from) {
    for (uint32_t i = 0; i < l->count; i++) {
        if (!block_matches(&l->blocks[i], raw, from)) return false;
    }
    return true;
}

static void run_load(void *arg) {
    struct load *l = arg;
    struct read_cache *c = l->cache;
    const struct object_block *last = &l->blocks[l->count - 1];
    uint64_t from = l->blocks[0].position, size = last->position + last->size - from;
    struct slice raw = {0};
    enum err e;
    for (unsigned attempt = 0;; attempt++) {
        e = get(c, &l->piece, from, size, &raw);
        if (e != OK || attempt == DAMAGED_MAX || all_match(l, raw, from)) break;
        slice_unref(&raw);
        env_backoff(c->env, attempt, 20 * NS_PER_MS, 2 * NS_PER_S);
    }
    for (uint32_t i = 0; i < l->count; i++) {
        const struct object_block *b = &l->blocks[i];
        enum err error = e;
        if (error == OK && !block_matches(b, raw, from)) error = ERR_CORRUPT;
        finish(c, l->entries[i], error,
               error == OK ? slice_sub(raw, (size_t)(b->position - from), b->size) : (struct slice){0});
    }
    slice_unref(&raw);
    slice_unref(&l->hold);
    mem_free(c->env->mem, l->entries);
    mem_free(c->env->mem, l);
    evict(c);
    waitgroup_done(&c->loads);
}

enum err read_cache_block(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                          uint32_t index, size_t window_bytes, struct slice *out) {
    CHECK_OBJ(c, READ_CACHE_MAGIC);
    ASSERT(index < piece->block_count);
    struct cached *e = find(c, piece, blocks[index].position);
    if (e) {
        metric_add(c->env->metrics, M_BLOCK_CACHE_HITS, 0, 1);
        return await(c, e, out);
    }
    struct load *l = plan(c, piece, blocks, index, window_bytes);
    e = l->entries[0];
    e->waiting++; /* holds it through the load: with a small budget it could be evicted at once */
    run_load(l);
    e->waiting--;
    return await(c, e, out);
}

void read_cache_prefetch(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                         uint32_t index, size_t window_bytes) {
    if (index >= piece->block_count || window_bytes > c->limit / 2) return;
    struct load *l = plan(c, piece, blocks, index, window_bytes);
    if (l) fiber_spawn(loop_current(), "read-ahead", run_load, l);
}

bool read_cache_has(const struct read_cache *c, const struct state_range *piece, const struct object_block *block) {
    struct cached *e = find(c, piece, block->position);
    return e && !e->loading;
}
