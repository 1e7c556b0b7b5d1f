/* Connections: the order of requests and answers, back-pressure, limits, and what happens to garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/broker.h"
#include "broker/conn.h"
#include "kafka/kafka_messages.h"
#include "unit/broker/fake_net.h"

/* --- A broker of two APIs, whose requests go on when the test says so. They are named by their correlation ids. */

#define IDS 200

struct gate {
    bool started, append_go, appended, done_go, done, woken, cancelled;
    bool accuses; /* its answer does */
    struct request *waiting;
};
static struct gate gates[IDS];
static struct fake_net net;
static struct waitq gate_changed;

static struct gate *gate_of(const struct request *r) {
    assert_in_range(r->info.correlation_id, 0, IDS - 1);
    return &gates[r->info.correlation_id];
}

static enum request_outcome fake_produce(struct request *r, const void *in, void *out) {
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

static void fake_wake(struct request *r, bool cancelled) {
    struct gate *g = r->waiter;
    g->woken = true;
    g->cancelled |= cancelled;
    if (cancelled) {
        request_end(r);
        g->waiting = NULL;
    }
}

/* Metadata waits without a fiber. */
static enum request_outcome fake_metadata(struct request *r, const void *in, void *out) {
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
static enum request_outcome fake_find(struct request *r, const void *in, void *out) {
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
static char long_id[3000];    /* of requests that are not little */
static uint64_t answer_bytes; /* for the next begin(); 0: no limit */

static void let_append(int id) {
    gates[id].append_go = true;
    waitq_wake_all(&gate_changed);
    net_settle(&net);
}
static void let_finish(int id) {
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

static void begin(uint64_t budget, uint64_t idle_ns, uint32_t max, uint32_t max_per_ip) {
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

static void drain_main(void *arg) {
    conns_drain(&set, 5 * NS_PER_S);
    *(bool *)arg = true;
}

/* Lets everything finish, closes everything, and checks that nothing is left. */
static void end(void) {
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

static struct env_conn *accept_one(const char *host) {
    struct env_conn *c = net_conn(&net, host);
    conns_accept(&set, c, &listener);
    net_settle(&net);
    return c;
}

/* Appends a request's frame. */
static void put_request(struct buf *b, int16_t key, int16_t version, int id, int16_t acks_or_size) {
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

static void send_request(struct env_conn *c, int16_t key, int id, int16_t acks_or_size) {
    struct buf b;
    buf_init(&b, &net.mem);
    put_request(&b, key, key == KAFKA_API_FIND_COORDINATOR ? 4 : 9, id, acks_or_size);
    assert_int_equal(net_feed(c, b.data, b.size, b.size), b.size);
    buf_deinit(&b);
    net_settle(&net);
}

/* The correlation ids of the answers sent so far. */
static size_t answers(const struct env_conn *c, int32_t *ids, size_t max) {
    size_t n = 0;
    for (size_t at = 0; at + 8 <= c->sent.size && n < max; n++) {
        ids[n] = (int32_t)be32_get(c->sent.data + at + 4);
        at += 4 + be32_get(c->sent.data + at);
    }
    return n;
}

/* What is left in [first, last]: unused ones are -1. */
static void check_answers(const struct env_conn *c, size_t count, int32_t first) {
    int32_t ids[IDS];
    assert_int_equal(answers(c, ids, IDS), count);
    for (size_t i = 0; i < count; i++) assert_int_equal(ids[i], first + (int32_t)i);
}

/* --- Order. */

static void test_produce_overlaps_in_order(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1");
    for (int i = 1; i <= 4; i++) send_request(c, KAFKA_API_PRODUCE, i, 1);
    assert_true(gates[1].started);
    assert_false(gates[2].started); /* the first one's append is not over */
    let_append(1);
    assert_true(gates[2].started);
    assert_false(gates[3].started);
    let_append(2);
    assert_true(gates[3].started);
    let_finish(2);
    assert_true(gates[2].done);
    check_answers(c, 0, 0); /* its turn comes after the first */
    let_finish(1);
    check_answers(c, 2, 1);
    let_finish(4);
    assert_false(gates[4].started);
    let_finish(3);
    check_answers(c, 4, 1);
    end();
}

static void test_others_are_barriers(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1");
    send_request(c, KAFKA_API_PRODUCE, 1, 1);
    send_request(c, KAFKA_API_METADATA, 2, 0);
    send_request(c, KAFKA_API_PRODUCE, 3, 1);
    let_append(1);
    assert_false(gates[2].started); /* waits until the first one is answered */
    let_finish(1);
    assert_true(gates[2].started);
    assert_false(gates[3].started); /* and nothing starts behind it */
    check_answers(c, 1, 1);
    let_finish(2);
    assert_true(gates[3].started);
    let_finish(3);
    check_answers(c, 3, 1);
    end();
}

static void test_connections_do_not_wait_for_each_other(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *a = accept_one("10.0.0.1"), *b = accept_one("10.0.0.2");
    send_request(a, KAFKA_API_METADATA, 1, 0);
    send_request(b, KAFKA_API_METADATA, 2, 0);
    let_finish(2);
    check_answers(b, 1, 2);
    check_answers(a, 0, 0);
    end();
}

static void test_acks_0_is_not_answered(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1");
    send_request(c, KAFKA_API_PRODUCE, 1, 0);
    send_request(c, KAFKA_API_METADATA, 2, 0);
    let_finish(1);
    let_finish(2);
    check_answers(c, 1, 2);
    end();
}

static void test_pieces_of_any_size(void **state) {
    (void)state;
    for (size_t chunk = 1; chunk < 400; chunk += 37) {
        begin(16 << 20, 0, 100, INT32_MAX);
        struct env_conn *c = accept_one("10.0.0.1");
        struct buf b;
        buf_init(&b, &net.mem);
        for (int i = 1; i <= 50; i++) {
            gates[i].append_go = gates[i].done_go = true;
            put_request(&b, i % 3 ? KAFKA_API_PRODUCE : KAFKA_API_METADATA, i % 2 ? 9 : 5, i, 1);
        }
        for (size_t at = 0; at < b.size; at += chunk) {
            size_t n = b.size - at < chunk ? b.size - at : chunk;
            assert_int_equal(net_feed(c, b.data + at, n, n), n);
            if (at % 3 == 0) net_settle(&net);
        }
        net_settle(&net);
        check_answers(c, 50, 1);
        buf_deinit(&b);
        end();
    }
}

/* --- Garbage. */

static void expect_closed(const void *data, size_t size, size_t answered) {
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1");
    gates[1].done_go = gates[1].append_go = true;
    send_request(c, KAFKA_API_METADATA, 1, 0);
    net_feed(c, data, size, size);
    net_settle(&net);
    assert_true(c->closed);
    check_answers(c, answered, 1);
    assert_int_equal(net.log_lines, 1);
    assert_non_null(strstr(net.last_line, "connection closed"));
    assert_int_equal(net.metrics.counters[M_CONNECTIONS_REFUSED][0], 1);
    end();
}

static void test_garbage_closes(void **state) {
    (void)state;
    expect_closed("GET / HTTP/1.1\r\n\r\n", 18, 1);                             /* announces 1.2 GB */
    expect_closed("\xff\xff\xff\xff", 4, 1);                                    /* a negative size */
    expect_closed("\0\0\0\0", 4, 1);                                            /* nothing */
    expect_closed("\0\0\0\x0c\x7f\x7f\0\0\0\0\0\2\0\0\0\0", 16, 1);             /* no such API */
    expect_closed("\0\0\0\x0a\0\3\0\x63\0\0\0\2\xff\xff", 14, 1);               /* Metadata 99 */
    expect_closed("\0\0\0\x0a\0\0\0\2\0\0\0\2\xff\xff", 14, 1);                 /* Produce 2 */
    expect_closed("\0\0\0\x0a\0\3\0\0\0\0\0\2\x7f\xff", 14, 1);                 /* a client id that is too long */
    expect_closed("\0\0\0\x0e\0\3\0\1\0\0\0\2\xff\xff\x7f\xff\xff\xff", 18, 1); /* 2^31 topics */
}

static void test_complaints_are_few(void **state) {
    (void)state;
    begin(16 << 20, 0, 10000, INT32_MAX);
    struct env_conn *c[100];
    for (size_t i = 0; i < 100; i++) {
        c[i] = accept_one("10.0.0.1");
        net_feed(c[i], "\xff\xff\xff\xff", 4, 4);
        net_settle(&net);
        assert_true(c[i]->closed);
    }
    assert_int_equal(net.log_lines, 1);
    assert_int_equal(net.metrics.counters[M_CONNECTIONS_REFUSED][0], 100);
    end();
}

/* KIP-511: the answer is of version 0, error 35, and names the versions that there are. */
static void test_unknown_api_versions(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1");
    static const uint8_t request[] = {0, 0, 0,   20,  0,   18,  0, 99, 0,   0, 0,   5,
                                      0, 4, 't', 'e', 's', 't', 0, 9,  'x', 9, 'y', 0};
    assert_int_equal(net_feed(c, request, sizeof(request), sizeof(request)), sizeof(request));
    net_settle(&net);
    assert_false(c->closed);
    static const uint8_t answer[] = {0, 0, 0, 16, 0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4};
    assert_int_equal(c->sent.size, sizeof(answer));
    assert_memory_equal(c->sent.data, answer, sizeof(answer));
    gates[6].done_go = true;
    send_request(c, KAFKA_API_METADATA, 6, 0); /* and the connection goes on */
    check_answers(c, 2, 5);
    end();
}

/* A frame that decodes to far more than it is: refused at the budget, after which the memory is free again. */
static void test_decoding_is_limited(void **state) {
    (void)state;
    begin(2 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1"), *d = accept_one("10.0.0.2");
    enum { SIZE = 1000000 };
    uint8_t *frame = mem_zalloc(&net.mem, SIZE);
    be32_put(frame, SIZE - 4);
    static const uint8_t head[] = {0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff}; /* Metadata 0 ... */
    memcpy(frame + 4, head, sizeof(head));
    be32_put(frame + 14, (SIZE - 18) / 2); /* ... of half a million topics without a name: 20 bytes and more each */
    net_feed(c, frame, SIZE, SIZE);
    net_settle(&net);
    assert_true(c->closed);
    assert_false(gates[1].started);
    assert_int_equal(set.decode.used_bytes, 0);
    /* One that needs more than goes uncounted, and gets it. */
    enum { FEWER = 12000 };
    gates[1].done_go = true;
    be32_put(frame, 14 + 2 * FEWER);
    be32_put(frame + 14, FEWER);
    assert_int_equal(net_feed(d, frame, 18 + 2 * FEWER, SIZE), 18 + 2 * FEWER);
    net_settle(&net);
    assert_true(gates[1].started);
    check_answers(d, 1, 1);
    assert_int_equal(set.decode.used_bytes, 0);
    mem_free(&net.mem, frame);
    gates[2].done_go = true;
    send_request(d, KAFKA_API_METADATA, 2, 0);
    check_answers(d, 2, 1);
    end();
}

/* --- Back-pressure. */

static void test_unsent_answers_hold_back(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1");
    c->stuck = true;
    send_request(c, KAFKA_API_FIND_COORDINATOR, 1, 20); /* 2 MB that nobody takes */
    assert_true(c->queued > CONN_UNSENT_MAX);
    assert_true(set.unsent_bytes > CONN_UNSENT_MAX);
    struct buf b;
    buf_init(&b, &net.mem);
    put_request(&b, KAFKA_API_FIND_COORDINATOR, 4, 2, 1);
    assert_int_equal(net_feed(c, b.data, b.size, b.size), 0); /* not read */
    assert_true(c->paused);
    c->stuck = false;
    c->queued = 0;
    c->events->sent(c->ctx, 0);
    assert_false(c->paused);
    assert_int_equal(net_feed(c, b.data, b.size, b.size), b.size);
    net_settle(&net);
    check_answers(c, 2, 1);
    buf_deinit(&b);
    end();
}

static void test_too_many_requests_hold_back(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1");
    struct buf b;
    buf_init(&b, &net.mem);
    for (int i = 0; i < 100; i++) put_request(&b, KAFKA_API_METADATA, 9, i, 0);
    size_t one = b.size / 100, fed = net_feed(c, b.data, b.size, one);
    assert_int_equal(fed, one * CONN_REQUESTS_MAX);
    assert_true(c->paused);
    for (int i = 0; i < 100; i++) gates[i].done_go = true;
    net_settle(&net);
    let_finish(0);
    assert_false(c->paused);
    assert_int_equal(net_feed(c, b.data + fed, b.size - fed, 1000), b.size - fed);
    net_settle(&net);
    check_answers(c, 100, 0);
    buf_deinit(&b);
    end();
}

/* Parts of requests that fill the budget: those who send no more are closed, and the others get their turn. */
static void test_stalled_parts_make_way(void **state) {
    (void)state;
    enum { COUNT = 8 };
    begin(3 << 20, 0, 100, INT32_MAX);
    struct env_conn *c[COUNT], *last = NULL;
    static uint8_t part[300000] = {0, 0x10, 0, 0};
    for (size_t i = 0; i < COUNT; i++) {
        c[i] = accept_one("10.0.0.1");
        net_feed(c[i], part, sizeof(part), 40000);
        net_settle(&net);
    }
    last = accept_one("10.0.0.2");
    struct buf b;
    buf_init(&b, &net.mem);
    client_id = memset(long_id, 'x', sizeof(long_id) - 1);
    put_request(&b, KAFKA_API_METADATA, 9, 1, 0);
    client_id = "test";
    size_t fed = net_feed(last, b.data, b.size, b.size);
    assert_int_equal(fed, RECEIVE_LITTLE_BYTES);
    assert_true(last->paused);
    /* What is little is served all the same, now. */
    struct env_conn *little = accept_one("10.0.0.3");
    gates[2].done_go = gates[3].append_go = gates[3].done_go = true;
    send_request(little, KAFKA_API_METADATA, 2, 0);
    send_request(little, KAFKA_API_PRODUCE, 3, 1);
    check_answers(little, 2, 2);
    gates[1].done_go = true;
    for (int s = 0; s < 40 && fed < b.size; s++) {
        net_pass(&net, NS_PER_S);
        if (!last->paused) fed += net_feed(last, b.data + fed, b.size - fed, b.size);
    }
    net_settle(&net);
    check_answers(last, 1, 1);
    buf_deinit(&b);
    end();
}

/* A part of a request that comes byte by byte is no progress either: also the one that may go on although the budget is
 * used up makes way. */
static void test_trickling_parts_make_way(void **state) {
    (void)state;
    begin(2 << 20, 0, 100, INT32_MAX);
    static uint8_t part[1000000] = {0, 0x30, 0, 0};
    struct env_conn *slow = accept_one("10.0.0.1"), *other = accept_one("10.0.0.2");
    assert_int_equal(net_feed(slow, part, sizeof(part), 40000), sizeof(part));
    struct buf b;
    buf_init(&b, &net.mem);
    client_id = memset(long_id, 'x', sizeof(long_id) - 1);
    put_request(&b, KAFKA_API_METADATA, 9, 1, 0);
    client_id = "test";
    size_t fed = net_feed(other, b.data, b.size, b.size);
    assert_int_equal(fed, RECEIVE_LITTLE_BYTES);
    assert_true(other->paused);
    gates[1].done_go = true;
    unsigned seconds = 0;
    for (; seconds < 60 && !slow->closed; seconds++) {
        if (!slow->paused) net_feed(slow, part + 8, 100, 100);
        net_pass(&net, NS_PER_S);
    }
    assert_true(slow->closed);
    assert_in_range(seconds, 9, 13);
    assert_false(other->paused);
    assert_int_equal(net_feed(other, b.data + fed, b.size - fed, b.size), b.size - fed);
    net_settle(&net);
    check_answers(other, 1, 1);
    buf_deinit(&b);
    end();
}

/* Many that have sent nothing whole yet hold all that there is: who has goes on, one request after the other, at once. */
static void test_proven_clients_go_on(void **state) {
    (void)state;
    enum { COUNT = 60 };
    begin(4 << 20, 0, 100, INT32_MAX);
    static uint8_t part[400000] = {0, 0x10, 0, 0};
    struct env_conn *good = accept_one("10.0.0.2"), *c[COUNT];
    gates[1].done_go = true;
    send_request(good, KAFKA_API_METADATA, 1, 0);
    for (size_t i = 0; i < COUNT; i++) c[i] = accept_one("10.0.0.1");
    size_t fed[COUNT] = {0};
    client_id = memset(long_id, 'x', sizeof(long_id) - 1);
    struct buf b;
    buf_init(&b, &net.mem);
    for (int id = 2; id < 60; id++) {
        for (size_t i = 0; i < COUNT; i++) {
            if (!c[i]->closed) fed[i] += net_feed(c[i], part + fed[i], sizeof(part) - fed[i], 40000);
        }
        net_settle(&net);
        gates[id].done_go = true;
        b.size = 0;
        put_request(&b, KAFKA_API_METADATA, 9, id, 0);
        size_t size = 0;
        for (unsigned round = 0; round < 5 && size < b.size; round++) {
            size += net_feed(good, b.data + size, b.size - size, b.size);
            net_settle(&net);
            net_pass(&net, NS_PER_MS);
        }
        assert_int_equal(size, b.size);
    }
    client_id = "test";
    check_answers(good, 59, 1);
    assert_in_range(set.pool.budget.used_bytes, 2 << 20, 5 << 20);
    buf_deinit(&b);
    end();
}

/* Who sends a large request steadily is not disturbed, however little of the budget there is. */
static void test_steady_parts_stay(void **state) {
    (void)state;
    begin(2 << 20, 0, 100, INT32_MAX);
    static uint8_t part[1000000] = {0, 0x30, 0, 0}, more[10000];
    struct env_conn *slow = accept_one("10.0.0.1"), *other = accept_one("10.0.0.2");
    net_feed(slow, part, sizeof(part), 40000);
    more[1] = 0x10;
    assert_int_equal(net_feed(other, more, 5000, 5000), RECEIVE_LITTLE_BYTES);
    more[1] = 0;
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(net_feed(slow, more, sizeof(more), sizeof(more)), sizeof(more));
        net_pass(&net, NS_PER_S);
        assert_false(slow->closed);
    }
    end();
}

/* --- Answers that nobody takes. */

/* Many ask for much and read nothing: no more is begun than the budget allows, small things go on, and in the end they make
 * way for who reads. */
static void test_unread_answers_make_way(void **state) {
    (void)state;
    enum { COUNT = 30 };
    answer_bytes = 1 << 20;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c[COUNT], *writer = accept_one("10.0.0.2"), *reader = accept_one("10.0.0.3");
    for (int i = 0; i < COUNT; i++) {
        c[i] = accept_one("10.0.0.1");
        c[i]->stuck = true;
        send_request(c[i], KAFKA_API_FIND_COORDINATOR, i, 3);
    }
    unsigned begun = 0;
    for (int i = 0; i < COUNT; i++) begun += gates[i].started;
    assert_in_range(begun, 3, 5);
    assert_true(set.unsent_bytes < (1 << 20) + 310000);
    gates[100].append_go = gates[100].done_go = gates[101].done_go = true;
    send_request(writer, KAFKA_API_PRODUCE, 100, 1);
    send_request(writer, KAFKA_API_METADATA, 101, 0);
    check_answers(writer, 2, 100);
    send_request(reader, KAFKA_API_FIND_COORDINATOR, 102, 3);
    assert_false(gates[102].started);
    unsigned seconds = 0;
    for (; seconds < 100 && !gates[102].started; seconds++) {
        net_pass(&net, NS_PER_S);
        assert_true(set.unsent_bytes < (1 << 20) + 12 * 310000);
    }
    check_answers(reader, 1, 102);
    assert_in_range(seconds, 5, 90);
    assert_true(c[0]->closed && c[0]->aborted);
    assert_false(writer->closed || reader->closed);
    end();
}

/* The budget of answers: half of what is left, and a megabyte in any case. */
static void test_answers_are_granted(void **state) {
    (void)state;
    answer_bytes = 64 << 20; /* an eighth is kept back */
    begin(16 << 20, 0, 100, INT32_MAX);
    static struct request r[40];
    size_t granted[40], sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(r); i++) {
        r[i] = (struct request){.conns = &set};
        (void)request_answer_grant(&r[i], 200); /* what is asked for later counts instead */
        sum += granted[i] = request_answer_grant(&r[i], 55 << 20);
    }
    assert_int_equal(granted[0], 28 << 20);
    assert_int_equal(granted[1], 14 << 20);
    assert_int_equal(granted[5], CONN_ANSWER_MIN);
    assert_int_equal(granted[6], CONN_ANSWER_MIN);
    assert_int_equal(granted[7], CONN_ANSWER_LEAST);
    assert_int_equal(set.granted_bytes, sum);
    assert_true(sum < 60 << 20);
    for (size_t i = 0; i < ARRAY_LEN(r); i++) (void)request_answer_grant(&r[i], 0);
    assert_int_equal(request_answer_grant(&r[0], 100), 100);
    assert_int_equal(request_answer_grant(&r[0], 0), 0);
    assert_int_equal(set.granted_bytes, 0);
    end();
}

/* --- Freshness. */

static const struct api leased_apis[] = {
    {KAFKA_API_PRODUCE, 3, 13, API_OVERLAPS, fake_produce},
    {KAFKA_API_METADATA, 0, 13, API_LEASED, fake_metadata},
};
static struct {
    uint64_t since_ns, known_ns; /* asked for; as of when it is known */
    unsigned asked;
    bool go;
    enum err answer;
} office;

static bool office_known(void *shard, uint64_t after_ns) {
    (void)shard;
    return office.known_ns > after_ns;
}

static enum err office_confirm(void *shard, uint64_t after_ns) {
    if (office_known(shard, after_ns)) return OK;
    office.since_ns = after_ns;
    office.asked++;
    while (!office.go) waitq_wait(&gate_changed);
    return office.answer;
}

static void office_says(enum err answer) {
    office.answer = answer;
    office.go = true;
    waitq_wake_all(&gate_changed);
    net_settle(&net);
    office.go = false;
}

static void begin_with_office(void) {
    begin(16 << 20, 0, 100, INT32_MAX);
    net_pass(&net, 100 * NS_PER_S);
    memset(&office, 0, sizeof(office));
    set.o.apis = leased_apis;
    set.o.api_count = ARRAY_LEN(leased_apis);
    set.o.office_known = office_known;
    set.o.confirm_office = office_confirm;
}

static void test_leased_answers_wait_for_the_office(void **state) {
    (void)state;
    begin_with_office();
    struct env_conn *c = accept_one("10.0.0.1");
    uint64_t now = env_now_ns(&net.env);
    send_request(c, KAFKA_API_METADATA, 1, 0);
    let_finish(1); /* outside any fiber */
    check_answers(c, 0, 0);
    assert_int_equal(office.asked, 1);
    assert_int_equal(office.since_ns, now - BROKER_LEASE_NS);
    office.known_ns = now;
    office_says(OK);
    check_answers(c, 1, 1);
    send_request(c, KAFKA_API_METADATA, 2, 0); /* now it is known */
    let_finish(2);
    check_answers(c, 2, 1);
    assert_int_equal(office.asked, 1);
    gates[3].done_go = true; /* answered by the handler itself */
    net_pass(&net, 2 * BROKER_LEASE_NS);
    send_request(c, KAFKA_API_METADATA, 3, 0);
    check_answers(c, 2, 1);
    assert_int_equal(office.asked, 2);
    office_says(ERR_UNAVAILABLE); /* nobody said something better */
    check_answers(c, 2, 1);
    assert_true(c->closed);
    end();
}

static void test_accusations_wait_for_the_office(void **state) {
    (void)state;
    begin_with_office();
    struct env_conn *c = accept_one("10.0.0.1");
    send_request(c, KAFKA_API_PRODUCE, 1, 1);
    let_finish(1);
    check_answers(c, 1, 1);
    assert_int_equal(office.asked, 0); /* what accuses nobody is not asked about */
    office.known_ns = env_now_ns(&net.env);
    net_pass(&net, NS_PER_MS);
    uint64_t received = env_now_ns(&net.env);
    gates[2].accuses = true;
    for (int i = 2; i <= 3; i++) send_request(c, KAFKA_API_PRODUCE, i, 1);
    let_finish(2);
    let_finish(3);
    assert_true(gates[3].done);
    check_answers(c, 1, 1); /* the next one's turn has not come */
    assert_int_equal(office.asked, 1);
    assert_int_equal(office.since_ns, received); /* an earlier look does not count */
    office_says(OK);
    check_answers(c, 3, 1);
    gates[4].accuses = true;
    send_request(c, KAFKA_API_PRODUCE, 4, 1);
    let_finish(4);
    office_says(ERR_FENCED);
    check_answers(c, 3, 1);
    assert_true(c->closed);
    end();
}

/* What is said to be done, perhaps without a write, is asked for as accusations are: as of after the request. */
static void test_certain_answers_wait_for_the_office(void **state) {
    (void)state;
    static const struct api certain_apis[] = {{KAFKA_API_METADATA, 0, 13, API_CERTAIN, fake_metadata}};
    begin_with_office();
    set.o.apis = certain_apis;
    set.o.api_count = ARRAY_LEN(certain_apis);
    struct env_conn *c = accept_one("10.0.0.1");
    office.known_ns = env_now_ns(&net.env);
    net_pass(&net, NS_PER_MS);
    uint64_t received = env_now_ns(&net.env);
    send_request(c, KAFKA_API_METADATA, 1, 0);
    let_finish(1);
    check_answers(c, 0, 0);
    assert_int_equal(office.asked, 1);
    assert_int_equal(office.since_ns, received);
    office_says(OK);
    check_answers(c, 1, 1);
    gates[2].done_go = true; /* answered by the handler itself */
    send_request(c, KAFKA_API_METADATA, 2, 0);
    check_answers(c, 1, 1);
    office_says(ERR_UNAVAILABLE);
    assert_true(c->closed);
    end();
}

static void test_client_leaves_while_the_office_is_asked(void **state) {
    (void)state;
    begin_with_office();
    struct env_conn *c = accept_one("10.0.0.1");
    send_request(c, KAFKA_API_METADATA, 1, 0);
    let_finish(1);
    assert_int_equal(office.asked, 1);
    c->events->closed(c->ctx, ERR_CLOSED);
    net_settle(&net);
    assert_true(c->closed);
    assert_false(gates[1].woken);
    office_says(OK);
    end();
}

/* --- Ends. */

static void test_client_leaves_while_waiting(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *c = accept_one("10.0.0.1"), *p = accept_one("10.0.0.1");
    send_request(c, KAFKA_API_METADATA, 1, 0);
    send_request(p, KAFKA_API_PRODUCE, 2, 1);
    send_request(p, KAFKA_API_PRODUCE, 3, 1);
    assert_non_null(gates[1].waiting);
    c->events->closed(c->ctx, ERR_CLOSED);
    p->events->closed(p->ctx, ERR_IO);
    net_settle(&net);
    assert_true(c->closed && p->closed);
    assert_true(gates[1].cancelled);
    /* A produce at work goes on without its client; the one that had not begun never does. */
    let_finish(2);
    let_finish(3);
    assert_true(gates[2].done);
    assert_false(gates[3].started);
    end();
}

static void test_idle_connections_are_closed(void **state) {
    (void)state;
    begin(16 << 20, 10 * NS_PER_S, 100, INT32_MAX);
    struct env_conn *idle = accept_one("10.0.0.1"), *busy = accept_one("10.0.0.1"), *waits = accept_one("10.0.0.1");
    send_request(waits, KAFKA_API_METADATA, 1, 0);
    gates[2].done_go = true;
    for (int i = 0; i < 8; i++) {
        net_pass(&net, 3 * NS_PER_S);
        send_request(busy, KAFKA_API_METADATA, 2, 0);
    }
    assert_true(idle->closed);
    assert_false(busy->closed);
    assert_false(waits->closed); /* it waits for us */
    net_pass(&net, 30 * NS_PER_S);
    assert_true(busy->closed);
    end();
}

/* Two connections whose requests wait for longer than an idle one may live, and a clock that goes on while they are looked
 * at: the walk over them ends. It did not once, after every pause that was longer than connections.max.idle.ms. */
static void test_waiting_connections_do_not_hold_up_the_loop(void **state) {
    (void)state;
    begin(16 << 20, 10 * NS_PER_S, 100, INT32_MAX);
    struct env_conn *first = accept_one("10.0.0.1"), *second = accept_one("10.0.0.1");
    send_request(first, KAFKA_API_METADATA, 1, 0);
    send_request(second, KAFKA_API_METADATA, 2, 0);
    net.tick_ns = 100;
    net_pass(&net, 60 * NS_PER_S);
    net.tick_ns = 0;
    assert_false(first->closed);
    assert_false(second->closed);
    end();
}

static void test_quotas(void **state) {
    (void)state;
    begin(16 << 20, 0, 3, 2);
    struct env_conn *c[6];
    static const char *const hosts[] = {"10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"};
    static const bool refused[] = {false, false, true, false, true, false};
    for (size_t i = 0; i < 6; i++) {
        if (i == 5) {
            c[0]->events->closed(c[0]->ctx, ERR_CLOSED);
            net_settle(&net);
        }
        c[i] = accept_one(hosts[i]);
        assert_int_equal(c[i]->closed, refused[i]);
    }
    end();
}

static void test_drain_answers_what_is_under_way(void **state) {
    (void)state;
    begin(16 << 20, 0, 100, INT32_MAX);
    struct env_conn *p = accept_one("10.0.0.1"), *w = accept_one("10.0.0.2"), *i = accept_one("10.0.0.3");
    send_request(p, KAFKA_API_PRODUCE, 1, 1);
    send_request(p, KAFKA_API_METADATA, 2, 0); /* not begun: never answered */
    send_request(w, KAFKA_API_METADATA, 3, 0);
    bool drained = false;
    fiber_spawn(&net.loop, "drain", drain_main, &drained);
    net_settle(&net);
    assert_true(i->closed);
    assert_true(gates[3].woken);
    assert_false(gates[3].cancelled);
    assert_false(drained);
    let_finish(3);
    assert_true(w->closed);
    check_answers(w, 1, 3);
    let_finish(1);
    check_answers(p, 1, 1);
    assert_true(p->closed);
    net_settle(&net);
    assert_true(drained);
    conns_deinit(&set);
    conn_quota_deinit(&quota);
    net_deinit(&net);
    assert_int_equal(atomic_load(&net.mem.allocated_bytes), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_produce_overlaps_in_order),
        cmocka_unit_test(test_others_are_barriers),
        cmocka_unit_test(test_connections_do_not_wait_for_each_other),
        cmocka_unit_test(test_acks_0_is_not_answered),
        cmocka_unit_test(test_pieces_of_any_size),
        cmocka_unit_test(test_garbage_closes),
        cmocka_unit_test(test_complaints_are_few),
        cmocka_unit_test(test_unknown_api_versions),
        cmocka_unit_test(test_decoding_is_limited),
        cmocka_unit_test(test_unsent_answers_hold_back),
        cmocka_unit_test(test_too_many_requests_hold_back),
        cmocka_unit_test(test_stalled_parts_make_way),
        cmocka_unit_test(test_trickling_parts_make_way),
        cmocka_unit_test(test_proven_clients_go_on),
        cmocka_unit_test(test_steady_parts_stay),
        cmocka_unit_test(test_unread_answers_make_way),
        cmocka_unit_test(test_answers_are_granted),
        cmocka_unit_test(test_leased_answers_wait_for_the_office),
        cmocka_unit_test(test_certain_answers_wait_for_the_office),
        cmocka_unit_test(test_accusations_wait_for_the_office),
        cmocka_unit_test(test_client_leaves_while_the_office_is_asked),
        cmocka_unit_test(test_client_leaves_while_waiting),
        cmocka_unit_test(test_idle_connections_are_closed),
        cmocka_unit_test(test_waiting_connections_do_not_hold_up_the_loop),
        cmocka_unit_test(test_quotas),
        cmocka_unit_test(test_drain_answers_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
