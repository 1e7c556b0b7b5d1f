/* Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.
 *
 * An entry has a durable value, which is what readers see, and a queue of values on their way to the log. Deletion is such
 * a value too: so an entry is shown until its tombstone is durable.
 *
 * An offset is committed for a topic, by its id, and not for whatever has that name: a topic that is deleted and made anew
 * has offsets of its own from the first moment, whether the tombstones of the old ones were written or not. So these
 * only tidy up. No value in memory is without an id, save where the caller gives none (coord_topic_is).
 *
 * A commit that says what the newest value says already is answered with it, and only its time is noted. That note is
 * lost with the memory; so a commit is written after all when the stored time lies back by more than a quarter of the
 * retention, and a loaded value counts as if it had been refreshed for that long: nothing expires too early. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "coord/group.h"

/* Times come from clients and from the log: kept where sums cannot overflow. */
static int64_t clamp_ms(int64_t ms) {
    return ms < 0 ? 0 : ms > INT64_MAX / 4 ? INT64_MAX / 4 : ms;
}

/* How far the stored time may lie behind. */
static int64_t slack_ms(const struct coord *c, int64_t commit_ms, int64_t expire_ms) {
    CHECK_OBJ(c, COORD_MAGIC);
    int64_t retention_ms = c->config.offsets_retention_ms;
    if (expire_ms >= 0) retention_ms = clamp_ms(expire_ms) - clamp_ms(commit_ms);
    return retention_ms > 0 ? retention_ms / 4 : 0;
}

/* ---- entries ---- */

static struct offset_entry *entry_find(const struct group *g, struct kafka_string topic, int32_t partition) {
    CHECK_OBJ(g, GROUP_MAGIC);
    if (topic.size < 0) return NULL;
    const struct offset_topic *t = mapstr_get(&g->topics, topic.data, (size_t)topic.size);
    return t ? map64_get(&t->partitions, (uint32_t)partition) : NULL;
}

/* Its record repeats the names. */
static size_t entry_bytes(const struct offset_entry *e) {
    return COORD_OFFSET_BYTES + (size_t)e->group->id.size + (size_t)e->topic->name.size;
}

static struct offset_entry *entry_open(struct group *g, struct kafka_string topic, int32_t partition) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct mem *mem = g->coord->mem;
    struct offset_entry *e = entry_find(g, topic, partition);
    if (e) return e;
    ASSERT(topic.size >= 0);
    struct offset_topic *t = mapstr_get(&g->topics, topic.data, (size_t)topic.size);
    if (!t) {
        t = MEM_NEW(mem, struct offset_topic);
        t->name = text_copy(mem, topic);
        map64_init(&t->partitions, mem);
        mapstr_put(&g->topics, topic.data, (size_t)topic.size, t);
    }
    e = MEM_NEW(mem, struct offset_entry);
    e->group = g;
    e->topic = t;
    e->partition = partition;
    map64_put(&t->partitions, (uint32_t)partition, e);
    g->offsets++;
    coord_hold(g->coord, entry_bytes(e));
    return e;
}

struct offset_value *offset_newest(const struct offset_entry *e) {
    struct offset_value *v = e->last ? e->last : e->durable;
    return v && !v->deleted ? v : NULL;
}

static void value_free(struct coord *c, struct offset_value *v) {
    if (!v) return;
    coord_let_go(c, 2 * (size_t)v->metadata_size);
    mem_free(c->mem, v);
}

static void entry_destroy(struct coord *c, struct offset_entry *e) {
    CHECK_OBJ(c, COORD_MAGIC);
    value_free(c, e->durable);
    while (e->first) {
        struct offset_value *v = e->first;
        e->first = v->next;
        list_remove(&v->batch_link);
        value_free(c, v);
    }
    coord_let_go(c, entry_bytes(e));
    ASSERT(e->group->offsets > 0);
    e->group->offsets--;
    mem_free(c->mem, e);
}

void offset_topic_destroy(struct coord *c, struct offset_topic *t) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct offset_entry *e;
    for (size_t cursor = 0; (e = map64_next(&t->partitions, &cursor, NULL)) != NULL;) entry_destroy(c, e);
    map64_deinit(&t->partitions);
    text_free(c->mem, &t->name);
    mem_free(c->mem, t);
}

bool offset_each(struct group *g, bool (*each)(struct offset_entry *e, void *context), void *context) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct offset_topic *t;
    for (size_t i = 0; (t = mapstr_next(&g->topics, &i, NULL, NULL)) != NULL;) {
        struct offset_entry *e;
        for (size_t j = 0; (e = map64_next(&t->partitions, &j, NULL)) != NULL;) {
            if (!each(e, context)) return false;
        }
    }
    return true;
}

size_t offset_live(const struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    size_t live = 0;
    const struct offset_topic *t;
    for (size_t i = 0; (t = mapstr_next(&g->topics, &i, NULL, NULL)) != NULL;) {
        const struct offset_entry *e;
        for (size_t j = 0; (e = map64_next(&t->partitions, &j, NULL)) != NULL;) live += offset_newest(e) != NULL;
    }
    return live;
}

static void reap_topic(struct coord *c, struct offset_topic *t) {
    CHECK_OBJ(c, COORD_MAGIC);
    /* Removal moves slots about: first collect, then remove. */
    struct offset_entry **gone = mem_alloc(c->mem, (t->partitions.count + 1) * sizeof(struct offset_entry *)), *e;
    size_t count = 0;
    for (size_t i = 0; (e = map64_next(&t->partitions, &i, NULL)) != NULL;) {
        if (!e->durable && !e->first) gone[count++] = e;
    }
    for (size_t i = 0; i < count; i++) {
        map64_remove(&t->partitions, (uint32_t)gone[i]->partition);
        entry_destroy(c, gone[i]);
    }
    mem_free(c->mem, gone);
}

void offset_reap(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    struct offset_topic **gone = mem_alloc(c->mem, (g->topics.count + 1) * sizeof(struct offset_topic *)), *t;
    size_t count = 0;
    for (size_t i = 0; (t = mapstr_next(&g->topics, &i, NULL, NULL)) != NULL;) {
        reap_topic(c, t);
        if (t->partitions.count == 0) gone[count++] = t;
    }
    for (size_t i = 0; i < count; i++) {
        mapstr_remove(&g->topics, gone[i]->name.data, (size_t)gone[i]->name.size);
        offset_topic_destroy(c, gone[i]);
    }
    mem_free(c->mem, gone);
}

/* ---- values ---- */

static struct offset_value *value_create(struct coord *c, struct kafka_string metadata) {
    CHECK_OBJ(c, COORD_MAGIC);
    size_t size = metadata.size > 0 ? (size_t)metadata.size : 0;
    struct offset_value *v = mem_zalloc(c->mem, sizeof(*v) + size);
    list_init(&v->batch_link);
    v->leader_epoch = -1;
    v->expire_ms = v->fresh_expire_ms = -1;
    v->metadata_size = (int32_t)size;
    coord_hold(c, 2 * size);
    if (size > 0) memcpy(v->metadata, metadata.data, size);
    return v;
}

/* Behind the others of its entry and into the open batch. */
static void value_write(struct offset_entry *e, struct offset_value *v) {
    struct coord *c = e->group->coord;
    arena_reset(&c->scratch);
    struct kafka_bytes key = records_offset_key(c, e), value = {NULL, 0};
    if (!v->deleted) value = records_offset_value(c, v);
    v->entry = e;
    v->sequence = effect_add(c, key.data, (size_t)key.size, value.data, (size_t)value.size);
    list_push_back(&batch_find(c, v->sequence)->values, &v->batch_link);
    if (e->last) {
        ASSERT(e->last->sequence <= v->sequence);
        e->last->next = v;
    } else {
        e->first = v;
    }
    e->last = v;
}

void offset_value_durable(struct coord *c, struct offset_value *v) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct offset_entry *e = v->entry;
    ASSERT(e->first == v && v->sequence <= c->durable);
    e->first = v->next;
    if (!e->first) e->last = NULL;
    v->next = NULL;
    value_free(c, e->durable);
    e->durable = v->deleted ? NULL : v;
    if (v->deleted) value_free(c, v);
}

void offset_delete(struct offset_entry *e) {
    ASSERT(offset_newest(e) != NULL);
    struct offset_value *v = value_create(e->group->coord, kafka_string_of(""));
    v->deleted = true;
    value_write(e, v);
}

void offset_load(struct group *g, struct kafka_string topic, int32_t partition,
                 const struct kafka_offset_commit_value *value, int64_t expire_ms) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    ASSERT(c->phase == COORD_LOADING);
    struct offset_entry *e = entry_open(g, topic, partition);
    struct offset_value *v = value_create(c, value->metadata);
    v->entry = e;
    v->offset = value->offset;
    v->leader_epoch = value->leader_epoch;
    v->commit_ms = value->commit_timestamp;
    v->expire_ms = expire_ms;
    v->topic_id = value->topic_id;
    int64_t slack = slack_ms(c, v->commit_ms, v->expire_ms);
    v->fresh_commit_ms = clamp_ms(v->commit_ms) + slack;
    if (v->expire_ms >= 0) v->fresh_expire_ms = clamp_ms(v->expire_ms) + slack;
    value_free(c, e->durable);
    e->durable = v;
}

void offset_unload(struct group *g, struct kafka_string topic, int32_t partition) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct offset_entry *e = entry_find(g, topic, partition);
    if (!e) return;
    ASSERT(!e->first);
    value_free(g->coord, e->durable);
    e->durable = NULL; /* the entry goes with the first look for expired ones */
}

/* ---- OffsetCommit ---- */

static bool says_the_same(const struct offset_value *v, const struct coord_commit_item *item, int64_t expire_ms) {
    size_t size = item->metadata.size > 0 ? (size_t)item->metadata.size : 0;
    return v->offset == item->offset && v->leader_epoch == item->leader_epoch &&
           kafka_uuid_equal(&v->topic_id, &item->topic_id) && (v->expire_ms >= 0) == (expire_ms >= 0) &&
           (size_t)v->metadata_size == size && (size == 0 || memcmp(v->metadata, item->metadata.data, size) == 0);
}

/* Returns the batch that the answer waits for. */
static uint64_t commit_item(struct group *g, const struct coord_commit_item *item, int64_t retention_ms) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    int64_t now_ms = clamp_ms(c->now.wall_ms);
    int64_t commit_ms = item->commit_timestamp_ms >= 0 ? clamp_ms(item->commit_timestamp_ms) : now_ms;
    int64_t expire_ms = retention_ms == -1 ? -1 : now_ms + clamp_ms(retention_ms);
    struct offset_entry *e = entry_open(g, item->topic, item->partition);
    struct offset_value *v = offset_newest(e);
    if (v && says_the_same(v, item, expire_ms)) {
        int64_t slack = slack_ms(c, commit_ms, expire_ms);
        int64_t behind = expire_ms >= 0 ? expire_ms - clamp_ms(v->expire_ms) : commit_ms - clamp_ms(v->commit_ms);
        if (behind <= slack && behind >= -slack) {
            v->fresh_commit_ms = commit_ms;
            v->fresh_expire_ms = expire_ms;
            return v->sequence;
        }
    }
    v = value_create(c, item->metadata);
    v->topic_id = item->topic_id;
    v->offset = item->offset;
    v->leader_epoch = item->leader_epoch;
    v->commit_ms = v->fresh_commit_ms = commit_ms;
    v->expire_ms = v->fresh_expire_ms = expire_ms;
    value_write(e, v);
    return v->sequence;
}

/* Who may commit: a member of the present generation, or anybody without one while the group has no members. */
static enum err check_commit(struct group *g, const struct coord_commit *commit) {
    if (commit->generation < 0 && (!g || g->state == GROUP_EMPTY)) return OK;
    if (!g) return ERR_ILLEGAL_GENERATION;
    bool nobody = commit->generation < 0 && commit->member_id.size <= 0 && commit->group_instance_id.size < 0;
    if (nobody) return ERR_UNKNOWN_MEMBER_ID;
    struct member *m;
    enum err e = member_validate(g, commit->member_id, commit->group_instance_id, &m);
    if (e) return e;
    bool any = mutant_is(g->coord->config.mutant, MUTANT_COMMIT_ANY);
    if (commit->generation != g->generation && !any) return ERR_ILLEGAL_GENERATION;
    if (g->state == GROUP_COMPLETING) return ERR_REBALANCE_IN_PROGRESS;
    member_touch(m);
    return OK;
}

/* It would take more memory than what the group has committed for that partition already. */
static bool takes_more(struct coord *c, const struct coord_commit *commit, const struct coord_commit_item *item) {
    const struct group *g = group_find(c, commit->group_id);
    const struct offset_entry *e = g ? entry_find(g, item->topic, item->partition) : NULL;
    const struct offset_value *v = e ? offset_newest(e) : NULL;
    return !v || item->metadata.size > v->metadata_size;
}

static uint64_t commit_items(struct coord *c, const struct coord_commit *commit) {
    CHECK_OBJ(c, COORD_MAGIC);
    bool crowded = coord_is_crowded(c);
    struct group *g = NULL;
    uint64_t hold = 0;
    for (size_t i = 0; i < commit->item_count; i++) {
        struct coord_commit_item *item = &commit->items[i];
        if (item->error == OK && item->topic.size < 0) item->error = ERR_INVALID_REQUEST;
        if (item->error == OK && item->metadata.size > c->config.offset_metadata_max_bytes) {
            item->error = ERR_OFFSET_METADATA_TOO_LARGE;
        }
        if (item->error == OK && crowded && takes_more(c, commit, item)) item->error = ERR_COMMIT_TOO_LARGE;
        if (item->error) continue;
        if (!g) g = group_open(c, commit->group_id);
        uint64_t sequence = commit_item(g, item, commit->retention_ms);
        if (sequence > hold) hold = sequence;
    }
    return hold;
}

/* Of the records that this makes, about. */
static size_t commit_bytes(const struct coord_commit *commit) {
    size_t bytes = 0;
    for (size_t i = 0; i < commit->item_count; i++) {
        const struct coord_commit_item *item = &commit->items[i];
        if (item->error || item->topic.size < 0) continue;
        bytes += (size_t)commit->group_id.size + (size_t)item->topic.size + 96;
        if (item->metadata.size > 0) bytes += (size_t)item->metadata.size;
    }
    return bytes;
}

void coord_commit_offsets(struct coord *c, struct coord_now now, const struct coord_commit *commit,
                          struct coord_reply *reply) {
    reply_init(c, reply, REPLY_COMMIT, 0);
    reply->items = commit->items;
    reply->item_count = commit->item_count;
    if (!reply_serve(c, reply)) return;
    c->now = now;
    if (commit->group_id.size < 0) {
        reply_error(c, reply, ERR_INVALID_GROUP_ID, 0);
        return;
    }
    struct group *g = group_find(c, commit->group_id);
    uint64_t hold = group_hold(c, commit->group_id);
    enum err e = check_commit(g, commit);
    if (e == OK && commit_bytes(commit) > COMMIT_RECORDS_MAX) e = ERR_COMMIT_TOO_LARGE;
    if (e) {
        reply_error(c, reply, e, hold);
        return;
    }
    uint64_t sequence = commit_items(c, commit);
    reply_finish(c, reply, NULL, sequence > hold ? sequence : hold);
}

/* ---- OffsetFetch ---- */

/* *left: how many bytes of metadata the answer may still take. A request may name one partition a million times. */
static void show(const struct offset_entry *e, struct coord_offset_item *item, struct arena *arena, size_t *left) {
    const struct offset_value *v = e ? e->durable : NULL;
    if (v && !kafka_uuid_is_zero(&item->topic_id) && !kafka_uuid_equal(&v->topic_id, &item->topic_id)) v = NULL;
    if (v) item->topic_id = v->topic_id;
    if (v && v->metadata_size > 0 && (size_t)v->metadata_size > *left) {
        item->error = ERR_OFFSET_METADATA_TOO_LARGE;
        return;
    }
    if (v && v->metadata_size > 0) *left -= (size_t)v->metadata_size;
    item->offset = v ? v->offset : -1;
    item->leader_epoch = v ? v->leader_epoch : -1;
    item->metadata = v && v->metadata_size > 0
                         ? text_in(arena, kafka_string_view(v->metadata, (size_t)v->metadata_size))
                         : kafka_string_of("");
    item->error = OK;
}

static int compare_items(const void *a, const void *b) {
    const struct coord_offset_item *x = a, *y = b;
    size_t n = (size_t)(x->topic.size < y->topic.size ? x->topic.size : y->topic.size);
    int order = n ? memcmp(x->topic.data, y->topic.data, n) : 0;
    if (order == 0) order = (x->topic.size > y->topic.size) - (x->topic.size < y->topic.size);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

struct fetch_all {
    struct coord_fetch *fetch;
    struct arena *arena;
    size_t left;
};

static bool fetch_one(struct offset_entry *e, void *context) {
    struct fetch_all *f = context;
    if (!e->durable) return true;
    struct coord_offset_item *item = &f->fetch->items[f->fetch->item_count++];
    *item = (struct coord_offset_item){
        .topic = text_in(f->arena, e->topic->name), .partition = e->partition, .leader_epoch = -1, .offset = -1};
    show(e, item, f->arena, &f->left);
    return true;
}

enum err coord_fetch_offsets(struct coord *c, struct coord_fetch *fetch, struct arena *arena) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (fetch->all) {
        fetch->items = NULL;
        fetch->item_count = 0;
    }
    if (c->phase == COORD_LOADING) return ERR_COORDINATOR_LOAD_IN_PROGRESS;
    if (c->phase == COORD_ENDED) return ERR_NOT_COORDINATOR;
    if (fetch->group_id.size < 0) return ERR_INVALID_GROUP_ID;
    struct group *g = group_any(c, fetch->group_id);
    if (fetch->all) {
        if (!g) return OK;
        fetch->items = ARENA_ARRAY(arena, struct coord_offset_item, g->offsets);
        offset_each(g, fetch_one, &(struct fetch_all){fetch, arena, FETCH_METADATA_MAX});
        ASSERT(fetch->item_count <= g->offsets);
        if (fetch->item_count > 1) {
            qsort(fetch->items, fetch->item_count, sizeof(*fetch->items), compare_items);
        }
        return OK;
    }
    size_t left = FETCH_METADATA_MAX;
    for (size_t i = 0; i < fetch->item_count; i++) {
        struct coord_offset_item *item = &fetch->items[i];
        if (item->error == OK) show(g ? entry_find(g, item->topic, item->partition) : NULL, item, arena, &left);
    }
    return OK;
}

/* ---- OffsetDelete, and topics that go ---- */

void coord_delete_offsets(struct coord *c, struct coord_now now, struct kafka_string group_id,
                          struct coord_delete_item *items, size_t count, struct coord_reply *reply) {
    if (!reply_begin(c, reply, REPLY_DELETE_OFFSETS, 0)) return;
    c->now = now;
    struct group *g = group_find(c, group_id);
    uint64_t hold = group_hold(c, group_id);
    if (group_id.size <= 0) {
        reply_error(c, reply, ERR_INVALID_GROUP_ID, 0);
        return;
    }
    if (!g) {
        reply_error(c, reply, ERR_GROUP_ID_NOT_FOUND, hold);
        return;
    }
    if (g->members.count > 0 && !group_uses_consumer_protocol(g)) {
        reply_error(c, reply, ERR_NON_EMPTY_GROUP, hold);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bool known;
        if (items[i].error) continue;
        if (g->members.count > 0 && group_subscribes(g, items[i].topic, &known)) {
            items[i].error = ERR_GROUP_SUBSCRIBED_TO_TOPIC;
            continue;
        }
        struct offset_entry *e = entry_find(g, items[i].topic, items[i].partition);
        if (e && offset_newest(e)) offset_delete(e);
        if (e && e->last && e->last->sequence > hold) hold = e->last->sequence;
    }
    reply_finish(c, reply, NULL, hold);
}

/* Stores what is there once more, now that its topic is known. */
static void adopt(struct offset_entry *e, struct offset_value *old, const struct kafka_uuid *id) {
    old->topic_id = *id;
    struct offset_value *v =
        value_create(e->group->coord, kafka_string_view(old->metadata, (size_t)old->metadata_size));
    v->topic_id = *id;
    v->offset = old->offset;
    v->leader_epoch = old->leader_epoch;
    v->commit_ms = old->commit_ms;
    v->expire_ms = old->expire_ms;
    v->fresh_commit_ms = old->fresh_commit_ms;
    v->fresh_expire_ms = old->fresh_expire_ms;
    value_write(e, v);
}

/* Calls `each` for all that groups have committed under that name. */
static void each_of_topic(struct coord *c, struct kafka_string topic,
                          void (*each)(struct offset_entry *e, struct offset_value *v, const struct kafka_uuid *id),
                          const struct kafka_uuid *id) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(topic.size >= 0);
    struct group *g;
    for (size_t i = 0; (g = mapstr_next(&c->groups, &i, NULL, NULL)) != NULL;) {
        struct offset_topic *t = mapstr_get(&g->topics, topic.data, (size_t)topic.size);
        struct offset_entry *e;
        for (size_t j = 0; t && (e = map64_next(&t->partitions, &j, NULL)) != NULL;) {
            struct offset_value *v = offset_newest(e);
            if (v) each(e, v, id);
        }
    }
}

static void drop_if_of(struct offset_entry *e, struct offset_value *v, const struct kafka_uuid *id) {
    if (kafka_uuid_is_zero(&v->topic_id) || kafka_uuid_equal(&v->topic_id, id)) offset_delete(e);
}

static void keep_if_of(struct offset_entry *e, struct offset_value *v, const struct kafka_uuid *id) {
    bool known = !kafka_uuid_is_zero(&v->topic_id);
    if (!id || (known && !kafka_uuid_equal(&v->topic_id, id)))
        offset_delete(e);
    else if (!known && !kafka_uuid_is_zero(id))
        adopt(e, v, id);
}

void coord_topic_deleted(struct coord *c, struct coord_now now, struct kafka_string topic,
                         const struct kafka_uuid *id) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (c->phase != COORD_ACTIVE) return;
    c->now = now;
    each_of_topic(c, topic, drop_if_of, id);
}

void coord_topic_is(struct coord *c, struct coord_now now, struct kafka_string topic, const struct kafka_uuid *id) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (c->phase != COORD_ACTIVE) return;
    c->now = now;
    each_of_topic(c, topic, keep_if_of, id);
}
