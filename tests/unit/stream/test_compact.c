/* Which ranges object compaction takes: tiers, limits, that what a stream has stays few, and what it costs: a model of
 * uploads and jobs counts GETs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "stream/compact.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define BUDGET COMPACT_BYTES_MIN

static struct state_range ranges[1000];

static size_t fill(size_t at, size_t count, uint64_t size_bytes) {
    for (size_t i = 0; i < count; i++) ranges[at++] = (struct state_range){.size_bytes = size_bytes};
    return at;
}

static void finds(size_t count, size_t first, size_t run_count) {
    struct compact_run run;
    assert_true(compact_find_run(ranges, count, BUDGET, &run));
    assert_int_equal(run.first, first);
    assert_int_equal(run.count, run_count);
    uint64_t bytes = 0;
    for (size_t i = 0; i < run.count; i++) bytes += ranges[first + i].size_bytes;
    assert_int_equal(run.bytes, bytes);
    assert_true(bytes <= BUDGET);
}

static void finds_none(size_t count) {
    struct compact_run run;
    assert_false(compact_find_run(ranges, count, BUDGET, &run));
}

static void small_ones_are_taken_once_there_are_enough(void **state) {
    (void)state;
    finds_none(0);
    finds_none(fill(0, 31, KIB));
    finds(fill(0, 32, KIB), 0, 32);
    finds(fill(0, 100, KIB), 0, 32); /* so many, however many follow */
    /* Behind a large one; and one that is large ends a run. */
    size_t n = fill(fill(0, 3, 20 * MIB), 40, KIB);
    finds(n, 3, 32);
    n = fill(fill(0, 31, KIB), 1, 16 * MIB);
    finds_none(fill(n, 31, KIB));
}

/* All of it counts, not the first run alone: a stream that is far behind would be merged at the pace of one. */
static void what_there_is_to_merge(void **state) {
    (void)state;
    assert_int_equal(compact_debt(ranges, 0), 0);
    assert_int_equal(compact_debt(ranges, fill(0, 31, KIB)), 0);
    assert_int_equal(compact_debt(ranges, fill(0, 100, KIB)), 100 * KIB);
    size_t n = fill(fill(0, 320, KIB), 1, 16 * MIB);
    assert_int_equal(compact_debt(ranges, fill(n, 31, KIB)), 320 * KIB); /* what follows is none yet */
    assert_int_equal(compact_debt(ranges, fill(n, 80, 10 * MIB)), 320 * KIB + 800 * MIB);
    n = fill(0, 64, 100 * KIB);
    assert_int_equal(compact_debt(ranges, fill(n, 8, 10 * MIB)), 2 * 6400 * KIB + 80 * MIB); /* of both tiers */
}

static void tiers_do_not_mix(void **state) {
    (void)state;
    /* One of the second tier and many of the first: it would be written again with each few that come. */
    size_t n = fill(0, 1, 10 * MIB);
    finds_none(fill(n, 31, 100 * KIB));
    finds(fill(n, 32, 100 * KIB), 1, 32);
    /* Enough of the second tier: what is small between them goes along. */
    finds(fill(0, 30, 2 * MIB), 0, 8);
    n = fill(fill(fill(0, 4, 5 * MIB), 7, KIB), 4, 5 * MIB);
    finds(n, 0, 15);
    /* The lowest tier first. */
    finds(fill(n, 32, KIB), 15, 32);
}

static void a_run_fits_into_memory(void **state) {
    (void)state;
    finds(fill(0, 8, 16 * MIB - 1), 0, 8);
    finds(fill(0, 9, 16 * MIB - 1), 0, 8);
    /* Too much with what is small between: the oldest ones are left out, until it fits. */
    size_t n = 0;
    for (unsigned i = 0; i < 8; i++) n = fill(fill(n, 1, 16 * MIB - 1), 10, MIB - 1);
    finds_none(n);
    n = fill(n, 8, 14 * MIB);
    struct compact_run run;
    assert_true(compact_find_run(ranges, n, BUDGET, &run));
    assert_true(run.bytes <= BUDGET && run.first > 0);
}

/* Merges until nothing is left to merge, after each range that comes. */
static void what_a_stream_has_stays_few(void **state) {
    (void)state;
    uint64_t seed = 12345, total = 0, written = 0;
    size_t n = 0, most = 0;
    for (unsigned i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t size = ((seed >> 33) % 4 == 0) ? (seed >> 40) % (3 * MIB) + 1 : (seed >> 40) % (600 * KIB) + 1;
        total += size;
        n = fill(n, 1, size);
        struct compact_run run;
        while (compact_find_run(ranges, n, BUDGET, &run)) {
            assert_true(compact_debt(ranges, n) >= run.bytes);
            written += run.bytes;
            ranges[run.first] = (struct state_range){.size_bytes = run.bytes};
            memmove(&ranges[run.first + 1], &ranges[run.first + run.count],
                    (n - run.first - run.count) * sizeof(*ranges));
            n -= run.count - 1;
        }
        assert_int_equal(compact_debt(ranges, n), 0);
        if (n > most) most = n;
        assert_true(n < ARRAY_LEN(ranges));
    }
    assert_true(most <= total / (16 * MIB) + 256);
    assert_true(written <= 3 * total);
}

/* ---- a model of uploads and jobs ---- */

#define STREAMS_MAX 200
struct model {
    struct mem mem;
    struct compact_stream streams[STREAMS_MAX];
    struct state_range *ranges[STREAMS_MAX];
    size_t capacity[STREAMS_MAX], count;
    uint64_t seed, objects, produced, read, read_in_vain, gets, jobs;
    struct stream_id last;
};

static uint64_t model_random(struct model *m) {
    m->seed = m->seed * 6364136223846793005u + 1442695040888963407u;
    return m->seed >> 33;
}

static void model_init(struct model *m, size_t count) {
    *m = (struct model){.count = count, .seed = 42};
    mem_init_heap(&m->mem);
    for (size_t i = 0; i < count; i++) m->streams[i].id.v = i + 1;
}

static void model_deinit(struct model *m) {
    for (size_t i = 0; i < m->count; i++) mem_free(&m->mem, m->ranges[i]);
    assert_int_equal(m->mem.allocated_bytes, 0);
}

static void model_add(struct model *m, size_t i, struct state_range r) {
    m->ranges[i] = mem_grow(&m->mem, m->ranges[i], m->streams[i].count, &m->capacity[i], sizeof(r));
    m->ranges[i][m->streams[i].count++] = r;
    m->streams[i].ranges = m->ranges[i];
}

/* Each stream about as much; every eighth one is as busy as `slow` says, in percent. */
static void model_upload(struct model *m, uint64_t bytes, unsigned slow) {
    struct object_id id = {{1}, m->objects++, OBJECT_DATA};
    uint64_t position = 64;
    for (size_t i = 0; i < m->count; i++) {
        uint64_t size = bytes / m->count * (70 + model_random(m) % 61) / 100;
        if (i % 8 == 7) size = size * slow / 100;
        model_add(m, i, (struct state_range){.object = id, .position = position, .size_bytes = size});
        position += size;
        m->produced += size;
    }
}

static int model_by_place(const void *a, const void *b) {
    return compact_by_place(a, b);
}

static void model_read(struct model *m, const struct compact_pick *picks, size_t count, uint64_t budget) {
    struct state_range *sources = NULL;
    size_t n = 0, capacity = 0;
    uint64_t read_before = m->read + m->read_in_vain;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < picks[i].run.count; k++) {
            sources = mem_grow(&m->mem, sources, n, &capacity, sizeof(*sources));
            sources[n++] = m->ranges[picks[i].stream][picks[i].run.first + k];
        }
    }
    qsort(sources, n, sizeof(*sources), model_by_place);
    struct compact_span span = {.size = 0};
    for (size_t i = 0; i < n; i++) {
        m->read += sources[i].size_bytes;
        m->read_in_vain -= sources[i].size_bytes;
        uint64_t before = span.size, vain = UINT64_MAX;
        if (i > 0 && compact_span_join(&span, &sources[i], &vain)) {
            m->read_in_vain += span.size - before;
            continue;
        }
        span = (struct compact_span){sources[i].object, sources[i].position, sources[i].size_bytes};
        m->read_in_vain += span.size;
        m->gets++;
    }
    mem_free(&m->mem, sources);
    assert_true(m->read + m->read_in_vain - read_before <= budget);
}

/* False: there was nothing to do. */
static bool model_job(struct model *m, uint64_t budget) {
    struct compact_pick picks[STREAMS_MAX];
    size_t count = compact_choose(&m->mem, m->streams, m->count, &m->last, budget, picks);
    if (count == 0) return false;
    struct object_id id = {{1}, m->objects++, OBJECT_DATA};
    uint64_t position = 64;
    model_read(m, picks, count, budget);
    for (size_t i = 0; i < count; i++) {
        const struct compact_run *run = &picks[i].run;
        struct compact_stream *x = &m->streams[picks[i].stream];
        struct state_range *r = m->ranges[picks[i].stream];
        assert_true(run->count > 1 && run->first + run->count <= x->count);
        uint64_t bytes = 0;
        for (size_t k = 0; k < run->count; k++) bytes += r[run->first + k].size_bytes;
        assert_int_equal(bytes, run->bytes);
        r[run->first] = (struct state_range){.object = id, .position = position, .size_bytes = bytes};
        memmove(&r[run->first + 1], &r[run->first + run->count], (x->count - run->first - run->count) * sizeof(*r));
        x->count -= run->count - 1;
        position += bytes;
    }
    assert_true(position - 64 <= budget);
    m->jobs++;
    return true;
}

struct model_cost {
    double gets, jobs, written; /* for each GB produced; the last as a share of it */
};

static struct model_cost model_run(size_t streams, uint64_t upload_bytes, uint64_t budget, unsigned slow,
                                   unsigned uploads) {
    struct model m;
    model_init(&m, streams);
    for (unsigned i = 0; i < uploads; i++) {
        model_upload(&m, upload_bytes, slow);
        while (model_job(&m, budget)) continue;
    }
    double gb = (double)m.produced / 1e9;
    struct model_cost cost = {(double)m.gets / gb, (double)m.jobs / gb, (double)m.read / (double)m.produced};
    print_message("%zu streams, %d MiB in an upload, %d MiB of memory, %u%% slow: %.2f GET and %.2f objects for a GB, "
                  "%.2f bytes written again for each, %.2f read in vain\n",
                  streams, (int)(upload_bytes / MIB), (int)(budget / MIB), slow, cost.gets, cost.jobs, cost.written,
                  (double)m.read_in_vain / (double)m.produced);
    assert_true(m.read_in_vain <= m.read / 4);
    model_deinit(&m);
    return cost;
}

static void neighbours_end_in_the_same_objects(void **state) {
    (void)state;
    /* Large uploads, of which those that go into memory are read whole: one GET each. */
    struct model_cost c = model_run(100, 384 * MIB, 2560 * MIB, 100, 400);
    assert_true(c.gets < 4 && c.jobs < 0.6 && c.written < 1.1);
    /* The same when not all are alike: from time to time ranges are of another tier than their neighbours'. */
    c = model_run(100, 384 * MIB, 2560 * MIB, 50, 400);
    assert_true(c.gets < 5 && c.jobs < 0.8 && c.written < 1.3);
    c = model_run(100, 256 * MIB, 2304 * MIB, 100, 400);
    assert_true(c.gets < 6 && c.written < 1.2);
    /* Little memory: two rounds, of about eight objects each. */
    c = model_run(100, 32 * MIB, 256 * MIB, 100, 2000);
    assert_true(c.gets < 70 && c.written < 2.1);
    c = model_run(200, 64 * MIB, 256 * MIB, 10, 1000);
    assert_true(c.gets < 300 && c.written < 2.1);
}

static struct state_range at(uint64_t object, uint64_t position, uint64_t size) {
    return (struct state_range){.object = {{1}, object, OBJECT_DATA}, .position = position, .size_bytes = size};
}

/* One has a range of the low tier in the third object: alone it would end an object behind its neighbour, for ever. */
static void a_neighbour_goes_along_with_half_a_run(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct state_range a[8], b[8], c[8], d[9];
    for (uint64_t i = 0; i < 8; i++) {
        a[i] = at(i, 64, 3 * MIB);
        b[i] = at(i, 64 + 3 * MIB, i == 2 ? MIB / 2 : 3 * MIB);
        c[i] = at(i, 64 + 6 * MIB, i < 5 ? MIB / 2 : 3 * MIB); /* too few of that tier, but as many */
        d[i] = at(i + 8, 64 + 9 * MIB, 3 * MIB);               /* other objects */
    }
    const struct compact_stream all[] = {{{1}, a, 8}, {{2}, b, 8}, {{3}, c, 8}, {{4}, d, 8}};
    struct compact_pick picks[4];
    struct stream_id last = {0};
    assert_int_equal(compact_choose(&m, all, 4, &last, BUDGET, picks), 3);
    assert_int_equal(last.v, 3);
    assert_int_equal(picks[0].stream, 2); /* what is to be merged again comes first */
    assert_int_equal(picks[0].run.count, 8);
    assert_int_equal(picks[1].stream, 0);
    assert_int_equal(picks[1].run.count, 8);
    assert_int_equal(picks[2].stream, 1);
    assert_int_equal(picks[2].run.count, 8);
    /* The next turn is another's, with its own objects. */
    assert_int_equal(compact_choose(&m, all, 4, &last, BUDGET, picks), 1);
    assert_int_equal(picks[0].stream, 3);
    assert_int_equal(compact_choose(&m, all, 4, &last, BUDGET, picks), 3); /* and round */
    last.v = 0;
    assert_int_equal(compact_choose(&m, all + 1, 2, &last, BUDGET, picks), 0); /* none is whole */
    assert_int_equal(m.allocated_bytes, 0);
}

static void gaps_are_read_where_they_are_small(void **state) {
    (void)state;
    struct compact_span x = {{{1}, 1, OBJECT_DATA}, 64, 1000};
    uint64_t vain = UINT64_MAX;
    struct state_range r = at(1, 1064, 10);
    assert_true(compact_span_join(&x, &r, &vain));
    assert_int_equal(x.size, 1010);
    r = at(1, 1074 + COMPACT_GAP, 10);
    assert_true(compact_span_join(&x, &r, &vain));
    r = at(1, x.position + x.size + COMPACT_GAP + 1 + x.size, 10); /* more than what is wanted */
    assert_false(compact_span_join(&x, &r, &vain));
    r = at(2, x.position + x.size, 10);
    assert_false(compact_span_join(&x, &r, &vain));
    r = at(1, 0, 10);
    assert_false(compact_span_join(&x, &r, &vain));
    assert_int_equal(vain, UINT64_MAX - COMPACT_GAP);
    vain = 999; /* there is memory for no more */
    r = at(1, x.position + x.size + 1000, 10);
    assert_false(compact_span_join(&x, &r, &vain));
    r = at(1, x.position + x.size + 999, 10);
    assert_true(compact_span_join(&x, &r, &vain));
    assert_int_equal(vain, 0);
    x.size = COMPACT_GET_MAX;
    r = at(1, x.position + x.size, 10);
    assert_false(compact_span_join(&x, &r, &vain));
}

/* Each of eight streams has a little of eight objects, and what lies between is of others who are not merged. */
static void what_lies_between_takes_memory(void **state) {
    (void)state;
    enum { STREAMS = 8 };
    struct mem m;
    mem_init_heap(&m);
    struct state_range r[STREAMS][8];
    struct compact_stream all[STREAMS];
    struct compact_wanted wanted[STREAMS * 8];
    struct compact_pick picks[STREAMS];
    struct stream_id last = {0};
    for (uint64_t s = 0; s < STREAMS; s++) {
        for (uint64_t o = 0; o < 8; o++) {
            r[s][o] = at(o, 64 + s * 4 * MIB, 2 * MIB);
            wanted[s * 8 + o] = (struct compact_wanted){&r[s][o], s};
        }
        all[s] = (struct compact_stream){{s + 1}, r[s], 8};
    }
    compact_wanted_sort(wanted, ARRAY_LEN(wanted));
    assert_int_equal(compact_wanted_bytes(wanted, ARRAY_LEN(wanted), 1), 16 * MIB);
    assert_int_equal(compact_wanted_bytes(wanted, ARRAY_LEN(wanted), STREAMS), (8 * STREAMS * 4 - 8 * 2) * MIB);
    assert_int_equal(compact_choose(&m, all, STREAMS, &last, 8 * STREAMS * 2 * MIB, picks), 4);
    assert_int_equal(last.v, 4); /* the others have the next turn */
    /* And round: what is far away brings nothing with it. */
    assert_int_equal(compact_choose(&m, all, STREAMS, &last, 8 * STREAMS * 2 * MIB, picks), 5);
    assert_int_equal(last.v, 1);
    assert_int_equal(m.allocated_bytes, 0);
}

/* Objects that are emptied: what is wanted of each, with what lies between, has to fit beside those in front of it. */
static void objects_are_emptied_as_far_as_memory_goes(void **state) {
    (void)state;
    struct state_range r[] = {
        at(1, 64, 20 * MIB),
        at(1, 64 + 24 * MIB, 20 * MIB), /* 44 with what lies between */
        at(2, 64, 30 * MIB),
        at(2, 64 + 60 * MIB, 10 * MIB), /* 40: too far apart for one GET */
        at(3, 64 + 100 * MIB, 1 * MIB),
    };
    const size_t objects[] = {0, 0, 1, 1, 2};
    struct compact_wanted wanted[ARRAY_LEN(r)];
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        wanted[i] = (struct compact_wanted){&r[ARRAY_LEN(r) - 1 - i], objects[ARRAY_LEN(r) - 1 - i]};
    compact_wanted_sort(wanted, ARRAY_LEN(wanted));
    const struct {
        uint64_t budget;
        bool fits[3];
    } cases[] = {{85 * MIB, {true, true, true}},
                 {84 * MIB, {true, true, false}},
                 {84 * MIB - 1, {true, false, true}},
                 {45 * MIB, {true, false, true}},
                 {45 * MIB - 1, {true, false, false}},
                 {43 * MIB, {true, false, false}}}; /* the first alone is read without what lies between */
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool fits[3] = {false, false, false};
        compact_objects_fit(wanted, ARRAY_LEN(wanted), cases[i].budget, fits);
        assert_memory_equal(fits, cases[i].fits, sizeof(fits));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_are_taken_once_there_are_enough),
        cmocka_unit_test(what_there_is_to_merge),
        cmocka_unit_test(tiers_do_not_mix),
        cmocka_unit_test(a_run_fits_into_memory),
        cmocka_unit_test(what_a_stream_has_stays_few),
        cmocka_unit_test(neighbours_end_in_the_same_objects),
        cmocka_unit_test(a_neighbour_goes_along_with_half_a_run),
        cmocka_unit_test(gaps_are_read_where_they_are_small),
        cmocka_unit_test(what_lies_between_takes_memory),
        cmocka_unit_test(objects_are_emptied_as_far_as_memory_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
