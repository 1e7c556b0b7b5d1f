/* One broker: put together from an environment, a configuration and an object store. It opens the cluster log, recovers
 * what its predecessors left, listens, and serves. Everything it does with the world goes through the environment, so
 * that it runs in the simulator as it does on a machine.
 *
 * Threads: N shards (loops), each with its own connections; every partition has one home shard. The cluster log, the
 * WAL and the ledger live on loop 0, which is shard 0's too. Shards know the topics by routes that loop 0 mails to them
 * (route.h). */
#ifndef OXBOW_BROKER_BROKER_H
#define OXBOW_BROKER_BROKER_H

#include <stdbool.h>

#include "broker/config.h"
#include "rt/env.h"
#include "store/store.h"

struct broker;

/* Where several brokers can write: an answer about offsets, groups or leaders was right at a moment that is at most this
 * long before it leaves; and one that tells a client that it is wrong, at a moment after its request came. */
#define BROKER_LEASE_NS (5 * NS_PER_S)

struct broker_options {
    struct env *env;
    struct loop *loop0;          /* the current one */
    struct store *store;         /* borrowed until broker_stop has returned */
    const struct config *config; /* the same; checked */
    char *why_text;              /* room for *why of a failed start, of why_size bytes; the caller's */
    size_t why_size;
    unsigned processors; /* of the machine, for shards=auto; 0: unknown */
    /* Opens the store of a mirrored WAL's object log (stream.h); NULL: there is none. On loop 0. */
    enum err (*open_store)(void *ctx, const char *url, struct store **out, char *why, size_t why_size);
    /* On loop 0: this incarnation has been overtaken, or storage can no longer be trusted. The process must end;
     * nothing more is acknowledged. */
    void (*fatal)(void *ctx, enum err why, const char *what);
    void *ctx;
};
/* Suspends; on loop 0. OK: it listens and answers. Else *why is a sentence for the operator, and everything is closed
 * again. */
enum err broker_start(const struct broker_options *o, struct broker **out, const char **why) WARN_UNUSED;
/* Orderly: stops accepting, answers what is under way, closes partitions, uploads, writes checkpoint and snapshot.
 * Suspends; on loop 0. */
void broker_stop(struct broker *b);

/* True between start and stop. Any thread. */
bool broker_ready(const struct broker *b);
/* Constant while the broker runs; any thread. */
int32_t broker_node_id(const struct broker *b);
uint64_t broker_incarnation(const struct broker *b);
const char *broker_cluster_id(const struct broker *b);
unsigned broker_shards(const struct broker *b);
size_t broker_listeners(const struct broker *b);
/* "PLAINTEXT://127.0.0.1:9092" with the port that it really has; returns out. */
const char *broker_listener_text(const struct broker *b, size_t i, char *out, size_t out_size);

struct broker_topic_count {
    char *name; /* owned by the array's owner */
    uint64_t bytes_in, bytes_out, records_in, size_bytes, partitions;
};
/* What the open partitions have done since they were opened, by topic, sorted by name. Suspends; on loop 0. Free with
 * broker_topic_counts_free. */
void broker_topic_counts(struct broker *b, struct broker_topic_count **out, size_t *count);
void broker_topic_counts_free(struct broker *b, struct broker_topic_count *items, size_t count);

#endif
