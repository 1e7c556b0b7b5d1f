#include "cli/producer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/partitioner.h"

/* From version 13 on topics are named by their ids. */
#define PRODUCE_VERSION_MAX 12
#define SUBJECT_SIZE 512u
#define RECORD_OVERHEAD 32u /* more than the lengths and deltas of a record take */

/* --- Beginning and end. */

static enum err producer_id_ask(struct producer *p, struct arena *a) {
    struct client *c = p->client;
    uint64_t deadline_ns = client_deadline_ns(c);
    for (unsigned attempt = 0;; attempt++) {
        struct client_conn *cc;
        struct kafka_init_producer_id_request q;
        struct kafka_init_producer_id_response r;
        kafka_init_producer_id_request_init(&q);
        q.transactional_id = (struct kafka_string){NULL, -1};
        q.transaction_timeout_ms = 60000;
        enum err e = client_any(c, &cc);
        if (e == OK) e = client_call(cc, KAFKA_API_INIT_PRODUCER_ID, CLIENT_ANY_VERSION, &q, a, &r);
        if (e != OK) return e;
        if (r.error_code == 0) {
            p->producer_id = r.producer_id;
            p->producer_epoch = r.producer_epoch;
            return OK;
        }
        if (!client_code_retriable(r.error_code) || env_now_ns(c->env) >= deadline_ns || c->stopping) {
            return client_fail_code(c, "asking for a producer id", r.error_code, (struct kafka_string){NULL, -1});
        }
        env_backoff(c->env, attempt, 50 * NS_PER_MS, NS_PER_S);
    }
}

static void lane_init(struct producer *p, struct lane *l, const struct kafka_metadata_response_partition *from) {
    struct mem *m = &p->client->mem;
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = p->options.codec;
    if (p->options.idempotent) {
        o.producer_id = p->producer_id;
        o.producer_epoch = p->producer_epoch;
        o.base_sequence = 0;
    }
    *l = (struct lane){.index = from->partition_index, .leader = from->leader_id, .due_ns = UINT64_MAX};
    batch_builder_init(&l->builder, m, &o);
    buf_init(&l->lines, m);
    buf_init(&l->bytes, m);
    buf_init(&l->sent_lines, m);
}

static size_t lane_find(const struct producer *p, int32_t index) {
    for (size_t i = 0; i < p->lane_count; i++) {
        if (p->lanes[i].index == index) return i;
    }
    return SIZE_MAX;
}

enum err producer_start(struct producer *p, struct client *c, const struct producer_options *o) {
    *p = (struct producer){.client = c, .options = *o, .producer_id = -1, .producer_epoch = -1};
    uint64_t seed;
    env_random(c->env, &seed, sizeof(seed));
    rng_seed(&p->rng, seed);
    struct arena a;
    const struct kafka_metadata_response_topic *t;
    arena_init(&a, &c->mem);
    enum err e = client_topic(c, o->topic, &a, &t);
    if (e == OK && o->idempotent) e = producer_id_ask(p, &a);
    if (e == OK && t->partitions.count < 1) e = client_fail(c, ERR_PROTOCOL, "topic '%s' has no partitions", o->topic);
    if (e == OK && o->partition >= t->partitions.count) {
        e = client_fail(c, ERR_NOT_FOUND, "topic '%s' has no partition %d, only %d from 0 on", o->topic,
                        (int)o->partition, (int)t->partitions.count);
    }
    if (e == OK) {
        p->lane_count = (size_t)t->partitions.count;
        p->lanes = mem_zalloc(&c->mem, p->lane_count * sizeof(*p->lanes));
        for (size_t i = 0; i < p->lane_count; i++) lane_init(p, &p->lanes[i], &t->partitions.items[i]);
        for (int32_t i = 0; i < t->partitions.count; i++) {
            if (lane_find(p, i) == SIZE_MAX)
                e = client_fail(c, ERR_PROTOCOL, "topic '%s' lacks its partition %d", o->topic, (int)i);
        }
        p->sticky = rng_below(&p->rng, p->lane_count);
    }
    arena_deinit(&a);
    if (e != OK) producer_end(p);
    return e;
}

void producer_end(struct producer *p) {
    for (size_t i = 0; i < p->lane_count; i++) {
        batch_builder_deinit(&p->lanes[i].builder);
        buf_deinit(&p->lanes[i].lines);
        buf_deinit(&p->lanes[i].bytes);
        buf_deinit(&p->lanes[i].sent_lines);
    }
    mem_free(&p->client->mem, p->lanes);
    p->lanes = NULL;
    p->lane_count = 0;
}

/* --- What an answer means. */

static uint64_t line_at(const struct buf *lines, size_t i) {
    uint64_t v;
    ASSERT((i + 1) * sizeof(v) <= lines->size);
    memcpy(&v, lines->data + i * sizeof(v), sizeof(v));
    return v;
}

/* "line 7", "lines 7 to 90 (12 records)", and where they were to go. */
static void lane_subject(const struct producer *p, const struct lane *l, int32_t record, char out[SUBJECT_SIZE]) {
    char place[SUBJECT_SIZE / 2];
    (void)snprintf(place, sizeof(place), "topic '%.160s' partition %d", p->options.topic, (int)l->index);
    uint64_t first = line_at(&l->sent_lines, 0), last = line_at(&l->sent_lines, (size_t)l->sent_count - 1);
    if (record >= 0 && record < l->sent_count) first = last = line_at(&l->sent_lines, (size_t)record);
    if (first == last) {
        (void)snprintf(out, SUBJECT_SIZE, "line %" PRIu64 " (%s)", first, place);
    } else {
        (void)snprintf(out, SUBJECT_SIZE, "lines %" PRIu64 " to %" PRIu64 ", of which %d go together (%s)", first, last,
                       (int)l->sent_count, place);
    }
}

static void lane_acknowledged(struct producer *p, struct lane *l) {
    p->records += (uint64_t)l->sent_count;
    p->bytes += l->bytes.size;
    p->batches++;
    l->bytes.size = 0;
    l->sent_lines.size = 0;
    l->sent_count = 0;
}

static enum err answer_take(struct producer *p, const struct kafka_produce_response *r) {
    for (int32_t i = 0; i < r->responses.count; i++) {
        const struct kafka_produce_response_topic *t = &r->responses.items[i];
        for (int32_t k = 0; k < t->partition_responses.count; k++) {
            const struct kafka_produce_response_partition *x = &t->partition_responses.items[k];
            size_t at = lane_find(p, x->index);
            if (at == SIZE_MAX || p->lanes[at].bytes.size == 0) continue;
            struct lane *l = &p->lanes[at];
            /* An old duplicate: it was stored, and its answer was lost. */
            if (x->error_code == 0 || (p->options.idempotent && x->error_code == KAFKA_DUPLICATE_SEQUENCE_NUMBER)) {
                lane_acknowledged(p, l);
            } else if (!client_code_retriable(x->error_code)) {
                char subject[SUBJECT_SIZE];
                bool one = x->record_errors.count > 0;
                lane_subject(p, l, one ? x->record_errors.items[0].batch_index : -1, subject);
                return client_fail_code(p->client, subject, x->error_code,
                                        one && x->record_errors.items[0].batch_index_error_message.size > 0
                                            ? x->record_errors.items[0].batch_index_error_message
                                            : x->error_message);
            } else {
                (void)client_fail_code(p->client, p->options.topic, x->error_code, x->error_message);
            }
        }
    }
    return OK;
}

/* --- Sending. */

struct flight {
    struct client_conn *conn;
    int32_t leader;
};

/* One request with all batches that wait for this leader. */
static enum err leader_send(struct producer *p, int32_t leader, struct arena *a, struct client_conn **out) {
    struct client *c = p->client;
    enum err e = client_node(c, leader, out);
    if (e != OK) return e;
    struct kafka_produce_request q;
    kafka_produce_request_init(&q);
    q.transactional_id = (struct kafka_string){NULL, -1};
    q.acks = p->options.acks;
    uint64_t timeout_ms = c->timeout_ns / NS_PER_MS;
    q.timeout_ms = timeout_ms < 30000 ? (int32_t)timeout_ms : 30000;
    q.topic_data.items = kafka_produce_request_topic_new(a, 1);
    q.topic_data.count = 1;
    q.topic_data.items[0].name = kafka_string_of(p->options.topic);
    q.topic_data.items[0].partition_data.items = kafka_produce_request_partition_new(a, p->lane_count);
    q.topic_data.items[0].partition_data.count = 0;
    for (size_t i = 0; i < p->lane_count; i++) {
        const struct lane *l = &p->lanes[i];
        if (l->leader != leader || l->bytes.size == 0) continue;
        struct kafka_produce_request_partition *x =
            &q.topic_data.items[0].partition_data.items[q.topic_data.items[0].partition_data.count++];
        x->index = l->index;
        x->records = (struct kafka_records){.data = l->bytes.data, .size = (int32_t)l->bytes.size};
    }
    return client_send(*out, KAFKA_API_PRODUCE, PRODUCE_VERSION_MAX, &q);
}

/* Sends everything that waits, once. What was not acknowledged stays; its reason is in client.why. An error ends it
 * all. */
static enum err round_send(struct producer *p, struct arena *a) {
    struct flight *flights = arena_alloc(a, p->lane_count * sizeof(*flights));
    size_t count = 0;
    enum err fatal = OK;
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *l = &p->lanes[i];
        bool known = l->bytes.size == 0 || l->leader < 0;
        for (size_t k = 0; k < count && !known; k++) known = flights[k].leader == l->leader;
        if (known) continue;
        flights[count] = (struct flight){NULL, l->leader};
        struct client_conn *cc = NULL;
        enum err e = leader_send(p, l->leader, a, &cc);
        if (e == OK) flights[count].conn = cc;
        if (e == ERR_UNSUPPORTED_VERSION || e == ERR_TOO_LARGE) fatal = e;
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        if (!flights[i].conn) continue;
        if (p->options.acks == 0) {
            enum err e = client_forget(flights[i].conn);
            for (size_t k = 0; e == OK && k < p->lane_count; k++) {
                if (p->lanes[k].leader == flights[i].leader && p->lanes[k].bytes.size > 0)
                    lane_acknowledged(p, &p->lanes[k]);
            }
            continue;
        }
        struct kafka_produce_response r;
        if (client_await(flights[i].conn, 0, a, &r) != OK) continue;
        enum err e = answer_take(p, &r);
        if (fatal == OK) fatal = e;
    }
    return fatal;
}

/* Where the partitions are led now. A cluster that does not answer is asked again later. */
static void leaders_refresh(struct producer *p) {
    struct arena a;
    struct kafka_metadata_response r;
    struct kafka_string name = kafka_string_of(p->options.topic);
    arena_init(&a, &p->client->mem);
    if (client_metadata(p->client, &name, 1, &a, &r) == OK) {
        const struct kafka_metadata_response_topic *t = client_find_topic(&r, name);
        for (size_t i = 0; i < p->lane_count; i++) {
            const struct kafka_metadata_response_partition *x = client_find_partition(t, p->lanes[i].index);
            if (x && x->leader_id >= 0) p->lanes[i].leader = x->leader_id;
        }
    }
    arena_deinit(&a);
}

static bool under_way(const struct producer *p) {
    for (size_t i = 0; i < p->lane_count; i++) {
        if (p->lanes[i].bytes.size > 0) return true;
    }
    return false;
}

/* Until everything finished is acknowledged. */
static enum err deliver(struct producer *p) {
    struct client *c = p->client;
    uint64_t deadline_ns = client_deadline_ns(c);
    for (unsigned attempt = 0; under_way(p); attempt++) {
        struct arena a;
        uint64_t before = p->records;
        arena_init(&a, &c->mem);
        enum err e = round_send(p, &a);
        arena_deinit(&a);
        if (e != OK) return e;
        if (!under_way(p)) break;
        if (p->records != before) deadline_ns = client_deadline_ns(c);
        if (env_now_ns(c->env) >= deadline_ns) {
            char why[CLIENT_WHY_SIZE], subject[SUBJECT_SIZE];
            memcpy(why, c->why, sizeof(why));
            for (size_t i = 0; i < p->lane_count; i++) {
                if (p->lanes[i].bytes.size == 0) continue;
                lane_subject(p, &p->lanes[i], -1, subject);
                break;
            }
            return client_fail(c, ERR_TIMEOUT, "%.300s: not acknowledged within %" PRIu64 " ms: %.400s", subject,
                               (uint64_t)(c->timeout_ns / NS_PER_MS), why);
        }
        p->retries++;
        env_backoff(c->env, attempt, 50 * NS_PER_MS, NS_PER_S);
        leaders_refresh(p);
    }
    return OK;
}

/* --- Gathering. */

static enum err lane_finish(struct producer *p, struct lane *l) {
    ASSERT(l->bytes.size == 0 && l->builder.count > 0);
    l->sent_count = l->builder.count;
    l->builder.options.base_offset = 0;
    struct buf lines = l->sent_lines;
    l->sent_lines = l->lines;
    l->lines = lines;
    l->due_ns = UINT64_MAX;
    enum err e = batch_builder_finish(&l->builder, &l->bytes);
    if (e == OK) return OK;
    char subject[SUBJECT_SIZE];
    lane_subject(p, l, -1, subject);
    return client_fail(p->client, e, "%s: the batch cannot be made: %s", subject, err_text(e));
}

enum err producer_flush(struct producer *p, bool everything) {
    uint64_t now_ns = env_now_ns(p->client->env);
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *l = &p->lanes[i];
        if (l->builder.count == 0 || (!everything && l->due_ns > now_ns)) continue;
        enum err e = lane_finish(p, l);
        if (e != OK) return e;
        /* The next records without a key begin another batch, elsewhere. */
        if (i == p->sticky) p->sticky = rng_below(&p->rng, p->lane_count);
    }
    return deliver(p);
}

uint64_t producer_due_ns(const struct producer *p) {
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < p->lane_count; i++) {
        if (p->lanes[i].due_ns < due) due = p->lanes[i].due_ns;
    }
    return due;
}

enum err producer_add(struct producer *p, uint64_t line, const void *key, size_t key_size, const void *value,
                      size_t value_size, const struct batch_record_header *headers, size_t header_count) {
    struct env *env = p->client->env;
    size_t size = key_size + value_size + RECORD_OVERHEAD;
    for (size_t i = 0; i < header_count; i++) size += (size_t)headers[i].key_size + (size_t)headers[i].value_size + 8;
    for (;;) {
        size_t at = p->options.partition >= 0 ? lane_find(p, p->options.partition)
                    : key                     ? lane_find(p, partition_of_key(key, key_size, (int32_t)p->lane_count))
                                              : p->sticky;
        struct lane *l = &p->lanes[at];
        if (l->builder.count > 0 && l->builder.records.size + size > p->options.batch_bytes) {
            l->due_ns = 0;
            enum err e = producer_flush(p, false);
            if (e != OK) return e;
            continue; /* the sticky partition may be another one now */
        }
        if (l->builder.count == 0) l->due_ns = env_now_ns(env) + p->options.linger_ns;
        batch_builder_add(&l->builder, env_wall_ms(env), key, key_size, value, value_size, headers, header_count);
        buf_put(&l->lines, &line, sizeof(line));
        return OK;
    }
}
