/* The front that all stores share: keys, counters, listings; and the check of conditional creation against stores that
 * lie. */
#include "unit/objlog/fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/store_plan.h"

static void test_keys(void **state) {
    (void)state;
    static const char *const good[] = {"a",   "a/b", "A-z_0.9/x", "...", "a/...",
                                       "..a", "a..", ".a/b.",     "-",   "a/b/c/d/e/f"};
    static const char *const bad[] = {"",     "/",      "/a",    "a/",  "a//b", ".",        "..", "a/.",  "a/..", "./a",
                                      "../a", "a/../b", "a/./b", "a b", "a\n",  "\xc3\xa9", "a*", "a\\b", "a:b"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) assert_true(store_key_valid(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) assert_false(store_key_valid(bad[i]));
    char key[514];
    memset(key, 'k', sizeof(key));
    key[512] = '\0';
    assert_true(store_key_valid(key));
    key[512] = 'k';
    key[513] = '\0';
    assert_false(store_key_valid(key));
}

static uint64_t counted(struct fixture *f, enum metric_counter c, enum store_op op, enum store_purpose purpose) {
    return f->metrics.counters[c][op * STORE_PURPOSES + purpose];
}

static void body_counts(void *arg) {
    struct fixture *f = arg;
    struct slice s[2] = {slice_borrow("abc", 3), slice_borrow("de", 2)}, got;
    struct store_listing l;
    const char *key = "test/log/x", *bad = "bad key";
    assert_int_equal(store_put(&f->store, key, s, 2, true, STORE_FOR_LEDGER), OK);
    assert_int_equal(store_put(&f->store, key, s, 2, true, STORE_FOR_LEDGER), ERR_EXISTS);
    assert_int_equal(store_put(&f->store, bad, s, 2, true, STORE_FOR_LEDGER), ERR_INVALID);
    assert_int_equal(store_get(&f->store, key, 1, 3, STORE_FOR_READ, &got), OK);
    slice_unref(&got);
    assert_int_equal(store_get(&f->store, "none", 1, 3, STORE_FOR_READ, &got), ERR_NOT_FOUND);
    assert_int_equal(store_get(&f->store, bad, 1, 3, STORE_FOR_READ, &got), ERR_INVALID);
    fixture_plan(f, STORE_GET, UINT64_MAX, (struct plan){.answer = ERR_TIMEOUT});
    assert_int_equal(store_get(&f->store, "other", 1, 3, STORE_FOR_READ, &got), ERR_TIMEOUT);
    assert_int_equal(store_list(&f->store, "", NULL, 10, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 1);
    store_listing_deinit(&l);
    store_listing_deinit(&l); /* harmless */
    assert_int_equal(store_list(&f->store, "/a", NULL, 10, STORE_FOR_OTHER, &l), ERR_INVALID);
    assert_int_equal(store_list(&f->store, "a", "b c", 10, STORE_FOR_OTHER, &l), ERR_INVALID);
    assert_int_equal(store_delete(&f->store, &key, 1, STORE_FOR_COMPACTION), OK);
    assert_int_equal(store_delete(&f->store, NULL, 0, STORE_FOR_COMPACTION), OK);
    assert_int_equal(store_delete(&f->store, &bad, 1, STORE_FOR_COMPACTION), ERR_INVALID);
}
static void test_counts(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_run(f, body_counts, f);
    assert_int_equal(counted(f, M_STORE_REQUESTS, STORE_CREATE, STORE_FOR_LEDGER), 2);
    assert_int_equal(counted(f, M_STORE_BYTES, STORE_CREATE, STORE_FOR_LEDGER), 10);
    assert_int_equal(counted(f, M_STORE_REQUESTS, STORE_GET, STORE_FOR_READ), 3);
    assert_int_equal(counted(f, M_STORE_BYTES, STORE_GET, STORE_FOR_READ), 3);
    assert_int_equal(counted(f, M_STORE_REQUESTS, STORE_LIST, STORE_FOR_OTHER), 1);
    assert_int_equal(counted(f, M_STORE_REQUESTS, STORE_DELETE, STORE_FOR_COMPACTION), 1);
    assert_int_equal(counted(f, M_STORE_REQUESTS, STORE_PUT, STORE_FOR_LEDGER), 0);
    assert_int_equal(f->metrics.counters[M_STORE_ERRORS][ERR_TIMEOUT], 1);
    assert_int_equal(f->metrics.counters[M_STORE_ERRORS][ERR_EXISTS], 0);
    assert_int_equal(f->metrics.counters[M_STORE_ERRORS][ERR_NOT_FOUND], 0);
    fixture_destroy(f);
}

/* What S3's price list makes of requests; parts are small here. */
static enum err put_anything(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                             enum store_purpose purpose) {
    (void)s, (void)key, (void)data, (void)count, (void)create_only, (void)purpose;
    return OK;
}
static void body_billed(void *arg) {
    struct fixture *f = arg;
    const struct store_ops *honest = f->store.ops;
    struct store_ops ops = *honest;
    ops.put = put_anything;
    f->store.ops = &ops;
    f->store.part_bytes = 10;
    static const struct {
        size_t bytes;
        bool create;
        uint64_t requests;
    } puts[] = {{0, false, 1}, {10, false, 1}, {11, false, 4}, {20, false, 4}, {21, false, 5}, {21, true, 1}};
    for (size_t i = 0; i < ARRAY_LEN(puts); i++) {
        struct slice data = slice_borrow("123456789012345678901", puts[i].bytes);
        enum store_op op = puts[i].create ? STORE_CREATE : STORE_PUT;
        uint64_t before = counted(f, M_STORE_BILLED, op, STORE_FOR_UPLOAD);
        assert_int_equal(store_put(&f->store, puts[i].create ? "c" : "p", &data, 1, puts[i].create, STORE_FOR_UPLOAD),
                         OK);
        assert_int_equal(counted(f, M_STORE_BILLED, op, STORE_FOR_UPLOAD) - before, puts[i].requests);
    }
    const char *keys[2500];
    char text[2500][8];
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        (void)snprintf(text[i], sizeof(text[i]), "k%u", i);
        keys[i] = text[i];
        if (i < 1001) fixture_object_set(f, keys[i], "x", 1);
    }
    struct store_listing l;
    assert_int_equal(store_list(&f->store, "k", NULL, 5000, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 1001);
    store_listing_deinit(&l);
    assert_int_equal(store_list(&f->store, "none", NULL, 5000, STORE_FOR_OTHER, &l), OK);
    store_listing_deinit(&l);
    assert_int_equal(counted(f, M_STORE_BILLED, STORE_LIST, STORE_FOR_OTHER), 3);
    assert_int_equal(store_delete(&f->store, keys, 2500, STORE_FOR_DELETION), OK);
    assert_int_equal(counted(f, M_STORE_BILLED, STORE_DELETE, STORE_FOR_DELETION), 3);
    assert_int_equal(counted(f, M_STORE_REQUESTS, STORE_DELETE, STORE_FOR_DELETION), 1);
    f->store.ops = honest;
}
static void test_billed(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_run(f, body_billed, f);
    assert_int_equal(store_parts((uint64_t)1 << 40, 1 << 20), STORE_PARTS_MAX);
    fixture_destroy(f);
}

/* What became of each key, and of all. Letters: a key that is gone, one that was not there, refused, away. */
static const char *fates;
static enum err del_by_fates(struct store *s, const char *const *keys, size_t count, enum err *each) {
    (void)s, (void)keys;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(each[i], OK);
        each[i] = fates[i] == 'n'   ? ERR_NOT_FOUND
                  : fates[i] == 'r' ? ERR_PERMISSION
                  : fates[i] == 'a' ? ERR_UNAVAILABLE
                                    : OK;
    }
    return fates[count] == '!' ? ERR_TIMEOUT : OK;
}
static void body_deletes(void *arg) {
    struct fixture *f = arg;
    const struct store_ops *honest = f->store.ops;
    struct store_ops ops = *honest;
    ops.del = del_by_fates;
    f->store.ops = &ops;
    static const struct {
        const char *fates;
        enum err each, all; /* as each is asked for, and all */
    } cases[] = {{"ggg", OK, OK},
                 {"nng", OK, OK},
                 {"grg", OK, ERR_PERMISSION},
                 {"rrr", OK, ERR_PERMISSION},
                 {"gag", OK, ERR_UNAVAILABLE},
                 {"nar", OK, ERR_UNAVAILABLE},
                 {"rar", ERR_UNAVAILABLE, ERR_UNAVAILABLE}, /* not one is gone: it is the store */
                 {"aaa", ERR_UNAVAILABLE, ERR_UNAVAILABLE},
                 {"ggg!", ERR_TIMEOUT, ERR_TIMEOUT}};
    static const char *const keys[] = {"a", "b", "c"};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum err each[3] = {ERR_CORRUPT, ERR_CORRUPT, ERR_CORRUPT};
        fates = cases[i].fates;
        assert_int_equal(store_delete_each(&f->store, keys, 3, STORE_FOR_DELETION, each), cases[i].each);
        for (size_t k = 0; k < 3 && cases[i].each == OK; k++) {
            enum err expected = fates[k] == 'r' ? ERR_PERMISSION : fates[k] == 'a' ? ERR_UNAVAILABLE : OK;
            assert_int_equal(each[k], expected);
        }
        assert_int_equal(store_delete(&f->store, keys, 3, STORE_FOR_DELETION), cases[i].all);
    }
    assert_int_equal(f->metrics.counters[M_STORE_ERRORS][ERR_PERMISSION], 4);
    f->store.ops = honest;
}
static void test_deletes(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_run(f, body_deletes, f);
    fixture_destroy(f);
}

/* --- What a compose becomes. Parts: "m3" three bytes in memory, "a5+3" three bytes of the object "a" from the fifth on. */

static enum err plan_of(struct fixture *f, const char *text, struct store_plan *out) {
    static char keys[32][2];
    struct store_part parts[32];
    size_t n = 0;
    for (const char *p = text; *p; p += *p == ' ') {
        unsigned position = 0, size = 0;
        int used = 0;
        keys[n][0] = *p++;
        parts[n] = (struct store_part){0};
        if (keys[n][0] == 'm') {
            assert_int_equal(sscanf(p, "%u%n", &size, &used), 1);
            parts[n].data = slice_borrow("abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop" + 3 * n, size);
        } else {
            assert_int_equal(sscanf(p, "%u+%u%n", &position, &size, &used), 2);
            parts[n] = (struct store_part){.key = keys[n], .position = position, .size = size};
        }
        p += used;
        n++;
    }
    return store_plan_make(&f->store, parts, n, out);
}
static void test_plans(void **state) {
    (void)state;
    static const struct {
        const char *parts, *pieces; /* pieces NULL: unsupported */
    } cases[] = {
        {"a0+5", "a0+5"},
        {"m5 a0+9 m1", "mabcde a0+9 mg"},
        {"m2 m0 m3 a0+9", "mabghi a0+9"}, /* neighbours in memory are put together, */
        {"a0+3 a3+4 b0+5", "a0+7 b0+5"},  /* so are those in an object, */
        {"a0+5 a6+5", "a0+5 a6+5"},       /* if nothing lies between them */
        {"a0+5 b5+5", "a0+5 b5+5"},       /* and it is one object */
        {"a0+5 m0 b0+0 a5+2", "a0+7"},    /* what is empty is not there */
        {"a0+5 m2", "a0+5 md"
                    "e"}, /* the last may be small, */
        {"a0+5 b0+1", "a0+5 b0+1"},
        {"m4 a0+9", NULL}, /* no other */
        {"a0+4 m9", NULL},
        {"m20 a0+5", "mabcdefghij mklmnopqrst a0+5"}, /* what is large goes in several, none too small */
        {"m25 a0+5", "mabcdefghijkl mmnopqrstuvwxy a0+5"},
        {"m19 a0+5", "mabcdefghijklmnopqrs a0+5"},
    };
    struct fixture *f = fixture_create(1);
    f->store.part_bytes = 10;
    f->store.part_least = 5;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_plan plan;
        char text[256] = "";
        enum err e = plan_of(f, cases[i].parts, &plan);
        assert_int_equal(e, cases[i].pieces ? OK : ERR_UNSUPPORTED);
        for (size_t k = 0; e == OK && k < plan.piece_count; k++) {
            const struct store_piece *p = &plan.pieces[k];
            size_t used = strlen(text);
            uint64_t size = 0;
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", k ? " " : "", p->key ? p->key : "m");
            if (p->key) snprintf(text + used, sizeof(text) - used, "%u+%u", (unsigned)p->position, (unsigned)p->size);
            for (size_t j = 0; j < p->count; size += p->data[j].size, j++)
                strncat(text, (const char *)p->data[j].data, p->data[j].size);
            assert_true(p->key || size == p->size);
        }
        if (e == OK) assert_string_equal(text, cases[i].pieces);
        if (e == OK) store_plan_deinit(&plan);
    }
    /* Gigabytes, and the limits. */
    struct store_plan plan;
    struct store_part large = {.key = "a", .position = 7, .size = 3 * STORE_COPY_MAX + 1};
    assert_int_equal(store_plan_make(&f->store, &large, 1, &plan), OK);
    assert_int_equal(plan.piece_count, 4);
    uint64_t at = 7;
    for (size_t i = 0; i < 4; at += plan.pieces[i].size, i++) assert_int_equal(plan.pieces[i].position, at);
    assert_int_equal(at, 7 + large.size);
    store_plan_deinit(&plan);
    large.size = STORE_OBJECT_MAX + 1;
    assert_int_equal(store_plan_make(&f->store, &large, 1, &plan), ERR_TOO_LARGE);
    large = (struct store_part){.key = "a", .position = UINT64_MAX, .size = 2};
    assert_int_equal(store_plan_make(&f->store, &large, 1, &plan), ERR_INVALID);
    large = (struct store_part){.key = "/a", .size = 2};
    assert_int_equal(store_plan_make(&f->store, &large, 1, &plan), ERR_INVALID);
    struct store_part *many = calloc(STORE_PARTS_MAX + 1, sizeof(*many));
    for (size_t i = 0; i <= STORE_PARTS_MAX; i++) many[i] = (struct store_part){.key = i % 2 ? "a" : "b", .size = 5};
    assert_int_equal(store_plan_make(&f->store, many, STORE_PARTS_MAX + 1, &plan), ERR_UNSUPPORTED);
    assert_int_equal(store_plan_make(&f->store, many, STORE_PARTS_MAX, &plan), OK);
    store_plan_deinit(&plan);
    free(many);
    fixture_destroy(f);
}

static enum err compose_anything(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                                 enum store_purpose purpose) {
    (void)s, (void)key, (void)pieces, (void)count, (void)purpose;
    return OK;
}
static void body_compose(void *arg) {
    struct fixture *f = arg;
    struct store_part parts[] = {
        {.data = slice_borrow("abcdef", 6)}, {.key = "x", .size = 100}, {.data = slice_borrow("g", 1)}};
    /* All in memory: a create. */
    assert_int_equal(store_compose(&f->store, "test/log/y", parts, 1, STORE_FOR_COMPACTION), OK);
    assert_int_equal(store_compose(&f->store, "test/log/y", parts, 1, STORE_FOR_COMPACTION), ERR_EXISTS);
    assert_int_equal(counted(f, M_STORE_BILLED, STORE_CREATE, STORE_FOR_COMPACTION), 2);
    /* A store that does not have it. */
    assert_int_equal(store_compose(&f->store, "test/log/z", parts, 3, STORE_FOR_COMPACTION), ERR_UNSUPPORTED);
    assert_int_equal(counted(f, M_STORE_BILLED, STORE_COMPOSE, STORE_FOR_COMPACTION), 0);
    const struct store_ops *honest = f->store.ops;
    struct store_ops ops = *honest;
    ops.compose = compose_anything;
    f->store.ops = &ops;
    assert_int_equal(store_compose(&f->store, "test/log/z", parts, 3, STORE_FOR_COMPACTION), OK);
    assert_int_equal(counted(f, M_STORE_BILLED, STORE_COMPOSE, STORE_FOR_COMPACTION), 5);
    assert_int_equal(counted(f, M_STORE_REQUESTS, STORE_COMPOSE, STORE_FOR_COMPACTION), 1);
    assert_int_equal(counted(f, M_STORE_BYTES, STORE_COMPOSE, STORE_FOR_COMPACTION), 7);
    assert_int_equal(store_compose(&f->store, "bad key", parts, 3, STORE_FOR_COMPACTION), ERR_INVALID);
    f->store.ops = honest;
}
static void test_compose(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_run(f, body_compose, f);
    fixture_destroy(f);
}

/* --- Stores that lie. Each is the fixture's, with one thing changed. */

enum lie {
    HONEST,
    CREATES_TWICE, /* ignores the condition and replaces */
    SAYS_OK_TWICE, /* keeps the first, and says OK to the second */
    RACES,         /* checks, then creates: two at once both succeed */
    ALWAYS_EXISTS,
    REPLACES_AND_DENIES, /* says "exists", and replaces all the same */
    LOSES,               /* says OK and keeps nothing */
};
static struct {
    enum lie lie;
    const struct store_ops *honest;
} liar;

static struct fixture *fixture_of(struct store *s) {
    return (struct fixture *)(void *)s->env;
}

static enum err lying_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                          enum store_purpose purpose) {
    struct fixture *f = fixture_of(s);
    struct slice got = {0};
    enum err there = liar.honest->get(s, key, 0, 1, purpose, &got);
    slice_unref(&got);
    switch (liar.lie) {
    case CREATES_TWICE:
    case REPLACES_AND_DENIES:
        fixture_object_set(f, key, data[0].data, data[0].size);
        return there == OK && liar.lie == REPLACES_AND_DENIES ? ERR_EXISTS : OK;
    case SAYS_OK_TWICE: {
        enum err e = liar.honest->put(s, key, data, count, create_only, purpose);
        return e == ERR_EXISTS ? OK : e;
    }
    case RACES:
        if (there == OK) return ERR_EXISTS;
        fiber_sleep_ns(10 * NS_PER_MS);
        fixture_object_set(f, key, data[0].data, data[0].size);
        return OK;
    case ALWAYS_EXISTS:
        return ERR_EXISTS;
    case LOSES:
        return OK;
    case HONEST:
        break;
    }
    return liar.honest->put(s, key, data, count, create_only, purpose);
}

struct check {
    struct fixture *fixture;
    bool full;
    enum err result;
    const char *why;
};
static void body_check(void *arg) {
    struct check *c = arg;
    c->result = store_check_conditional_create(&c->fixture->store, "oxbow/probe", c->full, &c->why);
}

static void check_says(enum lie lie, bool full, struct plan (*improvise)(struct fixture *, enum store_op, const char *),
                       enum err result, const char *sentence) {
    struct fixture *f = fixture_create(lie);
    struct store_ops ops = *f->store.ops;
    liar.lie = lie;
    liar.honest = f->store.ops;
    ops.put = lying_put;
    f->store.ops = &ops;
    f->improvise = improvise;
    struct check c = {.fixture = f, .full = full, .why = "unset"};
    fixture_run(f, body_check, &c);
    assert_int_equal(c.result, result);
    if (!strstr(c.why, sentence)) fail_msg("expected \"%s\" in \"%s\"", sentence, c.why);
    if (result == OK && !improvise) assert_int_equal(f->object_count, 0); /* the probes are gone */
    fixture_destroy(f);
}

static struct plan mostly_unclear(struct fixture *f, enum store_op op, const char *key) {
    (void)op;
    (void)key;
    uint64_t roll = rng_below(&f->rng, 100);
    struct plan p = {.delay_ms = rng_below(&f->rng, 20)};
    if (roll < 12)
        p = (struct plan){
            .delay_ms = 5, .effect = roll < 6 ? DONE : NOT_DONE, .answer = roll < 9 ? ERR_TIMEOUT : ERR_UNAVAILABLE};
    return p;
}
static struct plan never(struct fixture *f, enum store_op op, const char *key) {
    (void)f;
    (void)op;
    (void)key;
    return (struct plan){.delay_ms = 5, .effect = NOT_DONE, .answer = ERR_UNAVAILABLE};
}
static struct plan forbidden(struct fixture *f, enum store_op op, const char *key) {
    (void)f;
    (void)op;
    (void)key;
    return (struct plan){.delay_ms = 5, .effect = NOT_DONE, .answer = ERR_PERMISSION};
}

static void test_check(void **state) {
    (void)state;
    for (int full = 0; full < 2; full++) {
        check_says(HONEST, full, NULL, OK, "");
        check_says(CREATES_TWICE, full, NULL, ERR_UNSUPPORTED, "ignores the condition");
        check_says(SAYS_OK_TWICE, full, NULL, ERR_UNSUPPORTED, "ignores the condition");
        check_says(ALWAYS_EXISTS, full, NULL, ERR_UNSUPPORTED, "never there");
        check_says(REPLACES_AND_DENIES, full, NULL, ERR_UNSUPPORTED, "does not give back");
        check_says(LOSES, full, NULL, ERR_UNSUPPORTED, "ignores the condition");
        check_says(HONEST, full, mostly_unclear, OK, "");
        check_says(HONEST, full, never, ERR_UNAVAILABLE, "clear answer");
        check_says(HONEST, full, forbidden, ERR_PERMISSION, "clear answer");
    }
    check_says(RACES, false, NULL, OK, "");
    check_says(RACES, true, NULL, ERR_UNSUPPORTED, "ignores the condition");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),    cmocka_unit_test(test_counts), cmocka_unit_test(test_billed),
        cmocka_unit_test(test_deletes), cmocka_unit_test(test_plans),  cmocka_unit_test(test_compose),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
