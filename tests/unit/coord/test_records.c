/* The records of __consumer_offsets byte by byte, as Kafka's format description has them; every version that can be
 * read; damaged ones; and that loading and storing are each other's inverse. */
#include "unit/coord/fixture.h"

#include <string.h>

#include "base/random.h"

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})
#define STR(s) ((const uint8_t *)(s)), (sizeof(s) - 1)

static void assert_bytes(const uint8_t *data, size_t size, const uint8_t *expected, size_t expected_size) {
    assert_int_equal(size, expected_size);
    assert_memory_equal(data, expected, size);
}

/* WALL_MS is 0x0000018bcfe56800. */
static void test_offset_bytes(void **state) {
    struct fixture *f = *state;
    f->manual = true;
    COMMIT(f, .group = "gr", .topic = "top", .partition = 3, .offset = 258, .leader_epoch = 7, .metadata = "md");
    const struct coord_record *r = f->batches[0].records;
    assert_int_equal(f->batches[0].count, 1);
    assert_bytes(r->key, r->key_size,
                 STR("\0\1"
                     "\0\2gr"
                     "\0\3top"
                     "\0\0\0\3"));
    assert_bytes(r->value, r->value_size,
                 STR("\0\3"
                     "\0\0\0\0\0\0\1\2"
                     "\0\0\0\7"
                     "\0\2md"
                     "\0\0\1\x8b\xcf\xe5\x68\0"));
    COMMIT(f, .group = "gr", .topic = "top", .partition = 3, .offset = 1, .retention_ms = 256);
    r = f->batches[1].records;
    assert_bytes(r->value, r->value_size,
                 STR("\0\1"
                     "\0\0\0\0\0\0\0\1"
                     "\0\0"
                     "\0\0\1\x8b\xcf\xe5\x68\0"
                     "\0\0\1\x8b\xcf\xe5\x69\0"));
    fixture_delete_offset(f, "gr", "top", 3);
    r = f->batches[2].records;
    assert_bytes(r->key, r->key_size,
                 STR("\0\1"
                     "\0\2gr"
                     "\0\3top"
                     "\0\0\0\3"));
    assert_null(r->value);
    assert_int_equal(f->batches[2].sequence, 3);
}

/* With the topic's id, and with a retention of the commit's own behind it: in a tagged field that is ours. */
static void test_offset_bytes_with_id(void **state) {
    struct fixture *f = *state;
    f->manual = true;
    COMMIT(f, .group = "gr", .topic = "top", .topic_id = 9, .offset = 258, .leader_epoch = 7, .metadata = "md");
    const struct coord_record *r = f->batches[0].records;
    assert_bytes(r->value, r->value_size,
                 STR("\0\4"
                     "\0\0\0\0\0\0\1\2"
                     "\0\0\0\7"
                     "\3md"
                     "\0\0\1\x8b\xcf\xe5\x68\0"
                     "\1"
                     "\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x9"));
    COMMIT(f, .group = "gr", .topic = "top", .topic_id = 9, .offset = 1, .retention_ms = 256);
    r = f->batches[1].records;
    assert_bytes(r->value, r->value_size,
                 STR("\0\4"
                     "\0\0\0\0\0\0\0\1"
                     "\xff\xff\xff\xff"
                     "\1"
                     "\0\0\1\x8b\xcf\xe5\x68\0"
                     "\2"
                     "\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x9"
                     "\x90\x4e\x8\0\0\1\x8b\xcf\xe5\x69\0"));
    /* Kafka's own reader finds nothing wrong with it. */
    struct kafka_offset_commit_value v;
    struct arena a;
    arena_init(&a, &f->mem);
    assert_int_equal(kafka_offset_commit_value_decode(&v, 4, r->value + 2, r->value_size - 2, &a), OK);
    assert_int_equal(v.topic_id.bytes[15], 9);
    arena_deinit(&a);
    /* What is loaded says the same: nothing more is written. Metadata of lengths that take one, two and three bytes. */
    static char metadata[4097];
    for (int i = 0; i < 5; i++) {
        memset(metadata, 'm', sizeof(metadata) - 1);
        metadata[(const int[]){0, 126, 127, 128, 4096}[i]] = '\0';
        COMMIT(f, .group = "gr", .topic = "u", .topic_id = 8, .partition = i, .offset = 3, .metadata = metadata,
               .retention_ms = 1000000);
    }
    fixture_durable(f, f->count);
    struct coord_effects before, after;
    coord_dump(f->coord, &before);
    fixture_reload(f);
    coord_dump(f->coord, &after);
    assert_int_equal(before.count, 6);
    assert_int_equal(after.count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_bytes(after.records[i].value, after.records[i].value_size, before.records[i].value,
                     before.records[i].value_size);
    coord_effects_deinit(&before);
    coord_effects_deinit(&after);
}

static void test_group_bytes(void **state) {
    struct fixture *f = *state;
    struct call *c = JOIN(f, .group = "gr", .instance = "in", .client = "cl", .protocols = {"range"}, .metadata = "sub",
                          .version = 5);
    f->manual = true;
    fixture_advance(f, 3000);
    char expected[256];
    const struct coord_record *r = f->batches[0].records;
    assert_bytes(r->key, r->key_size,
                 STR("\0\2"
                     "\0\2gr"));
    /* version, type, generation, protocol, leader */
    size_t n = 0;
#define PUT(s) (memcpy(expected + n, s, sizeof(s) - 1), n += sizeof(s) - 1)
    fixture_durable(f, 1);
    const char *id = MEMBER_OF(f, c);
    assert_int_equal(strlen(id), 39);
    PUT("\0\3"
        "\0\10consumer"
        "\0\0\0\1"
        "\0\5range"
        "\0\x27");
    memcpy(expected + n, id, 39), n += 39;
    /* timestamp: three seconds later; one member: id, instance, client, host, rebalance, session, subscription */
    PUT("\0\0\1\x8b\xcf\xe5\x73\xb8"
        "\0\0\0\1"
        "\0\x27");
    memcpy(expected + n, id, 39), n += 39;
    PUT("\0\2in"
        "\0\2cl"
        "\0\12/127.0.0.1"
        "\0\0\xea\x60"
        "\0\0\x27\x10"
        "\0\0\0\3sub");
    size_t before_assignment = n;
    PUT("\0\0\0\0");
    const struct stored *s = mapstr_get(&f->log, "\0\2\0\2gr", 6);
    assert_non_null(s);
    assert_bytes(s->bytes, s->size, (const uint8_t *)expected, n);
    SYNC(f, .group = "gr", .member = id, .instance = "in", .generation = 1, .assign = {id, "parts"});
    fixture_durable(f, 1);
    n = before_assignment;
    PUT("\0\0\0\5parts");
    s = mapstr_get(&f->log, "\0\2\0\2gr", 6);
    assert_bytes(s->bytes, s->size, (const uint8_t *)expected, n);
    LEAVE(f, 3, .group = "gr", .member = id, .instance = "in");
    fixture_durable(f, 1);
    s = mapstr_get(&f->log, "\0\2\0\2gr", 6);
    assert_bytes(s->bytes, s->size,
                 STR("\0\3"
                     "\0\10consumer"
                     "\0\0\0\2"
                     "\xff\xff"
                     "\xff\xff"
                     "\0\0\1\x8b\xcf\xe5\x73\xb8"
                     "\0\0\0\0"));
    fixture_delete_group(f, "gr");
    assert_null(f->batches[f->first % FIXTURE_BATCHES].records[0].value);
}

static struct coord *loading(struct fixture *f) {
    return coord_create(&f->mem, &f->config, 1);
}
static enum err load(struct coord *c, const uint8_t *key, size_t key_size, const uint8_t *value, size_t value_size) {
    return coord_load(c, key, key_size, value, value_size);
}
static void finish(struct fixture *f, struct coord *c) {
    coord_unload(f->coord);
    coord_destroy(f->coord);
    f->coord = c;
    coord_loaded(c, f->now);
}

static void test_old_versions(void **state) {
    struct fixture *f = *state;
    struct coord *c = loading(f);
#define K_OFFSET                                                                                                       \
    STR("\0\0"                                                                                                         \
        "\0\1g"                                                                                                        \
        "\0\1t"                                                                                                        \
        "\0\0\0\1")
    assert_int_equal(load(c, K_OFFSET,
                          STR("\0\0"
                              "\0\0\0\0\0\0\0\5"
                              "\0\0"
                              "\0\0\1\x8b\xcf\xe5\x68\0")),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\2"),
                          STR("\0\1"
                              "\0\0\0\0\0\0\0\6"
                              "\0\0"
                              "\0\0\1\x8b\xcf\xe5\x68\0"
                              "\0\0\1\x8b\xcf\xe5\x68\0")),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\3"),
                          STR("\0\2"
                              "\0\0\0\0\0\0\0\7"
                              "\0\0"
                              "\0\0\1\x8b\xcf\xe5\x68\0")),
                     OK);
    /* 4 is flexible: compact strings, and a topic id as tag 0. */
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\4"),
                          STR("\0\4"
                              "\0\0\0\0\0\0\0\10"
                              "\0\0\0\1"
                              "\2m"
                              "\0\0\1\x8b\xcf\xe5\x68\0"
                              "\1\0\20"
                              "0123456789abcdef")),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\5"),
                          STR("\0\4"
                              "\0\0\0\0\0\0\0\11"
                              "\0\0\0\1"
                              "\2m"
                              "\0\0\1\x8b\xcf\xe5\x68\0"
                              "\0")),
                     OK);
    /* Of several the last counts. */
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\5"),
                          NULL, 0),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\6"),
                          NULL, 0),
                     OK);
    /* Groups: version 0 knows no rebalance time-out, 1 no timestamp, 2 no instance id. */
#define HEAD                                                                                                           \
    "\0\10consumer"                                                                                                    \
    "\0\0\0\4"                                                                                                         \
    "\0\1p"                                                                                                            \
    "\0\1m"
#define TAIL                                                                                                           \
    "\0\0\0\1s"                                                                                                        \
    "\0\0\0\1a"
    assert_int_equal(load(c,
                          STR("\0\2"
                              "\0\2g0"),
                          STR("\0\0" HEAD "\0\0\0\1"
                              "\0\1m"
                              "\0\1c"
                              "\0\1h"
                              "\0\0\x27\x10" TAIL)),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\2"
                              "\0\2g1"),
                          STR("\0\1" HEAD "\0\0\0\1"
                              "\0\1m"
                              "\0\1c"
                              "\0\1h"
                              "\0\0\x4e\x20"
                              "\0\0\x27\x10" TAIL)),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\2"
                              "\0\2g2"),
                          STR("\0\2" HEAD "\0\0\1\x8b\xcf\xe5\x68\0"
                              "\0\0\0\1"
                              "\0\1m"
                              "\0\1c"
                              "\0\1h"
                              "\0\0\x4e\x20"
                              "\0\0\x27\x10" TAIL)),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\2"
                              "\0\2g4"),
                          STR("\0\4"
                              "\11consumer"
                              "\0\0\0\4"
                              "\2p"
                              "\2m"
                              "\0\0\1\x8b\xcf\xe5\x68\0"
                              "\2"
                              "\2m"
                              "\2i"
                              "\2c"
                              "\2h"
                              "\0\0\x4e\x20"
                              "\0\0\x27\x10"
                              "\2s"
                              "\2a"
                              "\0"
                              "\0")),
                     OK);
    /* A group that was stored and went leaves nothing. */
    assert_int_equal(load(c,
                          STR("\0\2"
                              "\0\2gx"),
                          STR("\0\1" HEAD "\0\0\0\0")),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\2"
                              "\0\2gx"),
                          NULL, 0),
                     OK);
    finish(f, c);
    assert_int_equal(fixture_offset(f, "g", "t", 1), 5);
    assert_int_equal(fixture_offset(f, "g", "t", 2), 6);
    assert_int_equal(fixture_offset(f, "g", "t", 3), 7);
    assert_int_equal(fixture_offset(f, "g", "t", 4), 8);
    assert_int_equal(fixture_offset(f, "g", "t", 5), -1);
    for (int i = 0; i < 5; i++) {
        const char *group = ((const char *[]){"g0", "g1", "g2", "g4", "gx"})[i];
        assert_string_equal(fixture_state(f, group), i < 4 ? "Stable" : "Dead");
        if (i < 3) assert_int_equal(BEAT(f, .group = group, .member = "m", .generation = 4), OK);
    }
    assert_int_equal(BEAT(f, .group = "g4", .member = "m", .instance = "i", .generation = 4), OK);
    struct call *s = SYNC(f, .group = "g4", .member = "m", .instance = "i", .generation = 4);
    assert_int_equal(s->reply.answer.sync->assignment.size, 1);
}

static void test_damaged_and_foreign(void **state) {
    struct fixture *f = *state;
    struct coord *c = loading(f);
    /* Other kinds of groups: skipped. */
    for (uint8_t version = 3; version < 20; version++) {
        uint8_t key[] = {0, version, 0, 1, 'g'};
        assert_int_equal(load(c, key, sizeof(key), STR("anything")), OK);
    }
    static const struct {
        const char *key, *value;
        size_t key_size, value_size;
        enum err e;
    } cases[] = {
#define CASE(k, v, e) {k, v, sizeof(k) - 1, sizeof(v) - 1, e}
        CASE("", "", ERR_PROTOCOL),
        CASE("\0", "", ERR_PROTOCOL),
        CASE("\xff\xff\0\1g", "", ERR_PROTOCOL),
        CASE("\0\1", "", ERR_PROTOCOL),
        CASE("\0\1\0\1g\0\1t\0\0\0", "", ERR_PROTOCOL),
        CASE("\0\1\0\1g\0\1t\0\0\0\1", "", ERR_PROTOCOL),
        CASE("\0\1\0\1g\0\1t\0\0\0\1", "\0", ERR_PROTOCOL),
        CASE("\0\1\0\1g\0\1t\0\0\0\1", "\xff\xff", ERR_PROTOCOL),
        CASE("\0\1\0\1g\0\1t\0\0\0\1", "\0\5", ERR_VERSION),
        CASE("\0\1\0\1g\0\1t\0\0\0\1", "\0\3\0\0\0\0\0\0\0\1\0\0\0\1\0\0", ERR_PROTOCOL),
        CASE("\0\2\0\1", "\0\3", ERR_PROTOCOL),
        CASE("\0\2\0\1g", "\0\5", ERR_VERSION),
        CASE("\0\2\0\1g", "\0\3\0\1t", ERR_PROTOCOL),
        /* negative generation; a member without a protocol; without an id; two with one id */
        CASE("\0\2\0\1g", "\0\1\0\1t\xff\xff\xff\xff\0\1p\0\1m\0\0\0\0", ERR_PROTOCOL),
        CASE("\0\2\0\1g", "\0\1\0\1t\0\0\0\1\xff\xff\0\1m\0\0\0\1\0\1m\0\1c\0\1h\0\0\0\1\0\0\0\1" TAIL, ERR_PROTOCOL),
        CASE("\0\2\0\1g", "\0\1\0\1t\0\0\0\1\0\1p\0\1m\0\0\0\1\0\0\0\1c\0\1h\0\0\0\1\0\0\0\1" TAIL, ERR_PROTOCOL),
        CASE("\0\2\0\1g",
             "\0\1\0\1t\0\0\0\1\0\1p\0\1m\0\0\0\2\0\1m\0\1c\0\1h\0\0\0\1\0\0\0\1" TAIL
             "\0\1m\0\1c\0\1h\0\0\0\1\0\0\0\1" TAIL,
             ERR_PROTOCOL),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum err e = load(c, (const uint8_t *)cases[i].key, cases[i].key_size, (const uint8_t *)cases[i].value,
                          cases[i].value_size);
        if (e != cases[i].e) fail_msg("case %zu: %s, expected %s", i, err_name(e), err_name(cases[i].e));
    }
    /* Times and counts that nobody sane would store do no harm. */
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\1"),
                          STR("\0\1"
                              "\0\0\0\0\0\0\0\6"
                              "\0\0"
                              "\x80\0\0\0\0\0\0\0"
                              "\x7f\xff\xff\xff\xff\xff\xff\xff")),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\1"
                              "\0\1g"
                              "\0\1t"
                              "\0\0\0\2"),
                          STR("\0\0"
                              "\0\0\0\0\0\0\0\6"
                              "\0\0"
                              "\x7f\xff\xff\xff\xff\xff\xff\xff")),
                     OK);
    assert_int_equal(load(c,
                          STR("\0\2"
                              "\0\1h"),
                          STR("\0\1"
                              "\0\1t"
                              "\x7f\xff\xff\xff"
                              "\0\1p"
                              "\0\1x"
                              "\0\0\0\1"
                              "\0\1m"
                              "\0\1c"
                              "\0\1h"
                              "\xff\xff\xff\xff"
                              "\x80\0\0\0" TAIL)),
                     OK);
    finish(f, c);
    fixture_advance(f, 86400000);
    assert_int_equal(fixture_offset(f, "g", "t", 1), 6);
    assert_string_equal(fixture_state(f, "h"), "Dead"); /* its session was over at once, and it had no offsets */
}

static void test_inverse(void **state) {
    struct fixture *f = *state;
    const char *id[3];
    fixture_stable(f, "g", 3, id);
    JOIN(f, .group = "st", .instance = "i", .protocols = {"p", "q"}, .version = 5);
    JOIN(f, .group = "st", .instance = "j", .protocols = {"p"}, .version = 5);
    for (int i = 0; i < 20; i++) {
        COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = i, .partition = i, .metadata = "x");
        COMMIT(f, .group = "s", .offset = i, .partition = i, .retention_ms = i ? 1000000 : 0);
    }
    fixture_advance(f, 9000);
    coord_unload(f->coord);
    struct coord *c = loading(f);
    struct stored *s;
    const char *key;
    size_t size;
    for (size_t i = 0; (s = mapstr_next(&f->log, &i, &key, &size)) != NULL;) {
        assert_int_equal(coord_load(c, key, size, s->bytes, s->size), OK);
    }
    struct coord_effects dump;
    coord_dump(c, &dump);
    assert_int_equal(dump.count, f->log.count);
    assert_int_equal(dump.count, 42);
    for (size_t i = 0; i < dump.count; i++) {
        const struct coord_record *r = &dump.records[i];
        s = mapstr_get(&f->log, r->key, r->key_size);
        assert_non_null(s);
        assert_bytes(r->value, r->value_size, s->bytes, s->size);
    }
    coord_effects_deinit(&dump);
    finish(f, c);
}

/* Whatever is in the log: refused or taken, and what was taken lives on. */
static void test_mutated(void **state) {
    struct fixture *f = *state;
    const char *id[3];
    struct rng rng;
    rng_seed(&rng, 7);
    fixture_stable(f, "g", 3, id);
    JOIN(f, .group = "st", .instance = "i", .protocols = {"p", "q"}, .version = 5);
    COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = 1, .metadata = "x");
    COMMIT(f, .group = "s", .offset = 2, .retention_ms = 5);
    fixture_advance(f, 9000);
    size_t taken = 0, refused = 0;
    for (int round = 0; round < 3000; round++) {
        struct coord *c = loading(f);
        struct stored *s;
        const char *key;
        size_t size;
        for (size_t i = 0; (s = mapstr_next(&f->log, &i, &key, &size)) != NULL;) {
            /* Copies of the exact size, so that a step beyond is noticed. */
            uint8_t *k = mem_alloc(&f->mem, size), *v = mem_alloc(&f->mem, s->size);
            size_t k_size = size, v_size = s->size;
            memcpy(k, key, size);
            memcpy(v, s->bytes, s->size);
            for (uint64_t n = rng_below(&rng, 4); n > 0; n--) v[rng_below(&rng, v_size)] = (uint8_t)rng_next(&rng);
            if (rng_below(&rng, 4) == 0) k[rng_below(&rng, k_size)] = (uint8_t)rng_next(&rng);
            if (rng_below(&rng, 8) == 0) v = mem_realloc(&f->mem, v, v_size = rng_below(&rng, v_size));
            if (rng_below(&rng, 16) == 0) k = mem_realloc(&f->mem, k, k_size = rng_below(&rng, k_size));
            if (coord_load(c, k, k_size, v, v_size) == OK) {
                taken++;
            } else {
                refused++;
            }
            mem_free(&f->mem, k);
            mem_free(&f->mem, v);
        }
        struct coord_effects dump;
        coord_dump(c, &dump);
        coord_effects_deinit(&dump);
        coord_loaded(c, f->now);
        coord_tick(c, (struct coord_now){f->now.mono_ms + 700000, f->now.wall_ms + 700000});
        coord_unload(c);
        coord_destroy(c);
    }
    assert_true(taken > 1000 && refused > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        COORD_TEST(test_offset_bytes), COORD_TEST(test_offset_bytes_with_id), COORD_TEST(test_group_bytes),
        COORD_TEST(test_old_versions), COORD_TEST(test_damaged_and_foreign),  COORD_TEST(test_inverse),
        COORD_TEST(test_mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
