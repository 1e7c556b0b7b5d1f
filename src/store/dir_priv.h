/* What the files of the folder store share; nobody else includes it. Everything here blocks and runs on worker threads
 * (env->ops->offload). */
#ifndef OXBOW_STORE_DIR_PRIV_H
#define OXBOW_STORE_DIR_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "store/dir.h"

#define DIR_STORE_MAGIC 0xd1257043u

/* What was deleted and is being freed, see dir_free.c. */
struct dir_deleted;
struct dir_freeing {
    struct loop *loop; /* that the store was opened on: its fiber frees */
    struct waitq changed;
    pthread_mutex_t lock; /* of these: */
    struct dir_deleted *first, **last;
    uint64_t bytes; /* of them all, and of what is open */
    bool running, stopping;
    /* The fiber's own: */
    int fd; /* the one that is being shrunk; it has no name */
    uint64_t left, piece;
};

struct dir_store {
    struct store base; /* first: the store that others see */
    unsigned magic;
    char *path; /* owned, absolute or as given */
    int root_fd, objects_fd, tmp_fd, lock_fd;
    struct stat root, objects, lock; /* who they were at open */
    bool nameless;                   /* temporary files need no name (O_TMPFILE, and links from /proc/self/fd) */
    _Atomic uint64_t temporary;      /* the next name in tmp/ */
    _Atomic unsigned large_puts;     /* that are being written now */
    struct dir_freeing freeing;
    /* Held while folders are made and until they are durable. Whoever has linked a file passes through it before
     * answering. */
    pthread_mutex_t making;
    _Atomic bool broken;  /* fsync of a folder failed: what is durable is unknown, so nothing more is written */
    _Atomic bool missing; /* the folder was gone when last looked: one log line a change */
};

/* The errors of system calls as a store's. No write has become visible when it is used. */
enum err dir_err(int errno_value);
/* OK, or ERR_UNAVAILABLE while the folder is gone or another. */
enum err dir_check(struct dir_store *d);
/* For an ERR_NOT_FOUND: is it the object that is not there, or everything? */
enum err dir_check_not_found(struct dir_store *d);
/* fsyncs a folder's fd; at failure the store is closed for writing. */
enum err dir_fsync(struct dir_store *d, int fd);

/* One direct write, from an aligned buffer that stays in the processor's cache. */
#define DIRECT_BYTES ((size_t)512 << 10)
/* What nobody waits for (STORE_FOR_COMPACTION) pauses behind each so many bytes, so that whoever is waited for finds the
 * disk idle now and then: some 350 MB/s at most. */
#define BACKGROUND_PAUSE_NS NS_PER_MS

/* dir_write.c */
/* Of a worker thread. */
void dir_pause(uint64_t ns);
enum err dir_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                 enum store_purpose purpose) WARN_UNUSED;
enum err dir_delete(struct store *s, const char *const *keys, size_t count, enum err *each) WARN_UNUSED;
enum err dir_compose(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                     enum store_purpose purpose) WARN_UNUSED;
/* Finds out which kind of temporary file works here. */
bool dir_nameless_works(struct dir_store *d);

/* dir_free.c */
/* An object so large goes by way of tmp/. */
#define FREE_FROM_BYTES (1 << 20)
/* Takes a large object's name away, and puts it into the list, which begins as NULL. False: nothing was done, it is small,
 * not there, or no object, or cannot be moved. */
bool dir_deleted_move(struct dir_store *d, int folder_fd, const char *name, struct dir_deleted **list) WARN_UNUSED;
/* Why there is less of an open object than there was: ERR_NOT_FOUND, it was deleted and is being freed, or ERR_TRUNCATED. */
enum err dir_short(int fd);
/* What lies in tmp/ by this name. */
void dir_deleted_add(struct dir_store *d, uint64_t number, uint64_t size, struct dir_deleted **list);
/* They stay in tmp/ until the next open. */
void dir_deleted_forget(struct dir_store *d, struct dir_deleted **list);
/* To be freed from the next dir_free_start on: that they were deleted is durable. Takes the list. */
void dir_free(struct dir_store *d, struct dir_deleted **list);
void dir_free_start(struct dir_store *d); /* any thread */
void dir_free_init(struct dir_store *d);
/* Ends it: what is left goes at once. Suspends. */
void dir_free_stop(struct dir_store *d);
void dir_free_deinit(struct dir_store *d);

/* dir_list.c */
enum err dir_list(struct store *s, const char *prefix, const char *start_after, size_t max,
                  struct store_listing *out) WARN_UNUSED;
/* At open: removes what is left in tmp/, or hands it to dir_free; removes empty folders, makes all others durable. */
enum err dir_tree_settle(struct dir_store *d) WARN_UNUSED;

static inline void fd_drop(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

#endif
