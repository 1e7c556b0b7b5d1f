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

/* --- DELETE. */

static enum err delete_one(struct s3 *s, const char *key) {
    struct s3_call *c = s3_call_new(s, S3_OP_DELETE, HTTP_DELETE, key);
    c->changes = true;
    enum err e = s3_call_send(c);
    if (e == OK && c->response.body.size > 0) { /* S3 has nothing to say here */
        (void)snprintf(c->why, sizeof(c->why), "the answer to a delete is not S3's");
        s3_call_log(c, ERR_UNKNOWN_OUTCOME);
        e = ERR_UNKNOWN_OUTCOME;
    }
    s3_call_free(c);
    return e == ERR_NOT_FOUND ? OK : e;
}

static enum err delete_singly(struct s3 *s, const char *const *keys, size_t count) {
    enum err e = OK;
    for (size_t i = 0; i < count && e == OK; i++) e = delete_one(s, keys[i]);
    return e;
}

/* Keys have no byte that XML would want written otherwise. */
static void batch_text(struct s3 *s, const char *const *keys, size_t count, struct buf *out) {
    buf_printf(out, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) buf_printf(out, "<Object><Key>%s%s</Key></Object>", s->address.prefix, keys[i]);
    buf_printf(out, "</Delete>");
}

/* The answer is 200 also when keys could not be deleted. */
static enum err batch_judge(struct s3_call *c) {
    struct slice body = c->response.body;
    struct s3_error first;
    size_t failed = 0;
    if (body.size == 0) return OK; /* nothing to report, in some servers' words */
    enum err e = s3_xml_deleted(c->s3->base.env->mem, body.data, body.size, &failed, &first);
    if (e != OK) {
        (void)snprintf(c->why, sizeof(c->why), "the answer to a batch of deletes cannot be read");
    } else if (failed > 0) {
        c->error = first;
        (void)snprintf(c->why, sizeof(c->why), "%zu keys of a batch were not deleted", failed);
    } else {
        return OK;
    }
    s3_call_log(c, ERR_UNKNOWN_OUTCOME);
    return ERR_UNKNOWN_OUTCOME;
}

static enum err delete_batch(struct s3 *s, const char *const *keys, size_t count) {
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
    enum err e = OK;
    for (unsigned attempt = 1;; attempt++) {
        e = s3_call_send(c);
        if (e != OK) break;
        e = batch_judge(c);
        if (e == OK || attempt >= s->attempts || atomic_load(&s->closing)) break;
        env_backoff(s->base.env, attempt, 50 * NS_PER_MS, NS_PER_S);
    }
    if (c->response.status == 501 || c->response.status == 405) {
        atomic_store(&s->no_batches, true);
        e = delete_singly(s, keys, count);
    }
    s3_call_free(c);
    buf_deinit(&text);
    return e;
}

enum err s3_delete(struct store *base, const char *const *keys, size_t count) {
    struct s3 *s = s3_of(base);
    if (s->read_only) return ERR_READ_ONLY;
    enum err e = s3_enter(s);
    if (e != OK) return e;
    for (size_t done = 0; done < count && e == OK;) {
        size_t n = count - done < STORE_DELETE_BATCH ? count - done : STORE_DELETE_BATCH;
        bool singly = n == 1 || atomic_load(&s->no_batches);
        e = singly ? delete_singly(s, keys + done, n) : delete_batch(s, keys + done, n);
        done += n;
    }
    s3_leave(s);
    return e;
}
