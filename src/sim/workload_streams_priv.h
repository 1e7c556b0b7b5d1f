/* What the files of the workloads "streams", "rivals" and "mirror" share: what a run is, and what becomes of it in each
 * file. workload_streams.c: a broker's life, and a run; workload_streams_part.c: what is done with one partition, and what
 * it promises; workload_streams_look.c: what lies in the bucket and in the WAL; workload_mirror.c: a mirror's members, and
 * what happens to them. */
#ifndef OXBOW_SIM_WORKLOAD_STREAMS_PRIV_H
#define OXBOW_SIM_WORKLOAD_STREAMS_PRIV_H

#include "meta/meta.h"
#include "sim/check_store.h"
#include "sim/disk.h"
#include "sim/history.h"
#include "sim/workloads.h"
#include "stream/stream.h"

#define PARTITIONS_MAX 4u
#define BATCHES_MAX 4000u
#define WAL_PATH "/var/wal/broker.wal"
#define MIRRORED 2u

struct model_batch {
    uint64_t id, base_offset, end_offset;
    struct state_batch view;
    uint32_t size;
    uint32_t records, value_size;
};

struct model {
    /* as appended by the newest broker; cut back to what was found at each start */
    struct model_batch batches[BATCHES_MAX];
    size_t count;
    uint64_t acked_end, shown_end;
    uint64_t trim_asked, trim_acked;
    int32_t epoch_next; /* the lowest leader epoch that a start may have now */
    /* Another broker has opened the partition: nothing above these may be acknowledged any more. */
    bool overtaken;
    uint64_t kept_end, kept_start;
};

/* A machine. There is one, or two that take turns: then the one that was started last is the one that counts. */
struct side {
    struct streams_test *test;
    struct sim_node *broker;
    struct model models[PARTITIONS_MAX];
    bool superseded; /* the other one was started since */
    struct env *env; /* of its newest life */
    bool stop_asked;
    bool cut[MIRRORED]; /* devices that it does not reach, where two machines do; */
    bool missed;        /* and one of them since it was started */
};

struct streams_test {
    struct sim_run *run;
    struct sim_world *world;
    struct side sides[2], *current;
    struct side *holders[PARTITIONS_MAX]; /* whose model is the newest */
    unsigned partitions;
    bool over; /* the load ends; the broker stops in order */
    bool audited;
    size_t value_max;
    uint64_t wal_bytes, upload_bytes, cache_bytes, block_cache_bytes, read_ahead_bytes;
    unsigned read_gets;
    unsigned followers; /* of each partition: readers that catch up */
    uint32_t upload_interval_ms, checkpoint_entries, checkpoint_interval_ms;
    unsigned starts;
    unsigned shards;         /* loops of their own; 0: everything on one */
    double crash_recovering; /* chance of a crash between a recovery and the record of it in the cluster log */
    double drop;             /* chance that the topic is deleted and made anew */
    double slow_open;        /* chance of a pause between two opens */
    double trim;             /* chance of a trim after a read */
    double crash;            /* chance of a crash every few seconds */
    bool no_wal;             /* the ledger confirms everything */
    bool shared;             /* the store is not exclusive: what a dead broker sent may still land */
    double by_ledger;        /* chance that a partition's records are confirmed by the ledger, WAL or not */
    double change;           /* chance that a reader changes that */
    double wide;             /* chance that a batch takes WIDE_SPAN offsets */
    uint32_t flush_interval_ms;
    double takeover; /* chance that the other machine takes over */
    /* A mirror: */
    bool mirrored, mirror_stops, mirror_quick;
    bool loses;     /* devices are lost, one at a time, while another has everything; */
    bool loses_any; /* or any, which may be too much */
    uint32_t mirror_timeout_ms;
    unsigned rings; /* devices of the mirror, at most MIRRORED */
    struct sim_file *devices[MIRRORED];
    bool away[MIRRORED];               /* detached */
    struct sim_file *others[MIRRORED]; /* another broker's, in the place of one that is away; or NULL */
    uint32_t others_crc[MIRRORED];
    struct sim_bucket *bucket; /* of the mirror's object log; NULL: it has none */
    bool closing;              /* the last incarnation goes in order, or is gone: what it has trimmed it deletes */
    char generation[40];       /* once known, and */
    struct incarnation newest; /* of who has opened the engine */
    /* Two machines reach the devices, which are taken over by mark (wal.h, rules 6 and 7). */
    bool marks;
    double ways;             /* chance that a machine's way to a device breaks, or is there again */
    bool init_due[MIRRORED]; /* the newest start has left it alone: an operator may make it new, */
    bool init_begun;         /* and nobody else is started before that is done */
    struct side *racing;     /* stands still, or will, just before it says on a device that it is its own */
    unsigned topic_number;
    bool drop_asked; /* of the topic with that number; perhaps done */
    bool detects;    /* faults may come that are refused, not survived */
    bool detected;   /* something was */
    struct sim_check_memory *memory;
    struct incarnation settled; /* the newest one that had its time while nothing was broken */
    uint64_t swept_ns;
};

/* One partition, in one life of a broker. */
struct part {
    struct broker_life *life;
    struct model *model;
    unsigned index;
    struct stream *stream;
    struct stream_state live;
    int32_t epoch;
    bool gone; /* its topic was deleted */
    struct loop *home;
    enum err opened;
    bool ok;
};

struct broker_life {
    struct streams_test *test;
    struct side *side;
    struct env *env;
    struct store *store;
    struct meta *meta;
    struct streams *streams;
    struct part parts[PARTITIONS_MAX];
    struct waitgroup group;
    struct loop *loops[3];
    unsigned loop_count;
    char topic[16];
    bool fatal;
};

static inline uint64_t subject_of(const struct part *p) {
    return sim_subject("partition", p->index);
}

/* --- workload_streams.c. */

/* A run of a workload: made, then drawn, then run to its end with all checks. sides[1].broker is the caller's to make,
 * where there are two that take turns. */
struct streams_test *streams_test_create(struct sim_run *r);
void streams_test_choose_load(struct streams_test *t);
/* Keeps the run inside what its class survives, or detects. Last: here it is known. */
void streams_test_choose_class(struct streams_test *t);
void streams_test_run(struct streams_test *t);
/* Whether that is how a fault shows which this run need not survive; notes it. */
bool streams_test_refusal(struct streams_test *t, enum err e);

/* --- workload_streams_part.c. On the partition's home loop, unless stated. */

/* Cuts the model back to what is there after a start, and holds the state against it. */
void part_check_start(struct part *p);
void part_choose_durability(struct part *p);
/* Producers, a reader and followers, in fibers of this loop and of the partition's, until the broker is to stop;
 * life->group counts them. On the log loop. */
void part_start_load(struct part *p);
/* arg is the part. ok: everything could be read. Suspends. */
void part_read_all(void *arg);

/* --- workload_streams_look.c. None but look_settled suspends. */

/* What a recovery would find of the newest topic's partitions. */
struct holdings {
    struct streams_test *test;
    struct stored_wal wal;
    struct sim_check_stream parts[PARTITIONS_MAX];
    bool any[PARTITIONS_MAX];
};

/* sim_check_options.stream; ctx is the holdings: what a partition has by the ledger. */
void holding_of_ledger(void *ctx, const struct sim_check_stream *s);
/* Whether the ledger's newest entry of the partition names this WAL: then its records count. */
bool holding_names_ring(const struct sim_check_stream *s, const struct stored_wal *w);
/* At any moment: what was promised lies in the bucket, or in the WAL that its ledger names. Not where things rot. arg is
 * the test. */
void look_at_all(void *arg);
/* Nothing is broken, and nothing is asked of the broker: in a while all that nothing needs is gone. */
void look_settled(struct broker_life *l);
/* The last broker was stopped in order, without a fault since it started. */
void look_closed(struct streams_test *t);

/* --- workload_mirror.c. What is about members does nothing where there is no mirror. */

/* The members of the mirror, for streams_options; gives their number, 0 where there is none. */
unsigned mirror_members(const struct streams_test *t, struct stream_wal_member out[MIRRORED + 1]);
/* streams_options.open_store; ctx is the life. */
enum err mirror_open_bucket(void *ctx, const char *url, struct store **out, char *why, size_t why_size);
/* Before a start: the operator's part, where devices are taken over by mark; and from here on it is not known what becomes
 * of them. Suspends. */
void mirror_starts(struct broker_life *l);
/* After it: which devices it has left alone is known from its first moment on. */
void mirror_started(struct broker_life *l);
bool mirror_never_made(struct streams_test *t); /* taken over by mark, and none has a WAL yet */
/* Now and then something happens to a device, or to the way to it; and in the end all is there again. */
void mirror_trouble(struct streams_test *t);
void mirror_heal(struct streams_test *t);
/* What another broker's device holds, in the place of one that is away, is as it was. */
void mirror_check_others(struct streams_test *t);

#endif
