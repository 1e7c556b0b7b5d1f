/* The admin server (http.listen): /healthz, /readyz, /metrics.
 *
 * HTTP is libmicrohttpd's, on a thread of its own; the library is loaded when the server is started, so that a broker
 * without it does not carry it in memory. That thread touches nothing of the broker: health and readiness are flags of
 * this module, and a metrics page is made by a fiber on loop 0 while its connection is suspended. */
#ifndef OXBOW_ADMIN_ADMIN_H
#define OXBOW_ADMIN_ADMIN_H

#include "broker/broker.h"
#include "rt/env.h"

struct admin;

struct admin_options {
    struct env *env;
    struct loop *loop0;
    const char *host; /* numeric, "localhost", or "" for all addresses; borrowed for the call */
    uint16_t port;    /* 0: any free one */
    char *why_text;   /* room for *why, of why_size bytes; the caller's */
    size_t why_size;
    const char *version;
    const char *io_name;
    uint64_t (*resident_bytes)(void);
};
/* Listens at once; not ready yet, and /metrics without a broker's part. *why: a sentence for the operator. On loop 0.
 */
enum err admin_start(const struct admin_options *o, struct admin **out, const char **why) WARN_UNUSED;
uint16_t admin_port(const struct admin *a);
/* From now on /readyz says 200, and /metrics tells of its topics. NULL: no longer; then the broker may go. On loop 0;
 * the latter suspends until no page is being made. */
void admin_set_broker(struct admin *a, struct broker *b);
/* Suspends; on loop 0. */
void admin_stop(struct admin *a);

#endif
