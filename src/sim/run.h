/* Workloads: what is run in a simulated world, and what must hold there. A workload is one function. It runs in a
 * fiber on a node of its own, the driver, which never
 * crashes: it makes nodes, starts them, crashes and pauses them, sleeps, and at the end looks at what they say and
 * at what lies in disks and buckets. A broken promise is
 * told to sim_fail, from wherever it is seen, and ends the run. To add a workload: write the function, declare it in
 * workloads.h, add a row in run.c.
 *
 *   static void writer_main(void *arg) { ... the code under test, on the node's environment ... }
 *   void workload_x(struct sim_run *r) {
 *       struct sim_node *n = sim_node_create(r->world, "writer");
 *       sim_node_start(n, writer_main, test);
 *       fiber_sleep_ns(sim_between(r->world, 0, 10 * NS_PER_S));
 *       sim_run_crash(r, n);
 *       ...
 *       if (lost) sim_fail(r->world, "entry %lu was acknowledged and is lost", number);
 *   } */
#ifndef OXBOW_SIM_RUN_H
#define OXBOW_SIM_RUN_H

#include "base/bytes.h"
#include "sim/node.h"
#include "sim/sim_store.h"

struct sim_run;
typedef void sim_workload_fn(struct sim_run *r);

struct sim_workload {
    const char *name, *sentence;
    sim_workload_fn *run;
};
extern const struct sim_workload sim_workloads[];
extern const size_t sim_workload_count;
const struct sim_workload *sim_workload_find(const char *name); /* NULL: none */

/* Deliberate mistakes (base/mutant.h): a run with one must fail for some seed in each of the workloads that its row
 * names, or the workload's checks are worth nothing. */
const char *sim_mutant_name(enum mutant m);
const char *sim_mutant_sentence(enum mutant m);
/* Names of the workloads that must notice it, with blanks between them; "" for MUTANT_NONE. */
const char *sim_mutant_workloads(enum mutant m);
/* Whether that workload must notice it. */
bool sim_mutant_concerns(enum mutant m, const char *workload);
/* MUTANTS: none of that name. */
enum mutant sim_mutant_find(const char *name);

/* Which faults a run has. Zeroed: a random mixture, by the seed, and crashes, pauses and cuts as the workload draws
 * them. */
enum sim_mixture { SIM_MIXTURE_SWARM, SIM_MIXTURE_USUAL, SIM_MIXTURE_NONE };
struct sim_fault_plan {
    enum sim_mixture mixture;
    bool set[SIM_FAULTS]; /* `chance` says it, whatever the mixture says; 0: never, whoever asks */
    double chance[SIM_FAULTS];
};
/* "swarm", "usual", "none" (which forget what came before) and NAME or NAME=CHANCE, with commas between; applied from
 * left to right. NAME alone: its usual chance, or one in twenty where that is 0. Of faults that workloads draw by
 * themselves (crashes, pauses, cuts) any chance but 0 lets happen what they draw. False: *expected is a sentence's end. */
bool sim_fault_plan_parse(struct sim_fault_plan *p, const char *text, const char **expected) WARN_UNUSED;

/* Numbers of faults (world.h), rising. Its owner sets `mem`. */
struct sim_numbers {
    struct mem *mem;
    uint64_t *items;
    size_t count, capacity;
};
void sim_numbers_add(struct sim_numbers *n, uint64_t v); /* above all that are there */
bool sim_numbers_contain(const struct sim_numbers *n, uint64_t v);
/* As text: rising numbers and ranges with commas between ("3,7-12,40"), or "none". */
void sim_numbers_put(const struct sim_numbers *n, struct buf *out);
/* Reads that; ranges need not be as long as they could be. False: it is not that, or more than SIM_NUMBERS_MAX. */
#define SIM_NUMBERS_MAX (1u << 20)
bool sim_numbers_parse(struct sim_numbers *n, const char *text) WARN_UNUSED;
void sim_numbers_copy(struct sim_numbers *to, const struct sim_numbers *from);
void sim_numbers_free(struct sim_numbers *n);

#define SIM_RUN_HISTORY_LINES 60u

struct sim_run_options {
    uint64_t seed;
    uint64_t minutes; /* of virtual time that the load lasts; 0: the workload's own idea */
    uint64_t load_ns; /* the load ends then, earlier than it would: the run is the same until there; 0: not given */
    enum mutant mutant;
    struct sim_fault_plan faults;
    bool calm;                      /* begins with the world's faults_off, which the workload may end */
    const struct sim_numbers *keep; /* no faults but those with these numbers; NULL: all */
    uint64_t steps_max;             /* 0: the usual limit */
    void (*trace)(void *ctx, const char *line);
    void *trace_ctx;
    /* What a run tells beside its result; NULL: not wanted. The numbers of the faults that were let happen; and, when a
     * promise was broken, the shortest history that shows it: lines with \n, SIM_RUN_HISTORY_LINES at most. */
    struct sim_numbers *done;
    struct buf *history;
};

struct sim_run {
    const struct sim_run_options *options;
    const struct sim_workload *workload;
    struct sim_world *world;
    struct sim_node *driver;
    struct sim_mem scratch; /* of the workload: outlives all nodes, dropped at the end of the run */
    uint64_t load_ns;       /* what sim_run_load_ns has said */
    uint64_t planned_ns;    /* what it would have said without options->load_ns */
    uint64_t ops;           /* things tried whose outcome was checked */
    uint64_t acked;         /* of these, what was acknowledged, and so must never be lost */
};

struct sim_result {
    uint64_t hash, ops, acked, faults, steps, virtual_ns;
    uint64_t load_ns; /* how long the load was to last */
    uint64_t fault_counts[SIM_FAULTS];
    char failure[512]; /* "": every promise was kept */
};

/* Runs one workload with one seed. Nothing of it is left afterwards. */
void sim_run_seed(const struct sim_workload *s, const struct sim_run_options *o, struct sim_result *out);
/* Twice, with memory at other places. A run that differs is a broken promise, and *out is the first one's result with
 * that failure; false then. The second run is not traced. */
bool sim_run_seed_twice(const struct sim_workload *s, const struct sim_run_options *o, struct sim_result *out);

/* --- For workloads. */
static inline struct mem *sim_run_mem(struct sim_run *r) {
    return &r->scratch.base;
}
/* How long the load lasts: what the options say, or a random time up to `usual_minutes`. To be asked once. Nothing but
 * the end of the load may depend on it: a run is made shorter by it and must be the same until then. */
uint64_t sim_run_load_ns(struct sim_run *r, uint64_t usual_minutes);
/* The same and `least_ns` before it, for a load that would otherwise often be over before anything works. */
uint64_t sim_run_load_after_ns(struct sim_run *r, uint64_t least_ns, uint64_t usual_minutes);
/* A handle of the world's bucket for the node whose fiber this is. */
struct store *sim_run_store(struct sim_run *r, struct env *e, bool exclusive);
/* Crashes an up node, either way; at once or at some suspension soon. */
void sim_run_crash(struct sim_run *r, struct sim_node *n);
/* Ends faults and pauses. What is late stays late; see SIM_RUN_LATE_NS. */
void sim_run_heal(struct sim_run *r);
/* Suspends until the node is down; false if it is still up after `limit_ns`. */
bool sim_run_wait_down(struct sim_run *r, struct sim_node *n, uint64_t limit_ns);
/* After a heal and this long, nothing that was sent before is still to land. */
#define SIM_RUN_LATE_NS (900 * NS_PER_S)

/* Bytes that follow from an id, for content that can be checked. */
void sim_payload_fill(uint64_t id, uint8_t *out, size_t size);
bool sim_payload_is(uint64_t id, const uint8_t *data, size_t size);

#endif
