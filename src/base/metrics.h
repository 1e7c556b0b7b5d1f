/* Metrics of one instance. One table (metrics_table.h) holds them all: the Prometheus page and docs come from it.
 * A metric has one label dimension at most, a small fixed set of values. Updates are relaxed atomics, callable
 * anywhere. */
#ifndef OXBOW_BASE_METRICS_H
#define OXBOW_BASE_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define METRIC_LABELS_MAX 128
#define METRIC_BUCKETS 28 /* histogram: bucket i counts values <= 2^i microseconds; the last is +Inf */

enum metric_label {
    METRIC_LABEL_NONE,
    METRIC_LABEL_API,
    METRIC_LABEL_PURPOSE,
    METRIC_LABEL_ERR,
    METRIC_LABEL_STORE_OP,
    METRIC_LABEL_S3
};

enum metric_counter {
#define COUNTER(id, name, label, help) id,
#define GAUGE(id, name, label, help)
#define HISTOGRAM(id, name, label, help)
#include "base/metrics_table.h"
    METRIC_COUNTERS
};
enum metric_gauge {
#define COUNTER(id, name, label, help)
#define GAUGE(id, name, label, help) id,
#define HISTOGRAM(id, name, label, help)
#include "base/metrics_table.h"
    METRIC_GAUGES
};
enum metric_histogram {
#define COUNTER(id, name, label, help)
#define GAUGE(id, name, label, help)
#define HISTOGRAM(id, name, label, help) id,
#include "base/metrics_table.h"
    METRIC_HISTOGRAMS
};

/* Budgets of memory (memory_table.h): what is held is told by a gauge each. */
enum memory_budget {
#define MEMORY(id, name, gauge, property, limit, text) id,
#include "base/memory_table.h"
    MEMORY_BUDGETS
};

struct metric_cells {
    _Atomic uint64_t bucket[METRIC_BUCKETS];
    _Atomic uint64_t count, sum_us;
};

struct metrics {
    _Atomic uint64_t counters[METRIC_COUNTERS][METRIC_LABELS_MAX];
    _Atomic int64_t gauges[METRIC_GAUGES];
    _Atomic int64_t memory_limits[MEMORY_BUDGETS]; /* 0: none is known */
    /* Allocated when first observed: most label values never occur. */
    _Atomic(struct metric_cells *) histograms[METRIC_HISTOGRAMS][METRIC_LABELS_MAX];
};

static inline void metric_add(struct metrics *m, enum metric_counter c, unsigned label, uint64_t n) {
    atomic_fetch_add_explicit(&m->counters[c][label], n, memory_order_relaxed);
}
static inline void metric_set(struct metrics *m, enum metric_gauge g, int64_t v) {
    atomic_store_explicit(&m->gauges[g], v, memory_order_relaxed);
}
static inline void metric_gauge_add(struct metrics *m, enum metric_gauge g, int64_t v) {
    atomic_fetch_add_explicit(&m->gauges[g], v, memory_order_relaxed);
}
/* What is held of that budget now; 0 where nothing follows it. */
int64_t memory_used_bytes(const struct metrics *m, enum memory_budget b);
/* More than its limit is. */
bool memory_is_over(const struct metrics *m, enum memory_budget b);

struct mem;
void metric_observe_ns(struct metrics *m, struct mem *mem, enum metric_histogram h, unsigned label, uint64_t ns);
void metrics_deinit(struct metrics *m, struct mem *mem);

#endif
