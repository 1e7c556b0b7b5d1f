/* Incremental fetch sessions (KIP-227): a consumer names its partitions once, later only what changes; the broker
 * answers only what changed.
 *
 * A session is known by a random id and a number that rises with each of its requests (the epoch). It lives in the
 * cache of the shard where it was made; elsewhere its id is unknown, which a client answers by making a new one. A full
 * cache gives a slot to a newcomer when a session has not been used for FETCH_SESSION_STALE_NS, or is smaller than the
 * newcomer and at least that old. All sessions of a shard together have so many bytes: a newcomer for whom those that
 * have not been used for so long do not make room gets no session, and one that outgrows them is closed.
 *
 * A session is a standing subscription, and costs what happens in its partitions, not how many it has. One at whose end
 * the consumer is, and of which all has been told, rests: it is in no plan until the consumer names it again or its
 * partition has news, for which the session has a watch on it. So only partitions of the session's own loop rest. Others
 * are looked at with each request, and so are all when the consumer wants more than one byte at once, for then what is
 * ready has to be added up.
 *
 * Bookkeeping without I/O or clock. A plan holds copies, so that a session may change or go while a fetch waits. One
 * loop. */
#ifndef OXBOW_BROKER_FETCH_SESSION_H
#define OXBOW_BROKER_FETCH_SESSION_H

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/random.h"
#include "kafka/kafka_messages.h"
#include "partition/partition.h"

#define FETCH_SESSION_STALE_NS 120000000000ull
/* What they take, about, maps included (test_units.c measures it); a topic's name comes on top, twice. */
#define FETCH_SESSION_BYTES ((size_t)448)
#define FETCH_SESSION_TOPIC_BYTES ((size_t)256)
#define FETCH_SESSION_PART_BYTES ((size_t)192)

struct fetch_session;

struct fetch_sessions {
    struct mem *mem;
    struct metrics *metrics; /* or NULL */
    size_t max;
    size_t bytes, bytes_max; /* of all together, by the figures above */
    unsigned index, stride;  /* ids are congruent to index modulo stride: no two shards give the same */
    struct rng rng;
    struct map64 by_id;
    struct list by_use; /* least recently used first */
};
/* metrics: where the bytes are counted (M_FETCH_SESSION_BYTES); NULL: nowhere. */
void fetch_sessions_init(struct fetch_sessions *s, struct mem *m, struct metrics *metrics, size_t max, size_t bytes_max,
                         unsigned index, unsigned stride, uint64_t seed);
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
    /* Not NULL: it is of this loop, open, and had nothing to read when the rest was so. It may rest. */
    struct partition *still;
};

enum fetch_kind { FETCH_WITHOUT_SESSION, FETCH_FULL, FETCH_INCREMENTAL };

struct fetch_plan {
    enum fetch_kind kind;
    int32_t session_id; /* INCREMENTAL: whose epoch must still be next_epoch when it is answered */
    int32_t next_epoch;
    bool by_id;
    struct fetch_want *wants; /* in the order in which they are to be served */
    size_t count;
    size_t resting; /* so many others of the session have nothing new */
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

/* The fetch waits: those that may rest, and have nothing to be told, do so, and rested[i] says which. `news` is called
 * once, when one of the session's has news or the session is used or closed by another. Not to be called outside an
 * incremental fetch; where the session is another's by now, nothing rests. */
void fetch_plan_wait(struct fetch_sessions *s, const struct fetch_plan *plan, const struct fetch_told *told,
                     bool *rested, void (*news)(void *ctx), void *ctx);
/* The waiting is over; or, the latter, it is for nobody any more. True: the plan was made anew, as of now; false: it is as
 * it was. */
bool fetch_plan_again(struct fetch_sessions *s, struct arena *a, struct fetch_plan *plan);
void fetch_plan_drop(struct fetch_sessions *s, const struct fetch_plan *plan);

#endif
