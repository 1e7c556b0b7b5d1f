/* Record batches: those of other programs are read, ours are read back, and damaged ones are refused. */
#include "message_test.h"

#include "base/crc32c.h"
#include "base/random.h"
#include "kafka/batch.h"

#define LIMIT ((size_t)1 << 20)

static struct mem heap;

/* The records that tests/golden/kafka/batches.txt describes. */
static void check_golden_records(const struct batch_header *h) {
    struct batch_iterator it;
    struct batch_record r;
    assert_int_equal(batch_iterator_init(&it, &heap, h, LIMIT), OK);
    for (int i = 0; i < 20; i++) {
        char key[32], value[128], name[16], content[16];
        assert_int_equal(batch_iterator_next(&it, &r), OK);
        assert_int_equal(r.offset, i);
        assert_int_equal(r.timestamp, 1700000000000 + i * 7 % 20);
        snprintf(key, sizeof(key), "key-%d", i);
        snprintf(value, sizeof(value), "value-%d-%.50s", i, "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv");
        assert_int_equal(r.key_size, i % 5 == 0 ? -1 : (int)strlen(key));
        if (r.key_size > 0) assert_memory_equal(r.key, key, strlen(key));
        assert_int_equal(r.value_size, i == 3 ? -1 : (int)strlen(value));
        if (r.value_size > 0) assert_memory_equal(r.value, value, strlen(value));
        assert_int_equal(r.header_count, i % 3);
        size_t position = 0;
        struct batch_record_header header;
        for (int k = 0; k < i % 3; k++) {
            assert_true(batch_header_next(&r, &position, &header));
            snprintf(name, sizeof(name), "h%d", k);
            snprintf(content, sizeof(content), "x%d", k);
            assert_int_equal(header.key_size, 2);
            assert_memory_equal(header.key, name, 2);
            assert_int_equal(header.value_size, 2);
            assert_memory_equal(header.value, content, 2);
        }
        assert_false(batch_header_next(&r, &position, &header));
    }
    assert_int_equal(batch_iterator_next(&it, &r), ERR_NOT_FOUND);
    batch_iterator_deinit(&it);
}

static void test_batches_of_others(void **state) {
    (void)state;
    FILE *f = golden_open("kafka/batches.txt");
    char *line = NULL, maker[32], codec[32];
    size_t capacity = 0;
    int seen = 0;
    while (getline(&line, &capacity, f) > 0) {
        if (line[0] == '#') continue;
        int at = 0;
        assert_int_equal(sscanf(line, "%31s %31s %n", maker, codec, &at), 2);
        size_t size;
        uint8_t *data = golden_bytes(line + at, &size);
        struct batch_header h;
        assert_int_equal(batch_parse(data, size, &h), OK);
        assert_int_equal(h.size, size);
        assert_string_equal(kafka_codec_name(batch_codec(&h)), codec);
        assert_int_equal(h.record_count, 20);
        assert_int_equal(h.max_timestamp, 1700000000019);
        bool python = strcmp(maker, "kafka-python") == 0;
        assert_int_equal(h.producer_id, python ? 4711 : -1);
        assert_int_equal(h.producer_epoch, python ? 3 : -1);
        assert_int_equal(h.base_sequence, python ? 100 : -1);
        assert_int_equal(batch_last_sequence(&h), python ? 119 : -1);
        assert_int_equal(batch_is_transactional(&h), python);
        check_golden_records(&h);
        struct batch_check check;
        assert_int_equal(batch_validate_records(&h, &heap, LIMIT, BATCH_CHECK_MAX_TIMESTAMP, &check), OK);
        assert_int_equal(check.max_timestamp, 1700000000019);
        assert_int_equal(check.min_timestamp, 1700000000000);
        assert_int_equal(check.max_timestamp_delta, 17);
        assert_int_equal(batch_validate_records(&h, &heap, LIMIT, BATCH_CHECK_KEYS, &check), ERR_INVALID_RECORD);
        assert_int_equal(check.bad_record, 0);
        free(data);
        seen++;
    }
    free(line);
    fclose(f);
    assert_int_equal(seen, 7);
}

/* A batch of n records in memory of exactly its size; free with free(). */
static uint8_t *make_batch(const struct batch_options *o, int n, size_t *size) {
    struct batch_builder b;
    struct buf out;
    buf_init(&out, &heap);
    batch_builder_init(&b, &heap, o);
    for (int i = 0; i < n; i++) {
        char value[200];
        int length = snprintf(value, sizeof(value), "record %d %0100d", i, i);
        struct batch_record_header headers[2] = {{"one", 3, (const uint8_t *)"1", 1}, {"null", 4, NULL, -1}};
        batch_builder_add(&b, 1000 + i * 10, i % 4 ? "key" : NULL, i % 4 ? 3 : 0, value, (size_t)length, headers,
                          (size_t)(i % 3));
    }
    assert_int_equal(batch_builder_finish(&b, &out), OK);
    uint8_t *data = exact_copy(out.data, out.size);
    *size = out.size;
    buf_deinit(&out);
    batch_builder_deinit(&b);
    return data;
}

static void test_built_batches_are_read_back(void **state) {
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct batch_options o = BATCH_OPTIONS_DEFAULT;
        o.codec = (enum kafka_codec)codec;
        o.base_offset = 70;
        o.producer_id = 5;
        o.producer_epoch = 0;
        o.base_sequence = INT32_MAX - 1;
        size_t size;
        uint8_t *data = make_batch(&o, 50, &size);
        struct batch_header h;
        assert_int_equal(batch_parse(data, size, &h), OK);
        assert_int_equal(batch_last_offset(&h), 119);
        assert_int_equal(batch_end_offset(&h), 120);
        assert_int_equal(batch_last_sequence(&h), 47);
        struct batch_check check;
        assert_int_equal(batch_validate_records(&h, &heap, LIMIT, BATCH_CHECK_MAX_TIMESTAMP, &check), OK);
        assert_int_equal(check.max_timestamp, 1490);
        assert_int_equal(check.max_timestamp_delta, 49);
        int64_t offset, found;
        assert_int_equal(batch_find_timestamp(&h, &heap, LIMIT, 1101, &offset, &found), OK);
        assert_int_equal(offset, 81);
        assert_int_equal(found, 1110);
        assert_int_equal(batch_find_timestamp(&h, &heap, LIMIT, 0, &offset, &found), OK);
        assert_int_equal(offset, 70);
        assert_int_equal(batch_find_timestamp(&h, &heap, LIMIT, 1491, &offset, &found), ERR_NOT_FOUND);
        if (codec != CODEC_NONE) {
            assert_int_equal(batch_validate_records(&h, &heap, 1000, 0, &check), ERR_TOO_LARGE);
        }
        free(data);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_builder_goes_on(void **state) {
    (void)state;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_sequence = INT32_MAX;
    struct batch_builder b;
    struct buf out;
    buf_init(&out, &heap);
    batch_builder_init(&b, &heap, &o);
    assert_int_equal(batch_builder_finish(&b, &out), ERR_INVALID);
    for (int i = 0; i < 3; i++) {
        batch_builder_add(&b, 5, "", 0, NULL, 0, NULL, 0);
        batch_builder_add(&b, 3, NULL, 0, "", 0, NULL, 0);
        assert_int_equal(batch_builder_finish(&b, &out), OK);
    }
    size_t at = 0;
    static const int32_t sequences[] = {INT32_MAX, 1, 3};
    for (int i = 0; i < 3; i++) {
        struct batch_header h;
        struct batch_iterator it;
        struct batch_record r;
        assert_int_equal(batch_parse(out.data + at, out.size - at, &h), OK);
        at += h.size;
        assert_int_equal(h.base_offset, 2 * i);
        assert_int_equal(h.base_sequence, sequences[i]);
        assert_int_equal(h.base_timestamp, 5);
        assert_int_equal(h.max_timestamp, 5);
        assert_int_equal(batch_iterator_init(&it, &heap, &h, LIMIT), OK);
        assert_int_equal(batch_iterator_next(&it, &r), OK);
        assert_int_equal(r.key_size, 0);
        assert_int_equal(r.value_size, -1);
        assert_int_equal(batch_iterator_next(&it, &r), OK);
        assert_int_equal(r.timestamp, 3);
        assert_int_equal(r.key_size, -1);
        assert_int_equal(r.value_size, 0);
        assert_int_equal(batch_iterator_next(&it, &r), ERR_NOT_FOUND);
        batch_iterator_deinit(&it);
    }
    assert_int_equal(at, out.size);
    buf_deinit(&out);
    batch_builder_deinit(&b);
}

static void test_parse_refuses_what_is_wrong(void **state) {
    (void)state;
    size_t size;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    uint8_t *data = make_batch(&o, 3, &size);
    struct batch_header h;
    for (size_t n = 0; n < size; n++) {
        uint8_t *prefix = exact_copy(data, n);
        assert_int_equal(batch_parse(prefix, n, &h), ERR_TRUNCATED);
        assert_int_equal(h.size, n < 17 ? 0 : size);
        free(prefix);
    }
    /* Every bit from the checksum on is guarded by it; length and magic have checks of their own. */
    for (size_t bit = 8 * 8; bit < 8 * size; bit++) {
        if (bit / 8 >= 12 && bit / 8 < 16) continue; /* the leader epoch is anybody's */
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(batch_parse(data, size, &h), OK);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    data[16] = 1;
    assert_int_equal(batch_parse(data, size, &h), ERR_INVALID_RECORD);
    data[16] = 3;
    assert_int_equal(batch_parse(data, size, &h), ERR_CORRUPT_MESSAGE);
    data[16] = 2;
    be32_put(data + 8, 48);
    assert_int_equal(batch_parse(data, size, &h), ERR_CORRUPT_MESSAGE);
    be32_put(data + 8, 0xffffffff);
    assert_int_equal(batch_parse(data, size, &h), ERR_CORRUPT_MESSAGE);
    be32_put(data + 8, (uint32_t)size - 12);
    assert_int_equal(batch_parse(data, size, &h), OK);
    free(data);
}

/* Writes a field and sets the checksum to match. */
static void patch(uint8_t *data, size_t size, size_t at, size_t width, uint64_t v) {
    if (width == 2) be16_put(data + at, (uint16_t)v);
    if (width == 4) be32_put(data + at, (uint32_t)v);
    be32_put(data + 17, crc32c(0, data + 21, size - 21));
}

static void test_counts(void **state) {
    (void)state;
    size_t size;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    uint8_t *data = make_batch(&o, 3, &size);
    struct batch_header h;
    struct batch_check check;
    struct {
        uint32_t delta, count;
        enum err parse, validate;
    } const cases[] = {
        {2, 3, OK, OK},
        {3, 3, OK, ERR_INVALID_RECORD},
        {2, 2, OK, ERR_INVALID_RECORD},
        {1, 2, OK, ERR_INVALID_RECORD}, /* a third record is left over */
        {3, 4, OK, ERR_INVALID_RECORD}, /* there is no fourth */
        {0, 0, OK, ERR_INVALID_RECORD},
        {1, 3, ERR_CORRUPT_MESSAGE, OK},
        {0xffffffff, 0, ERR_CORRUPT_MESSAGE, OK},
        {5, 0xffffffff, ERR_CORRUPT_MESSAGE, OK},
        {INT32_MAX, INT32_MAX, OK, ERR_INVALID_RECORD},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        patch(data, size, 23, 4, cases[i].delta);
        patch(data, size, 57, 4, cases[i].count);
        assert_int_equal(batch_parse(data, size, &h), cases[i].parse);
        if (cases[i].parse != OK) continue;
        assert_int_equal(batch_validate_records(&h, &heap, LIMIT, 0, &check), cases[i].validate);
    }
    patch(data, size, 23, 4, 2);
    patch(data, size, 57, 4, 3);
    patch(data, size, 21, 2, 5); /* no such codec */
    assert_int_equal(batch_parse(data, size, &h), ERR_CORRUPT_MESSAGE);
    patch(data, size, 21, 2, CODEC_GZIP); /* not gzip */
    assert_int_equal(batch_parse(data, size, &h), OK);
    assert_int_equal(batch_validate_records(&h, &heap, LIMIT, 0, &check), ERR_CORRUPT_MESSAGE);
    /* A snappy stream of no blocks unfolds to nothing, without a buffer. */
    static const uint8_t empty[16] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
    memcpy(data + 61, empty, sizeof(empty));
    be32_put(data + 8, 49 + 16);
    patch(data, 61 + 16, 21, 2, CODEC_SNAPPY);
    assert_int_equal(batch_parse(data, size, &h), OK);
    assert_int_equal(batch_validate_records(&h, &heap, LIMIT, 0, &check), ERR_INVALID_RECORD);
    assert_int_equal(check.bad_record, 0);
    free(data);
}

/* A batch whose records section is given byte by byte. */
static enum err validate_raw(const uint8_t *records, size_t n, uint32_t count, unsigned flags,
                             struct batch_check *check) {
    uint8_t *data = malloc(61 + n);
    memset(data, 0, 61);
    memcpy(data + 61, records, n);
    be32_put(data + 8, (uint32_t)(49 + n));
    data[16] = 2;
    be32_put(data + 23, count - 1);
    be32_put(data + 57, count);
    be32_put(data + 17, crc32c(0, data + 21, 40 + n));
    struct batch_header h;
    assert_int_equal(batch_parse(data, 61 + n, &h), OK);
    enum err e = batch_validate_records(&h, &heap, LIMIT, flags, check);
    free(data);
    return e;
}

static void test_records_are_checked(void **state) {
    (void)state;
    struct batch_check check;
    /* length 6: attributes, timestamp 0, offset 0, null key, null value, no headers */
    static const uint8_t good[] = {12, 0, 0, 0, 1, 1, 0};
    assert_int_equal(validate_raw(good, sizeof(good), 1, 0, &check), OK);
    assert_int_equal(validate_raw(good, sizeof(good), 1, BATCH_CHECK_KEYS, &check), ERR_INVALID_RECORD);
    struct {
        uint8_t bytes[16];
        size_t size;
    } const bad[] = {
        {{12, 0, 0, 2, 1, 1, 0}, 7},                                /* offset delta 1 in a batch of one */
        {{12, 0, 0, 1, 1, 1, 0}, 7},                                /* offset delta -1 */
        {{14, 0, 0, 0, 1, 1, 0}, 7},                                /* longer than there is */
        {{10, 0, 0, 0, 1, 1, 0}, 7},                                /* shorter than its fields */
        {{0}, 1},                                                   /* no bytes at all */
        {{1, 0, 0, 0, 1, 1, 0}, 7},                                 /* length -1 */
        {{12, 0, 0, 0, 2, 1, 0}, 7},                                /* key of 1 byte takes the value's length */
        {{12, 0, 0, 0, 3, 1, 0}, 7},                                /* key of -2 bytes */
        {{12, 0, 0, 0, 1, 3, 0}, 7},                                /* value of -2 bytes */
        {{12, 0, 0, 0, 1, 1, 1}, 7},                                /* -1 headers */
        {{12, 0, 0, 0, 1, 1, 2}, 7},                                /* one header, no bytes */
        {{16, 0, 0, 0, 1, 1, 2, 1, 1}, 9},                          /* header with a null key */
        {{16, 0, 0, 0, 1, 1, 2, 0, 3}, 9},                          /* header with a value of -2 bytes */
        {{18, 0, 0, 0, 1, 1, 2, 0, 1, 0}, 10},                      /* a byte behind the headers */
        {{20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 15}, 11},      /* 2^31-1 headers */
        {{20, 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 32}, 11},      /* 2^32 headers */
        {{20, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 15, 1, 0}, 11},      /* a key of 2^31-1 bytes */
        {{22, 0, 0, 0, 0x81, 0x80, 0x80, 0x80, 0x80, 0, 1, 0}, 12}, /* a varint of six bytes */
        {{14, 0, 0, 0, 1, 1, 0, 0}, 8},                             /* a byte behind no headers */
        {{12, 0, 0, 0, 1, 1, 0, 0}, 8},                             /* a byte behind the record */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (validate_raw(bad[i].bytes, bad[i].size, 1, 0, &check) != ERR_INVALID_RECORD)
            fail_msg("case %zu was accepted", i);
    }
    static const uint8_t two[] = {12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 2, 1, 1, 0};
    assert_int_equal(validate_raw(two, sizeof(two), 2, 0, &check), OK);
    static const uint8_t twice[] = {12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0};
    assert_int_equal(validate_raw(twice, sizeof(twice), 2, 0, &check), ERR_INVALID_RECORD);
    assert_int_equal(check.bad_record, 1);
    static const uint8_t late[] = {12, 0, 2, 0, 1, 1, 0};
    assert_int_equal(validate_raw(late, sizeof(late), 1, 0, &check), OK);
    assert_int_equal(check.max_timestamp, 1);
    assert_int_equal(validate_raw(late, sizeof(late), 1, BATCH_CHECK_MAX_TIMESTAMP, &check), ERR_INVALID_RECORD);
    assert_int_equal(heap.allocated_bytes, 0);
}

/* A record read as its definition says, byte by byte: what the quick reader is compared with. */
struct plain {
    const uint8_t *at, *end;
    bool bad;
};

static int64_t plain_number(struct plain *p, unsigned bits) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        if (p->at == p->end) break;
        uint8_t b = *p->at++, low = b & 0x7f;
        if (shift + 7 > bits && low >> (bits - shift) != 0) break;
        v |= (uint64_t)low << shift;
        if (b < 0x80) return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
    }
    p->bad = true;
    return 0;
}

static int64_t plain_sized(struct plain *p, int64_t least) {
    int64_t n = plain_number(p, 32);
    if (p->bad || n < least || n > p->end - p->at) {
        p->bad = true;
        return 0;
    }
    if (n > 0) p->at += n;
    return n;
}

/* *p: all that is left; moves behind the record. */
static bool plain_record(struct plain *p, int32_t last_delta, struct batch_record *r) {
    int64_t length = plain_number(p, 32);
    if (p->bad || length < 1 || length > p->end - p->at) return false;
    struct plain in = {p->at, p->at + length, false};
    p->at = in.end;
    r->attributes = (int8_t)*in.at++;
    r->timestamp = plain_number(&in, 64);
    int64_t delta = plain_number(&in, 32);
    r->offset_delta = (int32_t)delta;
    r->key_size = (int32_t)plain_sized(&in, -1);
    r->value_size = (int32_t)plain_sized(&in, -1);
    int64_t headers = plain_number(&in, 32);
    r->header_count = (int32_t)headers;
    for (int64_t i = 0; i < headers && !in.bad; i++) {
        plain_sized(&in, 0);
        plain_sized(&in, -1);
    }
    return !in.bad && headers >= 0 && in.at == in.end && delta >= 0 && delta <= last_delta;
}

/* A number as a varint: sometimes longer than need be, sometimes too long. */
static void put_number(struct buf *b, struct rng *r, int64_t n) {
    uint64_t v = ((uint64_t)n << 1) ^ (uint64_t)(n >> 63);
    for (; v >= 0x80; v >>= 7) buf_u8(b, (uint8_t)(v | 0x80));
    uint64_t more = rng_below(r, 40) == 0 ? rng_below(r, 10) : 0;
    buf_u8(b, (uint8_t)(more ? v | 0x80 : v));
    for (; more > 0; more--) buf_u8(b, more > 1 ? 0x80 : 0);
}

static void put_random_sized(struct buf *b, struct rng *r, bool nullable) {
    static const uint8_t bytes[200] = {1};
    if (nullable && rng_below(r, 4) == 0) {
        put_number(b, r, -1);
        return;
    }
    size_t n = rng_below(r, rng_below(r, 4) ? 4 : sizeof(bytes));
    put_number(b, r, (int64_t)n);
    buf_put(b, bytes, n);
}

static void put_random_record(struct buf *out, struct rng *r, int32_t index) {
    struct buf b;
    buf_init(&b, &heap);
    buf_u8(&b, (uint8_t)rng_next(r));
    put_number(&b, r, (int64_t)rng_next(r) >> rng_below(r, 64));
    put_number(&b, r, rng_below(r, 30) ? index : (int64_t)(rng_next(r) >> rng_below(r, 64)));
    put_random_sized(&b, r, true);
    put_random_sized(&b, r, true);
    uint64_t headers = rng_below(r, 3) ? 0 : rng_below(r, 3);
    put_number(&b, r, (int64_t)headers);
    for (; headers > 0; headers--) {
        put_random_sized(&b, r, false);
        put_random_sized(&b, r, true);
    }
    if (rng_below(r, 4) == 0) b.data[rng_below(r, b.size)] = (uint8_t)(rng_next(r) | (rng_below(r, 2) ? 0x80 : 0));
    put_number(out, r, (int64_t)b.size - (rng_below(r, 30) == 0) + (rng_below(r, 30) == 0));
    buf_put(out, b.data, b.size);
    buf_deinit(&b);
}

/* Records of any kind, many of them malformed somewhere: taken and refused as the definition says, no byte further. */
static void test_records_as_defined(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    unsigned taken = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        struct buf b;
        buf_init(&b, &heap);
        int32_t count = 1 + (int32_t)rng_below(&rng, 4);
        for (int32_t i = 0; i < count; i++) put_random_record(&b, &rng, rng_below(&rng, 9) ? i : 70 + i);
        /* In memory of just its size, so that a read beyond it is seen. */
        size_t cut = rng_below(&rng, 9) ? 0 : rng_below(&rng, b.size + 1), n = b.size - cut;
        uint8_t *data = calloc(1, BATCH_HEADER_SIZE + n);
        memcpy(data + BATCH_HEADER_SIZE, b.data, n);
        struct batch_header h = {.data = data,
                                 .size = BATCH_HEADER_SIZE + n,
                                 .last_offset_delta = rng_below(&rng, 9) ? 100 : count - 1,
                                 .record_count = count};
        struct batch_iterator it;
        assert_int_equal(batch_iterator_init(&it, &heap, &h, LIMIT), OK);
        struct plain p = {data + BATCH_HEADER_SIZE, data + h.size, false};
        bool good = true;
        for (int32_t i = 0; i < count && good; i++) {
            struct batch_record r = {0}, plain = {0};
            good = plain_record(&p, h.last_offset_delta, &plain);
            assert_int_equal(batch_iterator_next(&it, &r), good ? OK : ERR_INVALID_RECORD);
            good ? taken++ : refused++;
            if (!good) break;
            assert_int_equal(r.attributes, plain.attributes);
            assert_true(r.timestamp == plain.timestamp && r.offset == plain.offset_delta);
            assert_int_equal(r.offset_delta, plain.offset_delta);
            assert_int_equal(r.key_size, plain.key_size);
            assert_int_equal(r.value_size, plain.value_size);
            assert_int_equal(r.header_count, plain.header_count);
            assert_ptr_equal(it.at, p.at);
        }
        if (good)
            assert_int_equal(batch_iterator_next(&it, &(struct batch_record){0}),
                             p.at == p.end ? ERR_NOT_FOUND : ERR_INVALID_RECORD);
        batch_iterator_deinit(&it);
        free(data);
        buf_deinit(&b);
    }
    assert_true(taken > 5000 && refused > 5000);
}

static void test_patches(void **state) {
    (void)state;
    size_t size;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = CODEC_LZ4;
    uint8_t *data = make_batch(&o, 30, &size);
    struct batch_header h;
    batch_set_position(data, 123456789012345, 77);
    assert_int_equal(batch_parse(data, size, &h), OK);
    assert_int_equal(h.base_offset, 123456789012345);
    assert_int_equal(h.partition_leader_epoch, 77);
    batch_set_attributes(data, (int16_t)(h.attributes | BATCH_LOG_APPEND_TIME), 999999);
    assert_int_equal(batch_parse(data, size, &h), OK);
    assert_int_equal(h.crc, crc32c(0, data + 21, size - 21));
    assert_int_equal(h.max_timestamp, 999999);
    struct batch_iterator it;
    struct batch_record r;
    assert_int_equal(batch_iterator_init(&it, &heap, &h, LIMIT), OK);
    assert_int_equal(batch_iterator_next(&it, &r), OK);
    assert_int_equal(r.timestamp, 999999);
    assert_int_equal(r.offset, 123456789012345);
    batch_iterator_deinit(&it);
    /* Damage stays visible through a patch. */
    data[size - 1] ^= 1;
    batch_set_attributes(data, CODEC_LZ4, 5);
    assert_int_equal(batch_parse(data, size, &h), ERR_CORRUPT_MESSAGE);
    free(data);
}

/* Whatever one byte becomes, with the checksum made to match: no crash, no leak, no claim believed. */
static void test_damage_with_a_matching_checksum(void **state) {
    (void)state;
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        size_t size;
        struct batch_options o = BATCH_OPTIONS_DEFAULT;
        o.codec = (enum kafka_codec)codec;
        uint8_t *data = make_batch(&o, 8, &size);
        for (size_t i = 21; i < size; i++) {
            static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
            for (size_t k = 0; k < sizeof(values); k++) {
                uint8_t before = data[i];
                data[i] = values[k];
                be32_put(data + 17, crc32c(0, data + 21, size - 21));
                struct batch_header h;
                struct batch_check check;
                if (batch_parse(data, size, &h) == OK) {
                    enum err e = batch_validate_records(&h, &heap, 4096, 0, &check);
                    assert_true(e == OK || e == ERR_INVALID_RECORD || e == ERR_CORRUPT_MESSAGE || e == ERR_TOO_LARGE);
                    int64_t offset, found;
                    e = batch_find_timestamp(&h, &heap, 4096, 1030, &offset, &found);
                    assert_true(e == OK || e == ERR_NOT_FOUND || e == ERR_INVALID_RECORD || e == ERR_CORRUPT_MESSAGE ||
                                e == ERR_TOO_LARGE);
                }
                data[i] = before;
            }
        }
        free(data);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_of_others),
        cmocka_unit_test(test_built_batches_are_read_back),
        cmocka_unit_test(test_builder_goes_on),
        cmocka_unit_test(test_parse_refuses_what_is_wrong),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_records_are_checked),
        cmocka_unit_test(test_records_as_defined),
        cmocka_unit_test(test_patches),
        cmocka_unit_test(test_damage_with_a_matching_checksum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
