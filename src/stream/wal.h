/* The write-ahead log: a ring on a file or a raw block device, an accelerator in front of the ledger. It holds what
 * is not yet in the ledger, of exactly one incarnation.
 * Lives on the log loop.
 *
 * Layout, in sectors of ENV_FILE_ALIGN bytes (little-endian):
 *   0, 1  superblocks, written in turns; the valid one with the higher sequence counts: magic "OXBWWAL1", version,
 *         sequence, generation (the cluster's key prefix), WAL id (16 random bytes), incarnation, trim position, ring
 *         size, initialised bytes, state (1 open, 2 closed in order), owner; crc32c at the end
 *   2     the takeover mark: magic "OXBWMARK", version, the incarnation that is taken over, who takes over, crc32c;
 *         zero when unmarked
 *   3     unused
 *   4...  the ring: logical position p lies at byte 4 sectors + p % ring size
 *
 * Rules:
 *  1. A block that holds acknowledged data is never rewritten: each group begins at a fresh sector and is padded.
 *  2. A group is confirmed once it and every group before it are durable (writes are in flight several at a time and
 *     may end in any order).
 *     Each group says up to where the ring was confirmed when it was written, so that recovery can tell a crash from
 *     damage.
 *  3. Space is reused only after the superblock with the higher trim position is durable: recovery starts at the
 *     trim position and must find the oldest needed group there.
 *  4. Logical positions are never used twice, also not after an error: a WAL that failed continues at a higher
 *     position.
 *  5. Any error of a write means: its outcome is unknown. The WAL reports failed() with all unconfirmed blocks still
 *     owned by the caller, and accepts none until wal_restart.
 *  6. Takeover: the lock (of the operating system) proves the earlier holder dead; or, with `takeover_mark`, the
 *     survivor writes the mark, durably, and only then reads; a holder
 *     reads the mark after a group is durable and before it confirms it. A marked ring is never used again.
 *  7. Where the lock proves nothing a ring is begun anew only when it says that it was closed in order, after which
 *     nothing of its holder is on its way, and by who has claimed its id (wal_claim.h). It says so only if no write of
 *     that holder ever failed. Otherwise an operator makes it new (wal_init), who knows that nobody else writes to it. */
#ifndef OXBOW_STREAM_WAL_H
#define OXBOW_STREAM_WAL_H

#include "stream/block.h"

#define WAL_SUPERBLOCK_SIZE 256u
#define WAL_RING_START (4u * ENV_FILE_ALIGN)

struct wal;

struct wal_superblock {
    uint64_t sequence;
    char generation[40];
    uint8_t wal_id[16];
    struct incarnation incarnation;
    uint64_t trim_position, ring_size, initialised;
    uint64_t owner; /* the id of the broker whose it is, and 1; 0: it does not say (a new one, or of an older version) */
    bool closed;
};
void wal_superblock_encode(const struct wal_superblock *s, uint8_t out[WAL_SUPERBLOCK_SIZE]);
enum err wal_superblock_decode(const uint8_t *data, size_t size, struct wal_superblock *out) WARN_UNUSED;

struct wal_options {
    struct env *env;
    const char *path;    /* a file, a folder (the file "oxbow.wal" in it) or a block device */
    uint64_t size_bytes; /* of a file, which is made if it is not there; 0: what there is */
    bool takeover_mark;
    bool read_only; /* inspect: no lock, no change */
    unsigned depth; /* writes in flight; 0: 4 */
    bool member;    /* of a mirror (wal_mirror.h), which keeps the metrics */
    uint64_t owner; /* for the superblock that a format writes */
    /* On the log loop; must not suspend. Called in order of submission. */
    void (*confirmed)(void *ctx, struct block *b);
    void (*failed)(void *ctx, enum err why);
    void (*full)(void *ctx); /* a block waits for space: trim something. May be NULL */
    void *ctx;
    /* For inspection, or NULL: during a replay, each group that was found, after its records, with how many of these
     * verify. */
    void (*group_found)(void *ctx, const struct group_header *g, uint32_t whole_records);
};
/* Opens and locks; reads the superblock. ERR_LOCKED, ERR_FOREIGN, ERR_VERSION, ... with a sentence in *why. A new or
 * zeroed file is fine: wal_superblock gives NULL. Suspends. */
enum err wal_open(const struct wal_options *o, struct wal **out, const char **why) WARN_UNUSED;
/* ERR_LOCKED, with the sentence of wal_open, if another process holds the lock of the WAL at this path; else OK. Changes
 * nothing. Suspends. */
enum err wal_check_free(struct env *env, const char *path, const char **why) WARN_UNUSED;
/* in_order: everything is trimmed; says so in the superblock. Suspends. */
void wal_close(struct wal *w, bool in_order);
/* Before a close that is not in order: no more writes begin; what is in flight ends; blocks that were not confirmed
 * are moved to `left`. Suspends. */
void wal_abandon(struct wal *w, struct list *left);
const struct wal_superblock *wal_superblock(const struct wal *w); /* NULL: none yet */
/* The path opened, for messages. */
const char *wal_path(const struct wal *w);
bool wal_takes_mark(const struct wal *w); /* as the options said */

/* Takes the ring over by mark: durable when OK. Then the superblock is read again: the holder may have trimmed since
 * wal_open. Suspends. */
enum err wal_mark(struct wal *w, struct incarnation taken, struct incarnation taker) WARN_UNUSED;
/* Reads the superblock again. Who was fenced only after wal_open may have begun the ring anew in between. Suspends. */
enum err wal_look_again(struct wal *w) WARN_UNUSED;
/* The mark, if any. ERR_NOT_FOUND: unmarked. Suspends. */
enum err wal_read_mark(struct wal *w, struct incarnation *taken) WARN_UNUSED;

/* Reads what the superblock's incarnation wrote, from the trim position to the first group or record that does not
 * verify. record() gets each in order; it may suspend; an error ends the walk.
 * Reads ahead in large pieces. Suspends. */
struct wal_found {
    uint64_t groups, records, end_position;
    /* why the place at end_position did not verify: ERR_FOREIGN (no group), ERR_STALE (of an earlier lap or
     * incarnation), ERR_CORRUPT, ... */
    enum err stopped_by;
    bool torn; /* the last group lacked some of its records */
    /* Groups of this incarnation that lie behind the end, not far: writes that overtook the missing one. When one of
     * them says that the place of the end was
     * confirmed before it was written, something was damaged later, and acknowledged records are gone. */
    uint64_t groups_behind, first_behind;
    bool damaged;
};
enum err wal_replay(struct wal *w, enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload),
                    void *ctx, struct wal_found *found) WARN_UNUSED;

/* Begins anew for this incarnation: what was in the ring is given up (the caller has it in the ledger). ERR_FENCED:
 * the ring carries a mark. Suspends. */
enum err wal_format(struct wal *w, const char *generation, struct incarnation incarnation,
                    const uint8_t wal_id[16]) WARN_UNUSED;
/* The same, for a ring in which this very incarnation has written before: at a position behind all of that (wal_head), or
 * what is left of it could be taken for new. */
enum err wal_format_at(struct wal *w, const char *generation, struct incarnation incarnation, const uint8_t wal_id[16],
                       uint64_t position) WARN_UNUSED;
/* Makes a new WAL of a file or device that is empty, or holds a WAL that is given up: superblocks that are closed, of no
 * cluster, with this id, and no mark. For operators: nobody else may have it open, nor write to it later.
 * ERR_EXISTS, unless `force`: it holds a WAL that was not closed in order, whose records may be nowhere else. *why: a
 * sentence. Suspends. */
enum err wal_init(const struct wal_options *o, const uint8_t wal_id[16], bool force, const char **why) WARN_UNUSED;
/* The superblock that it writes. */
struct wal_superblock wal_superblock_new(const uint8_t wal_id[16], uint64_t ring_size);
/* After failed(): tries to use the WAL again, at a higher position; everything before must be in the ledger.
 * Suspends. */
enum err wal_restart(struct wal *w) WARN_UNUSED;
/* Queues a sealed block: it is written as soon as a slot is free. Never suspends. The caller keeps the block alive
 * until confirmed() or failed(). */
void wal_submit(struct wal *w, struct block *b);
/* Everything below `position` (the wal_end of a confirmed block) is in durable ledger entries. Never suspends; takes
 * effect soon. */
void wal_trim(struct wal *w, uint64_t position);
/* After failed(): hands back the blocks that were submitted and not confirmed, oldest first. */
void wal_take_unconfirmed(struct wal *w, struct list *out);
/* No more writes begin; those that wait for space end. The owner knows: failed() is not called. Never suspends. */
void wal_give_up(struct wal *w);
/* Nothing has been written at or above this position. */
uint64_t wal_head(const struct wal *w);
/* When the oldest of what the device has to do was begun, by the monotonic clock; 0: it has nothing to do. */
uint64_t wal_oldest_op_ns(const struct wal *w);
uint64_t wal_used_bytes(const struct wal *w);
uint64_t wal_capacity(const struct wal *w);
bool wal_idle(const struct wal *w); /* nothing submitted that is neither confirmed nor failed */

#endif
