#include "broker/route.h"

#include "base/assert.h"
#include "stream/stream.h"

struct topic_route *topic_route_create(struct mem *m, const struct meta_topic *t, const struct topic_config *defaults,
                                       unsigned shard_count) {
    ASSERT(shard_count > 0 && t->partition_count > 0);
    struct topic_route *r = mem_zalloc(m, sizeof(*r) + (size_t)t->partition_count * sizeof(r->partitions[0]));
    INIT_OBJ(r, TOPIC_ROUTE_MAGIC);
    atomic_init(&r->refs, 1);
    r->mem = m;
    r->id = t->id;
    r->name = mem_strdup(m, t->name);
    r->name_size = strlen(t->name);
    r->replication_factor = t->replication_factor;
    topic_config_apply(defaults, t->configs, t->config_count, &r->config);
    r->partition_count = t->partition_count;
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct meta_partition *p = &t->partitions[i];
        r->partitions[i] = (struct partition_route){p->stream, p->epoch, stream_home(p->stream, shard_count)};
    }
    return r;
}

struct topic_route *topic_route_ref(struct topic_route *t) {
    CHECK_OBJ(t, TOPIC_ROUTE_MAGIC);
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void topic_route_unref(struct topic_route *t) {
    if (!t) return;
    CHECK_OBJ(t, TOPIC_ROUTE_MAGIC);
    if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) > 1) return;
    t->magic = 0;
    mem_free(t->mem, t->name);
    mem_free(t->mem, t);
}

void routes_init(struct routes *r, struct mem *m) {
    mapstr_init(&r->by_name, m);
    mapstr_init(&r->by_id, m);
}

void routes_deinit(struct routes *r) {
    struct topic_route *t;
    for (size_t cursor = 0; (t = mapstr_next(&r->by_id, &cursor, NULL, NULL)) != NULL;) topic_route_unref(t);
    mapstr_deinit(&r->by_name);
    mapstr_deinit(&r->by_id);
}

void routes_put(struct routes *r, struct topic_route *t) {
    CHECK_OBJ(t, TOPIC_ROUTE_MAGIC);
    mapstr_put(&r->by_name, t->name, t->name_size, t);
    struct topic_route *old = mapstr_put(&r->by_id, t->id.bytes, sizeof(t->id.bytes), t);
    topic_route_unref(old);
}

void routes_remove(struct routes *r, const struct uuid *id) {
    struct topic_route *t = mapstr_remove(&r->by_id, id->bytes, sizeof(id->bytes));
    if (!t) return;
    /* The name may belong to a newer topic by now. */
    if (mapstr_get(&r->by_name, t->name, t->name_size) == t) mapstr_remove(&r->by_name, t->name, t->name_size);
    topic_route_unref(t);
}

struct topic_route *routes_by_name(const struct routes *r, const char *name, size_t size) {
    return mapstr_get(&r->by_name, name, size);
}

struct topic_route *routes_by_id(const struct routes *r, const void *id) {
    return mapstr_get(&r->by_id, id, sizeof(struct uuid));
}

bool topic_is_internal(const char *name, size_t size) {
    static const char *const internal[] = {"__consumer_offsets", "__transaction_state"};
    for (size_t i = 0; i < ARRAY_LEN(internal); i++) {
        if (strlen(internal[i]) == size && memcmp(internal[i], name, size) == 0) return true;
    }
    return false;
}
