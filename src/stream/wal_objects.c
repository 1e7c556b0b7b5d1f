/* Writing: submit, send, confirm, trim, and the beginning of a log. Formats, replay and sweep are in wal_objects_read.c. */
#include "stream/wal_objects.h"

#include <inttypes.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/wal_objects_priv.h"

#define DELETE_BATCH 500u

/* An entry that is in the log. */
struct sent_entry {
    struct list node;
    uint64_t number, end;
};

struct wal_objects *wal_objects_create(const struct wal_objects_options *o) {
    ASSERT(o->depth > 0 && o->depth <= OBJLOG_DEPTH_MAX && o->open_store);
    struct wal_objects *w = MEM_NEW(o->env->mem, struct wal_objects);
    w->env = o->env;
    w->options = *o;
    w->options.url = mem_strdup(o->env->mem, o->url);
    list_init(&w->queued);
    list_init(&w->placed);
    list_init(&w->entries);
    waitq_init(&w->idle);
    return w;
}

enum err wal_objects_open(struct wal_objects *w, const char **why) {
    if (!w->store) {
        struct store *s = NULL;
        *why = w->why;
        enum err e = w->options.open_store(w->options.open_ctx, w->options.url, &s, w->why, sizeof(w->why));
        if (e != OK) return e;
        w->store = s;
    }
    if (w->checked) return OK;
    enum err e = store_check_conditional_create(w->store, "mirror-check", false, why);
    w->checked = e == OK;
    return e;
}

bool wal_objects_is_open(const struct wal_objects *w) {
    return w->store && w->checked;
}

bool wal_objects_begun(const struct wal_objects *w) {
    return w->log != NULL;
}

/* ---- deleting ---- */

/* Numbers [deleted, below) of our log. */
static enum err delete_below(struct wal_objects *w, uint64_t below) {
    enum err e = OK;
    while (w->deleted < below && e == OK) {
        uint64_t numbers[DELETE_BATCH];
        size_t n = 0;
        for (; n < DELETE_BATCH && w->deleted + n < below; n++) numbers[n] = w->deleted + n;
        e = objlog_delete(w->store, w->prefix, numbers, n);
        if (e == ERR_PERMISSION) e = OK; /* the sweep of the next start tries those again, and tells of them */
        if (e == OK) w->deleted += n;
    }
    return e;
}

static void leave(struct wal_objects *w) {
    ASSERT(w->fibers > 0);
    w->fibers--;
    if (w->fibers > 0) return;
    if (w->failed && !w->reported) {
        w->reported = true;
        w->options.failed(w->options.ctx, w->failed_why);
    }
    waitq_wake_all(&w->idle);
}

static void delete_run(void *arg) {
    struct wal_objects *w = arg;
    while (!w->failed && w->deleted < objlog_deletable_below(w->log)) {
        if (delete_below(w, objlog_deletable_below(w->log)) != OK) break; /* the next trim tries again */
    }
    w->deleting = false;
    leave(w);
}

static void delete_trimmed(struct wal_objects *w) {
    if (w->deleting || w->failed || w->deleted >= objlog_deletable_below(w->log)) return;
    w->deleting = true;
    w->fibers++;
    fiber_spawn(loop_current(), "wal-objects-delete", delete_run, w);
}

/* ---- sending ---- */

static void fail(struct wal_objects *w, enum err why) {
    if (!w->failed || why == ERR_FENCED) w->failed_why = why;
    if (!w->failed) metric_add(w->env->metrics, M_WAL_ERRORS, (unsigned)why, 1);
    w->failed = true;
}

/* Is there something to send, and is it its turn? Alone at once; beside others only much. */
static bool send_due(const struct wal_objects *w) {
    if (w->failed || list_empty(&w->queued)) return false;
    return w->sending == 0 || (w->sending < w->options.depth && w->queued_bytes >= FLUSH_ENTRY_MIN);
}

struct entry {
    struct slices body;
    struct block *last;
    uint32_t groups, crc;
    uint8_t head[WAL_OBJECTS_HEAD_SIZE];
};

static void entry_add(struct wal_objects *w, struct entry *n, struct block *b) {
    b->wal_position = w->head;
    b->wal_end = w->head = w->head + b->padded;
    struct group_header g = {.kind = GROUP_RECORDS,
                             .incarnation = b->incarnation,
                             .position = b->wal_position,
                             .block_id = b->id,
                             .size = b->size,
                             .record_count = b->records,
                             .trim_position = w->trimmed,
                             .confirmed_position = w->confirmed_end};
    ASSERT(g.incarnation.v == w->incarnation.v && b->front);
    group_encode(b->front, &g);
    size_t first = b->size < ENV_FILE_ALIGN ? b->size : ENV_FILE_ALIGN;
    struct slice front = slice_borrow(b->front, first), rest = slice_borrow(b->data + first, b->size - first);
    slices_push(&n->body, front);
    n->crc = crc32c(n->crc, front.data, front.size);
    if (rest.size > 0) {
        slices_push(&n->body, rest);
        n->crc = crc32c(n->crc, rest.data, rest.size);
    }
    n->groups++;
    n->last = b;
}

/* Takes what waits, as much as one entry may have. */
static void entry_take(struct wal_objects *w, struct entry *n) {
    *n = (struct entry){0};
    slices_init(&n->body, w->env->mem);
    size_t bytes = 0;
    while (!list_empty(&w->queued)) {
        struct block *b = LIST_ENTRY(w->queued.next, struct block, node);
        if (n->groups > 0 && bytes + b->size > FLUSH_ENTRY_MAX) break;
        list_remove(&b->node);
        list_push_back(&w->placed, &b->node);
        w->queued_bytes -= b->size;
        bytes += b->size;
        entry_add(w, n, b);
    }
    wal_objects_head_encode(n->head, w->id, n->groups);
}

static void entry_confirmed(struct wal_objects *w, const struct entry *n, uint64_t number) {
    struct sent_entry *sent = MEM_NEW(w->env->mem, struct sent_entry);
    sent->number = number;
    sent->end = n->last->wal_end;
    list_push_back(&w->entries, &sent->node);
    for (bool end = false; !end;) {
        struct block *b = LIST_ENTRY(list_pop_front(&w->placed), struct block, node);
        end = b == n->last;
        w->confirmed_end = b->wal_end;
        w->options.confirmed(w->options.ctx, b);
    }
}

static unsigned op_begin(struct wal_objects *w) {
    unsigned i = 0;
    while (w->op_began_ns[i] != 0) i++;
    ASSERT(i < OBJLOG_DEPTH_MAX);
    w->op_began_ns[i] = env_now_ns(w->env) | 1;
    return i;
}

/* Answers come in the order of the numbers, so blocks are confirmed in theirs. */
static void send_entry(struct wal_objects *w) {
    struct entry n;
    entry_take(w, &n);
    struct slice head = slice_borrow(n.head, sizeof(n.head));
    uint64_t number;
    unsigned op = op_begin(w);
    enum err e = objlog_append(w->log, OBJLOG_CHECKPOINT, &head, n.body.items, n.body.count, n.crc, &number);
    w->op_began_ns[op] = 0;
    slices_deinit(&n.body);
    if (e != OK) {
        fail(w, e);
        return;
    }
    entry_confirmed(w, &n, number);
    delete_trimmed(w); /* it may carry a boundary */
}

static void send_run(void *arg) {
    struct wal_objects *w = arg;
    w->starting = false;
    /* Another may have taken everything before this one came to run. */
    for (bool due = !w->failed && !list_empty(&w->queued); due; due = send_due(w)) {
        w->sending++;
        send_entry(w);
        w->sending--;
    }
    leave(w);
}

static void send_more(struct wal_objects *w) {
    if (!send_due(w) || w->starting) return;
    w->starting = true;
    w->fibers++;
    fiber_spawn(loop_current(), "wal-objects-send", send_run, w);
}

void wal_objects_submit(struct wal_objects *w, struct block *b) {
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(w->log && !w->reported && b->padded > 0);
    list_push_back(&w->queued, &b->node);
    w->queued_bytes += b->size;
    send_more(w);
}

void wal_objects_trim(struct wal_objects *w, uint64_t position) {
    ASSERT(position <= w->confirmed_end || w->failed);
    if (position <= w->trimmed || w->failed) return;
    w->trimmed = position;
    if (env_mutant(w->env, MUTANT_OBJECTS_TRIM_EARLY)) position = w->confirmed_end;
    /* One stays: a log has an entry at its boundary. */
    while (w->entries.next != w->entries.prev) {
        struct sent_entry *first = LIST_ENTRY(w->entries.next, struct sent_entry, node);
        if (first->end > position) break;
        list_remove(&first->node);
        mem_free(w->env->mem, first);
    }
    if (list_empty(&w->entries)) return;
    objlog_trim(w->log, LIST_ENTRY(w->entries.next, struct sent_entry, node)->number);
    delete_trimmed(w);
}

/* ---- beginning and end of a log ---- */

static void forget_entries(struct wal_objects *w) {
    for (struct list *n; (n = list_pop_front(&w->entries)) != NULL;)
        mem_free(w->env->mem, LIST_ENTRY(n, struct sent_entry, node));
}

void wal_objects_give_up(struct wal_objects *w) {
    if (!w->log) return;
    if (!w->failed) w->failed_why = ERR_CLOSED;
    w->failed = w->reported = true;
    objlog_stop(w->log);
}

void wal_objects_abandon(struct wal_objects *w, struct list *left) {
    wal_objects_give_up(w);
    while (w->fibers > 0) waitq_wait(&w->idle);
    list_splice_back(left, &w->placed);
    list_splice_back(left, &w->queued);
    w->queued_bytes = 0;
}

struct deadline {
    struct timer timer;
    struct objlog *log;
};

static void deadline_passed(struct timer *t) {
    objlog_stop(CONTAINER_OF(t, struct deadline, timer)->log);
}

static enum err put_first_entry(struct wal_objects *w, uint64_t patience_ns) {
    struct deadline d = {.log = w->log};
    timer_init(&d.timer, deadline_passed);
    timer_arm(&d.timer, env_now_ns(w->env) + patience_ns);
    uint8_t bytes[WAL_OBJECTS_HEAD_SIZE];
    wal_objects_head_encode(bytes, w->id, 0);
    struct slice head = slice_borrow(bytes, sizeof(bytes));
    uint64_t number;
    enum err e = objlog_append(w->log, OBJLOG_CHECKPOINT, &head, NULL, 0, 0, &number);
    timer_disarm(&d.timer);
    return e == ERR_CANCELLED ? ERR_TIMEOUT : e;
}

/* What is left of our log; whatever becomes of it: a later start's sweep finds the rest. */
static void end_log(struct wal_objects *w, bool and_delete) {
    ASSERT(w->fibers == 0);
    if (!w->log) return;
    if (and_delete) {
        enum err e = delete_below(w, objlog_next(w->log));
        if (e != OK) log_info(w->env->log, "objects of a mirrored wal are left to a sweep", "error=%s", err_name(e));
    }
    objlog_destroy(w->log);
    w->log = NULL;
    forget_entries(w);
}

enum err wal_objects_begin(struct wal_objects *w, const char *generation, struct incarnation incarnation,
                           const uint8_t id[16], uint64_t patience_ns) {
    ASSERT(w->store && w->fibers == 0 && list_empty(&w->queued) && list_empty(&w->placed));
    end_log(w, true);
    memcpy(w->id, id, sizeof(w->id));
    w->incarnation = incarnation;
    wal_objects_prefix(w->prefix, generation, incarnation, id);
    struct objlog_options o = {.store = w->store,
                               .prefix = w->prefix,
                               .depth = w->options.depth,
                               .writer = incarnation.v,
                               .purpose = STORE_FOR_WAL,
                               .trimmed = true};
    w->log = objlog_create(&o);
    w->head = w->confirmed_end = w->trimmed = w->deleted = 0;
    w->failed = w->reported = false;
    enum err e = put_first_entry(w, patience_ns);
    if (e != OK) w->failed = w->reported = true;
    return e;
}

void wal_objects_destroy(struct wal_objects *w, bool in_order) {
    ASSERT(list_empty(&w->queued) && list_empty(&w->placed));
    while (w->fibers > 0) waitq_wait(&w->idle);
    end_log(w, in_order && !w->failed);
    if (w->store) store_close(w->store);
    mem_free(w->env->mem, (char *)(uintptr_t)w->options.url);
    mem_free(w->env->mem, w);
}

uint64_t wal_objects_oldest_op_ns(const struct wal_objects *w) {
    uint64_t oldest = 0;
    for (unsigned i = 0; i < OBJLOG_DEPTH_MAX; i++) {
        if (w->op_began_ns[i] != 0 && (oldest == 0 || w->op_began_ns[i] < oldest)) oldest = w->op_began_ns[i];
    }
    return oldest;
}

uint64_t wal_objects_used_bytes(const struct wal_objects *w) {
    return w->head - w->trimmed;
}

bool wal_objects_idle(const struct wal_objects *w) {
    return list_empty(&w->queued) && list_empty(&w->placed);
}
