/* The block cache of one shard: blocks of objects (and indexes of pieces) that were read back, and the way they come in.
 *
 * What it promises to readers at different places, of whom there may be many:
 *
 * - *Memory.* What it holds, and the GETs that are under way for it, are within limit_bytes. One GET alone may be larger,
 *   when nothing else is held. What answers still hold of blocks that the cache has let go of (they are *lent*) is
 *   counted too: above lent_bytes an answer gets one block (read_cache_crowded).
 * - *GETs.* One is under way per block, whoever wants it; no more than gets_max at once; neighbours in an object are
 *   fetched together. Who waits for a GET is served in the order of asking, read-ahead after that.
 * - *Read-ahead.* All of it, on its way or not yet used, is within ahead_bytes; each reader's window is at most its share.
 * - *Nobody starves.* A block that is asked for is never refused, whatever the budgets say: it waits in line for room,
 *   and the first in line has room as soon as nothing is under way.
 * - *Scans.* Blocks that one reader has used go first. Those that several readers have used, or that were wanted again
 *   soon after they went, are kept longer (S3-FIFO: a small queue, a main one, and a memory of what has gone).
 *
 * Lives on its shard's loop; the slices that it gives out go anywhere. */
#ifndef OXBOW_STREAM_READ_CACHE_H
#define OXBOW_STREAM_READ_CACHE_H

#include "base/slice.h"
#include "store/store.h"
#include "stream/object.h"

struct read_cache_options {
    struct env *env;
    struct store *store;
    const char *generation;
    uint64_t limit_bytes; /* held and under way */
    uint64_t ahead_bytes; /* of that: read ahead, not yet used; at most half */
    uint64_t lent_bytes;  /* beside it: let go of, and still being sent */
    unsigned gets_max;    /* at least 1 */
};

struct read_cache;
struct read_cache *read_cache_create(const struct read_cache_options *o);
void read_cache_destroy(struct read_cache *c); /* no reader is inside; suspends until no GET is under way */

/* A name for one reader, who goes on from where it was; it tells a scan from several readers. Never 0. */
uint64_t read_cache_reader(struct read_cache *c);
/* What one reader may have read ahead for it now. *seen: the reader's own, 0 at first; readers are counted by it. */
size_t read_cache_share(struct read_cache *c, uint64_t *seen);
/* Answers should end with the block they have. */
bool read_cache_crowded(const struct read_cache *c);

/* The piece's block index, decoded: `blocks` borrows the cache's memory as long as `hold` is referenced.
 * window_bytes: of the piece's first blocks, to come in the same GET, as far as the budget goes. Suspends.
 * ERR_NOT_FOUND: the object is gone. */
enum err read_cache_index(struct read_cache *c, const struct state_range *piece, size_t window_bytes,
                          const struct object_block **blocks, struct slice *hold) WARN_UNUSED;
/* Block `index` of the piece, verified; *out is the caller's reference. If it has to be fetched, then with up to
 * `window_bytes` of it and the blocks behind it in the same GET. Suspends. */
enum err read_cache_block(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                          uint32_t index, size_t window_bytes, uint64_t reader, struct slice *out) WARN_UNUSED;
/* Sees to it that `window_bytes` from block `index` on are there or on their way; what is less than `worth_bytes` of them
 * is left for later. Gives what is left of the window at the end of the piece; 0 when it ends before. Does not suspend. */
size_t read_cache_prefetch(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                           uint32_t index, size_t window_bytes, size_t worth_bytes);
/* The same for a piece that comes later: its index, and once that is known its blocks. Does not suspend. */
size_t read_cache_prefetch_piece(struct read_cache *c, const struct state_range *piece, size_t window_bytes,
                                 size_t worth_bytes);
/* In the cache already? */
bool read_cache_has(const struct read_cache *c, const struct state_range *piece, const struct object_block *block);
bool read_cache_has_index(const struct read_cache *c, const struct state_range *piece);

/* For tests: bytes held, under way, read ahead and lent. */
struct read_cache_use {
    uint64_t held_bytes, under_way_bytes, ahead_bytes, lent_bytes;
    unsigned gets;
};
struct read_cache_use read_cache_use(const struct read_cache *c);

#endif
