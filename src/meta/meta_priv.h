/* What the files of meta/ share; nobody else includes it.
 *
 * One broker's view of the cluster log: the image, the log it comes from, and commits on their way into it. Commits
 * wait in `pending` in the order of the calls. One of their fibers leads at a time: it takes a group off the queue,
 * appends it as one entry, applies it to the image, and hands the lead to the first that still waits. So there is one
 * append in flight, whatever comes meanwhile goes together into the next one, and an idle broker holds no fiber. */
#ifndef OXBOW_META_META_PRIV_H
#define OXBOW_META_META_PRIV_H

#include "base/assert.h"
#include "base/list.h"
#include "meta/meta_cluster.h"
#include "meta/meta_image.h"
#include "rt/fiber.h"

#define META_MAGIC 0x3e7a0001u
#define META_PREFIX_MAX 48u

/* A snapshot is due after that many records or bytes of records, or when a start had to read that many entries. */
#define META_SNAPSHOT_RECORDS 256u
#define META_SNAPSHOT_BYTES (1u << 20)
#define META_SNAPSHOT_ENTRIES 32u
/* A group takes no further record once it has that many bytes. */
#define META_GROUP_BYTES (256u << 10)

/* An entry of the log that may have to be deleted one day. */
struct meta_entry {
    uint64_t number;
    bool takeover; /* election or fence: stays for ever unless the store is exclusive */
};

/* One commit: on the stack of the fiber that waits for it. */
struct meta_commit {
    struct list link;           /* in pending, or in the leader's group */
    struct meta_record *record; /* NULL: not a record, but a snapshot is asked for */
    enum err result;
    bool done, leads;
    struct waitq changed; /* done or leads was set */
};

/* That this broker was in office when the proof began: a look at the log's end, or an append. */
struct meta_proof {
    uint64_t serial, begun_ns; /* serial 0: none yet */
};

struct meta {
    unsigned magic;
    struct env *env;
    struct store *store;
    int32_t node_id;
    char generation[META_GENERATION_SIZE + 1];
    char cluster_id[23];
    char prefix[META_PREFIX_MAX];
    struct objlog *log;
    struct incarnation incarnation;
    struct meta_image image;

    struct list pending;
    bool leading;         /* a commit leads */
    bool fenced, stopped; /* no commit goes through any more */
    bool closing;
    struct waitq idle; /* nobody leads any more, or a background job ended */

    bool appending;        /* an entry of ours is under way */
    struct waitq appended; /* its outcome is known */
    uint64_t proofs_begun;
    struct meta_proof proven; /* the latest that was found */
    bool looking;             /* a fiber sees to one */
    unsigned look_waiters;
    struct waitq looked; /* proven changed, or the fiber ended */

    uint64_t records_since, bytes_since, entries_since; /* the last snapshot */
    bool snapshotting;                                  /* a fiber sees to one */

    struct meta_entry *entries; /* from first_entry on, and what a LIST found below it; not yet deleted */
    size_t entry_count, entry_capacity;
    uint64_t first_entry; /* where the replay began */
    bool listed;          /* what lies below first_entry is in entries, too */
    bool cleaning;        /* a fiber sees to it */
    uint64_t clean_after_ns;
    const char *refused;    /* a sentence for the operator, when the replay ended with an error */
    struct timer give_up;   /* of a stop that waits for the store */
    uint64_t stopping_seen; /* entries when the stop was last looked at */
};

/* --- meta_cluster.c */
/* Reads or makes the object that names the cluster. Suspends; repeats while the store is not there. */
enum err meta_cluster_open(struct meta *m, const char **why) WARN_UNUSED;

/* --- meta_commit.c */
/* Puts one record into the log and the image. r is borrowed until the call returns; what the log gives out (stream ids,
 * producer ids) is filled in. Suspends. */
enum err meta_commit(struct meta *m, struct meta_record *r) WARN_UNUSED;
bool meta_snapshot_due(const struct meta *m);
void meta_snapshot_start(struct meta *m); /* in the background, unless one is under way */
/* Notes an entry of the log for deletion some day. */
void meta_entry_note(struct meta *m, uint64_t number, enum objlog_kind kind);

/* Another has been elected: tells everybody who waits for a commit. */
void meta_overtaken(struct meta *m);

/* --- meta_office.c */
struct meta_proof meta_proof_begin(struct meta *m);
void meta_proof_found(struct meta *m, struct meta_proof p);

/* --- meta_clean.c */
/* Deletes in the background what the object log's rule 4 allows. Call after each durable entry. */
void meta_clean_start(struct meta *m);

#endif
