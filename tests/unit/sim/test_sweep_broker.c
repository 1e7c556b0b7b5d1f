/* Sweeps over the whole broker, with a client that sees it from outside. */
#include "sweep_broker.h"

#include "broker/broker_priv.h"
#include "stream/streams_priv.h"

static void prepare(struct broker_run *r) {
    r->batches = 5;
    r->value_size = 20000;
}
static void prepare_wal(void *arg) {
    prepare(arg);
}
static void prepare_no_wal(void *arg) {
    struct broker_run *r = arg;
    prepare(r);
    r->wal = "none";
}
static void prepare_object(void *arg) {
    struct broker_run *r = arg;
    prepare(r);
    r->durability = "object";
}

#define PIECE(title, before)                                                                                           \
    {                                                                                                                  \
        .name = title, .size = sizeof(struct broker_run), .classes = SIM_SWEEP_IO, .prepare = before,                  \
        .work = broker_work, .check = broker_check, .beside = broker_client                                            \
    }

static void with_a_wal(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("broker", prepare_wal);
    sweep_every_kind(&p);
}
static void without_a_wal(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("broker-no-wal", prepare_no_wal);
    sweep_every_kind(&p);
}
static void confirmed_by_the_store(void **state) {
    (void)state;
    static const struct sweep_piece p = PIECE("broker-object", prepare_object);
    sweep_every_kind(&p);
}

static void the_end_of_memory(void **state) {
    (void)state;
    static const struct sweep_piece p = {"broker-memory",  sizeof(struct broker_run),
                                         SIM_SWEEP_MEMORY, prepare_object,
                                         broker_work,      broker_check,
                                         broker_client,    5};
    assert_true(sweep_all(&p, SIM_SWEEP_KILL, false) > 60);
    assert_true(sweep_all(&p, SIM_SWEEP_POWER, false) > 60);
}

/* --- Budgets. None refuses for good: whoever finds one used up waits. So a hog takes all that there is, at one moment after
 * another of the load, and holds it for a while; every request is served all the same, with no error, once. */

#define SQUEEZE_EVERY_NS (3 * NS_PER_MS)
#define SQUEEZE_NS (500 * NS_PER_MS)

struct squeeze_run {
    struct broker_run broker; /* first */
    unsigned at;
    bool squeezed, waited;
};

struct hog {
    struct squeeze_run *run;
    unsigned shard;
    uint64_t cache_limit;
};

static void hog_takes(void *arg) {
    struct hog *h = arg;
    struct broker *b = h->run->broker.broker;
    struct shard *s = &b->shards[h->shard];
    receive_pool_charge(&s->conns.pool, s->conns.pool.budget.limit_bytes);
    s->conns.decode.used_bytes += s->conns.decode.limit_bytes;
    s->conversions.used_bytes += s->conversions.limit_bytes;
    struct stream_shard *log = &b->streams->shards[h->shard];
    h->cache_limit = log->cache_limit;
    log->cache_limit = 0;
}

static void hog_gives(void *arg) {
    struct hog *h = arg;
    struct broker *b = h->run->broker.broker;
    struct shard *s = &b->shards[h->shard];
    struct stream_shard *log = &b->streams->shards[h->shard];
    if (!list_empty(&s->conns.starved) || !waitq_empty(&log->room)) h->run->waited = true;
    receive_pool_uncharge(&s->conns.pool, s->conns.pool.budget.limit_bytes);
    budget_give(&s->conns.decode, s->conns.decode.limit_bytes);
    waitq_wake_all(&s->conns.decode_waiters);
    struct conversion_up u = {.held_bytes = s->conversions.limit_bytes};
    conversions_release(&s->conversions, &u);
    log->cache_limit = h->cache_limit;
    waitq_wake_one(&log->room);
}

static void squeeze(void *arg) {
    struct squeeze_run *r = arg;
    struct hog hogs[2] = {{.run = r, .shard = 0}, {.run = r, .shard = 1}};
    fiber_sleep_ns(r->at * SQUEEZE_EVERY_NS);
    if (r->broker.phase != BROKER_LOADS) return;
    r->squeezed = true;
    for (unsigned i = 0; i < 2; i++) loop_call(r->broker.broker->loops[i], hog_takes, &hogs[i]);
    fiber_sleep_ns(SQUEEZE_NS);
    for (unsigned i = 0; i < 2; i++) loop_call(r->broker.broker->loops[i], hog_gives, &hogs[i]);
}

static void used_up_budgets_make_wait(void **state) {
    (void)state;
    unsigned waited = 0, n = 0;
    bool squeezed = true;
    for (; squeezed; n++) {
        struct sim_world *w = test_world(7);
        struct squeeze_run *r = test_calloc(1, sizeof(*r));
        struct broker_run *b = &r->broker;
        b->base.world = w;
        b->base.node = sim_node_create(w, "broker");
        b->batches = 20;
        b->value_size = 60000;
        b->must = b->follows = true;
        b->request_bytes = "2097152";
        b->serving = squeeze;
        r->at = n;
        sim_node_start(sim_node_create(w, "client"), broker_client, r);
        sweep_stage(&b->base, broker_work, "the load");
        SWEEP_EXPECT(b, b->sent == b->batches, "a request was refused");
        b->serving = NULL;
        sweep_stage(&b->base, broker_check, "the check");
        if (sim_failed(w)) print_message("squeezed at %u: %s\n", n, w->failure);
        assert_false(sim_failed(w));
        squeezed = r->squeezed;
        waited += r->waited;
        sim_world_destroy(w);
        test_free(r);
    }
    assert_true(n > 50);
    assert_true(waited > 10);
}

/* --- What is tidied up in the background: tried again while the store fails, done once it works, ended by a stop. */

#define LEFT_PROBE "oxbow/probe-00000000000000aa"

struct tidy_run {
    struct broker_run broker; /* first */
    char object[OBJECT_KEY_MAX];
    bool stops; /* while it waits for another attempt */
    uint64_t stopping_ns;
};

/* What an incarnation that died may leave: an object that nothing refers to, and a probe. */
static void leave(void *arg) {
    struct tidy_run *r = arg;
    struct env *env = loop_current()->env;
    const struct sim_bucket *bucket = r->broker.base.world->bucket;
    const char *key = NULL;
    char generation[64];
    for (size_t i = 0; i < bucket->count && !key; i++) {
        if (strstr(bucket->objects[i]->key, "/ledger/")) key = bucket->objects[i]->key;
    }
    assert_non_null(key);
    (void)snprintf(generation, sizeof(generation), "%.*s", (int)strcspn(key, "/"), key);
    object_key(r->object, generation, (struct object_id){.creator = {1}, .number = 987654, .kind = OBJECT_DATA});
    struct store *store = sim_store_open(NULL, env, &(struct sim_store_options){.exclusive = true});
    struct slice data = slice_borrow("left", 4);
    assert_int_equal(store_put(store, r->object, &data, 1, false, STORE_FOR_OTHER), OK);
    assert_int_equal(store_put(store, LEFT_PROBE, &data, 1, false, STORE_FOR_OTHER), OK);
    store_close(store);
}

static bool is_left(const struct tidy_run *r, const char *key) {
    return sim_bucket_find(r->broker.base.world->bucket, key) != NULL;
}

static void tidy_serving(void *arg) {
    struct tidy_run *r = arg;
    struct sim_world *w = r->broker.base.world;
    w->faults.chance[SIM_STORE_UNAVAILABLE] = 1;
    fiber_sleep_ns(600 * NS_PER_S);
    SWEEP_EXPECT(&r->broker, is_left(r, r->object) && is_left(r, LEFT_PROBE),
                 "it was deleted though the store was away");
    sim_faults_none(&w->faults);
    if (!r->stops) {
        fiber_sleep_ns(3000 * NS_PER_S);
        SWEEP_EXPECT(&r->broker, !is_left(r, r->object), "what a dead incarnation left was not swept");
        SWEEP_EXPECT(&r->broker, is_left(r, LEFT_PROBE) == r->broker.shared,
                     "a probe that another may be using was deleted, or one that nobody can was not");
        fiber_sleep_ns(3600 * NS_PER_S);
        SWEEP_EXPECT(&r->broker, !is_left(r, LEFT_PROBE), "the probe was not deleted");
    }
    r->stopping_ns = w->now_ns;
}

static void tidy_life(void *arg) {
    struct broker_run *r = arg;
    r->phase = BROKER_AUDITED;
    broker_life(r, BROKER_AUDITED);
}

static void what_was_left_goes(bool shared, bool stops) {
    struct sim_world *w = test_world(11);
    struct tidy_run *r = test_calloc(1, sizeof(*r));
    r->broker.base.world = w;
    r->broker.base.node = sim_node_create(w, "broker");
    r->broker.must = true;
    r->broker.shared = shared;
    r->stops = stops;
    test_run(r->broker.base.node, tidy_life, r);
    test_run(sim_node_create(w, "dead"), leave, r);
    r->broker.serving = tidy_serving;
    test_run(r->broker.base.node, tidy_life, r);
    if (sim_failed(w)) print_message("shared=%d stops=%d: %s\n", shared, stops, w->failure);
    assert_false(sim_failed(w));
    if (stops) {
        assert_true(is_left(r, LEFT_PROBE));
        assert_true(w->now_ns - r->stopping_ns < 20 * NS_PER_S);
    }
    sim_world_destroy(w);
    test_free(r);
}

static void what_was_left_is_tidied_up_later(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++) what_was_left_goes(i & 1, i & 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_left_is_tidied_up_later),
        cmocka_unit_test(with_a_wal),
        cmocka_unit_test(without_a_wal),
        cmocka_unit_test(confirmed_by_the_store),
        cmocka_unit_test(the_end_of_memory),
        cmocka_unit_test(used_up_budgets_make_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
