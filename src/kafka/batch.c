/* Reading, checking and patching record batches. The layout is in the header file. */
#include "kafka/batch.h"

#include "base/assert.h"
#include "base/crc32c.h"

/* Where the fields are. */
enum {
    AT_BASE_OFFSET = 0,
    AT_LENGTH = 8,
    AT_LEADER_EPOCH = 12,
    AT_MAGIC = 16,
    AT_CRC = 17,
    AT_ATTRIBUTES = 21,
    AT_LAST_OFFSET_DELTA = 23,
    AT_BASE_TIMESTAMP = 27,
    AT_MAX_TIMESTAMP = 35,
    AT_PRODUCER_ID = 43,
    AT_PRODUCER_EPOCH = 51,
    AT_BASE_SEQUENCE = 53,
    AT_RECORD_COUNT = 57,
};

static int16_t get16(const uint8_t *p) {
    return (int16_t)be16_get(p);
}
static int32_t get32(const uint8_t *p) {
    return (int32_t)be32_get(p);
}
static int64_t get64(const uint8_t *p) {
    return (int64_t)be64_get(p);
}

/* ---- The header ---- */

enum err batch_parse_unchecked(const uint8_t *data, size_t size, struct batch_header *h) {
    *h = (struct batch_header){.data = data};
    if (size < AT_CRC) return ERR_TRUNCATED;
    int32_t length = get32(data + AT_LENGTH);
    h->base_offset = get64(data + AT_BASE_OFFSET);
    h->partition_leader_epoch = get32(data + AT_LEADER_EPOCH);
    h->magic = (int8_t)data[AT_MAGIC];
    if (h->magic == 0 || h->magic == 1) return ERR_INVALID_RECORD;
    if (h->magic != 2) return ERR_CORRUPT_MESSAGE;
    if (length < (int32_t)(BATCH_HEADER_SIZE - BATCH_LENGTH_OFFSET)) return ERR_CORRUPT_MESSAGE;
    h->size = (size_t)length + BATCH_LENGTH_OFFSET;
    if (size < h->size) return ERR_TRUNCATED;
    h->crc = be32_get(data + AT_CRC);
    h->attributes = get16(data + AT_ATTRIBUTES);
    h->last_offset_delta = get32(data + AT_LAST_OFFSET_DELTA);
    h->base_timestamp = get64(data + AT_BASE_TIMESTAMP);
    h->max_timestamp = get64(data + AT_MAX_TIMESTAMP);
    h->producer_id = get64(data + AT_PRODUCER_ID);
    h->producer_epoch = get16(data + AT_PRODUCER_EPOCH);
    h->base_sequence = get32(data + AT_BASE_SEQUENCE);
    h->record_count = get32(data + AT_RECORD_COUNT);
    if (h->last_offset_delta < 0 || h->record_count < 0) return ERR_CORRUPT_MESSAGE;
    if (h->record_count > (int64_t)h->last_offset_delta + 1) return ERR_CORRUPT_MESSAGE;
    if ((unsigned)batch_codec(h) >= CODEC_COUNT) return ERR_CORRUPT_MESSAGE;
    return OK;
}

enum err batch_parse(const uint8_t *data, size_t size, struct batch_header *h) {
    enum err e = batch_parse_unchecked(data, size, h);
    if (e != OK) return e;
    return crc32c(0, data + AT_ATTRIBUTES, h->size - AT_ATTRIBUTES) == h->crc ? OK : ERR_CORRUPT_MESSAGE;
}

static int32_t sequence_add(int32_t sequence, int32_t n) {
    return (int32_t)(((int64_t)sequence + n) & INT32_MAX);
}

int32_t batch_last_sequence(const struct batch_header *h) {
    return h->base_sequence < 0 ? -1 : sequence_add(h->base_sequence, h->last_offset_delta);
}

void batch_set_position(uint8_t *data, int64_t base_offset, int32_t partition_leader_epoch) {
    be64_put(data + AT_BASE_OFFSET, (uint64_t)base_offset);
    be32_put(data + AT_LEADER_EPOCH, (uint32_t)partition_leader_epoch);
}

/* A checksum is linear: the change of its first part, shifted by the length of the rest, is the change of the whole. */
void batch_set_attributes(uint8_t *data, int16_t attributes, int64_t max_timestamp) {
    const size_t part = AT_PRODUCER_ID - AT_ATTRIBUTES;
    int32_t length = get32(data + AT_LENGTH);
    ASSERT(data[AT_MAGIC] == 2 && length >= (int32_t)(BATCH_HEADER_SIZE - BATCH_LENGTH_OFFSET));
    size_t rest = (size_t)length + BATCH_LENGTH_OFFSET - AT_PRODUCER_ID;
    uint32_t before = crc32c(0, data + AT_ATTRIBUTES, part);
    be16_put(data + AT_ATTRIBUTES, (uint16_t)attributes);
    be64_put(data + AT_MAX_TIMESTAMP, (uint64_t)max_timestamp);
    uint32_t after = crc32c(0, data + AT_ATTRIBUTES, part);
    be32_put(data + AT_CRC, crc32c_combine(before ^ after, be32_get(data + AT_CRC), rest));
}

/* ---- Records ---- */

/* A varint, before it is taken for a signed number, and where it ends: NULL when that is past what there is, or when it
 * is longer than it may be. By value, so that nothing in a walk over records needs an address. */
struct varint {
    const uint8_t *end;
    uint64_t value;
};

/* At most `bits` bits. */
static struct varint take_long_varint(const uint8_t *at, const uint8_t *end, unsigned bits) {
    struct varint bad = {NULL, 0};
    uint64_t v = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        if (at == end) return bad;
        uint8_t b = *at++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            if (bits == 32 && v > UINT32_MAX) return bad;
            if (shift == 63 && b > 1) return bad;
            return (struct varint){at, v};
        }
    }
    return bad;
}

/* The same. A record has seven, of which most take one byte or two. */
static inline struct varint take_varint(const uint8_t *at, const uint8_t *end, unsigned bits) {
    if (OX_UNLIKELY(at == end)) return (struct varint){NULL, 0};
    if (OX_LIKELY(at[0] < 0x80)) return (struct varint){at + 1, at[0]};
    if (end - at > 1 && at[1] < 0x80) return (struct varint){at + 2, (at[0] & 0x7fu) | (unsigned)at[1] << 7};
    return take_long_varint(at, end, bits);
}

/* The signed number that a varint stands for: 0, -1, 1, -2, ... So one that is odd is negative, and 1 is -1. */
static inline int64_t unzigzag(uint64_t v) {
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* A length and its bytes; -1 is null where `nullable`. Where the bytes end, or NULL. */
static inline const uint8_t *take_sized(const uint8_t *at, const uint8_t *end, bool nullable, const uint8_t **data,
                                        int32_t *size) {
    struct varint v = take_varint(at, end, 32);
    if (!v.end) return NULL;
    if (v.value & 1) {
        *size = -1;
        *data = NULL;
        return nullable && v.value == 1 ? v.end : NULL;
    }
    size_t n = v.value >> 1;
    if (n > (size_t)(end - v.end)) return NULL;
    *size = (int32_t)n;
    *data = v.end;
    return v.end + n;
}

__attribute__((noinline)) static bool headers_are_sound(const uint8_t *at, const uint8_t *end, int32_t count) {
    const uint8_t *data;
    int32_t size;
    for (; count > 0; count--) {
        if (!(at = take_sized(at, end, false, &data, &size))) return false;
        if (!(at = take_sized(at, end, true, &data, &size))) return false;
    }
    return at == end;
}

bool batch_header_next(const struct batch_record *r, size_t *position, struct batch_record_header *out) {
    if (*position >= r->headers_size) return false;
    const uint8_t *at = r->headers + *position, *end = r->headers + r->headers_size, *key;
    /* batch_iterator_next has checked them. */
    ASSERT(at = take_sized(at, end, false, &key, &out->key_size));
    ASSERT(at = take_sized(at, end, true, &out->value, &out->value_size));
    out->key = (const char *)key;
    *position = (size_t)(at - r->headers);
    return true;
}

enum err batch_iterator_init(struct batch_iterator *it, struct mem *m, const struct batch_header *h, size_t limit) {
    const uint8_t *records = h->data + BATCH_HEADER_SIZE;
    size_t size = h->size - BATCH_HEADER_SIZE;
    *it = (struct batch_iterator){.header = h, .at = records, .end = records + size, .left = h->record_count};
    buf_init(&it->unpacked, m);
    if (batch_codec(h) == CODEC_NONE || h->record_count == 0) return OK;
    enum err e = kafka_decompress(batch_codec(h), records, size, limit, &it->unpacked);
    if (e != OK) {
        buf_deinit(&it->unpacked);
        return e == ERR_TOO_LARGE || e == ERR_NO_MEMORY ? e : ERR_CORRUPT_MESSAGE;
    }
    /* What unfolds to nothing may have no buffer. */
    if (it->unpacked.size > 0) it->at = it->unpacked.data;
    it->end = it->at + it->unpacked.size;
    return OK;
}

void batch_iterator_deinit(struct batch_iterator *it) {
    if (it->unpacked.mem) buf_deinit(&it->unpacked);
}

/* The record at `at`, all its lengths checked: where it ends, or NULL. Inlined, so that a caller pays for the fields
 * that it looks at. */
static inline __attribute__((always_inline)) const uint8_t *take_record(const struct batch_header *h, const uint8_t *at,
                                                                        const uint8_t *limit, struct batch_record *r) {
    struct varint length = take_varint(at, limit, 32);
    if (!length.end || (length.value & 1) || length.value == 0) return NULL;
    if (length.value >> 1 > (size_t)(limit - length.end)) return NULL;
    const uint8_t *end = length.end + (length.value >> 1);
    r->attributes = (int8_t)*length.end;
    struct varint timestamp = take_varint(length.end + 1, end, 64);
    if (!timestamp.end) return NULL;
    struct varint offset = take_varint(timestamp.end, end, 32);
    if (!offset.end || (offset.value & 1) || (int64_t)(offset.value >> 1) > h->last_offset_delta) return NULL;
    if (!(at = take_sized(offset.end, end, true, &r->key, &r->key_size))) return NULL;
    if (!(at = take_sized(at, end, true, &r->value, &r->value_size))) return NULL;
    struct varint count = take_varint(at, end, 32);
    if (!count.end || (count.value & 1)) return NULL;
    r->header_count = (int32_t)(count.value >> 1);
    r->headers = count.end;
    r->headers_size = (size_t)(end - count.end);
    if (r->header_count > 0 ? !headers_are_sound(r->headers, end, r->header_count) : r->headers_size > 0) return NULL;
    /* Sums wrap, as in Java: base values are the client's. */
    r->offset = (int64_t)((uint64_t)h->base_offset + (offset.value >> 1));
    r->offset_delta = (int32_t)(offset.value >> 1);
    r->timestamp = h->attributes & BATCH_LOG_APPEND_TIME
                       ? h->max_timestamp
                       : (int64_t)((uint64_t)h->base_timestamp + (uint64_t)unzigzag(timestamp.value));
    return end;
}

enum err batch_iterator_next(struct batch_iterator *it, struct batch_record *r) {
    if (it->left == 0) return it->at == it->end ? ERR_NOT_FOUND : ERR_INVALID_RECORD;
    const uint8_t *next = take_record(it->header, it->at, it->end, r);
    if (!next) return ERR_INVALID_RECORD;
    it->at = next;
    it->left--;
    return OK;
}

enum err batch_validate_records(const struct batch_header *h, struct mem *m, size_t limit, unsigned flags,
                                struct batch_check *check) {
    *check = (struct batch_check){
        .max_timestamp = BATCH_NO_TIMESTAMP, .min_timestamp = BATCH_NO_TIMESTAMP, .bad_record = -1};
    if (h->record_count <= 0 || h->record_count != (int64_t)h->last_offset_delta + 1) return ERR_INVALID_RECORD;
    struct batch_iterator it;
    enum err e = batch_iterator_init(&it, m, h, limit);
    if (e != OK) return e;
    /* By hand, not by batch_iterator_next: each record of each batch that is produced goes through here. */
    const uint8_t *at = it.at, *end = it.end;
    int64_t max = INT64_MIN, min = INT64_MAX;
    int32_t index = 0, max_index = 0, count = h->record_count;
    for (; index < count; index++) {
        struct batch_record r;
        at = take_record(h, at, end, &r);
        if (!at || r.offset_delta != index || ((flags & BATCH_CHECK_KEYS) && r.key_size < 0)) break;
        if (r.timestamp > max) {
            max = r.timestamp;
            max_index = index;
        }
        if (r.timestamp < min) min = r.timestamp;
    }
    batch_iterator_deinit(&it);
    if (index > 0) {
        check->max_timestamp = max;
        check->max_timestamp_delta = max_index;
        check->min_timestamp = min;
    }
    if (index < count) {
        check->bad_record = index;
        return ERR_INVALID_RECORD;
    }
    /* Bytes behind the last record are nobody's but the batch's. */
    if (at != end) return ERR_INVALID_RECORD;
    return (flags & BATCH_CHECK_MAX_TIMESTAMP) && max != h->max_timestamp ? ERR_INVALID_RECORD : OK;
}

enum err batch_find_timestamp(const struct batch_header *h, struct mem *m, size_t limit, int64_t timestamp,
                              int64_t *offset, int64_t *found) {
    struct batch_iterator it;
    enum err e = batch_iterator_init(&it, m, h, limit);
    if (e != OK) return e;
    struct batch_record r;
    while ((e = batch_iterator_next(&it, &r)) == OK) {
        if (r.timestamp < timestamp) continue;
        *offset = r.offset;
        *found = r.timestamp;
        break;
    }
    batch_iterator_deinit(&it);
    return e;
}

/* ---- Building ---- */

void batch_builder_init(struct batch_builder *b, struct mem *m, const struct batch_options *options) {
    *b = (struct batch_builder){.options = *options};
    buf_init(&b->records, m);
}

void batch_builder_deinit(struct batch_builder *b) {
    buf_deinit(&b->records);
}

static uint64_t zigzag(int64_t v) {
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static size_t zigzag_size(int64_t v) {
    size_t n = 1;
    for (uint64_t u = zigzag(v); u >= 0x80; u >>= 7) n++;
    return n;
}

static size_t sized_size(const void *data, size_t size) {
    return data ? zigzag_size((int64_t)size) + size : 1;
}

static void put_sized(struct buf *out, const void *data, size_t size) {
    buf_varint(out, zigzag(data ? (int64_t)size : -1));
    if (data) buf_put(out, data, size);
}

void batch_builder_add(struct batch_builder *b, int64_t timestamp, const void *key, size_t key_size, const void *value,
                       size_t value_size, const struct batch_record_header *headers, size_t header_count) {
    ASSERT(key_size < (1u << 30) && value_size < (1u << 30) && b->count < INT32_MAX);
    if (b->count == 0) b->base_timestamp = b->max_timestamp = timestamp;
    if (timestamp > b->max_timestamp) b->max_timestamp = timestamp;
    int64_t delta = (int64_t)((uint64_t)timestamp - (uint64_t)b->base_timestamp);
    size_t size = 1 + zigzag_size(delta) + zigzag_size(b->count) + sized_size(key, key_size) +
                  sized_size(value, value_size) + zigzag_size((int64_t)header_count);
    for (size_t i = 0; i < header_count; i++) {
        ASSERT(headers[i].key_size >= 0 && headers[i].value_size >= -1);
        size += zigzag_size(headers[i].key_size) + (size_t)headers[i].key_size;
        size += headers[i].value_size < 0 ? 1 : zigzag_size(headers[i].value_size) + (size_t)headers[i].value_size;
    }
    struct buf *out = &b->records;
    buf_varint(out, zigzag((int64_t)size));
    size_t begin = out->size;
    buf_u8(out, 0);
    buf_varint(out, zigzag(delta));
    buf_varint(out, zigzag(b->count));
    put_sized(out, key, key_size);
    put_sized(out, value, value_size);
    buf_varint(out, zigzag((int64_t)header_count));
    for (size_t i = 0; i < header_count; i++) {
        buf_varint(out, zigzag(headers[i].key_size));
        buf_put(out, headers[i].key, (size_t)headers[i].key_size);
        buf_varint(out, zigzag(headers[i].value_size));
        if (headers[i].value_size > 0) buf_put(out, headers[i].value, (size_t)headers[i].value_size);
    }
    ASSERT(out->size - begin == size);
    b->count++;
}

enum err batch_builder_finish(struct batch_builder *b, struct buf *out) {
    if (b->count == 0) return ERR_INVALID;
    struct batch_options *o = &b->options;
    size_t begin = out->size;
    buf_zero(out, BATCH_HEADER_SIZE);
    enum err e = kafka_compress(o->codec, o->level, b->records.data, b->records.size, out);
    size_t size = out->size - begin;
    if (e == OK && size - BATCH_LENGTH_OFFSET > INT32_MAX) e = ERR_TOO_LARGE;
    if (e != OK) {
        out->size = begin;
        return e;
    }
    uint8_t *p = out->data + begin;
    batch_set_position(p, o->base_offset, o->partition_leader_epoch);
    be32_put(p + AT_LENGTH, (uint32_t)(size - BATCH_LENGTH_OFFSET));
    p[AT_MAGIC] = 2;
    be16_put(p + AT_ATTRIBUTES, (uint16_t)(o->attributes | (int)o->codec));
    be32_put(p + AT_LAST_OFFSET_DELTA, (uint32_t)(b->count - 1));
    be64_put(p + AT_BASE_TIMESTAMP, (uint64_t)b->base_timestamp);
    be64_put(p + AT_MAX_TIMESTAMP, (uint64_t)b->max_timestamp);
    be64_put(p + AT_PRODUCER_ID, (uint64_t)o->producer_id);
    be16_put(p + AT_PRODUCER_EPOCH, (uint16_t)o->producer_epoch);
    be32_put(p + AT_BASE_SEQUENCE, (uint32_t)o->base_sequence);
    be32_put(p + AT_RECORD_COUNT, (uint32_t)b->count);
    be32_put(p + AT_CRC, crc32c(0, p + AT_ATTRIBUTES, size - AT_ATTRIBUTES));
    o->base_offset += b->count;
    if (o->base_sequence >= 0) o->base_sequence = sequence_add(o->base_sequence, b->count);
    b->count = 0;
    b->records.size = 0;
    return OK;
}
