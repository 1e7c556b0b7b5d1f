/* `oxbow serve`: puts the parts of a broker together on a real machine: environment, store, broker, admin server; and
 * takes them apart again when told to stop. All that a broker does lies below; here is only the order of things, what
 * an operator is told, and how the process ends. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/assert.h"
#include "broker/broker.h"
#include "broker/memory.h"
#include "broker/url.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/process.h"
#include "cli/settings.h"
#include "cli/storage.h"
#include "rt/linux/linux_env.h"

/* Who moves it away from the first says how the process ends. */
enum serve_phase {
    SERVE_STARTING,
    SERVE_STARTED, /* or the start has failed and is undone: a stop goes its orderly way */
    SERVE_GIVEN_UP /* asked to stop before it had started */
};

struct serve {
    struct config config;
    struct env *env;
    struct store *store;
    struct broker *broker;
    struct admin *admin;
    char why[1024];
    uint64_t began_ns;
    int status;
    /* The thread that watches for signals meets the loop here. */
    _Atomic bool stop_wanted, stop_told;
    _Atomic(enum serve_phase) phase;
    _Atomic(struct loop *) loop0; /* NULL before it runs and after it has ended */
    struct waitq stop;            /* on loop 0 */
};

/* --- Stopping. */

static void stop_arrived(void *arg) {
    struct serve *s = arg;
    waitq_wake_all(&s->stop);
}

static bool phase_leave_start(struct serve *s, enum serve_phase to) {
    enum serve_phase starting = SERVE_STARTING;
    return atomic_compare_exchange_strong(&s->phase, &starting, to);
}

/* On the watching thread; the second signal ends the process there and then (cli/process.h).
 *
 * A start may wait for a store that does not answer, for as long as that takes. Who asks it to stop need not wait as
 * well: every start recovers from one that broke off at any point, and what clients were told in its last moments is
 * kept as it is by a kill. */
static void stop_signalled(void *ctx) {
    struct serve *s = ctx;
    atomic_store(&s->stop_wanted, true);
    struct loop *l = atomic_load(&s->loop0);
    if (l && phase_leave_start(s, SERVE_GIVEN_UP)) {
        log_info(s->env->log, "stopped while starting", "reason=signal");
        process_end(EXIT_DONE);
    }
    if (l) loop_spawn(l, "stop", stop_arrived, s);
    atomic_store(&s->stop_told, true);
}

/* Nothing may be acknowledged any more, so nothing is tidied up either: the next start recovers. */
static void serve_fatal(void *ctx, enum err why, const char *what) {
    struct serve *s = ctx;
    char text[256];
    log_error(s->env->log, "stopped at once", "why=%s err=%s", log_quote(text, sizeof(text), what, strlen(what)),
              err_name(why));
    _Exit(EXIT_FAILED);
}

/* --- Starting. */

static int serve_fails(struct serve *s, const char *what, const char *why, enum err e) {
    char text[1024];
    if (!why) why = err_text(e);
    log_error(s->env->log, what, "why=%s err=%s", log_quote(text, sizeof(text), why, strlen(why)), err_name(e));
    return EXIT_FAILED;
}

/* Of a member of a mirrored WAL. */
static enum err serve_open_store(void *ctx, const char *url, struct store **out, char *why, size_t why_size) {
    struct serve *s = ctx;
    return storage_open_beside(s->env, url, out, why, why_size);
}

static int serve_start(struct serve *s) {
    const char *why = NULL;
    char text[CONFIG_WHY_SIZE], host[256];
    struct env *env = s->env;
    struct loop *loop0 = loop_current();
    enum err e = OK;
    /* A connection is a file, and most systems let a process have 1,024 unless it asks for more. */
    (void)process_files_allow();
    int64_t limits[MEMORY_BUDGETS];
    linux_env_keep_within(env,
                          (uint64_t)memory_limits(&s->config, memory_shards(&s->config, linux_processors()), limits));
    if (s->config.http_listen[0]) {
        struct admin_options o = {.env = env,
                                  .loop0 = loop0,
                                  .host = host,
                                  .why_text = s->why,
                                  .why_size = sizeof(s->why),
                                  .version = OXBOW_VERSION,
                                  .io_name = linux_env_io_name(env),
                                  .resident_bytes = linux_resident_bytes};
        if (host_port_parse(s->config.http_listen, host, sizeof(host), &o.port, text, sizeof(text)) != OK) {
            return serve_fails(s, "http.listen is wrong", text, ERR_INVALID);
        }
        e = admin_start(&o, &s->admin, &why);
        if (e != OK) return serve_fails(s, "admin server cannot be started", why, e);
    }
    e = storage_open(env, s->config.storage_url, false, &s->store, s->why, sizeof(s->why));
    if (e != OK) return serve_fails(s, "object store cannot be opened", s->why, e);
    struct broker_options o = {.env = env,
                               .loop0 = loop0,
                               .store = s->store,
                               .config = &s->config,
                               .why_text = s->why,
                               .why_size = sizeof(s->why),
                               .processors = linux_processors(),
                               .open_store = serve_open_store,
                               .fatal = serve_fatal,
                               .ctx = s};
    e = broker_start(&o, &s->broker, &why);
    if (e != OK) return serve_fails(s, "broker cannot be started", why, e);
    if (s->admin) admin_set_broker(s->admin, s->broker);
    return EXIT_DONE;
}

static void serve_say_ready(const struct serve *s) {
    char listeners[2048] = "", one[512], storage[1100], wal[1100];
    for (size_t i = 0; i < broker_listeners(s->broker); i++) {
        size_t used = strlen(listeners);
        (void)snprintf(listeners + used, sizeof(listeners) - used, "%s%s", i ? "," : "",
                       broker_listener_text(s->broker, i, one, sizeof(one)));
    }
    char http[32] = "none";
    if (s->admin) (void)snprintf(http, sizeof(http), "%u", admin_port(s->admin));
    log_info(s->env->log, "ready",
             "listeners=%s storage=%s wal=%s io=%s shards=%u http_port=%s node_id=%d incarnation=%" PRIu64
             " cluster_id=%s version=%s start_ms=%" PRIu64,
             listeners, log_quote(storage, sizeof(storage), s->config.storage_url, strlen(s->config.storage_url)),
             log_quote(wal, sizeof(wal), s->config.wal_url, strlen(s->config.wal_url)), linux_env_io_name(s->env),
             broker_shards(s->broker), http, broker_node_id(s->broker), broker_incarnation(s->broker),
             broker_cluster_id(s->broker), OXBOW_VERSION, (uint64_t)((env_now_ns(s->env) - s->began_ns) / NS_PER_MS));
}

/* For people at a terminal: where it is and what to try. */
static void serve_say_hello(const struct serve *s) {
    const char *wanted = getenv("OXBOW_HELLO");
    if (!(wanted && strcmp(wanted, "1") == 0) && !isatty(STDOUT_FILENO)) return;
    char text[512];
    broker_listener_text(s->broker, 0, text, sizeof(text));
    const char *address = strstr(text, "://") + 3;
    char server[300];
    (void)snprintf(server, sizeof(server), "%s%s", address[0] == ':' ? "127.0.0.1" : "", address);
    printf(
        "\nOxbow listens on %s. Its data is in %s,\nits write-ahead log in %s. Ctrl-C stops it.\n\nTry, in another terminal:\n\n"
        "  kcat -b %s -L\n"
        "  echo hello | kcat -b %s -t greetings -P\n"
        "  kcat -b %s -t greetings -C -o beginning -e\n\n",
        server, s->config.storage_url, s->config.wal_url, server, server, server);
    (void)fflush(stdout);
}

/* The whole life of the broker, as a fiber on loop 0. */
static void serve_main(void *arg) {
    struct serve *s = arg;
    waitq_init(&s->stop);
    atomic_store(&s->loop0, loop_current());
    bool asked = atomic_load(&s->stop_wanted); /* by a signal that found no loop */
    s->status = asked ? EXIT_DONE : serve_start(s);
    /* If not, the process is just being ended. */
    while (!phase_leave_start(s, SERVE_STARTED)) fiber_sleep_ns(NS_PER_S);
    if (asked) {
        log_info(s->env->log, "stopped while starting", "reason=signal");
    } else if (s->status == EXIT_DONE) {
        serve_say_ready(s);
        serve_say_hello(s);
        while (!atomic_load(&s->stop_wanted)) waitq_wait(&s->stop);
        log_info(s->env->log, "stopping", "reason=signal");
    }
    uint64_t began_ns = env_now_ns(s->env);
    if (s->admin) admin_set_broker(s->admin, NULL);
    if (s->broker) broker_stop(s->broker);
    if (s->store) store_close(s->store);
    if (s->admin) admin_stop(s->admin);
    if (s->status == EXIT_DONE && !asked)
        log_info(s->env->log, "stopped", "stop_ms=%" PRIu64, (uint64_t)((env_now_ns(s->env) - began_ns) / NS_PER_MS));
    atomic_store(&s->loop0, NULL);
    /* A signal that came just now may still be on its way to the loop, which must not go before. */
    while (atomic_load(&s->stop_wanted) && !atomic_load(&s->stop_told)) fiber_sleep_ns(NS_PER_MS);
    loop_stop(loop_current());
}

static int serve_in_env(struct serve *s) {
    static const enum linux_io io[] = {
        [CONFIG_IO_AUTO] = LINUX_IO_AUTO, [CONFIG_IO_URING] = LINUX_IO_URING, [CONFIG_IO_EPOLL] = LINUX_IO_EPOLL};
    struct linux_env_options o = {.io = io[s->config.io_backend], .level = (enum log_level)s->config.log_level};
    const char *why = NULL;
    enum err e = linux_env_create(&o, &s->env, &why);
    if (e != OK) {
        fprintf(stderr, "oxbow serve: %s (%s)\n", why ? why : "the environment cannot be made", err_text(e));
        return EXIT_FAILED;
    }
    s->began_ns = env_now_ns(s->env);
    linux_env_run(s->env, serve_main, s);
    linux_env_destroy(s->env);
    return s->status;
}

static int serve_run(int argc, char **argv) {
    static const struct option_spec specs[] = {SETTINGS_OPTIONS};
    struct options o;
    struct settings settings = {0};
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) return options_refuse(&o, "only options");
        if (settings_take(&settings, i, o.value) != EXIT_DONE) return EXIT_USAGE;
    }
    struct mem m;
    mem_init_heap(&m);
    struct serve *s = MEM_NEW(&m, struct serve);
    int status = settings_load(&settings, argv[0], &s->config, &m);
    if (status == EXIT_DONE) {
        if (process_watch_signals(stop_signalled, s) != OK) {
            fputs("oxbow serve: the thread that watches for signals cannot be started\n", stderr);
            status = EXIT_FAILED;
        } else {
            status = serve_in_env(s);
        }
        config_deinit(&s->config);
    } else {
        mem_free(&m, s);
    }
    /* The watching thread, once there is one, may still use s: it goes with the process. */
    return status;
}

const struct command command_serve = {
    "serve",
    "runs a broker until it is told to stop",
    "usage: oxbow serve [-c FILE] [--set key=value]...\n\n"
    "Runs a broker in the foreground. Without a file and settings it listens on 127.0.0.1:9092 and keeps its\n"
    "data under ./data. `oxbow config` shows all properties. Logs go to stderr, one logfmt line an event.\n"
    "SIGTERM or SIGINT stops it in order; a second one at once. While it is still starting the first one ends it\n"
    "at once, with status 0.\n\n" SETTINGS_HELP,
    serve_run,
};
