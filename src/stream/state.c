/* A partition's state. See state.h for what it means; here are the rules that make it a monoid, and its stored form.
 *
 * Why merging deltas gives what applying batches gives. Every part of the state is a function of two things that
 * combine without regard to grouping: the sequence of batches, and the highest log start offset asked for (S). What S
 * makes superfluous is dropped as soon as it can be seen to be, whichever operation shows it (a trim, a batch, a
 * merge), so that no order of the same operations leaves something behind that another order drops:
 *   - a segment goes when a next one begins at or below S; the newest one, active, never goes;
 *   - a leader epoch goes when a next one begins at or below S; the first that is left begins at S at the earliest;
 *   - a range goes when it ends at or below S.
 * Producers know no S. A batch whose producer epoch is lower than the newest seen is without effect, a higher one makes
 * the producer begin anew, an equal one adds its batch; of a producer's batches the newest five are kept. A leader
 * epoch that is not higher than the newest known is without effect. The table (state_table.h) knows no S either: of
 * each key the latest record counts, a tombstone is kept in deltas and deletes in whole states. How far log compaction
 * has come is the highest of what was said.
 *
 * Stored form, version 1; version 2 when there is a table; version 3 when there is a clean_offset. All integers are
 * unsigned LEB128 unless said otherwise; "zigzag" means a signed value v as (v << 1) ^ (v >> 63); differences of
 * timestamps are taken modulo 2^64.
 *
 *   u8  version          1, or 2: a table follows the ranges, or 3
 *   u8  flags            1: delta; 2: continues_segment (delta only); 4: a table follows the ranges (version 3 only).
 *                        Other bits are 0.
 *   first_offset         only when delta
 *   end_offset           minus first_offset (minus 0 when not a delta)
 *   start_offset
 *   clean_offset         in version 3: at least 1
 *   segment count, then for each, oldest first:
 *     base_offset        minus the one before (the first: minus 0)
 *     size_bytes
 *     first_timestamp    zigzag
 *     max_timestamp      minus first_timestamp, zigzag
 *   epoch count, then for each, oldest first:
 *     leader_epoch       minus the one before (the first: minus 0)
 *     start_offset       minus the one before (the first: minus 0)
 *   producer count, then for each by rising id:
 *     producer_id        minus the one before (the first: minus 0)
 *     epoch
 *     u8 batch count     1 to 5
 *     last_timestamp     zigzag; not below the newest batch's max_timestamp
 *     for each batch, oldest first:
 *       first_sequence, last_sequence
 *       base_offset      minus the end_offset of the one before (the first: minus 0)
 *       end_offset       minus base_offset
 *       max_timestamp    minus last_timestamp, zigzag
 *   range count
 *   first_offset         of the first range, if there is one; then for each, lowest first, each where the last ended:
 *     u8 object kind, object creator, object number
 *     end_offset         minus first_offset
 *     max_timestamp      zigzag
 *     position, size_bytes, block_count
 *   with a table: entry count, at least 1, then for each by rising key (as memcmp, a prefix first):
 *     key size, key
 *     offset             of its record
 *     value size + 1     0: deleted (delta only)
 *     value
 *
 * A reader accepts only states that the functions here could have made: offsets below 2^63, lists in order, nothing
 * kept that S makes superfluous. */
#include "stream/state.h"

#include <limits.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/format.h"
#include "rt/env.h"

#define STATE_VERSION 1u
#define STATE_VERSION_TABLE 2u /* with a table; without one the first version is written, as it always was */
#define STATE_VERSION_CLEAN 3u /* with a clean_offset; without one an earlier version is written */
static_assert(STATE_VERSION_CLEAN == FORMAT_STATE_NEWEST, "one table has them all");
#define STATE_FLAG_DELTA 1u
#define STATE_FLAG_CONTINUES 2u
#define STATE_FLAG_TABLE 4u
#define OFFSET_MAX ((uint64_t)INT64_MAX)

/* The least that one element takes in the stored form: a count that promises more than the bytes left is refused before
 * memory is asked for. */
enum { SEGMENT_SIZE_MIN = 4, EPOCH_SIZE_MIN = 2, PRODUCER_SIZE_MIN = 9, RANGE_SIZE_MIN = 8 };

static uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static int64_t max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

void state_init(struct stream_state *s, struct mem *m) {
    *s = (struct stream_state){.mem = m};
    map64_init(&s->producers, m);
}

void state_init_delta(struct stream_state *s, struct mem *m, uint64_t first_offset) {
    ASSERT(first_offset <= OFFSET_MAX);
    state_init(s, m);
    s->delta = true;
    s->first_offset = s->end_offset = first_offset;
}

static void producers_clear(struct stream_state *s) {
    size_t cursor = 0;
    void *p;
    while ((p = map64_next(&s->producers, &cursor, NULL)) != NULL) mem_free(s->mem, p);
    map64_deinit(&s->producers);
    map64_init(&s->producers, s->mem);
}

void state_deinit(struct stream_state *s) {
    if (!s->mem) return;
    producers_clear(s);
    mem_free(s->mem, s->segments);
    mem_free(s->mem, s->epochs);
    mem_free(s->mem, s->ranges);
    state_table_destroy(s->table);
    *s = (struct stream_state){0};
}

static void *array_copy(struct mem *m, const void *from, size_t count, size_t element_size) {
    if (count == 0) return NULL;
    void *to = mem_alloc(m, count * element_size);
    memcpy(to, from, count * element_size);
    return to;
}

void state_copy(struct stream_state *to, const struct stream_state *from, struct mem *m) {
    ASSERT(to != from && from->mem != NULL);
    *to = *from;
    to->mem = m;
    to->segments = array_copy(m, from->segments, from->segment_count, sizeof(*from->segments));
    to->segment_capacity = from->segment_count;
    to->epochs = array_copy(m, from->epochs, from->epoch_count, sizeof(*from->epochs));
    to->epoch_capacity = from->epoch_count;
    to->ranges = array_copy(m, from->ranges, from->range_count, sizeof(*from->ranges));
    to->range_capacity = from->range_count;
    to->table = state_table_copy(from->table, m);
    map64_init(&to->producers, m);
    size_t cursor = 0;
    uint64_t key;
    const struct state_producer *p;
    while ((p = map64_next(&from->producers, &cursor, &key)) != NULL) {
        map64_put(&to->producers, key, array_copy(m, p, 1, sizeof(*p)));
    }
}

/* Room for one more element. Begins with one: most partitions have one segment and one leader epoch. */
static void *array_grow(struct mem *m, void *array, uint32_t count, uint32_t *capacity, size_t element_size) {
    ASSERT(count <= *capacity);
    if (count < *capacity) return array;
    ASSERT(*capacity <= UINT32_MAX / 2);
    *capacity = *capacity ? *capacity * 2 : 1;
    return mem_realloc(m, array, (size_t)*capacity * element_size);
}

static void segment_push(struct stream_state *s, const struct state_segment *g) {
    s->segments = array_grow(s->mem, s->segments, s->segment_count, &s->segment_capacity, sizeof(*g));
    s->segments[s->segment_count++] = *g;
}

/* Lengthens the newest segment by what follows it. */
static void segment_extend(struct stream_state *s, const struct state_segment *more) {
    struct state_segment *last = &s->segments[s->segment_count - 1];
    if (last->max_timestamp == INT64_MIN) last->first_timestamp = more->first_timestamp;
    last->max_timestamp = max_i64(last->max_timestamp, more->max_timestamp);
    last->size_bytes += more->size_bytes;
}

/* Notes that the batches from start_offset on have this leader epoch, unless one at least as new is known. */
static void epoch_note(struct stream_state *s, int32_t leader_epoch, uint64_t start_offset) {
    if (leader_epoch < 0) return;
    if (s->epoch_count > 0 && s->epochs[s->epoch_count - 1].leader_epoch >= leader_epoch) return;
    s->epochs = array_grow(s->mem, s->epochs, s->epoch_count, &s->epoch_capacity, sizeof(*s->epochs));
    s->epochs[s->epoch_count++] = (struct state_epoch){leader_epoch, start_offset};
}

static void range_push(struct stream_state *s, const struct state_range *r) {
    s->ranges = array_grow(s->mem, s->ranges, s->range_count, &s->range_capacity, sizeof(*r));
    s->ranges[s->range_count++] = *r;
}

static void array_drop_front(void *array, uint32_t *count, uint32_t dropped, size_t element_size) {
    ASSERT(dropped <= *count);
    if (dropped == 0) return;
    *count -= dropped;
    memmove(array, (uint8_t *)array + (size_t)dropped * element_size, (size_t)*count * element_size);
}

/* Drops what the log start offset makes superfluous; every operation ends with it. */
static void normalise(struct stream_state *s) {
    uint64_t start = s->start_offset;
    uint32_t n = 0;
    while (n + 1 < s->segment_count && s->segments[n + 1].base_offset <= start) n++;
    if (n > 0) s->continues_segment = false;
    array_drop_front(s->segments, &s->segment_count, n, sizeof(*s->segments));

    for (n = 0; n + 1 < s->epoch_count && s->epochs[n + 1].start_offset <= start;) n++;
    array_drop_front(s->epochs, &s->epoch_count, n, sizeof(*s->epochs));
    if (s->epoch_count > 0) s->epochs[0].start_offset = max_u64(s->epochs[0].start_offset, start);

    for (n = 0; n < s->range_count && s->ranges[n].end_offset <= start;) n++;
    array_drop_front(s->ranges, &s->range_count, n, sizeof(*s->ranges));
}

static struct state_producer *producer_add(struct stream_state *s, int64_t producer_id, int16_t epoch) {
    struct state_producer *p = MEM_NEW(s->mem, struct state_producer);
    p->producer_id = producer_id;
    p->epoch = epoch;
    void *before = map64_put(&s->producers, (uint64_t)producer_id + 1, p);
    ASSERT(before == NULL);
    return p;
}

/* Adds `count` batches of one producer epoch, oldest first; last_timestamp is the newest one's. */
static void producer_note(struct stream_state *s, const struct state_producer *more) {
    struct state_producer *p = state_producer_get(s, more->producer_id);
    if (!p) p = producer_add(s, more->producer_id, more->epoch);
    if (more->epoch < p->epoch) return;
    if (more->epoch > p->epoch) {
        p->epoch = more->epoch;
        p->count = 0;
    }
    size_t keep = STATE_PRODUCER_BATCHES - (size_t)more->count;
    if (keep > p->count) keep = p->count;
    memmove(p->batches, &p->batches[p->count - keep], keep * sizeof(p->batches[0]));
    memcpy(&p->batches[keep], more->batches, more->count * sizeof(p->batches[0]));
    p->count = (uint8_t)(keep + more->count);
    p->last_timestamp = more->last_timestamp;
    ASSERT(p->count >= 1 && p->count <= STATE_PRODUCER_BATCHES);
}

void state_apply_batch(struct stream_state *s, const struct state_batch *b) {
    ASSERT(b->base_offset == s->end_offset);
    ASSERT(b->end_offset > b->base_offset && b->end_offset <= OFFSET_MAX);
    struct state_segment g = {b->base_offset, b->size_bytes, b->first_timestamp, b->max_timestamp};
    if (b->rolls || s->segment_count == 0) {
        /* The first batch of a section that does not roll belongs to a segment that only the state before it knows. */
        if (s->delta && s->segment_count == 0 && !b->rolls) s->continues_segment = true;
        segment_push(s, &g);
    } else {
        segment_extend(s, &g);
    }
    epoch_note(s, b->leader_epoch, b->base_offset);
    if (b->producer_id >= 0) {
        struct state_producer one = {
            .producer_id = b->producer_id, .epoch = b->producer_epoch, .count = 1, .last_timestamp = b->max_timestamp};
        one.batches[0].first_sequence = b->first_sequence;
        one.batches[0].last_sequence = b->last_sequence;
        one.batches[0].base_offset = b->base_offset;
        one.batches[0].end_offset = b->end_offset;
        one.batches[0].max_timestamp = b->max_timestamp;
        producer_note(s, &one);
    }
    s->end_offset = b->end_offset;
    normalise(s);
}

enum err state_apply_table(struct stream_state *s, const uint8_t *batch, size_t size) {
    return state_table_apply(&s->table, s->mem, batch, size, s->delta);
}

void state_apply_trim(struct stream_state *s, uint64_t start_offset) {
    if (start_offset > s->end_offset) start_offset = s->end_offset;
    if (start_offset <= s->start_offset) return;
    s->start_offset = start_offset;
    normalise(s);
}

/* First range with an end above the offset: its index, or range_count. */
static uint32_t range_index(const struct stream_state *s, uint64_t offset) {
    uint32_t low = 0, high = s->range_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->ranges[middle].end_offset > offset) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* Whether the delta's ranges, as far as they are above start_offset, go on where those of s end. */
static bool ranges_follow(const struct stream_state *s, const struct stream_state *delta, uint64_t start_offset) {
    uint32_t old = range_index(s, start_offset), new = range_index(delta, start_offset);
    if (new == delta->range_count) return true;
    uint64_t first = delta->ranges[new].first_offset;
    if (old < s->range_count) return s->ranges[s->range_count - 1].end_offset == first;
    return first <= max_u64(start_offset, s->first_offset);
}

enum err state_merge(struct stream_state *s, const struct stream_state *delta) {
    ASSERT(delta->delta && s != delta);
    if (delta->first_offset != s->end_offset) return ERR_GAP;
    uint64_t start = max_u64(s->start_offset, delta->start_offset);
    if (!ranges_follow(s, delta, start)) return ERR_GAP;

    for (uint32_t i = 0; i < delta->segment_count; i++) {
        bool continues = i == 0 && delta->continues_segment;
        if (continues && s->segment_count > 0) {
            segment_extend(s, &delta->segments[i]);
        } else {
            if (continues && s->delta) s->continues_segment = true;
            segment_push(s, &delta->segments[i]);
        }
    }
    for (uint32_t i = 0; i < delta->epoch_count; i++) {
        epoch_note(s, delta->epochs[i].leader_epoch, delta->epochs[i].start_offset);
    }
    size_t cursor = 0;
    const struct state_producer *p;
    while ((p = map64_next(&delta->producers, &cursor, NULL)) != NULL) producer_note(s, p);
    state_table_merge(&s->table, s->mem, delta->table, s->delta);
    /* Those below the new start are left out at once: between them and the others there may be a hole. */
    s->start_offset = start;
    normalise(s);
    for (uint32_t i = range_index(delta, start); i < delta->range_count; i++) range_push(s, &delta->ranges[i]);
    s->end_offset = delta->end_offset;
    s->clean_offset = max_u64(s->clean_offset, delta->clean_offset);
    ASSERT(s->start_offset <= s->end_offset);
    return OK;
}

void state_add_range(struct stream_state *s, const struct state_range *r) {
    ASSERT(r->first_offset < r->end_offset && r->end_offset <= OFFSET_MAX);
    if (r->end_offset <= s->start_offset) return;
    if (s->range_count > 0) {
        ASSERT(s->ranges[s->range_count - 1].end_offset == r->first_offset);
    } else {
        ASSERT(r->first_offset <= max_u64(s->start_offset, s->first_offset));
    }
    range_push(s, r);
}

enum err state_replace_run(struct stream_state *s, const struct state_range *r, uint32_t count) {
    ASSERT(count > 0);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(r[i].first_offset < r[i].end_offset && (i == 0 || r[i].first_offset == r[i - 1].end_offset));
    }
    uint64_t from = r[0].first_offset, to = r[count - 1].end_offset;
    /* What was trimmed since the replacement was made is missing at the front: then it replaces from the first range
     * on. */
    uint32_t first = range_index(s, from), last = range_index(s, to - 1);
    if (last == s->range_count || s->ranges[last].end_offset != to) return ERR_STALE;
    if (s->ranges[first].first_offset != from) {
        bool trimmed = first == 0 && from < s->ranges[0].first_offset && s->ranges[0].first_offset <= s->start_offset;
        if (!trimmed) return ERR_STALE;
    }
    ASSERT(first <= last);
    uint32_t old = last - first + 1, behind = s->range_count - last - 1;
    while (s->range_capacity < s->range_count - old + count)
        s->ranges = array_grow(s->mem, s->ranges, s->range_capacity, &s->range_capacity, sizeof(*s->ranges));
    memmove(&s->ranges[first + count], &s->ranges[last + 1], behind * sizeof(*s->ranges));
    memcpy(&s->ranges[first], r, count * sizeof(*s->ranges));
    s->range_count = s->range_count - old + count;
    normalise(s);
    return OK;
}

enum err state_replace_ranges(struct stream_state *s, const struct state_range *r) {
    return state_replace_run(s, r, 1);
}

enum err state_apply_cleaned(struct stream_state *s, const struct stream_state *delta) {
    ASSERT(delta->delta && delta->clean_offset > 0);
    if (delta->clean_offset > s->end_offset) return ERR_STALE;
    s->clean_offset = max_u64(s->clean_offset, delta->clean_offset);
    if (delta->segment_count == 0 || s->segment_count == 0) return OK;
    /* The segment that holds the offset, and what follows it, stay. */
    uint32_t old = 0;
    while (old + 1 < s->segment_count && s->segments[old + 1].base_offset <= delta->clean_offset) old++;
    if (old == 0 || delta->segments[delta->segment_count - 1].base_offset >= s->segments[old].base_offset) return OK;
    uint32_t left = s->segment_count - old, count = delta->segment_count + left;
    struct state_segment *segments = mem_alloc(s->mem, count * sizeof(*segments));
    memcpy(segments, delta->segments, delta->segment_count * sizeof(*segments));
    memcpy(segments + delta->segment_count, s->segments + old, left * sizeof(*segments));
    mem_free(s->mem, s->segments);
    s->segments = segments;
    s->segment_count = s->segment_capacity = count;
    normalise(s);
    return OK;
}

void state_expiry_begin(const struct stream_state *s, struct state_expiry *x, uint64_t now_ns, int64_t wall_ms) {
    ASSERT(x->next.at_ns == 0 && now_ns > 0);
    x->old = x->next = (struct state_expiry_mark){now_ns, wall_ms, s->end_offset};
    if (s->producers.count == 0) return;
    int64_t newest = INT64_MIN;
    size_t cursor = 0;
    const struct state_producer *p;
    while ((p = map64_next(&s->producers, &cursor, NULL)) != NULL) {
        if (p->last_timestamp > newest) newest = p->last_timestamp;
    }
    if (newest < wall_ms) x->old.wall_ms = newest;
}

/* What the wall clock showed that long ago, as far as this process can know; INT64_MIN: nothing is that old. */
static int64_t expiry_limit(const struct stream_state *s, struct state_expiry *x, int64_t expiration_ms,
                            uint64_t now_ns, int64_t wall_ms) {
    if (x->next.at_ns == 0) state_expiry_begin(s, x, now_ns, wall_ms);
    ASSERT(x->next.at_ns <= now_ns);
    if ((int64_t)((now_ns - x->next.at_ns) / NS_PER_MS) >= expiration_ms) {
        x->old = x->next;
        x->next = (struct state_expiry_mark){now_ns, wall_ms, s->end_offset};
    }
    int64_t then_ms;
    if (__builtin_add_overflow(x->old.wall_ms, (int64_t)((now_ns - x->old.at_ns) / NS_PER_MS), &then_ms) ||
        then_ms > wall_ms)
        then_ms = wall_ms;
    return __builtin_sub_overflow(then_ms, expiration_ms, &then_ms) ? INT64_MIN : then_ms;
}

void state_expire_producers(struct stream_state *s, struct state_expiry *x, int64_t expiration_ms, uint64_t now_ns,
                            int64_t wall_ms) {
    ASSERT(expiration_ms >= 0 && !s->delta);
    int64_t limit_ms = expiry_limit(s, x, expiration_ms, now_ns, wall_ms);
    int64_t *expired = NULL;
    size_t count = 0, capacity = 0, cursor = 0;
    const struct state_producer *p;
    while ((p = map64_next(&s->producers, &cursor, NULL)) != NULL) {
        if (p->last_timestamp >= limit_ms || p->batches[p->count - 1].end_offset > x->old.end_offset) continue;
        expired = mem_grow(s->mem, expired, count, &capacity, sizeof(*expired));
        expired[count++] = p->producer_id;
    }
    if (count > 0 && count == s->producers.count) {
        producers_clear(s); /* gives the map's own memory back, too */
    } else {
        for (size_t i = 0; i < count; i++) mem_free(s->mem, map64_remove(&s->producers, (uint64_t)expired[i] + 1));
    }
    mem_free(s->mem, expired);
}

struct state_producer *state_producer_get(const struct stream_state *s, int64_t producer_id) {
    if (producer_id < 0) return NULL;
    return map64_get(&s->producers, (uint64_t)producer_id + 1);
}

const struct state_range *state_range_find(const struct stream_state *s, uint64_t offset) {
    uint32_t i = range_index(s, offset);
    return i < s->range_count ? &s->ranges[i] : NULL;
}

int32_t state_epoch_of(const struct stream_state *s, uint64_t offset) {
    int32_t found = -1;
    for (uint32_t i = 0; i < s->epoch_count && s->epochs[i].start_offset <= offset; i++)
        found = s->epochs[i].leader_epoch;
    return found;
}

uint64_t state_epoch_end(const struct stream_state *s, int32_t leader_epoch, int32_t *found_epoch) {
    uint32_t n = 0;
    while (n < s->epoch_count && s->epochs[n].leader_epoch <= leader_epoch) n++;
    if (n == 0) {
        *found_epoch = -1;
        return UINT64_MAX;
    }
    *found_epoch = s->epochs[n - 1].leader_epoch;
    return n < s->epoch_count ? s->epochs[n].start_offset : s->end_offset;
}

/* --- The stored form. */

static uint64_t zigzag(int64_t v) {
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v) {
    return (int64_t)((v >> 1) ^ (v & 1 ? UINT64_MAX : 0));
}

static void put_difference(struct buf *out, int64_t v, int64_t base) {
    buf_varint(out, zigzag((int64_t)((uint64_t)v - (uint64_t)base)));
}

static int64_t get_difference(struct reader *r, int64_t base) {
    return (int64_t)((uint64_t)unzigzag(reader_varint(r)) + (uint64_t)base);
}

static int producer_order(const void *a, const void *b) {
    const struct state_producer *const *x = a, *const *y = b;
    return ((*x)->producer_id > (*y)->producer_id) - ((*x)->producer_id < (*y)->producer_id);
}

static void encode_producers(const struct stream_state *s, struct buf *out) {
    buf_varint(out, s->producers.count);
    if (s->producers.count == 0) return;
    const struct state_producer **sorted = mem_alloc(s->mem, s->producers.count * sizeof(struct state_producer *));
    size_t count = 0, cursor = 0;
    const struct state_producer *p;
    while ((p = map64_next(&s->producers, &cursor, NULL)) != NULL) sorted[count++] = p;
    ASSERT(count == s->producers.count);
    qsort(sorted, count, sizeof(struct state_producer *), producer_order);
    int64_t id = 0;
    for (size_t i = 0; i < count; i++) {
        p = sorted[i];
        buf_varint(out, (uint64_t)(p->producer_id - id));
        id = p->producer_id;
        buf_varint(out, (uint16_t)p->epoch);
        buf_u8(out, p->count);
        buf_varint(out, zigzag(p->last_timestamp));
        uint64_t offset = 0;
        for (size_t k = 0; k < p->count; k++) {
            buf_varint(out, (uint32_t)p->batches[k].first_sequence);
            buf_varint(out, (uint32_t)p->batches[k].last_sequence);
            buf_varint(out, p->batches[k].base_offset - offset);
            buf_varint(out, p->batches[k].end_offset - p->batches[k].base_offset);
            put_difference(out, p->batches[k].max_timestamp, p->last_timestamp);
            offset = p->batches[k].end_offset;
        }
    }
    mem_free(s->mem, sorted);
}

static void encode_ranges(const struct stream_state *s, struct buf *out) {
    buf_varint(out, s->range_count);
    if (s->range_count == 0) return;
    ASSERT(s->ranges[s->range_count - 1].end_offset <= s->end_offset);
    buf_varint(out, s->ranges[0].first_offset);
    for (uint32_t i = 0; i < s->range_count; i++) {
        const struct state_range *r = &s->ranges[i];
        buf_u8(out, (uint8_t)r->object.kind);
        buf_varint(out, r->object.creator.v);
        buf_varint(out, r->object.number);
        buf_varint(out, r->end_offset - r->first_offset);
        buf_varint(out, zigzag(r->max_timestamp));
        buf_varint(out, r->position);
        buf_varint(out, r->size_bytes);
        buf_varint(out, r->block_count);
    }
}

void state_encode(const struct stream_state *s, struct buf *out) {
    ASSERT(s->start_offset <= s->end_offset && s->first_offset <= s->end_offset);
    ASSERT(s->delta || (!s->continues_segment && s->first_offset == 0));
    bool table = state_table_count(s->table) > 0;
    bool clean = s->clean_offset > 0;
    buf_u8(out, clean ? STATE_VERSION_CLEAN : table ? STATE_VERSION_TABLE : STATE_VERSION);
    buf_u8(out, (uint8_t)((s->delta ? STATE_FLAG_DELTA : 0) | (s->continues_segment ? STATE_FLAG_CONTINUES : 0) |
                          (clean && table ? STATE_FLAG_TABLE : 0)));
    if (s->delta) buf_varint(out, s->first_offset);
    buf_varint(out, s->end_offset - s->first_offset);
    buf_varint(out, s->start_offset);
    if (clean) buf_varint(out, s->clean_offset);
    buf_varint(out, s->segment_count);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < s->segment_count; i++) {
        const struct state_segment *g = &s->segments[i];
        buf_varint(out, g->base_offset - offset);
        buf_varint(out, g->size_bytes);
        buf_varint(out, zigzag(g->first_timestamp));
        put_difference(out, g->max_timestamp, g->first_timestamp);
        offset = g->base_offset;
    }
    buf_varint(out, s->epoch_count);
    int32_t leader_epoch = 0;
    offset = 0;
    for (uint32_t i = 0; i < s->epoch_count; i++) {
        buf_varint(out, (uint32_t)(s->epochs[i].leader_epoch - leader_epoch));
        buf_varint(out, s->epochs[i].start_offset - offset);
        leader_epoch = s->epochs[i].leader_epoch;
        offset = s->epochs[i].start_offset;
    }
    encode_producers(s, out);
    encode_ranges(s, out);
    if (table) state_table_encode(s->table, out);
}

/* *v += the next integer; false when the bytes end or the sum is above the limit. */
static bool get_sum(struct reader *r, uint64_t *v, uint64_t limit) {
    uint64_t more = reader_varint(r);
    if (r->failed || *v > limit || more > limit - *v) return false;
    *v += more;
    return true;
}

/* A count of elements that the bytes left can hold. */
static bool get_count(struct reader *r, uint32_t *count, size_t element_size_min) {
    uint64_t n = reader_varint(r);
    if (r->failed || n > reader_left(r) / element_size_min || n > UINT32_MAX / 2) return false;
    *count = (uint32_t)n;
    return true;
}

static bool decode_segments(struct stream_state *s, struct reader *r) {
    uint32_t count;
    if (!get_count(r, &count, SEGMENT_SIZE_MIN)) return false;
    if (count == 0) return true;
    s->segments = mem_alloc(s->mem, count * sizeof(*s->segments));
    s->segment_capacity = count;
    uint64_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t before = offset;
        if (!get_sum(r, &offset, s->end_offset) || (i > 0 && offset == before) || offset < s->first_offset)
            return false;
        struct state_segment g = {.base_offset = offset};
        g.size_bytes = reader_varint(r);
        g.first_timestamp = unzigzag(reader_varint(r));
        g.max_timestamp = get_difference(r, g.first_timestamp);
        s->segments[s->segment_count++] = g;
    }
    if (s->continues_segment && s->segments[0].base_offset != s->first_offset) return false;
    return !r->failed && (count == 1 || s->segments[1].base_offset > s->start_offset);
}

static bool decode_epochs(struct stream_state *s, struct reader *r) {
    uint32_t count;
    if (!get_count(r, &count, EPOCH_SIZE_MIN)) return false;
    if (count == 0) return true;
    s->epochs = mem_alloc(s->mem, count * sizeof(*s->epochs));
    s->epoch_capacity = count;
    uint64_t leader_epoch = 0, offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t epoch_before = leader_epoch, offset_before = offset;
        if (!get_sum(r, &leader_epoch, INT32_MAX) || !get_sum(r, &offset, s->end_offset)) return false;
        if (i > 0 && (leader_epoch == epoch_before || offset == offset_before)) return false;
        s->epochs[s->epoch_count++] = (struct state_epoch){(int32_t)leader_epoch, offset};
    }
    return s->epochs[0].start_offset >= max_u64(s->start_offset, s->first_offset);
}

static bool decode_producer(struct state_producer *p, struct reader *r, uint64_t end_offset) {
    uint64_t epoch = reader_varint(r);
    p->count = reader_u8(r);
    p->last_timestamp = unzigzag(reader_varint(r));
    if (r->failed || epoch > UINT16_MAX || p->count < 1 || p->count > STATE_PRODUCER_BATCHES) return false;
    p->epoch = (int16_t)(uint16_t)epoch;
    uint64_t offset = 0;
    for (size_t k = 0; k < p->count; k++) {
        uint64_t first_sequence = reader_varint(r), last_sequence = reader_varint(r);
        if (r->failed || first_sequence > UINT32_MAX || last_sequence > UINT32_MAX) return false;
        p->batches[k].first_sequence = (int32_t)(uint32_t)first_sequence;
        p->batches[k].last_sequence = (int32_t)(uint32_t)last_sequence;
        if (!get_sum(r, &offset, end_offset)) return false;
        p->batches[k].base_offset = offset;
        if (!get_sum(r, &offset, end_offset)) return false;
        p->batches[k].end_offset = offset;
        p->batches[k].max_timestamp = get_difference(r, p->last_timestamp);
        if (r->failed || p->batches[k].base_offset == p->batches[k].end_offset) return false;
    }
    /* Later than that when the ledger stamped it with the time it was seen. */
    return p->batches[p->count - 1].max_timestamp <= p->last_timestamp;
}

static bool decode_producers(struct stream_state *s, struct reader *r) {
    uint32_t count;
    if (!get_count(r, &count, PRODUCER_SIZE_MIN)) return false;
    uint64_t id = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t before = id;
        struct state_producer p = {0};
        if (!get_sum(r, &id, INT64_MAX) || (i > 0 && id == before)) return false;
        if (!decode_producer(&p, r, s->end_offset)) return false;
        p.producer_id = (int64_t)id;
        *producer_add(s, p.producer_id, p.epoch) = p;
    }
    return true;
}

static bool decode_ranges(struct stream_state *s, struct reader *r) {
    uint32_t count;
    if (!get_count(r, &count, RANGE_SIZE_MIN)) return false;
    if (count == 0) return true;
    uint64_t offset = reader_varint(r);
    if (r->failed || offset > max_u64(s->start_offset, s->first_offset)) return false;
    s->ranges = mem_alloc(s->mem, count * sizeof(*s->ranges));
    s->range_capacity = count;
    for (uint32_t i = 0; i < count; i++) {
        struct state_range g = {.first_offset = offset};
        uint8_t kind = reader_u8(r);
        if (kind != OBJECT_LEDGER_ENTRY && kind != OBJECT_DATA) return false;
        g.object.kind = (enum object_kind)kind;
        g.object.creator.v = reader_varint(r);
        g.object.number = reader_varint(r);
        if (!get_sum(r, &offset, s->end_offset) || offset == g.first_offset) return false;
        g.end_offset = offset;
        g.max_timestamp = unzigzag(reader_varint(r));
        g.position = reader_varint(r);
        g.size_bytes = reader_varint(r);
        uint64_t block_count = reader_varint(r);
        if (r->failed || block_count > UINT32_MAX) return false;
        g.block_count = (uint32_t)block_count;
        s->ranges[s->range_count++] = g;
    }
    return s->ranges[0].end_offset > s->start_offset;
}

static bool decode_offsets(struct stream_state *s, struct reader *r, uint8_t version, bool *table) {
    uint8_t flags = reader_u8(r);
    unsigned known = STATE_FLAG_DELTA | STATE_FLAG_CONTINUES | (version == STATE_VERSION_CLEAN ? STATE_FLAG_TABLE : 0);
    if (r->failed || (flags & ~known) != 0) return false;
    *table = version == STATE_VERSION_TABLE || (flags & STATE_FLAG_TABLE) != 0;
    s->delta = (flags & STATE_FLAG_DELTA) != 0;
    s->continues_segment = (flags & STATE_FLAG_CONTINUES) != 0;
    if (s->continues_segment && !s->delta) return false;
    if (s->delta && !get_sum(r, &s->first_offset, OFFSET_MAX)) return false;
    s->end_offset = s->first_offset;
    if (!get_sum(r, &s->end_offset, OFFSET_MAX) || !get_sum(r, &s->start_offset, s->end_offset)) return false;
    if (version != STATE_VERSION_CLEAN) return true;
    return get_sum(r, &s->clean_offset, s->end_offset) && s->clean_offset > 0;
}

enum err state_decode(struct stream_state *s, struct mem *m, struct reader *r) {
    state_init(s, m);
    uint8_t version = reader_u8(r);
    if (!r->failed && version > STATE_VERSION_CLEAN) return ERR_VERSION;
    bool table = false;
    bool ok = !r->failed && version >= STATE_VERSION && decode_offsets(s, r, version, &table) &&
              decode_segments(s, r) && decode_epochs(s, r) && decode_producers(s, r) && decode_ranges(s, r);
    if (ok && s->continues_segment && s->segment_count == 0) ok = false;
    if (ok && table) ok = state_table_decode(&s->table, m, r, s->first_offset, s->end_offset, s->delta);
    if (ok) return OK;
    state_deinit(s);
    return r->failed ? ERR_TRUNCATED : ERR_CORRUPT;
}
