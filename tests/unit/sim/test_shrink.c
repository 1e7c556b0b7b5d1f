/* Runs that failed are repeated, exactly and smaller; runs that do not repeat themselves are found. */
#include "sim_test.h"

#include <string.h>

#include "sim/history.h"
#include "sim/shrink.h"

#define SEEDS_TO_FAIL 60u

/* --- Fault plans. */

static void plans_are_read_from_left_to_right(void **state) {
    (void)state;
    struct sim_fault_plan p;
    const char *expected = NULL;
    assert_true(sim_fault_plan_parse(&p, "usual,net-cut=0,disk-full=0.25", &expected));
    assert_int_equal(p.mixture, SIM_MIXTURE_USUAL);
    assert_true(p.set[SIM_NET_CUT] && p.set[SIM_DISK_FULL] && !p.set[SIM_PAUSE]);
    assert_true(p.chance[SIM_NET_CUT] == 0 && p.chance[SIM_DISK_FULL] == 0.25);
    assert_true(sim_fault_plan_parse(&p, "net-cut=0,none,pause", &expected));
    assert_int_equal(p.mixture, SIM_MIXTURE_NONE);
    assert_true(!p.set[SIM_NET_CUT] && p.set[SIM_PAUSE] && p.chance[SIM_PAUSE] > 0);
    assert_true(sim_fault_plan_parse(&p, "pause=1", &expected));
    assert_int_equal(p.mixture, SIM_MIXTURE_SWARM);
    static const char *const wrong[] = {"",        "nothing", "usual,",   ",none",     "pause=",   "pause=2",
                                        "pause=x", "pause=.", "pause=-1", "pause=1.1", "pause=1e", "usual=1"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        expected = NULL;
        assert_false(sim_fault_plan_parse(&p, wrong[i], &expected));
        assert_true(expected && strlen(expected) > 10);
    }
}

/* --- Numbers of faults. */

static void numbers_are_told_and_read_as_ranges(void **state) {
    (void)state;
    static const struct {
        const char *read, *told;
    } same[] = {
        {"none", "none"},
        {"0", "0"},
        {"3,7,8,9,10,11,12,40", "3,7-12,40"},
        {"3,7-12,40", "3,7-12,40"},
        {"0-1,5-5,6,7-9", "0,1,5-9"},
        {"1,2,4,6-8", "1,2,4,6-8"},
        {"18446744073709551614-18446744073709551615", "18446744073709551614,18446744073709551615"},
    };
    struct mem heap;
    mem_init_heap(&heap);
    struct sim_numbers n = {.mem = &heap};
    struct buf out;
    buf_init(&out, &heap);
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        assert_true(sim_numbers_parse(&n, same[i].read));
        out.size = 0;
        sim_numbers_put(&n, &out);
        assert_int_equal(out.size, strlen(same[i].told));
        assert_memory_equal(out.data, same[i].told, out.size);
    }
    assert_true(sim_numbers_parse(&n, "3,7-12,40"));
    assert_int_equal(n.count, 8);
    assert_true(sim_numbers_contain(&n, 12) && !sim_numbers_contain(&n, 13));
    assert_true(sim_numbers_parse(&n, "5-1048580"));
    assert_int_equal(n.count, SIM_NUMBERS_MAX);
    static const char *const wrong[] = {"",
                                        ",",
                                        "3,",
                                        "3,,4",
                                        ",3",
                                        "3-",
                                        "-3",
                                        "4-3",
                                        "3,3",
                                        "3-5,5",
                                        "3-4-5",
                                        "3 4",
                                        "3,7-12x",
                                        "nonesuch",
                                        "1,0",
                                        "x",
                                        "5-1048581",
                                        "0,5-1048580",
                                        "0-18446744073709551615",
                                        "18446744073709551616"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) assert_false(sim_numbers_parse(&n, wrong[i]));
    buf_deinit(&out);
    sim_numbers_free(&n);
}

static struct sim_result run_planned(const char *workload, uint64_t seed, const char *plan) {
    struct sim_run_options o = {.seed = seed};
    struct sim_result r;
    const char *expected;
    assert_true(sim_fault_plan_parse(&o.faults, plan, &expected));
    sim_run_seed(sim_workload_find(workload), &o, &r);
    assert_string_equal(r.failure, "");
    return r;
}

static void only_planned_faults_are_done(void **state) {
    (void)state;
    for (size_t i = 0; i < sim_workload_count; i++) {
        struct sim_result r = run_planned(sim_workloads[i].name, 3, "none");
        /* After an orderly stop; and whoever was overtaken ends itself, or is ended to take over in its turn. */
        assert_int_equal(r.faults, r.fault_counts[SIM_RESTART] + r.fault_counts[SIM_CRASH_KILL]);
        assert_true(r.ops > 0);
    }
    uint64_t pauses = 0, slow = 0;
    for (uint64_t seed = 1; seed < 6; seed++) {
        struct sim_result r = run_planned("clusterlog", seed, "none,pause,store-slow=0.5");
        pauses += r.fault_counts[SIM_PAUSE];
        slow += r.fault_counts[SIM_STORE_SLOW];
        assert_int_equal(r.faults - r.fault_counts[SIM_RESTART],
                         r.fault_counts[SIM_PAUSE] + r.fault_counts[SIM_STORE_SLOW]);
        r = run_planned("clusterlog", seed, "usual,pause=0,crash-kill=0");
        assert_int_equal(r.fault_counts[SIM_PAUSE] + r.fault_counts[SIM_CRASH_KILL], 0);
        assert_true(r.faults > 0);
    }
    assert_true(pauses > 0 && slow > 0);
}

/* --- Runs that do not repeat themselves. */

static uint64_t counter; /* what a workload must not have */

static void workload_counts(struct sim_run *r) {
    r->ops++;
    fiber_sleep_ns(++counter * NS_PER_MS);
}

static void workload_looks_at_addresses(struct sim_run *r) {
    void *p = mem_alloc(sim_run_mem(r), 10);
    r->ops++;
    sim_trace(r->world, NULL, "address", NULL, (uint64_t)(uintptr_t)p, 0);
    mem_free(sim_run_mem(r), p);
}

static void workload_is_sound(struct sim_run *r) {
    r->ops++;
    fiber_sleep_ns(sim_between(r->world, 1, 1000) * NS_PER_MS);
}

static bool repeats(sim_workload_fn *fn, struct sim_result *out) {
    const struct sim_workload s = {"x", "x", fn};
    const struct sim_run_options o = {.seed = 1};
    return sim_run_seed_twice(&s, &o, out);
}

static void other_runs_of_a_seed_are_found(void **state) {
    (void)state;
    struct sim_result r;
    assert_true(repeats(workload_is_sound, &r));
    assert_string_equal(r.failure, "");
    assert_false(repeats(workload_counts, &r));
    assert_non_null(strstr(r.failure, "the same seed made two runs"));
    assert_false(repeats(workload_looks_at_addresses, &r));
}

static void what_does_not_repeat_is_not_shrunk(void **state) {
    (void)state;
    struct mem heap;
    mem_init_heap(&heap);
    const struct sim_workload s = {"x", "x", workload_counts};
    const struct sim_run_options o = {.seed = 1};
    struct sim_result r;
    sim_run_seed(&s, &o, &r);
    strcpy(r.failure, "broken");
    struct buf history;
    buf_init(&history, &heap);
    struct sim_shrunk small;
    sim_shrink(&s, &o, &r, NULL, NULL, &history, &small);
    assert_true(small.differs);
    assert_true(small.runs <= 2);
    sim_numbers_free(&small.kept);
    buf_deinit(&history);
}

/* --- Shrinking. */

static void the_same_promise_has_other_numbers(void **state) {
    (void)state;
    assert_true(sim_shrink_same_promise("entry 7 is lost", "entry 1234 is lost"));
    assert_true(sim_shrink_same_promise("", ""));
    assert_false(sim_shrink_same_promise("entry 7 is lost", ""));
    assert_false(sim_shrink_same_promise("entry 7 is lost", "entry is lost"));
    assert_false(sim_shrink_same_promise("entry 7 is lost", "entry 7 is lost twice"));
}

/* Fails when two kinds of faults have happened in this order; a third is of no account. So what is left is known. */
static void workload_needs_two_faults(struct sim_run *r) {
    struct sim_world *w = r->world;
    uint64_t end_ns = w->now_ns + sim_run_load_ns(r, 1), from_ns = w->now_ns;
    bool full = false, slow = false;
    r->ops++;
    while (w->now_ns < end_ns) {
        fiber_sleep_ns(100 * NS_PER_MS);
        (void)sim_fault(w, SIM_STORE_SLOW);
        if (w->now_ns > from_ns + NS_PER_S && sim_fault(w, SIM_DISK_FULL)) full = true;
        if (full && sim_fault(w, SIM_NET_SLOW)) slow = true;
    }
    sim_note(w, NULL, sim_subject("x", 1), "looks");
    if (full && slow) sim_fail_about(w, sim_subject("x", 1), "broken after %lu steps", w->steps);
}

static void shrink(const struct sim_workload *s, const struct sim_run_options *o, const struct sim_result *failed,
                   struct sim_shrunk *small) {
    struct mem heap;
    mem_init_heap(&heap);
    struct buf history;
    buf_init(&history, &heap);
    sim_shrink(s, o, failed, NULL, NULL, &history, small);
    assert_false(small->differs);
    assert_true(small->runs <= SIM_SHRINK_RUNS_MAX + 2);
    assert_true(sim_shrink_same_promise(small->result.failure, failed->failure));
    assert_true(small->result.faults <= failed->faults);
    assert_true(history.size > 0 && history.data[history.size - 1] == '\n');
    /* It is repeated by what is told of it. */
    struct sim_run_options again = *o;
    struct sim_result r;
    again.load_ns = small->load_ns;
    if (small->keeps) again.keep = &small->kept;
    sim_run_seed(s, &again, &r);
    assert_memory_equal(&r, &small->result, sizeof(r));
    buf_deinit(&history);
}

static void what_is_left_is_what_is_needed(void **state) {
    (void)state;
    const struct sim_workload s = {"x", "x", workload_needs_two_faults};
    struct sim_run_options o = {.seed = 5};
    const char *expected;
    assert_true(sim_fault_plan_parse(&o.faults, "none,store-slow=0.3,disk-full=0.3,net-slow=0.3", &expected));
    struct sim_result r;
    sim_run_seed(&s, &o, &r);
    assert_true(r.failure[0] != '\0' && r.faults > 10);
    struct sim_shrunk small;
    shrink(&s, &o, &r, &small);
    assert_int_equal(small.result.faults, 2);
    assert_int_equal(small.result.fault_counts[SIM_STORE_SLOW], 0);
    if (small.keeps) assert_int_equal(small.kept.count, 2);
    assert_true(small.result.virtual_ns < 3 * NS_PER_S);
    sim_numbers_free(&small.kept);
}

static void a_failed_run_is_repeated_and_shrunk(const char *workload, enum mutant mutant) {
    const struct sim_workload *s = sim_workload_find(workload);
    for (uint64_t seed = 1; seed <= SEEDS_TO_FAIL; seed++) {
        struct sim_run_options o = {.seed = seed, .mutant = mutant};
        struct sim_result r;
        sim_run_seed(s, &o, &r);
        if (r.failure[0] == '\0' || r.faults < 8) continue;
        struct sim_shrunk small;
        shrink(s, &o, &r, &small);
        assert_true(small.result.faults < r.faults);
        assert_true(small.keeps && small.kept.count < r.faults);
        sim_numbers_free(&small.kept);
        return;
    }
    fail_msg("%s: no run to shrink", workload);
}

static void mistakes_are_shrunk(void **state) {
    (void)state;
    a_failed_run_is_repeated_and_shrunk("clusterlog", sim_mutant_find("unknown-is-ok"));
    a_failed_run_is_repeated_and_shrunk("objlog", sim_mutant_find("ack-early"));
    a_failed_run_is_repeated_and_shrunk("wal", sim_mutant_find("no-flush"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_read_from_left_to_right),  cmocka_unit_test(numbers_are_told_and_read_as_ranges),
        cmocka_unit_test(only_planned_faults_are_done),       cmocka_unit_test(other_runs_of_a_seed_are_found),
        cmocka_unit_test(what_does_not_repeat_is_not_shrunk), cmocka_unit_test(the_same_promise_has_other_numbers),
        cmocka_unit_test(what_is_left_is_what_is_needed),     cmocka_unit_test(mistakes_are_shrunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
