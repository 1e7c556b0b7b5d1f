/* What a pass of log compaction remembers: for each key the offset of its newest record, within a bounded number of
 * bytes. As in Kafka's SkimpyOffsetMap a key is known by a hash of 128 bits alone. The hash is SipHash-2-4 with a secret
 * drawn for each map, so that nobody who chooses keys can choose two that are taken for one, and that two of five
 * million keys are by chance is less likely than one in 2^80.
 *
 * Pure memory; one thread at a time. */
#ifndef OXBOW_PARTITION_CLEAN_MAP_H
#define OXBOW_PARTITION_CLEAN_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define CLEAN_MAP_NONE UINT64_MAX
/* Of one key, slots that stay free not counted. */
#define CLEAN_MAP_SLOT_BYTES 24u

struct clean_slot {
    uint64_t hash[2], offset; /* CLEAN_MAP_NONE: free */
};

struct clean_map {
    struct mem *mem;
    uint64_t secret[2];
    struct clean_slot *slots;
    size_t slot_count, count, count_max;
    uint64_t end_offset; /* every record from where the map begins up to here is in it */
};

/* Takes at most bytes_max, of which `load` percent may be filled (at least one key fits), and no more than keys_max keys
 * need. */
void clean_map_init(struct clean_map *m, struct mem *mem, const uint64_t secret[2], uint64_t bytes_max, unsigned load,
                    uint64_t keys_max);
void clean_map_deinit(struct clean_map *m);
/* The newest record of this key lies at `offset` at least. False: it is a new key, and the map is full. */
bool clean_map_put(struct clean_map *m, const void *key, size_t size, uint64_t offset);
/* CLEAN_MAP_NONE: not known. */
uint64_t clean_map_get(const struct clean_map *m, const void *key, size_t size);
size_t clean_map_bytes(const struct clean_map *m);

/* SipHash-2-4 with 128 bits of result, as its authors define it; for tests. */
void clean_hash(const uint64_t secret[2], const void *key, size_t size, uint64_t out[2]);

#endif
