/* Batches that are made in place are the ones that the broker reads: header, checksum, records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "cli/bench_batch.h"
#include "cli/bench_work.h"

static void batch_check(const struct bench_batch *b, struct mem *m, int count, const uint8_t *key, size_t value_size) {
    struct batch_header h;
    struct batch_check check;
    assert_int_equal(batch_parse(b->data, b->size, &h), OK);
    assert_int_equal(h.size, b->size);
    assert_int_equal(h.record_count, count);
    assert_int_equal(
        batch_validate_records(&h, m, 1 << 24, BATCH_CHECK_MAX_TIMESTAMP | (key ? BATCH_CHECK_KEYS : 0), &check), OK);
    struct batch_iterator it;
    struct batch_record r;
    assert_int_equal(batch_iterator_init(&it, m, &h, 1 << 24), OK);
    for (int i = 0; i < count; i++) {
        assert_int_equal(batch_iterator_next(&it, &r), OK);
        assert_int_equal(r.timestamp, 1700000000000 + i * 3);
        assert_int_equal(r.value_size, value_size);
        assert_int_equal(be64_get(r.value), 77 + i);
        for (size_t k = BENCH_STAMP_SIZE; k < value_size; k++) assert_int_equal(r.value[k], (uint8_t)(i + (int)k));
        assert_int_equal(r.key_size, key ? (int)KEY_SIZE : -1);
        if (key) assert_memory_equal(r.key, key, KEY_SIZE);
        assert_int_equal(r.header_count, 0);
    }
    assert_int_equal(batch_iterator_next(&it, &r), ERR_NOT_FOUND);
    batch_iterator_deinit(&it);
}

static void batch_fill(struct bench_batch *b, int count, const uint8_t *key, size_t value_size) {
    uint8_t payload[1024];
    for (int i = 0; i < count; i++) {
        for (size_t k = BENCH_STAMP_SIZE; k < value_size; k++) payload[k - BENCH_STAMP_SIZE] = (uint8_t)(i + (int)k);
        bench_batch_add(b, 1700000000000 + i * 3, key, key ? KEY_SIZE : 0, (uint64_t)(77 + i), payload,
                        value_size - BENCH_STAMP_SIZE, (uint64_t)i + 1000, true);
    }
}

static void test_round_trip(void **state) {
    (void)state;
    static const uint8_t key[KEY_SIZE] = "01234567";
    const size_t sizes[] = {8, 9, 63, 64, 100, 1000};
    const int counts[] = {1, 2, 65, 300};
    struct mem m;
    mem_init_heap(&m);
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct bench_batch_pool pool;
        bench_batch_pool_init(&pool, &m, 16384, (enum kafka_codec)codec);
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
                const uint8_t *with = (i + k) % 2 ? key : NULL;
                struct bench_batch *b = bench_batch_take(&pool);
                batch_fill(b, counts[k], with, sizes[i]);
                assert_int_equal(b->payload_bytes, (size_t)counts[k] * (sizes[i] + (with ? KEY_SIZE : 0)));
                assert_int_equal(b->dues[counts[k] - 1], counts[k] - 1 + 1000);
                assert_int_equal(bench_batch_finish(b, -1, -1, -1), OK);
                batch_check(b, &m, counts[k], with, sizes[i]);
                bench_batch_release(b);
            }
        }
        assert_int_equal(pool.made, 1); /* one after the other in the same place */
        bench_batch_pool_deinit(&pool);
    }
}

static void test_header(void **state) {
    (void)state;
    struct mem m;
    struct bench_batch_pool pool;
    struct batch_header h;
    mem_init_heap(&m);
    bench_batch_pool_init(&pool, &m, 16384, CODEC_NONE);
    struct bench_batch *b = bench_batch_take(&pool);
    batch_fill(b, 5, NULL, 10);
    assert_int_equal(bench_batch_finish(b, 123456789012, 7, INT32_MAX - 2), OK);
    assert_int_equal(batch_parse(b->data, b->size, &h), OK);
    assert_int_equal(h.producer_id, 123456789012);
    assert_int_equal(h.producer_epoch, 7);
    assert_int_equal(h.base_sequence, INT32_MAX - 2);
    assert_int_equal(batch_last_sequence(&h), 1); /* sequence numbers begin anew */
    assert_int_equal(h.base_timestamp, 1700000000000);
    assert_int_equal(h.max_timestamp, 1700000000012);
    bench_batch_release(b);
    bench_batch_pool_deinit(&pool);
}

/* A batch is never larger than the limit, but for one record that alone is. */
static void test_limit(void **state) {
    (void)state;
    struct mem m;
    struct bench_batch_pool pool;
    mem_init_heap(&m);
    bench_batch_pool_init(&pool, &m, 4096, CODEC_NONE);
    struct bench_batch *b = bench_batch_take(&pool);
    int n = 0;
    while (bench_batch_fits(b, 0, 100)) {
        batch_fill(b, 1, NULL, 100);
        n++;
    }
    assert_in_range(n, 25, 40);
    assert_true(b->size <= 4096 && b->size > 3900);
    bench_batch_release(b);
    static const uint8_t large[10000];
    b = bench_batch_take(&pool);
    assert_true(bench_batch_fits(b, 0, sizeof(large)));
    bench_batch_add(b, 5, NULL, 0, 0, large, sizeof(large), 0, false);
    assert_false(bench_batch_fits(b, 0, 8));
    assert_int_equal(bench_batch_finish(b, -1, -1, -1), OK);
    assert_true(b->size > sizeof(large));
    bench_batch_release(b);
    bench_batch_pool_deinit(&pool);
}

/* What a socket still holds is not written over. */
static void test_slices_keep_it(void **state) {
    (void)state;
    struct mem m;
    struct bench_batch_pool pool;
    mem_init_heap(&m);
    bench_batch_pool_init(&pool, &m, 4096, CODEC_NONE);
    struct bench_batch *b = bench_batch_take(&pool);
    batch_fill(b, 30, NULL, 100);
    assert_int_equal(bench_batch_finish(b, -1, -1, -1), OK);
    struct slice s = slice_of(&b->slab, 0, b->size);
    bench_batch_release(b);
    struct bench_batch *other = bench_batch_take(&pool);
    assert_ptr_not_equal(other, b);
    batch_check(b, &m, 30, NULL, 100);
    slice_unref(&s);
    struct bench_batch *again = bench_batch_take(&pool);
    assert_ptr_equal(again, b);
    bench_batch_release(again);
    bench_batch_release(other);
    assert_int_equal(pool.made, 2);
    bench_batch_pool_deinit(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_slices_keep_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
