/* Deleting what nothing needs. An object goes only after the durable entry that justifies it; entries of our own
 * ledger only once they are no longer log (objlog rule 4). */
#include <inttypes.h>

#include "base/assert.h"
#include "stream/streams_priv.h"

#define DELETE_BATCH 64u

static bool deletable(const struct streams *s, const struct object_use *use) {
    if (use->ranges > 0 || use->pins > 0) return false;
    /* Until the recoveries are in the cluster log, the next start replays the dead ledgers again: their entries are
     * log, and their objects in use. */
    if (use->id.creator.v != s->options.incarnation.v) return s->store->exclusive && s->started;
    if (use->id.kind == OBJECT_DATA || OX_UNLIKELY(s->options.mutant == STREAM_MUTANT_DELETE_LOG)) return true;
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
    enum err e = store_delete(s->store, list, n, STORE_FOR_OTHER);
    if (e == OK) metric_add(s->env->metrics, M_OBJECTS_DELETED, 0, n);
    return e;
}

static void collect(void *arg) {
    struct streams *s = arg;
    struct object_id ids[DELETE_BATCH];
    size_t n;
    while (!s->closing && (n = take(s, ids, DELETE_BATCH)) > 0) {
        /* The store may be away for hours. What is still not deleted at a close is found by the sweep of a later start,
         * where there is one: only where the store is exclusive. */
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

static bool swept_away(struct streams *s, const char *key, struct object_id *id) {
    if (!object_key_parse(key, s->generation, id)) return false;
    if (id->creator.v >= s->options.incarnation.v) return false;
    struct object_use *use = object_uses_get(&s->uses, *id);
    return !use || (use->ranges == 0 && use->pins == 0 && !use->listed);
}

/* After a failure: true when it is worth repeating, having waited. */
static bool sweep_again(struct streams *s, enum err e, unsigned *attempt) {
    if (err_class(e) == ERR_CLASS_FATAL || s->closing) return false;
    env_backoff(s->env, (*attempt)++, 100 * NS_PER_MS, 5 * NS_PER_S);
    return !s->closing;
}

static enum err sweep_list(struct streams *s, const char *prefix, const char *after, struct store_listing *page) {
    unsigned attempt = 0;
    for (;;) {
        enum err e = store_list(s->store, prefix, after, 1000, STORE_FOR_OTHER, page);
        if (e == OK || !sweep_again(s, e, &attempt)) return e;
        store_listing_deinit(page);
    }
}

static enum err sweep_delete(struct streams *s, const struct object_id *ids, size_t n) {
    unsigned attempt = 0;
    for (;;) {
        enum err e = delete_objects(s, ids, n);
        if (e == OK || !sweep_again(s, e, &attempt)) return e;
    }
}

static enum err sweep_prefix(struct streams *s, const char *prefix, struct incarnation *oldest, uint64_t *deleted) {
    char *after = NULL;
    bool more = true;
    enum err e = OK;
    while (e == OK && more && !s->closing) {
        struct store_listing page;
        e = sweep_list(s, prefix, after, &page);
        struct object_id ids[DELETE_BATCH];
        size_t n = 0;
        for (size_t i = 0; e == OK && i < page.count; i++) {
            struct object_id id;
            if (swept_away(s, page.items[i].key, &id)) {
                ids[n++] = id;
            } else if (object_key_parse(page.items[i].key, s->generation, &id) && id.creator.v < oldest->v) {
                *oldest = id.creator;
            }
            if (n == DELETE_BATCH || (n > 0 && i + 1 == page.count)) {
                e = sweep_delete(s, ids, n);
                *deleted += n;
                n = 0;
            }
        }
        more = e == OK && page.more && page.count > 0;
        mem_free(s->mem, after);
        after = more ? mem_strdup(s->mem, page.items[page.count - 1].key) : NULL;
        store_listing_deinit(&page);
    }
    mem_free(s->mem, after);
    return e;
}

enum err streams_sweep(struct streams *s, struct incarnation *oldest) {
    CHECK_OBJ(s, STREAMS_MAGIC);
    *oldest = s->options.incarnation;
    if (!s->store->exclusive) return ERR_UNSUPPORTED;
    waitgroup_add(&s->background);
    uint64_t deleted = 0;
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
        e = sweep_prefix(s, prefix, oldest, &deleted);
    }
    if (deleted > 0) log_info(s->env->log, "swept objects of earlier incarnations", "deleted=%" PRIu64, deleted);
    waitgroup_done(&s->background);
    return e;
}
