/* A failed run made smaller: the load ends earlier and faults are left out, as long as the same promise is broken. Faults
 * are left out by number (world.h), so what is found is repeated exactly by the numbers of those that are kept and the
 * length of the load. A run from which a fault is left out goes its own way from there on; hence faults are tried from
 * the last to the first, in halves, then quarters, and so on, and what is left is small, not the smallest. */
#ifndef OXBOW_SIM_SHRINK_H
#define OXBOW_SIM_SHRINK_H

#include "sim/run.h"

#define SIM_SHRINK_RUNS_MAX 200u
#define SIM_SHRINK_STEPS_MAX 4000000u /* of all runs together */

struct sim_shrunk {
    unsigned runs;            /* how many it took */
    uint64_t load_ns;         /* options->load_ns of the smallest run; 0: as long as it was */
    bool keeps;               /* options->keep of it is `kept`; else it has all faults that the failed run had */
    struct sim_numbers kept;  /* the caller's: sim_numbers_free */
    struct sim_result result; /* of the smallest run */
    bool differs; /* the failed run, run again, was another one: determinism is broken, nothing was shrunk */
};

/* Whether two failures tell of the same promise: the same words, whatever the numbers in them. */
bool sim_shrink_same_promise(const char *a, const char *b);

/* `failed` is the result of that run. stop(ctx) (NULL: never) is asked before each run whether to be content. The
 * history of the smallest run goes to `history`. */
void sim_shrink(const struct sim_workload *s, const struct sim_run_options *o, const struct sim_result *failed,
                bool (*stop)(void *ctx), void *ctx, struct buf *history, struct sim_shrunk *out);

#endif
