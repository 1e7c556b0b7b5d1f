#include "sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "rt/loop.h"
#include "sim/history.h"
#include "sim/net.h"
#include "sim/node.h"
#include "sim/sim_store.h"

static const struct {
    const char *name, *sentence;
    double chance;
} fault_table[SIM_FAULTS] = {
#define X(id, name, chance, wal_file, wal_device, object, sentence) [id] = {name, sentence, chance},
#include "sim/fault_table.h"
#undef X
};

const char *sim_fault_name(enum sim_fault f) {
    ASSERT(f < SIM_FAULTS);
    return fault_table[f].name;
}

const char *sim_fault_sentence(enum sim_fault f) {
    ASSERT(f < SIM_FAULTS);
    return fault_table[f].sentence;
}

void sim_faults_none(struct sim_faults *f) {
    *f = (struct sim_faults){0};
}

void sim_faults_usual(struct sim_faults *f) {
    for (int i = 0; i < SIM_FAULTS; i++) f->chance[i] = fault_table[i].chance;
}

void sim_faults_swarm(struct sim_faults *f, struct rng *rng) {
    for (int i = 0; i < SIM_FAULTS; i++) {
        double usual = fault_table[i].chance;
        switch (rng_below(rng, 8)) {
        case 0:
        case 1:
            f->chance[i] = 0;
            break;
        case 2:
            f->chance[i] = usual * 5 < 0.5 ? usual * 5 : 0.5;
            break;
        default:
            f->chance[i] = usual;
            break;
        }
        if (usual <= 0) f->chance[i] = 0;
    }
}

struct sim_world *sim_world_create(const struct sim_world_options *o) {
    struct mem heap;
    mem_init_heap(&heap);
    struct sim_world *w = MEM_NEW(&heap, struct sim_world);
    INIT_OBJ(w, SIM_WORLD_MAGIC);
    w->options = *o;
    mem_init_heap(&w->heap);
    rng_seed(&w->rng, o->seed);
    w->hash = hash64(o->seed + 0x9e3779b97f4a7c15ull);
    w->now_ns = NS_PER_S;
    w->leaks_fail = true;
    list_init(&w->nodes);
    list_init(&w->buckets);
    list_init(&w->listeners);
    list_init(&w->conns);
    list_init(&w->notes);
    sim_faults_usual(&w->faults);
    w->bucket = sim_bucket_create(w, "main");
    return w;
}

/* Nodes go first, as by a power cut. The operations that this leaves under way own themselves: they are let fire,
 * whatever they still do to disks and
 * buckets, until the heap is empty. */
void sim_world_destroy(struct sim_world *w) {
    CHECK_OBJ(w, SIM_WORLD_MAGIC);
    ASSERT(w->stepping == NULL);
    w->faults_off = true;
    LIST_EACH(it, &w->buckets) LIST_ENTRY(it, struct sim_bucket, link)->deleted = NULL; /* who asked lay on a node */
    LIST_EACH(it, &w->nodes) sim_node_crash(LIST_ENTRY(it, struct sim_node, link), SIM_POWER_CUT);
    while (w->event_count > 0) {
        struct sim_event *e = w->events[0];
        if (e->at_ns > w->now_ns) w->now_ns = e->at_ns;
        sim_event_cancel(w, e);
        e->fire(e);
    }
    LIST_EACH_SAFE(it, &w->nodes) sim_node_destroy(LIST_ENTRY(it, struct sim_node, link));
    sim_net_destroy(w);
    LIST_EACH_SAFE(it, &w->buckets) sim_bucket_destroy(LIST_ENTRY(it, struct sim_bucket, link));
    sim_history_drop(w);
    mem_free(&w->heap, w->events);
    w->magic = 0;
    struct mem heap;
    mem_init_heap(&heap);
    mem_free(&heap, w);
}

/* --- Randomness, faults, trace. */

uint64_t sim_between(struct sim_world *w, uint64_t low, uint64_t high) {
    ASSERT(low <= high);
    return low + rng_below(&w->rng, high - low + 1);
}

bool sim_chance(struct sim_world *w, double probability) {
    return probability > 0 && rng_chance(&w->rng, probability);
}

void sim_fault_count(struct sim_world *w, const struct sim_node *n, enum sim_fault f) {
    w->fault_counts[f]++;
    sim_trace(w, n, "fault", fault_table[f].name, 0, 0);
    if (n) sim_note(w, n, SIM_SUBJECT_ALL, "%s", fault_table[f].name); /* what is done to a node */
}

bool sim_fault(struct sim_world *w, enum sim_fault f) {
    if (w->faults_off || w->faults.off[f] || !sim_chance(w, w->faults.chance[f]) || !sim_fault_allowed(w, f))
        return false;
    sim_fault_count(w, NULL, f);
    return true;
}

bool sim_fault_allowed(struct sim_world *w, enum sim_fault f) {
    if (w->faults.off[f]) return false;
    uint64_t number = w->fault_number++;
    return !w->fault_veto || !w->fault_veto(w->fault_veto_ctx, number, f);
}

uint64_t sim_world_faults(const struct sim_world *w) {
    uint64_t n = 0;
    for (int i = 0; i < SIM_FAULTS; i++) n += w->fault_counts[i];
    return n;
}

uint64_t sim_world_hash(const struct sim_world *w) {
    return w->hash;
}

void sim_hash(struct sim_world *w, uint64_t v) {
    w->hash = hash64(w->hash ^ v) + 0x9e3779b97f4a7c15ull;
}

void sim_trace(struct sim_world *w, const struct sim_node *n, const char *kind, const char *text, uint64_t a,
               uint64_t b) {
    sim_hash(w, w->now_ns);
    sim_hash(w, hash_bytes(kind, strlen(kind)) + (n ? n->id + 1 : 0));
    if (text) sim_hash(w, hash_bytes(text, strlen(text)));
    sim_hash(w, a);
    sim_hash(w, b);
    if (!w->options.trace) return;
    char line[512];
    (void)snprintf(line, sizeof(line), "t=%llu.%09llu node=%s %s %s %lu %lu", w->now_ns / NS_PER_S,
                   w->now_ns % NS_PER_S, n ? n->name : "-", kind, text ? text : "-", a, b);
    w->options.trace(w->options.trace_ctx, line);
}

void sim_fail(struct sim_world *w, const char *format, ...) {
    char text[sizeof(w->failure)] = {0};
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    sim_trace(w, w->stepping, "BROKEN", text, 0, 0);
    if (!sim_failed(w)) memcpy(w->failure, text, sizeof(text));
}

/* --- Events: a binary heap by time, then by the order of scheduling. */

static bool event_before(const struct sim_event *a, const struct sim_event *b) {
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

static void event_place(struct sim_world *w, struct sim_event *e, size_t i) {
    w->events[i] = e;
    e->heap_index = (uint32_t)i;
}

static void event_up(struct sim_world *w, struct sim_event *e, size_t i) {
    while (i > 0 && event_before(e, w->events[(i - 1) / 2])) {
        event_place(w, w->events[(i - 1) / 2], i);
        i = (i - 1) / 2;
    }
    event_place(w, e, i);
}

static void event_down(struct sim_world *w, struct sim_event *e, size_t i) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->event_count) break;
        if (child + 1 < w->event_count && event_before(w->events[child + 1], w->events[child])) child++;
        if (!event_before(w->events[child], e)) break;
        event_place(w, w->events[child], i);
        i = child;
    }
    event_place(w, e, i);
}

void sim_event_init(struct sim_event *e, void (*fire)(struct sim_event *e)) {
    *e = (struct sim_event){.heap_index = UINT32_MAX, .fire = fire};
}

void sim_event_cancel(struct sim_world *w, struct sim_event *e) {
    if (e->heap_index == UINT32_MAX) return;
    size_t i = e->heap_index;
    ASSERT(i < w->event_count && w->events[i] == e);
    struct sim_event *last = w->events[--w->event_count];
    e->heap_index = UINT32_MAX;
    if (last == e) return;
    event_up(w, last, i);
    event_down(w, last, last->heap_index);
}

void sim_event_schedule(struct sim_world *w, struct sim_event *e, uint64_t at_ns) {
    sim_event_cancel(w, e);
    e->at_ns = at_ns > w->now_ns ? at_ns : w->now_ns;
    e->sequence = w->event_sequence++;
    w->events = mem_grow(&w->heap, w->events, w->event_count, &w->event_capacity, sizeof(*w->events));
    event_up(w, e, w->event_count++);
}

/* --- The scheduler. */

/* The candidates for the next step: loops with something ready, and (loop NULL) the event that is due. */
#define CANDIDATES_MAX 128u

struct candidate {
    struct sim_node *node;
    struct loop *loop;
};

static size_t candidates_collect(struct sim_world *w, struct candidate *out, uint64_t *next_ns) {
    size_t count = 0;
    *next_ns = UINT64_MAX;
    if (w->event_count > 0) {
        if (w->events[0]->at_ns <= w->now_ns) {
            out[count++] = (struct candidate){0};
        } else {
            *next_ns = w->events[0]->at_ns;
        }
    }
    LIST_EACH(it, &w->nodes) {
        struct sim_node *n = LIST_ENTRY(it, struct sim_node, link);
        if (!n->up || n->paused_until_ns > w->now_ns) continue; /* an event wakes the paused */
        uint64_t now = sim_clock_read(&n->clock, w->now_ns), first = UINT64_MAX;
        for (unsigned i = 0; i < n->loop_count; i++) {
            uint64_t due = loop_next_deadline_ns(n->loops[i]);
            if (due <= now) {
                ASSERT(count < CANDIDATES_MAX);
                out[count++] = (struct candidate){n, n->loops[i]};
            } else if (due < first) {
                first = due;
            }
        }
        /* Into the world's time once, and only where time will jump: here most of the simulator's own time is spent. */
        if (count > 0 || first == UINT64_MAX) continue;
        first = sim_clock_when(&n->clock, first);
        if (first < *next_ns) *next_ns = first;
    }
    return count;
}

static void step_loop(struct sim_world *w, struct candidate c, uint64_t choice) {
    w->stepping = c.node;
    loop_set_current(c.loop);
    bool stepped = loop_step_one(c.loop, sim_node_now_ns(c.node), choice);
    loop_set_current(NULL);
    w->stepping = NULL;
    ASSERT(stepped);
    sim_hash(w, ((uint64_t)c.node->id << 32) | c.loop->index);
    sim_node_after_step(c.node);
}

/* Lets one thing happen. Every step takes up to two microseconds, so that the answers of disks and store come in
 * between. */
static bool world_step(struct sim_world *w) {
    struct candidate all[CANDIDATES_MAX];
    uint64_t next_ns;
    size_t count = candidates_collect(w, all, &next_ns);
    if (count == 0) {
        if (next_ns == UINT64_MAX) return false;
        w->now_ns = next_ns;
        return true;
    }
    uint64_t r = rng_next(&w->rng);
    struct candidate c = all[count == 1 ? 0 : (r >> 32) % count];
    w->steps++;
    if (c.loop) {
        step_loop(w, c, r & 0xffff);
        w->now_ns += (r >> 16) & 0x7ff;
    } else {
        struct sim_event *e = w->events[0];
        sim_event_cancel(w, e);
        sim_hash(w, e->at_ns);
        e->fire(e);
    }
    return true;
}

void sim_world_heal(struct sim_world *w) {
    w->faults_off = true; /* storms and full disks look at it */
    sim_net_heal(w);
    LIST_EACH(it, &w->nodes) sim_node_heal(LIST_ENTRY(it, struct sim_node, link));
}

enum sim_end sim_world_run(struct sim_world *w, uint64_t steps_max, bool (*done)(void *arg), void *arg) {
    CHECK_OBJ(w, SIM_WORLD_MAGIC);
    ASSERT(w->stepping == NULL);
    uint64_t limit = w->steps + steps_max;
    for (;;) {
        if (sim_failed(w)) return SIM_END_FAILED;
        if (done && done(arg)) return SIM_END_DONE;
        if (w->steps >= limit) return SIM_END_STEPS;
        if (!world_step(w)) return SIM_END_IDLE;
    }
}
