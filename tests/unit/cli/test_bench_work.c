/* The timetable, the keys and the bytes of the load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "cli/bench_work.h"
#include "kafka/compress.h"
#include "rt/env.h"

/* Together, the producers send exactly what is due, none twice, in order. */
static void test_schedule(void **state) {
    (void)state;
    const uint64_t rates[] = {1, 3, 999, 1000000, 12345678901};
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        for (uint64_t parties = 1; parties <= 3; parties++) {
            uint64_t last = 0, counted = 0, second = NS_PER_S * 5;
            struct schedule s[3];
            for (uint64_t p = 0; p < parties; p++) s[p] = (struct schedule){second, rates[i], 1, p, parties};
            for (uint64_t n = 0; n < 3000; n++) {
                uint64_t due = schedule_due_ns(&s[n % parties], n / parties);
                assert_true(due >= last && due >= second);
                assert_true((due - second) * (unsigned __int128)rates[i] <= (unsigned __int128)n * NS_PER_S);
                assert_true((due - second + 1) * (unsigned __int128)rates[i] > (unsigned __int128)n * NS_PER_S);
                if (due < second + NS_PER_S) counted++;
                last = due;
            }
            assert_int_equal(counted, rates[i] < 3000 ? rates[i] : 3000);
        }
    }
}

static void test_schedule_of_bytes(void **state) {
    (void)state;
    struct schedule s = {1000, 50000000, 1024, 0, 1};
    assert_int_equal(schedule_due_ns(&s, 0), 1000);
    assert_int_equal(schedule_due_ns(&s, 1), 1000 + 20480);
    /* A day later it still is exact: 86,400 s of 50 MB/s are 4,218,750,000 records. */
    assert_int_equal(schedule_due_ns(&s, 4218750000ull), 1000 + 86400 * NS_PER_S);
    s.rate = 0;
    assert_int_equal(schedule_due_ns(&s, 77), 1000);
}

static void test_keys(void **state) {
    (void)state;
    struct mem m;
    struct keys k;
    struct rng rng;
    static uint64_t counts[100];
    const uint64_t draws = 200000;
    mem_init_heap(&m);
    rng_seed(&rng, 11);
    keys_init(&k, &m, KEY_UNIFORM, 100);
    for (uint64_t i = 0; i < draws; i++) counts[keys_draw(&k, &rng)]++;
    for (size_t i = 0; i < 100; i++) assert_in_range(counts[i], 1700, 2300);
    keys_deinit(&k, &m);
    memset(counts, 0, sizeof(counts));
    keys_init(&k, &m, KEY_ZIPF, 100);
    for (uint64_t i = 0; i < draws; i++) {
        uint64_t key = keys_draw(&k, &rng);
        assert_true(key < 100);
        counts[key]++;
    }
    /* The harmonic sum of 100 is 5.18738: key 0 takes a share of 1 / 5.18738. */
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t want = (uint64_t)((double)draws / 5.18738 / (double)(i + 1));
        assert_in_range(counts[i], want - want / 8, want + want / 8);
    }
    keys_deinit(&k, &m);
    keys_init(&k, &m, KEY_ZIPF, 1);
    assert_int_equal(keys_draw(&k, &rng), 0);
    keys_deinit(&k, &m);
    uint8_t text[KEY_SIZE];
    key_text(0xbeef12, text);
    assert_memory_equal(text, "00beef12", KEY_SIZE);
}

static void test_payload_does_not_repeat(void **state) {
    (void)state;
    struct mem m;
    struct payload p, same;
    struct payload_walk w = {0}, v = {0};
    mem_init_heap(&m);
    payload_init(&p, &m, 5, 0, 1000, false);
    payload_init(&same, &m, 5, 0, 1000, false);
    assert_memory_equal(p.pool, same.pool, PAYLOAD_POOL_BYTES);
    const uint8_t *first = payload_next(&p, &w, 1000), *before = first;
    size_t n = 1;
    while (w.lap == 0) {
        const uint8_t *next = payload_next(&p, &w, 1000);
        if (w.lap > 0) break;
        assert_true(next == before + 1000); /* what was given is not given again within a lap */
        assert_true(next + 1000 <= p.pool + PAYLOAD_POOL_BYTES + p.size_max);
        before = next;
        n++;
    }
    assert_int_equal(n, PAYLOAD_POOL_BYTES / 1000 + 1);
    assert_ptr_not_equal(payload_next(&p, &v, 1000) + 61, first); /* v is another walk, at its beginning */
    assert_int_equal(w.at, 1000 + 61);
    /* Random bytes do not compress, and another seed gives others. */
    struct buf packed;
    buf_init(&packed, &m);
    assert_int_equal(kafka_compress(CODEC_ZSTD, COMPRESS_LEVEL_DEFAULT, p.pool, 1 << 20, &packed), OK);
    assert_true(packed.size > (1 << 20));
    payload_deinit(&same, &m);
    payload_init(&same, &m, 6, 0, 1000, false);
    assert_true(memcmp(p.pool, same.pool, 1000) != 0);
    payload_deinit(&same, &m);
    payload_deinit(&p, &m);
    buf_deinit(&packed);
}

static void test_payload_compressibility(void **state) {
    (void)state;
    struct mem m;
    struct payload p;
    struct payload_walk w = {0};
    mem_init_heap(&m);
    for (unsigned percent = 0; percent <= 100; percent += 25) {
        struct buf packed;
        buf_init(&packed, &m);
        payload_init(&p, &m, 5, percent, 100, true);
        assert_int_equal(kafka_compress(CODEC_ZSTD, COMPRESS_LEVEL_DEFAULT, p.pool, 1 << 20, &packed), OK);
        double share = (double)packed.size / (1 << 20), want = (100.0 - percent) / 100;
        assert_true(share > want - 0.02 && share < want + 0.08);
        assert_ptr_equal(payload_next(&p, &w, 100), payload_next(&p, &w, 50)); /* repeat */
        payload_deinit(&p, &m);
        buf_deinit(&packed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_schedule_of_bytes),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_payload_does_not_repeat),
        cmocka_unit_test(test_payload_compressibility),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
