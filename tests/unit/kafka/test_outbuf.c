/* The output buffer: what goes in comes out in order; large slices by reference, small ones by copy. */
#include "message_test.h"

#include "kafka/outbuf.h"

static struct mem heap;

static void test_order_of_everything(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    for (int round = 0; round < 100; round++) {
        struct outbuf o;
        struct buf expected;
        outbuf_init(&o, &heap);
        buf_init(&expected, &heap);
        for (int i = 0; i < 60; i++) {
            uint8_t bytes[9000];
            size_t n = rng_chance(&r, 0.7) ? rng_below(&r, 20) : rng_below(&r, sizeof(bytes));
            rng_fill(&r, bytes, n);
            if (rng_chance(&r, 0.4)) {
                struct slab *s = slab_create(&heap, n ? n : 1, 16);
                memcpy(s->data, bytes, n);
                struct slice slice = slice_of(s, 0, n);
                outbuf_slice(&o, &slice);
                slice_unref(&slice);
                slab_unref(s);
            } else if (rng_chance(&r, 0.5)) {
                outbuf_put(&o, bytes, n);
            } else {
                uint8_t *p = outbuf_extend(&o, n);
                if (n) memcpy(p, bytes, n);
            }
            buf_put(&expected, bytes, n);
            assert_int_equal(outbuf_size(&o), expected.size);
        }
        size_t size;
        uint8_t *all = flatten(&o, &size);
        assert_int_equal(size, expected.size);
        assert_memory_equal(all, expected.data, size);
        assert_int_equal(outbuf_size(&o), 0);
        free(all);
        buf_deinit(&expected);
        outbuf_deinit(&o);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_integers(void **state) {
    (void)state;
    struct outbuf o;
    outbuf_init(&o, &heap);
    outbuf_u8(&o, 1);
    outbuf_be16(&o, 0x0203);
    outbuf_be32(&o, 0x04050607);
    outbuf_be64(&o, 0x08090a0b0c0d0e0f);
    outbuf_uvarint(&o, 0);
    outbuf_uvarint(&o, 127);
    outbuf_uvarint(&o, 128);
    outbuf_uvarint(&o, UINT32_MAX);
    static const uint8_t expected[] = {1,  2,  3,  4, 5,   6,    7, 8,    9,    10,   11,   12,
                                       13, 14, 15, 0, 127, 0x80, 1, 0xff, 0xff, 0xff, 0xff, 0x0f};
    size_t size;
    uint8_t *all = flatten(&o, &size);
    assert_int_equal(size, sizeof(expected));
    assert_memory_equal(all, expected, size);
    free(all);
    outbuf_deinit(&o);
}

static void test_references(void **state) {
    (void)state;
    struct slab *s = slab_create(&heap, 20000, 16);
    memset(s->data, 7, 20000);
    struct outbuf o;
    struct slices out;
    outbuf_init(&o, &heap);
    slices_init(&out, &heap);
    struct slice large = slice_of(s, 100, OUTBUF_REFERENCE_MIN), small = slice_of(s, 0, OUTBUF_REFERENCE_MIN - 1);
    outbuf_u8(&o, 1);
    outbuf_slice(&o, &large);
    outbuf_u8(&o, 2);
    outbuf_slice(&o, &small);
    outbuf_finish(&o, &out);
    assert_ptr_equal(out.items[1].data, s->data + 100);
    assert_int_equal(out.items[1].size, OUTBUF_REFERENCE_MIN);
    assert_int_equal(s->refs, 4);
    for (size_t i = 0; i < out.count; i++) assert_true(i == 1 || out.items[i].slab != s);
    assert_int_equal(out.size_bytes, 2 * OUTBUF_REFERENCE_MIN + 1);
    /* The result keeps itself alive when the buffer and the caller have let go. */
    outbuf_deinit(&o);
    slice_unref(&large);
    slice_unref(&small);
    slab_unref(s);
    assert_int_equal(out.items[1].data[4095], 7);
    slices_deinit(&out);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_clear_and_pointer_stability(void **state) {
    (void)state;
    struct outbuf o;
    outbuf_init(&o, &heap);
    assert_int_equal(heap.allocated_bytes, 0);
    outbuf_be32(&o, 5);
    outbuf_clear(&o);
    assert_int_equal(outbuf_size(&o), 0);
    uint8_t *size_field = outbuf_extend(&o, 4);
    for (int i = 0; i < 100000; i++) outbuf_u8(&o, 9);
    be32_put(size_field, 100000);
    size_t size;
    uint8_t *all = flatten(&o, &size);
    assert_int_equal(size, 100004);
    assert_int_equal(be32_get(all), 100000);
    free(all);
    /* Usable again, behind what was finished. */
    outbuf_u8(&o, 3);
    all = flatten(&o, &size);
    assert_int_equal(size, 1);
    assert_int_equal(all[0], 3);
    free(all);
    outbuf_deinit(&o);
    assert_int_equal(heap.allocated_bytes, 0);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_everything),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_clear_and_pointer_stability),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
