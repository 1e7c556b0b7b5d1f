/* The log side, second part: from blocks to ledger entries. An upload takes blocks of one queue, in their order, sorts
 * their records by stream, and makes one entry: sections with the deltas of their own batches in its head, the pieces
 * in its body (or, when they are too large for one, in an object of their own). Once the entry and all before it are
 * durable, the committed states move, the WAL is trimmed, the shards hear of it; what the ledger confirms is
 * acknowledged.
 *
 * Entries overlap. What an entry says of a stream begins where the entries before it end, durable or not; so they are
 * numbered in the order in which their records were taken (tickets: one whose data objects are slow lets the others
 * wait), and they are applied in that order, which is how objlog_append returns. checkpoint.c says how checkpoints come
 * between them.
 *
 * When: what waits to be confirmed goes at once while nothing is on its way; else when there is FLUSH_ENTRY_MIN of it,
 * or a quarter of what an entry takes has passed since the last one: so a request costs little more than one PUT, and
 * the number of PUTs stays small. What the WAL has confirmed has time: bytes, age, the WAL's fill, a shard in need. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/streams_priv.h"

#define FLUSHES_MAX 24u /* entries under way that acknowledge; and */
#define UPLOADS_MAX 2u  /* others */
#define FLUSH_PACE_MAX_NS (50 * NS_PER_MS)
/* While the ledger confirms appends, uploads that have time are cut small: whatever is numbered before an entry delays
 * it. */
#define LEDGER_IN_USE_NS (10 * NS_PER_S)

struct section {
    struct stream_id stream;
    int32_t epoch;
    struct stream_state delta;
    struct object_piece piece;
    uint64_t piece_size;
    uint32_t piece_crc;
    bool refused;
};

struct upload {
    struct streams *s;
    enum queue_kind kind;
    bool acknowledged;
    struct upload_recovered *recovered; /* of a recovery's; or NULL */
    uint64_t ticket;
    uint64_t steps; /* of the building */
    struct list blocks;
    struct map64 by_stream;
    struct section **sections;
    size_t count, capacity;
    uint64_t bytes;
    uint64_t staged_bytes, staged_counted; /* of them, what is copied: memory of its own; and what is counted of that */
    struct buf head;
    struct slices body; /* of the entry; or of a data object of its own, when it is too large for one: */
    bool has_object;
    struct object_id object;
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
    for (size_t i = 0; i < c->state.range_count; i++) object_uses_range(&s->uses, &c->state.ranges[i], delta);
}

/* ---- building an entry ---- */

static void upload_init(struct upload *u, struct streams *s, enum queue_kind kind, struct upload_recovered *recovered) {
    *u = (struct upload){.s = s, .kind = kind, .recovered = recovered};
    list_init(&u->blocks);
    map64_init(&u->by_stream, s->mem);
    buf_init(&u->head, s->mem);
    slices_init(&u->body, s->mem);
}

/* What it has copied by now is counted. */
static void upload_count_staged(struct upload *u) {
    struct streams *s = u->s;
    metric_gauge_add(s->env->metrics, M_UPLOAD_BYTES, (int64_t)u->staged_bytes - (int64_t)u->staged_counted);
    s->staged_bytes += u->staged_bytes - u->staged_counted;
    u->staged_counted = u->staged_bytes;
}

static void upload_deinit(struct upload *u) {
    struct mem *m = u->s->mem;
    u->staged_bytes = 0;
    upload_count_staged(u);
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
    t->stream = h->stream;
    t->epoch = h->epoch;
    bool under_way = c->submitted_end > c->state.end_offset;
    state_init_delta(&t->delta, u->s->mem, under_way ? c->submitted_end : c->state.end_offset);
    object_piece_init(&t->piece, u->s->mem);
    (void)map64_put(&u->by_stream, h->stream.v, t);
    u->sections = mem_grow(u->s->mem, u->sections, u->count, &u->capacity, sizeof(struct section *));
    u->sections[u->count++] = t;
    return t;
}

static void refuse(struct upload *u, struct section *t, const struct record_header *h) {
    struct ledger_stream *c = ledger_image_get(&u->s->image, t->stream);
    ASSERT(c); /* nothing is dropped while we recover */
    c->refused = t->refused = true;
    c->dirty = true;
    log_error(u->s->env->log, "recovery found a gap; the partition is refused",
              "stream=%" PRIu64 " expected_offset=%" PRIu64 " found_offset=%" PRIu64, h->stream.v, t->delta.end_offset,
              h->base_offset);
}

static enum err add_record(struct upload *u, struct block *b, const struct record_header *h, const uint8_t *payload) {
    struct section *t = section_of(u, h);
    if (!t || t->refused) return OK;
    if (h->type == STREAM_TRIM) {
        if (env_mutant(u->s->env, MUTANT_FORGET_TRIMS)) return OK;
        if (h->end_offset <= t->delta.end_offset) state_apply_trim(&t->delta, h->end_offset);
        return OK;
    }
    if (u->recovered && h->end_offset <= t->delta.end_offset) return OK; /* uploaded before the crash */
    if (h->base_offset != t->delta.end_offset) {
        if (!u->recovered) return ERR_GAP; /* our own order is wrong: stop before it becomes durable */
        refuse(u, t, h);
        return OK;
    }
    struct state_batch view;
    enum err e = object_batch_view(h, payload, &view);
    if (e != OK) return e;
    if (env_mutant(u->s->env, MUTANT_FORGET_PRODUCERS)) view.producer_id = -1;
    if (env_mutant(u->s->env, MUTANT_FORGET_ROLLS)) view.rolls = false;
    state_apply_batch(&t->delta, &view);
    if (h->flags & STREAM_RECORD_TABLE) {
        e = state_apply_table(&t->delta, payload, h->payload_size);
        if (e != OK) return e;
        if (env_mutant(u->s->env, MUTANT_FORGET_TOMBSTONES)) state_table_forget_tombstones(&t->delta.table);
    }
    if (object_piece_copies(h->payload_size)) u->staged_bytes += h->payload_size;
    struct slice batch = slice_of(&b->slab->slab, (size_t)(payload - b->slab->slab.data), h->payload_size);
    object_piece_add(&t->piece, batch, h->base_offset, h->end_offset, h->max_timestamp);
    return OK;
}

/* An entry may be of a hundred thousand batches: others are let in between. */
static void build_step(struct upload *u) {
    if (++u->steps % BUILD_STEPS == 0) fiber_yield();
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

/* For MUTANT_OFFSET_32. */
static void narrow_offsets(struct object_piece *p) {
    for (size_t i = 0; i < p->block_count; i++) {
        p->blocks[i].first_offset = (uint32_t)p->blocks[i].first_offset;
        p->blocks[i].end_offset = (uint32_t)p->blocks[i].end_offset;
    }
}

static void finish_section(struct upload *u, struct section *t) {
    stamp_producers(t, env_wall_ms(u->s->env));
    /* The same entry trims all of it: no range will name it. */
    if (t->delta.start_offset >= t->piece.end_offset) return;
    if (env_mutant(u->s->env, MUTANT_OFFSET_32)) narrow_offsets(&t->piece);
    t->piece_size = object_piece_finish(&t->piece, &t->piece_crc);
    struct state_range r = {.object = {{0}, OBJECT_THIS_ENTRY, OBJECT_LEDGER_ENTRY},
                            .first_offset = t->piece.first_offset,
                            .end_offset = t->piece.end_offset,
                            .max_timestamp = t->piece.max_timestamp,
                            .position = env_mutant(u->s->env, MUTANT_RANGES_OFF) ? 0 : u->body.size_bytes,
                            .size_bytes = t->piece_size,
                            .block_count = (uint32_t)t->piece.block_count};
    if (u->has_object) {
        r.object = u->object;
        r.position += OBJECT_DATA_HEADER;
    }
    slices_push(&u->body, slice_borrow(t->piece.index, t->piece.index_size));
    for (size_t k = 0; k < t->piece.parts.count; k++) {
        struct slice part = t->piece.parts.items[k];
        slices_push(&u->body, slice_borrow(part.data, part.size));
    }
    u->body_crc = crc32c_combine(u->body_crc, t->piece_crc, t->piece_size);
    state_add_range(&t->delta, &r);
}

static void finish_sections(struct upload *u) {
    struct streams *s = u->s;
    /* Not where somebody waits: one PUT is quicker than two. */
    u->has_object = u->kind == QUEUE_PENDING && u->bytes > UPLOAD_ENTRY_MAX;
    if (u->has_object) {
        u->object = (struct object_id){s->options.incarnation, s->next_data_object++, OBJECT_DATA};
        if (env_mutant(s->env, MUTANT_NAME_TWICE)) u->object.number /= 2;
    }
    if (u->count > 1) qsort(u->sections, u->count, sizeof(struct section *), by_stream_id);
    for (size_t i = 0; i < u->count; i++) {
        build_step(u);
        if (u->sections[i]->piece.block_count > 0) finish_section(u, u->sections[i]);
    }
    if (u->body.size_bytes == 0) u->has_object = false; /* all of it was trimmed: it would be nobody's */
}

static bool section_empty(const struct section *t) {
    return t->piece.block_count == 0 && t->delta.start_offset == 0;
}

static void encode_head(struct upload *u) {
    struct object_head head = {0};
    for (size_t i = 0; i < u->count; i++) head.section_count += !section_empty(u->sections[i]);
    log_wal_names(u->s, &head);
    object_head_begin(&u->head, &head);
    for (size_t i = 0; i < u->count; i++) {
        struct section *t = u->sections[i];
        build_step(u);
        if (!section_empty(t)) object_head_section(&u->head, t->stream, t->epoch, OBJECT_APPENDED, &t->delta);
    }
}

enum err upload_put_object(struct streams *s, struct object_id id, const struct slice *data, size_t count,
                           enum store_purpose purpose) {
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, id);
    enum err e;
    unsigned failures = 0;
    for (;;) {
        e = store_put(s->store, key, data, count, true, purpose);
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
    if (e == OK) return OK;
    return s->fenced ? ERR_FENCED : ERR_CANCELLED;
}

static enum err put_own_object(struct upload *u) {
    if (!u->has_object) return OK;
    struct streams *s = u->s;
    uint8_t header[OBJECT_DATA_HEADER];
    struct stream_id one = u->count == 1 ? u->sections[0]->stream : (struct stream_id){0};
    object_data_header(header, u->object, one, u->body.size_bytes);
    struct slice *data = mem_alloc(s->mem, (u->body.count + 1) * sizeof(*data));
    data[0] = slice_borrow(header, sizeof(header));
    memcpy(data + 1, u->body.items, u->body.count * sizeof(*data));
    enum err e = upload_put_object(s, u->object, data, u->body.count + 1, STORE_FOR_UPLOAD);
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
    ASSERT(c->epoch == t->epoch && (u->recovered || !c->refused)); /* what came before a gap is kept */
    ASSERT(c->state.end_offset == t->delta.first_offset);
    /* New references before old ones go, so that no object in use is listed as garbage in between. */
    for (size_t i = 0; i < t->delta.range_count; i++) object_uses_range(&s->uses, &t->delta.ranges[i], 1);
    uint64_t start = t->delta.start_offset > c->state.start_offset ? t->delta.start_offset : c->state.start_offset;
    for (size_t i = 0; i < c->state.range_count && c->state.ranges[i].end_offset <= start; i++)
        object_uses_range(&s->uses, &c->state.ranges[i], -1);
    for (size_t i = 0; i < t->delta.range_count && t->delta.ranges[i].end_offset <= start; i++)
        object_uses_range(&s->uses, &t->delta.ranges[i], -1);
    enum err e = state_merge(&c->state, &t->delta);
    ASSERT(e == OK);
    c->dirty = true;
    compact_note(s, c);
    struct commit_item *item = upload_mail_item(s, mails, t->stream);
    item->start_offset = c->state.start_offset;
    item->end_offset = c->state.end_offset;
    if (t->delta.range_count > 0) {
        item->has_range = true;
        item->range = t->delta.ranges[0];
    }
}

static void acknowledge(struct upload *u) {
    LIST_EACH(it, &u->blocks) log_publish_durable(u->s, LIST_ENTRY(it, struct block, node));
    u->acknowledged = true;
}

static void commit_entry(struct upload *u) {
    struct streams *s = u->s;
    struct commit_mail **mails = upload_mails_create(s);
    uint64_t body_position = OBJLOG_HEADER_SIZE + u->head.size;
    object_uses_check(&s->uses, object_uses_add(&s->uses, (struct object_id){s->options.incarnation, u->number,
                                                                             OBJECT_LEDGER_ENTRY}));
    for (size_t i = 0; i < u->count; i++) {
        ledger_resolve_ranges(&u->sections[i]->delta, s->options.incarnation, u->number, body_position);
        commit_section(u, u->sections[i], mails);
    }
    if (u->kind != QUEUE_PENDING && !u->recovered && !u->acknowledged) acknowledge(u);
    uint64_t trim = 0;
    LIST_EACH(it, &u->blocks) {
        struct block *b = LIST_ENTRY(it, struct block, node);
        if (u->recovered) continue;
        if (u->kind == QUEUE_PENDING) trim = b->wal_end;
        unsigned lane = block_lane(b);
        s->lane_uploaded[lane] = block_sequence(b);
        mails[lane / LANE_KINDS]->uploaded_sequence[lane % LANE_KINDS] = block_sequence(b);
    }
    upload_post_mails(s, mails);
    if (trim > 0 && s->wal_mode == WAL_MODE_ON) log_wal_trim(s, trim);
    checkpoint_entry_made(s);
    metric_add(s->env->metrics, M_UPLOADS, 0, 1);
}

/* Suspends. */
static enum err add_block(struct upload *u, struct block *b) {
    size_t position = 0;
    struct record_header h;
    const uint8_t *payload;
    enum err e = OK;
    while (e == OK && block_next(b, &position, &h, &payload)) {
        build_step(u);
        e = add_record(u, b, &h, payload);
    }
    return e;
}

/* Suspends. From the first block on to here one entry at a time is built: what the next one says begins where this one
 * ends. */
static void finish_entry(struct upload *u) {
    finish_sections(u);
    encode_head(u);
    for (size_t i = 0; i < u->count; i++) {
        struct section *t = u->sections[i];
        struct ledger_stream *c = ledger_image_get(&u->s->image, t->stream); /* perhaps dropped meanwhile */
        if (c) c->submitted_end = t->delta.end_offset;
    }
}

static enum err upload_append(struct upload *u) {
    struct streams *s = u->s;
    struct slice head = slice_borrow(u->head.data, u->head.size);
    const struct slices none = {0}, *body = u->has_object ? &none : &u->body;
    enum err e = objlog_append(s->log, OBJLOG_DATA, &head, body->items, body->count, u->has_object ? 0 : u->body_crc,
                               &u->number);
    if (e == OK) commit_entry(u);
    return e;
}

/* ---- one upload ---- */

/* The first blocks of its queue, and what is in them: as many bytes as that, or as many streams as the loop can do without
 * keeping others waiting. Suspends: meanwhile blocks may come, and nobody else takes any. */
static enum err take_blocks(struct upload *u, uint64_t limit) {
    struct block_queue *q = &u->s->queues[u->kind];
    enum err e = OK;
    while (!list_empty(&q->blocks) && e == OK) {
        struct block *b = LIST_ENTRY(q->blocks.next, struct block, node);
        if (u->bytes > 0 && (u->bytes + b->size > limit || u->count >= UPLOAD_SECTIONS_MAX)) break;
        u->bytes += b->size;
        ASSERT(q->bytes >= b->size);
        q->bytes -= b->size;
        list_remove(&b->node);
        list_push_back(&u->blocks, &b->node);
        e = add_block(u, b);
        upload_count_staged(u);
    }
    return e;
}

/* What ledger_enter began is over, and `u` is gone. */
static void upload_end(struct upload *u) {
    struct streams *s = u->s;
    upload_deinit(u);
    mem_free(s->mem, u);
    ledger_leave(s);
}

/* In a fiber of its own. */
static enum err upload_send(struct upload *u) {
    struct streams *s = u->s;
    enum err e = env_mutant(s->env, MUTANT_DATA_LATE) ? OK : put_own_object(u);
    if (e != OK) return e;
    while (u->ticket != s->ticket_turn && !s->closing && !s->fenced) waitq_wait(&s->ticket_wait);
    if (s->fenced || s->closing) return s->fenced ? ERR_FENCED : ERR_CANCELLED;
    /* The next one runs when we suspend: our number is drawn by then. */
    s->ticket_turn++;
    waitq_wake_all(&s->ticket_wait);
    if (env_mutant(s->env, MUTANT_ACK_UNSENT) && u->kind != QUEUE_PENDING) acknowledge(u);
    e = upload_append(u);
    if (e == OK && env_mutant(s->env, MUTANT_DATA_LATE)) e = put_own_object(u);
    return e;
}

static void upload_run(void *arg) {
    struct upload *u = arg;
    struct streams *s = u->s;
    uint64_t begun_ns = env_now_ns(s->env);
    enum err e = upload_send(u);
    if (e == OK && u->kind != QUEUE_PENDING) {
        uint64_t took_ns = env_now_ns(s->env) - begun_ns;
        s->flush_latency_ns = s->flush_latency_ns ? (7 * s->flush_latency_ns + took_ns) / 8 : took_ns;
    }
    s->queues[u->kind].under_way--;
    upload_end(u);
    if (e == ERR_FENCED) log_fatal(s, e, "another broker has fenced this ledger");
    if (e != OK && e != ERR_FENCED && e != ERR_CANCELLED) log_fatal(s, e, "an upload failed for good");
    if (e == OK) {
        collect_poke(s);
        compact_poke(s);
    }
    waitq_wake_all(&s->upload_done);
    upload_poke(s);
    waitgroup_done(&s->background);
}

/* Suspends: by the uploader alone. */
static enum err upload_begin(struct streams *s, enum queue_kind kind, uint64_t now_ns) {
    enum err e = ledger_enter(s); /* nobody drains: it does not suspend */
    if (e != OK) return e;
    struct upload *u = mem_alloc(s->mem, sizeof(*u));
    upload_init(u, s, kind, NULL);
    bool ledger_in_use = s->ledger_queue_used_ns != 0 && now_ns - s->ledger_queue_used_ns < LEDGER_IN_USE_NS;
    /* All this before it suspends: meanwhile the queue may look empty, and more may be wanted. */
    s->queues[kind].under_way++;
    if (kind == QUEUE_PENDING || list_empty(&s->queues[QUEUE_PENDING].blocks)) s->upload_wanted = false;
    if (kind != QUEUE_PENDING) s->flush_sent_ns = now_ns;
    uint64_t limit = s->options.upload_bytes > UPLOAD_ENTRY_MAX ? s->options.upload_bytes : UPLOAD_ENTRY_MAX;
    e = take_blocks(u, kind == QUEUE_PENDING && !ledger_in_use ? limit : FLUSH_ENTRY_MAX);
    ASSERT(!list_empty(&u->blocks));
    if (e != OK) {
        s->queues[kind].under_way--;
        upload_end(u);
        return e;
    }
    finish_entry(u);
    u->ticket = s->ticket_next++;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "upload", upload_run, u);
    return OK;
}

/* ---- recovery ---- */

void upload_recovered_init(struct upload_recovered *r, struct streams *s) {
    *r = (struct upload_recovered){.s = s};
    waitq_init(&r->ended);
}

static void upload_recovered_run(void *arg) {
    struct upload *u = arg;
    struct upload_recovered *r = u->recovered;
    enum err e = upload_send(u);
    if (r->error == OK) r->error = e;
    upload_end(u);
    r->under_way--;
    waitq_wake_all(&r->ended);
}

enum err upload_recovered_add(struct upload_recovered *r, struct list *blocks) {
    struct streams *s = r->s;
    while (r->under_way >= RECOVERY_UPLOADS) waitq_wait(&r->ended);
    if (r->error != OK) return r->error;
    enum err e = ledger_enter(s);
    if (e != OK) return e;
    struct upload *u = mem_alloc(s->mem, sizeof(*u));
    upload_init(u, s, QUEUE_PENDING, r);
    list_splice_back(&u->blocks, blocks);
    LIST_EACH(it, &u->blocks) {
        if (e == OK) e = add_block(u, LIST_ENTRY(it, struct block, node));
    }
    upload_count_staged(u);
    if (e != OK) {
        upload_end(u);
        return e;
    }
    finish_entry(u);
    u->ticket = s->ticket_next++;
    r->under_way++;
    fiber_spawn(loop_current(), "upload-recovered", upload_recovered_run, u);
    return OK;
}

enum err upload_recovered_wait(struct upload_recovered *r) {
    while (r->under_way > 0) waitq_wait(&r->ended);
    return r->error;
}

enum err upload_announce(struct streams *s) {
    if (objlog_next(s->log) == 0) return checkpoint_write(s, false);
    struct upload_recovered nothing;
    upload_recovered_init(&nothing, s);
    struct list none;
    list_init(&none);
    enum err e = upload_recovered_add(&nothing, &none), ended = upload_recovered_wait(&nothing);
    return e == OK ? ended : e;
}

/* ---- a failed WAL is tried again ---- */

static void wal_retry_later(struct streams *s) {
    uint64_t limit = s->wal_attempt < 7 ? (100 * NS_PER_MS) << s->wal_attempt : 10 * NS_PER_S, r;
    s->wal_attempt++;
    env_random(s->env, &r, sizeof(r));
    s->wal_retry_ns = env_now_ns(s->env) + limit / 2 + r % (limit / 2);
}

/* Everything the failed WAL held is in the ledger. Blocks that came meanwhile are put into it again. */
static void restart_wal(void *arg) {
    struct streams *s = arg;
    enum err e = log_wal_restart(s);
    if (e == ERR_FENCED) log_fatal(s, e, "the WAL was taken over");
    s->wal_restarting = false;
    if (e != OK) {
        wal_retry_later(s);
    } else {
        ASSERT(list_empty(&s->queues[QUEUE_PENDING].blocks) && s->queues[QUEUE_UNACKED].under_way == 0);
        s->wal_mode = WAL_MODE_ON;
        s->wal_attempt = 0;
        log_info(s->env->log, "wal works again", "path=%s", log_wal_path(s));
        struct block_queue *q = &s->queues[QUEUE_UNACKED];
        for (struct list *n; (n = list_pop_front(&q->blocks)) != NULL;) {
            struct block *b = LIST_ENTRY(n, struct block, node);
            q->bytes -= b->size;
            b->written = false;
            log_wal_submit(s, b);
        }
    }
    waitq_wake_all(&s->upload_done);
    upload_poke(s);
    waitgroup_done(&s->background);
}

/* Is it time, and what was in the failed WAL is taken care of? Blocks wait meanwhile, so that they do not overtake. */
static bool wal_retry_due(const struct streams *s, uint64_t now_ns) {
    return s->wal_mode == WAL_MODE_FAILED && s->flushing == 0 && now_ns >= s->wal_retry_ns;
}

static bool wal_can_restart(const struct streams *s) {
    return !s->wal_restarting && list_empty(&s->queues[QUEUE_PENDING].blocks) &&
           s->queues[QUEUE_PENDING].under_way == 0 && s->queues[QUEUE_UNACKED].under_way == 0;
}

/* ---- when ---- */

static uint64_t flush_due_ns(const struct streams *s, const struct block_queue *q) {
    if (s->flushing > 0 || s->upload_wanted || q->bytes >= FLUSH_ENTRY_MIN) return 0;
    uint64_t pace = s->options.object_flush_interval_ms * NS_PER_MS;
    if (pace == 0 && s->queues[QUEUE_LEDGER].under_way + s->queues[QUEUE_UNACKED].under_way > 0) {
        pace = s->flush_latency_ns / 4;
        if (pace > FLUSH_PACE_MAX_NS) pace = FLUSH_PACE_MAX_NS;
    }
    return pace > 0 && s->flush_sent_ns > 0 ? s->flush_sent_ns + pace : 0;
}

static uint64_t upload_due_ns(struct streams *s, const struct block_queue *q) {
    if (s->flushing > 0 || s->upload_wanted || s->wal_mode == WAL_MODE_FAILED) return 0;
    if (q->bytes >= s->options.upload_bytes) return 0;
    if (log_wal_used_bytes(s) > log_wal_capacity(s) / 100 * s->options.upload_wal_percent) return 0;
    uint64_t oldest_ns = LIST_ENTRY(q->blocks.next, struct block, node)->opened_ns;
    return oldest_ns + s->options.upload_interval_ms * NS_PER_MS;
}

/* What is under way has copied as much as it may; the end of any of it pokes the uploader. */
static bool staging_is_full(const struct streams *s) {
    int64_t limit = atomic_load_explicit(&s->env->metrics->memory_limits[MEMORY_UPLOADS], memory_order_relaxed);
    return limit > 0 && s->staged_bytes >= (uint64_t)limit;
}

/* The queue from which an entry is to be made now; QUEUE_KINDS: none, but look again at *at_ns. */
static enum queue_kind choose(struct streams *s, uint64_t now_ns, uint64_t *at_ns) {
    *at_ns = UINT64_MAX;
    if (s->draining || s->ended || staging_is_full(s)) return QUEUE_KINDS;
    bool retry = wal_retry_due(s, now_ns);
    if (s->wal_mode == WAL_MODE_FAILED && !retry && s->flushing == 0) *at_ns = s->wal_retry_ns;
    for (unsigned k = 0; k < QUEUE_KINDS; k++) {
        const struct block_queue *q = &s->queues[k];
        if (list_empty(&q->blocks) || q->under_way >= (k == QUEUE_PENDING ? UPLOADS_MAX : FLUSHES_MAX)) continue;
        /* Behind what the WAL has confirmed; and not while the WAL is about to take it. */
        if (k == QUEUE_UNACKED && (!list_empty(&s->queues[QUEUE_PENDING].blocks) || retry || s->wal_restarting))
            continue;
        uint64_t due_ns = k == QUEUE_PENDING ? upload_due_ns(s, q) : flush_due_ns(s, q);
        if (due_ns <= now_ns) return (enum queue_kind)k;
        if (due_ns < *at_ns) *at_ns = due_ns;
    }
    return QUEUE_KINDS;
}

static void uploader(void *arg) {
    struct streams *s = arg;
    while (!s->closing && !s->fenced) {
        uint64_t now_ns = env_now_ns(s->env), at_ns;
        if (wal_retry_due(s, now_ns) && wal_can_restart(s)) {
            s->wal_restarting = true;
            waitgroup_add(&s->background);
            fiber_spawn(loop_current(), "restart-wal", restart_wal, s);
        }
        enum queue_kind kind = choose(s, now_ns, &at_ns);
        if (kind != QUEUE_KINDS) {
            enum err e = upload_begin(s, kind, now_ns);
            if (e != OK && e != ERR_CANCELLED) log_fatal(s, e, "an upload failed for good");
            continue;
        }
        s->upload_asleep = true;
        s->upload_wake_ns = at_ns;
        (void)waitq_wait_until(&s->upload_wake, at_ns);
        s->upload_asleep = false;
    }
    waitq_wake_all(&s->upload_done);
    waitgroup_done(&s->background);
}

void upload_start(struct streams *s) {
    wal_retry_later(s);
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "uploader", uploader, s);
}

void upload_poke(struct streams *s) {
    if (!s->upload_asleep) return;
    uint64_t now_ns = env_now_ns(s->env), at_ns;
    bool work = choose(s, now_ns, &at_ns) != QUEUE_KINDS || (wal_retry_due(s, now_ns) && wal_can_restart(s));
    if (!work && at_ns >= s->upload_wake_ns) return;
    s->upload_asleep = false;
    waitq_wake_all(&s->upload_wake);
}

void upload_wake_everybody(struct streams *s) {
    waitq_wake_all(&s->upload_wake);
    waitq_wake_all(&s->upload_done);
    waitq_wake_all(&s->ticket_wait);
    waitq_wake_all(&s->entry_ended);
    waitq_wake_all(&s->compact_wake);
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

static bool all_uploaded(const struct streams *s, const uint64_t *submitted) {
    for (unsigned i = 0; i < s->shard_count * LANE_KINDS; i++) {
        if (s->lane_uploaded[i] < submitted[i]) return false;
    }
    return true;
}

enum err upload_flush(struct streams *s) {
    size_t size = s->shard_count * LANE_KINDS * sizeof(uint64_t);
    uint64_t *submitted = mem_alloc(s->mem, size);
    memcpy(submitted, s->lane_submitted, size);
    s->flushing++;
    while (!s->fenced && !s->closing && !all_uploaded(s, submitted)) {
        upload_poke(s);
        waitq_wait(&s->upload_done);
    }
    s->flushing--;
    mem_free(s->mem, submitted);
    return s->fenced ? ERR_FENCED : s->closing ? ERR_CANCELLED : OK;
}
