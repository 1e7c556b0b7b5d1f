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
