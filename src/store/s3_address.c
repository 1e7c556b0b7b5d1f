#include "store/s3_address.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "store/s3_sign.h"

#define REGION_DEFAULT "us-east-1"

__attribute__((format(printf, 3, 4))) static enum err refuse(char *why, size_t why_size, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(why, why_size, format, ap);
    va_end(ap);
    return ERR_INVALID;
}

/* Wider than AWS's rule for new buckets: old ones, and other stores, have capitals and underscores. */
static bool bucket_valid(const char *bucket) {
    size_t n = strlen(bucket);
    if (n < 3 || n > 255 || strstr(bucket, "..") || bucket[0] == '.' || bucket[n - 1] == '.') return false;
    for (const char *c = bucket; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!letter && *c != '-' && *c != '.' && *c != '_') return false;
    }
    return true;
}

/* What DNS and a certificate's wildcard can carry. */
static bool bucket_is_label(const char *bucket) {
    size_t n = strlen(bucket);
    if (n > 63 || bucket[0] == '-' || bucket[n - 1] == '-') return false;
    for (const char *c = bucket; *c; c++) {
        if (*c == '.' || *c == '_' || (*c >= 'A' && *c <= 'Z')) return false;
    }
    return true;
}

static bool region_valid(const char *region) {
    if (strlen(region) >= 64) return false;
    for (const char *c = region; *c; c++) {
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '-' ||
              *c == '_'))
            return false;
    }
    return true;
}

static bool host_valid(const char *host) {
    if (!host[0]) return false;
    for (const char *c = host; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!letter && !strchr("-._:[]", *c)) return false;
    }
    return true;
}

/* Hosts in whose front no bucket can stand. */
static bool host_takes_no_bucket(const char *host) {
    char bare[256];
    if (host[0] == '[') return true;
    (void)snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(host, ":"), host);
    struct in_addr v4;
    if (inet_pton(AF_INET, bare, &v4) == 1 || !strchr(bare, '.')) return true;
    static const char local[] = ".localhost";
    size_t n = strlen(bare);
    return n >= sizeof(local) - 1 && strcmp(bare + n - (sizeof(local) - 1), local) == 0;
}

/* Scheme and host of the endpoint; a port that is the scheme's own is dropped, as libcurl does in the Host header. */
static enum err endpoint_parse(const struct s3_options *o, struct s3_address *out, char host[256], char *why,
                               size_t why_size) {
    const char *text = o->endpoint, *rest;
    if (strncmp(text, "https://", 8) == 0) {
        out->tls = true;
        rest = text + 8;
    } else if (strncmp(text, "http://", 7) == 0) {
        rest = text + 7;
    } else {
        return refuse(why, why_size, "expected endpoint=http://HOST:PORT or https://HOST, found '%.200s'", text);
    }
    size_t size = strcspn(rest, "/");
    if (rest[size] && rest[size + 1])
        return refuse(why, why_size, "expected an endpoint without a path, found '%.200s'", text);
    if (size >= 256) return refuse(why, why_size, "the endpoint's host name is too long");
    memcpy(host, rest, size);
    host[size] = '\0';
    if (!host_valid(host))
        return refuse(why, why_size, "expected a host name or an address in the endpoint '%.200s'", text);
    const char *own = out->tls ? ":443" : ":80", *colon = strrchr(host, ':');
    if (colon && strcmp(colon, own) == 0 && (host[0] != '[' || colon[-1] == ']')) host[colon - host] = '\0';
    (void)snprintf(out->endpoint, sizeof(out->endpoint), "%s://%s", out->tls ? "https" : "http", host);
    return OK;
}

enum err s3_address_make(const struct s3_options *o, struct s3_address *out, char *why, size_t why_size) {
    *out = (struct s3_address){0};
    const char *region = o->region && o->region[0] ? o->region : REGION_DEFAULT;
    const char *prefix = o->prefix ? o->prefix : "";
    if (!o->bucket || !bucket_valid(o->bucket)) {
        return refuse(why, why_size,
                      "'%.200s' is no name of a bucket: expected three or more letters, digits, '-' and '.'",
                      o->bucket ? o->bucket : "");
    }
    if (!region_valid(region)) return refuse(why, why_size, "'%.100s' is no name of a region", region);
    if (strlen(prefix) > S3_PREFIX_MAX || (prefix[0] && !store_key_valid(prefix))) {
        return refuse(why, why_size,
                      "expected a prefix of at most %u letters, digits and any of . _ - / behind the bucket, found "
                      "'%.200s'",
                      S3_PREFIX_MAX, prefix);
    }
    (void)snprintf(out->bucket, sizeof(out->bucket), "%s", o->bucket);
    (void)snprintf(out->region, sizeof(out->region), "%s", region);
    if (prefix[0]) (void)snprintf(out->prefix, sizeof(out->prefix), "%s/", prefix);
    char host[256];
    if (o->endpoint && o->endpoint[0]) {
        enum err e = endpoint_parse(o, out, host, why, why_size);
        if (e != OK) return e;
    } else {
        out->tls = true;
        const char *china = strncmp(region, "cn-", 3) == 0 ? ".cn" : "";
        (void)snprintf(host, sizeof(host), "s3.%s.amazonaws.com%s", region, china);
        (void)snprintf(out->endpoint, sizeof(out->endpoint), "https://%s", host);
    }
    out->path_style = o->style == S3_STYLE_PATH ||
                      (o->style == S3_STYLE_AUTO && (host_takes_no_bucket(host) || !bucket_is_label(o->bucket)));
    (void)snprintf(out->host, sizeof(out->host), "%s%s%s", out->path_style ? "" : o->bucket, out->path_style ? "" : ".",
                   host);
    return OK;
}

void s3_address_path(const struct s3_address *a, const char *key, struct buf *out) {
    char whole[2048];
    (void)snprintf(whole, sizeof(whole), "%s%s%s%s", a->path_style ? a->bucket : "", a->path_style && key[0] ? "/" : "",
                   key[0] ? a->prefix : "", key);
    s3_sign_path(out, whole);
    buf_u8(out, 0);
}

void s3_address_source(const struct s3_address *a, const char *key, struct buf *out) {
    char whole[2048];
    (void)snprintf(whole, sizeof(whole), "%s/%s%s", a->bucket, a->prefix, key);
    s3_sign_path(out, whole);
    buf_u8(out, 0);
}
