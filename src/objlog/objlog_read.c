/* Reading an object log: one entry, and the replay of all that matters.
 *
 * A replay finds the highest number by LIST, takes the boundary that this entry carries, and walks from there to the
 * first hole or fence. Trimming may go on meanwhile, by a writer that is alive or by one that came after; so a hole
 * proves nothing by itself. Where something lies above the hole, each entry there is asked for its boundary: one above
 * the hole says that the hole is no hole but a number that was deleted, and the replay begins again at that boundary.
 * The last entry read may also be an island: a fence or an election that somebody with an old position put into a
 * deleted number. Then the next entry names another predecessor, and the replay begins anew (ERR_STALE).
 *
 * Each new beginning is caused by somebody's progress, except when the log is damaged; so only those without progress
 * are counted. */
#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/format.h"
#include "objlog/objlog_priv.h"

#define LIST_PAGE 1000u
#define RESTARTS_MAX 16u
/* A failing device, as opposed to a store that is not there now, is reported after this many attempts. */
#define IO_ATTEMPTS_MAX 10u

/* After a failed read: true when it is worth repeating, having waited. The store may be gone for hours, and a restart
 * of the broker would not help. */
static bool read_again(struct objlog *l, enum err e, unsigned *attempt) {
    ASSERT(e != OK);
    if (l->stopped || err_class(e) == ERR_CLASS_FATAL) return false;
    if (e == ERR_IO && *attempt >= IO_ATTEMPTS_MAX) return false;
    if (*attempt == 0)
        log_warn(l->env->log, "object log read fails and is repeated", "prefix=%s error=%s", l->prefix, err_name(e));
    *attempt += 1;
    objlog_backoff(l, *attempt);
    return !l->stopped;
}

static enum err stopped_or(const struct objlog *l, enum err e) {
    return e != OK && l->stopped ? ERR_CANCELLED : e;
}

/* An entry that a newer program made, by version or by kind: says so. */
static void say_newer(struct store *s, const char *key, struct slice header) {
    unsigned version = format_found(FORMAT_LOG_ENTRY, header.data, header.size);
    bool kind = version <= FORMAT_LOG_ENTRY_NEWEST;
    format_newer(s->env->log, kind ? FORMAT_LOG_ENTRY_KIND : FORMAT_LOG_ENTRY,
                 kind ? format_found(FORMAT_LOG_ENTRY_KIND, header.data, header.size) : version, "key=%s", key);
}

/* A header by itself: 128 bytes. */
static enum err header_read(struct objlog *l, uint64_t number, struct objlog_header *out) {
    char key[OBJLOG_KEY_MAX];
    objlog_key(key, sizeof(key), l->prefix, number);
    struct slice s = {0};
    unsigned attempt = 0;
    enum err e;
    while ((e = store_get(l->store, key, 0, OBJLOG_HEADER_SIZE, l->purpose, &s)) != OK && read_again(l, e, &attempt)) {
    }
    if (e != OK) return stopped_or(l, e);
    e = objlog_header_decode(s.data, s.size, out);
    if (e == OK && out->number != number) e = ERR_CORRUPT;
    if (e == ERR_VERSION) say_newer(l->store, key, s);
    slice_unref(&s);
    if (e != OK)
        log_error(l->env->log, "object log entry refused", "key=%s error=%s reason=\"%s\"", key, err_name(e),
                  err_text(e));
    return e;
}

/* What is asked for is one GET's answer as a whole: between two, the entry can have been deleted, and another writer can
 * have put one of its own under the number. So a head that is longer than was thought is read from the front again. */
enum err objlog_read(struct store *s, const char *prefix, uint64_t number, enum store_purpose purpose,
                     struct objlog_entry *out) {
    *out = (struct objlog_entry){0};
    char key[OBJLOG_KEY_MAX];
    objlog_key(key, sizeof(key), prefix, number);
    struct objlog_header *h = &out->header;
    struct slice front = {0};
    uint64_t asked, wanted = OBJLOG_READ_SIZE;
    enum err e;
    do {
        slice_unref(&front);
        asked = wanted;
        e = store_get(s, key, 0, (size_t)asked, purpose, &front);
        if (e != OK) return e;
        e = objlog_header_decode(front.data, front.size, h);
        if (e == ERR_VERSION) say_newer(s, key, front);
        if (e != OK) goto out;
        wanted = OBJLOG_HEADER_SIZE + h->head_size;
    } while (wanted > asked);
    uint64_t end = wanted + h->body_size;
    if (h->number != number) {
        e = ERR_CORRUPT;                                  /* an object that was copied to another's place */
    } else if (front.size < asked && front.size != end) { /* all of the object is here */
        e = front.size < end ? ERR_TRUNCATED : ERR_CORRUPT;
    } else {
        out->head = slice_sub(front, OBJLOG_HEADER_SIZE, (size_t)h->head_size);
        if (crc32c(0, out->head.data, out->head.size) != h->head_crc) e = ERR_CORRUPT;
    }
out:
    slice_unref(&front);
    if (e != OK) objlog_entry_deinit(out);
    return e;
}

void objlog_entry_deinit(struct objlog_entry *e) {
    slice_unref(&e->head);
    *e = (struct objlog_entry){0};
}

static enum err entry_read(struct objlog *l, uint64_t number, struct objlog_entry *out) {
    unsigned attempt = 0;
    enum err e;
    while ((e = objlog_read(l->store, l->prefix, number, l->purpose, out)) != OK && e != ERR_NOT_FOUND &&
           read_again(l, e, &attempt)) {
    }
    if (e != OK && e != ERR_NOT_FOUND && !l->stopped) {
        log_error(l->env->log, "object log entry cannot be read", "prefix=%s number=%" PRIu64 " error=%s reason=\"%s\"",
                  l->prefix, number, err_name(e), err_text(e));
    }
    return stopped_or(l, e);
}

static enum err list_page(struct objlog *l, const char *after, struct store_listing *out) {
    char prefix[OBJLOG_KEY_MAX];
    size_t n = strlen(l->prefix);
    ASSERT(n + 2 <= sizeof(prefix));
    memcpy(prefix, l->prefix, n);
    memcpy(prefix + n, "/", 2);
    unsigned attempt = 0;
    for (;;) {
        enum err e = store_list(l->store, prefix, after, LIST_PAGE, l->purpose, out);
        if (e == OK) return OK;
        store_listing_deinit(out);
        if (!read_again(l, e, &attempt)) return stopped_or(l, e);
    }
}

/* The highest number that a LIST shows. Elections of the past may be many, so pages are skipped in doubling steps:
 * whether anything lies above x can be asked for any x. */
static enum err highest_find(struct objlog *l, bool *found, uint64_t *highest) {
    char after[OBJLOG_KEY_MAX];
    uint64_t step = 0;
    *found = false;
    for (;;) {
        bool from_start = !*found && step == 0;
        if (!from_start)
            objlog_key(after, sizeof(after), l->prefix, *highest > UINT64_MAX - step ? UINT64_MAX : *highest + step);
        struct store_listing page;
        enum err e = list_page(l, from_start ? NULL : after, &page);
        if (e != OK) return e;
        bool any = false, more = page.more;
        for (size_t i = page.count; i > 0 && !any; i--) {
            uint64_t number;
            if (!objlog_key_parse(l->prefix, page.items[i - 1].key, &number)) continue;
            ASSERT(!*found || number > *highest);
            *highest = number;
            any = *found = true;
        }
        store_listing_deinit(&page);
        if (any && more) {
            step = step ? step * 2 : LIST_PAGE;
        } else if (!any && step > 0) {
            step = 0;
        } else {
            return OK;
        }
    }
}

/* Numbers above n that a LIST begun now shows, ascending; *out is allocated from the environment's memory. */
static enum err numbers_above(struct objlog *l, uint64_t n, uint64_t **out, size_t *count) {
    char after[OBJLOG_KEY_MAX];
    uint64_t *numbers = NULL, last = n;
    size_t used = 0, capacity = 0;
    enum err e = OK;
    for (bool more = true; more;) {
        objlog_key(after, sizeof(after), l->prefix, last);
        struct store_listing page;
        e = list_page(l, after, &page);
        if (e != OK) break;
        more = false;
        for (size_t i = 0; i < page.count; i++) {
            uint64_t number;
            if (!objlog_key_parse(l->prefix, page.items[i].key, &number)) continue;
            ASSERT(number > last);
            numbers = mem_grow(l->env->mem, numbers, used, &capacity, sizeof(*numbers));
            numbers[used++] = last = number;
            more = page.more;
        }
        store_listing_deinit(&page);
    }
    *out = numbers;
    *count = used;
    return e;
}

enum err objlog_check_above(struct objlog *l, uint64_t n, uint64_t *boundary) {
    *boundary = 0;
    uint64_t *numbers;
    size_t count;
    enum err e = numbers_above(l, n, &numbers, &count);
    /* From the highest down: if n was trimmed there may be many, and the highest knows it nearly always. */
    while (e == OK && count > 0 && *boundary == 0) {
        struct objlog_header h;
        e = header_read(l, numbers[--count], &h);
        if (e == OK && h.boundary > n) *boundary = h.boundary;
        /* Only numbers below a boundary are deleted, so that boundary is above n too. */
        if (e == ERR_NOT_FOUND) e = ERR_STALE;
    }
    mem_free(l->env->mem, numbers);
    return e;
}

static void position_set(struct objlog *l, uint64_t start) {
    l->next = l->durable = start;
    l->last = (struct objlog_nonce){{0}};
    l->last_known = start == 0;
    l->boundary = l->carried = 0;
    l->at_fence = false;
}

/* Takes one entry, which lies at `next`, into the state. */
static enum err entry_apply(struct objlog *l, const struct objlog_replay *replay, const struct objlog_entry *entry,
                            const struct objlog_nonce *skip) {
    const struct objlog_header *h = &entry->header;
    ASSERT(h->number == l->next && !l->at_fence);
    bool ahead = h->kind == OBJLOG_FENCE && objlog_nonce_is_zero(&h->previous);
    bool follows = objlog_nonce_equal(&h->previous, &l->last) || env_mutant(l->env, MUTANT_NO_PREDECESSOR);
    if (l->last_known && !ahead && !follows) return ERR_STALE;
    /* A walk begins at a checkpoint. Anything else there is an island in a number that was trimmed after its boundary
     * was read. */
    if (!l->last_known && h->kind != OBJLOG_CHECKPOINT) return ERR_STALE;
    if (l->last_known && h->boundary > l->boundary && !l->trimmed) {
        log_error(l->env->log, "object log entry names a boundary that is no checkpoint",
                  "prefix=%s number=%" PRIu64 " boundary=%" PRIu64, l->prefix, h->number, h->boundary);
        return ERR_CORRUPT;
    }
    if (!skip || !objlog_nonce_equal(&h->nonce, skip)) {
        enum err e = replay->apply(replay->ctx, entry);
        if (e != OK) return e;
    }
    if (h->boundary > l->carried) l->carried = h->boundary;
    if (h->kind == OBJLOG_FENCE) {
        l->at_fence = true;
        l->fence_nonce = h->nonce;
        return OK;
    }
    if (h->kind == OBJLOG_CHECKPOINT && (!l->trimmed || !l->last_known)) l->boundary = h->number;
    /* Of a log that is trimmed each entry could be the boundary; its owner says which one is. What is put here later, a
     * fence, must carry no other: who comes next begins there. */
    if (l->trimmed && h->boundary > l->boundary) l->boundary = h->boundary;
    l->last = h->nonce;
    l->last_known = true;
    l->durable = ++l->next;
    return OK;
}

enum err objlog_walk(struct objlog *l, const struct objlog_replay *replay, const struct objlog_nonce *skip,
                     unsigned *elections) {
    while (!l->at_fence) {
        struct objlog_entry entry;
        enum err e = entry_read(l, l->next, &entry);
        if (e == ERR_NOT_FOUND && env_mutant(l->env, MUTANT_IGNORE_HOLE)) {
            e = entry_read(l, l->next + 1, &entry);
            if (e == OK) l->last = entry.header.previous;
            if (e == OK) l->next++;
        }
        if (e == ERR_NOT_FOUND) return OK;
        if (e != OK) return e;
        if (entry.header.kind == OBJLOG_ELECTION && elections) *elections += 1;
        e = entry_apply(l, replay, &entry, skip);
        objlog_entry_deinit(&entry);
        if (e != OK) return e;
    }
    return OK;
}

/* One replay from `start` on, with new beginnings at higher boundaries as they are found. `highest`: a number known to
 * be listed. */
static enum err replay_from(struct objlog *l, const struct objlog_replay *replay, uint64_t start, uint64_t highest,
                            const struct objlog_nonce *skip, unsigned *elections) {
    for (;;) {
        position_set(l, start);
        enum err e = objlog_walk(l, replay, skip, elections);
        if (e != OK) return e;
        uint64_t boundary = 0;
        bool listed_gone = l->next == highest && !l->at_fence; /* it was listed, and is a hole now */
        if (l->next < highest || listed_gone) {
            e = objlog_check_above(l, l->next, &boundary);
            if (e != OK) return e;
        }
        /* Or the checkpoint at `start` is gone. Nothing tells why yet. */
        if (boundary == 0) return l->last_known && !listed_gone ? OK : ERR_STALE;
        ASSERT(boundary > l->next);
        replay->reset(replay->ctx);
        start = boundary;
    }
}

enum err objlog_reload(struct objlog *l, const struct objlog_replay *replay, uint64_t start,
                       const struct objlog_nonce *skip, unsigned *elections) {
    uint64_t furthest = 0;
    unsigned restarts = 0;
    for (bool first = true;; first = false) {
        uint64_t highest = start;
        if (!first || start == 0) {
            bool found;
            enum err e = highest_find(l, &found, &highest);
            if (e != OK) return e;
            if (!found) {
                position_set(l, 0);
                return ERR_NOT_FOUND;
            }
            struct objlog_header h;
            e = header_read(l, highest, &h);
            if (e != OK && e != ERR_NOT_FOUND) return e;
            /* Gone already? Then begin anywhere; the check at the hole leads on. */
            start = e == OK ? h.boundary : 0;
        }
        enum err e = replay_from(l, replay, start, highest, skip, elections);
        if (e != ERR_STALE) return e;
        replay->reset(replay->ctx);
        if (l->stopped) return ERR_CANCELLED;
        if (l->next > furthest) {
            furthest = l->next;
            restarts = 0;
        } else if (++restarts > RESTARTS_MAX) {
            log_error(l->env->log, "object log does not hold together", "prefix=%s number=%" PRIu64 " restarts=%u",
                      l->prefix, l->next, restarts);
            return ERR_CORRUPT;
        }
        objlog_backoff(l, 1);
    }
}

enum err objlog_recover(struct objlog *l, const struct objlog_replay *replay) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    ASSERT(replay && replay->apply && replay->reset);
    ASSERT(l->appending == 0);
    l->writable = false;
    l->fenced_at = UINT64_MAX;
    return objlog_reload(l, replay, 0, NULL, NULL);
}
