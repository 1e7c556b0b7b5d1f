/* A pass of log compaction as a whole, over the engine itself (tests/unit/stream/engine.h): what it leaves, how it goes on where the map was
 * full, what is left of it when it is cut short, and what it does not touch. The rules for one record are test_clean.c's. */
#include "unit/stream/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "kafka/batch.h"
#include "partition/cleaner.h"

#define ID ((struct stream_id){1})
#define KEYS 13u
#define RECORDS 400u
#define SEGMENT 40u /* records */

struct pass {
    struct engine e;
    struct topic_config config;
    unsigned calls, allowed; /* of go_on */
    uint64_t bytes;
    uint64_t end; /* of the log */
};

static unsigned key_of(uint64_t offset) {
    return (unsigned)(offset * 7 % KEYS);
}

/* One record a batch, with a key; a segment begins at every 40th. */
static void append_keyed(struct engine *e, uint64_t id, uint64_t count) {
    struct stream *s = e->open[id];
    for (uint64_t i = 0; i < count; i++) {
        uint64_t offset = stream_appended_end(s);
        assert_int_equal(stream_reserve(s, 500), OK);
        struct batch_options o = BATCH_OPTIONS_DEFAULT;
        o.base_offset = (int64_t)offset;
        struct batch_builder b;
        struct buf bytes;
        buf_init(&bytes, e->env->mem);
        batch_builder_init(&b, e->env->mem, &o);
        char key[20], value[40];
        int k = snprintf(key, sizeof(key), "key%u", key_of(offset));
        int v = snprintf(value, sizeof(value), "value %u", (unsigned)offset);
        batch_builder_add(&b, 1000 + (int64_t)offset, key, (size_t)k, value, (size_t)v, NULL, 0);
        assert_int_equal(batch_builder_finish(&b, &bytes), OK);
        batch_builder_deinit(&b);
        struct stream_record r = {.type = STREAM_BATCH,
                                  .flags = offset % SEGMENT == 0 ? STREAM_RECORD_ROLLS : 0,
                                  .base_offset = offset,
                                  .end_offset = offset + 1,
                                  .max_timestamp = 1000 + (int64_t)offset,
                                  .payload = bytes.data,
                                  .payload_size = bytes.size,
                                  .payload_crc = crc32c(0, bytes.data, bytes.size)};
        stream_append(s, &r);
        buf_deinit(&bytes);
        if (offset % 50 == 49) fiber_sleep_ns(1200 * NS_PER_MS); /* several ranges */
    }
    assert_int_equal(stream_wait_durable(s, stream_appended_end(s)), OK);
    fiber_sleep_ns(3 * NS_PER_S);
}

static bool go_on(void *ctx, uint64_t bytes) {
    struct pass *p = ctx;
    p->bytes += bytes;
    return ++p->calls <= p->allowed;
}

static void set(struct pass *p, const char *name, const char *value) {
    char why[TOPIC_CONFIG_WHY_SIZE];
    assert_int_equal(topic_config_set(&p->config, name, value, why, sizeof(why)), OK);
}

static struct pass *begin(struct test *t) {
    struct pass *p = calloc(1, sizeof(*p));
    p->e.node = t->node;
    p->allowed = UINT32_MAX;
    topic_config_init(&p->config);
    set(p, "cleanup.policy", "compact");
    set(p, "min.cleanable.dirty.ratio", "0");
    engine_options(&p->e);
    engine_start(&p->e, &t->cluster);
    return p;
}

static void finish(struct pass *p) {
    engine_stop(&p->e);
    assert_false(p->e.fatal);
    free(p);
}

static enum err clean(struct pass *p, uint64_t map_bytes, struct cleaner_result *r) {
    struct cleaner_options o = {.env = p->e.env,
                                .streams = p->e.streams,
                                .stream = ID,
                                .config = &p->config,
                                .map_bytes = map_bytes,
                                .map_load = 90,
                                .go_on = go_on,
                                .ctx = p};
    p->calls = 0;
    p->bytes = 0;
    return cleaner_run(&o, r);
}

/* Every record that is there is the one that was written; the newest of each key is; of what lies below `clean` nothing else is. */
static unsigned check(struct pass *p, uint64_t clean) {
    struct stream *s = p->e.open[1];
    uint64_t end = stream_durable_end(s), newest[KEYS], offset = 0;
    bool there[RECORDS * 2] = {false};
    unsigned count = 0;
    assert_true(end <= sizeof(there));
    for (uint64_t i = 0; i < end; i++) newest[key_of(i)] = i;
    while (offset < end) {
        struct slices got;
        slices_init(&got, p->e.env->mem);
        assert_int_equal(stream_read(s, offset, end, 1 << 20, true, false, UINT64_MAX, &got), OK);
        assert_true(got.count > 0);
        for (size_t i = 0; i < got.count; i++) {
            for (size_t at = 0; at < got.items[i].size;) {
                struct batch_header h;
                assert_int_equal(batch_parse(got.items[i].data + at, got.items[i].size - at, &h), OK);
                assert_true((uint64_t)h.base_offset >= offset);
                offset = (uint64_t)h.base_offset;
                struct batch_iterator it;
                struct batch_record r;
                assert_int_equal(batch_iterator_init(&it, p->e.env->mem, &h, 1 << 20), OK);
                while (batch_iterator_next(&it, &r) == OK) {
                    char key[20], value[40];
                    (void)snprintf(key, sizeof(key), "key%u", key_of(offset));
                    (void)snprintf(value, sizeof(value), "value %u", (unsigned)offset);
                    assert_int_equal(r.offset, offset);
                    assert_int_equal(r.key_size, strlen(key));
                    assert_memory_equal(r.key, key, strlen(key));
                    assert_int_equal(r.value_size, strlen(value));
                    assert_memory_equal(r.value, value, strlen(value));
                    there[offset] = true;
                    count++;
                }
                batch_iterator_deinit(&it);
                offset++;
                at += h.size;
            }
        }
        slices_deinit(&got);
    }
    /* A pass keeps the newest below its end; later ones may lie above it. */
    uint64_t newest_below[KEYS] = {0};
    for (uint64_t i = 0; i < clean; i++) newest_below[key_of(i)] = i;
    for (uint64_t i = 0; i < end; i++) {
        bool stays = i >= clean || newest_below[key_of(i)] == i;
        if (i == newest[key_of(i)] || (clean > 0 && i >= clean)) assert_true(there[i]);
        if (clean > 0 && !stays) assert_false(there[i]);
    }
    return count;
}

static void copy_clean_offset(void *ctx, const struct stream_state *committed) {
    *(uint64_t *)ctx = committed->clean_offset;
}

static uint64_t clean_offset(struct pass *p) {
    uint64_t offset = 0;
    assert_true(streams_look(p->e.streams, ID, copy_clean_offset, &offset));
    return offset;
}

static void run_it(void (*fiber)(void *arg)) {
    struct test t = engine_test_begin();
    test_run(t.node, fiber, &t);
    sim_world_destroy(t.world);
}

/* --- */

static void pass_fiber(void *arg) {
    struct test *t = arg;
    struct pass *p = begin(t);
    append_keyed(&p->e, 1, RECORDS);
    struct cleaner_result r;
    assert_int_equal(clean(p, 1 << 20, &r), OK);
    assert_int_equal(r.clean_offset, RECORDS - SEGMENT); /* the active segment is not touched */
    assert_int_equal(r.keys, KEYS);
    assert_false(r.map_full);
    assert_true(r.runs > 0 && r.runs_replaced == r.runs);
    assert_true(r.io_bytes > 0 && p->bytes == r.io_bytes);
    assert_int_equal(r.progress.clean_offset, r.clean_offset);
    cleaner_result_deinit(&r);
    assert_int_equal(clean_offset(p), RECORDS - SEGMENT);
    assert_int_equal(check(p, RECORDS - SEGMENT), KEYS + SEGMENT);
    /* Nothing is dirty now, however low the ratio. */
    assert_int_equal(clean(p, 1 << 20, &r), ERR_NOT_FOUND);
    cleaner_result_deinit(&r);
    /* What follows supersedes what was kept; and all that survives a restart. */
    append_keyed(&p->e, 1, 2 * SEGMENT);
    assert_int_equal(clean(p, 1 << 20, &r), OK);
    cleaner_result_deinit(&r);
    engine_stop(&p->e);
    engine_start(&p->e, &t->cluster);
    assert_int_equal(clean_offset(p), RECORDS + SEGMENT);
    assert_int_equal(check(p, RECORDS + SEGMENT), KEYS + SEGMENT);
    finish(p);
}
static void the_newest_of_each_key_is_left(void **state) {
    (void)state;
    run_it(pass_fiber);
}

static void full_fiber(void *arg) {
    struct test *t = arg;
    struct pass *p = begin(t);
    append_keyed(&p->e, 1, RECORDS);
    struct cleaner_result r;
    uint64_t at = 0;
    unsigned passes = 0;
    do { /* a map for a few keys */
        assert_int_equal(clean(p, 150, &r), OK);
        assert_true(r.clean_offset > at);
        at = r.clean_offset;
        assert_int_equal(clean_offset(p), at);
        assert_true(r.keys < KEYS);
        assert_int_equal(r.map_full, at < RECORDS - SEGMENT);
        cleaner_result_deinit(&r);
        check(p, 0);
        assert_true(++passes < RECORDS);
    } while (at < RECORDS - SEGMENT);
    assert_true(passes > 2);
    assert_int_equal(check(p, RECORDS - SEGMENT), KEYS + SEGMENT);
    finish(p);
}
static void a_full_map_takes_several_passes(void **state) {
    (void)state;
    run_it(full_fiber);
}

/* At every request: the newest of each key stays, how far it has come is not said before it is there, and a pass that is let do it does
 * the whole. */
static void cut_fiber(void *arg) {
    struct test *t = arg;
    struct pass *p = begin(t);
    append_keyed(&p->e, 1, RECORDS);
    struct cleaner_result r;
    enum err e = ERR_CANCELLED;
    unsigned cut = 0;
    for (; e != OK; cut++) {
        p->allowed = cut;
        e = clean(p, 1 << 20, &r);
        if (e != OK) assert_int_equal(e, ERR_CANCELLED);
        cleaner_result_deinit(&r);
        if (e != OK) assert_int_equal(clean_offset(p), 0);
        check(p, 0);
        if (cut % 3 != 1) continue;
        engine_stop(&p->e);
        engine_start(&p->e, &t->cluster);
        check(p, 0);
    }
    assert_true(cut > 3);
    assert_int_equal(check(p, RECORDS - SEGMENT), KEYS + SEGMENT);
    finish(p);
}
static void a_pass_that_is_cut_short_is_done_again(void **state) {
    (void)state;
    run_it(cut_fiber);
}

static void not_now_fiber(void *arg) {
    struct test *t = arg;
    struct pass *p = begin(t);
    struct cleaner_result r;
    assert_int_equal(clean(p, 1 << 20, &r), ERR_NOT_FOUND); /* never written */
    cleaner_result_deinit(&r);
    append_keyed(&p->e, 1, SEGMENT / 2);
    assert_int_equal(clean(p, 1 << 20, &r), ERR_NOT_FOUND); /* nothing but the active segment */
    cleaner_result_deinit(&r);
    append_keyed(&p->e, 1, RECORDS);
    struct replace *other;
    assert_int_equal(replace_begin(p->e.streams, ID, &other), OK);
    assert_int_equal(clean(p, 1 << 20, &r), ERR_BUSY);
    cleaner_result_deinit(&r);
    replace_end(other);
    set(p, "min.compaction.lag.ms", "9000000000000000000");
    assert_int_equal(clean(p, 1 << 20, &r), ERR_NOT_FOUND);
    cleaner_result_deinit(&r);
    assert_int_equal(clean_offset(p), 0);
    finish(p);
}
static void what_is_not_to_be_cleaned_now_is_not(void **state) {
    (void)state;
    run_it(not_now_fiber);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_of_each_key_is_left),
        cmocka_unit_test(a_full_map_takes_several_passes),
        cmocka_unit_test(a_pass_that_is_cut_short_is_done_again),
        cmocka_unit_test(what_is_not_to_be_cleaned_now_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
