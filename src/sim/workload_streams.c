/* Workload "streams": the storage engine of one broker, whole: cluster log, ledger, WAL, log cache, upload,
 * checkpoints, merging of small ranges, deletion, reading back. A broker opens some
 * partitions, appends batches of several idempotent producers, trims, reads; it is killed, loses power, stands
 * still, stops in order, and starts again.
 *
 * Promises, for each partition:
 *  - what was acknowledged, and what a reader was shown, is there after every start, at its offset, byte for byte;
 *    offsets are contiguous;
 *  - nothing else is there but batches that were appended at that offset;
 *  - the state after a start (end, producers, segments, leader epochs, log start, and the table of every other
 *    partition) is the state of exactly the batches that are there; the leader epoch is higher than before;
 *  - the first batch that is found for a timestamp is the first one that there is;
 *  - the log start offset is one that was asked for, and not below one that was acknowledged;
 *  - while nothing is broken everything can be read; no object that is referred to is missing.
 *
 * Workload "rivals": the same without a WAL, on a store that two machines share. A second broker takes over while the
 * first stands still or goes on; topics are deleted (also of one broker with a WAL). In addition:
 *  - whoever was overtaken acknowledges, and shows, nothing that its successor does not have; it may give up.
 * There the successor's model begins as a copy of what the other one promised.
 *
 * All draw a durability class and stay inside what it survives (atlas.h). In some runs there are faults that are only
 * detected: objects rot, a machine is lost with its WAL. Then a start or a read may be refused; what is read is right all
 * the same, and a start that succeeds has everything. */
#include "sim/workload_streams_priv.h"

#include <stdio.h>
#include <string.h>

#include "sim/atlas.h"
#include "stream/object.h"
#include "stream/sizes.h"

bool streams_test_refusal(struct streams_test *t, enum err e) {
    bool refusal = t->detects && (e == ERR_CORRUPT || e == ERR_TRUNCATED || e == ERR_NOT_FOUND || e == ERR_GAP ||
                                  e == ERR_FOREIGN || e == ERR_VERSION || e == ERR_FENCED);
    t->detected |= refusal;
    return refusal;
}

/* --- A start. */

/* By the other machine, which was started later; or was started before, and stood still before it was elected. */
static bool may_be_overtaken(const struct side *side) {
    return side->superseded || (side->test->takeover > 0 && !side->test->over);
}

static void on_fatal(void *ctx, enum err why, const char *what) {
    struct broker_life *l = ctx;
    l->fatal = true;
    if (may_be_overtaken(l->side) && why == ERR_FENCED) return;
    if (streams_test_refusal(l->test, why)) return; /* an entry of its own that rotted reads as another's */
    sim_fail(l->test->world, "a broker that nobody has overtaken gave up: %s (%s)", what, err_name(why));
}

struct owner_query {
    struct meta *meta;
    struct incarnation dead;
};

static bool is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    struct owner_query *q = ctx;
    int32_t index;
    const struct meta_topic *t = meta_topic_of_stream(q->meta, id, &index);
    if (!t || t->partitions[index].owner.v != q->dead.v) return false;
    *epoch = t->partitions[index].epoch;
    return true;
}

static enum err open_engine(struct broker_life *l) {
    struct streams_test *t = l->test;
    const char *why = "";
    struct meta_options mo = {.env = l->env, .store = l->store, .node_id = 1, .rack = ""};
    enum err e = meta_open(&mo, &l->meta, &why);
    if (e != OK) return e;
    struct loop *loop = loop_current();
    l->loops[0] = loop;
    l->loop_count = t->shards ? t->shards : 1;
    for (unsigned i = 0; i < t->shards; i++) {
        if (env_loop_start(l->env, "shard", &l->loops[i]) != OK) return ERR_IO;
    }
    (void)snprintf(t->generation, sizeof(t->generation), "%s", meta_generation(l->meta));
    t->newest = meta_incarnation(l->meta);
    struct stream_wal_member members[MIRRORED + 1];
    unsigned member_count = mirror_members(t, members);
    struct streams_options so = {.env = l->env,
                                 .store = l->store,
                                 .generation = meta_generation(l->meta),
                                 .incarnation = meta_incarnation(l->meta),
                                 .wal_path = t->no_wal || t->mirrored ? NULL : WAL_PATH,
                                 .wal_size_bytes = t->wal_bytes,
                                 .wal_members = members,
                                 .wal_member_count = member_count,
                                 .open_store = mirror_open_bucket,
                                 .open_ctx = l,
                                 .wal_mirror_stops = t->mirror_stops,
                                 .wal_mirror_timeout_ms = t->mirror_timeout_ms,
                                 .cache_log_bytes = t->cache_bytes,
                                 .cache_block_bytes = t->block_cache_bytes,
                                 .read_ahead_bytes = t->read_ahead_bytes,
                                 .read_gets_max = t->read_gets,
                                 .upload_bytes = t->upload_bytes,
                                 .upload_interval_ms = t->upload_interval_ms,
                                 .object_flush_interval_ms = t->flush_interval_ms,
                                 .checkpoint_entries = t->checkpoint_entries,
                                 .checkpoint_interval_ms = t->checkpoint_interval_ms,
                                 .producer_expiration_ms = 86400000,
                                 .shards = l->loops,
                                 .shard_count = l->loop_count,
                                 .log_loop = loop,
                                 .fatal = on_fatal,
                                 .ctx = l};
    e = streams_open(&so, &l->streams, &why);
    if (e != OK) return e;
    struct meta_broker dead;
    while (e == OK && meta_unrecovered(l->meta, &dead, 1) > 0) {
        struct owner_query q = {l->meta, dead.incarnation};
        uint64_t entry = 0;
        e = streams_recover(l->streams, dead.incarnation, is_current, &q, &entry, &why);
        if (e == OK && !t->over && !l->side->stop_asked && sim_chance(t->world, t->crash_recovering) &&
            sim_fault_allowed(t->world, SIM_CRASH_KILL)) {
            fiber_sleep_ns(sim_between(t->world, 0, 500) * NS_PER_MS);
            sim_node_crash(l->side->broker, SIM_KILL);
            fiber_sleep_ns(NS_PER_S);
        }
        if (e == OK) e = meta_recovered(l->meta, dead.incarnation, entry);
    }
    if (e == OK) e = streams_start(l->streams, &why);
    return e;
}

static void nothing(void *ctx) {
    (void)ctx;
}

static void close_there(void *arg) {
    struct part *p = arg;
    stream_close(p->stream);
    state_deinit(&p->live);
    p->stream = NULL;
}

static void open_there(void *arg) {
    struct part *p = arg;
    struct broker_life *l = p->life;
    const struct meta_topic *topic = meta_topic_by_name(l->meta, l->topic, strlen(l->topic));
    p->opened =
        stream_open(l->streams, topic->partitions[p->index].stream, p->epoch, nothing, NULL, &p->live, &p->stream);
    if (p->opened != OK) {
        if (!l->side->superseded && !l->fatal && !streams_test_refusal(l->test, p->opened))
            sim_fail_about(l->test->world, subject_of(p), "partition %u cannot be opened: %s", p->index,
                           err_name(p->opened));
        p->stream = NULL;
        return;
    }
    if (l->side->superseded) { /* what it knows may be old */
        close_there(p);
        p->opened = ERR_STALE;
        return;
    }
    part_check_start(p);
    part_choose_durability(p);
}

static bool open_parts(struct broker_life *l) {
    struct streams_test *t = l->test;
    (void)snprintf(l->topic, sizeof(l->topic), "t%u", t->topic_number);
    if (!meta_topic_by_name(l->meta, l->topic, strlen(l->topic))) {
        if (l->side->superseded) return false;
        if (t->drop_asked) { /* it was done, whatever its answer */
            (void)snprintf(l->topic, sizeof(l->topic), "t%u", ++t->topic_number);
            memset(l->side->models, 0, sizeof(l->side->models));
            for (unsigned i = 0; i < PARTITIONS_MAX; i++) t->holders[i] = l->side;
            t->drop_asked = false;
        }
        struct uuid id;
        if (meta_topic_create(l->meta, l->topic, (int32_t)t->partitions, 1, NULL, 0, &id) != OK) return false;
    }
    for (unsigned i = 0; i < t->partitions; i++) {
        const struct meta_topic *topic = meta_topic_by_name(l->meta, l->topic, strlen(l->topic));
        struct part *p = &l->parts[i];
        *p = (struct part){.life = l, .model = &l->side->models[i], .index = i, .epoch = topic->partitions[i].epoch};
        p->home = l->loops[stream_home(topic->partitions[i].stream, l->loop_count)];
        loop_call(p->home, open_there, p);
        if (p->opened != OK) return false;
        if (!t->over) part_start_load(p); /* at once: the others are opened while it runs */
        if (!t->over && sim_chance(t->world, t->slow_open)) fiber_sleep_ns(sim_between(t->world, 0, 3000) * NS_PER_MS);
    }
    return !sim_failed(t->world);
}

static void close_engine(struct broker_life *l) {
    for (unsigned i = 0; i < l->test->partitions; i++) {
        struct part *p = &l->parts[i];
        if (!p->stream) continue;
        loop_call(p->home, close_there, p);
    }
    l->test->closing = true;
    if (l->streams) streams_close(l->streams);
    if (l->meta) meta_close(l->meta);
    store_close(l->store);
}

/* The topic is deleted while its last records are on their way to the ledger; then there is a new one. False: it was
 * not done. */
static bool drop_topic(struct broker_life *l) {
    struct streams_test *t = l->test;
    struct stream_id streams[PARTITIONS_MAX];
    const struct meta_topic *topic = meta_topic_by_name(l->meta, l->topic, strlen(l->topic));
    for (unsigned i = 0; i < t->partitions; i++) streams[i] = topic->partitions[i].stream;
    struct uuid id = topic->id;
    t->drop_asked = true;
    sim_note(t->world, l->side->broker, SIM_SUBJECT_ALL, "deletes topic %s", l->topic);
    if (meta_topic_delete(l->meta, &id) != OK) return false;
    for (unsigned i = 0; i < t->partitions; i++) l->parts[i].gone = true;
    waitgroup_wait(&l->group);
    for (unsigned i = 0; i < t->partitions; i++) {
        if (l->parts[i].stream) loop_call(l->parts[i].home, close_there, &l->parts[i]);
        streams_drop(l->streams, streams[i]);
    }
    return true;
}

static void drop_topics(struct broker_life *l) {
    struct streams_test *t = l->test;
    while (!t->over && !l->side->stop_asked && !l->side->superseded && !l->fatal && !sim_failed(t->world) &&
           sim_chance(t->world, t->drop)) {
        fiber_sleep_ns(sim_between(t->world, 0, 5000) * NS_PER_MS);
        if (l->side->superseded || !drop_topic(l) || !open_parts(l)) break;
    }
}

static void broker_main(void *arg) {
    struct side *side = arg;
    struct streams_test *t = side->test;
    struct broker_life l = {.test = t, .side = side, .env = loop_current()->env};
    side->env = l.env;
    l.store = sim_run_store(t->run, l.env, !t->shared);
    t->starts++;
    sim_note(t->world, side->broker, SIM_SUBJECT_ALL, "starts");
    waitgroup_init(&l.group);
    mirror_starts(&l);
    enum err e = open_engine(&l);
    if (e == OK) {
        mirror_started(&l);
        t->closing = false; /* and its membership is the newest */
    }
    sim_note(t->world, side->broker, SIM_SUBJECT_ALL, "has started: %s", err_name(e));
    if (may_be_overtaken(side) && (side->superseded || e == ERR_FENCED)) {
        /* the other one goes on */
    } else if (t->shared && e == ERR_FENCED) {
        /* An election that a crash of this same machine left under way landed during the start: started again. */
    } else if (e == ERR_NOT_FOUND && side->missed) {
        /* What it does not reach may be what it needs: refused, and started again. */
    } else if (e == ERR_NOT_FOUND && mirror_never_made(t)) {
        /* Refused until an operator has made them. */
    } else if (e == ERR_CORRUPT || e == ERR_NOT_FOUND || e == ERR_FOREIGN || e == ERR_TRUNCATED || e == ERR_GAP ||
               e == ERR_VERSION || e == ERR_FENCED) {
        if (!streams_test_refusal(t, e)) sim_fail(t->world, "a start failed for good: %s", err_name(e));
    }
    if (e == OK && open_parts(&l)) {
        for (unsigned i = 0; i < t->partitions; i++) {
            if (t->over) {
                loop_call(l.parts[i].home, part_read_all, &l.parts[i]);
                if (!l.parts[i].ok)
                    sim_fail_about(t->world, subject_of(&l.parts[i]),
                                   "partition %u cannot be read though nothing is broken", i);
            }
        }
        struct incarnation oldest;
        if (sim_chance(t->world, 0.7) || t->over) {
            e = streams_sweep(l.streams, &oldest); /* a sweep that fails leaves it to the next start */
        }
        if (t->over) t->audited = true;
        if (t->drop > 0) drop_topics(&l);
    }
    waitgroup_wait(&l.group);
    if (t->world->faults_off && !t->detects && e == OK && l.parts[0].stream && !l.fatal && !side->superseded &&
        !sim_failed(t->world))
        look_settled(&l);
    close_engine(&l);
}

/* --- A run. */

void streams_test_choose_class(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->detects = sim_chance(w, 0.15);
    sim_faults_within(w,
                      t->no_wal  ? SIM_CLASS_OBJECT
                      : t->marks ? SIM_CLASS_WAL_DEVICE
                                 : SIM_CLASS_WAL_FILE,
                      t->detects ? SIM_DETECTS : SIM_SURVIVES);
    if (t->detects) w->faults.chance[SIM_STORE_ROT] = sim_chance(w, 0.3) ? 0 : sim_chance(w, 0.5) ? 0.001 : 0.02;
}

void streams_test_choose_load(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->partitions = (unsigned)sim_between(w, 1, PARTITIONS_MAX);
    t->value_max = sim_chance(w, 0.3) ? 20000 : 300;
    t->wal_bytes = WAL_RING_MIN + WAL_RING_MIN / 8 + 4096 * sim_between(w, 0, 20);
    t->upload_bytes = sim_chance(w, 0.5) ? 20000 : 2000000;
    t->cache_bytes = sim_chance(w, 0.5) ? 0 : 64u << 20;
    t->block_cache_bytes = sim_chance(w, 0.5) ? (sim_chance(w, 0.5) ? 1000 : 200000) : 16u << 20;
    t->read_ahead_bytes = sim_chance(w, 0.5) ? 0 : 50000;
    t->read_gets = (unsigned)sim_between(w, 1, 8);
    t->followers = sim_chance(w, 0.5) ? 0 : (unsigned)sim_between(w, 1, 5);
    t->upload_interval_ms = (uint32_t)sim_between(w, 200, 20000);
    t->checkpoint_entries = (uint32_t)sim_between(w, 1, 12);
    t->checkpoint_interval_ms = sim_chance(w, 0.5) ? 0 : (uint32_t)sim_between(w, 500, 30000);
    t->slow_open = sim_chance(w, 0.5) ? 0.5 : 0;
    t->trim = sim_chance(w, 0.3) ? 0.5 : 0.05;
    if (sim_chance(w, 0.3)) t->checkpoint_entries = 100;
    t->shards = sim_chance(w, 0.5) ? (unsigned)sim_between(w, 1, 3) : 0;
    t->crash_recovering = sim_chance(w, 0.3) ? 0.3 : 0;
    t->crash = sim_chance(w, 0.4) ? 0.3 : sim_chance(w, 0.5) ? 0.08 : 0.02;
    t->no_wal = sim_chance(w, 0.25);
    t->shared = sim_chance(w, 0.3);
    t->by_ledger = t->no_wal ? 1 : sim_chance(w, 0.5) ? (sim_chance(w, 0.5) ? 1 : 0.5) : 0;
    t->change = sim_chance(w, 0.5) ? 0.5 : 0;
    t->wide = sim_chance(w, 0.2) ? 0.3 : 0;
    t->flush_interval_ms = sim_chance(w, 0.2) ? (uint32_t)sim_between(w, 1, 500) : 0;
    if (sim_chance(w, 0.2)) w->faults.chance[SIM_DISK_WRITE_FAILS] = 0.05;
}

/* The other machine takes over, while this one stands still or goes on. */
static void take_turns(struct streams_test *t) {
    struct side *now = t->current, *next = now == &t->sides[0] ? &t->sides[1] : &t->sides[0];
    if (t->init_begun) return;
    if (sim_node_up(next->broker)) { /* overtaken some time ago, and still running */
        bool wakes = t->marks && next->broker->paused_until_ns > t->world->now_ns; /* and may do harm then */
        if (sim_chance(t->world, wakes ? 0.95 : 0.5) || !sim_fault_allowed(t->world, SIM_CRASH_KILL)) return;
        sim_node_crash(next->broker, SIM_KILL);
    }
    if (sim_chance(t->world, t->marks ? 0.8 : 0.5)) sim_node_pause(now->broker, 2 * sim_node_pause_ns(t->world));
    now->superseded = true;
    next->superseded = next->stop_asked = false;
    t->current = next;
    sim_note(t->world, next->broker, SIM_SUBJECT_ALL, "takes over");
    sim_node_start(next->broker, broker_main, next);
}

/* What a broker would leave that dies while it puts large objects together; in these short runs few do that. */
static void leave_upload(struct streams_test *t) {
    if (!t->shared || !t->generation[0] || !sim_chance(t->world, 0.1)) return;
    char key[OBJECT_KEY_MAX];
    object_key(key, t->generation, (struct object_id){t->newest, sim_between(t->world, 1, 1000), OBJECT_DATA});
    sim_bucket_leave_upload(t->world->bucket, key);
}

static void streams_load(struct streams_test *t) {
    struct sim_world *w = t->world;
    uint64_t least_ns = (t->marks ? 180 : 30) * NS_PER_S; /* an operator takes half a minute each time */
    uint64_t end_ns = w->now_ns + sim_run_load_after_ns(t->run, least_ns, 2), most_ns = end_ns + 900 * NS_PER_S;
    if (t->run->options->load_ns > 0) most_ns = end_ns;
    /* A start takes long on a store that fails half the time; a load that nothing came of proves nothing. */
    while ((w->now_ns < end_ns || (t->run->acked < 50 && w->now_ns < most_ns && !t->detected)) && !sim_failed(w)) {
        struct side *now = t->current;
        look_at_all(t);
        if (!sim_node_up(now->broker)) {
            leave_upload(t);
            now->stop_asked = false;
            sim_node_start(now->broker, broker_main, now);
        }
        fiber_sleep_ns(sim_between(w, 10, 9000) * NS_PER_MS);
        mirror_trouble(t);
        bool races = t->racing == now && sim_node_up(now->broker) && now->broker->front_pause_ns == 0;
        if (races) {
            t->racing = NULL;
            take_turns(t);
            continue;
        }
        if (sim_chance(w, t->crash / 2)) sim_node_pause(now->broker, sim_node_pause_ns(w));
        if (sim_chance(w, t->crash / 4))
            (void)sim_node_lose_machine(now->broker);
        else if (sim_chance(w, t->crash))
            sim_run_crash(t->run, now->broker);
        else if (sim_chance(w, 0.1)) {
            sim_note(w, now->broker, SIM_SUBJECT_ALL, "is asked to stop");
            now->stop_asked = true;
        }
        if (t->takeover > 0 && sim_chance(w, t->takeover)) take_turns(t);
    }
}

static void stop_all(struct streams_test *t) {
    unsigned count = t->takeover > 0 ? 2 : 1;
    sim_run_heal(t->run);
    mirror_heal(t);
    for (unsigned i = 0; i < count; i++) t->sides[i].stop_asked = true;
    for (unsigned i = 0; i < count && !sim_failed(t->world); i++) {
        if (!sim_run_wait_down(t->run, t->sides[i].broker, 3600 * NS_PER_S))
            sim_fail(t->world, "the broker does not stop though nothing is broken");
    }
}

void streams_test_run(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->current = &t->sides[0];
    w->bucket->deleted = look_at_all; /* whatever is deleted: nothing may need it */
    w->bucket->deleted_ctx = t;
    for (unsigned i = 0; i < PARTITIONS_MAX; i++) t->holders[i] = t->current;
    for (unsigned i = 0; i < ARRAY_LEN(t->sides); i++) t->sides[i].test = t;
    streams_load(t);
    stop_all(t);
    look_at_all(t);
    fiber_sleep_ns(SIM_RUN_LATE_NS);
    look_at_all(t);
    t->over = true;
    for (unsigned i = 0; i < 3 && !t->audited && !sim_failed(w); i++) {
        sim_node_start(t->current->broker, broker_main, t->current);
        if (!sim_run_wait_down(t->run, t->current->broker, 3600 * NS_PER_S))
            sim_fail(w, "the last start does not end though nothing is broken");
    }
    if (!sim_failed(w) && !t->audited && !t->detected)
        sim_fail(w, "the broker does not start though nothing is broken");
    if (!sim_failed(w) && t->audited && !t->detects) look_closed(t);
}

struct streams_test *streams_test_create(struct sim_run *r) {
    struct streams_test *t = MEM_NEW(sim_run_mem(r), struct streams_test);
    t->run = r;
    t->world = r->world;
    t->sides[0].broker = sim_node_create(r->world, "broker");
    t->memory = sim_check_memory_create(sim_run_mem(r));
    return t;
}

void workload_streams(struct sim_run *r) {
    struct streams_test *t = streams_test_create(r);
    streams_test_choose_load(t);
    streams_test_choose_class(t);
    streams_test_run(t);
}

void workload_rivals(struct sim_run *r) {
    struct streams_test *t = streams_test_create(r);
    struct sim_world *w = r->world;
    t->sides[1].broker = sim_node_create(w, "rival");
    streams_test_choose_load(t);
    if (sim_chance(w, 0.7)) {
        t->no_wal = t->shared = true;
        t->by_ledger = 1;
        t->change = 0;
        t->takeover = sim_chance(w, 0.8) ? 0.3 : 0.05;
    }
    t->drop = t->takeover == 0 || sim_chance(w, 0.5) ? 0.5 : 0;
    streams_test_choose_class(t);
    streams_test_run(t);
}
