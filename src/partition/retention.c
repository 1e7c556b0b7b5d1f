/* Retention: which segments go, and when producers are forgotten (which ones: stream/state.h).
 *
 * Segments are virtual (stream/state.h): deleting them is one trim record, which moves the log start offset once it
 * is durable. As with Kafka, the oldest segments go first,
 * one by one, as long as the rule holds for each, and none that reaches beyond the high watermark. The active
 * segment goes too when the rule holds for it: the next batch then
 * begins a new one (append.c), which is Kafka's "roll, then delete" without an empty file in between. */
#include "base/assert.h"
#include "partition/partition_priv.h"

/* The time of a segment: its largest timestamp. Records need not have one; then it is the last append or, if there
 * was none, the opening: it may only err
 * towards keeping. */
static int64_t segment_time(const struct partition *p, const struct state_segment *g) {
    return g->max_timestamp >= 0 ? g->max_timestamp : p->appended_ms;
}

static uint64_t segment_end(const struct stream_state *s, size_t i) {
    return i + 1 < s->segment_count ? s->segments[i + 1].base_offset : s->end_offset;
}

/* The log start offset that the configuration asks for; the present one if there is nothing to do. */
static uint64_t retained_start(const struct partition *p, int64_t now_ms) {
    const struct stream_state *s = &p->live;
    const struct topic_config *c = &p->config;
    uint64_t start = s->start_offset, high_watermark = stream_durable_end(p->stream);
    if ((c->cleanup_policy & TOPIC_CLEANUP_DELETE) == 0 || start == s->end_offset) return start;
    uint64_t size = partition_size_bytes(p);
    size_t i = 0;
    if (c->retention_bytes >= 0 && size > (uint64_t)c->retention_bytes) {
        uint64_t excess = size - (uint64_t)c->retention_bytes;
        for (; i < s->segment_count && segment_end(s, i) <= high_watermark && s->segments[i].size_bytes <= excess;
             i++) {
            excess -= s->segments[i].size_bytes;
            start = segment_end(s, i);
        }
    }
    for (; c->retention_ms >= 0 && i < s->segment_count && segment_end(s, i) <= high_watermark; i++) {
        int64_t age;
        if (__builtin_sub_overflow(now_ms, segment_time(p, &s->segments[i]), &age) || age <= c->retention_ms) break;
        start = segment_end(s, i);
    }
    bool more = start > s->start_offset && i < s->segment_count && segment_end(s, i) <= high_watermark;
    if (more && env_mutant(p->env, MUTANT_RETAIN_LESS)) start = segment_end(s, i);
    ASSERT(start >= s->start_offset && start <= s->end_offset);
    return start;
}

void partition_trim(struct partition *p, uint64_t start_offset) {
    ASSERT(start_offset > p->live.start_offset && start_offset <= stream_durable_end(p->stream));
    struct stream_record r = {
        .type = STREAM_TRIM, .base_offset = start_offset, .end_offset = start_offset, .max_timestamp = -1};
    stream_append(p->stream, &r);
    state_apply_trim(&p->live, start_offset);
    ASSERT(p->live.start_offset == start_offset);
}

void partition_retain(struct partition *p, int64_t now_ms) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    if (!partition_enter(p)) return;
    if (p->producer_id_expiration_ms >= 0)
        state_expire_producers(&p->live, &p->expiry, p->producer_id_expiration_ms, env_now_ns(p->env), now_ms);
    partition_count_producers(p);
    if (retained_start(p, now_ms) > p->live.start_offset) {
        struct partition_turn turn;
        partition_turn_take(p, &turn);
        partition_turn_await(p, &turn);
        enum err e = stream_reserve(p->stream, 0);
        /* Waiting may have changed it. */
        uint64_t start = retained_start(p, now_ms);
        if (e == OK && start > p->live.start_offset) {
            uint64_t before = p->live.start_offset;
            partition_trim(p, start);
            log_info(p->env->log, "old records deleted", "topic=%s partition=%d from=%lu to=%lu", p->topic, p->index,
                     before, start);
        }
        partition_turn_end(p, &turn);
    }
    partition_leave(p);
}
