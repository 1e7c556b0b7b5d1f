/* A partition's state: what its records up to some offset amount to, without the records. Plain data and pure
 * functions; no I/O, no clock.
 *
 * The same functions serve three holders: the partition's live state (ahead: it includes what is appended and not
 * yet durable), the ledger's committed
 * state (what the durable entries say), and a *delta*: the state of one section [first, end) of batches alone. State
 * is a monoid:
 *     state_merge(state up to a, delta of [a, b)) == state up to b
 * so a ledger entry carries the delta of its own batches, computed from them and never from live memory, and replay
 * is redo, not re-validation. */
#ifndef OXBOW_STREAM_STATE_H
#define OXBOW_STREAM_STATE_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/map.h"
#include "stream/ids.h"
#include "stream/state_table.h"

/* One contiguous piece of the partition in an object: at `position` lies the block index, the blocks follow
 * (stream/object.h). */
struct state_range {
    struct object_id object;
    uint64_t first_offset, end_offset; /* [first, end) */
    int64_t max_timestamp;
    uint64_t position, size_bytes; /* index and blocks together */
    uint32_t block_count;
};

/* One batch as the state sees it; all from the batch's own header and the WAL record's flags. */
struct state_batch {
    uint64_t base_offset, end_offset; /* end = base + lastOffsetDelta + 1 */
    int64_t first_timestamp, max_timestamp;
    uint32_t size_bytes;
    int32_t leader_epoch;
    int64_t producer_id; /* -1: none */
    int16_t producer_epoch;
    int32_t first_sequence, last_sequence; /* wraps from INT32_MAX to 0 */
    bool rolls;                            /* a new segment begins with this batch */
};

#define STATE_PRODUCER_BATCHES 5 /* as Kafka: what a retry may still repeat */
struct state_producer {
    int64_t producer_id;
    int16_t epoch;
    uint8_t count; /* of batches, the newest last */
    /* of the newest batch, or when the ledger saw it if that is later: for producer.id.expiration.ms */
    int64_t last_timestamp;
    struct {
        int32_t first_sequence, last_sequence;
        uint64_t base_offset, end_offset;
        int64_t max_timestamp;
    } batches[STATE_PRODUCER_BATCHES];
};

/* What one producer takes in a partition, about, maps included: once in the live state and once in the committed one
 * (tests/unit/broker/test_units.c measures it). */
#define STATE_PRODUCER_BYTES ((size_t)640)

/* A virtual roll point: Kafka's segment without the file. */
struct state_segment {
    uint64_t base_offset;
    uint64_t size_bytes;
    int64_t first_timestamp, max_timestamp; /* INT64_MIN: no batch yet */
};

struct state_epoch { /* leader epoch history */
    int32_t leader_epoch;
    uint64_t start_offset;
};

/* Small on purpose: there may be 100,000 of them in a broker, most of them all but empty. */
struct stream_state {
    struct mem *mem;
    bool delta;             /* of a section: first_offset is where it begins; else 0 is where all begins */
    bool continues_segment; /* delta: segments[0] continues the last one of what it is merged into */
    uint32_t segment_count, segment_capacity;
    uint32_t epoch_count, epoch_capacity;
    uint32_t range_count, range_capacity;
    uint64_t first_offset;          /* delta: where the section begins */
    uint64_t start_offset;          /* log start offset; delta: 0 if untouched */
    uint64_t end_offset;            /* log end offset */
    uint64_t clean_offset;          /* log compaction has been over all below it; only ever rises */
    struct state_segment *segments; /* the last one is active */
    struct state_epoch *epochs;
    /* contiguous from <= start_offset to the end of what is in objects; not kept in live states */
    struct state_range *ranges;
    struct map64 producers;    /* producer id + 1 -> struct state_producer *; no memory of its own while empty */
    struct state_table *table; /* newest value of each key, where batches are a table's; NULL: empty */
};

void state_init(struct stream_state *s, struct mem *m);
void state_init_delta(struct stream_state *s, struct mem *m, uint64_t first_offset);
void state_deinit(struct stream_state *s);
void state_copy(struct stream_state *to, const struct stream_state *from, struct mem *m); /* to: uninitialised */

/* Asserts base_offset == end_offset: the caller has checked. */
void state_apply_batch(struct stream_state *s, const struct state_batch *b);
/* The records of one batch whose WAL record has STREAM_RECORD_TABLE: what state_apply_batch does not see. Errors of
 * state_table_apply. */
enum err state_apply_table(struct stream_state *s, const uint8_t *batch, size_t size) WARN_UNUSED;
/* Moves the log start offset up (never down, never above end_offset for a whole state); forgets segments, epochs and
 * ranges wholly below it (the newest
 * epoch at or below the start stays, with its start offset raised). */
void state_apply_trim(struct stream_state *s, uint64_t start_offset);
/* ERR_GAP: the delta does not begin at s->end_offset; s is then unchanged. Ranges of the delta are appended too
 * (they must be contiguous with those before: ERR_GAP). */
enum err state_merge(struct stream_state *s, const struct stream_state *delta) WARN_UNUSED;
void state_add_range(struct stream_state *s, const struct state_range *r);
/* Replaces the consecutive ranges that cover exactly [r->first_offset, r->end_offset) (or their remainder above
 * start_offset) by r. ERR_STALE when they do not line up. */
enum err state_replace_ranges(struct stream_state *s, const struct state_range *r) WARN_UNUSED;
/* The same by several: r[0..count), each beginning where the one before ends, replace together what covers exactly their
 * offsets. Those that turn out to lie below start_offset are left out. */
enum err state_replace_run(struct stream_state *s, const struct state_range *r, uint32_t count) WARN_UNUSED;
/* What a pass of log compaction came to: a delta with its clean_offset, and with roll points that take the place of all
 * that lie below the segment which holds that offset (none: those stay). ERR_STALE, and nothing has changed: that is
 * above the end. */
enum err state_apply_cleaned(struct stream_state *s, const struct stream_state *delta) WARN_UNUSED;
/* Forgets producers that were silent for producer.id.expiration.ms. last_timestamp alone cannot tell: it is what the
 * producer chose (one that replays old data would be forgotten while it works) or what some wall clock showed, and wall
 * clocks jump. So a producer goes only when that long ago, by this process's monotonic clock, (1) the wall clock had
 * passed its last_timestamp already, and (2) its last batch was there. Before the first look the clocks are taken to
 * have gone together, and the wall clock to be no further than the newest producer: another machine's clock may have
 * been right. All of it errs towards keeping, by at most twice the time.
 *
 * Each holder of a state keeps a struct state_expiry beside it, zeroed at first: the first call of either is the first
 * look. now_ns is not 0. */
struct state_expiry {
    struct state_expiry_mark {
        uint64_t at_ns; /* 0: not looked yet */
        int64_t wall_ms;
        uint64_t end_offset;
    } old, next; /* `old` was taken at least the expiration before `next` */
};
void state_expiry_begin(const struct stream_state *s, struct state_expiry *x, uint64_t now_ns, int64_t wall_ms);
void state_expire_producers(struct stream_state *s, struct state_expiry *x, int64_t expiration_ms, uint64_t now_ns,
                            int64_t wall_ms);

struct state_producer *state_producer_get(const struct stream_state *s, int64_t producer_id); /* or NULL */
/* First range whose end_offset is above the offset; NULL if none. */
const struct state_range *state_range_find(const struct stream_state *s, uint64_t offset);
/* Kafka protocol: OffsetForLeaderEpoch, and the epoch of an offset; -1 when unknown. */
int32_t state_epoch_of(const struct stream_state *s, uint64_t offset);
/* End offset of the largest epoch <= leader_epoch; *found_epoch = that one, or -1 and UINT64_MAX when there is none. */
uint64_t state_epoch_end(const struct stream_state *s, int32_t leader_epoch, int32_t *found_epoch);

/* Self-describing, versioned, little-endian; the essay is in state.c. The caller frames it with a length and a
 * checksum. Encoding is canonical: equal states give equal bytes
 * (producers sorted by id). */
void state_encode(const struct stream_state *s, struct buf *out);
/* s: uninitialised; on error nothing is left to free. ERR_TRUNCATED, ERR_CORRUPT, ERR_VERSION. Counts are never
 * trusted. */
enum err state_decode(struct stream_state *s, struct mem *m, struct reader *r) WARN_UNUSED;

#endif
