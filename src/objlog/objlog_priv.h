/* What the files of the object log share; nobody else includes it.
 *
 * A `struct objlog` is a position in a log: `next` is the number that is read or written next, `last` the nonce of the
 * entry before it. A reader moves it forward entry by entry (objlog_read.c); a takeover puts an entry at it
 * (objlog_takeover.c); a writer gives out numbers from it, several at once, and follows with `durable` as the prefix
 * becomes whole (objlog_write.c). */
#ifndef OXBOW_OBJLOG_OBJLOG_PRIV_H
#define OXBOW_OBJLOG_OBJLOG_PRIV_H

#include "base/assert.h"
#include "objlog/objlog.h"
#include "rt/fiber.h"

#define OBJLOG_KEY_MAX 544u
#define OBJLOG_BACKOFF_BASE_NS (50 * NS_PER_MS)
#define OBJLOG_BACKOFF_CAP_NS (5 * NS_PER_S)
/* One GET of this size brings header and head of nearly every entry. */
#define OBJLOG_READ_SIZE (64u * 1024u)

struct objlog_slot { /* one number in the window [durable, durable + depth) */
    bool done;       /* it lies in the store, and is mine */
    bool checkpoint;
    uint64_t boundary;  /* that it carries */
    struct waitq owner; /* the call that waits for its turn to answer */
};

struct objlog {
    unsigned magic;
    struct store *store;
    struct env *env;
    char *prefix; /* owned */
    unsigned depth;
    uint64_t writer;
    enum store_purpose purpose;
    bool trimmed;

    uint64_t next;
    struct objlog_nonce last;
    bool last_known;     /* false: `next` is where a walk began, so its predecessor was never read */
    uint64_t boundary;   /* newest checkpoint in the prefix */
    uint64_t carried;    /* highest boundary that an entry of the prefix carries */
    bool at_fence;       /* the walk ended at a fence, which lies at `next` */
    unsigned lost_races; /* of takeovers that have not succeeded yet, one after the other */
    struct objlog_nonce fence_nonce;

    bool writable;      /* made empty, or taken over by an election */
    uint64_t durable;   /* writers: the prefix that is whole; readers: equals next */
    uint64_t fenced_at; /* the lowest number that is known not to be mine; UINT64_MAX: none */
    bool stopped;
    unsigned appending;  /* calls under way */
    unsigned repeating;  /* calls of these whose last attempt failed */
    uint64_t answered;   /* numbers below it were answered OK: answers go out in order too */
    struct waitq turn;   /* calls that wait for the window, in order */
    struct waitq halted; /* calls between two attempts; fenced_at or stopped changed: cuts the wait short */
    struct objlog_slot window[OBJLOG_DEPTH_MAX];
};

/* --- objlog_format.c */
bool objlog_nonce_equal(const struct objlog_nonce *a, const struct objlog_nonce *b);
bool objlog_nonce_is_zero(const struct objlog_nonce *n);
/* The number in a listed key; false: the key names no entry of this log. */
bool objlog_key_parse(const char *prefix, const char *key, uint64_t *number);

/* --- objlog_read.c */
/* Walks from `next` to the first hole or fence, applying. ERR_STALE: the log was trimmed under the reader. skip: an own
 * entry whose apply() is left out, or NULL. *elections (may be NULL) counts election records passed. Suspends. */
enum err objlog_walk(struct objlog *l, const struct objlog_replay *replay, const struct objlog_nonce *skip,
                     unsigned *elections) WARN_UNUSED;
/* Looks for entries above n with a boundary above n, by a LIST begun now. OK: *boundary is such a boundary, or 0 when
 * there is none. ERR_STALE: entries vanished meanwhile. Suspends. */
enum err objlog_check_above(struct objlog *l, uint64_t n, uint64_t *boundary) WARN_UNUSED;
/* Drops all state and replays from `start` (0: find the newest boundary by LIST), until position and LIST agree.
 * Suspends. */
enum err objlog_reload(struct objlog *l, const struct objlog_replay *replay, uint64_t start,
                       const struct objlog_nonce *skip, unsigned *elections) WARN_UNUSED;

/* --- objlog_write.c */
/* Creates the entry: repeats until it lies there (OK), another lies there (ERR_EXISTS), or the log was stopped
 * (ERR_CANCELLED) or the number is above fenced_at (ERR_FENCED). data[0] is the encoded header. Suspends. */
enum err objlog_put(struct objlog *l, uint64_t number, const struct slice *data, size_t count) WARN_UNUSED;
/* Waits with jitter before attempt 1, 2, ...; ends early when the log is stopped or fenced. Suspends. */
void objlog_backoff(struct objlog *l, unsigned attempt);

#endif
