/* Streams over a WAL and a ledger: what a partition's records are written to and read from. One `struct streams` per
 * broker incarnation; one `struct stream` per open partition.
 *
 *   append -> copied once into the shard's open commit block -> WAL group durable (or ledger entry durable)
 *                                                        \        -> durable_end moves
 *                                                         \-> later: ledger entry (stream set object) -> WAL trim
 *
 * A stream lives on one loop (its home, a shard); its functions are called there. WAL, ledger and upload live on the
 * log loop, which may be the same loop. Order is one per stream: offsets = WAL = cache = ledger. Nothing is
 * acknowledged or shown before durable_end has passed it. */
#ifndef OXBOW_STREAM_STREAM_H
#define OXBOW_STREAM_STREAM_H

#include "base/slice.h"
#include "store/store.h"
#include "stream/ids.h"
#include "stream/state.h"

struct streams;
struct stream;

/* What confirms a stream's records: the WAL (where there is one), or the object store. */
enum stream_durability { STREAM_DURABILITY_WAL, STREAM_DURABILITY_OBJECT };

enum stream_record_type { STREAM_BATCH = 1, STREAM_TRIM = 2 };
enum stream_record_flags {
    STREAM_RECORD_ROLLS = 1, /* a new segment begins with this batch */
    STREAM_RECORD_TABLE = 2 /* an uncompressed batch of key/value records: part of the stream's table (state_table.h) */
};

/* One member of a mirrored WAL: a ring, as wal_path and what follows it in streams_options; or an object log in another
 * store. */
struct stream_wal_member {
    const char *path; /* objects: the store's URL, as open_store takes it */
    bool objects;
    uint64_t size_bytes;
    bool takeover_mark;
};

struct streams_options {
    struct env *env;
    struct store *store;
    const char *generation; /* key prefix */
    struct incarnation incarnation;
    int32_t broker_id; /* 0 or more: a mirrored WAL leaves the rings of other brokers alone */
    /* file, folder (then "<folder>/oxbow.wal") or block device; NULL: no WAL, the ledger confirms everything */
    const char *wal_path;
    uint64_t wal_size_bytes; /* of a file; ignored for a block device */
    /* several machines may reach it, and none can be shut out: the takeover mark is read after each group commit, and a
     * ring is begun anew only by who has claimed it (wal_claim.h); else the lock is proof enough */
    bool wal_takeover_mark;
    /* In place of wal_path: a mirror of these, at most WAL_MEMBERS_MAX; 0: none. All of them confirm. */
    const struct stream_wal_member *wal_members;
    unsigned wal_member_count;
    uint32_t wal_mirror_timeout_ms; /* a member whose device takes longer for one request is lost */
    /* Opens the store of a member that is an object log; why: a sentence. NULL: there is none. On the log loop; suspends. */
    enum err (*open_store)(void *ctx, const char *url, struct store **out, char *why, size_t why_size);
    void *open_ctx;
    bool wal_mirror_stops; /* when one is lost, the ledger confirms until all are there; else the others do */
    uint64_t cache_log_bytes, cache_block_bytes;
    /* Of cache_block_bytes, for what is read ahead and not yet used, at most half (0: that); and as much again, beside the
     * cache, for what it has let go of while answers hold it. */
    uint64_t read_ahead_bytes;
    unsigned read_gets_max;      /* GETs for readers under way at once; 0: 16 */
    uint64_t compact_bytes;      /* memory of compaction, while it works; at least COMPACT_BYTES_MIN (sizes.h) */
    uint64_t upload_bytes;       /* upload once this much waits */
    uint32_t upload_interval_ms; /* or once the oldest has waited this long */
    uint32_t upload_wal_percent; /* or once the WAL is that full; 0: 50 */
    /* What the ledger confirms goes there at once when nothing is on its way, else in groups. Larger than 0: at most
     * one group in so many ms, unless there is much; for fewer requests, at the price of latency. */
    uint32_t object_flush_interval_ms;
    uint32_t checkpoint_entries; /* a checkpoint after so many ledger entries */
    /* or once the oldest entry since the last one is that old; 0: never for that reason */
    uint32_t checkpoint_interval_ms;
    int64_t producer_expiration_ms; /* producers not seen for so long are forgotten */
    struct loop **shards;           /* homes of streams */
    unsigned shard_count;
    struct loop *log_loop;
    /* Called on the log loop when this incarnation has been overtaken or an assertion of safety failed: the process
     * must stop. */
    void (*fatal)(void *ctx, enum err why, const char *what);
    void *ctx;
};

/* Before an incarnation is taken, which ends the one before it: ERR_LOCKED if another process on this machine uses the
 * WAL that these options name, ERR_NOT_FOUND if several machines may reach it and it has no id yet, else OK. `env`,
 * `store` and the WAL's options are looked at. Changes nothing. Suspends. */
enum err streams_check_wal(const struct streams_options *o, const char **why) WARN_UNUSED;
/* Suspends; on the log loop. Opens and locks the WAL (not yet formatted) and begins an empty ledger. *why: a
 * sentence for the operator. */
enum err streams_open(const struct streams_options *o, struct streams **out, const char **why) WARN_UNUSED;
/* Recovers a dead incarnation (perhaps 0 times, perhaps several): fences its ledger, replays it, takes the WAL over
 * if it is that incarnation's, and carries everything into our own ledger, for
 * the streams that `is_current` knows (with the epoch its records must carry). OK: all of it is in durable entries
 * of our ledger; *state_entry names the checkpoint. The caller then commits that to
 * the cluster log. Suspends; on the log loop. */
enum err streams_recover(struct streams *s, struct incarnation dead,
                         bool (*is_current)(void *ctx, struct stream_id id, int32_t *epoch), void *ctx,
                         uint64_t *state_entry, const char **why) WARN_UNUSED;
/* After the recoveries have been committed: formats the WAL for this incarnation and begins to take appends; without a
 * WAL, and says so, where it is one that this start may not write to (wal.h, rule 7). Suspends; on the log loop. */
enum err streams_start(struct streams *s, const char **why) WARN_UNUSED;
/* In the background once started: deletes what earlier incarnations left and nothing refers to; on a store that is not
 * exclusive not their fences. All of them must be dead and recovered by this incarnation, which is alone. `oldest` = the
 * oldest incarnation that has records left afterwards. After a failure it may be called again: it begins anew. Suspends;
 * on the log loop. */
enum err streams_sweep(struct streams *s, struct incarnation *oldest) WARN_UNUSED;
/* Changes options.producer_expiration_ms: from the next checkpoint on. On the log loop; does not suspend. */
void streams_set_producer_expiration(struct streams *s, int64_t ms);
/* The stop begins; streams may still be open. From now on a store that does nothing for ten seconds is given up: who
 * waits for it, to append, to close a stream, is told ERR_CLOSED. On the log loop; does not suspend. */
void streams_stopping(struct streams *s);
/* Orderly stop: no more appends come; uploads everything, writes a checkpoint, closes. Suspends; on the log loop.
 * All streams must be closed. */
void streams_close(struct streams *s);

/* Which of the shards is a stream's home: the only one it may be opened on. */
unsigned stream_home(struct stream_id id, unsigned shard_count);
/* Opens a stream on the current loop (its home). live: uninitialised; receives a copy of the committed state,
 * without ranges. A stream without state begins empty at 0.
 * ERR_GAP: recovery found a hole in this stream: it is refused. durable(): called on the home loop outside any fiber
 * whenever durable_end has moved. Suspends. */
enum err stream_open(struct streams *s, struct stream_id id, int32_t epoch, void (*durable)(void *ctx), void *ctx,
                     struct stream_state *live, struct stream **out) WARN_UNUSED;
void stream_close(struct stream *s); /* reads must be over */
/* The stream's topic is deleted, durably, in the cluster log: forget its state and free its objects. On any loop;
 * suspends. */
void streams_drop(struct streams *s, struct stream_id id);

/* From the next append on; that waits until everything before it is in the ledger, so that a stream's records have one
 * order. A stream begins with STREAM_DURABILITY_WAL. Does not suspend. */
void stream_set_durability(struct stream *s, enum stream_durability durability);

struct stream_record {
    enum stream_record_type type;
    unsigned flags;
    uint64_t base_offset, end_offset; /* TRIM: both are the new log start offset */
    int64_t max_timestamp;
    /* A BATCH's bytes, base offset and leader epoch already patched in; borrowed until the call returns. payload_crc
     * = crc32c(0, payload). */
    const uint8_t *payload;
    size_t payload_size;
    uint32_t payload_crc;
};
/* Suspends until an append of `size` bytes will find room (first come, first served): back-pressure. On OK the room
 * is the caller's until its next suspension.
 * ERR_CLOSED: the engine is stopping. ERR_TOO_LARGE: will never fit. */
enum err stream_reserve(struct stream *s, size_t size) WARN_UNUSED;
/* Appends; never suspends; needs room from stream_reserve. base_offset continues the stream. */
void stream_append(struct stream *s, const struct stream_record *r);
/* Suspends until durable_end >= end_offset (OK). ERR_FENCED, ERR_CLOSED: it is not known whether the records will be
 * there later. */
enum err stream_wait_durable(struct stream *s, uint64_t end_offset) WARN_UNUSED;

/* The same for a trim: until durable_start >= start_offset, for which an appended trim has asked. */
enum err stream_wait_start(struct stream *s, uint64_t start_offset) WARN_UNUSED;

uint64_t stream_appended_end(const struct stream *s);
uint64_t stream_durable_end(const struct stream *s); /* = high watermark */
/* The log start offset that is durable (shown to clients); trims move it once durable. */
uint64_t stream_durable_start(const struct stream *s);

/* until_ns: from then on nothing more is asked of the store once there is something: slow reads of many small objects
 * come in parts. UINT64_MAX: all that fits. Reads whole batches from the one that holds `offset` on, of those wholly below `limit` (<= durable_end), until
 * max_bytes would be passed; the first batch comes whatever its
 * size when `whole_first`. Appends slices to out (one batch or a run of batches each). An offset == limit gives
 * nothing. ERR_OFFSET_OUT_OF_RANGE. Suspends when it has to go to the store
 * (`cached_only`: stops there instead, with what it has; ERR_BUSY if that is nothing), and between parts of what is
 * much. */
enum err stream_read(struct stream *s, uint64_t offset, uint64_t limit, size_t max_bytes, bool whole_first,
                     bool cached_only, uint64_t until_ns, struct slices *out) WARN_UNUSED;
/* Is what `offset` begins with in the log cache? */
bool stream_is_fresh(const struct stream *s, uint64_t offset);
/* The first batch at or above `from` and wholly below `limit` whose max timestamp is >= timestamp; ERR_NOT_FOUND.
 * Suspends. */
enum err stream_find_timestamp(struct stream *s, uint64_t from, uint64_t limit, int64_t timestamp,
                               struct slice *batch) WARN_UNUSED;
/* Bytes of the stream in objects and cache, for log dirs and metrics. */
uint64_t stream_size_bytes(const struct stream *s);

#endif
