/* Many clients, slow and failing writes, crashes and moves, from a seed. What must hold whatever happens:
 *
 *  - a generation is shown with one set of members and one leader only, generations of a group only rise, and both lie in
 *    the log before anybody hears of them; so do assignments, and each member gets what the leader gave it;
 *  - what is shown of offsets is what lies in the log, and nothing acknowledged is lost or goes back;
 *  - what is loaded is what was stored;
 *  - every request is answered, once. */
#include "unit/coord/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/random.h"
#include "coord/group.h"

#define GROUPS 3
#define CLIENTS 14
#define PARTITIONS 4
#define GENERATIONS 4096
#define STEPS 6000
#define DAY_MS INT64_C(86400000)

static const char *const group_names[GROUPS] = {"g0", "g1", "g2"};

struct client {
    int index, group, version;
    bool is_static;
    char id[64]; /* empty: none yet */
    int generation;
    bool in_generation; /* has its assignment */
    bool leads;
    char members[CLIENTS * 4][64];
    int member_count;
    struct call *call; /* under way */
    enum { NOTHING, JOINS, SYNCS, BEATS, LEAVES } what;
};

struct seen { /* what was shown of one generation */
    bool shown;
    char members[1024]; /* as told to a leader, sorted; empty: not told */
};

struct world {
    struct fixture f;
    struct rng rng;
    struct client clients[CLIENTS];
    struct seen seen[GROUPS][GENERATIONS];
    int newest[GROUPS]; /* shown */
    int64_t next_offset;
    int64_t sent[GROUPS][PARTITIONS], acknowledged[GROUPS][PARTITIONS], shown[GROUPS][PARTITIONS];
    bool may_go[GROUPS][PARTITIONS]; /* something was done that may delete it */
    int went[GROUPS][PARTITIONS];    /* in which step */
    int step;
    int reloads, generations, commits, syncs;
};

static uint64_t below(struct world *w, uint64_t n) {
    return rng_below(&w->rng, n);
}

/* Static members change their id at each restart and stay who they are. */
static void name_of(struct kafka_string id, char *out) {
    int size = id.size;
    if (size > 37 && id.data[0] == 'i') size -= 37;
    snprintf(out, 64, "%.*s", size, id.data);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(a, b);
}

/* ---- what lies in the log ---- */

static bool logged_group(struct world *w, int group, struct arena *a, struct kafka_group_metadata_value *v) {
    uint8_t key[6] = {0, 2, 0, 2, (uint8_t)group_names[group][0], (uint8_t)group_names[group][1]};
    const struct stored *s = mapstr_get(&w->f.log, key, sizeof(key));
    if (!s) return false;
    assert_int_equal(kafka_group_metadata_value_decode(v, 3, s->bytes + 2, s->size - 2, a), OK);
    return true;
}

static int64_t logged_offset(struct world *w, int group, int partition) {
    uint8_t key[] = {0, 1, 0, 2, 'g', (uint8_t)('0' + group), 0, 1, 't', 0, 0, 0, (uint8_t)partition};
    const struct stored *s = mapstr_get(&w->f.log, key, sizeof(key));
    return s ? (int64_t)be64_get(s->bytes + 2) : -1;
}

/* ---- answers ---- */

static struct client *client_of(struct world *w, struct call *c) {
    for (int i = 0; i < CLIENTS; i++) {
        if (w->clients[i].call == c) return &w->clients[i];
    }
    return NULL;
}

static void check_members(struct world *w, struct client *c, const struct kafka_join_group_response *r) {
    static char names[CLIENTS * 4][64];
    char all[1024] = "";
    assert_true(r->members.count <= CLIENTS * 4);
    for (int i = 0; i < r->members.count; i++) name_of(r->members.items[i].member_id, names[i]);
    qsort(names, (size_t)r->members.count, sizeof(names[0]), compare_names);
    for (int i = 0; i < r->members.count; i++) {
        size_t n = strlen(all);
        snprintf(all + n, sizeof(all) - n, "%s ", names[i]);
    }
    struct seen *seen = &w->seen[c->group][r->generation_id];
    if (!seen->members[0]) snprintf(seen->members, sizeof(seen->members), "%s", all);
    assert_string_equal(seen->members, all);
}

static void check_join(struct world *w, struct client *c, struct call *call) {
    const struct kafka_join_group_response *r = call->reply.answer.join;
    struct kafka_group_metadata_value v;
    assert_true(logged_group(w, c->group, &call->arena, &v));
    assert_true(v.generation >= r->generation_id && r->generation_id < GENERATIONS);
    if (v.generation == r->generation_id) {
        bool found = false;
        for (int i = 0; i < v.members.count; i++)
            found |= kafka_string_equal(v.members.items[i].member_id, r->member_id);
        /* Another may have taken its place since, under a static id. */
        assert_true(found || c->is_static);
    }
    assert_true(r->generation_id >= w->newest[c->group]);
    if (!w->seen[c->group][r->generation_id].shown) {
        w->seen[c->group][r->generation_id].shown = true;
        w->generations++;
    }
    w->newest[c->group] = r->generation_id;
    if (r->members.count > 0) check_members(w, c, r);
}

static void check_sync(struct world *w, struct client *c, struct call *call) {
    struct kafka_group_metadata_value v;
    struct kafka_bytes got = call->reply.answer.sync->assignment;
    char expected[128], name[64];
    name_of(kafka_string_of(c->id), name);
    snprintf(expected, sizeof(expected), "%d/%s", c->generation, name);
    assert_int_equal(got.size, strlen(expected));
    assert_memory_equal(got.data, expected, strlen(expected));
    assert_true(logged_group(w, c->group, &call->arena, &v));
    assert_true(v.generation >= c->generation);
    for (int i = 0; i < v.members.count && v.generation == c->generation; i++) {
        if (!kafka_string_equal(v.members.items[i].member_id, kafka_string_of(c->id))) continue;
        assert_int_equal(v.members.items[i].assignment.size, got.size);
    }
    w->syncs++;
}

static void check_commit(struct world *w, const struct call *call) {
    const struct coord_commit_item *item = call->reply.items;
    int group = (int)((intptr_t)call->reply.context % GROUPS), step = (int)((intptr_t)call->reply.context / GROUPS);
    int p = item->partition;
    if (item->error) return;
    /* A deletion that was asked for later may have been faster than this answer, not than this commit. */
    if (step > w->went[group][p]) w->may_go[group][p] = false;
    assert_true(logged_offset(w, group, p) >= item->offset || w->may_go[group][p]);
    if (item->offset > w->acknowledged[group][p]) w->acknowledged[group][p] = item->offset;
    w->commits++;
}

static void forget(struct client *c) {
    c->id[0] = 0;
    c->in_generation = false;
    c->generation = -1;
    c->call = NULL;
    c->what = NOTHING;
}

static void joined(struct world *w, struct client *c, struct call *call) {
    const struct kafka_join_group_response *r = call->reply.answer.join;
    c->in_generation = false;
    c->generation = -1;
    if (call->reply.error == OK || call->reply.error == ERR_MEMBER_ID_REQUIRED) {
        snprintf(c->id, sizeof(c->id), "%.*s", r->member_id.size, r->member_id.data);
    }
    if (call->reply.error == ERR_UNKNOWN_MEMBER_ID || call->reply.error == ERR_FENCED_INSTANCE_ID) c->id[0] = 0;
    if (call->reply.error) return;
    c->generation = r->generation_id;
    c->leads = kafka_string_equal(r->leader, r->member_id) && !r->skip_assignment;
    c->member_count = r->members.count;
    for (int i = 0; i < r->members.count; i++) {
        snprintf(c->members[i], 64, "%.*s", r->members.items[i].member_id.size, r->members.items[i].member_id.data);
    }
    (void)w;
}

/* The client reads its answer. Checks are made of what lay in the log when it went out, which has only grown since. */
static void take_answer(struct world *w, struct client *c) {
    struct call *call = c->call;
    c->call = NULL;
    switch (c->what) {
    case JOINS:
        joined(w, c, call);
        break;
    case SYNCS:
        c->in_generation = call->reply.error == OK;
        /* fall through */
    case BEATS:
        if (call->reply.error == OK) break;
        if (call->reply.error == ERR_UNKNOWN_MEMBER_ID || call->reply.error == ERR_FENCED_INSTANCE_ID) c->id[0] = 0;
        if (call->reply.error != ERR_COORDINATOR_NOT_AVAILABLE && call->reply.error != ERR_NOT_COORDINATOR) {
            c->generation = -1;
            c->in_generation = false;
        }
        break;
    case LEAVES:
        forget(c);
        break;
    case NOTHING:
        fail();
    }
    c->what = NOTHING;
}

static void watch(struct call *call) {
    struct world *w = call->f->context;
    if (call->reply.kind == REPLY_COMMIT) check_commit(w, call);
    struct client *c = client_of(w, call);
    if (!c || call->reply.error) return;
    if (c->what == JOINS) check_join(w, c, call);
    if (c->what == SYNCS) check_sync(w, c, call);
    if (c->what == BEATS) {
        struct kafka_group_metadata_value v;
        assert_true(logged_group(w, c->group, &call->arena, &v));
        assert_int_equal(v.generation, c->generation);
    }
}

/* ---- what clients do ---- */

/* The answer may come within the request, before the client knows its call: it is watched then. */
static void under_way(struct client *c, struct call *call, int what) {
    c->call = call;
    c->what = what;
    if (call->done && what != LEAVES) watch(call);
}

static const char *instance(struct client *c, char *out) {
    snprintf(out, 16, "i%d", c->index);
    return c->is_static ? out : NULL;
}

static void act_join(struct world *w, struct client *c) {
    char name[16], client[16];
    snprintf(client, sizeof(client), "c%d", c->index);
    bool both = below(w, 2) == 0;
    c->version = c->is_static ? (int)below(w, 5) + 5 : (int)below(w, 10);
    under_way(c,
              JOIN(&w->f, .group = group_names[c->group], .member = c->id, .instance = instance(c, name),
                   .client = client, .protocols = {"p", both ? "q" : NULL}, .version = c->version,
                   .subscription = fixture_subscription(&w->f, "t", below(w, 3) ? NULL : "u"), .session_ms = 10000,
                   .rebalance_ms = 20000),
              JOINS);
}

static void act_sync(struct world *w, struct client *c) {
    char name[16], who[64];
    struct sync_spec spec = {.group = group_names[c->group],
                             .member = c->id,
                             .instance = instance(c, name),
                             .generation = c->generation,
                             .version = 3};
    struct kafka_sync_group_request r;
    kafka_sync_group_request_init(&r);
    struct call *call = fixture_call(&w->f);
    r.group_id = kafka_string_of(spec.group);
    r.member_id = kafka_string_of(c->id);
    r.group_instance_id = kafka_string_of(spec.instance);
    r.generation_id = c->generation;
    if (c->leads) {
        r.assignments.items = kafka_sync_group_request_assignment_new(&call->arena, (size_t)c->member_count);
        r.assignments.count = c->member_count;
        for (int i = 0; i < c->member_count; i++) {
            name_of(kafka_string_of(c->members[i]), who);
            const char *text = arena_printf(&call->arena, "%d/%s", c->generation, who);
            r.assignments.items[i].member_id = kafka_string_of(c->members[i]);
            r.assignments.items[i].assignment = (struct kafka_bytes){(const uint8_t *)text, (int32_t)strlen(text)};
        }
    }
    c->call = call;
    c->what = SYNCS;
    coord_sync(w->f.coord, w->f.now, 3, &r, &call->reply);
    fixture_pump(&w->f);
}

static void act_commit(struct world *w, struct client *c) {
    char name[16];
    int group = c->group, partition = (int)below(w, PARTITIONS);
    bool simple = !c->in_generation;
    int64_t offset = below(w, 3) == 0 && w->sent[group][partition] ? w->sent[group][partition] : ++w->next_offset;
    w->sent[group][partition] = offset;
    struct call *call = fixture_call(&w->f);
    struct coord_commit_item *item = ARENA_NEW(&call->arena, struct coord_commit_item);
    *item = (struct coord_commit_item){.topic = kafka_string_of("t"),
                                       .partition = partition,
                                       .leader_epoch = -1,
                                       .offset = offset,
                                       .commit_timestamp_ms = -1};
    struct coord_commit commit = {.group_id = kafka_string_of(group_names[group]),
                                  .member_id = kafka_string_of(simple ? "" : c->id),
                                  .group_instance_id = kafka_string_of(simple ? NULL : instance(c, name)),
                                  .generation = simple ? -1 : c->generation,
                                  .retention_ms = -1,
                                  .items = item,
                                  .item_count = 1};
    call->reply.context = (void *)((intptr_t)w->step * GROUPS + group);
    coord_commit_offsets(w->f.coord, w->f.now, &commit, &call->reply);
    fixture_pump(&w->f);
}

static void act(struct world *w, struct client *c) {
    char name[16];
    if (c->call) {
        if (c->call->done) {
            take_answer(w, c);
        } else if (below(w, 60) == 0) {
            forget(c); /* killed; the call is answered to nobody */
        }
        return;
    }
    if (below(w, 6) == 0) act_commit(w, c);
    if (below(w, 150) == 0) forget(c);
    if (!c->id[0] || c->generation < 0) {
        act_join(w, c);
    } else if (!c->in_generation) {
        act_sync(w, c);
    } else if (below(w, 40) == 0) {
        c->what = LEAVES;
        c->call = LEAVE(&w->f, 3, .group = group_names[c->group], .member = c->id, .instance = instance(c, name));
    } else if (below(w, 60) == 0) {
        act_join(w, c);
    } else {
        under_way(c,
                  fixture_heartbeat(&w->f, (struct who){.group = group_names[c->group],
                                                        .member = c->id,
                                                        .instance = instance(c, name),
                                                        .generation = c->generation}),
                  BEATS);
    }
}

/* ---- what happens to the coordinator ---- */

static void group_gone(struct world *w, int group) {
    memset(w->seen[group], 0, sizeof(w->seen[group]));
    w->newest[group] = 0;
}

static void check_shown(struct world *w) {
    for (int g = 0; g < GROUPS; g++) {
        for (int p = 0; p < PARTITIONS; p++) {
            int64_t shown = fixture_offset(&w->f, group_names[g], "t", p);
            assert_int_equal(shown, logged_offset(w, g, p));
            if (shown < 0) {
                assert_true(w->may_go[g][p] || w->acknowledged[g][p] == 0);
                w->acknowledged[g][p] = w->shown[g][p] = 0;
                continue;
            }
            assert_true(shown >= w->acknowledged[g][p] && shown >= w->shown[g][p]);
            w->shown[g][p] = shown;
        }
    }
}

static void durable(struct world *w, size_t n) {
    while (n-- > 0 && w->f.count > 0) {
        struct arena a;
        struct kafka_group_metadata_value v;
        bool was[GROUPS];
        arena_init(&a, &w->f.mem);
        for (int g = 0; g < GROUPS; g++) was[g] = logged_group(w, g, &a, &v);
        fixture_durable(&w->f, 1);
        for (int g = 0; g < GROUPS; g++) {
            if (was[g] && !logged_group(w, g, &a, &v)) group_gone(w, g);
        }
        arena_deinit(&a);
    }
}

static void check_loads_back(struct world *w) {
    struct coord *c = coord_create(&w->f.mem, &w->f.config, 1);
    struct stored *s;
    const char *key;
    size_t size;
    for (size_t i = 0; (s = mapstr_next(&w->f.log, &i, &key, &size)) != NULL;) {
        assert_int_equal(coord_load(c, key, size, s->bytes, s->size), OK);
    }
    struct coord_effects dump;
    coord_dump(c, &dump);
    assert_int_equal(dump.count, w->f.log.count);
    for (size_t i = 0; i < dump.count; i++) {
        s = mapstr_get(&w->f.log, dump.records[i].key, dump.records[i].key_size);
        assert_true(s && s->size == dump.records[i].value_size && !memcmp(s->bytes, dump.records[i].value, s->size));
    }
    coord_effects_deinit(&dump);
    coord_unload(c);
    coord_destroy(c);
}

static void crash(struct world *w) {
    size_t kept = w->f.count ? below(w, w->f.count + 1) : 0;
    if (w->f.count > 0 && below(w, 2)) {
        coord_write_failed(w->f.coord, w->f.batches[(w->f.first + below(w, w->f.count)) % FIXTURE_BATCHES].sequence);
    } else {
        coord_unload(w->f.coord);
    }
    struct arena a;
    struct kafka_group_metadata_value v;
    bool was[GROUPS];
    arena_init(&a, &w->f.mem);
    for (int g = 0; g < GROUPS; g++) was[g] = logged_group(w, g, &a, &v);
    fixture_crash(&w->f, kept, below(w, 3));
    for (int g = 0; g < GROUPS; g++) {
        if (was[g] && !logged_group(w, g, &a, &v)) group_gone(w, g);
    }
    arena_deinit(&a);
    check_loads_back(w);
    fixture_reload(&w->f);
    check_shown(w);
    w->reloads++;
}

static void goes(struct world *w, int group, int partition) {
    w->may_go[group][partition] = true;
    w->went[group][partition] = w->step;
}

static void all_go(struct world *w) {
    for (int i = 0; i < GROUPS * PARTITIONS; i++) goes(w, i / PARTITIONS, i % PARTITIONS);
}

static void operate(struct world *w) {
    int group = (int)below(w, GROUPS), partition = (int)below(w, PARTITIONS);
    switch (below(w, 6)) {
    case 0:
        for (int p = 0; p < PARTITIONS; p++) goes(w, group, p);
        fixture_delete_group(&w->f, group_names[group]);
        break;
    case 1:
        goes(w, group, partition);
        fixture_delete_offset(&w->f, group_names[group], "t", partition);
        break;
    case 2:
        if (below(w, 20)) break;
        all_go(w);
        coord_topic_deleted(w->f.coord, w->f.now, kafka_string_of("t"), &(struct kafka_uuid){{0}});
        fixture_pump(&w->f);
        break;
    case 3:
        if (below(w, 20)) break;
        all_go(w);
        fixture_advance(&w->f, 3 * DAY_MS);
        break;
    default:
        fixture_describe(&w->f, group_names[group], 6);
    }
}

static void run(uint64_t seed) {
    struct world *w = calloc(1, sizeof(*w));
    fixture_init(&w->f);
    w->f.seed = seed * 1000;
    w->f.manual = true;
    w->f.context = w;
    w->f.on_done = watch;
    w->f.config.group_max_size = 6;
    w->f.config.initial_rebalance_delay_ms = 300;
    coord_configure(w->f.coord, &w->f.config);
    rng_seed(&w->rng, seed);
    for (int i = 0; i < CLIENTS; i++) {
        w->clients[i] = (struct client){.index = i, .group = i % GROUPS, .generation = -1, .is_static = i % 3 == 0};
    }
    bool stuck = false;
    for (w->step = 0; w->step < STEPS; w->step++) {
        if (below(w, stuck ? 50 : 300) == 0) stuck = !stuck;
        act(w, &w->clients[below(w, CLIENTS)]);
        if (!stuck || below(w, 50) == 0) durable(w, below(w, 4));
        if (below(w, 4) == 0) fixture_advance(&w->f, (int64_t)below(w, below(w, 100) ? 400 : 30000));
        if (below(w, 40) == 0) operate(w);
        if (below(w, 400) == 0) crash(w);
        if (below(w, 10) == 0) check_shown(w);
    }
    /* Everybody goes. */
    for (int i = 0; i < 100; i++) {
        durable(w, w->f.count);
        fixture_advance(&w->f, 10000);
    }
    struct coord_counts counts;
    coord_counts(w->f.coord, &counts);
    assert_int_equal(counts.waiting, 0);
    assert_int_equal(counts.members, 0);
    check_shown(w);
    check_loads_back(w);
    if (getenv("COORD_SEED"))
        fprintf(stderr, "generations %d commits %d syncs %d reloads %d\n", w->generations, w->commits, w->syncs,
                w->reloads);
    /* The run did something worth the name. */
    assert_true(w->generations > 20 && w->commits > 50 && w->syncs > 20 && w->reloads > 3);
    fixture_deinit(&w->f);
    free(w);
}

static void test_seeds(void **state) {
    (void)state;
    const char *from = getenv("COORD_SEED"), *many = getenv("COORD_SEEDS");
    uint64_t first = from ? strtoull(from, NULL, 10) : 1, count = many ? strtoull(many, NULL, 10) : 12;
    for (uint64_t seed = first; seed < first + count; seed++) {
        fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
