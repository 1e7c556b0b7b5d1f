/* What is free goes back to the kernel once more is resident than is allowed, and not before. */
#include "unit/rt/linux_fixture.h"

#include "rt/linux/linux_priv.h"
#include "rt/sanitizer.h"

#define PIECE ((size_t)96 << 10)
#define PIECES 2000u

static uint64_t trims(struct linux_fixture *x) {
    return atomic_load(&x->env->metrics->counters[M_MEMORY_TRIMS][0]);
}

/* Large pieces with small ones between them; the large ones are freed: the heap cannot shrink by itself. */
static void leave_holes(struct linux_fixture *x, void **small) {
    struct mem *m = x->env->mem;
    void **large = mem_alloc(m, PIECES * sizeof(*large));
    for (unsigned i = 0; i < PIECES; i++) {
        large[i] = mem_alloc(m, PIECE);
        memset(large[i], 1, PIECE);
        small[i] = mem_alloc(m, 4096);
    }
    for (unsigned i = 0; i < PIECES; i++) mem_free(m, large[i]);
    mem_free(m, large);
}

static void what_is_free_goes_back(struct linux_fixture *x) {
    struct mem *m = x->env->mem;
    void **small = mem_alloc(m, PIECES * sizeof(*small));
    uint64_t before = linux_resident_bytes();
    linux_env_keep_within(x->env, UINT64_MAX);
    leave_holes(x, small);
    assert_int_equal(trims(x), 0);
    uint64_t holes = linux_resident_bytes();
    linux_env_keep_within(x->env, 1);
    for (unsigned i = 0; i < 2 * MEM_GROWTH_STEP / PIECE; i++) mem_free(m, mem_alloc(m, PIECE));
    for (unsigned i = 0; trims(x) == 0 && i < 20000; i++) fiber_sleep_ns(NS_PER_MS);
    assert_true(trims(x) > 0);
    if (!OXBOW_ASAN && !OXBOW_TSAN) {
        assert_true(holes > before + PIECES * PIECE / 2);
        assert_true(linux_resident_bytes() < before + PIECES * PIECE / 8);
    }
    for (unsigned i = 0; i < PIECES; i++) mem_free(m, small[i]);
    mem_free(m, small);
}
TEST_BOTH(what_is_free_goes_back)

static void is_kept(struct linux_fixture *x, unsigned count, uint64_t bytes) {
    struct linux_pages *k = &linux_env_of(x->env)->pages;
    assert_int_equal(k->count, count);
    assert_int_equal(k->bytes, bytes);
    assert_int_equal(atomic_load(&x->env->metrics->gauges[M_MEMORY_KEPT_BYTES]), bytes);
}

static void grown(void *ctx) {
    ++*(unsigned *)ctx;
}

static void growth_is_told_by_steps(void **state) {
    (void)state;
    struct mem m;
    unsigned told = 0;
    mem_init_heap(&m);
    mem_on_growth(&m, grown, &told);
    for (unsigned i = 0; i < 1000000; i++) mem_free(&m, mem_alloc(&m, 64)); /* small ones do not count */
    assert_int_equal(told, 0);
    for (unsigned i = 0; i < 10 * MEM_GROWTH_STEP / MEM_LARGE; i++) mem_free(&m, mem_alloc(&m, MEM_LARGE));
    assert_int_equal(told, 10);
    void *p = mem_realloc(&m, NULL, MEM_GROWTH_STEP);
    assert_int_equal(told, 11);
    mem_free(&m, p);
    mem_on_growth(&m, NULL, NULL);
    mem_free(&m, mem_alloc(&m, 2 * MEM_GROWTH_STEP));
    assert_int_equal(told, 11);
}

static void pages_are_whole(struct linux_fixture *x) {
    static const size_t sizes[] = {4096, MEM_LARGE_PAGE - 4096, MEM_LARGE_PAGE, MEM_LARGE_PAGE + 4096,
                                   3 * MEM_LARGE_PAGE};
    struct mem *m = x->env->mem;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t before = atomic_load(&m->allocated_bytes), large = atomic_load(&m->large_bytes);
        bool whole = sizes[i] >= MEM_LARGE_PAGE;
        uint8_t *a = mem_pages(m, sizes[i]), *b = mem_pages(m, sizes[i]);
        assert_int_equal((uintptr_t)a % (whole ? MEM_LARGE_PAGE : 4096), 0);
        assert_true(atomic_load(&m->allocated_bytes) >= before + 2 * sizes[i]);
        if (whole) assert_int_equal(atomic_load(&m->large_bytes), large + 2 * sizes[i]);
        memset(a, 1, sizes[i]);
        memset(b, 2, sizes[i]);
        assert_true(a[0] == 1 && a[sizes[i] - 1] == 1);
        mem_pages_free(m, a, sizes[i]);
        assert_true(b[0] == 2 && b[sizes[i] - 1] == 2);
        mem_pages_free(m, b, sizes[i]);
        assert_int_equal(atomic_load(&m->allocated_bytes), before);
    }
}
TEST_BOTH(pages_are_whole)

/* What is freed is had again, in parts and with its neighbours, as long as it is not more than a quarter of what the
 * process may have. */
static void pages_are_kept(struct linux_fixture *x) {
    struct mem *m = x->env->mem;
    size_t page = MEM_LARGE_PAGE, size = 3 * page + 5000;
    struct linux_pages *k = &linux_env_of(x->env)->pages;
    mem_pages_free(m, mem_pages(m, size), size);
    is_kept(x, 0, 0); /* before it is said what the process may have */
    linux_env_keep_within(x->env, 4 * 12 * page);
    uint8_t *all = mem_pages(m, 12 * page);
    memset(all, 1, 12 * page);
    mem_pages_free(m, all, 12 * page);
    is_kept(x, 1, 12 * page);
    /* Parts: 4 pages, 4 pages, 2 pages; 2 are left. */
    uint8_t *a = mem_pages(m, size), *b = mem_pages(m, size), *c = mem_pages(m, 2 * page);
    assert_true(a == all && b == a + 4 * page && c == b + 4 * page);
    is_kept(x, 1, 2 * page);
    mem_pages_free(m, a, size);
    is_kept(x, 2, 6 * page);
    assert_ptr_equal(mem_pages(m, 2 * page), all + 10 * page); /* of the smallest that is large enough */
    is_kept(x, 1, 4 * page);
    assert_true(mem_pages(m, page) == all);
    mem_pages_free(m, c, 2 * page);
    is_kept(x, 2, 5 * page);
    /* One that nothing kept is large enough for, and that is too much to keep beside it. */
    uint8_t *d = mem_pages(m, 8 * page);
    assert_true(d + 8 * page <= all || d >= all + 12 * page);
    mem_pages_free(m, d, 8 * page);
    is_kept(x, 2, 5 * page);
    /* Between two, behind one, in front of one. */
    mem_pages_free(m, b, size);
    is_kept(x, 1, 9 * page);
    mem_pages_free(m, all + 10 * page, 2 * page);
    is_kept(x, 1, 11 * page);
    mem_pages_free(m, all, page);
    is_kept(x, 1, 12 * page);
    assert_ptr_equal(mem_pages(m, 12 * page), all);
    is_kept(x, 0, 0);
    mem_pages_free(m, all, 12 * page);
    pages_give_back(k);
    is_kept(x, 0, 0);
    linux_env_keep_within(x->env, 0);
}
TEST_BOTH(pages_are_kept)

/* More ranges than there is room for: what is left over goes back to the kernel. */
static void ranges_are_bounded(struct linux_fixture *x) {
    enum { RANGES = PAGES_KEPT_MAX + 3 };
    struct mem *m = x->env->mem;
    struct linux_pages *k = &linux_env_of(x->env)->pages;
    linux_env_keep_within(x->env, (uint64_t)RANGES * 16 * MEM_LARGE_PAGE);
    char *all = mem_pages(m, 2 * RANGES * MEM_LARGE_PAGE);
    mem_pages_free(m, all, 2 * RANGES * MEM_LARGE_PAGE);
    for (unsigned i = 0; i < 2 * RANGES; i++) assert_ptr_equal(mem_pages(m, MEM_LARGE_PAGE), all + i * MEM_LARGE_PAGE);
    for (unsigned i = 0; i < RANGES; i++) mem_pages_free(m, all + 2 * (size_t)i * MEM_LARGE_PAGE, MEM_LARGE_PAGE);
    is_kept(x, PAGES_KEPT_MAX, PAGES_KEPT_MAX * MEM_LARGE_PAGE);
    for (unsigned i = 0; i < RANGES; i++) mem_pages_free(m, all + (2 * (size_t)i + 1) * MEM_LARGE_PAGE, MEM_LARGE_PAGE);
    is_kept(x, 4, (2 * RANGES - 3) * MEM_LARGE_PAGE);
    pages_give_back(k);
    linux_env_keep_within(x->env, 0);
}
TEST_BOTH(ranges_are_bounded)

int main(void) {
    const struct CMUnitTest tests[] = {RUN_BOTH(pages_are_whole), RUN_BOTH(pages_are_kept),
                                       RUN_BOTH(ranges_are_bounded), RUN_BOTH(what_is_free_goes_back),
                                       cmocka_unit_test(growth_is_told_by_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
