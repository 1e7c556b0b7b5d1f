/* Ranges written anew, by what log compaction calls: what is left takes their place or nothing does, whatever is trimmed, dropped
 * or given up meanwhile; and nothing is left behind in the store. */
#include "unit/stream/engine.h"

#include <string.h>

#include "kafka/batch.h"
#include "stream/replace.h"
#include "stream/sizes.h"

#define ID ((struct stream_id){1})
#define BATCHES 40u

/* Which offsets stay, and the run that they are added to. */
struct chosen {
    struct replace *replace;
    bool (*stays)(uint64_t offset);
    uint64_t seen; /* batches that were read */
    enum err end;  /* what ends the reading, after as many as `after`; OK: nothing */
    uint64_t after;
};

static bool even_or_last(uint64_t offset) {
    return offset % 2 == 0 || offset == BATCHES - 1;
}

static bool none(uint64_t offset) {
    (void)offset;
    return false;
}

static bool all(uint64_t offset) {
    (void)offset;
    return true;
}

static enum err choose(void *ctx, struct slice block) {
    struct chosen *c = ctx;
    enum err e = OK;
    for (size_t at = 0; at < block.size && e == OK;) {
        struct batch_header h;
        assert_int_equal(batch_parse(block.data + at, block.size - at, &h), OK);
        if (c->end != OK && c->seen == c->after) return c->end;
        c->seen++;
        if (c->stays((uint64_t)h.base_offset)) e = replace_run_add(c->replace, slice_sub(block, at, h.size));
        at += h.size;
    }
    return e;
}

static void copy_state(void *ctx, const struct stream_state *committed) {
    struct stream_state *out = ctx;
    *out = *committed; /* to look at, at once */
}

static struct stream_state look(struct engine *e) {
    struct stream_state s;
    assert_true(streams_look(e->streams, ID, copy_state, &s));
    return s;
}

/* 40 batches of stream 1 in a few ranges, all of them in the store. */
static void fill(struct engine *e) {
    for (unsigned i = 0; i < BATCHES; i++) {
        engine_append(e, 1, 300);
        if (i % 10 == 9) fiber_sleep_ns(2 * NS_PER_S);
    }
    struct stream_state s = look(e);
    assert_int_equal(s.end_offset, BATCHES);
    assert_true(s.range_count > 1);
}

/* Reads everything: exactly these offsets must come. */
static void must_be_there(struct engine *e, bool (*stays)(uint64_t offset), uint64_t from) {
    struct stream *s = e->open[1];
    uint64_t offset = from, expected = from;
    while (offset < stream_durable_end(s)) {
        struct slices got;
        slices_init(&got, e->env->mem);
        assert_int_equal(stream_read(s, offset, stream_durable_end(s), 1 << 20, true, false, UINT64_MAX, &got), OK);
        assert_true(got.count > 0);
        for (size_t i = 0; i < got.count; i++) {
            for (size_t at = 0; at < got.items[i].size;) {
                struct batch_header h;
                assert_int_equal(batch_parse(got.items[i].data + at, got.items[i].size - at, &h), OK);
                for (; !stays(expected); expected++) assert_true(expected < BATCHES);
                assert_int_equal(h.base_offset, expected);
                offset = ++expected;
                at += h.size;
            }
        }
        slices_deinit(&got);
    }
}

static enum err read_run(struct chosen *c) {
    const struct stream_state *s = replace_state(c->replace);
    enum err e = OK;
    for (uint32_t i = 0; i < s->range_count && e == OK; i++) e = replace_read(c->replace, i, 0, UINT64_MAX, choose, c);
    return e;
}

static void begin_run(struct engine *e, struct chosen *c) {
    assert_int_equal(replace_begin(e->streams, ID, &c->replace), OK);
    replace_run_begin(c->replace, 0, replace_state(c->replace)->range_count);
}

static void run_it(void (*fiber)(void *arg)) {
    struct test t = engine_test_begin();
    test_run(t.node, fiber, &t);
    sim_world_destroy(t.world);
}

/* --- */

static void left_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    fill(&e);
    struct chosen c = {.stays = even_or_last};
    begin_run(&e, &c);
    assert_int_equal(read_run(&c), OK);
    assert_int_equal(c.seen, BATCHES);
    assert_true(replace_io_bytes(c.replace) > 0);
    /* Not before it is committed. */
    must_be_there(&e, all, 0);
    assert_int_equal(replace_run_commit(c.replace), OK);
    must_be_there(&e, even_or_last, 0);
    /* How far it has come: roll points go along. */
    struct state_segment left = {.base_offset = 0, .size_bytes = 777};
    assert_int_equal(replace_progress(c.replace, 30, &left, 1), OK);
    replace_end(c.replace);
    struct stream_state s = look(&e);
    assert_int_equal(s.clean_offset, 30);
    assert_int_equal(s.range_count, 1);
    assert_int_equal(s.ranges[0].first_offset, 0);
    assert_int_equal(s.ranges[0].end_offset, BATCHES);
    engine_stop(&e);
    engine_start(&e, &t->cluster);
    must_be_there(&e, even_or_last, 0);
    assert_int_equal(look(&e).clean_offset, 30);
    engine_stop(&e);
    assert_false(e.fatal);
}
static void what_is_left_takes_the_place_of_all(void **state) {
    (void)state;
    run_it(left_fiber);
}

static void one_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    struct replace *r, *second;
    assert_int_equal(replace_begin(e.streams, (struct stream_id){99}, &r), ERR_NOT_FOUND);
    fill(&e);
    assert_int_equal(replace_begin(e.streams, ID, &r), OK);
    assert_int_equal(replace_begin(e.streams, ID, &second), ERR_BUSY);
    struct stream_state s;
    assert_false(streams_look(e.streams, ID, copy_state, &s));
    replace_end(r);
    assert_true(streams_look(e.streams, ID, copy_state, &s));
    assert_int_equal(replace_begin(e.streams, ID, &r), OK);
    replace_end(r);
    engine_stop(&e);
}
static void one_at_a_time(void **state) {
    (void)state;
    run_it(one_fiber);
}

/* A batch at that offset whose record has a value of so many bytes. */
static struct slice large(struct engine *e, uint64_t offset, size_t size) {
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = (int64_t)offset;
    struct batch_builder b;
    struct buf bytes;
    buf_init(&bytes, e->env->mem);
    batch_builder_init(&b, e->env->mem, &o);
    uint8_t *value = mem_zalloc(e->env->mem, size);
    batch_builder_add(&b, 1000, NULL, 0, value, size, NULL, 0);
    assert_int_equal(batch_builder_finish(&b, &bytes), OK);
    batch_builder_deinit(&b);
    mem_free(e->env->mem, value);
    struct slab *slab = slab_create(e->env->mem, bytes.size, 16);
    memcpy(slab->data, bytes.data, bytes.size);
    struct slice s = slice_of(slab, 0, bytes.size);
    slab_unref(slab);
    buf_deinit(&bytes);
    return s;
}

static void objects_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    fill(&e);
    /* Enough for an object; then nobody wants it. */
    struct chosen c = {.stays = all};
    size_t size = REPLACE_OBJECT_BYTES / 4;
    begin_run(&e, &c);
    for (uint64_t i = 0; i < 6; i++) assert_int_equal(replace_run_add(c.replace, large(&e, i, size)), OK);
    assert_int_equal(engine_objects(&e, "gen/data/"), 1);
    replace_run_drop(c.replace);
    fiber_sleep_ns(200 * NS_PER_S);
    assert_int_equal(engine_objects(&e, "gen/data/"), 0);
    must_be_there(&e, all, 0);
    /* Once more, and it is wanted: a full object, and the rest in another. */
    replace_run_begin(c.replace, 0, replace_state(c.replace)->range_count);
    for (uint64_t i = 0; i < 5; i++) assert_int_equal(replace_run_add(c.replace, large(&e, i, size)), OK);
    assert_int_equal(replace_run_add(c.replace, large(&e, BATCHES - 1, size)), OK);
    assert_int_equal(replace_run_commit(c.replace), OK);
    replace_end(c.replace);
    assert_int_equal(engine_objects(&e, "gen/data/"), 2);
    struct stream_state s = look(&e);
    assert_int_equal(s.range_count, 2);
    assert_int_equal(s.ranges[0].end_offset, s.ranges[1].first_offset);
    fiber_sleep_ns(200 * NS_PER_S);
    assert_int_equal(engine_objects(&e, "gen/data/"), 2);
    engine_stop(&e);
    assert_false(e.fatal);
}
static void objects_that_nobody_names_go(void **state) {
    (void)state;
    run_it(objects_fiber);
}

/* What does not fit is refused, and the old stays. */
static void refused_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    fill(&e);
    struct chosen c = {.stays = all};
    begin_run(&e, &c);
    assert_int_equal(replace_run_add(c.replace, large(&e, 5, 10)), OK);
    assert_int_equal(replace_run_add(c.replace, large(&e, 5, 10)), ERR_CORRUPT); /* backwards */
    assert_int_equal(replace_run_add(c.replace, large(&e, BATCHES, 10)), ERR_CORRUPT);
    assert_int_equal(replace_run_commit(c.replace), ERR_CORRUPT); /* it does not end where the old did */
    replace_run_drop(c.replace);
    /* The caller's own reasons. */
    replace_run_begin(c.replace, 0, replace_state(c.replace)->range_count);
    c.end = ERR_CANCELLED;
    c.after = 7;
    assert_int_equal(read_run(&c), ERR_CANCELLED);
    assert_int_equal(c.seen, 7);
    replace_end(c.replace);
    must_be_there(&e, all, 0);
    engine_stop(&e);
    engine_start(&e, &t->cluster);
    must_be_there(&e, all, 0);
    engine_stop(&e);
    assert_false(e.fatal);
}
static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    run_it(refused_fiber);
}

static void meanwhile_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    fill(&e);
    /* Appends go on, and a trim into the middle of the run. */
    struct chosen c = {.stays = even_or_last};
    begin_run(&e, &c);
    assert_int_equal(read_run(&c), OK);
    engine_append(&e, 1, 300);
    engine_trim(&e, 1, 13);
    fiber_sleep_ns(3 * NS_PER_S);
    assert_int_equal(replace_run_commit(c.replace), OK);
    must_be_there(&e, even_or_last, 14);
    replace_end(c.replace);
    /* All of it is trimmed, and in the ledger: there is nothing to replace, and what was written goes. */
    c = (struct chosen){.stays = even_or_last};
    begin_run(&e, &c);
    uint32_t count = replace_state(c.replace)->range_count;
    assert_int_equal(read_run(&c), OK);
    engine_append(&e, 1, 300);
    engine_trim(&e, 1, stream_durable_end(e.open[1]));
    for (unsigned i = 0; i < 30; i++) { /* until a checkpoint needs the old entries no more */
        engine_append(&e, 2, 300);
        fiber_sleep_ns(2 * NS_PER_S);
    }
    c.stays = none;
    assert_int_equal(replace_read(c.replace, count - 1, 0, UINT64_MAX, choose, &c), ERR_STALE);
    assert_int_equal(replace_run_commit(c.replace), OK);
    replace_end(c.replace);
    assert_int_equal(look(&e).start_offset, BATCHES + 2);
    engine_stop(&e);
    engine_start(&e, &t->cluster);
    assert_int_equal(stream_durable_start(e.open[1]), BATCHES + 2);
    engine_stop(&e);
    assert_false(e.fatal);
}
static void trims_and_appends_go_on(void **state) {
    (void)state;
    run_it(meanwhile_fiber);
}

static void dropped_fiber(void *arg) {
    struct test *t = arg;
    struct engine e = {.node = t->node};
    engine_options(&e);
    engine_start(&e, &t->cluster);
    fill(&e);
    struct chosen c = {.stays = even_or_last};
    begin_run(&e, &c);
    assert_int_equal(read_run(&c), OK);
    stream_close(e.open[1]);
    e.open[1] = NULL;
    streams_drop(e.streams, ID);
    fiber_sleep_ns(5 * NS_PER_S);
    assert_int_equal(replace_run_commit(c.replace), ERR_STALE);
    replace_run_drop(c.replace);
    replace_end(c.replace);
    assert_int_equal(replace_begin(e.streams, ID, &c.replace), ERR_NOT_FOUND);
    engine_stop(&e);
    assert_false(e.fatal);
}
static void a_dropped_stream_is_left_alone(void **state) {
    (void)state;
    run_it(dropped_fiber);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_takes_the_place_of_all),
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(objects_that_nobody_names_go),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(trims_and_appends_go_on),
        cmocka_unit_test(a_dropped_stream_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
