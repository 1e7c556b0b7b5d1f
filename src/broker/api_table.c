/* What this broker speaks: one row an API. ApiVersions tells exactly this, and dispatch goes by it; what is not here is not offered. */
#include "base/assert.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

const struct api api_table[] = {
    /* Clients are told that Produce begins at 0 though 3 is the first that is served: librdkafka believes that a broker without version 0 cannot take
     * compressed batches, and Apache Kafka 4 says the same for that reason (KAFKA-18659). */
    {KAFKA_API_PRODUCE, 3, 13, 0, API_OVERLAPS, handle_produce, produce_decode_bound},
    {KAFKA_API_FETCH, 4, 18, 4, 0, handle_fetch, NULL},
    {KAFKA_API_LIST_OFFSETS, 1, 11, 1, 0, handle_list_offsets, NULL},
    {KAFKA_API_METADATA, 0, 13, 0, 0, handle_metadata, NULL},
    {KAFKA_API_FIND_COORDINATOR, 0, 6, 0, 0, handle_find_coordinator, NULL},
    {KAFKA_API_API_VERSIONS, 0, 4, 0, 0, handle_api_versions, NULL},
    {KAFKA_API_CREATE_TOPICS, 2, 7, 2, 0, handle_create_topics, NULL},
    {KAFKA_API_DELETE_TOPICS, 1, 6, 1, 0, handle_delete_topics, NULL},
    {KAFKA_API_INIT_PRODUCER_ID, 0, 5, 0, 0, handle_init_producer_id, NULL},
    {KAFKA_API_DESCRIBE_CONFIGS, 1, 4, 1, 0, handle_describe_configs, NULL},
    {KAFKA_API_INCREMENTAL_ALTER_CONFIGS, 0, 1, 0, 0, handle_incremental_alter_configs, NULL},
};
const size_t api_table_count = ARRAY_LEN(api_table);
