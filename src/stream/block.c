#include "stream/block.h"

#include "base/assert.h"

static void commit_slab_release(struct slab *s) {
    struct commit_slab *c = s->owner;
    struct mem *m = c->mem;
    if (c->lent) metric_gauge_add(c->lent, M_LOG_CACHE_LENT_BYTES, -(int64_t)s->size);
    s->magic = 0;
    mem_pages_free(m, s->data, s->size);
    mem_free(m, c);
}

struct commit_slab *commit_slab_create(struct mem *m, size_t size) {
    size = (size + ENV_FILE_ALIGN - 1) & ~(size_t)(ENV_FILE_ALIGN - 1);
    struct commit_slab *c = MEM_NEW(m, struct commit_slab);
    c->mem = m;
    list_init(&c->node);
    slab_init(&c->slab, mem_pages(m, size), size, commit_slab_release, c);
    return c;
}

struct block *block_create(struct mem *m, struct commit_slab *slab, uint64_t id, struct incarnation incarnation,
                           uint64_t now_ns) {
    ASSERT(slab->filled % ENV_FILE_ALIGN == 0);
    ASSERT(slab->slab.size - slab->filled >= ENV_FILE_ALIGN);
    struct block *b = MEM_NEW(m, struct block);
    INIT_OBJ(b, BLOCK_MAGIC);
    b->mem = m;
    list_init(&b->node);
    slab_ref(&slab->slab);
    b->slab = slab;
    b->data = slab->slab.data + slab->filled;
    memset(b->data, 0, GROUP_HEADER_SIZE); /* no group until the WAL writes its header */
    b->size = GROUP_HEADER_SIZE;
    b->id = id;
    b->incarnation = incarnation;
    b->opened_ns = now_ns;
    slab->lane = block_lane(b);
    slab->last_sequence = block_sequence(b);
    return b;
}

void block_destroy(struct block *b) {
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(list_empty(&b->node));
    slab_unref(&b->slab->slab);
    b->magic = 0;
    mem_free(b->mem, b->front);
    mem_free(b->mem, b);
}

struct block *block_copy(const struct block *b) {
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(b->padded >= ENV_FILE_ALIGN && b->front == NULL);
    struct block *c = MEM_NEW(b->mem, struct block);
    *c = *b;
    list_init(&c->node);
    slab_ref(&c->slab->slab);
    c->written = false;
    c->front = mem_aligned(b->mem, ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    memcpy(c->front, b->data, ENV_FILE_ALIGN);
    return c;
}

bool block_fits(const struct block *b, size_t payload_size) {
    size_t used = (size_t)(b->data - b->slab->slab.data) + b->size;
    return record_size(payload_size) <= b->slab->slab.size - used;
}

const uint8_t *block_append(struct block *b, const struct record_header *h, const uint8_t *payload,
                            uint32_t payload_crc) {
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(b->padded == 0);
    ASSERT(block_fits(b, h->payload_size));
    uint8_t *at = b->data + b->size;
    record_encode(at, h, payload_crc, b->incarnation, b->id);
    if (h->payload_size) memcpy(at + RECORD_HEADER_SIZE, payload, h->payload_size);
    size_t whole = record_size(h->payload_size), used = RECORD_HEADER_SIZE + h->payload_size;
    if (whole > used) memset(at + used, 0, whole - used);
    b->size += (uint32_t)whole;
    b->records++;
    return at + RECORD_HEADER_SIZE;
}

void block_seal(struct block *b, uint64_t now_ns) {
    CHECK_OBJ(b, BLOCK_MAGIC);
    ASSERT(b->padded == 0 && b->records > 0);
    b->padded = (b->size + ENV_FILE_ALIGN - 1) & ~(ENV_FILE_ALIGN - 1u);
    memset(b->data + b->size, 0, b->padded - b->size);
    b->slab->filled = (size_t)(b->data - b->slab->slab.data) + b->padded;
    ASSERT(b->slab->filled <= b->slab->slab.size);
    b->sealed_ns = now_ns;
}

bool block_next(const struct block *b, size_t *position, struct record_header *h, const uint8_t **payload) {
    if (*position == 0) *position = GROUP_HEADER_SIZE;
    if (*position >= b->size) return false;
    record_peek(b->data + *position, h, payload);
    *position += record_size(h->payload_size);
    ASSERT(*position <= b->size);
    return true;
}
