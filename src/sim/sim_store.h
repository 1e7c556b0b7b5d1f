/* The simulated object store: buckets that all nodes of a world share, behind `struct store_ops`. A request takes
 * effect at one moment and is answered at a later one,
 * and either can fail by itself: refused; done but unanswered; unanswered and done minutes later (a condition is
 * judged at the landing); answered and done once more
 * later; never done. A GET or LIST tells what was true at some moment of its duration. When a node crashes, its PUTs
 * in flight land, vanish, or land later.
 *
 * Outcomes are those of the real clients at this seam. Over S3 a 409, and most 503s, leave a PUT's outcome unknown, as
 * far as the client can tell; a body that breaks off is a GET that failed, never fewer bytes; a request that outlasts
 * its time-out is given up, and what it asked for may still be done. A folder of one's own (`exclusive`) knows no
 * time-outs, no 409 and nothing late. */
#ifndef OXBOW_SIM_SIM_STORE_H
#define OXBOW_SIM_SIM_STORE_H

#include "base/map.h"
#include "objlog/objlog.h"
#include "sim/node.h"
#include "store/store.h"
#include "stream/ids.h"

#define SIM_BUCKET_MAGIC 0x51a0006u

/* No request takes longer, its way there and back in their longest tails. */
#define SIM_STORE_SLOWEST_NS (420 * NS_PER_S)

/* What checkers have read of an object, once: its bytes stay as they are. */
struct sim_seen_piece;
struct sim_seen {
    bool named, data;              /* the key was parsed; it is one of a ledger's entry or a data object */
    struct object_id id;           /* then */
    bool entry;                    /* an entry of an object log, and whole */
    bool whole;                    /* a data object or the claim of a WAL, and whole */
    struct objlog_header header;   /* of an entry */
    struct sim_seen_piece *pieces; /* those that are right; owned */
    size_t piece_count, piece_capacity;
    size_t piece_next; /* behind the one that was asked for last: they are asked for in order */
};

struct sim_object {
    char *key;
    uint8_t *data;
    size_t size;
    uint64_t listed_at_ns; /* from when LIST shows it */
    uint64_t landed_ns;
    bool again; /* it had been there before, and was deleted */
    /* SIM_STORE_DELETE_REFUSED: until when, and how often and when last somebody was told so. */
    uint64_t locked_until_ns, refused_ns;
    unsigned refusals;
    struct sim_seen seen;
};

struct sim_upload { /* begun in parts, and neither completed nor given up */
    char *key;
    uint64_t id, begun_ns;
};

struct sim_bucket {
    unsigned magic;
    struct list link; /* in world->buckets */
    struct sim_world *world;
    char name[32];
    struct sim_object **objects; /* by key, ascending */
    size_t count, capacity;
    uint64_t requests, created; /* so far */
    uint64_t version;           /* another whenever what lies there is */
    uint64_t storm_until_ns;    /* a period of SIM_STORE_STORM */
    int copies;                 /* parts of objects into others: 1 yes, -1 no, 0 not asked yet */
    struct sim_upload *uploads;
    size_t upload_count, upload_capacity;
    uint64_t upload_last;
    struct mapstr gone; /* keys of what was deleted */
    /* For checkers, or NULL: a request has just deleted what it was to delete. Must not suspend. */
    void (*deleted)(void *ctx);
    void *deleted_ctx;
};

struct sim_store_options {
    /* The handle holds the store alone, like store/dir under its lock: whatever its holder has in flight when it
     * crashes lands at once or never; nothing
     * is late or done twice. */
    bool exclusive;
};

struct sim_bucket *sim_bucket_create(struct sim_world *w, const char *name); /* lives as long as the world */
void sim_bucket_destroy(struct sim_bucket *b);
/* As it is left by who dies after it has begun an object in parts. */
void sim_bucket_leave_upload(struct sim_bucket *b, const char *key);

/* A handle of that node, in its memory; store_close frees it. bucket NULL: the world's own. o NULL: none. */
struct store *sim_store_open(struct sim_bucket *b, struct env *e, const struct sim_store_options *o);

/* For up to two minutes the machine is cut off from all buckets that it does not hold alone, one way or the other; who
 * talks to it notices nothing. What it sends waits, and is carried out when the way is open again, whether or not its
 * sender has given it up, or never; what it has asked before is done, and it does not hear of it. False: the fault is not
 * allowed. */
bool sim_store_cut(struct sim_node *n);

/* For checkers, without suspending; what is late does not count. NULL: no such object. */
const struct sim_object *sim_bucket_find(const struct sim_bucket *b, const char *key);
/* Index of the first key >= `key`; b->count if there is none. */
size_t sim_bucket_from(const struct sim_bucket *b, const char *key);
/* Whoever changes the bytes of an object that lies there says so: what was seen of it no longer counts. */
void sim_object_changed(struct sim_bucket *b, struct sim_object *o);

#endif
