/* Connections when there is too much: of requests, of parts of them, and of answers that nobody takes. */
#include "unit/broker/conn_fixture.h"

static char long_id[3000]; /* of requests that are not little */

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
    assert_true(set.unsent_bytes <= 1 << 20); /* the next one waits before it is encoded */
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsent_answers_hold_back), cmocka_unit_test(test_too_many_requests_hold_back),
        cmocka_unit_test(test_stalled_parts_make_way),   cmocka_unit_test(test_trickling_parts_make_way),
        cmocka_unit_test(test_proven_clients_go_on),     cmocka_unit_test(test_steady_parts_stay),
        cmocka_unit_test(test_unread_answers_make_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
