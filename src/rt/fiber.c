/* Fibers: creation, switching, suspension. A loop runs a fiber by switching to its stack; the fiber suspends by
 * switching back. So there are never more than two contexts of a loop in play, and nothing here takes a lock.
 *
 * Stacks are kept for the next fiber, the last used first, since it is in the cache. To map one costs as much as a
 * small request, so a burst keeps what it needed; what then nobody uses for a while goes back to the machine, little by
 * little, down to FIBER_SPARE_MAX. The sanitizers are told of every switch: AddressSanitizer must know which stack is
 * current, ThreadSanitizer which history. */
#include "rt/fiber.h"

#include <string.h>

#include "base/assert.h"
#include "rt/env.h"
#include "rt/fiber_priv.h"
#include "rt/sanitizer.h"

#define FIBER_SPARE_MAX 64u
#define GIVE_BACK_EVERY_NS (250 * NS_PER_MS)
#define GIVE_BACK_MAX 64u /* at once: more would stall the loop */

/* fiber_switch.S */
void fiber_switch(void **save, void *load) __attribute__((visibility("hidden")));
void fiber_start(void) __attribute__((visibility("hidden")));

/* --- Switching. */

/* Lays out the frame that fiber_switch pops when the fiber runs for the first time: entry(f), with default
 * floating-point modes. */
static void *fiber_context_make(void *top, void (*entry)(struct fiber *), struct fiber *f) {
    ASSERT(((uintptr_t)top & 15) == 0);
    uint64_t *frame;
#if defined(__x86_64__)
    frame = (uint64_t *)top - 10;
    memset(frame, 0, 10 * sizeof(*frame));
    frame[0] = 0x0000037f00001f80ull;      /* x87 control word above mxcsr */
    frame[3] = (uint64_t)(uintptr_t)entry; /* r13 */
    frame[4] = (uint64_t)(uintptr_t)f;     /* r12 */
    frame[7] = (uint64_t)(uintptr_t)fiber_start;
    /* Two more words: a null return address ends backtraces, and fiber_start begins with an aligned stack. */
#elif defined(__aarch64__)
    frame = (uint64_t *)top - 22;
    memset(frame, 0, 22 * sizeof(*frame));
    frame[0] = (uint64_t)(uintptr_t)f;            /* x19 */
    frame[1] = (uint64_t)(uintptr_t)entry;        /* x20 */
    frame[11] = (uint64_t)(uintptr_t)fiber_start; /* x30 */
#endif
    return frame;
}

static void switch_to_fiber(struct loop *l, struct fiber *f) {
#if OXBOW_ASAN
    size_t size = (size_t)((char *)f - (char *)f->stack.base);
    __sanitizer_start_switch_fiber(&l->pool->loop_fake_stack, f->stack.base, size);
#endif
#if OXBOW_TSAN
    l->pool->loop_tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(f->tsan, 0);
#endif
    fiber_switch(&l->context[0], f->context);
#if OXBOW_ASAN
    __sanitizer_finish_switch_fiber(l->pool->loop_fake_stack, NULL, NULL);
#endif
}

static void switch_to_loop(struct fiber *f) {
    struct loop *l = f->loop;
#if OXBOW_ASAN
    __sanitizer_start_switch_fiber(f->state == FIBER_DONE ? NULL : &f->fake_stack, l->pool->loop_stack_bottom,
                                   l->pool->loop_stack_size);
#endif
#if OXBOW_TSAN
    __tsan_switch_to_fiber(l->pool->loop_tsan, 0);
#endif
    fiber_switch(&f->context, l->context[0]);
#if OXBOW_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, &l->pool->loop_stack_bottom, &l->pool->loop_stack_size);
#endif
}

/* The bottom frame of every fiber. */
static void fiber_main(struct fiber *f) {
#if OXBOW_ASAN
    __sanitizer_finish_switch_fiber(NULL, &f->loop->pool->loop_stack_bottom, &f->loop->pool->loop_stack_size);
#endif
    f->fn(f->arg);
    ASSERT(f->state == FIBER_RUNNING && f->loop->running == f);
    f->state = FIBER_DONE;
    switch_to_loop(f);
    UNREACHABLE();
}

/* --- The pool. */

static void fiber_free(struct fiber *f) {
    ASSERT(f->magic == FIBER_MAGIC);
    f->magic = 0;
#if OXBOW_TSAN
    if (f->tsan) __tsan_destroy_fiber(f->tsan);
#endif
    stack_unmap(f->stack); /* f lies in it */
}

static void give_back_fire(struct timer *t) {
    struct fiber_pool *p = CONTAINER_OF(t, struct fiber_pool, give_back);
    unsigned unused = p->spare_low < GIVE_BACK_MAX ? p->spare_low : GIVE_BACK_MAX;
    for (; unused > 0 && p->spare_count > FIBER_SPARE_MAX; unused--) {
        struct list *coldest = p->spare.prev;
        list_remove(coldest);
        p->spare_count--;
        fiber_free(LIST_ENTRY(coldest, struct fiber, pooled));
    }
    p->spare_low = p->spare_count;
    if (p->spare_count > FIBER_SPARE_MAX) timer_arm(t, t->deadline_ns + GIVE_BACK_EVERY_NS);
}

struct fiber_pool *fiber_pool_create(struct loop *l) {
    struct fiber_pool *p = MEM_NEW(l->env->mem, struct fiber_pool);
    list_init(&p->alive);
    list_init(&p->spare);
    timer_init(&p->give_back, give_back_fire);
    return p;
}

void fiber_pool_destroy(struct loop *l, struct fiber_pool *p) {
    ASSERT(!l->running);
    list_splice_back(&p->alive, &p->spare);
    for (struct list *n; (n = list_pop_front(&p->alive)) != NULL;) fiber_free(LIST_ENTRY(n, struct fiber, pooled));
    mem_free(l->env->mem, p);
}

static void fiber_timer_fire(struct timer *t) {
    struct fiber *f = CONTAINER_OF(t, struct fiber, timer);
    f->woken = false;
    fiber_resume(f);
}

/* A fiber object on a stack, from the pool or new. Everything but `stack` and `pooled` is reset. */
static struct fiber *fiber_take(struct loop *l) {
    struct fiber_pool *p = l->pool;
    struct fiber_stack stack;
    struct fiber *f = NULL;
    struct list *n = list_pop_front(&p->spare);
    if (n) {
        p->spare_count--;
        if (p->spare_count < p->spare_low) p->spare_low = p->spare_count;
        f = LIST_ENTRY(n, struct fiber, pooled);
        stack = f->stack;
    } else {
        stack = stack_map();
        /* Stacks begin at like addresses; the same line of all of them would fall into one set of the cache. */
        size_t colour = p->colour++ % 16 * 256;
        f = (struct fiber *)(void *)((char *)stack.base + ((stack.size - sizeof(*f)) & ~(size_t)63) - colour);
    }
#if OXBOW_ASAN
    __asan_unpoison_memory_region(stack.base, stack.size);
#endif
    memset(f, 0, sizeof(*f));
    INIT_OBJ(f, FIBER_MAGIC);
    f->stack = stack;
    list_init(&f->node);
    list_push_back(&p->alive, &f->pooled);
    timer_init(&f->timer, fiber_timer_fire);
    return f;
}

static void fiber_recycle(struct loop *l, struct fiber *f) {
    struct fiber_pool *p = l->pool;
    ASSERT(f->state == FIBER_DONE && list_empty(&f->node) && !timer_armed(&f->timer));
    l->fibers_alive--;
    list_remove(&f->pooled);
#if OXBOW_TSAN
    __tsan_destroy_fiber(f->tsan);
    f->tsan = NULL;
#endif
    list_push_front(&p->spare, &f->pooled);
    p->spare_count++;
    if (OX_UNLIKELY(p->spare_count > FIBER_SPARE_MAX && !timer_armed(&p->give_back))) {
        p->spare_low = p->spare_count;
        timer_arm(&p->give_back, env_now_ns(l->env) + GIVE_BACK_EVERY_NS);
    }
}

/* --- Running and suspending. */

struct fiber *fiber_spawn(struct loop *loop, const char *name, fiber_fn *fn, void *arg) {
    CHECK_OBJ(loop, LOOP_MAGIC);
    ASSERT(loop == loop_current() && fn);
    struct fiber *f = fiber_take(loop);
    f->name = name;
    f->loop = loop;
    f->fn = fn;
    f->arg = arg;
    f->state = FIBER_READY;
    f->context = fiber_context_make(f, fiber_main, f);
#if OXBOW_TSAN
    f->tsan = __tsan_create_fiber(0);
    __tsan_set_fiber_name(f->tsan, name);
#endif
    list_push_back(&loop->ready, &f->node);
    loop->fibers_alive++;
    return f;
}

void fiber_run(struct loop *l, struct fiber *f) {
    CHECK_OBJ(f, FIBER_MAGIC);
    ASSERT(!l->running && f->loop == l && f->state == FIBER_READY && list_empty(&f->node));
    f->state = FIBER_RUNNING;
    f->started = true;
    l->running = f;
    switch_to_fiber(l, f);
    ASSERT(l->running == f && f->state != FIBER_RUNNING);
    l->running = NULL;
    if (f->state == FIBER_DONE) fiber_recycle(l, f);
}

struct fiber *fiber_self(void) {
    struct loop *l = loop_current();
    return l ? l->running : NULL;
}

/* The running fiber, or the end: only a fiber can suspend. */
static struct fiber *fiber_must(void) {
    struct fiber *f = fiber_self();
    CHECK_OBJ(f, FIBER_MAGIC);
    ASSERT(f->state == FIBER_RUNNING);
    return f;
}

static void fiber_make_ready(struct fiber *f) {
    ASSERT(f->loop == loop_current() && list_empty(&f->node));
    f->state = FIBER_READY;
    list_push_back(&f->loop->ready, &f->node);
}

void fiber_yield(void) {
    struct fiber *f = fiber_must();
    fiber_make_ready(f);
    switch_to_loop(f);
}

void fiber_park(void) {
    struct fiber *f = fiber_must();
    if (f->token) {
        f->token = false;
        return;
    }
    f->state = FIBER_PARKED;
    switch_to_loop(f);
}

void fiber_unpark(struct fiber *f) {
    CHECK_OBJ(f, FIBER_MAGIC);
    ASSERT(f->loop == loop_current() && f->state != FIBER_DONE);
    if (f->state == FIBER_PARKED) {
        fiber_make_ready(f);
    } else {
        f->token = true;
    }
}

void fiber_suspend(void) {
    struct fiber *f = fiber_must();
    f->state = FIBER_WAITING;
    switch_to_loop(f);
}

void fiber_resume(struct fiber *f) {
    CHECK_OBJ(f, FIBER_MAGIC);
    ASSERT(f->state == FIBER_WAITING);
    list_remove(&f->node); /* out of the wait queue, if it is in one */
    fiber_make_ready(f);
}

void fiber_sleep_ns(uint64_t ns) {
    struct fiber *f = fiber_must();
    uint64_t now = env_now_ns(f->loop->env);
    timer_arm(&f->timer, ns < UINT64_MAX - now ? now + ns : UINT64_MAX);
    fiber_suspend();
}
