/* The log side, third part: checkpoints. One says what all entries below its number amount to, so that a recovery need
 * not read those. Entries overlap (upload.c): a checkpoint waits until none is under way, and lets the next begin once
 * its number is drawn. States that have not changed since they were written whole stay where they are, and it points at
 * them. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/streams_priv.h"

/* ---- entries that overlap ---- */

enum err ledger_enter(struct streams *s) {
    while (s->draining && !s->closing && !s->fenced) waitq_wait(&s->entry_ended);
    if (s->ended || s->closing || s->fenced) return ERR_CANCELLED;
    s->entries_under_way++;
    return OK;
}

void ledger_leave(struct streams *s) {
    ASSERT(s->entries_under_way > 0);
    s->entries_under_way--;
    waitq_wake_all(&s->entry_ended);
}

/* Suspends until nothing of ours is under way and nothing begins. */
static void ledger_drain(struct streams *s) {
    s->draining = true;
    while (s->entries_under_way > 0 && !env_mutant(s->env, MUTANT_NO_DRAIN)) waitq_wait(&s->entry_ended);
}

static void ledger_release(struct streams *s) {
    s->draining = false;
    waitq_wake_all(&s->entry_ended);
    upload_poke(s);
}

/* ---- checkpoints ---- */

static bool write_whole(const struct streams *s, const struct ledger_stream *c) {
    if (env_mutant(s->env, MUTANT_OLD_STATES)) return !c->written;
    if (c->dirty || !c->written) return true;
    /* What has not changed stays where it was, unless that pins an object that is too old. */
    return s->checkpoint_count == ARRAY_LEN(s->checkpoints) && c->pointer.entry < s->checkpoints[0];
}

static void remember_checkpoint(struct streams *s, uint64_t number) {
    if (s->checkpoint_count == ARRAY_LEN(s->checkpoints)) {
        memmove(s->checkpoints, s->checkpoints + 1, sizeof(s->checkpoints) - sizeof(s->checkpoints[0]));
        s->checkpoint_count--;
    }
    s->checkpoints[s->checkpoint_count++] = number;
}

static void move_pointer(struct streams *s, struct ledger_stream *c, const struct object_state_pointer *p,
                         uint64_t number, uint64_t body_position) {
    struct object_id before = {s->options.incarnation, c->pointer.entry, OBJECT_LEDGER_ENTRY};
    struct object_id now = {s->options.incarnation, number, OBJECT_LEDGER_ENTRY};
    object_uses_pin(&s->uses, now, 1, 0);
    if (c->written) object_uses_pin(&s->uses, before, -1, number);
    c->pointer = *p;
    c->pointer.entry = number;
    c->pointer.position += body_position;
    c->written = true;
}

/* For MUTANT_LIVE_CHECKPOINT: what the partition has appended by now, in place of what the entries before say. */
static void live_end(struct streams *s, struct ledger_stream *c) {
    const struct stream *live = map64_get(&s->shards[stream_home(c->id, s->shard_count)].streams, c->id.v);
    if (live && live->loaded && live->appended_end > c->state.end_offset) c->state.end_offset = live->appended_end;
}

/* Nothing is under way; releases the ledger for those who come next. */
static enum err checkpoint_drained(struct streams *s, bool closed) {
    struct buf head, states, pointers;
    buf_init(&head, s->mem);
    buf_init(&states, s->mem);
    buf_init(&pointers, s->mem);
    struct object_head h = {.state_count = (uint32_t)s->image.streams.count, .closed = closed};
    log_wal_names(s, &h);
    object_head_begin(&head, &h);
    size_t cursor = 0;
    struct ledger_stream *c;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) {
        struct object_state_pointer p = c->pointer;
        p.stream = c->id;
        p.epoch = c->epoch;
        p.refused = c->refused;
        uint64_t committed_end = c->state.end_offset;
        if (write_whole(s, c)) {
            state_expire_producers(&c->state, &c->expiry, s->options.producer_expiration_ms, env_now_ns(s->env),
                                   env_wall_ms(s->env));
            p.entry = OBJECT_THIS_ENTRY;
            p.position = states.size;
            if (env_mutant(s->env, MUTANT_LIVE_CHECKPOINT)) live_end(s, c);
            state_encode(&c->state, &states);
            if (env_mutant(s->env, MUTANT_LIVE_CHECKPOINT)) c->state.end_offset = committed_end;
            p.size = (uint32_t)(states.size - p.position);
            p.crc = crc32c(0, states.data + p.position, p.size);
            c->dirty = false; /* what changes from here on makes it dirty again */
            buf_put(&pointers, &p, sizeof(p));
        }
        object_head_state(&head, &p);
    }
    struct slice head_slice = slice_borrow(head.data, head.size), body = slice_borrow(states.data, states.size);
    uint64_t number, covered = s->entries_since_checkpoint;
    if (closed) s->ended = true;
    /* Whoever goes on now runs when we suspend: in objlog_append, which has drawn our number by then. */
    ledger_release(s);
    enum err e = objlog_append(s->log, OBJLOG_CHECKPOINT, &head_slice, &body, states.size ? 1 : 0,
                               crc32c(0, states.data, states.size), &number);
    for (size_t at = 0; at < pointers.size; at += sizeof(struct object_state_pointer)) {
        struct object_state_pointer p;
        memcpy(&p, pointers.data + at, sizeof(p));
        c = ledger_image_get(&s->image, p.stream);
        if (!c) continue; /* dropped meanwhile */
        if (e == OK)
            move_pointer(s, c, &p, number, OBJLOG_HEADER_SIZE + head.size);
        else
            c->dirty = true;
    }
    if (e == OK) {
        object_uses_check(&s->uses, object_uses_add(&s->uses, (struct object_id){s->options.incarnation, number,
                                                                                 OBJECT_LEDGER_ENTRY}));
        remember_checkpoint(s, number);
        s->entries_since_checkpoint -= covered;
        metric_add(s->env->metrics, M_CHECKPOINTS, 0, 1);
    }
    buf_deinit(&head);
    buf_deinit(&states);
    buf_deinit(&pointers);
    return e;
}

enum err checkpoint_write(struct streams *s, bool closed) {
    fiber_mutex_lock(&s->checkpoint_lock);
    ledger_drain(s);
    enum err e = OK;
    /* The closing checkpoint is the last entry of a ledger: what comes behind it would undo what it says. */
    if (s->ended || s->closing || s->fenced) {
        e = ERR_CLOSED;
        ledger_release(s);
    } else {
        e = checkpoint_drained(s, closed);
    }
    fiber_mutex_unlock(&s->checkpoint_lock);
    if (e == OK) collect_poke(s);
    return e;
}

/* An entry without contents. */
static enum err empty_entry(struct streams *s, const struct wal_membership *members) {
    struct buf head;
    buf_init(&head, s->mem);
    struct object_head h = {0};
    enum err e = ledger_enter(s);
    if (e != OK) goto out;
    log_wal_names(s, &h);
    if (members) h.members = *members;
    object_head_begin(&head, &h);
    struct slice slice = slice_borrow(head.data, head.size);
    uint64_t number;
    e = objlog_append(s->log, OBJLOG_DATA, &slice, NULL, 0, 0, &number);
    if (e == OK && members) s->members = *members;
    if (e == OK)
        object_uses_check(&s->uses, object_uses_add(&s->uses, (struct object_id){s->options.incarnation, number,
                                                                                 OBJECT_LEDGER_ENTRY}));
    ledger_leave(s);
out:
    buf_deinit(&head);
    return e;
}

/* It carries the boundary that the last checkpoint has become. On a broker without traffic no other would, and what lies
 * below would stay. */
static enum err carry_boundary(struct streams *s) {
    return empty_entry(s, NULL);
}

enum err ledger_write_members(struct streams *s, const struct wal_membership *members) {
    ASSERT(members->version > s->members.version);
    enum err e = empty_entry(s, members);
    if (e == OK) checkpoint_entry_made(s);
    return e;
}

static void checkpoint_job(void *arg) {
    struct streams *s = arg;
    if (!s->closing && s->entries_since_checkpoint > 0) {
        enum err e = checkpoint_write(s, false);
        if (e == OK && s->uses.garbage_count > 0 && objlog_deletable_below(s->log) < objlog_boundary(s->log)) {
            e = carry_boundary(s);
            collect_poke(s);
        }
        if (e != OK && e != ERR_CANCELLED && e != ERR_CLOSED) log_fatal(s, e, "a checkpoint failed for good");
    }
    s->checkpointing = false;
    waitgroup_done(&s->background);
}

static void start_checkpoint(struct streams *s) {
    if (s->checkpointing || s->closing || s->fenced || !s->started) return;
    s->checkpointing = true;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "checkpoint", checkpoint_job, s);
}

void checkpoint_due(struct timer *t) {
    start_checkpoint(CONTAINER_OF(t, struct streams, checkpoint_timer));
}

void checkpoint_entry_made(struct streams *s) {
    s->entries_since_checkpoint++;
    if (s->entries_since_checkpoint >= s->options.checkpoint_entries) start_checkpoint(s);
    if (s->options.checkpoint_interval_ms == 0 || timer_armed(&s->checkpoint_timer)) return;
    timer_arm(&s->checkpoint_timer, env_now_ns(s->env) + s->options.checkpoint_interval_ms * NS_PER_MS);
}
