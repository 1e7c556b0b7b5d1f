/* The folder store's order of durable steps, and what it answers when one fails. The system calls that matter are
 * wrapped here: each leaves a letter, and may be made to fail.
 *
 *   f fsync of a file   d fsync of a folder   m mkdir   L link   R rename   U unlink */
#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "unit/store/dir_fixture.h"

#include "store/dir_priv.h"

static struct {
    char letters[4096];
    _Atomic size_t count;
    char fail; /* the letter that fails, once, after `skip` that do not */
    unsigned skip;
    int error;
} calls;

static bool step(char letter) {
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
    return step(folder ? 'd' : 'f') ? (int)syscall(SYS_fsync, fd) : -1;
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_before_link),
        cmocka_unit_test(test_after_link),
        cmocka_unit_test(test_full_and_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
