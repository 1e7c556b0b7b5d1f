/* What is known of one partition's log: which batches were sent there, which were acknowledged at which offset, what
 * readers were shown, where it begins and ends, as told. See check.h for who is bound by what. */
#ifndef OXBOW_SIM_CHECK_PARTITION_H
#define OXBOW_SIM_CHECK_PARTITION_H

#include "kafka/batch.h"
#include "rt/env.h"

#define CHECK_PARTITIONS_MAX 6u
#define CHECK_ITEMS_MAX 200000u
#define CHECK_NOBODY UINT32_MAX

struct check;
struct check_topic;
struct check_name;

/* One batch, as the world knows it. Its id is its place in the table. */
struct check_item {
    uint32_t name, partition;
    uint32_t sender,
        order; /* of the producer in that partition of that name; producers are numbered anew with their id */
    uint32_t records, value_size, bytes; /* bytes: at most, in the log */
    int64_t timestamp;                   /* of the first record, a millisecond more for each other one; -1: none */
    bool idempotent;
    uint8_t codec, magic; /* as it is sent */
    uint32_t sent;
    const struct check_topic *topic; /* where it was acknowledged, as far as that is certain */
    int64_t offset;                  /* as acknowledged or shown; -1: neither */
    int64_t appended;                /* when, as was told with that; 0: not told */
    bool acked;
    uint32_t seen; /* by the judge */
};

struct check_items {
    struct check_item *items;
    size_t count, capacity;
};

/* A value that only rises, and who told it. */
struct check_mark {
    int64_t value;
    uint64_t inc;
};

struct check_shown { /* what readers were shown at an offset: the batch that begins there */
    uint32_t item, records;
    int32_t epoch; /* -1: not told */
    uint32_t audit;
    int64_t appended; /* when, where topics tell that; 0: not told */
};

struct check_partition {
    struct check_topic *topic;
    int32_t partition;
    struct check_shown *shown; /* by offset; records 0: nothing shown yet */
    size_t capacity;
    int64_t end;                           /* highest shown */
    struct check_mark hw;                  /* high watermark: at least that, as answers of any kind show */
    struct check_mark told;                /* ... and as answers name it */
    struct check_mark start;               /* log start offset */
    struct check_mark epoch;               /* leader epoch */
    int64_t delete_asked;                  /* DeleteRecords may have moved the start up to here */
    int64_t retention_ms, retention_bytes; /* the smallest ever asked for; INT64_MAX: none */
};

/* What was known when a request was sent. */
struct check_look {
    uint64_t asked;
    struct check_mark hw, start;
};

/* A new item; NULL: the table is full. Valid until the next one. */
struct check_item *check_item_new(struct check *k, uint32_t *id);
struct check_item *check_item_at(struct check *k, uint32_t id);
/* Appends it as a batch of magic 2 or as a message set. producer -1: none. */
void check_item_make(struct check *k, struct env *env, uint32_t id, int64_t producer, int32_t sequence,
                     struct buf *out);
/* Acknowledged at that offset, as appended at that time (-1: the record's own times count; 0: the answer does not say).
 * topic NULL: it is not certain which topic of the name it went to. */
void check_item_acked(struct check *k, uint32_t id, struct check_topic *t, int64_t offset, int64_t appended,
                      uint64_t inc, const struct check_look *look, int64_t log_start);

struct check_look check_partition_look(struct check *k, const struct check_partition *l);
uint64_t check_partition_subject(const struct check_partition *l);
/* An answer tells where the log ends (as may be shown) and begins; -1: it does not tell. */
void check_partition_ends(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                          int64_t hw, int64_t start);
void check_partition_epoch(struct check *k, struct check_partition *l, uint64_t inc, int32_t epoch);
/* A reader that asked for `offset` is told that this is out of range. */
void check_partition_out_of_range(struct check *k, struct check_partition *l, uint64_t inc,
                                  const struct check_look *look, int64_t offset);
/* A reader at `next` is shown records. `inside`: they may begin below. Returns where it reads on; -1: a promise is
 * broken. audit: a number of that reading, 0: none. */
int64_t check_partition_batch(struct check *k, struct mem *m, struct check_partition *l, uint64_t inc,
                              const struct check_look *look, int64_t next, bool inside, const struct batch_header *h,
                              uint32_t audit);
/* The same for a message of an old set. */
struct check_message {
    int64_t offset;
    bool timed, stamped; /* it has a timestamp; it is that of the append */
    int64_t timestamp;
    const uint8_t *value;
    int32_t size;
};
int64_t check_partition_message(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                                int64_t next, const struct check_message *m);
/* DeleteRecords up to that offset (-1: to the end) is sent; is answered with a low watermark. */
void check_partition_delete_asked(struct check *k, struct check_partition *l, int64_t offset);
/* ListOffsets by time. */
void check_partition_time(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                          int64_t asked, int64_t offset, int64_t timestamp);
/* OffsetForLeaderEpoch. `current`: the epoch of who answers. */
void check_partition_epoch_end(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                               int32_t asked, int32_t epoch, int64_t end);
/* Everything from `start` to `end` was read with that audit number. */
void check_partition_judge(struct check *k, struct check_partition *l, int64_t start, int64_t end, uint32_t audit);

void check_partition_init(struct check_partition *l, struct check_topic *t, int32_t partition);
void check_partition_deinit(struct check *k, struct check_partition *l);

#endif
