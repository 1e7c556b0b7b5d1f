/* Workload "broker": the whole broker, as clients see it over the network. Producers (idempotent ones with several requests
 * in flight, plain ones), readers that follow, a reader that commits its offsets to a group; the broker is killed, loses
 * power, stands still, is stopped in order and started again, without a WAL also on another machine; the network delays,
 * resets and cuts.
 *
 * Promises, by what the clients saw:
 *  - what was acknowledged is at the offset that was told, for ever, and is read back byte for byte;
 *  - a batch of an idempotent producer is there once, however often it was sent; a plain one at most as often as it was
 *    sent;
 *  - the batches of one producer in one partition lie in the order in which they were sent;
 *  - one offset, one batch: all readers see the same, in order, without a gap, and what one was shown is there at the end;
 *  - nothing is there that nobody sent;
 *  - a high watermark never goes back, and a committed offset that was acknowledged is found, or a later one;
 *  - when nothing is broken any more everything is served again within a bound. */
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "kafka/batch.h"
#include "kafka/error.h"
#include "sim/broker_node.h"
#include "sim/net.h"
#include "sim/workloads.h"

#define PARTITIONS_MAX 3u
#define SENDERS_MAX 3u
#define READERS_MAX 2u
#define IN_FLIGHT_MAX 5u
#define ITEMS_MAX 6000u
#define TOPIC "t"
#define GROUP "g"
#define REQUEST_PATIENCE_NS (40 * NS_PER_S)

/* One batch, as the world knows it. Its id is its place in the table. */
struct item {
    unsigned partition, sender;
    uint32_t order; /* of the sender in that partition */
    uint32_t records, value_size;
    bool idempotent;
    unsigned sent;
    int64_t offset; /* as acknowledged; -1: not */
    unsigned seen;  /* by the audit */
};

struct seen { /* what readers were shown at an offset: the batch that begins there */
    uint32_t item, records;
};

struct log_model {
    struct seen *shown; /* by offset; records 0: nothing shown yet */
    size_t capacity;
    int64_t end; /* highest shown */
};

struct broker_test {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_broker broker;
    struct sim_node *senders[SENDERS_MAX], *readers[READERS_MAX];
    unsigned sender_count, reader_count, partitions;
    bool load_over, audited;
    struct item items[ITEMS_MAX];
    size_t item_count;
    struct log_model logs[PARTITIONS_MAX];
    int64_t commit_asked[PARTITIONS_MAX], commit_acked[PARTITIONS_MAX];
};

/* --- Batches. */

static uint64_t payload_id(size_t item, uint32_t record) {
    return hash64((uint64_t)item << 20 | record);
}

/* A record's value: the item, the record, and bytes that follow from both. */
static void make_batch(struct env *env, const struct item *it, size_t id, int64_t producer, int32_t sequence,
                       struct buf *out) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    if (producer >= 0) {
        o.producer_id = producer;
        o.producer_epoch = 0;
        o.base_sequence = sequence;
    }
    struct batch_builder b;
    batch_builder_init(&b, env->mem, &o);
    size_t size = 12 + it->value_size;
    uint8_t *value = mem_alloc(env->mem, size);
    for (uint32_t i = 0; i < it->records; i++) {
        be64_put(value, id);
        be32_put(value + 8, i);
        sim_payload_fill(payload_id(id, i), value + 12, it->value_size);
        batch_builder_add(&b, env_wall_ms(env), NULL, 0, value, size, NULL, 0);
    }
    enum err e = batch_builder_finish(&b, out);
    ASSERT(e == OK);
    batch_builder_deinit(&b);
    mem_free(env->mem, value);
}

/* Which item a batch is; ITEMS_MAX: nobody sent this. */
static size_t batch_item(struct broker_test *t, struct mem *m, const struct batch_header *h) {
    struct batch_iterator it;
    struct batch_record r;
    size_t id = ITEMS_MAX;
    bool same = batch_iterator_init(&it, m, h, 1u << 24) == OK;
    uint32_t i = 0;
    for (; same && batch_iterator_next(&it, &r) == OK; i++) {
        same = r.value_size >= 12;
        if (!same) break;
        uint64_t told = be64_get(r.value);
        if (i == 0) id = told;
        same = told == id && id < t->item_count && be32_get(r.value + 8) == i &&
               (size_t)r.value_size == 12 + t->items[id].value_size &&
               sim_payload_is(payload_id(id, i), r.value + 12, t->items[id].value_size);
    }
    if (same) same = id < t->item_count && i == t->items[id].records;
    batch_iterator_deinit(&it);
    return same ? id : ITEMS_MAX;
}

/* --- Clients. */

static bool load_goes_on(const struct broker_test *t) {
    return !t->load_over && !sim_failed(t->world);
}

static void pause_a_little(struct broker_test *t) {
    fiber_sleep_ns(sim_between(t->world, 10, 1000) * NS_PER_MS);
}

struct sender {
    struct broker_test *test;
    unsigned number;
    struct sim_client client;
    bool idempotent;
    int64_t producer_id; /* -1: to be asked for */
    int32_t next_sequence[PARTITIONS_MAX];
    uint32_t next_order[PARTITIONS_MAX];
    struct {
        size_t item;
        int32_t sequence;
    } window[IN_FLIGHT_MAX]; /* what is not answered, oldest first */
    unsigned count, depth;
};

static bool ask_producer_id(struct sender *s) {
    struct arena a;
    arena_init(&a, s->client.env->mem);
    struct kafka_init_producer_id_request q;
    struct kafka_init_producer_id_response r;
    kafka_init_producer_id_request_init(&q);
    q.transactional_id = (struct kafka_string){NULL, -1};
    enum err e = sim_client_call(&s->client, KAFKA_API_INIT_PRODUCER_ID, 1, &q, REQUEST_PATIENCE_NS, &a, &r);
    if (e == OK && r.error_code == 0) s->producer_id = r.producer_id;
    arena_deinit(&a);
    return e == OK && s->producer_id >= 0;
}

static enum err send_item(struct sender *s, size_t id, int32_t sequence) {
    struct broker_test *t = s->test;
    struct item *it = &t->items[id];
    struct buf bytes;
    buf_init(&bytes, s->client.env->mem);
    make_batch(s->client.env, it, id, s->idempotent ? s->producer_id : -1, sequence, &bytes);
    struct kafka_produce_request_partition p = {.index = (int32_t)it->partition,
                                                .records = {.data = bytes.data, .size = (int32_t)bytes.size}};
    struct kafka_produce_request_topic topic;
    struct kafka_produce_request q;
    kafka_produce_request_topic_init(&topic);
    kafka_produce_request_init(&q);
    topic.name = kafka_string_of(TOPIC);
    topic.partition_data.items = &p;
    topic.partition_data.count = 1;
    q.transactional_id = (struct kafka_string){NULL, -1};
    q.acks = -1;
    q.timeout_ms = 30000;
    q.topic_data.items = &topic;
    q.topic_data.count = 1;
    it->sent++;
    enum err e = sim_client_send(&s->client, KAFKA_API_PRODUCE, 9, &q);
    buf_deinit(&bytes);
    return e;
}

/* A new item at the end of the window. */
static bool new_item(struct sender *s) {
    struct broker_test *t = s->test;
    if (t->item_count == ITEMS_MAX) return false;
    size_t id = t->item_count++;
    struct item *it = &t->items[id];
    *it = (struct item){.partition = (unsigned)sim_between(t->world, 0, t->partitions - 1),
                        .sender = s->number,
                        .records = (uint32_t)sim_between(t->world, 1, 3),
                        .value_size = (uint32_t)sim_between(t->world, 0, sim_chance(t->world, 0.1) ? 20000 : 200),
                        .idempotent = s->idempotent,
                        .offset = -1};
    it->order = s->next_order[it->partition]++;
    s->window[s->count].item = id;
    s->window[s->count++].sequence = s->next_sequence[it->partition];
    s->next_sequence[it->partition] += (int32_t)it->records;
    t->run->ops++;
    return true;
}

static void window_pop(struct sender *s) {
    memmove(&s->window[0], &s->window[1], (s->count - 1) * sizeof(s->window[0]));
    s->count--;
}

/* The answer to the oldest request. False: send everything again. */
static bool take_answer(struct sender *s) {
    struct broker_test *t = s->test;
    struct arena a;
    arena_init(&a, s->client.env->mem);
    struct kafka_produce_response r;
    enum err e = sim_client_receive(&s->client, KAFKA_API_PRODUCE, 9, REQUEST_PATIENCE_NS, &a, &r);
    if (e == ERR_PROTOCOL) sim_fail(t->world, "an answer that is not one, or not the one whose turn it is");
    bool good = e == OK && r.responses.count == 1 && r.responses.items[0].partition_responses.count == 1;
    if (good) {
        const struct kafka_produce_response_partition *p = &r.responses.items[0].partition_responses.items[0];
        struct item *it = &t->items[s->window[0].item];
        if (p->error_code == KAFKA_NONE) {
            it->offset = p->base_offset;
            t->run->acked++;
            window_pop(s);
        } else {
            bool refused = p->error_code == KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER ||
                           p->error_code == KAFKA_UNKNOWN_PRODUCER_ID || p->error_code == KAFKA_INVALID_RECORD ||
                           p->error_code == KAFKA_CORRUPT_MESSAGE;
            if (refused)
                sim_fail(t->world, "a producer that did nothing wrong was answered error %d for sequence %d",
                         p->error_code, s->window[0].sequence);
            good = false;
        }
    }
    arena_deinit(&a);
    return good;
}

static void sender_stops(struct sender *s) {
    sim_client_close(&s->client);
    /* What a plain producer did not hear of is given up: to send it again would be to send it twice. */
    if (!s->idempotent) s->count = 0;
}

static void sender_main(void *arg) {
    struct broker_test *t = arg;
    struct env *env = loop_current()->env;
    struct sender s = {.test = t, .producer_id = -1};
    while (t->senders[s.number] != sim_node_of(env)) s.number++;
    s.idempotent = sim_chance(t->world, 0.7);
    s.depth = (unsigned)sim_between(t->world, 1, IN_FLIGHT_MAX);
    sim_client_init(&s.client, env);
    unsigned sent = 0; /* of the window, on this connection */
    while (load_goes_on(t)) {
        if (!s.client.conn) {
            sender_stops(&s);
            sent = 0;
            pause_a_little(t);
            if (sim_broker_connect(&t->broker, &s.client) != OK) continue;
        }
        if (s.idempotent && s.producer_id < 0 && !ask_producer_id(&s)) {
            sim_client_close(&s.client);
            continue;
        }
        while (s.count < s.depth && new_item(&s)) continue;
        if (s.count == 0) break;
        bool good = true;
        for (; sent < s.count && good; sent++) good = send_item(&s, s.window[sent].item, s.window[sent].sequence) == OK;
        if (good) good = take_answer(&s);
        if (good) {
            sent--;
            if (sim_chance(t->world, 0.2)) fiber_sleep_ns(sim_between(t->world, 0, 100) * NS_PER_MS);
        } else {
            sender_stops(&s);
        }
    }
    sim_client_deinit(&s.client);
}

/* --- Readers. */

static struct seen *shown_at(struct broker_test *t, struct log_model *l, int64_t offset) {
    if ((size_t)offset >= l->capacity) {
        size_t capacity = l->capacity ? l->capacity : 64;
        while (capacity <= (size_t)offset) capacity *= 2;
        struct seen *grown = mem_zalloc(sim_run_mem(t->run), capacity * sizeof(*grown));
        if (l->capacity) memcpy(grown, l->shown, l->capacity * sizeof(*grown));
        mem_free(sim_run_mem(t->run), l->shown);
        l->shown = grown;
        l->capacity = capacity;
    }
    return &l->shown[offset];
}

/* One batch that a reader was shown at the place where it reads on. Returns where the next one begins; -1: a promise
 * is broken. */
static int64_t take_batch(struct broker_test *t, struct mem *m, unsigned partition, int64_t offset,
                          const struct batch_header *h) {
    size_t id = batch_item(t, m, h);
    if (h->base_offset != offset) {
        sim_fail(t->world, "partition %u: offset %ld is followed by %ld", partition, offset, h->base_offset);
    } else if (id == ITEMS_MAX) {
        sim_fail(t->world, "partition %u: at offset %ld lies what nobody sent", partition, offset);
    } else if (t->items[id].partition != partition) {
        sim_fail(t->world, "partition %u: at offset %ld lies a batch of partition %u", partition, offset,
                 t->items[id].partition);
    }
    if (sim_failed(t->world)) return -1;
    struct log_model *l = &t->logs[partition];
    struct seen *s = shown_at(t, l, offset);
    if (s->records > 0 && s->item != id) {
        sim_fail(t->world, "partition %u: offset %ld was another batch before", partition, offset);
        return -1;
    }
    s->item = (uint32_t)id;
    s->records = t->items[id].records;
    int64_t next = offset + t->items[id].records;
    if (next > l->end) l->end = next;
    t->run->ops++;
    return next;
}

struct follower {
    struct broker_test *test;
    struct sim_client client;
    int64_t next[PARTITIONS_MAX];
    bool commits;
    bool audit;
    int64_t high_watermark[PARTITIONS_MAX]; /* as last told */
};

static bool take_partition(struct follower *r, const struct kafka_fetch_response_partition *p) {
    struct broker_test *t = r->test;
    unsigned partition = (unsigned)p->partition_index;
    if (p->error_code == KAFKA_OFFSET_OUT_OF_RANGE) {
        sim_fail(t->world, "partition %u: offset %ld, which was reached by reading, is out of range", partition,
                 r->next[partition]);
        return false;
    }
    if (p->error_code != 0) return false;
    /* Answers to others may have overtaken this one: only what this reader knew before counts. */
    if (p->high_watermark < r->high_watermark[partition])
        sim_fail(t->world, "partition %u: the high watermark went back from %ld to %ld", partition,
                 r->high_watermark[partition], p->high_watermark);
    r->high_watermark[partition] = p->high_watermark;
    for (size_t at = 0; at < (size_t)(p->records.size > 0 ? p->records.size : 0) && !sim_failed(t->world);) {
        struct batch_header h;
        enum err e = batch_parse(p->records.data + at, (size_t)p->records.size - at, &h);
        if (e == ERR_TRUNCATED) break;
        if (e != OK) {
            sim_fail(t->world, "partition %u: what was fetched at %ld is no batch: %s", partition, r->next[partition],
                     err_name(e));
            return false;
        }
        int64_t next = take_batch(t, r->client.env->mem, partition, r->next[partition], &h);
        if (next < 0) return false;
        r->next[partition] = next;
        at += h.size;
    }
    return true;
}

static bool fetch_once(struct follower *r) {
    struct broker_test *t = r->test;
    struct arena a;
    arena_init(&a, r->client.env->mem);
    struct kafka_fetch_request_partition parts[PARTITIONS_MAX];
    for (unsigned i = 0; i < t->partitions; i++) {
        kafka_fetch_request_partition_init(&parts[i]);
        parts[i].partition = (int32_t)i;
        parts[i].fetch_offset = r->next[i];
        parts[i].partition_max_bytes = 50000;
    }
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request q;
    struct kafka_fetch_response answer;
    kafka_fetch_request_topic_init(&topic);
    kafka_fetch_request_init(&q);
    topic.topic = kafka_string_of(TOPIC);
    topic.partitions.items = parts;
    topic.partitions.count = (int32_t)t->partitions;
    q.max_wait_ms = (int32_t)sim_between(t->world, 0, 500);
    q.min_bytes = 1;
    q.max_bytes = 200000;
    q.session_epoch = -1;
    q.rack_id = kafka_string_of("");
    q.topics.items = &topic;
    q.topics.count = 1;
    enum err e = sim_client_call(&r->client, KAFKA_API_FETCH, 11, &q, REQUEST_PATIENCE_NS, &a, &answer);
    bool good = e == OK && answer.error_code == 0 && answer.responses.count == 1;
    for (int32_t i = 0; good && i < answer.responses.items[0].partitions.count; i++)
        good = take_partition(r, &answer.responses.items[0].partitions.items[i]);
    arena_deinit(&a);
    return good;
}

/* As a simple consumer: no member, no generation. */
static bool commit_once(struct follower *r) {
    struct broker_test *t = r->test;
    unsigned partition = (unsigned)sim_between(t->world, 0, t->partitions - 1);
    if (r->next[partition] < t->commit_asked[partition]) return true; /* it began anew: commits only go up */
    struct arena a;
    arena_init(&a, r->client.env->mem);
    struct kafka_offset_commit_request_partition p;
    struct kafka_offset_commit_request_topic topic;
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response answer;
    kafka_offset_commit_request_partition_init(&p);
    kafka_offset_commit_request_topic_init(&topic);
    kafka_offset_commit_request_init(&q);
    p.partition_index = (int32_t)partition;
    p.committed_offset = r->next[partition];
    p.committed_metadata = kafka_string_of("");
    topic.name = kafka_string_of(TOPIC);
    topic.partitions.items = &p;
    topic.partitions.count = 1;
    q.group_id = kafka_string_of(GROUP);
    q.generation_id_or_member_epoch = -1;
    q.member_id = kafka_string_of("");
    q.topics.items = &topic;
    q.topics.count = 1;
    if (t->commit_asked[partition] < p.committed_offset) t->commit_asked[partition] = p.committed_offset;
    enum err e = sim_client_call(&r->client, KAFKA_API_OFFSET_COMMIT, 7, &q, REQUEST_PATIENCE_NS, &a, &answer);
    bool good = e == OK && answer.topics.count == 1 && answer.topics.items[0].partitions.count == 1 &&
                answer.topics.items[0].partitions.items[0].error_code == 0;
    if (good && t->commit_acked[partition] < p.committed_offset) t->commit_acked[partition] = p.committed_offset;
    if (good) t->run->acked++;
    arena_deinit(&a);
    return e == OK;
}

/* What was committed is found. Only one reader commits, and only upwards. */
static bool committed_check(struct follower *r) {
    struct broker_test *t = r->test;
    struct arena a;
    arena_init(&a, r->client.env->mem);
    int32_t indexes[PARTITIONS_MAX];
    int64_t acked[PARTITIONS_MAX];
    for (unsigned i = 0; i < t->partitions; i++) {
        indexes[i] = (int32_t)i;
        acked[i] = t->commit_acked[i];
    }
    struct kafka_offset_fetch_request_topic topic;
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response answer;
    kafka_offset_fetch_request_topic_init(&topic);
    kafka_offset_fetch_request_init(&q);
    topic.name = kafka_string_of(TOPIC);
    topic.partition_indexes.items = indexes;
    topic.partition_indexes.count = (int32_t)t->partitions;
    q.group_id = kafka_string_of(GROUP);
    q.topics.items = &topic;
    q.topics.count = 1;
    enum err e = sim_client_call(&r->client, KAFKA_API_OFFSET_FETCH, 5, &q, REQUEST_PATIENCE_NS, &a, &answer);
    bool good = e == OK && answer.error_code == 0 && answer.topics.count == 1;
    for (int32_t i = 0; good && i < answer.topics.items[0].partitions.count; i++) {
        const struct kafka_offset_fetch_response_partition *p = &answer.topics.items[0].partitions.items[i];
        good = p->error_code == 0;
        if (!good) break;
        int64_t found = p->committed_offset < 0 ? 0 : p->committed_offset;
        if (found < acked[p->partition_index] || found > t->commit_asked[p->partition_index])
            sim_fail(t->world, "partition %d: the committed offset is %ld; %ld was acknowledged, %ld asked for",
                     p->partition_index, found, acked[p->partition_index], t->commit_asked[p->partition_index]);
        t->run->ops++;
    }
    arena_deinit(&a);
    return good;
}

static void reader_main(void *arg) {
    struct broker_test *t = arg;
    struct env *env = loop_current()->env;
    struct follower r = {.test = t, .commits = t->readers[0] == sim_node_of(env)};
    sim_client_init(&r.client, env);
    while (load_goes_on(t)) {
        if (!r.client.conn) {
            pause_a_little(t);
            if (sim_chance(t->world, 0.1)) memset(r.next, 0, sizeof(r.next)); /* reads everything again */
            if (sim_broker_connect(&t->broker, &r.client) != OK) continue;
        }
        bool good = fetch_once(&r);
        if (good && r.commits && sim_chance(t->world, 0.2)) good = commit_once(&r);
        if (good && r.commits && sim_chance(t->world, 0.1)) good = committed_check(&r);
        if (!good) sim_client_close(&r.client);
        if (sim_chance(t->world, 0.3)) fiber_sleep_ns(sim_between(t->world, 0, 400) * NS_PER_MS);
    }
    sim_client_deinit(&r.client);
}

/* --- The end: everything is read once more, and held against what was promised. */

static void judge_partition(struct broker_test *t, unsigned partition, int64_t end) {
    struct log_model *l = &t->logs[partition];
    if (end < l->end) {
        sim_fail(t->world, "partition %u ends at %ld; %ld was shown", partition, end, l->end);
        return;
    }
    uint32_t last[SENDERS_MAX];
    bool any[SENDERS_MAX] = {false};
    for (int64_t offset = 0; offset < end && !sim_failed(t->world);) {
        const struct seen *s = shown_at(t, l, offset);
        struct item *it = &t->items[s->item];
        it->seen++;
        if (it->idempotent && it->seen > 1)
            sim_fail(t->world, "batch %u of an idempotent producer is there twice", s->item);
        if (it->seen > it->sent) sim_fail(t->world, "batch %u is there more often than it was sent", s->item);
        if (it->idempotent && any[it->sender] && it->order <= last[it->sender])
            sim_fail(t->world, "partition %u: batch %u of producer %u lies behind a later one", partition, s->item,
                     it->sender);
        any[it->sender] = true;
        last[it->sender] = it->order;
        if (it->seen == 1 && it->offset >= 0 && it->offset != offset && it->idempotent)
            sim_fail(t->world, "batch %u was acknowledged at %ld and lies at %ld", s->item, it->offset, offset);
        offset += s->records;
    }
    for (size_t i = 0; i < t->item_count && !sim_failed(t->world); i++) {
        const struct item *it = &t->items[i];
        if (it->partition != partition || it->offset < 0) continue;
        const struct seen *s = it->offset < end ? shown_at(t, l, it->offset) : NULL;
        if (!s || s->records == 0 || s->item != i)
            sim_fail(t->world, "batch %zu was acknowledged at offset %ld of partition %u and is not there", i,
                     it->offset, partition);
    }
}

static void audit_main(void *arg) {
    struct broker_test *t = arg;
    struct follower r = {.test = t, .audit = true};
    sim_client_init(&r.client, loop_current()->env);
    uint64_t give_up_ns = t->world->now_ns + 600 * NS_PER_S;
    bool whole = false;
    while (!whole && !sim_failed(t->world) && t->world->now_ns < give_up_ns) {
        if (!r.client.conn && sim_broker_connect(&t->broker, &r.client) != OK) {
            pause_a_little(t);
            continue;
        }
        if (!fetch_once(&r)) {
            sim_client_close(&r.client);
            pause_a_little(t);
            continue;
        }
        whole = true;
        for (unsigned i = 0; i < t->partitions; i++) whole = whole && r.next[i] == r.high_watermark[i];
        if (whole) whole = committed_check(&r);
    }
    if (!whole && !sim_failed(t->world)) sim_fail(t->world, "not everything is served though nothing is broken");
    for (unsigned i = 0; i < t->partitions && !sim_failed(t->world); i++) judge_partition(t, i, r.next[i]);
    t->audited = true;
    sim_client_deinit(&r.client);
}

/* --- The driver. */

static void choose(struct broker_test *t) {
    struct sim_world *w = t->world;
    t->partitions = (unsigned)sim_between(w, 1, PARTITIONS_MAX);
    t->sender_count = (unsigned)sim_between(w, 1, SENDERS_MAX);
    t->reader_count = (unsigned)sim_between(w, 1, READERS_MAX);
    sim_broker_init(&t->broker, t->run);
}

static void trouble(struct broker_test *t) {
    struct sim_world *w = t->world;
    if (!sim_broker_trouble(&t->broker)) return;
    struct sim_node *broker = t->broker.machines[t->broker.at];
    if (sim_chance(w, t->broker.crash)) {
        struct sim_node *client = t->senders[sim_between(w, 0, t->sender_count - 1)];
        bool to = sim_chance(w, 0.5), from = !to || sim_chance(w, 0.5);
        if (to) sim_net_cut(w, broker, client, true);
        if (from) sim_net_cut(w, client, broker, true);
    } else if (sim_chance(w, 0.3)) {
        sim_net_heal(w);
    }
}

void workload_broker(struct sim_run *r) {
    struct sim_world *w = r->world;
    struct broker_test *t = MEM_NEW(sim_run_mem(r), struct broker_test);
    t->run = r;
    t->world = w;
    choose(t);
    char name[32];
    sim_broker_begin(&t->broker, TOPIC, t->partitions);
    for (unsigned i = 0; i < t->sender_count; i++) {
        (void)snprintf(name, sizeof(name), "sender%u", i);
        t->senders[i] = sim_node_create(w, name);
        sim_node_start(t->senders[i], sender_main, t);
    }
    for (unsigned i = 0; i < t->reader_count; i++) {
        (void)snprintf(name, sizeof(name), "reader%u", i);
        t->readers[i] = sim_node_create(w, name);
        sim_node_start(t->readers[i], reader_main, t);
    }
    uint64_t end_ns = w->now_ns + 10 * NS_PER_S + sim_run_load_ns(r, 1);
    while (w->now_ns < end_ns && !sim_failed(w)) {
        fiber_sleep_ns(sim_between(w, 10, 3000) * NS_PER_MS);
        trouble(t);
    }
    sim_run_heal(r);
    sim_net_heal(w);
    t->load_over = true;
    for (unsigned i = 0; i < t->sender_count && !sim_failed(w); i++) {
        if (!sim_run_wait_down(r, t->senders[i], 600 * NS_PER_S)) sim_fail(w, "a producer does not end");
    }
    for (unsigned i = 0; i < t->reader_count && !sim_failed(w); i++) {
        if (!sim_run_wait_down(r, t->readers[i], 600 * NS_PER_S)) sim_fail(w, "a reader does not end");
    }
    struct sim_node *auditor = sim_node_create(w, "auditor");
    sim_node_start(auditor, audit_main, t);
    sim_broker_end(&t->broker, &t->audited);
    for (unsigned i = 0; i < PARTITIONS_MAX; i++) mem_free(sim_run_mem(r), t->logs[i].shown);
}
