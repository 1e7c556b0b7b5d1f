/* What lies in objects: keys, pieces and their index, data objects, heads of ledger entries. */
#include "golden.h"

#include "base/crc32c.h"
#include "kafka/batch.h"
#include "stream/object.h"

static struct mem m;

static int begin(void **state) {
    (void)state;
    mem_init_heap(&m);
    return 0;
}
static int end(void **state) {
    (void)state;
    return m.allocated_bytes == 0 ? 0 : -1;
}

/* A batch of one record at that offset, with a value of `size` bytes. */
static struct slice batch_at(int64_t offset, size_t size) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = offset;
    struct batch_builder b;
    struct buf out;
    buf_init(&out, &m);
    batch_builder_init(&b, &m, &o);
    uint8_t *value = mem_alloc(&m, size + 1);
    memset(value, (int)('a' + offset % 26), size);
    batch_builder_add(&b, 1000 + offset, "k", 1, value, size, NULL, 0);
    assert_int_equal(batch_builder_finish(&b, &out), OK);
    batch_builder_deinit(&b);
    mem_free(&m, value);
    struct slab *slab = slab_create(&m, out.size, 16);
    memcpy(slab->data, out.data, out.size);
    struct slice s = slice_of(slab, 0, out.size);
    slab_unref(slab);
    buf_deinit(&out);
    return s;
}

static void keys_name_objects_and_are_read_back(void **state) {
    (void)state;
    char key[OBJECT_KEY_MAX];
    struct object_id got, id = {{0x1f}, 42, OBJECT_LEDGER_ENTRY};
    object_key(key, "gen", id);
    assert_string_equal(key, "gen/ledger/000000000000001f/00000000000000000042");
    assert_true(object_key_parse(key, "gen", &got));
    assert_true(object_id_equal(got, id));
    id.kind = OBJECT_DATA;
    object_key(key, "gen", id);
    assert_string_equal(key, "gen/data/000000000000001f/00000000000000000042");
    assert_true(object_key_parse(key, "gen", &got));
    assert_true(object_id_equal(got, id));
    static const char *const others[] = {"gen/cluster/00000000000000000042",
                                         "other/data/000000000000001f/00000000000000000042",
                                         "gen/data/000000000000001f/0000000000000000042",
                                         "gen/data/000000000000001g/00000000000000000042",
                                         "gen/data/000000000000001f/0000000000000000004x",
                                         "gen/data/0x0000000000001f/00000000000000000042",
                                         "gen/data/000000000000001F/00000000000000000042",
                                         "gen/data/000000000000001f/+0000000000000000042",
                                         "gen/data/000000000000001f/99999999999999999999",
                                         "gen/data/"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) assert_false(object_key_parse(others[i], "gen", &got));
}

static uint8_t *piece_bytes(struct object_piece *p, uint64_t *size) {
    uint32_t crc;
    *size = object_piece_finish(p, &crc);
    uint8_t *all = mem_alloc(&m, (size_t)*size), *at = all + p->index_size;
    memcpy(all, p->index, p->index_size);
    for (size_t i = 0; i < p->parts.count; at += p->parts.items[i].size, i++)
        memcpy(at, p->parts.items[i].data, p->parts.items[i].size);
    assert_int_equal(at - all, *size);
    assert_int_equal(crc32c(0, all, (size_t)*size), crc);
    return all;
}

static void a_piece_holds_its_batches(void **state) {
    (void)state;
    /* Small ones are gathered, large ones are not; several blocks. */
    static const size_t sizes[] = {10, 5000, 20, 30, 300000, 300000, 8190, 8200, 1, 600000, 5, 5};
    struct object_piece p;
    object_piece_init(&p, &m);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        object_piece_add(&p, batch_at((int64_t)(50 + i), sizes[i]), 50 + i, 51 + i, (int64_t)(1050 + i));
    assert_int_equal(p.block_count, 3);
    assert_int_equal(p.first_offset, 50);
    assert_int_equal(p.end_offset, 50 + ARRAY_LEN(sizes));
    assert_int_equal(p.max_timestamp, 1050 + ARRAY_LEN(sizes) - 1);
    uint64_t size;
    uint8_t *all = piece_bytes(&p, &size);
    struct object_block blocks[3];
    assert_int_equal(object_index_decode(all, (size_t)size, 3, size, blocks), OK);
    uint64_t offset = 50;
    for (unsigned b = 0; b < 3; b++) {
        assert_int_equal(crc32c(0, all + blocks[b].position, blocks[b].size), blocks[b].crc);
        assert_int_equal(blocks[b].first_offset, offset);
        for (size_t at = 0; at < blocks[b].size;) {
            struct batch_header h;
            assert_int_equal(batch_parse(all + blocks[b].position + at, blocks[b].size - at, &h), OK);
            assert_int_equal(h.base_offset, offset++);
            assert_true(h.size > sizes[offset - 51]);
            at += h.size;
        }
        assert_int_equal(blocks[b].end_offset, offset);
    }
    mem_free(&m, all);
    object_piece_deinit(&p);
}

static void an_index_is_checked(void **state) {
    (void)state;
    struct object_piece p;
    object_piece_init(&p, &m);
    for (unsigned i = 0; i < 3; i++) object_piece_add(&p, batch_at(i, 600000), i, i + 1, 5);
    uint64_t size;
    uint8_t *all = piece_bytes(&p, &size);
    size_t index_size = object_index_size(3);
    struct object_block blocks[4];
    for (size_t cut = 0; cut < index_size; cut++)
        assert_int_equal(object_index_decode(all, cut, 3, size, blocks), ERR_TRUNCATED);
    for (size_t bit = 0; bit < 8 * (index_size - 4); bit++) {
        all[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(object_index_decode(all, (size_t)size, 3, size, blocks), ERR_CORRUPT);
        all[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(object_index_decode(all, (size_t)size, 2, size, blocks), ERR_CORRUPT);
    assert_int_equal(object_index_decode(all, (size_t)size, 3, size - 1, blocks), ERR_CORRUPT);
    assert_int_equal(object_index_decode(all, (size_t)size, 3, size + 1, blocks), ERR_CORRUPT);
    /* With a right checksum, too, offsets and positions must be in order. */
    static const size_t fields[] = {0, 8, 24, 32, 40, 48, 64, 72};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        uint8_t *copy = mem_alloc(&m, index_size);
        memcpy(copy, all, index_size);
        le32_put(copy + fields[i], le32_get(copy + fields[i]) + 7);
        le32_put(copy + index_size - 8, crc32c(0, copy, index_size - 8));
        assert_int_equal(object_index_decode(copy, index_size, 3, size, blocks), ERR_CORRUPT);
        mem_free(&m, copy);
    }
    mem_free(&m, all);
    object_piece_deinit(&p);
}

static void golden_piece_and_data_header(void **state) {
    (void)state;
    struct object_piece p;
    object_piece_init(&p, &m);
    object_piece_add(&p, batch_at(7, 3), 7, 8, 1007);
    object_piece_add(&p, batch_at(8, 4), 8, 9, 1008);
    uint64_t size;
    uint8_t *all = piece_bytes(&p, &size);
    golden_check(
        "piece",
        "0700*7 0900*7 f00300*6 3000*7 9100000054831511c3c053bf00*11 070000003cff*4 02de1c898800*12 03ef00*6 03efff*14 0000000114"
        "000000026b0668686800*8 080000003dff*4 02ad95215000*12 03f000*6 03f0ff*14 0000000116000000026b0869*4 00",
        all, (size_t)size);
    mem_free(&m, all);
    object_piece_deinit(&p);
    uint8_t header[OBJECT_DATA_HEADER];
    object_data_header(header, (struct object_id){{0x400001}, 5, OBJECT_DATA}, (struct stream_id){0x0102030405060708},
                       0x1234567);
    golden_check("data", "4f5844540200000001004000*5 0500*7 08070605040302016745230100*24 0f99247c", header,
                 sizeof(header));
    struct object_id id;
    struct stream_id stream;
    assert_int_equal(object_data_header_decode(header, sizeof(header), &id, &stream, &size), OK);
    assert_true(id.creator.v == 0x400001 && id.number == 5 && id.kind == OBJECT_DATA &&
                stream.v == 0x0102030405060708 && size == 0x1234567);
    assert_int_equal(object_data_header_decode(header, sizeof(header) - 1, &id, &stream, &size), ERR_TRUNCATED);
    for (unsigned bit = 0; bit < 8 * sizeof(header); bit++) {
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(object_data_header_decode(header, sizeof(header), &id, &stream, &size),
                         bit < 32 ? ERR_FOREIGN : ERR_CORRUPT);
        header[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* The version before was of one stream alone. */
    header[4] = 1;
    le32_put(header + 60, crc32c(0, header, 60));
    assert_int_equal(object_data_header_decode(header, sizeof(header), &id, &stream, &size), OK);
    assert_true(stream.v == 0x0102030405060708);
    memset(header + 24, 0, 8);
    le32_put(header + 60, crc32c(0, header, 60));
    assert_int_equal(object_data_header_decode(header, sizeof(header), &id, &stream, &size), ERR_CORRUPT);
    header[4] = 2;
    le32_put(header + 60, crc32c(0, header, 60));
    assert_int_equal(object_data_header_decode(header, sizeof(header), &id, &stream, &size), OK);
    header[4] = 3;
    le32_put(header + 60, crc32c(0, header, 60));
    assert_int_equal(object_data_header_decode(header, sizeof(header), &id, &stream, &size), ERR_VERSION);
}

/* Blocks that go over from one piece into another keep their bytes and checksums; small ones are joined. */
static void blocks_go_over_as_they_are(void **state) {
    (void)state;
    struct object_piece from, to, whole;
    object_piece_init(&to, &m);
    object_piece_init(&whole, &m);
    uint64_t offset = 0;
    for (unsigned k = 0; k < 5; k++) {
        object_piece_init(&from, &m);
        for (unsigned i = 0; i <= k; i++, offset++) {
            object_piece_add(&from, batch_at((int64_t)offset, 100), offset, offset + 1, (int64_t)offset + 1000);
            object_piece_add(&whole, batch_at((int64_t)offset, 100), offset, offset + 1, (int64_t)offset + 1000);
        }
        uint64_t size;
        uint8_t *all = piece_bytes(&from, &size);
        struct object_block *blocks = mem_alloc(&m, from.block_count * sizeof(*blocks));
        assert_int_equal(object_index_decode(all, (size_t)size, (uint32_t)from.block_count, size, blocks), OK);
        for (size_t i = 0; i < from.block_count; i++)
            object_piece_add_block(&to, slice_borrow(all + blocks[i].position, blocks[i].size), &blocks[i]);
        mem_free(&m, blocks);
        mem_free(&m, all);
        object_piece_deinit(&from);
    }
    uint64_t size, whole_size;
    uint8_t *all = piece_bytes(&to, &size), *expected = piece_bytes(&whole, &whole_size);
    assert_int_equal(to.block_count, 1);
    assert_int_equal(size, whole_size);
    assert_memory_equal(all, expected, (size_t)size);
    mem_free(&m, all);
    mem_free(&m, expected);
    object_piece_deinit(&to);
    object_piece_deinit(&whole);
}

static void make_head(struct buf *out) {
    struct object_head h = {.section_count = 2, .state_count = 1, .closed = true};
    memset(h.wal_id, 0xab, sizeof(h.wal_id));
    object_head_begin(out, &h);
    struct stream_state delta;
    state_init_delta(&delta, &m, 10);
    state_apply_batch(&delta, &(struct state_batch){.base_offset = 10,
                                                    .end_offset = 14,
                                                    .first_timestamp = 1000,
                                                    .max_timestamp = 1003,
                                                    .size_bytes = 500,
                                                    .leader_epoch = 2,
                                                    .producer_id = 6,
                                                    .producer_epoch = 1,
                                                    .first_sequence = 20,
                                                    .last_sequence = 23});
    state_add_range(&delta, &(struct state_range){.object = {{0}, OBJECT_THIS_ENTRY, OBJECT_LEDGER_ENTRY},
                                                  .first_offset = 10,
                                                  .end_offset = 14,
                                                  .max_timestamp = 1003,
                                                  .position = 0,
                                                  .size_bytes = 548,
                                                  .block_count = 1});
    object_head_section(out, (struct stream_id){3}, 5, OBJECT_APPENDED, &delta);
    object_head_section(out, (struct stream_id){4}, 6, OBJECT_REPLACED, &delta);
    state_deinit(&delta);
    object_head_state(out, &(struct object_state_pointer){.stream = {3},
                                                          .epoch = 5,
                                                          .size = 99,
                                                          .crc = 0xdeadbeef,
                                                          .refused = true,
                                                          .entry = OBJECT_THIS_ENTRY,
                                                          .position = 0x1000});
}

static void golden_head(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, &m);
    make_head(&b);
    golden_check(
        "head",
        "01000000020000000100*7 ab*16 0100*7 0300*7 05000000010000002f00000001030a0400010af403d00f0601020a01060101d60f14170a0400"
        "010a0100ff*9 0104d60f00a404010400*7 06000000020000002f00000001030a0400010af403d00f0601020a01060101d60f14170a0400010a0100"
        "ff*9 0104d60f00a404010300*7 0500000063000000efbeadde01000000ff*8 001000*6 ",
        b.data, b.size);
    struct reader r = reader_of(b.data, b.size);
    struct object_head h;
    struct object_section s;
    struct object_state_pointer p;
    assert_int_equal(object_head_decode(&r, &h), OK);
    assert_true(h.section_count == 2 && h.state_count == 1 && h.closed && h.wal_id[15] == 0xab);
    assert_int_equal(object_section_decode(&r, &s), OK);
    assert_true(s.stream.v == 3 && s.epoch == 5 && s.kind == OBJECT_APPENDED);
    struct reader inside = reader_of(s.delta, s.delta_size);
    struct stream_state delta;
    assert_int_equal(state_decode(&delta, &m, &inside), OK);
    assert_true(delta.delta && delta.first_offset == 10 && delta.end_offset == 14 && delta.range_count == 1);
    state_deinit(&delta);
    assert_int_equal(object_section_decode(&r, &s), OK);
    assert_true(s.stream.v == 4 && s.kind == OBJECT_REPLACED);
    assert_int_equal(object_state_decode(&r, &p), OK);
    assert_true(p.stream.v == 3 && p.epoch == 5 && p.size == 99 && p.crc == 0xdeadbeef && p.refused &&
                p.entry == OBJECT_THIS_ENTRY && p.position == 0x1000);
    assert_int_equal(reader_left(&r), 0);
    buf_deinit(&b);
}

static void a_head_cut_short_is_refused(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, &m);
    make_head(&b);
    for (size_t cut = 0; cut < b.size; cut++) {
        uint8_t *exact = mem_alloc(&m, cut ? cut : 1);
        memcpy(exact, b.data, cut);
        struct reader r = reader_of(exact, cut);
        struct object_head h;
        struct object_section s;
        struct object_state_pointer p;
        enum err e = object_head_decode(&r, &h);
        for (unsigned i = 0; e == OK && i < 2; i++) e = object_section_decode(&r, &s);
        if (e == OK) e = object_state_decode(&r, &p);
        assert_int_equal(e, ERR_TRUNCATED);
        mem_free(&m, exact);
    }
    struct reader r = reader_of(b.data, b.size);
    struct object_head h;
    b.data[0] = 3;
    assert_int_equal(object_head_decode(&r, &h), ERR_VERSION);
    buf_deinit(&b);
}

/* Of a broker whose WAL is a mirror: version 2, which those before it refuse by name. */
static void golden_head_of_a_mirror(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, &m);
    struct object_head h = {.members = {.version = 7, .count = 2}}, back;
    memset(h.members.ids[0], 0xab, 16);
    memset(h.members.ids[1], 0xcd, 16);
    object_head_begin(&b, &h);
    golden_check("mirror", "0200*15 ab*16 00*8 0700*7 0200*7 ab*16 cd*16 ", b.data, b.size);
    struct reader r = reader_of(b.data, b.size);
    assert_int_equal(object_head_decode(&r, &back), OK);
    assert_true(back.members.version == 7 && back.members.count == 2 && back.wal_id[0] == 0xab);
    assert_memory_equal(back.members.ids[1], h.members.ids[1], 16);
    for (size_t cut = 0; cut < b.size; cut++) {
        r = reader_of(b.data, cut);
        assert_int_equal(object_head_decode(&r, &back), ERR_TRUNCATED);
    }
    le32_put(b.data + 48, WAL_MEMBERS_MAX + 1);
    r = reader_of(b.data, b.size);
    assert_int_equal(object_head_decode(&r, &back), ERR_CORRUPT);
    buf_deinit(&b);
    /* None any more: all is in the ledger. */
    buf_init(&b, &m);
    h = (struct object_head){.members = {.version = 8}};
    object_head_begin(&b, &h);
    r = reader_of(b.data, b.size);
    assert_int_equal(object_head_decode(&r, &back), OK);
    assert_true(back.members.version == 8 && back.members.count == 0 && back.wal_id[0] == 0);
    buf_deinit(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys_name_objects_and_are_read_back, begin, end),
        cmocka_unit_test_setup_teardown(a_piece_holds_its_batches, begin, end),
        cmocka_unit_test_setup_teardown(an_index_is_checked, begin, end),
        cmocka_unit_test_setup_teardown(golden_piece_and_data_header, begin, end),
        cmocka_unit_test_setup_teardown(blocks_go_over_as_they_are, begin, end),
        cmocka_unit_test_setup_teardown(golden_head, begin, end),
        cmocka_unit_test_setup_teardown(a_head_cut_short_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(golden_head_of_a_mirror, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
