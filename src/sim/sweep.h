/* The fault sweep: of one node's operations the n-th fails, in a chosen way, or that one and all behind it, as when a
 * device has died. A test runs a small piece of work with n = 0, 1, 2, ... until a run does not get as far as n; so every
 * error return on its way has been taken once. Chance has no part in it: that is what faults (world.h) are for.
 *
 *   w->sweep = (struct sim_sweep){.node = n, .classes = SIM_SWEEP_FILES, .how = SIM_SWEEP_REFUSED, .at = 17};
 *   ... run ...
 *   if (!w->sweep.reached) the work has no operation 17
 *
 * Files, sockets and loops are met in the environment's table; a store where the test has wrapped it in
 * sim_sweep_store; memory at each allocation of the node. Only operations that can end in the chosen way are counted:
 * a full disk is no matter to who reads. */
#ifndef OXBOW_SIM_SWEEP_H
#define OXBOW_SIM_SWEEP_H

#include "rt/env.h"

struct sim_node;
struct store;

enum sim_sweep_class {
    SIM_SWEEP_FILES = 1,
    SIM_SWEEP_STORE = 2,
    SIM_SWEEP_SYSTEM = 4, /* listen, connect, loop_start */
    SIM_SWEEP_MEMORY = 8, /* an allocation can only end the process */
    SIM_SWEEP_IO = SIM_SWEEP_FILES | SIM_SWEEP_STORE | SIM_SWEEP_SYSTEM,
};

/* X(id, name, sentence) */
#define SIM_SWEEP_TABLE(X)                                                                                             \
    X(SIM_SWEEP_REFUSED, "refused", "nothing is done: EIO, or the store is not there; a sync loses what was dirty")    \
    X(SIM_SWEEP_LOST, "lost", "no answer: of a write a part is done, of a request nothing, and the time is up")        \
    X(SIM_SWEEP_DONE, "done", "it is done, and answered with an error")                                                \
    X(SIM_SWEEP_FULL, "full", "no space left for what takes space; of a write a part is done")                         \
    X(SIM_SWEEP_DENIED, "denied", "nothing is done: not permitted")                                                    \
    X(SIM_SWEEP_EXISTS, "exists", "a conditional PUT lands and is answered as if another had been first")              \
    X(SIM_SWEEP_KILL, "kill", "the process ends right before it")                                                      \
    X(SIM_SWEEP_POWER, "power", "the machine loses power right before it")

enum sim_sweep_how {
#define SIM_SWEEP_ID(id, name, sentence) id,
    SIM_SWEEP_TABLE(SIM_SWEEP_ID)
#undef SIM_SWEEP_ID
        SIM_SWEEP_HOWS
};
const char *sim_sweep_name(enum sim_sweep_how how);

struct sim_sweep {         /* in the world; all zero: none */
    struct sim_node *node; /* whose operations; NULL: nobody's */
    unsigned classes;      /* enum sim_sweep_class */
    enum sim_sweep_how how;
    uint64_t at; /* which of them, from 0 */
    bool ever;   /* and all behind it, until `node` is NULL again */
    /* What came of it. */
    uint64_t met;     /* operations so far */
    bool reached;     /* it was met */
    const char *what; /* what it was: "file_sync"; NULL before */
};

/* Takes the place of `inner`, which it closes when it is closed. In the memory of the node whose fiber this is. */
struct store *sim_sweep_store(struct store *inner);

/* For node.c: each allocation of a node, and of the environment's functions those that can fail, in front of those of
 * disk.c and net.c. A crash does not return from them. */
void sim_sweep_memory(struct sim_node *n);
enum err sim_sweep_loop_start(struct sim_node *n) WARN_UNUSED;
enum err sim_sweep_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out);
enum err sim_sweep_file_info(struct env *e, const char *path, struct env_file_info *out);
enum err sim_sweep_file_size(struct env_file *f, struct env_file_info *out);
enum err sim_sweep_file_read(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got);
enum err sim_sweep_file_write(struct env_file *f, uint64_t position, const struct env_bytes *pieces, size_t count);
enum err sim_sweep_file_sync(struct env_file *f);
enum err sim_sweep_file_grow(struct env_file *f, uint64_t size_bytes);
enum err sim_sweep_file_remove(struct env *e, const char *path);
enum err sim_sweep_dir_make(struct env *e, const char *path);
enum err sim_sweep_dir_sync(struct env *e, const char *path);
enum err sim_sweep_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                          void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                          struct env_address *bound);
enum err sim_sweep_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out);

#endif
