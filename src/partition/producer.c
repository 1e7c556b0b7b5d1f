/* Idempotent producers (KIP-98): what the sequence numbers of a batch say about it.
 *
 * Judged against the live state, which is ahead of what is durable: the next batch of a producer follows on the one
 * still in flight, and a repetition of one in flight is
 * recognised. Its answer must then wait for the original.
 *
 * A batch that is older than the five remembered ones is out of order (45), as with Kafka, although it is most
 * likely a late repetition: clients take
 * DUPLICATE_SEQUENCE_NUMBER (46) for success, and whether that batch was ever written can no longer be proved, since
 * unknown producer state accepts any sequence (why: docs/reliability.md). */
#include "base/assert.h"
#include "partition/partition_priv.h"

static bool follows(int32_t last_sequence, int32_t next_sequence) {
    return next_sequence == (last_sequence == INT32_MAX ? 0 : last_sequence + 1);
}

void partition_count_producers(struct partition *p) {
    size_t now = p->live.producers.count;
    if (now == p->producers_counted) return;
    metric_gauge_add(p->env->metrics, M_PRODUCER_BYTES,
                     ((int64_t)now - (int64_t)p->producers_counted) * (int64_t)STATE_PRODUCER_BYTES);
    p->producers_counted = now;
}

enum err producer_check(const struct stream_state *live, const struct batch_header *h, struct producer_verdict *out) {
    *out = (struct producer_verdict){0};
    ASSERT(h->producer_id >= 0 && h->base_sequence >= 0);
    const struct state_producer *known = state_producer_get(live, h->producer_id);
    if (!known) return OK;
    ASSERT(known->count >= 1 && known->count <= STATE_PRODUCER_BATCHES);
    if (h->producer_epoch < known->epoch) {
        out->message = "the producer's epoch is lower than one already seen";
        return ERR_INVALID_PRODUCER_EPOCH;
    }
    if (h->producer_epoch > known->epoch) {
        if (h->base_sequence == 0) return OK;
        out->message = "the first batch of a new producer epoch must have sequence number 0";
        return ERR_OUT_OF_ORDER_SEQUENCE;
    }
    int32_t last_sequence = batch_last_sequence(h);
    for (size_t i = 0; i < known->count; i++) {
        if (known->batches[i].first_sequence != h->base_sequence || known->batches[i].last_sequence != last_sequence)
            continue;
        out->original_base = known->batches[i].base_offset;
        out->original_end = known->batches[i].end_offset;
        out->original_max_timestamp = known->batches[i].max_timestamp;
        ASSERT(out->original_end > out->original_base && out->original_end <= live->end_offset);
        return OK;
    }
    if (follows(known->batches[known->count - 1].last_sequence, h->base_sequence)) return OK;
    out->message = "the sequence number does not follow the last one";
    return ERR_OUT_OF_ORDER_SEQUENCE;
}
