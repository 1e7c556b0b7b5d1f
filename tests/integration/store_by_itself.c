/* The S3 store against a real server, what the broker's own use of it does not show exactly: objects composed of parts of
 * others, uploads left unfinished, batches of deletes. tests/integration runs it with the server's address in
 * OXBOW_S3_ENDPOINT, the bucket in OXBOW_S3_BUCKET, the region in OXBOW_S3_REGION and the keys where AWS's tools have them.
 * OXBOW_S3_LISTS_UPLOADS: the server can list them. */
#include "unit/store/s3_fixture.h"

#define MIB ((size_t)1 << 20)

static void none(struct fake_request *r, void *arg) {
    (void)arg;
    fake_error(r, 500, "InternalError");
}

static void expect(struct store *s, const char *key, const uint8_t *bytes, size_t size) {
    struct slice got = {0};
    assert_int_equal(store_get(s, key, 0, 64 * MIB, STORE_FOR_READ, &got), OK);
    assert_int_equal(got.size, size);
    assert_memory_equal(got.data, bytes, size);
    slice_unref(&got);
}

static void compose_all(struct store *s, const uint8_t *bytes, uint8_t *expected) {
    struct slice whole = slice_borrow(bytes, 12 * MIB + 7), small = slice_borrow(bytes, 1000);
    assert_int_equal(store_put(s, "from/large", &whole, 1, true, STORE_FOR_OTHER), OK);
    assert_int_equal(store_put(s, "from/small", &small, 1, true, STORE_FOR_OTHER), OK);
    struct store_part of[] = {{.data = slice_borrow(bytes + 5, 5 * MIB)},
                              {.key = "from/large", .position = 3, .size = 6 * MIB},
                              {.key = "from/large", .position = 6 * MIB + 3, .size = 1 * MIB},
                              {.data = slice_borrow(bytes + 9, 6 * MIB)},
                              {.key = "from/large", .position = 1, .size = 5 * MIB + 1},
                              {.data = slice_borrow("the end", 7)}};
    size_t size = 0;
    for (size_t i = 0; i < ARRAY_LEN(of); i++) {
        size_t n = of[i].key ? of[i].size : of[i].data.size;
        memcpy(expected + size, of[i].key ? bytes + of[i].position : of[i].data.data, n);
        size += n;
    }
    assert_int_equal(store_compose(s, "to/one", of, 6, STORE_FOR_COMPACTION), OK);
    expect(s, "to/one", expected, size);
    /* Not every server looks at the condition here; but it is the same object. */
    enum err e = store_compose(s, "to/one", of, 6, STORE_FOR_COMPACTION);
    if (e != OK) assert_int_equal(e, ERR_EXISTS);
    print_message("created twice: %s\n", err_name(e));
    expect(s, "to/one", expected, size);
    /* Of one part. */
    assert_int_equal(store_compose(s, "to/two", of + 1, 2, STORE_FOR_COMPACTION), OK);
    expect(s, "to/two", bytes + 3, 7 * MIB);
    /* What cannot be done. */
    struct store_part no[] = {of[0], {.key = "from/none", .size = 5 * MIB}};
    assert_int_equal(store_compose(s, "to/no", no, 2, STORE_FOR_COMPACTION), ERR_NOT_FOUND);
    no[1] = (struct store_part){.key = "from/large", .position = 12 * MIB, .size = MIB};
    assert_int_equal(store_compose(s, "to/no", no, 2, STORE_FOR_COMPACTION), ERR_TRUNCATED);
    no[1] = (struct store_part){.key = "from/small", .position = 0, .size = 500};
    e = store_compose(s, "to/small", no, 2, STORE_FOR_COMPACTION);
    print_message("a part of a small object: %s\n", err_name(e)); /* servers differ */
    assert_true(e == OK || e == ERR_UNSUPPORTED);
    struct slice got;
    assert_int_equal(store_get(s, "to/no", 0, 1, STORE_FOR_READ, &got), ERR_NOT_FOUND);
}

/* Those that others began in this bucket, by hand, with the keys gen/a and gen/b and other/c. */
static void uploads_all(struct store *s) {
    struct store_uploads u;
    bool lists = getenv("OXBOW_S3_LISTS_UPLOADS") != NULL;
    assert_int_equal(store_uploads(s, "gen/", STORE_FOR_DELETION, &u), OK);
    assert_int_equal(u.count, lists ? 2 : 0);
    for (size_t i = 0; i < u.count; i++) {
        assert_string_equal(u.items[i].key, i == 0 ? "gen/a" : "gen/b");
        assert_int_equal(store_upload_abort(s, u.items[i].key, u.items[i].id, STORE_FOR_DELETION), OK);
        assert_int_equal(store_upload_abort(s, u.items[i].key, u.items[i].id, STORE_FOR_DELETION), OK);
    }
    store_uploads_deinit(&u);
    assert_int_equal(store_uploads(s, "gen/", STORE_FOR_DELETION, &u), OK);
    assert_int_equal(u.count, 0);
    store_uploads_deinit(&u);
    assert_int_equal(store_uploads(s, "to/", STORE_FOR_DELETION, &u), OK); /* whatever failed was given up */
    assert_int_equal(u.count, 0);
    store_uploads_deinit(&u);
}

static void deletes_all(struct store *s) {
    static const char *const keys[] = {"from/large", "from/small", "from/none", "to/one",
                                       "to/two",     "to/small",   "to/no"};
    assert_int_equal(store_delete(s, keys, 7, STORE_FOR_DELETION), OK);
    assert_int_equal(store_delete(s, keys, 7, STORE_FOR_DELETION), OK);
    struct store_listing l;
    assert_int_equal(store_list(s, "", NULL, 10, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 0);
    store_listing_deinit(&l);
}

static void body_server(struct s3_test *t) {
    struct mem *m = t->env->mem;
    t->options.endpoint = getenv("OXBOW_S3_ENDPOINT");
    t->options.bucket = getenv("OXBOW_S3_BUCKET");
    t->options.region = getenv("OXBOW_S3_REGION");
    t->options.credentials.access_key = getenv("AWS_ACCESS_KEY_ID");
    t->options.credentials.secret = getenv("AWS_SECRET_ACCESS_KEY");
    t->options.prefix = "some/where";
    t->options.patience_ns = 0;
    enum err e = store_s3_open(&t->options, &t->store, t->why);
    if (e != OK) print_error("open: %s: %s\n", err_name(e), t->why);
    assert_int_equal(e, OK);
    uint8_t *bytes = mem_alloc(m, 13 * MIB), *expected = mem_alloc(m, 64 * MIB);
    for (size_t i = 0; i < 13 * MIB; i++) bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    compose_all(t->store, bytes, expected);
    uploads_all(t->store);
    deletes_all(t->store);
    mem_free(m, bytes);
    mem_free(m, expected);
}
static void test_server(void **state) {
    (void)state;
    s3_test_run(body_server, none, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
