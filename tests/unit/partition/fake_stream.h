/* Streams in memory, for the tests of partitions: stream/stream.h with one stream, whose records become durable only
 * when the test says so. */
#ifndef OXBOW_TESTS_PARTITION_FAKE_STREAM_H
#define OXBOW_TESTS_PARTITION_FAKE_STREAM_H

#include "rt/fiber.h"
#include "stream/stream.h"

struct fake_record {
    struct stream_record record; /* payload: own copy */
    int32_t epoch;
};

struct streams { /* the "disk": outlives the open stream */
    struct mem *mem;
    struct fake_record *records;
    size_t count, capacity;
    size_t durable_count;
    size_t room;                /* bytes that appends may still take; SIZE_MAX: no limit */
    enum err refuse_reserve;    /* what stream_reserve answers, unless OK */
    struct stream *open;        /* or NULL */
    unsigned reads;             /* calls of stream_read and stream_find_timestamp */
    void (*reading)(void *ctx); /* what happens while stream_read waits, or NULL; may suspend */
    void *reading_ctx;
    uint64_t fresh_from; /* what stream_is_fresh says */
};

void fake_streams_init(struct streams *s, struct mem *m);
void fake_streams_deinit(struct streams *s);
/* Makes the next n records durable (SIZE_MAX: all) and tells the owner. */
void fake_durable(struct streams *s, size_t n);
/* Gives room and wakes who waits for it. */
void fake_give_room(struct streams *s, size_t bytes);
/* Waiters for durability get ERR_FENCED. */
void fake_fence(struct streams *s);
/* What was not durable is lost. No stream is open. */
void fake_crash(struct streams *s);
/* The state that the durable records amount to. */
void fake_state(struct streams *s, struct stream_state *out);

#endif
