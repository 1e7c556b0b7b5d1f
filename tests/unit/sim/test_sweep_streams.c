/* Sweeps over the storage engine, whole, on a cluster log of its own: start, recovery of the one before, appends on both
 * lanes, upload, checkpoint, trim, reading back, deletion of a topic, sweep of old objects, orderly stop. With and
 * without a WAL; every input and output, and, as crashes, every allocation. */
#include "sweep_run.h"

#include "base/crc32c.h"
#include "kafka/batch.h"
#include "meta/meta.h"
#include "sim/disk.h"
#include "stream/sizes.h"
#include "stream/stream.h"

#define PARTITIONS 2u
#define TOPIC "t"

struct engine;

struct part {
    struct engine *engine;
    unsigned index;
    struct stream *stream;
    struct stream_state live;
    bool over; /* its appender has ended */
};

struct engine { /* one life */
    struct streams_run *run;
    struct env *env;
    struct store *store;
    struct meta *meta;
    struct streams *streams;
    struct loop *loop;
    struct part parts[PARTITIONS];
    struct waitgroup group, stopping;
    bool fatal, over;
};

struct streams_run {
    struct sweep_run base;
    bool no_wal;
    /* by partition; behind them a topic that is deleted */
    uint64_t asked[PARTITIONS + 1], acked[PARTITIONS + 1], trim_asked[PARTITIONS + 1], trim_acked[PARTITIONS + 1];
    bool doomed_made, doomed_gone;
    bool must; /* nothing is broken: everything has to go well */
    unsigned lives;
};

#define EXPECT(e, c, ...) SWEEP_EXPECT((e)->run, c, __VA_ARGS__)

static void on_fatal(void *ctx, enum err why, const char *what) {
    struct engine *e = ctx;
    e->fatal = true;
    EXPECT(e, false, "the only broker gave up: %s (%s)", what, err_name(why));
}

static void nothing(void *ctx) {
    (void)ctx;
}

/* --- Opening. */

/* What may be said to an operator when one thing fails on sound media: a reason, and never that data is damaged. */
static bool start_failed(struct engine *e, const char *what, enum err err, const char *why) {
    if (err == OK) return false;
    EXPECT(e, why && strlen(why) > 10, "%s: %s without a reason", what, err_name(err));
    EXPECT(e, !e->run->must, "%s though nothing is broken: %s (%s)", what, err_name(err), why);
    EXPECT(e,
           err != ERR_CORRUPT && err != ERR_FOREIGN && err != ERR_GAP && err != ERR_VERSION && err != ERR_FENCED &&
               err != ERR_TRUNCATED && err != ERR_LOCKED && err != ERR_UNSUPPORTED,
           "%s: a failed operation is taken for damage: %s (%s)", what, err_name(err), why);
    return true;
}

struct owner_query {
    struct meta *meta;
    struct incarnation dead;
};

static bool is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    struct owner_query *q = ctx;
    int32_t index;
    const struct meta_topic *t = meta_topic_of_stream(q->meta, id, &index);
    if (!t || t->partitions[index].owner.v != q->dead.v) return false;
    *epoch = t->partitions[index].epoch;
    return true;
}

static bool engine_recover(struct engine *e) {
    struct meta_broker dead;
    const char *why = NULL;
    while (meta_unrecovered(e->meta, &dead, 1) > 0) {
        struct owner_query q = {e->meta, dead.incarnation};
        uint64_t entry = 0;
        enum err err = streams_recover(e->streams, dead.incarnation, is_current, &q, &entry, &why);
        if (start_failed(e, "recovery", err, why)) return false;
        err = meta_recovered(e->meta, q.dead, entry);
        if (start_failed(e, "the record of a recovery", err, "not written")) return false;
    }
    enum err err = streams_start(e->streams, &why);
    return !start_failed(e, "start", err, why);
}

static bool engine_open(struct engine *e) {
    const char *why = NULL;
    e->env = loop_current()->env;
    e->loop = loop_current();
    e->store = sim_sweep_store(sim_store_open(NULL, e->env, &(struct sim_store_options){.exclusive = true}));
    e->run->lives++;
    enum err err = meta_open(&(struct meta_options){.env = e->env, .store = e->store, .node_id = 1}, &e->meta, &why);
    if (start_failed(e, "cluster", err, why)) return false;
    struct streams_options o = {.env = e->env,
                                .store = e->store,
                                .generation = meta_generation(e->meta),
                                .incarnation = meta_incarnation(e->meta),
                                .wal_path = e->run->no_wal ? NULL : "/var/wal/broker.wal",
                                .wal_size_bytes = WAL_RING_MIN + WAL_RING_MIN / 8,
                                .cache_log_bytes = 0,
                                .cache_block_bytes = 4096,
                                .upload_bytes = 60000,
                                .upload_interval_ms = 400,
                                .checkpoint_entries = 3,
                                .producer_expiration_ms = 86400000,
                                .shards = &e->loop,
                                .shard_count = 1,
                                .log_loop = e->loop,
                                .fatal = on_fatal,
                                .ctx = e};
    err = streams_open(&o, &e->streams, &why);
    if (start_failed(e, "streams", err, why)) return false;
    return engine_recover(e);
}

/* --- Work. */

static uint64_t value_of(unsigned partition, uint64_t offset) {
    return offset * PARTITIONS + partition;
}

static bool stops(const struct engine *e) {
    return e->run->base.stop || e->fatal || sim_failed(e->run->base.world);
}

/* Not stream_wait_durable: whoever waits there has to be gone before the stream is closed. */
static bool wait_durable(struct part *p, uint64_t end) {
    while (stream_durable_end(p->stream) < end && !stops(p->engine)) fiber_sleep_ns(5 * NS_PER_MS);
    return stream_durable_end(p->stream) >= end;
}

static bool append(struct part *p, size_t size) {
    struct engine *e = p->engine;
    struct streams_run *r = e->run;
    if (stops(e)) return false;
    enum err err = stream_reserve(p->stream, size + 200);
    EXPECT(e, err == OK || err == ERR_CLOSED, "no room for a record: %s", err_name(err));
    if (err != OK) return false;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    uint64_t offset = stream_appended_end(p->stream);
    o.base_offset = (int64_t)offset;
    struct batch_builder builder;
    struct buf bytes;
    buf_init(&bytes, e->env->mem);
    batch_builder_init(&builder, e->env->mem, &o);
    uint8_t *value = mem_alloc(e->env->mem, size);
    sim_payload_fill(value_of(p->index, offset), value, size);
    batch_builder_add(&builder, 1000, NULL, 0, value, size, NULL, 0);
    err = batch_builder_finish(&builder, &bytes);
    ASSERT(err == OK);
    batch_builder_deinit(&builder);
    mem_free(e->env->mem, value);
    struct stream_record rec = {.type = STREAM_BATCH,
                                .base_offset = offset,
                                .end_offset = offset + 1,
                                .max_timestamp = 1000,
                                .payload = bytes.data,
                                .payload_size = bytes.size,
                                .payload_crc = crc32c(0, bytes.data, bytes.size)};
    if (r->asked[p->index] < offset + 1) r->asked[p->index] = offset + 1;
    stream_append(p->stream, &rec);
    buf_deinit(&bytes);
    if (!wait_durable(p, offset + 1)) return false;
    r->acked[p->index] = offset + 1;
    r->base.acked++;
    return true;
}

static bool trim(struct part *p, uint64_t to) {
    struct streams_run *r = p->engine->run;
    if (to <= stream_durable_start(p->stream) || stream_reserve(p->stream, 0) != OK) return false;
    r->trim_asked[p->index] = to;
    struct stream_record rec = {.type = STREAM_TRIM, .base_offset = to, .end_offset = to};
    stream_append(p->stream, &rec);
    while (stream_durable_start(p->stream) < to && !stops(p->engine)) fiber_sleep_ns(5 * NS_PER_MS);
    if (stream_durable_start(p->stream) < to) return false;
    r->trim_acked[p->index] = to;
    return true;
}

static void check_batch(struct part *p, const struct batch_header *h, uint64_t offset) {
    struct engine *e = p->engine;
    struct batch_iterator it;
    struct batch_record rec;
    bool same = (uint64_t)h->base_offset == offset && batch_iterator_init(&it, e->env->mem, h, 1u << 24) == OK;
    EXPECT(e, same, "partition %u: no batch of its own lies at %lu", p->index, offset);
    if (!same) return;
    same = batch_iterator_next(&it, &rec) == OK &&
           sim_payload_is(value_of(p->index, offset), rec.value, (size_t)rec.value_size);
    EXPECT(e, same, "partition %u: other bytes lie at %lu", p->index, offset);
    batch_iterator_deinit(&it);
}

/* Reads it all. A failed request may end it, unless nothing is broken. */
static void read_all(struct part *p) {
    struct engine *e = p->engine;
    uint64_t offset = stream_durable_start(p->stream), end = stream_durable_end(p->stream);
    enum err err = OK;
    for (unsigned tries = 0; offset < end && tries < 100 && !stops(e);) {
        struct slices got;
        slices_init(&got, e->env->mem);
        err = stream_read(p->stream, offset, end, 30000, true, false, UINT64_MAX, &got);
        EXPECT(e, err == OK || !e->run->must, "partition %u: %lu cannot be read: %s", p->index, offset, err_name(err));
        EXPECT(e, err != ERR_CORRUPT && err != ERR_TRUNCATED && err != ERR_NOT_FOUND && err != ERR_OFFSET_OUT_OF_RANGE,
               "partition %u: reading %lu: %s", p->index, offset, err_name(err));
        if (err != OK) tries++;
        for (size_t i = 0; i < got.count; i++) {
            struct batch_header h;
            for (size_t at = 0; at < got.items[i].size; at += h.size) {
                enum err parsed = batch_parse(got.items[i].data + at, got.items[i].size - at, &h);
                EXPECT(e, parsed == OK, "partition %u: what was read at %lu is no batch", p->index, offset);
                if (parsed != OK) break;
                check_batch(p, &h, offset++);
            }
        }
        EXPECT(e, err != OK || got.count > 0, "partition %u: nothing is read at %lu", p->index, offset);
        slices_deinit(&got);
        if (sim_failed(e->run->base.world)) return;
    }
}

/* Small ones, then enough to have an upload, then what waits at the stop. */
static void appender(void *arg) {
    struct part *p = arg;
    struct engine *e = p->engine;
    bool ok = true;
    for (unsigned i = 0; i < 3 && ok; i++) ok = append(p, 100);
    for (unsigned i = 0; i < 5 && ok; i++) ok = append(p, 9000);
    if (ok && !stops(e)) fiber_sleep_ns(NS_PER_S);
    if (ok) (void)trim(p, stream_durable_end(p->stream) - 3);
    if (ok) read_all(p);
    for (unsigned i = 0; i < 3 && ok; i++) ok = append(p, 500);
    p->over = true;
    waitgroup_done(&e->group);
}

static bool part_open(struct engine *e, unsigned i) {
    const struct meta_topic *t = meta_topic_by_name(e->meta, TOPIC, strlen(TOPIC));
    struct part *p = &e->parts[i];
    struct streams_run *r = e->run;
    *p = (struct part){.engine = e, .index = i};
    enum err err =
        stream_open(e->streams, t->partitions[i].stream, t->partitions[i].epoch, nothing, NULL, &p->live, &p->stream);
    EXPECT(e, err == OK, "partition %u cannot be opened: %s", i, err_name(err));
    if (err != OK) return false;
    uint64_t end = stream_durable_end(p->stream), start = stream_durable_start(p->stream);
    EXPECT(e, end >= r->acked[i] && end <= r->asked[i], "partition %u ends at %lu; %lu was acknowledged, %lu asked for",
           i, end, r->acked[i], r->asked[i]);
    EXPECT(e, start >= r->trim_acked[i] && start <= r->trim_asked[i],
           "partition %u begins at %lu; %lu was acknowledged, %lu asked for", i, start, r->trim_acked[i],
           r->trim_asked[i]);
    r->asked[i] = r->acked[i] = end;
    r->trim_acked[i] = start;
    if (i == 1) stream_set_durability(p->stream, STREAM_DURABILITY_OBJECT);
    return true;
}

static void engine_close(struct engine *e) {
    for (unsigned i = 0; i < PARTITIONS; i++) {
        if (!e->parts[i].stream) continue;
        stream_close(e->parts[i].stream);
        state_deinit(&e->parts[i].live);
    }
    if (e->streams) streams_close(e->streams);
    if (e->meta) meta_close(e->meta);
    store_close(e->store);
}

/* A topic with records in it is made and deleted. */
static void doomed_topic(struct engine *e) {
    struct uuid id;
    struct part p = {.engine = e, .index = PARTITIONS};
    if (stops(e) || meta_topic_create(e->meta, "doomed", 1, 1, NULL, 0, &id) != OK) return;
    e->run->doomed_made = true;
    const struct meta_topic *t = meta_topic_by_id(e->meta, &id);
    struct stream_id stream = t->partitions[0].stream;
    if (stream_open(e->streams, stream, 0, nothing, NULL, &p.live, &p.stream) != OK) return;
    (void)append(&p, 2000);
    if (meta_topic_delete(e->meta, &id) == OK) {
        e->run->doomed_gone = true;
        stream_close(p.stream);
        streams_drop(e->streams, stream);
    } else {
        stream_close(p.stream);
    }
    state_deinit(&p.live);
}

static bool topic_there(struct engine *e) {
    struct uuid id;
    if (meta_topic_by_name(e->meta, TOPIC, strlen(TOPIC))) return true;
    enum err err = meta_topic_create(e->meta, TOPIC, PARTITIONS, 1, NULL, 0, &id);
    return !start_failed(e, "topic", err, "the topic cannot be made");
}

/* Whoever waits for a dead store has to be told. */
static void stopper(void *arg) {
    struct engine *e = arg;
    while (!e->run->base.stop && !e->over) fiber_sleep_ns(100 * NS_PER_MS);
    streams_stopping(e->streams);
    meta_stopping(e->meta);
    waitgroup_done(&e->stopping);
}

static void life(struct streams_run *r) {
    struct engine e = {.run = r};
    waitgroup_init(&e.group);
    waitgroup_init(&e.stopping);
    if (engine_open(&e)) {
        waitgroup_add(&e.stopping);
        fiber_spawn(e.loop, "stopper", stopper, &e);
        bool ok = topic_there(&e);
        for (unsigned i = 0; i < PARTITIONS && ok; i++) ok = part_open(&e, i);
        for (unsigned i = 0; i < PARTITIONS && ok; i++) {
            waitgroup_add(&e.group);
            fiber_spawn(e.loop, "appender", appender, &e.parts[i]);
        }
        waitgroup_wait(&e.group);
        struct incarnation oldest;
        if (ok) doomed_topic(&e);
        enum err err = ok ? streams_sweep(e.streams, &oldest) : ERR_CLOSED;
        if (err == OK) err = meta_forget_retired(e.meta, oldest);
        EXPECT(&e, err == OK || !r->must, "old objects cannot be swept: %s", err_name(err));
        e.over = true;
        waitgroup_wait(&e.stopping);
    }
    engine_close(&e);
}

static void prepare(void *arg) {
    struct streams_run *r = arg;
    r->must = true;
    life(r);
    r->must = false;
    r->base.acked = 0;
    sim_node_crash(r->base.node, SIM_KILL); /* with nothing left to recover but the registration */
    fiber_sleep_ns(NS_PER_S);
}

static void crash_with_data(void *arg) {
    struct streams_run *r = arg;
    struct engine e = {.run = r};
    r->must = true;
    waitgroup_init(&e.group);
    if (engine_open(&e) && topic_there(&e)) {
        for (unsigned i = 0; i < PARTITIONS; i++) (void)part_open(&e, i);
        for (unsigned i = 0; i < 6; i++) (void)append(&e.parts[i % PARTITIONS], 700);
    }
    r->must = false;
    r->base.acked = 0;
    sim_node_crash(r->base.node, SIM_KILL);
    fiber_sleep_ns(NS_PER_S);
}
static void crash_with_data_no_wal(void *arg) {
    ((struct streams_run *)arg)->no_wal = true;
    crash_with_data(arg);
}

static void work(void *arg) {
    life(arg);
}
static void work_no_wal(void *arg) {
    ((struct streams_run *)arg)->no_wal = true;
    life(arg);
}

static void check(void *arg) {
    struct streams_run *r = arg;
    struct engine e = {.run = r};
    r->base.stop = false;
    r->must = true;
    waitgroup_init(&e.group);
    if (engine_open(&e) && topic_there(&e)) {
        bool ok = true;
        for (unsigned i = 0; i < PARTITIONS && ok; i++) ok = part_open(&e, i);
        for (unsigned i = 0; i < PARTITIONS && ok; i++) read_all(&e.parts[i]);
        for (unsigned i = 0; i < PARTITIONS && ok; i++) EXPECT(&e, append(&e.parts[i], 50), "an append fails");
        if (r->doomed_gone) EXPECT(&e, !meta_topic_by_name(e.meta, "doomed", 6), "a deleted topic is there");
    }
    engine_close(&e);
}

/* --- */

#define PIECE(title, swept, before, does, each)                                                                        \
    {                                                                                                                  \
        .name = title, .size = sizeof(struct streams_run), .classes = swept, .prepare = before, .work = does,          \
        .check = check, .step = each                                                                                   \
    }

static void a_first_life(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("streams-new", SIM_SWEEP_IO, NULL, work, 3);
    sweep_every_kind(&p);
}
static void a_life_after_a_crash(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("streams", SIM_SWEEP_IO, crash_with_data, work, 1);
    sweep_every_kind(&p);
}
static void a_life_without_a_wal(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("streams-no-wal", SIM_SWEEP_IO, crash_with_data_no_wal, work_no_wal, 1);
    sweep_every_kind(&p);
}
/* The disk alone dies; the store goes on. */
static void a_dead_disk(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("streams-disk", SIM_SWEEP_FILES, prepare, work, 1);
    (void)sweep_all(&p, SIM_SWEEP_REFUSED, true);
    (void)sweep_all(&p, SIM_SWEEP_LOST, true);
    (void)sweep_all(&p, SIM_SWEEP_FULL, true);
}

/* Memory that is at an end ends the process (base/mem.h): as good as a crash right before any allocation. */
static void the_end_of_memory(void **state) {
    (void)state;
    static const struct sweep_piece p = {
        "streams-memory", sizeof(struct streams_run), SIM_SWEEP_MEMORY, crash_with_data, work, check, NULL, 7};
    static const struct sweep_piece no_wal = {"streams-memory-no-wal",
                                              sizeof(struct streams_run),
                                              SIM_SWEEP_MEMORY,
                                              crash_with_data_no_wal,
                                              work_no_wal,
                                              check,
                                              NULL,
                                              11};
    assert_true(sweep_all(&p, SIM_SWEEP_KILL, false) > 100);
    assert_true(sweep_all(&p, SIM_SWEEP_POWER, false) > 100);
    assert_true(sweep_all(&no_wal, SIM_SWEEP_KILL, false) > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_first_life), cmocka_unit_test(a_life_after_a_crash), cmocka_unit_test(a_life_without_a_wal),
        cmocka_unit_test(a_dead_disk),  cmocka_unit_test(the_end_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
