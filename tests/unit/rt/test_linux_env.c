/* The real environment beside files and sockets: offload, signals, loops in several threads, idleness. */
#include "unit/rt/linux_fixture.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* --- Offload. */

struct offloaded {
    pthread_t thread;
    bool on_a_loop;
};

static void note_thread(void *arg) {
    struct offloaded *o = arg;
    o->thread = pthread_self();
    o->on_a_loop = loop_current() || fiber_self();
    usleep(1000);
}

static void offload_runs_on_another_thread(struct linux_fixture *x) {
    struct offloaded o = {.on_a_loop = true};
    struct fiber *self = fiber_self();
    env_offload(x->env, note_thread, &o);
    assert_false(pthread_equal(o.thread, pthread_self()));
    assert_false(o.on_a_loop);
    assert_ptr_equal(fiber_self(), self);
}
TEST_BOTH(offload_runs_on_another_thread)

struct many {
    struct linux_fixture *x;
    struct waitgroup group;
    _Atomic unsigned now, most, done;
};

static void count_running(void *arg) {
    struct many *m = arg;
    unsigned now = atomic_fetch_add(&m->now, 1) + 1, most = atomic_load(&m->most);
    while (now > most && !atomic_compare_exchange_weak(&m->most, &most, now)) {
    }
    usleep(500);
    atomic_fetch_sub(&m->now, 1);
    atomic_fetch_add(&m->done, 1);
}

static void offload_one(void *arg) {
    struct many *m = arg;
    env_offload(m->x->env, count_running, m);
    waitgroup_done(&m->group);
}

static void workers_are_bounded_and_all_work_is_done(struct linux_fixture *x) {
    struct many m = {.x = x};
    waitgroup_init(&m.group);
    for (int i = 0; i < 200; i++) {
        waitgroup_add(&m.group);
        fiber_spawn(loop_current(), "offload", offload_one, &m);
    }
    waitgroup_wait(&m.group);
    assert_int_equal(m.done, 200);
    assert_in_range(m.most, 2, 8);
}
TEST_BOTH(workers_are_bounded_and_all_work_is_done)

/* --- Signals. */

static void thread_id(void *arg) {
    *(long *)arg = syscall(SYS_gettid);
}

struct signals {
    unsigned counts[3];
    unsigned seen;
    struct waitq changed;
};

static void terminated(void *arg, unsigned count) {
    struct signals *s = arg;
    assert_null(fiber_self());
    assert_non_null(loop_current());
    s->counts[s->seen++] = count;
    waitq_wake_all(&s->changed);
}

static void signals_are_counted_on_loop_0(struct linux_fixture *x) {
    struct signals s = {.seen = 0};
    waitq_init(&s.changed);
    struct loop *other;
    long thread = 0;
    assert_int_equal(env_loop_start(x->env, "before", &other), OK); /* a thread from before must not take them */
    loop_call(other, thread_id, &thread);
    linux_env_on_terminate(x->env, terminated, &s);
    const int signals[3] = {SIGTERM, SIGINT, SIGTERM};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(kill(getpid(), signals[i]), 0);
        while (s.seen <= i) waitq_wait(&s.changed);
        assert_int_equal(s.counts[i], i + 1);
    }
    assert_int_equal(raise(SIGPIPE), 0); /* ignored */
}
TEST_BOTH(signals_are_counted_on_loop_0)

/* --- Loops. */

enum { LOOPS = 4, ROUNDS = 300 };

struct ring {
    struct linux_fixture *x;
    struct loop *loops[LOOPS];
    _Atomic unsigned hops;
    struct waitgroup group;
};
struct hop {
    struct ring *ring;
    unsigned at, left;
};

static void hop(void *arg) {
    struct hop *h = arg;
    assert_ptr_equal(loop_current(), h->ring->loops[h->at]);
    atomic_fetch_add(&h->ring->hops, 1);
    if (h->left == 0) return;
    struct hop next = {h->ring, (h->at + 1) % LOOPS, h->left - 1};
    loop_call(h->ring->loops[next.at], hop, &next);
    assert_ptr_equal(loop_current(), h->ring->loops[h->at]);
}

static void hop_around(void *arg) {
    struct ring *r = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct hop first = {r, i % LOOPS, 9};
        loop_call(r->loops[first.at], hop, &first);
    }
    waitgroup_done(&r->group);
}

static void loops_call_each_other(struct linux_fixture *x) {
    struct ring r = {.x = x};
    waitgroup_init(&r.group);
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(env_loop_start(x->env, "ring", &r.loops[i]), OK);
        assert_int_equal(r.loops[i]->index, i + 1);
        assert_string_equal(r.loops[i]->name, "ring");
    }
    for (int i = 0; i < 4; i++) {
        waitgroup_add(&r.group);
        fiber_spawn(loop_current(), "hopper", hop_around, &r);
    }
    waitgroup_wait(&r.group);
    assert_int_equal(r.hops, 4 * ROUNDS * 10);
    loop_stop(r.loops[2]); /* one early, the others with the environment */
}
TEST_BOTH(loops_call_each_other)

static void park_for_ever(void *arg) {
    (void)arg;
    for (;;) fiber_park();
}

static void loops_stop_with_fibers_parked_and_mail_unread(struct linux_fixture *x) {
    for (int i = 0; i < 8; i++) {
        struct loop *stopped, *parked;
        assert_int_equal(env_loop_start(x->env, "stopped", &stopped), OK);
        assert_int_equal(env_loop_start(x->env, "parked", &parked), OK);
        loop_stop(stopped);
        loop_spawn(stopped, "maybe never", park_for_ever, NULL);
        loop_spawn(parked, "parked", park_for_ever, NULL);
    }
}
TEST_BOTH(loops_stop_with_fibers_parked_and_mail_unread)

static void sleeps_last_their_time(struct linux_fixture *x) {
    const uint64_t times[4] = {1000, 300 * NS_PER_US, 2 * NS_PER_MS + 1, 11 * NS_PER_MS};
    for (int i = 0; i < 4; i++) {
        uint64_t before = env_now_ns(x->env);
        fiber_sleep_ns(times[i]);
        assert_true(env_now_ns(x->env) >= before + times[i]);
    }
    assert_true(env_wall_ms(x->env) > 1600000000000);
    uint64_t a[40] = {0}, b[40] = {0};
    env_random(x->env, a, sizeof(a));
    env_random(x->env, b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_true(linux_resident_bytes() > 500000);
}
TEST_BOTH(sleeps_last_their_time)

/* --- An idle loop sleeps: its thread is not switched to once. */

static long switches_of(long thread) {
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/self/task/%ld/status", thread);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    long voluntary = -1, n;
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1) voluntary = n;
    }
    fclose(f);
    assert_true(voluntary >= 0);
    return voluntary;
}

static void an_idle_loop_never_wakes(struct linux_fixture *x) {
    struct loop *idle;
    long thread = 0;
    assert_int_equal(env_loop_start(x->env, "idle", &idle), OK);
    loop_call(idle, thread_id, &thread);
    loop_spawn(idle, "parked", park_for_ever, NULL);
    fiber_sleep_ns(50 * NS_PER_MS); /* let it fall asleep */
    long before = switches_of(thread);
    fiber_sleep_ns(200 * NS_PER_MS);
    assert_int_equal(switches_of(thread), before);
    loop_call(idle, thread_id, &thread); /* it is still there */
    while (switches_of(thread) == before) fiber_sleep_ns(NS_PER_MS);
}
TEST_BOTH(an_idle_loop_never_wakes)

/* --- Creation. */

static void auto_finds_a_back_end(void **state) {
    (void)state;
    struct linux_env_options o = {.io = LINUX_IO_AUTO, .level = LOG_NONE};
    struct env *e;
    const char *why;
    assert_int_equal(linux_env_create(&o, &e, &why), OK);
    assert_string_equal(why, "");
    assert_true(strcmp(linux_env_io_name(e), "io_uring") == 0 || strcmp(linux_env_io_name(e), "epoll") == 0);
    linux_env_destroy(e);
}

/* Where io_uring is forbidden, as in many containers: "auto" falls back, an explicit wish is refused with a reason. */
static void forbid_io_uring(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(code), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(77);
}

static void write_a_file(void *arg) {
    struct env *e = arg;
    struct env_file *f;
    struct env_bytes piece = {&f, sizeof(f)};
    if (env_file_open(e, "/tmp/oxbow-test-fallback", ENV_FILE_CREATE, &f) || env_file_write(e, f, 0, &piece, 1))
        _exit(3);
    env_file_close(e, f);
    if (env_file_remove(e, "/tmp/oxbow-test-fallback")) _exit(4);
    loop_stop(linux_env_loop0(e));
}

static void forbidden_io_uring_falls_back(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        forbid_io_uring();
        struct linux_env_options o = {.io = LINUX_IO_URING, .level = LOG_NONE};
        struct env *e;
        const char *why = NULL;
        if (linux_env_create(&o, &e, &why) != ERR_UNSUPPORTED || !why || !strstr(why, "io_uring")) _exit(1);
        o.io = LINUX_IO_AUTO;
        if (linux_env_create(&o, &e, &why) != OK || strcmp(linux_env_io_name(e), "epoll") != 0) _exit(2);
        linux_env_run(e, write_a_file, e);
        linux_env_destroy(e);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip();
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RUN_BOTH(offload_runs_on_another_thread),
        RUN_BOTH(workers_are_bounded_and_all_work_is_done),
        RUN_BOTH(signals_are_counted_on_loop_0),
        RUN_BOTH(loops_call_each_other),
        RUN_BOTH(loops_stop_with_fibers_parked_and_mail_unread),
        RUN_BOTH(sleeps_last_their_time),
        RUN_BOTH(an_idle_loop_never_wakes),
        cmocka_unit_test(auto_finds_a_back_end),
        cmocka_unit_test(forbidden_io_uring_falls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
