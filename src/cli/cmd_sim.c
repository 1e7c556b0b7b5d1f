/* `oxbow sim`: runs the simulator's workloads, one seed after the other, and says which broke a promise. A failed run is
 * told with its history and the command that repeats it; then it is made smaller (sim/shrink.h) and told again.
 *
 * The last line is always the same, also when a failed assertion ends the process in the middle of a run: it is written
 * down before each run, for process_last_words. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/map.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/process.h"
#include "sim/atlas.h"
#include "sim/run.h"
#include "sim/shrink.h"

#define SEED_MAX (UINT64_MAX - 1)
#define MINUTES_MAX 100000u
#define LOAD_MS_MAX (MINUTES_MAX * 60000ull)
/* One mistake fails many seeds; the first few of them are enough to see it. */
#define SHRUNK_MAX 3u
/* Sizes are part of a run: the other binary would not repeat it. */
#ifdef OXBOW_SMALL
#define PROGRAM "oxbow-small"
#else
#define PROGRAM "oxbow"
#endif

struct sim_job {
    uint64_t first, last;
    uint64_t workloads; /* a bit for each of the table */
    const char *plan;   /* --faults as given; NULL: not */
    struct sim_run_options options;
    struct mem heap;
    struct sim_numbers keep; /* options.keep */
    bool totals, twice, no_shrink;
    atomic_bool stopping; /* set by a signal: what runs is the last */
    unsigned shrunk;
    uint64_t seeds, hash, ops, acked, faults, failed, steps, virtual_ns;
    uint64_t fault_counts[SIM_FAULTS];
    struct buf words; /* for process_last_words */
};

static void print_trace(void *ctx, const char *line) {
    (void)ctx;
    printf("  %s\n", line);
}

/* --- Lists. */

static void workloads_print(const char *indent) {
    for (size_t i = 0; i < sim_workload_count; i++)
        printf("%s%-20s %s\n", indent, sim_workloads[i].name, sim_workloads[i].sentence);
}

static void faults_print(const char *indent) {
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        printf("%s%-20s %s\n", indent, sim_fault_name((enum sim_fault)i), sim_fault_sentence((enum sim_fault)i));
    }
}

/* Name, workloads that must notice it, what it is. */
static void mutants_print(const char *indent) {
    for (unsigned i = MUTANT_NONE + 1; i < MUTANTS; i++) {
        char workloads[256] = "";
        size_t size = 0;
        for (size_t k = 0; k < sim_workload_count; k++) {
            if (!sim_mutant_concerns((enum mutant)i, sim_workloads[k].name)) continue;
            int n =
                snprintf(workloads + size, sizeof(workloads) - size, "%s%s", size ? "," : "", sim_workloads[k].name);
            ASSERT(n > 0 && (size_t)n < sizeof(workloads) - size);
            size += (size_t)n;
        }
        printf("%s%-20s %-28s %s\n", indent, sim_mutant_name((enum mutant)i), workloads,
               sim_mutant_sentence((enum mutant)i));
    }
}

static void list_print(void) {
    printf("workloads:\n");
    workloads_print("  ");
    printf("faults:\n");
    faults_print("  ");
    printf("mutants:\n");
    mutants_print("  ");
}

/* --- What a run is told as. */

/* The command that repeats a run; keep and load_ns as in its options. */
static void command_put(struct buf *out, const struct sim_job *j, const struct sim_workload *s, uint64_t seed,
                        const struct sim_numbers *keep, uint64_t load_ns) {
    buf_printf(out, PROGRAM " sim --seed %" PRIu64 " --workload %s", seed, s->name);
    if (j->options.minutes > 0) buf_printf(out, " --minutes %" PRIu64, j->options.minutes);
    if (j->options.mutant != MUTANT_NONE) buf_printf(out, " --mutant %s", sim_mutant_name(j->options.mutant));
    if (j->plan) buf_printf(out, " --faults %s", j->plan);
    if (keep) {
        buf_printf(out, " --keep-faults ");
        sim_numbers_put(keep, out);
    }
    if (load_ns > 0) buf_printf(out, " --load-ms %" PRIu64, (uint64_t)(load_ns / NS_PER_MS));
}

static void last_line_put(struct buf *out, const struct sim_job *j, uint64_t seeds, uint64_t failed) {
    buf_printf(out,
               "sim: seeds=%" PRIu64 " hash=%016" PRIx64 " ops=%" PRIu64 " acked=%" PRIu64 " faults=%" PRIu64
               " failed=%" PRIu64 "\n",
               seeds, j->hash, j->ops, j->acked, j->faults, failed);
}

/* For a run that does not come back: what is told of it then, and the last line. */
static void last_words_set(struct sim_job *j, const struct sim_workload *s, uint64_t seed) {
    process_last_words(NULL);
    j->words.size = 0;
    buf_printf(&j->words, "\nsim: FAILED seed=%" PRIu64 " workload=%s\n", seed, s->name);
    buf_printf(&j->words, "sim: promise broken: no assertion fails (standard error names it)\nsim: repeat with: ");
    command_put(&j->words, j, s, seed, j->options.keep, j->options.load_ns);
    buf_printf(&j->words, " --trace\n");
    last_line_put(&j->words, j, j->seeds + 1, j->failed + 1);
    process_last_words((const char *)j->words.data);
    (void)fflush(stdout);
}

/* The same while a failed run, which has been told, is made smaller. */
static void last_words_set_shrinking(struct sim_job *j) {
    process_last_words(NULL);
    j->words.size = 0;
    buf_printf(&j->words, "\nsim: not shrunk: with fewer faults an assertion fails (standard error names it)\n");
    last_line_put(&j->words, j, j->seeds + 1, j->failed);
    process_last_words((const char *)j->words.data);
    (void)fflush(stdout);
}

static void failure_print(const char *failure, const struct buf *history) {
    printf("sim: promise broken: %s\nsim: history:\n", failure);
    for (size_t at = 0; at < history->size;) {
        const char *line = (const char *)history->data + at;
        const char *end = memchr(line, '\n', history->size - at);
        size_t size = end ? (size_t)(end - line) : history->size - at;
        printf("  %.*s\n", (int)size, line);
        at += size + 1;
    }
}

static void command_print(struct sim_job *j, const char *label, const struct sim_workload *s,
                          const struct sim_numbers *keep, uint64_t load_ns) {
    struct buf command;
    buf_init(&command, &j->heap);
    command_put(&command, j, s, j->options.seed, keep, load_ns);
    printf("sim: %s: %.*s\n", label, (int)command.size, (const char *)command.data);
    buf_deinit(&command);
}

static bool job_stopping(void *ctx) {
    struct sim_job *j = ctx;
    return atomic_load(&j->stopping);
}

static void failed_shrink(struct sim_job *j, const struct sim_workload *s, const struct sim_result *r) {
    if (j->shrunk == SHRUNK_MAX) {
        printf("sim: not shrunk: %u were; run it by itself\n", SHRUNK_MAX);
        return;
    }
    j->shrunk++;
    last_words_set_shrinking(j);
    struct sim_shrunk small;
    struct buf history;
    buf_init(&history, &j->heap);
    sim_shrink(s, &j->options, r, job_stopping, j, &history, &small);
    if (small.differs) {
        printf("sim: not shrunk: the same seed makes other runs\n");
    } else {
        printf("sim: shrunk from %" PRIu64 " to %" PRIu64 " faults, from %.3f to %.3f virtual seconds, in %u runs\n",
               r->faults, small.result.faults, (double)r->virtual_ns / 1e9, (double)small.result.virtual_ns / 1e9,
               small.runs);
        printf("sim: hash=%016" PRIx64 " steps=%" PRIu64 "\n", small.result.hash, small.result.steps);
        failure_print(small.result.failure, &history);
        command_print(j, "repeat the shrunk run with", s, small.keeps ? &small.kept : j->options.keep, small.load_ns);
    }
    sim_numbers_free(&small.kept);
    buf_deinit(&history);
}

static void run_one(struct sim_job *j, const struct sim_workload *s, uint64_t seed) {
    struct sim_result r;
    struct buf history;
    buf_init(&history, &j->heap);
    j->options.seed = seed;
    j->options.history = &history;
    printf("seed=%" PRIu64 " workload=%s%s", seed, s->name, j->options.trace ? "\n" : "");
    last_words_set(j, s, seed);
    bool differs = false;
    if (j->twice) {
        differs = !sim_run_seed_twice(s, &j->options, &r);
    } else {
        sim_run_seed(s, &j->options, &r);
    }
    printf(" hash=%016" PRIx64 " ops=%" PRIu64 " acked=%" PRIu64 " faults=%" PRIu64 " steps=%" PRIu64 "\n", r.hash,
           r.ops, r.acked, r.faults, r.steps);
    j->hash = hash64(j->hash ^ r.hash) + seed;
    j->ops += r.ops;
    j->acked += r.acked;
    j->faults += r.faults;
    j->steps += r.steps;
    j->virtual_ns += r.virtual_ns;
    for (unsigned i = 0; i < SIM_FAULTS; i++) j->fault_counts[i] += r.fault_counts[i];
    if (r.failure[0] != '\0') {
        j->failed++;
        printf("sim: FAILED seed=%" PRIu64 " workload=%s\n", seed, s->name);
        failure_print(r.failure, &history);
        command_print(j, "repeat with", s, j->options.keep, j->options.load_ns);
        if (!j->no_shrink && !differs) failed_shrink(j, s, &r);
    }
    j->options.history = NULL;
    buf_deinit(&history);
}

/* --- The job. */

static void stop(void *ctx) {
    struct sim_job *j = ctx;
    atomic_store(&j->stopping, true);
}

static void totals_print(const struct sim_job *j) {
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        printf("sim: fault %s=%" PRIu64 "\n", sim_fault_name((enum sim_fault)i), j->fault_counts[i]);
    }
    printf("sim: steps=%" PRIu64 " virtual_seconds=%" PRIu64 "\n", j->steps, (uint64_t)(j->virtual_ns / NS_PER_S));
}

static int job_run(struct sim_job *j) {
    if (j->options.trace) (void)setvbuf(stdout, NULL, _IOLBF, 0); /* so that a failed assertion loses none of it */
    if (process_watch_signals(stop, j) != OK) {
        fputs("oxbow sim: signals cannot be watched\n", stderr);
        return EXIT_FAILED;
    }
    for (uint64_t seed = j->first; seed <= j->last && !job_stopping(j) && !ferror(stdout); seed++) {
        for (size_t i = 0; i < sim_workload_count; i++) {
            if (j->workloads >> i & 1) run_one(j, &sim_workloads[i], seed);
        }
        j->seeds++;
    }
    process_last_words(NULL);
    if (j->totals) totals_print(j);
    if (j->ops == 0) printf("sim: no operation was checked\n");
    j->words.size = 0;
    last_line_put(&j->words, j, j->seeds, j->failed);
    printf("%.*s", (int)j->words.size, (const char *)j->words.data);
    return j->failed > 0 || j->ops == 0 ? EXIT_FAILED : EXIT_DONE;
}

/* --- Options. */

enum sim_option {
    OPT_SEED,
    OPT_SEEDS,
    OPT_WORKLOAD,
    OPT_MINUTES,
    OPT_FAULTS,
    OPT_MUTANT,
    OPT_TWICE,
    OPT_TRACE,
    OPT_TOTALS,
    OPT_NO_SHRINK,
    OPT_KEEP_FAULTS,
    OPT_LOAD_MS,
    OPT_LIST,
    OPT_LIST_FAULTS,
    OPT_LIST_MUTANTS,
    OPT_ATLAS
};

static const struct option_spec specs[] = {
    [OPT_SEED] = {0, "seed", "N"},
    [OPT_SEEDS] = {0, "seeds", "A..B"},
    [OPT_WORKLOAD] = {0, "workload", "NAME"},
    [OPT_MINUTES] = {0, "minutes", "N"},
    [OPT_FAULTS] = {0, "faults", "LIST"},
    [OPT_MUTANT] = {0, "mutant", "NAME"},
    [OPT_TWICE] = {0, "twice", NULL},
    [OPT_TRACE] = {0, "trace", NULL},
    [OPT_TOTALS] = {0, "totals", NULL},
    [OPT_NO_SHRINK] = {0, "no-shrink", NULL},
    [OPT_KEEP_FAULTS] = {0, "keep-faults", "N,N-N,..."},
    [OPT_LOAD_MS] = {0, "load-ms", "N"},
    [OPT_LIST] = {0, "list", NULL},
    [OPT_LIST_FAULTS] = {0, "list-faults", NULL},
    [OPT_LIST_MUTANTS] = {0, "list-mutants", NULL},
    [OPT_ATLAS] = {0, "atlas", NULL},
};

/* The number that the first `size` bytes are. */
static bool number_parse(const char *text, size_t size, uint64_t min, uint64_t *out) {
    char digits[24];
    if (size >= sizeof(digits)) return false;
    memcpy(digits, text, size);
    digits[size] = '\0';
    return options_u64(digits, min, SEED_MAX, out);
}

/* "7", or "1..2000". */
static bool seeds_parse(const char *text, uint64_t *first, uint64_t *last) {
    const char *dots = strstr(text, "..");
    if (!number_parse(text, dots ? (size_t)(dots - text) : strlen(text), 0, first)) return false;
    *last = *first;
    return !dots || options_u64(dots + 2, *first, SEED_MAX, last);
}

static bool workloads_parse(const char *text, uint64_t *out) {
    *out = 0;
    for (;;) {
        size_t size = strcspn(text, ","), i = 0;
        while (i < sim_workload_count &&
               (strlen(sim_workloads[i].name) != size || memcmp(sim_workloads[i].name, text, size) != 0))
            i++;
        if (i == sim_workload_count) return false;
        *out |= 1ull << i;
        if (!text[size]) return true;
        text += size + 1;
    }
}

/* NULL, or what was expected. */
static const char *option_take(struct sim_job *j, enum sim_option option, const char *value) {
    const char *expected = NULL;
    switch (option) {
    case OPT_SEED:
        if (!options_u64(value, 0, SEED_MAX, &j->first)) return "a seed: a number";
        j->last = j->first;
        return NULL;
    case OPT_SEEDS:
        return seeds_parse(value, &j->first, &j->last) ? NULL : "seeds: A..B, with A <= B";
    case OPT_WORKLOAD:
        return workloads_parse(value, &j->workloads) ? NULL : "names of workloads, with commas between (see --list)";
    case OPT_MINUTES:
        return options_u64(value, 1, MINUTES_MAX, &j->options.minutes) ? NULL : "minutes: 1 to 100000";
    case OPT_FAULTS:
        j->plan = value;
        return sim_fault_plan_parse(&j->options.faults, value, &expected) ? NULL : expected;
    case OPT_MUTANT:
        j->options.mutant = sim_mutant_find(value);
        return j->options.mutant != MUTANTS ? NULL : "the name of a mutant (see --list-mutants)";
    case OPT_KEEP_FAULTS:
        j->options.keep = &j->keep;
        return sim_numbers_parse(&j->keep, value)
                   ? NULL
                   : "numbers of faults, rising, like 3,7-12,40 (a million at most), or none";
    case OPT_LOAD_MS:
        if (!options_u64(value, 1, LOAD_MS_MAX, &j->options.load_ns)) return "milliseconds, at least 1";
        j->options.load_ns *= NS_PER_MS;
        return NULL;
    case OPT_TRACE:
        j->options.trace = print_trace;
        return NULL;
    case OPT_TWICE:
        j->twice = true;
        return NULL;
    case OPT_TOTALS:
        j->totals = true;
        return NULL;
    case OPT_NO_SHRINK:
        j->no_shrink = true;
        return NULL;
    case OPT_LIST:
    case OPT_LIST_FAULTS:
    case OPT_LIST_MUTANTS:
    case OPT_ATLAS:
        break;
    }
    UNREACHABLE();
}

static bool option_lists(int option) {
    if (option == OPT_LIST) list_print();
    if (option == OPT_LIST_FAULTS) faults_print("");
    if (option == OPT_LIST_MUTANTS) mutants_print("");
    if (option == OPT_ATLAS) sim_atlas_print(stdout);
    return option == OPT_LIST || option == OPT_LIST_FAULTS || option == OPT_LIST_MUTANTS || option == OPT_ATLAS;
}

static int sim_parse(struct sim_job *j, int argc, char **argv) {
    struct options o;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) return options_refuse(&o, "only options");
        if (option_lists(i)) return EXIT_DONE;
        const char *expected = option_take(j, (enum sim_option)i, o.value);
        if (expected) return options_refuse(&o, expected);
    }
    return job_run(j);
}

static int sim_run(int argc, char **argv) {
    ASSERT(sim_workload_count < 64);
    struct sim_job j = {.first = 1, .last = 100, .workloads = (1ull << sim_workload_count) - 1};
    mem_init_heap(&j.heap);
    j.keep.mem = &j.heap;
    buf_init(&j.words, &j.heap);
    int status = sim_parse(&j, argc, argv);
    buf_deinit(&j.words);
    sim_numbers_free(&j.keep);
    return status;
}

const struct command command_sim = {
    "sim",
    "runs the storage code in a simulated world of crashes and faults",
    "usage: oxbow sim [--seed N | --seeds A..B] [OPTION]...\n\n"
    "Runs workloads in a simulated world: virtual time, an object store and disks that fail, nodes that\n"
    "crash at any moment. A seed gives a run; the same seed gives the same run. Prints a line for each run;\n"
    "for one that broke a promise its history and how to repeat it, then the same of a run with fewer faults\n"
    "and less load that breaks it too; and last, whatever happens:\n"
    "sim: seeds=N hash=H ops=N acked=N faults=N failed=N\n\n"
    "      --seed N          one seed\n"
    "      --seeds A..B      all seeds from A to B (default 1..100)\n"
    "      --minutes N       virtual minutes of load in each run (default: random, some minutes)\n"
    "      --workload LIST   these workloads, with commas between, instead of all\n"
    "      --faults LIST     which faults, with commas between, from left to right: swarm (the default: a\n"
    "                        random mixture for each seed), usual, none, and NAME or NAME=CHANCE for one of\n"
    "                        them; usual,net-cut=0 is all but cuts. Workloads decide when they crash, pause\n"
    "                        or cut: there any chance but 0 means whenever they do\n"
    "      --mutant NAME     makes a deliberate mistake, which must be found\n"
    "      --twice           runs each seed twice: another run than before is a failure\n"
    "      --trace           prints every event\n"
    "      --totals          prints how often each fault was done\n"
    "      --no-shrink       does not make failed runs smaller (the first three are)\n"
    "      --keep-faults LIST  does only the faults with these numbers (3,7-12,40), or none\n"
    "      --load-ms N       ends the load after that many virtual milliseconds\n"
    "      --list            prints workloads, faults and mutants\n"
    "      --list-faults     a line for each: its name, what it is\n"
    "      --list-mutants    a line for each: its name, the workloads that must notice it, what it is\n"
    "      --atlas           prints what each durability class promises under each fault, as Markdown\n\n"
    "The first SIGINT or SIGTERM ends it after the seed that runs.\n\n"
    "Exit status: 0 every promise was kept, 1 one was broken or nothing was checked, 2 wrong usage.\n",
    sim_run,
};
