/* The inside of a broker, for the files of this folder alone. */
#ifndef OXBOW_BROKER_BROKER_PRIV_H
#define OXBOW_BROKER_BROKER_PRIV_H

#include "broker/broker.h"
#include "broker/conn.h"
#include "broker/coordinator.h"
#include "broker/route.h"
#include "broker/shard.h"
#include "meta/meta.h"
#include "stream/stream.h"

#define BROKER_MAGIC 0xb40ce401u
#define BROKER_PRODUCER_IDS 1000u /* taken from the cluster log at a time */

struct broker {
    unsigned magic;
    struct broker_options o;
    struct env *env;
    const struct config *config;
    struct meta *meta;                  /* loop 0 only */
    struct streams *streams;            /* its functions say where */
    struct config config_defaults;      /* Kafka's, and ours */
    struct topic_config topic_defaults; /* loop 0; like what follows, by dynamic.c */
    _Atomic bool auto_create_topics;    /* auto.create.topics.enable as it is now */
    _Atomic int64_t producer_expiration_ms;
    struct listener listeners[SHARD_LISTENERS_MAX];
    size_t listener_count;
    struct conn_quota quota;
    struct shard *shards;
    struct loop **loops;
    unsigned shard_count;
    char *cluster_id;
    uint64_t incarnation;
    _Atomic bool ready;
    _Atomic uint64_t office_ns; /* by env's clock: nobody had been elected behind this broker */
    /* Loop 0. */
    struct waitgroup background;
    bool tidy_stopped; /* and tidy.c is to end */
    struct waitq tidy_stop;
    struct fiber_mutex configs_lock; /* from reading a topic's overrides to committing what was made of them */
    struct fiber_mutex producer_ids_lock;
    struct fiber_mutex offsets_topic_lock; /* while __consumer_offsets is made */
    int64_t next_producer_id, producer_ids_end;
    int64_t partitions_said_ms; /* that there is no memory for more */
};

/* The one table of what is served, ordered by key (api_table.c). */
extern const struct api api_table[];
extern const size_t api_table_count;

request_handler handle_produce, handle_fetch, handle_list_offsets, handle_metadata, handle_find_coordinator,
    handle_api_versions, handle_create_topics, handle_delete_topics, handle_init_producer_id, handle_describe_configs,
    handle_incremental_alter_configs, handle_delete_records, handle_offset_for_leader_epoch, handle_describe_producers,
    handle_describe_cluster, handle_describe_topic_partitions, handle_describe_log_dirs, handle_create_partitions,
    handle_elect_leaders, handle_alter_partition_reassignments, handle_list_partition_reassignments,
    handle_alter_configs, handle_list_config_resources, handle_join_group, handle_sync_group, handle_heartbeat,
    handle_leave_group, handle_describe_groups, handle_list_groups, handle_delete_groups, handle_offset_commit,
    handle_offset_fetch, handle_offset_delete;

/* Bits of Kafka's AclOperation that apply to a topic and to the cluster; without ACLs everybody may do everything. */
#define TOPIC_OPERATIONS ((1 << 3) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 10) | (1 << 11))
#define CLUSTER_OPERATIONS ((1 << 5) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 12))

static inline struct shard *request_shard(const struct request *r) {
    return r->shard;
}

/* Was this broker in office at a moment after `after_ns`, by env's clock? known: as far as can be told without a request
 * to the store; any loop. */
bool broker_office_known(const struct broker *b, uint64_t after_ns);
/* Looks, if need be. OK, ERR_FENCED (which is fatal, and reported as such), ERR_UNAVAILABLE when the store does not tell in
 * time, ERR_CLOSED. Suspends; any loop. */
enum err broker_confirm_office(struct broker *b, uint64_t after_ns) WARN_UNUSED;

/* --- On loop 0; suspend until the change is durable and every shard knows it. Errors of meta_*; ERR_FENCED is fatal
 * and reported as such. */
struct topic_wish {
    const char *name; /* NUL-terminated */
    int32_t partition_count;
    int16_t replication_factor;
    const struct meta_config *configs;
    size_t config_count;
};
/* Loop 0: all partitions that there are; walks all topics. */
int64_t broker_partitions_there(const struct broker *b);
/* Loop 0: whether there is memory for so many in all (state.bytes). Says so if not, once in a while. */
bool broker_has_room_for(struct broker *b, int64_t partitions);
enum err broker_create_topic(struct broker *b, const struct topic_wish *wish, struct uuid *id) WARN_UNUSED;
/* Up to `total`: see meta_partitions_add. */
enum err broker_add_partitions(struct broker *b, const struct uuid *id, int32_t total) WARN_UNUSED;
enum err broker_delete_topic(struct broker *b, const struct uuid *id) WARN_UNUSED;
enum err broker_configure_topic(struct broker *b, const struct uuid *id, const struct meta_config *changes,
                                size_t count) WARN_UNUSED;
/* Mails all topics as they are now to all shards; suspends until they have them. */
/* The cluster log has another writer (ERR_FENCED): this broker must not go on. Gives e back. */
enum err broker_checked(struct broker *b, enum err e) WARN_UNUSED;
/* tidy.c: begins when the broker serves; fibers of `background`, which end soon after the stop. Loop 0. */
void broker_tidy_begin(struct broker *b);
void broker_tidy_stop(struct broker *b);
/* clean.c: log compaction, the same; broker_tidy_stop ends it. */
void broker_clean_begin(struct broker *b);
void broker_publish_all(struct broker *b);
/* What is set of a node's configuration while it runs (META_ALL_BROKERS: of all), and what follows from it. */
enum err broker_configure_self(struct broker *b, int32_t node_id, const struct meta_config *changes,
                               size_t count) WARN_UNUSED;
/* On loop 0; suspends now and then. */
enum err broker_new_producer_id(struct broker *b, int64_t *id) WARN_UNUSED;

/* Kafka protocol: ConfigResource.Type. */
enum {
    RESOURCE_TOPIC = 2,
    RESOURCE_BROKER = 4,
    RESOURCE_BROKER_LOGGER = 8,
    RESOURCE_CLIENT_METRICS = 16,
    RESOURCE_GROUP = 32
};
#define ROOT_LOGGER "root"
/* The level of the log in the words of Kafka's loggers. */
const char *broker_log_level(const struct broker *b);

/* The host and port that a client of this request's listener is told. */
const char *listener_host(const struct request *r);
uint16_t listener_port(const struct request *r);

#endif
