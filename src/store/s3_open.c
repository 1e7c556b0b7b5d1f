/* May this bucket be used? Asked once, when the store is opened, with a GET of the marker and, where that is not there,
 * a LIST. Whatever stands in the way becomes one sentence that says what to fix. What may pass by itself (nobody
 * listens yet, the server is busy) is asked again for some seconds. */
#include <stdio.h>
#include <string.h>

#include "store/s3_priv.h"

#define PROBE_KEYS 16u
#define BACKOFF_BASE_NS (100 * NS_PER_MS)
#define BACKOFF_CAP_NS NS_PER_S

/* --- The sentences. */

static const char *known_region(const struct s3_call *c) {
    const char *header = http_response_header(&c->response, "x-amz-bucket-region");
    if (header && header[0] && strlen(header) < 64 && strcspn(header, " \"") == strlen(header)) return header;
    return c->error.region;
}

static bool said(const struct s3_call *c, const char *code) {
    return strcmp(c->error.code, code) == 0;
}

static void clock_sentence(struct s3_call *c, char *why) {
    char ours[40] = "", theirs[40];
    /* "20130524T000000Z", as it was sent. */
    const char *d = c->signature.date, *date = http_response_header(&c->response, "Date");
    if (strlen(d) == 16) {
        (void)snprintf(ours, sizeof(ours), "%.4s-%.2s-%.2sT%.2s:%.2s:%.2sZ", d, d + 4, d + 6, d + 9, d + 11, d + 13);
    }
    (void)snprintf(theirs, sizeof(theirs), "%s", c->error.server_time[0] ? c->error.server_time : date ? date : "?");
    (void)snprintf(why, S3_WHY_SIZE,
                   "the clocks differ by more than the store allows: this machine says %s, the store says %s; set this "
                   "machine's clock",
                   ours, theirs);
}

static void region_sentence(struct s3_call *c, char *why) {
    const struct s3_address *a = &c->s3->address;
    const char *region = known_region(c);
    if (region[0] && strcmp(region, a->region) != 0) {
        (void)snprintf(why, S3_WHY_SIZE,
                       "the bucket '%s' is in the region '%s', not in '%s': set region=%s in storage.url", a->bucket,
                       region, a->region, region);
    } else if (c->error.endpoint[0]) {
        (void)snprintf(why, S3_WHY_SIZE,
                       "the bucket '%s' must be reached at '%s': set region= or endpoint= in storage.url", a->bucket,
                       c->error.endpoint);
    } else {
        (void)snprintf(why, S3_WHY_SIZE,
                       "the bucket '%s' is not in the region '%s', and the store does not say in which: set region= in "
                       "storage.url",
                       a->bucket, a->region);
    }
}

/* True: this will not pass by itself. */
static bool refusal_sentence(struct s3_call *c, enum err *e, char *why) {
    const struct s3_address *a = &c->s3->address;
    unsigned status = c->response.status;
    *e = ERR_INVALID;
    if (said(c, "NoSuchBucket")) {
        *e = ERR_NOT_FOUND;
        (void)snprintf(why, S3_WHY_SIZE,
                       "there is no bucket '%s' at %s: make it, or correct storage.url (buckets are named in the %s "
                       "of requests; path.style=%s would change that)",
                       a->bucket, a->endpoint, a->path_style ? "path" : "host name", a->path_style ? "false" : "true");
    } else if (said(c, "InvalidAccessKeyId") || said(c, "InvalidToken") || said(c, "ExpiredToken")) {
        *e = ERR_PERMISSION;
        (void)snprintf(why, S3_WHY_SIZE,
                       "the store at %s does not know the access key, or its session has ended (%s): the credentials "
                       "come from: %s; correct them there",
                       a->endpoint, c->error.code, s3_credentials_origin(c->s3->credentials));
    } else if (said(c, "SignatureDoesNotMatch")) {
        *e = ERR_PERMISSION;
        (void)snprintf(why, S3_WHY_SIZE,
                       "the store at %s knows the access key but not this secret (SignatureDoesNotMatch): correct the "
                       "secret access key (source: %s)",
                       a->endpoint, s3_credentials_origin(c->s3->credentials));
    } else if (said(c, "RequestTimeTooSkewed") || said(c, "RequestExpired")) {
        clock_sentence(c, why);
    } else if (said(c, "AuthorizationHeaderMalformed") || said(c, "PermanentRedirect") ||
               said(c, "TemporaryRedirect") || said(c, "Redirect") || said(c, "IllegalLocationConstraintException") ||
               (status >= 300 && status < 400 && known_region(c)[0])) {
        region_sentence(c, why);
    } else if (said(c, "AccessDenied") || said(c, "AllAccessDisabled") || (c->is_s3 && status == 403)) {
        *e = ERR_PERMISSION;
        (void)snprintf(why, S3_WHY_SIZE,
                       "these credentials may not use the bucket '%s' at %s (%s): allow them to get, put, delete and "
                       "list objects there",
                       a->bucket, a->endpoint, c->error.code);
    } else if (c->is_s3 && status < 500 && status != 409 && status != 429 && !c->worth_repeating) {
        (void)snprintf(why, S3_WHY_SIZE, "the store at %s refuses requests to the bucket '%s': %s (status %u)",
                       a->endpoint, a->bucket, c->error.code, status);
    } else if (!c->is_s3 && status >= 200 && status < 500 && status != 429) {
        *e = ERR_FOREIGN;
        (void)snprintf(why, S3_WHY_SIZE,
                       "what answers at %s does not speak S3 (status %u): correct the endpoint in storage.url",
                       a->endpoint, status);
    } else {
        return false;
    }
    return true;
}

static void patience_sentence(struct s3_call *c, enum err e, char *why) {
    const struct s3_address *a = &c->s3->address;
    unsigned status = c->response.status;
    if (status > 0) {
        (void)snprintf(why, S3_WHY_SIZE, "the store at %s answers, but cannot serve now (status %u%s%s); try again",
                       a->endpoint, status, c->error.code[0] ? ", " : "", c->error.code);
    } else {
        (void)snprintf(why, S3_WHY_SIZE, "the store at %s cannot be reached (%s): %s%s", a->endpoint,
                       c->why[0] ? c->why : err_text(e),
                       strstr(c->why, "certificate")
                           ? "give the file with the certificate's authority as AWS_CA_BUNDLE, or correct the endpoint"
                           : "start it, or correct the endpoint in storage.url",
                       a->path_style ? "" : " (or set path.style=true, if buckets have no host names there)");
    }
}

/* --- The questions. */

/* Sends until there is an answer that means something, or patience is over. `why` is set unless it is OK,
 * ERR_NOT_FOUND or ERR_TRUNCATED as the request's own answer. */
static enum err ask(struct s3 *s, struct s3_call *c, uint64_t until_ns, char *why) {
    c->quiet = true;
    for (unsigned attempt = 1;; attempt++) {
        enum err e = s3_call_send_once(c), refused;
        if (e == OK || e == ERR_NOT_FOUND || e == ERR_TRUNCATED) return e;
        if (c->response.status > 0 && refusal_sentence(c, &refused, why)) return refused;
        bool keys_missing = c->response.status == 0 && !c->worth_repeating && c->why[0];
        if (keys_missing) {
            (void)snprintf(why, S3_WHY_SIZE, "%s", c->why);
            return ERR_PERMISSION;
        }
        if (e == ERR_CANCELLED || e == ERR_INVALID || env_now_ns(s->base.env) >= until_ns) {
            patience_sentence(c, e, why);
            return e;
        }
        env_backoff(s->base.env, attempt, BACKOFF_BASE_NS, BACKOFF_CAP_NS);
    }
}

/* ERR_NOT_FOUND: not there. */
static enum err marker_ask(struct s3 *s, const char *key, uint64_t until_ns, char *why) {
    struct s3_call *c = s3_call_new(s, S3_OP_GET, HTTP_GET, key);
    s3_call_header(c, "Range", "bytes=0-0");
    c->read = true;
    c->expects = 1;
    enum err e = ask(s, c, until_ns, why);
    if (e == ERR_TRUNCATED) e = OK;
    s3_call_free(c);
    return e;
}

/* *others: there are objects that are not what an interrupted first start leaves behind. */
static enum err list_ask(struct s3 *s, uint64_t until_ns, bool *others, char *why) {
    struct mem *m = s->base.env->mem;
    struct s3_call *c = s3_call_new(s, S3_OP_LIST, HTTP_GET, "");
    s3_call_query(c, "list-type", "2");
    s3_call_query(c, "encoding-type", "url");
    char count[16];
    (void)snprintf(count, sizeof(count), "%u", PROBE_KEYS);
    s3_call_query(c, "max-keys", count);
    if (s->address.prefix[0]) s3_call_query(c, "prefix", s->address.prefix);
    c->expects = (size_t)1 << 20;
    enum err e = ask(s, c, until_ns, why);
    *others = false;
    if (e == OK) {
        struct store_listing l;
        struct s3_xml_page page;
        store_listing_init(&l, m);
        if (s3_xml_list(m, c->response.body.data, c->response.body.size, s->address.prefix, &l, &page) == OK) {
            for (size_t i = 0; i < l.count; i++) *others |= strncmp(l.items[i].key, "oxbow/probe-", 12) != 0;
            mem_free(m, page.token);
        } else {
            e = ERR_FOREIGN;
            (void)snprintf(why, S3_WHY_SIZE,
                           "what answers at %s does not speak S3 (it answers a list with something else): correct the "
                           "endpoint in storage.url",
                           s->address.endpoint);
        }
        store_listing_deinit(&l);
    } else if (e == ERR_NOT_FOUND || e == ERR_TRUNCATED) {
        if (!why[0])
            (void)snprintf(why, S3_WHY_SIZE, "the store at %s answers a list with a missing key", s->address.endpoint);
    }
    s3_call_free(c);
    return e;
}

enum err s3_probe(struct s3 *s, const char *marker_key, char why[S3_WHY_SIZE]) {
    uint64_t until_ns = env_now_ns(s->base.env) + s->patience_ns;
    bool others = false;
    why[0] = '\0';
    enum err e = list_ask(s, until_ns, &others, why);
    if (e != OK || !others || !marker_key) return e;
    /* The marker comes first of all; so where there is something in the list it must be there now. */
    e = marker_ask(s, marker_key, until_ns, why);
    if (e == ERR_NOT_FOUND && !why[0]) {
        (void)snprintf(why, S3_WHY_SIZE,
                       "the bucket '%s' holds objects that are not Oxbow's under the prefix '%s': choose an empty "
                       "bucket, or add a prefix of its own to storage.url (s3://%s/PREFIX)",
                       s->address.bucket, s->address.prefix, s->address.bucket);
        e = ERR_FOREIGN;
    }
    return e;
}
