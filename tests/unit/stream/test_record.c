/* Records, groups, and the blocks they are made in. */
#include "golden.h"

#include "base/crc32c.h"
#include "stream/block.h"

static const struct incarnation me = {77};

static struct record_header batch_of(uint64_t base, uint32_t size) {
    return (struct record_header){.payload_size = size,
                                  .type = STREAM_BATCH,
                                  .flags = STREAM_RECORD_ROLLS,
                                  .epoch = 3,
                                  .stream = {9},
                                  .base_offset = base,
                                  .end_offset = base + 2,
                                  .max_timestamp = -5};
}

static size_t make(uint8_t *out, const struct record_header *h, const char *payload, uint64_t block_id) {
    record_encode(out, h, crc32c(0, payload, h->payload_size), me, block_id);
    memcpy(out + RECORD_HEADER_SIZE, payload, h->payload_size);
    return record_size(h->payload_size);
}

static void a_record_comes_back(void **state) {
    (void)state;
    uint8_t bytes[128] = {0};
    struct record_header h = batch_of(100, 5), got;
    size_t size = make(bytes, &h, "hello", 4);
    const uint8_t *payload;
    assert_int_equal(record_decode(bytes, size, me, 4, &got, &payload), OK);
    assert_memory_equal(&got, &h, sizeof(h));
    assert_ptr_equal(payload, bytes + RECORD_HEADER_SIZE);
    record_peek(bytes, &got, &payload);
    assert_memory_equal(&got, &h, sizeof(h));
}

static void every_bit_of_a_record_counts(void **state) {
    (void)state;
    uint8_t bytes[128] = {0};
    struct record_header h = batch_of(100, 5), got;
    make(bytes, &h, "hello", 4);
    const uint8_t *payload;
    for (unsigned bit = 0; bit < 8 * (RECORD_HEADER_SIZE + 5); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(record_decode(bytes, sizeof(bytes), me, 4, &got, &payload), OK);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(record_decode(bytes, sizeof(bytes), me, 4, &got, &payload), OK);
}

static void a_record_belongs_to_its_place(void **state) {
    (void)state;
    uint8_t bytes[128] = {0};
    struct record_header h = batch_of(100, 5), got;
    size_t size = make(bytes, &h, "hello", 4);
    const uint8_t *payload;
    assert_int_equal(record_decode(bytes, size, (struct incarnation){78}, 4, &got, &payload), ERR_CORRUPT);
    assert_int_equal(record_decode(bytes, size, me, 5, &got, &payload), ERR_CORRUPT);
    for (size_t cut = 0; cut < RECORD_HEADER_SIZE + 5; cut++)
        assert_int_equal(record_decode(bytes, cut, me, 4, &got, &payload), ERR_TRUNCATED);
}

static void golden_record_and_group(void **state) {
    (void)state;
    uint8_t bytes[128] = {0};
    struct record_header h = batch_of(0x1122334455667788, 5);
    size_t size = make(bytes, &h, "hello", 0x0001000000000004);
    golden_check("record",
                 "05000000584b384301010000030000000900*7 88776655443322118a77665544332211fbff*7 68656c6c6f000000",
                 bytes, size);
    struct group_header g = {.kind = GROUP_RECORDS,
                             .incarnation = me,
                             .position = 0x123456000,
                             .block_id = 0x0001000000000004,
                             .size = 120,
                             .record_count = 1,
                             .trim_position = 0x3000};
    uint8_t group[GROUP_HEADER_SIZE];
    group_encode(group, &g);
    golden_check("group", "4f585747010001004d00*8 604523010000000400*5 0100780000000100*4 3000*18 4a0bf573", group,
                 sizeof(group));
    g = (struct group_header){.kind = GROUP_PAD, .incarnation = me, .position = 0x5000, .size = 0x2000};
    group_encode(group, &g);
    golden_check("pad", "4f585747010002004d00*8 5000*15 2000*26 dbd5fa46", group, sizeof(group));
}

static void a_group_header_is_told_from_others(void **state) {
    (void)state;
    uint8_t bytes[GROUP_HEADER_SIZE], other[GROUP_HEADER_SIZE];
    struct group_header g = {.kind = GROUP_RECORDS,
                             .incarnation = me,
                             .position = 8192,
                             .block_id = 7,
                             .size = 200,
                             .record_count = 2,
                             .trim_position = 4096},
                        got;
    group_encode(bytes, &g);
    assert_int_equal(group_decode(bytes, sizeof(bytes), &got), OK);
    group_encode(other, &got);
    assert_memory_equal(other, bytes, sizeof(bytes));
    assert_true(got.kind == GROUP_RECORDS && got.position == 8192 && got.block_id == 7 && got.size == 200 &&
                got.record_count == 2 && got.trim_position == 4096);
    for (size_t cut = 0; cut < sizeof(bytes); cut++) assert_int_equal(group_decode(bytes, cut, &got), ERR_TRUNCATED);
    for (unsigned bit = 0; bit < 8 * GROUP_HEADER_SIZE; bit++) {
        memcpy(other, bytes, sizeof(other));
        other[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(group_decode(other, sizeof(other), &got), bit < 32 ? ERR_FOREIGN : ERR_CORRUPT);
    }
    le16_put(bytes + 4, GROUP_VERSION + 1);
    le32_put(bytes + 60, crc32c(0, bytes, 60));
    assert_int_equal(group_decode(bytes, sizeof(bytes), &got), ERR_VERSION);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(group_decode(bytes, sizeof(bytes), &got), ERR_FOREIGN);
}

static void blocks_are_cut_from_a_slab(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct commit_slab *slab = commit_slab_create(&m, 3 * ENV_FILE_ALIGN);
    struct block *blocks[3];
    unsigned count = 0;
    char payload[1000];
    memset(payload, 'p', sizeof(payload));
    while (slab->slab.size - slab->filled >= ENV_FILE_ALIGN) {
        struct block *b = block_create(&m, slab, (1ull << 48) | (count + 1), me, 10);
        assert_int_equal(block_lane(b), 1);
        assert_int_equal(block_sequence(b), count + 1);
        for (unsigned i = 0; i < 3; i++) {
            struct record_header h = batch_of(i * 2, sizeof(payload));
            assert_true(block_fits(b, sizeof(payload)));
            const uint8_t *at = block_append(b, &h, (const uint8_t *)payload, crc32c(0, payload, sizeof(payload)));
            assert_memory_equal(at, payload, sizeof(payload));
        }
        block_seal(b, 20);
        assert_int_equal(b->padded, ENV_FILE_ALIGN);
        assert_int_equal((uintptr_t)b->data % ENV_FILE_ALIGN, 0);
        blocks[count++] = b;
    }
    assert_int_equal(count, 3);
    for (unsigned k = 0; k < count; k++) {
        size_t position = 0, n = 0;
        struct record_header h, whole;
        const uint8_t *p, *q;
        while (block_next(blocks[k], &position, &h, &p)) {
            assert_int_equal(h.base_offset, 2 * n++);
            const uint8_t *record = p - RECORD_HEADER_SIZE;
            assert_int_equal(record_decode(record, record_size(h.payload_size), me, blocks[k]->id, &whole, &q), OK);
        }
        assert_int_equal(n, 3);
        block_destroy(blocks[k]);
    }
    slab_unref(&slab->slab);
    assert_int_equal(m.allocated_bytes, 0);
}

static void a_block_takes_what_fits_and_no_more(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct commit_slab *slab = commit_slab_create(&m, 2 * ENV_FILE_ALIGN);
    struct block *b = block_create(&m, slab, 1, me, 0);
    size_t most = 2 * ENV_FILE_ALIGN - GROUP_HEADER_SIZE - RECORD_HEADER_SIZE;
    assert_true(block_fits(b, most));
    assert_false(block_fits(b, most + 1));
    uint8_t *payload = mem_zalloc(&m, most);
    struct record_header h = batch_of(0, (uint32_t)most);
    (void)block_append(b, &h, payload, crc32c(0, payload, most));
    assert_false(block_fits(b, 0));
    block_seal(b, 0);
    assert_int_equal(b->padded, 2 * ENV_FILE_ALIGN);
    assert_int_equal(slab->filled, slab->slab.size);
    mem_free(&m, payload);
    block_destroy(b);
    slab_unref(&slab->slab);
    assert_int_equal(m.allocated_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_comes_back),
        cmocka_unit_test(every_bit_of_a_record_counts),
        cmocka_unit_test(a_record_belongs_to_its_place),
        cmocka_unit_test(golden_record_and_group),
        cmocka_unit_test(a_group_header_is_told_from_others),
        cmocka_unit_test(blocks_are_cut_from_a_slab),
        cmocka_unit_test(a_block_takes_what_fits_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
