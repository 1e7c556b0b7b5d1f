#include "cli/bench_histogram.h"

#include <string.h>

#include "base/assert.h"

#define PARTS ((uint64_t)1 << HISTOGRAM_PART_BITS)

size_t histogram_bucket(uint64_t us) {
    if (us >> HISTOGRAM_TOP_BITS) return HISTOGRAM_BUCKETS - 1;
    if (us < PARTS) return (size_t)us;
    unsigned shift = 63u - (unsigned)__builtin_clzll(us) - HISTOGRAM_PART_BITS;
    return (size_t)((shift + 1) * PARTS + ((us >> shift) - PARTS));
}

uint64_t histogram_bucket_end(size_t bucket) {
    ASSERT(bucket < HISTOGRAM_BUCKETS);
    if (bucket < PARTS) return bucket;
    unsigned shift = (unsigned)(bucket / PARTS) - 1;
    return ((PARTS + bucket % PARTS + 1) << shift) - 1;
}

void histogram_clear(struct histogram *h) {
    memset(h, 0, sizeof(*h));
}

void histogram_add(struct histogram *h, uint64_t us, uint64_t times) {
    if (times == 0) return;
    if (h->count == 0 || us < h->min) h->min = us;
    if (us > h->max) h->max = us;
    h->count += times;
    h->sum += us * times;
    h->buckets[histogram_bucket(us)] += times;
}

void histogram_merge(struct histogram *into, const struct histogram *from) {
    if (from->count == 0) return;
    if (into->count == 0 || from->min < into->min) into->min = from->min;
    if (from->max > into->max) into->max = from->max;
    into->count += from->count;
    into->sum += from->sum;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) into->buckets[i] += from->buckets[i];
}

uint64_t histogram_percentile(const struct histogram *h, double percent) {
    ASSERT(percent >= 0 && percent <= 100);
    if (h->count == 0) return 0;
    double exact = (double)h->count * percent / 100;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact) rank++;
    if (rank < 1) rank = 1;
    if (rank > h->count) rank = h->count;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen < rank) continue;
        uint64_t end = i == HISTOGRAM_BUCKETS - 1 ? h->max : histogram_bucket_end(i);
        return end < h->max ? end : h->max;
    }
    return h->max;
}

uint64_t histogram_mean(const struct histogram *h) {
    return h->count ? h->sum / h->count : 0;
}
