/* What the tests of connections and requests share: a broker of a few APIs over a fake network, whose requests go on when
 * the test says so. They are named by their correlation ids. */
#ifndef OXBOW_TESTS_BROKER_CONN_FIXTURE_H
#define OXBOW_TESTS_BROKER_CONN_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/conn.h"
#include "kafka/kafka_messages.h"
#include "unit/broker/fake_net.h"

#define IDS 200

struct gate {
    bool started, append_go, appended, done_go, done, woken, cancelled;
    bool accuses; /* its answer does */
    struct request *waiting;
};
static struct gate gates[IDS];
static struct fake_net net;
static struct waitq gate_changed;

static inline struct gate *gate_of(const struct request *r) {
    assert_in_range(r->info.correlation_id, 0, IDS - 1);
    return &gates[r->info.correlation_id];
}

static inline enum request_outcome fake_produce(struct request *r, const void *in, void *out) {
    const struct kafka_produce_request *p = in;
    struct gate *g = gate_of(r);
    (void)out;
    int16_t acks = p->acks;
    g->started = true;
    while (!g->append_go) waitq_wait(&gate_changed);
    g->appended = true;
    request_release_frame(r);
    request_append_done(r);
    while (!g->done_go) waitq_wait(&gate_changed);
    g->done = true;
    r->accuses = g->accuses;
    return acks == 0 ? REQUEST_NO_ANSWER : REQUEST_ANSWER;
}

static inline void fake_wake(struct request *r, bool cancelled) {
    struct gate *g = r->waiter;
    g->woken = true;
    g->cancelled |= cancelled;
    if (cancelled) {
        request_end(r);
        g->waiting = NULL;
    }
}

/* Metadata waits without a fiber. */
static inline enum request_outcome fake_metadata(struct request *r, const void *in, void *out) {
    struct gate *g = gate_of(r);
    (void)in;
    (void)out;
    g->started = true;
    if (g->done_go) return REQUEST_ANSWER;
    request_release_frame(r);
    g->waiting = r;
    request_wait(r, fake_wake, g);
    return REQUEST_LATER;
}

/* Its answer is as large as the list of topics asks for: 100,000 bytes each. */
static inline enum request_outcome fake_find(struct request *r, const void *in, void *out) {
    const struct kafka_find_coordinator_request *f = in;
    struct kafka_find_coordinator_response *o = out;
    gate_of(r)->started = true;
    size_t n = (size_t)f->key_type;
    o->coordinators.items = kafka_new(&kafka_find_coordinator_response_coordinator_type, &r->arena, n * 4);
    o->coordinators.count = (int32_t)n * 4;
    for (size_t i = 0; i < n * 4; i++)
        o->coordinators.items[i].key = kafka_string_view(memset(arena_alloc(&r->arena, 25000), 'x', 25000), 25000);
    return REQUEST_ANSWER;
}

static const struct api apis[] = {
    {KAFKA_API_PRODUCE, 3, 13, API_OVERLAPS, fake_produce},
    {KAFKA_API_METADATA, 0, 13, 0, fake_metadata},
    {KAFKA_API_FIND_COORDINATOR, 4, 6, API_LARGE, fake_find},
    {KAFKA_API_API_VERSIONS, 0, 4, 0, fake_metadata},
};
static const struct listener listener = {.name = "PLAINTEXT"};
static struct conns set;
static struct conn_quota quota;
static const char *client_id = "test";
static uint64_t answer_bytes; /* for the next begin(); 0: no limit */

static inline void let_append(int id) {
    gates[id].append_go = true;
    waitq_wake_all(&gate_changed);
    net_settle(&net);
}
static inline void let_finish(int id) {
    struct gate *g = &gates[id];
    g->append_go = g->done_go = true;
    waitq_wake_all(&gate_changed);
    if (g->waiting) {
        struct request *r = g->waiting;
        struct kafka_metadata_response out;
        kafka_metadata_response_init(&out);
        g->waiting = NULL;
        request_answer(r, &out);
        request_end(r);
    }
    net_settle(&net);
}

static inline void begin(uint64_t budget, uint64_t idle_ns, uint32_t max, uint32_t max_per_ip) {
    memset(gates, 0, sizeof(gates));
    net_init(&net, 1);
    waitq_init(&gate_changed);
    conn_quota_init(&quota, &net.mem, max, max_per_ip);
    conns_init(&set, &(struct conns_options){.env = &net.env,
                                             .loop = &net.loop,
                                             .apis = apis,
                                             .api_count = ARRAY_LEN(apis),
                                             .quota = &quota,
                                             .budget_bytes = budget,
                                             .answer_bytes = answer_bytes,
                                             .max_frame_bytes = 100 << 20,
                                             .idle_ns = idle_ns});
    answer_bytes = 0;
}

static inline void drain_main(void *arg) {
    conns_drain(&set, 5 * NS_PER_S);
    *(bool *)arg = true;
}

/* Lets everything finish, closes everything, and checks that nothing is left. */
static inline void end(void) {
    for (int i = 0; i < IDS; i++) let_finish(i);
    bool drained = false;
    fiber_spawn(&net.loop, "drain", drain_main, &drained);
    net_pass(&net, 20 * NS_PER_S);
    assert_true(drained);
    assert_int_equal(set.count, 0);
    assert_int_equal(set.unsent_bytes, 0);
    assert_int_equal(atomic_load(&quota.open), 0);
    conns_deinit(&set);
    conn_quota_deinit(&quota);
    net_deinit(&net);
    assert_int_equal(atomic_load(&net.mem.allocated_bytes), 0);
}

static inline struct env_conn *accept_one(const char *host) {
    struct env_conn *c = net_conn(&net, host);
    conns_accept(&set, c, &listener);
    net_settle(&net);
    return c;
}

/* Appends a request's frame. */
static inline void put_request(struct buf *b, int16_t key, int16_t version, int id, int16_t acks_or_size) {
    struct outbuf o;
    outbuf_init(&o, &net.mem);
    const struct kafka_api *api = kafka_api_find(key);
    struct arena a;
    arena_init(&a, &net.mem);
    void *m = kafka_new(api->request, &a, 1);
    if (key == KAFKA_API_PRODUCE) ((struct kafka_produce_request *)m)->acks = acks_or_size;
    if (key == KAFKA_API_FIND_COORDINATOR)
        ((struct kafka_find_coordinator_request *)m)->key_type = (int8_t)acks_or_size;
    assert_int_equal(kafka_request_encode(api, version, id, kafka_string_of(client_id), m, &o), OK);
    struct slices s;
    slices_init(&s, &net.mem);
    outbuf_finish(&o, &s);
    for (size_t i = 0; i < s.count; i++) buf_put(b, s.items[i].data, s.items[i].size);
    slices_deinit(&s);
    outbuf_deinit(&o);
    arena_deinit(&a);
}

static inline void send_request(struct env_conn *c, int16_t key, int id, int16_t acks_or_size) {
    struct buf b;
    buf_init(&b, &net.mem);
    put_request(&b, key, key == KAFKA_API_FIND_COORDINATOR ? 4 : 9, id, acks_or_size);
    assert_int_equal(net_feed(c, b.data, b.size, b.size), b.size);
    buf_deinit(&b);
    net_settle(&net);
}

/* The correlation ids of the answers sent so far. */
static inline size_t answers(const struct env_conn *c, int32_t *ids, size_t max) {
    size_t n = 0;
    for (size_t at = 0; at + 8 <= c->sent.size && n < max; n++) {
        ids[n] = (int32_t)be32_get(c->sent.data + at + 4);
        at += 4 + be32_get(c->sent.data + at);
    }
    return n;
}

/* What is left in [first, last]: unused ones are -1. */
static inline void check_answers(const struct env_conn *c, size_t count, int32_t first) {
    int32_t ids[IDS];
    assert_int_equal(answers(c, ids, IDS), count);
    for (size_t i = 0; i < count; i++) assert_int_equal(ids[i], first + (int32_t)i);
}

#endif
