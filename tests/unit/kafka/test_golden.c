/* Every version of every message against bytes that another program made from Kafka's own definitions
 * (tests/golden/README.md): they decode to the values noted, encode to the same bytes, and no prefix, no extension and
 * no inflated count of them is accepted or costs memory. */
#include "message_test.h"

#include "base/assert.h"

struct golden {
    const struct kafka_struct *type;
    int16_t version;
    char *text; /* the message, as dump_message prints it */
    uint8_t *data;
    size_t size;
};

static struct mem heap;

static void check_decode(const struct golden *g) {
    struct arena a;
    arena_init(&a, &heap);
    uint8_t *message = malloc(g->type->size);
    memset(message, 0x5a, g->type->size);
    enum err e = kafka_decode(g->type, g->version, g->data, g->size, &a, message);
    if (e != OK) fail_msg("%s version %d: %s", g->type->name, g->version, err_name(e));
    struct buf text = dump_message(&heap, g->type, message);
    assert_string_equal(text.data, g->text);
    buf_deinit(&text);
    assert_true(a.held_bytes <= kafka_decode_bound(g->size));

    struct outbuf o;
    outbuf_init(&o, &heap);
    assert_int_equal(kafka_encode(g->type, g->version, message, &o), OK);
    size_t size, counted;
    uint8_t *again = flatten(&o, &size);
    assert_int_equal(size, g->size);
    assert_memory_equal(again, g->data, size);
    assert_int_equal(kafka_encoded_size(g->type, g->version, message, &counted), OK);
    assert_int_equal(counted, size);
    outbuf_deinit(&o);
    free(again);
    free(message);
    arena_deinit(&a);
}

static void check_refused(const struct golden *g, const uint8_t *data, size_t size, const char *why) {
    struct arena a;
    arena_init(&a, &heap);
    uint8_t *copy = exact_copy(data, size), *message = malloc(g->type->size);
    enum err e = kafka_decode(g->type, g->version, copy, size, &a, message);
    if (e != ERR_PROTOCOL)
        fail_msg("%s version %d, %s, %zu bytes: %s", g->type->name, g->version, why, size, err_name(e));
    free(message);
    free(copy);
    arena_deinit(&a);
}

static void check_truncations(const struct golden *g) {
    for (size_t n = 0; n < g->size; n++) check_refused(g, g->data, n, "prefix");
    uint8_t *longer = malloc(g->size + 1);
    if (g->size) memcpy(longer, g->data, g->size);
    longer[g->size] = 0;
    check_refused(g, longer, g->size + 1, "trailing byte");
    free(longer);
}

/* Large claims at every position: whatever they hit, the answer is not believed and memory stays within its bound. */
static void check_claims(const struct golden *g) {
    static const uint8_t claims[][5] = {
        {0x7f, 0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 0x07}, {0xff, 0xff, 0xff, 0xff, 0x0f},
        {0x00, 0x7f, 0xff, 0xff, 0x00}, {0xff, 0xff, 0x03, 0x00, 0x00}, {0xff, 0xff, 0xff, 0xfe, 0x00},
    };
    uint8_t *message = malloc(g->type->size);
    for (size_t i = 0; i < g->size; i++) {
        for (size_t c = 0; c < sizeof(claims) / sizeof(claims[0]); c++) {
            uint8_t *copy = exact_copy(g->data, g->size);
            memcpy(copy + i, claims[c], g->size - i < 5 ? g->size - i : 5);
            struct arena a;
            arena_init(&a, &heap);
            uint64_t before = heap.allocated_bytes;
            enum err e = kafka_decode(g->type, g->version, copy, g->size, &a, message);
            assert_true(e == OK || e == ERR_PROTOCOL);
            assert_true(a.held_bytes <= kafka_decode_bound(g->size));
            assert_true(a.used_bytes <= (KAFKA_DECODE_RATIO + 8) * g->size);
            assert_true(heap.allocated_bytes - before <= kafka_decode_bound(g->size) + 4096);
            arena_deinit(&a);
            free(copy);
        }
    }
    free(message);
}

/* Calls `check` for each case of a file; returns how many there were, and marks their versions. */
static int each_case(const char *file, const struct kafka_struct *type, void (*check)(const struct golden *),
                     bool *versions) {
    FILE *f = golden_open(file);
    char *line = NULL;
    size_t capacity = 0;
    int cases = 0, state = 0;
    struct golden g = {.type = type};
    while (getline(&line, &capacity, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#' || line[0] == '\0') continue;
        if (state == 0) {
            assert_int_equal(sscanf(line, "case %*s %hd", &g.version), 1);
        } else if (state == 1) {
            g.text = strdup(line);
        } else {
            g.data = golden_bytes(line, &g.size);
            check(&g);
            versions[g.version] = true;
            free(g.data);
            free(g.text);
            cases++;
        }
        state = (state + 1) % 3;
    }
    assert_int_equal(state, 0);
    free(line);
    fclose(f);
    return cases;
}

/* Records that a coordinator stores: structs of their own, not of an API. */
static void each_stored(void (*check)(const struct golden *)) {
    static const struct {
        const char *file;
        const struct kafka_struct *type;
    } stored[] = {
        {"kafka/offset_commit_key.txt", &kafka_offset_commit_key_type},
        {"kafka/offset_commit_value.txt", &kafka_offset_commit_value_type},
        {"kafka/group_metadata_key.txt", &kafka_group_metadata_key_type},
        {"kafka/group_metadata_value.txt", &kafka_group_metadata_value_type},
    };
    for (size_t i = 0; i < ARRAY_LEN(stored); i++) {
        const struct kafka_struct *type = stored[i].type;
        bool versions[128] = {false};
        assert_true(each_case(stored[i].file, type, check, versions) > 0);
        for (int v = type->first_version; v <= type->last_version; v++) assert_true(versions[v]);
    }
}

static void each_message(void (*check)(const struct golden *)) {
    static const char *const files[] = {
#define X(upper, lower, text, key, min, max, flexible) #lower,
        KAFKA_APIS(X)
#undef X
    };
    for (size_t i = 0; i < KAFKA_API_COUNT; i++) {
        for (int part = 0; part < 2; part++) {
            char file[128];
            bool versions[128] = {false};
            snprintf(file, sizeof(file), "kafka/%s_%s.txt", files[i], part ? "response" : "request");
            int cases = each_case(file, part ? kafka_apis[i].response : kafka_apis[i].request, check, versions);
            assert_true(cases > 0);
            for (int16_t v = kafka_apis[i].min_version; v <= kafka_apis[i].max_version; v++) assert_true(versions[v]);
        }
    }
    each_stored(check);
}

static void test_decode_and_encode(void **state) {
    (void)state;
    each_message(check_decode);
    assert_int_equal(heap.allocated_bytes, 0);
}
static void test_every_prefix_is_refused(void **state) {
    (void)state;
    each_message(check_truncations);
    assert_int_equal(heap.allocated_bytes, 0);
}
static void test_claims_are_not_believed(void **state) {
    (void)state;
    each_message(check_claims);
    assert_int_equal(heap.allocated_bytes, 0);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_and_encode),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_claims_are_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
