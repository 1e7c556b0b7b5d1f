#include "stream/record.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/format.h"

static_assert(GROUP_VERSION == FORMAT_WAL_GROUP_NEWEST, "one table has them all");
static_assert((unsigned)GROUP_PAD == FORMAT_WAL_GROUP_KIND_NEWEST, "one table has them all");
static_assert((unsigned)STREAM_TRIM == FORMAT_WAL_RECORD_TYPE_NEWEST, "one table has them all");

static uint32_t record_seed(struct incarnation incarnation, uint64_t block_id) {
    uint8_t seed[16];
    le64_put(seed, incarnation.v);
    le64_put(seed + 8, block_id);
    return crc32c(0, seed, sizeof(seed));
}

void record_encode(uint8_t out[RECORD_HEADER_SIZE], const struct record_header *h, uint32_t payload_crc,
                   struct incarnation incarnation, uint64_t block_id) {
    ASSERT(h->type == STREAM_BATCH || h->type == STREAM_TRIM);
    ASSERT(h->end_offset >= h->base_offset);
    le32_put(out, h->payload_size);
    out[8] = (uint8_t)h->type;
    out[9] = (uint8_t)h->flags;
    le16_put(out + 10, 0);
    le32_put(out + 12, (uint32_t)h->epoch);
    le64_put(out + 16, h->stream.v);
    le64_put(out + 24, h->base_offset);
    le64_put(out + 32, h->end_offset);
    le64_put(out + 40, (uint64_t)h->max_timestamp);
    uint32_t crc = crc32c(record_seed(incarnation, block_id), out + 8, RECORD_HEADER_SIZE - 8);
    le32_put(out + 4, crc32c_combine(crc, payload_crc, h->payload_size));
}

void record_peek(const uint8_t *data, struct record_header *out, const uint8_t **payload) {
    out->payload_size = le32_get(data);
    out->type = (enum stream_record_type)data[8];
    out->flags = data[9];
    out->epoch = (int32_t)le32_get(data + 12);
    out->stream.v = le64_get(data + 16);
    out->base_offset = le64_get(data + 24);
    out->end_offset = le64_get(data + 32);
    out->max_timestamp = (int64_t)le64_get(data + 40);
    *payload = data + RECORD_HEADER_SIZE;
}

enum err record_decode(const uint8_t *data, size_t size, struct incarnation incarnation, uint64_t block_id,
                       struct record_header *out, const uint8_t **payload) {
    if (size < RECORD_HEADER_SIZE) return ERR_TRUNCATED;
    record_peek(data, out, payload);
    if (out->payload_size > size - RECORD_HEADER_SIZE) return ERR_TRUNCATED;
    uint32_t crc = crc32c(record_seed(incarnation, block_id), data + 8, RECORD_HEADER_SIZE - 8 + out->payload_size);
    if (crc != le32_get(data + 4)) return ERR_CORRUPT;
    if (out->type != STREAM_BATCH && out->type != STREAM_TRIM) return ERR_VERSION;
    if (out->end_offset < out->base_offset) return ERR_CORRUPT;
    return OK;
}

void group_encode(uint8_t out[GROUP_HEADER_SIZE], const struct group_header *g) {
    ASSERT(g->kind == GROUP_RECORDS || g->kind == GROUP_PAD);
    ASSERT(g->position % ENV_FILE_ALIGN == 0);
    memset(out, 0, GROUP_HEADER_SIZE);
    le32_put(out, GROUP_MAGIC);
    le16_put(out + 4, GROUP_VERSION);
    le16_put(out + 6, (uint16_t)g->kind);
    le64_put(out + 8, g->incarnation.v);
    le64_put(out + 16, g->position);
    le64_put(out + 24, g->block_id);
    le32_put(out + 32, g->size);
    le32_put(out + 36, g->record_count);
    le64_put(out + 40, g->trim_position);
    le64_put(out + 48, g->confirmed_position);
    le32_put(out + 60, crc32c(0, out, 60));
}

enum err group_decode(const uint8_t *data, size_t size, struct group_header *out) {
    if (size < GROUP_HEADER_SIZE) return ERR_TRUNCATED;
    if (le32_get(data) != GROUP_MAGIC) return ERR_FOREIGN;
    if (le32_get(data + 60) != crc32c(0, data, 60)) return ERR_CORRUPT;
    /* Every version has these two here: so a group of a newer one that is left from an earlier lap or start is told from
     * one that would have to be read. */
    out->incarnation.v = le64_get(data + 8);
    out->position = le64_get(data + 16);
    if (le16_get(data + 4) != GROUP_VERSION) return ERR_VERSION;
    out->kind = (enum group_kind)le16_get(data + 6);
    out->block_id = le64_get(data + 24);
    out->size = le32_get(data + 32);
    out->record_count = le32_get(data + 36);
    out->trim_position = le64_get(data + 40);
    out->confirmed_position = le64_get(data + 48);
    if (out->kind != GROUP_RECORDS && out->kind != GROUP_PAD) return ERR_VERSION;
    if (out->size < GROUP_HEADER_SIZE) return ERR_CORRUPT;
    return OK;
}
