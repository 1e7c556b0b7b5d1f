/* Groups and their members: what is in memory, the table of states, and the changes that every request is made of.
 * Private to the folder.
 *
 * Ownership: the coordinator owns groups, a group its members, pending member ids, topics and offsets; strings are copies.
 * A group that is Dead stays in the table until nothing of it waits to be durable, and comes to life again (Empty,
 * generation 0) if somebody uses its name before. */
#ifndef OXBOW_COORD_GROUP_H
#define OXBOW_COORD_GROUP_H

#include "base/list.h"
#include "base/map.h"
#include "base/random.h"
#include "coord/coord.h"
#include "coord/timers.h"

#define COORD_MAGIC 0x636f7264u
#define GROUP_MAGIC 0x67726f75u
#define MEMBER_MAGIC 0x6d656d62u

enum group_state { GROUP_EMPTY, GROUP_PREPARING, GROUP_COMPLETING, GROUP_STABLE, GROUP_DEAD, GROUP_STATE_COUNT };

/* How long a member that never was in a generation may wait for its first, as in Kafka. */
#define NEW_MEMBER_JOIN_TIMEOUT_MS INT64_C(300000)

#define WAIT_AGAIN_MIN_MS INT64_C(1000)
/* Honest clients name a handful of protocols; what members have in common is searched in time of their product. */
#define MEMBER_PROTOCOLS_MAX 256
/* Of all members' ids and protocols: their group is one record, which must find room in the broker's write buffer. */
#define GROUP_SAYS_MAX ((size_t)16 << 20)
/* Of the records of one OffsetCommit: each repeats the names of group and topic, so a small request can want much. */
#define COMMIT_RECORDS_MAX ((size_t)16 << 20)
/* Of the metadata that one OffsetFetch is told for a group; for the rest it gets an error. */
#define FETCH_METADATA_MAX ((size_t)64 << 20)

struct protocol {
    struct kafka_string name;
    struct kafka_bytes metadata;
};

struct member {
    unsigned magic;
    struct group *group;
    struct list link;                                     /* group.order: as they came */
    struct kafka_string id, instance_id, client_id, host; /* instance_id may be null */
    struct protocol *protocols;                           /* most wanted first */
    size_t protocol_count;
    struct kafka_bytes assignment;
    int32_t session_timeout_ms, rebalance_timeout_ms;
    /* The session ends at deadline_ms; the timer may be armed for less, and is then moved when it is due: so a
     * heartbeat costs one assignment. */
    struct timer session;
    int64_t deadline_ms;
    struct coord_reply *join, *sync; /* waiting for the group, not for a batch */
    struct list held;                /* answers to this member that wait for a batch */
    bool is_new;                     /* was in no generation yet */
    bool pending_sync;               /* has not synced in this generation */
    size_t says_bytes;               /* part of the group's */
};

#define COORD_PENDING_BYTES ((size_t)384) /* as with COORD_MEMBER_BYTES; ids are ours, and short */

/* A member id that was given out with MEMBER_ID_REQUIRED. */
struct pending {
    struct group *group;
    struct kafka_string id;
    struct timer timer;
};

struct protocol_count {
    struct kafka_string name;
    size_t members;
};

struct group {
    unsigned magic;
    struct coord *coord;
    struct kafka_string id;
    enum group_state state, previous_state;
    int64_t state_ms; /* wall clock, of the last change; -1: not known */
    int32_t generation;
    struct kafka_string protocol_type, protocol; /* null: none */
    struct member *leader;
    struct mapstr members, statics, pendings; /* by member id, by instance id, by member id */
    struct list order;
    struct protocol_count *supported; /* how many members name each protocol */
    size_t supported_count, supported_capacity;
    size_t joined, unsynced; /* members with a join waiting, with pending_sync */
    size_t says_bytes;       /* ids and protocols of all members */
    struct timer timer;
    int64_t remaining_ms;  /* of the initial delay's longest extension */
    int64_t sync_armed_ms; /* when the timer was last armed for this sync phase; -1: not yet */
    bool member_added;     /* since the initial delay was last extended */
    const char *why;       /* the next rebalance begins, for events; NULL: it goes on from what was loaded */
    bool has_record;       /* the newest record (durable or not) is not a tombstone */
    uint64_t hold;         /* the batch of that record */
    struct mapstr topics;
    size_t offsets; /* entries, of which some may be deleted but not durably so */
};

/* One committed offset, durable or on its way. */
struct offset_value {
    struct list batch_link;
    struct offset_entry *entry;
    struct offset_value *next; /* a later one on its way */
    uint64_t sequence;
    int64_t offset;
    int64_t commit_ms, expire_ms;             /* as in the record; expire_ms -1: by the broker's retention */
    int64_t fresh_commit_ms, fresh_expire_ms; /* moved by commits that changed nothing else */
    int32_t leader_epoch;
    bool deleted;
    struct kafka_uuid topic_id; /* zero: not known */
    int32_t metadata_size;
    char metadata[];
};
struct offset_topic {
    struct kafka_string name;
    struct map64 partitions;
};
struct offset_entry {
    struct group *group;
    struct offset_topic *topic;
    int32_t partition;
    struct offset_value *durable;      /* what is shown; NULL: nothing */
    struct offset_value *first, *last; /* on their way, in order */
};

struct batch {
    uint64_t sequence;
    bool taken;
    struct list replies, values;
    struct coord_effects effects; /* until taken */
    size_t record_capacity;
};

enum coord_phase { COORD_LOADING, COORD_ACTIVE, COORD_ENDED };

struct coord {
    unsigned magic;
    struct mem *mem;
    struct coord_config config;
    struct rng rng;
    enum coord_phase phase;
    struct coord_now now; /* of the latest call */
    struct mapstr groups;
    struct timers timers;
    struct timer offsets_timer;
    struct map64 batches; /* not durable yet, by sequence */
    struct batch *open;
    uint64_t next_sequence, durable, taken;
    size_t members, waiting, bytes;
    struct arena scratch;
    struct outbuf out;
};

enum reply_kind {
    REPLY_HEARTBEAT,
    REPLY_JOIN,
    REPLY_SYNC,
    REPLY_LEAVE,
    REPLY_DESCRIBE,
    REPLY_COMMIT,
    REPLY_DELETE_OFFSETS,
    REPLY_DELETE_GROUP
};

/* ---- strings ---- */

struct kafka_string text_copy(struct mem *m, struct kafka_string s); /* null stays null */
void text_free(struct mem *m, struct kafka_string *s);
struct kafka_bytes bytes_copy(struct mem *m, struct kafka_bytes b); /* null becomes empty */
void bytes_free(struct mem *m, struct kafka_bytes *b);
struct kafka_string text_in(struct arena *a, struct kafka_string s);
struct kafka_bytes bytes_in(struct arena *a, struct kafka_bytes b);

/* ---- coord.c: replies and batches ---- */

/* Counts the reply as waiting, makes an empty answer. */
void reply_init(struct coord *c, struct coord_reply *r, enum reply_kind kind, int16_t api_version);
/* false: it was answered, for the coordinator serves nothing now. */
bool reply_serve(struct coord *c, struct coord_reply *r);
/* Both. */
bool reply_begin(struct coord *c, struct coord_reply *r, enum reply_kind kind, int16_t api_version);
/* The answer is complete: out it goes, at once or when batch `hold` is durable. m (may be NULL): whose session stands still
 * until then. */
void reply_finish(struct coord *c, struct coord_reply *r, struct member *m, uint64_t hold);
/* Makes an error of it, whatever was in it. */
void reply_set_error(struct coord_reply *r, enum err e);
void reply_error(struct coord *c, struct coord_reply *r, enum err e, uint64_t hold);

/* Adds a record to the open batch, returns its sequence. The bytes are copied. */
uint64_t effect_add(struct coord *c, const void *key, size_t key_size, const void *value, size_t value_size);
struct batch *batch_find(struct coord *c, uint64_t sequence);

/* Counts what is held. */
void coord_hold(struct coord *c, size_t bytes);
void coord_let_go(struct coord *c, size_t bytes);
/* There is no memory for more. */
bool coord_is_crowded(const struct coord *c);

/* ---- group.c ---- */

const char *group_state_name(enum group_state s);
/* A group that is there (not Dead), or NULL. */
struct group *group_find(struct coord *c, struct kafka_string id);
/* Dead or not. */
struct group *group_any(struct coord *c, struct kafka_string id);
/* Makes it, or wakes a Dead one. */
struct group *group_open(struct coord *c, struct kafka_string id);
/* What an answer about this name must wait for, whether there is such a group or not. */
uint64_t group_hold(struct coord *c, struct kafka_string id);
void group_transition(struct group *g, enum group_state to);
/* Tells coord_config.event; m may be NULL. */
void group_event(const struct group *g, enum coord_event_kind kind, const struct member *m);
/* Checks what must always hold; dear ones only in checking builds. */
void group_check(const struct group *g);
/* Empty, without offsets: tombstone, Dead. */
void group_bury(struct group *g);
/* Frees a Dead group of which nothing waits any more; true: it is gone. */
bool group_reap(struct group *g);
void group_destroy(struct group *g);
/* The record of the present state. */
void group_store(struct group *g);

struct member *member_find(const struct group *g, struct kafka_string id);
/* Kafka's check of who speaks: unknown, or fenced by another under the same instance id. */
enum err member_validate(const struct group *g, struct kafka_string id, struct kafka_string instance_id,
                         struct member **m) WARN_UNUSED;
struct member *member_create(struct group *g, struct kafka_string id, struct kafka_string instance_id,
                             struct kafka_string client_id, struct kafka_string host);
/* Answers nothing: the caller did. */
void member_remove(struct member *m);
/* A new id for a static member that came back. */
/* A copy of it; empty: none. */
void member_assign(struct member *m, struct kafka_bytes assignment);
void member_rename(struct member *m, struct kafka_string id);
void member_set_protocols(struct member *m, const struct protocol *protocols, size_t count);
size_t protocols_bytes(const struct protocol *protocols, size_t count);
bool member_matches(const struct member *m, const struct protocol *protocols, size_t count);
struct kafka_bytes member_metadata(const struct member *m, struct kafka_string protocol);
/* The session starts anew. */
void member_touch(struct member *m);

/* Could a member with these protocols be in the group? */
bool group_supports(const struct group *g, struct kafka_string type, const struct protocol *protocols, size_t count);
/* By vote among those that all members support. There is at least one member. */
struct kafka_string group_select_protocol(const struct group *g);
int32_t group_rebalance_timeout(const struct group *g);
/* Arms the group's timer for another rebalance time-out, but not for less than WAIT_AGAIN_MIN_MS: clients may say 0. */
void group_wait_again(struct group *g);
bool group_is_static(const struct group *g, struct kafka_string instance_id, struct member **m);

struct pending *pending_find(const struct group *g, struct kafka_string id);
void pending_add(struct group *g, struct kafka_string id, int32_t timeout_ms);
void pending_remove(struct pending *p);

/* ---- join.c ---- */

void group_prepare_rebalance(struct group *g);
/* Stable or Completing: prepares. Preparing: completes if that was the last that was missing. */
void group_member_gone(struct group *g);
void group_maybe_complete_join(struct group *g);
void group_complete_join(struct group *g);
/* Answers what the member waits for and removes it. */
void member_expel(struct member *m, enum err e);
void join_fill_error(struct coord_reply *r, enum err e, struct kafka_string member_id);
void join_timer_due(struct group *g);

/* ---- sync.c ---- */

void sync_answer_all(struct group *g, enum err e);
void sync_clear_pending(struct group *g);
void sync_timer_due(struct group *g);
void sync_arm_timer(struct group *g);

/* ---- offsets.c ---- */

struct offset_value *offset_newest(const struct offset_entry *e); /* durable or not; NULL: none, or deleted */
/* From the log. expire_ms -1: by the broker's retention. */
void offset_load(struct group *g, struct kafka_string topic, int32_t partition,
                 const struct kafka_offset_commit_value *value, int64_t expire_ms);
void offset_unload(struct group *g, struct kafka_string topic, int32_t partition);
void offset_delete(struct offset_entry *e);
void offset_value_durable(struct coord *c, struct offset_value *v);
void offset_topic_destroy(struct coord *c, struct offset_topic *t);
/* Calls `each` for every entry; it may delete but not free entries. Stops when it returns false. */
bool offset_each(struct group *g, bool (*each)(struct offset_entry *e, void *context), void *context);
/* Frees entries and topics of which nothing is left. */
void offset_reap(struct group *g);
size_t offset_live(const struct group *g); /* entries whose newest value is not deleted */

/* ---- expiry.c ---- */

void expiry_start(struct coord *c);

/* ---- records.c ---- */

enum err records_load(struct coord *c, const uint8_t *key, size_t key_size, const uint8_t *value,
                      size_t value_size) WARN_UNUSED;
/* Into the scratch arena. */
struct kafka_bytes records_group_key(struct coord *c, struct kafka_string group);
struct kafka_bytes records_group_value(struct coord *c, const struct group *g);
struct kafka_bytes records_offset_key(struct coord *c, const struct offset_entry *e);
struct kafka_bytes records_offset_value(struct coord *c, const struct offset_value *v);
/* Does a member subscribe to the topic, as far as ConsumerProtocol tells? *known is false when a subscription could not
 * be read. */
bool group_subscribes(const struct group *g, struct kafka_string topic, bool *known);
bool group_uses_consumer_protocol(const struct group *g);

#endif
