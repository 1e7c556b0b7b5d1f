#include "unit/partition/fake_stream.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "kafka/batch.h"
#include "stream/object.h"
#include "stream/record.h"

struct stream {
    struct streams *owner;
    int32_t epoch;
    void (*durable)(void *ctx);
    void *ctx;
    size_t reserved;
    bool has_reserved;
    bool fenced;
    struct waitq room, durable_waiters;
};

void fake_streams_init(struct streams *s, struct mem *m) {
    *s = (struct streams){.mem = m, .room = SIZE_MAX};
}

static void record_drop(struct streams *s) {
    mem_free(s->mem, (void *)(uintptr_t)s->records[--s->count].record.payload);
}

void fake_streams_deinit(struct streams *s) {
    ASSERT(!s->open);
    while (s->count > 0) record_drop(s);
    mem_free(s->mem, s->records);
}

void fake_durable(struct streams *s, size_t n) {
    s->durable_count = n < s->count - s->durable_count ? s->durable_count + n : s->count;
    waitq_wake_all(&s->open->durable_waiters);
    s->open->durable(s->open->ctx);
}

void fake_give_room(struct streams *s, size_t bytes) {
    s->room = bytes;
    waitq_wake_all(&s->open->room);
}

void fake_fence(struct streams *s) {
    s->open->fenced = true;
    waitq_wake_all(&s->open->durable_waiters);
}

void fake_crash(struct streams *s) {
    ASSERT(!s->open);
    while (s->count > s->durable_count) record_drop(s);
}

void fake_state(struct streams *s, struct stream_state *out) {
    state_init(out, s->mem);
    for (size_t i = 0; i < s->durable_count; i++) {
        const struct stream_record *r = &s->records[i].record;
        if (r->type == STREAM_TRIM) {
            state_apply_trim(out, r->base_offset);
            continue;
        }
        struct record_header h = {.payload_size = (uint32_t)r->payload_size,
                                  .type = r->type,
                                  .flags = r->flags,
                                  .epoch = s->records[i].epoch,
                                  .base_offset = r->base_offset,
                                  .end_offset = r->end_offset,
                                  .max_timestamp = r->max_timestamp};
        struct state_batch b;
        enum err e = object_batch_view(&h, r->payload, &b);
        ASSERT(e == OK);
        state_apply_batch(out, &b);
    }
}

enum err stream_open(struct streams *s, struct stream_id id, int32_t epoch, void (*durable)(void *ctx), void *ctx,
                     struct stream_state *live, struct stream **out) {
    ASSERT(!s->open && id.v != 0);
    fake_state(s, live);
    struct stream *o = MEM_NEW(s->mem, struct stream);
    *o = (struct stream){.owner = s, .epoch = epoch, .durable = durable, .ctx = ctx};
    waitq_init(&o->room);
    waitq_init(&o->durable_waiters);
    s->open = *out = o;
    return OK;
}

void stream_close(struct stream *s) {
    ASSERT(waitq_empty(&s->room) && waitq_empty(&s->durable_waiters));
    s->owner->open = NULL;
    mem_free(s->owner->mem, s);
}

enum err stream_reserve(struct stream *s, size_t size) {
    while (s->owner->refuse_reserve == OK && s->owner->room < size) waitq_wait(&s->room);
    s->reserved = size;
    s->has_reserved = s->owner->refuse_reserve == OK;
    return s->owner->refuse_reserve;
}

void stream_append(struct stream *s, const struct stream_record *r) {
    struct streams *o = s->owner;
    ASSERT(s->has_reserved && r->payload_size <= s->reserved);
    s->has_reserved = false;
    if (o->room != SIZE_MAX) o->room -= r->payload_size;
    struct fake_record copy = {*r, s->epoch};
    copy.record.payload = NULL;
    if (r->type == STREAM_BATCH) {
        /* Whatever came from the client: what is stored is whole, where it says it is, and of this epoch. */
        struct batch_header h;
        enum err e = batch_parse(r->payload, r->payload_size, &h);
        ASSERT(e == OK && h.size == r->payload_size);
        ASSERT(r->base_offset == stream_appended_end(s) && h.base_offset == (int64_t)r->base_offset &&
               batch_end_offset(&h) == (int64_t)r->end_offset);
        ASSERT(h.partition_leader_epoch == s->epoch && h.max_timestamp == r->max_timestamp);
        ASSERT(r->payload_crc == crc32c(0, r->payload, r->payload_size));
        struct batch_check check;
        e = batch_validate_records(&h, o->mem, (size_t)1 << 30, BATCH_CHECK_MAX_TIMESTAMP, &check);
        ASSERT(e == OK);
        uint8_t *payload = mem_alloc(o->mem, r->payload_size);
        memcpy(payload, r->payload, r->payload_size);
        copy.record.payload = payload;
    } else {
        ASSERT(r->type == STREAM_TRIM && r->base_offset == r->end_offset && r->base_offset <= stream_durable_end(s));
    }
    o->records = mem_grow(o->mem, o->records, o->count, &o->capacity, sizeof(*o->records));
    o->records[o->count++] = copy;
}

enum err stream_wait_durable(struct stream *s, uint64_t end_offset) {
    while (!s->fenced && stream_durable_end(s) < end_offset) waitq_wait(&s->durable_waiters);
    return s->fenced ? ERR_FENCED : OK;
}

enum err stream_wait_start(struct stream *s, uint64_t start_offset) {
    while (!s->fenced && stream_durable_start(s) < start_offset) waitq_wait(&s->durable_waiters);
    return s->fenced ? ERR_FENCED : OK;
}

static uint64_t end_of(const struct streams *s, size_t count) {
    for (size_t i = count; i > 0; i--) {
        if (s->records[i - 1].record.type == STREAM_BATCH) return s->records[i - 1].record.end_offset;
    }
    return 0;
}

uint64_t stream_appended_end(const struct stream *s) {
    return end_of(s->owner, s->owner->count);
}

uint64_t stream_durable_end(const struct stream *s) {
    return end_of(s->owner, s->owner->durable_count);
}

void stream_set_durability(struct stream *s, enum stream_durability durability) {
    (void)s;
    (void)durability;
}

uint64_t stream_durable_start(const struct stream *s) {
    uint64_t start = 0;
    for (size_t i = 0; i < s->owner->durable_count; i++) {
        if (s->owner->records[i].record.type == STREAM_TRIM) start = s->owner->records[i].record.base_offset;
    }
    return start;
}

static struct slice payload_slice(const struct streams *s, const struct stream_record *r) {
    struct slab *slab = slab_create(s->mem, r->payload_size, 16);
    memcpy(slab->data, r->payload, r->payload_size);
    return (struct slice){slab->data, r->payload_size, slab};
}

enum err stream_read(struct stream *s, uint64_t offset, uint64_t limit, size_t max_bytes, bool whole_first,
                     bool cached_only, uint64_t until_ns, struct slices *out) {
    (void)until_ns;
    s->owner->reads++;
    ASSERT(limit <= stream_durable_end(s));
    if (cached_only) return ERR_BUSY; /* this one caches nothing */
    fiber_yield();
    if (s->owner->reading) s->owner->reading(s->owner->reading_ctx);
    if (offset < stream_durable_start(s) || offset > limit) return ERR_OFFSET_OUT_OF_RANGE;
    size_t taken = 0;
    for (size_t i = 0; i < s->owner->durable_count; i++) {
        const struct stream_record *r = &s->owner->records[i].record;
        if (r->type != STREAM_BATCH || r->end_offset <= offset) continue;
        if (r->end_offset > limit) break;
        if (taken + r->payload_size > max_bytes && !(whole_first && taken == 0)) break;
        slices_push(out, payload_slice(s->owner, r));
        taken += r->payload_size;
    }
    return OK;
}

bool stream_is_fresh(const struct stream *s, uint64_t offset) {
    return offset >= s->owner->fresh_from;
}

enum err stream_find_timestamp(struct stream *s, uint64_t from, uint64_t limit, int64_t timestamp,
                               struct slice *batch) {
    s->owner->reads++;
    ASSERT(limit <= stream_durable_end(s));
    fiber_yield();
    for (size_t i = 0; i < s->owner->durable_count; i++) {
        const struct stream_record *r = &s->owner->records[i].record;
        if (r->type != STREAM_BATCH || r->end_offset <= from || r->end_offset > limit || r->max_timestamp < timestamp)
            continue;
        *batch = payload_slice(s->owner, r);
        return OK;
    }
    return ERR_NOT_FOUND;
}

uint64_t stream_size_bytes(const struct stream *s) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->owner->count; i++) bytes += s->owner->records[i].record.payload_size;
    return bytes;
}
