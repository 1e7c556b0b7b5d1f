/* Incremental fetch sessions (KIP-227): who may use which session when, what is fetched, and what is told again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/fetch_session.h"

static struct mem mem;
static struct arena arena;
static struct metrics metrics;
static struct fetch_sessions sessions;
static uint64_t now = 1;

static int setup(void **state) {
    (void)state;
    arena_init(&arena, &mem);
    fetch_sessions_init(&sessions, &mem, &metrics, 3, 1 << 20, 1, 4, 42);
    now = 1;
    return 0;
}
static int teardown(void **state) {
    (void)state;
    fetch_sessions_deinit(&sessions);
    arena_deinit(&arena);
    assert_int_equal(sessions.bytes, 0);
    assert_int_equal(atomic_load(&metrics.gauges[M_FETCH_SESSION_BYTES]), 0);
    assert_int_equal(atomic_load(&mem.allocated_bytes), 0);
    return 0;
}

/* Partitions first..first+count-1 of a topic, at `offset`. */
static struct kafka_fetch_request *request(int32_t id, int32_t epoch, const char *topic, int32_t first, int32_t count,
                                           int64_t offset) {
    struct kafka_fetch_request *r = kafka_fetch_request_new(&arena, 1);
    r->session_id = id;
    r->session_epoch = epoch;
    if (count == 0) return r;
    r->topics.items = kafka_fetch_request_topic_new(&arena, 1);
    r->topics.count = 1;
    struct kafka_fetch_request_topic *t = r->topics.items;
    t->topic = kafka_string_of(topic);
    memset(t->topic_id.bytes, topic[0], 16);
    t->partitions.items = kafka_fetch_request_partition_new(&arena, (size_t)count);
    t->partitions.count = count;
    for (int32_t i = 0; i < count; i++) {
        t->partitions.items[i].partition = first + i;
        t->partitions.items[i].fetch_offset = offset;
        t->partitions.items[i].partition_max_bytes = 1000;
    }
    return r;
}

static void forget(struct kafka_fetch_request *r, const char *topic, int32_t partition) {
    r->forgotten_topics_data.items = kafka_fetch_request_forgotten_topic_new(&arena, 1);
    r->forgotten_topics_data.count = 1;
    struct kafka_fetch_request_forgotten_topic *t = r->forgotten_topics_data.items;
    t->topic = kafka_string_of(topic);
    memset(t->topic_id.bytes, topic[0], 16);
    t->partitions.items = arena_alloc(&arena, sizeof(int32_t));
    t->partitions.items[0] = partition;
    t->partitions.count = 1;
}

static enum err make(const struct kafka_fetch_request *r, int16_t version, struct fetch_plan *plan) {
    return fetch_plan_make(&sessions, r, version, now, &arena, plan);
}

/* Answers: every partition has that high watermark, and those below `with_records` bring some. Returns what is
 * included, as bits. */
static unsigned finish(const struct fetch_plan *plan, int64_t high_watermark, size_t with_records, int32_t *id) {
    struct fetch_told told[32] = {0};
    bool include[32];
    assert_in_range(plan->count, 0, 32);
    for (size_t i = 0; i < plan->count; i++) {
        told[i].high_watermark = high_watermark;
        told[i].records_bytes = i < with_records ? 10 : 0;
    }
    assert_int_equal(fetch_plan_finish(&sessions, plan, told, include, now, id), OK);
    unsigned bits = 0;
    for (size_t i = 0; i < plan->count; i++) bits |= (unsigned)include[i] << i;
    return bits;
}

static int32_t new_session(const char *topic, int32_t count, int16_t version) {
    struct fetch_plan plan;
    int32_t id;
    assert_int_equal(make(request(0, 0, topic, 0, count, 5), version, &plan), OK);
    assert_int_equal(plan.kind, FETCH_FULL);
    assert_int_equal(plan.count, count);
    assert_int_equal(finish(&plan, 100, 0, &id), (1u << count) - 1);
    return id;
}

static void test_without_session(void **state) {
    (void)state;
    struct fetch_plan plan;
    int32_t id;
    assert_int_equal(make(request(0, -1, "a", 0, 3, 5), 12, &plan), OK);
    assert_int_equal(plan.kind, FETCH_WITHOUT_SESSION);
    assert_int_equal(finish(&plan, 100, 0, &id), 7);
    assert_int_equal(id, 0);
    assert_int_equal(make(request(0, -1, "a", 0, 3, 5), 4, &plan), OK); /* a version without sessions */
    assert_int_equal(finish(&plan, 100, 0, &id), 7);
    assert_int_equal(sessions.by_id.count, 0);
}

static void test_only_changes_are_told(void **state) {
    (void)state;
    int32_t id = new_session("a", 3, 12), again;
    assert_true(id > 0);
    assert_int_equal(id % 4, 1); /* of this shard */
    struct fetch_plan plan;
    assert_int_equal(make(request(id, 1, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(plan.kind, FETCH_INCREMENTAL);
    assert_int_equal(plan.count, 3); /* all are fetched */
    assert_int_equal(plan.wants[2].offset, 5);
    assert_string_equal(plan.wants[2].name.data, "a");
    assert_int_equal(finish(&plan, 100, 0, &again), 0); /* none is told */
    assert_int_equal(again, id);
    assert_int_equal(make(request(id, 2, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(finish(&plan, 101, 0, &again), 7); /* a new high watermark is */
    assert_int_equal(make(request(id, 3, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(finish(&plan, 101, 1, &again), 1); /* records are */
    /* Whoever brought records goes to the end of the line. */
    assert_int_equal(make(request(id, 4, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(plan.wants[0].index, 1);
    assert_int_equal(plan.wants[2].index, 0);
}

static void test_an_error_is_told_and_what_follows_it(void **state) {
    (void)state;
    int32_t id = new_session("a", 1, 13);
    struct fetch_plan plan;
    struct fetch_told told = {.error_code = 6, .high_watermark = 100};
    bool include;
    for (int32_t epoch = 1; epoch <= 4; epoch++) {
        assert_int_equal(make(request(id, epoch, "a", 0, 0, 0), 13, &plan), OK);
        told.error_code = epoch <= 2 ? 6 : 0;
        assert_int_equal(fetch_plan_finish(&sessions, &plan, &told, &include, now, &id), OK);
        assert_int_equal(include, epoch <= 3); /* the error each time, and then that it is over */
    }
}

static void test_updates_and_forgotten_ones(void **state) {
    (void)state;
    int32_t id = new_session("a", 3, 13);
    struct fetch_plan plan;
    struct kafka_fetch_request *r = request(id, 1, "a", 2, 2, 77); /* 2 changes, 3 is new */
    forget(r, "a", 0);
    assert_int_equal(make(r, 13, &plan), OK);
    assert_int_equal(plan.count, 3);
    assert_int_equal(plan.wants[0].index, 1);
    assert_int_equal(plan.wants[0].offset, 5);
    assert_int_equal(plan.wants[1].index, 2);
    assert_int_equal(plan.wants[1].offset, 77);
    assert_int_equal(plan.wants[2].index, 3);
    assert_int_equal(plan.wants[2].name.size, -1); /* by id */
    assert_int_equal(plan.wants[2].id.bytes[0], 'a');
    assert_int_equal(finish(&plan, 100, 0, &id), 4); /* the new one is told */
    r = request(id, 2, "a", 0, 0, 0);
    forget(r, "b", 1); /* not in it: harmless */
    assert_int_equal(make(r, 13, &plan), OK);
    assert_int_equal(plan.count, 3);
}

static void test_wrong_epochs_and_ids(void **state) {
    (void)state;
    int32_t id = new_session("a", 3, 12);
    struct fetch_plan plan, other;
    assert_int_equal(make(request(id + 4, 1, "a", 0, 0, 0), 12, &plan), ERR_FETCH_SESSION_ID_NOT_FOUND);
    assert_int_equal(make(request(0, 1, "a", 0, 0, 0), 12, &plan), ERR_FETCH_SESSION_ID_NOT_FOUND);
    assert_int_equal(make(request(id, 2, "a", 0, 0, 0), 12, &plan), ERR_INVALID_FETCH_SESSION_EPOCH);
    assert_int_equal(make(request(id, 1, "a", 0, 0, 0), 13, &plan), ERR_FETCH_SESSION_TOPIC_ID);
    assert_int_equal(make(request(id, 1, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(make(request(id, 1, "a", 0, 0, 0), 12, &other),
                     ERR_INVALID_FETCH_SESSION_EPOCH); /* the same again */
    /* Somebody goes on with the session while the first waits: the first is told so. */
    assert_int_equal(make(request(id, 2, "a", 0, 0, 0), 12, &other), OK);
    struct fetch_told told[3] = {0};
    bool include[3];
    int32_t answered;
    assert_int_equal(fetch_plan_finish(&sessions, &plan, told, include, now, &answered),
                     ERR_INVALID_FETCH_SESSION_EPOCH);
    assert_int_equal(fetch_plan_finish(&sessions, &other, told, include, now, &answered), OK);
    /* And when it was closed meanwhile. */
    assert_int_equal(make(request(id, 3, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(make(request(id, -1, "a", 0, 0, 0), 12, &other), OK);
    assert_int_equal(fetch_plan_finish(&sessions, &plan, told, include, now, &answered),
                     ERR_FETCH_SESSION_ID_NOT_FOUND);
}

static void test_epochs_rise(void **state) {
    (void)state;
    int32_t id = new_session("a", 1, 12);
    struct fetch_plan plan;
    for (int32_t epoch = 1; epoch < 5; epoch++) assert_int_equal(make(request(id, epoch, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(plan.next_epoch, 5);
}

static void test_closing(void **state) {
    (void)state;
    struct fetch_plan plan;
    int32_t id = new_session("a", 3, 12);
    assert_int_equal(make(request(id, -1, "a", 0, 1, 0), 12, &plan), OK); /* final */
    assert_int_equal(plan.kind, FETCH_WITHOUT_SESSION);
    assert_int_equal(sessions.by_id.count, 0);
    id = new_session("a", 3, 12);
    assert_int_equal(make(request(id, 0, "a", 0, 1, 0), 12, &plan), OK); /* a new one instead */
    assert_int_equal(plan.kind, FETCH_FULL);
    assert_int_equal(sessions.by_id.count, 0);
    id = new_session("a", 1, 12);
    struct kafka_fetch_request *r = request(id, 1, "a", 0, 0, 0);
    forget(r, "a", 0); /* nothing is left of it */
    assert_int_equal(make(r, 12, &plan), OK);
    assert_int_equal(plan.kind, FETCH_WITHOUT_SESSION);
    assert_int_equal(sessions.by_id.count, 0);
}

static void test_slots(void **state) {
    (void)state;
    int32_t a = new_session("a", 1, 12), b = new_session("b", 2, 12), c = new_session("c", 3, 12);
    assert_true(a && b && c && a != b && b != c);
    assert_int_equal(new_session("d", 3, 12), 0); /* full, and nobody is old */
    struct fetch_plan plan;
    now += FETCH_SESSION_STALE_NS;
    assert_int_equal(make(request(a, 1, "a", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(make(request(b, 1, "b", 0, 0, 0), 12, &plan), OK);
    assert_true(new_session("d", 1, 12) > 0); /* c has not been used for so long */
    assert_int_equal(make(request(c, 1, "c", 0, 0, 0), 12, &plan), ERR_FETCH_SESSION_ID_NOT_FOUND);
    /* a and b are in use, but old: a larger one takes the smallest one's place. */
    assert_true(new_session("e", 3, 12) > 0);
    assert_int_equal(make(request(a, 2, "a", 0, 0, 0), 12, &plan), ERR_FETCH_SESSION_ID_NOT_FOUND);
    assert_int_equal(make(request(b, 2, "b", 0, 0, 0), 12, &plan), OK);
    assert_int_equal(new_session("f", 2, 12), 0); /* b is no smaller */
}

static void test_all_together_are_limited(void **state) {
    (void)state;
    const size_t of_two = FETCH_SESSION_BYTES + FETCH_SESSION_TOPIC_BYTES + 2 + 2 * FETCH_SESSION_PART_BYTES;
    sessions.bytes_max = 2 * of_two + FETCH_SESSION_PART_BYTES;
    int32_t a = new_session("a", 3, 12);
    assert_true(a > 0);
    assert_int_equal(new_session("b", 3, 12), 0);
    assert_true(new_session("c", 2, 12) > 0);
    assert_int_equal(sessions.bytes, sessions.bytes_max);
    assert_int_equal(atomic_load(&metrics.gauges[M_FETCH_SESSION_BYTES]), sessions.bytes);
    struct fetch_plan plan;
    /* One that outgrows what there is goes. */
    assert_int_equal(make(request(a, 1, "a", 3, 1, 0), 12, &plan), ERR_FETCH_SESSION_ID_NOT_FOUND);
    assert_int_equal(sessions.bytes, of_two);
    assert_true(new_session("d", 2, 12) > 0);
    assert_int_equal(new_session("e", 2, 12), 0);
    /* Those that nobody has used for a while make room for a newcomer, as many as it takes, and no more. */
    now += FETCH_SESSION_STALE_NS;
    assert_true(new_session("e", 2, 12) > 0);
    assert_int_equal(sessions.bytes, 2 * of_two);
    assert_true(new_session("f", 3, 12) > 0);
    assert_int_equal(new_session("g", 1, 12), 0);
    /* The name of a topic counts too: what fits without it does not with it, and leaves nothing behind. */
    sessions.bytes_max = sessions.bytes + FETCH_SESSION_BYTES + FETCH_SESSION_PART_BYTES;
    size_t before = sessions.bytes;
    sessions.max = 4;
    assert_int_equal(new_session("g", 1, 12), 0);
    assert_int_equal(sessions.bytes, before);
}

int main(void) {
    mem_init_heap(&mem);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_without_session),
        T(test_only_changes_are_told),
        T(test_an_error_is_told_and_what_follows_it),
        T(test_updates_and_forgotten_ones),
        T(test_wrong_epochs_and_ids),
        T(test_epochs_rise),
        T(test_closing),
        T(test_slots),
        T(test_all_together_are_limited),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
