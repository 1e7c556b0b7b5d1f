/* What environments need of the loop beside loop.h. */
#ifndef OXBOW_RT_LOOP_PRIV_H
#define OXBOW_RT_LOOP_PRIV_H

#include "rt/loop.h"

#define LOOP_STALL_NS 500000u

/* Reads the clock at the end of something that began at started_ns on the loop; counts it as a stall if it took too
 * long. Returns the clock. */
uint64_t loop_stall_check(struct loop *l, uint64_t started_ns);
/* Forgets undelivered mail. Several loops that are dropped together do this first, for mail may lie on the stack of
 * another loop's fiber. */
void loop_drop_mail(struct loop *l);
/* Thread-safe read of loop->stopping. */
bool loop_stopping(const struct loop *l);

#endif
