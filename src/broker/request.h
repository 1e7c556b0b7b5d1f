/* One request of a client, from its complete frame to its answer, and what a handler does with it.
 *
 * A handler runs in a fiber on the loop of the connection. It gets the decoded message and a response set to its
 * defaults, fills the response in and returns REQUEST_ANSWER; the response is encoded before the arena goes. The
 * message, its strings and records are views into the frame: after request_release_frame nothing of it may be touched.
 * The client may go away at any time; a handler does not notice, except through `wake` when it has left its request
 * waiting without a fiber.
 *
 * Freshness. Another broker may have taken over while this one stood still. So an answer of an API with API_LEASED leaves
 * only when this broker was in office at most BROKER_LEASE_NS ago; and one that accuses, that is, tells the client that it
 * is wrong about something that another may have moved on (kafka_error_accuses), or one of an API with API_CERTAIN, when it
 * was in office after the request came. request_error notes accusations. A handler may ask before it answers, with request_stands, and say something
 * better when that is not to be had; else the connection is closed. All other answers cost nothing.
 *
 * Order (conn.c keeps it): requests of one connection are answered in the order they came, and each starts when all
 * before it are answered. Only those with API_OVERLAPS start earlier: when every request before them overlaps too and
 * has called request_append_done. */
#ifndef OXBOW_BROKER_REQUEST_H
#define OXBOW_BROKER_REQUEST_H

#include "base/arena.h"
#include "broker/receive.h"
#include "kafka/error.h"
#include "kafka/frame.h"
#include "rt/env.h"

struct conn;
struct conns;
struct request;

#define REQUEST_MAGIC 0x4e9e57u

enum request_outcome {
    REQUEST_ANSWER,    /* encode the response and send it in its turn */
    REQUEST_NO_ANSWER, /* the client expects none (acks=0) */
    REQUEST_CLOSE,     /* close the connection when it would be this request's turn */
    REQUEST_LATER,     /* it waits without a fiber: request_wait has been called, request_answer will be; or it has been
                          answered already */
};

/* in, out: the structs of the API's request and response. May suspend. */
typedef enum request_outcome request_handler(struct request *r, const void *in, void *out);

enum {
    API_OVERLAPS = 1,
    API_LEASED = 2, /* its answers must not be older than the lease (BROKER_LEASE_NS) */
    /* They say that something is done, also where there was nothing to do: so they are held to what accusations are. */
    API_CERTAIN = 4,
    /* An answer may be large: it is not begun while too much waits to be sent. */
    API_LARGE = 8
};

/* One row of the table of what the broker speaks. */
struct api {
    int16_t key;
    int16_t min_version, max_version; /* that are served */
    unsigned flags;
    request_handler *handle;
};

/* Where a client came in: decides what Metadata tells it. Lives as long as the broker. */
struct listener {
    char name[64];
    char host[256];            /* "": all addresses */
    uint16_t port;             /* the one it is bound to */
    char advertised_host[256]; /* "": the address that the client has connected to */
    uint16_t advertised_port;
};

enum request_state { REQUEST_QUEUED, REQUEST_RUNNING, REQUEST_WAITING, REQUEST_DONE };

struct request {
    unsigned magic;
    unsigned refs; /* the connection's list, and the fiber or waiter at work */
    struct list node;
    struct conns *conns;
    struct conn *conn; /* NULL: the client has gone, or it is answered */
    void *shard;       /* struct shard, for handlers */
    const struct listener *listener;
    struct env_address local, peer; /* the address that the client has connected to, and its own */
    const struct api *api;
    struct kafka_request_info info; /* client_id and body borrow from the frame */
    struct frame frame;
    struct arena arena;
    uint64_t received_ns;
    size_t charged, granted;
    bool made; /* what was granted is memory of its own */
    enum request_state state;
    bool appended, answered;
    bool admitted; /* it may start though there is too much to be sent */
    bool accuses;  /* what it is about to be told */
    bool patient;  /* its answer may wait for others' */
    bool excused;  /* it is about to be told nothing that needs the lease */
    enum request_outcome outcome;
    struct slices answer;
    /* While it waits. cancelled: the client has gone; the waiter cleans up, and calls request_end. Otherwise the broker
     * stops: answer soon. Outside any fiber; must not suspend. */
    void (*wake)(struct request *r, bool cancelled);
    void *waiter;
    struct list due; /* in conns' line of those who are to answer */
    fiber_fn *resume;
};

static inline int16_t request_version(const struct request *r) {
    return r->info.api_version;
}
/* The frame is no longer needed: its memory can be used for other requests. */
void request_release_frame(struct request *r);
/* The order of everything in this request is settled: the connection's next overlapping request may start. */
void request_append_done(struct request *r);
/* From now on the request holds no fiber; the handler then returns REQUEST_LATER. */
void request_wait(struct request *r, void (*wake)(struct request *r, bool cancelled), void *waiter);
/* Who waits is to answer now, with about so many bytes, which it has not read yet (0: nothing to speak of): a fiber runs
 * main(waiter), at once, or in its turn where too much is to be sent. Once. */
void request_resume(struct request *r, size_t bytes, fiber_fn *main);
/* At once, if it stands in line for that: it is cancelled, or the broker stops. */
void request_resume_now(struct request *r);
/* Encodes the response and sends it in its turn. For REQUEST_LATER, once; a later call does nothing, so that a time-out
 * and the real end may race. On the request's loop; does not suspend. */
void request_answer(struct request *r, const void *response);
/* The waiter lets go of a request that it has answered or whose client has gone: the request may be freed. */
void request_end(struct request *r);
/* Keeps the request (its arena, its frame) until request_end. */
void request_hold(struct request *r);
/* Counts memory that the request holds until its end against queued.max.request.bytes: nobody is read from while that
 * is overdrawn. */
void request_charge(struct request *r, size_t bytes);
/* How much its answer may hold that would like to be of `wanted` bytes; instead of what was granted before. Counted with the
 * answers that wait to be sent until the request ends, or waits. */
size_t request_answer_grant(struct request *r, size_t wanted);
/* What it does hold, now that it was read, counts instead of what was granted. False: that is more, and finds no room. */
bool request_answer_took(struct request *r, size_t bytes) WARN_UNUSED;
/* Then: suspends until there is room for so many bytes, or next to nothing is to be sent, and grants them. What was read is
 * let go of before. */
void request_answer_await(struct request *r, size_t bytes);
/* What an answer takes that may be long (arena and encoded form, `bytes` in all), before it is made; more: it is made step by
 * step, and more may be asked for. Waits for the others' answers, though not where these are next to nothing: so the one
 * that is alone goes on whatever it takes. What is short does not count. Counted until the request ends, or waits. Suspends. */
void request_answer_make(struct request *r, size_t bytes, bool more);
/* What such an answer may take in all, where it can be told without the rest. */
size_t request_answer_most(const struct request *r);
/* Whether what the request is about to be told (its API, the errors that request_error was asked for, `accuses`) is known
 * to be fresh. Does not suspend. */
bool request_is_fresh(const struct request *r);
/* Makes sure of it. False: it is not known, and the handler must now say something that accuses nobody and can be tried
 * again; what was said to request_error before is forgotten. Suspends. */
bool request_stands(struct request *r);
/* Kafka's code for e; counts it, and notes whether it accuses. */
int16_t request_error(struct request *r, enum err e);

#endif
