/* The store thread: one libcurl multi handle, and nobody else touches it. Fibers put exchanges into a queue under a
 * lock and wake the thread out of curl_multi_poll; the thread starts them, and mails each to its fiber's loop when it
 * is over. An exchange lies on the stack of the fiber that waits for it, so nothing of it is touched once its mail has
 * been posted.
 *
 * What an error means for a request that changes something rests on one question: may a byte of it have been sent?
 * libcurl counts what it sent (CURLINFO_REQUEST_SIZE), over all connections that it tried for this request; zero means
 * that nothing can have been processed. */
#include "store/http.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/list.h"
#include "rt/fiber.h"
#include "store/http_curl.h"

#define CLIENT_MAGIC 0x477bc11eu
#define CONNECTIONS_DEFAULT 64u
#define CONNECTIONS_KEPT 32L
#define CONNECT_TIMEOUT_NS (10 * NS_PER_S)
#define ANSWER_MIN_BYTES ((size_t)64 << 10) /* an error's explanation may be longer than what was asked for */
#define HEADERS_MAX_BYTES ((size_t)64 << 10)
#define GROW_FROM_BYTES ((size_t)16 << 10)
#define BODY_FIRST_MAX ((size_t)64 << 20) /* what a server announces is believed so far; more once it has come */
#define LARGE_BYTES ((size_t)256 << 10)   /* from here on libcurl's buffers are larger than its own default */
#define IDLE_MAX_S 50L                    /* an older idle connection is not used again: servers close them too */

struct exchange;

/* One sending of a request: an exchange has one, or two when it is hedged. */
struct attempt {
    struct exchange *exchange; /* NULL: not in use */
    CURL *easy;
    struct curl_slist *list;
    size_t piece, position; /* of the body: what is sent next */
    struct slab *slab;      /* of the answer's body; data[0 .. size) is filled */
    size_t size, limit;
    bool too_large;
    bool head_whole; /* the empty line behind the headers has come: libcurl does not insist on it */
    struct buf headers;
    char error[CURL_ERROR_SIZE];
};

struct exchange {
    struct list node; /* in the client's queue, then among those under way */
    struct http_client *client;
    const struct http_request *request;
    struct http_response *response;
    struct attempt attempts[2];
    uint64_t hedge_at_ns; /* 0: no (more) hedging */
    struct loop *loop;
    struct fiber *waiter;
    struct mail mail;
    enum err result;
    bool done; /* on the waiter's loop */
};

struct http_client {
    unsigned magic;
    struct env *env;
    struct http_curl curl;
    CURLM *multi;
    CURLSH *share; /* TLS sessions, so that a new connection need not begin from nothing */
    char *ca_bundle;
    pthread_t thread;
    pthread_mutex_t lock;
    struct list queue; /* under the lock, as is stopping */
    bool stopping;
    struct list under_way; /* of the thread */
};

/* --- libcurl's callbacks, on the store thread. */

static size_t on_read(char *out, size_t size, size_t count, void *arg) {
    struct attempt *a = arg;
    const struct http_request *r = a->exchange->request;
    size_t room = size * count, done = 0;
    while (done < room && a->piece < r->body_count) {
        const struct slice *s = &r->body[a->piece];
        size_t n = s->size - a->position;
        if (n > room - done) n = room - done;
        if (n > 0) memcpy(out + done, s->data + a->position, n);
        done += n;
        a->position += n;
        if (a->position == s->size) {
            a->piece++;
            a->position = 0;
        }
    }
    return done;
}

/* Back to the beginning, for the second try on a new connection. */
static int on_seek(void *arg, curl_off_t offset, int origin) {
    struct attempt *a = arg;
    if (origin != SEEK_SET || offset != 0) return CURL_SEEKFUNC_FAIL;
    a->piece = a->position = 0;
    return CURL_SEEKFUNC_OK;
}

static size_t on_header(char *data, size_t size, size_t count, void *arg) {
    struct attempt *a = arg;
    size_t n = size * count, total = n;
    if (n >= 5 && memcmp(data, "HTTP/", 5) == 0) { /* a final answer follows an interim one */
        a->headers.size = 0;
        a->head_whole = false;
        return total;
    }
    while (n > 0 && (data[n - 1] == '\r' || data[n - 1] == '\n' || data[n - 1] == ' ')) n--;
    if (n == 0) a->head_whole = true;
    const char *colon = memchr(data, ':', n);
    if (!colon || colon == data || memchr(data, '\0', n)) return total;
    if (a->headers.size + n > HEADERS_MAX_BYTES) return 0;
    const char *value = colon + 1, *end = data + n;
    while (value < end && *value == ' ') value++;
    buf_put(&a->headers, data, (size_t)(colon - data));
    buf_u8(&a->headers, 0);
    buf_put(&a->headers, value, (size_t)(end - value));
    buf_u8(&a->headers, 0);
    return total;
}

/* Room for `more` bytes of the answer's body. */
static void body_reserve(struct attempt *a, size_t more) {
    size_t capacity = a->slab ? a->slab->size : 0, wanted = a->size + more;
    if (wanted <= capacity) return;
    struct http_client *c = a->exchange->client;
    curl_off_t length = -1;
    size_t grown = capacity ? capacity * 2 : GROW_FROM_BYTES;
    if (!a->slab && c->curl.easy_getinfo(a->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK &&
        length > 0 && (uint64_t)length <= a->limit)
        grown = (size_t)length < BODY_FIRST_MAX ? (size_t)length : BODY_FIRST_MAX;
    if (grown > a->limit) grown = a->limit;
    if (grown < wanted) grown = wanted;
    struct slab *slab = slab_create(c->env->mem, grown, 16);
    if (a->size > 0) memcpy(slab->data, a->slab->data, a->size);
    slab_unref(a->slab);
    a->slab = slab;
}

static size_t on_write(char *data, size_t size, size_t count, void *arg) {
    struct attempt *a = arg;
    size_t n = size * count;
    if (n > a->limit - a->size) {
        a->too_large = true;
        return 0;
    }
    if (n == 0) return 0;
    body_reserve(a, n);
    memcpy(a->slab->data + a->size, data, n);
    a->size += n;
    return n;
}

/* --- One sending. */

static long ms_of(uint64_t ns) {
    uint64_t ms = (ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms > LONG_MAX / 2 ? LONG_MAX / 2 : (long)ms;
}

static bool header_add(struct http_client *c, struct attempt *a, const char *text) {
    struct curl_slist *grown = c->curl.slist_append(a->list, text);
    if (grown) a->list = grown;
    return grown != NULL;
}

static bool headers_set(struct http_client *c, struct attempt *a, const struct http_request *r) {
    /* No waiting for "100 Continue", no type that libcurl makes up. What the request names itself wins. */
    bool ok = header_add(c, a, "Expect:") && header_add(c, a, "Accept:");
    bool typed = false;
    for (size_t i = 0; i < r->header_count && ok; i++) {
        /* libcurl's way to say "with an empty value" is a semicolon. */
        const struct http_header *h = &r->headers[i];
        char *line =
            *h->value ? mem_printf(c->env->mem, "%s: %s", h->name, h->value) : mem_printf(c->env->mem, "%s;", h->name);
        ok = header_add(c, a, line);
        typed |= strcasecmp(h->name, "Content-Type") == 0;
        memset(line, 0, strlen(line)); /* it may have been a key */
        mem_free(c->env->mem, line);
    }
    if (ok && !typed) ok = header_add(c, a, "Content-Type:");
    return ok;
}

static void method_set(struct http_client *c, CURL *easy, const struct http_request *r) {
    curl_off_t size = 0;
    for (size_t i = 0; i < r->body_count; i++) size += (curl_off_t)r->body[i].size;
    switch (r->method) {
    case HTTP_GET:
        c->curl.easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        return;
    case HTTP_HEAD:
        c->curl.easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    case HTTP_PUT:
        c->curl.easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        c->curl.easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, size);
        break;
    case HTTP_POST:
        c->curl.easy_setopt(easy, CURLOPT_POST, 1L);
        c->curl.easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, size);
        break;
    case HTTP_DELETE:
        c->curl.easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "DELETE");
        return;
    }
    if (size > (curl_off_t)LARGE_BYTES) c->curl.easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)LARGE_BYTES);
}

static void options_set(struct http_client *c, struct attempt *a, const struct http_request *r) {
    const struct http_curl *k = &c->curl;
    CURL *easy = a->easy;
    k->easy_setopt(easy, CURLOPT_PRIVATE, a);
    k->easy_setopt(easy, CURLOPT_ERRORBUFFER, a->error);
    k->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    k->easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    k->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    k->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    k->easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    k->easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    k->easy_setopt(easy, CURLOPT_USERAGENT, "oxbow/" OXBOW_VERSION);
    k->easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_MAX_S);
    k->easy_setopt(easy, CURLOPT_SHARE, c->share);
    if (r->fresh) k->easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    if (c->ca_bundle) k->easy_setopt(easy, CURLOPT_CAINFO, c->ca_bundle);
    k->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   ms_of(r->connect_timeout_ns ? r->connect_timeout_ns : CONNECT_TIMEOUT_NS));
    if (r->total_timeout_ns) k->easy_setopt(easy, CURLOPT_TIMEOUT_MS, ms_of(r->total_timeout_ns));
    if (r->low_speed_s) {
        k->easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)r->low_speed_bytes_per_s);
        k->easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)r->low_speed_s);
    }
    if (a->limit > LARGE_BYTES) k->easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)LARGE_BYTES);
    k->easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    k->easy_setopt(easy, CURLOPT_READDATA, a);
    k->easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    k->easy_setopt(easy, CURLOPT_SEEKDATA, a);
    k->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    k->easy_setopt(easy, CURLOPT_HEADERDATA, a);
    k->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    k->easy_setopt(easy, CURLOPT_WRITEDATA, a);
}

/* Leaves nothing of it; closes the connection if it is in the middle of something. */
static void attempt_end(struct http_client *c, struct attempt *a) {
    if (!a->exchange) return;
    if (a->easy) {
        (void)c->curl.multi_remove_handle(c->multi, a->easy);
        c->curl.easy_cleanup(a->easy);
    }
    c->curl.slist_free_all(a->list);
    buf_deinit(&a->headers);
    slab_unref(a->slab);
    *a = (struct attempt){0};
}

static bool attempt_start(struct http_client *c, struct exchange *x, struct attempt *a) {
    const struct http_request *r = x->request;
    *a = (struct attempt){.exchange = x};
    a->limit = r->response_max_bytes > ANSWER_MIN_BYTES ? r->response_max_bytes : ANSWER_MIN_BYTES;
    buf_init(&a->headers, c->env->mem);
    a->easy = c->curl.easy_init();
    if (!a->easy || !headers_set(c, a, r)) goto failed;
    options_set(c, a, r);
    method_set(c, a->easy, r);
    if (c->curl.easy_setopt(a->easy, CURLOPT_HTTPHEADER, a->list) != CURLE_OK) goto failed;
    if (c->curl.easy_setopt(a->easy, CURLOPT_URL, r->url) != CURLE_OK) goto failed;
    if (c->curl.multi_add_handle(c->multi, a->easy) != CURLM_OK) goto failed;
    return true;
failed:
    attempt_end(c, a);
    return false;
}

static bool anything_sent(struct http_client *c, const struct attempt *a) {
    long sent = 0;
    return c->curl.easy_getinfo(a->easy, CURLINFO_REQUEST_SIZE, &sent) != CURLE_OK || sent > 0;
}

static enum err error_of(struct http_client *c, const struct attempt *a, CURLcode code) {
    if (code == CURLE_OK) return a->head_whole ? OK : ERR_UNKNOWN_OUTCOME;
    if (a->too_large) return ERR_TOO_LARGE;
    if (!anything_sent(c, a))
        return code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL ? ERR_INVALID : ERR_UNAVAILABLE;
    return code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_UNKNOWN_OUTCOME;
}

/* --- Exchanges, on the store thread. */

static void on_mail(struct mail *m) {
    struct exchange *x = CONTAINER_OF(m, struct exchange, mail);
    x->done = true;
    fiber_unpark(x->waiter);
}

/* The last that the store thread does with it. */
static void exchange_end(struct http_client *c, struct exchange *x, enum err result) {
    for (unsigned i = 0; i < 2; i++) attempt_end(c, &x->attempts[i]);
    list_remove(&x->node);
    x->result = result;
    loop_post(x->loop, &x->mail);
}

/* Takes the answer out of the attempt. */
static void answer_take(struct http_client *c, struct exchange *x, struct attempt *a, CURLcode code) {
    struct http_response *out = x->response;
    long status = 0, connections = 0;
    curl_off_t first_byte_us = 0;
    (void)c->curl.easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)c->curl.easy_getinfo(a->easy, CURLINFO_NUM_CONNECTS, &connections);
    (void)c->curl.easy_getinfo(a->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_byte_us);
    out->connections += connections > 0 ? (unsigned)connections : 0;
    if (code != CURLE_OK || !a->head_whole) {
        const char *why = code == CURLE_OK ? "the answer's head was cut" : c->curl.easy_strerror(code);
        (void)snprintf(out->why, sizeof(out->why), "%s", a->error[0] ? a->error : why);
        return;
    }
    out->status = status > 0 ? (unsigned)status : 0;
    out->first_byte_ns = first_byte_us > 0 ? (uint64_t)first_byte_us * NS_PER_US : 0;
    out->hedge_won = a == &x->attempts[1];
    if (a->size > 0) out->body = slice_of(a->slab, 0, a->size);
    buf_u8(&a->headers, 0);
    out->headers = mem_alloc(c->env->mem, a->headers.size);
    memcpy(out->headers, a->headers.data, a->headers.size);
}

static void attempt_done(struct http_client *c, struct attempt *a, CURLcode code) {
    struct exchange *x = a->exchange;
    struct attempt *other = a == &x->attempts[0] ? &x->attempts[1] : &x->attempts[0];
    enum err e = error_of(c, a, code);
    long status = 0;
    (void)c->curl.easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
    /* The other one may still do better. */
    if (other->exchange && (e != OK || status >= 500)) {
        attempt_end(c, a);
        return;
    }
    x->response->why[0] = '\0';
    answer_take(c, x, a, code);
    exchange_end(c, x, e);
}

static void exchange_start(struct http_client *c, struct exchange *x) {
    list_push_back(&c->under_way, &x->node);
    if (x->request->prepare) {
        enum err e = x->request->prepare(x->request->prepare_ctx);
        if (e != OK) {
            (void)snprintf(x->response->why, sizeof(x->response->why), "the request cannot be signed");
            exchange_end(c, x, e);
            return;
        }
    }
    if (!attempt_start(c, x, &x->attempts[0])) {
        (void)snprintf(x->response->why, sizeof(x->response->why), "libcurl does not take the request");
        exchange_end(c, x, ERR_INVALID);
        return;
    }
    if (x->request->hedge_after_ns) x->hedge_at_ns = env_now_ns(c->env) + x->request->hedge_after_ns;
}

/* Sends the second request of those that have waited long enough; returns when the next one is due. */
static uint64_t hedges_send(struct http_client *c) {
    uint64_t now = env_now_ns(c->env), next = UINT64_MAX;
    LIST_EACH(it, &c->under_way) {
        struct exchange *x = LIST_ENTRY(it, struct exchange, node);
        if (x->hedge_at_ns == 0) continue;
        if (x->hedge_at_ns > now) {
            if (x->hedge_at_ns < next) next = x->hedge_at_ns;
            continue;
        }
        x->hedge_at_ns = 0;
        if (x->request->hedge_allowed && !x->request->hedge_allowed(x->request->hedge_ctx)) continue;
        if (attempt_start(c, x, &x->attempts[1])) x->response->hedged = true;
    }
    return next;
}

static void exchange_abort(struct http_client *c, struct exchange *x) {
    bool sent = false;
    for (unsigned i = 0; i < 2; i++) sent |= x->attempts[i].exchange && anything_sent(c, &x->attempts[i]);
    (void)snprintf(x->response->why, sizeof(x->response->why), "the store was closed");
    exchange_end(c, x, sent ? ERR_UNKNOWN_OUTCOME : ERR_CANCELLED);
}

/* Moves what was queued among those under way; true when the client is being closed. */
static bool queue_take(struct http_client *c) {
    struct list taken;
    list_init(&taken);
    pthread_mutex_lock(&c->lock);
    list_splice_back(&taken, &c->queue);
    bool stopping = c->stopping;
    pthread_mutex_unlock(&c->lock);
    for (struct list *n; (n = list_pop_front(&taken)) != NULL;) exchange_start(c, LIST_ENTRY(n, struct exchange, node));
    return stopping;
}

static void *client_main(void *arg) {
    struct http_client *c = arg;
    while (!queue_take(c)) {
        int running, left;
        (void)c->curl.multi_perform(c->multi, &running);
        for (CURLMsg *m; (m = c->curl.multi_info_read(c->multi, &left)) != NULL;) {
            if (m->msg != CURLMSG_DONE) continue;
            void *a = NULL;
            (void)c->curl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &a);
            attempt_done(c, a, m->data.result);
        }
        uint64_t next = hedges_send(c), now = env_now_ns(c->env);
        int timeout_ms = INT_MAX; /* an idle thread sleeps until it is woken; libcurl knows its own time-outs */
        if (next != UINT64_MAX) timeout_ms = next <= now ? 0 : (int)((next - now) / NS_PER_MS % INT_MAX) + 1;
        (void)c->curl.multi_poll(c->multi, NULL, 0, timeout_ms, NULL);
    }
    while (!list_empty(&c->under_way)) exchange_abort(c, LIST_ENTRY(c->under_way.next, struct exchange, node));
    return NULL;
}

/* --- The client, on its fibers' loops. */

static void client_free(struct http_client *c) {
    struct mem *m = c->env->mem;
    if (c->multi) (void)c->curl.multi_cleanup(c->multi);
    if (c->share) (void)c->curl.share_cleanup(c->share);
    pthread_mutex_destroy(&c->lock);
    mem_free(m, c->ca_bundle);
    c->magic = 0;
    mem_free(m, c);
}

/* With every signal blocked: signals are read by loop 0. */
static int thread_begin(struct http_client *c) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&c->thread, NULL, client_main, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) (void)pthread_setname_np(c->thread, "store");
    return rc;
}

enum err http_client_create(const struct http_options *o, struct http_client **out, const char **why) {
    CHECK_OBJ(o->env, ENV_MAGIC);
    struct http_client *c = MEM_NEW(o->env->mem, struct http_client);
    INIT_OBJ(c, CLIENT_MAGIC);
    c->env = o->env;
    list_init(&c->queue);
    list_init(&c->under_way);
    ASSERT(pthread_mutex_init(&c->lock, NULL) == 0);
    if (o->ca_bundle && o->ca_bundle[0]) c->ca_bundle = mem_strdup(o->env->mem, o->ca_bundle);
    enum err e = http_curl_load(&c->curl, why);
    if (e != OK) goto failed;
    e = ERR_UNAVAILABLE;
    *why = "the store thread cannot be started";
    c->multi = c->curl.multi_init();
    c->share = c->curl.share_init();
    if (!c->multi || !c->share) goto failed;
    c->curl.share_setopt(c->share, CURLSHOPT_SHARE, (int)CURL_LOCK_DATA_SSL_SESSION);
    c->curl.multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS,
                         (long)(o->connections_max ? o->connections_max : CONNECTIONS_DEFAULT));
    c->curl.multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
    c->curl.multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    if (thread_begin(c) != 0) goto failed;
    *why = "";
    *out = c;
    return OK;
failed:
    client_free(c);
    return e;
}

static void client_wake(struct http_client *c) {
    (void)c->curl.multi_wakeup(c->multi);
}

static void client_join(void *arg) {
    struct http_client *c = arg;
    pthread_join(c->thread, NULL);
}

void http_client_stop(struct http_client *c) {
    CHECK_OBJ(c, CLIENT_MAGIC);
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    client_wake(c);
    pthread_mutex_unlock(&c->lock);
}

void http_client_close(struct http_client *c) {
    if (!c) return;
    http_client_stop(c);
    env_offload(c->env, client_join, c);
    ASSERT(list_empty(&c->queue) && list_empty(&c->under_way));
    client_free(c);
}

enum err http_exchange(struct http_client *c, const struct http_request *r, struct http_response *out) {
    CHECK_OBJ(c, CLIENT_MAGIC);
    ASSERT(r->header_count <= HTTP_HEADERS_MAX);
    ASSERT(r->hedge_after_ns == 0 || r->body_count == 0);
    *out = (struct http_response){.mem = c->env->mem};
    struct exchange x = {.client = c,
                         .request = r,
                         .response = out,
                         .loop = loop_current(),
                         .waiter = fiber_self(),
                         .mail = {NULL, on_mail}};
    ASSERT(x.waiter);
    list_init(&x.node);
    pthread_mutex_lock(&c->lock);
    bool closed = c->stopping;
    if (!closed) {
        list_push_back(&c->queue, &x.node);
        client_wake(c); /* under the lock: the client may go as soon as it is given back */
    }
    pthread_mutex_unlock(&c->lock);
    if (closed) return ERR_CANCELLED;
    while (!x.done) fiber_park();
    return x.result;
}

const char *http_response_header(const struct http_response *r, const char *name) {
    for (const char *h = r->headers; h && *h;) {
        const char *value = h + strlen(h) + 1;
        if (strcasecmp(h, name) == 0) return value;
        h = value + strlen(value) + 1;
    }
    return NULL;
}

void http_response_deinit(struct http_response *r) {
    slice_unref(&r->body);
    if (r->headers) mem_free(r->mem, r->headers);
    r->headers = NULL;
}
