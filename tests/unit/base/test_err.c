/* The table of errors, and what system calls' errors become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/err.h"

static void test_table_is_complete(void **state) {
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        enum err e = (enum err)i;
        assert_non_null(err_name(e));
        assert_true(strlen(err_text(e)) > 0);
        assert_true(e == OK || strncmp(err_name(e), "ERR_", 4) == 0);
        assert_int_equal(err_class(e) == ERR_CLASS_OK, e == OK);
        for (int j = 0; j < i; j++) assert_string_not_equal(err_name(e), err_name((enum err)j));
    }
    assert_int_equal(OK, 0);
    assert_string_equal(err_name(ERR_FENCED), "ERR_FENCED");
}

/* What decides whether a write is repeated must not change by accident. */
static void test_classes(void **state) {
    (void)state;
    assert_int_equal(err_class(ERR_TIMEOUT), ERR_CLASS_UNKNOWN);
    assert_int_equal(err_class(ERR_IO), ERR_CLASS_UNKNOWN);
    assert_int_equal(err_class(ERR_UNKNOWN_OUTCOME), ERR_CLASS_UNKNOWN);
    assert_int_equal(err_class(ERR_FULL), ERR_CLASS_RETRIABLE);
    assert_int_equal(err_class(ERR_READ_ONLY), ERR_CLASS_RETRIABLE);
    assert_int_equal(err_class(ERR_UNAVAILABLE), ERR_CLASS_RETRIABLE);
    assert_int_equal(err_class(ERR_FENCED), ERR_CLASS_FATAL);
    assert_int_equal(err_class(ERR_EXISTS), ERR_CLASS_FATAL);
    assert_int_equal(err_class(ERR_CORRUPT), ERR_CLASS_FATAL);
}

static void test_errno(void **state) {
    (void)state;
    assert_int_equal(err_from_errno(0), OK);
    assert_int_equal(err_from_errno(ENOENT), ERR_NOT_FOUND);
    assert_int_equal(err_from_errno(EEXIST), ERR_EXISTS);
    assert_int_equal(err_from_errno(ENOSPC), ERR_FULL);
    assert_int_equal(err_from_errno(EDQUOT), ERR_FULL);
    assert_int_equal(err_from_errno(EROFS), ERR_READ_ONLY);
    assert_int_equal(err_from_errno(EACCES), ERR_PERMISSION);
    assert_int_equal(err_from_errno(EOPNOTSUPP), ERR_UNSUPPORTED);
    /* What is not known to have done nothing is not known. */
    assert_int_equal(err_from_errno(EIO), ERR_IO);
    assert_int_equal(err_from_errno(ENODEV), ERR_IO);
    assert_int_equal(err_from_errno(99999), ERR_IO);
    for (int e = 1; e < 200; e++) assert_int_not_equal(err_from_errno(e), OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_complete),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
