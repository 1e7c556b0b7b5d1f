/* The header's golden bytes, and every way in which bytes from a store may be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "objlog/objlog_priv.h"

static struct objlog_header sample(void) {
    struct objlog_header h = {.kind = OBJLOG_CHECKPOINT,
                              .number = 0x0102030405060708,
                              .boundary = 0x01020304,
                              .writer = 0x1122334455667788,
                              .head_size = 0x203,
                              .body_size = 0x4000001,
                              .head_crc = 0xa1a2a3a4,
                              .body_crc = 0xb1b2b3b4};
    for (unsigned i = 0; i < 16; i++) {
        h.nonce.bytes[i] = (uint8_t)(0xc0 + i);
        h.previous.bytes[i] = (uint8_t)(0xd0 + i);
    }
    return h;
}

static const uint8_t golden[124] = {
    'O',  'X',  'L',  'G',  1,    0,    2,    0, /* magic, version, kind */
    8,    7,    6,    5,    4,    3,    2,    1, /* number */
    0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, /* nonce */
    0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, /* previous */
    4,    3,    2,    1,    0,    0,    0,    0,                                                    /* boundary */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,                                                 /* writer */
    3,    2,    0,    0,    0,    0,    0,    0,                                                    /* head size */
    1,    0,    0,    4,    0,    0,    0,    0,                                                    /* body size */
    0xa4, 0xa3, 0xa2, 0xa1, 0xb4, 0xb3, 0xb2, 0xb1,                                                 /* checksums */
};

static void test_golden(void **state) {
    (void)state;
    struct objlog_header h = sample(), back;
    uint8_t out[OBJLOG_HEADER_SIZE];
    objlog_header_encode(&h, out);
    assert_memory_equal(out, golden, sizeof(golden));
    assert_int_equal(le32_get(out + 124), 0x162d90d3u);
    assert_int_equal(objlog_header_decode(out, sizeof(out), &back), OK);
    assert_int_equal(back.kind, h.kind);
    assert_int_equal(back.number, h.number);
    assert_memory_equal(&back.nonce, &h.nonce, 16);
    assert_memory_equal(&back.previous, &h.previous, 16);
    assert_int_equal(back.boundary, h.boundary);
    assert_int_equal(back.writer, h.writer);
    assert_int_equal(back.head_size, h.head_size);
    assert_int_equal(back.body_size, h.body_size);
    assert_int_equal(back.head_crc, h.head_crc);
    assert_int_equal(back.body_crc, h.body_crc);
}

/* Every single flipped bit is found, and the magic's are told apart. */
static void test_flipped_bits(void **state) {
    (void)state;
    struct objlog_header h = sample(), back;
    uint8_t out[OBJLOG_HEADER_SIZE];
    objlog_header_encode(&h, out);
    for (unsigned bit = 0; bit < 8 * OBJLOG_HEADER_SIZE; bit++) {
        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(objlog_header_decode(out, sizeof(out), &back), bit < 32 ? ERR_FOREIGN : ERR_CORRUPT);
        out[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t size = 0; size < OBJLOG_HEADER_SIZE; size++) {
        uint8_t *exact = test_malloc(size ? size : 1); /* the sanitizer sees every byte beyond it */
        memcpy(exact, out, size);
        assert_int_equal(objlog_header_decode(exact, size, &back), ERR_TRUNCATED);
        test_free(exact);
    }
    assert_int_equal(objlog_header_decode((const uint8_t *)"PK", 2, &back), ERR_FOREIGN);
}

static enum err resealed(struct objlog_header h, unsigned position, uint8_t value) {
    uint8_t out[OBJLOG_HEADER_SIZE];
    objlog_header_encode(&h, out);
    out[position] = value;
    le32_put(out + 124, crc32c(0, out, 124));
    struct objlog_header back;
    return objlog_header_decode(out, sizeof(out), &back);
}

/* With a checksum that holds, what is inside must still make sense. */
static void test_sealed_nonsense(void **state) {
    (void)state;
    struct objlog_header h = sample();
    assert_int_equal(resealed(h, 6, 1), OK);
    assert_int_equal(resealed(h, 4, 2), ERR_VERSION);
    assert_int_equal(resealed(h, 5, 1), ERR_VERSION);
    assert_int_equal(resealed(h, 4, 0), ERR_CORRUPT);
    assert_int_equal(resealed(h, 6, 0), ERR_CORRUPT);
    assert_int_equal(resealed(h, 6, 5), ERR_VERSION); /* a kind that a newer program knows */
    assert_int_equal(resealed(h, 100, 1), ERR_CORRUPT);
    assert_int_equal(resealed(h, 70, 1), ERR_CORRUPT); /* a head of a petabyte */
    assert_int_equal(resealed(h, 79, 1), ERR_CORRUPT);
    h.number = 5;
    h.boundary = 4;
    assert_int_equal(resealed(h, 48, 4), OK);
    assert_int_equal(resealed(h, 48, 5), ERR_CORRUPT); /* its own boundary */
    h.number = h.boundary = 0;
    memset(&h.previous, 0, 16);
    assert_int_equal(resealed(h, 48, 0), OK);
    assert_int_equal(resealed(h, 32, 1), ERR_CORRUPT); /* a predecessor of number 0 */
}

static void test_keys(void **state) {
    (void)state;
    char key[64];
    uint64_t n = 7;
    objlog_key(key, sizeof(key), "a/b", 42);
    assert_string_equal(key, "a/b/00000000000000000042");
    assert_true(objlog_key_parse("a/b", key, &n));
    assert_int_equal(n, 42);
    objlog_key(key, sizeof(key), "a/b", UINT64_MAX);
    assert_true(objlog_key_parse("a/b", key, &n));
    assert_true(n == UINT64_MAX);
    assert_true(store_key_valid(key));
    static const char *const bad[] = {"a/b/0000000000000000004",
                                      "a/b/000000000000000000042",
                                      "a/b/0000000000000000004x",
                                      "a/c/00000000000000000042",
                                      "a/b",
                                      "a/b/18446744073709551616",
                                      "a/b/99999999999999999999",
                                      "a/b/00000000000000000042/x",
                                      "a/b/-0000000000000000042"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_false(objlog_key_parse("a/b", bad[i], &n));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_sealed_nonsense),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
