/* The stored form of a partition's state: canonical, kept for ever, and safe to read whatever bytes are there. */
#include "unit/stream/state_fixture.h"

#include "base/random.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_golden_table), cmocka_unit_test(test_clean_offset),
        cmocka_unit_test(test_bad_table), cmocka_unit_test(test_bad_bytes),
    };
    mem_init_heap(&heap);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
