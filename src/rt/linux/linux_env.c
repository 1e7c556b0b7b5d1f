/* The real environment as a whole: its clock and randomness, its loops, signals, beginning and end. */
#include "rt/linux/linux_env.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"
#include "rt/loop_priv.h"

#define WORKERS_DEFAULT 8u /* begun when they are needed: half of them may be busy with reads of old data */

/* --- Clock, randomness, log. */

uint64_t linux_now_ns(struct env *e) {
    (void)e;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t); /* no system call */
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int64_t wall_clock_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t linux_wall_ms(struct env *e) {
    (void)e;
    return wall_clock_ms();
}

static int64_t logger_wall_ms(void *ctx) {
    (void)ctx;
    return wall_clock_ms();
}

static void logger_sink(void *ctx, const char *line, size_t size) {
    (void)ctx;
    ssize_t n = write(STDERR_FILENO, line, size);
    (void)n; /* a log that cannot be written cannot be complained about */
}

static void linux_random(struct env *e, void *out, size_t n) {
    (void)e;
    uint8_t *p = out;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR) continue;
        ASSERT(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

static void linux_offload(struct env *e, fiber_fn *fn, void *arg) {
    worker_pool_run(&linux_env_of(e)->offload, fn, arg);
}

/* --- Loops. */

static void *loop_thread_main(void *arg) {
    linux_loop_run(arg);
    return NULL;
}

static enum err linux_loop_start(struct env *env, const char *name, struct loop **out) {
    struct linux_env *e = linux_env_of(env);
    struct linux_loop *l;
    const char *why;
    enum err err;
    *out = NULL;
    pthread_mutex_lock(&e->lock);
    if (e->loop_count == LINUX_LOOPS_MAX) {
        err = ERR_UNSUPPORTED;
        goto out;
    }
    err = linux_loop_create(e, name, e->loop_count, &l, &why);
    if (err) {
        log_error(env->log, "cannot start an event loop", "name=%s error=%s why=\"%s\"", name, err_name(err), why);
        goto out;
    }
    l->threaded = true;
    int rc = thread_start(&l->thread, name, loop_thread_main, l);
    if (rc != 0) {
        linux_loop_destroy(l);
        err = err_from_errno(rc);
        goto out;
    }
    e->loops[e->loop_count++] = l;
    *out = &l->loop;
out:
    pthread_mutex_unlock(&e->lock);
    return err;
}

static const struct env_ops linux_ops = {
    .now_ns = linux_now_ns,
    .wall_ms = linux_wall_ms,
    .random = linux_random,
    .loop_start = linux_loop_start,
    .loop_wake = linux_loop_wake,
    .offload = linux_offload,
    .file_open = linux_file_open,
    .file_close = linux_file_close,
    .file_info = linux_file_info,
    .file_size = linux_file_size,
    .file_read = linux_file_read,
    .file_write = linux_file_write,
    .file_sync = linux_file_sync,
    .file_grow = linux_file_grow,
    .file_remove = linux_file_remove,
    .dir_make = linux_dir_make,
    .dir_sync = linux_dir_sync,
    .listen = linux_listen,
    .listener_close = linux_listener_close,
    .connect = linux_connect,
    .conn_start = linux_conn_start,
    .conn_peer = linux_conn_peer,
    .conn_send = linux_conn_send,
    .conn_patient = linux_conn_patient,
    .conn_queued = linux_conn_queued,
    .conn_resume = linux_conn_resume,
    .conn_close = linux_conn_close,
};

/* --- Beginning and end. */

static void linux_env_free(struct linux_env *e) {
    metrics_deinit(&e->metrics, &e->mem);
    trim_deinit(e);
    pages_deinit(&e->pages);
    pthread_mutex_destroy(&e->lock);
    struct mem heap;
    mem_init_heap(&heap);
    mem_free(&heap, e);
}

static struct linux_env *linux_env_new(const struct linux_env_options *o) {
    struct mem heap;
    mem_init_heap(&heap);
    struct linux_env *e = MEM_NEW(&heap, struct linux_env);
    mem_init_heap(&e->mem);
    e->mem.map = linux_pages_map;
    e->mem.unmap = linux_pages_unmap;
    e->logger = (struct logger){.level = o->level, .wall_ms = logger_wall_ms, .sink = logger_sink};
    e->env =
        (struct env){.magic = ENV_MAGIC, .ops = &linux_ops, .mem = &e->mem, .log = &e->logger, .metrics = &e->metrics};
    e->signal_fd = -1;
    list_init(&e->open_files);
    ASSERT(pthread_mutex_init(&e->lock, NULL) == 0);
    trim_init(e);
    pages_init(&e->pages);
    return e;
}

enum err linux_env_create(const struct linux_env_options *o, struct env **out, const char **why) {
    *out = NULL;
    *why = "";
    (void)signal(SIGPIPE, SIG_IGN);
    struct linux_env *e = linux_env_new(o);
    e->use_uring = o->io != LINUX_IO_EPOLL;
    enum err err = linux_loop_create(e, "loop0", 0, &e->loops[0], why);
    if (err == ERR_UNSUPPORTED && o->io == LINUX_IO_AUTO) {
        e->use_uring = false;
        err = linux_loop_create(e, "loop0", 0, &e->loops[0], why);
    }
    if (err) {
        linux_env_free(e);
        return err;
    }
    *why = "";
    e->loop_count = 1;
    unsigned workers = o->worker_threads ? o->worker_threads : WORKERS_DEFAULT;
    worker_pool_init(&e->offload, &e->mem, "worker", workers);
    worker_pool_init(&e->files, &e->mem, "file", workers);
    log_info(&e->logger, "io back end", "io=%s", linux_env_io_name(&e->env));
    *out = &e->env;
    return OK;
}

const char *linux_env_io_name(struct env *env) {
    return linux_env_of(env)->use_uring ? "io_uring" : "epoll";
}

struct loop *linux_env_loop0(struct env *env) {
    return &linux_env_of(env)->loops[0]->loop;
}

void linux_env_run(struct env *env, fiber_fn *main_fn, void *arg) {
    struct linux_loop *l = linux_env_of(env)->loops[0];
    loop_set_current(&l->loop);
    fiber_spawn(&l->loop, "main", main_fn, arg);
    loop_set_current(NULL);
    linux_loop_run(l);
}

void linux_env_destroy(struct env *env) {
    struct linux_env *e = linux_env_of(env);
    ASSERT(!loop_current());
    for (unsigned i = 1; i < e->loop_count; i++) loop_stop(&e->loops[i]->loop);
    for (unsigned i = 1; i < e->loop_count; i++) pthread_join(e->loops[i]->thread, NULL);
    worker_pool_deinit(&e->offload);
    worker_pool_deinit(&e->files);
    if (e->signal_fd >= 0) {
        poll_remove(e->loops[0], e->signal_fd);
        close(e->signal_fd);
    }
    for (unsigned i = 0; i < e->loop_count; i++) loop_drop_mail(&e->loops[i]->loop);
    for (unsigned i = 0; i < e->loop_count; i++) linux_loop_destroy(e->loops[i]);
    linux_files_drop(e);
    linux_env_free(e);
}

/* --- Signals. */

static void signals_ready(struct poll_source *s, uint32_t events) {
    struct linux_env *e = CONTAINER_OF(s, struct linux_env, signals);
    (void)events;
    struct signalfd_siginfo info;
    while (read(e->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        e->terminate(e->terminate_arg, ++e->terminate_count);
    }
}

void linux_env_on_terminate(struct env *env, void (*fn)(void *arg, unsigned count), void *arg) {
    struct linux_env *e = linux_env_of(env);
    ASSERT(!loop_current() || loop_current() == &e->loops[0]->loop);
    e->terminate = fn;
    e->terminate_arg = arg;
    if (e->signal_fd >= 0) return;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    /* Our other threads block all signals, so these stay with the process until they are read here. */
    ASSERT(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    e->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    ASSERT(e->signal_fd >= 0);
    e->signals.ready = signals_ready;
    poll_add(e->loops[0], e->signal_fd, EPOLLIN, &e->signals);
}

/* The beginning of a small file of the kernel's; false: there is nothing. */
static bool kernel_text(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static uint64_t smaller_limit(const char *path, uint64_t known) {
    char text[64];
    unsigned long long limit;
    if (!kernel_text(path, text, sizeof(text)) || sscanf(text, "%llu", &limit) != 1) return known; /* "max" */
    return limit < known ? limit : known;
}

/* What this group, and those above it, have in `file`. Cuts `group` short. */
static uint64_t smallest_of_groups(const char *root, const char *mount, char *group, const char *file, uint64_t known) {
    char path[4400];
    for (;;) {
        (void)snprintf(path, sizeof(path), "%s%s%s/%s", root, mount, group, file);
        known = smaller_limit(path, known);
        char *last = strrchr(group, '/');
        if (!last) return known;
        *last = '\0';
    }
}

/* Version 1: of a line "4:cpu,memory:/group", whether its controllers are `name` among others. */
static bool names_controller(const char *list, const char *name) {
    size_t size = strlen(name);
    for (; *list; list += *list == ',') {
        size_t n = strcspn(list, ",");
        if (n == size && memcmp(list, name, n) == 0) return true;
        list += n;
    }
    return false;
}

uint64_t linux_group_bytes(const char *root, uint64_t machine_bytes) {
    char text[4096], path[256];
    uint64_t bytes = machine_bytes;
    /* Version 1, in a container: what is mounted there is the container's own group, whatever its path is outside. */
    (void)snprintf(path, sizeof(path), "%s/sys/fs/cgroup/memory/memory.limit_in_bytes", root);
    bytes = smaller_limit(path, bytes);
    (void)snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    if (!kernel_text(path, text, sizeof(text))) return bytes;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        strsep(&line, ":");
        char *controllers = line ? strsep(&line, ":") : NULL;
        if (!line || line[0] != '/') continue;
        if (!controllers[0])
            bytes = smallest_of_groups(root, "/sys/fs/cgroup", line, "memory.max", bytes);
        else if (names_controller(controllers, "memory"))
            bytes = smallest_of_groups(root, "/sys/fs/cgroup/memory", line, "memory.limit_in_bytes", bytes);
    }
    return bytes;
}

uint64_t linux_memory_bytes(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page_size <= 0) return 0;
    return linux_group_bytes("", (uint64_t)pages * (uint64_t)page_size);
}

unsigned linux_processors(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 0;
}

uint64_t linux_resident_bytes(void) {
    char text[128];
    if (!kernel_text("/proc/self/statm", text, sizeof(text))) return 0;
    unsigned long pages = 0;
    if (sscanf(text, "%*u %lu", &pages) != 1) return 0;
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
