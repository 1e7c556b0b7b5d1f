#include "kafka/compress.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include "base/assert.h"

/* How much room is added to the output at least. */
#define STEP ((size_t)16384)

const char *kafka_codec_name(enum kafka_codec codec) {
    static const char *const names[CODEC_COUNT] = {"none", "gzip", "snappy", "lz4", "zstd"};
    return (unsigned)codec < CODEC_COUNT ? names[codec] : "?";
}

/* ---- Bounded output ---- */

/* What a decoder writes into: the end of a buffer, which grows by doubling what was produced, up to one byte past the
 * limit. That byte tells "exactly the limit" from "more". */
struct output {
    struct buf *buf;
    size_t begin, limit;
};

static size_t produced(const struct output *o) {
    return o->buf->size - o->begin;
}

/* Makes room for n more bytes, which stay within the limit + 1, and for as much again as there is if that fits. */
static void output_reserve(struct output *o, size_t n) {
    struct buf *b = o->buf;
    size_t most = o->begin + o->limit + 1;
    ASSERT(n <= most - b->size);
    if (b->capacity - b->size >= n) return;
    size_t more = produced(o) > STEP ? produced(o) : STEP;
    if (more < n) more = n;
    b->capacity = more < most - b->size ? b->size + more : most;
    b->data = mem_realloc(b->mem, b->data, b->capacity);
}

/* Makes at least one byte of room and returns how much there is; the limit is not passed yet. */
static size_t output_room(struct output *o) {
    output_reserve(o, 1);
    size_t room = o->buf->capacity - o->buf->size, allowed = o->limit + 1 - produced(o);
    return room < allowed ? room : allowed;
}

static uint8_t *output_at(const struct output *o) {
    return o->buf->data + o->buf->size;
}

/* ---- gzip ---- */

static enum err gzip_compress(int32_t level, const uint8_t *data, size_t size, struct buf *out) {
    if (level == COMPRESS_LEVEL_DEFAULT) level = Z_DEFAULT_COMPRESSION;
    if (level < -1 || level > 9 || size > UINT32_MAX / 2) return ERR_INVALID;
    z_stream z = {0};
    if (deflateInit2(&z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return ERR_NO_MEMORY;
    buf_reserve(out, deflateBound(&z, size));
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    z.next_out = out->data + out->size;
    z.avail_out = (uInt)(out->capacity - out->size);
    int result = deflate(&z, Z_FINISH);
    ASSERT(result == Z_STREAM_END);
    out->size += z.total_out;
    (void)deflateEnd(&z);
    return OK;
}

/* Several members behind each other are one stream, as in Java and in RFC 1952. */
static enum err gzip_decompress(const uint8_t *data, size_t size, struct output *o) {
    z_stream z = {0};
    if (inflateInit2(&z, 15 + 16) != Z_OK) return ERR_NO_MEMORY;
    enum err e = OK;
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)size;
    bool ended = false;
    while (!ended) {
        size_t room = output_room(o);
        if (room > (1u << 30)) room = 1u << 30;
        z.next_out = output_at(o);
        z.avail_out = (uInt)room;
        int result = inflate(&z, Z_NO_FLUSH);
        o->buf->size += room - z.avail_out;
        if (produced(o) > o->limit) {
            e = ERR_TOO_LARGE;
            break;
        }
        if (result == Z_STREAM_END) {
            ended = z.avail_in == 0;
            if (!ended && inflateReset(&z) != Z_OK) result = Z_DATA_ERROR;
        } else if (result == Z_MEM_ERROR) {
            e = ERR_NO_MEMORY;
            break;
        }
        /* Z_BUF_ERROR with room left: the input ends too early. */
        if (result != Z_OK && result != Z_STREAM_END) {
            e = ERR_CORRUPT;
            break;
        }
    }
    (void)inflateEnd(&z);
    return e;
}

/* ---- snappy ---- */

/* The framing of snappy-java ("xerial"): magic, version, oldest compatible version, then blocks of int32 size and raw
 * snappy. */
static const uint8_t xerial_magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
#define XERIAL_HEADER 16
#define XERIAL_BLOCK ((size_t)32768)

static enum err snappy_write(const uint8_t *data, size_t size, struct buf *out) {
    uint8_t *header = buf_extend(out, XERIAL_HEADER);
    memcpy(header, xerial_magic, sizeof(xerial_magic));
    be32_put(header + 8, 1);
    be32_put(header + 12, 1);
    while (size > 0) {
        size_t part = size < XERIAL_BLOCK ? size : XERIAL_BLOCK;
        size_t length = snappy_max_compressed_length(part);
        buf_reserve(out, 4 + length);
        uint8_t *block = out->data + out->size;
        if (snappy_compress((const char *)data, part, (char *)block + 4, &length) != SNAPPY_OK) return ERR_INVALID;
        be32_put(block, (uint32_t)length);
        out->size += 4 + length;
        data += part;
        size -= part;
    }
    return OK;
}

/* A snappy copy turns 3 bytes into at most 64: a larger claim is a lie, and is not allocated. */
static enum err snappy_block(const uint8_t *data, size_t size, struct output *o) {
    size_t length;
    if (snappy_uncompressed_length((const char *)data, size, &length) != SNAPPY_OK) return ERR_CORRUPT;
    if (length / 22 > size) return ERR_CORRUPT;
    if (length > o->limit - produced(o)) return ERR_TOO_LARGE;
    output_reserve(o, length);
    size_t room = length;
    if (length > 0 && snappy_uncompress((const char *)data, size, (char *)output_at(o), &room) != SNAPPY_OK)
        return ERR_CORRUPT;
    if (length == 0 && snappy_validate_compressed_buffer((const char *)data, size) != SNAPPY_OK) return ERR_CORRUPT;
    o->buf->size += room;
    return OK;
}

static enum err snappy_read(const uint8_t *data, size_t size, struct output *o) {
    if (size < XERIAL_HEADER || memcmp(data, xerial_magic, sizeof(xerial_magic)) != 0)
        return snappy_block(data, size, o);
    const uint8_t *end = data + size;
    for (data += XERIAL_HEADER; data < end;) {
        if (end - data < 4) return ERR_CORRUPT;
        size_t length = be32_get(data);
        data += 4;
        if (length > (size_t)(end - data)) return ERR_CORRUPT;
        enum err e = snappy_block(data, length, o);
        if (e != OK) return e;
        data += length;
    }
    return OK;
}

/* ---- LZ4 ---- */

static enum err lz4_compress(int32_t level, const uint8_t *data, size_t size, struct buf *out) {
    /* Kafka's range is 1 to 17 (its library's); the frame format is the same at every level, and liblz4 ends at 12. */
    if (level == COMPRESS_LEVEL_DEFAULT) level = 0;
    if (level < 0 || level > 17) return ERR_INVALID;
    LZ4F_preferences_t p = {
        .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
        .compressionLevel = level > 12 ? 12 : level,
    };
    size_t bound = LZ4F_compressFrameBound(size, &p);
    buf_reserve(out, bound);
    size_t n = LZ4F_compressFrame(out->data + out->size, bound, data, size, &p);
    if (LZ4F_isError(n)) return ERR_NO_MEMORY;
    out->size += n;
    return OK;
}

/* Of the frame format: magic number, flags, block size, perhaps content size and dictionary id, checksum. */
#define LZ4_FLAGS_AT 4
#define LZ4_HEADER_MAX ((size_t)19)

/* The size of the frame's header, or 0 if data does not hold one. */
static size_t lz4_header_size(const uint8_t *data, size_t size) {
    if (size < 7) return 0;
    uint8_t flags = data[LZ4_FLAGS_AT];
    size_t n = (size_t)7 + (flags & 0x08 ? 8 : 0) + (flags & 0x01 ? 4 : 0);
    return n <= size ? n : 0;
}

static uint32_t rotate(uint32_t v, unsigned bits) {
    return v << bits | v >> (32 - bits);
}

/* XXH32 with seed 0 of at most 31 bytes: frame descriptors are checksummed with it, and the library that knows it does
 * not let it out. */
static uint32_t xxh32_short(const uint8_t *data, size_t size) {
    const uint32_t p1 = 2654435761u, p2 = 2246822519u, p3 = 3266489917u, p4 = 668265263u, p5 = 374761393u;
    ASSERT(size < 32);
    uint32_t h = p5;
    size_t at = 0;
    if (size >= 16) {
        uint32_t lanes[4] = {p1 + p2, p2, 0, 0 - p1};
        for (int i = 0; i < 4; i++, at += 4) lanes[i] = rotate(lanes[i] + le32_get(data + at) * p2, 13) * p1;
        h = rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) + rotate(lanes[3], 18);
    }
    h += (uint32_t)size;
    for (; size - at >= 4; at += 4) h = rotate(h + le32_get(data + at) * p3, 17) * p4;
    for (; at < size; at++) h = rotate(h + data[at] * p5, 11) * p1;
    h = (h ^ h >> 15) * p2;
    h = (h ^ h >> 13) * p3;
    return h ^ h >> 16;
}

/* Sets the checksum of a frame's descriptor, the right one or that of magic 0. */
static void lz4_set_checksum(uint8_t *header, size_t header_size, bool magic0) {
    size_t from = magic0 ? 0 : LZ4_FLAGS_AT;
    header[header_size - 1] = (uint8_t)(xxh32_short(header + from, header_size - 1 - from) >> 8);
}

/* any_checksum: whatever the descriptor's checksum is, it is taken for right. */
static enum err lz4_decompress(const uint8_t *data, size_t size, bool any_checksum, struct output *o) {
    uint8_t header[LZ4_HEADER_MAX];
    size_t header_size = any_checksum ? lz4_header_size(data, size) : 0;
    if (header_size > 0) {
        memcpy(header, data, header_size);
        lz4_set_checksum(header, header_size, false);
    }
    LZ4F_dctx *d = NULL;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&d, LZ4F_VERSION))) return ERR_NO_MEMORY;
    enum err e = OK;
    size_t at = 0;
    for (;;) {
        size_t room = output_room(o), taken = at < header_size ? header_size - at : size - at;
        size_t made = room;
        const uint8_t *from = at < header_size ? header + at : data + at;
        size_t hint = LZ4F_decompress(d, output_at(o), &made, from, &taken, NULL);
        if (LZ4F_isError(hint)) {
            e = ERR_CORRUPT;
            break;
        }
        o->buf->size += made;
        at += taken;
        if (produced(o) > o->limit) {
            e = ERR_TOO_LARGE;
            break;
        }
        if (hint == 0) {
            if (at != size) e = ERR_CORRUPT;
            break;
        }
        /* Neither input taken nor output made although there was room: the frame ends too early. */
        if (made == 0 && taken == 0) {
            e = ERR_CORRUPT;
            break;
        }
    }
    (void)LZ4F_freeDecompressionContext(d);
    return e;
}

/* ---- zstd ---- */

static enum err zstd_write(int32_t level, const uint8_t *data, size_t size, struct buf *out) {
    if (level == COMPRESS_LEVEL_DEFAULT) level = ZSTD_CLEVEL_DEFAULT;
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel()) return ERR_INVALID;
    size_t bound = ZSTD_compressBound(size);
    buf_reserve(out, bound);
    size_t n = ZSTD_compress(out->data + out->size, bound, data, size, level);
    if (ZSTD_isError(n)) return ERR_NO_MEMORY;
    out->size += n;
    return OK;
}

/* Frames may follow each other; the stream must end where one ends. */
static enum err zstd_read(const uint8_t *data, size_t size, struct output *o) {
    ZSTD_DStream *d = ZSTD_createDStream();
    if (!d) return ERR_NO_MEMORY;
    enum err e = OK;
    ZSTD_inBuffer in = {data, size, 0};
    size_t hint = 1;
    while (in.pos < in.size || hint != 0) {
        ZSTD_outBuffer part = {NULL, output_room(o), 0};
        part.dst = output_at(o);
        size_t before = in.pos;
        hint = ZSTD_decompressStream(d, &part, &in);
        if (ZSTD_isError(hint)) {
            e = ERR_CORRUPT;
            break;
        }
        o->buf->size += part.pos;
        if (produced(o) > o->limit) {
            e = ERR_TOO_LARGE;
            break;
        }
        if (hint != 0 && part.pos == 0 && in.pos == before) {
            e = ERR_CORRUPT;
            break;
        }
    }
    (void)ZSTD_freeDStream(d);
    return e;
}

/* ---- Dispatch ---- */

enum err kafka_compress(enum kafka_codec codec, int32_t level, const void *data, size_t size, struct buf *out) {
    switch (codec) {
    case CODEC_NONE:
        buf_put(out, data, size);
        return OK;
    case CODEC_GZIP:
        return gzip_compress(level, data, size, out);
    case CODEC_SNAPPY:
        return snappy_write(data, size, out);
    case CODEC_LZ4:
        return lz4_compress(level, data, size, out);
    case CODEC_ZSTD:
        return zstd_write(level, data, size, out);
    case CODEC_COUNT:
        break;
    }
    return ERR_UNSUPPORTED;
}

enum err kafka_compress_magic0(enum kafka_codec codec, int32_t level, const void *data, size_t size, struct buf *out) {
    size_t before = out->size;
    enum err e = kafka_compress(codec, level, data, size, out);
    if (e == OK && codec == CODEC_LZ4) {
        size_t header_size = lz4_header_size(out->data + before, out->size - before);
        ASSERT(header_size > 0);
        lz4_set_checksum(out->data + before, header_size, true);
    }
    return e;
}

static enum err decompress(enum kafka_codec codec, bool magic0, const void *data, size_t size, size_t limit,
                           struct buf *out) {
    if (size > INT32_MAX) return ERR_TOO_LARGE;
    if (limit > SIZE_MAX / 4) limit = SIZE_MAX / 4;
    struct output o = {out, out->size, limit};
    enum err e = ERR_UNSUPPORTED;
    switch (codec) {
    case CODEC_NONE:
        e = size > limit ? ERR_TOO_LARGE : OK;
        if (e == OK) buf_put(out, data, size);
        break;
    case CODEC_GZIP:
        e = gzip_decompress(data, size, &o);
        break;
    case CODEC_SNAPPY:
        e = snappy_read(data, size, &o);
        break;
    case CODEC_LZ4:
        e = lz4_decompress(data, size, magic0, &o);
        break;
    case CODEC_ZSTD:
        e = zstd_read(data, size, &o);
        break;
    case CODEC_COUNT:
        break;
    }
    if (e != OK) out->size = o.begin;
    return e;
}

enum err kafka_decompress(enum kafka_codec codec, const void *data, size_t size, size_t limit, struct buf *out) {
    return decompress(codec, false, data, size, limit, out);
}

enum err kafka_decompress_magic0(enum kafka_codec codec, const void *data, size_t size, size_t limit, struct buf *out) {
    return decompress(codec, true, data, size, limit, out);
}
