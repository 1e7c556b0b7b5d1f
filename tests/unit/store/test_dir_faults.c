/* The folder store's order of durable steps, and what it answers when one fails. The system calls that matter are
 * wrapped here: each leaves a letter, and may be made to fail.
 *
 *   f fsync of a file   d fsync of a folder   m mkdir   L link   R rename   U unlink   t shrink */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "unit/store/dir_fixture.h"

#include "store/dir_priv.h"

static struct {
    char letters[4096];
    _Atomic size_t count;
    char fail; /* the letter that fails, once, after `skip` that do not */
    unsigned skip;
    int error;
} calls;

/* Any call of the store, by its number: what the sweep makes fail. All but `sweep.at` go to the kernel. */
static struct {
    bool on, ever, reached;
    unsigned at;
    int error;
    _Atomic unsigned met;
} sweep;

/* What happens to an object while it is being read, once. */
static struct {
    const char *path; /* NULL: nothing */
    bool unlinked;
} shrinks;

static void shrink_now(void) {
    const char *path = shrinks.path;
    shrinks.path = NULL;
    if (path && shrinks.unlinked) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY, 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(syscall(SYS_ftruncate, fd, 0), 0);
        close(fd);
    } else if (path) {
        assert_int_equal(truncate(path, 0), 0);
    }
}

static bool met(void) {
    if (!sweep.on) return true;
    unsigned number = sweep.met++;
    if (number < sweep.at || (number > sweep.at && !sweep.ever)) return true;
    sweep.reached = true;
    errno = sweep.error;
    return false;
}
static bool step(char letter) {
    if (!met()) return false;
    size_t i = calls.count++;
    if (i < sizeof(calls.letters) - 1) calls.letters[i] = letter;
    if (calls.fail != letter || calls.skip-- > 0) return true;
    calls.fail = 0;
    errno = calls.error;
    return false;
}

/* These take the C library's place in this program. */
int fsync(int fd) {
    struct stat st;
    bool folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    if (!step(folder ? 'd' : 'f')) return -1;
    return sweep.on ? 0 : (int)syscall(SYS_fsync, fd); /* nothing of the sweep has to outlive the machine */
}
int mkdirat(int fd, const char *path, mode_t mode) {
    return step('m') ? (int)syscall(SYS_mkdirat, fd, path, mode) : -1;
}
int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    return step('L') ? (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags) : -1;
}
int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    return step('R') ? (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0) : -1;
}
int unlinkat(int fd, const char *path, int flags) {
    return step('U') ? (int)syscall(SYS_unlinkat, fd, path, flags) : -1;
}

int ftruncate(int fd, off_t size) {
    return step('t') ? (int)syscall(SYS_ftruncate, fd, size) : -1;
}

int openat(int fd, const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return met() ? (int)syscall(SYS_openat, fd, path, flags, mode) : -1;
}
ssize_t pread(int fd, void *data, size_t size, off_t position) {
    shrink_now();
    return met() ? syscall(SYS_pread64, fd, data, size, position) : -1;
}
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t position) {
    return met() ? syscall(SYS_pwritev, fd, pieces, count, position, 0) : -1;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t position) {
    return met() ? syscall(SYS_pwrite64, fd, data, size, position) : -1;
}
ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t size, unsigned flags) {
    shrink_now();
    return met() ? syscall(SYS_copy_file_range, from, in, to, out, size, flags) : -1;
}
int fallocate(int fd, int mode, off_t position, off_t size) {
    return met() ? (int)syscall(SYS_fallocate, fd, mode, position, size) : -1;
}

static void begin(char fail, int error) {
    memset(calls.letters, 0, sizeof(calls.letters));
    calls.count = 0;
    calls.fail = fail;
    calls.skip = 0;
    calls.error = error;
}

static void expect_steps(struct dir_test *t, enum err result, const char *key, const char *steps) {
    assert_int_equal(dir_create(t, key, "x"), result);
    assert_string_equal(calls.letters, steps);
    begin(0, 0);
}

static void body_order(struct dir_test *t) {
    dir_open(t);
    struct dir_store *d = (struct dir_store *)(void *)t->store;
    for (unsigned named = 0; named < 2; named++) {
        if (named) d->nameless = false;
        const char *after = d->nameless ? "" : "U"; /* the temporary name goes */
        char steps[32], key[64];
        begin(0, 0);
        /* The bytes first; each new folder is durable in its parent before the next; then the name, then its folder. */
        snprintf(steps, sizeof(steps), "fmdmdLd%s", after);
        snprintf(key, sizeof(key), "a%u/b/c", named);
        expect_steps(t, OK, key, steps);
        snprintf(steps, sizeof(steps), "fLd%s", after);
        snprintf(key, sizeof(key), "a%u/b/d", named);
        expect_steps(t, OK, key, steps);
        expect_steps(t, ERR_EXISTS, key, steps); /* "it is there" is said of what is there to stay */
        snprintf(steps, sizeof(steps), "fmmmdLd%s", after);
        snprintf(key, sizeof(key), "a%u/b/e/f", named);
        expect_steps(t, OK, key, steps);
        snprintf(key, sizeof(key), "top%u", named);
        snprintf(steps, sizeof(steps), "fLd%s", after);
        expect_steps(t, OK, key, steps);
    }
    struct slice s = slice_borrow("y", 1);
    assert_int_equal(store_put(t->store, "a0/b/c", &s, 1, false, STORE_FOR_OTHER), OK);
    assert_string_equal(calls.letters, "fRd");
    begin(0, 0);
    static const char *const keys[] = {"a0/b/c", "a0/b/d", "a0/none/d", "a0/b/none", "a1/b/c"};
    assert_int_equal(store_delete(t->store, keys, 5, STORE_FOR_OTHER), OK);
    assert_string_equal(calls.letters, "UUdUUd"); /* once for names of one folder that follow each other */
    /* One that may not be deleted keeps nobody from the others. */
    enum err each[2];
    static const char *const two[] = {"a0/b/e/f", "a1/b/e/f"};
    begin('U', EPERM);
    assert_int_equal(store_delete_each(t->store, two, 2, STORE_FOR_OTHER, each), OK);
    assert_int_equal(each[0], ERR_PERMISSION);
    assert_int_equal(each[1], OK);
    dir_expect(t, two[0], "x");
    assert_int_equal(store_get(t->store, two[1], 0, 10, STORE_FOR_OTHER, &s), ERR_NOT_FOUND);
    begin('U', EROFS);
    assert_int_equal(store_delete_each(t->store, two, 1, STORE_FOR_OTHER, each), ERR_READ_ONLY);
    begin('U', EPERM);
    assert_int_equal(store_delete(t->store, two, 1, STORE_FOR_OTHER), ERR_PERMISSION);
}
static void test_order(void **state) {
    (void)state;
    begin(0, 0);
    dir_test_run(body_order);
}

/* Every failure before the link: nothing was done, and the next attempt goes well. */
static void body_before_link(struct dir_test *t) {
    static const struct {
        char letter;
        int error;
        enum err result;
    } cases[] = {{'f', EIO, ERR_UNAVAILABLE},   {'f', ENOSPC, ERR_FULL},        {'f', EDQUOT, ERR_FULL},
                 {'m', ENOSPC, ERR_FULL},       {'m', EROFS, ERR_READ_ONLY},    {'m', EIO, ERR_UNAVAILABLE},
                 {'L', ENOSPC, ERR_FULL},       {'L', EROFS, ERR_READ_ONLY},    {'L', EDQUOT, ERR_FULL},
                 {'m', EACCES, ERR_PERMISSION}, {'L', ENOENT, ERR_UNAVAILABLE}, {'m', ENOENT, ERR_UNAVAILABLE}};
    dir_open(t);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char key[64];
        struct slice s;
        snprintf(key, sizeof(key), "%zu/object", i);
        begin(cases[i].letter, cases[i].error);
        enum err e = dir_create(t, key, "x");
        if (e != cases[i].result) fail_msg("case %zu: %s", i, err_name(e));
        assert_int_equal(calls.fail, 0);
        assert_int_not_equal(err_class(e), ERR_CLASS_UNKNOWN);
        assert_null(strstr(calls.letters, "ff")); /* the file that failed is never asked again */
        begin(0, 0);
        assert_int_equal(store_get(t->store, key, 0, 10, STORE_FOR_OTHER, &s), ERR_NOT_FOUND);
        assert_int_equal(dir_create(t, key, "x"), OK);
        dir_expect(t, key, "x");
    }
    /* Told of a link that it failed with EIO, one knows nothing; one looks. */
    begin('L', EIO);
    assert_int_equal(dir_create(t, "0/eio", "x"), ERR_IO);
    assert_int_equal(dir_create(t, "0/eio", "x"), OK);
}
static void test_before_link(void **state) {
    (void)state;
    begin(0, 0);
    dir_test_run(body_before_link);
}

/* The fsync of the folder after the link fails: the outcome is unknown, and nothing is written until a restart. Reading
 * goes on. */
static void body_after_link(struct dir_test *t) {
    for (unsigned round = 0; round < 4; round++) {
        char key[64];
        const char *one = "first/object";
        dir_open(t);
        if (round == 0) assert_int_equal(dir_create(t, one, "x"), OK);
        snprintf(key, sizeof(key), "first/object%u", round);
        begin('d', round & 1 ? EIO : ENOSPC);
        struct slice y = slice_borrow("y", 1);
        enum err e = round < 2    ? dir_create(t, key, "y")
                     : round == 2 ? store_put(t->store, key, &y, 1, false, STORE_FOR_OTHER)
                                  : store_delete(t->store, (const char *const[]){"first/object2"}, 1, STORE_FOR_OTHER);
        assert_int_equal(e, ERR_UNKNOWN_OUTCOME);
        assert_int_equal(calls.fail, 0);
        size_t asked = calls.count;
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(dir_create(t, "second", "x"), ERR_UNAVAILABLE);
            assert_int_equal(dir_create(t, key, "y"), ERR_UNAVAILABLE);
            assert_int_equal(store_delete(t->store, &one, 1, STORE_FOR_OTHER), ERR_UNAVAILABLE);
        }
        assert_int_equal(calls.count, asked); /* nothing is asked again */
        dir_expect(t, one, "x");
        store_close(t->store);
        t->store = NULL;
    }
    /* A folder on the way to the object: of the object nothing was done, and the store is closed all the same. */
    dir_open(t);
    begin('d', EIO);
    assert_int_equal(dir_create(t, "other/object", "x"), ERR_UNAVAILABLE);
    assert_int_equal(dir_create(t, "second", "x"), ERR_UNAVAILABLE);
    dir_reopen(t);
    assert_int_equal(dir_create(t, "other/object", "x"), OK);
    /* Open believes nothing that it could not make durable. */
    store_close(t->store);
    t->store = NULL;
    const char *why;
    struct store *s;
    for (unsigned i = 1; i <= 4; i++) { /* the first is of the folder above, and somebody else's */
        begin('d', EIO);
        calls.skip = i;
        assert_int_not_equal(store_dir_open(t->env, t->path, &s, &why), OK);
        assert_int_equal(calls.fail, 0);
        assert_true(strlen(why) > 10);
        dir_open(t);
        store_close(t->store);
        t->store = NULL;
    }
    /* At open: the root, and every folder with something in it, once. */
    begin(0, 0);
    dir_open(t);
    assert_string_equal(calls.letters,
                        "dmmddddLU"); /* root, first, other, objects; then the probe for nameless files */
}
static void test_after_link(void **state) {
    (void)state;
    begin(0, 0);
    dir_test_run(body_after_link);
}

/* --- What was deleted and is large is freed gradually. */

static enum err large_create(struct dir_test *t, const char *key, size_t size) {
    uint8_t *bytes = mem_zalloc(t->env->mem, size);
    struct slice s = slice_borrow(bytes, size);
    enum err e = store_put(t->store, key, &s, 1, true, STORE_FOR_UPLOAD);
    mem_free(t->env->mem, bytes);
    return e;
}

static int64_t freeing_bytes(struct dir_test *t) {
    return atomic_load(&t->env->metrics->gauges[M_STORE_FREEING]);
}

static void wait_freed(struct dir_test *t) {
    struct dir_freeing *f = &((struct dir_store *)(void *)t->store)->freeing;
    for (bool running = true; running;) {
        fiber_sleep_ns(NS_PER_MS);
        pthread_mutex_lock(&f->lock);
        running = f->running;
        pthread_mutex_unlock(&f->lock);
    }
    assert_int_equal(f->bytes, 0);
    assert_int_equal(freeing_bytes(t), 0);
}

static off_t size_of(struct dir_test *t, const char *name) {
    char path[1024];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", t->path, name);
    return stat(path, &st) == 0 ? st.st_size : -1;
}

static bool tmp_is_empty(struct dir_test *t) {
    char path[1024];
    snprintf(path, sizeof(path), "%s/tmp", t->path);
    DIR *tmp = opendir(path);
    unsigned count = 0;
    while (readdir(tmp)) count++;
    closedir(tmp);
    return count == 2;
}

static void expect_gone(struct dir_test *t, const char *key) {
    struct slice s;
    struct store_listing l;
    assert_int_equal(store_get(t->store, key, 0, 10, STORE_FOR_OTHER, &s), ERR_NOT_FOUND);
    assert_int_equal(store_list(t->store, key, NULL, 10, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 0);
    store_listing_deinit(&l);
}

#define MIB ((size_t)1 << 20)

static void body_freed(struct dir_test *t) {
    static const struct {
        char fails;
        unsigned skip;
        const char *steps;
    } cases[] = {
        {0, 0, "RUdUtftftf"}, /* it goes by way of tmp/, durably so before it is shrunk, and loses its name before that */
        {'R', 0, "RUUd"},     /* it cannot be moved: it goes at once */
        {'t', 0, "RUdUtf"},   /* nor shrunk */
        {'t', 1, "RUdUtftf"}, {'f', 0, "RUdUtftftf"}, {'U', 1, "RUdU"}, /* what keeps a name is not shrunk */
    };
    static const char *const keys[] = {"log/large", "log/small"};
    dir_open(t);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(large_create(t, keys[0], 9 * MIB), OK);
        assert_int_equal(large_create(t, keys[1], MIB - 1), OK);
        begin(cases[i].fails, EXDEV);
        calls.skip = cases[i].skip;
        assert_int_equal(store_delete(t->store, keys, 2, STORE_FOR_OTHER), OK);
        expect_gone(t, keys[0]);
        wait_freed(t);
        bool stays = cases[i].fails == 'U';
        if (strcmp(calls.letters, cases[i].steps) != 0) fail_msg("case %zu: %s", i, calls.letters);
        begin(0, 0);
        assert_int_equal(tmp_is_empty(t), !stays);
        expect_gone(t, keys[0]);
    }
    /* The next open sees to it, and gives its name to no other. */
    store_close(t->store);
    dir_by_hand(t, "tmp/1000", "");
    char path[1024], other[1024];
    snprintf(path, sizeof(path), "%s/tmp/1000", t->path);
    assert_int_equal(truncate(path, 5 * MIB), 0);
    begin(0, 0);
    dir_open(t);
    struct dir_store *d = (struct dir_store *)(void *)t->store;
    assert_int_equal(atomic_load(&d->temporary), 1001);
    wait_freed(t);
    assert_non_null(strstr(calls.letters, "Utf"));
    assert_true(tmp_is_empty(t));
    /* What others have linked stays as it is. */
    assert_int_equal(large_create(t, keys[0], 5 * MIB), OK);
    snprintf(path, sizeof(path), "%s/objects/%s", t->path, keys[0]);
    snprintf(other, sizeof(other), "%s/other", t->path);
    assert_int_equal(link(path, other), 0);
    begin(0, 0);
    assert_int_equal(store_delete(t->store, keys, 1, STORE_FOR_OTHER), OK);
    wait_freed(t);
    assert_string_equal(calls.letters, "RdU");
    assert_int_equal(size_of(t, "other"), 5 * MIB);
    /* That it is deleted could not be made durable: after a power cut it may be there, and then it is whole. */
    assert_int_equal(large_create(t, keys[0], 5 * MIB), OK);
    begin('d', EIO);
    assert_int_equal(store_delete(t->store, keys, 1, STORE_FOR_OTHER), ERR_UNKNOWN_OUTCOME);
    fiber_sleep_ns(5 * NS_PER_MS);
    assert_string_equal(calls.letters, "Rd");
    assert_false(tmp_is_empty(t));
    dir_reopen(t);
    wait_freed(t);
    assert_true(tmp_is_empty(t));
    /* A close frees all at once. */
    for (unsigned i = 0; i < 8; i++) {
        static const char *const three[] = {"log/1", "log/2", "log/3"};
        for (unsigned k = 0; k < 3; k++) assert_int_equal(large_create(t, three[k], 9 * MIB), OK);
        begin(0, 0);
        assert_int_equal(store_delete(t->store, three, 3, STORE_FOR_OTHER), OK);
        if (i % 2 == 1) fiber_sleep_ns(NS_PER_MS);
        assert_true(i % 2 == 1 || freeing_bytes(t) > 0);
        store_close(t->store);
        assert_int_equal(freeing_bytes(t), 0);
        assert_true(tmp_is_empty(t));
        dir_open(t);
    }
}
static void test_freed(void **state) {
    (void)state;
    dir_test_run(body_freed);
}

/* Who reads an object that is deleted and freed meanwhile is told that it is not there; of one that is damaged, that. */
static void body_freed_under_readers(struct dir_test *t) {
    static const size_t sizes[] = {1000, 3 * MIB};
    char path[1024];
    snprintf(path, sizeof(path), "%s/objects/read", t->path);
    dir_open(t);
    for (unsigned i = 0; i < 8; i++) {
        struct slice s;
        struct store_part part = {.key = "read", .position = 1, .size = sizes[1] - 1};
        const char *key = part.key;
        bool composed = i >= 4;
        assert_int_equal(large_create(t, key, sizes[composed || i % 2]), OK);
        shrinks.unlinked = i >= 2 && i < 6;
        shrinks.path = path;
        enum err e = composed ? store_compose(t->store, "composed", &part, 1, STORE_FOR_OTHER)
                              : store_get(t->store, key, 0, sizes[i % 2], STORE_FOR_READ, &s);
        assert_int_equal(e, shrinks.unlinked ? ERR_NOT_FOUND : composed ? ERR_TRUNCATED : ERR_IO);
        assert_null(shrinks.path);
        assert_int_equal(store_delete(t->store, &key, 1, STORE_FOR_OTHER), OK);
    }
}
static void test_freed_under_readers(void **state) {
    (void)state;
    dir_test_run(body_freed_under_readers);
}

/* --- A file system of its own: full, and read-only. Only as root; the mount is seen by this process alone. */

static void body_full(struct dir_test *t) {
    dir_open(t);
    struct mem *m = t->env->mem;
    assert_int_equal(dir_create(t, "log/0", "x"), OK);
    size_t size = 3u << 20;
    uint8_t *bytes = mem_zalloc(m, size);
    memset(bytes, 7, size);
    struct slice large = slice_borrow(bytes, size), half = slice_borrow(bytes, 900u << 10);
    begin(0, 0);
    assert_int_equal(store_put(t->store, "log/large", &large, 1, true, STORE_FOR_OTHER), ERR_FULL);
    assert_int_equal(calls.count, 0); /* met before anything was written, let alone linked */
    unsigned made = 0;
    enum err e;
    char key[64];
    do {
        snprintf(key, sizeof(key), "log/half%u", made);
        e = store_put(t->store, key, &half, 1, true, STORE_FOR_OTHER);
        made += e == OK;
    } while (e == OK && made < 10);
    assert_int_equal(e, ERR_FULL);
    assert_true(made >= 1);
    struct slice s;
    assert_int_equal(store_get(t->store, key, 0, 1, STORE_FOR_OTHER, &s), ERR_NOT_FOUND);
    /* Room again: works again. */
    const char *first = "log/half0";
    assert_int_equal(store_delete(t->store, &first, 1, STORE_FOR_OTHER), OK);
    assert_int_equal(store_put(t->store, key, &half, 1, true, STORE_FOR_OTHER), OK);
    mem_free(m, bytes);
    /* Read-only under the running store, and back. */
    assert_int_equal(mount(NULL, t->parent, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(dir_create(t, "log/1", "x"), ERR_READ_ONLY);
    assert_int_equal(store_put(t->store, "log/0", &half, 1, false, STORE_FOR_OTHER), ERR_READ_ONLY);
    const char *zero = "log/0";
    assert_int_equal(store_delete(t->store, &zero, 1, STORE_FOR_OTHER), ERR_READ_ONLY);
    dir_expect(t, "log/0", "x");
    store_close(t->store);
    t->store = NULL;
    const char *why;
    struct store *again;
    assert_int_equal(store_dir_open(t->env, t->path, &again, &why), ERR_READ_ONLY);
    assert_non_null(strstr(why, "read-only"));
    assert_int_equal(mount(NULL, t->parent, NULL, MS_REMOUNT, NULL), 0);
    dir_open(t);
    assert_int_equal(dir_create(t, "log/1", "x"), OK);
}
static void test_full_and_read_only(void **state) {
    (void)state;
    struct dir_test t = {0};
    dir_test_folder(&t);
    bool mounted = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
                   mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                   mount("oxbow", t.parent, "tmpfs", 0, "size=2m") == 0;
    if (mounted) {
        dir_test_in(&t, body_full);
        assert_int_equal(umount2(t.parent, MNT_DETACH), 0);
    }
    dir_test_remove(t.parent);
    if (!mounted) skip();
}

/* --- Every call of a short life, one after the other: create twice, replace, compose, read, list, delete; and what is
 * large is freed. */

/* Says which call it was. */
#define SWEPT(c) ((c) ? (void)0 : swept_broken(__LINE__, #c))
static _Noreturn void swept_broken(int line, const char *what) {
    fprintf(stderr, "call %u, errno %d%s: line %d: %s\n", sweep.at, sweep.error,
            sweep.ever ? ", and all behind it" : "", line, what);
    _Exit(1);
}

enum { CALL_MADE, CALL_TWICE, CALL_REPLACED, CALL_LAST, CALL_COMPOSED, CALL_DELETED, CALL_LARGE_DELETED, SWEPT_CALLS };

static enum err swept_put(struct dir_test *t, const char *key, const char *text, bool create) {
    struct slice s = slice_borrow(text, strlen(text));
    return store_put(t->store, key, &s, 1, create, STORE_FOR_OTHER);
}

static void swept_life(struct dir_test *t, enum err e[SWEPT_CALLS]) {
    const char *gone = "a/gone";
    struct slice s;
    struct store_listing l;
    e[CALL_MADE] = swept_put(t, "a/b/made", "one", true);
    e[CALL_TWICE] = swept_put(t, "a/b/made", "two", true);
    e[CALL_REPLACED] = swept_put(t, "a/other", "three", false);
    e[CALL_LAST] = swept_put(t, gone, "four", true);
    struct store_part parts[] = {{.data = slice_borrow("my", 2)}, {.key = "a/other", .position = 1, .size = 3}};
    e[CALL_COMPOSED] = store_compose(t->store, "a/c/composed", parts, 2, STORE_FOR_OTHER);
    SWEPT(e[CALL_REPLACED] != OK || e[CALL_COMPOSED] != ERR_NOT_FOUND);
    enum err got = store_get(t->store, "a/b/made", 0, 10, STORE_FOR_OTHER, &s);
    const char *first = e[CALL_MADE] == OK ? "one" : "two"; /* or, of the first, unknown: either */
    SWEPT(got != OK || (s.size == 3 && (err_class(e[CALL_MADE]) == ERR_CLASS_UNKNOWN || !memcmp(s.data, first, 3))));
    SWEPT(e[CALL_MADE] != OK || got != ERR_NOT_FOUND);
    slice_unref(&s);
    got = store_list(t->store, "a/", NULL, 10, STORE_FOR_OTHER, &l);
    SWEPT(got != OK || e[CALL_MADE] != OK || (l.count > 0 && strcmp(l.items[0].key, "a/b/made") == 0));
    store_listing_deinit(&l);
    e[CALL_DELETED] = store_delete(t->store, &gone, 1, STORE_FOR_OTHER);
    const char *large = "a/large";
    (void)large_create(t, large, 5 * MIB);
    e[CALL_LARGE_DELETED] = store_delete(t->store, &large, 1, STORE_FOR_OTHER);
    wait_freed(t);
}

static bool there(struct dir_test *t, const char *key, const char *text) {
    struct slice s;
    enum err e = store_get(t->store, key, 0, 10, STORE_FOR_OTHER, &s);
    SWEPT(e == OK || e == ERR_NOT_FOUND);
    bool found = e == OK;
    if (found) SWEPT(s.size == strlen(text) && memcmp(s.data, text, s.size) == 0);
    slice_unref(&s);
    return found;
}

/* What may be there, and has to be: an answer that is no "unknown" is the truth. */
static void swept_judge(struct dir_test *t, const enum err e[SWEPT_CALLS]) {
    static const char *const keys[] = {"a/b/made", NULL, "a/other", "a/gone", "a/c/composed"},
                             *texts[] = {"one", NULL, "three", "four", "myhre"};
    SWEPT(e[CALL_TWICE] == ERR_EXISTS || e[CALL_TWICE] != OK || e[CALL_MADE] != OK);
    for (unsigned i = 0; i < 5; i++) {
        if (!keys[i]) continue;
        bool second = i == CALL_MADE && e[CALL_MADE] != OK; /* then it is the second who may have made it */
        if (second) continue;
        bool found = there(t, keys[i], texts[i]), deleted = i == CALL_LAST && e[CALL_DELETED] == OK;
        bool perhaps_deleted = i == CALL_LAST && err_class(e[CALL_DELETED]) == ERR_CLASS_UNKNOWN;
        if (deleted) SWEPT(!found);
        if (e[i] == OK && !deleted && !perhaps_deleted) SWEPT(found);
        if (e[i] != OK && err_class(e[i]) != ERR_CLASS_UNKNOWN) SWEPT(!found);
    }
    if (e[CALL_LARGE_DELETED] == OK) SWEPT(!there(t, "a/large", ""));
    wait_freed(t);
    SWEPT(tmp_is_empty(t));
}

static void swept_body(struct dir_test *t) {
    const char *why = "";
    enum err e[SWEPT_CALLS];
    sweep.met = 0;
    sweep.reached = false;
    sweep.on = true;
    enum err opened = store_dir_open(t->env, t->path, &t->store, &why);
    SWEPT(opened == OK || strlen(why) > 10);
    if (opened == OK) {
        swept_life(t, e);
        store_close(t->store);
        t->store = NULL;
    }
    sweep.on = false;
    dir_open(t); /* whatever happened, it can be opened and used */
    if (opened == OK) swept_judge(t, e);
    SWEPT(swept_put(t, "a/after", "five", true) == OK);
    SWEPT(there(t, "a/after", "five"));
}

static void test_every_call(void **state) {
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EMFILE, EACCES};
    begin(0, 0);
    for (unsigned k = 0; k < 2 * ARRAY_LEN(errors); k++) {
        sweep.error = errors[k / 2];
        sweep.ever = k % 2 == 1;
        sweep.reached = true;
        for (sweep.at = 0; sweep.reached; sweep.at++) dir_test_run(swept_body);
        assert_true(sweep.at > 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_before_link),
        cmocka_unit_test(test_after_link),
        cmocka_unit_test(test_every_call),
        cmocka_unit_test(test_full_and_read_only),
        cmocka_unit_test(test_freed),
        cmocka_unit_test(test_freed_under_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
