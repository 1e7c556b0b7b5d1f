/* A record batch that is made in the place from which it is sent: records are laid down behind room for the header, and
 * the socket sends the slab itself. Batches are used again; what they hold is freed by their pool. One loop. */
#ifndef OXBOW_CLI_BENCH_BATCH_H
#define OXBOW_CLI_BENCH_BATCH_H

#include "base/bytes.h"
#include "base/list.h"
#include "base/slice.h"
#include "kafka/batch.h"

struct bench_batch {
    struct list node; /* of whoever has it */
    struct slab slab; /* the bytes; in use while a reference is out */
    struct bench_batch_pool *pool;
    uint8_t *data;
    size_t capacity, size; /* size: header and records; after finishing, the bytes to be sent */
    int32_t count;
    int64_t base_ms, max_ms;
    uint64_t payload_bytes; /* of keys and values */
    uint64_t opened_ns;     /* when its first record was due */
    uint64_t handed_ns;     /* first given to a connection; 0: not yet */
    uint64_t *dues;         /* when each record was due; only kept with a timetable */
    size_t dues_capacity;
};

struct bench_batch_pool {
    struct mem *mem;
    size_t batch_bytes; /* a batch is full when one more record would pass this */
    enum kafka_codec codec;
    struct list spare;
    struct buf packed;
    size_t made; /* batches that exist, in use or not */
};

void bench_batch_pool_init(struct bench_batch_pool *p, struct mem *m, size_t batch_bytes, enum kafka_codec codec);
/* When no slice of a batch is out any more and every batch was released. */
void bench_batch_pool_deinit(struct bench_batch_pool *p);
/* An empty batch, with one reference. */
struct bench_batch *bench_batch_take(struct bench_batch_pool *p);
/* Drops the owner's reference; it can be used again when the socket has let go of it too. */
void bench_batch_release(struct bench_batch *b);

/* Whether a record of these sizes still belongs into it; an empty batch takes any. */
bool bench_batch_fits(const struct bench_batch *b, size_t key_size, size_t value_size);
/* A record whose value is the 8 bytes of `stamp` (big-endian) and then the payload. key NULL: none. due_ns: kept when
 * keep_due. */
void bench_batch_add(struct bench_batch *b, int64_t wall_ms, const uint8_t *key, size_t key_size, uint64_t stamp,
                     const uint8_t *payload, size_t payload_size, uint64_t due_ns, bool keep_due);
/* Compresses, fills the header in. producer_id -1: none. Errors of kafka_compress. */
enum err bench_batch_finish(struct bench_batch *b, int64_t producer_id, int16_t producer_epoch,
                            int32_t base_sequence) WARN_UNUSED;

#define BENCH_STAMP_SIZE ((size_t)8)

#endif
