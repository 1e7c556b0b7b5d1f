/* Which ranges of a stream are to become one. Pure. */
#ifndef OXBOW_STREAM_COMPACT_H
#define OXBOW_STREAM_COMPACT_H

#include "stream/sizes.h"
#include "stream/state.h"

struct compact_run { /* ranges [first, first + count) */
    size_t first, count;
    uint64_t bytes;
};
/* The first run to be merged, of the lowest tier that has one (sizes.h), with at most `budget` bytes, which is at
 * least COMPACT_BYTES_MIN. False: there is none. */
bool compact_find_run(const struct state_range *ranges, size_t count, uint64_t budget, struct compact_run *out);

#endif
