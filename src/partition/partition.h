/* One partition as Kafka means it: the checks of Produce, offsets, producer state, segments, retention, timestamps,
 * fetch. Lives on its home loop (a shard); call there.
 *
 * Produce is in two steps, so that a connection's requests overlap: partition_append orders and copies,
 * partition_wait waits until that is durable. The answer
 * to a duplicate of a batch that is still in flight waits for the original, by the same partition_wait. */
#ifndef OXBOW_PARTITION_PARTITION_H
#define OXBOW_PARTITION_PARTITION_H

#include "partition/conversions.h"
#include "partition/topic_config.h"
#include "stream/stream.h"

struct partition;

/* What an open one takes with what it needs elsewhere (slot, stream, committed state, route), about, without what its
 * segments, ranges and producers take: 40, 60 and STATE_PRODUCER_BYTES each. tests/unit/sim/test_memory.c measures it. */
#define PARTITION_BYTES INT64_C(2048)

struct partition_options {
    struct streams *streams;
    struct env *env;
    struct stream_id stream;
    int32_t leader_epoch;
    const struct topic_config *config; /* copied */
    const char *topic;                 /* copied; for log lines */
    int32_t index;
    int64_t producer_id_expiration_ms;
    struct conversions *conversions; /* of this loop; borrowed */
};
/* Suspends. */
enum err partition_open(const struct partition_options *o, struct partition **out) WARN_UNUSED;
/* Waits for reads, appends and partition_wait under way, then closes. Watches are called at once; from then on every
 * call answers ERR_NOT_LEADER. Suspends. */
void partition_close(struct partition *p);
void partition_configure(struct partition *p, const struct topic_config *config);
void partition_set_producer_expiration(struct partition *p, int64_t ms);

struct partition_append_result {
    /* of the batch, or of the original if it is a duplicate; pass end_offset to partition_wait */
    uint64_t base_offset, end_offset;
    int64_t log_append_time_ms; /* -1 unless LogAppendTime */
    uint64_t log_start_offset;
    const char *message; /* for INVALID_RECORD and friends: a literal, or NULL */
    int32_t bad_record;  /* index in the batch of the record at fault, -1: none */
};
/* records: one v2 batch as it came; its bytes are changed in place (base offset, leader epoch, perhaps timestamp).
 * Before version 3 of Produce also a message set, which becomes one batch; an empty one is OK, with base offset -1 and
 * end offset 0. May suspend for room, for memory, or for a worker thread, only before anything is decided: appends by
 * successive callers are ordered as called. On an error nothing was appended; out->message
 * and out->bad_record say more. A repetition of a batch is OK and gives the original's offsets. Transactional
 * batches: ERR_TRANSACTIONAL_ID_AUTHORIZATION. */
enum err partition_append(struct partition *p, uint8_t *records, size_t size, int16_t api_version,
                          struct partition_append_result *out) WARN_UNUSED;
/* For a partition that is a table of the broker's own (stream/state_table.h). An uncompressed batch as batch_builder
 * makes it, without a producer: nothing is checked that only a client gets wrong. Ordered as called; suspends for room.
 * On an error nothing was appended. Otherwise partition_wait(*end_offset). */
enum err partition_append_table(struct partition *p, uint8_t *batch, size_t size, uint64_t *end_offset) WARN_UNUSED;
/* The table as it was when the partition was opened (NULL: empty), once: whoever takes it owns it, and keeps it up to
 * date; the live state does not. */
struct state_table *partition_take_table(struct partition *p);
/* Suspends until everything below end_offset is durable. ERR_UNKNOWN_OUTCOME: it may or may not become so. */
enum err partition_wait(struct partition *p, uint64_t end_offset) WARN_UNUSED;

uint64_t partition_high_watermark(const struct partition *p);
uint64_t partition_log_start_offset(const struct partition *p);
uint64_t partition_last_stable_offset(const struct partition *p); /* = high watermark while there are no transactions */
int32_t partition_leader_epoch(const struct partition *p);
struct stream_id partition_stream(const struct partition *p);

struct partition_fetch {
    uint64_t offset;
    int32_t current_leader_epoch; /* -1: not checked. ERR_FENCED_LEADER_EPOCH, ERR_UNKNOWN_LEADER_EPOCH */
    int32_t last_fetched_epoch;   /* -1: not checked (v12 and later: diverging epoch) */
    size_t max_bytes;
    bool whole_first;  /* return one whole batch even above max_bytes */
    uint64_t until_ns; /* from then on the store is not asked for more once there is something; 0: always */
    bool cached_only;  /* do not suspend for the store: ERR_BUSY if it would have to */
};
struct partition_fetched {
    uint64_t high_watermark, last_stable_offset, log_start_offset;
    int32_t diverging_epoch; /* -1: none */
    uint64_t diverging_end_offset;
    bool old; /* what was read comes from objects: its reader is behind */
};
/* What the topic's configuration says of clients that know only the old formats, or not all codecs. */
bool partition_down_converts(const struct partition *p);
bool partition_is_zstd(const struct partition *p);
/* Appends whole batches to `out`. ERR_OFFSET_OUT_OF_RANGE (fetched is filled also then). May suspend unless
 * cached_only. */
enum err partition_read(struct partition *p, const struct partition_fetch *f, struct partition_fetched *fetched,
                        struct slices *out) WARN_UNUSED;
/* Bytes that are ready at `offset` (below the high watermark), roughly and without I/O: for min.bytes. */
uint64_t partition_ready_bytes(const struct partition *p, uint64_t offset);

/* Whoever waits for the high watermark to pass `offset`, for the log start to pass `start_offset` (set it after the init;
 * else that does not matter), or for the close: `ready` is called once, on the partition's loop, outside any fiber, and
 * the watch is off again. Costs nothing while nothing happens. */
struct partition_watch {
    struct list node;
    uint64_t offset, start_offset;
    void (*ready)(struct partition_watch *w);
};
void partition_watch_init(struct partition_watch *w, void (*ready)(struct partition_watch *w));
void partition_watch_on(struct partition *p, struct partition_watch *w, uint64_t offset);
void partition_watch_off(struct partition_watch *w); /* harmless when off */

/* Kafka protocol: ListOffsets. timestamp >= 0, or -1 latest, -2 earliest, -3 max timestamp, -4 earliest local. Not
 * found: OK with offset -1. Suspends. */
enum err partition_list_offset(struct partition *p, int64_t timestamp, int32_t current_leader_epoch, int64_t *offset,
                               int64_t *found_timestamp, int32_t *leader_epoch) WARN_UNUSED;
/* Kafka protocol: ListOffsets 0. At most `max` offsets where segments begin, falling, of segments not newer than the
 * timestamp; before them the high watermark for the present. -1 latest, -2 earliest. Does not suspend. */
enum err partition_list_segments(struct partition *p, int64_t timestamp, size_t max, int64_t *offsets,
                                 size_t *count) WARN_UNUSED;
/* Applies retention.ms and retention.bytes at wall time now_ms, also to the active segment, and trims when something
 * went; forgets producers that were silent for
 * producer.id.expiration.ms. (segment.ms is applied by the next append, as in Kafka.) Called by the shard's timer.
 * Suspends. */
void partition_retain(struct partition *p, int64_t now_ms);
uint64_t partition_size_bytes(const struct partition *p);
/* A pass of log compaction has ended: what state_apply_cleaned takes. Does not suspend. */
void partition_cleaned(struct partition *p, const struct stream_state *progress);

/* Kafka protocol: DeleteRecords. Moves the log start offset up to `offset`, -1: the high watermark, and suspends until
 * that is durable; what lies below it already stays so. *low_watermark: the log start offset then, -1 on errors.
 * ERR_POLICY_VIOLATION: old records of this topic are compacted, not deleted. ERR_OFFSET_OUT_OF_RANGE: above the high
 * watermark. ERR_UNKNOWN_OUTCOME: they may be gone. */
enum err partition_delete_records(struct partition *p, int64_t offset, int64_t *low_watermark) WARN_UNUSED;

/* Kafka protocol: OffsetForLeaderEpoch. *epoch: the largest known one that is not above `leader_epoch`; its records end
 * below *end_offset. Both -1: not known. ERR_FENCED_LEADER_EPOCH, ERR_UNKNOWN_LEADER_EPOCH. */
enum err partition_epoch_end(const struct partition *p, int32_t current_leader_epoch, int32_t leader_epoch,
                             int32_t *epoch, int64_t *end_offset) WARN_UNUSED;

/* Kafka protocol: DescribeProducers. What is remembered of a producer whose batches are durable. */
struct partition_producer {
    int64_t producer_id;
    int16_t epoch;
    int32_t last_sequence;
    int64_t last_timestamp;
};
/* Sorted by id. The caller frees *out with m. Returns how many there are. */
size_t partition_producers(const struct partition *p, struct mem *m, struct partition_producer **out);

struct partition_counters { /* since open */
    uint64_t bytes_in, bytes_out, batches_in, records_in;
};
const struct partition_counters *partition_counters(const struct partition *p);

#endif
