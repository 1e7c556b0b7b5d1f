/* Many small jobs, a few at a time: for work that waits for storage and need not wait in line. */
#ifndef OXBOW_BROKER_CREW_H
#define OXBOW_BROKER_CREW_H

#include <stddef.h>

#include "rt/loop.h"

/* Calls fn(ctx, 0), ..., fn(ctx, count - 1), begun in this order, at most `width` at once, in fibers of the current
 * loop; suspends until all have returned. A single job runs in the calling fiber. */
void crew_run(const char *name, size_t count, size_t width, void (*fn)(void *ctx, size_t i), void *ctx);

#endif
