/* The engine and its write-ahead log: groups, devices that others reach, none, one that fails, a stop without a store. */
#include "unit/stream/engine.h"

#include <string.h>

static uint64_t groups(const struct engine *e) {
    return atomic_load(&e->env->metrics->counters[M_WAL_GROUPS][0]);
}

/* What comes while a small write is under way is one group, unless it is much. */
static void groups_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    engine_append(&e, 1, 100);
    uint64_t before = groups(&e);
    uint64_t end = 0;
    for (unsigned i = 0; i < 400; i++) {
        end = engine_append_begin(&e, 1 + i % 2, 100);
        fiber_sleep_ns(10 * NS_PER_US);
    }
    assert_int_equal(stream_wait_durable(e.open[2], end), OK);
    assert_in_range(groups(&e) - before, 2, 25); /* 34 if four writes of one record each might be under way */
    /* Each of these is worth a write of its own. */
    before = groups(&e);
    for (unsigned i = 0; i < 3; i++) {
        end = engine_append_begin(&e, 1, 140000);
        fiber_sleep_ns(20 * NS_PER_US);
    }
    assert_int_equal(stream_wait_durable(e.open[1], end), OK);
    assert_int_equal(groups(&e) - before, 3);
    engine_stop(&e);
}
static void what_comes_during_a_write_is_one_group(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, groups_fiber, &t);
    sim_world_destroy(t.world);
}

static void killed_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    engine_options(e);
    engine_start(e, &t->cluster);
    for (unsigned i = 0; i < 30; i++) engine_append(e, 1 + i % 3, 3000);
    fiber_sleep_ns(3 * NS_PER_S); /* uploaded */
    for (unsigned i = 0; i < 30; i++) engine_append(e, 1 + i % 3, 3000);
    engine_trim(e, 2, 7);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void again_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_int_equal(stream_durable_end(e.open[id]), 20);
        assert_int_equal(stream_durable_start(e.open[id]), id == 2 ? 7 : 0);
        assert_int_equal(e.live[id].end_offset, 20);
        engine_read_all(&e, id, id == 2 ? 7 : 0);
    }
    struct state_producer *p = state_producer_get(&e.live[3], 5);
    assert_non_null(p);
    assert_int_equal(p->count, STATE_PRODUCER_BATCHES);
    assert_int_equal(p->batches[STATE_PRODUCER_BATCHES - 1].last_sequence, 19);
    engine_append(&e, 1, 10);
    engine_stop(&e);
    engine_start(&e, &t->cluster); /* after an orderly stop, too */
    assert_int_equal(stream_durable_end(e.open[1]), 21);
    engine_read_all(&e, 1, 0);
    engine_stop(&e);
}
static void a_power_cut_loses_nothing(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, killed_fiber, &t);
    test_run(t.node, again_fiber, &t);
    sim_world_destroy(t.world);
}

static void device_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    engine_options(e);
    e->options.wal_path = "/dev/wal";
    e->options.wal_takeover_mark = true; /* the default of block devices */
    for (unsigned life = 0; life < 3; life++) {
        engine_start(e, &t->cluster);
        assert_int_equal(stream_durable_end(e->open[1]), t->cluster.incarnation - 1);
        engine_append(e, 1, 100);
        engine_read_all(e, 1, 0);
        if (life == 2 || t->cluster.incarnation == 2) break;
        engine_stop(e);
    }
    sim_node_crash(t->node, SIM_KILL);
    fiber_sleep_ns(NS_PER_S);
}
static void a_device_read_with_a_mark_is_used_again(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    struct sim_file *device = sim_device_create(t.world, 17u << 20);
    sim_device_attach(t.node, "/dev/wal", device);
    sim_device_unref(device);
    test_run(t.node, device_fiber, &t); /* stops in order once, then is killed with a record in the WAL */
    test_run(t.node, device_fiber, &t);
    assert_int_equal(t.cluster.incarnation, 5);
    sim_world_destroy(t.world);
}

/* Two start on one device that both reach, the second while the first stands between looking at it and beginning it. */
struct racers {
    struct cluster cluster;
    bool first_looked, second_serves, first_over;
    enum err second_left;
    int64_t first_without, second_without;
};

static void race_options(struct engine *e) {
    engine_options(e);
    e->options.wal_path = "/dev/wal";
    e->options.wal_takeover_mark = true;
}

static void racer_open(struct engine *e, struct racers *t) {
    struct loop *loop = loop_current();
    struct streams_options *o = &e->options;
    e->env = loop->env;
    e->store = sim_store_open(NULL, e->env, &(struct sim_store_options){.exclusive = false});
    *o = (struct streams_options){.env = e->env, .store = e->store, .generation = "gen"};
    struct engine defaults;
    race_options(&defaults);
    o->wal_path = defaults.options.wal_path;
    o->wal_takeover_mark = true;
    o->cache_log_bytes = defaults.options.cache_log_bytes;
    o->cache_block_bytes = defaults.options.cache_block_bytes;
    o->upload_bytes = defaults.options.upload_bytes;
    o->upload_interval_ms = 60000; /* nothing is trimmed meanwhile */
    o->checkpoint_entries = defaults.options.checkpoint_entries;
    o->producer_expiration_ms = defaults.options.producer_expiration_ms;
    o->incarnation.v = ++t->cluster.incarnation;
    o->shards = MEM_NEW(e->env->mem, struct loop *);
    o->shards[0] = loop;
    o->shard_count = 1;
    o->log_loop = loop;
    o->fatal = engine_on_fatal;
    o->ctx = e;
    const char *why = NULL;
    assert_int_equal(streams_check_wal(o, &why), OK);
    assert_int_equal(streams_open(o, &e->streams, &why), OK);
}

static void racer_close(struct engine *e) {
    struct loop **shards = e->options.shards;
    engine_stop(e);
    mem_free(loop_current()->env->mem, shards);
}

static void first_fiber(void *arg) {
    struct racers *t = arg;
    struct engine e = {0};
    racer_open(&e, t);
    t->first_looked = true;
    while (!t->second_serves) fiber_sleep_ns(NS_PER_MS);
    const char *why = NULL;
    assert_int_equal(streams_start(e.streams, &why), OK);
    t->first_without = atomic_load(&e.env->metrics->gauges[M_WAL_FAILED]);
    racer_close(&e);
    t->first_over = true;
}

static void second_fiber(void *arg) {
    struct racers *t = arg;
    struct engine e = {0};
    while (!t->first_looked) fiber_sleep_ns(NS_PER_MS);
    racer_open(&e, t);
    const char *why = NULL;
    assert_int_equal(streams_start(e.streams, &why), OK);
    assert_int_equal(stream_open(e.streams, (struct stream_id){1}, 1, engine_on_durable, &e, &e.live[1], &e.open[1]),
                     OK);
    engine_append(&e, 1, 100);
    t->second_without = atomic_load(&e.env->metrics->gauges[M_WAL_FAILED]);
    t->second_serves = true;
    while (!t->first_over) fiber_sleep_ns(NS_PER_MS);
    /* What was acknowledged is in the ring still, and nowhere else. */
    struct wal_options look = {.env = e.env, .path = "/dev/wal", .read_only = true};
    struct wal *w;
    t->second_left = wal_open(&look, &w, &why);
    if (t->second_left == OK) {
        if (wal_superblock(w)->incarnation.v != e.options.incarnation.v) t->second_left = ERR_STALE;
        wal_close(w, false);
    }
    racer_close(&e);
}

static void race_for_a_device(enum mutant mutant, struct racers *t) {
    struct sim_world *w = test_world(3);
    struct sim_node *first = sim_node_create(w, "first"), *second = sim_node_create(w, "second");
    sim_node_env(first)->mutant = sim_node_env(second)->mutant = mutant;
    struct sim_file *device = sim_device_create(w, 17u << 20);
    uint8_t superblock[WAL_SUPERBLOCK_SIZE];
    struct wal_superblock s = wal_superblock_new((const uint8_t *)"made by hand ...", (17u << 20) - WAL_RING_START);
    s.sequence = 1;
    wal_superblock_encode(&s, superblock);
    sim_file_poke(device, 0, superblock, sizeof(superblock));
    sim_device_attach(first, "/dev/wal", device);
    sim_device_attach(second, "/dev/wal", device);
    sim_device_unref(device);
    *t = (struct racers){0};
    sim_node_start(first, first_fiber, t);
    sim_node_start(second, second_fiber, t);
    test_until_down(first);
    test_until_down(second);
    sim_world_destroy(w);
}

static void one_start_alone_begins_a_shared_device(void **state) {
    (void)state;
    struct racers t;
    race_for_a_device(MUTANT_NONE, &t);
    assert_int_equal(t.second_left, OK);
    assert_int_equal(t.second_without, 0);
    assert_int_equal(t.first_without, 1);
    race_for_a_device(MUTANT_NO_WAL_CLAIM, &t); /* so the test is known to be able to fail */
    assert_int_equal(t.second_left, ERR_STALE);
}

struct appender {
    struct engine *engine;
    uint64_t stream;
    unsigned count;
    struct waitgroup *group;
};
static void appender_fiber(void *arg) {
    struct appender *a = arg;
    for (unsigned i = 0; i < a->count; i++) engine_append(a->engine, a->stream, 2000);
    waitgroup_done(a->group);
}

/* Without a WAL: several streams append at once, nothing is lost in a crash, and requests are far fewer than appends. */
static void no_wal_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    engine_options(e);
    e->options.wal_path = NULL;
    engine_start(e, &t->cluster);
    struct waitgroup group;
    waitgroup_init(&group);
    struct appender a[STREAMS];
    for (uint64_t id = 1; id <= STREAMS; id++) {
        a[id - 1] = (struct appender){e, id, 40, &group};
        waitgroup_add(&group);
        fiber_spawn(loop_current(), "appender", appender_fiber, &a[id - 1]);
    }
    waitgroup_wait(&group);
    /* Three wait for one PUT at a time: about one entry for each round, and not one for each append. */
    assert_in_range(engine_objects(e, "gen/ledger/"), 10, 110);
    for (uint64_t id = 1; id <= STREAMS; id++) engine_read_all(e, id, 0);
    engine_trim(e, 2, 7);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void no_wal_again_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    e.options.wal_path = NULL;
    engine_start(&e, &t->cluster);
    for (uint64_t id = 1; id <= STREAMS; id++) {
        assert_int_equal(stream_durable_end(e.open[id]), 40);
        assert_int_equal(stream_durable_start(e.open[id]), id == 2 ? 7 : 0);
        engine_read_all(&e, id, id == 2 ? 7 : 0);
    }
    engine_append(&e, 1, 10);
    engine_stop(&e);
    /* With a WAL from here on: what was stopped in order needs none. */
    e.options.wal_path = "/var/wal/broker.wal";
    engine_start(&e, &t->cluster);
    engine_append(&e, 1, 10);
    assert_int_equal(stream_durable_end(e.open[1]), 42);
    engine_stop(&e);
    assert_false(e.fatal);
}
static void without_a_wal_the_ledger_confirms(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, no_wal_fiber, &t);
    test_run(t.node, no_wal_again_fiber, &t);
    sim_world_destroy(t.world);
}

/* A WAL that was not stopped in order is asked for, whatever wal.url says now. */
static void wal_needed_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    struct loop *loop = loop_current();
    e.env = loop->env;
    e.store = sim_store_open(NULL, e.env, &(struct sim_store_options){.exclusive = true});
    e.options.wal_path = NULL;
    e.options.env = e.env;
    e.options.store = e.store;
    e.options.generation = "gen";
    e.options.incarnation.v = ++t->cluster.incarnation;
    e.options.shards = &loop;
    e.options.shard_count = 1;
    e.options.log_loop = loop;
    e.options.fatal = engine_on_fatal;
    e.options.ctx = &e;
    const char *why = NULL;
    uint64_t entry;
    assert_int_equal(streams_open(&e.options, &e.streams, &why), OK);
    assert_int_equal(streams_recover(e.streams, (struct incarnation){t->cluster.owner}, engine_is_current, &t->cluster,
                                     &entry, &why),
                     ERR_NOT_FOUND);
    assert_non_null(strstr(why, "wal.url is none"));
    streams_close(e.streams);
    store_close(e.store);
}
static void a_wal_with_records_is_asked_for(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, killed_fiber, &t);
    test_run(t.node, wal_needed_fiber, &t);
    sim_world_destroy(t.world);
}

/* Two durabilities in one broker, and a stream that goes from one to the other and back while others append. */
static void both_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    engine_options(e);
    e->options.upload_interval_ms = 3600000; /* only what must be is uploaded */
    e->options.checkpoint_entries = 1000;
    engine_start(e, &t->cluster);
    stream_set_durability(e->open[1], STREAM_DURABILITY_OBJECT);
    for (unsigned i = 0; i < 5; i++) engine_append(e, 2, 1000);
    size_t before = engine_objects(e, "gen/ledger/");
    for (unsigned i = 0; i < 5; i++) engine_append(e, 1, 1000);
    assert_int_equal(engine_objects(e, "gen/ledger/"), before + 5); /* one after the other: one each */
    stream_set_durability(e->open[2], STREAM_DURABILITY_OBJECT);
    for (unsigned i = 0; i < 5; i++) engine_append(e, 2, 1000); /* what the WAL held went first */
    assert_int_equal(engine_objects(e, "gen/ledger/"), before + 5 + 1 + 5);
    stream_set_durability(e->open[2], STREAM_DURABILITY_WAL);
    for (unsigned i = 0; i < 5; i++) engine_append(e, 2, 1000);
    assert_int_equal(engine_objects(e, "gen/ledger/"), before + 5 + 1 + 5);
    for (uint64_t id = 1; id <= 2; id++) engine_read_all(e, id, 0);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void both_again_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    assert_int_equal(stream_durable_end(e.open[1]), 5);
    assert_int_equal(stream_durable_end(e.open[2]), 15);
    for (uint64_t id = 1; id <= 2; id++) engine_read_all(&e, id, 0);
    engine_stop(&e);
    assert_false(e.fatal);
}
static void streams_of_two_durabilities_share_a_broker(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, both_fiber, &t);
    test_run(t.node, both_again_fiber, &t);
    sim_world_destroy(t.world);
}

static void wal_fails_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    engine_options(e);
    engine_start(e, &t->cluster);
    for (unsigned i = 0; i < 5; i++) engine_append(e, 1, 100);
    t->world->faults.chance[SIM_DISK_WRITE_FAILS] = 1;
    size_t before = engine_objects(e, "gen/ledger/");
    for (unsigned i = 0; i < 5; i++) engine_append(e, 1, 100); /* acknowledged from the ledger */
    assert_true(engine_objects(e, "gen/ledger/") > before);
    sim_faults_none(&t->world->faults);
    fiber_sleep_ns(60 * NS_PER_S);
    before = engine_objects(e, "gen/ledger/");
    engine_append(e, 1, 100); /* from the WAL again */
    assert_int_equal(engine_objects(e, "gen/ledger/"), before);
    assert_false(e->fatal);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void wal_failed_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    assert_int_equal(stream_durable_end(e.open[1]), 11);
    engine_read_all(&e, 1, 0);
    engine_stop(&e);
}
static void without_a_wal_the_ledger_acknowledges(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, wal_fails_fiber, &t);
    test_run(t.node, wal_failed_fiber, &t);
    sim_world_destroy(t.world);
}

static void given_up_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    engine_append(&e, 1, 100);
    t->world->faults.chance[SIM_DISK_STALL] = t->world->faults.chance[SIM_STORE_UNAVAILABLE] = 1;
    uint64_t end = 0;
    for (unsigned i = 0; i < 20;
         i++) { /* more than may be on their way to the WAL: the last ones lie in an open block */
        end = engine_append_begin(&e, 1, 100);
        fiber_sleep_ns(NS_PER_MS);
    }
    streams_stopping(e.streams);
    assert_int_equal(stream_wait_durable(e.open[1], end), ERR_CLOSED);
    engine_stop(&e); /* waits for what the disk is still writing */
    assert_false(e.fatal);
    sim_faults_none(&t->world->faults);
}
static void given_up_then_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    assert_true(stream_durable_end(e.open[1]) >= 1);
    assert_true(stream_durable_end(e.open[1]) < 21); /* else nothing was left in the block: the test shows nothing */
    engine_read_all(&e, 1, 0);
    engine_stop(&e);
}
static void a_stop_without_a_store_survives_late_writes(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, given_up_fiber, &t);
    test_run(t.node, given_up_then_fiber, &t);
    sim_world_destroy(t.world);
}

/* A topic is deleted while a checkpoint is on its way to a store that has gone; then the broker is told to stop. */
static void store_comes_back(void *arg) {
    struct test *t = arg;
    fiber_sleep_ns(300 * NS_PER_S);
    sim_faults_none(&t->world->faults);
}
static void drop_waits_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    e.options.upload_interval_ms = 10;
    e.options.checkpoint_interval_ms = 5000;
    engine_start(&e, &t->cluster);
    engine_append(&e, 1, 100);
    fiber_sleep_ns(NS_PER_S);
    t->world->faults.chance[SIM_STORE_UNAVAILABLE] = 1;
    fiber_sleep_ns(10 * NS_PER_S);
    assert_true(atomic_load(&e.env->metrics->gauges[M_STORE_FAILING]) > 0); /* the checkpoint is under way */
    fiber_spawn(loop_current(), "store", store_comes_back, t);
    stream_close(e.open[1]);
    e.open[1] = NULL;
    streams_stopping(e.streams);
    streams_drop(e.streams, (struct stream_id){1});
    assert_int_equal(t->world->faults.chance[SIM_STORE_UNAVAILABLE], 1); /* it did not wait for that */
    engine_stop(&e);
}
static void a_stop_without_a_store_ends_a_drop(void **state) {
    (void)state;
    struct test t = engine_test_begin();
    test_run(t.node, drop_waits_fiber, &t);
    sim_world_destroy(t.world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_during_a_write_is_one_group),
        cmocka_unit_test(a_power_cut_loses_nothing),
        cmocka_unit_test(without_a_wal_the_ledger_confirms),
        cmocka_unit_test(a_wal_with_records_is_asked_for),
        cmocka_unit_test(streams_of_two_durabilities_share_a_broker),
        cmocka_unit_test(a_device_read_with_a_mark_is_used_again),
        cmocka_unit_test(one_start_alone_begins_a_shared_device),
        cmocka_unit_test(without_a_wal_the_ledger_acknowledges),
        cmocka_unit_test(a_stop_without_a_store_survives_late_writes),
        cmocka_unit_test(a_stop_without_a_store_ends_a_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
