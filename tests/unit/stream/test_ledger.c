/* The ledger's image: what entries do to it, and the count of who needs which object. */
#include "unit/sim/sim_test.h"

#include "base/crc32c.h"
#include "stream/ledger.h"

#define ME ((struct incarnation){7})

struct fixture {
    struct store *store;
    struct ledger_image image;
    struct ledger_filter filter;
    int32_t epoch; /* of every stream but 99, which is not ours */
};

static bool is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    struct fixture *f = ctx;
    *epoch = f->epoch;
    return id.v != 99;
}

static void setup(struct fixture *f) {
    struct env *env = loop_current()->env;
    *f = (struct fixture){.store = sim_store_open(NULL, env, NULL), .epoch = 2};
    f->filter = (struct ledger_filter){is_current, f};
    ledger_image_init(&f->image, env->mem);
}
static void teardown(struct fixture *f) {
    ledger_image_deinit(&f->image);
    store_close(f->store);
}

static void delta_of(struct stream_state *d, uint64_t first, uint64_t end, uint64_t number) {
    struct mem *m = loop_current()->env->mem;
    state_init_delta(d, m, first);
    state_apply_batch(d, &(struct state_batch){.base_offset = first,
                                               .end_offset = end,
                                               .first_timestamp = 1,
                                               .max_timestamp = 2,
                                               .size_bytes = 10,
                                               .leader_epoch = 0,
                                               .producer_id = -1});
    state_add_range(
        d, &(struct state_range){.object = {{number == OBJECT_THIS_ENTRY ? 0 : 7}, number, OBJECT_LEDGER_ENTRY},
                                 .first_offset = first,
                                 .end_offset = end,
                                 .max_timestamp = 2,
                                 .position = 5,
                                 .size_bytes = 100,
                                 .block_count = 1});
}

/* One entry with one section. */
static enum err apply_delta(struct fixture *f, uint64_t number, uint64_t stream, int32_t epoch,
                            enum object_section_kind kind, const struct stream_state *d) {
    struct mem *m = loop_current()->env->mem;
    struct buf head;
    buf_init(&head, m);
    struct object_head h = {.section_count = 1}, got;
    object_head_begin(&head, &h);
    object_head_section(&head, (struct stream_id){stream}, epoch, kind, d);
    struct objlog_entry e = {.header = {.kind = OBJLOG_DATA, .number = number, .writer = 7, .head_size = head.size},
                             .head = slice_borrow(head.data, head.size)};
    enum err err = ledger_apply_entry(&f->image, f->store, "gen", ME, &e, &f->filter, &got);
    buf_deinit(&head);
    return err;
}

static enum err append(struct fixture *f, uint64_t number, uint64_t stream, int32_t epoch, uint64_t first,
                       uint64_t end) {
    struct stream_state d;
    delta_of(&d, first, end, OBJECT_THIS_ENTRY);
    enum err e = apply_delta(f, number, stream, epoch, OBJECT_APPENDED, &d);
    state_deinit(&d);
    return e;
}

static void sections_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f);
    assert_int_equal(append(&f, 4, 1, 2, 0, 10), OK);
    struct ledger_stream *s = ledger_image_get(&f.image, (struct stream_id){1});
    assert_true(s->state.end_offset == 10 && s->dirty && !s->refused && s->state.range_count == 1);
    struct state_range *r = &s->state.ranges[0];
    assert_true(r->object.creator.v == 7 && r->object.number == 4 && r->object.kind == OBJECT_LEDGER_ENTRY);
    assert_true(r->position > 5 + OBJLOG_HEADER_SIZE); /* behind header and head */
    /* Another epoch's, another's. */
    assert_int_equal(append(&f, 5, 1, 1, 10, 20), OK);
    assert_int_equal(append(&f, 6, 1, 3, 10, 20), OK);
    assert_int_equal(append(&f, 7, 99, 2, 0, 20), OK);
    assert_int_equal(s->state.end_offset, 10);
    assert_null(ledger_image_get(&f.image, (struct stream_id){99}));
    assert_int_equal(append(&f, 8, 1, 2, 10, 20), OK);
    assert_int_equal(s->state.end_offset, 20);
    /* A replacement of both. */
    struct stream_state d;
    delta_of(&d, 0, 20, OBJECT_THIS_ENTRY);
    assert_int_equal(apply_delta(&f, 9, 1, 2, OBJECT_REPLACED, &d), OK);
    state_deinit(&d);
    assert_true(s->state.range_count == 1 && s->state.ranges[0].object.number == 9 && s->state.end_offset == 20);
    /* A gap refuses the stream, and only that. */
    assert_int_equal(append(&f, 10, 1, 2, 25, 30), OK);
    assert_true(s->refused);
    assert_int_equal(append(&f, 11, 1, 2, 20, 30), OK);
    assert_int_equal(s->state.end_offset, 20);
    assert_int_equal(append(&f, 12, 2, 2, 0, 30), OK);
    assert_false(ledger_image_get(&f.image, (struct stream_id){2})->refused);
    teardown(&f);
}
static void in_world(fiber_fn *fn) {
    struct sim_world *w = test_world(1);
    struct sim_node *n = sim_node_create(w, "node");
    test_run(n, fn, NULL);
    sim_world_destroy(w);
}
static void sections_move_their_stream(void **state) {
    (void)state;
    in_world(sections_fiber);
}

static void whole_state(struct buf *out, uint64_t end) {
    struct stream_state s;
    state_init(&s, out->mem);
    if (end > 0)
        state_apply_batch(
            &s, &(struct state_batch){.base_offset = 0, .end_offset = end, .size_bytes = 1, .producer_id = -1});
    state_encode(&s, out);
    state_deinit(&s);
}

static enum err apply_checkpoint(struct fixture *f, uint64_t number, const struct object_state_pointer *p,
                                 uint32_t count) {
    struct buf head;
    buf_init(&head, loop_current()->env->mem);
    struct object_head h = {.state_count = count, .closed = true}, got = {0};
    object_head_begin(&head, &h);
    for (uint32_t i = 0; i < count; i++) object_head_state(&head, &p[i]);
    struct objlog_entry e = {
        .header = {.kind = OBJLOG_CHECKPOINT, .number = number, .writer = 7, .head_size = head.size},
        .head = slice_borrow(head.data, head.size)};
    enum err err = ledger_apply_entry(&f->image, f->store, "gen", ME, &e, &f->filter, &got);
    if (err == OK) assert_true(got.closed);
    buf_deinit(&head);
    return err;
}

static void checkpoint_fiber(void *arg) {
    (void)arg;
    struct fixture f;
    setup(&f);
    struct mem *m = loop_current()->env->mem;
    assert_int_equal(append(&f, 1, 1, 2, 0, 10), OK);
    assert_int_equal(append(&f, 2, 3, 2, 0, 10), OK);
    /* An older entry holds two states from position 1000 on. */
    struct buf object;
    buf_init(&object, m);
    buf_zero(&object, 1000);
    whole_state(&object, 33);
    struct object_state_pointer p[2] = {
        {.stream = {1}, .epoch = 2, .size = (uint32_t)(object.size - 1000), .entry = 5, .position = 1000}};
    p[0].crc = crc32c(0, object.data + 1000, p[0].size);
    size_t second = object.size;
    whole_state(&object, 0);
    p[1] = (struct object_state_pointer){.stream = {2},
                                         .epoch = 2,
                                         .size = (uint32_t)(object.size - second),
                                         .crc = crc32c(0, object.data + second, object.size - second),
                                         .entry = 5,
                                         .position = second,
                                         .refused = true};
    struct slice data = slice_borrow(object.data, object.size);
    char key[OBJECT_KEY_MAX];
    object_key(key, "gen", (struct object_id){ME, 5, OBJECT_LEDGER_ENTRY});
    assert_int_equal(apply_checkpoint(&f, 6, p, 2), ERR_TRUNCATED); /* the object it names is not there */
    assert_int_equal(store_put(f.store, key, &data, 1, true, STORE_FOR_LEDGER), OK);
    assert_int_equal(apply_checkpoint(&f, 6, p, 2), OK);
    /* It replaces everything. */
    assert_int_equal(f.image.streams.count, 2);
    assert_int_equal(ledger_image_get(&f.image, (struct stream_id){1})->state.end_offset, 33);
    assert_true(ledger_image_get(&f.image, (struct stream_id){2})->refused);
    assert_null(ledger_image_get(&f.image, (struct stream_id){3}));
    p[1].stream.v = 1;
    assert_int_equal(apply_checkpoint(&f, 7, p, 2), ERR_CORRUPT); /* one stream twice */
    p[1].stream.v = 2;
    p[1].crc ^= 1;
    assert_int_equal(apply_checkpoint(&f, 7, p, 2), ERR_CORRUPT);
    p[1].crc ^= 1;
    p[1].position = object.size;
    assert_int_equal(apply_checkpoint(&f, 7, p, 2), ERR_TRUNCATED);
    p[1].position = UINT64_MAX;
    assert_int_equal(apply_checkpoint(&f, 7, p, 2), ERR_TRUNCATED);
    buf_deinit(&object);
    teardown(&f);
}
static void a_checkpoint_replaces_everything(void **state) {
    (void)state;
    in_world(checkpoint_fiber);
}

static void uses_are_counted(void **state) {
    (void)state;
    struct mem m;
    mem_init_heap(&m);
    struct object_uses u;
    object_uses_init(&u, &m);
    struct object_id entry = {{1}, 2, OBJECT_LEDGER_ENTRY}, data = {{1}, 2, OBJECT_DATA};
    struct state_range one = {.object = entry, .position = 100, .size_bytes = 50};
    struct state_range two = {.object = entry, .position = 300, .size_bytes = 7};
    object_uses_range(&u, &one, 1);
    object_uses_range(&u, &two, 1);
    assert_int_equal(object_uses_get(&u, entry)->live_bytes, 57);
    assert_int_equal(object_uses_get(&u, entry)->size_bytes, 307);
    object_uses_pin(&u, data, 1, 0);
    assert_int_equal(u.garbage_count, 0);
    object_uses_range(&u, &two, -1);
    assert_int_equal(u.garbage_count, 0);
    assert_int_equal(object_uses_get(&u, entry)->live_bytes, 50);
    assert_int_equal(object_uses_get(&u, entry)->size_bytes, 307);
    object_uses_range(&u, &one, -1);
    assert_int_equal(u.garbage_count, 1);
    object_uses_check(&u, object_uses_get(&u, entry));
    assert_int_equal(u.garbage_count, 1); /* once */
    object_uses_pin(&u, data, -1, 9);
    assert_int_equal(u.garbage_count, 2);
    assert_int_equal(object_uses_get(&u, data)->not_before, 9);
    assert_ptr_not_equal(object_uses_get(&u, data), object_uses_get(&u, entry));
    object_uses_forget(&u, object_uses_get(&u, data));
    assert_null(object_uses_get(&u, data));
    u.garbage_count = 0;
    object_uses_deinit(&u);
    assert_int_equal(m.allocated_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_move_their_stream),
        cmocka_unit_test(a_checkpoint_replaces_everything),
        cmocka_unit_test(uses_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
