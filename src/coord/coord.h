/* The coordinator of classic consumer groups: all groups and committed offsets of ONE partition of __consumer_offsets, as a
 * state machine without I/O. It has no clock, no timers, no files and no fibers: every call is told the time, and what
 * it wants stored comes out as records that the caller writes. The rules are those of Kafka's classic group coordinator
 * (GroupCoordinator, ClassicGroup).
 *
 * Life: coord_create; coord_load for each record of the materialised table; coord_loaded; then requests and coord_tick;
 * in the end coord_unload (or coord_write_failed) answers what still waits, and coord_destroy. Before coord_loaded
 * every request is answered ERR_COORDINATOR_LOAD_IN_PROGRESS (but heartbeats OK and syncs ERR_REBALANCE_IN_PROGRESS,
 * as Kafka does for old clients), after coord_unload and coord_write_failed ERR_NOT_COORDINATOR.
 *
 * Answers. A request comes with a `struct coord_reply` of the caller's, which it fills with `arena` and `done` and keeps
 * alive until `done` was called: exactly once, perhaps before the call returns, perhaps much later (joins wait for other
 * members, changes for their record). The request's own structs and strings are copied where they must outlive the
 * call, save the item arrays of coord_commit_offsets and coord_delete_offsets, which must live until the answer.
 * `done` may resume nothing that calls the coordinator before the call that it was called from has returned.
 *
 * Records. A call may add records to the open batch. After every call the caller takes the batch (coord_effects_take)
 * and writes it, in the order of its records and of the sequence numbers: a batch that is stored in part is a failed
 * write, and fails those behind it. Then coord_durable, or coord_write_failed. Several calls may share a batch: it grows until it is taken.
 *
 * Nothing is shown before it is durable: an answer that depends on a record waits for its batch. A new generation with
 * its members is durable before any join is answered, assignments before any sync, and committed offsets are read only
 * when durable. What one group answers waits for that group's newest record, so that no answer ever shows a state that a
 * crash could take back.
 *
 * After a failed write nobody knows what is stored. Answers that waited become ERR_COORDINATOR_NOT_AVAILABLE, which
 * clients retry and which never means "not done"; the caller destroys the coordinator and loads a new one.
 *
 * One shard only: no locks. Nothing is called back but coord_reply.done and coord_config.event. */
#ifndef OXBOW_COORD_COORD_H
#define OXBOW_COORD_COORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/mutant.h"
#include "kafka/codec.h"
#include "kafka/kafka_messages.h"

struct coord;
struct member;

/* What one takes, about, maps included: here and, as its record, in the ledger's image. What clients say (names, protocols,
 * assignments, metadata) comes on top, twice. tests/unit/broker/test_units.c measures them. */
#define COORD_GROUP_BYTES ((size_t)1024)
#define COORD_MEMBER_BYTES ((size_t)768)
#define COORD_OFFSET_BYTES ((size_t)448)

/* What time it is. Sessions and rebalances count by the first, records and the retention of offsets by the second. */
struct coord_now {
    int64_t mono_ms; /* never goes back */
    int64_t wall_ms; /* since 1970 */
};

/* What an operator wants to read of, as it happens (before it is durable). */
enum coord_event_kind {
    COORD_REBALANCE_BEGINS, /* `reason`; generation and members as they were */
    COORD_GENERATION_MADE,  /* its number and members; protocol; member: the leader. No members: the group is empty */
    COORD_MEMBER_EXPIRED,   /* `reason`; member, client_id, host; generation */
    COORD_GROUP_REMOVED     /* `reason`; its last generation: the next one of that name is 1 */
};
struct coord_event { /* borrowed until the call returns */
    enum coord_event_kind kind;
    struct kafka_string group, member, client_id, host, protocol;
    const char *reason; /* a literal */
    int32_t generation;
    size_t members;
};

struct coord_config {
    int32_t session_timeout_min_ms, session_timeout_max_ms; /* group.min/max.session.timeout.ms */
    int32_t group_max_size;                                 /* group.max.size */
    int32_t initial_rebalance_delay_ms;                     /* group.initial.rebalance.delay.ms */
    int32_t offset_metadata_max_bytes;                      /* offset.metadata.max.bytes */
    int64_t offsets_retention_ms;                           /* offsets.retention.minutes */
    int64_t offsets_check_interval_ms;                      /* offsets.retention.check.interval.ms */
    /* Called from inside calls; must not call back. NULL: nobody wants to know. */
    void (*event)(void *ctx, const struct coord_event *e);
    void *event_ctx;
    /* Called from inside calls: is there no memory for more? Then new members are refused with
     * ERR_GROUP_MAX_SIZE_REACHED, and offsets of what has none, or more metadata, with ERR_COMMIT_TOO_LARGE. NULL: there
     * always is. */
    bool (*crowded)(void *ctx);
    void *crowded_ctx;
    enum mutant mutant; /* the deliberate mistake to make: of the environment (base/mutant.h) */
};
/* Kafka's defaults. */
void coord_config_init(struct coord_config *c);

/* ---- answers ---- */

struct coord_reply {
    /* The caller's. */
    struct arena *arena; /* where the answer is made; lives until done (may be NULL for heartbeat, commit, delete) */
    void (*done)(struct coord_reply *reply);
    void *context;

    /* The answer. `error` is that of the request as a whole; OK too where single items have errors of their own. */
    enum err error;
    /* Complete responses, error code included, in `arena`; never NULL in `done` of that request, whatever `error` is. */
    union {
        struct kafka_join_group_response *join;
        struct kafka_sync_group_response *sync;
        struct kafka_leave_group_response *leave;
        struct kafka_describe_groups_response_group *describe;
    } answer;

    /* The coordinator's. */
    struct list link, member_link;
    struct member *member; /* whose session stands still until the answer is out */
    void *items;           /* of commits and deletions */
    size_t item_count;
    int16_t api_version;
    uint8_t kind;
};

/* ---- records ---- */

struct coord_record {
    const uint8_t *key, *value; /* value NULL: a tombstone */
    size_t key_size, value_size;
};
/* One batch: owned by the caller once taken. */
struct coord_effects {
    uint64_t sequence;
    struct coord_record *records;
    size_t count;
    size_t size_bytes; /* of all keys and values */
    struct arena arena;
};
/* Moves the open batch to *out; false (and *out untouched) when there is nothing to write. Sequences are 1, 2, 3, ... */
bool coord_effects_take(struct coord *c, struct coord_effects *out);
void coord_effects_deinit(struct coord_effects *e);
/* Batches up to `sequence`, all of them taken, are durable. Calls `done`. */
void coord_durable(struct coord *c, struct coord_now now, uint64_t sequence);
/* The outcome of this batch, hence of all later ones, is not known, or they failed: answers everything that waits;
 * nothing but coord_destroy makes sense afterwards. */
void coord_write_failed(struct coord *c, uint64_t sequence);

/* ---- life ---- */

/* `seed` (from the environment's randomness, different each time) is for member ids. */
struct coord *coord_create(struct mem *mem, const struct coord_config *config, uint64_t seed);
/* Nothing may wait any more: coord_unload first. */
void coord_destroy(struct coord *c);
/* For what happens from now on. */
void coord_configure(struct coord *c, const struct coord_config *config);

/* One record of the table: of several with one key the last counts. value NULL is a tombstone. Kinds of records that are not
 * of classic groups are skipped (OK). ERR_PROTOCOL: this one is damaged: it is left out, and loading may go on. ERR_VERSION: a newer
 * program wrote it: whoever goes on without it gives a group's offsets up. */
enum err coord_load(struct coord *c, const void *key, size_t key_size, const void *value,
                    size_t value_size) WARN_UNUSED;
/* All is there: sessions start anew, requests are served. */
void coord_loaded(struct coord *c, struct coord_now now);
/* Answers everything that waits with ERR_NOT_COORDINATOR (moved away, shutting down); a change that waited for its record
 * with ERR_COORDINATOR_NOT_AVAILABLE, for it may be done. */
void coord_unload(struct coord *c);

/* Time-outs: sessions, rebalances, offsets. Call it when coord_next_due is reached; earlier or later harms nothing. */
void coord_tick(struct coord *c, struct coord_now now);
/* In mono_ms; INT64_MAX: nothing is due. Changes with any call. */
int64_t coord_next_due(const struct coord *c);

/* ---- requests ---- */

/* Who asks. */
struct coord_client {
    struct kafka_string client_id; /* null counts as empty */
    struct kafka_string host;      /* "/127.0.0.1", as Kafka writes it */
    int16_t api_version;
};

/* answer.join */
void coord_join(struct coord *c, struct coord_now now, const struct coord_client *client,
                const struct kafka_join_group_request *request, struct coord_reply *reply);
/* answer.sync */
void coord_sync(struct coord *c, struct coord_now now, int16_t api_version,
                const struct kafka_sync_group_request *request, struct coord_reply *reply);
/* Only `error`. */
void coord_heartbeat(struct coord *c, struct coord_now now, const struct kafka_heartbeat_request *request,
                     struct coord_reply *reply);
/* answer.leave: up to version 2 only the error code, from 3 on the members. */
void coord_leave(struct coord *c, struct coord_now now, int16_t api_version,
                 const struct kafka_leave_group_request *request, struct coord_reply *reply);

struct coord_commit_item {
    struct kafka_string topic;
    struct kafka_uuid topic_id; /* for which it counts; zero: not known, for any of that name */
    int32_t partition;
    int32_t leader_epoch; /* -1: none */
    int64_t offset;
    int64_t commit_timestamp_ms;  /* of version 1; -1: now */
    struct kafka_string metadata; /* null counts as empty */
    enum err error;               /* in: an item that has an error already is left alone; out: the answer */
};
struct coord_commit {
    struct kafka_string group_id, member_id;
    struct kafka_string group_instance_id; /* null: none */
    int32_t generation;                    /* -1: not a member (simple consumers, tools, version 0) */
    int64_t retention_ms;                  /* of versions 2 to 4; -1: the broker's */
    struct coord_commit_item *items;       /* lives until the answer */
    size_t item_count;
};
/* An error of the whole is put into `error` and into each item that has none. */
void coord_commit_offsets(struct coord *c, struct coord_now now, const struct coord_commit *commit,
                          struct coord_reply *reply);

struct coord_offset_item {
    struct kafka_string topic;
    /* In: of another topic of that name nothing is shown; zero: of any. Out: for which it was committed. It is for the
     * caller to know whether that is the topic of this name. */
    struct kafka_uuid topic_id;
    int32_t partition;
    int32_t leader_epoch;         /* out; -1: none */
    int64_t offset;               /* out; -1: nothing committed */
    struct kafka_string metadata; /* out, in the arena; empty: none */
    enum err error;               /* in: an item that has an error already is left alone; out */
};
struct coord_fetch {
    struct kafka_string group_id;
    bool all;            /* every offset of the group: `items` is made, in the arena, sorted by topic and partition */
    bool require_stable; /* for transactions, which are not here yet */
    struct coord_offset_item *items;
    size_t item_count;
};
/* At once. The error is the group's; a group that is not there has no offsets and no error. */
enum err coord_fetch_offsets(struct coord *c, struct coord_fetch *fetch, struct arena *arena) WARN_UNUSED;

struct coord_delete_item {
    struct kafka_string topic;
    int32_t partition;
    enum err error; /* as above */
};
/* OffsetDelete. An error of the group is in `error` only, and no item is changed. */
void coord_delete_offsets(struct coord *c, struct coord_now now, struct kafka_string group_id,
                          struct coord_delete_item *items, size_t count, struct coord_reply *reply);
/* The topic of that name and id is gone: what was committed for it goes from all groups, what was committed for another
 * of that name stays. Nothing depends on it: the offsets of a topic that is gone count no more, stored or not. */
void coord_topic_deleted(struct coord *c, struct coord_now now, struct kafka_string topic, const struct kafka_uuid *id);
/* After coord_loaded, for each name: which topic has it now; NULL: none. What was committed for another goes. What does
 * not say for which (records of older versions) is taken for this one's, and stored anew with its id. */
void coord_topic_is(struct coord *c, struct coord_now now, struct kafka_string topic, const struct kafka_uuid *id);

/* answer.describe, for one group. */
void coord_describe(struct coord *c, int16_t api_version, struct kafka_string group_id, struct coord_reply *reply);
/* Only `error`, for one group of a DeleteGroups. */
void coord_delete_group(struct coord *c, struct coord_now now, struct kafka_string group_id, struct coord_reply *reply);

/* ListGroups, at once: the groups that pass the filters (an empty one passes all; names of states and types are compared
 * without regard to case), sorted by id, in the arena. */
enum err coord_list(struct coord *c, const struct kafka_string_array *states, const struct kafka_string_array *types,
                    struct kafka_list_groups_response_group_array *out, struct arena *arena) WARN_UNUSED;

/* ---- for metrics and tests ---- */

struct coord_counts {
    size_t groups, members, offsets;
    size_t by_state[5]; /* of enum group_state: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead */
    size_t waiting;     /* replies that are not out */
};
void coord_counts(const struct coord *c, struct coord_counts *out);
/* What all groups, members and offsets take, by the figures above. */
size_t coord_bytes(const struct coord *c);
/* Every record that the present state (durable or not) would be stored as, sorted by key: the same as the live records of the
 * log once everything is durable. For snapshots and tests; free with coord_effects_deinit. */
void coord_dump(struct coord *c, struct coord_effects *out);

#endif
