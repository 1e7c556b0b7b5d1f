/* Partitions of a fetch session that rest: they are in no plan until they have news, and whoever waits hears of it. One
 * partition of each session is real, over a stream in memory. */
#include <string.h>

#include "broker/fetch_session.h"
#include "unit/partition/fixture.h"

#define REAL 1 /* index of the real partition in the topic; 0 is one that nobody knows */

struct rest {
    struct fixture f;
    struct arena arena;
    struct fetch_sessions sessions;
    struct fetch_plan plan;
    int32_t id, epoch;
    unsigned news;
};

static struct kafka_fetch_request *request(struct rest *r, int32_t first, int32_t count, int64_t offset) {
    struct kafka_fetch_request *q = kafka_fetch_request_new(&r->arena, 1);
    q->min_bytes = 1;
    q->session_id = r->id;
    q->session_epoch = r->epoch;
    if (count == 0) return q;
    q->topics.items = kafka_fetch_request_topic_new(&r->arena, 1);
    q->topics.count = 1;
    struct kafka_fetch_request_topic *t = q->topics.items;
    memset(t->topic_id.bytes, 'a', 16);
    t->partitions.items = kafka_fetch_request_partition_new(&r->arena, (size_t)count);
    t->partitions.count = count;
    for (int32_t i = 0; i < count; i++) {
        t->partitions.items[i].partition = first + i;
        t->partitions.items[i].fetch_offset = offset;
    }
    return q;
}

static void make(struct rest *r, const struct kafka_fetch_request *q) {
    assert_int_equal(fetch_plan_make(&r->sessions, q, 13, 1, &r->arena, &r->plan), OK);
    r->epoch = r->plan.next_epoch;
}

/* What is told of a want: the real partition as it is, and that it may rest if it is at its end. */
static struct fetch_told told_of(struct rest *r, const struct fetch_want *w) {
    struct fetch_told t = {.high_watermark = 7};
    if (w->index != REAL) return t;
    t.high_watermark = (int64_t)partition_high_watermark(r->f.p);
    t.log_start_offset = (int64_t)partition_log_start_offset(r->f.p);
    if (w->offset == t.high_watermark) t.still = r->f.p;
    return t;
}

/* Ends the plan; the answer's partitions as bits. */
static unsigned finish(struct rest *r) {
    struct fetch_told told[2];
    bool include[2];
    int32_t id;
    assert_in_range(r->plan.count, 0, 2);
    for (size_t i = 0; i < r->plan.count; i++) told[i] = told_of(r, &r->plan.wants[i]);
    assert_int_equal(fetch_plan_finish(&r->sessions, &r->plan, told, include, 1, &id), OK);
    r->id = id;
    unsigned bits = 0;
    for (size_t i = 0; i < r->plan.count; i++) bits |= (unsigned)include[i] << r->plan.wants[i].index;
    return bits;
}

static void on_news(void *ctx) {
    struct rest *r = ctx;
    r->news++;
}

static void wait_for_news(struct rest *r, bool real_rests) {
    struct fetch_told told[2];
    bool rested[2];
    for (size_t i = 0; i < r->plan.count; i++) told[i] = told_of(r, &r->plan.wants[i]);
    fetch_plan_wait(&r->sessions, &r->plan, told, rested, on_news, r);
    for (size_t i = 0; i < r->plan.count; i++)
        assert_int_equal(rested[i], real_rests && r->plan.wants[i].index == REAL);
}

static void next_plan(struct rest *r, size_t count, size_t resting) {
    make(r, request(r, 0, 0, 0));
    assert_int_equal(r->plan.count, count);
    assert_int_equal(r->plan.resting, resting);
}

static int setup(void **state) {
    struct rest *r = test_calloc(1, sizeof(*r));
    fixture_init(&r->f);
    arena_init(&r->arena, &r->f.mem);
    fetch_sessions_init(&r->sessions, &r->f.mem, NULL, 3, SIZE_MAX, 0, 1, 42);
    assert_append(&r->f, OK, 0, .count = 2);
    fake_durable(&r->f.streams, SIZE_MAX);
    make(r, request(r, 0, 2, 2));
    assert_int_equal(r->plan.kind, FETCH_FULL);
    assert_int_equal(finish(r), 3);
    r->epoch = 1;
    *state = r;
    return 0;
}

static int teardown(void **state) {
    struct rest *r = *state;
    fetch_sessions_deinit(&r->sessions);
    arena_deinit(&r->arena);
    fixture_deinit(&r->f);
    test_free(r);
    return 0;
}

static void append(struct rest *r, int64_t base_offset) {
    assert_append(&r->f, OK, base_offset, .count = 1);
    fake_durable(&r->f.streams, SIZE_MAX);
    fixture_settle(&r->f);
}

static void test_at_the_end_it_rests_until_there_is_more(void **state) {
    struct rest *r = *state;
    next_plan(r, 1, 1); /* since the first answer */
    assert_int_equal(r->plan.wants[0].index, 0);
    assert_int_equal(finish(r), 0);
    append(r, 2);
    next_plan(r, 2, 0);
    assert_int_equal(r->plan.wants[1].index, REAL);
    assert_int_equal(finish(r), 1 << REAL); /* a new high watermark */
    next_plan(r, 2, 0);                     /* there is something to read */
    make(r, request(r, REAL, 1, 3));
    assert_int_equal(r->plan.count, 2);
    assert_int_equal(finish(r), 0);
    next_plan(r, 1, 1);
}

static void test_whoever_waits_hears_of_it_once(void **state) {
    struct rest *r = *state;
    next_plan(r, 1, 1);
    wait_for_news(r, false);
    assert_int_equal(r->news, 0);
    append(r, 2);
    append(r, 3);
    assert_int_equal(r->news, 1);
    assert_true(fetch_plan_again(&r->sessions, &r->arena, &r->plan));
    assert_int_equal(r->plan.count, 2);
    assert_int_equal(finish(r), 1 << REAL);
    append(r, 4);
    assert_int_equal(r->news, 1); /* nobody waits */
}

static void test_it_goes_to_rest_when_the_waiting_begins(void **state) {
    struct rest *r = *state;
    append(r, 2);
    make(r, request(r, REAL, 1, 3));
    assert_int_equal(r->plan.count, 2);
    wait_for_news(r, false); /* the client is to be told of the new high watermark */
    fetch_plan_drop(&r->sessions, &r->plan);
    assert_int_equal(finish(r), 1 << REAL);
    make(r, request(r, REAL, 1, 3));
    assert_int_equal(r->plan.count, 2);
    wait_for_news(r, true);
    append(r, 3);
    assert_int_equal(r->news, 1);
    assert_true(fetch_plan_again(&r->sessions, &r->arena, &r->plan));
    assert_int_equal(r->plan.count, 2);
}

static void test_what_came_since_it_was_read_is_news(void **state) {
    struct rest *r = *state;
    make(r, request(r, REAL, 1, 2));
    struct fetch_told told[2] = {told_of(r, &r->plan.wants[0]), told_of(r, &r->plan.wants[1])};
    bool rested[2];
    append(r, 2);
    fetch_plan_wait(&r->sessions, &r->plan, told, rested, on_news, r);
    assert_int_equal(r->news, 0); /* not from within */
    fixture_settle(&r->f);
    assert_int_equal(r->news, 1);
}

static void delete_all(void *arg) {
    struct rest *r = arg;
    int64_t low;
    assert_int_equal(partition_delete_records(r->f.p, 2, &low), OK);
}

static void test_a_new_log_start_is_news(void **state) {
    struct rest *r = *state;
    next_plan(r, 1, 1);
    fiber_spawn(&r->f.loop, "delete", delete_all, r);
    fixture_settle(&r->f);
    fake_durable(&r->f.streams, SIZE_MAX);
    fixture_settle(&r->f);
    next_plan(r, 2, 0);
    assert_int_equal(finish(r), 1 << REAL);
}

static void test_the_end_of_the_partition_is_news(void **state) {
    struct rest *r = *state;
    next_plan(r, 1, 1);
    wait_for_news(r, false);
    fixture_close(&r->f);
    assert_int_equal(r->news, 1);
    assert_true(fetch_plan_again(&r->sessions, &r->arena, &r->plan));
    assert_int_equal(r->plan.count, 2);
    fixture_open(&r->f);
}

static void test_another_one_s_use_ends_the_waiting(void **state) {
    struct rest *r = *state;
    next_plan(r, 1, 1);
    wait_for_news(r, false);
    struct fetch_plan waiting = r->plan;
    next_plan(r, 1, 1);
    assert_int_equal(r->news, 1);
    assert_false(fetch_plan_again(&r->sessions, &r->arena, &waiting));
    wait_for_news(r, false);
    struct kafka_fetch_request *close = request(r, 0, 0, 0);
    close->session_epoch = -1;
    make(r, close);
    assert_int_equal(r->news, 2);
    append(r, 2); /* no watch is left */
}

static void test_a_forgotten_one_has_no_watch(void **state) {
    struct rest *r = *state;
    struct kafka_fetch_request *q = request(r, 0, 0, 0);
    int32_t index = REAL;
    q->forgotten_topics_data.items = kafka_fetch_request_forgotten_topic_new(&r->arena, 1);
    q->forgotten_topics_data.count = 1;
    memset(q->forgotten_topics_data.items[0].topic_id.bytes, 'a', 16);
    q->forgotten_topics_data.items[0].partitions.items = &index;
    q->forgotten_topics_data.items[0].partitions.count = 1;
    make(r, q);
    assert_int_equal(r->plan.count, 1);
    assert_int_equal(r->plan.resting, 0);
    append(r, 2);
    next_plan(r, 1, 0);
}

static void test_whoever_wants_more_looks_at_all(void **state) {
    struct rest *r = *state;
    struct kafka_fetch_request *q = request(r, 0, 0, 0);
    q->min_bytes = 2;
    make(r, q);
    assert_int_equal(r->plan.count, 2);
    assert_int_equal(r->plan.resting, 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_at_the_end_it_rests_until_there_is_more),
        T(test_whoever_waits_hears_of_it_once),
        T(test_it_goes_to_rest_when_the_waiting_begins),
        T(test_what_came_since_it_was_read_is_news),
        T(test_a_new_log_start_is_news),
        T(test_the_end_of_the_partition_is_news),
        T(test_another_one_s_use_ends_the_waiting),
        T(test_a_forgotten_one_has_no_watch),
        T(test_whoever_wants_more_looks_at_all),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
