/* The world and its nodes: determinism, interleavings, time, crashes that drop everything, leaks that are reported. */
#include "sim_test.h"

#include <string.h>

#include "sim/run.h"

/* --- Determinism. */

static void noisy_fiber(void *arg) {
    uint64_t *out = arg;
    struct env *env = loop_current()->env;
    for (int i = 0; i < 20; i++) {
        uint64_t r;
        env_random(env, &r, sizeof(r));
        fiber_sleep_ns(r % NS_PER_MS);
        *out = *out * 31 + (r & 0xff);
    }
}

struct noisy {
    uint64_t a, b;
};

static void noisy_main(void *arg) {
    struct noisy *n = arg;
    struct loop *other;
    assert_int_equal(loop_current()->env->ops->loop_start(loop_current()->env, "other", &other), OK);
    fiber_spawn(loop_current(), "a", noisy_fiber, &n->a);
    loop_call(other, noisy_fiber, &n->b);
}

static uint64_t noisy_hash(uint64_t seed) {
    struct sim_world *w = test_world(seed);
    struct noisy n = {0};
    test_run(sim_node_create(w, "n"), noisy_main, &n);
    uint64_t hash = sim_world_hash(w) ^ n.a ^ n.b;
    sim_world_destroy(w);
    return hash;
}

static void same_seed_same_run(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint64_t first = noisy_hash(seed);
        void *shift = test_malloc(1000 + seed * 64); /* other addresses */
        assert_int_equal(noisy_hash(seed), first);
        assert_int_not_equal(noisy_hash(seed + 1), first);
        test_free(shift);
    }
}

/* --- The scheduler tries different orders. */

struct order {
    char text[8];
    size_t n;
};

static void order_fiber_a(void *arg) {
    struct order *o = arg;
    fiber_yield();
    o->text[o->n++] = 'a';
}

static void order_fiber_b(void *arg) {
    struct order *o = arg;
    fiber_yield();
    o->text[o->n++] = 'b';
}

static void order_main(void *arg) {
    fiber_spawn(loop_current(), "a", order_fiber_a, arg);
    fiber_spawn(loop_current(), "b", order_fiber_b, arg);
}

static void orders_vary(void **state) {
    (void)state;
    int ab = 0, ba = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_world *w = test_world(seed);
        struct order o = {0};
        test_run(sim_node_create(w, "n"), order_main, &o);
        assert_int_equal(o.n, 2);
        *(strcmp(o.text, "ab") == 0 ? &ab : &ba) += 1;
        sim_world_destroy(w);
    }
    assert_true(ab > 5);
    assert_true(ba > 5);
}

/* --- Time. */

static void sleep_main(void *arg) {
    uint64_t *slept = arg;
    struct env *env = loop_current()->env;
    uint64_t from = env_now_ns(env);
    int64_t wall = env_wall_ms(env);
    fiber_sleep_ns(7 * NS_PER_S);
    *slept = env_now_ns(env) - from;
    assert_in_range((uint64_t)(env_wall_ms(env) - wall), 7000, 7001);
}

static void time_is_virtual(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    uint64_t slept = 0;
    test_run(sim_node_create(w, "n"), sleep_main, &slept);
    assert_in_range(slept, 7 * NS_PER_S, 7 * NS_PER_S + NS_PER_MS);
    sim_world_destroy(w);
}

static void pause_delays(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    struct sim_node *n = sim_node_create(w, "n");
    uint64_t slept = 0;
    sim_node_start(n, sleep_main, &slept);
    test_pass(w, NS_PER_S);
    sim_node_pause(n, 60 * NS_PER_S);
    /* The wall clock went on as well, which the fiber asserts against; so look only at when it wakes. */
    test_pass(w, 59 * NS_PER_S);
    assert_true(sim_node_up(n));
    assert_int_equal(slept, 0);
    sim_node_crash(n, SIM_KILL);
    sim_world_destroy(w);
}

static void idle_world_ends(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    assert_int_equal(sim_world_run(w, 100, NULL, NULL), SIM_END_IDLE);
    sim_world_destroy(w);
}

/* --- Crashes and memory. */

static void hoard_fiber(void *arg) {
    struct mem *m = loop_current()->env->mem;
    uint64_t *reached = arg;
    void *kept = mem_alloc(m, 100);
    for (;;) {
        kept = mem_realloc(m, kept, 5000);
        void *more = mem_aligned(m, 8192, 4096);
        assert_int_equal((uintptr_t)more % 4096, 0);
        fiber_sleep_ns(NS_PER_MS);
        *reached += 1;
        mem_free(m, more);
        void *zero = mem_zalloc(m, 64);
        assert_int_equal(*(uint64_t *)zero, 0);
    }
}

static void hoard_main(void *arg) {
    struct loop *other;
    assert_int_equal(loop_current()->env->ops->loop_start(loop_current()->env, "other", &other), OK);
    loop_spawn(other, "hoard", hoard_fiber, arg);
    for (int i = 0; i < 5; i++) fiber_spawn(loop_current(), "hoard", hoard_fiber, arg);
    loop_call(other, hoard_fiber, arg);
}

/* The sanitizer's leak check sees what this forgets. */
static void crash_drops_everything(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct sim_world *w = test_world(seed);
        struct sim_node *n = sim_node_create(w, "n");
        uint64_t reached = 0;
        for (int round = 0; round < 3; round++) {
            sim_node_start(n, hoard_main, &reached);
            sim_node_crash_in(n, sim_between(w, 1, 80), round & 1 ? SIM_KILL : SIM_POWER_CUT);
            test_until_down(n);
            assert_int_equal(sim_node_blocks(n), 0);
            uint64_t before = reached;
            test_pass(w, NS_PER_S);
            assert_int_equal(reached, before); /* nothing of it runs any more */
        }
        assert_int_equal(w->fault_counts[SIM_CRASH_KILL], 1);
        assert_int_equal(w->fault_counts[SIM_CRASH_POWER], 2);
        sim_world_destroy(w);
    }
}

static void own_crash_main(void *arg) {
    sim_node_crash(arg, SIM_KILL);
    assert_true(sim_node_up(arg)); /* until the step ends */
    fiber_yield();
    fail();
}

static void a_node_crashes_itself(void **state) {
    (void)state;
    struct sim_world *w = test_world(3);
    struct sim_node *n = sim_node_create(w, "n");
    test_run(n, own_crash_main, n);
    sim_world_destroy(w);
}

static void leak_main(void *arg) {
    (void)arg;
    (void)mem_alloc(loop_current()->env->mem, 77);
}

static void leaks_are_reported(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    sim_node_start(sim_node_create(w, "n"), leak_main, NULL);
    assert_int_equal(sim_world_run(w, TEST_STEPS, NULL, NULL), SIM_END_FAILED);
    assert_non_null(strstr(w->failure, "left 1 blocks"));
    sim_world_destroy(w);
}

static void failure_main(void *arg) {
    sim_fail(arg, "promise %d", 7);
    sim_fail(arg, "another");
}

static void the_first_failure_stays(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    sim_node_start(sim_node_create(w, "n"), failure_main, w);
    assert_int_equal(sim_world_run(w, TEST_STEPS, NULL, NULL), SIM_END_FAILED);
    assert_string_equal(w->failure, "promise 7");
    sim_world_destroy(w);
}

static void offload_fn(void *arg) {
    *(int *)arg += 1;
}

static void offload_main(void *arg) {
    struct env *env = loop_current()->env;
    uint64_t from = env_now_ns(env);
    env->ops->offload(env, offload_fn, arg);
    assert_true(env_now_ns(env) > from);
}

static void offload_runs(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    int ran = 0;
    test_run(sim_node_create(w, "n"), offload_main, &ran);
    assert_int_equal(ran, 1);
    sim_world_destroy(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_run),      cmocka_unit_test(orders_vary),
        cmocka_unit_test(time_is_virtual),         cmocka_unit_test(pause_delays),
        cmocka_unit_test(idle_world_ends),         cmocka_unit_test(crash_drops_everything),
        cmocka_unit_test(a_node_crashes_itself),   cmocka_unit_test(leaks_are_reported),
        cmocka_unit_test(the_first_failure_stays), cmocka_unit_test(offload_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
