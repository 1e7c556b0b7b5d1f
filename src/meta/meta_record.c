/* The stored form of the cluster log's records.
 *
 * The head of a data entry or an election is a sequence of framed records; the object log guards it with a checksum as
 * a whole. A frame is
 *
 *   u16 kind, u16 version, u32 size (little-endian), then `size` bytes of payload.
 *
 * A record's place in its head is its index: with the entry's number it makes the record's position, (number << 20 |
 * index) + 1. A program that meets a kind or a version it does not know stops: what it cannot read may have changed
 * anything. In payloads, "uint" is unsigned LEB128; "int" the same of (v << 1) ^ (v >> 63); "text" is a uint length and
 * so many bytes without NUL; "uuid" is 16 bytes. Version 1 of each kind:
 *
 *   1 registration     int node id; text rack; text endpoint. The record's position is the incarnation
 *   2 topic_create     uuid; text name; uint replication factor; uint partition count; uint first stream;
 *                      uint owner (incarnation); int owner's node id;
 *                      uint count of overrides, and for each: text name, text value
 *   3 topic_delete     uuid
 *   4 topic_configure  uuid; uint count, and for each: text name, u8 0 (removes the override) or 1 (then text value)
 *   5 recovered        uint from (incarnation); uint to (incarnation); int to's node id; uint state entry
 *   6 producer_ids     uint first; uint count
 *   7 forget_retired   uint oldest needed (incarnation)
 *   8 partitions_add   uuid; uint partition count before; uint how many more; uint first stream;
 *                      uint owner (incarnation); int owner's node id
 *   9 broker_configure int node id, or -1 for all brokers; uint count, and for each what topic_configure has
 *
 * Nothing is left to the reader's own counters: ids that a record gives out are in it. */
#include "meta/meta_record.h"

#include "base/assert.h"
#include "base/format.h"

#define FRAME_SIZE 8u
#define RECORD_VERSION 1u /* of every kind so far */
#define KIND_MAX META_BROKER_CONFIGURE
static_assert(RECORD_VERSION == FORMAT_CLUSTER_RECORD_NEWEST, "one table has them all");
static_assert((unsigned)KIND_MAX == FORMAT_CLUSTER_RECORD_KIND_NEWEST, "one table has them all");
#define OFFSET_MAX ((uint64_t)INT64_MAX)

struct meta_text meta_text_of(const char *s) {
    return s ? (struct meta_text){s, strlen(s)} : (struct meta_text){"", 0};
}

void meta_text_put(struct buf *out, struct meta_text t) {
    ASSERT(t.size == 0 || memchr(t.data, 0, t.size) == NULL);
    buf_varint(out, t.size);
    buf_put(out, t.data, t.size);
}

bool meta_text_get(struct reader *in, struct meta_text *t) {
    uint64_t size = reader_varint(in);
    if (in->failed) return false;
    if (size > reader_left(in)) {
        in->failed = true;
        return false;
    }
    *t = (struct meta_text){(const char *)reader_bytes(in, (size_t)size), (size_t)size};
    return size == 0 || memchr(t->data, 0, t->size) == NULL;
}

void meta_int_put(struct buf *out, int32_t v) {
    int64_t wide = v;
    buf_varint(out, ((uint64_t)wide << 1) ^ (wide < 0 ? UINT64_MAX : 0));
}

bool meta_int_get(struct reader *in, int32_t *v) {
    uint64_t raw = reader_varint(in);
    int64_t wide = (int64_t)((raw >> 1) ^ (raw & 1 ? UINT64_MAX : 0));
    *v = (int32_t)wide;
    return !in->failed && wide >= INT32_MIN && wide <= INT32_MAX;
}

bool meta_uint_get(struct reader *in, uint64_t limit, uint64_t *v) {
    *v = reader_varint(in);
    return !in->failed && *v <= limit;
}

static bool uuid_get(struct reader *in, struct uuid *id) {
    const uint8_t *p = reader_bytes(in, sizeof(id->bytes));
    if (p) memcpy(id->bytes, p, sizeof(id->bytes));
    return p != NULL;
}

static void changes_put(const struct meta_record *r, struct buf *out) {
    buf_varint(out, r->change_count);
    for (size_t i = 0; i < r->change_count; i++) {
        const struct meta_change *c = &r->changes[i];
        ASSERT(!(c->removes && r->kind == META_TOPIC_CREATE));
        meta_text_put(out, c->name);
        if (r->kind != META_TOPIC_CREATE) buf_u8(out, c->removes ? 0 : 1);
        if (!c->removes) meta_text_put(out, c->value);
    }
}

static bool changes_get(struct meta_record *r, struct mem *m, struct reader *in) {
    uint64_t count;
    if (!meta_uint_get(in, reader_left(in) / 2, &count)) return false; /* each takes two bytes at least */
    if (count == 0) return true;
    r->changes = mem_zalloc(m, (size_t)count * sizeof(*r->changes));
    for (; r->change_count < count; r->change_count++) {
        struct meta_change *c = &r->changes[r->change_count];
        if (!meta_text_get(in, &c->name)) return false;
        if (r->kind != META_TOPIC_CREATE) {
            uint8_t present = reader_u8(in);
            if (in->failed || present > 1) return false;
            c->removes = present == 0;
        }
        if (!c->removes && !meta_text_get(in, &c->value)) return false;
    }
    return true;
}

static void payload_put(const struct meta_record *r, struct buf *out) {
    switch (r->kind) {
    case META_REGISTRATION:
        meta_int_put(out, r->registration.node_id);
        meta_text_put(out, r->registration.rack);
        meta_text_put(out, r->registration.endpoint);
        return;
    case META_TOPIC_CREATE:
        ASSERT(r->topic_create.partition_count > 0 && r->topic_create.replication_factor > 0);
        buf_put(out, r->topic_create.id.bytes, 16);
        meta_text_put(out, r->topic_create.name);
        buf_varint(out, (uint64_t)r->topic_create.replication_factor);
        buf_varint(out, (uint64_t)r->topic_create.partition_count);
        buf_varint(out, r->topic_create.first_stream.v);
        buf_varint(out, r->topic_create.owner.v);
        meta_int_put(out, r->topic_create.owner_node);
        changes_put(r, out);
        return;
    case META_TOPIC_DELETE:
        buf_put(out, r->topic_delete.id.bytes, 16);
        return;
    case META_TOPIC_CONFIGURE:
        buf_put(out, r->topic_configure.id.bytes, 16);
        changes_put(r, out);
        return;
    case META_RECOVERED:
        buf_varint(out, r->recovered.from.v);
        buf_varint(out, r->recovered.to.v);
        meta_int_put(out, r->recovered.to_node);
        buf_varint(out, r->recovered.state_entry);
        return;
    case META_PRODUCER_IDS:
        buf_varint(out, r->producer_ids.first);
        buf_varint(out, r->producer_ids.count);
        return;
    case META_FORGET_RETIRED:
        buf_varint(out, r->forget_retired.oldest_needed.v);
        return;
    case META_PARTITIONS_ADD:
        ASSERT(r->partitions_add.before > 0 && r->partitions_add.count > 0);
        buf_put(out, r->partitions_add.id.bytes, 16);
        buf_varint(out, (uint64_t)r->partitions_add.before);
        buf_varint(out, (uint64_t)r->partitions_add.count);
        buf_varint(out, r->partitions_add.first_stream.v);
        buf_varint(out, r->partitions_add.owner.v);
        meta_int_put(out, r->partitions_add.owner_node);
        return;
    case META_BROKER_CONFIGURE:
        meta_int_put(out, r->broker_configure.node_id);
        changes_put(r, out);
        return;
    }
    UNREACHABLE();
}

static bool topic_create_get(struct meta_record *r, struct mem *m, struct reader *in) {
    uint64_t factor, count;
    if (!uuid_get(in, &r->topic_create.id) || !meta_text_get(in, &r->topic_create.name)) return false;
    if (!meta_uint_get(in, INT16_MAX, &factor) || !meta_uint_get(in, INT32_MAX, &count)) return false;
    if (factor == 0 || count == 0) return false;
    r->topic_create.replication_factor = (int16_t)factor;
    r->topic_create.partition_count = (int32_t)count;
    return meta_uint_get(in, OFFSET_MAX, &r->topic_create.first_stream.v) &&
           meta_uint_get(in, OFFSET_MAX, &r->topic_create.owner.v) && meta_int_get(in, &r->topic_create.owner_node) &&
           changes_get(r, m, in);
}

static bool partitions_add_get(struct meta_record *r, struct reader *in) {
    uint64_t before, count;
    if (!uuid_get(in, &r->partitions_add.id)) return false;
    if (!meta_uint_get(in, INT32_MAX, &before) || !meta_uint_get(in, INT32_MAX, &count)) return false;
    if (before == 0 || count == 0) return false;
    r->partitions_add.before = (int32_t)before;
    r->partitions_add.count = (int32_t)count;
    return meta_uint_get(in, OFFSET_MAX, &r->partitions_add.first_stream.v) &&
           meta_uint_get(in, OFFSET_MAX, &r->partitions_add.owner.v) && meta_int_get(in, &r->partitions_add.owner_node);
}

static bool payload_get(struct meta_record *r, struct mem *m, struct reader *in) {
    switch (r->kind) {
    case META_REGISTRATION:
        return meta_int_get(in, &r->registration.node_id) && meta_text_get(in, &r->registration.rack) &&
               meta_text_get(in, &r->registration.endpoint);
    case META_TOPIC_CREATE:
        return topic_create_get(r, m, in);
    case META_TOPIC_DELETE:
        return uuid_get(in, &r->topic_delete.id);
    case META_TOPIC_CONFIGURE:
        return uuid_get(in, &r->topic_configure.id) && changes_get(r, m, in);
    case META_RECOVERED:
        return meta_uint_get(in, OFFSET_MAX, &r->recovered.from.v) &&
               meta_uint_get(in, OFFSET_MAX, &r->recovered.to.v) && meta_int_get(in, &r->recovered.to_node) &&
               meta_uint_get(in, UINT64_MAX, &r->recovered.state_entry);
    case META_PRODUCER_IDS:
        return meta_uint_get(in, OFFSET_MAX, &r->producer_ids.first) &&
               meta_uint_get(in, OFFSET_MAX, &r->producer_ids.count);
    case META_FORGET_RETIRED:
        return meta_uint_get(in, OFFSET_MAX, &r->forget_retired.oldest_needed.v);
    case META_PARTITIONS_ADD:
        return partitions_add_get(r, in);
    case META_BROKER_CONFIGURE:
        return meta_int_get(in, &r->broker_configure.node_id) && changes_get(r, m, in);
    }
    UNREACHABLE(); /* the kind was checked */
}

void meta_record_encode(const struct meta_record *r, struct buf *out) {
    size_t frame = out->size;
    buf_u16(out, (uint16_t)r->kind);
    buf_u16(out, RECORD_VERSION);
    buf_u32(out, 0);
    payload_put(r, out);
    size_t size = out->size - frame - FRAME_SIZE;
    ASSERT(size <= UINT32_MAX);
    le32_put(out->data + frame + 4, (uint32_t)size);
}

enum err meta_record_decode(struct meta_record *r, struct mem *m, struct reader *in) {
    *r = (struct meta_record){0};
    unsigned kind = reader_u16(in);
    r->version = reader_u16(in);
    uint32_t size = reader_u32(in);
    const uint8_t *payload = reader_bytes(in, size);
    if (!payload) return ERR_TRUNCATED;
    r->kind = (enum meta_record_kind)kind;
    if (kind == 0 || r->version == 0) return ERR_CORRUPT;
    if (kind > KIND_MAX || r->version > RECORD_VERSION) return ERR_VERSION;
    struct reader inside = reader_of(payload, size);
    if (payload_get(r, m, &inside) && reader_left(&inside) == 0) return OK;
    meta_record_deinit(r, m);
    return ERR_CORRUPT;
}

void meta_record_deinit(struct meta_record *r, struct mem *m) {
    mem_free(m, r->changes);
    r->changes = NULL;
    r->change_count = 0;
}
