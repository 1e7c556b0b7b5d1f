/* What nothing needs is deleted, and what cannot be deleted keeps nobody from the rest: it is tried again, less and less
 * often; the metric counts it, the log tells of it once in a while. A store that is away is something else. */
#include "unit/stream/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct told { /* warnings of the node */
    unsigned count;
    char last[1000];
};

static void hear(void *ctx, const char *line, size_t size) {
    struct told *t = ctx;
    t->count++;
    (void)snprintf(t->last, sizeof(t->last), "%.*s", (int)size, line);
}

static int64_t no_time(void *ctx) {
    (void)ctx;
    return 0;
}

static void listen_to(struct engine *e, struct told *t) {
    *t = (struct told){0};
    e->env->log->sink = hear;
    e->env->log->wall_ms = no_time;
    e->env->log->ctx = t;
    atomic_store(&e->env->log->level, LOG_WARN);
}

static struct sim_object *object_at(struct engine *e, const char *key) {
    struct sim_bucket *b = e->node->world->bucket;
    size_t i = sim_bucket_from(b, key);
    return i < b->count && strcmp(b->objects[i]->key, key) == 0 ? b->objects[i] : NULL;
}

/* The first entry of a ledger cannot be deleted for that long. */
static void lock_first(struct engine *e, uint64_t seconds, char key[100]) {
    struct sim_bucket *b = e->node->world->bucket;
    struct sim_object *o = b->objects[sim_bucket_from(b, "gen/ledger/")];
    (void)snprintf(key, 100, "%s", o->key);
    o->locked_until_ns = b->world->now_ns + seconds * NS_PER_S;
}

static int64_t stuck(struct engine *e) {
    return atomic_load(&e->env->metrics->gauges[M_OBJECTS_STUCK]);
}

static uint64_t deletes(struct engine *e) {
    return atomic_load(
        &e->env->metrics->counters[M_STORE_REQUESTS][STORE_DELETE * STORE_PURPOSES + STORE_FOR_DELETION]);
}

/* Entries of the ledger become garbage, many of them. */
static void work(struct engine *e) {
    for (unsigned i = 0; i < 30; i++) {
        uint64_t end = engine_append_begin(e, 1, 100);
        fiber_sleep_ns(2 * NS_PER_S);
        engine_trim(e, 1, end);
    }
    fiber_sleep_ns(30 * NS_PER_S);
}

static void refused_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    struct told told;
    char key[100];
    engine_options(&e);
    e.options.checkpoint_entries = 1;
    engine_start(&e, &t->cluster);
    listen_to(&e, &told);
    engine_append(&e, 1, 100);
    fiber_sleep_ns(2 * NS_PER_S);
    lock_first(&e, 3 * 3600, key);
    work(&e);
    const struct sim_bucket *b = t->world->bucket;
    size_t n = engine_objects(&e, "gen/ledger/"), first = sim_bucket_from(b, "gen/ledger/");
    assert_true(n < 12);
    assert_string_equal(b->objects[first]->key, key);
    uint64_t number = strtoull(strrchr(key, '/') + 1, NULL, 10);
    assert_true(strtoull(strrchr(b->objects[first + 1]->key, '/') + 1, NULL, 10) > number + 20);
    assert_int_equal(stuck(&e), 1);
    assert_int_equal(told.count, 1);
    assert_non_null(strstr(told.last, key));
    assert_non_null(strstr(told.last, "error=ERR_PERMISSION"));
    assert_non_null(strstr(told.last, "s3:DeleteObject"));
    /* Nothing else happens: what is asked for is that object, twice as long after the last time. */
    uint64_t before = deletes(&e);
    fiber_sleep_ns(3000 * NS_PER_S);
    assert_in_range(deletes(&e) - before, 3, 8);
    assert_int_equal(told.count, 1);
    fiber_sleep_ns(6000 * NS_PER_S);
    assert_in_range(deletes(&e) - before, 4, 11);
    assert_in_range(told.count, 2, 3);
    assert_int_equal(stuck(&e), 1);
    /* In the end it goes, and is never asked for again. */
    fiber_sleep_ns(2 * 3600 * NS_PER_S);
    assert_null(object_at(&e, key));
    assert_int_equal(stuck(&e), 0);
    before = deletes(&e);
    fiber_sleep_ns(3 * 3600 * NS_PER_S);
    assert_int_equal(deletes(&e), before);
    engine_stop(&e);
}
static void what_is_refused_holds_up_no_other(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, refused_fiber, &t);
    sim_world_destroy(t.world);
}

/* The store refuses everything for an hour: that is no longer asked for in a storm, and goes soon after. */
static void all_refused_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    struct told told;
    engine_options(&e);
    e.options.checkpoint_entries = 1;
    engine_start(&e, &t->cluster);
    listen_to(&e, &told);
    t->world->faults.chance[SIM_STORE_DELETE_REFUSED] = 1;
    work(&e);
    size_t n = engine_objects(&e, "gen/ledger/");
    assert_true(n > 30 && stuck(&e) > 25);
    uint64_t before = deletes(&e);
    fiber_sleep_ns(3600 * NS_PER_S);
    assert_true(deletes(&e) - before < 60);
    assert_in_range(told.count, 1, 2);
    sim_faults_none(&t->world->faults);
    fiber_sleep_ns(3 * 3600 * NS_PER_S);
    assert_int_equal(stuck(&e), 0);
    assert_true(engine_objects(&e, "gen/ledger/") < 12);
    engine_stop(&e);
}
static void what_is_all_refused_goes_in_the_end(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, all_refused_fiber, &t);
    sim_world_destroy(t.world);
}

/* A sweep goes past what is refused; that goes later, by the same process. */
static void sweep_fiber(void *arg) {
    struct test *t = arg;
    char key[100];
    for (unsigned life = 0; life < 3; life++) {
        struct engine e = {.node = t->node};
        struct told told;
        engine_options(&e);
        engine_start(&e, &t->cluster);
        listen_to(&e, &told);
        for (unsigned i = 0; i < 5; i++) {
            engine_trim(&e, 1, engine_append_begin(&e, 1, 100));
            fiber_sleep_ns(2 * NS_PER_S);
        }
        if (life == 0) lock_first(&e, 600, key);
        struct incarnation oldest;
        assert_int_equal(streams_sweep(e.streams, &oldest), OK);
        assert_int_equal(oldest.v, life + 1);
        assert_non_null(object_at(&e, key));
        char own[100];
        (void)snprintf(own, sizeof(own), "gen/ledger/%016x/", life + 1);
        if (life > 0) assert_int_equal(engine_objects(&e, "gen/ledger/") - engine_objects(&e, own), 1);
        assert_int_equal(stuck(&e), life > 0);
        assert_int_equal(told.count, life > 0);
        if (life == 2) {
            fiber_sleep_ns(2 * 3600 * NS_PER_S);
            assert_null(object_at(&e, key));
            assert_int_equal(stuck(&e), 0);
        }
        engine_stop(&e);
    }
}
static void a_sweep_goes_past_what_is_refused(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, sweep_fiber, &t);
    sim_world_destroy(t.world);
}

/* What was to be deleted waits for the store, and goes as soon as it is back, many objects in a request. */
static void away_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    struct told told;
    engine_options(&e);
    e.options.checkpoint_entries = 1;
    engine_start(&e, &t->cluster);
    listen_to(&e, &told);
    t->world->faults.chance[SIM_STORE_READ_FAILS] = 1; /* and deletes */
    work(&e);
    fiber_sleep_ns(1200 * NS_PER_S);
    size_t before = engine_objects(&e, "gen/ledger/");
    assert_true(before > 40);
    assert_int_equal(stuck(&e), 0);
    sim_faults_none(&t->world->faults);
    uint64_t asked = deletes(&e);
    fiber_sleep_ns(15 * NS_PER_S);
    assert_true(engine_objects(&e, "gen/ledger/") < 12);
    assert_in_range(deletes(&e) - asked, 1, before / 64 + 3);
    assert_int_equal(told.count, 0);
    engine_stop(&e);
}
static void a_store_that_is_away_refuses_nothing(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, away_fiber, &t);
    sim_world_destroy(t.world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused_holds_up_no_other),
        cmocka_unit_test(what_is_all_refused_goes_in_the_end),
        cmocka_unit_test(a_sweep_goes_past_what_is_refused),
        cmocka_unit_test(a_store_that_is_away_refuses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
