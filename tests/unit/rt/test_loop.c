/* The loop's core: timers, mail under real threads, calls between loops, single steps, stalls. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rt/loop_priv.h"
#include "unit/rt/fake_env.h"

struct fixture {
    struct fake_env fake;
    struct loop a, b;
    char trace[256];
    size_t traced;
};

static int setup(void **state) {
    struct fixture *x = calloc(1, sizeof(*x));
    fake_init(&x->fake);
    loop_init(&x->a, &x->fake.env, "a", 0);
    loop_init(&x->b, &x->fake.env, "b", 1);
    loop_set_current(&x->a);
    *state = x;
    return 0;
}

static int teardown(void **state) {
    struct fixture *x = *state;
    loop_drop_mail(&x->a);
    loop_drop_mail(&x->b);
    loop_deinit(&x->a);
    loop_deinit(&x->b);
    assert_int_equal(x->fake.mem.allocated_bytes, 0);
    free(x);
    return 0;
}

static void trace(struct fixture *x, char c) {
    assert_true(x->traced + 1 < sizeof(x->trace));
    x->trace[x->traced++] = c;
    x->trace[x->traced] = '\0';
}

/* --- Timers. */

struct test_timer {
    struct timer timer;
    struct fixture *x;
    char c;
    unsigned again;
    uint64_t fired_sequence;
};

static void timer_fires(struct timer *t) {
    struct test_timer *tt = CONTAINER_OF(t, struct test_timer, timer);
    assert_false(timer_armed(t));
    assert_null(fiber_self());
    trace(tt->x, tt->c);
    if (tt->again) {
        tt->again--;
        timer_arm(t, 0);
    }
}

static void timers_fire_in_order_and_ties_as_armed(void **state) {
    struct fixture *x = *state;
    struct test_timer t[6];
    const uint64_t due[6] = {1300, 1100, 1200, 1100, 1300, 1100};
    for (int i = 0; i < 6; i++) {
        t[i] = (struct test_timer){.x = x, .c = (char)('a' + i)};
        timer_init(&t[i].timer, timer_fires);
        assert_false(timer_armed(&t[i].timer));
        timer_disarm(&t[i].timer); /* harmless */
        timer_arm(&t[i].timer, due[i]);
    }
    timer_disarm(&t[3].timer);
    timer_arm(&t[1].timer, 1100); /* moved: now behind f */
    assert_int_equal(loop_next_deadline_ns(&x->a), 1100);
    x->fake.now_ns = 1099;
    assert_false(loop_step(&x->a, x->fake.now_ns));
    assert_string_equal(x->trace, "");
    x->fake.now_ns = 1300;
    assert_false(loop_step(&x->a, x->fake.now_ns));
    assert_string_equal(x->trace, "fbcae");
    assert_int_equal(loop_next_deadline_ns(&x->a), UINT64_MAX);
}

static void timer_armed_for_the_past_waits_for_the_next_step(void **state) {
    struct fixture *x = *state;
    struct test_timer t = {.x = x, .c = 't', .again = 2}, late = {.x = x, .c = 'l'};
    timer_init(&t.timer, timer_fires);
    timer_init(&late.timer, timer_fires);
    timer_arm(&t.timer, 500);
    timer_arm(&late.timer, 900);
    assert_true(loop_step(&x->a, 1000));
    assert_string_equal(x->trace, "t");
    while (loop_step(&x->a, 1000)) {
    }
    assert_string_equal(x->trace, "tttl");
}

static uint64_t last_deadline, last_sequence;
static unsigned fired;
static void random_timer_fires(struct timer *t) {
    assert_true(t->deadline_ns > last_deadline || (t->deadline_ns == last_deadline && t->sequence > last_sequence));
    last_deadline = t->deadline_ns;
    last_sequence = t->sequence;
    fired++;
}

static void heap_survives_random_use(void **state) {
    struct fixture *x = *state;
    enum { N = 500 };
    static struct timer t[N];
    for (int i = 0; i < N; i++) timer_init(&t[i], random_timer_fires);
    for (int i = 0; i < 20000; i++) {
        struct timer *one = &t[rng_below(&x->fake.rng, N)];
        if (rng_chance(&x->fake.rng, 0.4)) {
            timer_disarm(one);
        } else {
            timer_arm(one, 1 + rng_below(&x->fake.rng, 300));
        }
    }
    unsigned armed = 0;
    for (int i = 0; i < N; i++) armed += timer_armed(&t[i]);
    assert_int_equal(armed, x->a.timer_count);
    last_deadline = last_sequence = fired = 0;
    loop_step(&x->a, 1000);
    assert_int_equal(fired, armed);
    assert_true(armed > 100);
}

/* --- Mail. */

struct letter {
    struct mail mail;
    struct fixture *x;
    char c;
    struct letter *reply; /* posted when this one is delivered */
};

static void letter_arrives(struct mail *m) {
    struct letter *l = CONTAINER_OF(m, struct letter, mail);
    assert_ptr_equal(loop_current(), &l->x->b);
    assert_null(fiber_self());
    trace(l->x, l->c);
    if (l->reply) loop_post(&l->x->b, &l->reply->mail);
}

static void mail_arrives_in_order_and_wakes_once(void **state) {
    struct fixture *x = *state;
    struct letter l[4];
    for (int i = 0; i < 4; i++) l[i] = (struct letter){{NULL, letter_arrives}, x, (char)('a' + i), NULL};
    l[0].reply = &l[3];
    for (int i = 0; i < 3; i++) loop_post(&x->b, &l[i].mail);
    assert_int_equal(x->fake.wakes, 1);
    assert_int_equal(loop_next_deadline_ns(&x->b), 0);
    loop_set_current(&x->b);
    assert_true(loop_step(&x->b, 1000));
    assert_string_equal(x->trace, "abc");
    assert_false(loop_step(&x->b, 1000)); /* mail posted during a step is the next one's */
    assert_string_equal(x->trace, "abcd");
}

enum { SENDERS = 4, LETTERS = 20000 };

struct numbered {
    struct mail mail;
    unsigned sender, number;
    unsigned *next;
};
struct sender {
    struct loop *to;
    struct numbered *letters;
};

static void numbered_arrives(struct mail *m) {
    struct numbered *n = CONTAINER_OF(m, struct numbered, mail);
    assert_int_equal(n->next[n->sender], n->number);
    n->next[n->sender]++;
}

static void *send_all(void *arg) {
    struct sender *s = arg;
    for (int i = 0; i < LETTERS; i++) loop_post(s->to, &s->letters[i].mail);
    return NULL;
}

static void mail_of_each_thread_keeps_its_order(void **state) {
    struct fixture *x = *state;
    unsigned next[SENDERS] = {0};
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    for (unsigned s = 0; s < SENDERS; s++) {
        senders[s] = (struct sender){&x->b, calloc(LETTERS, sizeof(struct numbered))};
        for (unsigned i = 0; i < LETTERS; i++) {
            senders[s].letters[i] = (struct numbered){{NULL, numbered_arrives}, s, i, next};
        }
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, &senders[s]), 0);
    }
    loop_set_current(&x->b);
    unsigned total = 0;
    while (total < SENDERS * LETTERS) {
        loop_step(&x->b, 1000);
        total = 0;
        for (unsigned s = 0; s < SENDERS; s++) total += next[s];
    }
    for (unsigned s = 0; s < SENDERS; s++) {
        pthread_join(threads[s], NULL);
        assert_int_equal(next[s], LETTERS);
        free(senders[s].letters);
    }
    assert_int_equal(loop_next_deadline_ns(&x->b), UINT64_MAX);
}

/* --- Calls and spawns. */

static void step_both(struct fixture *x) {
    bool more = true;
    while (more) {
        loop_set_current(&x->a);
        more = loop_step(&x->a, x->fake.now_ns);
        loop_set_current(&x->b);
        more |= loop_step(&x->b, x->fake.now_ns);
        more |= loop_next_deadline_ns(&x->a) == 0;
    }
    loop_set_current(&x->a);
}

static void on_b(void *arg) {
    struct fixture *x = arg;
    assert_ptr_equal(loop_current(), &x->b);
    assert_non_null(fiber_self());
    trace(x, 'b');
    fiber_yield();
    trace(x, 'B');
}

static void on_a_calls_b(void *arg) {
    struct fixture *x = arg;
    trace(x, '1');
    fiber_unpark(fiber_self()); /* a token is not mistaken for the return of a call */
    loop_call(&x->b, on_b, x);
    assert_ptr_equal(loop_current(), &x->a);
    trace(x, '2');
    fiber_park(); /* the token is still there */
    trace(x, '3');
}

static void inline_call(void *arg) {
    trace(arg, 'i');
}

static void on_a_calls_a(void *arg) {
    struct fixture *x = arg;
    struct fiber *self = fiber_self();
    loop_call(&x->a, inline_call, x);
    assert_ptr_equal(fiber_self(), self);
    trace(x, '.');
}

static void call_runs_there_and_returns_here(void **state) {
    struct fixture *x = *state;
    fiber_spawn(&x->a, "caller", on_a_calls_b, x);
    step_both(x);
    assert_string_equal(x->trace, "1bB23");
    fiber_spawn(&x->a, "caller", on_a_calls_a, x);
    loop_step(&x->a, x->fake.now_ns);
    assert_string_equal(x->trace, "1bB23i.");
}

struct order {
    struct fixture *x;
    char c;
};
static void record(void *arg) {
    struct order *o = arg;
    assert_ptr_equal(loop_current(), &o->x->b);
    trace(o->x, o->c);
}
static void call_with_order(void *arg) {
    struct order *o = arg;
    loop_call(&o->x->b, record, o);
}

static void calls_and_spawns_start_in_order(void **state) {
    struct fixture *x = *state;
    struct order o[8];
    for (int i = 0; i < 8; i++) {
        o[i] = (struct order){x, (char)('a' + i)};
        if (i < 4) {
            fiber_spawn(&x->a, "caller", call_with_order, &o[i]);
        } else {
            loop_spawn(&x->b, "spawned", record, &o[i]);
        }
    }
    step_both(x);
    assert_string_equal(x->trace, "efghabcd");
}

/* --- Single steps. */

static void fiber_letter(void *arg) {
    struct order *o = arg;
    trace(o->x, o->c);
    fiber_yield();
    trace(o->x, (char)(o->c - 'a' + 'A'));
}

static void step_one_runs_one_thing_in_order(void **state) {
    struct fixture *x = *state;
    loop_set_current(&x->b);
    assert_false(loop_step_one(&x->b, 1000, 0));
    struct letter mail = {{NULL, letter_arrives}, x, 'm', NULL};
    struct test_timer t = {.x = x, .c = 't'};
    struct order o = {x, 'f'};
    timer_init(&t.timer, timer_fires);
    fiber_spawn(&x->b, "f", fiber_letter, &o);
    timer_arm(&t.timer, 1000);
    loop_post(&x->b, &mail.mail);
    const char *expected[] = {"m", "mt", "mtf", "mtfF"};
    for (int i = 0; i < 4; i++) {
        assert_true(loop_step_one(&x->b, 1000, 0));
        assert_string_equal(x->trace, expected[i]);
    }
    assert_false(loop_step_one(&x->b, 1000, 0));
}

/* Over many choices all orders of begun fibers occur, but fibers begin in the order of their spawn. */
static void step_one_chooses_but_keeps_beginnings_in_order(void **state) {
    struct fixture *x = *state;
    unsigned overtaken = 0;
    for (int round = 0; round < 200; round++) {
        x->traced = 0;
        struct order o[3] = {{x, 'a'}, {x, 'b'}, {x, 'c'}};
        for (int i = 0; i < 3; i++) fiber_spawn(&x->a, "f", fiber_letter, &o[i]);
        while (loop_step_one(&x->a, 1000, rng_next(&x->fake.rng))) {
        }
        assert_int_equal(x->traced, 6);
        assert_true(strchr(x->trace, 'a') < strchr(x->trace, 'b'));
        assert_true(strchr(x->trace, 'b') < strchr(x->trace, 'c'));
        overtaken += strchr(x->trace, 'C') < strchr(x->trace, 'A');
    }
    assert_in_range(overtaken, 10, 150);
}

/* --- Stalls, stop, backoff. */

static void slow(void *arg) {
    struct fixture *x = arg;
    x->fake.now_ns += LOOP_STALL_NS + 7;
}
static void quick(void *arg) {
    struct fixture *x = arg;
    x->fake.now_ns += LOOP_STALL_NS - 1;
}

static void stalls_are_counted(void **state) {
    struct fixture *x = *state;
    for (int i = 0; i < 3; i++) {
        fiber_spawn(&x->a, "quick", quick, x);
        fiber_spawn(&x->a, "slow", slow, x);
    }
    loop_step(&x->a, x->fake.now_ns);
    assert_int_equal(x->fake.metrics.counters[M_LOOP_STALLS][0], 3);
    assert_int_equal(x->fake.metrics.gauges[M_LOOP_STALL_MAX_NS], LOOP_STALL_NS + 7);
}

static void stop_is_seen_and_wakes(void **state) {
    struct fixture *x = *state;
    assert_false(loop_stopping(&x->b));
    loop_stop(&x->b);
    assert_true(loop_stopping(&x->b));
    assert_int_equal(x->fake.wakes, 1);
}

static void back_off(void *arg) {
    struct fixture *x = arg;
    uint64_t longest[4] = {0};
    const unsigned attempts[4] = {1, 3, 40, 200};
    const uint64_t limits[4] = {200, 800, 5000, 5000};
    for (int i = 0; i < 4; i++) {
        for (int n = 0; n < 200; n++) {
            uint64_t before = x->fake.now_ns;
            env_backoff(&x->fake.env, attempts[i], 100, 5000);
            uint64_t waited = x->fake.now_ns - before;
            assert_true(waited <= limits[i]);
            if (waited > longest[i]) longest[i] = waited;
        }
        assert_true(longest[i] > limits[i] / 2);
    }
    trace(x, 'd');
}

static void backoff_grows_and_is_capped(void **state) {
    struct fixture *x = *state;
    fiber_spawn(&x->a, "backoff", back_off, x);
    fake_run(&x->fake, &x->a);
    assert_string_equal(x->trace, "d");
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(timers_fire_in_order_and_ties_as_armed),
        T(timer_armed_for_the_past_waits_for_the_next_step),
        T(heap_survives_random_use),
        T(mail_arrives_in_order_and_wakes_once),
        T(mail_of_each_thread_keeps_its_order),
        T(call_runs_there_and_returns_here),
        T(calls_and_spawns_start_in_order),
        T(step_one_runs_one_thing_in_order),
        T(step_one_chooses_but_keeps_beginnings_in_order),
        T(stalls_are_counted),
        T(stop_is_seen_and_wakes),
        T(backoff_grows_and_is_capped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
