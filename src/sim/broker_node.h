/* The broker of a workload: one, on one of two machines, with a configuration drawn at random; started, crashed, moved,
 * stopped in order. */
#ifndef OXBOW_SIM_BROKER_NODE_H
#define OXBOW_SIM_BROKER_NODE_H

#include "sim/client.h"
#include "sim/run.h"

#define SIM_BROKER_PORT 9092u

struct sim_broker {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_node *machines[2];
    unsigned at; /* on which of them it is to be */
    bool no_wal, shared, moves, stop_asked;
    char upload_bytes[24], upload_interval[24], flush_interval[24], shards[8], durability[16];
    double crash; /* chance of trouble at each look */
};

/* Draws what it is like, and makes its machines. */
void sim_broker_init(struct sim_broker *b, struct sim_run *r);
/* Starts it and makes the topic, without faults: the check of a new store wants clear answers, and a store that fails
 * half the time is refused, so that nothing would begin. Suspends. */
void sim_broker_begin(struct sim_broker *b, const char *topic, unsigned partitions);
/* Starts it if it is down (false), or perhaps does something to it. */
bool sim_broker_trouble(struct sim_broker *b);
/* Keeps it up until *done, then stops it in order. Suspends. */
void sim_broker_end(struct sim_broker *b, const bool *done);
/* Connects to where it is to be. Suspends. */
enum err sim_broker_connect(const struct sim_broker *b, struct sim_client *c) WARN_UNUSED;

#endif
