/* Connections of the client: making them within the time-out, ApiVersions, requests and their answers. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client_priv.h"
#include "kafka/frame.h"

#define READ_BYTES ((size_t)65536)
#define ANSWER_BYTES_MAX ((size_t)512 << 20)

/* --- Connecting. The environment's connect has no time-out: it runs in a fiber of its own, which is left behind. */

struct attempt {
    struct list node; /* of client.attempts */
    struct client *client;
    struct client_address address;
    struct client_conn *conn; /* NULL: given up */
    struct env_conn *raw;
    enum err err;
    bool done;
    struct waitq over;
};

static struct env_bytes conn_room(void *ctx) {
    struct client_conn *cc = ctx;
    if (cc->owner_events) return cc->owner_events->room(cc->owner_ctx);
    buf_reserve(&cc->in, READ_BYTES);
    return (struct env_bytes){cc->in.data + cc->in.size, cc->in.capacity - cc->in.size};
}

static void conn_received(void *ctx, size_t size) {
    struct client_conn *cc = ctx;
    if (cc->owner_events) {
        cc->owner_events->received(cc->owner_ctx, size);
        return;
    }
    cc->in.size += size;
    waitq_wake_all(&cc->arrived);
}

static void conn_sent(void *ctx, size_t queued_bytes) {
    struct client_conn *cc = ctx;
    if (cc->owner_events) {
        cc->owner_events->sent(cc->owner_ctx, queued_bytes);
        return;
    }
    waitq_wake_all(&cc->arrived);
}

static void conn_closed(void *ctx, enum err why) {
    struct client_conn *cc = ctx;
    cc->broken = why == OK ? ERR_CLOSED : why;
    if (cc->owner_events) {
        cc->owner_events->closed(cc->owner_ctx, cc->broken);
        return;
    }
    waitq_wake_all(&cc->arrived);
}

static const struct env_conn_events conn_events = {conn_room, conn_received, conn_sent, conn_closed};

static void attempt_main(void *arg) {
    struct attempt *a = arg;
    struct env *env = a->client->env;
    a->err = env_connect(env, a->address.host, a->address.port, &a->raw);
    a->done = true;
    if (a->err == OK && a->conn) {
        a->conn->raw = a->raw;
        env_conn_start(env, a->raw, &conn_events, a->conn);
    } else if (a->err == OK) {
        env_conn_close(env, a->raw, true);
    }
    waitq_wake_all(&a->over);
}

void client_attempts_free(struct client *c) {
    LIST_EACH_SAFE(n, &c->attempts) {
        list_remove(n);
        mem_free(&c->mem, LIST_ENTRY(n, struct attempt, node));
    }
}

void client_attempts_move(struct client *from, struct client *to) {
    LIST_EACH(n, &from->attempts) LIST_ENTRY(n, struct attempt, node)->client = to;
    list_splice_back(&to->attempts, &from->attempts);
}

static enum err connect_in_time(struct client_conn *cc, uint64_t deadline_ns) {
    struct client *c = cc->client;
    struct attempt *a = MEM_NEW(&c->mem, struct attempt);
    a->client = c;
    a->address = cc->address;
    a->conn = cc;
    waitq_init(&a->over);
    list_push_back(&c->attempts, &a->node);
    fiber_spawn(loop_current(), "connect", attempt_main, a);
    while (!a->done && waitq_wait_until(&a->over, deadline_ns)) continue;
    enum err e = a->done ? a->err : ERR_TIMEOUT;
    a->conn = NULL;
    if (a->done) {
        list_remove(&a->node);
        mem_free(&c->mem, a);
    }
    if (e == OK) return OK;
    if (e == ERR_TIMEOUT) {
        return client_fail(c, e, "no broker answers at %s: the connection was not made within %" PRIu64 " ms", cc->name,
                           (uint64_t)(c->timeout_ns / NS_PER_MS));
    }
    const char *why = e == ERR_UNAVAILABLE ? "the connection is refused, or the host cannot be reached"
                      : e == ERR_INVALID || e == ERR_NOT_FOUND ? "the name of the host is not known"
                                                               : err_text(e);
    return client_fail(c, ERR_UNAVAILABLE, "no broker answers at %s: %s", cc->name, why);
}

void client_drop(struct client_conn *cc) {
    struct client *c = cc->client;
    list_remove(&cc->node);
    if (cc->raw) env_conn_close(c->env, cc->raw, false);
    buf_deinit(&cc->in);
    mem_free(&c->mem, cc);
}

/* --- ApiVersions. */

/* A broker that does not know the version of ApiVersions answers with error 35 in version 0, naming the versions that
 * it knows (KIP-511); older ones leave that out, and know version 0. */
static enum err versions_ask(struct client_conn *cc, int16_t version, struct arena *a,
                             struct kafka_api_versions_response *r) {
    struct kafka_api_versions_request q;
    kafka_api_versions_request_init(&q);
    q.client_software_name = kafka_string_of("oxbow");
    q.client_software_version = kafka_string_of("cli");
    cc->versions[KAFKA_API_API_VERSIONS].min = cc->versions[KAFKA_API_API_VERSIONS].max = version;
    return client_call(cc, KAFKA_API_API_VERSIONS, version, &q, a, r);
}

/* After an error the connection is gone. */
static enum err versions_learn(struct client_conn *cc) {
    struct client *c = cc->client;
    struct arena a;
    struct kafka_api_versions_response r;
    const struct kafka_api *api = kafka_api_find(KAFKA_API_API_VERSIONS);
    arena_init(&a, &c->mem);
    enum err e = versions_ask(cc, api->max_version, &a, &r);
    if (e == OK && r.error_code == KAFKA_UNSUPPORTED_VERSION) {
        int16_t version = 0;
        for (int32_t i = 0; i < r.api_keys.count; i++) {
            if (r.api_keys.items[i].api_key == KAFKA_API_API_VERSIONS) version = r.api_keys.items[i].max_version;
        }
        if (version < api->min_version) version = api->min_version;
        if (version > api->max_version) version = api->max_version;
        e = versions_ask(cc, version, &a, &r);
    }
    for (size_t i = 0; e == OK && i <= KAFKA_API_KEY_MAX; i++) {
        cc->versions[i].min = 0;
        cc->versions[i].max = -1;
    }
    for (int32_t i = 0; e == OK && i < r.api_keys.count; i++) {
        int16_t key = r.api_keys.items[i].api_key;
        if (key < 0 || key > KAFKA_API_KEY_MAX) continue;
        cc->versions[key].min = r.api_keys.items[i].min_version;
        cc->versions[key].max = r.api_keys.items[i].max_version;
    }
    if (e == OK && r.error_code != 0) {
        e = client_fail_code(c, cc->name, r.error_code, (struct kafka_string){NULL, -1});
        client_drop(cc);
    }
    arena_deinit(&a);
    return e;
}

int16_t client_version(const struct client_conn *cc, int16_t api_key, int16_t cap) {
    const struct kafka_api *api = kafka_api_find(api_key);
    ASSERT(api != NULL);
    int16_t low = cc->versions[api_key].min, high = cc->versions[api_key].max;
    if (high > api->max_version) high = api->max_version;
    if (high > cap) high = cap;
    if (low < api->min_version) low = api->min_version;
    return low <= high ? high : -1;
}

/* Makes a connection and learns what the broker speaks. */
static enum err conn_make(struct client *c, const struct client_address *to, int32_t node_id,
                          struct client_conn **out) {
    struct client_conn *cc = MEM_NEW(&c->mem, struct client_conn);
    cc->client = c;
    cc->address = *to;
    cc->node_id = node_id;
    bool six = strchr(to->host, ':') != NULL;
    (void)snprintf(cc->name, sizeof(cc->name), six ? "[%s]:%u" : "%s:%u", to->host, to->port);
    buf_init(&cc->in, &c->mem);
    waitq_init(&cc->arrived);
    list_push_back(&c->conns, &cc->node);
    cc->waiting = true; /* nobody else may take it yet */
    enum err e = connect_in_time(cc, client_deadline_ns(c));
    cc->waiting = false;
    if (e != OK) {
        client_drop(cc);
        return e;
    }
    e = versions_learn(cc);
    if (e == OK) *out = cc;
    return e;
}

/* Connections that broke while nothing was asked are cleared away. */
static void broken_drop(struct client *c) {
    LIST_EACH_SAFE(n, &c->conns) {
        struct client_conn *cc = LIST_ENTRY(n, struct client_conn, node);
        if (cc->broken != OK && !cc->waiting) client_drop(cc);
    }
}

void client_drop_idle(struct client *c) {
    LIST_EACH_SAFE(n, &c->conns) {
        struct client_conn *cc = LIST_ENTRY(n, struct client_conn, node);
        if (!cc->waiting) client_drop(cc);
    }
}

enum err client_any(struct client *c, struct client_conn **out) {
    broken_drop(c);
    LIST_EACH(n, &c->conns) {
        struct client_conn *cc = LIST_ENTRY(n, struct client_conn, node);
        if (cc->waiting) continue;
        *out = cc;
        return OK;
    }
    for (size_t i = 0; i < c->bootstrap_count; i++) {
        if (conn_make(c, &c->bootstrap[i], -1, out) == OK) return OK;
    }
    enum err e = ERR_UNAVAILABLE;
    char why[CLIENT_WHY_SIZE];
    memcpy(why, c->why, sizeof(why));
    for (size_t i = 0; i < c->broker_count; i++) {
        struct client_broker b = c->brokers[i];
        if (conn_make(c, &b.address, b.node_id, out) == OK) return OK;
    }
    memcpy(c->why, why, sizeof(why)); /* about the address that the user gave */
    return e;
}

static bool address_equal(const struct client_address *a, const struct client_address *b) {
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

enum err client_node(struct client *c, int32_t node_id, struct client_conn **out) {
    broken_drop(c);
    const struct client_broker *b = NULL;
    for (size_t i = 0; i < c->broker_count && !b; i++) {
        if (c->brokers[i].node_id == node_id) b = &c->brokers[i];
    }
    if (!b) {
        return client_fail(c, ERR_UNAVAILABLE, "the cluster does not say where its broker %d is", (int)node_id);
    }
    LIST_EACH(n, &c->conns) {
        struct client_conn *cc = LIST_ENTRY(n, struct client_conn, node);
        if (cc->waiting || !address_equal(&cc->address, &b->address)) continue;
        if (cc->node_id >= 0 && cc->node_id != node_id) continue;
        cc->node_id = node_id;
        *out = cc;
        return OK;
    }
    struct client_address to = b->address;
    return conn_make(c, &to, node_id, out);
}

enum err client_hand_over(struct client *c, const struct client_address *to, int32_t node_id,
                          const struct env_conn_events *events, void *ctx, struct client_conn **out,
                          struct env_conn **raw) {
    struct client_address address;
    const struct client_broker *b = NULL;
    for (size_t i = 0; !to && i < c->broker_count && !b; i++) {
        if (c->brokers[i].node_id == node_id) b = &c->brokers[i];
    }
    if (!to && !b) {
        return client_fail(c, ERR_UNAVAILABLE, "the cluster does not say where its broker %d is", (int)node_id);
    }
    address = to ? *to : b->address;
    enum err e = conn_make(c, &address, node_id, out);
    if (e != OK) return e;
    struct client_conn *cc = *out;
    cc->waiting = true; /* for ever: nobody else takes it */
    cc->owner_events = events;
    cc->owner_ctx = ctx;
    buf_deinit(&cc->in);
    buf_init(&cc->in, &c->mem);
    *raw = cc->raw;
    if (cc->broken == OK) return OK;
    e = client_fail(c, cc->broken, "the broker at %s closed the connection", cc->name);
    client_drop(cc);
    return e;
}

const char *client_conn_name(const struct client_conn *cc) {
    return cc->name;
}

/* --- Requests. */

enum err client_send(struct client_conn *cc, int16_t api_key, int16_t cap, const void *request) {
    struct client *c = cc->client;
    ASSERT(!cc->waiting);
    const struct kafka_api *api = kafka_api_find(api_key);
    int16_t version = client_version(cc, api_key, cap);
    if (version < 0) {
        return client_fail(c, ERR_UNSUPPORTED_VERSION,
                           "the broker at %s does not offer the API %s in a version that this program speaks", cc->name,
                           api->name);
    }
    struct outbuf out;
    struct slices slices;
    outbuf_init(&out, &c->mem);
    slices_init(&slices, &c->mem);
    cc->correlation_id++;
    enum err e = kafka_request_encode(api, version, cc->correlation_id, kafka_string_of("oxbow-cli"), request, &out);
    if (e == OK) {
        outbuf_finish(&out, &slices);
        cc->api = api;
        cc->version = version;
        cc->in.size = 0;
        cc->waiting = true;
        if (cc->broken == OK) {
            env_conn_send(c->env, cc->raw, slices.items, slices.count);
            slices.count = 0; /* their references went along */
        }
    } else if (e == ERR_UNSUPPORTED_VERSION) {
        (void)client_fail(c, e, "the broker at %s speaks %s only up to version %d, which cannot say this", cc->name,
                          api->name, version);
    } else {
        (void)client_fail(c, e, "the request %s cannot be said: %s", api->name, err_text(e));
    }
    outbuf_deinit(&out);
    slices_deinit(&slices);
    return e;
}

/* Waits for a whole frame; *size is its size without the size field. */
static enum err frame_await(struct client_conn *cc, uint64_t deadline_ns, size_t *size) {
    struct client *c = cc->client;
    for (;;) {
        if (cc->in.size >= KAFKA_FRAME_SIZE_BYTES) {
            *size = be32_get(cc->in.data);
            if (*size > ANSWER_BYTES_MAX || *size < 4) {
                return client_fail(c, ERR_PROTOCOL, "what answers at %s does not speak Kafka's protocol in the clear",
                                   cc->name);
            }
            if (cc->in.size - KAFKA_FRAME_SIZE_BYTES >= *size) return OK;
        }
        if (cc->broken != OK) {
            return client_fail(c, cc->broken, "the broker at %s closed the connection instead of answering %s",
                               cc->name, cc->api->name);
        }
        if (!waitq_wait_until(&cc->arrived, deadline_ns)) {
            return client_fail(c, ERR_TIMEOUT, "the broker at %s did not answer %s within %" PRIu64 " ms", cc->name,
                               cc->api->name, (uint64_t)(c->timeout_ns / NS_PER_MS));
        }
    }
}

enum err client_await(struct client_conn *cc, uint64_t extra_ns, struct arena *a, void *response) {
    struct client *c = cc->client;
    ASSERT(cc->waiting);
    size_t size = 0;
    enum err e = frame_await(cc, client_deadline_ns(c) + extra_ns, &size);
    if (e == OK) {
        /* The connection's buffer is used again: what is decoded borrows from a copy. */
        const uint8_t *frame = arena_copy(a, cc->in.data + KAFKA_FRAME_SIZE_BYTES, size), *body;
        size_t body_size;
        int32_t correlation_id;
        int16_t version = cc->version;
        e = kafka_response_open(cc->api, version, frame, size, a, &correlation_id, &body, &body_size);
        /* See versions_ask: the answer to a version that is not known comes in version 0. */
        if (e == OK && cc->api->key == KAFKA_API_API_VERSIONS && body_size >= 2 &&
            (int16_t)be16_get(body) == KAFKA_UNSUPPORTED_VERSION) {
            version = 0;
        }
        if (e == OK && correlation_id != cc->correlation_id) e = ERR_PROTOCOL;
        if (e == OK) e = kafka_decode(cc->api->response, version, body, body_size, a, response);
        if (e != OK) {
            (void)client_fail(c, e, "the answer of the broker at %s to %s cannot be read: %s", cc->name, cc->api->name,
                              err_text(e));
        }
    }
    cc->waiting = false;
    cc->in.size = 0;
    if (e != OK) client_drop(cc);
    return e;
}

enum err client_forget(struct client_conn *cc) {
    struct client *c = cc->client;
    ASSERT(cc->waiting);
    uint64_t deadline_ns = client_deadline_ns(c);
    enum err e = cc->broken;
    while (e == OK && env_conn_queued(c->env, cc->raw) > 0) {
        bool in_time = waitq_wait_until(&cc->arrived, deadline_ns);
        e = cc->broken != OK ? cc->broken : in_time ? OK : ERR_TIMEOUT;
    }
    cc->waiting = false;
    if (e == OK) return OK;
    (void)client_fail(c, e, "the broker at %s does not take %s: %s", cc->name, cc->api->name, err_text(e));
    client_drop(cc);
    return e;
}

enum err client_call(struct client_conn *cc, int16_t api_key, int16_t cap, const void *request, struct arena *a,
                     void *response) {
    enum err e = client_send(cc, api_key, cap, request);
    return e == OK ? client_await(cc, 0, a, response) : e;
}
