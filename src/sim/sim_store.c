#include "sim/sim_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

#define REQUEST_MAGIC 0x51a0007u
#define LANDING_MAGIC 0x51a0008u
#define LATE_NS_MAX (600 * NS_PER_S)
#define LIST_MAX 1000u
#define PUT_PATIENCE_NS (15 * NS_PER_S)  /* of the S3 client for an answer */
#define READ_PATIENCE_NS (16 * NS_PER_S) /* of a read with its repetitions */
#define STORM_REFUSES 0.9
#define PART_LEAST ((uint64_t)6 << 10) /* of a compose: S3's rule, made as small as the objects here */

struct handle {
    struct store base;
    struct sim_node *node;
    struct sim_bucket *bucket;
    struct sim_store_options options;
};

/* --- Buckets. */

struct sim_bucket *sim_bucket_create(struct sim_world *w, const char *name) {
    struct sim_bucket *b = MEM_NEW(&w->heap, struct sim_bucket);
    INIT_OBJ(b, SIM_BUCKET_MAGIC);
    b->world = w;
    (void)snprintf(b->name, sizeof(b->name), "%s", name);
    mapstr_init(&b->gone, &w->heap);
    list_push_back(&w->buckets, &b->link);
    return b;
}

void sim_object_changed(struct sim_bucket *b, struct sim_object *o) {
    b->version++;
    mem_free(&b->world->heap, o->seen.pieces);
    o->seen = (struct sim_seen){0};
}

static void object_free(struct sim_bucket *b, struct sim_object *o) {
    sim_object_changed(b, o);
    mem_free(&b->world->heap, o->key);
    mem_free(&b->world->heap, o->data);
    mem_free(&b->world->heap, o);
}

static struct sim_upload *upload_find(struct sim_bucket *b, uint64_t id) {
    for (size_t i = 0; i < b->upload_count; i++) {
        if (b->uploads[i].id == id) return &b->uploads[i];
    }
    return NULL;
}

static uint64_t upload_begin(struct sim_bucket *b, const char *key) {
    struct mem *m = &b->world->heap;
    b->uploads = mem_grow(m, b->uploads, b->upload_count, &b->upload_capacity, sizeof(*b->uploads));
    b->uploads[b->upload_count++] = (struct sim_upload){mem_strdup(m, key), ++b->upload_last, b->world->now_ns};
    return b->upload_last;
}

void sim_bucket_leave_upload(struct sim_bucket *b, const char *key) {
    uint64_t id = upload_begin(b, key);
    sim_trace(b->world, NULL, "upload-left", key, id, 0);
}

static void upload_end(struct sim_bucket *b, uint64_t id) {
    struct sim_upload *u = upload_find(b, id);
    if (!u) return;
    mem_free(&b->world->heap, u->key);
    size_t at = (size_t)(u - b->uploads);
    memmove(u, u + 1, (--b->upload_count - at) * sizeof(*u));
}

void sim_bucket_destroy(struct sim_bucket *b) {
    CHECK_OBJ(b, SIM_BUCKET_MAGIC);
    for (size_t i = 0; i < b->count; i++) object_free(b, b->objects[i]);
    mem_free(&b->world->heap, b->objects);
    while (b->upload_count > 0) upload_end(b, b->uploads[0].id);
    mem_free(&b->world->heap, b->uploads);
    mapstr_deinit(&b->gone);
    list_remove(&b->link);
    b->magic = 0;
    mem_free(&b->world->heap, b);
}

size_t sim_bucket_from(const struct sim_bucket *b, const char *key) {
    size_t low = 0, high = b->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(b->objects[middle]->key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct sim_object *sim_bucket_find(const struct sim_bucket *b, const char *key) {
    size_t i = sim_bucket_from(b, key);
    return i < b->count && strcmp(b->objects[i]->key, key) == 0 ? b->objects[i] : NULL;
}

static enum err bucket_put(struct sim_bucket *b, const char *key, const uint8_t *data, size_t size, bool create_only) {
    struct sim_world *w = b->world;
    size_t i = sim_bucket_from(b, key);
    bool there = i < b->count && strcmp(b->objects[i]->key, key) == 0;
    if (there && create_only) return ERR_EXISTS;
    struct sim_object *o = MEM_NEW(&w->heap, struct sim_object);
    o->key = mem_strdup(&w->heap, key);
    o->data = mem_alloc(&w->heap, size);
    if (size > 0) memcpy(o->data, data, size);
    o->size = size;
    o->listed_at_ns = o->landed_ns = w->now_ns;
    o->again = mapstr_get(&b->gone, key, strlen(key)) != NULL;
    if (sim_fault(w, SIM_STORE_LIST_LAGS)) o->listed_at_ns += sim_between(w, 0, 60 * NS_PER_S);
    b->created++;
    b->version++;
    if (there) {
        object_free(b, b->objects[i]);
        b->objects[i] = o;
        return OK;
    }
    b->objects = mem_grow(&w->heap, b->objects, b->count, &b->capacity, sizeof(*b->objects));
    memmove(&b->objects[i + 1], &b->objects[i], (b->count - i) * sizeof(*b->objects));
    b->objects[i] = o;
    b->count++;
    return OK;
}

static void bucket_delete(struct sim_bucket *b, const char *key) {
    size_t i = sim_bucket_from(b, key);
    if (i == b->count || strcmp(b->objects[i]->key, key) != 0) return;
    if (b->objects[i]->locked_until_ns > b->world->now_ns) return;
    (void)mapstr_put(&b->gone, key, strlen(key), b);
    object_free(b, b->objects[i]);
    b->count--;
    memmove(&b->objects[i], &b->objects[i + 1], (b->count - i) * sizeof(*b->objects));
}

static void bucket_deleted(struct sim_bucket *b) {
    if (b->deleted) b->deleted(b->deleted_ctx);
}

/* --- Landings: what a request will do to the bucket, at its time, whoever still waits for it. */

struct change { /* a PUT, or a DELETE of one key */
    char *key;
    uint8_t *data;
    size_t size;
    bool put, create_only;
    uint64_t upload; /* that it completes; 0: none */
    unsigned refs;
};

struct request;

struct landing {
    unsigned magic;
    struct sim_event event;
    struct sim_bucket *bucket;
    struct change *change;
    struct request *request; /* that wants the result; NULL: nobody */
};

/* One request of a fiber, from sending to answer. */
struct request {
    unsigned magic;
    struct sim_op op;
    struct sim_bucket *bucket;
    bool exclusive;
    struct landing *landing; /* still to come, and of interest */
    enum err landed;         /* what the landing found */
    enum err answer;         /* overrides what the landing found, unless OK */
};

static void change_unref(struct sim_world *w, struct change *c) {
    if (--c->refs > 0) return;
    mem_free(&w->heap, c->key);
    mem_free(&w->heap, c->data);
    mem_free(&w->heap, c);
}

static struct change *change_make(struct sim_world *w, const char *key, const struct slice *data, size_t count,
                                  bool put, bool create_only) {
    struct change *c = MEM_NEW(&w->heap, struct change);
    c->refs = 1;
    c->key = mem_strdup(&w->heap, key);
    c->put = put;
    c->create_only = create_only;
    for (size_t i = 0; i < count; i++) c->size += data[i].size;
    if (put) c->data = mem_alloc(&w->heap, c->size);
    for (size_t i = 0, at = 0; i < count; at += data[i].size, i++) {
        if (data[i].size > 0) memcpy(c->data + at, data[i].data, data[i].size);
    }
    return c;
}

static void landing_free(struct landing *x) {
    struct sim_world *w = x->bucket->world;
    change_unref(w, x->change);
    if (x->request) x->request->landing = NULL;
    x->magic = 0;
    mem_free(&w->heap, x);
}

static void landing_do(struct landing *x) {
    struct sim_world *w = x->bucket->world;
    struct change *c = x->change;
    enum err e = OK;
    if (c->upload && !upload_find(x->bucket, c->upload)) {
        e = ERR_UNKNOWN_OUTCOME; /* given up, or completed before */
    } else if (c->put) {
        e = bucket_put(x->bucket, c->key, c->data, c->size, c->create_only);
    } else {
        bucket_delete(x->bucket, c->key);
        bucket_deleted(x->bucket);
    }
    if (c->upload && e == OK) upload_end(x->bucket, c->upload);
    const struct sim_node *n = x->request ? x->request->op.node : NULL;
    sim_trace(w, n, c->put ? (e == OK ? "put-lands" : "put-finds-another") : "delete-lands", c->key, c->size,
              x->request == NULL);
    if (x->request) x->request->landed = e;
    landing_free(x);
}

static void landing_fire(struct sim_event *e) {
    struct landing *x = CONTAINER_OF(e, struct landing, event);
    CHECK_OBJ(x, LANDING_MAGIC);
    landing_do(x);
}

static struct landing *landing_at(struct sim_bucket *b, struct change *c, struct request *r, uint64_t at_ns) {
    struct landing *x = MEM_NEW(&b->world->heap, struct landing);
    INIT_OBJ(x, LANDING_MAGIC);
    sim_event_init(&x->event, landing_fire);
    x->bucket = b;
    x->change = c;
    c->refs++;
    x->request = r;
    if (r) r->landing = x;
    sim_event_schedule(b->world, &x->event, at_ns);
    return x;
}

/* --- Requests. */

static void request_fire(struct sim_event *e) {
    sim_op_complete(CONTAINER_OF(e, struct sim_op, event));
}

/* The connection is gone. What was sent may be on its way, in a queue, or already there. */
static void request_orphaned(struct sim_op *op, enum sim_crash kind) {
    (void)kind;
    struct request *r = CONTAINER_OF(op, struct request, op);
    struct sim_world *w = op->world;
    sim_event_cancel(w, &op->event);
    struct landing *x = r->landing;
    if (x) {
        x->request = NULL;
        if (!r->exclusive && sim_fault(w, SIM_STORE_CRASH_LATE)) {
            sim_event_schedule(w, &x->event, w->now_ns + sim_between(w, 0, LATE_NS_MAX));
        } else if (r->exclusive || sim_chance(w, 0.5)) {
            sim_event_cancel(w, &x->event);
            if (sim_chance(w, 0.5)) {
                landing_do(x);
            } else {
                landing_free(x);
            }
        }
    }
    r->magic = 0;
    mem_free(&w->heap, r);
}

static struct request *request_begin(struct handle *h) {
    struct sim_world *w = h->bucket->world;
    struct request *r = MEM_NEW(&w->heap, struct request);
    INIT_OBJ(r, REQUEST_MAGIC);
    r->bucket = h->bucket;
    r->exclusive = h->options.exclusive;
    sim_op_init(&r->op, h->node, request_fire, request_orphaned);
    h->bucket->requests++;
    return r;
}

/* Suspends until the answer; frees the request. */
static enum err request_wait(struct request *r, uint64_t ns) {
    struct sim_world *w = r->op.world;
    sim_event_schedule(w, &r->op.event, w->now_ns + ns);
    sim_op_wait(&r->op);
    ASSERT(!r->landing || r->answer != OK);
    if (r->landing) r->landing->request = NULL;
    enum err e = r->answer != OK ? r->answer : r->landed;
    r->magic = 0;
    mem_free(&w->heap, r);
    return e;
}

static uint64_t latency(struct sim_world *w, uint64_t low_ms, uint64_t high_ms) {
    uint64_t us = sim_between(w, low_ms * 1000, high_ms * 1000);
    if (sim_fault(w, SIM_STORE_SLOW)) us += sim_between(w, 0, 5000000);
    if (sim_fault(w, SIM_STORE_TAIL)) { /* half of what is longer than t is longer than 2t */
        uint64_t tail = sim_between(w, 100000, 200000);
        for (unsigned i = 0; i < 10 && sim_chance(w, 0.5); i++) tail *= 2;
        us += tail;
    }
    return us * NS_PER_US;
}

/* Some stores do not copy; this one, or not, from its first request of the kind on. */
static bool copies(struct sim_bucket *b) {
    if (b->copies == 0) b->copies = sim_fault(b->world, SIM_STORE_NO_COPY) ? -1 : 1;
    return b->copies > 0;
}

/* The bucket refuses most requests for a while, whoever asks. */
static bool stormy(struct sim_bucket *b) {
    struct sim_world *w = b->world;
    if (w->now_ns >= b->storm_until_ns && sim_fault(w, SIM_STORE_STORM))
        b->storm_until_ns = w->now_ns + sim_between(w, 1000, sim_chance(w, 0.5) ? 10000 : 120000) * NS_PER_MS;
    return w->now_ns < b->storm_until_ns && !w->faults_off && sim_chance(w, STORM_REFUSES);
}

/* --- Machines that are cut off. */

static void cut_off(struct sim_node *n) {
    struct sim_world *w = n->world;
    uint64_t until_ns = w->now_ns + sim_between(w, 1000, sim_chance(w, 0.5) ? 10000 : 120000) * NS_PER_MS;
    *(sim_chance(w, 0.6) ? &n->store_cut_ns : &n->store_deaf_ns) = until_ns;
}

bool sim_store_cut(struct sim_node *n) {
    if (n->world->faults_off || !sim_fault_allowed(n->world, SIM_STORE_CUT)) return false;
    sim_fault_count(n->world, n, SIM_STORE_CUT);
    cut_off(n);
    return true;
}

static uint64_t left_ns(const struct sim_world *w, uint64_t until_ns) {
    return until_ns > w->now_ns && !w->faults_off ? until_ns - w->now_ns : 0;
}

/* For how long nothing of what it sends now arrives, and no answer does: when the way is closed, or closes now. */
static void ways_of(const struct handle *h, uint64_t *there_ns, uint64_t *back_ns) {
    struct sim_world *w = h->node->world;
    *there_ns = *back_ns = 0;
    if (h->options.exclusive) return;
    if (sim_fault(w, SIM_STORE_CUT)) cut_off(h->node);
    *there_ns = left_ns(w, h->node->store_cut_ns);
    *back_ns = left_ns(w, h->node->store_deaf_ns);
}

static enum err unanswered(struct sim_world *w) {
    uint64_t r = sim_between(w, 0, 9);
    return r == 0 ? ERR_IO : r < 5 ? ERR_UNKNOWN_OUTCOME : ERR_TIMEOUT;
}

static struct handle *handle_of(struct store *s) {
    CHECK_OBJ(s, STORE_MAGIC);
    return CONTAINER_OF(s, struct handle, base);
}

/* Decides what the store does to a PUT: makes its landings and sets the answer that the request gets in their place.
 * Returns when it is answered, from now. */
static uint64_t put_fate(struct handle *h, struct request *r, struct change *c) {
    struct sim_world *w = h->bucket->world;
    bool alone = h->options.exclusive;
    uint64_t there, back;
    ways_of(h, &there, &back);
    uint64_t lands = there + latency(w, 1, 60), answer = lands + latency(w, 1, 40),
             timeout = sim_between(w, 500, 10000) * NS_PER_MS;
    if (answer < back) answer = back;
    if (there > PUT_PATIENCE_NS || back > PUT_PATIENCE_NS) {
        /* It may still be on its way when the connection is given up. */
        if (there <= PUT_PATIENCE_NS || sim_chance(w, 0.5)) landing_at(h->bucket, c, r, w->now_ns + lands);
        r->answer = unanswered(w);
        return PUT_PATIENCE_NS;
    }
    if (stormy(h->bucket)) {
        /* The real client cannot know whether a 503 was said before or after the work. */
        r->answer = !alone && sim_chance(w, 0.8) ? ERR_UNKNOWN_OUTCOME : ERR_UNAVAILABLE;
        return answer;
    }
    if (sim_fault(w, SIM_STORE_UNAVAILABLE)) {
        r->answer = ERR_UNAVAILABLE;
        return answer;
    }
    if (!alone && c->create_only && sim_fault(w, SIM_STORE_CONFLICT)) {
        r->answer = ERR_UNKNOWN_OUTCOME;
        return answer;
    }
    if (sim_fault(w, SIM_STORE_PUT_LOST)) {
        r->answer = unanswered(w);
        return timeout;
    }
    if (!alone && sim_fault(w, SIM_STORE_PUT_LATE)) {
        r->answer = unanswered(w);
        landing_at(h->bucket, c, NULL, w->now_ns + timeout + sim_between(w, 0, LATE_NS_MAX));
        return timeout;
    }
    landing_at(h->bucket, c, r, w->now_ns + lands);
    if (sim_fault(w, SIM_STORE_ANSWER_LOST)) {
        r->answer = unanswered(w);
        return alone && lands > timeout ? lands : timeout;
    }
    if (c->create_only && sim_fault(w, SIM_STORE_EXISTS_MINE)) r->answer = ERR_EXISTS;
    if (!alone && sim_fault(w, SIM_STORE_PUT_TWICE)) {
        landing_at(h->bucket, c, NULL, w->now_ns + answer + sim_between(w, 0, LATE_NS_MAX));
    }
    if (!alone && answer > PUT_PATIENCE_NS) { /* what is on its way goes on */
        r->answer = ERR_TIMEOUT;
        return PUT_PATIENCE_NS;
    }
    return answer;
}

/* Sends what has been made; takes the change. Suspends until the answer. */
static enum err put_send(struct handle *h, struct change *c, const char *what) {
    struct sim_world *w = h->bucket->world;
    sim_trace(w, h->node, what, c->key, c->size, 0);
    sim_hash(w, hash_bytes(c->data, c->size));
    if (!sim_node_effect(h->node)) {
        change_unref(w, c);
        sim_node_halt(h->node);
    }
    struct request *r = request_begin(h);
    uint64_t ns = put_fate(h, r, c);
    change_unref(w, c); /* from here on it is the landings' */
    enum err e = request_wait(r, ns);
    sim_trace(w, h->node, "put-answer", err_name(e), 0, 0);
    return e;
}

static enum err sim_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                        enum store_purpose purpose) {
    (void)purpose;
    struct handle *h = handle_of(s);
    struct change *c = change_make(h->bucket->world, key, data, count, true, create_only);
    return put_send(h, c, create_only ? "create" : "put");
}

/* The failures of requests that change nothing, or are not sent; suspends for the whole of a failed one, and for as long
 * as a way is closed. */
static enum err read_fails(struct handle *h) {
    struct sim_world *w = h->bucket->world;
    h->bucket->requests++;
    if (!sim_node_effect(h->node)) sim_node_halt(h->node);
    uint64_t there, back;
    ways_of(h, &there, &back);
    uint64_t closed = there > back ? there : back;
    if (closed > 0) sim_suspend(h->node, closed < READ_PATIENCE_NS ? closed : READ_PATIENCE_NS);
    if (closed > READ_PATIENCE_NS) return ERR_TIMEOUT;
    if (stormy(h->bucket) || sim_fault(w, SIM_STORE_UNAVAILABLE)) {
        sim_suspend(h->node, latency(w, 1, 20));
        return ERR_UNAVAILABLE;
    }
    if (sim_fault(w, SIM_STORE_READ_FAILS)) {
        sim_suspend(h->node, sim_between(w, 100, 5000) * NS_PER_MS);
        return ERR_TIMEOUT;
    }
    return OK;
}

/* The way of a request that reads, to the store; *back: the answer's way. Suspends. */
static enum err read_begin(struct handle *h, uint64_t low_ms, uint64_t high_ms, uint64_t *back) {
    struct sim_world *w = h->bucket->world;
    enum err e = read_fails(h);
    if (e != OK) return e;
    uint64_t there = latency(w, low_ms, high_ms);
    *back = latency(w, low_ms, high_ms);
    if (!h->options.exclusive && there + *back > READ_PATIENCE_NS) {
        sim_suspend(h->node, READ_PATIENCE_NS);
        return ERR_TIMEOUT;
    }
    sim_suspend(h->node, there);
    return OK;
}

/* Copies one part into `to`: what lies there at some moment of the request. Suspends. */
static enum err part_copy(struct handle *h, const struct store_piece *p, uint8_t *to) {
    struct sim_world *w = h->bucket->world;
    uint64_t back;
    enum err e = read_begin(h, 5, 200, &back);
    if (e != OK) return ERR_UNAVAILABLE; /* there is no object of it, whatever became of the part */
    const struct sim_object *o = sim_bucket_find(h->bucket, p->key);
    if (!o) {
        e = ERR_NOT_FOUND;
    } else if (p->position + p->size > o->size) {
        e = ERR_TRUNCATED;
    } else if (o->size < h->base.part_least) {
        e = ERR_UNSUPPORTED;
    } else {
        memcpy(to, o->data + p->position, (size_t)p->size);
    }
    sim_trace(w, h->node, "copy", p->key, p->position, p->size);
    sim_suspend(h->node, back);
    return e;
}

static enum err sim_abort(struct store *s, const char *key, const char *id) {
    struct handle *h = handle_of(s);
    struct sim_world *w = h->bucket->world;
    uint64_t back;
    enum err e = read_begin(h, 1, 40, &back);
    if (e != OK) return e;
    sim_trace(w, h->node, "abort", key, strtoull(id, NULL, 10), 0);
    upload_end(h->bucket, strtoull(id, NULL, 10));
    sim_suspend(h->node, back);
    return OK;
}

static enum err sim_uploads(struct store *s, const char *prefix, struct store_uploads *out) {
    struct handle *h = handle_of(s);
    const struct sim_bucket *b = h->bucket;
    uint64_t back;
    enum err e = read_begin(h, 2, 40, &back);
    if (e != OK) return e;
    for (size_t i = 0; i < b->upload_count && out->count < STORE_UPLOADS_MAX; i++) {
        char id[24];
        (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)b->uploads[i].id);
        if (strncmp(b->uploads[i].key, prefix, strlen(prefix)) == 0) store_uploads_add(out, b->uploads[i].key, id);
    }
    sim_trace(b->world, h->node, "uploads", prefix, out->count, 0);
    sim_suspend(h->node, back);
    return OK;
}

/* All parts, one after the other: any of them may fail, and between them the world goes on. */
static enum err parts_gather(struct handle *h, const struct store_piece *pieces, size_t count, uint8_t *to) {
    enum err e = OK;
    for (size_t i = 0; i < count && e == OK; i++) {
        const struct store_piece *p = &pieces[i];
        if (p->key) e = part_copy(h, p, to);
        for (size_t k = 0, at = 0; !p->key && k < p->count; at += p->data[k].size, k++)
            memcpy(to + at, p->data[k].data, p->data[k].size);
        to += p->size;
    }
    return e;
}

/* Begun, its parts put, completed; given up when that fails, or not even that. A folder has none of these steps. */
static enum err sim_compose(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                            enum store_purpose purpose) {
    (void)purpose;
    struct handle *h = handle_of(s);
    struct sim_bucket *b = h->bucket;
    uint64_t size = 0, id = 0, back;
    if (!h->options.exclusive) {
        enum err begun = copies(b) ? read_begin(h, 1, 40, &back) : ERR_UNSUPPORTED;
        if (begun != OK) return begun == ERR_UNSUPPORTED ? begun : ERR_UNAVAILABLE;
        id = upload_begin(b, key);
        sim_suspend(h->node, back);
        /* Its answer is lost: nobody knows its id. */
        if (sim_fault(b->world, SIM_STORE_ANSWER_LOST)) return ERR_UNAVAILABLE;
    }
    for (size_t i = 0; i < count; i++) size += pieces[i].size;
    uint8_t *data = mem_alloc(s->env->mem, (size_t)size + 1);
    enum err e = parts_gather(h, pieces, count, data);
    struct slice whole = slice_borrow(data, (size_t)size);
    struct change *c = e == OK ? change_make(b->world, key, &whole, 1, true, true) : NULL;
    mem_free(s->env->mem, data);
    if (c) c->upload = id;
    if (c) e = put_send(h, c, "compose");
    if (e != OK && id > 0) {
        char text[24];
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
        enum err aborted = sim_abort(s, key, text);
        (void)aborted;
    }
    return e;
}

/* A bit is wrong on the way, or in the object from now on. */
static void get_rots(struct sim_bucket *b, const char *key, uint64_t position, struct slab *slab, size_t size) {
    if (size == 0 || !sim_fault(b->world, SIM_STORE_ROT)) return;
    size_t at = sim_between(b->world, 0, size - 1);
    uint8_t bit = (uint8_t)(1u << sim_between(b->world, 0, 7));
    slab->data[at] ^= bit;
    if (!sim_chance(b->world, 0.5)) return;
    struct sim_object *o = b->objects[sim_bucket_from(b, key)];
    o->data[position + at] ^= bit;
    sim_object_changed(b, o);
}

static enum err sim_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                        struct slice *out) {
    (void)purpose;
    struct handle *h = handle_of(s);
    struct sim_world *w = h->bucket->world;
    *out = (struct slice){0};
    uint64_t back;
    enum err e = read_begin(h, 1, 20, &back);
    if (e != OK) return e;
    const struct sim_object *o = sim_bucket_find(h->bucket, key);
    if (o && position < o->size) {
        if (size > o->size - position) size = (size_t)(o->size - position);
        struct slab *slab = slab_create(s->env->mem, size, 16);
        memcpy(slab->data, o->data + position, size);
        get_rots(h->bucket, key, position, slab, size);
        *out = (struct slice){slab->data, size, slab};
    }
    e = o ? OK : ERR_NOT_FOUND;
    sim_trace(w, h->node, o ? "get" : "get-finds-nothing", key, position, out->size);
    sim_suspend(h->node, back); /* the answer is of the past when it arrives */
    if (o && sim_fault(w, SIM_STORE_GET_CUT)) {
        slice_unref(out);
        *out = (struct slice){0};
        return ERR_UNAVAILABLE;
    }
    return e;
}

static enum err sim_list(struct store *s, const char *prefix, const char *start_after, size_t max,
                         struct store_listing *out) {
    struct handle *h = handle_of(s);
    struct sim_world *w = h->bucket->world;
    struct sim_bucket *b = h->bucket;
    store_listing_init(out, s->env->mem);
    uint64_t back;
    enum err e = read_begin(h, 2, 40, &back);
    if (e != OK) return e;
    if (max > LIST_MAX) max = LIST_MAX;
    size_t prefix_size = strlen(prefix);
    bool after = start_after && strcmp(start_after, prefix) > 0;
    for (size_t i = sim_bucket_from(b, after ? start_after : prefix); i < b->count; i++) {
        const struct sim_object *o = b->objects[i];
        if (strncmp(o->key, prefix, prefix_size) != 0) break;
        if ((after && strcmp(o->key, start_after) == 0) || o->listed_at_ns > w->now_ns) continue;
        if (out->count == max) {
            out->more = true;
            break;
        }
        store_listing_add(out, o->key, o->size);
    }
    sim_trace(w, h->node, "list", prefix, out->count, out->more);
    sim_suspend(h->node, back);
    return OK;
}

/* The client's patience: it ends before the answer comes. */
static bool loses_patience(const struct handle *h, uint64_t *ns) {
    if (h->options.exclusive || *ns <= READ_PATIENCE_NS) return false;
    *ns = READ_PATIENCE_NS;
    return true;
}

/* That key alone: its object is under a lock, from now on perhaps. */
static bool delete_refused(struct sim_bucket *b, const char *key) {
    struct sim_world *w = b->world;
    size_t i = sim_bucket_from(b, key);
    if (i == b->count || strcmp(b->objects[i]->key, key) != 0) return false;
    struct sim_object *o = b->objects[i];
    if (o->locked_until_ns <= w->now_ns) {
        if (!sim_fault(w, SIM_STORE_DELETE_REFUSED)) return false;
        o->locked_until_ns = w->now_ns + sim_between(w, 1, sim_chance(w, 0.5) ? 20 : 3600) * NS_PER_S;
    }
    o->refused_ns = w->now_ns;
    o->refusals++;
    return true;
}

static enum err sim_delete(struct store *s, const char *const *keys, size_t count, enum err *each) {
    struct handle *h = handle_of(s);
    struct sim_world *w = h->bucket->world;
    bool deaf = !h->options.exclusive && left_ns(w, h->node->store_deaf_ns) > 0;
    enum err e = read_fails(h); /* not done, as long as it was heard */
    if (e != OK && !deaf) return e;
    bool unknown = deaf || sim_fault(w, SIM_STORE_DELETE_UNKNOWN);
    uint64_t there = latency(w, 1, 40);
    unknown |= loses_patience(h, &there);
    sim_suspend(h->node, there);
    for (size_t i = 0; i < count; i++) {
        uint64_t fate = unknown ? sim_between(w, 0, 2) : 0;
        if (!unknown && delete_refused(h->bucket, keys[i])) {
            each[i] = ERR_PERMISSION;
            fate = 3;
        } else if (fate == 0) {
            bucket_delete(h->bucket, keys[i]);
        } else if (fate == 1 && !h->options.exclusive) {
            struct change *c = change_make(w, keys[i], NULL, 0, false, false);
            landing_at(h->bucket, c, NULL, w->now_ns + sim_between(w, 0, LATE_NS_MAX));
            change_unref(w, c);
        }
        sim_trace(w, h->node, "delete", keys[i], fate, 0);
    }
    bucket_deleted(h->bucket);
    uint64_t back = latency(w, 1, 40);
    unknown |= loses_patience(h, &back);
    sim_suspend(h->node, back);
    return unknown ? unanswered(w) : OK;
}

static void sim_close(struct store *s) {
    struct handle *h = handle_of(s);
    s->magic = 0;
    mem_free(&h->node->mem.base, h);
}

static const struct store_ops sim_store_ops = {sim_put,   sim_get,     sim_list,    sim_delete,
                                               sim_close, sim_compose, sim_uploads, sim_abort};

struct store *sim_store_open(struct sim_bucket *b, struct env *e, const struct sim_store_options *o) {
    struct sim_node *n = sim_node_of(e);
    struct handle *h = MEM_NEW(e->mem, struct handle);
    h->node = n;
    h->bucket = b ? b : n->world->bucket;
    if (o) h->options = *o;
    h->base = (struct store){.magic = STORE_MAGIC,
                             .ops = &sim_store_ops,
                             .env = e,
                             .exclusive = h->options.exclusive,
                             .part_least = h->options.exclusive ? 0 : PART_LEAST,
                             .list_consistent = n->world->faults.chance[SIM_STORE_LIST_LAGS] <= 0};
    return &h->base;
}
