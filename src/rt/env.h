/* The environment: all contact with the world, as a table of functions per instance. Implementations: rt/linux (files
 * by io_uring, or by threads; sockets by epoll) and sim/. "Suspends" below means: call in a fiber; other fibers run
 * meanwhile.
 *
 * An environment has loops (threads, or logical ones in the simulator). Loop 0 is the one that env-specific start-up
 * code runs; more are started with env_loop_start. */
#ifndef OXBOW_RT_ENV_H
#define OXBOW_RT_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/mutant.h"
#include "base/slice.h"
#include "rt/loop.h"

struct env_file;
struct env_listener;
struct env_conn;

enum env_file_flags {
    ENV_FILE_CREATE = 1, /* make it if it is not there */
    ENV_FILE_DIRECT = 2, /* O_DIRECT: positions, sizes and memory in multiples of ENV_FILE_ALIGN */
    ENV_FILE_DSYNC = 4,  /* a write that returned OK is durable */
    ENV_FILE_READ_ONLY = 8,
    ENV_FILE_LOCK = 16, /* exclusive between processes (flock; O_EXCL on a block device): ERR_LOCKED if held. Lasts
                           until the close or the end of the process, whatever its manner */
};
#define ENV_FILE_ALIGN 4096u

struct env_file_info {
    uint64_t size_bytes; /* a block device's capacity */
    bool block_device;
    bool directory;
};

struct env_bytes { /* one piece of a gathered write or read */
    void *data;
    size_t size;
};

/* What a socket tells its owner, on the loop it belongs to, outside any fiber. */
struct env_conn_events {
    /* Room for received bytes: return a buffer and its size (> 0); called only when bytes have arrived. Size 0 pauses
     * receiving until env_conn_resume. */
    struct env_bytes (*room)(void *ctx);
    /* `size` bytes were put into the buffer that room() gave. */
    void (*received)(void *ctx, size_t size);
    /* What env_conn_send queued has shrunk to `queued_bytes`. */
    void (*sent)(void *ctx, size_t queued_bytes);
    /* The peer closed or the connection broke. Last call; the owner calls env_conn_close. */
    void (*closed)(void *ctx, enum err why);
};

struct env_address {
    char host[64]; /* numeric */
    uint16_t port;
};

struct env_ops {
    uint64_t (*now_ns)(struct env *e);                  /* monotonic; callable from any thread */
    int64_t (*wall_ms)(struct env *e);                  /* Unix time; any thread; never used for safety */
    void (*random)(struct env *e, void *out, size_t n); /* any thread; unpredictable outside the simulator */

    enum err (*loop_start)(struct env *e, const char *name, struct loop **out);
    void (*loop_wake)(struct loop *l); /* any thread: its inbox is no longer empty, or stopping was set */

    /* Runs fn(arg) on a worker thread; suspends until it has returned. For calls that block. */
    void (*offload)(struct env *e, fiber_fn *fn, void *arg);

    /* Files. All suspend. A path that ends in '/' or an empty one is ERR_INVALID. */
    enum err (*file_open)(struct env *e, const char *path, unsigned flags, struct env_file **out);
    void (*file_close)(struct env_file *f);
    enum err (*file_info)(struct env *e, const char *path, struct env_file_info *out);
    enum err (*file_size)(struct env_file *f, struct env_file_info *out);
    /* Reads until size bytes or the end; *got tells. */
    enum err (*file_read)(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got);
    /* Writes all or fails. ERR_FULL and ERR_READ_ONLY: a part may still have been written. ERR_IO: unknown. At most 16
     * pieces. */
    enum err (*file_write)(struct env_file *f, uint64_t position, const struct env_bytes *pieces, size_t count);
    /* fdatasync. After a failure the file's contents are unknown: never sync again and believe it. */
    enum err (*file_sync)(struct env_file *f);
    /* Grows (never shrinks) to size, allocating space; new bytes read as zero. */
    enum err (*file_grow)(struct env_file *f, uint64_t size_bytes);
    enum err (*file_remove)(struct env *e, const char *path);
    enum err (*dir_make)(struct env *e, const char *path); /* parents too; durable; OK when it exists */
    enum err (*dir_sync)(struct env *e, const char *path);

    /* Sockets. None of these suspends. Each belongs to the loop it was made on. */
    /* Listens on the current loop; port 0 = any, *bound tells which. With several loops listening on one port
     * (reuse_port) the kernel spreads the connections. accepted() runs on the loop, outside any fiber. host "" or
     * "0.0.0.0": all addresses; names are resolved. accepted NULL: only takes the address, which shows that it is to be
     * had; who connects is refused. */
    enum err (*listen)(struct env *e, const char *host, uint16_t port, bool reuse_port,
                       void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                       struct env_address *bound);
    void (*listener_close)(struct env_listener *l);
    /* Suspends until connected or failed. */
    enum err (*connect)(struct env *e, const char *host, uint16_t port, struct env_conn **out);
    /* Must be called right after accepted() or connect(), before returning to the loop. */
    void (*conn_start)(struct env_conn *c, const struct env_conn_events *events, void *ctx);
    void (*conn_peer)(struct env_conn *c, struct env_address *peer, struct env_address *local);
    /* Queues slices for sending and takes their references (the array itself stays the caller's); tries to send at once
     * what fits. */
    void (*conn_send)(struct env_conn *c, struct slice *slices, size_t count);
    /* What is queued and is sent from now on can wait: it goes in small pieces while there is anything that cannot, of
     * others on the loop. As it was created, a connection is not patient. */
    void (*conn_patient)(struct env_conn *c, bool patient);
    size_t (*conn_queued)(const struct env_conn *c);
    void (*conn_resume)(struct env_conn *c); /* receive again after room() gave size 0 */
    /* Frees it; no event follows. Unsent bytes are tried once more unless `abort`. */
    void (*conn_close)(struct env_conn *c, bool abort);
};

#define ENV_MAGIC 0xe9e9e9e9u

struct env {
    unsigned magic;
    const struct env_ops *ops;
    struct mem *mem;
    struct logger *log;
    struct metrics *metrics;
    enum mutant
        mutant; /* the deliberate mistake that all that runs on it makes: simulated ones alone (base/mutant.h) */
};

static inline bool env_mutant(const struct env *e, enum mutant m) {
    return mutant_is(e->mutant, m);
}

/* Short forms: each op as env_<op>(e, ...). */
static inline uint64_t env_now_ns(struct env *e) {
    return e->ops->now_ns(e);
}
static inline int64_t env_wall_ms(struct env *e) {
    return e->ops->wall_ms(e);
}
static inline void env_random(struct env *e, void *out, size_t n) {
    e->ops->random(e, out, n);
}
static inline enum err env_loop_start(struct env *e, const char *name, struct loop **out) {
    return e->ops->loop_start(e, name, out);
}
static inline void env_offload(struct env *e, fiber_fn *fn, void *arg) {
    e->ops->offload(e, fn, arg);
}
WARN_UNUSED static inline enum err env_file_open(struct env *e, const char *path, unsigned flags,
                                                 struct env_file **out) {
    return e->ops->file_open(e, path, flags, out);
}
static inline void env_file_close(struct env *e, struct env_file *f) {
    e->ops->file_close(f);
}
WARN_UNUSED static inline enum err env_file_info(struct env *e, const char *path, struct env_file_info *out) {
    return e->ops->file_info(e, path, out);
}
WARN_UNUSED static inline enum err env_file_size(struct env *e, struct env_file *f, struct env_file_info *out) {
    return e->ops->file_size(f, out);
}
WARN_UNUSED static inline enum err env_file_read(struct env *e, struct env_file *f, uint64_t position, void *data,
                                                 size_t size, size_t *got) {
    return e->ops->file_read(f, position, data, size, got);
}
WARN_UNUSED static inline enum err env_file_write(struct env *e, struct env_file *f, uint64_t position,
                                                  const struct env_bytes *pieces, size_t count) {
    return e->ops->file_write(f, position, pieces, count);
}
WARN_UNUSED static inline enum err env_file_sync(struct env *e, struct env_file *f) {
    return e->ops->file_sync(f);
}
WARN_UNUSED static inline enum err env_file_grow(struct env *e, struct env_file *f, uint64_t size_bytes) {
    return e->ops->file_grow(f, size_bytes);
}
WARN_UNUSED static inline enum err env_file_remove(struct env *e, const char *path) {
    return e->ops->file_remove(e, path);
}
WARN_UNUSED static inline enum err env_dir_make(struct env *e, const char *path) {
    return e->ops->dir_make(e, path);
}
WARN_UNUSED static inline enum err env_dir_sync(struct env *e, const char *path) {
    return e->ops->dir_sync(e, path);
}
WARN_UNUSED static inline enum err env_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                                              void (*accepted)(void *ctx, struct env_conn *c), void *ctx,
                                              struct env_listener **out, struct env_address *bound) {
    return e->ops->listen(e, host, port, reuse_port, accepted, ctx, out, bound);
}
static inline void env_listener_close(struct env *e, struct env_listener *l) {
    e->ops->listener_close(l);
}
WARN_UNUSED static inline enum err env_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out) {
    return e->ops->connect(e, host, port, out);
}
static inline void env_conn_start(struct env *e, struct env_conn *c, const struct env_conn_events *events, void *ctx) {
    e->ops->conn_start(c, events, ctx);
}
static inline void env_conn_peer(struct env *e, struct env_conn *c, struct env_address *peer,
                                 struct env_address *local) {
    e->ops->conn_peer(c, peer, local);
}
static inline void env_conn_send(struct env *e, struct env_conn *c, struct slice *slices, size_t count) {
    e->ops->conn_send(c, slices, count);
}
static inline void env_conn_patient(struct env *e, struct env_conn *c, bool patient) {
    e->ops->conn_patient(c, patient);
}
static inline size_t env_conn_queued(struct env *e, const struct env_conn *c) {
    return e->ops->conn_queued(c);
}
static inline void env_conn_resume(struct env *e, struct env_conn *c) {
    e->ops->conn_resume(c);
}
static inline void env_conn_close(struct env *e, struct env_conn *c, bool abort) {
    e->ops->conn_close(c, abort);
}
/* Waits with full jitter before attempt 1, 2, ...: a random time up to min(cap, base * 2^attempt). Suspends. */
void env_backoff(struct env *e, unsigned attempt, uint64_t base_ns, uint64_t cap_ns);

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

#endif
