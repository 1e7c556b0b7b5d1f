/* ListOffsets: the ends of the log, and offsets by time. */
#include "base/assert.h"
#include "partition/partition_priv.h"

/* The time of a segment: its newest record's; without one, the last append. */
static int64_t segment_time(const struct partition *p, const struct state_segment *g) {
    return g->max_timestamp >= 0 ? g->max_timestamp : p->appended_ms;
}

enum { LATEST = -1, EARLIEST = -2, MAX_TIMESTAMP = -3, EARLIEST_LOCAL = -4 };

struct lookup { /* the first record of a batch, at or above an offset, that is not older than a time */
    struct partition *p;
    struct batch_header header;
    int64_t timestamp;
    uint64_t from;
    int64_t offset, found_timestamp;
    enum err result; /* ERR_NOT_FOUND: none in this batch */
};

static void lookup_in_batch(void *arg) {
    struct lookup *l = arg;
    struct batch_iterator it;
    l->result = batch_iterator_init(&it, l->p->env->mem, &l->header, PARTITION_UNPACK_MAX);
    if (l->result != OK) return;
    struct batch_record r;
    while ((l->result = batch_iterator_next(&it, &r)) == OK) {
        if ((uint64_t)r.offset < l->from || r.timestamp < l->timestamp) continue;
        l->offset = r.offset;
        l->found_timestamp = r.timestamp;
        break;
    }
    batch_iterator_deinit(&it);
}

/* The batch that comes first in [from, high watermark) and is not older than the time. Suspends. */
static enum err find_batch(struct partition *p, uint64_t from, int64_t timestamp, struct slice *batch,
                           struct batch_header *h) {
    enum err e = stream_find_timestamp(p->stream, from, stream_durable_end(p->stream), timestamp, batch);
    if (e != OK) return e;
    e = batch_parse_unchecked(batch->data, batch->size, h);
    if (e != OK) slice_unref(batch);
    return e;
}

/* ERR_NOT_FOUND. Suspends. */
static enum err find_record(struct partition *p, int64_t timestamp, int64_t *offset, int64_t *found_timestamp,
                            int32_t *leader_epoch) {
    uint64_t from = stream_durable_start(p->stream);
    for (;;) {
        struct lookup l = {.p = p, .timestamp = timestamp, .from = from};
        struct slice batch;
        enum err e = find_batch(p, from, timestamp, &batch, &l.header);
        if (e != OK) return e;
        bool here = batch_codec(&l.header) == CODEC_NONE || l.header.size <= PARTITION_INLINE_PACKED;
        if (here) {
            lookup_in_batch(&l);
        } else {
            env_offload(p->env, lookup_in_batch, &l);
        }
        uint64_t end = (uint64_t)batch_end_offset(&l.header);
        *leader_epoch = l.header.partition_leader_epoch;
        slice_unref(&batch);
        *offset = l.offset;
        *found_timestamp = l.found_timestamp;
        if (l.result != ERR_NOT_FOUND) return l.result;
        /* The record in question lies below the log start, in the middle of its batch. */
        if (end <= from) return ERR_CORRUPT_MESSAGE;
        from = end;
    }
}

/* The largest timestamp below the high watermark. What the state says may be of a record that is not durable yet, or
 * is trimmed: then search downwards, in growing steps, and upwards again by halves. "Some batch is not older than t" is
 * all that has to be asked. While a trim is not durable, what it takes away is still shown, and the state no longer knows
 * its times: then the search begins above them all. Suspends. ERR_NOT_FOUND: no record has a timestamp. */
static enum err find_max_timestamp(struct partition *p, int64_t *out) {
    int64_t high = p->live.start_offset > stream_durable_start(p->stream) ? INT64_MAX : -1;
    for (size_t i = 0; i < p->live.segment_count; i++) {
        if (p->live.segments[i].max_timestamp > high) high = p->live.segments[i].max_timestamp;
    }
    if (high < 0) return ERR_NOT_FOUND;
    int64_t asked = high, step = 1, low = -1;
    while (low < high) {
        struct slice batch;
        struct batch_header h;
        enum err e = find_batch(p, stream_durable_start(p->stream), asked, &batch, &h);
        if (e == OK) {
            slice_unref(&batch);
            if (h.max_timestamp < asked) return ERR_CORRUPT_MESSAGE;
            low = h.max_timestamp;
            if (high < low) high = low; /* appended meanwhile */
        } else if (e != ERR_NOT_FOUND) {
            return e;
        } else {
            if (asked == 0) return ERR_NOT_FOUND;
            high = asked - 1;
        }
        if (low < 0) {
            asked = high > step ? high - step : 0;
            step = step < INT64_MAX / 2 ? step * 2 : step;
        } else {
            asked = low + (high - low + 1) / 2;
        }
    }
    *out = low;
    return low >= 0 ? OK : ERR_NOT_FOUND;
}

static enum err list_offset(struct partition *p, int64_t timestamp, int64_t *offset, int64_t *found_timestamp,
                            int32_t *leader_epoch) {
    uint64_t start = stream_durable_start(p->stream);
    enum err e = OK;
    switch (timestamp) {
    case LATEST:
        *offset = (int64_t)stream_durable_end(p->stream);
        *leader_epoch = p->leader_epoch;
        return OK;
    case EARLIEST:
    case EARLIEST_LOCAL:
        *offset = (int64_t)start;
        *leader_epoch = state_epoch_of(&p->live, start);
        if (*leader_epoch < 0) *leader_epoch = p->leader_epoch;
        return OK;
    case MAX_TIMESTAMP:
        e = find_max_timestamp(p, &timestamp);
        break;
    default:
        break;
    }
    if (e == OK && timestamp < 0) return ERR_INVALID_REQUEST;
    if (e == OK) e = find_record(p, timestamp, offset, found_timestamp, leader_epoch);
    if (e == OK) return OK;
    *offset = *found_timestamp = -1;
    *leader_epoch = -1;
    return e == ERR_NOT_FOUND ? OK : e;
}

/* As Kafka does it with its segments and the times of their files. What can be answered is where each segment begins,
 * with the time of its newest record, and the end of the log, with the present: the newest of them that is old enough,
 * and all before it. What is not durable yet is not shown. */
enum err partition_list_segments(struct partition *p, int64_t timestamp, size_t max, int64_t *offsets, size_t *count) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    if (p->closing) return ERR_NOT_LEADER;
    const struct stream_state *s = &p->live;
    uint64_t start = stream_durable_start(p->stream), end = stream_durable_end(p->stream), above = end;
    int64_t end_time = start == end ? p->appended_ms : env_wall_ms(p->env);
    bool found = timestamp == LATEST || end_time <= timestamp || (start == end && timestamp == EARLIEST);
    *count = 0;
    if (found && *count < max) offsets[(*count)++] = (int64_t)end;
    for (size_t i = s->segment_count; i > 0 && *count < max && above > start; i--) {
        const struct state_segment *g = &s->segments[i - 1];
        if (g->base_offset >= above) continue;
        above = g->base_offset > start ? g->base_offset : start;
        found |= segment_time(p, g) <= timestamp || (timestamp == EARLIEST && above == start);
        if (found) offsets[(*count)++] = (int64_t)above;
    }
    return OK;
}

enum err partition_list_offset(struct partition *p, int64_t timestamp, int32_t current_leader_epoch, int64_t *offset,
                               int64_t *found_timestamp, int32_t *leader_epoch) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    *offset = *found_timestamp = -1;
    *leader_epoch = -1;
    enum err e = partition_check_epoch(p, current_leader_epoch);
    if (e != OK) return e;
    if (!partition_enter(p)) return ERR_NOT_LEADER;
    e = list_offset(p, timestamp, offset, found_timestamp, leader_epoch);
    partition_leave(p);
    return e;
}
