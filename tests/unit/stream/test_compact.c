/* Which ranges object compaction takes: tiers, limits, and that what a stream has stays few. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "stream/compact.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define BUDGET COMPACT_BYTES_MIN

static struct state_range ranges[1000];

static size_t fill(size_t at, size_t count, uint64_t size_bytes) {
    for (size_t i = 0; i < count; i++) ranges[at++] = (struct state_range){.size_bytes = size_bytes};
    return at;
}

static void finds(size_t count, size_t first, size_t run_count) {
    struct compact_run run;
    assert_true(compact_find_run(ranges, count, BUDGET, &run));
    assert_int_equal(run.first, first);
    assert_int_equal(run.count, run_count);
    uint64_t bytes = 0;
    for (size_t i = 0; i < run.count; i++) bytes += ranges[first + i].size_bytes;
    assert_int_equal(run.bytes, bytes);
    assert_true(bytes <= BUDGET);
}

static void finds_none(size_t count) {
    struct compact_run run;
    assert_false(compact_find_run(ranges, count, BUDGET, &run));
}

static void small_ones_are_taken_once_there_are_enough(void **state) {
    (void)state;
    finds_none(0);
    finds_none(fill(0, 31, KIB));
    finds(fill(0, 32, KIB), 0, 32);
    finds(fill(0, 100, KIB), 0, 32); /* so many, however many follow */
    /* Behind a large one; and one that is large ends a run. */
    size_t n = fill(fill(0, 3, 20 * MIB), 40, KIB);
    finds(n, 3, 32);
    n = fill(fill(0, 31, KIB), 1, 16 * MIB);
    finds_none(fill(n, 31, KIB));
}

static void tiers_do_not_mix(void **state) {
    (void)state;
    /* One of the second tier and many of the first: it would be written again with each few that come. */
    size_t n = fill(0, 1, 10 * MIB);
    finds_none(fill(n, 31, 100 * KIB));
    finds(fill(n, 32, 100 * KIB), 1, 32);
    /* Enough of the second tier: what is small between them goes along. */
    finds(fill(0, 30, 2 * MIB), 0, 8);
    n = fill(fill(fill(0, 4, 5 * MIB), 7, KIB), 4, 5 * MIB);
    finds(n, 0, 15);
    /* The lowest tier first. */
    finds(fill(n, 32, KIB), 15, 32);
}

static void a_run_fits_into_memory(void **state) {
    (void)state;
    finds(fill(0, 8, 16 * MIB - 1), 0, 8);
    finds(fill(0, 9, 16 * MIB - 1), 0, 8);
    /* Too much with what is small between: the oldest ones are left out, until it fits. */
    size_t n = 0;
    for (unsigned i = 0; i < 8; i++) n = fill(fill(n, 1, 16 * MIB - 1), 10, MIB - 1);
    finds_none(n);
    n = fill(n, 8, 14 * MIB);
    struct compact_run run;
    assert_true(compact_find_run(ranges, n, BUDGET, &run));
    assert_true(run.bytes <= BUDGET && run.first > 0);
}

/* Merges until nothing is left to merge, after each range that comes. */
static void what_a_stream_has_stays_few(void **state) {
    (void)state;
    uint64_t seed = 12345, total = 0, written = 0;
    size_t n = 0, most = 0;
    for (unsigned i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t size = ((seed >> 33) % 4 == 0) ? (seed >> 40) % (3 * MIB) + 1 : (seed >> 40) % (600 * KIB) + 1;
        total += size;
        n = fill(n, 1, size);
        struct compact_run run;
        while (compact_find_run(ranges, n, BUDGET, &run)) {
            written += run.bytes;
            ranges[run.first] = (struct state_range){.size_bytes = run.bytes};
            memmove(&ranges[run.first + 1], &ranges[run.first + run.count],
                    (n - run.first - run.count) * sizeof(*ranges));
            n -= run.count - 1;
        }
        if (n > most) most = n;
        assert_true(n < ARRAY_LEN(ranges));
    }
    assert_true(most <= total / (16 * MIB) + 256);
    assert_true(written <= 3 * total);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_are_taken_once_there_are_enough),
        cmocka_unit_test(tiers_do_not_mix),
        cmocka_unit_test(a_run_fits_into_memory),
        cmocka_unit_test(what_a_stream_has_stays_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
