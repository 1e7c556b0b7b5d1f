/* Sockets of the real environment. They are the same under both back ends; most tests still run over both, since
 * completions of io_uring interrupt the waits that sockets depend on. */
#include "unit/rt/linux_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/list.h"

/* One end of a connection: sends back what it receives (echo), or collects it. */
struct end {
    struct linux_fixture *x;
    struct env_conn *conn;
    struct list node;
    bool echo, paused, closed, accepted;
    bool close_on_end; /* the owner closes within closed() */
    enum err why;
    char buffer[1000];
    size_t room_limit; /* of buffer; 0 pauses */
    size_t queue_limit;
    uint64_t received, sent_events, rooms;
    size_t queued_before, largest_step; /* by which the queue became shorter */
    uint8_t next;                       /* the byte expected next */
    uint64_t collect_until;
    struct waitq changed;
};

struct server {
    struct linux_fixture *x;
    struct env_listener *listener;
    struct env_address at;
    struct list ends;
    unsigned accepted, closed;
    bool echo;
    size_t room_limit;
    struct waitq changed;
};

static struct env_bytes end_room(void *ctx) {
    struct end *n = ctx;
    assert_null(fiber_self());
    n->rooms++;
    if (n->paused || (n->echo && env_conn_queued(n->x->env, n->conn) > n->queue_limit)) {
        n->paused = true;
        return (struct env_bytes){NULL, 0};
    }
    return (struct env_bytes){n->buffer, n->room_limit};
}

static void end_received(void *ctx, size_t size) {
    struct end *n = ctx;
    assert_true(size > 0 && size <= n->room_limit);
    n->received += size;
    if (n->echo) {
        struct slab *slab = slab_create(n->x->env->mem, size, 16);
        memcpy(slab->data, n->buffer, size);
        struct slice slices[3];
        /* In pieces, one of them empty. */
        slices[0] = slice_of(slab, 0, size / 3);
        slices[1] = slice_of(slab, 0, 0);
        slices[2] = slice_of(slab, size / 3, size - size / 3);
        slab_unref(slab);
        env_conn_send(n->x->env, n->conn, slices, 3);
    } else {
        for (size_t i = 0; i < size; i++) assert_int_equal((uint8_t)n->buffer[i], n->next++);
    }
    waitq_wake_all(&n->changed);
}

static void end_sent(void *ctx, size_t queued_bytes) {
    struct end *n = ctx;
    assert_int_equal(queued_bytes, env_conn_queued(n->x->env, n->conn));
    n->sent_events++;
    size_t step = n->queued_before > queued_bytes ? n->queued_before - queued_bytes : 0;
    if (step > n->largest_step) n->largest_step = step;
    n->queued_before = queued_bytes;
    if (n->echo && n->paused && queued_bytes <= n->queue_limit / 2) {
        n->paused = false;
        env_conn_resume(n->x->env, n->conn);
    }
    waitq_wake_all(&n->changed);
}

static void end_closed(void *ctx, enum err why) {
    struct end *n = ctx;
    assert_false(n->closed);
    n->closed = true;
    n->why = why;
    if (n->close_on_end) {
        env_conn_close(n->x->env, n->conn, false);
        n->conn = NULL;
    }
    waitq_wake_all(&n->changed);
}

static const struct env_conn_events end_events = {end_room, end_received, end_sent, end_closed};

static struct end *end_new(struct linux_fixture *x, struct env_conn *c, bool echo) {
    struct end *n = calloc(1, sizeof(*n));
    n->x = x;
    n->conn = c;
    n->echo = echo;
    n->room_limit = sizeof(n->buffer);
    n->queue_limit = 64 * 1024;
    waitq_init(&n->changed);
    list_init(&n->node);
    env_conn_start(x->env, c, &end_events, n);
    return n;
}

static void end_free(struct end *n, bool abort) {
    if (n->conn) env_conn_close(n->x->env, n->conn, abort);
    list_remove(&n->node);
    free(n);
}

static void server_accepted(void *ctx, struct env_conn *c) {
    struct server *s = ctx;
    assert_null(fiber_self());
    struct end *n = end_new(s->x, c, s->echo);
    if (s->room_limit) n->room_limit = s->room_limit;
    n->close_on_end = s->echo;
    list_push_back(&s->ends, &n->node);
    s->accepted++;
    waitq_wake_all(&s->changed);
}

static void server_start(struct linux_fixture *x, struct server *s, const char *host, bool echo) {
    *s = (struct server){.x = x, .echo = echo};
    list_init(&s->ends);
    waitq_init(&s->changed);
    assert_int_equal(env_listen(x->env, host, 0, false, server_accepted, s, &s->listener, &s->at), OK);
    assert_true(s->at.port > 0);
}

static void server_stop(struct server *s) {
    if (s->listener) env_listener_close(s->x->env, s->listener);
    while (!list_empty(&s->ends)) end_free(LIST_ENTRY(s->ends.next, struct end, node), true);
}

static struct end *server_end(struct server *s, unsigned number) {
    while (s->accepted <= number) waitq_wait(&s->changed);
    struct list *l = s->ends.next;
    while (number--) l = l->next;
    return LIST_ENTRY(l, struct end, node);
}

static struct end *client(struct linux_fixture *x, const char *host, uint16_t port) {
    struct env_conn *c = NULL;
    assert_int_equal(env_connect(x->env, host, port, &c), OK);
    return end_new(x, c, false);
}

static void send_bytes(struct end *n, const void *data, size_t size) {
    struct slice s = slice_borrow(data, size);
    env_conn_send(n->x->env, n->conn, &s, 1);
}

/* --- Echo. */

static uint8_t *pattern(size_t size) {
    uint8_t *p = malloc(size);
    for (size_t i = 0; i < size; i++) p[i] = (uint8_t)i;
    return p;
}

static void megabytes_are_echoed(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", true);
    struct end *c = client(x, s.at.host, s.at.port);
    size_t size = (48 << 20) + 77; /* more than the kernel's largest buffers of both ends */
    uint8_t *data = pattern(size);
    /* In slices of growing size, thousands in one call. */
    struct slice *slices = calloc(10000, sizeof(*slices));
    size_t count = 0;
    for (size_t at = 0; at < size; count++) {
        size_t n = count % 900 * 40 < size - at ? count % 900 * 40 : size - at;
        slices[count] = slice_borrow(data + at, n);
        at += n;
        assert_true(count < 9999);
    }
    env_conn_send(x->env, c->conn, slices, count);
    assert_true(env_conn_queued(x->env, c->conn) > 0); /* more than any socket takes at once */
    while (c->received < size) {
        assert_true(waitq_wait_until(&c->changed, env_now_ns(x->env) + 60 * NS_PER_S));
        assert_false(c->closed);
    }
    assert_int_equal(c->received, size);
    assert_int_equal(env_conn_queued(x->env, c->conn), 0);
    assert_true(c->sent_events > 0);
    end_free(c, false);
    struct end *n = server_end(&s, 0);
    while (!n->closed) waitq_wait(&n->changed);
    assert_int_equal(n->why, ERR_CLOSED);
    assert_int_equal(n->received, size);
    server_stop(&s);
    free(slices);
    free(data);
}
TEST_BOTH(megabytes_are_echoed)

/* Without pause there is something left to do, so that the loop never waits: descriptors are looked at all the same. */
static void who_never_rests_keeps_nobody_out(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", true);
    struct end *c = client(x, s.at.host, s.at.port);
    size_t size = 3000000;
    uint8_t *data = pattern(size);
    send_bytes(c, data, size);
    uint64_t patience_ns = env_now_ns(x->env) + 60 * NS_PER_S;
    while (c->received < size) {
        fiber_yield();
        assert_true(env_now_ns(x->env) < patience_ns);
    }
    end_free(c, false);
    server_stop(&s);
    free(data);
}
TEST_BOTH(who_never_rests_keeps_nobody_out)

static long thread_switches(void) {
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_THREAD, &u), 0);
    return u.ru_nvcsw;
}

static void receiving_pauses_and_resumes(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "", false);
    assert_string_equal(s.at.host, "0.0.0.0");
    struct end *c = client(x, "127.0.0.1", s.at.port);
    struct end *n = server_end(&s, 0);
    n->paused = true;
    size_t size = 300000;
    uint8_t *data = pattern(size);
    send_bytes(c, data, size);
    while (n->rooms == 0) fiber_sleep_ns(NS_PER_MS);
    long switches = thread_switches();
    for (int i = 0; i < 5; i++) fiber_sleep_ns(NS_PER_MS);
    assert_true(thread_switches() >= switches + 5); /* it slept rather than spun over bytes that nobody wants */
    assert_int_equal(n->received, 0);
    assert_int_equal(n->rooms, 1); /* asked once, then not again */
    n->paused = false;
    env_conn_resume(x->env, n->conn);
    while (n->received < size) waitq_wait(&n->changed);
    assert_int_equal(n->received, size);
    end_free(c, false);
    server_stop(&s);
    free(data);
}
TEST_BOTH(receiving_pauses_and_resumes)

static void room_is_asked_only_when_bytes_are_there(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    s.room_limit = 10;
    struct end *c = client(x, s.at.host, s.at.port);
    struct end *n = server_end(&s, 0);
    uint8_t *data = pattern(40);
    send_bytes(c, data, 40);
    while (n->received < 40) waitq_wait(&n->changed);
    fiber_sleep_ns(NS_PER_MS);
    assert_int_equal(n->rooms, 4);
    end_free(c, false);
    while (!n->closed) waitq_wait(&n->changed);
    assert_int_equal(n->rooms, 4); /* the end is not bytes */
    server_stop(&s);
    free(data);
}
TEST_BOTH(room_is_asked_only_when_bytes_are_there)

/* What is patient goes out in small pieces while others are answered, and as fast as it can while nobody is. */
static void patient_sends_give_way(struct linux_fixture *x) {
    enum { SIZE = 700000 };
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    struct end *a = client(x, s.at.host, s.at.port), *b = client(x, s.at.host, s.at.port);
    struct end *to_a = server_end(&s, 0), *to_b = server_end(&s, 1);
    uint8_t *data = pattern(SIZE);
    env_conn_patient(x->env, to_b->conn, true);
    send_bytes(to_b, data, SIZE);
    assert_true(env_conn_queued(x->env, to_b->conn) < SIZE - (256 << 10)); /* what the socket took */
    while (b->received < SIZE) waitq_wait(&b->changed);

    send_bytes(to_a, data, 1);
    while (a->received < 1) waitq_wait(&a->changed);
    b->next = 0;
    to_b->largest_step = 0;
    to_b->queued_before = SIZE;
    send_bytes(to_b, data, SIZE);
    assert_int_equal(env_conn_queued(x->env, to_b->conn), SIZE);
    while (b->received < 2 * SIZE) waitq_wait(&b->changed);
    assert_true(to_b->largest_step > 0 && to_b->largest_step <= 128 << 10);

    env_conn_patient(x->env, to_b->conn, false);
    b->next = 0;
    send_bytes(to_b, data, SIZE);
    assert_true(env_conn_queued(x->env, to_b->conn) < SIZE - (256 << 10));
    while (b->received < 3 * SIZE) waitq_wait(&b->changed);
    end_free(a, false);
    end_free(b, false);
    server_stop(&s);
    free(data);
}
TEST_BOTH(patient_sends_give_way)

/* While it waits for its next turn, or for room, the loop sleeps; and it needs nothing else to happen to go on. Who is no
 * longer patient goes on at once, in order. */
static void patience_costs_nothing(struct linux_fixture *x) {
    enum { SIZE = 48 << 20 };
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    struct end *a = client(x, s.at.host, s.at.port), *b = client(x, s.at.host, s.at.port);
    struct end *to_a = server_end(&s, 0), *to_b = server_end(&s, 1);
    uint8_t *data = pattern(SIZE);
    send_bytes(to_a, data, 1);
    while (a->received < 1) waitq_wait(&a->changed);

    b->paused = true;
    env_conn_patient(x->env, to_b->conn, true);
    send_bytes(to_b, data, SIZE);
    for (size_t before = SIZE + 1; env_conn_queued(x->env, to_b->conn) < before;) {
        before = env_conn_queued(x->env, to_b->conn);
        fiber_sleep_ns(20 * NS_PER_MS);
    }
    assert_true(env_conn_queued(x->env, to_b->conn) > 0); /* the socket is full */
    long switches = thread_switches();
    for (int i = 0; i < 5; i++) fiber_sleep_ns(NS_PER_MS);
    assert_true(thread_switches() >= switches + 5);

    b->paused = false;
    env_conn_resume(x->env, b->conn);
    while (b->received < SIZE / 2) waitq_wait(&b->changed);
    env_conn_patient(x->env, to_b->conn, false);
    while (b->received < SIZE) waitq_wait(&b->changed);
    assert_int_equal(env_conn_queued(x->env, to_b->conn), 0);
    end_free(a, false);
    end_free(b, false);
    server_stop(&s);
    free(data);
}
TEST_BOTH(patience_costs_nothing)

/* --- Ends. */

static void peer_close_and_abort_are_told(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "localhost", false);
    for (int abort = 0; abort < 2; abort++) {
        struct end *c = client(x, s.at.host, s.at.port);
        struct end *n = server_end(&s, (unsigned)abort);
        uint8_t *data = pattern(5);
        send_bytes(c, data, 5);
        while (n->received < 5) waitq_wait(&n->changed);
        end_free(c, abort);
        while (!n->closed) waitq_wait(&n->changed);
        assert_int_equal(n->why, ERR_CLOSED);
        /* To send to whom is gone is harmless, and drops the bytes. */
        struct slab *slab = slab_create(x->env->mem, 100, 16);
        for (int i = 0; i < 3; i++) {
            struct slice one = slice_of(slab, 0, 100);
            env_conn_send(x->env, n->conn, &one, 1);
            fiber_sleep_ns(NS_PER_MS);
        }
        assert_int_equal(env_conn_queued(x->env, n->conn), 0);
        assert_int_equal(atomic_load(&slab->refs), 1);
        slab_unref(slab);
        free(data);
    }
    server_stop(&s);
}
TEST_BOTH(peer_close_and_abort_are_told)

/* A peer that resets while we do not read is noticed, and does not keep the loop busy. */
static void abort_is_told_while_paused(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    struct end *c = client(x, s.at.host, s.at.port);
    struct end *n = server_end(&s, 0);
    n->paused = true;
    uint8_t *data = pattern(100);
    send_bytes(c, data, 100);
    while (n->rooms == 0) fiber_sleep_ns(NS_PER_MS);
    end_free(c, true);
    while (!n->closed) waitq_wait(&n->changed);
    assert_int_equal(n->why, ERR_CLOSED);
    long switches = thread_switches();
    for (int i = 0; i < 5; i++) fiber_sleep_ns(NS_PER_MS);
    assert_true(thread_switches() >= switches + 5);
    server_stop(&s);
    free(data);
}
TEST_BOTH(abort_is_told_while_paused)

/* A send that fails tells the end from the loop, also to an owner that never reads. */
static void failed_send_is_told(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    struct end *c = client(x, s.at.host, s.at.port);
    struct end *n = server_end(&s, 0);
    static const uint8_t block[1 << 20];
    for (int i = 0; i < 16; i++) send_bytes(n, block, sizeof(block)); /* the client's loop reads none of it before: */
    size_t queued = env_conn_queued(x->env, n->conn);
    assert_true(queued > 0);
    end_free(c, true);
    while (!n->closed) waitq_wait(&n->changed);
    assert_int_equal(env_conn_queued(x->env, n->conn), 0);
    server_stop(&s);
}
TEST_BOTH(failed_send_is_told)

static int raw_connect(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* A peer that has closed its direction still gets what we send, then the end. */
static void half_open_peer_gets_the_answer(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    int fd = raw_connect(s.at.port);
    uint8_t question[3] = {0, 1, 2};
    assert_int_equal(write(fd, question, 3), 3);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    struct end *n = server_end(&s, 0);
    while (!n->closed) waitq_wait(&n->changed);
    assert_int_equal(n->received, 3);
    send_bytes(n, "answer", 6);
    env_conn_close(x->env, n->conn, false);
    n->conn = NULL;
    char back[16];
    assert_int_equal(recv(fd, back, 6, MSG_WAITALL), 6);
    assert_memory_equal(back, "answer", 6);
    assert_int_equal(read(fd, back, 1), 0);
    close(fd);
    server_stop(&s);
}
TEST_BOTH(half_open_peer_gets_the_answer)

/* What was sent right before a close arrives, although bytes of the peer were never read. */
static void last_words_arrive(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    int fd = raw_connect(s.at.port);
    struct end *n = server_end(&s, 0);
    n->paused = true;
    static const uint8_t unread[50000];
    assert_int_equal(write(fd, unread, sizeof(unread)), sizeof(unread));
    while (n->rooms == 0) fiber_sleep_ns(NS_PER_MS);
    send_bytes(n, "farewell", 8);
    env_conn_close(x->env, n->conn, false);
    n->conn = NULL;
    char back[16];
    assert_int_equal(recv(fd, back, 8, MSG_WAITALL), 8);
    assert_memory_equal(back, "farewell", 8);
    assert_int_equal(read(fd, back, 1), 0); /* an end, no reset */
    close(fd);
    server_stop(&s);
}
TEST_BOTH(last_words_arrive)

/* --- Many. */

static void five_hundred_connections(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "", true);
    enum { N = 500 };
    static struct end *clients[N];
    uint8_t *data = pattern(3000);
    for (int i = 0; i < N; i++) clients[i] = client(x, "127.0.0.1", s.at.port);
    for (int i = 0; i < N; i++) send_bytes(clients[i], data, 3000);
    for (int i = 0; i < N; i++) {
        while (clients[i]->received < 3000) waitq_wait(&clients[i]->changed);
        assert_int_equal(clients[i]->received, 3000);
    }
    assert_int_equal(s.accepted, N);
    for (int i = 0; i < N; i++) end_free(clients[i], i % 2);
    LIST_EACH(l, &s.ends) {
        struct end *n = LIST_ENTRY(l, struct end, node);
        while (!n->closed) waitq_wait(&n->changed);
    }
    server_stop(&s);
    free(data);
}
TEST_BOTH(five_hundred_connections)

/* --- Addresses and refusals. */

static void addresses_are_numeric(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "", false); /* one socket for IPv6 and IPv4 */
    struct end *c = client(x, "127.0.0.1", s.at.port);
    struct env_address peer, local, back;
    env_conn_peer(x->env, c->conn, &peer, &local);
    assert_string_equal(peer.host, "127.0.0.1");
    assert_int_equal(peer.port, s.at.port);
    assert_string_equal(local.host, "127.0.0.1");
    env_conn_peer(x->env, server_end(&s, 0)->conn, &back, NULL);
    assert_string_equal(back.host, "127.0.0.1"); /* not ::ffff:127.0.0.1 */
    assert_int_equal(back.port, local.port);
    end_free(c, false);
    server_stop(&s);
}
TEST_BOTH(addresses_are_numeric)

static void refusals_are_errors(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    struct env_listener *l = NULL;
    struct env_address at;
    assert_int_equal(env_listen(x->env, "127.0.0.1", s.at.port, false, server_accepted, &s, &l, &at), ERR_UNAVAILABLE);
    assert_null(l);
    assert_int_equal(env_listen(x->env, "192.0.2.1", 0, false, server_accepted, &s, &l, &at), ERR_INVALID);
    assert_int_equal(env_listen(x->env, "no-such-host.invalid", 0, false, server_accepted, &s, &l, &at) == OK, 0);
    /* Taken and not listened on: nobody else has it, and nobody gets in. */
    assert_int_equal(env_listen(x->env, "127.0.0.1", s.at.port, false, NULL, NULL, &l, &at), ERR_UNAVAILABLE);
    assert_int_equal(env_listen(x->env, "127.0.0.1", 0, false, NULL, NULL, &l, &at), OK);
    struct env_conn *c = NULL;
    assert_int_equal(env_connect(x->env, "127.0.0.1", at.port, &c) == OK, 0);
    env_listener_close(x->env, l);
    env_listener_close(x->env, s.listener);
    s.listener = NULL;
    assert_int_equal(env_connect(x->env, "127.0.0.1", s.at.port, &c), ERR_UNAVAILABLE);
    assert_int_equal(env_connect(x->env, "localhost", s.at.port, &c), ERR_UNAVAILABLE);
    assert_null(c);
    server_stop(&s);
}
TEST_BOTH(refusals_are_errors)

/* Two loops listen on one port; every connection is accepted by one of them. */
struct shared_port {
    struct linux_fixture *x;
    struct env_listener *listener;
    uint16_t port;
    _Atomic unsigned *accepted;
};
static void close_at_once(void *ctx, struct env_conn *c) {
    struct shared_port *p = ctx;
    atomic_fetch_add(p->accepted, 1);
    env_conn_close(p->x->env, c, false);
}
static void shared_listen(void *arg) {
    struct shared_port *p = arg;
    struct env_address at;
    assert_int_equal(env_listen(p->x->env, "127.0.0.1", p->port, true, close_at_once, p, &p->listener, &at), OK);
    p->port = at.port;
}
static void shared_close(void *arg) {
    struct shared_port *p = arg;
    env_listener_close(p->x->env, p->listener);
}

static void loops_share_a_port(struct linux_fixture *x) {
    _Atomic unsigned accepted = 0;
    struct loop *other;
    assert_int_equal(env_loop_start(x->env, "other", &other), OK);
    struct shared_port a = {.x = x, .accepted = &accepted}, b = a;
    shared_listen(&a);
    b.port = a.port;
    loop_call(other, shared_listen, &b);
    assert_int_equal(b.port, a.port);
    for (int i = 0; i < 50; i++) {
        struct end *c = client(x, "127.0.0.1", a.port);
        while (!c->closed) waitq_wait(&c->changed);
        end_free(c, false);
    }
    assert_int_equal(accepted, 50);
    shared_close(&a);
    loop_call(other, shared_close, &b);
}
TEST_BOTH(loops_share_a_port)

/* The environment ends with connections open, bytes queued and a listener in place. */
static void end_with_open_connections(struct linux_fixture *x) {
    struct server s;
    server_start(x, &s, "127.0.0.1", false);
    struct end *c = client(x, s.at.host, s.at.port);
    struct end *n = server_end(&s, 0);
    struct slab *slab = slab_create(x->env->mem, 16 << 20, 16);
    struct slice one = slice_of(slab, 0, slab->size);
    slab_unref(slab);
    env_conn_send(x->env, c->conn, &one, 1);
    free(n); /* the connections themselves are left to the environment */
    free(c);
}
TEST_BOTH(end_with_open_connections)

int main(void) {
    const struct CMUnitTest tests[] = {
        RUN_BOTH(megabytes_are_echoed),
        RUN_BOTH(who_never_rests_keeps_nobody_out),
        RUN_BOTH(receiving_pauses_and_resumes),
        RUN_BOTH(room_is_asked_only_when_bytes_are_there),
        RUN_BOTH(patient_sends_give_way),
        RUN_BOTH(patience_costs_nothing),
        RUN_BOTH(peer_close_and_abort_are_told),
        RUN_BOTH(abort_is_told_while_paused),
        RUN_BOTH(failed_send_is_told),
        RUN_BOTH(half_open_peer_gets_the_answer),
        RUN_BOTH(last_words_arrive),
        RUN_BOTH(five_hundred_connections),
        RUN_BOTH(addresses_are_numeric),
        RUN_BOTH(refusals_are_errors),
        RUN_BOTH(loops_share_a_port),
        RUN_BOTH(end_with_open_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
