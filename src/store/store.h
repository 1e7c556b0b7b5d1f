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
enum store_op { STORE_PUT, STORE_CREATE, STORE_GET, STORE_LIST, STORE_DELETE, STORE_OPS };

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

/* As metrics and messages call them; literals. */
const char *store_op_name(enum store_op op);
const char *store_purpose_name(enum store_purpose purpose);

#define STORE_PART_BYTES ((uint64_t)16 << 20)
#define STORE_PARTS_MAX 10000u /* of one object: S3's rule */
#define STORE_LIST_PAGE 1000u
#define STORE_DELETE_BATCH 1000u

#define STORE_MAGIC 0x5107e001u

struct store;

struct store_ops {
    enum err (*put)(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                    enum store_purpose purpose);
    enum err (*get)(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                    struct slice *out);
    enum err (*list)(struct store *s, const char *prefix, const char *start_after, size_t max,
                     struct store_listing *out);
    enum err (*del)(struct store *s, const char *const *keys, size_t count);
    void (*close)(struct store *s);
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
};

/* Keys: 1..512 bytes of [A-Za-z0-9._/-], no empty, "." or ".." part, no leading or trailing '/'. */
bool store_key_valid(const char *key);

/* Parts of an object of that many bytes; 1: it goes in one piece. */
uint32_t store_parts(uint64_t bytes, uint64_t part_bytes);

/* data: the object's bytes, gathered; borrowed until the call returns. */
enum err store_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
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
 * harmless. */
enum err store_delete(struct store *s, const char *const *keys, size_t count, enum store_purpose purpose) WARN_UNUSED;
void store_close(struct store *s);

void store_listing_init(struct store_listing *l, struct mem *m);
void store_listing_add(struct store_listing *l, const char *key, uint64_t size_bytes);
void store_listing_deinit(struct store_listing *l);

/* At start: creates a probe key twice, and races creates; refuses a store that ignores the condition. Suspends.
 * *why: a sentence for the log. */
enum err store_check_conditional_create(struct store *s, const char *prefix, bool full, const char **why) WARN_UNUSED;
/* What such checks left: their DELETE failed, or a PUT landed after it. Whoever else can start on this store may be using
 * one that is listed: who deletes them waits until nobody can. The first 1000; *out as store_list has it. Suspends. */
enum err store_check_leftovers(struct store *s, const char *prefix, struct store_listing *out) WARN_UNUSED;
/* Deletes them. After a failure it may be repeated. Suspends. */
enum err store_check_forget(struct store *s, const struct store_listing *leftovers) WARN_UNUSED;

#endif
