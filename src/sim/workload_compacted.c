/* Workload "compacted": a topic that is compacted all the time while clients write to it and read it, and its broker is
 * killed, loses power, stands still, moves, is overtaken. Sizes are small (segments, objects, the map of keys), so that
 * a run has many passes, of which many are cut short, and passes that need several maps.
 *
 * Each key is written by one client, one record after the other, as versions that count up; some are tombstones. What is
 * known of a record: what was sent, and its offset, once that was acknowledged or shown.
 *
 * Promises:
 *  - an offset holds one record for ever, with its key, value and time: what is left of a batch is where it was;
 *  - whoever reads from the beginning to the end meets offsets that rise, and for each key, as the last of it, the newest
 *    record that was acknowledged before, or one behind it; so also while a pass is under way;
 *  - a tombstone stays for delete.retention.ms (where runs cannot tell, for clocks differ by hours, it is for ever);
 *  - the end of the log is where it was, and its beginning too;
 *  - in the end, when the segments of all that was written are closed, of each key one record is left, and no older one. */
#include <stdio.h>
#include <string.h>

#include "kafka/error.h"
#include "sim/broker_node.h"
#include "sim/check_partition.h"
#include "sim/history.h"
#include "sim/net.h"
#include "sim/workloads.h"

#define TOPIC "facts"
#define PARTITIONS_MAX 2u
#define WRITERS_MAX 3u
#define READERS_MAX 2u
#define KEYS_MAX 24u   /* of a writer */
#define RECORDS_MAX 4u /* of a batch */
#define VALUE_MAX 300u /* of a value, beside its version */
#define OFFSETS_MAX 60000u
#define PATIENCE_NS (40 * NS_PER_S)
#define CLEAN_WITHIN_NS (900 * NS_PER_S)

struct fact { /* a record, by its offset; version 0: not known */
    uint32_t key, version;
    bool tombstone;
    int64_t timestamp;
    uint64_t acked_by; /* incarnation; 0: not acknowledged */
};

struct facts {
    struct fact *items; /* OFFSETS_MAX */
    int64_t end;        /* above all that is known */
};

struct test;
struct player {
    struct test *test;
    struct sim_node *node;
    unsigned number;
};

struct test {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_broker broker;
    struct facts facts[PARTITIONS_MAX];
    unsigned partitions, writers, readers, keys;
    bool over, audited;
    bool tombstones_go; /* delete.retention.ms is short */
    bool lags;
    struct player players[WRITERS_MAX + READERS_MAX];
    unsigned player_count;
    unsigned tombstones_sent[(WRITERS_MAX + 1) * KEYS_MAX]; /* not answered yet */
    bool loose_tombstone[(WRITERS_MAX + 1) * KEYS_MAX];     /* one of unknown outcome was written for the key */
    int64_t filler_from[PARTITIONS_MAX];                    /* below it everything has to be compacted, in the end */
};

/* ---- records ---- */

static uint32_t key_writer(uint32_t key) {
    return key / KEYS_MAX;
}

static void key_text(uint32_t key, char out[16]) {
    (void)snprintf(out, 16, "k%u", key);
}

/* The value says which version it is; its bytes follow from key and version. */
static size_t value_make(uint32_t key, uint32_t version, uint8_t *out) {
    uint64_t id = hash64((uint64_t)key << 32 | version);
    size_t size = id % VALUE_MAX;
    be32_put(out, version);
    sim_payload_fill(id, out + 4, size);
    return size + 4;
}

static bool value_is(uint32_t key, const uint8_t *value, int32_t size, uint32_t *version) {
    uint8_t expected[VALUE_MAX + 4];
    if (size < 4) return false;
    *version = be32_get(value);
    size_t n = value_make(key, *version, expected);
    return n == (size_t)size && memcmp(expected, value, n) == 0;
}

#define FAIL(t, ...) sim_fail((t)->world, __VA_ARGS__)

/* A record lies at that offset, as was told or shown. Of tombstones the version is not shown: 0. */
static void fact_note(struct test *t, unsigned partition, int64_t offset, const struct fact *f) {
    struct facts *all = &t->facts[partition];
    if (offset < 0 || offset >= (int64_t)OFFSETS_MAX) {
        FAIL(t, "%s-%u: offset %ld", TOPIC, partition, offset);
        return;
    }
    struct fact *known = &all->items[offset];
    bool same = known->version == 0 ||
                (known->key == f->key && known->tombstone == f->tombstone && known->timestamp == f->timestamp &&
                 (known->version == f->version || known->version == UINT32_MAX || f->version == UINT32_MAX));
    if (!same)
        FAIL(t, "%s-%u: offset %ld is version %u of key %u%s from %ld, and was version %u of key %u%s from %ld", TOPIC,
             partition, offset, f->version, f->key, f->tombstone ? " (tombstone)" : "", f->timestamp, known->version,
             known->key, known->tombstone ? " (tombstone)" : "", known->timestamp);
    uint64_t acked_by = known->acked_by ? known->acked_by : f->acked_by;
    if (known->version == 0 || known->version == UINT32_MAX) *known = *f;
    known->acked_by = acked_by;
    if (offset >= all->end) all->end = offset + 1;
}

/* ---- writing ---- */

struct writer {
    struct player *me;
    struct sim_client client;
    uint32_t versions[KEYS_MAX];
    int64_t producer; /* -1: plain */
    int32_t sequence;
};

struct written {
    uint32_t key, version;
    bool tombstone;
    int64_t timestamp;
};

/* Gives the code, and the base offset. False: nobody knows what became of it. */
static bool produce(struct test *t, struct sim_client *c, unsigned partition, const struct buf *batch, int16_t *code,
                    int64_t *base) {
    struct kafka_produce_request_partition part = {.index = (int32_t)partition,
                                                   .records = {.data = batch->data, .size = (int32_t)batch->size}};
    struct kafka_produce_request_topic topic;
    struct kafka_produce_request q;
    struct kafka_produce_response r;
    kafka_produce_request_topic_init(&topic);
    kafka_produce_request_init(&q);
    topic.name = kafka_string_of(TOPIC);
    topic.partition_data.items = &part;
    topic.partition_data.count = 1;
    q.transactional_id = (struct kafka_string){NULL, -1};
    q.acks = -1;
    q.timeout_ms = 30000;
    q.topic_data.items = &topic;
    q.topic_data.count = 1;
    struct arena a;
    arena_init(&a, c->env->mem);
    enum err e = sim_client_call(c, KAFKA_API_PRODUCE, 9, &q, PATIENCE_NS, &a, &r);
    if (e == ERR_PROTOCOL) FAIL(t, "an answer to Produce that is none");
    bool good = e == OK && r.responses.count == 1 && r.responses.items[0].partition_responses.count == 1;
    if (good) {
        *code = r.responses.items[0].partition_responses.items[0].error_code;
        *base = r.responses.items[0].partition_responses.items[0].base_offset;
    }
    arena_deinit(&a);
    return good;
}

static void make(struct env *env, const struct writer *w, const struct written *records, unsigned count, unsigned codec,
                 struct buf *out) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = (enum kafka_codec)codec;
    if (w && w->producer >= 0) {
        o.producer_id = w->producer;
        o.producer_epoch = 0;
        o.base_sequence = w->sequence;
    }
    struct batch_builder b;
    batch_builder_init(&b, env->mem, &o);
    for (unsigned i = 0; i < count; i++) {
        char key[16];
        uint8_t value[VALUE_MAX + 4];
        key_text(records[i].key, key);
        size_t size = value_make(records[i].key, records[i].version, value);
        batch_builder_add(&b, records[i].timestamp, key, strlen(key), records[i].tombstone ? NULL : value,
                          records[i].tombstone ? 0 : size, NULL, 0);
    }
    enum err e = batch_builder_finish(&b, out);
    ASSERT(e == OK);
    batch_builder_deinit(&b);
}

static void note_written(struct test *t, unsigned partition, int64_t base, const struct written *r, unsigned count,
                         uint64_t inc) {
    for (unsigned i = 0; i < count && !sim_failed(t->world); i++) {
        struct fact f = {r[i].key, r[i].version, r[i].tombstone, r[i].timestamp, inc};
        fact_note(t, partition, base + i, &f);
    }
}

/* False: the connection, and the producer's id, are of no use any more. */
static bool write_batch(struct writer *w) {
    struct test *t = w->me->test;
    struct sim_world *world = t->world;
    struct written records[RECORDS_MAX];
    unsigned count = (unsigned)sim_between(world, 1, RECORDS_MAX);
    uint32_t first = w->me->number * KEYS_MAX;
    /* A key has one partition. */
    unsigned partition = (unsigned)sim_between(world, 0, t->partitions - 1), n = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned k = (unsigned)sim_between(world, 0, t->keys - 1) / t->partitions * t->partitions + partition;
        if (k >= KEYS_MAX) continue;
        records[n++] = (struct written){first + k, ++w->versions[k], sim_chance(world, 0.12),
                                        env_wall_ms(w->client.env) - (int64_t)sim_between(world, 0, 2000)};
    }
    if (n == 0) return true;
    struct buf batch;
    buf_init(&batch, w->client.env->mem);
    make(w->client.env, w, records, n, sim_chance(world, 0.5) ? (unsigned)sim_between(world, 0, 4) : 0, &batch);
    int16_t code = 0;
    int64_t base = -1;
    t->run->ops++;
    for (unsigned i = 0; i < n; i++) t->tombstones_sent[records[i].key] += records[i].tombstone;
    bool answered = produce(t, &w->client, partition, &batch, &code, &base);
    for (unsigned i = 0; i < n; i++) t->tombstones_sent[records[i].key] -= records[i].tombstone;
    buf_deinit(&batch);
    sim_note(world, w->me->node, sim_subject(TOPIC, (int32_t)partition),
             "writes version %u of key %u and %u more: %s at %ld", records[0].version, records[0].key, n - 1,
             answered ? kafka_error_name(code) : "no answer", base);
    bool done = answered && code == 0;
    for (unsigned i = 0; i < n && !done; i++) t->loose_tombstone[records[i].key] |= records[i].tombstone;
    if (!done) return false;
    t->run->acked++;
    w->sequence += (int32_t)n;
    note_written(t, partition, base, records, n, sim_broker_incarnation(&t->broker, &w->client));
    return true;
}

static void write_main(void *arg) {
    struct writer w = {.me = arg, .producer = -1};
    struct test *t = w.me->test;
    bool idempotent = sim_chance(t->world, 0.5);
    unsigned partition_seen = t->partitions;
    sim_client_init(&w.client, loop_current()->env);
    while (!t->over && !sim_failed(t->world)) {
        if (!w.client.conn) {
            fiber_sleep_ns(sim_between(t->world, 10, 500) * NS_PER_MS);
            if (sim_broker_connect(&t->broker, &w.client, true) != OK) continue;
            /* A sequence is of one partition: with several they do without. */
            w.producer = idempotent && partition_seen == 1 ? (int64_t)sim_between(t->world, 1, INT64_MAX / 2) : -1;
            w.sequence = 0;
        }
        if (!write_batch(&w)) sim_client_close(&w.client);
        if (sim_chance(t->world, 0.3)) fiber_sleep_ns(sim_between(t->world, 0, 100) * NS_PER_MS);
    }
    sim_client_deinit(&w.client);
}

/* ---- reading ---- */

struct reading {
    struct test *test;
    struct sim_client *client;
    unsigned partition;
    int64_t next, high_watermark;
    uint64_t inc;
    int64_t *last;  /* of each key: the highest offset that was met; -1: none */
    uint32_t twice; /* records below the filler of which a newer one was met */
    int64_t twice_at;
};

static bool take_record(struct reading *r, const struct batch_record *m) {
    struct test *t = r->test;
    char key[16];
    uint32_t number = 0;
    if (m->key_size > 1 && m->key_size < 10 && m->key[0] == 'k') {
        for (int32_t i = 1; i < m->key_size; i++) number = number * 10 + (uint32_t)(m->key[i] - '0');
    }
    key_text(number, key);
    struct fact f = {number, UINT32_MAX, m->value_size < 0, m->timestamp, 0};
    bool right = key_writer(number) <= WRITERS_MAX && (size_t)m->key_size == strlen(key) &&
                 memcmp(key, m->key, strlen(key)) == 0 &&
                 (f.tombstone || value_is(number, m->value, m->value_size, &f.version));
    if (!right) {
        FAIL(t, "%s-%u: at offset %ld lies what nobody sent", TOPIC, r->partition, m->offset);
        return false;
    }
    fact_note(t, r->partition, m->offset, &f);
    int64_t before = r->last[number];
    if (before >= 0 && m->offset < t->filler_from[r->partition]) {
        r->twice++;
        r->twice_at = before;
    }
    r->last[number] = m->offset;
    return !sim_failed(t->world);
}

static bool take_batches(struct reading *r, const uint8_t *data, size_t size) {
    struct test *t = r->test;
    for (size_t at = 0; at < size && !sim_failed(t->world);) {
        struct batch_header h;
        enum err e = batch_parse(data + at, size - at, &h);
        if (e == ERR_TRUNCATED) break;
        struct batch_iterator it;
        if (e == OK) e = batch_iterator_init(&it, r->client->env->mem, &h, 1u << 24);
        if (e != OK || batch_end_offset(&h) <= r->next) {
            if (e == OK) batch_iterator_deinit(&it);
            FAIL(t, "%s-%u: what was fetched at %ld is no batch, or one that ends below: %s", TOPIC, r->partition,
                 r->next, err_name(e));
            return false;
        }
        struct batch_record m;
        int64_t offset = h.base_offset - 1;
        while ((e = batch_iterator_next(&it, &m)) == OK) {
            if (m.offset <= offset)
                FAIL(t, "%s-%u: offset %ld comes behind %ld", TOPIC, r->partition, m.offset, offset);
            offset = m.offset;
            if (m.offset >= r->next && !take_record(r, &m)) break;
        }
        batch_iterator_deinit(&it);
        if (e != ERR_NOT_FOUND && !sim_failed(t->world))
            FAIL(t, "%s-%u: the batch at %ld cannot be read: %s", TOPIC, r->partition, h.base_offset, err_name(e));
        r->next = batch_end_offset(&h);
        at += h.size;
    }
    return !sim_failed(t->world);
}

/* False: no answer that helps. */
static bool fetch(struct reading *r) {
    struct test *t = r->test;
    struct sim_client_fetch f;
    struct kafka_fetch_response answer;
    sim_client_fetch_init(&f, TOPIC, (int32_t)r->partition, r->next, (int32_t)sim_between(t->world, 100, 20000));
    struct arena a;
    arena_init(&a, r->client->env->mem);
    enum err e = sim_client_call(r->client, KAFKA_API_FETCH, 11, &f.q, PATIENCE_NS, &a, &answer);
    if (e == ERR_PROTOCOL) FAIL(t, "an answer to Fetch that is none");
    bool good = e == OK && answer.error_code == 0 && answer.responses.count == 1;
    if (good) {
        const struct kafka_fetch_response_partition *got = &answer.responses.items[0].partitions.items[0];
        good = got->error_code == 0;
        /* One that was overtaken may not have come as far; nothing is ever deleted. */
        if (got->error_code == KAFKA_OFFSET_OUT_OF_RANGE && r->next == 0)
            FAIL(t, "%s-%u: offset 0 is out of range", TOPIC, r->partition);
        if (good && got->log_start_offset != 0)
            FAIL(t, "%s-%u: the log begins at %ld", TOPIC, r->partition, got->log_start_offset);
        r->high_watermark = got->high_watermark;
        int64_t before = r->next;
        if (good && got->records.size > 0)
            good = take_batches(r, got->records.data, (size_t)got->records.size);
        else if (good && r->next < r->high_watermark)
            FAIL(t, "%s-%u: nothing is given at offset %ld, below the high watermark of %ld", TOPIC, r->partition,
                 before, r->high_watermark);
    }
    arena_deinit(&a);
    return good && !sim_failed(t->world);
}

#define READINGS 4u

/* The newest of each key that was acknowledged, by then. */
static void expected(const struct test *t, unsigned partition, uint64_t inc, int64_t *newest, int64_t *end) {
    const struct facts *all = &t->facts[partition];
    for (uint32_t k = 0; k < (WRITERS_MAX + 1) * KEYS_MAX; k++) newest[k] = -1;
    *end = 0;
    for (int64_t i = 0; i < all->end; i++) {
        const struct fact *f = &all->items[i];
        if (f->version == 0 || f->acked_by == 0 || f->acked_by > inc) continue;
        newest[f->key] = i;
        *end = i + 1;
    }
}

/* There is, or may be, a tombstone behind the one that was the newest when the reading began. */
static bool deleted_since(const struct test *t, unsigned partition, uint32_t key, int64_t newest) {
    const struct facts *all = &t->facts[partition];
    bool deleted = t->loose_tombstone[key] || t->tombstones_sent[key] > 0;
    for (int64_t i = newest; i < all->end && !deleted; i++)
        deleted = all->items[i].key == key && all->items[i].version > 0 && all->items[i].tombstone;
    return deleted;
}

/* Whether what was read is what it should be; false: it may be, and another reading will tell. Whoever reads for longer
 * than delete.retention.ms may see a record, and not the tombstone that followed it. */
static bool judge(const struct reading *r, const int64_t *newest, int64_t end, bool last) {
    struct test *t = r->test;
    if (r->high_watermark < end)
        FAIL(t, "%s-%u: the log ends at %ld; offset %ld was acknowledged", TOPIC, r->partition, r->high_watermark,
             end - 1);
    for (uint32_t k = 0; k < (WRITERS_MAX + 1) * KEYS_MAX && !sim_failed(t->world); k++) {
        if (newest[k] < 0 || r->last[k] >= newest[k]) continue;
        const struct fact *f = &t->facts[r->partition].items[newest[k]];
        bool deleted = deleted_since(t, r->partition, k, newest[k]);
        if (deleted && t->tombstones_go && r->last[k] < 0) continue;
        if (deleted && t->tombstones_go && !last) return false;
        FAIL(t, "%s-%u: of key %u the last that is there is at %ld; version %u%s was acknowledged at %ld", TOPIC,
             r->partition, k, r->last[k], f->version, f->tombstone ? ", a tombstone," : "", newest[k]);
    }
    return true;
}

/* From the beginning to the end. False: it did not get there. twice: as in struct reading, unless NULL. */
static bool read_through(struct test *t, struct sim_client *c, unsigned partition, uint32_t *twice, bool last_time,
                         bool *judged) {
    struct mem *m = sim_run_mem(t->run);
    size_t count = (WRITERS_MAX + 1) * KEYS_MAX;
    int64_t *last = mem_alloc(m, count * sizeof(*last)), *newest = mem_alloc(m, count * sizeof(*newest)), end;
    for (size_t i = 0; i < count; i++) last[i] = -1;
    struct reading r = {.test = t, .client = c, .partition = partition, .last = last, .high_watermark = -1};
    r.inc = sim_broker_incarnation(&t->broker, c);
    expected(t, partition, r.inc, newest, &end);
    bool good = true;
    do {
        good = fetch(&r);
    } while (good && r.next < r.high_watermark);
    if (good) {
        sim_note(t->world, sim_node_of(c->env), sim_subject(TOPIC, (int32_t)partition), "reads all up to %ld", r.next);
        *judged = judge(&r, newest, end, last_time);
    }
    if (twice) *twice = r.twice;
    mem_free(m, last);
    mem_free(m, newest);
    return good && !sim_failed(t->world);
}

static bool read_all(struct test *t, struct sim_client *c, unsigned partition, uint32_t *twice) {
    bool judged = false, good = true;
    for (unsigned i = 0; i < READINGS && good && !judged; i++)
        good = read_through(t, c, partition, twice, i + 1 == READINGS, &judged);
    return good;
}

static void read_main(void *arg) {
    struct player *me = arg;
    struct test *t = me->test;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    while (!t->over && !sim_failed(t->world)) {
        fiber_sleep_ns(sim_between(t->world, 10, 2000) * NS_PER_MS);
        if (!c.conn && sim_broker_connect(&t->broker, &c, true) != OK) continue;
        t->run->ops++;
        unsigned partition = (unsigned)sim_between(t->world, 0, t->partitions - 1);
        if (!read_all(t, &c, partition, NULL)) sim_client_close(&c);
    }
    sim_client_deinit(&c);
}

/* ---- the end ---- */

/* Records with keys of their own, until what was written before lies in segments that are closed. */
static bool fill(struct test *t, struct sim_client *c, unsigned partition) {
    for (unsigned i = 0; i < 30; i++) {
        struct written records[RECORDS_MAX];
        for (unsigned n = 0; n < RECORDS_MAX; n++) {
            uint32_t key = WRITERS_MAX * KEYS_MAX + (i * RECORDS_MAX + n) % KEYS_MAX;
            records[n] = (struct written){key, 1 + i, false, env_wall_ms(c->env)};
        }
        struct buf batch;
        buf_init(&batch, c->env->mem);
        make(c->env, NULL, records, RECORDS_MAX, CODEC_NONE, &batch);
        int16_t code = 0;
        int64_t base = -1;
        bool good = produce(t, c, partition, &batch, &code, &base) && code == 0;
        buf_deinit(&batch);
        if (!good) return false;
        if (i == 0) t->filler_from[partition] = base;
        note_written(t, partition, base, records, RECORDS_MAX, sim_broker_incarnation(&t->broker, c));
    }
    return true;
}

static void audit_main(void *arg) {
    struct test *t = arg;
    struct sim_world *w = t->world;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    uint64_t until_ns = w->now_ns + CLEAN_WITHIN_NS;
    unsigned partition = 0;
    bool filled = false;
    while (partition < t->partitions && !sim_failed(w)) {
        fiber_sleep_ns(NS_PER_S);
        uint32_t twice = 0;
        bool good = c.conn || sim_broker_connect(&t->broker, &c, false) == OK;
        if (good && !filled) {
            good = filled = fill(t, &c, partition);
        } else if (good) {
            good = read_all(t, &c, partition, &twice);
            /* What is too young by the clocks of those who wrote it, which are hours off, stays. */
            if (good && (twice == 0 || t->lags)) {
                partition++;
                filled = false;
                until_ns = w->now_ns + CLEAN_WITHIN_NS;
            }
        }
        if (!good || twice > 0) sim_client_close(&c); /* perhaps it has been overtaken */
        if (w->now_ns >= until_ns)
            FAIL(t,
                 "%s-%u: %u records below %ld of which newer ones are there were not removed though nothing is broken",
                 TOPIC, partition, twice, t->filler_from[partition]);
    }
    sim_client_deinit(&c);
    t->audited = true;
}

/* ---- the run ---- */

static bool make_topic(void *ctx, struct sim_client *c) {
    struct test *t = ctx;
    char segment[24], retention[24], lag[24];
    (void)snprintf(segment, sizeof(segment), "%lu", 1800 + sim_between(t->world, 0, 6000));
    (void)snprintf(retention, sizeof(retention), "%lu",
                   t->tombstones_go ? sim_between(t->world, 0, 5000) : UINT64_C(1) << 60);
    (void)snprintf(lag, sizeof(lag), "%d", t->lags ? 1500 : 0);
    struct kafka_create_topics_request_config configs[] = {
        {.name = kafka_string_of("cleanup.policy"), .value = kafka_string_of("compact")},
        {.name = kafka_string_of("segment.bytes"), .value = kafka_string_of(segment)},
        {.name = kafka_string_of("delete.retention.ms"), .value = kafka_string_of(retention)},
        {.name = kafka_string_of("min.cleanable.dirty.ratio"), .value = kafka_string_of("0")},
        {.name = kafka_string_of("min.compaction.lag.ms"), .value = kafka_string_of(lag)},
    };
    struct kafka_create_topics_request_topic topic;
    struct kafka_create_topics_request q;
    struct kafka_create_topics_response r;
    kafka_create_topics_request_topic_init(&topic);
    kafka_create_topics_request_init(&q);
    topic.name = kafka_string_of(TOPIC);
    topic.num_partitions = (int32_t)t->partitions;
    topic.replication_factor = 1;
    topic.configs.items = configs;
    topic.configs.count = (int32_t)ARRAY_LEN(configs);
    q.topics.items = &topic;
    q.topics.count = 1;
    struct arena a;
    arena_init(&a, c->env->mem);
    enum err e = sim_client_call(c, KAFKA_API_CREATE_TOPICS, 4, &q, PATIENCE_NS, &a, &r);
    bool made = e == OK && r.topics.count == 1 &&
                (r.topics.items[0].error_code == 0 || r.topics.items[0].error_code == KAFKA_TOPIC_ALREADY_EXISTS);
    arena_deinit(&a);
    return made;
}

static void add(struct test *t, const char *name, unsigned number, fiber_fn *main) {
    struct player *p = &t->players[t->player_count++];
    char text[32];
    (void)snprintf(text, sizeof(text), "%s%u", name, number);
    *p = (struct player){.test = t, .node = sim_node_create(t->world, text), .number = number};
    sim_node_start(p->node, main, p);
}

static void choose(struct test *t) {
    struct sim_world *w = t->world;
    t->partitions = sim_chance(w, 0.6) ? 1 : PARTITIONS_MAX;
    t->writers = (unsigned)sim_between(w, 1, WRITERS_MAX);
    t->readers = (unsigned)sim_between(w, 1, READERS_MAX);
    t->keys = (unsigned)sim_between(w, t->partitions, KEYS_MAX);
    t->tombstones_go = sim_chance(w, 0.5);
    t->lags = sim_chance(w, 0.2);
    (void)snprintf(t->broker.clean_backoff, sizeof(t->broker.clean_backoff), "%lu", sim_between(w, 20, 2000));
    /* A slow one is interrupted more often. */
    double most = sim_chance(w, 0.4) ? (double)sim_between(w, 20000, 400000) : 1e12;
    (void)snprintf(t->broker.clean_bytes, sizeof(t->broker.clean_bytes), "%.0f", most);
    for (unsigned i = 0; i < PARTITIONS_MAX; i++)
        t->facts[i].items = mem_zalloc(sim_run_mem(t->run), OFFSETS_MAX * sizeof(struct fact));
}

static void wait_for_players(struct test *t) {
    for (unsigned i = 0; i < t->player_count && !sim_failed(t->world); i++) {
        if (!sim_run_wait_down(t->run, t->players[i].node, 600 * NS_PER_S))
            FAIL(t, "%s does not end", t->players[i].node->name);
    }
}

void workload_compacted(struct sim_run *r) {
    struct sim_world *w = r->world;
    struct test *t = MEM_NEW(sim_run_mem(r), struct test);
    t->run = r;
    t->world = w;
    sim_broker_init(&t->broker, r);
    choose(t);
    sim_broker_begin(&t->broker, make_topic, t);
    for (unsigned i = 0; i < t->writers; i++) add(t, "writer", i, write_main);
    for (unsigned i = 0; i < t->readers; i++) add(t, "reader", i, read_main);
    uint64_t end_ns = w->now_ns + 10 * NS_PER_S + sim_run_load_ns(r, 1);
    while (w->now_ns < end_ns && !sim_failed(w)) {
        fiber_sleep_ns(sim_between(w, 10, 3000) * NS_PER_MS);
        if (!sim_broker_trouble(&t->broker)) continue;
        if (sim_chance(w, t->broker.crash))
            sim_net_cut(w, sim_broker_node(&t->broker), t->players[sim_between(w, 0, t->player_count - 1)].node, true);
        else if (sim_chance(w, 0.3))
            sim_net_heal(w);
    }
    sim_run_heal(r);
    sim_net_heal(w);
    t->over = true;
    wait_for_players(t);
    t->broker.crash = t->broker.takeover = 0;
    struct sim_node *auditor = sim_node_create(w, "auditor");
    sim_node_start(auditor, audit_main, t);
    sim_broker_end(&t->broker, &t->audited);
    sim_broker_deinit(&t->broker);
    for (unsigned i = 0; i < PARTITIONS_MAX; i++) mem_free(sim_run_mem(r), t->facts[i].items);
    mem_free(sim_run_mem(r), t);
}
