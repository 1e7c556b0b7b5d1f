/* The records of the cluster log: each kind there and back, its bytes (version 1, to be kept for ever), and whatever
 * else may lie there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "meta/meta_record.h"

static struct mem heap;

static const struct uuid some_id = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
#define UUID_BYTES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

#define GOLDEN_MAX 80
static const struct golden {
    size_t size;
    uint8_t bytes[GOLDEN_MAX];
} goldens[] = {
    /* registration: node 7 in rack "r1", endpoint "h:9" */
    {8 + 8, {1, 0, 1, 0, 8, 0, 0, 0, 14, 2, 'r', '1', 3, 'h', ':', '9'}},
    /* topic_create: "orders", factor 3, 12 partitions from stream 300, owned by incarnation 1 on node -1; a=1, b= */
    {8 + 38, {2, 0,  1,    0, 38, 0, 0, 0, UUID_BYTES, 6, 'o', 'r', 'd', 'e', 'r', 's',
              3, 12, 0xac, 2, 1,  1, 2, 1, 'a',        1, '1', 2,   'b', 'b', 0}},
    /* topic_delete */
    {8 + 16, {3, 0, 1, 0, 16, 0, 0, 0, UUID_BYTES}},
    /* topic_configure: removes a, sets b=x */
    {8 + 26, {4, 0, 1, 0, 26, 0, 0, 0, UUID_BYTES, 2, 1, 'a', 0, 2, 'b', 'b', 1, 1, 'x'}},
    /* recovered: from 1 to 2^20 + 1 on node 2; state entry 5 */
    {8 + 6, {5, 0, 1, 0, 6, 0, 0, 0, 1, 0x81, 0x80, 0x40, 4, 5}},
    /* producer_ids: 1000 from 128 */
    {8 + 4, {6, 0, 1, 0, 4, 0, 0, 0, 0x80, 1, 0xe8, 7}},
    /* forget_retired: below 2^20 + 1 */
    {8 + 3, {7, 0, 1, 0, 3, 0, 0, 0, 0x81, 0x80, 0x40}},
    /* partitions_add: 200 more to the 12 there are, from stream 300, owned by incarnation 1 on node 3 */
    {8 + 23, {8, 0, 1, 0, 23, 0, 0, 0, UUID_BYTES, 12, 0xc8, 1, 0xac, 2, 1, 6}},
    /* broker_configure: of all brokers; removes a, sets bb=x */
    {8 + 11, {9, 0, 1, 0, 11, 0, 0, 0, 1, 2, 1, 'a', 0, 2, 'b', 'b', 1, 1, 'x'}},
};
#define KINDS (sizeof(goldens) / sizeof(goldens[0]))

/* The record whose bytes goldens[kind - 1] are. */
static struct meta_record example(unsigned kind) {
    static struct meta_change created[] = {{{"a", 1}, {"1", 1}, false}, {{"bb", 2}, {"", 0}, false}};
    static struct meta_change changed[] = {{{"a", 1}, {"", 0}, true}, {{"bb", 2}, {"x", 1}, false}};
    struct meta_record r = {.kind = (enum meta_record_kind)kind};
    switch (r.kind) {
    case META_REGISTRATION:
        r.registration.node_id = 7;
        r.registration.rack = meta_text_of("r1");
        r.registration.endpoint = meta_text_of("h:9");
        break;
    case META_TOPIC_CREATE:
        r.topic_create.id = some_id;
        r.topic_create.name = meta_text_of("orders");
        r.topic_create.replication_factor = 3;
        r.topic_create.partition_count = 12;
        r.topic_create.first_stream.v = 300;
        r.topic_create.owner.v = 1;
        r.topic_create.owner_node = -1;
        r.changes = created;
        r.change_count = 2;
        break;
    case META_TOPIC_DELETE:
        r.topic_delete.id = some_id;
        break;
    case META_TOPIC_CONFIGURE:
        r.topic_configure.id = some_id;
        r.changes = changed;
        r.change_count = 2;
        break;
    case META_RECOVERED:
        r.recovered.from.v = 1;
        r.recovered.to.v = (1u << 20) + 1;
        r.recovered.to_node = 2;
        r.recovered.state_entry = 5;
        break;
    case META_PRODUCER_IDS:
        r.producer_ids.first = 128;
        r.producer_ids.count = 1000;
        break;
    case META_FORGET_RETIRED:
        r.forget_retired.oldest_needed.v = (1u << 20) + 1;
        break;
    case META_PARTITIONS_ADD:
        r.partitions_add.id = some_id;
        r.partitions_add.before = 12;
        r.partitions_add.count = 200;
        r.partitions_add.first_stream.v = 300;
        r.partitions_add.owner.v = 1;
        r.partitions_add.owner_node = 3;
        break;
    case META_BROKER_CONFIGURE:
        r.broker_configure.node_id = META_ALL_BROKERS;
        r.changes = changed;
        r.change_count = 2;
        break;
    }
    return r;
}

static void test_golden(void **state) {
    (void)state;
    for (unsigned kind = 1; kind <= KINDS; kind++) {
        const struct golden *g = &goldens[kind - 1];
        struct meta_record r = example(kind), back;
        struct buf b;
        buf_init(&b, &heap);
        meta_record_encode(&r, &b);
        assert_int_equal(b.size, g->size);
        assert_memory_equal(b.data, g->bytes, g->size);
        struct reader in = reader_of(g->bytes, g->size);
        assert_int_equal(meta_record_decode(&back, &heap, &in), OK);
        assert_int_equal(reader_left(&in), 0);
        assert_int_equal(back.kind, kind);
        b.size = 0;
        meta_record_encode(&back, &b);
        assert_int_equal(b.size, g->size);
        assert_memory_equal(b.data, g->bytes, g->size);
        meta_record_deinit(&back, &heap);
        buf_deinit(&b);
    }
}

static void test_fields(void **state) {
    (void)state;
    struct meta_record r;
    struct reader in = reader_of(goldens[1].bytes, goldens[1].size);
    assert_int_equal(meta_record_decode(&r, &heap, &in), OK);
    assert_memory_equal(r.topic_create.id.bytes, some_id.bytes, 16);
    assert_int_equal(r.topic_create.name.size, 6);
    assert_int_equal(r.topic_create.replication_factor, 3);
    assert_int_equal(r.topic_create.partition_count, 12);
    assert_int_equal(r.topic_create.first_stream.v, 300);
    assert_int_equal(r.topic_create.owner_node, -1);
    assert_int_equal(r.change_count, 2);
    assert_int_equal(r.changes[1].name.size, 2);
    meta_record_deinit(&r, &heap);
}

/* Several in one head, taken one by one. */
static void test_sequence(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, &heap);
    for (unsigned kind = KINDS; kind > 0; kind--) {
        struct meta_record r = example(kind);
        meta_record_encode(&r, &b);
    }
    struct reader in = reader_of(b.data, b.size);
    for (unsigned kind = KINDS; kind > 0; kind--) {
        struct meta_record r;
        assert_int_equal(meta_record_decode(&r, &heap, &in), OK);
        assert_int_equal(r.kind, kind);
        meta_record_deinit(&r, &heap);
    }
    assert_int_equal(reader_left(&in), 0);
    buf_deinit(&b);
}

static enum err decode_exact(const uint8_t *bytes, size_t size, struct meta_record *r) {
    uint8_t *exact = mem_alloc(&heap, size);
    memcpy(exact, bytes, size);
    uint64_t before = heap.allocated_bytes;
    struct reader in = reader_of(exact, size);
    enum err e = meta_record_decode(r, &heap, &in);
    assert_true(heap.allocated_bytes - before <= 64 + size * 64);
    if (e == OK) meta_record_deinit(r, &heap);
    assert_int_equal(heap.allocated_bytes, before);
    mem_free(&heap, exact);
    return e;
}

static void test_newer(void **state) {
    (void)state;
    uint8_t bytes[GOLDEN_MAX];
    struct meta_record r;
    memcpy(bytes, goldens[2].bytes, goldens[2].size);
    bytes[2] = 2; /* version */
    assert_int_equal(decode_exact(bytes, goldens[2].size, &r), ERR_VERSION);
    assert_int_equal(r.kind, META_TOPIC_DELETE);
    assert_int_equal(r.version, 2);
    bytes[2] = 1;
    bytes[0] = 10; /* kind */
    assert_int_equal(decode_exact(bytes, goldens[2].size, &r), ERR_VERSION);
    assert_int_equal(r.kind, 10);
    assert_int_equal(r.version, 1);
    bytes[0] = 0;
    assert_int_equal(decode_exact(bytes, goldens[2].size, &r), ERR_CORRUPT);
}

static void test_bad_bytes(void **state) {
    (void)state;
    struct meta_record r;
    uint8_t bytes[GOLDEN_MAX];
    for (size_t k = 0; k < KINDS; k++) {
        const struct golden *g = &goldens[k];
        for (size_t n = 0; n < g->size; n++) assert_int_equal(decode_exact(g->bytes, n, &r), ERR_TRUNCATED);
        /* A payload that is longer than what it says, or shorter than its frame. */
        memcpy(bytes, g->bytes, g->size);
        bytes[4]++;
        bytes[g->size] = 0;
        assert_int_equal(decode_exact(bytes, g->size + 1, &r), ERR_CORRUPT);
        bytes[4] = (uint8_t)(g->bytes[4] - 1);
        assert_int_equal(decode_exact(bytes, g->size, &r), ERR_CORRUPT);
        for (size_t i = 0; i < g->size; i++) {
            for (unsigned v = 0; v < 256; v++) {
                memcpy(bytes, g->bytes, g->size);
                bytes[i] = (uint8_t)v;
                enum err e = decode_exact(bytes, g->size, &r);
                assert_true(e == OK || e == ERR_TRUNCATED || e == ERR_CORRUPT || e == ERR_VERSION);
            }
        }
    }
    struct rng rng;
    rng_seed(&rng, 3);
    for (int i = 0; i < 50000; i++) {
        const struct golden *g = &goldens[rng_below(&rng, KINDS)];
        memcpy(bytes, g->bytes, g->size);
        for (uint64_t k = 1 + rng_below(&rng, 3); k > 0; k--)
            bytes[8 + rng_below(&rng, g->size - 8)] = (uint8_t)rng_next(&rng);
        enum err e = decode_exact(bytes, g->size, &r);
        assert_true(e == OK || e == ERR_CORRUPT);
    }
    /* A text with a NUL could not be shown. */
    memcpy(bytes, goldens[0].bytes, goldens[0].size);
    bytes[10] = 0;
    assert_int_equal(decode_exact(bytes, goldens[0].size, &r), ERR_CORRUPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_fields),    cmocka_unit_test(test_sequence),
        cmocka_unit_test(test_newer),  cmocka_unit_test(test_bad_bytes),
    };
    mem_init_heap(&heap);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
