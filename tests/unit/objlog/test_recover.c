/* Replays: whole logs, trimmed ones, islands, trimming under the reader, damage by name, large heads, thousands of old
 * elections. */
#include "unit/objlog/fixture.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/crc32c.h"

struct run {
    struct fixture *fixture;
    struct objlog *log;
    struct seen seen;
    enum err result;
};

static void recover_run(void *arg) {
    struct run *r = arg;
    struct objlog_replay replay = fixture_replay(r->fixture, &r->seen);
    r->result = objlog_recover(r->log, &replay);
}

/* Recovers and compares what was seen and where the log stands. */
static void recover(struct fixture *f, enum err result, const char *seen, uint64_t next) {
    struct run r = {.fixture = f, .log = fixture_log(f, 64, 1)};
    fixture_run(f, recover_run, &r);
    assert_int_equal(r.result, result);
    if (seen) assert_string_equal(r.seen.text, seen);
    if (next != UINT64_MAX) assert_int_equal(objlog_next(r.log), next);
    objlog_destroy(r.log);
}

static void test_empty(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    recover(f, ERR_NOT_FOUND, "", 0);
    fixture_object_set(f, PREFIX "/00000000000000000x42", "x", 1); /* not an entry's key */
    fixture_object_set(f, PREFIX "2/00000000000000000000", "x", 1);
    recover(f, ERR_NOT_FOUND, "", 0);
    fixture_destroy(f);
}

static void test_from_zero(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_entry(f, OBJLOG_DATA, 0, 0, "a", NULL);
    fixture_entry(f, OBJLOG_CHECKPOINT, 1, 0, "b", NULL);
    fixture_entry(f, OBJLOG_DATA, 2, 0, "c", NULL);
    recover(f, OK, "0:a c1:b 2:c ", 3);
    fixture_destroy(f);
}

static void test_from_boundary(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    for (unsigned i = 0; i < 8; i++) {
        fixture_entry(f, i == 3 || i == 6 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 5 ? 3 : 0, "x", NULL);
    }
    for (unsigned i = 0; i < 3; i++) fixture_object_remove(f, i);
    recover(f, OK, "c3:x 4:x 5:x c6:x 7:x ", 8);
    /* Nothing behind the hole is log. */
    fixture_object_remove(f, 5);
    recover(f, OK, "c3:x 4:x ", 5);
    fixture_destroy(f);
}

static void test_ends_at_fence(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_entry(f, OBJLOG_DATA, 0, 0, "a", NULL);
    fixture_entry(f, OBJLOG_FENCE, 1, 0, "b", NULL);
    fixture_entry(f, OBJLOG_DATA, 2, 0, "c", NULL);
    recover(f, OK, "0:a f1:b ", 1);
    fixture_destroy(f);
}

/* The highest entry is a fence that was put far ahead by somebody with an old view: what it says of the boundary is
 * old. */
static void test_old_fence_on_top(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct objlog_nonce none = {{0}};
    for (unsigned i = 0; i < 40; i++) {
        fixture_entry(f, i % 10 == 9 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 30 ? 29 : i > 20 ? 19 : 0, "x", NULL);
    }
    fixture_entry(f, OBJLOG_FENCE, 70, 19, "", &none);
    for (unsigned i = 0; i < 29; i++) fixture_object_remove(f, i);
    recover(f, OK, "|c29:x 30:x 31:x 32:x 33:x 34:x 35:x 36:x 37:x 38:x c39:x ", 40);
    /* The old boundary's checkpoint is still there, and what follows it is partly gone. */
    struct objlog_nonce before = {{1}};
    fixture_entry(f, OBJLOG_CHECKPOINT, 19, 9, "y", &before);
    fixture_entry(f, OBJLOG_DATA, 20, 9, "y", NULL);
    recover(f, OK, "c19:y 20:y |c29:x 30:x 31:x 32:x 33:x 34:x 35:x 36:x 37:x 38:x c39:x ", 40);
    fixture_destroy(f);
}

struct trimmer {
    struct fixture *fixture;
    unsigned at, skip, done;
};

static void trim_at(struct fixture *f, enum store_op op, uint64_t number) {
    struct trimmer *t = f->watch_ctx;
    if (op != STORE_GET || number != t->at || t->done || t->skip-- > 0) return;
    t->done = 1;
    /* While the reader is on its way to number `at`, the writer has gone on, and all below 10 is deleted. */
    for (unsigned i = 6; i < 14; i++)
        fixture_entry(f, i == 10 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 12 ? 10 : 3, "n", NULL);
    for (unsigned i = 0; i < 10; i++) fixture_object_remove(f, i);
}

static void test_trimmed_under_reader(void **state) {
    (void)state;
    for (unsigned at = 3; at <= 5; at++) {
        struct fixture *f = fixture_create(at);
        for (unsigned i = 0; i < 6; i++)
            fixture_entry(f, i == 3 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 3 ? 3 : 0, "o", NULL);
        struct trimmer t = {f, at, at == 5, 0}; /* the highest is also looked at first */
        f->watch = trim_at;
        f->watch_ctx = &t;
        struct run r = {.fixture = f, .log = fixture_log(f, 64, 1)};
        fixture_run(f, recover_run, &r);
        assert_int_equal(t.done, 1);
        static const char *const seen[] = {"|c10:n 11:n 12:n 13:n ", "c3:o |c10:n 11:n 12:n 13:n ",
                                           "c3:o 4:o |c10:n 11:n 12:n 13:n "};
        assert_int_equal(r.result, OK);
        assert_string_equal(r.seen.text, seen[at - 3]);
        assert_int_equal(objlog_next(r.log), 14);
        objlog_destroy(r.log);
        fixture_destroy(f);
    }
}

/* An election that somebody put into a trimmed number; the entry behind it names its true predecessor. */
static void test_island(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    for (unsigned i = 0; i < 12; i++)
        fixture_entry(f, i == 3 || i == 8 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 10 ? 8 : i > 3 ? 3 : 0, "x", NULL);
    /* Number 5 was trimmed and then taken by an election with an old view; the highest entry says 8, so that is where
     * to begin. */
    fixture_object_remove(f, 5);
    fixture_entry(f, OBJLOG_ELECTION, 5, 3, "island", NULL);
    recover(f, OK, "c8:x 9:x 10:x 11:x ", 12);
    /* Were 3 still the boundary of all, the island would be damage: the reader begins anew, again and again, and gives
     * up by name. */
    fixture_object_remove(f, 11);
    recover(f, ERR_CORRUPT, NULL, UINT64_MAX);
    assert_true(fixture_log_count(f, "object log does not hold together") == 1);
    fixture_destroy(f);
}

static void test_boundary_gone(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    for (unsigned i = 0; i < 8; i++)
        fixture_entry(f, i == 3 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 3 ? 3 : 0, "x", NULL);
    fixture_object_remove(f, 3);
    recover(f, ERR_CORRUPT, NULL, UINT64_MAX);
    fixture_entry(f, OBJLOG_DATA, 3, 0, "no checkpoint", NULL);
    recover(f, ERR_CORRUPT, NULL, UINT64_MAX);
    fixture_destroy(f);
}

static void damage(struct fixture *f, uint64_t number, size_t position, uint8_t flip, size_t size, bool reseal) {
    struct object *o = fixture_object(f, number);
    o->data[position] ^= flip;
    if (reseal) le32_put(o->data + 124, crc32c(0, o->data, 124));
    o->size = size == SIZE_MAX ? o->size : size;
}

static void test_damage_by_name(void **state) {
    (void)state;
    static const struct {
        size_t position;
        uint8_t flip;
        bool reseal;
        size_t size;
        enum err result;
    } cases[] = {
        {0, 1, false, SIZE_MAX, ERR_FOREIGN},
        {4, 3, true, SIZE_MAX, ERR_VERSION},
        {20, 1, false, SIZE_MAX, ERR_CORRUPT},
        {OBJLOG_HEADER_SIZE + 2, 1, false, SIZE_MAX, ERR_CORRUPT}, /* the head */
        {0, 0, false, 100, ERR_TRUNCATED},
        {0, 0, false, OBJLOG_HEADER_SIZE + 1, ERR_TRUNCATED},
        {0, 0, false, 0, ERR_TRUNCATED},
        {8, 4, true, SIZE_MAX, ERR_CORRUPT},    /* another number's */
        {72, 1, true, SIZE_MAX, ERR_TRUNCATED}, /* a byte of body that is not there */
        {48, 1, true, SIZE_MAX, ERR_CORRUPT},   /* a boundary that is no checkpoint */
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (uint64_t number = 2; number <= 4; number += 2) { /* in the middle, and the highest */
            if (cases[i].position == 48 && number == 4)
                continue; /* the highest one's boundary is where the walk begins */
            struct fixture *f = fixture_create(1);
            for (unsigned k = 0; k < 5; k++) fixture_entry(f, OBJLOG_DATA, k, 0, "head", NULL);
            damage(f, number, cases[i].position, cases[i].flip, cases[i].size, cases[i].reseal);
            recover(f, cases[i].result, NULL, UINT64_MAX);
            assert_true(fixture_log_count(f, err_name(cases[i].result)) > 0 || cases[i].position == 48);
            fixture_destroy(f);
        }
    }
}

/* A longer object than its header says is not what was written. */
static void test_trailing_bytes(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    fixture_entry(f, OBJLOG_DATA, 0, 0, "head", NULL);
    struct object *o = fixture_object(f, 0);
    uint8_t longer[256] = {0};
    memcpy(longer, o->data, o->size);
    char key[64];
    objlog_key(key, sizeof(key), PREFIX, 0);
    fixture_object_set(f, key, longer, o->size + 1);
    recover(f, ERR_CORRUPT, "", UINT64_MAX);
    fixture_destroy(f);
}

/* Heads around and above what one GET brings. */
static void test_large_heads(void **state) {
    (void)state;
    static const size_t sizes[] = {65536 - 129, 65536 - 128, 65536 - 127, 65536, 1000000};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        for (size_t body = 0; body <= 3; body += 3) {
            struct fixture *f = fixture_create(1);
            size_t size = OBJLOG_HEADER_SIZE + sizes[i] + body;
            uint8_t *bytes = mem_zalloc(&f->mem, size);
            rng_fill(&f->rng, bytes + OBJLOG_HEADER_SIZE, sizes[i]);
            struct objlog_header h = {.kind = OBJLOG_DATA, .nonce = {{1}}, .head_size = sizes[i], .body_size = body};
            h.head_crc = crc32c(0, bytes + OBJLOG_HEADER_SIZE, sizes[i]);
            objlog_header_encode(&h, bytes);
            char key[64];
            objlog_key(key, sizeof(key), PREFIX, 0);
            fixture_object_set(f, key, bytes, size);
            recover(f, OK, NULL, 1);
            fixture_object_set(f, key, bytes, OBJLOG_HEADER_SIZE + sizes[i] - 1);
            recover(f, ERR_TRUNCATED, "", UINT64_MAX);
            bytes[size - body - 1] ^= 1;
            fixture_object_set(f, key, bytes, size);
            recover(f, ERR_CORRUPT, "", UINT64_MAX);
            mem_free(&f->mem, bytes);
            fixture_destroy(f);
        }
    }
}

/* Between the two GETs that a large head takes, the entry is deleted, and a late writer, who found the hole, puts one of
 * its own there. */
static void put_another(struct fixture *f, enum store_op op, uint64_t number) {
    if (op != STORE_GET || number != 0 || ++*(unsigned *)f->watch_ctx != 2) return;
    fixture_object_remove(f, 0);
    fixture_entry(f, OBJLOG_DATA, 0, 0, "late", NULL);
}
struct replaced {
    struct fixture *f;
    struct objlog_entry *entry;
    enum err result;
};
static void replaced_run(void *arg) {
    struct replaced *r = arg;
    r->result = objlog_read(&r->f->store, PREFIX, 0, STORE_FOR_LEDGER, r->entry);
}
static void test_replaced_under_reader(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    unsigned gets = 0;
    size_t head = 70000;
    uint8_t *bytes = mem_zalloc(&f->mem, OBJLOG_HEADER_SIZE + head);
    struct objlog_header h = {.kind = OBJLOG_DATA, .nonce = {{1}}, .head_size = head};
    h.head_crc = crc32c(0, bytes + OBJLOG_HEADER_SIZE, head);
    objlog_header_encode(&h, bytes);
    char key[64];
    objlog_key(key, sizeof(key), PREFIX, 0);
    fixture_object_set(f, key, bytes, OBJLOG_HEADER_SIZE + head);
    f->watch = put_another;
    f->watch_ctx = &gets;
    struct objlog_entry entry;
    struct replaced r = {.f = f, .entry = &entry};
    fixture_run(f, replaced_run, &r);
    assert_int_equal(gets, 2);
    assert_int_equal(r.result, OK);
    assert_true(entry.head.size == 4 && memcmp(entry.head.data, "late", 4) == 0);
    objlog_entry_deinit(&entry);
    mem_free(&f->mem, bytes);
    fixture_destroy(f);
}

/* apply() may suspend, and may refuse. */
static void test_apply_refuses(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    for (unsigned k = 0; k < 5; k++) fixture_entry(f, OBJLOG_DATA, k, 0, "x", NULL);
    struct run r = {
        .fixture = f, .log = fixture_log(f, 1, 1), .seen = {.fail_with = ERR_GAP, .fail_at = 3, .sleep_ms = 5}};
    fixture_run(f, recover_run, &r);
    assert_int_equal(r.result, ERR_GAP);
    assert_string_equal(r.seen.text, "0:x 1:x 2:x ");
    objlog_destroy(r.log);
    fixture_destroy(f);
}

/* A store that is away is waited for; a device that fails is reported; a refusal is final. */
static void test_reads_repeat(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    for (unsigned k = 0; k < 4; k++) fixture_entry(f, OBJLOG_DATA, k, 0, "x", NULL);
    for (unsigned i = 0; i < 50; i++)
        fixture_plan(f, STORE_GET, 2, (struct plan){.answer = i % 2 ? ERR_TIMEOUT : ERR_UNAVAILABLE});
    for (unsigned i = 0; i < 5; i++) fixture_plan(f, STORE_LIST, 0, (struct plan){.answer = ERR_UNAVAILABLE});
    recover(f, OK, "0:x 1:x 2:x 3:x ", 4);
    for (unsigned i = 0; i < 50; i++) fixture_plan(f, STORE_GET, 2, (struct plan){.answer = ERR_IO});
    recover(f, ERR_IO, "0:x 1:x ", UINT64_MAX);
    f->plan_count = 0;
    fixture_plan(f, STORE_GET, 2, (struct plan){.answer = ERR_PERMISSION});
    recover(f, ERR_PERMISSION, "0:x 1:x ", UINT64_MAX);
    fixture_destroy(f);
}

static void stop_soon(void *arg) {
    struct objlog *l = arg;
    fiber_sleep_ns(10 * NS_PER_S);
    objlog_stop(l);
}

static struct plan away(struct fixture *f, enum store_op op, const char *key) {
    (void)f;
    (void)op;
    (void)key;
    return (struct plan){.delay_ms = 1, .answer = ERR_UNAVAILABLE};
}

static void test_stop_while_away(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    f->improvise = away;
    struct run r = {.fixture = f, .log = fixture_log(f, 1, 1)};
    fixture_spawn(f, stop_soon, r.log);
    fixture_run(f, recover_run, &r);
    assert_int_equal(r.result, ERR_CANCELLED);
    objlog_destroy(r.log);
    fixture_destroy(f);
}

/* 30,000 elections of the past, and a log above: the highest is found without listing them all. */
static void test_old_elections(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct objlog_nonce other = {{1}};
    uint64_t top = 30000;
    for (uint64_t i = 0; i < top; i++) fixture_entry(f, OBJLOG_ELECTION, i, 0, "", &(struct objlog_nonce){{0}});
    fixture_entry(f, OBJLOG_CHECKPOINT, top + 5, 0, "c", &other);
    fixture_entry(f, OBJLOG_DATA, top + 6, top + 5, "d", NULL);
    recover(f, OK, "c30005:c 30006:d ", top + 7);
    assert_true(f->requests[STORE_LIST] <= 20);
    fixture_destroy(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_from_zero),
        cmocka_unit_test(test_from_boundary),
        cmocka_unit_test(test_ends_at_fence),
        cmocka_unit_test(test_old_fence_on_top),
        cmocka_unit_test(test_trimmed_under_reader),
        cmocka_unit_test(test_island),
        cmocka_unit_test(test_boundary_gone),
        cmocka_unit_test(test_damage_by_name),
        cmocka_unit_test(test_trailing_bytes),
        cmocka_unit_test(test_large_heads),
        cmocka_unit_test(test_replaced_under_reader),
        cmocka_unit_test(test_apply_refuses),
        cmocka_unit_test(test_reads_repeat),
        cmocka_unit_test(test_stop_while_away),
        cmocka_unit_test(test_old_elections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
