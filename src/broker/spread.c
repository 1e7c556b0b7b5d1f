#include "broker/spread.h"

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/crew.h"

#define SPOTS_MAX 16u /* at once, for one request and shard: opening a partition, and some questions, go to the store */

struct share { /* of one shard */
    struct shard *shard;
    struct spot *spots;
    size_t *which;
    size_t count;
    const char *name;
    enum err (*fn)(void *ctx, size_t i, struct partition *p);
    void *ctx;
};

void spot_find(struct request *r, struct kafka_string topic, int32_t index, struct spot *out) {
    struct topic_route *t =
        topic.size < 0 ? NULL : routes_by_name(&request_shard(r)->routes, topic.data, (size_t)topic.size);
    *out = (struct spot){.index = index};
    if (!t || index < 0 || index >= t->partition_count) {
        out->err = ERR_UNKNOWN_TOPIC_OR_PARTITION;
        out->settled = true;
    } else {
        out->route = topic_route_ref(t);
    }
}

static void share_one(void *ctx, size_t i) {
    const struct share *h = ctx;
    struct spot *s = &h->spots[h->which[i]];
    struct slot *slot;
    s->err = shard_acquire(h->shard, s->route, s->index, &slot);
    if (s->err != OK) return;
    s->err = h->fn(h->ctx, h->which[i], slot_partition(slot));
    slot_release(slot);
}

static void share_there(void *arg) {
    struct share *h = arg;
    crew_run(h->name, h->count, SPOTS_MAX, share_one, h);
}

void spots_run(struct request *r, const char *name, struct spot *spots, size_t count,
               enum err (*fn)(void *ctx, size_t i, struct partition *p), void *ctx) {
    struct broker *b = request_shard(r)->broker;
    size_t *which = ARENA_ARRAY(&r->arena, size_t, count);
    for (unsigned s = 0; s < b->shard_count; s++) {
        struct share h = {&b->shards[s], spots, which, 0, name, fn, ctx};
        for (size_t i = 0; i < count; i++) {
            if (!spots[i].settled && spots[i].route->partitions[spots[i].index].shard == s) which[h.count++] = i;
        }
        if (h.count == 0) continue;
        loop_call(h.shard->loop, share_there, &h);
        for (size_t i = 0; i < h.count; i++) spots[which[i]].settled = true;
    }
}

void spots_release(struct spot *spots, size_t count) {
    for (size_t i = 0; i < count; i++) topic_route_unref(spots[i].route);
}
