/* Each end of a connection is an object of the world: it outlives its node. Bytes towards an end are segments with a
 * time of arrival; an event at that time posts mail to the end's loop, and one segment is handed over per mail, so that
 * anything can happen in between. */
#include "sim/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rt/loop_priv.h"

#define CONN_MAGIC 0x51a0c044u
#define SEGMENT_MAX (64u << 10)
#define FIRST_PORT 20000u
#define CONNECT_GIVES_UP_NS (127 * NS_PER_S) /* as Linux does */
#define SENT_AGAIN_NS (NS_PER_S)             /* how often a cut way is tried */

struct segment {
    struct list link;
    uint64_t due_ns;
    size_t size, at;
    uint8_t data[];
};

struct env_listener {
    struct list link; /* in world->listeners */
    struct sim_node *node;
    struct loop *loop;
    uint16_t port;
    void (*accepted)(void *ctx, struct env_conn *c);
    void *ctx;
};

struct env_conn {
    unsigned magic;
    struct list link; /* in world->conns */
    struct sim_world *world;
    struct env_conn *peer;          /* NULL: the other end is gone for good */
    struct sim_node *machine, *far; /* where it is, or was; where its peer is, or was */
    struct loop *loop;              /* NULL: nobody holds it any more */
    struct env_listener *listener;  /* not accepted yet */
    const struct env_conn_events *events;
    void *ctx;
    struct env_address self, other;
    /* Towards us. */
    struct list segments;
    uint64_t last_due_ns;
    bool ended, told; /* no more comes; we know */
    enum err why;
    uint64_t end_due_ns;
    bool paused, sent_news;
    struct sim_event arrival;
    struct mail mail;
    bool mail_out;
    /* From us. */
    struct list queue;
    size_t queued_bytes, window_used;
    bool silent, dead; /* nothing of ours arrives any more; our machine lost power */
};

static void conn_pump(struct env_conn *c);

/* --- Addresses and ways. */

void sim_net_address(const struct sim_node *n, char *out, size_t out_size) {
    (void)snprintf(out, out_size, "10.1.0.%u", n->id);
}

static struct sim_node *node_at(struct sim_node *from, const char *host) {
    if (strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0) return from;
    if (strncmp(host, "10.1.0.", 7) != 0) return NULL;
    unsigned long id = strtoul(host + 7, NULL, 10);
    LIST_EACH(it, &from->world->nodes) {
        struct sim_node *n = LIST_ENTRY(it, struct sim_node, link);
        if (n->id == id) return n;
    }
    return NULL;
}

void sim_net_cut(struct sim_world *w, const struct sim_node *from, const struct sim_node *to, bool cut) {
    ASSERT(from->id < SIM_NET_NODES && to->id < SIM_NET_NODES);
    uint64_t bit = 1ull << to->id;
    if (cut && !(w->net_cut[from->id] & bit)) {
        if (!sim_fault_allowed(w, SIM_NET_CUT)) return;
        sim_fault_count(w, from, SIM_NET_CUT);
    }
    w->net_cut[from->id] = cut ? w->net_cut[from->id] | bit : w->net_cut[from->id] & ~bit;
}

void sim_net_heal(struct sim_world *w) {
    memset(w->net_cut, 0, sizeof(w->net_cut));
}

static bool way_is_cut(const struct sim_world *w, const struct sim_node *from, const struct sim_node *to) {
    return from->id < SIM_NET_NODES && to->id < SIM_NET_NODES && (w->net_cut[from->id] >> to->id & 1);
}

static uint64_t latency_ns(struct sim_world *w) {
    if (sim_fault(w, SIM_NET_SLOW)) return sim_between(w, 10 * NS_PER_MS, 3 * NS_PER_S);
    return sim_between(w, 20 * NS_PER_US, 2 * NS_PER_MS);
}

/* --- Ends. */

static void segments_free(struct sim_world *w, struct list *l) {
    for (struct list *n; (n = list_pop_front(l)) != NULL;) mem_free(&w->heap, LIST_ENTRY(n, struct segment, link));
}

static void conn_free(struct env_conn *c) {
    struct sim_world *w = c->world;
    ASSERT(!c->loop && !c->mail_out);
    if (c->peer) c->peer->peer = NULL;
    sim_event_cancel(w, &c->arrival);
    segments_free(w, &c->segments);
    segments_free(w, &c->queue);
    list_remove(&c->link);
    c->magic = 0;
    mem_free(&w->heap, c);
}

/* Nobody holds it and nothing of it has to be sent: it goes, unless it must remember that its machine lost power. */
static void conn_settle(struct env_conn *c) {
    if (c->loop || c->mail_out || !list_empty(&c->queue) || (c->dead && c->peer && c->peer->loop)) return;
    conn_free(c);
}

static void conn_kick(struct env_conn *c) {
    if (!c->loop || c->mail_out || !(c->events || c->listener)) return;
    c->mail_out = true;
    loop_post(c->loop, &c->mail);
}

static void arrival_fire(struct sim_event *e) {
    struct env_conn *c = CONTAINER_OF(e, struct env_conn, arrival);
    if (!c->loop) return;
    if (way_is_cut(c->world, c->far, c->machine)) {
        sim_event_schedule(c->world, &c->arrival, c->world->now_ns + SENT_AGAIN_NS);
        return;
    }
    conn_kick(c);
}

static void conn_expect(struct env_conn *c) {
    uint64_t due = UINT64_MAX;
    if (!list_empty(&c->segments))
        due = LIST_ENTRY(c->segments.next, struct segment, link)->due_ns;
    else if (c->ended && !c->told)
        due = c->end_due_ns;
    if (due == UINT64_MAX || !c->loop) return;
    sim_event_schedule(c->world, &c->arrival, due > c->world->now_ns ? due : c->world->now_ns);
}

/* The other end hears that no more comes, behind what is under way; a reset overtakes that. */
static void conn_end(struct env_conn *c, enum err why, bool reset) {
    if (!c || c->ended) return;
    c->ended = true;
    c->why = why;
    c->end_due_ns = c->world->now_ns + latency_ns(c->world);
    if (reset) segments_free(c->world, &c->segments);
    if (c->end_due_ns < c->last_due_ns && !reset) c->end_due_ns = c->last_due_ns;
    conn_expect(c);
}

static void hand_over(struct env_conn *c, struct segment *s) {
    struct env_bytes room = c->events->room(c->ctx);
    if (!c->loop) return;
    if (room.size == 0) {
        c->paused = true;
        return;
    }
    size_t n = s->size - s->at < room.size ? s->size - s->at : room.size;
    memcpy(room.data, s->data + s->at, n);
    s->at += n;
    if (s->at == s->size) {
        list_remove(&s->link);
        mem_free(&c->world->heap, s);
    }
    if (c->peer) {
        ASSERT(c->peer->window_used >= n);
        c->peer->window_used -= n;
        if (c->peer->queued_bytes > 0) {
            conn_pump(c->peer);
            c->peer->sent_news = true;
            conn_kick(c->peer);
        }
    }
    sim_trace(c->world, c->machine, "net-received", NULL, n, 0);
    c->events->received(c->ctx, n);
}

static void conn_deliver(struct mail *m) {
    struct env_conn *c = CONTAINER_OF(m, struct env_conn, mail);
    CHECK_OBJ(c, CONN_MAGIC);
    c->mail_out = false;
    if (c->loop && c->listener) {
        struct env_listener *l = c->listener;
        c->listener = NULL;
        l->accepted(l->ctx, c);
    }
    struct segment *s =
        c->loop && !list_empty(&c->segments) ? LIST_ENTRY(c->segments.next, struct segment, link) : NULL;
    if (s && c->events && !c->paused && s->due_ns <= c->world->now_ns) hand_over(c, s);
    if (c->loop && c->sent_news && c->events) {
        c->sent_news = false;
        c->events->sent(c->ctx, c->queued_bytes);
    }
    bool over = c->loop && c->events && list_empty(&c->segments) && c->ended && !c->told;
    if (over && c->end_due_ns <= c->world->now_ns) {
        c->told = true;
        sim_trace(c->world, c->machine, "net-closed", err_name(c->why), 0, 0);
        c->events->closed(c->ctx, c->why);
    }
    if (c->loop && !c->paused) conn_expect(c);
    conn_settle(c);
}

static struct env_conn *conn_make(struct sim_node *n, struct loop *loop) {
    struct sim_world *w = n->world;
    struct env_conn *c = MEM_NEW(&w->heap, struct env_conn);
    INIT_OBJ(c, CONN_MAGIC);
    c->world = w;
    c->machine = n;
    c->loop = loop;
    list_init(&c->segments);
    list_init(&c->queue);
    sim_event_init(&c->arrival, arrival_fire);
    c->mail.deliver = conn_deliver;
    sim_net_address(n, c->self.host, sizeof(c->self.host));
    list_push_back(&w->conns, &c->link);
    return c;
}

/* --- Listening and connecting. */

static struct env_listener *listener_at(struct sim_node *n, uint16_t port) {
    struct env_listener *found[SIM_NODE_LOOPS_MAX];
    size_t count = 0;
    LIST_EACH(it, &n->world->listeners) {
        struct env_listener *l = LIST_ENTRY(it, struct env_listener, link);
        if (l->node == n && l->port == port && count < ARRAY_LEN(found)) found[count++] = l;
    }
    return count == 0 ? NULL : found[sim_between(n->world, 0, count - 1)];
}

enum err sim_net_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                        void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                        struct env_address *bound) {
    (void)host;
    struct sim_node *n = sim_node_of(e);
    if (port == 0) {
        port = FIRST_PORT;
        while (listener_at(n, port)) port++;
    } else if (!reuse_port && listener_at(n, port)) {
        return ERR_UNAVAILABLE;
    }
    struct env_listener *l = MEM_NEW(&n->world->heap, struct env_listener);
    l->node = n;
    l->loop = loop_current();
    l->port = port;
    l->accepted = accepted;
    l->ctx = ctx;
    list_init(&l->link);
    if (accepted) list_push_back(&n->world->listeners, &l->link);
    sim_net_address(n, bound->host, sizeof(bound->host));
    bound->port = port;
    *out = l;
    return OK;
}

void sim_net_listener_close(struct env_listener *l) {
    struct sim_world *w = l->node->world;
    LIST_EACH(it, &w->conns) {
        struct env_conn *c = LIST_ENTRY(it, struct env_conn, link);
        if (c->listener != l) continue;
        c->listener = NULL;
        c->loop = NULL; /* in the backlog: the other end is reset; its mail finds nobody */
        conn_end(c->peer, ERR_CLOSED, true);
    }
    list_remove(&l->link);
    mem_free(&w->heap, l);
}

struct connecting {
    struct sim_op op;
    char host[64];
    uint16_t port;
    uint64_t gives_up_ns;
    struct env_conn *conn;
    enum err error;
};

static void connect_fire(struct sim_event *e) {
    struct connecting *k = CONTAINER_OF(CONTAINER_OF(e, struct sim_op, event), struct connecting, op);
    struct sim_node *from = k->op.node, *to = node_at(from, k->host);
    struct sim_world *w = from->world;
    bool lost = !to || way_is_cut(w, from, to) || way_is_cut(w, to, from);
    if (lost && w->now_ns < k->gives_up_ns) {
        sim_event_schedule(w, e, w->now_ns + SENT_AGAIN_NS);
        return;
    }
    struct env_listener *l = lost || !to->up ? NULL : listener_at(to, k->port);
    if (lost) {
        k->error = ERR_TIMEOUT;
    } else if (!l || sim_fault(w, SIM_NET_REFUSED)) {
        k->error = ERR_UNAVAILABLE;
    } else {
        struct env_conn *mine = conn_make(from, k->op.loop), *theirs = conn_make(to, l->loop);
        mine->peer = theirs;
        theirs->peer = mine;
        mine->far = to;
        theirs->far = from;
        mine->self.port = (uint16_t)sim_between(w, 32768, 60999);
        theirs->self.port = k->port;
        mine->other = theirs->self;
        theirs->other = mine->self;
        theirs->listener = l;
        k->conn = mine;
        conn_kick(theirs);
    }
    sim_op_complete(&k->op);
}

static void connect_orphaned(struct sim_op *op, enum sim_crash kind) {
    (void)kind; /* a connection that was made is ended with the node's others */
    sim_event_cancel(op->world, &op->event);
    mem_free(&op->world->heap, CONTAINER_OF(op, struct connecting, op));
}

enum err sim_net_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out) {
    struct sim_node *n = sim_node_of(e);
    struct sim_world *w = n->world;
    if (!sim_node_effect(n)) sim_node_halt(n);
    struct connecting *k = MEM_NEW(&w->heap, struct connecting);
    (void)snprintf(k->host, sizeof(k->host), "%s", host);
    k->port = port;
    k->gives_up_ns = w->now_ns + CONNECT_GIVES_UP_NS;
    sim_op_init(&k->op, n, connect_fire, connect_orphaned);
    sim_event_schedule(w, &k->op.event, w->now_ns + latency_ns(w));
    sim_op_wait(&k->op);
    enum err err = k->error;
    *out = k->conn;
    mem_free(&w->heap, k);
    return err;
}

/* --- A connection that is held. */

void sim_net_conn_start(struct env_conn *c, const struct env_conn_events *events, void *ctx) {
    CHECK_OBJ(c, CONN_MAGIC);
    ASSERT(c->loop == loop_current() && !c->events);
    c->events = events;
    c->ctx = ctx;
    conn_expect(c);
}

void sim_net_conn_peer(struct env_conn *c, struct env_address *peer, struct env_address *local) {
    CHECK_OBJ(c, CONN_MAGIC);
    *peer = c->other;
    *local = c->self;
}

/* Puts what fits the window on its way. */
static void conn_pump(struct env_conn *c) {
    struct sim_world *w = c->world;
    struct env_conn *to = c->peer;
    bool heard = to && to->loop && !to->ended && !c->silent;
    while (!list_empty(&c->queue) && (!heard || c->window_used < SIM_NET_WINDOW)) {
        struct segment *s = LIST_ENTRY(list_pop_front(&c->queue), struct segment, link);
        c->queued_bytes -= s->size;
        if (!heard) {
            mem_free(&w->heap, s);
            continue;
        }
        c->window_used += s->size;
        s->due_ns = w->now_ns + latency_ns(w);
        if (s->due_ns < to->last_due_ns) s->due_ns = to->last_due_ns;
        to->last_due_ns = s->due_ns;
        list_push_back(&to->segments, &s->link);
    }
    if (heard) conn_expect(to);
}

void sim_net_conn_send(struct env_conn *c, struct slice *slices, size_t count) {
    CHECK_OBJ(c, CONN_MAGIC);
    ASSERT(c->loop == loop_current());
    struct sim_world *w = c->world;
    if (!sim_node_effect(c->machine)) {
        for (size_t i = 0; i < count; i++) slice_unref(&slices[i]);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t at = 0; at < slices[i].size; at += SEGMENT_MAX) {
            size_t n = slices[i].size - at < SEGMENT_MAX ? slices[i].size - at : SEGMENT_MAX;
            struct segment *s = mem_alloc(&w->heap, sizeof(*s) + n);
            *s = (struct segment){.size = n};
            memcpy(s->data, slices[i].data + at, n);
            list_push_back(&c->queue, &s->link);
            c->queued_bytes += n;
        }
        slice_unref(&slices[i]);
    }
    bool remote_dead = c->peer && c->peer->dead;
    if (sim_fault(w, SIM_NET_SILENT)) c->silent = true;
    if (sim_fault(w, SIM_NET_RESET)) {
        conn_end(c, ERR_CLOSED, true);
        conn_end(c->peer, ERR_CLOSED, true);
    } else if (!c->peer || (remote_dead && c->peer->machine->up) || (!c->peer->loop && !remote_dead)) {
        conn_end(c, ERR_CLOSED, false); /* nobody is there: a reset comes back */
    }
    conn_pump(c);
}

/* Nothing here takes a loop's time. */
void sim_net_conn_patient(struct env_conn *c, bool patient) {
    CHECK_OBJ(c, CONN_MAGIC);
    (void)patient;
}

size_t sim_net_conn_queued(const struct env_conn *c) {
    return c->queued_bytes;
}

void sim_net_conn_resume(struct env_conn *c) {
    CHECK_OBJ(c, CONN_MAGIC);
    if (!c->paused) return;
    c->paused = false;
    conn_expect(c);
}

/* Nobody holds this end any more; its machine goes on. */
static void conn_drop(struct env_conn *c, bool abort) {
    bool unread = !list_empty(&c->segments);
    c->loop = NULL;
    c->events = NULL;
    sim_event_cancel(c->world, &c->arrival);
    segments_free(c->world, &c->segments);
    if (abort) {
        segments_free(c->world, &c->queue);
        c->queued_bytes = 0;
    } else {
        c->window_used = 0; /* the kernel sends the rest by itself, whatever the window */
        conn_pump(c);
        segments_free(c->world, &c->queue);
        c->queued_bytes = 0;
    }
    if (!c->silent) conn_end(c->peer, ERR_CLOSED, abort || unread);
}

void sim_net_conn_close(struct env_conn *c, bool abort) {
    CHECK_OBJ(c, CONN_MAGIC);
    ASSERT(c->loop == loop_current());
    if (!sim_node_effect(c->machine)) return; /* it is ended with its node, right after this step */
    conn_drop(c, abort);
    conn_settle(c);
}

/* --- Nodes come and go. */

void sim_net_node_gone(struct sim_node *n, enum sim_crash kind) {
    struct sim_world *w = n->world;
    LIST_EACH_SAFE(it, &w->conns) {
        struct env_conn *c = LIST_ENTRY(it, struct env_conn, link);
        if (c->machine != n) continue;
        c->mail_out = false; /* went with the loops */
        c->listener = NULL;
        if (c->loop && kind == SIM_POWER_CUT) {
            c->loop = NULL;
            c->events = NULL;
            c->dead = true;
            segments_free(w, &c->segments);
            segments_free(w, &c->queue);
            sim_event_cancel(w, &c->arrival);
        } else if (c->loop) {
            conn_drop(c, false);
        }
        conn_settle(c);
    }
    LIST_EACH_SAFE(it, &w->listeners) {
        struct env_listener *l = LIST_ENTRY(it, struct env_listener, link);
        if (l->node != n) continue;
        list_remove(&l->link);
        mem_free(&w->heap, l);
    }
}

size_t sim_net_held(const struct sim_node *n) {
    size_t held = 0;
    LIST_EACH(it, &n->world->conns) {
        const struct env_conn *c = LIST_ENTRY(it, struct env_conn, link);
        held += c->machine == n && c->loop && c->events;
    }
    LIST_EACH(it, &n->world->listeners) held += LIST_ENTRY(it, struct env_listener, link)->node == n;
    return held;
}

void sim_net_destroy(struct sim_world *w) {
    LIST_EACH_SAFE(it, &w->conns) {
        struct env_conn *c = LIST_ENTRY(it, struct env_conn, link);
        c->loop = NULL;
        c->mail_out = false;
        conn_free(c);
    }
    ASSERT(list_empty(&w->listeners));
}
