/* Writing: submit, place, write, confirm, trim, and what happens when a write fails. Opening, formatting and reading
 * are in wal_open.c. */
#include "stream/wal.h"

#include <stdio.h>

#include "base/assert.h"
#include "stream/wal_priv.h"

#define WAL_ZERO_PIECES 4u /* 1 MiB: larger writes would hold groups up */

static uint64_t physical(const struct wal *w, uint64_t position) {
    return WAL_RING_START + position % w->ring_size;
}

/* ---- what the device has to do ---- */

static unsigned op_begin(struct wal *w) {
    unsigned i = 0;
    while (i + 1 < WAL_OPS_MAX && w->op_began_ns[i] != 0) i++; /* the last place is shared by all that find no other */
    if (w->op_began_ns[i] == 0) w->op_began_ns[i] = env_now_ns(w->env) | 1;
    return i;
}

enum err wal_device_write(struct wal *w, uint64_t at, const struct env_bytes *pieces, size_t count) {
    unsigned op = op_begin(w);
    enum err e = env_file_write(w->env, w->file, at, pieces, count);
    w->op_began_ns[op] = 0;
    return e;
}

enum err wal_device_read(struct wal *w, uint64_t at, void *data, size_t size, size_t *got) {
    unsigned op = op_begin(w);
    enum err e = env_file_read(w->env, w->file, at, data, size, got);
    w->op_began_ns[op] = 0;
    return e;
}

uint64_t wal_oldest_op_ns(const struct wal *w) {
    uint64_t oldest = 0;
    for (unsigned i = 0; i < WAL_OPS_MAX; i++) {
        if (w->op_began_ns[i] != 0 && (oldest == 0 || w->op_began_ns[i] < oldest)) oldest = w->op_began_ns[i];
    }
    return oldest;
}

enum err wal_write_superblock(struct wal *w, uint64_t trim_position, bool closed) {
    fiber_mutex_lock(&w->superblock_lock);
    struct wal_superblock next = w->superblock;
    next.sequence++;
    next.trim_position = trim_position;
    next.initialised = w->initialised;
    next.closed = closed;
    ASSERT(next.initialised <= next.ring_size);
    uint8_t *sector = mem_aligned(w->env->mem, ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    memset(sector, 0, ENV_FILE_ALIGN);
    wal_superblock_encode(&next, sector);
    /* The other slot than the newest valid one: a torn write leaves that one whole. */
    unsigned slot = env_mutant(w->env, MUTANT_ONE_SUPERBLOCK) ? w->superblock_slot : w->superblock_slot ^ 1u;
    struct env_bytes piece = {sector, ENV_FILE_ALIGN};
    enum err e = wal_device_write(w, slot * (uint64_t)ENV_FILE_ALIGN, &piece, 1);
    mem_free(w->env->mem, sector);
    if (e == OK) {
        w->superblock = next;
        w->superblock_slot = slot;
        w->has_superblock = true;
    }
    fiber_mutex_unlock(&w->superblock_lock);
    return e;
}

static void fail(struct wal *w, enum err why) {
    if (!w->failed) {
        w->failed = w->ever_failed = true;
        w->failed_why = why;
        metric_add(w->env->metrics, M_WAL_ERRORS, (unsigned)why, 1);
        if (!w->options.member) metric_set(w->env->metrics, M_WAL_FAILED, 1);
    }
    if (why == ERR_FENCED) w->failed_why = why; /* whatever else went wrong: this ring is not to be used again */
    waitq_wake_all(&w->space);
    waitq_wake_all(&w->initialised_grown);
}

void wal_give_up(struct wal *w) {
    if (!w->failed) w->failed_why = ERR_CLOSED;
    w->failed = w->reported = true; /* the owner knows */
    waitq_wake_all(&w->space);
    waitq_wake_all(&w->initialised_grown);
}

/* The last fiber that touches blocks reports the failure: until then their memory is in use. */
static void leave(struct wal *w) {
    ASSERT(w->writers > 0);
    w->writers--;
    if (w->writers > 0) return;
    if (w->failed && !w->reported) {
        w->reported = true;
        w->options.failed(w->options.ctx, w->failed_why);
    }
    waitq_wake_all(&w->idle);
}

static void confirm_written(struct wal *w, struct block *last) {
    for (;;) {
        struct block *b = LIST_ENTRY(list_pop_front(&w->placed), struct block, node);
        ASSERT(b->written);
        ASSERT(b->wal_position >= w->confirmed_end || env_mutant(w->env, MUTANT_REWRITE_SECTOR));
        w->confirmed_end = b->wal_end;
        if (!w->options.member)
            metric_observe_ns(w->env->metrics, w->env->mem, M_WAL_LATENCY, 0, env_now_ns(w->env) - b->sealed_ns);
        bool end = b == last;
        w->options.confirmed(w->options.ctx, b);
        if (end) return;
    }
}

static struct block *last_written_of_prefix(const struct wal *w) {
    struct block *last = NULL;
    LIST_EACH(it, &w->placed) {
        struct block *b = LIST_ENTRY(it, struct block, node);
        if (!b->written) break;
        last = b;
    }
    return last;
}

/* Confirms the contiguous written prefix. With a takeover mark, one fiber at a time reads the mark after those
 * blocks were durable and before they are confirmed. */
static void advance(struct wal *w) {
    if (w->advancing) return;
    w->advancing = true;
    for (;;) {
        struct block *last = last_written_of_prefix(w);
        if (!last) break;
        if (w->options.takeover_mark && !env_mutant(w->env, MUTANT_NO_MARK)) {
            struct incarnation taken;
            enum err e = wal_read_mark(w, &taken);
            if (e != ERR_NOT_FOUND) {
                fail(w, e == OK ? ERR_FENCED : e);
                break;
            }
        }
        confirm_written(w, last);
    }
    w->advancing = false;
}

/* ---- the first lap ---- */

/* A place that was never written costs its first writer more: the file system has to note, durably, that it holds
 * something. So places are written with zeros ahead of their first use, while little waits for the device. When much
 * does, groups go where nothing has been written yet: that is dearer than the write alone, but not than two. Nothing
 * depends on the zeros. */
static bool prewrite_in_the_way(const struct wal *w) {
    uint64_t waiting = w->head - w->confirmed_end;
    LIST_EACH(it, &w->queued) {
        if (waiting > WAL_ZERO_WHILE) break;
        waiting += LIST_ENTRY(it, struct block, node)->padded;
    }
    return waiting > WAL_ZERO_WHILE;
}

static void prewrite(void *arg) {
    struct wal *w = arg;
    struct mem *m = w->env->mem;
    uint8_t *zero = mem_aligned(m, WAL_ZERO_SIZE, ENV_FILE_ALIGN);
    memset(zero, 0, WAL_ZERO_SIZE);
    while (!w->failed && w->initialised < w->initialise_to && !prewrite_in_the_way(w)) {
        struct env_bytes pieces[WAL_ZERO_PIECES];
        uint64_t left = w->ring_size - w->initialised, size = 0;
        size_t n = 0;
        for (; n < WAL_ZERO_PIECES && size < left; n++) {
            uint64_t part = left - size < WAL_ZERO_SIZE ? left - size : WAL_ZERO_SIZE;
            pieces[n] = (struct env_bytes){zero, (size_t)part};
            size += part;
        }
        w->zeroing = true; /* from here on nobody else writes to what is not initialised */
        enum err e = wal_device_write(w, WAL_RING_START + w->initialised, pieces, n);
        w->zeroing = false;
        w->initialised += size; /* also when it failed: no group is to lie where zeros may still come (wal_restart) */
        if (e != OK) {
            fail(w, e);
            w->zeros_failed_end = w->initialised;
            break;
        }
        waitq_wake_all(&w->initialised_grown);
    }
    mem_free(m, zero);
    w->prewriting = false;
    leave(w);
}

static void prewrite_ahead(struct wal *w, uint64_t to) {
    if (to > w->ring_size) to = w->ring_size;
    if (w->initialise_to < to) w->initialise_to = to;
    if (w->prewriting || w->initialised >= w->initialise_to || w->failed || prewrite_in_the_way(w)) return;
    w->prewriting = true;
    w->writers++;
    fiber_spawn(loop_current(), "wal-prewrite", prewrite, w);
}

static void prewrite_if_due(struct wal *w) {
    uint64_t here = w->head % w->ring_size;
    if (w->initialised < w->ring_size && w->initialised < here + WAL_AHEAD_BYTES / 2)
        prewrite_ahead(w, here + WAL_AHEAD_BYTES);
}

void wal_prewrite_begin(struct wal *w) {
    prewrite_ahead(w, w->head % w->ring_size + WAL_FIRST_BYTES);
}

/* Ring bytes up to `end` are about to be written. */
static void wait_for_zeros(struct wal *w, uint64_t end) {
    while (!w->failed && w->initialised < end && w->zeroing) waitq_wait(&w->initialised_grown);
    if (!w->failed && w->initialised < end) w->initialised = end;
}

/* Below this position the ring may be written again. */
static uint64_t usable_from(const struct wal *w) {
    if (env_mutant(w->env, MUTANT_REUSE_EARLY)) return w->trim_requested;
    return w->trim_durable;
}

static bool wait_for_room(struct wal *w, uint64_t size) {
    while (!w->failed && w->head + size - usable_from(w) > w->ring_size) {
        if (w->options.full) w->options.full(w->options.ctx);
        waitq_wait(&w->space);
    }
    if (w->failed) return false;
    uint64_t end = w->head % w->ring_size + size;
    ASSERT(end <= w->ring_size);
    wait_for_zeros(w, end);
    return !w->failed;
}

/* Fills the rest of the lap: durable before anything behind it is written. */
static bool write_pad(struct wal *w, uint64_t size) {
    if (!wait_for_room(w, size)) return false;
    if (env_mutant(w->env, MUTANT_SKIP_PAD)) {
        w->head += size;
        return true;
    }
    struct mem *m = w->env->mem;
    uint8_t *sector = mem_aligned(m, ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    memset(sector, 0, ENV_FILE_ALIGN);
    struct group_header g = {.kind = GROUP_PAD,
                             .incarnation = w->superblock.incarnation,
                             .position = w->head,
                             .size = (uint32_t)size,
                             .trim_position = w->trim_durable};
    group_encode(sector, &g);
    struct env_bytes piece = {sector, ENV_FILE_ALIGN};
    enum err e = wal_device_write(w, physical(w, w->head), &piece, 1);
    mem_free(m, sector);
    /* also when it failed: it may still reach the device, so nothing else is to be written there (rule 4) */
    w->head += size;
    if (e != OK) fail(w, e);
    return e == OK;
}

/* Gives the next queued block its place in the ring; NULL when there is none or the WAL has failed. */
static struct block *place_next(struct wal *w) {
    fiber_mutex_lock(&w->place_lock);
    struct block *b = NULL;
    while (!w->failed && !list_empty(&w->queued)) {
        struct block *candidate = LIST_ENTRY(w->queued.next, struct block, node);
        uint64_t lap_left = w->ring_size - w->head % w->ring_size;
        if (candidate->padded > lap_left) {
            if (!write_pad(w, lap_left)) break;
            continue;
        }
        if (!wait_for_room(w, candidate->padded)) break;
        ASSERT(candidate == LIST_ENTRY(w->queued.next, struct block, node));
        b = candidate;
        list_remove(&b->node);
        list_push_back(&w->placed, &b->node);
        b->wal_position = w->head;
        b->wal_end = w->head + b->padded;
        w->head = b->wal_end;
        if (env_mutant(w->env, MUTANT_REWRITE_SECTOR) && b->size < b->padded && b->padded > ENV_FILE_ALIGN)
            w->head -= ENV_FILE_ALIGN;
        break;
    }
    fiber_mutex_unlock(&w->place_lock);
    return b;
}

static void writer(void *arg) {
    struct wal *w = arg;
    struct block *b;
    while ((b = place_next(w)) != NULL) {
        struct group_header g = {.kind = GROUP_RECORDS,
                                 .incarnation = b->incarnation,
                                 .position = b->wal_position,
                                 .block_id = b->id,
                                 .size = b->size,
                                 .record_count = b->records,
                                 .trim_position = w->trim_durable,
                                 .confirmed_position = w->confirmed_end};
        ASSERT(g.incarnation.v == w->superblock.incarnation.v);
        group_encode(b->front ? b->front : b->data, &g);
        struct env_bytes whole = {b->data, b->padded},
                         parts[2] = {{b->front, ENV_FILE_ALIGN},
                                     {b->data + ENV_FILE_ALIGN, b->padded - ENV_FILE_ALIGN}};
        enum err e = wal_device_write(w, physical(w, b->wal_position), b->front ? parts : &whole,
                                      b->front && b->padded > ENV_FILE_ALIGN ? 2 : 1);
        if (e != OK) {
            fail(w, e);
            break;
        }
        b->written = true;
        metric_add(w->env->metrics, M_WAL_GROUPS, 0, 1);
        metric_add(w->env->metrics, M_WAL_BYTES, 0, b->padded);
        advance(w);
        prewrite_if_due(w);
    }
    leave(w);
}

void wal_submit(struct wal *w, struct block *b) {
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(!w->reported);
    ASSERT(b->padded > 0 && b->padded <= w->ring_size);
    list_push_back(&w->queued, &b->node);
    if (w->failed) return; /* handed back with the others */
    if (w->writers - (w->prewriting ? 1u : 0u) - (w->trimming ? 1u : 0u) >= w->options.depth) return;
    w->writers++;
    fiber_spawn(loop_current(), "wal-writer", writer, w);
}

void wal_take_unconfirmed(struct wal *w, struct list *out) {
    ASSERT(w->reported && w->writers == 0);
    list_splice_back(out, &w->placed);
    list_splice_back(out, &w->queued);
}

/* OK: no mark was there after everything written so far, so that a survivor reads what we have just written. */
static enum err look_for_mark(struct wal *w) {
    if (!w->options.takeover_mark || env_mutant(w->env, MUTANT_NO_MARK)) return OK;
    struct incarnation taken;
    enum err e = wal_read_mark(w, &taken);
    if (e == ERR_NOT_FOUND) return OK;
    return e == OK ? ERR_FENCED : e;
}

static void trimmer(void *arg) {
    struct wal *w = arg;
    while (!w->failed && w->trim_requested > w->trim_durable) {
        if (env_mutant(w->env, MUTANT_REUSE_EARLY)) fiber_sleep_ns(100 * NS_PER_MS);
        uint64_t position = w->trim_requested;
        enum err e = wal_write_superblock(w, position, false);
        /* A survivor that read the superblock before begins its replay further down: that part must then not be
         * written again. */
        if (e == OK) e = look_for_mark(w);
        if (e != OK) {
            fail(w, e);
            break;
        }
        ASSERT(position >= w->trim_durable);
        w->trim_durable = position;
        if (!w->options.member) metric_set(w->env->metrics, M_WAL_USED_BYTES, (int64_t)wal_used_bytes(w));
        waitq_wake_all(&w->space);
    }
    w->trimming = false;
    leave(w);
}

void wal_trim(struct wal *w, uint64_t position) {
    ASSERT(position <= w->confirmed_end || w->failed);
    if (position <= w->trim_requested || w->failed) return;
    w->trim_requested = position;
    if (env_mutant(w->env, MUTANT_REUSE_EARLY)) waitq_wake_all(&w->space);
    if (w->trimming) return;
    w->trimming = true;
    w->writers++;
    fiber_spawn(loop_current(), "wal-trim", trimmer, w);
}

enum err wal_restart(struct wal *w) {
    ASSERT(w->failed && w->reported && w->writers == 0);
    ASSERT(list_empty(&w->queued) && list_empty(&w->placed));
    if (w->failed_why == ERR_FENCED) return ERR_FENCED;
    if (w->options.takeover_mark) {
        struct incarnation taken;
        enum err marked = wal_read_mark(w, &taken);
        if (marked != ERR_NOT_FOUND) return marked == OK ? ERR_FENCED : marked;
    }
    /* Everything up to here is in the ledger. A write that failed may still have reached the device, so positions go
     * on behind it. */
    if (env_mutant(w->env, MUTANT_REUSE_FAILED)) w->head = w->confirmed_end;
    if (w->head < w->zeros_failed_end) w->head = w->zeros_failed_end; /* in the first lap positions are places */
    uint64_t position = w->head;
    enum err e = wal_write_superblock(w, position, false);
    if (e == OK) e = look_for_mark(w);
    if (e != OK) return e;
    w->trim_requested = w->trim_durable = w->confirmed_end = position;
    w->failed = w->reported = false;
    if (!w->options.member) metric_set(w->env->metrics, M_WAL_FAILED, 0);
    return OK;
}

uint64_t wal_head(const struct wal *w) {
    return w->head < w->zeros_failed_end ? w->zeros_failed_end : w->head;
}

uint64_t wal_used_bytes(const struct wal *w) {
    return w->head - w->trim_durable;
}

uint64_t wal_capacity(const struct wal *w) {
    return w->ring_size;
}

bool wal_idle(const struct wal *w) {
    return list_empty(&w->queued) && list_empty(&w->placed);
}
