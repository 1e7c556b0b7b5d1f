/* The workloads: they repeat themselves, and they keep their promises. That their checks can fail: test_mutants.c. */
#include "sim_test.h"

#include <string.h>

#include "sim/run.h"

static const char *const object_logs[] = {"objlog", "clusterlog"};

static struct sim_result run(const char *workload, uint64_t seed) {
    const struct sim_workload *s = sim_workload_find(workload);
    assert_non_null(s);
    struct sim_run_options o = {.seed = seed};
    struct sim_result r;
    sim_run_seed(s, &o, &r);
    return r;
}

static void runs_repeat_and_differ(void **state) {
    (void)state;
    for (size_t i = 0; i < sim_workload_count; i++) {
        for (uint64_t seed = 1000; seed < 1006; seed++) {
            struct sim_result a = run(sim_workloads[i].name, seed);
            void *shift = test_malloc(3000 + seed); /* other addresses */
            struct sim_result b = run(sim_workloads[i].name, seed);
            struct sim_result c = run(sim_workloads[i].name, seed + 1);
            assert_memory_equal(&a, &b, sizeof(a));
            assert_int_not_equal(a.hash, c.hash);
            test_free(shift);
        }
    }
}

static void promises_hold_and_something_happens(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(object_logs); i++) {
        uint64_t ops = 0, acked = 0, faults = 0;
        for (uint64_t seed = 1; seed <= 60; seed++) {
            struct sim_result r = run(object_logs[i], seed);
            if (r.failure[0]) print_message("%s, seed %lu: %s\n", object_logs[i], seed, r.failure);
            assert_int_equal(r.failure[0], '\0');
            ops += r.ops;
            acked += r.acked;
            faults += r.faults;
        }
        assert_true(ops > 600);
        assert_true(acked > 300);
        assert_true(faults > 600);
    }
}

/* Seeds that showed a bug, and what was asked of the run. */
static void old_seeds_are_quiet(void **state) {
    (void)state;
    static const struct {
        const char *workload;
        uint64_t seed;
        const char *faults;
    } seeds[] = {
        /* Whoever was overtaken goes on at full speed and trims: its successor never came to an end of its ledger. */
        {"rivals", 1, "none"},
        {"rivals", 5, "none"},
        {"rivals", 7, "none"},
    };
    for (size_t i = 0; i < ARRAY_LEN(seeds); i++) {
        struct sim_run_options o = {.seed = seeds[i].seed};
        struct sim_result r;
        const char *expected;
        assert_true(sim_fault_plan_parse(&o.faults, seeds[i].faults, &expected));
        sim_run_seed(sim_workload_find(seeds[i].workload), &o, &r);
        if (r.failure[0]) print_message("%s, seed %lu: %s\n", seeds[i].workload, o.seed, r.failure);
        assert_int_equal(r.failure[0], '\0');
    }
}

static void names_are_found(void **state) {
    (void)state;
    assert_null(sim_workload_find("nothing"));
    for (unsigned i = 0; i < SIM_FAULTS; i++) assert_true(strlen(sim_fault_sentence((enum sim_fault)i)) > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_repeat_and_differ),
        cmocka_unit_test(promises_hold_and_something_happens),
        cmocka_unit_test(old_seeds_are_quiet),
        cmocka_unit_test(names_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
