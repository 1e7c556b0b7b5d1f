/* Timers of one coordinator: a binary heap of intrusive timers, ordered by when they are due. Arming and disarming cost
 * O(log n) and no allocation beyond the heap's own growth. A timer knows its place, so that it can be moved. */
#ifndef OXBOW_COORD_TIMERS_H
#define OXBOW_COORD_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum timer_kind {
    TIMER_SESSION, /* of a member */
    TIMER_PENDING, /* a member id that was given out and not used */
    TIMER_GROUP,   /* a rebalance's join or sync phase */
    TIMER_OFFSETS, /* the coordinator's look for expired offsets */
};

struct timer {
    int64_t due_ms;
    size_t place; /* in the heap, counted from 1; 0: not armed */
    enum timer_kind kind;
};

struct timers {
    struct mem *mem;
    struct timer **heap;
    size_t count, capacity;
};

void timers_init(struct timers *t, struct mem *mem);
void timers_deinit(struct timers *t); /* whatever is armed is forgotten */
/* Arms it, or moves it. */
void timers_arm(struct timers *t, struct timer *timer, int64_t due_ms);
void timers_disarm(struct timers *t, struct timer *timer); /* harmless when it is not armed */
static inline bool timer_armed(const struct timer *timer) {
    return timer->place != 0;
}
/* What is due first; NULL: nothing is armed. */
static inline struct timer *timers_first(const struct timers *t) {
    return t->count ? t->heap[0] : NULL;
}

#endif
