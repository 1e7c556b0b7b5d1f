#include "broker/memory.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "broker/url.h"
#include "stream/sizes.h"

#define MEMORY_MIB ((int64_t)1 << 20)
#define SCALE_ONE 1024 /* parts are scaled in steps of this */
#define SCALE_MAX (SCALE_ONE * SCALE_ONE)
#define PART_ROUND ((int64_t)64 << 10)
#define MACHINE_PERCENT                                                                                                \
    80u /* of a machine's memory that defaults may claim: the rest is the system's and the page cache's */

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static const struct {
    const char *name, *property, *text;
} budgets[MEMORY_BUDGETS] = {
#define MEMORY(id, name, gauge, property, limit, text) [id] = {name, property, text},
#include "base/memory_table.h"
};

int64_t memory_limits(const struct config *c, unsigned shards, int64_t out[MEMORY_BUDGETS]) {
#define MEMORY(id, name, gauge, property, limit, text) out[id] = (limit);
#include "base/memory_table.h"
    int64_t sum = 0;
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) sum += out[i];
    return sum;
}

unsigned memory_shards(const struct config *c, unsigned processors) {
    if (c->shards > 0) return (unsigned)c->shards;
    /* Half of the processors, for the rest has work too: the kernel's network, uploads, checksums. */
    return processors > 2 ? processors / 2 : 1;
}

static int64_t sum_of(const struct config *c, unsigned shards) {
    int64_t limits[MEMORY_BUDGETS];
    return memory_limits(c, shards, limits);
}

void memory_publish(struct metrics *m, const struct config *c, unsigned shards) {
    int64_t limits[MEMORY_BUDGETS];
    (void)memory_limits(c, shards, limits);
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++)
        atomic_store_explicit(&m->memory_limits[i], limits[i], memory_order_relaxed);
}

/* --- Parts of a whole. */

static const enum config_property parts[] = {
    CONFIG_cache_log_bytes,
    CONFIG_cache_block_bytes,
    CONFIG_read_ahead_bytes,
    CONFIG_queued_max_request_bytes,
    CONFIG_queued_max_response_bytes,
    CONFIG_compaction_bytes,
    CONFIG_upload_bytes,
    CONFIG_log_cleaner_dedupe_buffer_size,
    CONFIG_state_bytes,
};

static int64_t *part_of(struct config *c, enum config_property p) {
    switch (p) {
    case CONFIG_cache_log_bytes:
        return &c->cache_log_bytes;
    case CONFIG_cache_block_bytes:
        return &c->cache_block_bytes;
    case CONFIG_read_ahead_bytes:
        return &c->read_ahead_bytes;
    case CONFIG_queued_max_request_bytes:
        return &c->queued_max_request_bytes;
    case CONFIG_queued_max_response_bytes:
        return &c->queued_max_response_bytes;
    case CONFIG_compaction_bytes:
        return &c->compaction_bytes;
    case CONFIG_upload_bytes:
        return &c->upload_bytes;
    case CONFIG_log_cleaner_dedupe_buffer_size:
        return &c->log_cleaner_dedupe_buffer_size;
    case CONFIG_state_bytes:
        return &c->state_bytes;
    default:
        UNREACHABLE();
    }
}

static bool part_is_set(const struct config *c, enum config_property p) {
    return c->rank[p] > 0;
}

/* What config_check asks for besides the limits of the table. */
static int64_t part_least(const struct config *c, enum config_property p) {
    int64_t least = config_row(p)->min;
    if (p == CONFIG_queued_max_request_bytes) return larger(least, c->socket_request_max_bytes);
    if (p == CONFIG_cache_log_bytes && part_is_set(c, CONFIG_upload_bytes)) return larger(least, 2 * c->upload_bytes);
    return least;
}

/* Those that nobody has set become scale / SCALE_ONE of their defaults, as far as their limits go. */
static void parts_scale(struct config *c, const struct config *defaults, int64_t scale) {
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        enum config_property p = parts[i];
        if (part_is_set(c, p)) continue;
        int64_t whole = *part_of((struct config *)(uintptr_t)defaults, p);
        int64_t v = whole / SCALE_ONE * scale;
        v = larger(v - v % PART_ROUND, part_least(c, p));
        *part_of(c, p) = smaller(v, config_row(p)->max);
    }
    if (!part_is_set(c, CONFIG_upload_bytes)) c->upload_bytes = smaller(c->upload_bytes, c->cache_log_bytes / 2);
}

/* The most of them that fits into `total`; the least that there can be, if that does not. */
static void parts_fit(struct config *c, unsigned shards, int64_t total, int64_t scale_max) {
    struct config defaults;
    config_init_defaults(&defaults, c->mem);
    int64_t low = 0, high = scale_max;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        parts_scale(c, &defaults, middle);
        if (sum_of(c, shards) <= total)
            low = middle;
        else
            high = middle - 1;
    }
    parts_scale(c, &defaults, low);
    config_deinit(&defaults);
}

__attribute__((format(printf, 3, 4))) static enum err refuse(char *why, size_t why_size, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, why_size, format, ap);
    va_end(ap);
    return ERR_INVALID;
}

static bool any_part_is_set(const struct config *c) {
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (part_is_set(c, parts[i])) return true;
    }
    return false;
}

static enum err derive_from_machine(struct config *c, unsigned shards, int64_t machine, char *why, size_t why_size) {
    char a[32], b[32];
    if (machine == 0 || sum_of(c, shards) <= machine / 100 * MACHINE_PERCENT) return OK;
    parts_fit(c, shards, machine / 100 * MACHINE_PERCENT, SCALE_ONE);
    int64_t sum = sum_of(c, shards);
    /* Where nobody has asked for much, a machine that is too small for the least is tried all the same. */
    if (sum <= machine || !any_part_is_set(c)) return OK;
    return refuse(
        why, why_size,
        "memory: expected budgets whose sum is at most what this machine, or its control group, has (%s); with those that are "
        "set one by one they come to %s",
        size_text(machine, a, sizeof(a)), size_text(sum, b, sizeof(b)));
}

enum err memory_derive(struct config *c, uint64_t machine_bytes, unsigned processors, char *why, size_t why_size) {
    char a[32], b[32];
    unsigned shards = memory_shards(c, processors);
    int64_t machine = machine_bytes > INT64_MAX ? 0 : (int64_t)machine_bytes;
    if (c->memory_bytes == 0) return derive_from_machine(c, shards, machine, why, why_size);
    if (machine > 0 && c->memory_bytes > machine)
        return refuse(why, why_size,
                      "memory.bytes: expected at most what this machine, or its control group, has (%s), found %s",
                      size_text(machine, a, sizeof(a)), size_text(c->memory_bytes, b, sizeof(b)));
    parts_fit(c, shards, c->memory_bytes, SCALE_MAX);
    int64_t sum = sum_of(c, shards);
    if (sum <= c->memory_bytes) return OK;
    return refuse(
        why, why_size,
        "memory.bytes: expected at least %s, which is what its parts that are set and the least of the others come to, found %s; "
        "socket.request.max.bytes counts in several of them",
        size_text(sum, a, sizeof(a)), size_text(c->memory_bytes, b, sizeof(b)));
}

/* --- The page. */

void memory_print_markdown(const struct config *defaults, struct buf *out) {
    int64_t limits[MEMORY_BUDGETS];
    char text[32];
    int64_t sum = memory_limits(defaults, 1, limits);
    buf_printf(
        out,
        "\n## Budgets of memory\n\n"
        "Whatever grows with load is held within these; `/metrics` tells of each what it holds and its limit (`oxbow_memory_bytes{budget=\"...\"}`, "
        "`oxbow_memory_limit_bytes`). A budget\nthat is full makes producers, or whoever wants of it, wait; nothing that was taken in is refused, and what drains "
        "(uploads, answers, groups) does not wait for what it drains.\nThose of `state.bytes` are for what stays until it is deleted or expires; "
        "who would add to a full one is refused, and what is there goes on. "
        "Beside them there are\nconnections, some 1.5 KB each (`max.connections`). `memory.bytes` is the sum; the limits shown are those of the defaults with one shard.\n\n"
        "| Budget | Property | Limit | What |\n| --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) {
        const char *quote = budgets[i].property[0] ? "`" : "";
        buf_printf(out, "| %s | %s%s%s | %s | %s |\n", budgets[i].name, quote, budgets[i].property, quote,
                   size_text(limits[i], text, sizeof(text)), budgets[i].text);
    }
    buf_printf(out, "| the sum | `memory.bytes` | %s | |\n", size_text(sum, text, sizeof(text)));
}
