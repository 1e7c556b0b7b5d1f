/* A producer to one topic: records are gathered into a batch for each partition; a full batch, or one that has waited
 * long enough, goes to its partition's leader and is repeated until it is acknowledged or refused for good.
 *
 * A partition has one batch under way at a time, so order is kept. With a producer id, a repeated batch is the same
 * bytes with the same sequence numbers, and the broker stores it once, however often it came. Suspends in
 * producer_start, producer_add and producer_flush. */
#ifndef OXBOW_CLI_PRODUCER_H
#define OXBOW_CLI_PRODUCER_H

#include "base/random.h"
#include "cli/client.h"
#include "kafka/batch.h"

struct producer_options {
    const char *topic;
    int32_t partition; /* -1: by key, or in turn */
    enum kafka_codec codec;
    int16_t acks; /* -1, 0, 1 */
    bool idempotent;
    size_t batch_bytes; /* uncompressed records of one batch; a larger record goes alone */
    uint64_t linger_ns; /* how long a batch waits for more */
};

struct lane { /* one partition */
    int32_t index, leader;
    struct batch_builder builder; /* being filled */
    struct buf lines;             /* uint64_t: the source line of each record in it */
    uint64_t due_ns;              /* when it is to be sent; UINT64_MAX while it is empty */
    /* Finished and not acknowledged yet; none while bytes.size is 0. */
    struct buf bytes;
    struct buf sent_lines;
    int32_t sent_count;
};

struct producer {
    struct client *client;
    struct producer_options options;
    struct rng rng;
    struct lane *lanes;
    size_t lane_count;
    size_t sticky; /* the lane of records without a key */
    int64_t producer_id;
    int16_t producer_epoch;
    uint64_t records, bytes, batches, retries; /* acknowledged; requests that were repeated */
};

enum err producer_start(struct producer *p, struct client *c, const struct producer_options *o) WARN_UNUSED;
void producer_end(struct producer *p);
/* key NULL: none. line: of the source, for messages. After an error nothing more can be sent; client.why names the
 * lines at fault. */
enum err producer_add(struct producer *p, uint64_t line, const void *key, size_t key_size, const void *value,
                      size_t value_size, const struct batch_record_header *headers, size_t header_count) WARN_UNUSED;
/* Sends what is due now, or everything, and waits until it is acknowledged. */
enum err producer_flush(struct producer *p, bool everything) WARN_UNUSED;
/* When something will be due; UINT64_MAX: nothing is waiting. */
uint64_t producer_due_ns(const struct producer *p);

#endif
