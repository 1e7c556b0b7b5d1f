/* Any bytes as a piece: u8 block count (bit 7: the index' checksum is made to match), then index and blocks. Blocks
 * that an index gives lie within the piece; their batches are walked as a read does it. The same bytes are tried as the
 * header of a data object, as the head of a ledger entry, and as a key. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "kafka/batch.h"
#include "stream/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const uint8_t *piece, const struct object_block *b) {
    size_t at = 0;
    while (at < b->size) {
        struct batch_header h;
        if (batch_parse_unchecked(piece + b->position + at, b->size - at, &h) != OK) return;
        ASSERT(h.size > 0 && h.size <= b->size - at);
        at += h.size;
    }
}

static void try_key(struct mem *m, const uint8_t *data, size_t size) {
    char *key = mem_strndup(m, (const char *)data, size);
    struct object_id id;
    if (object_key_parse(key, "gen", &id)) {
        char again[OBJECT_KEY_MAX];
        object_key(again, "gen", id);
        ASSERT(strcmp(again, key) == 0); /* no two keys are one object */
    }
    mem_free(m, key);
}

/* As it is, and with a checksum that matches. */
static void try_data_header(struct mem *m, const uint8_t *data, size_t size) {
    uint8_t *copy = mem_alloc(m, size);
    memcpy(copy, data, size);
    for (int round = 0; round < 2; round++) {
        struct object_id id, id_again;
        struct stream_id stream, stream_again;
        uint64_t n, n_again;
        enum err e = object_data_header_decode(copy, size, &id, &stream, &n);
        ASSERT(e == OK || e == ERR_TRUNCATED || e == ERR_FOREIGN || e == ERR_CORRUPT || e == ERR_VERSION);
        if (e == OK) {
            uint8_t again[OBJECT_DATA_HEADER];
            object_data_header(again, id, stream, n);
            e = object_data_header_decode(again, sizeof(again), &id_again, &stream_again, &n_again);
            ASSERT(e == OK && object_id_equal(id, id_again) && stream.v == stream_again.v && n == n_again);
        }
        if (size >= OBJECT_DATA_HEADER) le32_put(copy + 60, crc32c(0, copy, 60));
    }
    mem_free(m, copy);
}

/* The head of a ledger entry: what its pieces say is said again by those that write it. */
static void try_head(struct mem *m, const uint8_t *data, size_t size) {
    struct reader r = reader_of(data, size);
    struct object_head h, h_again;
    if (object_head_decode(&r, &h) != OK) return;
    struct buf out;
    buf_init(&out, m);
    object_head_begin(&out, &h);
    struct reader again = reader_of(out.data, out.size);
    enum err e = object_head_decode(&again, &h_again);
    ASSERT(e == OK && h.section_count == h_again.section_count && h.state_count == h_again.state_count);
    ASSERT(h.closed == h_again.closed && memcmp(h.wal_id, h_again.wal_id, sizeof(h.wal_id)) == 0);
    for (uint32_t i = 0; i < h.section_count; i++) {
        struct object_section s;
        if (object_section_decode(&r, &s) != OK) break;
        ASSERT(s.delta >= data && s.delta + s.delta_size <= data + size);
    }
    for (uint32_t i = 0; i < h.state_count; i++) {
        struct object_state_pointer p, p_again;
        if (object_state_decode(&r, &p) != OK) break;
        out.size = 0;
        object_head_state(&out, &p);
        again = reader_of(out.data, out.size);
        e = object_state_decode(&again, &p_again);
        ASSERT(e == OK && p.stream.v == p_again.stream.v && p.epoch == p_again.epoch && p.size == p_again.size);
        ASSERT(p.crc == p_again.crc && p.refused == p_again.refused && p.entry == p_again.entry);
        ASSERT(p.position == p_again.position);
    }
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct mem m;
    mem_init_heap(&m);
    uint32_t count = data[0] & 127;
    size_t piece_size = size - 1;
    uint8_t *piece = mem_alloc(&m, piece_size + 1);
    memcpy(piece, data + 1, piece_size);
    size_t index_size = object_index_size(count);
    if ((data[0] & 128) && index_size <= piece_size) le32_put(piece + index_size - 8, crc32c(0, piece, index_size - 8));
    struct object_block blocks[128];
    enum err e = object_index_decode(piece, piece_size, count, piece_size, blocks);
    ASSERT(e == OK || e == ERR_TRUNCATED || e == ERR_CORRUPT);
    uint64_t end = index_size;
    for (uint32_t i = 0; e == OK && i < count; i++) {
        ASSERT(blocks[i].position == end && blocks[i].first_offset < blocks[i].end_offset);
        end += blocks[i].size;
        ASSERT(end <= piece_size);
        walk(piece, &blocks[i]);
    }
    try_data_header(&m, data, size);
    try_head(&m, data, size);
    try_key(&m, data, size);
    mem_free(&m, piece);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
