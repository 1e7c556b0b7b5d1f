#include "stream/replacement.h"

#include "base/assert.h"
#include "stream/streams_priv.h"

enum err replacement_append(struct streams *s, const struct buf *head, const struct slices *body, uint32_t body_crc,
                            uint64_t *number) {
    struct slice head_slice = slice_borrow(head->data, head->size);
    enum err e = objlog_append(s->log, OBJLOG_DATA, &head_slice, body->items, body->count, body_crc, number);
    if (e == OK) {
        struct object_id id = {s->options.incarnation, *number, OBJECT_LEDGER_ENTRY};
        object_uses_check(&s->uses, object_uses_add(&s->uses, id));
    }
    if (e == ERR_FENCED) log_fatal(s, e, "another broker has fenced this ledger");
    return e;
}

static bool overlaps(const struct state_range *r, uint64_t first_offset, uint64_t end_offset) {
    return r->end_offset > first_offset && r->first_offset < end_offset;
}

static void post(struct streams *s, struct commit_mail **mails, const struct replacement *r, uint64_t start_offset,
                 bool forget) {
    struct commit_item *item = upload_mail_item(s, mails, r->stream);
    item->replaced = mem_alloc(s->mem, r->count * sizeof(*r->ranges));
    memcpy(item->replaced, r->ranges, r->count * sizeof(*r->ranges));
    item->replaced_count = r->count;
    item->forget = forget;
    item->start_offset = start_offset;
}

/* The entry is durable. */
static void apply(struct streams *s, struct replacement *r, struct commit_mail **mails, bool forget) {
    struct ledger_stream *c = ledger_image_get(&s->image, r->stream);
    uint64_t first_offset = r->ranges[0].first_offset, end_offset = r->ranges[r->count - 1].end_offset;
    /* New references before old ones go, so that no object in use is listed as garbage in between. */
    for (uint32_t i = 0; i < r->count; i++) object_uses_range(&s->uses, &r->ranges[i], 1);
    struct state_range *old = NULL;
    size_t old_count = 0, capacity = 0;
    for (uint32_t i = 0; c && i < c->state.range_count; i++) {
        if (!overlaps(&c->state.ranges[i], first_offset, end_offset)) continue;
        old = mem_grow(s->mem, old, old_count, &capacity, sizeof(*old));
        old[old_count++] = c->state.ranges[i];
    }
    r->result = c && c->epoch == r->epoch ? state_replace_run(&c->state, r->ranges, r->count) : ERR_STALE;
    if (r->result == OK) {
        c->dirty = true;
        for (size_t i = 0; i < old_count; i++) object_uses_range(&s->uses, &old[i], -1);
        post(s, mails, r, c->state.start_offset, forget);
    }
    /* Not taken at all, or trimmed meanwhile. */
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->result != OK || r->ranges[i].end_offset <= c->state.start_offset)
            object_uses_range(&s->uses, &r->ranges[i], -1);
    }
    if (c && c->state.start_offset >= end_offset) r->result = OK;
    mem_free(s->mem, old);
}

/* For MUTANT_DELETE_EARLY. */
static void delete_replaced(struct streams *s, const struct replacement *r) {
    const struct ledger_stream *c = ledger_image_get(&s->image, r->stream);
    for (uint32_t i = 0; c && i < c->state.range_count; i++) {
        if (!overlaps(&c->state.ranges[i], r->ranges[0].first_offset, r->ranges[r->count - 1].end_offset)) continue;
        struct object_id id = c->state.ranges[i].object;
        if (id.kind != OBJECT_DATA && id.creator.v == s->options.incarnation.v) continue; /* still log */
        const struct object_use *use = object_uses_get(&s->uses, id);
        if (use && use->ranges > 1) continue;
        char key[OBJECT_KEY_MAX];
        const char *keys = key;
        object_key(key, s->generation, id);
        enum err e = store_delete(s->store, &keys, 1, STORE_FOR_DELETION);
        (void)e;
        c = ledger_image_get(&s->image, r->stream);
    }
}

static void encode(struct streams *s, const struct replacement *list, size_t count, struct buf *head) {
    struct object_head h = {.section_count = (uint32_t)count};
    log_wal_names(s, &h);
    object_head_begin(head, &h);
    for (size_t i = 0; i < count; i++) {
        const struct replacement *r = &list[i];
        ASSERT(r->count > 0);
        struct stream_state delta;
        state_init_delta(&delta, s->mem, r->ranges[0].first_offset);
        delta.end_offset = r->ranges[r->count - 1].end_offset;
        for (uint32_t k = 0; k < r->count; k++) state_add_range(&delta, &r->ranges[k]);
        object_head_section(head, r->stream, r->epoch, OBJECT_REPLACED, &delta);
        state_deinit(&delta);
    }
}

enum err replacement_commit(struct streams *s, struct replacement *list, size_t count, const struct slices *body,
                            uint32_t body_crc, bool forget) {
    ASSERT(count > 0 && count <= UINT32_MAX && loop_current() == s->options.log_loop);
    struct buf head;
    buf_init(&head, s->mem);
    encode(s, list, count, &head);
    uint64_t number = 0;
    enum err e = ledger_enter(s);
    if (e != OK) goto out;
    for (size_t i = 0; i < count && env_mutant(s->env, MUTANT_DELETE_EARLY); i++) delete_replaced(s, &list[i]);
    e = replacement_append(s, &head, body, body_crc, &number);
    if (e == OK) {
        struct commit_mail **mails = upload_mails_create(s);
        for (size_t i = 0; i < count; i++) {
            struct replacement *r = &list[i];
            for (uint32_t k = 0; k < r->count; k++) {
                if (r->ranges[k].object.number != OBJECT_THIS_ENTRY) continue;
                r->ranges[k].object = (struct object_id){s->options.incarnation, number, OBJECT_LEDGER_ENTRY};
                r->ranges[k].position += OBJLOG_HEADER_SIZE + head.size;
            }
            apply(s, r, mails, forget);
        }
        upload_post_mails(s, mails);
        checkpoint_entry_made(s);
    }
    ledger_leave(s);
out:
    buf_deinit(&head);
    return e;
}

bool replacement_overtaken(struct streams *s) {
    bool fenced = false;
    /* Whoever overtakes us fences at the first number that is not there. */
    for (uint64_t n = objlog_durable(s->log); n <= objlog_next(s->log) && !fenced && !s->closing; n++) {
        char key[OBJECT_KEY_MAX];
        object_key(key, s->generation, (struct object_id){s->options.incarnation, n, OBJECT_LEDGER_ENTRY});
        struct slice data = {0};
        struct objlog_header h = {0};
        if (store_get(s->store, key, 0, OBJLOG_HEADER_SIZE, STORE_FOR_LEDGER, &data) != OK) continue;
        fenced = objlog_header_decode(data.data, data.size, &h) == OK && h.kind == OBJLOG_FENCE;
        slice_unref(&data);
    }
    if (fenced && !s->fenced) log_fatal(s, ERR_FENCED, "another broker has fenced this ledger");
    return fenced || s->fenced;
}
