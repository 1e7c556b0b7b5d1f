/* Workload "mirror": workload "streams" with a WAL that is a mirror of two devices, or of one or two and an object log in another
 * bucket. Devices fail, stall, are lost for good and replaced by empty ones, go away and come back with what they held, or
 * another broker's appears in their place; the bucket has the faults that buckets have. Or two machines reach them, now and
 * then not all of them, which take turns as in "rivals", and take them over by mark; an operator makes new what a start has
 * left alone. In addition:
 *  - at any moment each member that the newest membership in the ledger names has all that was acknowledged and is not in
 *    the ledger; taken over by mark, it is there;
 *  - what another broker's device holds stays as it is. */
#include "sim/workload_streams_priv.h"

#include <stdio.h>

#include "base/crc32c.h"

#define OTHERS_OWNER 78u
#define OTHERS_LOOKED_AT (8u * ENV_FILE_ALIGN)
/* Until what a crashed machine has sent to a device is there, or never will be. */
#define OPERATOR_WAITS_NS (31 * NS_PER_S)

static const char *const device_paths[MIRRORED] = {"/dev/wal0", "/dev/wal1"};

/* --- Its members, for a start. */

static unsigned mirror_member_count(const struct streams_test *t) {
    return t->rings + (t->bucket != NULL);
}

unsigned mirror_members(const struct streams_test *t, struct stream_wal_member out[MIRRORED + 1]) {
    if (!t->mirrored) return 0;
    for (unsigned d = 0; d < t->rings; d++)
        out[d] = (struct stream_wal_member){.path = device_paths[d], .takeover_mark = t->marks};
    if (t->bucket) out[t->rings] = (struct stream_wal_member){.path = "s3://another", .objects = true};
    return mirror_member_count(t);
}

enum err mirror_open_bucket(void *ctx, const char *url, struct store **out, char *why, size_t why_size) {
    struct broker_life *l = ctx;
    struct sim_store_options o = {.exclusive = !l->test->shared};
    (void)url, (void)why, (void)why_size;
    *out = sim_store_open(l->test->bucket, l->env, &o);
    return OK;
}

/* By what the ledger says, whoever wrote it. */
static bool device_is_needed(struct streams_test *t, unsigned d) {
    struct holdings h = {.test = t};
    struct stored_report r = {""};
    struct stored_wal wal;
    struct sim_check_options o = {.exclusive = !t->shared, .stream = holding_of_ledger, .ctx = &h};
    if (t->detects) return false; /* a start may be refused */
    if (!sim_check_store(t->world, NULL, &o)) return true;
    if (!stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], NULL, NULL, &wal) || !wal.formatted) return false;
    bool needed = false;
    for (unsigned i = 0; i < t->partitions; i++) needed |= h.any[i] && holding_names_ring(&h.parts[i], &wal);
    return needed;
}

/* The operator's part where devices are taken over by mark: the other machine is down, and this one has not begun. */
static void operator_makes_new(struct broker_life *l) {
    struct streams_test *t = l->test;
    const struct side *other = l->side == &t->sides[0] ? &t->sides[1] : &t->sides[0];
    bool due[MIRRORED], any = false;
    for (unsigned d = 0; d < t->rings; d++) {
        due[d] = t->init_due[d] && !l->side->cut[d] && !device_is_needed(t, d);
        any |= due[d];
    }
    if (!t->marks || sim_node_up(other->broker)) return;
    if (!t->init_begun && (!any || sim_chance(t->world, 0.2))) return;
    t->init_begun = true;
    sim_suspend(l->side->broker, OPERATOR_WAITS_NS);
    for (unsigned d = 0; d < t->rings; d++) {
        struct wal_options o = {.env = l->env, .path = device_paths[d]};
        uint8_t id[16];
        const char *why;
        if (!due[d]) continue;
        env_random(l->env, id, sizeof(id));
        while (wal_init(&o, id, true, &why) != OK) sim_suspend(l->side->broker, NS_PER_S);
        t->init_due[d] = false;
        sim_note(t->world, l->side->broker, SIM_SUBJECT_ALL, "an operator has made device %u new", d);
    }
    t->init_begun = false;
}

static bool has_a_ring(struct streams_test *t, unsigned d) {
    struct stored_report r = {""};
    struct stored_wal wal;
    return stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], NULL, NULL, &wal) && wal.formatted;
}

bool mirror_never_made(struct streams_test *t) {
    bool made = !t->marks;
    for (unsigned d = 0; d < t->rings; d++) made |= has_a_ring(t, d);
    return !made;
}

/* What this start will do to the devices is not known before it is over; without a ring it will do nothing. */
static void devices_are_in_doubt(struct side *side) {
    struct streams_test *t = side->test;
    side->missed = false;
    for (unsigned d = 0; d < t->rings; d++) {
        t->init_due[d] = t->marks && !has_a_ring(t, d);
        side->missed |= side->cut[d];
    }
    t->racing = NULL;
    if (!t->marks || t->over || !sim_chance(t->world, t->takeover)) return;
    t->racing = side;
    side->broker->front_pause_ns = sim_between(t->world, 20, 200) * NS_PER_S; /* longer than a start */
}

void mirror_starts(struct broker_life *l) {
    operator_makes_new(l);
    devices_are_in_doubt(l->side);
}

void mirror_started(struct broker_life *l) {
    struct streams_test *t = l->test;
    if (!t->marks || l->side->superseded) return;
    for (unsigned d = 0; d < t->rings; d++) {
        struct stored_report r = {""};
        struct stored_wal wal;
        bool read = stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], NULL, NULL, &wal) && wal.formatted;
        t->init_due[d] = !read || wal.superblock.incarnation.v != meta_incarnation(l->meta).v;
        sim_note(t->world, l->side->broker, SIM_SUBJECT_ALL, "device %u is %s", d,
                 t->init_due[d] ? "left alone" : "in use");
    }
}

/* --- What happens to them. */

static void mirror_choose(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->mirrored = true;
    if (sim_chance(w, 0.5)) t->bucket = sim_bucket_create(w, "mirror");
    t->rings = t->bucket && sim_chance(w, 0.6) ? 1 : MIRRORED;
    t->mirror_stops = sim_chance(w, 0.3);
    t->mirror_quick = sim_chance(w, 0.8);
    t->mirror_timeout_ms = sim_chance(w, 0.5) ? (uint32_t)sim_between(w, 100, 2000) : 5000;
    /* Elsewhere the store fails often enough: starts that take minutes leave little time for more. */
    for (unsigned f = SIM_STORE_UNAVAILABLE; f <= SIM_STORE_CRASH_LATE && t->mirror_quick; f++)
        w->faults.chance[f] *= 0.1;
    if (t->marks) {
        /* what happens to devices happens in the other runs */
    } else if (sim_chance(w, 0.4)) {
        t->loses_any = true;
        t->detects = true;
    } else if (!t->detects && sim_chance(w, 0.5)) {
        /* Nothing else may happen to the other meanwhile. */
        t->loses = true;
        t->mirror_timeout_ms = 3600 * 1000;
        w->faults.chance[SIM_DISK_WRITE_FAILS] = 0;
    }
    for (unsigned d = 0; d < t->rings; d++) {
        t->devices[d] = sim_device_create(w, t->wal_bytes / 4096 * 4096);
        sim_device_attach(t->sides[0].broker, device_paths[d], t->devices[d]);
        if (t->marks) sim_device_attach(t->sides[1].broker, device_paths[d], t->devices[d]);
        t->init_due[d] = t->marks;
    }
}

/* By what the ledger says, each of the members has everything. */
static bool all_count(struct streams_test *t) {
    struct sim_node *node = t->current->broker;
    if (!sim_node_up(node) || atomic_load(&t->current->env->metrics->gauges[M_WAL_MEMBERS]) != mirror_member_count(t) ||
        atomic_load(&t->current->env->metrics->gauges[M_WAL_FAILED]) != 0)
        return false;
    struct holdings h = {.test = t};
    struct sim_check_options o = {.exclusive = !t->shared, .stream = holding_of_ledger, .ctx = &h};
    if (!sim_check_store(t->world, NULL, &o) || !h.any[0]) return false;
    if (h.parts[0].members.count != mirror_member_count(t)) return false;
    for (unsigned d = 0; d < t->rings; d++) {
        struct stored_report r = {""};
        struct stored_wal wal = {0};
        if (t->away[d] || !stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], NULL, NULL, &wal)) return false;
        if (!wal.formatted || !holding_names_ring(&h.parts[0], &wal)) return false;
    }
    return true;
}

static void device_goes(struct streams_test *t, unsigned d) {
    sim_note(t->world, t->current->broker, SIM_SUBJECT_ALL, "device %u does not answer any more", d);
    sim_device_detach(t->current->broker, t->devices[d]);
    t->away[d] = true;
}

static void others_go(struct streams_test *t, unsigned d) {
    if (!t->others[d]) return;
    sim_device_detach(t->current->broker, t->others[d]);
    sim_device_unref(t->others[d]);
    t->others[d] = NULL;
}

static uint32_t others_crc(const struct sim_file *f) {
    uint8_t front[OTHERS_LOOKED_AT];
    size_t got = sim_file_peek(f, 0, front, sizeof(front));
    return crc32c(0, front, got);
}

/* In its place there is one that another broker of the cluster has records on. */
static void others_come(struct streams_test *t, unsigned d) {
    if (!t->generation[0] || t->others[d]) return;
    sim_note(t->world, t->current->broker, SIM_SUBJECT_ALL, "another broker's is in the place of device %u", d);
    uint64_t size = t->wal_bytes / 4096 * 4096;
    struct sim_file *f = t->others[d] = sim_device_create(t->world, size);
    struct wal_superblock s = {.owner = OTHERS_OWNER,
                               .incarnation = {1},
                               .ring_size = size - WAL_RING_START,
                               .initialised = size - WAL_RING_START,
                               .closed = sim_chance(t->world, 0.3)};
    (void)snprintf(s.generation, sizeof(s.generation), "%s", t->generation);
    for (unsigned slot = 0; slot < 2; slot++) {
        uint8_t sector[WAL_SUPERBLOCK_SIZE];
        s.sequence = slot + 1;
        wal_superblock_encode(&s, sector);
        sim_file_poke(f, slot * (uint64_t)ENV_FILE_ALIGN, sector, sizeof(sector));
    }
    t->others_crc[d] = others_crc(f);
    sim_device_attach(t->current->broker, device_paths[d], f);
}

static void device_comes(struct streams_test *t, unsigned d, bool empty) {
    others_go(t, d);
    sim_note(t->world, t->current->broker, SIM_SUBJECT_ALL, "device %u is there %s", d,
             empty ? "anew, and empty" : "again");
    if (empty) {
        sim_device_unref(t->devices[d]);
        t->devices[d] = sim_device_create(t->world, t->wal_bytes / 4096 * 4096);
    }
    sim_device_attach(t->current->broker, device_paths[d], t->devices[d]);
    t->away[d] = false;
}

static void devices_trouble(struct streams_test *t) {
    if (!(t->loses || t->loses_any)) return;
    bool works = sim_node_up(t->current->broker) && t->current->env &&
                 atomic_load(&t->current->env->metrics->gauges[M_WAL_MEMBERS]) > 0;
    if (!works && sim_chance(t->world, 0.9)) return; /* else few would ever start */
    unsigned d = (unsigned)sim_between(t->world, 0, t->rings - 1);
    if (t->away[d]) {
        if (sim_chance(t->world, 0.3))
            others_come(t, d);
        else if (sim_chance(t->world, 0.5))
            device_comes(t, d, t->loses || sim_chance(t->world, 0.5));
    } else if (sim_chance(t->world, 0.3) && (t->loses_any || all_count(t))) {
        device_goes(t, d);
    } else {
        return;
    }
    if (t->loses_any && t->rings == MIRRORED && sim_chance(t->world, 0.3)) {
        d = MIRRORED - 1 - d;
        if (t->away[d])
            device_comes(t, d, false);
        else
            device_goes(t, d);
    }
}

static void way_changes(struct streams_test *t, struct side *side, unsigned d) {
    side->cut[d] = !side->cut[d];
    side->missed |= side->cut[d];
    sim_note(t->world, side->broker, SIM_SUBJECT_ALL, "device %u is %s", d,
             side->cut[d] ? "out of its reach" : "within its reach again");
    if (side->cut[d])
        sim_device_detach(side->broker, t->devices[d]);
    else
        sim_device_attach(side->broker, device_paths[d], t->devices[d]);
}

static void ways_trouble(struct streams_test *t) {
    if (t->ways == 0 || t->init_begun || !sim_chance(t->world, t->ways)) return;
    way_changes(t, &t->sides[sim_between(t->world, 0, 1)], (unsigned)sim_between(t->world, 0, t->rings - 1));
}

void mirror_trouble(struct streams_test *t) {
    devices_trouble(t);
    ways_trouble(t);
}

void mirror_heal(struct streams_test *t) {
    for (unsigned d = 0; t->mirrored && d < t->rings; d++) {
        if (t->away[d]) device_comes(t, d, t->loses);
        for (unsigned i = 0; i < ARRAY_LEN(t->sides); i++) {
            if (t->sides[i].cut[d]) way_changes(t, &t->sides[i], d);
        }
    }
}

void mirror_check_others(struct streams_test *t) {
    for (unsigned d = 0; d < t->rings; d++) {
        if (t->others[d] && others_crc(t->others[d]) != t->others_crc[d])
            sim_fail(t->world, "the WAL of another broker, in place of device %u, was written to", d);
    }
}

void workload_mirror(struct sim_run *r) {
    struct streams_test *t = streams_test_create(r);
    streams_test_choose_load(t);
    t->no_wal = false;
    if (t->by_ledger == 1) t->by_ledger = 0;
    if (sim_chance(r->world, 0.4)) {
        t->marks = t->shared = true;
        t->sides[1].broker = sim_node_create(r->world, "rival");
        t->change = 0;
        t->takeover = sim_chance(r->world, 0.8) ? 0.3 : 0.05;
        t->ways = sim_chance(r->world, 0.5) ? 0.2 : 0;
    }
    streams_test_choose_class(t);
    mirror_choose(t);
    streams_test_run(t);
    for (unsigned d = 0; d < t->rings; d++) {
        others_go(t, d);
        sim_device_unref(t->devices[d]);
    }
}
