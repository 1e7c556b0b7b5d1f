/* Known answers, and the two ways to reach the same checksum: in one piece, and combined from parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The source, for the way to combine that this processor may have no need of. */
#include "base/crc32c.c"
#include "base/random.h"

static void test_known_answers(void **state) {
    (void)state;
    uint8_t b[32];
    assert_int_equal(crc32c(0, "", 0), 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    /* RFC 3720, appendix B.4. */
    memset(b, 0, sizeof(b));
    assert_int_equal(crc32c(0, b, sizeof(b)), 0x8a9136aau);
    memset(b, 0xff, sizeof(b));
    assert_int_equal(crc32c(0, b, sizeof(b)), 0x62a8ab43u);
    for (size_t i = 0; i < sizeof(b); i++) b[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, b, sizeof(b)), 0x46dd794eu);
    for (size_t i = 0; i < sizeof(b); i++) b[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(0, b, sizeof(b)), 0x113fdb5cu);
}

static void test_continues(void **state) {
    (void)state;
    static uint8_t data[4099];
    struct rng r;
    rng_seed(&r, 1);
    rng_fill(&r, data, sizeof(data));
    uint32_t whole = crc32c(0, data, sizeof(data));
    for (int i = 0; i < 200; i++) {
        size_t cut = rng_below(&r, sizeof(data) + 1);
        assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut), whole);
    }
}

static void test_combine(void **state) {
    (void)state;
    static uint8_t data[70001];
    struct rng r;
    rng_seed(&r, 2);
    rng_fill(&r, data, sizeof(data));
    for (int i = 0; i < 300; i++) {
        size_t size = rng_below(&r, sizeof(data) + 1), cut = rng_below(&r, size + 1);
        uint32_t a = crc32c(0, data, cut), b = crc32c(0, data + cut, size - cut);
        assert_int_equal(crc32c_combine(a, b, size - cut), crc32c(0, data, size));
    }
    /* Empty parts on either side. */
    uint32_t c = crc32c(0, data, 1000);
    assert_int_equal(crc32c_combine(c, 0, 0), c);
    assert_int_equal(crc32c_combine(0, c, 1000), c);
}

/* What n zero bytes do to a checksum, known without polynomials: a linear map, column by column from the definition for
 * one byte, and squared for 2, 4, 8, ... of them. */
struct zeros {
    uint32_t columns[64][32]; /* [k][i]: what 2^k zero bytes make of bit i */
};

static uint32_t map_bits(const uint32_t columns[32], uint32_t bits) {
    uint32_t out = 0;
    for (unsigned i = 0; i < 32; i++) {
        if (bits >> i & 1) out ^= columns[i];
    }
    return out;
}

static void zeros_init(struct zeros *z) {
    for (unsigned i = 0; i < 32; i++) {
        uint32_t bits = 1u << i;
        for (unsigned k = 0; k < 8; k++) bits = (bits >> 1) ^ (bits & 1 ? 0x82f63b78u : 0);
        z->columns[0][i] = bits;
    }
    for (unsigned k = 1; k < 64; k++) {
        for (unsigned i = 0; i < 32; i++) z->columns[k][i] = map_bits(z->columns[k - 1], z->columns[k - 1][i]);
    }
}

static void check_zeros(const struct zeros *z, uint32_t crc, uint64_t size) {
    uint32_t expected = crc;
    for (unsigned k = 0; k < 64; k++) {
        if (size >> k & 1) expected = map_bits(z->columns[k], expected);
    }
    assert_int_equal(append_zeros_anywhere(crc, size), expected);
    assert_int_equal(crc32c_combine(crc, 0x12345678, size), expected ^ 0x12345678);
}

/* Every entry of the table of powers, and any size that 64 bits hold, in both ways to multiply. */
static void test_combine_far_apart(void **state) {
    (void)state;
    static struct zeros z;
    zeros_init(&z);
    struct rng r;
    rng_seed(&r, 3);
    for (unsigned row = 0; row < 16; row++) {
        for (uint64_t digit = 0; digit < 16; digit++) check_zeros(&z, (uint32_t)rng_next(&r) | 1, digit << (4 * row));
    }
    for (int i = 0; i < 1000; i++) check_zeros(&z, (uint32_t)rng_next(&r), rng_next(&r) >> rng_below(&r, 64));
    for (unsigned i = 0; i < 32; i++) check_zeros(&z, 1u << i, 1ull << 40);
    check_zeros(&z, 0xffffffffu, UINT64_MAX);
}

/* One is made of the other, down to a byte at a time. */
static void test_combine_bytes(void **state) {
    (void)state;
    static uint8_t data[300];
    struct rng r;
    rng_seed(&r, 4);
    rng_fill(&r, data, sizeof(data));
    uint32_t all = 0;
    for (size_t i = 0; i < sizeof(data); i++) {
        all = crc32c_combine(all, crc32c(0, data + i, 1), 1);
        assert_int_equal(all, crc32c(0, data, i + 1));
        uint32_t front = crc32c(0, data, i), back = crc32c(0, data + i, sizeof(data) - i);
        assert_int_equal(append_zeros_anywhere(front, sizeof(data) - i) ^ back, crc32c(0, data, sizeof(data)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),     cmocka_unit_test(test_continues),     cmocka_unit_test(test_combine),
        cmocka_unit_test(test_combine_far_apart), cmocka_unit_test(test_combine_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
