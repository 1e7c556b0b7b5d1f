/* The block cache with many readers at different places: what is kept, what is fetched, and within which budgets. The
 * object is made up: pieces of equal blocks, whose bytes say where they lie. */
#include "unit/sim/sim_test.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "stream/read_cache.h"

#define BLOCK (20u << 10)
#define BLOCKS 6u
#define INDEX (BLOCKS * OBJECT_BLOCK_ENTRY + 8u)
#define PIECE (INDEX + BLOCKS * BLOCK)
#define EXTENT (PIECE + (4u << 10)) /* what one takes in the cache, at most */
#define PIECES 64u

struct test_store {
    struct store base;
    uint8_t *object;
    size_t stride; /* from piece to piece */
    unsigned gets, under_way, most, failures;
    enum err error;
    uint64_t bytes;
};

static enum err test_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                         struct slice *out) {
    struct test_store *t = CONTAINER_OF(s, struct test_store, base);
    (void)key;
    assert_int_equal(purpose, STORE_FOR_READ);
    t->gets++;
    t->bytes += size;
    if (++t->under_way > t->most) t->most = t->under_way;
    fiber_sleep_ns(NS_PER_MS + (position * 7919) % NS_PER_MS);
    t->under_way--;
    if (t->failures > 0) {
        t->failures--;
        return t->error;
    }
    assert_true(position + size <= PIECES * t->stride);
    struct slab *slab = slab_create(s->env->mem, size, 16);
    memcpy(slab->data, t->object + position, size);
    *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return OK;
}
static const struct store_ops test_ops = {.get = test_get};

struct fixture {
    struct env *env;
    struct test_store store;
    struct state_range pieces[PIECES];
    struct read_cache *cache;
    struct read_cache_options o;
    struct waitgroup group;
    unsigned done, order[64], asked;
    uint64_t rng;
};

static void make_piece(uint8_t *to, unsigned number) {
    for (unsigned i = 0; i < BLOCKS; i++) {
        uint8_t *e = to + (size_t)i * OBJECT_BLOCK_ENTRY, *block = to + INDEX + (size_t)i * BLOCK;
        for (unsigned k = 0; k < BLOCK; k += 8) le64_put(block + k, number * 1000000ull + i * 100000ull + k);
        le64_put(e, number * 100ull + i);
        le64_put(e + 8, number * 100ull + i + 1);
        le64_put(e + 16, 0);
        le64_put(e + 24, INDEX + (uint64_t)i * BLOCK);
        le32_put(e + 32, BLOCK);
        le32_put(e + 36, crc32c(0, block, BLOCK));
    }
    le32_put(to + INDEX - 8, crc32c(0, to, INDEX - 8));
    le32_put(to + INDEX - 4, 0);
}

static void setup(struct fixture *f, uint64_t limit, unsigned gets_max, size_t gap) {
    struct env *env = loop_current()->env;
    *f =
        (struct fixture){.env = env,
                         .store = {.base = {.magic = STORE_MAGIC, .ops = &test_ops, .env = env}, .stride = PIECE + gap},
                         .rng = 12345};
    waitgroup_init(&f->group);
    f->store.object = mem_zalloc(env->mem, PIECES * f->store.stride);
    for (unsigned i = 0; i < PIECES; i++) {
        make_piece(f->store.object + i * f->store.stride, i);
        f->pieces[i] = (struct state_range){.object = {{1}, 2, OBJECT_DATA},
                                            .first_offset = i * 100ull,
                                            .end_offset = i * 100ull + BLOCKS,
                                            .position = i * f->store.stride,
                                            .size_bytes = PIECE,
                                            .block_count = BLOCKS};
    }
    f->o = (struct read_cache_options){.env = env,
                                       .store = &f->store.base,
                                       .generation = "gen",
                                       .limit_bytes = limit,
                                       .ahead_bytes = limit / 2,
                                       .lent_bytes = limit / 4,
                                       .gets_max = gets_max};
    f->cache = read_cache_create(&f->o);
}

static void teardown(struct fixture *f) {
    read_cache_destroy(f->cache);
    mem_free(f->env->mem, f->store.object);
}

static uint64_t below(struct fixture *f, uint64_t n) {
    f->rng = f->rng * 6364136223846793005ull + 1442695040888963407ull;
    return (f->rng >> 33) % n;
}

static void check_budgets(const struct fixture *f) {
    struct read_cache_use u = read_cache_use(f->cache);
    assert_true(u.held_bytes + u.under_way_bytes <= f->o.limit_bytes || (u.held_bytes == 0 && u.gets == 1));
    assert_true(u.ahead_bytes <= f->o.ahead_bytes);
    assert_true(u.gets <= f->o.gets_max);
}

static enum err read_one(struct fixture *f, unsigned piece, uint32_t block, size_t window, uint64_t reader,
                         struct slice *out) {
    const struct object_block *blocks;
    struct slice hold;
    enum err e = read_cache_index(f->cache, &f->pieces[piece], 0, &blocks, &hold);
    check_budgets(f);
    if (e != OK) return e;
    e = read_cache_block(f->cache, &f->pieces[piece], blocks, block, window, reader, out);
    check_budgets(f);
    slice_unref(&hold);
    if (e != OK) return e;
    assert_int_equal(out->size, BLOCK);
    assert_int_equal(le64_get(out->data + 80), piece * 1000000ull + block * 100000ull + 80);
    return OK;
}

static void read_piece(struct fixture *f, unsigned piece, uint64_t reader) {
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct slice got;
        assert_int_equal(read_one(f, piece, i, 1, reader, &got), OK);
        slice_unref(&got);
    }
}

static void in_world(fiber_fn *fn) {
    struct sim_world *w = test_world(1);
    struct sim_node *n = sim_node_create(w, "node");
    test_run(n, fn, NULL);
    sim_world_destroy(w);
}

/* ---- scans ---- */

/* The same trace through a plain LRU of so many pieces: what it would have hit. */
struct lru {
    unsigned pieces[PIECES], count, capacity, hits;
};

static bool lru_use(struct lru *l, unsigned piece) {
    unsigned at = 0;
    while (at < l->count && l->pieces[at] != piece) at++;
    bool hit = at < l->count;
    if (!hit && l->count < l->capacity) at = l->count++;
    if (!hit && at == l->capacity) at = l->capacity - 1;
    memmove(l->pieces + 1, l->pieces, at * sizeof(l->pieces[0]));
    l->pieces[0] = piece;
    return hit;
}

/* Four pieces that two readers come back to, while a third reads on and on: 3 pieces a step. */
static void scan_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 10 * EXTENT, 4, 0);
    struct lru lru = {.capacity = 9};
    uint64_t hot[2] = {read_cache_reader(f.cache), read_cache_reader(f.cache)}, scan = read_cache_reader(f.cache);
    unsigned steps = 0, hits = 0, lru_hits = 0, next = 4, fetched = 0;
    for (unsigned step = 0; step < 120; step++) {
        unsigned piece = step % 4, before = f.store.gets;
        for (unsigned k = 0; k < 2; k++) read_piece(&f, piece, hot[k]);
        fetched += f.store.gets - before;
        bool lru_hit = lru_use(&lru, piece);
        if (step >= 16) { /* warm */
            steps++;
            hits += f.store.gets == before;
            lru_hits += lru_hit;
        }
        for (unsigned k = 0; k < 3; k++) {
            read_piece(&f, next, scan);
            (void)lru_use(&lru, next);
            next = next + 1 < PIECES ? next + 1 : 4;
        }
    }
    assert_int_equal(lru_hits, 0);
    assert_int_equal(hits, steps);
    assert_int_equal(fetched, 4); /* not even once again: two had used it */
    teardown(&f);
}
static void a_scan_passes_by_what_several_use(void **state) {
    (void)state;
    in_world(scan_fiber);
}

/* One reader that comes back to its own blocks, as an answer ends in the middle of one, is not several. */
static void one_reader_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 6 * EXTENT, 4, 0);
    uint64_t hot[2] = {read_cache_reader(f.cache), read_cache_reader(f.cache)}, scan = read_cache_reader(f.cache);
    for (unsigned k = 0; k < 2; k++) read_piece(&f, 0, hot[k]);
    for (unsigned i = 1; i < 40; i++) {
        for (unsigned k = 0; k < 4; k++) read_piece(&f, i, scan);
        if (i % 5 == 0) read_piece(&f, 0, hot[(i / 5) % 2]);
    }
    unsigned before = f.store.gets;
    read_piece(&f, 0, hot[0]);
    assert_int_equal(f.store.gets, before);
    read_piece(&f, 20, scan); /* long gone */
    assert_true(f.store.gets > before);
    teardown(&f);
}
static void one_reader_is_not_several(void **state) {
    (void)state;
    in_world(one_reader_fiber);
}

/* ---- many readers ---- */

struct one {
    struct fixture *f;
    unsigned piece, number;
    uint32_t block;
    size_t window;
    uint64_t reader, wait_ns;
    bool sequence;
};

static void reader_fiber(void *arg) {
    struct one one = *(struct one *)arg;
    struct fixture *f = one.f;
    for (unsigned i = 0; i < (one.sequence ? 60u : 1u); i++) {
        struct slice got;
        enum err e = read_one(f, one.piece, one.block, one.window, one.reader, &got);
        assert_true(e == OK || e == f->store.error);
        if (e == OK) {
            if (one.wait_ns) fiber_sleep_ns(one.wait_ns);
            slice_unref(&got);
        }
        if (!one.sequence) break;
        const struct object_block *blocks;
        struct slice hold;
        if (below(f, 3) == 0) {
            one.piece = (unsigned)below(f, PIECES);
            one.block = (uint32_t)below(f, BLOCKS);
        } else if (++one.block == BLOCKS) {
            one.block = 0;
            one.piece = (one.piece + 1) % PIECES;
        }
        if (read_cache_has_index(f->cache, &f->pieces[one.piece]) &&
            read_cache_index(f->cache, &f->pieces[one.piece], 0, &blocks, &hold) == OK) {
            size_t left = read_cache_prefetch(f->cache, &f->pieces[one.piece], blocks, one.block, one.window, BLOCK);
            if (left > 0) (void)read_cache_prefetch_piece(f->cache, &f->pieces[(one.piece + 1) % PIECES], left, BLOCK);
            slice_unref(&hold);
        }
        check_budgets(f);
    }
    f->order[f->done++ % 64] = one.number;
    waitgroup_done(&f->group);
}

static void spawn(struct one *one) {
    waitgroup_add(&one->f->group);
    fiber_spawn(loop_current(), "reader", reader_fiber, one);
}

static void many_fiber(void *arg) {
    (void)arg;
    for (unsigned round = 0; round < 4; round++) {
        struct fixture f;
        setup(&f, round % 2 ? 3 * EXTENT : 20 * EXTENT, 3, round < 2 ? 0 : 1000);
        f.store.error = ERR_NOT_FOUND;
        struct one ones[40];
        for (unsigned i = 0; i < 40; i++) {
            ones[i] = (struct one){.f = &f,
                                   .piece = (unsigned)below(&f, PIECES),
                                   .number = i,
                                   .window = BLOCK * below(&f, 8),
                                   .reader = read_cache_reader(f.cache),
                                   .wait_ns = below(&f, 3) * NS_PER_MS,
                                   .sequence = true};
            spawn(&ones[i]);
        }
        for (unsigned i = 0; i < 30; i++) {
            fiber_sleep_ns(3 * NS_PER_MS);
            if (i % 3 == 0) f.store.failures += 2;
            check_budgets(&f);
        }
        waitgroup_wait(&f.group);
        assert_int_equal(f.done, 40);
        assert_true(f.store.most <= 3 && f.store.most > 1);
        teardown(&f);
    }
}
static void many_readers_stay_within_the_budgets(void **state) {
    (void)state;
    in_world(many_fiber);
}

/* One GET at a time, room for one and a half: all come on, in the order in which they asked. */
static void starve_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, PIECE + PIECE / 2, 1, 200000); /* too far apart to come together */
    struct one ones[20];
    for (unsigned i = 0; i <= 20; i++) { /* the indexes; the last one's blocks push out all others */
        const struct object_block *blocks;
        struct slice hold;
        assert_int_equal(read_cache_index(f.cache, &f.pieces[3 * i], 0, &blocks, &hold), OK);
        slice_unref(&hold);
    }
    unsigned gets = f.store.gets;
    for (unsigned i = 0; i < 20; i++) {
        ones[i] = (struct one){.f = &f, .piece = 3 * i, .number = i, .window = 1, .reader = i + 1};
        spawn(&ones[i]);
    }
    waitgroup_wait(&f.group);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(f.order[i], i);
    assert_int_equal(f.store.gets, gets + 20);
    assert_int_equal(f.store.most, 1);
    teardown(&f);
}
static void nobody_starves(void **state) {
    (void)state;
    in_world(starve_fiber);
}

/* ---- together ---- */

static void together(struct fixture *f, unsigned first, unsigned count) {
    struct one ones[8];
    for (unsigned i = 0; i < count; i++) {
        ones[i] = (struct one){.f = f, .piece = first + i, .number = i, .window = 1, .reader = i + 1};
        spawn(&ones[i]);
    }
    waitgroup_wait(&f->group);
}

static void together_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 64u << 20, 8, 1000);
    together(&f, 0, 8); /* small pieces of eight streams, asked for in one turn */
    assert_int_equal(f.store.gets, 1);
    assert_int_equal(f.store.bytes, 8 * PIECE + 7 * 1000);
    /* When that fails it may be because of one of them: each is tried for itself. */
    f.store.failures = 1;
    f.store.error = ERR_NOT_FOUND;
    f.done = 0;
    together(&f, 10, 4);
    assert_int_equal(f.store.gets, 1 + 1 + 4);
    assert_int_equal(f.done, 4);
    struct slice got;
    assert_int_equal(read_one(&f, 12, 0, 1, 1, &got), OK);
    slice_unref(&got);
    assert_int_equal(f.store.gets, 6);
    teardown(&f);
    /* A gap that costs more than another GET. */
    setup(&f, 64u << 20, 8, 200000);
    together(&f, 0, 8);
    assert_int_equal(f.store.gets, 8);
    teardown(&f);
}
static void neighbours_come_together(void **state) {
    (void)state;
    in_world(together_fiber);
}

/* ---- read-ahead, and what is lent ---- */

static void ahead_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 8 * EXTENT, 4, 200000);
    struct metrics *m = f.env->metrics;
    for (unsigned i = 0; i < 20; i++) (void)read_cache_prefetch_piece(f.cache, &f.pieces[i], PIECE, 1);
    check_budgets(&f);
    assert_int_equal(read_cache_use(f.cache).ahead_bytes / (BLOCKS * BLOCK),
                     4); /* half of the limit; the others get an index */
    fiber_sleep_ns(NS_PER_S);
    unsigned gets = f.store.gets;
    read_piece(&f, 0, 7);
    assert_int_equal(f.store.gets, gets);
    assert_int_equal(m->counters[M_READ_AHEAD_USED_BYTES][0], BLOCKS * BLOCK);
    assert_int_equal(m->counters[M_READ_AHEAD_WASTED_BYTES][0], 0);
    /* Readers who never came: their share is given to others after some seconds. */
    const struct object_block *blocks;
    struct slice hold;
    fiber_sleep_ns(10 * NS_PER_S);
    assert_int_equal(read_cache_index(f.cache, &f.pieces[15], 0, &blocks, &hold), OK);
    (void)read_cache_prefetch(f.cache, &f.pieces[15], blocks, 0, PIECE, 1);
    slice_unref(&hold);
    (void)read_cache_prefetch_piece(f.cache, &f.pieces[30], PIECE, 1);
    assert_true(m->counters[M_READ_AHEAD_WASTED_BYTES][0] > 0);
    check_budgets(&f);
    teardown(&f);
}
static void read_ahead_has_a_budget(void **state) {
    (void)state;
    in_world(ahead_fiber);
}

static void share_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 8 * EXTENT, 4, 0);
    uint64_t seen[4] = {0};
    assert_int_equal(read_cache_share(f.cache, &seen[0]), f.o.ahead_bytes);
    for (unsigned i = 1; i < 4; i++) (void)read_cache_share(f.cache, &seen[i]);
    assert_int_equal(read_cache_share(f.cache, &seen[0]), f.o.ahead_bytes / 4);
    fiber_sleep_ns(2 * NS_PER_S);
    (void)read_cache_share(f.cache, &seen[0]);
    fiber_sleep_ns(2 * NS_PER_S);
    assert_int_equal(read_cache_share(f.cache, &seen[0]), f.o.ahead_bytes); /* the others have gone */
    teardown(&f);
}
static void each_reader_has_a_share(void **state) {
    (void)state;
    in_world(share_fiber);
}

static void lent_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 4 * EXTENT, 4, 200000);
    struct slice kept[8];
    for (unsigned i = 0; i < 8; i++) assert_int_equal(read_one(&f, i, 0, 1, i + 1, &kept[i]), OK);
    assert_true(read_cache_use(f.cache).lent_bytes >= 4 * (uint64_t)PIECE);
    assert_true(read_cache_crowded(f.cache));
    for (unsigned i = 0; i < 7; i++) slice_unref(&kept[i]);
    assert_false(read_cache_crowded(f.cache));
    teardown(&f);
    assert_int_equal(le64_get(kept[7].data), 7000000); /* outlives the cache */
    slice_unref(&kept[7]);
}
static void what_is_lent_is_counted(void **state) {
    (void)state;
    in_world(lent_fiber);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_passes_by_what_several_use),
        cmocka_unit_test(one_reader_is_not_several),
        cmocka_unit_test(many_readers_stay_within_the_budgets),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(neighbours_come_together),
        cmocka_unit_test(read_ahead_has_a_budget),
        cmocka_unit_test(each_reader_has_a_share),
        cmocka_unit_test(what_is_lent_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
