/* Signatures against what AWS published: the four examples of the Amazon S3 API reference ("Signature Calculations for
 * the Authorization Header: Transferring Payload in a Single Chunk"), every step of each; then what they leave out:
 * session tokens, the kept key, encoding, sorting, dates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "store/s3_sign.h"

static const struct s3_sign_keys EXAMPLE = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL};
#define EXAMPLE_MS 1369353600000 /* 2013-05-24 00:00:00 UTC */
#define EXAMPLE_HOST "examplebucket.s3.amazonaws.com"

struct example {
    struct s3_sign_request request;
    const char *canonical, *to_sign, *signed_names, *signature;
};

static const struct s3_sign_pair RANGE[] = {{"Range", "bytes=0-9"}};
/* Not in order, in mixed case, with blanks that do not count. */
static const struct s3_sign_pair PUT_HEADERS[] = {{"x-amz-storage-class", "  REDUCED_REDUNDANCY"},
                                                  {"Date", "Fri, 24  May 2013 00:00:00 GMT "}};

#define PUT_HASH "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
#define SIGN_TAIL "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"

static const struct example EXAMPLES[] = {
    {{"GET", "/test.txt", "", RANGE, 1, EXAMPLE_HOST, S3_SIGN_EMPTY, EXAMPLE_MS},
     "GET\n/test.txt\n\nhost:" EXAMPLE_HOST "\nrange:bytes=0-9\nx-amz-content-sha256:" S3_SIGN_EMPTY
     "\nx-amz-date:20130524T000000Z\n\nhost;range;x-amz-content-sha256;x-amz-date\n" S3_SIGN_EMPTY,
     SIGN_TAIL "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
     "host;range;x-amz-content-sha256;x-amz-date",
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {{"PUT", "/test%24file.text", NULL, PUT_HEADERS, 2, EXAMPLE_HOST, PUT_HASH, EXAMPLE_MS},
     "PUT\n/test%24file.text\n\ndate:Fri, 24 May 2013 00:00:00 GMT\nhost:" EXAMPLE_HOST
     "\nx-amz-content-sha256:" PUT_HASH "\nx-amz-date:20130524T000000Z\nx-amz-storage-class:REDUCED_REDUNDANCY\n\n"
     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class\n" PUT_HASH,
     SIGN_TAIL "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
     "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {{"GET", "/", "lifecycle=", NULL, 0, EXAMPLE_HOST, S3_SIGN_EMPTY, EXAMPLE_MS},
     "GET\n/\nlifecycle=\nhost:" EXAMPLE_HOST "\nx-amz-content-sha256:" S3_SIGN_EMPTY
     "\nx-amz-date:20130524T000000Z\n\nhost;x-amz-content-sha256;x-amz-date\n" S3_SIGN_EMPTY,
     SIGN_TAIL "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
     "host;x-amz-content-sha256;x-amz-date",
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {{"GET", "/", "max-keys=2&prefix=J", NULL, 0, EXAMPLE_HOST, S3_SIGN_EMPTY, EXAMPLE_MS},
     "GET\n/\nmax-keys=2&prefix=J\nhost:" EXAMPLE_HOST "\nx-amz-content-sha256:" S3_SIGN_EMPTY
     "\nx-amz-date:20130524T000000Z\n\nhost;x-amz-content-sha256;x-amz-date\n" S3_SIGN_EMPTY,
     SIGN_TAIL "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
     "host;x-amz-content-sha256;x-amz-date",
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

struct made {
    struct mem mem;
    struct s3_signer signer;
    struct buf buf;
};
static void made_init(struct made *m, const char *region) {
    mem_init_heap(&m->mem);
    s3_signer_init(&m->signer, &m->mem, region, "s3");
    buf_init(&m->buf, &m->mem);
}
static void made_deinit(struct made *m) {
    buf_deinit(&m->buf);
    s3_signer_deinit(&m->signer);
    assert_int_equal(m->mem.allocated_bytes, 0);
}
/* What was made since the last time. */
static const char *text(struct made *m) {
    buf_u8(&m->buf, 0);
    m->buf.size = 0;
    return (const char *)m->buf.data;
}

static void test_examples(void **state) {
    (void)state;
    struct made m;
    made_init(&m, "us-east-1");
    for (size_t i = 0; i < ARRAY_LEN(EXAMPLES); i++) {
        const struct example *x = &EXAMPLES[i];
        struct s3_signature s;
        char expected[512];
        assert_int_equal(s3_sign_canonical_request(&EXAMPLE, &x->request, &m.buf), OK);
        assert_string_equal(text(&m), x->canonical);
        s3_sign_string_to_sign(&m.signer, &x->request, x->canonical, strlen(x->canonical), &m.buf);
        assert_string_equal(text(&m), x->to_sign);
        assert_int_equal(s3_sign(&m.signer, &EXAMPLE, &x->request, &s), OK);
        (void)snprintf(expected, sizeof(expected),
                       "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                       "SignedHeaders=%s,Signature=%s",
                       x->signed_names, x->signature);
        assert_string_equal(s.authorization, expected);
        assert_string_equal(s.date, "20130524T000000Z");
    }
    made_deinit(&m);
}

static void test_example_parts(void **state) {
    (void)state;
    struct made m;
    made_init(&m, "us-east-1");
    char hash[S3_SIGN_HASH_SIZE];
    struct slice pieces[3] = {slice_borrow("Welcome to ", 11), slice_borrow(NULL, 0), slice_borrow("Amazon S3.", 10)};
    s3_sign_hash(pieces, 3, hash);
    assert_string_equal(hash, PUT_HASH);
    s3_sign_hash(NULL, 0, hash);
    assert_string_equal(hash, S3_SIGN_EMPTY);
    s3_sign_path(&m.buf, "test$file.text");
    assert_string_equal(text(&m), "/test%24file.text");
    made_deinit(&m);
}

/* Once, not twice; no part of a path is taken away; '/' stays in paths and not in parameters. */
static void test_encoding(void **state) {
    (void)state;
    struct made m;
    made_init(&m, "r");
    s3_sign_path(&m.buf, "b/a//b/../c d+e%20~_-.\xc3\xa9");
    assert_string_equal(text(&m), "/b/a//b/../c%20d%2Be%2520~_-.%C3%A9");
    s3_sign_path(&m.buf, "");
    assert_string_equal(text(&m), "/");
    struct s3_sign_pair pairs[] = {{"prefix", "a/b c"},     {"list-type", "2"}, {"a", ""},   {"b", "2"},
                                   {"start-after", "\xff"}, {"b", "10"},        {"b-", "0"}, {"a b", "x=y&z"}};
    s3_sign_query(&m.buf, pairs, ARRAY_LEN(pairs));
    assert_string_equal(text(&m), "a=&a%20b=x%3Dy%26z&b=10&b=2&b-=0&list-type=2&prefix=a%2Fb%20c&start-after=%FF");
    s3_sign_query(&m.buf, pairs, 0);
    assert_string_equal(text(&m), "");
    made_deinit(&m);
}

static void sign(struct made *m, const struct s3_sign_keys *keys, int64_t wall_ms, struct s3_signature *out) {
    struct s3_sign_request r = EXAMPLES[3].request;
    r.wall_ms = wall_ms;
    assert_int_equal(s3_sign(&m->signer, keys, &r, out), OK);
}

/* The key is kept for a day and a secret, and no longer. */
static void test_kept_key(void **state) {
    (void)state;
    struct made m, fresh;
    struct s3_signature s, t;
    made_init(&m, "eu-central-1");
    const struct s3_sign_keys other = {EXAMPLE.access_key, "another", NULL};
    const struct {
        const struct s3_sign_keys *keys;
        int64_t wall_ms;
    } steps[] = {{&EXAMPLE, EXAMPLE_MS},          {&EXAMPLE, EXAMPLE_MS + 86399999}, {&EXAMPLE, EXAMPLE_MS + 86400000},
                 {&other, EXAMPLE_MS + 86400000}, {&EXAMPLE, EXAMPLE_MS + 86400000}, {&EXAMPLE, EXAMPLE_MS}};
    char seen[ARRAY_LEN(steps)][65];
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        sign(&m, steps[i].keys, steps[i].wall_ms, &s);
        made_init(&fresh, "eu-central-1");
        sign(&fresh, steps[i].keys, steps[i].wall_ms, &t);
        made_deinit(&fresh);
        assert_string_equal(s.authorization, t.authorization);
        (void)snprintf(seen[i], sizeof(seen[i]), "%s", strstr(s.authorization, "Signature=") + 10);
        for (size_t j = 0; j < i; j++) {
            bool same = (i == 4 && j == 2) || (i == 5 && j == 0);
            assert_int_equal(strcmp(seen[i], seen[j]) == 0, same);
        }
    }
    made_deinit(&m);
}

static void test_dates(void **state) {
    (void)state;
    struct made m;
    struct s3_signature s;
    made_init(&m, "r");
    static const struct {
        int64_t wall_ms;
        const char *date;
    } dates[] = {{0, "19700101T000000Z"},
                 {951782399999, "20000228T235959Z"},
                 {951782400000, "20000229T000000Z"},
                 {951868800000, "20000301T000000Z"},
                 {1709251199000, "20240229T235959Z"},
                 {1735689599999, "20241231T235959Z"},
                 {1735689600000, "20250101T000000Z"},
                 {4107542400000, "21000301T000000Z"},
                 {-1, "19700101T000000Z"},
                 {INT64_MAX, "99991231T235959Z"}};
    for (size_t i = 0; i < ARRAY_LEN(dates); i++) {
        sign(&m, &EXAMPLE, dates[i].wall_ms, &s);
        assert_string_equal(s.date, dates[i].date);
    }
    made_deinit(&m);
}

/* A session token is a signed header; an unsigned payload says so. */
static void test_token(void **state) {
    (void)state;
    struct made m;
    struct s3_signature s;
    made_init(&m, "us-east-1");
    const struct s3_sign_keys keys = {EXAMPLE.access_key, EXAMPLE.secret, "TOKEN/x+y=="};
    struct s3_sign_request r = EXAMPLES[0].request;
    r.payload_hash = S3_SIGN_UNSIGNED;
    assert_int_equal(s3_sign_canonical_request(&keys, &r, &m.buf), OK);
    assert_string_equal(text(&m), "GET\n/test.txt\n\nhost:" EXAMPLE_HOST
                                  "\nrange:bytes=0-9\nx-amz-content-sha256:UNSIGNED-PAYLOAD\n"
                                  "x-amz-date:20130524T000000Z\nx-amz-security-token:TOKEN/x+y==\n\n"
                                  "host;range;x-amz-content-sha256;x-amz-date;x-amz-security-token\nUNSIGNED-PAYLOAD");
    assert_int_equal(s3_sign(&m.signer, &keys, &r, &s), OK);
    assert_null(strstr(s.authorization, "TOKEN"));
    assert_non_null(strstr(s.authorization, ";x-amz-security-token,"));
    made_deinit(&m);
}

static void test_refused(void **state) {
    (void)state;
    struct made m;
    struct s3_signature s;
    struct s3_sign_pair many[S3_SIGN_HEADERS_MAX];
    char names[S3_SIGN_HEADERS_MAX][16], longer[2000];
    made_init(&m, "us-east-1");
    for (size_t i = 0; i < S3_SIGN_HEADERS_MAX; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "h%zu", i);
        many[i] = (struct s3_sign_pair){names[i], "v"};
    }
    struct s3_sign_request r = EXAMPLES[0].request;
    r.headers = many;
    r.header_count = S3_SIGN_HEADERS_MAX - 4;
    assert_int_equal(s3_sign(&m.signer, &EXAMPLE, &r, &s), OK);
    r.header_count++;
    assert_int_equal(s3_sign(&m.signer, &EXAMPLE, &r, &s), ERR_INVALID);
    assert_int_equal(s3_sign_canonical_request(&EXAMPLE, &r, &m.buf), ERR_INVALID);
    r.header_count = 2;
    many[0].name = "H1"; /* twice the same */
    assert_int_equal(s3_sign(&m.signer, &EXAMPLE, &r, &s), ERR_INVALID);
    memset(longer, 'k', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    many[0].name = "h0";
    const struct s3_sign_keys long_access = {longer, EXAMPLE.secret, NULL}, long_secret = {"AK", longer, NULL};
    assert_int_equal(s3_sign(&m.signer, &long_access, &r, &s), ERR_INVALID);
    assert_int_equal(s3_sign(&m.signer, &long_secret, &r, &s), ERR_INVALID);
    assert_int_equal(s3_sign(&m.signer, &EXAMPLE, &r, &s), OK);
    made_deinit(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples), cmocka_unit_test(test_example_parts), cmocka_unit_test(test_encoding),
        cmocka_unit_test(test_kept_key), cmocka_unit_test(test_dates),         cmocka_unit_test(test_token),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
