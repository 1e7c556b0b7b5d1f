/* The cluster under faults: a workload for the simulator, run with many seeds. Some brokers share a store that refuses,
 * loses answers, lets requests land late; they open the cluster, commit from several fibers at once, recover their
 * predecessors, close, crash, stand still, and wake up overtaken. In some runs there is one, which holds the store
 * alone.
 *
 * Promises:
 *  - a commit that answered OK before an open began is in what that open shows: topics with their ids, partitions and
 * configuration;
 *  - a commit that answered ERR_FENCED, or another error that means "not done", never comes to light;
 *  - incarnations, streams and producer ids are never given out twice, and incarnations rise;
 *  - partition epochs never fall;
 *  - at the end, when all that is late has landed, everything is there; and with an exclusive store only few objects
 * are. */
#include "base/map.h"
#include "meta/meta_priv.h"
#include "meta_run.h"

#define NODES_MAX 3u
#define TOPICS_MAX 4000u
#define FIBERS 4u

enum fate { FATE_UNKNOWN, FATE_DONE, FATE_NOT_DONE };

struct topic { /* each name is used by one creation only */
    enum fate created;
    bool deleting;
    enum fate deleted; /* when deleting */
    struct uuid id;
    int32_t partitions;
    unsigned value;      /* highest value of its configuration that was acknowledged */
    unsigned value_open; /* highest that was asked for */
    int32_t epoch;       /* highest seen */
    uint64_t stream;     /* first, once seen */
};

struct faults_test {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_node *nodes[NODES_MAX];
    unsigned node_count;
    bool exclusive, over, auditing, audited;
    struct topic topics[TOPICS_MAX];
    size_t topic_count;
    uint64_t highest_incarnation, highest_producer_id; /* acknowledged: the latter is the first that is not given out */
    uint64_t opens, fenced;
};

static bool definite(enum err e) {
    return err_class(e) != ERR_CLASS_UNKNOWN && e != ERR_CANCELLED;
}

/* --- What an open shows, against what was known when it began. */

struct known {
    enum fate created, deleted;
    bool deleting;
    unsigned value;
    int32_t epoch;
};

static void topic_check(struct faults_test *t, const struct meta *m, size_t i, const struct known *k) {
    struct topic *x = &t->topics[i];
    char name[24];
    snprintf(name, sizeof(name), "t%zu", i);
    const struct meta_topic *got = meta_topic_by_name(m, name, strlen(name));
    if (k->created == FATE_DONE && !k->deleting && !x->deleting && !got)
        sim_fail(t->world, "%s was created and is lost", name);
    if (x->created == FATE_NOT_DONE && got) sim_fail(t->world, "%s is there though its creation failed", name);
    if (k->deleted == FATE_DONE && got) sim_fail(t->world, "%s was deleted and is back", name);
    if (!got) return;
    if (x->created == FATE_DONE && memcmp(got->id.bytes, x->id.bytes, 16) != 0)
        sim_fail(t->world, "%s has another id", name);
    if (got->partition_count != x->partitions) sim_fail(t->world, "%s has another number of partitions", name);
    const char *value = meta_topic_config(got, "v");
    unsigned v = value ? (unsigned)strtoul(value, NULL, 10) : 0;
    if (v < k->value || v > x->value_open)
        sim_fail(t->world, "%s has value %u, and %u was acknowledged", name, v, k->value);
    if (x->stream && got->partitions[0].stream.v != x->stream) sim_fail(t->world, "%s has other streams", name);
    x->stream = got->partitions[0].stream.v;
    int32_t epoch = got->partitions[0].epoch;
    if (epoch < k->epoch) sim_fail(t->world, "%s has epoch %d, and had %d", name, epoch, k->epoch);
    if (epoch > x->epoch) x->epoch = epoch;
}

/* No stream belongs to two topics, seen at any time. */
static void streams_check(struct faults_test *t) {
    struct map64 seen;
    map64_init(&seen, sim_run_mem(t->run));
    for (size_t i = 0; i < t->topic_count; i++) {
        for (int32_t p = 0; t->topics[i].stream && p < t->topics[i].partitions; p++) {
            if (map64_put(&seen, t->topics[i].stream + (uint64_t)p, &seen))
                sim_fail(t->world, "a stream was given out twice");
        }
    }
    map64_deinit(&seen);
}

struct meta_user { /* one life of one broker: gone with it */
    struct faults_test *test;
    struct meta *meta;
    struct waitgroup group;
};

static enum err broker_open(struct meta_user *u, struct store *s) {
    struct faults_test *t = u->test;
    size_t count = t->topic_count;
    struct known *known = mem_alloc(s->env->mem, (count + 1) * sizeof(*known));
    for (size_t i = 0; i < count; i++) {
        known[i] = (struct known){t->topics[i].created, t->topics[i].deleting ? t->topics[i].deleted : FATE_UNKNOWN,
                                  t->topics[i].deleting, t->topics[i].value, t->topics[i].epoch};
    }
    uint64_t highest = t->highest_incarnation, producer_id = t->highest_producer_id;
    enum err e;
    u->meta = run_open(t->run, s, 1, &e);
    if (e == OK) {
        t->opens++;
        uint64_t mine = meta_incarnation(u->meta).v;
        if (mine <= highest) sim_fail(t->world, "incarnation %lu after %lu", mine, highest);
        if (mine > t->highest_incarnation) t->highest_incarnation = mine;
        if (u->meta->image.next_producer_id < producer_id) sim_fail(t->world, "producer ids would be given out again");
        for (size_t i = 0; i < count; i++) topic_check(t, u->meta, i, &known[i]);
    }
    mem_free(s->env->mem, known);
    return e;
}

/* --- Commits. */

static void do_create(struct meta_user *u) {
    struct faults_test *t = u->test;
    if (t->topic_count == TOPICS_MAX) return;
    size_t i = t->topic_count++;
    struct topic *x = &t->topics[i];
    x->partitions = (int32_t)sim_between(t->world, 1, 5);
    char name[24];
    snprintf(name, sizeof(name), "t%zu", i);
    struct uuid id;
    t->run->ops++;
    enum err e = meta_topic_create(u->meta, name, x->partitions, 1, NULL, 0, &id);
    if (e == OK) {
        x->created = FATE_DONE;
        x->id = id;
        t->run->acked++;
        const struct meta_topic *got = meta_topic_by_name(u->meta, name, strlen(name));
        if (!got) {
            sim_fail(t->world, "%s was created and does not show", name);
        } else {
            x->stream = got->partitions[0].stream.v;
        }
    } else if (definite(e)) {
        x->created = FATE_NOT_DONE;
    }
}

static struct topic *topic_pick(struct faults_test *t, size_t *index) {
    for (int tries = 0; tries < 5 && t->topic_count > 0; tries++) {
        size_t i = sim_between(t->world, 0, t->topic_count - 1);
        if (t->topics[i].created != FATE_DONE || t->topics[i].deleting) continue;
        *index = i;
        return &t->topics[i];
    }
    return NULL;
}

static void do_delete(struct meta_user *u) {
    size_t i;
    struct topic *x = topic_pick(u->test, &i);
    if (!x) return;
    x->deleting = true;
    enum err e = meta_topic_delete(u->meta, &x->id);
    if (e == OK) {
        x->deleted = FATE_DONE;
    } else if (definite(e)) {
        x->deleting = false; /* an overtaken broker that has not noticed may not know the topic */
    }
    if (e == ERR_UNKNOWN_TOPIC_ID && u->test->exclusive)
        sim_fail(u->test->world, "t%zu is not known to the only broker", i);
}

static void do_configure(struct meta_user *u) {
    size_t i;
    struct topic *x = topic_pick(u->test, &i);
    if (!x) return;
    unsigned value = ++x->value_open;
    char text[16];
    snprintf(text, sizeof(text), "%u", value);
    struct meta_config change = {(char *)"v", text};
    enum err e = meta_topic_configure(u->meta, &x->id, &change, 1);
    if (e == OK && value > x->value) {
        const char *now =
            meta_topic_by_id(u->meta, &x->id) ? meta_topic_config(meta_topic_by_id(u->meta, &x->id), "v") : text;
        /* Two at a time may be done in either order; then nothing is known but that one of them is there. */
        if (now && strtoul(now, NULL, 10) == value) x->value = value;
    }
}

static void do_producer_ids(struct meta_user *u) {
    struct faults_test *t = u->test;
    int64_t first;
    uint64_t before = t->highest_producer_id, count = sim_between(t->world, 1, 1000);
    if (meta_producer_ids(u->meta, (uint32_t)count, &first) != OK) return;
    if ((uint64_t)first < before) sim_fail(t->world, "producer id %ld was given out before", first);
    if ((uint64_t)first + count > t->highest_producer_id) t->highest_producer_id = (uint64_t)first + count;
}

static void worker_main(void *arg) {
    struct meta_user *u = arg;
    struct faults_test *t = u->test;
    for (uint64_t left = sim_between(t->world, 0, 40); left > 0 && !t->over && !u->meta->fenced; left--) {
        uint64_t kind = sim_between(t->world, 0, 9);
        if (kind < 4) do_create(u);
        if (kind == 4) do_delete(u);
        /* Values are only comparable while one fiber of one broker sets them. */
        if (kind >= 5 && kind < 7 && t->exclusive) do_configure(u);
        if (kind >= 7) do_producer_ids(u);
        if (sim_chance(t->world, 0.5)) fiber_sleep_ns(sim_between(t->world, 0, 2000) * NS_PER_MS);
    }
    waitgroup_done(&u->group);
}

static void predecessors_recover(struct meta_user *u) {
    struct meta_broker b;
    while (meta_unrecovered(u->meta, &b, 1) > 0) {
        if (meta_recovered(u->meta, b.incarnation, sim_between(u->test->world, 0, 9)) != OK) return;
    }
    enum err e = meta_forget_retired(u->meta, meta_incarnation(u->meta));
    if (e == OK && meta_unrecovered(u->meta, NULL, 0) != 0)
        sim_fail(u->test->world, "a recovered broker is still to be recovered");
}

static void broker_life(struct faults_test *t, struct store *s) {
    struct meta_user u = {.test = t};
    enum err e = broker_open(&u, s);
    if (e != OK) {
        /* A store whose every answer to the test of conditional creation is wrong is refused, also when that was
         * chance. */
        if (e != ERR_FENCED && e != ERR_UNSUPPORTED && err_class(e) == ERR_CLASS_FATAL)
            sim_fail(t->world, "the cluster cannot be opened: %s", err_name(e));
        return;
    }
    waitgroup_init(&u.group);
    if (t->auditing) {
        t->audited = true;
    } else {
        predecessors_recover(&u);
        for (unsigned i = 0; i < FIBERS; i++) {
            waitgroup_add(&u.group);
            fiber_spawn(loop_current(), "worker", worker_main, &u);
        }
        waitgroup_wait(&u.group);
    }
    if (u.meta->fenced) t->fenced++;
    meta_close(u.meta);
}

static void broker_main(void *arg) {
    struct faults_test *t = arg;
    struct store *s = sim_run_store(t->run, loop_current()->env, t->exclusive);
    do {
        broker_life(t, s);
        if (!t->auditing) fiber_sleep_ns(sim_between(t->world, 0, 5000) * NS_PER_MS);
    } while (!(t->auditing ? t->audited : t->over) && !sim_failed(t->world));
    store_close(s);
}

static void audit(struct faults_test *t) {
    t->auditing = true;
    t->audited = false;
    sim_node_start(t->nodes[0], broker_main, t);
    if (!sim_run_wait_down(t->run, t->nodes[0], 3600 * NS_PER_S))
        sim_fail(t->world, "an open does not end though nothing is broken");
}

static void workload_meta(struct sim_run *r) {
    struct faults_test *t = MEM_NEW(sim_run_mem(r), struct faults_test);
    struct sim_world *w = r->world;
    t->run = r;
    t->world = w;
    t->exclusive = sim_chance(w, 0.4);
    t->node_count = t->exclusive ? 1 : (unsigned)sim_between(w, 1, NODES_MAX);
    uint64_t pause_max_ns = sim_between(w, 1, 100) * NS_PER_S;
    static const char *const names[NODES_MAX] = {"a", "b", "c"};
    for (unsigned i = 0; i < t->node_count; i++) {
        t->nodes[i] = sim_node_create(w, names[i]);
        sim_node_start(t->nodes[i], broker_main, t);
    }
    uint64_t end_ns = w->now_ns + sim_run_load_ns(r, 8);
    while (w->now_ns < end_ns) {
        fiber_sleep_ns(sim_between(w, 100, 20000) * NS_PER_MS);
        struct sim_node *n = t->nodes[sim_between(w, 0, t->node_count - 1)];
        if (!sim_node_up(n)) {
            sim_node_start(n, broker_main, t);
        } else if (sim_chance(w, 0.3)) {
            sim_node_pause(n, sim_between(w, 0, pause_max_ns));
        } else if (sim_chance(w, 0.5)) {
            sim_run_crash(r, n);
        }
    }
    t->over = true;
    sim_run_heal(r);
    for (unsigned i = 0; i < t->node_count; i++) {
        if (!sim_run_wait_down(r, t->nodes[i], 3600 * NS_PER_S))
            sim_fail(w, "a broker does not end though nothing is broken");
    }
    audit(t);
    fiber_sleep_ns(SIM_RUN_LATE_NS);
    audit(t);
    audit(t);
    streams_check(t);
    if (t->exclusive) {
        struct sim_bucket *b = w->bucket;
        size_t entries = 0;
        for (size_t i = 0; i < b->count; i++) entries += strstr(b->objects[i]->key, "/cluster/") != NULL;
        if (entries > 4) sim_fail(w, "%zu entries are left after orderly restarts", entries);
    }
    if (getenv("META_VERBOSE"))
        print_message("exclusive=%d opens=%lu fenced=%lu topics=%zu\n", t->exclusive, t->opens, t->fenced,
                      t->topic_count);
}

static void test_faults(void **state) {
    (void)state;
    const char *seed = getenv("META_SEED"), *seeds = getenv("META_SEEDS");
    if (seed) {
        run_workload("meta", workload_meta, strtoull(seed, NULL, 10), false);
        return;
    }
    uint64_t count = seeds ? strtoull(seeds, NULL, 10) : 150;
    for (uint64_t n = 0; n < count; n++) run_workload("meta", workload_meta, n, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
