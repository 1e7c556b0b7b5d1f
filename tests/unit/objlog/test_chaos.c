/* Seeded disorder: requests take any time, end in any way that a store allows, and land late; several parties at once.
 * What was answered OK must be found.
 *
 * The state that the entries make is a set of values. A checkpoint's head is the whole set, a data entry's is one
 * value; so any replay can be compared with what was answered, however much was trimmed. */
#include "unit/objlog/fixture.h"

#include <stdio.h>

#define VALUES 400u
#define SEEDS 150u

struct set {
    uint8_t bits[VALUES / 8];
};
struct state {
    struct set values;
    unsigned resets;
};
struct world {
    struct fixture *fixture;
    struct set answered; /* values whose append was answered OK */
    uint64_t answered_at[VALUES];
    unsigned next_value;
    unsigned acked, fences, elections, trims;
    uint64_t fence_at;
    bool fence_known;
};

static void set_add(struct set *s, unsigned v) {
    assert_true(v < VALUES);
    s->bits[v / 8] |= (uint8_t)(1u << v % 8);
}
static bool set_covers(const struct set *s, const struct set *part) {
    for (size_t i = 0; i < sizeof(s->bits); i++) {
        if (part->bits[i] & ~s->bits[i]) return false;
    }
    return true;
}

static struct plan disorder(struct fixture *f, enum store_op op, const char *key) {
    (void)key;
    struct plan p = {.delay_ms = rng_below(&f->rng, 30)};
    uint64_t roll = rng_below(&f->rng, 100);
    if (op == STORE_CREATE) {
        static const enum err unknown[] = {ERR_TIMEOUT, ERR_UNKNOWN_OUTCOME, ERR_IO};
        if (roll < 5) p = (struct plan){p.delay_ms, DONE, unknown[roll % 3], 0};
        if (roll >= 5 && roll < 10) p = (struct plan){p.delay_ms, NOT_DONE, unknown[roll % 3], 0};
        if (roll >= 10 && roll < 20)
            p = (struct plan){p.delay_ms, DONE_LATER, unknown[roll % 3], rng_below(&f->rng, roll < 15 ? 100 : 3000)};
        if (roll >= 20 && roll < 23) p = (struct plan){p.delay_ms, NOT_DONE, ERR_UNAVAILABLE, 0};
    } else if (roll < 5) {
        p.answer = roll < 3 ? ERR_UNAVAILABLE : ERR_TIMEOUT;
    }
    return p;
}

static enum err state_apply(void *ctx, const struct objlog_entry *e) {
    struct state *s = ctx;
    if (e->header.kind == OBJLOG_CHECKPOINT) {
        assert_int_equal(e->head.size, sizeof(struct set));
        struct set whole;
        memcpy(&whole, e->head.data, sizeof(whole));
        assert_true(set_covers(&whole, &s->values)); /* a checkpoint never forgets */
        s->values = whole;
    } else if (e->header.kind == OBJLOG_DATA) {
        uint16_t v;
        assert_int_equal(e->head.size, sizeof(v));
        memcpy(&v, e->head.data, sizeof(v));
        set_add(&s->values, v);
    }
    return OK;
}
static void state_reset(void *ctx) {
    struct state *s = ctx;
    memset(&s->values, 0, sizeof(s->values));
    s->resets++;
}

static void nap(struct fixture *f, uint64_t ms) {
    fiber_sleep_ns(rng_below(&f->rng, ms + 1) * NS_PER_MS);
}

/* Deletes some of the numbers below, in any order, never a fence or an election. Repeats while there is something. */
static void trim(struct world *w, struct objlog *l) {
    struct fixture *f = w->fixture;
    uint64_t below = objlog_deletable_below(l);
    for (unsigned i = 0; i < 4 && below > 0; i++) {
        uint64_t n = below - 1 - rng_below(&f->rng, below < 30 ? below : 30);
        if (!fixture_object(f, n) || fixture_header(f, n).kind > OBJLOG_CHECKPOINT) continue;
        enum err e = objlog_delete(&f->store, PREFIX, &n, 1);
        if (e == OK) w->trims++;
    }
}

/* --- A ledger: one writer that pipelines, and fencers with views of any age. */

struct ledger {
    struct world world;
    struct objlog *log;
    struct set live; /* of all values ever given to append */
    struct waitgroup writers;
};

static void ledger_write(void *arg) {
    struct ledger *g = arg;
    struct world *w = &g->world;
    struct fixture *f = w->fixture;
    for (;;) {
        uint16_t v = (uint16_t)w->next_value;
        if (w->next_value + 2 >= VALUES) break;
        uint64_t number;
        enum err e;
        if (rng_below(&f->rng, 6) == 0) {
            struct set whole = g->live; /* covers every entry before it, for they were given to append earlier */
            struct slice head = slice_borrow(&whole, sizeof(whole));
            e = objlog_append(g->log, OBJLOG_CHECKPOINT, &head, NULL, 0, 0, &number);
            if (e == OK) trim(w, g->log);
        } else {
            w->next_value++;
            set_add(&g->live, v);
            struct slice head = slice_borrow(&v, sizeof(v));
            e = objlog_append(g->log, OBJLOG_DATA, &head, NULL, 0, 0, &number);
            if (e == OK) {
                set_add(&w->answered, v);
                w->acked++;
            }
        }
        if (e != OK) {
            assert_int_equal(e, ERR_FENCED);
            break;
        }
        assert_false(w->fence_known && number >= w->fence_at);
        nap(f, 10);
    }
    waitgroup_done(&g->writers);
}

static void ledger_fence(void *arg) {
    struct ledger *g = arg;
    struct world *w = &g->world;
    struct fixture *f = w->fixture;
    struct state s = {0};
    struct objlog_replay replay = {state_apply, state_reset, &s};
    struct objlog *l = fixture_log(f, 64, 100);
    nap(f, 3000);
    enum err e = objlog_recover(l, &replay);
    assert_true(e == OK || e == ERR_NOT_FOUND);
    nap(f, rng_below(&f->rng, 3) ? 100 : 4000); /* an old view, sometimes */
    uint64_t number;
    bool mine;
    assert_int_equal(objlog_take_over(l, OBJLOG_FENCE, &replay, NULL, &number, &mine), OK);
    assert_true(set_covers(&s.values, &w->answered));
    if (w->fence_known) {
        assert_int_equal(number, w->fence_at); /* all agree on the end */
    }
    assert_true(objlog_durable(g->log) <= number);
    w->fence_known = true;
    w->fence_at = number;
    w->fences++;
    objlog_destroy(l);
}

static void ledger_run(void *arg) {
    struct ledger *g = arg;
    waitgroup_init(&g->writers);
    for (unsigned i = 0; i < 12; i++) {
        waitgroup_add(&g->writers);
        fixture_spawn(g->world.fixture, ledger_write, g);
    }
    unsigned fencers = 1 + (unsigned)rng_below(&g->world.fixture->rng, 3);
    for (unsigned i = 0; i < fencers; i++) fixture_spawn(g->world.fixture, ledger_fence, g);
}

static void test_ledgers(void **state) {
    (void)state;
    unsigned acked = 0, trims = 0, fences = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture *f = fixture_create(seed);
        f->improvise = disorder;
        struct ledger g = {.world = {.fixture = f}};
        g.log = fixture_log(f, 1 + (unsigned)rng_below(&f->rng, 64), 7);
        fixture_run(f, ledger_run, &g);
        acked += g.world.acked;
        trims += g.world.trims;
        fences += g.world.fences;
        assert_int_equal(f->metrics.gauges[M_STORE_FAILING], 0);
        objlog_destroy(g.log);
        fixture_destroy(f);
    }
    print_message("ledgers: %u answered, %u trimmed, %u fences\n", acked, trims, fences);
    assert_true(acked > 1000 && trims > 1000 && fences > SEEDS);
}

/* --- A cluster log: nodes that take office from each other. */

static void node_run(void *arg) {
    struct world *w = arg;
    struct fixture *f = w->fixture;
    while (w->next_value + 2 < VALUES) {
        struct state s = {0};
        struct objlog_replay replay = {state_apply, state_reset, &s};
        struct objlog *l = fixture_log(f, 1, 1 + rng_below(&f->rng, 1000));
        nap(f, 200);
        enum err e = objlog_recover(l, &replay);
        assert_true(e == OK || e == ERR_NOT_FOUND);
        nap(f, rng_below(&f->rng, 3) ? 50 : 2000);
        uint64_t number;
        bool mine;
        e = objlog_take_over(l, OBJLOG_ELECTION, &replay, NULL, &number, &mine);
        assert_true(e == OK || e == ERR_FENCED);
        if (e == OK) {
            assert_true(mine);
            /* A leader knows all that was answered below its election. (Above may be more: it may have lost office
             * before it heard of it.) */
            for (unsigned v = 0; v < w->next_value; v++) {
                bool was = w->answered.bits[v / 8] >> v % 8 & 1, known = s.values.bits[v / 8] >> v % 8 & 1;
                assert_true(!was || known || w->answered_at[v] > number);
            }
            w->elections++;
        }
        while (e == OK && w->next_value + 2 < VALUES) {
            if (rng_below(&f->rng, 8) == 0) {
                struct set whole = s.values;
                struct slice head = slice_borrow(&whole, sizeof(whole));
                e = objlog_append(l, OBJLOG_CHECKPOINT, &head, NULL, 0, 0, &number);
            } else {
                uint16_t v = (uint16_t)w->next_value++;
                struct slice head = slice_borrow(&v, sizeof(v));
                e = objlog_append(l, OBJLOG_DATA, &head, NULL, 0, 0, &number);
                if (e == OK) {
                    set_add(&s.values, v);
                    set_add(&w->answered, v);
                    w->answered_at[v] = number;
                    w->acked++;
                }
            }
            assert_true(e == OK || e == ERR_FENCED);
            if (e == OK) trim(w, l);
            nap(f, 40);
        }
        objlog_destroy(l);
    }
}

static void final_check(void *arg) {
    struct world *w = arg;
    struct state s = {0};
    struct objlog_replay replay = {state_apply, state_reset, &s};
    struct objlog *l = fixture_log(w->fixture, 1, 1);
    assert_int_equal(objlog_recover(l, &replay), OK);
    assert_true(set_covers(&s.values, &w->answered));
    objlog_destroy(l);
}

static void nodes_run(void *arg) {
    struct world *w = arg;
    for (unsigned i = 0; i < 3; i++) fixture_spawn(w->fixture, node_run, w);
}

static void test_cluster_logs(void **state) {
    (void)state;
    unsigned acked = 0, trims = 0, elections = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fixture *f = fixture_create(1000 + seed);
        f->improvise = disorder;
        struct world w = {.fixture = f};
        fixture_run(f, nodes_run, &w);
        fixture_run(f, final_check, &w);
        acked += w.acked;
        trims += w.trims;
        elections += w.elections;
        fixture_destroy(f);
    }
    print_message("cluster logs: %u answered, %u trimmed, %u elections\n", acked, trims, elections);
    assert_true(acked > 1000 && trims > 1000 && elections > SEEDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ledgers),
        cmocka_unit_test(test_cluster_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
