/* Log compaction, the part that is pure: which partitions are worth it and up to where, which records stay, what their
 * batches then look like, which roll points are left. To the rules of Kafka's LogCleaner:
 *
 *   - what is cleaned ends below the active segment, below the first segment that min.compaction.lag.ms protects, and at
 *     the end of what is committed; what lies above stays as it is, byte by byte
 *   - of each key the newest record below that end stays; its offset, timestamp and headers never change
 *   - a tombstone (a null value) that is the newest of its key stays for delete.retention.ms after the first pass that met
 *     it: that pass writes the time at which it may go into its batch (KIP-534: attribute bit 6, and the base timestamp)
 *   - a record without a key goes (compacted topics refuse them; there are some if the policy was changed)
 *   - a batch keeps its base offset and last offset, whatever goes of it, and so its last sequence number; one of which
 *     nothing is left goes, unless it is the last of a producer that is still known, or of the offsets that are rewritten:
 *     then its header stays, without records
 *   - control batches stay as they are: transactions do not exist yet
 *
 * Nothing here suspends, reads a clock or does I/O; a pass is driven by cleaner.h. */
#ifndef OXBOW_PARTITION_CLEAN_H
#define OXBOW_PARTITION_CLEAN_H

#include "base/mutant.h"
#include "kafka/batch.h"
#include "partition/clean_map.h"
#include "partition/topic_config.h"
#include "stream/state.h"

/* ---- what is worth it ---- */

struct clean_choice {
    uint64_t first_dirty; /* all below has been cleaned */
    uint64_t end;         /* what is below may be cleaned: where a segment begins; at least first_dirty */
    uint64_t clean_bytes, dirty_bytes;
    double ratio;       /* dirty bytes among all that may be cleaned; 0 of nothing */
    int64_t overdue_ms; /* by so much something dirty has outstayed max.compaction.lag.ms; 0: nothing has */
};
/* Looks at a committed state. True: by this configuration it is to be cleaned now. */
bool clean_choose(const struct stream_state *s, const struct topic_config *c, int64_t now_ms, struct clean_choice *out);

/* ---- records ---- */

struct clean_counts {
    uint64_t batches, batches_emptied, batches_dropped, batches_rewritten;
    uint64_t records, records_kept, records_without_key, tombstones_kept, tombstones_dropped;
    uint64_t bytes, bytes_kept;
};
void clean_counts_add(struct clean_counts *to, const struct clean_counts *more);

/* The keys of one batch with offsets in [from, to) are put into the map, whose end_offset moves along. *full: there was
 * no room for one; the end is then its offset. ERR_CORRUPT_MESSAGE and friends. */
enum err clean_map_batch(struct clean_map *m, const struct batch_header *h, uint64_t from, uint64_t to, bool *full,
                         struct mem *mem) WARN_UNUSED;
/* The same for the batches of a block. */
enum err clean_map_block(struct clean_map *m, const uint8_t *data, size_t size, uint64_t from, uint64_t to, bool *full,
                         struct mem *mem) WARN_UNUSED;

struct clean_rules {
    const struct clean_map *map;      /* what is at or above its end stays as it is */
    const struct stream_state *state; /* whose producers are still known */
    uint64_t last_end;                /* the batch that ends here keeps at least its header; 0: none */
    int64_t now_ms, delete_retention_ms;
    enum mutant mutant;
};
/* Appends what is left of one batch to *out: its own bytes, a new batch, a header without records, or nothing.
 * *changed: not its own bytes. */
enum err clean_batch(const struct clean_rules *r, const struct batch_header *h, struct buf *out, bool *changed,
                     struct clean_counts *counts) WARN_UNUSED;
/* The same for the batches of a block; *changed is set, never reset. */
enum err clean_block(const struct clean_rules *r, const uint8_t *data, size_t size, struct buf *out, bool *changed,
                     struct clean_counts *counts) WARN_UNUSED;

/* ---- roll points ---- */

/* The roll points below `end` (which is one, or lies behind the last) after a pass that left bytes[i] of the i-th:
 * neighbours that together are no larger than segment_bytes become one. Gives how many are in *out, which the caller
 * frees with `mem`. */
uint32_t clean_segments(const struct stream_state *s, uint64_t end, const uint64_t *bytes, uint64_t segment_bytes,
                        struct mem *mem, struct state_segment **out);

#endif
