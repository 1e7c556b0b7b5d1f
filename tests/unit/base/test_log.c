/* One event is one line, whatever the values hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

struct capture {
    int64_t now_ms;
    char text[8192];
    size_t size;
    int lines;
};

static int64_t capture_now(void *ctx) {
    return ((struct capture *)ctx)->now_ms;
}

static void capture_sink(void *ctx, const char *line, size_t size) {
    struct capture *c = ctx;
    assert_true(size > 0 && line[size - 1] == '\n');
    assert_null(memchr(line, '\n', size - 1));
    assert_true(c->size + size < sizeof(c->text));
    memcpy(c->text + c->size, line, size);
    c->size += size;
    c->text[c->size] = '\0';
    c->lines++;
}

static void test_line(void **state) {
    (void)state;
    struct capture c = {.now_ms = 1767323045678};
    struct logger l = {LOG_INFO, capture_now, capture_sink, &c};
    log_debug(&l, "not seen", "%s", "");
    assert_int_equal(c.lines, 0);
    log_info(&l, "wal opened", "path=%s size_bytes=%d", "/x", 123);
    assert_string_equal(c.text, "ts=2026-01-02T03:04:05.678Z level=info msg=\"wal opened\" path=/x size_bytes=123\n");
    c.size = 0;
    log_error(&l, "plain", "%s", "");
    assert_non_null(strstr(c.text, "level=error msg=\"plain\""));
    log_line(NULL, LOG_ERROR, "to nobody", "%s", "");
    l.level = LOG_NONE;
    log_error(&l, "not seen", "%s", "");
    assert_int_equal(c.lines, 2);
}

static void test_dates(void **state) {
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {
        {0, "ts=1970-01-01T00:00:00.000Z"},
        {951782399999, "ts=2000-02-28T23:59:59.999Z"},
        {951782400000, "ts=2000-02-29T00:00:00.000Z"},
        {951868800000, "ts=2000-03-01T00:00:00.000Z"},
        {1709164800000, "ts=2024-02-29T00:00:00.000Z"},
        {4107542400000, "ts=2100-03-01T00:00:00.000Z"},
        {4102444799000, "ts=2099-12-31T23:59:59.000Z"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct capture c = {.now_ms = rows[i].ms};
        struct logger l = {LOG_DEBUG, capture_now, capture_sink, &c};
        log_info(&l, "x", "%s", "");
        assert_memory_equal(c.text, rows[i].text, strlen(rows[i].text));
    }
}

static void test_values_cannot_break_a_line(void **state) {
    (void)state;
    struct capture c = {0};
    struct logger l = {LOG_DEBUG, capture_now, capture_sink, &c};
    log_info(&l, "x", "a=%s", "one\ntwo\r\nthree");
    assert_int_equal(c.lines, 1);
    static char huge[5000];
    memset(huge, 'h', sizeof(huge) - 1);
    log_info(&l, "x", "a=%s", huge);
    assert_int_equal(c.lines, 2);
}

static void test_quote(void **state) {
    (void)state;
    char out[64], small[8];
    assert_string_equal(log_quote(out, sizeof(out), "plain/x:1", 9), "plain/x:1");
    assert_string_equal(log_quote(out, sizeof(out), "", 0), "\"\"");
    assert_string_equal(log_quote(out, sizeof(out), "a b", 3), "\"a b\"");
    assert_string_equal(log_quote(out, sizeof(out), "a=b", 3), "\"a=b\"");
    assert_string_equal(log_quote(out, sizeof(out), "say \"\\\"", 7), "\"say \\\"\\\\\\\"\"");
    assert_string_equal(log_quote(out, sizeof(out), "\n\x7f\0", 3), "\"\\x0a\\x7f\\x00\"");
    /* Cut to fit, and closed. */
    for (size_t n = 0; n < 40; n++) {
        log_quote(small, sizeof(small), "\n\n\n\n\n\n\n\n\n\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", n);
        assert_true(strlen(small) < sizeof(small));
        assert_true(small[0] == '"' && small[strlen(small) - 1] == '"');
    }
    assert_string_equal(log_quote(small, sizeof(small), "1234567", 7), "1234567");
    assert_true(strlen(log_quote(small, sizeof(small), "12345678", 8)) < 8);
}

static void test_due(void **state) {
    (void)state;
    int64_t when = 0;
    assert_true(log_due(&when, 0, 100));
    assert_false(log_due(&when, 50, 100));
    assert_true(log_due(&when, 101, 100));
    assert_false(log_due(&when, 200, 100));
    assert_true(log_due(&when, 201, 100));
    assert_true(log_due(&when, 50, 100)); /* the clock was set back */
    assert_false(log_due(&when, 149, 100));
}

static void test_level_names(void **state) {
    (void)state;
    assert_int_equal(log_level_parse("debug"), LOG_DEBUG);
    assert_int_equal(log_level_parse("info"), LOG_INFO);
    assert_int_equal(log_level_parse("warn"), LOG_WARN);
    assert_int_equal(log_level_parse("error"), LOG_ERROR);
    assert_int_equal(log_level_parse("none"), LOG_NONE);
    assert_int_equal(log_level_parse("INFO"), -1);
    assert_int_equal(log_level_parse(""), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),  cmocka_unit_test(test_dates), cmocka_unit_test(test_values_cannot_break_a_line),
        cmocka_unit_test(test_quote), cmocka_unit_test(test_due),   cmocka_unit_test(test_level_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
