/* Workload "objlog": the life of one ledger. A writer of some depth appends entries, now and then a checkpoint, and
 * deletes what lies below the boundary that an entry
 * carries. It crashes, or stands still and wakes as a zombie, or is simply taken over while it works. Several
 * fencers replay the log and fence it, at the same
 * time and one after the other; they crash and stand still too.
 *
 * Promises:
 *  - an acknowledged entry lies below the fence and is in every successful fencer's replay, at its number, with its
 *    bytes, or is covered by the
 *    checkpoint that the replay begins with;
 *  - a replay is the writer's sequence: no other entries, no other order;
 *  - appends are acknowledged as a contiguous prefix;
 *  - an append that failed because the log was lost to another is not in the log;
 *  - all fencers agree on the number of the fence, whatever lands later; at most one entry is the fence, and it stays;
 *  - nothing at or above the fence is ever acknowledged, and the writer, if it lives, learns of it;
 *  - at every moment the bucket holds the log whole, up to what was acknowledged; it never becomes shorter. */
#include "base/crc32c.h"
#include "sim/check_store.h"
#include "sim/history.h"
#include "sim/log_head.h"
#include "sim/workloads.h"

#define PREFIX "1/ledger"
#define ENTRIES_MAX 4000u
#define FENCERS 3u
#define WRITER_ID 1u

struct entry {
    uint64_t id;
    enum objlog_kind kind;
    struct log_state before;
    uint64_t body_size;
    bool acked, deleted;
};

struct objlog_test {
    struct sim_run *run;
    struct sim_world *world;
    /* The load. */
    unsigned depth, workers, checkpoint_every;
    uint64_t entries_wanted, pause_max_ns;
    bool trims;
    /* What the writer did: written as it happens, so it survives the writer. */
    struct entry entries[ENTRIES_MAX];
    struct log_state state; /* behind the last entry called for */
    uint64_t acked_end;     /* behind the highest acknowledged number */
    uint64_t failed_from;   /* lowest number whose append failed; UINT64_MAX: none */
    uint64_t fence_number;  /* UINT64_MAX: no fencer has succeeded */
    uint64_t fences_mine;
    uint64_t next_fencer_id;
    struct {
        struct sim_node *node;
        bool succeeded;
    } fencers[FENCERS];
    struct sim_node *writer;
    struct sim_check_memory *memory;
};

/* --- The writer. All of this is gone after a crash. */

struct writer {
    struct objlog_test *test;
    struct store *store;
    struct objlog *log;
    struct waitgroup group;
    bool over;
};

static uint64_t subject_of(uint64_t number) {
    return sim_subject("entry", (int64_t)number);
}

static void entry_acked(struct objlog_test *t, uint64_t number) {
    sim_note(t->world, t->writer, subject_of(number), "append %lu is acknowledged", number);
    struct entry *x = &t->entries[number];
    x->acked = true;
    t->run->acked++;
    if (number + 1 > t->acked_end) t->acked_end = number + 1;
    if (number > t->failed_from)
        sim_fail_about(t->world, subject_of(number), "append %lu was acknowledged, and %lu before it failed", number,
                       t->failed_from);
    if (number >= t->fence_number) {
        sim_fail_about(t->world, subject_of(number), "append %lu was acknowledged after a fence at %lu", number,
                       t->fence_number);
    }
}

static size_t body_random(struct sim_world *w) {
    uint64_t r = sim_between(w, 0, 99);
    return r < 40 ? 0 : r < 95 ? sim_between(w, 1, 600) : sim_between(w, 601, 9000);
}

/* One append. False: the log is over for this writer. */
static bool writer_append(struct writer *x) {
    struct objlog_test *t = x->test;
    struct sim_world *w = t->world;
    if (t->state.count == ENTRIES_MAX) return false;
    struct mem *m = x->store->env->mem;
    /* No suspension from here to objlog_append: numbers are given in the order of the calls. */
    uint64_t number = t->state.count;
    struct entry *entry = &t->entries[number];
    bool checkpoint = sim_between(w, 1, t->checkpoint_every) == 1;
    *entry = (struct entry){.id = rng_next(&w->rng) | 1,
                            .kind = checkpoint ? OBJLOG_CHECKPOINT : OBJLOG_DATA,
                            .before = t->state,
                            .body_size = body_random(w)};
    log_state_add(&t->state, entry->id);
    size_t filler = sim_chance(w, 0.01) ? sim_between(w, 60000, 70000) : sim_between(w, 0, 100);
    struct slice head = log_head_make(m, &(struct log_head){entry->id, entry->before}, filler);
    uint8_t *bytes = mem_alloc(m, entry->body_size);
    sim_payload_fill(entry->id, bytes, entry->body_size);
    size_t cut = entry->body_size / 3;
    struct slice body[2] = {slice_borrow(bytes, cut), slice_borrow(bytes + cut, entry->body_size - cut)};
    t->run->ops++;
    sim_note(w, t->writer, subject_of(number), "appends %lu, a %s", number, checkpoint ? "checkpoint" : "record");
    uint64_t got = UINT64_MAX;
    enum err e = objlog_append(x->log, entry->kind, &head, body, entry->body_size > 0 ? 2 : 0,
                               crc32c(0, bytes, entry->body_size), &got);
    slice_unref(&head);
    mem_free(m, bytes);
    if (e == OK && got != number)
        sim_fail_about(w, subject_of(number), "append %lu was told that it has number %lu", number, got);
    if (e == OK && !entry->acked) entry_acked(t, number);
    if (e == OK) return true;
    sim_note(w, t->writer, SIM_SUBJECT_ALL, "append %lu ends with %s", number, err_name(e));
    if (e != ERR_FENCED) sim_fail_about(w, subject_of(number), "append %lu ended with %s", number, err_name(e));
    if (number < t->failed_from) t->failed_from = number;
    if (number < t->acked_end)
        sim_fail_about(w, subject_of(number), "append %lu failed, and one behind it was acknowledged", number);
    return false;
}

static void writer_worker(void *arg) {
    struct writer *x = arg;
    struct objlog_test *t = x->test;
    while (!x->over) {
        /* The load is over when enough was written; a slow one goes on, so that a zombie meets the fence. */
        bool slow = t->state.count >= t->entries_wanted;
        if (slow || sim_chance(t->world, 0.7)) {
            fiber_sleep_ns(slow ? sim_between(t->world, 5, 120) * NS_PER_S : sim_between(t->world, 0, 300) * NS_PER_MS);
        }
        if (!writer_append(x)) x->over = true;
    }
    waitgroup_done(&x->group);
}

/* Numbers that the rules let go: all below what an entry of the durable prefix carries. */
static uint64_t trim_below(struct writer *x) {
    uint64_t below = objlog_deletable_below(x->log);
    if (below > 0 && env_mutant(x->store->env, MUTANT_TRIM_TOO_MUCH)) return objlog_durable(x->log);
    return below;
}

static void writer_trimmer(void *arg) {
    struct writer *x = arg;
    struct objlog_test *t = x->test;
    while (!x->over) {
        fiber_sleep_ns(sim_between(t->world, 10, 3000) * NS_PER_MS);
        uint64_t numbers[64], below = trim_below(x);
        size_t count = 0;
        for (uint64_t n = 0; n < below && count < ARRAY_LEN(numbers); n++) {
            if (!t->entries[n].deleted && sim_chance(t->world, 0.8)) numbers[count++] = n;
        }
        if (count == 0) continue;
        for (size_t i = 0; i < count; i++) {
            sim_note(t->world, t->writer, subject_of(numbers[i]), "deletes %lu; all below %lu may go", numbers[i],
                     below);
        }
        log_shuffle(t->world, numbers, count);
        /* some may be gone; they are tried again */
        if (objlog_delete(x->store, PREFIX, numbers, count) != OK) continue;
        for (size_t i = 0; i < count; i++) t->entries[numbers[i]].deleted = true;
    }
    waitgroup_done(&x->group);
}

static void writer_main(void *arg) {
    struct writer x = {.test = arg};
    struct objlog_test *t = arg;
    struct loop *l = loop_current();
    x.store = sim_run_store(t->run, l->env, false);
    struct objlog_options o = {
        .store = x.store, .prefix = PREFIX, .depth = t->depth, .writer = WRITER_ID, .purpose = STORE_FOR_LEDGER};
    x.log = objlog_create(&o);
    waitgroup_init(&x.group);
    for (unsigned i = 0; i < t->workers; i++) {
        waitgroup_add(&x.group);
        fiber_spawn(l, "append", writer_worker, &x);
    }
    if (t->trims) {
        waitgroup_add(&x.group);
        fiber_spawn(l, "trim", writer_trimmer, &x);
    }
    waitgroup_wait(&x.group);
    objlog_destroy(x.log);
    store_close(x.store);
}

/* --- A fencer: replays, checks what it sees against what the writer did, fences. */

struct fencer {
    struct objlog_test *test;
    struct store *store;
    bool begun;
    struct log_state state;
};

static void fencer_reset(void *ctx) {
    struct fencer *f = ctx;
    f->begun = false;
    f->state = (struct log_state){0};
}

static bool state_equal(const struct log_state *a, const struct log_state *b) {
    return a->count == b->count && a->chain == b->chain && a->writer == b->writer;
}

static bool entry_as_written(const struct objlog_test *t, const struct objlog_entry *e, const struct log_head *head) {
    const struct objlog_header *h = &e->header;
    if (h->number >= t->state.count) return false;
    const struct entry *x = &t->entries[h->number];
    return x->id == head->id && x->kind == h->kind && x->body_size == h->body_size && h->writer == WRITER_ID &&
           state_equal(&x->before, &head->before);
}

static enum err fencer_apply(void *ctx, const struct objlog_entry *e) {
    struct fencer *f = ctx;
    struct objlog_test *t = f->test;
    const struct objlog_header *h = &e->header;
    if (h->kind == OBJLOG_FENCE) return OK;
    struct log_head head;
    if (!log_head_read(&e->head, &head) || !entry_as_written(t, e, &head)) {
        sim_fail_about(t->world, subject_of(h->number),
                       "a replay found an entry at %lu that the writer did not put there", h->number);
        return ERR_CORRUPT;
    }
    if (!f->begun && h->number > 0) {
        if (h->kind != OBJLOG_CHECKPOINT) {
            sim_fail_about(t->world, subject_of(h->number), "a replay began at %lu, which is no checkpoint", h->number);
            return ERR_CORRUPT;
        }
        f->state = head.before;
    }
    f->begun = true;
    if (!state_equal(&f->state, &head.before)) {
        sim_fail_about(t->world, subject_of(h->number),
                       "a replay reached entry %lu with another state than the writer's", h->number);
        return ERR_CORRUPT;
    }
    log_state_add(&f->state, head.id);
    return log_body_check(f->store, PREFIX, h, head.id);
}

/* A fencer believes that the log ends at `number`. */
static void fencer_check(struct fencer *f, uint64_t number, bool mine) {
    struct objlog_test *t = f->test;
    t->run->ops++;
    t->run->acked++;
    sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "believes that the log ends at %lu, by a fence of %s",
             number, mine ? "its own" : "another's");
    if (f->state.count != number) {
        sim_fail(t->world, "the fence lies at %lu, but the replay ended at %lu", number, f->state.count);
    }
    if (t->failed_from < number)
        sim_fail(t->world, "append %lu failed as overtaken, and the log goes on to %lu", t->failed_from, number);
    if (t->fence_number != UINT64_MAX && t->fence_number != number) {
        sim_fail(t->world, "two fencers disagree: the log ends at %lu, and at %lu", t->fence_number, number);
    }
    for (uint64_t n = number; n < t->state.count; n++) {
        if (t->entries[n].acked) {
            sim_fail_about(t->world, subject_of(n), "entry %lu was acknowledged, and the log was fenced at %lu", n,
                           number);
            break;
        }
    }
    const struct log_state *end = number < t->state.count ? &t->entries[number].before : &t->state;
    if (number <= t->state.count && !state_equal(end, &f->state))
        sim_fail(t->world, "the replay up to the fence is not the writer's");
    if (mine && ++t->fences_mine > 1) sim_fail(t->world, "two fencers believe that the fence is theirs");
    t->fence_number = number;
}

static enum err fencer_try(struct fencer *f, uint64_t id, uint64_t *number, bool *mine) {
    struct objlog_test *t = f->test;
    struct objlog_options o = {
        .store = f->store, .prefix = PREFIX, .depth = 1, .writer = id, .purpose = STORE_FOR_LEDGER};
    struct objlog *log = objlog_create(&o);
    struct objlog_replay replay = {fencer_apply, fencer_reset, f};
    fencer_reset(f);
    sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "replays the log as writer %lu", id);
    enum err e = objlog_recover(log, &replay);
    if (e == ERR_NOT_FOUND) e = OK;
    /* its position goes stale */
    if (e == OK && sim_chance(t->world, 0.5)) fiber_sleep_ns(sim_between(t->world, 0, t->pause_max_ns));
    if (e == OK) {
        struct slice head = slice_borrow(&id, sizeof(id));
        e = objlog_take_over(log, OBJLOG_FENCE, &replay, &head, number, mine);
    }
    objlog_destroy(log);
    return e;
}

static void fencer_main(void *arg) {
    struct objlog_test *t = arg;
    struct env *env = loop_current()->env;
    struct sim_node *self = sim_node_of(env);
    struct fencer f = {.test = t, .store = sim_run_store(t->run, env, false)};
    uint64_t number = 0;
    bool mine = false;
    enum err e;
    do {
        e = fencer_try(&f, ++t->next_fencer_id, &number, &mine);
    } while (log_again(e));
    store_close(f.store);
    if (e == OK) fencer_check(&f, number, mine);
    if (e != OK) sim_fail(t->world, "a takeover ended with %s", err_name(e));
    for (unsigned i = 0; i < FENCERS; i++) {
        if (t->fencers[i].node == self) t->fencers[i].succeeded = true;
    }
}

/* --- The driver. */

static void trouble(struct objlog_test *t) {
    struct sim_world *w = t->world;
    uint64_t who = sim_between(w, 0, FENCERS);
    struct sim_node *n = who == FENCERS ? t->writer : t->fencers[who].node;
    if (!sim_node_up(n)) return;
    if (sim_chance(w, n == t->writer ? 0.7 : 0.5)) {
        sim_node_pause(n, sim_between(w, 0, t->pause_max_ns));
    } else {
        sim_run_crash(t->run, n);
    }
}

static void fencers_start(struct objlog_test *t, bool again) {
    for (unsigned i = 0; i < FENCERS; i++) {
        struct sim_node *n = t->fencers[i].node;
        if (sim_node_up(n) || t->fencers[i].succeeded) continue;
        if (again || sim_chance(t->world, 0.3)) sim_node_start(n, fencer_main, t);
    }
}

static bool fencers_done(const struct objlog_test *t) {
    for (unsigned i = 0; i < FENCERS; i++) {
        if (!t->fencers[i].succeeded) return false;
    }
    return true;
}

/* At any moment. */
static void look(void *arg) {
    struct objlog_test *t = arg;
    uint64_t end;
    bool fenced;
    if (sim_failed(t->world) || !sim_check_log(t->world, PREFIX, t->depth, t->memory, &end, &fenced)) return;
    if (end < t->acked_end)
        sim_fail(t->world, "entry %lu was acknowledged, and the bucket holds the log to %lu", t->acked_end - 1, end);
    if (t->fence_number != UINT64_MAX && (!fenced || end != t->fence_number))
        sim_fail(t->world, "the fence at %lu is gone", t->fence_number);
}

static void finish(struct objlog_test *t) {
    struct sim_run *r = t->run;
    sim_run_heal(r);
    for (unsigned round = 0; round < 2 && !sim_failed(t->world); round++) {
        fencers_start(t, true);
        for (unsigned i = 0; i < FENCERS; i++) {
            if (!sim_run_wait_down(r, t->fencers[i].node, 3600 * NS_PER_S))
                sim_fail(t->world, "a takeover does not end though nothing is broken");
        }
        if (!fencers_done(t)) sim_fail(t->world, "a fencer ended without a result");
        if (!sim_run_wait_down(r, t->writer, 3600 * NS_PER_S))
            sim_fail(t->world, "the writer does not learn that it was fenced");
        /* Everything that is late lands; then all ask once more. */
        fiber_sleep_ns(SIM_RUN_LATE_NS);
        for (unsigned i = 0; i < FENCERS && round == 0; i++) t->fencers[i].succeeded = false;
        t->fences_mine = 0;
    }
    look(t);
}

static void load_choose(struct objlog_test *t) {
    struct sim_world *w = t->world;
    static const unsigned depths[] = {1, 2, 4, 16, OBJLOG_DEPTH_MAX};
    t->depth = depths[sim_between(w, 0, ARRAY_LEN(depths) - 1)];
    t->workers = (unsigned)sim_between(w, 1, t->depth < 8 ? t->depth * 2 : 16);
    t->checkpoint_every = (unsigned)sim_between(w, 3, 40);
    t->entries_wanted = sim_between(w, 0, 600);
    t->pause_max_ns = sim_between(w, 1, 200) * NS_PER_S;
    t->trims = sim_chance(w, 0.85);
    w->faults.chance[SIM_STORE_DELETE_REFUSED] = 0; /* the trimmer here would stand still */
}

void workload_objlog(struct sim_run *r) {
    struct objlog_test *t = MEM_NEW(sim_run_mem(r), struct objlog_test);
    struct sim_world *w = r->world;
    t->run = r;
    t->world = w;
    t->fence_number = t->failed_from = UINT64_MAX;
    t->next_fencer_id = 100;
    t->writer = sim_node_create(w, "writer");
    for (unsigned i = 0; i < FENCERS; i++)
        t->fencers[i].node = sim_node_create(w, (const char *[]){"fencer-a", "fencer-b", "fencer-c"}[i]);
    t->memory = sim_check_memory_create(sim_run_mem(r));
    w->bucket->deleted = look;
    w->bucket->deleted_ctx = t;
    load_choose(t);
    sim_node_start(t->writer, writer_main, t);
    uint64_t start_ns = w->now_ns, load_ns = sim_run_load_ns(r, 6),
             fence_from_ns = start_ns + sim_between(w, 0, r->planned_ns);
    while (w->now_ns < start_ns + load_ns) {
        fiber_sleep_ns(sim_between(w, 100, 8000) * NS_PER_MS);
        look(t);
        if (w->now_ns >= fence_from_ns) fencers_start(t, false);
        if (sim_chance(w, 0.2)) trouble(t);
    }
    finish(t);
}
