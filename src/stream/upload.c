/* The log side, second part: from confirmed blocks to ledger entries. An upload takes blocks in WAL order, sorts
 * their records by stream, and makes one entry: sections with the deltas of their own
 * batches in its head, the pieces in its body (a stream with much data gets an object of its own). Once the entry is
 * durable, the committed states move, the WAL is trimmed, the shards hear of it. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/streams_priv.h"

struct section {
    struct ledger_stream *committed; /* valid until the next suspension only */
    struct stream_id stream;
    int32_t epoch;
    struct stream_state delta;
    struct object_piece piece;
    uint64_t piece_size;
    uint32_t piece_crc;
    bool own_object;
    struct object_id object;
};

struct upload {
    struct streams *s;
    bool recovering;
    struct list blocks;
    struct map64 by_stream;
    struct section **sections;
    size_t count, capacity;
    struct buf head;
    struct slices body;
    uint32_t body_crc;
    uint64_t number;
};

/* ---- commit mail ---- */

static void commit_mail_deliver(struct mail *m) {
    shard_on_commit(CONTAINER_OF(m, struct commit_mail, mail));
}

struct commit_mail **upload_mails_create(struct streams *s) {
    struct commit_mail **mails = mem_zalloc(s->mem, s->shard_count * sizeof(*mails));
    for (unsigned i = 0; i < s->shard_count; i++) {
        mails[i] = MEM_NEW(s->mem, struct commit_mail);
        mails[i]->mail.deliver = commit_mail_deliver;
        mails[i]->shard = &s->shards[i];
    }
    return mails;
}

struct commit_item *upload_mail_item(struct streams *s, struct commit_mail **mails, struct stream_id id) {
    struct commit_mail *m = mails[stream_home(id, s->shard_count)];
    m->items = mem_grow(s->mem, m->items, m->count, &m->capacity, sizeof(*m->items));
    struct commit_item *item = &m->items[m->count++];
    *item = (struct commit_item){.stream = id};
    return item;
}

void upload_post_mails(struct streams *s, struct commit_mail **mails) {
    for (unsigned i = 0; i < s->shard_count; i++) {
        if (s->shards[i].loop == s->options.log_loop) {
            shard_on_commit(mails[i]);
        } else {
            loop_post(s->shards[i].loop, &mails[i]->mail);
        }
    }
    mem_free(s->mem, mails);
}

void upload_count_ranges(struct streams *s, struct ledger_stream *c, int delta) {
    for (size_t i = 0; i < c->state.range_count; i++) object_uses_range(&s->uses, c->state.ranges[i].object, delta);
}

/* ---- building an entry ---- */

static void upload_init(struct upload *u, struct streams *s, bool recovering) {
    *u = (struct upload){.s = s, .recovering = recovering};
    list_init(&u->blocks);
    map64_init(&u->by_stream, s->mem);
    buf_init(&u->head, s->mem);
    slices_init(&u->body, s->mem);
}

static void upload_deinit(struct upload *u) {
    struct mem *m = u->s->mem;
    for (size_t i = 0; i < u->count; i++) {
        state_deinit(&u->sections[i]->delta);
        object_piece_deinit(&u->sections[i]->piece);
        mem_free(m, u->sections[i]);
    }
    mem_free(m, u->sections);
    map64_deinit(&u->by_stream);
    buf_deinit(&u->head);
    slices_deinit(&u->body);
    for (struct list *n; (n = list_pop_front(&u->blocks)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
}

static struct section *section_of(struct upload *u, const struct record_header *h) {
    struct section *t = map64_get(&u->by_stream, h->stream.v);
    if (t) return t;
    struct ledger_stream *c = ledger_image_get(&u->s->image, h->stream);
    /* Not there: its topic was deleted. Another epoch: of an earlier tenure. */
    if (!c || c->refused || c->epoch != h->epoch) return NULL;
    t = MEM_NEW(u->s->mem, struct section);
    t->committed = c;
    t->stream = h->stream;
    t->epoch = h->epoch;
    state_init_delta(&t->delta, u->s->mem, c->state.end_offset);
    object_piece_init(&t->piece, u->s->mem);
    (void)map64_put(&u->by_stream, h->stream.v, t);
    u->sections = mem_grow(u->s->mem, u->sections, u->count, &u->capacity, sizeof(struct section *));
    u->sections[u->count++] = t;
    return t;
}

static void refuse(struct upload *u, struct section *t, const struct record_header *h) {
    ASSERT(u->recovering); /* while running, a gap between what was appended and what is committed cannot be */
    t->committed->refused = true;
    t->committed->dirty = true;
    log_error(u->s->env->log, "recovery found a gap; the partition is refused",
              "stream=%" PRIu64 " expected_offset=%" PRIu64 " found_offset=%" PRIu64, h->stream.v, t->delta.end_offset,
              h->base_offset);
}

static enum err add_record(struct upload *u, struct block *b, const struct record_header *h, const uint8_t *payload) {
    struct section *t = section_of(u, h);
    if (!t || t->committed->refused) return OK;
    if (h->type == STREAM_TRIM) {
        if (h->end_offset <= t->delta.end_offset) state_apply_trim(&t->delta, h->end_offset);
        return OK;
    }
    if (u->recovering && h->end_offset <= t->delta.end_offset) return OK; /* uploaded before the crash */
    if (h->base_offset != t->delta.end_offset) {
        refuse(u, t, h);
        return OK;
    }
    struct state_batch view;
    enum err e = object_batch_view(h, payload, &view);
    if (e != OK) return e;
    if (OX_UNLIKELY(u->s->options.mutant == STREAM_MUTANT_FORGET_PRODUCERS)) view.producer_id = -1;
    state_apply_batch(&t->delta, &view);
    if (h->flags & STREAM_RECORD_TABLE) {
        e = state_apply_table(&t->delta, payload, h->payload_size);
        if (e != OK) return e;
        if (OX_UNLIKELY(u->s->options.mutant == STREAM_MUTANT_FORGET_TOMBSTONES))
            state_table_forget_tombstones(&t->delta.table);
    }
    struct slice batch = slice_of(&b->slab->slab, (size_t)(payload - b->slab->slab.data), h->payload_size);
    object_piece_add(&t->piece, batch, h->base_offset, h->end_offset, h->max_timestamp);
    return OK;
}

static int by_stream_id(const void *a, const void *b) {
    const struct section *x = *(struct section *const *)a, *y = *(struct section *const *)b;
    return x->stream.v < y->stream.v ? -1 : x->stream.v > y->stream.v;
}

/* A producer's age counts from when it was last seen, also where it replays records with old timestamps: it must
 * stay known for as long as it may retry. */
static void stamp_producers(struct section *t, int64_t now_ms) {
    size_t cursor = 0;
    struct state_producer *p;
    while ((p = map64_next(&t->delta.producers, &cursor, NULL)) != NULL) {
        if (p->last_timestamp < now_ms) p->last_timestamp = now_ms;
    }
}

static void finish_sections(struct upload *u) {
    if (u->count > 1) qsort(u->sections, u->count, sizeof(struct section *), by_stream_id);
    for (size_t i = 0; i < u->count; i++) {
        struct section *t = u->sections[i];
        if (t->piece.block_count == 0) continue;
        stamp_producers(t, env_wall_ms(u->s->env));
        t->piece_size = object_piece_finish(&t->piece, &t->piece_crc);
        t->own_object = t->piece_size >= STREAM_OBJECT_MIN;
        struct state_range r = {.object = {{0}, OBJECT_THIS_ENTRY, OBJECT_LEDGER_ENTRY},
                                .first_offset = t->piece.first_offset,
                                .end_offset = t->piece.end_offset,
                                .max_timestamp = t->piece.max_timestamp,
                                .size_bytes = t->piece_size,
                                .block_count = (uint32_t)t->piece.block_count};
        if (t->own_object) {
            t->object = (struct object_id){u->s->options.incarnation, u->s->next_data_object++, OBJECT_DATA};
            r.object = t->object;
            r.position = OBJECT_DATA_HEADER;
        } else {
            r.position = OX_UNLIKELY(u->s->options.mutant == STREAM_MUTANT_RANGES_OFF) ? 0 : u->body.size_bytes;
            slices_push(&u->body, slice_borrow(t->piece.index, t->piece.index_size));
            for (size_t k = 0; k < t->piece.parts.count; k++) {
                struct slice part = t->piece.parts.items[k];
                slices_push(&u->body, slice_borrow(part.data, part.size));
            }
            u->body_crc = crc32c_combine(u->body_crc, t->piece_crc, t->piece_size);
        }
        state_add_range(&t->delta, &r);
    }
}

static bool section_empty(const struct section *t) {
    return t->piece.block_count == 0 && t->delta.start_offset == 0;
}

static void encode_head(struct upload *u) {
    struct object_head head = {0};
    for (size_t i = 0; i < u->count; i++) head.section_count += !section_empty(u->sections[i]);
    memcpy(head.wal_id, u->s->wal_id, sizeof(head.wal_id));
    object_head_begin(&u->head, &head);
    for (size_t i = 0; i < u->count; i++) {
        struct section *t = u->sections[i];
        if (!section_empty(t)) object_head_section(&u->head, t->stream, t->epoch, OBJECT_APPENDED, &t->delta);
    }
}

/* An object under a name that only we use: whatever lies there is ours. Repeats until it is known to be there. */
static enum err put_own_object(struct streams *s, struct section *t) {
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, t->object);
    uint8_t header[OBJECT_DATA_HEADER];
    object_data_header(header, t->object, t->stream, t->piece_size);
    size_t n = t->piece.parts.count + 2;
    struct slice *data = mem_alloc(s->mem, n * sizeof(*data));
    data[0] = slice_borrow(header, sizeof(header));
    data[1] = slice_borrow(t->piece.index, t->piece.index_size);
    memcpy(data + 2, t->piece.parts.items, t->piece.parts.count * sizeof(*data));
    enum err e;
    unsigned failures = 0;
    for (;;) {
        e = store_put(s->store, key, data, n, true, STORE_FOR_UPLOAD);
        if (e == ERR_EXISTS) e = OK;
        if (e == OK || s->closing || s->fenced) break;
        if (failures++ == 0) {
            /* Counted, not set: entries of logs may be failing at the same time and count themselves. */
            metric_gauge_add(s->env->metrics, M_STORE_FAILING, 1);
            log_warn(s->env->log, "object store refuses an upload; repeating", "error=%s key=%s", err_name(e), key);
        }
        env_backoff(s->env, failures < 8 ? failures : 8, 50 * NS_PER_MS, 5 * NS_PER_S);
    }
    if (failures > 0) {
        metric_gauge_add(s->env->metrics, M_STORE_FAILING, -1);
        if (e == OK) log_info(s->env->log, "object store takes uploads again", "key=%s", key);
    }
    mem_free(s->mem, data);
    return e;
}

/* ---- after the entry is durable ---- */

static void commit_section(struct upload *u, struct section *t, struct commit_mail **mails) {
    struct streams *s = u->s;
    struct ledger_stream *c = ledger_image_get(&s->image, t->stream); /* perhaps dropped while we waited */
    if (!c || section_empty(t)) {
        for (size_t i = 0; i < t->delta.range_count; i++)
            object_uses_check(&s->uses, object_uses_add(&s->uses, t->delta.ranges[i].object));
        return;
    }
    ASSERT(c->epoch == t->epoch && (u->recovering || !c->refused)); /* what came before a gap is kept */
    ASSERT(c->state.end_offset == t->delta.first_offset);
    /* New references before old ones go, so that no object in use is listed as garbage in between. */
    for (size_t i = 0; i < t->delta.range_count; i++) object_uses_range(&s->uses, t->delta.ranges[i].object, 1);
    uint64_t start = t->delta.start_offset > c->state.start_offset ? t->delta.start_offset : c->state.start_offset;
    for (size_t i = 0; i < c->state.range_count && c->state.ranges[i].end_offset <= start; i++)
        object_uses_range(&s->uses, c->state.ranges[i].object, -1);
    for (size_t i = 0; i < t->delta.range_count && t->delta.ranges[i].end_offset <= start; i++)
        object_uses_range(&s->uses, t->delta.ranges[i].object, -1);
    enum err e = state_merge(&c->state, &t->delta);
    ASSERT(e == OK);
    c->dirty = true;
    struct commit_item *item = upload_mail_item(s, mails, t->stream);
    item->start_offset = c->state.start_offset;
    if (t->delta.range_count > 0) {
        item->has_range = true;
        item->range = t->delta.ranges[0];
    }
}

static void commit_entry(struct upload *u, bool acknowledge) {
    struct streams *s = u->s;
    struct commit_mail **mails = upload_mails_create(s);
    uint64_t body_position = OBJLOG_HEADER_SIZE + u->head.size;
    object_uses_check(&s->uses, object_uses_add(&s->uses, (struct object_id){s->options.incarnation, u->number,
                                                                             OBJECT_LEDGER_ENTRY}));
    for (size_t i = 0; i < u->count; i++) {
        ledger_resolve_ranges(&u->sections[i]->delta, s->options.incarnation, u->number, body_position);
        commit_section(u, u->sections[i], mails);
    }
    uint64_t trim = 0;
    LIST_EACH(it, &u->blocks) {
        struct block *b = LIST_ENTRY(it, struct block, node);
        if (u->recovering) continue;
        if (acknowledge)
            log_publish_durable(s, b);
        else
            trim = b->wal_end;
        mails[block_shard(b)]->uploaded_sequence = block_sequence(b);
    }
    upload_post_mails(s, mails);
    if (trim > 0 && s->wal_mode == WAL_MODE_ON) wal_trim(s->wal, trim);
    upload_entry_made(s);
    metric_add(s->env->metrics, M_UPLOADS, 0, 1);
}

/* Makes and appends one entry from u->blocks. The caller holds ledger_lock. */
static enum err upload_entry(struct upload *u, bool acknowledge) {
    struct streams *s = u->s;
    LIST_EACH(it, &u->blocks) {
        struct block *b = LIST_ENTRY(it, struct block, node);
        size_t position = 0;
        struct record_header h;
        const uint8_t *payload;
        while (block_next(b, &position, &h, &payload)) {
            enum err e = add_record(u, b, &h, payload);
            if (e != OK) return e;
        }
    }
    finish_sections(u);
    encode_head(u);
    enum err e = OK;
    for (size_t i = 0; i < u->count && e == OK; i++) {
        if (u->sections[i]->own_object) e = put_own_object(s, u->sections[i]);
    }
    if (e == OK) {
        struct slice head = slice_borrow(u->head.data, u->head.size);
        e = objlog_append(s->log, OBJLOG_DATA, &head, u->body.items, u->body.count, u->body_crc, &u->number);
    }
    if (e == OK) commit_entry(u, acknowledge);
    return e;
}

enum err upload_announce(struct streams *s) {
    if (objlog_next(s->log) == 0) return upload_checkpoint(s, false);
    struct list none;
    list_init(&none);
    return upload_blocks(s, &none);
}

enum err upload_blocks(struct streams *s, struct list *blocks) {
    struct upload u;
    fiber_mutex_lock(&s->ledger_lock);
    upload_init(&u, s, true);
    list_splice_back(&u.blocks, blocks);
    enum err e = upload_entry(&u, false);
    upload_deinit(&u);
    fiber_mutex_unlock(&s->ledger_lock);
    return e;
}

/* ---- checkpoints ---- */

static bool write_whole(const struct streams *s, const struct ledger_stream *c) {
    if (OX_UNLIKELY(s->options.mutant == STREAM_MUTANT_OLD_STATES)) return !c->written;
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

static enum err checkpoint_locked(struct streams *s, bool closed) {
    struct buf head, states, pointers;
    buf_init(&head, s->mem);
    buf_init(&states, s->mem);
    buf_init(&pointers, s->mem);
    struct object_head h = {.state_count = (uint32_t)s->image.streams.count, .closed = closed};
    memcpy(h.wal_id, s->wal_id, sizeof(h.wal_id));
    object_head_begin(&head, &h);
    size_t cursor = 0;
    struct ledger_stream *c;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) {
        struct object_state_pointer p = c->pointer;
        p.stream = c->id;
        p.epoch = c->epoch;
        p.refused = c->refused;
        if (write_whole(s, c)) {
            state_expire_producers(&c->state, env_wall_ms(s->env) - s->options.producer_expiration_ms);
            p.entry = OBJECT_THIS_ENTRY;
            p.position = states.size;
            state_encode(&c->state, &states);
            p.size = (uint32_t)(states.size - p.position);
            p.crc = crc32c(0, states.data + p.position, p.size);
            c->dirty = false; /* what changes from here on makes it dirty again */
            buf_put(&pointers, &p, sizeof(p));
        }
        object_head_state(&head, &p);
    }
    struct slice head_slice = slice_borrow(head.data, head.size), body = slice_borrow(states.data, states.size);
    uint64_t number;
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
        s->entries_since_checkpoint = 0;
        metric_add(s->env->metrics, M_CHECKPOINTS, 0, 1);
    }
    buf_deinit(&head);
    buf_deinit(&states);
    buf_deinit(&pointers);
    return e;
}

enum err upload_checkpoint(struct streams *s, bool closed) {
    fiber_mutex_lock(&s->ledger_lock);
    /* The closing checkpoint is the last entry of a ledger: what comes behind it would undo what it says. */
    enum err e = s->ended ? ERR_CLOSED : checkpoint_locked(s, closed);
    if (closed) s->ended = true;
    fiber_mutex_unlock(&s->ledger_lock);
    if (e == OK) collect_poke(s);
    return e;
}

/* An entry without contents: it carries the boundary that the last checkpoint has become. On a broker without
 * traffic no other would, and what lies below would stay. */
static enum err carry_boundary(struct streams *s) {
    struct buf head;
    buf_init(&head, s->mem);
    struct object_head h = {0};
    memcpy(h.wal_id, s->wal_id, sizeof(h.wal_id));
    object_head_begin(&head, &h);
    struct slice slice = slice_borrow(head.data, head.size);
    uint64_t number;
    fiber_mutex_lock(&s->ledger_lock);
    enum err e = s->ended ? ERR_CLOSED : objlog_append(s->log, OBJLOG_DATA, &slice, NULL, 0, 0, &number);
    if (e == OK)
        object_uses_check(&s->uses, object_uses_add(&s->uses, (struct object_id){s->options.incarnation, number,
                                                                                 OBJECT_LEDGER_ENTRY}));
    fiber_mutex_unlock(&s->ledger_lock);
    buf_deinit(&head);
    return e;
}

static void checkpoint_job(void *arg) {
    struct streams *s = arg;
    if (!s->closing && s->entries_since_checkpoint > 0) {
        enum err e = upload_checkpoint(s, false);
        if (e == OK && s->uses.garbage_count > 0 && objlog_deletable_below(s->log) < objlog_boundary(s->log)) {
            e = carry_boundary(s);
            collect_poke(s);
        }
        if (e != OK && e != ERR_CANCELLED && e != ERR_CLOSED) log_fatal(s, e, "a checkpoint failed for good");
    }
    s->checkpointing = false;
    waitgroup_done(&s->background);
}

void upload_checkpoint_due(struct timer *t) {
    struct streams *s = CONTAINER_OF(t, struct streams, checkpoint_timer);
    if (s->checkpointing || s->closing || s->fenced) return;
    s->checkpointing = true;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "checkpoint", checkpoint_job, s);
}

void upload_entry_made(struct streams *s) {
    s->entries_since_checkpoint++;
    if (s->options.checkpoint_interval_ms == 0 || timer_armed(&s->checkpoint_timer)) return;
    timer_arm(&s->checkpoint_timer, env_now_ns(s->env) + s->options.checkpoint_interval_ms * NS_PER_MS);
}

/* ---- when ---- */

static uint64_t oldest_ns(const struct streams *s) {
    return LIST_ENTRY(s->pending.next, struct block, node)->opened_ns;
}

static bool triggered(struct streams *s) {
    if (!list_empty(&s->unacked)) return true;
    if (list_empty(&s->pending)) return false;
    if (s->flushing || s->upload_wanted || s->wal_mode == WAL_MODE_FAILED) return true;
    if (s->pending_bytes >= s->options.upload_bytes) return true;
    if (wal_used_bytes(s->wal) > wal_capacity(s->wal) / 100 * s->options.upload_wal_percent) return true;
    return env_now_ns(s->env) - oldest_ns(s) >= s->options.upload_interval_ms * NS_PER_MS;
}

static void take_blocks(struct upload *u, struct list *from, uint64_t *bytes) {
    uint64_t taken = 0;
    while (!list_empty(from)) {
        struct block *b = LIST_ENTRY(from->next, struct block, node);
        if (taken > 0 && taken + b->size > UPLOAD_ENTRY_MAX) break;
        taken += b->size;
        list_remove(&b->node);
        list_push_back(&u->blocks, &b->node);
    }
    ASSERT(*bytes >= taken);
    *bytes -= taken;
}

static enum err upload_once(struct streams *s) {
    fiber_mutex_lock(&s->ledger_lock);
    struct upload u;
    upload_init(&u, s, false);
    bool acknowledge = list_empty(&s->pending);
    take_blocks(&u, acknowledge ? &s->unacked : &s->pending, acknowledge ? &s->unacked_bytes : &s->pending_bytes);
    s->upload_wanted = false;
    enum err e = OK;
    if (!list_empty(&u.blocks)) e = upload_entry(&u, acknowledge);
    upload_deinit(&u);
    if (e == OK && s->entries_since_checkpoint >= s->options.checkpoint_entries) e = checkpoint_locked(s, false);
    fiber_mutex_unlock(&s->ledger_lock);
    return e;
}

/* Everything the failed WAL held is in the ledger: give it another try. Blocks that arrive meanwhile are put into
 * it. */
static bool restart_wal(struct streams *s) {
    enum err e = wal_restart(s->wal);
    if (e == ERR_FENCED) log_fatal(s, e, "the WAL was taken over");
    if (e != OK || !list_empty(&s->pending)) return false;
    s->wal_mode = WAL_MODE_ON;
    log_info(s->env->log, "wal works again", "path=%s", wal_path(s->wal));
    for (struct list *n; (n = list_pop_front(&s->unacked)) != NULL;) {
        struct block *b = LIST_ENTRY(n, struct block, node);
        s->unacked_bytes -= b->size;
        b->written = false;
        wal_submit(s->wal, b);
    }
    return true;
}

static uint64_t wal_retry_at(struct streams *s, unsigned attempt) {
    uint64_t limit = attempt < 7 ? (100 * NS_PER_MS) << attempt : 10 * NS_PER_S, r;
    env_random(s->env, &r, sizeof(r));
    return env_now_ns(s->env) + limit / 2 + r % (limit / 2);
}

static void uploader(void *arg) {
    struct streams *s = arg;
    unsigned wal_attempt = 0;
    uint64_t retry_ns = wal_retry_at(s, wal_attempt++);
    while (!s->closing && !s->fenced) {
        bool retry = s->wal_mode == WAL_MODE_FAILED && !s->flushing;
        if (retry && list_empty(&s->pending) && env_now_ns(s->env) >= retry_ns) {
            /* Also while blocks wait: under a steady load some always do, and they go into the WAL. */
            if (!restart_wal(s)) retry_ns = wal_retry_at(s, wal_attempt++);
        } else if (triggered(s)) {
            enum err e = upload_once(s);
            if (e == ERR_FENCED) log_fatal(s, e, "another broker has fenced this ledger");
            if (e != OK && e != ERR_FENCED && e != ERR_CANCELLED) log_fatal(s, e, "an upload failed for good");
            collect_poke(s);
            compact_poke(s);
            waitq_wake_all(&s->upload_done);
            if (e != OK) break;
        } else if (retry) {
            (void)waitq_wait_until(&s->upload_wake, retry_ns); /* what comes meanwhile is acknowledged at once */
        } else {
            break;
        }
    }
    s->uploading = false;
    waitq_wake_all(&s->upload_done);
    upload_poke(s);
}

void upload_poke(struct streams *s) {
    if (s->uploading) waitq_wake_all(&s->upload_wake);
    if (s->uploading || s->closing || s->fenced || s->wal_mode == WAL_MODE_OFF) return;
    if (triggered(s) || (s->wal_mode == WAL_MODE_FAILED && !s->flushing)) {
        s->uploading = true;
        fiber_spawn(loop_current(), "uploader", uploader, s);
        return;
    }
    if (list_empty(&s->pending) || timer_armed(&s->upload_timer)) return;
    timer_arm(&s->upload_timer, oldest_ns(s) + s->options.upload_interval_ms * NS_PER_MS);
}

static void want_mail_deliver(struct mail *m) {
    struct streams *s = CONTAINER_OF(m, struct streams, want_mail);
    atomic_store(&s->want_mail_out, false);
    s->upload_wanted = true;
    upload_poke(s);
}

void upload_want(struct streams *s) {
    if (loop_current() == s->options.log_loop) {
        s->upload_wanted = true;
        upload_poke(s);
        return;
    }
    if (atomic_exchange(&s->want_mail_out, true)) return;
    s->want_mail.deliver = want_mail_deliver;
    loop_post(s->options.log_loop, &s->want_mail);
}

enum err upload_flush(struct streams *s) {
    s->flushing = true;
    while (!s->fenced && !s->closing &&
           (!list_empty(&s->pending) || !list_empty(&s->unacked) || s->uploading ||
            (s->wal_mode == WAL_MODE_ON && !wal_idle(s->wal)))) {
        upload_poke(s);
        waitq_wait(&s->upload_done);
    }
    s->flushing = false;
    return s->fenced ? ERR_FENCED : s->closing ? ERR_CANCELLED : OK;
}
