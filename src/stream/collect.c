/* Deleting what nothing needs. An object goes only after the durable entry that justifies it; entries of our own
 * ledger only once they are no longer log (objlog rule 4).
 *
 * There are objects that cannot be deleted: under a policy, a lock, in a folder that is not ours to change. They keep
 * nobody from the others. Each is tried again, after ten seconds first, and then less and less often, to once an hour; of
 * each no more is known than its id and when that is, of at most STUCK_MAX. What is forgotten, and what a process
 * leaves, is found by the sweep of a later start. A store that is away is something else: what was to be deleted waits for
 * it. */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"

#define DELETE_BATCH 64u
#define UPLOADS_ATTEMPTS 60u
#define STUCK_MAX 8192u
#define STUCK_FIRST_NS (10 * NS_PER_S)
#define STUCK_LAST_NS (3600 * NS_PER_S)
#define STUCK_TELL_NS (3600 * NS_PER_S)

static bool deletable(const struct streams *s, const struct object_use *use) {
    if (use->ranges > 0 || use->pins > 0) return false;
    /* Until the recoveries are in the cluster log, the next start replays the dead ledgers again: their entries are
     * log, and their objects in use. From then on nobody does, and their creators find the fences. */
    if (use->id.creator.v != s->options.incarnation.v) return s->started || env_mutant(s->env, MUTANT_FREE_UNCOMMITTED);
    if (use->id.kind == OBJECT_DATA || env_mutant(s->env, MUTANT_DELETE_LOG)) return true;
    uint64_t below = objlog_deletable_below(s->log);
    return use->id.number < below && use->not_before <= below;
}

/* ---- what the store refuses to delete ---- */

/* When it is due again after so many refusals before this one: at times that it shares with others, for one request
 * each. */
static uint64_t stuck_again_ns(uint64_t now_ns, unsigned refusals) {
    uint64_t ns = STUCK_FIRST_NS << (refusals < 16 ? refusals : 16);
    if (ns > STUCK_LAST_NS) ns = STUCK_LAST_NS;
    return (now_ns + ns + ns / 2) / (ns / 2) * (ns / 2);
}

static void stuck_add(struct streams *s, struct object_id id, unsigned refusals) {
    struct stuck_objects *k = &s->stuck;
    if (env_mutant(s->env, MUTANT_REFUSED_FORGOTTEN)) return;
    bool swept = refusals == 0 && id.creator.v != s->options.incarnation.v; /* perhaps for a second time */
    for (size_t i = 0; i < k->count && swept; i++) {
        if (object_id_equal(k->items[i].id, id)) return;
    }
    if (k->count == STUCK_MAX) {
        k->forgotten++;
        return;
    }
    k->items = mem_grow(s->mem, k->items, k->count, &k->capacity, sizeof(*k->items));
    k->items[k->count++] = (struct stuck_object){id, stuck_again_ns(env_now_ns(s->env), refusals), refusals + 1};
}

static uint64_t stuck_due_ns(const struct streams *s) {
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < s->stuck.count; i++) {
        if (s->stuck.items[i].due_ns < due) due = s->stuck.items[i].due_ns;
    }
    return due;
}

/* Not each time: the operator has to know of it, and what to look at, once in a while. */
static void stuck_tell(struct streams *s, struct object_id id, enum err e) {
    struct stuck_objects *k = &s->stuck;
    uint64_t now_ns = env_now_ns(s->env);
    if (k->told && now_ns - k->told_ns < STUCK_TELL_NS) return;
    k->told = true;
    k->told_ns = now_ns;
    char key[OBJECT_KEY_MAX];
    object_key(key, s->generation, id);
    log_warn(s->env->log,
             "an object that nothing needs cannot be deleted; it is tried again, less and less often: may this broker "
             "delete in the store (s3:DeleteObject; of a folder, its modes), and is the object under a lock or policy?",
             "key=%s error=%s objects=%" PRIu64, key, err_name(e), k->count + k->forgotten);
}

/* The next look, and what metrics say. */
static void stuck_changed(struct streams *s) {
    struct stuck_objects *k = &s->stuck;
    metric_set(s->env->metrics, M_OBJECTS_STUCK, (int64_t)(k->count + k->forgotten));
    uint64_t due = stuck_due_ns(s);
    if (due == UINT64_MAX || s->closing)
        timer_disarm(&s->stuck_timer);
    else
        timer_arm(&s->stuck_timer, due);
}

void collect_stuck_due(struct timer *t) {
    collect_poke(CONTAINER_OF(t, struct streams, stuck_timer));
}

/* ---- deleting ---- */

struct batch {
    struct object_id ids[DELETE_BATCH];
    unsigned refusals[DELETE_BATCH]; /* so far */
    size_t count;
};

static void batch_add(struct batch *b, struct object_id id, unsigned refusals) {
    ASSERT(b->count < DELETE_BATCH);
    b->ids[b->count] = id;
    b->refusals[b->count++] = refusals;
}

/* Takes deletable ids off the garbage list, as many as there is room for. */
static void take(struct streams *s, struct batch *b) {
    struct object_uses *u = &s->uses;
    size_t kept = 0;
    for (size_t i = 0; i < u->garbage_count; i++) {
        struct object_use *use = u->garbage[i];
        if (use->ranges > 0 || use->pins > 0) {
            use->listed = false; /* in use again */
        } else if (b->count < DELETE_BATCH && deletable(s, use)) {
            batch_add(b, use->id, 0);
            object_uses_forget(u, use);
        } else {
            u->garbage[kept++] = use;
        }
    }
    u->garbage_count = kept;
}

/* Takes those that are due again. */
static void take_stuck(struct streams *s, struct batch *b) {
    struct stuck_objects *k = &s->stuck;
    uint64_t now_ns = env_now_ns(s->env);
    size_t kept = 0;
    for (size_t i = 0; i < k->count; i++) {
        struct stuck_object *x = &k->items[i];
        if (b->count < DELETE_BATCH && x->due_ns <= now_ns)
            batch_add(b, x->id, x->refusals);
        else
            k->items[kept++] = *x;
    }
    k->count = kept;
}

/* Deletes them; those that the store refuses are tried again later. Then the batch is empty. An error: of all of them
 * alike, and nothing has changed. Suspends. */
static enum err batch_delete(struct streams *s, struct batch *b, uint64_t *deleted) {
    char keys[DELETE_BATCH][OBJECT_KEY_MAX];
    const char *list[DELETE_BATCH];
    enum err each[DELETE_BATCH];
    for (size_t i = 0; i < b->count; i++) {
        object_key(keys[i], s->generation, b->ids[i]);
        list[i] = keys[i];
    }
    enum err e = store_delete_each(s->store, list, b->count, STORE_FOR_DELETION, each);
    if (e != OK) return e;
    size_t gone = 0, first = b->count;
    for (size_t i = 0; i < b->count; i++) {
        gone += each[i] == OK;
        if (each[i] == OK) continue;
        if (env_mutant(s->env, MUTANT_REFUSED_BLOCKS)) return each[i];
        stuck_add(s, b->ids[i], b->refusals[i]);
        /* What is no refusal may have passed the next time. */
        if (first == b->count && (each[i] == ERR_PERMISSION || b->refusals[i] > 0)) first = i;
    }
    if (first < b->count) stuck_tell(s, b->ids[first], each[first]);
    if (gone < b->count) stuck_changed(s);
    metric_add(s->env->metrics, M_OBJECTS_DELETED, 0, gone);
    if (deleted) *deleted += gone;
    b->count = 0;
    return OK;
}

static void collect(void *arg) {
    struct streams *s = arg;
    struct batch b = {.count = 0};
    unsigned attempt = 0;
    while (!s->closing) {
        if (b.count == 0) take_stuck(s, &b);
        bool again = b.count > 0 && b.refusals[0] > 0;
        if (!again) take(s, &b);
        if (b.count == 0) break;
        if (batch_delete(s, &b, NULL) == OK) {
            attempt = 0;
            continue;
        }
        /* The store is away, perhaps for hours; others may join those that wait for it. What is still not deleted at a
         * close is found by the sweep of a later start. */
        for (size_t i = 0; i < b.count && again; i++) stuck_add(s, b.ids[i], b.refusals[i] - 1);
        if (again) b.count = 0;
        env_backoff(s->env, attempt++, 100 * NS_PER_MS, 5 * NS_PER_S);
    }
    stuck_changed(s);
    s->collecting = false;
    waitgroup_done(&s->background);
}

void collect_poke(struct streams *s) {
    if (s->collecting || s->closing) return;
    if (s->uses.garbage_count == 0 && stuck_due_ns(s) > env_now_ns(s->env)) return;
    s->collecting = true;
    waitgroup_add(&s->background);
    fiber_spawn(loop_current(), "collect", collect, s);
}

/* ---- sweep ---- */

struct sweep {
    struct streams *s;
    struct incarnation oldest;
    uint64_t deleted, asked; /* of those asked for, the rest was refused */
    struct batch batch;      /* to be deleted */
};

static bool needed(const struct sweep *w, struct object_id id) {
    struct object_use *use = object_uses_get(&w->s->uses, id);
    if (env_mutant(w->s->env, MUTANT_SWEEP_USED)) return use && (use->pins > 0 || use->listed);
    return use && (use->ranges > 0 || use->pins > 0 || use->listed);
}

/* Goes past what is refused: from now on that is tried again now and then. */
static enum err sweep_flush(struct sweep *w) {
    if (w->batch.count == 0) return OK;
    size_t count = w->batch.count;
    enum err e = batch_delete(w->s, &w->batch, &w->deleted);
    if (e == OK) w->asked += count;
    w->batch.count = 0;
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
        batch_add(&w->batch, ids[i], 0);
        left--;
        if (w->batch.count == DELETE_BATCH) e = sweep_flush(w);
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
    if (env_mutant(s->env, MUTANT_UPLOADS_KEPT)) return OK;
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
    if (w.asked > 0)
        log_info(s->env->log, "swept objects of earlier incarnations", "deleted=%" PRIu64 " not_deleted=%" PRIu64,
                 w.deleted, w.asked - w.deleted);
    waitgroup_done(&s->background);
    return e;
}
