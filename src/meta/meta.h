/* The cluster log: an object log (depth 1, group commit) that says which topics there are, who owns which partition,
 * and who is registered. This is its image in memory, and the
 * commits that change it. One broker appends (the active controller); the one of a single-broker cluster is always
 * that.
 *
 * Lives on loop 0: call from fibers there; other loops go through loop_call. Every commit suspends until its record
 * is durable: what this header's getters show is
 * durable already. After a suspension pointers into the image may be gone: look topics up again.
 *
 * Keys: "oxbow.cluster" (created once: names the cluster's generation, a random id) and
 * "<generation>/cluster/<number>". */
#ifndef OXBOW_META_META_H
#define OXBOW_META_META_H

#include "objlog/objlog.h"
#include "stream/ids.h"

struct uuid { /* Kafka's topic and cluster ids */
    uint8_t bytes[16];
};
void uuid_text(const struct uuid *u, char out[23]); /* URL-safe base64 without padding, as Kafka prints */

#define META_TOPIC_PARTITIONS_MAX 100000
#define META_ALL_BROKERS (-1) /* in place of a node id */

struct meta_config {
    char *name, *value;
};
struct meta_partition {
    struct stream_id stream;
    struct incarnation owner; /* 0: none */
    int32_t owner_node;
    int32_t epoch;        /* partition epoch == Kafka's leader epoch: rises with every incarnation and every move */
    uint64_t state_entry; /* ledger entry of the owner from which its tenure's state is known */
};
struct meta_topic {
    struct uuid id;
    char *name;
    int32_t partition_count;
    int16_t replication_factor; /* as asked for: accepted and remembered */
    struct meta_partition *partitions;
    struct meta_config *configs; /* overrides only, sorted by name */
    size_t config_count;
};
struct meta_broker { /* a registration */
    int32_t node_id;
    struct incarnation incarnation;
    char *rack;     /* "" if none */
    char *endpoint; /* where others reach it; "" if not told */
    bool retired;   /* everything it owned has been recovered by another incarnation */
};

struct meta;
struct meta_options {
    struct env *env;
    struct store *store;
    int32_t node_id;
    const char *rack;     /* NULL: none */
    const char *endpoint; /* "host:port" for the other brokers; NULL: not told */
};
/* Reads (or begins) the cluster, wins an election that is also this broker's registration. Logs what it found. *why:
 * a sentence for the operator.
 * ERR_LOCKED etc. come from the store; ERR_FOREIGN/ERR_VERSION name the object. */
enum err meta_open(const struct meta_options *o, struct meta **out, const char **why) WARN_UNUSED;
/* The stop begins. From now on a store that does nothing for ten seconds is given up: whoever waits for a commit is told
 * ERR_UNKNOWN_OUTCOME, or ERR_CLOSED when it was not sent. On loop 0; does not suspend. */
void meta_stopping(struct meta *m);
/* Waits for commits under way, writes a snapshot if there is something new, frees. */
void meta_close(struct meta *m);

const char *meta_generation(const struct meta *m); /* key prefix of everything in this cluster */
const char *meta_cluster_id(const struct meta *m); /* 22 characters, as Kafka's cluster.id */
struct incarnation meta_incarnation(const struct meta *m);
/* Registrations other than ours that are not retired: to be recovered, oldest first. Returns how many there are;
 * fills at most max. */
size_t meta_unrecovered(const struct meta *m, struct meta_broker *out, size_t max);

const struct meta_topic *meta_topic_by_name(const struct meta *m, const char *name, size_t name_size);
const struct meta_topic *meta_topic_by_id(const struct meta *m, const struct uuid *id);
/* sorted by name; NULL at the end; no commit in between */
const struct meta_topic *meta_topic_next(const struct meta *m, size_t *cursor);
size_t meta_topic_count(const struct meta *m);
/* The topic and partition index of a stream; NULL when no topic has it (any more). */
const struct meta_topic *meta_topic_of_stream(const struct meta *m, struct stream_id s, int32_t *partition);
const char *meta_topic_config(const struct meta_topic *t, const char *name); /* NULL: not overridden */
/* What was set at run time of a broker's configuration, or of all brokers' (META_ALL_BROKERS); sorted by name. */
const struct meta_config *meta_broker_configs(const struct meta *m, int32_t node_id, size_t *count);

/* Whether nobody had been elected behind this broker at some moment that counts: after `after_ns` by env's clock, or after
 * the call. *as_of_ns: by then at the latest. Costs a request to the store when nothing proves it yet; one request
 * serves all that wait. On an exclusive store it is always so. ERR_FENCED: another has been elected, the process must
 * stop. ERR_UNAVAILABLE: the store did not tell until `deadline_ns`. ERR_CLOSED. Suspends. */
enum err meta_confirm(struct meta *m, uint64_t after_ns, uint64_t deadline_ns, uint64_t *as_of_ns) WARN_UNUSED;

/* Commits. OK: durable and in the image. ERR_FENCED: another controller is at work: the process must stop. Otherwise
 * the reason for which nothing was written. */
/* Makes a topic whose partitions are owned by this incarnation with epoch 0 and empty state. ERR_INVALID_TOPIC,
 * ERR_TOPIC_EXISTS, ERR_INVALID_PARTITIONS (1 to
 * META_TOPIC_PARTITIONS_MAX), ERR_INVALID_REPLICATION_FACTOR (below 1), ERR_INVALID_CONFIG (no name, no value, or
 * one name twice). */
enum err meta_topic_create(struct meta *m, const char *name, int32_t partition_count, int16_t replication_factor,
                           const struct meta_config *configs, size_t config_count, struct uuid *id) WARN_UNUSED;
enum err meta_topic_delete(struct meta *m, const struct uuid *id) WARN_UNUSED;
/* value NULL removes the override. */
enum err meta_topic_configure(struct meta *m, const struct uuid *id, const struct meta_config *changes,
                              size_t count) WARN_UNUSED;
/* Gives the topic partitions, up to `total`, with new streams, owned and begun as with meta_topic_create.
 * ERR_UNKNOWN_TOPIC_ID, ERR_INVALID_PARTITIONS (not more than it has, or above META_TOPIC_PARTITIONS_MAX). */
enum err meta_partitions_add(struct meta *m, const struct uuid *id, int32_t total) WARN_UNUSED;
/* value NULL removes. What the names and values mean is the caller's. ERR_INVALID_CONFIG: no name. */
enum err meta_broker_configure(struct meta *m, int32_t node_id, const struct meta_config *changes,
                               size_t count) WARN_UNUSED;
/* Every partition that `from` owns passes to this incarnation: epoch + 1, state_entry as given; `from` is retired.
 * One record. */
enum err meta_recovered(struct meta *m, struct incarnation from, uint64_t state_entry) WARN_UNUSED;
/* Reserves `count` producer ids; *first is the first of them. */
enum err meta_producer_ids(struct meta *m, uint32_t count, int64_t *first) WARN_UNUSED;
/* Drops retired registrations below `oldest_needed` from the image (their objects are all gone). */
enum err meta_forget_retired(struct meta *m, struct incarnation oldest_needed) WARN_UNUSED;

/* Kafka's rule: 1..249 of [a-zA-Z0-9._-], not "." or "..". */
bool meta_topic_name_valid(const char *name, size_t size);

#endif
