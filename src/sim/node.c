#include "sim/node.h"

#include <stdio.h>
#include <string.h>

#include "rt/loop_priv.h"
#include "sim/disk.h"
#include "sim/net.h"

/* --- Memory. Each block has a header in front of it, linked to all others of the node. */

#define BLOCK_MAGIC 0x51a0b10cu
#define BLOCK_HEADER 64u /* keeps the alignment of what the heap gives */
#define FILL_MAX 4096u

struct block {
    struct list link;
    size_t size, offset; /* of the caller's bytes behind the heap's address */
    unsigned magic;
};
_Static_assert(sizeof(struct block) <= BLOCK_HEADER, "the header fits in front of the block");

static struct block *block_of(void *p) {
    struct block *b = (void *)((char *)p - BLOCK_HEADER);
    CHECK_OBJ(b, BLOCK_MAGIC);
    return b;
}

/* Bytes that were not asked to be zero are the same in every run, and are not zero. */
static void *sim_mem_alloc(struct mem *base, size_t size, size_t alignment, bool zeroed) {
    struct sim_mem *m = CONTAINER_OF(base, struct sim_mem, base);
    if (m->owner) sim_sweep_memory(m->owner);
    size_t offset = alignment > BLOCK_HEADER ? alignment : BLOCK_HEADER;
    char *raw = alignment > 16 ? mem_aligned(m->heap, offset + size, alignment)
                : zeroed       ? mem_zalloc(m->heap, offset + size)
                               : mem_alloc(m->heap, offset + size);
    char *p = raw + offset;
    if (!zeroed) {
        memset(p, 0xa5, size < FILL_MAX ? size : FILL_MAX);
    } else if (alignment > 16) {
        memset(p, 0, size);
    }
    struct block *b = (void *)(p - BLOCK_HEADER);
    b->size = size;
    b->offset = offset;
    INIT_OBJ(b, BLOCK_MAGIC);
    list_push_back(&m->blocks, &b->link);
    m->count++;
    uint64_t out = atomic_load_explicit(&base->allocated_bytes, memory_order_relaxed) + size;
    atomic_store_explicit(&base->allocated_bytes, out, memory_order_relaxed);
    if (out > m->peak_bytes) m->peak_bytes = out;
    return p;
}

static void sim_mem_free(struct mem *base, void *p) {
    struct sim_mem *m = CONTAINER_OF(base, struct sim_mem, base);
    struct block *b = block_of(p);
    list_remove(&b->link);
    b->magic = 0;
    ASSERT(m->count > 0);
    m->count--;
    base->allocated_bytes -= b->size;
    mem_free(m->heap, (char *)p - b->offset);
}

/* Always moves: code that keeps the old address is found. */
static void *sim_mem_realloc(struct mem *base, void *p, size_t size) {
    void *moved = sim_mem_alloc(base, size, 16, false);
    if (!p) return moved;
    size_t before = block_of(p)->size;
    memcpy(moved, p, before < size ? before : size);
    sim_mem_free(base, p);
    return moved;
}

static const struct mem_ops sim_mem_ops = {sim_mem_alloc, sim_mem_realloc, sim_mem_free};

void sim_mem_init(struct sim_mem *m, struct mem *heap) {
    *m = (struct sim_mem){.base = {.ops = &sim_mem_ops}, .heap = heap};
    list_init(&m->blocks);
}

void sim_mem_drop(struct sim_mem *m) {
    LIST_EACH_SAFE(it, &m->blocks) {
        struct block *b = LIST_ENTRY(it, struct block, link);
        sim_mem_free(&m->base, (char *)b + BLOCK_HEADER);
    }
    ASSERT(m->count == 0 && m->base.allocated_bytes == 0);
}

/* --- Operations outside the node. */

void sim_op_init(struct sim_op *op, struct sim_node *n, void (*fire)(struct sim_event *e),
                 void (*orphaned)(struct sim_op *op, enum sim_crash kind)) {
    *op = (struct sim_op){
        .node = n, .world = n->world, .loop = loop_current(), .fiber = fiber_self(), .orphaned = orphaned};
    ASSERT(op->fiber != NULL && op->loop->env == &n->env);
    sim_event_init(&op->event, fire);
    list_push_back(&n->ops, &op->link);
}

void sim_op_wait(struct sim_op *op) {
    while (!op->done) fiber_park();
    list_remove(&op->link);
}

void sim_op_complete(struct sim_op *op) {
    ASSERT(!op->done);
    op->done = true;
    if (!op->node) return;
    struct loop *before = loop_current();
    loop_set_current(op->loop);
    fiber_unpark(op->fiber);
    loop_set_current(before);
}

static void pause_fire(struct sim_event *e) {
    sim_op_complete(CONTAINER_OF(e, struct sim_op, event));
}

static void pause_orphaned(struct sim_op *op, enum sim_crash kind) {
    (void)kind;
    sim_event_cancel(op->world, &op->event);
    mem_free(&op->world->heap, op);
}

bool sim_node_effect(struct sim_node *n) {
    if (n->crash_in_effects > 0 && --n->crash_in_effects == 0) n->crash_now = true;
    return !n->crash_now;
}

void sim_node_halt(struct sim_node *n) {
    ASSERT(n->crash_now);
    struct sim_op *op = MEM_NEW(&n->world->heap, struct sim_op);
    sim_op_init(op, n, pause_fire, pause_orphaned);
    sim_op_wait(op);
    UNREACHABLE();
}

void sim_suspend(struct sim_node *n, uint64_t ns) {
    struct sim_op *op = MEM_NEW(&n->world->heap, struct sim_op);
    sim_op_init(op, n, pause_fire, pause_orphaned);
    sim_event_schedule(n->world, &op->event, n->world->now_ns + ns);
    sim_op_wait(op);
    mem_free(&op->world->heap, op);
}

/* --- The environment's table. */

static uint64_t sim_now_ns(struct env *e) {
    return sim_node_now_ns(sim_node_of(e));
}

#define WALL_EPOCH_MS 1700000000000ll

static int64_t wall_now_ms(const struct sim_node *n) {
    return WALL_EPOCH_MS + (int64_t)(n->world->now_ns / NS_PER_MS) + n->wall_skew_ms;
}

static int64_t sim_wall_ms(struct env *e) {
    struct sim_node *n = sim_node_of(e);
    int64_t now = wall_now_ms(n);
    if (now > n->wall_shown_ms) n->wall_shown_ms = now;
    return now;
}

static void sim_random(struct env *e, void *out, size_t size) {
    rng_fill(&sim_node_of(e)->rng, out, size);
}

static struct loop *node_loop_make(struct sim_node *n, const char *name) {
    ASSERT(n->loop_count < SIM_NODE_LOOPS_MAX);
    struct loop *l = MEM_NEW(&n->mem.base, struct loop);
    loop_init(l, &n->env, name, n->loop_count);
    n->loops[n->loop_count++] = l;
    return l;
}

static enum err sim_loop_start(struct env *e, const char *name, struct loop **out) {
    struct sim_node *n = sim_node_of(e);
    enum err err = sim_sweep_loop_start(n);
    if (err == OK) *out = node_loop_make(n, name);
    return err;
}

static void sim_loop_wake(struct loop *l) {
    (void)l; /* the scheduler asks every loop before each step */
}

static void sim_offload(struct env *e, fiber_fn *fn, void *arg) {
    struct sim_node *n = sim_node_of(e);
    sim_suspend(n, sim_between(n->world, NS_PER_US, NS_PER_MS));
    fn(arg);
    sim_suspend(n, sim_between(n->world, NS_PER_US, 100 * NS_PER_US));
}

static const struct env_ops sim_env_ops = {
    .now_ns = sim_now_ns,
    .wall_ms = sim_wall_ms,
    .random = sim_random,
    .loop_start = sim_loop_start,
    .loop_wake = sim_loop_wake,
    .offload = sim_offload,
    .file_open = sim_sweep_file_open,
    .file_close = sim_file_close,
    .file_info = sim_sweep_file_info,
    .file_size = sim_sweep_file_size,
    .file_read = sim_sweep_file_read,
    .file_write = sim_sweep_file_write,
    .file_sync = sim_sweep_file_sync,
    .file_grow = sim_sweep_file_grow,
    .file_remove = sim_sweep_file_remove,
    .dir_make = sim_sweep_dir_make,
    .dir_sync = sim_sweep_dir_sync,
    .listen = sim_sweep_listen,
    .listener_close = sim_net_listener_close,
    .connect = sim_sweep_connect,
    .conn_start = sim_net_conn_start,
    .conn_peer = sim_net_conn_peer,
    .conn_send = sim_net_conn_send,
    .conn_patient = sim_net_conn_patient,
    .conn_queued = sim_net_conn_queued,
    .conn_resume = sim_net_conn_resume,
    .conn_close = sim_net_conn_close,
};

/* --- Life of a node. */

struct sim_node *sim_node_of(struct env *e) {
    CHECK_OBJ(e, ENV_MAGIC);
    ASSERT(e->ops == &sim_env_ops);
    return CONTAINER_OF(e, struct sim_node, env);
}

uint64_t sim_node_now_ns(const struct sim_node *n) {
    return sim_clock_read(&n->clock, n->world->now_ns);
}

static int64_t log_wall_ms(void *ctx) {
    struct sim_node *n = ctx;
    return wall_now_ms(n);
}

static void log_sink(void *ctx, const char *line, size_t size) {
    struct sim_node *n = ctx;
    char text[512];
    (void)snprintf(text, sizeof(text), "log %s %.*s", n->name, size ? (int)size - 1 : 0, line);
    n->world->options.trace(n->world->options.trace_ctx, text);
}

static void resume_fire(struct sim_event *e) {
    (void)e; /* the scheduler looks at paused_until_ns */
}

/* --- Clocks that are wrong. */

static int64_t wall_skew_within(struct sim_world *w, uint64_t ms) {
    return (int64_t)sim_between(w, 0, 2 * ms) - (int64_t)ms;
}

/* Seconds, minutes or hours off; or right. Never so far that two times of one day could lie a day apart. */
static int64_t wall_skew_draw(struct sim_world *w) {
    static const uint64_t within_ms[] = {0, 10000, 600000, 36000000};
    return wall_skew_within(w, within_ms[sim_between(w, 0, 3)]);
}

static uint32_t clock_rate_draw(struct sim_world *w) {
    uint64_t most = sim_chance(w, 0.2) ? SIM_CLOCK_RATE / 100 * 30 : SIM_CLOCK_RATE / 100 * 5;
    return (uint32_t)(SIM_CLOCK_RATE - most + sim_between(w, 0, 2 * most));
}

static uint64_t clock_still_draw(struct sim_world *w) {
    static const uint64_t most_s[] = {2, 15, 60, 300};
    return sim_between(w, 1, most_s[sim_between(w, 0, 3)] * 1000) * NS_PER_MS;
}

/* Between two steps, every few seconds. */
static void clocks_look(struct sim_node *n) {
    struct sim_world *w = n->world;
    n->clock_look_ns = w->now_ns + sim_between(w, 1, 20000) * NS_PER_MS;
    if (n->steady || w->faults_off) return;
    if (sim_fault(w, SIM_CLOCK_JUMP)) {
        n->wall_skew_ms = wall_skew_draw(w);
        sim_trace(w, n, "wall-clock", NULL, (uint64_t)n->wall_skew_ms, 0);
    }
    if (sim_fault(w, SIM_CLOCK_DRIFT)) {
        sim_clock_change(&n->clock, w->now_ns, clock_rate_draw(w), n->clock.still_until_ns);
        sim_trace(w, n, "clock-rate", NULL, n->clock.rate, 0);
    }
    if (sim_fault(w, SIM_CLOCK_STILL)) {
        sim_clock_change(&n->clock, w->now_ns, n->clock.rate, w->now_ns + clock_still_draw(w));
        sim_trace(w, n, "clock-still", NULL, n->clock.still_until_ns, 0);
    }
}

static struct sim_node *node_make(struct sim_world *w, struct sim_disk *disk, const char *name) {
    CHECK_OBJ(w, SIM_WORLD_MAGIC);
    struct sim_node *n = MEM_NEW(&w->heap, struct sim_node);
    INIT_OBJ(n, SIM_NODE_MAGIC);
    n->world = w;
    n->id = w->node_count++;
    (void)snprintf(n->name, sizeof(n->name), "%s", name);
    sim_mem_init(&n->mem, &w->heap);
    n->mem.owner = n;
    n->metrics = MEM_NEW(&w->heap, struct metrics);
    bool logs = w->options.trace && w->options.node_logs;
    n->log = (struct logger){logs ? LOG_DEBUG : LOG_NONE, log_wall_ms, log_sink, n};
    n->env = (struct env){.magic = ENV_MAGIC,
                          .ops = &sim_env_ops,
                          .mem = &n->mem.base,
                          .log = &n->log,
                          .metrics = n->metrics,
                          .mutant = w->options.mutant};
    sim_event_init(&n->resume, resume_fire);
    list_init(&n->ops);
    list_init(&n->handles);
    list_init(&n->devices);
    list_push_back(&w->nodes, &n->link);
    n->disk = disk;
    n->wall_skew_ms = sim_fault(w, SIM_CLOCK_SKEW) ? wall_skew_draw(w) : wall_skew_within(w, 10000);
    return n;
}

struct sim_node *sim_node_create(struct sim_world *w, const char *name) {
    return node_make(w, sim_disk_create(w), name);
}

struct sim_node *sim_node_create_beside(struct sim_node *other, const char *name) {
    return node_make(other->world, sim_disk_ref(other->disk), name);
}

static void node_main(void *arg) {
    struct sim_node *n = arg;
    n->main_fn(n->main_arg);
    n->main_returned = true;
}

void sim_node_start(struct sim_node *n, fiber_fn *main_fn, void *arg) {
    CHECK_OBJ(n, SIM_NODE_MAGIC);
    ASSERT(!n->up && n->mem.count == 0);
    n->up = true;
    n->starts++;
    n->main_returned = false;
    n->main_fn = main_fn;
    n->main_arg = arg;
    n->crash_in_steps = n->crash_in_effects = 0;
    n->crash_now = false;
    n->paused_until_ns = n->front_pause_ns = 0;
    bool drifts = !n->steady && sim_fault(n->world, SIM_CLOCK_DRIFT);
    n->clock = (struct sim_clock){.world_ns = n->world->now_ns,
                                  .shown_ns = n->world->now_ns + sim_between(n->world, NS_PER_S, 1000 * NS_PER_S),
                                  .rate = drifts ? clock_rate_draw(n->world) : SIM_CLOCK_RATE};
    n->clock_look_ns = n->world->now_ns + sim_between(n->world, 1, 20000) * NS_PER_MS;
    if (n->starts > 1) sim_fault_count(n->world, n, SIM_RESTART);
    rng_seed(&n->rng, rng_next(&n->world->rng));
    sim_trace(n->world, n, "start", NULL, n->starts, 0);
    struct loop *before = loop_current();
    struct loop *l = node_loop_make(n, "main");
    loop_set_current(l);
    fiber_spawn(l, "main", node_main, n);
    loop_set_current(before);
}

bool sim_node_up(const struct sim_node *n) {
    return n->up;
}

uint64_t sim_node_blocks(const struct sim_node *n) {
    return n->mem.count;
}

static void node_loops_drop(struct sim_node *n) {
    struct loop *before = loop_current();
    for (unsigned i = 0; i < n->loop_count; i++) loop_drop_mail(n->loops[i]);
    for (unsigned i = 0; i < n->loop_count; i++) {
        loop_set_current(n->loops[i]);
        loop_deinit(n->loops[i]);
        mem_free(&n->mem.base, n->loops[i]);
    }
    loop_set_current(before);
    n->loop_count = 0;
}

/* The other processes of a machine that loses power. */
static void node_neighbours_crash(struct sim_node *n) {
    LIST_EACH(it, &n->world->nodes) {
        struct sim_node *other = LIST_ENTRY(it, struct sim_node, link);
        if (other != n && other->disk == n->disk && other->up) sim_node_crash(other, SIM_POWER_CUT);
    }
}

void sim_node_crash(struct sim_node *n, enum sim_crash kind) {
    CHECK_OBJ(n, SIM_NODE_MAGIC);
    struct sim_world *w = n->world;
    n->crash_kind = kind;
    if (w->stepping == n) {
        n->crash_now = true;
        return;
    }
    n->crash_in_steps = n->crash_in_effects = 0;
    n->crash_now = false;
    if (n->up) {
        sim_fault_count(w, n, kind == SIM_KILL ? SIM_CRASH_KILL : SIM_CRASH_POWER);
        n->up = false;
        while (!list_empty(&n->ops)) {
            struct sim_op *op = LIST_ENTRY(list_pop_front(&n->ops), struct sim_op, link);
            op->node = NULL;
            op->fiber = NULL;
            op->loop = NULL;
            op->orphaned(op, kind);
        }
        node_loops_drop(n);
    }
    if (kind == SIM_POWER_CUT) node_neighbours_crash(n);
    sim_net_node_gone(n, kind);
    sim_disk_node_crashed(n, kind);
    *n->metrics = (struct metrics){0};
    sim_mem_drop(&n->mem);
    sim_event_cancel(w, &n->resume);
}

void sim_node_crash_in(struct sim_node *n, uint64_t steps, enum sim_crash kind) {
    ASSERT(n->up && steps > 0);
    n->crash_in_steps = steps;
    n->crash_kind = kind;
}

void sim_node_crash_in_effects(struct sim_node *n, uint64_t effects, enum sim_crash kind) {
    ASSERT(n->up && effects > 0);
    n->crash_in_effects = effects;
    n->crash_kind = kind;
}

bool sim_node_lose_machine(struct sim_node *n) {
    struct sim_world *w = n->world;
    if (!sim_fault_allowed(w, SIM_MACHINE_LOST)) return false;
    ASSERT(w->stepping == NULL || w->stepping->disk != n->disk);
    sim_fault_count(w, n, SIM_MACHINE_LOST);
    sim_node_crash(n, SIM_POWER_CUT);
    struct sim_disk *lost = n->disk, *empty = sim_disk_create(w);
    LIST_EACH(it, &w->nodes) {
        struct sim_node *other = LIST_ENTRY(it, struct sim_node, link);
        if (other->disk != lost) continue;
        other->disk = sim_disk_ref(empty);
        sim_disk_unref(lost);
    }
    sim_disk_unref(empty);
    return true;
}

uint64_t sim_node_pause_ns(struct sim_world *w) {
    if (sim_chance(w, 0.15)) return sim_between(w, 1000, 600000) * NS_PER_MS;
    return sim_between(w, 0, 30000) * NS_PER_MS;
}

void sim_node_heal(struct sim_node *n) {
    n->crash_in_steps = n->crash_in_effects = 0;
    n->paused_until_ns = n->store_cut_ns = n->store_deaf_ns = 0;
    uint64_t now = n->world->now_ns;
    if (n->up && n->clock.still_until_ns > now) sim_clock_change(&n->clock, now, n->clock.rate, 0);
}

void sim_node_pause(struct sim_node *n, uint64_t ns) {
    if (!n->up || !sim_fault_allowed(n->world, SIM_PAUSE)) return;
    sim_fault_count(n->world, n, SIM_PAUSE);
    n->paused_until_ns = n->world->now_ns + ns;
    sim_event_schedule(n->world, &n->resume, n->paused_until_ns);
}

/* main has returned, no fiber is left, and nothing will run by itself. */
static bool node_ended(const struct sim_node *n) {
    if (!n->main_returned) return false;
    bool stopping = n->loops[0]->stopping;
    for (unsigned i = 0; i < n->loop_count; i++) {
        const struct loop *l = n->loops[i];
        uint64_t due = loop_next_deadline_ns(l);
        if (l->fibers_alive > 0 || due == 0 || (due != UINT64_MAX && !stopping)) return false;
    }
    return true;
}

static void node_end(struct sim_node *n) {
    struct sim_world *w = n->world;
    sim_trace(w, n, "end", NULL, n->starts, 0);
    node_loops_drop(n);
    metrics_deinit(n->metrics, &n->mem.base);
    *n->metrics = (struct metrics){0};
    if (w->leaks_fail && n->mem.count > 0) {
        struct block *b = LIST_ENTRY(n->mem.blocks.next, struct block, link);
        sim_fail(w, "node %s: an orderly stop left %lu blocks of memory, the first of %zu bytes", n->name, n->mem.count,
                 b->size);
    }
    if (w->leaks_fail && !list_empty(&n->handles)) sim_fail(w, "node %s: an orderly stop left a file open", n->name);
    if (w->leaks_fail && sim_net_held(n) > 0) sim_fail(w, "node %s: an orderly stop left a socket open", n->name);
    n->up = false;
    sim_net_node_gone(n, SIM_KILL);
    sim_disk_node_crashed(n, SIM_KILL);
    sim_mem_drop(&n->mem);
    sim_event_cancel(w, &n->resume);
}

void sim_node_after_step(struct sim_node *n) {
    if (n->crash_now || (n->crash_in_steps > 0 && --n->crash_in_steps == 0)) {
        sim_node_crash(n, n->crash_kind);
    } else if (node_ended(n)) {
        node_end(n);
    } else if (n->world->now_ns >= n->clock_look_ns) {
        clocks_look(n);
    }
}

void sim_node_destroy(struct sim_node *n) {
    CHECK_OBJ(n, SIM_NODE_MAGIC);
    ASSERT(!n->up && n->mem.count == 0);
    struct mem *heap = &n->world->heap;
    list_remove(&n->link);
    sim_disk_node_destroyed(n);
    sim_disk_unref(n->disk);
    n->magic = 0;
    mem_free(heap, n->metrics);
    mem_free(heap, n);
}
