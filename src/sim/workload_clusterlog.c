/* Workload "clusterlog": the cluster log. Several nodes replay one object log of depth 1, elect themselves, append,
 * write snapshots (checkpoints) that hold their whole
 * state, and delete what lies below the boundary, except elections. They crash, stand still, wake up as overtaken
 * writers. In some runs there is one
 * node only, which holds the store alone and may delete elections as well.
 *
 * Promises:
 *  - whatever any node applies, appends with success, or begins with (a snapshot), belongs to one sequence: the same
 *    entry and the same state before it at each number;
 *  - an entry was written by the writer of the latest election before it;
 *  - what was acknowledged before a takeover began is below the election, and in the state of the new writer;
 *  - at every moment the bucket holds the log whole, up to what was acknowledged; it never becomes shorter;
 *  - at the end, when all that is late has landed, a replay holds every acknowledged append. */
#include "base/crc32c.h"
#include "sim/check_store.h"
#include "sim/history.h"
#include "sim/log_head.h"
#include "sim/workloads.h"

#define PREFIX "1/log"
#define NODES_MAX 4u
#define ENTRIES_MAX 8000u

struct place { /* what lies at a number, as far as anybody has seen */
    bool seen, acked;
    enum objlog_kind kind;
    uint64_t id, writer;
    struct log_state before;
};

struct cluster_test {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_node *nodes[NODES_MAX];
    unsigned node_count, snapshot_every;
    bool exclusive, over, auditing;
    uint64_t pause_max_ns, think_max_ms;
    double stale;           /* chance of a pause between a replay and the election that follows on it */
    double trim, trim_each; /* chance of a deletion after an append; and that a number goes with it */
    double slow_apply;      /* chance that a replay takes its time over an entry */
    uint64_t next_writer;
    struct place places[ENTRIES_MAX];
    uint64_t acked_end; /* behind the highest acknowledged number */
    struct log_state audited;
    struct sim_check_memory *memory;
};

static uint64_t subject_of(uint64_t number) {
    return sim_subject("entry", (int64_t)number);
}

/* Notes what one node holds for true; all must say the same. An entry is of the writer elected last, and snapshots
 * and entries tell the state before them. */
static void place_note(struct cluster_test *t, uint64_t number, const struct place *p) {
    if (number >= ENTRIES_MAX) {
        sim_fail(t->world, "the workload's table of %u entries is full", ENTRIES_MAX);
        return;
    }
    struct place *known = &t->places[number];
    bool acked = known->acked;
    if (!known->seen) {
        *known = *p;
        known->seen = true;
    } else if (known->id != p->id || known->kind != p->kind || known->writer != p->writer) {
        sim_fail_about(t->world, subject_of(number), "number %lu is one entry for one node and another for another",
                       number);
    } else if (known->before.chain != p->before.chain || known->before.writer != p->before.writer) {
        sim_fail_about(t->world, subject_of(number), "two nodes reached entry %lu with different states", number);
    }
    if (p->kind != OBJLOG_ELECTION && p->writer != p->before.writer) {
        sim_fail_about(t->world, subject_of(number), "entry %lu is of writer %lu, but %lu was elected", number,
                       p->writer, p->before.writer);
    }
    known->acked = acked || p->acked;
}

/* --- A node. */

/* What apply() sees is provisional until recovery or takeover succeeds: a stale position may lead over a record that
 * somebody put into a deleted number. */
struct provisional {
    uint64_t number;
    struct place place;
};

struct member {
    struct cluster_test *test;
    struct store *store;
    struct objlog *log;
    uint64_t writer;
    bool begun;
    struct log_state state;
    struct provisional *applied;
    size_t applied_count, applied_capacity;
    bool deleted[ENTRIES_MAX];
};

static void member_reset(void *ctx) {
    struct member *m = ctx;
    m->begun = false;
    m->state = (struct log_state){0};
    m->applied_count = 0;
}

static void member_add(struct member *m, enum objlog_kind kind, uint64_t id, uint64_t writer, bool acked) {
    m->applied = mem_grow(m->store->env->mem, m->applied, m->applied_count, &m->applied_capacity, sizeof(*m->applied));
    struct place p = {.kind = kind, .id = id, .writer = writer, .before = m->state, .acked = acked};
    m->applied[m->applied_count++] = (struct provisional){m->state.count, p};
    log_state_add(&m->state, id);
    if (kind == OBJLOG_ELECTION) m->state.writer = writer;
}

/* The state is certain now, after a takeover. After a replay alone it is so up to the elections at its end: one of
 * them may lie in a number that was trimmed after
 * the replay began, put there by a node that has yet to find out. */
static void member_settle(struct member *m, bool elections) {
    while (!elections && m->applied_count > 0 && m->applied[m->applied_count - 1].place.kind == OBJLOG_ELECTION)
        m->applied_count--;
    for (size_t i = 0; i < m->applied_count; i++) place_note(m->test, m->applied[i].number, &m->applied[i].place);
    m->applied_count = 0;
}

static enum err member_apply(void *ctx, const struct objlog_entry *e) {
    struct member *m = ctx;
    struct cluster_test *t = m->test;
    const struct objlog_header *h = &e->header;
    struct log_head head;
    if (!log_head_read(&e->head, &head)) {
        sim_fail_about(t->world, subject_of(h->number), "entry %lu holds bytes that nobody wrote", h->number);
        return ERR_CORRUPT;
    }
    if (!m->begun && h->number > 0) {
        if (h->kind != OBJLOG_CHECKPOINT || head.before.count != h->number) {
            sim_fail_about(t->world, subject_of(h->number), "a replay began at %lu, which is no snapshot", h->number);
            return ERR_CORRUPT;
        }
        m->state = head.before;
    }
    m->begun = true;
    if (m->state.count != h->number) {
        sim_fail_about(t->world, subject_of(h->number), "a replay applied %lu when %lu was next", h->number,
                       m->state.count);
        return ERR_CORRUPT;
    }
    if (h->kind != OBJLOG_ELECTION && head.before.chain != m->state.chain) {
        sim_fail_about(t->world, subject_of(h->number), "the writer of entry %lu had another state than this replay",
                       h->number);
        return ERR_CORRUPT;
    }
    member_add(m, h->kind, head.id, h->writer, false);
    if (sim_chance(t->world, t->slow_apply)) fiber_sleep_ns(sim_between(t->world, 0, 2000) * NS_PER_MS);
    return log_body_check(m->store, PREFIX, h, head.id);
}

/* Also elections, where nobody else can write any more. */
static bool deletable(const struct cluster_test *t, uint64_t number) {
    const struct place *p = &t->places[number];
    return p->seen && (p->kind != OBJLOG_ELECTION || t->exclusive || t->run->options->mutant == MUTANT_FORGET_FENCES);
}

static uint64_t delete_below(const struct member *m) {
    uint64_t below = objlog_deletable_below(m->log);
    if (below > 0 && env_mutant(m->store->env, MUTANT_TRIM_TOO_MUCH)) return objlog_durable(m->log);
    return below;
}

static void member_delete(struct member *m) {
    struct cluster_test *t = m->test;
    uint64_t numbers[64], below = delete_below(m);
    size_t count = 0;
    for (uint64_t n = 0; n < below && count < ARRAY_LEN(numbers); n++) {
        if (!m->deleted[n] && deletable(t, n) && sim_chance(t->world, t->trim_each)) numbers[count++] = n;
    }
    if (count == 0) return;
    for (size_t i = 0; i < count; i++) {
        sim_note(t->world, t->world->stepping, subject_of(numbers[i]), "deletes %lu; all below %lu may go", numbers[i],
                 below);
    }
    log_shuffle(t->world, numbers, count);
    if (objlog_delete(m->store, PREFIX, numbers, count) != OK) return;
    for (size_t i = 0; i < count; i++) m->deleted[numbers[i]] = true;
}

/* One append by the elected writer. False: overtaken. */
static bool member_append(struct member *m) {
    struct cluster_test *t = m->test;
    struct sim_world *w = t->world;
    struct mem *mem = m->store->env->mem;
    enum objlog_kind kind = sim_between(w, 1, t->snapshot_every) == 1 ? OBJLOG_CHECKPOINT : OBJLOG_DATA;
    uint64_t id = rng_next(&w->rng) | 1, number = m->state.count;
    struct slice head = log_head_make(mem, &(struct log_head){id, m->state}, sim_between(w, 0, 60));
    size_t size = sim_chance(w, 0.5) ? 0 : sim_between(w, 1, 400);
    uint8_t *bytes = mem_alloc(mem, size);
    sim_payload_fill(id, bytes, size);
    struct slice body = slice_borrow(bytes, size);
    t->run->ops++;
    sim_note(w, w->stepping, subject_of(number), "writer %lu appends %lu, a %s", m->writer, number,
             kind == OBJLOG_CHECKPOINT ? "snapshot" : "record");
    uint64_t got = UINT64_MAX;
    enum err e = objlog_append(m->log, kind, &head, &body, size > 0 ? 1 : 0, crc32c(0, bytes, size), &got);
    slice_unref(&head);
    mem_free(mem, bytes);
    sim_note(w, w->stepping, subject_of(number), "writer %lu is told of %lu: %s", m->writer, number, err_name(e));
    if (e == OK) {
        if (got != number)
            sim_fail_about(w, subject_of(number), "append %lu was told that it has number %lu", number, got);
        member_add(m, kind, id, m->writer, true);
        member_settle(m, true);
        if (number >= t->acked_end) t->acked_end = number + 1;
        t->run->acked++;
    } else if (e != ERR_FENCED) {
        sim_fail_about(w, subject_of(number), "append %lu ended with %s", number, err_name(e));
    }
    return e == OK;
}

/* In office: appends until overtaken, or tired of it. */
static void member_reign(struct member *m) {
    struct cluster_test *t = m->test;
    for (uint64_t left = sim_between(t->world, 1, 60); left > 0 && !t->over; left--) {
        if (!member_append(m)) return;
        if (sim_chance(t->world, t->trim)) member_delete(m);
        if (sim_chance(t->world, 0.5)) fiber_sleep_ns(sim_between(t->world, 0, t->think_max_ms) * NS_PER_MS);
    }
}

static enum err member_elect(struct member *m, const struct objlog_replay *replay) {
    struct cluster_test *t = m->test;
    uint64_t id = rng_next(&t->world->rng) | 1, acked_before = t->acked_end, number = 0;
    bool mine = false;
    /* The state before an election is not known until it is won: walking on over what others wrote changes it. So
     * the head only names it. */
    struct slice head = log_head_make(m->store->env->mem, &(struct log_head){.id = id}, 0);
    enum err e = objlog_take_over(m->log, OBJLOG_ELECTION, replay, &head, &number, &mine);
    slice_unref(&head);
    sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "writer %lu stood for election: %s, at %lu", m->writer,
             err_name(e), number);
    if (e != OK) return e;
    t->run->ops++;
    if (number != m->state.count)
        sim_fail(t->world, "elected at %lu, but the replay ended at %lu", number, m->state.count);
    if (number < acked_before) {
        sim_fail_about(t->world, subject_of(acked_before - 1),
                       "elected at %lu, and entry %lu had been acknowledged before", number, acked_before - 1);
    }
    member_add(m, OBJLOG_ELECTION, id, m->writer, false);
    member_settle(m, true);
    return OK;
}

static enum err member_term(struct member *m) {
    struct cluster_test *t = m->test;
    m->writer = ++t->next_writer;
    struct objlog_options o = {
        .store = m->store, .prefix = PREFIX, .depth = 1, .writer = m->writer, .purpose = STORE_FOR_CLUSTER_LOG};
    struct objlog_replay replay = {member_apply, member_reset, m};
    m->log = objlog_create(&o);
    member_reset(m);
    uint64_t acked_before = t->acked_end;
    enum err e = objlog_recover(m->log, &replay);
    if (e == ERR_NOT_FOUND) e = OK;
    sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "replayed as writer %lu: %s, the log ends at %lu",
             m->writer, err_name(e), m->state.count);
    if (e == OK && m->state.count < acked_before) {
        sim_fail_about(t->world, subject_of(acked_before - 1),
                       "a replay ended at %lu, and entry %lu had been acknowledged before it began", m->state.count,
                       acked_before - 1);
    }
    if (e == OK && t->auditing) t->audited = m->state;
    if (e == OK && !t->auditing && sim_chance(t->world, 0.7)) {
        /* its position goes stale */
        if (sim_chance(t->world, t->stale)) fiber_sleep_ns(sim_between(t->world, 0, t->pause_max_ns));
        e = member_elect(m, &replay);
        if (e == OK) member_reign(m);
        m->applied_count = 0;
        if (e == ERR_FENCED) e = OK; /* another was elected meanwhile */
    }
    if (e == OK) member_settle(m, t->auditing);
    objlog_destroy(m->log);
    return e;
}

static void member_main(void *arg) {
    struct cluster_test *t = arg;
    struct env *env = loop_current()->env;
    struct member *m = MEM_NEW(env->mem, struct member);
    m->test = t;
    m->store = sim_run_store(t->run, env, t->exclusive);
    bool once = t->auditing;
    do {
        enum err e = member_term(m);
        if (log_again(e)) continue;
        if (e != OK) sim_fail(t->world, "a replay or takeover ended with %s", err_name(e));
        if (e == OK && once) break;
        fiber_sleep_ns(sim_between(t->world, 0, 5000) * NS_PER_MS);
    } while (!t->over && !sim_failed(t->world));
    store_close(m->store);
    mem_free(env->mem, m->applied);
    mem_free(env->mem, m);
}

/* --- The driver. */

static void trouble(struct cluster_test *t) {
    struct sim_world *w = t->world;
    struct sim_node *n = t->nodes[sim_between(w, 0, t->node_count - 1)];
    if (!sim_node_up(n)) {
        sim_node_start(n, member_main, t);
    } else if (sim_chance(w, 0.6)) {
        sim_node_pause(n, sim_between(w, 0, t->pause_max_ns));
    } else {
        sim_run_crash(t->run, n);
    }
}

/* At any moment. */
static void look(void *arg) {
    struct cluster_test *t = arg;
    uint64_t end;
    bool fenced;
    if (sim_failed(t->world) || !sim_check_log(t->world, PREFIX, 1, t->memory, &end, &fenced)) return;
    if (fenced) sim_fail(t->world, "a fence at %lu ends the log, and nobody makes fences", end);
    if (end < t->acked_end)
        sim_fail(t->world, "entry %lu was acknowledged, and the bucket holds the log to %lu", t->acked_end - 1, end);
}

static void audit(struct cluster_test *t) {
    look(t);
    t->auditing = true;
    t->audited = (struct log_state){0};
    struct sim_node *n = t->nodes[0];
    sim_node_start(n, member_main, t);
    if (!sim_run_wait_down(t->run, n, 3600 * NS_PER_S))
        sim_fail(t->world, "a replay does not end though nothing is broken");
    t->run->ops++;
    if (t->audited.count < t->acked_end) {
        sim_fail_about(t->world, subject_of(t->acked_end - 1), "entry %lu was acknowledged, and the log ends at %lu",
                       t->acked_end - 1, t->audited.count);
    }
}

static void load_choose(struct cluster_test *t) {
    struct sim_world *w = t->world;
    t->exclusive = sim_chance(w, 0.15);
    t->node_count = t->exclusive ? 1 : (unsigned)sim_between(w, 2, NODES_MAX);
    t->snapshot_every = (unsigned)sim_between(w, 3, 30);
    t->pause_max_ns = sim_between(w, 1, 100) * NS_PER_S;
    t->think_max_ms = sim_between(w, 1, 1500);
    t->stale = 0.4;
    t->trim = 0.2;
    t->trim_each = 0.8;
    w->faults.chance[SIM_STORE_DELETE_REFUSED] = 0; /* who deletes here goes on only when all of it is gone */
    if (sim_chance(w,
                   0.25)) { /* many old positions, and slow readers whose log is trimmed under them, here and there */
        t->node_count = t->exclusive ? 1 : NODES_MAX;
        t->snapshot_every = 3;
        t->stale = t->trim = 0.9;
        t->trim_each = 0.3;
        t->slow_apply = 0.3;
        t->pause_max_ns = 10 * NS_PER_S;
        t->think_max_ms = 300;
    }
}

void workload_clusterlog(struct sim_run *r) {
    struct cluster_test *t = MEM_NEW(sim_run_mem(r), struct cluster_test);
    struct sim_world *w = r->world;
    t->run = r;
    t->world = w;
    t->memory = sim_check_memory_create(sim_run_mem(r));
    w->bucket->deleted = look;
    w->bucket->deleted_ctx = t;
    load_choose(t);
    static const char *const names[NODES_MAX] = {"a", "b", "c", "d"};
    for (unsigned i = 0; i < t->node_count; i++) {
        t->nodes[i] = sim_node_create(w, names[i]);
        sim_node_start(t->nodes[i], member_main, t);
    }
    uint64_t end_ns = w->now_ns + sim_run_load_ns(r, 6);
    while (w->now_ns < end_ns && t->acked_end < ENTRIES_MAX / 2) {
        fiber_sleep_ns(sim_between(w, 100, 6000) * NS_PER_MS);
        look(t);
        if (sim_chance(w, 0.4)) trouble(t);
    }
    t->over = true;
    sim_run_heal(r);
    for (unsigned i = 0; i < t->node_count; i++) {
        if (!sim_run_wait_down(r, t->nodes[i], 3600 * NS_PER_S))
            sim_fail(w, "a node does not end though nothing is broken");
    }
    audit(t);
    fiber_sleep_ns(SIM_RUN_LATE_NS);
    audit(t);
    look(t);
}
