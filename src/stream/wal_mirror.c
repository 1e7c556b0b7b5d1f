/* The mirror, first part: what is written, confirmed and trimmed, and what happens when a member is lost. How members come
 * and go is in wal_members.c. */
#include "stream/wal_mirror.h"

#include "base/assert.h"
#include "stream/wal_mirror_priv.h"

/* ---- who counts ---- */

bool membership_names(const struct wal_membership *m, const uint8_t id[16]) {
    for (unsigned i = 0; i < m->count; i++) {
        if (memcmp(m->ids[i], id, 16) == 0) return true;
    }
    return false;
}

bool member_named(const struct mirror_member *k) {
    const struct wal_mirror *m = k->mirror;
    return membership_names(&m->durable, k->id) || (m->changing && membership_names(&m->proposed, k->id));
}

bool member_counts(const struct mirror_member *k) {
    const struct wal_mirror *m = k->mirror;
    if (env_mutant(m->env, MUTANT_MIRROR_SHRUNK_SILENTLY) && k->state != MEMBER_CURRENT) return false;
    return k->state == MEMBER_CURRENT || k->awaited || member_named(k);
}

bool member_takes(const struct mirror_member *k) {
    return k->state == MEMBER_CURRENT || k->state == MEMBER_JOINING;
}

unsigned mirror_count(const struct wal_mirror *m, enum member_state state) {
    unsigned n = 0;
    for (unsigned i = 0; i < m->count; i++) n += m->members[i].state == state;
    return n;
}

void mirror_publish(struct wal_mirror *m) {
    metric_set(m->env->metrics, M_WAL_MEMBERS, (int64_t)mirror_count(m, MEMBER_CURRENT));
    metric_set(m->env->metrics, M_WAL_MEMBERS_LOST, (int64_t)(m->count - mirror_count(m, MEMBER_CURRENT)));
    metric_set(m->env->metrics, M_WAL_USED_BYTES, (int64_t)wal_mirror_used_bytes(m));
}

/* ---- confirming ---- */

static bool confirmed_by_all(const struct wal_mirror *m, uint64_t end) {
    unsigned yes = 0, no = 0, of_durable = 0;
    for (unsigned i = 0; i < m->count; i++) {
        const struct mirror_member *k = &m->members[i];
        of_durable += membership_names(&m->durable, k->id);
        if (!member_counts(k)) continue;
        if (k->confirmed_end >= end)
            yes++;
        else
            no++;
    }
    ASSERT(of_durable == m->durable.count); /* one that no ring of ours answers to could never be waited for */
    if (env_mutant(m->env, MUTANT_MIRROR_FIRST_CONFIRMS)) return yes > 0;
    return yes > 0 && no == 0;
}

void mirror_advance(struct wal_mirror *m) {
    while (!m->failed && !list_empty(&m->waiting)) {
        struct block *b = LIST_ENTRY(m->waiting.next, struct block, node);
        if (!confirmed_by_all(m, b->wal_end)) break;
        list_remove(&b->node);
        m->confirmed_end = b->wal_end;
        metric_observe_ns(m->env->metrics, m->env->mem, M_WAL_LATENCY, 0, env_now_ns(m->env) - b->sealed_ns);
        m->options.confirmed(m->options.ctx, b);
    }
}

/* What the member has confirmed and nobody needs any more. */
static void member_trim(struct mirror_member *k) {
    uint64_t position = 0;
    while (!list_empty(&k->held)) {
        struct mirror_place *p = LIST_ENTRY(k->held.next, struct mirror_place, node);
        if (p->end > k->mirror->trimmed) break;
        position = p->member_end;
        list_remove(&p->node);
        mem_free(k->mirror->env->mem, p);
    }
    if (position > 0) medium_trim(k, position);
}

void member_confirmed(void *ctx, struct block *copy) {
    struct mirror_member *k = ctx;
    uint64_t member_end = copy->wal_end;
    block_destroy(copy);
    if (!member_takes(k)) return; /* lost meanwhile, for being slow: too late */
    struct mirror_place *p = LIST_ENTRY(list_pop_front(&k->sent), struct mirror_place, node);
    ASSERT(p->end > k->confirmed_end);
    p->member_end = member_end;
    k->confirmed_end = p->end;
    list_push_back(&k->held, &p->node);
    member_trim(k);
    if (k->awaited) waitq_wake_all(&k->mirror->changed);
    mirror_advance(k->mirror);
}

static void places_free(struct mem *m, struct list *places) {
    for (struct list *n; (n = list_pop_front(places)) != NULL;) mem_free(m, LIST_ENTRY(n, struct mirror_place, node));
}

void member_forget_places(struct mirror_member *k) {
    places_free(k->mirror->env->mem, &k->sent);
    places_free(k->mirror->env->mem, &k->held);
}

/* ---- losing a member ---- */

/* It takes nothing any more. */
static void member_drop(struct mirror_member *k, enum err why) {
    k->state = MEMBER_LOST;
    k->awaited = false;
    k->lost_why = why;
    k->settled = false;
    medium_give_up(k);
    member_forget_places(k);
}

/* All of them begin anew once what they hold is in the ledger. */
static void all_lost(struct wal_mirror *m, enum err why) {
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        if (!member_takes(k)) continue;
        member_drop(k, why);
        member_work(k);
    }
}

void mirror_fail(struct wal_mirror *m, enum err why) {
    if (why == ERR_FENCED) m->fenced = true;
    if (m->failed && why != ERR_FENCED) return;
    m->failed = true;
    metric_set(m->env->metrics, M_WAL_FAILED, 1);
    all_lost(m, why);
    mirror_publish(m);
    waitq_wake_all(&m->changed);
    m->options.failed(m->options.ctx, why);
}

static void member_lost(struct mirror_member *k, enum err why) {
    struct wal_mirror *m = k->mirror;
    if (k->state == MEMBER_LOST || k->state == MEMBER_LEFT) return;
    bool counted = k->state == MEMBER_CURRENT || member_named(k);
    member_drop(k, why);
    metric_add(m->env->metrics, M_WAL_MEMBER_LOSSES, 0, 1);
    char path[300];
    log_warn(m->env->log, "wal member lost", "path=%s error=%s left=%u", member_quoted(k, path, sizeof(path)),
             err_name(why), mirror_count(m, MEMBER_CURRENT));
    if (m->ended) return; /* nothing waits for it, and others are closed already */
    mirror_publish(m);
    if (why == ERR_FENCED || (counted && (m->options.stops || mirror_count(m, MEMBER_CURRENT) == 0)))
        mirror_fail(m, why);
    else if (counted)
        mirror_change(m);
    member_work(k);
    mirror_advance(m); /* it may have been awaited */
}

void member_failed(void *ctx, enum err why) {
    member_lost(ctx, why);
}

void member_full(void *ctx) {
    struct wal_mirror *m = ((struct mirror_member *)ctx)->mirror;
    if (m->options.full) m->options.full(m->options.ctx);
}

/* ---- slow members ---- */

static bool member_slow(const struct mirror_member *k, uint64_t now_ns) {
    uint64_t since_ns = medium_oldest_op_ns(k);
    if (since_ns == 0) return false;
    if (since_ns < k->mirror->patient_from_ns) since_ns = k->mirror->patient_from_ns;
    return now_ns > since_ns && now_ns - since_ns > k->mirror->options.timeout_ns;
}

static uint64_t watch_interval_ns(const struct wal_mirror *m) {
    return m->options.timeout_ns / 4 + 1;
}

void mirror_watch(struct wal_mirror *m) {
    if (timer_armed(&m->watch) || m->closing) return;
    m->watched_ns = env_now_ns(m->env);
    timer_arm(&m->watch, m->watched_ns + watch_interval_ns(m));
}

/* Looks at the devices' requests, while there are any. A process that stood still sees all of them late: it begins to
 * count again. When all members are slow nobody is better off without one: then it is as with a single ring. */
void mirror_watch_fire(struct timer *t) {
    struct wal_mirror *m = CONTAINER_OF(t, struct wal_mirror, watch);
    uint64_t now_ns = env_now_ns(m->env);
    if (now_ns - m->watched_ns > 2 * watch_interval_ns(m)) m->patient_from_ns = now_ns;
    bool slow[WAL_MEMBERS_MAX] = {0}, busy = !list_empty(&m->waiting);
    unsigned quick = 0;
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        if (!member_takes(k)) continue;
        slow[i] = member_slow(k, now_ns);
        busy |= medium_oldest_op_ns(k) != 0;
        quick += k->state == MEMBER_CURRENT && !slow[i];
    }
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        if (slow[i] && (quick > 0 || m->options.stops || k->state == MEMBER_JOINING)) member_lost(k, ERR_TIMEOUT);
    }
    if (busy && !m->failed) mirror_watch(m);
}

/* ---- what the log does ---- */

void wal_mirror_submit(struct wal_mirror *m, struct block *b) {
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(m->started && b->padded > 0);
    b->wal_position = m->head;
    b->wal_end = m->head = m->head + b->padded;
    list_push_back(&m->waiting, &b->node);
    if (m->failed) return; /* handed back with the others */
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        if (!member_takes(k)) continue;
        struct mirror_place *p = MEM_NEW(m->env->mem, struct mirror_place);
        p->end = b->wal_end;
        list_push_back(&k->sent, &p->node);
        medium_submit(k, block_copy(b));
    }
    mirror_watch(m);
}

void wal_mirror_trim(struct wal_mirror *m, uint64_t position) {
    ASSERT(position <= m->head);
    if (position <= m->trimmed || m->failed) return;
    m->trimmed = position;
    for (unsigned i = 0; i < m->count; i++) {
        if (member_takes(&m->members[i])) member_trim(&m->members[i]);
    }
    mirror_publish(m);
    waitq_wake_all(&m->changed);
    mirror_watch(m);
}

void wal_mirror_take_unconfirmed(struct wal_mirror *m, struct list *out) {
    ASSERT(m->failed);
    list_splice_back(out, &m->waiting);
}

void wal_mirror_abandon(struct wal_mirror *m, struct list *left) {
    m->failed = true;
    list_splice_back(left, &m->waiting);
}

uint64_t wal_mirror_used_bytes(const struct wal_mirror *m) {
    uint64_t most = 0;
    for (unsigned i = 0; i < m->count; i++) {
        const struct mirror_member *k = &m->members[i];
        if (member_takes(k) && medium_used_bytes(k) > most) most = medium_used_bytes(k);
    }
    return most;
}

uint64_t wal_mirror_capacity(const struct wal_mirror *m) {
    return m->capacity;
}

const struct wal_membership *wal_mirror_membership(const struct wal_mirror *m) {
    return &m->durable;
}

const char *wal_mirror_path(const struct wal_mirror *m) {
    return m->path;
}
