#include "cli/bench_work.h"

#include <string.h>

#include "base/assert.h"
#include "rt/env.h"

/* --- When. */

uint64_t schedule_due_ns(const struct schedule *s, uint64_t k) {
    if (s->rate == 0) return s->start_ns;
    ASSERT(s->parties > 0 && s->index < s->parties);
    uint64_t units = (k * s->parties + s->index) * s->unit;
    /* In two steps, for the product would pass 64 bits within seconds. */
    return s->start_ns + units / s->rate * NS_PER_S + units % s->rate * NS_PER_S / s->rate;
}

/* --- Which key. */

void keys_init(struct keys *k, struct mem *m, enum key_kind kind, uint64_t count) {
    ASSERT(kind == KEY_NONE || count > 0);
    *k = (struct keys){.kind = kind, .count = count};
    if (kind != KEY_ZIPF) return;
    ASSERT(count <= KEY_ZIPF_MAX);
    k->sums = mem_alloc(m, (size_t)count * sizeof(*k->sums));
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        sum += 1.0 / (double)(i + 1);
        k->sums[i] = sum;
    }
}

void keys_deinit(struct keys *k, struct mem *m) {
    mem_free(m, k->sums);
    k->sums = NULL;
}

uint64_t keys_draw(const struct keys *k, struct rng *rng) {
    if (k->kind == KEY_UNIFORM) return rng_below(rng, k->count);
    if (k->kind == KEY_NONE) return 0;
    double at = (double)(rng_next(rng) >> 11) / (double)(1ull << 53) * k->sums[k->count - 1];
    uint64_t low = 0, high = k->count - 1; /* the first whose sum is above `at` */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (k->sums[middle] > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

void key_text(uint64_t key, uint8_t out[KEY_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = KEY_SIZE; i-- > 0; key >>= 4) out[i] = (uint8_t)digits[key & 15];
}

/* --- Which bytes. */

#define BLOCK ((size_t)64)
#define FILLER '.'

void payload_init(struct payload *p, struct mem *m, uint64_t seed, unsigned compressibility, size_t size_max,
                  bool repeat) {
    ASSERT(compressibility <= 100);
    *p = (struct payload){.size_max = size_max, .repeat = repeat};
    size_t size = PAYLOAD_POOL_BYTES + size_max, random = BLOCK * (100 - compressibility) / 100;
    p->pool = mem_alloc(m, size);
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t at = 0; at < size; at += BLOCK) {
        size_t n = size - at < BLOCK ? size - at : BLOCK, noise = n < random ? n : random;
        rng_fill(&rng, p->pool + at, noise);
        memset(p->pool + at + noise, FILLER, n - noise);
    }
}

void payload_deinit(struct payload *p, struct mem *m) {
    mem_free(m, p->pool);
    p->pool = NULL;
}

const uint8_t *payload_next(const struct payload *p, struct payload_walk *w, size_t size) {
    ASSERT(size <= p->size_max);
    if (p->repeat) return p->pool;
    if (w->at >= PAYLOAD_POOL_BYTES) {
        /* Shifted against the lap before, so that records are not cut at the same places again. */
        w->lap++;
        w->at = (size_t)(w->lap * 61 % 4096);
    }
    const uint8_t *at = p->pool + w->at;
    w->at += size;
    return at;
}
