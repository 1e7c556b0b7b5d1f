/* File operations as plain system calls: on worker threads, where io_uring is not to be had. */
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"

static int64_t io_op_call(const struct io_op *op) {
    switch (op->kind) {
    case IO_READ:
        return preadv(op->fd, op->pieces, (int)op->count, (off_t)op->position);
    case IO_WRITE:
        return pwritev(op->fd, op->pieces, (int)op->count, (off_t)op->position);
    case IO_SYNC:
        return fdatasync(op->fd);
    case IO_CLOSE:
        return close(op->fd);
    }
    UNREACHABLE();
}

void io_op_execute(void *arg) {
    struct io_op *op = arg;
    int64_t n = io_op_call(op);
    op->result = n >= 0 ? n : -errno;
}

void linux_io(struct linux_env *e, struct io_op *op) {
    struct linux_loop *l = linux_loop_current();
    if (l->uring) {
        uring_run(l->uring, op);
    } else {
        worker_pool_run(&e->files, io_op_execute, op);
    }
}
