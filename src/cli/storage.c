#include "cli/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/url.h"
#include "meta/meta_cluster.h"
#include "store/dir.h"
#include "store/s3.h"

static enum err open_dir(struct env *env, const char *path, bool read_only, struct store **out, char *why,
                         size_t why_size) {
    const char *literal = "";
    enum err e =
        read_only ? store_dir_open_read_only(env, path, out, &literal) : store_dir_open(env, path, out, &literal);
    if (e != OK) (void)snprintf(why, why_size, "%s", literal[0] ? literal : err_text(e));
    return e;
}

static const char *region_of_environment(void) {
    const char *region = getenv("AWS_REGION");
    return region && region[0] ? region : getenv("AWS_DEFAULT_REGION");
}

/* marker: see store/s3.h. */
static enum err open_s3(struct env *env, const struct storage_url *url, bool read_only, const char *marker,
                        struct store **out, char *why, size_t why_size) {
    const char *region = region_of_environment();
    struct s3_options o = {
        .env = env,
        .bucket = url->bucket,
        .prefix = url->prefix,
        .endpoint = url->endpoint,
        .region = url->region[0] ? url->region : region,
        .style = url->style,
        .ca_bundle = getenv("AWS_CA_BUNDLE"),
        .marker_key = marker,
        .read_only = read_only,
        .credentials = {.aws_access_key_id = getenv("AWS_ACCESS_KEY_ID"),
                        .aws_secret_access_key = getenv("AWS_SECRET_ACCESS_KEY"),
                        .aws_session_token = getenv("AWS_SESSION_TOKEN"),
                        .aws_web_identity_token_file = getenv("AWS_WEB_IDENTITY_TOKEN_FILE"),
                        .aws_role_arn = getenv("AWS_ROLE_ARN"),
                        .aws_role_session_name = getenv("AWS_ROLE_SESSION_NAME"),
                        .aws_endpoint_url_sts = getenv("AWS_ENDPOINT_URL_STS"),
                        .aws_shared_credentials_file = getenv("AWS_SHARED_CREDENTIALS_FILE"),
                        .aws_config_file = getenv("AWS_CONFIG_FILE"),
                        .aws_profile = getenv("AWS_PROFILE"),
                        .home = getenv("HOME"),
                        .aws_ec2_metadata_service_endpoint = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
                        .aws_ec2_metadata_disabled = getenv("AWS_EC2_METADATA_DISABLED"),
                        .aws_region = region},
    };
    char text[S3_WHY_SIZE];
    enum err e = store_s3_open(&o, out, text);
    if (e != OK) (void)snprintf(why, why_size, "%s", text);
    return e;
}

enum err storage_open(struct env *env, const char *where, bool read_only, struct store **out, char *why,
                      size_t why_size) {
    if (!strstr(where, "://")) return open_dir(env, where, read_only, out, why, why_size);
    struct storage_url url;
    enum err e = storage_url_parse(where, &url, why, why_size);
    if (e != OK) return e;
    return url.kind == STORAGE_KIND_S3 ? open_s3(env, &url, read_only, META_CLUSTER_KEY, out, why, why_size)
                                       : open_dir(env, url.path, read_only, out, why, why_size);
}

enum err storage_open_beside(struct env *env, const char *where, struct store **out, char *why, size_t why_size) {
    struct storage_url url;
    enum err e = storage_url_parse(where, &url, why, why_size);
    if (e != OK) return e;
    return url.kind == STORAGE_KIND_S3 ? open_s3(env, &url, false, NULL, out, why, why_size)
                                       : open_dir(env, url.path, false, out, why, why_size);
}
