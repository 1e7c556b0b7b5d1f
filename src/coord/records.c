/* The records of __consumer_offsets, in Kafka's own format (schema/group_records.ox), so that Kafka's tools can read
 * them: key and value each begin with their version as an int16, big-endian. Written are the versions that Kafka 3.x and
 * 4.x write: groups as 3; offsets as 4, which has the topic's id. Read are all, and what does not say for which topic it was
 * committed is what older versions of this file wrote: 3, or 1 when the commit brought a retention of its own. Kafka's version 4
 * has no place for that: there it is a tagged field of our own, which others skip.
 *
 * Also here: ConsumerProtocol's subscriptions, as far as the coordinator has to understand them (version, topics). */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/format.h"
#include "coord/group.h"

enum { KEY_OFFSET_OLD = 0, KEY_OFFSET = 1, KEY_GROUP = 2 };
enum { VALUE_OFFSET = 4, VALUE_OFFSET_NO_ID = 3, VALUE_OFFSET_EXPIRES = 1, VALUE_GROUP = 3, VALUE_NEWEST = 4 };
static_assert((unsigned)VALUE_NEWEST == FORMAT_OFFSET_VALUE_NEWEST &&
                  (unsigned)VALUE_NEWEST == FORMAT_GROUP_VALUE_NEWEST,
              "one table has them all");

/* Behind Kafka's tag 0, the topic's id of 16 bytes, in a version 4: tag 10000, a size of 8, the time in ms. */
static const uint8_t expires_head[] = {0x90, 0x4e, 8};
enum { TOPIC_ID_TAGS = 1 + 2 + 16, EXPIRES_TAG = sizeof(expires_head) + 8 };

/* ---- writing ---- */

static struct kafka_bytes encode(struct coord *c, const struct kafka_struct *type, int16_t version,
                                 const void *message) {
    CHECK_OBJ(c, COORD_MAGIC);
    outbuf_be16(&c->out, (uint16_t)version);
    enum err e = kafka_encode(type, version, message, &c->out);
    ASSERT(e == OK); /* lengths were checked when they came in: every string came over the wire or from the log */
    struct slices slices;
    slices_init(&slices, c->mem);
    outbuf_finish(&c->out, &slices);
    uint8_t *data = arena_alloc(&c->scratch, slices.size_bytes);
    size_t at = 0;
    for (size_t i = 0; i < slices.count; i++) {
        memcpy(data + at, slices.items[i].data, slices.items[i].size);
        at += slices.items[i].size;
    }
    ASSERT(at == slices.size_bytes && at <= INT32_MAX);
    slices_deinit(&slices);
    return (struct kafka_bytes){data, (int32_t)at};
}

struct kafka_bytes records_group_key(struct coord *c, struct kafka_string group) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct kafka_group_metadata_key key;
    kafka_group_metadata_key_init(&key);
    key.group = group;
    return encode(c, &kafka_group_metadata_key_type, KEY_GROUP, &key);
}

struct kafka_bytes records_group_value(struct coord *c, const struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    CHECK_OBJ(c, COORD_MAGIC);
    struct kafka_group_metadata_value value;
    kafka_group_metadata_value_init(&value);
    value.protocol_type = g->protocol_type.size < 0 ? kafka_string_of("") : g->protocol_type;
    value.generation = g->generation;
    value.protocol = g->protocol;
    value.leader = g->leader ? g->leader->id : kafka_string_of(NULL);
    value.current_state_timestamp = g->state_ms;
    value.members.items = kafka_group_metadata_value_member_metadata_new(&c->scratch, g->members.count);
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        struct kafka_group_metadata_value_member_metadata *o = &value.members.items[value.members.count++];
        o->member_id = m->id;
        o->group_instance_id = m->instance_id;
        o->client_id = m->client_id;
        o->client_host = m->host;
        o->rebalance_timeout = m->rebalance_timeout_ms;
        o->session_timeout = m->session_timeout_ms;
        o->subscription = member_metadata(m, g->protocol);
        o->assignment = m->assignment;
    }
    ASSERT((size_t)value.members.count == g->members.count);
    return encode(c, &kafka_group_metadata_value_type, VALUE_GROUP, &value);
}

struct kafka_bytes records_offset_key(struct coord *c, const struct offset_entry *e) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct kafka_offset_commit_key key;
    kafka_offset_commit_key_init(&key);
    key.group = e->group->id;
    key.topic = e->topic->name;
    key.partition = e->partition;
    return encode(c, &kafka_offset_commit_key_type, KEY_OFFSET, &key);
}

/* The value, which ends with a topic's id, and when it expires. */
static struct kafka_bytes add_expires(struct coord *c, struct kafka_bytes value, int64_t expire_ms) {
    CHECK_OBJ(c, COORD_MAGIC);
    uint8_t *data = arena_alloc(&c->scratch, (size_t)value.size + EXPIRES_TAG), *end = data + value.size;
    memcpy(data, value.data, (size_t)value.size);
    ASSERT(value.size > TOPIC_ID_TAGS && end[-TOPIC_ID_TAGS] == 1);
    end[-TOPIC_ID_TAGS] = 2; /* so many tagged fields */
    memcpy(end, expires_head, sizeof(expires_head));
    be64_put(end + sizeof(expires_head), (uint64_t)expire_ms);
    return (struct kafka_bytes){data, value.size + (int32_t)EXPIRES_TAG};
}

/* Of a value of version 4 that was read: its own retention, as add_expires writes it; -1: none. Nothing but the tags lies behind
 * what Kafka's fields take. */
static int64_t read_expires(const struct kafka_offset_commit_value *v, const uint8_t *value, size_t size) {
    size_t metadata = (size_t)v->metadata.size;
    size_t length = metadata + 1 < 0x80 ? 1 : metadata + 1 < 0x4000 ? 2 : 3;
    size_t tags = 2 + 8 + 4 + length + metadata + 8;
    if (size != tags + TOPIC_ID_TAGS + EXPIRES_TAG || value[tags] != 2) return -1;
    const uint8_t *tag = value + tags + TOPIC_ID_TAGS;
    if (memcmp(tag, expires_head, sizeof(expires_head)) != 0) return -1;
    return (int64_t)be64_get(tag + sizeof(expires_head));
}

struct kafka_bytes records_offset_value(struct coord *c, const struct offset_value *v) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(!v->deleted);
    struct kafka_offset_commit_value value;
    kafka_offset_commit_value_init(&value);
    value.offset = v->offset;
    value.leader_epoch = v->leader_epoch;
    value.metadata = kafka_string_view(v->metadata, (size_t)v->metadata_size);
    value.commit_timestamp = v->commit_ms;
    value.expire_timestamp = v->expire_ms;
    value.topic_id = v->topic_id;
    const struct kafka_struct *type = &kafka_offset_commit_value_type;
    if (kafka_uuid_is_zero(&v->topic_id))
        return encode(c, type, v->expire_ms >= 0 ? VALUE_OFFSET_EXPIRES : VALUE_OFFSET_NO_ID, &value);
    struct kafka_bytes bytes = encode(c, type, VALUE_OFFSET, &value);
    return v->expire_ms >= 0 ? add_expires(c, bytes, v->expire_ms) : bytes;
}

/* ---- reading ---- */

static enum err load_offset(struct coord *c, int16_t key_version, struct kafka_bytes key, const uint8_t *value,
                            size_t value_size) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct kafka_offset_commit_key k;
    struct kafka_offset_commit_value v;
    enum err e = kafka_offset_commit_key_decode(&k, key_version, key.data, (size_t)key.size, &c->scratch);
    if (e) return e;
    struct group *g = group_find(c, k.group);
    if (!value) {
        if (g) offset_unload(g, k.topic, k.partition);
        return OK;
    }
    int16_t version = value_size < 2 ? -1 : (int16_t)be16_get(value);
    if (version < 0) return ERR_PROTOCOL;
    if (version > VALUE_NEWEST) return ERR_VERSION;
    e = kafka_offset_commit_value_decode(&v, version, value + 2, value_size - 2, &c->scratch);
    if (e) return e;
    int64_t expire_ms = version == VALUE_OFFSET ? read_expires(&v, value, value_size) : v.expire_timestamp;
    offset_load(g ? g : group_open(c, k.group), k.topic, k.partition, &v, expire_ms);
    return OK;
}

static void clear_group(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct mem *mem = g->coord->mem;
    while (!list_empty(&g->order)) member_remove(LIST_ENTRY(g->order.next, struct member, link));
    text_free(mem, &g->protocol_type);
    text_free(mem, &g->protocol);
    g->generation = 0;
    g->state = g->previous_state = GROUP_EMPTY;
    g->has_record = false;
}

/* What is no error of a type but cannot be: ids that are empty or come twice, a member without a protocol. */
static enum err check_group(struct coord *c, const struct kafka_group_metadata_value *v) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (v->generation < 0) return ERR_PROTOCOL;
    if (v->members.count > 0 && (v->protocol.size < 0 || v->protocol_type.size <= 0)) return ERR_PROTOCOL;
    struct mapstr seen;
    mapstr_init(&seen, c->mem);
    enum err e = OK;
    for (int32_t i = 0; i < v->members.count && e == OK; i++) {
        struct kafka_group_metadata_value_member_metadata *m = &v->members.items[i];
        if (m->member_id.size <= 0) e = ERR_PROTOCOL;
        /* Two kinds of ids in one map: told apart by a first byte. */
        const struct kafka_string ids[2] = {m->member_id, m->group_instance_id};
        for (int kind = 0; kind < 2 && e == OK; kind++) {
            if (ids[kind].size < 0) continue;
            size_t size = (size_t)ids[kind].size;
            char *id = arena_alloc(&c->scratch, size + 1);
            id[0] = (char)kind;
            if (size > 0) memcpy(id + 1, ids[kind].data, size);
            if (mapstr_put(&seen, id, size + 1, m)) e = ERR_PROTOCOL;
        }
    }
    mapstr_deinit(&seen);
    return e;
}

static void load_member(struct group *g, const struct kafka_group_metadata_value_member_metadata *in) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct member *m = member_create(g, in->member_id, in->group_instance_id, in->client_id, in->client_host);
    m->session_timeout_ms = in->session_timeout > 0 ? in->session_timeout : 1;
    m->rebalance_timeout_ms = in->rebalance_timeout >= 0 ? in->rebalance_timeout : m->session_timeout_ms;
    member_set_protocols(m, &(struct protocol){g->protocol, in->subscription}, 1);
    member_assign(m, in->assignment);
}

static enum err load_group(struct coord *c, struct kafka_bytes key, const uint8_t *value, size_t value_size) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct kafka_group_metadata_key k;
    struct kafka_group_metadata_value v;
    enum err e = kafka_group_metadata_key_decode(&k, KEY_GROUP, key.data, (size_t)key.size, &c->scratch);
    if (e) return e;
    struct group *g = group_find(c, k.group);
    if (!value) {
        if (g) clear_group(g);
        return OK;
    }
    int16_t version = value_size < 2 ? -1 : (int16_t)be16_get(value);
    if (version < 0) return ERR_PROTOCOL;
    if (version > VALUE_NEWEST) return ERR_VERSION;
    e = kafka_group_metadata_value_decode(&v, version, value + 2, value_size - 2, &c->scratch);
    if (e == OK) e = check_group(c, &v);
    if (e) return e;
    if (!g) g = group_open(c, k.group);
    clear_group(g);
    g->protocol_type = v.protocol_type.size > 0 ? text_copy(c->mem, v.protocol_type) : kafka_string_of(NULL);
    g->protocol = v.members.count > 0 ? text_copy(c->mem, v.protocol) : kafka_string_of(NULL);
    g->generation = v.generation;
    g->state_ms = v.current_state_timestamp;
    g->has_record = true;
    for (int32_t i = 0; i < v.members.count; i++) load_member(g, &v.members.items[i]);
    g->leader = member_find(g, v.leader);
    if (g->members.count > 0) g->state = g->previous_state = GROUP_STABLE;
    return OK;
}

enum err records_load(struct coord *c, const uint8_t *key, size_t key_size, const uint8_t *value, size_t value_size) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (!key || key_size < 2) return ERR_PROTOCOL;
    int16_t version = (int16_t)be16_get(key);
    if (version < 0) return ERR_PROTOCOL;
    if (key_size > INT32_MAX || value_size > INT32_MAX) return ERR_TOO_LARGE;
    arena_reset(&c->scratch);
    struct kafka_bytes rest = {key + 2, (int32_t)key_size - 2};
    switch (version) {
    case KEY_OFFSET_OLD:
    case KEY_OFFSET:
        return load_offset(c, version, rest, value, value_size);
    case KEY_GROUP:
        return load_group(c, rest, value, value_size);
    default:
        return OK; /* groups of other kinds */
    }
}

/* ---- everything, for tests and snapshots ---- */

struct dump {
    struct coord *c;
    struct coord_effects *out;
    size_t capacity;
};

static void dump_add(struct dump *d, struct kafka_bytes key, struct kafka_bytes value) {
    struct coord_effects *e = d->out;
    e->records = mem_grow(d->c->mem, e->records, e->count, &d->capacity, sizeof(*e->records));
    e->records[e->count++] = (struct coord_record){
        .key = arena_copy(&e->arena, key.data, (size_t)key.size),
        .key_size = (size_t)key.size,
        .value = arena_copy(&e->arena, value.data, (size_t)value.size),
        .value_size = (size_t)value.size,
    };
    e->size_bytes += (size_t)key.size + (size_t)value.size;
}

static bool dump_offset(struct offset_entry *e, void *context) {
    struct dump *d = context;
    const struct offset_value *v = offset_newest(e);
    arena_reset(&d->c->scratch);
    if (v) dump_add(d, records_offset_key(d->c, e), records_offset_value(d->c, v));
    return true;
}

static int compare_records(const void *a, const void *b) {
    const struct coord_record *x = a, *y = b;
    int order = memcmp(x->key, y->key, x->key_size < y->key_size ? x->key_size : y->key_size);
    return order ? order : (x->key_size > y->key_size) - (x->key_size < y->key_size);
}

void coord_dump(struct coord *c, struct coord_effects *out) {
    CHECK_OBJ(c, COORD_MAGIC);
    *out = (struct coord_effects){0};
    arena_init(&out->arena, c->mem);
    struct dump d = {c, out, 0};
    struct group *g;
    for (size_t i = 0; (g = mapstr_next(&c->groups, &i, NULL, NULL)) != NULL;) {
        arena_reset(&c->scratch);
        if (g->has_record) dump_add(&d, records_group_key(c, g->id), records_group_value(c, g));
        offset_each(g, dump_offset, &d);
    }
    if (out->count > 1) qsort(out->records, out->count, sizeof(*out->records), compare_records);
}

/* ---- ConsumerProtocol ---- */

bool group_uses_consumer_protocol(const struct group *g) {
    return kafka_string_equal(g->protocol_type, kafka_string_of("consumer"));
}

/* Subscription: int16 version, int32 count, topics as strings with an int16 length; what follows is the assignor's. */
static bool subscription_has(struct kafka_bytes s, struct kafka_string topic, bool *known) {
    size_t at = 6;
    if (s.size < 6 || (int16_t)be16_get(s.data) < 0) {
        *known = false;
        return false;
    }
    int32_t count = (int32_t)be32_get(s.data + 2);
    for (int32_t i = 0; i < count; i++) {
        if ((size_t)s.size - at < 2) break;
        size_t size = be16_get(s.data + at);
        if (size > INT16_MAX || (size_t)s.size - at - 2 < size) break;
        struct kafka_string name = kafka_string_view((const char *)s.data + at + 2, size);
        if (kafka_string_equal(name, topic)) return true;
        at += 2 + size;
        if (i == count - 1) return false;
    }
    if (count != 0) *known = false;
    return false;
}

bool group_subscribes(const struct group *g, struct kafka_string topic, bool *known) {
    CHECK_OBJ(g, GROUP_MAGIC);
    *known = true;
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        struct kafka_bytes s = {NULL, 0};
        if (g->protocol.size >= 0) s = member_metadata(m, g->protocol);
        /* A member that joined while the group prepares: its first protocol tells as much. */
        if (s.size == 0 && m->protocol_count > 0) s = m->protocols[0].metadata;
        if (subscription_has(s, topic, known)) return true;
    }
    return false;
}
