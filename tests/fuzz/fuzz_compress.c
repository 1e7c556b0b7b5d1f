/* Any bytes as what a codec made, and any bytes to be compressed. The first byte: 0-2 codec, 3 with the LZ4 checksum of
 * magic 0, 4 the input is compressed first, and then damaged as the next bytes say, 5 a small limit. Whatever comes in,
 * what comes out stays within the limit, and what does come out survives the way back. */
#include "base/assert.h"
#include "feed.h"
#include "kafka/compress.h"

#define LIMIT ((size_t)1 << 20)
#define LITTLE ((size_t)300)

static enum err pack(enum kafka_codec codec, bool magic0, const void *data, size_t size, struct buf *out) {
    return magic0 ? kafka_compress_magic0(codec, COMPRESS_LEVEL_DEFAULT, data, size, out)
                  : kafka_compress(codec, COMPRESS_LEVEL_DEFAULT, data, size, out);
}

static enum err unpack(enum kafka_codec codec, bool magic0, const void *data, size_t size, size_t limit,
                       struct buf *out) {
    return magic0 ? kafka_decompress_magic0(codec, data, size, limit, out)
                  : kafka_decompress(codec, data, size, limit, out);
}

static void there_and_back(struct mem *m, enum kafka_codec codec, bool magic0, const uint8_t *data, size_t size) {
    struct buf packed, again;
    buf_init(&packed, m);
    buf_init(&again, m);
    enum err e = pack(codec, magic0, data, size, &packed);
    ASSERT(e == OK);
    /* The limit is the last size that still fits. */
    e = unpack(codec, magic0, packed.data, packed.size, size, &again);
    ASSERT(e == OK && again.size == size && (size == 0 || memcmp(again.data, data, size) == 0));
    again.size = 0;
    if (size > 0) {
        e = unpack(codec, magic0, packed.data, packed.size, size - 1, &again);
        ASSERT(e == ERR_TOO_LARGE && again.size == 0);
    }
    buf_deinit(&packed);
    buf_deinit(&again);
}

static void any(struct mem *m, enum kafka_codec codec, bool magic0, const uint8_t *data, size_t size, size_t limit) {
    struct buf out;
    buf_init(&out, m);
    buf_put(&out, "begin", 5);
    enum err e = unpack(codec, magic0, data, size, limit, &out);
    ASSERT(e == OK || e == ERR_CORRUPT || e == ERR_TOO_LARGE);
    ASSERT(out.size - 5 <= limit && memcmp(out.data, "begin", 5) == 0);
    ASSERT(e == OK || out.size == 5);
    /* What is held follows what was made, not what was claimed: at most twice, and a step. */
    ASSERT(out.capacity <= 2 * limit + ((size_t)256 << 10));
    if (e == OK) there_and_back(m, codec, magic0, out.data + 5, out.size - 5);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct feed f = feed_of(data, size);
    uint8_t flags = feed_u8(&f);
    enum kafka_codec codec = (enum kafka_codec)((flags & 7) % CODEC_COUNT);
    bool magic0 = flags & 8;
    size_t limit = flags & 32 ? LITTLE : LIMIT;
    if (flags & 16) {
        uint16_t where = feed_u16(&f);
        uint8_t what = feed_u8(&f);
        there_and_back(&m, codec, magic0, f.at, feed_left(&f));
        struct buf packed;
        buf_init(&packed, &m);
        enum err e = pack(codec, magic0, f.at, feed_left(&f), &packed);
        ASSERT(e == OK);
        if (packed.size > 0) packed.data[where % packed.size] ^= what;
        any(&m, codec, magic0, packed.data, packed.size, limit);
        buf_deinit(&packed);
    } else {
        any(&m, codec, magic0, f.at, feed_left(&f), limit);
    }
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
