/* What the workloads of the object log put into an entry's head: which entry it is, and the state before it. The
 * state of a log is a count and a chain of the
 * ids so far, so two replays that agree on both have applied the same entries. A checkpoint's state is in its head,
 * like every entry's. Behind these fields come filler bytes
 * that follow from the id; the body follows from the id too. */
#ifndef OXBOW_SIM_LOG_HEAD_H
#define OXBOW_SIM_LOG_HEAD_H

#include "objlog/objlog.h"
#include "sim/run.h"

#define LOG_HEAD_SIZE 32u

struct log_state {
    uint64_t count, chain;
    uint64_t writer; /* who may write: the latest election's */
};

struct log_head {
    uint64_t id;
    struct log_state before;
};

/* A slice with a reference for the caller. */
struct slice log_head_make(struct mem *m, const struct log_head *h, size_t filler);
/* False: these are not the bytes that were written for the id. */
bool log_head_read(const struct slice *s, struct log_head *out);
void log_state_add(struct log_state *s, uint64_t id);
/* Reads an entry's body and compares; bytes that nobody wrote fail the run. ERR_STALE: the number was trimmed
 * meanwhile, and is empty or holds another entry. Repeats what
 * fails. Suspends. */
enum err log_body_check(struct store *s, const char *prefix, const struct objlog_header *h, uint64_t id) WARN_UNUSED;
/* A read or replay that failed for the moment: wait and try again. Suspends. */
bool log_again(enum err e);
/* Puts the numbers into a random order. */
void log_shuffle(struct sim_world *w, uint64_t *numbers, size_t count);

#endif
