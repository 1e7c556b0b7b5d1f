/* Any bytes as a piece: u8 block count (bit 7: the index' checksum is made to match), then index and blocks. Blocks
 * that an index gives lie within the piece; their batches are walked as a read does it. The same bytes are tried as the
 * header of a data object and as a key. */
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
        ASSERT(strlen(again) == strlen(key));
    }
    mem_free(m, key);
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
    struct object_id id;
    struct stream_id stream;
    uint64_t n;
    if (object_data_header_decode(data, size, &id, &stream, &n) == OK) ASSERT(id.kind == OBJECT_DATA);
    try_key(&m, data, size);
    mem_free(&m, piece);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
