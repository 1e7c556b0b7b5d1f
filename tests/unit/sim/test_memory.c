/* An hour of load on a whole broker whose budgets of memory are small, by the simulator's own count of its memory: bursts of
 * producers with large and with tiny batches, readers at the tail and of old data, clients whose short questions have answers of
 * a hundred megabytes, and clients that hold what they can: who sends half of a large request, who asks for much and reads nothing. Meanwhile one client wants to be served, and is.
 *
 * Besides: what an open partition takes, as the budget of partitions reckons with it; and hundreds of fetches that wait, and
 * wake at once for a batch that is larger than what is granted without waiting.
 *
 * What must hold: each budget stays within its limit (base/memory_table.h), the whole within their sum, and what nothing
 * counts is little; a tenth more is allowed. Sizes are the small ones. The network copies what is sent, so that nothing of the
 * log cache is lent here: test_streams.c has that. */
#include "sim_test.h"

#include <stdio.h>
#include <stdlib.h>

#include "broker/broker.h"
#include "broker/memory.h"
#include "kafka/batch.h"
#include "kafka/error.h"
#include "partition/partition.h"
#include "sim/broker_node.h"
#include "sim/client.h"
#include "sim/net.h"
#include "sim/run.h"

#define PARTITIONS 3
#define MINUTES 60u
#define LARGE_VALUE 100000u
#define TINY_VALUE 60u
#define PATIENCE_NS (60 * NS_PER_S)
#define HELD 24u   /* connections of one client that holds what it can */
#define ASKED 2000 /* configurations at once */
#define MIB ((int64_t)1 << 20)
#define GRAIN (MIB / 4) /* of one budget: a block for each of the answers that were begun before it was used up */

struct hour {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_node *node;
    char host[64];
    bool serves, over, stop;
    bool large; /* messages may be of a megabyte */
    unsigned clients;
    uint64_t log_start[PARTITIONS], tail[PARTITIONS];
    int64_t limits[MEMORY_BUDGETS], peaks[MEMORY_BUDGETS];
    int64_t made_peak;
    int32_t node_id;
    uint64_t idle_bytes, other_peak, served, closed, asked;
};

struct hour_client {
    struct hour *hour;
    unsigned number;
};

/* --- The broker. */

static void on_fatal(void *ctx, enum err why, const char *what) {
    struct hour *h = ctx;
    sim_fail(h->world, "the broker gave up: %s (%s)", what, err_name(why));
}

static void broker_main(void *arg) {
    static const char *const settings[][2] = {
        {"wal.url", "file:///var/wal?size=16MiB"},
        {"shards", "1"},
        {"cache.log.bytes", "8MiB"},
        {"cache.block.bytes", "2MiB"},
        {"read.ahead.bytes", "1MiB"},
        {"queued.max.request.bytes", "4MiB"},
        {"queued.max.response.bytes", "8MiB"},
        {"socket.request.max.bytes", "262144"},
        {"message.max.bytes", "200000"},
        {"upload.bytes", "256KiB"},
        {"upload.interval.ms", "5000"},
        {"log.segment.bytes", "262144"},
        {"log.retention.bytes", "4194304"},
        {"log.retention.check.interval.ms", "10000"},
        {"log.cleaner.enable", "false"},
        {"state.bytes", "16MiB"},
        {"offsets.topic.num.partitions", "1"},
        {"num.partitions", "3"},
        {"log.message.timestamp.after.max.ms", "9223372036854775807"},
    };
    struct hour *h = arg;
    struct env *env = loop_current()->env;
    struct config config;
    char why_text[512];
    const char *why = NULL;
    config_init_defaults(&config, env->mem);
    sim_broker_listen(&config, sim_node_of(env));
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) sim_broker_set(&config, settings[i][0], settings[i][1]);
    if (h->large) sim_broker_set(&config, "message.max.bytes", "2000000");
    if (h->large) sim_broker_set(&config, "socket.request.max.bytes", "3000000");
    if (h->large) sim_broker_set(&config, "log.segment.bytes", "4000000");
    struct store *store = sim_run_store(h->run, env, true);
    struct broker_options o = sim_broker_options(store, &config, why_text, sizeof(why_text), on_fatal, h);
    struct broker *broker = NULL;
    enum err e = broker_start(&o, &broker, &why);
    if (e != OK) sim_fail(h->world, "the broker does not start: %s (%s)", why, err_name(e));
    if (e == OK) {
        (void)memory_limits(&config, 1, h->limits);
        h->node_id = config.node_id;
        h->serves = true;
        while (!h->stop && !sim_failed(h->world)) fiber_sleep_ns(200 * NS_PER_MS);
        broker_stop(broker);
    }
    store_close(store);
    config_deinit(&config);
}

/* --- Clients. */

static bool goes_on(const struct hour *h) {
    return !h->over && !sim_failed(h->world);
}

static void put_batch(struct hour *h, struct env *env, size_t value_size, struct buf *out) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    struct batch_builder b;
    uint8_t *value = mem_alloc(env->mem, value_size);
    sim_payload_fill(h->run->ops++, value, value_size);
    batch_builder_init(&b, env->mem, &o);
    batch_builder_add(&b, env_wall_ms(env), NULL, 0, value, value_size, NULL, 0);
    enum err e = batch_builder_finish(&b, out);
    ASSERT(e == OK);
    batch_builder_deinit(&b);
    mem_free(env->mem, value);
}

static enum err produce_send_to(struct hour *h, struct sim_client *c, int32_t index, size_t value_size) {
    struct kafka_produce_request q;
    struct kafka_produce_request_topic topic;
    struct kafka_produce_request_partition part = {.index = index};
    struct buf batch;
    buf_init(&batch, c->env->mem);
    put_batch(h, c->env, value_size, &batch);
    part.records.data = batch.data;
    part.records.size = (int32_t)batch.size;
    kafka_produce_request_init(&q);
    kafka_produce_request_topic_init(&topic);
    q.transactional_id = (struct kafka_string){NULL, -1};
    q.acks = -1;
    q.timeout_ms = 50000;
    q.topic_data.items = &topic;
    q.topic_data.count = 1;
    topic.name = kafka_string_of("t");
    topic.partition_data.items = &part;
    topic.partition_data.count = 1;
    enum err e = sim_client_send(c, KAFKA_API_PRODUCE, 8, &q);
    buf_deinit(&batch);
    return e;
}

static enum err produce_send(struct hour *h, struct sim_client *c, size_t value_size) {
    return produce_send_to(h, c, (int32_t)sim_between(h->world, 0, PARTITIONS - 1), value_size);
}

static enum err produce_receive(struct hour *h, struct sim_client *c) {
    struct arena a;
    struct kafka_produce_response r;
    arena_init(&a, c->env->mem);
    enum err e = sim_client_receive(c, KAFKA_API_PRODUCE, 8, PATIENCE_NS, &a, &r);
    if (e == OK && r.responses.items[0].partition_responses.items[0].error_code != KAFKA_NONE)
        sim_fail(h->world, "a produce request is refused: %s",
                 kafka_error_name(r.responses.items[0].partition_responses.items[0].error_code));
    if (e == OK) h->run->acked++;
    arena_deinit(&a);
    return e;
}

static void client_ends(struct hour_client *x) {
    x->hour->clients--;
}

/* Bursts as fast as they are acknowledged, eight requests under way; and rests. */
static void hasty_main(void *arg) {
    struct hour_client *x = arg;
    struct hour *h = x->hour;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    bool tiny = x->number % 2 == 1;
    while (goes_on(h)) {
        enum err e = sim_client_open(&c, h->host, SIM_BROKER_PORT);
        unsigned left = tiny ? 300 : 100, under_way = 0;
        while (e == OK && goes_on(h) && (left > 0 || under_way > 0)) {
            if (left > 0 && under_way < 8) {
                e = produce_send(h, &c, tiny ? TINY_VALUE : LARGE_VALUE);
                left--;
                under_way++;
            } else {
                e = produce_receive(h, &c);
                under_way--;
            }
        }
        if (e != OK && goes_on(h)) h->closed++;
        sim_client_close(&c);
        fiber_sleep_ns(sim_between(h->world, 20, 150) * NS_PER_S);
    }
    sim_client_deinit(&c);
    client_ends(x);
}

static void fetch_request(struct kafka_fetch_request *q, struct kafka_fetch_request_topic *topic,
                          struct kafka_fetch_request_partition *part, int32_t index, uint64_t offset, int32_t bytes) {
    kafka_fetch_request_init(q);
    kafka_fetch_request_topic_init(topic);
    kafka_fetch_request_partition_init(part);
    q->replica_id = -1;
    q->max_wait_ms = 1000;
    q->min_bytes = 1;
    q->max_bytes = bytes;
    q->session_epoch = -1;
    q->topics.items = topic;
    q->topics.count = 1;
    topic->topic = kafka_string_of("t");
    topic->partitions.items = part;
    topic->partitions.count = 1;
    part->partition = index;
    part->fetch_offset = (int64_t)offset;
    part->partition_max_bytes = bytes;
}

/* Where the partition begins. */
static void ask_start(struct hour *h, struct sim_client *c, int32_t index) {
    struct kafka_list_offsets_request q;
    struct kafka_list_offsets_request_topic topic;
    struct kafka_list_offsets_request_partition part;
    struct kafka_list_offsets_response r;
    struct arena a;
    kafka_list_offsets_request_init(&q);
    kafka_list_offsets_request_topic_init(&topic);
    kafka_list_offsets_request_partition_init(&part);
    q.replica_id = -1;
    q.topics.items = &topic;
    q.topics.count = 1;
    topic.name = kafka_string_of("t");
    topic.partitions.items = &part;
    topic.partitions.count = 1;
    part.partition_index = index;
    part.timestamp = -2;
    arena_init(&a, c->env->mem);
    if (sim_client_call(c, KAFKA_API_LIST_OFFSETS, 1, &q, PATIENCE_NS, &a, &r) == OK &&
        r.topics.items[0].partitions.items[0].offset >= 0)
        h->log_start[index] = (uint64_t)r.topics.items[0].partitions.items[0].offset;
    arena_deinit(&a);
}

/* Reads once and goes on behind it. *at_end: there was nothing more. */
static enum err fetch_once(struct hour *h, struct sim_client *c, int32_t index, uint64_t *offset, bool *at_end) {
    struct kafka_fetch_request q;
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request_partition part;
    struct kafka_fetch_response r;
    struct arena a;
    fetch_request(&q, &topic, &part, index, *offset, (int32_t)(2 * MIB));
    arena_init(&a, c->env->mem);
    enum err e = sim_client_call(c, KAFKA_API_FETCH, 11, &q, PATIENCE_NS, &a, &r);
    if (e == OK && r.responses.count == 1) {
        const struct kafka_fetch_response_partition *p = &r.responses.items[0].partitions.items[0];
        h->log_start[index] = p->log_start_offset > 0 ? (uint64_t)p->log_start_offset : h->log_start[index];
        if (p->error_code == KAFKA_OFFSET_OUT_OF_RANGE) {
            ask_start(h, c, index);
            *offset = h->log_start[index];
            fiber_sleep_ns(NS_PER_S);
        }
        struct batch_header b;
        for (int32_t at = 0; at < p->records.size; at += (int32_t)b.size) {
            if (batch_parse_unchecked(p->records.data + at, (size_t)(p->records.size - at), &b) != OK) break;
            *offset = (uint64_t)batch_end_offset(&b);
        }
        if (*offset > h->tail[index]) h->tail[index] = *offset;
        *at_end = p->error_code == KAFKA_NONE && (int64_t)*offset >= p->high_watermark;
    }
    arena_deinit(&a);
    return e;
}

/* At the tail, or all that is there again and again. */
static void reader_main(void *arg) {
    struct hour_client *x = arg;
    struct hour *h = x->hour;
    struct sim_client c;
    uint64_t offset = 0;
    sim_client_init(&c, loop_current()->env);
    int32_t index = (int32_t)(x->number % PARTITIONS);
    while (goes_on(h)) {
        bool at_end = false;
        if ((!c.conn || c.ended) && sim_client_open(&c, h->host, SIM_BROKER_PORT) != OK) {
            fiber_sleep_ns(NS_PER_S);
            continue;
        }
        if (fetch_once(h, &c, index, &offset, &at_end) != OK) sim_client_close(&c);
        if (!at_end) continue;
        if (x->number >= PARTITIONS) {
            offset = h->log_start[index];
            fiber_sleep_ns(sim_between(h->world, 10, 60) * NS_PER_S);
        } else {
            fiber_sleep_ns(100 * NS_PER_MS);
        }
    }
    sim_client_deinit(&c);
    client_ends(x);
}

/* --- Clients that hold what they can. */

static struct env_bytes mute_room(void *ctx) {
    (void)ctx;
    return (struct env_bytes){NULL, 0};
}
static void mute_received(void *ctx, size_t size) {
    (void)ctx;
    (void)size;
}
static void mute_sent(void *ctx, size_t queued_bytes) {
    (void)ctx;
    (void)queued_bytes;
}
static void mute_closed(void *ctx, enum err why) {
    (void)why;
    (*(uint64_t *)ctx)++;
}
static const struct env_conn_events mute_events = {mute_room, mute_received, mute_sent, mute_closed};

static void send_bytes(struct env *env, struct env_conn *c, const void *data, size_t size) {
    struct slab *slab = slab_create(env->mem, size, 16);
    memcpy(slab->data, data, size);
    struct slice s = slice_of(slab, 0, size);
    slab_unref(slab);
    env_conn_send(env, c, &s, 1);
}

/* The first half of a request as large as may be. */
static void send_half(struct hour *h, struct env *env, struct env_conn *c) {
    uint8_t *bytes = mem_zalloc(env->mem, 130000);
    be32_put(bytes, 260000);
    (void)h;
    send_bytes(env, c, bytes, 130000);
    mem_free(env->mem, bytes);
}

/* Fetches of much, and the list of all topics. */
static void send_questions(struct hour *h, struct env *env, struct env_conn *c) {
    struct kafka_fetch_request q;
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request_partition part;
    for (int32_t i = 0; i < 4; i++) {
        int32_t index = (int32_t)sim_between(h->world, 0, PARTITIONS - 1);
        struct outbuf out;
        struct slices slices;
        uint64_t back = h->tail[index] - h->log_start[index], from = h->log_start[index] + sim_between(h->world, 0, 20);
        if (i % 2 == 0) from = h->tail[index] - sim_between(h->world, 0, back < 20 ? back : 20);
        fetch_request(&q, &topic, &part, index, from, (int32_t)(2 * MIB));
        outbuf_init(&out, env->mem);
        slices_init(&slices, env->mem);
        enum err e = kafka_request_encode(kafka_api_find(KAFKA_API_FETCH), 11, i, kafka_string_of("mute"), &q, &out);
        ASSERT(e == OK);
        outbuf_finish(&out, &slices);
        env_conn_send(env, c, slices.items, slices.count);
        slices.count = 0;
        slices_deinit(&slices);
        outbuf_deinit(&out);
    }
}

static void holder_main(void *arg) {
    struct hour_client *x = arg;
    struct hour *h = x->hour;
    struct env *env = loop_current()->env;
    struct env_conn *held[HELD];
    while (goes_on(h)) {
        unsigned count = 0;
        while (count < HELD && env_connect(env, h->host, SIM_BROKER_PORT, &held[count]) == OK) {
            env_conn_start(env, held[count], &mute_events, &h->closed);
            if (x->number % 2 == 0)
                send_half(h, env, held[count]);
            else
                send_questions(h, env, held[count]);
            count++;
        }
        for (unsigned i = 0; i < 40 && goes_on(h); i++) fiber_sleep_ns(NS_PER_S);
        while (count > 0) env_conn_close(env, held[--count], true);
        for (unsigned i = 0; i < 60 && goes_on(h); i++) fiber_sleep_ns(NS_PER_S);
    }
    client_ends(x);
}

/* --- Clients that ask for much more than they say. */

static bool ask_once(struct hour *h, struct sim_client *c) {
    struct kafka_describe_configs_request q;
    struct kafka_describe_configs_response r;
    struct arena a;
    arena_init(&a, c->env->mem);
    kafka_describe_configs_request_init(&q);
    q.resources.items = kafka_describe_configs_request_resource_new(&a, ASKED);
    q.resources.count = ASKED;
    for (int32_t i = 0; i < ASKED; i++) { /* the one broker, each time by another name */
        char *name = arena_alloc(&a, 16);
        for (int32_t k = 0; k < 11; k++) name[k] = (i >> k & 1) ? ' ' : '\t';
        (void)snprintf(name + 11, 5, "%d", h->node_id);
        q.resources.items[i].resource_type = 4;
        q.resources.items[i].resource_name = kafka_string_of(name);
        q.resources.items[i].configuration_keys.count = -1;
    }
    q.include_synonyms = q.include_documentation = true;
    enum err e = sim_client_call(c, KAFKA_API_DESCRIBE_CONFIGS, 4, &q, 3 * PATIENCE_NS, &a, &r);
    int32_t told = 0, refused = 0;
    for (int32_t i = 0; e == OK && i < r.results.count; i++) {
        told += r.results.items[i].error_code == 0 && r.results.items[i].configs.count > 50;
        refused += r.results.items[i].error_code == KAFKA_POLICY_VIOLATION;
    }
    if (e == OK && (told < 20 || told + refused != ASKED))
        sim_fail(h->world, "of %d configurations %d were told, %d refused", ASKED, told, refused);
    h->asked += e == OK;
    arena_deinit(&a);
    return e == OK;
}

/* All at once, every five minutes. */
static void asker_main(void *arg) {
    struct hour_client *x = arg;
    struct hour *h = x->hour;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    while (goes_on(h)) {
        fiber_sleep_ns(NS_PER_S);
        if (h->world->now_ns / NS_PER_S % 300 != 0) continue;
        if ((!c.conn || c.ended) && sim_client_open(&c, h->host, SIM_BROKER_PORT) != OK) continue;
        if (!ask_once(h, &c)) sim_client_close(&c);
    }
    sim_client_deinit(&c);
    client_ends(x);
}

/* --- A client that wants nothing special. */

static void modest_main(void *arg) {
    struct hour_client *x = arg;
    struct hour *h = x->hour;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    while (goes_on(h)) {
        enum err e = !c.conn || c.ended ? sim_client_open(&c, h->host, SIM_BROKER_PORT) : OK;
        uint64_t began_ns = h->world->now_ns;
        if (e == OK) e = produce_send(h, &c, 10);
        if (e == OK) e = produce_receive(h, &c);
        struct arena a;
        arena_init(&a, c.env->mem);
        struct kafka_metadata_request q;
        struct kafka_metadata_response r;
        kafka_metadata_request_init(&q);
        q.topics.count = -1;
        if (e == OK) e = sim_client_call(&c, KAFKA_API_METADATA, 9, &q, PATIENCE_NS, &a, &r);
        arena_deinit(&a);
        if (e != OK && goes_on(h))
            sim_fail(h->world, "a client that wants little is not served within %lu s: %s",
                     (unsigned long)((h->world->now_ns - began_ns) / NS_PER_S), err_name(e));
        h->served++;
        fiber_sleep_ns(2 * NS_PER_S);
    }
    sim_client_deinit(&c);
    client_ends(x);
}

/* --- The hour. */

static void look(struct hour *h) {
    const struct metrics *m = h->node->metrics;
    int64_t counted = 0;
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) {
        int64_t used = memory_used_bytes(m, (enum memory_budget)i);
        if (used > h->peaks[i]) h->peaks[i] = used;
        if (i != MEMORY_ANSWERS) counted += used; /* those lie in the caches */
    }
    int64_t made = atomic_load_explicit(&m->gauges[M_MADE_BYTES], memory_order_relaxed);
    if (made > h->made_peak) h->made_peak = made;
    counted += made;
    uint64_t other = h->node->mem.base.allocated_bytes - (uint64_t)counted;
    if ((int64_t)other > 0 && other > h->other_peak) h->other_peak = other;
}

static void judge(struct hour *h) {
    static const char *const names[] = {
#define MEMORY(id, name, gauge, property, limit, text) name,
#include "base/memory_table.h"
    };
    int64_t sum = 0;
    bool tell = getenv("OXBOW_MEMORY_TELL") != NULL;
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) {
        if (tell) print_message("%-18s peak %9ld of %9ld\n", names[i], h->peaks[i], h->limits[i]);
        if (i == MEMORY_PROCESS) continue;
        /* Compaction's least, and that of what stays, is more than there is of anything here. */
        bool little = i == MEMORY_COMPACTION || i == MEMORY_SESSIONS || i == MEMORY_GROUPS || i == MEMORY_PRODUCERS ||
                      i == MEMORY_PARTITIONS;
        sum += little ? h->peaks[i] : h->limits[i];
        if (h->peaks[i] > h->limits[i] + h->limits[i] / 10 + GRAIN)
            sim_fail(h->world, "%s: %ld bytes were held where %ld are allowed", names[i], h->peaks[i], h->limits[i]);
    }
    uint64_t peak = h->node->mem.peak_bytes;
    if (tell)
        print_message(
            "in all: peak %lu of %ld, idle %lu, not counted at most %lu; made %ld; served %lu, closed %lu, asked %lu, acked %lu, steps %lu\n",
            peak, sum, h->idle_bytes, h->other_peak, h->made_peak, h->served, h->closed, h->asked, h->run->acked,
            h->world->steps);
    if (h->asked < 10) sim_fail(h->world, "only %lu long lists were answered", h->asked);
    if (peak > h->idle_bytes + (uint64_t)(sum + sum / 10))
        sim_fail(h->world, "%lu bytes were held in all where %ld are allowed", peak, sum);
    if (h->other_peak > h->idle_bytes + (uint64_t)(sum / 10))
        sim_fail(h->world, "%lu bytes were held that no budget counts", h->other_peak);
}

static void add_client(struct hour *h, struct hour_client *x, const char *kind, unsigned number, fiber_fn *main) {
    char name[24];
    (void)snprintf(name, sizeof(name), "%s%u", kind, number);
    *x = (struct hour_client){h, number};
    h->clients++;
    sim_node_start(sim_node_create(h->world, name), main, x);
}

/* A broker that serves; large: see broker_main. */
static struct hour *hour_begin(struct sim_run *r, bool large) {
    struct hour *h = mem_zalloc(sim_run_mem(r), sizeof(*h));
    h->run = r;
    h->world = r->world;
    h->large = large;
    r->world->faults_off = true;
    h->node = sim_node_create(r->world, "broker");
    sim_net_address(h->node, h->host, sizeof(h->host));
    sim_node_start(h->node, broker_main, h);
    while (!h->serves && !sim_failed(r->world)) fiber_sleep_ns(100 * NS_PER_MS);
    return h;
}

static void hour_end(struct hour *h) {
    struct sim_run *r = h->run;
    h->stop = true;
    (void)sim_run_wait_down(r, h->node, 600 * NS_PER_S);
    mem_free(sim_run_mem(r), h);
}

static void memory_hour(struct sim_run *r) {
    struct hour *h = hour_begin(r, false);
    struct sim_world *w = r->world;
    struct hour_client clients[16];
    unsigned n = 0;
    fiber_sleep_ns(2 * NS_PER_S);
    h->idle_bytes = h->node->mem.base.allocated_bytes;
    h->node->mem.peak_bytes = h->idle_bytes;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    if (sim_client_open(&c, h->host, SIM_BROKER_PORT) != OK || !sim_broker_make_topic(&c, "t", PARTITIONS))
        sim_fail(w, "the topic cannot be made");
    sim_client_deinit(&c);
    add_client(h, &clients[n++], "modest", 0, modest_main);
    for (unsigned i = 0; i < 4; i++) add_client(h, &clients[n++], "hasty", i, hasty_main);
    for (unsigned i = 0; i < 5; i++) add_client(h, &clients[n++], "reader", i, reader_main);
    for (unsigned i = 0; i < 4; i++) add_client(h, &clients[n++], "asker", i, asker_main);
    for (unsigned i = 0; i < 2; i++) add_client(h, &clients[n++], "holder", i, holder_main);
    uint64_t end_ns = w->now_ns + sim_run_load_ns(r, MINUTES);
    while (w->now_ns < end_ns && !sim_failed(w)) {
        fiber_sleep_ns(50 * NS_PER_MS);
        look(h);
    }
    h->over = true;
    while (h->clients > 0 && !sim_failed(w)) fiber_sleep_ns(NS_PER_S);
    if (!sim_failed(w)) judge(h);
    hour_end(h);
}

/* --- Fetches that wake at once. */

#define SLEEPERS 300u
#define SLEEPERS_MUTE 12u /* more of them who do not take their answers, */
#define SLEEPERS_GONE 20u /* and who go away while they wait for their turn */
#define WOKEN_VALUE 1500000u

static void woken_request(struct kafka_fetch_request *q, struct kafka_fetch_request_topic *topic,
                          struct kafka_fetch_request_partition *part) {
    fetch_request(q, topic, part, 0, 0, (int32_t)(2 * MIB));
    q->max_wait_ms = 50000;
}

/* One fetch, and all of the batch. */
static void sleeper_main(void *arg) {
    struct hour *h = arg;
    struct kafka_fetch_request q;
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request_partition part;
    struct kafka_fetch_response r;
    struct sim_client c;
    struct arena a;
    sim_client_init(&c, loop_current()->env);
    arena_init(&a, c.env->mem);
    woken_request(&q, &topic, &part);
    enum err e = sim_client_open(&c, h->host, SIM_BROKER_PORT);
    if (e == OK) e = sim_client_call(&c, KAFKA_API_FETCH, 11, &q, 3 * PATIENCE_NS, &a, &r);
    bool whole = e == OK && r.responses.count == 1 && r.responses.items[0].partitions.items[0].error_code == 0 &&
                 r.responses.items[0].partitions.items[0].records.size > (int32_t)WOKEN_VALUE;
    if (!whole) sim_fail(h->world, "a fetch that waited has no batch: %s", err_name(e));
    h->served += whole;
    arena_deinit(&a);
    sim_client_deinit(&c);
    h->clients--;
}

static void mute_sleeper(struct hour *h, struct env *env, struct env_conn **c) {
    struct kafka_fetch_request q;
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request_partition part;
    struct outbuf out;
    struct slices slices;
    if (env_connect(env, h->host, SIM_BROKER_PORT, c) != OK) sim_fail(h->world, "no connection");
    env_conn_start(env, *c, &mute_events, &h->closed);
    woken_request(&q, &topic, &part);
    outbuf_init(&out, env->mem);
    slices_init(&slices, env->mem);
    enum err e = kafka_request_encode(kafka_api_find(KAFKA_API_FETCH), 11, 1, kafka_string_of("mute"), &q, &out);
    ASSERT(e == OK);
    outbuf_finish(&out, &slices);
    env_conn_send(env, *c, slices.items, slices.count);
    slices.count = 0;
    slices_deinit(&slices);
    outbuf_deinit(&out);
}

static void sleepers_main(void *arg) {
    struct hour *h = arg;
    struct env *env = loop_current()->env;
    struct env_conn *mute[SLEEPERS_MUTE], *gone[SLEEPERS_GONE];
    for (unsigned i = 0; i < SLEEPERS_MUTE; i++) mute_sleeper(h, env, &mute[i]);
    for (unsigned i = 0; i < SLEEPERS; i++) fiber_spawn(loop_current(), "sleeper", sleeper_main, h);
    for (unsigned i = 0; i < SLEEPERS_GONE; i++) mute_sleeper(h, env, &gone[i]);
    fiber_sleep_ns(8 * NS_PER_S);
    for (unsigned i = 0; i < SLEEPERS_GONE; i++) env_conn_close(env, gone[i], true);
    while (h->clients > 1 && !sim_failed(h->world)) fiber_sleep_ns(NS_PER_S);
    for (unsigned i = 0; i < SLEEPERS_MUTE; i++) env_conn_close(env, mute[i], true);
    h->clients--;
}

static void memory_woken(struct sim_run *r) {
    struct hour *h = hour_begin(r, true);
    struct sim_world *w = r->world;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    if (sim_client_open(&c, h->host, SIM_BROKER_PORT) != OK || !sim_broker_make_topic(&c, "t", PARTITIONS))
        sim_fail(w, "the topic cannot be made");
    h->clients = SLEEPERS + 1;
    sim_node_start(sim_node_create(w, "sleepers"), sleepers_main, h);
    fiber_sleep_ns(5 * NS_PER_S); /* all of them wait */
    if (produce_send_to(h, &c, 0, WOKEN_VALUE) != OK || produce_receive(h, &c) != OK) sim_fail(w, "no batch");
    uint64_t begun_ns = w->now_ns;
    while (h->clients > 0 && !sim_failed(w)) {
        fiber_sleep_ns(NS_PER_MS / 2);
        look(h);
    }
    int64_t most = h->peaks[MEMORY_ANSWERS], limit = h->limits[MEMORY_ANSWERS];
    if (getenv("OXBOW_MEMORY_TELL"))
        print_message("woken: %lu served within %lu ms, %lu closed; answers at most %ld of %ld\n", h->served,
                      (unsigned long)((w->now_ns - begun_ns) / NS_PER_MS), h->closed, (long)most, (long)limit);
    if (h->served != SLEEPERS) sim_fail(w, "%lu fetches of %u have their batch", h->served, SLEEPERS);
    if (most < limit / 2) sim_fail(w, "answers are held of %ld bytes only", (long)most);
    /* One batch of who is let in all the same while nobody reads. */
    if (most > limit + (int64_t)WOKEN_VALUE)
        sim_fail(w, "answers of %ld bytes are held of %ld", (long)most, (long)limit);
    sim_client_deinit(&c);
    hour_end(h);
}

/* --- Partitions. */

#define MANY 2000

/* Opens all of them: asks where they end. */
static void ask_ends(struct hour *h, struct sim_client *c, int32_t count) {
    struct kafka_list_offsets_request q;
    struct kafka_list_offsets_request_topic topic;
    struct kafka_list_offsets_request_partition *parts = mem_alloc(c->env->mem, (size_t)count * sizeof(*parts));
    struct kafka_list_offsets_response r;
    struct arena a;
    kafka_list_offsets_request_init(&q);
    kafka_list_offsets_request_topic_init(&topic);
    q.replica_id = -1;
    q.topics.items = &topic;
    q.topics.count = 1;
    topic.name = kafka_string_of("many");
    topic.partitions.items = parts;
    topic.partitions.count = count;
    for (int32_t i = 0; i < count; i++) {
        kafka_list_offsets_request_partition_init(&parts[i]);
        parts[i].partition_index = i;
        parts[i].timestamp = -1;
    }
    arena_init(&a, c->env->mem);
    enum err e = sim_client_call(c, KAFKA_API_LIST_OFFSETS, 1, &q, PATIENCE_NS, &a, &r);
    if (e != OK) sim_fail(h->world, "no answer: %s", err_name(e));
    for (int32_t i = 0; e == OK && i < count; i++) {
        if (r.topics.items[0].partitions.items[i].error_code != 0) sim_fail(h->world, "partition %d is not there", i);
    }
    arena_deinit(&a);
    mem_free(c->env->mem, parts);
}

static void memory_partitions(struct sim_run *r) {
    struct hour *h = hour_begin(r, false);
    struct sim_world *w = r->world;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    if (sim_client_open(&c, h->host, SIM_BROKER_PORT) != OK || !sim_broker_make_topic(&c, "few", 1))
        sim_fail(w, "no topic can be made");
    fiber_sleep_ns(20 * NS_PER_S);
    uint64_t before = h->node->mem.base.allocated_bytes;
    if (!sim_broker_make_topic(&c, "many", MANY)) sim_fail(w, "the topic cannot be made");
    ask_ends(h, &c, MANY);
    /* What was allocated for the requests goes, and a checkpoint with all of them is written. */
    sim_client_close(&c);
    fiber_sleep_ns(400 * NS_PER_S);
    int64_t each = ((int64_t)h->node->mem.base.allocated_bytes - (int64_t)before) / MANY;
    int64_t counted = memory_used_bytes(h->node->metrics, MEMORY_PARTITIONS);
    if (getenv("OXBOW_MEMORY_TELL")) print_message("an open partition: %ld bytes\n", (long)each);
    if (counted < MANY * PARTITION_BYTES)
        sim_fail(w, "%ld bytes of partitions are counted, %ld are open", (long)counted, (long)MANY);
    if (each > PARTITION_BYTES || each * 5 / 2 < PARTITION_BYTES)
        sim_fail(w, "an open partition takes %ld bytes, and is counted as %ld", (long)each, (long)PARTITION_BYTES);
    sim_client_deinit(&c);
    hour_end(h);
}

static struct sim_result run_of(const struct sim_workload *w, uint64_t seed, uint64_t minutes) {
    struct sim_run_options o = {.seed = seed, .minutes = minutes, .faults = {.mixture = SIM_MIXTURE_NONE}};
    struct sim_result r;
    sim_run_seed(w, &o, &r);
    if (r.failure[0]) print_message("%s\n", r.failure);
    assert_int_equal(r.failure[0], '\0');
    return r;
}

static void partitions_take(void **state) {
    (void)state;
    static const struct sim_workload partitions = {"partitions", "what an open partition takes", memory_partitions};
    (void)run_of(&partitions, 1, 10);
}

static void many_wake_at_once(void **state) {
    (void)state;
    static const struct sim_workload woken = {"woken", "fetches that wake at once", memory_woken};
    (void)run_of(&woken, 1, 10);
}

static void an_hour_stays_in_its_budgets(void **state) {
    (void)state;
    static const struct sim_workload hour = {"memory", "an hour of load in small budgets", memory_hour};
    const char *minutes = getenv("OXBOW_MEMORY_MINUTES"), *seed = getenv("OXBOW_MEMORY_SEED");
    uint64_t length = minutes ? strtoul(minutes, NULL, 10) : MINUTES;
    struct sim_result r = run_of(&hour, seed ? strtoul(seed, NULL, 10) : 1, length);
    assert_true(r.virtual_ns >= length * 60 * NS_PER_S);
    assert_true(r.acked > length * 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(partitions_take), cmocka_unit_test(many_wake_at_once),
                                       cmocka_unit_test(an_hour_stays_in_its_budgets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
