/* Connections: the order of requests and answers, what happens to garbage, and how they end. */
#include "unit/broker/conn_fixture.h"

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
        cmocka_unit_test(test_client_leaves_while_waiting),
        cmocka_unit_test(test_idle_connections_are_closed),
        cmocka_unit_test(test_waiting_connections_do_not_hold_up_the_loop),
        cmocka_unit_test(test_quotas),
        cmocka_unit_test(test_drain_answers_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
