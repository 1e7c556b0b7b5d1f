#include "cli/consumer_protocol.h"

#include <string.h>

/* A cursor over big-endian bytes; past the end everything is zero and `failed` stays set. */
struct cursor {
    const uint8_t *at, *end;
    bool failed;
};

static const uint8_t *take(struct cursor *c, size_t n) {
    if (c->failed || (size_t)(c->end - c->at) < n) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->at;
    c->at += n;
    return p;
}

static int16_t take16(struct cursor *c) {
    const uint8_t *p = take(c, 2);
    return p ? (int16_t)be16_get(p) : 0;
}

static int32_t take32(struct cursor *c) {
    const uint8_t *p = take(c, 4);
    return p ? (int32_t)be32_get(p) : 0;
}

static struct kafka_string take_string(struct cursor *c) {
    int16_t size = take16(c);
    if (size < 0) c->failed = true;
    const uint8_t *p = take(c, c->failed ? 0 : (size_t)size);
    return p ? kafka_string_view((const char *)p, (size_t)size) : kafka_string_view("", 0);
}

/* A count of elements that take at least `least` bytes each: never more than there can be. */
static int32_t take_count(struct cursor *c, size_t least) {
    int32_t n = take32(c);
    if (n < 0 || (size_t)n > (size_t)(c->end - c->at) / least) c->failed = true;
    return c->failed ? 0 : n;
}

bool assignment_decode(const uint8_t *data, size_t size, struct arena *a, struct assignment *out) {
    *out = (struct assignment){0};
    if (size == 0) return true;
    struct cursor c = {data, data + size, false};
    if (take16(&c) < 0) return false;
    out->count = take_count(&c, 6);
    out->topics = ARENA_ARRAY(a, struct assigned_topic, out->count + 1);
    for (int32_t i = 0; i < out->count; i++) {
        struct assigned_topic *t = &out->topics[i];
        t->topic = take_string(&c);
        t->partitions.count = take_count(&c, 4);
        t->partitions.items = ARENA_ARRAY(a, int32_t, t->partitions.count + 1);
        for (int32_t k = 0; k < t->partitions.count; k++) t->partitions.items[k] = take32(&c);
    }
    if (c.failed) *out = (struct assignment){0};
    return !c.failed; /* newer versions may have more behind it */
}

static void put16(struct buf *out, int16_t v) {
    be16_put(buf_extend(out, 2), (uint16_t)v);
}

static void put32(struct buf *out, int32_t v) {
    be32_put(buf_extend(out, 4), (uint32_t)v);
}

static void put_string(struct buf *out, struct kafka_string s) {
    put16(out, (int16_t)s.size);
    buf_put(out, s.data, (size_t)s.size);
}

void assignment_encode(const struct assignment *from, struct buf *out) {
    put16(out, 0);
    put32(out, from->count);
    for (int32_t i = 0; i < from->count; i++) {
        put_string(out, from->topics[i].topic);
        put32(out, from->topics[i].partitions.count);
        for (int32_t k = 0; k < from->topics[i].partitions.count; k++) put32(out, from->topics[i].partitions.items[k]);
    }
    put32(out, -1);
}

bool subscription_decode(const uint8_t *data, size_t size, struct arena *a, struct kafka_string_array *topics) {
    struct cursor c = {data, data + size, false};
    *topics = (struct kafka_string_array){0};
    if (take16(&c) < 0) return false;
    topics->count = take_count(&c, 2);
    topics->items = ARENA_ARRAY(a, struct kafka_string, topics->count + 1);
    for (int32_t i = 0; i < topics->count; i++) topics->items[i] = take_string(&c);
    return !c.failed;
}

void subscription_encode(const struct kafka_string *topics, int32_t count, struct buf *out) {
    put16(out, 0);
    put32(out, count);
    for (int32_t i = 0; i < count; i++) put_string(out, topics[i]);
    put32(out, -1);
}
