/* What is counted. The program runs under callgrind, which counts instructions; these say when. A count has a name, which
 * guard.py finds in callgrind's dump. Outside of callgrind all of this does nothing.
 *
 * Of a simulated world only the steps of one node's loops are counted, between count_begin and count_end: the clients', the
 * driver's and the scheduler's instructions are not. What the simulator does within those steps, in the place of the kernel,
 * is taken off by guard.py. */
#ifndef OXBOW_PERF_COUNT_H
#define OXBOW_PERF_COUNT_H

#include <stdint.h>

struct env;

/* From now on the steps of that environment's loops count, when something is counted. NULL: the calling code itself does. */
void count_only(const struct env *e);
void count_begin(void);
/* Ends it, under that name: `units` of what, for the table. */
void count_end(const char *name, uint64_t units, const char *unit);

void work_codec(void);
/* small: batches of one record; else of 64 records in 64 KiB. */
void work_log(bool small, uint64_t seed);
void work_recover(bool small, uint64_t seed);

#endif
