#include "stream/object.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/format.h"
#include "kafka/batch.h"

#define HEAD_VERSION 1u        /* without */
#define HEAD_VERSION_MIRROR 2u /* and with the members of a mirrored WAL */
#define DATA_MAGIC 0x5444584fu /* "OXDT" */
#define DATA_VERSION 2u
#define DATA_VERSION_OLDEST 1u
static_assert(HEAD_VERSION_MIRROR == FORMAT_LEDGER_HEAD_NEWEST, "one table has them all");
static_assert((unsigned)OBJECT_CLEANED == FORMAT_LEDGER_SECTION_KIND_NEWEST, "one table has them all");
static_assert(DATA_VERSION == FORMAT_DATA_OBJECT_NEWEST, "one table has them all");
#define STAGING_BELOW 4096u
#define STAGING_FIRST 512u
#define STAGING_SIZE (256u << 10)

void object_ledger_prefix(char out[OBJECT_KEY_MAX], const char *generation, struct incarnation creator) {
    int n = snprintf(out, OBJECT_KEY_MAX, "%s/ledger/%016" PRIx64, generation, creator.v);
    ASSERT(n > 0 && (size_t)n < OBJECT_KEY_MAX);
}

void object_key(char out[OBJECT_KEY_MAX], const char *generation, struct object_id id) {
    int n;
    if (id.kind == OBJECT_LEDGER_ENTRY) {
        char prefix[OBJECT_KEY_MAX];
        object_ledger_prefix(prefix, generation, id.creator);
        objlog_key(out, OBJECT_KEY_MAX, prefix, id.number);
        return;
    }
    ASSERT(id.kind == OBJECT_DATA);
    n = snprintf(out, OBJECT_KEY_MAX, "%s/data/%016" PRIx64 "/%020" PRIu64, generation, id.creator.v, id.number);
    ASSERT(n > 0 && (size_t)n < OBJECT_KEY_MAX);
}

bool object_key_parse(const char *key, const char *generation, struct object_id *out) {
    const char *whole = key;
    size_t n = strlen(generation);
    if (strncmp(key, generation, n) != 0) return false;
    key += n;
    if (strncmp(key, "/ledger/", 8) == 0) {
        out->kind = OBJECT_LEDGER_ENTRY;
        key += 8;
    } else if (strncmp(key, "/data/", 6) == 0) {
        out->kind = OBJECT_DATA;
        key += 6;
    } else {
        return false;
    }
    if (strlen(key) != 16 + 1 + 20 || key[16] != '/') return false;
    char *end;
    out->creator.v = strtoull(key, &end, 16);
    if (end != key + 16) return false;
    out->number = strtoull(key + 17, &end, 10);
    if (*end != '\0') return false;
    /* Signs, blanks, capitals and numbers that are too large are read as well, but never written: such a key is not the
     * object that it would be taken for. */
    char again[OBJECT_KEY_MAX];
    object_key(again, generation, *out);
    return strcmp(again, whole) == 0;
}

enum err object_index_decode(const uint8_t *data, size_t size, uint32_t block_count, uint64_t piece_size,
                             struct object_block *blocks) {
    size_t index_size = object_index_size(block_count);
    if (size < index_size || piece_size < index_size) return ERR_TRUNCATED;
    if (crc32c(0, data, index_size - 8) != le32_get(data + index_size - 8)) return ERR_CORRUPT;
    uint64_t position = index_size;
    for (uint32_t i = 0; i < block_count; i++) {
        const uint8_t *e = data + (size_t)i * OBJECT_BLOCK_ENTRY;
        struct object_block *b = &blocks[i];
        *b = (struct object_block){le64_get(e),      le64_get(e + 8),  (int64_t)le64_get(e + 16),
                                   le64_get(e + 24), le32_get(e + 32), le32_get(e + 36)};
        if (b->position != position || b->end_offset <= b->first_offset || b->size > piece_size - position)
            return ERR_CORRUPT;
        if (i > 0 && b->first_offset != b[-1].end_offset) return ERR_CORRUPT;
        position += b->size;
    }
    return position == piece_size ? OK : ERR_CORRUPT;
}

void object_piece_init(struct object_piece *p, struct mem *m) {
    *p = (struct object_piece){.mem = m, .max_timestamp = INT64_MIN};
    slices_init(&p->parts, m);
}

void object_piece_deinit(struct object_piece *p) {
    slices_deinit(&p->parts);
    slab_unref(p->staging);
    mem_free(p->mem, p->blocks);
    mem_free(p->mem, p->index);
    *p = (struct object_piece){0};
}

void object_piece_begin(struct object_piece *p, uint64_t first_offset) {
    ASSERT(p->block_count == 0);
    p->begun = true;
    p->first_offset = p->end_offset = first_offset;
}

/* Blocks are contiguous: what is missing in front of its first batch belongs to a block. */
static struct object_block *open_block(struct object_piece *p, uint64_t base_offset) {
    if (!p->begun) object_piece_begin(p, base_offset);
    ASSERT(base_offset >= p->end_offset);
    uint64_t first_offset = p->end_offset;
    p->blocks = mem_grow(p->mem, p->blocks, p->block_count, &p->block_capacity, sizeof(*p->blocks));
    struct object_block *b = &p->blocks[p->block_count++];
    *b = (struct object_block){
        .first_offset = first_offset, .end_offset = first_offset, .max_timestamp = INT64_MIN, .position = p->data_size};
    return b;
}

/* Some times of what the piece has so far: an entry may be of 100,000 pieces with one small batch each. */
static size_t staging_size(const struct object_piece *p, size_t need) {
    size_t size = STAGING_FIRST;
    while (size < STAGING_SIZE && (size < 4 * p->parts.size_bytes || size < need)) size *= 2;
    return size;
}

bool object_piece_copies(size_t size) {
    return size < STAGING_BELOW;
}

static void push_part(struct object_piece *p, struct slice s) {
    if (!object_piece_copies(s.size)) {
        slices_push(&p->parts, s);
        return;
    }
    if (!p->staging || p->staging->size - p->staging_used < s.size) {
        slab_unref(p->staging);
        p->staging = slab_create(p->mem, staging_size(p, s.size), 16);
        p->staging_used = 0;
    }
    memcpy(p->staging->data + p->staging_used, s.data, s.size);
    struct slice *last = p->parts.count ? &p->parts.items[p->parts.count - 1] : NULL;
    if (last && last->slab == p->staging && last->data + last->size == p->staging->data + p->staging_used) {
        last->size += s.size;
        p->parts.size_bytes += s.size;
    } else {
        slices_push(&p->parts, slice_of(p->staging, p->staging_used, s.size));
    }
    p->staging_used += s.size;
    slice_unref(&s);
}

static void account(struct object_piece *p, struct object_block *b, struct slice s, uint64_t end_offset,
                    int64_t max_timestamp) {
    b->end_offset = end_offset;
    b->size += (uint32_t)s.size;
    if (max_timestamp > b->max_timestamp) b->max_timestamp = max_timestamp;
    if (max_timestamp > p->max_timestamp) p->max_timestamp = max_timestamp;
    p->end_offset = end_offset;
    p->data_size += s.size;
    push_part(p, s);
}

/* A batch's own checksum covers all but its first 21 bytes, and was checked when it came in: a large one need not be
 * read again. */
static uint32_t batch_crc(struct slice batch) {
    if (batch.size < 8192) return crc32c(0, batch.data, batch.size);
    return crc32c_combine(crc32c(0, batch.data, 21), be32_get(batch.data + 17), batch.size - 21);
}

void object_piece_add(struct object_piece *p, struct slice batch, uint64_t base_offset, uint64_t end_offset,
                      int64_t max_timestamp) {
    ASSERT(end_offset > base_offset && batch.size > 0);
    struct object_block *b = p->block_count ? &p->blocks[p->block_count - 1] : NULL;
    if (!b || b->size >= OBJECT_BLOCK_TARGET) b = open_block(p, base_offset);
    ASSERT(base_offset >= b->end_offset);
    uint32_t crc = batch_crc(batch);
    b->crc = b->size ? crc32c_combine(b->crc, crc, batch.size) : crc;
    account(p, b, batch, end_offset, max_timestamp);
}

void object_piece_add_block(struct object_piece *p, struct slice block, const struct object_block *from) {
    ASSERT(from->end_offset > from->first_offset && from->size == block.size && block.size > 0);
    struct object_block *b = p->block_count ? &p->blocks[p->block_count - 1] : NULL;
    if (!b || b->size + block.size > OBJECT_BLOCK_TARGET) b = open_block(p, from->first_offset);
    ASSERT(from->first_offset == b->end_offset);
    b->crc = b->size ? crc32c_combine(b->crc, from->crc, block.size) : from->crc;
    account(p, b, block, from->end_offset, from->max_timestamp);
}

void object_index_encode(const struct object_block *blocks, uint32_t block_count, uint8_t *out) {
    size_t size = object_index_size(block_count);
    for (uint32_t i = 0; i < block_count; i++) {
        const struct object_block *b = &blocks[i];
        uint8_t *e = out + (size_t)i * OBJECT_BLOCK_ENTRY;
        le64_put(e, b->first_offset);
        le64_put(e + 8, b->end_offset);
        le64_put(e + 16, (uint64_t)b->max_timestamp);
        le64_put(e + 24, b->position);
        le32_put(e + 32, b->size);
        le32_put(e + 36, b->crc);
    }
    le32_put(out + size - 8, crc32c(0, out, size - 8));
    le32_put(out + size - 4, 0);
}

uint64_t object_piece_finish(struct object_piece *p, uint32_t *crc) {
    ASSERT(p->block_count > 0 && p->block_count <= UINT32_MAX && p->index == NULL);
    p->index_size = object_index_size((uint32_t)p->block_count);
    p->index = mem_alloc(p->mem, p->index_size);
    uint32_t data_crc = 0;
    for (size_t i = 0; i < p->block_count; i++) {
        struct object_block *b = &p->blocks[i];
        b->position += p->index_size;
        data_crc = crc32c_combine(data_crc, b->crc, b->size);
    }
    object_index_encode(p->blocks, (uint32_t)p->block_count, p->index);
    *crc = crc32c_combine(crc32c(0, p->index, p->index_size), data_crc, p->data_size);
    return p->index_size + p->data_size;
}

void object_data_header(uint8_t out[OBJECT_DATA_HEADER], struct object_id id, struct stream_id stream,
                        uint64_t body_size) {
    memset(out, 0, OBJECT_DATA_HEADER);
    le32_put(out, DATA_MAGIC);
    le16_put(out + 4, DATA_VERSION);
    le64_put(out + 8, id.creator.v);
    le64_put(out + 16, id.number);
    le64_put(out + 24, stream.v);
    le64_put(out + 32, body_size);
    le32_put(out + 60, crc32c(0, out, 60));
}

enum err object_data_header_decode(const uint8_t *data, size_t size, struct object_id *id, struct stream_id *stream,
                                   uint64_t *body_size) {
    if (size < OBJECT_DATA_HEADER) return ERR_TRUNCATED;
    if (le32_get(data) != DATA_MAGIC) return ERR_FOREIGN;
    if (le32_get(data + 60) != crc32c(0, data, 60)) return ERR_CORRUPT;
    unsigned version = le16_get(data + 4);
    if (version < DATA_VERSION_OLDEST || version > DATA_VERSION) return ERR_VERSION;
    *id = (struct object_id){{le64_get(data + 8)}, le64_get(data + 16), OBJECT_DATA};
    stream->v = le64_get(data + 24);
    *body_size = le64_get(data + 32);
    return version < 2 && stream->v == 0 ? ERR_CORRUPT : OK;
}

enum err object_batch_view(const struct record_header *h, const uint8_t *payload, struct state_batch *out) {
    struct batch_header b;
    enum err e = batch_parse_unchecked(payload, h->payload_size, &b);
    if (e != OK) return e;
    if ((uint64_t)b.base_offset != h->base_offset ||
        h->base_offset + (uint64_t)b.last_offset_delta + 1 != h->end_offset)
        return ERR_CORRUPT_MESSAGE;
    *out = (struct state_batch){
        .base_offset = h->base_offset,
        .end_offset = h->end_offset,
        /* With log append time the records' own timestamps do not count. */
        .first_timestamp = (b.attributes & BATCH_LOG_APPEND_TIME) ? b.max_timestamp : b.base_timestamp,
        .max_timestamp = b.max_timestamp,
        .size_bytes = h->payload_size,
        .leader_epoch = b.partition_leader_epoch,
        .producer_id = b.producer_id,
        .producer_epoch = b.producer_epoch,
        .first_sequence = b.base_sequence,
        .last_sequence = (int32_t)(((uint32_t)b.base_sequence + (uint32_t)b.last_offset_delta) & INT32_MAX),
        .rolls = (h->flags & STREAM_RECORD_ROLLS) != 0,
    };
    return OK;
}

void object_head_begin(struct buf *out, const struct object_head *h) {
    buf_u16(out, h->members.version > 0 ? HEAD_VERSION_MIRROR : HEAD_VERSION);
    buf_u16(out, 0);
    buf_u32(out, h->section_count);
    buf_u32(out, h->state_count);
    buf_u32(out, 0);
    buf_put(out, h->members.count > 0 ? h->members.ids[0] : h->wal_id, 16);
    buf_u8(out, h->closed);
    buf_zero(out, 7);
    if (h->members.version == 0) return;
    buf_u64(out, h->members.version);
    buf_u32(out, h->members.count);
    buf_u32(out, 0);
    buf_put(out, h->members.ids, (size_t)16 * h->members.count);
}

void object_head_section(struct buf *out, struct stream_id stream, int32_t epoch, enum object_section_kind kind,
                         const struct stream_state *delta) {
    buf_u64(out, stream.v);
    buf_u32(out, (uint32_t)epoch);
    buf_u32(out, (uint32_t)kind);
    size_t at = out->size;
    buf_u32(out, 0);
    state_encode(delta, out);
    le32_put(out->data + at, (uint32_t)(out->size - at - 4));
}

void object_head_state(struct buf *out, const struct object_state_pointer *p) {
    buf_u64(out, p->stream.v);
    buf_u32(out, (uint32_t)p->epoch);
    buf_u32(out, p->size);
    buf_u32(out, p->crc);
    buf_u32(out, p->refused ? 1 : 0);
    buf_u64(out, p->entry);
    buf_u64(out, p->position);
}

static enum err members_decode(struct reader *r, struct wal_membership *out) {
    out->version = reader_u64(r);
    uint32_t count = reader_u32(r);
    (void)reader_u32(r);
    if (r->failed) return ERR_TRUNCATED;
    if (out->version == 0 || count > WAL_MEMBERS_MAX) return ERR_CORRUPT;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *id = reader_bytes(r, 16);
        if (id) memcpy(out->ids[i], id, 16);
    }
    out->count = r->failed ? 0 : count;
    return OK;
}

enum err object_head_decode(struct reader *r, struct object_head *out) {
    uint16_t version = reader_u16(r);
    if (!r->failed && (version < HEAD_VERSION || version > HEAD_VERSION_MIRROR))
        return version > HEAD_VERSION_MIRROR ? ERR_VERSION : ERR_CORRUPT;
    (void)reader_u16(r);
    out->section_count = reader_u32(r);
    out->state_count = reader_u32(r);
    (void)reader_u32(r);
    const uint8_t *id = reader_bytes(r, 16);
    if (id) memcpy(out->wal_id, id, 16);
    out->closed = reader_u8(r) != 0;
    (void)reader_bytes(r, 7);
    out->members = (struct wal_membership){0};
    if (version == HEAD_VERSION_MIRROR) {
        enum err e = members_decode(r, &out->members);
        /* The place where other heads have their WAL is the first member's. */
        bool same = out->members.count == 0 || !id || memcmp(id, out->members.ids[0], 16) == 0;
        if (e == OK && !same) e = ERR_CORRUPT;
        if (e != OK) return e;
    }
    return r->failed ? ERR_TRUNCATED : OK;
}

enum err object_section_decode(struct reader *r, struct object_section *out) {
    out->stream.v = reader_u64(r);
    out->epoch = (int32_t)reader_u32(r);
    uint32_t kind = reader_u32(r);
    out->delta_size = reader_u32(r);
    out->delta = reader_bytes(r, out->delta_size);
    if (r->failed) return ERR_TRUNCATED;
    if (kind != OBJECT_APPENDED && kind != OBJECT_REPLACED && kind != OBJECT_CLEANED) return ERR_VERSION;
    out->kind = (enum object_section_kind)kind;
    return OK;
}

enum err object_state_decode(struct reader *r, struct object_state_pointer *out) {
    out->stream.v = reader_u64(r);
    out->epoch = (int32_t)reader_u32(r);
    out->size = reader_u32(r);
    out->crc = reader_u32(r);
    out->refused = (reader_u32(r) & 1) != 0;
    out->entry = reader_u64(r);
    out->position = reader_u64(r);
    return r->failed ? ERR_TRUNCATED : OK;
}
