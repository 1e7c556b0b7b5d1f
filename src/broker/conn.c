#include "broker/conn_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "kafka/kafka_messages.h"

#define CONN_MAGIC 0xc0221ec7u
#define COMPLAIN_EVERY_MS 1000

struct conn {
    unsigned magic;
    struct conns *set;
    struct env_conn *sock;
    const struct listener *listener;
    struct env_address peer, local;
    struct list node;     /* in set->all */
    struct list starved;  /* in set->starved */
    struct list crowded;  /* in set->crowded */
    struct list closing;  /* in set->closing */
    struct list flushing; /* in set->flushing */
    struct list requests; /* unanswered, in order */
    unsigned request_count;
    struct receiver receiver;
    uint64_t active_ns;
    size_t unsent; /* what is counted in set->unsent_bytes */
    /* Since when there are unsent bytes, or parts of a request, or CONN_PROGRESS_BYTES of them were taken, or came. */
    uint64_t taken_ns, came_ns;
    uint64_t part_ns;   /* when the part of a request began */
    size_t taken, came; /* since then */
    bool patient;       /* what was sent last */
    bool paused;        /* room() gave nothing */
    bool dead;          /* on set->closing */
    bool abort;
};

static struct conn *conn_of(struct list *node) {
    return LIST_ENTRY(node, struct conn, node);
}
static struct request *request_of(struct list *node) {
    return LIST_ENTRY(node, struct request, node);
}

/* --- Quotas. */

void conn_quota_init(struct conn_quota *q, struct mem *m, uint32_t max, uint32_t max_per_ip) {
    *q = (struct conn_quota){.lock = ATOMIC_FLAG_INIT};
    atomic_init(&q->max, max);
    atomic_init(&q->max_per_ip, max_per_ip);
    mapstr_init(&q->by_ip, m);
}

void conn_quota_deinit(struct conn_quota *q) {
    mapstr_deinit(&q->by_ip);
}

/* Changes the count of an address by one; false if that would pass the limit. Counts are kept as pointers' values. */
static bool quota_count_ip(struct conn_quota *q, const char *ip, bool add) {
    while (atomic_flag_test_and_set_explicit(&q->lock, memory_order_acquire)) {
    }
    size_t size = strlen(ip);
    uintptr_t n = (uintptr_t)mapstr_get(&q->by_ip, ip, size);
    bool ok = true;
    if (!add) {
        ASSERT(n > 0);
        n--;
    } else if (n >= atomic_load(&q->max_per_ip)) {
        ok = false;
    } else {
        n++;
    }
    if (n == 0) {
        mapstr_remove(&q->by_ip, ip, size);
    } else {
        mapstr_put(&q->by_ip, ip, size, (void *)n);
    }
    atomic_flag_clear_explicit(&q->lock, memory_order_release);
    return ok;
}

static bool quota_enter(struct conn_quota *q, const char *ip) {
    if (atomic_fetch_add(&q->open, 1) >= atomic_load(&q->max)) {
        atomic_fetch_sub(&q->open, 1);
        return false;
    }
    if (quota_count_ip(q, ip, true)) return true;
    atomic_fetch_sub(&q->open, 1);
    return false;
}

static void quota_leave(struct conn_quota *q, const char *ip) {
    quota_count_ip(q, ip, false);
    atomic_fetch_sub(&q->open, 1);
}

/* --- Closing. Nothing is closed inside a callback of the environment: the kick does it. */

static bool set_starves(const struct conns *set) {
    return !list_empty(&set->starved) || !list_empty(&set->starved_new);
}

void conns_kick(struct conns *set) {
    if (!timer_armed(&set->kick)) timer_arm(&set->kick, env_now_ns(set->o.env));
}

static void conn_close_soon(struct conn *c, bool abort) {
    c->abort |= abort;
    if (c->dead) return;
    c->dead = true;
    list_push_back(&c->set->closing, &c->closing);
    conns_kick(c->set);
}

void conn_complain(struct conn *c, const char *format, ...) {
    struct conns *set = c->set;
    metric_add(set->o.env->metrics, M_CONNECTIONS_REFUSED, 0, 1);
    if (!log_due(&set->complained, env_wall_ms(set->o.env), COMPLAIN_EVERY_MS)) {
        set->complaints_left_out++;
        return;
    }
    char why[256], quoted[300];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (n < 0) n = 0;
    if ((size_t)n >= sizeof(why)) n = (int)sizeof(why) - 1;
    log_quote(quoted, sizeof(quoted), why, (size_t)n);
    log_warn(set->o.env->log, "connection closed", "peer=%s:%u why=%s more_not_shown=%" PRIu64, c->peer.host,
             c->peer.port, quoted, set->complaints_left_out);
    set->complaints_left_out = 0;
}

/* --- Whose turn it is. */

static void conn_read_on(struct conn *c);

static size_t conn_queued(const struct conn *c) {
    return env_conn_queued(c->set->o.env, c->sock);
}

static bool conn_congested(const struct conn *c) {
    return conn_queued(c) > CONN_UNSENT_MAX;
}

static bool request_overlaps(const struct request *r) {
    return r->api && (r->api->flags & API_OVERLAPS);
}

static void conn_touch(struct conn *c) {
    c->active_ns = env_now_ns(c->set->o.env);
    list_remove(&c->node);
    list_push_back(&c->set->all, &c->node);
}

static void conn_count_unsent(struct conn *c, size_t now) {
    struct conns *set = c->set;
    if (now == c->unsent) return; /* mostly both are nothing */
    if (now < c->unsent) c->taken += c->unsent - now;
    if (c->unsent == 0 || c->taken >= CONN_PROGRESS_BYTES) {
        c->taken_ns = env_now_ns(set->o.env);
        c->taken = 0;
    }
    metric_gauge_add(set->o.env->metrics, M_UNSENT_BYTES, (int64_t)now - (int64_t)c->unsent);
    set->unsent_bytes = set->unsent_bytes - c->unsent + now;
    c->unsent = now;
    if (conns_have_waiters(set)) conns_kick(set);
    conns_arm_sweep(set);
}

/* May this request start, as far as its answer goes? Else its connection stands in line. */
static bool request_has_room(struct request *r) {
    struct conn *c = r->conn;
    if (!r->api || !(r->api->flags & API_LARGE)) return true;
    if (r->admitted || (!conns_crowded(c->set) && list_empty(&c->set->due))) {
        /* More may be asked for when it is known what there is to say. Many may start before the first gets so far. */
        (void)request_answer_grant(r, r->api->key == KAFKA_API_FETCH ? CONN_ANSWER_MIN : CONN_ANSWER_LEAST);
        return true;
    }
    if (list_empty(&c->crowded)) list_push_back(&c->set->crowded, &c->crowded);
    conns_arm_sweep(c->set);
    return false;
}

/* During a drain: closes once nothing is left to be said. */
static void conn_drain_check(struct conn *c) {
    if (c->set->draining && !c->dead && list_empty(&c->requests) && conn_queued(c) == 0) conn_close_soon(c, false);
}

static void conn_send_outgoing(struct conn *c, bool patient) {
    struct conns *set = c->set;
    struct slices *out = &set->outgoing;
    if (out->count == 0) return;
    if (patient != c->patient) env_conn_patient(set->o.env, c->sock, patient);
    c->patient = patient;
    metric_add(set->o.env->metrics, M_BYTES_SENT, 0, out->size_bytes);
    env_conn_send(set->o.env, c->sock, out->items, out->count);
    out->count = 0;
    out->size_bytes = 0;
    conn_count_unsent(c, conn_queued(c));
}

/* Sends the answers whose turn it is. */
static void conn_flush(struct conn *c) {
    struct conns *set = c->set;
    bool patient = true;
    while (!c->dead && !list_empty(&c->requests)) {
        struct request *r = request_of(c->requests.next);
        if (r->state != REQUEST_DONE) break;
        list_remove(&r->node);
        c->request_count--;
        r->conn = NULL;
        conn_touch(c);
        if (r->api) { /* Else the key may be anything. */
            unsigned key = (unsigned)r->api->key;
            metric_add(set->o.env->metrics, M_REQUESTS, key, 1);
            metric_observe_ns(set->o.env->metrics, set->o.env->mem, M_REQUEST_LATENCY, key,
                              c->active_ns - r->received_ns);
        }
        if (r->outcome == REQUEST_CLOSE) {
            conn_close_soon(c, false);
        } else {
            for (size_t i = 0; i < r->answer.count; i++) slices_push(&set->outgoing, r->answer.items[i]);
            r->answer.count = 0;
            r->answer.size_bytes = 0;
            patient &= r->patient;
        }
        request_unref(r);
    }
    conn_send_outgoing(c, patient);
    conn_drain_check(c);
    if (c->dead) return;
    conn_advance(c);
    conn_read_on(c);
}

static void set_flush(struct mail *m) {
    struct conns *set = CONTAINER_OF(m, struct conns, flush_mail);
    set->flush_posted = false;
    struct list *n;
    while ((n = list_pop_front(&set->flushing)) != NULL) conn_flush(LIST_ENTRY(n, struct conn, flushing));
}

void conn_flush_soon(struct conn *c) {
    struct conns *set = c->set;
    if (list_empty(&c->flushing)) list_push_back(&set->flushing, &c->flushing);
    if (set->flush_posted) return;
    set->flush_posted = true;
    loop_post(set->o.loop, &set->flush_mail);
}

const struct api *conns_api(const struct conns *set, int16_t key) {
    for (size_t i = 0; i < set->o.api_count; i++) {
        if (set->o.apis[i].key == key) return &set->o.apis[i];
    }
    return NULL;
}

void conn_advance(struct conn *c) {
    unsigned started = 0;
    for (struct list *n = c->requests.next; n != &c->requests; n = n->next) {
        struct request *r = request_of(n);
        if (r->state == REQUEST_QUEUED) {
            bool first = c->requests.next == n;
            if (c->dead || c->set->draining || started >= CONN_OVERLAP_MAX || conn_congested(c)) return;
            if (!first && !request_overlaps(r)) return;
            if (!request_has_room(r)) return;
            request_start(r);
        }
        started++;
        if (!request_overlaps(r) || !r->appended) return;
    }
}

/* --- Receiving. */

static struct env_bytes conn_room(void *ctx) {
    struct conn *c = ctx;
    CHECK_OBJ(c, CONN_MAGIC);
    struct env_bytes room = {NULL, 0};
    if (!c->dead && !c->set->draining && c->request_count < CONN_REQUESTS_MAX && !conn_congested(c)) {
        room = receiver_room(&c->receiver);
        if (room.size == 0) {
            list_remove(&c->starved);
            list_push_back(c->receiver.proven > 0 ? &c->set->starved : &c->set->starved_new, &c->starved);
            conns_arm_sweep(c->set);
        }
    }
    c->paused = room.size == 0;
    return room;
}

/* Reads again if nothing is in the way any more. */
static void conn_read_on(struct conn *c) {
    if (!c->paused || c->dead || c->set->draining || c->request_count >= CONN_REQUESTS_MAX || conn_congested(c)) return;
    c->paused = false;
    c->came_ns = env_now_ns(c->set->o.env);
    env_conn_resume(c->set->o.env, c->sock);
}

/* A whole frame: a request in the queue, or the end of the connection. */
static void conn_take_frame(struct conn *c, struct frame *f) {
    struct conns *set = c->set;
    struct request *r = request_create(c, set, f);
    r->listener = c->listener;
    r->local = c->local;
    r->peer = c->peer;
    r->received_ns = c->active_ns;
    list_push_back(&c->requests, &r->node);
    c->request_count++;

    enum err e = kafka_request_open(r->frame.data, r->frame.size, &r->arena, &r->info);
    r->api = r->info.api ? conns_api(set, r->info.api_key) : NULL;
    bool served =
        e == OK && r->api && r->info.api_version >= r->api->min_version && r->info.api_version <= r->api->max_version;
    if (served) return;
    if (e == ERR_PROTOCOL) {
        conn_complain(c, "%zu bytes that begin with no request header", r->frame.size);
    } else if (r->info.api && r->info.api_key == KAFKA_API_API_VERSIONS) {
        request_release_frame(r);
        request_answer_versions(r);
        return;
    } else {
        conn_complain(c, "API key %d in version %d, which is not offered", r->info.api_key, r->info.api_version);
    }
    /* What came before is answered first. */
    request_release_frame(r);
    request_done(r, REQUEST_CLOSE);
}

static void conn_received(void *ctx, size_t size) {
    struct conn *c = ctx;
    CHECK_OBJ(c, CONN_MAGIC);
    struct conns *set = c->set;
    metric_add(set->o.env->metrics, M_BYTES_RECEIVED, 0, size);
    conn_touch(c);
    c->came += size;
    if (!receiver_partial(&c->receiver)) c->part_ns = c->active_ns;
    if (!receiver_partial(&c->receiver) || c->came >= CONN_PROGRESS_BYTES) {
        c->came_ns = c->active_ns;
        c->came = 0;
    }
    receiver_received(&c->receiver, size);
    struct frame f;
    int64_t announced = 0;
    enum err e = OK;
    while (!c->dead && (e = receiver_next(&c->receiver, &f, &announced)) == OK) {
        c->came_ns = c->part_ns = c->active_ns;
        c->came = 0;
        conn_take_frame(c, &f);
    }
    if (c->dead) return;
    if (e == ERR_PROTOCOL || e == ERR_TOO_LARGE) {
        conn_complain(
            c, "a request of %" PRId64 " bytes was announced; at most %zu are accepted (socket.request.max.bytes)",
            announced, set->o.max_frame_bytes);
        conn_close_soon(c, false);
        return;
    }
    conn_advance(c);
}

static void conn_sent(void *ctx, size_t queued_bytes) {
    struct conn *c = ctx;
    CHECK_OBJ(c, CONN_MAGIC);
    conn_count_unsent(c, queued_bytes);
    conn_drain_check(c);
    if (c->dead || queued_bytes > CONN_UNSENT_MAX) return;
    conn_touch(c);
    conn_advance(c);
    conn_read_on(c);
}

static void conn_closed(void *ctx, enum err why) {
    struct conn *c = ctx;
    CHECK_OBJ(c, CONN_MAGIC);
    conn_close_soon(c, why != ERR_CLOSED);
}

static const struct env_conn_events conn_events = {conn_room, conn_received, conn_sent, conn_closed};

/* --- The set. */

void conns_arm_sweep(struct conns *set) {
    if (list_empty(&set->all)) return;
    bool soon = set_starves(set) || conns_have_waiters(set) || set->unsent_bytes > 0;
    if (timer_armed(&set->sweep) && (!soon || set->sweeps_soon)) return;
    set->sweeps_soon = soon;
    uint64_t now = env_now_ns(set->o.env), due = UINT64_MAX;
    if (set->o.idle_ns && !list_empty(&set->all)) due = conn_of(set->all.next)->active_ns + set->o.idle_ns;
    if (soon && due > now + NS_PER_S) due = now + NS_PER_S;
    if (due == UINT64_MAX) return;
    timer_arm(&set->sweep, due > now ? due : now + NS_PER_MS);
}

void conns_accept(struct conns *set, struct env_conn *sock, const struct listener *listener) {
    struct env *env = set->o.env;
    struct conn *c = MEM_NEW(env->mem, struct conn);
    INIT_OBJ(c, CONN_MAGIC);
    c->set = set;
    c->sock = sock;
    c->listener = listener;
    c->active_ns = env_now_ns(env);
    list_init(&c->node);
    list_init(&c->starved);
    list_init(&c->crowded);
    list_init(&c->closing);
    list_init(&c->flushing);
    list_init(&c->requests);
    receiver_init(&c->receiver, &set->pool, set->o.max_frame_bytes);
    env_conn_peer(env, sock, &c->peer, &c->local);
    env_conn_start(env, sock, &conn_events, c);
    metric_add(env->metrics, M_CONNECTIONS_OPENED, 0, 1);
    metric_gauge_add(env->metrics, M_CONNECTIONS, 1);
    set->count++;
    list_push_back(&set->all, &c->node);
    if (!quota_enter(set->o.quota, c->peer.host)) {
        conn_complain(c, "more connections than max.connections or max.connections.per.ip allow");
        c->listener = NULL; /* not counted */
        conn_close_soon(c, true);
    } else if (set->draining) {
        conn_close_soon(c, true);
    }
    conns_arm_sweep(set);
}

/* Lets go of everything and frees the connection. Requests at work go on without it. */
static void conn_destroy(struct conn *c) {
    struct conns *set = c->set;
    conn_count_unsent(c, 0);
    struct list *n;
    while ((n = list_pop_front(&c->requests)) != NULL) {
        struct request *r = request_of(n);
        r->conn = NULL;
        if (r->state == REQUEST_WAITING && r->wake) {
            void (*wake)(struct request *, bool) = r->wake;
            r->wake = NULL;
            wake(r, true);
        }
        request_unref(r);
    }
    list_remove(&c->node);
    list_remove(&c->starved);
    list_remove(&c->crowded);
    list_remove(&c->flushing);
    receiver_deinit(&c->receiver);
    if (c->listener) quota_leave(set->o.quota, c->peer.host);
    env_conn_close(set->o.env, c->sock, c->abort);
    metric_gauge_add(set->o.env->metrics, M_CONNECTIONS, -1);
    set->count--;
    c->magic = 0;
    mem_free(set->o.env->mem, c);
    if (set->count > 0) return;
    receive_pool_trim(&set->pool);
    waitq_wake_all(&set->drained);
}

static void set_kicked(struct timer *t) {
    struct conns *set = CONTAINER_OF(t, struct conns, kick);
    struct list *n;
    while ((n = list_pop_front(&set->closing)) != NULL) conn_destroy(LIST_ENTRY(n, struct conn, closing));
    /* All who starved may ask again; those who still get nothing line up anew, in the same order. */
    struct list again;
    list_init(&again);
    list_splice_back(&again, &set->starved);
    list_splice_back(&again, &set->starved_new);
    while ((n = list_pop_front(&again)) != NULL) conn_read_on(LIST_ENTRY(n, struct conn, starved));
    while (!list_empty(&set->due) && !conns_crowded(set)) conns_resume_next(set, false);
    while (!list_empty(&set->crowded) && !conns_crowded(set))
        conn_advance(LIST_ENTRY(list_pop_front(&set->crowded), struct conn, crowded));
    conns_arm_sweep(set);
}

/* The first of each line starts whatever there is: so it moves even if nobody reads. */
static void set_let_one_in(struct conns *set) {
    uint64_t now = env_now_ns(set->o.env);
    if (!conns_have_waiters(set) || now < set->let_in_ns + CONN_LET_IN_NS) return;
    set->let_in_ns = now;
    if (!list_empty(&set->due)) conns_resume_next(set, true);
    if (list_empty(&set->crowded)) return;
    struct conn *c = LIST_ENTRY(list_pop_front(&set->crowded), struct conn, crowded);
    if (list_empty(&c->requests)) return;
    struct request *first = request_of(c->requests.next);
    first->admitted = true;
    conn_advance(c);
}

static void set_budget_freed(void *ctx) {
    struct conns *set = ctx;
    if (set_starves(set)) conns_kick(set);
}

/* What is in the way of others who wait. */
static const char *conn_stalls(const struct conn *c, bool starving, bool crowded, uint64_t now) {
    /* One that waits itself cannot get on; but nobody looks whether its client is still there. */
    bool waits = !list_empty(&c->starved);
    bool stalls = waits ? now >= c->part_ns + CONN_STARVED_NS : now >= c->came_ns + CONN_STALLED_NS;
    if (starving && receiver_partial(&c->receiver) && stalls) return "a part of a request and hardly more";
    if (crowded && c->unsent > 0 && now >= c->taken_ns + CONN_STALLED_NS)
        return "hardly anything was taken of an answer";
    return NULL;
}

/* Closes connections that have been idle for too long, and, while others wait for memory, those that hold it and do not get
 * on. */
static void set_swept(struct timer *t) {
    struct conns *set = CONTAINER_OF(t, struct conns, sweep);
    uint64_t now = env_now_ns(set->o.env);
    bool starving = set_starves(set), crowded = conns_have_waiters(set) || conns_crowded(set);
    struct conn *largest = NULL;
    bool stuck = receive_pool_is_stuck(&set->pool);
    LIST_EACH_SAFE(n, &set->all) {
        struct conn *c = conn_of(n);
        if (stuck && !c->dead && (!largest || c->receiver.charged > largest->receiver.charged)) largest = c;
        /* One that is touched here comes again at the end of this walk, with a time after `now`. */
        uint64_t quiet = now > c->active_ns ? now - c->active_ns : 0;
        const char *stalls = conn_stalls(c, starving, crowded, now);
        if (stalls) {
            conn_complain(c, "%s for %u s while others wait for memory", stalls,
                          (unsigned)(CONN_STALLED_NS / NS_PER_S));
            conn_close_soon(c, true);
        } else if (set->o.idle_ns && quiet >= set->o.idle_ns) {
            if (list_empty(&c->requests)) {
                conn_close_soon(c, false);
            } else { /* A request is under way: not idle. */
                conn_touch(c);
            }
        } else if (!starving && !crowded) {
            break;
        }
    }
    if (largest && largest->receiver.charged > 0) {
        conn_complain(largest, "a part of a request, for the rest of which there is no memory");
        conn_close_soon(largest, true);
    }
    set_let_one_in(set);
    conns_arm_sweep(set);
}

void conns_init(struct conns *set, const struct conns_options *o) {
    memset(set, 0, sizeof(*set));
    set->o = *o;
    receive_pool_init(&set->pool, o->env->mem, o->budget_bytes, o->env->metrics, set_budget_freed, set);
    list_init(&set->all);
    list_init(&set->starved);
    list_init(&set->starved_new);
    list_init(&set->crowded);
    list_init(&set->due);
    list_init(&set->closing);
    list_init(&set->flushing);
    set->flush_mail.deliver = set_flush;
    slices_init(&set->outgoing, o->env->mem);
    timer_init(&set->kick, set_kicked);
    timer_init(&set->sweep, set_swept);
    uint64_t reserve = o->max_frame_bytes + RECEIVE_SLAB_BYTES, quarter = o->budget_bytes / 4;
    set->pool.reserve_bytes = reserve < quarter ? reserve : quarter;
    set->decode.limit_bytes = o->budget_bytes;
    waitq_init(&set->decode_waiters);
    waitgroup_init(&set->requests);
    waitq_init(&set->drained);
}

void conns_drain(struct conns *set, uint64_t limit_ns) {
    set->draining = true;
    uint64_t deadline = env_now_ns(set->o.env) + limit_ns;
    LIST_EACH_SAFE(n, &set->all) {
        struct conn *c = conn_of(n);
        LIST_EACH_SAFE(m, &c->requests) {
            struct request *r = request_of(m);
            if (r->state == REQUEST_QUEUED) {
                list_remove(&r->node);
                c->request_count--;
                request_unref(r);
            } else if (r->state == REQUEST_WAITING && r->wake) {
                r->wake(r, false);
            }
        }
        conn_drain_check(c);
    }
    while (set->count > 0 && waitq_wait_until(&set->drained, deadline)) {
    }
    LIST_EACH_SAFE(n, &set->all) conn_close_soon(conn_of(n), true);
    while (set->count > 0) waitq_wait(&set->drained);
    waitgroup_wait(&set->requests);
    while (set->flush_posted) fiber_yield();
}

void conns_deinit(struct conns *set) {
    ASSERT(set->count == 0 && set->draining);
    timer_disarm(&set->kick);
    timer_disarm(&set->sweep);
    slices_deinit(&set->outgoing);
    receive_pool_deinit(&set->pool);
}
