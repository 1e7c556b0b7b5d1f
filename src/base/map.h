/* Two hash maps: from a 64-bit key and from a byte string, to a pointer. Open addressing, grows and never shrinks below
 * its contents. Iteration order is a function of the keys and the history alone (never of addresses or a random seed):
 * the simulator must repeat itself. Not thread-safe. */
#ifndef OXBOW_BASE_MAP_H
#define OXBOW_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct map64_slot {
    uint64_t key;
    void *value; /* NULL: free */
};
struct map64 {
    struct mem *mem;
    struct map64_slot *slots;
    size_t count, capacity;
};
void map64_init(struct map64 *m, struct mem *mem);
void map64_deinit(struct map64 *m);
void *map64_get(const struct map64 *m, uint64_t key);
/* value is not NULL; returns the value that was there before, or NULL. */
void *map64_put(struct map64 *m, uint64_t key, void *value);
void *map64_remove(struct map64 *m, uint64_t key); /* returns what was there, or NULL */
/* Walks all: start with *cursor = 0; returns NULL at the end. No put or remove in between. */
void *map64_next(const struct map64 *m, size_t *cursor, uint64_t *key);

struct mapstr_slot {
    char *key; /* own copy */
    size_t key_size;
    uint64_t hash;
    void *value;
};
struct mapstr {
    struct mem *mem;
    struct mapstr_slot *slots;
    size_t count, capacity;
};
void mapstr_init(struct mapstr *m, struct mem *mem);
void mapstr_deinit(struct mapstr *m);
void *mapstr_get(const struct mapstr *m, const void *key, size_t key_size);
void *mapstr_put(struct mapstr *m, const void *key, size_t key_size, void *value);
void *mapstr_remove(struct mapstr *m, const void *key, size_t key_size);
/* *key (own copy of the map, NUL-terminated) may be NULL. */
void *mapstr_next(const struct mapstr *m, size_t *cursor, const char **key, size_t *key_size);

uint64_t hash64(uint64_t v);
uint64_t hash_bytes(const void *data, size_t size);

#endif
