/* The simulated object store: its answers without faults, and each fault by itself. */
#include "sim_test.h"

#include <stdio.h>
#include <string.h>

#define KEY "a/k"

struct one_put { /* one PUT of a text, and what came of it */
    const char *text;
    bool create, exclusive, sent;
    enum err result;
    bool answered;
};

static enum err put_text(struct store *s, const char *key, const char *text, bool create) {
    size_t half = strlen(text) / 2;
    struct slice data[2] = {slice_borrow(text, half), slice_borrow(text + half, strlen(text) - half)};
    return store_put(s, key, data, 2, create, STORE_FOR_OTHER);
}

static void one_put_main(void *arg) {
    struct one_put *p = arg;
    struct sim_store_options o = {.exclusive = p->exclusive};
    struct store *s = sim_store_open(NULL, loop_current()->env, &o);
    assert_int_equal(s->exclusive, p->exclusive);
    p->sent = true;
    p->result = put_text(s, KEY, p->text, p->create);
    p->answered = true;
    store_close(s);
}

static bool holds(const struct sim_world *w, const char *key, const char *text) {
    const struct sim_object *o = sim_bucket_find(w->bucket, key);
    return o && o->size == strlen(text) && memcmp(o->data, text, o->size) == 0;
}

static struct sim_world *world_with(uint64_t seed, enum sim_fault f, double chance, struct sim_node **n) {
    struct sim_world *w = test_world(seed);
    w->faults.chance[f] = chance;
    *n = sim_node_create(w, "n");
    return w;
}

/* --- Without faults. */

static void plain_main(void *arg) {
    (void)arg;
    struct env *env = loop_current()->env;
    struct store *s = sim_store_open(NULL, env, NULL);
    struct slice got;
    assert_true(s->list_consistent);
    assert_int_equal(store_get(s, KEY, 0, 10, STORE_FOR_OTHER, &got), ERR_NOT_FOUND);
    assert_int_equal(put_text(s, KEY, "first", true), OK);
    assert_int_equal(put_text(s, KEY, "second", true), ERR_EXISTS);
    assert_int_equal(store_get(s, KEY, 1, 3, STORE_FOR_OTHER, &got), OK);
    assert_memory_equal(got.data, "irs", 3);
    assert_int_equal(got.size, 3);
    slice_unref(&got);
    assert_int_equal(put_text(s, KEY, "second", false), OK);
    assert_int_equal(store_get(s, KEY, 0, SIZE_MAX, STORE_FOR_OTHER, &got), OK);
    assert_int_equal(got.size, 6);
    slice_unref(&got);
    assert_int_equal(store_get(s, KEY, 6, 1, STORE_FOR_OTHER, &got), OK);
    assert_int_equal(got.size, 0);
    slice_unref(&got);

    char key[32];
    for (int i = 9; i >= 0; i--) {
        (void)snprintf(key, sizeof(key), "l/%d", i);
        assert_int_equal(put_text(s, key, "x", true), OK);
    }
    struct store_listing l;
    assert_int_equal(store_list(s, "l/", NULL, 4, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 4);
    assert_true(l.more);
    assert_string_equal(l.items[0].key, "l/0");
    store_listing_deinit(&l);
    assert_int_equal(store_list(s, "l/", "l/5", 100, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 4);
    assert_false(l.more);
    assert_string_equal(l.items[0].key, "l/6");
    assert_int_equal(l.items[0].size_bytes, 1);
    store_listing_deinit(&l);
    const char *keys[] = {"l/1", "l/none", "l/2"};
    assert_int_equal(store_delete(s, keys, 3, STORE_FOR_OTHER), OK);
    assert_int_equal(store_list(s, "l", NULL, 100, STORE_FOR_OTHER, &l), OK);
    assert_int_equal(l.count, 8);
    store_listing_deinit(&l);
    store_close(s);
}

static void answers_without_faults(void **state) {
    (void)state;
    struct sim_world *w = test_world(1);
    test_run(sim_node_create(w, "n"), plain_main, NULL);
    assert_int_equal(w->bucket->count, 9);
    assert_int_equal(sim_bucket_from(w->bucket, "l/"), 1);
    sim_world_destroy(w);
}

/* --- Objects of parts of others. */

struct composing { /* one compose, and what came of it */
    enum err result;
    bool sent, exclusive;
    uint64_t from_size;
};
static uint8_t from_bytes[20000];

static void compose_main(void *arg) {
    struct composing *p = arg;
    struct sim_store_options o = {.exclusive = p->exclusive};
    struct store *s = sim_store_open(NULL, loop_current()->env, &o);
    struct slice whole = slice_borrow(from_bytes, p->from_size);
    for (size_t i = 0; i < sizeof(from_bytes); i++) from_bytes[i] = (uint8_t)(i * 7 + i / 256);
    while (!sim_bucket_find(sim_node_of(s->env)->world->bucket, "from"))
        (void)!store_put(s, "from", &whole, 1, false, STORE_FOR_OTHER);
    struct store_part parts[] = {{.key = "from", .position = 3, .size = p->from_size - 3},
                                 {.data = slice_borrow("a few", 5)}};
    p->sent = true;
    p->result = store_compose(s, KEY, parts, 2, STORE_FOR_OTHER);
    store_close(s);
}

static bool composed(const struct sim_world *w, uint64_t from_size) {
    const struct sim_object *o = sim_bucket_find(w->bucket, KEY);
    return o && o->size == from_size + 2 && memcmp(o->data, from_bytes + 3, from_size - 3) == 0 &&
           memcmp(o->data + from_size - 3, "a few", 5) == 0;
}

static void composes(void **state) {
    (void)state;
    static const struct {
        uint64_t size;
        bool exclusive;
        enum err expected;
    } cases[] = {{20000, false, OK}, {20000, true, OK}, {100, true, OK}, {100, false, ERR_UNSUPPORTED}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sim_world *w = test_world(1);
        struct composing p = {.exclusive = cases[i].exclusive, .from_size = cases[i].size};
        test_run(sim_node_create(w, "n"), compose_main, &p);
        assert_int_equal(p.result, cases[i].expected);
        assert_int_equal(composed(w, p.from_size), p.result == OK);
        assert_int_equal(w->bucket->upload_count, 0);
        sim_world_destroy(w);
    }
}

/* Every fault, at many seeds: what is said to be there is there, what is said not to be never will, and what was begun is
 * given up but for what nobody could. */
static void a_compose_fails_as_a_create_does(void **state) {
    (void)state;
    unsigned counts[3] = {0};
    for (enum sim_fault f = SIM_STORE_UNAVAILABLE; f <= SIM_STORE_CRASH_LATE; f++) {
        if (f == SIM_STORE_ROT) continue;
        for (uint64_t seed = 0; seed < 12; seed++) {
            struct sim_node *n;
            struct sim_world *w = world_with(seed, f, f == SIM_STORE_NO_COPY ? 1 : 0.3, &n);
            struct composing p = {.from_size = 20000};
            test_run(n, compose_main, &p);
            bool unknown = err_class(p.result) == ERR_CLASS_UNKNOWN || p.result == ERR_EXISTS;
            if (p.result == OK) assert_true(composed(w, 20000));
            test_pass(w, 2000 * NS_PER_S);
            if (p.result != OK && !unknown) assert_false(composed(w, 20000));
            assert_int_equal(p.result == ERR_UNSUPPORTED, f == SIM_STORE_NO_COPY);
            assert_true(w->bucket->upload_count <= 1);
            counts[p.result == OK ? 0 : unknown ? 1 : 2]++;
            sim_world_destroy(w);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) assert_true(counts[i] > 10);
}

struct listing_uploads {
    size_t found, left;
};
static void uploads_main(void *arg) {
    struct listing_uploads *x = arg;
    struct store *s = sim_store_open(NULL, loop_current()->env, NULL);
    struct store_uploads u;
    assert_int_equal(store_uploads(s, "b/", STORE_FOR_OTHER, &u), OK);
    assert_int_equal(u.count, 0);
    store_uploads_deinit(&u);
    assert_int_equal(store_uploads(s, "a/", STORE_FOR_OTHER, &u), OK);
    x->found = u.count;
    for (size_t i = 0; i < u.count; i++) {
        assert_string_equal(u.items[i].key, KEY);
        assert_int_equal(store_upload_abort(s, u.items[i].key, u.items[i].id, STORE_FOR_OTHER), OK);
        assert_int_equal(store_upload_abort(s, u.items[i].key, u.items[i].id, STORE_FOR_OTHER), OK);
    }
    store_uploads_deinit(&u);
    assert_int_equal(store_uploads(s, "", STORE_FOR_OTHER, &u), OK);
    x->left = u.count;
    store_uploads_deinit(&u);
    store_close(s);
}

/* Who dies in the middle leaves what it had begun; what was given up is never completed, however late. */
static void a_crash_leaves_an_upload(void **state) {
    (void)state;
    unsigned left = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_node *n;
        struct sim_world *w = world_with(seed, SIM_STORE_CRASH_LATE, 1, &n);
        struct composing p = {.from_size = 20000};
        sim_node_start(n, compose_main, &p);
        while (!p.sent) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
        test_pass(w, seed * 20 * NS_PER_MS);
        sim_node_crash(n, SIM_KILL);
        struct listing_uploads x = {0};
        bool there = composed(w, 20000);
        test_run(sim_node_create(w, "m"), uploads_main, &x);
        assert_int_equal(x.left, 0);
        left += x.found > 0;
        if (x.found > 0) {
            test_pass(w, 2000 * NS_PER_S);
            assert_int_equal(composed(w, 20000), there);
        }
        sim_world_destroy(w);
    }
    assert_true(left > 3);
}

/* --- PUT faults, one at a time. */

static void refused_does_nothing(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(1, SIM_STORE_UNAVAILABLE, 1, &n);
    struct one_put p = {.text = "x", .create = true};
    test_run(n, one_put_main, &p);
    test_pass(w, 1000 * NS_PER_S);
    assert_int_equal(p.result, ERR_UNAVAILABLE);
    assert_int_equal(w->bucket->count, 0);
    sim_world_destroy(w);
}

static void lost_answer_has_landed(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_node *n;
        struct sim_world *w = world_with(seed, SIM_STORE_ANSWER_LOST, 1, &n);
        struct one_put p = {.text = "x", .create = true};
        test_run(n, one_put_main, &p);
        assert_int_equal(err_class(p.result), ERR_CLASS_UNKNOWN);
        assert_true(holds(w, KEY, "x"));
        sim_world_destroy(w);
    }
}

static void lost_put_never_lands(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(1, SIM_STORE_PUT_LOST, 1, &n);
    struct one_put p = {.text = "x", .create = true};
    test_run(n, one_put_main, &p);
    test_pass(w, 1000 * NS_PER_S);
    assert_int_equal(err_class(p.result), ERR_CLASS_UNKNOWN);
    assert_int_equal(w->bucket->count, 0);
    sim_world_destroy(w);
}

/* The late one lands where nothing lies; where another was put meanwhile, a create loses and a plain PUT wins. */
static void late_put_is_judged_when_it_lands(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct sim_node *n;
        struct sim_world *w = world_with(7, SIM_STORE_PUT_LATE, 1, &n);
        struct one_put late = {.text = "late", .create = kind < 2}, between = {.text = "between", .create = true};
        test_run(n, one_put_main, &late);
        assert_int_equal(err_class(late.result), ERR_CLASS_UNKNOWN);
        assert_int_equal(w->bucket->count, 0);
        w->faults.chance[SIM_STORE_PUT_LATE] = 0;
        if (kind > 0) {
            test_run(n, one_put_main, &between);
            assert_int_equal(between.result, OK);
            assert_true(holds(w, KEY, "between"));
        }
        test_pass(w, 1000 * NS_PER_S);
        assert_true(holds(w, KEY, kind == 1 ? "between" : "late"));
        sim_world_destroy(w);
    }
}

static void delete_main(void *arg) {
    enum err *result = arg;
    struct store *s = sim_store_open(NULL, loop_current()->env, NULL);
    const char *keys[] = {KEY, "b/1", "b/2", "b/3", "b/4", "b/5", "b/6", "b/7"};
    *result = store_delete(s, keys, 8, STORE_FOR_OTHER);
    store_close(s);
}

static void an_object_is_locked_for_a_while(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_DELETE_REFUSED, 1, &n);
    struct one_put p = {.text = "x", .create = true};
    test_run(n, one_put_main, &p);
    enum err e;
    test_run(n, delete_main, &e); /* of the others there is none */
    assert_int_equal(e, ERR_PERMISSION);
    const struct sim_object *o = sim_bucket_find(w->bucket, KEY);
    assert_non_null(o);
    assert_true(o->refusals == 1 && o->refused_ns <= w->now_ns && o->locked_until_ns > o->refused_ns);
    w->faults.chance[SIM_STORE_DELETE_REFUSED] = 0;
    while (w->now_ns < o->locked_until_ns) test_pass(w, NS_PER_S);
    test_run(n, delete_main, &e);
    assert_int_equal(e, OK);
    assert_int_equal(w->bucket->count, 0);
    sim_world_destroy(w);
}

static void put_lands_twice(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_PUT_TWICE, 1, &n);
    struct one_put p = {.text = "x", .create = true};
    test_run(n, one_put_main, &p);
    assert_int_equal(p.result, OK);
    enum err e;
    test_run(n, delete_main, &e);
    assert_int_equal(e, OK);
    assert_int_equal(w->bucket->count, 0);
    test_pass(w, 1000 * NS_PER_S);
    assert_true(holds(w, KEY, "x"));
    sim_world_destroy(w);
}

static void own_object_is_answered_as_anothers(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_EXISTS_MINE, 1, &n);
    struct one_put p = {.text = "x", .create = true};
    test_run(n, one_put_main, &p);
    assert_int_equal(p.result, ERR_EXISTS);
    assert_true(holds(w, KEY, "x"));
    p.create = false; /* there is no such answer to a plain PUT */
    test_run(n, one_put_main, &p);
    assert_int_equal(p.result, OK);
    sim_world_destroy(w);
}

/* --- Reads and deletes. */

struct reads {
    enum err get, list;
};

static void reads_main(void *arg) {
    struct reads *r = arg;
    struct store *s = sim_store_open(NULL, loop_current()->env, NULL);
    struct slice got;
    struct store_listing l;
    r->get = store_get(s, KEY, 0, 1, STORE_FOR_OTHER, &got);
    slice_unref(&got);
    r->list = store_list(s, "", NULL, 10, STORE_FOR_OTHER, &l);
    store_listing_deinit(&l);
    store_close(s);
}

static void reads_fail(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_READ_FAILS, 1, &n);
    struct reads r;
    test_run(n, reads_main, &r);
    assert_int_equal(r.get, ERR_TIMEOUT);
    assert_int_equal(r.list, ERR_TIMEOUT);
    sim_world_destroy(w);
}

static void fill_main(void *arg) {
    (void)arg;
    struct store *s = sim_store_open(NULL, loop_current()->env, NULL);
    char key[32];
    for (int i = 1; i <= 7; i++) {
        (void)snprintf(key, sizeof(key), "b/%d", i);
        assert_int_equal(put_text(s, key, "x", true), OK);
    }
    store_close(s);
}

static void unknown_delete_takes_some_now_some_later(void **state) {
    (void)state;
    unsigned now = 0, later = 0, never = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim_node *n;
        struct sim_world *w = world_with(seed, SIM_STORE_DELETE_UNKNOWN, 1, &n);
        test_run(n, fill_main, NULL);
        enum err e;
        test_run(n, delete_main, &e);
        assert_int_equal(err_class(e), ERR_CLASS_UNKNOWN);
        size_t left = w->bucket->count;
        test_pass(w, 1000 * NS_PER_S);
        now += (unsigned)(7 - left);
        later += (unsigned)(left - w->bucket->count);
        never += (unsigned)w->bucket->count;
        sim_world_destroy(w);
    }
    assert_true(now > 10 && later > 10 && never > 10);
}

struct listed {
    size_t count;
};

static void list_main(void *arg) {
    struct listed *out = arg;
    struct store *s = sim_store_open(NULL, loop_current()->env, NULL);
    assert_false(s->list_consistent);
    struct store_listing l;
    assert_int_equal(store_list(s, "b/", NULL, 100, STORE_FOR_OTHER, &l), OK);
    out->count = l.count;
    store_listing_deinit(&l);
    store_close(s);
}

static void list_lags_when_asked_to(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_LIST_LAGS, 1, &n);
    struct listed l;
    test_run(n, fill_main, NULL);
    test_run(n, list_main, &l);
    assert_true(l.count < 7);
    test_pass(w, 61 * NS_PER_S);
    test_run(n, list_main, &l);
    assert_int_equal(l.count, 7);
    sim_world_destroy(w);
}

/* --- Storms, tails, conflicts, cut bodies, rot. */

struct many {
    unsigned count, refused, unknown, ok, slow, timeouts;
    bool exclusive;
    uint64_t longest_ns;
};

static void many_gets_main(void *arg) {
    struct many *m = arg;
    struct env *env = loop_current()->env;
    struct sim_store_options o = {.exclusive = m->exclusive};
    struct store *s = sim_store_open(NULL, env, &o);
    for (unsigned i = 0; i < m->count; i++) {
        struct slice got;
        uint64_t from = env_now_ns(env);
        enum err e = store_get(s, "b/1", 0, 1, STORE_FOR_OTHER, &got);
        uint64_t took = env_now_ns(env) - from;
        if (took > m->longest_ns) m->longest_ns = took;
        m->slow += took > NS_PER_S;
        m->refused += e == ERR_UNAVAILABLE;
        m->timeouts += e == ERR_TIMEOUT;
        m->ok += e == OK;
        if (e == OK) assert_int_equal(got.size, 1);
        slice_unref(&got);
    }
    store_close(s);
}

static void storms_refuse_for_a_while(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(9, SIM_STORE_STORM, 0, &n);
    test_run(n, fill_main, NULL);
    w->faults.chance[SIM_STORE_STORM] = 1;
    struct many m = {.count = 20};
    test_run(n, many_gets_main, &m);
    w->faults.chance[SIM_STORE_STORM] = 0;
    assert_int_equal(w->fault_counts[SIM_STORE_STORM], 1);
    assert_true(m.refused > 10 && m.refused + m.ok == 20);
    struct one_put p = {.text = "x", .create = true};
    for (int i = 0; i < 20; i++) {
        test_run(n, one_put_main, &p);
        m.unknown += p.result == ERR_UNKNOWN_OUTCOME;
        if (p.result == OK) break;
        assert_false(holds(w, KEY, "x"));
    }
    assert_true(m.unknown > 0);
    test_pass(w, 120 * NS_PER_S); /* it ends by itself */
    m = (struct many){.count = 50};
    test_run(n, many_gets_main, &m);
    assert_int_equal(m.ok, 50);
    w->faults.chance[SIM_STORE_STORM] = 1; /* and by a heal */
    m = (struct many){.count = 5};
    test_run(n, many_gets_main, &m);
    sim_world_heal(w);
    m = (struct many){.count = 50};
    test_run(n, many_gets_main, &m);
    assert_int_equal(m.ok, 50);
    sim_world_destroy(w);
}

/* One way what is sent waits or goes; the other way it is done and nobody hears of it. Nothing of a folder is cut. */
static void a_machine_is_cut_off(void **state) {
    (void)state;
    unsigned late = 0, lost = 0, unheard = 0, short_ones = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_node *n, *other;
        struct sim_world *w = world_with(seed, SIM_STORE_CUT, 0, &n);
        other = sim_node_create(w, "other");
        assert_true(sim_store_cut(n));
        assert_int_equal(w->fault_counts[SIM_STORE_CUT], 1);
        bool cut = n->store_cut_ns > 0;
        uint64_t until_ns = cut ? n->store_cut_ns : n->store_deaf_ns, closed = until_ns - w->now_ns;
        struct one_put p = {.text = "x", .create = true}, q = {.text = "x", .create = true, .exclusive = seed % 2 == 0};
        test_run(n, one_put_main, &p);
        assert_true((p.result == OK) == (closed <= 14 * NS_PER_S) || closed / NS_PER_S == 14);
        short_ones += p.result == OK;
        assert_true(p.result == OK || cut != holds(w, KEY, "x"));
        unheard += p.result != OK && !cut;
        test_run(q.exclusive ? n : other, one_put_main, &q); /* whom it does not concern */
        assert_true(q.result == OK || q.result == ERR_EXISTS);
        if (p.result != OK && cut) assert_int_equal(q.result, OK);
        test_pass(w, 130 * NS_PER_S);
        assert_true(holds(w, KEY, "x"));
        struct many m = {.count = 3};
        test_run(n, fill_main, NULL);
        test_run(n, many_gets_main, &m);
        assert_int_equal(m.ok, 3); /* it ends by itself */
        sim_world_destroy(w);
    }
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_node *n;
        struct sim_world *w = world_with(seed, SIM_STORE_CUT, 0, &n);
        n->store_cut_ns = w->now_ns + 60 * NS_PER_S;
        struct one_put p = {.text = "x", .create = true};
        test_run(n, one_put_main, &p);
        assert_true(p.result != OK && !holds(w, KEY, "x"));
        test_pass(w, 60 * NS_PER_S);
        late += holds(w, KEY, "x");
        lost += !holds(w, KEY, "x");
        sim_world_destroy(w);
    }
    assert_true(late > 10 && lost > 10 && unheard > 3 && short_ones > 10);
}

static void latencies_have_a_long_tail(void **state) {
    (void)state;
    for (unsigned exclusive = 0; exclusive < 2; exclusive++) {
        struct sim_node *n;
        struct sim_world *w = world_with(9, SIM_STORE_TAIL, 0, &n);
        test_run(n, fill_main, NULL);
        w->faults.chance[SIM_STORE_TAIL] = 0.5;
        struct many m = {.count = 2000, .exclusive = exclusive};
        test_run(n, many_gets_main, &m);
        assert_in_range(m.slow, 50, 500); /* most are not slow, some are very */
        assert_int_equal(m.ok + m.timeouts, 2000);
        if (exclusive) {
            assert_int_equal(m.timeouts, 0);
            assert_true(m.longest_ns > 60 * NS_PER_S);
        } else {
            assert_in_range(m.timeouts, 1, 100);
            assert_true(m.longest_ns < 17 * NS_PER_S);
        }
        sim_world_destroy(w);
    }
}

/* A PUT that outlasts its time-out is given up, and lands. */
static void a_put_in_the_tail_lands_after_its_time_out(void **state) {
    (void)state;
    unsigned late = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct sim_node *n;
        struct sim_world *w = world_with(seed, SIM_STORE_TAIL, 1, &n);
        struct one_put p = {.text = "x", .create = true};
        test_run(n, one_put_main, &p);
        assert_true(p.result == OK || p.result == ERR_TIMEOUT);
        late += p.result == ERR_TIMEOUT && w->bucket->count == 0;
        test_pass(w, 400 * NS_PER_S);
        assert_true(holds(w, KEY, "x"));
        sim_world_destroy(w);
    }
    assert_true(late > 1);
}

static void a_conflict_does_nothing(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_CONFLICT, 1, &n);
    struct one_put p = {.text = "x", .create = true};
    test_run(n, one_put_main, &p);
    assert_int_equal(p.result, ERR_UNKNOWN_OUTCOME); /* as store/s3 tells a 409 */
    test_pass(w, 1000 * NS_PER_S);
    assert_int_equal(w->bucket->count, 0);
    p.create = false; /* no condition, no conflict */
    test_run(n, one_put_main, &p);
    assert_int_equal(p.result, OK);
    p.create = p.exclusive = true; /* nor where nobody else can be */
    test_run(n, one_put_main, &p);
    assert_int_equal(p.result, ERR_EXISTS);
    sim_world_destroy(w);
}

static void a_cut_body_is_a_failure(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_GET_CUT, 1, &n);
    test_run(n, fill_main, NULL);
    struct many m = {.count = 5};
    test_run(n, many_gets_main, &m);
    assert_int_equal(m.refused, 5);
    sim_world_destroy(w);
}

struct rotten {
    unsigned wrong_bits, reads;
};

static void rot_main(void *arg) {
    struct rotten *r = arg;
    struct store *s = sim_store_open(NULL, loop_current()->env, NULL);
    struct slice got;
    for (unsigned i = 0; i < r->reads; i++) {
        assert_int_equal(store_get(s, KEY, 0, 100, STORE_FOR_OTHER, &got), OK);
        assert_int_equal(got.size, 8);
        for (size_t at = 0; at < 8; at++)
            r->wrong_bits += (unsigned)__builtin_popcount((unsigned)got.data[at] ^ (unsigned)"contents"[at]);
        slice_unref(&got);
    }
    store_close(s);
}

static void objects_rot(void **state) {
    (void)state;
    unsigned on_the_way = 0, for_good = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct sim_node *n;
        struct sim_world *w = world_with(seed, SIM_STORE_ROT, 1, &n);
        struct one_put p = {.text = "contents", .create = true};
        test_run(n, one_put_main, &p);
        struct rotten r = {.reads = 1};
        test_run(n, rot_main, &r);
        assert_int_equal(r.wrong_bits, 1);
        w->faults.chance[SIM_STORE_ROT] = 0;
        r.wrong_bits = 0;
        test_run(n, rot_main, &r);
        *(r.wrong_bits ? &for_good : &on_the_way) += 1;
        sim_world_destroy(w);
    }
    assert_true(on_the_way > 5 && for_good > 5);
}

/* --- Pauses and crashes with a PUT in flight. */

/* A process that stands still for minutes is no reason for what it sent to wait. */
static void put_of_a_paused_node_lands(void **state) {
    (void)state;
    struct sim_node *n;
    struct sim_world *w = world_with(3, SIM_STORE_TAIL, 1, &n);
    struct one_put p = {.text = "x", .create = true};
    sim_node_start(n, one_put_main, &p);
    while (!p.sent) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
    sim_node_pause(n, 600 * NS_PER_S);
    test_pass(w, 500 * NS_PER_S);
    assert_true(holds(w, KEY, "x"));
    assert_false(p.answered);
    test_until_down(n);
    assert_true(p.answered);
    sim_world_destroy(w);
}

static void crash_in_flight(uint64_t seed, bool exclusive, unsigned *at_once, unsigned *later, unsigned *never) {
    struct sim_node *n;
    struct sim_world *w = world_with(seed, SIM_STORE_CRASH_LATE, 0.4, &n);
    struct one_put p = {.text = "x", .create = true, .exclusive = exclusive};
    sim_node_start(n, one_put_main, &p);
    while (!p.sent) assert_int_equal(sim_world_run(w, 1, NULL, NULL), SIM_END_STEPS);
    sim_node_crash(n, SIM_KILL);
    assert_false(p.answered);
    bool there = w->bucket->count > 0;
    test_pass(w, 1000 * NS_PER_S);
    *(there ? at_once : w->bucket->count > 0 ? later : never) += 1;
    assert_false(p.answered);
    sim_world_destroy(w);
}

static void put_of_a_crashed_node_lands_later_or_never(void **state) {
    (void)state;
    unsigned at_once = 0, later = 0, never = 0;
    for (uint64_t seed = 0; seed < 200; seed++) crash_in_flight(seed, false, &at_once, &later, &never);
    assert_true(later > 10 && never > 10);
    at_once = later = never = 0;
    for (uint64_t seed = 0; seed < 200; seed++) crash_in_flight(seed, true, &at_once, &later, &never);
    assert_int_equal(later, 0);
    assert_true(at_once > 10 && never > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_without_faults),
        cmocka_unit_test(composes),
        cmocka_unit_test(a_compose_fails_as_a_create_does),
        cmocka_unit_test(a_crash_leaves_an_upload),
        cmocka_unit_test(refused_does_nothing),
        cmocka_unit_test(lost_answer_has_landed),
        cmocka_unit_test(lost_put_never_lands),
        cmocka_unit_test(late_put_is_judged_when_it_lands),
        cmocka_unit_test(an_object_is_locked_for_a_while),
        cmocka_unit_test(put_lands_twice),
        cmocka_unit_test(own_object_is_answered_as_anothers),
        cmocka_unit_test(reads_fail),
        cmocka_unit_test(unknown_delete_takes_some_now_some_later),
        cmocka_unit_test(list_lags_when_asked_to),
        cmocka_unit_test(storms_refuse_for_a_while),
        cmocka_unit_test(a_machine_is_cut_off),
        cmocka_unit_test(latencies_have_a_long_tail),
        cmocka_unit_test(a_put_in_the_tail_lands_after_its_time_out),
        cmocka_unit_test(a_conflict_does_nothing),
        cmocka_unit_test(a_cut_body_is_a_failure),
        cmocka_unit_test(objects_rot),
        cmocka_unit_test(put_of_a_paused_node_lands),
        cmocka_unit_test(put_of_a_crashed_node_lands_later_or_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
