/* Appending: order of numbers, answers in prefix order, the window, unknown outcomes, being fenced, stopping,
 * boundaries. */
#include "unit/objlog/fixture.h"

#include <stdio.h>

#include "base/crc32c.h"

#define CALLS_MAX 200u

struct call {
    struct calls *all;
    unsigned index;
    enum objlog_kind kind;
    uint64_t start_ms;
    char head[16];
    enum err result;
    uint64_t number;
    uint64_t answered_ns;
    unsigned order; /* of the answers */
};
struct calls {
    struct fixture *fixture;
    struct objlog *log;
    struct call calls[CALLS_MAX];
    unsigned count, answered;
};

static void call_run(void *arg) {
    struct call *c = arg;
    struct fixture *f = c->all->fixture;
    if (c->start_ms) fiber_sleep_ns(c->start_ms * NS_PER_MS);
    struct slice head = slice_borrow(c->head, strlen(c->head)),
                 body[2] = {slice_borrow("bo", 2), slice_borrow("dy", 2)};
    c->result = objlog_append(c->all->log, c->kind, &head, body, 2, crc32c(0, "body", 4), &c->number);
    c->answered_ns = f->now_ns;
    c->order = c->all->answered++;
}

static void calls_run(void *arg) {
    struct calls *all = arg;
    for (unsigned i = 0; i < all->count; i++) fixture_spawn(all->fixture, call_run, &all->calls[i]);
}

static struct calls *calls_create(struct fixture *f, unsigned depth, unsigned count) {
    struct calls *all = MEM_NEW(&f->mem, struct calls);
    all->fixture = f;
    all->log = fixture_log(f, depth, 7);
    all->count = count;
    for (unsigned i = 0; i < count; i++) {
        all->calls[i] = (struct call){.all = all, .index = i, .kind = OBJLOG_DATA, .result = ERR_COUNT};
        (void)snprintf(all->calls[i].head, sizeof(all->calls[i].head), "h%u", i);
    }
    return all;
}

static void calls_end(struct calls *all) {
    struct fixture *f = all->fixture;
    assert_int_equal(f->metrics.gauges[M_STORE_FAILING], 0);
    objlog_destroy(all->log);
    mem_free(&f->mem, all);
    fixture_destroy(f);
}

static void expect(const struct calls *all, unsigned first, unsigned end, enum err result) {
    for (unsigned i = first; i < end; i++) assert_int_equal(all->calls[i].result, result);
}

/* Numbers in the order of the calls; entries complete in any order; answers in order; never more in flight than the
 * depth. */
static void test_pipeline(void **state) {
    (void)state;
    for (unsigned depth = 1; depth <= 64; depth *= 4) {
        struct fixture *f = fixture_create(depth);
        struct calls *all = calls_create(f, depth, 150);
        for (unsigned i = 0; i < all->count; i++) {
            fixture_plan(f, STORE_CREATE, i, (struct plan){.delay_ms = 1 + rng_below(&f->rng, 100)});
        }
        fixture_run(f, calls_run, all);
        expect(all, 0, all->count, OK);
        assert_int_equal(f->put_most, depth);
        struct objlog_nonce previous = {{0}};
        for (unsigned i = 0; i < all->count; i++) {
            assert_int_equal(all->calls[i].number, i);
            assert_int_equal(all->calls[i].order, i);
            struct objlog_header h = fixture_header(f, i);
            assert_memory_equal(&h.previous, &previous, sizeof(previous));
            previous = h.nonce;
            assert_int_equal(h.writer, 7);
            assert_int_equal(h.body_size, 4);
            const struct object *o = fixture_object(f, i);
            assert_int_equal(o->size, OBJLOG_HEADER_SIZE + strlen(all->calls[i].head) + 4);
            assert_memory_equal(o->data + o->size - 4, "body", 4);
        }
        assert_int_equal(objlog_next(all->log), 150);
        assert_int_equal(objlog_durable(all->log), 150);
        assert_int_equal(f->requests[STORE_CREATE], 150);
        assert_int_equal(f->requests[STORE_GET], 0);
        calls_end(all);
    }
}

/* The first entry takes a second; the others are there long before, and are answered with it. */
static void test_prefix_holds_back(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct calls *all = calls_create(f, 8, 8);
    fixture_plan(f, STORE_CREATE, 0, (struct plan){.delay_ms = 1000});
    fixture_run(f, calls_run, all);
    expect(all, 0, 8, OK);
    for (unsigned i = 0; i < 8; i++) assert_true(all->calls[i].answered_ns >= 1000 * NS_PER_MS);
    calls_end(all);
}

/* Everything that an attempt can come to without being another's. */
static void test_unclear_outcomes(void **state) {
    (void)state;
    static const struct plan plans[] = {
        {.delay_ms = 5, .effect = DONE, .answer = ERR_UNKNOWN_OUTCOME},
        {.delay_ms = 5, .effect = DONE, .answer = ERR_TIMEOUT},
        {.delay_ms = 5, .effect = NOT_DONE, .answer = ERR_TIMEOUT},
        {.delay_ms = 5, .effect = NOT_DONE, .answer = ERR_IO},
        {.delay_ms = 5, .effect = NOT_DONE, .answer = ERR_FULL},
        {.delay_ms = 5, .effect = NOT_DONE, .answer = ERR_PERMISSION},
        {.delay_ms = 5, .effect = NOT_DONE, .answer = ERR_UNAVAILABLE},
        {.delay_ms = 5, .effect = DONE_LATER, .answer = ERR_TIMEOUT, .later_ms = 1},
        {.delay_ms = 5, .effect = DONE_LATER, .answer = ERR_TIMEOUT, .later_ms = 200},
        {.delay_ms = 5, .effect = DONE_LATER, .answer = ERR_TIMEOUT, .later_ms = 100000}, /* after the repetition */
    };
    for (unsigned i = 0; i < ARRAY_LEN(plans); i++) {
        struct fixture *f = fixture_create(i);
        struct calls *all = calls_create(f, 4, 6);
        fixture_plan(f, STORE_CREATE, 2, plans[i]);
        fixture_plan(f, STORE_CREATE, 2, plans[i]); /* and once more */
        fixture_run(f, calls_run, all);
        expect(all, 0, 6, OK);
        for (unsigned k = 0; k < 6; k++) assert_int_equal(all->calls[k].order, k);
        assert_true(f->requests[STORE_CREATE] > 6);
        assert_int_equal(fixture_log_count(f, "object store refuses writes"), 1);
        assert_int_equal(fixture_log_count(f, "object store takes writes again"), 1);
        calls_end(all);
    }
}

/* The answer "exists" is followed by a look that fails, finds nothing, and at last finds the entry. */
static void test_exists_then_unreadable(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct calls *all = calls_create(f, 4, 2);
    fixture_plan(f, STORE_CREATE, 0, (struct plan){.effect = DONE, .answer = ERR_TIMEOUT});
    fixture_plan(f, STORE_GET, 0, (struct plan){.answer = ERR_UNAVAILABLE});
    fixture_plan(f, STORE_GET, 0, (struct plan){.answer = ERR_NOT_FOUND});
    fixture_run(f, calls_run, all);
    expect(all, 0, 2, OK);
    calls_end(all);
}

/* Three seconds of a store that does nothing: one line when it begins, one when it ends, the gauge in between, waits
 * that grow. */
static void failing_check(void *arg) {
    struct fixture *f = arg;
    fiber_sleep_ns(1000 * NS_PER_MS);
    assert_int_equal(f->metrics.gauges[M_STORE_FAILING], 1);
}

static struct plan nothing_for_a_while(struct fixture *f, enum store_op op, const char *key) {
    (void)op;
    (void)key;
    bool out = f->now_ns < 3000 * NS_PER_MS;
    return (struct plan){.delay_ms = 1, .effect = out ? NOT_DONE : DONE, .answer = out ? ERR_UNAVAILABLE : OK};
}

static void test_store_away(void **state) {
    (void)state;
    struct fixture *f = fixture_create(3);
    struct calls *all = calls_create(f, 16, 40);
    f->improvise = nothing_for_a_while;
    fixture_spawn(f, failing_check, f);
    fixture_run(f, calls_run, all);
    expect(all, 0, 40, OK);
    assert_int_equal(fixture_log_count(f, "object store refuses writes"), 1);
    assert_int_equal(fixture_log_count(f, "object store takes writes again"), 1);
    assert_true(f->requests[STORE_CREATE] < 40 + 16 * 30);
    calls_end(all);
}

/* Another's entry at number 3: what is below is answered, what is above is lost, whether it lies there or not. */
static void test_fenced(void **state) {
    (void)state;
    for (unsigned kind = OBJLOG_DATA; kind <= OBJLOG_FENCE; kind += 2) {
        struct fixture *f = fixture_create(kind);
        fixture_entry(f, (enum objlog_kind)kind, 3, 0, "other", NULL);
        struct calls *all = calls_create(f, 8, 20);
        fixture_plan(f, STORE_CREATE, 1, (struct plan){.delay_ms = 500}); /* still under way when 3 is found */
        fixture_plan(f, STORE_CREATE, 5, (struct plan){.delay_ms = 800});
        fixture_run(f, calls_run, all);
        expect(all, 0, 3, OK);
        expect(all, 3, 20, ERR_FENCED);
        assert_true(objlog_fenced(all->log));
        assert_int_equal(objlog_durable(all->log), 3);
        assert_int_equal(all->calls[3].number, 3);
        assert_null(fixture_object(f, 9)); /* 9 and on were waiting for the window and were never sent */
        assert_int_equal(fixture_log_count(f, "object log lost"), 1);
        fixture_run(f, call_run, &all->calls[0]); /* for ever */
        assert_int_equal(all->calls[0].result, ERR_FENCED);
        calls_end(all);
    }
}

/* Whatever is at the number and is not byte for byte mine is another's: damage included. */
static void test_fenced_by_damage(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fixture *f = fixture_create(1);
        struct calls *all = calls_create(f, 1, 2);
        char key[64];
        objlog_key(key, sizeof(key), PREFIX, 1);
        fixture_object_set(f, key, "OXLG damaged", i == 0 ? 12 : 0);
        fixture_run(f, calls_run, all);
        expect(all, 0, 1, OK);
        expect(all, 1, 2, ERR_FENCED);
        calls_end(all);
    }
}

/* A hole whose writer is repeating, and a fence behind it: both are lost only from the lower one on. */
static void test_two_fences(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct calls *all = calls_create(f, 8, 8);
    fixture_entry(f, OBJLOG_FENCE, 6, 0, "", NULL);
    fixture_entry(f, OBJLOG_FENCE, 2, 0, "", NULL);
    fixture_plan(f, STORE_CREATE, 2, (struct plan){.delay_ms = 50, .effect = NOT_DONE, .answer = ERR_TIMEOUT});
    fixture_plan(f, STORE_CREATE, 4, (struct plan){.delay_ms = 50, .effect = NOT_DONE, .answer = ERR_TIMEOUT});
    fixture_run(f, calls_run, all);
    expect(all, 0, 2, OK);
    expect(all, 2, 8, ERR_FENCED);
    calls_end(all);
}

static void stop_soon(void *arg) {
    struct objlog *l = arg;
    fiber_sleep_ns(100 * NS_PER_MS);
    objlog_stop(l);
}

static struct plan never_from_two(struct fixture *f, enum store_op op, const char *key) {
    (void)f;
    (void)op;
    bool out = key[strlen(key) - 1] >= '2';
    return (struct plan){.delay_ms = 1, .effect = out ? NOT_DONE : DONE, .answer = out ? ERR_UNAVAILABLE : OK};
}

static void test_stop(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct calls *all = calls_create(f, 4, 10);
    f->improvise = never_from_two;
    fixture_spawn(f, stop_soon, all->log);
    fixture_run(f, calls_run, all);
    expect(all, 0, 2, OK);
    expect(all, 2, 10, ERR_CANCELLED);
    for (unsigned i = 2; i < 10; i++) assert_true(all->calls[i].answered_ns < 150 * NS_PER_MS);
    fixture_run(f, call_run, &all->calls[0]);
    assert_int_equal(all->calls[0].result, ERR_CANCELLED);
    calls_end(all);
}

/* When it is stopped, 1 has been done and waits for 0; 0 and 2 are done later. Nobody waits for who has gone. */
static void test_stop_in_the_middle(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct calls *all = calls_create(f, 4, 4);
    fixture_plan(f, STORE_CREATE, 0, (struct plan){.delay_ms = 200});
    fixture_plan(f, STORE_CREATE, 1, (struct plan){.delay_ms = 1});
    fixture_plan(f, STORE_CREATE, 2, (struct plan){.delay_ms = 300});
    fixture_plan(f, STORE_CREATE, 3, (struct plan){.delay_ms = 150});
    fixture_spawn(f, stop_soon, all->log);
    fixture_run(f, calls_run, all);
    expect(all, 0, 4, ERR_CANCELLED);
    assert_int_equal(objlog_durable(all->log), 0);
    calls_end(all);
}

/* A checkpoint is the boundary of what is sent after it is durable, and of nothing sent before; deleting waits for an
 * entry that carries it. */
static void test_boundary(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct calls *all = calls_create(f, 8, 8);
    all->calls[3].kind = OBJLOG_CHECKPOINT;
    for (unsigned i = 4; i < 8; i++) all->calls[i].start_ms = i < 6 ? 20 : 500;
    fixture_plan(f, STORE_CREATE, 1, (struct plan){.delay_ms = 100}); /* 3 is there at once, in the prefix only then */
    fixture_plan(f, STORE_CREATE, 6, (struct plan){.delay_ms = 300});
    fixture_run(f, calls_run, all);
    expect(all, 0, 8, OK);
    for (unsigned i = 0; i < 6; i++) assert_int_equal(fixture_header(f, i).boundary, 0);
    assert_int_equal(fixture_header(f, 6).boundary, 3);
    assert_int_equal(fixture_header(f, 7).boundary, 3);
    assert_int_equal(objlog_boundary(all->log), 3);
    assert_int_equal(objlog_deletable_below(all->log), 3);
    calls_end(all);
}

static void boundary_watch(struct fixture *f, enum store_op op, uint64_t number) {
    struct calls *all = f->watch_ctx;
    if (op != STORE_CREATE || !all) return;
    /* While nothing that carries it is in the prefix, nothing may be deleted. */
    if (number <= 5) assert_int_equal(objlog_deletable_below(all->log), 0);
}

static void test_deletable_waits(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct calls *all = calls_create(f, 2, 8);
    all->calls[2].kind = all->calls[5].kind = OBJLOG_CHECKPOINT;
    f->watch = boundary_watch;
    f->watch_ctx = all;
    /* Depth 2: number 4 is sent when 2 is durable, so 4 carries 2; it is in the prefix when 6 is sent. */
    fixture_run(f, calls_run, all);
    expect(all, 0, 8, OK);
    assert_int_equal(fixture_header(f, 4).boundary, 2);
    assert_int_equal(fixture_header(f, 5).boundary, 2);
    assert_int_equal(fixture_header(f, 7).boundary, 5);
    assert_int_equal(objlog_boundary(all->log), 5);
    assert_int_equal(objlog_deletable_below(all->log), 5);
    calls_end(all);
}

/* Bodies in more pieces than fit on the stack are passed on as they are. */
struct many {
    struct fixture *fixture;
    struct objlog *log;
};
static void append_many(void *arg) {
    struct many *m = arg;
    struct slice body[40];
    for (unsigned i = 0; i < 40; i++) body[i] = slice_borrow("0123456789" + i % 10, 1);
    uint64_t number;
    assert_int_equal(objlog_append(m->log, OBJLOG_DATA, NULL, body, 40, 0x1234, &number), OK);
    const struct object *o = fixture_object(m->fixture, number);
    assert_int_equal(o->size, OBJLOG_HEADER_SIZE + 40);
    assert_memory_equal(o->data + OBJLOG_HEADER_SIZE, "0123456789012345678901234567890123456789", 40);
    assert_int_equal(fixture_header(m->fixture, number).body_crc, 0x1234);
}
static void test_many_pieces(void **state) {
    (void)state;
    struct fixture *f = fixture_create(1);
    struct many m = {f, fixture_log(f, 4, 1)};
    fixture_run(f, append_many, &m);
    objlog_destroy(m.log);
    fixture_destroy(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_prefix_holds_back),
        cmocka_unit_test(test_unclear_outcomes),
        cmocka_unit_test(test_exists_then_unreadable),
        cmocka_unit_test(test_store_away),
        cmocka_unit_test(test_fenced),
        cmocka_unit_test(test_fenced_by_damage),
        cmocka_unit_test(test_two_fences),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_in_the_middle),
        cmocka_unit_test(test_boundary),
        cmocka_unit_test(test_deletable_waits),
        cmocka_unit_test(test_many_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
