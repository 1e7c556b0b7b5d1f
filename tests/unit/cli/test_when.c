/* Moments and durations, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "cli/when.h"

static int64_t at(const char *text) {
    int64_t ms = -1;
    return when_parse(text, &ms) ? ms : -1;
}

static void test_moments(void **state) {
    (void)state;
    assert_int_equal(at("1970-01-01"), 0);
    assert_int_equal(at("1970-01-01T00:00:00.001Z"), 1);
    assert_int_equal(at("2000-02-29T12:00"), 951825600000);
    assert_int_equal(at("2024-02-29T12:30:45.123Z"), 1709209845123);
    assert_int_equal(at("2024-02-29 12:30:45,1239z"), 1709209845123);
    assert_int_equal(at("2024-02-29T14:30:45.123+02:00"), 1709209845123);
    assert_int_equal(at("2024-02-29T07:00:45.123-0530"), 1709209845123);
    assert_int_equal(at("2024-02-29T13:30:45.123+01"), 1709209845123);
    assert_int_equal(at("9999-12-31T23:59:59.999Z"), 253402300799999);
    static const char *const wrong[] = {"",
                                        "2024",
                                        "2024-13-01",
                                        "2024-00-01",
                                        "2023-02-29",
                                        "2100-02-29",
                                        "2024-1-1",
                                        "2024-01-01T",
                                        "2024-01-01T24:00",
                                        "2024-01-01T12",
                                        "1969-12-31",
                                        "2024-01-01x",
                                        "2024-01-01T12:60",
                                        "2024-01-01T12:00+",
                                        "2024-01-01T12:00ZZ",
                                        "now",
                                        "1970-01-01T00:00+01:00",
                                        "2024-01-01T12:00:00.Z"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) assert_int_equal(at(wrong[i]), -1);
}

/* Every day of eight centuries is the one after the day before, and comes back as it was written. */
static void test_calendar(void **state) {
    (void)state;
    int64_t day = 0;
    char text[WHEN_TEXT_SIZE];
    for (int64_t ms = 0; ms < 800 * 365 * (int64_t)86400000; ms += 86400000, day++) {
        when_format(ms, text);
        assert_int_equal(at(text), ms);
    }
    when_format(1709209845123, text);
    assert_string_equal(text, "2024-02-29T12:30:45.123Z");
    when_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static int64_t lasts(const char *text) {
    int64_t ms = -1;
    return duration_parse(text, &ms) ? ms : -1;
}

static void test_durations(void **state) {
    (void)state;
    assert_int_equal(lasts("P1D"), 86400000);
    assert_int_equal(lasts("PT1H"), 3600000);
    assert_int_equal(lasts("PT90M"), 5400000);
    assert_int_equal(lasts("PT0S"), 0);
    assert_int_equal(lasts("P1DT2H3M4S"), 93784000);
    assert_int_equal(lasts("P7DT30S"), 604830000);
    static const char *const wrong[] = {"",     "P",      "PT",     "1D",     "P1H",
                                        "PT1D", "P1DT",   "PT1M1H", "PT1S1S", "P1W",
                                        "P-1D", "PT1.5S", "P1D ",   "PT1",    "P99999999999999D",
                                        "PD",   "P1DT1D"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) assert_int_equal(lasts(wrong[i]), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
