/* The workloads: they repeat themselves, they keep their promises, and their checks notice deliberate mistakes. */
#include "sim_test.h"

#include <string.h>

#include "sim/run.h"

#define SEEDS_TO_CATCH 400u

static const char *const object_logs[] = {"objlog", "clusterlog"};

static struct sim_result run(const char *workload, uint64_t seed, enum mutant mutant) {
    const struct sim_workload *s = sim_workload_find(workload);
    assert_non_null(s);
    struct sim_run_options o = {.seed = seed, .mutant = mutant};
    struct sim_result r;
    sim_run_seed(s, &o, &r);
    return r;
}

static void runs_repeat_and_differ(void **state) {
    (void)state;
    for (size_t i = 0; i < sim_workload_count; i++) {
        for (uint64_t seed = 1000; seed < 1006; seed++) {
            struct sim_result a = run(sim_workloads[i].name, seed, MUTANT_NONE);
            void *shift = test_malloc(3000 + seed); /* other addresses */
            struct sim_result b = run(sim_workloads[i].name, seed, MUTANT_NONE);
            struct sim_result c = run(sim_workloads[i].name, seed + 1, MUTANT_NONE);
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
            struct sim_result r = run(object_logs[i], seed, MUTANT_NONE);
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

/* How many seeds it took; fails when none of them did. */
static void must_catch(const char *workload, enum mutant mutant) {
    for (uint64_t seed = 1; seed <= SEEDS_TO_CATCH; seed++) {
        if (run(workload, seed, mutant).failure[0]) return;
    }
    print_message("%s: nobody noticed that %s\n", workload, sim_mutant_sentence(mutant));
    fail();
}

static void every_mistake_is_noticed(void **state) {
    (void)state;
    for (unsigned m = MUTANT_NONE + 1; m < MUTANTS; m++) {
        unsigned noticed = 0;
        for (size_t i = 0; i < sim_workload_count; i++) {
            if (!sim_mutant_concerns((enum mutant)m, sim_workloads[i].name)) continue;
            must_catch(sim_workloads[i].name, (enum mutant)m);
            noticed++;
        }
        assert_true(noticed > 0);
    }
}

static void names_are_found(void **state) {
    (void)state;
    assert_null(sim_workload_find("nothing"));
    assert_int_equal(sim_mutant_find("nothing"), MUTANTS);
    assert_int_equal(sim_mutant_find("ack-early"), MUTANT_ACK_EARLY);
    for (unsigned i = 0; i < SIM_FAULTS; i++) assert_true(strlen(sim_fault_sentence((enum sim_fault)i)) > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_repeat_and_differ),
        cmocka_unit_test(promises_hold_and_something_happens),
        cmocka_unit_test(every_mistake_is_noticed),
        cmocka_unit_test(names_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
