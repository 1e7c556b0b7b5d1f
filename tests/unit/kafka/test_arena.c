/* Arenas: alignment, the bound on what they hold, reset. */
#include "message_test.h"

#include "base/arena.h"

static struct mem heap;

static void test_nothing_held_before_use(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, &heap);
    assert_int_equal(heap.allocated_bytes, 0);
    arena_reset(&a);
    arena_deinit(&a);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_contents_and_alignment(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, &heap);
    uint8_t *pointers[500];
    for (size_t i = 0; i < 500; i++) {
        pointers[i] = arena_alloc(&a, i * 3);
        assert_int_equal((uintptr_t)pointers[i] % 16, 0);
        memset(pointers[i], (int)(i & 0xff), i * 3);
    }
    for (size_t i = 0; i < 500; i++) {
        for (size_t k = 0; k < i * 3; k++) assert_int_equal(pointers[i][k], i & 0xff);
    }
    int *zeros = ARENA_ARRAY(&a, int, 1000);
    for (int i = 0; i < 1000; i++) assert_int_equal(zeros[i], 0);
    assert_string_equal(arena_strndup(&a, "hello", 4), "hell");
    assert_string_equal(arena_printf(&a, "%d-%s", 5, "x"), "5-x");
    assert_memory_equal(arena_copy(&a, "abc", 3), "abc", 3);
    arena_deinit(&a);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_bound(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 200; round++) {
        struct arena a;
        arena_init(&a, &heap);
        for (int i = 0; i < 300; i++) {
            arena_alloc(&a, rng_chance(&r, 0.05) ? rng_below(&r, 200000) : rng_below(&r, 3000));
            assert_true(a.held_bytes <= 2 * a.used_bytes + ARENA_CHUNK_MAX);
        }
        assert_true(heap.allocated_bytes >= a.used_bytes);
        arena_deinit(&a);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_reset_keeps_one_chunk(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, &heap);
    for (int i = 0; i < 1000; i++) arena_alloc(&a, 1000);
    arena_alloc(&a, 10 * ARENA_CHUNK_MAX);
    arena_reset(&a);
    assert_int_equal(a.used_bytes, 0);
    assert_int_equal(a.held_bytes, ARENA_CHUNK_MAX);
    assert_true(heap.allocated_bytes < 2 * ARENA_CHUNK_MAX);
    uint64_t before = heap.allocated_bytes;
    arena_alloc(&a, 1000);
    assert_int_equal(heap.allocated_bytes, before);
    /* Only a chunk of its own size was there: nothing is kept. */
    arena_deinit(&a);
    arena_init(&a, &heap);
    arena_alloc(&a, 10 * ARENA_CHUNK_MAX);
    arena_reset(&a);
    assert_int_equal(heap.allocated_bytes, 0);
    arena_deinit(&a);
}

static void test_limit(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, &heap);
    a.limit_bytes = 1000;
    assert_non_null(arena_try_alloc(&a, 600));
    assert_null(arena_try_alloc(&a, 600));
    assert_null(arena_try_alloc(&a, SIZE_MAX));
    assert_non_null(arena_try_alloc(&a, 300));
    assert_non_null(arena_alloc(&a, 5000)); /* not for our own needs */
    assert_null(arena_try_alloc(&a, 1));
    arena_reset(&a);
    assert_non_null(arena_try_alloc(&a, 1000));
    arena_deinit(&a);
    assert_int_equal(heap.allocated_bytes, 0);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_held_before_use),
        cmocka_unit_test(test_contents_and_alignment),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_reset_keeps_one_chunk),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
