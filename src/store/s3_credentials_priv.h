/* What the files of the S3 credentials share; nobody else includes it. Everything here runs on the source's home loop,
 * and most of it suspends. */
#ifndef OXBOW_STORE_S3_CREDENTIALS_PRIV_H
#define OXBOW_STORE_S3_CREDENTIALS_PRIV_H

#include <pthread.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "store/http.h"
#include "store/s3_credentials.h"

#define S3_CREDENTIALS_SOURCE_MAGIC 0x53c4ed01u
#define S3_CREDENTIALS_WHY_SIZE 512

/* The options, as copies of their own; "" where nothing was set. */
struct s3_settings {
    char *given_access_key, *given_secret, *given_token; /* from the URL or the config */
    char *access_key, *secret, *token;                   /* from the environment */
    char *identity_file, *role_arn, *session_name;
    char *sts_endpoint;
    char *credentials_file, *config_file; /* paths; "": there is no home folder */
    char *profile;                        /* "default" unless named */
    bool profile_named;
    char *metadata_endpoint;
    bool metadata_disabled;
};

struct s3_credentials_source {
    unsigned magic;
    struct env *env;
    struct http_client *http;
    struct loop *home;
    struct s3_settings set;
    char *origin_text; /* "profile NAME", where that is the origin */

    pthread_mutex_t lock; /* what any loop may look at, down to the blank line; never held over a suspension */
    struct s3_credentials now;
    bool have, refused, renewing;
    int64_t fetched_wall_ms, tried_wall_ms;

    struct fiber_mutex fetching;
    struct waitgroup background;
    uint64_t attempts; /* that have ended */
    enum err last_err; /* of the last one, with its sentence */
    char last_why[S3_CREDENTIALS_WHY_SIZE];
    const char *origin;
    bool role_seen; /* the metadata service has given keys before */
};

/* Writes the sentence and returns e. */
enum err s3_credentials_say(char *why, enum err e, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Copies a value into a field of struct s3_credentials. ERR_TOO_LARGE. */
enum err s3_credentials_set(char *field, size_t field_size, const char *value, size_t size) WARN_UNUSED;
/* OK when these are keys that a request can be signed with: both there, of visible characters. */
enum err s3_credentials_check(const struct s3_credentials *c, const char *origin, char *why) WARN_UNUSED;

/* s3_credentials_file.c */

#define S3_CREDENTIALS_FILE_MAX (1u << 20)

/* A whole file; its bytes may be secret: wipe them with s3_file_wipe. ERR_NOT_FOUND, ERR_PERMISSION, ERR_TOO_LARGE, ... */
enum err s3_file_read(struct env *env, const char *path, struct buf *out) WARN_UNUSED;
void s3_file_wipe(struct buf *b); /* and frees */

/* What the shared files say about a profile that concerns us; pointers into the two buffers, not NUL-terminated. */
struct s3_text {
    const char *at; /* NULL: not set */
    size_t size;
};
struct s3_profile {
    struct s3_text access_key, secret, token, role_arn, session_name, identity_file;
    struct s3_text source_profile, credential_source, credential_process, sso;
    bool found; /* a section of that name is there */
};
/* Adds what one file says; later calls override. config: sections are called "profile NAME" but for the default's. */
void s3_profile_parse(struct s3_profile *p, const char *text, size_t size, const char *name, bool config);

/* s3_credentials_fetch.c */

/* STS, AssumeRoleWithWebIdentity. */
enum err s3_web_identity_fetch(struct s3_credentials_source *s, const char *token_file, const char *role_arn,
                               const char *session_name, struct s3_credentials *out, char *why) WARN_UNUSED;
/* ERR_NOT_FOUND: there is no such service here, or the instance has no role. */
enum err s3_metadata_fetch(struct s3_credentials_source *s, struct s3_credentials *out, char *why) WARN_UNUSED;
/* "2026-01-02T03:04:05Z", also with a fraction of a second, as Unix time. ERR_PROTOCOL. */
enum err s3_time_parse(const char *text, int64_t *ms) WARN_UNUSED;

#endif
