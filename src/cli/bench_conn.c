#include "cli/bench_conn.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "kafka/frame.h"

#define READ_BYTES ((size_t)65536)
#define ANSWER_BYTES_MAX ((size_t)1 << 30)

/* --- What comes in. */

static struct env_bytes conn_room(void *ctx) {
    struct bench_conn *bc = ctx;
    size_t want = READ_BYTES;
    if (bc->in.size >= KAFKA_FRAME_SIZE_BYTES) {
        /* Exactly the rest of a large answer: what follows it would have to be moved. */
        size_t size = KAFKA_FRAME_SIZE_BYTES + be32_get(bc->in.data);
        if (size > bc->in.size + READ_BYTES && size <= ANSWER_BYTES_MAX) want = size - bc->in.size;
    }
    buf_reserve(&bc->in, want);
    return (struct env_bytes){bc->in.data + bc->in.size, want};
}

static void conn_lose(struct bench_conn *bc, const char *why) {
    if (bc->lost) return;
    bc->lost = true;
    (void)snprintf(bc->why, sizeof(bc->why), "the broker at %s: %s", client_conn_name(bc->cc), why);
    bc->events->lost(bc->ctx);
}

static void frame_take(struct bench_conn *bc, const uint8_t *frame, size_t size) {
    const uint8_t *body;
    size_t body_size;
    int32_t correlation_id;
    if (bc->count == 0) {
        conn_lose(bc, "an answer came that nobody had asked for");
        return;
    }
    struct bench_ask ask = bc->asks[bc->first];
    bc->first = (bc->first + 1) % BENCH_IN_FLIGHT_MAX;
    bc->count--;
    arena_reset(&bc->arena);
    void *response = arena_alloc(&bc->arena, ask.api->response->size);
    enum err e = kafka_response_open(ask.api, ask.version, frame, size, &bc->arena, &correlation_id, &body, &body_size);
    if (e == OK && correlation_id != ask.correlation_id) e = ERR_PROTOCOL;
    if (e == OK) e = kafka_decode(ask.api->response, ask.version, body, body_size, &bc->arena, response);
    if (e != OK) {
        conn_lose(bc, "its answer cannot be read");
        return;
    }
    bc->events->answer(bc->ctx, ask.what, ask.version, response);
}

static void conn_received(void *ctx, size_t size) {
    struct bench_conn *bc = ctx;
    bc->in.size += size;
    size_t at = 0;
    while (!bc->lost && bc->in.size - at >= KAFKA_FRAME_SIZE_BYTES) {
        size_t frame = be32_get(bc->in.data + at);
        if (frame > ANSWER_BYTES_MAX || frame < 4) {
            conn_lose(bc, "what it sends is not Kafka's protocol in the clear");
            return;
        }
        if (bc->in.size - at - KAFKA_FRAME_SIZE_BYTES < frame) break;
        at += KAFKA_FRAME_SIZE_BYTES;
        frame_take(bc, bc->in.data + at, frame);
        at += frame;
    }
    if (at == 0) return;
    memmove(bc->in.data, bc->in.data + at, bc->in.size - at);
    bc->in.size -= at;
}

static void conn_sent(void *ctx, size_t queued) {
    struct bench_conn *bc = ctx;
    if (!bc->lost) bc->events->sent(bc->ctx, queued);
}

static void conn_closed(void *ctx, enum err why) {
    conn_lose(ctx, err_text(why));
}

static const struct env_conn_events conn_events = {conn_room, conn_received, conn_sent, conn_closed};

/* --- Beginning and end. */

enum err bench_conn_open(struct bench_conn *bc, struct client *c, const struct client_address *to, int32_t node_id,
                         const struct bench_conn_events *events, void *ctx) {
    *bc = (struct bench_conn){.client = c, .events = events, .ctx = ctx};
    buf_init(&bc->in, &c->mem);
    arena_init(&bc->arena, &c->mem);
    enum err e = client_hand_over(c, to, node_id, &conn_events, bc, &bc->cc, &bc->raw);
    if (e == OK) return OK;
    bc->cc = NULL;
    bench_conn_close(bc);
    return e;
}

void bench_conn_close(struct bench_conn *bc) {
    if (!bc->client) return;
    if (bc->cc) client_drop(bc->cc);
    buf_deinit(&bc->in);
    arena_deinit(&bc->arena);
    bc->client = NULL;
    bc->cc = NULL;
    bc->raw = NULL;
    bc->count = 0;
}

bool bench_conn_usable(const struct bench_conn *bc) {
    return bc->cc && !bc->lost;
}

int16_t bench_conn_version(const struct bench_conn *bc, int16_t api_key, int16_t cap) {
    return bc->cc ? client_version(bc->cc, api_key, cap) : -1;
}

size_t bench_conn_queued(const struct bench_conn *bc) {
    return bench_conn_usable(bc) ? env_conn_queued(bc->client->env, bc->raw) : 0;
}

/* --- What goes out. */

enum err bench_conn_ask(struct bench_conn *bc, int16_t api_key, int16_t cap, const void *request, bool answered,
                        void *what) {
    struct client *c = bc->client;
    const struct kafka_api *api = kafka_api_find(api_key);
    ASSERT(bench_conn_usable(bc) && api != NULL && bc->count < BENCH_IN_FLIGHT_MAX);
    int16_t version = client_version(bc->cc, api_key, cap);
    if (version < 0) {
        return client_fail(c, ERR_UNSUPPORTED_VERSION,
                           "the broker at %s does not offer the API %s in a version that this program speaks",
                           client_conn_name(bc->cc), api->name);
    }
    struct outbuf out;
    struct slices slices;
    outbuf_init(&out, &c->mem);
    slices_init(&slices, &c->mem);
    bc->correlation_id = (int32_t)(((uint32_t)bc->correlation_id + 1) & INT32_MAX);
    enum err e = kafka_request_encode(api, version, bc->correlation_id, kafka_string_of("oxbow-bench"), request, &out);
    if (e == OK) {
        outbuf_finish(&out, &slices);
        if (answered) {
            bc->asks[(bc->first + bc->count++) % BENCH_IN_FLIGHT_MAX] =
                (struct bench_ask){api, version, bc->correlation_id, what};
        }
        env_conn_send(c->env, bc->raw, slices.items, slices.count);
        slices.count = 0; /* their references went along */
    } else {
        (void)client_fail(c, e, "the request %s cannot be said to the broker at %s: %s", api->name,
                          client_conn_name(bc->cc), err_text(e));
    }
    outbuf_deinit(&out);
    slices_deinit(&slices);
    return e;
}
