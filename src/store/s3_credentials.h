/* Where the keys for S3 come from, in the order of AWS's own SDKs; the first that is configured is the one, and if it
 * fails, that is an error and not a reason to go on to the next:
 *   1. the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   2. a web identity: AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, exchanged at STS (AssumeRoleWithWebIdentity)
 *   3. the shared files: ~/.aws/credentials and ~/.aws/config, profile AWS_PROFILE; keys, or role_arn with
 *      web_identity_token_file
 *   4. the instance metadata service, version 2 (a token first, then the role's keys)
 *
 * Keys that expire are renewed before they do, in the background of a request; only when they are (almost) over do
 * requests wait. One renewal at a time. Secrets are wiped from memory when they are replaced, and no message, log line
 * or metric ever holds one: not the secret, not the session token, not the web identity's token, not what a server
 * answered.
 *
 * A source belongs to the loop it was made on; s3_credentials_get may be called in fibers of any loop. */
#ifndef OXBOW_STORE_S3_CREDENTIALS_H
#define OXBOW_STORE_S3_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rt/env.h"

struct http_client; /* store/http.h: the exchanges */

/* The values of the process's environment (and what stands in for it), as cli/ finds them. NULL or "": not set. All are
 * borrowed for the open only; the source keeps copies. */
struct s3_credentials_options {
    /* Given by the storage URL or the config; before everything else when both are there. */
    const char *access_key, *secret, *token;
    const char *aws_access_key_id, *aws_secret_access_key, *aws_session_token;
    const char *aws_web_identity_token_file, *aws_role_arn, *aws_role_session_name;
    const char *aws_endpoint_url_sts; /* NULL: https://sts.REGION.amazonaws.com */
    const char *aws_shared_credentials_file, *aws_config_file, *aws_profile;
    const char *home;                              /* for ~/.aws */
    const char *aws_ec2_metadata_service_endpoint; /* NULL: http://169.254.169.254 */
    const char *aws_ec2_metadata_disabled;         /* "true" */
    const char *aws_region;                        /* AWS_REGION or AWS_DEFAULT_REGION; for STS */
};

#define S3_CREDENTIALS_MAX 256 /* access key, secret; longer ones are refused */
#define S3_CREDENTIALS_TOKEN_MAX 8192

/* One set, the caller's own copy. Wipe it when done with it. */
struct s3_credentials {
    char access_key[S3_CREDENTIALS_MAX];
    char secret[S3_CREDENTIALS_MAX];
    char token[S3_CREDENTIALS_TOKEN_MAX]; /* "": none */
    int64_t expires_ms;                   /* Unix time; INT64_MAX: never */
};
void s3_credentials_wipe(struct s3_credentials *c);

struct s3_credentials_source;

/* Makes a source; fetches nothing yet. `region` is the storage URL's (for STS; may be ""). http is borrowed for the
 * source's life. */
struct s3_credentials_source *s3_credentials_open(struct env *env, struct http_client *http,
                                                  const struct s3_credentials_options *o, const char *region);
/* Waits for a renewal that is under way, wipes and frees. Suspends. On the loop it was opened on. */
void s3_credentials_close(struct s3_credentials_source *s);

/* Current credentials. Suspends when it has to fetch. Fibers of any loop.
 * Errors: ERR_NOT_FOUND: none are configured anywhere; ERR_INVALID: what is configured cannot be used; ERR_PERMISSION:
 * STS or the metadata service said no; ERR_UNAVAILABLE: no sensible answer from them for now (try again later).
 * why: one sentence that says what to fix, without a secret (cut to why_size); may be NULL. */
enum err s3_credentials_get(struct s3_credentials_source *s, struct s3_credentials *out, char *why,
                            size_t why_size) WARN_UNUSED;
/* The server refused these: they are fetched anew by the next get (unless newer ones are there already, or less than
 * ten seconds have passed since the last fetch). Any loop. */
void s3_credentials_refused(struct s3_credentials_source *s, const struct s3_credentials *c);
/* "the configuration", "environment", "web identity", "profile default", "instance metadata", or "none" before the first
 * get; for the log. A literal, or lives as long as the source. Home loop. */
const char *s3_credentials_origin(const struct s3_credentials_source *s);

#endif
