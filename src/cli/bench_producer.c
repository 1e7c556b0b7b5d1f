/* A producer of the load. All its work is done by producer_pump, which never suspends and runs whenever something has
 * changed: an answer came, bytes have gone, a record or a linger is due. A fiber sees to what does suspend: it connects,
 * and when something went wrong it waits a moment, asks for metadata, connects again and repeats.
 *
 * A partition is a lane: a batch being filled (`open`), finished ones that wait (`closed`), and those under way
 * (`flying`), in this order. The lanes of one leader share an outlet, a connection. A request takes the first batch of
 * each lane that has one, as Kafka's own client does, up to max.request.size.
 *
 * When a batch fails in a way that passes, its lane is blocked until nothing of it is under way; then all that failed
 * goes again in the old order with the old sequence numbers, so that an idempotent producer stores each once.
 *
 * At full speed without keys a batch is made when an outlet can take it, and full; with keys or a timetable, records are
 * put into their lanes as they come, as long as the producer's buffer has room. A timetable does not wait for the
 * buffer: records that come late are still due when they were. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/bench_producer_priv.h"

/* From version 13 on topics are named by their ids. */
#define PRODUCE_VERSION_MAX 12
#define PUMP_ROUNDS_MAX 16u
#define REQUEST_BATCHES_MAX 1024u

static void producer_pump(struct bench_producer *p);

/* --- Requests and their answers. */

static struct flight *flight_take(struct bench_producer *p, struct outlet *o) {
    struct list *n = list_pop_front(&p->spare_flights);
    struct flight *f = n ? LIST_ENTRY(n, struct flight, node) : MEM_NEW(&p->thread->mem, struct flight);
    f->outlet = o;
    f->count = 0;
    list_init(&f->node);
    return f;
}

static void flight_spare(struct bench_producer *p, struct flight *f) {
    list_remove(&f->node);
    list_push_front(&p->spare_flights, &f->node);
}

/* All of it: acknowledged (without asking, for acks 0), or failed. */
static void flight_end(struct bench_producer *p, struct flight *f, bool fine, uint64_t now_ns) {
    for (size_t i = 0; i < f->count; i++) {
        struct carried *x = &f->items[i];
        if (!x->batch) continue; /* its answer has been taken */
        bench_batch_landed(p, x->lane);
        if (fine) {
            bench_batch_acknowledged(p, x->batch, now_ns);
        } else {
            bench_batch_failed(p, x->lane, x->batch);
        }
    }
    f->outlet->in_flight--;
    flight_spare(p, f);
}

/* An answer about one batch. */
static void partition_answered(struct bench_producer *p, struct carried *x,
                               const struct kafka_produce_response_partition *r, uint64_t now_ns) {
    struct lane *l = x->lane;
    struct bench_batch *b = x->batch;
    int16_t code = r->error_code;
    x->batch = NULL;
    bench_batch_landed(p, l);
    bool idempotent = p->settings->idempotence;
    if (code == 0 || (idempotent && code == KAFKA_DUPLICATE_SEQUENCE_NUMBER)) {
        if (code != 0) bench_count_error(&p->thread->counts, code);
        bench_batch_acknowledged(p, b, now_ns);
        return;
    }
    bench_count_error(&p->thread->counts, code);
    /* A batch behind one that failed cannot be in order. */
    bool behind = idempotent && code == KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER && l->blocked;
    if (client_code_retriable(code) || behind) {
        char subject[BENCH_TOPIC_NAME_SIZE + 64];
        (void)snprintf(subject, sizeof(subject), "producing to topic '%s' partition %d", l->topic->name,
                       (int)l->partition);
        (void)client_fail_code(&p->client, subject, code, r->error_message);
        bench_batch_failed(p, l, b);
        return;
    }
    char subject[BENCH_TOPIC_NAME_SIZE + 64];
    (void)snprintf(subject, sizeof(subject), "producing to topic '%s' partition %d", l->topic->name, (int)l->partition);
    (void)client_fail_code(&p->client, subject, code,
                           r->record_errors.count > 0 && r->record_errors.items[0].batch_index_error_message.size > 0
                               ? r->record_errors.items[0].batch_index_error_message
                               : r->error_message);
    bench_batch_forget(p, b);
    bench_thread_fail(p->thread, p->client.why);
}

static void outlet_answer(void *ctx, void *what, int16_t version, const void *response) {
    struct outlet *o = ctx;
    struct bench_producer *p = o->producer;
    struct flight *f = what;
    const struct kafka_produce_response *r = response;
    uint64_t now_ns = env_now_ns(p->client.env);
    (void)version;
    size_t at = 0; /* brokers answer in the order of the request, mostly */
    for (int32_t i = 0; i < r->responses.count; i++) {
        const struct kafka_produce_response_topic *t = &r->responses.items[i];
        const struct bench_topic *topic = bench_topic_find(p->thread->run, t->name);
        for (int32_t k = 0; k < t->partition_responses.count; k++) {
            const struct kafka_produce_response_partition *x = &t->partition_responses.items[k];
            size_t tried = 0;
            while (tried < f->count && !(f->items[at].batch && f->items[at].lane->topic == topic &&
                                         f->items[at].lane->partition == x->index)) {
                at = (at + 1) % f->count;
                tried++;
            }
            if (tried < f->count) partition_answered(p, &f->items[at], x, now_ns);
        }
    }
    p->thread->counts.in_requests++;
    bool complete = true;
    for (size_t i = 0; i < f->count; i++) complete = complete && !f->items[i].batch;
    flight_end(p, f, false, now_ns); /* what it does not mention has failed */
    if (!complete) (void)client_fail(&p->client, ERR_PROTOCOL, "an answer does not mention all that was produced");
    producer_pump(p);
}

/* Without acknowledgements a request is done when its bytes have left. */
static void outlet_sent(void *ctx, size_t queued) {
    struct outlet *o = ctx;
    struct bench_producer *p = o->producer;
    if (p->settings->acks != 0 || queued > 0) return;
    uint64_t now_ns = env_now_ns(p->client.env);
    while (!list_empty(&o->unanswered)) {
        p->thread->counts.in_requests++;
        flight_end(p, LIST_ENTRY(o->unanswered.next, struct flight, node), true, now_ns);
    }
    producer_pump(p);
}

static void outlet_lost(void *ctx) {
    struct outlet *o = ctx;
    struct bench_producer *p = o->producer;
    bench_count_error(&p->thread->counts, BENCH_CODE_LOST);
    memcpy(p->client.why, o->conn.why, sizeof(p->client.why));
    while (!list_empty(&o->unanswered)) flight_end(p, LIST_ENTRY(o->unanswered.next, struct flight, node), false, 0);
    bench_producer_trouble(p);
}

static const struct bench_conn_events outlet_events = {outlet_answer, outlet_sent, outlet_lost};

/* --- Requests. */

static void flight_add(struct bench_producer *p, struct flight *f, struct lane *l, struct bench_batch *b) {
    f->items = mem_grow(&p->thread->mem, f->items, f->count, &f->capacity, sizeof(*f->items));
    f->items[f->count++] = (struct carried){l, b};
}

/* The next lane for a request; NULL: none. */
static struct lane *lane_next(struct bench_producer *p, struct outlet *o, uint64_t round, uint64_t now_ns) {
    LIST_EACH(n, &o->ready) {
        struct lane *l = LIST_ENTRY(n, struct lane, ready_node);
        if (l->round == round) break; /* put back behind */
        return l;
    }
    return bench_fills_ahead(p) || !bench_more_wanted(p) ? NULL : bench_lane_fill(p, o, round, now_ns);
}

/* Gathers the batches of one request. */
static void flight_load(struct bench_producer *p, struct outlet *o, struct flight *f, uint64_t now_ns) {
    size_t bytes = 0;
    uint64_t round = ++p->round;
    struct lane *l;
    while (f->count < REQUEST_BATCHES_MAX && (l = lane_next(p, o, round, now_ns)) != NULL) {
        if (list_empty(&l->closed) && (!l->open || bench_lane_close(p, l) != OK)) {
            if (l->ready) bench_lane_unready(l);
            if (p->thread->failed) return;
            continue;
        }
        struct bench_batch *b = LIST_ENTRY(l->closed.next, struct bench_batch, node);
        if (f->count > 0 && bytes + b->size > p->settings->request_bytes) {
            bench_lane_ready(l); /* for the next request */
            return;
        }
        l->round = round;
        bytes += b->size;
        list_remove(&b->node);
        list_push_back(&l->flying, &b->node);
        l->flying_count++;
        p->flying++;
        p->waiting--;
        if (l->ready) bench_lane_unready(l);
        if (!list_empty(&l->closed)) bench_lane_ready(l);
        flight_add(p, f, l, b);
    }
}

/* The request itself borrows from the flight's batches. */
static enum err flight_send(struct bench_producer *p, struct outlet *o, struct flight *f) {
    struct arena *a = &p->arena;
    struct kafka_produce_request q;
    arena_reset(a);
    kafka_produce_request_init(&q);
    q.transactional_id = (struct kafka_string){NULL, -1};
    q.acks = p->settings->acks;
    q.timeout_ms = 30000;
    q.topic_data.items = kafka_produce_request_topic_new(
        a, p->thread->run->topic_count < f->count ? p->thread->run->topic_count : f->count);
    q.topic_data.count = 0;
    struct slice *slices = arena_alloc(a, f->count * sizeof(*slices));
    for (size_t i = 0; i < f->count; i++) {
        const struct lane *l = f->items[i].lane;
        struct bench_batch *b = f->items[i].batch;
        struct kafka_produce_request_topic *t = NULL;
        for (int32_t k = 0; k < q.topic_data.count && !t; k++) {
            if (q.topic_data.items[k].name.data == l->topic->name) t = &q.topic_data.items[k];
        }
        if (!t) {
            t = &q.topic_data.items[q.topic_data.count++];
            t->name = kafka_string_of(l->topic->name);
            t->partition_data.items = kafka_produce_request_partition_new(a, f->count - i);
            t->partition_data.count = 0;
        }
        slices[i] = (struct slice){b->data, b->size, &b->slab};
        struct kafka_produce_request_partition *x = &t->partition_data.items[t->partition_data.count++];
        x->index = l->partition;
        x->records = (struct kafka_records){.slices = &slices[i], .slice_count = 1, .size = (int32_t)b->size};
    }
    return bench_conn_ask(&o->conn, KAFKA_API_PRODUCE, PRODUCE_VERSION_MAX, &q, p->settings->acks != 0, f);
}

/* As many requests as may be under way. True: more could be sent at once. */
static bool outlet_send(struct bench_producer *p, struct outlet *o) {
    for (unsigned round = 0; bench_conn_usable(&o->conn) && o->in_flight < p->settings->in_flight; round++) {
        if (round == PUMP_ROUNDS_MAX) return true;
        uint64_t now_ns = env_now_ns(p->client.env);
        struct flight *f = flight_take(p, o);
        flight_load(p, o, f, now_ns);
        if (f->count == 0 || p->thread->failed) {
            o->in_flight++; /* what flight_end takes back */
            flight_end(p, f, false, now_ns);
            return false;
        }
        now_ns = env_now_ns(p->client.env);
        for (size_t i = 0; i < f->count; i++) {
            if (f->items[i].batch->handed_ns == 0) f->items[i].batch->handed_ns = now_ns;
        }
        o->in_flight++;
        list_push_back(&o->unanswered, &f->node);
        if (flight_send(p, o, f) != OK) {
            bench_thread_fail(p->thread, p->client.why);
            return false;
        }
        if (p->settings->acks == 0 && bench_conn_queued(&o->conn) == 0 && bench_conn_usable(&o->conn)) {
            p->thread->counts.in_requests++;
            flight_end(p, f, true, env_now_ns(p->client.env));
        }
    }
    return false;
}

static void timer_set(struct bench_producer *p, bool at_once) {
    uint64_t due_ns = at_once ? 1 : UINT64_MAX;
    if (!at_once && bench_producer_timed(p) && bench_more_wanted(p) && p->buffered < p->settings->buffer_bytes)
        due_ns = schedule_due_ns(&p->what.schedule, p->made);
    LIST_EACH(n, &p->open) {
        const struct lane *l = LIST_ENTRY(n, struct lane, open_node);
        if (l->ready || l->blocked || !l->outlet) continue; /* an answer will wake it, or the fiber */
        uint64_t expires_ns = l->open->opened_ns + p->settings->linger_ns;
        if (expires_ns < due_ns && bench_fills_ahead(p)) due_ns = expires_ns;
        break;
    }
    if (due_ns == UINT64_MAX) {
        timer_disarm(&p->timer);
    } else {
        timer_arm(&p->timer, due_ns);
    }
}

static void producer_pump(struct bench_producer *p) {
    if (!p->running || p->thread->failed || p->ending) return;
    uint64_t now_ns = env_now_ns(p->client.env);
    bool more = bench_fills_ahead(p) && bench_records_make(p, now_ns);
    bench_open_expire(p, now_ns);
    LIST_EACH(n, &p->outlets) {
        if (outlet_send(p, LIST_ENTRY(n, struct outlet, node))) more = true;
        if (p->thread->failed) return;
    }
    timer_set(p, more);
}

static void on_timer(struct timer *t) {
    producer_pump(CONTAINER_OF(t, struct bench_producer, timer));
}

/* --- Connecting, and again after failures. */

static enum err producer_id_ask(struct bench_producer *p) {
    struct client *c = &p->client;
    uint64_t deadline_ns = client_deadline_ns(c);
    for (unsigned attempt = 0;; attempt++) {
        struct arena a;
        struct client_conn *cc;
        struct kafka_init_producer_id_request q;
        struct kafka_init_producer_id_response r;
        arena_init(&a, &c->mem);
        kafka_init_producer_id_request_init(&q);
        q.transactional_id = (struct kafka_string){NULL, -1};
        q.transaction_timeout_ms = 60000;
        enum err e = client_any(c, &cc);
        if (e == OK) e = client_call(cc, KAFKA_API_INIT_PRODUCER_ID, CLIENT_ANY_VERSION, &q, &a, &r);
        arena_deinit(&a);
        if (e != OK) return e;
        if (r.error_code == 0) {
            p->producer_id = r.producer_id;
            p->producer_epoch = r.producer_epoch;
            return OK;
        }
        bench_count_error(&p->thread->counts, r.error_code);
        if (!client_code_retriable(r.error_code) || env_now_ns(c->env) >= deadline_ns || c->stopping) {
            return client_fail_code(c, "asking for a producer id", r.error_code, (struct kafka_string){NULL, -1});
        }
        env_backoff(c->env, attempt, 50 * NS_PER_MS, NS_PER_S);
    }
}

static enum err leaders_learn(struct bench_producer *p) {
    struct bench_run *run = p->thread->run;
    struct arena a;
    struct kafka_metadata_response r;
    arena_init(&a, &p->client.mem);
    struct kafka_string *names = ARENA_ARRAY(&a, struct kafka_string, run->topic_count);
    for (size_t i = 0; i < run->topic_count; i++) names[i] = kafka_string_of(run->topics[i].name);
    enum err e = client_metadata(&p->client, names, (int32_t)run->topic_count, &a, &r);
    for (int32_t i = 0; e == OK && i < r.topics.count; i++) {
        const struct kafka_metadata_response_topic *t = &r.topics.items[i];
        const struct bench_topic *topic = bench_topic_find(run, t->name);
        for (int32_t k = 0; topic && k < t->partitions.count; k++) {
            const struct kafka_metadata_response_partition *x = &t->partitions.items[k];
            if (x->partition_index < 0 || x->partition_index >= topic->partitions) continue;
            p->lanes[topic->first + (size_t)x->partition_index].leader = x->error_code == 0 ? x->leader_id : -1;
        }
    }
    arena_deinit(&a);
    return e;
}

static struct outlet *outlet_of(struct bench_producer *p, int32_t node_id) {
    LIST_EACH(n, &p->outlets) {
        struct outlet *o = LIST_ENTRY(n, struct outlet, node);
        if (o->node_id == node_id) return o;
    }
    struct outlet *o = MEM_NEW(&p->thread->mem, struct outlet);
    o->producer = p;
    o->node_id = node_id;
    list_init(&o->ready);
    list_init(&o->lanes);
    list_init(&o->unanswered);
    list_push_back(&p->outlets, &o->node);
    return o;
}

/* Every lane that has nothing under way belongs to its leader's outlet; others wait for their answers first. */
static void lanes_move(struct bench_producer *p) {
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *l = &p->lanes[i];
        struct outlet *o = l->leader >= 0 ? outlet_of(p, l->leader) : NULL;
        if (o == l->outlet) continue;
        l->blocked = true;
        if (l->ready) bench_lane_unready(l);
        if (l->flying_count > 0) continue;
        list_remove(&l->place);
        l->outlet = o;
        if (o) list_push_back(&o->lanes, &l->place);
    }
}

/* Opens what is needed and not open; false when that failed somewhere. Suspends. */
static bool outlets_open(struct bench_producer *p) {
    bool all = true;
    LIST_EACH(n, &p->outlets) {
        struct outlet *o = LIST_ENTRY(n, struct outlet, node);
        if (bench_conn_usable(&o->conn) || list_empty(&o->lanes) || p->ending) continue;
        bench_conn_close(&o->conn);
        if (bench_conn_open(&o->conn, &p->client, NULL, o->node_id, &outlet_events, o) == OK) continue;
        bench_count_error(&p->thread->counts, BENCH_CODE_LOST);
        all = false;
    }
    return all;
}

/* Lanes that can go on do; false when some cannot. */
static bool lanes_unblock(struct bench_producer *p) {
    bool all = true;
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *l = &p->lanes[i];
        if (!l->blocked) continue;
        if (l->flying_count > 0) continue; /* the last answer will tell */
        if (!l->outlet || !bench_conn_usable(&l->outlet->conn)) {
            all = false;
            continue;
        }
        LIST_EACH(n, &l->again) p->thread->counts.retries++;
        list_splice_back(&l->again, &l->closed);
        list_splice_back(&l->closed, &l->again);
        l->blocked = false;
        if (!list_empty(&l->closed)) bench_lane_ready(l);
    }
    return all;
}

static void producer_repair(struct bench_producer *p) {
    struct client *c = &p->client;
    uint64_t now_ns = env_now_ns(c->env);
    p->trouble = false;
    if (p->failing_since_ns == 0) p->failing_since_ns = now_ns;
    if (now_ns - p->failing_since_ns >= c->timeout_ns) {
        char why[CLIENT_WHY_SIZE];
        memcpy(why, c->why, sizeof(why));
        (void)client_fail(c, ERR_TIMEOUT, "nothing was acknowledged for %" PRIu64 " ms: %.600s",
                          (uint64_t)(c->timeout_ns / NS_PER_MS), why);
        bench_thread_fail(p->thread, c->why);
        return;
    }
    if (p->ready) env_backoff(c->env, p->attempt++, 20 * NS_PER_MS, NS_PER_S);
    bool all = leaders_learn(p) == OK;
    if (all) {
        lanes_move(p);
        all = outlets_open(p);
        client_drop_idle(c);
    }
    all = lanes_unblock(p) && all;
    if (!all && !p->trouble) {
        /* Also before the first success, so that a cluster that is starting is not asked without end. */
        if (!p->ready) env_backoff(c->env, p->attempt++, 20 * NS_PER_MS, NS_PER_S);
        p->trouble = true;
    }
    /* With something to be repeated, only its acknowledgement is the end of the failure. */
    if (all && p->waiting == 0 && p->flying == 0) p->failing_since_ns = 0;
    if (all) p->ready = true;
    producer_pump(p);
}

static void producer_main(void *arg) {
    struct bench_producer *p = arg;
    if (p->settings->idempotence && producer_id_ask(p) != OK) bench_thread_fail(p->thread, p->client.why);
    while (!p->ending) {
        if (p->trouble && !p->thread->failed) {
            producer_repair(p);
        } else {
            waitq_wait(&p->wake);
        }
    }
    p->ended = true;
    waitq_wake_all(&p->wake);
}

struct bench_producer *bench_producer_create(struct bench_thread *t, uint64_t index) {
    const struct bench_run *run = t->run;
    const struct bench_settings *s = run->settings;
    struct bench_producer *p = MEM_NEW(&t->mem, struct bench_producer);
    p->thread = t;
    p->settings = s;
    p->index = index;
    p->producer_id = p->producer_epoch = -1;
    client_init_beside(&p->client, &t->client);
    bench_batch_pool_init(&p->batches, &t->mem, (size_t)s->batch_bytes, s->codec);
    arena_init(&p->arena, &t->mem);
    rng_seed(&p->rng, s->seed + index + 1);
    p->walk.at = (size_t)(rng_next(&p->rng) % PAYLOAD_POOL_BYTES);
    list_init(&p->outlets);
    list_init(&p->open);
    list_init(&p->spare_flights);
    waitq_init(&p->wake);
    timer_init(&p->timer, on_timer);
    p->lane_count = run->partition_count;
    p->lanes = mem_zalloc(&t->mem, p->lane_count * sizeof(*p->lanes));
    p->sticky = (size_t)(index % p->lane_count);
    for (size_t i = 0; i < run->topic_count; i++) {
        for (int32_t k = 0; k < run->topics[i].partitions; k++) {
            struct lane *l = &p->lanes[run->topics[i].first + (size_t)k];
            *l = (struct lane){.topic = &run->topics[i], .partition = k, .leader = -1, .blocked = true};
            list_init(&l->closed);
            list_init(&l->flying);
            list_init(&l->again);
            list_init(&l->ready_node);
            list_init(&l->open_node);
            list_init(&l->place);
        }
    }
    p->trouble = true; /* to connect is the first repair */
    fiber_spawn(loop_current(), "bench producer", producer_main, p);
    return p;
}

bool bench_producer_ready(const struct bench_producer *p) {
    return p->ready;
}

void bench_producer_begin(struct bench_producer *p, const struct bench_producing *what) {
    ASSERT(p->waiting == 0 && p->flying == 0 && list_empty(&p->open));
    p->what = *what;
    p->made = 0;
    p->running = true;
    p->finishing = false;
    producer_pump(p);
}

void bench_producer_finish(struct bench_producer *p) {
    p->finishing = true;
    producer_pump(p);
}

bool bench_producer_done(const struct bench_producer *p) {
    return !p->running || (!bench_more_wanted(p) && p->waiting == 0 && p->flying == 0 && list_empty(&p->open));
}

static void batches_release(struct list *batches) {
    while (!list_empty(batches)) bench_batch_release(LIST_ENTRY(batches->next, struct bench_batch, node));
}

static void flights_free(struct bench_producer *p, struct list *flights) {
    LIST_EACH_SAFE(n, flights) {
        struct flight *f = LIST_ENTRY(n, struct flight, node);
        list_remove(&f->node);
        mem_free(&p->thread->mem, f->items);
        mem_free(&p->thread->mem, f);
    }
}

void bench_producer_destroy(struct bench_producer *p) {
    struct bench_thread *t = p->thread;
    p->ending = true;
    p->client.stopping = true;
    waitq_wake_all(&p->wake);
    while (!p->ended) waitq_wait(&p->wake);
    timer_disarm(&p->timer);
    LIST_EACH_SAFE(n, &p->outlets) {
        struct outlet *o = LIST_ENTRY(n, struct outlet, node);
        bench_conn_close(&o->conn);
        flights_free(p, &o->unanswered);
        mem_free(&t->mem, o);
    }
    flights_free(p, &p->spare_flights);
    for (size_t i = 0; i < p->lane_count; i++) {
        struct lane *l = &p->lanes[i];
        if (l->open) bench_batch_release(l->open);
        batches_release(&l->closed);
        batches_release(&l->flying);
        batches_release(&l->again);
    }
    bench_batch_pool_deinit(&p->batches);
    arena_deinit(&p->arena);
    mem_free(&t->mem, p->lanes);
    client_end_beside(&p->client, &t->client);
    mem_free(&t->mem, p);
}
