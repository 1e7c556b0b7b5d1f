/* What a configuration means for memory: the limits of all budgets (base/memory_table.h), and the parts that follow from
 * memory.bytes. Pure; any thread. */
#ifndef OXBOW_BROKER_MEMORY_H
#define OXBOW_BROKER_MEMORY_H

#include "base/metrics.h"
#include "broker/config.h"

/* The limit of each budget; gives their sum. */
int64_t memory_limits(const struct config *c, unsigned shards, int64_t out[MEMORY_BUDGETS]);

/* How many shards there are to be; processors: of the machine, 0: not known. */
unsigned memory_shards(const struct config *c, unsigned processors);

/* Sets the properties that are parts of memory.bytes and that nobody has set; once, before config_check. machine_bytes:
 * what there is (0: not known). ERR_INVALID: what was asked for does not fit; *why tells. */
enum err memory_derive(struct config *c, uint64_t machine_bytes, unsigned processors, char *why,
                       size_t why_size) WARN_UNUSED;

/* Tells /metrics, and those who look whether a budget is used up. */
void memory_publish(struct metrics *m, const struct config *c, unsigned shards);

/* Appends the section of docs/configuration.md. */
void memory_print_markdown(const struct config *defaults, struct buf *out);

#endif
