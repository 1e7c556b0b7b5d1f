/* The S3 store against a server that answers by script: what is sent, what becomes of each answer, what is repeated and
 * what is not, pages, batches, parts, and the sentences of a start that is refused. */
#include "unit/store/s3_fixture.h"

#include "base/crc32c.h"
#include "store/s3_priv.h"

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define NS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""
#define EMPTY_LIST XML "<ListBucketResult " NS "><IsTruncated>false</IsTruncated></ListBucketResult>"

static bool is_probe(const struct fake_request *r) {
    return strcmp(r->method, "GET") == 0 && strstr(r->target, "max-keys=16&") != NULL;
}
/* Answers the questions of the open; false: something else was asked. */
static bool answer_probe(struct fake_request *r) {
    if (!is_probe(r)) return false;
    fake_answer(r, 200, "", EMPTY_LIST);
    return true;
}
static void open_ok(struct s3_test *t) {
    enum err e = store_s3_open(&t->options, &t->store, t->why);
    if (e != OK) print_error("open: %s: %s\n", err_name(e), t->why);
    assert_int_equal(e, OK);
    atomic_store(&t->server.requests, 0);
}

/* --- The start. */

struct refusal {
    unsigned status;
    const char *headers, *body;
    enum err expected;
    const char *says[3];
};
static _Atomic int refusal_at;
static const struct refusal refusals[] = {
    {404, "", XML "<Error><Code>NoSuchBucket</Code></Error>", ERR_NOT_FOUND, {"no bucket 'bucket'", "make it"}},
    {400,
     "",
     XML "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
     ERR_INVALID,
     {"is in the region 'eu-west-1'", "region=eu-west-1"}},
    {301,
     "x-amz-bucket-region: ap-south-1\r\n",
     XML "<Error><Code>PermanentRedirect</Code><Endpoint>bucket.s3.amazonaws.com</Endpoint></Error>",
     ERR_INVALID,
     {"region=ap-south-1"}},
    {307,
     "",
     XML "<Error><Code>TemporaryRedirect</Code><Endpoint>there.example</Endpoint></Error>",
     ERR_INVALID,
     {"'there.example'"}},
    {403,
     "",
     XML "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>secret words</StringToSign></Error>",
     ERR_PERMISSION,
     {"SignatureDoesNotMatch", "correct the secret access key"}},
    {403, "", XML "<Error><Code>InvalidAccessKeyId</Code></Error>", ERR_PERMISSION, {"does not know the access key"}},
    {403,
     "",
     XML "<Error><Code>RequestTimeTooSkewed</Code><ServerTime>2001-02-03T04:05:06Z</ServerTime></Error>",
     ERR_INVALID,
     {"store says 2001-02-03T04:05:06Z", "this machine says 20", "clock"}},
    {403,
     "Date: Sat, 03 Feb 2001 04:05:06 GMT\r\n",
     XML "<Error><Code>RequestTimeTooSkewed</Code></Error>",
     ERR_INVALID,
     {"store says Sat, 03 Feb 2001 04:05:06 GMT"}},
    {403,
     "",
     XML "<Error><Code>AccessDenied</Code></Error>",
     ERR_PERMISSION,
     {"may not use the bucket", "AccessDenied"}},
    {400, "", XML "<Error><Code>StrangeThing</Code></Error>", ERR_INVALID, {"StrangeThing", "status 400"}},
    {200, "", "<html><body>Welcome</body></html>", ERR_FOREIGN, {"does not speak S3"}},
    {200, "", "hello", ERR_FOREIGN, {"does not speak S3"}},
    {404, "", "<html>Not here</html>", ERR_FOREIGN, {"does not speak S3", "404"}},
    {302, "Location: /login\r\n", "", ERR_FOREIGN, {"does not speak S3", "302"}},
    {503, "", XML "<Error><Code>SlowDown</Code></Error>", ERR_UNAVAILABLE, {"cannot serve now", "503", "SlowDown"}},
    {500, "", "", ERR_UNAVAILABLE, {"cannot serve now", "500"}},
};
static void refuse_all(struct fake_request *r, void *arg) {
    (void)arg;
    const struct refusal *x = &refusals[atomic_load(&refusal_at)];
    fake_answer(r, x->status, x->headers, "%s", x->body);
}
static void body_refused(struct s3_test *t) {
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        const struct refusal *x = &refusals[i];
        atomic_store(&refusal_at, (int)i);
        enum err e = store_s3_open(&t->options, &t->store, t->why);
        bool right = e == x->expected;
        for (unsigned k = 0; k < 3 && x->says[k]; k++) right &= strstr(t->why, x->says[k]) != NULL;
        if (!right) print_error("%zu: %s: %s\n", i, err_name(e), t->why);
        assert_true(right);
        assert_null(strstr(t->why, "secret words"));
        assert_null(strchr(t->why, '\n'));
    }
    struct s3_options o = t->options;
    o.endpoint = "http://127.0.0.1:1";
    assert_int_equal(store_s3_open(&o, &t->store, t->why), ERR_UNAVAILABLE);
    assert_non_null(strstr(t->why, "cannot be reached"));
    o = t->options;
    o.credentials = (struct s3_credentials_options){.aws_ec2_metadata_disabled = "true", .home = "/nonexistent"};
    assert_int_equal(store_s3_open(&o, &t->store, t->why), ERR_PERMISSION);
    assert_non_null(strstr(t->why, "AWS_ACCESS_KEY_ID"));
}
static void test_refused(void **state) {
    (void)state;
    s3_test_run(body_refused, refuse_all, NULL);
}

/* Whose prefix is it? */
static _Atomic int prefix_mode;
static void prefix_script(struct fake_request *r, void *arg) {
    (void)arg;
    int mode = atomic_load(&prefix_mode);
    if (mode == 3 && r->number <= 2) { /* busy at first */
        fake_error(r, 503, "SlowDown");
    } else if (is_probe(r)) {
        assert_non_null(strstr(r->target, "prefix=pre%2F"));
        fake_answer(r, 200, "", XML "<ListBucketResult " NS "><IsTruncated>false</IsTruncated>%s%s</ListBucketResult>",
                    "<Contents><Key>pre/oxbow/probe-0000000000000001</Key><Size>9</Size></Contents>",
                    mode == 0 ? "" : "<Contents><Key>pre/photo.jpg</Key><Size>9</Size></Contents>");
    } else if (strstr(r->target, "/bucket/pre/oxbow.cluster") && mode != 1) {
        fake_answer(r, 206, "ETag: \"x\"\r\nContent-Range: bytes 0-0/56\r\n", "O");
    } else {
        fake_error(r, 404, "NoSuchKey");
    }
}
static void body_prefix(struct s3_test *t) {
    for (int mode = 0; mode < 4; mode++) {
        atomic_store(&t->server.requests, 0);
        atomic_store(&prefix_mode, mode);
        t->options.patience_ns = 5 * NS_PER_S;
        enum err e = store_s3_open(&t->options, &t->store, t->why);
        assert_int_equal(e, mode == 1 ? ERR_FOREIGN : OK);
        if (mode == 1) {
            assert_non_null(strstr(t->why, "not Oxbow's under the prefix 'pre/'"));
        } else {
            assert_false(t->store->exclusive);
            assert_true(t->store->list_consistent);
            store_close(t->store);
        }
        t->store = NULL;
    }
}
static void test_prefix(void **state) {
    (void)state;
    s3_test_run(body_prefix, prefix_script, NULL);
}

/* --- Creates: sent once, and never guessed. */

static _Atomic int create_at;
static const struct {
    unsigned status;
    const char *code;
    enum err expected;
    unsigned sent;
} creates[] = {
    {200, NULL, OK, 1},                  /* with an ETag */
    {200, NULL, ERR_UNKNOWN_OUTCOME, 1}, /* somebody in between says something */
    {412, "PreconditionFailed", ERR_EXISTS, 1},
    {412, NULL, ERR_EXISTS, 1},
    {409, "ConditionalRequestConflict", ERR_UNKNOWN_OUTCOME, 1},
    {503, "SlowDown", ERR_UNKNOWN_OUTCOME, 1},
    {500, "InternalError", ERR_UNKNOWN_OUTCOME, 1},
    {504, NULL, ERR_UNKNOWN_OUTCOME, 1},
    {429, NULL, ERR_UNKNOWN_OUTCOME, 1},
    {403, "AccessDenied", ERR_UNAVAILABLE, 1},
    {403, NULL, ERR_UNKNOWN_OUTCOME, 1}, /* somebody in between */
    {404, "NoSuchBucket", ERR_UNAVAILABLE, 1},
    {404, "NoSuchKey", ERR_UNKNOWN_OUTCOME, 1},
    {400, "ExpiredToken", ERR_UNAVAILABLE, 2},
    {400, "RequestTimeout", ERR_UNAVAILABLE, 1},
    {501, "NotImplemented", ERR_UNSUPPORTED, 1},
    {501, NULL, ERR_UNKNOWN_OUTCOME, 1},
    {0, NULL, ERR_UNKNOWN_OUTCOME, 1}, /* a cut answer */
};
static void create_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    assert_string_equal(r->method, "PUT");
    assert_string_equal(r->target, "/bucket/pre/some/key-1_.x");
    assert_string_equal(fake_header(r, "If-None-Match"), "*");
    assert_string_equal(fake_header(r, "x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
    assert_string_equal(fake_header(r, "x-amz-checksum-crc32c"), "4waSgw=="); /* of "123456789" */
    assert_non_null(strstr(fake_header(r, "Authorization"), "Credential=THEKEY/"));
    assert_non_null(strstr(fake_header(r, "Authorization"), "/us-east-1/s3/aws4_request"));
    assert_non_null(strstr(fake_header(r, "Authorization"),
                           "SignedHeaders=host;if-none-match;x-amz-checksum-crc32c;x-amz-content-sha256;x-amz-date"));
    char host[64];
    snprintf(host, sizeof(host), "127.0.0.1:%u", r->server->port);
    assert_string_equal(fake_header(r, "Host"), host);
    assert_string_equal(r->body, "123456789");
    int i = atomic_load(&create_at);
    if (creates[i].status == 0) {
        fake_text(r, "HTTP/1.1 200 OK\r\nContent-Len");
        r->close = true;
    } else if (creates[i].code) {
        fake_error(r, creates[i].status, creates[i].code);
    } else {
        fake_answer(r, creates[i].status, i == 0 ? "ETag: \"x\"\r\n" : "", "%s", "");
    }
}
static void body_create(struct s3_test *t) {
    open_ok(t);
    struct slice data[] = {slice_borrow("1234", 4), slice_borrow(NULL, 0), slice_borrow("56789", 5)};
    for (size_t i = 0; i < ARRAY_LEN(creates); i++) {
        atomic_store(&create_at, (int)i);
        atomic_store(&t->server.requests, 0);
        enum err e = store_put(t->store, "some/key-1_.x", data, 3, true, STORE_FOR_OTHER);
        if (e != creates[i].expected)
            print_error("status %u %s: %s\n", creates[i].status, creates[i].code, err_name(e));
        assert_int_equal(e, creates[i].expected);
        assert_int_equal(t->server.requests, creates[i].sent);
    }
    assert_non_null(strstr(t->log, "s3 request failed"));
}
static void test_create(void **state) {
    (void)state;
    s3_test_run(body_create, create_script, NULL);
}

/* In the host name: any name below "localhost" is this machine. */
static void host_script(struct fake_request *r, void *arg) {
    (void)arg;
    char host[64];
    snprintf(host, sizeof(host), "bucket.localhost:%u", r->server->port);
    assert_string_equal(fake_header(r, "Host"), host);
    if (is_probe(r)) {
        assert_memory_equal(r->target, "/?", 2);
        fake_answer(r, 200, "", EMPTY_LIST);
        return;
    }
    assert_string_equal(r->target, "/pre/k");
    fake_answer(r, 206, "ETag: \"x\"\r\nContent-Range: bytes 5-6/100\r\n", "ab");
}
static void body_host(struct s3_test *t) {
    char endpoint[64];
    snprintf(endpoint, sizeof(endpoint), "http://localhost:%u/", t->server.port);
    t->options.endpoint = endpoint;
    t->options.style = S3_STYLE_HOST;
    open_ok(t);
    struct slice s;
    assert_int_equal(store_get(t->store, "k", 5, 2, STORE_FOR_READ, &s), OK);
    slice_unref(&s);
}
static void test_host(void **state) {
    (void)state;
    s3_test_run(body_host, host_script, NULL);
}

/* --- Reads: repeated, and checked. */

static _Atomic int get_at;
static const struct {
    unsigned status; /* 0: cut */
    const char *headers, *body;
    uint64_t position;
    size_t size;
    enum err expected;
    const char *gives;
    unsigned fails; /* so many times 503 before it */
    unsigned sent;
} gets[] = {
    {206, "Content-Range: bytes 3-5/10\r\n", "def", 3, 3, OK, "def", 0, 1},
    {206, "Content-Range: bytes 3-5/*\r\n", "def", 3, 3, OK, "def", 0, 1},
    {206, "Content-Range: bytes 3-9/10\r\n", "defghij", 3, 100, OK, "defghij", 0, 1}, /* the end of the object */
    {206, "Content-Range: bytes 0-9/10\r\n", "abcdefghij", 0, SIZE_MAX / 2, OK, "abcdefghij", 0, 1},
    {206, "Content-Range: bytes 3-5/10\r\n", "def", 3, 3, OK, "def", 2, 3}, /* at the third try */
    {206, "Content-Range: bytes 3-5/10\r\n", "def", 3, 3, ERR_UNAVAILABLE, "", 3, 3},
    {206, "Content-Range: bytes 4-6/10\r\n", "def", 3, 3, ERR_UNAVAILABLE, "", 0, 3}, /* another range */
    {206, "Content-Range: bytes 3-6/10\r\n", "def", 3, 3, ERR_UNAVAILABLE, "", 0, 3}, /* more than asked for */
    {206, "Content-Range: bytes 3-5/10\r\n", "def", 3, 4, ERR_UNAVAILABLE, "", 0, 3}, /* less, and not the end */
    {206, "Content-Range: bytes 3-4/10\r\n", "def", 3, 3, ERR_UNAVAILABLE, "", 0, 3}, /* not that many bytes */
    {206, "", "def", 3, 3, ERR_UNAVAILABLE, "", 0, 3},
    {200, "", "abcdefghij", 3, 3, OK, "def", 0, 1}, /* the whole object */
    {200, "", "abcdefghij", 3, 100, OK, "defghij", 0, 1},
    {200, "", "abc", 3, 100, OK, "", 0, 1},
    {204, "", "", 3, 100, ERR_UNAVAILABLE, "", 0, 3},
    {200, "", "<html>Welcome</html>", 0, 100, ERR_UNAVAILABLE, "", 0, 3},
    {416, "", "", 10, 3, OK, "", 0, 1},
    {206, "Content-Range: bytes 3-3/10\r\n", "d", 3, 0, OK, "", 0, 1},
    {404, "", "<Error><Code>NoSuchKey</Code></Error>", 0, 3, ERR_NOT_FOUND, "", 0, 1},
    {404, "", "<Error><Code>NoSuchBucket</Code></Error>", 0, 3, ERR_UNAVAILABLE, "", 0, 1},
    {404, "", "<html>lost</html>", 0, 3, ERR_UNAVAILABLE, "", 0, 1},
    {404, "", "", 0, 3, ERR_UNAVAILABLE, "", 0, 1},
    {403, "", "<Error><Code>AccessDenied</Code></Error>", 0, 3, ERR_UNAVAILABLE, "", 0, 1},
    {500, "", "", 0, 3, ERR_UNAVAILABLE, "", 0, 3},
    {0, "", "", 0, 3, ERR_UNAVAILABLE, "", 0, 3},
};
static void get_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    int i = atomic_load(&get_at);
    char range[64];
    if (gets[i].size > (1u << 30)) {
        snprintf(range, sizeof(range), "bytes=%llu-", (unsigned long long)gets[i].position);
    } else {
        snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)gets[i].position,
                 (unsigned long long)(gets[i].position + (gets[i].size ? gets[i].size : 1) - 1));
    }
    assert_string_equal(fake_header(r, "Range"), range);
    if (r->number <= gets[i].fails) {
        fake_error(r, 503, "SlowDown");
    } else if (gets[i].status == 0) {
        fake_text(r, "HTTP/1.1 206 Part\r\nContent-Length: 3\r\nContent-Range: bytes 0-2/10\r\n\r\nab");
        r->close = true;
    } else {
        char headers[200];
        bool ours = gets[i].expected != ERR_UNAVAILABLE || gets[i].body[0] != '<';
        snprintf(headers, sizeof(headers), "%s%s", gets[i].headers, ours ? "ETag: \"x\"\r\n" : "");
        fake_answer(r, gets[i].status, headers, "%s", gets[i].body);
    }
}
static void body_get(struct s3_test *t) {
    open_ok(t);
    for (size_t i = 0; i < ARRAY_LEN(gets); i++) {
        atomic_store(&get_at, (int)i);
        atomic_store(&t->server.requests, 0);
        struct slice s;
        enum err e = store_get(t->store, "key", gets[i].position, gets[i].size, STORE_FOR_READ, &s);
        if (e != gets[i].expected || t->server.requests != gets[i].sent)
            print_error("%zu: %s after %u requests\n", i, err_name(e), (unsigned)t->server.requests);
        assert_int_equal(e, gets[i].expected);
        assert_int_equal(t->server.requests, gets[i].sent);
        assert_int_equal(s.size, strlen(gets[i].gives));
        if (s.size) assert_memory_equal(s.data, gets[i].gives, s.size);
        slice_unref(&s);
    }
}
static void test_get(void **state) {
    (void)state;
    s3_test_run(body_get, get_script, NULL);
}

/* --- Lists. */

static const char *query_of(const struct fake_request *r, const char *name, char out[256]) {
    char find[64];
    snprintf(find, sizeof(find), "%s=", name);
    const char *q = strchr(r->target, '?');
    while (q) {
        q++;
        if (strncmp(q, find, strlen(find)) == 0) {
            snprintf(out, 256, "%.*s", (int)strcspn(q + strlen(find), "&"), q + strlen(find));
            return out;
        }
        q = strchr(q, '&');
    }
    return NULL;
}

#define ITEM(key) "<Contents><Key>" key "</Key><ETag>&quot;x&quot;</ETag><Size>7</Size></Contents>"
static _Atomic int list_at;
static const struct {
    const char *pages[4]; /* in order; a token "tN" leads to page N */
    size_t max;
    const char *after;
    enum err expected;
    const char *gives; /* keys with blanks in between */
    bool more;
} lists[] = {
    {{ITEM("pre/a/1") ITEM("pre/a/2") "<IsTruncated>false</IsTruncated>"}, 1000, NULL, OK, "a/1 a/2 ", false},
    {{"<IsTruncated>false</IsTruncated>"}, 1000, NULL, OK, "", false},
    {{ITEM("pre/a/1") "<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>",
      ITEM("pre/a/2") "<IsTruncated>false</IsTruncated>"},
     1000,
     NULL,
     OK,
     "a/1 a/2 ",
     false},
    /* Empty pages in between. */
    {{"<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>",
      "<IsTruncated>true</IsTruncated><NextContinuationToken>t2</NextContinuationToken>",
      ITEM("pre/a/2") "<IsTruncated>false</IsTruncated>"},
     1000,
     NULL,
     OK,
     "a/2 ",
     false},
    {{ITEM("pre/a/1")
          ITEM("pre/a/2") "<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>"},
     2,
     NULL,
     OK,
     "a/1 a/2 ",
     true},
    {{"<EncodingType>url</EncodingType>" ITEM("pre/a/%21+%2Bx") "<IsTruncated>false</IsTruncated>"},
     1000,
     NULL,
     OK,
     "a/! +x ",
     false},
    {{ITEM("pre/a/%21+") "<IsTruncated>false</IsTruncated>"}, 1000, NULL, OK, "a/%21+ ", false},
    {{ITEM("pre/a/5") "<IsTruncated>false</IsTruncated>"}, 1000, "a/4", OK, "a/5 ", false},
    /* What was not asked for, or in another order. */
    {{ITEM("pre/a/2") ITEM("pre/a/1") "<IsTruncated>false</IsTruncated>"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
    {{ITEM("pre/a/1") ITEM("pre/a/1") "<IsTruncated>false</IsTruncated>"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
    {{ITEM("pre/b/1") "<IsTruncated>false</IsTruncated>"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
    {{ITEM("other/a/1") "<IsTruncated>false</IsTruncated>"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
    {{ITEM("pre/a/4") "<IsTruncated>false</IsTruncated>"}, 1000, "a/4", ERR_UNAVAILABLE, "", false},
    {{ITEM("pre/a/1") ITEM("pre/a/2") "<IsTruncated>false</IsTruncated>"}, 1, NULL, ERR_UNAVAILABLE, "", false},
    {{"<Contents><Key>pre/a/1</Key></Contents>"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
    {{"<Contents><Key>pre/a/1</Key><Size>x</Size></Contents>"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
    {{"<IsTruncated>true</IsTruncated>"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
    {{"<IsTruncated>false</IsTrunc"}, 1000, NULL, ERR_UNAVAILABLE, "", false},
};
static void list_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    int i = atomic_load(&list_at);
    char text[256], expected[32];
    assert_memory_equal(r->target, "/bucket?", 8);
    assert_string_equal(query_of(r, "list-type", text), "2");
    assert_string_equal(query_of(r, "prefix", text), "pre%2Fa%2F");
    unsigned page = 0;
    if (query_of(r, "continuation-token", text)) {
        page = (unsigned)(text[1] - '0');
    } else if (lists[i].after) {
        assert_string_equal(query_of(r, "start-after", text), "pre%2Fa%2F4");
    } else {
        assert_null(query_of(r, "start-after", text));
    }
    if (page == 0) {
        snprintf(expected, sizeof(expected), "%zu", lists[i].max);
        assert_string_equal(query_of(r, "max-keys", text), expected);
    }
    fake_answer(r, 200, "", XML "<ListBucketResult " NS "><Name>bucket</Name>%s</ListBucketResult>",
                lists[i].pages[page]);
}
static void body_list(struct s3_test *t) {
    open_ok(t);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        atomic_store(&list_at, (int)i);
        struct store_listing l;
        enum err e = store_list(t->store, "a/", lists[i].after, lists[i].max, STORE_FOR_OTHER, &l);
        char text[256] = "";
        for (size_t k = 0; k < l.count; k++) {
            size_t used = strlen(text);
            snprintf(text + used, sizeof(text) - used, "%s ", l.items[k].key);
            assert_int_equal(l.items[k].size_bytes, 7);
        }
        if (e != lists[i].expected) print_error("%zu: %s: %s\n", i, err_name(e), text);
        assert_int_equal(e, lists[i].expected);
        assert_string_equal(text, lists[i].gives);
        assert_int_equal(l.more, lists[i].more);
        store_listing_deinit(&l);
    }
}
static void test_list(void **state) {
    (void)state;
    s3_test_run(body_list, list_script, NULL);
}

/* --- Deletes. */

static _Atomic int delete_mode;
static _Atomic unsigned deleted_keys;
static void delete_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    int mode = atomic_load(&delete_mode);
    if (strcmp(r->method, "DELETE") == 0) {
        bool first = strcmp(r->target, "/bucket/pre/k/1") == 0;
        if (mode == 6 && first) {
            fake_error(r, 403, "AccessDenied");
            return;
        }
        atomic_fetch_add(&deleted_keys, 1);
        if (mode == 4) {
            fake_error(r, 404, "NoSuchKey");
        } else {
            fake_answer(r, 204, "", "%s", "");
        }
        return;
    }
    assert_string_equal(r->method, "POST");
    assert_string_equal(r->target, "/bucket?delete=");
    assert_string_equal(fake_header(r, "Content-Type"), "application/xml");
    assert_int_equal(strlen(fake_header(r, "Content-MD5")), 24);
    assert_int_equal(strlen(fake_header(r, "x-amz-content-sha256")), 64);
    unsigned keys = 0;
    for (const char *k = r->body; (k = strstr(k, "<Object><Key>pre/k/")) != NULL; k++) keys++;
    assert_true(keys > 1 && keys <= 1000);
    if (mode == 1 && r->number == 1) { /* one key could not be deleted: the batch is sent again */
        fake_answer(r, 200, "",
                    XML "<DeleteResult " NS
                        "><Error><Key>pre/k/1</Key><Code>InternalError</Code></Error></DeleteResult>");
    } else if (mode == 2) {
        atomic_fetch_add(&deleted_keys, keys - 1);
        fake_answer(r, 200, "",
                    XML "<DeleteResult " NS
                        "><Error><Key>pre/k/1</Key><Code>AccessDenied</Code></Error></DeleteResult>");
    } else if (mode == 6) {
        fake_error(r, 403, "AccessDenied");
    } else if (mode == 7) { /* one never goes, */
        fake_answer(r, 200, "",
                    XML "<DeleteResult " NS
                        "><Error><Key>pre/k/1</Key><Code>InternalError</Code></Error></DeleteResult>");
    } else if (mode == 8) { /* or none does */
        fake_answer(r, 200, "",
                    XML "<DeleteResult " NS "><Error><Key>pre/k/0</Key><Code>SlowDown</Code></Error>"
                        "<Error><Key>pre/k/1</Key><Code>SlowDown</Code></Error></DeleteResult>");
    } else if (mode == 9) {
        fake_answer(r, 200, "",
                    XML "<DeleteResult " NS
                        "><Error><Key>other/k/1</Key><Code>AccessDenied</Code></Error></DeleteResult>");
    } else if (mode == 3) {
        fake_error(r, 501, "NotImplemented");
    } else if (mode == 5 && r->number == 1) {
        fake_error(r, 503, "SlowDown");
    } else {
        atomic_fetch_add(&deleted_keys, keys);
        fake_answer(r, 200, "",
                    XML "<DeleteResult " NS "><Error><Key>pre/k/1</Key><Code>NoSuchKey</Code></Error></DeleteResult>");
    }
}
static void body_delete(struct s3_test *t) {
    enum { KEYS = 2300 };
    static char text[KEYS][16];
    static const char *keys[KEYS];
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(text[i], sizeof(text[i]), "k/%u", i);
        keys[i] = text[i];
    }
    static const struct {
        int mode;
        size_t count;
        enum err expected;
        unsigned sent, deleted;
    } cases[] = {
        {0, KEYS, OK, 3, KEYS},
        {0, 1, OK, 1, 1},
        {4, 1, OK, 1, 1},
        {1, 10, OK, 2, 10},
        {2, 10, ERR_PERMISSION, 1, 9},
        {6, 10, ERR_PERMISSION, 11, 9}, /* not with the bucket; but with keys, all but one */
        {7, 10, ERR_UNKNOWN_OUTCOME, 3, 0},
        {9, 10, ERR_UNKNOWN_OUTCOME, 3, 0},
        {5, 10, OK, 2, 10},
        {3, 10, OK, 11, 10}, /* no batches there: one by one, */
        {3, 10, OK, 10, 10}, /* and no more asking */
    };
    static const struct {
        int mode;
        size_t count;
        enum err expected, second; /* of all, and of the second key */
    } told_apart[] = {
        {0, 10, OK, OK},
        {2, 10, OK, ERR_PERMISSION},
        {6, 10, OK, ERR_PERMISSION},
        {7, 10, OK, ERR_UNKNOWN_OUTCOME},
        {8, 10, OK, ERR_UNKNOWN_OUTCOME},
        {8, 2, ERR_UNKNOWN_OUTCOME, OK}, /* it is the store */
        {9, 10, ERR_UNKNOWN_OUTCOME, OK},
    };
    open_ok(t);
    for (size_t i = 0; i < ARRAY_LEN(told_apart); i++) {
        enum err each[10];
        atomic_store(&delete_mode, told_apart[i].mode);
        enum err e = store_delete_each(t->store, keys, told_apart[i].count, STORE_FOR_OTHER, each);
        if (e != told_apart[i].expected) print_error("%zu: %s\n", i, err_name(e));
        assert_int_equal(e, told_apart[i].expected);
        for (size_t k = 0; k < told_apart[i].count && e == OK; k++) {
            bool fails = k == 1 || (k == 0 && told_apart[i].mode == 8);
            assert_int_equal(each[k], fails ? told_apart[i].second : OK);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        atomic_store(&delete_mode, cases[i].mode);
        atomic_store(&deleted_keys, 0);
        atomic_store(&t->server.requests, 0);
        enum err e = store_delete(t->store, keys, cases[i].count, STORE_FOR_OTHER);
        if (e != cases[i].expected || t->server.requests != cases[i].sent)
            print_error("%zu: %s after %u requests\n", i, err_name(e), (unsigned)t->server.requests);
        assert_int_equal(e, cases[i].expected);
        assert_int_equal(t->server.requests, cases[i].sent);
        assert_int_equal(deleted_keys, cases[i].deleted);
    }
}
static void test_delete(void **state) {
    (void)state;
    s3_test_run(body_delete, delete_script, NULL);
}

/* --- Parts. */

enum { PART = 1000, SIZE = 3500 };
static _Atomic int parts_mode;
static pthread_mutex_t parts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char bytes[8][PART];
    size_t sizes[8];
    bool aborted, completed;
    unsigned tries[8];
} parts;
static void parts_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    int mode = atomic_load(&parts_mode);
    char text[256];
    assert_memory_equal(r->target, "/bucket/pre/large", 17);
    pthread_mutex_lock(&parts_lock);
    if (strcmp(r->method, "POST") == 0 && query_of(r, "uploads", text)) {
        assert_string_equal(fake_header(r, "x-amz-checksum-algorithm"), "CRC32C");
        fake_answer(r, 200, "",
                    XML "<InitiateMultipartUploadResult " NS
                        "><UploadId>the id/+</UploadId></InitiateMultipartUploadResult>");
    } else if (strcmp(r->method, "PUT") == 0) {
        assert_string_equal(query_of(r, "uploadId", text), "the%20id%2F%2B");
        unsigned n = (unsigned)atoi(query_of(r, "partNumber", text));
        assert_true(n >= 1 && n <= 4 && r->body_size <= PART);
        memcpy(parts.bytes[n], r->body, r->body_size);
        parts.sizes[n] = r->body_size;
        uint32_t crc = crc32c(0, r->body, r->body_size);
        uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
        s3_base64(bytes, 4, text);
        assert_string_equal(fake_header(r, "x-amz-checksum-crc32c"), text);
        bool fails = n == 3 && ((mode == 1 && parts.tries[3]++ == 0) || mode == 2);
        if (fails) {
            fake_error(r, 500, "InternalError");
        } else {
            char etag[64];
            snprintf(etag, sizeof(etag), "ETag: \"e%u\"\r\n", n);
            fake_answer(r, 200, etag, "%s", "");
        }
    } else if (strcmp(r->method, "POST") == 0) {
        parts.completed = true;
        assert_non_null(strstr(r->body, "<Part><PartNumber>1</PartNumber><ETag>\"e1\"</ETag><ChecksumCRC32C>"));
        assert_non_null(strstr(r->body, "<Part><PartNumber>4</PartNumber><ETag>\"e4\"</ETag><ChecksumCRC32C>"));
        if (mode == 3) {
            fake_answer(r, 200, "", XML "\n\n<Error><Code>InternalError</Code></Error>");
        } else {
            fake_answer(r, 200, "",
                        XML "<CompleteMultipartUploadResult " NS "><ETag>x</ETag></CompleteMultipartUploadResult>");
        }
    } else {
        assert_string_equal(r->method, "DELETE");
        parts.aborted = true;
        fake_answer(r, 204, "", "%s", "");
    }
    pthread_mutex_unlock(&parts_lock);
}
static void body_parts(struct s3_test *t) {
    t->options.multipart_from = PART;
    open_ok(t);
    static char bytes[SIZE];
    for (unsigned i = 0; i < SIZE; i++) bytes[i] = (char)(i * 31 + i / 256);
    struct slice data[] = {slice_borrow(bytes, 1), slice_borrow(bytes + 1, 1500), slice_borrow(NULL, 0),
                           slice_borrow(bytes + 1501, 499), slice_borrow(bytes + 2000, SIZE - 2000)};
    for (int mode = 0; mode < 4; mode++) {
        memset(&parts, 0, sizeof(parts));
        atomic_store(&parts_mode, mode);
        enum err e = store_put(t->store, "large", data, 5, false, STORE_FOR_OTHER);
        assert_int_equal(e, mode == 3 ? ERR_UNKNOWN_OUTCOME : mode == 2 ? ERR_UNAVAILABLE : OK);
        assert_int_equal(parts.aborted, mode >= 2);
        assert_int_equal(parts.completed, mode != 2);
        if (mode == 0) { /* nothing was repeated: what the front counts is what was sent */
            const struct metrics *m = t->store->env->metrics;
            assert_int_equal(m->counters[M_S3_REQUESTS][S3_OP_MULTIPART * S3_OUTCOMES + S3_ANSWERED], 6);
            assert_int_equal(m->counters[M_STORE_BILLED][STORE_PUT * STORE_PURPOSES + STORE_FOR_OTHER], 6);
        }
        for (unsigned n = 1; n <= 4 && mode < 2; n++) {
            size_t size = n == 4 ? SIZE - 3 * PART : PART;
            assert_int_equal(parts.sizes[n], size);
            assert_memory_equal(parts.bytes[n], bytes + (n - 1) * PART, size);
        }
    }
}
static void test_parts(void **state) {
    (void)state;
    s3_test_run(body_parts, parts_script, NULL);
}

/* --- Parts that the store copies. */

enum compose_mode {
    COMPOSES,
    COPY_FAILS_IN_BODY, /* once: under a 200 */
    COPY_FAILS,         /* always */
    COPY_NOT_THERE,
    COPY_TOO_SHORT,
    COPY_TOO_SHORT_AWS,
    COPY_TOO_SMALL,
    COMPLETE_EXISTS,
    COMPLETE_EXISTS_IN_BODY,
    COMPLETE_FAILS_IN_BODY,
    COMPLETE_CUT,
    COMPLETE_TOO_SMALL,
    COMPLETE_CONFLICT,
    COPY_IGNORED, /* the header that asks for the copy: an empty part */
    COPY_NOT_IMPLEMENTED,
    BEGIN_NOT_IMPLEMENTED,
};
static _Atomic int compose_mode;
static struct {
    unsigned begun, copied, put, completed, aborted;
    char first[128], last[128];
} composed;

static void compose_copy(struct fake_request *r, int mode) {
    const char *range = fake_header(r, "x-amz-copy-source-range");
    assert_non_null(range);
    char text[256], part[24];
    snprintf(text, sizeof(text), "%.100s", range);
    snprintf(part, sizeof(part), "%s", query_of(r, "partNumber", (char[256]){0}));
    assert_string_equal(fake_header(r, "x-amz-copy-source"), "/bucket/pre/from/a-b.c");
    assert_non_null(strstr(fake_header(r, "Authorization"), "x-amz-copy-source;x-amz-copy-source-range"));
    assert_int_equal(r->body_size, 0);
    snprintf(part[0] == '2' ? composed.first : composed.last, sizeof(composed.first), "%.100s", text);
    composed.copied++;
    if (mode == COPY_FAILS_IN_BODY && composed.copied == 1) {
        fake_answer(r, 200, "", XML "\n\n<Error><Code>InternalError</Code></Error>");
    } else if (mode == COPY_FAILS) {
        fake_answer(r, 200, "", XML "<Error><Code>SlowDown</Code></Error>");
    } else if (mode == COPY_NOT_THERE) {
        fake_error(r, 404, "NoSuchKey");
    } else if (mode == COPY_TOO_SHORT) {
        fake_error(r, 416, "InvalidRange");
    } else if (mode == COPY_TOO_SHORT_AWS) {
        fake_error(r, 400, "InvalidArgument");
    } else if (mode == COPY_TOO_SMALL) {
        fake_error(r, 400, "InvalidRequest");
    } else if (mode == COPY_IGNORED) {
        fake_answer(r, 200, "ETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\n", "%s", "");
    } else if (mode == COPY_NOT_IMPLEMENTED) {
        fake_error(r, 501, "NotImplemented");
    } else {
        fake_answer(r, 200, "",
                    XML "<CopyPartResult " NS "><LastModified>2011-04-11T20:34:56.000Z</LastModified>"
                        "<ETag>&quot;c%s&quot;</ETag></CopyPartResult>",
                    part);
    }
}
static void compose_complete(struct fake_request *r, int mode) {
    assert_string_equal(fake_header(r, "If-None-Match"), "*");
    assert_non_null(strstr(fake_header(r, "Authorization"), "if-none-match"));
    assert_non_null(strstr(r->body, "<Part><PartNumber>1</PartNumber><ETag>\"p1\"</ETag></Part>"
                                    "<Part><PartNumber>2</PartNumber><ETag>\"c2\"</ETag></Part>"
                                    "<Part><PartNumber>3</PartNumber><ETag>\"p3\"</ETag></Part>"
                                    "<Part><PartNumber>4</PartNumber><ETag>\"c4\"</ETag></Part></C"));
    composed.completed++;
    if (mode == COMPLETE_EXISTS) {
        fake_error(r, 412, "PreconditionFailed");
    } else if (mode == COMPLETE_EXISTS_IN_BODY) {
        fake_answer(r, 200, "", XML "<Error><Code>PreconditionFailed</Code></Error>");
    } else if (mode == COMPLETE_FAILS_IN_BODY) {
        fake_answer(r, 200, "", XML "   <Error><Code>InternalError</Code></Error>");
    } else if (mode == COMPLETE_CUT && composed.completed == 1) {
        fake_reset(r);
    } else if (mode == COMPLETE_CUT) {
        fake_error(r, 404, "NoSuchUpload");
    } else if (mode == COMPLETE_TOO_SMALL) {
        fake_error(r, 400, "EntityTooSmall");
    } else if (mode == COMPLETE_CONFLICT) {
        fake_error(r, 409, "ConditionalRequestConflict");
    } else {
        fake_answer(r, 200, "",
                    XML "<CompleteMultipartUploadResult " NS "><ETag>x</ETag></CompleteMultipartUploadResult>");
    }
}
static void compose_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    int mode = atomic_load(&compose_mode);
    char text[256];
    assert_memory_equal(r->target, "/bucket/pre/to", 14);
    pthread_mutex_lock(&parts_lock);
    if (strcmp(r->method, "POST") == 0 && query_of(r, "uploads", text)) {
        assert_null(fake_header(r, "x-amz-checksum-algorithm"));
        composed.begun++;
        if (mode == BEGIN_NOT_IMPLEMENTED) {
            fake_error(r, 501, "NotImplemented");
        } else {
            fake_answer(r, 200, "",
                        XML "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>");
        }
    } else if (strcmp(r->method, "PUT") == 0 && fake_header(r, "x-amz-copy-source")) {
        compose_copy(r, mode);
    } else if (strcmp(r->method, "PUT") == 0) {
        assert_int_equal(strlen(fake_header(r, "x-amz-content-sha256")), 64); /* hashed, for nothing else checks it */
        assert_null(fake_header(r, "x-amz-checksum-crc32c"));
        const char *expected = strcmp(query_of(r, "partNumber", text), "1") == 0 ? "the first bytes" : "more of them";
        assert_int_equal(r->body_size, strlen(expected));
        assert_memory_equal(r->body, expected, r->body_size);
        composed.put++;
        snprintf(text, sizeof(text), "ETag: \"p%s\"\r\n", strlen(expected) == 15 ? "1" : "3");
        fake_answer(r, 200, text, "%s", "");
    } else if (strcmp(r->method, "POST") == 0) {
        compose_complete(r, mode);
    } else {
        assert_string_equal(r->method, "DELETE");
        composed.aborted++;
        fake_answer(r, 204, "", "%s", "");
    }
    pthread_mutex_unlock(&parts_lock);
}
static void body_compose(struct s3_test *t) {
    static const struct {
        enum err expected;
        unsigned copied, completed, aborted; /* copied 99: does not matter */
    } cases[] = {
        [COMPOSES] = {OK, 2, 1, 0},
        [COPY_FAILS_IN_BODY] = {OK, 3, 1, 0},
        [COPY_FAILS] = {ERR_UNAVAILABLE, 99, 0, 1},
        [COPY_NOT_THERE] = {ERR_NOT_FOUND, 99, 0, 1},
        [COPY_TOO_SHORT] = {ERR_TRUNCATED, 99, 0, 1},
        [COPY_TOO_SHORT_AWS] = {ERR_TRUNCATED, 99, 0, 1},
        [COPY_TOO_SMALL] = {ERR_UNSUPPORTED, 99, 0, 1},
        [COMPLETE_EXISTS] = {ERR_EXISTS, 2, 1, 1},
        [COMPLETE_EXISTS_IN_BODY] = {ERR_EXISTS, 2, 1, 1},
        [COMPLETE_FAILS_IN_BODY] = {ERR_UNKNOWN_OUTCOME, 2, 1, 1},
        [COMPLETE_CUT] = {ERR_UNKNOWN_OUTCOME, 2, 2, 1},
        [COMPLETE_TOO_SMALL] = {ERR_UNSUPPORTED, 2, 1, 1},
        [COMPLETE_CONFLICT] = {ERR_UNKNOWN_OUTCOME, 2, 3, 1},
        [COPY_IGNORED] = {ERR_UNSUPPORTED, 99, 0, 1},
        [COPY_NOT_IMPLEMENTED] = {ERR_UNSUPPORTED, 99, 0, 1},
        [BEGIN_NOT_IMPLEMENTED] = {ERR_UNSUPPORTED, 0, 0, 0},
    };
    struct store_part of[] = {
        {.data = slice_borrow("the first ", 10)},         {.data = slice_borrow("bytes", 5)},
        {.key = "from/a-b.c", .position = 7, .size = 20}, {.key = "from/a-b.c", .position = 27, .size = 30},
        {.data = slice_borrow("more of them", 12)},       {.key = "from/a-b.c", .position = 0, .size = 1}};
    t->options.multipart_from = 12;
    open_ok(t);
    assert_int_equal(t->store->part_least, 12);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memset(&composed, 0, sizeof(composed));
        atomic_store(&compose_mode, (int)i);
        enum err e = store_compose(t->store, "to", of, 6, STORE_FOR_COMPACTION);
        if (e != cases[i].expected) print_error("%zu: %s\n", i, err_name(e));
        assert_int_equal(e, cases[i].expected);
        assert_int_equal(composed.begun, 1);
        if (cases[i].copied != 99) assert_int_equal(composed.copied, cases[i].copied);
        assert_int_equal(composed.completed, cases[i].completed);
        assert_int_equal(composed.aborted, cases[i].aborted);
        if (i == COMPOSES) {
            assert_string_equal(composed.first, "bytes=7-56");
            assert_string_equal(composed.last, "bytes=0-0");
            const struct metrics *m = t->store->env->metrics; /* nothing was repeated */
            assert_int_equal(m->counters[M_S3_REQUESTS][S3_OP_MULTIPART * S3_OUTCOMES + S3_ANSWERED], 6);
            assert_int_equal(m->counters[M_STORE_BILLED][STORE_COMPOSE * STORE_PURPOSES + STORE_FOR_COMPACTION], 6);
        }
        if (i >= COPY_IGNORED) { /* it is not asked again */
            assert_int_equal(store_compose(t->store, "to", of, 6, STORE_FOR_COMPACTION), ERR_UNSUPPORTED);
            assert_int_equal(composed.begun, 1);
            store_close(t->store);
            open_ok(t);
        }
    }
    /* By the rules there is nothing to ask for. */
    of[2].size = 11;
    assert_int_equal(store_compose(t->store, "to", (struct store_part[]){of[2], of[5]}, 2, STORE_FOR_COMPACTION),
                     ERR_UNSUPPORTED);
    assert_int_equal(t->server.requests, 0);
}
static void test_compose(void **state) {
    (void)state;
    s3_test_run(body_compose, compose_script, NULL);
}

/* --- Uploads that were not finished. */

static _Atomic int uploads_mode;
static struct {
    unsigned pages, aborted, begun;
    char last[64];
} unfinished;
static void uploads_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    int mode = atomic_load(&uploads_mode);
    char text[256];
    if (strcmp(r->method, "DELETE") == 0) {
        unfinished.aborted++;
        snprintf(unfinished.last, sizeof(unfinished.last), "%.60s", query_of(r, "uploadId", text));
        if (mode == 5) fake_error(r, 404, "NoSuchUpload");
        if (mode == 6) fake_error(r, 500, "InternalError");
        if (mode < 5 || mode > 6) fake_answer(r, 204, "", "%s", "");
        return;
    }
    if (strcmp(r->method, "PUT") == 0) { /* of a part: fails, so that the upload is given up */
        fake_error(r, 403, "AccessDenied");
        return;
    }
    if (strcmp(r->method, "POST") == 0) {
        if (mode >= 7 && unfinished.begun++ == 0) { /* begun, and not answered */
            fake_reset(r);
            return;
        }
        fake_answer(r, 200, "",
                    XML "<InitiateMultipartUploadResult><UploadId>left</UploadId></InitiateMultipartUploadResult>");
        return;
    }
    assert_memory_equal(r->target, "/bucket?", 8);
    if (mode >= 7) {
        assert_string_equal(query_of(r, "prefix", text), "pre%2Fgen%2Fd");
        unfinished.pages++;
        if (mode == 8) {
            fake_error(r, 403, "AccessDenied");
            return;
        }
        fake_answer(r, 200, "",
                    XML "<ListMultipartUploadsResult><Upload><Key>pre/gen/d</Key><UploadId>lost</UploadId></Upload>"
                        "<Upload><Key>pre/gen/d2</Key><UploadId>another</UploadId></Upload>"
                        "</ListMultipartUploadsResult>");
        return;
    }
    assert_non_null(query_of(r, "uploads", text));
    assert_string_equal(query_of(r, "prefix", text), "pre%2Fgen");
    unfinished.pages++;
    if (mode == 1) {
        fake_error(r, 501, "NotImplemented");
    } else if (mode == 2) {
        fake_error(r, 403, "AccessDenied");
    } else if (mode == 3) { /* of others */
        fake_answer(r, 200, "",
                    XML "<ListMultipartUploadsResult><Upload><Key>other/a</Key><UploadId>1</UploadId></Upload>"
                        "</ListMultipartUploadsResult>");
    } else if (!query_of(r, "key-marker", text)) {
        fake_answer(r, 200, "",
                    XML "<ListMultipartUploadsResult " NS
                        "><IsTruncated>true</IsTruncated><NextKeyMarker>pre/gen/b</NextKeyMarker>"
                        "<NextUploadIdMarker>i+2</NextUploadIdMarker>"
                        "<Upload><Key>pre/gen/a</Key><UploadId>i/1</UploadId><Owner><ID>x</ID></Owner></Upload>"
                        "<Upload><UploadId>i+2</UploadId><Key>pre/gen/b</Key></Upload></ListMultipartUploadsResult>");
    } else {
        assert_string_equal(text, "pre%2Fgen%2Fb");
        assert_string_equal(query_of(r, "upload-id-marker", text), "i%2B2");
        fake_answer(r, 200, "",
                    XML "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>pre/gen/b</Key>"
                        "<UploadId>i3</UploadId></Upload></ListMultipartUploadsResult>");
    }
}
static void body_uploads(struct s3_test *t) {
    t->options.multipart_from = 12;
    open_ok(t);
    struct store_uploads u;
    assert_int_equal(store_uploads(t->store, "gen", STORE_FOR_DELETION, &u), OK);
    assert_int_equal(u.count, 3);
    assert_int_equal(unfinished.pages, 2);
    assert_string_equal(u.items[0].key, "gen/a");
    assert_string_equal(u.items[0].id, "i/1");
    assert_string_equal(u.items[1].id, "i+2");
    assert_string_equal(u.items[2].key, "gen/b");
    store_uploads_deinit(&u);
    static const enum err expected[] = {OK, OK, ERR_UNAVAILABLE, ERR_UNAVAILABLE};
    for (int mode = 1; mode <= 3; mode++) {
        atomic_store(&uploads_mode, mode);
        assert_int_equal(store_uploads(t->store, "gen", STORE_FOR_DELETION, &u), expected[mode]);
        assert_int_equal(u.count, 0);
        store_uploads_deinit(&u);
    }
    atomic_store(&uploads_mode, 4);
    assert_int_equal(store_upload_abort(t->store, "gen/a", "i/1", STORE_FOR_DELETION), OK);
    assert_string_equal(unfinished.last, "i%2F1");
    atomic_store(&uploads_mode, 5);
    assert_int_equal(store_upload_abort(t->store, "gen/a", "i/1", STORE_FOR_DELETION), OK);
    atomic_store(&uploads_mode, 6);
    assert_int_equal(store_upload_abort(t->store, "gen/a", "i/1", STORE_FOR_DELETION), ERR_UNKNOWN_OUTCOME);
    /* What could not be given up is tried again by the next. */
    struct store_part of = {.key = "from", .size = 20};
    unfinished.aborted = 0;
    assert_int_equal(store_compose(t->store, "gen/c", &of, 1, STORE_FOR_OTHER), ERR_UNAVAILABLE);
    assert_int_equal(unfinished.aborted, 3);
    atomic_store(&uploads_mode, 4);
    assert_int_equal(store_compose(t->store, "gen/c", &of, 1, STORE_FOR_OTHER), ERR_UNAVAILABLE);
    assert_int_equal(unfinished.aborted, 5);
    assert_int_equal(store_compose(t->store, "gen/c", &of, 1, STORE_FOR_OTHER), ERR_UNAVAILABLE);
    assert_int_equal(unfinished.aborted, 6);
    /* One whose beginning was not answered has no id that we know: what there is of the key goes, and no other. */
    atomic_store(&uploads_mode, 7);
    unfinished.aborted = unfinished.pages = 0;
    assert_int_equal(store_compose(t->store, "gen/d", &of, 1, STORE_FOR_OTHER), ERR_UNAVAILABLE);
    assert_int_equal(unfinished.begun, 2);
    assert_int_equal(unfinished.pages, 1);
    assert_int_equal(unfinished.aborted, 2); /* our own, and that one */
    assert_string_equal(unfinished.last, "lost");
    /* Where the list is forbidden, it is asked for once more, later, and no further. */
    atomic_store(&uploads_mode, 8);
    unfinished.begun = 0;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(store_compose(t->store, "gen/d", &of, 1, STORE_FOR_OTHER), ERR_UNAVAILABLE);
        assert_int_equal(unfinished.pages, i == 0 ? 2 : 3);
    }
    assert_int_equal(unfinished.aborted, 5);
}
static void test_uploads(void **state) {
    (void)state;
    s3_test_run(body_uploads, uploads_script, NULL);
}

/* --- Unconditional puts are repeated; a store opened for looking changes nothing; closing ends what is under way. */

static void put_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    assert_null(fake_header(r, "If-None-Match"));
    if (r->number == 1) {
        fake_error(r, 503, "SlowDown");
    } else if (r->number == 2) {
        fake_reset(r);
    } else {
        fake_answer(r, 200, "ETag: \"x\"\r\n", "%s", "");
    }
}
static void body_put(struct s3_test *t) {
    open_ok(t);
    struct slice data = slice_borrow("x", 1);
    assert_int_equal(store_put(t->store, "k", &data, 1, false, STORE_FOR_OTHER), OK);
    assert_int_equal(t->server.requests, 3);
    store_close(t->store);
    t->options.read_only = true;
    open_ok(t);
    const char *key = "k";
    assert_int_equal(store_put(t->store, "k", &data, 1, false, STORE_FOR_OTHER), ERR_READ_ONLY);
    assert_int_equal(store_delete(t->store, &key, 1, STORE_FOR_OTHER), ERR_READ_ONLY);
    assert_int_equal(t->server.requests, 0);
}
static void test_put(void **state) {
    (void)state;
    s3_test_run(body_put, put_script, NULL);
}

static void hang_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    char c;
    (void)recv(r->fd, &c, 1, 0);
    r->close = true;
}
struct hanging {
    struct s3_test *t;
    enum err e;
    struct waitgroup *group;
};
static void hang_put(void *arg) {
    struct hanging *h = arg;
    struct slice data = slice_borrow("x", 1);
    h->e = store_put(h->t->store, "k", &data, 1, true, STORE_FOR_OTHER);
    waitgroup_done(h->group);
}
static void body_hang(struct s3_test *t) {
    open_ok(t);
    struct waitgroup group;
    struct hanging h[5];
    waitgroup_init(&group);
    for (unsigned i = 0; i < 5; i++) {
        h[i] = (struct hanging){t, OK, &group};
        waitgroup_add(&group);
        fiber_spawn(loop_current(), "put", hang_put, &h[i]);
    }
    while (t->server.requests < 5) fiber_sleep_ns(NS_PER_MS);
    store_close(t->store);
    t->store = NULL;
    waitgroup_wait(&group);
    for (unsigned i = 0; i < 5; i++) assert_int_equal(h[i].e, ERR_UNKNOWN_OUTCOME);
}
static void test_hang(void **state) {
    (void)state;
    s3_test_run(body_hang, hang_script, NULL);
}

/* --- The check of conditional creation, against a server that keeps objects, and one that ignores the condition. */

static _Atomic bool obeys;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char key[256], body[256];
    unsigned creates, at_once, at_once_max;
} kept;
static void kept_script(struct fake_request *r, void *arg) {
    (void)arg;
    if (answer_probe(r)) return;
    pthread_mutex_lock(&kept_lock);
    if (strcmp(r->method, "PUT") == 0) {
        kept.at_once++;
        if (kept.at_once > kept.at_once_max) kept.at_once_max = kept.at_once;
        pthread_mutex_unlock(&kept_lock);
        fake_sleep_ms(60);
        pthread_mutex_lock(&kept_lock);
        kept.at_once--;
        bool there = strcmp(kept.key, r->target) == 0;
        kept.creates++;
        if (there && atomic_load(&obeys)) {
            fake_error(r, 412, "PreconditionFailed");
        } else {
            snprintf(kept.key, sizeof(kept.key), "%.250s", r->target);
            snprintf(kept.body, sizeof(kept.body), "%.250s", r->body);
            fake_answer(r, 200, "ETag: \"x\"\r\n", "%s", "");
        }
    } else if (strcmp(r->method, "GET") == 0) {
        char range[96];
        snprintf(range, sizeof(range), "ETag: \"x\"\r\nContent-Range: bytes 0-%zu/*\r\n", strlen(kept.body) - 1);
        fake_answer(r, 206, range, "%s", kept.body);
    } else {
        kept.key[0] = '\0';
        fake_answer(r, 204, "", "%s", "");
    }
    pthread_mutex_unlock(&kept_lock);
}
static void body_check(struct s3_test *t) {
    open_ok(t);
    const char *why = "";
    atomic_store(&obeys, true);
    assert_int_equal(store_check_conditional_create(t->store, "oxbow", true, &why), OK);
    assert_int_equal(kept.creates, 10);
    assert_true(kept.at_once_max >= 2); /* they race in earnest */
    atomic_store(&obeys, false);
    assert_int_equal(store_check_conditional_create(t->store, "oxbow", false, &why), ERR_UNSUPPORTED);
    assert_non_null(strstr(why, "ignores the condition"));
}
static void test_check(void **state) {
    (void)state;
    s3_test_run(body_check, kept_script, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_prefix), cmocka_unit_test(test_create),
        cmocka_unit_test(test_host),    cmocka_unit_test(test_get),    cmocka_unit_test(test_list),
        cmocka_unit_test(test_delete),  cmocka_unit_test(test_parts),  cmocka_unit_test(test_compose),
        cmocka_unit_test(test_uploads), cmocka_unit_test(test_put),    cmocka_unit_test(test_hang),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
