/* Records of the input, in a batch of each codec, to the message sets of old readers and back. The first byte: 0-2
 * codec, 3 magic of the set, 4 log append time, 5 a small limit, 6-7 what a limit does to the first message. Then
 * records: a byte of flags (1 key, 2 value, 4 a header, 8 the batch ends), timestamp, key, value.
 * A set holds within its limit; what is in it comes back with the same keys and values, and in magic 1 with the same
 * timestamps, in order. */
#include "base/assert.h"
#include "feed.h"
#include "kafka/message_set.h"

#define LIMIT ((size_t)4 << 20)

struct made {
    struct buf batches;
    size_t count; /* records in all */
    size_t batch_count;
};

static void make(struct mem *m, struct feed *f, uint8_t flags, struct made *out) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = (enum kafka_codec)((flags & 7) % CODEC_COUNT);
    o.attributes = flags & 0x10 ? BATCH_LOG_APPEND_TIME : 0;
    *out = (struct made){0};
    buf_init(&out->batches, m);
    struct batch_builder b;
    batch_builder_init(&b, m, &o);
    for (unsigned i = 0; i < 64 && feed_left(f) > 0; i++) {
        uint8_t what = feed_u8(f);
        size_t key_size, value_size;
        int64_t timestamp = (int64_t)feed_u64(f) >> (what >> 4);
        const uint8_t *key = feed_bytes(f, what & 1 ? feed_u8(f) : 0, &key_size);
        const uint8_t *value = feed_bytes(f, what & 2 ? feed_u16(f) : 0, &value_size);
        struct batch_record_header header = {.key = "h", .key_size = 1, .value = NULL, .value_size = -1};
        batch_builder_add(&b, timestamp, what & 1 ? key : NULL, key_size, what & 2 ? value : NULL, value_size, &header,
                          what & 4 ? 1 : 0);
        out->count++;
        if ((what & 8) || feed_left(f) == 0) {
            enum err e = batch_builder_finish(&b, &out->batches);
            ASSERT(e == OK);
            out->batch_count++;
        }
    }
    if (b.count > 0) {
        enum err e = batch_builder_finish(&b, &out->batches);
        ASSERT(e == OK);
        out->batch_count++;
    }
    batch_builder_deinit(&b);
}

static bool same_bytes(const uint8_t *a, int32_t a_size, const uint8_t *b, int32_t b_size) {
    return a_size == b_size && (a_size <= 0 || memcmp(a, b, (size_t)a_size) == 0);
}

/* The records of `set` are those of the one batch in `from`. */
static void come_back(struct mem *m, const struct buf *from, const struct buf *set, int8_t magic, uint8_t flags) {
    struct message_set parsed;
    const char *why;
    enum err e = message_set_parse(set->data, set->size, LIMIT, &parsed, &why);
    if (flags & 0x10 && magic == 1) { /* a producer may not say so */
        ASSERT(e == ERR_INVALID_TIMESTAMP);
        return;
    }
    ASSERT(e == OK && parsed.size == set->size && parsed.magic == magic);
    struct message_set_up how = {.codec = (enum kafka_codec)((flags & 7) % CODEC_COUNT),
                                 .level = COMPRESS_LEVEL_DEFAULT,
                                 .unpack_limit = LIMIT,
                                 .batch_max = 2 * LIMIT};
    struct batch_check check;
    struct buf up;
    buf_init(&up, m);
    e = message_set_up_convert(&parsed, m, &how, &up, &check, &why);
    ASSERT(e == OK);
    struct batch_header one, two;
    struct batch_iterator i, j;
    e = batch_parse(from->data, from->size, &one);
    ASSERT(e == OK && one.size == from->size);
    e = batch_parse(up.data, up.size, &two);
    ASSERT(e == OK && two.record_count == one.record_count);
    e = batch_iterator_init(&i, m, &one, LIMIT);
    ASSERT(e == OK);
    e = batch_iterator_init(&j, m, &two, LIMIT);
    ASSERT(e == OK);
    struct batch_record a, b;
    int64_t largest = INT64_MIN;
    while ((e = batch_iterator_next(&i, &a)) == OK) {
        e = batch_iterator_next(&j, &b);
        ASSERT(e == OK && same_bytes(a.key, a.key_size, b.key, b.key_size));
        ASSERT(same_bytes(a.value, a.value_size, b.value, b.value_size));
        ASSERT(b.timestamp == (magic == 1 ? a.timestamp : BATCH_NO_TIMESTAMP));
        if (a.timestamp > largest) largest = a.timestamp;
    }
    /* A wrapper carries the largest timestamp of what is in it, and the last offset. */
    if (parsed.codec != CODEC_NONE && parsed.count == 1) {
        ASSERT(magic == 0 || (int64_t)be64_get(set->data + 18) == largest);
        ASSERT((int64_t)be64_get(set->data) == one.record_count - 1);
    }
    ASSERT(e == ERR_NOT_FOUND && batch_iterator_next(&j, &b) == ERR_NOT_FOUND);
    batch_iterator_deinit(&i);
    batch_iterator_deinit(&j);
    buf_deinit(&up);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct feed f = feed_of(data, size);
    uint8_t flags = feed_u8(&f);
    struct made made;
    struct message_set_down how = {.magic = flags & 8 ? 1 : 0,
                                   .max_bytes = flags & 0x20 ? feed_u16(&f) : LIMIT,
                                   .from_offset = flags & 0x20 ? feed_u8(&f) : 0,
                                   .whole_first = flags & 0x40,
                                   .cut_first = flags & 0x80,
                                   .unpack_limit = LIMIT};
    make(&m, &f, flags, &made);
    struct buf set;
    buf_init(&set, &m);
    bool full = false, zstd = (flags & 7) % CODEC_COUNT == CODEC_ZSTD;
    enum err e = message_set_down_convert(made.batches.data, made.batches.size, &m, &how, &set, &full);
    ASSERT(e == (zstd && made.count > 0 ? ERR_UNSUPPORTED_COMPRESSION : OK));
    /* A first message that is larger may pass the limit, if it may. */
    if (!how.whole_first) ASSERT(set.size <= how.max_bytes);
    if (how.max_bytes == LIMIT) ASSERT(zstd || !full);
    if (e == OK && !full && how.from_offset == 0 && made.batch_count == 1)
        come_back(&m, &made.batches, &set, how.magic, flags);
    buf_deinit(&set);
    buf_deinit(&made.batches);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
