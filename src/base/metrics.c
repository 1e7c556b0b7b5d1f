#include "base/metrics.h"

#include <assert.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

static_assert(ERR_COUNT <= METRIC_LABELS_MAX, "every error is a label value");

static struct metric_cells *cells_of(struct metrics *m, struct mem *mem, enum metric_histogram h, unsigned label) {
    struct metric_cells *c = atomic_load_explicit(&m->histograms[h][label], memory_order_acquire);
    if (c) return c;
    struct metric_cells *fresh = MEM_NEW(mem, struct metric_cells);
    if (atomic_compare_exchange_strong(&m->histograms[h][label], &c, fresh)) return fresh;
    mem_free(mem, fresh); /* another thread was first */
    return c;
}

void metric_observe_ns(struct metrics *m, struct mem *mem, enum metric_histogram h, unsigned label, uint64_t ns) {
    ASSERT(label < METRIC_LABELS_MAX);
    struct metric_cells *c = cells_of(m, mem, h, label);
    uint64_t us = ns / 1000;
    unsigned bucket = us <= 1 ? 0 : 64u - (unsigned)__builtin_clzll(us - 1);
    if (bucket >= METRIC_BUCKETS) bucket = METRIC_BUCKETS - 1;
    atomic_fetch_add_explicit(&c->bucket[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->sum_us, us, memory_order_relaxed);
}

void metrics_deinit(struct metrics *m, struct mem *mem) {
    for (unsigned h = 0; h < METRIC_HISTOGRAMS; h++) {
        for (unsigned l = 0; l < METRIC_LABELS_MAX; l++) mem_free(mem, atomic_load(&m->histograms[h][l]));
    }
}

/* METRIC_GAUGES: none. */
static const unsigned memory_gauges[MEMORY_BUDGETS] = {
#define MEMORY(id, name, gauge, property, limit, text) [id] = (unsigned)(gauge),
#include "base/memory_table.h"
};

int64_t memory_used_bytes(const struct metrics *m, enum memory_budget b) {
    ASSERT(b < MEMORY_BUDGETS);
    unsigned gauge = memory_gauges[b];
    return gauge == METRIC_GAUGES ? 0 : atomic_load_explicit(&m->gauges[gauge], memory_order_relaxed);
}

bool memory_is_over(const struct metrics *m, enum memory_budget b) {
    int64_t limit = atomic_load_explicit(&m->memory_limits[b], memory_order_relaxed);
    return limit > 0 && memory_used_bytes(m, b) > limit;
}
