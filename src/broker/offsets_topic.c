/* __consumer_offsets: its name, its making, and which of its partitions is a group's. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "broker/broker_priv.h"

/* The next code point of UTF-8; a byte that begins none counts as U+FFFD. */
static uint32_t next_code_point(const uint8_t **at, const uint8_t *end) {
    uint8_t first = *(*at)++;
    if (first < 0x80) return first;
    int more = first >= 0xf0 && first < 0xf5 ? 3 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xc2 && first < 0xe0;
    if (more == 0 || end - *at < more) return 0xfffd;
    uint32_t v = first & (0x3fu >> more);
    for (int i = 0; i < more; i++) {
        if (((*at)[i] & 0xc0) != 0x80) return 0xfffd;
        v = v << 6 | ((*at)[i] & 0x3fu);
    }
    *at += more;
    return v;
}

int32_t offsets_topic_partition(const char *group, size_t size, int32_t partition_count) {
    ASSERT(partition_count > 0);
    uint32_t hash = 0;
    const uint8_t *at = (const uint8_t *)group, *end = at + size;
    while (at < end) {
        uint32_t c = next_code_point(&at, end);
        if (c >= 0x10000) {
            hash = hash * 31 + (0xd800 + ((c - 0x10000) >> 10));
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        hash = hash * 31 + c;
    }
    /* Kafka's Utils.abs: a sign that is dropped, not a bit that is masked; the one number without a counterpart is 0. */
    if (hash > INT32_MAX) hash = 0 - hash;
    return hash > INT32_MAX ? 0 : (int32_t)hash % partition_count;
}

struct making {
    struct broker *broker;
    enum err err;
};

static void make_there(void *arg) {
    struct making *k = arg;
    struct broker *b = k->broker;
    const struct config *c = b->config;
    /* Who waits for the lock finds the topic made, and every shard knows it. */
    fiber_mutex_lock(&b->offsets_topic_lock);
    k->err = OK;
    if (!meta_topic_by_name(b->meta, OFFSETS_TOPIC, strlen(OFFSETS_TOPIC))) {
        char segment_bytes[24];
        (void)snprintf(segment_bytes, sizeof(segment_bytes), "%d", c->offsets_topic_segment_bytes);
        struct meta_config configs[] = {{(char *)(uintptr_t) "cleanup.policy", (char *)(uintptr_t) "compact"},
                                        {(char *)(uintptr_t) "compression.type", (char *)(uintptr_t) "producer"},
                                        {(char *)(uintptr_t) "segment.bytes", segment_bytes}};
        struct topic_wish wish = {OFFSETS_TOPIC, c->offsets_topic_num_partitions,
                                  (int16_t)c->offsets_topic_replication_factor, configs, ARRAY_LEN(configs)};
        struct uuid id;
        k->err = broker_create_topic(b, &wish, &id);
        if (k->err == OK) {
            log_info(b->env->log, "topic created", "topic=%s partitions=%d by=coordinator", OFFSETS_TOPIC,
                     wish.partition_count);
        } else if (k->err != ERR_TOPIC_EXISTS) {
            log_error(b->env->log, "the topic of the group coordinators cannot be made", "topic=%s err=%s",
                      OFFSETS_TOPIC, err_name(k->err));
        }
    }
    fiber_mutex_unlock(&b->offsets_topic_lock);
}

enum err offsets_topic_route(struct shard *s, struct topic_route **out) {
    struct topic_route *t = routes_by_name(&s->routes, OFFSETS_TOPIC, strlen(OFFSETS_TOPIC));
    if (!t) {
        struct making k = {s->broker, OK};
        loop_call(s->broker->o.loop0, make_there, &k);
        t = routes_by_name(&s->routes, OFFSETS_TOPIC, strlen(OFFSETS_TOPIC));
        if (!t) return ERR_COORDINATOR_NOT_AVAILABLE;
    }
    *out = topic_route_ref(t);
    return OK;
}
