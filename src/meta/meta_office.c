/* Still in office? Whoever is elected puts its election at the number that is this broker's next, and elections stay for
 * ever where several may write (objlog.h, rule 4). So a look at that number tells: nothing there, nobody has come.
 *
 * What a look proves holds for the moment in which it was begun, and no later: while the answer was on its way anybody
 * may have been elected. What lies there may be our own append, begun after the look: then nobody was before us either.
 * But no look begins while one of ours is under way: that may have landed, been read by whoever is elected behind it,
 * and been deleted; its number would look unused. An append that succeeds proves as much as a look that began with it.
 *
 * On an exclusive store the lock of the operating system is the proof. */
#include <inttypes.h>

#include "meta/meta_priv.h"

#define BACKOFF_BASE_NS (50 * NS_PER_MS)
#define BACKOFF_CAP_NS (2 * NS_PER_S)

struct meta_proof meta_proof_begin(struct meta *m) {
    return (struct meta_proof){++m->proofs_begun, env_now_ns(m->env)};
}

void meta_proof_found(struct meta *m, struct meta_proof p) {
    if (p.serial <= m->proven.serial) return;
    m->proven = p;
    waitq_wake_all(&m->looked);
}

/* Until none of our appends is under way. */
static void await_append(struct meta *m) {
    while (m->appending) waitq_wait(&m->appended);
}

static enum err look(struct meta *m) {
    char key[META_PREFIX_MAX + 24];
    await_append(m);
    if (m->stopped) return ERR_CLOSED;
    uint64_t number = objlog_durable(m->log);
    objlog_key(key, sizeof(key), m->prefix, number);
    struct meta_proof p = meta_proof_begin(m);
    struct slice there = {0};
    enum err e = store_get(m->store, key, 0, OBJLOG_HEADER_SIZE, STORE_FOR_CLUSTER_LOG, &there);
    metric_add(m->env->metrics, M_OFFICE_LOOKS, 0, 1);
    slice_unref(&there);
    if (e == OK) {
        await_append(m);
        if (!m->stopped && objlog_durable(m->log) == number) meta_overtaken(m);
    }
    if (m->stopped) return ERR_CLOSED;
    if (e != OK && e != ERR_NOT_FOUND) return e;
    meta_proof_found(m, p);
    return OK;
}

static void look_fiber(void *arg) {
    struct meta *m = arg;
    unsigned attempt = 0;
    while (look(m) != OK && m->look_waiters > 0 && !m->stopped && !m->closing)
        env_backoff(m->env, ++attempt, BACKOFF_BASE_NS, BACKOFF_CAP_NS);
    m->looking = false;
    waitq_wake_all(&m->looked);
    waitq_wake_all(&m->idle);
}

enum err meta_confirm(struct meta *m, uint64_t after_ns, uint64_t deadline_ns, uint64_t *as_of_ns) {
    CHECK_OBJ(m, META_MAGIC);
    *as_of_ns = env_now_ns(m->env);
    if (m->store->exclusive) return OK;
    uint64_t serial = m->proofs_begun;
    bool in_time = true;
    for (;;) {
        if (m->fenced) return ERR_FENCED;
        if (m->stopped || m->closing) return ERR_CLOSED;
        if (m->proven.serial > serial || m->proven.begun_ns > after_ns) {
            *as_of_ns = m->proven.begun_ns;
            return OK;
        }
        if (!in_time) return ERR_UNAVAILABLE;
        if (!m->looking) {
            m->looking = true;
            fiber_spawn(loop_current(), "meta look", look_fiber, m);
        }
        m->look_waiters++;
        in_time = waitq_wait_until(&m->looked, deadline_ns);
        m->look_waiters--;
    }
}
