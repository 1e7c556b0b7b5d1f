/* For tests of the folder store: a folder of their own, and the real environment to run fibers in. */
#ifndef OXBOW_TESTS_STORE_DIR_FIXTURE_H
#define OXBOW_TESTS_STORE_DIR_FIXTURE_H

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "rt/fiber.h"
#include "rt/linux/linux_env.h"
#include "store/dir.h"

struct dir_test {
    struct env *env;
    char path[512]; /* of the store; its parent is the test's own */
    char parent[256];
    void (*body)(struct dir_test *t);
    struct store *store; /* left open by the body, or NULL */
    void *arg;
};

static void dir_test_main(void *arg) {
    struct dir_test *t = arg;
    t->body(t);
    if (t->store) store_close(t->store);
    loop_stop(linux_env_loop0(t->env));
}

static inline void dir_test_folder(struct dir_test *t) {
    const char *tmp = getenv("TMPDIR");
    snprintf(t->parent, sizeof(t->parent), "%.200s/oxbow-dir-XXXXXX", tmp && tmp[0] ? tmp : P_tmpdir);
    assert_non_null(mkdtemp(t->parent));
    snprintf(t->path, sizeof(t->path), "%s/store", t->parent);
}

static inline int dir_test_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}
static inline void dir_test_remove(const char *path) {
    (void)nftw(path, dir_test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Runs the body in a fiber of a real environment. The folder is the caller's. */
static inline void dir_test_in(struct dir_test *t, void (*body)(struct dir_test *)) {
    const char *why = "";
    struct linux_env_options o = {.io = LINUX_IO_EPOLL, .level = LOG_NONE};
    t->body = body;
    t->store = NULL;
    assert_int_equal(linux_env_create(&o, &t->env, &why), OK);
    linux_env_run(t->env, dir_test_main, t);
    linux_env_destroy(t->env);
}

static inline void dir_test_run(void (*body)(struct dir_test *)) {
    struct dir_test t = {0};
    dir_test_folder(&t);
    dir_test_in(&t, body);
    dir_test_remove(t.parent);
}

static inline void dir_open(struct dir_test *t) {
    const char *why = "";
    enum err e = store_dir_open(t->env, t->path, &t->store, &why);
    if (e != OK) print_error("open: %s: %s\n", err_name(e), why);
    assert_int_equal(e, OK);
}
static inline void dir_reopen(struct dir_test *t) {
    store_close(t->store);
    t->store = NULL;
    dir_open(t);
}
static inline enum err dir_create(struct dir_test *t, const char *key, const char *text) {
    struct slice s = slice_borrow(text, strlen(text));
    return store_put(t->store, key, &s, 1, true, STORE_FOR_OTHER);
}
static inline void dir_expect(struct dir_test *t, const char *key, const char *text) {
    struct slice s = {0};
    assert_int_equal(store_get(t->store, key, 0, 1 << 20, STORE_FOR_READ, &s), OK);
    assert_int_equal(s.size, strlen(text));
    assert_memory_equal(s.data, text, s.size);
    slice_unref(&s);
}
/* Makes a file below the store's folder (or, with path NULL, nothing) by hand. */
static inline void dir_by_hand(struct dir_test *t, const char *name, const char *text) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", t->path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}
static inline bool dir_has(struct dir_test *t, const char *name) {
    char path[1024];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", t->path, name);
    return lstat(path, &st) == 0;
}

#endif
