/* The image: sorted arrays (topics by name, extents of streams, brokers, brokers' values) and a map by topic id. Everything that a
 * record gives out or assumes is checked before anything is changed, for records come from outside: a damaged or
 * foreign log must be refused, never guessed at. The same check is what a commit is tested against before it is
 * written, so a record that is in the log applies. */
#include "meta/meta_image.h"

#include "base/assert.h"

#define NUMBER_BITS 43u /* of a position: what is left of 63 bits above the index */
#define INDEX_BITS 20u

void meta_image_init(struct meta_image *i, struct mem *m) {
    *i = (struct meta_image){.mem = m, .next_stream = 1};
    mapstr_init(&i->topics_by_id, m);
}

static void config_free(struct meta_config *c, struct mem *m) {
    mem_free(m, c->name);
    mem_free(m, c->value);
}

void meta_topic_free(struct meta_topic *t, struct mem *m) {
    for (size_t k = 0; k < t->config_count; k++) config_free(&t->configs[k], m);
    mem_free(m, t->configs);
    mem_free(m, t->partitions);
    mem_free(m, t->name);
    mem_free(m, t);
}

static void broker_free(struct meta_broker *b, struct mem *m) {
    mem_free(m, b->rack);
    mem_free(m, b->endpoint);
}

void meta_image_deinit(struct meta_image *i) {
    if (!i->mem) return;
    for (size_t k = 0; k < i->topic_count; k++) meta_topic_free(i->topics[k], i->mem);
    for (size_t k = 0; k < i->broker_count; k++) broker_free(&i->brokers[k], i->mem);
    for (size_t k = 0; k < i->broker_configs_count; k++) {
        struct meta_broker_configs *b = &i->broker_configs[k];
        for (size_t n = 0; n < b->config_count; n++) config_free(&b->configs[n], i->mem);
        mem_free(i->mem, b->configs);
    }
    mem_free(i->mem, i->topics);
    mem_free(i->mem, i->brokers);
    mem_free(i->mem, i->broker_configs);
    mem_free(i->mem, i->extents);
    mapstr_deinit(&i->topics_by_id);
    *i = (struct meta_image){0};
}

struct incarnation meta_position(uint64_t number, uint64_t index) {
    ASSERT(number < 1ull << NUMBER_BITS && index < 1ull << INDEX_BITS);
    return (struct incarnation){(number << INDEX_BITS | index) + 1};
}

/* --- Looking up. */

static int text_order(const char *a, size_t a_size, const char *b, size_t b_size) {
    size_t n = a_size < b_size ? a_size : b_size;
    int order = n ? memcmp(a, b, n) : 0;
    if (order != 0) return order;
    return (a_size > b_size) - (a_size < b_size);
}

/* Where the name is, or belongs. */
static size_t topic_place(const struct meta_image *i, const char *name, size_t name_size, bool *found) {
    size_t low = 0, high = i->topic_count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *there = i->topics[middle]->name;
        int order = text_order(there, strlen(there), name, name_size);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct meta_topic *meta_image_topic(const struct meta_image *i, const char *name, size_t name_size) {
    bool found;
    size_t at = topic_place(i, name, name_size, &found);
    return found ? i->topics[at] : NULL;
}

struct meta_topic *meta_image_topic_by_id(const struct meta_image *i, const struct uuid *id) {
    return mapstr_get(&i->topics_by_id, id->bytes, sizeof(id->bytes));
}

/* First extent that begins above the stream. */
static size_t extent_above(const struct meta_image *i, uint64_t stream) {
    size_t low = 0, high = i->extent_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (i->extents[middle].first_stream > stream) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

const struct meta_topic *meta_image_topic_of_stream(const struct meta_image *i, struct stream_id s,
                                                    int32_t *partition) {
    size_t at = extent_above(i, s.v);
    if (at == 0) return NULL;
    const struct meta_extent *x = &i->extents[at - 1];
    if (s.v - x->first_stream >= x->count) return NULL;
    *partition = x->first_partition + (int32_t)(s.v - x->first_stream);
    ASSERT(x->topic->partitions[*partition].stream.v == s.v);
    return x->topic;
}

static size_t broker_place(const struct meta_image *i, struct incarnation incarnation) {
    size_t at = i->broker_count;
    while (at > 0 && i->brokers[at - 1].incarnation.v >= incarnation.v) at--;
    return at;
}

struct meta_broker *meta_image_broker(const struct meta_image *i, struct incarnation incarnation) {
    size_t at = broker_place(i, incarnation);
    return at < i->broker_count && i->brokers[at].incarnation.v == incarnation.v ? &i->brokers[at] : NULL;
}

/* --- Parts. */

static void extent_insert(struct meta_image *i, const struct meta_extent *x) {
    size_t at = extent_above(i, x->first_stream);
    i->extents = mem_grow(i->mem, i->extents, i->extent_count, &i->extent_capacity, sizeof(*i->extents));
    memmove(&i->extents[at + 1], &i->extents[at], (i->extent_count - at) * sizeof(*i->extents));
    i->extents[at] = *x;
    i->extent_count++;
}

/* The run of consecutive streams that begins with that partition. */
static struct meta_extent extent_at(struct meta_topic *t, int32_t partition) {
    struct meta_extent x = {t->partitions[partition].stream.v, 1, partition, t};
    while (partition + (int32_t)x.count < t->partition_count &&
           t->partitions[partition + (int32_t)x.count].stream.v == x.first_stream + x.count) {
        x.count++;
    }
    return x;
}

static bool extent_free(const struct meta_image *i, const struct meta_extent *x) {
    size_t at = extent_above(i, x->first_stream);
    if (at < i->extent_count && i->extents[at].first_stream - x->first_stream < x->count) return false;
    return at == 0 || x->first_stream - i->extents[at - 1].first_stream >= i->extents[at - 1].count;
}

static void extents_remove(struct meta_image *i, const struct meta_topic *t) {
    size_t kept = 0;
    for (size_t k = 0; k < i->extent_count; k++) {
        if (i->extents[k].topic != t) i->extents[kept++] = i->extents[k];
    }
    i->extent_count = kept;
}

bool meta_image_take_topic(struct meta_image *i, struct meta_topic *t) {
    bool found;
    size_t at = topic_place(i, t->name, strlen(t->name), &found);
    if (found || meta_image_topic_by_id(i, &t->id)) return false;
    for (int32_t p = 0; p < t->partition_count;) {
        struct meta_extent x = extent_at(t, p);
        if (!extent_free(i, &x)) {
            extents_remove(i, t);
            return false;
        }
        extent_insert(i, &x);
        p += (int32_t)x.count;
    }
    i->topics = mem_grow(i->mem, i->topics, i->topic_count, &i->topic_capacity, sizeof(struct meta_topic *));
    memmove(&i->topics[at + 1], &i->topics[at], (i->topic_count - at) * sizeof(struct meta_topic *));
    i->topics[at] = t;
    i->topic_count++;
    void *before = mapstr_put(&i->topics_by_id, t->id.bytes, sizeof(t->id.bytes), t);
    ASSERT(before == NULL);
    return true;
}

bool meta_image_add_broker(struct meta_image *i, struct incarnation incarnation, int32_t node_id, struct meta_text rack,
                           struct meta_text endpoint, bool retired) {
    if (incarnation.v == 0 || (i->broker_count > 0 && i->brokers[i->broker_count - 1].incarnation.v >= incarnation.v))
        return false;
    i->brokers = mem_grow(i->mem, i->brokers, i->broker_count, &i->broker_capacity, sizeof(*i->brokers));
    i->brokers[i->broker_count++] = (struct meta_broker){.node_id = node_id,
                                                         .incarnation = incarnation,
                                                         .rack = mem_strndup(i->mem, rack.data, rack.size),
                                                         .endpoint = mem_strndup(i->mem, endpoint.data, endpoint.size),
                                                         .retired = retired};
    return true;
}

/* Sets or removes one value, keeping the order by name. */
static void configs_change(struct meta_config **configs, size_t *count, struct mem *m, const struct meta_change *c) {
    size_t at = 0;
    int order = 1;
    for (; at < *count; at++) {
        order = text_order((*configs)[at].name, strlen((*configs)[at].name), c->name.data, c->name.size);
        if (order >= 0) break;
    }
    bool there = at < *count && order == 0;
    if (c->removes) {
        if (!there) return;
        config_free(&(*configs)[at], m);
        (*count)--;
        memmove(&(*configs)[at], &(*configs)[at + 1], (*count - at) * sizeof(**configs));
        return;
    }
    char *value = mem_strndup(m, c->value.data, c->value.size);
    if (there) {
        mem_free(m, (*configs)[at].value);
        (*configs)[at].value = value;
        return;
    }
    *configs = mem_realloc(m, *configs, (*count + 1) * sizeof(**configs));
    memmove(&(*configs)[at + 1], &(*configs)[at], (*count - at) * sizeof(**configs));
    (*configs)[at] = (struct meta_config){mem_strndup(m, c->name.data, c->name.size), value};
    (*count)++;
}

void meta_topic_change(struct meta_topic *t, struct mem *m, const struct meta_change *c) {
    configs_change(&t->configs, &t->config_count, m, c);
}

/* Where the node's values are, or belong. */
static size_t broker_configs_place(const struct meta_image *i, int32_t node_id, bool *found) {
    size_t at = 0;
    while (at < i->broker_configs_count && i->broker_configs[at].node_id < node_id) at++;
    *found = at < i->broker_configs_count && i->broker_configs[at].node_id == node_id;
    return at;
}

const struct meta_broker_configs *meta_image_broker_configs(const struct meta_image *i, int32_t node_id) {
    bool found;
    size_t at = broker_configs_place(i, node_id, &found);
    return found ? &i->broker_configs[at] : NULL;
}

void meta_image_change_broker(struct meta_image *i, int32_t node_id, const struct meta_change *c) {
    bool found;
    size_t at = broker_configs_place(i, node_id, &found);
    if (!found) {
        if (c->removes) return;
        i->broker_configs = mem_grow(i->mem, i->broker_configs, i->broker_configs_count, &i->broker_configs_capacity,
                                     sizeof(*i->broker_configs));
        memmove(&i->broker_configs[at + 1], &i->broker_configs[at],
                (i->broker_configs_count - at) * sizeof(*i->broker_configs));
        i->broker_configs[at] = (struct meta_broker_configs){.node_id = node_id};
        i->broker_configs_count++;
    }
    struct meta_broker_configs *b = &i->broker_configs[at];
    configs_change(&b->configs, &b->config_count, i->mem, c);
    if (b->config_count > 0) return;
    mem_free(i->mem, b->configs);
    i->broker_configs_count--;
    memmove(b, b + 1, (i->broker_configs_count - at) * sizeof(*b));
}

/* --- Records. */

static enum err apply_create(struct meta_image *i, const struct meta_record *r) {
    uint64_t first = r->topic_create.first_stream.v;
    int32_t count = r->topic_create.partition_count;
    if (!meta_topic_name_valid(r->topic_create.name.data, r->topic_create.name.size)) return ERR_CORRUPT;
    if (count < 1 || count > META_TOPIC_PARTITIONS_MAX || r->topic_create.replication_factor < 1) return ERR_CORRUPT;
    bool given_out = first < i->next_stream && !mutant_is(i->mutant, MUTANT_SAME_STREAMS);
    if (given_out || first > (uint64_t)(INT64_MAX - count)) return ERR_CORRUPT;
    if (!meta_image_broker(i, r->topic_create.owner)) return ERR_CORRUPT;
    struct meta_topic *t = MEM_NEW(i->mem, struct meta_topic);
    t->id = r->topic_create.id;
    t->name = mem_strndup(i->mem, r->topic_create.name.data, r->topic_create.name.size);
    t->replication_factor = r->topic_create.replication_factor;
    t->partition_count = count;
    t->partitions = mem_zalloc(i->mem, (size_t)count * sizeof(*t->partitions));
    for (int32_t p = 0; p < count; p++) {
        t->partitions[p].stream.v = first + (uint64_t)p;
        t->partitions[p].owner = r->topic_create.owner;
        t->partitions[p].owner_node = r->topic_create.owner_node;
    }
    for (size_t k = 0; k < r->change_count; k++) meta_topic_change(t, i->mem, &r->changes[k]);
    if (!meta_image_take_topic(i, t)) {
        meta_topic_free(t, i->mem);
        return ERR_CORRUPT;
    }
    if (i->next_stream < first + (uint64_t)count) i->next_stream = first + (uint64_t)count;
    return OK;
}

static enum err apply_partitions_add(struct meta_image *i, const struct meta_record *r) {
    struct meta_topic *t = meta_image_topic_by_id(i, &r->partitions_add.id);
    uint64_t first = r->partitions_add.first_stream.v;
    int32_t before = r->partitions_add.before, count = r->partitions_add.count;
    if (!t || t->partition_count != before || count < 1 || count > META_TOPIC_PARTITIONS_MAX - before)
        return ERR_CORRUPT;
    if (first < i->next_stream || first > (uint64_t)(INT64_MAX - count)) return ERR_CORRUPT;
    if (!meta_image_broker(i, r->partitions_add.owner)) return ERR_CORRUPT;
    size_t size = sizeof(*t->partitions);
    t->partitions = mem_realloc(i->mem, t->partitions, (size_t)(before + count) * size);
    for (int32_t p = 0; p < count; p++) {
        t->partitions[before + p] = (struct meta_partition){.stream = {first + (uint64_t)p},
                                                            .owner = r->partitions_add.owner,
                                                            .owner_node = r->partitions_add.owner_node};
    }
    t->partition_count = before + count;
    /* Above all streams that were ever given out, so nothing can be in the way. */
    struct meta_extent x = {first, (uint64_t)count, before, t};
    ASSERT(extent_free(i, &x));
    extent_insert(i, &x);
    i->next_stream = first + (uint64_t)count;
    return OK;
}

static enum err apply_delete(struct meta_image *i, const struct meta_record *r) {
    struct meta_topic *t = meta_image_topic_by_id(i, &r->topic_delete.id);
    if (!t) return ERR_CORRUPT;
    bool found;
    size_t at = topic_place(i, t->name, strlen(t->name), &found);
    ASSERT(found && i->topics[at] == t);
    i->topic_count--;
    memmove(&i->topics[at], &i->topics[at + 1], (i->topic_count - at) * sizeof(struct meta_topic *));
    void *before = mapstr_remove(&i->topics_by_id, t->id.bytes, sizeof(t->id.bytes));
    ASSERT(before == t);
    extents_remove(i, t);
    meta_topic_free(t, i->mem);
    return OK;
}

static enum err apply_configure(struct meta_image *i, const struct meta_record *r) {
    struct meta_topic *t = meta_image_topic_by_id(i, &r->topic_configure.id);
    if (!t) return ERR_CORRUPT;
    for (size_t k = 0; k < r->change_count; k++) meta_topic_change(t, i->mem, &r->changes[k]);
    return OK;
}

static enum err apply_broker_configure(struct meta_image *i, const struct meta_record *r) {
    if (r->broker_configure.node_id < META_ALL_BROKERS) return ERR_CORRUPT;
    for (size_t k = 0; k < r->change_count; k++)
        meta_image_change_broker(i, r->broker_configure.node_id, &r->changes[k]);
    return OK;
}

static enum err apply_recovered(struct meta_image *i, const struct meta_record *r) {
    struct meta_broker *from = meta_image_broker(i, r->recovered.from);
    const struct meta_broker *to = meta_image_broker(i, r->recovered.to);
    if (!from || from->retired || !to || to->retired || to == from) return ERR_CORRUPT;
    from->retired = true;
    for (size_t k = 0; k < i->topic_count; k++) {
        struct meta_topic *t = i->topics[k];
        for (int32_t p = 0; p < t->partition_count; p++) {
            struct meta_partition *q = &t->partitions[p];
            if (q->owner.v != r->recovered.from.v) continue;
            q->owner = r->recovered.to;
            q->owner_node = r->recovered.to_node;
            q->state_entry = r->recovered.state_entry;
            if (q->epoch < INT32_MAX && !mutant_is(i->mutant, MUTANT_SAME_EPOCH)) q->epoch++;
        }
    }
    return OK;
}

static enum err apply_producer_ids(struct meta_image *i, const struct meta_record *r) {
    uint64_t first = r->producer_ids.first, count = r->producer_ids.count;
    if (count == 0 || first < i->next_producer_id || first > INT64_MAX || count > INT64_MAX - first) return ERR_CORRUPT;
    i->next_producer_id = first + count;
    return OK;
}

static enum err apply_forget(struct meta_image *i, const struct meta_record *r) {
    size_t kept = 0;
    for (size_t k = 0; k < i->broker_count; k++) {
        if (i->brokers[k].retired && i->brokers[k].incarnation.v < r->forget_retired.oldest_needed.v) {
            broker_free(&i->brokers[k], i->mem);
        } else {
            i->brokers[kept++] = i->brokers[k];
        }
    }
    i->broker_count = kept;
    return OK;
}

enum err meta_image_apply(struct meta_image *i, const struct meta_record *r, struct incarnation position) {
    switch (r->kind) {
    case META_REGISTRATION:
        return meta_image_add_broker(i, position, r->registration.node_id, r->registration.rack,
                                     r->registration.endpoint, false)
                   ? OK
                   : ERR_CORRUPT;
    case META_TOPIC_CREATE:
        return apply_create(i, r);
    case META_TOPIC_DELETE:
        return apply_delete(i, r);
    case META_TOPIC_CONFIGURE:
        return apply_configure(i, r);
    case META_RECOVERED:
        return apply_recovered(i, r);
    case META_PRODUCER_IDS:
        return apply_producer_ids(i, r);
    case META_FORGET_RETIRED:
        return apply_forget(i, r);
    case META_PARTITIONS_ADD:
        return apply_partitions_add(i, r);
    case META_BROKER_CONFIGURE:
        return apply_broker_configure(i, r);
    }
    return ERR_VERSION;
}
