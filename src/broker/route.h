/* Routes: what a shard must know of the topics to answer clients without asking loop 0: names, ids, partitions, their
 * streams and epochs, configs.
 *
 * The cluster log's image lives on loop 0. Whenever it changes, loop 0 makes a new, immutable `struct topic_route` and
 * mails it to every shard (broker.c); shards share the object by counting references, and each has maps of its own. So
 * the hot path takes no lock and sends no mail. */
#ifndef OXBOW_BROKER_ROUTE_H
#define OXBOW_BROKER_ROUTE_H

#include <stdatomic.h>

#include "base/map.h"
#include "kafka/codec.h"
#include "meta/meta.h"
#include "partition/topic_config.h"

#define TOPIC_ROUTE_MAGIC 0x407e0001u

struct partition_route {
    struct stream_id stream;
    int32_t leader_epoch;
    unsigned shard; /* its home */
};

struct topic_route {
    unsigned magic;
    _Atomic uint32_t refs;
    struct mem *mem;
    struct uuid id;
    char *name;
    size_t name_size;
    int16_t replication_factor;
    struct topic_config config; /* overrides laid over the broker's defaults */
    int32_t partition_count;
    struct partition_route partitions[];
};

/* A route with one reference. Any loop, as it only reads what it is given. */
struct topic_route *topic_route_create(struct mem *m, const struct meta_topic *t, const struct topic_config *defaults,
                                       unsigned shard_count);
struct topic_route *topic_route_ref(struct topic_route *t);
void topic_route_unref(struct topic_route *t); /* any thread; NULL is fine */

/* One shard's maps. */
struct routes {
    struct mapstr by_name, by_id; /* by_id owns the references */
};
void routes_init(struct routes *r, struct mem *m);
void routes_deinit(struct routes *r);
/* Takes the reference; replaces what was known of the topic. */
void routes_put(struct routes *r, struct topic_route *t);
void routes_remove(struct routes *r, const struct uuid *id);
/* Borrowed until the next suspension; NULL: not known. */
struct topic_route *routes_by_name(const struct routes *r, const char *name, size_t size);
struct topic_route *routes_by_id(const struct routes *r, const void *id);

/* Topics that only the broker itself writes to. */
bool topic_is_internal(const char *name, size_t size);

static inline struct kafka_uuid uuid_to_kafka(const struct uuid *u) {
    struct kafka_uuid k;
    memcpy(k.bytes, u->bytes, sizeof(k.bytes));
    return k;
}

#endif
