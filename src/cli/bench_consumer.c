/* A consumer of the load: some partitions, a connection (tap) to each of their leaders, one Fetch under way on each. A
 * fetch session (KIP-227) spares naming partitions of which there is no news, as Kafka's own client does. An answer is
 * taken apart as it arrives and the next request leaves at once; nothing there suspends. The fiber finds out where to
 * read, repairs what has failed, and keeps up its membership in a group.
 *
 * Every record is looked at: offsets must go on without gaps, and the stamp in its value says how long it took. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/bench_batch.h"
#include "cli/bench_conn.h"
#include "cli/member.h"
#include "kafka/batch.h"

/* From version 13 on topics are named by their ids. */
#define FETCH_VERSION_MAX 12
#define UNPACKED_BYTES_MAX ((size_t)1 << 30)
#define LOOK_NS (100 * NS_PER_MS) /* how often a member looks whether a heartbeat or a commit is due */
#define OFFSET_UNKNOWN ((int64_t)-1)
#define OFFSET_GONE ((int64_t)-3) /* what was to be read next has been removed */
#define NO_PLACE UINT32_MAX

struct tap;

struct place {
    const struct bench_topic *topic;
    int32_t partition, leader; /* leader -1: none now */
    int64_t offset;            /* of the next record */
    int32_t max_bytes;
    bool at_end;
    struct list node, news; /* of tap.places; of tap.news: the session does not know its offset */
};

struct tap {
    struct list node; /* of consumer.taps */
    struct bench_consumer *consumer;
    int32_t node_id;
    struct bench_conn conn;
    struct list places, news;
    size_t place_count;
    int32_t session_id, session_epoch; /* epoch 0: the next request begins a session */
    bool asked, asked_all;             /* asked_all: outside a session, about every partition */
};

struct bench_consumer {
    struct bench_thread *thread;
    const struct bench_settings *settings;
    uint64_t index;
    struct client client;
    struct place *places;
    size_t place_count;
    uint32_t *place_of; /* by partition of all topics; NO_PLACE */
    struct list taps;
    struct arena arena;
    bool assigned, ready, running, draining, trouble, ending, ended;
    uint64_t failing_since_ns;
    unsigned attempt;
    struct waitq wake; /* its fiber, and who waits for the end */
    /* In a group. */
    struct member member;
    struct consumer committer; /* where it is, as member_commit wants it told */
};

static void consumer_trouble(struct bench_consumer *x) {
    x->trouble = true;
    waitq_wake_all(&x->wake);
}

/* --- Records. */

static void record_time(struct bench_consumer *x, const struct batch_record *r, uint64_t now_ns) {
    struct bench_counts *c = &x->thread->counts;
    c->out_records++;
    c->out_bytes += (r->key_size > 0 ? (uint64_t)r->key_size : 0) + (r->value_size > 0 ? (uint64_t)r->value_size : 0);
    if (r->value_size < (int32_t)BENCH_STAMP_SIZE) return;
    uint64_t stamp = be64_get(r->value);
    if (stamp == 0) c->backlog_out++;
    /* Anything else is of another run, or not of ours. */
    if (stamp < x->thread->run->began_ns || stamp > now_ns) return;
    histogram_add(&c->end_to_end, (now_ns - stamp) / NS_PER_US, 1);
}

static enum err batch_take(struct bench_consumer *x, struct place *p, const struct batch_header *h, uint64_t now_ns) {
    struct bench_counts *c = &x->thread->counts;
    struct batch_iterator it;
    struct batch_record r;
    enum err e = batch_iterator_init(&it, &x->thread->mem, h, UNPACKED_BYTES_MAX);
    if (e != OK) return e;
    while ((e = batch_iterator_next(&it, &r)) == OK) {
        if (r.offset < p->offset) continue; /* a batch may begin before what was asked for */
        c->gaps += (uint64_t)(r.offset - p->offset);
        p->offset = r.offset + 1;
        record_time(x, &r, now_ns);
    }
    batch_iterator_deinit(&it);
    return e == ERR_NOT_FOUND ? OK : e;
}

static enum err records_take(struct bench_consumer *x, struct place *p, const uint8_t *at, size_t left,
                             uint64_t now_ns) {
    bool first = true;
    while (left > 0) {
        struct batch_header h;
        enum err e = x->settings->no_crc ? batch_parse_unchecked(at, left, &h) : batch_parse(at, left, &h);
        if (e == ERR_TRUNCATED) {
            /* The last one is cut off where the limit was; the first one never fits. */
            if (first && p->max_bytes < INT32_MAX / 2) p->max_bytes *= 2;
            return OK;
        }
        if (e == OK && !batch_is_control(&h)) e = batch_take(x, p, &h, now_ns);
        if (e != OK) return e;
        if (batch_end_offset(&h) > p->offset) {
            if (!batch_is_control(&h)) x->thread->counts.gaps += (uint64_t)(batch_end_offset(&h) - p->offset);
            p->offset = batch_end_offset(&h);
        }
        x->thread->counts.out_batch_bytes += h.size;
        at += h.size;
        left -= h.size;
        first = false;
    }
    return OK;
}

/* --- Answers. */

static void place_subject(const struct place *p, char *out, size_t size) {
    (void)snprintf(out, size, "fetching topic '%s' partition %d", p->topic->name, (int)p->partition);
}

static void place_answered(struct bench_consumer *x, struct tap *t, struct place *p,
                           const struct kafka_fetch_response_partition *r, uint64_t now_ns) {
    char subject[BENCH_TOPIC_NAME_SIZE + 64];
    struct bench_counts *c = &x->thread->counts;
    place_subject(p, subject, sizeof(subject));
    if (r->error_code != 0) {
        bench_count_error(c, r->error_code);
        (void)client_fail_code(&x->client, subject, r->error_code, (struct kafka_string){NULL, -1});
        if (r->error_code == KAFKA_OFFSET_OUT_OF_RANGE) {
            p->offset = OFFSET_GONE;
        } else if (!client_code_retriable(r->error_code)) {
            bench_thread_fail(x->thread, x->client.why);
            return;
        }
        consumer_trouble(x);
        return;
    }
    int64_t before = p->offset;
    int32_t max_before = p->max_bytes;
    enum err e = records_take(x, p, r->records.data, r->records.size > 0 ? (size_t)r->records.size : 0, now_ns);
    if (e != OK) {
        (void)client_fail(&x->client, e, "%s, at offset %" PRId64 ": %s", subject, p->offset, err_text(e));
        bench_thread_fail(x->thread, x->client.why);
        return;
    }
    if (p->offset != before || p->max_bytes != max_before) {
        list_remove(&p->news);
        list_push_back(&t->news, &p->news);
    }
    p->at_end = t->asked_all && p->offset >= r->high_watermark;
}

static void tap_ask(struct bench_consumer *x, struct tap *t);

static bool session_lost(int16_t code) {
    return code == KAFKA_FETCH_SESSION_ID_NOT_FOUND || code == KAFKA_INVALID_FETCH_SESSION_EPOCH;
}

static void tap_answer(void *ctx, void *what, int16_t version, const void *response) {
    struct tap *t = ctx;
    struct bench_consumer *x = t->consumer;
    const struct kafka_fetch_response *r = response;
    const struct bench_run *run = x->thread->run;
    uint64_t now_ns = env_now_ns(x->client.env);
    (void)what;
    (void)version;
    t->asked = false;
    x->thread->counts.out_answers++;
    if (r->error_code != 0) {
        bench_count_error(&x->thread->counts, r->error_code);
        t->session_id = t->session_epoch = 0;
        if (session_lost(r->error_code)) {
            tap_ask(x, t);
            return;
        }
        (void)client_fail_code(&x->client, "fetching", r->error_code, (struct kafka_string){NULL, -1});
        if (client_code_retriable(r->error_code)) {
            consumer_trouble(x);
        } else {
            bench_thread_fail(x->thread, x->client.why);
        }
        return;
    }
    if (t->asked_all || r->session_id == 0) {
        t->session_id = t->session_epoch = 0;
    } else {
        t->session_id = r->session_id;
        t->session_epoch = t->session_epoch == INT32_MAX ? 1 : t->session_epoch + 1;
    }
    for (int32_t i = 0; i < r->responses.count; i++) {
        const struct kafka_fetch_response_topic *rt = &r->responses.items[i];
        const struct bench_topic *topic = bench_topic_find(run, rt->topic);
        for (int32_t k = 0; topic && k < rt->partitions.count; k++) {
            const struct kafka_fetch_response_partition *rp = &rt->partitions.items[k];
            if (rp->partition_index < 0 || rp->partition_index >= topic->partitions) continue;
            uint32_t at = x->place_of[topic->first + (size_t)rp->partition_index];
            if (at != NO_PLACE) place_answered(x, t, &x->places[at], rp, now_ns);
            if (x->thread->failed) return;
        }
    }
    if (!x->trouble) {
        x->failing_since_ns = 0;
        x->attempt = 0;
    }
    tap_ask(x, t);
}

static void tap_sent(void *ctx, size_t queued) {
    (void)ctx;
    (void)queued;
}

static void tap_lost(void *ctx) {
    struct tap *t = ctx;
    struct bench_consumer *x = t->consumer;
    bench_count_error(&x->thread->counts, BENCH_CODE_LOST);
    memcpy(x->client.why, t->conn.why, sizeof(x->client.why));
    consumer_trouble(x);
}

static const struct bench_conn_events tap_events = {tap_answer, tap_sent, tap_lost};

/* --- Requests. */

static void place_ask(const struct place *p, struct kafka_fetch_request *q, int32_t *slots, const struct bench_run *run,
                      size_t room, struct arena *a) {
    int32_t *slot = &slots[p->topic - run->topics];
    if (*slot == 0) {
        struct kafka_fetch_request_topic *t = &q->topics.items[q->topics.count++];
        *slot = q->topics.count;
        t->topic = kafka_string_of(p->topic->name);
        size_t most = (size_t)p->topic->partitions < room ? (size_t)p->topic->partitions : room;
        t->partitions.items = kafka_fetch_request_partition_new(a, most);
        t->partitions.count = 0;
    }
    struct kafka_fetch_request_topic *t = &q->topics.items[*slot - 1];
    struct kafka_fetch_request_partition *to = &t->partitions.items[t->partitions.count++];
    to->partition = p->partition;
    to->fetch_offset = p->offset;
    to->partition_max_bytes = p->max_bytes;
}

static void tap_ask(struct bench_consumer *x, struct tap *t) {
    const struct bench_settings *s = x->settings;
    const struct bench_run *run = x->thread->run;
    if (t->asked || !x->running || x->trouble || x->ending || x->thread->failed || !bench_conn_usable(&t->conn)) return;
    if (t->place_count == 0) return;
    struct arena *a = &x->arena;
    struct kafka_fetch_request q;
    arena_reset(a);
    kafka_fetch_request_init(&q);
    q.replica_id = -1;
    q.max_wait_ms = (int32_t)s->fetch_wait_ms;
    q.min_bytes = (int32_t)s->fetch_min_bytes;
    q.max_bytes = (int32_t)s->fetch_bytes;
    t->asked_all =
        x->draining || s->no_sessions || bench_conn_version(&t->conn, KAFKA_API_FETCH, FETCH_VERSION_MAX) < 7;
    bool incremental = !t->asked_all && t->session_epoch > 0;
    q.session_id = t->session_id; /* asked_all ends it */
    q.session_epoch = t->asked_all ? -1 : t->session_epoch;
    int32_t *slots = ARENA_ARRAY(a, int32_t, run->topic_count);
    q.topics.items =
        kafka_fetch_request_topic_new(a, run->topic_count < t->place_count ? run->topic_count : t->place_count);
    q.topics.count = 0;
    if (incremental) {
        LIST_EACH(n, &t->news) place_ask(LIST_ENTRY(n, struct place, news), &q, slots, run, t->place_count, a);
    } else {
        LIST_EACH(n, &t->places) place_ask(LIST_ENTRY(n, struct place, node), &q, slots, run, t->place_count, a);
    }
    LIST_EACH_SAFE(n, &t->news) list_remove(n);
    t->asked = true;
    if (bench_conn_ask(&t->conn, KAFKA_API_FETCH, FETCH_VERSION_MAX, &q, true, NULL) != OK)
        bench_thread_fail(x->thread, x->client.why);
}

static void taps_ask(struct bench_consumer *x) {
    LIST_EACH(n, &x->taps) tap_ask(x, LIST_ENTRY(n, struct tap, node));
}

/* --- Where to read. All of this suspends, in the consumer's fiber. */

static void taps_close(struct bench_consumer *x) {
    for (size_t i = 0; i < x->place_count; i++) {
        list_remove(&x->places[i].node);
        list_remove(&x->places[i].news);
    }
    LIST_EACH_SAFE(n, &x->taps) {
        struct tap *t = LIST_ENTRY(n, struct tap, node);
        bench_conn_close(&t->conn);
        list_remove(&t->node);
        mem_free(&x->thread->mem, t);
    }
}

static struct tap *tap_of(struct bench_consumer *x, int32_t node_id) {
    LIST_EACH(n, &x->taps) {
        struct tap *t = LIST_ENTRY(n, struct tap, node);
        if (t->node_id == node_id) return t;
    }
    struct tap *t = MEM_NEW(&x->thread->mem, struct tap);
    t->consumer = x;
    t->node_id = node_id;
    list_init(&t->places);
    list_init(&t->news);
    list_push_back(&x->taps, &t->node);
    return t;
}

static enum err leaders_learn(struct bench_consumer *x) {
    const struct bench_run *run = x->thread->run;
    struct arena a;
    struct kafka_metadata_response r;
    arena_init(&a, &x->client.mem);
    struct kafka_string *names = ARENA_ARRAY(&a, struct kafka_string, run->topic_count);
    for (size_t i = 0; i < run->topic_count; i++) names[i] = kafka_string_of(run->topics[i].name);
    enum err e = client_metadata(&x->client, names, (int32_t)run->topic_count, &a, &r);
    for (size_t i = 0; e == OK && i < x->place_count; i++) x->places[i].leader = -1;
    for (int32_t i = 0; e == OK && i < r.topics.count; i++) {
        const struct kafka_metadata_response_topic *t = &r.topics.items[i];
        const struct bench_topic *topic = bench_topic_find(run, t->name);
        for (int32_t k = 0; topic && k < t->partitions.count; k++) {
            const struct kafka_metadata_response_partition *p = &t->partitions.items[k];
            if (p->partition_index < 0 || p->partition_index >= topic->partitions) continue;
            uint32_t at = x->place_of[topic->first + (size_t)p->partition_index];
            if (at != NO_PLACE && p->error_code == 0) x->places[at].leader = p->leader_id;
        }
    }
    arena_deinit(&a);
    return e;
}

/* Places whose offset is `which` go on at the ends or the beginnings of their partitions. */
static enum err offsets_learn(struct bench_consumer *x, int64_t which, int64_t timestamp) {
    struct client_offset *items = mem_zalloc(&x->thread->mem, (x->place_count + 1) * sizeof(*items));
    size_t count = 0;
    for (size_t i = 0; i < x->place_count; i++) {
        const struct place *p = &x->places[i];
        if (p->offset != which) continue;
        items[count++] = (struct client_offset){
            .topic = kafka_string_of(p->topic->name), .partition = p->partition, .timestamp = timestamp};
    }
    enum err e = client_list_offsets(&x->client, items, count, 0);
    count = 0;
    for (size_t i = 0; e == OK && i < x->place_count; i++) {
        struct place *p = &x->places[i];
        if (p->offset != which) continue;
        if (items[count].code == 0) {
            p->offset = items[count].offset;
        } else {
            char subject[BENCH_TOPIC_NAME_SIZE + 64];
            place_subject(p, subject, sizeof(subject));
            bench_count_error(&x->thread->counts, items[count].code);
            e = client_fail_code(&x->client, subject, items[count].code, (struct kafka_string){NULL, -1});
        }
        count++;
    }
    mem_free(&x->thread->mem, items);
    return e;
}

/* Connects to the leaders of its places. ERR_UNAVAILABLE: not to all. */
static enum err taps_open(struct bench_consumer *x) {
    taps_close(x);
    enum err e = leaders_learn(x);
    if (e == OK) e = offsets_learn(x, OFFSET_UNKNOWN, x->settings->from_beginning ? CLIENT_EARLIEST : CLIENT_LATEST);
    if (e == OK) e = offsets_learn(x, OFFSET_GONE, CLIENT_EARLIEST);
    if (e != OK) return e;
    for (size_t i = 0; i < x->place_count; i++) {
        struct place *p = &x->places[i];
        if (p->leader < 0) {
            return client_fail(&x->client, ERR_UNAVAILABLE, "partition %d of topic '%s' has no leader",
                               (int)p->partition, p->topic->name);
        }
        struct tap *t = tap_of(x, p->leader);
        list_push_back(&t->places, &p->node);
        t->place_count++;
    }
    LIST_EACH(n, &x->taps) {
        struct tap *t = LIST_ENTRY(n, struct tap, node);
        e = bench_conn_open(&t->conn, &x->client, NULL, t->node_id, &tap_events, t);
        if (e != OK) return e;
    }
    return OK;
}

static void place_add(struct bench_consumer *x, const struct bench_topic *topic, int32_t partition, int64_t offset) {
    struct place *p = &x->places[x->place_count];
    *p = (struct place){.topic = topic,
                        .partition = partition,
                        .leader = -1,
                        .offset = offset,
                        .max_bytes = (int32_t)x->settings->partition_bytes};
    list_init(&p->node);
    list_init(&p->news);
    x->place_of[topic->first + (size_t)partition] = (uint32_t)x->place_count++;
}

/* Without a group: every consumer takes every n-th partition, or all of them. */
static void assign_share(struct bench_consumer *x) {
    const struct bench_run *run = x->thread->run;
    size_t at = 0;
    for (size_t i = 0; i < run->topic_count; i++) {
        for (int32_t k = 0; k < run->topics[i].partitions; k++, at++) {
            if (x->settings->each_all || at % x->settings->consumers == x->index)
                place_add(x, &run->topics[i], k, OFFSET_UNKNOWN);
        }
    }
}

/* In a group: joins, and goes on where it, or whoever had the partition before, has committed. */
static enum err assign_member(struct bench_consumer *x) {
    const struct bench_topic *topic = &x->thread->run->topics[0];
    struct place *old = x->places;
    size_t old_count = x->place_count;
    enum err e = member_join(&x->member);
    if (e != OK) return e;
    /* Also when all is ending: what is committed last is told by what is assigned now. */
    x->places = mem_zalloc(&x->thread->mem, (x->thread->run->partition_count + 1) * sizeof(*x->places));
    x->place_count = 0;
    for (size_t i = 0; i < x->thread->run->partition_count; i++) x->place_of[i] = NO_PLACE;
    consumer_deinit(&x->committer);
    consumer_init(&x->committer, &x->client, topic->name);
    for (size_t i = 0; i < x->member.partition_count; i++) {
        int32_t partition = x->member.partitions[i];
        int64_t offset = x->member.committed[i];
        for (size_t k = 0; k < old_count; k++) {
            if (old[k].partition == partition && old[k].offset > offset) offset = old[k].offset;
        }
        consumer_add(&x->committer, partition, -1, offset, INT64_MAX);
        if (partition >= 0 && partition < topic->partitions) place_add(x, topic, partition, offset);
    }
    mem_free(&x->thread->mem, old);
    return OK;
}

static void committer_tell(struct bench_consumer *x) {
    const struct bench_topic *topic = &x->thread->run->topics[0];
    for (size_t i = 0; i < x->committer.count; i++) {
        struct place_read *to = &x->committer.places[i];
        if (to->index < 0 || to->index >= topic->partitions) continue;
        uint32_t at = x->place_of[topic->first + (size_t)to->index];
        if (at != NO_PLACE && x->places[at].offset >= 0) to->offset = x->places[at].offset;
    }
}

/* --- The fiber. */

static void consumer_repair(struct bench_consumer *x) {
    struct client *c = &x->client;
    uint64_t now_ns = env_now_ns(c->env);
    if (x->failing_since_ns == 0) x->failing_since_ns = now_ns;
    if (now_ns - x->failing_since_ns >= c->timeout_ns) {
        char why[CLIENT_WHY_SIZE];
        memcpy(why, c->why, sizeof(why));
        (void)client_fail(c, ERR_TIMEOUT, "nothing could be fetched for %" PRIu64 " ms: %.600s",
                          (uint64_t)(c->timeout_ns / NS_PER_MS), why);
        bench_thread_fail(x->thread, c->why);
        return;
    }
    if (x->ready || x->attempt > 0) env_backoff(c->env, x->attempt, 20 * NS_PER_MS, NS_PER_S);
    x->attempt++;
    /* Cleared only now: requests are held back meanwhile. A connection that is lost while others open sets it again. */
    x->trouble = false;
    enum err e = taps_open(x);
    if (e != OK) {
        x->trouble = true;
        return;
    }
    if (!x->settings->group) client_drop_idle(c);
    if (!x->ready) x->failing_since_ns = 0;
    x->ready = true;
    taps_ask(x);
}

static void member_stay(struct bench_consumer *x) {
    committer_tell(x);
    enum err e = member_beat(&x->member);
    if (e == OK && !x->member.rejoin) e = member_commit(&x->member, &x->committer, false);
    if (e != OK) {
        bench_thread_fail(x->thread, x->client.why);
        return;
    }
    if (x->member.rejoin && !x->ending) {
        taps_close(x);
        committer_tell(x);
        if (member_commit(&x->member, &x->committer, true) != OK) bench_count_error(&x->thread->counts, -1);
        x->member.rejoin = true;
        x->assigned = false;
        return;
    }
    (void)waitq_wait_until(&x->wake, env_now_ns(x->client.env) + LOOK_NS);
}

static void consumer_main(void *arg) {
    struct bench_consumer *x = arg;
    while (!x->ending) {
        if (x->thread->failed) {
            waitq_wait(&x->wake);
        } else if (!x->assigned) {
            if (x->settings->group) {
                if (assign_member(x) != OK) bench_thread_fail(x->thread, x->client.why);
            } else {
                assign_share(x);
            }
            x->assigned = x->trouble = true;
        } else if (x->trouble) {
            consumer_repair(x);
        } else if (x->settings->group) {
            member_stay(x);
        } else {
            waitq_wait(&x->wake);
        }
    }
    if (x->settings->group && x->assigned && !x->thread->failed) {
        committer_tell(x);
        if (member_commit(&x->member, &x->committer, true) == OK) member_leave(&x->member);
    }
    x->ended = true;
    waitq_wake_all(&x->wake);
}

struct bench_consumer *bench_consumer_create(struct bench_thread *t, uint64_t index) {
    const struct bench_run *run = t->run;
    struct bench_consumer *x = MEM_NEW(&t->mem, struct bench_consumer);
    x->thread = t;
    x->settings = run->settings;
    x->index = index;
    client_init_beside(&x->client, &t->client);
    arena_init(&x->arena, &t->mem);
    list_init(&x->taps);
    waitq_init(&x->wake);
    x->places = mem_zalloc(&t->mem, (run->partition_count + 1) * sizeof(*x->places));
    x->place_of = mem_alloc(&t->mem, (run->partition_count + 1) * sizeof(*x->place_of));
    for (size_t i = 0; i < run->partition_count; i++) x->place_of[i] = NO_PLACE;
    member_init(&x->member, &x->client, x->settings->group, run->topics[0].name);
    consumer_init(&x->committer, &x->client, run->topics[0].name);
    fiber_spawn(loop_current(), "bench consumer", consumer_main, x);
    return x;
}

bool bench_consumer_ready(const struct bench_consumer *x) {
    return x->ready && x->assigned && !x->trouble;
}

size_t bench_consumer_partitions(const struct bench_consumer *x) {
    return x->place_count;
}

void bench_consumer_begin(struct bench_consumer *x) {
    x->running = true;
    taps_ask(x);
}

void bench_consumer_drain(struct bench_consumer *x) {
    x->draining = true;
    for (size_t i = 0; i < x->place_count; i++) x->places[i].at_end = false;
}

bool bench_consumer_at_end(const struct bench_consumer *x) {
    for (size_t i = 0; i < x->place_count; i++) {
        if (!x->places[i].at_end) return false;
    }
    return x->assigned && !x->trouble;
}

void bench_consumer_destroy(struct bench_consumer *x) {
    struct bench_thread *t = x->thread;
    x->ending = true;
    x->client.stopping = true;
    waitq_wake_all(&x->wake);
    while (!x->ended) waitq_wait(&x->wake);
    taps_close(x);
    member_deinit(&x->member);
    consumer_deinit(&x->committer);
    mem_free(&t->mem, x->places);
    mem_free(&t->mem, x->place_of);
    arena_deinit(&x->arena);
    client_end_beside(&x->client, &t->client);
    mem_free(&t->mem, x);
}
