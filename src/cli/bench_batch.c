#include "cli/bench_batch.h"

#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"

#define RECORD_FRAMING ((size_t)32) /* more than lengths, deltas and attributes of a record take */
#define FIRST_BYTES ((size_t)1024)
#define AT_LENGTH 8
#define AT_MAGIC 16
#define AT_CRC 17
#define AT_ATTRIBUTES 21
#define AT_LAST_OFFSET_DELTA 23
#define AT_BASE_TIMESTAMP 27
#define AT_MAX_TIMESTAMP 35
#define AT_PRODUCER_ID 43
#define AT_PRODUCER_EPOCH 51
#define AT_BASE_SEQUENCE 53
#define AT_RECORD_COUNT 57

void bench_batch_pool_init(struct bench_batch_pool *p, struct mem *m, size_t batch_bytes, enum kafka_codec codec) {
    *p = (struct bench_batch_pool){.mem = m, .batch_bytes = batch_bytes, .codec = codec};
    list_init(&p->spare);
    buf_init(&p->packed, m);
}

void bench_batch_pool_deinit(struct bench_batch_pool *p) {
    LIST_EACH_SAFE(n, &p->spare) {
        struct bench_batch *b = LIST_ENTRY(n, struct bench_batch, node);
        mem_free(p->mem, b->data);
        mem_free(p->mem, b->dues);
        mem_free(p->mem, b);
        p->made--;
    }
    ASSERT(p->made == 0);
    buf_deinit(&p->packed);
}

/* The last reference has gone, on the loop that the batches belong to. */
static void batch_spare(struct slab *s) {
    struct bench_batch *b = s->owner;
    list_push_front(&b->pool->spare, &b->node);
}

static void batch_grow(struct bench_batch *b, size_t more) {
    if (b->capacity - b->size >= more) return;
    /* Thin traffic over many partitions must not take a whole batch's room for each of them. */
    size_t twice = b->capacity * 2 < b->pool->batch_bytes ? b->capacity * 2 : b->pool->batch_bytes;
    b->capacity = b->size + more > twice ? b->size + more : twice;
    b->data = mem_realloc(b->pool->mem, b->data, b->capacity);
}

struct bench_batch *bench_batch_take(struct bench_batch_pool *p) {
    struct list *n = list_pop_front(&p->spare);
    struct bench_batch *b = n ? LIST_ENTRY(n, struct bench_batch, node) : MEM_NEW(p->mem, struct bench_batch);
    if (!n) {
        b->pool = p;
        list_init(&b->node);
        p->made++;
    }
    b->size = 0;
    batch_grow(b, FIRST_BYTES);
    slab_init(&b->slab, b->data, b->capacity, batch_spare, b);
    b->size = BATCH_HEADER_SIZE;
    b->count = 0;
    b->payload_bytes = 0;
    b->opened_ns = b->handed_ns = 0;
    return b;
}

void bench_batch_release(struct bench_batch *b) {
    list_remove(&b->node);
    slab_unref(&b->slab);
}

bool bench_batch_fits(const struct bench_batch *b, size_t key_size, size_t value_size) {
    return b->count == 0 || b->size + RECORD_FRAMING + key_size + value_size <= b->pool->batch_bytes;
}

static uint64_t zigzag(int64_t v) {
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static size_t varint_size(int64_t v) {
    size_t n = 1;
    for (uint64_t u = zigzag(v); u >= 0x80; u >>= 7) n++;
    return n;
}

static uint8_t *varint_put(uint8_t *at, int64_t v) {
    uint64_t u = zigzag(v);
    for (; u >= 0x80; u >>= 7) *at++ = (uint8_t)(u | 0x80);
    *at++ = (uint8_t)u;
    return at;
}

void bench_batch_add(struct bench_batch *b, int64_t wall_ms, const uint8_t *key, size_t key_size, uint64_t stamp,
                     const uint8_t *payload, size_t payload_size, uint64_t due_ns, bool keep_due) {
    size_t value_size = BENCH_STAMP_SIZE + payload_size;
    ASSERT(key_size < (1u << 30) && value_size < (1u << 30) && b->count < INT32_MAX);
    if (b->count == 0) {
        b->base_ms = b->max_ms = wall_ms;
        b->opened_ns = due_ns;
    }
    if (wall_ms > b->max_ms) b->max_ms = wall_ms;
    batch_grow(b, RECORD_FRAMING + key_size + value_size);
    int64_t delta = wall_ms - b->base_ms;
    size_t size = 1 + varint_size(delta) + varint_size(b->count) + varint_size(key ? (int64_t)key_size : -1) +
                  (key ? key_size : 0) + varint_size((int64_t)value_size) + value_size + 1;
    uint8_t *at = varint_put(b->data + b->size, (int64_t)size), *begin = at;
    *at++ = 0;
    at = varint_put(at, delta);
    at = varint_put(at, b->count);
    at = varint_put(at, key ? (int64_t)key_size : -1);
    if (key) {
        memcpy(at, key, key_size);
        at += key_size;
    }
    at = varint_put(at, (int64_t)value_size);
    be64_put(at, stamp);
    memcpy(at + BENCH_STAMP_SIZE, payload, payload_size);
    at += value_size;
    *at++ = 0; /* no headers */
    ASSERT((size_t)(at - begin) == size && (size_t)(at - b->data) <= b->capacity);
    b->size = (size_t)(at - b->data);
    if (keep_due) {
        b->dues = mem_grow(b->pool->mem, b->dues, (size_t)b->count, &b->dues_capacity, sizeof(*b->dues));
        b->dues[b->count] = due_ns;
    }
    b->count++;
    b->payload_bytes += (key ? key_size : 0) + value_size;
}

enum err bench_batch_finish(struct bench_batch *b, int64_t producer_id, int16_t producer_epoch, int32_t base_sequence) {
    ASSERT(b->count > 0);
    struct bench_batch_pool *p = b->pool;
    if (p->codec != CODEC_NONE) {
        p->packed.size = 0;
        enum err e = kafka_compress(p->codec, COMPRESS_LEVEL_DEFAULT, b->data + BATCH_HEADER_SIZE,
                                    b->size - BATCH_HEADER_SIZE, &p->packed);
        if (e != OK) return e;
        b->size = BATCH_HEADER_SIZE;
        batch_grow(b, p->packed.size);
        memcpy(b->data + BATCH_HEADER_SIZE, p->packed.data, p->packed.size);
        b->size += p->packed.size;
    }
    /* Adding may have moved the bytes; nobody has a slice of them yet. */
    b->slab.data = b->data;
    b->slab.size = b->capacity;
    uint8_t *d = b->data;
    memset(d, 0, BATCH_HEADER_SIZE);
    batch_set_position(d, 0, -1);
    be32_put(d + AT_LENGTH, (uint32_t)(b->size - BATCH_LENGTH_OFFSET));
    d[AT_MAGIC] = 2;
    be16_put(d + AT_ATTRIBUTES, (uint16_t)p->codec);
    be32_put(d + AT_LAST_OFFSET_DELTA, (uint32_t)(b->count - 1));
    be64_put(d + AT_BASE_TIMESTAMP, (uint64_t)b->base_ms);
    be64_put(d + AT_MAX_TIMESTAMP, (uint64_t)b->max_ms);
    be64_put(d + AT_PRODUCER_ID, (uint64_t)producer_id);
    be16_put(d + AT_PRODUCER_EPOCH, (uint16_t)producer_epoch);
    be32_put(d + AT_BASE_SEQUENCE, (uint32_t)base_sequence);
    be32_put(d + AT_RECORD_COUNT, (uint32_t)b->count);
    be32_put(d + AT_CRC, crc32c(0, d + AT_ATTRIBUTES, b->size - AT_ATTRIBUTES));
    return OK;
}
