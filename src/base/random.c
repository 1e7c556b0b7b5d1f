#include "base/random.h"

#include <string.h>

#include "base/assert.h"

static uint64_t rotl(uint64_t v, int k) {
    return (v << k) | (v >> (64 - k));
}

void rng_seed(struct rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) { /* SplitMix64, as the generator's authors advise */
        seed += 0x9e3779b97f4a7c15ull;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        r->s[i] = z ^ (z >> 31);
    }
}

uint64_t rng_next(struct rng *r) {
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t n) {
    ASSERT(n > 0);
    return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

bool rng_chance(struct rng *r, double probability) {
    return (double)(rng_next(r) >> 11) * 0x1.0p-53 < probability;
}

void rng_fill(struct rng *r, void *out, size_t n) {
    uint8_t *p = out;
    while (n > 0) {
        uint64_t v = rng_next(r);
        size_t part = n < 8 ? n : 8;
        memcpy(p, &v, part);
        p += part;
        n -= part;
    }
}
