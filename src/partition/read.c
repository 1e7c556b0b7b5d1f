/* Fetch: what may be shown at an offset, and how many bytes wait there. */
#include "base/assert.h"
#include "partition/partition_priv.h"

bool partition_epoch_lookup(const struct partition *p, int32_t asked, int32_t *epoch, uint64_t *end_offset) {
    const struct stream_state *s = &p->live;
    if (asked > p->leader_epoch) return false;
    *epoch = asked;
    *end_offset = s->end_offset;
    /* The current epoch counts from the opening on, even if it has no record yet. */
    if (asked == p->leader_epoch) return true;
    *end_offset = state_epoch_end(s, asked, epoch);
    if (*epoch < 0) {
        /* All that is left is newer: as Kafka, the start of that. */
        *epoch = asked;
        *end_offset = s->epoch_count > 0 ? s->epochs[0].start_offset : s->end_offset;
    }
    return true;
}

enum err partition_read(struct partition *p, const struct partition_fetch *f, struct partition_fetched *fetched,
                        struct slices *out) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    uint64_t high_watermark = stream_durable_end(p->stream);
    *fetched = (struct partition_fetched){
        .high_watermark = high_watermark,
        .last_stable_offset = high_watermark,
        .log_start_offset = stream_durable_start(p->stream),
        .diverging_epoch = -1,
    };
    enum err e = partition_check_epoch(p, f->current_leader_epoch);
    if (e != OK) return e;
    if (f->last_fetched_epoch >= 0) {
        int32_t epoch;
        uint64_t end;
        if (!partition_epoch_lookup(p, f->last_fetched_epoch, &epoch, &end) || f->offset < fetched->log_start_offset)
            return ERR_OFFSET_OUT_OF_RANGE;
        if (epoch < f->last_fetched_epoch || end < f->offset) {
            fetched->diverging_epoch = epoch;
            /* An epoch that has passed is durable; the current one is shown as far as it is. */
            fetched->diverging_end_offset = end < high_watermark ? end : high_watermark;
            return OK;
        }
    }
    if (f->offset < fetched->log_start_offset || f->offset > p->live.end_offset) return ERR_OFFSET_OUT_OF_RANGE;
    if (env_mutant(p->env, MUTANT_FETCH_AHEAD)) high_watermark = stream_appended_end(p->stream);
    if (f->offset >= high_watermark) return p->closing ? ERR_NOT_LEADER : OK;
    if (!partition_enter(p)) return ERR_NOT_LEADER;
    size_t before = out->size_bytes;
    fetched->old = !stream_is_fresh(p->stream, f->offset);
    uint64_t until_ns = f->until_ns ? f->until_ns : UINT64_MAX, limit;
    do {
        limit = high_watermark;
        e = stream_read(p->stream, f->offset, limit, f->max_bytes, f->whole_first, f->cached_only, until_ns, out);
        high_watermark = stream_durable_end(p->stream);
        /* Log compaction meanwhile may have left nothing below what was the high watermark when the reading began. */
    } while (e == OK && out->size_bytes == before && f->whole_first && high_watermark > limit);
    ASSERT(out->size_bytes >= before);
    p->counters.bytes_out += out->size_bytes - before;
    /* Both may have risen meanwhile, and the one never above the other. */
    fetched->log_start_offset = stream_durable_start(p->stream);
    fetched->high_watermark = fetched->last_stable_offset = high_watermark;
    partition_leave(p);
    return e;
}

/* Marks: (offset, bytes below it), rising. When they are full every second one goes, so that the old ones become
 * sparse and the new ones stay dense. */
void partition_mark_note(struct partition *p, uint64_t end_offset, uint64_t bytes) {
    if (!p->marks) p->marks = mem_alloc(p->env->mem, PARTITION_MARKS * sizeof(*p->marks));
    if (p->mark_count == PARTITION_MARKS) {
        uint32_t kept = 0;
        for (uint32_t i = 1; i < PARTITION_MARKS; i += 2) p->marks[kept++] = p->marks[i];
        p->mark_count = kept;
    }
    p->bytes_end += bytes;
    p->marks[p->mark_count++] = (struct partition_mark){end_offset, p->bytes_end};
    ASSERT(p->mark_count <= PARTITION_MARKS && p->live.end_offset == end_offset);
}

/* Bytes below the offset: between two marks, as if all records were of one size. */
static uint64_t bytes_below(const struct partition *p, uint64_t offset) {
    struct partition_mark low = {p->opened_start, 0}, high = {p->opened_end, p->opened_bytes};
    for (uint32_t i = 0; i < p->mark_count && high.offset < offset; i++) {
        low = high;
        high = p->marks[i];
    }
    if (offset >= high.offset) return high.bytes;
    if (offset <= low.offset) return low.bytes;
    return low.bytes +
           (uint64_t)((unsigned __int128)(high.bytes - low.bytes) * (offset - low.offset) / (high.offset - low.offset));
}

uint64_t partition_ready_bytes(const struct partition *p, uint64_t offset) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    uint64_t end = stream_durable_end(p->stream);
    if (offset >= end) return 0;
    uint64_t from = bytes_below(p, offset), to = bytes_below(p, end);
    return to > from ? to - from : 1;
}
