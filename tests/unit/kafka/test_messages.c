/* Every generated message at every version, with random contents: encoded, decoded, the same again. And what the tables
 * themselves promise. */
#include "message_test.h"

static struct mem heap;

static void round_trip(struct rng *r, const struct kafka_struct *type, int16_t version) {
    struct arena made, read;
    arena_init(&made, &heap);
    arena_init(&read, &heap);
    void *message = kafka_new(type, &made, 1), *back = arena_zalloc(&made, type->size);
    fill_struct(r, &made, type, version, message);
    struct outbuf o;
    outbuf_init(&o, &heap);
    enum err e = kafka_encode(type, version, message, &o);
    if (e != OK) fail_msg("%s version %d: %s", type->name, version, err_name(e));
    size_t size, counted;
    assert_int_equal(kafka_encoded_size(type, version, message, &counted), OK);
    uint8_t *data = flatten(&o, &size);
    assert_int_equal(size, counted);
    e = kafka_decode(type, version, data, size, &read, back);
    if (e != OK) fail_msg("%s version %d: %s", type->name, version, err_name(e));
    struct buf one = dump_message(&heap, type, message), two = dump_message(&heap, type, back);
    assert_string_equal(one.data, two.data);
    assert_true(read.held_bytes <= kafka_decode_bound(size));
    assert_true(read.used_bytes <= (KAFKA_DECODE_RATIO + 8) * size);
    buf_deinit(&one);
    buf_deinit(&two);
    outbuf_deinit(&o);
    free(data);
    arena_deinit(&made);
    arena_deinit(&read);
}

static void test_random_round_trips(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 20240601);
    for (size_t i = 0; i < KAFKA_API_COUNT; i++) {
        for (int16_t v = kafka_apis[i].min_version; v <= kafka_apis[i].max_version; v++) {
            for (int round = 0; round < 60; round++) {
                round_trip(&r, kafka_apis[i].request, v);
                round_trip(&r, kafka_apis[i].response, v);
            }
        }
    }
    for (int16_t v = 0; v <= 2; v++) round_trip(&r, &kafka_request_header_type, v);
    for (int16_t v = 0; v <= 1; v++) round_trip(&r, &kafka_response_header_type, v);
    assert_int_equal(heap.allocated_bytes, 0);
}

/* The smallest encodings in the tables are those of messages with nothing in them. */
static void check_min_size(const struct kafka_struct *type) {
    struct arena a;
    arena_init(&a, &heap);
    void *message = kafka_new(type, &a, 1);
    for (int16_t v = type->first_version; v <= type->last_version; v++) {
        size_t size;
        enum err e = kafka_encoded_size(type, v, message, &size);
        assert_true(e == OK || e == ERR_INVALID); /* a null default may not be allowed yet */
        if (e == OK) assert_int_equal(size, kafka_layout_of(type, v)->min_size);
    }
    arena_deinit(&a);
    for (unsigned i = 0; i < type->field_count; i++) {
        if (type->fields[i].kind == KAFKA_STRUCT) check_min_size(type->fields[i].of);
    }
}

static void test_tables(void **state) {
    (void)state;
    for (size_t i = 0; i < KAFKA_API_COUNT; i++) {
        check_tables(kafka_apis[i].request);
        check_tables(kafka_apis[i].response);
    }
    check_tables(&kafka_request_header_type);
    check_tables(&kafka_response_header_type);
}

static void test_smallest_encodings(void **state) {
    (void)state;
    for (size_t i = 0; i < KAFKA_API_COUNT; i++) {
        /* Top-level messages whose fields vanish at some versions (DeleteTopics) are included. */
        check_min_size(kafka_apis[i].request);
        check_min_size(kafka_apis[i].response);
    }
}

static void test_api_table(void **state) {
    (void)state;
    static const struct {
        int16_t key, min, max, flexible;
    } expected[] = {
        {0, 0, 13, 9},   {1, 0, 18, 12}, {2, 0, 11, 6}, {3, 0, 13, 9}, {8, 0, 10, 8}, {9, 0, 10, 6}, {10, 0, 6, 3},
        {11, 0, 9, 6},   {12, 0, 4, 4},  {13, 0, 5, 4}, {14, 0, 5, 4}, {15, 0, 6, 5}, {16, 0, 5, 3}, {18, 0, 4, 3},
        {19, 0, 7, 5},   {20, 0, 6, 4},  {21, 0, 2, 2}, {22, 0, 5, 2}, {23, 0, 4, 4}, {32, 0, 4, 4}, {33, 0, 2, 2},
        {35, 0, 5, 2},   {37, 0, 3, 2},  {42, 0, 2, 2}, {43, 0, 2, 2}, {44, 0, 1, 1}, {45, 0, 1, 0}, {46, 0, 0, 0},
        {47, 0, 0, 127}, {60, 0, 2, 0},  {61, 0, 0, 0}, {74, 0, 1, 0}, {75, 0, 0, 0},
    };
    assert_int_equal(KAFKA_API_COUNT, sizeof(expected) / sizeof(expected[0]));
    for (size_t i = 0; i < KAFKA_API_COUNT; i++) {
        const struct kafka_api *api = kafka_api_find(expected[i].key);
        assert_ptr_equal(api, &kafka_apis[i]);
        assert_int_equal(api->key, expected[i].key);
        assert_int_equal(api->min_version, expected[i].min);
        assert_int_equal(api->max_version, expected[i].max);
        assert_int_equal(api->first_flexible, expected[i].flexible);
    }
    assert_null(kafka_api_find(-1));
    assert_null(kafka_api_find(4));
    assert_null(kafka_api_find(KAFKA_API_KEY_MAX + 1));
    assert_null(kafka_api_find(INT16_MAX));
    assert_string_equal(kafka_api_find(KAFKA_API_FETCH)->name, "Fetch");
}

static void test_defaults(void **state) {
    (void)state;
    struct kafka_fetch_request f;
    kafka_fetch_request_init(&f);
    assert_int_equal(f.cluster_id.size, -1);
    assert_int_equal(f.replica_id, -1);
    assert_int_equal(f.replica_state.replica_epoch, -1);
    assert_int_equal(f.max_bytes, INT32_MAX);
    assert_int_equal(f.session_epoch, -1);
    assert_int_equal(f.rack_id.size, 0);
    struct kafka_metadata_response_topic t;
    kafka_metadata_response_topic_init(&t);
    assert_int_equal(t.topic_authorized_operations, INT32_MIN);
    struct kafka_create_topics_request c;
    kafka_create_topics_request_init(&c);
    assert_int_equal(c.timeout_ms, 60000);
    struct kafka_metadata_request m;
    kafka_metadata_request_init(&m);
    assert_true(m.allow_auto_topic_creation);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_round_trips), cmocka_unit_test(test_tables),
        cmocka_unit_test(test_smallest_encodings), cmocka_unit_test(test_api_table),
        cmocka_unit_test(test_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
