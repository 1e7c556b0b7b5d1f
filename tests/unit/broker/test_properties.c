/* The format of server.properties, as java.util.Properties reads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"
#include "broker/properties.h"

/* Reads the whole text into "line:key=value;" pieces; an error ends it with "line!". */
static void expect_sized(const char *text, size_t size, const char *expected) {
    struct mem m;
    mem_init_heap(&m);
    struct properties p;
    properties_init(&p, &m, text, size);
    struct buf found;
    buf_init(&found, &m);
    enum err e;
    const char *key, *value, *why;
    while ((e = properties_next(&p, &key, &value, &why)) == OK) buf_printf(&found, "%u:%s=%s;", p.line, key, value);
    if (e != ERR_NOT_FOUND) {
        assert_int_equal(e, ERR_INVALID);
        assert_true(strlen(why) > 0);
        buf_printf(&found, "%u!", p.line);
    }
    buf_u8(&found, 0);
    assert_string_equal((const char *)found.data, expected);
    buf_deinit(&found);
    properties_deinit(&p);
    assert_int_equal(m.allocated_bytes, 0);
}

static void expect(const char *text, const char *expected) {
    expect_sized(text, strlen(text), expected);
}

static void test_separators(void **state) {
    (void)state;
    expect("a=1", "1:a=1;");
    expect("a:1\n", "1:a=1;");
    expect("a 1\n", "1:a=1;");
    expect("a\t \f=\t 1\n", "1:a=1;");
    expect("a = = 1\n", "1:a== 1;");
    expect("a=b=c:d\n", "1:a=b=c:d;");
    expect("a\nb=\nc", "1:a=;2:b=;3:c=;");
    expect("  a = trailing blanks stay  \n", "1:a=trailing blanks stay  ;");
    expect("=x", "1:=x;");
    expect("", "");
}

static void test_comments_and_lines(void **state) {
    (void)state;
    expect("# a=1\n! b=2\n\n  # c=3\nd=4 # not a comment\n", "5:d=4 # not a comment;");
    expect("a=1\r\nb=2\rc=3\n", "1:a=1;2:b=2;3:c=3;");
    expect("# a comment does not go on \\\na=1\n", "2:a=1;");
    expect("#", "");
}

static void test_continuation(void **state) {
    (void)state;
    expect("a=1,\\\n   2,\\\r\n\t3\nb=4", "1:a=1,2,3;4:b=4;");
    expect("lo\\\n  ng=1", "1:long=1;");
    expect("a\\\n =\\\n 1\n", "1:a=1;");
    expect("a=x\\\\\nb=2", "1:a=x\\;2:b=2;"); /* an escaped backslash does not continue */
    expect("a=1\\", "1:a=1;");
    expect("a=1\\\n#2\n", "1:a=1#2;");
}

static void test_escapes(void **state) {
    (void)state;
    expect("a\\=b\\:c\\ d=\\t\\n\\r\\f\\\\\\q\\\"", "1:a=b:c d=\t\n\r\f\\q\";");
    expect("a=\\ leading", "1:a= leading;");
    expect("a=\\u0041\\u00e9\\u20AC", "1:a=A\xc3\xa9\xe2\x82\xac;");
    expect("a=\\ud83d\\uDE00", "1:a=\xf0\x9f\x98\x80;");
    expect("\\u0061=1", "1:a=1;");
    expect("a=\xc3\xa9", "1:a=\xc3\xa9;");
    expect("\\#a=1", "1:#a=1;");
}

static void test_malformed(void **state) {
    (void)state;
    expect("ok=1\na=\\u12", "1:ok=1;2!");
    expect("a=\\u12g4", "1!");
    expect("a=\\u0000", "1!");
    expect("a=\\ud83d", "1!");
    expect("a=\\ud83dx\\u0041", "1!");
    expect("a=\\ud83d\\u0041", "1!");
    expect("a=\\ude00", "1!");
    expect("\\u=1", "1!");
    expect_sized("a=1\0b", 5, "1!");
    expect_sized("a\0=1", 4, "1!");
    expect_sized("a=\\\0", 4, "1!");
}

/* Whatever the bytes, it ends, and neither part holds more than the text did (an escape never grows). */
static void test_random_bytes(void **state) {
    (void)state;
    static const char alphabet[] = "ab=: \t\n\r\\u0d8#!";
    struct mem m;
    mem_init_heap(&m);
    struct rng r;
    rng_seed(&r, 9);
    for (int round = 0; round < 20000; round++) {
        char text[40];
        size_t size = rng_below(&r, sizeof(text));
        for (size_t i = 0; i < size; i++) text[i] = alphabet[rng_below(&r, sizeof(alphabet) - 1)];
        struct properties p;
        properties_init(&p, &m, text, size);
        const char *key, *value, *why;
        size_t total = 0;
        while (properties_next(&p, &key, &value, &why) == OK) total += strlen(key) + strlen(value);
        assert_true(total <= size);
        properties_deinit(&p);
    }
    assert_int_equal(m.allocated_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_separators),   cmocka_unit_test(test_comments_and_lines),
        cmocka_unit_test(test_continuation), cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_malformed),    cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
