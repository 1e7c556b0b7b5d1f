/* Every way to write an option, and every way to get it wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "cli/commands.h"
#include "cli/options.h"

static const struct option_spec specs[] = {{'c', "config", "FILE"}, {0, "set", "key=value"}, {'v', "verbose", NULL}};

/* Walks argv[1..] and writes what was found as "name=value;" pieces, "!" for an error. */
static const char *walk(char **argv) {
    static char found[256];
    struct options o;
    int argc = 0;
    while (argv[argc]) argc++;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    found[0] = '\0';
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        size_t size = strlen(found);
        if (i == OPTIONS_ERROR) {
            (void)snprintf(found + size, sizeof(found) - size, "!");
            break;
        }
        (void)snprintf(found + size, sizeof(found) - size, "%s=%s;", i == OPTIONS_ARGUMENT ? "" : specs[i].name,
                       o.value ? o.value : "");
    }
    return found;
}
#define WALK(...) walk((char *[]){"test", __VA_ARGS__, NULL})

static void test_forms(void **state) {
    (void)state;
    assert_string_equal(walk((char *[]){"test", NULL}), "");
    assert_string_equal(WALK("--config", "f"), "config=f;");
    assert_string_equal(WALK("--config=f"), "config=f;");
    assert_string_equal(WALK("--config="), "config=;");
    assert_string_equal(WALK("-c", "f"), "config=f;");
    assert_string_equal(WALK("-cf"), "config=f;");
    assert_string_equal(WALK("--set", "a=b", "--set=c=d"), "set=a=b;set=c=d;");
    assert_string_equal(WALK("--set", "--verbose"), "set=--verbose;");
    assert_string_equal(WALK("x", "-v", "y", "--verbose", "-"), "=x;verbose=;=y;verbose=;=-;");
    assert_string_equal(WALK("-v", "--", "-v", "--", "--config"), "verbose=;=-v;=--;=--config;");
    assert_string_equal(WALK("--"), "");
    assert_string_equal(WALK(""), "=;");
}

static void test_errors(void **state) {
    (void)state;
    assert_string_equal(WALK("--config"), "!");
    assert_string_equal(WALK("-c"), "!");
    assert_string_equal(WALK("--verbose=1"), "!");
    assert_string_equal(WALK("-v1"), "!");
    assert_string_equal(WALK("-x"), "!");
    assert_string_equal(WALK("-v", "--confi", "f"), "verbose=;!");
    assert_string_equal(WALK("--configs=f"), "!");
    assert_string_equal(WALK("---"), "!");
    struct options o;
    options_init(&o, 1, (char *[]){"test"}, specs, ARRAY_LEN(specs));
    assert_int_equal(options_refuse(&o, "something"), EXIT_USAGE);
}

static void test_numbers(void **state) {
    (void)state;
    uint64_t v = 5;
    assert_true(options_u64("0", 0, 10, &v) && v == 0);
    assert_true(options_u64("18446744073709551615", 0, UINT64_MAX, &v) && v == UINT64_MAX);
    static char *const wrong[] = {"", "-1", "+1", " 1", "1 ", "x", "0x10", "18446744073709551616"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) assert_false(options_u64(wrong[i], 0, UINT64_MAX, &v));
    assert_false(options_u64("11", 0, 10, &v));
    assert_false(options_u64("4", 5, 10, &v));
    assert_true(v == UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
