/* Slabs live as long as a slice refers to them, and no longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/slice.h"

static void test_references(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct slab *s = slab_create(&m, 100, 64);
    assert_int_equal((uintptr_t)s->data % 64, 0);
    memcpy(s->data, "0123456789", 10);
    struct slice a = slice_of(s, 2, 5), b = slice_sub(a, 1, 3);
    assert_memory_equal(a.data, "23456", 5);
    assert_memory_equal(b.data, "345", 3);
    assert_int_equal(s->refs, 3);
    slab_unref(s);
    slice_unref(&a);
    assert_null(a.data);
    assert_null(a.slab);
    assert_true(m.allocated_bytes > 0);
    assert_memory_equal(b.data, "345", 3);
    slice_unref(&b);
    assert_int_equal(m.allocated_bytes, 0);
    slab_unref(NULL);
    slice_unref(&b); /* an empty one */
}

static void test_borrowed(void **state) {
    (void)state;
    struct slice a = slice_borrow("hello", 5), b = slice_sub(a, 1, 2), empty = slice_sub(a, 5, 0);
    assert_memory_equal(b.data, "el", 2);
    assert_null(b.slab);
    assert_int_equal(empty.size, 0);
    slice_unref(&a);
    slice_unref(&b);
}

static void count_release(struct slab *s) {
    ++*(int *)s->owner;
}

static void test_embedded_slab(void **state) {
    (void)state;
    uint8_t data[16];
    int released = 0;
    struct slab s;
    slab_init(&s, data, sizeof(data), count_release, &released);
    struct slice a = slice_of(&s, 0, 16);
    slab_unref(&s);
    assert_int_equal(released, 0);
    slice_unref(&a);
    assert_int_equal(released, 1);
}

static void test_slices(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct slab *s = slab_create(&m, 100, 16);
    struct slices v;
    slices_init(&v, &m);
    for (size_t i = 0; i < 50; i++) slices_push(&v, slice_of(s, i, i));
    assert_int_equal(v.count, 50);
    assert_int_equal(v.size_bytes, 49 * 50 / 2);
    assert_int_equal(s->refs, 51);
    slices_clear(&v);
    assert_int_equal(v.size_bytes, 0);
    assert_int_equal(s->refs, 1);
    slices_push(&v, slice_of(s, 0, 1));
    slices_deinit(&v);
    slab_unref(s);
    assert_int_equal(m.allocated_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_borrowed),
        cmocka_unit_test(test_embedded_slab),
        cmocka_unit_test(test_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
