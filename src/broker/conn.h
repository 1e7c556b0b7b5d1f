/* The client connections of one shard: framing, order, back-pressure, time-outs. What requests mean is the handlers'
 * business.
 *
 * Memory: an idle connection costs its struct and the environment's; bytes that arrive are receive.h's business. A
 * connection is not read while
 *   - the budget for requests is used up,
 *   - CONN_REQUESTS_MAX of its requests are unanswered, or
 *   - more than CONN_UNSENT_MAX bytes of answers wait to be sent; then its next request does not start either.
 * A request whose answer may be large (API_LARGE) does not start while the answers of all, those that wait to be sent and
 * those that are being made (request_answer_grant), are more than their budget, or hold more of the caches than they may. It
 * stands in line then, and so does a fetch that waited and has found something (request_resume), in a line that goes first; one of
 * each starts every CONN_LET_IN_NS all the same, so that nothing rests on what others read. What is read although it is more than
 * was granted, a whole batch, waits for room too (request_answer_took). Requests with small answers (produce, heartbeats, commits)
 * always start.
 *
 * Who holds what others wait for has to get on: a connection of which less than CONN_PROGRESS_BYTES have come of a part of
 * a request, or were taken of its answers, within CONN_STALLED_NS, is closed while somebody waits.
 *
 * Bytes that follow no protocol close the connection: one log line (at most one a second for all) and
 * M_CONNECTIONS_REFUSED.
 *
 * Everything runs on the shard's loop, except struct conn_quota, which all shards share. */
#ifndef OXBOW_BROKER_CONN_H
#define OXBOW_BROKER_CONN_H

#include <stdatomic.h>

#include "base/map.h"
#include "broker/request.h"
#include "rt/env.h"

#define CONN_REQUESTS_MAX 64u
#define CONN_OVERLAP_MAX 32u /* requests of one connection that are started and not answered */
#define CONN_UNSENT_MAX ((size_t)1 << 20)
#define CONN_STALLED_NS (10 * NS_PER_S)
#define CONN_STARVED_NS (3 * CONN_STALLED_NS) /* the same of one that is not read, because there is no memory */
#define CONN_LET_IN_NS (3 * NS_PER_S)
#define CONN_PROGRESS_BYTES ((size_t)64 << 10)
#define CONN_ANSWER_MIN ((size_t)1 << 20)    /* of a fetch: as much, or half of what is left of the budget */
#define CONN_ANSWER_LEAST ((size_t)64 << 10) /* of one that goes on although there is too much; and of other APIs */

/* Limits over all shards. Thread-safe. */
struct conn_quota {
    _Atomic uint32_t max, max_per_ip; /* may be changed at any time: who is connected stays */
    _Atomic uint32_t open;
    atomic_flag lock;    /* held for a few instructions only: guards by_ip */
    struct mapstr by_ip; /* counted also without a limit: one may come */
};
void conn_quota_init(struct conn_quota *q, struct mem *m, uint32_t max, uint32_t max_per_ip);
void conn_quota_deinit(struct conn_quota *q);

struct conns_options {
    struct env *env;
    struct loop *loop;
    const struct api *apis; /* ordered by key */
    size_t api_count;
    void *shard;
    /* As broker_office_known and broker_confirm_office; NULL: what is known here is always so. */
    bool (*office_known)(void *shard, uint64_t after_ns);
    enum err (*confirm_office)(void *shard, uint64_t after_ns);
    struct conn_quota *quota;
    uint64_t budget_bytes;
    uint64_t answer_bytes; /* that may wait to be sent; 0: any number */
    size_t max_frame_bytes;
    uint64_t idle_ns; /* 0: never */
};

struct conns {
    struct conns_options o;
    struct receive_pool pool;
    struct list all;         /* the least recently active first */
    struct list starved;     /* paused because the budget is used up; */
    struct list starved_new; /* and those of them that have not sent a whole request yet: others go first */
    struct list crowded;     /* whose next request would be answered with much, while there is too much */
    struct list due;         /* requests that waited for records and are to answer, while there is too much */
    struct list closing;     /* to be closed at the next kick */
    /* have answers to send: one system call for all of a connection's that a group commit set free */
    struct list flushing;
    struct mail flush_mail;
    bool flush_posted;
    struct slices outgoing; /* empty between calls */
    struct timer kick;      /* closes and resumes outside the callbacks of sockets */
    struct timer sweep;     /* idle and stalled connections */
    uint64_t let_in_ns;     /* when one of `crowded` was started all the same */
    bool sweeps_soon;       /* it is armed for within a second */
    uint64_t count;
    size_t unsent_bytes;   /* of all answers */
    size_t granted_bytes;  /* of answers that are being made */
    unsigned makers;       /* wait for room for their long answers (request_answer_make) */
    struct request *maker; /* has a part of one, and may ask for more */
    struct budget decode;
    struct waitq decode_waiters;
    struct waitgroup requests; /* that are being worked on */
    bool draining;
    struct waitq drained;
    int64_t complained;
    uint64_t complaints_left_out;
};
void conns_init(struct conns *set, const struct conns_options *o);
/* A new client; call it from env's accepted(). */
void conns_accept(struct conns *set, struct env_conn *sock, const struct listener *listener);
/* Answers what is under way, reads nothing more, closes; those that take longer than `limit_ns` are cut off. Suspends.
 * No accept may follow. */
void conns_drain(struct conns *set, uint64_t limit_ns);
void conns_deinit(struct conns *set); /* after conns_drain */

const struct api *conns_api(const struct conns *set, int16_t key);

#endif
