/* Shared by bench_producer.c and bench_lane.c: what a producer of the load consists of. On the loop of its thread. */
#ifndef OXBOW_CLI_BENCH_PRODUCER_PRIV_H
#define OXBOW_CLI_BENCH_PRODUCER_PRIV_H

#include "cli/bench_batch.h"
#include "cli/bench_conn.h"

struct outlet;

struct lane {
    const struct bench_topic *topic;
    int32_t partition, leader; /* leader -1: none now */
    int32_t next_sequence;
    struct outlet *outlet;
    struct bench_batch *open;
    struct list closed, flying, again; /* of batches; again: failed, to be repeated */
    size_t flying_count;
    bool blocked, ready;
    struct list ready_node, open_node, place; /* of outlet.ready, producer.open, outlet.lanes */
    uint64_t round;                           /* the request that it was last part of */
};

struct outlet {
    struct list node; /* of producer.outlets */
    struct bench_producer *producer;
    int32_t node_id;
    struct bench_conn conn;
    unsigned in_flight;
    struct list ready, lanes;
    struct list unanswered; /* of flights; without acknowledgement: until their bytes have left */
};

struct flight {       /* a request */
    struct list node; /* of outlet.unanswered, or producer.spare_flights */
    struct outlet *outlet;
    size_t count, capacity;
    struct carried {
        struct lane *lane;
        struct bench_batch *batch;
    } * items;
};

struct bench_producer {
    struct bench_thread *thread;
    const struct bench_settings *settings;
    uint64_t index;
    struct client client;
    struct bench_batch_pool batches;
    struct lane *lanes;
    size_t lane_count, sticky;
    struct list outlets, open, spare_flights;
    struct arena arena;
    struct rng rng;
    struct payload_walk walk;
    int64_t producer_id;
    int16_t producer_epoch;
    /* The phase. */
    struct bench_producing what;
    uint64_t made; /* records of the phase */
    uint64_t round;
    uint64_t flying, waiting; /* batches under way; finished, or failed, and waiting */
    size_t buffered;          /* bytes of all batches that are not acknowledged */
    bool running, finishing, ready, trouble, ending, ended;
    uint64_t failing_since_ns;
    unsigned attempt;
    struct timer timer;
    struct waitq wake; /* its fiber, and who waits for the end */
};

/* bench_lane.c; none suspends. */
void bench_producer_trouble(struct bench_producer *p);
bool bench_producer_timed(const struct bench_producer *p);
bool bench_more_wanted(const struct bench_producer *p);
void bench_lane_ready(struct lane *l);
void bench_lane_unready(struct lane *l);
/* Finishes the batch that is being filled. */
enum err bench_lane_close(struct bench_producer *p, struct lane *l) WARN_UNUSED;
/* Records that are due, or as many as the buffer takes; true when more could be made at once. */
bool bench_records_make(struct bench_producer *p, uint64_t now_ns);
/* Whether records are put into lanes ahead of requests; else batches are made on demand. */
bool bench_fills_ahead(const struct bench_producer *p);
/* A full batch for an outlet, at full speed without keys: the lanes of the outlet in turn. */
struct lane *bench_lane_fill(struct bench_producer *p, struct outlet *o, uint64_t round, uint64_t now_ns);
/* Lanes whose batch has lingered long enough, or must go for other reasons. */
void bench_open_expire(struct bench_producer *p, uint64_t now_ns);
void bench_batch_forget(struct bench_producer *p, struct bench_batch *b);
void bench_batch_acknowledged(struct bench_producer *p, struct bench_batch *b, uint64_t now_ns);
/* It is no longer under way. */
void bench_batch_landed(struct bench_producer *p, struct lane *l);
/* To be repeated. Those of a lane fail in the order in which they were sent, or are put back into it. */
void bench_batch_failed(struct bench_producer *p, struct lane *l, struct bench_batch *b);

#endif
