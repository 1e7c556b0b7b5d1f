/* A histogram of durations in microseconds, log-linear as HdrHistogram's: values below 64 are counted exactly, and each
 * power of two above is cut into 64 equal parts, so that what is read back is at most 1/64 too high. Fixed size, no
 * allocation; a value of 2^31 µs (36 minutes) or more is counted in the last part, but kept in `max`. */
#ifndef OXBOW_CLI_BENCH_HISTOGRAM_H
#define OXBOW_CLI_BENCH_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_PART_BITS 6
#define HISTOGRAM_TOP_BITS 31
#define HISTOGRAM_BUCKETS ((size_t)(HISTOGRAM_TOP_BITS - HISTOGRAM_PART_BITS + 1) << HISTOGRAM_PART_BITS)

struct histogram {
    uint64_t count, sum, min, max; /* min means nothing while count is 0 */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *h);
/* `times` values of so many microseconds. */
void histogram_add(struct histogram *h, uint64_t us, uint64_t times);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The smallest value that `percent` of all values do not exceed, rounded up to the end of its part, at most `max`; 0
 * when nothing was counted. percent: 0 to 100. */
uint64_t histogram_percentile(const struct histogram *h, double percent);
uint64_t histogram_mean(const struct histogram *h);

/* For tests: the part that a value belongs to, and the largest value of a part. */
size_t histogram_bucket(uint64_t us);
uint64_t histogram_bucket_end(size_t bucket);

#endif
