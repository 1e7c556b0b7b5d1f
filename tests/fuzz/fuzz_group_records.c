/* Any records of __consumer_offsets, as a coordinator loads them: u16 size and key, u16 size and value; a value of the
 * size 65535 is a tombstone. What they come to is asked for in every way, expires, and is stored again: those records,
 * loaded by another coordinator, come to the same. Members' subscriptions are read on the way (offsets of topics that
 * nobody subscribes to may be deleted). */
#include "base/assert.h"
#include "coord/coord.h"
#include "feed.h"

#define TOMBSTONE 0xffffu
#define GROUPS_MAX 8

static struct coord *load(struct mem *m, struct feed *f) {
    struct coord_config config;
    coord_config_init(&config);
    struct coord *c = coord_create(m, &config, 1);
    while (feed_left(f) > 0) {
        size_t key_size, value_size = 0;
        const uint8_t *key = feed_piece(f, &key_size), *value = NULL;
        uint16_t n = feed_u16(f);
        if (n != TOMBSTONE) value = feed_bytes(f, n, &value_size);
        enum err e = coord_load(c, key, key_size, value, value_size);
        ASSERT(e == OK || e == ERR_PROTOCOL || e == ERR_VERSION);
    }
    return c;
}

/* What c holds, loaded into another coordinator. */
static struct coord *copy(struct mem *m, struct coord *c) {
    struct coord_config config;
    coord_config_init(&config);
    struct coord *other = coord_create(m, &config, 2);
    struct coord_effects all;
    coord_dump(c, &all);
    for (size_t i = 0; i < all.count; i++) {
        const struct coord_record *r = &all.records[i];
        enum err e = coord_load(other, r->key, r->key_size, r->value, r->value_size);
        ASSERT(e == OK);
    }
    coord_effects_deinit(&all);
    return other;
}

static void same(struct coord *a, struct coord *b) {
    struct coord_effects x, y;
    coord_dump(a, &x);
    coord_dump(b, &y);
    ASSERT(x.count == y.count && x.size_bytes == y.size_bytes);
    for (size_t i = 0; i < x.count; i++) {
        const struct coord_record *r = &x.records[i], *s = &y.records[i];
        ASSERT(r->key_size == s->key_size && memcmp(r->key, s->key, r->key_size) == 0);
        ASSERT(r->value_size == s->value_size && memcmp(r->value, s->value, r->value_size) == 0);
    }
    coord_effects_deinit(&x);
    coord_effects_deinit(&y);
}

static void settle(struct coord *c, struct coord_now now) {
    struct coord_effects e;
    while (coord_effects_take(c, &e)) {
        uint64_t sequence = e.sequence;
        coord_effects_deinit(&e);
        coord_durable(c, now, sequence);
    }
}

static void answered(struct coord_reply *reply) {
    *(unsigned *)reply->context += 1;
}

static void use(struct mem *m, struct coord *c) {
    struct arena a;
    arena_init(&a, m);
    struct coord_now now = {.mono_ms = 1000, .wall_ms = 1700000000000};
    coord_loaded(c, now);
    struct kafka_string_array none = {NULL, 0};
    struct kafka_list_groups_response_group_array groups;
    enum err e = coord_list(c, &none, &none, &groups, &a);
    ASSERT(e == OK);
    unsigned asked = 0, got = 0;
    struct coord_reply replies[2 * GROUPS_MAX];
    struct coord_delete_item deletions[2 * GROUPS_MAX];
    for (int32_t i = 0; i < groups.count && i < GROUPS_MAX; i++) {
        struct kafka_string group = groups.items[i].group_id;
        struct coord_reply *describe = &replies[asked++], *delete = &replies[asked++];
        *describe = *delete = (struct coord_reply){.arena = &a, .done = answered, .context = &got};
        coord_describe(c, 5, group, describe);
        struct coord_fetch fetch = {.group_id = group, .all = true};
        (void)!coord_fetch_offsets(c, &fetch, &a);
        struct coord_delete_item *items = &deletions[2 * i];
        items[0] = (struct coord_delete_item){.topic = kafka_string_of("topic")};
        items[1] = (struct coord_delete_item){.topic = kafka_string_of("")};
        if (fetch.item_count > 0) items[1].topic = fetch.items[0].topic;
        coord_delete_offsets(c, now, group, items, 2, delete);
    }
    settle(c, now);
    ASSERT(asked == got);
    struct kafka_uuid id = {{1}};
    coord_topic_is(c, now, kafka_string_of("topic"), &id);
    settle(c, now);
    coord_topic_deleted(c, now, kafka_string_of("topic"), &id);
    for (int i = 0; i < 3; i++) {
        now.mono_ms += 60000;
        now.wall_ms += (int64_t)8 * 24 * 3600 * 1000;
        coord_tick(c, now);
        settle(c, now);
    }
    arena_deinit(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct feed f = feed_of(data, size);
    struct coord *one = load(&m, &f), *two = copy(&m, one);
    same(one, two);
    use(&m, one);
    struct coord *three = copy(&m, one);
    same(one, three);
    struct coord *const all[] = {one, two, three};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        coord_unload(all[i]);
        coord_destroy(all[i]);
    }
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
