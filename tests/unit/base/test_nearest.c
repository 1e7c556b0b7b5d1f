/* The distance between names, and when one is near enough to be suggested. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/nearest.h"

static void test_distance(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        size_t distance;
    } rows[] = {
        {"", "", 0},
        {"", "abc", 3},
        {"abc", "abc", 0},
        {"abc", "ABC", 0},
        {"abc", "abd", 1},
        {"abc", "ab", 1},
        {"abc", "xabc", 1},
        {"serve", "sreve", 1},
        {"kitten", "sitting", 3},
        {"node.id", "broker.id", 4},
        {"ab", "ba", 1},
        {"abcd", "badc", 2},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(edit_distance(rows[i].a, rows[i].b), rows[i].distance);
        assert_int_equal(edit_distance(rows[i].b, rows[i].a), rows[i].distance);
    }
    char longer[300];
    memset(longer, 'x', sizeof(longer));
    longer[299] = '\0';
    assert_int_equal(edit_distance(longer, ""), 96);
}

static void test_nearest(void **state) {
    (void)state;
    struct nearest n;
    nearest_init(&n, "num.partition");
    assert_null(nearest_plausible(&n));
    nearest_try(&n, "node.id");
    assert_string_equal(n.best, "node.id");
    assert_null(nearest_plausible(&n));
    nearest_try(&n, "num.partitions");
    nearest_try(&n, "num.partitiom"); /* as near, but later */
    assert_string_equal(nearest_plausible(&n), "num.partitions");
    nearest_init(&n, "completely different");
    nearest_try(&n, "shards");
    assert_string_equal(n.best, "shards");
    assert_null(nearest_plausible(&n));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
