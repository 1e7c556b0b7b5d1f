/* What connections (conn.c) and requests (request.c) know of each other, beside conn.h and request.h. A connection decides
 * when a request starts and when its answer leaves; a request says when it is done, and when the next may start. All on
 * the shard's loop. */
#ifndef OXBOW_BROKER_CONN_PRIV_H
#define OXBOW_BROKER_CONN_PRIV_H

#include "broker/conn.h"

/* --- Of requests. */

/* A request of this connection, queued, with one reference, which is the connection's; takes the frame, and charges the
 * budget for both. `listener`, `local`, `peer`, `received_ns` and `api` are the caller's to set, and r->info with
 * kafka_request_open. */
struct request *request_create(struct conn *c, struct conns *set, struct frame *f);
/* From now on a fiber works on it. */
void request_start(struct request *r);
void request_unref(struct request *r);
/* Its outcome; the connection flushes soon. A later call does nothing. */
void request_done(struct request *r, enum request_outcome outcome);
/* ApiVersions in a version that is not known here is answered in version 0, with error 35 and the range of ApiVersions
 * itself, so that the client can ask again (KIP-511). */
void request_answer_versions(struct request *r);
/* There is too much to be sent, or lent out of the caches: none with a large answer starts. */
bool conns_crowded(const struct conns *set);
/* Somebody waits for that to change, with a request or with an answer. */
bool conns_have_waiters(const struct conns *set);
/* The first of those who are to answer does so. */
void conns_resume_next(struct conns *set, bool admitted);

/* --- Of connections. */

/* Starts what may start. */
void conn_advance(struct conn *c);
/* Sends what is done at the end of this turn of the loop: what else becomes ready in it goes out with it. */
void conn_flush_soon(struct conn *c);
/* One line for bytes that make no sense; at most one a second, with the number of those left out. */
void conn_complain(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Soon, outside the callbacks of sockets: closes what is to be closed, and lets those go on who waited for memory. */
void conns_kick(struct conns *set);
/* Looks within a second, while somebody waits, who is in the way. */
void conns_arm_sweep(struct conns *set);

#endif
