/* A Kafka client as workloads need it: one connection, requests by API and version, answers in order. It does nothing
 * by itself: no retries, no metadata. All functions are called in fibers of one loop and suspend unless stated. */
#ifndef OXBOW_SIM_CLIENT_H
#define OXBOW_SIM_CLIENT_H

#include "base/arena.h"
#include "kafka/frame.h"
#include "kafka/kafka_messages.h"
#include "rt/env.h"

struct sim_client {
    struct env *env;
    struct env_conn *conn; /* NULL: not connected */
    struct buf in;
    struct waitq news;
    bool ended;
    int32_t next_correlation, next_answer;
    uint64_t peer; /* who is at the other end, as whoever opened it counts (broker_node.h) */
    /* When the last request was sent: another broker served already; for longer than a lease. The workload's. */
    bool overtaken, expired;
};

void sim_client_init(struct sim_client *c, struct env *e); /* does not suspend */
/* Closes; may be opened again. Does not suspend. */
void sim_client_close(struct sim_client *c);
void sim_client_deinit(struct sim_client *c);
/* Connects anew. */
enum err sim_client_open(struct sim_client *c, const char *host, uint16_t port) WARN_UNUSED;
/* Sends; does not suspend. ERR_CLOSED: not connected any more. */
enum err sim_client_send(struct sim_client *c, int16_t api, int16_t version, const void *request) WARN_UNUSED;
/* Its process ends while it sends: the first `thousandths` of the request are still delivered, and then the end of the
 * connection. Does not suspend. */
void sim_client_die(struct sim_client *c, int16_t api, int16_t version, const void *request, unsigned thousandths);
/* Waits for the answer to the oldest request that was sent. ERR_TIMEOUT, ERR_CLOSED: the connection is closed then;
 * ERR_PROTOCOL: this is not the answer. The
 * answer borrows from the arena. */
enum err sim_client_receive(struct sim_client *c, int16_t api, int16_t version, uint64_t timeout_ns, struct arena *a,
                            void *response) WARN_UNUSED;
/* Both. */
enum err sim_client_call(struct sim_client *c, int16_t api, int16_t version, const void *request, uint64_t timeout_ns,
                         struct arena *a, void *response) WARN_UNUSED;

/* A Fetch of one partition, without a session, that waits for nothing: `q`. Its parts refer to each other, so it stays where
 * it is. */
struct sim_client_fetch {
    struct kafka_fetch_request q;
    struct kafka_fetch_request_topic topic;
    struct kafka_fetch_request_partition partition;
};
/* Borrows the topic's name. At most partition_bytes_max are asked for. Does not suspend. */
void sim_client_fetch_init(struct sim_client_fetch *f, const char *topic, int32_t partition, int64_t offset,
                           int32_t partition_bytes_max);

#endif
