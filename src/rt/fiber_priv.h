/* The insides of fibers, shared by fiber.c, waitq.c, loop.c and the environments' back ends. A fiber object lives at
 * the top of its own stack; all of a loop's fibers hang in its pool, so that a loop can be dropped with everything that
 * was suspended on it. */
#ifndef OXBOW_RT_FIBER_PRIV_H
#define OXBOW_RT_FIBER_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "rt/fiber.h"
#include "rt/linux/stack.h"
#include "rt/loop.h"

#define FIBER_MAGIC 0xf1be4f1bu

enum fiber_state {
    FIBER_READY, /* in loop->ready, or about to be run */
    FIBER_RUNNING,
    FIBER_PARKED,  /* in fiber_park: fiber_unpark wakes it */
    FIBER_WAITING, /* in fiber_suspend: only fiber_resume wakes it; an unpark leaves its token */
    FIBER_DONE,    /* fn returned; the stack is about to be recycled */
};

struct fiber {
    unsigned magic;
    enum fiber_state state;
    bool started;
    bool token; /* an unpark that found nobody parked */
    bool woken; /* how a wait with a deadline ended */
    const char *name;
    struct loop *loop;
    fiber_fn *fn;
    void *arg;
    struct list node;   /* in loop->ready or in a wait queue; alone otherwise */
    struct list pooled; /* in pool->alive or pool->spare */
    struct timer timer; /* of a sleep or a deadline */
    void *context;      /* the stack pointer while it does not run */
    struct fiber_stack stack;
    void *fake_stack; /* AddressSanitizer's, while it does not run */
    void *tsan;       /* ThreadSanitizer's fiber */
};

/* The private part of a loop. */
struct fiber_pool {
    struct list alive;
    struct list spare; /* finished fibers whose stacks are kept, the warmest first */
    unsigned spare_count;
    unsigned spare_low; /* the least there were since `give_back` was armed: those nobody needed */
    struct timer give_back;
    unsigned colour; /* see fiber_take */
    /* Mail taken out of the inbox and not delivered yet, oldest first. */
    struct mail *mail;
    /* The loop's own stack, as the sanitizers know it. */
    void *loop_fake_stack;
    const void *loop_stack_bottom;
    size_t loop_stack_size;
    void *loop_tsan;
};

/* Suspends the running fiber until fiber_resume; a token of fiber_unpark does not end it. For waits that have one
 * waker. */
void fiber_suspend(void);
/* Makes a fiber that is in fiber_suspend ready. Same loop only; exactly once for each suspend. */
void fiber_resume(struct fiber *f);

struct fiber_pool *fiber_pool_create(struct loop *l);
/* Gives every stack back, those of suspended fibers too. */
void fiber_pool_destroy(struct loop *l, struct fiber_pool *p);
/* Runs f until it suspends or ends. Called by the loop, outside any fiber. */
void fiber_run(struct loop *l, struct fiber *f);

#endif
