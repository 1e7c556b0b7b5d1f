/* The mirror, second part: opening, the membership in the ledger, members that come back. */
#include "base/assert.h"
#include "stream/wal_mirror_priv.h"

#define RESTART_PATIENCE_NS (2 * NS_PER_S)
#define JOIN_LOOK_NS (200 * NS_PER_MS)
#define RETRY_DOUBLINGS 6u

const char *member_quoted(const struct mirror_member *k, char *out, size_t size) {
    return log_quote(out, size, k->options.path, strlen(k->options.path));
}

/* ---- open, close ---- */

/* Suspends. */
static void mirror_free(struct wal_mirror *m) {
    struct mem *mem = m->env->mem;
    for (unsigned i = 0; i < m->count; i++) {
        member_forget_places(&m->members[i]);
        medium_destroy(&m->members[i]);
        mem_free(mem, (char *)(uintptr_t)m->members[i].options.path);
    }
    mem_free(mem, m->path);
    mem_free(mem, m->generation);
    mem_free(mem, m);
}

static struct wal_mirror *mirror_new(const struct wal_mirror_options *o) {
    struct mem *mem = o->env->mem;
    struct wal_mirror *m = MEM_NEW(mem, struct wal_mirror);
    m->env = o->env;
    m->options = *o;
    m->options.members = NULL;
    m->count = o->count;
    list_init(&m->waiting);
    waitq_init(&m->changed);
    waitgroup_init(&m->fibers);
    timer_init(&m->watch, mirror_watch_fire);
    struct buf path;
    buf_init(&path, mem);
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        k->mirror = m;
        k->options = o->members[i];
        k->options.path = mem_strdup(mem, o->members[i].path);
        list_init(&k->sent);
        list_init(&k->held);
        medium_create(k);
        buf_printf(&path, "%s%s", i > 0 ? "," : "", k->options.path);
    }
    m->path = mem_strndup(mem, (const char *)path.data, path.size);
    buf_deinit(&path);
    return m;
}

/* Not a broken device, but a mistake, or another broker. */
static bool is_refusal(enum err e) {
    return e == ERR_LOCKED || e == ERR_FOREIGN || e == ERR_VERSION || e == ERR_INVALID || e == ERR_UNSUPPORTED;
}

enum err wal_mirror_open(const struct wal_mirror_options *o, struct wal_mirror **out, const char **why) {
    ASSERT(o->count > 0 && o->count <= WAL_MEMBERS_MAX && o->timeout_ns > 0 && o->retry_ns > 0);
    struct wal_mirror *m = mirror_new(o);
    enum err result = ERR_NOT_FOUND;
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        const char *what = NULL;
        enum err e = medium_open(k, &what);
        if (e == OK) {
            if (!is_refusal(result)) result = OK;
            continue;
        }
        char path[300];
        log_error(m->env->log, "wal member cannot be opened", "path=%s error=%s why=\"%s\"",
                  member_quoted(k, path, sizeof(path)), err_name(e), what);
        k->lost_why = e;
        /* What may pass tells more than what is not there. */
        if (is_refusal(result) || (result != ERR_NOT_FOUND && !is_refusal(e))) continue;
        result = e;
        *why = what;
    }
    if (result != OK) {
        for (unsigned i = 0; i < m->count; i++) medium_close(&m->members[i]);
        mirror_free(m);
        return result;
    }
    *why = NULL;
    *out = m;
    return OK;
}

void wal_mirror_close(struct wal_mirror *m, bool in_order) {
    m->closing = true;
    timer_disarm(&m->watch);
    for (unsigned i = 0; i < m->count; i++) { /* one that is being begun anew, in a store that does not answer */
        if (m->members[i].state == MEMBER_LOST && m->members[i].objects) medium_give_up(&m->members[i]);
    }
    waitq_wake_all(&m->changed);
    waitgroup_wait(&m->fibers);
    ASSERT(list_empty(&m->waiting));
    m->ended = true;
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        bool whole = in_order && !m->failed && k->state == MEMBER_CURRENT && membership_names(&m->durable, k->id) &&
                     medium_idle(k);
        /* Holds nothing, and nothing is under way: else each start that another member keeps from working spoils it. */
        bool unused = k->state == MEMBER_READY && medium_is_shared(k);
        if (whole || unused) {
            medium_close_in_order(k);
        } else {
            k->state = MEMBER_LEFT;
            medium_close(k);
        }
    }
    mirror_free(m);
}

/* ---- the first format ---- */

static void first_format_failed(struct mirror_member *k, enum err e, const char *why) {
    char path[300];
    k->lost_why = e;
    /* What others reach is tried once: whether a claim was ours is not told twice. */
    k->state = medium_is_shared(k) ? MEMBER_LEFT : MEMBER_LOST;
    log_error(k->mirror->env->log,
              k->state == MEMBER_LEFT
                  ? "wal member is not used by this start: make it new with `oxbow wal init --force` "
                    "when no other machine writes to it any more, then start again"
                  : "wal member cannot be formatted",
              "path=%s error=%s why=\"%s\"", member_quoted(k, path, sizeof(path)), err_name(e), why ? why : "");
    medium_close(k);
}

static struct wal_membership current_members(const struct wal_mirror *m) {
    struct wal_membership now = {0};
    for (unsigned i = 0; i < m->count; i++) {
        if (m->members[i].state == MEMBER_CURRENT) memcpy(now.ids[now.count++], m->members[i].id, 16);
    }
    return now;
}

/* Of the rings that are not there: what fits into it will fit when they are. */
static uint64_t least_ring(const struct wal_mirror *m) {
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < m->count; i++) {
        const struct stream_wal_member *o = &m->members[i].options;
        if (o->objects) continue;
        uint64_t size = o->size_bytes > WAL_RING_START + WAL_RING_MIN ? o->size_bytes - WAL_RING_START : WAL_RING_MIN;
        if (size < least) least = size;
    }
    return least;
}

/* Nobody may ever use those that are left alone; of the others what may pass tells more than what is not there. */
static enum err none_is_there(const struct wal_mirror *m, const char **why) {
    enum err e = ERR_NOT_FOUND, left = ERR_NOT_FOUND;
    bool all_left = true;
    for (unsigned i = 0; i < m->count; i++) {
        const struct mirror_member *k = &m->members[i];
        if (k->state != MEMBER_LEFT) {
            all_left = false;
            if (e == ERR_NOT_FOUND) e = k->lost_why;
        } else if (k->lost_why != ERR_NOT_FOUND) {
            left = ERR_FENCED;
        }
    }
    if (all_left) e = left;
    *why = e == ERR_NOT_FOUND
               ? "no member of the mirror has a WAL, or is there: the log names each of them, and says what to do"
               : "no member of the mirror can be used now: the log names each of them, and says why";
    return e;
}

enum err wal_mirror_format(struct wal_mirror *m, const char *generation, struct incarnation incarnation,
                           const char **why) {
    ASSERT(!m->started && m->generation == NULL);
    m->generation = mem_strdup(m->env->mem, generation);
    m->incarnation = incarnation;
    /* Of all of them first: a start that is refused leaves each as it was. */
    for (unsigned i = 0; i < m->count; i++) {
        if (medium_check(&m->members[i], why) == ERR_FOREIGN) return ERR_FOREIGN;
    }
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        if (!medium_is_open(k)) {
            if (medium_is_shared(k)) first_format_failed(k, k->lost_why, "it cannot be opened");
            continue;
        }
        enum err e = medium_format(k, why);
        if (e == ERR_FOREIGN) return e;
        if (e == OK) {
            k->state = MEMBER_CURRENT;
            if (m->capacity == 0 || medium_capacity(k) < m->capacity) m->capacity = medium_capacity(k);
        } else {
            first_format_failed(k, e, *why);
        }
    }
    if (m->capacity == UINT64_MAX) m->capacity = least_ring(m);
    unsigned there = mirror_count(m, MEMBER_CURRENT);
    if (there == 0) return none_is_there(m, why);
    metric_set(m->env->metrics, M_WAL_SIZE_BYTES, (int64_t)wal_mirror_capacity(m));
    if (m->options.stops && there < m->count) {
        for (unsigned i = 0; i < m->count; i++) {
            if (m->members[i].state == MEMBER_CURRENT) m->members[i].state = MEMBER_READY;
        }
        m->failed = m->nothing_needed = true;
    } else {
        m->durable = current_members(m);
        m->durable.version = m->version = 1;
    }
    metric_set(m->env->metrics, M_WAL_FAILED, m->failed);
    mirror_publish(m);
    return OK;
}

bool wal_mirror_start(struct wal_mirror *m) {
    m->started = true;
    if (!m->failed) mirror_change(m);
    for (unsigned i = 0; i < m->count; i++) member_work(&m->members[i]);
    return !m->failed;
}

/* ---- the membership ---- */

static bool same_members(const struct wal_membership *a, const struct wal_membership *b) {
    bool same = a->count == b->count;
    for (unsigned i = 0; same && i < a->count; i++) same = membership_names(b, a->ids[i]);
    return same;
}

/* Suspends. Unless OK it is not known which of the two a recovery would find, for ever: both count. */
static enum err propose(struct wal_mirror *m, struct wal_membership next) {
    ASSERT(!m->changing);
    next.version = ++m->version;
    m->proposed = next;
    m->changing = true;
    enum err e = m->options.change(m->options.ctx, &next);
    if (e != OK) return e;
    m->durable = next;
    m->changing = false;
    metric_add(m->env->metrics, M_WAL_MEMBERSHIPS, 0, 1);
    log_info(m->env->log, "wal membership", "version=%" PRIu64 " members=%u of=%u", next.version, next.count, m->count);
    return OK;
}

static void change_run(void *arg) {
    struct wal_mirror *m = arg;
    while (!m->closing && !m->failed) {
        struct wal_membership next = current_members(m);
        if (next.count == 0 || same_members(&next, &m->durable)) break;
        if (propose(m, next) != OK) break;
        waitq_wake_all(&m->changed);
        mirror_advance(m);
    }
    m->change_running = false;
    waitq_wake_all(&m->changed);
    waitgroup_done(&m->fibers);
}

void mirror_change(struct wal_mirror *m) {
    if (m->change_running || m->changing || m->failed || m->closing || !m->started) return;
    m->change_running = true;
    waitgroup_add(&m->fibers);
    fiber_spawn(loop_current(), "wal-membership", change_run, m);
}

/* ---- coming back ---- */

/* Is it needed as it is? */
static bool may_begin_anew(const struct mirror_member *k) {
    return k->mirror->nothing_needed || (!k->mirror->failed && !member_named(k));
}

static void wait_before_retry(struct mirror_member *k) {
    struct wal_mirror *m = k->mirror;
    unsigned doublings = k->attempt < RETRY_DOUBLINGS ? k->attempt : RETRY_DOUBLINGS;
    uint64_t until_ns = env_now_ns(m->env) + (m->options.retry_ns << doublings);
    k->attempt++;
    while (!m->closing && waitq_wait_until(&m->changed, until_ns)) continue;
}

static void try_to_begin_anew(struct mirror_member *k) {
    struct wal_mirror *m = k->mirror;
    if (!k->settled) medium_settle(k);
    if (!may_begin_anew(k)) {
        if (!m->closing) waitq_wait(&m->changed);
        return;
    }
    wait_before_retry(k);
    if (m->closing || m->fenced || !may_begin_anew(k)) return;
    const char *why = NULL;
    enum err e = medium_begin_anew(k, &why);
    if (e == OK) {
        k->state = MEMBER_READY;
        waitq_wake_all(&m->changed);
        return;
    }
    if (e == ERR_FENCED && medium_is_shared(k)) {
        k->state = MEMBER_LEFT;
        mirror_fail(m, ERR_FENCED);
        return;
    }
    char path[300];
    if (k->attempt == 1 || e != k->lost_why)
        log_warn(m->env->log, "wal member does not come back; repeating", "path=%s error=%s why=\"%s\"",
                 member_quoted(k, path, sizeof(path)), err_name(e), why ? why : "");
    k->lost_why = e;
}

/* From here on it gets what comes. */
static void join(struct mirror_member *k) {
    struct wal_mirror *m = k->mirror;
    ASSERT(list_empty(&k->sent) && list_empty(&k->held) && !member_counts(k));
    k->settled = false;
    k->joined_at = k->confirmed_end = m->head;
    k->state = MEMBER_JOINING;
    char path[300];
    log_info(m->env->log, "wal member is repaired", "path=%s", member_quoted(k, path, sizeof(path)));
}

/* All that is older than what it has must be in the ledger; and from the moment on in which it is proposed all that has been
 * confirmed must be confirmed by it, too: it may lag behind, so the others wait for it. */
static void wait_to_join(struct mirror_member *k) {
    struct wal_mirror *m = k->mirror;
    if (m->trimmed < k->joined_at) {
        if (m->options.full) m->options.full(m->options.ctx);
        (void)waitq_wait_until(&m->changed, env_now_ns(m->env) + JOIN_LOOK_NS);
        return;
    }
    if (!env_mutant(m->env, MUTANT_JOIN_LAGGING)) k->awaited = true;
    if (k->awaited && k->confirmed_end < m->confirmed_end) {
        waitq_wait(&m->changed);
        return;
    }
    k->state = MEMBER_CURRENT;
    k->awaited = false;
    k->attempt = 0;
    metric_add(m->env->metrics, M_WAL_MEMBER_REPAIRS, 0, 1);
    mirror_publish(m);
    mirror_change(m);
}

static void member_run(void *arg) {
    struct mirror_member *k = arg;
    struct wal_mirror *m = k->mirror;
    while (!m->closing && !m->fenced && k->state != MEMBER_CURRENT && k->state != MEMBER_LEFT) {
        if (k->state == MEMBER_LOST)
            try_to_begin_anew(k);
        else if (m->failed || m->restarting || m->changing || m->change_running)
            waitq_wait(&m->changed);
        else if (k->state == MEMBER_READY)
            join(k);
        else
            wait_to_join(k);
    }
    k->working = false;
    waitgroup_done(&m->fibers);
}

void member_work(struct mirror_member *k) {
    struct wal_mirror *m = k->mirror;
    waitq_wake_all(&m->changed);
    if (k->working || m->closing || !m->started || k->state == MEMBER_CURRENT || k->state == MEMBER_LEFT) return;
    k->working = true;
    waitgroup_add(&m->fibers);
    fiber_spawn(loop_current(), "wal-member", member_run, k);
}

/* ---- the whole again ---- */

/* Those that are ready become the membership. Suspends. */
static enum err restart_with_ready(struct wal_mirror *m) {
    unsigned ready = mirror_count(m, MEMBER_READY);
    if (m->fenced) return ERR_FENCED;
    if (m->closing) return ERR_CLOSED;
    if (ready == 0 || (m->options.stops && ready < m->count)) return ERR_UNAVAILABLE;
    ASSERT(list_empty(&m->waiting));
    m->trimmed = m->confirmed_end = m->head;
    for (unsigned i = 0; i < m->count; i++) {
        struct mirror_member *k = &m->members[i];
        if (k->state != MEMBER_READY) continue;
        k->state = MEMBER_CURRENT;
        k->settled = false;
        k->attempt = 0;
        k->joined_at = k->confirmed_end = m->head;
    }
    enum err e = propose(m, current_members(m));
    if (m->fenced) e = ERR_FENCED;
    unsigned there = mirror_count(m, MEMBER_CURRENT);
    if (e == OK && (there == 0 || (m->options.stops && there < m->count))) e = ERR_UNAVAILABLE;
    if (e != OK) {
        for (unsigned i = 0; i < m->count; i++) {
            if (m->members[i].state == MEMBER_CURRENT) m->members[i].state = MEMBER_READY;
        }
        return e;
    }
    m->failed = m->nothing_needed = false;
    metric_set(m->env->metrics, M_WAL_FAILED, 0);
    mirror_publish(m);
    mirror_change(m); /* one may have been lost again meanwhile */
    return OK;
}

enum err wal_mirror_restart(struct wal_mirror *m) {
    ASSERT(m->failed && m->started);
    while (m->change_running && !m->closing) waitq_wait(&m->changed);
    if (m->changing) return ERR_CLOSED; /* the ledger takes no more of ours: we are ending */
    /* All is in the ledger. It has to say so before a ring is begun anew: else a recovery would look for what was there. */
    if (m->durable.count > 0) {
        enum err told = propose(m, (struct wal_membership){0});
        if (told != OK) return told;
    }
    m->nothing_needed = m->restarting = true;
    waitq_wake_all(&m->changed);
    uint64_t until_ns = env_now_ns(m->env) + RESTART_PATIENCE_NS;
    while (!m->closing && !m->fenced && mirror_count(m, MEMBER_READY) + mirror_count(m, MEMBER_LEFT) < m->count) {
        if (env_now_ns(m->env) >= until_ns) break;
        (void)waitq_wait_until(&m->changed, until_ns);
    }
    enum err e = restart_with_ready(m);
    m->restarting = false;
    waitq_wake_all(&m->changed);
    return e;
}
