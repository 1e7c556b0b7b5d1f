/* What the tests of partitions share: an environment whose clocks stand still, one loop, a stream in memory, and
 * calls made in fibers that the test can start and
 * look at later. */
#ifndef OXBOW_TESTS_PARTITION_FIXTURE_H
#define OXBOW_TESTS_PARTITION_FIXTURE_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/random.h"
#include "kafka/batch.h"
#include "partition/partition.h"
#include "rt/env.h"
#include "unit/partition/fake_stream.h"

#define FIXTURE_JOBS 256
#define NOW_MS INT64_C(1700000000000)
#define DAY_MS INT64_C(86400000)

struct job { /* one call of a partition's function, in a fiber of its own */
    struct fixture *f;
    bool done;
    enum err result;
    uint8_t *records;
    size_t size;
    int16_t version;
    struct partition_append_result append;
    uint64_t end_offset; /* of a wait */
    int64_t timestamp;   /* of an offset lookup */
    int32_t epoch;
    int64_t offset, found_timestamp;
    int32_t found_epoch;
    struct partition_fetch fetch;
    struct partition_fetched fetched;
    struct slices *slices;
};

struct fixture {
    struct env env; /* first */
    struct mem mem;
    struct metrics *metrics;
    struct logger log;
    struct loop loop;
    struct rng rng;
    uint64_t now_ns;
    int64_t wall_ms;
    struct streams streams;
    struct topic_config config;
    struct conversions conversions;
    struct partition *p;
    int32_t leader_epoch;
    int64_t expiration_ms;
    unsigned offloads;
    bool hold_offloads; /* workers do not answer until fixture_release */
    struct waitq held;
    struct job jobs[FIXTURE_JOBS];
    size_t job_count;
};

void fixture_init(struct fixture *f);
void fixture_deinit(struct fixture *f); /* closes, and checks that all memory was given back */
/* a topic config; also of the open partition */
void fixture_set(struct fixture *f, const char *name, const char *value);
void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f); /* everything appended has become durable, or is made to */
/* Ends the broker without another record becoming durable, and begins the next one, with a higher leader epoch. */
void fixture_restart(struct fixture *f);
void fixture_settle(struct fixture *f); /* until nothing is ready */
void fixture_release(struct fixture *f);

/* A batch as a client sends it. */
struct batch_spec {
    enum kafka_codec codec;
    int count;         /* 0: 1 */
    int64_t timestamp; /* 0: NOW_MS; of the first record, the others follow by timestamp_step */
    int64_t timestamp_step;
    int64_t producer_id; /* 0: none */
    int16_t epoch;
    int32_t sequence;
    int16_t attributes;
    bool no_key;
    size_t value_size; /* 0: 10 */
};
/* In memory that lives as long as the test's job does. */
struct job *fixture_append(struct fixture *f, const struct batch_spec *s);
struct job *fixture_append_bytes(struct fixture *f, const void *data, size_t size, int16_t version);
/* The bytes of such a batch; free with mem_free(&f->mem, ...). */
uint8_t *fixture_batch(struct fixture *f, const struct batch_spec *s, size_t *size);
void fixture_reseal(uint8_t *batch, size_t size); /* makes the checksum right again */
struct job *fixture_wait(struct fixture *f, uint64_t end_offset);
struct job *fixture_list(struct fixture *f, int64_t timestamp);
/* Reads; the slices are the caller's. */
struct job *fixture_read(struct fixture *f, const struct partition_fetch *fetch, struct slices *out);
void fixture_retain(struct fixture *f);

/* Appends and checks the error and, for OK, the base offset. */
void check_append(struct fixture *f, const struct batch_spec *s, enum err expected, int64_t base_offset,
                  const char *file, int line);
#define assert_append(f, expected, base, ...)                                                                          \
    check_append(f, &(struct batch_spec){__VA_ARGS__}, expected, base, __FILE__, __LINE__)
/* ListOffsets must give this. */
void check_offset(struct fixture *f, int64_t timestamp, int64_t offset, int64_t found_timestamp, const char *file,
                  int line);
#define assert_offset(f, timestamp, offset, found) check_offset(f, timestamp, offset, found, __FILE__, __LINE__)

#endif
