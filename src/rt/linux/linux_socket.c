/* Connections. Level-triggered epoll; every wait for the socket is for something that can be done then:
 *
 * - Receiving: one recv into the owner's buffer per readiness. A full buffer is followed by another only if the kernel
 * says that bytes are left; a short read means that there are none, and no call is made to hear it. So room() is asked
 * only when bytes are there.
 * - Sending: at once, straight from the caller's array. What does not fit is queued, and only then epoll watches for
 * room. A partial write means that the socket is full.
 * - The end: told once, from the loop, never from within a call of the owner's. A send that fails shuts the socket
 * down, so that epoll brings the news.
 *
 * A connection that was closed stays in memory until the batch of events at hand is through. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "rt/fiber_priv.h"
#include "rt/linux/linux_priv.h"

#define ENV_CONN_MAGIC 0xc0221ecbu
#define SEND_PIECES_MAX 64u    /* well below IOV_MAX */
#define RECEIVE_ROUNDS_MAX 16u /* then the others' turn */
/* So much is sent to one socket at once, for the kernel copies it meanwhile and a socket takes some megabytes; */
#define SEND_TURN_BYTES ((size_t)1024 << 10)
/* and so much to all in one turn of the loop, in turns, before others are heard again. */
#define LOOP_TURN_BYTES ((size_t)4096 << 10)
#define SMALL_SEND_BYTES ((size_t)64 << 10) /* goes before what is much: an answer to who reads at the tail */
/* While others are answered, as they were a moment ago, what is patient goes in pieces, together for as long as the others
 * took in the same turn of the loop, or one piece. Behind that it rests: until the others took as long again, or nobody
 * took anything for so many times as long. */
#define ATTENDED_NS (100 * NS_PER_MS)
#define PATIENT_PIECE_BYTES ((size_t)128 << 10)
#define PATIENT_RESTS 5u
#define DRAIN_BYTES ((size_t)1 << 20)
#define NOT_WATCHED UINT32_MAX

struct env_conn {
    unsigned magic;
    struct poll_source source;
    struct grave grave;
    struct list node;    /* in loop->conns */
    struct list sending; /* in loop->senders or loop->patient_senders, or alone */
    struct linux_loop *loop;
    int fd;
    uint32_t watched; /* what epoll watches; NOT_WATCHED: not in the set */
    bool started;
    bool paused;  /* room() gave nothing */
    bool ended;   /* closed() was told */
    bool broken;  /* nothing can be sent any more */
    bool closed;  /* by the owner */
    bool patient; /* nobody waits for what is sent */
    bool full;    /* the socket takes no more until epoll has reported room */
    const struct env_conn_events *events;
    void *ctx;
    struct fiber *connecting;
    /* What is to be sent: queue[queue_first .. +queue_count), of the first one all but queue_sent bytes. */
    struct slice *queue;
    size_t queue_first, queue_count, queue_capacity;
    size_t queue_sent;
    size_t queued_bytes;
};

/* --- What epoll watches. */

static void conn_watch(struct env_conn *c) {
    uint32_t want = 0;
    if (!c->paused && !c->ended) want |= EPOLLIN | EPOLLRDHUP;
    if (c->queue_count > 0 && c->full) want |= EPOLLOUT;
    /* After the end, errors would be reported for ever. */
    if (c->ended && want == 0) want = NOT_WATCHED;
    if (want == c->watched) return;
    if (want == NOT_WATCHED) {
        poll_remove(c->loop, c->fd);
    } else if (c->watched == NOT_WATCHED) {
        poll_add(c->loop, c->fd, want, &c->source);
    } else {
        poll_change(c->loop, c->fd, want, &c->source);
    }
    c->watched = want;
}

/* --- Sending. */

static void queue_drop(struct env_conn *c) {
    for (size_t i = 0; i < c->queue_count; i++) slice_unref(&c->queue[c->queue_first + i]);
    mem_free(&c->loop->env->mem, c->queue);
    c->queue = NULL;
    c->queue_first = c->queue_count = c->queue_capacity = 0;
    c->queue_sent = c->queued_bytes = 0;
}

static void queue_push(struct env_conn *c, struct slice s) {
    if (c->queue_first + c->queue_count == c->queue_capacity) {
        if (c->queue_first > c->queue_count) {
            memcpy(c->queue, c->queue + c->queue_first, c->queue_count * sizeof(*c->queue));
        } else {
            size_t capacity = c->queue_capacity ? c->queue_capacity * 2 : 8;
            struct slice *grown = mem_alloc(&c->loop->env->mem, capacity * sizeof(*grown));
            if (c->queue_count) memcpy(grown, c->queue + c->queue_first, c->queue_count * sizeof(*grown));
            mem_free(&c->loop->env->mem, c->queue);
            c->queue = grown;
            c->queue_capacity = capacity;
        }
        c->queue_first = 0;
    }
    c->queue[c->queue_first + c->queue_count++] = s;
}

/* The connection cannot send: forgets what is queued, and sees to it that epoll reports the end. */
static void conn_break(struct env_conn *c) {
    c->broken = true;
    queue_drop(c);
    (void)shutdown(c->fd, SHUT_RDWR);
}

/* Somebody is answered who must not be held up. */
static bool attended(const struct linux_loop *l) {
    return l->polled_ns < l->attended_ns + ATTENDED_NS;
}

static bool gives_way(const struct env_conn *c) {
    return c->patient && attended(c->loop);
}

/* Sends slices from *sent bytes into the first one until all is gone, the socket is full, or others have their turn: what
 * is left is sent when epoll reports room, at once if there is. Releases those that are gone and returns their number;
 * *sent is then the position in the first of the others. *bytes grows by what was sent. */
static size_t conn_send_slices(struct env_conn *c, struct slice *slices, size_t count, size_t *sent, size_t *bytes) {
    size_t done = 0, most = gives_way(c) ? PATIENT_PIECE_BYTES : SEND_TURN_BYTES;
    while (done < count && *bytes < most) {
        struct iovec pieces[SEND_PIECES_MAX];
        size_t n = 0, total = 0, room = most - *bytes;
        for (; n < SEND_PIECES_MAX && done + n < count && total < room; n++) {
            const struct slice *s = &slices[done + n];
            size_t skip = n == 0 ? *sent : 0, size = s->size - skip;
            if (size > room - total) size = room - total;
            pieces[n] = (struct iovec){(void *)(uintptr_t)(s->data + skip), size};
            total += size;
        }
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = n};
        ssize_t rc = total ? sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (rc < 0 && errno == EINTR) continue;
        if (rc < 0) {
            if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM) c->broken = true;
            c->full = true;
            return done;
        }
        *bytes += (size_t)rc;
        c->loop->turn_sent += (size_t)rc;
        size_t left = (size_t)rc;
        while (done < count && left >= slices[done].size - *sent) {
            left -= slices[done].size - *sent;
            *sent = 0;
            slice_unref(&slices[done++]);
        }
        *sent += left;
        if ((size_t)rc < total) {
            c->full = true;
            return done;
        }
    }
    return done;
}

/* What is queued can be sent: not before others that came earlier. */
static void conn_await_turn(struct env_conn *c) {
    if (c->queue_count == 0 || c->full || !list_empty(&c->sending)) return;
    if (c->patient)
        list_push_back(&c->loop->patient_senders, &c->sending);
    else if (c->queued_bytes <= SMALL_SEND_BYTES)
        list_push_front(&c->loop->senders, &c->sending);
    else
        list_push_back(&c->loop->senders, &c->sending);
}

/* Sends what is queued, as far as the socket takes it. */
static void queue_send(struct env_conn *c) {
    size_t bytes = 0;
    size_t done = conn_send_slices(c, c->queue + c->queue_first, c->queue_count, &c->queue_sent, &bytes);
    c->queue_first += done;
    c->queue_count -= done;
    ASSERT(bytes <= c->queued_bytes);
    c->queued_bytes -= bytes;
    if (c->broken) {
        conn_break(c);
    } else if (c->queue_count == 0) {
        ASSERT(c->queued_bytes == 0);
        queue_drop(c); /* an idle connection holds no memory but its own */
    }
}

/* Else it is queued, and its turn comes when epoll has reported room. */
static bool may_send_now(const struct env_conn *c, const struct slice *slices, size_t count) {
    if (gives_way(c)) return false;
    if (c->loop->turn_sent < LOOP_TURN_BYTES) return true;
    size_t bytes = 0;
    for (size_t i = 0; i < count && bytes <= SMALL_SEND_BYTES; i++) bytes += slices[i].size;
    return bytes <= SMALL_SEND_BYTES;
}

void linux_conn_send(struct env_conn *c, struct slice *slices, size_t count) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    ASSERT(c->started && !c->closed && c->loop == linux_loop_current());
    if (!c->patient) c->loop->attended_ns = c->loop->polled_ns;
    size_t first = 0, sent = 0, bytes = 0;
    if (!c->broken && c->queue_count == 0 && may_send_now(c, slices, count)) {
        first = conn_send_slices(c, slices, count, &sent, &bytes);
        if (c->broken) conn_break(c);
    }
    for (size_t i = first; i < count; i++) {
        if (c->broken || slices[i].size == 0) {
            slice_unref(&slices[i]);
            continue;
        }
        if (c->queue_count == 0) c->queue_sent = sent;
        c->queued_bytes += slices[i].size - (i == first ? sent : 0);
        queue_push(c, slices[i]);
    }
    conn_await_turn(c);
    conn_watch(c);
}

void linux_conn_patient(struct env_conn *c, bool patient) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    if (patient == c->patient) return;
    c->patient = patient;
    list_remove(&c->sending);
    conn_await_turn(c);
}

size_t linux_conn_queued(const struct env_conn *c) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    return c->queued_bytes;
}

/* --- Receiving, and the end. */

static int socket_error(int fd) {
    int e = 0;
    socklen_t n = sizeof(e);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 ? e : errno;
}

/* Tells the owner, once. An orderly end by the peer leaves the way back open: what the owner still sends is tried. */
static void conn_end(struct env_conn *c, int errno_value, bool orderly) {
    ASSERT(!c->ended && !c->closed);
    c->ended = true;
    if (!orderly) {
        c->broken = true;
        queue_drop(c);
    }
    conn_watch(c);
    enum err why = errno_value ? err_from_errno(errno_value) : ERR_CLOSED;
    c->events->closed(c->ctx, why);
}

/* Bytes that can be read now. */
static size_t conn_available(const struct env_conn *c) {
    int n = 0;
    return ioctl(c->fd, SIOCINQ, &n) == 0 && n > 0 ? (size_t)n : 0;
}

/* One recv into the owner's buffer. Returns true if more may be there. */
static bool conn_receive_once(struct env_conn *c) {
    struct env_bytes room = c->events->room(c->ctx);
    if (c->closed) return false;
    if (room.size == 0) {
        c->paused = true;
        conn_watch(c);
        return false;
    }
    ssize_t n = recv(c->fd, room.data, room.size, MSG_DONTWAIT);
    if (n > 0) {
        c->events->received(c->ctx, (size_t)n);
        return (size_t)n == room.size && !c->closed;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    conn_end(c, n < 0 ? errno : 0, n == 0);
    return false;
}

static void conn_receive(struct env_conn *c, uint32_t events) {
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && conn_available(c) == 0) {
        char byte;
        ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EINTR)) conn_end(c, n < 0 ? errno : 0, n == 0);
            return;
        }
    }
    for (unsigned round = 0; round < RECEIVE_ROUNDS_MAX; round++) {
        if (round > 0 && conn_available(c) == 0) return;
        if (!conn_receive_once(c)) return;
    }
}

static void conn_ready(struct poll_source *s, uint32_t events) {
    struct env_conn *c = CONTAINER_OF(s, struct env_conn, source);
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    if (c->closed) return;
    if (c->connecting) {
        struct fiber *f = c->connecting;
        c->connecting = NULL;
        fiber_resume(f);
        return;
    }
    ASSERT(c->started);
    if ((events & EPOLLOUT) && c->full) {
        c->full = false;
        conn_await_turn(c);
        if (gives_way(c)) conn_watch(c); /* its turn may be some time off */
    }
    bool failed = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (c->ended) {
        if (!failed) return;
        c->broken = true;
        queue_drop(c);
        conn_watch(c);
    } else if (!c->paused) {
        if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) conn_receive(c, events);
    } else if (failed) {
        conn_end(c, socket_error(c->fd), false);
    }
}

static void conn_send_queued(struct env_conn *c) {
    if (c->queue_count == 0 || c->broken) return;
    size_t before = c->queued_bytes;
    queue_send(c);
    conn_await_turn(c);
    conn_watch(c);
    if (c->queued_bytes < before && !c->broken && !c->ended) c->events->sent(c->ctx, c->queued_bytes);
}

static struct env_conn *sender_next(struct list *senders) {
    return list_empty(senders) ? NULL : LIST_ENTRY(list_pop_front(senders), struct env_conn, sending);
}

static void patient_send(struct linux_loop *l) {
    uint64_t from_ns = linux_now_ns(&l->env->env), now_ns = from_ns, others_ns = from_ns - l->busy_from_ns;
    if (attended(l) && from_ns < l->patient_ns) {
        l->patient_ns -= (PATIENT_RESTS - 1) * others_ns;
        if (from_ns < l->patient_ns) return;
    }
    do {
        conn_send_queued(sender_next(&l->patient_senders));
        now_ns = linux_now_ns(&l->env->env);
    } while (!list_empty(&l->patient_senders) && l->turn_sent < LOOP_TURN_BYTES &&
             (now_ns - from_ns < others_ns || !attended(l)));
    l->patient_ns = now_ns + PATIENT_RESTS * (now_ns - from_ns);
}

void conns_send(struct linux_loop *l) {
    struct env_conn *c;
    struct list turn; /* one piece of each */
    list_init(&turn);
    list_splice_back(&turn, &l->senders);
    while (l->turn_sent < LOOP_TURN_BYTES && (c = sender_next(&turn)) != NULL) conn_send_queued(c);
    list_splice_back(&turn, &l->senders);
    list_splice_back(&l->senders, &turn);
    if (l->turn_sent < LOOP_TURN_BYTES && !list_empty(&l->patient_senders)) patient_send(l);
    l->turn_sent = 0;
}

uint64_t conns_next_ns(const struct linux_loop *l) {
    if (!list_empty(&l->senders)) return 0;
    if (list_empty(&l->patient_senders)) return UINT64_MAX;
    return attended(l) ? l->patient_ns : 0;
}

void linux_conn_resume(struct env_conn *c) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    ASSERT(!c->closed && c->loop == linux_loop_current());
    c->paused = false;
    if (c->started) conn_watch(c);
}

/* --- Beginning and end of life. */

struct env_conn *conn_create(struct linux_loop *l, int fd) {
    struct env_conn *c = MEM_NEW(&l->env->mem, struct env_conn);
    INIT_OBJ(c, ENV_CONN_MAGIC);
    c->source.ready = conn_ready;
    c->loop = l;
    c->fd = fd;
    c->watched = NOT_WATCHED;
    list_init(&c->sending);
    list_push_back(&l->conns, &c->node);
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    return c;
}

int conn_await_connected(struct env_conn *c) {
    ASSERT(!c->started && c->watched == NOT_WATCHED);
    c->watched = EPOLLOUT;
    poll_add(c->loop, c->fd, EPOLLOUT, &c->source);
    c->connecting = fiber_self();
    fiber_suspend();
    ASSERT(!c->connecting);
    return socket_error(c->fd);
}

bool conn_started_or_closed(const struct env_conn *c) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    return c->started || c->closed;
}

void linux_conn_start(struct env_conn *c, const struct env_conn_events *events, void *ctx) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    ASSERT(!c->started && !c->closed && c->loop == linux_loop_current());
    c->started = true;
    c->events = events;
    c->ctx = ctx;
    conn_watch(c);
}

void linux_conn_peer(struct env_conn *c, struct env_address *peer, struct env_address *local) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);
    if (peer) {
        if (getpeername(c->fd, (struct sockaddr *)&a, &n) != 0) memset(&a, 0, sizeof(a)); /* it is gone */
        address_format(&a, peer);
    }
    memset(&a, 0, sizeof(a));
    n = sizeof(a);
    if (local) {
        if (getsockname(c->fd, (struct sockaddr *)&a, &n) != 0) memset(&a, 0, sizeof(a));
        address_format(&a, local);
    }
}

static void conn_bury(struct grave *g) {
    struct env_conn *c = CONTAINER_OF(g, struct env_conn, grave);
    c->magic = 0;
    mem_free(&c->loop->env->mem, c);
}

void linux_conn_close(struct env_conn *c, bool abort) {
    CHECK_OBJ(c, ENV_CONN_MAGIC);
    ASSERT(!c->closed && !c->connecting);
    for (size_t before = SIZE_MAX; !abort && !c->broken && c->queue_count > 0 && c->queued_bytes < before;) {
        before = c->queued_bytes;
        queue_send(c);
    }
    /* Whoever holds a copy of the descriptor (a child process) would keep it in the set. */
    if (c->watched != NOT_WATCHED) poll_remove(c->loop, c->fd);
    c->watched = NOT_WATCHED;
    c->closed = true;
    if (abort) {
        struct linger hard = {1, 0};
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    } else if (!c->broken) {
        /* A close with unread bytes resets the connection, and what was sent last might never be read. */
        (void)shutdown(c->fd, SHUT_WR);
        (void)recv(c->fd, NULL, DRAIN_BYTES, MSG_TRUNC | MSG_DONTWAIT);
    }
    close(c->fd);
    c->fd = -1;
    queue_drop(c);
    list_remove(&c->sending);
    list_remove(&c->node);
    grave_dig(c->loop, &c->grave, conn_bury);
}

void conns_drop(struct linux_loop *l) {
    while (!list_empty(&l->conns)) {
        struct env_conn *c = LIST_ENTRY(l->conns.next, struct env_conn, node);
        c->connecting = NULL; /* that fiber never runs again */
        linux_conn_close(c, true);
    }
}
