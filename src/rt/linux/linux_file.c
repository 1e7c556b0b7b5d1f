/* Files: what is the same with and without io_uring. Reads, writes, syncs and closes are split into io_ops here and
 * continued where the kernel did a part; what has no good asynchronous form (open, stat, fallocate, directories) runs
 * as a small job on a worker. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"

#define ENV_FILE_MAGIC 0xf17ef17eu
#define PIECES_MAX 16u
#define IO_BYTES_MAX ((size_t)1 << 30) /* one operation; the kernel's limit is 2 GiB less a page */
#define LOCK_ATTEMPTS 25               /* half a second in all */
#define LOCK_WAIT_NS (20 * NS_PER_MS)

struct env_file {
    unsigned magic;
    unsigned flags;
    int fd;
    bool block_device;
    struct linux_env *env;
    struct list node; /* in env->open_files */
};

static bool path_valid(const char *path) {
    return path && path[0] != '\0' && path[strlen(path) - 1] != '/';
}

static enum err file_err(int errno_value) {
    switch (errno_value) {
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
    case EFBIG:
        return ERR_INVALID;
    default:
        return err_from_errno(errno_value);
    }
}

/* A job for a worker: everything that any of them needs. */
struct file_job {
    struct linux_env *env;
    const char *path;
    unsigned flags;
    int fd;
    bool direct_refused;
    uint64_t size_bytes;
    struct env_file_info *info;
    struct stat stat;
    enum err err;
};

/* --- Open. */

static int open_flags(unsigned flags, bool block_device) {
    int o = O_CLOEXEC | ((flags & ENV_FILE_READ_ONLY) ? O_RDONLY : O_RDWR);
    if (flags & ENV_FILE_DIRECT) o |= O_DIRECT;
    if (flags & ENV_FILE_DSYNC) o |= O_DSYNC;
    /* O_EXCL on a block device claims it: mounts and other claims are refused. On a file, with O_CREAT, it would mean
     * something else. */
    if (block_device && (flags & ENV_FILE_LOCK)) o |= O_EXCL;
    if (!block_device && (flags & ENV_FILE_CREATE)) o |= O_CREAT;
    return o;
}

/* A process that was killed while io_uring operations were under way lets go of its locks only when those have ended, a
 * moment after it is gone. So the lock also proves that nothing of the former holder's is still to come. */
static enum err lock_file(int fd) {
    for (int attempt = 0; attempt < LOCK_ATTEMPTS; attempt++) {
        if (attempt > 0) nanosleep(&(struct timespec){0, (long)LOCK_WAIT_NS}, NULL);
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return OK;
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) return file_err(errno);
    }
    return ERR_LOCKED;
}

static void open_job(void *arg) {
    struct file_job *j = arg;
    struct stat st;
    bool there = stat(j->path, &st) == 0;
    if (there && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        j->err = ERR_INVALID;
        return;
    }
    bool block = there && S_ISBLK(st.st_mode);
    int fd, attempt = 0;
    do {
        if (attempt > 0) nanosleep(&(struct timespec){0, (long)LOCK_WAIT_NS}, NULL);
        fd = open(j->path, open_flags(j->flags, block), 0640);
        if (fd < 0 && errno == EINVAL && (j->flags & ENV_FILE_DIRECT)) {
            /* Some file systems have no direct I/O. What is durable when does not depend on it. */
            fd = open(j->path, open_flags(j->flags & ~(unsigned)ENV_FILE_DIRECT, block), 0640);
            j->direct_refused = fd >= 0;
        }
    } while (fd < 0 && errno == EBUSY && block && ++attempt < LOCK_ATTEMPTS);
    if (fd < 0) {
        j->err = errno == EBUSY && (j->flags & ENV_FILE_LOCK) ? ERR_LOCKED : file_err(errno);
        return;
    }
    /* Look again: the path may have changed between the two. */
    if (fstat(fd, &j->stat) != 0) {
        j->err = file_err(errno);
    } else if (!S_ISREG(j->stat.st_mode) && !S_ISBLK(j->stat.st_mode)) {
        j->err = ERR_INVALID;
    } else if (j->flags & ENV_FILE_LOCK) {
        j->err = lock_file(fd);
    }
    if (j->err) {
        close(fd);
        return;
    }
    j->fd = fd;
}

enum err linux_file_open(struct env *env, const char *path, unsigned flags, struct env_file **out) {
    struct linux_env *e = linux_env_of(env);
    *out = NULL;
    if (!path_valid(path)) return ERR_INVALID;
    struct file_job j = {.env = e, .path = path, .flags = flags, .fd = -1};
    worker_pool_run(&e->offload, open_job, &j);
    if (j.err) return j.err;
    if (j.direct_refused) {
        char quoted[256];
        log_warn(env->log, "no direct i/o on this file system, using the page cache", "path=%s",
                 log_quote(quoted, sizeof(quoted), path, strlen(path)));
        flags &= ~(unsigned)ENV_FILE_DIRECT;
    }
    struct env_file *f = MEM_NEW(&e->mem, struct env_file);
    INIT_OBJ(f, ENV_FILE_MAGIC);
    f->env = e;
    f->fd = j.fd;
    f->flags = flags;
    f->block_device = S_ISBLK(j.stat.st_mode);
    pthread_mutex_lock(&e->lock);
    list_push_back(&e->open_files, &f->node);
    pthread_mutex_unlock(&e->lock);
    *out = f;
    return OK;
}

void linux_file_close(struct env_file *f) {
    CHECK_OBJ(f, ENV_FILE_MAGIC);
    struct linux_env *e = f->env;
    struct io_op op = {.kind = IO_CLOSE, .fd = f->fd};
    pthread_mutex_lock(&e->lock);
    list_remove(&f->node);
    pthread_mutex_unlock(&e->lock);
    f->magic = 0;
    mem_free(&e->mem, f);
    linux_io(e, &op);
}

void linux_files_drop(struct linux_env *e) {
    for (struct list *n; (n = list_pop_front(&e->open_files)) != NULL;) {
        struct env_file *f = LIST_ENTRY(n, struct env_file, node);
        close(f->fd);
        mem_free(&e->mem, f);
    }
}

/* --- What and how large. */

static void info_fill(struct file_job *j, int fd) {
    struct env_file_info *i = j->info;
    *i = (struct env_file_info){.size_bytes = (uint64_t)j->stat.st_size,
                                .block_device = S_ISBLK(j->stat.st_mode),
                                .directory = S_ISDIR(j->stat.st_mode)};
    if (i->block_device && ioctl(fd, BLKGETSIZE64, &i->size_bytes) != 0) j->err = file_err(errno);
}

static void info_job(void *arg) {
    struct file_job *j = arg;
    int fd = -1;
    if (stat(j->path, &j->stat) != 0 || (S_ISBLK(j->stat.st_mode) && (fd = open(j->path, O_RDONLY | O_CLOEXEC)) < 0)) {
        j->err = file_err(errno);
        return;
    }
    info_fill(j, fd);
    if (fd >= 0) close(fd);
}

static void size_job(void *arg) {
    struct file_job *j = arg;
    if (fstat(j->fd, &j->stat) != 0) {
        j->err = file_err(errno);
        return;
    }
    info_fill(j, j->fd);
}

enum err linux_file_info(struct env *env, const char *path, struct env_file_info *out) {
    struct linux_env *e = linux_env_of(env);
    *out = (struct env_file_info){0};
    if (!path_valid(path)) return ERR_INVALID;
    struct file_job j = {.env = e, .path = path, .info = out};
    worker_pool_run(&e->offload, info_job, &j);
    return j.err;
}

enum err linux_file_size(struct env_file *f, struct env_file_info *out) {
    CHECK_OBJ(f, ENV_FILE_MAGIC);
    *out = (struct env_file_info){0};
    struct file_job j = {.env = f->env, .fd = f->fd, .info = out};
    worker_pool_run(&f->env->offload, size_job, &j);
    return j.err;
}

/* --- Reads and writes. */

static bool aligned(const struct env_file *f, uint64_t v) {
    return !(f->flags & ENV_FILE_DIRECT) || v % ENV_FILE_ALIGN == 0;
}

static bool interrupted(int64_t result) {
    return result == -EINTR || result == -EAGAIN;
}

enum err linux_file_read(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got) {
    CHECK_OBJ(f, ENV_FILE_MAGIC);
    ASSERT(aligned(f, position) && aligned(f, size) && aligned(f, (uintptr_t)data));
    *got = 0;
    while (*got < size) {
        size_t left = size - *got < IO_BYTES_MAX ? size - *got : IO_BYTES_MAX;
        struct iovec piece = {(uint8_t *)data + *got, left};
        struct io_op op = {.kind = IO_READ, .fd = f->fd, .position = position + *got, .pieces = &piece, .count = 1};
        linux_io(f->env, &op);
        if (interrupted(op.result)) continue;
        if (op.result < 0) return file_err((int)-op.result);
        ASSERT((uint64_t)op.result <= left);
        *got += (size_t)op.result;
        /* With direct I/O an odd length is the end of the file, and one could not go on from there. */
        if (op.result == 0 || !aligned(f, (uint64_t)op.result)) break;
    }
    return OK;
}

/* Drops the first n bytes of *pieces; returns how many pieces are left. */
static unsigned pieces_advance(struct iovec **pieces, unsigned count, size_t n) {
    while (count > 0 && n >= (*pieces)->iov_len) {
        n -= (*pieces)->iov_len;
        (*pieces)++;
        count--;
    }
    if (count > 0) {
        (*pieces)->iov_base = (uint8_t *)(*pieces)->iov_base + n;
        (*pieces)->iov_len -= n;
    } else {
        ASSERT(n == 0);
    }
    return count;
}

static enum err write_err(int errno_value, bool part_written) {
    enum err err = file_err(errno_value);
    /* What says "nothing was done" is no longer true after a part, but for the two that allow it. */
    if (part_written && err != ERR_FULL && err != ERR_READ_ONLY) return ERR_IO;
    return err;
}

enum err linux_file_write(struct env_file *f, uint64_t position, const struct env_bytes *pieces, size_t count) {
    CHECK_OBJ(f, ENV_FILE_MAGIC);
    ASSERT(count <= PIECES_MAX && aligned(f, position));
    if (f->flags & ENV_FILE_READ_ONLY) return ERR_READ_ONLY;
    struct iovec all[PIECES_MAX], *left = all;
    for (size_t i = 0; i < count; i++) {
        ASSERT(aligned(f, pieces[i].size) && aligned(f, (uintptr_t)pieces[i].data) && pieces[i].size <= IO_BYTES_MAX);
        all[i] = (struct iovec){pieces[i].data, pieces[i].size};
    }
    unsigned left_count = pieces_advance(&left, (unsigned)count, 0);
    bool part_written = false;
    while (left_count > 0) {
        struct io_op op = {.kind = IO_WRITE, .fd = f->fd, .position = position, .pieces = left, .count = left_count};
        linux_io(f->env, &op);
        if (interrupted(op.result)) continue;
        if (op.result < 0) return write_err((int)-op.result, part_written);
        if (op.result == 0) {
            /* Only the end of a block device answers so. */
            return f->block_device ? ERR_FULL : ERR_IO;
        }
        part_written = true;
        position += (uint64_t)op.result;
        left_count = pieces_advance(&left, left_count, (size_t)op.result);
        /* The rest could not be written where it belongs. */
        if (left_count > 0 && !aligned(f, (uint64_t)op.result)) return ERR_IO;
    }
    return OK;
}

enum err linux_file_sync(struct env_file *f) {
    CHECK_OBJ(f, ENV_FILE_MAGIC);
    struct io_op op = {.kind = IO_SYNC, .fd = f->fd};
    do {
        linux_io(f->env, &op);
    } while (interrupted(op.result));
    /* Whatever the reason: what was written since the last good sync may be lost. That is never "nothing was done". */
    return op.result < 0 ? ERR_IO : OK;
}

/* --- Growing. */

static enum err write_zeros(int fd, uint64_t from, uint64_t to, bool direct) {
    static const _Alignas(ENV_FILE_ALIGN) uint8_t zeros[64 * 1024];
    /* Direct writes begin and end at multiples: the last block of an odd size is left as it is, it holds data. */
    if (direct && (from % ENV_FILE_ALIGN != 0 || to % ENV_FILE_ALIGN != 0)) return ERR_INVALID;
    while (from < to) {
        size_t n = to - from < sizeof(zeros) ? (size_t)(to - from) : sizeof(zeros);
        ssize_t done = pwrite(fd, zeros, n, (off_t)from);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return file_err(errno);
        if (done == 0) return ERR_IO;
        from += (uint64_t)done;
    }
    return OK;
}

static void grow_job(void *arg) {
    struct file_job *j = arg;
    struct env_file_info now;
    j->info = &now;
    size_job(j);
    if (j->err) return;
    if (now.block_device) {
        j->err = j->size_bytes > now.size_bytes ? ERR_FULL : OK;
        return;
    }
    if (j->size_bytes <= now.size_bytes) return;
    int rc;
    do {
        rc = fallocate(j->fd, 0, 0, (off_t)j->size_bytes);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0) return;
    j->err = errno == EOPNOTSUPP ? write_zeros(j->fd, now.size_bytes, j->size_bytes, (j->flags & ENV_FILE_DIRECT) != 0)
                                 : file_err(errno);
}

enum err linux_file_grow(struct env_file *f, uint64_t size_bytes) {
    CHECK_OBJ(f, ENV_FILE_MAGIC);
    if (f->flags & ENV_FILE_READ_ONLY) return ERR_READ_ONLY;
    if (size_bytes > INT64_MAX) return ERR_INVALID;
    struct file_job j = {.env = f->env, .fd = f->fd, .flags = f->flags, .size_bytes = size_bytes};
    worker_pool_run(&f->env->offload, grow_job, &j);
    return j.err;
}

/* --- Names and directories. */

static void remove_job(void *arg) {
    struct file_job *j = arg;
    if (unlink(j->path) != 0) j->err = file_err(errno);
}

enum err linux_file_remove(struct env *env, const char *path) {
    struct linux_env *e = linux_env_of(env);
    if (!path_valid(path)) return ERR_INVALID;
    struct file_job j = {.env = e, .path = path};
    worker_pool_run(&e->offload, remove_job, &j);
    return j.err;
}

static enum err sync_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return file_err(errno);
    enum err err = OK;
    if (fsync(fd) != 0) err = ERR_IO;
    close(fd);
    return err;
}

static void dir_sync_job(void *arg) {
    struct file_job *j = arg;
    j->err = sync_dir(j->path);
}

enum err linux_dir_sync(struct env *env, const char *path) {
    struct linux_env *e = linux_env_of(env);
    if (!path_valid(path)) return ERR_INVALID;
    struct file_job j = {.env = e, .path = path};
    worker_pool_run(&e->offload, dir_sync_job, &j);
    return j.err;
}

/* The directory that holds path[0..n): writes it into `out` and returns its length. */
static size_t parent_of(const char *path, size_t n, char *out) {
    while (n > 0 && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    if (n == 0) {
        memcpy(out, ".", 2);
        return 1;
    }
    memcpy(out, path, n);
    out[n] = '\0';
    return n;
}

/* Makes one directory, durably. ERR_EXISTS if something else has the name. */
static enum err make_one(const char *path, const char *parent, bool last) {
    if (mkdir(path, 0750) == 0) return sync_dir(parent);
    if (errno != EEXIST) {
        /* Without the right to write above, what is there already will do. */
        struct stat st;
        int why = errno;
        return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? OK : file_err(why);
    }
    struct stat st;
    if (stat(path, &st) != 0) return file_err(errno);
    if (!S_ISDIR(st.st_mode)) return last ? ERR_EXISTS : ERR_NOT_FOUND;
    /* Who made it may have ended before it was durable. Where we may not look, somebody else is in charge of it. */
    enum err e = last ? sync_dir(parent) : OK;
    return e == ERR_PERMISSION ? OK : e;
}

static void dir_make_job(void *arg) {
    struct file_job *j = arg;
    size_t n = strlen(j->path);
    char *path = mem_strdup(&j->env->mem, j->path), *parent = mem_alloc(&j->env->mem, n + 2);
    for (size_t i = 1; i <= n && !j->err; i++) {
        if ((i < n && path[i] != '/') || path[i - 1] == '/') continue;
        path[i] = '\0';
        parent_of(path, i, parent);
        j->err = make_one(path, parent, i == n);
        if (i < n) path[i] = '/';
    }
    mem_free(&j->env->mem, parent);
    mem_free(&j->env->mem, path);
}

enum err linux_dir_make(struct env *env, const char *path) {
    struct linux_env *e = linux_env_of(env);
    if (!path_valid(path)) return ERR_INVALID;
    struct file_job j = {.env = e, .path = path};
    worker_pool_run(&e->offload, dir_make_job, &j);
    return j.err;
}
