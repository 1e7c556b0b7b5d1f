/* Wait queues and what is made of them: the lock between fibers and the count of jobs under way. */
#include "base/assert.h"
#include "rt/fiber.h"
#include "rt/fiber_priv.h"

void waitq_init(struct waitq *q) {
    list_init(&q->waiters);
}

bool waitq_empty(const struct waitq *q) {
    return list_empty(&q->waiters);
}

void waitq_wait(struct waitq *q) {
    bool woken = waitq_wait_until(q, UINT64_MAX);
    ASSERT(woken);
}

bool waitq_wait_until(struct waitq *q, uint64_t deadline_ns) {
    struct fiber *f = fiber_self();
    CHECK_OBJ(f, FIBER_MAGIC);
    ASSERT(list_empty(&f->node));
    list_push_back(&q->waiters, &f->node);
    if (deadline_ns != UINT64_MAX) timer_arm(&f->timer, deadline_ns);
    fiber_suspend();
    return f->woken;
}

void waitq_wake_one(struct waitq *q) {
    if (list_empty(&q->waiters)) return;
    struct fiber *f = LIST_ENTRY(q->waiters.next, struct fiber, node);
    f->woken = true;
    timer_disarm(&f->timer);
    fiber_resume(f);
}

void waitq_wake_all(struct waitq *q) {
    while (!list_empty(&q->waiters)) waitq_wake_one(q);
}

void fiber_mutex_init(struct fiber_mutex *m) {
    m->owner = NULL;
    waitq_init(&m->waiters);
}

void fiber_mutex_lock(struct fiber_mutex *m) {
    struct fiber *f = fiber_self();
    CHECK_OBJ(f, FIBER_MAGIC);
    ASSERT(m->owner != f);
    if (!m->owner) {
        m->owner = f;
        return;
    }
    waitq_wait(&m->waiters);
    ASSERT(m->owner == f);
}

void fiber_mutex_unlock(struct fiber_mutex *m) {
    struct fiber *f = fiber_self();
    ASSERT(f && m->owner == f);
    /* Handed over rather than opened: whoever comes between the waking and the running of the next one waits behind it.
     */
    m->owner = NULL;
    if (!waitq_empty(&m->waiters)) {
        m->owner = LIST_ENTRY(m->waiters.waiters.next, struct fiber, node);
        waitq_wake_one(&m->waiters);
    }
}

void waitgroup_init(struct waitgroup *g) {
    g->running = 0;
    waitq_init(&g->waiters);
}

void waitgroup_add(struct waitgroup *g) {
    g->running++;
}

void waitgroup_done(struct waitgroup *g) {
    ASSERT(g->running > 0);
    if (--g->running == 0) waitq_wake_all(&g->waiters);
}

void waitgroup_wait(struct waitgroup *g) {
    while (g->running > 0) waitq_wait(&g->waiters);
}
