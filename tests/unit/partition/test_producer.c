/* Idempotent producers: the five remembered batches, repetitions, epochs, wraps, restarts, expiry. */
#include "unit/partition/fixture.h"

static int setup(void **state) {
    static struct fixture f;
    fixture_init(&f);
    *state = &f;
    return 0;
}
static int teardown(void **state) {
    fixture_deinit(*state);
    return 0;
}

static void test_in_sequence(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .producer_id = 7, .sequence = 0, .count = 3);
    assert_append(f, OK, 3, .producer_id = 7, .sequence = 3, .count = 2);
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 7, .sequence = 6);
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 7, .sequence = 4);
    /* Begins like a known batch and ends elsewhere: no repetition. */
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 7, .sequence = 3, .count = 1);
    assert_append(f, OK, 5, .producer_id = 7, .sequence = 5);
    /* Others are not concerned; nothing is known of them, so any sequence will do. */
    assert_append(f, OK, 6, .producer_id = 8, .sequence = 1000);
    assert_append(f, OK, 7, .producer_id = 8, .sequence = 1001);
    assert_append(f, OK, 8, .count = 1);
}

static void test_repetitions(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 8; i++) assert_append(f, OK, 2 * i, .producer_id = 7, .sequence = 2 * i, .count = 2);
    /* The last five are remembered, in any order. */
    for (int i = 7; i >= 3; i--) {
        struct job *j = fixture_append(f, &(struct batch_spec){.producer_id = 7, .sequence = 2 * i, .count = 2});
        assert_int_equal(j->result, OK);
        assert_int_equal(j->append.base_offset, 2 * i);
        assert_int_equal(j->append.end_offset, 2 * i + 2);
    }
    /* Older ones no longer: whether they were ever written cannot be proved. */
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 7, .sequence = 4, .count = 2);
    assert_int_equal(f->streams.count, 8);
    assert_append(f, OK, 16, .producer_id = 7, .sequence = 16, .count = 2);
    assert_int_equal(partition_counters(f->p)->batches_in, 9);
}

static void test_repetition_in_flight_waits(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .producer_id = 7, .sequence = 0, .count = 4);
    assert_append(f, OK, 4, .producer_id = 7, .sequence = 4, .count = 4);
    struct job *again = fixture_append(f, &(struct batch_spec){.producer_id = 7, .sequence = 0, .count = 4});
    assert_int_equal(again->result, OK);
    assert_int_equal(again->append.end_offset, 4);
    struct job *w = fixture_wait(f, again->append.end_offset);
    assert_false(w->done);
    fake_durable(&f->streams, 1);
    fixture_settle(f);
    assert_true(w->done);
    assert_int_equal(w->result, OK);
    /* And where the original is lost, so is its repetition. */
    again = fixture_append(f, &(struct batch_spec){.producer_id = 7, .sequence = 4, .count = 4});
    assert_int_equal(again->append.base_offset, 4);
    w = fixture_wait(f, again->append.end_offset);
    fixture_restart(f);
    assert_int_equal(partition_high_watermark(f->p), 4);
    assert_append(f, OK, 0, .producer_id = 7, .sequence = 0, .count = 4);
    assert_append(f, OK, 4, .producer_id = 7, .sequence = 4, .count = 4);
    assert_int_equal(f->streams.count, 2);
}

/* Two that come at once while the first waits for room or for a worker. */
static void test_repetition_that_overtakes(void **state) {
    struct fixture *f = *state;
    fake_give_room(&f->streams, 0);
    struct job *first = fixture_append(f, &(struct batch_spec){.producer_id = 7, .count = 2});
    struct job *again = fixture_append(f, &(struct batch_spec){.producer_id = 7, .count = 2});
    struct job *next = fixture_append(f, &(struct batch_spec){.producer_id = 7, .sequence = 2});
    assert_false(first->done || again->done || next->done);
    fake_give_room(&f->streams, SIZE_MAX);
    fixture_settle(f);
    assert_int_equal(first->result, OK);
    assert_int_equal(again->result, OK);
    assert_int_equal(again->append.base_offset, 0);
    assert_int_equal(next->append.base_offset, 2);
    assert_int_equal(f->streams.count, 2);
}

static void test_wrap(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .producer_id = 7, .sequence = INT32_MAX - 3, .count = 2); /* ends at MAX - 2 */
    assert_append(f, OK, 2, .producer_id = 7, .sequence = INT32_MAX - 1, .count = 4); /* MAX-1, MAX, 0, 1 */
    assert_append(f, OK, 2, .producer_id = 7, .sequence = INT32_MAX - 1, .count = 4); /* again */
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 7, .sequence = 3);
    assert_append(f, OK, 6, .producer_id = 7, .sequence = 2);
    assert_append(f, OK, 7, .producer_id = 8, .sequence = INT32_MAX);
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 8, .sequence = 1);
    assert_append(f, OK, 8, .producer_id = 8, .sequence = 0);
    fixture_close(f);
    fixture_open(f);
    assert_append(f, OK, 2, .producer_id = 7, .sequence = INT32_MAX - 1, .count = 4);
    assert_append(f, OK, 9, .producer_id = 8, .sequence = 1);
}

static void test_epochs(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .producer_id = 7, .epoch = 4, .sequence = 9);
    assert_append(f, ERR_INVALID_PRODUCER_EPOCH, 0, .producer_id = 7, .epoch = 3, .sequence = 10);
    assert_append(f, ERR_INVALID_PRODUCER_EPOCH, 0, .producer_id = 7, .epoch = 3, .sequence = 0);
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 7, .epoch = 5, .sequence = 10);
    assert_append(f, OK, 1, .producer_id = 7, .epoch = 5, .sequence = 0);
    /* A repetition belongs to its epoch. */
    assert_append(f, ERR_INVALID_PRODUCER_EPOCH, 0, .producer_id = 7, .epoch = 4, .sequence = 9);
    assert_append(f, OK, 1, .producer_id = 7, .epoch = 5, .sequence = 0);
    assert_append(f, OK, 2, .producer_id = 7, .epoch = 5, .sequence = 1);
}

static void test_restart_remembers(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 7; i++) assert_append(f, OK, i, .producer_id = 7, .epoch = 2, .sequence = i);
    fixture_close(f);
    f->leader_epoch++;
    fixture_open(f);
    assert_int_equal(partition_high_watermark(f->p), 7);
    for (int i = 2; i < 7; i++) assert_append(f, OK, i, .producer_id = 7, .epoch = 2, .sequence = i);
    assert_append(f, ERR_OUT_OF_ORDER_SEQUENCE, 0, .producer_id = 7, .epoch = 2, .sequence = 1);
    assert_append(f, ERR_INVALID_PRODUCER_EPOCH, 0, .producer_id = 7, .epoch = 1, .sequence = 7);
    assert_append(f, OK, 7, .producer_id = 7, .epoch = 2, .sequence = 7);
}

static void test_log_append_time_of_a_repetition(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "message.timestamp.type", "LogAppendTime");
    struct job *first = fixture_append(f, &(struct batch_spec){.producer_id = 7, .count = 2});
    f->wall_ms += 1000;
    struct job *again = fixture_append(f, &(struct batch_spec){.producer_id = 7, .count = 2});
    assert_int_equal(again->result, OK);
    assert_int_equal(again->append.base_offset, 0);
    assert_int_equal(first->append.log_append_time_ms, NOW_MS);
    assert_int_equal(again->append.log_append_time_ms, NOW_MS);
}

static bool forgotten(struct fixture *f, int64_t producer_id) {
    /* A producer that is known does not take this sequence. */
    return fixture_append(f, &(struct batch_spec){.producer_id = producer_id, .sequence = 500})->result == OK;
}

/* On all clocks. */
static void pass(struct fixture *f, int64_t ms) {
    f->wall_ms += ms;
    f->now_ns += (uint64_t)ms * NS_PER_MS;
}

/* A wall clock that jumps says nothing about how long a producer was silent; nor does the one of another machine. */
static void test_expiry_after_a_jump(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .producer_id = 7);
    pass(f, 1000);
    f->wall_ms += 3 * DAY_MS;
    fixture_retain(f);
    assert_false(forgotten(f, 7));
    pass(f, 3600000);
    fixture_retain(f);
    assert_false(forgotten(f, 7));
    fixture_close(f);
    fixture_open(f);
    fixture_retain(f);
    assert_false(forgotten(f, 7));
    f->wall_ms -= 3 * DAY_MS;
    pass(f, 3600000);
    fixture_retain(f);
    assert_false(forgotten(f, 7));
    pass(f, DAY_MS);
    fixture_retain(f);
    pass(f, DAY_MS);
    fixture_retain(f);
    assert_true(forgotten(f, 7));
}

static void test_expiry(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .producer_id = 7);
    /* One that writes records of long ago is at work nevertheless. */
    assert_append(f, OK, 1, .producer_id = 8, .timestamp = NOW_MS - 50 * DAY_MS);
    pass(f, 3600000);
    fixture_retain(f);
    assert_false(forgotten(f, 7));
    assert_false(forgotten(f, 8));
    pass(f, DAY_MS);
    fixture_retain(f);
    assert_false(forgotten(f, 7));
    assert_false(forgotten(f, 8));
    pass(f, DAY_MS);
    assert_append(f, OK, 2, .producer_id = 9, .timestamp = f->wall_ms);
    fixture_retain(f);
    assert_true(forgotten(f, 7));
    assert_true(forgotten(f, 8));
    assert_false(forgotten(f, 9));
    /* After a restart the timestamps alone count: how long it was silent is not known. */
    fixture_close(f);
    fixture_open(f);
    fixture_retain(f);
    assert_false(forgotten(f, 9));
    pass(f, 2 * DAY_MS);
    fixture_retain(f);
    assert_true(forgotten(f, 9));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_sequence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repetitions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repetition_in_flight_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repetition_that_overtakes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_epochs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_remembers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_append_time_of_a_repetition, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expiry_after_a_jump, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
