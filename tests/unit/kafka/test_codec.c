/* The interpreter by itself, on descriptors made here: they have what no message in use has (nullable structs, floats,
 * unsigned integers, fields that become tagged, default strings), and the bytes are written out by hand. */
#include "message_test.h"

static struct mem heap;

struct inner {
    int8_t a;
    struct kafka_string s;
};
struct outer {
    bool flag;
    uint16_t u16;
    uint32_t u32;
    double f64;
    struct inner *maybe;             /* nullable struct, 1+ */
    struct kafka_string named;       /* default "x", 0-1 */
    int32_t moved;                   /* on the wire in 0-1, tagged 1 in 2+; default 7 */
    struct kafka_bytes tagged_bytes; /* tag 0, 2+; nullable, default null */
    struct kafka_string old_style;   /* inflexible */
    struct kafka_uint16_array shorts;
    struct kafka_bytes_array blobs; /* elements may be null from 2 on, since the array may */
    int64_t ignorable;              /* 1+, ignorable, default -1 */
    bool needed;                    /* 1+, default true */
};

#define ALL                                                                                                            \
    { 0, 3 }
#define NO                                                                                                             \
    { 1, 0 }
#define F(type_, member, kind_, ...)                                                                                   \
    {                                                                                                                  \
        .name = #member, .offset = offsetof(struct type_, member), .kind = kind_, .tag = -1, .versions = ALL,          \
        .nullable = NO, .tagged = NO, __VA_ARGS__                                                                      \
    }

#pragma GCC diagnostic ignored "-Woverride-init"
static const struct kafka_field inner_fields[] = {
    F(inner, a, KAFKA_INT8, .width = 1, .default_int = -1),
    F(inner, s, KAFKA_STRING, .default_string = NULL),
};
static const struct kafka_layout inner_layouts[] = {{3, 0, 0, 3}, {3, 0, 0, 3}, {3, 0, 0, 3}, {3, 0, 0, 3}};
static const struct inner inner_defaults = {-1, {"", 0}};
static const struct kafka_struct inner_type = {
    "inner", inner_fields, inner_layouts, &inner_defaults, 2, sizeof(struct inner), 0, 3, 2};
static const struct kafka_field outer_fields[] = {
    F(outer, flag, KAFKA_BOOL, .default_int = 0),
    F(outer, u16, KAFKA_UINT16, .width = 2, .default_int = 65535),
    F(outer, u32, KAFKA_UINT32, .width = 4, .default_int = 4294967295),
    F(outer, f64, KAFKA_FLOAT64, .width = 8, .default_int = 0),
    F(outer, maybe, KAFKA_STRUCT_POINTER, .of = &inner_type, .versions = {1, 3}, .nullable = {1, 3},
      .flags = KAFKA_FIELD_DEFAULT_NULL),
    F(outer, named, KAFKA_STRING, .default_string = "x", .versions = {0, 1}),
    F(outer, moved, KAFKA_INT32, .width = 4, .default_int = 7, .tag = 1, .tagged = {2, 3}),
    F(outer, tagged_bytes, KAFKA_BYTES, .tag = 0, .versions = {2, 3}, .tagged = {2, 3}, .nullable = {2, 3},
      .flags = KAFKA_FIELD_DEFAULT_NULL),
    F(outer, old_style, KAFKA_STRING, .flags = KAFKA_FIELD_INFLEXIBLE, .nullable = {3, 3}),
    F(outer, shorts, KAFKA_UINT16, .flags = KAFKA_FIELD_ARRAY),
    F(outer, blobs, KAFKA_BYTES, .flags = KAFKA_FIELD_ARRAY, .nullable = {2, 3}),
    F(outer, ignorable, KAFKA_INT64, .width = 8, .flags = KAFKA_FIELD_IGNORABLE, .default_int = -1, .versions = {1, 3}),
    F(outer, needed, KAFKA_BOOL, .default_int = 1, .versions = {1, 3}),
};
static const struct kafka_layout outer_layouts[] = {
    {0x076f, 0x0000, 0x1090, 0}, {0x1f7f, 0x0000, 0x0080, 0}, {0x1f1f, 0x00c0, 0x0020, 0}, {0x1f1f, 0x00c0, 0x0020, 0}};
static const struct outer outer_defaults = {.u16 = 65535,
                                            .u32 = 4294967295,
                                            .named = {"x", 1},
                                            .moved = 7,
                                            .tagged_bytes = {NULL, -1},
                                            .old_style = {"", 0},
                                            .ignorable = -1,
                                            .needed = true};
static const struct kafka_struct outer_type = {
    "outer", outer_fields, outer_layouts, &outer_defaults, 13, sizeof(struct outer), 0, 3, 2};

static void test_tables(void **state) {
    (void)state;
    check_tables(&inner_type);
    check_tables(&outer_type);
}

/* Encodes and compares with `expected`, then decodes that and compares the text of both. */
static void check(int16_t version, const struct outer *m, const uint8_t *expected, size_t expected_size) {
    struct outbuf o;
    outbuf_init(&o, &heap);
    assert_int_equal(kafka_encode(&outer_type, version, m, &o), OK);
    size_t size;
    uint8_t *data = flatten(&o, &size);
    assert_int_equal(size, expected_size);
    assert_memory_equal(data, expected, size);
    struct arena a;
    arena_init(&a, &heap);
    struct outer back;
    assert_int_equal(kafka_decode(&outer_type, version, data, size, &a, &back), OK);
    struct buf one = dump_message(&heap, &outer_type, m), two = dump_message(&heap, &outer_type, &back);
    assert_string_equal(one.data, two.data);
    buf_deinit(&one);
    buf_deinit(&two);
    for (size_t n = 0; n < size; n++) {
        uint8_t *prefix = exact_copy(data, n);
        assert_int_equal(kafka_decode(&outer_type, version, prefix, n, &a, &back), ERR_PROTOCOL);
        free(prefix);
    }
    arena_deinit(&a);
    outbuf_deinit(&o);
    free(data);
}
#define CHECK(version, m, ...)                                                                                         \
    do {                                                                                                               \
        const uint8_t bytes_[] = {__VA_ARGS__};                                                                        \
        check(version, m, bytes_, sizeof(bytes_));                                                                     \
    } while (0)

static void test_bytes_by_hand(void **state) {
    (void)state;
    struct outer m;
    kafka_init(&outer_type, &m);
    CHECK(0, &m, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, /* flag, u16, u32, f64 */
          0, 1, 'x', 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); /* named, moved, old_style, shorts, blobs */
    struct inner inner = {5, kafka_string_of("in")};
    uint16_t shorts[] = {1, 0xfffe};
    struct kafka_bytes blobs[] = {{(const uint8_t *)"B", 1}, {NULL, -1}};
    m.flag = true;
    m.u16 = 0x8001;
    m.u32 = 0x80000002;
    m.f64 = 1.5; /* 3ff8... */
    m.maybe = &inner;
    m.named = kafka_string_of("");
    m.moved = -2;
    m.old_style = kafka_string_of("o");
    m.shorts = (struct kafka_uint16_array){shorts, 2};
    m.ignorable = 3;
    m.needed = false;
    CHECK(1, &m, 1, 0x80, 1, 0x80, 0, 0, 2, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, /* flag, u16, u32, f64 */
          1, 5, 0, 2, 'i', 'n',                                           /* maybe */
          0, 0, 0xff, 0xff, 0xff, 0xfe, 0, 1, 'o',                        /* named, moved, old_style */
          0, 0, 0, 2, 0, 1, 0xff, 0xfe, 0, 0, 0, 0,                       /* shorts, blobs */
          0, 0, 0, 0, 0, 0, 0, 3, 0);                                     /* ignorable, needed */
    m.named = kafka_string_of("x");                                       /* version 2 lacks it */
    m.blobs = (struct kafka_bytes_array){blobs, 2};
    m.tagged_bytes = (struct kafka_bytes){(const uint8_t *)"", 0};
    CHECK(2, &m, 1, 0x80, 1, 0x80, 0, 0, 2, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, /* flag, u16, u32, f64 */
          1, 5, 3, 'i', 'n', 0,                                           /* maybe, with its tags */
          0, 1, 'o', 3, 0, 1, 0xff, 0xfe, 3, 2, 'B', 0,                   /* old_style, shorts, blobs */
          0, 0, 0, 0, 0, 0, 0, 3, 0,                                      /* ignorable, needed */
          2, 0, 1, 1, 1, 4, 0xff, 0xff, 0xff, 0xfe);                      /* two tags: empty bytes, moved */
    m.maybe = NULL;
    m.moved = 7;
    m.tagged_bytes.size = -1;
    m.old_style = kafka_string_of(NULL);
    m.shorts.count = 0;
    m.blobs.count = -1;
    CHECK(3, &m, 1, 0x80, 1, 0x80, 0, 0, 2, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0,
          3, 0, 0);
    assert_int_equal(heap.allocated_bytes, 0);
}

static enum err encode(int16_t version, const struct outer *m) {
    struct outbuf o;
    outbuf_init(&o, &heap);
    enum err e = kafka_encode(&outer_type, version, m, &o);
    size_t size;
    assert_int_equal(kafka_encoded_size(&outer_type, version, m, &size), e);
    if (e == OK) assert_int_equal(size, outbuf_size(&o));
    outbuf_deinit(&o);
    return e;
}

static void test_what_a_version_cannot_say(void **state) {
    (void)state;
    struct outer m;
    kafka_init(&outer_type, &m);
    m.ignorable = 55;
    assert_int_equal(encode(0, &m), OK); /* dropped */
    m.needed = false;
    assert_int_equal(encode(0, &m), ERR_UNSUPPORTED_VERSION);
    assert_int_equal(encode(1, &m), OK);
    m.named = kafka_string_of("other");
    assert_int_equal(encode(1, &m), OK);
    assert_int_equal(encode(2, &m), ERR_UNSUPPORTED_VERSION);
    kafka_init(&outer_type, &m);
    m.old_style.size = -1;
    assert_int_equal(encode(2, &m), ERR_INVALID);
    assert_int_equal(encode(3, &m), OK);
    kafka_init(&outer_type, &m);
    m.shorts.count = -1;
    assert_int_equal(encode(3, &m), ERR_INVALID);
    kafka_init(&outer_type, &m);
    assert_int_equal(encode(-1, &m), ERR_UNSUPPORTED_VERSION);
    assert_int_equal(encode(4, &m), ERR_UNSUPPORTED_VERSION);
    char *longest = malloc(32768);
    memset(longest, 'l', 32768);
    m.old_style = kafka_string_view(longest, 32767);
    assert_int_equal(encode(0, &m), OK);
    assert_int_equal(encode(3, &m), OK);
    m.old_style.size = 32768;
    assert_int_equal(encode(0, &m), ERR_TOO_LARGE);
    assert_int_equal(encode(3, &m), ERR_TOO_LARGE);
    free(longest);
    assert_int_equal(heap.allocated_bytes, 0);
}

/* Version 3 with the tags given. */
static enum err decode_tags(const uint8_t *tags, size_t n, struct outer *m) {
    static const uint8_t start[] = {0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                    0xff, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    uint8_t *data = malloc(sizeof(start) + n);
    memcpy(data, start, sizeof(start));
    memcpy(data + sizeof(start), tags, n);
    struct arena a;
    arena_init(&a, &heap);
    enum err e = kafka_decode(&outer_type, 3, data, sizeof(start) + n, &a, m);
    arena_deinit(&a);
    free(data);
    return e;
}
#define TAGS(m, ...) decode_tags((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), m)

static void test_tags(void **state) {
    (void)state;
    struct outer m;
    assert_int_equal(TAGS(&m, 0), OK);
    assert_int_equal(m.moved, 7);
    assert_int_equal(m.tagged_bytes.size, -1);
    assert_int_equal(TAGS(&m, 1, 1, 4, 0, 0, 0, 9), OK);
    assert_int_equal(m.moved, 9);
    assert_int_equal(TAGS(&m, 2, 1, 4, 0, 0, 0, 9, 0x80, 1, 2, 'u', 'u'), OK); /* an unknown one behind */
    assert_int_equal(m.moved, 9);
    assert_int_equal(TAGS(&m, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0), OK);              /* the highest tag, empty */
    assert_int_equal(TAGS(&m, 2, 1, 4, 0, 0, 0, 9, 1, 4, 0, 0, 0, 9), ERR_PROTOCOL); /* twice */
    assert_int_equal(TAGS(&m, 2, 1, 4, 0, 0, 0, 9, 0, 1, 1), ERR_PROTOCOL);          /* out of order */
    assert_int_equal(TAGS(&m, 1, 1, 5, 0, 0, 0, 9, 0), ERR_PROTOCOL);                /* longer than its field */
    assert_int_equal(TAGS(&m, 1, 1, 3, 0, 0, 0), ERR_PROTOCOL);                      /* shorter */
    assert_int_equal(TAGS(&m, 1, 9, 4, 0), ERR_PROTOCOL);                            /* longer than the frame */
    assert_int_equal(TAGS(&m, 0xff, 0xff, 0xff, 0xff, 0x0f), ERR_PROTOCOL);          /* 2^32-1 of them */
    assert_int_equal(TAGS(&m, 0x80, 0x80, 0x80, 0x80, 0x10), ERR_PROTOCOL);          /* more than 32 bits */
    assert_int_equal(TAGS(&m, 1, 0x81, 0x80, 0x80, 0x80, 0x10, 4, 0, 0, 0, 9), ERR_PROTOCOL); /* tag 2^32 + 1 */
    assert_int_equal(TAGS(&m, 0x80, 0x80, 0x80, 0x80, 0x80, 0), ERR_PROTOCOL);                /* more than five bytes */
    assert_int_equal(TAGS(&m, 0, 0), ERR_PROTOCOL);                                           /* a trailing byte */
}

/* Null is -1, where null may be, and no other negative length is. */
static void test_negative_lengths(void **state) {
    (void)state;
    struct outer m;
    kafka_init(&outer_type, &m);
    struct outbuf o;
    outbuf_init(&o, &heap);
    assert_int_equal(kafka_encode(&outer_type, 3, &m, &o), OK);
    size_t size;
    uint8_t *data = flatten(&o, &size);
    const size_t at = 1 + 2 + 4 + 8 + 1; /* flag .. f64, null: there is old_style, empty */
    for (int length = -1; length >= INT16_MIN; length--) {
        be16_put(data + at, (uint16_t)length);
        struct arena a;
        arena_init(&a, &heap);
        enum err e = kafka_decode(&outer_type, 3, data, size, &a, &m);
        assert_int_equal(e, length == -1 ? OK : ERR_PROTOCOL);
        if (e == OK) assert_int_equal(m.old_style.size, -1);
        arena_deinit(&a);
    }
    free(data);
    outbuf_deinit(&o);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_array_claims(void **state) {
    (void)state;
    /* Version 0: `shorts` claims n elements, and k bytes follow. Only what fits is allocated for. */
    for (uint32_t n = 0; n < 200; n++) {
        uint8_t data[300] = {0};
        memset(data, 0, sizeof(data));
        size_t at = 15 + 2 + 4 + 2; /* flag .. f64, empty named, moved, empty old_style */
        be32_put(data + at, n);
        size_t size = at + 4 + 100;
        struct arena a;
        struct outer m;
        arena_init(&a, &heap);
        enum err e = kafka_decode(&outer_type, 0, data, size, &a, &m);
        assert_int_equal(e, n == 48 ? OK : ERR_PROTOCOL); /* 96 bytes and the count of `blobs` */
        assert_true(n <= 50 ? a.used_bytes <= 112 : a.used_bytes == 0);
        arena_deinit(&a);
    }
    assert_int_equal(heap.allocated_bytes, 0);
}

/* Every level of nesting claims as much as it can: together they still get no more than the frame is worth. */
static void test_nested_claims(void **state) {
    (void)state;
    enum { SIZE = 600000 };
    uint8_t *data = calloc(1, SIZE);
    struct arena a;
    struct kafka_create_topics_request m;
    static const uint32_t topics[] = {1, 1000, 10000, 30000, 37499};
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
        size_t at = 0, left = SIZE - 4 - topics[i] * 16;
        be32_put(data + at, topics[i]); /* CreateTopics 2: a topic is 16 bytes at least */
        at += 4 + 2 + 4 + 2;
        /* One assignment less than would fit, and one more. */
        for (int more = 0; more < 2; more++) {
            be32_put(data + at, (uint32_t)(left / 8) + (more ? 2 : 0));
            arena_init(&a, &heap);
            enum err e = kafka_create_topics_request_decode(&m, 2, data, SIZE, &a);
            assert_int_equal(e, ERR_PROTOCOL);
            assert_true(a.used_bytes <= (size_t)KAFKA_DECODE_RATIO * SIZE + 64);
            size_t outer = topics[i] * sizeof(struct kafka_create_topics_request_topic);
            if (more) assert_true(a.used_bytes <= ((outer + 15) & ~(size_t)15));
            if (!more) assert_true(a.used_bytes >= left / 8 * sizeof(struct kafka_create_topics_request_assignment));
            arena_deinit(&a);
        }
        be32_put(data + at, 0);
    }
    free(data);
    assert_int_equal(heap.allocated_bytes, 0);
}

static void test_limit_of_the_arena(void **state) {
    (void)state;
    /* DeleteTopics 1 with 1000 empty names: 16000 bytes of views, and what is to be done about each. */
    uint8_t data[4 + 2000 + 4] = {0, 0, 1000 >> 8, 1000 & 255};
    struct arena a;
    struct kafka_delete_topics_request m;
    arena_init(&a, &heap);
    a.limit_bytes = 15999;
    assert_int_equal(kafka_delete_topics_request_decode(&m, 1, data, sizeof(data), &a), ERR_TOO_LARGE);
    assert_int_equal(heap.allocated_bytes, 0);
    arena_reset(&a);
    a.limit_bytes = 16000 + 1000 * KAFKA_ELEMENT_BYTES - 1;
    assert_int_equal(kafka_delete_topics_request_decode(&m, 1, data, sizeof(data), &a), ERR_TOO_LARGE);
    arena_reset(&a);
    a.limit_bytes = 16000 + 1000 * KAFKA_ELEMENT_BYTES;
    assert_int_equal(kafka_delete_topics_request_decode(&m, 1, data, sizeof(data), &a), OK);
    assert_int_equal(m.topic_names.count, 1000);
    arena_deinit(&a);
}

static void test_records_by_reference(void **state) {
    (void)state;
    struct slab *slab = slab_create(&heap, 10000, 16);
    memset(slab->data, 'r', 10000);
    struct slice slices[3] = {slice_of(slab, 0, 5000), slice_of(slab, 0, 10), slice_of(slab, 5000, 5000)};
    struct arena a;
    arena_init(&a, &heap);
    struct kafka_produce_request request;
    kafka_produce_request_init(&request);
    struct kafka_produce_request_topic *topic = kafka_produce_request_topic_new(&a, 1);
    struct kafka_produce_request_partition *partition = kafka_produce_request_partition_new(&a, 1);
    topic->name = kafka_string_of("t");
    topic->partition_data = (struct kafka_produce_request_partition_array){partition, 1};
    request.topic_data = (struct kafka_produce_request_topic_array){topic, 1};
    partition->records = (struct kafka_records){.slices = slices, .slice_count = 3, .size = 10010};
    struct outbuf o;
    struct slices out;
    slices_init(&out, &heap);
    outbuf_init(&o, &heap);
    assert_int_equal(kafka_produce_request_encode(&request, 9, &o), OK);
    size_t counted;
    assert_int_equal(kafka_encoded_size(&kafka_produce_request_type, 9, &request, &counted), OK);
    outbuf_finish(&o, &out);
    assert_int_equal(out.size_bytes, counted);
    assert_int_equal(out.count, 5);
    assert_ptr_equal(out.items[1].data, slab->data);
    assert_ptr_equal(out.items[3].data, slab->data + 5000);
    slices_deinit(&out);
    partition->records.size = 10011;
    assert_int_equal(kafka_produce_request_encode(&request, 9, &o), ERR_INVALID);
    assert_int_equal(kafka_encoded_size(&kafka_produce_request_type, 9, &request, &counted), ERR_INVALID);
    outbuf_deinit(&o);
    for (int i = 0; i < 3; i++) slice_unref(&slices[i]);
    slab_unref(slab);
    arena_deinit(&a);
    assert_int_equal(heap.allocated_bytes, 0);
}

int main(void) {
    mem_init_heap(&heap);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_bytes_by_hand),
        cmocka_unit_test(test_what_a_version_cannot_say),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_negative_lengths),
        cmocka_unit_test(test_array_claims),
        cmocka_unit_test(test_records_by_reference),
        cmocka_unit_test(test_limit_of_the_arena),
        cmocka_unit_test(test_nested_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
