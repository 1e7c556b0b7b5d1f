/* Fibers: stackful coroutines, drawn from a pool, that run straight down and suspend where they would block. A fiber
 * belongs to one loop for its whole life and runs on that loop's thread only. A fiber is taken per complete request and
 * per background job; idle connections and waiting long-polls hold none.
 *
 * After any function that "may suspend" the world may have changed: look things up again, and never suspend while a
 * structure that others can see is half changed. */
#ifndef OXBOW_RT_FIBER_H
#define OXBOW_RT_FIBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct loop;
struct fiber;

typedef void fiber_fn(void *arg);

/* Starts fn(arg) on `loop`, which must be the current one; it runs soon, not now. `name` is a literal, for diagnosis.
 */
struct fiber *fiber_spawn(struct loop *loop, const char *name, fiber_fn *fn, void *arg);
/* The fiber that is running; NULL when the loop itself is (callbacks of sockets, timers, mail). */
struct fiber *fiber_self(void);
/* Lets every other ready fiber of the loop run first. Suspends. */
void fiber_yield(void);
/* Suspends until fiber_unpark. An unpark that came before the park is kept (one token), so no wake-up is lost; hence a
 * park may also return early: callers park in a loop around their condition. */
void fiber_park(void);
/* Makes a parked fiber ready. Same loop only; other loops post mail. */
void fiber_unpark(struct fiber *f);
/* Suspends for that long by the environment's monotonic clock. */
void fiber_sleep_ns(uint64_t ns);

/* Fibers that wait for something, in order of arrival. Same loop only. */
struct waitq {
    struct list waiters;
};
void waitq_init(struct waitq *q);
bool waitq_empty(const struct waitq *q);
void waitq_wait(struct waitq *q); /* suspends until woken */
/* Suspends until woken (true) or until the monotonic time has come (false). UINT64_MAX: no limit. */
bool waitq_wait_until(struct waitq *q, uint64_t deadline_ns);
void waitq_wake_one(struct waitq *q);
void waitq_wake_all(struct waitq *q);

/* A lock between fibers of one loop: first come, first served. */
struct fiber_mutex {
    struct fiber *owner;
    struct waitq waiters;
};
void fiber_mutex_init(struct fiber_mutex *m);
void fiber_mutex_lock(struct fiber_mutex *m); /* may suspend */
void fiber_mutex_unlock(struct fiber_mutex *m);

/* Counts fibers or jobs that are under way, so that a close can wait for them. */
struct waitgroup {
    uint64_t running;
    struct waitq waiters;
};
void waitgroup_init(struct waitgroup *g);
void waitgroup_add(struct waitgroup *g);
void waitgroup_done(struct waitgroup *g);
void waitgroup_wait(struct waitgroup *g); /* suspends until none runs */

#endif
