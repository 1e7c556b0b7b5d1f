/* A large object in parts: begun, its parts put several at a time, completed; or aborted, so that the parts do not lie
 * there for ever, unseen and paid for. Only for puts without condition: they write the same bytes again whatever became
 * of an earlier try.
 *
 * A completion may answer 200 and then fail, in the body. When its answer is lost, the object may be there. */
#include <stdio.h>
#include <string.h>

#include "rt/fiber.h"
#include "store/s3_priv.h"

#define PARTS_AT_ONCE 4u
#define ETAG_MAX 128u

struct part {
    char etag[ETAG_MAX];
    char checksum[16];
};

struct upload {
    struct s3 *s3;
    const char *key;
    const struct slice *data;
    size_t count;
    uint64_t size, part_size;
    char *id;
    struct part *parts;
    unsigned part_count, next; /* next: the first part that nobody has taken */
    enum err result;           /* the first failure */
    struct waitgroup workers;
};

static enum err begin(struct upload *u) {
    struct mem *m = u->s3->base.env->mem;
    struct s3_call *c = s3_call_new(u->s3, S3_OP_MULTIPART, HTTP_POST, u->key);
    s3_call_query(c, "uploads", "");
    s3_call_header(c, "x-amz-checksum-algorithm", "CRC32C");
    c->changes = true;
    enum err e = s3_call_send(c);
    if (e == OK && s3_xml_upload_id(m, c->response.body.data, c->response.body.size, &u->id) != OK)
        e = ERR_UNAVAILABLE; /* no object came of it */
    s3_call_free(c);
    return e;
}

/* The bytes [from, from + size) of the data as borrowed slices; mem_free. */
static struct slice *cut(const struct upload *u, uint64_t from, uint64_t size, size_t *count) {
    struct slice *out = mem_alloc(u->s3->base.env->mem, u->count * sizeof(*out));
    *count = 0;
    for (size_t i = 0; i < u->count && size > 0; i++) {
        const struct slice *s = &u->data[i];
        if (from >= s->size) {
            from -= s->size;
            continue;
        }
        uint64_t n = s->size - from < size ? s->size - from : size;
        out[(*count)++] = slice_borrow(s->data + from, (size_t)n);
        from = 0;
        size -= n;
    }
    ASSERT(size == 0);
    return out;
}

static enum err part_put(struct upload *u, unsigned index) {
    struct mem *m = u->s3->base.env->mem;
    uint64_t from = index * u->part_size, left = u->size - from;
    size_t count;
    struct slice *body = cut(u, from, left < u->part_size ? left : u->part_size, &count);
    char number[16];
    (void)snprintf(number, sizeof(number), "%u", index + 1);
    struct s3_call *c = s3_call_new(u->s3, S3_OP_MULTIPART, HTTP_PUT, u->key);
    s3_call_query(c, "partNumber", number);
    s3_call_query(c, "uploadId", u->id);
    c->body = body;
    c->body_count = count;
    c->checksum = c->changes = true;
    enum err e = s3_call_send(c);
    if (e == OK) {
        const char *etag = http_response_header(&c->response, "ETag");
        /* It goes into XML as it came. */
        if (!etag || strlen(etag) >= ETAG_MAX || strpbrk(etag, "<>&")) {
            e = ERR_UNAVAILABLE;
        } else {
            memcpy(u->parts[index].etag, etag, strlen(etag) + 1);
            memcpy(u->parts[index].checksum, c->checksum_text, sizeof(u->parts[index].checksum));
        }
    }
    s3_call_free(c);
    mem_free(m, body);
    return e;
}

static void work(void *arg) {
    struct upload *u = arg;
    while (u->result == OK && u->next < u->part_count) {
        enum err e = part_put(u, u->next++);
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

/* Whether anything of it may still have to be aborted is not known after a lost answer; an abort of what was completed
 * does no harm. */
static enum err complete(struct upload *u) {
    struct mem *m = u->s3->base.env->mem;
    struct buf text;
    buf_init(&text, m);
    buf_printf(&text, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (unsigned i = 0; i < u->part_count; i++) {
        buf_printf(&text, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag><ChecksumCRC32C>%s</ChecksumCRC32C></Part>",
                   i + 1, u->parts[i].etag, u->parts[i].checksum);
    }
    buf_printf(&text, "</CompleteMultipartUpload>");
    struct slice body = slice_borrow(text.data, text.size);
    struct s3_call *c = s3_call_new(u->s3, S3_OP_MULTIPART, HTTP_POST, u->key);
    s3_call_query(c, "uploadId", u->id);
    s3_call_header(c, "Content-Type", "application/xml");
    c->body = &body;
    c->body_count = 1;
    c->changes = true;
    enum err e = s3_call_send(c);
    if (e == OK) {
        struct slice answer = c->response.body;
        enum err said = s3_xml_completed(m, answer.data, answer.size, &c->error);
        if (said != OK) {
            e = ERR_UNKNOWN_OUTCOME;
            s3_call_log(c, e);
        }
    } else if (e != ERR_CANCELLED) {
        e = ERR_UNKNOWN_OUTCOME; /* NoSuchUpload, too: an earlier sending may have completed it */
    }
    s3_call_free(c);
    buf_deinit(&text);
    return e;
}

static void give_up(struct upload *u) {
    struct s3_call *c = s3_call_new(u->s3, S3_OP_ABORT, HTTP_DELETE, u->key);
    s3_call_query(c, "uploadId", u->id);
    c->changes = true;
    enum err e = s3_call_send(c);
    if (e != OK && strcmp(c->error.code, "NoSuchUpload") != 0)
        log_warn(u->s3->base.env->log, "s3 multipart upload could not be aborted: a rule of the bucket should do it",
                 "key=%s error=%s", u->key, err_name(e));
    s3_call_free(c);
}

enum err s3_multipart_put(struct s3 *s, const char *key, const struct slice *data, size_t count, uint64_t size) {
    struct mem *m = s->base.env->mem;
    struct upload u = {.s3 = s, .key = key, .data = data, .count = count, .size = size, .part_size = s->multipart_from};
    if (size / STORE_PARTS_MAX >= u.part_size) u.part_size = size / STORE_PARTS_MAX + 1;
    u.part_count = store_parts(size, u.part_size);
    enum err e = begin(&u);
    if (e != OK) return e;
    u.parts = mem_zalloc(m, u.part_count * sizeof(*u.parts));
    parts_put(&u);
    e = u.result;
    if (e == OK) {
        e = complete(&u);
    } else if (e != ERR_CANCELLED) {
        e = ERR_UNAVAILABLE; /* without a completion there is no object, whatever became of the parts */
    }
    if (e != OK) give_up(&u);
    mem_free(m, u.parts);
    mem_free(m, u.id);
    return e;
}
