/* A partition's state: what each operation does, and that states and deltas are a monoid however a history is cut. */
#include "unit/stream/state_fixture.h"

#include "base/random.h"
#include "kafka/batch.h"
#include "rt/env.h"

static void test_segments_and_trim(void **unused) {
    (void)unused;
    struct stream_state s;
    state_init(&s, &heap);
    for (uint64_t i = 0; i < 6; i++) {
        struct state_batch b = batch_at(i * 10, 10);
        b.rolls = i % 2 == 0;
        state_apply_batch(&s, &b);
    }
    assert_int_equal(s.segment_count, 3);
    assert_int_equal(s.segments[1].base_offset, 20);
    assert_int_equal(s.segments[1].size_bytes, 200);
    assert_int_equal(s.segments[1].first_timestamp, 1020);
    assert_int_equal(s.segments[1].max_timestamp, 1039);

    state_apply_trim(&s, 39); /* in the middle of the second segment */
    assert_int_equal(s.start_offset, 39);
    assert_int_equal(s.segment_count, 2);
    assert_int_equal(s.segments[0].base_offset, 20);
    state_apply_trim(&s, 5); /* never down */
    assert_int_equal(s.start_offset, 39);
    state_apply_trim(&s, 40);
    assert_int_equal(s.segment_count, 1);
    state_apply_trim(&s, 1000); /* never above the end; the active segment stays until another begins */
    assert_int_equal(s.start_offset, 60);
    assert_int_equal(s.segment_count, 1);
    struct state_batch b = batch_at(60, 1);
    b.rolls = true;
    state_apply_batch(&s, &b);
    assert_int_equal(s.segment_count, 1);
    assert_int_equal(s.segments[0].base_offset, 60);
    state_deinit(&s);
}

static void test_epochs(void **unused) {
    (void)unused;
    struct stream_state s;
    state_init(&s, &heap);
    int32_t found;
    assert_int_equal(state_epoch_of(&s, 0), -1);
    assert_true(state_epoch_end(&s, 5, &found) == UINT64_MAX);
    assert_int_equal(found, -1);
    static const int32_t epochs[] = {1, 1, 3, 2, 7};
    for (size_t i = 0; i < 5; i++) {
        struct state_batch b = batch_at(i * 10, 10);
        b.leader_epoch = epochs[i];
        state_apply_batch(&s, &b);
    }
    assert_int_equal(s.epoch_count, 3); /* a lower one is without effect */
    assert_int_equal(state_epoch_of(&s, 0), 1);
    assert_int_equal(state_epoch_of(&s, 19), 1);
    assert_int_equal(state_epoch_of(&s, 20), 3);
    assert_int_equal(state_epoch_of(&s, 39), 3);
    assert_int_equal(state_epoch_of(&s, 49), 7);
    assert_int_equal(state_epoch_end(&s, 1, &found), 20);
    assert_int_equal(state_epoch_end(&s, 2, &found), 20);
    assert_int_equal(found, 1);
    assert_int_equal(state_epoch_end(&s, 3, &found), 40);
    assert_int_equal(state_epoch_end(&s, 100, &found), 50);
    assert_int_equal(found, 7);
    assert_true(state_epoch_end(&s, 0, &found) == UINT64_MAX);
    state_apply_trim(&s, 25);
    assert_int_equal(s.epoch_count, 2);
    assert_int_equal(s.epochs[0].leader_epoch, 3);
    assert_int_equal(s.epochs[0].start_offset, 25);
    assert_int_equal(state_epoch_of(&s, 24), -1);
    state_apply_trim(&s, 50);
    assert_int_equal(s.epoch_count, 1);
    assert_int_equal(s.epochs[0].start_offset, 50);
    state_deinit(&s);
}

static void test_producers(void **unused) {
    (void)unused;
    struct stream_state s;
    state_init(&s, &heap);
    for (uint64_t i = 0; i < 7; i++) {
        struct state_batch b = batch_at(i * 10, 10);
        b.producer_id = 9;
        b.producer_epoch = 2;
        b.first_sequence = (int32_t)(INT32_MAX - 29 + (int64_t)i * 10);
        if (i >= 3) b.first_sequence = (int32_t)((i - 3) * 10);
        b.last_sequence = b.first_sequence + 9;
        state_apply_batch(&s, &b);
    }
    const struct state_producer *p = state_producer_get(&s, 9);
    assert_non_null(p);
    assert_null(state_producer_get(&s, 8));
    assert_null(state_producer_get(&s, -1));
    assert_int_equal(p->count, 5);
    assert_int_equal(p->batches[0].base_offset, 20);
    assert_int_equal(p->batches[0].last_sequence, INT32_MAX);
    assert_int_equal(p->batches[4].base_offset, 60);
    assert_int_equal(p->last_timestamp, 1069);

    struct state_batch old = batch_at(70, 10);
    old.producer_id = 9;
    old.producer_epoch = 1; /* of an epoch gone by: without effect */
    state_apply_batch(&s, &old);
    assert_int_equal(p->count, 5);
    assert_int_equal(p->batches[4].base_offset, 60);

    struct state_batch bumped = batch_at(80, 10);
    bumped.producer_id = 9;
    bumped.producer_epoch = 3;
    state_apply_batch(&s, &bumped);
    p = state_producer_get(&s, 9);
    assert_int_equal(p->epoch, 3);
    assert_int_equal(p->count, 1);
    assert_int_equal(p->batches[0].base_offset, 80);

    struct state_batch other = batch_at(90, 1);
    other.producer_id = 0;
    other.max_timestamp = 5;
    state_apply_batch(&s, &other);
    struct state_expiry expiry = {0};
    uint64_t ms = NS_PER_MS;
    int64_t newest = state_producer_get(&s, 9)->last_timestamp;
    assert_true(newest > 6);
    /* However far the wall clock is: producers are as old as the newest one of them says. */
    state_expire_producers(&s, &expiry, newest - 5, 1 * ms, INT64_MAX);
    assert_int_equal(s.producers.count, 2);
    state_expire_producers(&s, &expiry, newest - 5, 2 * ms, INT64_MAX);
    assert_null(state_producer_get(&s, 0));
    assert_non_null(state_producer_get(&s, 9));
    /* Until this process has looked on for so long itself. */
    state_expire_producers(&s, &expiry, 100, 100 * ms, INT64_MAX);
    assert_int_equal(s.producers.count, 1);
    state_expire_producers(&s, &expiry, 100, 101 * ms, INT64_MAX);
    assert_int_equal(s.producers.count, 0);
    assert_null(s.producers.slots); /* an idle partition gives its memory back */
    state_deinit(&s);
}

/* A wall clock that is wrong, forward or back, for a while or for ever. */
static void test_expiry_and_jumping_clocks(void **state) {
    (void)state;
    enum { EXPIRATION = 1000 };
    for (unsigned jump = 0; jump < 4; jump++) {
        struct stream_state s;
        state_init(&s, &heap);
        struct state_batch b = batch_at(0, 10);
        b.producer_id = 7;
        b.max_timestamp = 50000;
        state_apply_batch(&s, &b);
        struct state_expiry expiry = {0};
        state_expiry_begin(&s, &expiry, NS_PER_MS, 50000);
        uint64_t forgotten = 0;
        for (uint64_t ms = 2; ms < 10000 && forgotten == 0; ms++) {
            int64_t wall = 50000 + (int64_t)ms;
            if (jump == 1 && ms > 10) wall += 1000000;
            if (jump == 2 && ms > 10 && ms < 500) wall += 1000000;
            if (jump == 3 && ms > 300) wall -= 40000;
            state_expire_producers(&s, &expiry, EXPIRATION, ms * NS_PER_MS, wall);
            if (s.producers.count == 0) forgotten = ms;
        }
        if (jump == 3) {
            assert_int_equal(forgotten, 0); /* nothing is old by that clock */
        } else {
            assert_in_range(forgotten, EXPIRATION, 2 * EXPIRATION + 10);
        }
        state_deinit(&s);
    }
}

static void test_gap_changes_nothing(void **unused) {
    (void)unused;
    struct stream_state s, before, d;
    state_init(&s, &heap);
    fill(&s, 100);
    struct state_range r = range_of(0, 100, 1);
    state_add_range(&s, &r);
    state_copy(&before, &s, &heap);

    state_init_delta(&d, &heap, 110);
    assert_int_equal(state_merge(&s, &d), ERR_GAP);
    state_deinit(&d);
    state_init_delta(&d, &heap, 90);
    assert_int_equal(state_merge(&s, &d), ERR_GAP);
    state_deinit(&d);
    assert_same(&s, &before);

    /* A section without its range, then one with: offsets 100 to 110 would lie nowhere. */
    struct stream_state bare;
    state_init_delta(&bare, &heap, 100);
    fill(&bare, 110);
    assert_int_equal(state_merge(&s, &bare), OK);
    state_init_delta(&d, &heap, 110);
    fill(&d, 120);
    r = range_of(110, 120, 2);
    state_add_range(&d, &r);
    struct stream_state again;
    state_copy(&again, &s, &heap);
    assert_int_equal(state_merge(&s, &d), ERR_GAP);
    assert_same(&s, &again);
    /* Unless they are trimmed. */
    state_apply_trim(&d, 110);
    assert_int_equal(state_merge(&s, &d), OK);
    assert_int_equal(s.range_count, 1);
    assert_int_equal(s.ranges[0].first_offset, 110);
    state_deinit(&again);
    state_deinit(&d);
    state_deinit(&bare);
    state_deinit(&before);
    state_deinit(&s);

    /* A state with records and no ranges cannot take ranges behind them. */
    state_init(&s, &heap);
    fill(&s, 10);
    state_init_delta(&d, &heap, 10);
    fill(&d, 20);
    r = range_of(10, 20, 2);
    state_add_range(&d, &r);
    assert_int_equal(state_merge(&s, &d), ERR_GAP);
    state_deinit(&d);
    state_deinit(&s);
}

static void with_ranges(struct stream_state *s) {
    state_init(s, &heap);
    fill(s, 100);
    for (uint64_t i = 0; i < 10; i++) {
        struct state_range r = range_of(i * 10, i * 10 + 10, i);
        state_add_range(s, &r);
    }
}

static void test_range_find(void **unused) {
    (void)unused;
    struct stream_state s;
    state_init(&s, &heap);
    assert_null(state_range_find(&s, 0));
    state_deinit(&s);
    with_ranges(&s);
    for (uint64_t o = 0; o < 100; o++) assert_int_equal(state_range_find(&s, o)->object.number, o / 10);
    assert_null(state_range_find(&s, 100));
    state_apply_trim(&s, 35);
    assert_int_equal(s.range_count, 7);
    assert_int_equal(state_range_find(&s, 0)->object.number, 3);
    state_deinit(&s);
}

static void test_replace_ranges(void **unused) {
    (void)unused;
    struct stream_state s;
    with_ranges(&s);
    static const struct {
        uint64_t first, end;
    } wrong[] = {{0, 15}, {5, 20}, {90, 110}, {100, 110}, {25, 26}, {200, 210}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct state_range r = range_of(wrong[i].first, wrong[i].end, 1000);
        assert_int_equal(state_replace_ranges(&s, &r), ERR_STALE);
        assert_int_equal(s.range_count, 10);
    }
    struct state_range r = range_of(20, 50, 1000);
    assert_int_equal(state_replace_ranges(&s, &r), OK);
    assert_int_equal(s.range_count, 8);
    assert_int_equal(state_range_find(&s, 49)->object.number, 1000);
    assert_int_equal(state_range_find(&s, 50)->object.number, 5);
    assert_int_equal(state_range_find(&s, 19)->object.number, 1);
    assert_int_equal(state_range_find(&s, 99)->object.number, 9);
    /* One by one, the last one, and all. */
    r = range_of(90, 100, 1001);
    assert_int_equal(state_replace_ranges(&s, &r), OK);
    assert_int_equal(s.range_count, 8);
    r = range_of(0, 100, 1002);
    assert_int_equal(state_replace_ranges(&s, &r), OK);
    assert_int_equal(s.range_count, 1);
    assert_int_equal(s.ranges[0].object.number, 1002);
    state_deinit(&s);

    /* Trimmed meanwhile: what is left of them. */
    with_ranges(&s);
    state_apply_trim(&s, 35);
    r = range_of(10, 60, 2000);
    assert_int_equal(state_replace_ranges(&s, &r), OK);
    assert_int_equal(s.range_count, 5);
    assert_int_equal(s.ranges[0].object.number, 2000);
    assert_int_equal(s.ranges[0].first_offset, 10);
    r = range_of(0, 10, 2001); /* wholly trimmed: nothing to replace */
    assert_int_equal(state_replace_ranges(&s, &r), ERR_STALE);
    state_apply_trim(&s, 60);
    r = range_of(10, 60, 2002);
    assert_int_equal(state_replace_ranges(&s, &r), ERR_STALE);
    assert_int_equal(s.range_count, 4);
    state_deinit(&s);

    /* A section cannot have a range replaced that begins before it, for it does not know what was there. */
    state_init_delta(&s, &heap, 100);
    fill(&s, 110);
    r = range_of(100, 110, 1);
    state_add_range(&s, &r);
    r = range_of(90, 110, 2000);
    assert_int_equal(state_replace_ranges(&s, &r), ERR_STALE);
    state_deinit(&s);
}

/* Several ranges take the place of several. */
static void test_replace_run(void **unused) {
    (void)unused;
    struct stream_state s;
    with_ranges(&s);
    struct state_range more[] = {range_of(20, 22, 1000), range_of(22, 25, 1001), range_of(25, 30, 1002)};
    assert_int_equal(state_replace_run(&s, more, 3), OK);
    assert_int_equal(s.range_count, 12);
    for (uint32_t i = 1; i < s.range_count; i++) assert_true(s.ranges[i].first_offset == s.ranges[i - 1].end_offset);
    assert_int_equal(state_range_find(&s, 24)->object.number, 1001);
    assert_int_equal(state_range_find(&s, 99)->object.number, 9);
    struct state_range fewer[] = {range_of(10, 28, 2000), range_of(28, 60, 2001)};
    assert_int_equal(state_replace_run(&s, fewer, 2), OK);
    assert_int_equal(s.range_count, 7);
    fewer[1] = range_of(28, 65, 2002);
    assert_int_equal(state_replace_run(&s, fewer, 2), ERR_STALE);
    /* What a trim has taken away meanwhile is left out. */
    state_apply_trim(&s, 35);
    fewer[1] = range_of(28, 60, 2003);
    assert_int_equal(state_replace_run(&s, fewer, 2), OK);
    assert_int_equal(s.range_count, 5);
    assert_int_equal(s.ranges[0].object.number, 2003);
    state_deinit(&s);
}

/* What a coordinator appends, as the upload sees it. */
static void test_table_of_batches(void **unused) {
    (void)unused;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = 40;
    struct batch_builder builder;
    batch_builder_init(&builder, &heap, &o);
    batch_builder_add(&builder, 5, "a", 1, "one", 3, NULL, 0);
    batch_builder_add(&builder, 5, NULL, 0, "no key", 6, NULL, 0);
    batch_builder_add(&builder, 6, "b", 1, "two", 3, NULL, 0);
    batch_builder_add(&builder, 6, "a", 1, NULL, 0, NULL, 0);
    struct buf b;
    buf_init(&b, &heap);
    assert_int_equal(batch_builder_finish(&builder, &b), OK);
    for (int delta = 0; delta < 2; delta++) {
        struct stream_state s;
        if (delta)
            state_init_delta(&s, &heap, 40);
        else
            state_init(&s, &heap);
        assert_int_equal(state_apply_table(&s, b.data, b.size), OK);
        assert_int_equal(state_table_count(s.table), delta ? 2 : 1);
        const struct state_table_entry *e = state_table_get(s.table, "b", 1);
        assert_int_equal(e->offset, 42);
        assert_int_equal(e->value_size, 3);
        assert_memory_equal(e->value, "two", 3);
        e = state_table_get(s.table, "a", 1);
        if (delta)
            assert_true(e->value_size == -1 && e->offset == 43);
        else
            assert_null(e);
        state_deinit(&s);
    }
    struct stream_state s;
    state_init(&s, &heap);
    assert_int_not_equal(state_apply_table(&s, b.data, b.size - 1), OK);
    b.data[22] |= 1; /* compressed */
    assert_int_equal(state_apply_table(&s, b.data, b.size), ERR_CORRUPT_MESSAGE);
    state_deinit(&s);
    buf_deinit(&b);
    batch_builder_deinit(&builder);
}

/* A broker holds 100,000 of them. */
static void test_small(void **unused) {
    (void)unused;
    uint64_t before = heap.allocated_bytes;
    struct stream_state s;
    state_init(&s, &heap);
    assert_int_equal(heap.allocated_bytes, before);
    fill(&s, 100);
    assert_true(heap.allocated_bytes - before + sizeof(s) <= 256);
    state_deinit(&s);
    assert_int_equal(heap.allocated_bytes, before);
}

/* --- The monoid. */

struct step { /* of a random history */
    struct state_batch batch;
    uint64_t trim; /* asked for before the batch; 0: none */
    uint8_t keys;  /* of the table, changed by the batch; 0: none */
    uint32_t seed; /* for which ones, and to what */
};

struct history {
    struct step steps[80];
    size_t count;
};

static void history_make(struct history *h, struct rng *r) {
    int32_t leader_epoch = (int32_t)rng_below(r, 3), sequence[4];
    int16_t epoch[4];
    uint64_t offset = 0;
    for (size_t i = 0; i < 4; i++) {
        epoch[i] = (int16_t)rng_below(r, 3);
        sequence[i] = (int32_t)(INT32_MAX - (int32_t)rng_below(r, 40));
    }
    h->count = rng_below(r, 80);
    bool table = rng_below(r, 2) == 0;
    for (size_t i = 0; i < h->count; i++) {
        struct step *p = &h->steps[i];
        p->trim = rng_below(r, 4) == 0 ? rng_below(r, offset + 20) : 0;
        if (rng_below(r, 6) == 0) leader_epoch += (int32_t)rng_below(r, 4) - 1;
        if (leader_epoch < 0) leader_epoch = 0;
        struct state_batch *b = &p->batch;
        *b = batch_at(offset, 1 + rng_below(r, 9));
        b->first_timestamp = (int64_t)rng_below(r, 5000) - 1;
        b->max_timestamp = b->first_timestamp + (int64_t)rng_below(r, 100);
        b->size_bytes = (uint32_t)rng_below(r, 100000);
        b->leader_epoch = leader_epoch;
        b->rolls = rng_below(r, 5) == 0;
        size_t producer = rng_below(r, 5);
        if (producer < 4) {
            int32_t n = (int32_t)(b->end_offset - b->base_offset);
            if (rng_below(r, 8) == 0) {
                epoch[producer]++;
                sequence[producer] = 0;
            }
            b->producer_id = (int64_t)producer * 1000;
            b->producer_epoch = (int16_t)(epoch[producer] - (rng_below(r, 20) == 0 ? 1 : 0));
            b->first_sequence = sequence[producer];
            b->last_sequence = (int32_t)(((uint32_t)sequence[producer] + (uint32_t)n - 1) & INT32_MAX);
            sequence[producer] = (int32_t)(((uint32_t)sequence[producer] + (uint32_t)n) & INT32_MAX);
        }
        offset = b->end_offset;
        p->keys = table ? (uint8_t)rng_below(r, b->end_offset - b->base_offset + 1) : 0;
        p->seed = (uint32_t)rng_next(r);
    }
}

/* Few keys, so that they meet again; the empty key and the empty value among them, and many deletions. */
static void step_change_table(struct stream_state *s, const struct step *p) {
    struct rng r;
    rng_seed(&r, p->seed);
    for (uint8_t k = 0; k < p->keys; k++) {
        char key[16], value[64];
        size_t key_size = rng_below(&r, 12);
        memset(key, 'k', sizeof(key));
        for (size_t i = 0; i < sizeof(value); i++) value[i] = (char)rng_next(&r);
        int32_t size = rng_below(&r, 3) == 0 ? -1 : (int32_t)rng_below(&r, sizeof(value));
        state_table_put(&s->table, s->mem, p->batch.base_offset + k, key, key_size, value, size, s->delta);
    }
}

static void step_apply(struct stream_state *s, const struct step *p) {
    if (p->trim) state_apply_trim(s, p->trim);
    state_apply_batch(s, &p->batch);
    step_change_table(s, p);
}

static void test_monoid(void **unused) {
    (void)unused;
    static struct history h;
    for (uint64_t seed = 0; seed < 5000; seed++) {
        struct rng r;
        rng_seed(&r, seed);
        history_make(&h, &r);
        bool ranges = rng_below(&r, 2) == 0;
        struct stream_state whole, merged, run;
        state_init(&whole, &heap);
        state_init(&merged, &heap);
        state_init_delta(&run, &heap, 0); /* deltas merged among themselves first */
        for (size_t at = 0; at < h.count || at == 0;) {
            size_t n = rng_below(&r, 8);
            if (at + n > h.count) n = h.count - at;
            struct stream_state d;
            state_init_delta(&d, &heap, whole.end_offset);
            for (size_t i = at; i < at + n; i++) {
                step_apply(&whole, &h.steps[i]);
                step_apply(&d, &h.steps[i]);
            }
            if (ranges && n > 0) {
                struct state_range g = range_of(d.first_offset, d.end_offset, at);
                state_add_range(&d, &g);
                state_add_range(&whole, &g);
            }
            assert_int_equal(state_merge(&run, &d), OK);
            state_deinit(&d);
            if (rng_below(&r, 3) == 0) {
                /* A delta goes through its stored form before it is merged. */
                struct buf b;
                buf_init(&b, &heap);
                state_encode(&run, &b);
                state_deinit(&run);
                struct reader reader = reader_of(b.data, b.size);
                assert_int_equal(state_decode(&run, &heap, &reader), OK);
                assert_int_equal(reader_left(&reader), 0);
                buf_deinit(&b);
                assert_int_equal(state_merge(&merged, &run), OK);
                state_deinit(&run);
                state_init_delta(&run, &heap, whole.end_offset);
                assert_same(&whole, &merged);
            }
            at += n;
            if (h.count == 0) break;
        }
        assert_int_equal(state_merge(&merged, &run), OK);
        assert_same(&whole, &merged);
        state_deinit(&run);
        state_deinit(&merged);
        state_deinit(&whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_and_trim),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_producers),
        cmocka_unit_test(test_expiry_and_jumping_clocks),
        cmocka_unit_test(test_gap_changes_nothing),
        cmocka_unit_test(test_range_find),
        cmocka_unit_test(test_replace_ranges),
        cmocka_unit_test(test_replace_run),
        cmocka_unit_test(test_table_of_batches),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_monoid),
    };
    mem_init_heap(&heap);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
