/* Shared by wal_mirror.c, wal_members.c and wal_medium.c. */
#ifndef OXBOW_STREAM_WAL_MIRROR_PRIV_H
#define OXBOW_STREAM_WAL_MIRROR_PRIV_H

#include <inttypes.h>

#include "stream/wal_mirror.h"
#include "stream/wal_objects.h"

enum member_state {
    MEMBER_LOST,    /* takes nothing; its fiber tries to begin it anew, where that is allowed */
    MEMBER_LEFT,    /* never to be used by this start */
    MEMBER_READY,   /* begun anew, and holds nothing */
    MEMBER_JOINING, /* takes what comes; no membership names it */
    MEMBER_CURRENT  /* in the membership that is, or that is to be */
};

/* A block in a member's ring. */
struct mirror_place {
    struct list node;
    uint64_t end;        /* in the mirror */
    uint64_t member_end; /* in the ring, once confirmed */
};

struct mirror_member {
    struct wal_mirror *mirror;
    struct stream_wal_member options; /* owns the path */
    struct wal *wal;                  /* a ring; NULL: closed, or: */
    struct wal_objects *objects;      /* an object log */
    enum member_state state;
    uint8_t id[16]; /* zero: it never had one from us */
    /* In the mirror: confirmed by this member up to here; it takes what is at `joined_at` and behind. */
    uint64_t confirmed_end, joined_at;
    uint64_t behind;        /* in its ring: nothing of this incarnation lies at or above */
    struct list sent, held; /* mirror_place: not confirmed; confirmed, not trimmed */
    bool working;           /* its fiber is alive */
    bool awaited;           /* joining: nothing more is confirmed before it has what is confirmed already */
    bool recovered;         /* its ring was replayed by this start */
    bool settled;           /* lost: nothing is under way any more, and the copies are gone */
    unsigned attempt;
    enum err lost_why;
};

struct wal_mirror {
    struct env *env;
    struct wal_mirror_options options;
    struct mirror_member members[WAL_MEMBERS_MAX];
    unsigned count;
    char *path, *generation;
    struct incarnation incarnation;
    struct wal_membership durable, proposed;
    uint64_t version;    /* of the newest proposed */
    bool changing;       /* `proposed` may be the one that a recovery finds */
    bool change_running; /* the fiber that does it is alive */
    struct list waiting; /* blocks that are not confirmed, oldest first */
    uint64_t head, confirmed_end, trimmed;
    uint64_t capacity; /* none of the rings is smaller */
    struct timer watch;
    uint64_t watched_ns, patient_from_ns;
    struct waitq changed; /* something that the fibers here wait for */
    struct waitgroup fibers;
    bool started, failed, fenced, closing;
    bool nothing_needed; /* failed, and all that the rings hold is in the ledger */
    bool restarting;
};

/* wal_mirror.c */
bool membership_names(const struct wal_membership *m, const uint8_t id[16]);
/* Might a recovery believe it? */
bool member_named(const struct mirror_member *k);
/* That, or it is to be: nothing is confirmed that it has not confirmed. */
bool member_counts(const struct mirror_member *k);
bool member_takes(const struct mirror_member *k);
unsigned mirror_count(const struct wal_mirror *m, enum member_state state);
void mirror_publish(struct wal_mirror *m); /* metrics */
void mirror_advance(struct wal_mirror *m);
void mirror_fail(struct wal_mirror *m, enum err why);
void mirror_watch(struct wal_mirror *m);
void mirror_watch_fire(struct timer *t);
void member_forget_places(struct mirror_member *k);
void member_confirmed(void *ctx, struct block *copy);
void member_failed(void *ctx, enum err why);
void member_full(void *ctx);

/* wal_medium.c: rings and object logs. Those that suspend say so. */
void medium_create(struct mirror_member *k);
void medium_destroy(struct mirror_member *k);                                /* suspends */
enum err medium_open(struct mirror_member *k, const char **why) WARN_UNUSED; /* suspends */
bool medium_is_open(const struct mirror_member *k);
void medium_settle(struct mirror_member *k); /* suspends until nothing is under way */
void medium_close(struct mirror_member *k);  /* suspends; a store stays open */
void medium_close_in_order(struct mirror_member *k);
void medium_give_up(struct mirror_member *k);
void medium_submit(struct mirror_member *k, struct block *b);
void medium_trim(struct mirror_member *k, uint64_t position);
uint64_t medium_oldest_op_ns(const struct mirror_member *k);
uint64_t medium_used_bytes(const struct mirror_member *k);
uint64_t medium_capacity(const struct mirror_member *k);
bool medium_idle(const struct mirror_member *k);
/* Others reach the ring, and the lock proves nothing. */
bool medium_is_shared(const struct mirror_member *k);
/* ERR_EXISTS, ERR_FOREIGN: it is somebody else's, by what was read when it was opened. */
enum err medium_check(const struct mirror_member *k, const char **why) WARN_UNUSED;
/* With a new id. ERR_EXISTS, ERR_FOREIGN: it is somebody else's, and is left alone. Suspends. */
enum err medium_format(struct mirror_member *k, const char **why) WARN_UNUSED;
/* Of a lost one: at a position behind all that it ever held of ours. Suspends. */
enum err medium_begin_anew(struct mirror_member *k, const char **why) WARN_UNUSED;
const char *member_quoted(const struct mirror_member *k, char *out, size_t size);

/* wal_members.c; neither suspends */
void mirror_change(struct wal_mirror *m);  /* the membership is to become the current members */
void member_work(struct mirror_member *k); /* its fiber has something to do */

#endif
