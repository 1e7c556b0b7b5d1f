/* Framing: whatever the pieces in which bytes arrive, the same frames come out; memory follows what arrived, not what
 * was announced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/random.h"
#include "broker/receive.h"

static struct mem mem;
static unsigned freed;

static void count_freed(void *ctx) {
    (void)ctx;
    freed++;
}

/* Feeds `size` bytes in pieces of 1..chunk and gives each frame to check(). Returns the number of frames. */
static size_t feed(struct receiver *r, struct rng *rng, const uint8_t *data, size_t size, size_t chunk,
                   const uint8_t *expected, bool detach) {
    size_t frames = 0, at = 0;
    for (size_t done = 0; done < size;) {
        struct env_bytes room = receiver_room(r);
        assert_true(room.size > 0);
        size_t n = 1 + rng_below(rng, chunk);
        if (n > size - done) n = size - done;
        if (n > room.size) n = room.size;
        memcpy(room.data, data + done, n);
        done += n;
        receiver_received(r, n);
        struct frame f;
        int64_t announced;
        enum err e;
        while ((e = receiver_next(r, &f, &announced)) == OK) {
            if (detach) receive_frame_detach(r->pool, &f);
            size_t want = be32_get(expected + at);
            assert_int_equal(f.size, want);
            assert_memory_equal(f.data, expected + at + 4, want);
            memset(f.data, 0xee, f.size); /* frames may be changed in place: nobody else's bytes may suffer */
            at += 4 + want;
            frames++;
            receive_frame_release(r->pool, &f);
        }
        assert_int_equal(e, ERR_NOT_FOUND);
    }
    return frames;
}

static size_t make_frames(struct rng *rng, struct buf *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        static const size_t ranges[] = {40, 600, 70000, 400000, 3000000};
        size_t size = 8 + rng_below(rng, ranges[rng_below(rng, i % 20 == 0 ? 5 : 4)]);
        be32_put(buf_extend(b, 4), (uint32_t)size);
        rng_fill(rng, buf_extend(b, size), size);
    }
    return count;
}

static void test_random_splits(void **state) {
    (void)state;
    static const size_t chunks[] = {1, 3, 5000, 100000, 2000000};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct buf b;
        buf_init(&b, &mem);
        size_t chunk = chunks[seed % 5];
        size_t count = make_frames(&rng, &b, chunk <= 3 ? 3 : 60);
        struct receive_pool pool;
        receive_pool_init(&pool, &mem, 64 << 20, NULL, count_freed, NULL);
        struct receiver r;
        receiver_init(&r, &pool, 100 << 20);
        assert_int_equal(feed(&r, &rng, b.data, b.size, chunk, b.data, seed % 2), count);
        assert_false(receiver_partial(&r));
        receiver_deinit(&r);
        receive_pool_deinit(&pool);
        buf_deinit(&b);
    }
}

/* Frames of several connections share slabs; one that is kept must not be overwritten by those that come later. */
static void test_kept_frames_stay(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    struct receive_pool pool;
    receive_pool_init(&pool, &mem, 64 << 20, NULL, NULL, NULL);
    struct receiver r[3];
    struct frame kept[200];
    uint8_t *copies[200];
    for (int i = 0; i < 3; i++) receiver_init(&r[i], &pool, 1 << 20);
    for (size_t n = 0; n < 200; n++) {
        struct receiver *to = &r[n % 3];
        size_t size = 8 + rng_below(&rng, 30000);
        copies[n] = mem_alloc(&mem, 4 + size);
        be32_put(copies[n], (uint32_t)size);
        rng_fill(&rng, copies[n] + 4, size);
        for (size_t done = 0; done < 4 + size;) {
            struct env_bytes room = receiver_room(to);
            size_t k = 1 + rng_below(&rng, 20000);
            if (k > 4 + size - done) k = 4 + size - done;
            if (k > room.size) k = room.size;
            memcpy(room.data, copies[n] + done, k);
            done += k;
            receiver_received(to, k);
            int64_t announced;
            assert_int_equal(receiver_next(to, &kept[n], &announced), done == 4 + size ? OK : ERR_NOT_FOUND);
            if (done < 4 + size) continue;
            int64_t ignored;
            struct frame none;
            assert_int_equal(receiver_next(to, &none, &ignored), ERR_NOT_FOUND);
        }
        if (n >= 20) { /* the oldest goes, in no particular order */
            size_t old = n - 20;
            assert_memory_equal(kept[old].data, copies[old] + 4, kept[old].size);
            receive_frame_release(&pool, &kept[old]);
        }
    }
    for (size_t n = 180; n < 200; n++) {
        assert_memory_equal(kept[n].data, copies[n] + 4, kept[n].size);
        receive_frame_release(&pool, &kept[n]);
    }
    for (size_t n = 0; n < 200; n++) mem_free(&mem, copies[n]);
    for (int i = 0; i < 3; i++) receiver_deinit(&r[i]);
    receive_pool_deinit(&pool);
}

static enum err announce(struct receiver *r, uint32_t size, size_t extra) {
    struct env_bytes room = receiver_room(r);
    assert_true(room.size >= 4 + extra || room.size >= 4);
    be32_put(room.data, size);
    memset((uint8_t *)room.data + 4, 0, extra);
    receiver_received(r, 4 + extra);
    struct frame f;
    int64_t announced;
    return receiver_next(r, &f, &announced);
}

static void test_bad_sizes(void **state) {
    (void)state;
    static const struct {
        uint32_t size;
        enum err err;
    } cases[] = {{0xffffffffu, ERR_PROTOCOL}, {0x80000000u, ERR_PROTOCOL},  {0, ERR_PROTOCOL},     {7, ERR_PROTOCOL},
                 {1001, ERR_TOO_LARGE},       {0x7fffffffu, ERR_TOO_LARGE}, {1000, ERR_NOT_FOUND}, {8, ERR_NOT_FOUND}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct receive_pool pool;
        receive_pool_init(&pool, &mem, 1 << 20, NULL, NULL, NULL);
        struct receiver r;
        receiver_init(&r, &pool, 1000);
        assert_int_equal(announce(&r, cases[i].size, 0), cases[i].err);
        receiver_deinit(&r);
        receive_pool_deinit(&pool);
    }
}

static void test_announcing_costs_little(void **state) {
    (void)state;
    enum { COUNT = 1500 };
    struct receive_pool pool;
    receive_pool_init(&pool, &mem, 256 << 20, NULL, NULL, NULL);
    static struct receiver r[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        receiver_init(&r[i], &pool, 100 << 20);
        assert_int_equal(announce(&r[i], 90 << 20, 0), ERR_NOT_FOUND);
    }
    /* One slab, and little for each. */
    assert_in_range(pool.budget.used_bytes, 1, RECEIVE_SLAB_BYTES + RECEIVE_FIRST_BYTES * COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        struct env_bytes room = receiver_room(&r[i]);
        assert_in_range(room.size, 1, RECEIVE_FIRST_BYTES);
        receiver_deinit(&r[i]);
    }
    receive_pool_deinit(&pool);
}

static void test_buffer_follows_data(void **state) {
    (void)state;
    struct receive_pool pool;
    receive_pool_init(&pool, &mem, 256 << 20, NULL, NULL, NULL);
    struct receiver r;
    receiver_init(&r, &pool, 100 << 20);
    assert_int_equal(announce(&r, 90 << 20, 0), ERR_NOT_FOUND);
    size_t have = 4;
    while (have < 20 << 20) {
        struct env_bytes room = receiver_room(&r);
        size_t most = have * RECEIVE_AHEAD > RECEIVE_FIRST_BYTES ? have * RECEIVE_AHEAD : RECEIVE_FIRST_BYTES;
        assert_true(have + room.size <= most);
        size_t n = room.size < 100000 ? room.size : 100000;
        memset(room.data, 1, n);
        receiver_received(&r, n);
        have += n;
        struct frame f;
        int64_t announced;
        assert_int_equal(receiver_next(&r, &f, &announced), ERR_NOT_FOUND);
    }
    receiver_deinit(&r);
    receive_pool_deinit(&pool);
}

/* The budget is used up by parts of requests: one of them is completed all the same, then the next. */
static void test_favourite(void **state) {
    (void)state;
    enum { COUNT = 5, SIZE = RECEIVE_SLAB_BYTES + 100000 }; /* too large for a slab: buffers of their own */
    struct receive_pool pool;
    receive_pool_init(&pool, &mem, 1 << 20, NULL, count_freed, NULL);
    struct receiver r[COUNT];
    size_t got[COUNT] = {0};
    for (size_t i = 0; i < COUNT; i++) receiver_init(&r[i], &pool, 1 << 20);
    unsigned done = 0;
    bool starved_once = false;
    for (unsigned round = 0; done < COUNT; round++) {
        assert_true(round < 1000);
        for (size_t i = 0; i < COUNT; i++) {
            if (got[i] == SIZE + 4) continue;
            struct env_bytes room = receiver_room(&r[i]);
            if (room.size == 0) {
                starved_once = true;
                continue;
            }
            size_t n = room.size < 50000 ? room.size : 50000;
            if (n > SIZE + 4 - got[i]) n = SIZE + 4 - got[i];
            memset(room.data, 5, n);
            for (size_t k = got[i]; k < 4 && k < got[i] + n; k++)
                ((uint8_t *)room.data)[k - got[i]] = (uint8_t)(SIZE >> (24 - 8 * k));
            receiver_received(&r[i], n);
            got[i] += n;
            struct frame f;
            int64_t announced;
            enum err e = receiver_next(&r[i], &f, &announced);
            assert_int_equal(e, got[i] == SIZE + 4 ? OK : ERR_NOT_FOUND);
            if (e != OK) continue;
            done++;
            unsigned before = freed;
            receive_frame_release(&pool, &f);
            assert_true(freed > before); /* whoever starved is told */
        }
    }
    assert_true(starved_once);
    for (size_t i = 0; i < COUNT; i++) receiver_deinit(&r[i]);
    receive_pool_deinit(&pool);
}

/* One large frame, whole or only its beginning. */
static struct frame large_frame(struct receiver *r, size_t size) {
    for (size_t done = 0; done < size + 4;) {
        struct env_bytes room = receiver_room(r);
        size_t n = room.size < size + 4 - done ? room.size : size + 4 - done;
        memset(room.data, 0xab, n);
        if (done == 0) be32_put(room.data, (uint32_t)size);
        receiver_received(r, n);
        done += n;
        struct frame f;
        int64_t announced;
        if (receiver_next(r, &f, &announced) == OK) return f;
    }
    assert_true(false);
    return (struct frame){0};
}

/* The pages of large requests are used again, the newest first, and not for ever. */
static void test_large_buffers_are_used_again(void **state) {
    (void)state;
    struct receive_pool p;
    struct receiver r;
    receive_pool_init(&p, &mem, 64u << 20, NULL, NULL, NULL);
    receiver_init(&r, &p, 8u << 20);
    struct frame a = large_frame(&r, 1u << 20), b = large_frame(&r, 1u << 20);
    const uint8_t *first = a.own, *second = b.own;
    assert_non_null(first);
    assert_ptr_not_equal(first, second);
    receive_frame_release(&p, &a);
    receive_frame_release(&p, &b);
    struct frame c = large_frame(&r, 1000u << 10), d = large_frame(&r, 1u << 20);
    assert_ptr_equal(c.own, second); /* also for one that is smaller */
    assert_ptr_equal(d.own, first);
    struct frame large = large_frame(&r, RECEIVE_SPARE_MAX + 1);
    struct frame more[RECEIVE_SPARES];
    for (size_t i = 0; i < RECEIVE_SPARES; i++) more[i] = large_frame(&r, 1u << 20);
    receive_frame_release(&p, &large);
    receive_frame_release(&p, &c);
    receive_frame_release(&p, &d);
    for (size_t i = 0; i < RECEIVE_SPARES; i++) receive_frame_release(&p, &more[i]);
    assert_int_equal(p.budget.used_bytes, RECEIVE_SLAB_BYTES); /* what is kept is nobody's */
    size_t kept = 0;
    for (size_t i = 0; i < RECEIVE_SPARES; i++) kept += p.spares[i].size;
    assert_in_range(kept, 3u << 20, RECEIVE_SPARES * RECEIVE_SPARE_MAX);
    receive_pool_trim(&p);
    for (size_t i = 0; i < RECEIVE_SPARES; i++) assert_null(p.spares[i].data);
    receiver_deinit(&r);
    receive_pool_deinit(&p);
    assert_int_equal(atomic_load(&mem.allocated_bytes), 0);
}

int main(void) {
    mem_init_heap(&mem);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_splits),
        cmocka_unit_test(test_kept_frames_stay),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_announcing_costs_little),
        cmocka_unit_test(test_buffer_follows_data),
        cmocka_unit_test(test_favourite),
        cmocka_unit_test(test_large_buffers_are_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
