/* Incremental fetch sessions (KIP-227): a consumer names its partitions once, later only what changes; the broker
 * answers only what changed.
 *
 * A session is known by a random id and a number that rises with each of its requests (the epoch). It lives in the
 * cache of the shard where it was made; elsewhere its id is unknown, which a client answers by making a new one. A full
 * cache gives a slot to a newcomer when a session has not been used for FETCH_SESSION_STALE_NS, or is smaller than the
 * newcomer and at least that old.
 *
 * Pure bookkeeping: no I/O, no clock. A plan holds copies, so that a session may change or go while a fetch waits. One
 * loop. */
#ifndef OXBOW_BROKER_FETCH_SESSION_H
#define OXBOW_BROKER_FETCH_SESSION_H

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/random.h"
#include "kafka/kafka_messages.h"

#define FETCH_SESSION_STALE_NS 120000000000ull
#define FETCH_SESSION_PARTS_MAX                                                                                        \
    ((size_t)500000) /* partitions in all sessions of a shard together: beyond it sessions are refused or dropped */

struct fetch_session;

struct fetch_sessions {
    struct mem *mem;
    size_t max;
    size_t parts, parts_max;
    unsigned index, stride; /* ids are congruent to index modulo stride: no two shards give the same */
    struct rng rng;
    struct map64 by_id;
    struct list by_use; /* least recently used first */
};
void fetch_sessions_init(struct fetch_sessions *s, struct mem *m, size_t max, unsigned index, unsigned stride,
                         uint64_t seed);
void fetch_sessions_deinit(struct fetch_sessions *s);

/* One partition of a fetch: what is wanted. Strings belong to the plan's arena. */
struct fetch_want {
    struct kafka_string name; /* null when asked for by id */
    struct kafka_uuid id;
    int32_t index;
    int64_t offset;
    int32_t max_bytes;
    int32_t current_leader_epoch;
    int32_t last_fetched_epoch;
};
/* What a client is told of it, as far as sessions care. */
struct fetch_told {
    int16_t error_code;
    int64_t high_watermark, log_start_offset;
    size_t records_bytes;
    bool diverging;
};

enum fetch_kind { FETCH_WITHOUT_SESSION, FETCH_FULL, FETCH_INCREMENTAL };

struct fetch_plan {
    enum fetch_kind kind;
    int32_t session_id; /* INCREMENTAL: whose epoch must still be next_epoch when it is answered */
    int32_t next_epoch;
    bool by_id;
    struct fetch_want *wants; /* in the order in which they are to be served */
    size_t count;
};
/* Begins a fetch: updates the session named by the request and lists everything that is to be fetched. Copies what it
 * needs into `a`. ERR_FETCH_SESSION_ID_NOT_FOUND, ERR_INVALID_FETCH_SESSION_EPOCH, ERR_FETCH_SESSION_TOPIC_ID. */
enum err fetch_plan_make(struct fetch_sessions *s, const struct kafka_fetch_request *in, int16_t version,
                         uint64_t now_ns, struct arena *a, struct fetch_plan *plan) WARN_UNUSED;
/* Ends it: told[i] belongs to plan->wants[i]; include[i] becomes whether the answer holds it. A full fetch gets a
 * session if there is room for one; *session_id is for the answer. ERR_INVALID_FETCH_SESSION_EPOCH or
 * ERR_FETCH_SESSION_ID_NOT_FOUND: somebody else has used or closed the session meanwhile. */
enum err fetch_plan_finish(struct fetch_sessions *s, const struct fetch_plan *plan, const struct fetch_told *told,
                           bool *include, uint64_t now_ns, int32_t *session_id) WARN_UNUSED;

#endif
