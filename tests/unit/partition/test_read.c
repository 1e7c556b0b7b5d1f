/* Fetch, watches, ListOffsets: nothing is shown before it is durable. */
#include "unit/partition/fixture.h"

#include "base/assert.h"

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

static struct job *read_at(struct fixture *f, uint64_t offset, int32_t current, int32_t last, size_t max_bytes,
                           struct slices *out) {
    struct partition_fetch fetch = {.offset = offset,
                                    .current_leader_epoch = current,
                                    .last_fetched_epoch = last,
                                    .max_bytes = max_bytes,
                                    .whole_first = true};
    return fixture_read(f, &fetch, out);
}

static void test_only_durable_is_read(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 4; i++) assert_append(f, OK, 2 * i, .count = 2);
    fake_durable(&f->streams, 2);
    struct slices out;
    slices_init(&out, &f->mem);
    struct job *j = read_at(f, 0, -1, -1, 1 << 20, &out);
    assert_int_equal(j->result, OK);
    assert_int_equal(out.count, 2);
    assert_int_equal(j->fetched.high_watermark, 4);
    assert_int_equal(j->fetched.last_stable_offset, 4);
    assert_int_equal(j->fetched.log_start_offset, 0);
    assert_int_equal(j->fetched.diverging_epoch, -1);
    assert_int_equal(partition_counters(f->p)->bytes_out, out.size_bytes);
    assert_false(j->fetched.old);
    slices_clear(&out);
    f->streams.fresh_from = 1;
    assert_true(read_at(f, 0, -1, -1, 1 << 20, &out)->fetched.old);
    slices_clear(&out);
    /* From the middle of a batch: the whole batch. */
    assert_int_equal(read_at(f, 3, 3, -1, 1, &out)->result, OK);
    assert_int_equal(out.count, 1);
    slices_clear(&out);
    /* Appended but not durable: empty, not out of range. */
    for (uint64_t offset = 4; offset <= 8; offset++)
        assert_int_equal(read_at(f, offset, -1, -1, 100, &out)->result, OK);
    assert_int_equal(out.count, 0);
    j = read_at(f, 9, -1, -1, 100, &out);
    assert_int_equal(j->result, ERR_OFFSET_OUT_OF_RANGE);
    assert_int_equal(j->fetched.high_watermark, 4);
    struct partition_fetch cached = {
        .offset = 0, .current_leader_epoch = -1, .last_fetched_epoch = -1, .max_bytes = 100, .cached_only = true};
    assert_int_equal(fixture_read(f, &cached, &out)->result, ERR_BUSY);
    slices_deinit(&out);
}

struct meanwhile {
    struct fixture *f;
    bool done;
};

static void delete_main(void *arg) {
    struct meanwhile *m = arg;
    int64_t low;
    assert_int_equal(partition_delete_records(m->f->p, 15, &low), OK);
    m->done = true;
}

static void come_and_go(void *ctx) {
    struct meanwhile *m = ctx;
    fake_durable(&m->f->streams, SIZE_MAX);
    fiber_spawn(&m->f->loop, "delete", delete_main, m);
    while (!m->done) {
        fiber_yield();
        fake_durable(&m->f->streams, SIZE_MAX);
    }
}

/* Records come, and are deleted beyond what the read began with, while it waits: no log begins behind its end. */
static void test_ends_are_those_after_the_wait(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 10);
    fake_durable(&f->streams, 1);
    assert_append(f, OK, 10, .count = 10);
    struct meanwhile m = {.f = f};
    f->streams.reading = come_and_go;
    f->streams.reading_ctx = &m;
    struct slices out;
    slices_init(&out, &f->mem);
    struct job *j = read_at(f, 5, -1, -1, 1 << 20, &out);
    assert_true(j->done && m.done);
    assert_int_equal(j->result, ERR_OFFSET_OUT_OF_RANGE); /* deleted under its hands */
    assert_int_equal(j->fetched.log_start_offset, 15);
    assert_int_equal(j->fetched.high_watermark, 20);
    assert_int_equal(j->fetched.last_stable_offset, 20);
    f->streams.reading = NULL;
    slices_deinit(&out);
}

static void come_and_are_compacted(void *ctx) {
    struct fixture *f = ctx;
    fake_durable(&f->streams, SIZE_MAX);
    f->streams.records[0].record.end_offset = 0;
    f->streams.reading = NULL;
}

/* All below what was the high watermark goes in log compaction while the read waits: it is not told that nothing is there. */
static void test_nothing_left_below_the_end_of_then(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 10);
    fake_durable(&f->streams, 1);
    assert_append(f, OK, 10, .count = 10);
    f->streams.reading = come_and_are_compacted;
    f->streams.reading_ctx = f;
    struct slices out;
    slices_init(&out, &f->mem);
    struct job *j = read_at(f, 0, -1, -1, 1 << 20, &out);
    assert_true(j->done);
    assert_int_equal(j->result, OK);
    assert_int_equal(out.count, 1);
    assert_int_equal(j->fetched.high_watermark, 20);
    slices_deinit(&out);
}

static void test_epoch_fencing(void **state) {
    struct fixture *f = *state;
    struct slices out;
    slices_init(&out, &f->mem);
    assert_int_equal(read_at(f, 0, 2, -1, 1, &out)->result, ERR_FENCED_LEADER_EPOCH);
    assert_int_equal(read_at(f, 0, 4, -1, 1, &out)->result, ERR_UNKNOWN_LEADER_EPOCH);
    assert_int_equal(read_at(f, 0, 3, -1, 1, &out)->result, OK);
    int64_t offset, timestamp;
    int32_t epoch;
    assert_int_equal(partition_list_offset(f->p, -1, 2, &offset, &timestamp, &epoch), ERR_FENCED_LEADER_EPOCH);
    assert_int_equal(partition_list_offset(f->p, -1, 9, &offset, &timestamp, &epoch), ERR_UNKNOWN_LEADER_EPOCH);
    assert_int_equal(partition_list_offset(f->p, -1, 3, &offset, &timestamp, &epoch), OK);
    assert_int_equal(epoch, 3);
    slices_deinit(&out);
}

static void test_diverging_epochs(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 10); /* epoch 3: 0..9 */
    fixture_close(f);
    f->leader_epoch = 5;
    fixture_open(f);
    assert_append(f, OK, 10, .count = 10); /* epoch 5: 10..19 */
    fake_durable(&f->streams, SIZE_MAX);
    fixture_close(f);
    f->leader_epoch = 8;
    fixture_open(f); /* epoch 8: nothing yet */
    struct slices out;
    slices_init(&out, &f->mem);
    struct job *j = read_at(f, 10, -1, 3, 1, &out); /* right at the end of its epoch */
    assert_int_equal(j->fetched.diverging_epoch, -1);
    assert_int_equal(out.count, 1);
    slices_clear(&out);
    j = read_at(f, 12, -1, 3, 1, &out);
    assert_int_equal(j->result, OK);
    assert_int_equal(j->fetched.diverging_epoch, 3);
    assert_int_equal(j->fetched.diverging_end_offset, 10);
    assert_int_equal(out.count, 0);
    j = read_at(f, 12, -1, 4, 1, &out); /* an epoch without records */
    assert_int_equal(j->fetched.diverging_epoch, 3);
    assert_int_equal(j->fetched.diverging_end_offset, 10);
    j = read_at(f, 21, -1, 7, 1, &out);
    assert_int_equal(j->fetched.diverging_epoch, 5);
    assert_int_equal(j->fetched.diverging_end_offset, 20);
    j = read_at(f, 20, -1, 8, 1, &out); /* the present epoch, though it has no record */
    assert_int_equal(j->result, OK);
    assert_int_equal(j->fetched.diverging_epoch, -1);
    assert_int_equal(read_at(f, 20, -1, 9, 1, &out)->result, ERR_OFFSET_OUT_OF_RANGE);
    j = read_at(f, 5, -1, 1, 1, &out); /* older than all that is known */
    assert_int_equal(j->fetched.diverging_epoch, 1);
    assert_int_equal(j->fetched.diverging_end_offset, 0);
    slices_deinit(&out);
}

struct watcher {
    struct partition_watch watch;
    struct partition *again; /* put on again from within */
    struct partition_watch *remove;
    unsigned calls;
};

static void on_ready(struct partition_watch *w) {
    struct watcher *x = (struct watcher *)(void *)w;
    assert_null(fiber_self());
    x->calls++;
    if (x->remove) partition_watch_off(x->remove);
    if (x->again && x->calls == 1) partition_watch_on(x->again, w, partition_high_watermark(x->again));
}

static void test_watches(void **state) {
    struct fixture *f = *state;
    struct watcher a = {.calls = 0}, b = {.calls = 0}, c = {.calls = 0}, d = {.calls = 0};
    partition_watch_init(&a.watch, on_ready);
    partition_watch_init(&b.watch, on_ready);
    partition_watch_init(&c.watch, on_ready);
    partition_watch_init(&d.watch, on_ready);
    partition_watch_off(&a.watch);
    partition_watch_on(f->p, &a.watch, 0);
    partition_watch_on(f->p, &b.watch, 2);
    partition_watch_on(f->p, &c.watch, 0);
    partition_watch_on(f->p, &d.watch, 0);
    a.remove = &c.watch;
    d.again = f->p;
    assert_append(f, OK, 0, .count = 2);
    assert_append(f, OK, 2, .count = 2);
    fixture_settle(f);
    assert_int_equal(a.calls, 0); /* appended is not durable */
    fake_durable(&f->streams, 1);
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 0); /* 2 is not passed */
    assert_int_equal(c.calls, 0); /* taken off by a */
    assert_int_equal(d.calls, 1);
    fake_durable(&f->streams, 1);
    assert_int_equal(a.calls, 1); /* once only */
    assert_int_equal(b.calls, 1);
    assert_int_equal(d.calls, 2);
    /* What is there already is told at once, though not from within. */
    partition_watch_on(f->p, &a.watch, 3);
    assert_int_equal(a.calls, 1);
    fixture_settle(f);
    assert_int_equal(a.calls, 2);
    partition_watch_on(f->p, &a.watch, 4);
    partition_watch_on(f->p, &b.watch, 100);
    fixture_settle(f);
    assert_int_equal(a.calls, 2);
    fixture_close(f);
    assert_int_equal(a.calls, 3);
    assert_int_equal(b.calls, 2);
    fixture_open(f);
}

static void durable_in_fiber(void *arg) {
    struct fixture *f = arg;
    fake_durable(&f->streams, SIZE_MAX);
}

/* A stream may tell from a fiber; watches are called outside all the same. */
static void test_watch_told_from_a_fiber(void **state) {
    struct fixture *f = *state;
    struct watcher a = {.calls = 0};
    partition_watch_init(&a.watch, on_ready);
    partition_watch_on(f->p, &a.watch, 0);
    assert_append(f, OK, 0, .count = 2);
    fiber_spawn(&f->loop, "durable", durable_in_fiber, f);
    fixture_settle(f);
    assert_int_equal(a.calls, 1);
}

static void close_in_fiber(void *arg) {
    struct fixture *f = arg;
    partition_close(f->p);
    f->p = NULL;
}

static void test_close_waits(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 2);
    struct job *w = fixture_wait(f, 2);
    fake_give_room(&f->streams, 0);
    struct job *late = fixture_append(f, &(struct batch_spec){.count = 1});
    struct partition *p = f->p;
    fiber_spawn(&f->loop, "close", close_in_fiber, f);
    fixture_settle(f);
    assert_non_null(f->p);
    size_t size;
    uint8_t *b = fixture_batch(f, &(struct batch_spec){.count = 1}, &size);
    struct job *refused = fixture_append_bytes(f, b, size, 9);
    mem_free(&f->mem, b);
    assert_int_equal(refused->result, ERR_NOT_LEADER);
    fake_give_room(&f->streams, SIZE_MAX);
    fixture_settle(f);
    assert_true(late->done);
    assert_int_equal(late->append.base_offset, 2);
    assert_ptr_equal(f->p, p);
    fake_durable(&f->streams, SIZE_MAX);
    fixture_settle(f);
    assert_true(w->done);
    assert_null(f->p);
    fixture_open(f);
}

static void test_ready_bytes(void **state) {
    struct fixture *f = *state;
    size_t size;
    mem_free(&f->mem, fixture_batch(f, &(struct batch_spec){.count = 1}, &size));
    for (int i = 0; i < 200; i++) {
        assert_append(f, OK, i, .count = 1);
        if (i == 99) {
            fixture_close(f);
            fixture_open(f);
        }
        if (f->job_count == FIXTURE_JOBS) break;
    }
    assert_int_equal(partition_ready_bytes(f->p, 100), 0);
    fake_durable(&f->streams, SIZE_MAX);
    /* All batches are of one size, so what is between two marks comes out right as well. */
    for (uint64_t offset = 0; offset < 200; offset++) {
        uint64_t ready = partition_ready_bytes(f->p, offset), truth = (200 - offset) * size;
        assert_in_range(ready, truth - truth / 8 - 2, truth + truth / 8 + 2);
    }
    assert_int_equal(partition_ready_bytes(f->p, 200), 0);
    assert_int_equal(partition_ready_bytes(f->p, 300), 0);
    assert_int_equal(partition_size_bytes(f->p), 200 * size);
}

static void test_list_offsets(void **state) {
    struct fixture *f = *state;
    assert_offset(f, -1, 0, -1);
    assert_offset(f, -2, 0, -1);
    assert_offset(f, -3, -1, -1);
    assert_offset(f, -4, 0, -1);
    assert_offset(f, 0, -1, -1);
    assert_int_equal(fixture_list(f, -9)->result, ERR_INVALID_REQUEST);
    /* 1000..1040 */
    assert_append(f, OK, 0, .timestamp = 1000, .timestamp_step = 10, .count = 5);
    assert_append(f, OK, 5, .timestamp = 900, .timestamp_step = 1, .count = 5, .codec = CODEC_GZIP); /* 900..904 */
    /* 2000..1960 */
    assert_append(f, OK, 10, .timestamp = 2000, .timestamp_step = -10, .count = 5, .codec = CODEC_LZ4);
    assert_append(f, OK, 15, .timestamp = 1500, .count = 5);
    assert_append(f, OK, 20, .timestamp = 3000, .count = 1);
    fake_durable(&f->streams, 4);
    assert_offset(f, -1, 20, -1);
    assert_offset(f, -2, 0, -1);
    assert_offset(f, -3, 10, 2000); /* 3000 is not durable */
    assert_offset(f, 0, 0, 1000);
    assert_offset(f, 1000, 0, 1000);
    assert_offset(f, 1001, 1, 1010);
    assert_offset(f, 1040, 4, 1040);
    assert_offset(f, 1041, 10, 2000);
    assert_offset(f, 1961, 10, 2000);
    assert_offset(f, 2000, 10, 2000);
    assert_offset(f, 2001, -1, -1);
    assert_offset(f, 3000, -1, -1);
    assert_int_equal(fixture_list(f, 1041)->found_epoch, 3);
    fake_durable(&f->streams, 1);
    assert_offset(f, 2001, 20, 3000);
    assert_offset(f, -3, 20, 3000);
}

/* The largest durable time, whatever lies above it: found by search. */
static void test_max_timestamp_search(void **state) {
    struct fixture *f = *state;
    static const int64_t times[] = {0, 1, 7, 500, NOW_MS - 1, 3};
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        /* 0 asks the helper for its default: give it as a step from 1. */
        assert_append(f, OK, (int64_t)(2 * i), .timestamp = times[i] + 1, .timestamp_step = -1, .count = 2);
    }
    assert_append(f, OK, 12, .timestamp = NOW_MS + 1000);
    static const int64_t best[] = {1, 2, 8, 501, NOW_MS, NOW_MS};
    static const int64_t where[] = {0, 2, 4, 6, 8, 8};
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        fake_durable(&f->streams, 1);
        unsigned reads = f->streams.reads;
        assert_offset(f, -3, where[i], best[i]);
        assert_true(f->streams.reads - reads < 130);
    }
    fake_durable(&f->streams, 1);
    unsigned reads = f->streams.reads;
    assert_offset(f, -3, 12, NOW_MS + 1000);
    assert_int_equal(f->streams.reads - reads, 2); /* the usual case: no search */
}

static void test_large_batches_are_searched_on_a_worker(void **state) {
    struct fixture *f = *state;
    /* Random bytes do not compress: a batch that is large in packed form. */
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = CODEC_ZSTD;
    struct batch_builder b;
    batch_builder_init(&b, &f->mem, &o);
    uint8_t noise[1024];
    for (int i = 0; i < 64; i++) {
        rng_fill(&f->rng, noise, sizeof(noise));
        batch_builder_add(&b, NOW_MS + i, NULL, 0, noise, sizeof(noise), NULL, 0);
    }
    struct buf out;
    buf_init(&out, &f->mem);
    assert_int_equal(batch_builder_finish(&b, &out), OK);
    batch_builder_deinit(&b);
    assert_int_equal(fixture_append_bytes(f, out.data, out.size, 9)->result, OK);
    assert_int_equal(f->offloads, 1);
    buf_deinit(&out);
    fake_durable(&f->streams, 1);
    assert_offset(f, NOW_MS + 40, 40, NOW_MS + 40);
    assert_int_equal(f->offloads, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_durable_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ends_are_those_after_the_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_left_below_the_end_of_then, setup, teardown),
        cmocka_unit_test_setup_teardown(test_epoch_fencing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_diverging_epochs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_told_from_a_fiber, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ready_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_offsets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_max_timestamp_search, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_batches_are_searched_on_a_worker, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
