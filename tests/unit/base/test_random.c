/* The generator: known numbers, so that a seed means the same run for ever; and roughly even. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"

/* xoshiro256** by its authors' code, seeded by SplitMix64 with 0: SplitMix64's first four outputs are the published
 * ones. */
static void test_known_numbers(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 0);
    assert_true(r.s[0] == 0xe220a8397b1dcdafull);
    assert_true(r.s[1] == 0x6e789e6aa1b965f4ull);
    assert_true(r.s[2] == 0x06c45d188009454full);
    assert_true(r.s[3] == 0xf88bb8a8724c81ecull);
    r = (struct rng){{1, 2, 3, 4}};
    static const uint64_t known[] = {
        11520ull, 0ull, 1509978240ull, 1215971899390074240ull, 1216172134540287360ull, 607988272756665600ull};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) assert_true(rng_next(&r) == known[i]);
}

static void test_below(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 6);
    unsigned counts[10] = {0};
    for (int i = 0; i < 100000; i++) counts[rng_below(&r, 10)]++;
    for (int i = 0; i < 10; i++) assert_in_range(counts[i], 9500, 10500);
    for (int i = 0; i < 100; i++) assert_int_equal(rng_below(&r, 1), 0);
    for (int i = 0; i < 1000; i++) assert_true(rng_below(&r, UINT64_MAX) < UINT64_MAX);
}

static void test_chance(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 7);
    int hits = 0;
    for (int i = 0; i < 100000; i++) {
        hits += rng_chance(&r, 0.25);
        assert_false(rng_chance(&r, 0));
        assert_true(rng_chance(&r, 1));
    }
    assert_in_range(hits, 24000, 26000);
}

static void test_fill(void **state) {
    (void)state;
    struct rng a, b;
    uint8_t x[21] = {0}, y[21] = {0};
    rng_seed(&a, 8);
    rng_seed(&b, 8);
    rng_fill(&a, x, 20);
    rng_fill(&b, y, 20);
    assert_memory_equal(x, y, 21);
    assert_int_equal(x[20], 0);
    rng_fill(&a, x, 20);
    assert_memory_not_equal(x, y, 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_numbers),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_chance),
        cmocka_unit_test(test_fill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
