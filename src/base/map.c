#include "base/map.h"

#include <string.h>

#include "base/assert.h"

/* Finalizer of SplitMix64: every input bit reaches every output bit. */
uint64_t hash64(uint64_t v) {
    v ^= v >> 30;
    v *= 0xbf58476d1ce4e5b9ull;
    v ^= v >> 27;
    v *= 0x94d049bb133111ebull;
    return v ^ (v >> 31);
}

uint64_t hash_bytes(const void *data, size_t size) {
    const uint8_t *p = data;
    uint64_t h = 0x9e3779b97f4a7c15ull ^ size;
    while (size >= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        h = hash64(h ^ v);
        p += 8;
        size -= 8;
    }
    uint64_t tail = 0;
    if (size > 0) memcpy(&tail, p, size); /* an empty key may have no address */
    return hash64(h ^ tail);
}

/* Both maps: linear probing, at most 3/4 full, removal shifts the run back so that no tombstones are needed. */

void map64_init(struct map64 *m, struct mem *mem) {
    *m = (struct map64){.mem = mem};
}

void map64_deinit(struct map64 *m) {
    if (m->mem) mem_free(m->mem, m->slots);
    *m = (struct map64){0};
}

static size_t map64_find(const struct map64 *m, uint64_t key) {
    size_t mask = m->capacity - 1;
    size_t i = hash64(key) & mask;
    while (m->slots[i].value && m->slots[i].key != key) i = (i + 1) & mask;
    return i;
}

void *map64_get(const struct map64 *m, uint64_t key) {
    return m->count ? m->slots[map64_find(m, key)].value : NULL;
}

static void map64_grow(struct map64 *m) {
    struct map64_slot *old = m->slots;
    size_t old_capacity = m->capacity;
    m->capacity = old_capacity ? old_capacity * 2 : 8;
    m->slots = mem_zalloc(m->mem, m->capacity * sizeof(*m->slots));
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].value) m->slots[map64_find(m, old[i].key)] = old[i];
    }
    mem_free(m->mem, old);
}

void *map64_put(struct map64 *m, uint64_t key, void *value) {
    ASSERT(value != NULL);
    if ((m->count + 1) * 4 > m->capacity * 3) map64_grow(m);
    struct map64_slot *s = &m->slots[map64_find(m, key)];
    void *before = s->value;
    *s = (struct map64_slot){key, value};
    if (!before) m->count++;
    return before;
}

void *map64_remove(struct map64 *m, uint64_t key) {
    if (m->count == 0) return NULL;
    size_t mask = m->capacity - 1, i = map64_find(m, key);
    void *before = m->slots[i].value;
    if (!before) return NULL;
    m->count--;
    for (size_t j = (i + 1) & mask; m->slots[j].value; j = (j + 1) & mask) {
        size_t home = hash64(m->slots[j].key) & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            m->slots[i] = m->slots[j];
            i = j;
        }
    }
    m->slots[i] = (struct map64_slot){0};
    return before;
}

void *map64_next(const struct map64 *m, size_t *cursor, uint64_t *key) {
    while (*cursor < m->capacity) {
        const struct map64_slot *s = &m->slots[(*cursor)++];
        if (!s->value) continue;
        if (key) *key = s->key;
        return s->value;
    }
    return NULL;
}

void mapstr_init(struct mapstr *m, struct mem *mem) {
    *m = (struct mapstr){.mem = mem};
}

void mapstr_deinit(struct mapstr *m) {
    for (size_t i = 0; i < m->capacity; i++) mem_free(m->mem, m->slots[i].key);
    if (m->mem) mem_free(m->mem, m->slots);
    *m = (struct mapstr){0};
}

static size_t mapstr_find(const struct mapstr *m, uint64_t hash, const void *key, size_t key_size) {
    size_t mask = m->capacity - 1;
    size_t i = hash & mask;
    while (m->slots[i].value) {
        const struct mapstr_slot *s = &m->slots[i];
        if (s->hash == hash && s->key_size == key_size && (key_size == 0 || memcmp(s->key, key, key_size) == 0)) break;
        i = (i + 1) & mask;
    }
    return i;
}

void *mapstr_get(const struct mapstr *m, const void *key, size_t key_size) {
    return m->count ? m->slots[mapstr_find(m, hash_bytes(key, key_size), key, key_size)].value : NULL;
}

static void mapstr_grow(struct mapstr *m) {
    struct mapstr_slot *old = m->slots;
    size_t old_capacity = m->capacity;
    m->capacity = old_capacity ? old_capacity * 2 : 8;
    m->slots = mem_zalloc(m->mem, m->capacity * sizeof(*m->slots));
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].value) m->slots[mapstr_find(m, old[i].hash, old[i].key, old[i].key_size)] = old[i];
    }
    mem_free(m->mem, old);
}

void *mapstr_put(struct mapstr *m, const void *key, size_t key_size, void *value) {
    ASSERT(value != NULL);
    if ((m->count + 1) * 4 > m->capacity * 3) mapstr_grow(m);
    uint64_t hash = hash_bytes(key, key_size);
    struct mapstr_slot *s = &m->slots[mapstr_find(m, hash, key, key_size)];
    void *before = s->value;
    if (!before) {
        *s = (struct mapstr_slot){mem_strndup(m->mem, key, key_size), key_size, hash, value};
        m->count++;
    } else {
        s->value = value;
    }
    return before;
}

void *mapstr_remove(struct mapstr *m, const void *key, size_t key_size) {
    if (m->count == 0) return NULL;
    size_t mask = m->capacity - 1, i = mapstr_find(m, hash_bytes(key, key_size), key, key_size);
    void *before = m->slots[i].value;
    if (!before) return NULL;
    mem_free(m->mem, m->slots[i].key);
    m->count--;
    for (size_t j = (i + 1) & mask; m->slots[j].value; j = (j + 1) & mask) {
        size_t home = m->slots[j].hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            m->slots[i] = m->slots[j];
            i = j;
        }
    }
    m->slots[i] = (struct mapstr_slot){0};
    return before;
}

void *mapstr_next(const struct mapstr *m, size_t *cursor, const char **key, size_t *key_size) {
    while (*cursor < m->capacity) {
        const struct mapstr_slot *s = &m->slots[(*cursor)++];
        if (!s->value) continue;
        if (key) *key = s->key;
        if (key_size) *key_size = s->key_size;
        return s->value;
    }
    return NULL;
}
