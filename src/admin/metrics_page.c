#include "admin/metrics_page.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/assert.h"
#include "kafka/frame.h"
#include "store/s3.h"
#include "store/store.h"

struct row {
    const char *name;
    enum metric_label label;
    const char *help;
};

static const struct row counters[] = {
#define COUNTER(id, name, label, help) {name, label, help},
#define GAUGE(id, name, label, help)
#define HISTOGRAM(id, name, label, help)
#include "base/metrics_table.h"
};
static const struct row gauges[] = {
#define COUNTER(id, name, label, help)
#define GAUGE(id, name, label, help) {name, label, help},
#define HISTOGRAM(id, name, label, help)
#include "base/metrics_table.h"
};
static const struct row histograms[] = {
#define COUNTER(id, name, label, help)
#define GAUGE(id, name, label, help)
#define HISTOGRAM(id, name, label, help) {name, label, help},
#include "base/metrics_table.h"
};

static const char *const s3_op_names[] = {"put", "create", "get", "list", "delete", "multipart", "abort"};
static const char *const s3_outcome_names[] = {"answered",  "refused", "busy",       "failed",
                                               "timed_out", "cut",     "unreachable"};
_Static_assert(ARRAY_LEN(s3_op_names) == S3_OPS && ARRAY_LEN(s3_outcome_names) == S3_OUTCOMES, "a name each");
_Static_assert(S3_OPS *S3_OUTCOMES <= METRIC_LABELS_MAX, "one label for each operation and outcome");

/* `api="Fetch"`, without braces; "" for none. */
static const char *label_text(enum metric_label kind, unsigned value, char *out, size_t out_size) {
    out[0] = '\0';
    switch (kind) {
    case METRIC_LABEL_NONE:
        break;
    case METRIC_LABEL_API: {
        const struct kafka_api *api = kafka_api_find((int16_t)value);
        if (api) {
            (void)snprintf(out, out_size, "api=\"%s\"", api->name);
        } else {
            (void)snprintf(out, out_size, "api=\"%u\"", value);
        }
        break;
    }
    case METRIC_LABEL_PURPOSE:
        (void)snprintf(out, out_size, "purpose=\"%s\"",
                       value < STORE_PURPOSES ? store_purpose_name((enum store_purpose)value) : "?");
        break;
    case METRIC_LABEL_ERR:
        (void)snprintf(out, out_size, "error=\"%s\"", value < ERR_COUNT ? err_name((enum err)value) : "?");
        break;
    case METRIC_LABEL_STORE_OP: {
        unsigned op = value / STORE_PURPOSES, purpose = value % STORE_PURPOSES;
        (void)snprintf(out, out_size, "op=\"%s\",purpose=\"%s\"",
                       op < STORE_OPS ? store_op_name((enum store_op)op) : "?",
                       store_purpose_name((enum store_purpose)purpose));
        break;
    }
    case METRIC_LABEL_S3: {
        unsigned op = value / S3_OUTCOMES, outcome = value % S3_OUTCOMES;
        (void)snprintf(out, out_size, "op=\"%s\",outcome=\"%s\"", op < S3_OPS ? s3_op_names[op] : "?",
                       s3_outcome_names[outcome]);
        break;
    }
    }
    return out;
}

void metrics_page_head(struct buf *out, const char *name, const char *type, const char *help) {
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_page_value(struct buf *out, const char *name, const char *label, const char *value, uint64_t number) {
    if (!label) {
        buf_printf(out, "%s %" PRIu64 "\n", name, number);
        return;
    }
    buf_printf(out, "%s{%s=\"", name, label);
    for (const char *c = value; *c; c++) {
        if (*c == '\n') {
            buf_put(out, "\\n", 2);
        } else {
            if (*c == '"' || *c == '\\') buf_u8(out, '\\');
            buf_u8(out, (uint8_t)*c);
        }
    }
    buf_printf(out, "\"} %" PRIu64 "\n", number);
}

static void memory_print(const struct metrics *m, struct buf *out) {
    static const char *const names[MEMORY_BUDGETS] = {
#define MEMORY(id, name, gauge, property, limit, text) [id] = name,
#include "base/memory_table.h"
    };
    metrics_page_head(out, "oxbow_memory_bytes", "gauge", "Memory held, by budget.");
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) {
        if (i == MEMORY_PROCESS) continue; /* nothing follows it */
        int64_t used = memory_used_bytes(m, (enum memory_budget)i);
        metrics_page_value(out, "oxbow_memory_bytes", "budget", names[i], used > 0 ? (uint64_t)used : 0);
    }
    metrics_page_head(out, "oxbow_memory_limit_bytes", "gauge", "The limit of a budget of memory.");
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) {
        int64_t limit = atomic_load_explicit(&m->memory_limits[i], memory_order_relaxed);
        metrics_page_value(out, "oxbow_memory_limit_bytes", "budget", names[i], (uint64_t)limit);
    }
}

static void counter_print(const struct metrics *m, size_t i, struct buf *out) {
    const struct row *r = &counters[i];
    char label[96];
    metrics_page_head(out, r->name, "counter", r->help);
    for (unsigned v = 0; v < METRIC_LABELS_MAX; v++) {
        uint64_t n = atomic_load_explicit(&m->counters[i][v], memory_order_relaxed);
        if (r->label == METRIC_LABEL_NONE) {
            buf_printf(out, "%s %" PRIu64 "\n", r->name, n);
            return;
        }
        if (n > 0) buf_printf(out, "%s{%s} %" PRIu64 "\n", r->name, label_text(r->label, v, label, sizeof(label)), n);
    }
}

/* All buckets of a histogram that was ever observed: one that turned up later would confuse rates. */
static void cells_print(const struct row *r, unsigned v, struct metric_cells *c, struct buf *out) {
    char label[96];
    label_text(r->label, v, label, sizeof(label));
    const char *comma = label[0] ? "," : "";
    uint64_t below = 0;
    for (unsigned b = 0; b < METRIC_BUCKETS; b++) {
        uint64_t n = atomic_load_explicit(&c->bucket[b], memory_order_relaxed);
        bool last = b == METRIC_BUCKETS - 1;
        below += n;
        if (last) {
            buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", r->name, label, comma, below);
        } else {
            buf_printf(out, "%s_bucket{%s%sle=\"%.6f\"} %" PRIu64 "\n", r->name, label, comma,
                       (double)(UINT64_C(1) << b) / 1e6, below);
        }
    }
    const char *open = label[0] ? "{" : "", *close = label[0] ? "}" : "";
    uint64_t sum_us = atomic_load_explicit(&c->sum_us, memory_order_relaxed);
    buf_printf(out, "%s_sum%s%s%s %.6f\n", r->name, open, label, close, (double)sum_us / 1e6);
    buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", r->name, open, label, close, below);
}

void metrics_page_table(const struct metrics *m, struct buf *out) {
    for (size_t i = 0; i < METRIC_COUNTERS; i++) counter_print(m, i, out);
    for (size_t i = 0; i < METRIC_GAUGES; i++) {
        metrics_page_head(out, gauges[i].name, "gauge", gauges[i].help);
        buf_printf(out, "%s %" PRId64 "\n", gauges[i].name, atomic_load_explicit(&m->gauges[i], memory_order_relaxed));
    }
    memory_print(m, out);
    for (size_t i = 0; i < METRIC_HISTOGRAMS; i++) {
        metrics_page_head(out, histograms[i].name, "histogram", histograms[i].help);
        for (unsigned v = 0; v < METRIC_LABELS_MAX; v++) {
            struct metric_cells *c = atomic_load_explicit(&m->histograms[i][v], memory_order_acquire);
            if (c) cells_print(&histograms[i], v, c, out);
        }
    }
}
