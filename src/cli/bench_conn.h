/* A connection that carries many requests at a time, for the load: answers come in the order of the requests and are
 * handed over as they arrive, on the loop, outside any fiber. One thread. */
#ifndef OXBOW_CLI_BENCH_CONN_H
#define OXBOW_CLI_BENCH_CONN_H

#include "cli/bench.h"

struct bench_conn;

struct bench_conn_events {
    /* The answer to the request that `what` was given with; valid during the call only. */
    void (*answer)(void *ctx, void *what, int16_t version, const void *response);
    /* Bytes that were waiting have gone; `queued` are left. */
    void (*sent)(void *ctx, size_t queued);
    /* The connection is lost, and with it what was under way; told once, never from within bench_conn_ask. */
    void (*lost)(void *ctx);
};

struct bench_ask {
    const struct kafka_api *api;
    int16_t version;
    int32_t correlation_id;
    void *what;
};

struct bench_conn {
    struct client *client;
    struct client_conn *cc; /* NULL: not open */
    struct env_conn *raw;
    const struct bench_conn_events *events;
    void *ctx;
    struct buf in;
    struct arena arena;
    int32_t correlation_id;
    struct bench_ask asks[BENCH_IN_FLIGHT_MAX];
    size_t first, count; /* a ring of what is not answered */
    bool lost;
    char why[CLIENT_WHY_SIZE]; /* it was lost */
};

/* Connects to a broker of the client's last metadata, or to `to`. Suspends. The failure's sentence is in client.why. */
enum err bench_conn_open(struct bench_conn *bc, struct client *c, const struct client_address *to, int32_t node_id,
                         const struct bench_conn_events *events, void *ctx) WARN_UNUSED;
/* Never from within one of its events. An unopened one is fine, as long as it is zeroed. */
void bench_conn_close(struct bench_conn *bc);
bool bench_conn_usable(const struct bench_conn *bc);
int16_t bench_conn_version(const struct bench_conn *bc, int16_t api_key, int16_t cap);
/* Sends; at most BENCH_IN_FLIGHT_MAX without an answer. answered false: no answer will come. The failure's sentence is
 * in client.why, and nothing was sent. */
enum err bench_conn_ask(struct bench_conn *bc, int16_t api_key, int16_t cap, const void *request, bool answered,
                        void *what) WARN_UNUSED;
size_t bench_conn_queued(const struct bench_conn *bc);

#endif
