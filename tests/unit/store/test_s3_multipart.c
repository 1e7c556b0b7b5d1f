/* Objects that are put together of parts, against a server that answers by script: parts that are sent, parts that the
 * store copies, and uploads that were not finished. */
#include "unit/store/s3_fixture.h"

#include "base/crc32c.h"
#include "store/s3_priv.h"

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
    snprintf(part, sizeof(part), "%.20s", query_of(r, "partNumber", (char[256]){0}));
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_compose),
        cmocka_unit_test(test_uploads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
