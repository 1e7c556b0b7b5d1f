/* AWS Signature Version 4 (see s3_sign.h). What is signed, in four steps:
 *
 *   canonical request   method, path, query, headers (lower-case, sorted, blanks trimmed), their names, payload hash;
 *                       each on a line of its own, an empty line between the headers and their names
 *   string to sign      "AWS4-HMAC-SHA256", date and time, scope (day/region/service/aws4_request), hash of the above
 *   signing key         HMAC chain: "AWS4" + secret over day, region, service, "aws4_request"
 *   signature           HMAC of the string under that key, in hexadecimal
 *
 * The signing key changes once a day; it is kept, with a hash of the secret it was made from, so that a request costs
 * one hash and one HMAC over a few hundred bytes. */
#include "store/s3_sign.h"

#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/assert.h"

#define HASH_BYTES 32
#define MS_PER_DAY 86400000

static void hex_lower(const uint8_t *bytes, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

/* Both are pure computations; they fail only where OpenSSL itself is broken, and then no request can be made at all. */
static void sha256(const void *data, size_t size, uint8_t out[HASH_BYTES]) {
    unsigned n = 0;
    ASSERT(EVP_Digest(data, size, out, &n, EVP_sha256(), NULL) == 1 && n == HASH_BYTES);
}
static void hmac(const void *key, size_t key_size, const void *data, size_t size, uint8_t out[HASH_BYTES]) {
    unsigned n = 0;
    ASSERT(HMAC(EVP_sha256(), key, (int)key_size, data, size, out, &n) != NULL && n == HASH_BYTES);
}

void s3_sign_hash(const struct slice *data, size_t count, char out[S3_SIGN_HASH_SIZE]) {
    uint8_t hash[HASH_BYTES];
    unsigned n = 0;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    ASSERT(c != NULL && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1);
    for (size_t i = 0; i < count; i++) ASSERT(EVP_DigestUpdate(c, data[i].data, data[i].size) == 1);
    ASSERT(EVP_DigestFinal_ex(c, hash, &n) == 1 && n == HASH_BYTES);
    EVP_MD_CTX_free(c);
    hex_lower(hash, HASH_BYTES, out);
}

/* --- Encoding. */

static bool is_plain(unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

static void put_encoded(struct buf *out, const char *s, bool slash_plain) {
    static const char digits[] = "0123456789ABCDEF";
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (is_plain(c) || (slash_plain && c == '/')) {
            buf_u8(out, c);
        } else {
            buf_u8(out, '%');
            buf_u8(out, (uint8_t)digits[c >> 4]);
            buf_u8(out, (uint8_t)digits[c & 15]);
        }
    }
}

void s3_sign_path(struct buf *out, const char *key) {
    buf_u8(out, '/');
    put_encoded(out, key, true);
}

/* A parameter, encoded, as a piece of a scratch buffer: its name ends at `value`, which begins behind the '='. */
struct encoded {
    size_t at, value, end;
};

static int encoded_compare(const uint8_t *text, const struct encoded *a, const struct encoded *b) {
    size_t an = a->value - 1 - a->at, bn = b->value - 1 - b->at;
    int c = memcmp(text + a->at, text + b->at, an < bn ? an : bn);
    if (c == 0 && an != bn) return an < bn ? -1 : 1;
    if (c != 0) return c;
    size_t av = a->end - a->value, bv = b->end - b->value;
    c = memcmp(text + a->value, text + b->value, av < bv ? av : bv);
    if (c != 0 || av == bv) return c;
    return av < bv ? -1 : 1;
}

void s3_sign_query(struct buf *out, const struct s3_sign_pair *pairs, size_t count) {
    ASSERT(count <= S3_SIGN_QUERY_MAX);
    struct buf text;
    struct encoded e[S3_SIGN_QUERY_MAX];
    size_t most = 0;
    for (size_t i = 0; i < count; i++) most += 3 * (strlen(pairs[i].name) + strlen(pairs[i].value)) + 1;
    /* All the room at once, and wiped: a web identity's token is such a value. */
    buf_init(&text, out->mem);
    buf_reserve(&text, most + 1);
    for (size_t i = 0; i < count; i++) {
        struct encoded one = {.at = text.size};
        put_encoded(&text, pairs[i].name, false);
        buf_u8(&text, '=');
        one.value = text.size;
        put_encoded(&text, pairs[i].value, false);
        one.end = text.size;
        /* Insertion keeps them sorted: by bytes of the encoded name, then of the encoded value. */
        size_t j = i;
        for (; j > 0 && encoded_compare(text.data, &one, &e[j - 1]) < 0; j--) e[j] = e[j - 1];
        e[j] = one;
    }
    for (size_t i = 0; i < count; i++) {
        if (i) buf_u8(out, '&');
        buf_put(out, text.data + e[i].at, e[i].end - e[i].at);
    }
    OPENSSL_cleanse(text.data, text.capacity);
    buf_deinit(&text);
}

/* --- The canonical request. */

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static int name_compare(const char *a, const char *b) {
    for (; *a && lower(*a) == lower(*b); a++, b++) {
    }
    return (unsigned char)lower(*a) - (unsigned char)lower(*b);
}

static void put_name(struct buf *out, const char *name) {
    for (; *name; name++) buf_u8(out, (uint8_t)lower(*name));
}

/* Without blanks at either end, and one for several within. */
static void put_value(struct buf *out, const char *value) {
    bool blank = false, begun = false;
    for (; *value; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = true;
            continue;
        }
        if (blank && begun) buf_u8(out, ' ');
        blank = false;
        begun = true;
        buf_u8(out, (uint8_t)*value);
    }
}

/* "20130524T000000Z" in UTC. Days to a date after Howard Hinnant's civil_from_days; years 1970 to 9999. */
static void date_write(int64_t wall_ms, char out[S3_SIGN_DATE_SIZE]) {
    if (wall_ms < 0) wall_ms = 0;
    if (wall_ms > 253402300799999) wall_ms = 253402300799999;
    unsigned seconds = (unsigned)(wall_ms % MS_PER_DAY / 1000);
    unsigned days = (unsigned)(wall_ms / MS_PER_DAY) + 719468; /* since 0000-03-01 */
    unsigned era = days / 146097, doe = days % 146097;
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    unsigned year = yoe + era * 400 + (month <= 2);
    char text[64]; /* so that the compiler sees no number too long */
    (void)snprintf(text, sizeof(text), "%04u%02u%02uT%02u%02u%02uZ", year, month, day, seconds / 3600,
                   seconds / 60 % 60, seconds % 60);
    memcpy(out, text, S3_SIGN_DATE_SIZE - 1);
    out[S3_SIGN_DATE_SIZE - 1] = '\0';
}

/* All headers that are signed, sorted. `date` must outlive the list. */
struct signed_headers {
    struct s3_sign_pair items[S3_SIGN_HEADERS_MAX];
    size_t count;
};

static void headers_add(struct signed_headers *h, const char *name, const char *value) {
    size_t i = h->count++;
    for (; i > 0 && name_compare(name, h->items[i - 1].name) < 0; i--) h->items[i] = h->items[i - 1];
    h->items[i] = (struct s3_sign_pair){name, value};
}

static enum err headers_collect(const struct s3_sign_keys *keys, const struct s3_sign_request *r, const char *date,
                                struct signed_headers *h) {
    h->count = 0;
    if (r->header_count > S3_SIGN_HEADERS_MAX - 4) return ERR_INVALID;
    headers_add(h, "host", r->host);
    headers_add(h, "x-amz-content-sha256", r->payload_hash);
    headers_add(h, "x-amz-date", date);
    if (keys->token && keys->token[0]) headers_add(h, "x-amz-security-token", keys->token);
    for (size_t i = 0; i < r->header_count; i++) headers_add(h, r->headers[i].name, r->headers[i].value);
    for (size_t i = 1; i < h->count; i++) {
        if (name_compare(h->items[i - 1].name, h->items[i].name) == 0) return ERR_INVALID;
    }
    return OK;
}

static void put_names(struct buf *out, const struct signed_headers *h) {
    for (size_t i = 0; i < h->count; i++) {
        if (i) buf_u8(out, ';');
        put_name(out, h->items[i].name);
    }
}

static void put_canonical(struct buf *out, const struct s3_sign_request *r, const struct signed_headers *h) {
    ASSERT(r->path[0] == '/');
    buf_printf(out, "%s\n%s\n%s\n", r->method, r->path, r->query ? r->query : "");
    for (size_t i = 0; i < h->count; i++) {
        put_name(out, h->items[i].name);
        buf_u8(out, ':');
        put_value(out, h->items[i].value);
        buf_u8(out, '\n');
    }
    buf_u8(out, '\n');
    put_names(out, h);
    buf_printf(out, "\n%s", r->payload_hash);
}

enum err s3_sign_canonical_request(const struct s3_sign_keys *keys, const struct s3_sign_request *r, struct buf *out) {
    char date[S3_SIGN_DATE_SIZE];
    struct signed_headers h;
    date_write(r->wall_ms, date);
    enum err e = headers_collect(keys, r, date, &h);
    if (e == OK) put_canonical(out, r, &h);
    return e;
}

void s3_sign_string_to_sign(const struct s3_signer *s, const struct s3_sign_request *r, const void *canonical,
                            size_t canonical_size, struct buf *out) {
    CHECK_OBJ(s, S3_SIGNER_MAGIC);
    char date[S3_SIGN_DATE_SIZE], hex[S3_SIGN_HASH_SIZE];
    uint8_t hash[HASH_BYTES];
    date_write(r->wall_ms, date);
    sha256(canonical, canonical_size, hash);
    hex_lower(hash, HASH_BYTES, hex);
    buf_printf(out, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", date, date, s->region, s->service, hex);
}

/* --- The signer. */

void s3_signer_init(struct s3_signer *s, struct mem *mem, const char *region, const char *service) {
    memset(s, 0, sizeof(*s));
    INIT_OBJ(s, S3_SIGNER_MAGIC);
    s->mem = mem;
    (void)snprintf(s->region, sizeof(s->region), "%.63s", region);
    (void)snprintf(s->service, sizeof(s->service), "%.15s", service);
}

void s3_signer_deinit(struct s3_signer *s) {
    CHECK_OBJ(s, S3_SIGNER_MAGIC);
    OPENSSL_cleanse(s, sizeof(*s));
}

/* Makes the signing key of that day and secret unless it is there. */
static void signer_key(struct s3_signer *s, const char *secret, const char *date) {
    uint8_t secret_hash[HASH_BYTES], k[HASH_BYTES];
    size_t n = strlen(secret);
    sha256(secret, n, secret_hash);
    if (memcmp(s->day, date, 8) == 0 && CRYPTO_memcmp(s->secret_hash, secret_hash, HASH_BYTES) == 0) return;
    char first[4 + 512];
    ASSERT(n <= sizeof(first) - 4);
    memcpy(first, "AWS4", 4);
    memcpy(first + 4, secret, n);
    hmac(first, 4 + n, date, 8, k);
    hmac(k, HASH_BYTES, s->region, strlen(s->region), k);
    hmac(k, HASH_BYTES, s->service, strlen(s->service), k);
    hmac(k, HASH_BYTES, "aws4_request", 12, s->key);
    memcpy(s->secret_hash, secret_hash, HASH_BYTES);
    memcpy(s->day, date, 8);
    s->day[8] = '\0';
    OPENSSL_cleanse(first, sizeof(first));
    OPENSSL_cleanse(k, sizeof(k));
}

enum err s3_sign(struct s3_signer *s, const struct s3_sign_keys *keys, const struct s3_sign_request *r,
                 struct s3_signature *out) {
    CHECK_OBJ(s, S3_SIGNER_MAGIC);
    if (strlen(keys->secret) > 512) return ERR_INVALID;
    struct signed_headers h;
    struct buf canonical, text, names;
    uint8_t signature[HASH_BYTES];
    char hex[S3_SIGN_HASH_SIZE];
    date_write(r->wall_ms, out->date);
    enum err e = headers_collect(keys, r, out->date, &h);
    if (e != OK) return e;
    buf_init(&canonical, s->mem);
    buf_init(&text, s->mem);
    buf_init(&names, s->mem);
    put_canonical(&canonical, r, &h);
    s3_sign_string_to_sign(s, r, canonical.data, canonical.size, &text);
    put_names(&names, &h);
    signer_key(s, keys->secret, out->date);
    hmac(s->key, HASH_BYTES, text.data, text.size, signature);
    hex_lower(signature, HASH_BYTES, hex);
    int n =
        snprintf(out->authorization, sizeof(out->authorization),
                 "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=%.*s,Signature=%s",
                 keys->access_key, out->date, s->region, s->service, (int)names.size, (const char *)names.data, hex);
    if (n < 0 || (size_t)n >= sizeof(out->authorization)) e = ERR_INVALID;
    /* The session token, if there is one, is a header like the others. */
    OPENSSL_cleanse(canonical.data, canonical.size);
    buf_deinit(&canonical);
    buf_deinit(&text);
    buf_deinit(&names);
    return e;
}
