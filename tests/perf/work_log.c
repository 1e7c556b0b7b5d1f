/* A record's whole way, in a simulated world: an unmodified broker with a WAL and a store, one client with some requests under
 * way, 10,000 records in four partitions. What is counted, one after the other:
 *
 *   produce        from the first request to the last acknowledgement: decode, check, append, WAL, answer. Nothing is uploaded
 *                  meanwhile
 *   fetch-cache    all of it, read from the log cache
 *   upload         one ledger entry with its objects, when the records have the age for it, and the WAL is trimmed
 *   fetch-objects  all of it, after a restart, from the store
 *   recover        (a world of its own) the start after a kill, with all of it in the WAL and nowhere else
 *
 * The client counts what it is given: work that is not done is a failure, not a saving. */
#include <stdbool.h>

#include "count.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "kafka/batch.h"
#include "kafka/kafka_messages.h"
#include "sim/broker_node.h"
#include "sim/net.h"
#include "sim/node.h"
#include "sim/sim_store.h"

#define RECORDS 10000u
#define RECORDS_TO_RECOVER 14000u /* the large ones fill the smallest WAL as far as it may be */
#define PARTITIONS 4
#define TOPIC "perf"
#define TIMEOUT_NS (60 * NS_PER_S)
#define STEPS_MAX 50000000u
#define UPLOAD_AGE "60000"
#define UPLOAD_WAIT_NS (90 * NS_PER_S)
#define START_WORKS_NS (200 * NS_PER_S)
#define FETCH_VERSION 12
#define PRODUCE_VERSION 9

struct shape {
    const char *name;
    unsigned records, value_size; /* of a batch, of a record */
    unsigned window;              /* requests under way */
    int32_t fetch_bytes;          /* of a partition in one answer */
    const char *wal_url;
};
static const struct shape large = {"large", 64, 1000, 4, 1 << 20, "file:///var/wal?size=16MiB"};
static const struct shape small = {"small", 1, 100, 8, 16 << 10, "file:///var/wal?size=64MiB"};

struct work {
    const struct shape *shape;
    bool recovers; /* this is the world for that */
    unsigned records;
    struct sim_world *world;
    struct sim_node *broker, *driver;
    bool serves, stop_asked;
    struct sim_client client;
    int64_t next[PARTITIONS]; /* what is to be fetched */
};

/* --- The broker's node. */

static void on_fatal(void *ctx, enum err why, const char *what) {
    struct work *w = ctx;
    sim_fail(w->world, "the broker gave up: %s (%s)", what, err_name(why));
}

static void configure(const struct work *w, struct config *c) {
    sim_broker_listen(c, w->broker);
    sim_broker_set(c, "wal.url", w->shape->wal_url);
    /* Uploads are by age alone; what goes by the clock beside them does not fall into what is counted. */
    sim_broker_set(c, "upload.bytes", "67108864");
    sim_broker_set(c, "upload.wal.percent", "90");
    sim_broker_set(c, "upload.interval.ms", UPLOAD_AGE);
    sim_broker_set(c, "checkpoint.interval.ms", "36000000");
    sim_broker_set(c, "log.retention.check.interval.ms", "36000000");
    sim_broker_set(c, "connections.max.idle.ms", "-1");
    sim_broker_set(c, "shards", "1");
}

static void broker_main(void *arg) {
    struct work *w = arg;
    struct env *env = loop_current()->env;
    struct config config;
    config_init_defaults(&config, env->mem);
    configure(w, &config);
    char why_text[512];
    const struct sim_store_options so = {.exclusive = true};
    struct store *store = sim_store_open(NULL, env, &so);
    struct broker_options o = sim_broker_options(store, &config, why_text, sizeof(why_text), on_fatal, w);
    struct broker *broker = NULL;
    const char *why = NULL;
    enum err e = broker_start(&o, &broker, &why);
    if (e == OK) {
        w->serves = true;
        while (!w->stop_asked) fiber_sleep_ns(5 * NS_PER_S);
        w->serves = false;
        broker_stop(broker);
    } else {
        sim_fail(w->world, "the broker does not start: %s (%s)", why, err_name(e));
    }
    store_close(store);
    config_deinit(&config);
}

static void broker_begin(struct work *w) {
    w->serves = w->stop_asked = false;
    sim_node_start(w->broker, broker_main, w);
    while (!w->serves && !sim_failed(w->world)) fiber_sleep_ns(NS_PER_MS);
}

static void broker_end(struct work *w) {
    sim_client_close(&w->client);
    w->stop_asked = true;
    while (sim_node_up(w->broker) && !sim_failed(w->world)) fiber_sleep_ns(10 * NS_PER_MS);
}

/* --- The client, on the driver's node. */

static void must(const struct work *w, enum err e, int16_t code, const char *what) {
    if (e == OK && code == 0 && !sim_failed(w->world)) return;
    (void)fprintf(stderr, "guard_work: %s: %s, error code %d; %s\n", what, err_name(e), code, w->world->failure);
    exit(1);
}

static void connect_to_broker(struct work *w) {
    char host[64];
    sim_net_address(w->broker, host, sizeof(host));
    must(w, sim_client_open(&w->client, host, SIM_BROKER_PORT), 0, "connect");
}

static void make_batch(const struct work *w, unsigned records, uint64_t first, struct buf *out) {
    struct batch_builder b;
    uint8_t value[1024];
    ASSERT(w->shape->value_size <= sizeof(value));
    batch_builder_init(&b, w->client.env->mem, &BATCH_OPTIONS_DEFAULT);
    for (unsigned i = 0; i < records; i++) {
        memset(value, (int)((first + i) & 0x7f), sizeof(value));
        batch_builder_add(&b, env_wall_ms(w->client.env), NULL, 0, value, w->shape->value_size, NULL, 0);
    }
    enum err e = batch_builder_finish(&b, out);
    ASSERT(e == OK);
    batch_builder_deinit(&b);
}

static void produce_send(struct work *w, unsigned number, unsigned records, uint64_t first) {
    struct buf bytes;
    buf_init(&bytes, w->client.env->mem);
    make_batch(w, records, first, &bytes);
    struct kafka_produce_request_partition partition = {.index = (int32_t)(number % PARTITIONS),
                                                        .records = {.data = bytes.data, .size = (int32_t)bytes.size}};
    struct kafka_produce_request_topic topic;
    struct kafka_produce_request q;
    kafka_produce_request_topic_init(&topic);
    kafka_produce_request_init(&q);
    topic.name = kafka_string_of(TOPIC);
    topic.partition_data.items = &partition;
    topic.partition_data.count = 1;
    q.transactional_id = kafka_string_of(NULL);
    q.acks = -1;
    q.timeout_ms = 30000;
    q.topic_data.items = &topic;
    q.topic_data.count = 1;
    must(w, sim_client_send(&w->client, KAFKA_API_PRODUCE, PRODUCE_VERSION, &q), 0, "send");
    buf_deinit(&bytes);
}

static void produce_receive(struct work *w, struct arena *a) {
    struct kafka_produce_response r;
    enum err e = sim_client_receive(&w->client, KAFKA_API_PRODUCE, PRODUCE_VERSION, TIMEOUT_NS, a, &r);
    must(w, e, 0, "produce");
    ASSERT(r.responses.count == 1 && r.responses.items[0].partition_responses.count == 1);
    must(w, OK, r.responses.items[0].partition_responses.items[0].error_code, "produce");
    arena_reset(a);
}

static void produce_all(struct work *w) {
    struct arena a;
    arena_init(&a, w->client.env->mem);
    unsigned sent = 0, requests = 0, answers = 0;
    while (sent < w->records || answers < requests) {
        while (sent < w->records && requests - answers < w->shape->window) {
            unsigned n = w->records - sent < w->shape->records ? w->records - sent : w->shape->records;
            produce_send(w, requests++, n, sent);
            sent += n;
        }
        produce_receive(w, &a);
        answers++;
    }
    arena_deinit(&a);
}

/* The records of an answer are counted by their batches, of which the last may be cut off. */
static unsigned taken(struct work *w, const struct kafka_fetch_response_partition *p) {
    const uint8_t *at = p->records.data;
    size_t left = p->records.size > 0 ? (size_t)p->records.size : 0;
    unsigned count = 0;
    struct batch_header h;
    while (left > 0 && batch_parse_unchecked(at, left, &h) == OK) {
        ASSERT(h.base_offset == w->next[p->partition_index]);
        w->next[p->partition_index] = batch_end_offset(&h);
        count += (unsigned)h.record_count;
        at += h.size;
        left -= h.size;
    }
    return count;
}

static unsigned fetch_once(struct work *w, struct arena *a) {
    struct kafka_fetch_request_partition partitions[PARTITIONS];
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request q;
    struct kafka_fetch_response r;
    kafka_fetch_request_topic_init(&topic);
    kafka_fetch_request_init(&q);
    for (int i = 0; i < PARTITIONS; i++) {
        kafka_fetch_request_partition_init(&partitions[i]);
        partitions[i].partition = i;
        partitions[i].fetch_offset = w->next[i];
        partitions[i].partition_max_bytes = w->shape->fetch_bytes;
    }
    topic.topic = kafka_string_of(TOPIC);
    topic.partitions.items = partitions;
    topic.partitions.count = PARTITIONS;
    q.max_wait_ms = 500;
    q.min_bytes = 1;
    q.max_bytes = 50 << 20;
    q.topics.items = &topic;
    q.topics.count = 1;
    enum err e = sim_client_call(&w->client, KAFKA_API_FETCH, FETCH_VERSION, &q, TIMEOUT_NS, a, &r);
    must(w, e, r.error_code, "fetch");
    unsigned count = 0;
    for (int32_t i = 0; i < r.responses.items[0].partitions.count; i++) {
        must(w, OK, r.responses.items[0].partitions.items[i].error_code, "fetch");
        count += taken(w, &r.responses.items[0].partitions.items[i]);
    }
    return count;
}

static void fetch_all(struct work *w) {
    struct arena a;
    arena_init(&a, w->client.env->mem);
    memset(w->next, 0, sizeof(w->next));
    for (unsigned got = 0; got < w->records;) {
        unsigned n = fetch_once(w, &a);
        must(w, n > 0 ? OK : ERR_GAP, 0, "fetch all");
        got += n;
        arena_reset(&a);
    }
    arena_deinit(&a);
}

/* --- The works. */

static void counted(const struct work *w, const char *name) {
    char text[64];
    (void)snprintf(text, sizeof(text), "%s-%s", name, w->shape->name);
    count_end(text, w->records, "records");
}

/* Makes the topic, and waits until what a start does in the background is over. */
static void warm_up(struct work *w) {
    if (!sim_broker_make_topic(&w->client, TOPIC, PARTITIONS)) must(w, ERR_INVALID, 0, "make the topic");
    fiber_sleep_ns(START_WORKS_NS);
}

static uint64_t requests(const struct work *w) {
    return w->world->bucket->requests;
}

static void log_work(struct work *w) {
    warm_up(w);
    uint64_t before = requests(w);
    count_begin();
    produce_all(w);
    counted(w, "produce");
    count_begin();
    fetch_all(w);
    counted(w, "fetch-cache");
    ASSERT(requests(w) == before); /* nothing was uploaded yet, nothing read from there */
    count_begin();
    fiber_sleep_ns(UPLOAD_WAIT_NS);
    counted(w, "upload");
    ASSERT(requests(w) > before);
    broker_end(w);
    broker_begin(w);
    connect_to_broker(w);
    fiber_sleep_ns(START_WORKS_NS);
    before = requests(w);
    count_begin();
    fetch_all(w);
    counted(w, "fetch-objects");
    ASSERT(requests(w) > before);
}

static void recover_work(struct work *w) {
    warm_up(w);
    produce_all(w);
    sim_node_crash(w->broker, SIM_KILL);
    sim_client_close(&w->client);
    count_begin();
    broker_begin(w);
    counted(w, "recover");
    connect_to_broker(w);
    fetch_all(w); /* it was all there */
}

static void driver_main(void *arg) {
    struct work *w = arg;
    sim_client_init(&w->client, loop_current()->env);
    broker_begin(w);
    connect_to_broker(w);
    if (w->recovers)
        recover_work(w);
    else
        log_work(w);
    broker_end(w);
    sim_client_deinit(&w->client);
}

static bool driver_ended(void *arg) {
    return !sim_node_up(arg);
}

static void run(struct work *w, uint64_t seed) {
    const struct sim_world_options o = {.seed = seed};
    w->world = sim_world_create(&o);
    sim_faults_none(&w->world->faults);
    w->world->faults_off = true;
    w->driver = sim_node_create(w->world, "driver");
    w->broker = sim_node_create(w->world, "broker");
    w->driver->steady = true;
    count_only(sim_node_env(w->broker));
    sim_node_start(w->driver, driver_main, w);
    enum sim_end end = sim_world_run(w->world, STEPS_MAX, driver_ended, w->driver);
    must(w, end == SIM_END_DONE ? OK : ERR_INVALID, 0, "the end of the work");
    sim_world_destroy(w->world);
}

void work_log(bool is_small, uint64_t seed) {
    struct work w = {.shape = is_small ? &small : &large, .records = RECORDS};
    run(&w, seed);
}

void work_recover(bool is_small, uint64_t seed) {
    struct work w = {.shape = is_small ? &small : &large, .records = RECORDS_TO_RECOVER, .recovers = true};
    run(&w, seed);
}
