/* Which ranges of streams are to become one, and how they are read. Pure.
 *
 * By tiers of size (sizes.h): so many adjacent ranges of a stream that are of one tier, with nothing larger between them,
 * become one. That alone would let the runs of neighbours end in different objects, for good: one that has now and then
 * a range of the next tier is an object behind. So a job is chosen by *objects*: the stream whose turn it is says with
 * its run which objects are read; of all others that have about as much in these, their part goes along, whether it is a
 * whole run or half of one, and from then on their runs begin where its run does. Where all of that is more than there
 * is memory for, fewer objects are read, but whole ones, as long as what comes out leaves the tier all the same; else fewer
 * streams. Memory is for all that is read, with what lies between two ranges that come with one GET. */
#ifndef OXBOW_STREAM_COMPACT_H
#define OXBOW_STREAM_COMPACT_H

#include "stream/sizes.h"
#include "stream/state.h"

struct compact_run { /* ranges [first, first + count) */
    size_t first, count;
    uint64_t bytes;
    unsigned tier;
};
/* The first run to be merged, of the lowest tier that has one, with at most `budget` bytes, which is at least
 * COMPACT_BYTES_MIN. False: there is none. */
bool compact_find_run(const struct state_range *ranges, size_t count, uint64_t budget, struct compact_run *out);
/* There is half a run of some tier: enough to go along with a neighbour's. */
bool compact_may_join(const struct state_range *ranges, size_t count, uint64_t budget);
/* Bytes that lie where there is a whole run, once for each tier of which there is one: about what merging all of it
 * writes. */
uint64_t compact_debt(const struct state_range *ranges, size_t count);

struct compact_stream {
    struct stream_id id;
    const struct state_range *ranges;
    size_t count;
};
struct compact_pick {
    size_t stream; /* its index */
    struct compact_run run;
};
/* What one job merges, of streams in the order of their ids: the turn is that of the first behind `last` with a whole
 * run of the highest tier of which there is one, and round; `last` is then the last one that was taken. picks: room for `count`, each stream at most once, in the
 * order in which they are to be written: first what is to be merged again, then what is large for good, by ids. Returns
 * how many; 0: none has a whole run. */
size_t compact_choose(struct mem *m, const struct compact_stream *streams, size_t count, struct stream_id *last,
                      uint64_t budget, struct compact_pick *picks);

/* Object, then position in it; as qsort has it. */
int compact_by_place(const struct state_range *a, const struct state_range *b);
/* What one GET reads. Takes the range in, which lies behind it, if that is worth it: what lies between, and is read in
 * vain, is little, or no more than what is wanted; and no more than *vain, from which it is taken. */
struct compact_span {
    struct object_id object;
    uint64_t position, size;
};
bool compact_span_join(struct compact_span *x, const struct state_range *r, uint64_t *vain);

struct compact_wanted {
    const struct state_range *range;
    size_t by; /* who wants it */
};
/* By object and position: as they are read. */
void compact_wanted_sort(struct compact_wanted *wanted, size_t count);
/* All that is read for those who are below `limit`, with what lies between, if there is memory for that. */
uint64_t compact_wanted_bytes(const struct compact_wanted *wanted, size_t count, size_t limit);
/* Where `by` is the object that a range lies in: fits[by] says whether there is memory for all of it that is wanted, with
 * what lies between, beside those in front of it. The first always has: alone it is read without what lies between, where
 * that is too much. Sorted. */
void compact_objects_fit(const struct compact_wanted *wanted, size_t count, uint64_t budget, bool *fits);

#endif
