/* What this broker speaks: one row an API. ApiVersions tells exactly this, and dispatch goes by it; what is not here is
 * not offered. */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

const struct api api_table[] = {
    {KAFKA_API_PRODUCE, 3, 13, API_OVERLAPS, handle_produce},
    {KAFKA_API_FETCH, 4, 18, 0, handle_fetch},
    {KAFKA_API_LIST_OFFSETS, 1, 11, 0, handle_list_offsets},
    {KAFKA_API_METADATA, 0, 13, 0, handle_metadata},
    {KAFKA_API_OFFSET_COMMIT, 0, 10, 0, handle_offset_commit},
    {KAFKA_API_OFFSET_FETCH, 0, 10, 0, handle_offset_fetch},
    {KAFKA_API_FIND_COORDINATOR, 0, 6, 0, handle_find_coordinator},
    {KAFKA_API_JOIN_GROUP, 0, 9, 0, handle_join_group},
    {KAFKA_API_HEARTBEAT, 0, 4, 0, handle_heartbeat},
    {KAFKA_API_LEAVE_GROUP, 0, 5, 0, handle_leave_group},
    {KAFKA_API_SYNC_GROUP, 0, 5, 0, handle_sync_group},
    {KAFKA_API_DESCRIBE_GROUPS, 0, 6, 0, handle_describe_groups},
    {KAFKA_API_LIST_GROUPS, 0, 5, 0, handle_list_groups},
    {KAFKA_API_API_VERSIONS, 0, 4, 0, handle_api_versions},
    {KAFKA_API_CREATE_TOPICS, 2, 7, 0, handle_create_topics},
    {KAFKA_API_DELETE_TOPICS, 1, 6, 0, handle_delete_topics},
    {KAFKA_API_INIT_PRODUCER_ID, 0, 5, 0, handle_init_producer_id},
    {KAFKA_API_DESCRIBE_CONFIGS, 1, 4, 0, handle_describe_configs},
    {KAFKA_API_DELETE_GROUPS, 0, 2, 0, handle_delete_groups},
    {KAFKA_API_INCREMENTAL_ALTER_CONFIGS, 0, 1, 0, handle_incremental_alter_configs},
    {KAFKA_API_OFFSET_DELETE, 0, 0, 0, handle_offset_delete},
};
const size_t api_table_count = ARRAY_LEN(api_table);
