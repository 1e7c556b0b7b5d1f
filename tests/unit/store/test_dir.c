/* The folder store as a store: bytes back as they were, LIST in byte order whatever the keys, refusal of what is not
 * ours, the folder taken away. */
#include "unit/store/dir_fixture.h"

#include "base/random.h"
#include "store/dir_priv.h"

static void body_round_trip(struct dir_test *t) {
    dir_open(t);
    assert_true(t->store->exclusive && t->store->list_consistent);
    struct slice parts[5] = {slice_borrow("ab", 2), slice_borrow("", 0), slice_borrow("cde", 3), slice_borrow("f", 1),
                             slice_borrow(NULL, 0)};
    assert_int_equal(store_put(t->store, "x/y/z", parts, 5, true, STORE_FOR_OTHER), OK);
    assert_int_equal(store_put(t->store, "x/y/z", parts, 1, true, STORE_FOR_OTHER), ERR_EXISTS);
    dir_expect(t, "x/y/z", "abcdef");
    struct slice s;
    assert_int_equal(store_get(t->store, "x/y/z", 2, 3, STORE_FOR_READ, &s), OK);
    assert_memory_equal(s.data, "cde", 3);
    assert_int_equal(s.size, 3);
    slice_unref(&s);
    assert_int_equal(store_get(t->store, "x/y/z", 4, 100, STORE_FOR_READ, &s), OK);
    assert_int_equal(s.size, 2);
    slice_unref(&s);
    for (uint64_t position = 6; position <= UINT64_MAX / 2; position = position * 7 + 1) {
        assert_int_equal(store_get(t->store, "x/y/z", position, 10, STORE_FOR_READ, &s), OK);
        assert_int_equal(s.size, 0);
    }
    assert_int_equal(store_get(t->store, "x/y/z", UINT64_MAX, SIZE_MAX, STORE_FOR_READ, &s), OK);
    assert_int_equal(store_get(t->store, "x/y", 0, 10, STORE_FOR_READ, &s), ERR_NOT_FOUND); /* a folder */
    assert_int_equal(store_get(t->store, "x/y/z/u", 0, 10, STORE_FOR_READ, &s), ERR_NOT_FOUND);
    assert_int_equal(store_get(t->store, "nothing", 0, 10, STORE_FOR_READ, &s), ERR_NOT_FOUND);
    /* Replacing, and an empty object. */
    assert_int_equal(store_put(t->store, "x/y/z", parts + 2, 1, false, STORE_FOR_OTHER), OK);
    dir_expect(t, "x/y/z", "cde");
    assert_int_equal(store_put(t->store, "new/one", parts, 1, false, STORE_FOR_OTHER), OK);
    assert_int_equal(store_put(t->store, "empty", NULL, 0, true, STORE_FOR_OTHER), OK);
    dir_expect(t, "empty", "");
    /* A name that is an object's and a folder's at once is refused by name, without harm. */
    assert_int_equal(dir_create(t, "x/y", "no"), ERR_UNSUPPORTED);
    assert_int_equal(store_put(t->store, "x/y", parts, 1, false, STORE_FOR_OTHER), ERR_UNSUPPORTED);
    assert_int_equal(dir_create(t, "x/y/z/u", "no"), ERR_UNSUPPORTED);
    assert_int_equal(dir_create(t, "bad//key", "no"), ERR_INVALID);
    char longer[300];
    memset(longer, 'k', sizeof(longer));
    longer[299] = '\0';
    assert_int_equal(dir_create(t, longer, "no"), ERR_INVALID);
    dir_expect(t, "x/y/z", "cde");
    dir_reopen(t);
    dir_expect(t, "x/y/z", "cde");
    static const char *const keys[] = {"x/y/z", "nothing", "no/folder", "x/y/z/u", "empty", "x/y", "x/y/z"};
    assert_int_equal(store_delete(t->store, keys, 7, STORE_FOR_OTHER), OK);
    assert_int_equal(store_get(t->store, "x/y/z", 0, 10, STORE_FOR_READ, &s), ERR_NOT_FOUND);
    assert_int_equal(store_get(t->store, "empty", 0, 10, STORE_FOR_READ, &s), ERR_NOT_FOUND);
    assert_int_equal(dir_create(t, "x/y/z", "again"), OK);
}
static void test_round_trip(void **state) {
    (void)state;
    dir_test_run(body_round_trip);
}

static void body_large(struct dir_test *t) {
    dir_open(t);
    struct mem *m = t->env->mem;
    struct rng r;
    rng_seed(&r, 5);
    size_t size = (20u << 20) + 12345;
    uint8_t *bytes = mem_alloc(m, size);
    rng_fill(&r, bytes, size);
    /* In 700 pieces of very different sizes. */
    struct slice parts[700];
    size_t at = 0;
    for (unsigned i = 0; i < 700; i++) {
        size_t n = i == 699 ? size - at : i == 300 ? 12u << 20 : rng_below(&r, 2 * 13000);
        if (n > size - at) n = size - at;
        parts[i] = slice_borrow(bytes + at, n);
        at += n;
    }
    assert_int_equal(at, size);
    assert_int_equal(store_put(t->store, "large", parts, 700, true, STORE_FOR_UPLOAD), OK);
    struct slice s;
    assert_int_equal(store_get(t->store, "large", 0, SIZE_MAX, STORE_FOR_READ, &s), OK);
    assert_int_equal(s.size, size);
    assert_memory_equal(s.data, bytes, size);
    slice_unref(&s);
    /* Parts of it: large ones and small ones, wherever they begin, and up to the end and beyond. */
    for (unsigned i = 0; i < 100; i++) {
        size_t position = i == 0 ? size - 1 : i == 1 ? size - (200u << 10) : rng_below(&r, size);
        size_t wanted = i % 2 ? rng_below(&r, 2u << 20) + 1 : rng_below(&r, 10000) + 1;
        size_t expected = wanted < size - position ? wanted : size - position;
        assert_int_equal(store_get(t->store, "large", position, wanted, STORE_FOR_READ, &s), OK);
        assert_int_equal(s.size, expected);
        assert_memory_equal(s.data, bytes + position, expected);
        slice_unref(&s);
    }
    /* Sizes around those where the way of writing changes. */
    static const size_t sizes[] = {4095,           4096,     4097,           (128u << 10) - 1,  128u << 10,
                                   (1u << 20) - 1, 1u << 20, (1u << 20) + 1, (3u << 19) + 4096, (2u << 20) - 4097};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "sizes/%u", i);
        struct slice two[] = {slice_borrow(bytes, 777), slice_borrow(bytes + 777, sizes[i] - 777)};
        assert_int_equal(store_put(t->store, key, two, 2, i % 2 == 0, STORE_FOR_UPLOAD), OK);
        assert_int_equal(store_get(t->store, key, 0, SIZE_MAX, STORE_FOR_READ, &s), OK);
        assert_int_equal(s.size, sizes[i]);
        assert_memory_equal(s.data, bytes, sizes[i]);
        slice_unref(&s);
    }
    mem_free(m, bytes);
}
static void test_large(void **state) {
    (void)state;
    dir_test_run(body_large);
}

/* Objects of parts of others: every mixture of sizes and places, whole blocks and not, against the same in memory. */
static void body_compose(struct dir_test *t) {
    dir_open(t);
    struct mem *m = t->env->mem;
    struct rng r;
    rng_seed(&r, 11);
    size_t size = (3u << 20) + 777;
    uint8_t *bytes = mem_alloc(m, size), *expected = mem_alloc(m, 8 * size);
    rng_fill(&r, bytes, size);
    struct slice whole = slice_borrow(bytes, size), s;
    assert_int_equal(store_put(t->store, "from/a", &whole, 1, true, STORE_FOR_UPLOAD), OK);
    for (unsigned round = 0; round < 60; round++) {
        struct store_part parts[8];
        size_t n = 1 + (size_t)rng_below(&r, 8), at = 0;
        for (size_t i = 0; i < n; i++) {
            size_t from = (size_t)rng_below(&r, size), length = (size_t)rng_below(&r, size - from + 1);
            if (rng_below(&r, 2)) {
                from &= ~(size_t)4095;
                length &= ~(size_t)4095;
            }
            memcpy(expected + at, bytes + from, length);
            at += length;
            parts[i] = (struct store_part){.data = slice_borrow(bytes + from, length)};
            if (rng_below(&r, 3)) parts[i] = (struct store_part){.key = "from/a", .position = from, .size = length};
        }
        char key[32];
        (void)snprintf(key, sizeof(key), "made/%u", round);
        assert_int_equal(store_compose(t->store, key, parts, n, round % 3 ? STORE_FOR_OTHER : STORE_FOR_COMPACTION),
                         OK);
        assert_int_equal(store_compose(t->store, key, parts, n, STORE_FOR_OTHER), ERR_EXISTS);
        assert_int_equal(store_get(t->store, key, 0, SIZE_MAX, STORE_FOR_READ, &s), OK);
        assert_int_equal(s.size, at);
        if (at > 0) assert_memory_equal(s.data, expected, at);
        slice_unref(&s);
    }
    /* What cannot be done leaves nothing. */
    struct store_part two[] = {{.data = slice_borrow("abc", 3)}, {.key = "from/a", .position = size - 5, .size = 6}};
    assert_int_equal(store_compose(t->store, "no", two, 2, STORE_FOR_OTHER), ERR_TRUNCATED);
    two[1].key = "from/b";
    assert_int_equal(store_compose(t->store, "no", two, 2, STORE_FOR_OTHER), ERR_NOT_FOUND);
    two[1].key = "from";
    assert_int_equal(store_compose(t->store, "no", two, 2, STORE_FOR_OTHER), ERR_NOT_FOUND);
    two[1].key = "nowhere/b";
    assert_int_equal(store_compose(t->store, "no", two, 2, STORE_FOR_OTHER), ERR_NOT_FOUND);
    assert_int_equal(store_get(t->store, "no", 0, 1, STORE_FOR_READ, &s), ERR_NOT_FOUND);
    /* What it was made of may go. */
    two[1] = (struct store_part){.key = "from/a", .position = 1, .size = size - 1};
    assert_int_equal(store_compose(t->store, "yes", two, 2, STORE_FOR_OTHER), OK);
    const char *from = "from/a";
    assert_int_equal(store_delete(t->store, &from, 1, STORE_FOR_OTHER), OK);
    dir_reopen(t);
    assert_int_equal(store_get(t->store, "yes", 3, SIZE_MAX, STORE_FOR_READ, &s), OK);
    assert_int_equal(s.size, size - 1);
    assert_memory_equal(s.data, bytes + 1, size - 1);
    slice_unref(&s);
    mem_free(m, bytes);
    mem_free(m, expected);
}
static void test_compose(void **state) {
    (void)state;
    dir_test_run(body_compose);
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Every page of every size after every key, for every prefix, against a sorted list of all keys. */
static void list_compare(struct dir_test *t, const char **keys, size_t count, const char *prefix, const char *after,
                         size_t max) {
    struct store_listing page;
    assert_int_equal(store_list(t->store, prefix, after, max, STORE_FOR_OTHER, &page), OK);
    size_t n = 0;
    bool more = false;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(keys[i], prefix, strlen(prefix)) != 0 || (after && strcmp(keys[i], after) <= 0)) continue;
        if (n == max) {
            more = true;
            break;
        }
        assert_true(n < page.count);
        assert_string_equal(page.items[n].key, keys[i]);
        assert_int_equal(page.items[n].size_bytes, strlen(keys[i]));
        n++;
    }
    assert_int_equal(page.count, n);
    assert_int_equal(page.more, more);
    store_listing_deinit(&page);
}

static void body_list(struct dir_test *t) {
    dir_open(t);
    const char *keys[] = {
        "a/b/c",
        "a/b-c",
        "a/b.c",
        "a/b0",
        "a/b/0",
        "a/bb/c",
        "a/b_/c",
        "a-/x",
        "a./x",
        "a0/x",
        "a1",
        "A/b",
        "a.b",
        "a-b",
        "_",
        "-",
        "z",
        "a/B",
        "a/b/c-d/e",
        "a/b/c.d",
        "a/b/c0",
        "0/00000000000000000001",
        "0/00000000000000000002",
        "0/00000000000000000010",
        "0-",
        "0.x/y",
        "0/1/2/3/4/5/6/7/8",
        "0/1/2/3/4/5/6/7-",
        "0/1-/2",
        "0/10",
        "x..y",
        "...",
        "--/-/-",
        "Z/Z/Z",
    };
    size_t count = ARRAY_LEN(keys);
    for (size_t i = 0; i < count; i++) assert_int_equal(dir_create(t, keys[i], keys[i]), OK);
    qsort(keys, count, sizeof(*keys), by_bytes);
    static const char *const prefixes[] = {"",       "a", "a/",   "a/b",   "a/b/",    "a/b/c", "0",  "0/",  "0/1",
                                           "0/0000", "-", "none", "none/", "a/none/", "z",     "z/", "...", "Z/Z/"};
    for (size_t p = 0; p < ARRAY_LEN(prefixes); p++) {
        for (size_t i = 0; i < count; i++) {
            list_compare(t, keys, count, prefixes[p], keys[i], 1 + i % 5);
            list_compare(t, keys, count, prefixes[p], keys[i], 1000);
        }
        static const char *const others[] = {
            "a/", "a/b", "a/b/", "a/b/b", "a/b/c/d", "0/1/2/", "0/00000000000000000009", "zzz", "!", "a/b/c-"};
        for (size_t i = 1; i < ARRAY_LEN(others); i++) {
            if (others[i][0] != '!') list_compare(t, keys, count, prefixes[p], others[i], 7);
        }
        for (size_t max = 1; max < 40; max++) list_compare(t, keys, count, prefixes[p], NULL, max);
    }
    /* What is no object is not listed: links, pipes, names that no key has. */
    char path[1024];
    snprintf(path, sizeof(path), "%s/objects/a/link", t->path);
    assert_int_equal(symlink("b0", path), 0);
    dir_by_hand(t, "objects/a/no key", "x");
    list_compare(t, keys, count, "", NULL, 1000);
    struct slice s;
    assert_int_equal(store_get(t->store, "a/link", 0, 10, STORE_FOR_READ, &s), ERR_NOT_FOUND);
}
static void test_list(void **state) {
    (void)state;
    dir_test_run(body_list);
}

/* Objects come and go below while a LIST walks: those that stay are all there, once, in order. */
struct churn {
    struct dir_test *test;
    struct waitgroup running;
    bool stop;
};
static void churn_run(void *arg) {
    struct churn *c = arg;
    for (unsigned i = 0; !c->stop; i++) {
        char key[64];
        const char *k = key;
        snprintf(key, sizeof(key), "log/%u/churn%u", i % 3, i % 50);
        assert_int_equal(dir_create(c->test, key, "x"), OK);
        assert_int_equal(store_delete(c->test->store, &k, 1, STORE_FOR_OTHER), OK);
    }
    waitgroup_done(&c->running);
}
static void body_list_churn(struct dir_test *t) {
    dir_open(t);
    char key[64];
    for (unsigned i = 0; i < 60; i++) {
        snprintf(key, sizeof(key), "log/%u/stay%u", i % 3, i);
        assert_int_equal(dir_create(t, key, "x"), OK);
    }
    struct churn c = {.test = t};
    waitgroup_init(&c.running);
    waitgroup_add(&c.running);
    (void)fiber_spawn(loop_current(), "churn", churn_run, &c);
    for (unsigned round = 0; round < 60; round++) {
        struct store_listing l;
        assert_int_equal(store_list(t->store, "log/", NULL, 1000, STORE_FOR_OTHER, &l), OK);
        unsigned stay = 0;
        for (size_t i = 0; i < l.count; i++) {
            stay += strstr(l.items[i].key, "stay") != NULL;
            if (i > 0) assert_true(strcmp(l.items[i - 1].key, l.items[i].key) < 0);
        }
        assert_int_equal(stay, 60);
        store_listing_deinit(&l);
    }
    c.stop = true;
    waitgroup_wait(&c.running);
}
static void test_list_churn(void **state) {
    (void)state;
    dir_test_run(body_list_churn);
}

static void expect_refused(struct dir_test *t, enum err result, const char *sentence) {
    const char *why = NULL;
    struct store *s = NULL;
    assert_int_equal(store_dir_open(t->env, t->path, &s, &why), result);
    assert_null(s);
    if (!strstr(why, sentence)) fail_msg("expected \"%s\" in \"%s\"", sentence, why);
}

static void body_refusals(struct dir_test *t) {
    /* Somebody's folder: refused, and left as it is. */
    assert_int_equal(mkdir(t->path, 0755), 0);
    dir_by_hand(t, "holiday.jpg", "x");
    expect_refused(t, ERR_FOREIGN, "choose an empty or a new folder");
    assert_false(dir_has(t, "LOCK") || dir_has(t, "objects") || dir_has(t, "oxbow-store") || dir_has(t, "tmp"));
    dir_by_hand(t, "oxbow-store", "oxbow-store 2\n");
    expect_refused(t, ERR_VERSION, "newer version");
    static const char *const bad[] = {"",          "oxbow-store 1", "oxbow-store 0\n", "oxbow-store one\n",
                                      "oxbow 1\n", "\0\0\0",        "oxbow-store 1x\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        dir_by_hand(t, "oxbow-store", bad[i]);
        expect_refused(t, ERR_FOREIGN, "not the marker");
    }
    assert_false(dir_has(t, "LOCK") || dir_has(t, "objects") || dir_has(t, "tmp"));
    /* With our marker, what else lies there is not our business. */
    dir_by_hand(t, "oxbow-store", "oxbow-store 1\n");
    dir_open(t);
    expect_refused(t, ERR_LOCKED, "another process uses");
    store_close(t->store);
    t->store = NULL;
    dir_test_remove(t->path);
    /* A file where the folder should be. */
    int fd = open(t->path, O_CREAT | O_WRONLY, 0644);
    close(fd);
    struct store *s;
    const char *why;
    assert_int_not_equal(store_dir_open(t->env, t->path, &s, &why), OK);
    assert_int_equal(unlink(t->path), 0);
    /* What an interrupted first open leaves behind does not keep the second one out. */
    assert_int_equal(mkdir(t->path, 0755), 0);
    dir_by_hand(t, "LOCK", "");
    dir_by_hand(t, "oxbow-store.new", "oxb");
    dir_open(t);
    assert_int_equal(dir_create(t, "a", "b"), OK);
}
static void test_refusals(void **state) {
    (void)state;
    dir_test_run(body_refusals);
}

static void body_trailing_slash(struct dir_test *t) {
    strcat(t->path, "/deeper/still//");
    dir_open(t);
    assert_int_equal(dir_create(t, "a", "b"), OK);
    dir_expect(t, "a", "b");
}
static void test_trailing_slash(void **state) {
    (void)state;
    dir_test_run(body_trailing_slash);
}

/* What open tidies up: temporary files, empty folders; objects stay. */
static void body_tidy(struct dir_test *t) {
    dir_open(t);
    assert_int_equal(dir_create(t, "keep/this/one", "1"), OK);
    assert_int_equal(dir_create(t, "drop/this/one", "2"), OK);
    assert_int_equal(dir_create(t, "keep/not/this", "3"), OK);
    static const char *const keys[] = {"drop/this/one", "keep/not/this"};
    assert_int_equal(store_delete(t->store, keys, 2, STORE_FOR_OTHER), OK);
    dir_by_hand(t, "tmp/17", "half");
    assert_true(dir_has(t, "objects/drop/this"));
    dir_reopen(t);
    assert_false(dir_has(t, "tmp/17") || dir_has(t, "objects/drop") || dir_has(t, "objects/keep/not"));
    assert_true(dir_has(t, "objects/keep/this/one"));
    assert_int_equal(dir_create(t, "drop/this/one", "4"), OK);
}
static void test_tidy(void **state) {
    (void)state;
    dir_test_run(body_tidy);
}

/* The folder goes away, is replaced, comes back: nothing is "not found" meanwhile, and nothing is written to the other
 * one. */
static void expect_away(struct dir_test *t) {
    struct slice s;
    struct store_listing l;
    const char *key = "a/b";
    assert_int_equal(dir_create(t, "a/new", "x"), ERR_UNAVAILABLE);
    assert_int_equal(store_get(t->store, "a/b", 0, 10, STORE_FOR_READ, &s), ERR_UNAVAILABLE);
    assert_int_equal(store_get(t->store, "a/none", 0, 10, STORE_FOR_READ, &s), ERR_UNAVAILABLE);
    assert_int_equal(store_list(t->store, "a/", NULL, 10, STORE_FOR_OTHER, &l), ERR_UNAVAILABLE);
    store_listing_deinit(&l);
    assert_int_equal(store_delete(t->store, &key, 1, STORE_FOR_OTHER), ERR_UNAVAILABLE);
}
static void move(struct dir_test *t, const char *from, const char *to) {
    char a[1024], b[1024];
    snprintf(a, sizeof(a), "%s%s", t->path, from);
    snprintf(b, sizeof(b), "%s%s", t->path, to);
    assert_int_equal(rename(a, b), 0);
}
static void body_away(struct dir_test *t) {
    dir_open(t);
    assert_int_equal(dir_create(t, "a/b", "x"), OK);
    static const char *const parts[] = {"", "/objects", "/LOCK"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        char aside[64];
        snprintf(aside, sizeof(aside), "%s.aside", parts[i]);
        move(t, parts[i], aside);
        expect_away(t);
        /* Another in its place. */
        char path[1024];
        snprintf(path, sizeof(path), "%s%s", t->path, parts[i]);
        if (i == 2) {
            dir_by_hand(t, "LOCK", "");
        } else {
            assert_int_equal(mkdir(path, 0755), 0);
        }
        expect_away(t);
        dir_test_remove(path);
        move(t, aside, parts[i]);
        dir_expect(t, "a/b", "x");
        char key[32];
        snprintf(key, sizeof(key), "a/after%zu", i);
        assert_int_equal(dir_create(t, key, "x"), OK);
    }
    assert_false(dir_has(t, "objects/a/new"));
}
static void test_away(void **state) {
    (void)state;
    dir_test_run(body_away);
}

/* The check at start passes here; with named temporary files too. */
static void body_conditional(struct dir_test *t) {
    dir_open(t);
    const char *why = "";
    assert_int_equal(store_check_conditional_create(t->store, "probe", true, &why), OK);
    struct dir_store *d = (struct dir_store *)(void *)t->store;
    d->nameless = !d->nameless;
    if (d->nameless) return; /* the file system has no nameless files; the named ones were tested just now */
    assert_int_equal(store_check_conditional_create(t->store, "probe", true, &why), OK);
    assert_int_equal(dir_create(t, "x/y", "1"), OK);
    assert_int_equal(dir_create(t, "x/y", "2"), ERR_EXISTS);
    dir_expect(t, "x/y", "1");
    struct store_listing l;
    assert_int_equal(store_list(t->store, "probe/", NULL, 10, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 0);
    store_listing_deinit(&l);
    char path[1024];
    snprintf(path, sizeof(path), "%s/tmp", t->path);
    assert_int_equal(rmdir(path), 0); /* it is empty */
    assert_int_equal(dir_create(t, "x/z", "1"), ERR_UNAVAILABLE);
}
static void test_conditional(void **state) {
    (void)state;
    dir_test_run(body_conditional);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_large),      cmocka_unit_test(test_compose),
        cmocka_unit_test(test_list),           cmocka_unit_test(test_list_churn), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_trailing_slash), cmocka_unit_test(test_tidy),       cmocka_unit_test(test_away),
        cmocka_unit_test(test_conditional),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
