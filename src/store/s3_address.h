/* Where requests go: from bucket, prefix, endpoint, region and style to the host and path of every request. Pure text.
 * Any thread. */
#ifndef OXBOW_STORE_S3_ADDRESS_H
#define OXBOW_STORE_S3_ADDRESS_H

#include "base/bytes.h"
#include "store/s3.h"

#define S3_PREFIX_MAX 400u /* with a key of 512 bytes it stays below the 1024 that S3 allows */

struct s3_address {
    bool tls;
    bool path_style;
    char bucket[256];
    char prefix[S3_PREFIX_MAX + 2]; /* "" or ends in '/' */
    char region[64];
    char host[512];     /* as the Host header has it: with the bucket in host style, with ":port" unless it is the
                           scheme's own */
    char endpoint[600]; /* for messages: what the operator wrote, or AWS's */
};

/* ERR_INVALID with a sentence in why. */
enum err s3_address_make(const struct s3_options *o, struct s3_address *out, char *why, size_t why_size) WARN_UNUSED;
/* "/key" or "/bucket/key", encoded, NUL-terminated; key "": the bucket itself. */
void s3_address_path(const struct s3_address *a, const char *key, struct buf *out);
/* The same key as what is copied from, in whatever style: "/bucket/key", encoded, NUL-terminated. */
void s3_address_source(const struct s3_address *a, const char *key, struct buf *out);

#endif
