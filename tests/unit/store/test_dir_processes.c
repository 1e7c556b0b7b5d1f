/* The folder store between processes: one at a time, whoever comes first; and kill -9 at any moment. */
#include <signal.h>
#include <sys/wait.h>

#include "unit/store/dir_fixture.h"

#include "base/random.h"

#define OPENERS 8u

/* Keeps the store open until the other end of the pipe is closed; ends as the result of the open. */
static void body_open_and_hold(struct dir_test *t) {
    int *fds = t->arg;
    const char *why = "";
    enum err e = store_dir_open(t->env, t->path, &t->store, &why);
    char c = e == OK ? 'y' : e == ERR_LOCKED ? 'n' : '?';
    if (write(fds[1], &c, 1) != 1) _exit(9);
    char hold;
    if (e == OK && read(fds[2], &hold, 1) < 0) _exit(9);
}

static void test_one_opens(void **state) {
    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        struct dir_test t = {0};
        dir_test_folder(&t); /* the store's folder itself does not exist yet: they also race to make it */
        int answers[2], hold[2];
        assert_int_equal(pipe(answers), 0);
        assert_int_equal(pipe(hold), 0);
        for (unsigned i = 0; i < OPENERS; i++) {
            pid_t pid = fork();
            assert_true(pid >= 0);
            if (pid == 0) {
                int fds[3] = {answers[0], answers[1], hold[0]};
                close(hold[1]);
                t.arg = fds;
                dir_test_in(&t, body_open_and_hold);
                _exit(0);
            }
        }
        char got[OPENERS] = {0};
        for (unsigned i = 0; i < OPENERS; i++) assert_int_equal(read(answers[0], &got[i], 1), 1);
        close(hold[1]);
        close(hold[0]);
        unsigned opened = 0;
        for (unsigned i = 0; i < OPENERS; i++) {
            assert_int_not_equal(got[i], '?');
            opened += got[i] == 'y';
        }
        assert_int_equal(opened, 1);
        for (unsigned i = 0; i < OPENERS; i++) {
            int status;
            assert_true(wait(&status) > 0);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        close(answers[0]);
        close(answers[1]);
        dir_test_remove(t.parent);
    }
}

/* --- kill -9 */

#define WRITERS 6u

/* Object n's bytes follow from n: its size, and each byte. */
static size_t object_size(unsigned n) {
    return n % 7 == 0 ? 2500000 : n % 3 == 0 ? 0 : 1 + (n * 7919u) % 60000;
}
static void object_fill(unsigned n, uint8_t *out) {
    struct rng r;
    rng_seed(&r, n);
    rng_fill(&r, out, object_size(n));
}
static void object_key(unsigned n, char out[64]) {
    snprintf(out, 64, "log/%u/part-%u/%010u", n % 2, n / 40, n);
}

struct kill_test {
    struct dir_test *test;
    int report; /* numbers whose create was answered OK */
    unsigned next;
};

static void write_for_ever(void *arg) {
    struct kill_test *k = arg;
    struct mem *m = k->test->env->mem;
    for (;;) {
        unsigned n = k->next++;
        char key[64];
        object_key(n, key);
        uint8_t *bytes = mem_alloc(m, object_size(n));
        object_fill(n, bytes);
        struct slice s = slice_borrow(bytes, object_size(n));
        enum err e = store_put(k->test->store, key, &s, 1, n % 5 != 0, STORE_FOR_OTHER);
        mem_free(m, bytes);
        if (e != OK && e != ERR_EXISTS) _exit(3);
        if (write(k->report, &n, sizeof(n)) != sizeof(n)) _exit(4);
    }
}

static void body_write_for_ever(struct dir_test *t) {
    struct kill_test *k = t->arg;
    k->test = t;
    const char *why = "";
    if (store_dir_open(t->env, t->path, &t->store, &why) != OK) _exit(5);
    struct waitgroup never;
    waitgroup_init(&never);
    waitgroup_add(&never);
    for (unsigned i = 0; i < WRITERS; i++) (void)fiber_spawn(loop_current(), "writer", write_for_ever, k);
    waitgroup_wait(&never);
}

static void body_check(struct dir_test *t) {
    const bool *answered = t->arg;
    dir_open(t); /* the lock went with the process */
    struct mem *m = t->env->mem;
    char after[64] = "";
    unsigned found = 0;
    static bool seen[100000];
    memset(seen, 0, sizeof(seen));
    for (bool more = true; more;) {
        struct store_listing l;
        assert_int_equal(store_list(t->store, "log/", after[0] ? after : NULL, 100, STORE_FOR_OTHER, &l), OK);
        for (size_t i = 0; i < l.count; i++) {
            unsigned n = (unsigned)strtoul(strrchr(l.items[i].key, '/') + 1, NULL, 10);
            assert_true(n < ARRAY_LEN(seen));
            assert_int_equal(l.items[i].size_bytes, object_size(n));
            struct slice s;
            assert_int_equal(store_get(t->store, l.items[i].key, 0, SIZE_MAX, STORE_FOR_READ, &s), OK);
            uint8_t *bytes = mem_alloc(m, object_size(n));
            object_fill(n, bytes);
            assert_int_equal(s.size, object_size(n));
            if (s.size > 0) assert_memory_equal(s.data, bytes, s.size); /* whole, or not there */
            mem_free(m, bytes);
            slice_unref(&s);
            seen[n] = true;
            found++;
        }
        if (l.count > 0) snprintf(after, sizeof(after), "%s", l.items[l.count - 1].key);
        more = l.more;
        store_listing_deinit(&l);
    }
    for (unsigned n = 0; n < ARRAY_LEN(seen); n++) assert_true(!answered[n] || seen[n]);
    char path[1024];
    snprintf(path, sizeof(path), "%s/tmp", t->path);
    assert_int_equal(rmdir(path), 0); /* nothing is left in it */
    assert_int_equal(mkdir(path, 0755), 0);
    assert_true(found > 0);
}

static void test_kill(void **state) {
    (void)state;
    struct dir_test t = {0};
    dir_test_folder(&t);
    static bool answered[100000];
    unsigned next = 0, total = 0;
    struct rng r;
    rng_seed(&r, 3);
    for (unsigned round = 0; round < 8; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(fds[0]);
            struct kill_test k = {.report = fds[1], .next = next};
            t.arg = &k;
            dir_test_in(&t, body_write_for_ever);
            _exit(7);
        }
        close(fds[1]);
        /* Killed after so many answers, wherever it is then. */
        unsigned wanted = 5 + (unsigned)rng_below(&r, 60), n;
        for (unsigned i = 0; i < wanted; i++) {
            assert_int_equal(read(fds[0], &n, sizeof(n)), sizeof(n));
            answered[n] = true;
        }
        usleep((useconds_t)rng_below(&r, 5000));
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(fds[0], &n, sizeof(n)) == sizeof(n)) answered[n] = true;
        close(fds[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        t.arg = answered;
        dir_test_in(&t, body_check);
        for (next = 0, n = 0; n < ARRAY_LEN(answered); n++) {
            if (answered[n]) next = n + 1;
        }
        total += wanted;
    }
    assert_true(total > 100);
    dir_test_remove(t.parent);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_opens),
        cmocka_unit_test(test_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
