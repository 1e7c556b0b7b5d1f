/* What the tests of a partition's state share. */
#ifndef OXBOW_TESTS_STREAM_STATE_FIXTURE_H
#define OXBOW_TESTS_STREAM_STATE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "stream/state.h"

static struct mem heap;

static inline struct state_batch batch_at(uint64_t base, uint64_t count) {
    return (struct state_batch){.base_offset = base,
                                .end_offset = base + count,
                                .first_timestamp = 1000 + (int64_t)base,
                                .max_timestamp = 1000 + (int64_t)(base + count - 1),
                                .size_bytes = 100,
                                .producer_id = -1};
}

static inline struct state_range range_of(uint64_t first, uint64_t end, uint64_t number) {
    return (struct state_range){.object = {{77}, number, OBJECT_LEDGER_ENTRY},
                                .first_offset = first,
                                .end_offset = end,
                                .max_timestamp = (int64_t)end,
                                .position = number * 10,
                                .size_bytes = 500,
                                .block_count = 2};
}

/* Batches of ten offsets until `end`. */
static inline void fill(struct stream_state *s, uint64_t end) {
    while (s->end_offset < end) {
        struct state_batch b = batch_at(s->end_offset, 10);
        state_apply_batch(s, &b);
    }
}

static inline void assert_same(const struct stream_state *a, const struct stream_state *b) {
    struct buf x, y;
    buf_init(&x, &heap);
    buf_init(&y, &heap);
    state_encode(a, &x);
    state_encode(b, &y);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    buf_deinit(&x);
    buf_deinit(&y);
}

#endif
