#include "partition/clean.h"

#include "base/assert.h"
#include "base/crc32c.h"

/* A batch that was taken in unfolds to no more than this (partition_priv.h); what the broker wrote itself is smaller. */
#define UNPACK_MAX ((size_t)128 << 20)
#define HEADER_CRC_FROM 21u

/* ---- what is worth it ---- */

static uint64_t segment_end(const struct stream_state *s, uint32_t i) {
    return i + 1 < s->segment_count ? s->segments[i + 1].base_offset : s->end_offset;
}

/* Since when, by the times of its records, something dirty waits; INT64_MAX: nothing does, or it has no times. */
static int64_t dirty_since(const struct stream_state *s, uint64_t first_dirty) {
    int64_t oldest = INT64_MAX;
    for (uint32_t i = 0; i + 1 < s->segment_count; i++) {
        int64_t t = s->segments[i].first_timestamp;
        if (segment_end(s, i) > first_dirty && t > 0 && t < oldest) oldest = t;
    }
    return oldest;
}

static int64_t minus(int64_t a, int64_t b) {
    int64_t v;
    return __builtin_sub_overflow(a, b, &v) ? INT64_MIN : v;
}

bool clean_choose(const struct stream_state *s, const struct topic_config *c, int64_t now_ms,
                  struct clean_choice *out) {
    ASSERT(!s->delta);
    uint64_t first = s->clean_offset > s->start_offset ? s->clean_offset : s->start_offset;
    *out = (struct clean_choice){.first_dirty = first, .end = first};
    if ((c->cleanup_policy & TOPIC_CLEANUP_COMPACT) == 0 || s->segment_count < 2) return false;
    /* The newest segment that is committed is the active one, or older than that. */
    uint32_t above = s->segment_count - 1;
    if (c->min_compaction_lag_ms > 0) {
        int64_t newest = minus(now_ms, c->min_compaction_lag_ms);
        for (uint32_t i = 0; i < above; i++) {
            if (segment_end(s, i) > first && s->segments[i].max_timestamp > newest) above = i;
        }
    }
    uint64_t end = s->segments[above].base_offset;
    if (end <= first) return false;
    out->end = end;
    for (uint32_t i = 0; i < above; i++) {
        if (s->segments[i].base_offset < first) out->clean_bytes += s->segments[i].size_bytes;
        if (segment_end(s, i) > first) out->dirty_bytes += s->segments[i].size_bytes;
    }
    uint64_t all = out->clean_bytes + out->dirty_bytes;
    out->ratio = all > 0 ? (double)out->dirty_bytes / (double)all : 0;
    int64_t since = dirty_since(s, first), until = minus(now_ms, c->max_compaction_lag_ms);
    if (since < until) out->overdue_ms = until - since;
    if (out->dirty_bytes == 0) return false;
    return out->overdue_ms > 0 || out->ratio > topic_config_cleanable_ratio(c);
}

/* ---- the map ---- */

enum err clean_map_batch(struct clean_map *m, const struct batch_header *h, uint64_t from, uint64_t to, bool *full,
                         struct mem *mem) {
    if ((uint64_t)batch_end_offset(h) <= from || (uint64_t)h->base_offset >= to) return OK;
    if (!batch_is_control(h)) {
        struct batch_iterator it;
        enum err e = batch_iterator_init(&it, mem, h, UNPACK_MAX);
        if (e != OK) return e;
        struct batch_record r;
        while ((e = batch_iterator_next(&it, &r)) == OK) {
            uint64_t offset = (uint64_t)r.offset;
            if (r.key_size < 0 || offset < from || offset >= to) continue;
            if (clean_map_put(m, r.key, (size_t)r.key_size, offset)) continue;
            if (offset > m->end_offset) m->end_offset = offset;
            *full = true;
            break;
        }
        batch_iterator_deinit(&it);
        if (*full) return OK;
        if (e != ERR_NOT_FOUND) return e;
    }
    uint64_t end = (uint64_t)batch_end_offset(h);
    if (end > to) end = to;
    if (end > m->end_offset) m->end_offset = end;
    return OK;
}

enum err clean_map_block(struct clean_map *m, const uint8_t *data, size_t size, uint64_t from, uint64_t to, bool *full,
                         struct mem *mem) {
    for (size_t at = 0; at < size && !*full;) {
        struct batch_header h;
        enum err e = batch_parse_unchecked(data + at, size - at, &h);
        if (e == OK) e = clean_map_batch(m, &h, from, to, full, mem);
        if (e != OK) return e;
        at += h.size;
    }
    return OK;
}

/* ---- batches ---- */

void clean_counts_add(struct clean_counts *to, const struct clean_counts *more) {
    to->batches += more->batches;
    to->batches_emptied += more->batches_emptied;
    to->batches_dropped += more->batches_dropped;
    to->batches_rewritten += more->batches_rewritten;
    to->records += more->records;
    to->records_kept += more->records_kept;
    to->records_without_key += more->records_without_key;
    to->tombstones_kept += more->tombstones_kept;
    to->tombstones_dropped += more->tombstones_dropped;
    to->bytes += more->bytes;
    to->bytes_kept += more->bytes_kept;
}

static uint64_t zigzag(int64_t v) {
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static size_t zigzag_size(int64_t v) {
    size_t n = 1;
    for (uint64_t u = zigzag(v); u >= 0x80; u >>= 7) n++;
    return n;
}

static size_t sized_size(int32_t size) {
    return zigzag_size(size) + (size > 0 ? (size_t)size : 0);
}

static void put_sized(struct buf *out, const uint8_t *data, int32_t size) {
    buf_varint(out, zigzag(size));
    if (size > 0) buf_put(out, data, (size_t)size);
}

static void put_record(struct buf *out, const struct batch_record *r, int64_t base_timestamp) {
    int64_t delta = (int64_t)((uint64_t)r->timestamp - (uint64_t)base_timestamp);
    size_t size = 1 + zigzag_size(delta) + zigzag_size(r->offset_delta) + sized_size(r->key_size) +
                  sized_size(r->value_size) + zigzag_size(r->header_count) + r->headers_size;
    buf_varint(out, zigzag((int64_t)size));
    size_t begin = out->size;
    buf_u8(out, (uint8_t)r->attributes);
    buf_varint(out, zigzag(delta));
    buf_varint(out, zigzag(r->offset_delta));
    put_sized(out, r->key, r->key_size);
    put_sized(out, r->value, r->value_size);
    buf_varint(out, zigzag(r->header_count));
    if (r->headers_size > 0) buf_put(out, r->headers, r->headers_size);
    ASSERT(out->size - begin == size);
}

/* What a look at a batch's records finds, before anything is written. */
struct look {
    int32_t kept;
    bool all, tombstones;
    int64_t first_timestamp, max_timestamp; /* of those that stay */
};

static bool horizon_has_passed(const struct clean_rules *r, const struct batch_header *h) {
    if (mutant_is(r->mutant, MUTANT_TOMBSTONE_EARLY)) return true;
    return (h->attributes & BATCH_DELETE_HORIZON) != 0 && r->now_ms >= h->base_timestamp;
}

static bool record_stays(const struct clean_rules *r, const struct batch_header *h, const struct batch_record *record,
                         struct clean_counts *counts) {
    uint64_t offset = (uint64_t)record->offset, end = r->map->end_offset;
    if (offset >= end) return true;
    if (record->key_size < 0) {
        counts->records_without_key++;
        return false;
    }
    uint64_t newest = clean_map_get(r->map, record->key, (size_t)record->key_size);
    if (mutant_is(r->mutant, MUTANT_CLEAN_OLDEST) && newest != CLEAN_MAP_NONE) return offset < newest;
    if (newest != CLEAN_MAP_NONE && offset < newest) return false;
    if (record->value_size >= 0) return true;
    if (horizon_has_passed(r, h)) {
        counts->tombstones_dropped++;
        return false;
    }
    counts->tombstones_kept++;
    return true;
}

/* Keeps one bit a record, so that each is looked up once. */
static enum err look_at(const struct clean_rules *r, const struct batch_header *h, struct batch_iterator *it,
                        struct buf *stays, struct look *out, struct clean_counts *counts) {
    *out = (struct look){.all = true};
    struct batch_record record;
    enum err e;
    while ((e = batch_iterator_next(it, &record)) == OK) {
        bool stay = record_stays(r, h, &record, counts);
        counts->records++;
        buf_u8(stays, stay);
        if (!stay) {
            out->all = false;
            continue;
        }
        if (out->kept == 0) out->first_timestamp = out->max_timestamp = record.timestamp;
        if (record.timestamp > out->max_timestamp) out->max_timestamp = record.timestamp;
        out->kept++;
        /* Above the end nothing is touched: its time comes with a later pass. */
        if (record.value_size < 0 && (uint64_t)record.offset < r->map->end_offset) out->tombstones = true;
    }
    counts->records_kept += (uint64_t)out->kept;
    return e == ERR_NOT_FOUND ? OK : e;
}

struct header {
    int16_t attributes;
    int64_t base_timestamp, max_timestamp;
    int32_t count;
};

/* Completes the batch that begins at `begin` of *out: its records lie behind the room for its header already. */
static enum err seal(const struct batch_header *h, const struct header *n, struct buf *out, size_t begin) {
    size_t size = out->size - begin;
    if (size - BATCH_LENGTH_OFFSET > INT32_MAX) return ERR_TOO_LARGE;
    uint8_t *p = out->data + begin;
    memcpy(p, h->data, BATCH_HEADER_SIZE);
    be32_put(p + 8, (uint32_t)(size - BATCH_LENGTH_OFFSET));
    be16_put(p + 21, (uint16_t)n->attributes);
    be64_put(p + 27, (uint64_t)n->base_timestamp);
    be64_put(p + 35, (uint64_t)n->max_timestamp);
    be32_put(p + 57, (uint32_t)n->count);
    be32_put(p + 17, crc32c(0, p + HEADER_CRC_FROM, size - HEADER_CRC_FROM));
    return OK;
}

/* The header alone: it says up to which offset, and sequence number, its producer had come. */
static enum err put_empty(const struct batch_header *h, struct buf *out) {
    size_t begin = out->size;
    buf_zero(out, BATCH_HEADER_SIZE);
    struct header n = {.attributes = (int16_t)(h->attributes & ~(BATCH_CODEC_MASK | BATCH_DELETE_HORIZON)),
                       .base_timestamp = BATCH_NO_TIMESTAMP,
                       .max_timestamp = h->max_timestamp};
    return seal(h, &n, out, begin);
}

static int64_t plus(int64_t a, int64_t b) {
    int64_t v;
    return __builtin_add_overflow(a, b, &v) ? INT64_MAX : v;
}

static enum err put_kept(const struct clean_rules *r, const struct batch_header *h, const struct buf *stays,
                         const struct look *look, bool new_horizon, struct mem *mem, struct buf *out) {
    struct header n = {.attributes = h->attributes,
                       .base_timestamp = look->first_timestamp,
                       .max_timestamp = look->max_timestamp,
                       .count = look->kept};
    if (h->attributes & BATCH_DELETE_HORIZON) n.base_timestamp = h->base_timestamp;
    if (new_horizon) {
        n.attributes = (int16_t)(n.attributes | BATCH_DELETE_HORIZON);
        n.base_timestamp = plus(r->now_ms, r->delete_retention_ms);
    }
    struct buf records;
    buf_init(&records, mem);
    struct batch_iterator it;
    enum err e = batch_iterator_init(&it, mem, h, UNPACK_MAX);
    if (e == OK) {
        struct batch_record record;
        for (size_t i = 0; (e = batch_iterator_next(&it, &record)) == OK; i++) {
            if (stays->data[i]) put_record(&records, &record, n.base_timestamp);
        }
        if (e == ERR_NOT_FOUND) e = OK;
        batch_iterator_deinit(&it);
    }
    size_t begin = out->size;
    if (e == OK) {
        buf_zero(out, BATCH_HEADER_SIZE);
        e = kafka_compress(batch_codec(h), COMPRESS_LEVEL_DEFAULT, records.data, records.size, out);
    }
    if (e == OK) e = seal(h, &n, out, begin);
    buf_deinit(&records);
    return e;
}

/* Must the batch stay, whatever becomes of its records? */
static bool header_stays(const struct clean_rules *r, const struct batch_header *h) {
    uint64_t end = (uint64_t)batch_end_offset(h);
    if (end == r->last_end) return true;
    const struct state_producer *p = state_producer_get(r->state, h->producer_id);
    return p != NULL && p->count > 0 && p->batches[p->count - 1].end_offset == end;
}

static enum err keep_as_it_is(const struct batch_header *h, struct buf *out, struct clean_counts *counts) {
    buf_put(out, h->data, h->size);
    counts->bytes_kept += h->size;
    return OK;
}

static enum err without_records(const struct clean_rules *r, const struct batch_header *h, struct buf *out,
                                bool *changed, struct clean_counts *counts) {
    bool stays = header_stays(r, h);
    if (stays && h->record_count == 0) return keep_as_it_is(h, out, counts);
    *changed = true;
    if (!stays) {
        counts->batches_dropped++;
        return OK;
    }
    counts->batches_emptied++;
    counts->bytes_kept += BATCH_HEADER_SIZE;
    return put_empty(h, out);
}

enum err clean_batch(const struct clean_rules *r, const struct batch_header *h, struct buf *out, bool *changed,
                     struct clean_counts *counts) {
    *changed = false;
    counts->batches++;
    counts->bytes += h->size;
    if ((uint64_t)h->base_offset >= r->map->end_offset || batch_is_control(h)) {
        counts->records += (uint64_t)h->record_count;
        counts->records_kept += (uint64_t)h->record_count;
        return keep_as_it_is(h, out, counts);
    }
    struct mem *mem = out->mem;
    struct batch_iterator it;
    struct look look;
    struct buf stays;
    enum err e = batch_iterator_init(&it, mem, h, UNPACK_MAX);
    if (e != OK) return e;
    buf_init(&stays, mem);
    e = look_at(r, h, &it, &stays, &look, counts);
    batch_iterator_deinit(&it);
    bool new_horizon = look.tombstones && (h->attributes & BATCH_DELETE_HORIZON) == 0;
    if (e != OK) {
        /* nothing is written of a batch that cannot be read */
    } else if (look.kept == 0) {
        e = without_records(r, h, out, changed, counts);
    } else if (look.all && !new_horizon) {
        e = keep_as_it_is(h, out, counts);
    } else {
        size_t before = out->size;
        *changed = true;
        counts->batches_rewritten++;
        e = put_kept(r, h, &stays, &look, new_horizon, mem, out);
        counts->bytes_kept += out->size - before;
    }
    buf_deinit(&stays);
    return e;
}

enum err clean_block(const struct clean_rules *r, const uint8_t *data, size_t size, struct buf *out, bool *changed,
                     struct clean_counts *counts) {
    for (size_t at = 0; at < size;) {
        struct batch_header h;
        bool here;
        enum err e = batch_parse_unchecked(data + at, size - at, &h);
        if (e == OK) e = clean_batch(r, &h, out, &here, counts);
        if (e != OK) return e;
        *changed |= here;
        at += h.size;
    }
    return OK;
}

/* ---- roll points ---- */

uint32_t clean_segments(const struct stream_state *s, uint64_t end, const uint64_t *bytes, uint64_t segment_bytes,
                        struct mem *mem, struct state_segment **out) {
    uint32_t count = 0;
    *out = mem_alloc(mem, (s->segment_count + 1) * sizeof(**out));
    for (uint32_t i = 0; i < s->segment_count && s->segments[i].base_offset < end; i++) {
        const struct state_segment *g = &s->segments[i];
        struct state_segment *last = count > 0 ? &(*out)[count - 1] : NULL;
        /* Kafka's limit: offsets in a segment are kept in 31 bits. */
        if (last && last->size_bytes + bytes[i] <= segment_bytes &&
            segment_end(s, i) - last->base_offset <= (uint64_t)INT32_MAX) {
            last->size_bytes += bytes[i];
            if (g->max_timestamp > last->max_timestamp) last->max_timestamp = g->max_timestamp;
            continue;
        }
        (*out)[count++] = (struct state_segment){g->base_offset, bytes[i], g->first_timestamp, g->max_timestamp};
    }
    return count;
}
