/* Deliberate mistakes (base/mutant_table.h) are noticed: each by each of the workloads that its row names, within so many
 * seeds. Built with the simulator's small sizes, once for each group of workloads (tests/meson.build says which in
 * MUTANT_WORKLOADS), so that the groups run side by side.
 *
 * A run with a mistake happens in a process of its own: some are noticed by an assertion of the code itself, which ends
 * the process. That counts: it halts rather than goes on. */
#include "sim_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/run.h"

#define SEEDS_MAX 600u
#define PATIENCE_S 100u

struct outcome { /* shared with the child */
    uint64_t seed;
    bool noticed;
    char failure[200];
};

struct hunt {
    enum mutant mutant;
    const struct sim_workload *workload;
    char name[100];
};

/* In a process of its own. */
static void hunt_there(const struct hunt *h, struct outcome *out) {
    int nowhere = open("/dev/null", O_WRONLY);
    (void)dup2(nowhere, STDERR_FILENO); /* an assertion that fails is not news */
    (void)alarm(PATIENCE_S);
    for (out->seed = 1; out->seed <= SEEDS_MAX && !out->noticed; out->seed++) {
        struct sim_run_options o = {.seed = out->seed, .mutant = h->mutant};
        struct sim_result r;
        sim_run_seed(h->workload, &o, &r);
        if (!r.failure[0]) continue;
        out->noticed = true;
        out->seed--;
        (void)snprintf(out->failure, sizeof(out->failure), "%.199s", r.failure);
    }
    _exit(0);
}

static void is_noticed(void **state) {
    const struct hunt *h = *state;
    struct outcome *out =
        mmap(NULL, sizeof(*out), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* zeros */
    assert_true(out != MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) hunt_there(h, out);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        print_message("seed %lu took more than %u s\n", out->seed, PATIENCE_S);
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        out->noticed = true;
        (void)snprintf(out->failure, sizeof(out->failure), "the process halted");
    }
    if (out->noticed) {
        print_message("%s: seed %lu: %s\n", h->name, out->seed, out->failure);
    } else {
        print_message("%s: nobody noticed that %s\n", h->name, sim_mutant_sentence(h->mutant));
    }
    bool noticed = out->noticed;
    assert_int_equal(munmap(out, sizeof(*out)), 0);
    assert_true(noticed);
}

static bool is_ours(const char *workload) {
    size_t size = strlen(workload);
    for (const char *at = MUTANT_WORKLOADS; *at; at += strspn(at, " ")) {
        size_t word = strcspn(at, " ");
        if (word == size && memcmp(at, workload, size) == 0) return true;
        at += word;
    }
    return false;
}

/* A word of a row that names no workload would never be tried. */
static void rows_make_sense(void **state) {
    (void)state;
    for (unsigned m = 0; m < MUTANTS; m++) {
        size_t named = 0, words = 0;
        for (size_t i = 0; i < sim_workload_count; i++)
            named += sim_mutant_concerns((enum mutant)m, sim_workloads[i].name);
        for (const char *at = sim_mutant_workloads((enum mutant)m); *at; at += strspn(at, " ")) {
            at += strcspn(at, " ");
            words++;
        }
        assert_int_equal(named, words);
        assert_true((named > 0) == (m != MUTANT_NONE));
        assert_true(strlen(sim_mutant_sentence((enum mutant)m)) >= 10);
        assert_int_equal(sim_mutant_find(sim_mutant_name((enum mutant)m)), m);
    }
    assert_int_equal(sim_mutant_find("nothing"), MUTANTS);
}

static struct hunt hunts[MUTANTS * 8];
static struct CMUnitTest tests[MUTANTS * 8 + 1];

int main(void) {
    size_t count = 0;
    tests[0] = (struct CMUnitTest)cmocka_unit_test(rows_make_sense);
    for (size_t i = 0; i < sim_workload_count; i++) {
        for (unsigned m = MUTANT_NONE + 1; m < MUTANTS; m++) {
            if (!is_ours(sim_workloads[i].name) || !sim_mutant_concerns((enum mutant)m, sim_workloads[i].name))
                continue;
            struct hunt *h = &hunts[count++];
            *h = (struct hunt){.mutant = (enum mutant)m, .workload = &sim_workloads[i]};
            (void)snprintf(h->name, sizeof(h->name), "%s notices %s", sim_workloads[i].name,
                           sim_mutant_name((enum mutant)m));
            tests[count] = (struct CMUnitTest){.name = h->name, .test_func = is_noticed, .initial_state = h};
        }
    }
    return _cmocka_run_group_tests("mutants", tests, count + 1, NULL, NULL);
}
