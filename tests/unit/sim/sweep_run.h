/* Fault sweeps (sim/sweep.h): a piece of work is run again and again in a small world without other faults, and each time
 * another one of its operations fails, until a run does not get that far. Afterwards its check runs without faults, on
 * what is left.
 *
 * In every run: the work ends, in order, with success or with an error that it tells; nothing is left of it, neither
 * memory nor files nor sockets (an orderly stop that leaves some is a failure by itself); and what it was acknowledged is
 * there. With `ever` the device or store stays dead: the work is asked to stop after a while and has to, or, if it is
 * only about to begin and waits for the store, goes on as soon as that is back. */
#ifndef OXBOW_TESTS_SWEEP_RUN_H
#define OXBOW_TESTS_SWEEP_RUN_H

#include "unit/sim/sim_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/run.h"

struct sweep_run { /* the first member of a piece's own struct, which is zero at the beginning of each run */
    struct sim_world *world;
    struct sim_node *node;
    bool stop;    /* the work is asked to come to its end */
    bool damaged; /* a part of the run in which nothing may be expected to work any more */
    unsigned acked;
};

struct sweep_piece {
    const char *name;
    size_t size;       /* of its struct */
    unsigned classes;  /* what is swept */
    fiber_fn *prepare; /* before, without faults; NULL: nothing */
    fiber_fn *work, *check;
    /* Made beside the node, each running its function all the time; NULL: none. */
    fiber_fn *beside;
    unsigned step; /* only each so-manieth operation; 0: each */
};

/* In fibers cmocka's assertions cannot jump; the first that fails is told at the end of the run. */
#define SWEEP_EXPECT(r, c, ...) ((c) ? (void)0 : sim_fail(((struct sweep_run *)(r))->world, __VA_ARGS__))

#define SWEEP_STEPS 3000000u
#define SWEEP_PATIENCE_NS (120 * NS_PER_S) /* with one failure: everything ends by itself */

static inline bool sweep_over(void *arg) {
    void **a = arg;
    struct sweep_run *r = a[0];
    return !sim_node_up(r->node) || r->world->now_ns >= *(uint64_t *)a[1];
}

/* Lets the world go on until the node is down or the time is up. */
static inline void sweep_wait(struct sweep_run *r, uint64_t ns) {
    uint64_t until = r->world->now_ns + ns;
    void *arg[2] = {r, &until};
    enum sim_end end = sim_world_run(r->world, SWEEP_STEPS, sweep_over, arg);
    if (end == SIM_END_STEPS) sim_fail(r->world, "no end after %u steps: something repeats itself", SWEEP_STEPS);
    if (end == SIM_END_IDLE) sim_fail(r->world, "nothing can happen any more, and the work still waits");
}

static inline void sweep_must_end(struct sweep_run *r, const char *what) {
    sweep_wait(r, SWEEP_PATIENCE_NS);
    if (sim_node_up(r->node)) sim_fail(r->world, "%s does not come to an end", what);
}

static inline void sweep_stage(struct sweep_run *r, fiber_fn *fn, const char *what) {
    if (!fn || sim_failed(r->world)) return;
    sim_node_start(r->node, fn, r);
    sweep_must_end(r, what);
}

static inline void sweep_work(struct sweep_run *r, const struct sweep_piece *p, bool ever) {
    sim_node_start(r->node, p->work, r);
    if (!ever) {
        sweep_must_end(r, "the work");
        return;
    }
    sweep_wait(r, SWEEP_PATIENCE_NS);
    r->stop = true;
    sweep_wait(r, SWEEP_PATIENCE_NS);
    if (!sim_node_up(r->node)) return;
    SWEEP_EXPECT(r, r->acked == 0, "the work, asked to stop, goes on and on though it had begun");
    r->world->sweep.node = NULL;
    sweep_must_end(r, "the work, now that nothing is broken any more,");
}

/* One run. False: it has no operation n, or it failed. */
static inline bool sweep_once(const struct sweep_piece *p, enum sim_sweep_how how, bool ever, uint64_t n,
                              void (*trace)(void *ctx, const char *line)) {
    struct sim_world_options o = {.seed = 7, .trace = trace, .node_logs = trace != NULL};
    struct sim_world *w = sim_world_create(&o);
    sim_faults_none(&w->faults);
    struct sweep_run *r = test_calloc(1, p->size);
    r->world = w;
    r->node = sim_node_create(w, p->name);
    sweep_stage(r, p->prepare, "the preparation");
    if (p->beside) sim_node_start(sim_node_create(w, "beside"), p->beside, r);
    w->sweep = (struct sim_sweep){.node = r->node, .classes = p->classes, .how = how, .at = n, .ever = ever};
    if (!sim_failed(w)) sweep_work(r, p, ever);
    bool reached = w->sweep.reached;
    const char *what = w->sweep.what;
    w->sweep.node = NULL;
    if (!sim_failed(w) && n % 2 == 1) sim_node_crash(r->node, SIM_POWER_CUT); /* what was not synced may be gone */
    sweep_stage(r, p->check, "the check");
    bool failed = sim_failed(w);
    if (failed)
        print_message("%s: operation %lu (%s) %s%s: %s\n", p->name, n, what ? what : "not reached", sim_sweep_name(how),
                      ever ? " and all behind it" : "", w->failure);
    sim_world_destroy(w);
    test_free(r);
    if (failed && !trace) fail();
    return reached && !failed;
}

static inline void sweep_print(void *ctx, const char *line) {
    (void)ctx;
    print_message("%s\n", line);
}

/* All runs of a piece of work with one kind of failure. OXBOW_SWEEP="<piece> <how> <n> [ever]" shows one run instead. */
static inline uint64_t sweep_all(const struct sweep_piece *p, enum sim_sweep_how how, bool ever) {
    const char *wanted = getenv("OXBOW_SWEEP");
    if (wanted) {
        char name[64], kind[32];
        unsigned long n;
        if (sscanf(wanted, "%63s %31s %lu", name, kind, &n) == 3 && strcmp(name, p->name) == 0 &&
            strcmp(kind, sim_sweep_name(how)) == 0 && ever == (strstr(wanted, " ever") != NULL))
            (void)sweep_once(p, how, ever, n, sweep_print);
        return 1;
    }
    uint64_t n = 0, runs = 0;
    while (sweep_once(p, how, ever, n, NULL)) {
        n += p->step ? p->step : 1;
        runs++;
    }
    if (getenv("OXBOW_SWEEP_COUNTS"))
        print_message("%s %s%s: %lu runs\n", p->name, sim_sweep_name(how), ever ? " ever" : "", runs);
    return runs;
}

/* ... with every kind. */
static inline void sweep_every_kind(const struct sweep_piece *p) {
    for (unsigned how = 0; how < SIM_SWEEP_HOWS; how++) {
        uint64_t runs = sweep_all(p, (enum sim_sweep_how)how, false);
        if (how == SIM_SWEEP_REFUSED || how >= SIM_SWEEP_KILL) assert_true(runs > 0);
    }
    assert_true(sweep_all(p, SIM_SWEEP_REFUSED, true) > 0);
}

#endif
