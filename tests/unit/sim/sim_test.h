/* What the tests of the simulator share: a world without faults, and running a function on a node until it ends. */
#ifndef OXBOW_TESTS_SIM_TEST_H
#define OXBOW_TESTS_SIM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/node.h"
#include "sim/sim_store.h"

#define TEST_STEPS 1000000u

static inline struct sim_world *test_world(uint64_t seed) {
    struct sim_world_options o = {.seed = seed};
    struct sim_world *w = sim_world_create(&o);
    sim_faults_none(&w->faults);
    return w;
}

static inline bool test_node_down(void *arg) {
    return !sim_node_up(arg);
}

/* Runs until the node is down, in order or not. */
static inline void test_until_down(struct sim_node *n) {
    enum sim_end end = sim_world_run(n->world, TEST_STEPS, test_node_down, n);
    if (end == SIM_END_FAILED) print_message("broken: %s\n", n->world->failure);
    assert_int_equal(end, SIM_END_DONE);
}

static inline void test_run(struct sim_node *n, fiber_fn *fn, void *arg) {
    sim_node_start(n, fn, arg);
    test_until_down(n);
}

static inline bool test_time_come(void *arg) {
    struct sim_world *w = ((void **)arg)[0];
    return w->now_ns >= *(uint64_t *)((void **)arg)[1];
}

/* Lets time pass; events land. */
static inline void test_pass(struct sim_world *w, uint64_t ns) {
    uint64_t until = w->now_ns + ns;
    void *arg[2] = {w, &until};
    enum sim_end end = sim_world_run(w, TEST_STEPS, test_time_come, arg);
    assert_true(end == SIM_END_DONE || end == SIM_END_IDLE);
    if (end == SIM_END_IDLE) w->now_ns = until;
}

#endif
