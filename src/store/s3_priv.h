/* The insides of the S3 store, shared by its files. */
#ifndef OXBOW_STORE_S3_PRIV_H
#define OXBOW_STORE_S3_PRIV_H

#include <stdatomic.h>

#include "store/http.h"
#include "store/s3.h"
#include "store/s3_address.h"
#include "store/s3_hedge.h"
#include "store/s3_sign.h"
#include "store/s3_xml.h"

#define S3_MAGIC 0x53035303u
#define S3_EXTRA_HEADERS_MAX 6u
#define S3_QUERY_MAX 8u
#define S3_LEFT_MAX 16u

struct s3 {
    struct store base;
    unsigned magic;
    struct s3_address address;
    struct http_client *http;
    struct s3_credentials_source *credentials;
    struct s3_signer signer; /* of the store thread */
    struct s3_hedge hedge;
    uint64_t patience_ns, request_ns, multipart_from;
    unsigned attempts;
    bool read_only;
    _Atomic uint32_t calls; /* under way, on whatever loops */
    _Atomic bool closing;
    _Atomic bool no_batches; /* the server has no DeleteObjects, */
    _Atomic bool no_copies;  /* or does not copy parts */
    _Atomic int64_t logged_ms;
    _Atomic(struct s3_left *) left[S3_LEFT_MAX]; /* uploads that are still to be given up (s3_uploads.c) */
};

/* One request of ours; may be sent several times. The caller's storage (it is large: from memory, by s3_call_new). What
 * the caller sets is above the line. */
struct s3_call {
    struct s3 *s3;
    enum s3_op op;
    enum http_method method;
    const char *key; /* "": the bucket */
    struct s3_sign_pair query[S3_QUERY_MAX];
    size_t query_count;
    struct http_header headers[S3_EXTRA_HEADERS_MAX]; /* all of them signed but Range */
    size_t header_count;
    const struct slice *body;
    size_t body_count;
    bool checksum;   /* x-amz-checksum-crc32c over the body */
    bool md5;        /* Content-MD5, and the payload hashed for the signature */
    bool hashed;     /* the payload hashed for the signature */
    bool changes;    /* what it did is not known when the answer is lost */
    bool once;       /* each sending of it is told of: `doubtful` is right */
    bool create;     /* If-None-Match: * */
    bool read;       /* an object's bytes: hedged */
    bool optional;   /* there are servers that do not have it: ERR_UNSUPPORTED */
    bool quiet;      /* failures become a sentence, not log lines */
    size_t expects;  /* of the answer's body, in bytes */
    uint64_t copies; /* so many bytes of another object, before it answers */
    /* --- The answer, after s3_call_send. */
    bool doubtful; /* a sending of it may have done what it asks for, and nobody was told */
    struct http_response response;
    struct s3_error error; /* of an answer that is not 2xx */
    bool is_s3;            /* the answer was understood as S3's */
    bool worth_repeating;
    char why[512]; /* of failures that are not the server's: connection, credentials */
    char checksum_text[16];
    /* --- Of the sending. */
    struct s3_credentials keys;
    struct s3_signature signature;
    char payload_hash[S3_SIGN_HASH_SIZE], md5_text[32];
    struct buf path, query_text, url;
    struct http_header sent[HTTP_HEADERS_MAX];
    size_t sent_count;
};

struct s3_call *s3_call_new(struct s3 *s, enum s3_op op, enum http_method method, const char *key);
void s3_call_free(struct s3_call *c);
void s3_call_query(struct s3_call *c, const char *name, const char *value);
void s3_call_header(struct s3_call *c, const char *name, const char *value);

/* Sends once. OK: 2xx. For the rest: ERR_NOT_FOUND (NoSuchKey), ERR_EXISTS (a create's 412), ERR_TRUNCATED (416: the
 * range begins behind the end), and by what is known: ERR_UNAVAILABLE and ERR_BUSY (nothing was done),
 * ERR_UNKNOWN_OUTCOME and ERR_TIMEOUT (if it changes something, it may have), ERR_CANCELLED. Suspends. */
enum err s3_call_send_once(struct s3_call *c) WARN_UNUSED;
/* The same, repeated with jitter while that helps, a bounded number of times. For what is safe to repeat. Suspends. */
enum err s3_call_send(struct s3_call *c) WARN_UNUSED;
/* What the code of an error says about a copy: ERR_UNSUPPORTED, ERR_NOT_FOUND, ERR_TRUNCATED (of what is copied), or
 * `otherwise`. */
enum err s3_call_copy_refused(const struct s3_call *c, enum err otherwise);
/* Logs a failure, now and then. */
void s3_call_log(const struct s3_call *c, enum err e);

/* The store's operations (s3_read.c, s3_write.c, s3_multipart.c). */
enum err s3_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                struct slice *out) WARN_UNUSED;
enum err s3_list(struct store *s, const char *prefix, const char *start_after, size_t max,
                 struct store_listing *out) WARN_UNUSED;
enum err s3_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                enum store_purpose purpose) WARN_UNUSED;
enum err s3_delete(struct store *s, const char *const *keys, size_t count, enum err *each) WARN_UNUSED;
enum err s3_multipart_put(struct s3 *s, const char *key, const struct slice *data, size_t count,
                          uint64_t size) WARN_UNUSED;
enum err s3_compose(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                    enum store_purpose purpose) WARN_UNUSED;

/* s3_uploads.c. The last three are for between s3_enter and s3_leave, or the close. All but the last suspend. */
enum err s3_uploads(struct store *s, const char *prefix, struct store_uploads *out) WARN_UNUSED;
enum err s3_upload_abort(struct store *s, const char *key, const char *id) WARN_UNUSED;
/* For who has begun it: now, or later. id NULL: its beginning was not answered, so that nobody knows the id; all that
 * the server lists under that key goes, so nobody may be at work on one. */
void s3_upload_give_up(struct s3 *s, const char *key, const char *id);
void s3_uploads_retry(struct s3 *s);
void s3_uploads_forget(struct s3 *s);

/* Whether the store may be used: reached, known bucket, taken credentials, ours (s3_open.c). Suspends. */
enum err s3_probe(struct s3 *s, const char *marker_key, char why[S3_WHY_SIZE]) WARN_UNUSED;

/* Every operation is between these two: the close waits for those under way. ERR_CANCELLED: closing. */
enum err s3_enter(struct s3 *s) WARN_UNUSED;
void s3_leave(struct s3 *s);

static inline struct s3 *s3_of(struct store *s) {
    struct s3 *x = CONTAINER_OF(s, struct s3, base);
    CHECK_OBJ(x, S3_MAGIC);
    return x;
}

/* Base64 of n bytes; out has room for 4 * ((n + 2) / 3) + 1. */
void s3_base64(const uint8_t *data, size_t n, char *out);

#endif
