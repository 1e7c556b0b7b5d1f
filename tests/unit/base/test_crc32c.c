/* Known answers, and the two ways to reach the same checksum: in one piece, and combined from parts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
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

/* Sizes whose every bit is used: the table of powers is right up to the last one that a test can reach by squaring. */
static void test_combine_far_apart(void **state) {
    (void)state;
    /* Appending 2^k zero bytes twice is appending 2^(k+1) of them once. */
    uint32_t c = crc32c(0, "123456789", 9);
    for (int k = 0; k < 63; k++) {
        uint64_t size = 1ull << k;
        uint32_t twice = crc32c_combine(crc32c_combine(c, 0, size), 0, size);
        assert_int_equal(twice, crc32c_combine(c, 0, size * 2));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_continues),
        cmocka_unit_test(test_combine),
        cmocka_unit_test(test_combine_far_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
