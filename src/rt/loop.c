/* The core of the event loop: mail, timers, ready fibers, in that order, each in the order of arrival. Nothing here
 * depends on addresses or on the machine, so that the simulator gets the same run from the same seed.
 *
 * The inbox is a stack of mail that any thread pushes to and the loop takes whole, then turns around: what one sender
 * pushed comes out in its order. Who pushes onto an empty inbox wakes the loop; who finds something there relies on the
 * one before. */
#include "rt/loop.h"

#include "base/assert.h"
#include "rt/env.h"
#include "rt/fiber_priv.h"
#include "rt/loop_priv.h"

#define TIMER_UNARMED UINT32_MAX
#define STEP_ONE_WINDOW 64u /* ready fibers that a choice looks at */

static _Thread_local struct loop *current;

struct loop *loop_current(void) {
    return current;
}

void loop_set_current(struct loop *l) {
    current = l;
}

void loop_init(struct loop *l, struct env *env, const char *name, unsigned index) {
    CHECK_OBJ(env, ENV_MAGIC);
    *l = (struct loop){.magic = LOOP_MAGIC, .env = env, .name = name, .index = index};
    list_init(&l->ready);
    atomic_init(&l->inbox, NULL);
    l->pool = fiber_pool_create(l);
}

void loop_deinit(struct loop *l) {
    CHECK_OBJ(l, LOOP_MAGIC);
    ASSERT(!l->running);
    fiber_pool_destroy(l, l->pool);
    mem_free(l->env->mem, l->timers);
    if (current == l) current = NULL;
    *l = (struct loop){0};
}

/* --- Stalls. */

uint64_t loop_stall_check(struct loop *l, uint64_t started_ns) {
    uint64_t now = env_now_ns(l->env);
    if (OX_LIKELY(now < started_ns + LOOP_STALL_NS) || !l->env->metrics) return now;
    metric_add(l->env->metrics, M_LOOP_STALLS, 0, 1);
    int64_t took = (int64_t)(now - started_ns);
    _Atomic int64_t *longest = &l->env->metrics->gauges[M_LOOP_STALL_MAX_NS];
    int64_t seen = atomic_load_explicit(longest, memory_order_relaxed);
    while (took > seen && !atomic_compare_exchange_weak(longest, &seen, took)) {
    }
    return now;
}

/* --- Timers: a binary heap of (deadline, sequence). */

static bool timer_before(const struct timer *a, const struct timer *b) {
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->sequence < b->sequence;
}

static void heap_set(struct loop *l, uint32_t i, struct timer *t) {
    l->timers[i] = t;
    t->heap_index = i;
}

/* Puts t where it belongs, given that place i is free and all else is in order. */
static void heap_sift(struct loop *l, uint32_t i, struct timer *t) {
    while (i > 0) {
        uint32_t parent = (i - 1) / 2;
        if (!timer_before(t, l->timers[parent])) break;
        heap_set(l, i, l->timers[parent]);
        i = parent;
    }
    for (;;) {
        uint64_t child = 2 * (uint64_t)i + 1;
        if (child >= l->timer_count) break;
        if (child + 1 < l->timer_count && timer_before(l->timers[child + 1], l->timers[child])) child++;
        if (!timer_before(l->timers[child], t)) break;
        heap_set(l, i, l->timers[child]);
        i = (uint32_t)child;
    }
    heap_set(l, i, t);
}

void timer_init(struct timer *t, void (*fire)(struct timer *t)) {
    *t = (struct timer){.heap_index = TIMER_UNARMED, .fire = fire};
}

bool timer_armed(const struct timer *t) {
    return t->heap_index != TIMER_UNARMED;
}

void timer_arm(struct timer *t, uint64_t deadline_ns) {
    struct loop *l = current;
    CHECK_OBJ(l, LOOP_MAGIC);
    ASSERT(t->fire);
    t->deadline_ns = deadline_ns;
    t->sequence = l->timer_sequence++;
    if (timer_armed(t)) {
        ASSERT(t->heap_index < l->timer_count && l->timers[t->heap_index] == t);
        heap_sift(l, t->heap_index, t);
        return;
    }
    if (l->timer_count == l->timer_capacity) {
        ASSERT(l->timer_capacity < UINT32_MAX / 2);
        l->timer_capacity = l->timer_capacity ? l->timer_capacity * 2 : 16;
        l->timers = mem_realloc(l->env->mem, l->timers, l->timer_capacity * sizeof(*l->timers));
    }
    heap_sift(l, l->timer_count++, t);
}

void timer_disarm(struct timer *t) {
    if (!timer_armed(t)) return;
    struct loop *l = current;
    CHECK_OBJ(l, LOOP_MAGIC);
    uint32_t i = t->heap_index;
    ASSERT(i < l->timer_count && l->timers[i] == t);
    t->heap_index = TIMER_UNARMED;
    struct timer *last = l->timers[--l->timer_count];
    if (last != t) heap_sift(l, i, last);
}

static bool timer_due(const struct loop *l, uint64_t now_ns) {
    return l->timer_count > 0 && l->timers[0]->deadline_ns <= now_ns;
}

static void timer_fire_first(struct loop *l) {
    struct timer *t = l->timers[0];
    timer_disarm(t);
    t->fire(t);
}

/* --- Mail. */

void loop_post(struct loop *to, struct mail *m) {
    CHECK_OBJ(to, LOOP_MAGIC);
    ASSERT(m->deliver);
    struct mail *head = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    do {
        m->next = head;
    } while (!atomic_compare_exchange_weak(&to->inbox, &head, m));
    /* m may be delivered and gone by now. */
    if (!head) to->env->ops->loop_wake(to);
}

/* Moves the inbox behind the mail that was taken out before. */
static void mail_collect(struct loop *l) {
    if (!atomic_load_explicit(&l->inbox, memory_order_relaxed)) return;
    struct mail *newest = atomic_exchange(&l->inbox, NULL);
    struct mail *oldest = NULL;
    while (newest) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    struct mail **end = &l->pool->mail;
    while (*end) end = &(*end)->next;
    *end = oldest;
}

static void mail_deliver_first(struct loop *l) {
    struct mail *m = l->pool->mail;
    l->pool->mail = m->next;
    m->next = NULL;
    m->deliver(m);
}

static bool mail_waiting(const struct loop *l) {
    return l->pool->mail || atomic_load(&l->inbox);
}

/* --- Work for another loop. */

struct call {
    struct mail mail;
    struct loop *from, *to;
    struct fiber *caller;
    fiber_fn *fn;
    void *arg;
};

static void call_returned(struct mail *m) {
    struct call *c = CONTAINER_OF(m, struct call, mail);
    fiber_resume(c->caller);
}

static void call_run(void *arg) {
    struct call *c = arg;
    c->fn(c->arg);
    c->mail.deliver = call_returned;
    loop_post(c->from, &c->mail);
}

static void call_arrived(struct mail *m) {
    struct call *c = CONTAINER_OF(m, struct call, mail);
    fiber_spawn(c->to, "call", call_run, c);
}

void loop_call(struct loop *to, fiber_fn *fn, void *arg) {
    CHECK_OBJ(to, LOOP_MAGIC);
    struct fiber *self = fiber_self();
    ASSERT(self);
    if (to == current) {
        fn(arg);
        return;
    }
    struct call c = {.mail = {NULL, call_arrived}, .from = current, .to = to, .caller = self, .fn = fn, .arg = arg};
    loop_post(to, &c.mail);
    fiber_suspend();
}

struct spawn {
    struct mail mail;
    struct loop *to;
    const char *name;
    fiber_fn *fn;
    void *arg;
};

static void spawn_arrived(struct mail *m) {
    struct spawn *s = CONTAINER_OF(m, struct spawn, mail);
    fiber_spawn(s->to, s->name, s->fn, s->arg);
    mem_free(s->to->env->mem, s);
}

void loop_spawn(struct loop *to, const char *name, fiber_fn *fn, void *arg) {
    CHECK_OBJ(to, LOOP_MAGIC);
    if (to == current) {
        fiber_spawn(to, name, fn, arg);
        return;
    }
    struct spawn *s = MEM_NEW(to->env->mem, struct spawn);
    *s = (struct spawn){{NULL, spawn_arrived}, to, name, fn, arg};
    loop_post(to, &s->mail);
}

void loop_drop_mail(struct loop *l) {
    CHECK_OBJ(l, LOOP_MAGIC);
    mail_collect(l);
    while (l->pool->mail) {
        struct mail *m = l->pool->mail;
        l->pool->mail = m->next;
        if (m->deliver == spawn_arrived) mem_free(l->env->mem, CONTAINER_OF(m, struct spawn, mail));
    }
}

/* --- Steps. */

bool loop_step(struct loop *l, uint64_t now_ns) {
    CHECK_OBJ(l, LOOP_MAGIC);
    ASSERT(current == l && !l->running);
    uint64_t clock = now_ns;
    mail_collect(l);
    while (l->pool->mail) {
        mail_deliver_first(l);
        clock = loop_stall_check(l, clock);
    }
    /* A timer that is armed anew for the past waits for the next step; otherwise one that always does so would keep all
     * others out. */
    uint64_t sequence = l->timer_sequence;
    while (timer_due(l, now_ns) && l->timers[0]->sequence < sequence) {
        timer_fire_first(l);
        clock = loop_stall_check(l, clock);
    }
    struct list batch;
    list_init(&batch);
    list_splice_back(&batch, &l->ready);
    for (struct list *n; (n = list_pop_front(&batch)) != NULL;) {
        fiber_run(l, LIST_ENTRY(n, struct fiber, node));
        clock = loop_stall_check(l, clock);
    }
    return !list_empty(&l->ready) || mail_waiting(l) || timer_due(l, now_ns);
}

/* The fiber that comes `choice` places behind the first, counting only those that may overtake: fibers that have not
 * begun yet keep their order among themselves (calls and spawns promise it). Returns the number of candidates if there
 * are not so many. */
static uint64_t ready_choose(const struct loop *l, uint64_t choice, struct fiber **out) {
    uint64_t seen = 0, looked_at = 0;
    bool fresh_seen = false;
    LIST_EACH(n, &l->ready) {
        struct fiber *f = LIST_ENTRY(n, struct fiber, node);
        if (looked_at++ == STEP_ONE_WINDOW) break;
        if (!f->started && fresh_seen) continue;
        fresh_seen |= !f->started;
        if (seen++ == choice) {
            *out = f;
            break;
        }
    }
    return seen;
}

bool loop_step_one(struct loop *l, uint64_t now_ns, uint64_t choice) {
    CHECK_OBJ(l, LOOP_MAGIC);
    ASSERT(current == l && !l->running);
    mail_collect(l);
    bool mail = l->pool->mail != NULL, timer = timer_due(l, now_ns);
    struct fiber *f = NULL;
    uint64_t fibers = ready_choose(l, UINT64_MAX, &f);
    uint64_t total = (uint64_t)mail + (uint64_t)timer + fibers;
    if (total == 0) return false;
    choice %= total;
    if (mail && choice-- == 0) {
        mail_deliver_first(l);
    } else if (timer && choice-- == 0) {
        timer_fire_first(l);
    } else {
        ready_choose(l, choice, &f);
        ASSERT(f);
        list_remove(&f->node);
        fiber_run(l, f);
    }
    return true;
}

uint64_t loop_next_deadline_ns(const struct loop *l) {
    CHECK_OBJ(l, LOOP_MAGIC);
    if (!list_empty(&l->ready) || mail_waiting(l)) return 0;
    return l->timer_count > 0 ? l->timers[0]->deadline_ns : UINT64_MAX;
}

bool loop_stopping(const struct loop *l) {
    return __atomic_load_n(&l->stopping, __ATOMIC_SEQ_CST);
}

void loop_stop(struct loop *l) {
    CHECK_OBJ(l, LOOP_MAGIC);
    __atomic_store_n(&l->stopping, true, __ATOMIC_SEQ_CST);
    l->env->ops->loop_wake(l);
}
