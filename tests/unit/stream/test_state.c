/* A partition's state: what each operation does, that states and deltas are a monoid however a history is cut, and that
 * the stored form is canonical, kept for ever, and safe to read whatever bytes are there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "kafka/batch.h"
#include "rt/env.h"
#include "stream/state.h"

static struct mem heap;

static struct state_batch batch_at(uint64_t base, uint64_t count) {
    return (struct state_batch){.base_offset = base,
                                .end_offset = base + count,
                                .first_timestamp = 1000 + (int64_t)base,
                                .max_timestamp = 1000 + (int64_t)(base + count - 1),
                                .size_bytes = 100,
                                .producer_id = -1};
}

static struct state_range range_of(uint64_t first, uint64_t end, uint64_t number) {
    return (struct state_range){.object = {{77}, number, OBJECT_LEDGER_ENTRY},
                                .first_offset = first,
                                .end_offset = end,
                                .max_timestamp = (int64_t)end,
                                .position = number * 10,
                                .size_bytes = 500,
                                .block_count = 2};
}

/* Batches of ten offsets until `end`. */
static void fill(struct stream_state *s, uint64_t end) {
    while (s->end_offset < end) {
        struct state_batch b = batch_at(s->end_offset, 10);
        state_apply_batch(s, &b);
    }
}

static void assert_same(const struct stream_state *a, const struct stream_state *b) {
    struct buf x, y;
    buf_init(&x, &heap);
    buf_init(&y, &heap);
    state_encode(a, &x);
    state_encode(b, &y);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    buf_deinit(&x);
    buf_deinit(&y);
}

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

/* --- The stored form. */

static void example(struct stream_state *s) {
    state_init_delta(s, &heap, 1000);
    struct state_batch b = batch_at(1000, 10);
    b.leader_epoch = 3;
    b.producer_id = 300;
    b.producer_epoch = 2;
    b.first_sequence = INT32_MAX - 9;
    b.last_sequence = INT32_MAX;
    b.first_timestamp = 1700000000000;
    b.max_timestamp = 1700000000005;
    state_apply_batch(s, &b);
    b = batch_at(1010, 5);
    b.leader_epoch = 4;
    b.rolls = true;
    b.first_timestamp = b.max_timestamp = -1;
    b.producer_id = 2;
    b.first_sequence = 0;
    b.last_sequence = 4;
    state_apply_batch(s, &b);
    b = batch_at(1015, 1);
    b.leader_epoch = 4;
    b.producer_id = 300;
    b.producer_epoch = 2;
    b.first_timestamp = b.max_timestamp = 1700000000001;
    state_apply_batch(s, &b);
    struct state_range r = {{{(7u << 20) + 1}, 12, OBJECT_LEDGER_ENTRY}, 1000, 1015, 1700000000005, 4096, 321, 2};
    state_add_range(s, &r);
    r = (struct state_range){{{(7u << 20) + 1}, 13, OBJECT_DATA}, 1015, 1016, 1700000000001, 0, 100, 1};
    state_add_range(s, &r);
    state_apply_trim(s, 20);
}

/* Version 1, to be kept for ever: what was written once must be read for ever. */
static const uint8_t golden[] = {
    0x01, 0x03, 0xe8, 0x07, 0x10, 0x14, 0x02, 0xe8, 0x07, 0x64, 0x80, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0x0a, 0x0a, 0xc8,
    0x01, 0x01, 0x84, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0x02, 0x03, 0xe8, 0x07, 0x01, 0x0a, 0x02, 0x02, 0x00, 0x01, 0x01,
    0x00, 0x04, 0xf2, 0x07, 0x05, 0x00, 0xaa, 0x02, 0x02, 0x02, 0x82, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0xf6, 0xff, 0xff,
    0xff, 0x07, 0xff, 0xff, 0xff, 0xff, 0x07, 0xe8, 0x07, 0x0a, 0x08, 0x00, 0x00, 0x05, 0x01, 0x00, 0x02, 0xe8, 0x07,
    0x01, 0x81, 0x80, 0xc0, 0x03, 0x0c, 0x0f, 0x8a, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0x80, 0x20, 0xc1, 0x02, 0x02, 0x02,
    0x81, 0x80, 0xc0, 0x03, 0x0d, 0x01, 0x82, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0x00, 0x64, 0x01,
};
static const uint8_t golden_empty[] = {1, 0, 0, 0, 0, 0, 0, 0};

static void test_golden(void **unused) {
    (void)unused;
    struct stream_state s, back;
    struct buf b;
    buf_init(&b, &heap);
    example(&s);
    state_encode(&s, &b);
    if (b.size != sizeof(golden) || memcmp(b.data, golden, b.size) != 0) {
        for (size_t i = 0; i < b.size; i++) print_error("0x%02x,%s", b.data[i], i % 16 == 15 ? "\n" : " ");
    }
    assert_int_equal(b.size, sizeof(golden));
    assert_memory_equal(b.data, golden, b.size);
    struct reader r = reader_of(golden, sizeof(golden));
    assert_int_equal(state_decode(&back, &heap, &r), OK);
    assert_same(&s, &back);
    assert_true(back.continues_segment);
    assert_int_equal(back.range_count, 2);
    assert_int_equal(state_producer_get(&back, 300)->batches[0].last_sequence, INT32_MAX);
    state_deinit(&back);
    state_deinit(&s);

    state_init(&s, &heap);
    b.size = 0;
    state_encode(&s, &b);
    assert_int_equal(b.size, sizeof(golden_empty));
    assert_memory_equal(b.data, golden_empty, b.size);
    state_deinit(&s);
    buf_deinit(&b);
}

/* Version 2: as version 1, and a table. */
static void example_with_table(struct stream_state *s) {
    example(s);
    state_table_put(&s->table, &heap, 1003, "b", 1, "value", 5, true);
    state_table_put(&s->table, &heap, 1004, "", 0, "", 0, true);
    state_table_put(&s->table, &heap, 1001, "ab", 2, "old", 3, true);
    state_table_put(&s->table, &heap, 1015, "ab", 2, NULL, -1, true);
}
static const uint8_t golden_table[] = {
    0x03, 0x00, 0xec, 0x07, 0x01, 0x02, 'a', 'b', 0xf7, 0x07, 0x00,
    0x01, 'b',  0xeb, 0x07, 0x06, 'v',  'a', 'l', 'u',  'e',
};

static void golden_v2(uint8_t out[sizeof(golden) + sizeof(golden_table)]) {
    memcpy(out, golden, sizeof(golden));
    out[0] = 2;
    memcpy(out + sizeof(golden), golden_table, sizeof(golden_table));
}

static void test_golden_table(void **unused) {
    (void)unused;
    struct stream_state s, back;
    struct buf b;
    buf_init(&b, &heap);
    example_with_table(&s);
    state_encode(&s, &b);
    uint8_t bytes[sizeof(golden) + sizeof(golden_table)];
    golden_v2(bytes);
    assert_int_equal(b.size, sizeof(bytes));
    assert_memory_equal(b.data, bytes, sizeof(bytes));
    struct reader r = reader_of(bytes, sizeof(bytes));
    assert_int_equal(state_decode(&back, &heap, &r), OK);
    assert_int_equal(reader_left(&r), 0);
    assert_same(&s, &back);
    assert_int_equal(state_table_count(back.table), 3);
    assert_int_equal(state_table_get(back.table, "b", 1)->offset, 1003);
    assert_int_equal(state_table_get(back.table, "ab", 2)->value_size, -1);

    /* Merged into a whole state the deletion deletes; and a table that has become empty is as if it had never been. */
    struct stream_state whole, never;
    state_init(&whole, &heap);
    fill(&whole, 1000);
    struct state_range range = range_of(0, 1000, 1);
    state_add_range(&whole, &range);
    state_copy(&never, &whole, &heap);
    state_table_put(&whole.table, &heap, 7, "ab", 2, "x", 1, false);
    assert_int_equal(state_merge(&whole, &back), OK);
    assert_int_equal(state_table_count(whole.table), 2);
    assert_null(state_table_get(whole.table, "ab", 2));
    state_deinit(&whole);
    state_copy(&whole, &never, &heap);
    state_table_put(&whole.table, &heap, 7, "ab", 2, "x", 1, false);
    state_table_put(&whole.table, &heap, 8, "ab", 2, NULL, -1, false);
    assert_null(whole.table);
    assert_same(&whole, &never);
    state_deinit(&whole);
    state_deinit(&never);
    state_deinit(&back);
    state_deinit(&s);
    buf_deinit(&b);
}

static void refuse_v2(size_t at, uint8_t value) {
    uint8_t bytes[sizeof(golden) + sizeof(golden_table)];
    golden_v2(bytes);
    bytes[sizeof(golden) + at] = value;
    struct reader r = reader_of(bytes, sizeof(bytes));
    struct stream_state s;
    assert_int_equal(state_decode(&s, &heap, &r), ERR_CORRUPT);
}

static void test_bad_table(void **unused) {
    (void)unused;
    refuse_v2(0, 0);    /* no entry: then there is no table */
    refuse_v2(2, 0xe7); /* an offset below the section */
    refuse_v2(8, 0xf8); /* one behind it */
    refuse_v2(6, 'c');  /* not in order */
    uint8_t bytes[sizeof(golden) + sizeof(golden_table)];
    golden_v2(bytes);
    struct stream_state s;
    for (size_t n = sizeof(golden); n < sizeof(bytes); n++) {
        struct reader r = reader_of(bytes, n);
        enum err e = state_decode(&s, &heap, &r);
        assert_true(e == ERR_TRUNCATED || e == ERR_CORRUPT);
    }
    /* A whole state with a deleted key. */
    static const uint8_t deleted[] = {2, 0, 10, 0, 0, 0, 0, 0, 1, 1, 'k', 3, 0};
    struct reader r = reader_of(deleted, sizeof(deleted));
    assert_int_equal(state_decode(&s, &heap, &r), ERR_CORRUPT);
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

/* Whatever is decoded must be a state that all functions can work with. */
static void exercise(struct stream_state *s) {
    struct buf b;
    buf_init(&b, &heap);
    state_encode(s, &b);
    struct stream_state again;
    struct reader r = reader_of(b.data, b.size);
    assert_int_equal(state_decode(&again, &heap, &r), OK);
    assert_same(s, &again);
    state_deinit(&again);
    buf_deinit(&b);
    int32_t found;
    (void)state_epoch_end(s, 3, &found);
    (void)state_range_find(s, s->start_offset);
    struct state_expiry expiry = {0};
    if (!s->delta) state_expire_producers(s, &expiry, 0, 1, 0);
    if (s->end_offset < INT64_MAX - 20) {
        struct stream_state d;
        state_init_delta(&d, &heap, s->end_offset);
        fill(&d, s->end_offset + 10);
        assert_int_equal(state_merge(s, &d), OK);
        state_deinit(&d);
    }
    state_apply_trim(s, s->end_offset);
    assert_int_equal(s->range_count, 0);
}

static void try_bytes(const uint8_t *data, size_t size) {
    uint8_t *exact = mem_alloc(&heap, size); /* so that the sanitizer sees a read past the end */
    memcpy(exact, data, size);
    uint64_t before = heap.allocated_bytes;
    struct reader r = reader_of(exact, size);
    struct stream_state s;
    enum err e = state_decode(&s, &heap, &r);
    if (e == OK) {
        assert_true(heap.allocated_bytes - before <= 1024 + size * 64);
        exercise(&s);
        state_deinit(&s);
    } else {
        assert_true(e == ERR_TRUNCATED || e == ERR_CORRUPT || e == ERR_VERSION);
    }
    assert_int_equal(heap.allocated_bytes, before);
    mem_free(&heap, exact);
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

/* Version 3: how far log compaction has come. */
static void test_clean_offset(void **unused) {
    (void)unused;
    static const uint8_t clean[] = {3, 0, 10, 2, 7, 0, 0, 0, 0};
    struct stream_state s, again;
    state_init(&s, &heap);
    s.end_offset = 10;
    s.start_offset = 2;
    s.clean_offset = 7;
    struct buf out;
    buf_init(&out, &heap);
    state_encode(&s, &out);
    assert_int_equal(out.size, sizeof(clean));
    assert_memory_equal(out.data, clean, sizeof(clean));
    struct reader r = reader_of(clean, sizeof(clean));
    assert_int_equal(state_decode(&again, &heap, &r), OK);
    assert_int_equal(again.clean_offset, 7);
    state_deinit(&again);
    uint8_t bad[sizeof(clean)];
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{4, 0}, {4, 11}, {1, 8}}; /* none at all; above the end; a flag that is none */
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        memcpy(bad, clean, sizeof(clean));
        bad[wrong[i].at] = wrong[i].value;
        r = reader_of(bad, sizeof(bad));
        assert_int_equal(state_decode(&again, &heap, &r), ERR_CORRUPT);
    }
    /* With a table, too; and it only rises. */
    uint8_t v2[sizeof(golden) + sizeof(golden_table)];
    golden_v2(v2);
    struct stream_state with_table, delta;
    r = reader_of(v2, sizeof(v2));
    assert_int_equal(state_decode(&with_table, &heap, &r), OK);
    if (!with_table.delta) {
        with_table.clean_offset = with_table.end_offset;
        out.size = 0;
        state_encode(&with_table, &out);
        assert_true(out.data[0] == 3 && (out.data[1] & 4) != 0);
        r = reader_of(out.data, out.size);
        assert_int_equal(state_decode(&again, &heap, &r), OK);
        assert_int_equal(state_table_count(again.table), state_table_count(with_table.table));
        assert_int_equal(again.clean_offset, with_table.end_offset);
        state_deinit(&again);
    }
    state_deinit(&with_table);
    state_init_delta(&delta, &heap, 10);
    delta.end_offset = 12;
    assert_int_equal(state_merge(&s, &delta), OK);
    assert_int_equal(s.clean_offset, 7);
    delta.clean_offset = 5;
    assert_int_equal(state_apply_cleaned(&s, &delta), OK);
    assert_int_equal(s.clean_offset, 7);
    delta.clean_offset = 12;
    assert_int_equal(state_apply_cleaned(&s, &delta), OK);
    assert_int_equal(s.clean_offset, 12);
    state_deinit(&delta);
    state_deinit(&s);
    buf_deinit(&out);
}

static void test_bad_bytes(void **unused) {
    (void)unused;
    uint8_t bytes[sizeof(golden)];
    for (size_t n = 0; n < sizeof(golden); n++) {
        struct reader r = reader_of(golden, n);
        struct stream_state s;
        enum err e = state_decode(&s, &heap, &r);
        assert_true(e == ERR_TRUNCATED || e == ERR_CORRUPT);
        try_bytes(golden, n);
    }
    for (size_t i = 0; i < sizeof(golden); i++) {
        for (unsigned v = 0; v < 256; v++) {
            memcpy(bytes, golden, sizeof(golden));
            bytes[i] = (uint8_t)v;
            try_bytes(bytes, sizeof(bytes));
        }
    }
    memcpy(bytes, golden, sizeof(golden));
    bytes[0] = 4;
    struct reader r = reader_of(bytes, sizeof(bytes));
    struct stream_state s;
    assert_int_equal(state_decode(&s, &heap, &r), ERR_VERSION);

    /* A producer without a batch. */
    static const uint8_t no_batch[] = {1, 0, 10, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    r = reader_of(no_batch, sizeof(no_batch));
    assert_int_equal(state_decode(&s, &heap, &r), ERR_CORRUPT);

    struct rng rng;
    rng_seed(&rng, 4);
    for (int i = 0; i < 20000; i++) {
        memcpy(bytes, golden, sizeof(golden));
        for (uint64_t k = 1 + rng_below(&rng, 4); k > 0; k--)
            bytes[rng_below(&rng, sizeof(bytes))] = (uint8_t)rng_next(&rng);
        try_bytes(bytes, 1 + rng_below(&rng, sizeof(bytes)));
    }
    uint8_t with_table[sizeof(golden) + sizeof(golden_table)];
    for (int i = 0; i < 20000; i++) {
        golden_v2(with_table);
        for (uint64_t k = 1 + rng_below(&rng, 3); k > 0; k--)
            with_table[rng_below(&rng, sizeof(with_table))] = (uint8_t)rng_next(&rng);
        try_bytes(with_table, 1 + rng_below(&rng, sizeof(with_table)));
    }
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_and_trim),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_producers),
        cmocka_unit_test(test_expiry_and_jumping_clocks),
        cmocka_unit_test(test_gap_changes_nothing),
        cmocka_unit_test(test_range_find),
        cmocka_unit_test(test_replace_ranges),
        cmocka_unit_test(test_monoid),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_golden_table),
        cmocka_unit_test(test_replace_run),
        cmocka_unit_test(test_clean_offset),
        cmocka_unit_test(test_bad_table),
        cmocka_unit_test(test_table_of_batches),
        cmocka_unit_test(test_bad_bytes),
        cmocka_unit_test(test_small),
    };
    mem_init_heap(&heap);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
