/* The object store in a local folder.
 *
 *   <dir>/oxbow-store   marker, "oxbow-store 1\n": what is not empty and has none, or a higher number, is refused
 *   <dir>/LOCK          flock: one process at a time; the lock goes with the process, however it ends
 *   <dir>/objects/...   one file an object; the key is its path
 *   <dir>/tmp/          deleted objects that are being freed, and, where the file system cannot make nameless ones,
 *                       unfinished files; emptied from open on
 *
 * An object appears whole or not at all, for its file is finished and durable before it gets its name. Being durable
 * itself takes the name in the folder, and the folder's name in its parent, and so on up to objects/: each is fsynced
 * before the answer. What a process finds at open may have been named by an earlier one that died before that fsync; so
 * open fsyncs every folder once before anything found is believed.
 *
 * fsync is asked once. After a failure the kernel may have dropped the bytes and answer the next call with success, so
 * a file that could not be made durable is thrown away (it has no name: nothing was done), and a folder that could not
 * be made durable closes the store for writing until the process begins anew (the object may or may not be there after
 * a power cut: ERR_UNKNOWN_OUTCOME).
 *
 * The folder may be taken away or replaced under a running process: every call compares the root, objects/ and LOCK
 * with what was locked, and answers ERR_UNAVAILABLE until they are back. Otherwise missing files would read as holes in
 * logs. */
#include "store/dir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/format.h"
#include "store/dir_priv.h"

#define MARKER "oxbow-store"
#define MARKER_NEW "oxbow-store.new"
#define DIRECT_FROM_BYTES                                                                                              \
    ((size_t)128 << 10)  /* so much is read past the page cache: the block cache keeps what is wanted again */
#define READS_AT_ONCE 4u /* a disk is busy with these, and workers are left for what writes */
/* In pieces of this size, a multiple of the alignment: what other files need of the disk, the write-ahead log above all,
 * waits behind some hundred kilobytes, not behind megabytes; and the disk is as quick. */
#define DIRECT_PIECE ((size_t)256 << 10)
#define DIRECT_ALIGN ((size_t)4096) /* of position, size and memory of such a read */

enum err dir_err(int errno_value) {
    switch (errno_value) {
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EINVAL:
    case ENAMETOOLONG:
        return ERR_INVALID;
    case EIO:
    case ESTALE:
        return ERR_UNAVAILABLE;
    default: {
        enum err e = err_from_errno(errno_value);
        return err_class(e) == ERR_CLASS_UNKNOWN ? ERR_UNAVAILABLE : e;
    }
    }
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

enum err dir_check(struct dir_store *d) {
    struct stat root, objects, lock;
    bool here = stat(d->path, &root) == 0 && same_file(&root, &d->root) &&
                fstatat(d->root_fd, "objects", &objects, AT_SYMLINK_NOFOLLOW) == 0 &&
                same_file(&objects, &d->objects) && fstatat(d->root_fd, "LOCK", &lock, AT_SYMLINK_NOFOLLOW) == 0 &&
                same_file(&lock, &d->lock);
    bool missed = atomic_exchange(&d->missing, !here);
    if (!here && !missed)
        log_error(d->base.env->log, "store folder is gone or was replaced: put it back", "path=%s", d->path);
    if (here && missed) log_info(d->base.env->log, "store folder is back", "path=%s", d->path);
    return here ? OK : ERR_UNAVAILABLE;
}

enum err dir_check_not_found(struct dir_store *d) {
    return dir_check(d) == OK ? ERR_NOT_FOUND : ERR_UNAVAILABLE;
}

enum err dir_fsync(struct dir_store *d, int fd) {
    if (fsync(fd) == 0) return OK;
    int error = errno;
    if (!atomic_exchange(&d->broken, true)) {
        log_error(d->base.env->log, "fsync of a store folder failed: nothing more is written until a restart",
                  "path=%s reason=\"%s\"", d->path, strerrordesc_np(error));
    }
    return ERR_UNKNOWN_OUTCOME;
}

/* --- GET */

struct get_job {
    struct dir_store *store;
    const char *key;
    uint64_t position;
    size_t size;
    bool background; /* nobody waits for it: see dir_pause */
    struct slice *out;
    enum err result;
};

/* Reads data[0 .. size) from `position`, or less at the end of the file; *done grows. */
static enum err read_fully(int fd, uint8_t *data, size_t size, uint64_t position, bool background, size_t *done) {
    while (*done < size) {
        size_t piece = size - *done < DIRECT_PIECE ? size - *done : DIRECT_PIECE;
        ssize_t n = pread(fd, data + *done, piece, (off_t)(position + *done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EIO ? ERR_IO : errno == EINVAL ? ERR_UNSUPPORTED : dir_err(errno);
        if (n == 0) return OK;
        *done += (size_t)n;
        /* A direct read that ends between two blocks was the file's last. */
        if ((size_t)n % DIRECT_ALIGN != 0 && size % DIRECT_ALIGN == 0) return OK;
        if (background && *done < size) dir_pause(BACKGROUND_PAUSE_NS);
    }
    return OK;
}

/* A large part of an object, ERR_TRUNCATED if it is not there as a whole: past the page cache where the file system can do that. */
static enum err get_large(int fd, uint64_t position, size_t size, bool background, struct slice *out, struct mem *m) {
    uint64_t from = position & ~(uint64_t)(DIRECT_ALIGN - 1);
    size_t lead = (size_t)(position - from), whole = (lead + size + DIRECT_ALIGN - 1) & ~(DIRECT_ALIGN - 1), done = 0;
    /* Aligned by hand: the allocator reuses memory that it aligned itself badly. */
    struct slab *slab = slab_create(m, whole + DIRECT_ALIGN, 16);
    size_t shift = (size_t)(-(uintptr_t)slab->data & (DIRECT_ALIGN - 1));
    uint8_t *data = slab->data + shift;
    int flags = fcntl(fd, F_GETFL);
    enum err e = ERR_UNSUPPORTED;
    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
        e = read_fully(fd, data, whole, from, background, &done);
        (void)fcntl(fd, F_SETFL, flags);
    }
    if (e == ERR_UNSUPPORTED || (e == OK && done < lead + size))
        e = read_fully(fd, data, lead + size, from, background, &done);
    if (e == OK && done < lead + size) e = ERR_TRUNCATED;
    if (e == OK) *out = slice_of(slab, shift + lead, size);
    slab_unref(slab);
    return e;
}

static enum err get_small(int fd, uint64_t position, size_t size, struct slice *out, struct mem *m) {
    struct slab *slab = slab_create(m, size, 16);
    size_t done = 0;
    enum err e = read_fully(fd, slab->data, size, position, false, &done);
    if (e == OK && done < size) e = ERR_TRUNCATED;
    if (e == OK) *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return e;
}

static enum err get_open(struct dir_store *d, const char *key, uint64_t position, size_t size, bool background,
                         struct slice *out) {
    enum err e = dir_check(d);
    if (e != OK) return e;
    int fd = openat(d->objects_fd, key, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        e = errno == ELOOP ? ERR_NOT_FOUND : dir_err(errno);
        return e == ERR_NOT_FOUND ? dir_check_not_found(d) : e;
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        e = dir_err(errno);
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_nlink == 0) { /* the latter was deleted just now, and is being freed */
        e = ERR_NOT_FOUND;
        goto out;
    }
    uint64_t length = (uint64_t)st.st_size;
    if (position >= length) goto out;
    if (size > length - position) size = (size_t)(length - position);
    if (size == 0) goto out;
    e = size >= DIRECT_FROM_BYTES ? get_large(fd, position, size, background, out, d->base.env->mem)
                                  : get_small(fd, position, size, out, d->base.env->mem);
    if (e == ERR_TRUNCATED && dir_short(fd) == ERR_NOT_FOUND) e = ERR_NOT_FOUND;
    if (e == ERR_TRUNCATED) e = ERR_IO;
out:
    close(fd);
    return e;
}

static void get_run(void *arg) {
    struct get_job *j = arg;
    j->result = get_open(j->store, j->key, j->position, j->size, j->background, j->out);
}

static enum err dir_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                        struct slice *out) {
    bool background = purpose == STORE_FOR_COMPACTION;
    struct get_job j = {(struct dir_store *)(void *)s, key, position, size, background, out, OK};
    CHECK_OBJ(j.store, DIR_STORE_MAGIC);
    s->env->ops->offload(s->env, get_run, &j);
    return j.result;
}

/* --- Open and close */

struct open_job {
    struct dir_store *store;
    enum err result;
    const char *why;
};

static enum err refuse(struct open_job *j, enum err e, const char *why) {
    j->why = why;
    return e;
}

/* For what the operating system refused: its reason as an error, and a sentence of ours. */
static enum err refuse_errno(struct open_job *j, int error, const char *why) {
    enum err e = dir_err(error);
    if (e == ERR_READ_ONLY) why = "the store folder is on a read-only file system; it must be writable";
    if (e == ERR_PERMISSION)
        why = "the store folder may not be read and written by this user; change its owner or its permissions";
    if (e == ERR_FULL) why = "the file system of the store folder is full; make room";
    return refuse(j, e, why);
}

/* OK: one of ours. ERR_NOT_FOUND: no marker. */
static enum err marker_read(struct open_job *j) {
    int fd = openat(j->store->root_fd, MARKER, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT
                   ? ERR_NOT_FOUND
                   : refuse_errno(j, errno, "the marker file oxbow-store in the store folder cannot be opened");
    char text[64] = {0};
    ssize_t n = read(fd, text, sizeof(text) - 1);
    int error = errno;
    close(fd);
    if (n < 0) return refuse_errno(j, error, "the marker file oxbow-store in the store folder cannot be read");
    unsigned version = 0;
    char newline = 0;
    if (sscanf(text, MARKER " %9u%c", &version, &newline) != 2 || newline != '\n' || version == 0) {
        return refuse(
            j, ERR_FOREIGN,
            "the file oxbow-store in the store folder is not the marker of an Oxbow store; choose another folder");
    }
    if (version > FORMAT_STORE_FOLDER_NEWEST) {
        format_newer(j->store->base.env->log, FORMAT_STORE_FOLDER, version, "path=%s/" MARKER, j->store->path);
        return refuse(
            j, ERR_VERSION,
            "the store folder was written by a newer version of Oxbow (the line above has the versions): run that version, or choose another folder; nothing was changed");
    }
    return OK;
}

/* A folder without marker must be empty, but for what an interrupted first open leaves behind, and what a new file
 * system holds. */
static enum err vacant_check(struct open_job *j) {
    int fd = openat(j->store->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int error = errno;
        if (fd >= 0) close(fd);
        return refuse_errno(j, error, "the store folder cannot be read");
    }
    enum err e = OK;
    errno = 0;
    for (struct dirent *entry; e == OK && (entry = readdir(dir)) != NULL;) {
        static const char *const harmless[] = {".", "..", "LOCK", MARKER, MARKER_NEW, "lost+found"};
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(harmless); i++) known |= strcmp(entry->d_name, harmless[i]) == 0;
        if (!known)
            e = refuse(j, ERR_FOREIGN,
                       "the store folder holds files that are not an Oxbow store; choose an empty or a new folder");
    }
    closedir(dir);
    return e;
}

/* The lock file is opened for reading, so that it does not keep the file system from being made read-only; over NFS a
 * lock wants more. */
static enum err lock_take(struct open_job *j) {
    struct dir_store *d = j->store;
    int access = O_RDONLY;
    for (;;) {
        fd_drop(&d->lock_fd);
        d->lock_fd = openat(d->root_fd, "LOCK", access | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (d->lock_fd < 0) return refuse_errno(j, errno, "the file LOCK in the store folder cannot be opened");
        if (flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0) break;
        if (errno == EWOULDBLOCK)
            return refuse(j, ERR_LOCKED, "another process uses the store folder; stop it, or choose another folder");
        if (errno == EBADF && access == O_RDONLY) {
            access = O_RDWR;
        } else if (errno != EINTR) {
            return refuse(j, ERR_UNSUPPORTED,
                          "the file system of the store folder has no file locks (flock); choose another folder");
        }
    }
    struct stat named;
    if (fstat(d->lock_fd, &d->lock) != 0 || fstatat(d->root_fd, "LOCK", &named, AT_SYMLINK_NOFOLLOW) != 0 ||
        !same_file(&named, &d->lock)) {
        return refuse(j, ERR_BUSY,
                      "the file LOCK in the store folder was replaced while it was being locked; try again");
    }
    if (faccessat(d->root_fd, ".", W_OK, AT_EACCESS) != 0)
        return refuse_errno(j, errno, "the store folder cannot be written");
    return OK;
}

static enum err marker_write(struct open_job *j) {
    static const char text[] = MARKER " 1\n";
    static_assert(FORMAT_STORE_FOLDER_NEWEST == 1, "the text names the version");
    int root_fd = j->store->root_fd, error = 0;
    int fd = openat(root_fd, MARKER_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) return refuse_errno(j, errno, "the marker file cannot be made in the store folder");
    errno = ENOSPC;
    if (write(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1 || fsync(fd) != 0) error = errno;
    close(fd);
    if (!error && renameat(root_fd, MARKER_NEW, root_fd, MARKER) != 0) error = errno;
    return error ? refuse_errno(j, error, "the marker file cannot be written in the store folder") : OK;
}

static enum err part_open(struct open_job *j, const char *name, int *fd) {
    int root_fd = j->store->root_fd;
    if (mkdirat(root_fd, name, 0755) != 0 && errno != EEXIST)
        return refuse_errno(j, errno, "a folder cannot be made in the store folder");
    *fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *fd < 0 ? refuse_errno(j, errno, "a folder in the store folder cannot be opened") : OK;
}

static enum err open_in_order(struct open_job *j) {
    struct dir_store *d = j->store;
    d->root_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->root_fd < 0 || fstat(d->root_fd, &d->root) != 0)
        return refuse_errno(j, errno, "the store folder cannot be opened; is it a folder?");
    /* Look before making anything in what may be somebody else's folder; look again under the lock. */
    enum err e = marker_read(j);
    if (e == ERR_NOT_FOUND) {
        e = vacant_check(j);
        /* Another process may be making the store right now: the marker comes before the folders. */
        if (e == ERR_FOREIGN && marker_read(j) == OK) e = OK;
    }
    if (e == OK) e = lock_take(j);
    if (e != OK) return e;
    e = marker_read(j);
    if (e == ERR_NOT_FOUND) {
        e = vacant_check(j);
        if (e == OK) e = marker_write(j);
    }
    if (e == OK) e = part_open(j, "tmp", &d->tmp_fd);
    if (e == OK) e = part_open(j, "objects", &d->objects_fd);
    if (e != OK) return e;
    if (fstat(d->objects_fd, &d->objects) != 0 || fsync(d->root_fd) != 0)
        return refuse_errno(j, errno, "the store folder cannot be made durable");
    e = dir_tree_settle(d);
    if (e != OK)
        return refuse(j, e, "a folder below the store folder cannot be read or made durable; the log has the reason");
    d->nameless = dir_nameless_works(d);
    return OK;
}

static void open_run(void *arg) {
    struct open_job *j = arg;
    j->result = open_in_order(j);
}

static void dir_destroy(struct dir_store *d) {
    struct mem *m = d->base.env->mem;
    dir_free_deinit(d);
    fd_drop(&d->tmp_fd);
    fd_drop(&d->objects_fd);
    fd_drop(&d->lock_fd); /* gives the lock back */
    fd_drop(&d->root_fd);
    pthread_mutex_destroy(&d->making);
    mem_free(m, d->path);
    d->magic = d->base.magic = 0;
    mem_free(m, d);
}

static void dir_close(struct store *s) {
    struct dir_store *d = (struct dir_store *)(void *)s;
    CHECK_OBJ(d, DIR_STORE_MAGIC);
    dir_free_stop(d);
    dir_destroy(d);
}

static const struct store_ops dir_ops = {
    .put = dir_put, .get = dir_get, .list = dir_list, .del = dir_delete, .close = dir_close, .compose = dir_compose};

/* --- For looking only. */

static enum err put_refused(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                            enum store_purpose purpose) {
    (void)s, (void)key, (void)data, (void)count, (void)create_only, (void)purpose;
    return ERR_READ_ONLY;
}

static enum err delete_refused(struct store *s, const char *const *keys, size_t count, enum err *each) {
    (void)s, (void)keys, (void)count, (void)each;
    return ERR_READ_ONLY;
}

static enum err compose_refused(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                                enum store_purpose purpose) {
    (void)s, (void)key, (void)pieces, (void)count, (void)purpose;
    return ERR_READ_ONLY;
}

static const struct store_ops dir_read_only_ops = {.put = put_refused,
                                                   .get = dir_get,
                                                   .list = dir_list,
                                                   .del = delete_refused,
                                                   .close = dir_close,
                                                   .compose = compose_refused};

static void open_read_only_run(void *arg) {
    struct open_job *j = arg;
    struct dir_store *d = j->store;
    d->root_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->root_fd < 0 || fstat(d->root_fd, &d->root) != 0) {
        j->result = refuse_errno(j, errno, "the store folder cannot be opened; is it a folder?");
        return;
    }
    j->result = marker_read(j);
    if (j->result == ERR_NOT_FOUND)
        j->result = refuse(j, ERR_FOREIGN, "the folder is not an Oxbow store: it has no file oxbow-store");
    if (j->result != OK) return;
    d->objects_fd = openat(d->root_fd, "objects", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->objects_fd < 0 || fstat(d->objects_fd, &d->objects) != 0 ||
        fstatat(d->root_fd, "LOCK", &d->lock, AT_SYMLINK_NOFOLLOW) != 0) {
        j->result = refuse_errno(
            j, errno, "the folder objects or the file LOCK in the store folder is missing or cannot be opened");
    }
}

static enum err dir_store_open(struct env *env, const char *path, const struct store_ops *ops, fiber_fn *run,
                               struct store **out, const char **why) {
    struct dir_store *d = MEM_NEW(env->mem, struct dir_store);
    d->base = (struct store){.magic = STORE_MAGIC,
                             .ops = ops,
                             .env = env,
                             .exclusive = ops == &dir_ops,
                             .gets_at_once = READS_AT_ONCE,
                             .list_consistent = true};
    INIT_OBJ(d, DIR_STORE_MAGIC);
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    d->path = mem_strndup(env->mem, path, size);
    d->root_fd = d->objects_fd = d->tmp_fd = d->lock_fd = -1;
    pthread_mutex_init(&d->making, NULL);
    dir_free_init(d);
    struct open_job j = {d, OK, ""};
    env->ops->offload(env, run, &j);
    if (j.result != OK) {
        *why = j.why;
        dir_destroy(d);
        return j.result;
    }
    dir_free_start(d);
    *out = &d->base;
    return OK;
}

enum err store_dir_open(struct env *env, const char *path, struct store **out, const char **why) {
    CHECK_OBJ(env, ENV_MAGIC);
    *out = NULL;
    *why = "";
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    if (size == 0) {
        *why = "the path of the store folder is empty";
        return ERR_INVALID;
    }
    char *trimmed = mem_strndup(env->mem, path, size);
    enum err e = env->ops->dir_make(env, trimmed);
    if (e == OK) {
        e = dir_store_open(env, trimmed, &dir_ops, open_run, out, why);
    } else {
        *why = "the store folder does not exist and cannot be made; is its parent a folder that this user may write?";
    }
    mem_free(env->mem, trimmed);
    return e;
}

enum err store_dir_open_read_only(struct env *env, const char *path, struct store **out, const char **why) {
    CHECK_OBJ(env, ENV_MAGIC);
    *out = NULL;
    *why = "";
    return dir_store_open(env, path, &dir_read_only_ops, open_read_only_run, out, why);
}
