/* The image of the cluster: what each record does to it, what it refuses, and its snapshot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "meta/meta_image.h"

static struct mem heap;

static struct uuid id_of(uint64_t n) {
    struct uuid id = {{0}};
    le64_put(id.bytes, n);
    return id;
}

static enum err do_register(struct meta_image *i, uint64_t number, int32_t node) {
    struct meta_record r = {.kind = META_REGISTRATION};
    r.registration.node_id = node;
    r.registration.rack = meta_text_of("rack");
    r.registration.endpoint = meta_text_of("");
    return meta_image_apply(i, &r, meta_position(number, 0));
}

static enum err do_create(struct meta_image *i, uint64_t id, const char *name, int32_t partitions, uint64_t stream,
                          struct incarnation owner) {
    struct meta_change changes[] = {{{"retention.ms", 12}, {"5", 1}, false},
                                    {{"cleanup.policy", 14}, {"delete", 6}, false}};
    struct meta_record r = {.kind = META_TOPIC_CREATE, .changes = changes, .change_count = 2};
    r.topic_create.id = id_of(id);
    r.topic_create.name = meta_text_of(name);
    r.topic_create.replication_factor = 1;
    r.topic_create.partition_count = partitions;
    r.topic_create.first_stream.v = stream;
    r.topic_create.owner = owner;
    r.topic_create.owner_node = 1;
    return meta_image_apply(i, &r, meta_position(1000, 0));
}

static enum err do_delete(struct meta_image *i, uint64_t id) {
    struct meta_record r = {.kind = META_TOPIC_DELETE};
    r.topic_delete.id = id_of(id);
    return meta_image_apply(i, &r, meta_position(1000, 0));
}

static enum err do_recovered(struct meta_image *i, struct incarnation from, struct incarnation to, uint64_t entry) {
    struct meta_record r = {.kind = META_RECOVERED};
    r.recovered.from = from;
    r.recovered.to = to;
    r.recovered.to_node = 2;
    r.recovered.state_entry = entry;
    return meta_image_apply(i, &r, meta_position(1000, 0));
}

static enum err do_producer_ids(struct meta_image *i, uint64_t first, uint64_t count) {
    struct meta_record r = {.kind = META_PRODUCER_IDS};
    r.producer_ids.first = first;
    r.producer_ids.count = count;
    return meta_image_apply(i, &r, meta_position(1000, 0));
}

static enum err do_add(struct meta_image *i, uint64_t id, int32_t before, int32_t count, uint64_t stream,
                       struct incarnation owner) {
    struct meta_record r = {.kind = META_PARTITIONS_ADD};
    r.partitions_add.id = id_of(id);
    r.partitions_add.before = before;
    r.partitions_add.count = count;
    r.partitions_add.first_stream.v = stream;
    r.partitions_add.owner = owner;
    r.partitions_add.owner_node = 1;
    return meta_image_apply(i, &r, meta_position(1000, 0));
}

/* value NULL removes. */
static enum err do_configure_broker(struct meta_image *i, int32_t node, const char *name, const char *value) {
    struct meta_change change = {meta_text_of(name), meta_text_of(value), value == NULL};
    struct meta_record r = {.kind = META_BROKER_CONFIGURE, .changes = &change, .change_count = 1};
    r.broker_configure.node_id = node;
    return meta_image_apply(i, &r, meta_position(1000, 0));
}

static struct buf snapshot_of(const struct meta_image *i) {
    struct buf b;
    buf_init(&b, &heap);
    meta_snapshot_encode(i, &b);
    return b;
}

static void assert_same(const struct meta_image *a, const struct buf *b) {
    struct buf x = snapshot_of(a);
    assert_int_equal(x.size, b->size);
    assert_memory_equal(x.data, b->data, x.size);
    buf_deinit(&x);
}

static void test_topics(void **state) {
    (void)state;
    struct meta_image i;
    int32_t partition;
    meta_image_init(&i, &heap);
    struct incarnation me = meta_position(0, 0);
    assert_int_equal(me.v, 1);
    assert_int_equal(meta_position(3, 5).v, (3u << 20) + 6);
    assert_int_equal(do_register(&i, 0, 1), OK);
    assert_int_equal(do_create(&i, 1, "m", 3, 1, me), OK);
    assert_int_equal(do_create(&i, 2, "a", 2, 4, me), OK);
    assert_int_equal(do_create(&i, 3, "z", 1, 10, me), OK); /* ids may be left out */
    assert_string_equal(i.topics[0]->name, "a");
    assert_string_equal(i.topics[1]->name, "m");
    assert_string_equal(i.topics[2]->name, "z");
    assert_int_equal(i.next_stream, 11);
    assert_ptr_equal(meta_image_topic(&i, "m", 1), i.topics[1]);
    assert_null(meta_image_topic(&i, "mm", 2));
    assert_null(meta_image_topic(&i, "", 0));
    struct uuid id = id_of(3);
    assert_ptr_equal(meta_image_topic_by_id(&i, &id), i.topics[2]);
    assert_string_equal(i.topics[1]->configs[0].name, "cleanup.policy"); /* sorted */
    assert_string_equal(i.topics[1]->configs[1].value, "5");

    static const char *const owners[] = {NULL, "m", "m", "m", "a", "a", NULL, NULL, NULL, NULL, "z", NULL};
    static const int32_t partitions[] = {0, 0, 1, 2, 0, 1, 0, 0, 0, 0, 0, 0};
    for (uint64_t s = 0; s < 12; s++) {
        const struct meta_topic *t = meta_image_topic_of_stream(&i, (struct stream_id){s}, &partition);
        if (!owners[s]) {
            assert_null(t);
        } else {
            assert_string_equal(t->name, owners[s]);
            assert_int_equal(partition, partitions[s]);
        }
    }
    assert_int_equal(do_delete(&i, 1), OK);
    assert_null(meta_image_topic(&i, "m", 1));
    assert_null(meta_image_topic_of_stream(&i, (struct stream_id){2}, &partition));
    assert_non_null(meta_image_topic_of_stream(&i, (struct stream_id){5}, &partition));
    assert_int_equal(do_create(&i, 4, "m", 1, 11, me), OK); /* the name is free again, the streams are not */
    meta_image_deinit(&i);
}

static void test_partitions_add(void **state) {
    (void)state;
    struct meta_image i;
    int32_t partition;
    meta_image_init(&i, &heap);
    struct incarnation a = meta_position(0, 0), b = meta_position(1, 0);
    assert_int_equal(do_register(&i, 0, 1), OK);
    assert_int_equal(do_create(&i, 1, "t", 2, 1, a), OK);
    assert_int_equal(do_create(&i, 2, "u", 1, 3, a), OK);
    assert_int_equal(do_register(&i, 1, 1), OK);
    assert_int_equal(do_recovered(&i, a, b, 7), OK);
    struct buf before = snapshot_of(&i);
    assert_int_equal(do_add(&i, 3, 2, 1, 4, b), ERR_CORRUPT); /* no such topic */
    assert_int_equal(do_add(&i, 1, 1, 1, 4, b), ERR_CORRUPT); /* it has another number of them */
    assert_int_equal(do_add(&i, 1, 2, 0, 4, b), ERR_CORRUPT);
    assert_int_equal(do_add(&i, 1, 2, 1, 3, b), ERR_CORRUPT); /* stream used before */
    assert_int_equal(do_add(&i, 1, 2, META_TOPIC_PARTITIONS_MAX - 1, 4, b), ERR_CORRUPT);
    assert_int_equal(do_add(&i, 1, 2, 1, 4, meta_position(9, 0)), ERR_CORRUPT);
    assert_int_equal(do_add(&i, 1, 2, 1, INT64_MAX, b), ERR_CORRUPT);
    assert_same(&i, &before);
    buf_deinit(&before);
    assert_int_equal(do_add(&i, 1, 2, 3, 6, b), OK);
    assert_int_equal(i.next_stream, 9);
    const struct meta_topic *t = meta_image_topic(&i, "t", 1);
    assert_int_equal(t->partition_count, 5);
    assert_int_equal(t->partitions[1].epoch, 1);
    assert_int_equal(t->partitions[2].epoch, 0);
    assert_int_equal(t->partitions[2].owner.v, b.v);
    assert_int_equal(t->partitions[2].state_entry, 0);
    assert_ptr_equal(meta_image_topic_of_stream(&i, (struct stream_id){8}, &partition), t);
    assert_int_equal(partition, 4);
    assert_ptr_equal(meta_image_topic_of_stream(&i, (struct stream_id){2}, &partition), t);
    assert_int_equal(partition, 1);
    assert_null(meta_image_topic_of_stream(&i, (struct stream_id){5}, &partition));
    assert_int_equal(do_delete(&i, 1), OK);
    assert_null(meta_image_topic_of_stream(&i, (struct stream_id){8}, &partition));
    meta_image_deinit(&i);
}

static void test_broker_configs(void **state) {
    (void)state;
    struct meta_image i;
    meta_image_init(&i, &heap);
    assert_int_equal(do_configure_broker(&i, 3, "x", NULL), OK); /* nothing to remove */
    assert_int_equal(i.broker_configs_count, 0);
    assert_int_equal(do_configure_broker(&i, -2, "x", "1"), ERR_CORRUPT);
    assert_int_equal(do_configure_broker(&i, 3, "x", "1"), OK);
    assert_int_equal(do_configure_broker(&i, META_ALL_BROKERS, "x", "2"), OK);
    assert_int_equal(do_configure_broker(&i, 3, "a", ""), OK);
    assert_int_equal(do_configure_broker(&i, 3, "x", "3"), OK);
    assert_int_equal(i.broker_configs_count, 2);
    assert_string_equal(meta_image_broker_configs(&i, META_ALL_BROKERS)->configs[0].value, "2");
    assert_int_equal(meta_image_broker_configs(&i, 3)->config_count, 2);
    assert_string_equal(meta_image_broker_configs(&i, 3)->configs[0].name, "a");
    assert_string_equal(meta_image_broker_configs(&i, 3)->configs[1].value, "3");
    assert_null(meta_image_broker_configs(&i, 1));
    struct buf bytes = snapshot_of(&i);
    struct meta_image back;
    assert_int_equal(meta_snapshot_decode(&back, &heap, slice_borrow(bytes.data, bytes.size)), OK);
    assert_same(&back, &bytes);
    assert_string_equal(meta_image_broker_configs(&back, 3)->configs[1].value, "3");
    meta_image_deinit(&back);
    buf_deinit(&bytes);
    assert_int_equal(do_configure_broker(&i, META_ALL_BROKERS, "x", NULL), OK);
    assert_null(meta_image_broker_configs(&i, META_ALL_BROKERS)); /* with its last value */
    meta_image_deinit(&i);
}

static void test_refusals(void **state) {
    (void)state;
    struct meta_image i;
    meta_image_init(&i, &heap);
    struct incarnation a = meta_position(1, 0), b = meta_position(2, 0), none = meta_position(9, 0);
    assert_int_equal(do_register(&i, 1, 1), OK);
    assert_int_equal(do_register(&i, 2, 1), OK);
    assert_int_equal(do_create(&i, 1, "t", 3, 5, a), OK);
    assert_int_equal(do_producer_ids(&i, 0, 1000), OK);
    struct buf before = snapshot_of(&i);
    assert_int_equal(do_register(&i, 2, 3), ERR_CORRUPT);
    assert_int_equal(do_register(&i, 1, 3), ERR_CORRUPT);
    assert_int_equal(do_create(&i, 2, "t", 1, 8, a), ERR_CORRUPT); /* name taken */
    assert_int_equal(do_create(&i, 1, "u", 1, 8, a), ERR_CORRUPT); /* id taken */
    assert_int_equal(do_create(&i, 2, "u", 1, 7, a), ERR_CORRUPT); /* stream used before */
    assert_int_equal(do_create(&i, 2, "u", 0, 8, a), ERR_CORRUPT);
    assert_int_equal(do_create(&i, 2, "u", META_TOPIC_PARTITIONS_MAX + 1, 8, a), ERR_CORRUPT);
    assert_int_equal(do_create(&i, 2, "u/v", 1, 8, a), ERR_CORRUPT);
    assert_int_equal(do_create(&i, 2, "u", 1, 8, none), ERR_CORRUPT); /* no such owner */
    assert_int_equal(do_create(&i, 2, "u", 2, INT64_MAX, a), ERR_CORRUPT);
    assert_int_equal(do_delete(&i, 2), ERR_CORRUPT);
    assert_int_equal(do_recovered(&i, none, b, 0), ERR_CORRUPT);
    assert_int_equal(do_recovered(&i, a, none, 0), ERR_CORRUPT);
    assert_int_equal(do_recovered(&i, a, a, 0), ERR_CORRUPT);
    assert_int_equal(do_producer_ids(&i, 999, 1), ERR_CORRUPT);
    assert_int_equal(do_producer_ids(&i, 1000, 0), ERR_CORRUPT);
    assert_int_equal(do_producer_ids(&i, INT64_MAX, 1), ERR_CORRUPT);
    struct meta_record r = {.kind = META_TOPIC_CONFIGURE};
    r.topic_configure.id = id_of(2);
    assert_int_equal(meta_image_apply(&i, &r, none), ERR_CORRUPT);
    assert_same(&i, &before);
    buf_deinit(&before);
    meta_image_deinit(&i);
}

static void test_recovered(void **state) {
    (void)state;
    struct meta_image i;
    meta_image_init(&i, &heap);
    struct incarnation a = meta_position(1, 0), b = meta_position(2, 0), c = meta_position(3, 0);
    assert_int_equal(do_register(&i, 1, 1), OK);
    assert_int_equal(do_create(&i, 1, "t", 3, 1, a), OK);
    assert_int_equal(do_register(&i, 2, 2), OK);
    assert_int_equal(do_create(&i, 2, "u", 1, 4, b), OK);
    assert_int_equal(do_recovered(&i, a, b, 77), OK);
    const struct meta_partition *p = &meta_image_topic(&i, "t", 1)->partitions[2];
    assert_int_equal(p->owner.v, b.v);
    assert_int_equal(p->owner_node, 2);
    assert_int_equal(p->epoch, 1);
    assert_int_equal(p->state_entry, 77);
    assert_int_equal(meta_image_topic(&i, "u", 1)->partitions[0].epoch, 0); /* was b's already */
    assert_true(meta_image_broker(&i, a)->retired);
    assert_int_equal(do_recovered(&i, a, b, 78), ERR_CORRUPT); /* once is enough */
    assert_int_equal(do_register(&i, 3, 1), OK);
    assert_int_equal(do_recovered(&i, b, a, 1), ERR_CORRUPT); /* the dead do not recover */
    assert_int_equal(do_recovered(&i, b, c, 1), OK);
    assert_int_equal(meta_image_topic(&i, "t", 1)->partitions[0].epoch, 2);

    struct meta_record r = {.kind = META_FORGET_RETIRED};
    r.forget_retired.oldest_needed = b;
    assert_int_equal(meta_image_apply(&i, &r, c), OK);
    assert_null(meta_image_broker(&i, a));
    assert_non_null(meta_image_broker(&i, b));
    r.forget_retired.oldest_needed.v = UINT32_MAX;
    assert_int_equal(meta_image_apply(&i, &r, c), OK);
    assert_null(meta_image_broker(&i, b));
    assert_non_null(meta_image_broker(&i, c)); /* alive */
    meta_image_deinit(&i);
}

static void test_configure(void **state) {
    (void)state;
    struct meta_image i;
    meta_image_init(&i, &heap);
    assert_int_equal(do_register(&i, 0, 1), OK);
    assert_int_equal(do_create(&i, 1, "t", 1, 1, meta_position(0, 0)), OK);
    struct meta_change changes[] = {{{"cleanup.policy", 14}, {"", 0}, true},
                                    {{"b", 1}, {"x", 1}, false},
                                    {{"retention.ms", 12}, {"6", 1}, false},
                                    {{"none", 4}, {"", 0}, true},
                                    {{"z", 1}, {"", 0}, false},
                                    {{"b", 1}, {"y", 1}, false}};
    struct meta_record r = {.kind = META_TOPIC_CONFIGURE, .changes = changes, .change_count = 6};
    r.topic_configure.id = id_of(1);
    assert_int_equal(meta_image_apply(&i, &r, meta_position(1, 0)), OK);
    const struct meta_topic *t = i.topics[0];
    assert_int_equal(t->config_count, 3);
    assert_string_equal(t->configs[0].name, "b");
    assert_string_equal(t->configs[0].value, "y");
    assert_string_equal(t->configs[1].value, "6");
    assert_string_equal(t->configs[2].value, "");
    meta_image_deinit(&i);
}

/* Random records, with a second image that is thrown away and read from its snapshot again and again. */
static void test_snapshot_random(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct meta_image a, b;
        meta_image_init(&a, &heap);
        meta_image_init(&b, &heap);
        uint64_t number = 0, applied = 0;
        for (int step = 0; step < 120; step++) {
            char name[16];
            snprintf(name, sizeof(name), "t%u", (unsigned)rng_below(&rng, 12));
            struct incarnation x = meta_position(rng_below(&rng, number + 1), 0),
                               y = meta_position(rng_below(&rng, number + 1), 0);
            uint64_t id = rng_below(&rng, 12), kind = rng_below(&rng, 7), count = 1 + rng_below(&rng, 9);
            uint64_t stream = a.next_stream + rng_below(&rng, 2), first = a.next_producer_id,
                     entry = rng_below(&rng, 3);
            if (kind == 0) number++;
            enum err e[2];
            for (int k = 0; k < 2; k++) {
                struct meta_image *i = k == 0 ? &a : &b;
                if (kind == 0) e[k] = do_register(i, number, (int32_t)id);
                if (kind == 1) e[k] = do_create(i, id, name, (int32_t)count, stream, x);
                if (kind == 2) e[k] = do_delete(i, id);
                if (kind == 3) e[k] = do_recovered(i, x, y, entry);
                if (kind == 4) e[k] = do_producer_ids(i, first, count);
                if (kind == 5) e[k] = do_add(i, id, (int32_t)count, (int32_t)entry + 1, stream, x);
                if (kind == 6) e[k] = do_configure_broker(i, (int32_t)entry - 1, name, count > 4 ? name + 1 : NULL);
            }
            assert_int_equal(e[0], e[1]);
            if (e[0] == OK) applied++;
            if (rng_below(&rng, 6) > 0) continue;
            struct buf bytes = snapshot_of(&b);
            meta_image_deinit(&b);
            assert_int_equal(meta_snapshot_decode(&b, &heap, slice_borrow(bytes.data, bytes.size)), OK);
            assert_same(&a, &bytes);
            buf_deinit(&bytes);
        }
        assert_true(applied > 10);
        meta_image_deinit(&a);
        meta_image_deinit(&b);
    }
}

static void example(struct meta_image *i) {
    meta_image_init(i, &heap);
    struct incarnation a = meta_position(0, 0), b = meta_position(6, 0);
    assert_int_equal(do_register(i, 0, 1), OK);
    assert_int_equal(do_create(i, 7, "t", 1, 1, a), OK);
    assert_int_equal(do_create(i, 8, "gone", 2, 2, a), OK);
    assert_int_equal(do_create(i, 9, "b", 200, 4, a), OK);
    assert_int_equal(do_delete(i, 8), OK);
    assert_int_equal(do_register(i, 6, 1), OK);
    assert_int_equal(do_recovered(i, a, b, 3), OK);
    assert_int_equal(do_create(i, 10, "new", 1, 204, b), OK);
    assert_int_equal(do_producer_ids(i, 0, 1000), OK);
    i->cleaned_below = 5;
}

/* Version 1, to be kept for ever: also what is written while no broker's configuration was changed at run time. */
static const uint8_t golden[] = {
    1,   0,   0,   0,   0xcd, 1,   0xe8, 7,    5, /* version, next stream 205, next producer id 1000, cleaned below 5 */
    2,   1,   2,   1,   4,    'r', 'a',  'c',  'k',  0,    0x80, 0x80, 0x80, 3,   2,   0,   4,
    'r', 'a', 'c', 'k', 0, /* brokers */
    3,   9,   0,   0,   0,    0,   0,    0,    0,    0,    0,    0,    0,    0,   0,   0,   0,
    1,   'b', 1, /* topic b, factor 1 */
    2,   14,  'c', 'l', 'e',  'a', 'n',  'u',  'p',  '.',  'p',  'o',  'l',  'i', 'c', 'y', 6,
    'd', 'e', 'l', 'e', 't',  'e', 12,   'r',  'e',  't',  'e',  'n',  't',  'i', 'o', 'n', '.',
    'm', 's', 1,   '5', 0xc8, 1,   0xc8, 1,    4,    0x81, 0x80, 0x80, 3,    4,   1,   3, /* 200 partitions in one run
                                                                                           */
    10,  0,   0,   0,   0,    0,   0,    0,    0,    0,    0,    0,    0,    0,   0,   0,   3,
    'n', 'e', 'w', 1, /* topic new */
    2,   14,  'c', 'l', 'e',  'a', 'n',  'u',  'p',  '.',  'p',  'o',  'l',  'i', 'c', 'y', 6,
    'd', 'e', 'l', 'e', 't',  'e', 12,   'r',  'e',  't',  'e',  'n',  't',  'i', 'o', 'n', '.',
    'm', 's', 1,   '5', 1,    1,   0xcc, 1,    0x81, 0x80, 0x80, 3,    2,    0,   0,   7,   0,
    0,   0,   0,   0,   0,    0,   0,    0,    0,    0,    0,    0,    0,    0,   1,   't', 1, /* topic t */
    2,   14,  'c', 'l', 'e',  'a', 'n',  'u',  'p',  '.',  'p',  'o',  'l',  'i', 'c', 'y', 6,
    'd', 'e', 'l', 'e', 't',  'e', 12,   'r',  'e',  't',  'e',  'n',  't',  'i', 'o', 'n', '.',
    'm', 's', 1,   '5', 1,    1,   1,    0x81, 0x80, 0x80, 3,    4,    1,    3,
};

static void test_golden(void **state) {
    (void)state;
    struct meta_image i, back;
    example(&i);
    struct buf b = snapshot_of(&i);
    assert_int_equal(b.size, sizeof(golden));
    assert_memory_equal(b.data, golden, b.size);
    assert_int_equal(meta_snapshot_decode(&back, &heap, slice_borrow(golden, sizeof(golden))), OK);
    assert_same(&back, &b);
    int32_t partition;
    assert_string_equal(meta_image_topic_of_stream(&back, (struct stream_id){203}, &partition)->name, "b");
    assert_int_equal(partition, 199);
    meta_image_deinit(&back);
    meta_image_deinit(&i);
    buf_deinit(&b);
}

/* Version 2: the same, and two nodes' values. */
static void test_golden_two(void **state) {
    (void)state;
    static const uint8_t more[] = {2, 1, 1, 1, 'x', 1, '1', 6, 2, 1, 'a', 0, 1, 'b', 2, 'c', 'd'};
    uint8_t bytes[sizeof(golden) + sizeof(more)];
    memcpy(bytes, golden, sizeof(golden));
    memcpy(bytes + sizeof(golden), more, sizeof(more));
    bytes[0] = 2;
    struct meta_image i, back;
    example(&i);
    assert_int_equal(do_configure_broker(&i, 3, "b", "cd"), OK);
    assert_int_equal(do_configure_broker(&i, 3, "a", ""), OK);
    assert_int_equal(do_configure_broker(&i, META_ALL_BROKERS, "x", "1"), OK);
    struct buf b = snapshot_of(&i);
    assert_int_equal(b.size, sizeof(bytes));
    assert_memory_equal(b.data, bytes, b.size);
    assert_int_equal(meta_snapshot_decode(&back, &heap, slice_borrow(bytes, sizeof(bytes))), OK);
    assert_same(&back, &b);
    meta_image_deinit(&back);
    meta_image_deinit(&i);
    buf_deinit(&b);
    for (size_t n = sizeof(golden); n < sizeof(bytes); n++)
        assert_int_not_equal(meta_snapshot_decode(&back, &heap, slice_borrow(bytes, n)), OK);
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 0}, {1, 3}, {1, 6}, {2, 0}, {7, 1}, {7, 5}, {13, 'a'}}; /* counts, order of ids and of names */
    for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
        uint8_t was = bytes[sizeof(golden) + wrong[k].at];
        bytes[sizeof(golden) + wrong[k].at] = wrong[k].value;
        enum err e = meta_snapshot_decode(&back, &heap, slice_borrow(bytes, sizeof(bytes)));
        assert_true(e == ERR_CORRUPT || e == ERR_TRUNCATED);
        bytes[sizeof(golden) + wrong[k].at] = was;
    }
}

static void try_bytes(const uint8_t *bytes, size_t size) {
    uint8_t *exact = mem_alloc(&heap, size);
    memcpy(exact, bytes, size);
    uint64_t before = heap.allocated_bytes;
    struct meta_image i;
    enum err e = meta_snapshot_decode(&i, &heap, slice_borrow(exact, size));
    if (e == OK) {
        struct buf b = snapshot_of(&i);
        struct meta_image again;
        assert_int_equal(meta_snapshot_decode(&again, &heap, slice_borrow(b.data, b.size)), OK);
        assert_same(&again, &b);
        meta_image_deinit(&again);
        buf_deinit(&b);
        meta_image_deinit(&i);
    } else {
        assert_true(e == ERR_TRUNCATED || e == ERR_CORRUPT || e == ERR_VERSION);
    }
    assert_int_equal(heap.allocated_bytes, before);
    mem_free(&heap, exact);
}

static void test_bad_bytes(void **state) {
    (void)state;
    uint8_t bytes[sizeof(golden)];
    struct meta_image i;
    for (size_t n = 0; n < sizeof(golden); n++) {
        enum err e = meta_snapshot_decode(&i, &heap, slice_borrow(golden, n));
        assert_true(e == ERR_TRUNCATED || e == ERR_CORRUPT);
        try_bytes(golden, n);
    }
    for (size_t at = 0; at < sizeof(golden); at++) {
        for (unsigned v = 0; v < 256; v++) {
            memcpy(bytes, golden, sizeof(golden));
            bytes[at] = (uint8_t)v;
            try_bytes(bytes, sizeof(bytes));
        }
    }
    memcpy(bytes, golden, sizeof(golden));
    bytes[0] = 3;
    assert_int_equal(meta_snapshot_decode(&i, &heap, slice_borrow(bytes, sizeof(bytes))), ERR_VERSION);
}

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool valid;
    } names[] = {{"a", true},    {"A-b_c.9", true},   {"...", true}, {"__consumer_offsets", true},
                 {"", false},    {".", false},        {"..", false}, {"a b", false},
                 {"a/b", false}, {"\xc3\xa4", false}, {"a\n", false}};
    for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
        assert_int_equal(meta_topic_name_valid(names[k].name, strlen(names[k].name)), names[k].valid);
    }
    char name[251];
    memset(name, 'x', sizeof(name));
    assert_true(meta_topic_name_valid(name, 249));
    assert_false(meta_topic_name_valid(name, 250));

    char text[23];
    struct uuid u = {{0}};
    uuid_text(&u, text);
    assert_string_equal(text, "AAAAAAAAAAAAAAAAAAAAAA");
    memset(u.bytes, 0xff, 16);
    uuid_text(&u, text);
    assert_string_equal(text, "_____________________w");
    for (int k = 0; k < 16; k++)
        u.bytes[k] = (uint8_t)(k * 17); /* python: base64.urlsafe_b64encode(bytes(k * 17 for k in range(16))) */
    uuid_text(&u, text);
    assert_string_equal(text, "ABEiM0RVZneImaq7zN3u_w");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics),          cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_recovered),       cmocka_unit_test(test_configure),
        cmocka_unit_test(test_snapshot_random), cmocka_unit_test(test_golden),
        cmocka_unit_test(test_golden_two),      cmocka_unit_test(test_partitions_add),
        cmocka_unit_test(test_broker_configs),  cmocka_unit_test(test_bad_bytes),
        cmocka_unit_test(test_names),
    };
    mem_init_heap(&heap);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
