/* S3's answers in XML: the few elements that matter, by their path from the root ("ListBucketResult/Contents/Key").
 * Namespaces are ignored; document types are refused; sizes and depth are bounded. Bytes from outside: what does not
 * parse is ERR_PROTOCOL. Any thread. */
#ifndef OXBOW_STORE_S3_XML_H
#define OXBOW_STORE_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "store/store.h"

#define S3_XML_ETAG_MAX 128u

/* Called at the end of every element with its own text (of an element with children: what stood between them). An error
 * ends the parse with it. */
typedef enum err s3_xml_fn(void *ctx, const char *path, const char *text, size_t size);
enum err s3_xml_parse(struct mem *m, const void *data, size_t size, s3_xml_fn *element, void *ctx) WARN_UNUSED;

/* <Error>. Fields are cut to fit; "" where the answer has none. Messages are not kept: they may quote what was signed. */
struct s3_error {
    char code[64];
    char region[64]; /* that the bucket lies in, where the server tells */
    char server_time[40];
    char endpoint[128]; /* of a redirect */
};
/* ERR_PROTOCOL: it is no S3 error. */
enum err s3_xml_error(struct mem *m, const void *data, size_t size, struct s3_error *out) WARN_UNUSED;

/* <ListBucketResult>: keys with `prefix` taken off are added to `out`, in the order given. */
struct s3_xml_page {
    bool truncated;
    char *token; /* NextContinuationToken, or NULL; mem_free */
};
enum err s3_xml_list(struct mem *m, const void *data, size_t size, const char *prefix, struct store_listing *out,
                     struct s3_xml_page *page) WARN_UNUSED;

/* <DeleteResult>: tells of each key that could not be deleted (other than for not being there), with the code. What is not
 * said, or too long, is "". An answer that turns out to be none may have told of some before. */
enum err s3_xml_deleted(struct mem *m, const void *data, size_t size,
                        void (*failed)(void *ctx, const char *key, const char *code), void *ctx) WARN_UNUSED;

/* <InitiateMultipartUploadResult>: the upload id; mem_free. */
enum err s3_xml_upload_id(struct mem *m, const void *data, size_t size, char **out) WARN_UNUSED;
/* The answer to a completion, which says 200 before it knows: OK, or ERR_NOT_FOUND with the reason in `error`. */
enum err s3_xml_completed(struct mem *m, const void *data, size_t size, struct s3_error *error) WARN_UNUSED;
/* <ListMultipartUploadsResult>: like s3_xml_list. Where the next page begins: NULL where it does not say; mem_free. */
struct s3_xml_uploads {
    bool truncated;
    char *key, *id;
};
enum err s3_xml_uploads(struct mem *m, const void *data, size_t size, const char *prefix, struct store_uploads *out,
                        struct s3_xml_uploads *page) WARN_UNUSED;
/* <CopyPartResult>, under a 200 as well: OK with the part's ETag (never too long), ERR_NOT_FOUND with the reason in `error`,
 * ERR_PROTOCOL: neither. */
enum err s3_xml_copied(struct mem *m, const void *data, size_t size, char etag[S3_XML_ETAG_MAX],
                       struct s3_error *error) WARN_UNUSED;

#endif
