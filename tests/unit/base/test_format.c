/* The list of stored formats, and what is said of one that only a newer program knows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/format.h"

static char line[2000];

static void keep(void *ctx, const char *text, size_t size) {
    (void)ctx;
    assert_true(size < sizeof(line));
    memcpy(line, text, size);
    line[size] = '\0';
}

static int64_t now(void *ctx) {
    (void)ctx;
    return 0;
}

static void versions_are_found_where_the_format_has_them(void **state) {
    (void)state;
    const uint8_t bytes[16] = {9, 0, 3, 0, 7, 1, 5, 0, 0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0};
    assert_int_equal(format_found(FORMAT_STATE, bytes, 1), 9);
    assert_int_equal(format_found(FORMAT_STATE, bytes, 0), 0);
    assert_int_equal(format_found(FORMAT_LOG_ENTRY, bytes, sizeof(bytes)), 0x107);
    assert_int_equal(format_found(FORMAT_LOG_ENTRY, bytes, 5), 0);
    assert_int_equal(format_found(FORMAT_WAL_SUPERBLOCK, bytes, sizeof(bytes)), 0xdeadbeef);
    assert_int_equal(format_found(FORMAT_STORE_FOLDER, bytes, sizeof(bytes)), 0);
}

static void the_line_says_what_was_found_and_what_to_do(void **state) {
    (void)state;
    struct logger l = {.level = LOG_INFO, .wall_ms = now, .sink = keep};
    format_newer(&l, FORMAT_LEDGER_HEAD, 7, "key=%s", "gen/ledger/1");
    static const char *const parts[] = {"level=error",
                                        "format=ledger-head ",
                                        "found=7 ",
                                        "known=1..",
                                        "key=gen/ledger/1 ",
                                        "error=ERR_VERSION",
                                        "advice=\"run the version of Oxbow that wrote it"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) assert_non_null(strstr(line, parts[i]));
}

static void every_format_has_a_name_of_its_own(void **state) {
    (void)state;
    for (unsigned f = 0; f < FORMAT_COUNT; f++) {
        const struct format_info *info = format_info((enum format)f);
        assert_true(info->id[0] != '\0' && info->text[0] != '\0' && info->oldest <= info->newest);
        for (unsigned g = 0; g < f; g++) assert_string_not_equal(info->id, format_info((enum format)g)->id);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_found_where_the_format_has_them),
        cmocka_unit_test(the_line_says_what_was_found_and_what_to_do),
        cmocka_unit_test(every_format_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
