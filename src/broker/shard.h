/* A shard: a loop with its connections and the partitions that have their home here. Everything in it is touched on its
 * own loop only. */
#ifndef OXBOW_BROKER_SHARD_H
#define OXBOW_BROKER_SHARD_H

#include "base/map.h"
#include "broker/conn.h"
#include "broker/fetch_session.h"
#include "broker/route.h"
#include "partition/partition.h"

struct broker;

#define SHARD_MAGIC 0x5ad5ad01u
#define SHARD_LISTENERS_MAX 16u

/* A partition that is open, opening or closing here. */
struct slot;

struct shard_listener {
    struct shard *shard;
    const struct listener *listener;
    struct env_listener *handle;
};

struct shard {
    unsigned magic;
    unsigned index;
    struct broker *broker;
    struct env *env;
    struct loop *loop;
    struct conns conns;
    struct shard_listener listeners[SHARD_LISTENERS_MAX];
    size_t listener_count;
    struct fetch_sessions sessions;
    struct routes routes;
    struct map64 slots;        /* by stream id */
    struct map64 coordinators; /* the same (coordinator.h) */
    int64_t newer_said_ms;     /* log_due: that one of them cannot be loaded by this version */
    int64_t crowded_said_ms;   /* log_due: that there is no memory for more groups */
    struct conversions conversions;
    struct timer retain;
    struct waitgroup background; /* retention, warming up, coordinators that begin or end */
    bool stopping;
    int64_t open_complained;
};

void broker_shard_init(struct shard *s, struct broker *b, unsigned index, struct loop *loop);
/* On the shard's loop: listens on all of the broker's listeners. A listener with port 0 learns its port here. */
enum err shard_listen(struct shard *s, bool reuse_port, const char **which) WARN_UNUSED;
/* Opens this shard's partitions in the background and starts the retention timer. */
void shard_warm_up(struct shard *s);
/* Stops accepting, answers what is under way, closes. Suspends. */
void shard_close_clients(struct shard *s, uint64_t limit_ns);
/* Closes all coordinators and partitions. Suspends. After shard_close_clients. */
void shard_close_partitions(struct shard *s);
void broker_shard_deinit(struct shard *s);

/* Mail from loop 0, outside any fiber. Takes the reference. */
void shard_topic_changed(struct shard *s, struct topic_route *t);
void shard_topic_removed(struct shard *s, const struct uuid *id);

/* producer.id.expiration.ms of all partitions that are open here; those opened later ask the broker. */
void shard_set_producer_expiration(struct shard *s, int64_t ms);

/* The partition `index` of the topic, which must have its home here; opens it if need be (then suspends). Holds it open
 * until slot_release. ERR_UNKNOWN_TOPIC_OR_PARTITION: the topic has gone; else what partition_open says. */
enum err shard_acquire(struct shard *s, const struct topic_route *t, int32_t index, struct slot **out) WARN_UNUSED;
/* The same for one that is open already; NULL if it is not. Does not suspend. */
struct slot *shard_acquire_open(struct shard *s, struct stream_id stream);
void slot_release(struct slot *slot);
struct partition *slot_partition(const struct slot *slot);
/* The topic has been removed: closes its partition here, if it is open. Suspends. */
void shard_close_stream(struct shard *s, struct stream_id stream);

/* What the open partitions of this shard have done, by topic. */
struct shard_topic_count {
    char *name; /* owned by whoever asked */
    uint64_t bytes_in, bytes_out, records_in, size_bytes, partitions;
};
/* Adds to an array from mem_alloc that is grown as needed; sorted by nothing. Does not suspend. */
void shard_count_topics(struct shard *s, struct shard_topic_count **items, size_t *count, size_t *capacity);

#endif
