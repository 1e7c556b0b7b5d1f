/* What administrators ask of a partition: to delete records, where leader epochs end, which producers it remembers.
 *
 * A deletion is one trim record, as retention writes it: it takes no offset, and only its durability moves what clients
 * see as the log start. A repetition finds the start there already, or on its way, and waits for it all the same. */
#include <stdlib.h>

#include "base/assert.h"
#include "partition/partition_priv.h"

/* Kafka protocol: DeleteRecords; an offset that stands for the high watermark. */
#define DELETE_ALL (-1)

/* Appends the trim in its turn, if there is still something to trim. Suspends. ERR_NOT_LEADER: nothing was done. */
static enum err trim_in_turn(struct partition *p, uint64_t start_offset) {
    struct partition_turn turn;
    partition_turn_take(p, &turn);
    partition_turn_await(p, &turn);
    enum err e = stream_reserve(p->stream, 0);
    if (e == OK && start_offset > p->live.start_offset) {
        uint64_t before = p->live.start_offset;
        partition_trim(p, start_offset);
        log_info(p->env->log, "records deleted on request", "topic=%s partition=%d from=%lu to=%lu", p->topic, p->index,
                 before, start_offset);
    }
    partition_turn_end(p, &turn);
    return e == ERR_CLOSED ? ERR_NOT_LEADER : e;
}

enum err partition_delete_records(struct partition *p, int64_t offset, int64_t *low_watermark) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    *low_watermark = -1;
    if (p->config.cleanup_policy == TOPIC_CLEANUP_COMPACT) return ERR_POLICY_VIOLATION;
    uint64_t high_watermark = stream_durable_end(p->stream);
    if (offset < DELETE_ALL || (offset >= 0 && (uint64_t)offset > high_watermark)) return ERR_OFFSET_OUT_OF_RANGE;
    uint64_t start = offset == DELETE_ALL ? high_watermark : (uint64_t)offset;
    if (!partition_enter(p)) return ERR_NOT_LEADER;
    enum err e = start > p->live.start_offset ? trim_in_turn(p, start) : OK;
    if (e == OK) {
        e = stream_wait_start(p->stream, start);
        if (e != OK) e = ERR_UNKNOWN_OUTCOME;
    }
    if (e == OK) *low_watermark = (int64_t)stream_durable_start(p->stream);
    partition_leave(p);
    return e;
}

enum err partition_epoch_end(const struct partition *p, int32_t current_leader_epoch, int32_t leader_epoch,
                             int32_t *epoch, int64_t *end_offset) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    *epoch = -1;
    *end_offset = -1;
    enum err e = partition_check_epoch(p, current_leader_epoch);
    if (e != OK) return e;
    if (p->closing) return ERR_NOT_LEADER;
    int32_t found;
    uint64_t end, high_watermark = stream_durable_end(p->stream);
    if (leader_epoch < 0 || !partition_epoch_lookup(p, leader_epoch, &found, &end)) return OK;
    *epoch = found;
    *end_offset = (int64_t)(end < high_watermark ? end : high_watermark);
    return OK;
}

static int producer_order(const void *a, const void *b) {
    int64_t x = ((const struct partition_producer *)a)->producer_id,
            y = ((const struct partition_producer *)b)->producer_id;
    return (x > y) - (x < y);
}

size_t partition_producers(const struct partition *p, struct mem *m, struct partition_producer **out) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    uint64_t high_watermark = stream_durable_end(p->stream);
    size_t count = 0, cursor = 0;
    const struct state_producer *known;
    *out = mem_zalloc(m, (p->live.producers.count + 1) * sizeof(**out));
    while ((known = map64_next(&p->live.producers, &cursor, NULL)) != NULL) {
        size_t n = known->count; /* the newest batch that may be shown; what is in flight may be lost yet */
        while (n > 0 && known->batches[n - 1].end_offset > high_watermark) n--;
        if (n == 0) continue;
        (*out)[count++] = (struct partition_producer){
            .producer_id = known->producer_id,
            .epoch = known->epoch,
            .last_sequence = known->batches[n - 1].last_sequence,
            .last_timestamp = n == known->count ? known->last_timestamp : known->batches[n - 1].max_timestamp,
        };
    }
    qsort(*out, count, sizeof(**out), producer_order);
    return count;
}
