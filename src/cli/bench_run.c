/* The run: topics, threads, phases. The fiber of loop 0 leads; it reaches the others by loop_call alone. What happens:
 *
 *   1. Topics that are not there are made; the idle connections, producers and consumers connect.
 *   2. With a backlog, the producers write it at full speed while the consumers know where to begin but do not read.
 *   3. Consumers read, producers begin their timetable. A second after the other, everybody's counts are taken and become
 *      a row; after the warm-up they are added up as what was measured too.
 *   4. The measured time ends: after the duration, or when so many records were acknowledged (without producers: read),
 *      or when all that was to be read is read, or by SIGINT. Producers make no more.
 *   5. What is under way is delivered, and consumers read to the ends of their partitions, so that what was written and
 *      what was read can be compared. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/bench.h"
#include "cli/bench_conn.h"

#define POLL_NS (10 * NS_PER_MS)
#define ROW_NS NS_PER_S
#define OPENERS 32u
#define CREATE_RECORDS_MAX 10000u
#define LATE_NS NS_PER_S /* how long records that are not there yet are waited for, without acknowledgements 5 times */
#define STRANGERS_NS (4 * NS_PER_S) /* a group that stays without all partitions so long has other members */
#define SUBJECT_SIZE 400u

/* --- Counting. */

void bench_count_error(struct bench_counts *c, int16_t code) {
    int at = code + 1;
    if (at < 0 || at >= (int)BENCH_CODES) at = 0;
    c->errors[at]++;
}

void bench_counts_merge(struct bench_counts *into, const struct bench_counts *from) {
    into->in_records += from->in_records;
    into->in_bytes += from->in_bytes;
    into->in_batch_bytes += from->in_batch_bytes;
    into->in_batches += from->in_batches;
    into->in_requests += from->in_requests;
    into->out_records += from->out_records;
    into->out_bytes += from->out_bytes;
    into->out_batch_bytes += from->out_batch_bytes;
    into->out_answers += from->out_answers;
    into->retries += from->retries;
    into->gaps += from->gaps;
    into->backlog_out += from->backlog_out;
    into->idle_lost += from->idle_lost;
    for (size_t i = 0; i < BENCH_CODES; i++) into->errors[i] += from->errors[i];
    histogram_merge(&into->produce, &from->produce);
    histogram_merge(&into->end_to_end, &from->end_to_end);
}

static uint64_t errors_sum(const struct bench_counts *c) {
    uint64_t n = 0;
    for (size_t i = 0; i < BENCH_CODES; i++) n += c->errors[i];
    return n;
}

void bench_thread_fail(struct bench_thread *t, const char *why) {
    if (t->failed) return;
    t->failed = true;
    (void)snprintf(t->client.why, sizeof(t->client.why), "%s", why);
}

const struct bench_topic *bench_topic_find(const struct bench_run *r, struct kafka_string name) {
    if (r->topic_count == 1) return kafka_string_equal(name, kafka_string_of(r->topics[0].name)) ? r->topics : NULL;
    /* Topics are numbered: NAME-0, NAME-1, ... */
    size_t base = strlen(r->settings->topic) + 1, n = 0;
    if (name.size <= (int32_t)base || (size_t)name.size > base + 9) return NULL;
    for (size_t i = base; i < (size_t)name.size; i++) {
        if (name.data[i] < '0' || name.data[i] > '9') return NULL;
        n = n * 10 + (size_t)(name.data[i] - '0');
    }
    if (n >= r->topic_count || !kafka_string_equal(name, kafka_string_of(r->topics[n].name))) return NULL;
    return &r->topics[n];
}

/* --- Topics. */

static enum err topics_create(struct bench_run *r, const struct kafka_string *names, size_t count, struct arena *a) {
    struct client *c = r->client;
    const struct bench_settings *s = r->settings;
    struct client_conn *cc;
    enum err e = client_controller(c, &cc);
    if (e != OK) return e;
    bool defaults = client_version(cc, KAFKA_API_CREATE_TOPICS, CLIENT_ANY_VERSION) >= 4;
    struct kafka_create_topics_request q;
    struct kafka_create_topics_response answer;
    kafka_create_topics_request_init(&q);
    q.timeout_ms = (int32_t)(c->timeout_ns / NS_PER_MS);
    q.topics.items = kafka_create_topics_request_topic_new(a, count);
    q.topics.count = (int32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct kafka_create_topics_request_topic *t = &q.topics.items[i];
        t->name = names[i];
        t->num_partitions = s->partitions ? (int32_t)s->partitions : 1;
        t->replication_factor = s->replication ? (int16_t)s->replication : defaults ? -1 : 1;
        t->configs.items = kafka_create_topics_request_config_new(a, s->config_count);
        t->configs.count = (int32_t)s->config_count;
        for (size_t k = 0; k < s->config_count; k++) {
            t->configs.items[k].name = kafka_string_view(s->configs[k].name, s->configs[k].name_size);
            t->configs.items[k].value = kafka_string_of(s->configs[k].value);
        }
    }
    e = client_call(cc, KAFKA_API_CREATE_TOPICS, CLIENT_ANY_VERSION, &q, a, &answer);
    for (int32_t i = 0; e == OK && i < answer.topics.count; i++) {
        const struct kafka_create_topics_response_topic *t = &answer.topics.items[i];
        if (t->error_code == 0 || t->error_code == KAFKA_TOPIC_ALREADY_EXISTS) continue;
        char subject[SUBJECT_SIZE];
        (void)snprintf(subject, sizeof(subject), "making topic '%.*s'", (int)t->name.size, t->name.data);
        e = client_fail_code(c, subject, t->error_code, t->error_message);
    }
    return e;
}

/* Makes what is not there. *again: not all of them have leaders yet. */
static enum err topics_look(struct bench_run *r, bool *again, struct arena *a) {
    struct client *c = r->client;
    const struct bench_settings *s = r->settings;
    struct kafka_metadata_response m;
    struct kafka_string *names = ARENA_ARRAY(a, struct kafka_string, r->topic_count);
    struct kafka_string *missing = ARENA_ARRAY(a, struct kafka_string, r->topic_count);
    size_t missing_count = 0;
    for (size_t i = 0; i < r->topic_count; i++) names[i] = kafka_string_of(r->topics[i].name);
    enum err e = client_metadata(c, names, (int32_t)r->topic_count, a, &m);
    if (e != OK) return e;
    *again = false;
    r->partition_count = 0;
    for (size_t i = 0; i < r->topic_count; i++) {
        const struct kafka_metadata_response_topic *t = client_find_topic(&m, names[i]);
        int16_t code = t ? t->error_code : KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        char subject[SUBJECT_SIZE];
        (void)snprintf(subject, sizeof(subject), "topic '%s'", r->topics[i].name);
        if (code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION) {
            missing[missing_count++] = names[i];
            continue;
        }
        for (int32_t k = 0; code == 0 && k < t->partitions.count; k++) {
            if (t->partitions.items[k].leader_id < 0) code = KAFKA_LEADER_NOT_AVAILABLE;
        }
        (void)client_fail_code(c, subject, code, (struct kafka_string){NULL, -1});
        if (code != 0 && !client_code_retriable(code)) return ERR_INVALID_REQUEST;
        if (code != 0 || t->partitions.count == 0) {
            *again = true;
            continue;
        }
        if (s->partitions && (uint64_t)t->partitions.count != s->partitions) {
            return client_fail(c, ERR_INVALID_REQUEST, "topic '%s' has %d partitions, expected %" PRIu64,
                               r->topics[i].name, (int)t->partitions.count, s->partitions);
        }
        r->topics[i].partitions = t->partitions.count;
        r->topics[i].first = r->partition_count;
        r->partition_count += (size_t)t->partitions.count;
    }
    if (missing_count == 0) return OK;
    *again = true;
    /* Kafka refuses what would write more than ten thousand records: one for each partition, one for the topic, one for
     * each configuration. */
    size_t most = (size_t)(CREATE_RECORDS_MAX / ((s->partitions ? s->partitions : 1) + 1 + s->config_count));
    if (most == 0) most = 1;
    for (size_t at = 0; e == OK && at < missing_count; at += most)
        e = topics_create(r, missing + at, missing_count - at < most ? missing_count - at : most, a);
    return e;
}

static enum err topics_ready(struct bench_run *r) {
    struct client *c = r->client;
    const struct bench_settings *s = r->settings;
    uint64_t deadline_ns = client_deadline_ns(c);
    r->topic_count = (size_t)s->topics;
    r->topics = mem_zalloc(&c->mem, r->topic_count * sizeof(*r->topics));
    for (size_t i = 0; i < r->topic_count; i++) {
        if (r->topic_count == 1) {
            (void)snprintf(r->topics[i].name, sizeof(r->topics[i].name), "%s", s->topic);
        } else {
            (void)snprintf(r->topics[i].name, sizeof(r->topics[i].name), "%s-%zu", s->topic, i);
        }
    }
    for (unsigned attempt = 0;; attempt++) {
        struct arena a;
        bool again;
        arena_init(&a, &c->mem);
        enum err e = topics_look(r, &again, &a);
        arena_deinit(&a);
        if (e != OK || !again) return e;
        if (c->stopping) return client_fail(c, ERR_CLOSED, "interrupted before it began");
        if (env_now_ns(c->env) >= deadline_ns) {
            return client_fail(c, ERR_TIMEOUT, "the topics have no leaders after %" PRIu64 " ms",
                               (uint64_t)(c->timeout_ns / NS_PER_MS));
        }
        env_backoff(c->env, attempt, 20 * NS_PER_MS, 500 * NS_PER_MS);
    }
}

/* --- Idle connections. */

struct idle {
    struct list node;
    struct bench_thread *thread;
    struct bench_conn conn;
};

static void idle_answer(void *ctx, void *what, int16_t version, const void *response) {
    (void)ctx, (void)what, (void)version, (void)response;
}

static void idle_sent(void *ctx, size_t queued) {
    (void)ctx, (void)queued;
}

static void idle_lost(void *ctx) {
    struct idle *i = ctx;
    i->thread->counts.idle_lost++;
}

static const struct bench_conn_events idle_events = {idle_answer, idle_sent, idle_lost};

/* Thread t's share of n things: those whose number is t, t + threads, ... */
static uint64_t share_of(uint64_t n, const struct bench_thread *t) {
    uint64_t threads = t->run->settings->threads;
    return n / threads + (t->index < n % threads);
}

static void idle_opener(void *arg) {
    struct bench_thread *t = arg;
    struct client *c = &t->client;
    while (!t->failed && !t->stopping && t->idle_open < share_of(t->run->settings->connections, t)) {
        uint64_t n = t->idle_open++;
        struct idle *i = MEM_NEW(&t->mem, struct idle);
        i->thread = t;
        const struct client_address *to = &c->bootstrap[n % c->bootstrap_count];
        if (bench_conn_open(&i->conn, c, to, -1, &idle_events, i) != OK) {
            char why[CLIENT_WHY_SIZE];
            memcpy(why, c->why, sizeof(why));
            (void)client_fail(c, ERR_UNAVAILABLE, "idle connection %" PRIu64 ": %.600s", n + 1, why);
            memcpy(why, c->why, sizeof(why));
            mem_free(&t->mem, i);
            bench_thread_fail(t, why);
            break;
        }
        list_push_back(&t->idle, &i->node);
    }
    t->openers--;
    waitq_wake_all(&t->opened);
}

/* --- What is done on a thread's own loop. */

static void thread_start(void *arg) {
    struct bench_thread *t = arg;
    const struct bench_settings *s = t->run->settings;
    t->producers = mem_zalloc(&t->mem, (share_of(s->producers, t) + 1) * sizeof(*t->producers));
    t->consumers = mem_zalloc(&t->mem, (share_of(s->consumers, t) + 1) * sizeof(*t->consumers));
    for (uint64_t i = t->index; i < s->consumers; i += s->threads)
        t->consumers[t->consumer_count++] = bench_consumer_create(t, i);
    for (uint64_t i = t->index; i < s->producers; i += s->threads)
        t->producers[t->producer_count++] = bench_producer_create(t, i);
    for (unsigned i = 0; i < OPENERS && i < share_of(s->connections, t); i++) {
        t->openers++;
        fiber_spawn(loop_current(), "bench opener", idle_opener, t);
    }
}

static void thread_stop(void *arg) {
    struct bench_thread *t = arg;
    t->stopping = true;
    for (size_t i = 0; i < t->producer_count; i++) bench_producer_destroy(t->producers[i]);
    for (size_t i = 0; i < t->consumer_count; i++) bench_consumer_destroy(t->consumers[i]);
    while (t->openers > 0) waitq_wait(&t->opened);
    LIST_EACH_SAFE(n, &t->idle) {
        struct idle *i = LIST_ENTRY(n, struct idle, node);
        bench_conn_close(&i->conn);
        list_remove(&i->node);
        mem_free(&t->mem, i);
    }
    mem_free(&t->mem, t->producers);
    mem_free(&t->mem, t->consumers);
    client_end_beside(&t->client, t->run->client);
}

struct order {
    struct bench_thread *thread;
    enum { ORDER_PRODUCE, ORDER_CONSUME, ORDER_FINISH, ORDER_DRAIN } what;
    struct schedule schedule; /* index is each producer's own */
    uint64_t records;         /* of all producers; UINT64_MAX: no limit */
    bool stamped;
};

static void thread_obey(void *arg) {
    struct order *o = arg;
    struct bench_thread *t = o->thread;
    const struct bench_settings *s = t->run->settings;
    for (size_t i = 0; i < t->producer_count; i++) {
        uint64_t index = t->index + i * s->threads;
        if (o->what == ORDER_FINISH) bench_producer_finish(t->producers[i]);
        if (o->what != ORDER_PRODUCE) continue;
        struct bench_producing p = {.schedule = o->schedule, .stamped = o->stamped};
        p.schedule.index = index;
        p.records =
            o->records == UINT64_MAX ? UINT64_MAX : o->records / s->producers + (index < o->records % s->producers);
        bench_producer_begin(t->producers[i], &p);
    }
    for (size_t i = 0; i < t->consumer_count; i++) {
        if (o->what == ORDER_CONSUME) bench_consumer_begin(t->consumers[i]);
        if (o->what == ORDER_DRAIN) bench_consumer_drain(t->consumers[i]);
    }
}

static void order_all(struct bench_run *r, struct order o) {
    for (uint64_t i = 0; i < r->settings->threads; i++) {
        o.thread = &r->threads[i];
        loop_call(r->threads[i].loop, thread_obey, &o);
    }
}

/* How things stand; with `take`, what was counted moves there. */
struct look {
    struct bench_thread *thread;
    struct bench_counts *take;
    uint64_t in_records, out_records, out_bytes, backlog_out; /* not taken yet */
    uint64_t idle_open;
    size_t partitions; /* that consumers have */
    bool ready, done, at_end;
    const struct bench_thread *failed; /* NULL: none; its client.why stays as it is */
};

static void thread_look(void *arg) {
    struct look *k = arg;
    struct bench_thread *t = k->thread;
    k->ready = k->ready && t->openers == 0;
    k->idle_open += t->idle_open - t->counts.idle_lost;
    for (size_t i = 0; i < t->producer_count; i++) {
        k->ready = k->ready && bench_producer_ready(t->producers[i]);
        k->done = k->done && bench_producer_done(t->producers[i]);
    }
    for (size_t i = 0; i < t->consumer_count; i++) {
        k->ready = k->ready && bench_consumer_ready(t->consumers[i]);
        k->at_end = k->at_end && bench_consumer_at_end(t->consumers[i]);
        k->partitions += bench_consumer_partitions(t->consumers[i]);
    }
    if (t->failed && !k->failed) k->failed = t;
    if (k->take) {
        bench_counts_merge(k->take, &t->counts);
        memset(&t->counts, 0, sizeof(t->counts));
    }
    k->in_records += t->counts.in_records;
    k->out_records += t->counts.out_records;
    k->out_bytes += t->counts.out_bytes;
    k->backlog_out += t->counts.backlog_out;
}

static struct look look_all(struct bench_run *r, struct bench_counts *take) {
    struct look k = {.take = take, .ready = true, .done = true, .at_end = true};
    for (uint64_t i = 0; i < r->settings->threads; i++) {
        k.thread = &r->threads[i];
        loop_call(r->threads[i].loop, thread_look, &k);
    }
    return k;
}

/* A thread's sentence becomes the client's. */
static enum err failure_take(struct bench_run *r, const struct look *k) {
    return client_fail(r->client, ERR_INVALID_REQUEST, "%s", k->failed->client.why);
}

/* --- Phases. */

static enum err phase_ready(struct bench_run *r) {
    struct client *c = r->client;
    const struct bench_settings *s = r->settings;
    uint64_t since_ns = 0; /* when all had a part of the group's partitions, but not all of them */
    for (;;) {
        struct look k = look_all(r, NULL);
        if (k.failed) return failure_take(r, &k);
        /* Members come one after the other: together they must have everything, unless others are in the group too. */
        if (!k.ready) {
            since_ns = 0;
        } else if (!s->group || k.partitions == r->partition_count) {
            return OK;
        } else if (since_ns == 0) {
            since_ns = env_now_ns(c->env);
        } else if (env_now_ns(c->env) - since_ns > STRANGERS_NS) {
            return OK;
        }
        if (c->stopping) return client_fail(c, ERR_CLOSED, "interrupted before it began");
        fiber_sleep_ns(POLL_NS);
    }
}

static enum err phase_backlog(struct bench_run *r, struct bench_result *out, struct bench_counts *counts) {
    const struct bench_settings *s = r->settings;
    struct env *env = r->client->env;
    uint64_t begun_ns = env_now_ns(env);
    order_all(r, (struct order){.what = ORDER_PRODUCE, .records = (s->backlog_bytes - 1) / s->record_size + 1});
    struct look k;
    do {
        fiber_sleep_ns(POLL_NS);
        k = look_all(r, NULL);
    } while (!k.failed && !k.done && !r->client->stopping);
    out->backlog_ns = env_now_ns(env) - begun_ns;
    memset(counts, 0, sizeof(*counts));
    (void)look_all(r, counts);
    out->backlog_records = counts->in_records;
    out->backlog_bytes = counts->in_bytes;
    bench_counts_merge(&out->whole, counts);
    return k.failed ? failure_take(r, &k) : OK;
}

static void row_take(struct bench_run *r, struct bench_result *out, struct bench_counts *counts, uint64_t second,
                     uint64_t took_ns, bool measured) {
    memset(counts, 0, sizeof(*counts));
    (void)look_all(r, counts);
    bench_counts_merge(&out->whole, counts);
    if (measured) bench_counts_merge(&out->measured, counts);
    out->rows = mem_grow(&r->client->mem, out->rows, out->row_count, &out->row_capacity, sizeof(*out->rows));
    out->rows[out->row_count++] = (struct bench_row){
        .second = second,
        .took_ns = took_ns,
        .measured = measured,
        .in_records = counts->in_records,
        .in_bytes = counts->in_bytes,
        .out_records = counts->out_records,
        .out_bytes = counts->out_bytes,
        .errors = errors_sum(counts),
        .produce_p50 = histogram_percentile(&counts->produce, 50),
        .produce_p99 = histogram_percentile(&counts->produce, 99),
        .produce_max = counts->produce.max,
        .end_p50 = histogram_percentile(&counts->end_to_end, 50),
        .end_p99 = histogram_percentile(&counts->end_to_end, 99),
        .end_max = counts->end_to_end.max,
    };
}

static uint64_t record_limit(const struct bench_settings *s) {
    if (s->records) return s->records;
    return s->bytes ? (s->bytes - 1) / s->record_size + 1 : UINT64_MAX;
}

/* Whether the measured time is over. */
static bool load_over(const struct bench_run *r, const struct bench_result *out, const struct look *k) {
    const struct bench_settings *s = r->settings;
    if (s->producers > 0) return k->done; /* their limit, if there is one */
    if (s->consumers == 0) return false;
    if (s->records) return out->whole.out_records + k->out_records >= s->records;
    if (s->bytes) return out->whole.out_bytes + k->out_bytes >= s->bytes;
    return s->duration_ns == 0 && k->at_end;
}

static void usage_take(const struct bench_settings *s, struct process_usage *own, struct process_usage *broker) {
    if (process_usage(0, own) != OK) *own = (struct process_usage){0};
    if (s->broker_pid && process_usage(s->broker_pid, broker) != OK) *broker = (struct process_usage){0};
}

/* How many records of the timetable were due by then. */
static uint64_t records_due(const struct bench_settings *s, uint64_t elapsed_ns) {
    uint64_t units = elapsed_ns / NS_PER_S * s->rate + elapsed_ns % NS_PER_S * s->rate / NS_PER_S;
    uint64_t due = units / s->rate_unit + 1, limit = record_limit(s);
    return due < limit ? due : limit;
}

static enum err phase_load(struct bench_run *r, struct bench_result *out, struct bench_counts *counts) {
    struct client *c = r->client;
    const struct bench_settings *s = r->settings;
    struct env *env = c->env;
    struct process_usage own_before = {0}, own_after = {0};
    uint64_t factor = s->each_all ? s->consumers : 1;
    uint64_t warm_rows = s->warm_up_ns / ROW_NS, end_rows = s->duration_ns ? warm_rows + s->duration_ns / ROW_NS : 0;
    uint64_t start_ns = env_now_ns(env), row_ns = start_ns, measured_ns = start_ns, row = 0;
    usage_take(s, &own_before, &out->broker_before);
    order_all(r, (struct order){.what = ORDER_CONSUME});
    /* Only reading, without any other end: to the ends of the partitions. */
    if (s->producers == 0 && s->duration_ns == 0 && s->records == 0 && s->bytes == 0)
        order_all(r, (struct order){.what = ORDER_DRAIN});
    order_all(r, (struct order){.what = ORDER_PRODUCE,
                                .schedule = {start_ns, s->rate, s->rate_unit, 0, s->producers},
                                .records = record_limit(s),
                                .stamped = true});
    struct look k = {0};
    bool over = false;
    while (!over && !k.failed) {
        uint64_t now_ns = env_now_ns(env), due_ns = start_ns + (row + 1) * ROW_NS;
        if (now_ns < due_ns) fiber_sleep_ns(due_ns - now_ns < POLL_NS ? due_ns - now_ns : POLL_NS);
        k = look_all(r, NULL);
        now_ns = env_now_ns(env);
        over = load_over(r, out, &k) || c->stopping;
        out->interrupted = c->stopping;
        if (out->caught_up_ns == 0 && out->backlog_records > 0 &&
            out->whole.backlog_out + k.backlog_out >= out->backlog_records * factor)
            out->caught_up_ns = now_ns - start_ns;
        if (now_ns < due_ns && !over && !k.failed) continue;
        row_take(r, out, counts, row, now_ns - row_ns, row >= warm_rows);
        row_ns = now_ns;
        row++;
        if (row == warm_rows) {
            measured_ns = now_ns;
            usage_take(s, &own_before, &out->broker_before);
        }
        over = over || (end_rows > 0 && row >= end_rows);
    }
    usage_take(s, &own_after, &out->broker_after);
    out->measured_ns = row > warm_rows ? row_ns - measured_ns : 0;
    out->own_cpu_ns = own_after.cpu_ns - own_before.cpu_ns;
    uint64_t due = s->rate ? records_due(s, row_ns - start_ns) : 0;
    uint64_t acked = out->whole.in_records - out->backlog_records;
    out->late_records = due > acked ? due - acked : 0;
    return k.failed ? failure_take(r, &k) : OK;
}

/* Delivers what was made, reads what was written. */
static enum err phase_drain(struct bench_run *r, struct bench_result *out, struct bench_counts *counts) {
    struct client *c = r->client;
    const struct bench_settings *s = r->settings;
    struct env *env = c->env;
    uint64_t limit_ns = env_now_ns(env) + (out->interrupted ? 5 * NS_PER_S : s->drain_ns);
    order_all(r, (struct order){.what = ORDER_FINISH});
    struct look k = look_all(r, NULL);
    while (!k.failed && !k.done && env_now_ns(env) < limit_ns) {
        fiber_sleep_ns(POLL_NS);
        k = look_all(r, NULL);
    }
    if (!k.failed && k.done && s->consumers > 0 && !out->interrupted) {
        order_all(r, (struct order){.what = ORDER_DRAIN});
        uint64_t factor = s->each_all ? s->consumers : 1;
        uint64_t expected = s->producers ? (out->whole.in_records + k.in_records) * factor : 0;
        uint64_t late_ns = UINT64_MAX; /* when at the end with records missing becomes the truth */
        for (;;) {
            fiber_sleep_ns(POLL_NS);
            k = look_all(r, NULL);
            uint64_t now_ns = env_now_ns(env);
            out->drained = k.at_end && out->whole.out_records + k.out_records >= expected;
            if (k.failed || c->stopping || now_ns >= limit_ns || out->drained) break;
            if (!k.at_end) {
                late_ns = UINT64_MAX;
            } else if (late_ns == UINT64_MAX) {
                late_ns = now_ns + LATE_NS * (s->acks == 0 ? 5 : 1);
            } else if (now_ns >= late_ns) {
                break;
            }
        }
    }
    memset(counts, 0, sizeof(*counts));
    (void)look_all(r, counts);
    bench_counts_merge(&out->whole, counts);
    if (s->producers && s->consumers) out->expected_records = out->whole.in_records * (s->each_all ? s->consumers : 1);
    return k.failed ? failure_take(r, &k) : OK;
}

static enum err phases(struct bench_run *r, struct bench_result *out) {
    struct client *c = r->client;
    const struct bench_settings *s = r->settings;
    struct bench_counts *counts = MEM_NEW(&c->mem, struct bench_counts);
    enum err e = phase_ready(r);
    if (e == OK && s->backlog_bytes && s->producers) e = phase_backlog(r, out, counts);
    if (e == OK) e = phase_load(r, out, counts);
    if (e == OK) e = phase_drain(r, out, counts);
    out->idle_open = look_all(r, NULL).idle_open - out->whole.idle_lost;
    mem_free(&c->mem, counts);
    if (e != OK) return e;
    if (s->producers && out->whole.in_records == 0) return client_fail(c, ERR_UNAVAILABLE, "nothing was acknowledged");
    if (!s->producers && s->consumers && out->whole.out_records == 0)
        return client_fail(c, ERR_UNAVAILABLE, "nothing was read");
    return OK;
}

/* --- Beginning and end. */

static enum err threads_start(struct bench_run *r) {
    struct client *c = r->client;
    uint64_t count = r->settings->threads;
    r->threads = mem_zalloc(&c->mem, (size_t)count * sizeof(*r->threads));
    for (uint64_t i = 0; i < count; i++) {
        struct bench_thread *t = &r->threads[i];
        t->index = (unsigned)i;
        t->loop = loop_current();
        if (count > 1 && env_loop_start(c->env, "bench", &t->loop) != OK)
            return client_fail(c, ERR_NO_MEMORY, "a thread cannot be started");
        t->run = r;
        mem_init_heap(&t->mem);
        client_init_beside(&t->client, c);
        list_init(&t->idle);
        waitq_init(&t->opened);
        loop_call(t->loop, thread_start, t);
    }
    return OK;
}

static void threads_stop(struct bench_run *r) {
    for (uint64_t i = 0; r->threads && i < r->settings->threads; i++) {
        struct bench_thread *t = &r->threads[i];
        if (t->run) loop_call(t->loop, thread_stop, t);
    }
    mem_free(&r->client->mem, r->threads);
}

enum err bench_run(struct client *c, const struct bench_settings *s, struct bench_result *out) {
    struct bench_run r = {.client = c, .settings = s, .began_ns = env_now_ns(c->env)};
    struct process_usage broker;
    memset(out, 0, sizeof(*out));
    out->settings = s;
    out->expected_records = UINT64_MAX;
    if (s->broker_pid && process_usage(s->broker_pid, &broker) != OK)
        return client_fail(c, ERR_NOT_FOUND, "there is no process %" PRIu64 " to be watched", s->broker_pid);
    uint64_t files = process_files_allow();
    if (s->connections + 2 * (s->producers + s->consumers) + 64 > files) {
        return client_fail(c, ERR_INVALID_REQUEST,
                           "the system lets this process open %" PRIu64 " files, fewer than the connections", files);
    }
    enum err e = topics_ready(&r);
    if (e == OK) {
        keys_init(&r.keys, &c->mem, s->key_kind, s->key_count);
        payload_init(&r.payload, &c->mem, s->seed, (unsigned)s->compressibility, (size_t)s->record_size, s->repeat);
        client_drop_idle(c);
        e = threads_start(&r);
        if (e == OK) e = phases(&r, out);
        char why[CLIENT_WHY_SIZE];
        memcpy(why, c->why, sizeof(why));
        threads_stop(&r);
        memcpy(c->why, why, sizeof(why));
        keys_deinit(&r.keys, &c->mem);
        payload_deinit(&r.payload, &c->mem);
    }
    mem_free(&c->mem, r.topics);
    return e;
}

void bench_result_deinit(struct bench_result *r, struct mem *m) {
    mem_free(m, r->rows);
    r->rows = NULL;
}
