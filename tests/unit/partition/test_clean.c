/* Log compaction's rules, one by one: the map, the records that stay, the batches they stay in, what is worth it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "partition/clean.h"

static const uint64_t secret[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

struct fixture {
    struct mem mem;
    struct clean_map map;
    struct stream_state state;
    struct clean_rules rules;
    struct clean_counts counts;
    struct buf out;
    bool changed;
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof(*f));
    mem_init_heap(&f->mem);
    clean_map_init(&f->map, &f->mem, secret, 1 << 16, 90, UINT64_MAX);
    state_init(&f->state, &f->mem);
    buf_init(&f->out, &f->mem);
    f->rules = (struct clean_rules){.map = &f->map, .state = &f->state, .now_ms = 5000, .delete_retention_ms = 1000};
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    clean_map_deinit(&f->map);
    state_deinit(&f->state);
    buf_deinit(&f->out);
    assert_int_equal(f->mem.allocated_bytes, 0);
    free(f);
    return 0;
}

/* ---- making and reading batches ---- */

struct given {
    const char *key, *value; /* NULL: null */
    int64_t timestamp;
};

static struct buf made(struct fixture *f, struct batch_options o, const struct given *records, size_t count) {
    struct batch_builder b;
    struct buf out;
    buf_init(&out, &f->mem);
    batch_builder_init(&b, &f->mem, &o);
    struct batch_record_header header = {.key = "h", .key_size = 1, .value = (const uint8_t *)"x", .value_size = 1};
    for (size_t i = 0; i < count; i++) {
        const struct given *g = &records[i];
        batch_builder_add(&b, g->timestamp, g->key, g->key ? strlen(g->key) : 0, g->value,
                          g->value ? strlen(g->value) : 0, &header, i % 2);
    }
    assert_int_equal(batch_builder_finish(&b, &out), OK);
    batch_builder_deinit(&b);
    return out;
}

static struct batch_options at_offset(int64_t base) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = base;
    o.partition_leader_epoch = 3;
    return o;
}

static struct batch_header header_of(const struct buf *b) {
    struct batch_header h;
    assert_int_equal(batch_parse(b->data, b->size, &h), OK); /* the checksum, too */
    return h;
}

/* "offset:key=value@timestamp ..." of all batches. */
static const char *shown(struct fixture *f, const struct buf *b) {
    static char text[1000];
    text[0] = '\0';
    for (size_t at = 0; at < b->size;) {
        struct batch_header h;
        assert_int_equal(batch_parse(b->data + at, b->size - at, &h), OK);
        struct batch_iterator it;
        assert_int_equal(batch_iterator_init(&it, &f->mem, &h, 1 << 20), OK);
        struct batch_record r;
        enum err e;
        while ((e = batch_iterator_next(&it, &r)) == OK) {
            size_t used = strlen(text);
            (void)snprintf(text + used, sizeof(text) - used, "%s%d:%.*s=%.*s@%d", used ? " " : "", (int)r.offset,
                           r.key_size < 0 ? 4 : r.key_size, r.key_size < 0 ? "null" : (const char *)r.key,
                           r.value_size < 0 ? 4 : r.value_size, r.value_size < 0 ? "null" : (const char *)r.value,
                           (int)r.timestamp);
        }
        assert_int_equal(e, ERR_NOT_FOUND);
        batch_iterator_deinit(&it);
        at += h.size;
    }
    return text;
}

static void map_all(struct fixture *f, const struct buf *b, uint64_t to) {
    bool full = false;
    assert_int_equal(clean_map_block(&f->map, b->data, b->size, 0, to, &full, &f->mem), OK);
    assert_false(full);
}

/* Cleans it; what is left is in f->out. */
static void clean(struct fixture *f, const struct buf *b) {
    f->out.size = 0;
    f->changed = false;
    f->counts = (struct clean_counts){0};
    assert_int_equal(clean_block(&f->rules, b->data, b->size, &f->out, &f->changed, &f->counts), OK);
}

static const struct given abab[] = {{"a", "1", 100}, {"b", "1", 400}, {"a", "2", 300}, {"b", "2", 200}};

/* ---- the map ---- */

static void the_hash_is_siphash(void **state) {
    (void)state;
    uint64_t h[2];
    clean_hash(secret, "", 0, h);
    assert_true(h[0] == 0xe6a825ba047f81a3 && h[1] == 0x930255c71472f66d);
    const uint8_t zero = 0;
    clean_hash(secret, &zero, 1, h);
    assert_true(h[0] == 0x44af996bd8c187da && h[1] == 0x45fc229b11597634);
    /* over the words' edges everything counts */
    const char *text = "0123456789abcdef";
    for (size_t n = 1; n <= 16; n++) {
        uint64_t shorter[2];
        clean_hash(secret, text, n, h);
        clean_hash(secret, text, n - 1, shorter);
        assert_true(h[0] != shorter[0] && h[1] != shorter[1]);
    }
}

static void the_map_is_bounded(void **state) {
    (void)state;
    struct mem mem;
    mem_init_heap(&mem);
    struct clean_map m;
    clean_map_init(&m, &mem, secret, 10 * CLEAN_MAP_SLOT_BYTES, 50, UINT64_MAX);
    char key[16];
    for (int i = 0; i < 5; i++) {
        int n = snprintf(key, sizeof(key), "key%d", i);
        assert_true(clean_map_put(&m, key, (size_t)n, 10 + (unsigned)i));
    }
    assert_false(clean_map_put(&m, "new", 3, 20));
    assert_true(clean_map_put(&m, "key3", 4, 21)); /* a known one goes on */
    assert_true(clean_map_put(&m, "key3", 4, 5));  /* and never back */
    assert_int_equal(clean_map_get(&m, "key3", 4), 21);
    assert_true(clean_map_get(&m, "new", 3) == CLEAN_MAP_NONE);
    assert_int_equal(clean_map_bytes(&m), 10 * CLEAN_MAP_SLOT_BYTES);
    clean_map_deinit(&m);
    /* no more than that many keys can need, and always one */
    clean_map_init(&m, &mem, secret, UINT64_MAX, 90, 3);
    assert_true(clean_map_bytes(&m) <= 6 * CLEAN_MAP_SLOT_BYTES && m.count_max >= 3);
    clean_map_deinit(&m);
    clean_map_init(&m, &mem, secret, 0, 1, 1000);
    assert_true(clean_map_put(&m, "a", 1, 1));
    assert_false(clean_map_put(&m, "b", 1, 1));
    clean_map_deinit(&m);
    assert_int_equal(mem.allocated_bytes, 0);
}

static void a_full_map_ends_where_it_is_full(void **state) {
    struct fixture *f = *state;
    clean_map_deinit(&f->map);
    clean_map_init(&f->map, &f->mem, secret, 3 * CLEAN_MAP_SLOT_BYTES, 67, UINT64_MAX); /* two keys */
    struct buf b = made(f, at_offset(10),
                        (struct given[]){{"a", "1", 1}, {"b", "1", 2}, {"a", "2", 3}, {"c", "1", 4}, {"a", "3", 5}}, 5);
    bool full = false;
    assert_int_equal(clean_map_block(&f->map, b.data, b.size, 10, 15, &full, &f->mem), OK);
    assert_true(full);
    assert_int_equal(f->map.end_offset, 13);
    /* What the map does not reach stays, an older record of a key only as long as that is not known. */
    clean(f, &b);
    assert_string_equal(shown(f, &f->out), "11:b=1@2 12:a=2@3 13:c=1@4 14:a=3@5");
    /* The next pass begins there, in the middle of the batch. */
    clean_map_deinit(&f->map);
    clean_map_init(&f->map, &f->mem, secret, 3 * CLEAN_MAP_SLOT_BYTES, 67, UINT64_MAX);
    full = false;
    struct buf first = f->out;
    buf_init(&f->out, &f->mem);
    assert_int_equal(clean_map_block(&f->map, first.data, first.size, 13, 15, &full, &f->mem), OK);
    assert_false(full);
    assert_int_equal(f->map.end_offset, 15);
    clean(f, &first);
    assert_string_equal(shown(f, &f->out), "11:b=1@2 13:c=1@4 14:a=3@5");
    buf_deinit(&first);
    buf_deinit(&b);
}

/* ---- records and batches ---- */

static void the_newest_of_each_key_stays(void **state) {
    struct fixture *f = *state;
    for (enum kafka_codec codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct batch_options o = at_offset(20);
        o.codec = codec;
        o.producer_id = 77;
        o.producer_epoch = 5;
        o.base_sequence = 12;
        struct buf b = made(f, o, abab, 4);
        map_all(f, &b, 24);
        clean(f, &b);
        assert_true(f->changed);
        assert_string_equal(shown(f, &f->out), "22:a=2@300 23:b=2@200");
        struct batch_header h = header_of(&f->out), was = header_of(&b);
        assert_true(h.base_offset == 20 && h.last_offset_delta == 3 && h.record_count == 2);
        assert_true(h.base_timestamp == 300 && h.max_timestamp == 300);
        assert_true(h.producer_id == 77 && h.producer_epoch == 5 && h.base_sequence == 12);
        assert_int_equal(batch_last_sequence(&h), batch_last_sequence(&was));
        assert_int_equal(h.partition_leader_epoch, 3);
        assert_int_equal(batch_codec(&h), codec);
        assert_true(f->counts.records == 4 && f->counts.records_kept == 2 && f->counts.batches_rewritten == 1);
        assert_int_equal(f->counts.bytes_kept, f->out.size);
        buf_deinit(&b);
    }
}

static void what_need_not_change_does_not(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), (struct given[]){{"a", "1", 1}, {"b", "", 2}}, 2);
    map_all(f, &b, 2);
    clean(f, &b);
    assert_false(f->changed); /* an empty value is one */
    assert_true(f->out.size == b.size && memcmp(f->out.data, b.data, b.size) == 0);
    /* A record whose key was not met among the dirty ones is the newest. */
    struct buf older = made(f, at_offset(0), (struct given[]){{"z", "1", 1}}, 1);
    clean(f, &older);
    assert_false(f->changed);
    buf_deinit(&older);
    buf_deinit(&b);
}

static void what_lies_above_is_not_touched(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), abab, 4);
    map_all(f, &b, 2);
    assert_int_equal(f->map.end_offset, 2);
    struct buf above = made(f, at_offset(2), (struct given[]){{NULL, "1", 1}, {"a", NULL, 2}}, 2);
    clean(f, &above);
    assert_false(f->changed);
    clean(f, &b);
    assert_string_equal(shown(f, &f->out), "0:a=1@100 1:b=1@400 2:a=2@300 3:b=2@200");
    buf_deinit(&above);
    buf_deinit(&b);
}

static void records_without_a_key_go(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), (struct given[]){{NULL, "1", 1}, {"a", "1", 2}, {NULL, NULL, 3}}, 3);
    map_all(f, &b, 3);
    clean(f, &b);
    assert_string_equal(shown(f, &f->out), "1:a=1@2");
    assert_int_equal(f->counts.records_without_key, 2);
    buf_deinit(&b);
}

static void log_append_time_stays(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), abab, 4);
    batch_set_attributes(b.data, BATCH_LOG_APPEND_TIME, 999);
    map_all(f, &b, 4);
    clean(f, &b);
    assert_string_equal(shown(f, &f->out), "2:a=2@999 3:b=2@999");
    assert_int_equal(header_of(&f->out).max_timestamp, 999);
    buf_deinit(&b);
}

static void tombstones_wait_for_their_horizon(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), (struct given[]){{"a", "1", 100}, {"a", NULL, 200}, {"b", "1", 300}}, 3);
    map_all(f, &b, 3);
    clean(f, &b);
    assert_string_equal(shown(f, &f->out), "1:a=null@200 2:b=1@300");
    struct batch_header h = header_of(&f->out);
    assert_true((h.attributes & BATCH_DELETE_HORIZON) != 0);
    assert_int_equal(h.base_timestamp, 6000);
    assert_int_equal(h.max_timestamp, 300);
    assert_true(f->counts.tombstones_kept == 1 && f->counts.tombstones_dropped == 0);
    /* Again, before it: as it is; a later pass does not put it off. */
    struct buf first = f->out;
    buf_init(&f->out, &f->mem);
    f->rules.now_ms = 5999;
    clean(f, &first);
    assert_false(f->changed);
    /* At it. The horizon stays written: it says nothing of values. */
    f->rules.now_ms = 6000;
    clean(f, &first);
    assert_string_equal(shown(f, &f->out), "2:b=1@300");
    assert_int_equal(f->counts.tombstones_dropped, 1);
    h = header_of(&f->out);
    assert_true((h.attributes & BATCH_DELETE_HORIZON) != 0 && h.base_timestamp == 6000 && h.base_offset == 0);
    buf_deinit(&first);
    buf_deinit(&b);
}

static void a_superseded_tombstone_goes_at_once(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), (struct given[]){{"a", NULL, 1}, {"a", "1", 2}}, 2);
    map_all(f, &b, 2);
    clean(f, &b);
    assert_string_equal(shown(f, &f->out), "1:a=1@2");
    assert_false((header_of(&f->out).attributes & BATCH_DELETE_HORIZON) != 0);
    buf_deinit(&b);
}

static void a_horizon_does_not_overflow(void **state) {
    struct fixture *f = *state;
    f->rules.delete_retention_ms = INT64_MAX;
    struct buf b = made(f, at_offset(0), (struct given[]){{"a", NULL, 1}}, 1);
    map_all(f, &b, 1);
    clean(f, &b);
    assert_true(header_of(&f->out).base_timestamp == INT64_MAX);
    assert_string_equal(shown(f, &f->out), "0:a=null@1");
    buf_deinit(&b);
}

static void a_batch_of_which_nothing_is_left_goes(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), (struct given[]){{"a", "1", 1}}, 1);
    struct buf later = made(f, at_offset(1), (struct given[]){{"a", "2", 2}}, 1);
    map_all(f, &b, 2);
    map_all(f, &later, 2);
    clean(f, &b);
    assert_true(f->changed && f->out.size == 0 && f->counts.batches_dropped == 1);
    buf_deinit(&later);
    buf_deinit(&b);
}

static void remember_producer(struct fixture *f, int64_t id, uint64_t base, uint64_t end) {
    state_apply_batch(&f->state, &(struct state_batch){.base_offset = base,
                                                       .end_offset = end,
                                                       .first_timestamp = 1,
                                                       .max_timestamp = 1,
                                                       .size_bytes = 1,
                                                       .producer_id = id,
                                                       .last_sequence = (int32_t)(end - base - 1)});
}

static void the_last_batch_of_a_producer_keeps_its_header(void **state) {
    struct fixture *f = *state;
    struct batch_options o = at_offset(0);
    o.codec = CODEC_LZ4;
    o.producer_id = 9;
    o.producer_epoch = 2;
    o.base_sequence = 40;
    struct buf first = made(f, o, (struct given[]){{"a", "0", 5}}, 1);
    o.base_offset = 1;
    o.base_sequence = 41;
    struct buf last = made(f, o, (struct given[]){{"a", "1", 6}, {"a", NULL, 7}}, 2);
    struct buf other = made(f, at_offset(3), (struct given[]){{"a", "2", 8}}, 1);
    remember_producer(f, 9, 0, 1);
    remember_producer(f, 9, 1, 3);
    map_all(f, &first, 4);
    map_all(f, &last, 4);
    map_all(f, &other, 4);
    clean(f, &first);
    assert_int_equal(f->out.size, 0);
    clean(f, &last);
    struct batch_header h = header_of(&f->out);
    assert_true(h.size == BATCH_HEADER_SIZE && h.record_count == 0 && f->counts.batches_emptied == 1);
    assert_true(h.base_offset == 1 && h.last_offset_delta == 1 && h.base_sequence == 41 && h.producer_epoch == 2);
    assert_true(batch_codec(&h) == CODEC_NONE && h.max_timestamp == 7 && h.base_timestamp == -1);
    /* It stays as it is, until the producer is forgotten. */
    struct buf empty = f->out;
    buf_init(&f->out, &f->mem);
    clean(f, &empty);
    assert_false(f->changed);
    assert_int_equal(f->out.size, empty.size);
    state_deinit(&f->state);
    state_init(&f->state, &f->mem);
    clean(f, &empty);
    assert_true(f->changed && f->out.size == 0);
    buf_deinit(&empty);
    buf_deinit(&first);
    buf_deinit(&last);
    buf_deinit(&other);
}

static void the_last_of_the_rewritten_offsets_stays(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), (struct given[]){{"a", "1", 1}}, 1);
    assert_true(clean_map_put(&f->map, "a", 1, 50));
    f->map.end_offset = 60;
    f->rules.last_end = 1;
    clean(f, &b);
    assert_true(header_of(&f->out).record_count == 0 && header_of(&f->out).base_offset == 0);
    buf_deinit(&b);
}

static void control_batches_stay(void **state) {
    struct fixture *f = *state;
    struct batch_options o = at_offset(0);
    o.attributes = BATCH_CONTROL | BATCH_TRANSACTIONAL;
    struct buf b = made(f, o, (struct given[]){{"a", "1", 1}, {"a", "2", 1}}, 2);
    map_all(f, &b, 2);
    assert_int_equal(f->map.count, 0);
    assert_int_equal(f->map.end_offset, 2);
    clean(f, &b);
    assert_false(f->changed);
    buf_deinit(&b);
}

static void a_damaged_batch_is_refused(void **state) {
    struct fixture *f = *state;
    struct buf b = made(f, at_offset(0), abab, 4);
    map_all(f, &b, 4);
    b.data[BATCH_HEADER_SIZE] = 0xff; /* the first record's length */
    bool changed = false, full = false;
    assert_int_not_equal(clean_block(&f->rules, b.data, b.size, &f->out, &changed, &f->counts), OK);
    assert_int_equal(f->out.size, 0);
    assert_int_not_equal(clean_map_block(&f->map, b.data, b.size, 0, 4, &full, &f->mem), OK);
    buf_deinit(&b);
}

/* ---- what is worth it ---- */

static void add_segment(struct fixture *f, uint64_t end, uint32_t bytes, int64_t timestamp) {
    state_apply_batch(&f->state, &(struct state_batch){.base_offset = f->state.end_offset,
                                                       .end_offset = end,
                                                       .first_timestamp = timestamp,
                                                       .max_timestamp = timestamp,
                                                       .size_bytes = bytes,
                                                       .producer_id = -1,
                                                       .rolls = f->state.segment_count > 0});
}

static void what_is_worth_it(void **state) {
    struct fixture *f = *state;
    struct topic_config c;
    struct clean_choice got;
    topic_config_init(&c);
    add_segment(f, 10, 100, 1000);
    assert_false(clean_choose(&f->state, &c, 5000, &got)); /* not a compacted topic */
    c.cleanup_policy = TOPIC_CLEANUP_COMPACT | TOPIC_CLEANUP_DELETE;
    assert_false(clean_choose(&f->state, &c, 5000, &got)); /* nothing but the active segment */
    add_segment(f, 20, 100, 2000);
    add_segment(f, 30, 100, 3000);
    add_segment(f, 40, 100, 4000);
    assert_true(clean_choose(&f->state, &c, 5000, &got));
    assert_true(got.first_dirty == 0 && got.end == 30 && got.dirty_bytes == 300 && got.ratio == 1);
    /* Half of it is clean: the ratio must be above the limit. */
    f->state.clean_offset = 10;
    f->state.segments[0].size_bytes = 200;
    assert_false(clean_choose(&f->state, &c, 5000, &got));
    assert_true(got.first_dirty == 10 && got.end == 30 && got.ratio == 0.5 && got.clean_bytes == 200);
    c.min_cleanable_dirty_ratio = 0.49;
    assert_true(clean_choose(&f->state, &c, 5000, &got));
    /* Too young from the third segment on. */
    c.min_compaction_lag_ms = 2500;
    assert_false(clean_choose(&f->state, &c, 5000, &got));
    assert_int_equal(got.end, 20);
    c.min_cleanable_dirty_ratio = 0;
    assert_true(clean_choose(&f->state, &c, 5000, &got));
    assert_true(clean_choose(&f->state, &c, 5501, &got) && got.end == 30);
    /* Nothing dirty is old enough, whatever the ratio. */
    assert_false(clean_choose(&f->state, &c, 4499, &got));
    c.min_compaction_lag_ms = 0;
    c.min_cleanable_dirty_ratio = 1;
    assert_false(clean_choose(&f->state, &c, 5000, &got));
    c.max_compaction_lag_ms = 2999;
    assert_true(clean_choose(&f->state, &c, 5000, &got));
    assert_int_equal(got.overdue_ms, 1);
    c.max_compaction_lag_ms = 3000;
    assert_false(clean_choose(&f->state, &c, 5000, &got));
    /* What was trimmed counts as clean. */
    c.min_cleanable_dirty_ratio = 0;
    state_apply_trim(&f->state, 30);
    assert_false(clean_choose(&f->state, &c, 5000, &got));
}

static void segments_follow_their_bytes(void **state) {
    struct fixture *f = *state;
    for (int i = 1; i <= 6; i++) add_segment(f, 10 * (uint64_t)i, 100, 1000 * i);
    const uint64_t left[] = {40, 50, 20, 0, 90, 100};
    struct state_segment *got;
    uint32_t n = clean_segments(&f->state, 50, left, 100, &f->mem, &got);
    assert_int_equal(n, 3);
    assert_true(got[0].base_offset == 0 && got[0].size_bytes == 90 && got[0].max_timestamp == 2000);
    assert_true(got[1].base_offset == 20 && got[1].size_bytes == 20 && got[1].first_timestamp == 3000);
    assert_true(got[1].max_timestamp == 4000 && got[2].base_offset == 40 && got[2].size_bytes == 90);
    /* As the committed and the live state take it. */
    struct stream_state delta;
    state_init_delta(&delta, &f->mem, 0);
    delta.end_offset = delta.clean_offset = 50;
    delta.segments = got;
    delta.segment_count = delta.segment_capacity = n;
    assert_int_equal(state_apply_cleaned(&f->state, &delta), OK);
    assert_true(f->state.segment_count == 4 && f->state.segments[3].base_offset == 50 && f->state.clean_offset == 50);
    delta.clean_offset = 61;
    assert_int_equal(state_apply_cleaned(&f->state, &delta), ERR_STALE);
    state_deinit(&delta);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hash_is_siphash),
        cmocka_unit_test(the_map_is_bounded),
        cmocka_unit_test_setup_teardown(a_full_map_ends_where_it_is_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_of_each_key_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_need_not_change_does_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_lies_above_is_not_touched, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_without_a_key_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(log_append_time_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tombstones_wait_for_their_horizon, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_superseded_tombstone_goes_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_horizon_does_not_overflow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_of_which_nothing_is_left_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_batch_of_a_producer_keeps_its_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_of_the_rewritten_offsets_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(control_batches_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_batch_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_worth_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(segments_follow_their_bytes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
