/* The old formats: sets that other programs made become batches and sets again; what is wrong with a set is told; limits
 * hold. What goes out is read here by a reader of the test's own. */
#include "message_test.h"

#include <zlib.h>

#include "base/assert.h"
#include "kafka/message_set.h"

#define RECORDS 20
#define FIRST_TIMESTAMP 1700000000000ll
#define LIMIT ((size_t)1 << 20)

static struct mem heap;

/* ---- The records of tests/golden/kafka/message_sets.txt ---- */

static int64_t timestamp_of(int i) {
    return FIRST_TIMESTAMP + i * 7 % 20;
}

static int32_t key_of(int i, char *out) {
    return i % 5 == 0 ? -1 : sprintf(out, "key-%d", i);
}

static int32_t value_of(int i, char *out) {
    if (i == 3) return -1;
    int n = sprintf(out, "value-%d-", i);
    memset(out + n, 'v', 50);
    return n + 50;
}

static void check_bytes(const uint8_t *data, int32_t size, const char *expected, int32_t expected_size) {
    assert_int_equal(size, expected_size);
    if (size < 0) assert_null(data);
    if (size > 0) assert_memory_equal(data, expected, (size_t)size);
}

/* The batch holds exactly the golden records, at offsets from `base` on. */
static void check_batch(const struct buf *b, int magic, enum kafka_codec codec, int64_t base) {
    struct batch_header h;
    assert_int_equal(batch_parse(b->data, b->size, &h), OK);
    assert_int_equal(h.size, b->size);
    assert_int_equal(h.base_offset, base);
    assert_int_equal(batch_codec(&h), codec);
    assert_int_equal(h.attributes & ~BATCH_CODEC_MASK, 0);
    assert_int_equal(h.producer_id, -1);
    assert_int_equal(h.base_sequence, -1);
    assert_int_equal(h.max_timestamp, magic == 0 ? -1 : FIRST_TIMESTAMP + 19);
    struct batch_check check;
    assert_int_equal(batch_validate_records(&h, &heap, LIMIT, BATCH_CHECK_MAX_TIMESTAMP, &check), OK);
    struct batch_iterator it;
    assert_int_equal(batch_iterator_init(&it, &heap, &h, LIMIT), OK);
    struct batch_record r;
    int i = 0;
    for (; batch_iterator_next(&it, &r) == OK; i++) {
        char text[128];
        assert_int_equal(r.offset, base + i);
        assert_int_equal(r.timestamp, magic == 0 ? -1 : timestamp_of(i));
        int32_t n = key_of(i, text);
        check_bytes(r.key, r.key_size, text, n);
        n = value_of(i, text);
        check_bytes(r.value, r.value_size, text, n);
        assert_int_equal(r.header_count, 0);
    }
    assert_int_equal(i, RECORDS);
    batch_iterator_deinit(&it);
}

static enum kafka_codec codec_named(const char *name) {
    for (int c = 0; c < CODEC_COUNT; c++) {
        if (strcmp(kafka_codec_name((enum kafka_codec)c), name) == 0) return (enum kafka_codec)c;
    }
    fail_msg("codec %s", name);
    return CODEC_NONE;
}

static void each_golden(void (*check)(const uint8_t *data, size_t size, int magic, enum kafka_codec codec)) {
    FILE *f = golden_open("kafka/message_sets.txt");
    char *line = NULL, maker[32], codec[32];
    size_t capacity = 0;
    int magic, at, cases = 0;
    while (getline(&line, &capacity, f) > 0) {
        if (line[0] == '#') continue;
        assert_int_equal(sscanf(line, "%31s %d %31s %n", maker, &magic, codec, &at), 3);
        size_t size;
        uint8_t *data = golden_bytes(line + at, &size);
        check(data, size, magic, codec_named(codec));
        free(data);
        cases++;
    }
    assert_int_equal(cases, 16);
    free(line);
    fclose(f);
    assert_int_equal(heap.allocated_bytes, 0);
}

/* ---- Going up ---- */

static struct message_set_up up_options(enum kafka_codec codec) {
    return (struct message_set_up){
        .codec = codec, .level = COMPRESS_LEVEL_DEFAULT, .unpack_limit = LIMIT, .batch_max = LIMIT};
}

static enum err go_up(const uint8_t *data, size_t size, const struct message_set_up *how, struct buf *out,
                      struct batch_check *check) {
    struct message_set set;
    const char *why;
    enum err e = message_set_parse(data, size, LIMIT, &set, &why);
    if (e == OK) {
        assert_true(set.count > 0 && set.magic < 2);
        e = message_set_up_convert(&set, &heap, how, out, check, &why);
    }
    if (e != OK) assert_non_null(why);
    return e;
}

static void golden_up(const uint8_t *data, size_t size, int magic, enum kafka_codec codec) {
    struct message_set set;
    const char *why;
    assert_int_equal(message_set_parse(data, size, LIMIT, &set, &why), OK);
    assert_int_equal(set.magic, magic);
    assert_int_equal(set.codec, codec);
    assert_int_equal(set.count, codec == CODEC_NONE ? RECORDS : 1);
    assert_int_equal(set.size, size);
    for (int to = 0; to < CODEC_COUNT; to++) {
        struct buf out;
        buf_init(&out, &heap);
        struct batch_check check;
        struct message_set_up how = up_options((enum kafka_codec)to);
        assert_int_equal(go_up(data, size, &how, &out, &check), OK);
        check_batch(&out, magic, (enum kafka_codec)to, 0);
        assert_int_equal(check.max_timestamp, magic == 0 ? -1 : FIRST_TIMESTAMP + 19);
        assert_int_equal(check.min_timestamp, magic == 0 ? -1 : FIRST_TIMESTAMP);
        assert_int_equal(check.max_timestamp_delta, magic == 0 ? 0 : 17);
        buf_deinit(&out);
    }
}

static void test_sets_of_others_become_batches(void **state) {
    (void)state;
    each_golden(golden_up);
}

/* ---- A reader and a writer of the test's own ---- */

struct seen {
    int64_t offset, timestamp;
    int magic, attributes;
    const uint8_t *key, *value;
    int32_t key_size, value_size;
    size_t size;
};

/* The message at data; size 0 when there is no whole one. */
static struct seen read_one(const uint8_t *data, size_t size) {
    struct seen s = {.timestamp = -1};
    if (size < 12 || size - 12 < be32_get(data + 8)) return s;
    size_t whole = 12 + be32_get(data + 8), at = 18;
    s.offset = (int64_t)be64_get(data);
    assert_int_equal(be32_get(data + 12), crc32(0, data + 16, (uInt)(whole - 16)));
    s.magic = data[16];
    s.attributes = data[17];
    if (s.magic == 1) {
        s.timestamp = (int64_t)be64_get(data + at);
        at += 8;
    }
    s.key_size = (int32_t)be32_get(data + at);
    at += 4;
    s.key = s.key_size < 0 ? NULL : data + at;
    at += s.key_size > 0 ? (size_t)s.key_size : 0;
    s.value_size = (int32_t)be32_get(data + at);
    at += 4;
    s.value = s.value_size < 0 ? NULL : data + at;
    at += s.value_size > 0 ? (size_t)s.value_size : 0;
    assert_int_equal(at, whole);
    s.size = whole;
    return s;
}

static void write_one(struct buf *out, int magic, int attributes, int64_t offset, int64_t timestamp, const void *key,
                      int32_t key_size, const void *value, int32_t value_size) {
    size_t begin = out->size;
    uint8_t head[26] = {0};
    buf_put(out, head, magic == 1 ? 26 : 18);
    uint8_t n[4];
    be32_put(n, (uint32_t)key_size);
    buf_put(out, n, 4);
    if (key_size > 0) buf_put(out, key, (size_t)key_size);
    be32_put(n, (uint32_t)value_size);
    buf_put(out, n, 4);
    if (value_size > 0) buf_put(out, value, (size_t)value_size);
    uint8_t *p = out->data + begin;
    be64_put(p, (uint64_t)offset);
    be32_put(p + 8, (uint32_t)(out->size - begin - 12));
    p[16] = (uint8_t)magic;
    p[17] = (uint8_t)attributes;
    if (magic == 1) be64_put(p + 18, (uint64_t)timestamp);
    be32_put(p + 12, (uint32_t)crc32(0, p + 16, (uInt)(out->size - begin - 16)));
}

static void write_wrapper(struct buf *out, int magic, enum kafka_codec codec, const struct buf *inner) {
    struct buf packed;
    buf_init(&packed, &heap);
    assert_int_equal(kafka_compress(codec, COMPRESS_LEVEL_DEFAULT, inner->data, inner->size, &packed), OK);
    write_one(out, magic, codec, 0, 5, NULL, -1, packed.data, (int32_t)packed.size);
    buf_deinit(&packed);
}

/* ---- What is refused ---- */

static void expect(const struct buf *set, enum err expected) {
    uint8_t *copy = exact_copy(set->data, set->size);
    struct buf out;
    buf_init(&out, &heap);
    struct batch_check check;
    struct message_set_up how = up_options(CODEC_NONE);
    enum err e = go_up(copy, set->size, &how, &out, &check);
    if (e != expected) fail_msg("%s instead of %s", err_name(e), err_name(expected));
    if (e != OK) assert_int_equal(out.size, 0);
    buf_deinit(&out);
    free(copy);
}

static void test_what_is_wrong_is_told(void **state) {
    (void)state;
    for (int magic = 0; magic < 2; magic++) {
        struct buf one, set, inner;
        buf_init(&one, &heap);
        buf_init(&set, &heap);
        buf_init(&inner, &heap);
        write_one(&one, magic, 0, 0, 1, "k", 1, "value", 5);
        expect(&one, OK);
        /* A flipped bit anywhere behind the size. */
        for (size_t i = 12; i < one.size; i++) {
            one.data[i] ^= 0x10;
            expect(&one, ERR_CORRUPT_MESSAGE);
            one.data[i] ^= 0x10;
        }
        /* Sizes that cannot be, and lengths that do not fit. */
        static const uint32_t sizes[] = {0, 13, 0x80000000u, 0xffffffffu};
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            uint32_t was = be32_get(one.data + 8);
            be32_put(one.data + 8, sizes[i]);
            expect(&one, ERR_CORRUPT_MESSAGE);
            be32_put(one.data + 8, was);
        }
        /* Two magics in one set. */
        buf_put(&set, one.data, one.size);
        write_one(&set, 1 - magic, 0, 1, 1, NULL, -1, "x", 1);
        expect(&set, ERR_INVALID_RECORD);
        /* A codec nobody knows, and one that is too new. */
        set.size = 0;
        write_one(&set, magic, 5, 0, 1, NULL, -1, "x", 1);
        expect(&set, ERR_CORRUPT_MESSAGE);
        set.size = 0;
        write_one(&set, magic, CODEC_ZSTD, 0, 1, NULL, -1, "x", 1);
        expect(&set, ERR_UNSUPPORTED_COMPRESSION);
        /* A wrapper: good, with another beside it, without a value, of nothing, of rubbish. */
        set.size = 0;
        write_wrapper(&set, magic, CODEC_GZIP, &one);
        expect(&set, OK);
        write_wrapper(&set, magic, CODEC_GZIP, &one);
        expect(&set, ERR_INVALID_RECORD);
        set.size = 0;
        write_one(&set, magic, CODEC_GZIP, 0, 1, NULL, -1, NULL, -1);
        expect(&set, ERR_INVALID_RECORD);
        set.size = 0;
        write_wrapper(&set, magic, CODEC_GZIP, &inner);
        expect(&set, ERR_INVALID_RECORD);
        set.size = 0;
        write_one(&set, magic, CODEC_GZIP, 0, 1, NULL, -1, "rubbish", 7);
        expect(&set, ERR_CORRUPT_MESSAGE);
        /* Inside: a wrapper, another magic, a wrong checksum. */
        write_wrapper(&inner, magic, CODEC_SNAPPY, &one);
        set.size = 0;
        write_wrapper(&set, magic, CODEC_GZIP, &inner);
        expect(&set, ERR_INVALID_RECORD);
        inner.size = set.size = 0;
        write_one(&inner, 1 - magic, 0, 0, 1, NULL, -1, "x", 1);
        write_wrapper(&set, magic, CODEC_GZIP, &inner);
        expect(&set, ERR_INVALID_RECORD);
        inner.size = set.size = 0;
        buf_put(&inner, one.data, one.size);
        inner.data[inner.size - 1] ^= 1;
        write_wrapper(&set, magic, CODEC_GZIP, &inner);
        expect(&set, ERR_CORRUPT_MESSAGE);
        set.size = 0;
        write_one(&set, magic, 0x08, 0, 1, NULL, -1, "x", 1);
        expect(&set, magic == 1 ? ERR_INVALID_TIMESTAMP : OK);
        buf_deinit(&one);
        buf_deinit(&set);
        buf_deinit(&inner);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_a_part_at_the_end_is_passed_over(void **state) {
    (void)state;
    struct buf set;
    buf_init(&set, &heap);
    write_one(&set, 1, 0, 0, 1, NULL, -1, "first", 5);
    size_t first = set.size;
    write_one(&set, 1, 0, 1, 1, NULL, -1, "second", 6);
    for (size_t n = 0; n <= set.size; n++) {
        uint8_t *copy = exact_copy(set.data, n);
        struct message_set parsed;
        const char *why;
        assert_int_equal(message_set_parse(copy, n, LIMIT, &parsed, &why), OK);
        assert_int_equal(parsed.count, n < first ? 0 : n < set.size ? 1 : 2);
        assert_int_equal(parsed.size, n < first ? 0 : n < set.size ? first : n);
        free(copy);
    }
    buf_deinit(&set);
}

static void test_limits_on_the_way_in(void **state) {
    (void)state;
    struct buf inner, set, out;
    buf_init(&inner, &heap);
    buf_init(&set, &heap);
    buf_init(&out, &heap);
    uint8_t zeros[1000] = {0};
    for (int i = 0; i < 500; i++) write_one(&inner, 1, 0, i, 1, NULL, -1, zeros, sizeof(zeros));
    write_wrapper(&set, 1, CODEC_GZIP, &inner);
    assert_true(set.size < 8000);
    struct message_set_up how = up_options(CODEC_NONE);
    struct batch_check check;
    assert_int_equal(go_up(set.data, set.size, &how, &out, &check), OK);
    size_t whole = out.size;
    how.unpack_limit = inner.size - 1;
    out.size = 0;
    assert_int_equal(go_up(set.data, set.size, &how, &out, &check), ERR_TOO_LARGE);
    how.unpack_limit = inner.size;
    how.batch_max = whole - 1;
    assert_int_equal(go_up(set.data, set.size, &how, &out, &check), ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(out.size, 0);
    how.batch_max = whole;
    assert_int_equal(go_up(set.data, set.size, &how, &out, &check), OK);
    how.need_keys = true;
    out.size = 0;
    assert_int_equal(go_up(set.data, set.size, &how, &out, &check), ERR_INVALID_RECORD);
    assert_int_equal(check.bad_record, 0);
    struct message_set parsed;
    const char *why;
    assert_int_equal(message_set_parse(set.data, set.size, set.size - 1, &parsed, &why), ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(message_set_parse(set.data, set.size, set.size, &parsed, &why), OK);
    buf_deinit(&inner);
    buf_deinit(&set);
    buf_deinit(&out);
    assert_int_equal(heap.allocated_bytes, 0);
}

/* ---- Going down ---- */

static struct message_set_down down_options(int magic) {
    return (struct message_set_down){.magic = (int8_t)magic, .max_bytes = LIMIT, .unpack_limit = LIMIT};
}

static enum err go_down(const struct buf *batches, const struct message_set_down *how, struct buf *out, bool *full) {
    uint8_t *copy = exact_copy(batches->data, batches->size);
    enum err e = message_set_down_convert(copy, batches->size, &heap, how, out, full);
    free(copy);
    return e;
}

/* Up, with the offsets of a log, down in either magic, read by hand, and up again: the same records. */
static void golden_down(const uint8_t *data, size_t size, int magic, enum kafka_codec codec) {
    struct buf batch, set, again;
    buf_init(&batch, &heap);
    buf_init(&set, &heap);
    buf_init(&again, &heap);
    struct batch_check check;
    struct message_set_up how = up_options(codec);
    assert_int_equal(go_up(data, size, &how, &batch, &check), OK);
    batch_set_position(batch.data, 1000, 3);
    for (int to = 0; to < 2; to++) {
        struct message_set_down down = down_options(to);
        bool full;
        set.size = again.size = 0;
        assert_int_equal(go_down(&batch, &down, &set, &full), OK);
        assert_false(full);
        struct seen s = read_one(set.data, set.size);
        assert_int_equal(s.magic, to);
        assert_int_equal(s.attributes, codec);
        if (codec == CODEC_NONE) {
            assert_int_equal(s.offset, 1000);
        } else {
            assert_int_equal(s.size, set.size);
            assert_int_equal(s.offset, 1000 + RECORDS - 1);
            assert_int_equal(s.key_size, -1);
            assert_int_equal(s.timestamp, to == 0 || magic == 0 ? -1 : FIRST_TIMESTAMP + 19);
            struct buf inner;
            buf_init(&inner, &heap);
            assert_int_equal((to == 0 ? kafka_decompress_magic0
                                      : kafka_decompress)(codec, s.value, (size_t)s.value_size, LIMIT, &inner),
                             OK);
            size_t at = 0;
            for (int i = 0; i < RECORDS; i++) {
                struct seen m = read_one(inner.data + at, inner.size - at);
                assert_true(m.size > 0);
                assert_int_equal(m.offset, to == 0 ? 1000 + i : i);
                assert_int_equal(m.attributes, 0);
                at += m.size;
            }
            assert_int_equal(at, inner.size);
            buf_deinit(&inner);
        }
        assert_int_equal(go_up(set.data, set.size, &how, &again, &check), OK);
        check_batch(&again, to == 0 ? 0 : magic, codec, 0);
    }
    buf_deinit(&batch);
    buf_deinit(&set);
    buf_deinit(&again);
}

static void test_batches_become_sets(void **state) {
    (void)state;
    each_golden(golden_down);
}

/* A batch of `count` records, record i with value "v<i>" and `size` letters behind it. */
static void make_batch(struct buf *out, enum kafka_codec codec, int16_t attributes, int64_t base, int count,
                       size_t size) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = base;
    o.codec = codec;
    o.attributes = attributes;
    struct batch_builder b;
    batch_builder_init(&b, &heap, &o);
    struct rng r;
    rng_seed(&r, (uint64_t)base);
    char *value = malloc(size + 32);
    for (int i = 0; i < count; i++) {
        size_t n = (size_t)sprintf(value, "v%d", i);
        rng_fill(&r, value + n, size);
        struct batch_record_header h = {"header", 6, (const uint8_t *)"x", 1};
        batch_builder_add(&b, FIRST_TIMESTAMP + i, NULL, 0, value, n + size, &h, 1);
    }
    free(value);
    assert_int_equal(batch_builder_finish(&b, out), OK);
    batch_builder_deinit(&b);
}

static void test_log_append_time_is_carried(void **state) {
    (void)state;
    for (int c = 0; c < CODEC_ZSTD; c++) {
        struct buf batch, set;
        buf_init(&batch, &heap);
        buf_init(&set, &heap);
        make_batch(&batch, (enum kafka_codec)c, 0, 5, 3, 10);
        struct batch_header h;
        assert_int_equal(batch_parse(batch.data, batch.size, &h), OK);
        batch_set_attributes(batch.data, (int16_t)(h.attributes | BATCH_LOG_APPEND_TIME), 4711);
        for (int magic = 0; magic < 2; magic++) {
            set.size = 0;
            struct message_set_down how = down_options(magic);
            bool full;
            assert_int_equal(go_down(&batch, &how, &set, &full), OK);
            struct seen s = read_one(set.data, set.size);
            assert_int_equal(s.attributes, c | (magic == 1 ? 8 : 0));
            assert_int_equal(s.timestamp, magic == 1 ? 4711 : -1);
        }
        buf_deinit(&batch);
        buf_deinit(&set);
    }
}

static void test_what_old_readers_do_not_know_is_left_out(void **state) {
    (void)state;
    struct buf batches, set;
    buf_init(&batches, &heap);
    buf_init(&set, &heap);
    make_batch(&batches, CODEC_NONE, BATCH_CONTROL | BATCH_TRANSACTIONAL, 0, 1, 0);
    make_batch(&batches, CODEC_NONE, BATCH_TRANSACTIONAL, 1, 2, 0);
    make_batch(&batches, CODEC_ZSTD, 0, 3, 2, 0);
    make_batch(&batches, CODEC_NONE, 0, 5, 2, 0);
    struct message_set_down how = down_options(1);
    bool full;
    assert_int_equal(go_down(&batches, &how, &set, &full), OK);
    assert_true(full);
    struct seen first = read_one(set.data, set.size), second = read_one(set.data + first.size, set.size - first.size);
    assert_int_equal(first.offset, 1);
    assert_int_equal(second.offset, 2);
    assert_int_equal(first.size + second.size, set.size);
    batches.size = set.size = 0;
    make_batch(&batches, CODEC_ZSTD, 0, 3, 2, 0);
    assert_int_equal(go_down(&batches, &how, &set, &full), ERR_UNSUPPORTED_COMPRESSION);
    assert_int_equal(set.size, 0);
    buf_deinit(&batches);
    buf_deinit(&set);
}

static void test_limits_on_the_way_out(void **state) {
    (void)state;
    struct buf batches, set;
    buf_init(&batches, &heap);
    buf_init(&set, &heap);
    make_batch(&batches, CODEC_NONE, 0, 0, 10, 100);
    bool full;
    for (size_t max = 0; max < 2000; max += 7) {
        struct message_set_down how = down_options(1);
        how.from_offset = 4;
        how.max_bytes = max;
        how.cut_first = true;
        set.size = 0;
        assert_int_equal(go_down(&batches, &how, &set, &full), OK);
        assert_true(set.size <= max);
        size_t one = 34 + 102, whole = max / one < 6 ? max / one : 6;
        assert_int_equal(set.size, whole > 0 ? whole * one : max);
        assert_int_equal(full, whole < 6);
        for (size_t i = 0; i < whole; i++)
            assert_int_equal(read_one(set.data + i * one, set.size - i * one).offset, 4 + i);
        how.cut_first = false;
        set.size = 0;
        assert_int_equal(go_down(&batches, &how, &set, &full), OK);
        assert_int_equal(set.size, whole * one);
        how.whole_first = true;
        set.size = 0;
        assert_int_equal(go_down(&batches, &how, &set, &full), OK);
        assert_int_equal(set.size, whole > 0 ? whole * one : one);
    }
    /* Wrappers are made small enough for the reader; those that lie wholly below the offset are not sent. */
    batches.size = set.size = 0;
    make_batch(&batches, CODEC_SNAPPY, 0, 100, 200, 100);
    struct message_set_down how = down_options(1);
    how.max_bytes = 4096;
    how.from_offset = 180;
    how.cut_first = true;
    assert_int_equal(go_down(&batches, &how, &set, &full), OK);
    struct seen s = read_one(set.data, set.size);
    assert_true(s.size > 0 && s.size <= 4096);
    assert_true(s.offset >= 180 && s.offset < 220);
    struct message_set_up up = up_options(CODEC_NONE);
    struct batch_check check;
    struct buf again;
    buf_init(&again, &heap);
    assert_int_equal(go_up(set.data, s.size, &up, &again, &check), OK);
    struct batch_header h;
    assert_int_equal(batch_parse(again.data, again.size, &h), OK);
    assert_true(s.offset - h.last_offset_delta <= 180);
    buf_deinit(&again);
    how.unpack_limit = 1000;
    set.size = 0;
    assert_int_equal(go_down(&batches, &how, &set, &full), ERR_TOO_LARGE);
    buf_deinit(&batches);
    buf_deinit(&set);
    assert_int_equal(heap.allocated_bytes, 0);
}

/* ---- The two checksums of LZ4 frames ---- */

static void test_lz4_checksums(void **state) {
    (void)state;
    struct buf right, old, out;
    buf_init(&right, &heap);
    buf_init(&old, &heap);
    buf_init(&out, &heap);
    const char *text = "some text, some text, some text";
    assert_int_equal(kafka_compress(CODEC_LZ4, COMPRESS_LEVEL_DEFAULT, text, strlen(text), &right), OK);
    assert_int_equal(kafka_compress_magic0(CODEC_LZ4, COMPRESS_LEVEL_DEFAULT, text, strlen(text), &old), OK);
    /* As kafka-python and librdkafka write it: tests/golden/kafka/message_sets.txt. */
    assert_int_equal(right.data[4], 0x60);
    assert_int_equal(right.data[5], 0x40);
    assert_int_equal(right.data[6], 0x82);
    assert_int_equal(old.data[6], 0x1a);
    old.data[6] = 0x82;
    assert_int_equal(old.size, right.size);
    assert_memory_equal(old.data, right.data, old.size);
    /* Any is taken in magic 0, the right one alone elsewhere; the last byte is a content size's frame header. */
    static const uint8_t sums[] = {0x82, 0x1a, 0x00};
    for (size_t i = 0; i < sizeof(sums); i++) {
        old.data[6] = sums[i];
        out.size = 0;
        assert_int_equal(kafka_decompress_magic0(CODEC_LZ4, old.data, old.size, 1000, &out), OK);
        assert_int_equal(out.size, strlen(text));
        assert_memory_equal(out.data, text, out.size);
        assert_int_equal(kafka_decompress(CODEC_LZ4, old.data, old.size, 1000, &out), i == 0 ? OK : ERR_CORRUPT);
    }
    for (size_t n = 0; n < old.size; n++) {
        uint8_t *copy = exact_copy(old.data, n);
        assert_int_equal(kafka_decompress_magic0(CODEC_LZ4, copy, n, 1000, &out), ERR_CORRUPT);
        free(copy);
    }
    buf_deinit(&right);
    buf_deinit(&old);
    buf_deinit(&out);
}

/* ---- Damage ---- */

static void golden_damaged(const uint8_t *data, size_t size, int magic, enum kafka_codec codec) {
    (void)magic;
    (void)codec;
    struct rng r;
    rng_seed(&r, size);
    for (int i = 0; i < 2000; i++) {
        size_t n = rng_chance(&r, 0.5) ? size : rng_below(&r, size);
        uint8_t *copy = exact_copy(data, n);
        for (int k = 0; k < 3 && n > 0; k++) copy[rng_below(&r, n)] = (uint8_t)rng_below(&r, 256);
        /* Often with the checksum made right again, so that what lies inside is read. */
        if (n > 26 && rng_chance(&r, 0.8)) {
            be32_put(copy + 8, (uint32_t)n - 12);
            be32_put(copy + 12, (uint32_t)crc32(0, copy + 16, (uInt)(n - 16)));
        }
        struct message_set set;
        const char *why;
        struct batch_check check;
        struct buf out;
        buf_init(&out, &heap);
        enum err e = message_set_parse(copy, n, LIMIT, &set, &why);
        if (e == OK && set.count > 0 && set.magic < 2) {
            struct message_set_up how = up_options(CODEC_LZ4);
            e = message_set_up_convert(&set, &heap, &how, &out, &check, &why);
            struct batch_header h;
            if (e == OK) assert_int_equal(batch_parse(out.data, out.size, &h), OK);
        }
        buf_deinit(&out);
        free(copy);
    }
}

static void test_damaged_sets(void **state) {
    (void)state;
    each_golden(golden_damaged);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets_of_others_become_batches),
        cmocka_unit_test(test_what_is_wrong_is_told),
        cmocka_unit_test(test_a_part_at_the_end_is_passed_over),
        cmocka_unit_test(test_limits_on_the_way_in),
        cmocka_unit_test(test_batches_become_sets),
        cmocka_unit_test(test_log_append_time_is_carried),
        cmocka_unit_test(test_what_old_readers_do_not_know_is_left_out),
        cmocka_unit_test(test_limits_on_the_way_out),
        cmocka_unit_test(test_lz4_checksums),
        cmocka_unit_test(test_damaged_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
