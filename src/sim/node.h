/* A node: one process on one machine of the simulated world, with an environment, memory, loops and clocks of its
 * own, and a disk that outlives it.
 *
 * A crash can also come between two effects of one step (sim_node_crash_in_effects): what the step asks for after that
 * moment, bytes for a socket, a write, a request, does not leave the node, and the step's end is its own.
 *
 * Life: sim_node_create (down) -> sim_node_start (up: main(arg) runs in a fiber on loop 0) -> down again, either in
 * order, when main has returned and no fiber is
 * left, or by a crash. A crash can come at any suspension. It drops loops, fibers and memory at once; none of their
 * code runs. What the node had under way
 * outside itself, writes and requests, goes its own way: it lands, tears, vanishes, or lands later. */
#ifndef OXBOW_SIM_NODE_H
#define OXBOW_SIM_NODE_H

#include "rt/fiber.h"
#include "sim/clock.h"
#include "sim/world.h"

struct sim_disk;

#define SIM_NODE_MAGIC 0x51a0002u
#define SIM_NODE_LOOPS_MAX 16u

enum sim_crash {
    SIM_KILL,      /* kill -9: the machine goes on, completed writes survive synced or not */
    SIM_POWER_CUT, /* unsynced writes may be lost, torn, reordered */
};

/* Memory of a node: every block is linked, so that a crash frees them all. */
struct sim_mem {
    struct mem base;
    struct mem *heap;
    struct sim_node *owner; /* NULL: nobody's */
    struct list blocks;
    uint64_t count;
    uint64_t peak_bytes; /* the most that was out at once; whoever looks may set it back */
};
void sim_mem_init(struct sim_mem *m, struct mem *heap);
void sim_mem_drop(struct sim_mem *m); /* frees everything */

struct sim_node {
    unsigned magic;
    struct env env;
    struct sim_world *world;
    struct list link; /* in world->nodes */
    char name[32];
    unsigned id;
    struct sim_mem mem;
    struct metrics *metrics;
    struct logger log;
    struct rng rng; /* what env_random gives */
    struct loop *loops[SIM_NODE_LOOPS_MAX];
    unsigned loop_count;
    bool up, main_returned;
    uint64_t starts;
    fiber_fn *main_fn;
    void *main_arg;
    struct sim_clock clock; /* monotonic: of different nodes, and of different starts, they have nothing in common */
    int64_t wall_skew_ms;
    int64_t wall_shown_ms;  /* the latest time of day that it was ever told */
    uint64_t clock_look_ns; /* when the clocks may be tampered with next */
    bool steady;            /* its clocks are never tampered with: the driver's */
    uint64_t paused_until_ns;
    uint64_t
        front_pause_ns; /* not 0: so long it is to stand still just before it says on a shared device whose it is */
    struct sim_event resume;
    /* Until then nothing that it sends to the store arrives, or no answer of the store does (sim_store.h). */
    uint64_t store_cut_ns, store_deaf_ns;
    uint64_t crash_in_steps, crash_in_effects; /* 0: no crash is planned */
    enum sim_crash crash_kind;
    bool crash_now;      /* in the middle of its step: nothing leaves it any more; done after the step */
    struct list ops;     /* what is under way outside */
    struct list handles; /* open files */
    struct list devices; /* attached block devices */
    struct sim_disk *disk;
};

struct sim_node *sim_node_create(struct sim_world *w, const char *name);
/* A second process on the same machine: the same disk, where the locks of one are seen by the other. */
struct sim_node *sim_node_create_beside(struct sim_node *other, const char *name);
/* The node is down. arg outlives the node's run: it belongs to the workload. */
void sim_node_start(struct sim_node *n, fiber_fn *main_fn, void *arg);
/* Crashes the node: at once, or right after the running step when that is its own. A node that is down stays so (a
 * power cut still reaches its disk). */
void sim_node_crash(struct sim_node *n, enum sim_crash kind);
/* ... after it has taken that many more steps (> 0). */
void sim_node_crash_in(struct sim_node *n, uint64_t steps, enum sim_crash kind);
/* ... in the place of its effect of that number from now (> 0; 1: the next): bytes for a socket, a write, a request. */
void sim_node_crash_in_effects(struct sim_node *n, uint64_t effects, enum sim_crash kind);
/* The machine is lost with its disks, and with all processes on it; block devices that were attached to it stay what
 * they are. The node is down then; what is started as this node from now on has an empty disk. Not in a step of its
 * own. False: the fault is not allowed. */
bool sim_node_lose_machine(struct sim_node *n);
/* Stands still, as under SIGSTOP or a long page fault: what it sent goes on, its answers wait. */
void sim_node_pause(struct sim_node *n, uint64_t ns);
/* How long a pause is: mostly seconds, sometimes minutes, longer than every time-out. */
uint64_t sim_node_pause_ns(struct sim_world *w);
bool sim_node_up(const struct sim_node *n);
struct sim_node *sim_node_of(struct env *e);
static inline struct env *sim_node_env(struct sim_node *n) {
    return &n->env;
}
/* Memory blocks that the node holds now. */
uint64_t sim_node_blocks(const struct sim_node *n);

/* One thing under way outside the node: a request to a disk or the store. It lives in the world's memory, for it
 * outlives a crash. */
struct sim_op {
    struct sim_event event;
    struct list link;      /* in node->ops while a fiber waits for it */
    struct sim_node *node; /* NULL after a crash: nobody waits any more */
    struct sim_world *world;
    struct loop *loop;
    struct fiber *fiber;
    bool done;
    /* The node crashed. The op must see to itself from here on: go on, change its mind, or free itself. */
    void (*orphaned)(struct sim_op *op, enum sim_crash kind);
};
/* For the running fiber. The owner schedules op->event and then waits. */
void sim_op_init(struct sim_op *op, struct sim_node *n, void (*fire)(struct sim_event *e),
                 void (*orphaned)(struct sim_op *op, enum sim_crash kind));
void sim_op_wait(struct sim_op *op);     /* suspends until sim_op_complete; then the op belongs to the caller */
void sim_op_complete(struct sim_op *op); /* from an event; the fiber runs later */
/* Suspends the running fiber for that long. Unlike fiber_sleep_ns it needs no timer of the loop. */
void sim_suspend(struct sim_node *n, uint64_t ns);

/* For disk.c, net.c and sim_store.c: the running step is about to do something that is seen outside. False: the node has
 * ended just before; nothing may leave it. Who would suspend for the effect does so with sim_node_halt. */
bool sim_node_effect(struct sim_node *n);
void sim_node_halt(struct sim_node *n); /* suspends the running fiber until the crash, which comes after this step */

/* For world.c. */
void sim_node_after_step(struct sim_node *n);
void sim_node_heal(struct sim_node *n);
void sim_node_destroy(struct sim_node *n);
uint64_t sim_node_now_ns(const struct sim_node *n);

#endif
