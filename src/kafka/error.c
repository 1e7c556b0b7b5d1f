#include "kafka/error.h"

#include "base/assert.h"

int16_t kafka_error_of(enum err e) {
    switch (e) {
    case OK:
        return KAFKA_NONE;
    /* Those that Kafka has a word for. */
    case ERR_OFFSET_OUT_OF_RANGE:
        return KAFKA_OFFSET_OUT_OF_RANGE;
    case ERR_CORRUPT_MESSAGE:
        return KAFKA_CORRUPT_MESSAGE;
    case ERR_UNKNOWN_TOPIC_OR_PARTITION:
        return KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    case ERR_NOT_LEADER:
        return KAFKA_NOT_LEADER_OR_FOLLOWER;
    case ERR_TOO_LARGE:
    case ERR_MESSAGE_TOO_LARGE:
        return KAFKA_MESSAGE_TOO_LARGE;
    case ERR_RECORD_LIST_TOO_LARGE:
        return KAFKA_RECORD_LIST_TOO_LARGE;
    case ERR_INVALID_TIMESTAMP:
        return KAFKA_INVALID_TIMESTAMP;
    case ERR_INVALID_RECORD:
        return KAFKA_INVALID_RECORD;
    case ERR_INVALID_REQUIRED_ACKS:
        return KAFKA_INVALID_REQUIRED_ACKS;
    case ERR_UNSUPPORTED_COMPRESSION:
        return KAFKA_UNSUPPORTED_COMPRESSION_TYPE;
    case ERR_OUT_OF_ORDER_SEQUENCE:
        return KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER;
    case ERR_DUPLICATE_SEQUENCE:
        return KAFKA_DUPLICATE_SEQUENCE_NUMBER;
    case ERR_INVALID_PRODUCER_EPOCH:
        return KAFKA_INVALID_PRODUCER_EPOCH;
    case ERR_UNKNOWN_PRODUCER_ID:
        return KAFKA_UNKNOWN_PRODUCER_ID;
    case ERR_FENCED_LEADER_EPOCH:
        return KAFKA_FENCED_LEADER_EPOCH;
    case ERR_UNKNOWN_LEADER_EPOCH:
        return KAFKA_UNKNOWN_LEADER_EPOCH;
    case ERR_TOPIC_EXISTS:
        return KAFKA_TOPIC_ALREADY_EXISTS;
    case ERR_INVALID_TOPIC:
        return KAFKA_INVALID_TOPIC_EXCEPTION;
    case ERR_INVALID_PARTITIONS:
        return KAFKA_INVALID_PARTITIONS;
    case ERR_INVALID_REPLICATION_FACTOR:
        return KAFKA_INVALID_REPLICATION_FACTOR;
    case ERR_INVALID_REPLICA_ASSIGNMENT:
        return KAFKA_INVALID_REPLICA_ASSIGNMENT;
    case ERR_INVALID_CONFIG:
        return KAFKA_INVALID_CONFIG;
    case ERR_INVALID:
    case ERR_PROTOCOL:
    case ERR_INVALID_REQUEST:
        return KAFKA_INVALID_REQUEST;
    case ERR_UNSUPPORTED_VERSION:
        return KAFKA_UNSUPPORTED_VERSION;
    case ERR_UNKNOWN_TOPIC_ID:
        return KAFKA_UNKNOWN_TOPIC_ID;
    case ERR_INCONSISTENT_TOPIC_ID:
        return KAFKA_INCONSISTENT_TOPIC_ID;
    case ERR_FETCH_SESSION_ID_NOT_FOUND:
        return KAFKA_FETCH_SESSION_ID_NOT_FOUND;
    case ERR_INVALID_FETCH_SESSION_EPOCH:
        return KAFKA_INVALID_FETCH_SESSION_EPOCH;
    case ERR_FETCH_SESSION_TOPIC_ID:
        return KAFKA_FETCH_SESSION_TOPIC_ID_ERROR;
    case ERR_COORDINATOR_NOT_AVAILABLE:
        return KAFKA_COORDINATOR_NOT_AVAILABLE;
    case ERR_TRANSACTIONAL_ID_AUTHORIZATION:
        return KAFKA_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    case ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
        return KAFKA_UNSUPPORTED_FOR_MESSAGE_FORMAT;
    case ERR_POLICY_VIOLATION:
        return KAFKA_POLICY_VIOLATION;
    case ERR_REQUEST_TIMED_OUT:
        return KAFKA_REQUEST_TIMED_OUT;
    case ERR_COMMIT_TOO_LARGE:
        return KAFKA_INVALID_COMMIT_OFFSET_SIZE;
    case ERR_OFFSET_METADATA_TOO_LARGE:
        return KAFKA_OFFSET_METADATA_TOO_LARGE;
    case ERR_COORDINATOR_LOAD_IN_PROGRESS:
        return KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
    case ERR_NOT_COORDINATOR:
        return KAFKA_NOT_COORDINATOR;
    case ERR_ILLEGAL_GENERATION:
        return KAFKA_ILLEGAL_GENERATION;
    case ERR_INCONSISTENT_GROUP_PROTOCOL:
        return KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    case ERR_INVALID_GROUP_ID:
        return KAFKA_INVALID_GROUP_ID;
    case ERR_UNKNOWN_MEMBER_ID:
        return KAFKA_UNKNOWN_MEMBER_ID;
    case ERR_INVALID_SESSION_TIMEOUT:
        return KAFKA_INVALID_SESSION_TIMEOUT;
    case ERR_REBALANCE_IN_PROGRESS:
        return KAFKA_REBALANCE_IN_PROGRESS;
    case ERR_NON_EMPTY_GROUP:
        return KAFKA_NON_EMPTY_GROUP;
    case ERR_GROUP_ID_NOT_FOUND:
        return KAFKA_GROUP_ID_NOT_FOUND;
    case ERR_MEMBER_ID_REQUIRED:
        return KAFKA_MEMBER_ID_REQUIRED;
    case ERR_GROUP_MAX_SIZE_REACHED:
        return KAFKA_GROUP_MAX_SIZE_REACHED;
    case ERR_FENCED_INSTANCE_ID:
        return KAFKA_FENCED_INSTANCE_ID;
    case ERR_GROUP_SUBSCRIBED_TO_TOPIC:
        return KAFKA_GROUP_SUBSCRIBED_TO_TOPIC;
    case ERR_UNSTABLE_OFFSET_COMMIT:
        return KAFKA_UNSTABLE_OFFSET_COMMIT;
    case ERR_UNRELEASED_INSTANCE_ID:
        return KAFKA_UNRELEASED_INSTANCE_ID;
    case ERR_PERMISSION:
        return KAFKA_CLUSTER_AUTHORIZATION_FAILED;

    /* Not done, and worth another try after the client has looked for the leader again. */
    case ERR_FENCED:
    case ERR_STALE:
    case ERR_CLOSED:
    case ERR_CANCELLED:
        return KAFKA_NOT_LEADER_OR_FOLLOWER;
    /* Not done for want of room or of a device: retriable. */
    case ERR_NO_MEMORY:
    case ERR_BUSY:
    case ERR_FULL:
    case ERR_READ_ONLY:
    case ERR_UNAVAILABLE:
        return KAFKA_KAFKA_STORAGE_ERROR;
    /* Perhaps done: never an answer that means "not done". */
    case ERR_TIMEOUT:
    case ERR_IO:
    case ERR_UNKNOWN_OUTCOME:
        return KAFKA_REQUEST_TIMED_OUT;

    /* Defects of ours or of what is stored. */
    case ERR_LOCKED:
    case ERR_UNSUPPORTED:
    case ERR_NOT_FOUND:
    case ERR_EXISTS:
    case ERR_CORRUPT:
    case ERR_FOREIGN:
    case ERR_VERSION:
    case ERR_TRUNCATED:
    case ERR_GAP:
        return KAFKA_UNKNOWN_SERVER_ERROR;
    case ERR_COUNT:
        break;
    }
    UNREACHABLE();
}

int16_t kafka_read_error_of(enum err e) {
    return err_class(e) == ERR_CLASS_UNKNOWN ? KAFKA_KAFKA_STORAGE_ERROR : kafka_error_of(e);
}

bool kafka_error_accuses(enum err e) {
    switch ((int)e) {
    case ERR_OFFSET_OUT_OF_RANGE:
    case ERR_OUT_OF_ORDER_SEQUENCE:
    case ERR_DUPLICATE_SEQUENCE:
    case ERR_INVALID_PRODUCER_EPOCH:
    case ERR_UNKNOWN_PRODUCER_ID:
    case ERR_FENCED_LEADER_EPOCH:
    case ERR_UNKNOWN_LEADER_EPOCH:
    case ERR_UNKNOWN_TOPIC_OR_PARTITION:
    case ERR_UNKNOWN_TOPIC_ID:
    case ERR_INCONSISTENT_TOPIC_ID:
    case ERR_TOPIC_EXISTS:
    case ERR_INVALID_PARTITIONS:
    /* These depend on the topic's configuration. */
    case ERR_MESSAGE_TOO_LARGE:
    case ERR_RECORD_LIST_TOO_LARGE:
    case ERR_INVALID_TIMESTAMP:
    case ERR_INVALID_RECORD:
    case ERR_ILLEGAL_GENERATION:
    case ERR_INCONSISTENT_GROUP_PROTOCOL:
    case ERR_UNKNOWN_MEMBER_ID:
    case ERR_NON_EMPTY_GROUP:
    case ERR_GROUP_ID_NOT_FOUND:
    case ERR_GROUP_MAX_SIZE_REACHED:
    case ERR_FENCED_INSTANCE_ID:
    case ERR_UNRELEASED_INSTANCE_ID:
    case ERR_GROUP_SUBSCRIBED_TO_TOPIC:
        return true;
    default:
        return false;
    }
}

const char *kafka_error_name(int16_t code) {
    switch (code) {
#define X(name, number)                                                                                                \
    case number:                                                                                                       \
        return #name;
#include "kafka/error_table.h"
#undef X
    default:
        return "?";
    }
}
