/* SyncGroup and heartbeats: who is answered what in which state; assignments; and that nothing is told before it is
 * durable. */
#include "unit/coord/fixture.h"

#include <string.h>

static void completing(struct fixture *f, const char *group, const char **ids) {
    struct call *c[2];
    for (int i = 0; i < 2; i++) c[i] = JOIN(f, .group = group, .protocols = {"range"}, .version = 3);
    fixture_advance(f, 6000);
    for (int i = 0; i < 2; i++) {
        ASSERT_ANSWER(c[i], OK);
        ids[i] = MEMBER_OF(f, c[i]);
    }
}

static void test_refusals(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    ASSERT_ANSWER(SYNC(f, .group = "", .generation = 1), ERR_INVALID_GROUP_ID);
    ASSERT_ANSWER(SYNC(f, .group = "g", .member = "m", .generation = 1), ERR_UNKNOWN_MEMBER_ID);
    completing(f, "g", id);
    ASSERT_ANSWER(SYNC(f, .group = "g", .member = "m", .generation = 1), ERR_UNKNOWN_MEMBER_ID);
    ASSERT_ANSWER(SYNC(f, .group = "g", .member = id[1], .generation = 2), ERR_ILLEGAL_GENERATION);
    ASSERT_ANSWER(SYNC(f, .group = "g", .member = id[1], .generation = 1, .version = 5),
                  ERR_INCONSISTENT_GROUP_PROTOCOL);
    ASSERT_ANSWER(
        SYNC(f, .group = "g", .member = id[1], .generation = 1, .version = 5, .type = "consumer", .protocol = "other"),
        ERR_INCONSISTENT_GROUP_PROTOCOL);
    ASSERT_ANSWER(
        SYNC(f, .group = "g", .member = id[1], .generation = 1, .version = 5, .type = "connect", .protocol = "range"),
        ERR_INCONSISTENT_GROUP_PROTOCOL);
    assert_int_equal(BEAT(f, .group = "", .member = id[0]), ERR_INVALID_GROUP_ID);
    assert_int_equal(BEAT(f, .group = "none", .member = id[0]), ERR_UNKNOWN_MEMBER_ID);
    assert_int_equal(BEAT(f, .group = "g", .member = "m", .generation = 1), ERR_UNKNOWN_MEMBER_ID);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 0), ERR_ILLEGAL_GENERATION);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), OK); /* while it completes */
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g", .member = id[0], .generation = 1)),
                     ERR_REBALANCE_IN_PROGRESS);
}

static void test_assignments(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    completing(f, "g", id);
    struct call *a = SYNC(f, .group = "g", .member = id[1], .generation = 1);
    struct call *b = SYNC(f, .group = "g", .member = id[1], .generation = 1); /* sent again */
    ASSERT_ANSWER(a, ERR_REBALANCE_IN_PROGRESS);
    f->manual = true;
    struct call *l = SYNC(f, .group = "g", .member = id[0], .generation = 1, .version = 5, .type = "consumer",
                          .protocol = "range", .assign = {id[0], "one", "stranger", "x"});
    assert_false(l->done);
    assert_false(b->done);
    /* Whatever looks at the group now waits as well. */
    struct call *h = fixture_heartbeat(f, (struct who){.group = "g", .member = id[1], .generation = 1});
    struct call *d = fixture_describe(f, "g", 5);
    assert_false(h->done);
    assert_false(d->done);
    fixture_durable(f, 1);
    ASSERT_ANSWER(l, OK);
    ASSERT_ANSWER(b, OK);
    ASSERT_ANSWER(h, OK);
    ASSERT_ANSWER(d, OK);
    assert_int_equal(l->reply.answer.sync->assignment.size, 3);
    assert_memory_equal(l->reply.answer.sync->assignment.data, "one", 3);
    ASSERT_STRING(l->reply.answer.sync->protocol_type, "consumer");
    ASSERT_STRING(l->reply.answer.sync->protocol_name, "range");
    assert_int_equal(b->reply.answer.sync->assignment.size, 0); /* the leader forgot it */
    ASSERT_STRING(d->reply.answer.describe->group_state, "Stable");
    ASSERT_STRING(d->reply.answer.describe->protocol_data, "range");
    assert_int_equal(d->reply.answer.describe->members.count, 2);
    assert_int_equal(d->reply.answer.describe->members.items[0].member_assignment.size, 3);
    ASSERT_STRING(d->reply.answer.describe->members.items[0].client_host, "/127.0.0.1");
}

static void test_leader_never_syncs(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    completing(f, "g", id);
    struct call *s = SYNC(f, .group = "g", .member = id[1], .generation = 1);
    for (int i = 0; i < 7; i++) {
        fixture_advance(f, 8571);
        assert_false(s->done);
        assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), OK);
    }
    fixture_advance(f, 3);
    ASSERT_ANSWER(s, ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), ERR_UNKNOWN_MEMBER_ID);
    struct call *j = JOIN(f, .group = "g", .member = id[1], .protocols = {"range"}, .version = 3);
    ASSERT_ANSWER(j, OK);
    ASSERT_STRING(j->reply.answer.join->leader, id[1]);
    assert_int_equal(j->reply.answer.join->generation_id, 2);
}

/* The store is slow: nobody is put out for not answering what was not told. */
static void test_slow_write(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    fixture_stable(f, "g", 2, id);
    struct call *j[2];
    f->manual = true;
    for (int i = 1; i >= 0; i--)
        j[i] = JOIN(f, .group = "g", .member = id[i], .protocols = {"range"}, .metadata = "new", .version = 3);
    assert_false(j[0]->done);
    fixture_advance(f, 3600000);
    assert_false(j[0]->done);
    /* Another comes meanwhile: the group prepares anew, though nobody knows of the generation before. */
    struct call *n = JOIN(f, .group = "g", .protocols = {"range"}, .version = 3);
    fixture_advance(f, 200000);
    assert_false(n->done);
    fixture_durable(f, f->count);
    ASSERT_ANSWER(j[0], OK);
    ASSERT_ANSWER(j[1], OK);
    assert_int_equal(j[0]->reply.answer.join->generation_id, 2);
    assert_int_equal(j[0]->reply.answer.join->members.count, 2);
    fixture_advance(f, 9999);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 2), ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(BEAT(f, .group = "g", .member = id[1], .generation = 2), ERR_REBALANCE_IN_PROGRESS);
    for (int i = 0; i < 2; i++)
        j[i] = JOIN(f, .group = "g", .member = id[i], .protocols = {"range"}, .metadata = "new", .version = 3);
    fixture_durable(f, f->count);
    ASSERT_ANSWER(n, OK);
    assert_int_equal(n->reply.answer.join->generation_id, 3);
    assert_int_equal(j[0]->reply.answer.join->members.count, 3);
}

static void test_failed_write(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    completing(f, "g", id);
    f->manual = true;
    struct call *s = SYNC(f, .group = "g", .member = id[0], .generation = 1, .assign = {id[0], "one"});
    struct call *h = fixture_heartbeat(f, (struct who){.group = "g", .member = id[0], .generation = 1});
    struct call *c = COMMIT(f, .group = "s", .offset = 5);
    struct call *j = JOIN(f, .group = "other", .protocols = {"p"});
    assert_int_equal(f->count, 2);
    coord_write_failed(f->coord, f->batches[f->first % FIXTURE_BATCHES].sequence);
    ASSERT_ANSWER(s, ERR_COORDINATOR_NOT_AVAILABLE);
    assert_int_equal(s->reply.answer.sync->error_code, 15);
    assert_int_equal(s->reply.answer.sync->assignment.size, 0);
    ASSERT_ANSWER(h, ERR_COORDINATOR_NOT_AVAILABLE);
    assert_int_equal(fixture_committed(c), ERR_COORDINATOR_NOT_AVAILABLE);
    ASSERT_ANSWER(j, ERR_NOT_COORDINATOR);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), ERR_NOT_COORDINATOR);
    assert_int_equal(coord_next_due(f->coord), INT64_MAX);
    /* Loaded without the assignment: the group rebalances, into a generation that nobody saw. */
    f->manual = false;
    fixture_reload(f);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
    assert_int_equal(fixture_offset(f, "s", "t", 0), -1);
    struct call *a = JOIN(f, .group = "g", .member = id[0], .protocols = {"range"});
    struct call *b = JOIN(f, .group = "g", .member = id[1], .protocols = {"range"});
    ASSERT_ANSWER(a, OK);
    ASSERT_ANSWER(b, OK);
    assert_int_equal(b->reply.answer.join->generation_id, 2);
}

static void test_reload(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    fixture_stable(f, "g", 2, id);
    fixture_advance(f, 9000);
    fixture_reload(f);
    assert_string_equal(fixture_state(f, "g"), "Stable");
    fixture_advance(f, 9999); /* sessions are new */
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), OK);
    struct call *c = SYNC(f, .group = "g", .member = id[0], .generation = 1);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(c->reply.answer.sync->assignment.size, 8);
    c = JOIN(f, .group = "g", .member = id[1], .protocols = {"range"}, .version = 3);
    ASSERT_ANSWER(c, OK);
    ASSERT_STRING(c->reply.answer.join->leader, id[0]);
    /* Still loading. */
    struct coord *other = f->coord;
    f->coord = coord_create(&f->mem, &f->config, 9);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), OK);
    ASSERT_ANSWER(SYNC(f, .group = "g", .member = id[0], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
    c = JOIN(f, .group = "g", .member = id[0], .protocols = {"range"});
    ASSERT_ANSWER(c, ERR_COORDINATOR_LOAD_IN_PROGRESS);
    ASSERT_STRING(c->reply.answer.join->member_id, id[0]);
    assert_int_equal(fixture_committed(COMMIT(f, .group = "g")), ERR_COORDINATOR_LOAD_IN_PROGRESS);
    coord_unload(f->coord);
    coord_destroy(f->coord);
    f->coord = other;
}

static void test_describe_and_list(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    fixture_stable(f, "b", 2, id);
    COMMIT(f, .group = "a", .offset = 1);
    JOIN(f, .group = "c", .protocols = {"p"}, .type = "connect");
    struct call *c = fixture_describe(f, "none", 5);
    ASSERT_ANSWER(c, OK);
    ASSERT_STRING(c->reply.answer.describe->group_state, "Dead");
    c = fixture_describe(f, "none", 6);
    ASSERT_ANSWER(c, ERR_GROUP_ID_NOT_FOUND);
    assert_int_equal(c->reply.answer.describe->error_code, 69);
    ASSERT_STRING(c->reply.answer.describe->error_message, "Group none not found.");
    ASSERT_STRING(c->reply.answer.describe->group_id, "none");
    c = fixture_describe(f, "c", 6);
    ASSERT_STRING(c->reply.answer.describe->group_state, "PreparingRebalance");
    ASSERT_STRING(c->reply.answer.describe->protocol_data, "");
    assert_int_equal(c->reply.answer.describe->members.items[0].member_metadata.size, 0);
    struct kafka_list_groups_response_group_array out;
    struct kafka_string state_names[] = {kafka_string_of("stable"), kafka_string_of("Empty")};
    struct kafka_string_array states = {state_names, 2}, types = {state_names, 1}, none = {NULL, 0};
    assert_int_equal(coord_list(f->coord, &none, &none, &out, &c->arena), OK);
    assert_int_equal(out.count, 3);
    ASSERT_STRING(out.items[0].group_id, "a");
    ASSERT_STRING(out.items[0].protocol_type, "");
    ASSERT_STRING(out.items[0].group_type, "classic");
    ASSERT_STRING(out.items[2].group_id, "c");
    ASSERT_STRING(out.items[2].protocol_type, "connect");
    ASSERT_STRING(out.items[2].group_state, "PreparingRebalance");
    assert_int_equal(coord_list(f->coord, &states, &none, &out, &c->arena), OK);
    assert_int_equal(out.count, 2);
    assert_int_equal(coord_list(f->coord, &none, &types, &out, &c->arena), OK);
    assert_int_equal(out.count, 0);
    state_names[0] = kafka_string_of("Classic");
    assert_int_equal(coord_list(f->coord, &none, &types, &out, &c->arena), OK);
    assert_int_equal(out.count, 3);
    struct coord_counts counts;
    coord_counts(f->coord, &counts);
    assert_int_equal(counts.groups, 3);
    assert_int_equal(counts.members, 3);
    assert_int_equal(counts.offsets, 1);
    assert_int_equal(counts.by_state[3], 1);
    assert_int_equal(counts.waiting, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        COORD_TEST(test_refusals),          COORD_TEST(test_assignments),  COORD_TEST(test_leader_never_syncs),
        COORD_TEST(test_slow_write),        COORD_TEST(test_failed_write), COORD_TEST(test_reload),
        COORD_TEST(test_describe_and_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
