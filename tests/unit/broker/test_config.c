/* The configuration: defaults, each type's limits, synonyms and their precedence, messages, printing and reading back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/log.h"
#include "broker/config.h"

struct fixture {
    struct mem mem;
    struct config c;
    char why[CONFIG_WHY_SIZE];
    char warnings[4096];
    int warning_count;
};

static void on_warning(void *ctx, const char *message) {
    struct fixture *f = ctx;
    size_t size = strlen(f->warnings);
    (void)snprintf(f->warnings + size, sizeof(f->warnings) - size, "%s\n", message);
    f->warning_count++;
}

static int setup(void **state) {
    static struct fixture f;
    memset(&f, 0, sizeof(f));
    mem_init_heap(&f.mem);
    config_init_defaults(&f.c, &f.mem);
    f.c.warn = on_warning;
    f.c.warn_ctx = &f;
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    config_deinit(&f->c);
    return f->mem.allocated_bytes != 0;
}

static void accept(struct fixture *f, const char *name, const char *value) {
    f->why[0] = '\0';
    enum err e = config_set(&f->c, name, value, f->why, sizeof(f->why));
    if (e) print_error("%s\n", f->why);
    assert_int_equal(e, OK);
}

static void reject(struct fixture *f, const char *name, const char *value, const char *expected) {
    f->why[0] = '\0';
    assert_int_equal(config_set(&f->c, name, value, f->why, sizeof(f->why)), ERR_INVALID);
    assert_string_equal(f->why, expected);
}

static void test_defaults(void **state) {
    struct fixture *f = *state;
    assert_int_equal(f->c.node_id, 1);
    assert_string_equal(f->c.listeners, "PLAINTEXT://127.0.0.1:9092");
    assert_true(f->c.auto_create_topics_enable);
    assert_int_equal(f->c.message_max_bytes, 1048588);
    assert_true(f->c.log_retention_ms == 604800000);
    assert_true(f->c.log_message_timestamp_before_max_ms == INT64_MAX);
    assert_int_equal(f->c.io_backend, CONFIG_IO_AUTO);
    assert_int_equal(f->c.shards, 0);
    assert_int_equal(f->c.log_level, LOG_INFO);
    assert_true(f->c.cache_log_bytes == 256 << 20);
    /* It works in the current folder without any setting. */
    assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), OK);
    assert_string_equal(f->c.storage_url, "file://./data/store");
}

/* The enums in config.h and the lists of values in the table say the same. */
static void test_enum_order(void **state) {
    struct fixture *f = *state;
    accept(f, "io.backend", "uring");
    assert_int_equal(f->c.io_backend, CONFIG_IO_URING);
    accept(f, "io.backend", "epoll");
    assert_int_equal(f->c.io_backend, CONFIG_IO_EPOLL);
    static const char *const codecs[] = {
        [CONFIG_COMPRESSION_PRODUCER] = "producer", [CONFIG_COMPRESSION_NONE] = "uncompressed",
        [CONFIG_COMPRESSION_GZIP] = "gzip",         [CONFIG_COMPRESSION_SNAPPY] = "snappy",
        [CONFIG_COMPRESSION_LZ4] = "lz4",           [CONFIG_COMPRESSION_ZSTD] = "zstd"};
    for (int i = 0; i < (int)ARRAY_LEN(codecs); i++) {
        accept(f, "compression.type", codecs[i]);
        assert_int_equal(f->c.compression_type, i);
    }
    accept(f, "log.message.timestamp.type", "LogAppendTime");
    assert_int_equal(f->c.log_message_timestamp_type, CONFIG_LOG_APPEND_TIME);
    static const char *const levels[] = {"debug", "info", "warn", "error", "none"};
    for (int i = 0; i < (int)ARRAY_LEN(levels); i++) {
        accept(f, "log.level", levels[i]);
        assert_int_equal(f->c.log_level, log_level_parse(levels[i]));
    }
}

static void test_types_and_limits(void **state) {
    struct fixture *f = *state;
    accept(f, "node.id", " 7 ");
    assert_int_equal(f->c.node_id, 7);
    accept(f, "node.id", "2147483647");
    reject(f, "node.id", "2147483648", "node.id: expected a whole number from 0 to 2147483647; found '2147483648'");
    reject(f, "node.id", "-1", "node.id: expected a whole number from 0 to 2147483647; found '-1'");
    reject(f, "node.id", "", "node.id: expected a whole number from 0 to 2147483647; found ''");
    reject(f, "node.id", "1.5", "node.id: expected a whole number from 0 to 2147483647; found '1.5'");
    reject(f, "node.id", "99999999999999999999999",
           "node.id: expected a whole number from 0 to 2147483647; found '99999999999999999999999'");
    assert_int_equal(f->c.node_id, 2147483647); /* what is refused changes nothing */
    accept(f, "log.retention.bytes", "-1");
    accept(f, "log.retention.bytes", "9223372036854775807");
    assert_true(f->c.log_retention_bytes == INT64_MAX);
    accept(f, "delete.topic.enable", "false");
    assert_false(f->c.delete_topic_enable);
    reject(f, "delete.topic.enable", "yes", "delete.topic.enable: expected true or false; found 'yes'");
    accept(f, "cache.block.bytes", "64MiB");
    assert_true(f->c.cache_block_bytes == 64 << 20);
    accept(f, "cache.block.bytes", "2097152");
    reject(f, "cache.block.bytes", "1",
           "cache.block.bytes: expected a size from 1MiB to 1TiB, such as 67108864 or 64MiB; found '1'");
    /* Kafka's own sizes are numbers, as with Kafka. */
    reject(f, "message.max.bytes", "1MiB",
           "message.max.bytes: expected a whole number from 0 to 2147483647; found '1MiB'");
    accept(f, "shards", "4");
    assert_int_equal(f->c.shards, 4);
    accept(f, "shards", "auto");
    assert_int_equal(f->c.shards, 0);
    reject(f, "shards", "0", "shards: expected auto or a whole number from 1 to 256; found '0'");
    reject(f, "io.backend", "eploll",
           "io.backend: expected auto, uring or epoll; found 'eploll'; did you mean 'epoll'?");
    reject(f, "io.backend", "kqueue", "io.backend: expected auto, uring or epoll; found 'kqueue'");
    accept(f, "log.cleanup.policy", "compact, delete");
    reject(f, "log.cleanup.policy", "delete,compakt",
           "log.cleanup.policy: expected a list of delete or compact; found 'compakt'; did you mean 'compact'?");
    assert_string_equal(f->c.log_cleanup_policy, "compact, delete");
}

static void test_synonyms(void **state) {
    struct fixture *f = *state;
    accept(f, "log.retention.hours", "2");
    assert_true(f->c.log_retention_ms == 7200000);
    accept(f, "log.retention.minutes", "3");
    assert_true(f->c.log_retention_ms == 180000);
    accept(f, "log.retention.hours", "4"); /* weaker than minutes, though later */
    assert_true(f->c.log_retention_ms == 180000);
    accept(f, "log.retention.ms", "5");
    assert_true(f->c.log_retention_ms == 5);
    accept(f, "log.retention.minutes", "6");
    assert_true(f->c.log_retention_ms == 5);
    reject(f, "log.retention.minutes", "x",
           "log.retention.minutes: expected a whole number from -1 to 153722867280912; found 'x'");
    accept(f, "log.retention.ms", "-1");
    assert_true(f->c.log_retention_ms == -1);
    accept(f, "log.roll.hours", "1");
    assert_true(f->c.log_roll_ms == 3600000);
    reject(f, "log.roll.hours", "0", "log.roll.hours: expected a whole number from 1 to 2562047788015; found '0'");
    reject(f, "log.roll.hours", "2562047788016",
           "log.roll.hours: expected a whole number from 1 to 2562047788015; found '2562047788016'");
    accept(f, "broker.id", "9");
    assert_int_equal(f->c.node_id, 9);
    accept(f, "node.id", "3");
    accept(f, "broker.id", "8");
    assert_int_equal(f->c.node_id, 3);
}

static void test_hours_forever(void **state) {
    struct fixture *f = *state;
    accept(f, "log.retention.hours", "-1");
    assert_true(f->c.log_retention_ms == -1);
    /* A stronger name that is refused does not count as set. */
    assert_int_equal(config_set(&f->c, "log.retention.ms", "x", f->why, sizeof(f->why)), ERR_INVALID);
    accept(f, "log.retention.hours", "1");
    assert_true(f->c.log_retention_ms == 3600000);
}

static void test_unknown(void **state) {
    struct fixture *f = *state;
    reject(f, "num.partition", "1", "unknown property 'num.partition'; did you mean 'num.partitions'?");
    reject(f, "log.retention.hour", "1", "unknown property 'log.retention.hour'; did you mean 'log.retention.hours'?");
    reject(f, "NODE.ID", "1", "unknown property 'NODE.ID'; did you mean 'node.id'?");
    assert_int_equal(config_set(&f->c, "what.is.this.supposed.to.mean", "1", f->why, sizeof(f->why)), ERR_INVALID);
    assert_non_null(strstr(f->why, "unknown property 'what.is.this.supposed.to.mean'; the nearest one is '"));
    assert_int_equal(f->warning_count, 0);
}

static void test_accepted_without_effect(void **state) {
    struct fixture *f = *state;
    accept(f, "process.roles", "broker,controller");
    accept(f, "process.roles", "broker");
    accept(f, "controller.quorum.voters", "1@localhost:9093");
    accept(f, "log.dirs", "/tmp/kafka-logs");
    accept(f, "security.inter.broker.protocol", "PLAINTEXT");
    assert_int_equal(f->warning_count, 4); /* once per name */
    assert_string_equal(f->warnings,
                        "process.roles: has no effect here\ncontroller.quorum.voters: has no effect here\n"
                        "log.dirs: has no effect here\nsecurity.inter.broker.protocol: has no effect here\n");
}

/* To ignore these would leave somebody without the protection that was asked for. */
static void test_protection_is_refused(void **state) {
    struct fixture *f = *state;
    static const char *const names[] = {"ssl.keystore.location", "sasl.enabled.mechanisms", "authorizer.class.name",
                                        "super.users"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(config_set(&f->c, names[i], "x", f->why, sizeof(f->why)), ERR_INVALID);
        assert_non_null(strstr(f->why, "not supported yet"));
    }
}

static void test_load(void **state) {
    struct fixture *f = *state;
    static const char text[] =
        "# Kafka's own example\nprocess.roles=broker,controller\nnode.id=5\n\nlisteners = PLAINTEXT://:9092,\\\n"
        "   INTERNAL://127.0.0.1:9094\nnum.partitions:3\nlog.retention.hours=168\n";
    assert_int_equal(config_load(&f->c, text, strlen(text), "server.properties", f->why, sizeof(f->why)), OK);
    assert_int_equal(f->c.node_id, 5);
    assert_int_equal(f->c.num_partitions, 3);
    assert_string_equal(f->c.listeners, "PLAINTEXT://:9092,INTERNAL://127.0.0.1:9094");
    assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), OK);
    static const char wrong[] = "node.id=6\n\nnum.partitions=many\nnode.id=7\n";
    assert_int_equal(config_load(&f->c, wrong, strlen(wrong), "server.properties", f->why, sizeof(f->why)),
                     ERR_INVALID);
    assert_string_equal(
        f->why, "server.properties:3: num.partitions: expected a whole number from 1 to 2147483647; found 'many'");
    assert_int_equal(f->c.node_id, 6);
    assert_int_equal(config_load(&f->c, "a=\\u1", 5, "x", f->why, sizeof(f->why)), ERR_INVALID);
    assert_non_null(strstr(f->why, "x:1: expected four hexadecimal digits"));
    assert_int_equal(config_load(&f->c, "", 0, "x", f->why, sizeof(f->why)), OK);
}

static void test_pairs(void **state) {
    struct fixture *f = *state;
    assert_int_equal(config_set_pair(&f->c, "node.id=8", f->why, sizeof(f->why)), OK);
    assert_int_equal(f->c.node_id, 8);
    assert_int_equal(config_set_pair(&f->c, "wal.url = file:///x?size=16MiB", f->why, sizeof(f->why)), OK);
    assert_string_equal(f->c.wal_url, "file:///x?size=16MiB");
    assert_int_equal(config_set_pair(&f->c, "broker.rack=", f->why, sizeof(f->why)), OK);
    assert_int_equal(config_set_pair(&f->c, "node.id", f->why, sizeof(f->why)), ERR_INVALID);
    assert_string_equal(f->why, "expected key=value, found 'node.id'");
    assert_int_equal(config_set_pair(&f->c, "=1", f->why, sizeof(f->why)), ERR_INVALID);
}

static void test_check(void **state) {
    struct fixture *f = *state;
    static const struct {
        const char *name, *value, *message; /* the message holds this */
    } rows[] = {
        {"listeners", "", "listeners: expected at least one"},
        {"listeners", "127.0.0.1:9092", "listeners: expected NAME://host:port"},
        {"listeners", "SSL://:9093", "listeners: SSL is not supported yet"},
        {"listeners", "A://:1,B://:2,a://:3", "listeners: expected each listener name once, found 'A' twice"},
        {"advertised.listeners", "PLAINTEXT://0.0.0.0:9092",
         "advertised.listeners: expected an address that clients can reach"},
        {"advertised.listeners", "OTHER://host:9092",
         "advertised.listeners: expected the name of one of the listeners"},
        {"storage.url", "/data", "storage.url: expected file://FOLDER or s3://BUCKET/PREFIX, found '/data'"},
        {"wal.url", "nowhere", "wal.url: expected file://"},
        {"wal.url", "file:///x?size=3", "wal.url: expected size="},
        {"http.listen", "8080", "http.listen: expected host:port"},
        {"queued.max.request.bytes", "1MiB", "queued.max.request.bytes: expected at least socket.request.max.bytes"},
        {"message.max.bytes", "104857601", "message.max.bytes: expected at most socket.request.max.bytes"},
        {"cache.log.bytes", "32MiB", "upload.bytes: expected at most half of cache.log.bytes (32MiB), found 32MiB"},
        {"log.cleanup.policy", " , ", "log.cleanup.policy: expected delete"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char before[512];
        config_value(&f->c, config_find(rows[i].name), before, sizeof(before));
        accept(f, rows[i].name, rows[i].value);
        assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), ERR_INVALID);
        if (strncmp(f->why, rows[i].message, strlen(rows[i].message)) != 0) fail_msg("%s: %s", rows[i].name, f->why);
        accept(f, rows[i].name, before);
        assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), OK);
    }
    accept(f, "cache.log.bytes", "2GiB");
    accept(f, "upload.bytes", "600MiB");
    assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), ERR_INVALID);
    assert_non_null(strstr(f->why, "compaction.bytes: expected at least half of upload.bytes (600MiB)"));
    accept(f, "compaction.bytes", "300MiB");
    accept(f, "advertised.listeners", "plaintext://broker-1.example:19092");
    accept(f, "http.listen", "127.0.0.1:9644");
    assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), OK);
}

static void test_messages_are_cut(void **state) {
    struct fixture *f = *state;
    static char huge[3000];
    memset(huge, 'x', sizeof(huge) - 1);
    assert_int_equal(config_set(&f->c, huge, huge, f->why, sizeof(f->why)), ERR_INVALID);
    assert_true(strlen(f->why) < sizeof(f->why));
    assert_int_equal(config_set(&f->c, "node.id", huge, f->why, 20), ERR_INVALID);
    assert_int_equal(strlen(f->why), 19);
    accept(f, "storage.url", huge);
    assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), ERR_INVALID);
    accept(f, "listeners", huge);
    assert_int_equal(config_check(&f->c, f->why, sizeof(f->why)), ERR_INVALID);
}

static void test_list_walk(void **state) {
    (void)state;
    const char *cursor = " a, bb ,,\tc c , toolong,";
    char out[5];
    static const char *const expected[] = {"a", "bb", "c c", "tool"};
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_true(config_list_next(&cursor, out, sizeof(out)));
        assert_string_equal(out, expected[i]);
    }
    assert_false(config_list_next(&cursor, out, sizeof(out)));
    assert_false(config_list_next(&cursor, out, sizeof(out)));
}

/* What is printed is a properties file that gives the same configuration; and every property can be set to its own
 * value. */
static void test_printed_text_loads(void **state) {
    struct fixture *f = *state;
    accept(f, "node.id", "77");
    accept(f, "broker.rack", "rack \\ \"one\"");
    accept(f, "shards", "2");
    accept(f, "log.retention.ms", "-1");
    struct buf text;
    buf_init(&text, &f->mem);
    config_print(&f->c, &text);
    struct config again;
    config_init_defaults(&again, &f->mem);
    enum err e = config_load(&again, (const char *)text.data, text.size, "printed", f->why, sizeof(f->why));
    if (e) print_error("%s\n", f->why);
    assert_int_equal(e, OK);
    for (unsigned i = 0; i < CONFIG_PROPERTIES; i++) {
        char a[512], b[512];
        enum config_property p = (enum config_property)i;
        assert_string_equal(config_value(&f->c, p, a, sizeof(a)), config_value(&again, p, b, sizeof(b)));
        assert_int_equal(again.rank[i], 1);
    }
    config_deinit(&again);
    buf_deinit(&text);
}

static void test_rows(void **state) {
    struct fixture *f = *state;
    for (unsigned i = 0; i < CONFIG_PROPERTIES; i++) {
        const struct config_row *r = config_row((enum config_property)i);
        assert_int_equal(config_find(r->name), i);
        size_t size = strlen(r->text);
        assert_true(size > 10 && r->text[size - 1] == '.');
        assert_int_equal(strspn(r->name, "abcdefghijklmnopqrstuvwxyz0123456789."), strlen(r->name));
    }
    assert_int_equal(config_find("broker.id"), CONFIG_PROPERTIES);
    assert_int_equal(config_find("x"), CONFIG_PROPERTIES);
    struct buf text;
    buf_init(&text, &f->mem);
    config_print_markdown(&text, &f->mem);
    buf_u8(&text, 0);
    for (unsigned i = 0; i < CONFIG_PROPERTIES; i++) {
        char needle[128];
        (void)snprintf(needle, sizeof(needle), "| `%s` |", config_row((enum config_property)i)->name);
        assert_non_null(strstr((const char *)text.data, needle));
    }
    buf_deinit(&text);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_enum_order),
        TEST(test_types_and_limits),
        TEST(test_synonyms),
        TEST(test_hours_forever),
        TEST(test_unknown),
        TEST(test_accepted_without_effect),
        TEST(test_protection_is_refused),
        TEST(test_load),
        TEST(test_pairs),
        TEST(test_check),
        TEST(test_messages_are_cut),
        TEST(test_list_walk),
        TEST(test_printed_text_loads),
        TEST(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
