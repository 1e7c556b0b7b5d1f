/* Both maps against a plain array, through thousands of random steps; and that walking them is repeatable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/map.h"
#include "base/random.h"

#define KEYS 300

static void test_map64_against_model(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct map64 map;
    map64_init(&map, &m);
    assert_null(map64_get(&map, 1));
    assert_null(map64_remove(&map, 1));
    static char values[8];
    void *model[KEYS] = {0};
    size_t count = 0;
    struct rng r;
    rng_seed(&r, 4);
    for (int step = 0; step < 20000; step++) {
        /* Keys that lie close together and keys far apart; zero among them. */
        size_t k = rng_below(&r, KEYS);
        uint64_t key = k % 2 ? k : (uint64_t)k << 40;
        if (rng_chance(&r, step / 5000 % 2 ? 0.3 : 0.6)) {
            void *value = &values[rng_below(&r, sizeof(values))];
            assert_ptr_equal(map64_put(&map, key, value), model[k]);
            count += model[k] == NULL;
            model[k] = value;
        } else {
            assert_ptr_equal(map64_remove(&map, key), model[k]);
            count -= model[k] != NULL;
            model[k] = NULL;
        }
        assert_int_equal(map.count, count);
        if (step % 500 != 0) continue;
        for (size_t i = 0; i < KEYS; i++) assert_ptr_equal(map64_get(&map, i % 2 ? i : (uint64_t)i << 40), model[i]);
        size_t cursor = 0, seen = 0;
        uint64_t found;
        for (void *v; (v = map64_next(&map, &cursor, &found)) != NULL; seen++)
            assert_ptr_equal(map64_get(&map, found), v);
        assert_int_equal(seen, count);
    }
    map64_deinit(&map);
    assert_int_equal(m.allocated_bytes, 0);
}

static void test_mapstr_against_model(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct mapstr map;
    mapstr_init(&map, &m);
    static char values[8];
    void *model[KEYS] = {0};
    size_t count = 0;
    struct rng r;
    rng_seed(&r, 5);
    for (int step = 0; step < 20000; step++) {
        size_t k = rng_below(&r, KEYS);
        char key[32]; /* with a zero byte in it; the size matters */
        int size = snprintf(key, sizeof(key), "k%c%zu", 0, k);
        if (rng_chance(&r, step / 5000 % 2 ? 0.3 : 0.6)) {
            void *value = &values[rng_below(&r, sizeof(values))];
            assert_ptr_equal(mapstr_put(&map, key, (size_t)size, value), model[k]);
            count += model[k] == NULL;
            model[k] = value;
        } else {
            assert_ptr_equal(mapstr_remove(&map, key, (size_t)size), model[k]);
            count -= model[k] != NULL;
            model[k] = NULL;
        }
        assert_int_equal(map.count, count);
        if (step % 500 != 0) continue;
        size_t cursor = 0, seen = 0, found_size;
        const char *found;
        for (void *v; (v = mapstr_next(&map, &cursor, &found, &found_size)) != NULL; seen++) {
            assert_ptr_equal(mapstr_get(&map, found, found_size), v);
            assert_int_equal(found[found_size], 0);
        }
        assert_int_equal(seen, count);
    }
    assert_null(mapstr_get(&map, NULL, 0));
    assert_null(mapstr_put(&map, NULL, 0, values));
    assert_ptr_equal(mapstr_get(&map, "", 0), values);
    assert_ptr_equal(mapstr_remove(&map, NULL, 0), values);
    mapstr_deinit(&map);
    assert_int_equal(m.allocated_bytes, 0);
}

/* The order of a walk depends on keys and history, so the simulator repeats itself. */
static void test_walk_is_repeatable(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    uint64_t order[2][100];
    for (int round = 0; round < 2; round++) {
        struct map64 map;
        map64_init(&map, &m);
        void *padding = mem_alloc(&m, 12345 * (size_t)(round + 1));
        for (uint64_t k = 0; k < 100; k++) map64_put(&map, k * k, padding);
        size_t cursor = 0, n = 0;
        while (map64_next(&map, &cursor, &order[round][n])) n++;
        assert_int_equal(n, 100);
        mem_free(&m, padding);
        map64_deinit(&map);
    }
    assert_memory_equal(order[0], order[1], sizeof(order[0]));
}

static void test_hash(void **state) {
    (void)state;
    /* Every length up to 40 and every position matters. */
    uint8_t data[40] = {0};
    uint64_t seen[41 + 40];
    size_t n = 0;
    for (size_t size = 0; size <= 40; size++) seen[n++] = hash_bytes(data, size);
    for (size_t i = 0; i < 40; i++) {
        data[i] = 1;
        seen[n++] = hash_bytes(data, 40);
        data[i] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) assert_true(seen[i] != seen[j]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map64_against_model),
        cmocka_unit_test(test_mapstr_against_model),
        cmocka_unit_test(test_walk_is_repeatable),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
