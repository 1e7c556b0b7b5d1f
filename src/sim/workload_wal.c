/* Workload "wal": the write-ahead log alone, small enough that it wraps many times. A holder formats it, writes
 * groups of records, several in flight, and trims; it is
 * killed or loses power and starts again, reading back what the last one left. In half of the runs the WAL is a
 * device that two machines share: the survivor writes the takeover
 * mark and reads, while the holder, which nobody can stop, goes on or wakes up later.
 *
 * Promises:
 *  - what was confirmed and not trimmed is read back, in order, byte for byte, whatever was torn, lost or late;
 *  - nothing is read back that was not written, or that another incarnation wrote;
 *  - the same at every moment, by what lies on the medium as its readers see it;
 *  - after a takeover by mark the holder confirms nothing that the survivor did not read.
 *
 * In some runs bits of the ring rot between two lives. Then a reading may say that the WAL is damaged, or refuse; what it
 * gives is right all the same, and it never ends early without a word: but for the newest groups, behind which nothing
 * was written that shows that they were whole. */
#include "base/crc32c.h"
#include "sim/atlas.h"
#include "sim/check_format.h"
#include "sim/disk.h"
#include "sim/history.h"
#include "sim/workloads.h"
#include "stream/wal.h"

#define LIVES_MAX 64u
#define RECORDS_MAX 6000u
#define WAL_SIZE (WAL_RING_MIN + WAL_RING_MIN / 8)

struct wal_life { /* one incarnation's use of the ring */
    uint64_t ids[RECORDS_MAX];
    uint32_t sizes[RECORDS_MAX];
    uint64_t submitted, confirmed, trimmed; /* counts of records, from the first on */
    uint64_t restarted; /* the first after the newest restart; what is before it is saved elsewhere */
    /* Confirmed when a group was submitted that was confirmed later: by that group it can be told that they are gone. */
    uint64_t settled, confirmed_before[RECORDS_MAX]; /* by the group's first record */
    bool formatted;                                  /* wal_format returned OK */
};

struct wal_test {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_node *holder, *survivor;
    const char *path;
    bool shared, over, taken;
    bool read; /* the newest start has read everything back */
    bool rots, rotten, detected;
    uint64_t taken_end;
    unsigned life_count;
    struct wal_life *lives[LIVES_MAX]; /* incarnation = index + 1 */
    size_t record_max;
    double trim_chance;      /* small: the ring fills up */
    double trim_cut;         /* chance that power goes while space is being freed */
    struct sim_file *device; /* when it is shared */
};

struct holder {
    struct wal_test *test;
    struct wal *wal;
    struct wal_life *life;
    struct incarnation incarnation;
    uint64_t sequence;
    struct list done; /* confirmed, not trimmed */
    bool failed, fenced;
    enum err why;
    struct waitq changed;
    unsigned in_flight;
};

/* --- Reading back. */

struct reading {
    struct wal_test *test;
    struct wal_life *life;
    uint64_t first, next;
    bool begun;
    struct stored_wal ring; /* of a look from outside */
};

static enum err read_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct reading *r = ctx;
    if (!r->begun) r->first = r->next = h->base_offset;
    r->begun = true;
    /* The superblock of a restart has rotted: the one before it leads through what the restart has left behind. */
    if (r->test->rotten && h->base_offset > r->next && h->base_offset == r->life->restarted) r->next = h->base_offset;
    if (h->base_offset != r->next) {
        sim_fail(r->test->world, "the WAL gave record %lu when %lu was next", h->base_offset, r->next);
    } else if (h->base_offset >= r->life->submitted) {
        sim_fail(r->test->world, "the WAL gave record %lu, which nobody wrote", h->base_offset);
    } else if (h->payload_size != r->life->sizes[r->next] ||
               !sim_payload_is(r->life->ids[r->next], payload, h->payload_size)) {
        sim_fail(r->test->world, "the WAL gave other bytes for record %lu", h->base_offset);
    }
    r->next++;
    return sim_failed(r->test->world) ? ERR_CORRUPT : OK;
}

static void check_reading(struct reading *r, const struct wal_found *found) {
    struct wal_life *l = r->life;
    uint64_t first = r->begun ? r->first : l->trimmed, end = r->begun ? r->next : l->trimmed;
    r->test->run->ops++;
    sim_note(r->test->world, r->test->world->stepping, SIM_SUBJECT_ALL,
             "reads back records %lu..%lu; %lu..%lu were confirmed and not trimmed", first, end, l->trimmed,
             l->confirmed);
    /* nothing is needed of it (a restart after an error has saved the rest elsewhere) */
    if (l->confirmed == l->trimmed) return;
    if (first > l->trimmed)
        sim_fail(r->test->world, "the WAL begins at record %lu; %lu was the first not trimmed", first, l->trimmed);
    if (r->test->rotten && end < l->confirmed && (found->damaged || end >= l->settled))
        r->test->detected = true;
    else if (end < l->confirmed)
        sim_fail(r->test->world, "the WAL ends before record %lu; %lu were confirmed", end, l->confirmed);
}

/* Reads what the last incarnation left; *last is 0 when there was none. */
static enum err read_back(struct wal_test *t, struct wal *w, struct incarnation *last, uint64_t *end) {
    const struct wal_superblock *s = wal_superblock(w);
    *last = s ? s->incarnation : (struct incarnation){0};
    if (!s) {
        for (unsigned i = 0; i < t->life_count; i++) {
            if (t->lives[i]->formatted) sim_fail(t->world, "a formatted WAL has no superblock");
        }
        return OK;
    }
    if (s->incarnation.v > t->life_count) {
        sim_fail(t->world, "the superblock names an incarnation that never was");
        return ERR_CORRUPT;
    }
    for (unsigned i = (unsigned)s->incarnation.v; i < t->life_count; i++) {
        if (t->lives[i]->formatted) sim_fail(t->world, "the superblock of a later format is gone");
    }
    struct reading r = {.test = t, .life = t->lives[s->incarnation.v - 1]};
    struct wal_found found;
    enum err e = wal_replay(w, read_record, &r, &found);
    if (e != OK) return e;
    check_reading(&r, &found);
    *end = r.begun ? r.next : r.life->trimmed;
    return OK;
}

/* --- The holder. */

static void confirmed(void *ctx, struct block *b) {
    struct holder *h = ctx;
    uint64_t first = 0, count = 0;
    size_t position = 0;
    struct record_header r;
    const uint8_t *payload;
    while (block_next(b, &position, &r, &payload)) {
        if (count++ == 0) first = r.base_offset;
    }
    if (first != h->life->confirmed)
        sim_fail(h->test->world, "group of record %lu confirmed when %lu was next", first, h->life->confirmed);
    if (h->life->confirmed_before[first] > h->life->settled) h->life->settled = h->life->confirmed_before[first];
    h->life->confirmed = first + count;
    h->test->run->acked += count;
    sim_note(h->test->world, h->test->world->stepping, SIM_SUBJECT_ALL, "is told that records %lu..%lu are durable",
             first, first + count);
    if (h->test->taken && h->life->confirmed > h->test->taken_end) {
        sim_fail(h->test->world, "the holder confirmed %lu records; the survivor had read %lu", h->life->confirmed,
                 h->test->taken_end);
    }
    h->in_flight--;
    list_push_back(&h->done, &b->node);
    waitq_wake_all(&h->changed);
}

static void failed(void *ctx, enum err why) {
    struct holder *h = ctx;
    struct list back;
    list_init(&back);
    wal_take_unconfirmed(h->wal, &back);
    for (struct list *n; (n = list_pop_front(&back)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
    sim_note(h->test->world, h->test->world->stepping, SIM_SUBJECT_ALL, "the WAL fails: %s", err_name(why));
    h->in_flight = 0;
    h->failed = true;
    h->why = why;
    waitq_wake_all(&h->changed);
}

static void submit_group(struct holder *h) {
    struct wal_test *t = h->test;
    struct mem *m = loop_current()->env->mem;
    struct wal_life *l = h->life;
    unsigned count = (unsigned)sim_between(t->world, 1, 5);
    struct block *b = NULL;
    if (l->submitted == RECORDS_MAX) return; /* the life's last groups fill it */
    l->confirmed_before[l->submitted] = l->confirmed;
    for (unsigned i = 0; i < count && l->submitted < RECORDS_MAX; i++) {
        size_t size = sim_between(t->world, 0, t->record_max);
        if (!b) {
            struct commit_slab *slab = commit_slab_create(m, GROUP_HEADER_SIZE + 5 * record_size(t->record_max));
            b = block_create(m, slab, ++h->sequence, h->incarnation, 0);
            slab_unref(&slab->slab);
        }
        uint64_t n = l->submitted;
        l->ids[n] = rng_next(&t->world->rng);
        l->sizes[n] = (uint32_t)size;
        uint8_t *payload = mem_alloc(m, size);
        sim_payload_fill(l->ids[n], payload, size);
        struct record_header r = {
            .payload_size = (uint32_t)size, .type = STREAM_BATCH, .stream = {7}, .base_offset = n, .end_offset = n + 1};
        (void)block_append(b, &r, payload, crc32c(0, payload, size));
        mem_free(m, payload);
        l->submitted++;
        t->run->ops++;
    }
    if (!b) return;
    sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "writes records up to %lu", l->submitted);
    block_seal(b, env_now_ns(loop_current()->env));
    h->in_flight++;
    wal_submit(h->wal, b);
}

static void trim_some(struct holder *h, uint64_t keep) {
    uint64_t position = 0;
    size_t count = 0;
    LIST_EACH(it, &h->done) count++;
    while (count > keep) {
        struct block *b = LIST_ENTRY(list_pop_front(&h->done), struct block, node);
        position = b->wal_end;
        h->life->trimmed += b->records;
        block_destroy(b);
        count--;
    }
    if (!position) return;
    sim_note(h->test->world, h->test->world->stepping, SIM_SUBJECT_ALL, "trims records below %lu", h->life->trimmed);
    wal_trim(h->wal, position);
}

/* What failed is taken for saved elsewhere, as the ledger would; then the WAL is tried again. */
static bool restart(struct holder *h) {
    trim_some(h, 0);
    h->life->trimmed = h->life->restarted = h->life->submitted;
    for (unsigned attempt = 0; attempt < 20; attempt++) {
        enum err e = wal_restart(h->wal);
        sim_note(h->test->world, h->test->world->stepping, SIM_SUBJECT_ALL, "restarts the WAL: %s", err_name(e));
        if (e == OK) {
            h->failed = false;
            h->life->confirmed = h->life->submitted;
            return true;
        }
        if (e == ERR_FENCED) return false;
        env_backoff(loop_current()->env, attempt, NS_PER_MS, NS_PER_S);
    }
    return false;
}

static void hold(struct holder *h) {
    struct wal_test *t = h->test;
    while (!t->over && !sim_failed(t->world)) {
        if (h->failed && !restart(h)) return;
        if (h->life->submitted >= RECORDS_MAX - 8) return;
        uint64_t groups = sim_between(t->world, 1, 6);
        for (uint64_t i = 0; i < groups && !h->failed; i++) submit_group(h);
        if (sim_chance(t->world, 0.7)) fiber_sleep_ns(sim_between(t->world, 0, 100) * NS_PER_MS);
        /* Full: nobody else trims. */
        while (!h->failed && h->in_flight > 8) {
            trim_some(h, sim_between(t->world, 0, 3));
            /* The moment when space is being freed and waited for is short, and worth many crashes. */
            if (!t->shared && sim_chance(t->world, 0.02)) sim_run_crash(t->run, t->holder);
            if (!t->shared && sim_chance(t->world, t->trim_cut) && sim_fault_allowed(t->world, SIM_CRASH_POWER))
                sim_node_crash_in(t->holder, sim_between(t->world, 1, 5), SIM_POWER_CUT);
            if (!waitq_wait_until(&h->changed, env_now_ns(loop_current()->env) + 20 * NS_PER_MS)) trim_some(h, 0);
        }
        if (sim_chance(t->world, t->trim_chance)) trim_some(h, sim_between(t->world, 0, 40));
    }
}

static struct wal_options options_of(struct wal_test *t, struct holder *h) {
    return (struct wal_options){.env = loop_current()->env,
                                .path = t->path,
                                .size_bytes = WAL_SIZE,
                                .takeover_mark = t->shared,
                                .confirmed = confirmed,
                                .failed = failed,
                                .ctx = h};
}

static void holder_main(void *arg) {
    struct wal_test *t = arg;
    struct holder h = {.test = t};
    list_init(&h.done);
    waitq_init(&h.changed);
    struct wal_options o = options_of(t, &h);
    const char *why = NULL;
    struct incarnation last;
    uint64_t end;
    t->read = false;
    enum err e = wal_open(&o, &h.wal, &why);
    if (e != OK && t->rotten && e != ERR_IO) t->detected = true;
    if (e != OK) return; /* a read failed: the driver starts us again */
    e = read_back(t, h.wal, &last, &end);
    t->read = e == OK;
    if (e != OK && t->rotten && e != ERR_IO) t->detected = true;
    if (e == OK && !t->detected && t->life_count < LIVES_MAX && (!t->shared || last.v == 0)) {
        h.life = t->lives[t->life_count] = MEM_NEW(sim_run_mem(t->run), struct wal_life);
        h.incarnation.v = ++t->life_count;
        uint8_t id[16];
        env_random(o.env, id, sizeof(id));
        e = wal_format(h.wal, "generation", h.incarnation, id);
        sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "formats the WAL as incarnation %lu: %s",
                 h.incarnation.v, err_name(e));
        if (e == OK) {
            h.life->formatted = true;
            hold(&h);
        }
    }
    /* Whatever is under way ends before the memory goes. */
    while (!h.failed && h.in_flight > 0) {
        trim_some(&h, 0);
        (void)waitq_wait_until(&h.changed, env_now_ns(o.env) + 20 * NS_PER_MS);
    }
    while (!list_empty(&h.done)) trim_some(&h, 0);
    wal_close(h.wal, false);
}

/* --- The survivor. */

static void survivor_main(void *arg) {
    struct wal_test *t = arg;
    struct wal_options o = options_of(t, NULL);
    o.confirmed = NULL;
    o.failed = NULL;
    struct wal *w;
    const char *why;
    if (wal_open(&o, &w, &why) != OK) return;
    struct incarnation last = {0};
    uint64_t end = 0;
    enum err e = wal_superblock(w) ? OK : ERR_NOT_FOUND;
    if (e == OK) e = wal_mark(w, wal_superblock(w)->incarnation, (struct incarnation){99});
    wal_close(w, false);
    sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "writes the takeover mark: %s", err_name(e));
    if (e != OK) return;
    /* The superblock is read after the mark: one read before it may be older than a trim. */
    if (wal_open(&o, &w, &why) != OK) return;
    /* It may be long on its way: meanwhile the holder, who does not know yet, trims. */
    if (sim_chance(t->world, 0.5)) fiber_sleep_ns(sim_between(t->world, 0, 3000) * NS_PER_MS);
    if (read_back(t, w, &last, &end) == OK && !sim_failed(t->world)) {
        t->taken = true;
        t->taken_end = end;
    }
    wal_close(w, false);
}

/* --- The driver. */

static void look_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct reading *r = ctx;
    uint64_t incarnation = r->ring.superblock.incarnation.v;
    if (sim_failed(r->test->world) || incarnation == 0 || incarnation > r->test->life_count) return;
    r->life = r->test->lives[incarnation - 1];
    (void)read_record(r, h, payload);
}

/* From outside, at any moment. */
static void look(struct wal_test *t) {
    if (t->rots || sim_failed(t->world)) return;
    struct sim_file *f = t->shared ? t->device : sim_disk_find(t->holder->disk, t->path);
    struct reading r = {.test = t};
    struct stored_report report = {""};
    if (!stored_wal_read(&report, sim_run_mem(t->run), f, look_record, &r, &r.ring))
        sim_fail(t->world, "the WAL: %s", report.text);
    uint64_t incarnation = r.ring.formatted ? r.ring.superblock.incarnation.v : 0;
    for (uint64_t i = incarnation; i < t->life_count; i++) {
        if (t->lives[i]->formatted) sim_fail(t->world, "the superblock of a later format is gone");
    }
    if (incarnation > t->life_count) sim_fail(t->world, "the superblock names an incarnation that never was");
    if (sim_failed(t->world) || incarnation == 0) return;
    r.life = t->lives[incarnation - 1];
    check_reading(&r, NULL); /* nothing rots: what was found is whole */
}

/* Between two lives a bit changes, anywhere; mostly in the ring. */
static void rot(struct wal_test *t) {
    struct sim_file *f = sim_disk_find(t->holder->disk, t->path);
    if (!t->rots || !f || !sim_chance(t->world, 0.4)) return;
    t->rotten |=
        sim_chance(t->world, 0.9) ? sim_file_rot(f, WAL_RING_START, WAL_SIZE) : sim_file_rot(f, 0, WAL_RING_START);
}

void workload_wal(struct sim_run *r) {
    struct sim_world *w = r->world;
    struct wal_test *t = MEM_NEW(sim_run_mem(r), struct wal_test);
    t->run = r;
    t->world = w;
    t->shared = sim_chance(w, 0.5);
    t->record_max = sim_chance(w, 0.4) ? 1500 : sim_chance(w, 0.5) ? WAL_SIZE / 150 : WAL_SIZE / 36;
    t->trim_chance = sim_chance(w, 0.5) ? 0 : 0.2;
    if (!t->shared && sim_chance(w, 0.4)) { /* superblocks are torn, and laps are short */
        t->trim_cut = 0.3;
        t->record_max = WAL_SIZE / 36;
        w->faults.chance[SIM_DISK_TEAR] = w->faults.chance[SIM_DISK_TEAR_UNIT] = 1;
    }
    if (sim_chance(w, 0.4)) w->faults.chance[SIM_DISK_WRITE_FAILS] = 0.1;
    t->path = t->shared ? "/dev/shared" : "/var/wal/ring.wal";
    t->rots = !t->shared && sim_chance(w, 0.2);
    sim_faults_within(w, t->shared ? SIM_CLASS_WAL_DEVICE : SIM_CLASS_WAL_FILE, t->rots ? SIM_DETECTS : SIM_SURVIVES);
    t->holder = sim_node_create(w, "holder");
    t->survivor = sim_node_create(w, "survivor");
    if (t->shared) {
        t->device = sim_device_create(w, WAL_SIZE);
        sim_device_attach(t->holder, t->path, t->device);
        sim_device_attach(t->survivor, t->path, t->device);
        sim_device_unref(t->device); /* now it is the nodes', which stay */
    }
    uint64_t end_ns = w->now_ns + sim_run_load_ns(r, 1), take_ns = w->now_ns + sim_between(w, 1, 40) * NS_PER_S;
    while (w->now_ns < end_ns && !t->detected && !sim_failed(w)) {
        bool first = t->life_count == 0 || !t->shared;
        if (!sim_node_up(t->holder) && first) {
            rot(t);
            sim_node_start(t->holder, holder_main, t);
        }
        fiber_sleep_ns(sim_between(w, 10, 4000) * NS_PER_MS);
        look(t);
        if (t->shared && w->now_ns > take_ns && !t->taken && !sim_node_up(t->survivor))
            sim_node_start(t->survivor, survivor_main, t);
        if (sim_chance(w, 0.25)) sim_node_pause(t->holder, sim_node_pause_ns(w));
        if (sim_chance(w, t->shared ? 0.05 : 0.4)) sim_run_crash(r, t->holder);
        if (t->shared && sim_chance(w, 0.1)) sim_run_crash(r, t->survivor);
        if (t->shared && sim_chance(w, 0.02)) (void)sim_node_lose_machine(t->holder);
    }
    sim_run_heal(r);
    t->over = true;
    if (!sim_failed(w) && !sim_run_wait_down(r, t->holder, 600 * NS_PER_S))
        sim_fail(w, "the holder does not end though nothing is broken");
    look(t);
    if (!sim_failed(w)) (void)sim_run_wait_down(r, t->survivor, 600 * NS_PER_S);
    if (!t->shared && !t->detected && !sim_failed(w)) { /* the last read back */
        t->over = true;
        sim_node_start(t->holder, holder_main, t);
        if (!sim_run_wait_down(r, t->holder, 600 * NS_PER_S)) sim_fail(w, "the last start does not end");
        if (!t->read && !t->detected && !sim_failed(w)) sim_fail(w, "the WAL cannot be read though nothing is broken");
    }
}
