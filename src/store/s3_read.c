/* Reading from S3: an object's bytes by range, and lists of keys. Answers are checked against what was asked. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/s3_priv.h"

#define WHOLE_FROM ((uint64_t)1 << 43) /* no object is larger: a range that long has no end */
#define PAGES_MAX 1000u                /* of one call */

/* --- GET. */

/* "bytes 0-9/10"; an asterisk may stand for the size (*whole is UINT64_MAX then). */
static bool content_range(const char *text, uint64_t *first, uint64_t *last, uint64_t *whole) {
    int used = 0;
    if (!text || sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%n", first, last, &used) != 2 || used == 0) return false;
    if (sscanf(text + used, "%" SCNu64, whole) != 1) *whole = UINT64_MAX;
    return true;
}

/* OK: the answer's body is what was asked for; moved to *out. */
static enum err range_take(struct s3_call *c, uint64_t position, size_t size, struct slice *out) {
    struct http_response *r = &c->response;
    uint64_t first, last, whole, end = position > UINT64_MAX - size ? UINT64_MAX : position + size;
    if (r->status == 206) {
        if (!content_range(http_response_header(r, "Content-Range"), &first, &last, &whole)) return ERR_PROTOCOL;
        if (first != position || last < first || last >= end || last - first + 1 != r->body.size) return ERR_PROTOCOL;
        /* Less than was asked for means that the object ends there, to whoever asked. */
        if (last + 1 < end && whole != UINT64_MAX && last + 1 != whole) return ERR_PROTOCOL;
        *out = r->body;
        r->body = (struct slice){0};
        return OK;
    }
    /* A server that does not know ranges sends the whole object. */
    if (r->status != 200) return ERR_PROTOCOL;
    if (position >= r->body.size) return OK;
    size_t n = r->body.size - (size_t)position;
    *out = slice_sub(r->body, (size_t)position, n < size ? n : size);
    return OK;
}

static enum err get(struct s3 *s, const char *key, uint64_t position, size_t size, struct slice *out) {
    struct s3_call *c = s3_call_new(s, S3_OP_GET, HTTP_GET, key);
    /* There is no range of no bytes: one byte tells whether the object is there. */
    size_t asked = size > 0 ? size : 1;
    char range[64];
    if (asked >= WHOLE_FROM || position > UINT64_MAX - asked) {
        (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-", position);
    } else {
        (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, position, position + asked - 1);
    }
    s3_call_header(c, "Range", range);
    c->read = true;
    c->expects = asked;
    enum err e = OK;
    for (unsigned attempt = 1;; attempt++) {
        e = s3_call_send(c);
        if (e == OK) e = range_take(c, position, asked, out);
        if (e != ERR_PROTOCOL || attempt >= s->attempts || atomic_load(&s->closing)) break;
        env_backoff(s->base.env, attempt, 50 * NS_PER_MS, NS_PER_S);
    }
    if (e == ERR_PROTOCOL) {
        (void)snprintf(c->why, sizeof(c->why), "the answer is not the range that was asked for");
        s3_call_log(c, e);
        e = ERR_UNAVAILABLE;
    }
    if (e == ERR_TRUNCATED) e = OK; /* the object is there, and ends before */
    if (e == OK && size == 0) slice_unref(out);
    s3_call_free(c);
    return e;
}

enum err s3_get(struct store *base, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                struct slice *out) {
    (void)purpose;
    struct s3 *s = s3_of(base);
    enum err e = s3_enter(s);
    if (e != OK) return e;
    /* No object reaches so far, and some servers do not take such numbers. */
    if (position >= WHOLE_FROM) {
        position = WHOLE_FROM;
        size = 0;
    }
    e = get(s, key, position, size, out);
    s3_leave(s);
    return e;
}

/* --- LIST. */

struct listing {
    struct s3 *s3;
    const char *prefix;      /* with the store's in front */
    const char *start_after; /* likewise, or NULL */
    char *token;
    bool more;
};

/* What the callers rely on: keys ascend, begin with the prefix, and lie behind start_after. */
static bool in_order(const struct store_listing *out, size_t from, const char *prefix, const char *start_after) {
    const char *before = from > 0 ? out->items[from - 1].key : start_after;
    for (size_t i = from; i < out->count; i++) {
        const char *key = out->items[i].key;
        if (strncmp(key, prefix, strlen(prefix)) != 0 || (before && strcmp(before, key) >= 0)) return false;
        before = key;
    }
    return true;
}

static void listing_cut(struct store_listing *l, size_t count) {
    while (l->count > count) mem_free(l->mem, l->items[--l->count].key);
}

static enum err page_get(struct listing *l, size_t max, struct store_listing *out) {
    struct s3 *s = l->s3;
    char count[24];
    (void)snprintf(count, sizeof(count), "%zu", max < STORE_LIST_PAGE ? max : STORE_LIST_PAGE);
    struct s3_call *c = s3_call_new(s, S3_OP_LIST, HTTP_GET, "");
    s3_call_query(c, "list-type", "2");
    s3_call_query(c, "encoding-type", "url");
    s3_call_query(c, "max-keys", count);
    if (l->prefix[0]) s3_call_query(c, "prefix", l->prefix);
    if (l->token) {
        s3_call_query(c, "continuation-token", l->token);
    } else if (l->start_after) {
        s3_call_query(c, "start-after", l->start_after);
    }
    c->expects = (size_t)16 << 20;
    enum err e = s3_call_send(c);
    if (e == OK) {
        struct s3_xml_page page;
        struct slice body = c->response.body;
        e = s3_xml_list(s->base.env->mem, body.data, body.size, s->address.prefix, out, &page);
        if (e == OK) {
            mem_free(s->base.env->mem, l->token);
            l->token = page.token;
            l->more = page.truncated;
        } else {
            (void)snprintf(c->why, sizeof(c->why), "the answer is no list");
            s3_call_log(c, e);
            e = ERR_UNAVAILABLE;
        }
    }
    if (e == ERR_NOT_FOUND || e == ERR_TRUNCATED) e = ERR_UNAVAILABLE; /* no answers to this question */
    s3_call_free(c);
    return e;
}

static enum err pages_get(struct listing *l, const char *prefix, const char *start_after, size_t max,
                          struct store_listing *out) {
    struct s3 *s = l->s3;
    enum err e = OK;
    for (unsigned pages = 1; pages <= PAGES_MAX; pages++) {
        size_t from = out->count;
        e = page_get(l, max - from, out);
        if (e == OK && (out->count > max || !in_order(out, from, prefix, start_after))) {
            log_error(s->base.env->log, "s3 lists keys that were not asked for, or in another order than that of bytes",
                      "endpoint=%s bucket=%s", s->address.endpoint, s->address.bucket);
            e = ERR_UNAVAILABLE;
        }
        if (e != OK) break;
        out->more = l->more;
        /* A page may be empty, or short, and not the last. */
        if (!l->more || out->count == max || !l->token) break;
    }
    if (e == OK && out->more && out->count == 0) e = ERR_UNAVAILABLE; /* it does not say how to go on */
    if (e != OK) {
        listing_cut(out, 0);
        out->more = false;
    }
    return e;
}

enum err s3_list(struct store *base, const char *prefix, const char *start_after, size_t max,
                 struct store_listing *out) {
    struct s3 *s = s3_of(base);
    struct mem *m = base->env->mem;
    enum err e = s3_enter(s);
    if (e != OK) return e;
    struct listing l = {.s3 = s};
    char *whole = mem_printf(m, "%s%s", s->address.prefix, prefix);
    char *after = start_after ? mem_printf(m, "%s%s", s->address.prefix, start_after) : NULL;
    l.prefix = whole;
    l.start_after = after;
    e = pages_get(&l, prefix, start_after, max, out);
    mem_free(m, l.token);
    mem_free(m, whole);
    mem_free(m, after);
    s3_leave(s);
    return e;
}
