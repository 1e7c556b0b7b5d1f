/* A consumer of partitions of one topic: fetches from their leaders, follows them when they change, and hands over
 * records one by one, in order within each partition. Control records are never handed over; with read_committed,
 * neither are those of transactions that were aborted. */
#ifndef OXBOW_CLI_CONSUMER_H
#define OXBOW_CLI_CONSUMER_H

#include "cli/client.h"
#include "kafka/batch.h"

struct place_read { /* one partition */
    int32_t index, leader;
    int64_t offset; /* of the next record */
    int64_t end;    /* stop before this offset; INT64_MAX: never */
    int32_t max_bytes;
    bool began; /* something was fetched here: its offset was valid once */
};

struct consumer {
    struct client *client;
    const char *topic;
    int8_t isolation;          /* 1: read_committed */
    struct place_read *places; /* owned */
    size_t count;
    /* Takes a record, whose bytes are valid during the call only. False: no more are wanted. Never suspends. */
    bool (*take)(void *ctx, int32_t partition, const struct batch_record *r);
    void *ctx;
    bool full;                 /* take returned false */
    uint64_t failing_since_ns; /* 0: the last round went well */
    unsigned attempt;
};

void consumer_init(struct consumer *x, struct client *c, const char *topic);
void consumer_deinit(struct consumer *x);
/* Adds a partition to be read from `offset` on. */
void consumer_add(struct consumer *x, int32_t index, int32_t leader, int64_t offset, int64_t end);
/* Fetches once from every leader, waiting up to half a second for something to come. Failures that pass are repeated in
 * later rounds, until they have lasted for the time-out. Suspends. */
enum err consumer_round(struct consumer *x) WARN_UNUSED;
/* Every partition has come to its end. */
bool consumer_at_end(const struct consumer *x);

#endif
