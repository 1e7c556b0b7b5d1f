/* Counters, gauges, and the edges of the histograms' buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/metrics.h"

static void test_counters(void **state) {
    (void)state;
    static struct metrics m;
    metric_add(&m, M_REQUESTS, 3, 2);
    metric_add(&m, M_REQUESTS, 3, 5);
    metric_add(&m, M_REQUESTS, METRIC_LABELS_MAX - 1, 1);
    assert_int_equal(m.counters[M_REQUESTS][3], 7);
    assert_int_equal(m.counters[M_REQUESTS][METRIC_LABELS_MAX - 1], 1);
    assert_int_equal(m.counters[M_REQUESTS][0], 0);
    metric_set(&m, M_CONNECTIONS, 10);
    metric_gauge_add(&m, M_CONNECTIONS, -3);
    assert_int_equal(m.gauges[M_CONNECTIONS], 7);
}

/* Bucket i counts what took at most 2^i microseconds; the last one, all the rest. */
static void test_buckets(void **state) {
    (void)state;
    static const struct {
        uint64_t ns;
        unsigned bucket;
    } rows[] = {
        {0, 0},
        {999, 0},
        {1000, 0},
        {1999, 0},
        {2000, 1},
        {3000, 2},
        {4000, 2},
        {5000, 3},
        {1024000, 10},
        {1025000, 11},
        {67108864000ull, 26},
        {67108865000ull, 27},
        {UINT64_MAX, METRIC_BUCKETS - 1},
    };
    struct mem mem;
    mem_init_heap(&mem);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct metrics m;
        memset(&m, 0, sizeof(m));
        metric_observe_ns(&m, &mem, M_REQUEST_LATENCY, 5, rows[i].ns);
        struct metric_cells *c = m.histograms[M_REQUEST_LATENCY][5];
        for (unsigned b = 0; b < METRIC_BUCKETS; b++) assert_int_equal(c->bucket[b], b == rows[i].bucket);
        assert_int_equal(c->count, 1);
        assert_true(c->sum_us == rows[i].ns / 1000);
        metric_observe_ns(&m, &mem, M_REQUEST_LATENCY, 5, 0);
        assert_int_equal(c->count, 2);
        metrics_deinit(&m, &mem);
    }
    assert_int_equal(mem.allocated_bytes, 0);
}

/* Prometheus' naming rules. */
static void test_names(void **state) {
    (void)state;
    static const char *const counters[] = {
#define COUNTER(id, name, label, help) name,
#define GAUGE(id, name, label, help)
#define HISTOGRAM(id, name, label, help)
#include "base/metrics_table.h"
    };
    static const char *const others[] = {
#define COUNTER(id, name, label, help)
#define GAUGE(id, name, label, help) name,
#define HISTOGRAM(id, name, label, help) name,
#include "base/metrics_table.h"
    };
    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        size_t size = strlen(counters[i]);
        assert_true(size > 12 && strcmp(counters[i] + size - 6, "_total") == 0);
        assert_int_equal(strspn(counters[i], "abcdefghijklmnopqrstuvwxyz0123456789_"), size);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_memory_equal(others[i], "oxbow_", 6);
        assert_int_equal(strspn(others[i], "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(others[i]));
        assert_null(strstr(others[i], "_total"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
