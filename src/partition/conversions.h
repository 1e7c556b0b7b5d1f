/* Conversions between message formats, for clients that know only the old ones (kafka/message_set.h): on worker threads,
 * unless they are small, and within a budget.
 *
 * What a set unfolds to is not known before, so the working memory is granted in two steps: first by a guess from what
 * came, and, if that was too little, for the most that is allowed (PARTITION_UNPACK_MAX). Whoever waits for memory waits
 * in order. A conversion that is larger than the whole budget runs alone. Small ones are not counted, for they do not
 * suspend. Belongs to one loop.
 *
 * Sets for readers live until they are sent, which is up to the readers: nobody waits for that. When as much as the
 * budget is out, each answer gets little (CONVERSIONS_LITTLE). Their memory may end on any loop, not after this. */
#ifndef OXBOW_PARTITION_CONVERSIONS_H
#define OXBOW_PARTITION_CONVERSIONS_H

#include <stdatomic.h>

#include "kafka/message_set.h"
#include "rt/env.h"

#define CONVERSIONS_LITTLE ((size_t)64 << 10)

struct conversions {
    struct env *env;
    uint64_t limit_bytes, used_bytes;
    _Atomic uint64_t out_bytes; /* sets that are not sent yet: as much beside it */
    struct fiber_mutex order;   /* held by the one who waits for room; the others wait for it */
    struct waitq room;
};
void conversions_init(struct conversions *c, struct env *env, uint64_t limit_bytes);

/* A produced set to a batch, as message_set_parse and message_set_up_convert do it. */
struct conversion_up {
    const uint8_t *data; /* in */
    size_t size;
    size_t message_max;
    struct message_set_up how; /* all but the codec and the limit */
    /* The codec for sets of this codec: what the topic's compression.type says. */
    enum kafka_codec (*codec_for)(void *ctx, enum kafka_codec codec, int32_t *level);
    void *ctx;
    struct message_set set; /* out; magic 2 or count 0: nothing was converted */
    struct batch_check check;
    const char *why;
    uint64_t held_bytes; /* of the budget, for the batch: conversions_release */
};
/* Appends the batch to *out, which the caller has emptied. Suspends unless the set is small; `await` (may be NULL) is
 * called before that, and may suspend too: whoever has to be waited for must not need this budget. Then
 * conversions_release, also after an error. */
enum err conversions_up(struct conversions *c, struct conversion_up *u, void (*await)(void *ctx),
                        struct buf *out) WARN_UNUSED;
void conversions_release(struct conversions *c, struct conversion_up *u);

/* Replaces batches by a set of how->magic, in memory of its own; how->unpack_limit is set here. Suspends unless they are
 * small. May keep to less than max_bytes, but for a first message. On an error `records` is empty. */
enum err conversions_down(struct conversions *c, const struct message_set_down *how,
                          struct slices *records) WARN_UNUSED;

#endif
