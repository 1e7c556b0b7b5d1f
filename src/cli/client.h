/* A client of any Kafka cluster, for the subcommands that look at one: `topic`, `group`, `produce`, `consume`.
 *
 * A connection speaks the highest version of each API that both sides know, as ApiVersions tells. It carries one
 * request at a time: client_send, then client_await; client_call is both. What goes wrong is an `enum err` and one
 * whole sentence in client.why, ready to be shown. A connection that failed in any way is closed and never used again;
 * the next client_node or client_any makes a new one.
 *
 * All of this runs in fibers of one loop and suspends, unless stated otherwise. Answers borrow from the arena that was
 * given. No call waits longer than the time-out of the command line. */
#ifndef OXBOW_CLI_CLIENT_H
#define OXBOW_CLI_CLIENT_H

#include "base/arena.h"
#include "kafka/error.h"
#include "kafka/kafka_messages.h"
#include "rt/env.h"

#define CLIENT_WHY_SIZE 768u
#define CLIENT_HOST_SIZE 256u
#define CLIENT_BOOTSTRAP_MAX 16u
#define CLIENT_TIMEOUT_DEFAULT_MS 30000u
#define CLIENT_ANY_VERSION INT16_MAX

/* --- Options that all client subcommands share: the first rows of their tables. */

struct client_options {
    const char *bootstrap; /* "host:port,host:port"; NULL: the default */
    uint64_t timeout_ms;   /* 0: the default */
    bool json;
};
#define CLIENT_OPTIONS                                                                                                 \
    {0, "bootstrap-server", "HOST:PORT"}, {0, "timeout-ms", "N"}, {                                                    \
        0, "json", NULL                                                                                                \
    }
enum { CLIENT_OPTION_BOOTSTRAP, CLIENT_OPTION_TIMEOUT, CLIENT_OPTION_JSON, CLIENT_OPTION_COUNT };
#define CLIENT_OPTIONS_HELP                                                                                            \
    "      --bootstrap-server HOST:PORT[,HOST:PORT]...\n"                                                              \
    "                        brokers to ask first (default $OXBOW_BOOTSTRAP_SERVER, or localhost:9092)\n"              \
    "      --timeout-ms N    how long to wait for an answer (default 30000)\n"
/* Remembers the value of option `option`; what was expected when it makes no sense, else NULL. */
const char *client_options_take(struct client_options *o, int option, const char *value);

/* --- A cluster. */

struct client_address {
    char host[CLIENT_HOST_SIZE];
    uint16_t port;
};

struct client_broker {
    int32_t node_id;
    struct client_address address;
};

struct client_conn;

struct client {
    struct env *env;
    struct mem mem; /* the heap; outlives the environment */
    const char *command;
    uint64_t timeout_ns;
    bool json;
    struct client_address bootstrap[CLIENT_BOOTSTRAP_MAX];
    size_t bootstrap_count;
    struct client_broker *brokers; /* as the last metadata named them */
    size_t broker_count;
    int32_t controller_id; /* -1: not known */
    struct list conns, attempts;
    char why[CLIENT_WHY_SIZE]; /* the sentence about the last failure */
    bool stopping;             /* SIGINT or SIGTERM came, with client_watch_signals */
    struct waitq stopped;
    int (*run)(struct client *c, void *arg);
    void *arg;
    int status;
};

/* Runs run(client, arg) in a fiber of a fresh environment; returns its status, EXIT_USAGE for addresses that make no
 * sense, or EXIT_FAILED. Does not suspend: for main. */
int client_run(const char *command, const struct client_options *o, int (*run)(struct client *c, void *arg), void *arg);
/* From now on the first SIGINT or SIGTERM sets `stopping` and wakes `stopped`; the second ends the
 * process. */
void client_watch_signals(struct client *c);
/* Makes `why` and returns e. */
enum err client_fail(struct client *c, enum err e, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for a code of Kafka's that came for `subject`; `message` is what the broker said, possibly null. */
enum err client_fail_code(struct client *c, const char *subject, int16_t code, struct kafka_string message);
/* Shows `why` on stderr; returns EXIT_FAILED. */
int client_say(const struct client *c);
/* A code that may be gone when the request is repeated, after new metadata. */
bool client_code_retriable(int16_t code);
/* A sentence part: "there is no such topic or partition". */
const char *client_code_text(int16_t code);
uint64_t client_deadline_ns(const struct client *c);

/* --- Connections. */

/* A connection to any broker: one that is open, else to a known broker, else to a bootstrap address. */
enum err client_any(struct client *c, struct client_conn **out) WARN_UNUSED;
/* To this broker of the last metadata. */
enum err client_node(struct client *c, int32_t node_id, struct client_conn **out) WARN_UNUSED;
/* "host:port" */
const char *client_conn_name(const struct client_conn *cc);
/* The version of an API that both sides speak, at most `cap`; -1 when there is none. Never suspends. */
int16_t client_version(const struct client_conn *cc, int16_t api_key, int16_t cap);
/* Sends a request; never suspends. After an error the connection is gone unless it is ERR_UNSUPPORTED_VERSION or of the
 * encoder. */
enum err client_send(struct client_conn *cc, int16_t api_key, int16_t cap, const void *request) WARN_UNUSED;
/* Waits for its answer, at most extra_ns longer than the time-out. After an error the connection is gone. */
enum err client_await(struct client_conn *cc, uint64_t extra_ns, struct arena *a, void *response) WARN_UNUSED;
enum err client_call(struct client_conn *cc, int16_t api_key, int16_t cap, const void *request, struct arena *a,
                     void *response) WARN_UNUSED;
/* Instead of client_await, for a request that is not answered (Produce with acks 0): waits until it has left. After an
 * error the connection is gone. */
enum err client_forget(struct client_conn *cc) WARN_UNUSED;
/* Closes one, whatever it is doing; client_await is not under way. */
void client_drop(struct client_conn *cc);
/* Closes all on which nothing is under way. */
void client_drop_idle(struct client *c);
/* A new connection for whoever wants to do more with it than one request at a time: versions are learnt, then every
 * event of the socket goes to `events`, and *raw is for env_conn_send. The calls above never choose it, and only
 * client_version, client_conn_name and client_drop may be used with it. `to` NULL: where node_id is by the last
 * metadata. */
enum err client_hand_over(struct client *c, const struct client_address *to, int32_t node_id,
                          const struct env_conn_events *events, void *ctx, struct client_conn **out,
                          struct env_conn **raw) WARN_UNUSED;
/* A client of the same cluster on the loop that calls, with connections and failures of its own: for several workers in
 * one process. Its end closes what is open and leaves abandoned attempts to connect to `to`, which must wait meanwhile.
 */
void client_init_beside(struct client *c, const struct client *like);
void client_end_beside(struct client *c, struct client *to);

/* --- What every subcommand asks (client_ask.c). */

/* Topics by name; count -1: all; their partitions in order. Remembers brokers and controller. Nothing is created by
 * asking. */
enum err client_metadata(struct client *c, const struct kafka_string *names, int32_t count, struct arena *a,
                         struct kafka_metadata_response *out) WARN_UNUSED;
/* NULL: not in the answer. */
const struct kafka_metadata_response_topic *client_find_topic(const struct kafka_metadata_response *m,
                                                              struct kafka_string name);
const struct kafka_metadata_response_partition *client_find_partition(const struct kafka_metadata_response_topic *t,
                                                                      int32_t index);
/* One topic that must exist and have leaders; waits while it is being made. */
enum err client_topic(struct client *c, const char *name, struct arena *a,
                      const struct kafka_metadata_response_topic **out) WARN_UNUSED;
/* To the controller, for what changes the cluster. */
enum err client_controller(struct client *c, struct client_conn **out) WARN_UNUSED;
/* To the coordinator of a group; repeated until there is one. */
enum err client_coordinator(struct client *c, struct kafka_string group, struct client_conn **out) WARN_UNUSED;

#define CLIENT_EARLIEST ((int64_t)-2)
#define CLIENT_LATEST ((int64_t)-1)

struct client_offset {
    struct kafka_string topic;
    int32_t partition;
    int64_t timestamp; /* milliseconds, or CLIENT_EARLIEST, CLIENT_LATEST */
    int64_t offset;    /* answered; -1: nothing is that new */
    int16_t code;      /* Kafka's; answered */
    bool done;
};
/* Offsets by time, from the leaders, through changes of leaders. OK also when an item has a code. isolation: 1 counts
 * only what is committed. */
enum err client_list_offsets(struct client *c, struct client_offset *items, size_t count, int8_t isolation) WARN_UNUSED;

#endif
