/* Fences and elections: at a free number, found, raced, lost again and again, into a trimmed number, with unclear
 * answers. */
#include "unit/objlog/fixture.h"

#include <stdio.h>

struct run {
    struct fixture *fixture;
    struct objlog *log;
    struct seen seen;
    enum objlog_kind kind;
    void (*between)(struct run *r); /* after the replay, before the takeover */
    enum err recovered, result;
    uint64_t number;
    bool mine;
    unsigned appends; /* after an election */
    enum err appended;
    uint64_t append_number;
};

static void take_over_run(void *arg) {
    struct run *r = arg;
    struct objlog_replay replay = fixture_replay(r->fixture, &r->seen);
    r->recovered = objlog_recover(r->log, &replay);
    if (r->recovered != OK && r->recovered != ERR_NOT_FOUND) return;
    if (r->between) r->between(r);
    struct slice head = slice_borrow("me", 2);
    r->result = objlog_take_over(r->log, r->kind, &replay, &head, &r->number, &r->mine);
    for (unsigned i = 0; i < r->appends && r->result == OK; i++) {
        r->appended = objlog_append(r->log, OBJLOG_DATA, &head, NULL, 0, 0, &r->append_number);
    }
}

static struct run *take_over(struct fixture *f, enum objlog_kind kind, void (*between)(struct run *),
                             unsigned appends) {
    struct run *r = MEM_NEW(&f->mem, struct run);
    *r = (struct run){
        .fixture = f, .kind = kind, .between = between, .appends = appends, .result = ERR_COUNT, .appended = ERR_COUNT};
    r->log = fixture_log(f, kind == OBJLOG_ELECTION ? 1 : 64, 7);
    fixture_run(f, take_over_run, r);
    return r;
}

static void run_end(struct run *r) {
    struct fixture *f = r->fixture;
    objlog_destroy(r->log);
    mem_free(&f->mem, r);
    fixture_destroy(f);
}

static struct fixture *some_log(unsigned count) {
    struct fixture *f = fixture_create(count);
    for (unsigned i = 0; i < count; i++) fixture_entry(f, OBJLOG_DATA, i, 0, "x", NULL);
    return f;
}

static void test_fence_at_hole(void **state) {
    (void)state;
    for (unsigned count = 0; count <= 3; count += 3) {
        struct fixture *f = some_log(count);
        struct run *r = take_over(f, OBJLOG_FENCE, NULL, 0);
        assert_int_equal(r->result, OK);
        assert_int_equal(r->number, count);
        assert_true(r->mine);
        assert_true(objlog_fenced(r->log));
        struct objlog_header h = fixture_header(f, count);
        assert_int_equal(h.kind, OBJLOG_FENCE);
        assert_int_equal(h.writer, 7);
        assert_int_equal(h.head_size, 2);
        assert_string_equal(r->seen.text, count ? "0:x 1:x 2:x " : "");
        run_end(r);
    }
}

static void test_fence_found(void **state) {
    (void)state;
    struct fixture *f = some_log(3);
    fixture_entry(f, OBJLOG_FENCE, 3, 0, "other", NULL);
    struct run *r = take_over(f, OBJLOG_FENCE, NULL, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 3);
    assert_false(r->mine);
    assert_string_equal(r->seen.text, "0:x 1:x 2:x f3:other ");
    run_end(r);
}

static void test_election_and_append(void **state) {
    (void)state;
    struct fixture *f = some_log(3);
    fixture_entry(f, OBJLOG_CHECKPOINT, 3, 0, "c", NULL);
    struct run *r = take_over(f, OBJLOG_ELECTION, NULL, 4);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 4);
    assert_true(r->mine);
    assert_int_equal(r->appended, OK);
    assert_int_equal(r->append_number, 8);
    assert_int_equal(fixture_header(f, 4).boundary, 3);
    for (unsigned i = 4; i < 9; i++) {
        struct objlog_header h = fixture_header(f, i), before = fixture_header(f, i - 1);
        assert_memory_equal(&h.previous, &before.nonce, sizeof(h.previous));
        assert_int_equal(h.boundary, 3);
    }
    assert_int_equal(objlog_deletable_below(r->log), 3);
    run_end(r);
    /* The very first leader. */
    r = take_over(fixture_create(9), OBJLOG_ELECTION, NULL, 1);
    assert_int_equal(r->recovered, ERR_NOT_FOUND);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 0);
    assert_int_equal(r->append_number, 1);
    run_end(r);
}

static void others_write(struct run *r) {
    fixture_entry(r->fixture, OBJLOG_DATA, 3, 0, "o", NULL);
    fixture_entry(r->fixture, OBJLOG_DATA, 4, 0, "o", NULL);
}
static void other_elected(struct run *r) {
    others_write(r);
    fixture_entry(r->fixture, OBJLOG_ELECTION, 5, 0, "o", NULL);
    fixture_entry(r->fixture, OBJLOG_DATA, 6, 0, "o", NULL);
}
static void other_fenced(struct run *r) {
    others_write(r);
    fixture_entry(r->fixture, OBJLOG_FENCE, 5, 0, "o", NULL);
}

static void test_lost_races(void **state) {
    (void)state;
    struct run *r = take_over(some_log(3), OBJLOG_FENCE, others_write, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 5);
    assert_true(r->mine);
    assert_string_equal(r->seen.text, "0:x 1:x 2:x 3:o 4:o ");
    run_end(r);
    r = take_over(some_log(3), OBJLOG_ELECTION, others_write, 1);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->append_number, 6);
    run_end(r);
    r = take_over(some_log(3), OBJLOG_ELECTION, other_elected, 1);
    assert_int_equal(r->result, ERR_FENCED);
    assert_string_equal(r->seen.text, "0:x 1:x 2:x 3:o 4:o e5:o 6:o ");
    assert_int_equal(objlog_next(r->log), 7);
    run_end(r);
    r = take_over(some_log(3), OBJLOG_FENCE, other_fenced, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 5);
    assert_false(r->mine);
    run_end(r);
    r = take_over(some_log(3), OBJLOG_ELECTION, other_fenced, 0);
    assert_int_equal(r->result, ERR_FENCED);
    run_end(r);
}

/* After a replay to 3, everything below 10 was written, checkpointed, and deleted: number 3 is free again, and is not
 * the end. */
static void trimmed_meanwhile(struct run *r) {
    struct fixture *f = r->fixture;
    for (unsigned i = 3; i < 14; i++)
        fixture_entry(f, i == 10 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 12 ? 10 : 0, "n", NULL);
    for (unsigned i = 0; i < 10; i++) fixture_object_remove(f, i);
}
static void trimmed_and_fenced(struct run *r) {
    trimmed_meanwhile(r);
    fixture_entry(r->fixture, OBJLOG_FENCE, 3, 0, "stale",
                  &(struct objlog_nonce){{0}}); /* somebody with an old view was faster */
}

static void test_trimmed_number(void **state) {
    (void)state;
    for (unsigned kind = OBJLOG_FENCE; kind <= OBJLOG_ELECTION; kind++) {
        struct fixture *f = some_log(3);
        struct run *r = take_over(f, (enum objlog_kind)kind, trimmed_meanwhile, kind == OBJLOG_ELECTION);
        assert_int_equal(r->result, OK);
        assert_int_equal(r->number, 14);
        assert_true(r->mine);
        assert_string_equal(r->seen.text, "0:x 1:x 2:x |c10:n 11:n 12:n 13:n ");
        assert_int_equal(fixture_header(f, 3).kind, kind); /* the island stays */
        if (kind == OBJLOG_ELECTION) assert_int_equal(r->append_number, 15);
        run_end(r);
    }
}

/* The rule holds for a fence that is found, too. */
static void test_found_fence_in_trimmed_number(void **state) {
    (void)state;
    struct fixture *f = some_log(3);
    struct run *r = take_over(f, OBJLOG_FENCE, trimmed_and_fenced, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 14);
    assert_true(r->mine);
    assert_string_equal(r->seen.text, "0:x 1:x 2:x f3:stale |c10:n 11:n 12:n 13:n ");
    run_end(r);
}

/* Entries above the hole that were in flight, or a fence ahead, are not a boundary. */
static void test_in_flight_above(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    for (unsigned i = 0; i < 9; i++)
        fixture_entry(f, i == 3 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, i, i > 4 ? 3 : 0, "x", NULL);
    fixture_object_remove(f, 5);
    struct run *r = take_over(f, OBJLOG_FENCE, NULL, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 5);
    assert_string_equal(r->seen.text, "c3:x 4:x ");
    run_end(r);
}

/* Unclear answers to the fence itself: it is there, it is not, it lands later, another's lands first. */
static void land_other(void *arg) {
    struct fixture *f = arg;
    fiber_sleep_ns(30 * NS_PER_MS);
    fixture_entry(f, OBJLOG_DATA, 3, 0, "o", NULL);
}

static void test_unclear_fence(void **state) {
    (void)state;
    static const struct plan plans[] = {
        {.delay_ms = 10, .effect = DONE, .answer = ERR_UNKNOWN_OUTCOME},
        {.delay_ms = 10, .effect = NOT_DONE, .answer = ERR_TIMEOUT},
        {.delay_ms = 10, .effect = DONE_LATER, .answer = ERR_TIMEOUT, .later_ms = 100000},
        {.delay_ms = 10, .effect = NOT_DONE, .answer = ERR_UNAVAILABLE},
    };
    for (unsigned i = 0; i < ARRAY_LEN(plans); i++) {
        for (unsigned race = 0; race < 2; race++) {
            struct fixture *f = some_log(3);
            fixture_plan(f, STORE_CREATE, 3, plans[i]);
            fixture_plan(
                f, STORE_CREATE, 3,
                (struct plan){.delay_ms = 50, .effect = plans[i].effect, .answer = plans[i].answer, .later_ms = 1});
            if (race && plans[i].effect != DONE) fixture_spawn(f, land_other, f);
            struct run *r = take_over(f, OBJLOG_FENCE, NULL, 0);
            assert_int_equal(r->result, OK);
            assert_true(r->mine);
            assert_int_equal(r->number, race && plans[i].effect != DONE ? 4 : 3);
            assert_int_equal(f->metrics.gauges[M_STORE_FAILING], 0);
            run_end(r);
        }
    }
}

/* A writer that is always one step ahead: each create of the fencer finds its number just taken. */
static void always_first(struct fixture *f, enum store_op op, uint64_t number) {
    uint64_t *limit = f->watch_ctx;
    if (op != STORE_CREATE || number >= *limit || fixture_object(f, number)) return;
    if (number > 0 && !fixture_object(f, number - 1)) return; /* the fence ahead: the writer is not there yet */
    fixture_entry(f, OBJLOG_DATA, number, 0, "w", NULL);
}

static void test_eight_lost_races(void **state) {
    (void)state;
    uint64_t limit = UINT64_MAX;
    struct fixture *f = some_log(2);
    f->watch = always_first;
    f->watch_ctx = &limit;
    struct run *r = take_over(f, OBJLOG_FENCE, NULL, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 2 + 8 + 64);
    assert_true(r->mine);
    struct objlog_header h = fixture_header(f, r->number);
    assert_int_equal(h.kind, OBJLOG_FENCE);
    assert_null(strstr(r->seen.text, "f")); /* one's own is not applied */
    assert_non_null(strstr(r->seen.text, "73:w "));
    run_end(r);
    /* The writer stops halfway: the fence goes to the hole, and the one ahead is left standing. */
    limit = 20;
    f = some_log(2);
    f->watch = always_first;
    f->watch_ctx = &limit;
    r = take_over(f, OBJLOG_FENCE, NULL, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 20);
    assert_non_null(fixture_object(f, 74));
    run_end(r);
}

/* A second fencer reaches a fence that was put ahead: it names no predecessor, and ends the log all the same. */
static void test_fence_ahead_found(void **state) {
    (void)state;
    struct fixture *f = some_log(10);
    fixture_entry(f, OBJLOG_FENCE, 10, 0, "ahead", &(struct objlog_nonce){{0}});
    struct run *r = take_over(f, OBJLOG_FENCE, NULL, 0);
    assert_int_equal(r->result, OK);
    assert_int_equal(r->number, 10);
    assert_false(r->mine);
    run_end(r);
}

/* Stopping ends a takeover that repeats. */
static void stop_soon(void *arg) {
    struct objlog *l = arg;
    fiber_sleep_ns(3 * NS_PER_S);
    objlog_stop(l);
}
static void stop_between(struct run *r) {
    fixture_spawn(r->fixture, stop_soon, r->log);
    for (unsigned i = 0; i < 200; i++)
        fixture_plan(r->fixture, STORE_CREATE, 3, (struct plan){.effect = NOT_DONE, .answer = ERR_TIMEOUT});
}
static void test_stop(void **state) {
    (void)state;
    struct run *r = take_over(some_log(3), OBJLOG_FENCE, stop_between, 0);
    assert_int_equal(r->result, ERR_CANCELLED);
    run_end(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fence_at_hole),
        cmocka_unit_test(test_fence_found),
        cmocka_unit_test(test_election_and_append),
        cmocka_unit_test(test_lost_races),
        cmocka_unit_test(test_trimmed_number),
        cmocka_unit_test(test_found_fence_in_trimmed_number),
        cmocka_unit_test(test_in_flight_above),
        cmocka_unit_test(test_unclear_fence),
        cmocka_unit_test(test_eight_lost_races),
        cmocka_unit_test(test_fence_ahead_found),
        cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
