/* One pass of log compaction over one partition: reads what is dirty and remembers the newest offset of each key
 * (clean_map.h), then reads everything from the log start on and replaces what of it has changed (clean.h,
 * stream/replace.h), run by run; at last it says how far it has come, which is part of the partition's state. A pass that
 * is cut short anywhere has left whole runs, old or new, and is done again.
 *
 * Memory: the map, for as long as a pass takes, and a run of at most CLEAN_RUN_BYTES with what is left of it; ranges that
 * are larger are written in objects of REPLACE_OBJECT_BYTES. On the log loop; batches are unpacked on worker threads. */
#ifndef OXBOW_PARTITION_CLEANER_H
#define OXBOW_PARTITION_CLEANER_H

#include "partition/clean.h"
#include "stream/replace.h"

struct cleaner_options {
    struct env *env;
    struct streams *streams;
    struct stream_id stream;
    const struct topic_config *config; /* borrowed until the call returns */
    uint64_t map_bytes;                /* log.cleaner.dedupe.buffer.size */
    unsigned map_load;                 /* log.cleaner.io.buffer.load.factor, in percent */
    /* Called after each request to the store with the bytes moved since the last call; may suspend. False: no more is
     * wanted, the call ends with ERR_CANCELLED. */
    bool (*go_on)(void *ctx, uint64_t bytes);
    void *ctx;
};

struct cleaner_result {
    struct clean_choice choice; /* what was found at the beginning */
    uint64_t clean_offset;      /* all below has been cleaned now */
    uint64_t keys, map_bytes, io_bytes;
    uint32_t runs, runs_replaced;
    bool map_full; /* there is more: another pass goes on from clean_offset */
    struct clean_counts counts;
    struct stream_state progress; /* the delta by which the committed state has changed, for live ones */
};

/* Suspends. ERR_NOT_FOUND: there is nothing to clean now. ERR_CANCELLED, ERR_CLOSED, ERR_STALE (deleted meanwhile), and
 * what the store says. ERR_CORRUPT and friends: it can never be cleaned. out is always to be deinitialised. */
enum err cleaner_run(const struct cleaner_options *o, struct cleaner_result *out) WARN_UNUSED;
void cleaner_result_deinit(struct cleaner_result *r);

#endif
