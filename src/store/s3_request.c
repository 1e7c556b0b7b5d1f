/* One request: made, signed, sent, and its answer judged.
 *
 * The judgement keeps to one rule: what a request that changes something did is known only from an answer that says so.
 * A lost answer, and every 5xx, leave it open (ERR_UNKNOWN_OUTCOME, ERR_TIMEOUT): servers and what stands in front of
 * them do answer 500 and 503 for what they have done. 404 is believed only when it names the key: a missing bucket, or
 * the page of some proxy, must not read as a missing object, for a missing object is a hole in a log.
 *
 * Nothing that a server says in words is logged: for a wrong signature AWS answers with all that was signed. */
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/crc32c.h"
#include "store/s3_priv.h"

#define BYTES_PER_S_MIN ((uint64_t)512 << 10) /* a transfer slower than this on the whole is given up */
#define TRANSFER_S_MAX 600u                   /* where the size is not known */
#define LOW_SPEED_BYTES_PER_S 1u
#define LOW_SPEED_S 20u
#define COPIED_PER_S_MIN ((uint64_t)8 << 20) /* of what the server copies itself */
#define CONNECT_NS (5 * NS_PER_S)
#define READ_NS (5 * NS_PER_S)
#define LOG_EVERY_MS 10000
#define BACKOFF_BASE_NS (50 * NS_PER_MS)
#define BACKOFF_BUSY_NS (200 * NS_PER_MS)
#define BACKOFF_CAP_NS NS_PER_S

void s3_base64(const uint8_t *data, size_t n, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)data[i] << 16;
        if (i + 1 < n) v |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < n) v |= data[i + 2];
        *out++ = digits[v >> 18];
        *out++ = digits[v >> 12 & 63];
        *out++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *out++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *out = '\0';
}

struct s3_call *s3_call_new(struct s3 *s, enum s3_op op, enum http_method method, const char *key) {
    struct mem *m = s->base.env->mem;
    struct s3_call *c = MEM_NEW(m, struct s3_call);
    c->s3 = s;
    c->op = op;
    c->method = method;
    c->key = key;
    buf_init(&c->path, m);
    buf_init(&c->query_text, m);
    buf_init(&c->url, m);
    return c;
}

static void answer_drop(struct s3_call *c) {
    http_response_deinit(&c->response);
    c->response = (struct http_response){0};
    c->error = (struct s3_error){0};
    c->is_s3 = c->worth_repeating = false;
    c->why[0] = '\0';
}

void s3_call_free(struct s3_call *c) {
    struct mem *m = c->s3->base.env->mem;
    answer_drop(c);
    s3_credentials_wipe(&c->keys);
    OPENSSL_cleanse(&c->signature, sizeof(c->signature));
    buf_deinit(&c->path);
    buf_deinit(&c->query_text);
    buf_deinit(&c->url);
    mem_free(m, c);
}

void s3_call_query(struct s3_call *c, const char *name, const char *value) {
    ASSERT(c->query_count < S3_QUERY_MAX);
    c->query[c->query_count++] = (struct s3_sign_pair){name, value};
}

void s3_call_header(struct s3_call *c, const char *name, const char *value) {
    ASSERT(c->header_count < S3_EXTRA_HEADERS_MAX);
    c->headers[c->header_count++] = (struct http_header){name, value};
}

/* --- Making and signing. */

static void url_make(struct s3_call *c) {
    const struct s3_address *a = &c->s3->address;
    c->path.size = c->query_text.size = c->url.size = 0;
    s3_address_path(a, c->key, &c->path);
    s3_sign_query(&c->query_text, c->query, c->query_count);
    buf_u8(&c->query_text, 0);
    buf_printf(&c->url, "%s://%s%s%s%s", a->tls ? "https" : "http", a->host, (const char *)c->path.data,
               c->query_count ? "?" : "", (const char *)c->query_text.data);
    buf_u8(&c->url, 0);
}

static void sent_add(struct s3_call *c, const char *name, const char *value) {
    ASSERT(c->sent_count < HTTP_HEADERS_MAX);
    c->sent[c->sent_count++] = (struct http_header){name, value};
}

/* All headers; what depends on the body, the time and the keys is filled in by call_sign. */
static void headers_make(struct s3_call *c) {
    c->sent_count = 0;
    sent_add(c, "x-amz-date", c->signature.date);
    sent_add(c, "x-amz-content-sha256", c->payload_hash);
    sent_add(c, "Authorization", c->signature.authorization);
    if (c->keys.token[0]) sent_add(c, "x-amz-security-token", c->keys.token);
    if (c->checksum) sent_add(c, "x-amz-checksum-crc32c", c->checksum_text);
    if (c->md5) sent_add(c, "Content-MD5", c->md5_text);
    for (size_t i = 0; i < c->header_count; i++) sent_add(c, c->headers[i].name, c->headers[i].value);
}

static void checksum_make(struct s3_call *c) {
    uint32_t crc = 0;
    for (size_t i = 0; i < c->body_count; i++) crc = crc32c(crc, c->body[i].data, c->body[i].size);
    uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
    s3_base64(bytes, sizeof(bytes), c->checksum_text);
}

static enum err md5_make(struct s3_call *c) {
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    EVP_MD_CTX *x = EVP_MD_CTX_new();
    bool ok = x && EVP_DigestInit_ex(x, EVP_md5(), NULL) == 1;
    for (size_t i = 0; i < c->body_count && ok; i++) ok = EVP_DigestUpdate(x, c->body[i].data, c->body[i].size) == 1;
    ok = ok && EVP_DigestFinal_ex(x, digest, &n) == 1 && n == 16;
    EVP_MD_CTX_free(x);
    if (!ok) return ERR_UNSUPPORTED;
    s3_base64(digest, n, c->md5_text);
    return OK;
}

/* On the store thread: bodies may be large. */
static enum err call_sign(void *arg) {
    static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE"};
    struct s3_call *c = arg;
    if (c->checksum) checksum_make(c);
    if (c->md5) {
        enum err e = md5_make(c);
        if (e != OK) return e;
    }
    if (c->md5 || c->hashed) {
        s3_sign_hash(c->body, c->body_count, c->payload_hash);
    } else {
        (void)snprintf(c->payload_hash, sizeof(c->payload_hash), "%s",
                       c->body_count ? S3_SIGN_UNSIGNED : S3_SIGN_EMPTY);
    }
    struct s3_sign_pair headers[HTTP_HEADERS_MAX];
    size_t count = 0;
    for (size_t i = 3; i < c->sent_count; i++) {
        const struct http_header *h = &c->sent[i];
        if (strcmp(h->name, "Range") == 0 || strcmp(h->name, "x-amz-security-token") == 0) continue;
        headers[count++] = (struct s3_sign_pair){h->name, h->value};
    }
    struct s3_sign_keys keys = {c->keys.access_key, c->keys.secret, c->keys.token};
    struct s3_sign_request r = {.method = methods[c->method],
                                .path = (const char *)c->path.data,
                                .query = (const char *)c->query_text.data,
                                .headers = headers,
                                .header_count = count,
                                .host = c->s3->address.host,
                                .payload_hash = c->payload_hash,
                                .wall_ms = env_wall_ms(c->s3->base.env)};
    return s3_sign(&c->s3->signer, &keys, &r, &c->signature);
}

static bool hedge_allowed(void *ctx) {
    struct s3 *s = ctx;
    return s3_hedge_allowed(&s->hedge);
}

static struct http_request request_make(struct s3_call *c) {
    struct s3 *s = c->s3;
    uint64_t bytes = c->expects < ((size_t)1 << 40) ? c->expects : 0;
    for (size_t i = 0; i < c->body_count; i++) bytes += c->body[i].size;
    /* Reads are small or come early, and asking again costs nothing but the request. */
    uint64_t answer_ns = c->read && s->request_ns > READ_NS ? READ_NS : s->request_ns;
    /* While it copies, the server may say nothing. */
    uint64_t copy_s = c->copies / COPIED_PER_S_MIN;
    uint64_t transfer_s = c->expects < ((size_t)1 << 40) ? bytes / BYTES_PER_S_MIN : TRANSFER_S_MAX;
    return (struct http_request){.method = c->method,
                                 .url = (const char *)c->url.data,
                                 .headers = c->sent,
                                 .header_count = c->sent_count,
                                 .body = c->body,
                                 .body_count = c->body_count,
                                 .connect_timeout_ns = CONNECT_NS < s->request_ns ? CONNECT_NS : s->request_ns,
                                 .total_timeout_ns = answer_ns + (transfer_s + copy_s) * NS_PER_S,
                                 .low_speed_bytes_per_s = LOW_SPEED_BYTES_PER_S,
                                 .low_speed_s = LOW_SPEED_S + copy_s,
                                 .response_max_bytes = c->expects,
                                 .fresh = c->once,
                                 .prepare = call_sign,
                                 .prepare_ctx = c,
                                 .hedge_after_ns = c->read ? s3_hedge_after_ns(&s->hedge, c->expects) : 0,
                                 .hedge_allowed = hedge_allowed,
                                 .hedge_ctx = s};
}

/* --- Judging. */

static bool code_is(const struct s3_call *c, const char *code) {
    return strcmp(c->error.code, code) == 0;
}

/* The keys are no good (any more). */
static bool keys_refused(const struct s3_call *c) {
    return code_is(c, "ExpiredToken") || code_is(c, "InvalidToken") || code_is(c, "TokenRefreshRequired") ||
           code_is(c, "InvalidAccessKeyId") || code_is(c, "ExpiredTokenException");
}

enum err s3_call_copy_refused(const struct s3_call *c, enum err otherwise) {
    static const struct {
        const char *code;
        enum err e;
    } known[] = {
        {"NoSuchKey", ERR_NOT_FOUND},        {"InvalidRange", ERR_TRUNCATED},     {"InvalidArgument", ERR_TRUNCATED},
        {"InvalidRequest", ERR_UNSUPPORTED}, {"NotImplemented", ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (code_is(c, known[i].code)) return known[i].e;
    }
    return otherwise;
}

static enum err judge_status(struct s3_call *c, enum s3_outcome *outcome) {
    unsigned status = c->response.status;
    enum err open = c->changes ? ERR_UNKNOWN_OUTCOME : ERR_UNAVAILABLE;
    *outcome = S3_ANSWERED;
    if (status >= 200 && status < 300) {
        /* Every S3 names the object's contents when it has stored or sends them. A page of somebody in between (of a
         * proxy, a gateway, a hotel) does not, and must not read as "stored". */
        bool contents = c->key[0] && c->copies == 0 && (c->method == HTTP_PUT || c->method == HTTP_GET);
        if (!contents || http_response_header(&c->response, "ETag")) return OK;
        *outcome = S3_FAILED;
        c->worth_repeating = true;
        return open;
    }
    struct slice body = c->response.body;
    c->is_s3 = s3_xml_error(c->s3->base.env->mem, body.data, body.size, &c->error) == OK;
    if (status == 404 && code_is(c, "NoSuchKey")) return ERR_NOT_FOUND;
    if (status == 412 && c->create) return ERR_EXISTS;
    if (status == 416 && c->read) return ERR_TRUNCATED;
    if (status >= 500 || status == 429 || status == 409) {
        *outcome = status == 503 || status == 429 || status == 409 ? S3_BUSY : S3_FAILED;
        /* A server without the condition says so; everything else may be different the next time. */
        if (status == 501 && (c->create || c->optional) && code_is(c, "NotImplemented")) return ERR_UNSUPPORTED;
        c->worth_repeating = status != 501;
        return open;
    }
    *outcome = S3_REFUSED;
    if (status < 300) { /* an interim answer as the last one */
        *outcome = S3_FAILED;
        return open;
    }
    if (status == 400 && (code_is(c, "RequestTimeout") || code_is(c, "BadDigest") ||
                          code_is(c, "XAmzContentChecksumMismatch") || code_is(c, "IncompleteBody")))
        c->worth_repeating = true;
    if (c->copies > 0 && s3_call_copy_refused(c, OK) != OK) return s3_call_copy_refused(c, OK);
    if (code_is(c, "EntityTooLarge")) return ERR_TOO_LARGE;
    if (code_is(c, "KeyTooLongError")) return ERR_INVALID;
    /* Keys, permissions, clocks and buckets are mended while a broker runs; until then it is as if the store were away.
     * Somebody in between (a proxy) may have sent the request on all the same. */
    return c->is_s3 ? ERR_UNAVAILABLE : open;
}

static enum err judge_failure(struct s3_call *c, enum err e, enum s3_outcome *outcome) {
    (void)snprintf(c->why, sizeof(c->why), "%s", c->response.why);
    switch (e) {
    case ERR_UNAVAILABLE:
        *outcome = S3_UNREACHABLE;
        c->worth_repeating = true;
        return e;
    case ERR_TIMEOUT:
        *outcome = S3_TIMED_OUT;
        c->worth_repeating = true;
        return e;
    case ERR_UNKNOWN_OUTCOME:
        *outcome = S3_CUT;
        c->worth_repeating = true;
        return c->changes ? e : ERR_UNAVAILABLE;
    case ERR_TOO_LARGE:
        *outcome = S3_FAILED;
        return c->changes ? ERR_UNKNOWN_OUTCOME : ERR_UNAVAILABLE;
    default:
        *outcome = S3_UNREACHABLE;
        return e;
    }
}

void s3_call_log(const struct s3_call *c, enum err e) {
    static const char *const names[] = {"put", "create", "get", "list", "delete", "multipart", "abort"};
    struct s3 *s = c->s3;
    struct env *env = s->base.env;
    int64_t now = env_wall_ms(env), last = atomic_load(&s->logged_ms);
    if (c->quiet || (last != 0 && now >= last && now - last < LOG_EVERY_MS)) return;
    if (!atomic_compare_exchange_strong(&s->logged_ms, &last, now ? now : 1)) return;
    char why[600];
    log_warn(env->log, "s3 request failed", "op=%s error=%s status=%u code=%s why=%s endpoint=%s bucket=%s",
             names[c->op], err_name(e), c->response.status, c->error.code[0] ? c->error.code : "none",
             log_quote(why, sizeof(why), c->why, strlen(c->why)), s->address.endpoint, s->address.bucket);
}

static void account(struct s3_call *c, enum s3_outcome outcome, uint64_t took_ns) {
    struct env *env = c->s3->base.env;
    const struct http_response *r = &c->response;
    metric_add(env->metrics, M_S3_REQUESTS, (unsigned)c->op * S3_OUTCOMES + (unsigned)outcome, r->hedged ? 2 : 1);
    if (r->connections) metric_add(env->metrics, M_S3_CONNECTIONS, 0, r->connections);
    if (r->hedged) metric_add(env->metrics, M_S3_HEDGES, 0, 1);
    if (r->hedge_won) metric_add(env->metrics, M_S3_HEDGES_WON, 0, 1);
    if (r->first_byte_ns) metric_observe_ns(env->metrics, env->mem, M_S3_FIRST_BYTE, 0, r->first_byte_ns);
    if (c->read && outcome == S3_ANSWERED) s3_hedge_observe(&c->s3->hedge, c->expects, took_ns);
}

static enum err send_with_keys(struct s3_call *c) {
    struct s3 *s = c->s3;
    struct env *env = s->base.env;
    enum s3_outcome outcome = S3_UNREACHABLE;
    answer_drop(c);
    enum err e = s3_credentials_get(s->credentials, &c->keys, c->why, sizeof(c->why));
    if (e != OK) {
        account(c, S3_UNREACHABLE, 0);
        /* Nothing was sent. While it runs, whatever is wrong with the keys may be mended. */
        c->worth_repeating = e == ERR_UNAVAILABLE;
        return e == ERR_CANCELLED ? e : ERR_UNAVAILABLE;
    }
    url_make(c);
    headers_make(c);
    struct http_request r = request_make(c);
    uint64_t began_ns = env_now_ns(env);
    e = http_exchange(s->http, &r, &c->response);
    e = e == OK ? judge_status(c, &outcome) : judge_failure(c, e, &outcome);
    account(c, outcome, env_now_ns(env) - began_ns);
    return e;
}

enum err s3_call_send_once(struct s3_call *c) {
    enum err e = send_with_keys(c);
    if (e == ERR_UNAVAILABLE && keys_refused(c)) {
        /* Nothing was done; there may be newer keys already. */
        s3_credentials_refused(c->s3->credentials, &c->keys);
        e = send_with_keys(c);
    }
    s3_credentials_wipe(&c->keys);
    if (e != OK && e != ERR_NOT_FOUND && e != ERR_EXISTS && e != ERR_TRUNCATED && e != ERR_CANCELLED &&
        !(e == ERR_UNSUPPORTED && c->optional))
        s3_call_log(c, e);
    return e;
}

enum err s3_call_send(struct s3_call *c) {
    struct s3 *s = c->s3;
    for (unsigned attempt = 1;; attempt++) {
        enum err e = s3_call_send_once(c);
        c->doubtful |= c->changes && (e == ERR_UNKNOWN_OUTCOME || e == ERR_TIMEOUT);
        if (e == OK || !c->worth_repeating || attempt >= s->attempts || atomic_load(&s->closing)) return e;
        bool busy = c->response.status == 503 || c->response.status == 429;
        metric_add(s->base.env->metrics, M_S3_RETRIES, 0, 1);
        env_backoff(s->base.env, attempt, busy ? BACKOFF_BUSY_NS : BACKOFF_BASE_NS, BACKOFF_CAP_NS);
    }
}
