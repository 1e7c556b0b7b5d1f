/* Integers in memory, the cursor over untrusted bytes, the growing buffer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/random.h"

static void test_accessors(void **state) {
    (void)state;
    uint8_t b[9];
    le16_put(b + 1, 0x1234);
    assert_memory_equal(b + 1, "\x34\x12", 2);
    assert_int_equal(le16_get(b + 1), 0x1234);
    be16_put(b + 1, 0x1234);
    assert_memory_equal(b + 1, "\x12\x34", 2);
    assert_int_equal(be16_get(b + 1), 0x1234);
    le32_put(b + 1, 0x12345678);
    assert_memory_equal(b + 1, "\x78\x56\x34\x12", 4);
    assert_int_equal(le32_get(b + 1), 0x12345678);
    be32_put(b + 1, 0x12345678);
    assert_memory_equal(b + 1, "\x12\x34\x56\x78", 4);
    assert_int_equal(be32_get(b + 1), 0x12345678);
    le64_put(b + 1, 0x0123456789abcdefull);
    assert_memory_equal(b + 1, "\xef\xcd\xab\x89\x67\x45\x23\x01", 8);
    assert_true(le64_get(b + 1) == 0x0123456789abcdefull);
    be64_put(b + 1, 0x0123456789abcdefull);
    assert_memory_equal(b + 1, "\x01\x23\x45\x67\x89\xab\xcd\xef", 8);
    assert_true(be64_get(b + 1) == 0x0123456789abcdefull);
}

static void test_buffer_and_reader(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct buf b;
    buf_init(&b, &m);
    buf_u8(&b, 0xab);
    buf_u16(&b, 0x1234);
    buf_u32(&b, 0xdeadbeef);
    buf_u64(&b, 0x0123456789abcdefull);
    buf_varint(&b, 300);
    buf_put(&b, "hello", 5);
    buf_put(&b, NULL, 0);
    buf_zero(&b, 3);
    buf_printf(&b, "%d-%s", 42, "x");
    assert_int_equal(b.size, 1 + 2 + 4 + 8 + 2 + 5 + 3 + 4);
    struct reader nothing = reader_of(NULL, 0);
    assert_true(reader_left(&nothing) == 0 && !reader_bytes(&nothing, 0) && !nothing.failed);
    assert_true(reader_u8(&nothing) == 0 && nothing.failed);
    struct reader r = reader_of(b.data, b.size);
    assert_int_equal(reader_u8(&r), 0xab);
    assert_int_equal(reader_u16(&r), 0x1234);
    assert_true(reader_u32(&r) == 0xdeadbeef);
    assert_true(reader_u64(&r) == 0x0123456789abcdefull);
    assert_int_equal(reader_varint(&r), 300);
    assert_memory_equal(reader_bytes(&r, 5), "hello", 5);
    assert_memory_equal(reader_bytes(&r, 3), "\0\0\0", 3);
    assert_memory_equal(reader_bytes(&r, 4), "42-x", 4);
    assert_int_equal(reader_left(&r), 0);
    assert_false(r.failed);
    assert_non_null(reader_bytes(&r, 0));
    assert_int_equal(reader_u8(&r), 0);
    assert_true(r.failed);
    buf_deinit(&b);
    assert_int_equal(m.allocated_bytes, 0);
}

/* Past the end: zero, and the failure stays, even for what would fit. */
static void test_reader_fails_for_good(void **state) {
    (void)state;
    uint8_t data[7] = {1, 2, 3, 4, 5, 6, 7};
    struct reader r = reader_of(data, sizeof(data));
    assert_true(reader_u64(&r) == 0);
    assert_true(r.failed);
    assert_int_equal(reader_u8(&r), 0);
    assert_null(reader_bytes(&r, 1));
    r = reader_of(data, 3);
    assert_int_equal(reader_u32(&r), 0);
    r = reader_of(data, 1);
    assert_int_equal(reader_u16(&r), 0);
    assert_true(r.failed);
    r = reader_of(data, sizeof(data));
    assert_null(reader_bytes(&r, SIZE_MAX));
    r = reader_of(NULL, 0);
    assert_int_equal(reader_u8(&r), 0);
    assert_true(r.failed);
}

static void test_varint(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct buf b;
    buf_init(&b, &m);
    struct rng g;
    rng_seed(&g, 3);
    for (int i = 0; i < 2000; i++) {
        uint64_t v = rng_next(&g) >> rng_below(&g, 64);
        b.size = 0;
        buf_varint(&b, v);
        struct reader r = reader_of(b.data, b.size);
        assert_true(reader_varint(&r) == v);
        assert_true(!r.failed && reader_left(&r) == 0);
        for (size_t cut = 0; cut < b.size; cut++) {
            r = reader_of(b.data, cut);
            assert_true(reader_varint(&r) == 0 && r.failed);
        }
    }
    b.size = 0;
    buf_varint(&b, UINT64_MAX);
    assert_int_equal(b.size, 10);
    struct reader r = reader_of(b.data, b.size);
    assert_true(reader_varint(&r) == UINT64_MAX);
    b.data[9] = 2; /* bit 64 */
    r = reader_of(b.data, b.size);
    assert_true(reader_varint(&r) == 0 && r.failed);
    b.data[9] = 0x81; /* an eleventh byte */
    buf_u8(&b, 0);
    r = reader_of(b.data, b.size);
    assert_true(reader_varint(&r) == 0 && r.failed);
    buf_deinit(&b);
}

static void test_buffer_grows(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct buf b;
    buf_init(&b, &m);
    for (unsigned i = 0; i < 10000; i++) buf_u32(&b, i);
    for (unsigned i = 0; i < 10000; i++) assert_int_equal(le32_get(b.data + 4 * i), i);
    buf_reserve(&b, 1000000);
    assert_true(b.capacity >= 1040000 && b.size == 40000);
    size_t capacity = b.capacity;
    memset(buf_extend(&b, 1000000), 7, 1000000);
    assert_int_equal(b.capacity, capacity);
    buf_deinit(&b);
    assert_int_equal(m.allocated_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accessors),
        cmocka_unit_test(test_buffer_and_reader),
        cmocka_unit_test(test_reader_fails_for_good),
        cmocka_unit_test(test_varint),
        cmocka_unit_test(test_buffer_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
