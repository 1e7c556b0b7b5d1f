/* The engine, whole, over the simulator's store and disk without faults: append, upload, read back, restart, small
 * ranges, deletion, checkpoints, a failing WAL. The simulator's workload "streams" does the same with faults and
 * crashes at random; here each thing is looked at by itself. */
#include "unit/sim/sim_test.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "kafka/batch.h"
#include "sim/disk.h"
#include "stream/stream.h"
#include "stream/wal.h"

#define STREAMS 3u

struct engine {
    struct sim_node *node;
    struct env *env;
    struct store *store;
    struct streams *streams;
    struct stream *open[STREAMS + 1]; /* by id */
    struct stream_state live[STREAMS + 1];
    struct streams_options options;
    unsigned told; /* calls of durable() */
    bool fatal;
};

/* What survives a crash: which incarnation owns the streams, with which epoch. */
struct cluster {
    uint64_t owner, incarnation;
    int32_t epoch;
};

static void on_fatal(void *ctx, enum err why, const char *what) {
    struct engine *e = ctx;
    print_message("fatal: %s: %s\n", err_name(why), what);
    e->fatal = true;
}

static void on_durable(void *ctx) {
    struct engine *e = ctx;
    e->told++;
}

static bool is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    struct cluster *c = ctx;
    *epoch = c->epoch;
    return id.v <= STREAMS;
}

static void options_init(struct engine *e) {
    e->options = (struct streams_options){.wal_path = "/var/wal/broker.wal",
                                          .wal_size_bytes = 17u << 20,
                                          .cache_log_bytes = 64u << 20,
                                          .cache_block_bytes = 16u << 20,
                                          .upload_bytes = 1u << 20,
                                          .upload_interval_ms = 1000,
                                          .checkpoint_entries = 8,
                                          .producer_expiration_ms = 86400000};
}

static void start(struct engine *e, struct cluster *c) {
    struct loop *loop = loop_current();
    e->env = loop->env;
    e->store = sim_store_open(NULL, e->env, &(struct sim_store_options){.exclusive = true});
    struct streams_options *o = &e->options;
    o->env = e->env;
    o->store = e->store;
    o->generation = "gen";
    o->incarnation.v = ++c->incarnation;
    o->shards = &loop;
    o->shard_count = 1;
    o->log_loop = loop;
    o->fatal = on_fatal;
    o->ctx = e;
    const char *why = NULL;
    assert_int_equal(streams_open(o, &e->streams, &why), OK);
    if (c->owner) {
        uint64_t entry;
        assert_int_equal(streams_recover(e->streams, (struct incarnation){c->owner}, is_current, c, &entry, &why), OK);
        c->epoch++;
    }
    c->owner = c->incarnation;
    assert_int_equal(streams_start(e->streams, &why), OK);
    for (uint64_t id = 1; id <= STREAMS; id++) {
        assert_int_equal(
            stream_open(e->streams, (struct stream_id){id}, c->epoch, on_durable, e, &e->live[id], &e->open[id]), OK);
    }
}

static void stop(struct engine *e) {
    for (uint64_t id = 1; id <= STREAMS; id++) {
        if (e->open[id]) stream_close(e->open[id]);
        state_deinit(&e->live[id]);
        e->open[id] = NULL;
    }
    streams_close(e->streams);
    store_close(e->store);
}

/* One batch of one record whose value is `size` bytes that follow from the offset. Does not wait until it is durable. */
static uint64_t append_begin(struct engine *e, uint64_t id, size_t size) {
    struct stream *s = e->open[id];
    assert_int_equal(stream_reserve(s, size + 200), OK);
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = (int64_t)stream_appended_end(s);
    if (id == 3) { /* an idempotent producer */
        o.producer_id = 5;
        o.producer_epoch = 0;
        o.base_sequence = (int32_t)o.base_offset;
    }
    struct batch_builder builder;
    struct buf bytes;
    buf_init(&bytes, e->env->mem);
    batch_builder_init(&builder, e->env->mem, &o);
    uint8_t *value = mem_alloc(e->env->mem, size + 1);
    memset(value, (int)((o.base_offset + (int64_t)id) & 0xff), size);
    batch_builder_add(&builder, 1000 + o.base_offset, NULL, 0, value, size, NULL, 0);
    assert_int_equal(batch_builder_finish(&builder, &bytes), OK);
    batch_builder_deinit(&builder);
    struct stream_record r = {.type = STREAM_BATCH,
                              .base_offset = (uint64_t)o.base_offset,
                              .end_offset = (uint64_t)o.base_offset + 1,
                              .max_timestamp = 1000 + o.base_offset,
                              .payload = bytes.data,
                              .payload_size = bytes.size,
                              .payload_crc = crc32c(0, bytes.data, bytes.size)};
    stream_append(s, &r);
    buf_deinit(&bytes);
    mem_free(e->env->mem, value);
    return r.end_offset;
}

static void append(struct engine *e, uint64_t id, size_t size) {
    uint64_t end_offset = append_begin(e, id, size);
    assert_int_equal(stream_wait_durable(e->open[id], end_offset), OK);
}

static void trim(struct engine *e, uint64_t id, uint64_t to) {
    assert_int_equal(stream_reserve(e->open[id], 0), OK);
    struct stream_record r = {.type = STREAM_TRIM, .base_offset = to, .end_offset = to};
    stream_append(e->open[id], &r);
    while (stream_durable_start(e->open[id]) < to) fiber_sleep_ns(NS_PER_MS);
}

/* Reads [from, durable end) and checks every batch. */
/* Reads from `offset` on, checks what comes, and returns where it ends. */
static uint64_t read_some(struct engine *e, uint64_t id, uint64_t offset, size_t max_bytes) {
    struct stream *s = e->open[id];
    struct slices got;
    slices_init(&got, e->env->mem);
    assert_int_equal(stream_read(s, offset, stream_durable_end(s), max_bytes, true, false, UINT64_MAX, &got), OK);
    assert_true(got.count > 0);
    for (size_t i = 0; i < got.count; i++) {
        for (size_t at = 0; at < got.items[i].size;) {
            struct batch_header h;
            assert_int_equal(batch_parse(got.items[i].data + at, got.items[i].size - at, &h), OK);
            assert_int_equal(h.base_offset, offset);
            struct batch_iterator it;
            struct batch_record r;
            assert_int_equal(batch_iterator_init(&it, e->env->mem, &h, 1u << 24), OK);
            assert_int_equal(batch_iterator_next(&it, &r), OK);
            for (int32_t k = 0; k < r.value_size; k++) assert_int_equal(r.value[k], (offset + id) & 0xff);
            batch_iterator_deinit(&it);
            offset++;
            at += h.size;
        }
    }
    slices_deinit(&got);
    return offset;
}

static void read_all(struct engine *e, uint64_t id, uint64_t from) {
    while (from < stream_durable_end(e->open[id])) from = read_some(e, id, from, 300000);
}

static size_t objects(struct engine *e, const char *prefix) {
    const struct sim_bucket *b = e->node->world->bucket;
    size_t n = 0;
    for (size_t i = sim_bucket_from(b, prefix);
         i < b->count && strncmp(b->objects[i]->key, prefix, strlen(prefix)) == 0; i++)
        n++;
    return n;
}

struct test {
    struct sim_node *node;
    struct cluster cluster;
    struct sim_world *world;
};

static struct test test_begin(void) {
    struct test t = {.world = test_world(3)};
    t.node = sim_node_create(t.world, "broker");
    return t;
}

/* --- */

static uint64_t groups(const struct engine *e) {
    return atomic_load(&e->env->metrics->counters[M_WAL_GROUPS][0]);
}

/* What comes while a small write is under way is one group, unless it is much. */
static void groups_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    append(&e, 1, 100);
    uint64_t before = groups(&e);
    uint64_t end = 0;
    for (unsigned i = 0; i < 400; i++) {
        end = append_begin(&e, 1 + i % 2, 100);
        fiber_sleep_ns(10 * NS_PER_US);
    }
    assert_int_equal(stream_wait_durable(e.open[2], end), OK);
    assert_in_range(groups(&e) - before, 2, 25); /* 34 if four writes of one record each might be under way */
    /* Each of these is worth a write of its own. */
    before = groups(&e);
    for (unsigned i = 0; i < 3; i++) {
        end = append_begin(&e, 1, 140000);
        fiber_sleep_ns(20 * NS_PER_US);
    }
    assert_int_equal(stream_wait_durable(e.open[1], end), OK);
    assert_int_equal(groups(&e) - before, 3);
    stop(&e);
}
static void what_comes_during_a_write_is_one_group(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, groups_fiber, &t);
    sim_world_destroy(t.world);
}

static void reads_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    e.options.cache_log_bytes = 0; /* as little as can be: four slabs */
    e.options.cache_block_bytes = 1000;
    start(&e, &t->cluster);
    for (unsigned i = 0; i < 400; i++) append(&e, 1 + i % 2, 40000);
    assert_true(e.told > 0);
    assert_int_equal(stream_durable_end(e.open[1]), 200);
    /* 16 MB went through 8 MB of cache: the beginning comes from objects, the end from the cache. */
    assert_true(objects(&e, "gen/ledger/") > 3);
    read_all(&e, 1, 0);
    read_all(&e, 2, 0);
    read_all(&e, 1, 77);
    /* Limits. */
    struct slices got;
    slices_init(&got, e.env->mem);
    assert_int_equal(stream_read(e.open[1], 200, 200, 1000, true, false, UINT64_MAX, &got), OK);
    assert_int_equal(got.count, 0);
    assert_int_equal(stream_read(e.open[1], 10, 20, 1, false, false, UINT64_MAX, &got), OK); /* nothing fits */
    assert_int_equal(got.count, 0);
    assert_int_equal(stream_read(e.open[1], 10, 20, 1, true, false, UINT64_MAX, &got),
                     OK); /* the first one all the same */
    assert_int_equal(got.count, 1);
    assert_int_equal(stream_read(e.open[1], 0, 20, 1u << 20, true, true, UINT64_MAX, &got), ERR_BUSY); /* not cached */
    assert_int_equal(stream_read(e.open[1], 150, 20, 1, true, false, UINT64_MAX, &got), ERR_OFFSET_OUT_OF_RANGE);
    slices_deinit(&got);
    /* By timestamp, in objects and in the cache. */
    static const uint64_t wanted[] = {0, 3, 150, 199};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        struct slice batch;
        struct batch_header h;
        assert_int_equal(stream_find_timestamp(e.open[1], 0, 200, (int64_t)(1000 + wanted[i]), &batch), OK);
        assert_int_equal(batch_parse(batch.data, batch.size, &h), OK);
        assert_int_equal(h.base_offset, wanted[i]);
        slice_unref(&batch);
    }
    struct slice none;
    assert_int_equal(stream_find_timestamp(e.open[1], 0, 200, 5000, &none), ERR_NOT_FOUND);
    stop(&e);
    assert_false(e.fatal);
}
static void what_is_appended_is_read_from_cache_and_objects(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, reads_fiber, &t);
    sim_world_destroy(t.world);
}

/* Readers at their own paces, more than are remembered, and some that jump: each goes on in the middle of blocks, while
 * the pieces that hold them are merged. */
static void readers_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    for (unsigned i = 0; i < 2000; i++) append(&e, 1 + i % 2, 100 + i % 7 * 150);
    stop(&e);
    start(&e, &t->cluster);
    uint64_t end = stream_durable_end(e.open[1]), at[6] = {0}, done = 0, round = 0;
    assert_int_equal(end, 1000);
    while (done < 6) {
        done = 0;
        for (unsigned i = 0; i < 6; i++) {
            if (at[i] < end) at[i] = read_some(&e, 1 + i % 2, at[i], 1 + i * 1700);
            done += at[i] >= end;
        }
        if (++round % 16 != 0) continue;
        (void)read_some(&e, 1, round * 37 % end, 3000);
        if (round > 400) continue;
        if (at[1] < end) at[1] -= at[1] / 3; /* back, into the middle of what it has seen */
        append(&e, 1, 200);
        append(&e, 2, 200);
        fiber_sleep_ns(1500 * NS_PER_MS); /* small ranges, to be merged */
    }
    stop(&e);
}
static void readers_go_on_in_the_middle_of_blocks(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, readers_fiber, &t);
    sim_world_destroy(t.world);
}

/* --- What is held. */

static int64_t gauge(const struct engine *e, enum metric_gauge g) {
    return atomic_load(&e->env->metrics->gauges[g]);
}

/* Answers that nobody reads keep commit blocks: those are counted when the cache has let go of them, and it has as much
 * less. With the last answer all is back. */
static void lent_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    e.options.cache_log_bytes = 16 * COMMIT_SLAB_SIZE;
    int64_t whole = 16 * (int64_t)COMMIT_SLAB_SIZE, lendable = whole / 4, most_lent = 0, most = 0;
    start(&e, &t->cluster);
    atomic_store(&e.env->metrics->memory_limits[MEMORY_LOG_CACHE_LENT], lendable);
    struct slices held;
    slices_init(&held, e.env->mem);
    size_t size = COMMIT_SLAB_SIZE / 5;
    for (unsigned i = 0; i < 300; i++) {
        uint64_t at = stream_appended_end(e.open[1]);
        append(&e, 1, size);
        /* One batch of each slab or so, until there is too much: as a broker does. */
        if (i % 4 == 0 && gauge(&e, M_LOG_CACHE_LENT_BYTES) <= lendable)
            assert_int_equal(stream_read(e.open[1], at, at + 1, 1, true, true, UINT64_MAX, &held), OK);
        int64_t lent = gauge(&e, M_LOG_CACHE_LENT_BYTES), all = lent + gauge(&e, M_LOG_CACHE_BYTES);
        if (lent > most_lent) most_lent = lent;
        if (all > most) most = all;
    }
    assert_true(most_lent > lendable);
    assert_true(most > whole);
    assert_true(most <= whole + lendable + 2 * (int64_t)COMMIT_SLAB_SIZE);
    slices_deinit(&held);
    assert_int_equal(gauge(&e, M_LOG_CACHE_LENT_BYTES), 0);
    stop(&e);
    assert_int_equal(gauge(&e, M_LOG_CACHE_BYTES), 0);
}
static void lent_blocks_are_counted(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, lent_fiber, &t);
    sim_world_destroy(t.world);
}

/* Tiny batches: where they lie takes as much as they, and counts. A burst leaves nothing behind. */
static void index_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    e.options.cache_log_bytes = 4 * COMMIT_SLAB_SIZE;
    int64_t whole = 4 * (int64_t)COMMIT_SLAB_SIZE, most = 0;
    start(&e, &t->cluster);
    for (unsigned i = 0; i < 60000; i++) {
        uint64_t end = append_begin(&e, 1 + i % 2, 1);
        if (i % 500 == 0) assert_int_equal(stream_wait_durable(e.open[1 + i % 2], end), OK);
        int64_t all = gauge(&e, M_LOG_CACHE_BYTES);
        if (all > most) most = all;
    }
    assert_true(most > whole / 4 * 3 && most <= whole + whole / 10);
    append(&e, 3, 1);
    stop(&e);
    assert_int_equal(gauge(&e, M_LOG_CACHE_BYTES), 0);
}
static void tiny_batches_count_their_index(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, index_fiber, &t);
    sim_world_destroy(t.world);
}

/* Many small objects on a slow store: a read brings what there is in time, and goes on from there. */
static void slow_reads_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    options_init(e);
    start(e, &t->cluster);
    for (unsigned i = 0; i < 6; i++) {
        append(e, 1, 5000);
        fiber_sleep_ns(1500 * NS_PER_MS); /* each in an upload of its own */
    }
    stop(e);
    start(e, &t->cluster);
    t->world->faults.chance[SIM_STORE_SLOW] = 1; /* a request takes seconds */
    uint64_t end = stream_durable_end(e->open[1]), offset = 0, reads = 0;
    while (offset < end) {
        struct slices got;
        slices_init(&got, e->env->mem);
        uint64_t until = env_now_ns(e->env) + 500 * NS_PER_MS;
        assert_int_equal(stream_read(e->open[1], offset, end, 1u << 20, true, false, until, &got), OK);
        assert_true(got.count > 0);
        for (size_t i = 0; i < got.count; i++) {
            for (size_t at = 0; at < got.items[i].size; offset++) {
                struct batch_header h;
                assert_int_equal(batch_parse(got.items[i].data + at, got.items[i].size - at, &h), OK);
                assert_int_equal(h.base_offset, offset);
                at += h.size;
            }
        }
        slices_deinit(&got);
        reads++;
    }
    assert_int_equal(offset, 6);
    assert_true(reads > 1);
    sim_faults_none(&t->world->faults);
    stop(e);
    mem_free(loop_current()->env->mem, e);
}
static void slow_reads_come_in_parts(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, slow_reads_fiber, &t);
    sim_world_destroy(t.world);
}

static void killed_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    options_init(e);
    start(e, &t->cluster);
    for (unsigned i = 0; i < 30; i++) append(e, 1 + i % 3, 3000);
    fiber_sleep_ns(3 * NS_PER_S); /* uploaded */
    for (unsigned i = 0; i < 30; i++) append(e, 1 + i % 3, 3000);
    trim(e, 2, 7);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void again_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_int_equal(stream_durable_end(e.open[id]), 20);
        assert_int_equal(stream_durable_start(e.open[id]), id == 2 ? 7 : 0);
        assert_int_equal(e.live[id].end_offset, 20);
        read_all(&e, id, id == 2 ? 7 : 0);
    }
    struct state_producer *p = state_producer_get(&e.live[3], 5);
    assert_non_null(p);
    assert_int_equal(p->count, STATE_PRODUCER_BATCHES);
    assert_int_equal(p->batches[STATE_PRODUCER_BATCHES - 1].last_sequence, 19);
    append(&e, 1, 10);
    stop(&e);
    start(&e, &t->cluster); /* after an orderly stop, too */
    assert_int_equal(stream_durable_end(e.open[1]), 21);
    read_all(&e, 1, 0);
    stop(&e);
}
static void a_power_cut_loses_nothing(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, killed_fiber, &t);
    test_run(t.node, again_fiber, &t);
    sim_world_destroy(t.world);
}

static void device_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    options_init(e);
    e->options.wal_path = "/dev/wal";
    e->options.wal_takeover_mark = true; /* the default of block devices */
    for (unsigned life = 0; life < 3; life++) {
        start(e, &t->cluster);
        assert_int_equal(stream_durable_end(e->open[1]), t->cluster.incarnation - 1);
        append(e, 1, 100);
        read_all(e, 1, 0);
        if (life == 2 || t->cluster.incarnation == 2) break;
        stop(e);
    }
    sim_node_crash(t->node, SIM_KILL);
    fiber_sleep_ns(NS_PER_S);
}
static void a_device_read_with_a_mark_is_used_again(void **state) {
    (void)state;
    struct test t = test_begin();
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
    options_init(e);
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
    o->fatal = on_fatal;
    o->ctx = e;
    const char *why = NULL;
    assert_int_equal(streams_check_wal(o, &why), OK);
    assert_int_equal(streams_open(o, &e->streams, &why), OK);
}

static void racer_close(struct engine *e) {
    struct loop **shards = e->options.shards;
    stop(e);
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
    assert_int_equal(stream_open(e.streams, (struct stream_id){1}, 1, on_durable, &e, &e.live[1], &e.open[1]), OK);
    append(&e, 1, 100);
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
    for (unsigned i = 0; i < a->count; i++) append(a->engine, a->stream, 2000);
    waitgroup_done(a->group);
}

/* Without a WAL: several streams append at once, nothing is lost in a crash, and requests are far fewer than appends. */
static void no_wal_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    options_init(e);
    e->options.wal_path = NULL;
    start(e, &t->cluster);
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
    assert_in_range(objects(e, "gen/ledger/"), 10, 110);
    for (uint64_t id = 1; id <= STREAMS; id++) read_all(e, id, 0);
    trim(e, 2, 7);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void no_wal_again_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    e.options.wal_path = NULL;
    start(&e, &t->cluster);
    for (uint64_t id = 1; id <= STREAMS; id++) {
        assert_int_equal(stream_durable_end(e.open[id]), 40);
        assert_int_equal(stream_durable_start(e.open[id]), id == 2 ? 7 : 0);
        read_all(&e, id, id == 2 ? 7 : 0);
    }
    append(&e, 1, 10);
    stop(&e);
    /* With a WAL from here on: what was stopped in order needs none. */
    e.options.wal_path = "/var/wal/broker.wal";
    start(&e, &t->cluster);
    append(&e, 1, 10);
    assert_int_equal(stream_durable_end(e.open[1]), 42);
    stop(&e);
    assert_false(e.fatal);
}
static void without_a_wal_the_ledger_confirms(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, no_wal_fiber, &t);
    test_run(t.node, no_wal_again_fiber, &t);
    sim_world_destroy(t.world);
}

/* A WAL that was not stopped in order is asked for, whatever wal.url says now. */
static void wal_needed_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
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
    e.options.fatal = on_fatal;
    e.options.ctx = &e;
    const char *why = NULL;
    uint64_t entry;
    assert_int_equal(streams_open(&e.options, &e.streams, &why), OK);
    assert_int_equal(
        streams_recover(e.streams, (struct incarnation){t->cluster.owner}, is_current, &t->cluster, &entry, &why),
        ERR_NOT_FOUND);
    assert_non_null(strstr(why, "wal.url is none"));
    streams_close(e.streams);
    store_close(e.store);
}
static void a_wal_with_records_is_asked_for(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, killed_fiber, &t);
    test_run(t.node, wal_needed_fiber, &t);
    sim_world_destroy(t.world);
}

/* Two durabilities in one broker, and a stream that goes from one to the other and back while others append. */
static void both_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    options_init(e);
    e->options.upload_interval_ms = 3600000; /* only what must be is uploaded */
    e->options.checkpoint_entries = 1000;
    start(e, &t->cluster);
    stream_set_durability(e->open[1], STREAM_DURABILITY_OBJECT);
    for (unsigned i = 0; i < 5; i++) append(e, 2, 1000);
    size_t before = objects(e, "gen/ledger/");
    for (unsigned i = 0; i < 5; i++) append(e, 1, 1000);
    assert_int_equal(objects(e, "gen/ledger/"), before + 5); /* one after the other: one each */
    stream_set_durability(e->open[2], STREAM_DURABILITY_OBJECT);
    for (unsigned i = 0; i < 5; i++) append(e, 2, 1000); /* what the WAL held went first */
    assert_int_equal(objects(e, "gen/ledger/"), before + 5 + 1 + 5);
    stream_set_durability(e->open[2], STREAM_DURABILITY_WAL);
    for (unsigned i = 0; i < 5; i++) append(e, 2, 1000);
    assert_int_equal(objects(e, "gen/ledger/"), before + 5 + 1 + 5);
    for (uint64_t id = 1; id <= 2; id++) read_all(e, id, 0);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void both_again_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    assert_int_equal(stream_durable_end(e.open[1]), 5);
    assert_int_equal(stream_durable_end(e.open[2]), 15);
    for (uint64_t id = 1; id <= 2; id++) read_all(&e, id, 0);
    stop(&e);
    assert_false(e.fatal);
}
static void streams_of_two_durabilities_share_a_broker(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, both_fiber, &t);
    test_run(t.node, both_again_fiber, &t);
    sim_world_destroy(t.world);
}

static void restarts_fiber(void *arg) {
    struct test *t = arg;
    size_t most = 0;
    for (unsigned life = 0; life < 120; life++) {
        struct engine e = {.node = t->node};
        options_init(&e);
        start(&e, &t->cluster);
        for (uint64_t id = 1; id <= 2; id++) append(&e, id, 50);
        struct incarnation oldest;
        assert_int_equal(streams_sweep(e.streams, &oldest), OK);
        fiber_sleep_ns(5 * NS_PER_S); /* uploads, merges, deletes */
        size_t n = objects(&e, "gen/");
        if (n > most) most = n;
        if (life % 40 == 39) {
            for (uint64_t id = 1; id <= 2; id++) read_all(&e, id, 0);
        }
        stop(&e);
    }
    assert_true(most < 60); /* 120 starts with two small ranges each */
}
static void restarts_leave_a_bounded_number_of_objects(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, restarts_fiber, &t);
    sim_world_destroy(t.world);
}

static void merge_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    e.options.upload_interval_ms = 10;
    e.options.checkpoint_entries = 1; /* each entry is followed by a checkpoint: what is idle must not pin old ones */
    start(&e, &t->cluster);
    append(&e, 2, 100);
    trim(&e, 2, 1); /* empty and idle from now on: all that it needs is its state */
    for (unsigned i = 0; i < 300; i++) {
        append(&e, 1, 200);
        fiber_sleep_ns(50 * NS_PER_MS);
    }
    fiber_sleep_ns(5 * NS_PER_S);
    assert_true(objects(&e, "gen/ledger/") < 60);
    const struct sim_bucket *b = t->world->bucket;
    size_t first = sim_bucket_from(b, "gen/ledger/"), last = sim_bucket_from(b, "gen/ledger0");
    uint64_t oldest = strtoull(strrchr(b->objects[first]->key, '/') + 1, NULL, 10);
    uint64_t newest = strtoull(strrchr(b->objects[last - 1]->key, '/') + 1, NULL, 10);
    assert_true(newest > 300 && oldest > newest / 2);
    read_all(&e, 1, 0);
    stop(&e);
    /* As another start sees it. */
    start(&e, &t->cluster);
    e.options.cache_log_bytes = 0;
    assert_int_equal(stream_durable_end(e.open[1]), 300);
    assert_int_equal(stream_durable_start(e.open[2]), 1);
    read_all(&e, 1, 0);
    stop(&e);
}
static void small_ranges_are_merged_and_old_checkpoints_go(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, merge_fiber, &t);
    sim_world_destroy(t.world);
}

/* While the store could not be read, many small ranges came together: they are merged, each read once, though nothing is
 * uploaded any more. */
static void many_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    _Atomic uint64_t *gets =
        &e.env->metrics->counters[M_STORE_REQUESTS][STORE_GET * STORE_PURPOSES + STORE_FOR_COMPACTION];
    t->world->faults.chance[SIM_STORE_READ_FAILS] = 1;
    for (unsigned i = 0; i < 90; i++) {
        append(&e, 1, 100);
        fiber_sleep_ns(1500 * NS_PER_MS); /* each in an upload of its own */
    }
    sim_faults_none(&t->world->faults);
    uint64_t before = atomic_load(gets);
    fiber_sleep_ns(120 * NS_PER_S); /* what is under way fails first */
    uint64_t reads = atomic_load(gets) - before;
    assert_true(reads >= 64 && reads <= 65); /* two runs; what is left is too few */
    read_all(&e, 1, 0);
    stop(&e);
}
static void many_small_ranges_are_merged_each_once(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, many_fiber, &t);
    sim_world_destroy(t.world);
}

static void drop_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    for (unsigned i = 0; i < 5; i++) append(&e, 2, 1000);
    fiber_sleep_ns(10 * NS_PER_S);
    /* Enough of one stream to be merged into an object of its own. */
    for (unsigned i = 0; i < 30; i++) {
        append(&e, 1, 400000);
        if (i % 3 == 2) fiber_sleep_ns(NS_PER_S);
    }
    fiber_sleep_ns(100 * NS_PER_S);
    assert_true(objects(&e, "gen/data/") > 0);
    read_all(&e, 1, 0);
    stream_close(e.open[1]);
    e.open[1] = NULL;
    streams_drop(e.streams, (struct stream_id){1});
    fiber_sleep_ns(10 * NS_PER_S);
    assert_int_equal(objects(&e, "gen/data/"), 0);
    read_all(&e, 2, 0);
    /* Trimmed to the end, the other one's objects go as well. */
    trim(&e, 2, 5);
    for (unsigned i = 0; i < 20; i++) {
        append(&e, 3, 10);
        fiber_sleep_ns(2 * NS_PER_S);
    }
    assert_true(objects(&e, "gen/ledger/") < 40);
    assert_int_equal(stream_durable_start(e.open[2]), 5);
    stop(&e);
}
static void dropped_streams_free_their_objects(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, drop_fiber, &t);
    sim_world_destroy(t.world);
}

static void wal_fails_fiber(void *arg) {
    struct test *t = arg;
    struct engine *e = MEM_NEW(loop_current()->env->mem, struct engine);
    e->node = t->node;
    options_init(e);
    start(e, &t->cluster);
    for (unsigned i = 0; i < 5; i++) append(e, 1, 100);
    t->world->faults.chance[SIM_DISK_WRITE_FAILS] = 1;
    size_t before = objects(e, "gen/ledger/");
    for (unsigned i = 0; i < 5; i++) append(e, 1, 100); /* acknowledged from the ledger */
    assert_true(objects(e, "gen/ledger/") > before);
    sim_faults_none(&t->world->faults);
    fiber_sleep_ns(60 * NS_PER_S);
    before = objects(e, "gen/ledger/");
    append(e, 1, 100); /* from the WAL again */
    assert_int_equal(objects(e, "gen/ledger/"), before);
    assert_false(e->fatal);
    sim_node_crash(t->node, SIM_POWER_CUT);
    fiber_sleep_ns(NS_PER_S);
}
static void wal_failed_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    assert_int_equal(stream_durable_end(e.open[1]), 11);
    read_all(&e, 1, 0);
    stop(&e);
}
static void without_a_wal_the_ledger_acknowledges(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, wal_fails_fiber, &t);
    test_run(t.node, wal_failed_fiber, &t);
    sim_world_destroy(t.world);
}

static void given_up_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    append(&e, 1, 100);
    t->world->faults.chance[SIM_DISK_STALL] = t->world->faults.chance[SIM_STORE_UNAVAILABLE] = 1;
    uint64_t end = 0;
    for (unsigned i = 0; i < 20;
         i++) { /* more than may be on their way to the WAL: the last ones lie in an open block */
        end = append_begin(&e, 1, 100);
        fiber_sleep_ns(NS_PER_MS);
    }
    streams_stopping(e.streams);
    assert_int_equal(stream_wait_durable(e.open[1], end), ERR_CLOSED);
    stop(&e); /* waits for what the disk is still writing */
    assert_false(e.fatal);
    sim_faults_none(&t->world->faults);
}
static void given_up_then_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    assert_true(stream_durable_end(e.open[1]) >= 1);
    assert_true(stream_durable_end(e.open[1]) < 21); /* else nothing was left in the block: the test shows nothing */
    read_all(&e, 1, 0);
    stop(&e);
}
static void a_stop_without_a_store_survives_late_writes(void **state) {
    (void)state;
    struct test t = test_begin();
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
    options_init(&e);
    e.options.upload_interval_ms = 10;
    e.options.checkpoint_interval_ms = 5000;
    start(&e, &t->cluster);
    append(&e, 1, 100);
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
    stop(&e);
}
static void a_stop_without_a_store_ends_a_drop(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, drop_waits_fiber, &t);
    sim_world_destroy(t.world);
}

static void jumping_clock_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    options_init(&e);
    start(&e, &t->cluster);
    append(&e, 3, 100);
    /* The closing checkpoint writes the state whole; so does the first one of the next start. */
    t->node->wall_skew_ms += 3 * 86400000;
    stop(&e);
    start(&e, &t->cluster);
    assert_non_null(state_producer_get(&e.live[3], 5));
    t->node->wall_skew_ms += 3 * 86400000;
    stop(&e);
    t->node->wall_skew_ms += 3 * 86400000;
    start(&e, &t->cluster);
    assert_non_null(state_producer_get(&e.live[3], 5));
    stop(&e);
}

static void a_jumping_wall_clock_forgets_no_producer(void **state) {
    (void)state;
    struct test t = test_begin();
    test_run(t.node, jumping_clock_fiber, &t);
    sim_world_destroy(t.world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_during_a_write_is_one_group),
        cmocka_unit_test(what_is_appended_is_read_from_cache_and_objects),
        cmocka_unit_test(readers_go_on_in_the_middle_of_blocks),
        cmocka_unit_test(lent_blocks_are_counted),
        cmocka_unit_test(tiny_batches_count_their_index),
        cmocka_unit_test(slow_reads_come_in_parts),
        cmocka_unit_test(a_power_cut_loses_nothing),
        cmocka_unit_test(without_a_wal_the_ledger_confirms),
        cmocka_unit_test(a_wal_with_records_is_asked_for),
        cmocka_unit_test(streams_of_two_durabilities_share_a_broker),
        cmocka_unit_test(a_device_read_with_a_mark_is_used_again),
        cmocka_unit_test(one_start_alone_begins_a_shared_device),
        cmocka_unit_test(restarts_leave_a_bounded_number_of_objects),
        cmocka_unit_test(small_ranges_are_merged_and_old_checkpoints_go),
        cmocka_unit_test(many_small_ranges_are_merged_each_once),
        cmocka_unit_test(dropped_streams_free_their_objects),
        cmocka_unit_test(without_a_wal_the_ledger_acknowledges),
        cmocka_unit_test(a_stop_without_a_store_survives_late_writes),
        cmocka_unit_test(a_stop_without_a_store_ends_a_drop),
        cmocka_unit_test(a_jumping_wall_clock_forgets_no_producer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
