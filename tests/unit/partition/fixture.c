#include "unit/partition/fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"

static struct fixture *of_env(struct env *e) {
    return (struct fixture *)(void *)e;
}
static uint64_t now_ns(struct env *e) {
    return of_env(e)->now_ns;
}
static int64_t wall_ms(struct env *e) {
    return of_env(e)->wall_ms;
}
static void random_bytes(struct env *e, void *out, size_t n) {
    rng_fill(&of_env(e)->rng, out, n);
}
static void wake(struct loop *l) {
    (void)l;
}
static void offload(struct env *e, fiber_fn *fn, void *arg) {
    struct fixture *f = of_env(e);
    f->offloads++;
    if (f->hold_offloads) {
        waitq_wait(&f->held);
    } else {
        fiber_yield();
    }
    fn(arg);
}
static const struct env_ops ops = {
    .now_ns = now_ns, .wall_ms = wall_ms, .random = random_bytes, .loop_wake = wake, .offload = offload};

static int64_t log_wall(void *ctx) {
    (void)ctx;
    return 0;
}
static void log_drop(void *ctx, const char *line, size_t size) {
    (void)ctx;
    (void)line;
    (void)size;
}

void fixture_init(struct fixture *f) {
    memset(f, 0, sizeof(*f));
    mem_init_heap(&f->mem);
    f->metrics = MEM_NEW(&f->mem, struct metrics);
    f->log = (struct logger){.level = LOG_DEBUG, .wall_ms = log_wall, .sink = log_drop};
    f->env = (struct env){.magic = ENV_MAGIC, .ops = &ops, .mem = &f->mem, .log = &f->log, .metrics = f->metrics};
    f->now_ns = 1000;
    f->wall_ms = NOW_MS;
    f->expiration_ms = DAY_MS;
    f->leader_epoch = 3;
    rng_seed(&f->rng, 1);
    loop_init(&f->loop, &f->env, "test", 0);
    loop_set_current(&f->loop);
    waitq_init(&f->held);
    fake_streams_init(&f->streams, &f->mem);
    topic_config_init(&f->config);
    fixture_open(f);
}

void fixture_settle(struct fixture *f) {
    while (loop_step(&f->loop, f->now_ns)) {
    }
}

static void jobs_drop(struct fixture *f) {
    for (size_t i = 0; i < f->job_count; i++) {
        assert_true(f->jobs[i].done);
        mem_free(&f->mem, f->jobs[i].records);
    }
    f->job_count = 0;
}

void fixture_deinit(struct fixture *f) {
    fixture_close(f);
    fake_streams_deinit(&f->streams);
    loop_set_current(NULL);
    loop_deinit(&f->loop);
    metrics_deinit(f->metrics, &f->mem);
    mem_free(&f->mem, f->metrics);
    assert_int_equal(f->mem.allocated_bytes, 0);
}

void fixture_set(struct fixture *f, const char *name, const char *value) {
    char why[TOPIC_CONFIG_WHY_SIZE];
    assert_int_equal(topic_config_set(&f->config, name, value, why, sizeof(why)), OK);
    if (f->p) partition_configure(f->p, &f->config);
}

static void open_fiber(void *arg) {
    struct fixture *f = arg;
    conversions_init(&f->conversions, &f->env, (uint64_t)256 << 20);
    struct partition_options o = {.streams = &f->streams,
                                  .env = &f->env,
                                  .stream = {7},
                                  .leader_epoch = f->leader_epoch,
                                  .config = &f->config,
                                  .topic = "t",
                                  .index = 0,
                                  .producer_id_expiration_ms = f->expiration_ms,
                                  .conversions = &f->conversions};
    assert_int_equal(partition_open(&o, &f->p), OK);
}

void fixture_open(struct fixture *f) {
    fiber_spawn(&f->loop, "open", open_fiber, f);
    fixture_settle(f);
    assert_non_null(f->p);
}

static void close_fiber(void *arg) {
    struct fixture *f = arg;
    partition_close(f->p);
    f->p = NULL;
}

static void close_partition(struct fixture *f) {
    fiber_spawn(&f->loop, "close", close_fiber, f);
    fixture_settle(f);
    assert_null(f->p);
    jobs_drop(f);
}

void fixture_close(struct fixture *f) {
    fake_durable(&f->streams, SIZE_MAX);
    close_partition(f);
}

void fixture_restart(struct fixture *f) {
    fake_fence(&f->streams);
    close_partition(f);
    fake_crash(&f->streams);
    f->leader_epoch++;
    fixture_open(f);
}

void fixture_release(struct fixture *f) {
    f->hold_offloads = false;
    waitq_wake_all(&f->held);
    fixture_settle(f);
}

static struct job *job_new(struct fixture *f) {
    assert_true(f->job_count < FIXTURE_JOBS);
    struct job *j = &f->jobs[f->job_count++];
    *j = (struct job){.f = f};
    return j;
}

uint8_t *fixture_batch(struct fixture *f, const struct batch_spec *s, size_t *size) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = s->codec;
    o.attributes = s->attributes;
    if (s->producer_id) {
        o.producer_id = s->producer_id;
        o.producer_epoch = s->epoch;
        o.base_sequence = s->sequence;
    }
    struct batch_builder b;
    batch_builder_init(&b, &f->mem, &o);
    size_t value_size = s->value_size ? s->value_size : 10;
    uint8_t *value = mem_alloc(&f->mem, value_size);
    memset(value, 'v', value_size);
    for (int i = 0; i < (s->count ? s->count : 1); i++) {
        int64_t timestamp = (s->timestamp ? s->timestamp : NOW_MS) + i * s->timestamp_step;
        batch_builder_add(&b, timestamp, s->no_key ? NULL : "key", s->no_key ? 0 : 3, value, value_size, NULL, 0);
    }
    struct buf out;
    buf_init(&out, &f->mem);
    assert_int_equal(batch_builder_finish(&b, &out), OK);
    batch_builder_deinit(&b);
    mem_free(&f->mem, value);
    *size = out.size;
    /* An allocation of just that size, so that the sanitizer sees every read behind the end. */
    uint8_t *exact = mem_alloc(&f->mem, out.size);
    memcpy(exact, out.data, out.size);
    buf_deinit(&out);
    return exact;
}

void fixture_reseal(uint8_t *batch, size_t size) {
    be32_put(batch + 17, crc32c(0, batch + 21, size - 21));
}

static void append_fiber(void *arg) {
    struct job *j = arg;
    j->result = partition_append(j->f->p, j->records, j->size, j->version, &j->append);
    j->done = true;
}

struct job *fixture_append_bytes(struct fixture *f, const void *data, size_t size, int16_t version) {
    struct job *j = job_new(f);
    j->records = mem_alloc(&f->mem, size);
    memcpy(j->records, data, size);
    j->size = size;
    j->version = version;
    fiber_spawn(&f->loop, "append", append_fiber, j);
    fixture_settle(f);
    return j;
}

struct job *fixture_append(struct fixture *f, const struct batch_spec *s) {
    size_t size;
    uint8_t *data = fixture_batch(f, s, &size);
    struct job *j = fixture_append_bytes(f, data, size, 9);
    mem_free(&f->mem, data);
    return j;
}

static void wait_fiber(void *arg) {
    struct job *j = arg;
    j->result = partition_wait(j->f->p, j->end_offset);
    j->done = true;
}

struct job *fixture_wait(struct fixture *f, uint64_t end_offset) {
    struct job *j = job_new(f);
    j->end_offset = end_offset;
    fiber_spawn(&f->loop, "wait", wait_fiber, j);
    fixture_settle(f);
    return j;
}

static void list_fiber(void *arg) {
    struct job *j = arg;
    j->result =
        partition_list_offset(j->f->p, j->timestamp, j->epoch, &j->offset, &j->found_timestamp, &j->found_epoch);
    j->done = true;
}

struct job *fixture_list(struct fixture *f, int64_t timestamp) {
    struct job *j = job_new(f);
    j->timestamp = timestamp;
    j->epoch = -1;
    fiber_spawn(&f->loop, "list", list_fiber, j);
    fixture_settle(f);
    return j;
}

static void read_fiber(void *arg) {
    struct job *j = arg;
    j->result = partition_read(j->f->p, &j->fetch, &j->fetched, j->slices);
    j->done = true;
}

struct job *fixture_read(struct fixture *f, const struct partition_fetch *fetch, struct slices *out) {
    struct job *j = job_new(f);
    j->fetch = *fetch;
    j->slices = out;
    fiber_spawn(&f->loop, "read", read_fiber, j);
    fixture_settle(f);
    return j;
}

static void retain_fiber(void *arg) {
    struct job *j = arg;
    partition_retain(j->f->p, j->f->wall_ms);
    j->done = true;
}

void fixture_retain(struct fixture *f) {
    struct job *j = job_new(f);
    fiber_spawn(&f->loop, "retain", retain_fiber, j);
    fixture_settle(f);
}

void check_append(struct fixture *f, const struct batch_spec *s, enum err expected, int64_t base_offset,
                  const char *file, int line) {
    struct job *j = fixture_append(f, s);
    if (!j->done || j->result != expected) {
        fail_msg("%s:%d: %s, expected %s: %s", file, line, j->done ? err_name(j->result) : "not done",
                 err_name(expected), j->append.message ? j->append.message : "");
    }
    if (expected == OK) _assert_int_equal(j->append.base_offset, (uint64_t)base_offset, file, line);
}

void check_offset(struct fixture *f, int64_t timestamp, int64_t offset, int64_t found_timestamp, const char *file,
                  int line) {
    struct job *j = fixture_list(f, timestamp);
    if (!j->done || j->result != OK || j->offset != offset || j->found_timestamp != found_timestamp) {
        fail_msg("%s:%d: %s, offset %ld timestamp %ld", file, line, err_name(j->result), j->offset, j->found_timestamp);
    }
}
