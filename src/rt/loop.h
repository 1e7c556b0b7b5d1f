/* The event loop: one per shard and one for each helper thread (WAL and ledger, store). Its core (this file and loop.c)
 * knows ready fibers, timers and mail; where events come from is the environment's business: epoll, io_uring, or the
 * simulator, which steps all loops of all nodes in one thread. A loop is touched by its own thread only, except
 * loop_post. */
#ifndef OXBOW_RT_LOOP_H
#define OXBOW_RT_LOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "rt/fiber.h"

struct env;
struct fiber_pool;

#define LOOP_MAGIC 0x100ec0deu

/* Mail: a message that another loop's thread delivers to this one. Embedded in what it carries; in one inbox at a time.
 * Mail from one sender arrives in the order sent. */
struct mail {
    struct mail *next;
    void (*deliver)(struct mail *m); /* runs on the receiving loop, outside any fiber; must not suspend */
};

/* A timer: fires once, on its loop, outside any fiber. Embedded; armed or not. */
struct timer {
    uint64_t deadline_ns; /* monotonic */
    uint64_t sequence;    /* ties fire in the order armed */
    uint32_t heap_index;  /* UINT32_MAX: not armed */
    void (*fire)(struct timer *t);
};

struct loop {
    unsigned magic;
    struct env *env;
    const char *name;
    unsigned index;        /* in the order the environment made them; 0 is the first */
    struct list ready;     /* fibers to run */
    struct fiber *running; /* or NULL */
    struct fiber_pool *pool;
    struct timer **timers; /* binary heap */
    uint32_t timer_count, timer_capacity;
    uint64_t timer_sequence;
    _Atomic(struct mail *) inbox; /* newest first */
    uint64_t fibers_alive;
    bool stopping;    /* set by loop_stop: the loop ends once nothing is ready */
    void *backend;    /* of the environment */
    void *context[2]; /* the machine context of the loop while a fiber runs (fiber.c) */
};

/* The loop whose thread this is (in the simulator: the one being stepped); NULL outside. */
struct loop *loop_current(void);

/* Any thread. The message belongs to the receiver until it is delivered. */
void loop_post(struct loop *to, struct mail *m);
/* Runs fn(arg) in a fiber on `to` and suspends the calling fiber until it has returned. When `to` is the current loop:
 * a plain call. Calls made to one loop by successive calls from one loop start in that order. */
void loop_call(struct loop *to, fiber_fn *fn, void *arg);
/* Like loop_call without waiting; for background work. Any thread. `name` is a literal. */
void loop_spawn(struct loop *to, const char *name, fiber_fn *fn, void *arg);

void timer_init(struct timer *t, void (*fire)(struct timer *t));
/* On the current loop; an armed timer is moved. */
void timer_arm(struct timer *t, uint64_t deadline_ns);
void timer_disarm(struct timer *t); /* an unarmed one is fine */
bool timer_armed(const struct timer *t);

/* For environments only. */
void loop_init(struct loop *l, struct env *env, const char *name, unsigned index);
void loop_deinit(struct loop *l); /* drops what is left: fibers' stacks go back, nothing of theirs runs */
void loop_set_current(struct loop *l);
/* Delivers mail, fires timers due at now_ns, then runs each fiber that was ready at entry once. Returns true if there
 * is more to do at once. */
bool loop_step(struct loop *l, uint64_t now_ns);
/* Runs exactly one thing (one mail, one timer, or one fiber until it suspends), chosen by the caller's number `choice`
 * among what is ready, or in order for choice 0. For the simulator: finer interleavings. Returns false if nothing was
 * ready. */
bool loop_step_one(struct loop *l, uint64_t now_ns, uint64_t choice);
/* When the next timer is due; UINT64_MAX if none. 0 when something is ready now. */
uint64_t loop_next_deadline_ns(const struct loop *l);
/* From any thread: ends the loop (the environment's main function or thread returns once nothing is ready). */
void loop_stop(struct loop *l);

#endif
