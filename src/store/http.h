/* HTTP exchanges, over libcurl, on one thread of their own: the store thread. A fiber of any loop hands its request
 * over and suspends; name look-up, TLS, sending and receiving happen on the store thread; the answer is mailed back to
 * the fiber's loop. Connections are kept and used again (HTTP/1.1). A client without work keeps no busy thread.
 *
 * Outcomes of an exchange:
 *   OK                   a whole answer came, whatever its status says.
 *   ERR_UNAVAILABLE      surely nothing was processed: the name, the connection or TLS failed before a byte of the
 *                        request was sent.
 *   ERR_TIMEOUT          no whole answer in time: it may have been processed, or may still be.
 *   ERR_UNKNOWN_OUTCOME  the answer was cut, too short, or no HTTP; the connection broke: it may have been processed.
 *   ERR_TOO_LARGE        the answer's body is larger than asked for: it may have been processed.
 *   ERR_INVALID          the URL is none: nothing was done.
 *   ERR_CANCELLED        the client was closed before anything was sent; after that: ERR_UNKNOWN_OUTCOME.
 * A request on a kept connection that the server had just closed may be sent a second time by itself; so a conditional
 * create may be answered by its own first sending. */
#ifndef OXBOW_STORE_HTTP_H
#define OXBOW_STORE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "rt/env.h"

#define HTTP_HEADERS_MAX 24u
#define HTTP_WHY_SIZE 256u

struct http_client;

struct http_options {
    struct env *env;
    const char *ca_bundle;    /* a file of certificates to trust; NULL or "": the system's */
    unsigned connections_max; /* at once; further exchanges wait for one. 0: 64 */
};
/* Starts the store thread. *why: a literal. ERR_UNSUPPORTED: libcurl is not there. */
enum err http_client_create(const struct http_options *o, struct http_client **out, const char **why) WARN_UNUSED;
/* Aborts what is under way; from now on every exchange answers ERR_CANCELLED. For owners that must wait for their
 * fibers before they may close. Any loop. */
void http_client_stop(struct http_client *c);
/* Aborts what is under way; their fibers get their answers later, on their loops, without touching the client. Ends the
 * thread and frees. Suspends. NULL is fine. */
void http_client_close(struct http_client *c);

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_POST, HTTP_DELETE };

struct http_header {
    const char *name, *value;
};

/* Everything in it is borrowed until the call returns. */
struct http_request {
    enum http_method method;
    const char *url;                   /* absolute, http:// or https://, encoded already; sent as it is */
    const struct http_header *headers; /* at most HTTP_HEADERS_MAX; Content-Length is added for PUT and POST */
    size_t header_count;
    const struct slice *body; /* gathered; for PUT and POST */
    size_t body_count;
    uint64_t connect_timeout_ns;    /* name, connection and TLS; 0: 10 s */
    uint64_t total_timeout_ns;      /* 0: none */
    uint64_t low_speed_bytes_per_s; /* slower than this ... */
    uint64_t low_speed_s;           /* ... for so long: given up as a time-out; 0: never */
    size_t response_max_bytes;      /* of the body; answers up to 64 KiB are always taken */
    /* On a connection of its own: then it is sent once. What has no answer on one that was used before is sent again,
     * without a word (libcurl takes it for one that had ended before). */
    bool fresh;

    /* Called on the store thread before anything is sent: what takes long, such as checksums of the body and the
     * signature, is done here. May change what the headers' values point to. An error ends the exchange; nothing was
     * done. NULL: nothing to do. */
    enum err (*prepare)(void *ctx);
    void *prepare_ctx;

    /* For what is safe to send twice: when there is no answer after hedge_after_ns (0: never), and `hedge_allowed`
     * (called on the store thread; NULL: always) says so, a second, equal request is sent; the first answer with a
     * status below 500 wins, and the other is dropped. */
    uint64_t hedge_after_ns;
    bool (*hedge_allowed)(void *ctx);
    void *hedge_ctx;
};

struct http_response {
    unsigned status;
    struct slice body; /* own reference; {0} when empty */
    char *headers;     /* name, NUL, value, NUL, ... and an empty name; use http_response_header */
    struct mem *mem;
    bool hedged;             /* a second request was sent ... */
    bool hedge_won;          /* ... and its answer is this one */
    unsigned connections;    /* opened for this exchange */
    uint64_t first_byte_ns;  /* from sending to the first byte of the answer */
    char why[HTTP_WHY_SIZE]; /* after a failure: what libcurl says about it; holds no header, key or query */
};

/* Suspends. out: initialised by the call; http_response_deinit in every case. */
enum err http_exchange(struct http_client *c, const struct http_request *r, struct http_response *out) WARN_UNUSED;
/* The value of the first header of that name (any case), or NULL. */
const char *http_response_header(const struct http_response *r, const char *name);
void http_response_deinit(struct http_response *r);

#endif
