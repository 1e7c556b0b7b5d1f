/* The codecs: round trips, the limit, damaged input, the two snappy forms. */
#include "message_test.h"

#include "kafka/compress.h"

static struct mem heap;

static void fill(uint8_t *data, size_t size, int kind) {
    struct rng r;
    rng_seed(&r, size + (size_t)kind);
    for (size_t i = 0; i < size; i++) {
        data[i] = kind == 0   ? 'a'
                  : kind == 1 ? (uint8_t)rng_next(&r)
                              : (uint8_t)("the quick brown fox "[(i * 7 / 5) % 20] + (i % 97 == 0));
    }
}

static void test_round_trips(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 100, 4096, 32767, 32768, 32769, 65536, 300000, 3000000};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint8_t *data = malloc(sizes[s] + 1);
        for (int kind = 0; kind < 3; kind++) {
            fill(data, sizes[s], kind);
            for (int codec = 0; codec < CODEC_COUNT; codec++) {
                struct buf packed, out;
                buf_init(&packed, &heap);
                buf_init(&out, &heap);
                buf_put(&out, "before", 6);
                assert_int_equal(
                    kafka_compress((enum kafka_codec)codec, COMPRESS_LEVEL_DEFAULT, data, sizes[s], &packed), OK);
                uint8_t *exact = exact_copy(packed.data, packed.size);
                /* Exactly the limit is allowed; one byte less is not. */
                assert_int_equal(kafka_decompress((enum kafka_codec)codec, exact, packed.size, sizes[s], &out), OK);
                assert_int_equal(out.size, 6 + sizes[s]);
                assert_memory_equal(out.data, "before", 6);
                if (sizes[s]) assert_memory_equal(out.data + 6, data, sizes[s]);
                if (sizes[s]) {
                    out.size = 0;
                    assert_int_equal(kafka_decompress((enum kafka_codec)codec, exact, packed.size, sizes[s] - 1, &out),
                                     ERR_TOO_LARGE);
                    assert_int_equal(out.size, 0);
                }
                free(exact);
                buf_deinit(&packed);
                buf_deinit(&out);
            }
        }
        free(data);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_levels(void **state) {
    (void)state;
    static const struct {
        enum kafka_codec codec;
        int32_t level;
        enum err e;
    } cases[] = {
        {CODEC_GZIP, -1, OK},
        {CODEC_GZIP, 0, OK},
        {CODEC_GZIP, 9, OK},
        {CODEC_GZIP, 10, ERR_INVALID},
        {CODEC_GZIP, -2, ERR_INVALID},
        {CODEC_LZ4, 1, OK},
        {CODEC_LZ4, 17, OK},
        {CODEC_LZ4, 18, ERR_INVALID},
        {CODEC_ZSTD, -5, OK},
        {CODEC_ZSTD, 22, OK},
        {CODEC_ZSTD, 23, ERR_INVALID},
        {CODEC_SNAPPY, 99, OK},
        {CODEC_COUNT, 0, ERR_UNSUPPORTED},
    };
    uint8_t data[5000];
    fill(data, sizeof(data), 2);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf packed, out;
        buf_init(&packed, &heap);
        buf_init(&out, &heap);
        assert_int_equal(kafka_compress(cases[i].codec, cases[i].level, data, sizeof(data), &packed), cases[i].e);
        if (cases[i].e == OK) {
            assert_int_equal(kafka_decompress(cases[i].codec, packed.data, packed.size, sizeof(data), &out), OK);
            assert_memory_equal(out.data, data, sizeof(data));
        }
        buf_deinit(&packed);
        buf_deinit(&out);
    }
    struct buf out;
    buf_init(&out, &heap);
    assert_int_equal(kafka_decompress((enum kafka_codec)7, data, 10, 100, &out), ERR_UNSUPPORTED);
    assert_string_equal(kafka_codec_name(CODEC_ZSTD), "zstd");
    assert_string_equal(kafka_codec_name((enum kafka_codec)9), "?");
}

/* 64 MiB of zeros pressed together may cost no more than the limit. */
static void test_bombs(void **state) {
    (void)state;
    size_t size = 64u << 20;
    uint8_t *zeros = calloc(1, size);
    for (int codec = 1; codec < CODEC_COUNT; codec++) {
        struct buf packed, out;
        buf_init(&packed, &heap);
        buf_init(&out, &heap);
        assert_int_equal(kafka_compress((enum kafka_codec)codec, COMPRESS_LEVEL_DEFAULT, zeros, size, &packed), OK);
        assert_int_equal(kafka_decompress((enum kafka_codec)codec, packed.data, packed.size, 1000000, &out),
                         ERR_TOO_LARGE);
        assert_true(out.capacity <= 1000001);
        buf_deinit(&packed);
        buf_deinit(&out);
    }
    free(zeros);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_prefixes_and_damage(void **state) {
    (void)state;
    uint8_t data[3000];
    fill(data, sizeof(data), 2);
    for (int codec = 1; codec < CODEC_COUNT; codec++) {
        struct buf packed, out;
        buf_init(&packed, &heap);
        buf_init(&out, &heap);
        assert_int_equal(kafka_compress((enum kafka_codec)codec, COMPRESS_LEVEL_DEFAULT, data, sizeof(data), &packed),
                         OK);
        for (size_t n = 0; n < packed.size; n++) {
            uint8_t *prefix = exact_copy(packed.data, n);
            enum err e = kafka_decompress((enum kafka_codec)codec, prefix, n, 10000, &out);
            /* The framing of snappy-java has no end mark: nothing is a valid stream of no blocks. */
            if (codec == CODEC_SNAPPY && n == 16) {
                assert_int_equal(e, OK);
            } else {
                assert_int_equal(e, ERR_CORRUPT);
            }
            assert_int_equal(out.size, 0);
            free(prefix);
        }
        uint8_t *longer = malloc(packed.size + 1);
        memcpy(longer, packed.data, packed.size);
        longer[packed.size] = 0x55;
        assert_int_equal(kafka_decompress((enum kafka_codec)codec, longer, packed.size + 1, 10000, &out), ERR_CORRUPT);
        for (size_t bit = 0; bit < 8 * packed.size; bit++) {
            longer[bit / 8] ^= (uint8_t)(1 << bit % 8);
            enum err e = kafka_decompress((enum kafka_codec)codec, longer, packed.size, 10000, &out);
            assert_true(e == OK || e == ERR_CORRUPT || e == ERR_TOO_LARGE);
            assert_true(out.size <= 10000);
            out.size = 0;
            longer[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        free(longer);
        buf_deinit(&packed);
        buf_deinit(&out);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_snappy_forms(void **state) {
    (void)state;
    struct buf out;
    buf_init(&out, &heap);
    /* Raw: length 5, then a literal of 5 bytes. */
    static const uint8_t raw[] = {5, 4 << 2, 'h', 'e', 'l', 'l', 'o'};
    assert_int_equal(kafka_decompress(CODEC_SNAPPY, raw, sizeof(raw), 5, &out), OK);
    assert_int_equal(out.size, 5);
    assert_memory_equal(out.data, "hello", 5);
    out.size = 0;
    /* Framed as Java does: two blocks. */
    static const uint8_t framed[] = {0x82, 'S', 'N', 'A', 'P', 'P',    'Y', 0,   0, 0, 0, 1, 0, 0, 0,  1,
                                     0,    0,   0,   4,   2,   1 << 2, 'a', 'b', 0, 0, 0, 3, 1, 0, 'c'};
    assert_int_equal(kafka_decompress(CODEC_SNAPPY, framed, sizeof(framed), 3, &out), OK);
    assert_int_equal(out.size, 3);
    assert_memory_equal(out.data, "abc", 3);
    assert_int_equal(kafka_decompress(CODEC_SNAPPY, framed, sizeof(framed), 2, &out), ERR_TOO_LARGE);
    out.size = 0;
    /* What we write is framed. */
    assert_int_equal(kafka_compress(CODEC_SNAPPY, 0, "abc", 3, &out), OK);
    assert_memory_equal(out.data, framed, 16);
    buf_deinit(&out);
    /* A block of a few bytes that claims a gigabyte allocates nothing. */
    static const uint8_t liar[] = {0x80, 0x80, 0x80, 0x80, 0x04, 0, 'x'};
    buf_init(&out, &heap);
    assert_int_equal(kafka_decompress(CODEC_SNAPPY, liar, sizeof(liar), SIZE_MAX, &out), ERR_CORRUPT);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_several_gzip_members(void **state) {
    (void)state;
    struct buf packed, out;
    buf_init(&packed, &heap);
    buf_init(&out, &heap);
    assert_int_equal(kafka_compress(CODEC_GZIP, -1, "one", 3, &packed), OK);
    assert_int_equal(kafka_compress(CODEC_GZIP, -1, "two", 3, &packed), OK);
    assert_int_equal(kafka_decompress(CODEC_GZIP, packed.data, packed.size, 6, &out), OK);
    assert_int_equal(out.size, 6);
    assert_memory_equal(out.data, "onetwo", 6);
    buf_deinit(&packed);
    buf_deinit(&out);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),  cmocka_unit_test(test_levels),
        cmocka_unit_test(test_bombs),        cmocka_unit_test(test_prefixes_and_damage),
        cmocka_unit_test(test_snappy_forms), cmocka_unit_test(test_several_gzip_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
