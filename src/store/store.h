/* The object store, as every large one offers it: put, conditional create, ranged get, list, delete.
 * Implementations: store/dir (a local folder),
 * S3 and its dialects, and the simulator's. All calls suspend the calling fiber and may be made from fibers of any
 * loop.
 *
 * Outcomes of a put, and nothing else matters more:
 *   OK                    it is there, durably, and (create) was not there before.
 *   ERR_EXISTS            create only: an object lies at that key. It may be this very one, from an earlier attempt whose answer was lost.
 *   ERR_UNKNOWN_OUTCOME   (or ERR_TIMEOUT, ERR_IO) it may be there, now or later. Resolve by looking, as objlog/ does.
 *   any other             nothing was done. err_class() tells whether to try again. */
#ifndef OXBOW_STORE_STORE_H
#define OXBOW_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "rt/env.h"

/* What a request is for: requests and bytes are counted by operation and purpose (metrics label = op *
 * STORE_PURPOSES + purpose). */
enum store_purpose {
    STORE_FOR_CLUSTER_LOG,
    STORE_FOR_LEDGER,
    STORE_FOR_UPLOAD,
    STORE_FOR_READ,
    STORE_FOR_COMPACTION,
    STORE_FOR_DELETION, /* what goes, and the looking for it */
    STORE_FOR_WAL, /* the member of a mirrored WAL that is an object log */
    STORE_FOR_OTHER,
    STORE_PURPOSES
};
enum store_op { STORE_PUT, STORE_CREATE, STORE_GET, STORE_LIST, STORE_DELETE, STORE_COMPOSE, STORE_OPS };

struct store_listed {
    char *key;
    uint64_t size_bytes;
};
struct store_listing { /* owns its keys */
    struct mem *mem;
    struct store_listed *items;
    size_t count, capacity;
    bool more; /* the page ended before the prefix did */
};

/* What was begun in parts, and neither completed nor given up: no object, in no listing, and paid for. */
struct store_upload {
    char *key, *id;
};
struct store_uploads { /* owns its texts */
    struct mem *mem;
    struct store_upload *items;
    size_t count, capacity;
};

/* As metrics and messages call them; literals. */
const char *store_op_name(enum store_op op);
const char *store_purpose_name(enum store_purpose purpose);

#define STORE_PART_BYTES ((uint64_t)16 << 20)
#define STORE_PARTS_MAX 10000u /* of one object: S3's rule */
#define STORE_LIST_PAGE 1000u
#define STORE_DELETE_BATCH 1000u
#define STORE_UPLOADS_MAX 10000u /* of one call */
/* S3's rules for an object in parts: all but the last have at least so much, and the whole at most that. */
#define STORE_PART_LEAST ((uint64_t)5 << 20)
#define STORE_OBJECT_MAX ((uint64_t)5 << 40)
/* A part that the store copies itself has at most this. S3 allows five times as much; but it answers only once it has
 * copied, several parts are copied at a time, and after a failure one is copied again. */
#define STORE_COPY_MAX ((uint64_t)1 << 30)

#define STORE_MAGIC 0x5107e001u

struct store;

/* What store_compose makes an object of: bytes of another object, or (key NULL) bytes in memory. */
struct store_part {
    const char *key;
    uint64_t position, size; /* in it */
    struct slice data;       /* borrowed until the call returns */
};

/* The same as a store is asked for it: one request each, within its rules. */
struct store_piece {
    const char *key;         /* NULL: data */
    uint64_t position, size; /* size: also of data */
    const struct slice *data;
    size_t count;
};

struct store_ops {
    enum err (*put)(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                    enum store_purpose purpose);
    enum err (*get)(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                    struct slice *out);
    enum err (*list)(struct store *s, const char *prefix, const char *start_after, size_t max,
                     struct store_listing *out);
    /* each: OK for every key; gets the errors of those that were not deleted while others may have been. Returned: what
     * concerns all of them. */
    enum err (*del)(struct store *s, const char *const *keys, size_t count, enum err *each);
    void (*close)(struct store *s);
    /* NULL: ERR_UNSUPPORTED. At least one piece copies. */
    enum err (*compose)(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                        enum store_purpose purpose);
    /* NULL: there are none. */
    enum err (*uploads)(struct store *s, const char *prefix, struct store_uploads *out);
    enum err (*abort)(struct store *s, const char *key, const char *id);
};

struct store {
    unsigned magic;
    const struct store_ops *ops;
    struct env *env;
    /* Nobody else can write here, not even late: an operating-system lock, held by this process, proves that every
     * earlier holder is dead and
     * that nothing of theirs is under way. Only then may fences of dead incarnations be deleted. */
    bool exclusive;
    /* So many large GETs at once get all that it can give: more only hold up what else is asked of it. 0: not known. */
    unsigned gets_at_once;
    /* New objects show up in LIST at once (a store where they do not is refused for clusters). */
    bool list_consistent;
    /* A put without condition of more bytes than this is sent in parts of this size, each a request on the bill; 0:
     * STORE_PART_BYTES, also where nothing is sent in parts, so that a folder tells what a bucket would have cost. */
    uint64_t part_bytes;
    /* Of store_compose: what is neither the last part nor all in memory has at least so many bytes, with its neighbours
     * in memory, or those that follow each other in one object, taken together. 0: any. */
    uint64_t part_least;
};

/* Keys: 1..512 bytes of [A-Za-z0-9._/-], no empty, "." or ".." part, no leading or trailing '/'. */
bool store_key_valid(const char *key);

/* Parts of an object of that many bytes; 1: it goes in one piece. */
uint32_t store_parts(uint64_t bytes, uint64_t part_bytes);

/* data: the object's bytes, gathered; borrowed until the call returns. */
enum err store_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                   enum store_purpose purpose) WARN_UNUSED;
/* Creates an object out of parts of others, which the store copies itself, and of bytes in memory, in this order: it
 * appears whole or not at all, and outcomes are those of a create. Neighbours are put together, and large ones taken
 * apart, as the store wants it. The key must be one that nobody else makes: there are stores that create conditionally,
 * but not what they are given in parts. To repeat it with the same parts is harmless.
 *   ERR_UNSUPPORTED   nothing was done, and never will be: the store does not copy, or not these parts (see part_least;
 *                     S3 copies no part of an object that is itself smaller). Read them, and put.
 *   ERR_NOT_FOUND     nothing was done: one of the other objects is not there;
 *   ERR_TRUNCATED     ... or ends too early.
 *   ERR_TOO_LARGE     nothing was done: more than STORE_OBJECT_MAX.
 * Suspends, for minutes where there are gigabytes. */
enum err store_compose(struct store *s, const char *key, const struct store_part *parts, size_t count,
                       enum store_purpose purpose) WARN_UNUSED;
/* Bytes [position, position+size) or fewer where the object ends; a position at or behind the end gives an empty
 * slice. out: the caller's own
 * reference. ERR_NOT_FOUND: no such object. */
enum err store_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                   struct slice *out) WARN_UNUSED;
/* Keys with the prefix, in byte order, after start_after (NULL: from the first), at most max. out is initialised by
 * the call; free it with
 * store_listing_deinit in every case. */
enum err store_list(struct store *s, const char *prefix, const char *start_after, size_t max,
                    enum store_purpose purpose, struct store_listing *out) WARN_UNUSED;
/* Deletes; keys that are not there are fine. ERR_UNKNOWN_OUTCOME and errors: some may be gone; repeating is
 * harmless. ERR_PERMISSION: the store is there, and refuses to delete some of them (a policy, a lock, a folder's modes);
 * all that it does delete are gone. */
enum err store_delete(struct store *s, const char *const *keys, size_t count, enum store_purpose purpose) WARN_UNUSED;
/* The same, told apart. OK: the store has judged each key by itself, and each[i] says how: OK, it is gone;
 * ERR_PERMISSION, the store refuses it; another error, it could not be deleted while others could. An error: of the
 * store, or of every key alike; then each[] says nothing. Suspends. */
enum err store_delete_each(struct store *s, const char *const *keys, size_t count, enum store_purpose purpose,
                           enum err *each) WARN_UNUSED;
/* Unfinished uploads of keys with the prefix, the first STORE_UPLOADS_MAX. Whether somebody is at work on one, only its key
 * can tell. None: also from stores that do not say; those give them up themselves after a while. out is initialised by
 * the call; free it with store_uploads_deinit in every case. Suspends. */
enum err store_uploads(struct store *s, const char *prefix, enum store_purpose purpose,
                       struct store_uploads *out) WARN_UNUSED;
/* Gives one up: its parts are gone, and who is still at work on it fails. OK as well when it is there no longer. Errors:
 * it may be there; repeating is harmless. Suspends. */
enum err store_upload_abort(struct store *s, const char *key, const char *id, enum store_purpose purpose) WARN_UNUSED;
void store_close(struct store *s);

void store_listing_init(struct store_listing *l, struct mem *m);
void store_listing_add(struct store_listing *l, const char *key, uint64_t size_bytes);
void store_listing_deinit(struct store_listing *l);
void store_uploads_add(struct store_uploads *u, const char *key, const char *id);
void store_uploads_deinit(struct store_uploads *u);

/* At start: creates a probe key twice, and races creates; refuses a store that ignores the condition. Suspends.
 * *why: a sentence for the log. */
enum err store_check_conditional_create(struct store *s, const char *prefix, bool full, const char **why) WARN_UNUSED;
/* What such checks left: their DELETE failed, or a PUT landed after it. Whoever else can start on this store may be using
 * one that is listed: who deletes them waits until nobody can. The first 1000; *out as store_list has it. Suspends. */
enum err store_check_leftovers(struct store *s, const char *prefix, struct store_listing *out) WARN_UNUSED;
/* Deletes them. After a failure it may be repeated. Suspends. */
enum err store_check_forget(struct store *s, const struct store_listing *leftovers) WARN_UNUSED;

#endif
