/* What members of a group send each other: there and back, cut off anywhere, and counts that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/consumer_protocol.h"

static void test_assignment(void **state) {
    (void)state;
    struct mem m;
    struct arena a;
    struct buf out;
    mem_init_heap(&m);
    arena_init(&a, &m);
    buf_init(&out, &m);
    int32_t one[] = {0, 2, 5}, two[] = {1};
    struct assigned_topic topics[] = {{kafka_string_of("orders"), {one, 3}}, {kafka_string_of("x"), {two, 1}}};
    struct assignment from = {topics, 2}, to;
    assignment_encode(&from, &out);
    /* As the Java client writes it: version 0, two topics, no user data. */
    static const uint8_t expected[] =
        "\0\0\0\0\0\2\0\6orders\0\0\0\3\0\0\0\0\0\0\0\2\0\0\0\5\0\1x\0\0\0\1\0\0\0\1\xff\xff\xff\xff";
    assert_int_equal(out.size, sizeof(expected) - 1);
    assert_memory_equal(out.data, expected, out.size);
    assert_true(assignment_decode(out.data, out.size, &a, &to));
    assert_int_equal(to.count, 2);
    assert_true(kafka_string_equal(to.topics[0].topic, topics[0].topic));
    assert_int_equal(to.topics[0].partitions.count, 3);
    assert_memory_equal(to.topics[0].partitions.items, one, sizeof(one));
    for (size_t size = 1; size < out.size - 4; size++) assert_false(assignment_decode(out.data, size, &a, &to));
    assert_true(assignment_decode(out.data, 0, &a, &to));
    assert_int_equal(to.count, 0);
    memcpy(out.data + 2, "\x7f\xff\xff\xff", 4);
    assert_false(assignment_decode(out.data, out.size, &a, &to));
    assert_true(a.held_bytes < 1 << 20); /* nothing was reserved for it */
    buf_deinit(&out);
    arena_deinit(&a);
}

static void test_subscription(void **state) {
    (void)state;
    struct mem m;
    struct arena a;
    struct buf out;
    mem_init_heap(&m);
    arena_init(&a, &m);
    buf_init(&out, &m);
    struct kafka_string names[] = {kafka_string_of("a"), kafka_string_of("bc")};
    struct kafka_string_array got;
    subscription_encode(names, 2, &out);
    assert_true(subscription_decode(out.data, out.size, &a, &got));
    assert_int_equal(got.count, 2);
    assert_true(kafka_string_equal(got.items[1], names[1]));
    for (size_t size = 0; size < out.size - 4; size++) assert_false(subscription_decode(out.data, size, &a, &got));
    buf_deinit(&out);
    arena_deinit(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_assignment), cmocka_unit_test(test_subscription)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
