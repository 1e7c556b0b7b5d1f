#include "unit/stream/engine.h"

#include <string.h>

#include "base/crc32c.h"
#include "kafka/batch.h"

void engine_on_fatal(void *ctx, enum err why, const char *what) {
    struct engine *e = ctx;
    print_message("fatal: %s: %s\n", err_name(why), what);
    e->fatal = true;
}

void engine_on_durable(void *ctx) {
    struct engine *e = ctx;
    e->told++;
}

bool engine_is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    struct cluster *c = ctx;
    *epoch = c->epoch;
    return id.v <= STREAMS;
}

void engine_options(struct engine *e) {
    e->options = (struct streams_options){.wal_path = "/var/wal/broker.wal",
                                          .wal_size_bytes = 17u << 20,
                                          .cache_log_bytes = 64u << 20,
                                          .cache_block_bytes = 16u << 20,
                                          .upload_bytes = 1u << 20,
                                          .upload_interval_ms = 1000,
                                          .checkpoint_entries = 8,
                                          .producer_expiration_ms = 86400000};
}

void engine_start(struct engine *e, struct cluster *c) {
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
    o->fatal = engine_on_fatal;
    o->ctx = e;
    const char *why = NULL;
    assert_int_equal(streams_open(o, &e->streams, &why), OK);
    if (c->owner) {
        uint64_t entry;
        assert_int_equal(
            streams_recover(e->streams, (struct incarnation){c->owner}, engine_is_current, c, &entry, &why), OK);
        c->epoch++;
    }
    c->owner = c->incarnation;
    assert_int_equal(streams_start(e->streams, &why), OK);
    for (uint64_t id = 1; id <= STREAMS; id++) {
        assert_int_equal(
            stream_open(e->streams, (struct stream_id){id}, c->epoch, engine_on_durable, e, &e->live[id], &e->open[id]),
            OK);
    }
}

void engine_stop(struct engine *e) {
    for (uint64_t id = 1; id <= STREAMS; id++) {
        if (e->open[id]) stream_close(e->open[id]);
        state_deinit(&e->live[id]);
        e->open[id] = NULL;
    }
    streams_close(e->streams);
    store_close(e->store);
}

uint64_t engine_append_begin(struct engine *e, uint64_t id, size_t size) {
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

void engine_append(struct engine *e, uint64_t id, size_t size) {
    uint64_t end_offset = engine_append_begin(e, id, size);
    assert_int_equal(stream_wait_durable(e->open[id], end_offset), OK);
}

void engine_trim(struct engine *e, uint64_t id, uint64_t to) {
    assert_int_equal(stream_reserve(e->open[id], 0), OK);
    struct stream_record r = {.type = STREAM_TRIM, .base_offset = to, .end_offset = to};
    stream_append(e->open[id], &r);
    while (stream_durable_start(e->open[id]) < to) fiber_sleep_ns(NS_PER_MS);
}

uint64_t engine_read_some(struct engine *e, uint64_t id, uint64_t offset, size_t max_bytes) {
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

void engine_read_all(struct engine *e, uint64_t id, uint64_t from) {
    while (from < stream_durable_end(e->open[id])) from = engine_read_some(e, id, from, 300000);
}

size_t engine_objects(struct engine *e, const char *prefix) {
    const struct sim_bucket *b = e->node->world->bucket;
    size_t n = 0;
    for (size_t i = sim_bucket_from(b, prefix);
         i < b->count && strncmp(b->objects[i]->key, prefix, strlen(prefix)) == 0; i++)
        n++;
    return n;
}

struct test engine_test_begin(void) {
    struct test t = {.world = test_world(3)};
    t.node = sim_node_create(t.world, "broker");
    return t;
}

/* --- */
