/* The front of every object store: checks arguments, counts, measures, and passes on. */
#include "store/store.h"

#include <assert.h>
#include <string.h>

#include "base/assert.h"
#include "store/store_plan.h"

#define KEY_SIZE_MAX 512u

static_assert(STORE_OPS * STORE_PURPOSES <= METRIC_LABELS_MAX, "one label for each operation and purpose");
static_assert(ERR_COUNT <= METRIC_LABELS_MAX, "one label for each error");

const char *store_op_name(enum store_op op) {
    static const char *const names[] = {"put", "create", "get", "list", "delete", "compose"};
    static_assert(ARRAY_LEN(names) == STORE_OPS, "a name each");
    ASSERT(op < STORE_OPS);
    return names[op];
}

const char *store_purpose_name(enum store_purpose purpose) {
    static const char *const names[] = {"cluster_log", "ledger", "upload", "read", "compaction", "deletion", "wal", "other"};
    static_assert(ARRAY_LEN(names) == STORE_PURPOSES, "a name each");
    ASSERT(purpose < STORE_PURPOSES);
    return names[purpose];
}

static bool key_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool store_key_valid(const char *key) {
    size_t size = 0, part = 0; /* bytes in the part of the path that is being looked at */
    for (const char *p = key;; p++) {
        if (*p == '/' || *p == '\0') {
            bool dots = (part == 1 && p[-1] == '.') || (part == 2 && p[-1] == '.' && p[-2] == '.');
            if (part == 0 || dots) return false;
            if (*p == '\0') return true;
            part = 0;
        } else if (key_byte(*p)) {
            part++;
        } else {
            return false;
        }
        if (++size > KEY_SIZE_MAX) return false;
    }
}

/* The beginning of a key, or nothing. */
static bool prefix_valid(const char *prefix) {
    size_t size = 0;
    for (const char *p = prefix; *p; p++) {
        if (!key_byte(*p) && *p != '/') return false;
        if (++size > KEY_SIZE_MAX) return false;
    }
    return prefix[0] != '/' && strstr(prefix, "//") == NULL;
}

uint32_t store_parts(uint64_t bytes, uint64_t part_bytes) {
    if (bytes <= part_bytes) return 1;
    uint64_t n = (bytes + part_bytes - 1) / part_bytes;
    return n < STORE_PARTS_MAX ? (uint32_t)n : STORE_PARTS_MAX;
}

/* Requests as S3's price list counts them, repeated ones apart (oxbow_s3_requests_total has those): an object in parts
 * is one request to begin, one for each part (sent or copied) and one to complete; keys are listed by pages and deleted
 * by batches. */
static uint64_t billed(const struct store *s, enum store_op op, uint64_t bytes, size_t keys) {
    uint64_t parts = 1;
    switch (op) {
    case STORE_PUT:
        parts = store_parts(bytes, s->part_bytes ? s->part_bytes : STORE_PART_BYTES);
        return parts > 1 ? parts + 2 : 1;
    case STORE_COMPOSE:
        return keys + 2;
    case STORE_LIST:
        return keys > STORE_LIST_PAGE ? (keys + STORE_LIST_PAGE - 1) / STORE_LIST_PAGE : 1;
    case STORE_DELETE:
        return (keys + STORE_DELETE_BATCH - 1) / STORE_DELETE_BATCH;
    default:
        return 1;
    }
}

/* That a key is there or is not there is an answer, not a failure. keys: listed, or to be deleted; or parts. */
static enum err account(struct store *s, enum store_op op, enum store_purpose purpose, uint64_t began_ns,
                        uint64_t bytes, size_t keys, enum err e) {
    struct metrics *m = s->env->metrics;
    unsigned label = (unsigned)op * STORE_PURPOSES + (unsigned)purpose;
    metric_add(m, M_STORE_REQUESTS, label, 1);
    metric_add(m, M_STORE_BILLED, label, billed(s, op, bytes, keys));
    if (bytes > 0) metric_add(m, M_STORE_BYTES, label, bytes);
    metric_observe_ns(m, s->env->mem, M_STORE_LATENCY, label, env_now_ns(s->env) - began_ns);
    bool answer = e == ERR_EXISTS || e == ERR_NOT_FOUND || (e == ERR_UNSUPPORTED && op == STORE_COMPOSE);
    if (e != OK && !answer) metric_add(m, M_STORE_ERRORS, (unsigned)e, 1);
    return e;
}

enum err store_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                   enum store_purpose purpose) {
    CHECK_OBJ(s, STORE_MAGIC);
    ASSERT(purpose < STORE_PURPOSES);
    if (!store_key_valid(key)) return ERR_INVALID;
    uint64_t bytes = 0, began_ns = env_now_ns(s->env);
    for (size_t i = 0; i < count; i++) bytes += data[i].size;
    enum err e = s->ops->put(s, key, data, count, create_only, purpose);
    ASSERT(create_only || e != ERR_EXISTS);
    return account(s, create_only ? STORE_CREATE : STORE_PUT, purpose, began_ns, bytes, 1, e);
}

enum err store_compose(struct store *s, const char *key, const struct store_part *parts, size_t count,
                       enum store_purpose purpose) {
    CHECK_OBJ(s, STORE_MAGIC);
    ASSERT(purpose < STORE_PURPOSES);
    struct store_plan plan;
    enum err e = store_key_valid(key) ? store_plan_make(s, parts, count, &plan) : ERR_INVALID;
    if (e != OK) return e;
    if (plan.copied_bytes == 0) { /* it is a create like others */
        e = store_put(s, key, plan.slices, plan.slice_count, true, purpose);
    } else if (!s->ops->compose) {
        e = ERR_UNSUPPORTED;
    } else {
        uint64_t began_ns = env_now_ns(s->env);
        e = s->ops->compose(s, key, plan.pieces, plan.piece_count, purpose);
        /* What the store copies does not come past here. */
        e = account(s, STORE_COMPOSE, purpose, began_ns, plan.memory_bytes, plan.piece_count, e);
    }
    store_plan_deinit(&plan);
    return e;
}

enum err store_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                   struct slice *out) {
    CHECK_OBJ(s, STORE_MAGIC);
    ASSERT(purpose < STORE_PURPOSES);
    *out = (struct slice){0};
    if (!store_key_valid(key)) return ERR_INVALID;
    uint64_t began_ns = env_now_ns(s->env);
    enum err e = s->ops->get(s, key, position, size, purpose, out);
    ASSERT(e == OK ? out->size <= size : out->slab == NULL);
    return account(s, STORE_GET, purpose, began_ns, out->size, 1, e);
}

enum err store_list(struct store *s, const char *prefix, const char *start_after, size_t max,
                    enum store_purpose purpose, struct store_listing *out) {
    CHECK_OBJ(s, STORE_MAGIC);
    ASSERT(purpose < STORE_PURPOSES && max > 0);
    store_listing_init(out, s->env->mem);
    if (!prefix_valid(prefix) || (start_after && !prefix_valid(start_after))) return ERR_INVALID;
    uint64_t began_ns = env_now_ns(s->env);
    enum err e = s->ops->list(s, prefix, start_after, max, out);
    ASSERT(out->count <= max);
    return account(s, STORE_LIST, purpose, began_ns, 0, out->count, e);
}

/* What became of each key -> what is said of all. Where not one is gone, and not all are refused, it is the store. */
static enum err delete_judge(enum err *each, size_t count, enum err *first) {
    enum err trouble = OK;
    size_t failed = 0;
    for (size_t i = 0; i < count; i++) {
        if (each[i] == ERR_NOT_FOUND) each[i] = OK;
        if (each[i] == OK) continue;
        failed++;
        if (*first == OK) *first = each[i];
        if (trouble == OK && each[i] != ERR_PERMISSION) trouble = each[i];
    }
    return failed == count ? trouble : OK;
}

/* *first: the error of the first key that was not deleted, where the store has judged each. */
static enum err delete_each(struct store *s, const char *const *keys, size_t count, enum store_purpose purpose,
                            enum err *each, enum err *first) {
    CHECK_OBJ(s, STORE_MAGIC);
    ASSERT(purpose < STORE_PURPOSES);
    for (size_t i = 0; i < count; i++) {
        if (!store_key_valid(keys[i])) return ERR_INVALID;
        each[i] = OK;
    }
    if (count == 0) return OK;
    uint64_t began_ns = env_now_ns(s->env);
    enum err e = s->ops->del(s, keys, count, each);
    if (e == ERR_NOT_FOUND) e = OK;
    if (e == OK) e = delete_judge(each, count, first);
    (void)account(s, STORE_DELETE, purpose, began_ns, 0, count, e == OK ? *first : e);
    return e;
}

enum err store_delete_each(struct store *s, const char *const *keys, size_t count, enum store_purpose purpose,
                           enum err *each) {
    enum err first = OK;
    return delete_each(s, keys, count, purpose, each, &first);
}

enum err store_delete(struct store *s, const char *const *keys, size_t count, enum store_purpose purpose) {
    CHECK_OBJ(s, STORE_MAGIC);
    enum err *each = mem_alloc(s->env->mem, (count + 1) * sizeof(*each)), first = OK;
    enum err e = delete_each(s, keys, count, purpose, each, &first);
    mem_free(s->env->mem, each);
    return e == OK ? first : e;
}

enum err store_uploads(struct store *s, const char *prefix, enum store_purpose purpose, struct store_uploads *out) {
    CHECK_OBJ(s, STORE_MAGIC);
    ASSERT(purpose < STORE_PURPOSES);
    *out = (struct store_uploads){.mem = s->env->mem};
    if (!prefix_valid(prefix)) return ERR_INVALID;
    if (!s->ops->uploads) return OK;
    uint64_t began_ns = env_now_ns(s->env);
    enum err e = s->ops->uploads(s, prefix, out);
    ASSERT(out->count <= STORE_UPLOADS_MAX && (e == OK || out->count == 0));
    return account(s, STORE_LIST, purpose, began_ns, 0, out->count, e);
}

enum err store_upload_abort(struct store *s, const char *key, const char *id, enum store_purpose purpose) {
    CHECK_OBJ(s, STORE_MAGIC);
    ASSERT(purpose < STORE_PURPOSES);
    if (!store_key_valid(key)) return ERR_INVALID;
    if (!s->ops->abort) return OK;
    uint64_t began_ns = env_now_ns(s->env);
    return account(s, STORE_DELETE, purpose, began_ns, 0, 1, s->ops->abort(s, key, id));
}

void store_close(struct store *s) {
    if (!s) return;
    CHECK_OBJ(s, STORE_MAGIC);
    s->ops->close(s);
}

void store_listing_init(struct store_listing *l, struct mem *m) {
    *l = (struct store_listing){.mem = m};
}

void store_listing_add(struct store_listing *l, const char *key, uint64_t size_bytes) {
    l->items = mem_grow(l->mem, l->items, l->count, &l->capacity, sizeof(*l->items));
    l->items[l->count++] = (struct store_listed){mem_strdup(l->mem, key), size_bytes};
}

void store_listing_deinit(struct store_listing *l) {
    for (size_t i = 0; i < l->count; i++) mem_free(l->mem, l->items[i].key);
    mem_free(l->mem, l->items);
    store_listing_init(l, l->mem);
}

void store_uploads_add(struct store_uploads *u, const char *key, const char *id) {
    u->items = mem_grow(u->mem, u->items, u->count, &u->capacity, sizeof(*u->items));
    u->items[u->count++] = (struct store_upload){mem_strdup(u->mem, key), mem_strdup(u->mem, id)};
}

void store_uploads_deinit(struct store_uploads *u) {
    for (size_t i = 0; i < u->count; i++) {
        mem_free(u->mem, u->items[i].key);
        mem_free(u->mem, u->items[i].id);
    }
    mem_free(u->mem, u->items);
    *u = (struct store_uploads){.mem = u->mem};
}
