/* The bytes of a mirror's object log; its replay after its holder's death, and the sweep of what such logs leave. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/format.h"
#include "stream/wal_objects_priv.h"

#define HEAD_MAGIC "OXBWOLOG"
#define HEAD_VERSION 1u
static_assert(HEAD_VERSION == FORMAT_MIRROR_LOG_NEWEST, "one table has them all");
#define LIST_PAGE 1000u
#define DELETE_BATCH 500u

/* ---- the format ---- */

static const char folder[] = "mirror";

void wal_objects_prefix(char out[WAL_OBJECTS_PREFIX_MAX], const char *generation, struct incarnation incarnation,
                        const uint8_t id[16]) {
    int n = snprintf(out, WAL_OBJECTS_PREFIX_MAX, "%s/%s/%016" PRIx64 "-", generation, folder, incarnation.v);
    ASSERT(n > 0 && (size_t)n + 32 < WAL_OBJECTS_PREFIX_MAX);
    for (unsigned i = 0; i < 16; i++, n += 2)
        (void)snprintf(out + n, WAL_OBJECTS_PREFIX_MAX - (size_t)n, "%02x", id[i]);
}

void wal_objects_head_encode(uint8_t out[WAL_OBJECTS_HEAD_SIZE], const uint8_t id[16], uint32_t groups) {
    memset(out, 0, WAL_OBJECTS_HEAD_SIZE);
    memcpy(out, HEAD_MAGIC, 8);
    le32_put(out + 8, HEAD_VERSION);
    le32_put(out + 12, groups);
    memcpy(out + 16, id, 16);
}

enum err wal_objects_head_decode(const uint8_t *data, size_t size, const uint8_t id[16], uint32_t *groups) {
    if (size < 12) return ERR_TRUNCATED;
    if (memcmp(data, HEAD_MAGIC, 8) != 0) return ERR_FOREIGN;
    if (le32_get(data + 8) != HEAD_VERSION) return ERR_VERSION;
    if (size != WAL_OBJECTS_HEAD_SIZE) return ERR_TRUNCATED;
    if (memcmp(data + 16, id, 16) != 0) return ERR_CORRUPT;
    *groups = le32_get(data + 12);
    return OK;
}

static enum err group_read(const uint8_t *data, const struct group_header *g,
                           enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload),
                           void *ctx) {
    size_t at = GROUP_HEADER_SIZE;
    for (uint32_t i = 0; i < g->record_count; i++) {
        struct record_header h;
        const uint8_t *payload;
        enum err e = record_decode(data + at, g->size - at, g->incarnation, g->block_id, &h, &payload);
        if (e == OK && record_size(h.payload_size) > g->size - at) e = ERR_CORRUPT;
        if (e == OK) e = record(ctx, &h, payload);
        if (e != OK) return e;
        at += record_size(h.payload_size);
    }
    return at == g->size ? OK : ERR_CORRUPT;
}

enum err wal_objects_body_read(const uint8_t *data, size_t size, uint32_t groups, struct incarnation writer,
                               enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload),
                               void *ctx, uint64_t *records) {
    size_t at = 0;
    for (uint32_t i = 0; i < groups; i++) {
        struct group_header g;
        enum err e = group_decode(data + at, size - at, &g);
        if (e == OK && (g.kind != GROUP_RECORDS || g.incarnation.v != writer.v || g.size > size - at)) e = ERR_CORRUPT;
        if (e == OK) e = group_read(data + at, &g, record, ctx);
        if (e != OK) return e;
        *records += g.record_count;
        at += g.size;
    }
    return at == size ? OK : ERR_CORRUPT;
}

/* ---- replay ---- */

struct log_replay {
    struct wal_objects *w;
    const char *prefix;
    const uint8_t *id;
    struct incarnation dead;
    enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload);
    void *ctx;
    struct wal_objects_found *found;
    struct objlog *log;
    struct timer deadline;
    bool late;
};

static void deadline_passed(struct timer *t) {
    struct log_replay *r = CONTAINER_OF(t, struct log_replay, deadline);
    r->late = true;
    objlog_stop(r->log);
}

/* Gone again: its holder is alive, and trims: the replay begins anew, further up. */
static enum err body_get(struct log_replay *r, const struct objlog_header *h, struct slice *out) {
    char key[WAL_OBJECTS_PREFIX_MAX + 32];
    objlog_key(key, sizeof(key), r->prefix, h->number);
    for (unsigned attempt = 0;; attempt++) {
        enum err e =
            store_get(r->w->store, key, OBJLOG_HEADER_SIZE + h->head_size, (size_t)h->body_size, STORE_FOR_WAL, out);
        if (e == OK && out->size == h->body_size && crc32c(0, out->data, out->size) == h->body_crc) return OK;
        if (e == OK) slice_unref(out);
        if (e == ERR_NOT_FOUND) return ERR_STALE;
        if (e == OK && attempt > 3) return ERR_CORRUPT;
        if (e != OK && err_class(e) == ERR_CLASS_FATAL) return e;
        if (r->late) return ERR_TIMEOUT;
        env_backoff(r->w->env, attempt < 6 ? attempt : 6, 50 * NS_PER_MS, 2 * NS_PER_S);
    }
}

/* What was met lies in that entry: its head, or (data) the first group or record of its body that is not known here. */
static void say_newer(const struct log_replay *r, uint64_t number, enum format f, unsigned found) {
    format_newer(r->w->env->log, f, found, "key=%s/%020" PRIu64, r->prefix, number);
}

static void say_newer_in_body(const struct log_replay *r, uint64_t number, const uint8_t *data, size_t size) {
    struct group_header g;
    for (size_t at = 0; at < size; at += g.size) {
        enum err e = group_decode(data + at, size - at, &g);
        unsigned version = format_found(FORMAT_WAL_GROUP, data + at, size - at);
        if (e == ERR_VERSION && version > FORMAT_WAL_GROUP_NEWEST)
            return say_newer(r, number, FORMAT_WAL_GROUP, version);
        if (e == ERR_VERSION)
            return say_newer(r, number, FORMAT_WAL_GROUP_KIND,
                             format_found(FORMAT_WAL_GROUP_KIND, data + at, size - at));
        if (e != OK || g.size > size - at) return;
        const uint8_t *payload, *here = data + at + GROUP_HEADER_SIZE, *end = data + at + g.size;
        struct record_header h;
        for (uint32_t i = 0; i < g.record_count && here < end; i++, here += record_size(h.payload_size)) {
            e = record_decode(here, (size_t)(end - here), g.incarnation, g.block_id, &h, &payload);
            if (e == ERR_VERSION) return say_newer(r, number, FORMAT_WAL_RECORD_TYPE, (unsigned)h.type);
            if (e != OK) return;
        }
    }
}

static enum err replay_apply(void *ctx, const struct objlog_entry *n) {
    struct log_replay *r = ctx;
    const struct objlog_header *h = &n->header;
    if (h->kind == OBJLOG_FENCE) return OK;
    uint32_t groups;
    if (h->kind != OBJLOG_CHECKPOINT || h->writer != r->dead.v) return ERR_CORRUPT;
    enum err e = wal_objects_head_decode(n->head.data, n->head.size, r->id, &groups);
    if (e == ERR_VERSION)
        say_newer(r, h->number, FORMAT_MIRROR_LOG, format_found(FORMAT_MIRROR_LOG, n->head.data, n->head.size));
    if (e != OK) return e;
    r->found->entries++;
    if (h->body_size == 0) return groups == 0 ? OK : ERR_CORRUPT;
    struct slice body;
    e = body_get(r, h, &body);
    if (e != OK) return e;
    e = wal_objects_body_read(body.data, body.size, groups, r->dead, r->record, r->ctx, &r->found->records);
    if (e == ERR_VERSION) say_newer_in_body(r, h->number, body.data, body.size);
    slice_unref(&body);
    r->found->groups += groups;
    return e;
}

/* Nothing to forget: who takes the records leaves out what it has. */
static void replay_reset(void *ctx) {
    struct log_replay *r = ctx;
    *r->found = (struct wal_objects_found){0};
}

enum err wal_objects_replay(struct wal_objects *w, const char *generation, struct incarnation dead,
                            const uint8_t id[16], struct incarnation taker, uint64_t patience_ns,
                            enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload),
                            void *ctx, struct wal_objects_found *found) {
    ASSERT(w->store);
    char prefix[WAL_OBJECTS_PREFIX_MAX];
    wal_objects_prefix(prefix, generation, dead, id);
    struct objlog_options o = {
        .store = w->store, .prefix = prefix, .depth = 1, .writer = taker.v, .purpose = STORE_FOR_WAL, .trimmed = true};
    struct log_replay r = {
        .w = w, .prefix = prefix, .id = id, .dead = dead, .record = record, .ctx = ctx, .found = found};
    *found = (struct wal_objects_found){0};
    r.log = objlog_create(&o);
    timer_init(&r.deadline, deadline_passed);
    timer_arm(&r.deadline, env_now_ns(w->env) + patience_ns);
    struct objlog_replay replay = {replay_apply, replay_reset, &r};
    enum err e = objlog_recover(r.log, &replay);
    if (e == OK) { /* also when there is a fence already: whether it stands is for the takeover to find out */
        uint8_t head_bytes[8];
        le64_put(head_bytes, taker.v);
        struct slice head = slice_borrow(head_bytes, sizeof(head_bytes));
        uint64_t number;
        bool mine;
        e = objlog_take_over(r.log, OBJLOG_FENCE, &replay, &head, &number, &mine);
    }
    timer_disarm(&r.deadline);
    objlog_destroy(r.log);
    return e == ERR_CANCELLED && r.late ? ERR_TIMEOUT : e;
}

/* ---- sweep ---- */

struct sweep {
    struct wal_objects *w;
    const bool *stop;
    char *keys[DELETE_BATCH];
    size_t count;
    uint64_t deleted;
    bool refused; /* some of them */
};

static enum err sweep_flush(struct sweep *s) {
    enum err e = s->count ? store_delete(s->w->store, (const char *const *)s->keys, s->count, STORE_FOR_DELETION) : OK;
    if (e == ERR_PERMISSION) {
        s->refused = true;
        e = OK;
    } else if (e == OK) {
        s->deleted += s->count;
    }
    for (size_t i = 0; i < s->count; i++) mem_free(s->w->env->mem, s->keys[i]);
    s->count = 0;
    return e;
}

/* What cannot be told stays. */
static enum err is_fence(struct sweep *s, const char *key, bool *out) {
    struct slice data = {0};
    struct objlog_header h = {0};
    enum err e = store_get(s->w->store, key, 0, OBJLOG_HEADER_SIZE, STORE_FOR_DELETION, &data);
    if (e != OK && e != ERR_NOT_FOUND) return e;
    *out = e == OK && (objlog_header_decode(data.data, data.size, &h) != OK || h.kind == OBJLOG_FENCE);
    slice_unref(&data);
    return OK;
}

/* One log, all of whose keys are on this page or its last on the next one. A single object is its fence, or is left. */
static enum err sweep_log(struct sweep *s, const struct store_listed *items, size_t count) {
    enum err e = OK;
    bool exclusive = s->w->store->exclusive;
    for (size_t i = 0; i < count && e == OK && !*s->stop && (count > 1 || exclusive); i++) {
        bool fence = false;
        if (!exclusive) e = is_fence(s, items[i].key, &fence);
        if (e != OK || fence) continue;
        s->keys[s->count++] = mem_strdup(s->w->env->mem, items[i].key);
        if (s->count == DELETE_BATCH) e = sweep_flush(s);
    }
    return e;
}

/* The key's log: the length of what its keys have in common; 0: not of an earlier incarnation. */
static size_t earlier_log(const char *key, const char *prefix, struct incarnation self) {
    size_t size = strlen(prefix);
    if (strncmp(key, prefix, size) != 0 || strlen(key) < size + 16 + 1 + 32 + 1) return 0;
    uint64_t v = 0;
    for (size_t i = 0; i < 16; i++) {
        char c = key[size + i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return 0;
        v = v << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return key[size + 16] == '-' && key[size + 49] == '/' && v < self.v ? size + 50 : 0;
}

static enum err sweep_page(struct sweep *s, const struct store_listing *page, const char *prefix,
                           struct incarnation self) {
    enum err e = OK;
    for (size_t i = 0, end; i < page->count && e == OK && !*s->stop; i = end) {
        end = i + 1;
        size_t log = earlier_log(page->items[i].key, prefix, self);
        if (log == 0) continue;
        while (end < page->count && strncmp(page->items[end].key, page->items[i].key, log) == 0) end++;
        e = sweep_log(s, page->items + i, end - i);
    }
    enum err flushed = sweep_flush(s);
    return e == OK ? flushed : e;
}

enum err wal_objects_sweep(struct wal_objects *w, const char *generation, struct incarnation self, const bool *stop,
                           uint64_t *deleted) {
    if (!w->store) return ERR_UNAVAILABLE;
    char prefix[WAL_OBJECTS_PREFIX_MAX];
    int n = snprintf(prefix, sizeof(prefix), "%s/%s/", generation, folder);
    ASSERT(n > 0 && (size_t)n < sizeof(prefix));
    struct sweep *s = MEM_NEW(w->env->mem, struct sweep);
    s->w = w;
    s->stop = stop;
    char *after = NULL;
    enum err e = OK;
    for (bool more = true; more && e == OK && !*stop;) {
        struct store_listing page;
        e = store_list(w->store, prefix, after, LIST_PAGE, STORE_FOR_DELETION, &page);
        if (e == OK) e = sweep_page(s, &page, prefix, self);
        more = e == OK && page.more && page.count > 0;
        mem_free(w->env->mem, after);
        after = more ? mem_strdup(w->env->mem, page.items[page.count - 1].key) : NULL;
        store_listing_deinit(&page);
    }
    mem_free(w->env->mem, after);
    *deleted = s->deleted;
    if (e == OK && s->refused) e = ERR_PERMISSION;
    mem_free(w->env->mem, s);
    return e;
}
