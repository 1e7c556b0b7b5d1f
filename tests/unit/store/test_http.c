/* HTTP exchanges against a server that answers by script: outcomes told apart by what may have been processed, bodies
 * whole or refused, second requests, closing in the middle. */
#include "unit/store/s3_fixture.h"

struct web {
    struct http_client *c;
    char url[128];
};
static void web_open(struct s3_test *t, struct web *w) {
    const char *why = "";
    struct http_options o = {.env = t->env};
    assert_int_equal(http_client_create(&o, &w->c, &why), OK);
    snprintf(w->url, sizeof(w->url), "%s/path/a%%2fb?q=1", t->endpoint);
}
static enum err web_get(struct web *w, struct http_response *out) {
    struct http_request r = {
        .method = HTTP_GET, .url = w->url, .response_max_bytes = 1 << 20, .total_timeout_ns = 20 * NS_PER_S};
    return http_exchange(w->c, &r, out);
}

/* --- What is sent and what comes back. */

static void echo(struct fake_request *r, void *arg) {
    (void)arg;
    const char *mine = fake_header(r, "X-Mine");
    char text[64];
    snprintf(text, sizeof(text), "%.60s", mine ? mine : "none");
    assert_null(fake_header(r, "Expect"));
    assert_null(fake_header(r, "Accept"));
    assert_null(fake_header(r, "Content-Type"));
    assert_non_null(strstr(fake_header(r, "User-Agent"), "oxbow/"));
    fake_answer(r, 207, "X-First: one\r\nx-first: two\r\nEmpty:\r\n", "%s %s %s [%s]", r->method, r->target, text,
                r->body);
}
static void body_echo(struct s3_test *t) {
    struct web w;
    web_open(t, &w);
    struct http_response a;
    struct http_header headers[] = {{"X-Mine", "yes"}, {"X-None", ""}};
    struct slice body[] = {slice_borrow("ab", 2), slice_borrow(NULL, 0), slice_borrow("cde", 3)};
    static const enum http_method methods[] = {HTTP_PUT, HTTP_POST, HTTP_DELETE, HTTP_GET};
    static const char *const expected[] = {"PUT /path/a%2fb?q=1 yes [abcde]", "POST /path/a%2fb?q=1 yes [abcde]",
                                           "DELETE /path/a%2fb?q=1 yes []", "GET /path/a%2fb?q=1 yes []"};
    for (unsigned i = 0; i < 4; i++) {
        struct http_request r = {
            .method = methods[i], .url = w.url, .headers = headers, .header_count = 2, .response_max_bytes = 100};
        if (i < 2) {
            r.body = body;
            r.body_count = 3;
        }
        assert_int_equal(http_exchange(w.c, &r, &a), OK);
        assert_int_equal(a.status, 207);
        assert_int_equal(a.body.size, strlen(expected[i]));
        assert_memory_equal(a.body.data, expected[i], a.body.size);
        assert_string_equal(http_response_header(&a, "x-FIRST"), "one");
        assert_string_equal(http_response_header(&a, "Empty"), "");
        assert_null(http_response_header(&a, "x-firs"));
        assert_int_equal(a.connections, i == 0 ? 1 : 0); /* the first one is kept */
        http_response_deinit(&a);
    }
    http_client_close(w.c);
    assert_int_equal(t->server.connections, 1);
}
static void test_echo(void **state) {
    (void)state;
    s3_test_run(body_echo, echo, NULL);
}

/* --- Outcomes. */

static void trouble(struct fake_request *r, void *arg) {
    _Atomic int *kind = arg;
    static char large[100000];
    memset(large, 'x', sizeof(large) - 1);
    switch (atomic_load(kind)) {
    case 0: /* cut body */
        fake_text(r, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        r->close = true;
        break;
    case 1: /* reset after the request was read */
        fake_reset(r);
        break;
    case 2: /* no HTTP */
        fake_text(r, "what?\r\n\r\n");
        r->close = true;
        break;
    case 3: /* too slow */
        fake_sleep_ms(1500);
        r->close = true;
        break;
    case 4: /* larger than asked for and than what is always taken */
        fake_answer(r, 200, "", "%s", large);
        break;
    case 5: /* in chunks, one of them missing */
        fake_text(r, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        r->close = true;
        break;
    case 6: /* in chunks, whole, after an interim answer */
        fake_text(r, "HTTP/1.1 102 Wait\r\nX-A: no\r\n\r\n");
        fake_text(r,
                  "HTTP/1.1 200 OK\r\nX-B: yes\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        break;
    case 8: /* a head without its end */
        fake_text(r, "HTTP/1.1 200 OK\r\nContent-Len");
        r->close = true;
        break;
    default: /* an early answer without a body */
        fake_text(r, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    }
}
static _Atomic int trouble_kind;
static void body_trouble(struct s3_test *t) {
    static const enum err expected[] = {ERR_UNKNOWN_OUTCOME,
                                        ERR_UNKNOWN_OUTCOME,
                                        ERR_UNKNOWN_OUTCOME,
                                        ERR_TIMEOUT,
                                        ERR_TOO_LARGE,
                                        ERR_UNKNOWN_OUTCOME,
                                        OK,
                                        OK,
                                        ERR_UNKNOWN_OUTCOME};
    for (int i = 0; i < 9; i++) {
        struct web w;
        web_open(t, &w);
        atomic_store(&trouble_kind, i);
        struct http_response a;
        struct http_request r = {.method = HTTP_PUT,
                                 .url = w.url,
                                 .response_max_bytes = 100,
                                 .total_timeout_ns = i == 3 ? 300 * NS_PER_MS : 20 * NS_PER_S};
        enum err e = http_exchange(w.c, &r, &a);
        if (e != expected[i]) print_error("kind %d: %s (%s)\n", i, err_name(e), a.why);
        assert_int_equal(e, expected[i]);
        if (e != OK) {
            assert_true(a.why[0] != '\0');
            assert_null(a.body.data);
        }
        if (i == 6) {
            assert_int_equal(a.body.size, 5);
            assert_memory_equal(a.body.data, "abcde", 5);
            assert_null(http_response_header(&a, "X-A"));
            assert_string_equal(http_response_header(&a, "X-B"), "yes");
        }
        if (i == 7) assert_int_equal(a.status, 503);
        http_response_deinit(&a);
        http_client_close(w.c);
    }
    /* Surely nothing was done: nobody listens; no such name; no TLS there; no URL. */
    struct web w;
    web_open(t, &w);
    char https[128];
    snprintf(https, sizeof(https), "https://127.0.0.1:%u/", t->server.port);
    atomic_store(&trouble_kind, 2);
    const struct {
        const char *url;
        enum err expected;
    } nowhere[] = {{"http://127.0.0.1:1/", ERR_UNAVAILABLE},
                   {"http://nobody.invalid/", ERR_UNAVAILABLE},
                   {https, ERR_UNAVAILABLE},
                   {"http://[", ERR_INVALID},
                   {"ftp://127.0.0.1/", ERR_INVALID}};
    for (unsigned i = 0; i < 5; i++) {
        struct http_response a;
        struct http_request r = {.method = HTTP_PUT,
                                 .url = nowhere[i].url,
                                 .response_max_bytes = 100,
                                 .connect_timeout_ns = i == 2 ? 500 * NS_PER_MS : 0};
        enum err e = http_exchange(w.c, &r, &a);
        if (e != nowhere[i].expected) print_error("%s: %s (%s)\n", nowhere[i].url, err_name(e), a.why);
        assert_int_equal(e, nowhere[i].expected);
        http_response_deinit(&a);
    }
    http_client_close(w.c);
}
static void test_trouble(void **state) {
    (void)state;
    s3_test_run(body_trouble, trouble, &trouble_kind);
}

/* --- A kept connection that the server has closed is replaced without anybody noticing. */

static void one_each(struct fake_request *r, void *arg) {
    (void)arg;
    fake_answer(r, 200, "", "%u", r->connection);
    r->close = true;
}
static void body_reconnect(struct s3_test *t) {
    struct web w;
    web_open(t, &w);
    for (unsigned i = 0; i < 5; i++) {
        struct http_response a;
        assert_int_equal(web_get(&w, &a), OK);
        http_response_deinit(&a);
        fiber_sleep_ns((i % 2) * 20 * NS_PER_MS);
    }
    http_client_close(w.c);
}
static void test_reconnect(void **state) {
    (void)state;
    s3_test_run(body_reconnect, one_each, NULL);
}

/* ... but what was sent before the second try failed may have been processed. */
static void dies(struct fake_request *r, void *arg) {
    (void)arg;
    if (r->number == 1) {
        fake_answer(r, 200, "", "fine");
        return;
    }
    shutdown(r->server->fd, SHUT_RDWR); /* nobody listens any more */
    fake_reset(r);
}
static void body_dies(struct s3_test *t) {
    struct web w;
    web_open(t, &w);
    struct http_response a;
    assert_int_equal(web_get(&w, &a), OK);
    http_response_deinit(&a);
    struct slice body = slice_borrow("abc", 3);
    struct http_request r = {
        .method = HTTP_PUT, .url = w.url, .body = &body, .body_count = 1, .response_max_bytes = 100};
    enum err e = http_exchange(w.c, &r, &a);
    assert_int_equal(t->server.requests, 2);
    assert_int_equal(e, ERR_UNKNOWN_OUTCOME);
    http_response_deinit(&a);
    /* And nothing was sent of this one. */
    assert_int_equal(http_exchange(w.c, &r, &a), ERR_UNAVAILABLE);
    http_response_deinit(&a);
    http_client_close(w.c);
}
static void test_dies(void **state) {
    (void)state;
    s3_test_run(body_dies, dies, NULL);
}

/* --- A second request. */

static void first_is_slow(struct fake_request *r, void *arg) {
    _Atomic int *mode = arg;
    int m = atomic_load(mode);
    if (m == 0 && r->number == 1) fake_sleep_ms(3000);
    if (m == 1 && r->number % 2 == 1) { /* the first fails, late: the second still counts */
        fake_sleep_ms(200);
        fake_error(r, 503, "SlowDown");
        return;
    }
    if (m == 1) fake_sleep_ms(400);
    fake_answer(r, 200, "", "number %u", r->number);
}
static bool never(void *ctx) {
    (void)ctx;
    return false;
}
static _Atomic int slow_mode;
static void body_hedge(struct s3_test *t) {
    struct web w;
    web_open(t, &w);
    struct http_response a;
    struct http_request r = {
        .method = HTTP_GET, .url = w.url, .response_max_bytes = 100, .hedge_after_ns = 50 * NS_PER_MS};
    assert_int_equal(http_exchange(w.c, &r, &a), OK);
    assert_true(a.hedged && a.hedge_won);
    assert_int_equal(a.body.size, 8);
    assert_memory_equal(a.body.data, "number 2", 8);
    http_response_deinit(&a);
    atomic_store(&slow_mode, 1);
    assert_int_equal(http_exchange(w.c, &r, &a), OK);
    assert_true(a.hedged && a.hedge_won);
    assert_int_equal(a.status, 200);
    http_response_deinit(&a);
    r.hedge_allowed = never;
    assert_int_equal(http_exchange(w.c, &r, &a), OK);
    assert_false(a.hedged);
    assert_int_equal(a.status, 503);
    http_response_deinit(&a);
    http_client_close(w.c);
}
static void test_hedge(void **state) {
    (void)state;
    atomic_store(&slow_mode, 0);
    s3_test_run(body_hedge, first_is_slow, &slow_mode);
}

/* --- Many at once, and closing in the middle. */

struct one {
    struct web *w;
    enum err e;
    struct waitgroup *group;
};
static void one_get(void *arg) {
    struct one *o = arg;
    struct http_response a;
    o->e = web_get(o->w, &a);
    http_response_deinit(&a);
    waitgroup_done(o->group);
}
static void never_answers(struct fake_request *r, void *arg) {
    (void)arg;
    char c;
    (void)recv(r->fd, &c, 1, 0); /* until the other side hangs up */
    r->close = true;
}
static void body_close(struct s3_test *t) {
    struct web w;
    web_open(t, &w);
    struct one ones[20];
    struct waitgroup group;
    waitgroup_init(&group);
    for (unsigned i = 0; i < 20; i++) {
        ones[i] = (struct one){&w, OK, &group};
        waitgroup_add(&group);
        fiber_spawn(loop_current(), "get", one_get, &ones[i]);
    }
    while (t->server.requests < 20) fiber_sleep_ns(NS_PER_MS);
    http_client_stop(w.c);
    waitgroup_wait(&group);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(ones[i].e, ERR_UNKNOWN_OUTCOME);
    struct http_response a;
    assert_int_equal(web_get(&w, &a), ERR_CANCELLED);
    http_response_deinit(&a);
    http_client_close(w.c);
}
static void test_close(void **state) {
    (void)state;
    s3_test_run(body_close, never_answers, NULL);
}

static void large(struct fake_request *r, void *arg) {
    (void)arg;
    if (strcmp(r->method, "PUT") == 0) {
        uint32_t sum = 0;
        for (size_t i = 0; i < r->body_size; i++) sum = sum * 31 + (uint8_t)r->body[i];
        fake_answer(r, 200, "", "%zu %u", r->body_size, sum);
        return;
    }
    size_t size = 5000000;
    char head[64];
    int n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    fake_send(r, head, (size_t)n);
    char *body = malloc(size);
    for (size_t i = 0; i < size; i++) body[i] = (char)(i * 7 + i / 1000);
    fake_send(r, body, size);
    free(body);
}
static enum err prepared(void *ctx) {
    snprintf(ctx, 8, "later");
    return OK;
}
static enum err unprepared(void *ctx) {
    (void)ctx;
    return ERR_UNSUPPORTED;
}
static void body_large(struct s3_test *t) {
    struct web w;
    web_open(t, &w);
    struct http_response a;
    struct http_request r = {.method = HTTP_GET, .url = w.url, .response_max_bytes = 5000000};
    assert_int_equal(http_exchange(w.c, &r, &a), OK);
    assert_int_equal(a.body.size, 5000000);
    for (size_t i = 0; i < a.body.size; i++) {
        if (a.body.data[i] != (uint8_t)(i * 7 + i / 1000)) fail();
    }
    http_response_deinit(&a);
    r.response_max_bytes = 4999999;
    assert_int_equal(http_exchange(w.c, &r, &a), ERR_TOO_LARGE);
    http_response_deinit(&a);
    enum { PIECES = 700 };
    struct slice pieces[PIECES];
    uint8_t *bytes = malloc(PIECES * 5000);
    size_t at = 0;
    uint32_t sum = 0;
    for (unsigned i = 0; i < PIECES; i++) {
        size_t n = i * 7 % 5000;
        for (size_t k = 0; k < n; k++) {
            bytes[at + k] = (uint8_t)(at + k * 3 + i);
            sum = sum * 31 + bytes[at + k];
        }
        pieces[i] = slice_borrow(bytes + at, n);
        at += n;
    }
    char value[8] = "soon", expected[64];
    struct http_header header = {"X-When", value};
    struct http_request put = {.method = HTTP_PUT,
                               .url = w.url,
                               .headers = &header,
                               .header_count = 1,
                               .body = pieces,
                               .body_count = PIECES,
                               .response_max_bytes = 100,
                               .prepare = prepared,
                               .prepare_ctx = value};
    assert_int_equal(http_exchange(w.c, &put, &a), OK);
    snprintf(expected, sizeof(expected), "%zu %u", at, sum);
    assert_int_equal(a.body.size, strlen(expected));
    assert_memory_equal(a.body.data, expected, a.body.size);
    http_response_deinit(&a);
    assert_string_equal(value, "later");
    put.prepare = unprepared;
    assert_int_equal(http_exchange(w.c, &put, &a), ERR_UNSUPPORTED);
    http_response_deinit(&a);
    free(bytes);
    http_client_close(w.c);
}
static void test_large(void **state) {
    (void)state;
    s3_test_run(body_large, large, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),  cmocka_unit_test(test_trouble), cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_dies),  cmocka_unit_test(test_hedge),   cmocka_unit_test(test_close),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
