/* OffsetCommit, OffsetFetch, OffsetDelete, DeleteGroups, and when offsets and groups expire. */
#include "unit/coord/fixture.h"

#include <string.h>

#define HOUR_MS INT64_C(3600000)
#define DAY_MS (24 * HOUR_MS)

static void test_shown_when_durable(void **state) {
    struct fixture *f = *state;
    f->manual = true;
    struct call *a = COMMIT(f, .group = "g", .offset = 5, .metadata = "m", .leader_epoch = 7);
    struct call *b = COMMIT(f, .group = "g", .offset = 6);
    assert_false(a->done);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    fixture_durable(f, 1);
    assert_int_equal(fixture_committed(a), OK);
    assert_false(b->done);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 5);
    fixture_durable(f, 1);
    assert_int_equal(fixture_committed(b), OK);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 6);
    struct call *d = fixture_delete_group(f, "g");
    assert_false(d->done);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 6);
    struct call *late = COMMIT(f, .group = "g", .generation = 3);
    assert_false(late->done); /* that there is no such group is no sure thing yet */
    fixture_durable(f, f->count);
    ASSERT_ANSWER(d, OK);
    ASSERT_ANSWER(late, ERR_ILLEGAL_GENERATION);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
}

static void test_who_may_commit(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .generation = 1)), ERR_ILLEGAL_GENERATION);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "")), OK); /* as Kafka */
    fixture_stable(f, "g", 2, id);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g")), ERR_UNKNOWN_MEMBER_ID);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .member = "x", .generation = 1)), ERR_UNKNOWN_MEMBER_ID);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .member = id[0], .generation = 2)),
                     ERR_ILLEGAL_GENERATION);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .member = id[0])), ERR_ILLEGAL_GENERATION);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = 1)), OK);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .member = id[0], .instance = "i", .generation = 1)),
                     ERR_UNKNOWN_MEMBER_ID);
    char large[4098];
    memset(large, 'x', sizeof(large));
    large[4097] = 0;
    struct call *c = COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = 2, .metadata = large);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(fixture_committed(c), ERR_OFFSET_METADATA_TOO_LARGE);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 1);
    large[4096] = 0;
    assert_int_equal(
        fixture_committed(COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = 2, .metadata = large)),
        OK);
    /* A commit keeps a member alive, also while the group prepares. */
    fixture_advance(f, 9000);
    JOIN(f, .group = "g", .protocols = {"range"});
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .member = id[1], .generation = 1, .offset = 3)), OK);
    fixture_advance(f, 9999);
    assert_int_equal(BEAT(f, .group = "g", .member = id[1], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), ERR_UNKNOWN_MEMBER_ID);
}

static void test_same_again(void **state) {
    struct fixture *f = *state;
    f->manual = true;
    struct call *a = COMMIT(f, .group = "g", .offset = 5, .metadata = "m", .leader_epoch = 2);
    size_t written = f->written;
    struct call *b = COMMIT(f, .group = "g", .offset = 5, .metadata = "m", .leader_epoch = 2);
    assert_int_equal(f->written, written);
    assert_false(b->done); /* together with the first */
    fixture_durable(f, 1);
    ASSERT_ANSWER(a, OK);
    ASSERT_ANSWER(b, OK);
    ASSERT_ANSWER(COMMIT(f, .group = "g", .offset = 5, .metadata = "m", .leader_epoch = 2), OK);
    assert_int_equal(f->written, written);
    COMMIT(f, .group = "g", .offset = 5, .metadata = "n", .leader_epoch = 2);
    COMMIT(f, .group = "g", .offset = 5, .metadata = "n", .leader_epoch = 3);
    COMMIT(f, .group = "g", .offset = 5, .leader_epoch = 3);
    COMMIT(f, .group = "g", .offset = 4, .leader_epoch = 3);
    COMMIT(f, .group = "g", .offset = 4, .leader_epoch = 3, .retention_ms = DAY_MS);
    assert_int_equal(f->written, written + 5);
    fixture_durable(f, f->count);
    /* A repetition of what was before the newest is no repetition. */
    COMMIT(f, .group = "g", .offset = 5, .leader_epoch = 3);
    assert_int_equal(f->written, written + 6);
}

static void test_expiry_of_a_simple_consumer(void **state) {
    struct fixture *f = *state;
    COMMIT(f, .group = "g", .offset = 5);
    fixture_advance(f, 7 * DAY_MS - HOUR_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 5);
    fixture_advance(f, 2 * HOUR_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    assert_string_equal(fixture_state(f, "g"), "Dead");
    assert_int_equal(f->log.count, 0);
    /* Refreshed by commits that wrote nothing. */
    COMMIT(f, .group = "g", .offset = 5);
    size_t written = f->written;
    fixture_advance(f, DAY_MS);
    COMMIT(f, .group = "g", .offset = 5);
    assert_int_equal(f->written, written);
    fixture_advance(f, 7 * DAY_MS - HOUR_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 5);
    /* Further back than a quarter: written. */
    COMMIT(f, .group = "g", .offset = 5);
    assert_int_equal(f->written, written + 1);
    /* What was refreshed and not written survives a failover in time. */
    fixture_advance(f, DAY_MS);
    COMMIT(f, .group = "g", .offset = 5);
    assert_int_equal(f->written, written + 1);
    fixture_reload(f);
    fixture_advance(f, 7 * DAY_MS - HOUR_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 5);
    fixture_advance(f, DAY_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    /* A retention of the request's own (versions 2 to 4), and a time of its own (version 1). */
    COMMIT(f, .group = "g", .offset = 1, .retention_ms = DAY_MS);
    COMMIT(f, .group = "g", .offset = 2, .partition = 1, .timestamp_ms = f->now.wall_ms - 6 * DAY_MS);
    COMMIT(f, .group = "g", .offset = 3, .partition = 2, .retention_ms = 20 * DAY_MS);
    fixture_advance(f, DAY_MS + HOUR_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    assert_int_equal(fixture_offset(f, "g", "t", 1), -1);
    fixture_advance(f, 18 * DAY_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 2), 3);
}

static void test_expiry_of_a_group(void **state) {
    struct fixture *f = *state;
    struct call *c = JOIN(f, .group = "g", .protocols = {"p"}, .subscription = fixture_subscription(f, "t", NULL),
                          .session_ms = 1800000);
    fixture_advance(f, 3000);
    const char *id = MEMBER_OF(f, c);
    ASSERT_ANSWER(SYNC(f, .group = "g", .member = id, .generation = 1, .assign = {id, "x"}), OK);
    COMMIT(f, .group = "g", .member = id, .generation = 1, .offset = 1);
    COMMIT(f, .group = "g", .member = id, .generation = 1, .offset = 2, .topic = "old");
    for (int i = 0; i < 8 * 48; i++) {
        fixture_advance(f, HOUR_MS / 2 - 1);
        assert_int_equal(BEAT(f, .group = "g", .member = id, .generation = 1), OK);
    }
    /* Subscribed topics stay while the group lives. */
    assert_int_equal(fixture_offset(f, "g", "t", 0), 1);
    assert_int_equal(fixture_offset(f, "g", "old", 0), -1);
    LEAVE(f, 3, .group = "g", .member = id);
    assert_string_equal(fixture_state(f, "g"), "Empty");
    fixture_advance(f, 6 * DAY_MS);
    fixture_reload(f); /* counted from when it became Empty, also after a failover */
    fixture_advance(f, DAY_MS - HOUR_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 1);
    fixture_advance(f, 2 * HOUR_MS);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    assert_string_equal(fixture_state(f, "g"), "Dead");
    assert_int_equal(f->log.count, 0);
}

static void test_delete_offsets(void **state) {
    struct fixture *f = *state;
    assert_int_equal(fixture_deleted(fixture_delete_offset(f, "", "t", 0)), ERR_INVALID_GROUP_ID);
    assert_int_equal(fixture_deleted(fixture_delete_offset(f, "g", "t", 0)), ERR_GROUP_ID_NOT_FOUND);
    const char *id[2];
    fixture_stable(f, "g", 2, id);
    COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = 1);
    COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = 2, .topic = "u");
    assert_int_equal(fixture_deleted(fixture_delete_offset(f, "g", "t", 0)), ERR_GROUP_SUBSCRIBED_TO_TOPIC);
    f->manual = true;
    struct call *a = fixture_delete_offset(f, "g", "u", 0), *b = fixture_delete_offset(f, "g", "u", 0);
    assert_false(a->done);
    assert_false(b->done);
    assert_int_equal(fixture_offset(f, "g", "u", 0), 2);
    fixture_durable(f, f->count);
    f->manual = false;
    assert_int_equal(fixture_deleted(a), OK);
    assert_int_equal(fixture_deleted(b), OK);
    assert_int_equal(fixture_offset(f, "g", "u", 0), -1);
    assert_int_equal(fixture_deleted(fixture_delete_offset(f, "g", "u", 9)), OK); /* was never there */
    for (int i = 0; i < 2; i++) LEAVE(f, 3, .group = "g", .member = id[i]);
    assert_int_equal(fixture_deleted(fixture_delete_offset(f, "g", "t", 0)), OK);
    /* Groups that do not speak ConsumerProtocol must be empty. */
    struct call *c = JOIN(f, .group = "k", .protocols = {"p"}, .type = "connect");
    assert_int_equal(fixture_deleted(fixture_delete_offset(f, "k", "t", 0)), ERR_NON_EMPTY_GROUP);
    assert_false(c->done);
}

static void test_delete_groups(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    ASSERT_ANSWER(fixture_delete_group(f, "g"), ERR_GROUP_ID_NOT_FOUND);
    fixture_stable(f, "g", 2, id);
    COMMIT(f, .group = "g", .member = id[0], .generation = 1, .offset = 1);
    ASSERT_ANSWER(fixture_delete_group(f, "g"), ERR_NON_EMPTY_GROUP);
    for (int i = 0; i < 2; i++) LEAVE(f, 3, .group = "g", .member = id[i]);
    assert_int_equal(f->log.count, 2);
    f->manual = true;
    struct call *d = fixture_delete_group(f, "g");
    struct call *again = fixture_delete_group(f, "g");
    /* The name is used anew before the tombstones are durable. */
    struct call *c = COMMIT(f, .group = "g", .offset = 9);
    assert_false(d->done);
    assert_false(again->done);
    fixture_durable(f, f->count);
    ASSERT_ANSWER(d, OK);
    ASSERT_ANSWER(again, ERR_GROUP_ID_NOT_FOUND);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(f->log.count, 1);
    f->manual = false;
    fixture_reload(f);
    assert_int_equal(fixture_offset(f, "g", "t", 0), 9);
    ASSERT_ANSWER(fixture_delete_group(f, "g"), OK);
    assert_int_equal(f->log.count, 0);
}

static void test_topic_deleted(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++) {
        COMMIT(f, .group = "a", .partition = i, .offset = i);
        COMMIT(f, .group = "b", .partition = i, .offset = i);
    }
    COMMIT(f, .group = "b", .topic = "u", .offset = 4);
    coord_topic_deleted(f->coord, f->now, kafka_string_of("t"), &(struct kafka_uuid){{0}});
    fixture_pump(f);
    assert_int_equal(fixture_offset(f, "b", "t", 2), -1);
    struct call *c = fixture_call(f);
    c->done = true;
    struct coord_fetch fetch = {.group_id = kafka_string_of("b"), .all = true};
    COMMIT(f, .group = "b", .topic = "s", .partition = 3, .offset = 1, .metadata = "m", .leader_epoch = 6);
    COMMIT(f, .group = "b", .topic = "s", .partition = 1, .offset = 2);
    assert_int_equal(coord_fetch_offsets(f->coord, &fetch, &c->arena), OK);
    assert_int_equal(fetch.item_count, 3);
    ASSERT_STRING(fetch.items[0].topic, "s");
    assert_int_equal(fetch.items[0].partition, 1);
    assert_int_equal(fetch.items[0].leader_epoch, -1);
    ASSERT_STRING(fetch.items[1].metadata, "m");
    assert_int_equal(fetch.items[1].leader_epoch, 6);
    ASSERT_STRING(fetch.items[2].topic, "u");
    fetch.group_id = kafka_string_of("none");
    assert_int_equal(coord_fetch_offsets(f->coord, &fetch, &c->arena), OK);
    assert_int_equal(fetch.item_count, 0);
    fixture_advance(f, HOUR_MS);
    assert_string_equal(fixture_state(f, "a"), "Dead");
}

static void count_removed(void *ctx, const struct coord_event *e) {
    if (e->kind == COORD_GROUP_REMOVED) *(int *)ctx += e->generation;
}

/* An Empty group keeps its generation as long as it has offsets, over loads too; then it goes, and another one begins. */
static void test_generation_of_an_empty_group(void **state) {
    struct fixture *f = *state;
    int removed = 0;
    f->config.event = count_removed;
    f->config.event_ctx = &removed;
    fixture_reload(f);
    const char *id;
    fixture_stable(f, "g", 1, &id);
    ASSERT_ANSWER(COMMIT(f, .group = "g", .member = id, .generation = 1, .offset = 1), OK);
    ASSERT_ANSWER(LEAVE(f, 3, .group = "g", .member = id), OK);
    fixture_advance(f, HOUR_MS);
    fixture_reload(f);
    fixture_advance(f, HOUR_MS);
    struct call *c = JOIN(f, .group = "g", .protocols = {"range"}, .version = 3);
    fixture_advance(f, f->config.initial_rebalance_delay_ms);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(c->reply.answer.join->generation_id, 3); /* 2 was that without members */
    coord_topic_deleted(f->coord, f->now, kafka_string_of("t"), &(struct kafka_uuid){{0}});
    fixture_advance(f, HOUR_MS);
    assert_string_equal(fixture_state(f, "g"), "Dead");
    assert_int_equal(removed, 4); /* what the end of the session led to */
    assert_int_equal(f->log.count, 0);
    fixture_stable(f, "g", 1, &id);
}

/* What group g committed for partition 0 of a topic "t" with that id. */
static int64_t offset_of_topic(struct fixture *f, uint8_t id, uint8_t *found) {
    struct arena a;
    arena_init(&a, &f->mem);
    struct coord_offset_item item = {.topic = kafka_string_of("t"), .topic_id = fixture_topic_id(id)};
    struct coord_fetch fetch = {.group_id = kafka_string_of("g"), .items = &item, .item_count = 1};
    assert_int_equal(coord_fetch_offsets(f->coord, &fetch, &a), OK);
    arena_deinit(&a);
    if (found) *found = item.topic_id.bytes[15];
    return item.offset;
}

static void topic_deleted(struct fixture *f, uint8_t id) {
    struct kafka_uuid uuid = fixture_topic_id(id);
    coord_topic_deleted(f->coord, f->now, kafka_string_of("t"), &uuid);
    fixture_pump(f);
}

static void topic_is(struct fixture *f, uint8_t id) {
    struct kafka_uuid uuid = fixture_topic_id(id);
    coord_topic_is(f->coord, f->now, kafka_string_of("t"), id ? &uuid : NULL);
    fixture_pump(f);
}

/* A topic that is made anew has none of the old one's offsets, and keeps its own when those of the old one go. */
static void test_topic_made_anew(void **state) {
    struct fixture *f = *state;
    uint8_t found;
    COMMIT(f, .group = "g", .topic_id = 1, .offset = 5);
    assert_int_equal(offset_of_topic(f, 0, &found), 5);
    assert_int_equal(found, 1);
    assert_int_equal(offset_of_topic(f, 1, NULL), 5);
    assert_int_equal(offset_of_topic(f, 2, NULL), -1);
    /* The tombstone is on its way when the new topic's first offset comes: the same one, and yet another. */
    f->manual = true;
    topic_deleted(f, 1);
    struct call *c = COMMIT(f, .group = "g", .topic_id = 2, .offset = 5);
    assert_false(c->done);
    assert_int_equal(offset_of_topic(f, 2, NULL), -1);
    topic_deleted(f, 1); /* somebody hears of it late */
    fixture_durable(f, f->count);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(offset_of_topic(f, 2, NULL), 5);
    assert_int_equal(offset_of_topic(f, 1, NULL), -1);
    f->manual = false;
    COMMIT(f, .group = "g", .topic_id = 3, .offset = 5); /* without a tombstone in between */
    assert_int_equal(offset_of_topic(f, 2, NULL), -1);
    topic_deleted(f, 2);
    fixture_reload(f);
    assert_int_equal(offset_of_topic(f, 3, NULL), 5);
}

/* Nobody could write tombstones down: what is loaded is compared with the topics that there are. */
static void test_topics_after_a_load(void **state) {
    struct fixture *f = *state;
    COMMIT(f, .group = "g", .topic_id = 1, .offset = 5, .retention_ms = DAY_MS);
    COMMIT(f, .group = "h", .topic = "t", .topic_id = 2, .offset = 6);
    COMMIT(f, .group = "h", .topic = "u", .topic_id = 1, .offset = 7);
    fixture_reload(f);
    topic_is(f, 1);
    fixture_reload(f);
    assert_int_equal(offset_of_topic(f, 1, NULL), 5);
    assert_int_equal(fixture_offset(f, "h", "t", 0), -1);
    assert_int_equal(fixture_offset(f, "h", "u", 0), 7);
    topic_is(f, 2);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    fixture_reload(f);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    COMMIT(f, .group = "g", .topic_id = 2, .offset = 8);
    topic_is(f, 0);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
}

/* Older records do not say for which topic: they are taken for the present one's, once. */
static void test_offsets_without_a_topic(void **state) {
    struct fixture *f = *state;
    COMMIT(f, .group = "g", .offset = 5, .metadata = "m", .leader_epoch = 3);
    COMMIT(f, .group = "h", .offset = 6, .retention_ms = DAY_MS);
    fixture_reload(f);
    f->manual = true;
    topic_is(f, 1);
    assert_int_equal(f->batches[f->first].count, 2);
    assert_int_equal(offset_of_topic(f, 1, NULL), 5); /* before it is stored anew */
    fixture_durable(f, f->count);
    f->manual = false;
    fixture_reload(f);
    assert_int_equal(offset_of_topic(f, 1, NULL), 5);
    assert_int_equal(offset_of_topic(f, 2, NULL), -1);
    size_t written = f->written;
    topic_is(f, 1);
    assert_int_equal(f->written, written);
    COMMIT(f, .group = "g", .topic_id = 1, .offset = 5, .metadata = "m", .leader_epoch = 3);
    assert_int_equal(f->written, written); /* all of it is as it was */
    fixture_advance(f, 2 * DAY_MS);
    assert_int_equal(fixture_offset(f, "h", "t", 0), -1); /* its retention too */
    assert_int_equal(offset_of_topic(f, 1, NULL), 5);
    topic_is(f, 2);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
    /* A topic that goes takes along what does not say whose it is. */
    COMMIT(f, .group = "g", .offset = 5);
    topic_deleted(f, 7);
    assert_int_equal(fixture_offset(f, "g", "t", 0), -1);
}

/* More than one look may write. */
static void test_many_expire(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 10000; i++) COMMIT(f, .group = "g", .partition = i, .offset = i);
    fixture_advance(f, 8 * DAY_MS);
    assert_int_equal(f->log.count, 0);
    assert_string_equal(fixture_state(f, "g"), "Dead");
    struct coord_counts counts;
    coord_counts(f->coord, &counts);
    assert_int_equal(counts.by_state[4], 0); /* reaped */
}

/* A small request may want much: each record repeats the names, each item of an answer its metadata. */
static void test_much_of_little(void **state) {
    enum { ITEMS = 20000 };
    struct fixture *f = *state;
    char *group = test_malloc(1001), metadata[4001];
    memset(group, 'g', 1000);
    group[1000] = '\0';
    memset(metadata, 'm', 4000);
    metadata[4000] = '\0';
    COMMIT(f, .group = group, .offset = 3, .metadata = metadata);
    struct call *c = fixture_call(f);
    struct coord_commit_item *items = test_calloc(ITEMS, sizeof(*items));
    for (size_t i = 0; i < ITEMS; i++)
        items[i] =
            (struct coord_commit_item){.topic = kafka_string_of("t"), .offset = (int64_t)i, .commit_timestamp_ms = -1};
    struct coord_commit commit = {.group_id = kafka_string_of(group),
                                  .group_instance_id = kafka_string_of(NULL),
                                  .generation = -1,
                                  .retention_ms = -1,
                                  .items = items,
                                  .item_count = ITEMS};
    coord_commit_offsets(f->coord, f->now, &commit, &c->reply);
    fixture_pump(f);
    ASSERT_ANSWER(c, ERR_COMMIT_TOO_LARGE);
    assert_int_equal(items[ITEMS - 1].error, ERR_COMMIT_TOO_LARGE);
    assert_int_equal(fixture_offset(f, group, "t", 0), 3);

    struct arena a;
    arena_init(&a, &f->mem);
    struct coord_offset_item *asked = test_calloc(ITEMS, sizeof(*asked)); /* 80 MB of metadata */
    for (size_t i = 0; i < ITEMS; i++) asked[i] = (struct coord_offset_item){.topic = kafka_string_of("t")};
    struct coord_fetch fetch = {.group_id = kafka_string_of(group), .items = asked, .item_count = ITEMS};
    assert_int_equal(coord_fetch_offsets(f->coord, &fetch, &a), OK);
    assert_int_equal(asked[0].offset, 3);
    assert_int_equal(asked[16000].error, OK);
    assert_int_equal(asked[ITEMS - 1].error, ERR_OFFSET_METADATA_TOO_LARGE);
    arena_deinit(&a);
    test_free(asked);
    test_free(items);
    test_free(group);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        COORD_TEST(test_shown_when_durable),
        COORD_TEST(test_who_may_commit),
        COORD_TEST(test_same_again),
        COORD_TEST(test_expiry_of_a_simple_consumer),
        COORD_TEST(test_expiry_of_a_group),
        COORD_TEST(test_delete_offsets),
        COORD_TEST(test_delete_groups),
        COORD_TEST(test_topic_deleted),
        COORD_TEST(test_generation_of_an_empty_group),
        COORD_TEST(test_topic_made_anew),
        COORD_TEST(test_topics_after_a_load),
        COORD_TEST(test_offsets_without_a_topic),
        COORD_TEST(test_many_expire),
        COORD_TEST(test_much_of_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
