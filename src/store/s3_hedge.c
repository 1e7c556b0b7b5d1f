#include "store/s3_hedge.h"

#include <string.h>

#include "base/assert.h"
#include "rt/env.h"

#define SAMPLES_MIN 32u
#define SAMPLES_MAX 1024u /* then all counts are halved: what was, fades */
#define PERCENT 95u
#define CREDIT_PER_READ 3u /* hundredths: three reads in a hundred */
#define CREDIT_ONE 100u
#define CREDIT_MAX 1000u
#define CREDIT_FIRST 300u
#define UNKNOWN_NS (2 * NS_PER_S) /* while too little is known */
#define FLOOR_NS (5 * NS_PER_MS)
#define CEILING_NS (5 * NS_PER_S)

static unsigned class_of(size_t size) {
    return size <= (64u << 10) ? 0 : size <= (1u << 20) ? 1 : 2;
}

/* 2^(1/4) a step, from 0.1 ms: 64 buckets reach six seconds. */
static uint64_t bucket_ns(unsigned bucket) {
    static const uint64_t quarter[] = {10000, 11892, 14142, 16818};
    return (NS_PER_MS / 10 << (bucket / 4)) / 10000 * quarter[bucket % 4];
}

static unsigned bucket_of(uint64_t ns) {
    unsigned b = 0;
    while (b + 1 < S3_HEDGE_BUCKETS && bucket_ns(b) < ns) b++;
    return b;
}

void s3_hedge_init(struct s3_hedge *h) {
    memset(h, 0, sizeof(*h));
    h->credit = CREDIT_FIRST;
    ASSERT(pthread_mutex_init(&h->lock, NULL) == 0);
}

void s3_hedge_deinit(struct s3_hedge *h) {
    pthread_mutex_destroy(&h->lock);
}

uint64_t s3_hedge_after_ns(struct s3_hedge *h, size_t size) {
    struct s3_hedge_class *c = &h->classes[class_of(size)];
    uint64_t after_ns = UNKNOWN_NS;
    pthread_mutex_lock(&h->lock);
    if (c->count >= SAMPLES_MIN) {
        uint32_t below = 0, wanted = (c->count * PERCENT + 99) / 100;
        unsigned b = 0;
        while (b + 1 < S3_HEDGE_BUCKETS && (below += c->buckets[b]) < wanted) b++;
        after_ns = bucket_ns(b);
    }
    pthread_mutex_unlock(&h->lock);
    if (after_ns > CEILING_NS) return 0;
    return after_ns > 0 && after_ns < FLOOR_NS ? FLOOR_NS : after_ns;
}

void s3_hedge_observe(struct s3_hedge *h, size_t size, uint64_t ns) {
    struct s3_hedge_class *c = &h->classes[class_of(size)];
    unsigned bucket = bucket_of(ns);
    pthread_mutex_lock(&h->lock);
    if (c->count >= SAMPLES_MAX) {
        c->count = 0;
        for (unsigned i = 0; i < S3_HEDGE_BUCKETS; i++) c->count += c->buckets[i] /= 2;
    }
    c->buckets[bucket]++;
    c->count++;
    if (h->credit < CREDIT_MAX) h->credit += CREDIT_PER_READ;
    pthread_mutex_unlock(&h->lock);
}

bool s3_hedge_allowed(struct s3_hedge *h) {
    pthread_mutex_lock(&h->lock);
    bool allowed = h->credit >= CREDIT_ONE;
    if (allowed) h->credit -= CREDIT_ONE;
    pthread_mutex_unlock(&h->lock);
    return allowed;
}
