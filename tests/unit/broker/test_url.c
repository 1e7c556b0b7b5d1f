/* The addresses in a configuration. Of a refused one, the message must say what was expected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/url.h"

static char why[512];

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes; /* -1: refused */
    } rows[] = {
        {"0", 0},
        {"123", 123},
        {"1KiB", 1024},
        {"1 MiB", 1 << 20},
        {"3GiB", 3ll << 30},
        {"2TiB", 2ll << 40},
        {"5B", 5},
        {"", -1},
        {"-1", -1},
        {"KiB", -1},
        {"1kb", -1},
        {"1K", -1},
        {"1.5GiB", -1},
        {" 1", -1},
        {"1KiBx", -1},
        {"9223372036854775807", INT64_MAX},
        {"9223372036854775808", -1},
        {"8388608TiB", -1},
        {"8388607TiB", 8388607ll << 40},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t bytes = -1;
        bool good = size_parse(rows[i].text, &bytes);
        assert_int_equal(good, rows[i].bytes >= 0);
        if (good) assert_true(bytes == rows[i].bytes);
    }
    char out[32];
    assert_string_equal(size_text(0, out, sizeof(out)), "0");
    assert_string_equal(size_text(1023, out, sizeof(out)), "1023");
    assert_string_equal(size_text(1536, out, sizeof(out)), "1536");
    assert_string_equal(size_text(65536, out, sizeof(out)), "64KiB");
    assert_string_equal(size_text(1ll << 30, out, sizeof(out)), "1GiB");
    assert_string_equal(size_text(4096ll << 40, out, sizeof(out)), "4096TiB");
}

static void test_storage(void **state) {
    (void)state;
    struct storage_url u;
    assert_int_equal(storage_url_parse("file://./data/store", &u, why, sizeof(why)), OK);
    assert_string_equal(u.path, "./data/store");
    assert_int_equal(storage_url_parse("file:///var/lib/oxbow//", &u, why, sizeof(why)), OK);
    assert_string_equal(u.path, "/var/lib/oxbow");
    assert_int_equal(storage_url_parse("file:///a%20b%3Fc", &u, why, sizeof(why)), OK);
    assert_string_equal(u.path, "/a b?c");
    assert_int_equal(storage_url_parse("file:///", &u, why, sizeof(why)), OK);
    assert_string_equal(u.path, "/");
    static const char *const wrong[] = {
        "",         "data",          "/data",       "file:/data",   "file://",       "file://?",
        "http://x", "file:///a?x=1", "file:///a%2", "file:///a%zz", "file:///a%00b", "file:///a#b"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        why[0] = '\0';
        assert_int_equal(storage_url_parse(wrong[i], &u, why, sizeof(why)), ERR_INVALID);
        assert_non_null(strstr(why, "expected"));
    }
    char huge[2000] = "file://";
    memset(huge + 7, 'x', sizeof(huge) - 8);
    huge[sizeof(huge) - 1] = '\0';
    assert_int_equal(storage_url_parse(huge, &u, why, sizeof(why)), ERR_INVALID);
}

static void test_storage_s3(void **state) {
    (void)state;
    struct storage_url u;
    assert_int_equal(storage_url_parse("s3://bucket", &u, why, sizeof(why)), OK);
    assert_int_equal(u.kind, STORAGE_KIND_S3);
    assert_string_equal(u.bucket, "bucket");
    assert_string_equal(u.prefix, "");
    assert_string_equal(u.endpoint, "");
    assert_string_equal(u.region, "");
    assert_int_equal(u.style, S3_STYLE_AUTO);
    assert_int_equal(
        storage_url_parse("s3://my.bucket/a/b/?endpoint=http://127.0.0.1:9000&region=eu-west-1&path.style=true", &u,
                          why, sizeof(why)),
        OK);
    assert_string_equal(u.bucket, "my.bucket");
    assert_string_equal(u.prefix, "a/b");
    assert_string_equal(u.endpoint, "http://127.0.0.1:9000");
    assert_string_equal(u.region, "eu-west-1");
    assert_int_equal(u.style, S3_STYLE_PATH);
    assert_int_equal(
        storage_url_parse("s3://bucket?path.style=false&endpoint=https%3A%2F%2Fhost.example", &u, why, sizeof(why)),
        OK);
    assert_string_equal(u.endpoint, "https://host.example");
    assert_int_equal(u.style, S3_STYLE_HOST);
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"s3://", "expected a path"},
        {"s3:///key", "no name of a bucket"},
        {"s3://ab", "no name of a bucket"},
        {"s3://buck~et", "no name of a bucket"},
        {"s3://bucket/a//b", "expected a prefix"},
        {"s3://bucket/a%20b", "expected a prefix"},
        {"s3://bucket?region", "expected name=value"},
        {"s3://bucket?region=a/b", "no name of a region"},
        {"s3://bucket?endpoint=host:9000", "expected endpoint=http://"},
        {"s3://bucket?endpoint=http://", "expected a host name"},
        {"s3://bucket?endpoint=http://host/path", "without a path"},
        {"s3://bucket?path.style=yes", "path.style=true"},
        {"s3://bucket?secret=x", "unknown parameter 'secret'"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        why[0] = '\0';
        assert_int_equal(storage_url_parse(wrong[i].text, &u, why, sizeof(why)), ERR_INVALID);
        if (!strstr(why, wrong[i].says)) print_error("%s: %s\n", wrong[i].text, why);
        assert_non_null(strstr(why, wrong[i].says));
    }
    assert_int_equal(storage_url_parse("s3://bucket?endpoint=http://me:verysecret@host", &u, why, sizeof(why)),
                     ERR_INVALID);
    assert_null(strstr(why, "verysecret"));
}

static void test_mirror(void **state) {
    (void)state;
    struct wal_setup s;
    assert_int_equal(wal_setup_parse("file:///x?size=32MiB", &s, why, sizeof(why)), OK);
    assert_false(s.mirror);
    assert_int_equal(s.count, 1);
    assert_int_equal(wal_setup_parse("none", &s, why, sizeof(why)), OK);
    assert_int_equal(s.count, 0);
    assert_int_equal(wal_setup_parse("mirror:file:///a?size=32MiB&takeover=lock,block:///dev/b", &s, why, sizeof(why)),
                     OK);
    assert_true(s.mirror && !s.stops);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.timeout_ms, WAL_MIRROR_TIMEOUT_MS);
    assert_string_equal(s.urls[0].path, "/a");
    assert_int_equal(s.urls[0].size_bytes, 32u << 20);
    assert_int_equal(s.urls[1].kind, WAL_KIND_BLOCK);
    assert_int_equal(s.urls[1].takeover, WAL_TAKEOVER_MARK);
    assert_int_equal(wal_setup_parse("mirror:?lost=stop&timeout.ms=250,file:///a,file:///b", &s, why, sizeof(why)), OK);
    assert_true(s.stops);
    assert_int_equal(s.timeout_ms, 250);
    assert_int_equal(wal_setup_parse("mirror:file:///a,file:///b,?lost=shrink", &s, why, sizeof(why)), OK);
    assert_false(s.stops);
    assert_int_equal(
        wal_setup_parse("mirror:file:///a,s3://bucket/p?endpoint=http://127.0.0.1:9000&region=x", &s, why, sizeof(why)),
        OK);
    assert_int_equal(s.urls[1].kind, WAL_KIND_OBJECTS);
    assert_string_equal(s.urls[1].path, "s3://bucket/p?endpoint=http://127.0.0.1:9000&region=x");
    assert_int_equal(wal_setup_parse("mirror:objects:file:///c,block:///dev/b", &s, why, sizeof(why)), OK);
    assert_int_equal(s.urls[0].kind, WAL_KIND_OBJECTS);
    assert_string_equal(s.urls[0].path, "file:///c");
    static const char *const wrong[][2] = {
        {"mirror:", "expected"},
        {"mirror:s3://aaa,s3://bbb", "file:// or block://"},
        {"mirror:objects:file:///a,objects:file:///b", "file:// or block://"},
        {"mirror:file:///a,objects:block:///dev/b", "expected file://FOLDER or s3://"},
        {"mirror:file:///a,objects:file:///b?size=1GiB", "no parameters"},
        {"objects:file:///a", "expected"},
        {"mirror:file:///a", "two members"},
        {"mirror:file:///a,none", "none"},
        {"mirror:file:///a,file:///a", "twice"},
        {"mirror:file:///a,,file:///b", "expected"},
        {"mirror:file:///a,file:///b,file:///c,file:///d,file:///e", "at most 4"},
        {"mirror:?lost=never,file:///a,file:///b", "lost=shrink"},
        {"mirror:?timeout.ms=99,file:///a,file:///b", "timeout.ms"},
        {"mirror:?timeout.ms=1s,file:///a,file:///b", "timeout.ms"},
        {"mirror:?size=1GiB,file:///a,file:///b", "unknown parameter 'size'"},
        {"mirror:?,file:///a,file:///b", "name=value"},
        {"mirror:mirror:file:///a,file:///b", "expected"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(wal_setup_parse(wrong[i][0], &s, why, sizeof(why)), ERR_INVALID);
        assert_non_null(strstr(why, wrong[i][1]));
    }
}

static void test_wal(void **state) {
    (void)state;
    struct wal_url u;
    assert_int_equal(wal_url_parse("file://./data/wal?size=1GiB", &u, why, sizeof(why)), OK);
    assert_int_equal(u.kind, WAL_KIND_FILE);
    assert_int_equal(u.takeover, WAL_TAKEOVER_LOCK);
    assert_string_equal(u.path, "./data/wal");
    assert_true(u.size_bytes == 1ull << 30);
    assert_int_equal(wal_url_parse("file:///x?takeover=mark&size=16MiB", &u, why, sizeof(why)), OK);
    assert_int_equal(u.takeover, WAL_TAKEOVER_MARK);
    assert_true(u.size_bytes == 16u << 20);
    assert_int_equal(wal_url_parse("file:///x", &u, why, sizeof(why)), OK);
    assert_true(u.size_bytes == WAL_SIZE_DEFAULT);
    assert_int_equal(wal_url_parse("block:///dev/nvme1n1", &u, why, sizeof(why)), OK);
    assert_int_equal(u.kind, WAL_KIND_BLOCK);
    assert_int_equal(u.takeover, WAL_TAKEOVER_MARK);
    assert_string_equal(u.path, "/dev/nvme1n1");
    assert_true(u.size_bytes == 0);
    assert_int_equal(wal_url_parse("block:///dev/loop0?takeover=lock&size=64MiB", &u, why, sizeof(why)), OK);
    assert_int_equal(u.takeover, WAL_TAKEOVER_LOCK);
    static const char *const wrong[] = {"",
                                        "wal",
                                        "file://",
                                        "block://dev/x",
                                        "file:///x?size=",
                                        "file:///x?size=1",
                                        "file:///x?size=5000000",
                                        "file:///x?size=512KiB",
                                        "file:///x?size=2000TiB",
                                        "file:///x?size",
                                        "file:///x?takeover=steal",
                                        "s3://x"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        why[0] = '\0';
        assert_int_equal(wal_url_parse(wrong[i], &u, why, sizeof(why)), ERR_INVALID);
        assert_non_null(strstr(why, "expected"));
    }
    assert_int_equal(wal_url_parse("file:///x?sise=1GiB", &u, why, sizeof(why)), ERR_INVALID);
    assert_non_null(strstr(why, "'sise'"));
    assert_int_equal(wal_url_parse("none", &u, why, sizeof(why)), OK);
    assert_int_equal(u.kind, WAL_KIND_NONE);
    assert_int_equal(wal_url_parse("none?size=1GiB", &u, why, sizeof(why)), ERR_INVALID);
}

static void test_host_port(void **state) {
    (void)state;
    static const struct {
        const char *text, *host;
        int port; /* -1: refused */
    } rows[] = {
        {"127.0.0.1:9092", "127.0.0.1", 9092},
        {":80", "", 80},
        {"0.0.0.0:1", "", 1},
        {"localhost:0", "localhost", 0},
        {"[::1]:9092", "::1", 9092},
        {"[::]:65535", "::", 65535},
        {"", "", -1},
        {"host", "", -1},
        {"host:", "", -1},
        {"host:65536", "", -1},
        {"host:-1", "", -1},
        {"host:9x", "", -1},
        {"::1:9092", "", -1},
        {"[::1:9092", "", -1},
        {"a b:1", "", -1},
        {"user@host:1", "", -1},
        {"host/x:1", "", -1},
        {"host:000001", "", -1},
        {"[]x:1", "", -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char host[64] = "untouched";
        uint16_t port = 7;
        why[0] = '\0';
        enum err e = host_port_parse(rows[i].text, host, sizeof(host), &port, why, sizeof(why));
        assert_int_equal(e, rows[i].port < 0 ? ERR_INVALID : OK);
        if (e) {
            assert_non_null(strstr(why, "expected"));
        } else {
            assert_string_equal(host, rows[i].host);
            assert_int_equal(port, rows[i].port);
        }
    }
    char host[4];
    uint16_t port;
    assert_int_equal(host_port_parse("abcd:1", host, sizeof(host), &port, why, sizeof(why)), ERR_INVALID);
    assert_int_equal(host_port_parse("abc:1", host, sizeof(host), &port, why, sizeof(why)), OK);
}

static void test_listener(void **state) {
    (void)state;
    struct listener_url l;
    assert_int_equal(listener_url_parse("PLAINTEXT://127.0.0.1:9092", &l, why, sizeof(why)), OK);
    assert_string_equal(l.name, "PLAINTEXT");
    assert_string_equal(l.host, "127.0.0.1");
    assert_int_equal(l.port, 9092);
    assert_int_equal(listener_url_parse("internal_1://:9093", &l, why, sizeof(why)), OK);
    assert_string_equal(l.name, "INTERNAL_1");
    assert_string_equal(l.host, "");
    static const char *const wrong[] = {"", "127.0.0.1:9092", "://x:1", "a b://x:1", "PLAINTEXT://x", "PLAINTEXT:/x:1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        why[0] = '\0';
        assert_int_equal(listener_url_parse(wrong[i], &l, why, sizeof(why)), ERR_INVALID);
        assert_non_null(strstr(why, "expected"));
    }
    /* What would promise protection, or has no counterpart, is refused rather than served in the clear. */
    assert_int_equal(listener_url_parse("SSL://x:1", &l, why, sizeof(why)), ERR_UNSUPPORTED);
    assert_int_equal(listener_url_parse("sasl_ssl://x:1", &l, why, sizeof(why)), ERR_UNSUPPORTED);
    assert_int_equal(listener_url_parse("SASL_PLAINTEXT://x:1", &l, why, sizeof(why)), ERR_UNSUPPORTED);
    assert_int_equal(listener_url_parse("CONTROLLER://x:1", &l, why, sizeof(why)), ERR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),    cmocka_unit_test(test_storage),    cmocka_unit_test(test_wal),
        cmocka_unit_test(test_mirror),   cmocka_unit_test(test_storage_s3), cmocka_unit_test(test_host_port),
        cmocka_unit_test(test_listener),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
