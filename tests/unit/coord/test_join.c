/* JoinGroup: who is let in and with which answer, by version; the initial delay; rejoining; time-outs; static members. */
#include "unit/coord/fixture.h"

#include <string.h>

static void test_first_member(void **state) {
    struct fixture *f = *state;
    struct call *c = JOIN(f, .group = "g", .protocols = {"range", "roundrobin"}, .version = 9);
    ASSERT_ANSWER(c, ERR_MEMBER_ID_REQUIRED);
    const char *id = MEMBER_OF(f, c);
    assert_int_equal(strlen(id), strlen("client-") + 36);
    assert_memory_equal(id, "client-", 7);
    assert_int_equal(c->reply.answer.join->error_code, 79);
    assert_int_equal(c->reply.answer.join->generation_id, -1);
    ASSERT_STRING(c->reply.answer.join->protocol_name, NULL);
    c = JOIN(f, .group = "g", .member = id, .protocols = {"range", "roundrobin"}, .version = 9);
    assert_false(c->done);
    fixture_advance(f, 2999);
    assert_false(c->done);
    f->manual = true;
    fixture_advance(f, 1);
    /* The generation is written and not yet told. */
    assert_false(c->done);
    assert_int_equal(f->count, 1);
    fixture_durable(f, 1);
    ASSERT_ANSWER(c, OK);
    const struct kafka_join_group_response *r = c->reply.answer.join;
    assert_int_equal(r->generation_id, 1);
    ASSERT_STRING(r->protocol_type, "consumer");
    ASSERT_STRING(r->protocol_name, "range");
    ASSERT_STRING(r->leader, id);
    ASSERT_STRING(r->member_id, id);
    assert_false(r->skip_assignment);
    assert_int_equal(r->members.count, 1);
    ASSERT_STRING(r->members.items[0].member_id, id);
    assert_int_equal(r->members.items[0].metadata.size, 13);
}

static void test_no_member_id_needed(void **state) {
    struct fixture *f = *state;
    for (int version = 0; version <= 9; version++) {
        const char *group = fixture_str(f, kafka_string_view(&"0123456789"[version], 1));
        struct call *c = JOIN(f, .group = group, .protocols = {"p"}, .version = version);
        if (version < 4) {
            assert_false(c->done);
        } else {
            ASSERT_ANSWER(c, ERR_MEMBER_ID_REQUIRED);
        }
        /* Static members never need one. */
        if (version >= 5)
            assert_false(JOIN(f, .group = group, .instance = "i", .protocols = {"p"}, .version = version)->done);
    }
}

/* Version 0 has no rebalance time-out: it is the session's. Who does not come back in time is out. */
static void test_rebalance_timeout(void **state) {
    struct fixture *f = *state;
    for (int version = 0; version < 2; version++) {
        const char *group = version ? "b" : "a";
        struct call *c[2];
        for (int i = 0; i < 2; i++)
            c[i] = JOIN(f, .group = group, .protocols = {"p"}, .version = version, .rebalance_ms = 25000);
        fixture_advance(f, 6000);
        ASSERT_ANSWER(c[0], OK);
        ASSERT_ANSWER(c[1], OK);
        const char *id[2] = {MEMBER_OF(f, c[0]), MEMBER_OF(f, c[1])};
        int64_t start = f->now.mono_ms;
        struct call *again = JOIN(f, .group = group, .member = id[0], .protocols = {"p"}, .metadata = "new",
                                  .version = version, .rebalance_ms = 25000);
        while (!again->done && f->now.mono_ms < start + 60000) {
            fixture_advance(f, 1000);
            if (!again->done)
                assert_int_equal(BEAT(f, .group = group, .member = id[1], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
        }
        ASSERT_ANSWER(again, OK);
        assert_int_equal(f->now.mono_ms - start, version == 0 ? 10000 : 25000);
        assert_int_equal(again->reply.answer.join->generation_id, 2);
        assert_int_equal(again->reply.answer.join->members.count, 1);
        assert_int_equal(BEAT(f, .group = group, .member = id[1], .generation = 1), ERR_UNKNOWN_MEMBER_ID);
    }
}

static void test_refusals(void **state) {
    struct fixture *f = *state;
    ASSERT_ANSWER(JOIN(f, .group = "", .protocols = {"p"}), ERR_INVALID_GROUP_ID);
    ASSERT_ANSWER(JOIN(f, .group = "g", .protocols = {"p"}, .session_ms = 5999), ERR_INVALID_SESSION_TIMEOUT);
    ASSERT_ANSWER(JOIN(f, .group = "g", .protocols = {"p"}, .session_ms = 1800001), ERR_INVALID_SESSION_TIMEOUT);
    ASSERT_ANSWER(JOIN(f, .group = "g", .member = "x", .protocols = {"p"}), ERR_UNKNOWN_MEMBER_ID);
    ASSERT_ANSWER(JOIN(f, .group = "g"), ERR_INCONSISTENT_GROUP_PROTOCOL);
    ASSERT_ANSWER(JOIN(f, .group = "g", .type = "", .protocols = {"p"}), ERR_INCONSISTENT_GROUP_PROTOCOL);
    assert_string_equal(fixture_state(f, "g"), "Dead"); /* none of them made a group */
    const char *id[2];
    fixture_stable(f, "g", 2, id);
    ASSERT_ANSWER(JOIN(f, .group = "g", .protocols = {"other"}), ERR_INCONSISTENT_GROUP_PROTOCOL);
    ASSERT_ANSWER(JOIN(f, .group = "g", .type = "connect", .protocols = {"range"}), ERR_INCONSISTENT_GROUP_PROTOCOL);
    ASSERT_ANSWER(JOIN(f, .group = "g", .member = "x", .protocols = {"range"}), ERR_UNKNOWN_MEMBER_ID);
    ASSERT_ANSWER(JOIN(f, .group = "g", .member = id[0], .instance = "i", .protocols = {"range"}),
                  ERR_UNKNOWN_MEMBER_ID);
    assert_string_equal(fixture_state(f, "g"), "Stable");
    /* Version 7 and later say null, earlier ones cannot. */
    struct call *c = JOIN(f, .group = "g", .member = "x", .protocols = {"range"}, .version = 6);
    ASSERT_STRING(c->reply.answer.join->protocol_name, "");
    ASSERT_STRING(c->reply.answer.join->member_id, "x");
}

static void test_initial_delay_is_extended(void **state) {
    struct fixture *f = *state;
    struct call *a = JOIN(f, .group = "g", .protocols = {"p"}, .rebalance_ms = 8000, .version = 1);
    fixture_advance(f, 2000);
    struct call *b = JOIN(f, .group = "g", .protocols = {"p"}, .rebalance_ms = 8000, .version = 1);
    fixture_advance(f, 3999);
    assert_false(a->done); /* 3000 + 3000 */
    struct call *c = JOIN(f, .group = "g", .protocols = {"p"}, .rebalance_ms = 8000, .version = 1);
    fixture_advance(f, 2000);
    assert_false(a->done);
    fixture_advance(f, 1); /* never beyond the rebalance time-out */
    ASSERT_ANSWER(a, OK);
    ASSERT_ANSWER(b, OK);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(a->reply.answer.join->members.count, 3);
    assert_int_equal(b->reply.answer.join->members.count, 0);
    ASSERT_STRING(b->reply.answer.join->leader, MEMBER_OF(f, a));
}

static void test_vote(void **state) {
    struct fixture *f = *state;
    struct call *a = JOIN(f, .group = "g", .protocols = {"a", "b", "c"});
    struct call *b = JOIN(f, .group = "g", .protocols = {"c", "b"});
    struct call *c = JOIN(f, .group = "g", .protocols = {"a", "b", "c"}, .version = 3);
    ASSERT_ANSWER(JOIN(f, .group = "g", .protocols = {"a"}), ERR_INCONSISTENT_GROUP_PROTOCOL);
    fixture_advance(f, 6000);
    ASSERT_ANSWER(a, OK);
    ASSERT_STRING(a->reply.answer.join->protocol_name, "b"); /* of b and c, two prefer b */
    ASSERT_STRING(b->reply.answer.join->protocol_name, "b");
    ASSERT_STRING(c->reply.answer.join->protocol_name, "b");
}

static void test_rejoin(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    fixture_stable(f, "g", 2, id);
    /* A follower that says the same hears of the present generation. */
    struct call *c = JOIN(f, .group = "g", .member = id[1], .protocols = {"range"}, .version = 7);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(c->reply.answer.join->generation_id, 1);
    assert_int_equal(c->reply.answer.join->members.count, 0);
    ASSERT_STRING(c->reply.answer.join->leader, id[0]);
    assert_string_equal(fixture_state(f, "g"), "Stable");
    /* A leader has the group assigned anew. */
    struct call *l = JOIN(f, .group = "g", .member = id[0], .protocols = {"range"});
    assert_false(l->done);
    assert_string_equal(fixture_state(f, "g"), "PreparingRebalance");
    assert_int_equal(BEAT(f, .group = "g", .member = id[1], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
    ASSERT_ANSWER(SYNC(f, .group = "g", .member = id[1], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
    /* A second join of the same member takes the place of the first. */
    struct call *l2 = JOIN(f, .group = "g", .member = id[0], .protocols = {"range"});
    ASSERT_ANSWER(l, ERR_REBALANCE_IN_PROGRESS);
    c = JOIN(f, .group = "g", .member = id[1], .protocols = {"range"}, .metadata = "other");
    ASSERT_ANSWER(c, OK);
    ASSERT_ANSWER(l2, OK);
    assert_int_equal(l2->reply.answer.join->generation_id, 2);
    assert_int_equal(l2->reply.answer.join->members.count, 2);
    /* While it completes: the same again is answered again, something else begins anew. */
    l = JOIN(f, .group = "g", .member = id[0], .protocols = {"range"});
    ASSERT_ANSWER(l, OK);
    assert_int_equal(l->reply.answer.join->members.count, 2);
    assert_int_equal(BEAT(f, .group = "g", .member = id[1], .generation = 2), OK);
    assert_int_equal(BEAT(f, .group = "g", .member = id[1], .generation = 1), ERR_ILLEGAL_GENERATION);
    struct call *s = SYNC(f, .group = "g", .member = id[1], .generation = 2);
    assert_false(s->done);
    c = JOIN(f, .group = "g", .member = id[0], .protocols = {"range"}, .metadata = "third");
    assert_false(c->done);
    ASSERT_ANSWER(s, ERR_REBALANCE_IN_PROGRESS);
}

static void test_sizes(void **state) {
    struct fixture *f = *state;
    f->config.group_max_size = 2;
    coord_configure(f->coord, &f->config);
    const char *id[2];
    fixture_stable(f, "g", 2, id);
    ASSERT_ANSWER(JOIN(f, .group = "g", .protocols = {"range"}), ERR_GROUP_MAX_SIZE_REACHED);
    ASSERT_ANSWER(JOIN(f, .group = "g", .protocols = {"range"}, .version = 5), ERR_GROUP_MAX_SIZE_REACHED);
    /* A group that is too large when it is loaded rebalances, and only so many come back. */
    f->config.group_max_size = 1;
    fixture_reload(f);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
    struct call *c = JOIN(f, .group = "g", .member = id[1], .protocols = {"range"});
    ASSERT_ANSWER(JOIN(f, .group = "g", .member = id[0], .protocols = {"range"}), ERR_GROUP_MAX_SIZE_REACHED);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(c->reply.answer.join->generation_id, 2);
    assert_int_equal(c->reply.answer.join->members.count, 1);
}

static void test_pending_members(void **state) {
    struct fixture *f = *state;
    struct call *p = JOIN(f, .group = "g", .protocols = {"p"}, .version = 4);
    ASSERT_ANSWER(p, ERR_MEMBER_ID_REQUIRED);
    const char *id = MEMBER_OF(f, p);
    assert_int_equal(BEAT(f, .group = "g", .member = id, .generation = 0), ERR_UNKNOWN_MEMBER_ID);
    assert_int_equal(fixture_left(LEAVE(f, 3, .group = "g", .member = id)), OK);
    ASSERT_ANSWER(JOIN(f, .group = "g", .member = id, .protocols = {"p"}, .version = 4), ERR_UNKNOWN_MEMBER_ID);
    id = MEMBER_OF(f, JOIN(f, .group = "g", .protocols = {"p"}, .version = 4));
    fixture_advance(f, 10000);
    ASSERT_ANSWER(JOIN(f, .group = "g", .member = id, .protocols = {"p"}, .version = 4), ERR_UNKNOWN_MEMBER_ID);
    /* A rebalance waits for it, until it expires. */
    const char *ids[1];
    fixture_stable(f, "h", 1, ids);
    p = JOIN(f, .group = "h", .protocols = {"range"}, .version = 4);
    struct call *l = JOIN(f, .group = "h", .member = ids[0], .protocols = {"range"});
    assert_false(l->done);
    fixture_advance(f, 9999);
    assert_false(l->done);
    fixture_advance(f, 1);
    ASSERT_ANSWER(l, OK);
    /* The empty group of the first part goes at the next look. */
    fixture_advance(f, 600000);
    assert_string_equal(fixture_state(f, "g"), "Dead");
}

static void test_session(void **state) {
    struct fixture *f = *state;
    const char *id[2];
    fixture_stable(f, "g", 2, id);
    for (int i = 0; i < 5; i++) {
        fixture_advance(f, 9000);
        assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 1),
                         i == 0 ? OK : ERR_REBALANCE_IN_PROGRESS);
    }
    struct call *c = JOIN(f, .group = "g", .member = id[0], .protocols = {"range"}, .version = 3);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(c->reply.answer.join->members.count, 1);
    /* It waits for nobody: without a sync it is out after the rebalance time-out, if its session lasts. */
    for (int i = 0; i < 6; i++) {
        assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 2), OK);
        fixture_advance(f, 9999);
    }
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 2), OK);
    fixture_advance(f, 6);
    assert_int_equal(BEAT(f, .group = "g", .member = id[0], .generation = 2), ERR_UNKNOWN_MEMBER_ID);
    assert_string_equal(fixture_state(f, "g"), "Empty");
    /* One that waits with its join lives on, though it sends no heartbeats; a new one for five minutes. */
    struct call *s = JOIN(f, .group = "s", .instance = "away", .protocols = {"p"}, .version = 5, .session_ms = 1800000,
                          .rebalance_ms = 600000);
    fixture_advance(f, 3000);
    ASSERT_ANSWER(s, OK);
    c = JOIN(f, .group = "s", .protocols = {"p"});
    fixture_advance(f, 299999);
    assert_false(c->done);
    fixture_advance(f, 1);
    ASSERT_ANSWER(c, ERR_UNKNOWN_MEMBER_ID);
}

static void test_leave(void **state) {
    struct fixture *f = *state;
    for (int version = 0; version <= 5; version++) {
        const char *group = fixture_str(f, kafka_string_view(&"012345"[version], 1)), *id[2];
        fixture_stable(f, group, 2, id);
        assert_int_equal(fixture_left(LEAVE(f, version, .group = group, .member = "x")), ERR_UNKNOWN_MEMBER_ID);
        assert_int_equal(fixture_left(LEAVE(f, version, .group = "none", .member = "x")), ERR_UNKNOWN_MEMBER_ID);
        struct call *c = LEAVE(f, version, .group = group, .member = id[1]);
        assert_int_equal(fixture_left(c), OK);
        assert_int_equal(c->reply.answer.leave->members.count, version < 3 ? 0 : 1);
        assert_int_equal(BEAT(f, .group = group, .member = id[1], .generation = 1), ERR_UNKNOWN_MEMBER_ID);
        assert_int_equal(BEAT(f, .group = group, .member = id[0], .generation = 1), ERR_REBALANCE_IN_PROGRESS);
        assert_int_equal(fixture_left(LEAVE(f, version, .group = group, .member = id[0])), OK);
        assert_string_equal(fixture_state(f, group), "Empty");
        ASSERT_ANSWER(JOIN(f, .group = group, .protocols = {"any"}, .type = "any", .version = 9),
                      ERR_MEMBER_ID_REQUIRED);
    }
    ASSERT_ANSWER(LEAVE(f, 3, .group = ""), ERR_INVALID_GROUP_ID);
}

/* ---- static members ---- */

static const char *static_group(struct fixture *f, const char *group, int version) {
    struct call *c = JOIN(f, .group = group, .instance = "i", .protocols = {"p", "q"}, .version = version);
    fixture_advance(f, 3000);
    ASSERT_ANSWER(c, OK);
    const char *id = MEMBER_OF(f, c);
    assert_memory_equal(id, "i-", 2);
    ASSERT_ANSWER(SYNC(f, .group = group, .member = id, .instance = "i", .generation = 1, .assign = {id, "mine"}), OK);
    return id;
}

static void test_static_comes_back(void **state) {
    struct fixture *f = *state;
    for (int version = 5; version <= 9; version++) {
        const char *group = fixture_str(f, kafka_string_view(&"0123456789"[version], 1));
        const char *old = static_group(f, group, version);
        f->manual = true;
        struct call *c = JOIN(f, .group = group, .instance = "i", .protocols = {"p"}, .version = version);
        assert_false(c->done); /* the new id is written first */
        fixture_durable(f, f->count);
        f->manual = false;
        ASSERT_ANSWER(c, OK);
        const struct kafka_join_group_response *r = c->reply.answer.join;
        const char *id = MEMBER_OF(f, c);
        assert_string_not_equal(id, old);
        assert_int_equal(r->generation_id, 1);
        assert_int_equal(r->skip_assignment, version >= 9);
        assert_int_equal(r->members.count, version >= 9 ? 1 : 0);
        ASSERT_STRING(r->leader, version >= 9 ? id : old);
        assert_string_equal(fixture_state(f, group), "Stable");
        assert_int_equal(BEAT(f, .group = group, .member = old, .instance = "i", .generation = 1),
                         ERR_FENCED_INSTANCE_ID);
        ASSERT_ANSWER(SYNC(f, .group = group, .member = old, .instance = "i", .generation = 1), ERR_FENCED_INSTANCE_ID);
        ASSERT_ANSWER(JOIN(f, .group = group, .member = old, .instance = "i", .protocols = {"p"}),
                      ERR_FENCED_INSTANCE_ID);
        assert_int_equal(fixture_committed(COMMIT(f, .group = group, .member = old, .instance = "i", .generation = 1)),
                         ERR_FENCED_INSTANCE_ID);
        assert_int_equal(fixture_left(LEAVE(f, 3, .group = group, .member = old, .instance = "i")),
                         ERR_FENCED_INSTANCE_ID);
        c = SYNC(f, .group = group, .member = id, .instance = "i", .generation = 1);
        ASSERT_ANSWER(c, OK);
        assert_int_equal(c->reply.answer.sync->assignment.size, 4);
        /* Over a failover too. */
        fixture_reload(f);
        assert_int_equal(BEAT(f, .group = group, .member = id, .instance = "i", .generation = 1), OK);
        assert_int_equal(BEAT(f, .group = group, .member = old, .instance = "i", .generation = 1),
                         ERR_FENCED_INSTANCE_ID);
        /* An operator removes it by its instance id. */
        assert_int_equal(fixture_left(LEAVE(f, 3, .group = group, .instance = "i")), OK);
        assert_string_equal(fixture_state(f, group), "Empty");
        assert_int_equal(fixture_left(LEAVE(f, 3, .group = group, .instance = "i")), ERR_UNKNOWN_MEMBER_ID);
    }
}

static void test_static_changes_protocol(void **state) {
    struct fixture *f = *state;
    static_group(f, "g", 5);
    struct call *c = JOIN(f, .group = "g", .instance = "i", .protocols = {"q"}, .version = 5);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(c->reply.answer.join->generation_id, 2);
    ASSERT_STRING(c->reply.answer.join->protocol_name, "q");
    /* While the group completes, a newcomer under the same id begins it anew; who was waiting is fenced. */
    const char *other;
    struct call *d = JOIN(f, .group = "g", .protocols = {"q"});
    struct call *e = JOIN(f, .group = "g", .instance = "i", .protocols = {"q"}, .version = 5);
    ASSERT_ANSWER(d, OK);
    ASSERT_ANSWER(e, OK);
    assert_int_equal(e->reply.answer.join->generation_id, 3);
    other = MEMBER_OF(f, d);
    struct call *s = SYNC(f, .group = "g", .member = other, .generation = 3);
    assert_false(s->done);
    struct call *w = SYNC(f, .group = "g", .member = MEMBER_OF(f, e), .instance = "i", .generation = 2);
    ASSERT_ANSWER(w, ERR_ILLEGAL_GENERATION);
    struct call *n = JOIN(f, .group = "g", .instance = "i", .protocols = {"q"}, .version = 5);
    assert_false(n->done);
    ASSERT_ANSWER(s, ERR_REBALANCE_IN_PROGRESS);
    struct call *n2 = JOIN(f, .group = "g", .instance = "i", .protocols = {"q"}, .version = 5);
    assert_false(n2->done);
    ASSERT_ANSWER(n, ERR_FENCED_INSTANCE_ID);
}

/* A static member that is away keeps its place for its session, not for the rebalance time-out. */
static void test_static_away(void **state) {
    struct fixture *f = *state;
    struct call *a = JOIN(f, .group = "g", .instance = "i", .protocols = {"p"}, .version = 5, .session_ms = 100000,
                          .rebalance_ms = 20000);
    struct call *b = JOIN(f, .group = "g", .protocols = {"p"}, .rebalance_ms = 20000, .version = 1);
    fixture_advance(f, 6000);
    ASSERT_ANSWER(a, OK);
    ASSERT_ANSWER(b, OK);
    struct call *c = JOIN(f, .group = "g", .member = MEMBER_OF(f, b), .protocols = {"p"}, .metadata = "x",
                          .rebalance_ms = 20000, .version = 1);
    fixture_advance(f, 19999);
    assert_false(c->done);
    fixture_advance(f, 1);
    ASSERT_ANSWER(c, OK);
    assert_int_equal(c->reply.answer.join->members.count, 2); /* it leads now */
    ASSERT_STRING(c->reply.answer.join->members.items[0].group_instance_id, "i");
    ASSERT_STRING(c->reply.answer.join->leader, MEMBER_OF(f, b));
}

/* A client id may be anything, also nothing printable, and as long as the protocol allows. */
static void test_strange_client_ids(void **state) {
    struct fixture *f = *state;
    static char large[32767];
    memset(large, 'x', sizeof(large));
    const struct kafka_string ids[] = {kafka_string_view("\0\0", 2), kafka_string_view("", 0), kafka_string_of(NULL),
                                       kafka_string_view("%s%n", 4), kafka_string_view(large, sizeof(large))};
    for (int i = 0; i < 5; i++) {
        struct coord_client client = {.client_id = ids[i], .host = kafka_string_of("h"), .api_version = i % 2 ? 5 : 3};
        struct kafka_join_group_request r;
        struct kafka_join_group_request_protocol protocol = {.name = kafka_string_view("\0", 1)};
        kafka_join_group_request_init(&r);
        r.group_id = kafka_string_view("g\0", 2);
        r.protocol_type = kafka_string_view("\0", 1);
        r.session_timeout_ms = 10000;
        r.rebalance_timeout_ms = 10000;
        r.protocols.items = &protocol;
        r.protocols.count = 1;
        struct call *c = fixture_call(f);
        coord_join(f->coord, f->now, &client, &r, &c->reply);
        if (i % 2) {
            ASSERT_ANSWER(c, ERR_MEMBER_ID_REQUIRED);
            struct kafka_string id = c->reply.answer.join->member_id;
            assert_int_equal(id.size, ids[i].size > 0 ? ids[i].size + 37 : 37);
        }
    }
    fixture_advance(f, 10000);
    assert_int_equal(f->log.count, 1);
    fixture_reload(f);
    struct coord_counts counts;
    coord_counts(f->coord, &counts);
    assert_int_equal(counts.members, 3);
}

/* Clients may say that they wait for nobody: that must not keep the coordinator busy. */
static void test_no_rebalance_timeout(void **state) {
    struct fixture *f = *state;
    struct call *a = JOIN(f, .group = "g", .instance = "i", .protocols = {"p"}, .version = 0, .session_ms = 1800000);
    struct call *b = JOIN(f, .group = "g", .protocols = {"p"}, .version = 1, .rebalance_ms = -1);
    fixture_advance(f, 6000);
    ASSERT_ANSWER(a, OK);
    ASSERT_ANSWER(b, OK);
    /* All say 0 now. */
    struct coord_client client = {.client_id = kafka_string_of("c"), .host = kafka_string_of("h"), .api_version = 5};
    struct kafka_join_group_request r;
    struct kafka_join_group_request_protocol protocol = {.name = kafka_string_of("p")};
    kafka_join_group_request_init(&r);
    r.group_id = kafka_string_of("z");
    r.group_instance_id = kafka_string_of("s");
    r.protocol_type = kafka_string_of("t");
    r.session_timeout_ms = 1800000;
    r.rebalance_timeout_ms = 0;
    r.protocols.items = &protocol;
    r.protocols.count = 1;
    f->manual = true;
    struct call *c = fixture_call(f);
    coord_join(f->coord, f->now, &client, &r, &c->reply);
    fixture_advance(f, 3000);
    assert_int_equal(f->count, 1);
    fixture_advance(f, 30000); /* the write takes its time */
    fixture_durable(f, f->count);
    ASSERT_ANSWER(c, OK);
    f->manual = false;
    fixture_reload(f); /* nobody has an assignment, the only member is static and away */
    int64_t now = f->now.mono_ms;
    int ticks = 0;
    for (; coord_next_due(f->coord) < now + 60000; ticks++) {
        f->now.mono_ms = coord_next_due(f->coord);
        coord_tick(f->coord, f->now);
    }
    assert_in_range(ticks, 1, 200);
    assert_string_equal(fixture_state(f, "z"), "PreparingRebalance");
    /* Far too many protocols. */
    struct call *d = fixture_call(f);
    r.protocols.items = kafka_join_group_request_protocol_new(&d->arena, 257);
    r.protocols.count = 257;
    coord_join(f->coord, f->now, &client, &r, &d->reply);
    ASSERT_ANSWER(d, ERR_INCONSISTENT_GROUP_PROTOCOL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        COORD_TEST(test_first_member),
        COORD_TEST(test_no_member_id_needed),
        COORD_TEST(test_rebalance_timeout),
        COORD_TEST(test_refusals),
        COORD_TEST(test_initial_delay_is_extended),
        COORD_TEST(test_vote),
        COORD_TEST(test_rejoin),
        COORD_TEST(test_sizes),
        COORD_TEST(test_pending_members),
        COORD_TEST(test_session),
        COORD_TEST(test_leave),
        COORD_TEST(test_static_comes_back),
        COORD_TEST(test_static_changes_protocol),
        COORD_TEST(test_static_away),
        COORD_TEST(test_strange_client_ids),
        COORD_TEST(test_no_rebalance_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
