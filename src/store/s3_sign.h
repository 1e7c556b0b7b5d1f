/* Signatures of S3 requests: AWS Signature Version 4, and nothing that touches the world. The caller says what time it
 * is and what it is going to send; the answer is the value of the Authorization header. Everything that is sent must be
 * sent exactly as it was signed: the path and the query as s3_sign_path and s3_sign_query wrote them, each signed header
 * with the same value.
 *
 * S3's own rules differ from those of other AWS services: the path is encoded once, not twice, and it is not normalised
 * ("a//b" and "a/../b" are keys like any other).
 *
 * Any thread; a struct s3_signer is one thread's. Facts: Amazon S3 API reference, "Authenticating Requests (AWS
 * Signature Version 4)". */
#ifndef OXBOW_STORE_S3_SIGN_H
#define OXBOW_STORE_S3_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/slice.h"

/* Payload hashes that are not hashes of this payload. Over TLS (and wherever the body's own checksums are enough) the
 * body needs no second pass. */
#define S3_SIGN_UNSIGNED "UNSIGNED-PAYLOAD"
#define S3_SIGN_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#define S3_SIGN_HASH_SIZE 65 /* 64 hexadecimal digits, NUL */
#define S3_SIGN_DATE_SIZE 17 /* "20130524T000000Z", NUL */
#define S3_SIGN_HEADERS_MAX 32
#define S3_SIGN_QUERY_MAX 16

/* Name and value of a header (name in any case; value as sent) or of a query parameter (both not encoded; value "" for
 * one like "?uploads": it is sent and signed as "uploads="). */
struct s3_sign_pair {
    const char *name, *value;
};

/* A request as it will be sent. Everything is borrowed for the call. */
struct s3_sign_request {
    const char *method; /* "GET" */
    const char *path;   /* encoded, begins with '/': what s3_sign_path wrote, and what is sent */
    const char *query;  /* what s3_sign_query wrote, and what is sent behind the '?'; "" or NULL: none */
    /* Every header to be signed but the four that s3_sign adds to them itself: host, x-amz-date, x-amz-content-sha256
     * and (with a session token) x-amz-security-token. Any order. Signing more than these is safe only for headers that
     * neither libcurl nor a proxy changes; every header named x-amz-* that is sent must be among them. A name appears
     * at most once. */
    const struct s3_sign_pair *headers;
    size_t header_count;      /* at most S3_SIGN_HEADERS_MAX - 4 */
    const char *host;         /* as the Host header is sent: with ":port" unless it is the scheme's default */
    const char *payload_hash; /* lower-case hex of SHA-256, or S3_SIGN_UNSIGNED, S3_SIGN_EMPTY: also the value that must
                                 be sent as x-amz-content-sha256 */
    int64_t wall_ms;          /* Unix time; servers refuse what is more than 15 minutes from theirs */
};

struct s3_sign_keys { /* borrowed for the call */
    const char *access_key, *secret;
    const char *token; /* "" or NULL: no session token */
};

#define S3_SIGNER_MAGIC 0x53516e01u

/* Keeps the signing key of one (secret, day, region, service): deriving it costs four HMACs. The caller's storage. */
struct s3_signer {
    unsigned magic;
    struct mem *mem; /* for the time of a call */
    char region[64];
    char service[16];
    char day[9];             /* "20130524"; "" = no key yet */
    uint8_t secret_hash[32]; /* of the secret that `key` was made from */
    uint8_t key[32];
};

/* region: 1 to 63 characters; a longer one is cut: the server then says what it wants. service: "s3", or what a dialect
 * of it calls itself ("s3express"). */
void s3_signer_init(struct s3_signer *s, struct mem *mem, const char *region, const char *service);
void s3_signer_deinit(struct s3_signer *s); /* wipes the key */

/* What goes onto the wire beside the request's own headers. */
struct s3_signature {
    char date[S3_SIGN_DATE_SIZE]; /* x-amz-date */
    /* Authorization: "AWS4-HMAC-SHA256 Credential=.../aws4_request,SignedHeaders=a;b,Signature=hex" */
    char authorization[1024];
};

/* Signs. ERR_INVALID: too many headers, or a name, region or access key too long for `authorization`. */
enum err s3_sign(struct s3_signer *s, const struct s3_sign_keys *keys, const struct s3_sign_request *r,
                 struct s3_signature *out) WARN_UNUSED;

/* The steps, for tests and for messages about SignatureDoesNotMatch: appended to `out` (not NUL-terminated). Neither
 * holds a secret but the session token, which is a header: not for logs where there is one. */
enum err s3_sign_canonical_request(const struct s3_sign_keys *keys, const struct s3_sign_request *r,
                                   struct buf *out) WARN_UNUSED;
void s3_sign_string_to_sign(const struct s3_signer *s, const struct s3_sign_request *r, const void *canonical,
                            size_t canonical_size, struct buf *out);

/* Appends "/" and the key (or "bucket/key"), every byte but A-Z a-z 0-9 - . _ ~ and '/' as %XX. NUL is not appended. */
void s3_sign_path(struct buf *out, const char *key);
/* Appends the parameters encoded ('/' too) and sorted by encoded name, then value: "a=1&b=2". NUL is not appended.
 * count is at most S3_SIGN_QUERY_MAX. */
void s3_sign_query(struct buf *out, const struct s3_sign_pair *pairs, size_t count);
/* Lower-case hex of SHA-256 over the pieces. */
void s3_sign_hash(const struct slice *data, size_t count, char out[S3_SIGN_HASH_SIZE]);

#endif
