/* The whole broker as a piece of work for sweeps and squeezes: it starts, a client of it makes a topic, produces, reads
 * back and commits an offset, and it stops; at the check a client finds all that was acknowledged. */
#ifndef OXBOW_TESTS_SWEEP_BROKER_H
#define OXBOW_TESTS_SWEEP_BROKER_H

#include "sweep_run.h"

#include "base/bytes.h"
#include "kafka/batch.h"
#include "kafka/error.h"
#include "sim/broker_node.h"
#include "sim/client.h"
#include "sim/net.h"

#define BROKER_TOPIC "t"
#define BROKER_GROUP "g"
#define BROKER_TOLD 64u
#define BROKER_PATIENCE_NS (20 * NS_PER_S)

enum broker_phase { BROKER_LOADS, BROKER_LOADED, BROKER_AUDITS, BROKER_AUDITED };

struct broker_run {
    struct sweep_run base;
    const char *wal, *durability, *request_bytes;
    struct broker *broker; /* while it serves */
    fiber_fn *serving;     /* beside it, in a fiber of its own that ends when it stops serving; NULL: nothing */
    bool shared;           /* the store is not exclusive */
    bool follows;          /* a second connection reads all the time */
    enum broker_phase phase;
    bool must; /* nothing is broken: it has to start */
    bool fatal;
    uint64_t batches; /* to be acknowledged before the load is over */
    size_t value_size;
    uint64_t sent;              /* payload of the next batch */
    uint64_t told[BROKER_TOLD]; /* payload + 1 that was acknowledged at an offset */
    int64_t end, commit_asked, commit_acked;
};

/* --- The broker. */

static void broker_fatal(void *ctx, enum err why, const char *what) {
    struct broker_run *r = ctx;
    r->fatal = true;
    SWEEP_EXPECT(r, false, "the only broker gave up: %s (%s)", what, err_name(why));
}

static void broker_configure(struct broker_run *r, struct config *config, struct env *env) {
    config_init_defaults(config, env->mem);
    sim_broker_listen(config, sim_node_of(env));
    sim_broker_set(config, "wal.url", r->wal ? r->wal : "file:///var/wal?size=16MiB");
    sim_broker_set(config, "upload.bytes", "65536");
    sim_broker_set(config, "upload.interval.ms", "300");
    sim_broker_set(config, "oxbow.durability", r->durability ? r->durability : "wal");
    sim_broker_set(config, "shards", "2");
    sim_broker_set(config, "offsets.topic.num.partitions", "1");
    if (r->request_bytes) sim_broker_set(config, "queued.max.request.bytes", r->request_bytes);
}

struct broker_beside {
    struct broker_run *run;
    struct waitgroup *group;
};

static void broker_beside_main(void *arg) {
    struct broker_beside *x = arg;
    x->run->serving(x->run);
    waitgroup_done(x->group);
}

static void broker_life(struct broker_run *r, enum broker_phase until) {
    struct env *env = loop_current()->env;
    struct config config;
    char why_text[512];
    broker_configure(r, &config, env);
    struct store *store =
        sim_sweep_store(sim_store_open(NULL, env, &(struct sim_store_options){.exclusive = !r->shared}));
    struct broker_options o = sim_broker_options(store, &config, why_text, sizeof(why_text), broker_fatal, r);
    struct broker *b = NULL;
    const char *why = NULL;
    enum err e = broker_start(&o, &b, &why);
    SWEEP_EXPECT(r, e == OK || (why && strlen(why) > 10), "no reason was given for %s", err_name(e));
    SWEEP_EXPECT(r, e == OK || !r->must, "it does not start though nothing is broken: %s (%s)", why, err_name(e));
    SWEEP_EXPECT(r,
                 e != ERR_CORRUPT && e != ERR_FOREIGN && e != ERR_GAP && e != ERR_VERSION && e != ERR_FENCED &&
                     e != ERR_LOCKED && e != ERR_TRUNCATED,
                 "a failed operation is taken for damage: %s (%s)", why, err_name(e));
    if (e == OK) {
        r->broker = b;
        struct waitgroup beside;
        waitgroup_init(&beside);
        struct broker_beside x = {r, &beside};
        if (r->serving) {
            waitgroup_add(&beside);
            fiber_spawn(loop_current(), "beside", broker_beside_main, &x);
        }
        while (r->phase < until && !r->base.stop && !r->fatal && !sim_failed(r->base.world))
            fiber_sleep_ns(20 * NS_PER_MS);
        waitgroup_wait(&beside);
        r->broker = NULL;
        broker_stop(b);
    }
    store_close(store);
    config_deinit(&config);
}

static void broker_work(void *arg) {
    broker_life(arg, BROKER_LOADED);
}
static void broker_check(void *arg) {
    struct broker_run *r = arg;
    r->base.stop = false;
    r->broker = NULL;
    r->must = true;
    r->phase = BROKER_AUDITS;
    broker_life(r, BROKER_AUDITED);
    SWEEP_EXPECT(r, r->phase == BROKER_AUDITED, "not everything is served");
}

/* --- The client. Each call: whether it was done; else what is to be done is done again. */

struct talk {
    struct broker_run *run;
    struct sim_client client;
    struct arena arena;
};

#define CALL(t, api, version, q, a)                                                                                    \
    (sim_client_call(&(t)->client, api, version, q, BROKER_PATIENCE_NS, &(t)->arena, a) == OK)

static bool talk_topic(struct talk *t) {
    struct kafka_create_topics_request_topic topic;
    struct kafka_create_topics_request q;
    struct kafka_create_topics_response a;
    kafka_create_topics_request_topic_init(&topic);
    kafka_create_topics_request_init(&q);
    topic.name = kafka_string_of(BROKER_TOPIC);
    topic.num_partitions = 1;
    topic.replication_factor = 1;
    q.topics.items = &topic;
    q.topics.count = 1;
    q.timeout_ms = 10000;
    if (!CALL(t, KAFKA_API_CREATE_TOPICS, 4, &q, &a) || a.topics.count != 1) return false;
    return a.topics.items[0].error_code == 0 || a.topics.items[0].error_code == KAFKA_TOPIC_ALREADY_EXISTS;
}

static bool talk_produce(struct talk *t) {
    struct broker_run *r = t->run;
    struct buf bytes;
    struct batch_builder builder;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    uint64_t payload = r->sent++;
    buf_init(&bytes, t->client.env->mem);
    batch_builder_init(&builder, t->client.env->mem, &o);
    uint8_t *value = mem_zalloc(t->client.env->mem, r->value_size + 8);
    be64_put(value, payload);
    sim_payload_fill(payload, value + 8, r->value_size);
    batch_builder_add(&builder, 1000, NULL, 0, value, r->value_size + 8, NULL, 0);
    enum err e = batch_builder_finish(&builder, &bytes);
    ASSERT(e == OK);
    batch_builder_deinit(&builder);
    mem_free(t->client.env->mem, value);
    struct kafka_produce_request_partition p = {.records = {.data = bytes.data, .size = (int32_t)bytes.size}};
    struct kafka_produce_request_topic topic;
    struct kafka_produce_request q;
    struct kafka_produce_response a;
    kafka_produce_request_topic_init(&topic);
    kafka_produce_request_init(&q);
    topic.name = kafka_string_of(BROKER_TOPIC);
    topic.partition_data.items = &p;
    topic.partition_data.count = 1;
    q.transactional_id = (struct kafka_string){NULL, -1};
    q.acks = -1;
    q.timeout_ms = 10000;
    q.topic_data.items = &topic;
    q.topic_data.count = 1;
    bool good = CALL(t, KAFKA_API_PRODUCE, 9, &q, &a) && a.responses.count == 1 &&
                a.responses.items[0].partition_responses.count == 1 &&
                a.responses.items[0].partition_responses.items[0].error_code == 0;
    buf_deinit(&bytes);
    if (!good) return false;
    int64_t offset = a.responses.items[0].partition_responses.items[0].base_offset;
    SWEEP_EXPECT(r, offset >= 0 && offset < (int64_t)BROKER_TOLD && r->told[offset] == 0, "%ld was given twice",
                 offset);
    if (sim_failed(r->base.world)) return false;
    r->told[offset] = payload + 1;
    if (offset + 1 > r->end) r->end = offset + 1;
    r->base.acked++;
    return true;
}

static void talk_judge(struct talk *t, const struct batch_header *h) {
    struct broker_run *r = t->run;
    struct batch_iterator it;
    struct batch_record rec;
    bool good = batch_iterator_init(&it, t->client.env->mem, h, 1u << 24) == OK;
    good = good && batch_iterator_next(&it, &rec) == OK && (size_t)rec.value_size == r->value_size + 8;
    uint64_t payload = good ? be64_get(rec.value) : 0;
    good = good && payload < r->sent && sim_payload_is(payload, rec.value + 8, r->value_size);
    SWEEP_EXPECT(r, good, "at %ld lies what nobody sent", h->base_offset);
    uint64_t told = h->base_offset < (int64_t)BROKER_TOLD ? r->told[h->base_offset] : 0;
    SWEEP_EXPECT(r, told == 0 || told == payload + 1, "%ld was acknowledged for another batch", h->base_offset);
    batch_iterator_deinit(&it);
}

/* Reads from *next on; moves it. */
static bool talk_fetch(struct talk *t, int64_t *next, int64_t *high_watermark) {
    struct kafka_fetch_request_partition part;
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request q;
    struct kafka_fetch_response a;
    kafka_fetch_request_partition_init(&part);
    kafka_fetch_request_topic_init(&topic);
    kafka_fetch_request_init(&q);
    part.fetch_offset = *next;
    part.partition_max_bytes = 1 << 20;
    topic.topic = kafka_string_of(BROKER_TOPIC);
    topic.partitions.items = &part;
    topic.partitions.count = 1;
    q.max_wait_ms = 100;
    q.min_bytes = 1;
    q.max_bytes = 1 << 20;
    q.session_epoch = -1;
    q.rack_id = kafka_string_of("");
    q.topics.items = &topic;
    q.topics.count = 1;
    if (!CALL(t, KAFKA_API_FETCH, 11, &q, &a) || a.error_code != 0 || a.responses.count != 1) return false;
    const struct kafka_fetch_response_partition *p = &a.responses.items[0].partitions.items[0];
    SWEEP_EXPECT(t->run, p->error_code != KAFKA_OFFSET_OUT_OF_RANGE, "%ld is out of range", *next);
    if (p->error_code != 0) return false;
    for (int32_t at = 0; at < p->records.size && !sim_failed(t->run->base.world);) {
        struct batch_header h;
        enum err e = batch_parse(p->records.data + at, (size_t)(p->records.size - at), &h);
        if (e == ERR_TRUNCATED) break;
        SWEEP_EXPECT(t->run, e == OK && h.base_offset == *next, "no batch of its own was fetched at %ld", *next);
        if (e != OK) return false;
        talk_judge(t, &h);
        *next = batch_end_offset(&h);
        at += (int32_t)h.size;
    }
    *high_watermark = p->high_watermark;
    return true;
}

static bool talk_commit(struct talk *t) {
    struct broker_run *r = t->run;
    struct kafka_offset_commit_request_partition p;
    struct kafka_offset_commit_request_topic topic;
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response a;
    kafka_offset_commit_request_partition_init(&p);
    kafka_offset_commit_request_topic_init(&topic);
    kafka_offset_commit_request_init(&q);
    p.committed_offset = r->commit_asked = r->end;
    p.committed_metadata = kafka_string_of("");
    topic.name = kafka_string_of(BROKER_TOPIC);
    topic.partitions.items = &p;
    topic.partitions.count = 1;
    q.group_id = kafka_string_of(BROKER_GROUP);
    q.generation_id_or_member_epoch = -1;
    q.member_id = kafka_string_of("");
    q.topics.items = &topic;
    q.topics.count = 1;
    if (!CALL(t, KAFKA_API_OFFSET_COMMIT, 7, &q, &a) || a.topics.count != 1 ||
        a.topics.items[0].partitions.items[0].error_code != 0)
        return false;
    r->commit_acked = p.committed_offset;
    r->base.acked++;
    return true;
}

static bool talk_committed(struct talk *t) {
    struct broker_run *r = t->run;
    int32_t index = 0;
    struct kafka_offset_fetch_request_topic topic;
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response a;
    kafka_offset_fetch_request_topic_init(&topic);
    kafka_offset_fetch_request_init(&q);
    topic.name = kafka_string_of(BROKER_TOPIC);
    topic.partition_indexes.items = &index;
    topic.partition_indexes.count = 1;
    q.group_id = kafka_string_of(BROKER_GROUP);
    q.topics.items = &topic;
    q.topics.count = 1;
    if (!CALL(t, KAFKA_API_OFFSET_FETCH, 5, &q, &a) || a.error_code != 0 || a.topics.count != 1 ||
        a.topics.items[0].partitions.items[0].error_code != 0)
        return false;
    int64_t found = a.topics.items[0].partitions.items[0].committed_offset;
    if (found < 0) found = 0;
    SWEEP_EXPECT(r, found >= r->commit_acked && found <= r->commit_asked,
                 "the committed offset is %ld; %ld was acknowledged, %ld asked for", found, r->commit_acked,
                 r->commit_asked);
    return true;
}

static bool talk_load(struct talk *t) {
    struct broker_run *r = t->run;
    int64_t next = 0, high = 0;
    if (!talk_topic(t)) return false;
    while (r->base.acked < r->batches) {
        arena_reset(&t->arena);
        if (!talk_produce(t)) return false;
    }
    while (next < r->end) {
        arena_reset(&t->arena);
        if (!talk_fetch(t, &next, &high)) return false;
    }
    return talk_commit(t) && talk_committed(t);
}

static bool talk_audit(struct talk *t) {
    struct broker_run *r = t->run;
    int64_t next = 0, high = 1;
    if (!talk_topic(t)) return false;
    while (next < high) {
        arena_reset(&t->arena);
        if (!talk_fetch(t, &next, &high)) return false;
    }
    SWEEP_EXPECT(r, high >= r->end, "it ends at %ld; %ld was acknowledged", high, r->end);
    return talk_committed(t);
}

/* Another one, that only reads, all the time. */
static void broker_follower(void *arg) {
    struct broker_run *r = arg;
    struct talk t = {.run = r};
    char host[64];
    sim_net_address(r->base.node, host, sizeof(host));
    sim_client_init(&t.client, loop_current()->env);
    int64_t next = 0, high = 0;
    while (r->phase == BROKER_LOADS && !sim_failed(r->base.world)) {
        fiber_sleep_ns(3 * NS_PER_MS);
        if (!r->broker || (!t.client.conn && sim_client_open(&t.client, host, SIM_BROKER_PORT) != OK)) continue;
        arena_init(&t.arena, t.client.env->mem);
        if (!talk_fetch(&t, &next, &high) && !t.client.conn) next = 0;
        arena_deinit(&t.arena);
    }
    sim_client_deinit(&t.client);
}

/* Connects to the broker again and again, until its part of the phase is done. */
static void broker_client(void *arg) {
    struct broker_run *r = arg;
    struct talk t = {.run = r};
    char host[64];
    sim_net_address(r->base.node, host, sizeof(host));
    sim_client_init(&t.client, loop_current()->env);
    if (r->follows) fiber_spawn(loop_current(), "follower", broker_follower, r);
    while (r->phase != BROKER_AUDITED && !sim_failed(r->base.world)) {
        bool loads = r->phase == BROKER_LOADS, audits = r->phase == BROKER_AUDITS;
        fiber_sleep_ns(50 * NS_PER_MS);
        if (!r->broker || (!loads && !audits)) continue;
        if (!t.client.conn && sim_client_open(&t.client, host, SIM_BROKER_PORT) != OK) continue;
        arena_init(&t.arena, t.client.env->mem);
        bool good = loads ? talk_load(&t) : talk_audit(&t);
        arena_deinit(&t.arena);
        if (!good) sim_client_close(&t.client);
        if (good && loads && r->phase == BROKER_LOADS) r->phase = BROKER_LOADED;
        if (good && audits) r->phase = BROKER_AUDITED;
    }
    sim_client_deinit(&t.client);
}

#endif
