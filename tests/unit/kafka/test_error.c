/* Every internal error has a code that is in Kafka's table; the ones clients act upon are spelled out. */
#include "message_test.h"

#include "kafka/error.h"

static void test_every_error_is_mapped(void **state) {
    (void)state;
    for (int e = 0; e < ERR_COUNT; e++) {
        int16_t code = kafka_error_of((enum err)e), read = kafka_read_error_of((enum err)e);
        assert_string_not_equal(kafka_error_name(code), "?");
        assert_string_not_equal(kafka_error_name(read), "?");
        assert_int_equal(code == KAFKA_NONE, e == OK);
        /* What may have been done is never answered with a code that says it was not. */
        if (err_class((enum err)e) == ERR_CLASS_UNKNOWN) {
            assert_int_equal(code, KAFKA_REQUEST_TIMED_OUT);
            assert_int_equal(read, KAFKA_KAFKA_STORAGE_ERROR);
        }
    }
}

static void test_codes(void **state) {
    (void)state;
    static const struct {
        enum err e;
        int16_t code;
    } cases[] = {
        {ERR_OFFSET_OUT_OF_RANGE, 1},
        {ERR_CORRUPT_MESSAGE, 2},
        {ERR_UNKNOWN_TOPIC_OR_PARTITION, 3},
        {ERR_NOT_LEADER, 6},
        {ERR_REQUEST_TIMED_OUT, 7},
        {ERR_MESSAGE_TOO_LARGE, 10},
        {ERR_TOO_LARGE, 10},
        {ERR_COORDINATOR_NOT_AVAILABLE, 15},
        {ERR_INVALID_TOPIC, 17},
        {ERR_RECORD_LIST_TOO_LARGE, 18},
        {ERR_INVALID_REQUIRED_ACKS, 21},
        {ERR_INVALID_TIMESTAMP, 32},
        {ERR_UNSUPPORTED_VERSION, 35},
        {ERR_TOPIC_EXISTS, 36},
        {ERR_INVALID_PARTITIONS, 37},
        {ERR_INVALID_REPLICATION_FACTOR, 38},
        {ERR_INVALID_REPLICA_ASSIGNMENT, 39},
        {ERR_INVALID_CONFIG, 40},
        {ERR_INVALID_REQUEST, 42},
        {ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, 43},
        {ERR_POLICY_VIOLATION, 44},
        {ERR_OUT_OF_ORDER_SEQUENCE, 45},
        {ERR_DUPLICATE_SEQUENCE, 46},
        {ERR_INVALID_PRODUCER_EPOCH, 47},
        {ERR_TRANSACTIONAL_ID_AUTHORIZATION, 53},
        {ERR_UNKNOWN_PRODUCER_ID, 59},
        {ERR_FETCH_SESSION_ID_NOT_FOUND, 70},
        {ERR_INVALID_FETCH_SESSION_EPOCH, 71},
        {ERR_FENCED_LEADER_EPOCH, 74},
        {ERR_UNKNOWN_LEADER_EPOCH, 75},
        {ERR_UNSUPPORTED_COMPRESSION, 76},
        {ERR_INVALID_RECORD, 87},
        {ERR_UNKNOWN_TOPIC_ID, 100},
        {ERR_INCONSISTENT_TOPIC_ID, 103},
        {ERR_OFFSET_METADATA_TOO_LARGE, 12},
        {ERR_COORDINATOR_LOAD_IN_PROGRESS, 14},
        {ERR_NOT_COORDINATOR, 16},
        {ERR_ILLEGAL_GENERATION, 22},
        {ERR_INCONSISTENT_GROUP_PROTOCOL, 23},
        {ERR_INVALID_GROUP_ID, 24},
        {ERR_UNKNOWN_MEMBER_ID, 25},
        {ERR_INVALID_SESSION_TIMEOUT, 26},
        {ERR_REBALANCE_IN_PROGRESS, 27},
        {ERR_NON_EMPTY_GROUP, 68},
        {ERR_GROUP_ID_NOT_FOUND, 69},
        {ERR_MEMBER_ID_REQUIRED, 79},
        {ERR_GROUP_MAX_SIZE_REACHED, 81},
        {ERR_FENCED_INSTANCE_ID, 82},
        {ERR_GROUP_SUBSCRIBED_TO_TOPIC, 86},
        {ERR_UNSTABLE_OFFSET_COMMIT, 88},
        {ERR_UNRELEASED_INSTANCE_ID, 111},
        {ERR_FETCH_SESSION_TOPIC_ID, 106},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(kafka_error_of(cases[i].e), cases[i].code);
        assert_int_equal(kafka_read_error_of(cases[i].e), cases[i].code == 7 ? 56 : cases[i].code);
    }
    assert_string_equal(kafka_error_name(-1), "UNKNOWN_SERVER_ERROR");
    assert_string_equal(kafka_error_name(6), "NOT_LEADER_OR_FOLLOWER");
    assert_string_equal(kafka_error_name(133), "SHARE_SESSION_LIMIT_REACHED");
    assert_string_equal(kafka_error_name(999), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_error_is_mapped), cmocka_unit_test(test_codes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
