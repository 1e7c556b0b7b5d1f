#include "cli/partitioner.h"

#include "base/assert.h"
#include "base/bytes.h"

#define SEED 0x9747b28cu
#define MULTIPLIER 0x5bd1e995u

uint32_t murmur2(const void *data, size_t size) {
    const uint8_t *p = data;
    uint32_t h = SEED ^ (uint32_t)size;
    for (; size >= 4; size -= 4, p += 4) {
        uint32_t k = le32_get(p) * MULTIPLIER;
        k = (k ^ (k >> 24)) * MULTIPLIER;
        h = (h * MULTIPLIER) ^ k;
    }
    uint32_t tail = 0;
    for (size_t i = 0; i < size; i++) tail |= (uint32_t)p[i] << (8 * i);
    if (size > 0) h = (h ^ tail) * MULTIPLIER;
    h = (h ^ (h >> 13)) * MULTIPLIER;
    return h ^ (h >> 15);
}

int32_t partition_of_key(const void *key, size_t size, int32_t count) {
    ASSERT(count >= 1);
    return (int32_t)((murmur2(key, size) & 0x7fffffffu) % (uint32_t)count);
}
