/* The mirrored WAL on simulated devices: all members confirm; a member fails at each of the first steps, for each policy; the
 * smaller membership is durable before anything rests on it; who was lost comes back with everything that is needed; what is
 * another broker's is left alone; a takeover mark on any of them stops the whole. And with an object log as a member: it
 * confirms, is read back, fenced, trimmed. */
#include "unit/sim/sim_test.h"

#include "base/crc32c.h"
#include "sim/disk.h"
#include "sim/sim_store.h"
#include "stream/wal_mirror.h"
#include "stream/wal_objects.h"

#define DEVICE_SIZE (17u << 20)
#define STEPS_MAX 24u

static const char *const paths[2] = {"/dev/a", "/dev/b"};

struct mirror_run {
    struct sim_node *node;
    struct sim_file *devices[2];
    struct sim_bucket *bucket; /* the second member is an object log in it; NULL: a device */
    bool stops;
    bool marks;        /* others reach the devices, and claims are granted */
    unsigned fails_at; /* device 1 goes away before so many groups have been submitted */
    /* Of the newest life: */
    struct wal_mirror *mirror;
    struct list done;
    uint64_t next, confirmed, sequence;
    bool failed, fenced, changing, hold_change;
    unsigned changes;
    enum err claim_says[2], store_says;
    struct wal_membership durable;
    struct waitq changed;
    /* Reading back. */
    uint64_t first_read, read;
};

static void confirmed(void *ctx, struct block *b) {
    struct mirror_run *r = ctx;
    assert_false(r->failed);
    r->confirmed++;
    list_push_back(&r->done, &b->node);
    waitq_wake_all(&r->changed);
}

static void destroy(struct list *blocks) {
    for (struct list *n; (n = list_pop_front(blocks)) != NULL;) block_destroy(LIST_ENTRY(n, struct block, node));
}

static void failed(void *ctx, enum err why) {
    struct mirror_run *r = ctx;
    assert_int_equal(why == ERR_FENCED, r->fenced);
    struct list back;
    list_init(&back);
    wal_mirror_take_unconfirmed(r->mirror, &back);
    destroy(&back);
    r->failed = true;
    waitq_wake_all(&r->changed);
}

/* The ledger takes its time. Of a smaller membership nothing may be confirmed meanwhile: nobody else has what the lost one
 * lacks in writing. */
static enum err change(void *ctx, const struct wal_membership *m) {
    struct mirror_run *r = ctx;
    assert_true(m->version > r->durable.version);
    assert_false(r->changing);
    r->changing = true;
    bool smaller = m->count < r->durable.count;
    fiber_sleep_ns(20 * NS_PER_MS); /* what the lost one had confirmed is still confirmed when the other has it */
    uint64_t before = r->confirmed;
    fiber_sleep_ns(50 * NS_PER_MS);
    while (r->hold_change) fiber_sleep_ns(NS_PER_MS);
    if (smaller) assert_int_equal(r->confirmed, before);
    r->changing = false;
    r->changes++;
    r->durable = *m;
    return OK;
}

static enum err claim(void *ctx, struct wal *w, const uint8_t next_id[16], const char **why) {
    const struct mirror_run *r = ctx;
    (void)next_id, (void)why;
    if (!r->marks) fail_msg("nobody shares these");
    return r->claim_says[w == wal_mirror_member(r->mirror, 1)];
}

static enum err open_store(void *ctx, const char *url, struct store **out, char *why, size_t why_size) {
    struct mirror_run *r = ctx;
    (void)why, (void)why_size;
    assert_string_equal(url, "s3://bucket");
    if (r->store_says != OK) return r->store_says;
    *out = sim_store_open(r->bucket, loop_current()->env, NULL);
    return OK;
}

static enum err open_mirror(struct mirror_run *r) {
    struct stream_wal_member members[2] = {{.path = paths[0], .takeover_mark = r->marks},
                                           {.path = paths[1], .takeover_mark = r->marks}};
    if (r->bucket) members[1] = (struct stream_wal_member){.path = "s3://bucket", .objects = true};
    struct wal_mirror_options o = {.env = loop_current()->env,
                                   .members = members,
                                   .count = 2,
                                   .stops = r->stops,
                                   .timeout_ns = 5 * NS_PER_S,
                                   .retry_ns = 10 * NS_PER_MS,
                                   .confirmed = confirmed,
                                   .failed = failed,
                                   .change = change,
                                   .claim = claim,
                                   .owner = 1,
                                   .open_store = open_store,
                                   .open_ctx = r,
                                   .ctx = r};
    const char *why = NULL;
    return wal_mirror_open(&o, &r->mirror, &why);
}

static struct block *make_group(struct mirror_run *r, struct incarnation incarnation) {
    struct mem *m = loop_current()->env->mem;
    size_t size = 1000 + 3000 * (r->next % 4);
    struct commit_slab *slab = commit_slab_create(m, GROUP_HEADER_SIZE + record_size(size));
    struct block *b = block_create(m, slab, ++r->sequence, incarnation, 0);
    slab_unref(&slab->slab);
    uint8_t *payload = mem_alloc(m, size);
    memset(payload, (int)(r->next & 0xff), size);
    struct record_header h = {.payload_size = (uint32_t)size,
                              .type = STREAM_BATCH,
                              .stream = {1},
                              .base_offset = r->next,
                              .end_offset = r->next + 1};
    (void)block_append(b, &h, payload, crc32c(0, payload, size));
    mem_free(m, payload);
    r->next++;
    block_seal(b, 0);
    return b;
}

static void submit_group(struct mirror_run *r) {
    wal_mirror_submit(r->mirror, make_group(r, (struct incarnation){5}));
}

static void wait_confirmed(struct mirror_run *r, uint64_t count) {
    while (r->confirmed < count && !r->failed) waitq_wait(&r->changed);
}

static void begin(struct mirror_run *r) {
    list_init(&r->done);
    waitq_init(&r->changed);
    const char *why = NULL;
    assert_int_equal(open_mirror(r), OK);
    assert_int_equal(wal_mirror_format(r->mirror, "gen", (struct incarnation){5}, &why), OK);
    r->durable = *wal_mirror_membership(r->mirror);
    assert_int_equal(r->durable.count, 2);
    assert_true(wal_mirror_start(r->mirror));
}

/* As after a crash: nothing is closed in order. */
static void end(struct mirror_run *r) {
    destroy(&r->done);
    struct list left;
    list_init(&left);
    wal_mirror_abandon(r->mirror, &left);
    destroy(&left);
    wal_mirror_close(r->mirror, false);
}

static enum err read_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct mirror_run *r = ctx;
    if (r->read == 0) r->first_read = h->base_offset;
    assert_int_equal(h->base_offset, r->first_read + r->read);
    assert_int_equal(payload[0], h->base_offset & 0xff);
    r->read++;
    return OK;
}

/* What that device holds, if the durable membership names it: records below the result are there. */
static bool device_has(struct mirror_run *r, unsigned d, uint64_t *end_offset) {
    struct wal_options o = {.env = loop_current()->env, .path = paths[d], .read_only = true};
    struct wal *w;
    const char *why;
    if (wal_open(&o, &w, &why) != OK) return false;
    bool counts = false;
    for (unsigned i = 0; i < r->durable.count; i++)
        counts |= wal_superblock(w) && memcmp(wal_superblock(w)->wal_id, r->durable.ids[i], 16) == 0;
    struct wal_found found;
    r->read = 0;
    if (counts) assert_int_equal(wal_replay(w, read_record, r, &found), OK);
    if (counts) assert_false(found.damaged);
    wal_close(w, false);
    *end_offset = r->read ? r->first_read + r->read : 0;
    return counts;
}

static void all_fiber(void *arg) {
    struct mirror_run *r = arg;
    begin(r);
    for (unsigned i = 0; i < 20; i++) submit_group(r);
    wait_confirmed(r, 20);
    assert_false(r->failed);
    assert_int_equal(r->changes, 0);
    end(r);
    for (unsigned d = 0; d < 2; d++) {
        uint64_t at = 0;
        assert_true(device_has(r, d, &at));
        assert_int_equal(at, 20);
    }
}

static void in_world(fiber_fn *fn, struct mirror_run *r) {
    struct sim_world *w = test_world(1);
    r->node = sim_node_create(w, "node");
    for (unsigned d = 0; d < 2; d++) {
        r->devices[d] = sim_device_create(w, DEVICE_SIZE);
        sim_device_attach(r->node, paths[d], r->devices[d]);
    }
    test_run(r->node, fn, r);
    for (unsigned d = 0; d < 2; d++) sim_device_unref(r->devices[d]);
    sim_world_destroy(w);
}

static void all_members_have_what_is_confirmed(void **state) {
    (void)state;
    struct mirror_run r = {0};
    in_world(all_fiber, &r);
}

/* Trims all that is confirmed, as uploads do. */
static void trim(struct mirror_run *r) {
    uint64_t position = 0;
    for (struct list *n; (n = list_pop_front(&r->done)) != NULL;) {
        position = LIST_ENTRY(n, struct block, node)->wal_end;
        block_destroy(LIST_ENTRY(n, struct block, node));
    }
    if (position > 0) wal_mirror_trim(r->mirror, position);
}

static void shrink_fiber(void *arg) {
    struct mirror_run *r = arg;
    begin(r);
    for (unsigned i = 0; i < STEPS_MAX; i++) {
        if (i == r->fails_at) sim_device_detach(r->node, r->devices[1]);
        submit_group(r);
        if (i % 3 == 0) fiber_sleep_ns(NS_PER_MS / 2);
    }
    wait_confirmed(r, STEPS_MAX);
    assert_false(r->failed);
    assert_int_equal(r->durable.count, 1);
    uint64_t at = 0;
    assert_true(device_has(r, 0, &at)); /* the first is enough */
    assert_int_equal(at, STEPS_MAX);
    /* The other comes back, with what it had; it does not count before all that it lacks has been trimmed. */
    sim_device_attach(r->node, paths[1], r->devices[1]);
    fiber_sleep_ns(3 * NS_PER_S);
    submit_group(r);
    wait_confirmed(r, STEPS_MAX + 1);
    assert_int_equal(r->durable.count, 1);
    assert_false(device_has(r, 1, &at));
    trim(r);
    fiber_sleep_ns(3 * NS_PER_S);
    assert_int_equal(r->durable.count, 2);
    submit_group(r);
    submit_group(r);
    wait_confirmed(r, STEPS_MAX + 3);
    end(r);
    for (unsigned d = 0; d < 2; d++) {
        assert_true(device_has(r, d, &at));
        assert_int_equal(at, STEPS_MAX + 3);
    }
}

static void a_lost_member_is_dropped_durably_and_comes_back(void **state) {
    (void)state;
    for (unsigned step = 0; step < STEPS_MAX; step++) {
        struct mirror_run r = {.fails_at = step};
        in_world(shrink_fiber, &r);
    }
}

static void held_fiber(void *arg) {
    struct mirror_run *r = arg;
    begin(r);
    submit_group(r);
    wait_confirmed(r, 1);
    r->hold_change = true;
    sim_device_detach(r->node, r->devices[1]);
    submit_group(r);
    fiber_sleep_ns(20 * NS_PER_S);
    assert_int_equal(r->confirmed, 1); /* the store does not answer: the other may be the only one that is believed */
    assert_true(r->changing);
    r->hold_change = false;
    wait_confirmed(r, 2);
    end(r);
}

static void nothing_rests_on_a_membership_that_is_not_durable(void **state) {
    (void)state;
    struct mirror_run r = {0};
    in_world(held_fiber, &r);
}

static void stop_fiber(void *arg) {
    struct mirror_run *r = arg;
    begin(r);
    for (unsigned i = 0; i < STEPS_MAX && !r->failed; i++) {
        if (i == r->fails_at) sim_device_detach(r->node, r->devices[1]);
        submit_group(r);
        if (i % 3 == 0) fiber_sleep_ns(NS_PER_MS / 2);
    }
    while (!r->failed) waitq_wait(&r->changed);
    assert_int_equal(r->changes, 0); /* what was confirmed is on both */
    uint64_t at = 0, kept = r->confirmed;
    assert_true(device_has(r, 0, &at));
    assert_true(at >= kept);
    destroy(&r->done);
    /* All is in the ledger now; but one is not there. */
    assert_int_equal(wal_mirror_restart(r->mirror), ERR_UNAVAILABLE);
    assert_int_equal(r->durable.count, 0);
    sim_device_attach(r->node, paths[1], r->devices[1]);
    while (wal_mirror_restart(r->mirror) != OK) fiber_sleep_ns(NS_PER_S);
    assert_int_equal(r->durable.count, 2);
    r->failed = false;
    uint64_t first = r->next;
    submit_group(r);
    wait_confirmed(r, kept + 1);
    end(r);
    for (unsigned d = 0; d < 2; d++) {
        assert_true(device_has(r, d, &at));
        assert_int_equal(r->first_read, first); /* nothing of before */
        assert_int_equal(at, first + 1);
    }
}

static void or_it_stops_until_all_are_there(void **state) {
    (void)state;
    for (unsigned step = 0; step < STEPS_MAX; step++) {
        struct mirror_run r = {.fails_at = step, .stops = true};
        in_world(stop_fiber, &r);
    }
}

static void order_fiber(void *arg) {
    struct mirror_run *r = arg;
    begin(r);
    for (unsigned i = 0; i < 5; i++) submit_group(r);
    wait_confirmed(r, 5);
    trim(r);
    wal_mirror_close(r->mirror, true);
    for (unsigned d = 0; d < 2; d++) {
        struct wal_options o = {.env = loop_current()->env, .path = paths[d], .read_only = true};
        struct wal *w;
        const char *why;
        assert_int_equal(wal_open(&o, &w, &why), OK);
        assert_true(wal_superblock(w)->closed);
        wal_close(w, false);
    }
    assert_int_equal(open_mirror(r), OK);
    struct mirror_run second = {.node = r->node};
    assert_int_equal(open_mirror(&second), ERR_LOCKED); /* a mirror is locked as its members are */
    wal_mirror_close(r->mirror, false);
}

static void it_closes_and_locks_as_its_members_do(void **state) {
    (void)state;
    struct mirror_run r = {0};
    in_world(order_fiber, &r);
}

/* ---- what is another's ---- */

static void others_confirmed(void *ctx, struct block *b) {
    struct mirror_run *r = ctx;
    r->confirmed++;
    block_destroy(b);
    waitq_wake_all(&r->changed);
}

static void others_failed(void *ctx, enum err why) {
    (void)ctx;
    fail_msg("%s", err_name(why));
}

/* A ring of that broker and cluster with one record in it, on a device that is nowhere yet. */
static struct sim_file *others_ring(struct mirror_run *r, uint64_t owner, const char *generation, uint64_t start) {
    static const uint8_t id[16] = {7};
    struct sim_file *f = sim_device_create(r->node->world, DEVICE_SIZE);
    struct mirror_run one = {.next = 1000};
    waitq_init(&one.changed);
    sim_device_attach(r->node, "/dev/other", f);
    struct wal_options o = {.env = loop_current()->env,
                            .path = "/dev/other",
                            .owner = owner,
                            .confirmed = others_confirmed,
                            .failed = others_failed,
                            .ctx = &one};
    struct wal *w;
    const char *why;
    assert_int_equal(wal_open(&o, &w, &why), OK);
    assert_int_equal(wal_format(w, generation, (struct incarnation){start}, id), OK);
    wal_submit(w, make_group(&one, (struct incarnation){start}));
    while (one.confirmed == 0) waitq_wait(&one.changed);
    wal_close(w, false);
    sim_device_detach(r->node, f);
    return f;
}

static bool others_record_is_there(struct mirror_run *r) {
    struct wal_options o = {.env = loop_current()->env, .path = paths[1], .read_only = true};
    struct wal *w;
    const char *why;
    assert_int_equal(wal_open(&o, &w, &why), OK);
    struct wal_found found = {0};
    r->read = 0;
    if (wal_superblock(w)) assert_int_equal(wal_replay(w, read_record, r, &found), OK);
    wal_close(w, false);
    return found.records == 1 && r->first_read == 1000;
}

static const struct {
    uint64_t owner;
    const char *generation;
    uint64_t start;
} others[] = {{9, "gen", 3}, {1, "another", 3}, {1, "gen", 6}}; /* broker, cluster, a later start of the same */

/* It comes while the mirror heals itself; at last an operator says that it is new. */
static void others_fiber(void *arg) {
    struct mirror_run *r = arg;
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        begin(r);
        sim_device_detach(r->node, r->devices[1]);
        submit_group(r);
        while (r->durable.count != 1) fiber_sleep_ns(10 * NS_PER_MS);
        struct sim_file *f = others_ring(r, others[i].owner, others[i].generation, others[i].start);
        sim_device_attach(r->node, paths[1], f);
        fiber_sleep_ns(10 * NS_PER_S);
        trim(r);
        fiber_sleep_ns(10 * NS_PER_S);
        assert_int_equal(r->durable.count, 1);
        assert_true(others_record_is_there(r));
        struct wal_options o = {.env = loop_current()->env, .path = paths[1]};
        static const uint8_t id[16] = {8};
        const char *why;
        assert_int_equal(wal_init(&o, id, true, &why), OK);
        fiber_sleep_ns(10 * NS_PER_S);
        trim(r);
        fiber_sleep_ns(10 * NS_PER_S);
        assert_int_equal(r->durable.count, 2);
        end(r);
        sim_device_detach(r->node, f);
        sim_device_unref(f);
        sim_device_attach(r->node, paths[1], r->devices[1]);
    }
}

static void the_ring_of_another_is_left_alone(void **state) {
    (void)state;
    struct mirror_run r = {0};
    in_world(others_fiber, &r);
}

/* It is there at the start: that goes on with the other member; with another cluster's it does not go on. */
static void others_at_start_fiber(void *arg) {
    struct mirror_run *r = arg;
    struct sim_file *f = others_ring(r, 9, "gen", 3);
    sim_device_detach(r->node, r->devices[1]);
    sim_device_attach(r->node, paths[1], f);
    list_init(&r->done);
    waitq_init(&r->changed);
    const char *why = NULL;
    assert_int_equal(open_mirror(r), OK);
    assert_int_equal(wal_mirror_format(r->mirror, "gen", (struct incarnation){5}, &why), OK);
    r->durable = *wal_mirror_membership(r->mirror);
    assert_int_equal(r->durable.count, 1);
    assert_true(wal_mirror_start(r->mirror));
    submit_group(r);
    wait_confirmed(r, 1);
    fiber_sleep_ns(10 * NS_PER_S);
    assert_true(others_record_is_there(r));
    end(r);
    struct mirror_run second = {.node = r->node};
    assert_int_equal(open_mirror(&second), OK);
    assert_int_equal(wal_mirror_format(second.mirror, "another", (struct incarnation){5}, &why), ERR_FOREIGN);
    assert_non_null(strstr(why, "another cluster"));
    wal_mirror_close(second.mirror, false);
    assert_true(others_record_is_there(r));
    sim_device_detach(r->node, f);
    sim_device_unref(f);
    sim_device_attach(r->node, paths[1], r->devices[1]);
}

static void at_the_start_too(void **state) {
    (void)state;
    struct mirror_run r = {0};
    in_world(others_at_start_fiber, &r);
}

/* A start that is refused has changed nothing: begun anew, the first could not be used by the next one. */
static void refused_fiber(void *arg) {
    struct mirror_run *r = arg;
    static const uint8_t id[16] = {8};
    struct wal_options o = {.env = loop_current()->env, .path = paths[0]};
    const char *why = NULL;
    assert_int_equal(wal_init(&o, id, true, &why), OK);
    static uint8_t before[WAL_RING_START], after[WAL_RING_START]; /* more than a fiber's stack should hold */
    assert_int_equal(sim_file_peek(r->devices[0], 0, before, sizeof(before)), sizeof(before));
    struct sim_file *f = others_ring(r, 9, "another", 3);
    sim_device_detach(r->node, r->devices[1]);
    sim_device_attach(r->node, paths[1], f);
    assert_int_equal(open_mirror(r), OK);
    assert_int_equal(wal_mirror_format(r->mirror, "gen", (struct incarnation){5}, &why), ERR_FOREIGN);
    assert_non_null(strstr(why, "another cluster"));
    wal_mirror_close(r->mirror, false);
    assert_int_equal(sim_file_peek(r->devices[0], 0, after, sizeof(after)), sizeof(after));
    assert_memory_equal(before, after, sizeof(before));
    assert_true(others_record_is_there(r));
    sim_device_detach(r->node, f);
    sim_device_unref(f);
    sim_device_attach(r->node, paths[1], r->devices[1]);
}

static void a_start_that_is_refused_changes_nothing(void **state) {
    (void)state;
    struct mirror_run r = {.marks = true};
    in_world(refused_fiber, &r);
}

/* ---- taken over by mark ---- */

static void mark_put(struct mirror_run *r, unsigned d, bool there) {
    uint8_t mark[ENV_FILE_ALIGN] = {there};
    sim_file_poke(r->devices[d], 2 * (uint64_t)ENV_FILE_ALIGN, mark, sizeof(mark));
}

/* Who takes over may reach one of them only. What is on its way to both then is not confirmed, and no smaller membership
 * goes on without the marked one. */
static void marked_fiber(void *arg) {
    struct mirror_run *r = arg;
    for (unsigned d = 0; d < 2; d++) {
        begin(r);
        r->changes = 0;
        for (unsigned i = 0; i < 5; i++) submit_group(r);
        wait_confirmed(r, 5ull * (d + 1));
        assert_false(r->failed);
        mark_put(r, d, true);
        r->fenced = true;
        for (unsigned i = 0; i < 5; i++) submit_group(r);
        while (!r->failed) waitq_wait(&r->changed);
        fiber_sleep_ns(10 * NS_PER_S);
        assert_int_equal(r->confirmed, 5ull * (d + 1));
        assert_int_equal(r->changes, 0);
        assert_int_equal(wal_mirror_restart(r->mirror), ERR_FENCED);
        end(r);
        mark_put(r, d, false);
        r->failed = r->fenced = false;
    }
}

static void a_mark_on_one_stops_the_whole(void **state) {
    (void)state;
    struct mirror_run r = {.marks = true};
    in_world(marked_fiber, &r);
}

static bool device_closed(unsigned d) {
    struct wal_options o = {.env = loop_current()->env, .path = paths[d], .read_only = true};
    struct wal *w;
    const char *why;
    assert_int_equal(wal_open(&o, &w, &why), OK);
    bool closed = wal_superblock(w) && wal_superblock(w)->closed;
    wal_close(w, false);
    return closed;
}

/* The mirror stops as one member may not be used: the next start can use the other all the same. */
static void unused_fiber(void *arg) {
    struct mirror_run *r = arg;
    list_init(&r->done);
    waitq_init(&r->changed);
    mark_put(r, 1, true);
    const char *why = NULL;
    assert_int_equal(open_mirror(r), OK);
    assert_int_equal(wal_mirror_format(r->mirror, "gen", (struct incarnation){5}, &why), OK);
    assert_int_equal(wal_mirror_membership(r->mirror)->count, 0);
    assert_false(device_closed(0));
    assert_false(wal_mirror_start(r->mirror));
    end(r);
    assert_true(device_closed(0));
    assert_false(device_closed(1));
}

static void what_was_never_used_is_closed_in_order(void **state) {
    (void)state;
    struct mirror_run r = {.marks = true, .stops = true};
    in_world(unused_fiber, &r);
}

/* No member is there. What may pass is said, so that the start is tried again; without it, that none was ever made a WAL, as of
 * a single device; else nobody may use them, and the start goes on without. */
static void none_fiber(void *arg) {
    struct mirror_run *r = arg;
    static const struct {
        enum err first, second, store, expected;
    } cases[] = {
        {ERR_NOT_FOUND, ERR_NOT_FOUND, OK, ERR_NOT_FOUND},
        {ERR_NOT_FOUND, ERR_FENCED, OK, ERR_FENCED},
        {ERR_FENCED, ERR_NOT_FOUND, OK, ERR_FENCED},
        {ERR_NOT_FOUND, OK, ERR_UNAVAILABLE, ERR_UNAVAILABLE},
        {ERR_FENCED, OK, ERR_UNKNOWN_OUTCOME, ERR_UNKNOWN_OUTCOME},
    };
    struct sim_bucket *bucket = sim_bucket_create(r->node->world, "objects");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *why = NULL;
        r->claim_says[0] = cases[i].first;
        r->claim_says[1] = cases[i].second;
        r->store_says = cases[i].store;
        r->bucket = cases[i].store == OK ? NULL : bucket;
        assert_int_equal(open_mirror(r), OK);
        assert_int_equal(wal_mirror_format(r->mirror, "gen", (struct incarnation){5}, &why), cases[i].expected);
        assert_non_null(strstr(why, "no member of the mirror"));
        wal_mirror_close(r->mirror, false);
    }
}

static void no_member_is_there(void **state) {
    (void)state;
    struct mirror_run r = {.marks = true};
    in_world(none_fiber, &r);
}

/* ---- an object log ---- */

static enum err read_again(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct mirror_run *r = ctx;
    assert_int_equal(payload[0], h->base_offset & 0xff);
    if (r->read == 0) r->first_read = h->base_offset;
    if (h->base_offset == r->first_read + r->read) r->read++;
    return OK;
}

static struct wal_objects *reader(struct mirror_run *r) {
    struct wal_objects_options o = {
        .env = loop_current()->env, .url = "s3://bucket", .open_store = open_store, .open_ctx = r, .depth = 1};
    struct wal_objects *w = wal_objects_create(&o);
    const char *why;
    assert_int_equal(wal_objects_open(w, &why), OK);
    return w;
}

/* As a recovery does it, by `taker`. Records below the result are there. */
static uint64_t objects_have(struct mirror_run *r, unsigned id, struct wal_objects_found *found) {
    struct wal_objects *w = reader(r);
    r->read = 0;
    enum err e = wal_objects_replay(w, "gen", (struct incarnation){5}, r->durable.ids[id], (struct incarnation){6},
                                    NS_PER_S, read_again, r, found);
    assert_int_equal(e, OK);
    wal_objects_destroy(w, false);
    return r->read ? r->first_read + r->read : 0;
}

static void objects_fiber(void *arg) {
    struct mirror_run *r = arg;
    begin(r);
    for (unsigned i = 0; i < 50; i++) submit_group(r);
    wait_confirmed(r, 50);
    size_t all = r->bucket->count;
    assert_in_range(all, 2, 20); /* what waits goes together */
    trim(r);
    for (unsigned i = 0; i < 3; i++) { /* one carries the boundary, and then what is below it goes */
        submit_group(r);
        wait_confirmed(r, 51 + i);
        if (i == 1) trim(r);
        fiber_sleep_ns(NS_PER_S);
    }
    assert_true(r->bucket->count <= 5);
    struct wal_objects_found found;
    struct wal_objects *w = reader(r);
    struct wal_objects_found none;
    assert_int_equal(wal_objects_replay(w, "gen", (struct incarnation){5}, r->durable.ids[0], (struct incarnation){6},
                                        NS_PER_S, read_again, r, &none),
                     ERR_NOT_FOUND); /* that is the ring */
    wal_objects_destroy(w, false);
    assert_int_equal(objects_have(r, 1, &found), 53);
    uint64_t records = found.records;
    assert_in_range(records, 2, 4);
    /* It is fenced now: nothing is confirmed any more. */
    r->fenced = true;
    uint64_t before = r->confirmed;
    submit_group(r);
    while (!r->failed) waitq_wait(&r->changed);
    assert_int_equal(r->confirmed, before);
    end(r);
    /* A second recovery, after one that broke off: it finds the fence, and the same records. */
    assert_int_equal(objects_have(r, 1, &found), 53);
    assert_int_equal(found.records, records);
    /* Swept: the fence stays. */
    bool stop = false;
    uint64_t deleted;
    w = reader(r);
    assert_int_equal(wal_objects_sweep(w, "gen", (struct incarnation){6}, &stop, &deleted), OK);
    assert_true(deleted > 0);
    wal_objects_destroy(w, false);
    unsigned fences = 0;
    for (size_t i = 0; i < r->bucket->count; i++) fences += strstr(r->bucket->objects[i]->key, "gen/mirror/") != NULL;
    assert_int_equal(fences, 1);
}

static void an_object_log_confirms_is_read_and_fenced(void **state) {
    (void)state;
    struct mirror_run r = {0};
    struct sim_world *w = test_world(1);
    r.bucket = sim_bucket_create(w, "objects");
    r.node = sim_node_create(w, "node");
    r.devices[0] = sim_device_create(w, DEVICE_SIZE);
    sim_device_attach(r.node, paths[0], r.devices[0]);
    test_run(r.node, objects_fiber, &r);
    sim_device_unref(r.devices[0]);
    sim_world_destroy(w);
}

static void bytes_of_an_object_log(void **state) {
    (void)state;
    static const uint8_t id[16] = {1, 2, 3};
    uint8_t head[WAL_OBJECTS_HEAD_SIZE];
    wal_objects_head_encode(head, id, 5);
    static const uint8_t golden[WAL_OBJECTS_HEAD_SIZE] = "OXBWOLOG\1\0\0\0\5\0\0\0\1\2\3";
    assert_memory_equal(head, golden, sizeof(golden));
    uint32_t groups;
    assert_int_equal(wal_objects_head_decode(head, sizeof(head), id, &groups), OK);
    assert_int_equal(groups, 5);
    assert_int_equal(wal_objects_head_decode(head, sizeof(head) - 1, id, &groups), ERR_TRUNCATED);
    head[16] = 9;
    assert_int_equal(wal_objects_head_decode(head, sizeof(head), id, &groups), ERR_CORRUPT);
    head[8] = 2;
    assert_int_equal(wal_objects_head_decode(head, sizeof(head), id, &groups), ERR_VERSION);
    head[0] = 'o';
    assert_int_equal(wal_objects_head_decode(head, sizeof(head), id, &groups), ERR_FOREIGN);
    char prefix[WAL_OBJECTS_PREFIX_MAX];
    wal_objects_prefix(prefix, "gen", (struct incarnation){0x1f}, id);
    assert_string_equal(prefix, "gen/mirror/000000000000001f-01020300000000000000000000000000");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_members_have_what_is_confirmed),
        cmocka_unit_test(a_lost_member_is_dropped_durably_and_comes_back),
        cmocka_unit_test(nothing_rests_on_a_membership_that_is_not_durable),
        cmocka_unit_test(or_it_stops_until_all_are_there),
        cmocka_unit_test(it_closes_and_locks_as_its_members_do),
        cmocka_unit_test(the_ring_of_another_is_left_alone),
        cmocka_unit_test(at_the_start_too),
        cmocka_unit_test(a_start_that_is_refused_changes_nothing),
        cmocka_unit_test(a_mark_on_one_stops_the_whole),
        cmocka_unit_test(what_was_never_used_is_closed_in_order),
        cmocka_unit_test(no_member_is_there),
        cmocka_unit_test(an_object_log_confirms_is_read_and_fenced),
        cmocka_unit_test(bytes_of_an_object_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
