/* Deleting what the cluster log no longer needs: numbers below a boundary that a durable entry carries (rule 4 of the
 * object log). Elections and fences stay for ever, to stop whoever still believes to be there, unless the store is
 * exclusive: then every earlier holder is known to be dead.
 *
 * The kinds of entries that were replayed or appended are remembered. What an earlier broker left below the snapshot
 * that the replay began with is found by one LIST; the snapshot says up to where an earlier one had cleaned already, so
 * that elections that stay are not looked at at every start.
 *
 * All of it is in the background and may fail: what is left is found again later. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "meta/meta_priv.h"

#define LIST_PAGE 1000u
#define META_KEY_MAX 512u
#define RETRY_NS (60 * NS_PER_S)

static bool number_parse(const struct meta *m, const char *key, uint64_t *number) {
    size_t n = strlen(m->prefix);
    char again[META_KEY_MAX];
    if (strncmp(key, m->prefix, n) != 0 || key[n] != '/') return false;
    *number = strtoull(key + n + 1, NULL, 10);
    objlog_key(again, sizeof(again), m->prefix, *number);
    return strcmp(again, key) == 0;
}

/* Whether the entry is an election or a fence; what cannot be read is left alone as if it were. */
static enum err takeover_find(struct meta *m, const char *key, bool *takeover) {
    struct slice s = {0};
    struct objlog_header h;
    enum err e = store_get(m->store, key, 0, OBJLOG_HEADER_SIZE, STORE_FOR_CLUSTER_LOG, &s);
    *takeover = true;
    if (e == OK && objlog_header_decode(s.data, s.size, &h) == OK)
        *takeover = h.kind == OBJLOG_ELECTION || h.kind == OBJLOG_FENCE;
    slice_unref(&s);
    return e == ERR_NOT_FOUND ? OK : e;
}

struct found {
    struct meta_entry *entries;
    size_t count, capacity;
};

/* Adds the entries of one page that lie below the replay's beginning. *more: there may be others behind it. */
static enum err page_add(struct meta *m, const char *after, struct found *f, char last[META_KEY_MAX], bool *more) {
    char prefix[META_KEY_MAX];
    struct store_listing page;
    snprintf(prefix, sizeof(prefix), "%s/", m->prefix);
    enum err e = store_list(m->store, prefix, after, LIST_PAGE, STORE_FOR_CLUSTER_LOG, &page);
    *more = e == OK && page.more && page.count > 0;
    for (size_t i = 0; e == OK && i < page.count; i++) {
        const char *key = page.items[i].key;
        struct meta_entry x = {0};
        snprintf(last, META_KEY_MAX, "%s", key);
        if (!number_parse(m, key, &x.number)) continue;
        if (x.number >= m->first_entry) {
            *more = false;
            break;
        }
        if (!m->store->exclusive) e = takeover_find(m, key, &x.takeover);
        f->entries = mem_grow(m->env->mem, f->entries, f->count, &f->capacity, sizeof(*f->entries));
        f->entries[f->count++] = x;
    }
    store_listing_deinit(&page);
    return e;
}

static enum err leftovers_list(struct meta *m) {
    char after[META_KEY_MAX], last[META_KEY_MAX] = "";
    struct found f = {0};
    bool from_start = m->store->exclusive || m->image.cleaned_below == 0, more = true;
    if (!from_start) objlog_key(after, sizeof(after), m->prefix, m->image.cleaned_below - 1);
    enum err e = OK;
    while (e == OK && more) {
        e = page_add(m, from_start ? NULL : after, &f, last, &more);
        memcpy(after, last, sizeof(after));
        from_start = false;
    }
    if (e == OK) {
        for (size_t i = 0; i < f.count; i++)
            meta_entry_note(m, f.entries[i].number, f.entries[i].takeover ? OBJLOG_ELECTION : OBJLOG_DATA);
        m->listed = true;
    }
    mem_free(m->env->mem, f.entries);
    return e;
}

/* Deletes what may be deleted below that number. */
static enum err delete_below(struct meta *m, uint64_t below) {
    uint64_t *numbers = mem_alloc(m->env->mem, m->entry_count * sizeof(*numbers));
    size_t count = 0;
    for (size_t i = 0; i < m->entry_count; i++) {
        const struct meta_entry *x = &m->entries[i];
        if (x->number < below && (m->store->exclusive || !x->takeover)) numbers[count++] = x->number;
    }
    enum err e = objlog_delete(m->store, m->prefix, numbers, count);
    mem_free(m->env->mem, numbers);
    if (e != OK) return e;
    size_t kept = 0;
    for (size_t i = 0; i < m->entry_count; i++) {
        if (m->entries[i].number >= below) m->entries[kept++] = m->entries[i];
    }
    m->entry_count = kept;
    m->image.cleaned_below = below;
    metric_add(m->env->metrics, M_OBJECTS_DELETED, 0, count);
    return OK;
}

static void clean_fiber(void *arg) {
    struct meta *m = arg;
    enum err e = m->listed ? OK : leftovers_list(m);
    if (e == OK) e = delete_below(m, objlog_deletable_below(m->log));
    if (e != OK) {
        m->clean_after_ns = env_now_ns(m->env) + RETRY_NS;
        log_info(m->env->log, "old entries of the cluster log were not deleted", "cluster_id=%s error=%s",
                 m->cluster_id, err_name(e));
    }
    m->cleaning = false;
    waitq_wake_all(&m->idle);
}

void meta_clean_start(struct meta *m) {
    uint64_t below = objlog_deletable_below(m->log);
    ASSERT(below <= objlog_boundary(m->log));
    bool due = below > m->image.cleaned_below || (!m->listed && below > 0);
    if (!due || m->cleaning || m->closing || m->fenced || env_now_ns(m->env) < m->clean_after_ns) return;
    m->cleaning = true;
    fiber_spawn(loop_current(), "meta clean", clean_fiber, m);
}
