/* Kafka's hash of keys, against the vectors of its own tests, and the partitions that follow from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "cli/partitioner.h"

static const struct {
    const char *key;
    int32_t hash;
} vectors[] = {
    {"21", -973932308},
    {"foobar", -790332482},
    {"a-little-bit-long-string", -985981536},
    {"a-little-bit-longer-string", -1486304829},
    {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
    {"abc", 479470107},
};

static void test_vectors(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        assert_int_equal((int32_t)murmur2(vectors[i].key, strlen(vectors[i].key)), vectors[i].hash);
    }
}

/* Bytes above 127 are no negative numbers, wherever they stand. */
static void test_high_bytes(void **state) {
    (void)state;
    uint8_t low[7], high[7];
    for (size_t n = 1; n <= sizeof(low); n++) {
        memset(low, 0x7f, n);
        memset(high, 0xff, n);
        assert_int_not_equal(murmur2(low, n), murmur2(high, n));
    }
    /* The tail of three bytes by hand: h = (seed ^ 3 ^ tail) * m, then the end of the hash. */
    uint32_t h = (0x9747b28cu ^ 3u ^ 0xffffffu) * 0x5bd1e995u;
    h = (h ^ (h >> 13)) * 0x5bd1e995u;
    assert_int_equal(murmur2(high, 3), h ^ (h >> 15));
}

static void test_partitions(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        int32_t positive = vectors[i].hash & 0x7fffffff;
        for (int32_t n = 1; n < 20; n++) {
            assert_int_equal(partition_of_key(vectors[i].key, strlen(vectors[i].key), n), positive % n);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_high_bytes),
        cmocka_unit_test(test_partitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
