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
    struct meta *meta;       /* loop 0 only */
    struct streams *streams; /* its functions say where */
    struct topic_config topic_defaults;
    struct listener listeners[SHARD_LISTENERS_MAX];
    size_t listener_count;
    struct conn_quota quota;
    struct shard *shards;
    struct loop **loops;
    unsigned shard_count;
    char *cluster_id;
    uint64_t incarnation;
    _Atomic bool ready;
    /* Loop 0. */
    struct waitgroup background;
    struct fiber_mutex configs_lock; /* from reading a topic's overrides to committing what was made of them */
    struct fiber_mutex producer_ids_lock;
    struct fiber_mutex offsets_topic_lock; /* while __consumer_offsets is made */
    int64_t next_producer_id, producer_ids_end;
};

/* The one table of what is served, ordered by key (api_table.c). */
extern const struct api api_table[];
extern const size_t api_table_count;

request_handler handle_produce, handle_fetch, handle_list_offsets, handle_metadata, handle_find_coordinator,
    handle_api_versions, handle_create_topics, handle_delete_topics, handle_init_producer_id, handle_describe_configs,
    handle_incremental_alter_configs, handle_join_group, handle_sync_group, handle_heartbeat, handle_leave_group,
    handle_describe_groups, handle_list_groups, handle_delete_groups, handle_offset_commit, handle_offset_fetch,
    handle_offset_delete;

static inline struct shard *request_shard(const struct request *r) {
    return r->shard;
}

/* --- On loop 0; suspend until the change is durable and every shard knows it. Errors of meta_*; ERR_FENCED is fatal
 * and reported as such. */
struct topic_wish {
    const char *name; /* NUL-terminated */
    int32_t partition_count;
    int16_t replication_factor;
    const struct meta_config *configs;
    size_t config_count;
};
enum err broker_create_topic(struct broker *b, const struct topic_wish *wish, struct uuid *id) WARN_UNUSED;
enum err broker_delete_topic(struct broker *b, const struct uuid *id) WARN_UNUSED;
enum err broker_configure_topic(struct broker *b, const struct uuid *id, const struct meta_config *changes,
                                size_t count) WARN_UNUSED;
/* On loop 0; suspends now and then. */
enum err broker_new_producer_id(struct broker *b, int64_t *id) WARN_UNUSED;

/* The host and port that a client of this request's listener is told. */
const char *listener_host(const struct request *r);
uint16_t listener_port(const struct request *r);

#endif
