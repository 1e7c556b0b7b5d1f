/* Fibers on a loop whose clock stands still: parking, wait queues, locks, the pool of stacks, the guard page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "rt/fiber_priv.h"
#include "rt/sanitizer.h"
#include "unit/rt/fake_env.h"

struct fixture {
    struct fake_env fake;
    struct loop loop;
    struct waitq q;
    struct fiber_mutex mutex;
    struct waitgroup group;
    struct fiber *fiber;
    char trace[4096];
    size_t traced;
    int counter;
    bool flag;
};

static int setup(void **state) {
    struct fixture *x = calloc(1, sizeof(*x));
    fake_init(&x->fake);
    loop_init(&x->loop, &x->fake.env, "test", 0);
    loop_set_current(&x->loop);
    waitq_init(&x->q);
    fiber_mutex_init(&x->mutex);
    waitgroup_init(&x->group);
    *state = x;
    return 0;
}

static int teardown(void **state) {
    struct fixture *x = *state;
    loop_deinit(&x->loop);
    assert_null(loop_current());
    assert_int_equal(x->fake.mem.allocated_bytes, 0);
    free(x);
    return 0;
}

static void trace(struct fixture *x, char c) {
    x->trace[x->traced++] = c;
    x->trace[x->traced] = '\0';
}

struct letter {
    struct fixture *x;
    char c;
};

/* --- Spawn, yield, park. */

static void three_letters(void *arg) {
    struct letter *l = arg;
    for (int i = 0; i < 3; i++) {
        trace(l->x, l->c);
        fiber_yield();
    }
}

static void yield_lets_every_other_run(void **state) {
    struct fixture *x = *state;
    struct letter l[3] = {{x, 'a'}, {x, 'b'}, {x, 'c'}};
    for (int i = 0; i < 3; i++) fiber_spawn(&x->loop, "letters", three_letters, &l[i]);
    assert_int_equal(x->traced, 0); /* soon, not now */
    assert_int_equal(x->loop.fibers_alive, 3);
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "abcabcabc");
    assert_int_equal(x->loop.fibers_alive, 0);
    assert_null(fiber_self());
}

static void park_until_flag(void *arg) {
    struct fixture *x = arg;
    assert_ptr_equal(fiber_self(), x->fiber);
    while (!x->flag) {
        trace(x, 'p');
        fiber_park();
    }
    trace(x, 'd');
}

static void unpark_wakes_and_a_token_is_kept(void **state) {
    struct fixture *x = *state;
    x->fiber = fiber_spawn(&x->loop, "park", park_until_flag, x);
    fiber_unpark(x->fiber); /* before it ran: the first park returns at once */
    fiber_unpark(x->fiber); /* one token, not two */
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "pp");
    assert_false(loop_step(&x->loop, x->fake.now_ns));
    assert_string_equal(x->trace, "pp");
    x->flag = true;
    fiber_unpark(x->fiber);
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "ppd");
}

static void sleep_then_park(void *arg) {
    struct fixture *x = arg;
    fiber_sleep_ns(100);
    trace(x, 's');
    fiber_park();
    trace(x, 'p');
}

static void unpark_does_not_cut_a_sleep_short(void **state) {
    struct fixture *x = *state;
    x->fiber = fiber_spawn(&x->loop, "sleep", sleep_then_park, x);
    fake_settle(&x->fake, &x->loop);
    fiber_unpark(x->fiber);
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "");
    x->fake.now_ns += 99;
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "");
    x->fake.now_ns += 1;
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "sp"); /* the token was kept for the park */
}

static void sleep_for_ever(void *arg) {
    struct fixture *x = arg;
    fiber_sleep_ns(UINT64_MAX);
    trace(x, 'x');
}

static void a_sleep_without_end_does_not_wrap(void **state) {
    struct fixture *x = *state;
    fiber_spawn(&x->loop, "sleep", sleep_for_ever, x);
    fake_settle(&x->fake, &x->loop);
    x->fake.now_ns += 1000 * NS_PER_S;
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "");
}

/* --- Wait queues. */

static void wait_letter(void *arg) {
    struct letter *l = arg;
    waitq_wait(&l->x->q);
    trace(l->x, l->c);
}

static void waiters_are_woken_in_order(void **state) {
    struct fixture *x = *state;
    struct letter l[5] = {{x, 'a'}, {x, 'b'}, {x, 'c'}, {x, 'd'}, {x, 'e'}};
    for (int i = 0; i < 5; i++) fiber_spawn(&x->loop, "wait", wait_letter, &l[i]);
    fake_settle(&x->fake, &x->loop);
    assert_false(waitq_empty(&x->q));
    waitq_wake_one(&x->q);
    waitq_wake_one(&x->q);
    assert_string_equal(x->trace, "");
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "ab");
    waitq_wake_all(&x->q);
    assert_true(waitq_empty(&x->q));
    waitq_wake_one(&x->q); /* nobody there */
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "abcde");
}

static void wait_unparked(void *arg) {
    struct fixture *x = arg;
    waitq_wait(&x->q);
    trace(x, 'w');
    fiber_park();
    trace(x, 'p');
}

static void unpark_does_not_end_a_wait(void **state) {
    struct fixture *x = *state;
    x->fiber = fiber_spawn(&x->loop, "wait", wait_unparked, x);
    fake_settle(&x->fake, &x->loop);
    fiber_unpark(x->fiber);
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "");
    waitq_wake_one(&x->q);
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "wp");
}

static void wait_until_1500(void *arg) {
    struct fixture *x = arg;
    trace(x, waitq_wait_until(&x->q, 1500) ? 'w' : 't');
    trace(x, waitq_wait_until(&x->q, 1800) ? 'w' : 't');
}

static void deadlines_end_waits(void **state) {
    struct fixture *x = *state;
    fiber_spawn(&x->loop, "wait", wait_until_1500, x);
    fake_settle(&x->fake, &x->loop);
    assert_int_equal(loop_next_deadline_ns(&x->loop), 1500);
    x->fake.now_ns = 1500;
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "t");
    waitq_wake_one(&x->q);
    assert_int_equal(loop_next_deadline_ns(&x->loop), 0);
    fake_settle(&x->fake, &x->loop);
    assert_string_equal(x->trace, "tw");
    assert_int_equal(loop_next_deadline_ns(&x->loop), UINT64_MAX); /* the timer of the wait is gone */
    assert_true(waitq_empty(&x->q));
}

/* A wake and a deadline in the same step: the wait ends once, and the wake is not lost on a fiber that had timed out.
 */
static void wake_beats_deadline_of_same_step(void **state) {
    struct fixture *x = *state;
    fiber_spawn(&x->loop, "wait", wait_until_1500, x);
    fake_settle(&x->fake, &x->loop);
    x->fake.now_ns = 1500;
    waitq_wake_one(&x->q);
    fake_run(&x->fake, &x->loop);
    assert_string_equal(x->trace, "wt");
}

/* --- Mutex, wait group. */

static void hold_mutex(void *arg) {
    struct letter *l = arg;
    struct fixture *x = l->x;
    fiber_mutex_lock(&x->mutex);
    assert_int_equal(x->counter++, 0);
    trace(x, l->c);
    fiber_yield();
    fiber_sleep_ns(10);
    assert_int_equal(--x->counter, 0);
    fiber_mutex_unlock(&x->mutex);
    /* Comes again at once, but behind those who waited. */
    fiber_mutex_lock(&x->mutex);
    trace(x, (char)(l->c - 'a' + 'A'));
    fiber_mutex_unlock(&x->mutex);
}

static void mutex_is_first_come_first_served(void **state) {
    struct fixture *x = *state;
    struct letter l[4] = {{x, 'a'}, {x, 'b'}, {x, 'c'}, {x, 'd'}};
    for (int i = 0; i < 4; i++) fiber_spawn(&x->loop, "lock", hold_mutex, &l[i]);
    fake_run(&x->fake, &x->loop);
    assert_string_equal(x->trace, "abcdABCD");
    assert_null(x->mutex.owner);
}

static void job(void *arg) {
    struct letter *l = arg;
    fiber_sleep_ns((uint64_t)l->c);
    trace(l->x, l->c);
    waitgroup_done(&l->x->group);
}

static void wait_for_jobs(void *arg) {
    struct fixture *x = arg;
    waitgroup_wait(&x->group);
    trace(x, '!');
}

static void waitgroup_waits_for_all(void **state) {
    struct fixture *x = *state;
    struct letter l[3] = {{x, 'c'}, {x, 'a'}, {x, 'b'}};
    fiber_spawn(&x->loop, "none", wait_for_jobs, x);
    fake_run(&x->fake, &x->loop);
    assert_string_equal(x->trace, "!");
    for (int i = 0; i < 3; i++) {
        waitgroup_add(&x->group);
        fiber_spawn(&x->loop, "job", job, &l[i]);
    }
    fiber_spawn(&x->loop, "waiter", wait_for_jobs, x);
    fiber_spawn(&x->loop, "waiter", wait_for_jobs, x);
    fake_run(&x->fake, &x->loop);
    assert_string_equal(x->trace, "!abc!!");
}

/* --- Many, and the pool. */

static void nothing(void *arg) {
    (void)arg;
}

static void use_stack_and_park(void *arg) {
    struct fixture *x = arg;
    volatile char big[16000];
    for (size_t i = 0; i < sizeof(big); i += 500) big[i] = (char)i;
    double d = (double)x->counter * 1.5;
    fiber_park();
    for (size_t i = 0; i < sizeof(big); i += 500) assert_int_equal(big[i], (char)i);
    x->traced += (size_t)(d >= 0);
    x->counter++;
}

static void thousands_of_fibers(void **state) {
    struct fixture *x = *state;
    enum { N = OXBOW_TSAN ? 500 : 5000 };
    struct fiber **all = calloc(N, sizeof(*all));
    for (int round = 0; round < 3; round++) {
        x->counter = 0;
        for (int i = 0; i < N; i++) all[i] = fiber_spawn(&x->loop, "many", use_stack_and_park, x);
        fake_settle(&x->fake, &x->loop);
        assert_int_equal(x->loop.fibers_alive, N);
        assert_int_equal(x->counter, 0);
        for (int i = 0; i < N; i++) fiber_unpark(all[(i * 7) % N]);
        fake_settle(&x->fake, &x->loop);
        assert_int_equal(x->counter, N);
        assert_int_equal(x->loop.fibers_alive, 0);
        assert_int_equal(x->loop.pool->spare_count, N);
    }
    /* While they are used they stay, however long; then they go back, all but some. */
    for (int i = 0; i < N; i++) fiber_spawn(&x->loop, "many", nothing, NULL);
    x->fake.now_ns += NS_PER_S;
    fake_settle(&x->fake, &x->loop);
    assert_int_equal(x->loop.pool->spare_count, N);
    fake_run(&x->fake, &x->loop);
    assert_int_equal(x->loop.pool->spare_count, 64);
    free(all);
}

static void stacks_are_used_again(void **state) {
    struct fixture *x = *state;
    struct fiber *first = fiber_spawn(&x->loop, "one", nothing, NULL);
    fake_settle(&x->fake, &x->loop);
    for (int i = 0; i < 1000; i++) {
        assert_ptr_equal(fiber_spawn(&x->loop, "again", nothing, NULL), first);
        fake_settle(&x->fake, &x->loop);
    }
    assert_int_equal(x->loop.pool->spare_count, 1);
}

static void dropped_fibers_do_not_run(void **state) {
    struct fixture *x = *state;
    struct loop other;
    loop_init(&other, &x->fake.env, "dropped", 1);
    loop_set_current(&other);
    struct letter l = {x, 'z'};
    fiber_spawn(&other, "wait", wait_letter, &l);
    fiber_spawn(&other, "park", use_stack_and_park, x);
    loop_step(&other, x->fake.now_ns);
    fiber_spawn(&other, "never", nothing, NULL);
    loop_deinit(&other);
    assert_null(loop_current());
    assert_string_equal(x->trace, "");
    loop_set_current(&x->loop);
    waitq_init(&x->q); /* the queue of a crashed loop dies with it */
}

static int recurse(int depth, volatile char *above) {
    volatile char frame[512];
    frame[0] = above ? above[0] : 1;
    if (depth == 0) return frame[0];
    return recurse(depth - 1, frame) + frame[0];
}

static void overflow(void *arg) {
    volatile int *sink = arg;
    *sink = recurse(1 << 20, NULL);
}

static void touch_guard(void *arg) {
    (void)arg;
    volatile char *base = fiber_self()->stack.base;
    base[0] = 1; /* the lowest byte is ours */
    base[-1] = 1;
}

static void dies_of(struct fixture *x, fiber_fn *fn) {
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        if (!freopen("/dev/null", "w", stderr)) _exit(0);
        fiber_spawn(&x->loop, "neighbour", nothing, NULL);
        fiber_spawn(&x->loop, "doomed", fn, &x->counter);
        loop_step(&x->loop, x->fake.now_ns);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (WIFSIGNALED(status)) assert_true(WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGABRT);
}

static void guard_page_ends_the_process(void **state) {
    dies_of(*state, overflow);
    dies_of(*state, touch_guard);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(yield_lets_every_other_run),
        T(unpark_wakes_and_a_token_is_kept),
        T(unpark_does_not_cut_a_sleep_short),
        T(a_sleep_without_end_does_not_wrap),
        T(waiters_are_woken_in_order),
        T(unpark_does_not_end_a_wait),
        T(deadlines_end_waits),
        T(wake_beats_deadline_of_same_step),
        T(mutex_is_first_come_first_served),
        T(waitgroup_waits_for_all),
        T(thousands_of_fibers),
        T(stacks_are_used_again),
        T(dropped_fibers_do_not_run),
        T(guard_page_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
