/* Durations are counted without losing any, and percentiles are at most a 64th too high. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/random.h"
#include "cli/bench_histogram.h"

static void test_every_value_is_in_its_part(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    size_t before = 0;
    for (uint64_t v = 0; v < 100000; v++) {
        size_t at = histogram_bucket(v);
        assert_true(at == before || at == before + 1); /* no part is left out */
        assert_true(v <= histogram_bucket_end(at));
        assert_true(at == 0 || v > histogram_bucket_end(at - 1));
        before = at;
    }
    for (int i = 0; i < 100000; i++) {
        uint64_t v = rng_next(&rng) >> (33 + rng_below(&rng, 31));
        size_t at = histogram_bucket(v);
        uint64_t end = histogram_bucket_end(at);
        assert_true(at < HISTOGRAM_BUCKETS && v <= end);
        assert_true(end - v <= v / 64);
    }
    for (uint64_t v = 0; v < 128; v++) assert_int_equal(histogram_bucket_end(histogram_bucket(v)), v);
    assert_int_equal(histogram_bucket_end(HISTOGRAM_BUCKETS - 1), ((uint64_t)1 << HISTOGRAM_TOP_BITS) - 1);
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Against sorting. */
static void test_percentiles(void **state) {
    (void)state;
    static struct histogram h;
    static uint64_t values[10001];
    const double percents[] = {0, 1, 50, 90, 99, 99.9, 99.99, 100};
    struct rng rng;
    rng_seed(&rng, 3);
    histogram_clear(&h);
    uint64_t sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        values[i] = rng_next(&rng) >> (40 + rng_below(&rng, 24));
        sum += values[i];
        histogram_add(&h, values[i], 1);
    }
    qsort(values, ARRAY_LEN(values), sizeof(values[0]), compare);
    for (size_t i = 0; i < ARRAY_LEN(percents); i++) {
        double exact = percents[i] * (double)ARRAY_LEN(values) / 100;
        size_t rank = (size_t)exact + ((double)(size_t)exact < exact);
        uint64_t want = values[rank > 0 ? rank - 1 : 0], got = histogram_percentile(&h, percents[i]);
        assert_true(got >= want && got - want <= want / 64);
    }
    assert_int_equal(histogram_percentile(&h, 100), values[ARRAY_LEN(values) - 1]);
    assert_int_equal(h.min, values[0]);
    assert_int_equal(histogram_mean(&h), sum / ARRAY_LEN(values));
}

static void test_merge(void **state) {
    (void)state;
    static struct histogram all, parts[3], merged;
    histogram_clear(&all);
    histogram_clear(&merged);
    for (size_t i = 0; i < 3; i++) histogram_clear(&parts[i]);
    for (uint64_t v = 5; v < 3000; v++) {
        histogram_add(&all, v * v, v % 4);
        histogram_add(&parts[v % 2], v * v, v % 4); /* the third stays empty */
    }
    for (size_t i = 0; i < 3; i++) histogram_merge(&merged, &parts[i]);
    assert_memory_equal(&merged, &all, sizeof(all));
}

static void test_edges(void **state) {
    (void)state;
    static struct histogram h;
    histogram_clear(&h);
    assert_int_equal(histogram_percentile(&h, 50), 0);
    assert_int_equal(histogram_mean(&h), 0);
    histogram_add(&h, 9, 0);
    assert_int_equal(h.count, 0);
    histogram_add(&h, (uint64_t)1 << 40, 1); /* beyond the last part: its value is not lost */
    assert_int_equal(histogram_percentile(&h, 50), (uint64_t)1 << 40);
    histogram_add(&h, 1000, 999);
    assert_true(histogram_percentile(&h, 99) >= 1000 && histogram_percentile(&h, 99) <= 1015);
    assert_int_equal(histogram_percentile(&h, 100), (uint64_t)1 << 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_value_is_in_its_part),
        cmocka_unit_test(test_percentiles),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
