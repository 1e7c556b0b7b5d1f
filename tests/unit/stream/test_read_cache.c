/* The block cache over a store in memory that counts its requests. */
#include "unit/sim/sim_test.h"

#include "kafka/batch.h"
#include "stream/read_cache.h"

#define BLOCKS 6u

struct test_store {
    struct store base;
    uint8_t *object;
    size_t size;
    unsigned gets, under_way, most;
    uint64_t bytes;
    unsigned failures; /* that many requests fail first */
    enum err error;
};

static enum err test_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                         struct slice *out) {
    (void)purpose;
    struct test_store *t = CONTAINER_OF(s, struct test_store, base);
    (void)key;
    t->gets++;
    if (++t->under_way > t->most) t->most = t->under_way;
    fiber_sleep_ns(NS_PER_MS);
    t->under_way--;
    if (t->failures > 0) {
        t->failures--;
        return t->error;
    }
    if (position > t->size) position = t->size;
    if (size > t->size - position) size = t->size - (size_t)position;
    t->bytes += size;
    struct slab *slab = slab_create(s->env->mem, size, 16);
    memcpy(slab->data, t->object + position, size);
    *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return OK;
}
static const struct store_ops test_ops = {.get = test_get};

struct fixture {
    struct test_store store;
    struct state_range piece;
    struct read_cache *cache;
    struct waitgroup group;
    unsigned ok, failed;
    enum err last;
    uint32_t want;
};

/* One batch of `size` bytes of value a block. */
static void setup(struct fixture *f, size_t size, uint64_t limit) {
    struct env *env = loop_current()->env;
    *f = (struct fixture){.store = {.base = {.magic = STORE_MAGIC, .ops = &test_ops, .env = env}}};
    waitgroup_init(&f->group);
    struct object_piece p;
    object_piece_init(&p, env->mem);
    uint8_t *value = mem_zalloc(env->mem, size);
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct batch_options o = BATCH_OPTIONS_DEFAULT;
        o.base_offset = 10 + i;
        struct batch_builder b;
        struct buf out;
        buf_init(&out, env->mem);
        batch_builder_init(&b, env->mem, &o);
        value[0] = (uint8_t)i;
        batch_builder_add(&b, 1000 + i, NULL, 0, value, size, NULL, 0);
        assert_int_equal(batch_builder_finish(&b, &out), OK);
        batch_builder_deinit(&b);
        struct slab *slab = slab_create(env->mem, out.size, 16);
        memcpy(slab->data, out.data, out.size);
        object_piece_add(&p, slice_of(slab, 0, out.size), 10 + i, 11 + i, 1000 + i);
        slab_unref(slab);
        buf_deinit(&out);
    }
    mem_free(env->mem, value);
    uint32_t crc;
    uint64_t piece_size = object_piece_finish(&p, &crc);
    f->store.size = (size_t)piece_size + 100;
    f->store.object = mem_zalloc(env->mem, f->store.size);
    memcpy(f->store.object + 100, p.index, p.index_size);
    size_t at = 100 + p.index_size;
    for (size_t i = 0; i < p.parts.count; at += p.parts.items[i].size, i++)
        memcpy(f->store.object + at, p.parts.items[i].data, p.parts.items[i].size);
    f->piece = (struct state_range){.object = {{1}, 2, OBJECT_DATA},
                                    .first_offset = 10,
                                    .end_offset = 10 + BLOCKS,
                                    .max_timestamp = p.max_timestamp,
                                    .position = 100,
                                    .size_bytes = piece_size,
                                    .block_count = (uint32_t)p.block_count};
    object_piece_deinit(&p);
    struct read_cache_options o = {.env = env,
                                   .store = &f->store.base,
                                   .generation = "gen",
                                   .limit_bytes = limit,
                                   .ahead_bytes = limit / 2,
                                   .lent_bytes = limit / 2,
                                   .gets_max = 4};
    f->cache = read_cache_create(&o);
}

static void teardown(struct fixture *f) {
    read_cache_destroy(f->cache);
    mem_free(loop_current()->env->mem, f->store.object);
}

static enum err read_block(struct fixture *f, uint32_t index, size_t window) {
    const struct object_block *blocks;
    struct slice hold, block;
    enum err e = read_cache_index(f->cache, &f->piece, 0, &blocks, &hold);
    if (e != OK) return e;
    e = read_cache_block(f->cache, &f->piece, blocks, index, window, read_cache_reader(f->cache), &block);
    if (e == OK) {
        struct batch_header h;
        assert_int_equal(batch_parse(block.data, block.size, &h), OK);
        assert_int_equal(h.base_offset, blocks[index].first_offset);
        slice_unref(&block);
    }
    slice_unref(&hold);
    return e;
}

static void reader(void *arg) {
    struct fixture *f = arg;
    enum err e = read_block(f, f->want, 1);
    if (e == OK)
        f->ok++;
    else
        f->failed++;
    f->last = e;
    waitgroup_done(&f->group);
}

static void read_by_many(struct fixture *f, uint32_t index, unsigned count) {
    f->want = index;
    f->ok = f->failed = 0;
    for (unsigned i = 0; i < count; i++) {
        waitgroup_add(&f->group);
        fiber_spawn(loop_current(), "reader", reader, f);
    }
    waitgroup_wait(&f->group);
}

static void in_world(fiber_fn *fn) {
    struct sim_world *w = test_world(1);
    struct sim_node *n = sim_node_create(w, "node");
    test_run(n, fn, NULL);
    sim_world_destroy(w);
}

static void one_get_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 600000, 64u << 20); /* a block each: too large to come with the index */
    assert_int_equal(f.piece.block_count, BLOCKS);
    read_by_many(&f, 3, 20);
    assert_int_equal(f.ok, 20);
    assert_int_equal(f.store.gets, 2); /* index, block */
    read_by_many(&f, 3, 5);
    assert_int_equal(f.store.gets, 2);
    /* A window brings the blocks behind it in the same GET, as far as they are not there. */
    assert_int_equal(read_block(&f, 0, 10u << 20), OK);
    assert_int_equal(f.store.gets, 3);
    assert_int_equal(read_block(&f, 1, 1), OK);
    assert_int_equal(read_block(&f, 2, 1), OK);
    assert_int_equal(f.store.gets, 3);
    assert_int_equal(read_block(&f, 4, 1), OK);
    assert_int_equal(f.store.gets, 4);
    teardown(&f);
}
static void one_get_is_in_flight_a_block(void **state) {
    (void)state;
    in_world(one_get_fiber);
}

static void small_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 1000, 64u << 20);
    for (uint32_t i = 0; i < f.piece.block_count; i++) assert_int_equal(read_block(&f, i, 1), OK);
    assert_int_equal(f.store.gets, 1);
    teardown(&f);
}
static void a_small_piece_comes_with_its_index(void **state) {
    (void)state;
    in_world(small_fiber);
}

static void tiny_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 600000, 1); /* room for nothing */
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < BLOCKS; i++) read_by_many(&f, i, 4);
        assert_int_equal(f.ok, 4);
    }
    assert_true(f.store.gets > BLOCKS);
    const struct object_block *blocks;
    struct slice hold;
    assert_int_equal(read_cache_index(f.cache, &f.piece, 0, &blocks, &hold), OK);
    for (uint32_t i = 0; i + 1 < BLOCKS; i++) assert_false(read_cache_has(f.cache, &f.piece, &blocks[i]));
    slice_unref(&hold);
    teardown(&f);
}
static void with_room_for_nothing_it_still_reads(void **state) {
    (void)state;
    in_world(tiny_fiber);
}

static void lru_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 600000, 3 * 610000);
    const struct object_block *blocks;
    struct slice hold;
    assert_int_equal(read_cache_index(f.cache, &f.piece, 0, &blocks, &hold), OK);
    for (uint32_t i = 0; i < 2; i++) assert_int_equal(read_block(&f, i, 1), OK);
    assert_int_equal(read_block(&f, 0, 1), OK); /* used again: 1 is now the older one */
    assert_int_equal(read_block(&f, 2, 1), OK);
    assert_int_equal(read_block(&f, 3, 1), OK);
    assert_true(read_cache_has(f.cache, &f.piece, &blocks[0]));
    assert_false(read_cache_has(f.cache, &f.piece, &blocks[1]));
    assert_true(read_cache_has(f.cache, &f.piece, &blocks[3]));
    slice_unref(&hold);
    teardown(&f);
}
static void the_least_recently_used_goes_first(void **state) {
    (void)state;
    in_world(lru_fiber);
}

static void errors_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f, 600000, 64u << 20);
    /* For good: everybody who waits hears of it, and the next one asks again. */
    f.store.failures = 1;
    f.store.error = ERR_NOT_FOUND;
    read_by_many(&f, 0, 7);
    assert_int_equal(f.failed, 7);
    assert_int_equal(f.last, ERR_NOT_FOUND);
    read_by_many(&f, 0, 1);
    assert_int_equal(f.ok, 1);
    f.store.failures = 1;
    read_by_many(&f, 1, 7);
    assert_int_equal(f.failed, 7);
    read_by_many(&f, 1, 1);
    assert_int_equal(f.ok, 1);
    /* For now: repeated inside. */
    f.store.failures = 3;
    f.store.error = ERR_UNAVAILABLE;
    read_by_many(&f, 2, 3);
    assert_int_equal(f.ok, 3);
    /* Damage. */
    f.store.object[f.store.size - 10] ^= 1;
    read_by_many(&f, BLOCKS - 1, 3);
    assert_int_equal(f.failed, 3);
    assert_int_equal(f.last, ERR_CORRUPT);
    f.store.object[f.store.size - 10] ^= 1;
    read_by_many(&f, BLOCKS - 1, 1);
    assert_int_equal(f.ok, 1);
    teardown(&f);
}
static void errors_reach_all_and_are_not_kept(void **state) {
    (void)state;
    in_world(errors_fiber);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_get_is_in_flight_a_block),         cmocka_unit_test(a_small_piece_comes_with_its_index),
        cmocka_unit_test(with_room_for_nothing_it_still_reads), cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(errors_reach_all_and_are_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
