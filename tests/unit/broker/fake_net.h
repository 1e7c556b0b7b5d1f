/* An environment for connections without a network: sockets are structs that a test feeds and reads. The clock stands
 * still until it is moved. */
#ifndef OXBOW_TESTS_BROKER_FAKE_NET_H
#define OXBOW_TESTS_BROKER_FAKE_NET_H

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/random.h"
#include "rt/env.h"

struct env_conn {
    struct env_conn *next;
    const struct env_conn_events *events;
    void *ctx;
    struct buf sent; /* what was sent */
    size_t queued;   /* told by conn_queued: of what was sent, not taken by the network yet */
    bool stuck;      /* the network takes nothing */
    bool paused, closed, aborted;
    char host[64];
};

struct fake_net {
    struct env env;
    struct mem mem;
    struct metrics metrics;
    struct logger log;
    struct loop loop;
    uint64_t now_ns;
    uint64_t tick_ns; /* by which the clock goes on with each look at it, as a real one does */
    struct rng rng;
    struct env_conn *conns; /* all that ever were; freed at the end */
    unsigned log_lines;
    char last_line[1024];
};

static inline struct fake_net *fake_of(struct env *e) {
    return (struct fake_net *)(void *)e;
}
static inline uint64_t net_now_ns(struct env *e) {
    fake_of(e)->now_ns += fake_of(e)->tick_ns;
    return fake_of(e)->now_ns;
}
static inline int64_t net_wall_ms(struct env *e) {
    return (int64_t)(fake_of(e)->now_ns / NS_PER_MS) + 1000000;
}
static inline int64_t net_log_ms(void *ctx) {
    (void)ctx;
    return 0;
}
static inline void net_sink(void *ctx, const char *line, size_t size) {
    struct fake_net *f = ctx;
    f->log_lines++;
    (void)snprintf(f->last_line, sizeof(f->last_line), "%.*s", (int)size, line);
}
static inline void net_random(struct env *e, void *out, size_t n) {
    rng_fill(&fake_of(e)->rng, out, n);
}
static inline void net_wake(struct loop *l) {
    (void)l;
}
static inline void net_start(struct env_conn *c, const struct env_conn_events *events, void *ctx) {
    c->events = events;
    c->ctx = ctx;
}
static inline void net_peer(struct env_conn *c, struct env_address *peer, struct env_address *local) {
    (void)snprintf(peer->host, sizeof(peer->host), "%s", c->host);
    peer->port = 1;
    (void)snprintf(local->host, sizeof(local->host), "127.0.0.1");
    local->port = 2;
}
static inline void net_send(struct env_conn *c, struct slice *slices, size_t count) {
    ASSERT(!c->closed);
    for (size_t i = 0; i < count; i++) {
        buf_put(&c->sent, slices[i].data, slices[i].size);
        if (c->stuck) c->queued += slices[i].size;
        slice_unref(&slices[i]);
    }
}
static inline size_t net_queued(const struct env_conn *c) {
    return c->queued;
}
static inline void net_resume(struct env_conn *c) {
    ASSERT(!c->closed);
    c->paused = false;
}
static inline void net_close(struct env_conn *c, bool abort) {
    ASSERT(!c->closed);
    c->closed = true;
    c->aborted = abort;
}

static const struct env_ops net_ops = {
    .now_ns = net_now_ns,
    .wall_ms = net_wall_ms,
    .random = net_random,
    .loop_wake = net_wake,
    .conn_start = net_start,
    .conn_peer = net_peer,
    .conn_send = net_send,
    .conn_queued = net_queued,
    .conn_resume = net_resume,
    .conn_close = net_close,
};

static inline void net_init(struct fake_net *f, uint64_t seed) {
    memset(f, 0, sizeof(*f));
    mem_init_heap(&f->mem);
    f->log = (struct logger){.level = LOG_DEBUG, .wall_ms = net_log_ms, .sink = net_sink, .ctx = f};
    f->env = (struct env){.magic = ENV_MAGIC, .ops = &net_ops, .mem = &f->mem, .log = &f->log, .metrics = &f->metrics};
    f->now_ns = 1000 * NS_PER_S;
    rng_seed(&f->rng, seed);
    loop_init(&f->loop, &f->env, "test", 0);
    loop_set_current(&f->loop);
}
static inline void net_deinit(struct fake_net *f) {
    for (struct env_conn *c = f->conns; c;) {
        struct env_conn *next = c->next;
        buf_deinit(&c->sent);
        mem_free(&f->mem, c);
        c = next;
    }
    loop_deinit(&f->loop);
    metrics_deinit(&f->metrics, &f->mem);
}
/* Runs what is ready and due. */
static inline void net_settle(struct fake_net *f) {
    while (loop_step(&f->loop, f->now_ns)) {
    }
}
/* Moves the clock, stopping at each timer on the way. */
static inline void net_pass(struct fake_net *f, uint64_t ns) {
    uint64_t end = f->now_ns + ns;
    net_settle(f);
    for (uint64_t next; (next = loop_next_deadline_ns(&f->loop)) <= end;) {
        if (next > f->now_ns) f->now_ns = next;
        net_settle(f);
    }
    f->now_ns = end;
    net_settle(f);
}

static inline struct env_conn *net_conn(struct fake_net *f, const char *host) {
    struct env_conn *c = MEM_NEW(&f->mem, struct env_conn);
    buf_init(&c->sent, &f->mem);
    (void)snprintf(c->host, sizeof(c->host), "%s", host);
    c->next = f->conns;
    f->conns = c;
    return c;
}
/* Bytes arrive, at most `chunk` at once; returns how many were taken before the owner paused or closed. */
static inline size_t net_feed(struct env_conn *c, const void *data, size_t size, size_t chunk) {
    size_t done = 0;
    while (done < size && !c->closed && !c->paused) {
        struct env_bytes room = c->events->room(c->ctx);
        if (room.size == 0) {
            c->paused = true;
            break;
        }
        size_t n = size - done < chunk ? size - done : chunk;
        if (n > room.size) n = room.size;
        memcpy(room.data, (const uint8_t *)data + done, n);
        done += n;
        c->events->received(c->ctx, n);
    }
    return done;
}

#endif
