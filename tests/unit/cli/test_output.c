/* Tables and JSON: widths, escapes, and text from outside that is not what it should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "cli/output.h"
#include "cli/record_format.h"

struct made {
    struct mem mem;
    struct buf out;
};

static void made_init(struct made *m) {
    mem_init_heap(&m->mem);
    buf_init(&m->out, &m->mem);
}

static void made_is(struct made *m, const char *expected) {
    buf_u8(&m->out, 0);
    assert_string_equal((const char *)m->out.data, expected);
    m->out.size = 0;
}

static void test_table(void **state) {
    (void)state;
    static const char *const headers[] = {"NAME", "N", "LAST"};
    struct made m;
    struct table t;
    made_init(&m);
    table_init(&t, &m.mem, headers, 3, 2);
    table_text(&t, "a");
    table_number(&t, 12345);
    table_text(&t, "x y");
    table_string(&t, kafka_string_of("l\xc3\xa4nger\x1b[0m")); /* two bytes, one place; and no colours */
    table_number(&t, -1);
    table_string(&t, (struct kafka_string){NULL, -1});
    table_string(&t, kafka_string_view("\xff\n", 2));
    table_number(&t, 0);
    table_text(&t, "");
    table_print(&t, &m.out);
    made_is(&m, "NAME               N  LAST\n"
                "a              12345  x y\n"
                "l\xc3\xa4nger\\x1b[0m     -1  -\n"
                "\\xff\\x0a           0  -\n");
    table_deinit(&t);
    buf_deinit(&m.out);
}

static void test_reals(void **state) {
    (void)state;
    struct made m;
    struct json j;
    made_init(&m);
    json_init(&j, &m.out);
    json_open(&j, NULL, '[');
    json_real(&j, NULL, 0.005);
    json_real(&j, NULL, 1.0 / 0.0);
    json_real(&j, NULL, -1234567890.5);
    json_close(&j, ']');
    made_is(&m, "[0.005,null,-1.23456789e+09]");
    buf_deinit(&m.out);
}

static void test_json(void **state) {
    (void)state;
    struct made m;
    struct json j;
    made_init(&m);
    json_init(&j, &m.out);
    json_open(&j, NULL, '{');
    json_text(&j, "a", "q\"\\\n\x01");
    json_text(&j, "b", NULL);
    json_open(&j, "c", '[');
    json_close(&j, ']');
    json_open(&j, "d", '[');
    json_number(&j, NULL, INT64_MIN);
    json_bool(&j, NULL, true);
    json_open(&j, NULL, '{');
    json_close(&j, '}');
    json_close(&j, ']');
    json_key(&j, kafka_string_of("k\"y"));
    json_text(&j, NULL, "\xe2\x82\xac \xed\xa0\x80"); /* a euro sign; half a surrogate */
    json_bytes(&j, "x", (const uint8_t *)"\xff\x00\x01", 3);
    json_bytes(&j, "y", (const uint8_t *)"\xff", 1);
    json_bytes(&j, "z", (const uint8_t *)"ok", 2);
    json_bytes(&j, "n", NULL, -1);
    json_close(&j, '}');
    made_is(&m, "{\"a\":\"q\\\"\\\\\\u000a\\u0001\",\"b\":null,\"c\":[],\"d\":[-9223372036854775808,true,{}],"
                "\"k\\\"y\":\"\xe2\x82\xac \\ufffd\\ufffd\\ufffd\",\"x\":{\"base64\":\"/wAB\"},"
                "\"y\":{\"base64\":\"/w==\"},\"z\":\"ok\",\"n\":null}");
    buf_deinit(&m.out);
}

static void test_utf8(void **state) {
    (void)state;
    static const char *const right[] = {"",
                                        "a",
                                        "\x7f",
                                        "\xc2\x80",
                                        "\xdf\xbf",
                                        "\xe0\xa0\x80",
                                        "\xef\xbf\xbf",
                                        "\xf0\x90\x80\x80",
                                        "\xf4\x8f\xbf\xbf"};
    static const char *const wrong[] = {"\x80",
                                        "\xc0\x80",
                                        "\xc1\xbf",
                                        "\xe0\x9f\xbf",
                                        "\xed\xa0\x80",
                                        "\xf0\x8f\xbf\xbf",
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xc2",
                                        "\xe2\x82",
                                        "a\xff"};
    for (size_t i = 0; i < ARRAY_LEN(right); i++) assert_true(utf8_valid((const uint8_t *)right[i], strlen(right[i])));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) assert_false(utf8_valid((const uint8_t *)wrong[i], strlen(wrong[i])));
}

static void test_uuid(void **state) {
    (void)state;
    struct kafka_uuid u;
    char text[UUID_TEXT_SIZE];
    memset(&u, 0xff, sizeof(u));
    uuid_format(&u, text);
    assert_string_equal(text, "_____________________w");
    memset(&u, 0, sizeof(u));
    uuid_format(&u, text);
    assert_string_equal(text, "AAAAAAAAAAAAAAAAAAAAAA");
}

static void test_formats(void **state) {
    (void)state;
    static const char *const wrong[] = {"%", "%q", "a%", "\\", "\\q", "\\x", "\\x1", "\\xg0"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) assert_non_null(record_format_check(wrong[i]));
    struct made m;
    made_init(&m);
    static const uint8_t headers[] = {2, 'h', 4, 'v', '1', 2, 'n', 1}; /* h=v1, n=null */
    struct batch_record r = {.offset = 7,
                             .timestamp = 9,
                             .key = (const uint8_t *)"k",
                             .key_size = 1,
                             .value_size = -1,
                             .header_count = 2,
                             .headers = headers,
                             .headers_size = sizeof(headers)};
    const char *format = "%t/%p/%o/%T/%k/%K/%v/%s/%S/%h/%%\\n\\t\\r\\\\\\x41";
    assert_null(record_format_check(format));
    record_format(&m.out, format, "t", 3, &r);
    made_is(&m, "t/3/7/9/k/1///-1/h=v1,n=/%\n\t\r\\A");
    record_json(&m.out, "t", 3, &r);
    made_is(&m, "{\"topic\":\"t\",\"partition\":3,\"offset\":7,\"timestamp\":9,\"key\":\"k\",\"value\":null,"
                "\"headers\":[{\"key\":\"h\",\"value\":\"v1\"},{\"key\":\"n\",\"value\":null}]}\n");
    buf_deinit(&m.out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_reals), cmocka_unit_test(test_json),    cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_uuid),  cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
