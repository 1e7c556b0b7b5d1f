/* The page that Prometheus reads, as text (exposition format 0.0.4). */
#ifndef OXBOW_ADMIN_METRICS_PAGE_H
#define OXBOW_ADMIN_METRICS_PAGE_H

#include "base/bytes.h"
#include "base/metrics.h"

/* Everything in base/metrics_table.h. Values of labels that never occurred are left out. Any thread: the cells are
 * atomic. */
void metrics_page_table(const struct metrics *m, struct buf *out);
/* One metric that is not in the table, with its two comment lines. type: "gauge" or "counter". */
void metrics_page_head(struct buf *out, const char *name, const char *type, const char *help);
/* name{label="value"} number; label NULL: no label. The value is escaped. */
void metrics_page_value(struct buf *out, const char *name, const char *label, const char *value, uint64_t number);

#endif
