/* Frames: header versions, requests opened, responses made, bytes that are no request. */
#include "message_test.h"

static struct mem heap;

static void test_header_versions(void **state) {
    (void)state;
    const struct kafka_api *fetch = kafka_api_find(KAFKA_API_FETCH), *versions = kafka_api_find(KAFKA_API_API_VERSIONS);
    assert_int_equal(kafka_request_header_version(fetch, 11), 1);
    assert_int_equal(kafka_request_header_version(fetch, 12), 2);
    assert_int_equal(kafka_response_header_version(fetch, 11), 0);
    assert_int_equal(kafka_response_header_version(fetch, 12), 1);
    assert_int_equal(kafka_request_header_version(versions, 2), 1);
    assert_int_equal(kafka_request_header_version(versions, 3), 2);
    assert_int_equal(kafka_response_header_version(versions, 4), 0);
}

static void test_requests_by_hand(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, &heap);
    struct kafka_request_info info;
    /* Metadata 1, correlation 7, client "me", null topics. */
    static const uint8_t old[] = {0, 3, 0, 1, 0, 0, 0, 7, 0, 2, 'm', 'e', 0xff, 0xff, 0xff, 0xff};
    assert_int_equal(kafka_request_open(old, sizeof(old), &a, &info), OK);
    assert_int_equal(info.api->key, KAFKA_API_METADATA);
    assert_int_equal(info.api_version, 1);
    assert_int_equal(info.correlation_id, 7);
    assert_true(kafka_string_equal(info.client_id, kafka_string_of("me")));
    assert_int_equal(info.body_size, 4);
    struct kafka_metadata_request m;
    assert_int_equal(kafka_metadata_request_decode(&m, 1, info.body, info.body_size, &a), OK);
    assert_int_equal(m.topics.count, -1);
    /* ApiVersions 3: header 2 (old-style client id, here null, then a tag that nobody knows). */
    static const uint8_t flexible[] = {0, 18, 0, 3, 0, 0, 0, 8, 0xff, 0xff, 1, 5, 1, 'x', 4, 'l', 'i', 'b', 2, '1', 0};
    assert_int_equal(kafka_request_open(flexible, sizeof(flexible), &a, &info), OK);
    assert_int_equal(info.client_id.size, -1);
    struct kafka_api_versions_request v;
    assert_int_equal(kafka_api_versions_request_decode(&v, 3, info.body, info.body_size, &a), OK);
    assert_true(kafka_string_equal(v.client_software_name, kafka_string_of("lib")));
    assert_true(kafka_string_equal(v.client_software_version, kafka_string_of("1")));
    for (size_t n = 0; n < 14; n++) {
        uint8_t *prefix = exact_copy(flexible, n);
        assert_int_equal(kafka_request_open(prefix, n, &a, &info), ERR_PROTOCOL);
        free(prefix);
    }
    /* A version from the future, and an unknown key: enough is known for an answer. */
    static const uint8_t future[] = {0, 18, 0, 99, 0, 0, 0, 9, 1, 2, 3};
    assert_int_equal(kafka_request_open(future, sizeof(future), &a, &info), ERR_UNSUPPORTED_VERSION);
    assert_int_equal(info.api->key, KAFKA_API_API_VERSIONS);
    assert_int_equal(info.api_version, 99);
    assert_int_equal(info.correlation_id, 9);
    static const uint8_t unknown[] = {3, 0xe7, 0, 0, 0, 0, 0, 9};
    assert_int_equal(kafka_request_open(unknown, sizeof(unknown), &a, &info), ERR_UNSUPPORTED_VERSION);
    assert_null(info.api);
    assert_int_equal(info.api_key, 999);
    static const uint8_t negative[] = {0, 3, 0xff, 0xff, 0, 0, 0, 9, 0, 0};
    assert_int_equal(kafka_request_open(negative, sizeof(negative), &a, &info), ERR_UNSUPPORTED_VERSION);
    static const uint8_t produce14[] = {0, 0, 0, 14, 0, 0, 0, 9, 0, 0};
    assert_int_equal(kafka_request_open(produce14, sizeof(produce14), &a, &info), ERR_UNSUPPORTED_VERSION);
    arena_deinit(&a);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_requests_and_responses_of_ours(void **state) {
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    for (size_t i = 0; i < KAFKA_API_COUNT; i++) {
        const struct kafka_api *api = &kafka_apis[i];
        for (int16_t v = api->min_version; v <= api->max_version; v++) {
            struct arena a;
            struct outbuf o;
            arena_init(&a, &heap);
            outbuf_init(&o, &heap);
            void *request = kafka_new(api->request, &a, 1), *response = kafka_new(api->response, &a, 1);
            fill_struct(&r, &a, api->request, v, request);
            fill_struct(&r, &a, api->response, v, response);
            /* Two frames behind each other in one buffer. */
            assert_int_equal(kafka_request_encode(api, v, 4711, kafka_string_of("client"), request, &o), OK);
            size_t first = outbuf_size(&o), size;
            assert_int_equal(kafka_response_encode(api, v, -5, response, &o), OK);
            uint8_t *all = flatten(&o, &size);
            assert_int_equal(be32_get(all), first - 4);
            assert_int_equal(be32_get(all + first), size - first - 4);

            struct kafka_request_info info;
            assert_int_equal(kafka_request_open(all + 4, first - 4, &a, &info), OK);
            assert_int_equal(info.correlation_id, 4711);
            assert_true(kafka_string_equal(info.client_id, kafka_string_of("client")));
            assert_int_equal(kafka_decode(api->request, v, info.body, info.body_size, &a, request), OK);
            int32_t correlation_id;
            const uint8_t *body;
            size_t body_size;
            assert_int_equal(
                kafka_response_open(api, v, all + first + 4, size - first - 4, &a, &correlation_id, &body, &body_size),
                OK);
            assert_int_equal(correlation_id, -5);
            assert_int_equal(kafka_decode(api->response, v, body, body_size, &a, response), OK);
            free(all);
            outbuf_deinit(&o);
            arena_deinit(&a);
        }
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_versions),
        cmocka_unit_test(test_requests_by_hand),
        cmocka_unit_test(test_requests_and_responses_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
