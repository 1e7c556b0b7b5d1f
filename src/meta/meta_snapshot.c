/* The snapshot: the head of a checkpoint entry, from which a replay of the cluster log begins. It holds the image as it
 * is after all entries before it.
 *
 * Version 1, with the notation of meta_record.c:
 *
 *   u16 version 1 (little-endian), u16 zero
 *   uint next stream; uint next producer id; uint cleaned below
 *   uint count of brokers, and for each by rising incarnation:
 *     uint incarnation, minus the one before; int node id; u8 retired (0 or 1); text rack; text endpoint
 *   uint count of topics, and for each by name:
 *     uuid; text name; uint replication factor
 *     uint count of overrides, and for each by name: text name, text value
 *     uint partition count; then, until all are there, runs of partitions that differ in nothing but their stream ids,
 *     which are consecutive:
 *       uint length; uint first stream; uint owner (incarnation); int owner's node id; uint epoch; uint state entry
 *
 * Version 2 goes on, and is written only where there is something to go on with:
 *
 *   uint count of nodes whose configuration was changed at run time, and for each by rising id:
 *     int node id (-1: all brokers); uint count of values, at least one, and for each by name: text name, text value
 *
 * Runs, because thousands of partitions usually change hands together: a million of them take a few bytes for each
 * topic. */
#include "base/assert.h"
#include "base/format.h"
#include "meta/meta_image.h"

#define SNAPSHOT_VERSION 2u
static_assert(SNAPSHOT_VERSION == FORMAT_CLUSTER_SNAPSHOT_NEWEST, "one table has them all");
#define POSITION_MAX ((uint64_t)INT64_MAX)

/* How many partitions from p on make one run. */
static int32_t run_length(const struct meta_topic *t, int32_t p) {
    const struct meta_partition *first = &t->partitions[p];
    int32_t n = 1;
    for (; p + n < t->partition_count; n++) {
        const struct meta_partition *q = &t->partitions[p + n];
        if (q->stream.v != first->stream.v + (uint64_t)n || q->owner.v != first->owner.v ||
            q->owner_node != first->owner_node || q->epoch != first->epoch || q->state_entry != first->state_entry) {
            break;
        }
    }
    return n;
}

static void topic_encode(const struct meta_topic *t, enum mutant mutant, struct buf *out) {
    ASSERT(t->partition_count > 0 && t->replication_factor > 0);
    buf_put(out, t->id.bytes, sizeof(t->id.bytes));
    meta_text_put(out, meta_text_of(t->name));
    buf_varint(out, (uint64_t)t->replication_factor);
    size_t config_count = mutant_is(mutant, MUTANT_FORGET_CONFIGS) ? 0 : t->config_count;
    int32_t partition_count = mutant_is(mutant, MUTANT_FORGET_PARTITIONS) ? run_length(t, 0) : t->partition_count;
    buf_varint(out, config_count);
    for (size_t k = 0; k < config_count; k++) {
        meta_text_put(out, meta_text_of(t->configs[k].name));
        meta_text_put(out, meta_text_of(t->configs[k].value));
    }
    buf_varint(out, (uint64_t)partition_count);
    for (int32_t p = 0, n; p < partition_count; p += n) {
        const struct meta_partition *q = &t->partitions[p];
        n = run_length(t, p);
        buf_varint(out, (uint64_t)n);
        buf_varint(out, q->stream.v);
        buf_varint(out, q->owner.v);
        meta_int_put(out, q->owner_node);
        buf_varint(out, (uint64_t)q->epoch);
        buf_varint(out, q->state_entry);
    }
}

static void broker_configs_encode(const struct meta_image *i, struct buf *out) {
    buf_varint(out, i->broker_configs_count);
    for (size_t k = 0; k < i->broker_configs_count; k++) {
        const struct meta_broker_configs *b = &i->broker_configs[k];
        ASSERT(b->config_count > 0);
        meta_int_put(out, b->node_id);
        buf_varint(out, b->config_count);
        for (size_t n = 0; n < b->config_count; n++) {
            meta_text_put(out, meta_text_of(b->configs[n].name));
            meta_text_put(out, meta_text_of(b->configs[n].value));
        }
    }
}

void meta_snapshot_encode(const struct meta_image *i, struct buf *out) {
    buf_u16(out, i->broker_configs_count > 0 ? SNAPSHOT_VERSION : 1);
    buf_u16(out, 0);
    buf_varint(out, i->next_stream);
    buf_varint(out, i->next_producer_id);
    buf_varint(out, i->cleaned_below);
    buf_varint(out, i->broker_count);
    uint64_t before = 0;
    for (size_t k = 0; k < i->broker_count; k++) {
        const struct meta_broker *b = &i->brokers[k];
        ASSERT(b->incarnation.v > before);
        buf_varint(out, b->incarnation.v - before);
        before = b->incarnation.v;
        meta_int_put(out, b->node_id);
        buf_u8(out, b->retired ? 1 : 0);
        meta_text_put(out, meta_text_of(b->rack));
        meta_text_put(out, meta_text_of(b->endpoint));
    }
    buf_varint(out, i->topic_count);
    for (size_t k = 0; k < i->topic_count; k++) topic_encode(i->topics[k], i->mutant, out);
    if (i->broker_configs_count > 0) broker_configs_encode(i, out);
}

static bool brokers_decode(struct meta_image *i, struct reader *in) {
    uint64_t count, incarnation = 0;
    if (!meta_uint_get(in, reader_left(in) / 5, &count)) return false;
    for (uint64_t k = 0; k < count; k++) {
        uint64_t more;
        int32_t node_id;
        struct meta_text rack, endpoint;
        if (!meta_uint_get(in, POSITION_MAX - incarnation, &more) || !meta_int_get(in, &node_id)) return false;
        incarnation += more;
        uint8_t retired = reader_u8(in);
        if (in->failed || retired > 1 || !meta_text_get(in, &rack) || !meta_text_get(in, &endpoint)) return false;
        if (!meta_image_add_broker(i, (struct incarnation){incarnation}, node_id, rack, endpoint, retired == 1))
            return false;
    }
    return true;
}

static bool configs_decode(struct meta_topic *t, struct mem *m, struct reader *in) {
    uint64_t count;
    if (!meta_uint_get(in, reader_left(in) / 2, &count)) return false;
    for (uint64_t k = 0; k < count; k++) {
        struct meta_change c = {0};
        if (!meta_text_get(in, &c.name) || !meta_text_get(in, &c.value)) return false;
        meta_topic_change(t, m, &c);
        if (t->config_count != k + 1) return false; /* twice the same name */
    }
    return true;
}

static bool run_decode(struct meta_topic *t, int32_t p, uint64_t next_stream, struct reader *in, uint64_t *length) {
    uint64_t stream, owner, epoch, state_entry;
    int32_t node;
    if (!meta_uint_get(in, (uint64_t)(t->partition_count - p), length) || *length == 0) return false;
    if (!meta_uint_get(in, POSITION_MAX, &stream) || stream == 0 || stream > next_stream ||
        *length > next_stream - stream)
        return false;
    if (!meta_uint_get(in, POSITION_MAX, &owner) || !meta_int_get(in, &node)) return false;
    if (!meta_uint_get(in, INT32_MAX, &epoch) || !meta_uint_get(in, UINT64_MAX, &state_entry)) return false;
    for (uint64_t k = 0; k < *length; k++) {
        t->partitions[p + (int32_t)k] =
            (struct meta_partition){{stream + k}, {owner}, node, (int32_t)epoch, state_entry};
    }
    return true;
}

static bool topic_fill(struct meta_topic *t, struct meta_image *i, struct reader *in) {
    const uint8_t *id = reader_bytes(in, sizeof(t->id.bytes));
    struct meta_text name;
    uint64_t factor, count;
    if (!id || !meta_text_get(in, &name) || !meta_topic_name_valid(name.data, name.size)) return false;
    memcpy(t->id.bytes, id, sizeof(t->id.bytes));
    t->name = mem_strndup(i->mem, name.data, name.size);
    if (!meta_uint_get(in, INT16_MAX, &factor) || factor == 0 || !configs_decode(t, i->mem, in)) return false;
    t->replication_factor = (int16_t)factor;
    if (!meta_uint_get(in, META_TOPIC_PARTITIONS_MAX, &count) || count == 0) return false;
    t->partition_count = (int32_t)count;
    t->partitions = mem_zalloc(i->mem, (size_t)count * sizeof(*t->partitions));
    for (uint64_t p = 0, n = 0; p < count; p += n) {
        if (!run_decode(t, (int32_t)p, i->next_stream, in, &n)) return false;
    }
    return true;
}

static bool topics_decode(struct meta_image *i, struct reader *in) {
    uint64_t count;
    if (!meta_uint_get(in, reader_left(in) / 20, &count)) return false;
    for (uint64_t k = 0; k < count; k++) {
        struct meta_topic *t = MEM_NEW(i->mem, struct meta_topic);
        if (!topic_fill(t, i, in) || !meta_image_take_topic(i, t)) {
            meta_topic_free(t, i->mem);
            return false;
        }
    }
    return true;
}

static bool broker_configs_decode(struct meta_image *i, struct reader *in) {
    uint64_t count, values;
    if (!meta_uint_get(in, reader_left(in) / 4, &count) || count == 0) return false;
    for (uint64_t k = 0; k < count; k++) {
        int32_t node_id, before = k > 0 ? i->broker_configs[k - 1].node_id : META_ALL_BROKERS - 1;
        if (!meta_int_get(in, &node_id) || node_id <= before) return false;
        if (!meta_uint_get(in, reader_left(in) / 2, &values) || values == 0) return false;
        for (uint64_t n = 0; n < values; n++) {
            struct meta_change c = {0};
            if (!meta_text_get(in, &c.name) || !meta_text_get(in, &c.value)) return false;
            meta_image_change_broker(i, node_id, &c);
            if (i->broker_configs[k].config_count != n + 1) return false; /* twice the same name */
        }
    }
    return true;
}

enum err meta_snapshot_decode(struct meta_image *i, struct mem *m, struct slice bytes) {
    meta_image_init(i, m);
    struct reader in = reader_of(bytes.data, bytes.size);
    uint16_t version = reader_u16(&in), zero = reader_u16(&in);
    if (!in.failed && version > SNAPSHOT_VERSION) {
        meta_image_deinit(i);
        return ERR_VERSION;
    }
    bool ok = !in.failed && version >= 1 && zero == 0;
    ok = ok && meta_uint_get(&in, POSITION_MAX, &i->next_stream) && i->next_stream > 0;
    ok = ok && meta_uint_get(&in, POSITION_MAX, &i->next_producer_id) &&
         meta_uint_get(&in, UINT64_MAX, &i->cleaned_below);
    ok = ok && brokers_decode(i, &in) && topics_decode(i, &in);
    ok = ok && (version == 1 || broker_configs_decode(i, &in)) && reader_left(&in) == 0;
    if (ok) return OK;
    meta_image_deinit(i);
    return in.failed ? ERR_TRUNCATED : ERR_CORRUPT;
}
