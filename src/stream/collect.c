/* Deleting what nothing needs. An object goes only after the durable entry that justifies it; entries of our own
 * ledger only once they are no longer log (objlog rule 4). */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"

#define DELETE_BATCH 64u
#define UPLOADS_ATTEMPTS 60u

static bool deletable(const struct streams *s, const struct object_use *use) {
    if (use->ranges > 0 || use->pins > 0) return false;
    /* Until the recoveries are in the cluster log, the next start replays the dead ledgers again: their entries are
     * log, and their objects in use. From then on nobody does, and their creators find the fences. */
    if (use->id.creator.v != s->options.incarnation.v) return s->started || env_mutant(s->env, MUTANT_FREE_UNCOMMITTED);
    if (use->id.kind == OBJECT_DATA || env_mutant(s->env, MUTANT_DELETE_LOG)) return true;
    uint64_t below = objlog_deletable_below(s->log);
    return use->id.number < below && use->not_before <= below;
}

/* Takes up to `max` deletable ids off the garbage list. */
static size_t take(struct streams *s, struct object_id *out, size_t max) {
    struct object_uses *u = &s->uses;
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < u->garbage_count; i++) {
        struct object_use *use = u->garbage[i];
        if (use->ranges > 0 || use->pins > 0) {
            use->listed = false; /* in use again */
        } else if (n < max && deletable(s, use)) {
            out[n++] = use->id;
            object_uses_forget(u, use);
        } else {
            u->garbage[kept++] = use;
        }
    }
    u->garbage_count = kept;
    return n;
}

static enum err delete_objects(struct streams *s, const struct object_id *ids, size_t n) {
    char keys[DELETE_BATCH][OBJECT_KEY_MAX];
    const char *list[DELETE_BATCH];
    ASSERT(n <= DELETE_BATCH);
    for (size_t i = 0; i < n; i++) {
        object_key(keys[i], s->generation, ids[i]);
        list[i] = keys[i];
    }
    enum err e = store_delete(s->store, list, n, STORE_FOR_DELETION);
    if (e == OK) metric_add(s->env->metrics, M_OBJECTS_DELETED, 0, n);
    return e;
}

static void collect(void *arg) {
    struct streams *s = arg;
    struct object_id ids[DELETE_BATCH];
    size_t n;
    while (!s->closing && (n = take(s, ids, DELETE_BATCH)) > 0) {
        /* The store may be away for hours. What is still not deleted at a close is found by the sweep of a later start. */
        unsigned attempt = 0;
        while (delete_objects(s, ids, n) != OK && !s->closing)
            env_backoff(s->env, attempt++, 100 * NS_PER_MS, 5 * NS_PER_S);
    }
    s->collecting = false;
    waitgroup_done(&s->background);
}

void collect_poke(struct streams *s) {
    if (s->collecting || s->closing || s->uses.garbage_count == 0) return;
    s->collecting = true;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "collect", collect, s);
}

/* ---- sweep ---- */

struct sweep {
    struct streams *s;
    struct incarnation oldest;
    uint64_t deleted;
    struct object_id ids[DELETE_BATCH]; /* to be deleted */
    size_t count;
};

static bool needed(const struct sweep *w, struct object_id id) {
    struct object_use *use = object_uses_get(&w->s->uses, id);
    if (env_mutant(w->s->env, MUTANT_SWEEP_USED)) return use && (use->pins > 0 || use->listed);
    return use && (use->ranges > 0 || use->pins > 0 || use->listed);
}

static enum err sweep_flush(struct sweep *w) {
    if (w->count == 0) return OK;
    enum err e = delete_objects(w->s, w->ids, w->count);
    if (e == OK) w->deleted += w->count;
    w->count = 0;
    return e;
}

/* On a shared store a fence stays: whoever it overtook may still try that number. What cannot be told stays too. Suspends. */
static enum err is_fence(struct streams *s, struct object_id id, bool *out) {
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, id);
    struct slice data = {0};
    struct objlog_header h = {0};
    enum err e = store_get(s->store, key, 0, OBJLOG_HEADER_SIZE, STORE_FOR_DELETION, &data);
    if (e != OK && e != ERR_NOT_FOUND) return e;
    *out = e == OK && (objlog_header_decode(data.data, data.size, &h) != OK || h.kind == OBJLOG_FENCE);
    slice_unref(&data);
    return OK;
}

/* What one dead incarnation has on a page of the listing. */
static enum err sweep_creator(struct sweep *w, const struct object_id *ids, size_t count) {
    struct streams *s = w->s;
    enum err e = OK;
    size_t left = count;
    for (size_t i = 0; i < count && e == OK && !s->closing; i++) {
        bool ledger = ids[i].kind == OBJECT_LEDGER_ENTRY, fence = false;
        if (needed(w, ids[i])) {
            if (ids[i].creator.v < w->oldest.v) w->oldest = ids[i].creator;
            continue;
        }
        /* The last one of a ledger is its fence; so each start need not read all fences that there ever were. */
        if (ledger && !s->store->exclusive && !env_mutant(s->env, MUTANT_SWEEP_FENCES)) {
            fence = left == 1;
            if (!fence) e = is_fence(s, ids[i], &fence);
        }
        if (e != OK || fence) continue;
        w->ids[w->count++] = ids[i];
        left--;
        if (w->count == DELETE_BATCH) e = sweep_flush(w);
    }
    return e;
}

/* So it is seen how little of an object that is still needed is alive. */
static void note_size(struct sweep *w, struct object_id id, uint64_t size_bytes) {
    struct object_use *use = object_uses_get(&w->s->uses, id);
    if (use && use->size_bytes < size_bytes) use->size_bytes = size_bytes;
}

static enum err sweep_page(struct sweep *w, const struct store_listing *page) {
    struct streams *s = w->s;
    struct object_id *ids = mem_alloc(s->mem, (page->count + 1) * sizeof(*ids));
    enum err e = OK;
    size_t n = 0;
    for (size_t i = 0; i <= page->count && e == OK; i++) {
        struct object_id id = {.creator = {0}};
        bool ours = i < page->count && object_key_parse(page->items[i].key, s->generation, &id) &&
                    id.creator.v < s->options.incarnation.v + env_mutant(s->env, MUTANT_SWEEP_LIVING);
        if (ours) note_size(w, id, page->items[i].size_bytes);
        if (n > 0 && (i == page->count || (ours && id.creator.v != ids[0].creator.v))) {
            e = sweep_creator(w, ids, n);
            n = 0;
        }
        if (ours) ids[n++] = id;
    }
    mem_free(s->mem, ids);
    return e == OK ? sweep_flush(w) : e;
}

static enum err sweep_prefix(struct sweep *w, const char *prefix) {
    struct streams *s = w->s;
    char *after = NULL;
    bool more = true;
    enum err e = OK;
    while (e == OK && more && !s->closing) {
        struct store_listing page;
        e = store_list(s->store, prefix, after, 1000, STORE_FOR_DELETION, &page);
        if (e == OK) e = sweep_page(w, &page);
        more = e == OK && page.more && page.count > 0;
        mem_free(s->mem, after);
        after = more ? mem_strdup(s->mem, page.items[page.count - 1].key) : NULL;
        store_listing_deinit(&page);
    }
    mem_free(s->mem, after);
    return e;
}

/* Objects in parts that a dead incarnation began and did not finish. No entry names what never became an object, and
 * nobody but its creator, who is fenced, could make it one. What this incarnation begins, it gives up itself. The store may
 * not let us look, or not have such a list: that keeps nobody from the rest, and rules of buckets do the same. Suspends. */
static enum err sweep_uploads(struct sweep *w) {
    struct streams *s = w->s;
    struct store_uploads left;
    enum err e = store_uploads(s->store, s->generation, STORE_FOR_DELETION, &left);
    uint64_t given_up = 0;
    for (size_t i = 0; i < left.count && e == OK && !s->closing && !s->fenced; i++) {
        struct object_id id;
        bool due = object_key_parse(left.items[i].key, s->generation, &id) && id.creator.v < s->options.incarnation.v;
        if (!due) continue;
        e = store_upload_abort(s->store, left.items[i].key, left.items[i].id, STORE_FOR_DELETION);
        given_up += e == OK;
    }
    store_uploads_deinit(&left);
    if (given_up > 0)
        log_info(s->env->log, "gave up unfinished uploads of earlier incarnations", "count=%" PRIu64, given_up);
    return e;
}

static void uploads_give_up(struct sweep *w) {
    unsigned attempt = 0;
    enum err e;
    while ((e = sweep_uploads(w)) != OK && ++attempt < UPLOADS_ATTEMPTS && !w->s->closing && !w->s->fenced)
        env_backoff(w->s->env, attempt, 100 * NS_PER_MS, 5 * NS_PER_S);
    if (e != OK && !w->s->closing && !w->s->fenced)
        log_warn(w->s->env->log,
                 "unfinished uploads of earlier incarnations were not given up: the next start tries again", "error=%s",
                 err_name(e));
}

enum err streams_sweep(struct streams *s, struct incarnation *oldest) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    ASSERT(s->started);
    struct sweep w = {.s = s, .oldest = s->options.incarnation};
    waitgroup_add(&s->background);
    char prefix[OBJECT_KEY_MAX];
    static const char *const kinds[] = {"ledger", "data"};
    enum err e = OK;
    for (size_t k = 0; k < ARRAY_LEN(kinds) && e == OK; k++) {
        struct buf b;
        buf_init(&b, s->mem);
        buf_printf(&b, "%s/%s/", s->generation, kinds[k]);
        buf_u8(&b, 0);
        ASSERT(b.size <= sizeof(prefix));
        memcpy(prefix, b.data, b.size);
        buf_deinit(&b);
        e = sweep_prefix(&w, prefix);
    }
    if (e == OK) uploads_give_up(&w);
    if (e == OK && s->mirror) wal_mirror_sweep(s->mirror, s->options.incarnation, &s->closing);
    /* It may have looked at a part only. */
    if (e == OK && (s->closing || s->fenced)) e = s->fenced ? ERR_FENCED : ERR_CLOSED;
    *oldest = w.oldest;
    if (w.deleted > 0) log_info(s->env->log, "swept objects of earlier incarnations", "deleted=%" PRIu64, w.deleted);
    waitgroup_done(&s->background);
    return e;
}
