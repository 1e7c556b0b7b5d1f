/* `oxbow sim`: runs the simulator's workloads, one seed after the other, and says which broke a promise. A line is
 * begun before its seed runs and ended after it, so
 * that a failed assertion, which ends the process, leaves the seed on the screen. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "sim/run.h"

#define SEED_MAX (UINT64_MAX - 1)
#define MINUTES_MAX 100000u

struct sim_job {
    uint64_t first, last;
    const struct sim_workload *workload; /* NULL: all */
    struct sim_run_options options;
    bool verbose;
    uint64_t seeds, hash, ops, acked, faults, failed, steps;
    uint64_t fault_counts[SIM_FAULTS];
};

static void print_trace(void *ctx, const char *line) {
    (void)ctx;
    printf("  %s\n", line);
}

static void list_print(void) {
    printf("workloads:\n");
    for (size_t i = 0; i < sim_workload_count; i++)
        printf("  %-20s %s\n", sim_workloads[i].name, sim_workloads[i].sentence);
    printf("faults:\n");
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        printf("  %-20s %s\n", sim_fault_name((enum sim_fault)i), sim_fault_sentence((enum sim_fault)i));
    }
    printf("mutants:\n");
    for (unsigned i = 0; i < MUTANTS; i++) {
        printf("  %-20s %s\n", sim_mutant_name((enum mutant)i), sim_mutant_sentence((enum mutant)i));
    }
}

/* "7", or "1..2000". */
static bool seeds_parse(const char *text, uint64_t *first, uint64_t *last) {
    char low[24];
    const char *dots = strstr(text, "..");
    if (!dots) {
        if (!options_u64(text, 0, SEED_MAX, first)) return false;
        *last = *first;
        return true;
    }
    size_t size = (size_t)(dots - text);
    if (size >= sizeof(low)) return false;
    memcpy(low, text, size);
    low[size] = '\0';
    return options_u64(low, 0, SEED_MAX, first) && options_u64(dots + 2, *first, SEED_MAX, last);
}

static void failure_print(const struct sim_job *j, const struct sim_workload *s, uint64_t seed, const char *failure) {
    printf("sim: FAILED seed=%" PRIu64 " workload=%s\n", seed, s->name);
    printf("sim: promise broken: %s\n", failure);
    printf("sim: repeat with: oxbow sim --seed %" PRIu64 " --workload %s", seed, s->name);
    if (j->options.minutes > 0) printf(" --minutes %" PRIu64, j->options.minutes);
    if (j->options.mutant != MUTANT_NONE) printf(" --mutant %s", sim_mutant_name(j->options.mutant));
    if (j->options.calm) printf(" --calm");
    printf(" --trace\n");
}

static void seed_run(struct sim_job *j, const struct sim_workload *s, uint64_t seed) {
    struct sim_result r;
    j->options.seed = seed;
    printf("seed=%" PRIu64 " workload=%s%s", seed, s->name, j->options.trace ? "\n" : "");
    (void)fflush(stdout);
    sim_run_seed(s, &j->options, &r);
    printf(" hash=%016" PRIx64 " ops=%" PRIu64 " acked=%" PRIu64 " faults=%" PRIu64 " steps=%" PRIu64 "\n", r.hash,
           r.ops, r.acked, r.faults, r.steps);
    j->hash = hash64(j->hash ^ r.hash) + seed;
    j->ops += r.ops;
    j->acked += r.acked;
    j->faults += r.faults;
    j->steps += r.steps;
    for (unsigned i = 0; i < SIM_FAULTS; i++) j->fault_counts[i] += r.fault_counts[i];
    if (r.failure[0] == '\0') return;
    j->failed++;
    failure_print(j, s, seed, r.failure);
}

static int job_run(struct sim_job *j) {
    for (uint64_t seed = j->first; seed <= j->last; seed++) {
        for (size_t i = 0; i < sim_workload_count; i++) {
            if (!j->workload || j->workload == &sim_workloads[i]) seed_run(j, &sim_workloads[i], seed);
        }
        j->seeds++;
    }
    for (unsigned i = 0; i < SIM_FAULTS && j->verbose; i++) {
        printf("sim: fault %s=%" PRIu64 "\n", sim_fault_name((enum sim_fault)i), j->fault_counts[i]);
    }
    if (j->ops == 0) printf("sim: no operation was checked\n");
    printf("sim: seeds=%" PRIu64 " hash=%016" PRIx64 " ops=%" PRIu64 " acked=%" PRIu64 " faults=%" PRIu64
           " failed=%" PRIu64 "\n",
           j->seeds, j->hash, j->ops, j->acked, j->faults, j->failed);
    return j->failed > 0 || j->ops == 0 ? EXIT_FAILED : EXIT_DONE;
}

enum sim_option {
    OPT_SEED,
    OPT_SEEDS,
    OPT_WORKLOAD,
    OPT_MINUTES,
    OPT_TRACE,
    OPT_LIST,
    OPT_MUTANT,
    OPT_CALM,
    OPT_FAULTS
};

static const struct option_spec specs[] = {
    [OPT_SEED] = {0, "seed", "N"},        [OPT_SEEDS] = {0, "seeds", "A..B"}, [OPT_WORKLOAD] = {0, "workload", "NAME"},
    [OPT_MINUTES] = {0, "minutes", "M"},  [OPT_TRACE] = {0, "trace", NULL},   [OPT_LIST] = {0, "list", NULL},
    [OPT_MUTANT] = {0, "mutant", "NAME"}, [OPT_CALM] = {0, "calm", NULL},     [OPT_FAULTS] = {0, "faults", NULL},
};

/* True when the value is one that the option takes. */
static bool option_take(struct sim_job *j, enum sim_option option, const char *value) {
    switch (option) {
    case OPT_SEED:
    case OPT_SEEDS:
        return seeds_parse(value, &j->first, &j->last);
    case OPT_WORKLOAD:
        return (j->workload = sim_workload_find(value)) != NULL;
    case OPT_MINUTES:
        return options_u64(value, 1, MINUTES_MAX, &j->options.minutes);
    case OPT_TRACE:
        j->options.trace = print_trace;
        return true;
    case OPT_MUTANT:
        return (j->options.mutant = sim_mutant_find(value)) != MUTANTS;
    case OPT_CALM:
        j->options.calm = true;
        return true;
    case OPT_FAULTS:
        j->verbose = true;
        return true;
    case OPT_LIST:
        break;
    }
    UNREACHABLE();
}

static int sim_run(int argc, char **argv) {
    static const char *const expected[] = {
        [OPT_SEED] = "a seed: a number",
        [OPT_SEEDS] = "seeds: A..B, with A <= B",
        [OPT_WORKLOAD] = "the name of a workload (see --list)",
        [OPT_MINUTES] = "minutes: 1 to 100000",
        [OPT_MUTANT] = "the name of a mutant (see --list)",
    };
    struct sim_job j = {.first = 1, .last = 100};
    struct options o;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) return options_refuse(&o, "only options");
        if (i == OPT_LIST) {
            list_print();
            return EXIT_DONE;
        }
        if (!option_take(&j, (enum sim_option)i, o.value)) return options_refuse(&o, expected[i]);
    }
    return job_run(&j);
}

const struct command command_sim = {
    "sim",
    "runs the storage code in a simulated world of crashes and faults",
    "usage: oxbow sim [--seed N | --seeds A..B] [OPTION]...\n\n"
    "Runs workloads in a simulated world: virtual time, an object store and disks that fail, nodes that\n"
    "crash at any moment. A seed gives a run; the same seed gives the same run. Prints a line for each run,\n"
    "what was broken and how to repeat it, and last: sim: seeds=N hash=H ops=N acked=N faults=N failed=N\n\n"
    "      --seed N          one seed\n"
    "      --seeds A..B      all seeds from A to B (default 1..100)\n"
    "      --workload NAME   one workload instead of all\n"
    "      --minutes M       virtual minutes of load in each run (default: random, some minutes)\n"
    "      --trace           prints every event\n"
    "      --faults          prints how often each fault was done\n"
    "      --calm            without faults of disks and store\n"
    "      --mutant NAME     makes a deliberate mistake, which must be found\n"
    "      --list            prints workloads, faults and mutants\n\n"
    "Exit status: 0 every promise was kept, 1 one was broken or nothing was checked, 2 wrong usage.\n",
    sim_run,
};
