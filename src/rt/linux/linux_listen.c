/* Listening, connecting, and names. "All addresses" is one IPv6 socket that takes IPv4 too, where there is IPv6. A name
 * may stand for several addresses (localhost does): one listener then has a socket for each, on one port. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"

#define ENV_LISTENER_MAGIC 0x115e2e25u
#define ADDRESSES_MAX 8u
#define BACKLOG 4096
#define ACCEPTS_MAX 64u                   /* for one readiness; then the others' turn */
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS) /* when the process has no descriptor left */

struct listen_socket {
    struct poll_source source;
    struct env_listener *listener;
    int fd;
};

struct env_listener {
    unsigned magic;
    struct linux_loop *loop;
    struct grave grave;
    struct list node; /* in loop->listeners */
    struct listen_socket sockets[ADDRESSES_MAX];
    unsigned count;
    bool closed;
    struct timer pause; /* armed: the sockets are not watched */
    int64_t complained_ms;
    void (*accepted)(void *ctx, struct env_conn *c);
    void *ctx;
};

/* --- Addresses. */

struct addresses {
    struct sockaddr_storage items[ADDRESSES_MAX];
    socklen_t sizes[ADDRESSES_MAX];
    unsigned count;
};

void address_format(const struct sockaddr_storage *from, struct env_address *out) {
    *out = (struct env_address){0};
    if (from->ss_family == AF_INET) {
        struct sockaddr_in a;
        memcpy(&a, from, sizeof(a));
        (void)inet_ntop(AF_INET, &a.sin_addr, out->host, sizeof(out->host));
        out->port = ntohs(a.sin_port);
    } else if (from->ss_family == AF_INET6) {
        struct sockaddr_in6 a;
        memcpy(&a, from, sizeof(a));
        if (IN6_IS_ADDR_V4MAPPED(&a.sin6_addr)) {
            (void)inet_ntop(AF_INET, &a.sin6_addr.s6_addr[12], out->host, sizeof(out->host));
        } else {
            (void)inet_ntop(AF_INET6, &a.sin6_addr, out->host, sizeof(out->host));
        }
        out->port = ntohs(a.sin6_port);
    }
}

static void address_set_port(struct sockaddr_storage *a, uint16_t port) {
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)a;
    struct sockaddr_in *four = (struct sockaddr_in *)(void *)a;
    if (a->ss_family == AF_INET6) {
        six->sin6_port = htons(port);
    } else {
        four->sin_port = htons(port);
    }
}

/* Blocks for names that are not numeric. */
static enum err addresses_resolve(const char *host, uint16_t port, bool numeric_only, struct addresses *out) {
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
    hints.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : AI_ADDRCONFIG);
    out->count = 0;
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc == EAI_AGAIN) return ERR_UNAVAILABLE;
    if (rc == EAI_MEMORY) return ERR_NO_MEMORY;
    if (rc != 0) return ERR_NOT_FOUND;
    for (struct addrinfo *a = list; a && out->count < ADDRESSES_MAX; a = a->ai_next) {
        if (a->ai_addrlen > sizeof(out->items[0])) continue;
        memcpy(&out->items[out->count], a->ai_addr, a->ai_addrlen);
        out->sizes[out->count++] = a->ai_addrlen;
    }
    freeaddrinfo(list);
    return out->count > 0 ? OK : ERR_NOT_FOUND;
}

static bool host_is_all(const char *host) {
    return host[0] == '\0' || strcmp(host, "0.0.0.0") == 0;
}

static void addresses_all(uint16_t port, bool six, struct addresses *out) {
    memset(out, 0, sizeof(*out));
    out->count = 1;
    out->items[0].ss_family = six ? AF_INET6 : AF_INET; /* the rest is zero: any address */
    out->sizes[0] = six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    address_set_port(&out->items[0], port);
}

/* --- Accepting. */

static void listener_watch(struct env_listener *l) {
    for (unsigned i = 0; i < l->count; i++) poll_add(l->loop, l->sockets[i].fd, EPOLLIN, &l->sockets[i].source);
}

static void listener_unwatch(struct env_listener *l) {
    for (unsigned i = 0; i < l->count; i++) poll_remove(l->loop, l->sockets[i].fd);
}

static void listener_pause_over(struct timer *t) {
    listener_watch(CONTAINER_OF(t, struct env_listener, pause));
}

/* No descriptors or no memory: the connection stays in the backlog, and epoll would report it without end. */
static void listener_pause(struct env_listener *l, int why) {
    struct env *e = &l->loop->env->env;
    if (log_due(&l->complained_ms, env_wall_ms(e), 10000)) {
        const char *what = why == EMFILE   ? "this process has as many files open as it may (ulimit -Hn, LimitNOFILE)"
                           : why == ENFILE ? "this machine has as many files open as it may (fs.file-max)"
                                           : "the kernel has no memory for it";
        log_warn(e->log, "cannot accept connections now, trying again", "errno=%d why=\"%s\"", why, what);
    }
    listener_unwatch(l);
    timer_arm(&l->pause, env_now_ns(e) + ACCEPT_PAUSE_NS);
}

static void listener_ready(struct poll_source *s, uint32_t events) {
    struct listen_socket *ls = CONTAINER_OF(s, struct listen_socket, source);
    struct env_listener *l = ls->listener;
    (void)events;
    for (unsigned i = 0; i < ACCEPTS_MAX && !l->closed && !timer_armed(&l->pause); i++) {
        int fd = accept4(ls->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            struct env_conn *c = conn_create(l->loop, fd);
            l->accepted(l->ctx, c);
            ASSERT(conn_started_or_closed(c));
            continue;
        }
        if (errno == EAGAIN) return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) listener_pause(l, errno);
        /* All else is about that one connection, which is gone. */
    }
}

/* --- Listening. */

static int listen_on(const struct sockaddr_storage *a, socklen_t size, bool reuse_port, bool dual, bool listens) {
    int fd = socket(a->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int on = 1, only_six = !dual;
    int rc = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (rc == 0 && reuse_port) rc = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (rc == 0 && a->ss_family == AF_INET6) {
        rc = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_six, sizeof(only_six));
    }
    if (rc == 0) rc = bind(fd, (const struct sockaddr *)a, size);
    if (rc == 0 && listens) rc = listen(fd, BACKLOG);
    if (rc == 0) return fd;
    int why = errno;
    close(fd);
    return -why;
}

static enum err listen_err(int errno_value) {
    return errno_value == EADDRNOTAVAIL || errno_value == EAFNOSUPPORT ? ERR_INVALID : err_from_errno(errno_value);
}

/* Opens a socket for each address; those of a family that this machine lacks are left out unless none remains. */
static enum err listener_open(struct env_listener *l, struct addresses *to, bool reuse_port, bool dual) {
    uint16_t port = 0;
    enum err err = ERR_INVALID;
    for (unsigned i = 0; i < to->count; i++) {
        if (port) address_set_port(&to->items[i], port); /* the first one's choice is everybody's */
        int fd = listen_on(&to->items[i], to->sizes[i], reuse_port, dual, l->accepted != NULL);
        if (fd < 0) {
            err = listen_err(-fd);
            if (err == ERR_INVALID) continue;
            return err;
        }
        l->sockets[l->count++] = (struct listen_socket){{listener_ready}, l, fd};
        struct sockaddr_storage bound;
        socklen_t n = sizeof(bound);
        struct env_address a;
        if (getsockname(fd, (struct sockaddr *)&bound, &n) != 0) return err_from_errno(errno);
        address_format(&bound, &a);
        port = a.port;
    }
    return l->count > 0 ? OK : err;
}

static void listener_free(struct grave *g) {
    struct env_listener *l = CONTAINER_OF(g, struct env_listener, grave);
    l->magic = 0;
    mem_free(&l->loop->env->mem, l);
}

enum err linux_listen(struct env *env, const char *host, uint16_t port, bool reuse_port,
                      void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                      struct env_address *bound) {
    struct linux_env *e = linux_env_of(env);
    *out = NULL;
    struct addresses to;
    bool all = host_is_all(host);
    enum err err = OK;
    if (all) {
        addresses_all(port, true, &to);
    } else {
        err = addresses_resolve(host, port, false, &to);
    }
    if (err) return err;
    struct env_listener *l = MEM_NEW(&e->mem, struct env_listener);
    INIT_OBJ(l, ENV_LISTENER_MAGIC);
    l->loop = linux_loop_current();
    l->accepted = accepted;
    l->ctx = ctx;
    timer_init(&l->pause, listener_pause_over);
    err = listener_open(l, &to, reuse_port, all);
    if (err == ERR_INVALID && all) {
        addresses_all(port, false, &to);
        err = listener_open(l, &to, reuse_port, false);
    }
    struct sockaddr_storage a;
    socklen_t n = sizeof(a);
    if (!err && getsockname(l->sockets[0].fd, (struct sockaddr *)&a, &n) != 0) err = err_from_errno(errno);
    if (err) {
        for (unsigned i = 0; i < l->count; i++) close(l->sockets[i].fd);
        listener_free(&l->grave);
        return err;
    }
    list_push_back(&l->loop->listeners, &l->node);
    if (accepted) listener_watch(l);
    if (bound) {
        address_format(&a, bound);
        if (all) memcpy(bound->host, "0.0.0.0", sizeof("0.0.0.0"));
    }
    *out = l;
    return OK;
}

void linux_listener_close(struct env_listener *l) {
    CHECK_OBJ(l, ENV_LISTENER_MAGIC);
    ASSERT(!l->closed && l->loop == linux_loop_current());
    if (l->accepted && !timer_armed(&l->pause)) listener_unwatch(l);
    timer_disarm(&l->pause);
    l->closed = true;
    for (unsigned i = 0; i < l->count; i++) close(l->sockets[i].fd);
    list_remove(&l->node);
    grave_dig(l->loop, &l->grave, listener_free);
}

void listeners_drop(struct linux_loop *l) {
    while (!list_empty(&l->listeners)) {
        linux_listener_close(LIST_ENTRY(l->listeners.next, struct env_listener, node));
    }
}

/* --- Connecting. */

struct resolve_job {
    const char *host;
    uint16_t port;
    struct addresses *out;
    enum err err;
};

static void resolve_job(void *arg) {
    struct resolve_job *j = arg;
    j->err = addresses_resolve(j->host, j->port, false, j->out);
}

static enum err connect_to(struct linux_loop *l, const struct sockaddr_storage *a, socklen_t size,
                           struct env_conn **out) {
    int fd = socket(a->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return err_from_errno(errno);
    struct env_conn *c = conn_create(l, fd);
    int why = connect(fd, (const struct sockaddr *)a, size) == 0 ? 0 : errno;
    if (why == EINPROGRESS || why == EINTR) why = conn_await_connected(c);
    if (why) {
        linux_conn_close(c, true);
        return why == EAFNOSUPPORT || why == EADDRNOTAVAIL ? ERR_UNAVAILABLE : err_from_errno(why);
    }
    *out = c;
    return OK;
}

enum err linux_connect(struct env *env, const char *host, uint16_t port, struct env_conn **out) {
    struct linux_env *e = linux_env_of(env);
    struct addresses to;
    *out = NULL;
    enum err err = addresses_resolve(host, port, true, &to);
    if (err) {
        struct resolve_job j = {.host = host, .port = port, .out = &to};
        worker_pool_run(&e->offload, resolve_job, &j);
        err = j.err;
    }
    if (err) return err;
    for (unsigned i = 0; i < to.count; i++) {
        err = connect_to(linux_loop_current(), &to.items[i], to.sizes[i], out);
        if (!err) break;
    }
    return err;
}
