/* What this broker speaks: one row an API. ApiVersions tells exactly this, and dispatch goes by it; what is not here is
 * not offered. */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

const struct api api_table[] = {
    {KAFKA_API_PRODUCE, 0, 13, API_OVERLAPS, handle_produce},
    {KAFKA_API_FETCH, 0, 18, 0, handle_fetch},
    {KAFKA_API_LIST_OFFSETS, 0, 11, 0, handle_list_offsets},
    {KAFKA_API_METADATA, 0, 13, 0, handle_metadata},
    {KAFKA_API_FIND_COORDINATOR, 0, 6, 0, handle_find_coordinator},
    {KAFKA_API_API_VERSIONS, 0, 4, 0, handle_api_versions},
    {KAFKA_API_CREATE_TOPICS, 0, 7, 0, handle_create_topics},
    {KAFKA_API_DELETE_TOPICS, 0, 6, 0, handle_delete_topics},
    {KAFKA_API_INIT_PRODUCER_ID, 0, 5, 0, handle_init_producer_id},
    {KAFKA_API_DESCRIBE_CONFIGS, 0, 4, 0, handle_describe_configs},
    {KAFKA_API_INCREMENTAL_ALTER_CONFIGS, 0, 1, 0, handle_incremental_alter_configs},
};
const size_t api_table_count = ARRAY_LEN(api_table);
