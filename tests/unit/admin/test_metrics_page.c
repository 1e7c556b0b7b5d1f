/* The metrics page: every metric of the table is on it, with the names that people search for, in Prometheus' text
 * format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "admin/metrics_page.h"
#include "kafka/kafka_messages.h"
#include "store/store.h"

static struct mem mem;
static struct metrics metrics;

static char *page(struct buf *b) {
    buf_init(b, &mem);
    metrics_page_table(&metrics, b);
    buf_u8(b, 0);
    return (char *)b->data;
}

static void test_everything_is_there(void **state) {
    (void)state;
    struct buf b;
    char *text = page(&b);
    static const char *const names[] = {
#define COUNTER(id, name, label, help) "\n# TYPE " name " counter\n",
#define GAUGE(id, name, label, help) "\n# TYPE " name " gauge\n",
#define HISTOGRAM(id, name, label, help) "\n# TYPE " name " histogram\n",
#include "base/metrics_table.h"
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strstr(text, names[i])) fail_msg("not on the page: %s", names[i]);
    }
    buf_deinit(&b);
}

static void has(const char *text, const char *line) {
    if (!strstr(text, line)) fail_msg("not on the page: %s", line);
}

static void test_labels_and_values(void **state) {
    (void)state;
    metric_add(&metrics, M_REQUESTS, KAFKA_API_FETCH, 7);
    metric_add(&metrics, M_BYTES_SENT, 0, 123);
    metric_add(&metrics, M_STORE_REQUESTS, STORE_GET * STORE_PURPOSES + STORE_FOR_READ, 5);
    metric_add(&metrics, M_REQUEST_ERRORS, ERR_FENCED, 2);
    metric_set(&metrics, M_CONNECTIONS, -3);
    metric_observe_ns(&metrics, &mem, M_REQUEST_LATENCY, KAFKA_API_PRODUCE, 2000);
    metric_observe_ns(&metrics, &mem, M_REQUEST_LATENCY, KAFKA_API_PRODUCE, 3000000);
    metric_observe_ns(&metrics, &mem, M_WAL_LATENCY, 0, 1000);
    struct buf b;
    char *text = page(&b);
    has(text, "\noxbow_requests_total{api=\"Fetch\"} 7\n");
    has(text, "\noxbow_network_sent_bytes_total 123\n");
    has(text, "\noxbow_store_requests_total{op=\"get\",purpose=\"read\"} 5\n");
    has(text, "\noxbow_errors_total{error=\"ERR_FENCED\"} 2\n");
    has(text, "\noxbow_connections -3\n");
    has(text, "\noxbow_request_duration_seconds_bucket{api=\"Produce\",le=\"0.000002\"} 1\n");
    has(text, "\noxbow_request_duration_seconds_bucket{api=\"Produce\",le=\"0.002048\"} 1\n");
    has(text, "\noxbow_request_duration_seconds_bucket{api=\"Produce\",le=\"0.004096\"} 2\n");
    has(text, "\noxbow_request_duration_seconds_bucket{api=\"Produce\",le=\"+Inf\"} 2\n");
    has(text, "\noxbow_request_duration_seconds_count{api=\"Produce\"} 2\n");
    has(text, "\noxbow_wal_write_duration_seconds_bucket{le=\"+Inf\"} 1\n");
    has(text, "\noxbow_wal_write_duration_seconds_count 1\n");
    assert_null(strstr(text, "api=\"Metadata\"")); /* never occurred */
    buf_deinit(&b);
    metrics_deinit(&metrics, &mem);
}

static void test_label_values_are_escaped(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, &mem);
    metrics_page_value(&b, "m", "topic", "a\"b\\c\nd", 1);
    buf_u8(&b, 0);
    assert_string_equal((char *)b.data, "m{topic=\"a\\\"b\\\\c\\nd\"} 1\n");
    buf_deinit(&b);
}

int main(void) {
    mem_init_heap(&mem);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_there),
        cmocka_unit_test(test_labels_and_values),
        cmocka_unit_test(test_label_values_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
