/* The insides of a partition, shared by the files of this folder. Everything here is touched on the partition's home
 * loop only. */
#ifndef OXBOW_PARTITION_PARTITION_PRIV_H
#define OXBOW_PARTITION_PARTITION_PRIV_H

#include "base/random.h"
#include "kafka/batch.h"
#include "partition/partition.h"
#include "rt/env.h"

#define PARTITION_MAGIC 0x9a271710u

/* Batches that compress so well that they unfold to more than this are refused: a bound for what one request can
 * make the broker hold. */
#define PARTITION_UNPACK_MAX ((size_t)64 << 20)
/* Unpacked where the loop is, if neither side is larger than this; else on a worker thread, so that others need not
 * wait. */
#define PARTITION_INLINE_PACKED ((size_t)16 << 10)
#define PARTITION_INLINE_UNPACKED ((size_t)256 << 10)

/* Bytes of the partition below an offset, noted now and then: what partition_ready_bytes reckons with. */
#define PARTITION_MARKS 16
struct partition_mark {
    uint64_t offset, bytes;
};

struct partition {
    unsigned magic;
    bool closing;
    struct env *env;
    struct loop *loop;
    struct stream *stream;
    struct stream_id id;
    int32_t leader_epoch, index;
    char *topic;
    int64_t producer_id_expiration_ms;
    struct conversions *conversions;
    struct topic_config config;

    struct stream_state live; /* ahead: includes what is appended and not durable yet */
    struct list turns;        /* appends under way, in the order in which they came (append.c) */
    struct waitgroup users;   /* calls under way that may suspend */

    struct list watches;
    struct timer wake;
    struct waitq woken; /* partition_close waits here for the last watches to be called */

    struct rng rng;
    int64_t roll_jitter_ms;    /* of the active segment */
    int64_t segment_opened_ms; /* wall time at which the active segment began, or the partition was opened */
    int64_t appended_ms;       /* wall time of the last append, or of the opening */

    struct state_expiry expiry; /* of producers (retention.c) */
    size_t producers_counted;   /* in M_PRODUCER_BYTES */

    uint64_t opened_start, opened_end, opened_bytes; /* the first two marks */
    uint64_t bytes_end;                              /* bytes below live.end_offset, counted like the marks */
    struct partition_mark *marks;                    /* NULL until the first append */
    uint32_t mark_count;

    struct partition_counters counters;
};

/* The partition's users: every call that may suspend holds one, and partition_close waits for them. False: it is
 * closing. */
bool partition_enter(struct partition *p);
void partition_leave(struct partition *p);

/* Calls the watches that have something to see, from the loop, soon. */
void partition_wake_soon(struct partition *p);

/* ERR_FENCED_LEADER_EPOCH, ERR_UNKNOWN_LEADER_EPOCH; -1 is not checked. */
enum err partition_check_epoch(const struct partition *p, int32_t current_leader_epoch) WARN_UNUSED;

/* KIP-320: where the log parts from what a client has seen. The records of its last epoch, `asked`, end at *end_offset,
 * and *epoch is the largest known epoch that is not above it. False: an epoch that never was. The end is the live one:
 * what is shown must be held against the high watermark. */
bool partition_epoch_lookup(const struct partition *p, int32_t asked, int32_t *epoch, uint64_t *end_offset);

/* The turns of appends: whoever comes first appends first, however long the preparation of either takes. */
struct partition_turn {
    struct list node;
    struct fiber *waiting; /* or NULL */
};
void partition_turn_take(struct partition *p, struct partition_turn *t);
/* suspends until all earlier ones have ended */
void partition_turn_await(struct partition *p, struct partition_turn *t);
void partition_turn_end(struct partition *p, struct partition_turn *t);

/* Appends a trim to `start_offset` (at most the durable end; more than the start). The turn is the caller's, and
 * room is reserved. */
void partition_trim(struct partition *p, uint64_t start_offset);
/* Whether the active segment holds batches that are not trimmed. */
bool partition_active_in_use(const struct partition *p);
/* Draws the active segment's share of segment.jitter.ms. */
void partition_draw_jitter(struct partition *p);

/* What a batch's sequence numbers say (producer.c). OK with *original_end 0: append it. OK with *original_end > 0:
 * it is a repetition of
 * [original_base, original_end). ERR_INVALID_PRODUCER_EPOCH, ERR_OUT_OF_ORDER_SEQUENCE. */
struct producer_verdict {
    uint64_t original_base, original_end;
    int64_t original_max_timestamp;
    const char *message; /* on errors */
};
enum err producer_check(const struct stream_state *live, const struct batch_header *h,
                        struct producer_verdict *out) WARN_UNUSED;

/* Brings M_PRODUCER_BYTES up to date: after every change to the producers of the live state. */
void partition_count_producers(struct partition *p);

/* Notes that the partition has grown (read.c). */
void partition_mark_note(struct partition *p, uint64_t end_offset, uint64_t bytes);

#endif
