/* The real environment. One per process. */
#ifndef OXBOW_RT_LINUX_LINUX_ENV_H
#define OXBOW_RT_LINUX_LINUX_ENV_H

#include "rt/env.h"

enum linux_io { LINUX_IO_AUTO, LINUX_IO_URING, LINUX_IO_EPOLL };

struct linux_env_options {
    enum linux_io io; /* AUTO: io_uring where the kernel allows it, else threads; URING fails where it is not allowed */
    enum log_level level;
    unsigned worker_threads; /* 0: 8 */
};

/* Makes the environment with loop 0 for the calling thread. *why (a literal) tells what failed. */
enum err linux_env_create(const struct linux_env_options *o, struct env **out, const char **why);
/* Which back end was chosen: "io_uring" or "epoll". */
const char *linux_env_io_name(struct env *e);
/* Runs loop 0 on the calling thread, starting with a fiber main_fn(arg), until loop_stop(loop 0). */
void linux_env_run(struct env *e, fiber_fn *main_fn, void *arg);
/* SIGINT and SIGTERM call fn(arg, count) on loop 0 outside any fiber (count = 1, 2, ...). SIGPIPE is ignored. */
void linux_env_on_terminate(struct env *e, void (*fn)(void *arg, unsigned count), void *arg);
/* Stops and joins every loop and worker, frees everything. After linux_env_run. */
void linux_env_destroy(struct env *e);
struct loop *linux_env_loop0(struct env *e);
/* While more than so many bytes are resident, what the C library has free goes back to the kernel. Once, before
 * linux_env_run. */
void linux_env_keep_within(struct env *e, uint64_t bytes);
/* Resident memory of the process in bytes (for /metrics). */
uint64_t linux_resident_bytes(void);
/* What the process may use: the machine's memory, or what its control group (or one above that) allows, if that is less.
 * 0: not known. */
uint64_t linux_memory_bytes(void);
/* Of the machine, that are in use; 0: not known. */
unsigned linux_processors(void);
/* The second half of that: the smallest limit of the control groups (version 1 or 2) that this process is in, as the
 * kernel's files tell below `root` ("": the real ones); machine_bytes, if none is smaller or there is nothing to read. */
uint64_t linux_group_bytes(const char *root, uint64_t machine_bytes);

#endif
