/* The S3 store against a server that answers by script: what is sent, what becomes of each answer, what is repeated and
 * what is not, pages, batches, and the sentences of a start that is refused. */
#include "unit/store/s3_fixture.h"

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
        cmocka_unit_test(test_delete),  cmocka_unit_test(test_put),    cmocka_unit_test(test_hang),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
