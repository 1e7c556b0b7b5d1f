/* Segments and what becomes of them: rolls, retention by time and size, the log start offset. */
#include "unit/partition/fixture.h"

#include <stdio.h>

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

/* Whether the i-th record of the stream begins a segment. */
static bool rolled(struct fixture *f, size_t i) {
    assert_true(i < f->streams.count);
    return (f->streams.records[i].record.flags & STREAM_RECORD_ROLLS) != 0;
}
static bool last_rolled(struct fixture *f) {
    return rolled(f, f->streams.count - 1);
}

static void test_roll_by_size(void **state) {
    struct fixture *f = *state;
    size_t size;
    mem_free(&f->mem, fixture_batch(f, &(struct batch_spec){.count = 1}, &size));
    char text[32];
    (void)snprintf(text, sizeof(text), "%zu", 3 * size);
    fixture_set(f, "segment.bytes", text);
    for (int i = 0; i < 10; i++) {
        assert_append(f, OK, i, .count = 1);
        assert_int_equal(last_rolled(f), i > 0 && i % 3 == 0);
        if (i == 4) {
            fixture_close(f);
            fixture_open(f);
        }
    }
}

static void test_roll_by_time(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "segment.ms", "1000");
    assert_append(f, OK, 0, .timestamp = NOW_MS);
    assert_append(f, OK, 1, .timestamp = NOW_MS + 1000);
    assert_false(last_rolled(f));
    assert_append(f, OK, 2, .timestamp = NOW_MS + 1001);
    assert_true(last_rolled(f));
    f->wall_ms += 10 * DAY_MS; /* the records' time counts */
    assert_append(f, OK, 3, .timestamp = NOW_MS + 1001);
    assert_false(last_rolled(f));
    assert_append(f, OK, 4, .timestamp = NOW_MS - DAY_MS);
    assert_false(last_rolled(f));
}

static void test_roll_by_wall_time_without_timestamps(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "segment.ms", "1000");
    assert_append(f, OK, 0, .timestamp = -1);
    f->wall_ms += 1000;
    assert_append(f, OK, 1, .timestamp = -1);
    assert_false(last_rolled(f));
    f->wall_ms += 1;
    assert_append(f, OK, 2, .timestamp = -1);
    assert_true(last_rolled(f));
    assert_append(f, OK, 3, .timestamp = -1);
    assert_false(last_rolled(f));
}

static void test_roll_jitter(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "segment.ms", "1000");
    fixture_set(f, "segment.jitter.ms", "500");
    int64_t t = NOW_MS, first = t, least = INT64_MAX, most = 0;
    unsigned rolls = 0;
    for (int i = 0; i < 200; i++, t += 100) {
        assert_append(f, OK, i, .timestamp = t);
        if (!last_rolled(f)) continue;
        rolls++;
        if (t - first < least) least = t - first;
        if (t - first > most) most = t - first;
        first = t;
        f->wall_ms = t;
    }
    assert_true(rolls >= 10);
    assert_true(least > 500 && most <= 1100);
    assert_true(least < most); /* not all the same */
}

/* Offsets of a segment must fit 32 bits from its base. */
static void test_roll_by_offset_range(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 1);
    fake_durable(&f->streams, 1);
    fixture_close(f);
    /* As if compaction had left a batch with a gap of that size. */
    struct stream_record *r = &f->streams.records[0].record;
    uint8_t *b = (uint8_t *)(uintptr_t)r->payload;
    be32_put(b + 23, INT32_MAX - 1);
    fixture_reseal(b, r->payload_size);
    r->end_offset = INT32_MAX;
    fixture_open(f);
    assert_append(f, OK, INT32_MAX, .count = 1);
    assert_false(last_rolled(f));
    assert_append(f, OK, (int64_t)INT32_MAX + 1, .count = 1);
    assert_true(last_rolled(f));
}

/* Ten segments of one record each, a day apart, the newest from now. */
static void ten_days(struct fixture *f) {
    fixture_set(f, "segment.ms", "1000");
    for (int i = 0; i < 10; i++) assert_append(f, OK, i, .timestamp = NOW_MS - (9 - i) * DAY_MS);
    fake_durable(&f->streams, SIZE_MAX);
}

static void test_retention_by_time(void **state) {
    struct fixture *f = *state;
    ten_days(f);
    fixture_retain(f);
    /* Nine and eight days are over seven; seven days exactly is not. */
    assert_int_equal(f->streams.count, 11);
    assert_int_equal(partition_log_start_offset(f->p), 0); /* not before it is durable */
    assert_offset(f, -2, 0, -1);
    fixture_retain(f);
    assert_int_equal(f->streams.count, 11); /* once is enough */
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 2);
    assert_offset(f, -2, 2, -1);
    assert_offset(f, 0, 2, NOW_MS - 7 * DAY_MS);
    struct slices out;
    slices_init(&out, &f->mem);
    struct partition_fetch fetch = {.offset = 1, .current_leader_epoch = -1, .last_fetched_epoch = -1, .max_bytes = 1};
    struct job *j = fixture_read(f, &fetch, &out);
    assert_int_equal(j->result, ERR_OFFSET_OUT_OF_RANGE);
    assert_int_equal(j->fetched.log_start_offset, 2);
    slices_deinit(&out);
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(partition_log_start_offset(f->p), 2);
    fixture_set(f, "retention.ms", "-1");
    f->wall_ms += 100 * DAY_MS;
    fixture_retain(f);
    assert_int_equal(f->streams.count, 11);
}

/* An old segment behind a younger one stays: only the front goes. */
static void test_retention_stops_at_a_young_segment(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "segment.bytes", "100");
    static const int64_t ages[] = {9, 8, 1, 9, 0};
    for (int i = 0; i < 5; i++) assert_append(f, OK, i, .timestamp = NOW_MS - ages[i] * DAY_MS);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 2);
}

static void test_active_segment_expires(void **state) {
    struct fixture *f = *state;
    ten_days(f);
    f->wall_ms += 8 * DAY_MS;
    /* One more in flight: the active segment reaches beyond the high watermark and stays. */
    assert_append(f, OK, 10, .timestamp = NOW_MS);
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 9);
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 11);
    assert_int_equal(partition_high_watermark(f->p), 11);
    assert_int_equal(partition_size_bytes(f->p), 0);
    assert_offset(f, -1, 11, -1);
    assert_offset(f, -2, 11, -1);
    assert_offset(f, -3, -1, -1);
    size_t count = f->streams.count;
    fixture_retain(f);
    assert_int_equal(f->streams.count, count);
    /* The next batch begins a segment of its own. */
    assert_append(f, OK, 11, .timestamp = NOW_MS);
    assert_true(last_rolled(f));
    assert_append(f, OK, 12, .timestamp = NOW_MS);
    assert_false(last_rolled(f));
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_size_bytes(f->p), 2 * f->streams.records[0].record.payload_size);
}

static void test_retention_by_size(void **state) {
    struct fixture *f = *state;
    size_t size;
    mem_free(&f->mem, fixture_batch(f, &(struct batch_spec){.count = 1}, &size));
    fixture_set(f, "segment.bytes", "200");
    assert_true(size > 70 && size <= 100);
    for (int i = 0; i < 10; i++) assert_append(f, OK, i, .count = 1); /* five segments of two */
    fake_durable(&f->streams, 6);
    char text[32];
    (void)snprintf(text, sizeof(text), "%zu", 4 * size + 1);
    fixture_set(f, "retention.bytes", text);
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 4); /* at least that much stays */
    (void)snprintf(text, sizeof(text), "%zu", 4 * size);
    fixture_set(f, "retention.bytes", text);
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 6);
    fixture_set(f, "retention.bytes", "0");
    fixture_set(f, "cleanup.policy", "compact");
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 6); /* compacted topics keep everything */
    fixture_set(f, "cleanup.policy", "compact,delete");
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 10);
}

static void test_only_durable_segments_go(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "segment.bytes", "100");
    for (int i = 0; i < 6; i++) assert_append(f, OK, i, .count = 1);
    fake_durable(&f->streams, 2);
    fixture_set(f, "retention.bytes", "0");
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 2);
}

/* Without timestamps the age is counted from the last append. */
static void test_retention_without_timestamps(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "segment.bytes", "100");
    for (int i = 0; i < 3; i++) assert_append(f, OK, i, .timestamp = -1);
    fake_durable(&f->streams, SIZE_MAX);
    f->wall_ms += 7 * DAY_MS;
    fixture_retain(f);
    assert_int_equal(f->streams.count, 3);
    f->wall_ms += 1;
    fixture_retain(f);
    fake_durable(&f->streams, SIZE_MAX);
    assert_int_equal(partition_log_start_offset(f->p), 3);
}

/* A lookup by time never answers with an offset that is gone, even where the log begins in the middle of a batch. */
static void test_lookup_behind_the_log_start(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .timestamp = 1000, .timestamp_step = -10, .count = 5); /* 1000..960 */
    assert_append(f, OK, 5, .timestamp = 980);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_close(f);
    struct stream_record trim = {.type = STREAM_TRIM, .base_offset = 3, .end_offset = 3};
    f->streams.records =
        mem_grow(&f->mem, f->streams.records, f->streams.count, &f->streams.capacity, sizeof(*f->streams.records));
    f->streams.records[f->streams.count++] = (struct fake_record){trim, 3};
    f->streams.durable_count++;
    fixture_open(f);
    assert_offset(f, -2, 3, -1);
    assert_offset(f, 965, 3, 970);
    assert_offset(f, 975, 5, 980);
    assert_offset(f, 990, -1, -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_roll_by_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_roll_by_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_roll_by_wall_time_without_timestamps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_roll_jitter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_roll_by_offset_range, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention_by_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention_stops_at_a_young_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_active_segment_expires, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention_by_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_durable_segments_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retention_without_timestamps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lookup_behind_the_log_start, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
