/* The brokers of a workload: one cluster, on up to four machines, with a configuration drawn at random; started, crashed,
 * paused, stopped in order, moved, and taken over from while they are alive. One broker is the one that is to be
 * (`at`): whoever else is up has been overtaken by it, or is about to be; it may go on for as long as it does not
 * notice, and clients talk to it. */
#ifndef OXBOW_SIM_BROKER_NODE_H
#define OXBOW_SIM_BROKER_NODE_H

#include "broker/broker.h"
#include "sim/check_store.h"
#include "sim/client.h"
#include "sim/run.h"

#define SIM_BROKER_PORT 9092u
#define SIM_BROKER_MACHINES 4u
#define SIM_BROKER_VALUE 40u

enum sim_broker_wal {
    SIM_BROKER_WAL_NONE,
    SIM_BROKER_WAL_FILE,   /* on the machine's own disk: the broker cannot move */
    SIM_BROKER_WAL_DEVICE, /* one that all machines reach, taken over by mark */
};

/* One run of a broker. */
struct sim_broker_life {
    unsigned machine, device;
    uint64_t incarnation; /* 0: not known (yet) */
    bool rivalled;        /* another broker was up at the same time */
    bool without_wal;     /* its device is not to be used again: the next start has another one */
    bool overtaken;       /* a later incarnation has served, first when this one's clock showed this: */
    uint64_t overtaken_ns;
};

struct sim_broker_seat {
    struct sim_broker *broker;
    struct sim_node *node;
    uint64_t life; /* of the run that is there, or was last; an index, from 1 */
    bool stop_asked;
};

struct sim_broker {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_broker_seat seats[SIM_BROKER_MACHINES];
    unsigned machine_count, at;
    enum sim_broker_wal wal;
    bool races; /* two start at once, and the first stands still just before it begins the device anew */
    bool shared, moves, own_ids; /* own_ids: each machine has a node.id of its own */
    bool lulls;                  /* another machine takes over while nobody asks for anything */
    double takeover;             /* chance that another machine takes over from a live one */
    /* The device that is the WAL now. One that was not closed in order is never used again: who recovered it goes on
     * without a WAL, and the next start is given a new device. When two start at once, an earlier one may be asked for
     * again. */
    unsigned device, device_count;
    struct sim_file **devices; /* [device - 1] */
    size_t device_capacity;
    char upload_bytes[24], upload_interval[24], flush_interval[24], shards[8], durability[16];
    char checkpoint_interval[24], retention_interval[24];
    char clean_backoff[24], clean_bytes[24]; /* of log compaction; the workload's; "": there is none */
    char offsets_segment[24], tombstone_retention[24]; /* for __consumer_offsets to be compacted too; "": as usual */
    double crash;                            /* chance of trouble at each look */
    struct sim_broker_life *lives;           /* [0] is nobody */
    size_t life_count, life_capacity;
    struct sim_check_memory *memory; /* of what was seen in the bucket */
};

/* A property whose value is right. */
void sim_broker_set(struct config *c, const char *name, const char *value);
/* The broker on this node is found at the node's own address. */
void sim_broker_listen(struct config *c, struct sim_node *n);
/* Of a broker on the node whose loop is current. All are borrowed until it has stopped. */
struct broker_options sim_broker_options(struct store *store, const struct config *config, char *why_text,
                                         size_t why_size, void (*fatal)(void *ctx, enum err why, const char *what),
                                         void *ctx);

/* Draws what it is like, and makes its machines. */
void sim_broker_init(struct sim_broker *b, struct sim_run *r);
void sim_broker_deinit(struct sim_broker *b);
/* Starts it, without faults, and calls `first` with a connected client until it is satisfied: the check of a new store
 * wants clear answers, and a store that fails half the time is refused, so that nothing would begin. Suspends. */
void sim_broker_begin(struct sim_broker *b, bool (*first)(void *ctx, struct sim_client *c), void *ctx);
/* Another machine takes over, if one is there and not in use. */
void sim_broker_take_over(struct sim_broker *b);
bool sim_broker_serves(const struct sim_broker *b); /* the one that is to be */
/* Starts it if it is down (false), or perhaps does something to it. */
bool sim_broker_trouble(struct sim_broker *b);
/* Keeps it up until *done, then stops it in order, and all others that are still there; and looks what a last start
 * leaves in the bucket. Suspends. */
void sim_broker_end(struct sim_broker *b, const bool *done);
/* The machine on which it is to be. */
struct sim_node *sim_broker_node(const struct sim_broker *b);
/* Connects to where it is to be, or, when `any`, perhaps to another machine. Suspends. */
enum err sim_broker_connect(struct sim_broker *b, struct sim_client *c, bool any) WARN_UNUSED;
/* The one at the other end ends at once, or its machine is lost: right after it has said something. */
void sim_broker_strike(struct sim_broker *b, const struct sim_client *c);
/* Whose answers come over that connection; 0: not known. */
uint64_t sim_broker_incarnation(const struct sim_broker *b, const struct sim_client *c);
/* Had it been overtaken by then, `ago_ns` ago or earlier by its own clock? */
bool sim_broker_overtaken(const struct sim_broker *b, const struct sim_client *c, uint64_t ago_ns);
/* Makes a topic: for `first`. Suspends. */
bool sim_broker_make_topic(struct sim_client *c, const char *name, unsigned partitions);

#endif
