/* How the folder store frees what was deleted: gradually, in the background.
 *
 * A file system that is mounted with `discard` tells the disk of freed blocks when it commits its journal, and the disk is
 * busy with that for a quarter of a millisecond per megabyte, whole commands at a time: a write of the write-ahead log that
 * comes then waits for all that was freed at once. So a delete only takes large objects' names away, by renaming them into
 * tmp/, from where the next open frees what a process that dies has left. One after the other they then lose that name,
 * too, and are shrunk from their ends, a piece and its fsync at a time, with pauses for others.
 *
 * The pace follows what there is to free, so that space comes back within about FREE_WITHIN_NS; where that is in danger
 * first the pauses go, then the pieces grow. Where there is less space than that, or at a close, nothing is paced.
 *
 * Only a file without any name is shrunk: that somebody else has linked stays as it is, and who reads one knows from this
 * that it was deleted. Nothing of this can fail the delete: what cannot be shrunk is freed at once, by its close, and what
 * keeps its name in tmp/ waits for the next open. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/dir_priv.h"

/* Some 1 ms of the disk's, that others wait at most; below, an fsync costs more than what it frees. */
#define PIECE_LEAST_BYTES ((uint64_t)4 << 20)
#define PIECE_MOST_BYTES ((uint64_t)64 << 20)
#define PIECE_ALIGN ((uint64_t)1 << 20)
#define FREE_WITHIN_NS (20 * NS_PER_S)
#define PAUSE_TIMES 4u /* what a piece took: at most so much longer is the pause behind it */

struct dir_deleted {
    struct dir_deleted *next;
    uint64_t number; /* its name in tmp/ */
    uint64_t size;
};

static void name_of(uint64_t number, char name[static 32]) {
    (void)snprintf(name, 32, "%" PRIu64, number);
}

bool dir_deleted_move(struct dir_store *d, int folder_fd, const char *name, struct dir_deleted **list) {
    struct stat st;
    if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) || st.st_size < FREE_FROM_BYTES)
        return false;
    uint64_t number = atomic_fetch_add(&d->temporary, 1);
    char to[32];
    name_of(number, to);
    if (renameat(folder_fd, name, d->tmp_fd, to) != 0) return false;
    dir_deleted_add(d, number, (uint64_t)st.st_size, list);
    return true;
}

enum err dir_short(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_nlink == 0 ? ERR_NOT_FOUND : ERR_TRUNCATED;
}

void dir_deleted_add(struct dir_store *d, uint64_t number, uint64_t size, struct dir_deleted **list) {
    struct dir_deleted *x = MEM_NEW(d->base.env->mem, struct dir_deleted);
    *x = (struct dir_deleted){*list, number, size};
    *list = x;
}

void dir_deleted_forget(struct dir_store *d, struct dir_deleted **list) {
    for (struct dir_deleted *x; (x = *list) != NULL;) {
        *list = x->next;
        mem_free(d->base.env->mem, x);
    }
}

/* Takes the first one; 0: there is none. */
static uint64_t next_take(struct dir_store *d, char name[static 32]) {
    struct dir_freeing *f = &d->freeing;
    pthread_mutex_lock(&f->lock);
    struct dir_deleted *x = f->first;
    if (x) f->first = x->next;
    if (!f->first) f->last = &f->first;
    pthread_mutex_unlock(&f->lock);
    if (!x) return 0;
    uint64_t size = x->size;
    name_of(x->number, name);
    mem_free(d->base.env->mem, x);
    return size;
}

static void freeing_count(struct dir_store *d, int64_t bytes) {
    metric_gauge_add(d->base.env->metrics, M_STORE_FREEING, bytes);
}

static void freed(struct dir_store *d, uint64_t size) {
    struct dir_freeing *f = &d->freeing;
    f->left -= size;
    pthread_mutex_lock(&f->lock);
    ASSERT(f->bytes >= size);
    f->bytes -= size;
    pthread_mutex_unlock(&f->lock);
    freeing_count(d, -(int64_t)size);
}

/* Opens the next one and takes its last name away; false: there is none. */
static bool next_open(struct dir_store *d) {
    struct dir_freeing *f = &d->freeing;
    char name[32];
    struct stat st;
    f->left = next_take(d, name);
    if (f->left == 0) return false;
    f->fd = openat(d->tmp_fd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    (void)unlinkat(d->tmp_fd, name, 0);
    if (f->fd >= 0 && (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink > 0)) fd_drop(&f->fd);
    return true;
}

struct step {
    struct dir_store *store;
    uint64_t bytes; /* there are before it */
    uint64_t freed, took_ns;
    bool scarce; /* is space: there is not even as much of it */
};

static void step_run(void *arg) {
    struct step *s = arg;
    struct dir_store *d = s->store;
    struct dir_freeing *f = &d->freeing;
    struct statvfs space;
    uint64_t began_ns = env_now_ns(d->base.env);
    s->scarce = fstatvfs(d->tmp_fd, &space) == 0 && space.f_bavail * space.f_frsize < s->bytes;
    uint64_t most = s->scarce ? PIECE_MOST_BYTES : f->piece;
    while (s->freed < most && (f->left > 0 || next_open(d))) {
        uint64_t keep = f->left > most - s->freed ? (f->left - (most - s->freed)) & ~(PIECE_ALIGN - 1) : 0;
        if (f->fd < 0 || ftruncate(f->fd, (off_t)keep) != 0) keep = 0;
        s->freed += f->left - keep;
        freed(d, f->left - keep);
        /* What it frees is told to the disk with this piece, and not with others. */
        if ((s->freed >= most || keep == 0) && f->fd >= 0) (void)fsync(f->fd);
        if (keep == 0) fd_drop(&f->fd);
    }
    s->took_ns = env_now_ns(d->base.env) - began_ns;
}

/* How long to pause behind it; and how large the next piece is. */
static uint64_t step_judge(struct dir_freeing *f, const struct step *s) {
    /* When the next is to begin, from the beginning of this one on. */
    uint64_t due_ns = s->freed < 2 * PIECE_MOST_BYTES ? s->freed * FREE_WITHIN_NS / s->bytes : FREE_WITHIN_NS;
    uint64_t longest_ns = PAUSE_TIMES * s->took_ns;
    if (s->scarce) return 0;
    if (due_ns < s->took_ns) {
        if (f->piece < PIECE_MOST_BYTES) f->piece *= 2;
        return 0;
    }
    if (due_ns / 2 > longest_ns && f->piece > PIECE_LEAST_BYTES) f->piece /= 2;
    return due_ns - s->took_ns < longest_ns ? due_ns - s->took_ns : longest_ns;
}

static uint64_t bytes_left(struct dir_freeing *f) {
    pthread_mutex_lock(&f->lock);
    uint64_t bytes = f->stopping ? 0 : f->bytes;
    f->running = bytes > 0;
    pthread_mutex_unlock(&f->lock);
    return bytes;
}

/* A fiber, as long as there is something to free. */
static void free_main(void *arg) {
    struct dir_store *d = arg;
    struct dir_freeing *f = &d->freeing;
    CHECK_OBJ(d, DIR_STORE_MAGIC);
    ASSERT(loop_current() == f->loop);
    for (uint64_t bytes; (bytes = bytes_left(f)) > 0;) {
        struct step s = {.store = d, .bytes = bytes};
        env_offload(d->base.env, step_run, &s);
        uint64_t pause_ns = step_judge(f, &s);
        if (pause_ns > 0) (void)waitq_wait_until(&f->changed, env_now_ns(d->base.env) + pause_ns);
    }
    waitq_wake_all(&f->changed);
}

void dir_free_start(struct dir_store *d) {
    struct dir_freeing *f = &d->freeing;
    pthread_mutex_lock(&f->lock);
    bool start = f->bytes > 0 && !f->running && !f->stopping;
    if (start) f->running = true;
    pthread_mutex_unlock(&f->lock);
    if (start) loop_spawn(f->loop, "free", free_main, d);
}

void dir_free(struct dir_store *d, struct dir_deleted **list) {
    struct dir_freeing *f = &d->freeing;
    pthread_mutex_lock(&f->lock);
    *f->last = *list;
    while (*f->last) {
        f->bytes += (*f->last)->size;
        freeing_count(d, (int64_t)(*f->last)->size);
        f->last = &(*f->last)->next;
    }
    *list = NULL;
    pthread_mutex_unlock(&f->lock);
}

void dir_free_init(struct dir_store *d) {
    struct dir_freeing *f = &d->freeing;
    *f = (struct dir_freeing){.loop = loop_current(), .fd = -1, .piece = PIECE_LEAST_BYTES};
    f->last = &f->first;
    pthread_mutex_init(&f->lock, NULL);
    waitq_init(&f->changed);
}

static void rest_run(void *arg) {
    struct dir_store *d = arg;
    char name[32];
    while (next_take(d, name) > 0) (void)unlinkat(d->tmp_fd, name, 0);
    fd_drop(&d->freeing.fd);
}

static void stop_main(void *arg) {
    struct dir_store *d = arg;
    struct dir_freeing *f = &d->freeing;
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    bool running = f->running;
    pthread_mutex_unlock(&f->lock);
    while (running) {
        waitq_wake_all(&f->changed);
        waitq_wait(&f->changed);
        pthread_mutex_lock(&f->lock);
        running = f->running;
        pthread_mutex_unlock(&f->lock);
    }
    if (f->first || f->fd >= 0) env_offload(d->base.env, rest_run, d);
}

void dir_free_stop(struct dir_store *d) {
    loop_call(d->freeing.loop, stop_main, d);
}

void dir_free_deinit(struct dir_store *d) {
    struct dir_freeing *f = &d->freeing;
    ASSERT(!f->running && f->fd < 0);
    freeing_count(d, -(int64_t)f->bytes);
    dir_deleted_forget(d, &f->first);
    pthread_mutex_destroy(&f->lock);
}
