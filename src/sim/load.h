/* What clients do to a whole broker: loads, each a file, each a function that runs on a node of its own until the load is
 * over. They share the record of what was promised (check.h) and the cluster (broker_node.h). A workload draws which
 * of them take part, starts them, and makes trouble meanwhile (workload_broker.c, workload_group.c). */
#ifndef OXBOW_SIM_LOAD_H
#define OXBOW_SIM_LOAD_H

#include "sim/broker_node.h"
#include "sim/check.h"

#define LOAD_CLIENTS_MAX 16u
/* Batches are smaller than any segment, or they would be refused. */
#define LOAD_SEGMENT_MIN 2000u
#define LOAD_PATIENCE_NS (40 * NS_PER_S)
/* The groups: that of the readers who commit what they have read, and that of the members. */
#define LOAD_READERS_GROUP 0u
#define LOAD_MEMBERS_GROUP 1u

struct load_group;
struct load;

struct load_client {
    struct load *load;
    struct sim_node *node;
    fiber_fn *main;
    unsigned number; /* among those of its kind */
};

struct load {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_broker broker;
    struct check *check;
    bool over, audited, lull;
    /* What takes part. */
    bool deletes, grows, configures, deletes_records, retains, old_formats, drops_offsets, compresses;
    struct load_client clients[LOAD_CLIENTS_MAX];
    unsigned client_count;
    uint32_t senders; /* numbers given out to producers */
    struct load_group *group;
};

struct load *load_create(struct sim_run *r);
/* Draws whether __consumer_offsets is compacted meanwhile, and how busily. Before the broker begins. */
void load_choose_cleaner(struct load *l);
struct load_client *load_add(struct load *l, const char *name, unsigned number, fiber_fn *main);
/* Waits for all clients to end. Suspends. */
void load_wait(struct load *l);
/* Whether the load is not over. Waits for the end of a lull, after which the client may have lost its connection, all
 * the more when it writes: what is written tells a broker that it was overtaken. Suspends. */
bool load_goes_on(const struct load *l, struct sim_client *c, bool writes);
/* For a while nobody asks for anything; meanwhile another broker takes over. So the old one, with nothing to write, goes
 * on without noticing, and some clients go on with it. Suspends. */
void load_lull(struct load *l);
void load_pause(struct load *l); /* for a while, as after a failure. Suspends. */
/* The broker has just said something new: perhaps that was its last word, and what it promised or showed must be there
 * all the same. */
void load_strike(struct load *l, const struct sim_client *c);
/* The brokers' clocks, for what retention may do. */
void load_look_at_clocks(struct load *l);

/* What a client believes of the topics. */
struct load_view {
    struct check_topic *topics[CHECK_NAMES_MAX]; /* NULL: there is none of that name */
    int32_t counts[CHECK_NAMES_MAX];
    int32_t epochs[CHECK_NAMES_MAX][CHECK_PARTITIONS_MAX];
};
/* Metadata of all names, held against the record. False: the connection is of no use. Suspends. */
bool load_metadata(struct load *l, struct sim_client *c, struct load_view *v);
uint64_t load_incarnation(const struct load *l, const struct sim_client *c);
/* An answer that is none is a promise broken. Returns whether there is one. Suspends. */
bool load_call(struct load *l, struct sim_client *c, int16_t api, int16_t version, const void *q, struct arena *a,
               void *r);
/* Judges what the answer to the request that was sent last, and that the client waited for, has to do with what is
 * true now: a broker that had been overtaken before it was asked accuses nobody; and one that had been for longer than a
 * lease answers no question that is `leased`. */
void load_judge(struct load *l, const struct sim_client *c, int16_t api, int16_t code, bool leased);
/* Of a change that somebody asked for: one that had been overtaken does not say either that it is done, not even where
 * there was nothing to do as far as it knows. */
void load_judge_change(struct load *l, const struct sim_client *c, int16_t api, int16_t code);
/* Samples what load_judge goes by; load_call does. */
void load_asks(struct load *l, struct sim_client *c);
enum check_outcome load_outcome(bool answered, int16_t code, int16_t refused);

/* Makes all topics, before anything else: for sim_broker_begin. ctx: struct load. */
bool load_first(void *ctx, struct sim_client *c);
/* Each with struct load_client. */
void load_produce_main(void *arg);
void load_read_main(void *arg);
void load_admin_main(void *arg);
void load_member_main(void *arg);
/* At the end, when nothing is broken: everything is read once more and held against what was promised. arg: struct load. */
void load_audit_main(void *arg);
/* That audit, by a client of its own; then the brokers end, and *l is freed. Suspends. */
void load_end(struct load *l);

/* What a group has committed, held against the record. found, unless NULL: by name and partition, -1 for nothing.
 * False: no answer. Suspends. */
bool load_committed(struct load *l, struct sim_client *c, unsigned group, const struct load_view *v,
                    int64_t (*found)[CHECK_PARTITIONS_MAX]);
/* For the audit, where nothing drops offsets or deletes topics: the log of __consumer_offsets says what the coordinators say.
 * False: no answer, or something was still on its way. Suspends. */
bool load_audit_offsets(struct load *l, struct sim_client *c, const struct load_view *v);
/* For the audit: what the topic's configurations are. False: no answer. Suspends. */
bool load_describe(struct load *l, struct sim_client *c, struct check_topic *t);

/* Members of a classic group (load_group.c). */
struct load_group *load_group_create(struct load *l, struct check_name *topic);
void load_group_destroy(struct load_group *g);
/* From now on members stay, and what they achieve is counted. */
void load_group_quiet(struct load_group *g);
bool load_group_works(const struct load_group *g);

#endif
