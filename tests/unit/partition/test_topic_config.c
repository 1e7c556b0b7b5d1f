/* Topic configuration: values that are taken and refused, overrides, operations on lists, and what DescribeConfigs
 * shows. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <string.h>

#include "base/assert.h"
#include "partition/topic_config.h"

static char why[TOPIC_CONFIG_WHY_SIZE];

static enum err set(struct topic_config *c, const char *name, const char *value) {
    memset(why, 0, sizeof(why));
    enum err e = topic_config_set(c, name, value, why, sizeof(why));
    assert_int_equal(e != OK, why[0] != '\0');
    return e;
}

static void test_defaults_are_kafkas(void **state) {
    (void)state;
    struct topic_config c;
    topic_config_init(&c);
    assert_int_equal(c.cleanup_policy, TOPIC_CLEANUP_DELETE);
    assert_int_equal(c.compression_type, TOPIC_COMPRESSION_PRODUCER);
    assert_int_equal(c.max_message_bytes, 1048588);
    assert_int_equal(c.message_timestamp_type, TOPIC_CREATE_TIME);
    assert_int_equal(topic_config_before_max_ms(&c), INT64_MAX);
    assert_int_equal(topic_config_after_max_ms(&c), 3600000);
    assert_int_equal(c.retention_ms, 604800000);
    assert_int_equal(c.retention_bytes, -1);
    assert_int_equal(c.segment_bytes, 1073741824);
    assert_int_equal(c.segment_ms, 604800000);
    assert_int_equal(c.set, 0);
    /* Every default is one that would be taken. */
    struct topic_config_entry entry;
    size_t cursor = 0, count = 0;
    while (topic_config_describe(&c, NULL, 0, &cursor, &entry)) {
        struct topic_config again;
        topic_config_init(&again);
        assert_int_equal(set(&again, entry.name, entry.value), OK);
        again.set = 0;
        assert_memory_equal(&again, &c, sizeof(c));
        assert_true(entry.is_default && entry.source == TOPIC_SOURCE_DEFAULT && !entry.broker_set);
        assert_true(strlen(entry.text) > 20 && entry.text[strlen(entry.text) - 1] == '.');
        assert_string_equal(entry.value, entry.default_value);
        count++;
    }
    assert_int_equal(count, TOPIC_PROPERTIES - 3); /* without the names of old */
}

static void test_values(void **state) {
    (void)state;
    static const struct {
        const char *name, *value;
        bool taken;
    } cases[] = {
        {"retention.ms", "-1", true},
        {"retention.ms", " 12 ", true},
        {"retention.ms", "+12", true},
        {"retention.ms", "-2", false},
        {"retention.ms", "", false},
        {"retention.ms", "12x", false},
        {"retention.ms", "1 2", false},
        {"retention.ms", "0x10", false},
        {"retention.ms", "1e3", false},
        {"retention.ms", "9223372036854775807", true},
        {"retention.ms", "9223372036854775808", false},
        {"retention.ms", "00000000000000000000000000000000000000000000001", false},
        {"retention.bytes", "-9223372036854775808", true},
        {"max.message.bytes", "2147483647", true},
        {"max.message.bytes", "2147483648", false},
        {"max.message.bytes", "-1", false},
        {"segment.bytes", "14", true},
        {"segment.bytes", "13", false},
        {"segment.ms", "0", false},
        {"cleanup.policy", "compact, delete", true},
        {"cleanup.policy", "delete,delete", true},
        {"cleanup.policy", "Delete", false},
        {"cleanup.policy", "delete,purge", false},
        {"compression.type", "zstd", true},
        {"compression.type", "none", false},
        {"compression.gzip.level", "0", false},
        {"compression.gzip.level", "-1", true},
        {"compression.gzip.level", "10", false},
        {"compression.lz4.level", "18", false},
        {"compression.zstd.level", "-131072", true},
        {"message.timestamp.type", "LogAppendTime", true},
        {"message.timestamp.type", "logappendtime", false},
        {"preallocate", "TRUE", true},
        {"preallocate", "yes", false},
        {"unclean.leader.election.enable", "false", true},
        {"min.cleanable.dirty.ratio", "0.25", true},
        {"min.cleanable.dirty.ratio", "1.5", false},
        {"min.cleanable.dirty.ratio", "nan", false},
        {"min.cleanable.dirty.ratio", "0.5x", false},
        {"min.insync.replicas", "0", false},
        {"leader.replication.throttled.replicas", "*", true},
        {"leader.replication.throttled.replicas", "0:1,10:22", true},
        {"leader.replication.throttled.replicas", "", true},
        {"leader.replication.throttled.replicas", "0:1,x", false},
        {"leader.replication.throttled.replicas", "0:", false},
        {"leader.replication.throttled.replicas", ":1", false},
        {"leader.replication.throttled.replicas", "1:2:3", false},
        {"leader.replication.throttled.replicas", "*,1:1", false},
        {"local.retention.ms", "-2", true},
        {"local.retention.ms", "-3", false},
        {"segment.index.bytes", "3", false},
        {"message.format.version", "2.8", true},
        {"retention.minutes", "1", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct topic_config c, before;
        topic_config_init(&c);
        before = c;
        enum err e = set(&c, cases[i].name, cases[i].value);
        if (e != (cases[i].taken ? OK : ERR_INVALID_CONFIG))
            fail_msg("%s=%s: %s (%s)", cases[i].name, cases[i].value, err_name(e), why);
        if (!cases[i].taken) assert_memory_equal(&c, &before, sizeof(c));
    }
}

static void test_messages(void **state) {
    (void)state;
    struct topic_config c;
    topic_config_init(&c);
    (void)set(&c, "retention.ms", "soon");
    assert_string_equal(why, "retention.ms: expected a whole number of at least -1 that fits 64 bits, found 'soon'");
    (void)set(&c, "compression.lz4.level", "99");
    assert_string_equal(why, "compression.lz4.level: expected a whole number from 1 to 17, found '99'");
    (void)set(&c, "compression.type", "brotli");
    assert_string_equal(why,
                        "compression.type: expected one of producer|uncompressed|gzip|snappy|lz4|zstd, found 'brotli'");
    (void)set(&c, "retention.sm", "1");
    assert_string_equal(why, "Unknown topic config name: retention.sm (nearest: retention.ms)");
    (void)set(&c, "something else", "1");
    assert_string_equal(why, "Unknown topic config name: something else");
    /* Long values are cut, short buffers respected. */
    char large[2000], small[16];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(topic_config_set(&c, "retention.ms", large, small, sizeof(small)), ERR_INVALID_CONFIG);
    assert_int_equal(topic_config_set(&c, large, large, why, sizeof(why)), ERR_INVALID_CONFIG);
}

#define OVERRIDE(n, v)                                                                                                 \
    { (char *)(uintptr_t)(n), (char *)(uintptr_t)(v) }

static void test_overrides(void **state) {
    (void)state;
    struct topic_config defaults, c;
    topic_config_init(&defaults);
    assert_int_equal(set(&defaults, "retention.ms", "5000"), OK);
    const struct meta_config good[] = {OVERRIDE("retention.bytes", "77"), OVERRIDE("cleanup.policy", "compact"),
                                       OVERRIDE("preallocate", "true")};
    assert_int_equal(topic_config_resolve(&defaults, good, 3, &c, NULL, why, sizeof(why)), OK);
    assert_int_equal(c.retention_ms, 5000);
    assert_int_equal(c.retention_bytes, 77);
    assert_int_equal(c.cleanup_policy, TOPIC_CLEANUP_COMPACT);
    const struct meta_config bad[] = {OVERRIDE("retention.bytes", "77"), OVERRIDE("nonsense.of.tomorrow", "1"),
                                      OVERRIDE("segment.ms", "x"), OVERRIDE("segment.bytes", "99")};
    assert_int_equal(topic_config_resolve(&defaults, bad, 4, &c, NULL, why, sizeof(why)), ERR_INVALID_CONFIG);
    topic_config_apply(&defaults, bad, 4, &c);
    assert_int_equal(c.retention_bytes, 77);
    assert_int_equal(c.segment_ms, 604800000);
    assert_int_equal(c.segment_bytes, 99);
    const struct meta_config none[] = {OVERRIDE("retention.ms", NULL)};
    assert_int_equal(topic_config_resolve(&defaults, none, 1, &c, NULL, why, sizeof(why)), ERR_INVALID_CONFIG);
    topic_config_apply(&defaults, none, 1, &c);
    const struct meta_config lags[] = {OVERRIDE("min.compaction.lag.ms", "10"), OVERRIDE("max.compaction.lag.ms", "9")};
    assert_int_equal(topic_config_resolve(&defaults, lags, 2, &c, NULL, why, sizeof(why)), ERR_INVALID_CONFIG);
    assert_int_equal(topic_config_resolve(&defaults, lags, 1, &c, NULL, why, sizeof(why)), OK);
}

static void test_few_suggestions(void **state) {
    (void)state;
    struct topic_config defaults, c;
    topic_config_init(&defaults);
    const struct meta_config wrong[] = {OVERRIDE("retention.sm", "1")};
    struct buf value;
    bool remove;
    buf_init(&value, NULL);
    unsigned suggestions = 2, told = 0;
    for (unsigned i = 0; i < 10; i++) {
        enum err e = i % 2 ? topic_config_resolve(&defaults, wrong, 1, &c, &suggestions, why, sizeof(why))
                           : topic_config_alter(&defaults, NULL, 0, TOPIC_CONFIG_SET, "retention.sm", "1", &value,
                                                &remove, &suggestions, why, sizeof(why));
        assert_int_equal(e, ERR_INVALID_CONFIG);
        assert_memory_equal(why, "Unknown topic config name: retention.sm", 39);
        told += strstr(why, "nearest") != NULL;
    }
    assert_int_equal(told, 2);
    assert_int_equal(suggestions, 0);
}

/* The old limit for timestamps gives way to the newer two where the topic has those; what the broker has as their
 * defaults does not count. */
static void test_old_timestamp_limit(void **state) {
    (void)state;
    struct topic_config defaults, c;
    topic_config_init(&defaults);
    assert_int_equal(set(&defaults, "message.timestamp.before.max.ms", "100"), OK);
    assert_int_equal(set(&defaults, "message.timestamp.after.max.ms", "200"), OK);
    const struct meta_config overrides[] = {OVERRIDE("message.timestamp.difference.max.ms", "7"),
                                            OVERRIDE("message.timestamp.after.max.ms", "9")};
    topic_config_apply(&defaults, overrides, 0, &c);
    assert_int_equal(topic_config_before_max_ms(&c), 100);
    assert_int_equal(topic_config_after_max_ms(&c), 200);
    topic_config_apply(&defaults, overrides, 1, &c);
    assert_int_equal(topic_config_before_max_ms(&c), 7);
    assert_int_equal(topic_config_after_max_ms(&c), 7);
    assert_int_equal(topic_config_resolve(&defaults, overrides, 2, &c, NULL, why, sizeof(why)), OK);
    assert_int_equal(topic_config_before_max_ms(&c), 7);
    assert_int_equal(topic_config_after_max_ms(&c), 9);
}

static const char *alter(struct mem *m, int op, const char *name, const char *operand, enum err expected) {
    static char text[128];
    struct topic_config defaults;
    topic_config_init(&defaults);
    const struct meta_config overrides[] = {OVERRIDE("leader.replication.throttled.replicas", "0:1,1:2"),
                                            OVERRIDE("retention.ms", "7")};
    struct buf value;
    buf_init(&value, m);
    bool remove;
    enum err e =
        topic_config_alter(&defaults, overrides, 2, op, name, operand, &value, &remove, NULL, why, sizeof(why));
    if (e != expected) fail_msg("%d %s %s: %s (%s)", op, name, operand ? operand : "(null)", err_name(e), why);
    text[0] = '\0';
    if (e == OK && remove) {
        strcpy(text, "removed");
    } else if (e == OK) {
        assert_true(value.size <= sizeof(text));
        memcpy(text, value.data, value.size);
    } else {
        assert_int_equal(value.size, 0);
    }
    buf_deinit(&value);
    return text;
}

static void test_alter(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    assert_string_equal(alter(&m, TOPIC_CONFIG_SET, "retention.ms", "99", OK), "99");
    (void)alter(&m, TOPIC_CONFIG_SET, "retention.ms", "x", ERR_INVALID_CONFIG);
    (void)alter(&m, TOPIC_CONFIG_SET, "retention.ms", NULL, ERR_INVALID_REQUEST);
    (void)alter(&m, 4, "retention.ms", "1", ERR_INVALID_REQUEST);
    (void)alter(&m, -1, "retention.ms", "1", ERR_INVALID_REQUEST);
    (void)alter(&m, TOPIC_CONFIG_SET, "no.such", "1", ERR_INVALID_CONFIG);
    assert_string_equal(alter(&m, TOPIC_CONFIG_DELETE, "no.such", NULL, OK), "removed"); /* tools clean up */
    assert_string_equal(alter(&m, TOPIC_CONFIG_DELETE, "retention.ms", NULL, OK), "removed");
    (void)alter(&m, TOPIC_CONFIG_APPEND, "retention.ms", "1", ERR_INVALID_CONFIG);
    assert_string_equal(why, "Can't APPEND to key retention.ms because its type is not LIST");
    /* The default counts where nothing is set. */
    assert_string_equal(alter(&m, TOPIC_CONFIG_APPEND, "cleanup.policy", "compact", OK), "delete,compact");
    assert_string_equal(alter(&m, TOPIC_CONFIG_APPEND, "cleanup.policy", "delete", OK), "delete");
    assert_string_equal(alter(&m, TOPIC_CONFIG_SUBTRACT, "cleanup.policy", "delete", OK), "");
    (void)alter(&m, TOPIC_CONFIG_APPEND, "cleanup.policy", "burn", ERR_INVALID_CONFIG);
    assert_string_equal(alter(&m, TOPIC_CONFIG_APPEND, "leader.replication.throttled.replicas", "1:2, 5:6", OK),
                        "0:1,1:2,5:6");
    assert_string_equal(alter(&m, TOPIC_CONFIG_SUBTRACT, "leader.replication.throttled.replicas", "0:1,9:9", OK),
                        "1:2");
    assert_int_equal(m.allocated_bytes, 0);
}

static void test_describe(void **state) {
    (void)state;
    struct topic_config defaults;
    topic_config_init(&defaults);
    assert_int_equal(set(&defaults, "retention.ms", "5000"), OK);
    const struct meta_config overrides[] = {
        OVERRIDE("retention.bytes", " 77"), OVERRIDE("cleanup.policy", "compact,delete"),
        OVERRIDE("follower.replication.throttled.replicas", "1:1"), OVERRIDE("message.format.version", "2.8")};
    struct topic_config_entry e;
    size_t cursor = 0;
    unsigned seen = 0;
    char previous[64] = "";
    while (topic_config_describe(&defaults, overrides, ARRAY_LEN(overrides), &cursor, &e)) {
        assert_true(strcmp(previous, e.name) < 0);
        strncpy(previous, e.name, sizeof(previous) - 1);
        assert_int_equal(e.property, topic_config_find(e.name));
        if (strcmp(e.name, "retention.bytes") == 0) {
            seen++;
            assert_string_equal(e.value, "77");
            assert_string_equal(e.broker_value, "-1");
            assert_true(e.source == TOPIC_SOURCE_TOPIC && !e.is_default && e.effect && e.type == TOPIC_TYPE_LONG);
            assert_string_equal(e.synonym, "log.retention.bytes");
        } else if (strcmp(e.name, "retention.ms") == 0) {
            seen++;
            assert_string_equal(e.value, "5000");
            assert_string_equal(e.default_value, "604800000");
            assert_true(e.source == TOPIC_SOURCE_BROKER && e.is_default && e.broker_set);
        } else if (strcmp(e.name, "cleanup.policy") == 0) {
            seen++;
            assert_string_equal(e.value, "compact,delete");
            assert_int_equal(e.type, TOPIC_TYPE_LIST);
        } else if (strcmp(e.name, "follower.replication.throttled.replicas") == 0) {
            seen++;
            assert_string_equal(e.value, "1:1");
            assert_string_equal(e.synonym, "");
            assert_false(e.effect);
        } else if (strcmp(e.name, "message.format.version") == 0) {
            seen++;
            assert_string_equal(e.value, "2.8");
        } else if (strcmp(e.name, "compression.type") == 0) {
            seen++;
            assert_string_equal(e.value, "producer");
            assert_int_equal(e.type, TOPIC_TYPE_STRING);
        }
        assert_string_not_equal(e.name, "message.downconversion.enable");
    }
    assert_int_equal(seen, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_kafkas),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_few_suggestions),
        cmocka_unit_test(test_alter),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_old_timestamp_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
