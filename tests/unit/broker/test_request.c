/* Requests: what decoding them may take, how large an answer may be, and which answers wait until it is known that this
 * broker is in office. */
#include "unit/broker/conn_fixture.h"

#include "broker/broker.h"
#include "broker/conn_priv.h"

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
    /* However much room there is: what is lent of the log cache is too much. */
    atomic_store(&net.env.metrics->memory_limits[MEMORY_LOG_CACHE_LENT], 1000);
    metric_set(net.env.metrics, M_LOG_CACHE_LENT_BYTES, 1001);
    assert_int_equal(request_answer_grant(&r[0], 55 << 20), CONN_ANSWER_LEAST);
    (void)request_answer_grant(&r[0], 0);
    metric_set(net.env.metrics, M_LOG_CACHE_LENT_BYTES, 0);
    end();
}

/* --- Long answers. */

struct maker {
    struct request r;
    size_t bytes;
    bool more, has;
};

static void maker_main(void *arg) {
    struct maker *m = arg;
    m->has = false;
    request_answer_make(&m->r, m->bytes, m->more);
    m->has = true;
}

static bool make(struct maker *m, size_t bytes, bool more) {
    m->bytes = bytes;
    m->more = more;
    m->r.conns = &set;
    fiber_spawn(&net.loop, "maker", maker_main, m);
    net_pass(&net, NS_PER_S);
    return m->has;
}

static bool has_now(const struct maker *m) {
    net_pass(&net, NS_PER_S);
    return m->has;
}

/* What is made for them in memory is held to the budget: they wait for each other, and none for itself. */
static void test_long_answers_wait(void **state) {
    (void)state;
    const size_t mib = 1 << 20;
    answer_bytes = 64 * mib;
    begin(16 << 20, 0, 100, INT32_MAX);
    static struct maker m[5];
    memset(m, 0, sizeof(m));
    for (size_t i = 0; i < ARRAY_LEN(m); i++) m[i].r.conns = &set;
    assert_int_equal(request_answer_most(&m[4].r), 56 * mib);
    assert_true(make(&m[0], 1000, false)); /* short */
    assert_int_equal(set.granted_bytes, 0);
    assert_true(make(&m[0], 20 * mib, true)); /* and a quarter ahead */
    assert_int_equal(set.granted_bytes, 25 * mib);
    assert_true(make(&m[0], 22 * mib, true));
    assert_int_equal(set.granted_bytes, 25 * mib);
    assert_int_equal(atomic_load(&net.env.metrics->gauges[M_UNSENT_BYTES]), 25 * mib);
    assert_true(make(&m[1], 30 * mib, false));
    assert_false(conns_crowded(&set));
    /* Another that may ask for more waits, though there would be room: they could wait for each other. */
    assert_false(make(&m[2], mib, true));
    assert_true(conns_crowded(&set));
    assert_false(make(&m[3], 10 * mib, false));
    /* Who has a part gets the rest when the others are through. */
    assert_false(make(&m[0], 40 * mib, true));
    (void)request_answer_grant(&m[1].r, 0);
    assert_true(has_now(&m[0]));
    assert_true(has_now(&m[3]));
    assert_false(has_now(&m[2]));
    assert_int_equal(set.granted_bytes, 60 * mib);
    (void)request_answer_grant(&m[3].r, 0);
    (void)request_answer_grant(&m[0].r, 0);
    assert_true(has_now(&m[2]));
    assert_false(conns_crowded(&set));
    /* More than the whole waits until the others have next to nothing. */
    (void)request_answer_grant(&m[1].r, 9 * mib);
    (void)request_answer_grant(&m[2].r, 0);
    assert_false(make(&m[0], 100 * mib, false));
    (void)request_answer_grant(&m[1].r, 7 * mib);
    assert_true(has_now(&m[0]));
    assert_int_equal(set.granted_bytes, 100 * mib + CONN_ANSWER_LEAST);
    for (size_t i = 0; i < ARRAY_LEN(m); i++) (void)request_answer_grant(&m[i].r, 0);
    assert_int_equal(set.granted_bytes, 0);
    assert_int_equal(atomic_load(&net.env.metrics->gauges[M_MADE_BYTES]), 0);
    end();
}

/* --- Who waited, and is to answer. */

enum { DUE = 6 };
static struct request due[DUE];
static unsigned resumed[DUE], resumed_count;
static bool waited;

static void due_main(void *arg) {
    resumed[resumed_count++] = (unsigned)((struct request *)arg - due);
}

static void await_main(void *arg) {
    request_answer_await(arg, 30 << 20);
    waited = true;
}

/* They stand in line while too much is to be sent; what turns out to be more than was granted waits too. */
static void test_those_who_waited_stand_in_line(void **state) {
    (void)state;
    const size_t mib = 1 << 20;
    static char somebody;
    answer_bytes = 64 * mib;
    begin(16 << 20, 0, 100, INT32_MAX);
    resumed_count = 0;
    for (size_t i = 0; i < DUE; i++) {
        due[i] = (struct request){.magic = REQUEST_MAGIC, .state = REQUEST_WAITING, .conns = &set, .waiter = &due[i]};
        due[i].conn = (struct conn *)&somebody;
        due[i].info.api = kafka_api_find(KAFKA_API_FETCH);
        list_init(&due[i].due);
    }
    struct request *full = &due[DUE - 1];
    assert_true(request_answer_took(full, 57 * mib)); /* nobody else has anything */
    assert_true(conns_crowded(&set));
    for (size_t i = 0; i < 3; i++) request_resume(&due[i], mib, due_main);
    request_resume(&due[3], 0, due_main); /* nothing to say */
    net_pass(&net, NS_PER_MS);
    assert_int_equal(resumed_count, 1);
    assert_int_equal(resumed[0], 3);
    request_resume_now(&due[1]);
    net_pass(&net, NS_PER_MS);
    assert_int_equal(resumed_count, 2);
    assert_int_equal(resumed[1], 1);
    assert_true(request_answer_took(full, 50 * mib)); /* it is less after all */
    net_pass(&net, NS_PER_MS);
    assert_int_equal(resumed_count, 4);
    assert_int_equal(resumed[2], 0);
    assert_int_equal(resumed[3], 2);
    request_resume(&due[4], mib, due_main); /* no line any more */
    net_pass(&net, NS_PER_MS);
    assert_int_equal(resumed_count, 5);
    assert_int_equal(due[4].granted, mib);
    /* A batch of 30 MiB, for which there is no room. */
    assert_false(request_answer_took(&due[0], 30 * mib));
    fiber_spawn(&net.loop, "await", await_main, &due[0]);
    net_pass(&net, NS_PER_S);
    assert_false(waited);
    assert_true(request_answer_took(full, 20 * mib));
    net_pass(&net, NS_PER_S);
    assert_true(waited);
    assert_int_equal(due[0].granted, 30 * mib);
    assert_true(request_answer_took(&due[0], 30 * mib));
    assert_false(request_answer_took(full, 60 * mib));
    full->admitted = true; /* one at a time of those who are let in */
    assert_true(request_answer_took(full, 60 * mib));
    due[1].admitted = true;
    assert_false(request_answer_took(&due[1], 2 * mib));
    for (size_t i = 0; i < DUE; i++) assert_true(request_answer_took(&due[i], 0));
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding_is_limited),
        cmocka_unit_test(test_answers_are_granted),
        cmocka_unit_test(test_long_answers_wait),
        cmocka_unit_test(test_those_who_waited_stand_in_line),
        cmocka_unit_test(test_leased_answers_wait_for_the_office),
        cmocka_unit_test(test_accusations_wait_for_the_office),
        cmocka_unit_test(test_certain_answers_wait_for_the_office),
        cmocka_unit_test(test_client_leaves_while_the_office_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
