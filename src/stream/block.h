/* Commit blocks: the memory that records are copied into, once. A block is filled by its shard, sealed, written to
 * the WAL as one group, uploaded from, and read from by tailing
 * consumers: it is the log cache. Blocks are cut one after the other from commit slabs, at ENV_FILE_ALIGN, so that a
 * write goes to the device as it lies.
 *
 * A shard fills and seals; from then on the bytes are immutable but for the group header, which the WAL fills in
 * before it writes. */
#ifndef OXBOW_STREAM_BLOCK_H
#define OXBOW_STREAM_BLOCK_H

#include "base/slice.h"
#include "rt/env.h"
#include "stream/record.h"
#include "stream/sizes.h"

#define BLOCK_MAGIC 0xb10cb10cu

struct commit_slab {
    struct slab slab; /* first: slices refer to it */
    struct mem *mem;
    struct list node;       /* in the shard's cache, oldest first */
    size_t filled;          /* bytes cut off into blocks so far */
    unsigned lane;          /* whose blocks are in it */
    uint64_t last_sequence; /* of the newest block in it */
    /* Set when the cache has let go of it while others still refer to it: counted until they do not. Else NULL. */
    struct metrics *lent;
};

struct block {
    unsigned magic;
    struct mail mail;         /* on its way to the log loop */
    struct list node;         /* in the WAL's, then the uploader's queue */
    struct commit_slab *slab; /* a reference */
    struct mem *mem;
    uint8_t *data;   /* in the slab; begins with the group header */
    uint32_t size;   /* used, header included */
    uint32_t padded; /* what is written */
    uint32_t records;
    uint64_t id; /* lane << 48 | sequence */
    struct incarnation incarnation;
    void *owner; /* struct streams; for the mail */
    uint64_t sealed_ns, opened_ns;
    uint64_t wal_position, wal_end; /* once placed */
    bool written;
    /* Of a copy for one member of a mirror (wal_mirror.c): a first sector of its own, for the group header there says where
     * the group lies in that member's ring; else NULL. Owned. */
    uint8_t *front;
};
static inline unsigned block_lane(const struct block *b) {
    return (unsigned)(b->id >> 48);
}
static inline uint64_t block_sequence(const struct block *b) {
    return b->id & ((1ull << 48) - 1);
}

struct commit_slab *commit_slab_create(struct mem *m, size_t size);
/* Cuts a block from the slab's free end. */
struct block *block_create(struct mem *m, struct commit_slab *slab, uint64_t id, struct incarnation incarnation,
                           uint64_t now_ns);
void block_destroy(struct block *b);
/* Of a sealed block: another that is written from the same memory, but for its first sector, and keeps it alive. */
struct block *block_copy(const struct block *b);
/* Room for one more record of this payload size within the slab. */
bool block_fits(const struct block *b, size_t payload_size);
/* Copies the record in; returns where its payload lies. */
const uint8_t *block_append(struct block *b, const struct record_header *h, const uint8_t *payload,
                            uint32_t payload_crc);
/* No more records: pads, and gives the rest of the slab back for the next block. */
void block_seal(struct block *b, uint64_t now_ns);
/* Walks the records of a block: *position = 0 at first; false at the end. */
bool block_next(const struct block *b, size_t *position, struct record_header *h, const uint8_t **payload);

#endif
