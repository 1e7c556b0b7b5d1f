#include "admin/admin.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "admin/metrics_page.h"
#include "base/assert.h"

#define ADMIN_MAGIC 0xad1170a1u
#define LIBRARY "libmicrohttpd.so.12"
#define CONNECTIONS_MAX 64u
#define IDLE_SECONDS 30u

#if MHD_VERSION >= 0x00097002
typedef enum MHD_Result http_result;
#else
typedef int http_result;
#endif

/* The few functions that are used of the library. */
struct http_functions {
    struct MHD_Daemon *(*start)(unsigned int flags, uint16_t port, MHD_AcceptPolicyCallback apc, void *apc_cls,
                                MHD_AccessHandlerCallback dh, void *dh_cls, ...);
    void (*stop)(struct MHD_Daemon *daemon);
    const union MHD_DaemonInfo *(*info)(struct MHD_Daemon *daemon, enum MHD_DaemonInfoType type, ...);
    struct MHD_Response *(*response)(size_t size, void *data, enum MHD_ResponseMemoryMode mode);
    void (*response_free)(struct MHD_Response *response);
    http_result (*header)(struct MHD_Response *response, const char *header, const char *content);
    http_result (*answer)(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response);
    void (*suspend)(struct MHD_Connection *connection);
    void (*resume)(struct MHD_Connection *connection);
};

struct admin {
    unsigned magic;
    struct admin_options o;
    void *library;
    struct http_functions http;
    struct MHD_Daemon *daemon;
    uint16_t port;
    uint64_t started_ns;
    _Atomic bool ready, stopping;
    _Atomic uint32_t suspended; /* pages asked for and not handed back yet */
    /* Loop 0. */
    struct broker *broker;
    struct waitgroup pages;
};

/* A metrics page: asked for by the HTTP thread, made on loop 0, handed back by resuming the connection. */
struct page {
    struct admin *admin;
    struct MHD_Connection *connection;
    struct buf text;
    _Atomic bool made;
};

/* --- On loop 0. */

static void page_topics(struct broker *b, struct buf *out) {
    struct broker_topic_count *topics;
    size_t count;
    broker_topic_counts(b, &topics, &count);
    static const struct {
        const char *name, *type, *help;
        size_t field;
    } columns[] = {
        {"oxbow_topic_received_bytes_total", "counter", "Bytes of record batches appended, by topic.",
         offsetof(struct broker_topic_count, bytes_in)},
        {"oxbow_topic_sent_bytes_total", "counter", "Bytes of record batches read, by topic.",
         offsetof(struct broker_topic_count, bytes_out)},
        {"oxbow_topic_received_records_total", "counter", "Records appended, by topic.",
         offsetof(struct broker_topic_count, records_in)},
        {"oxbow_topic_size_bytes", "gauge", "Bytes kept, by topic.", offsetof(struct broker_topic_count, size_bytes)},
        {"oxbow_topic_open_partitions", "gauge", "Open partitions, by topic.",
         offsetof(struct broker_topic_count, partitions)},
    };
    for (size_t c = 0; c < ARRAY_LEN(columns); c++) {
        metrics_page_head(out, columns[c].name, columns[c].type, columns[c].help);
        for (size_t i = 0; i < count; i++) {
            uint64_t v;
            memcpy(&v, (const char *)&topics[i] + columns[c].field, sizeof(v));
            metrics_page_value(out, columns[c].name, "topic", topics[i].name, v);
        }
    }
    broker_topic_counts_free(b, topics, count);
}

static void page_main(void *arg) {
    struct page *p = arg;
    struct admin *a = p->admin;
    CHECK_OBJ(a, ADMIN_MAGIC);
    waitgroup_add(&a->pages);
    struct buf *out = &p->text;
    metrics_page_table(a->o.env->metrics, out);
    metrics_page_head(out, "oxbow_memory_allocated_bytes", "gauge", "Bytes taken from the heap.");
    metrics_page_value(out, "oxbow_memory_allocated_bytes", NULL, NULL, atomic_load(&a->o.env->mem->allocated_bytes));
    metrics_page_head(out, "process_resident_memory_bytes", "gauge", "Resident memory of the process.");
    metrics_page_value(out, "process_resident_memory_bytes", NULL, NULL,
                       a->o.resident_bytes ? a->o.resident_bytes() : 0);
    metrics_page_head(out, "oxbow_uptime_seconds", "gauge", "Since the process began to count.");
    uint64_t up_ms = (env_now_ns(a->o.env) - a->started_ns) / NS_PER_MS;
    buf_printf(out, "oxbow_uptime_seconds %" PRIu64 ".%03u\n", up_ms / 1000, (unsigned)(up_ms % 1000));
    metrics_page_head(out, "oxbow_build_info", "gauge", "1; the labels tell what is running.");
    buf_printf(out, "oxbow_build_info{version=\"%s\",io=\"%s\"} 1\n", a->o.version, a->o.io_name);
    struct broker *b = a->broker; /* stays until this page is done, even if it is taken away meanwhile */
    if (b) {
        metrics_page_head(out, "oxbow_broker_info", "gauge", "1; the labels tell which broker this is.");
        buf_printf(out, "oxbow_broker_info{node_id=\"%d\",incarnation=\"%" PRIu64 "\",cluster_id=\"%s\"} 1\n",
                   broker_node_id(b), broker_incarnation(b), broker_cluster_id(b));
        page_topics(b, out);
    }
    atomic_store(&p->made, true);
    a->http.resume(p->connection);
    /* p may be gone from here on. */
    atomic_fetch_sub(&a->suspended, 1);
    waitgroup_done(&a->pages);
}

/* --- On the HTTP thread. */

static http_result send_text(struct admin *a, struct MHD_Connection *c, unsigned status, const char *type,
                             const void *data, size_t size) {
    struct MHD_Response *r = a->http.response(size, (void *)(uintptr_t)data, MHD_RESPMEM_MUST_COPY);
    if (!r) return MHD_NO;
    (void)a->http.header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    http_result result = a->http.answer(c, status, r);
    a->http.response_free(r);
    return result;
}

static http_result send_line(struct admin *a, struct MHD_Connection *c, unsigned status, const char *line) {
    return send_text(a, c, status, "text/plain; charset=utf-8", line, strlen(line));
}

static http_result serve_metrics(struct admin *a, struct MHD_Connection *c, void **context) {
    struct page *p = *context;
    if (p && atomic_load(&p->made))
        return send_text(a, c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", p->text.data, p->text.size);
    if (p) return MHD_YES; /* woken for nothing */
    atomic_fetch_add(&a->suspended, 1);
    if (atomic_load(&a->stopping)) {
        atomic_fetch_sub(&a->suspended, 1);
        return send_line(a, c, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping\n");
    }
    p = MEM_NEW(a->o.env->mem, struct page);
    p->admin = a;
    p->connection = c;
    buf_init(&p->text, a->o.env->mem);
    *context = p;
    a->http.suspend(c);
    loop_spawn(a->o.loop0, "metrics page", page_main, p);
    return MHD_YES;
}

static http_result serve(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                         const char *upload, size_t *upload_size, void **context) {
    struct admin *a = cls;
    (void)version;
    (void)upload;
    if (*upload_size > 0) {
        *upload_size = 0; /* nothing here takes a body */
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return send_line(a, c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    }
    if (strcmp(url, "/metrics") == 0) return serve_metrics(a, c, context);
    if (strcmp(url, "/healthz") == 0) return send_line(a, c, MHD_HTTP_OK, "ok\n");
    if (strcmp(url, "/readyz") == 0) {
        bool ready = atomic_load(&a->ready);
        return send_line(a, c, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, ready ? "ready\n" : "not ready\n");
    }
    return send_line(a, c, MHD_HTTP_NOT_FOUND, "there are /healthz, /readyz and /metrics\n");
}

static void completed(void *cls, struct MHD_Connection *c, void **context, enum MHD_RequestTerminationCode why) {
    struct admin *a = cls;
    (void)c;
    (void)why;
    struct page *p = *context;
    if (!p) return;
    *context = NULL;
    buf_deinit(&p->text);
    mem_free(a->o.env->mem, p);
}

/* --- Start and stop. */

static bool load_function(struct admin *a, const char *name, void *pointer) {
    void *symbol = dlsym(a->library, name);
    memcpy(pointer, &symbol, sizeof(symbol)); /* ISO C has no cast from an object's to a function's pointer */
    return symbol != NULL;
}

static bool load_library(struct admin *a) {
    a->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!a->library) return false;
    struct http_functions *h = &a->http;
    return load_function(a, "MHD_start_daemon", &h->start) && load_function(a, "MHD_stop_daemon", &h->stop) &&
           load_function(a, "MHD_get_daemon_info", &h->info) &&
           load_function(a, "MHD_create_response_from_buffer", &h->response) &&
           load_function(a, "MHD_destroy_response", &h->response_free) &&
           load_function(a, "MHD_add_response_header", &h->header) &&
           load_function(a, "MHD_queue_response", &h->answer) &&
           load_function(a, "MHD_suspend_connection", &h->suspend) &&
           load_function(a, "MHD_resume_connection", &h->resume);
}

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static bool address_parse(const char *host, uint16_t port, union address *out) {
    memset(out, 0, sizeof(*out));
    if (strchr(host, ':')) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        return inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1;
    }
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons(port);
    if (host[0] == '\0') host = "0.0.0.0";
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    return inet_pton(AF_INET, host, &out->v4.sin_addr) == 1;
}

static void admin_free(struct admin *a) {
    /* The library stays loaded: its threads may still be on their way out, and the process ends soon. */
    a->magic = 0;
    mem_free(a->o.env->mem, a);
}

enum err admin_start(const struct admin_options *o, struct admin **out, const char **why) {
    union address address;
    if (!address_parse(o->host, o->port, &address)) {
        (void)snprintf(o->why_text, o->why_size, "http.listen: expected a numeric address or localhost, found '%s'",
                       o->host);
        *why = o->why_text;
        return ERR_INVALID;
    }
    struct admin *a = MEM_NEW(o->env->mem, struct admin);
    INIT_OBJ(a, ADMIN_MAGIC);
    a->o = *o;
    a->o.host = NULL;
    a->started_ns = env_now_ns(o->env);
    waitgroup_init(&a->pages);
    if (!load_library(a)) {
        admin_free(a);
        *why =
            "http.listen is set, but " LIBRARY " cannot be loaded; install libmicrohttpd12 or leave http.listen empty";
        return ERR_NOT_FOUND;
    }
    unsigned flags = MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME;
    if (address.any.sa_family == AF_INET6) flags |= MHD_USE_IPv6;
    a->daemon = a->http.start(flags, o->port, NULL, NULL, serve, a, MHD_OPTION_SOCK_ADDR, &address.any,
                              MHD_OPTION_NOTIFY_COMPLETED, completed, a, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                              MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_END);
    if (!a->daemon) {
        admin_free(a);
        (void)snprintf(o->why_text, o->why_size, "cannot listen on http.listen=%s:%u; is the port in use?", o->host,
                       o->port);
        *why = o->why_text;
        return ERR_UNAVAILABLE;
    }
    const union MHD_DaemonInfo *bound = a->http.info(a->daemon, MHD_DAEMON_INFO_BIND_PORT);
    a->port = bound && bound->port ? bound->port : o->port;
    *out = a;
    return OK;
}

uint16_t admin_port(const struct admin *a) {
    CHECK_OBJ(a, ADMIN_MAGIC);
    return a->port;
}

void admin_set_broker(struct admin *a, struct broker *b) {
    CHECK_OBJ(a, ADMIN_MAGIC);
    atomic_store(&a->ready, b != NULL);
    a->broker = b;
    if (!b) waitgroup_wait(&a->pages);
}

void admin_stop(struct admin *a) {
    CHECK_OBJ(a, ADMIN_MAGIC);
    ASSERT(!a->broker);
    /* A daemon with suspended connections must not be stopped: those under way are finished, new ones are refused. */
    atomic_store(&a->stopping, true);
    while (atomic_load(&a->suspended) > 0) fiber_sleep_ns(NS_PER_MS);
    waitgroup_wait(&a->pages);
    a->http.stop(a->daemon);
    admin_free(a);
}
