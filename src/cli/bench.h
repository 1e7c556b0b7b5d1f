/* `oxbow bench`: what its parts share. cmd_bench.c reads the command line; bench_run.c makes topics, threads and phases;
 * each thread is a loop with producers (bench_producer.c), consumers (bench_consumer.c) and idle connections, which all
 * count into the thread's own `struct bench_counts`; once a second the run takes these counts and adds them up.
 * bench_report.c says what came out.
 *
 * Times are of the environment's monotonic clock: end to end is measured between processes of one machine only. */
#ifndef OXBOW_CLI_BENCH_H
#define OXBOW_CLI_BENCH_H

#include "cli/bench_histogram.h"
#include "cli/bench_work.h"
#include "cli/client.h"
#include "cli/process.h"
#include "kafka/compress.h"

#define BENCH_CONFIGS_MAX 64u
#define BENCH_IN_FLIGHT_MAX 64u
#define BENCH_THREADS_MAX 64u
#define BENCH_TOPIC_NAME_SIZE 300u

struct bench_config {
    const char *name;
    size_t name_size;
    const char *value;
};

struct bench_settings {
    const char *topic;
    uint64_t topics, partitions, replication;
    struct bench_config configs[BENCH_CONFIGS_MAX];
    size_t config_count;
    /* Producers. */
    uint64_t producers, record_size, batch_bytes, request_bytes, linger_ns, in_flight, buffer_bytes;
    int16_t acks;
    bool idempotence;
    enum kafka_codec codec;
    enum key_kind key_kind;
    uint64_t key_count;
    uint64_t rate, rate_unit; /* of all producers; 0: full speed */
    uint64_t seed, compressibility;
    bool repeat;
    uint64_t backlog_bytes;
    /* Consumers. */
    uint64_t consumers, fetch_wait_ms, fetch_bytes, partition_bytes, fetch_min_bytes;
    const char *group;
    bool from_beginning, each_all, no_sessions, no_crc;
    /* The rest. */
    uint64_t connections, threads;
    uint64_t warm_up_ns, duration_ns, records, bytes, drain_ns; /* 0: not given */
    uint64_t broker_pid;
    const char *json_file, *svg_folder; /* NULL: none */
};

/* Codes of Kafka's that answers had: [0] is -1, [1] is 0 (a connection was lost), [n + 1] is n. */
#define BENCH_CODES 160u
#define BENCH_CODE_LOST ((int16_t)0)

/* What a thread has counted since it was last asked. */
struct bench_counts {
    uint64_t in_records, in_bytes, in_batch_bytes, in_batches, in_requests; /* acknowledged */
    uint64_t out_records, out_bytes, out_batch_bytes, out_answers;
    uint64_t retries;     /* batches that were sent again */
    uint64_t gaps;        /* offsets that a consumer expected and did not get, or got twice */
    uint64_t backlog_out; /* records of the backlog that consumers have read */
    uint64_t idle_lost;   /* idle connections that the broker closed */
    uint64_t errors[BENCH_CODES];
    struct histogram produce, end_to_end; /* µs */
};
void bench_counts_merge(struct bench_counts *into, const struct bench_counts *from);
void bench_count_error(struct bench_counts *c, int16_t code);

/* A topic as the run found it; the same for all threads, never changed after the start. */
struct bench_topic {
    char name[BENCH_TOPIC_NAME_SIZE];
    int32_t partitions;
    size_t first; /* its partition 0 among those of all topics */
};

struct bench_thread;

struct bench_run {
    struct client *client; /* of loop 0 */
    const struct bench_settings *settings;
    struct bench_topic *topics;
    size_t topic_count, partition_count; /* of all topics together */
    struct keys keys;
    struct payload payload;
    uint64_t began_ns; /* stamps before are of another run */
    struct bench_thread *threads;
};

struct bench_thread {
    struct bench_run *run;
    struct loop *loop;
    unsigned index;
    struct mem mem;
    struct client client; /* for idle connections, and for failures of the thread */
    struct bench_counts counts;
    struct bench_producer **producers;
    struct bench_consumer **consumers;
    size_t producer_count, consumer_count;
    struct list idle;
    uint64_t idle_open;
    unsigned openers; /* fibers that open idle connections */
    struct waitq opened;
    bool failed;   /* client.why says how: the run ends */
    bool stopping; /* nothing new is begun */
};
/* Remembers the first failure; any fiber or callback of the thread's loop. */
void bench_thread_fail(struct bench_thread *t, const char *why);

/* The topic whose name this is; NULL for none. */
const struct bench_topic *bench_topic_find(const struct bench_run *r, struct kafka_string name);

/* --- Producers (bench_producer.c). On their thread's loop. */

struct bench_producer;
struct bench_producing { /* what one phase asks of a producer */
    struct schedule schedule;
    uint64_t records; /* UINT64_MAX: until it is stopped */
    bool stamped;     /* records carry the time; else 0: the backlog */
};
/* Makes it and its fiber, which connects. */
struct bench_producer *bench_producer_create(struct bench_thread *t, uint64_t index);
bool bench_producer_ready(const struct bench_producer *p);
void bench_producer_begin(struct bench_producer *p, const struct bench_producing *what);
/* No new records; what was made is still delivered. */
void bench_producer_finish(struct bench_producer *p);
/* Everything that was made is acknowledged, and no more is wanted. */
bool bench_producer_done(const struct bench_producer *p);
/* Closes; suspends. */
void bench_producer_destroy(struct bench_producer *p);

/* --- Consumers (bench_consumer.c). On their thread's loop. */

struct bench_consumer;
struct bench_consumer *bench_consumer_create(struct bench_thread *t, uint64_t index);
/* It knows its partitions and from where to read them. */
bool bench_consumer_ready(const struct bench_consumer *x);
size_t bench_consumer_partitions(const struct bench_consumer *x);
/* Begins to fetch. */
void bench_consumer_begin(struct bench_consumer *x);
/* From now on it looks out for the ends of its partitions. */
void bench_consumer_drain(struct bench_consumer *x);
/* After bench_consumer_drain: every partition was read up to its end. */
bool bench_consumer_at_end(const struct bench_consumer *x);
/* Leaves its group, closes; suspends. */
void bench_consumer_destroy(struct bench_consumer *x);

/* --- The run (bench_run.c). */

struct bench_row { /* a second */
    uint64_t second;
    uint64_t took_ns;
    bool measured;
    uint64_t in_records, in_bytes, out_records, out_bytes, errors;
    uint64_t produce_p50, produce_p99, produce_max, end_p50, end_p99, end_max;
};

struct bench_result {
    const struct bench_settings *settings;
    struct bench_row *rows;
    size_t row_count, row_capacity;
    struct bench_counts measured, whole;
    uint64_t measured_ns;
    uint64_t own_cpu_ns;                                               /* while measuring */
    struct process_usage broker_before, broker_after;                  /* around the measured time */
    uint64_t backlog_records, backlog_bytes, backlog_ns, caught_up_ns; /* caught_up_ns 0: not */
    uint64_t expected_records; /* that consumers should have read; UINT64_MAX: not known */
    uint64_t late_records;     /* due and not acknowledged when the measured time ended */
    uint64_t idle_open;
    bool interrupted, drained;
};

/* Runs it all; fills the result, also after a failure, which is in client.why. Suspends. */
enum err bench_run(struct client *c, const struct bench_settings *s, struct bench_result *out) WARN_UNUSED;
void bench_result_deinit(struct bench_result *r, struct mem *m);

/* --- The report (bench_report.c). Append to `out`. */
void bench_report_table(const struct bench_result *r, struct mem *m, struct buf *out);
void bench_report_json(const struct bench_result *r, struct buf *out);
/* Replaces a file; suspends. */
enum err bench_file_write(struct client *c, const char *path, const struct buf *b) WARN_UNUSED;
/* The three pictures, written into the folder; suspends. */
enum err bench_report_svg(struct client *c, const struct bench_result *r, const char *folder) WARN_UNUSED;

#endif
