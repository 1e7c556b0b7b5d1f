/* The world's record of what clients of the whole broker asked for, were promised and were shown, and the judge of it.
 * One for a run, shared by all loads (load.h); nobody but the loads writes to it, each in the step in which it sent a
 * request or took an answer.
 *
 * Who said it. Every answer comes from an incarnation of a broker: the position of its registration in the cluster log,
 * so that a larger number is a later one. A promise made by one binds it and all later ones. One that has been
 * overtaken and does not know it yet may say what was true before, and nothing else: what it shows must be there, but
 * what has been promised since it need not know. But it accuses nobody who asks after its successor served, and after
 * the lease it says nothing of what may have moved on (load_judge). Incarnation 0 stands for one that is not known: it binds nobody.
 *
 * When it was said. `check_now` counts; a request remembers it when it is sent (`asked`), a promise when it was told.
 * Only what was told before a request was sent is held against its answer.
 *
 * Unknown outcomes. A request without an answer may be carried out as long as the incarnation that it was sent to is
 * there, so until a later one speaks. Until then both worlds are allowed; afterwards, what the later one says is how it
 * is. */
#ifndef OXBOW_SIM_CHECK_H
#define OXBOW_SIM_CHECK_H

#include "kafka/kafka_messages.h"
#include "sim/check_partition.h"
#include "sim/run.h"

#define CHECK_NAMES_MAX 4u
#define CHECK_GROUPS_MAX 3u
#define CHECK_OPENS_MAX 4u
#define CHECK_VALUE_SIZE 24u

/* The configurations that loads change. */
enum check_config_key {
    CHECK_RETENTION_MS,
    CHECK_RETENTION_BYTES,
    CHECK_SEGMENT_BYTES,
    CHECK_SEGMENT_MS,
    CHECK_DURABILITY,
    CHECK_CONFIGS
};
const char *check_config_name(enum check_config_key key);

struct check_config {
    bool known; /* else anything is allowed, until it was told */
    char value[CHECK_VALUE_SIZE];
    uint64_t inc;
    char opens[CHECK_OPENS_MAX][CHECK_VALUE_SIZE]; /* asked for, with an unknown outcome */
    unsigned open_count;
    uint64_t open_inc;
    /* Nobody heard the end of a reset: what it leads to, always the same, may show until somebody above open_inc is asked. */
    bool open_reset;
    char reset[CHECK_VALUE_SIZE]; /* "": not known yet */
};

/* One topic, from its creation to its deletion. */
struct check_topic {
    struct check_name *name;
    unsigned number;
    bool id_known, there, leaving, gone;
    struct kafka_uuid id;
    uint64_t there_inc, there_at;  /* told to be there, first */
    uint64_t leaving_inc;          /* the latest that was asked to delete it */
    uint64_t gone_inc, gone_at;    /* told to be deleted */
    uint64_t leaving_at;           /* last asked to be deleted */
    int32_t count_low, count_high; /* partitions: told, asked for */
    uint64_t count_inc, count_at;
    struct check_config configs[CHECK_CONFIGS];
    struct check_partition logs[CHECK_PARTITIONS_MAX];
};

/* A name under which topics come and go. */
struct check_name {
    char name[16];
    unsigned index;
    /* With which every topic of that name begins; INT64_MAX: without. */
    int32_t partitions;
    int64_t retention_ms, retention_bytes;
    bool append_time; /* message.timestamp.type=LogAppendTime */
    bool busy;        /* an administrator is at work on it: one at a time */
    struct check_topic **topics;
    size_t topic_count, topic_capacity;
    /* Until when requests that name it, and whose outcome is not known, may still be carried out: by the latest
     * incarnation that was asked. */
    uint64_t loose_create, loose_delete, loose_change;
};

/* What a group has committed for a partition of a name. */
struct check_commit {
    int64_t low, high; /* at least, at most; -1: none */
    uint64_t inc;
    unsigned in_flight;
    unsigned dropping;       /* deletions under way: what is committed meanwhile may go with them */
    uint64_t dropping_since; /* when the first of these was asked for */
    uint64_t told_at;        /* when a commit was last answered */
    uint64_t dropped_at;     /* when a deletion was last asked for, or answered */
    uint64_t loose;          /* until when one of unknown outcome may still come */
    int64_t loose_low;       /* the lowest of those; -1: a deletion */
};

struct check {
    struct sim_run *run;
    struct sim_world *world;
    uint64_t clock;
    struct check_name names[CHECK_NAMES_MAX];
    unsigned name_count;
    struct check_items items;
    struct check_commit commits[CHECK_GROUPS_MAX][CHECK_NAMES_MAX][CHECK_PARTITIONS_MAX];
    const char *groups[CHECK_GROUPS_MAX];
    int64_t wall_high_ms; /* the latest time of day that a broker's clock has shown */
};

struct check *check_create(struct sim_run *r);
void check_destroy(struct check *k);
uint64_t check_now(struct check *k);
/* The brokers' clocks show no later time than that: to be called whenever time has passed. */
void check_wall(struct check *k, int64_t wall_ms);
struct check_name *check_name_add(struct check *k, int32_t partitions);
uint64_t check_subject(const struct check_name *n);

/* --- Topics. */

/* The newest topic of that name; NULL: nobody has asked for one yet. */
struct check_topic *check_current(const struct check_name *n);
/* Nothing speaks against it: it was told to be there, and nobody has asked for its end. */
bool check_certain(const struct check_topic *t);
/* ... and so for whoever is asked now and answers with `inc`: it must know the topic, and that partition. */
bool check_must_know(const struct check_topic *t, uint64_t inc, uint64_t asked, int32_t partition);
/* Whether it may still answer for itself. */
bool check_may_serve(const struct check_topic *t, uint64_t inc, uint64_t asked);

enum check_outcome {
    CHECK_DONE,
    CHECK_REFUSED, /* it was not done: because it is there already, or is not there */
    CHECK_UNKNOWN
};
/* A creation is sent; which topic it will make. */
struct check_topic *check_create_asked(struct check *k, struct check_name *n);
void check_create_told(struct check *k, struct check_topic *t, uint64_t inc, uint64_t asked, enum check_outcome o,
                       const struct kafka_uuid *id);
/* By its id, or else by name. */
void check_delete_asked(struct check *k, struct check_topic *t, uint64_t inc, bool by_id);
void check_delete_told(struct check *k, struct check_topic *t, uint64_t inc, uint64_t asked, bool by_id,
                       enum check_outcome o);
void check_grow_asked(struct check *k, struct check_topic *t, uint64_t inc, int32_t count);
void check_grow_told(struct check *k, struct check_topic *t, uint64_t inc, int32_t count, enum check_outcome o);
/* Metadata tells the name. Returns the topic; NULL: there is none, or a promise is broken. */
struct check_topic *check_name_seen(struct check *k, struct check_name *n, uint64_t inc, uint64_t asked, bool exists,
                                    const struct kafka_uuid *id, int32_t count);

/* Nobody is at work any more, and nothing that was asked for is still to be done. */
void check_settle(struct check *k);

/* value NULL: back to the default, which then is `told` by nobody. */
void check_config_asked(struct check *k, struct check_topic *t, enum check_config_key key, const char *value,
                        uint64_t inc);
void check_config_told(struct check *k, struct check_topic *t, enum check_config_key key, const char *value,
                       uint64_t inc, enum check_outcome o);
/* DescribeConfigs tells it. No change is under way, but for those of unknown outcome. */
void check_config_seen(struct check *k, struct check_topic *t, enum check_config_key key, const char *value,
                       uint64_t inc, uint64_t asked);

/* --- Committed offsets. They only rise, as long as the topic is the same. */

uint64_t check_commit_asked(struct check *k, unsigned group, const struct check_name *n, int32_t partition,
                            int64_t offset);
void check_commit_told(struct check *k, unsigned group, const struct check_name *n, int32_t partition, int64_t offset,
                       uint64_t inc, uint64_t asked, enum check_outcome o);
/* A deletion of the group's offsets of a name (NULL: of all names) is sent; is answered. */
void check_commit_drop_asked(struct check *k, unsigned group, const struct check_name *n);
void check_commit_drop_told(struct check *k, unsigned group, const struct check_name *n, uint64_t inc,
                            enum check_outcome o);
/* `low` as it was when the request was sent. */
void check_commit_seen(struct check *k, unsigned group, const struct check_name *n, int32_t partition,
                       const struct check_commit *low, int64_t offset, uint64_t inc);

#endif
