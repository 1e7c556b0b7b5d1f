/* What was begun in parts and not finished: the list of it, giving it up, and those of this process that could not be
 * given up when it was their time. They are kept, some of them, and tried again when something is composed the next time;
 * what a process leaves behind, its successor finds in the list. One whose beginning was not answered has no id that
 * anybody knows: what the list says of its key goes (S3 shows what it has begun; a request that only then arrives is left
 * to the successor). Not every server has that list (MinIO answers for whole
 * keys only, and gives up what is a day old by itself). */
#include <stdio.h>
#include <string.h>

#include "store/s3_priv.h"

#define PAGES_MAX 20u

struct s3_left {
    char *key, *id; /* id NULL: not known */
};

/* --- The list. */

static enum err page_get(struct s3 *s, const char *prefix, struct s3_xml_uploads *page, struct store_uploads *out) {
    struct mem *m = s->base.env->mem;
    struct s3_call *c = s3_call_new(s, S3_OP_LIST, HTTP_GET, "");
    s3_call_query(c, "uploads", "");
    s3_call_query(c, "max-uploads", "1000");
    if (prefix[0]) s3_call_query(c, "prefix", prefix);
    if (page->key) s3_call_query(c, "key-marker", page->key);
    if (page->key && page->id) s3_call_query(c, "upload-id-marker", page->id);
    c->optional = true;
    c->expects = (size_t)16 << 20;
    enum err e = s3_call_send(c);
    if (e == OK) {
        struct s3_xml_uploads next;
        struct slice body = c->response.body;
        e = s3_xml_uploads(m, body.data, body.size, s->address.prefix, out, &next);
        if (e == OK) {
            mem_free(m, page->key);
            mem_free(m, page->id);
            *page = next;
        } else {
            (void)snprintf(c->why, sizeof(c->why), "the answer is no list of uploads");
            s3_call_log(c, e);
            e = ERR_UNAVAILABLE;
        }
    }
    if (e == ERR_NOT_FOUND || e == ERR_TRUNCATED) e = ERR_UNAVAILABLE; /* no answers to this question */
    s3_call_free(c);
    return e;
}

/* *out is initialised by the caller, and empty after an error. ERR_UNSUPPORTED: there is no such list. */
static enum err uploads_list(struct s3 *s, const char *prefix, struct store_uploads *out) {
    struct mem *m = s->base.env->mem;
    char *whole = mem_printf(m, "%s%s", s->address.prefix, prefix);
    struct s3_xml_uploads page = {0};
    enum err e = OK;
    for (unsigned pages = 0; pages < PAGES_MAX && e == OK; pages++) {
        e = page_get(s, whole, &page, out);
        if (!page.truncated || !page.key || out->count >= STORE_UPLOADS_MAX) break;
    }
    mem_free(m, page.key);
    mem_free(m, page.id);
    mem_free(m, whole);
    while (out->count > (e == OK ? STORE_UPLOADS_MAX : 0)) {
        mem_free(m, out->items[--out->count].key);
        mem_free(m, out->items[out->count].id);
    }
    return e;
}

enum err s3_uploads(struct store *base, const char *prefix, struct store_uploads *out) {
    struct s3 *s = s3_of(base);
    enum err e = s3_enter(s);
    if (e != OK) return e;
    e = uploads_list(s, prefix, out);
    s3_leave(s);
    return e == ERR_UNSUPPORTED ? OK : e;
}

/* --- Giving up. */

static enum err abort_send(struct s3 *s, const char *key, const char *id) {
    struct s3_call *c = s3_call_new(s, S3_OP_ABORT, HTTP_DELETE, key);
    s3_call_query(c, "uploadId", id);
    c->changes = true;
    enum err e = s3_call_send(c);
    if (e != OK && (e == ERR_NOT_FOUND || strcmp(c->error.code, "NoSuchUpload") == 0)) e = OK;
    s3_call_free(c);
    return e;
}

/* All that there is of the key. */
static enum err abort_listed(struct s3 *s, const char *key) {
    struct store_uploads found = {.mem = s->base.env->mem};
    enum err e = uploads_list(s, key, &found);
    if (e == ERR_UNSUPPORTED) e = OK;
    for (size_t i = 0; i < found.count && e == OK; i++) {
        if (strcmp(found.items[i].key, key) == 0) e = abort_send(s, key, found.items[i].id);
    }
    store_uploads_deinit(&found);
    return e;
}

static void left_free(struct s3 *s, struct s3_left *x) {
    struct mem *m = s->base.env->mem;
    mem_free(m, x->key);
    mem_free(m, x->id);
    mem_free(m, x);
}

/* Takes x. Slots are exchanged whole: uploads end on any loop. */
static void left_keep(struct s3 *s, struct s3_left *x) {
    for (size_t i = 0; i < S3_LEFT_MAX; i++) {
        struct s3_left *none = NULL;
        if (atomic_compare_exchange_strong(&s->left[i], &none, x)) return;
    }
    left_free(s, x);
}

void s3_upload_give_up(struct s3 *s, const char *key, const char *id) {
    enum err e = id ? abort_send(s, key, id) : abort_listed(s, key);
    if (e == OK) return;
    log_warn(s->base.env->log, "s3 multipart upload could not be aborted: it is tried again later", "key=%s error=%s",
             key, err_name(e));
    struct mem *m = s->base.env->mem;
    struct s3_left *x = MEM_NEW(m, struct s3_left);
    *x = (struct s3_left){mem_strdup(m, key), id ? mem_strdup(m, id) : NULL};
    left_keep(s, x);
}

void s3_uploads_retry(struct s3 *s) {
    for (size_t i = 0; i < S3_LEFT_MAX; i++) {
        struct s3_left *x = atomic_exchange(&s->left[i], NULL);
        if (!x) continue;
        enum err e = x->id ? abort_send(s, x->key, x->id) : abort_listed(s, x->key);
        /* The list may be forbidden for good; what it would have said is left to the next start. */
        if (e == OK || !x->id) {
            left_free(s, x);
        } else {
            left_keep(s, x);
            return; /* the store is still in trouble */
        }
    }
}

void s3_uploads_forget(struct s3 *s) {
    for (size_t i = 0; i < S3_LEFT_MAX; i++) {
        struct s3_left *x = atomic_exchange(&s->left[i], NULL);
        if (x) left_free(s, x);
    }
}

enum err s3_upload_abort(struct store *base, const char *key, const char *id) {
    struct s3 *s = s3_of(base);
    if (s->read_only) return ERR_READ_ONLY;
    enum err e = s3_enter(s);
    if (e != OK) return e;
    e = abort_send(s, key, id);
    s3_leave(s);
    return e;
}
