/* Any answers of an HTTP server, to an S3 store that is opened and used: list, get, create, put, delete. The server is
 * this file's http_exchange; what it answers is the input: a byte (how the exchange ended), u16 status, u16 size and
 * header lines, u16 size and body. Nothing waits, for nothing is repeated.
 * A get brings no more than it asked for; a list is in order, below its prefix, and behind where it was to begin; a
 * create is known to have failed, or to have lost, only when the server said so; what a failed open says can be
 * printed. */
#include <stdio.h>
#include <strings.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "feed.h"
#include "store/s3_priv.h"

struct http_client {
    struct env *env;
    struct feed *feed;
    unsigned exchanges;
    unsigned last_status;
    bool answered;
};
struct s3_credentials_source {
    int nothing;
};

/* Made from the input: an answer that holds it, so that it would be repeated rightly, cannot be made up. */
static char the_secret[32];
static struct feed *the_feed; /* of the input at hand: http_client_create gets no context */

/* --- The server. */

enum err http_client_create(const struct http_options *o, struct http_client **out, const char **why) {
    (void)why;
    *out = MEM_NEW(o->env->mem, struct http_client);
    (*out)->env = o->env;
    (*out)->feed = the_feed;
    return OK;
}
void http_client_stop(struct http_client *c) {
    (void)c;
}
void http_client_close(struct http_client *c) {
    mem_free(c->env->mem, c);
}

/* "name: value" lines to the form that http.c makes. */
static char *headers_make(struct mem *m, const uint8_t *text, size_t size) {
    struct buf out;
    buf_init(&out, m);
    const uint8_t *end = text + size;
    while (text < end) {
        const uint8_t *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        const uint8_t *colon = memchr(text, ':', (size_t)(stop - text));
        if (colon && colon > text && !memchr(text, 0, (size_t)(stop - text))) {
            buf_put(&out, text, (size_t)(colon - text));
            buf_u8(&out, 0);
            buf_put(&out, colon + 1, (size_t)(stop - colon - 1));
            buf_u8(&out, 0);
        }
        text = stop < end ? stop + 1 : end;
    }
    buf_u8(&out, 0);
    return (char *)out.data;
}

static void request_check(const struct http_request *r) {
    ASSERT(r->header_count <= HTTP_HEADERS_MAX && strncmp(r->url, "http", 4) == 0);
    for (const char *c = r->url; *c; c++) ASSERT(*c > ' ' && *c < 0x7f);
    for (size_t i = 0; i < r->header_count; i++) {
        for (const char *c = r->headers[i].value; *c; c++) ASSERT(*c >= ' ' && *c < 0x7f);
    }
}

enum err http_exchange(struct http_client *c, const struct http_request *r, struct http_response *out) {
    struct mem *m = c->env->mem;
    struct feed *f = c->feed;
    *out = (struct http_response){.mem = m};
    c->exchanges++;
    c->answered = false;
    if (r->prepare) {
        enum err prepared = r->prepare(r->prepare_ctx);
        ASSERT(prepared == OK);
    }
    request_check(r);
    if (feed_left(f) == 0) return ERR_UNAVAILABLE;
    static const enum err ends[] = {OK, ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_UNKNOWN_OUTCOME, ERR_TOO_LARGE};
    uint8_t end = feed_u8(f);
    if (end % 8 < ARRAY_LEN(ends) && ends[end % 8] != OK) {
        (void)snprintf(out->why, sizeof(out->why), "certificate %u", end);
        return ends[end % 8];
    }
    c->answered = true;
    out->status = c->last_status = feed_u16(f) % 1000;
    size_t size;
    const uint8_t *bytes = feed_piece(f, &size);
    out->headers = headers_make(m, bytes, size);
    bytes = feed_piece(f, &size);
    size_t limit = r->response_max_bytes > 65536 ? r->response_max_bytes : 65536;
    if (size > limit) size = limit;
    if (size > 0) {
        struct slab *slab = slab_create(m, size, 16);
        memcpy(slab->data, bytes, size);
        out->body = slice_of(slab, 0, size);
        slab_unref(slab);
    }
    return OK;
}
const char *http_response_header(const struct http_response *r, const char *name) {
    for (const char *h = r->headers; h && *h;) {
        const char *value = h + strlen(h) + 1;
        if (strcasecmp(h, name) == 0) return value;
        h = value + strlen(value) + 1;
    }
    return NULL;
}
void http_response_deinit(struct http_response *r) {
    slice_unref(&r->body);
    if (r->headers) mem_free(r->mem, r->headers);
    r->headers = NULL;
}

/* --- Keys that are always there. */

static struct s3_credentials_source source;

struct s3_credentials_source *s3_credentials_open(struct env *env, struct http_client *http,
                                                  const struct s3_credentials_options *o, const char *region) {
    (void)env, (void)http, (void)o, (void)region;
    return &source;
}
void s3_credentials_close(struct s3_credentials_source *s) {
    (void)s;
}
enum err s3_credentials_get(struct s3_credentials_source *s, struct s3_credentials *out, char *why, size_t why_size) {
    (void)s, (void)why, (void)why_size;
    *out = (struct s3_credentials){.access_key = "AKIAFUZZ", .secret = the_secret, .expires_ms = INT64_MAX};
    return OK;
}
void s3_credentials_refused(struct s3_credentials_source *s, const struct s3_credentials *c) {
    (void)s, (void)c;
}
const char *s3_credentials_origin(const struct s3_credentials_source *s) {
    (void)s;
    return "environment";
}
void s3_credentials_wipe(struct s3_credentials *c) {
    *c = (struct s3_credentials){.expires_ms = 0};
}

/* --- A world in which time passes when it is asked for, and nothing else happens. */

struct world {
    struct env env;
    uint64_t now;
};

static uint64_t now_ns(struct env *e) {
    struct world *w = CONTAINER_OF(e, struct world, env);
    return w->now += NS_PER_S;
}
static int64_t wall_ms(struct env *e) {
    (void)e;
    return 1700000000000;
}
static void fill_random(struct env *e, void *out, size_t n) {
    (void)e;
    memset(out, 7, n);
}

/* --- What a broker asks of its store. */

static struct http_client *client_of(struct store *s) {
    return s3_of(s)->http;
}

static void list(struct store *s, const char *prefix, const char *after) {
    struct store_listing l;
    enum err e = store_list(s, prefix, after, 5, STORE_FOR_OTHER, &l);
    ASSERT(e == OK || e == ERR_UNAVAILABLE || e == ERR_TIMEOUT);
    if (e != OK) ASSERT(l.count == 0);
    for (size_t i = 0; i < l.count; i++) {
        const char *before = i > 0 ? l.items[i - 1].key : after;
        ASSERT(strncmp(l.items[i].key, prefix, strlen(prefix)) == 0);
        ASSERT(!before || strcmp(before, l.items[i].key) < 0);
    }
    store_listing_deinit(&l);
}

static void get(struct store *s, uint64_t position, size_t size) {
    struct slice out;
    enum err e = store_get(s, "gen/data/1/2", position, size, STORE_FOR_READ, &out);
    const struct http_client *c = client_of(s);
    if (e == OK || e == ERR_NOT_FOUND) ASSERT(c->answered);
    if (e == ERR_NOT_FOUND) ASSERT(c->last_status == 404);
    unsigned sum = 0;
    for (size_t i = 0; i < out.size; i++) sum += out.data[i];
    ASSERT(out.size <= size && sum <= 255 * out.size);
    slice_unref(&out);
}

static void put(struct store *s, bool create) {
    struct slice body[2] = {slice_borrow("abc", 3), slice_borrow("defg", 4)};
    enum err e = store_put(s, "gen/ledger/1/2", body, 2, create, STORE_FOR_LEDGER);
    const struct http_client *c = client_of(s);
    if (e == OK) ASSERT(c->answered && c->last_status / 100 == 2);
    if (e == ERR_EXISTS) ASSERT(create && c->answered && c->last_status == 412);
    ASSERT(e != ERR_NOT_FOUND);
    /* Whoever answers with a 5xx may have done it. */
    if (c->answered && c->last_status >= 500)
        ASSERT(e == ERR_UNKNOWN_OUTCOME || (create && e == ERR_UNSUPPORTED && c->last_status == 501));
}

static void use(struct store *s, struct feed *f) {
    static const char *const keys[] = {"gen/data/1/1", "gen/data/1/2", "gen/data/1/3"};
    for (unsigned i = 0; i < 8 && feed_left(f) > 0; i++) {
        uint8_t what = feed_u8(f);
        switch (what % 7) {
        case 0:
            list(s, what & 8 ? "gen/" : "", NULL);
            break;
        case 1:
            list(s, "gen/cluster/", "gen/cluster/0001");
            break;
        case 2:
            get(s, what >> 4, 16);
            break;
        case 3:
            get(s, what & 16 ? UINT64_MAX - 3 : 0, what & 8 ? SIZE_MAX / 2 : 0);
            break;
        case 4:
            put(s, true);
            break;
        case 5:
            put(s, false);
            break;
        default:
            (void)!store_delete(s, keys, 1 + what / 7 % 3, STORE_FOR_OTHER);
            break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    (void)snprintf(the_secret, sizeof(the_secret), "hush-%08x-%08x", crc32c(0, data, size), crc32c(1, data, size));
    struct mem m;
    mem_init_heap(&m);
    struct metrics *metrics = MEM_NEW(&m, struct metrics);
    struct logger log = {.level = LOG_NONE};
    static const struct env_ops ops = {.now_ns = now_ns, .wall_ms = wall_ms, .random = fill_random};
    struct world w = {.env = {.magic = ENV_MAGIC, .ops = &ops, .mem = &m, .log = &log, .metrics = metrics}};
    struct feed f = feed_of(data, size);
    uint8_t flags = feed_u8(&f);
    the_feed = &f;
    struct s3_options o = {.env = &w.env,
                           .bucket = "bucket",
                           .prefix = flags & 1 ? "some/prefix" : "",
                           .endpoint = flags & 2 ? "http://127.0.0.1:9000" : NULL,
                           .marker_key = flags & 4 ? "oxbow.cluster" : NULL,
                           .patience_ns = 1,
                           .attempts = 1};
    struct store *s;
    char why[S3_WHY_SIZE];
    enum err e = store_s3_open(&o, &s, why);
    if (e == OK) {
        use(s, &f);
        store_close(s);
    } else {
        ASSERT(why[0] && strlen(why) < S3_WHY_SIZE && !strstr(why, the_secret));
    }
    metrics_deinit(metrics, &m);
    mem_free(&m, metrics);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
