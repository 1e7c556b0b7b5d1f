/* Any bytes as a message set of an old client. The first byte says whether size and checksum of the first message are made
 * to match first, and into which codec it goes; then the batch that comes out is checked like a client's, and becomes a
 * set again in both magics. */
#include <zlib.h>

#include "base/assert.h"
#include "kafka/message_set.h"

#define LIMIT ((size_t)65536)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void go_down(struct mem *m, const struct buf *batch, int flags) {
    for (int8_t magic = 0; magic < 2; magic++) {
        struct message_set_down how = {.magic = magic,
                                       .from_offset = flags & 0x20 ? 3 : 0,
                                       .max_bytes = flags & 0x40 ? 100 : LIMIT * 64,
                                       .cut_first = true,
                                       .unpack_limit = LIMIT * 4};
        struct buf out;
        buf_init(&out, m);
        bool full;
        enum err e = message_set_down_convert(batch->data, batch->size, m, &how, &out, &full);
        ASSERT(e == OK || e == ERR_UNSUPPORTED_COMPRESSION);
        ASSERT(out.size <= how.max_bytes);
        struct message_set set;
        const char *why;
        if (e == OK && !full) {
            ASSERT(message_set_parse(out.data, out.size, LIMIT * 64, &set, &why) == OK || set.count > 0);
        }
        buf_deinit(&out);
    }
}

/* What was taken for sound is: whole messages of one magic, each with its checksum. */
static void sound(const struct message_set *set) {
    int32_t count = 0;
    for (size_t at = 0; at < set->size; count++) {
        const uint8_t *m = set->data + at;
        size_t size = (size_t)12 + be32_get(m + 8);
        ASSERT(size <= set->size - at && m[16] == set->magic);
        ASSERT(be32_get(m + 12) == crc32(0, m + 16, (uInt)(size - 16)));
        at += size;
    }
    ASSERT(count == set->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct mem m;
    mem_init_heap(&m);
    int flags = data[0];
    size--;
    uint8_t *copy = mem_alloc(&m, size);
    memcpy(copy, data + 1, size);
    if ((flags & 1) && size >= 26) {
        be32_put(copy + 8, (uint32_t)size - 12);
        copy[16] &= 1;
        be32_put(copy + 12, (uint32_t)crc32(0, copy + 16, (uInt)(size - 16)));
    }
    struct message_set set;
    const char *why;
    enum err e = message_set_parse(copy, size, LIMIT, &set, &why);
    ASSERT((e == OK) == (why == NULL) && set.size <= size);
    if (e == OK && set.count > 0 && set.magic < 2) {
        sound(&set);
        struct message_set_up how = {.codec = (enum kafka_codec)((flags >> 1) % CODEC_COUNT),
                                     .level = COMPRESS_LEVEL_DEFAULT,
                                     .unpack_limit = LIMIT,
                                     .batch_max = LIMIT * 4,
                                     .need_keys = (flags & 0x10) != 0};
        struct batch_check check, again;
        struct buf out;
        buf_init(&out, &m);
        e = message_set_up_convert(&set, &m, &how, &out, &check, &why);
        ASSERT(e == OK || e == ERR_CORRUPT_MESSAGE || e == ERR_INVALID_RECORD || e == ERR_TOO_LARGE ||
               e == ERR_MESSAGE_TOO_LARGE);
        if (e == OK) {
            struct batch_header h;
            ASSERT(batch_parse(out.data, out.size, &h) == OK && h.size == out.size && h.base_offset == 0);
            ASSERT(batch_validate_records(&h, &m, LIMIT * 4, BATCH_CHECK_MAX_TIMESTAMP, &again) == OK);
            ASSERT(again.max_timestamp == check.max_timestamp && again.min_timestamp == check.min_timestamp);
            go_down(&m, &out, flags);
        }
        buf_deinit(&out);
    }
    mem_free(&m, copy);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
