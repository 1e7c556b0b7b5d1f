/* The monotonic clock of a simulated machine: it begins anywhere, runs at a rate of its own, and may stand still for a
 * while. Never backwards. A few integers, so that every machine computes the same. */
#ifndef OXBOW_SIM_CLOCK_H
#define OXBOW_SIM_CLOCK_H

#include <stdint.h>

#define SIM_CLOCK_RATE 1000000u /* nanoseconds of the clock in a millisecond of the world */

struct sim_clock {
    uint64_t world_ns, shown_ns; /* it showed the one at the other */
    uint64_t still_until_ns;     /* the world's time; until then it shows shown_ns */
    uint32_t rate;
};

static inline uint64_t sim_clock_from_ns(const struct sim_clock *c) {
    return c->still_until_ns > c->world_ns ? c->still_until_ns : c->world_ns;
}

static inline uint64_t sim_clock_read(const struct sim_clock *c, uint64_t world_ns) {
    uint64_t from = sim_clock_from_ns(c);
    if (world_ns <= from) return c->shown_ns;
    uint64_t d = world_ns - from;
    if (c->rate == SIM_CLOCK_RATE) return c->shown_ns + d;
    return c->shown_ns + d / SIM_CLOCK_RATE * c->rate + d % SIM_CLOCK_RATE * c->rate / SIM_CLOCK_RATE;
}

/* The first time of the world at which it shows `shown_ns` or more; 0 when it did so long ago. */
static inline uint64_t sim_clock_when(const struct sim_clock *c, uint64_t shown_ns) {
    if (shown_ns <= c->shown_ns) return 0;
    uint64_t d = shown_ns - c->shown_ns, from = sim_clock_from_ns(c);
    if (d > UINT64_MAX / 4) return UINT64_MAX; /* never */
    if (c->rate != SIM_CLOCK_RATE)
        d = d / c->rate * SIM_CLOCK_RATE + (d % c->rate * SIM_CLOCK_RATE + c->rate - 1) / c->rate;
    return from + d;
}

/* From world_ns on it runs at that rate, once still_until_ns has come. */
static inline void sim_clock_change(struct sim_clock *c, uint64_t world_ns, uint32_t rate, uint64_t still_until_ns) {
    c->shown_ns = sim_clock_read(c, world_ns);
    c->world_ns = world_ns;
    c->rate = rate;
    c->still_until_ns = still_until_ns;
}

#endif
