/* One request about many partitions: each is looked at on its home shard, several at a time. */
#ifndef OXBOW_BROKER_SPREAD_H
#define OXBOW_BROKER_SPREAD_H

#include "broker/request.h"
#include "broker/route.h"
#include "partition/partition.h"

/* One partition of the request. */
struct spot {
    struct topic_route *route; /* a reference; NULL: err tells why */
    int32_t index;
    enum err err;
    bool settled; /* on the request's loop: err, and what was written for it elsewhere, may be read */
};

/* Finds the partition as the request's shard knows it: ERR_UNKNOWN_TOPIC_OR_PARTITION in err, and settled, if there is
 * none. */
void spot_find(struct request *r, struct kafka_string topic, int32_t index, struct spot *out);
/* Calls fn(ctx, i, partition) for each spot that is not settled, on its home loop, in a fiber, with the partition held
 * open; err gets what it returns, or why the partition cannot be opened. Suspends until all are settled. On the
 * request's loop. `name` is a literal. */
void spots_run(struct request *r, const char *name, struct spot *spots, size_t count,
               enum err (*fn)(void *ctx, size_t i, struct partition *p), void *ctx);
/* Lets go of the routes. */
void spots_release(struct spot *spots, size_t count);

#endif
