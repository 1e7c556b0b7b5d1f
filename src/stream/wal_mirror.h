/* The mirror: one write-ahead log on several members, of which each holds everything: rings (wal.h), and object logs in other
 * stores (wal_objects.h). A block is confirmed when all members
 * that a recovery might believe have confirmed it; so a recovery needs any one of these.
 * Lives on the log loop.
 *
 * Which members count is told by the *membership*: a numbered list of WAL ids that lies in the ledger. A recovery believes
 * the members that the highest-numbered membership in the dead incarnation's ledger names, and no others.
 *
 * Rules:
 *  1. While a change of the membership is on its way to the ledger nobody knows which of the two a recovery would find:
 *     a block is confirmed when the members of both have confirmed it.
 *  2. So a lost member (an error, or slower than the time-out) is counted on until the smaller membership is durable. By
 *     configuration the mirror stops instead: it fails as a ring fails (wal.h, rule 5), and what it held goes to the ledger.
 *  3. A member that was lost misses what came since. It comes back with a new id, at a position behind all that it ever
 *     held, empty; it gets what comes from then on; and it is proposed as a member once all that is older has been trimmed,
 *     and it has confirmed all that has been confirmed: then it holds everything that a recovery would need.
 *     A ring that is taken over by mark keeps its id: it is never formatted but by who has claimed it. It is restarted as
 *     wal.h says, behind, while no membership names it.
 *     When all are lost, and what they held is in the ledger, an empty membership says so before the first of them is begun
 *     anew.
 *  4. Each member keeps the rules of a ring: its positions, superblocks, lock, mark and claim are its own. A mark on any
 *     member that counts stops the whole: a survivor needs to reach only one. A ring that may not be begun anew (wal.h,
 *     rule 7), or could not be opened, is left alone by this start, which goes on with the others.
 *  5. A ring that is somebody else's is never begun anew: another cluster's, another broker's of this cluster, or that of a
 *     later start. It is missing until an operator has made it new (wal_init) or replaced it. Once a ring is lost its lock
 *     is given up; so its superblock is looked at each time before it is formatted.
 *  6. Nothing is written twice: rings write the same memory, but for the first sector of a group, where its header lies. */
#ifndef OXBOW_STREAM_WAL_MIRROR_H
#define OXBOW_STREAM_WAL_MIRROR_H

#include "stream/wal.h"

struct wal_mirror;

struct wal_mirror_options {
    struct env *env;
    const struct stream_wal_member *members; /* copied */
    unsigned count;                          /* 1..WAL_MEMBERS_MAX */
    bool stops;          /* a member is lost: stop confirming; else go on with a smaller membership */
    uint64_t timeout_ns; /* a device that needs longer for one request is lost */
    uint64_t retry_ns;   /* a lost member is tried again after this at first; each time later, up to 64 times it */
    unsigned depth;      /* of each member */
    bool exclusive;      /* takeover marks are not needed: who holds the store alone knows the others dead */
    uint64_t owner;      /* as in wal_options */
    /* As in wal_options. */
    void (*confirmed)(void *ctx, struct block *b);
    void (*failed)(void *ctx, enum err why);
    void (*full)(void *ctx);
    /* Makes the membership durable; OK: from now on a recovery finds this one, or a newer. Suspends. Any error: it is
     * not known, and this process will write no other. */
    enum err (*change)(void *ctx, const struct wal_membership *m);
    /* Opens the store of a member that is an object log (wal_objects.h). May be NULL if none is. Suspends. */
    enum err (*open_store)(void *ctx, const char *url, struct store **out, char *why, size_t why_size);
    void *open_ctx;
    /* May this ring be begun anew, with that id? OK; ERR_FENCED: never by us. *why as in streams_start. Suspends. */
    enum err (*claim)(void *ctx, struct wal *w, const uint8_t next_id[16], const char **why);
    void *ctx;
};
/* Opens and locks what is there. OK when at least one member is; the others are lost. ERR_LOCKED, ERR_FOREIGN, ERR_VERSION,
 * ERR_INVALID of any member are errors of the whole: a mistake, or another broker. Suspends. */
enum err wal_mirror_open(const struct wal_mirror_options *o, struct wal_mirror **out, const char **why) WARN_UNUSED;
/* in_order: everything is trimmed. What was not confirmed must have been taken. Suspends. */
void wal_mirror_close(struct wal_mirror *m, bool in_order);
/* Before a close that is not in order. Never suspends. */
void wal_mirror_abandon(struct wal_mirror *m, struct list *left);
/* For recovery, before the format: the ring of a member; NULL: out of reach. */
struct wal *wal_mirror_member(struct wal_mirror *m, unsigned index);
/* It has been replayed. */
void wal_mirror_recovered(struct wal_mirror *m, const struct wal *w);
/* The object logs that the membership names are fenced and read, one after the other. OK: one of them, whole.
 * ERR_NOT_FOUND: there is none. needed: no ring was whole. Suspends. */
struct wal_mirror_recovery {
    const char *generation;
    struct incarnation dead, taker;
    const struct wal_membership *membership;
    enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload); /* as in wal_replay */
    bool (*failed)(void *ctx); /* no member can help any more */
    void *ctx;
};
enum err wal_mirror_replay_objects(struct wal_mirror *m, const struct wal_mirror_recovery *r, bool needed,
                                   const char **why) WARN_UNUSED;
/* Once started: deletes what object logs of earlier incarnations have left; all of them are dead and recovered. Suspends. */
void wal_mirror_sweep(struct wal_mirror *m, struct incarnation self, const bool *stop);
/* Why a member is out of reach, rather something that may pass; OK: none is. */
enum err wal_mirror_missing(const struct wal_mirror *m);
const char *wal_mirror_path(const struct wal_mirror *m); /* all paths, for messages */

/* Begins anew all members that are there. OK: wal_mirror_membership says with whom; that must be durable before
 * wal_mirror_start. With `stops`, and a member out of reach, it is empty: the mirror has failed (and has not said so), to be
 * restarted. ERR_FENCED: no member may ever be used by this start. ERR_NOT_FOUND: none has a WAL that a start could claim (wal.h, rule 7), or is
 * there. Suspends. */
enum err wal_mirror_format(struct wal_mirror *m, const char *generation, struct incarnation incarnation,
                           const char **why) WARN_UNUSED;
/* The membership that is durable (from wal_mirror_start on). */
const struct wal_membership *wal_mirror_membership(const struct wal_mirror *m);
/* From here on blocks are taken, and lost members come back. true: it confirms; false: it has failed already. */
bool wal_mirror_start(struct wal_mirror *m);

/* As those of wal.h. */
enum err wal_mirror_restart(struct wal_mirror *m) WARN_UNUSED;
void wal_mirror_submit(struct wal_mirror *m, struct block *b);
void wal_mirror_trim(struct wal_mirror *m, uint64_t position);
void wal_mirror_take_unconfirmed(struct wal_mirror *m, struct list *out);
uint64_t wal_mirror_used_bytes(const struct wal_mirror *m); /* of the fullest */
uint64_t wal_mirror_capacity(const struct wal_mirror *m);   /* of the smallest when it was formatted; any loop */

#endif
