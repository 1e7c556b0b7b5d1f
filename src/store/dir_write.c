/* The folder store's writes: put, conditional create, compose, delete. See dir.c for the rules.
 *
 * The order of a create: temporary file, bytes, fsync of the file, (folders, each durable in its parent), link, fsync
 * of the folder. Nothing is visible before the link, so every failure up to there means that nothing was done. Files
 * over a megabyte have their blocks allocated first, so that a full disk is met before the bytes are written; and they
 * go round the page cache where the file system allows it: what is uploaded is in the log cache anyway, and new pages
 * for it would cost more than all the rest of the write. Where it is not allowed they are handed to the disk while they
 * are being written, so that the fsync at the end has little left to wait for.
 *
 * What is composed is a create whose file is filled by the kernel, from other files: where the file system can share
 * blocks between files (btrfs, XFS) nothing is copied that lies at whole blocks in both. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "store/dir_priv.h"

#define ALLOCATE_FROM_BYTES (1u << 20)
#define WRITE_BEHIND_BYTES (8u << 20)
#define DIRECT_ALIGN ((size_t)4096) /* of its memory, position and size; large enough for every disk */
#define PIECES_MAX 256u
/* A large object has time (what acknowledges is smaller), and written as fast as the disk takes it, it lets a
 * write-ahead log on the same disk wait: so a lone one pauses 4 ms behind each direct write, which makes some 120 MB/s.
 * Two at a time show that there is none. What nobody waits for at all (merging) pauses always, a little. */
#define PACED_FROM_BYTES (16u << 20)
#define LARGE_PAGE_FROM_BYTES (8u << 20)
#define PAUSE_NS (4 * NS_PER_MS)

struct put_job {
    struct dir_store *store;
    const char *key;
    const struct slice *data;
    size_t count;
    const struct store_piece *pieces; /* instead of data, or NULL */
    size_t piece_count;
    bool create_only;
    bool background; /* nobody waits for it */
    enum err result;
    /* While it runs: */
    int fd, folder_fd;
    char temporary[32]; /* name in tmp/; "": nameless */
};

static const char *base_name(const char *key) {
    const char *slash = strrchr(key, '/');
    return slash ? slash + 1 : key;
}

/* Links a nameless file; the kernel's own way without a name (AT_EMPTY_PATH) wants a capability. */
static int link_nameless(int fd, int folder_fd, const char *name) {
    char path[40];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, path, folder_fd, name, AT_SYMLINK_FOLLOW);
}

bool dir_nameless_works(struct dir_store *d) {
    int fd = openat(d->tmp_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    bool works = link_nameless(fd, d->tmp_fd, "probe") == 0;
    if (works) (void)unlinkat(d->tmp_fd, "probe", 0);
    close(fd);
    return works;
}

/* A plain put replaces by rename, which needs a name. */
static enum err temporary_open(struct put_job *j) {
    struct dir_store *d = j->store;
    if (d->nameless && j->create_only) {
        j->fd = openat(d->tmp_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    } else {
        (void)snprintf(j->temporary, sizeof(j->temporary), "%" PRIu64, atomic_fetch_add(&d->temporary, 1));
        j->fd = openat(d->tmp_fd, j->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (j->fd < 0) j->temporary[0] = '\0';
    }
    if (j->fd >= 0) return OK;
    /* tmp/ was deleted, or a file of an older name lies there: either passes when somebody looks after it. */
    return errno == ENOENT || errno == EEXIST ? ERR_UNAVAILABLE : dir_err(errno);
}

/* A place in the data: the piece to go on with, and how much of it has been passed. */
struct cursor {
    size_t at, skip;
};

static void cursor_pass(const struct put_job *j, struct cursor *c, size_t n) {
    while (n > 0) {
        size_t here = j->data[c->at].size - c->skip;
        size_t step = n < here ? n : here;
        c->skip += step;
        n -= step;
        if (c->skip == j->data[c->at].size) {
            c->at++;
            c->skip = 0;
        }
    }
}

static void cursor_copy(const struct put_job *j, struct cursor c, uint8_t *to, size_t n) {
    while (n > 0) {
        size_t here = j->data[c.at].size - c.skip;
        size_t step = n < here ? n : here;
        if (step > 0) memcpy(to, j->data[c.at].data + c.skip, step);
        to += step;
        n -= step;
        c.at++;
        c.skip = 0;
    }
}

void dir_pause(uint64_t ns) {
    struct timespec pause = {.tv_nsec = (long)ns};
    (void)nanosleep(&pause, NULL);
}

static void pause_between(const struct put_job *j) {
    if (j->background) {
        dir_pause(BACKGROUND_PAUSE_NS);
    } else if (atomic_load_explicit(&j->store->large_puts, memory_order_relaxed) < 2) {
        dir_pause(PAUSE_NS);
    }
}

/* Writes whole multiples of DIRECT_ALIGN past the page cache, as far as that goes: what is left, perhaps everything, is
 * for the page cache. Returns what was written. */
static uint64_t write_direct(struct put_job *j, uint64_t size, struct cursor *c) {
    int flags = fcntl(j->fd, F_GETFL);
    if (flags < 0 || fcntl(j->fd, F_SETFL, flags | O_DIRECT) != 0) return 0;
    struct mem *m = j->store->base.env->mem;
    /* What many writes go through lies on a large page: the kernel takes hold of one page for each, not of 128. */
    size_t room = size >= LARGE_PAGE_FROM_BYTES ? MEM_LARGE_PAGE : DIRECT_BYTES;
    uint8_t *buffer = mem_pages(m, room);
    uint64_t written = 0;
    bool large = size >= PACED_FROM_BYTES && !j->background;
    if (large) atomic_fetch_add_explicit(&j->store->large_puts, 1, memory_order_relaxed);
    while (size - written >= DIRECT_ALIGN) {
        uint64_t left = (size - written) & ~(uint64_t)(DIRECT_ALIGN - 1);
        size_t part = left < DIRECT_BYTES ? (size_t)left : DIRECT_BYTES;
        cursor_copy(j, *c, buffer, part);
        ssize_t n = pwrite(j->fd, buffer, part, (off_t)written);
        if (n < 0 && errno == EINTR) continue;
        /* Refused, or the disk is full: the page cache's write goes on from here, or tells. */
        if (n <= 0) break;
        cursor_pass(j, c, (size_t)n);
        written += (uint64_t)n;
        if ((size_t)n % DIRECT_ALIGN != 0) break;
        if (large || j->background) pause_between(j);
    }
    if (large) atomic_fetch_sub_explicit(&j->store->large_puts, 1, memory_order_relaxed);
    mem_pages_free(m, buffer, room);
    (void)fcntl(j->fd, F_SETFL, flags);
    return written;
}

static enum err temporary_write(struct put_job *j) {
    uint64_t size = 0, written = 0, handed = 0;
    struct cursor c = {0, 0};
    for (size_t i = 0; i < j->count; i++) size += j->data[i].size;
    if (size >= ALLOCATE_FROM_BYTES) {
        if (fallocate(j->fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR) {
            return dir_err(errno);
        }
        written = handed = write_direct(j, size, &c);
    }
    while (written < size) {
        struct iovec pieces[PIECES_MAX];
        int count = 0;
        size_t bytes = 0;
        for (size_t i = c.at; i < j->count && count < (int)PIECES_MAX && bytes < WRITE_BEHIND_BYTES; i++) {
            size_t from = i == c.at ? c.skip : 0, n = j->data[i].size - from;
            if (n == 0) continue;
            if (n > WRITE_BEHIND_BYTES) n = WRITE_BEHIND_BYTES;
            pieces[count++] = (struct iovec){(void *)(uintptr_t)(j->data[i].data + from), n};
            bytes += n;
            if (from + n < j->data[i].size) break;
        }
        ssize_t n = pwritev(j->fd, pieces, count, (off_t)written);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n == 0 ? ERR_UNAVAILABLE : dir_err(errno);
        written += (uint64_t)n;
        cursor_pass(j, &c, (size_t)n);
        if (written < size && written - handed >= WRITE_BEHIND_BYTES) {
            /* Only starts the writing; errors are the fsync's to report. */
            (void)sync_file_range(j->fd, (off_t)handed, (off_t)(written - handed), SYNC_FILE_RANGE_WRITE);
            handed = written;
        }
    }
    return OK;
}

/* ---- Compose. */

static enum err memory_append(int fd, const struct store_piece *p, uint64_t at) {
    for (size_t i = 0; i < p->count; i++) {
        for (size_t done = 0; done < p->data[i].size;) {
            ssize_t n = pwrite(fd, p->data[i].data + done, p->data[i].size - done, (off_t)at);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return n == 0 ? ERR_UNAVAILABLE : dir_err(errno);
            done += (size_t)n;
            at += (uint64_t)n;
        }
    }
    return OK;
}

/* By hand, where the kernel does not copy between these files. */
static ssize_t copy_by_hand(int from_fd, off_t from, int to_fd, off_t to, size_t size, uint8_t *buffer) {
    ssize_t n = pread(from_fd, buffer, size, from);
    for (ssize_t done = 0; done < n;) {
        ssize_t w = pwrite(to_fd, buffer + done, (size_t)(n - done), to + done);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return -1;
        done += w;
    }
    return n;
}

/* Copies [from, from + size) of one file to `to` in the other. */
static enum err range_copy(const struct put_job *j, int from_fd, uint64_t from, uint64_t to, uint64_t size) {
    struct mem *m = j->store->base.env->mem;
    uint64_t done = 0;
    if (from % DIRECT_ALIGN == 0 && to % DIRECT_ALIGN == 0 && size >= DIRECT_ALIGN) {
        struct file_clone_range r = {from_fd, from, size & ~(uint64_t)(DIRECT_ALIGN - 1), to};
        if (ioctl(j->fd, FICLONERANGE, &r) == 0) done = r.src_length;
    }
    uint8_t *buffer = NULL;
    enum err e = OK;
    while (done < size && e == OK) {
        size_t part = size - done < DIRECT_BYTES ? (size_t)(size - done) : DIRECT_BYTES;
        loff_t in = (loff_t)(from + done), out = (loff_t)(to + done);
        ssize_t n = buffer ? copy_by_hand(from_fd, in, j->fd, out, part, buffer)
                           : copy_file_range(from_fd, &in, j->fd, &out, part, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && !buffer && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
            buffer = mem_alloc(m, DIRECT_BYTES);
            continue;
        }
        if (n <= 0) {
            e = n == 0 ? dir_short(from_fd) : dir_err(errno);
            break;
        }
        /* Only starts the writing; errors are the fsync's to report. */
        (void)sync_file_range(j->fd, (off_t)(to + done), n, SYNC_FILE_RANGE_WRITE);
        done += (uint64_t)n;
        if (j->background && done < size) dir_pause(BACKGROUND_PAUSE_NS);
    }
    mem_free(m, buffer);
    return e;
}

static enum err source_append(const struct put_job *j, const struct store_piece *p, uint64_t at) {
    struct dir_store *d = j->store;
    int fd = openat(d->objects_fd, p->key, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        enum err e = errno == ELOOP ? ERR_NOT_FOUND : dir_err(errno);
        return e == ERR_NOT_FOUND ? dir_check_not_found(d) : e;
    }
    struct stat st;
    enum err e = OK;
    if (fstat(fd, &st) != 0) {
        e = dir_err(errno);
    } else if (!S_ISREG(st.st_mode) || st.st_nlink == 0) {
        e = ERR_NOT_FOUND;
    } else if (p->position + p->size > (uint64_t)st.st_size) {
        e = ERR_TRUNCATED;
    }
    if (e == OK) e = range_copy(j, fd, p->position, at, p->size);
    close(fd);
    return e;
}

static enum err pieces_write(const struct put_job *j) {
    uint64_t at = 0;
    enum err e = OK;
    for (size_t i = 0; i < j->piece_count && e == OK; i++) {
        const struct store_piece *p = &j->pieces[i];
        e = p->key ? source_append(j, p, at) : memory_append(j->fd, p, at);
        at += p->size;
    }
    return e;
}

/* Makes the folders above a key, each durable in its parent. */
static enum err folders_make(struct dir_store *d, const char *key) {
    enum err e = OK;
    int parent_fd = d->objects_fd;
    pthread_mutex_lock(&d->making);
    for (const char *part = key, *slash; (slash = strchr(part, '/')) != NULL; part = slash + 1) {
        char name[512];
        size_t size = (size_t)(slash - part);
        ASSERT(size > 0 && size < sizeof(name)); /* a valid key's */
        memcpy(name, part, size);
        name[size] = '\0';
        if (mkdirat(parent_fd, name, 0755) == 0) {
            e = dir_fsync(d, parent_fd);
            if (e == ERR_UNKNOWN_OUTCOME) e = ERR_UNAVAILABLE; /* of the object nothing was done */
        } else if (errno != EEXIST) {
            e = dir_err(errno);
        }
        int fd = e == OK ? openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (e == OK && fd < 0)
            e = errno == ENOTDIR || errno == ELOOP ? ERR_UNSUPPORTED
                                                   : dir_err(errno); /* an object's name as a folder's */
        if (parent_fd != d->objects_fd) close(parent_fd);
        parent_fd = fd;
        if (e != OK) break;
    }
    if (parent_fd >= 0 && parent_fd != d->objects_fd) close(parent_fd);
    pthread_mutex_unlock(&d->making);
    return e;
}

static enum err folder_open(struct dir_store *d, const char *key, int *fd) {
    char path[1024];
    size_t size = (size_t)(base_name(key) - key);
    ASSERT(size + 2 < sizeof(path));
    memcpy(path, key, size);
    memcpy(path + size, ".", 2);
    *fd = openat(d->objects_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd >= 0) return OK;
    return errno == ENOTDIR ? ERR_UNSUPPORTED : dir_err(errno);
}

/* Gives the finished file its name. Only ERR_UNKNOWN_OUTCOME and ERR_IO leave open whether it has it. */
static enum err name_give(struct put_job *j) {
    struct dir_store *d = j->store;
    const char *name = base_name(j->key);
    int result;
    if (!j->create_only) {
        result = renameat(d->tmp_fd, j->temporary, j->folder_fd, name);
        if (result == 0) j->temporary[0] = '\0';
    } else if (j->temporary[0]) {
        result = linkat(d->tmp_fd, j->temporary, j->folder_fd, name, 0);
    } else {
        result = link_nameless(j->fd, j->folder_fd, name);
    }
    if (result == 0) return OK;
    if (errno == EIO) return ERR_IO;
    if (errno == EISDIR) return ERR_UNSUPPORTED;
    if (errno != EEXIST) return dir_err(errno);
    struct stat st;
    bool object = fstatat(j->folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || S_ISREG(st.st_mode);
    return object ? ERR_EXISTS : ERR_UNSUPPORTED;
}

static enum err put_in_order(struct put_job *j) {
    struct dir_store *d = j->store;
    if (d->broken) return ERR_UNAVAILABLE;
    enum err e = dir_check(d);
    if (e == OK) e = temporary_open(j);
    if (e == OK) e = j->pieces ? pieces_write(j) : temporary_write(j);
    /* Of a compose it is one of the others that is not there. */
    if (e != OK) return e == ERR_NOT_FOUND && !j->pieces ? ERR_UNAVAILABLE : e;
    /* Asked once; at failure the file goes, and was never visible. */
    if (fsync(j->fd) != 0) return dir_err(errno) == ERR_FULL ? ERR_FULL : ERR_UNAVAILABLE;
    e = folder_open(d, j->key, &j->folder_fd);
    if (e == ERR_NOT_FOUND) {
        e = folders_make(d, j->key);
        if (e == OK) e = folder_open(d, j->key, &j->folder_fd);
    }
    if (e == OK) e = dir_check(d);
    if (e == OK && d->broken) e = ERR_UNAVAILABLE;
    if (e == OK) e = name_give(j);
    if (e == ERR_NOT_FOUND) return ERR_UNAVAILABLE; /* the folder went away */
    if (e != OK && e != ERR_EXISTS) return e;
    /* Also for an object found there: it may be from an attempt whose fsync is not over, and the answer says that it is
     * there to stay. */
    enum err synced = dir_fsync(d, j->folder_fd);
    if (synced != OK) return synced;
    /* Another thread may be making a folder above durable right now: wait for it. */
    pthread_mutex_lock(&d->making);
    pthread_mutex_unlock(&d->making);
    return d->broken ? ERR_UNKNOWN_OUTCOME : e;
}

static void put_run(void *arg) {
    struct put_job *j = arg;
    j->result = put_in_order(j);
    fd_drop(&j->fd);
    fd_drop(&j->folder_fd);
    if (j->temporary[0]) (void)unlinkat(j->store->tmp_fd, j->temporary, 0);
}

enum err dir_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                 enum store_purpose purpose) {
    struct put_job j = {.store = (struct dir_store *)(void *)s,
                        .key = key,
                        .data = data,
                        .count = count,
                        .create_only = create_only,
                        .background = purpose == STORE_FOR_COMPACTION};
    CHECK_OBJ(j.store, DIR_STORE_MAGIC);
    j.fd = j.folder_fd = -1;
    s->env->ops->offload(s->env, put_run, &j);
    return j.result;
}

enum err dir_compose(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                     enum store_purpose purpose) {
    struct put_job j = {.store = (struct dir_store *)(void *)s,
                        .key = key,
                        .pieces = pieces,
                        .piece_count = count,
                        .create_only = true,
                        .background = purpose == STORE_FOR_COMPACTION};
    CHECK_OBJ(j.store, DIR_STORE_MAGIC);
    j.fd = j.folder_fd = -1;
    s->env->ops->offload(s->env, put_run, &j);
    return j.result;
}

/* --- Delete */

struct delete_job {
    struct dir_store *store;
    const char *const *keys;
    size_t count;
    enum err *each;
    enum err result;
};

static bool same_folder(const char *a, const char *b) {
    size_t n = (size_t)(base_name(a) - a);
    return n == (size_t)(base_name(b) - b) && memcmp(a, b, n) == 0;
}

/* Makes it durable that these are gone. */
static enum err delete_end(struct dir_store *d, int folder_fd, bool changed, struct dir_deleted **large) {
    enum err e = changed ? dir_fsync(d, folder_fd) : OK;
    if (e == OK) {
        dir_free(d, large);
    } else {
        dir_deleted_forget(d, large);
    }
    return e;
}

/* Goes through all keys whatever happens to one. The folder stays open, and is fsynced once, while keys of the same folder
 * follow each other. */
static enum err delete_in_order(struct delete_job *j) {
    struct dir_store *d = j->store;
    struct dir_deleted *large = NULL;
    if (d->broken) return ERR_UNAVAILABLE;
    enum err result = dir_check(d);
    if (result != OK) return result;
    int folder_fd = -1;
    bool changed = false;
    enum err opened = OK; /* of the folder */
    for (size_t i = 0; i < j->count; i++) {
        const char *key = j->keys[i];
        if (i == 0 || !same_folder(key, j->keys[i - 1])) {
            if (delete_end(d, folder_fd, changed, &large) != OK) result = ERR_UNKNOWN_OUTCOME;
            changed = false;
            fd_drop(&folder_fd);
            opened = folder_open(d, key, &folder_fd);
        }
        enum err e = opened;
        if (folder_fd >= 0) {
            if (dir_deleted_move(d, folder_fd, base_name(key), &large) || unlinkat(folder_fd, base_name(key), 0) == 0) {
                changed = true;
            } else if (errno != EISDIR) {
                e = errno == EIO ? ERR_IO : dir_err(errno);
            }
        }
        if (e != ERR_NOT_FOUND && e != ERR_UNSUPPORTED) j->each[i] = e;
    }
    if (delete_end(d, folder_fd, changed, &large) != OK) result = ERR_UNKNOWN_OUTCOME;
    fd_drop(&folder_fd);
    return result == OK ? dir_check(d) : result;
}

static void delete_run(void *arg) {
    struct delete_job *j = arg;
    j->result = delete_in_order(j);
    dir_free_start(j->store);
}

enum err dir_delete(struct store *s, const char *const *keys, size_t count, enum err *each) {
    struct delete_job j = {(struct dir_store *)(void *)s, keys, count, each, OK};
    CHECK_OBJ(j.store, DIR_STORE_MAGIC);
    s->env->ops->offload(s->env, delete_run, &j);
    return j.result;
}
