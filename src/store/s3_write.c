/* Writing to S3: creates, puts and deletes.
 *
 * A create is sent once: what became of it when the answer is lost is the caller's to find out (objlog/), and the
 * caller's loop is the one that repeats. A put without condition writes the same bytes again, so it is repeated here a
 * few times first. Deletes go in batches of a thousand. */
#include <stdio.h>
#include <string.h>

#include "store/s3_priv.h"

/* --- PUT. */

static enum err put_whole(struct s3 *s, const char *key, const struct slice *data, size_t count, bool create_only) {
    struct s3_call *c = s3_call_new(s, create_only ? S3_OP_CREATE : S3_OP_PUT, HTTP_PUT, key);
    c->body = data;
    c->body_count = count;
    c->checksum = c->changes = true;
    c->create = create_only;
    if (create_only) s3_call_header(c, "If-None-Match", "*");
    enum err e = create_only ? s3_call_send_once(c) : s3_call_send(c);
    if (e == ERR_NOT_FOUND || e == ERR_TRUNCATED) e = ERR_UNKNOWN_OUTCOME; /* no answers to this request */
    s3_call_free(c);
    return e;
}

enum err s3_put(struct store *base, const char *key, const struct slice *data, size_t count, bool create_only,
                enum store_purpose purpose) {
    (void)purpose;
    struct s3 *s = s3_of(base);
    if (s->read_only) return ERR_READ_ONLY;
    enum err e = s3_enter(s);
    if (e != OK) return e;
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++) size += data[i].size;
    e = !create_only && size > s->multipart_from ? s3_multipart_put(s, key, data, count, size)
                                                 : put_whole(s, key, data, count, create_only);
    s3_leave(s);
    return e;
}

/* --- DELETE.
 *
 * What a server says about one key is told from what concerns all: a key that it refuses (a policy, a lock on the object)
 * is that key's alone, and the others are deleted. Trouble of the server, which passes, is repeated here a few times. */

/* Codes of S3 that say: not this key, and not because something is wrong with the keys of access, the clock, the bucket. */
static bool refuses_key(const char *code) {
    static const char *const known[] = {"AccessDenied", "ObjectLocked", "InvalidObjectState", "InvalidRequest"};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(code, known[i]) == 0) return true;
    }
    return false;
}

/* ERR_PERMISSION: refused; whoever asked tells of that, and knows since when. */
static enum err delete_send(struct s3_call *c) {
    c->quiet = true;
    enum err e = s3_call_send(c);
    c->quiet = false;
    if (e == ERR_UNAVAILABLE && c->is_s3 && refuses_key(c->error.code)) return ERR_PERMISSION;
    if (e != OK && e != ERR_NOT_FOUND && e != ERR_CANCELLED) s3_call_log(c, e);
    return e;
}

static enum err delete_one(struct s3 *s, const char *key) {
    struct s3_call *c = s3_call_new(s, S3_OP_DELETE, HTTP_DELETE, key);
    c->changes = true;
    enum err e = delete_send(c);
    if (e == OK && c->response.body.size > 0) { /* S3 has nothing to say here */
        (void)snprintf(c->why, sizeof(c->why), "the answer to a delete is not S3's");
        s3_call_log(c, ERR_UNKNOWN_OUTCOME);
        e = ERR_UNKNOWN_OUTCOME;
    }
    s3_call_free(c);
    return e == ERR_NOT_FOUND ? OK : e;
}

/* Goes past what is refused, no further where it is the server that fails. */
static enum err delete_singly(struct s3 *s, const char *const *keys, size_t count, enum err *each) {
    for (size_t i = 0; i < count; i++) {
        each[i] = delete_one(s, keys[i]);
        if (each[i] != OK && each[i] != ERR_PERMISSION) return each[i];
    }
    return OK;
}

/* Keys have no byte that XML would want written otherwise. */
static void batch_text(struct s3 *s, const char *const *keys, size_t count, struct buf *out) {
    buf_printf(out, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) buf_printf(out, "<Object><Key>%s%s</Key></Object>", s->address.prefix, keys[i]);
    buf_printf(out, "</Delete>");
}

struct batch {
    struct s3_call *call;
    const char *const *keys;
    size_t count;
    enum err *each;
    size_t failed;
    bool passing; /* some of it: trouble of the server */
    bool strange; /* the answer names keys that were not asked for, or none */
};

static void batch_failed(void *ctx, const char *key, const char *code) {
    struct batch *b = ctx;
    struct s3_call *c = b->call;
    /* Else anything: InternalError, SlowDown, whatever a server knows. */
    enum err e = refuses_key(code) ? ERR_PERMISSION : ERR_UNKNOWN_OUTCOME;
    if (b->failed++ == 0 || (e == ERR_UNKNOWN_OUTCOME && !b->passing))
        (void)snprintf(c->error.code, sizeof(c->error.code), "%s", code);
    b->passing |= e == ERR_UNKNOWN_OUTCOME;
    size_t prefix = strlen(c->s3->address.prefix), i = 0;
    bool ours = strncmp(key, c->s3->address.prefix, prefix) == 0;
    while (i < b->count && !(ours && strcmp(b->keys[i], key + prefix) == 0)) i++;
    if (i < b->count)
        b->each[i] = e;
    else
        b->strange = true;
}

/* The answer is 200 also when keys could not be deleted. OK: each key has been judged. */
static enum err batch_judge(struct batch *b) {
    struct s3_call *c = b->call;
    struct slice body = c->response.body;
    b->failed = 0;
    b->passing = b->strange = false;
    for (size_t i = 0; i < b->count; i++) b->each[i] = OK;
    if (body.size == 0) return OK; /* nothing to report, in some servers' words */
    enum err e = s3_xml_deleted(c->s3->base.env->mem, body.data, body.size, batch_failed, b);
    if (e != OK || b->strange) {
        (void)snprintf(c->why, sizeof(c->why), "the answer to a batch of deletes cannot be read");
        s3_call_log(c, ERR_UNKNOWN_OUTCOME);
        return ERR_UNKNOWN_OUTCOME;
    }
    /* What is refused is the caller's to tell, who knows for how long already. */
    if (b->passing) {
        (void)snprintf(c->why, sizeof(c->why), "%zu keys of a batch were not deleted", b->failed);
        s3_call_log(c, ERR_UNKNOWN_OUTCOME);
    }
    return OK;
}

static enum err delete_batch(struct s3 *s, const char *const *keys, size_t count, enum err *each) {
    struct mem *m = s->base.env->mem;
    struct buf text;
    buf_init(&text, m);
    batch_text(s, keys, count, &text);
    struct slice body = slice_borrow(text.data, text.size);
    struct s3_call *c = s3_call_new(s, S3_OP_DELETE, HTTP_POST, "");
    s3_call_query(c, "delete", "");
    s3_call_header(c, "Content-Type", "application/xml");
    c->body = &body;
    c->body_count = 1;
    c->changes = c->md5 = c->checksum = true;
    c->expects = (size_t)4 << 20;
    struct batch b = {.call = c, .keys = keys, .count = count, .each = each};
    enum err e = OK;
    for (unsigned attempt = 1;; attempt++) {
        e = delete_send(c);
        if (e != OK) break;
        e = batch_judge(&b);
        if ((e == OK && !b.passing) || attempt >= s->attempts || atomic_load(&s->closing)) break;
        env_backoff(s->base.env, attempt, 50 * NS_PER_MS, NS_PER_S);
    }
    bool none = c->response.status == 501 || c->response.status == 405;
    if (none) atomic_store(&s->no_batches, true);
    /* Who may not do this to the bucket may still do it to keys; and it is told of each. */
    if (none || e == ERR_PERMISSION) e = delete_singly(s, keys, count, each);
    s3_call_free(c);
    buf_deinit(&text);
    return e;
}

enum err s3_delete(struct store *base, const char *const *keys, size_t count, enum err *each) {
    struct s3 *s = s3_of(base);
    if (s->read_only) return ERR_READ_ONLY;
    enum err e = s3_enter(s);
    if (e != OK) return e;
    for (size_t done = 0; done < count && e == OK;) {
        size_t n = count - done < STORE_DELETE_BATCH ? count - done : STORE_DELETE_BATCH;
        bool singly = n == 1 || atomic_load(&s->no_batches);
        e = singly ? delete_singly(s, keys + done, n, each + done) : delete_batch(s, keys + done, n, each + done);
        done += n;
    }
    s3_leave(s);
    return e;
}
