/* The pure parts of the S3 store: addresses, XML as servers write it and as they should not, when to ask twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "rt/env.h"
#include "store/s3_priv.h"

static struct mem mem;
static char why[S3_WHY_SIZE];

static void test_address(void **state) {
    (void)state;
    static const struct {
        const char *bucket, *prefix, *endpoint, *region;
        enum s3_style style;
        const char *url; /* scheme, host and path of the key "k" */
    } right[] = {
        {"bucket", "", NULL, NULL, S3_STYLE_AUTO, "https://bucket.s3.us-east-1.amazonaws.com/k"},
        {"bucket", "a/b", "", "eu-west-1", S3_STYLE_AUTO, "https://bucket.s3.eu-west-1.amazonaws.com/a/b/k"},
        {"bucket", "", "", "cn-north-1", S3_STYLE_AUTO, "https://bucket.s3.cn-north-1.amazonaws.com.cn/k"},
        {"bucket", "", NULL, NULL, S3_STYLE_PATH, "https://s3.us-east-1.amazonaws.com/bucket/k"},
        {"my.bucket", "", NULL, NULL, S3_STYLE_AUTO, "https://s3.us-east-1.amazonaws.com/my.bucket/k"},
        {"My_bucket", "", NULL, NULL, S3_STYLE_AUTO, "https://s3.us-east-1.amazonaws.com/My_bucket/k"},
        {"bucket", "", "http://10.0.0.1:9000", NULL, S3_STYLE_AUTO, "http://10.0.0.1:9000/bucket/k"},
        {"bucket", "", "http://[::1]:9000/", NULL, S3_STYLE_AUTO, "http://[::1]:9000/bucket/k"},
        {"bucket", "", "http://[::1]:80", NULL, S3_STYLE_AUTO, "http://[::1]/bucket/k"},
        {"bucket", "", "http://localhost:9000", NULL, S3_STYLE_AUTO, "http://localhost:9000/bucket/k"},
        {"bucket", "", "http://s3.localhost:9000", NULL, S3_STYLE_AUTO, "http://s3.localhost:9000/bucket/k"},
        {"bucket", "", "http://minio:9000", NULL, S3_STYLE_AUTO, "http://minio:9000/bucket/k"},
        {"bucket", "", "https://rgw.example.org", NULL, S3_STYLE_AUTO, "https://bucket.rgw.example.org/k"},
        {"bucket", "", "https://rgw.example.org:443", NULL, S3_STYLE_AUTO, "https://bucket.rgw.example.org/k"},
        {"bucket", "", "http://rgw.example.org:443", NULL, S3_STYLE_AUTO, "http://bucket.rgw.example.org:443/k"},
        {"bucket", "", "http://10.0.0.1:9000", NULL, S3_STYLE_HOST, "http://bucket.10.0.0.1:9000/k"},
    };
    for (size_t i = 0; i < ARRAY_LEN(right); i++) {
        struct s3_options o = {.bucket = right[i].bucket,
                               .prefix = right[i].prefix,
                               .endpoint = right[i].endpoint,
                               .region = right[i].region,
                               .style = right[i].style};
        struct s3_address a;
        struct buf path;
        char url[1024];
        assert_int_equal(s3_address_make(&o, &a, why, sizeof(why)), OK);
        buf_init(&path, &mem);
        s3_address_path(&a, "k", &path);
        snprintf(url, sizeof(url), "%s://%s%s", a.tls ? "https" : "http", a.host, (const char *)path.data);
        assert_string_equal(url, right[i].url);
        path.size = 0;
        s3_address_path(&a, "", &path);
        assert_true(strcmp((const char *)path.data, "/") == 0 || strchr((const char *)path.data + 1, '/') == NULL);
        buf_deinit(&path);
    }
    char longer[500];
    memset(longer, 'p', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    struct s3_options wrong[] = {
        {.bucket = ""},
        {.bucket = "ab"},
        {.bucket = "a/b/c"},
        {.bucket = "..."},
        {.bucket = "bucket", .prefix = "/a"},
        {.bucket = "bucket", .prefix = "a//b"},
        {.bucket = "bucket", .prefix = longer},
        {.bucket = "bucket", .region = "a b"},
        {.bucket = "bucket", .region = longer},
        {.bucket = "bucket", .endpoint = "ftp://x"},
        {.bucket = "bucket", .endpoint = "http://a@b"},
        {.bucket = "bucket", .endpoint = "http://a/b"},
        {.bucket = "bucket", .endpoint = "http://"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct s3_address a;
        why[0] = '\0';
        assert_int_equal(s3_address_make(&wrong[i], &a, why, sizeof(why)), ERR_INVALID);
        assert_true(why[0] != '\0');
    }
}

static enum err parse_error(const char *text, struct s3_error *out) {
    return s3_xml_error(&mem, text, strlen(text), out);
}

static void note_failed(void *ctx, const char *key, const char *code) {
    char *text = ctx;
    (void)snprintf(text + strlen(text), 64 - strlen(text), "%s:%s ", key, code);
}

static void test_xml(void **state) {
    (void)state;
    struct s3_error e;
    assert_int_equal(
        parse_error("<?xml version='1.0'?>\n<Error xmlns='x'><Message>a &amp; b</Message><Code>No&#83;uch</Code>"
                    "<Region>r</Region><Resource><![CDATA[<Code>x</Code>]]></Resource></Error>",
                    &e),
        OK);
    assert_string_equal(e.code, "NoSuch");
    assert_string_equal(e.region, "r");
    assert_int_equal(parse_error("<s:Error xmlns:s='x'><s:Code>A</s:Code></s:Error>", &e), OK);
    assert_string_equal(e.code, "A");
    /* For log lines: no control bytes, no quotes. */
    assert_int_equal(parse_error("<Error><Code>A&#10;\"B</Code></Error>", &e), OK);
    assert_string_equal(e.code, "A??B");
    char longer[400] = "<Error><Code>", deep[2000] = "", large[20000];
    memset(longer + 13, 'c', 200);
    strcpy(longer + 213, "</Code></Error>");
    assert_int_equal(parse_error(longer, &e), OK);
    assert_int_equal(strlen(e.code), sizeof(e.code) - 1);
    for (unsigned i = 0; i < 100; i++) strcat(deep, "<a>");
    memset(large, 'x', sizeof(large));
    memcpy(large, "<Error><Code>", 13);
    memcpy(large + sizeof(large) - 16, "</Code></Error>", 16);
    const char *const wrong[] = {
        "",
        "hello",
        "<html></html>",
        "<Error></Error>",
        "<Error><Code></Code></Error>",
        "<Error><Code>A</Code>",
        "<!DOCTYPE Error [<!ENTITY a 'b'>]><Error><Code>&a;</Code></Error>",
        "<Error><Code>A</Code></Error><Error/>",
        "<A><Error><Code>A</Code></Error></A>",
        deep,
        large,
        "<Error><Code>A&b;</Code></Error>",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(parse_error(wrong[i], &e), ERR_PROTOCOL);
        assert_string_equal(e.code, "");
    }
    char *id;
    static const char upload[] =
        "<InitiateMultipartUploadResult><UploadId>2~a/b</UploadId></InitiateMultipartUploadResult>";
    assert_int_equal(s3_xml_upload_id(&mem, upload, sizeof(upload) - 1, &id), OK);
    assert_string_equal(id, "2~a/b");
    mem_free(&mem, id);
    assert_int_equal(s3_xml_upload_id(&mem, upload, 20, &id), ERR_PROTOCOL);
    assert_null(id);
    char etag[S3_XML_ETAG_MAX];
    static const char copied[] = "<CopyPartResult><ETag>&quot;a-1&quot;</ETag></CopyPartResult>",
                      refused[] = "<Error><Code>InternalError</Code></Error>", empty[] = "<CopyPartResult/>";
    assert_int_equal(s3_xml_copied(&mem, copied, sizeof(copied) - 1, etag, &e), OK);
    assert_string_equal(etag, "\"a-1\"");
    assert_int_equal(s3_xml_copied(&mem, refused, sizeof(refused) - 1, etag, &e), ERR_NOT_FOUND);
    assert_string_equal(e.code, "InternalError");
    assert_int_equal(s3_xml_copied(&mem, empty, sizeof(empty) - 1, etag, &e), ERR_PROTOCOL);
    assert_int_equal(s3_xml_copied(&mem, NULL, 0, etag, &e), ERR_PROTOCOL);
    assert_string_equal(etag, "");
    struct store_uploads u = {.mem = &mem};
    struct s3_xml_uploads page;
    static const char *const bad[] = {
        "<ListMultipartUploadsResult><Upload><Key>pre/a</Key></Upload></ListMultipartUploadsResult>",
        "<ListMultipartUploadsResult><Upload><UploadId>a</UploadId></Upload></ListMultipartUploadsResult>",
        "<ListMultipartUploadsResult><NextKeyMarker>a</NextKeyMarker>", "<ListBucketResult/>"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(s3_xml_uploads(&mem, bad[i], strlen(bad[i]), "pre/", &u, &page), ERR_PROTOCOL);
        assert_int_equal(u.count, 0);
        assert_null(page.key);
    }
    char failed[64] = "";
    static const char deleted[] =
        "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>X</Code></Error>"
        "<Error><Key>c</Key><Code>NoSuchKey</Code></Error><Error><Key>d</Key></Error></DeleteResult>";
    assert_int_equal(s3_xml_deleted(&mem, deleted, sizeof(deleted) - 1, note_failed, failed), OK);
    assert_string_equal(failed, "b:X d: ");
    assert_int_equal(s3_xml_deleted(&mem, "<a/>", 4, note_failed, failed), ERR_PROTOCOL);
}

static void test_hedge(void **state) {
    (void)state;
    struct s3_hedge h;
    s3_hedge_init(&h);
    assert_int_equal(s3_hedge_after_ns(&h, 100), 2 * NS_PER_S); /* nothing is known */
    for (unsigned i = 0; i < 1000; i++) s3_hedge_observe(&h, 100, i % 50 == 0 ? 900 * NS_PER_MS : 20 * NS_PER_MS);
    uint64_t after = s3_hedge_after_ns(&h, 100);
    assert_true(after >= 20 * NS_PER_MS && after < 30 * NS_PER_MS);
    assert_int_equal(s3_hedge_after_ns(&h, 1 << 20), 2 * NS_PER_S); /* of that size nothing is known */
    /* It follows: now all are slower. */
    for (unsigned i = 0; i < 4000; i++) s3_hedge_observe(&h, 100, 200 * NS_PER_MS);
    after = s3_hedge_after_ns(&h, 100);
    assert_true(after >= 200 * NS_PER_MS && after < 300 * NS_PER_MS);
    for (unsigned i = 0; i < 100; i++) s3_hedge_observe(&h, 8 << 20, 3600 * NS_PER_S);
    assert_int_equal(s3_hedge_after_ns(&h, 8 << 20), 0); /* a second request would be no help */
    for (unsigned i = 0; i < 100; i++) s3_hedge_observe(&h, 200000, 10000);
    assert_int_equal(s3_hedge_after_ns(&h, 200000), 5 * NS_PER_MS);
    s3_hedge_deinit(&h);
    /* At most three in a hundred, and no more than ten at once after a long quiet. */
    s3_hedge_init(&h);
    unsigned allowed = 0;
    for (unsigned i = 0; i < 1000; i++) {
        s3_hedge_observe(&h, 1, NS_PER_MS);
        allowed += s3_hedge_allowed(&h);
    }
    assert_int_equal(allowed, 30 + 3); /* three to begin with */
    for (unsigned i = 0; i < 10000; i++) s3_hedge_observe(&h, 1, NS_PER_MS);
    for (allowed = 0; s3_hedge_allowed(&h);) allowed++;
    assert_int_equal(allowed, 10);
    s3_hedge_deinit(&h);
}

static void test_base64(void **state) {
    (void)state;
    char out[16];
    static const char *const expected[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                           "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"}; /* RFC 4648 */
    for (size_t n = 0; n < 7; n++) {
        s3_base64((const uint8_t *)"foobar", n, out);
        assert_string_equal(out, expected[n]);
    }
}

int main(void) {
    mem_init_heap(&mem);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_xml),
        cmocka_unit_test(test_hedge),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
