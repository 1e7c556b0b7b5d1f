/* The world and its nodes: determinism, interleavings, time, crashes that drop everything, leaks that are reported. */
#include "sim_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/atlas.h"
#include "sim/disk.h"
#include "sim/net.h"
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

/* --- Clocks that are wrong. */

static void a_clock_and_its_inverse(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    for (int i = 0; i < 20000; i++) {
        struct sim_clock c = {.world_ns = rng_below(&rng, 1000 * NS_PER_S),
                              .shown_ns = rng_below(&rng, 1000 * NS_PER_S),
                              .rate = (uint32_t)(700000 + rng_below(&rng, 600001))};
        if (rng_chance(&rng, 0.2)) c.rate = SIM_CLOCK_RATE;
        if (rng_chance(&rng, 0.3)) c.still_until_ns = c.world_ns + rng_below(&rng, 100 * NS_PER_S);
        uint64_t wanted = rng_below(&rng, 5000 * NS_PER_S), when = sim_clock_when(&c, wanted);
        assert_true(sim_clock_read(&c, when) >= wanted);
        if (when > 0) assert_true(sim_clock_read(&c, when - 1) < wanted);
        uint64_t now = c.world_ns + rng_below(&rng, 200 * NS_PER_S), shown = sim_clock_read(&c, now);
        sim_clock_change(&c, now, 900000, now + 50);
        assert_int_equal(sim_clock_read(&c, now + 50), shown); /* never back, no leap */
        assert_int_equal(sim_clock_read(&c, now + 50 + 1000), shown + 900);
        assert_int_equal(sim_clock_when(&c, UINT64_MAX), UINT64_MAX);
    }
}

struct clocks { /* what a node saw of its clocks while it worked for a while of the world's time */
    struct sim_node *node;
    uint64_t world_ns, shown_ns, longest_still_ns;
    unsigned wall_leaps, steps;
};

static void clocks_main(void *arg) {
    struct clocks *c = arg;
    struct env *env = loop_current()->env;
    struct sim_world *w = c->node->world;
    uint64_t began = w->now_ns, shown = env_now_ns(env), last = shown, last_world = began;
    int64_t wall = env_wall_ms(env);
    while (w->now_ns < began + 600 * NS_PER_S) {
        uint64_t asked = w->now_ns;
        sim_suspend(c->node, 200 * NS_PER_MS); /* no timer: it runs on while the clock stands still */
        int64_t wall_now = env_wall_ms(env), passed = (int64_t)((w->now_ns - asked) / NS_PER_MS);
        int64_t leap = wall_now - wall - passed;
        c->wall_leaps += leap > 5 || leap < -5;
        wall = wall_now;
        uint64_t now = env_now_ns(env);
        assert_true(now >= last);
        if (now > last) last_world = asked;
        if (now == last && w->now_ns - last_world > c->longest_still_ns) c->longest_still_ns = w->now_ns - last_world;
        last = now;
        c->steps++;
    }
    c->shown_ns = last - shown;
    c->world_ns = w->now_ns - began;
}

static struct clocks clocks_run(uint64_t seed, enum sim_fault f, double chance, bool steady) {
    struct sim_world *w = test_world(seed);
    w->faults.chance[f] = chance;
    struct clocks c = {.node = sim_node_create(w, "n")};
    c.node->steady = steady;
    test_run(c.node, clocks_main, &c);
    assert_int_equal(w->fault_counts[f] > 0, !steady && chance > 0);
    sim_world_destroy(w);
    return c;
}

static void wall_clocks_jump(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        assert_true(clocks_run(seed, SIM_CLOCK_JUMP, 0.5, false).wall_leaps > 5);
        assert_int_equal(clocks_run(seed, SIM_CLOCK_JUMP, 0, false).wall_leaps, 0);
        assert_int_equal(clocks_run(seed, SIM_CLOCK_JUMP, 0.5, true).wall_leaps, 0);
    }
}

static void monotonic_clocks_drift(void **state) {
    (void)state;
    unsigned slow = 0, fast = 0, much = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct clocks c = clocks_run(seed, SIM_CLOCK_DRIFT, 1, false);
        slow += c.shown_ns < c.world_ns;
        fast += c.shown_ns > c.world_ns;
        much += c.shown_ns * 100 < c.world_ns * 97 || c.shown_ns * 100 > c.world_ns * 103;
        assert_in_range(c.shown_ns * 100 / c.world_ns, 69, 131);
        assert_int_equal(c.wall_leaps, 0);
    }
    assert_true(slow > 10 && fast > 10 && much > 0);
    struct clocks c = clocks_run(1, SIM_CLOCK_DRIFT, 1, true);
    assert_int_equal(c.shown_ns, c.world_ns);
}

static void monotonic_clocks_stand_still_while_the_process_runs(void **state) {
    (void)state;
    uint64_t longest = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct clocks c = clocks_run(seed, SIM_CLOCK_STILL, 0.3, false);
        assert_true(c.shown_ns < c.world_ns);
        assert_true(c.steps > 2000);
        if (c.longest_still_ns > longest) longest = c.longest_still_ns;
    }
    assert_true(longest > 60 * NS_PER_S);
}

static void nap_main(void *arg) {
    fiber_sleep_ns(NS_PER_S);
    *(bool *)arg = true;
}

/* A timer waits until its own clock has come; a heal lets the clock go on. */
static void timers_follow_their_clock(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    struct sim_node *n = sim_node_create(w, "n");
    bool woke = false;
    sim_node_start(n, nap_main, &woke);
    assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS); /* it sleeps */
    sim_clock_change(&n->clock, w->now_ns, 700000, w->now_ns + 100 * NS_PER_S);
    test_pass(w, 101 * NS_PER_S);
    assert_false(woke);
    test_pass(w, NS_PER_S);
    assert_true(woke);
    woke = false;
    sim_node_start(n, nap_main, &woke);
    assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
    sim_clock_change(&n->clock, w->now_ns, SIM_CLOCK_RATE, w->now_ns + 100 * NS_PER_S);
    sim_world_heal(w);
    test_pass(w, 2 * NS_PER_S);
    assert_true(woke);
    sim_world_destroy(w);
}

static void wall_clocks_differ_by_hours(void **state) {
    (void)state;
    unsigned hours = 0, seconds = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct sim_world *w = test_world(seed);
        w->faults.chance[SIM_CLOCK_SKEW] = seed % 2 ? 1 : 0;
        int64_t skew = sim_node_create(w, "n")->wall_skew_ms;
        if (skew < 0) skew = -skew;
        hours += skew > 3600000;
        seconds += skew <= 10000;
        assert_true(seed % 2 || skew <= 10000);
        sim_world_destroy(w);
    }
    assert_true(hours > 5 && seconds > 50);
}

/* --- Machines. */

static void keep_main(void *arg) {
    struct env *env = loop_current()->env;
    struct env_file *f;
    for (int i = 0; i < 2; i++) {
        enum err e = env_file_open(env, i ? "/dev/x" : "f", i ? ENV_FILE_DIRECT : ENV_FILE_CREATE, &f);
        assert_int_equal(e, OK);
        uint8_t *data = mem_aligned(env->mem, SIM_SECTOR, ENV_FILE_ALIGN);
        memset(data, 'k', SIM_SECTOR);
        assert_int_equal(env_file_write(env, f, 0, &(struct env_bytes){data, SIM_SECTOR}, 1), OK);
        assert_int_equal(env_file_sync(env, f), OK);
    }
    assert_int_equal(env_dir_sync(env, "."), OK);
    *(bool *)arg = true;
    for (;;) fiber_park();
}

static bool is_true(void *arg) {
    return *(bool *)arg;
}

static void a_machine_is_lost_with_its_disks(void **state) {
    (void)state;
    struct sim_world *w = test_world(4);
    struct sim_node *n = sim_node_create(w, "n"), *beside = sim_node_create_beside(n, "beside");
    struct sim_file *device = sim_device_create(w, 8 * SIM_SECTOR);
    sim_device_attach(n, "/dev/x", device);
    bool kept = false, woke = false;
    sim_node_start(beside, nap_main, &woke);
    sim_node_start(n, keep_main, &kept);
    assert_int_equal(sim_world_run(w, TEST_STEPS, is_true, &kept), SIM_END_DONE);
    sim_node_crash(n, SIM_POWER_CUT);
    assert_non_null(sim_disk_find(n->disk, "f")); /* durable */
    w->faults.off[SIM_MACHINE_LOST] = true;
    assert_false(sim_node_lose_machine(n));
    assert_non_null(sim_disk_find(n->disk, "f"));
    w->faults.off[SIM_MACHINE_LOST] = false;
    sim_node_start(beside, nap_main, &woke);
    assert_true(sim_node_lose_machine(n));
    assert_false(sim_node_up(beside));
    assert_null(sim_disk_find(n->disk, "f"));
    assert_ptr_equal(n->disk, beside->disk);
    assert_int_equal(w->fault_counts[SIM_MACHINE_LOST], 1);
    uint8_t byte = 0;
    assert_int_equal(sim_file_peek(device, 0, &byte, 1), 1);
    assert_int_equal(byte, 'k'); /* a device lies elsewhere */
    kept = false;
    sim_node_start(n, keep_main, &kept); /* the machine in its place works */
    assert_int_equal(sim_world_run(w, TEST_STEPS, is_true, &kept), SIM_END_DONE);
    assert_int_equal(w->fault_counts[SIM_RESTART], 2);
    sim_device_unref(device);
    sim_world_destroy(w);
}

/* --- Switches, heal, atlas. */

static void what_is_off_never_happens(void **state) {
    (void)state;
    struct sim_world *w = test_world(4);
    struct sim_node *n = sim_node_create(w, "n");
    sim_faults_usual(&w->faults);
    for (unsigned f = 0; f < SIM_FAULTS; f++) {
        w->faults.chance[f] = 1;
        assert_true(sim_fault(w, (enum sim_fault)f));
        w->faults.off[f] = true;
        assert_false(sim_fault(w, (enum sim_fault)f));
        assert_false(sim_fault_allowed(w, (enum sim_fault)f));
    }
    bool woke = false;
    sim_node_start(n, nap_main, &woke);
    sim_node_pause(n, 100 * NS_PER_S);
    sim_net_cut(w, n, n, true);
    assert_int_equal(w->net_cut[n->id], 0);
    test_pass(w, 2 * NS_PER_S);
    assert_true(woke);
    sim_world_destroy(w);
}

static void a_heal_ends_what_lasts(void **state) {
    (void)state;
    struct sim_world *w = test_world(4);
    struct sim_node *n = sim_node_create(w, "n");
    bool woke = false;
    sim_node_start(n, nap_main, &woke);
    sim_node_pause(n, 1000 * NS_PER_S);
    sim_node_crash_in(n, 1, SIM_KILL);
    sim_node_crash_in_effects(n, 1, SIM_KILL);
    sim_net_cut(w, n, n, true);
    sim_world_heal(w);
    assert_int_equal(w->net_cut[n->id], 0);
    test_pass(w, 2 * NS_PER_S);
    assert_true(woke);
    w->faults.chance[SIM_NET_SLOW] = 1;
    assert_false(sim_fault(w, SIM_NET_SLOW));
    sim_world_destroy(w);
}

static void pauses_are_seconds_or_minutes(void **state) {
    (void)state;
    struct sim_world *w = test_world(4);
    unsigned minutes = 0;
    for (int i = 0; i < 1000; i++) minutes += sim_node_pause_ns(w) > 60 * NS_PER_S;
    assert_in_range(minutes, 50, 400);
    sim_world_destroy(w);
}

static void the_atlas_keeps_a_run_inside(void **state) {
    (void)state;
    for (unsigned c = 0; c < SIM_CLASSES; c++) {
        unsigned on[SIM_OUTSIDE + 1] = {0};
        for (unsigned worst = 0; worst <= SIM_OUTSIDE; worst++) {
            struct sim_world *w = test_world(1);
            sim_faults_within(w, (enum sim_class)c, (enum sim_promise)worst);
            for (unsigned f = 0; f < SIM_FAULTS; f++) {
                bool inside = sim_atlas((enum sim_fault)f, (enum sim_class)c) <= (enum sim_promise)worst;
                assert_int_equal(w->faults.off[f], !inside);
                on[worst] += inside;
            }
            sim_world_destroy(w);
        }
        assert_true(on[SIM_SURVIVES] < on[SIM_DETECTS] && on[SIM_DETECTS] < SIM_FAULTS);
        assert_int_equal(on[SIM_OUTSIDE], SIM_FAULTS);
    }
    assert_int_equal(sim_atlas(SIM_MACHINE_LOST, SIM_CLASS_WAL_FILE), SIM_DETECTS);
    assert_int_equal(sim_atlas(SIM_MACHINE_LOST, SIM_CLASS_WAL_DEVICE), SIM_SURVIVES);
    /* What has a usual chance comes without being asked for: every class must survive it. */
    struct sim_faults usual;
    sim_faults_usual(&usual);
    for (unsigned f = 0; f < SIM_FAULTS; f++) {
        for (unsigned c = 0; c < SIM_CLASSES && usual.chance[f] > 0; c++)
            assert_int_equal(sim_atlas((enum sim_fault)f, (enum sim_class)c), SIM_SURVIVES);
    }
}

static void the_atlas_is_a_table(void **state) {
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    sim_atlas_print(out);
    assert_int_equal(fclose(out), 0);
    unsigned rows = 0;
    for (const char *at = text; (at = strstr(at, "\n| `")) != NULL; at++) rows++;
    assert_int_equal(rows, SIM_FAULTS);
    assert_non_null(strstr(text, "| detects | survives | survives |"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_and_its_inverse),
        cmocka_unit_test(wall_clocks_jump),
        cmocka_unit_test(monotonic_clocks_drift),
        cmocka_unit_test(monotonic_clocks_stand_still_while_the_process_runs),
        cmocka_unit_test(timers_follow_their_clock),
        cmocka_unit_test(wall_clocks_differ_by_hours),
        cmocka_unit_test(a_machine_is_lost_with_its_disks),
        cmocka_unit_test(what_is_off_never_happens),
        cmocka_unit_test(a_heal_ends_what_lasts),
        cmocka_unit_test(pauses_are_seconds_or_minutes),
        cmocka_unit_test(the_atlas_keeps_a_run_inside),
        cmocka_unit_test(the_atlas_is_a_table),
        cmocka_unit_test(same_seed_same_run),
        cmocka_unit_test(orders_vary),
        cmocka_unit_test(time_is_virtual),
        cmocka_unit_test(pause_delays),
        cmocka_unit_test(idle_world_ends),
        cmocka_unit_test(crash_drops_everything),
        cmocka_unit_test(a_node_crashes_itself),
        cmocka_unit_test(leaks_are_reported),
        cmocka_unit_test(the_first_failure_stays),
        cmocka_unit_test(offload_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
