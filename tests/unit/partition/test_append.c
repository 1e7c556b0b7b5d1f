/* Produce: what is refused and how, what is corrected, recompression, order, and damaged batches. */
#include "unit/partition/fixture.h"

#include <string.h>

#include "base/crc32c.h"

static int setup(void **state) {
    static struct fixture f; /* one test at a time */
    fixture_init(&f);
    *state = &f;
    return 0;
}
static int teardown(void **state) {
    fixture_deinit(*state);
    return 0;
}

static void test_offsets_and_position(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .count = 3);
    assert_append(f, OK, 3, .count = 1);
    assert_append(f, OK, 4, .count = 7);
    assert_int_equal(partition_high_watermark(f->p), 0);
    struct job *w = fixture_wait(f, 4);
    assert_false(w->done);
    fake_durable(&f->streams, 1);
    fixture_settle(f);
    assert_false(w->done);
    assert_int_equal(partition_high_watermark(f->p), 3);
    fake_durable(&f->streams, 1);
    fixture_settle(f);
    assert_true(w->done);
    assert_int_equal(w->result, OK);
    assert_int_equal(partition_high_watermark(f->p), 4);
    const struct partition_counters *c = partition_counters(f->p);
    assert_int_equal(c->batches_in, 3);
    assert_int_equal(c->records_in, 11);
    assert_int_equal(f->streams.count, 3);
    assert_int_equal(c->bytes_in, partition_size_bytes(f->p));
    /* Where the write-ahead log fails after the append nothing is known. */
    w = fixture_wait(f, 11);
    fake_fence(&f->streams);
    fixture_settle(f);
    assert_int_equal(w->result, ERR_UNKNOWN_OUTCOME);
}

/* One changed byte or field, with the checksum made right again or not. */
static void refused(struct fixture *f, enum err expected, size_t at, const void *bytes, size_t n, bool reseal,
                    int line) {
    size_t size;
    uint8_t *b = fixture_batch(f, &(struct batch_spec){.count = 3, .producer_id = 5}, &size);
    memcpy(b + at, bytes, n);
    if (reseal) fixture_reseal(b, size);
    struct job *j = fixture_append_bytes(f, b, size, 9);
    mem_free(&f->mem, b);
    if (!j->done || j->result != expected)
        fail_msg("line %d: %s, expected %s", line, err_name(j->result), err_name(expected));
    if (expected != OK) assert_non_null(j->append.message);
}
#define REFUSED(f, expected, at, reseal, ...)                                                                          \
    do {                                                                                                               \
        const uint8_t bytes[] = {__VA_ARGS__};                                                                         \
        refused(f, expected, at, bytes, sizeof(bytes), reseal, __LINE__);                                              \
    } while (0)

static void test_header_checks(void **state) {
    struct fixture *f = *state;
    REFUSED(f, ERR_INVALID_RECORD, 7, false, 1);                      /* base offset 1 */
    REFUSED(f, ERR_CORRUPT_MESSAGE, 8, false, 0, 0, 0, 10);           /* length below a header's */
    REFUSED(f, ERR_INVALID_RECORD, 8, false, 0x7f, 0xff, 0xff, 0xff); /* longer than what came */
    REFUSED(f, ERR_INVALID_RECORD, 16, false, 1);                     /* magic */
    REFUSED(f, ERR_INVALID_RECORD, 16, false, 0);
    REFUSED(f, ERR_CORRUPT_MESSAGE, 16, false, 3);
    REFUSED(f, ERR_CORRUPT_MESSAGE, 17, false, 1, 2, 3, 4);       /* checksum */
    REFUSED(f, ERR_CORRUPT_MESSAGE, 62, false, 0xff);             /* a record's byte */
    REFUSED(f, ERR_CORRUPT_MESSAGE, 22, true, 7);                 /* no such codec */
    REFUSED(f, ERR_INVALID_TIMESTAMP, 22, true, 8);               /* log append time */
    REFUSED(f, ERR_TRANSACTIONAL_ID_AUTHORIZATION, 22, true, 16); /* transactional */
    REFUSED(f, ERR_INVALID_RECORD, 22, true, 32);                 /* control */
    REFUSED(f, ERR_INVALID_RECORD, 22, true, 48);
    REFUSED(f, ERR_INVALID_RECORD, 22, true, 64);         /* delete horizon */
    REFUSED(f, ERR_INVALID_RECORD, 23, true, 0, 0, 0, 3); /* last offset delta does not go with the count */
    REFUSED(f, ERR_INVALID_RECORD, 23, true, 0xff, 0xff, 0xff, 0xff);
    REFUSED(f, ERR_INVALID_RECORD, 57, true, 0, 0, 0, 2); /* count */
    REFUSED(f, ERR_INVALID_RECORD, 57, true, 0, 0, 0, 0);
    REFUSED(f, ERR_INVALID_RECORD, 53, true, 0xff, 0xff, 0xff, 0xff); /* sequence -1 */
    REFUSED(f, ERR_INVALID_RECORD, 51, true, 0xff, 0xff);             /* producer epoch -1 */
    REFUSED(f, ERR_INVALID_RECORD, 61, true, 0xff, 0xff);             /* length of the first record */
    assert_int_equal(f->streams.count, 0);
    REFUSED(f, OK, 12, false, 0x7f, 0, 0, 1); /* the leader epoch is the broker's to set */
}

static void test_exactly_one_batch(void **state) {
    struct fixture *f = *state;
    size_t size;
    uint8_t *b = fixture_batch(f, &(struct batch_spec){.count = 2}, &size);
    uint8_t *two = mem_alloc(&f->mem, 2 * size);
    memcpy(two, b, size);
    memcpy(two + size, b, size);
    assert_int_equal(fixture_append_bytes(f, two, 2 * size, 9)->result, ERR_INVALID_RECORD);
    assert_int_equal(fixture_append_bytes(f, two, size + 1, 9)->result, ERR_INVALID_RECORD);
    assert_int_equal(fixture_append_bytes(f, two, 0, 9)->result, ERR_INVALID_RECORD);
    for (size_t n = 1; n < size; n++) assert_int_equal(fixture_append_bytes(f, b, n, 9)->result, ERR_INVALID_RECORD);
    assert_int_equal(fixture_append_bytes(f, b, size, 9)->result, OK);
    mem_free(&f->mem, b);
    mem_free(&f->mem, two);
    assert_int_equal(f->streams.count, 1);
}

static void test_sizes(void **state) {
    struct fixture *f = *state;
    fixture_set(f, "max.message.bytes", "1000");
    fixture_set(f, "segment.bytes", "2000");
    assert_append(f, ERR_MESSAGE_TOO_LARGE, 0, .value_size = 1000);
    assert_append(f, OK, 0, .value_size = 900);
    fixture_set(f, "segment.bytes", "500");
    assert_append(f, ERR_RECORD_LIST_TOO_LARGE, 0, .value_size = 900);
    /* The other limit comes first, as in Kafka. */
    assert_append(f, ERR_MESSAGE_TOO_LARGE, 0, .value_size = 1000);
    f->streams.refuse_reserve = ERR_TOO_LARGE;
    assert_append(f, ERR_MESSAGE_TOO_LARGE, 0, .count = 1);
    f->streams.refuse_reserve = ERR_CLOSED;
    assert_append(f, ERR_NOT_LEADER, 0, .count = 1);
}

static void test_zstd_needs_version_7(void **state) {
    struct fixture *f = *state;
    size_t size;
    uint8_t *b = fixture_batch(f, &(struct batch_spec){.codec = CODEC_ZSTD}, &size);
    assert_int_equal(fixture_append_bytes(f, b, size, 6)->result, ERR_UNSUPPORTED_COMPRESSION);
    assert_int_equal(fixture_append_bytes(f, b, size, 7)->result, OK);
    mem_free(&f->mem, b);
}

static void test_null_keys(void **state) {
    struct fixture *f = *state;
    assert_append(f, OK, 0, .no_key = true);
    fixture_set(f, "cleanup.policy", "delete,compact");
    for (int codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        struct job *j =
            fixture_append(f, &(struct batch_spec){.codec = (enum kafka_codec)codec, .no_key = true, .count = 2});
        assert_int_equal(j->result, ERR_INVALID_RECORD);
        assert_int_equal(j->append.bad_record, 0);
        assert_string_equal(j->append.message, "compacted topics do not take records without a key");
    }
    assert_append(f, OK, 1, .count = 1);
}

static const struct stream_record *stored(struct fixture *f, size_t i, struct batch_header *h) {
    assert_true(i < f->streams.count);
    const struct stream_record *r = &f->streams.records[i].record;
    assert_int_equal(batch_parse(r->payload, r->payload_size, h), OK);
    return r;
}

static void test_timestamp_limits(void **state) {
    struct fixture *f = *state;
    /* after.max is an hour; before.max has no limit. */
    assert_append(f, OK, 0, .timestamp = 1);
    assert_append(f, OK, 1, .timestamp = NOW_MS + 3600000);
    assert_append(f, ERR_INVALID_TIMESTAMP, 0, .timestamp = NOW_MS + 3600001);
    struct job *j = fixture_append(
        f,
        &(struct batch_spec){.timestamp = NOW_MS + 3600000 - 2, .timestamp_step = 1, .count = 9, .codec = CODEC_LZ4});
    assert_int_equal(j->result, ERR_INVALID_TIMESTAMP);
    assert_int_equal(j->append.bad_record, 3);
    fixture_set(f, "message.timestamp.before.max.ms", "1000");
    assert_append(f, OK, 2, .timestamp = NOW_MS - 1000);
    assert_append(f, ERR_INVALID_TIMESTAMP, 0, .timestamp = NOW_MS - 1001);
    /* Records without a timestamp pass. */
    assert_append(f, OK, 3, .timestamp = -1);
    j = fixture_append(f, &(struct batch_spec){.timestamp = NOW_MS, .timestamp_step = -500, .count = 4});
    assert_int_equal(j->result, ERR_INVALID_TIMESTAMP);
    assert_int_equal(j->append.bad_record, 3);
    /* Extremes do not overflow into range. */
    assert_append(f, ERR_INVALID_TIMESTAMP, 0, .timestamp = INT64_MAX);
    assert_append(f, ERR_INVALID_TIMESTAMP, 0, .timestamp = INT64_MIN);
    /* Kafka 3's one limit for both sides. */
    struct topic_config fresh;
    topic_config_init(&fresh);
    f->config = fresh;
    fixture_set(f, "message.timestamp.difference.max.ms", "10");
    assert_append(f, ERR_INVALID_TIMESTAMP, 0, .timestamp = NOW_MS - 11);
    assert_append(f, ERR_INVALID_TIMESTAMP, 0, .timestamp = NOW_MS + 11);
    assert_append(f, OK, 4, .timestamp = NOW_MS + 10);
    fixture_set(f, "message.timestamp.after.max.ms", "20");
    assert_append(f, OK, 5, .timestamp = NOW_MS + 20);
    assert_append(f, ERR_INVALID_TIMESTAMP, 0, .timestamp = NOW_MS - 11);
}

static void test_log_append_time(void **state) {
    struct fixture *f = *state;
    struct job *j = fixture_append(f, &(struct batch_spec){.count = 2});
    assert_int_equal(j->append.log_append_time_ms, -1);
    fixture_set(f, "message.timestamp.type", "LogAppendTime");
    for (int codec = CODEC_NONE; codec < CODEC_COUNT; codec++) {
        f->wall_ms++;
        /* Limits are for times that clients set. */
        j = fixture_append(
            f, &(struct batch_spec){.codec = (enum kafka_codec)codec, .timestamp = NOW_MS + 100 * DAY_MS, .count = 2});
        assert_int_equal(j->result, OK);
        assert_int_equal(j->append.log_append_time_ms, f->wall_ms);
        struct batch_header h;
        (void)stored(f, f->streams.count - 1, &h);
        assert_int_equal(h.max_timestamp, f->wall_ms);
        assert_true(h.attributes & BATCH_LOG_APPEND_TIME);
        assert_int_equal(batch_codec(&h), codec);
    }
}

/* Timestamp lookup and retention believe the header's largest timestamp: a wrong one is corrected, not kept. */
static void test_wrong_max_timestamp(void **state) {
    struct fixture *f = *state;
    size_t size;
    uint8_t *b = fixture_batch(f, &(struct batch_spec){.count = 2}, &size);
    be64_put(b + 35, (uint64_t)NOW_MS + 77);
    fixture_reseal(b, size);
    assert_int_equal(fixture_append_bytes(f, b, size, 9)->result, OK);
    mem_free(&f->mem, b);
    struct batch_header h;
    (void)stored(f, 0, &h);
    assert_int_equal(h.max_timestamp, NOW_MS);
}

static void test_recompression(void **state) {
    static const char *const names[] = {"uncompressed", "gzip", "snappy", "lz4", "zstd"};
    struct fixture *f = *state;
    uint64_t offset = 0;
    for (int to = CODEC_NONE; to < CODEC_COUNT; to++) {
        fixture_set(f, "compression.type", names[to]);
        for (int from = CODEC_NONE; from < CODEC_COUNT; from++) {
            unsigned offloads = f->offloads;
            assert_append(f, OK, (int64_t)offset, .codec = (enum kafka_codec)from, .count = 5, .value_size = 300,
                          .producer_id = 1 + to * 10 + from);
            assert_int_equal(f->offloads - offloads, from == to ? 0 : 1);
            struct batch_header h;
            (void)stored(f, f->streams.count - 1, &h);
            assert_int_equal(batch_codec(&h), to);
            assert_int_equal(h.producer_id, 1 + to * 10 + from);
            struct batch_iterator it;
            struct batch_record r;
            assert_int_equal(batch_iterator_init(&it, &f->mem, &h, 1 << 20), OK);
            for (int i = 0; i < 5; i++) {
                assert_int_equal(batch_iterator_next(&it, &r), OK);
                assert_int_equal(r.offset, offset + (uint64_t)i);
                assert_int_equal(r.value_size, 300);
                assert_int_equal(r.value[299], 'v');
            }
            assert_int_equal(batch_iterator_next(&it, &r), ERR_NOT_FOUND);
            batch_iterator_deinit(&it);
            offset += 5;
        }
    }
    /* What becomes too large on the way is refused. */
    fixture_set(f, "compression.type", "uncompressed");
    fixture_set(f, "max.message.bytes", "500");
    assert_append(f, ERR_MESSAGE_TOO_LARGE, 0, .codec = CODEC_ZSTD, .value_size = 3000);
}

static void test_compressed_batches_are_looked_into(void **state) {
    struct fixture *f = *state;
    for (int codec = CODEC_GZIP; codec < CODEC_COUNT; codec++) {
        size_t size;
        uint8_t *b = fixture_batch(
            f, &(struct batch_spec){.codec = (enum kafka_codec)codec, .count = 4, .value_size = 200}, &size);
        /* One record less than the header says: only the unpacked records show it. */
        be32_put(b + 57, 5);
        be32_put(b + 23, 4);
        fixture_reseal(b, size);
        assert_int_equal(fixture_append_bytes(f, b, size, 9)->result, ERR_INVALID_RECORD);
        mem_free(&f->mem, b);
    }
    /* Small when packed, large when unpacked: on a worker. */
    unsigned offloads = f->offloads;
    assert_append(f, OK, 0, .codec = CODEC_ZSTD, .value_size = 1 << 20);
    assert_int_equal(f->offloads, offloads + 1);
    assert_append(f, OK, 1, .codec = CODEC_ZSTD, .value_size = 1000);
    assert_int_equal(f->offloads, offloads + 1);
    /* Beyond all bounds: refused. */
    assert_append(f, ERR_MESSAGE_TOO_LARGE, 0, .codec = CODEC_ZSTD, .value_size = (size_t)65 << 20);
}

/* An append that is held up keeps its place: those that came later wait. */
static void test_order_with_workers(void **state) {
    struct fixture *f = *state;
    f->hold_offloads = true;
    struct job *slow = fixture_append(f, &(struct batch_spec){.codec = CODEC_ZSTD, .value_size = 1 << 20});
    struct job *bad = fixture_append(f, &(struct batch_spec){.attributes = BATCH_CONTROL});
    struct job *quick = fixture_append(f, &(struct batch_spec){.count = 2});
    struct job *slow2 = fixture_append(f, &(struct batch_spec){.codec = CODEC_GZIP, .value_size = 1 << 20});
    struct job *quick2 = fixture_append(f, &(struct batch_spec){.count = 3});
    assert_false(slow->done || quick->done || slow2->done || quick2->done);
    assert_true(bad->done); /* nothing of it has to be in order */
    assert_int_equal(f->offloads, 2);
    fixture_release(f);
    assert_true(slow->done && quick->done && slow2->done && quick2->done);
    assert_int_equal(slow->append.base_offset, 0);
    assert_int_equal(quick->append.base_offset, 1);
    assert_int_equal(slow2->append.base_offset, 3);
    assert_int_equal(quick2->append.base_offset, 4);
}

static void test_room(void **state) {
    struct fixture *f = *state;
    fake_give_room(&f->streams, 400);
    struct job *large = fixture_append(f, &(struct batch_spec){.value_size = 2000});
    struct job *small = fixture_append(f, &(struct batch_spec){.count = 1});
    assert_false(large->done || small->done);
    fake_give_room(&f->streams, 1 << 20);
    fixture_settle(f);
    assert_true(large->done && small->done);
    assert_int_equal(large->append.base_offset, 0);
    assert_int_equal(small->append.base_offset, 1);
}

/* Whatever the bytes: never a crash; and what is taken is sound (the stream in memory checks that). */
static void test_mutations(void **state) {
    struct fixture *f = *state;
    struct rng rng;
    rng_seed(&rng, 42);
    unsigned taken = 0, refused_count = 0;
    for (int i = 0; i < 6000; i++) {
        size_t size;
        struct batch_spec spec = {.codec = (enum kafka_codec)rng_below(&rng, CODEC_COUNT),
                                  .count = 1 + (int)rng_below(&rng, 5),
                                  .producer_id = rng_chance(&rng, 0.3) ? 9 : 0};
        uint8_t *b = fixture_batch(f, &spec, &size);
        if (i % 3 == 0) fixture_set(f, "compression.type", rng_chance(&rng, 0.5) ? "producer" : "lz4");
        for (uint64_t n = rng_below(&rng, 4); n > 0; n--) {
            b[rng_chance(&rng, 0.5) ? rng_below(&rng, 61) : rng_below(&rng, size)] = (uint8_t)rng_next(&rng);
        }
        size_t cut = rng_chance(&rng, 0.1) ? rng_below(&rng, size + 1) : size;
        if (rng_chance(&rng, 0.9) && cut > 21) {
            if (rng_chance(&rng, 0.8)) be32_put(b + 8, (uint32_t)(cut - 12));
            fixture_reseal(b, cut);
        }
        struct job *j = fixture_append_bytes(f, b, cut, (int16_t)(3 + rng_below(&rng, 8)));
        assert_true(j->done);
        if (j->result == OK) {
            taken++;
        } else {
            refused_count++;
        }
        mem_free(&f->mem, b);
        mem_free(&f->mem, j->records);
        f->job_count = 0;
    }
    assert_true(taken > 500);
    assert_true(refused_count > 500);
    fixture_close(f);
    fixture_open(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_offsets_and_position, setup, teardown),
        cmocka_unit_test_setup_teardown(test_header_checks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exactly_one_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_zstd_needs_version_7, setup, teardown),
        cmocka_unit_test_setup_teardown(test_null_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timestamp_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_append_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_max_timestamp, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recompression, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compressed_batches_are_looked_into, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_with_workers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mutations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
