/* When to ask a second time. A read that takes longer than nearly all of its like did lately is probably stuck behind
 * something; a second request usually overtakes it. What "nearly all" is, is learnt: from the last thousand or so reads
 * of about that size; and of all reads at most a few in a hundred may be asked twice, so that a store that is slow as a
 * whole is not made slower. Thread-safe. */
#ifndef OXBOW_STORE_S3_HEDGE_H
#define OXBOW_STORE_S3_HEDGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_HEDGE_CLASSES 3u
#define S3_HEDGE_BUCKETS 64u

struct s3_hedge {
    pthread_mutex_t lock;
    struct s3_hedge_class { /* bucket i counts reads that took up to 2^(i/4) * 0.1 ms */
        uint32_t buckets[S3_HEDGE_BUCKETS];
        uint32_t count;
    } classes[S3_HEDGE_CLASSES];
    uint32_t credit; /* in hundredths of a second request */
};

void s3_hedge_init(struct s3_hedge *h);
void s3_hedge_deinit(struct s3_hedge *h);
/* How long to wait for a read of that size before the second request; 0: do not hedge (reads take so long that
 * a second one would be no help). Two seconds while little is known. */
uint64_t s3_hedge_after_ns(struct s3_hedge *h, size_t size);
/* A read of that size took so long. Earns a little credit. */
void s3_hedge_observe(struct s3_hedge *h, size_t size, uint64_t ns);
/* Takes the credit for one second request, if there is so much. */
bool s3_hedge_allowed(struct s3_hedge *h);

#endif
