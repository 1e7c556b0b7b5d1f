/* What administrators ask of a partition: deleting records, the ends of leader epochs, producers. */
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

struct deletion {
    struct fixture *f;
    int64_t offset, low_watermark;
    bool done;
    enum err result;
};

static void delete_fiber(void *arg) {
    struct deletion *d = arg;
    d->result = partition_delete_records(d->f->p, d->offset, &d->low_watermark);
    d->done = true;
}

static void delete_start(struct deletion *d, struct fixture *f, int64_t offset) {
    *d = (struct deletion){.f = f, .offset = offset};
    fiber_spawn(&f->loop, "delete", delete_fiber, d);
    fixture_settle(f);
}

static void check_delete(struct fixture *f, int64_t offset, enum err expected, int64_t low_watermark) {
    struct deletion d;
    delete_start(&d, f, offset);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_settle(f);
    assert_true(d.done);
    assert_int_equal(d.result, expected);
    assert_int_equal(d.low_watermark, low_watermark);
}

static void test_delete_records(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 4; i++) assert_append(f, OK, 3 * i, .count = 3);
    fake_durable(&f->streams, 3);
    check_delete(f, -2, ERR_OFFSET_OUT_OF_RANGE, -1);
    assert_int_equal(f->streams.count, 4); /* nothing was written for it */
    assert_append(f, OK, 12, .count = 3);
    struct deletion d, again;
    delete_start(&d, f, 5); /* in the middle of a batch */
    assert_false(d.done);
    assert_int_equal(f->streams.count, 6);
    assert_int_equal(partition_log_start_offset(f->p), 0); /* not before it is durable */
    delete_start(&again, f, 5);                            /* a repetition waits, and writes nothing */
    assert_false(again.done);
    assert_int_equal(f->streams.count, 6);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_settle(f);
    assert_true(d.done && d.result == OK && d.low_watermark == 5);
    assert_true(again.done && again.result == OK && again.low_watermark == 5);
    check_delete(f, 5, OK, 5);
    check_delete(f, 2, OK, 5); /* below the start: nothing to do */
    check_delete(f, 0, OK, 5);
    assert_int_equal(f->streams.count, 6);
    check_delete(f, 16, ERR_OFFSET_OUT_OF_RANGE, -1);
    assert_offset(f, -2, 5, -1);
    fixture_restart(f);
    assert_offset(f, -2, 5, -1);
    check_delete(f, -1, OK, 15);
    assert_offset(f, -2, 15, -1);
    assert_int_equal(partition_size_bytes(f->p), 0);
    assert_append(f, OK, 15, .count = 1); /* the trim took no offset */
    fake_durable(&f->streams, SIZE_MAX);
    assert_offset(f, -1, 16, -1);
}

/* What a deletion takes away is shown until it is durable: its times count as well. */
static void test_largest_time_beside_a_deletion(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "segment.bytes", "100");
    static const int64_t times[] = {1000, 2000, 3000, 1500};
    for (int i = 0; i < 4; i++) assert_append(f, OK, i, .timestamp = times[i]);
    fake_durable(&f->streams, SIZE_MAX);
    struct deletion some, all;
    delete_start(&some, f, 3);
    assert_offset(f, -3, 2, 3000);
    delete_start(&all, f, -1);
    assert_offset(f, -3, 2, 3000);
    fake_durable(&f->streams, 1);
    fixture_settle(f);
    assert_offset(f, -3, 3, 1500);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_settle(f);
    assert_true(some.done && all.done);
    assert_offset(f, -3, -1, -1);
}

static void test_delete_only_what_is_durable(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 3);
    fake_durable(&f->streams, 1);
    assert_append(f, OK, 3, .count = 3);
    struct deletion d;
    delete_start(&d, f, 4);
    assert_true(d.done && d.result == ERR_OFFSET_OUT_OF_RANGE);
    delete_start(&d, f, -1); /* of what may be shown */
    assert_false(d.done);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_settle(f);
    assert_true(d.done && d.result == OK && d.low_watermark == 3);
}

static void test_delete_policy(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 3);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_set(f, "cleanup.policy", "compact");
    check_delete(f, 1, ERR_POLICY_VIOLATION, -1);
    fixture_set(f, "cleanup.policy", "compact,delete");
    check_delete(f, 1, OK, 1);
}

static void test_delete_of_unknown_outcome(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 3);
    fake_durable(&f->streams, SIZE_MAX);
    struct deletion d;
    delete_start(&d, f, 2);
    assert_false(d.done);
    fake_fence(&f->streams);
    fixture_settle(f);
    assert_true(d.done && d.result == ERR_UNKNOWN_OUTCOME && d.low_watermark == -1);
}

static void check_epoch(struct fixture *f, int32_t current, int32_t asked, enum err expected, int32_t epoch,
                        int64_t end) {
    int32_t found_epoch;
    int64_t found_end;
    assert_int_equal(partition_epoch_end(f->p, current, asked, &found_epoch, &found_end), expected);
    assert_int_equal(found_epoch, epoch);
    assert_int_equal(found_end, end);
}

static void test_epoch_end(void **state) {
    struct fixture *f = *state;
    int32_t first = f->leader_epoch;
    check_epoch(f, -1, first, OK, first, 0);
    assert_append(f, OK, 0, .count = 3);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_restart(f);
    int32_t second = f->leader_epoch;
    assert_true(second > first);
    check_epoch(f, -1, first, OK, first, 3);
    check_epoch(f, -1, second, OK, second, 3); /* no record of it yet */
    assert_append(f, OK, 3, .count = 2);
    check_epoch(f, second, second, OK, second, 3); /* nor a durable one */
    fake_durable(&f->streams, SIZE_MAX);
    check_epoch(f, second, second, OK, second, 5);
    check_epoch(f, second, first, OK, first, 3);
    check_epoch(f, second, second + 1, OK, -1, -1);
    check_epoch(f, second, -1, OK, -1, -1);
    check_epoch(f, first, first, ERR_FENCED_LEADER_EPOCH, -1, -1);
    check_epoch(f, second + 1, first, ERR_UNKNOWN_LEADER_EPOCH, -1, -1);
    check_delete(f, 4, OK, 4); /* all of the first epoch has gone: as Kafka, where what is left begins */
    check_epoch(f, -1, first, OK, first, 4);
    check_epoch(f, -1, second, OK, second, 5);
}

static void test_producers(void **state) {
    struct fixture *f = *state;
    struct partition_producer *found;
    assert_int_equal(partition_producers(f->p, &f->mem, &found), 0);
    mem_free(&f->mem, found);
    assert_append(f, OK, 0, .producer_id = 900, .epoch = 2, .sequence = 0, .count = 3, .timestamp = NOW_MS - 5);
    assert_append(f, OK, 3, .producer_id = 7, .sequence = 0, .timestamp = NOW_MS - 4);
    fake_durable(&f->streams, SIZE_MAX);
    assert_append(f, OK, 4, .producer_id = 900, .epoch = 2, .sequence = 3, .count = 2);
    assert_append(f, OK, 6, .producer_id = 8, .sequence = 0);
    assert_int_equal(partition_producers(f->p, &f->mem, &found), 2); /* what is in flight is not shown */
    assert_true(found[0].producer_id == 7 && found[0].epoch == 0 && found[0].last_sequence == 0);
    assert_true(found[1].producer_id == 900 && found[1].epoch == 2 && found[1].last_sequence == 2);
    assert_int_equal(found[1].last_timestamp, NOW_MS - 5);
    mem_free(&f->mem, found);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_producers(f->p, &f->mem, &found), 3);
    assert_true(found[1].producer_id == 8 && found[2].last_sequence == 4 && found[2].last_timestamp == NOW_MS);
    mem_free(&f->mem, found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_delete_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_largest_time_beside_a_deletion, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_only_what_is_durable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_policy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete_of_unknown_outcome, setup, teardown),
        cmocka_unit_test_setup_teardown(test_epoch_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_producers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
