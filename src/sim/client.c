#include "sim/client.h"

#include "base/assert.h"

#define READ_BYTES ((size_t)65536)
#define FETCH_BYTES_MAX 200000

static struct env_bytes client_room(void *ctx) {
    struct sim_client *c = ctx;
    buf_reserve(&c->in, READ_BYTES);
    return (struct env_bytes){c->in.data + c->in.size, c->in.capacity - c->in.size};
}

static void client_received(void *ctx, size_t size) {
    struct sim_client *c = ctx;
    c->in.size += size;
    waitq_wake_all(&c->news);
}

static void client_sent(void *ctx, size_t queued_bytes) {
    (void)ctx;
    (void)queued_bytes;
}

static void client_closed(void *ctx, enum err why) {
    struct sim_client *c = ctx;
    (void)why;
    c->ended = true;
    waitq_wake_all(&c->news);
}

static const struct env_conn_events client_events = {client_room, client_received, client_sent, client_closed};

void sim_client_init(struct sim_client *c, struct env *e) {
    *c = (struct sim_client){.env = e};
    buf_init(&c->in, e->mem);
    waitq_init(&c->news);
}

void sim_client_close(struct sim_client *c) {
    if (c->conn) env_conn_close(c->env, c->conn, true);
    c->conn = NULL;
    c->in.size = 0;
}

void sim_client_deinit(struct sim_client *c) {
    sim_client_close(c);
    buf_deinit(&c->in);
}

enum err sim_client_open(struct sim_client *c, const char *host, uint16_t port) {
    sim_client_close(c);
    enum err e = env_connect(c->env, host, port, &c->conn);
    if (e != OK) {
        c->conn = NULL;
        return e;
    }
    c->ended = false;
    c->next_answer = c->next_correlation;
    env_conn_start(c->env, c->conn, &client_events, c);
    return OK;
}

/* Sends that share of the request. */
static enum err send_share(struct sim_client *c, int16_t api, int16_t version, const void *request,
                           unsigned thousandths) {
    if (!c->conn || c->ended) return ERR_CLOSED;
    struct outbuf out;
    struct slices slices;
    outbuf_init(&out, c->env->mem);
    slices_init(&slices, c->env->mem);
    enum err e = kafka_request_encode(kafka_api_find(api), version, c->next_correlation++, kafka_string_of("sim"),
                                      request, &out);
    ASSERT(e == OK);
    outbuf_finish(&out, &slices);
    size_t total = 0, count = 0;
    for (size_t i = 0; i < slices.count; i++) total += slices.items[i].size;
    for (size_t left = total * thousandths / 1000; count < slices.count && left > 0; count++) {
        struct slice *s = &slices.items[count];
        if (s->size > left) s->size = left;
        left -= s->size;
    }
    for (size_t i = count; i < slices.count; i++) slice_unref(&slices.items[i]);
    if (count > 0) env_conn_send(c->env, c->conn, slices.items, count);
    slices.count = 0; /* their references went along */
    outbuf_deinit(&out);
    slices_deinit(&slices);
    return OK;
}

enum err sim_client_send(struct sim_client *c, int16_t api, int16_t version, const void *request) {
    return send_share(c, api, version, request, 1000);
}

void sim_client_die(struct sim_client *c, int16_t api, int16_t version, const void *request, unsigned thousandths) {
    if (send_share(c, api, version, request, thousandths) == OK) {
        env_conn_close(c->env, c->conn, false);
        c->conn = NULL;
    }
    sim_client_close(c);
}

enum err sim_client_receive(struct sim_client *c, int16_t api, int16_t version, uint64_t timeout_ns, struct arena *a,
                            void *response) {
    uint64_t deadline_ns = env_now_ns(c->env) + timeout_ns;
    for (;;) {
        if (!c->conn) return ERR_CLOSED;
        size_t size = c->in.size >= KAFKA_FRAME_SIZE_BYTES ? be32_get(c->in.data) : SIZE_MAX;
        if (size != SIZE_MAX && c->in.size - KAFKA_FRAME_SIZE_BYTES >= size) {
            uint8_t *frame = arena_alloc(a, size);
            memcpy(frame, c->in.data + KAFKA_FRAME_SIZE_BYTES, size);
            size_t rest = c->in.size - KAFKA_FRAME_SIZE_BYTES - size, body_size;
            memmove(c->in.data, c->in.data + KAFKA_FRAME_SIZE_BYTES + size, rest);
            c->in.size = rest;
            int32_t correlation;
            const uint8_t *body;
            const struct kafka_api *k = kafka_api_find(api);
            enum err e = kafka_response_open(k, version, frame, size, a, &correlation, &body, &body_size);
            if (e == OK && correlation != c->next_answer++) e = ERR_PROTOCOL;
            if (e == OK) e = kafka_decode(k->response, version, body, body_size, a, response);
            return e;
        }
        if (c->ended) break;
        if (!waitq_wait_until(&c->news, deadline_ns)) {
            sim_client_close(c);
            return ERR_TIMEOUT;
        }
    }
    sim_client_close(c);
    return ERR_CLOSED;
}

enum err sim_client_call(struct sim_client *c, int16_t api, int16_t version, const void *request, uint64_t timeout_ns,
                         struct arena *a, void *response) {
    enum err e = sim_client_send(c, api, version, request);
    return e == OK ? sim_client_receive(c, api, version, timeout_ns, a, response) : e;
}

void sim_client_fetch_init(struct sim_client_fetch *f, const char *topic, int32_t partition, int64_t offset,
                           int32_t partition_bytes_max) {
    kafka_fetch_request_partition_init(&f->partition);
    kafka_fetch_request_topic_init(&f->topic);
    kafka_fetch_request_init(&f->q);
    f->partition.partition = partition;
    f->partition.fetch_offset = offset;
    f->partition.partition_max_bytes = partition_bytes_max;
    f->topic.topic = kafka_string_of(topic);
    f->topic.partitions.items = &f->partition;
    f->topic.partitions.count = 1;
    f->q.max_wait_ms = 0;
    f->q.max_bytes = FETCH_BYTES_MAX;
    f->q.session_epoch = -1;
    f->q.rack_id = kafka_string_of("");
    f->q.topics.items = &f->topic;
    f->q.topics.count = 1;
}
