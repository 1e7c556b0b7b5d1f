/* The cluster as one broker sees it, over a real object log in a simulated store without faults: opening, commits and
 * their races, groups, snapshots, deletion, election by another, restarts in order and by crash, and stores that hold
 * something else. With faults: test_meta_faults.c. */
#include "base/crc32c.h"
#include "meta/meta_priv.h"
#include "meta_run.h"

static struct env *env_here(void) {
    return loop_current()->env;
}

/* --- Opening. */

static void first_start(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), true);
    struct meta *m = run_open(r, s, 1, NULL);
    EXPECT(r, strlen(meta_generation(m)) == 26);
    EXPECT(r, strlen(meta_cluster_id(m)) == 22);
    EXPECT(r, meta_incarnation(m).v == 1); /* the election is the first entry */
    EXPECT(r, meta_topic_count(m) == 0 && meta_unrecovered(m, NULL, 0) == 0);
    EXPECT(r, sim_bucket_find(r->world->bucket, "oxbow.cluster") != NULL);

    struct meta_config configs[] = {{(char *)"z", (char *)"1"}, {(char *)"a", (char *)"2"}};
    struct uuid id, other;
    EXPECT(r, meta_topic_create(m, "t", 3, 2, configs, 2, &id) == OK);
    EXPECT(r, meta_topic_create(m, "b", 1, 1, NULL, 0, &other) == OK);
    char generation[27], cluster_id[23], key[64];
    snprintf(generation, sizeof(generation), "%s", meta_generation(m));
    snprintf(cluster_id, sizeof(cluster_id), "%s", meta_cluster_id(m));
    snprintf(key, sizeof(key), "%s/cluster/%020d", generation, 0);
    EXPECT(r, sim_bucket_find(r->world->bucket, key) != NULL);
    meta_close(m);

    m = run_open(r, s, 1, NULL);
    EXPECT(r, strcmp(generation, meta_generation(m)) == 0 && strcmp(cluster_id, meta_cluster_id(m)) == 0);
    EXPECT(r, meta_incarnation(m).v == (4ull << 20) + 1); /* election, two topics, snapshot, election */
    EXPECT(r, meta_topic_count(m) == 2);
    size_t cursor = 0;
    EXPECT(r, strcmp(meta_topic_next(m, &cursor)->name, "b") == 0);
    EXPECT(r, strcmp(meta_topic_next(m, &cursor)->name, "t") == 0);
    EXPECT(r, meta_topic_next(m, &cursor) == NULL);
    const struct meta_topic *t = meta_topic_by_id(m, &id);
    EXPECT(r, t && t == meta_topic_by_name(m, "t", 1) && t->partition_count == 3 && t->replication_factor == 2);
    EXPECT(r, strcmp(meta_topic_config(t, "a"), "2") == 0 && meta_topic_config(t, "b") == NULL);
    EXPECT(r, t->partitions[0].owner.v == 1 && t->partitions[0].epoch == 0 && t->partitions[0].owner_node == 1);
    int32_t partition = -1;
    EXPECT(r, meta_topic_of_stream(m, t->partitions[1].stream, &partition) == t && partition == 1);

    struct meta_broker before[2];
    EXPECT(r, meta_unrecovered(m, before, 2) == 1 && before[0].incarnation.v == 1 && before[0].node_id == 1);
    EXPECT(r, strcmp(before[0].rack, "r") == 0 && strcmp(before[0].endpoint, "host:9092") == 0);
    EXPECT(r, meta_recovered(m, before[0].incarnation, 42) == OK);
    EXPECT(r, meta_recovered(m, (struct incarnation){1}, 42) == ERR_NOT_FOUND);
    EXPECT(r, meta_recovered(m, meta_incarnation(m), 42) == ERR_INVALID);
    t = meta_topic_by_id(m, &id);
    EXPECT(r, t->partitions[2].owner.v == meta_incarnation(m).v && t->partitions[2].epoch == 1 &&
                  t->partitions[2].state_entry == 42);
    EXPECT(r, meta_unrecovered(m, NULL, 0) == 0);
    uint64_t next = objlog_next(m->log);
    EXPECT(r,
           meta_forget_retired(m, (struct incarnation){1}) == OK && objlog_next(m->log) == next); /* nothing to write */
    EXPECT(r, meta_forget_retired(m, meta_incarnation(m)) == OK && m->image.broker_count == 1);
    meta_close(m);
    store_close(s);
}

static void commits(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), true);
    struct meta *m = run_open(r, s, 1, NULL);
    struct uuid id, none = {{1}};
    struct meta_config twice[] = {{(char *)"a", (char *)"1"}, {(char *)"a", (char *)"2"}},
                       no_value[] = {{(char *)"a", NULL}};
    uint64_t next = objlog_next(m->log);
    EXPECT(r, meta_topic_create(m, "a/b", 1, 1, NULL, 0, &id) == ERR_INVALID_TOPIC);
    EXPECT(r, meta_topic_create(m, "a", 0, 1, NULL, 0, &id) == ERR_INVALID_PARTITIONS);
    EXPECT(r, meta_topic_create(m, "a", META_TOPIC_PARTITIONS_MAX + 1, 1, NULL, 0, &id) == ERR_INVALID_PARTITIONS);
    EXPECT(r, meta_topic_create(m, "a", 1, 0, NULL, 0, &id) == ERR_INVALID_REPLICATION_FACTOR);
    EXPECT(r, meta_topic_create(m, "a", 1, 1, twice, 2, &id) == ERR_INVALID_CONFIG);
    EXPECT(r, meta_topic_create(m, "a", 1, 1, no_value, 1, &id) == ERR_INVALID_CONFIG);
    EXPECT(r, meta_topic_delete(m, &none) == ERR_UNKNOWN_TOPIC_ID);
    EXPECT(r, meta_topic_configure(m, &none, twice, 1) == ERR_UNKNOWN_TOPIC_ID);
    EXPECT(r, meta_recovered(m, (struct incarnation){99}, 0) == ERR_NOT_FOUND);
    EXPECT(r, meta_partitions_add(m, &none, 2) == ERR_UNKNOWN_TOPIC_ID);
    EXPECT(r, meta_partitions_add(m, &none, META_TOPIC_PARTITIONS_MAX + 1) == ERR_INVALID_PARTITIONS);
    int64_t first = -1;
    EXPECT(r, meta_producer_ids(m, 0, &first) == ERR_INVALID);
    EXPECT(r, objlog_next(m->log) == next); /* what cannot be done is not written */

    EXPECT(r, meta_topic_create(m, "a", META_TOPIC_PARTITIONS_MAX, 1, NULL, 0, &id) == OK);
    EXPECT(r, meta_topic_create(m, "a", 1, 1, NULL, 0, &none) == ERR_TOPIC_EXISTS);
    EXPECT(r, meta_topic_configure(m, &id, twice, 2) == OK);
    EXPECT(r, strcmp(meta_topic_config(meta_topic_by_id(m, &id), "a"), "2") == 0);
    EXPECT(r, meta_topic_configure(m, &id, no_value, 1) == OK);
    EXPECT(r, meta_topic_config(meta_topic_by_id(m, &id), "a") == NULL);
    EXPECT(r, meta_producer_ids(m, 1000, &first) == OK && first == 0);
    EXPECT(r, meta_producer_ids(m, 1000, &first) == OK && first == 1000);
    EXPECT(r, meta_topic_delete(m, &id) == OK && meta_topic_count(m) == 0);
    EXPECT(r, meta_topic_delete(m, &id) == ERR_UNKNOWN_TOPIC_ID);
    EXPECT(r, meta_topic_create(m, "a", 1, 1, NULL, 0, &none) == OK);
    EXPECT(r, meta_topic_by_name(m, "a", 1)->partitions[0].stream.v ==
                  META_TOPIC_PARTITIONS_MAX + 1); /* streams are never used again */
    EXPECT(r, meta_partitions_add(m, &none, 1) == ERR_INVALID_PARTITIONS);
    EXPECT(r, meta_partitions_add(m, &none, 3) == OK);
    EXPECT(r, meta_topic_by_id(m, &none)->partitions[2].stream.v == META_TOPIC_PARTITIONS_MAX + 3);
    EXPECT(r, meta_broker_configure(m, 1, twice, 2) == OK);
    EXPECT(r, meta_broker_configure(m, META_ALL_BROKERS, twice, 1) == OK);
    size_t count;
    EXPECT(r, strcmp(meta_broker_configs(m, 1, &count)[0].value, "2") == 0 && count == 1);
    EXPECT(r, meta_broker_configs(m, 7, &count) == NULL && count == 0);
    for (unsigned i = 0; i < 2; i++) { /* by a snapshot, then by records */
        meta_close(m);
        m = run_open(r, s, 1, NULL);
        EXPECT(r, meta_producer_ids(m, 5, &first) == OK && first == 2000 + 5 * (int64_t)i);
        EXPECT(r, meta_topic_by_name(m, "a", 1)->partition_count == 3);
        EXPECT(r, strcmp(meta_broker_configs(m, META_ALL_BROKERS, &count)[0].value, "1") == 0 && count == 1);
        EXPECT(r, (meta_broker_configs(m, 1, &count) != NULL) == (i == 0));
        EXPECT(r, meta_broker_configure(m, 1, no_value, 1) == OK && !meta_broker_configs(m, 1, &count));
    }
    meta_close(m);
    store_close(s);
}

/* --- Many at once. */

struct job {
    struct sim_run *run;
    struct meta *meta;
    struct waitgroup *group;
    char name[16];
    unsigned kind; /* 0 create, 1 delete by id, 2 producer ids, 3 partitions up to `total` */
    int32_t total;
    struct uuid id;
    int64_t first;
    enum err result;
};

static void job_main(void *arg) {
    struct job *j = arg;
    if (j->kind == 0) j->result = meta_topic_create(j->meta, j->name, 2, 1, NULL, 0, &j->id);
    if (j->kind == 1) j->result = meta_topic_delete(j->meta, &j->id);
    if (j->kind == 2) j->result = meta_producer_ids(j->meta, 10, &j->first);
    if (j->kind == 3) j->result = meta_partitions_add(j->meta, &j->id, j->total);
    waitgroup_done(j->group);
}

static void jobs_start(struct sim_run *r, struct meta *m, struct waitgroup *g, struct job *jobs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        jobs[i].run = r;
        jobs[i].meta = m;
        jobs[i].group = g;
        waitgroup_add(g);
        fiber_spawn(loop_current(), "job", job_main, &jobs[i]);
    }
}

static void groups(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), true);
    struct meta *m = run_open(r, s, 1, NULL);
    struct job jobs[60] = {0};
    struct waitgroup g;
    waitgroup_init(&g);
    /* Twenty names, each created twice; and producer ids. */
    for (unsigned i = 0; i < 60; i++) {
        jobs[i].kind = i < 40 ? 0 : 2;
        snprintf(jobs[i].name, sizeof(jobs[i].name), "t%u", i / 2);
    }
    uint64_t next = objlog_next(m->log);
    jobs_start(r, m, &g, jobs, 60);
    waitgroup_wait(&g);
    EXPECT(r, objlog_next(m->log) - next <= 3); /* the first alone, the others together */
    EXPECT(r, meta_topic_count(m) == 20 && m->image.next_stream == 41);
    bool taken[20] = {0};
    for (unsigned i = 0; i < 60; i++) {
        if (i < 40 && i % 2 == 1) {
            enum err a = jobs[i - 1].result, b = jobs[i].result;
            EXPECT(r, (a == OK && b == ERR_TOPIC_EXISTS) || (a == ERR_TOPIC_EXISTS && b == OK));
        } else if (i >= 40) {
            EXPECT(r, jobs[i].result == OK && jobs[i].first % 10 == 0 && jobs[i].first < 200 &&
                          !taken[jobs[i].first / 10]);
            taken[jobs[i].first / 10 % 20] = true;
        }
    }
    /* A topic deleted twice and created anew, twice, at the same time, while something is in flight. */
    struct job more[5] = {{.kind = 2}, {.kind = 1}, {.kind = 1}, {.kind = 0}, {.kind = 0}};
    more[1].id = more[2].id = meta_topic_by_name(m, "t7", 2)->id;
    snprintf(more[3].name, sizeof(more[3].name), "t7");
    snprintf(more[4].name, sizeof(more[4].name), "t7");
    jobs_start(r, m, &g, more, 5);
    waitgroup_wait(&g);
    EXPECT(r, (more[1].result == OK) != (more[2].result == OK));
    EXPECT(r, (more[3].result == OK) + (more[4].result == OK) <= 1);
    EXPECT(r, (meta_topic_by_name(m, "t7", 2) != NULL) == (more[3].result == OK || more[4].result == OK));
    /* More partitions for one topic, from several at once, beside a deletion and a creation of others: those that ask
     * for fewer than there are by then get none. */
    struct job grow[6] = {
        {.kind = 2}, {.kind = 3, .total = 5}, {.kind = 3, .total = 9}, {.kind = 3, .total = 7}, {.kind = 1},
        {.kind = 0}};
    for (unsigned i = 1; i <= 3; i++) grow[i].id = meta_topic_by_name(m, "t3", 2)->id;
    grow[4].id = meta_topic_by_name(m, "t5", 2)->id;
    snprintf(grow[5].name, sizeof(grow[5].name), "new");
    jobs_start(r, m, &g, grow, 6);
    waitgroup_wait(&g);
    const struct meta_topic *t = meta_topic_by_name(m, "t3", 2);
    EXPECT(r, grow[1].result == OK && grow[2].result == OK && grow[3].result == ERR_INVALID_PARTITIONS);
    EXPECT(r, grow[4].result == OK && grow[5].result == OK && t->partition_count == 9);
    for (int32_t p = 0; p < 9; p++) {
        int32_t index = -1;
        EXPECT(r, meta_topic_of_stream(m, t->partitions[p].stream, &index) == t && index == p);
    }
    meta_close(m);
    m = run_open(r, s, 1, NULL); /* and all of it replays */
    EXPECT(r, m->image.next_producer_id == 220 && meta_topic_by_name(m, "t3", 2)->partition_count == 9);
    meta_close(m);
    store_close(s);
}

/* --- Snapshots, deletion, restarts. */

static void many_commits(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), true);
    struct meta *m = run_open(r, s, 1, NULL);
    int64_t first;
    struct uuid id;
    char big[9000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    struct meta_config c = {(char *)"a", big};
    EXPECT(r, meta_topic_create(m, "t", 1, 1, NULL, 0, &id) == OK);
    uint64_t boundary = objlog_boundary(m->log), next = objlog_next(m->log);
    for (unsigned i = 0; i < 255 && objlog_boundary(m->log) == boundary; i++)
        EXPECT(r, meta_topic_configure(m, &id, &c, 1) == OK);
    EXPECT(r, objlog_boundary(m->log) > boundary &&
                  objlog_next(m->log) - next < 200); /* by their size, before their number */
    for (unsigned i = 0; i < 1500; i++) {
        EXPECT(r, meta_producer_ids(m, 1, &first) == OK && first == i);
        if (run_count(r, m->generation) > 2 * META_SNAPSHOT_RECORDS + 10)
            sim_fail(r->world, "old entries are not deleted");
        if (sim_failed(r->world)) break;
    }
    EXPECT(r, objlog_boundary(m->log) > 1000);
    char key[64];
    snprintf(key, sizeof(key), "%s/cluster/%020d", m->generation, 0);
    EXPECT(r, sim_bucket_find(r->world->bucket, key) == NULL); /* nobody else can be there: the election goes, too */
    meta_close(m);
    m = run_open(r, s, 1, NULL);
    EXPECT(r, meta_producer_ids(m, 1, &first) == OK && first == 1500);
    EXPECT(r, strlen(meta_topic_config(meta_topic_by_id(m, &id), "a")) == sizeof(big) - 1);
    meta_close(m);
    store_close(s);
}

struct life { /* of a broker on a node of its own */
    struct sim_run *run;
    bool exclusive;
    uint64_t commits; /* acknowledged so far, over all lives */
    int64_t highest_id;
    size_t objects_max;
};

/* What a broker does at its start: takes over what its predecessors left. */
static void predecessors_recover(struct sim_run *r, struct meta *m) {
    struct meta_broker b;
    while (meta_unrecovered(m, &b, 1) > 0) EXPECT(r, meta_recovered(m, b.incarnation, 1) == OK);
    EXPECT(r, meta_forget_retired(m, meta_incarnation(m)) == OK);
    EXPECT(r, m->image.broker_count == 1);
}

static void life_main(void *arg) {
    struct life *l = arg;
    struct store *s = sim_run_store(l->run, env_here(), l->exclusive);
    struct meta *m = run_open(l->run, s, 1, NULL);
    int64_t first;
    if (m) {
        predecessors_recover(l->run, m);
        EXPECT(l->run, meta_producer_ids(m, 1, &first) == OK && first > l->highest_id);
        l->highest_id = first;
        l->commits++;
        fiber_sleep_ns(3600 * NS_PER_S);
    }
}

static void restarts(struct sim_run *r, bool exclusive, unsigned count) {
    struct life l = {.run = r, .exclusive = exclusive, .highest_id = -1};
    struct sim_node *n = sim_node_create(r->world, "broker");
    struct store *s = sim_run_store(r, env_here(), exclusive);
    size_t most = 0;
    for (unsigned i = 0; i < count && !sim_failed(r->world); i++) {
        if (i % 10 < 6) { /* in order, here; else by a crash, there */
            struct meta *m = run_open(r, s, 1, NULL);
            predecessors_recover(r, m);
            int64_t first;
            EXPECT(r, meta_producer_ids(m, 1, &first) == OK && first > l.highest_id);
            l.highest_id = first;
            meta_close(m);
        } else {
            uint64_t commits = l.commits;
            sim_node_start(n, life_main, &l);
            fiber_sleep_ns(30 * NS_PER_S);
            EXPECT(r, l.commits == commits + 1);
            sim_node_crash(n, SIM_KILL);
        }
        size_t objects = r->world->bucket->count;
        if (!exclusive) objects -= objects < i ? 0 : i; /* an election for each start */
        if (objects > most) most = objects;
    }
    EXPECT(r, most <= 60);
    store_close(s);
}

static void restarts_exclusive(struct sim_run *r) {
    restarts(r, true, 1000);
}

static void restarts_shared(struct sim_run *r) {
    restarts(r, false, 300);
    /* The elections are all there. */
    struct store *s = sim_run_store(r, env_here(), false);
    size_t elections = 0;
    for (size_t i = 0; i < r->world->bucket->count; i++) {
        struct objlog_header h;
        const struct sim_object *o = r->world->bucket->objects[i];
        if (objlog_header_decode(o->data, o->size, &h) == OK && h.kind == OBJLOG_ELECTION) elections++;
    }
    EXPECT(r, elections == 300);
    store_close(s);
}

/* Nothing but crashes: no snapshot at an end, so the starts must write them. */
static void restarts_crashing(struct sim_run *r) {
    struct life l = {.run = r, .exclusive = true, .highest_id = -1};
    struct sim_node *n = sim_node_create(r->world, "broker");
    for (unsigned i = 0; i < 300 && !sim_failed(r->world); i++) {
        sim_node_start(n, life_main, &l);
        fiber_sleep_ns(30 * NS_PER_S);
        EXPECT(r, l.commits == i + 1);
        sim_node_crash(n, SIM_KILL);
        EXPECT(r, r->world->bucket->count <= 4 * META_SNAPSHOT_ENTRIES);
    }
}

static void close_without_store(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), true);
    struct meta *m = run_open(r, s, 1, NULL);
    struct uuid id;
    EXPECT(r, meta_topic_create(m, "t", 1, 1, NULL, 0, &id) == OK);
    sim_faults_none(&r->world->faults);
    r->world->faults.chance[SIM_STORE_UNAVAILABLE] = 1;
    r->world->faults_off = false;
    uint64_t before = env_now_ns(env_here());
    meta_close(m); /* gives up */
    EXPECT(r, env_now_ns(env_here()) - before < 60 * NS_PER_S);
    r->world->faults_off = true;
    m = run_open(r, s, 1, NULL);
    EXPECT(r, meta_topic_by_id(m, &id) != NULL);
    meta_close(m);
    store_close(s);
}

/* --- Two brokers. */

static void overtaken(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), false);
    struct meta *a = run_open(r, s, 1, NULL);
    struct uuid id;
    EXPECT(r, meta_topic_create(a, "t", 1, 1, NULL, 0, &id) == OK);
    struct meta *b = run_open(r, s, 2, NULL);
    EXPECT(r, strcmp(meta_generation(a), meta_generation(b)) == 0);
    EXPECT(r, meta_incarnation(b).v > meta_incarnation(a).v);
    EXPECT(r, meta_topic_by_id(b, &id) != NULL && meta_unrecovered(b, NULL, 0) == 1);
    /* The old one does not know yet. Whoever waits, and whoever comes, is told; nothing is written or shown. */
    struct job jobs[5] = {0};
    struct waitgroup g;
    waitgroup_init(&g);
    for (unsigned i = 0; i < 5; i++) snprintf(jobs[i].name, sizeof(jobs[i].name), "late%u", i);
    jobs_start(r, a, &g, jobs, 5);
    EXPECT(r, meta_topic_create(b, "late0", 1, 1, NULL, 0, &id) == OK);
    waitgroup_wait(&g);
    for (unsigned i = 0; i < 5; i++) EXPECT(r, jobs[i].result == ERR_FENCED);
    EXPECT(r, meta_topic_create(a, "later", 1, 1, NULL, 0, &id) == ERR_FENCED);
    EXPECT(r, meta_topic_count(a) == 1);
    size_t objects = r->world->bucket->count;
    meta_close(a);
    EXPECT(r, r->world->bucket->count == objects); /* no snapshot of an overtaken one */
    EXPECT(r, meta_topic_count(b) == 2);
    meta_close(b);
    b = run_open(r, s, 2, NULL);
    EXPECT(r, meta_topic_count(b) == 2 && meta_topic_by_name(b, "late1", 5) == NULL);
    meta_close(b);
    store_close(s);
}

struct asker {
    struct meta *meta;
    struct waitgroup *group;
    uint64_t after_ns, as_of_ns;
    enum err result;
};

static void asker_main(void *arg) {
    struct asker *x = arg;
    x->result = meta_confirm(x->meta, x->after_ns, UINT64_MAX, &x->as_of_ns);
    waitgroup_done(x->group);
}

static enum err confirm(struct meta *m, uint64_t after_ns, uint64_t *as_of_ns) {
    return meta_confirm(m, after_ns, env_now_ns(env_here()) + 10 * NS_PER_S, as_of_ns);
}

static void office(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), false);
    struct meta *a = run_open(r, s, 1, NULL);
    struct uuid id;
    uint64_t as_of = 0, later = 0, before = env_now_ns(env_here());
    EXPECT(r, confirm(a, before, &as_of) == OK && as_of >= before && a->proofs_begun == 1);
    EXPECT(r, confirm(a, as_of - 1, &later) == OK && later == as_of && a->proofs_begun == 1); /* known already */
    EXPECT(r, confirm(a, env_now_ns(env_here()), &later) == OK && later > as_of && a->proofs_begun == 2);
    /* One look serves all that wait, but those who come while it is under way. */
    struct asker askers[10];
    struct waitgroup g;
    waitgroup_init(&g);
    for (unsigned i = 0; i < 10; i++) {
        askers[i] = (struct asker){.meta = a, .group = &g, .after_ns = env_now_ns(env_here())};
        waitgroup_add(&g);
        fiber_spawn(loop_current(), "asker", asker_main, &askers[i]);
    }
    waitgroup_wait(&g);
    for (unsigned i = 0; i < 10; i++) EXPECT(r, askers[i].result == OK && askers[i].as_of_ns >= askers[i].after_ns);
    EXPECT(r, a->proofs_begun <= 4);
    /* A commit proves it as well. */
    before = env_now_ns(env_here());
    fiber_sleep_ns(NS_PER_MS);
    EXPECT(r, meta_topic_create(a, "t", 1, 1, NULL, 0, &id) == OK);
    uint64_t proofs = a->proofs_begun;
    EXPECT(r, confirm(a, before, &as_of) == OK && as_of > before && a->proofs_begun == proofs);
    /* The store does not tell. */
    sim_faults_none(&r->world->faults);
    r->world->faults.chance[SIM_STORE_UNAVAILABLE] = 1;
    r->world->faults_off = false;
    EXPECT(r, confirm(a, env_now_ns(env_here()), &later) == ERR_UNAVAILABLE);
    EXPECT(r, confirm(a, as_of - 1, &later) == OK); /* an older truth will do */
    r->world->faults_off = true;
    EXPECT(r, confirm(a, env_now_ns(env_here()), &as_of) == OK);
    /* Another is elected. */
    struct meta *b = run_open(r, s, 2, NULL);
    EXPECT(r, confirm(b, env_now_ns(env_here()), &later) == OK);
    EXPECT(r, confirm(a, as_of - 1, &later) == OK && later == as_of);
    EXPECT(r, confirm(a, env_now_ns(env_here()), &later) == ERR_FENCED);
    EXPECT(r, confirm(a, as_of - 1, &later) == ERR_FENCED);
    EXPECT(r, meta_topic_create(a, "later", 1, 1, NULL, 0, &id) == ERR_FENCED);
    meta_close(a);
    meta_close(b);
    store_close(s);
}

/* Commits and looks at the same time: the number that is looked at may come to be our own. */
static void office_under_load(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), false);
    struct meta *m = run_open(r, s, 1, NULL);
    sim_faults_none(&r->world->faults);
    r->world->faults.chance[SIM_STORE_SLOW] = 0.3;
    r->world->faults_off = false;
    for (unsigned i = 0; i < 40; i++) {
        struct job jobs[3] = {0};
        struct asker askers[3];
        struct waitgroup g;
        waitgroup_init(&g);
        for (unsigned k = 0; k < 3; k++) {
            snprintf(jobs[k].name, sizeof(jobs[k].name), "t%u", 3 * i + k);
            askers[k] = (struct asker){.meta = m, .group = &g, .after_ns = env_now_ns(env_here())};
            waitgroup_add(&g);
            fiber_spawn(loop_current(), "asker", asker_main, &askers[k]);
            fiber_sleep_ns(sim_between(r->world, 0, 30) * NS_PER_MS);
            jobs_start(r, m, &g, &jobs[k], 1);
            fiber_sleep_ns(sim_between(r->world, 0, 30) * NS_PER_MS);
        }
        waitgroup_wait(&g);
        for (unsigned k = 0; k < 3; k++)
            EXPECT(r, jobs[k].result == OK && askers[k].result == OK && askers[k].as_of_ns >= askers[k].after_ns);
    }
    r->world->faults_off = true;
    meta_close(m);
    store_close(s);
}

/* Nobody else can be elected: that costs nothing. */
static void office_exclusive(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), true);
    struct meta *m = run_open(r, s, 1, NULL);
    uint64_t as_of, before = env_now_ns(env_here());
    EXPECT(r, confirm(m, before, &as_of) == OK && env_now_ns(env_here()) == before && m->proofs_begun == 0);
    meta_close(m);
    store_close(s);
}

struct racer {
    struct sim_run *run;
    struct store *store;
    struct waitgroup *group;
    struct meta *meta;
    enum err result;
};

static void racer_main(void *arg) {
    struct racer *x = arg;
    x->meta = run_open(x->run, x->store, 1, &x->result);
    waitgroup_done(x->group);
}

/* Several begin the cluster at once: one cluster comes of it. */
static void first_start_raced(struct sim_run *r) {
    struct racer racers[4] = {0};
    struct waitgroup g;
    waitgroup_init(&g);
    for (unsigned i = 0; i < 4; i++) {
        racers[i] = (struct racer){.run = r, .store = sim_run_store(r, env_here(), false), .group = &g};
        waitgroup_add(&g);
        fiber_spawn(loop_current(), "racer", racer_main, &racers[i]);
    }
    waitgroup_wait(&g);
    unsigned opened = 0;
    const char *generation = NULL;
    uint64_t highest = 0;
    for (unsigned i = 0; i < 4; i++) {
        struct meta *m = racers[i].meta;
        EXPECT(r, (racers[i].result == OK && m) || (racers[i].result == ERR_FENCED && !m));
        if (!m) continue;
        opened++;
        EXPECT(r, meta_incarnation(m).v != highest);
        if (meta_incarnation(m).v > highest) highest = meta_incarnation(m).v;
        EXPECT(r, !generation || strcmp(generation, meta_generation(m)) == 0);
        generation = meta_generation(m);
    }
    EXPECT(r, opened >= 1);
    for (unsigned i = 0; i < 4; i++) {
        struct uuid id;
        if (racers[i].meta && !sim_failed(r->world)) {
            bool last = meta_incarnation(racers[i].meta).v == highest;
            EXPECT(r, meta_topic_create(racers[i].meta, "t", 1, 1, NULL, 0, &id) == (last ? OK : ERR_FENCED));
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        meta_close(racers[i].meta);
        store_close(racers[i].store);
    }
}

/* --- Stores that hold something else. */

static void put_object(struct sim_run *r, struct store *s, const char *key, const void *data, size_t size) {
    struct slice piece = slice_borrow(data, size);
    EXPECT(r, store_put(s, key, &piece, 1, false, STORE_FOR_OTHER) == OK);
}

static void open_fails(struct sim_run *r, struct store *s, enum err expected, const char *word) {
    struct meta *m = NULL;
    const char *why = "";
    struct meta_options o = {.env = s->env, .store = s, .node_id = 1};
    size_t objects = run_count(r, "");
    enum err e = meta_open(&o, &m, &why);
    if (e != expected) sim_fail(r->world, "meta_open gave %s instead of %s", err_name(e), err_name(expected));
    EXPECT(r, m == NULL && strstr(why, word) != NULL);
    EXPECT(r, run_count(r, "") <= objects + 1); /* a probe at most */
    if (m) meta_close(m);
}

static void refused_cluster(struct sim_run *r) {
    struct store *s = sim_run_store(r, env_here(), true);
    uint8_t bytes[META_CLUSTER_SIZE];
    struct uuid id = {{1, 2, 3}};
    meta_cluster_encode("abcdefghijklmnopqrstuvwxy7", &id, bytes);
    put_object(r, s, "oxbow.cluster", "something else, and long enough to be taken for it, perhaps", 58);
    open_fails(r, s, ERR_FOREIGN, "oxbow.cluster");
    for (size_t i = 0; i < sizeof(bytes); i++) { /* every byte counts */
        uint8_t bad[META_CLUSTER_SIZE];
        memcpy(bad, bytes, sizeof(bytes));
        bad[i] ^= 1;
        put_object(r, s, "oxbow.cluster", bad, sizeof(bad));
        open_fails(r, s, i < 4 ? ERR_FOREIGN : ERR_CORRUPT, "oxbow.cluster");
    }
    put_object(r, s, "oxbow.cluster", bytes, 20);
    open_fails(r, s, ERR_CORRUPT, "oxbow.cluster");
    put_object(r, s, "oxbow.cluster", bytes, 6);
    open_fails(r, s, ERR_TRUNCATED, "oxbow.cluster");
    bytes[4] = 2; /* version */
    le32_put(bytes + META_CLUSTER_SIZE - 4, crc32c(0, bytes, META_CLUSTER_SIZE - 4));
    put_object(r, s, "oxbow.cluster", bytes, sizeof(bytes));
    open_fails(r, s, ERR_VERSION, "oxbow.cluster");
    bytes[4] = 1;
    le32_put(bytes + META_CLUSTER_SIZE - 4, crc32c(0, bytes, META_CLUSTER_SIZE - 4));
    put_object(r, s, "oxbow.cluster", bytes, sizeof(bytes));
    struct meta *m = run_open(r, s, 1, NULL);
    EXPECT(r, strcmp(meta_generation(m), "abcdefghijklmnopqrstuvwxy7") == 0);
    meta_close(m);
    store_close(s);
}

static enum err apply_nothing(void *ctx, const struct objlog_entry *e) {
    (void)ctx;
    (void)e;
    return OK;
}

static void reset_nothing(void *ctx) {
    (void)ctx;
}

/* Puts an entry with that head at the end of the cluster log, as another program might. */
static void entry_add(struct sim_run *r, struct store *s, const char *generation, enum objlog_kind kind,
                      const void *head, size_t size) {
    char prefix[64];
    snprintf(prefix, sizeof(prefix), "%s/cluster", generation);
    struct objlog *l = objlog_create(&(struct objlog_options){.store = s, .prefix = prefix, .depth = 1});
    struct objlog_replay replay = {apply_nothing, reset_nothing, NULL};
    struct slice none = {0}, piece = slice_borrow(head, size);
    uint64_t number;
    bool mine;
    EXPECT(r, objlog_recover(l, &replay) == OK);
    EXPECT(r, objlog_take_over(l, OBJLOG_ELECTION, &replay, &none, &number, &mine) == OK);
    EXPECT(r, objlog_append(l, kind, &piece, NULL, 0, 0, &number) == OK);
    objlog_destroy(l);
}

static void refused_record(struct sim_run *r) {
    static const uint8_t newer[] = {3, 0, 9, 0, 1, 0, 0, 0, 0}, unknown[] = {99, 0, 1, 0, 0, 0, 0, 0},
                         cut[] = {3, 0, 1, 0, 16, 0, 0, 0, 0},
                         unfit[] = {3, 0, 1, 0, 16, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
                         snapshot[] = {3, 0, 0, 0};
    static const struct {
        const uint8_t *bytes;
        size_t size;
        enum objlog_kind kind;
        enum err expected;
    } cases[] = {{newer, sizeof(newer), OBJLOG_DATA, ERR_VERSION},
                 {unknown, sizeof(unknown), OBJLOG_DATA, ERR_VERSION},
                 {cut, sizeof(cut), OBJLOG_DATA, ERR_TRUNCATED},
                 {unfit, sizeof(unfit), OBJLOG_DATA, ERR_CORRUPT},
                 {snapshot, sizeof(snapshot), OBJLOG_CHECKPOINT, ERR_VERSION}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store *s = sim_run_store(r, env_here(), true);
        struct meta *m = run_open(r, s, 1, NULL);
        char generation[27];
        snprintf(generation, sizeof(generation), "%s", meta_generation(m));
        meta_close(m);
        entry_add(r, s, generation, cases[i].kind, cases[i].bytes, cases[i].size);
        open_fails(r, s, cases[i].expected, cases[i].expected == ERR_VERSION ? "newer" : "damaged");
        const char *key = "oxbow.cluster"; /* a new cluster for the next case */
        EXPECT(r, store_delete(s, &key, 1, STORE_FOR_OTHER) == OK);
        store_close(s);
    }
}

#define CALM(fn)                                                                                                       \
    static void test_##fn(void **state) {                                                                              \
        (void)state;                                                                                                   \
        for (uint64_t seed = 0; seed < 5; seed++) run_workload(#fn, fn, seed, true);                                   \
    }
CALM(first_start)
CALM(commits)
CALM(groups)
CALM(many_commits)
CALM(restarts_shared)
CALM(restarts_crashing)
CALM(close_without_store)
CALM(overtaken)
CALM(office)
CALM(office_under_load)
CALM(office_exclusive)
CALM(first_start_raced)
CALM(refused_cluster)
CALM(refused_record)

static void test_restarts_exclusive(void **state) {
    (void)state;
    run_workload("restarts_exclusive", restarts_exclusive, 1, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_start),
        cmocka_unit_test(test_commits),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_many_commits),
        cmocka_unit_test(test_restarts_shared),
        cmocka_unit_test(test_restarts_crashing),
        cmocka_unit_test(test_restarts_exclusive),
        cmocka_unit_test(test_close_without_store),
        cmocka_unit_test(test_overtaken),
        cmocka_unit_test(test_office),
        cmocka_unit_test(test_office_under_load),
        cmocka_unit_test(test_office_exclusive),
        cmocka_unit_test(test_first_start_raced),
        cmocka_unit_test(test_refused_cluster),
        cmocka_unit_test(test_refused_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
