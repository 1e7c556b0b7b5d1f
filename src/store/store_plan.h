/* How an object is composed: the parts that a caller has, as the requests that a store's rules allow. Pure; any thread. */
#ifndef OXBOW_STORE_STORE_PLAN_H
#define OXBOW_STORE_STORE_PLAN_H

#include "store/store.h"

struct store_plan {
    struct mem *mem;
    struct store_piece *pieces; /* data points into `slices` */
    size_t piece_count;
    struct slice *slices; /* all that is in memory, in order; borrowed from the parts */
    size_t slice_count;
    uint64_t copied_bytes, memory_bytes;
};

/* By the rules of `s` (part_bytes, part_least). ERR_INVALID: a key or a range that cannot be; ERR_TOO_LARGE;
 * ERR_UNSUPPORTED: a part is too small where it is, or there are too many. out: store_plan_deinit after OK. */
enum err store_plan_make(const struct store *s, const struct store_part *parts, size_t count,
                         struct store_plan *out) WARN_UNUSED;
/* Bytes in memory alone, in pieces of that size but for the last. */
void store_plan_of_bytes(struct mem *m, const struct slice *data, size_t count, uint64_t piece_bytes,
                         struct store_plan *out);
void store_plan_deinit(struct store_plan *p);

#endif
