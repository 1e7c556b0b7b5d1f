/* Any bytes as a record batch. The first byte: 1 magic, length and checksum are made to match first, so that the fuzzer
 * gets behind them; 2 keys are asked for; 4 what lies behind the header are records that are yet to be compressed, by
 * the codec that the attributes name: so the fuzzer gets behind the codecs too. Then all that a broker does with a
 * batch: check, look for a timestamp, patch, walk the headers of its records. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "kafka/batch.h"

#define LIMIT ((size_t)65536)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct mem *m, const struct batch_header *h) {
    struct batch_iterator it;
    if (batch_iterator_init(&it, m, h, LIMIT) != OK) return;
    struct batch_record r;
    unsigned sum = 0;
    while (batch_iterator_next(&it, &r) == OK) {
        size_t position = 0;
        int32_t headers = 0;
        struct batch_record_header header;
        while (batch_header_next(&r, &position, &header)) headers++;
        ASSERT(headers == r.header_count);
        for (int32_t i = 0; i < r.key_size; i++) sum += r.key[i];
        for (int32_t i = 0; i < r.value_size; i++) sum += r.value[i];
    }
    /* The sum makes the reads above real. */
    if (sum == 1) ASSERT(it.header == h);
    batch_iterator_deinit(&it);
}

/* The batch in memory of just its size, so that a read beyond it is seen. */
static uint8_t *batch_make(struct mem *m, uint8_t flags, const uint8_t *data, size_t *size) {
    struct buf b;
    buf_init(&b, m);
    if ((flags & 4) && *size > BATCH_HEADER_SIZE) {
        buf_put(&b, data, BATCH_HEADER_SIZE);
        enum kafka_codec codec = (enum kafka_codec)((be16_get(data + 21) & BATCH_CODEC_MASK) % CODEC_COUNT);
        enum err e =
            kafka_compress(codec, COMPRESS_LEVEL_DEFAULT, data + BATCH_HEADER_SIZE, *size - BATCH_HEADER_SIZE, &b);
        ASSERT(e == OK);
    } else {
        buf_put(&b, data, *size);
    }
    uint8_t *copy = mem_alloc(m, b.size);
    if (b.size > 0) memcpy(copy, b.data, b.size);
    *size = b.size;
    buf_deinit(&b);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct mem m;
    mem_init_heap(&m);
    bool repair = data[0] & 1;
    size--;
    uint8_t *copy = batch_make(&m, data[0], data + 1, &size);
    if (repair && size >= BATCH_HEADER_SIZE) {
        be32_put(copy + 8, (uint32_t)(size - BATCH_LENGTH_OFFSET));
        copy[16] = 2;
        be32_put(copy + 17, crc32c(0, copy + 21, size - 21));
    }
    struct batch_header h;
    enum err e = batch_parse(copy, size, &h);
    if (e == OK) {
        struct batch_check check;
        int64_t offset, found;
        e = batch_validate_records(&h, &m, LIMIT, data[0] & 2 ? BATCH_CHECK_KEYS : 0, &check);
        ASSERT(e == OK || e == ERR_INVALID_RECORD || e == ERR_CORRUPT_MESSAGE || e == ERR_TOO_LARGE);
        if (e == OK)
            ASSERT(batch_find_timestamp(&h, &m, LIMIT, check.max_timestamp, &offset, &found) == OK &&
                   found == check.max_timestamp);
        walk(&m, &h);
        batch_set_position(copy, 1, 2);
        batch_set_attributes(copy, (int16_t)(h.attributes ^ BATCH_LOG_APPEND_TIME), 3);
        ASSERT(batch_parse(copy, size, &h) == OK);
    }
    mem_free(&m, copy);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
