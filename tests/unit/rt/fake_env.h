/* An environment with nothing but a clock that stands still until it is told to move: enough for fibers, timers and
 * mail. */
#ifndef OXBOW_TESTS_RT_FAKE_ENV_H
#define OXBOW_TESTS_RT_FAKE_ENV_H

#include <string.h>

#include "base/random.h"
#include "rt/env.h"

struct fake_env {
    struct env env;
    struct mem mem;
    struct metrics metrics;
    _Atomic uint64_t now_ns;
    _Atomic unsigned wakes;
    struct rng rng;
};

static inline uint64_t fake_now_ns(struct env *e) {
    return ((struct fake_env *)(void *)e)->now_ns;
}
static inline int64_t fake_wall_ms(struct env *e) {
    return (int64_t)(fake_now_ns(e) / NS_PER_MS);
}
static inline void fake_random(struct env *e, void *out, size_t n) {
    rng_fill(&((struct fake_env *)(void *)e)->rng, out, n);
}
static inline void fake_wake(struct loop *l) {
    ((struct fake_env *)(void *)l->env)->wakes++;
}

static const struct env_ops fake_ops = {
    .now_ns = fake_now_ns,
    .wall_ms = fake_wall_ms,
    .random = fake_random,
    .loop_wake = fake_wake,
};

static inline void fake_init(struct fake_env *f) {
    memset(f, 0, sizeof(*f));
    mem_init_heap(&f->mem);
    f->env = (struct env){.magic = ENV_MAGIC, .ops = &fake_ops, .mem = &f->mem, .metrics = &f->metrics};
    f->now_ns = 1000;
    rng_seed(&f->rng, 1);
}

/* Steps until nothing is ready; returns the number of steps. */
static inline unsigned fake_settle(struct fake_env *f, struct loop *l) {
    unsigned steps = 1;
    while (loop_step(l, f->now_ns)) steps++;
    return steps;
}
/* Moves the clock to the next timer again and again until nothing is left to do. */
static inline void fake_run(struct fake_env *f, struct loop *l) {
    for (;;) {
        fake_settle(f, l);
        uint64_t next = loop_next_deadline_ns(l);
        if (next == UINT64_MAX) break;
        if (next > f->now_ns) f->now_ns = next;
    }
}

#endif
