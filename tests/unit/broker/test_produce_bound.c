/* What decoding a Produce request may take is known before it is decoded, for honest requests and for those that lie about their counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

static struct mem mem;

static void make_body(int16_t version, size_t topics, size_t partitions, size_t records, struct buf *out) {
    struct arena a;
    arena_init(&a, &mem);
    struct kafka_produce_request r;
    kafka_produce_request_init(&r);
    r.acks = -1;
    r.topic_data.items = kafka_produce_request_topic_new(&a, topics);
    r.topic_data.count = (int32_t)topics;
    for (size_t t = 0; t < topics; t++) {
        struct kafka_produce_request_topic *topic = &r.topic_data.items[t];
        if (version < 13) topic->name = kafka_string_of("topic");
        topic->partition_data.items = kafka_produce_request_partition_new(&a, partitions);
        topic->partition_data.count = (int32_t)partitions;
        for (size_t p = 0; p < partitions; p++) {
            topic->partition_data.items[p].records = (struct kafka_records){.data = arena_zalloc(&a, records + 1), .size = (int32_t)records};
        }
    }
    struct outbuf o;
    outbuf_init(&o, &mem);
    assert_int_equal(kafka_produce_request_encode(&r, version, &o), OK);
    struct slices s;
    slices_init(&s, &mem);
    outbuf_finish(&o, &s);
    for (size_t i = 0; i < s.count; i++) buf_put(out, s.items[i].data, s.items[i].size);
    slices_deinit(&s);
    outbuf_deinit(&o);
    arena_deinit(&a);
}

static enum err decode(int16_t version, const uint8_t *data, size_t size, size_t *held) {
    struct arena a;
    arena_init(&a, &mem);
    struct kafka_produce_request r;
    enum err e = kafka_produce_request_decode(&r, version, data, size, &a);
    *held = a.held_bytes;
    arena_deinit(&a);
    return e;
}

static void test_honest_requests(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{1, 1, 0}, {1, 1, 1 << 20}, {3, 100, 100}, {1, 10000, 1}, {2000, 1, 5}, {0, 0, 0}};
    for (int16_t version = 3; version <= 13; version++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct buf b;
            buf_init(&b, &mem);
            make_body(version, sizes[i][0], sizes[i][1], sizes[i][2], &b);
            size_t bound = produce_decode_bound(version, b.data, b.size), held;
            assert_int_equal(decode(version, b.data, b.size, &held), OK);
            assert_in_range(held, 0, bound);
            /* Records are not counted: they are not copied. */
            size_t parts = sizes[i][0] * (sizes[i][1] + 1);
            assert_in_range(bound, 0, 3 * ARENA_CHUNK_MAX + 2000 * parts);
            buf_deinit(&b);
        }
    }
}

static void test_liars(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 3);
    size_t refused = 0;
    for (unsigned round = 0; round < 4000; round++) {
        int16_t version = (int16_t)(3 + rng_below(&rng, 11));
        struct buf b;
        buf_init(&b, &mem);
        make_body(version, 1 + rng_below(&rng, 3), rng_below(&rng, 5), rng_below(&rng, 300), &b);
        for (uint64_t n = rng_below(&rng, 4); n > 0; n--) b.data[rng_below(&rng, b.size)] = (uint8_t)rng_next(&rng);
        if (rng_chance(&rng, 0.3)) b.size = rng_below(&rng, b.size);
        size_t bound = produce_decode_bound(version, b.data, b.size), held;
        if (decode(version, b.data, b.size, &held) != OK) refused++;
        assert_in_range(held, 0, bound);
        buf_deinit(&b);
    }
    assert_in_range(refused, 500, 3900);
}

/* A count that the rest of the frame could hold, with nothing behind it that makes sense: what it makes the decoder take is foreseen. */
static void test_a_large_claim(void **state) {
    (void)state;
    enum { SIZE = 4 << 20 };
    uint8_t *body = mem_zalloc(&mem, SIZE);
    static const uint8_t head[] = {0, 0, 1, 0, 0, 0, 0, 0x80, 0x80, 0x40}; /* version 9: about a million topics of no name and no partition */
    memcpy(body, head, sizeof(head));
    memset(body + sizeof(head), 1, SIZE - sizeof(head));
    size_t bound = produce_decode_bound(9, body, SIZE), held;
    enum err e = decode(9, body, SIZE, &held);
    (void)e;
    assert_in_range(held, 0, bound);
    assert_in_range(bound, 1 << 20, (size_t)1 << 30);
    mem_free(&mem, body);
}

int main(void) {
    mem_init_heap(&mem);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_honest_requests),
        cmocka_unit_test(test_liars),
        cmocka_unit_test(test_a_large_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
