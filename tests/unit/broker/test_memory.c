/* What memory.bytes means: the limits of all budgets follow from one figure; what is set by hand stays; what cannot be is
 * refused with the least that could. And what the machine, or its control group, has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "broker/memory.h"

#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)
#define PART_ROUND ((int64_t)64 << 10) /* parts are multiples of it, or their least */
#define PARTS 9                        /* properties that are parts */

struct fixture {
    struct mem mem;
    struct config c;
    char why[CONFIG_WHY_SIZE];
    int64_t limits[MEMORY_BUDGETS];
    unsigned processors;
};

static int setup(void **state) {
    static struct fixture f;
    memset(&f, 0, sizeof(f));
    mem_init_heap(&f.mem);
    config_init_defaults(&f.c, &f.mem);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    config_deinit(&f->c);
    return f->mem.allocated_bytes != 0;
}

static void begin_anew(struct fixture *f) {
    config_deinit(&f->c);
    config_init_defaults(&f->c, &f->mem);
}

static void set(struct fixture *f, const char *name, const char *value) {
    enum err e = config_set(&f->c, name, value, f->why, sizeof(f->why));
    if (e) print_error("%s\n", f->why);
    assert_int_equal(e, OK);
}

/* The sum; what comes out must also pass what every configuration has to. */
static int64_t derive(struct fixture *f, int64_t machine) {
    enum err e = memory_derive(&f->c, (uint64_t)machine, f->processors, f->why, sizeof(f->why));
    if (e == OK) e = config_check(&f->c, f->why, sizeof(f->why));
    if (e) print_error("%s\n", f->why);
    assert_int_equal(e, OK);
    return memory_limits(&f->c, memory_shards(&f->c, f->processors), f->limits);
}

static void refused(struct fixture *f, int64_t machine, const char *expected) {
    f->why[0] = '\0';
    assert_int_equal(memory_derive(&f->c, (uint64_t)machine, f->processors, f->why, sizeof(f->why)), ERR_INVALID);
    if (!strstr(f->why, expected)) print_error("expected '%s', found '%s'\n", expected, f->why);
    assert_non_null(strstr(f->why, expected));
}

static void test_the_sum_is_that_of_all_rows(void **state) {
    struct fixture *f = *state;
    int64_t sum = memory_limits(&f->c, 1, f->limits), added = 0;
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) {
        assert_true(f->limits[i] > 0);
        added += f->limits[i];
    }
    assert_int_equal(sum, added);
    /* Each further shard has buffers of its own; nothing else depends on them. */
    assert_int_equal(memory_limits(&f->c, 4, f->limits) - sum, 3 * 12 * MIB);
}

/* Every row but the program's own is larger with a larger sum, and all of the sum is used but for what roundings leave. */
static void test_all_rows_follow_from_one_figure(void **state) {
    struct fixture *f = *state;
    static const char *const sums[] = {"1GiB", "4GiB", "32GiB", "512GiB"};
    int64_t before[MEMORY_BUDGETS] = {0};
    for (size_t i = 0; i < ARRAY_LEN(sums); i++) {
        begin_anew(f);
        set(f, "memory.bytes", sums[i]);
        int64_t sum = derive(f, 0), asked = f->c.memory_bytes;
        assert_true(sum <= asked);
        /* A step of the scale is a 1024th of the defaults. */
        int64_t whole, defaults[MEMORY_BUDGETS];
        struct config plain;
        config_init_defaults(&plain, &f->mem);
        whole = memory_limits(&plain, 1, defaults);
        config_deinit(&plain);
        assert_true(asked - sum <= whole / 1024 + PARTS * 3 * PART_ROUND);
        for (unsigned b = 0; b < MEMORY_BUDGETS; b++) {
            if (b == MEMORY_PROCESS)
                assert_true(f->limits[b] == 44 * MIB);
            else
                assert_true(f->limits[b] > before[b]);
            before[b] = f->limits[b];
        }
        /* The proportions are those of the defaults. */
        int64_t ratio = f->limits[MEMORY_BLOCK_CACHE] * 100 / f->limits[MEMORY_LOG_CACHE];
        assert_in_range(ratio, 49, 51);
    }
}

/* As the refusal says: so much is accepted, and less is not. */
static void test_the_least(void **state) {
    struct fixture *f = *state;
    set(f, "memory.bytes", "1MiB");
    refused(f, 0, "memory.bytes: expected at least ");
    int64_t least = memory_limits(&f->c, 1, f->limits);
    char text[32];
    /* Requests of 100 MiB must find room, three times over: requests, long lists and conversions. */
    assert_true(least > 3 * 100 * MIB && least < GIB);
    (void)snprintf(text, sizeof(text), "%ld", (long)least);
    begin_anew(f);
    set(f, "memory.bytes", text);
    assert_int_equal(derive(f, 0), least);
    (void)snprintf(text, sizeof(text), "%ld", (long)least - 1);
    begin_anew(f);
    set(f, "memory.bytes", text);
    refused(f, 0, "socket.request.max.bytes counts in several of them");
    /* Smaller requests let less be enough. */
    begin_anew(f);
    set(f, "memory.bytes", text);
    set(f, "socket.request.max.bytes", "1048576");
    set(f, "message.max.bytes", "1000000");
    assert_true(derive(f, 0) <= least - 1);
    assert_int_equal(f->c.socket_request_max_bytes, MIB);
}

static void test_what_is_set_stays(void **state) {
    struct fixture *f = *state;
    set(f, "memory.bytes", "2GiB");
    int64_t alone = derive(f, 0), share = f->limits[MEMORY_ANSWERS];
    begin_anew(f);
    set(f, "memory.bytes", "2GiB");
    set(f, "cache.log.bytes", "1GiB");
    set(f, "upload.bytes", "3MiB");
    assert_true(derive(f, 0) <= 2 * GIB);
    assert_int_equal(f->limits[MEMORY_LOG_CACHE], GIB);
    assert_int_equal(f->c.upload_bytes, 3 * MIB);
    assert_true(f->limits[MEMORY_ANSWERS] < share); /* the others share what that leaves */
    assert_true(alone <= 2 * GIB);
    /* What alone is more than there is cannot be. */
    begin_anew(f);
    set(f, "memory.bytes", "2GiB");
    set(f, "cache.block.bytes", "2GiB");
    refused(f, 0, "memory.bytes: expected at least ");
    assert_int_equal(f->c.cache_block_bytes, 2 * GIB);
    /* A part that is set to its default is set all the same. */
    begin_anew(f);
    set(f, "memory.bytes", "32GiB");
    set(f, "state.bytes", "512MiB");
    (void)derive(f, 0);
    assert_int_equal(f->c.state_bytes, 512 * MIB);
    assert_true(f->c.cache_log_bytes > GIB);
}

/* upload.bytes is at most half of cache.log.bytes, whichever of them is derived. */
static void test_parts_that_depend_on_each_other(void **state) {
    struct fixture *f = *state;
    set(f, "memory.bytes", "4GiB");
    set(f, "cache.log.bytes", "8MiB");
    (void)derive(f, 0);
    assert_int_equal(f->c.upload_bytes, 4 * MIB);
    begin_anew(f);
    set(f, "memory.bytes", "1GiB");
    set(f, "upload.bytes", "48MiB");
    (void)derive(f, 0);
    assert_true(f->c.cache_log_bytes >= 96 * MIB);
}

static void test_without_log_compaction(void **state) {
    struct fixture *f = *state;
    set(f, "memory.bytes", "1GiB");
    set(f, "log.cleaner.enable", "false");
    (void)derive(f, 0);
    assert_int_equal(f->limits[MEMORY_CLEANER], 0);
}

/* Nothing is said of memory: the defaults, or what four fifths of the machine allow. */
static void test_the_machine(void **state) {
    struct fixture *f = *state;
    int64_t whole = memory_limits(&f->c, 1, f->limits);
    assert_int_equal(derive(f, 0), whole);
    begin_anew(f);
    assert_int_equal(derive(f, 64 * GIB), whole);
    begin_anew(f);
    assert_int_equal(derive(f, whole * 5 / 4 + 100), whole); /* it just fits */
    begin_anew(f);
    int64_t sum = derive(f, 2 * GIB);
    assert_true(sum < whole && sum <= 2 * GIB / 100 * 80 && sum > 2 * GIB / 100 * 75);
    /* Where there is too little for the least, and nobody asked for anything, it is tried. */
    begin_anew(f);
    assert_true(derive(f, 64 * MIB) > 64 * MIB);
    /* Who has asked is told. */
    begin_anew(f);
    set(f, "cache.log.bytes", "4GiB");
    refused(f, 2 * GIB, "expected budgets whose sum is at most what this machine, or its control group, has (2GiB)");
    begin_anew(f);
    set(f, "memory.bytes", "3GiB");
    refused(f, 2 * GIB,
            "memory.bytes: expected at most what this machine, or its control group, has (2GiB), found 3GiB");
    begin_anew(f);
    set(f, "memory.bytes", "2GiB");
    assert_true(derive(f, 2 * GIB) <= 2 * GIB);
}

/* Each shard has buffers of its own, which count before there are any: also where the processors say how many there are to be. */
static void test_shards_count(void **state) {
    struct fixture *f = *state;
    assert_int_equal(memory_shards(&f->c, 0), 1);
    assert_int_equal(memory_shards(&f->c, 2), 1);
    assert_int_equal(memory_shards(&f->c, 32), 16);
    f->processors = 32;
    set(f, "memory.bytes", "4GiB");
    assert_true(derive(f, 0) <= 4 * GIB);
    assert_int_equal(f->limits[MEMORY_PROCESS], (32 + 16 * 12) * MIB);
    int64_t with_many = f->c.cache_log_bytes;
    begin_anew(f);
    set(f, "memory.bytes", "4GiB");
    set(f, "shards", "1");
    assert_true(derive(f, 0) <= 4 * GIB);
    assert_true(f->c.cache_log_bytes > with_many);
    /* None has less of the log cache than it needs, whatever is asked for. */
    begin_anew(f);
    set(f, "cache.log.bytes", "8MiB");
    set(f, "upload.bytes", "1MiB");
    (void)derive(f, 0);
    assert_int_equal(f->limits[MEMORY_LOG_CACHE], 16 * 8 * MIB);
}

/* What is published is what those look at who ask whether a budget is used up. */
static void test_published(void **state) {
    struct fixture *f = *state;
    static struct metrics m;
    memory_publish(&m, &f->c, 2);
    (void)memory_limits(&f->c, 2, f->limits);
    for (unsigned i = 0; i < MEMORY_BUDGETS; i++) assert_int_equal(m.memory_limits[i], f->limits[i]);
    metric_set(&m, M_PRODUCER_BYTES, f->limits[MEMORY_PRODUCERS]);
    assert_false(memory_is_over(&m, MEMORY_PRODUCERS));
    metric_gauge_add(&m, M_PRODUCER_BYTES, 1);
    assert_true(memory_is_over(&m, MEMORY_PRODUCERS));
    assert_int_equal(memory_used_bytes(&m, MEMORY_PRODUCERS), f->limits[MEMORY_PRODUCERS] + 1);
    assert_int_equal(memory_used_bytes(&m, MEMORY_PROCESS), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_the_sum_is_that_of_all_rows),
                                       T(test_all_rows_follow_from_one_figure),
                                       T(test_the_least),
                                       T(test_what_is_set_stays),
                                       T(test_parts_that_depend_on_each_other),
                                       T(test_without_log_compaction),
                                       T(test_the_machine),
                                       T(test_shards_count),
                                       T(test_published)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
