/* Old formats in a partition: what needs a worker and what does not, order among other appends, and the budget. */
#include "unit/partition/fixture.h"

#include <string.h>

#include "base/assert.h"

static int setup(void **state) {
    static struct fixture f; /* one test at a time */
    fixture_init(&f);
    *state = &f;
    return 0;
}
static int teardown(void **state) {
    struct fixture *f = *state;
    assert_int_equal(f->conversions.used_bytes, 0);
    assert_int_equal(f->conversions.out_bytes, 0);
    fixture_deinit(f);
    return 0;
}

/* A set of magic 1 with what the batch would have held. */
static void make_set(struct fixture *f, const struct batch_spec *s, struct buf *out) {
    size_t size;
    bool full;
    uint8_t *b = fixture_batch(f, s, &size);
    struct message_set_down how = {
        .magic = 1, .max_bytes = SIZE_MAX / 2, .unpack_limit = (size_t)512 << 20, .from_offset = 0};
    buf_init(out, &f->mem);
    assert_int_equal(message_set_down_convert(b, size, &f->mem, &how, out, &full), OK);
    mem_free(&f->mem, b);
}

static struct job *append_set(struct fixture *f, const struct batch_spec *s) {
    struct buf set;
    make_set(f, s, &set);
    struct job *j = fixture_append_bytes(f, set.data, set.size, 2);
    buf_deinit(&set);
    return j;
}

static void test_small_sets_need_no_worker(void **state) {
    struct fixture *f = *state;
    struct job *a = append_set(f, &(struct batch_spec){.count = 3});
    struct job *b = append_set(f, &(struct batch_spec){.count = 4, .codec = CODEC_GZIP});
    struct job *nothing = fixture_append_bytes(f, "", 0, 0);
    struct job *c = append_set(f, &(struct batch_spec){.count = 1, .codec = CODEC_LZ4});
    assert_true(a->done && b->done && c->done && nothing->done);
    assert_int_equal(a->result | b->result | c->result | nothing->result, OK);
    assert_int_equal(a->append.base_offset, 0);
    assert_int_equal(b->append.base_offset, 3);
    assert_int_equal(c->append.base_offset, 7);
    assert_int_equal((int64_t)nothing->append.base_offset, -1);
    assert_int_equal(nothing->append.end_offset, 0);
    assert_int_equal(f->offloads, 0);
    assert_int_equal(f->streams.count, 3);
}

static void test_order_among_other_appends(void **state) {
    struct fixture *f = *state;
    f->hold_offloads = true;
    struct job *first = append_set(f, &(struct batch_spec){.count = 2, .value_size = 100000});
    struct job *second = append_set(f, &(struct batch_spec){.count = 3, .value_size = 100000, .codec = CODEC_SNAPPY});
    struct job *small = append_set(f, &(struct batch_spec){.count = 1});
    struct job *batch = fixture_append(f, &(struct batch_spec){.count = 5});
    struct job *bad = fixture_append_bytes(f, "12345678901234567890123456789", 29, 1);
    struct job *last = append_set(f, &(struct batch_spec){.count = 1, .value_size = 100000});
    assert_int_equal(f->offloads, 1); /* a partition converts one large set at a time */
    assert_true(bad->done && bad->result == ERR_CORRUPT_MESSAGE && bad->append.message);
    assert_false(first->done || second->done || small->done || batch->done || last->done);
    fixture_release(f);
    struct job *all[] = {first, second, small, batch, last};
    static const uint64_t offsets[] = {0, 2, 5, 6, 11};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_true(all[i]->done);
        assert_int_equal(all[i]->result, OK);
        assert_int_equal(all[i]->append.base_offset, offsets[i]);
    }
}

static void test_more_than_the_guess(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "compression.type", "gzip");
    uint8_t *zeros = mem_zalloc(&f->mem, (size_t)80 << 20);
    static const struct {
        size_t size;
        enum err expected;
    } cases[] = {{(size_t)32 << 20, OK}, {(size_t)80 << 20, ERR_MESSAGE_TOO_LARGE}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf batch, set;
        buf_init(&batch, &f->mem);
        buf_init(&set, &f->mem);
        struct batch_options o = BATCH_OPTIONS_DEFAULT;
        o.codec = CODEC_GZIP;
        struct batch_builder b;
        batch_builder_init(&b, &f->mem, &o);
        batch_builder_add(&b, NOW_MS, NULL, 0, zeros, cases[i].size, NULL, 0);
        assert_int_equal(batch_builder_finish(&b, &batch), OK);
        batch_builder_deinit(&b);
        struct message_set_down how = {.magic = 0, .max_bytes = SIZE_MAX / 2, .unpack_limit = (size_t)512 << 20};
        bool full;
        assert_int_equal(message_set_down_convert(batch.data, batch.size, &f->mem, &how, &set, &full), OK);
        unsigned before = f->offloads;
        struct job *j = fixture_append_bytes(f, set.data, set.size, 1);
        assert_true(j->done);
        assert_int_equal(j->result, cases[i].expected);
        assert_int_equal(f->offloads - before, 2); /* by the guess, then by the limit */
        if (j->result != OK) assert_non_null(j->append.message);
        buf_deinit(&batch);
        buf_deinit(&set);
    }
    mem_free(&f->mem, zeros);
}

/* ---- The budget, with conversions for readers ---- */

struct old_reader {
    struct fixture *f;
    struct slices records;
    size_t max_bytes;
    enum err result;
    bool done;
    unsigned *order, place;
};

static void reader_fiber(void *arg) {
    struct old_reader *r = arg;
    struct message_set_down how = {.magic = 1, .max_bytes = r->max_bytes};
    r->result = conversions_down(&r->f->conversions, &how, &r->records);
    r->place = (*r->order)++;
    r->done = true;
}

static void test_the_budget_is_kept_and_given_in_order(void **state) {
    struct fixture *f = *state;
    enum { READERS = 8 };
    struct old_reader readers[READERS];
    unsigned order = 0;
    uint64_t one = 0;
    f->hold_offloads = true;
    for (int i = 0; i < READERS; i++) {
        struct old_reader *r = &readers[i];
        *r = (struct old_reader){.f = f, .max_bytes = i == 5 ? (size_t)64 << 20 : 200000, .order = &order};
        slices_init(&r->records, &f->mem);
        size_t size;
        uint8_t *b = fixture_batch(f, &(struct batch_spec){.count = 2, .value_size = 50000}, &size);
        struct slab *s = slab_create(&f->mem, size, 16);
        memcpy(s->data, b, size);
        mem_free(&f->mem, b);
        slices_push(&r->records, slice_of(s, 0, size));
        slab_unref(s);
        fiber_spawn(&f->loop, "reader", reader_fiber, r);
        fixture_settle(f);
        if (i == 0) {
            one = f->conversions.used_bytes;
            assert_true(one > 200000);
            f->conversions.limit_bytes = 3 * one;
        }
        assert_true(f->conversions.used_bytes <= f->conversions.limit_bytes);
    }
    assert_int_equal(f->offloads, 3);
    /* One round at a time: number 5 is larger than the budget, and runs alone; nobody overtakes it. */
    static const unsigned under_way[] = {5, 6, 8, 8};
    for (size_t i = 0; i < ARRAY_LEN(under_way); i++) {
        waitq_wake_all(&f->held);
        fixture_settle(f);
        assert_int_equal(f->offloads, under_way[i]);
        bool alone = under_way[i] == 6;
        assert_true(alone ? f->conversions.used_bytes > 3 * one : f->conversions.used_bytes <= 3 * one);
    }
    for (unsigned i = 0; i < READERS; i++) {
        assert_true(readers[i].done);
        assert_int_equal(readers[i].result, OK);
        assert_int_equal(readers[i].place, i);
        assert_int_equal(readers[i].records.count, 1);
        struct message_set set;
        const char *why;
        const struct slice *s = &readers[i].records.items[0];
        assert_int_equal(message_set_parse(s->data, s->size, 100000, &set, &why), OK);
        assert_int_equal(set.count, 2);
        slices_deinit(&readers[i].records);
    }
    f->hold_offloads = false;
}

static void test_answers_are_small_while_much_waits_to_be_sent(void **state) {
    struct fixture *f = *state;
    struct old_reader readers[4];
    unsigned order = 0;
    f->conversions.limit_bytes = 600000;
    for (int i = 0; i < 4; i++) {
        struct old_reader *r = &readers[i];
        *r = (struct old_reader){.f = f, .max_bytes = 400000, .order = &order};
        slices_init(&r->records, &f->mem);
        size_t size;
        uint8_t *b = fixture_batch(f, &(struct batch_spec){.count = 300, .value_size = 1000}, &size);
        struct slab *s = slab_create(&f->mem, size, 16);
        memcpy(s->data, b, size);
        mem_free(&f->mem, b);
        slices_push(&r->records, slice_of(s, 0, size));
        slab_unref(s);
        if (i == 3) slices_deinit(&readers[0].records); /* one was sent */
        fiber_spawn(&f->loop, "reader", reader_fiber, r);
        fixture_settle(f);
        assert_true(r->done && r->result == OK);
        size_t got = r->records.size_bytes;
        assert_true(i == 2 ? got > 60000 && got <= CONVERSIONS_LITTLE : got > 300000);
    }
    for (int i = 1; i < 4; i++) slices_deinit(&readers[i].records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_small_sets_need_no_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_among_other_appends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_the_guess, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_budget_is_kept_and_given_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_are_small_while_much_waits_to_be_sent, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
