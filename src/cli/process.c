#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/commands.h"
#include "rt/sanitizer.h"

enum err process_read_file(const char *path, struct buf *out, char *why, size_t why_size) {
    bool standard_input = strcmp(path, "-") == 0;
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        enum err e = err_from_errno(errno);
        (void)snprintf(why, why_size, "cannot open %s: %s", path, strerror(errno));
        return e;
    }
    enum err e = OK;
    size_t total = 0;
    for (;;) {
        buf_reserve(out, 65536);
        ssize_t n = read(fd, out->data + out->size, 65536);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            e = err_from_errno(errno);
            (void)snprintf(why, why_size, "cannot read %s: %s", path, strerror(errno));
        }
        if (n <= 0) break;
        out->size += (size_t)n;
        total += (size_t)n;
        if (total > PROCESS_FILE_MAX_BYTES) {
            e = ERR_TOO_LARGE;
            (void)snprintf(why, why_size, "%s: expected at most 16 MiB", path);
            break;
        }
    }
    if (!standard_input) (void)close(fd);
    return e;
}

const char *process_environment(const char *name) {
    return getenv(name);
}

/* Behind "name:" in /proc/PID/status, in bytes; 0 when it is not there. */
static uint64_t status_bytes(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

enum err process_usage(uint64_t pid, struct process_usage *out) {
    char path[64], why[256];
    struct mem m;
    struct buf text;
    *out = (struct process_usage){0};
    mem_init_heap(&m);
    buf_init(&text, &m);
    if (pid == 0) pid = (uint64_t)getpid();
    (void)snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
    enum err e = process_read_file(path, &text, why, sizeof(why));
    if (e == OK) {
        buf_u8(&text, 0);
        /* The name may hold anything; behind its last bracket user and system time are the 12th and 13th field. */
        const char *at = strrchr((const char *)text.data, ')');
        unsigned long long user = 0, system = 0;
        if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
            e = ERR_CORRUPT;
        long ticks = sysconf(_SC_CLK_TCK);
        out->cpu_ns = (user + system) * (1000000000ull / (uint64_t)(ticks > 0 ? ticks : 100));
    }
    text.size = 0;
    (void)snprintf(path, sizeof(path), "/proc/%llu/status", (unsigned long long)pid);
    if (e == OK) e = process_read_file(path, &text, why, sizeof(why));
    if (e == OK) {
        buf_u8(&text, 0);
        out->resident_bytes = status_bytes((const char *)text.data, "VmRSS:");
        out->peak_bytes = status_bytes((const char *)text.data, "VmHWM:");
    }
    buf_deinit(&text);
    struct rusage own;
    if (e == OK && pid == (uint64_t)getpid() && getrusage(RUSAGE_SELF, &own) == 0) {
        /* Finer than the ticks of /proc. */
        out->cpu_ns = ((uint64_t)own.ru_utime.tv_sec + (uint64_t)own.ru_stime.tv_sec) * 1000000000ull +
                      ((uint64_t)own.ru_utime.tv_usec + (uint64_t)own.ru_stime.tv_usec) * 1000ull;
    }
    return e;
}

uint64_t process_files_allow(void) {
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0) return 1024;
    l.rlim_cur = l.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &l);
    return getrlimit(RLIMIT_NOFILE, &l) == 0 ? (uint64_t)l.rlim_cur : 1024;
}

void process_end(int status) {
    _exit(status);
}

/* Of the process, because signals are. */
static const char *_Atomic last_words;
static uint8_t crash_stack[1 << 16]; /* a fiber's may be what has overflowed */

static void last_words_say(void) {
    const char *text = atomic_exchange(&last_words, NULL);
    size_t size = 0;
    while (text && text[size]) size++;
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, text, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        text += n;
        size -= (size_t)n;
    }
}

static void on_crash(int number) {
    (void)number;
    last_words_say();
    _exit(EXIT_FAILED);
}

/* A sanitizer ends the process in its own way. That of addresses calls back; that of undefined behaviour has a library of
 * its own, whose callback cannot be told from the other's by name, and is asked to abort. */
#if OXBOW_ASAN
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) {
    return "abort_on_error=1";
}
#endif

void process_last_words(const char *text) {
    atomic_store(&last_words, text);
    stack_t stack = {.ss_sp = crash_stack, .ss_size = sizeof(crash_stack)}, known;
    if (sigaltstack(NULL, &known) == 0 && known.ss_flags & SS_DISABLE) (void)sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) (void)sigaction(numbers[i], &action, NULL);
#if OXBOW_ASAN
    __sanitizer_set_death_callback(last_words_say);
#endif
}

enum err process_input_open(struct process_input *in, const char *path, char *why, size_t why_size) {
    in->fd = STDIN_FILENO;
    if (!path || strcmp(path, "-") == 0) return OK;
    in->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd >= 0) return OK;
    enum err e = err_from_errno(errno);
    (void)snprintf(why, why_size, "cannot open %s: %s", path, strerror(errno));
    return e;
}

void process_input_close(struct process_input *in) {
    if (in->fd != STDIN_FILENO) (void)close(in->fd);
    in->fd = -1;
}

enum err process_input_read(struct process_input *in, void *data, size_t size, unsigned wait_ms, size_t *got) {
    *got = 0;
    struct pollfd p = {.fd = in->fd, .events = POLLIN};
    int ready = poll(&p, 1, (int)wait_ms);
    if (ready == 0 || (ready < 0 && errno == EINTR)) return ERR_UNAVAILABLE;
    ssize_t n = ready < 0 ? -1 : read(in->fd, data, size);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return ERR_UNAVAILABLE;
    if (n < 0) return err_from_errno(errno);
    *got = (size_t)n;
    return OK;
}

/* Passed to the watching thread, which lives as long as the process. */
struct watch {
    void (*stop)(void *ctx);
    void *ctx;
    sigset_t signals;
};

static void *watch_main(void *arg) {
    struct watch w = *(struct watch *)arg;
    struct mem m;
    mem_init_heap(&m);
    mem_free(&m, arg);
    int number;
    while (sigwait(&w.signals, &number) != 0) continue;
    w.stop(w.ctx);
    while (sigwait(&w.signals, &number) != 0) continue;
    _exit(EXIT_FAILED);
}

enum err process_watch_signals(void (*stop)(void *ctx), void *ctx) {
    ASSERT(stop != NULL);
    struct mem m;
    mem_init_heap(&m);
    struct watch *w = MEM_NEW(&m, struct watch);
    *w = (struct watch){.stop = stop, .ctx = ctx};
    sigemptyset(&w->signals);
    sigaddset(&w->signals, SIGINT);
    sigaddset(&w->signals, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    int failed = pthread_sigmask(SIG_BLOCK, &w->signals, NULL);
    pthread_attr_t attributes;
    pthread_t thread;
    if (!failed) failed = pthread_attr_init(&attributes);
    if (!failed) {
        (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        failed = pthread_create(&thread, &attributes, watch_main, w);
        (void)pthread_attr_destroy(&attributes);
    }
    if (failed) mem_free(&m, w);
    return err_from_errno(failed);
}
