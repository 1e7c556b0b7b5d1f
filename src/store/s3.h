/* The object store in a bucket of S3, or of anything that speaks S3's protocol and creates conditionally
 * (`If-None-Match: *`): AWS, MinIO, Ceph RGW, R2 and others. See README.md for how requests are made, repeated and
 * judged. */
#ifndef OXBOW_STORE_S3_H
#define OXBOW_STORE_S3_H

#include "store/s3_credentials.h"
#include "store/store.h"

/* How the bucket is named in a request: in the host name ("bucket.host/key") or in the path ("host/bucket/key"). AUTO:
 * in the host name, unless the host is an IP address, has no dot, ends in "localhost", or TLS could not verify a name
 * with that bucket in it. */
enum s3_style { S3_STYLE_AUTO, S3_STYLE_HOST, S3_STYLE_PATH };

/* Everything is borrowed for the call. */
struct s3_options {
    struct env *env;
    const char *bucket;
    const char *prefix;   /* of all keys, without '/' at either end; "": none */
    const char *endpoint; /* "http(s)://host[:port]"; NULL or "": AWS's for the region */
    const char *region;   /* NULL or "": us-east-1 */
    enum s3_style style;
    struct s3_credentials_options credentials;
    const char *ca_bundle; /* NULL or "": the system's certificates */
    /* A key that is there whenever the prefix is ours. Where it is not, but other objects are, the prefix belongs to
     * something else. NULL: not looked at. */
    const char *marker_key;
    bool read_only; /* puts and deletes answer ERR_READ_ONLY */

    /* For tests; 0: what suits S3. */
    uint64_t patience_ns;    /* how long the open waits for a store that does not answer */
    uint64_t request_ns;     /* for an answer, beside the time for the bytes */
    uint64_t multipart_from; /* a put without condition of more bytes than this is sent in parts of this size */
    unsigned attempts;       /* of what is safe to repeat */
};

#define S3_WHY_SIZE 2048u

/* Requests as they are sent are counted by operation and outcome (metrics label = op * S3_OUTCOMES + outcome). MULTIPART
 * is all that a bill has for an object in parts; aborts are free, as deletes are. */
enum s3_op { S3_OP_PUT, S3_OP_CREATE, S3_OP_GET, S3_OP_LIST, S3_OP_DELETE, S3_OP_MULTIPART, S3_OP_ABORT, S3_OPS };
enum s3_outcome {
    S3_ANSWERED,    /* 2xx, and what is as good an answer: not there, there already, range behind the end */
    S3_REFUSED,     /* other 3xx and 4xx */
    S3_BUSY,        /* 409, 429, 503 */
    S3_FAILED,      /* other 5xx, and answers that make no sense */
    S3_TIMED_OUT,   /* no answer in time */
    S3_CUT,         /* the connection broke in the middle */
    S3_UNREACHABLE, /* no connection, or nothing to sign with: nothing was sent */
    S3_OUTCOMES
};

/* Opens. The store must answer, know the bucket and take the credentials. *out: close with store_close. why: one
 * sentence that says what to fix, without a secret. Suspends, for at most about ten seconds when nothing answers. */
enum err store_s3_open(const struct s3_options *o, struct store **out, char why[S3_WHY_SIZE]) WARN_UNUSED;

#endif
