/* Which partition of __consumer_offsets is a group's: clients and tools compute it too, so that it must be Java's hash,
 * for every string. The expected numbers are those of Java's String.hashCode. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/coordinator.h"

static void check(const char *group, int32_t hash) {
    size_t n = strlen(group);
    int32_t positive = hash == INT32_MIN ? 0 : hash < 0 ? -hash : hash; /* Kafka's Utils.abs */
    assert_int_equal(offsets_topic_partition(group, n, 1000003), positive % 1000003);
    assert_int_equal(offsets_topic_partition(group, n, 50), positive % 50);
    assert_int_equal(offsets_topic_partition(group, n, 1), 0);
}

static void test_partition(void **unused) {
    (void)unused;
    check("", 0);
    check("a", 97);
    check("group", 98629247);
    check("my-consumer-group", 1513705513);
    check("console-consumer-12345", 158455506);
    check("Gr\xc3\xb6\xc3\x9f" "e", 69209585);
    check("\xe4\xbd\xa0\xe5\xa5\xbd", 652829);
    check("\xf0\x9f\x98\x80 z", 1703757053);
    check("orders-v2", -390713756);
    check("analytics", -1693017210);
    check("polygenelubricants", INT32_MIN);
    check("\xef\xbf\xbd\xef\xbf\xbd", 2097056);
    /* A byte that begins no character counts as a replacement character. */
    assert_int_equal(offsets_topic_partition("\xff\xfe", 2, 1000003), 2097056 % 1000003);
}

static void test_internal(void **unused) {
    (void)unused;
    assert_true(topic_is_internal("__consumer_offsets", 18));
    assert_true(topic_is_internal("__transaction_state", 19));
    assert_false(topic_is_internal("__consumer_offset", 17));
    assert_false(topic_is_internal("__consumer_offsets2", 19));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_partition), cmocka_unit_test(test_internal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
