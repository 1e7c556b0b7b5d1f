#include "stream/state_table.h"

#include <stdlib.h>

#include "base/assert.h"
#include "kafka/batch.h"

#define ENTRY_SIZE_MIN 3u /* of a stored entry */

static void entries_free(struct state_table *t) {
    size_t cursor = 0;
    void *e;
    while ((e = mapstr_next(&t->entries, &cursor, NULL, NULL)) != NULL) mem_free(t->mem, e);
    mapstr_deinit(&t->entries);
}

void state_table_destroy(struct state_table *t) {
    if (!t) return;
    entries_free(t);
    mem_free(t->mem, t);
}

static struct state_table *table_create(struct mem *m) {
    struct state_table *t = MEM_NEW(m, struct state_table);
    t->mem = m;
    mapstr_init(&t->entries, m);
    return t;
}

static struct state_table_entry *entry_create(struct mem *m, uint64_t offset, const void *value, int32_t value_size) {
    size_t bytes = value_size > 0 ? (size_t)value_size : 0;
    struct state_table_entry *e = mem_alloc(m, sizeof(*e) + bytes);
    e->offset = offset;
    e->value_size = value_size;
    if (bytes > 0) memcpy(e->value, value, bytes);
    return e;
}

struct state_table *state_table_copy(const struct state_table *t, struct mem *m) {
    if (!t) return NULL;
    struct state_table *to = table_create(m);
    size_t cursor = 0, key_size;
    const char *key;
    const struct state_table_entry *e;
    while ((e = state_table_next(t, &cursor, &key, &key_size)) != NULL)
        mapstr_put(&to->entries, key, key_size, entry_create(m, e->offset, e->value, e->value_size));
    return to;
}

size_t state_table_count(const struct state_table *t) {
    return t ? t->entries.count : 0;
}

const struct state_table_entry *state_table_get(const struct state_table *t, const void *key, size_t key_size) {
    return t ? mapstr_get(&t->entries, key, key_size) : NULL;
}

const struct state_table_entry *state_table_next(const struct state_table *t, size_t *cursor, const char **key,
                                                 size_t *key_size) {
    return t ? mapstr_next(&t->entries, cursor, key, key_size) : NULL;
}

void state_table_put(struct state_table **t, struct mem *m, uint64_t offset, const void *key, size_t key_size,
                     const void *value, int32_t value_size, bool keep) {
    ASSERT(value_size >= -1);
    if (value_size >= 0 || keep) {
        if (!*t) *t = table_create(m);
        mem_free(m, mapstr_put(&(*t)->entries, key, key_size, entry_create(m, offset, value, value_size)));
    } else if (*t) {
        mem_free(m, mapstr_remove(&(*t)->entries, key, key_size));
        if ((*t)->entries.count > 0) return;
        state_table_destroy(*t); /* an empty one is none, and gives the map's memory back */
        *t = NULL;
    }
}

enum err state_table_apply(struct state_table **t, struct mem *m, const uint8_t *batch, size_t size, bool keep) {
    struct batch_header h;
    enum err e = batch_parse_unchecked(batch, size, &h);
    if (e != OK) return e;
    if (batch_codec(&h) != CODEC_NONE || batch_is_control(&h)) return ERR_CORRUPT_MESSAGE;
    struct batch_iterator it;
    e = batch_iterator_init(&it, m, &h, size);
    if (e != OK) return e;
    struct batch_record r;
    while ((e = batch_iterator_next(&it, &r)) == OK) {
        if (r.key_size < 0) continue;
        state_table_put(t, m, (uint64_t)r.offset, r.key, (size_t)r.key_size, r.value, r.value_size, keep);
    }
    batch_iterator_deinit(&it);
    return e == ERR_NOT_FOUND ? OK : e;
}

void state_table_merge(struct state_table **t, struct mem *m, const struct state_table *later, bool keep) {
    size_t cursor = 0, key_size;
    const char *key;
    const struct state_table_entry *e;
    while ((e = state_table_next(later, &cursor, &key, &key_size)) != NULL)
        state_table_put(t, m, e->offset, key, key_size, e->value, e->value_size, keep);
}

void state_table_forget_tombstones(struct state_table **t) {
    struct state_table *kept = NULL;
    if (*t) state_table_merge(&kept, (*t)->mem, *t, false);
    state_table_destroy(*t);
    *t = kept;
}

/* --- The stored form. */

struct row {
    const char *key;
    size_t key_size;
    const struct state_table_entry *entry;
};

static int key_order(const void *a, size_t a_size, const void *b, size_t b_size) {
    size_t common = a_size < b_size ? a_size : b_size;
    int order = common > 0 ? memcmp(a, b, common) : 0;
    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

static int row_order(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    return key_order(x->key, x->key_size, y->key, y->key_size);
}

void state_table_encode(const struct state_table *t, struct buf *out) {
    size_t count = state_table_count(t), n = 0, cursor = 0;
    ASSERT(count > 0);
    struct row *rows = mem_alloc(t->mem, count * sizeof(*rows));
    while ((rows[n].entry = state_table_next(t, &cursor, &rows[n].key, &rows[n].key_size)) != NULL) {
        if (++n == count) break;
    }
    ASSERT(n == count);
    qsort(rows, n, sizeof(*rows), row_order);
    buf_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        const struct state_table_entry *e = rows[i].entry;
        buf_varint(out, rows[i].key_size);
        buf_put(out, rows[i].key, rows[i].key_size);
        buf_varint(out, e->offset);
        buf_varint(out, (uint64_t)((int64_t)e->value_size + 1));
        if (e->value_size > 0) buf_put(out, e->value, (size_t)e->value_size);
    }
    mem_free(t->mem, rows);
}

bool state_table_decode(struct state_table **t, struct mem *m, struct reader *r, uint64_t first_offset,
                        uint64_t end_offset, bool keep) {
    uint64_t count = reader_varint(r);
    if (r->failed || count == 0 || count > reader_left(r) / ENTRY_SIZE_MIN) return false;
    const uint8_t *before = NULL;
    size_t before_size = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t key_size = reader_varint(r);
        const uint8_t *key = key_size <= reader_left(r) ? reader_bytes(r, (size_t)key_size) : NULL;
        if (!key) {
            r->failed = true;
            return false;
        }
        if (i > 0 && key_order(before, before_size, key, (size_t)key_size) >= 0) return false;
        before = key;
        before_size = (size_t)key_size;
        uint64_t offset = reader_varint(r), value_size = reader_varint(r);
        if (r->failed || offset < first_offset || offset >= end_offset || value_size > INT32_MAX) return false;
        if (value_size == 0 && !keep) return false;
        const uint8_t *value = reader_bytes(r, value_size > 0 ? (size_t)value_size - 1 : 0);
        if (!value) return false;
        state_table_put(t, m, offset, key, before_size, value, (int32_t)value_size - 1, keep);
    }
    return true;
}
