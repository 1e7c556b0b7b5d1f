/* An object in parts: begun, its parts put or copied several at a time, completed; or aborted, so that the parts do not
 * lie there for ever, unseen and paid for. For large puts without condition, which write the same bytes again whatever
 * became of an earlier try; and for what is composed of parts of other objects, which the store copies itself. That is
 * a create: its completion has the condition (there are stores that do not look at it there).
 *
 * A completion, and a copy, may answer 200 and then fail, in the body. When a completion's answer is lost, the object
 * may be there. A server that does not copy may say so, or not see the header that asks for it, and take the part for
 * an empty one: then its answer has no result of a copy.
 *
 * Parts of a large put have checksums of their own, which go into the completion. Where parts are copied there are none:
 * their checksums are the server's to know, and not all tell them. There the hash in the signature covers what is
 * sent.
 *
 * Of an upload whose beginning was not answered nobody knows the id. Once ours is over, whatever the server lists under
 * the key is such a one, and is given up. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "rt/fiber.h"
#include "store/s3_priv.h"
#include "store/store_plan.h"

#define PARTS_AT_ONCE 4u

struct part {
    char etag[S3_XML_ETAG_MAX];
    char checksum[16];
};

struct upload {
    struct s3 *s3;
    const char *key;
    const struct store_piece *pieces;
    bool copies; /* some of them are copied */
    bool create;
    char *id;
    bool others; /* there may be uploads of the key that were begun for us, and that we were not told of */
    struct part *parts;
    size_t part_count, next; /* next: the first part that nobody has taken */
    enum err result;         /* the first failure */
    struct waitgroup workers;
};

static enum err begin(struct upload *u) {
    struct mem *m = u->s3->base.env->mem;
    struct s3_call *c = s3_call_new(u->s3, S3_OP_MULTIPART, HTTP_POST, u->key);
    s3_call_query(c, "uploads", "");
    if (!u->copies) s3_call_header(c, "x-amz-checksum-algorithm", "CRC32C");
    c->changes = c->once = true;
    c->optional = u->copies;
    enum err e = s3_call_send(c);
    if (e == OK && s3_xml_upload_id(m, c->response.body.data, c->response.body.size, &u->id) != OK)
        e = ERR_UNAVAILABLE; /* no object came of it */
    u->others = c->doubtful || (e != OK && c->response.status == 200);
    if (e == ERR_UNSUPPORTED) atomic_store(&u->s3->no_copies, true);
    s3_call_free(c);
    return e;
}

static struct s3_call *part_call(struct upload *u, size_t index, char number[24]) {
    (void)snprintf(number, 24, "%zu", index + 1);
    struct s3_call *c = s3_call_new(u->s3, S3_OP_MULTIPART, HTTP_PUT, u->key);
    s3_call_query(c, "partNumber", number);
    s3_call_query(c, "uploadId", u->id);
    c->changes = true;
    return c;
}

static bool etag_take(struct upload *u, size_t index, const char *etag) {
    /* It goes into XML as it came. */
    if (!etag || !etag[0] || strlen(etag) >= S3_XML_ETAG_MAX || strpbrk(etag, "<>&")) return false;
    memcpy(u->parts[index].etag, etag, strlen(etag) + 1);
    return true;
}

static enum err part_put(struct upload *u, size_t index) {
    char number[24];
    struct s3_call *c = part_call(u, index, number);
    c->body = u->pieces[index].data;
    c->body_count = u->pieces[index].count;
    *(u->copies ? &c->hashed : &c->checksum) = true;
    enum err e = s3_call_send(c);
    if (e == OK) {
        if (!etag_take(u, index, http_response_header(&c->response, "ETag"))) e = ERR_UNAVAILABLE;
        memcpy(u->parts[index].checksum, c->checksum_text, sizeof(u->parts[index].checksum));
    }
    s3_call_free(c);
    return e;
}

/* The answer to a copy, as one comes under a 200. */
static enum err copy_judge(struct upload *u, size_t index, struct s3_call *c) {
    char etag[S3_XML_ETAG_MAX];
    struct slice answer = c->response.body;
    enum err e = s3_xml_copied(u->s3->base.env->mem, answer.data, answer.size, etag, &c->error);
    if (e == OK) return etag_take(u, index, etag) ? OK : ERR_UNAVAILABLE;
    if (e == ERR_NOT_FOUND) return s3_call_copy_refused(c, ERR_UNAVAILABLE);
    if (answer.size > 0) return ERR_UNAVAILABLE;
    (void)snprintf(c->why, sizeof(c->why), "the store took a part that it was to copy for an empty one");
    return ERR_UNSUPPORTED;
}

static enum err part_copy(struct upload *u, size_t index) {
    struct s3 *s = u->s3;
    const struct store_piece *p = &u->pieces[index];
    char number[24], range[64];
    struct buf source;
    buf_init(&source, s->base.env->mem);
    s3_address_source(&s->address, p->key, &source);
    (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, p->position, p->position + p->size - 1);
    struct s3_call *c = part_call(u, index, number);
    s3_call_header(c, "x-amz-copy-source", (const char *)source.data);
    s3_call_header(c, "x-amz-copy-source-range", range);
    c->copies = p->size;
    c->optional = true;
    enum err e;
    for (unsigned attempt = 1;; attempt++) {
        e = s3_call_send(c);
        if (e != OK) break;
        e = copy_judge(u, index, c);
        if (e != OK) s3_call_log(c, e);
        if (e != ERR_UNAVAILABLE || attempt >= s->attempts || atomic_load(&s->closing)) break;
        env_backoff(s->base.env, attempt, 50 * NS_PER_MS, NS_PER_S);
    }
    /* Of a part too small to be copied the same code is said, in other words; the server may take others. */
    if (e == ERR_UNSUPPORTED && strcmp(c->error.code, "InvalidRequest") != 0) atomic_store(&s->no_copies, true);
    s3_call_free(c);
    buf_deinit(&source);
    return e;
}

static void work(void *arg) {
    struct upload *u = arg;
    while (u->result == OK && u->next < u->part_count) {
        size_t index = u->next++;
        enum err e = u->pieces[index].key ? part_copy(u, index) : part_put(u, index);
        if (e != OK && u->result == OK) u->result = e;
    }
    waitgroup_done(&u->workers);
}

static void parts_put(struct upload *u) {
    waitgroup_init(&u->workers);
    for (unsigned i = 0; i < PARTS_AT_ONCE && i < u->part_count; i++) {
        waitgroup_add(&u->workers);
        (void)fiber_spawn(loop_current(), "s3 part", work, u);
    }
    waitgroup_wait(&u->workers);
}

static void complete_text(const struct upload *u, struct buf *out) {
    buf_printf(out, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < u->part_count; i++) {
        const struct part *p = &u->parts[i];
        buf_printf(out, "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag>", i + 1, p->etag);
        if (!u->copies) buf_printf(out, "<ChecksumCRC32C>%s</ChecksumCRC32C>", p->checksum);
        buf_printf(out, "</Part>");
    }
    buf_printf(out, "</CompleteMultipartUpload>");
}

/* Refusals that say for sure that there is no object of it, now or later. */
static enum err complete_refused(const struct s3_call *c, enum err e) {
    const char *code = c->error.code;
    if (c->create && strcmp(code, "PreconditionFailed") == 0) return ERR_EXISTS;
    if (strcmp(code, "EntityTooSmall") == 0) return ERR_UNSUPPORTED;
    if (strcmp(code, "EntityTooLarge") == 0) return ERR_TOO_LARGE;
    return e;
}

/* Whether anything of it may still have to be aborted is not known after a lost answer; an abort of what was completed
 * does no harm. */
static enum err complete(struct upload *u) {
    struct mem *m = u->s3->base.env->mem;
    struct buf text;
    buf_init(&text, m);
    complete_text(u, &text);
    struct slice body = slice_borrow(text.data, text.size);
    struct s3_call *c = s3_call_new(u->s3, S3_OP_MULTIPART, HTTP_POST, u->key);
    s3_call_query(c, "uploadId", u->id);
    s3_call_header(c, "Content-Type", "application/xml");
    if (u->create) s3_call_header(c, "If-None-Match", "*");
    c->create = u->create;
    c->body = &body;
    c->body_count = 1;
    c->changes = true;
    enum err e = s3_call_send(c);
    if (e == ERR_UNSUPPORTED) atomic_store(&u->s3->no_copies, true); /* not under a condition */
    if (e == OK) {
        struct slice answer = c->response.body;
        if (s3_xml_completed(m, answer.data, answer.size, &c->error) != OK) {
            e = complete_refused(c, ERR_UNKNOWN_OUTCOME);
            s3_call_log(c, e);
        }
    } else if (e != ERR_CANCELLED && e != ERR_EXISTS && e != ERR_UNSUPPORTED) {
        e = complete_refused(c, ERR_UNKNOWN_OUTCOME); /* NoSuchUpload: an earlier sending may have completed it */
    }
    s3_call_free(c);
    buf_deinit(&text);
    return e;
}

/* Without a completion there is no object, whatever became of the parts. */
static enum err part_error(enum err e) {
    bool final = e == ERR_CANCELLED || e == ERR_UNSUPPORTED || e == ERR_NOT_FOUND || e == ERR_TRUNCATED;
    return final ? e : ERR_UNAVAILABLE;
}

static enum err upload_run(struct upload *u) {
    struct mem *m = u->s3->base.env->mem;
    enum err e = begin(u);
    if (e != OK) {
        if (u->others) s3_upload_give_up(u->s3, u->key, NULL);
        return part_error(e);
    }
    u->parts = mem_zalloc(m, u->part_count * sizeof(*u->parts));
    parts_put(u);
    e = u->result == OK ? complete(u) : part_error(u->result);
    if (e != OK) s3_upload_give_up(u->s3, u->key, u->id);
    if (u->others) s3_upload_give_up(u->s3, u->key, NULL);
    mem_free(m, u->parts);
    mem_free(m, u->id);
    return e;
}

enum err s3_multipart_put(struct s3 *s, const char *key, const struct slice *data, size_t count, uint64_t size) {
    uint64_t part_size = s->multipart_from;
    if (size / STORE_PARTS_MAX >= part_size) part_size = size / STORE_PARTS_MAX + 1;
    struct store_plan plan;
    store_plan_of_bytes(s->base.env->mem, data, count, part_size, &plan);
    struct upload u = {.s3 = s, .key = key, .pieces = plan.pieces, .part_count = plan.piece_count};
    enum err e = upload_run(&u);
    store_plan_deinit(&plan);
    return e;
}

enum err s3_compose(struct store *base, const char *key, const struct store_piece *pieces, size_t count,
                    enum store_purpose purpose) {
    (void)purpose;
    struct s3 *s = s3_of(base);
    if (s->read_only) return ERR_READ_ONLY;
    if (atomic_load(&s->no_copies)) return ERR_UNSUPPORTED;
    enum err e = s3_enter(s);
    if (e != OK) return e;
    struct upload u = {.s3 = s, .key = key, .pieces = pieces, .part_count = count, .copies = true, .create = true};
    s3_uploads_retry(s);
    e = upload_run(&u);
    s3_leave(s);
    return e;
}
