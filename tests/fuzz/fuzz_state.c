/* Any bytes as an encoded state. What decodes must encode again to the same bytes, and stand what is done with it:
 * merging (a delta), trimming, replacing ranges, looking things up. */
#include "base/assert.h"
#include "stream/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same_again(struct mem *m, const struct stream_state *s) {
    struct buf one, two;
    buf_init(&one, m);
    buf_init(&two, m);
    state_encode(s, &one);
    struct reader r = reader_of(one.data, one.size);
    struct stream_state again;
    enum err e = state_decode(&again, m, &r);
    ASSERT(e == OK && reader_left(&r) == 0);
    state_encode(&again, &two);
    ASSERT(one.size == two.size && memcmp(one.data, two.data, one.size) == 0);
    state_deinit(&again);
    buf_deinit(&one);
    buf_deinit(&two);
}

static void use(struct mem *m, struct stream_state *s) {
    struct stream_state whole;
    state_init(&whole, m);
    if (s->delta) {
        enum err e = state_merge(&whole, s);
        ASSERT(e == OK || e == ERR_GAP);
        if (e == OK) same_again(m, &whole);
    }
    state_deinit(&whole);
    for (uint32_t i = 0; i < s->range_count; i++) {
        struct state_range r = s->ranges[i];
        ASSERT(state_range_find(s, r.first_offset) != NULL);
        ASSERT(state_replace_ranges(s, &r) == OK);
    }
    struct stream_state copy;
    state_copy(&copy, s, m);
    ASSERT(state_table_count(copy.table) == state_table_count(s->table));
    state_deinit(&copy);
    int32_t epoch;
    (void)state_epoch_of(s, s->end_offset);
    (void)state_epoch_end(s, 3, &epoch);
    state_apply_trim(s, s->start_offset + (s->end_offset - s->start_offset) / 2);
    if (!s->delta) same_again(m, s);
    struct state_expiry expiry = {0};
    if (!s->delta)
        for (uint64_t ms = 1; ms < 20000; ms *= 2) state_expire_producers(s, &expiry, 1000, ms * 1000000, (int64_t)ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct stream_state s;
    struct reader r = reader_of(data, size);
    enum err e = state_decode(&s, &m, &r);
    if (e == OK) {
        same_again(&m, &s);
        use(&m, &s);
        state_deinit(&s);
    } else {
        ASSERT(e == ERR_TRUNCATED || e == ERR_CORRUPT || e == ERR_VERSION);
    }
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
