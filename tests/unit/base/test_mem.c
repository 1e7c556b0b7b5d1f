/* The heap with its count, arrays that grow, budgets, arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/mem.h"

static void test_heap_counts(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    char *a = mem_alloc(&m, 1000);
    memset(a, 1, 1000);
    assert_true(m.allocated_bytes >= 1000);
    a = mem_realloc(&m, a, 100000);
    assert_int_equal(a[999], 1);
    assert_true(m.allocated_bytes >= 100000);
    a = mem_realloc(&m, a, 10);
    assert_true(m.allocated_bytes < 100000);
    char *z = mem_zalloc(&m, 5000);
    for (int i = 0; i < 5000; i++) assert_int_equal(z[i], 0);
    void *none = mem_alloc(&m, 0);
    assert_non_null(none);
    mem_free(&m, NULL);
    mem_free(&m, none);
    mem_free(&m, z);
    mem_free(&m, a);
    void *fresh = mem_realloc(&m, NULL, 10);
    assert_non_null(fresh);
    mem_free(&m, fresh);
    assert_int_equal(m.allocated_bytes, 0);
}

static void test_alignment(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    for (size_t alignment = 16; alignment <= 65536; alignment *= 2) {
        void *p = mem_aligned(&m, 100, alignment);
        assert_int_equal((uintptr_t)p % alignment, 0);
        memset(p, 1, 100);
        mem_free(&m, p);
    }
    assert_int_equal(m.allocated_bytes, 0);
}

static void test_strings(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    char *a = mem_strdup(&m, "hello"), *b = mem_strndup(&m, "hello", 2), *c = mem_printf(&m, "%s-%05d", "x", 42);
    char *d = mem_strndup(&m, NULL, 0);
    assert_string_equal(a, "hello");
    assert_string_equal(b, "he");
    assert_string_equal(c, "x-00042");
    assert_string_equal(d, "");
    mem_free(&m, a);
    mem_free(&m, b);
    mem_free(&m, c);
    mem_free(&m, d);
    assert_int_equal(m.allocated_bytes, 0);
}

static void test_grow(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    uint32_t *array = NULL;
    size_t capacity = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        array = mem_grow(&m, array, i, &capacity, sizeof(*array));
        assert_true(capacity > i);
        array[i] = i;
    }
    for (uint32_t i = 0; i < 1000; i++) assert_int_equal(array[i], i);
    assert_int_equal(capacity, 1024);
    mem_free(&m, array);
}

static void test_budget(void **state) {
    (void)state;
    struct budget b = {.limit_bytes = 100};
    assert_true(budget_take(&b, 60));
    assert_false(budget_take(&b, 41));
    assert_int_equal(b.used_bytes, 60);
    assert_true(budget_take(&b, 40));
    assert_false(budget_take(&b, 1));
    assert_true(budget_take(&b, 0));
    budget_give(&b, 100);
    assert_false(budget_take(&b, UINT64_MAX));
    assert_true(budget_take(&b, 50));
    assert_false(budget_take(&b, UINT64_MAX - 10)); /* the sum wraps */
    b.limit_bytes = 10;
    assert_false(budget_take(&b, 1));
    budget_give(&b, 50);
    assert_int_equal(b.used_bytes, 0);
}

static void test_arena(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct arena a;
    arena_init(&a, &m);
    assert_int_equal(m.allocated_bytes, 0);
    for (int round = 0; round < 3; round++) {
        char *all[500];
        for (size_t i = 0; i < 500; i++) {
            size_t size = i * 7 % 300;
            all[i] = arena_alloc(&a, size);
            assert_int_equal((uintptr_t)all[i] % 16, 0);
            memset(all[i], (int)i, size);
        }
        for (size_t i = 0; i < 500; i++) {
            for (size_t j = 0; j < i * 7 % 300; j++) assert_int_equal((uint8_t)all[i][j], (uint8_t)i);
        }
        char *big = arena_zalloc(&a, 200000);
        for (size_t i = 0; i < 200000; i++) assert_int_equal(big[i], 0);
        assert_string_equal(arena_strndup(&a, "hello", 3), "hel");
        assert_string_equal(arena_printf(&a, "%d", 7), "7");
        assert_memory_equal(arena_copy(&a, "xyz", 3), "xyz", 3);
        assert_true(a.held_bytes <= 2 * a.used_bytes + ARENA_CHUNK_MAX);
        arena_reset(&a);
        assert_int_equal(a.used_bytes, 0);
        assert_true(a.held_bytes <= ARENA_CHUNK_MAX);
    }
    arena_deinit(&a);
    assert_int_equal(m.allocated_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_counts), cmocka_unit_test(test_alignment), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_grow),        cmocka_unit_test(test_budget),    cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
