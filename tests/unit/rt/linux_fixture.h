/* Runs test bodies as fibers in the real environment, over each of its back ends. */
#ifndef OXBOW_TESTS_RT_LINUX_FIXTURE_H
#define OXBOW_TESTS_RT_LINUX_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "rt/linux/linux_env.h"

struct linux_fixture {
    enum linux_io io;
    struct env *env;
    char dir[64]; /* of this test's own */
    void (*body)(struct linux_fixture *x);
    void *ctx;
};

static const enum linux_io linux_fixture_uring = LINUX_IO_URING, linux_fixture_epoll = LINUX_IO_EPOLL;

static int linux_setup(void **state) {
    struct linux_fixture *x = calloc(1, sizeof(*x));
    x->io = *(const enum linux_io *)*state;
    struct linux_env_options o = {.io = x->io, .level = LOG_NONE};
    const char *why;
    enum err err = linux_env_create(&o, &x->env, &why);
    if (err == ERR_UNSUPPORTED && x->io == LINUX_IO_URING) {
        assert_true(strlen(why) > 0);
        x->env = NULL;
    } else {
        assert_int_equal(err, OK);
        assert_string_equal(linux_env_io_name(x->env), x->io == LINUX_IO_URING ? "io_uring" : "epoll");
    }
    strcpy(x->dir, "/tmp/oxbow-test-XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    *state = x;
    return 0;
}

static int linux_teardown(void **state) {
    struct linux_fixture *x = *state;
    bool failed = loop_current() != NULL; /* an assertion left the body: what runs there cannot be ended in order */
    if (failed) loop_set_current(NULL);
    if (x->env && !failed) linux_env_destroy(x->env);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", x->dir);
    int rc = system(command);
    free(x);
    return rc == 0 ? 0 : -1;
}

static void linux_main_fiber(void *arg) {
    struct linux_fixture *x = arg;
    x->body(x);
    loop_stop(linux_env_loop0(x->env));
}

/* Runs body(x) in a fiber on loop 0 until it returns. */
static inline void linux_run(void **state, void (*body)(struct linux_fixture *x)) {
    struct linux_fixture *x = *state;
    if (!x->env) skip();
    x->body = body;
    linux_env_run(x->env, linux_main_fiber, x);
}

/* A path in the test's directory; four at a time and thread. */
static inline const char *path_in(struct linux_fixture *x, const char *name) {
    static _Thread_local char paths[4][256];
    static _Thread_local unsigned next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof(paths[0]), "%s/%s", x->dir, name);
    return p;
}

#define TEST_BOTH(name)                                                                                                \
    static void name##_test(void **state) {                                                                            \
        linux_run(state, name);                                                                                        \
    }
#define RUN_BOTH(name)                                                                                                 \
    {#name " (io_uring)", name##_test, linux_setup, linux_teardown, (void *)(uintptr_t)&linux_fixture_uring}, {        \
#name " (epoll)", name##_test, linux_setup, linux_teardown, (void *)(uintptr_t)&linux_fixture_epoll            \
    }

#endif
