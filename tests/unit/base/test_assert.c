/* A failed assertion stops the process with one line; typed objects are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"

struct thing {
    unsigned magic;
    int value;
    struct thing *part;
};
#define THING_MAGIC 0x7416u

/* Runs fn in a child process; its first line on stderr goes to line. Returns the signal that ended it, 0 for an exit.
 */
static int run(void (*fn)(void), char *line, size_t line_size) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        fn();
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], line, line_size - 1);
    line[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void broken(void) {
    int two = 2;
    ASSERT(two + two == 5);
}
static void pass(void) {
    ASSERT(1 + 1 == 2);
}
static void reach(void) {
    UNREACHABLE();
}
static void wrong_magic(void) {
    struct thing t = {.magic = THING_MAGIC + 1};
    CHECK_OBJ(&t, THING_MAGIC);
}
static void null_object(void) {
    struct thing *t = NULL;
    CHECK_OBJ(t, THING_MAGIC);
}
static void dear(void) {
    int one = 1;
    DCHECK(one == 2);
}

static void test_assertions(void **state) {
    (void)state;
    char line[512];
    assert_int_equal(run(pass, line, sizeof(line)), 0);
    assert_int_equal(run(broken, line, sizeof(line)), SIGABRT);
    assert_non_null(strstr(line, "level=fatal msg=\"assertion failed\" expression=\"two + two == 5\""));
    assert_non_null(strstr(line, "function=broken"));
    assert_int_equal(run(reach, line, sizeof(line)), SIGABRT);
    assert_int_equal(run(wrong_magic, line, sizeof(line)), SIGABRT);
    assert_int_equal(run(null_object, line, sizeof(line)), SIGABRT);
#ifdef OXBOW_DCHECK
    assert_int_equal(run(dear, line, sizeof(line)), SIGABRT);
#else
    assert_int_equal(run(dear, line, sizeof(line)), 0);
#endif
}

static void test_objects(void **state) {
    (void)state;
    struct thing inner = {.value = 7}, outer = {.part = &inner}, *taken;
    INIT_OBJ(&inner, THING_MAGIC);
    TAKE_OBJ(taken, &outer.part, THING_MAGIC);
    assert_ptr_equal(taken, &inner);
    assert_null(outer.part);
    assert_ptr_equal(CONTAINER_OF(&inner.value, struct thing, value), &inner);
    int array[17];
    assert_int_equal(ARRAY_LEN(array), 17);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assertions),
        cmocka_unit_test(test_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
