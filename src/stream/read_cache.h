/* The block cache of one shard: blocks of objects (and piece indexes) that were read back, least recently used first
 * out. One GET is in flight per block, whoever wants it. Keeps what
 * several readers use: a hit does not remove. Lives on its shard's loop. */
#ifndef OXBOW_STREAM_READ_CACHE_H
#define OXBOW_STREAM_READ_CACHE_H

#include "base/slice.h"
#include "store/store.h"
#include "stream/object.h"

struct read_cache;
struct read_cache *read_cache_create(struct env *env, struct store *store, const char *generation,
                                     uint64_t limit_bytes);
void read_cache_destroy(struct read_cache *c); /* nothing under way */

/* The piece's block index, decoded: `blocks` borrows the cache's memory as long as `hold` is referenced. Suspends.
 * ERR_NOT_FOUND: the object is gone. */
enum err read_cache_index(struct read_cache *c, const struct state_range *piece, const struct object_block **blocks,
                          struct slice *hold) WARN_UNUSED;
/* Block `index` of the piece, verified; *out is the caller's reference. Reads up to `window_bytes` of the blocks
 * behind it in the same GET. Suspends. */
enum err read_cache_block(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                          uint32_t index, size_t window_bytes, struct slice *out) WARN_UNUSED;
/* Starts reading blocks from `index` on in the background, unless they are there or on their way. */
void read_cache_prefetch(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                         uint32_t index, size_t window_bytes);
/* In the cache already? */
bool read_cache_has(const struct read_cache *c, const struct state_range *piece, const struct object_block *block);
bool read_cache_has_index(const struct read_cache *c, const struct state_range *piece);

#endif
