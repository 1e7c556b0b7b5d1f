/* A simulated world: one seed, virtual time, a heap of events, and nodes that run the real code on the simulator's
 * environment. Everything happens in the one
 * thread that calls sim_world_run. The scheduler picks, by the seed, among the loops that have something ready and
 * the events that are due, and lets exactly one
 * thing happen: one mail, one timer, one fiber until it suspends, one event. When nothing is ready, time jumps to
 * the next event or timer. Hence every
 * interleaving of suspensions can occur, and the same seed gives the same run: there are no addresses, no real clock
 * and no real randomness in it.
 *
 * What happened is folded into a hash (sim_world_hash): equal seeds give equal hashes, or determinism is broken. */
#ifndef OXBOW_SIM_WORLD_H
#define OXBOW_SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mem.h"
#include "base/random.h"
#include "rt/env.h"
#include "sim/sweep.h"

struct sim_world;
struct sim_node;
struct sim_bucket;

#define SIM_WORLD_MAGIC 0x51a0001u
#define SIM_NET_NODES 64u

enum sim_fault {
#define X(id, name, chance, wal_file, wal_device, object, sentence) id,
#include "sim/fault_table.h"
#undef X
    SIM_FAULTS
};
const char *sim_fault_name(enum sim_fault f);
const char *sim_fault_sentence(enum sim_fault f);

/* Probabilities, and one switch for each fault: what is off never happens, also when a workload draws the occasion by
 * itself and the chance says nothing (crashes, pauses, cuts). */
struct sim_faults {
    double chance[SIM_FAULTS];
    bool off[SIM_FAULTS];
};
void sim_faults_none(struct sim_faults *f);
void sim_faults_usual(struct sim_faults *f);
/* A random mixture: some never, some usual, some frequent. Runs with few kinds of faults get further, and find other
 * things than runs with all. */
void sim_faults_swarm(struct sim_faults *f, struct rng *rng);

/* Something that happens at a time. Embedded in what it carries; scheduled or not. fire() runs outside any loop and
 * fiber. */
struct sim_event {
    uint64_t at_ns;
    uint64_t sequence;   /* ties fire in the order scheduled */
    uint32_t heap_index; /* UINT32_MAX: not scheduled */
    void (*fire)(struct sim_event *e);
};

struct sim_world_options {
    uint64_t seed;
    /* One line for each event, without \n; NULL: none. */
    void (*trace)(void *ctx, const char *line);
    void *trace_ctx;
    bool node_logs;     /* the nodes' log lines go to `trace` as well */
    enum mutant mutant; /* of all environments */
};

struct sim_world {
    unsigned magic;
    struct sim_world_options options;
    struct mem heap; /* of the world itself: outlives every node */
    struct rng rng;
    uint64_t now_ns, steps, hash;
    struct sim_event **events;
    size_t event_count, event_capacity;
    uint64_t event_sequence;
    struct list nodes;
    unsigned node_count;
    struct sim_node *stepping; /* whose loop is running */
    struct sim_faults faults;
    bool faults_off; /* all at once, periods under way too: for a while, or by sim_world_heal for the end of a run */
    uint64_t fault_counts[SIM_FAULTS];
    struct list listeners, conns;    /* net.c */
    uint64_t net_cut[SIM_NET_NODES]; /* by node: to which nodes nothing of it gets through */
    struct list buckets;
    struct sim_bucket *bucket; /* the one that nodes share unless a workload makes more */
    bool leaks_fail;           /* memory or files left after an orderly stop fail the run (the default) */
    char failure[512];         /* the first broken promise; "" while there is none */
    uint64_t failed_subject;   /* what it is about (history.h) */
    struct list notes;         /* history.c */
    size_t note_count;
    /* Each fault that is about to be done has a number, counted from 0. `fault_veto`, when set, may forbid it: so a run
     * can be repeated with fewer faults and the same chances otherwise. */
    uint64_t fault_number;
    bool (*fault_veto)(void *ctx, uint64_t number, enum sim_fault f);
    void *fault_veto_ctx;
    struct sim_sweep sweep; /* the one operation that a test makes fail */
};

struct sim_world *sim_world_create(const struct sim_world_options *o);
/* Drops what still runs. */
void sim_world_destroy(struct sim_world *w);

enum sim_end {
    SIM_END_DONE,   /* the condition came true */
    SIM_END_IDLE,   /* nothing can ever happen again */
    SIM_END_STEPS,  /* the limit was reached */
    SIM_END_FAILED, /* sim_fail was called */
};
/* Ends all faults: none begins any more, and what lasts (storms, full disks, cut ways, pauses, clocks that stand still,
 * crashes that were planned) is over. Skewed clocks stay skewed and drifting ones go on drifting, for nobody mends them
 * in life either; what is late stays late. */
void sim_world_heal(struct sim_world *w);
/* Lets things happen until done(arg) (NULL: never) or another end. */
enum sim_end sim_world_run(struct sim_world *w, uint64_t steps_max, bool (*done)(void *arg), void *arg);
uint64_t sim_world_hash(const struct sim_world *w);
uint64_t sim_world_faults(const struct sim_world *w); /* how many faults were done so far */

/* Notes the first broken promise; the run ends after the current step. */
void sim_fail(struct sim_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline bool sim_failed(const struct sim_world *w) {
    return w->failure[0] != '\0';
}

/* For the parts of the simulator and for workloads. */
uint64_t sim_between(struct sim_world *w, uint64_t low, uint64_t high); /* both included */
bool sim_chance(struct sim_world *w, double probability);
bool sim_fault(struct sim_world *w, enum sim_fault f); /* by its chance; counted and traced when it comes true */
/* For faults whose occasion a workload draws by itself (crashes, pauses, cuts): whether this one may happen. To be asked
 * once for each that is about to be done; what does it counts it (sim_fault_count). False for what is switched off. */
bool sim_fault_allowed(struct sim_world *w, enum sim_fault f);
void sim_fault_count(struct sim_world *w, const struct sim_node *n, enum sim_fault f);
void sim_event_init(struct sim_event *e, void (*fire)(struct sim_event *e));
void sim_event_schedule(struct sim_world *w, struct sim_event *e, uint64_t at_ns); /* a scheduled one is moved */
void sim_event_cancel(struct sim_world *w, struct sim_event *e);
/* Folds an event into the hash and shows it. n may be NULL; kind and text are deterministic strings; text may be
 * NULL. */
void sim_trace(struct sim_world *w, const struct sim_node *n, const char *kind, const char *text, uint64_t a,
               uint64_t b);
void sim_hash(struct sim_world *w, uint64_t v); /* into the hash alone */

#endif
