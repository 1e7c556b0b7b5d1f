/* The simulated network: bytes arrive in order and whole, windows hold senders back, ends are told, each fault by itself. */
#include "unit/sim/sim_test.h"

#include <string.h>

#include "sim/net.h"

#define SENT ((size_t)1 << 20)

struct side {
    struct env *env;
    struct env_conn *conn;
    uint8_t buffer[4096];
    size_t got, wrong, queued;
    bool closed, paused;
    enum err why;
    struct waitq news;
};

static struct env_bytes side_room(void *ctx) {
    struct side *s = ctx;
    return (struct env_bytes){s->buffer, s->paused ? 0 : sizeof(s->buffer)};
}
static void side_received(void *ctx, size_t size) {
    struct side *s = ctx;
    for (size_t i = 0; i < size; i++) s->wrong += s->buffer[i] != (uint8_t)((s->got + i) * 7);
    s->got += size;
    waitq_wake_all(&s->news);
}
static void side_sent(void *ctx, size_t queued) {
    struct side *s = ctx;
    s->queued = queued;
    waitq_wake_all(&s->news);
}
static void side_closed(void *ctx, enum err why) {
    struct side *s = ctx;
    s->closed = true;
    s->why = why;
    waitq_wake_all(&s->news);
}
static const struct env_conn_events side_events = {side_room, side_received, side_sent, side_closed};

static void side_take(struct side *s, struct env *e, struct env_conn *c) {
    s->env = e;
    s->conn = c;
    env_conn_start(e, c, &side_events, s);
}

struct net_test {
    struct sim_world *world;
    struct sim_node *server, *client;
    struct side at_server, at_client;
    bool over, pause_server;
};

static void accepted(void *ctx, struct env_conn *c) {
    struct net_test *t = ctx;
    side_take(&t->at_server, &t->server->env, c);
}

static void server_main(void *arg) {
    struct net_test *t = arg;
    struct env *env = loop_current()->env;
    struct env_listener *l;
    struct env_address bound;
    waitq_init(&t->at_server.news);
    assert_int_equal(env_listen(env, "", 80, false, accepted, t, &l, &bound), OK);
    assert_int_equal(bound.port, 80);
    t->at_server.paused = t->pause_server;
    while (!t->over) fiber_sleep_ns(10 * NS_PER_MS);
    if (t->at_server.conn) env_conn_close(env, t->at_server.conn, false);
    env_listener_close(env, l);
}

static void send_bytes(struct side *s, size_t from, size_t size) {
    struct slab *slab = slab_create(s->env->mem, size, 16);
    for (size_t i = 0; i < size; i++) slab->data[i] = (uint8_t)((from + i) * 7);
    struct slice slice = slice_of(slab, 0, size);
    slab_unref(slab);
    env_conn_send(s->env, s->conn, &slice, 1);
}

static void dial(struct net_test *t) {
    struct env *env = loop_current()->env;
    struct env_conn *c;
    char host[64];
    sim_net_address(t->server, host, sizeof(host));
    waitq_init(&t->at_client.news);
    enum err e;
    while ((e = env_connect(env, host, 80, &c)) == ERR_UNAVAILABLE) fiber_sleep_ns(NS_PER_MS);
    assert_int_equal(e, OK);
    side_take(&t->at_client, env, c);
}

static void client_main(void *arg) {
    struct net_test *t = arg;
    dial(t);
    for (size_t at = 0; at < SENT; at += SENT / 8) send_bytes(&t->at_client, at, SENT / 8);
    if (t->pause_server) {
        fiber_sleep_ns(5 * NS_PER_S);
        assert_int_equal(t->at_server.got, 0);
        assert_true(env_conn_queued(t->at_client.env, t->at_client.conn) >= SENT - SIM_NET_WINDOW - (SENT / 8));
        t->over = true; /* closes unread: we are reset */
        while (!t->at_client.closed) waitq_wait(&t->at_client.news);
    } else {
        while (t->at_server.got < SENT) fiber_sleep_ns(NS_PER_MS);
        assert_int_equal(t->at_server.wrong, 0);
        assert_int_equal(env_conn_queued(t->at_client.env, t->at_client.conn), 0);
        t->over = true;
        while (!t->at_client.closed) waitq_wait(&t->at_client.news);
        assert_int_equal(t->at_client.why, ERR_CLOSED);
    }
    env_conn_close(t->at_client.env, t->at_client.conn, false);
}

static struct net_test net_begin(void) {
    struct net_test t = {.world = test_world(5)};
    t.server = sim_node_create(t.world, "server");
    t.client = sim_node_create(t.world, "client");
    return t;
}

static void bytes_arrive_and_the_end_is_told(void **state) {
    (void)state;
    for (unsigned paused = 0; paused < 2; paused++) {
        struct net_test t = net_begin();
        t.pause_server = paused;
        sim_node_start(t.server, server_main, &t);
        test_run(t.client, client_main, &t);
        test_until_down(t.server);
        sim_world_destroy(t.world);
    }
}

static void nobody_main(void *arg) {
    struct net_test *t = arg;
    struct env *env = loop_current()->env;
    struct env_conn *c;
    char host[64];
    sim_net_address(t->server, host, sizeof(host));
    assert_int_equal(env_connect(env, host, 81, &c), ERR_UNAVAILABLE);
    assert_int_equal(env_connect(env, "localhost", 80, &c), ERR_UNAVAILABLE);
    sim_net_cut(t->world, t->client, t->server, true);
    uint64_t from = env_now_ns(env);
    assert_int_equal(env_connect(env, host, 80, &c), ERR_TIMEOUT);
    assert_true(env_now_ns(env) - from > 100 * NS_PER_S);
    t->over = true;
}

static void who_is_not_there_does_not_answer(void **state) {
    (void)state;
    struct net_test t = net_begin();
    sim_node_start(t.server, server_main, &t);
    test_run(t.client, nobody_main, &t);
    sim_world_destroy(t.world);
}

/* A cut way delays, a killed process is told of, a machine without power is not. */
static void crash_main(void *arg) {
    struct net_test *t = arg;
    dial(t);
    sim_net_cut(t->world, t->client, t->server, true);
    send_bytes(&t->at_client, 0, 100);
    fiber_sleep_ns(30 * NS_PER_S);
    assert_int_equal(t->at_server.got, 0);
    sim_net_heal(t->world);
    fiber_sleep_ns(5 * NS_PER_S);
    assert_int_equal(t->at_server.got, 100);
    sim_node_crash(t->server, t->pause_server ? SIM_POWER_CUT : SIM_KILL);
    fiber_sleep_ns(10 * NS_PER_S);
    assert_int_equal(t->at_client.closed, !t->pause_server);
    if (t->pause_server) {
        t->pause_server = false;
        t->at_server.conn = NULL; /* went with its process */
        t->over = true;           /* comes up and goes */
        sim_node_start(t->server, server_main, t);
        send_bytes(&t->at_client, 100, 10);
        fiber_sleep_ns(10 * NS_PER_S);
        assert_true(t->at_client.closed);
    }
    env_conn_close(t->at_client.env, t->at_client.conn, true);
}

static void crashes_end_connections(void **state) {
    (void)state;
    for (unsigned power = 0; power < 2; power++) {
        struct net_test t = net_begin();
        sim_node_start(t.server, server_main, &t);
        t.pause_server = false;
        sim_node_start(t.client, crash_main, &t);
        test_pass(t.world, NS_PER_MS);
        t.pause_server = power; /* read by crash_main only from here on */
        test_until_down(t.client);
        sim_world_destroy(t.world);
    }
}

static void reset_main(void *arg) {
    struct net_test *t = arg;
    dial(t);
    t->world->faults.chance[SIM_NET_RESET] = 1;
    send_bytes(&t->at_client, 0, 100);
    fiber_sleep_ns(5 * NS_PER_S);
    assert_true(t->at_client.closed && t->at_server.closed);
    assert_int_equal(t->at_server.got, 0);
    env_conn_close(t->at_client.env, t->at_client.conn, true);
    memset(&t->at_client, 0, sizeof(t->at_client));
    t->world->faults.chance[SIM_NET_RESET] = 0;
    t->world->faults.chance[SIM_NET_SILENT] = 1;
    struct side old = t->at_server;
    memset(&t->at_server, 0, sizeof(t->at_server));
    dial(t);
    send_bytes(&t->at_client, 0, 100);
    fiber_sleep_ns(60 * NS_PER_S);
    assert_false(t->at_client.closed || t->at_server.closed);
    assert_int_equal(t->at_server.got, 0);
    env_conn_close(t->at_client.env, t->at_client.conn, true);
    (void)old;
    sim_node_crash(t->server, SIM_KILL);
}

static void connections_are_reset_or_fall_silent(void **state) {
    (void)state;
    struct net_test t = net_begin();
    sim_node_start(t.server, server_main, &t);
    test_run(t.client, reset_main, &t);
    sim_world_destroy(t.world);
}

/* --- A crash between two effects of one step. */

static void two_sends_main(void *arg) {
    struct net_test *t = arg;
    dial(t);
    sim_node_crash_in_effects(t->client, 2, t->pause_server ? SIM_POWER_CUT : SIM_KILL);
    send_bytes(&t->at_client, 0, 100);
    send_bytes(&t->at_client, 100, 100); /* in the same step */
    send_bytes(&t->at_client, 200, 100);
    env_conn_close(t->at_client.env, t->at_client.conn, false);
    fiber_yield();
    fail();
}

static void a_crash_comes_between_two_sends(void **state) {
    (void)state;
    for (unsigned power = 0; power < 2; power++) {
        struct net_test t = net_begin();
        sim_node_start(t.server, server_main, &t);
        test_pass(t.world, NS_PER_MS);
        t.pause_server = power;
        sim_node_start(t.client, two_sends_main, &t);
        test_until_down(t.client);
        test_pass(t.world, 10 * NS_PER_S);
        assert_int_equal(t.at_server.got, 100);
        assert_int_equal(t.at_server.wrong, 0);
        assert_int_equal(t.at_server.closed, !power);
        sim_node_crash(t.server, SIM_KILL);
        sim_world_destroy(t.world);
    }
}

/* --- Cut ways: one direction, or both. */

static void cut_main(void *arg) {
    struct net_test *t = arg;
    struct sim_world *w = t->world;
    dial(t);
    send_bytes(&t->at_client, 0, 10);
    fiber_sleep_ns(NS_PER_S);
    assert_int_equal(t->at_server.got, 10);
    sim_net_cut(w, t->server, t->client, true); /* only back */
    send_bytes(&t->at_client, 10, 10);
    fiber_sleep_ns(30 * NS_PER_S);
    assert_int_equal(t->at_server.got, 20);
    t->over = true; /* the server closes, and we do not hear of it */
    fiber_sleep_ns(30 * NS_PER_S);
    assert_false(t->at_client.closed);
    sim_net_cut(w, t->client, t->server, true);
    assert_int_equal(w->fault_counts[SIM_NET_CUT], 2);
    sim_net_cut(w, t->client, t->server, true); /* is cut already */
    assert_int_equal(w->fault_counts[SIM_NET_CUT], 2);
    fiber_sleep_ns(30 * NS_PER_S);
    sim_net_cut(w, t->server, t->client, false);
    fiber_sleep_ns(5 * NS_PER_S);
    assert_true(t->at_client.closed);
    env_conn_close(t->at_client.env, t->at_client.conn, true);
}

static void ways_are_cut_one_by_one(void **state) {
    (void)state;
    struct net_test t = net_begin();
    sim_node_start(t.server, server_main, &t);
    test_run(t.client, cut_main, &t);
    sim_world_destroy(t.world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_and_the_end_is_told), cmocka_unit_test(who_is_not_there_does_not_answer),
        cmocka_unit_test(crashes_end_connections),          cmocka_unit_test(connections_are_reset_or_fall_silent),
        cmocka_unit_test(a_crash_comes_between_two_sends),  cmocka_unit_test(ways_are_cut_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
