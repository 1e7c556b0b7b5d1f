/* A small deterministic generator (xoshiro256**): for jitter, and for the simulator, where one seed gives the whole
 * run. */
#ifndef OXBOW_BASE_RANDOM_H
#define OXBOW_BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};
void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* 0..n-1; n > 0 */
bool rng_chance(struct rng *r, double probability);
void rng_fill(struct rng *r, void *out, size_t n);

#endif
