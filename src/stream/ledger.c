#include "stream/ledger.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/format.h"

/* A failing device, as opposed to a store that is not there now, is reported after this many attempts. */
#define IO_ATTEMPTS_MAX 10u

void ledger_image_init(struct ledger_image *i, struct mem *m) {
    i->mem = m;
    map64_init(&i->streams, m);
}

static void stream_free(struct ledger_image *i, struct ledger_stream *s) {
    list_remove(&s->crowded);
    state_deinit(&s->state);
    mem_free(i->mem, s);
}

void ledger_image_deinit(struct ledger_image *i) {
    size_t cursor = 0;
    struct ledger_stream *s;
    while ((s = map64_next(&i->streams, &cursor, NULL)) != NULL) stream_free(i, s);
    map64_deinit(&i->streams);
}

struct ledger_stream *ledger_image_get(const struct ledger_image *i, struct stream_id id) {
    return map64_get(&i->streams, id.v);
}

struct ledger_stream *ledger_image_add(struct ledger_image *i, struct stream_id id, int32_t epoch) {
    ASSERT(id.v != 0);
    struct ledger_stream *s = MEM_NEW(i->mem, struct ledger_stream);
    s->id = id;
    s->epoch = epoch;
    s->dirty = true;
    list_init(&s->crowded);
    state_init(&s->state, i->mem);
    void *before = map64_put(&i->streams, id.v, s);
    ASSERT(before == NULL);
    return s;
}

void ledger_image_remove(struct ledger_image *i, struct stream_id id) {
    struct ledger_stream *s = map64_remove(&i->streams, id.v);
    if (s) stream_free(i, s);
}

void ledger_resolve_ranges(struct stream_state *delta, struct incarnation creator, uint64_t number,
                           uint64_t body_position) {
    for (size_t k = 0; k < delta->range_count; k++) {
        struct state_range *r = &delta->ranges[k];
        if (r->object.number != OBJECT_THIS_ENTRY) continue;
        r->object = (struct object_id){creator, number, OBJECT_LEDGER_ENTRY};
        r->position += body_position;
    }
}

/* ---- replay ---- */

struct replay {
    struct ledger_image *image;
    struct store *store;
    const char *generation;
    struct incarnation creator;
    uint64_t number, body_position;
    const struct ledger_filter *filter;
};

/* What was decoded with `e` lies in that entry of the ledger. */
static enum err say_newer(const struct replay *r, enum err e, enum format f, unsigned found, uint64_t entry) {
    if (e != ERR_VERSION) return e;
    char key[OBJECT_KEY_MAX];
    object_key(key, r->generation, (struct object_id){r->creator, entry, OBJECT_LEDGER_ENTRY});
    format_newer(r->store->env->log, f, found, "key=%s", key);
    return e;
}

static enum err apply_section(struct replay *r, const struct object_section *section) {
    int32_t epoch;
    if (!r->filter->is_current(r->filter->ctx, section->stream, &epoch) || epoch != section->epoch) return OK;
    struct ledger_stream *s = ledger_image_get(r->image, section->stream);
    if (!s) s = ledger_image_add(r->image, section->stream, epoch);
    if (s->refused) return OK;
    struct stream_state delta;
    struct reader reader = reader_of(section->delta, section->delta_size);
    enum err e = state_decode(&delta, r->image->mem, &reader);
    if (e == OK && !delta.delta) {
        state_deinit(&delta);
        e = ERR_CORRUPT;
    }
    if (e != OK)
        return say_newer(r, e, FORMAT_STATE, format_found(FORMAT_STATE, section->delta, section->delta_size),
                         r->number);
    ledger_resolve_ranges(&delta, r->creator, r->number, r->body_position);
    if (section->kind == OBJECT_APPENDED) {
        e = state_merge(&s->state, &delta);
        if (e == ERR_GAP) {
            s->refused = true;
            e = OK;
        }
    } else if (section->kind == OBJECT_CLEANED) {
        e = delta.clean_offset > 0 ? state_apply_cleaned(&s->state, &delta) : ERR_CORRUPT;
        if (e == ERR_STALE) e = ERR_CORRUPT;
    } else {
        if (delta.range_count > 0) e = state_replace_run(&s->state, delta.ranges, delta.range_count);
        if (e == ERR_STALE) e = OK; /* trimmed meanwhile: the replacement had no effect when it was written either */
    }
    s->dirty = true;
    state_deinit(&delta);
    return e;
}

/* Repeats as objlog/ does: the store may be away for hours, and a restart would not help. */
static enum err read_whole(struct store *store, const char *key, struct slice *out) {
    for (unsigned attempt = 0;; attempt++) {
        enum err e = store_get(store, key, 0, SIZE_MAX / 2, STORE_FOR_LEDGER, out);
        if (e == OK || err_class(e) == ERR_CLASS_FATAL || (e == ERR_IO && attempt >= IO_ATTEMPTS_MAX)) return e;
        env_backoff(store->env, attempt, 50 * NS_PER_MS, 5 * NS_PER_S);
    }
}

/* States lie side by side in few objects: each object's body is read once. */
static enum err load_state(struct replay *r, const struct object_state_pointer *p, struct slice *cached,
                           uint64_t *cached_entry) {
    int32_t epoch;
    if (!r->filter->is_current(r->filter->ctx, p->stream, &epoch) || epoch != p->epoch) return OK;
    uint64_t entry = p->entry, position = p->position;
    if (entry == OBJECT_THIS_ENTRY) {
        entry = r->number;
        position += r->body_position;
    }
    if (*cached_entry != entry) {
        slice_unref(cached);
        char key[OBJECT_KEY_MAX];
        object_key(key, r->generation, (struct object_id){r->creator, entry, OBJECT_LEDGER_ENTRY});
        enum err e = read_whole(r->store, key, cached);
        if (e != OK) return e == ERR_NOT_FOUND ? ERR_TRUNCATED : e;
        *cached_entry = entry;
    }
    if (position > cached->size || p->size > cached->size - position) return ERR_TRUNCATED;
    if (crc32c(0, cached->data + position, p->size) != p->crc) return ERR_CORRUPT;
    struct reader reader = reader_of(cached->data + position, p->size);
    struct stream_state state;
    enum err e = state_decode(&state, r->image->mem, &reader);
    if (e != OK)
        return say_newer(r, e, FORMAT_STATE, format_found(FORMAT_STATE, cached->data + position, p->size), entry);
    if (state.delta || ledger_image_get(r->image, p->stream)) {
        state_deinit(&state);
        return ERR_CORRUPT;
    }
    struct ledger_stream *s = ledger_image_add(r->image, p->stream, p->epoch);
    state_deinit(&s->state);
    s->state = state;
    s->refused = p->refused;
    return OK;
}

static int by_entry(const void *a, const void *b) {
    const struct object_state_pointer *x = a, *y = b;
    if (x->entry != y->entry) return x->entry < y->entry ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

static enum err load_states(struct replay *r, struct reader *reader, uint32_t count) {
    struct mem *m = r->image->mem;
    struct object_state_pointer *pointers = NULL;
    size_t capacity = 0, n = 0;
    enum err e = OK;
    for (; n < count && e == OK; n++) { /* grows with what is there, not with what is claimed */
        pointers = mem_grow(m, pointers, n, &capacity, sizeof(*pointers));
        e = object_state_decode(reader, &pointers[n]);
    }
    if (e == OK && n > 1) qsort(pointers, n, sizeof(*pointers), by_entry);
    struct slice cached = {0};
    uint64_t cached_entry = OBJECT_THIS_ENTRY;
    for (size_t k = 0; k < n && e == OK; k++) e = load_state(r, &pointers[k], &cached, &cached_entry);
    slice_unref(&cached);
    mem_free(m, pointers);
    return e;
}

enum err ledger_apply_entry(struct ledger_image *image, struct store *store, const char *generation,
                            struct incarnation creator, const struct objlog_entry *entry,
                            const struct ledger_filter *filter, struct object_head *head) {
    struct replay r = {
        image, store, generation, creator, entry->header.number, OBJLOG_HEADER_SIZE + entry->header.head_size, filter};
    struct reader reader = reader_of(entry->head.data, entry->head.size);
    enum err e = object_head_decode(&reader, head);
    if (e != OK)
        return say_newer(&r, e, FORMAT_LEDGER_HEAD,
                         format_found(FORMAT_LEDGER_HEAD, entry->head.data, entry->head.size), r.number);
    for (uint32_t k = 0; k < head->section_count && e == OK; k++) {
        struct object_section section;
        const uint8_t *at = entry->head.data + (entry->head.size - reader_left(&reader));
        size_t left = reader_left(&reader);
        e = object_section_decode(&reader, &section);
        (void)say_newer(&r, e, FORMAT_LEDGER_SECTION_KIND, format_found(FORMAT_LEDGER_SECTION_KIND, at, left),
                        r.number);
        if (k > 0 && env_mutant(store->env, MUTANT_LOSE_SECTION)) continue;
        if (e == OK) e = apply_section(&r, &section);
    }
    if (e != OK || entry->header.kind != OBJLOG_CHECKPOINT) return e;
    ledger_image_deinit(image);
    ledger_image_init(image, image->mem);
    return load_states(&r, &reader, head->state_count);
}

/* ---- who needs what ---- */

#define USE_KEY_SIZE 17u

static void use_key(struct object_id id, uint8_t out[USE_KEY_SIZE]) {
    le64_put(out, id.creator.v);
    le64_put(out + 8, id.number);
    out[16] = (uint8_t)id.kind;
}

void object_uses_init(struct object_uses *u, struct mem *m) {
    *u = (struct object_uses){.mem = m};
    mapstr_init(&u->map, m);
}

void object_uses_deinit(struct object_uses *u) {
    size_t cursor = 0;
    struct object_use *use;
    while ((use = mapstr_next(&u->map, &cursor, NULL, NULL)) != NULL) mem_free(u->mem, use);
    mapstr_deinit(&u->map);
    mem_free(u->mem, u->garbage);
}

struct object_use *object_uses_get(struct object_uses *u, struct object_id id) {
    uint8_t key[USE_KEY_SIZE];
    use_key(id, key);
    return mapstr_get(&u->map, key, sizeof(key));
}

struct object_use *object_uses_add(struct object_uses *u, struct object_id id) {
    struct object_use *use = object_uses_get(u, id);
    if (use) return use;
    use = MEM_NEW(u->mem, struct object_use);
    use->id = id;
    uint8_t key[USE_KEY_SIZE];
    use_key(id, key);
    (void)mapstr_put(&u->map, key, sizeof(key), use);
    return use;
}

void object_uses_check(struct object_uses *u, struct object_use *use) {
    if (use->ranges > 0 || use->pins > 0 || use->listed) return;
    use->listed = true;
    u->garbage = mem_grow(u->mem, u->garbage, u->garbage_count, &u->garbage_capacity, sizeof(*u->garbage));
    u->garbage[u->garbage_count++] = use;
}

void object_uses_range(struct object_uses *u, const struct state_range *r, int delta) {
    struct object_use *use = object_uses_add(u, r->object);
    ASSERT(delta == 1 || (delta == -1 && use->ranges > 0 && use->live_bytes >= r->size_bytes));
    use->ranges = (uint32_t)((int64_t)use->ranges + delta);
    use->live_bytes += delta > 0 ? r->size_bytes : -r->size_bytes;
    if (use->size_bytes < r->position + r->size_bytes) use->size_bytes = r->position + r->size_bytes;
    object_uses_check(u, use);
}

void object_uses_pin(struct object_uses *u, struct object_id id, int delta, uint64_t not_before) {
    struct object_use *use = object_uses_add(u, id);
    ASSERT(delta > 0 || use->pins >= (uint32_t)-delta);
    use->pins = (uint32_t)((int64_t)use->pins + delta);
    if (use->not_before < not_before) use->not_before = not_before;
    object_uses_check(u, use);
}

void object_uses_forget(struct object_uses *u, struct object_use *use) {
    uint8_t key[USE_KEY_SIZE];
    use_key(use->id, key);
    void *gone = mapstr_remove(&u->map, key, sizeof(key));
    ASSERT(gone == use);
    mem_free(u->mem, use);
}
