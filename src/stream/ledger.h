/* The ledger's image: what the durable entries of a ledger say about each stream, and what they need of the store.
 * Pure but for reading checkpointed states back.
 * Ours is kept on the log loop while the broker runs; a dead incarnation's is rebuilt by recovery. */
#ifndef OXBOW_STREAM_LEDGER_H
#define OXBOW_STREAM_LEDGER_H

#include "stream/object.h"

struct ledger_stream {
    struct stream_id id;
    int32_t epoch;
    struct stream_state state;
    struct state_expiry expiry; /* of its producers */
    uint64_t submitted_end;     /* of what is in entries that are under way; 0 or below the state's end: none is */
    bool refused;               /* recovery found a gap: nothing of it is served or changed */
    bool opened;                /* in this life of the broker */
    bool dirty;                 /* changed since its state was last written whole */
    bool written;               /* `pointer` says where the last whole state lies */
    /* Of ours: */
    struct list crowded; /* in streams.crowded or streams.nearly, or alone (compact_choose.c) */
    bool replacing;      /* somebody is rewriting ranges of it: everybody else leaves them alone */
    bool unreadable;     /* ranges could not be read when they were to be merged: not tried again in this life */
    struct object_state_pointer pointer;
};

struct ledger_image {
    struct mem *mem;
    struct map64 streams; /* stream id -> struct ledger_stream * */
};
void ledger_image_init(struct ledger_image *i, struct mem *m);
void ledger_image_deinit(struct ledger_image *i);
struct ledger_stream *ledger_image_get(const struct ledger_image *i, struct stream_id id);
struct ledger_stream *ledger_image_add(struct ledger_image *i, struct stream_id id, int32_t epoch); /* empty state */
void ledger_image_remove(struct ledger_image *i, struct stream_id id);

/* Ranges as a delta names them for the entry it lies in -> as they are for ever. */
void ledger_resolve_ranges(struct stream_state *delta, struct incarnation creator, uint64_t number,
                           uint64_t body_position);

/* Which streams a replay keeps, and with which epoch: those that the cluster log gives the incarnation. */
struct ledger_filter {
    bool (*is_current)(void *ctx, struct stream_id id, int32_t *epoch);
    void *ctx;
};
/* Applies one entry of `creator`'s ledger to the image (which must be that ledger's alone). A checkpoint replaces
 * the whole image; its states are read from the store. Sections of other
 * epochs are ignored. A gap marks the stream refused. head: the entry's. Suspends for checkpoints. */
enum err ledger_apply_entry(struct ledger_image *i, struct store *store, const char *generation,
                            struct incarnation creator, const struct objlog_entry *e,
                            const struct ledger_filter *filter, struct object_head *head) WARN_UNUSED;

/* Who needs an object: ranges of live states, and pointers of the newest checkpoint. */
struct object_use {
    struct object_id id;
    uint32_t ranges, pins;
    uint64_t live_bytes; /* of those ranges */
    uint64_t size_bytes; /* what is known of it: at least so many; a listing tells the rest */
    uint64_t not_before; /* own ledger entries: kept until numbers below this are no longer log */
    bool listed;         /* in the garbage list */
};
struct object_uses {
    struct mem *mem;
    struct mapstr map; /* id bytes -> struct object_use * */
    struct object_use **garbage;
    size_t garbage_count, garbage_capacity;
};
void object_uses_init(struct object_uses *u, struct mem *m);
void object_uses_deinit(struct object_uses *u);
struct object_use *object_uses_get(struct object_uses *u, struct object_id id);
struct object_use *object_uses_add(struct object_uses *u, struct object_id id);        /* get or create */
void object_uses_range(struct object_uses *u, const struct state_range *r, int delta); /* one more, or one less */
void object_uses_pin(struct object_uses *u, struct object_id id, int delta, uint64_t not_before);
/* Puts it on the garbage list if nothing needs it. */
void object_uses_check(struct object_uses *u, struct object_use *use);
void object_uses_forget(struct object_uses *u, struct object_use *use);

#endif
