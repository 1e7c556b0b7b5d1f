/* Sweeps over what lies in the object store alone: the check of a new store, an object log, the cluster log. */
#include "sweep_run.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "meta/meta.h"

static struct store *swept_store(bool exclusive) {
    struct env *env = loop_current()->env;
    return sim_sweep_store(sim_store_open(NULL, env, &(struct sim_store_options){.exclusive = exclusive}));
}

/* --- The check of a new store. */

static void check_a_store(struct sweep_run *r, bool must) {
    struct store *s = swept_store(false);
    const char *why = NULL;
    enum err e = store_check_conditional_create(s, "probe", true, &why);
    if (must) SWEEP_EXPECT(r, e == OK, "a sound store is refused: %s", why);
    /* A store that was sound but for one answer is never called one that ignores the condition. */
    SWEEP_EXPECT(r, e != ERR_UNSUPPORTED, "a sound store is called unfit: %s", why);
    SWEEP_EXPECT(r, e == OK || strlen(why) > 20, "no reason was given for %s", err_name(e));
    if (e == OK) r->acked++;
    store_close(s);
}
static void probe_work(void *arg) {
    check_a_store(arg, false);
}
static void probe_check(void *arg) {
    check_a_store(arg, true);
}
static void the_check_of_a_store(void **state) {
    (void)state;
    static const struct sweep_piece p = {.name = "probe",
                                         .size = sizeof(struct sweep_run),
                                         .classes = SIM_SWEEP_STORE,
                                         .work = probe_work,
                                         .check = probe_check};
    sweep_every_kind(&p);
}

/* --- An object log: replayed, taken over, appended to by several fibers with checkpoints, trimmed. */

#define ENTRIES 12u

struct log_run {
    struct sweep_run base;
    struct objlog *log;
    bool stopped, any;
    struct waitgroup writers;
    unsigned next, last;     /* payloads of this life */
    uint64_t acked[ENTRIES]; /* its number + 1, by payload */
    uint64_t found[ENTRIES]; /* the same, by the replay */
    uint64_t boundary;       /* the replay began with a checkpoint, here */
};

static enum err log_apply(void *ctx, const struct objlog_entry *e) {
    struct log_run *r = ctx;
    uint32_t payload;
    if (e->header.kind != OBJLOG_DATA && e->header.kind != OBJLOG_CHECKPOINT) return OK;
    if (e->head.size != sizeof(payload)) return ERR_CORRUPT;
    memcpy(&payload, e->head.data, sizeof(payload));
    if (payload >= ENTRIES) return ERR_CORRUPT;
    SWEEP_EXPECT(r, r->found[payload] == 0, "entry %u lies there twice", payload);
    if (e->header.kind == OBJLOG_CHECKPOINT && !r->any) r->boundary = e->header.number;
    r->any = true;
    r->found[payload] = e->header.number + 1;
    return OK;
}
static void log_reset(void *ctx) {
    struct log_run *r = ctx;
    memset(r->found, 0, sizeof(r->found));
    r->boundary = 0;
    r->any = false;
}

static struct objlog *log_create(struct store *s) {
    struct objlog_options o = {.store = s, .prefix = "log", .depth = 4, .writer = 9, .purpose = STORE_FOR_OTHER};
    return objlog_create(&o);
}

/* Stands where an election can be put at the end, and puts it. */
static enum err log_open(struct log_run *r, uint64_t *number) {
    struct objlog_replay replay = {log_apply, log_reset, r};
    log_reset(r);
    enum err e = objlog_recover(r->log, &replay);
    if (e != OK && e != ERR_NOT_FOUND) return e;
    bool mine = false;
    struct slice head = slice_borrow("head", 4);
    e = objlog_take_over(r->log, OBJLOG_ELECTION, &replay, &head, number, &mine);
    if (e == OK) SWEEP_EXPECT(r, mine, "an election that is not ours counts as ours");
    return e;
}

static void log_writer(void *arg) {
    struct log_run *r = arg;
    enum err e = OK;
    while (r->next < r->last && e == OK) {
        uint32_t payload = r->next++;
        struct slice head = slice_borrow(&payload, sizeof(payload));
        uint64_t number;
        e = objlog_append(r->log, payload % 5 == 4 ? OBJLOG_CHECKPOINT : OBJLOG_DATA, &head, NULL, 0, 0, &number);
        if (e != OK) break;
        r->acked[payload] = number + 1;
        r->base.acked++;
    }
    SWEEP_EXPECT(r, e == OK || e == ERR_CANCELLED, "nobody else is there, and an append ended with %s", err_name(e));
    waitgroup_done(&r->writers);
}

static void log_stopper(void *arg) {
    struct log_run *r = arg;
    while (!r->base.stop && !r->stopped) fiber_sleep_ns(NS_PER_S);
    if (r->log) objlog_stop(r->log);
    waitgroup_done(&r->writers);
}

/* Everything below the boundary that a durable entry carries. */
static void log_trim(struct log_run *r, struct store *s) {
    uint64_t numbers[ENTRIES], count = 0, below = objlog_deletable_below(r->log);
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (r->acked[i] && r->acked[i] - 1 < below) numbers[count++] = r->acked[i] - 1;
    }
    if (count > 0) {
        enum err e = objlog_delete(s, "log", numbers, count); /* what is left is left to the next trim */
        SWEEP_EXPECT(r, e == OK || err_class(e) != ERR_CLASS_FATAL || e == ERR_PERMISSION, "a trim: %s", err_name(e));
    }
}

static void log_life(struct log_run *r, unsigned last) {
    struct store *s = swept_store(false);
    r->last = last;
    uint64_t number;
    r->log = log_create(s);
    r->stopped = false;
    waitgroup_init(&r->writers);
    waitgroup_add(&r->writers);
    fiber_spawn(loop_current(), "stopper", log_stopper, r);
    enum err e = log_open(r, &number);
    SWEEP_EXPECT(r, e == OK || err_class(e) != ERR_CLASS_FATAL || e == ERR_CANCELLED || e == ERR_PERMISSION,
                 "the log cannot be opened: %s", err_name(e));
    for (unsigned i = 0; e == OK && i < 3; i++) {
        waitgroup_add(&r->writers);
        fiber_spawn(loop_current(), "writer", log_writer, r);
    }
    while (e == OK && r->writers.running > 1) fiber_sleep_ns(50 * NS_PER_MS);
    r->stopped = true;
    waitgroup_wait(&r->writers);
    if (e == OK) log_trim(r, s);
    objlog_destroy(r->log);
    r->log = NULL;
    store_close(s);
}

static void log_prepare(void *arg) {
    struct log_run *r = arg;
    log_life(r, ENTRIES / 2);
    SWEEP_EXPECT(r, r->base.acked == ENTRIES / 2, "entries cannot be appended though nothing is broken");
    r->base.acked = 0;
}
static void log_work(void *arg) {
    log_life(arg, ENTRIES);
}

static void log_check(void *arg) {
    struct log_run *r = arg;
    struct store *s = swept_store(false);
    uint64_t number;
    r->log = log_create(s);
    enum err e = log_open(r, &number);
    SWEEP_EXPECT(r, e == OK, "the log cannot be opened though nothing is broken: %s", err_name(e));
    for (unsigned i = 0; i < ENTRIES && e == OK; i++) {
        if (r->acked[i] && r->acked[i] - 1 >= r->boundary)
            SWEEP_EXPECT(r, r->found[i] == r->acked[i], "entry %u was acknowledged as %lu and lies at %lu", i,
                         r->acked[i] - 1, r->found[i] - 1);
        if (r->acked[i]) SWEEP_EXPECT(r, r->acked[i] - 1 < number, "the end went back below entry %u", i);
    }
    objlog_destroy(r->log);
    store_close(s);
}

static void an_object_log(void **state) {
    (void)state;
    static const struct sweep_piece p = {.name = "objlog",
                                         .size = sizeof(struct log_run),
                                         .classes = SIM_SWEEP_STORE,
                                         .prepare = log_prepare,
                                         .work = log_work,
                                         .check = log_check};
    static const struct sweep_piece fresh = {.name = "objlog-new",
                                             .size = sizeof(struct log_run),
                                             .classes = SIM_SWEEP_STORE,
                                             .work = log_work,
                                             .check = log_check};
    sweep_every_kind(&p);
    sweep_every_kind(&fresh);
}

/* --- The cluster log: a new cluster or an old one, topics made, changed and deleted, ids given out. */

enum { UNTRIED, REFUSED, ACKED, UNCLEAR };

struct cluster_run {
    struct sweep_run base;
    unsigned created[3], deleted, configured, added;
    int64_t first_id, ids_end;
    char cluster_id[32];
    bool second; /* not the first life */
};

static const char *const names[] = {"one", "two", "three"};

static unsigned outcome(struct cluster_run *r, enum err e) {
    if (e == OK) r->base.acked++;
    SWEEP_EXPECT(r, e == OK || e == ERR_CLOSED || e == ERR_CANCELLED || err_class(e) == ERR_CLASS_UNKNOWN,
                 "a commit of the only broker ended with %s", err_name(e));
    return e == OK ? ACKED : e == ERR_CLOSED ? REFUSED : UNCLEAR;
}

static struct meta *cluster_open(struct cluster_run *r, struct store *s, bool must) {
    struct meta *m = NULL;
    const char *why = NULL;
    enum err e = meta_open(&(struct meta_options){.env = s->env, .store = s, .node_id = 1}, &m, &why);
    if (e != OK) {
        SWEEP_EXPECT(r, why && strlen(why) > 20, "no reason was given for %s", err_name(e));
        SWEEP_EXPECT(r, !must, "the cluster cannot be opened though nothing is broken: %s: %s", err_name(e), why);
        SWEEP_EXPECT(r, e != ERR_CORRUPT && e != ERR_FENCED && e != ERR_FOREIGN && e != ERR_UNSUPPORTED,
                     "the only broker on a sound store is told %s: %s", err_name(e), why);
        return NULL;
    }
    char id[32];
    (void)snprintf(id, sizeof(id), "%s", meta_cluster_id(m));
    if (r->cluster_id[0]) SWEEP_EXPECT(r, strcmp(id, r->cluster_id) == 0, "the cluster has another id");
    memcpy(r->cluster_id, id, sizeof(id));
    return m;
}

struct closer {
    struct cluster_run *run;
    struct meta *meta;
    bool done;
    struct waitgroup group;
};

static void commits(struct cluster_run *r, struct meta *m) {
    struct uuid id[3];
    struct meta_config c = {(char *)"retention.ms", (char *)"1000"};
    for (unsigned i = 0; i < 3 && r->created[i] == UNTRIED; i++)
        r->created[i] = outcome(r, meta_topic_create(m, names[i], 2, 1, NULL, 0, &id[i]));
    if (r->created[0] == ACKED && r->configured == UNTRIED)
        r->configured = outcome(r, meta_topic_configure(m, &id[0], &c, 1));
    if (r->created[1] == ACKED && r->added == UNTRIED) r->added = outcome(r, meta_partitions_add(m, &id[1], 5));
    if (r->created[2] == ACKED && r->deleted == UNTRIED) r->deleted = outcome(r, meta_topic_delete(m, &id[2]));
    int64_t first;
    if (outcome(r, meta_producer_ids(m, 10, &first)) == ACKED) {
        SWEEP_EXPECT(r, first >= r->ids_end, "producer id %ld was given out twice", first);
        r->ids_end = first + 10;
    }
}

static void committer(void *arg) {
    struct closer *c = arg;
    commits(c->run, c->meta);
    c->done = true;
    waitgroup_done(&c->group);
}

static void cluster_work(void *arg) {
    struct cluster_run *r = arg;
    struct store *s = swept_store(true);
    struct closer c = {.run = r, .meta = cluster_open(r, s, false)};
    if (c.meta) {
        waitgroup_init(&c.group);
        waitgroup_add(&c.group);
        fiber_spawn(loop_current(), "committer", committer, &c);
        while (!c.done && !r->base.stop) fiber_sleep_ns(100 * NS_PER_MS);
        if (r->base.stop) {
            /* Whoever waits for a commit has to be told by the close, and is to be gone before it ends. */
            meta_close(c.meta);
            waitgroup_wait(&c.group);
        } else {
            waitgroup_wait(&c.group);
            meta_close(c.meta);
        }
    }
    store_close(s);
}

static void cluster_prepare(void *arg) {
    struct cluster_run *r = arg;
    for (unsigned life = 0; life < 3; life++) { /* so that there is something to replay and to clean */
        struct store *s = swept_store(true);
        struct meta *m = cluster_open(r, s, true);
        struct uuid id;
        char name[16];
        (void)snprintf(name, sizeof(name), "old%u", life);
        SWEEP_EXPECT(r, m && meta_topic_create(m, name, 1, 1, NULL, 0, &id) == OK, "a topic cannot be made");
        if (m) meta_close(m);
        store_close(s);
    }
    r->base.acked = 0;
}

static void expect_topic(struct cluster_run *r, const struct meta *m, unsigned i) {
    const struct meta_topic *t = meta_topic_by_name(m, names[i], strlen(names[i]));
    bool deleted = i == 2 && r->deleted != UNTRIED;
    if (r->created[i] == ACKED && !deleted) SWEEP_EXPECT(r, t, "topic %s was acknowledged and is gone", names[i]);
    if (i == 2 && r->deleted == ACKED) SWEEP_EXPECT(r, !t, "topic %s was deleted and is there", names[i]);
    if (r->created[i] == UNTRIED || r->created[i] == REFUSED)
        SWEEP_EXPECT(r, !t, "topic %s was never made and is there", names[i]);
    if (i == 0 && r->configured == ACKED && t)
        SWEEP_EXPECT(r, meta_topic_config(t, "retention.ms") != NULL, "a configuration was acknowledged and is gone");
    if (i == 1 && r->added == ACKED && t)
        SWEEP_EXPECT(r, t->partition_count == 5, "partitions were acknowledged and are gone");
}

static void cluster_check(void *arg) {
    struct cluster_run *r = arg;
    struct store *s = swept_store(true);
    struct meta *m = cluster_open(r, s, true);
    if (m) {
        for (unsigned i = 0; i < 3; i++) expect_topic(r, m, i);
        struct uuid id;
        int64_t first;
        SWEEP_EXPECT(r, meta_topic_create(m, "new", 1, 1, NULL, 0, &id) == OK, "no topic can be made afterwards");
        SWEEP_EXPECT(r, meta_producer_ids(m, 10, &first) == OK && first >= r->ids_end, "ids were given out twice");
        meta_close(m);
    }
    store_close(s);
}

static void the_cluster_log(void **state) {
    (void)state;
    static const struct sweep_piece fresh = {.name = "cluster-new",
                                             .size = sizeof(struct cluster_run),
                                             .classes = SIM_SWEEP_STORE,
                                             .work = cluster_work,
                                             .check = cluster_check};
    static const struct sweep_piece p = {.name = "cluster",
                                         .size = sizeof(struct cluster_run),
                                         .classes = SIM_SWEEP_STORE,
                                         .prepare = cluster_prepare,
                                         .work = cluster_work,
                                         .check = cluster_check};
    sweep_every_kind(&fresh);
    sweep_every_kind(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_of_a_store),
        cmocka_unit_test(an_object_log),
        cmocka_unit_test(the_cluster_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
