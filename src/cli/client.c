#include "cli/client.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client_priv.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/process.h"
#include "rt/linux/linux_env.h"

/* --- Options. */

const char *client_options_take(struct client_options *o, int option, const char *value) {
    switch (option) {
    case CLIENT_OPTION_BOOTSTRAP:
        o->bootstrap = value;
        return NULL;
    case CLIENT_OPTION_TIMEOUT:
        return options_u64(value, 1, 86400000, &o->timeout_ms) ? NULL
                                                               : "milliseconds, 1 to 86400000, behind --timeout-ms";
    case CLIENT_OPTION_JSON:
        o->json = true;
        return NULL;
    default:
        UNREACHABLE();
    }
}

/* "host", "host:port", "[v6]:port", with "PLAINTEXT://" in front or not. */
static bool address_parse(const char *text, size_t size, struct client_address *out) {
    static const char scheme[] = "PLAINTEXT://";
    if (size > sizeof(scheme) - 1 && strncasecmp(text, scheme, sizeof(scheme) - 1) == 0) {
        text += sizeof(scheme) - 1;
        size -= sizeof(scheme) - 1;
    }
    const char *end = text + size, *host_end = end, *colon = NULL;
    if (size > 0 && text[0] == '[') {
        host_end = memchr(text, ']', size);
        if (!host_end) return false;
        text++;
        if (host_end + 1 < end) colon = host_end + 1;
        if (colon && *colon != ':') return false;
    } else {
        colon = memchr(text, ':', size);
        if (colon) host_end = colon;
    }
    size_t host_size = (size_t)(host_end - text);
    if (host_size == 0 || host_size >= sizeof(out->host)) return false;
    memcpy(out->host, text, host_size);
    out->host[host_size] = '\0';
    uint64_t port = 9092;
    if (colon) {
        char digits[8];
        size_t n = (size_t)(end - colon - 1);
        if (n == 0 || n >= sizeof(digits)) return false;
        memcpy(digits, colon + 1, n);
        digits[n] = '\0';
        if (!options_u64(digits, 1, UINT16_MAX, &port)) return false;
    }
    out->port = (uint16_t)port;
    return true;
}

bool client_bootstrap_parse(struct client *c, const char *text) {
    while (*text) {
        size_t size = strcspn(text, ",");
        if (size > 0) {
            if (c->bootstrap_count == CLIENT_BOOTSTRAP_MAX) return false;
            if (!address_parse(text, size, &c->bootstrap[c->bootstrap_count])) return false;
            c->bootstrap_count++;
        }
        text += size + (text[size] == ',');
    }
    return c->bootstrap_count > 0;
}

/* --- Beginning and end. */

static void client_main(void *arg) {
    struct client *c = arg;
    c->status = c->run(c, c->arg);
    LIST_EACH_SAFE(n, &c->conns) client_drop(LIST_ENTRY(n, struct client_conn, node));
    loop_stop(loop_current());
}

int client_run(const char *command, const struct client_options *o, int (*run)(struct client *c, void *arg),
               void *arg) {
    struct client c = {.command = command, .json = o->json, .controller_id = -1, .run = run, .arg = arg};
    const char *bootstrap = o->bootstrap ? o->bootstrap : process_environment("OXBOW_BOOTSTRAP_SERVER");
    if (!bootstrap || (!o->bootstrap && !*bootstrap)) bootstrap = "localhost:9092";
    if (!client_bootstrap_parse(&c, bootstrap)) {
        fprintf(stderr, "oxbow %s: expected HOST:PORT, or up to %u of them with commas between, found '%s'\n", command,
                CLIENT_BOOTSTRAP_MAX, bootstrap);
        return EXIT_USAGE;
    }
    c.timeout_ns = (o->timeout_ms ? o->timeout_ms : CLIENT_TIMEOUT_DEFAULT_MS) * NS_PER_MS;
    mem_init_heap(&c.mem);
    list_init(&c.conns);
    list_init(&c.attempts);
    waitq_init(&c.stopped);
    struct linux_env_options eo = {.io = LINUX_IO_EPOLL, .level = LOG_ERROR, .worker_threads = 2};
    const char *why = NULL;
    enum err e = linux_env_create(&eo, &c.env, &why);
    if (e != OK) {
        fprintf(stderr, "oxbow %s: %s (%s)\n", command, why && *why ? why : "the environment cannot be made",
                err_text(e));
        return EXIT_FAILED;
    }
    linux_env_run(c.env, client_main, &c);
    linux_env_destroy(c.env);
    client_attempts_free(&c); /* their fibers are gone */
    mem_free(&c.mem, c.brokers);
    return c.status;
}

void client_init_beside(struct client *c, const struct client *like) {
    *c = (struct client){.env = like->env,
                         .command = like->command,
                         .timeout_ns = like->timeout_ns,
                         .json = like->json,
                         .bootstrap_count = like->bootstrap_count,
                         .controller_id = -1};
    memcpy(c->bootstrap, like->bootstrap, sizeof(c->bootstrap));
    mem_init_heap(&c->mem);
    list_init(&c->conns);
    list_init(&c->attempts);
    waitq_init(&c->stopped);
}

void client_end_beside(struct client *c, struct client *to) {
    client_attempts_move(c, to);
    LIST_EACH_SAFE(n, &c->conns) client_drop(LIST_ENTRY(n, struct client_conn, node));
    mem_free(&c->mem, c->brokers);
    c->brokers = NULL;
    c->broker_count = 0;
}

static void on_signal(void *arg, unsigned count) {
    struct client *c = arg;
    c->stopping = true;
    waitq_wake_all(&c->stopped);
    if (count > 1) process_end(EXIT_FAILED);
}

void client_watch_signals(struct client *c) {
    linux_env_on_terminate(c->env, on_signal, c);
}

uint64_t client_deadline_ns(const struct client *c) {
    return env_now_ns(c->env) + c->timeout_ns;
}

/* --- Failures. */

enum err client_fail(struct client *c, enum err e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->why, sizeof(c->why), format, args);
    va_end(args);
    /* Parts of the sentence may have come from a broker. */
    for (char *s = c->why; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = ' ';
    }
    return e;
}

int client_say(const struct client *c) {
    fprintf(stderr, "oxbow %s: %s\n", c->command, c->why);
    return EXIT_FAILED;
}

bool client_code_retriable(int16_t code) {
    switch (code) {
    case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
    case KAFKA_LEADER_NOT_AVAILABLE:
    case KAFKA_NOT_LEADER_OR_FOLLOWER:
    case KAFKA_REQUEST_TIMED_OUT:
    case KAFKA_BROKER_NOT_AVAILABLE:
    case KAFKA_REPLICA_NOT_AVAILABLE:
    case KAFKA_NETWORK_EXCEPTION:
    case KAFKA_COORDINATOR_LOAD_IN_PROGRESS:
    case KAFKA_COORDINATOR_NOT_AVAILABLE:
    case KAFKA_NOT_COORDINATOR:
    case KAFKA_NOT_ENOUGH_REPLICAS:
    case KAFKA_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case KAFKA_NOT_CONTROLLER:
    case KAFKA_KAFKA_STORAGE_ERROR:
    case KAFKA_FENCED_LEADER_EPOCH:
    case KAFKA_UNKNOWN_LEADER_EPOCH:
        return true;
    default:
        return false;
    }
}

const char *client_code_text(int16_t code) {
    switch (code) {
    case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
        return "there is no such topic or partition";
    case KAFKA_LEADER_NOT_AVAILABLE:
        return "the partition has no leader now";
    case KAFKA_OFFSET_OUT_OF_RANGE:
        return "the offset is outside the log";
    case KAFKA_CORRUPT_MESSAGE:
        return "the record batch was damaged on its way or is not valid";
    case KAFKA_MESSAGE_TOO_LARGE:
        return "the batch is larger than max.message.bytes of the topic";
    case KAFKA_NOT_ENOUGH_REPLICAS:
    case KAFKA_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
        return "fewer replicas are in sync than min.insync.replicas asks for";
    case KAFKA_COORDINATOR_NOT_AVAILABLE:
    case KAFKA_COORDINATOR_LOAD_IN_PROGRESS:
    case KAFKA_NOT_COORDINATOR:
        return "the group's coordinator is not there yet";
    case KAFKA_INVALID_TOPIC_EXCEPTION:
        return "the name is not valid: letters, digits, '.', '_' and '-', at most 249 of them";
    case KAFKA_TOPIC_AUTHORIZATION_FAILED:
    case KAFKA_GROUP_AUTHORIZATION_FAILED:
    case KAFKA_CLUSTER_AUTHORIZATION_FAILED:
        return "this is not allowed";
    case KAFKA_TOPIC_ALREADY_EXISTS:
        return "the topic exists already";
    case KAFKA_INVALID_PARTITIONS:
        return "the number of partitions is not valid";
    case KAFKA_INVALID_REPLICATION_FACTOR:
        return "the replication factor is not valid";
    case KAFKA_INVALID_CONFIG:
        return "the configuration is not valid";
    case KAFKA_NON_EMPTY_GROUP:
        return "the group has members";
    case KAFKA_GROUP_ID_NOT_FOUND:
        return "there is no such group";
    case KAFKA_INVALID_GROUP_ID:
        return "the name of the group is not valid";
    case KAFKA_UNKNOWN_MEMBER_ID:
        return "the group has members, or has thrown this one out";
    case KAFKA_UNSUPPORTED_COMPRESSION_TYPE:
        return "the broker does not know the compression";
    case KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER:
        return "records of this producer are missing in front of these";
    case KAFKA_REQUEST_TIMED_OUT:
        return "the broker gave up waiting";
    default:
        return NULL;
    }
}

enum err client_fail_code(struct client *c, const char *subject, int16_t code, struct kafka_string message) {
    const char *text = client_code_text(code);
    char number[32];
    (void)snprintf(number, sizeof(number), "error code %d", code);
    const char *name = kafka_error_name(code);
    if (name[0] == '?') name = number;
    if (message.size > 0) {
        return client_fail(c, ERR_INVALID_REQUEST, "%s: %.*s (%s)", subject, (int)message.size, message.data, name);
    }
    return text ? client_fail(c, ERR_INVALID_REQUEST, "%s: %s (%s)", subject, text, name)
                : client_fail(c, ERR_INVALID_REQUEST, "%s: the broker answers %s", subject, name);
}
