/* Committed ranges of a stream written anew: for log compaction, which knows what has to stay; this file knows where it
 * lies and how it is replaced.
 *
 * What is written are batches in the order of their offsets, which they keep; batches may be missing, so there are gaps.
 * First the new data objects are durable, then one ledger entry says that they take the place of the old ranges, if
 * these still line up: a crash leaves the old or the new, and readers who find an old object gone look again. An object
 * that no entry came to name is deleted, by us or by the sweep of a later start.
 *
 * Everything on the log loop. While a `struct replace` exists nobody else rewrites ranges of that stream
 * (ledger_stream.replacing); appends, trims and the deletion of its topic go on. It must be ended before the engine is
 * closed. */
#ifndef OXBOW_STREAM_REPLACE_H
#define OXBOW_STREAM_REPLACE_H

#include "stream/stream.h"

struct replace;

/* Calls look() with the committed state of a stream that may be rewritten. False, and no call: there is none. Does not
 * suspend. */
bool streams_look(struct streams *s, struct stream_id id, void (*look)(void *ctx, const struct stream_state *committed),
                  void *ctx);

/* ERR_NOT_FOUND: dropped, refused by recovery, or never written. ERR_BUSY: somebody else rewrites its ranges. ERR_CLOSED.
 * Does not suspend. */
enum err replace_begin(struct streams *s, struct stream_id id, struct replace **out) WARN_UNUSED;
/* Ends it; what was written and not committed is given up. Does not suspend. */
void replace_end(struct replace *r);

/* The committed state as it was at the beginning, without its table. */
const struct stream_state *replace_state(const struct replace *r);
/* How many bytes were read from the store and written to it, so far. */
uint64_t replace_io_bytes(const struct replace *r);

/* Reads range `index` of replace_state(), block by block, those that hold offsets in [from, to), and gives each to
 * block(), which may suspend; an error of its ends the reading. A block's checksum has been verified. Suspends.
 * ERR_STALE: the records have been deleted meanwhile. ERR_CANCELLED: the engine is closing. */
enum err replace_read(struct replace *r, uint32_t index, uint64_t from, uint64_t to,
                      enum err (*block)(void *ctx, struct slice block), void *ctx) WARN_UNUSED;

/* A run: what will take the place of the `count` ranges of replace_state() from `first` on. */
void replace_run_begin(struct replace *r, uint32_t first, uint32_t count);
/* More of it: batches, one after the other, behind those before. Takes the reference. Suspends when enough has come for
 * an object. */
enum err replace_run_add(struct replace *r, struct slice batches) WARN_UNUSED;
/* The last batch that was added ends where the last of the ranges does. Suspends. OK: it is durable, and so the ranges
 * are replaced, but for what was trimmed meanwhile. Otherwise nothing is. */
enum err replace_run_commit(struct replace *r) WARN_UNUSED;
/* Forgets it. Always after run_begin, but for a run_commit that was OK. */
void replace_run_drop(struct replace *r);

/* Log compaction has been over all below clean_offset, and these roll points are left below the segment that holds it
 * (none: as they are). One ledger entry; suspends. */
enum err replace_progress(struct replace *r, uint64_t clean_offset, const struct state_segment *segments,
                          uint32_t count) WARN_UNUSED;

#endif
