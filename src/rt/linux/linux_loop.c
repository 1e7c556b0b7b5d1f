/* A loop's thread: step, submit files, wait, handle events, again.
 *
 * Sleeping without losing a wake-up: the loop sets `sleeping`, then looks at its inbox once more, then waits. Who posts
 * mail pushes it first, then looks at `sleeping`. Both sides are sequentially consistent, so one of the two sees the
 * other. While the loop is awake nobody makes a system call for it. The eventfd is edge-triggered, so that it need not
 * be read. A loop without timers sleeps without limit. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"
#include "rt/loop_priv.h"

#define EVENTS_MAX 128
/* While there is work left, epoll is not asked more often than this: a lone request goes through several short turns, and
 * the descriptors can wait for so long. */
#define POLL_EVERY_NS (50 * NS_PER_US)

static void wake_ready(struct poll_source *s, uint32_t events) {
    (void)s; /* to be awake is all */
    (void)events;
}

enum err linux_loop_create(struct linux_env *e, const char *name, unsigned index, struct linux_loop **out,
                           const char **why) {
    struct linux_loop *l = MEM_NEW(&e->mem, struct linux_loop);
    enum err err = OK;
    l->env = e;
    strncpy(l->name, name, sizeof(l->name) - 1);
    list_init(&l->conns);
    list_init(&l->senders);
    list_init(&l->patient_senders);
    list_init(&l->listeners);
    list_init(&l->graves);
    l->wake.ready = wake_ready;
    l->wake_fd = -1;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll_fd < 0) {
        err = err_from_errno(errno);
        *why = "epoll_create1 failed";
        goto out;
    }
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0) {
        err = err_from_errno(errno);
        *why = "eventfd failed";
        goto out;
    }
    poll_add(l, l->wake_fd, EPOLLIN | EPOLLET, &l->wake);
    if (e->use_uring && !(l->uring = uring_create(l))) {
        err = ERR_UNSUPPORTED;
        *why = URING_WHY_NOT;
        goto out;
    }
    loop_init(&l->loop, &e->env, l->name, index);
    l->loop.backend = l;
    *out = l;
out:
    if (err) {
        if (l->wake_fd >= 0) close(l->wake_fd);
        if (l->epoll_fd >= 0) close(l->epoll_fd);
        mem_free(&e->mem, l);
    }
    return err;
}

static void graves_bury(struct linux_loop *l) {
    for (struct list *n; (n = list_pop_front(&l->graves)) != NULL;) {
        struct grave *g = LIST_ENTRY(n, struct grave, node);
        g->bury(g);
    }
}

void linux_loop_destroy(struct linux_loop *l) {
    loop_set_current(&l->loop); /* timers are disarmed */
    listeners_drop(l);
    conns_drop(l);
    graves_bury(l);
    if (l->uring) uring_destroy(l->uring);
    loop_deinit(&l->loop);
    close(l->wake_fd);
    close(l->epoll_fd);
    mem_free(&l->env->mem, l);
}

struct linux_loop *linux_loop_current(void) {
    struct loop *l = loop_current();
    CHECK_OBJ(l, LOOP_MAGIC);
    return l->backend;
}

void linux_loop_wake(struct loop *loop) {
    struct linux_loop *l = loop->backend;
    if (!atomic_load(&l->sleeping) || !atomic_exchange(&l->sleeping, false)) return;
    uint64_t one = 1;
    ssize_t n = write(l->wake_fd, &one, sizeof(one));
    ASSERT(n == (ssize_t)sizeof(one));
}

void grave_dig(struct linux_loop *l, struct grave *g, void (*bury)(struct grave *g)) {
    g->bury = bury;
    list_push_back(&l->graves, &g->node);
}

/* --- epoll. */

static void poll_control(struct linux_loop *l, int op, int fd, uint32_t events, struct poll_source *s) {
    struct epoll_event ev = {.events = events, .data.ptr = s};
    int rc = epoll_ctl(l->epoll_fd, op, fd, &ev);
    ASSERT(rc == 0);
}

void poll_add(struct linux_loop *l, int fd, uint32_t events, struct poll_source *s) {
    poll_control(l, EPOLL_CTL_ADD, fd, events, s);
}

void poll_change(struct linux_loop *l, int fd, uint32_t events, struct poll_source *s) {
    poll_control(l, EPOLL_CTL_MOD, fd, events, s);
}

void poll_remove(struct linux_loop *l, int fd) {
    poll_control(l, EPOLL_CTL_DEL, fd, 0, NULL);
}

/* timeout_ns: UINT64_MAX = none. */
static int epoll_wait_ns(struct linux_loop *l, struct epoll_event *events, uint64_t timeout_ns) {
    if (timeout_ns == 0) return epoll_wait(l->epoll_fd, events, EVENTS_MAX, 0);
    if (timeout_ns == UINT64_MAX) return epoll_wait(l->epoll_fd, events, EVENTS_MAX, -1);
    if (!l->no_epoll_pwait2) {
        struct timespec t = {(time_t)(timeout_ns / NS_PER_S), (long)(timeout_ns % NS_PER_S)};
        int n = epoll_pwait2(l->epoll_fd, events, EVENTS_MAX, &t, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM)) return n;
        l->no_epoll_pwait2 = true; /* before Linux 5.11, or forbidden: milliseconds, rounded up */
    }
    uint64_t ms = (timeout_ns - 1) / NS_PER_MS + 1;
    return epoll_wait(l->epoll_fd, events, EVENTS_MAX, ms > 1000000 ? 1000000 : (int)ms);
}

/* Waits for events (not at all if there is `more` to do, and then not every time) and handles them. Returns the clock. */
static uint64_t wait_and_handle(struct linux_loop *l, bool more) {
    struct epoll_event events[EVENTS_MAX];
    struct env *e = &l->env->env;
    graves_bury(l);
    if (more) {
        uint64_t now = linux_now_ns(e);
        if (now - l->polled_ns < POLL_EVERY_NS) return now;
    }
    uint64_t timeout_ns = 0;
    if (!more) {
        atomic_store(&l->sleeping, true);
        uint64_t sending_ns = conns_next_ns(l);
        timeout_ns = loop_stopping(&l->loop) ? 0 : loop_next_deadline_ns(&l->loop);
        if (sending_ns < timeout_ns) timeout_ns = sending_ns;
        if (timeout_ns != 0 && timeout_ns != UINT64_MAX) {
            uint64_t now = linux_now_ns(e);
            timeout_ns = timeout_ns > now ? timeout_ns - now : 0;
        }
    }
    int n = epoll_wait_ns(l, events, timeout_ns);
    atomic_store_explicit(&l->sleeping, false, memory_order_relaxed);
    /* A completion of io_uring interrupts the wait. */
    ASSERT(n >= 0 || errno == EINTR);
    uint64_t clock = l->polled_ns = linux_now_ns(e);
    if (!more) l->busy_from_ns = clock;
    for (int i = 0; i < n; i++) {
        struct poll_source *s = events[i].data.ptr;
        s->ready(s, events[i].events);
        clock = loop_stall_check(&l->loop, clock);
    }
    conns_send(l);
    return l->busy_from_ns = loop_stall_check(&l->loop, clock);
}

void linux_loop_run(struct linux_loop *l) {
    struct loop *outer = loop_current();
    ASSERT(!outer);
    loop_set_current(&l->loop);
    uint64_t clock = linux_now_ns(&l->env->env);
    for (;;) {
        bool more = loop_step(&l->loop, clock);
        if (l->uring) more |= uring_turn(l->uring);
        if (!more && loop_stopping(&l->loop)) break;
        clock = wait_and_handle(l, more);
        if (l->uring) (void)uring_turn(l->uring);
    }
    if (l->uring) uring_drain(l->uring);
    loop_set_current(NULL);
}
