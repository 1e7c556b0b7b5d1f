/* File operations through io_uring, one ring for each loop. Operations queue up while fibers run and are submitted
 * together, once per turn of the loop and always before it sleeps. Completions are read from shared memory; while the
 * loop sleeps, the ring's descriptor in the epoll set wakes it. An operation lies on the stack of the fiber that waits
 * for it. */
#include "rt/linux/linux_priv.h"

#if HAVE_LIBURING

#include <errno.h>
#include <liburing.h>
#include <sys/epoll.h>

#include "base/assert.h"
#include "rt/fiber_priv.h"

#define RING_ENTRIES 256u
#define IN_FLIGHT_MAX (2 * RING_ENTRIES) /* the kernel's default for completions */

struct uring {
    struct io_uring ring;
    struct poll_source source;
    struct linux_loop *loop;
    unsigned queued;    /* not submitted yet */
    unsigned in_flight; /* submitted, not complete */
    struct waitq full;  /* fibers that wait for a place: completions never outgrow their ring */
};

static void uring_ready(struct poll_source *s, uint32_t events) {
    (void)s; /* uring_turn follows every wait */
    (void)events;
}

static bool uring_has_what_we_need(struct io_uring *ring) {
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (!probe) return false;
    bool all = (ring->features & IORING_FEAT_NODROP) && io_uring_opcode_supported(probe, IORING_OP_READV) &&
               io_uring_opcode_supported(probe, IORING_OP_WRITEV) &&
               io_uring_opcode_supported(probe, IORING_OP_FSYNC) && io_uring_opcode_supported(probe, IORING_OP_CLOSE);
    io_uring_free_probe(probe);
    return all;
}

struct uring *uring_create(struct linux_loop *l) {
    struct uring *u = MEM_NEW(&l->env->mem, struct uring);
    int rc = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);
    if (rc == 0 && !uring_has_what_we_need(&u->ring)) {
        io_uring_queue_exit(&u->ring);
        rc = -ENOSYS;
    }
    if (rc != 0) {
        mem_free(&l->env->mem, u);
        return NULL;
    }
    u->loop = l;
    waitq_init(&u->full);
    u->source.ready = uring_ready;
    poll_add(l, u->ring.ring_fd, EPOLLIN, &u->source);
    return u;
}

void uring_destroy(struct uring *u) {
    ASSERT(u->in_flight == 0);
    io_uring_queue_exit(&u->ring);
    mem_free(&u->loop->env->mem, u);
}

static void uring_submit(struct uring *u) {
    while (u->queued > 0) {
        int n = io_uring_submit(&u->ring);
        if (n == -EINTR) continue;
        if (n == -EAGAIN || n == -EBUSY || n == 0)
            return; /* short of memory, or completions to be read first: next turn */
        ASSERT(n > 0 && (unsigned)n <= u->queued);
        u->queued -= (unsigned)n;
        u->in_flight += (unsigned)n;
    }
}

/* Returns the number of completions; their fibers become ready if `wake`. */
static unsigned uring_reap(struct uring *u, bool wake) {
    unsigned seen = 0, head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&u->ring, head, cqe) {
        struct io_op *op = io_uring_cqe_get_data(cqe);
        op->result = cqe->res;
        if (wake) {
            fiber_resume(op->waiter);
            waitq_wake_one(&u->full);
        }
        seen++;
    }
    io_uring_cq_advance(&u->ring, seen);
    ASSERT(seen <= u->in_flight);
    u->in_flight -= seen;
    return seen;
}

bool uring_turn(struct uring *u) {
    uring_submit(u);
    unsigned seen = u->in_flight > 0 ? uring_reap(u, true) : 0;
    return seen > 0 || u->queued > 0;
}

void uring_drain(struct uring *u) {
    while (u->queued + u->in_flight > 0) {
        uring_submit(u);
        struct io_uring_cqe *cqe;
        int rc = u->in_flight > 0 ? io_uring_wait_cqe(&u->ring, &cqe) : 0;
        ASSERT(rc == 0 || rc == -EINTR || rc == -EAGAIN);
        uring_reap(u, false);
    }
}

void uring_run(struct uring *u, struct io_op *op) {
    struct io_uring_sqe *sqe;
    while (u->queued + u->in_flight >= IN_FLIGHT_MAX) waitq_wait(&u->full);
    while (!(sqe = io_uring_get_sqe(&u->ring))) {
        uring_submit(u);
        if (u->queued > 0) fiber_yield();
    }
    op->waiter = fiber_self();
    ASSERT(op->waiter);
    switch (op->kind) {
    case IO_READ:
        io_uring_prep_readv(sqe, op->fd, op->pieces, op->count, op->position);
        break;
    case IO_WRITE:
        io_uring_prep_writev(sqe, op->fd, op->pieces, op->count, op->position);
        break;
    case IO_SYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_CLOSE:
        io_uring_prep_close(sqe, op->fd);
        break;
    }
    io_uring_sqe_set_data(sqe, op);
    u->queued++;
    fiber_suspend();
}

#else

#include "base/assert.h"

struct uring *uring_create(struct linux_loop *l) {
    (void)l;
    return NULL;
}
void uring_destroy(struct uring *u) {
    (void)u;
    UNREACHABLE();
}
void uring_run(struct uring *u, struct io_op *op) {
    (void)u;
    (void)op;
    UNREACHABLE();
}
bool uring_turn(struct uring *u) {
    (void)u;
    UNREACHABLE();
}
void uring_drain(struct uring *u) {
    (void)u;
    UNREACHABLE();
}

#endif
