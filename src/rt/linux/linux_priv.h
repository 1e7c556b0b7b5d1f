/* The insides of the real environment, shared by the files of this folder.
 *
 * A loop waits in epoll for sockets, for its eventfd (mail from other threads), for the signals (loop 0) and for its
 * io_uring. Everything that epoll knows is a poll_source. Files are plain descriptors: any loop may use any file. What
 * blocks runs on worker threads. */
#ifndef OXBOW_RT_LINUX_LINUX_PRIV_H
#define OXBOW_RT_LINUX_LINUX_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "rt/env.h"
#include "rt/linux/linux_env.h"
#include "rt/loop.h"

#ifndef HAVE_LIBURING
#define HAVE_LIBURING 0
#endif

struct linux_env;
struct linux_loop;

/* --- Loops (linux_loop.c). */

/* Something that epoll watches; epoll's event carries its address. */
struct poll_source {
    void (*ready)(struct poll_source *s, uint32_t events); /* on the loop, outside any fiber */
};

/* A poll_source that was closed while events for it may lie in the batch being handled; freed before the next wait. */
struct grave {
    struct list node;
    void (*bury)(struct grave *g);
};

struct linux_loop {
    struct loop loop;
    struct linux_env *env;
    char name[16];
    int epoll_fd;
    int wake_fd; /* eventfd, edge-triggered: never read */
    struct poll_source wake;
    _Atomic bool sleeping; /* about to wait, or waiting: who posts mail must write to wake_fd */
    bool no_epoll_pwait2;
    uint64_t polled_ns; /* when epoll was asked last */
    bool threaded;
    pthread_t thread;
    struct uring *uring; /* NULL: files by threads */
    struct list conns;
    /* Connections whose sockets have room for what is queued: each its turn, patient ones (env.h) after the others. */
    struct list senders, patient_senders;
    uint64_t attended_ns;  /* when something was sent that is not patient */
    uint64_t patient_ns;   /* when patient ones have time again */
    uint64_t busy_from_ns; /* others than these have been busy since */
    size_t turn_sent;      /* bytes sent in this turn of the loop */
    struct list listeners;
    struct list graves;
};

/* Makes a loop without running it. */
enum err linux_loop_create(struct linux_env *e, const char *name, unsigned index, struct linux_loop **out,
                           const char **why) WARN_UNUSED;
/* The loop must not run any more; no mail is left in any loop (loop_drop_mail). */
void linux_loop_destroy(struct linux_loop *l);
/* On the calling thread, until loop_stop; then waits for file operations that are under way. */
void linux_loop_run(struct linux_loop *l);
void linux_loop_wake(struct loop *l);
/* The loop of the running fiber or callback. */
struct linux_loop *linux_loop_current(void);
void poll_add(struct linux_loop *l, int fd, uint32_t events, struct poll_source *s);
void poll_change(struct linux_loop *l, int fd, uint32_t events, struct poll_source *s);
void poll_remove(struct linux_loop *l, int fd);
void grave_dig(struct linux_loop *l, struct grave *g, void (*bury)(struct grave *g));

/* --- Worker threads (linux_worker.c): started when first needed, asleep when there is nothing to do. */

struct worker_task {
    struct worker_task *next;
    fiber_fn *fn;
    void *arg;
    struct loop *loop;
    struct fiber *waiter;
    struct mail mail;
};

struct worker_pool {
    const char *name;
    struct mem *mem;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct worker_task *first, **last;
    unsigned queued, idle, count, count_max;
    bool stopping;
    pthread_t *threads;
};

void worker_pool_init(struct worker_pool *p, struct mem *m, const char *name, unsigned threads_max);
/* Runs fn(arg) on a worker; suspends the calling fiber until it has returned. */
void worker_pool_run(struct worker_pool *p, fiber_fn *fn, void *arg);
/* Finishes what is queued and joins the threads. */
void worker_pool_deinit(struct worker_pool *p);
/* Starts a thread with every signal blocked: signals are read by loop 0. Returns an errno value. */
int thread_start(pthread_t *out, const char *name, void *(*main_fn)(void *), void *arg);

/* --- Memory on large pages (linux_pages.c). */

#define PAGES_KEPT_MAX 128u

struct linux_pages {
    pthread_mutex_t lock;
    struct pages_range {
        char *p;
        size_t size;
    } kept[PAGES_KEPT_MAX]; /* by address; no two are neighbours */
    unsigned count;
    uint64_t bytes, most_bytes; /* of what is kept */
};
void pages_init(struct linux_pages *k);
void pages_deinit(struct linux_pages *k);
/* Gives all that is kept back to the kernel. Any thread. */
void pages_give_back(struct linux_pages *k);

/* As in struct mem. NULL: the system has none left. */
void *linux_pages_map(struct mem *m, size_t size);
void linux_pages_unmap(struct mem *m, void *p, size_t size);

/* --- Files (linux_file.c, linux_file_uring.c, linux_file_thread.c). */

enum io_kind { IO_READ, IO_WRITE, IO_SYNC, IO_CLOSE };

/* One system call's worth of work on a file. */
struct io_op {
    enum io_kind kind;
    int fd;
    uint64_t position;
    const struct iovec *pieces; /* IO_READ, IO_WRITE */
    unsigned count;
    int64_t result; /* bytes or 0; negative: an errno value */
    struct fiber *waiter;
};

/* Through the current loop's ring if it has one, else on a worker. Suspends. */
void linux_io(struct linux_env *e, struct io_op *op);
/* The plain system call. Any thread. */
void io_op_execute(void *op);

/* Returns NULL where the kernel does not allow it (or lacks what we need). */
struct uring *uring_create(struct linux_loop *l);
void uring_destroy(struct uring *u);
void uring_run(struct uring *u, struct io_op *op); /* suspends */
/* Submits what was queued, in one system call, and wakes the fibers whose operations are complete. Returns true if
 * there is more to do at once. */
bool uring_turn(struct uring *u);
/* Waits until nothing is under way; wakes nobody. */
void uring_drain(struct uring *u);
#define URING_WHY_NOT "io_uring is not available (not in this build, not in this kernel, or forbidden)"

enum err linux_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out);
void linux_file_close(struct env_file *f);
enum err linux_file_info(struct env *e, const char *path, struct env_file_info *out);
enum err linux_file_size(struct env_file *f, struct env_file_info *out);
enum err linux_file_read(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got);
enum err linux_file_write(struct env_file *f, uint64_t position, const struct env_bytes *pieces, size_t count);
enum err linux_file_sync(struct env_file *f);
enum err linux_file_grow(struct env_file *f, uint64_t size_bytes);
enum err linux_file_remove(struct env *e, const char *path);
enum err linux_dir_make(struct env *e, const char *path);
enum err linux_dir_sync(struct env *e, const char *path);
/* Closes what was never closed. No loop runs any more. */
void linux_files_drop(struct linux_env *e);

/* --- Sockets (linux_socket.c, linux_listen.c). */

struct sockaddr_storage;

void linux_conn_start(struct env_conn *c, const struct env_conn_events *events, void *ctx);
void linux_conn_peer(struct env_conn *c, struct env_address *peer, struct env_address *local);
void linux_conn_send(struct env_conn *c, struct slice *slices, size_t count);
void linux_conn_patient(struct env_conn *c, bool patient);
size_t linux_conn_queued(const struct env_conn *c);
void linux_conn_resume(struct env_conn *c);
void linux_conn_close(struct env_conn *c, bool abort);
/* Takes the descriptor of a stream socket (not blocking). */
struct env_conn *conn_create(struct linux_loop *l, int fd);
/* Waits until the connect that was begun has ended; returns an errno value. Suspends. */
int conn_await_connected(struct env_conn *c);
bool conn_started_or_closed(const struct env_conn *c);
/* Of a loop that runs no more: closes and frees. */
void conns_drop(struct linux_loop *l);
/* Once in each turn of the loop: those that can send do, one after the other, within the turn's bytes. */
void conns_send(struct linux_loop *l);
/* When the next of them has its turn; UINT64_MAX: not before an event. */
uint64_t conns_next_ns(const struct linux_loop *l);

enum err linux_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                      void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                      struct env_address *bound);
void linux_listener_close(struct env_listener *l);
void listeners_drop(struct linux_loop *l);
enum err linux_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out);
/* Numeric host and port; IPv4 in IPv6's clothes is shown as IPv4. */
void address_format(const struct sockaddr_storage *from, struct env_address *out);

/* --- The environment (linux_env.c). */

#define LINUX_LOOPS_MAX 256

/* --- Free memory that goes back to the kernel (linux_trim.c). */

struct linux_trim {
    uint64_t most_bytes; /* set before there are other threads; 0: nothing is looked at */
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool wanted, started, stopping;
    pthread_t thread;
};
void trim_init(struct linux_env *e);
void trim_deinit(struct linux_env *e);

struct linux_env {
    struct env env; /* first: struct env * is cast to this */
    struct mem mem;
    struct logger logger;
    struct metrics metrics;
    bool use_uring;
    struct worker_pool offload; /* what blocks for long: opens, directory syncs, names, the callers' own */
    struct worker_pool files;   /* reads, writes and syncs where there is no io_uring: never behind the former */
    pthread_mutex_t lock;       /* of loops and open_files */
    struct linux_loop *loops[LINUX_LOOPS_MAX];
    unsigned loop_count;
    struct list open_files;
    /* Signals, on loop 0. */
    struct poll_source signals;
    int signal_fd; /* -1: not asked for */
    void (*terminate)(void *arg, unsigned count);
    void *terminate_arg;
    unsigned terminate_count;
    struct linux_trim trim;
    struct linux_pages pages;
};

static inline struct linux_env *linux_env_of(struct env *e) {
    CHECK_OBJ(e, ENV_MAGIC);
    return (struct linux_env *)(void *)e;
}
uint64_t linux_now_ns(struct env *e);

#endif
