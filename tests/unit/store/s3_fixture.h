/* For tests of http.c and of the S3 store: a server in the test's own process that answers by script, and the real
 * environment to run fibers in. Each connection has a thread; the script is a function that sees a whole request and
 * writes whatever bytes it likes. */
#ifndef OXBOW_TESTS_STORE_S3_FIXTURE_H
#define OXBOW_TESTS_STORE_S3_FIXTURE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "rt/fiber.h"
#include "rt/linux/linux_env.h"
#include "store/http.h"
#include "store/s3.h"

#define FAKE_HEAD_MAX 32768
#define FAKE_CONNECTIONS_MAX 256

struct fake;
struct fake_request {
    struct fake *server;
    int fd;
    unsigned number;     /* from 1, in order of arrival */
    unsigned connection; /* from 1 */
    char method[16], target[8192];
    char head[FAKE_HEAD_MAX]; /* all of the head, NUL-terminated */
    char *body;
    size_t body_size;
    bool close; /* set by the script: hang up after this */
};
typedef void fake_fn(struct fake_request *r, void *arg);

struct fake {
    int fd;
    unsigned port;
    fake_fn *script;
    void *arg;
    pthread_t acceptor;
    pthread_t threads[FAKE_CONNECTIONS_MAX];
    int fds[FAKE_CONNECTIONS_MAX];
    _Atomic unsigned connections, requests;
    _Atomic bool stopping;
};

static inline void fake_send(struct fake_request *r, const void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = send(r->fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (n <= 0) return;
        done += (size_t)n;
    }
}
static inline void fake_text(struct fake_request *r, const char *text) {
    fake_send(r, text, strlen(text));
}
__attribute__((format(printf, 4, 5))) static inline void fake_answer(struct fake_request *r, unsigned status,
                                                                     const char *headers, const char *format, ...) {
    char *body = NULL, head[2048];
    va_list ap;
    va_start(ap, format);
    int size = vasprintf(&body, format, ap);
    va_end(ap);
    int n = snprintf(head, sizeof(head), "HTTP/1.1 %u Said\r\nContent-Length: %d\r\n%s\r\n", status, size, headers);
    fake_send(r, head, (size_t)n);
    fake_send(r, body, (size_t)size);
    free(body);
}
static inline void fake_error(struct fake_request *r, unsigned status, const char *code) {
    fake_answer(r, status, "Content-Type: application/xml\r\n",
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>%s</Code><Message>secret words</Message>"
                "<StringToSign>AWS4-HMAC-SHA256</StringToSign></Error>",
                code);
}
/* The value of a header of the request, or NULL; valid until the next call in this thread. */
static inline const char *fake_header(const struct fake_request *r, const char *name) {
    static _Thread_local char value[9000];
    size_t n = strlen(name);
    for (const char *line = strstr(r->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':') continue;
        const char *from = line + n + 1;
        while (*from == ' ') from++;
        size_t size = strcspn(from, "\r");
        if (size >= sizeof(value)) size = sizeof(value) - 1;
        memcpy(value, from, size);
        value[size] = '\0';
        return value;
    }
    return NULL;
}
/* Breaks the connection with a reset. */
static inline void fake_reset(struct fake_request *r) {
    struct linger l = {1, 0};
    (void)setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
    r->close = true;
}
static inline void fake_sleep_ms(unsigned ms) {
    usleep(ms * 1000);
}

static bool fake_receive(struct fake_request *r) {
    size_t have = 0;
    char *end = NULL;
    while (!end) {
        if (have == FAKE_HEAD_MAX - 1) return false;
        ssize_t n = recv(r->fd, r->head + have, 1, 0); /* nothing of a body may come along */
        if (n <= 0) return false;
        have += (size_t)n;
        r->head[have] = '\0';
        end = have >= 4 && memcmp(r->head + have - 4, "\r\n\r\n", 4) == 0 ? r->head + have : NULL;
    }
    if (sscanf(r->head, "%15s %8191s", r->method, r->target) != 2) return false;
    const char *length = fake_header(r, "Content-Length");
    r->body_size = length ? strtoul(length, NULL, 10) : 0;
    r->body = malloc(r->body_size + 1);
    for (size_t done = 0; done < r->body_size;) {
        ssize_t n = recv(r->fd, r->body + done, r->body_size - done, 0);
        if (n <= 0) return false;
        done += (size_t)n;
    }
    r->body[r->body_size] = '\0';
    return true;
}

struct fake_connection {
    struct fake *server;
    unsigned index;
};
static void *fake_serve(void *arg) {
    struct fake_connection c = *(struct fake_connection *)arg;
    free(arg);
    struct fake *f = c.server;
    bool more = true;
    while (more) {
        struct fake_request *r = calloc(1, sizeof(*r));
        r->server = f;
        r->fd = f->fds[c.index];
        r->connection = c.index + 1;
        more = fake_receive(r);
        if (more) {
            r->number = atomic_fetch_add(&f->requests, 1) + 1;
            f->script(r, f->arg);
            more = !r->close;
        }
        free(r->body);
        free(r);
    }
    /* The descriptor stays taken until the end, so that its number is not another's meanwhile. */
    struct linger l;
    socklen_t size = sizeof(l);
    if (getsockopt(f->fds[c.index], SOL_SOCKET, SO_LINGER, &l, &size) == 0 && l.l_onoff) {
        int fd = f->fds[c.index];
        f->fds[c.index] = dup(f->fd);
        close(fd);
    } else {
        shutdown(f->fds[c.index], SHUT_RDWR);
    }
    return NULL;
}
static void *fake_accept(void *arg) {
    struct fake *f = arg;
    for (;;) {
        int fd = accept(f->fd, NULL, NULL);
        if (fd < 0) return NULL;
        unsigned i = atomic_load(&f->connections);
        if (atomic_load(&f->stopping) || i == FAKE_CONNECTIONS_MAX) {
            close(fd);
            return NULL;
        }
        f->fds[i] = fd;
        struct fake_connection *c = malloc(sizeof(*c));
        *c = (struct fake_connection){f, i};
        assert_int_equal(pthread_create(&f->threads[i], NULL, fake_serve, c), 0);
        atomic_store(&f->connections, i + 1);
    }
}
static inline void fake_start(struct fake *f, fake_fn *script, void *arg) {
    memset(f, 0, sizeof(*f));
    f->script = script;
    f->arg = arg;
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(f->fd, 64), 0);
    assert_int_equal(getsockname(f->fd, (struct sockaddr *)&a, &size), 0);
    f->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&f->acceptor, NULL, fake_accept, f), 0);
}
static inline void fake_stop(struct fake *f) {
    atomic_store(&f->stopping, true);
    shutdown(f->fd, SHUT_RDWR);
    pthread_join(f->acceptor, NULL);
    for (unsigned i = 0; i < f->connections; i++) shutdown(f->fds[i], SHUT_RDWR);
    for (unsigned i = 0; i < f->connections; i++) {
        pthread_join(f->threads[i], NULL);
        close(f->fds[i]);
    }
    close(f->fd);
}

/* --- Runs a body in a fiber of a real environment. */

struct s3_test {
    struct env *env;
    struct fake server;
    char endpoint[64];
    void (*body)(struct s3_test *t);
    struct store *store;
    char why[S3_WHY_SIZE];
    char log[16384]; /* all that was logged */
    struct s3_options options;
};

static void s3_test_main(void *arg) {
    struct s3_test *t = arg;
    t->body(t);
    if (t->store) store_close(t->store);
    loop_stop(linux_env_loop0(t->env));
}
static void s3_test_log(void *ctx, const char *line, size_t size) {
    struct s3_test *t = ctx;
    size_t used = strlen(t->log);
    if (used + size < sizeof(t->log)) memcpy(t->log + used, line, size);
}
static inline void s3_test_run(void (*body)(struct s3_test *), fake_fn *script, void *arg) {
    static struct s3_test t;
    memset(&t, 0, sizeof(t));
    const char *why = "";
    struct linux_env_options o = {.io = LINUX_IO_EPOLL, .level = LOG_INFO};
    fake_start(&t.server, script, arg);
    snprintf(t.endpoint, sizeof(t.endpoint), "http://127.0.0.1:%u", t.server.port);
    t.body = body;
    assert_int_equal(linux_env_create(&o, &t.env, &why), OK);
    t.env->log->sink = s3_test_log;
    t.env->log->ctx = &t;
    t.options = (struct s3_options){.env = t.env,
                                    .bucket = "bucket",
                                    .prefix = "pre",
                                    .endpoint = t.endpoint,
                                    .marker_key = "oxbow.cluster",
                                    .patience_ns = 300 * NS_PER_MS,
                                    .request_ns = 20 * NS_PER_S,
                                    .credentials = {.access_key = "THEKEY", .secret = "THESECRET"}};
    linux_env_run(t.env, s3_test_main, &t);
    fake_stop(&t.server);
    linux_env_destroy(t.env);
    assert_null(strstr(t.log, "THESECRET"));
    assert_null(strstr(t.log, "Signature="));
    assert_null(strstr(t.log, "secret words"));
}

/* --- What scripts of the S3 store share. */

#define XML "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define NS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""
#define EMPTY_LIST XML "<ListBucketResult " NS "><IsTruncated>false</IsTruncated></ListBucketResult>"

static inline bool is_probe(const struct fake_request *r) {
    return strcmp(r->method, "GET") == 0 && strstr(r->target, "max-keys=16&") != NULL;
}
/* Answers the questions of the open; false: something else was asked. */
static inline bool answer_probe(struct fake_request *r) {
    if (!is_probe(r)) return false;
    fake_answer(r, 200, "", EMPTY_LIST);
    return true;
}
static inline void open_ok(struct s3_test *t) {
    enum err e = store_s3_open(&t->options, &t->store, t->why);
    if (e != OK) print_error("open: %s: %s\n", err_name(e), t->why);
    assert_int_equal(e, OK);
    atomic_store(&t->server.requests, 0);
}
/* The value of a parameter of the request's target, or NULL. */
static inline const char *query_of(const struct fake_request *r, const char *name, char out[256]) {
    char find[64];
    snprintf(find, sizeof(find), "%s=", name);
    const char *q = strchr(r->target, '?');
    while (q) {
        q++;
        if (strncmp(q, find, strlen(find)) == 0) {
            snprintf(out, 256, "%.*s", (int)strcspn(q + strlen(find), "&"), q + strlen(find));
            return out;
        }
        q = strchr(q, '&');
    }
    return NULL;
}

#endif
