/* Any bytes as what members of a group tell each other: an assignment and a subscription, as `oxbow consume` and `oxbow
 * group` read them. What decodes encodes, and comes back the same; memory stays in proportion to the bytes. */
#include "base/assert.h"
#include "cli/consumer_protocol.h"
#include "feed.h"

/* A topic of an assignment takes six bytes at least, a name of a subscription two. */
#define BOUND(size) (16 * (size) + 2 * ARENA_CHUNK_MAX)

static void assignment(struct mem *m, const uint8_t *data, size_t size) {
    struct arena a;
    arena_init(&a, m);
    struct assignment one, two;
    bool sound = assignment_decode(data, size, &a, &one);
    ASSERT(a.held_bytes <= BOUND(size));
    ASSERT(sound || one.count == 0);
    if (sound) {
        struct buf bytes;
        buf_init(&bytes, m);
        assignment_encode(&one, &bytes);
        sound = assignment_decode(bytes.data, bytes.size, &a, &two);
        ASSERT(sound && one.count == two.count);
        for (int32_t i = 0; i < one.count; i++) {
            const struct assigned_topic *x = &one.topics[i], *y = &two.topics[i];
            ASSERT(kafka_string_equal(x->topic, y->topic) && x->partitions.count == y->partitions.count);
            for (int32_t k = 0; k < x->partitions.count; k++) ASSERT(x->partitions.items[k] == y->partitions.items[k]);
        }
        buf_deinit(&bytes);
    }
    arena_deinit(&a);
}

static void subscription(struct mem *m, const uint8_t *data, size_t size) {
    struct arena a;
    arena_init(&a, m);
    struct kafka_string_array one, two;
    bool sound = subscription_decode(data, size, &a, &one);
    ASSERT(a.held_bytes <= BOUND(size));
    if (sound) {
        struct buf bytes;
        buf_init(&bytes, m);
        subscription_encode(one.items, one.count, &bytes);
        sound = subscription_decode(bytes.data, bytes.size, &a, &two);
        ASSERT(sound && one.count == two.count);
        for (int32_t i = 0; i < one.count; i++) ASSERT(kafka_string_equal(one.items[i], two.items[i]));
        buf_deinit(&bytes);
    }
    arena_deinit(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    uint8_t *copy = mem_alloc(&m, size); /* of just that size: a read beyond it is seen */
    memcpy(copy, data, size);
    assignment(&m, copy, size);
    subscription(&m, copy, size);
    mem_free(&m, copy);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
