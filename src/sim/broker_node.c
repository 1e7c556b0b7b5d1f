#include "sim/broker_node.h"

#include <stdio.h>
#include <string.h>

#include "kafka/error.h"
#include "sim/atlas.h"
#include "sim/disk.h"
#include "sim/history.h"
#include "sim/net.h"
#include "sim/sim_store.h"
#include "stream/wal.h"

#define DEVICE_PATH_SIZE 24u
#define DEVICE_BYTES ((uint64_t)16 << 20)
#define STARTS_MAX 5u
#define LEFTOVERS_NS (150 * NS_PER_S)     /* in which a start has swept and merged, */
#define LEFTOVERS_LOOK_NS (30 * NS_PER_S) /* unless objects still become fewer: hours leave more than minutes */

static struct sim_broker_life *life_of(const struct sim_broker_seat *s) {
    return &s->broker->lives[s->life];
}

/* The process ends, as `oxbow serve` does it. */
static void on_fatal(void *ctx, enum err why, const char *what) {
    struct sim_broker_seat *s = ctx;
    struct sim_broker *b = s->broker;
    if (!life_of(s)->rivalled) {
        sim_fail(b->world, "the only broker gave up: %s (%s)", what, err_name(why));
        return;
    }
    sim_note(b->world, s->node, SIM_SUBJECT_ALL, "gives up: %s (%s)", what, err_name(why));
    sim_node_crash(s->node, SIM_KILL);
}

void sim_broker_set(struct config *c, const char *name, const char *value) {
    char why[CONFIG_WHY_SIZE];
    enum err e = config_set(c, name, value, why, sizeof(why));
    ASSERT(e == OK);
}

void sim_broker_listen(struct config *c, struct sim_node *n) {
    char address[64], listener[96];
    sim_net_address(n, address, sizeof(address));
    (void)snprintf(listener, sizeof(listener), "PLAINTEXT://%s:%u", address, SIM_BROKER_PORT);
    sim_broker_set(c, "listeners", listener);
}

struct broker_options sim_broker_options(struct store *store, const struct config *config, char *why_text,
                                         size_t why_size, void (*fatal)(void *ctx, enum err why, const char *what),
                                         void *ctx) {
    return (struct broker_options){.env = loop_current()->env,
                                   .loop0 = loop_current(),
                                   .store = store,
                                   .config = config,
                                   .why_text = why_text,
                                   .why_size = why_size,
                                   .processors = 2,
                                   .fatal = fatal,
                                   .ctx = ctx};
}

static void set_number(struct config *c, const char *name, unsigned value) {
    char text[24];
    (void)snprintf(text, sizeof(text), "%u", value);
    sim_broker_set(c, name, text);
}

static const char *device_path(unsigned device, char *out) {
    (void)snprintf(out, DEVICE_PATH_SIZE, "/dev/wal%u", device);
    return out;
}

static void configure(const struct sim_broker_seat *s, struct config *config) {
    const struct sim_broker *b = s->broker;
    char path[DEVICE_PATH_SIZE], url[64] = "none";
    if (b->wal == SIM_BROKER_WAL_FILE) (void)snprintf(url, sizeof(url), "file:///var/wal?size=16MiB");
    if (b->wal == SIM_BROKER_WAL_DEVICE)
        (void)snprintf(url, sizeof(url), "block://%s?takeover=mark", device_path(life_of(s)->device, path));
    sim_broker_listen(config, s->node);
    set_number(config, "node.id", b->own_ids ? (unsigned)(s - b->seats) + 1 : 1);
    sim_broker_set(config, "wal.url", url);
    sim_broker_set(config, "upload.bytes", b->upload_bytes);
    sim_broker_set(config, "upload.interval.ms", b->upload_interval);
    sim_broker_set(config, "object.flush.interval.ms", b->flush_interval);
    sim_broker_set(config, "checkpoint.interval.ms", b->checkpoint_interval);
    sim_broker_set(config, "log.retention.check.interval.ms", b->retention_interval);
    sim_broker_set(config, "oxbow.durability", b->durability);
    sim_broker_set(config, "log.cleaner.enable", b->clean_backoff[0] ? "true" : "false");
    if (b->clean_backoff[0]) {
        sim_broker_set(config, "log.cleaner.backoff.ms", b->clean_backoff);
        sim_broker_set(config, "log.cleaner.io.max.bytes.per.second", b->clean_bytes);
    }
    if (b->offsets_segment[0]) {
        sim_broker_set(config, "offsets.topic.segment.bytes", b->offsets_segment);
        sim_broker_set(config, "log.cleaner.min.cleanable.ratio", "0");
        sim_broker_set(config, "log.cleaner.delete.retention.ms", b->tombstone_retention);
    }
    sim_broker_set(config, "log.message.timestamp.after.max.ms", "9223372036854775807"); /* clocks are hours off */
    sim_broker_set(config, "shards", b->shards);
    sim_broker_set(config, "offsets.topic.num.partitions", "2");
    sim_broker_set(config, "group.initial.rebalance.delay.ms", "300");
}

/* Nothing on disk or in the store may be such that no start can succeed. */
static bool is_for_good(enum err e) {
    return e == ERR_CORRUPT || e == ERR_FOREIGN || e == ERR_GAP || e == ERR_VERSION;
}

static void next_device(struct sim_broker *b) {
    char path[DEVICE_PATH_SIZE];
    struct sim_file *device = sim_device_create(b->world, DEVICE_BYTES);
    /* As `oxbow wal init` leaves it. */
    uint8_t id[16], superblock[WAL_SUPERBLOCK_SIZE];
    for (unsigned i = 0; i < sizeof(id); i++) id[i] = (uint8_t)sim_between(b->world, 0, 255);
    struct wal_superblock s = wal_superblock_new(id, DEVICE_BYTES - WAL_RING_START);
    s.sequence = 1;
    wal_superblock_encode(&s, superblock);
    sim_file_poke(device, 0, superblock, sizeof(superblock));
    b->devices =
        mem_grow(sim_run_mem(b->run), b->devices, b->device_count, &b->device_capacity, sizeof(struct sim_file *));
    b->devices[b->device_count] = device;
    b->device = ++b->device_count;
    for (unsigned i = 0; i < b->machine_count; i++)
        sim_device_attach(b->seats[i].node, device_path(b->device, path), device);
}

/* What an operator does who reads why it does not start. */
static void start_failed(struct sim_broker_seat *s, enum err e, const char *why) {
    struct sim_broker *b = s->broker;
    sim_note(b->world, s->node, SIM_SUBJECT_ALL, "does not start: %s", err_name(e));
    if (is_for_good(e) && !life_of(s)->rivalled)
        sim_fail(b->world, "a start failed for good: %s (%s)", why, err_name(e));
    if (b->wal != SIM_BROKER_WAL_DEVICE || life_of(s)->device != b->device) return;
    if (strstr(why, "give it back")) b->device = b->device % b->device_count + 1;
}

/* From now on the newest that serves is the one that knows. */
static void note_overtaken(struct sim_broker *b) {
    uint64_t newest = 0;
    for (size_t i = 1; i < b->life_count; i++) {
        if (b->lives[i].incarnation > newest) newest = b->lives[i].incarnation;
    }
    for (unsigned i = 0; i < b->machine_count; i++) {
        struct sim_broker_life *life = life_of(&b->seats[i]);
        if (life->overtaken || life->incarnation == 0 || life->incarnation == newest) continue;
        life->overtaken = true;
        life->overtaken_ns = sim_node_now_ns(b->seats[i].node);
    }
}

static void broker_main(void *arg) {
    struct sim_broker_seat *s = arg;
    struct sim_broker *b = s->broker;
    struct env *env = loop_current()->env;
    struct config config;
    config_init_defaults(&config, env->mem);
    configure(s, &config);
    char why_text[512];
    struct store *store = sim_run_store(b->run, env, !b->shared);
    struct broker_options o = sim_broker_options(store, &config, why_text, sizeof(why_text), on_fatal, s);
    struct broker *broker = NULL;
    const char *why = NULL;
    enum err e = broker_start(&o, &broker, &why);
    if (e == OK) {
        life_of(s)->incarnation = broker_incarnation(broker);
        note_overtaken(b);
        bool without_wal = b->wal == SIM_BROKER_WAL_DEVICE && atomic_load(&env->metrics->gauges[M_WAL_FAILED]) > 0;
        life_of(s)->without_wal = without_wal;
        if (without_wal && life_of(s)->device == b->device) next_device(b);
        sim_note(b->world, s->node, SIM_SUBJECT_ALL, "serves as incarnation %lu", life_of(s)->incarnation);
        while (!s->stop_asked && !sim_failed(b->world)) fiber_sleep_ns(50 * NS_PER_MS);
        sim_note(b->world, s->node, SIM_SUBJECT_ALL, "stops");
        broker_stop(broker);
    } else {
        start_failed(s, e, why);
    }
    store_close(store);
    config_deinit(&config);
}

/* --- Its life. */

static void start(struct sim_broker *b, unsigned machine) {
    struct sim_broker_seat *s = &b->seats[machine];
    b->lives = mem_grow(sim_run_mem(b->run), b->lives, b->life_count, &b->life_capacity, sizeof(*b->lives));
    s->life = b->life_count++;
    s->stop_asked = false;
    b->lives[s->life] = (struct sim_broker_life){.machine = machine, .device = b->device};
    for (unsigned i = 0; i < b->machine_count; i++) {
        if (i == machine || !sim_node_up(b->seats[i].node)) continue;
        life_of(&b->seats[i])->rivalled = life_of(s)->rivalled = true;
    }
    sim_note(b->world, s->node, SIM_SUBJECT_ALL, "starts");
    sim_node_start(s->node, broker_main, s);
}

static void choose_kind(struct sim_broker *b) {
    struct sim_world *w = b->world;
    b->wal = sim_chance(w, 0.4)   ? SIM_BROKER_WAL_NONE
             : sim_chance(w, 0.3) ? SIM_BROKER_WAL_DEVICE
                                  : SIM_BROKER_WAL_FILE;
    b->shared = b->wal == SIM_BROKER_WAL_DEVICE || sim_chance(w, 0.5);
    /* A folder is locked by one machine, and so is a disk. */
    b->moves = b->wal != SIM_BROKER_WAL_FILE && b->shared;
    b->machine_count = b->moves ? (unsigned)sim_between(w, 2, SIM_BROKER_MACHINES) : 1;
    b->takeover = b->moves && sim_chance(w, 0.6) ? (sim_chance(w, 0.5) ? 0.2 : 0.05) : 0;
    b->races = b->wal == SIM_BROKER_WAL_DEVICE && sim_chance(w, 0.7);
    b->lulls = b->moves && sim_chance(w, 0.5);
    b->own_ids = sim_chance(w, 0.5);
    static const enum sim_class classes[] = {
        [SIM_BROKER_WAL_NONE] = SIM_CLASS_OBJECT,
        [SIM_BROKER_WAL_FILE] = SIM_CLASS_WAL_FILE,
        [SIM_BROKER_WAL_DEVICE] = SIM_CLASS_WAL_DEVICE,
    };
    sim_faults_for(w, classes[b->wal]);
}

static bool device_is(const struct sim_file *device, const uint8_t wal_id[16]) {
    struct wal_superblock newest = {0};
    for (unsigned slot = 0; slot < 2; slot++) {
        uint8_t bytes[WAL_SUPERBLOCK_SIZE];
        struct wal_superblock s;
        if (sim_file_peek(device, slot * (uint64_t)ENV_FILE_ALIGN, bytes, sizeof(bytes)) == sizeof(bytes) &&
            wal_superblock_decode(bytes, sizeof(bytes), &s) == OK && s.sequence > newest.sequence)
            newest = s;
    }
    return memcmp(newest.wal_id, wal_id, sizeof(newest.wal_id)) == 0;
}

/* The WAL that a partition's owner names may hold records that are nowhere else: nobody begins it anew. */
static void wal_look(void *ctx, const struct sim_check_stream *s) {
    static const uint8_t none[16];
    const struct sim_broker *b = ctx;
    if (memcmp(s->wal_id, none, sizeof(none)) == 0) return;
    for (unsigned i = b->device_count; i > 0; i--) {
        if (device_is(b->devices[i - 1], s->wal_id)) return;
    }
    sim_fail(b->world, "%s-%d: its owner %lu names a WAL that lies on no device any more", s->topic, s->partition,
             s->owner.v);
}

/* What lies in the bucket, at any moment. */
static void look(void *arg) {
    struct sim_broker *b = arg;
    struct sim_check_options o = {.memory = b->memory, .exclusive = !b->shared, .ctx = b};
    if (b->wal == SIM_BROKER_WAL_DEVICE) o.stream = wal_look;
    (void)sim_check_store(b->world, NULL, &o);
}

void sim_broker_init(struct sim_broker *b, struct sim_run *r) {
    struct sim_world *w = r->world;
    *b = (struct sim_broker){.run = r, .world = w, .memory = sim_check_memory_create(sim_run_mem(r))};
    w->bucket->deleted = look; /* whatever is deleted: nothing may need it */
    w->bucket->deleted_ctx = b;
    choose_kind(b);
    b->crash = sim_chance(w, 0.3) ? 0 : sim_chance(w, 0.5) ? 0.05 : 0.2;
    (void)snprintf(b->upload_bytes, sizeof(b->upload_bytes), "%lu", sim_chance(w, 0.5) ? 65536ul : 4ul << 20);
    (void)snprintf(b->upload_interval, sizeof(b->upload_interval), "%lu",
                   sim_between(w, 50, sim_chance(w, 0.4) ? 60000 : 5000));
    (void)snprintf(b->flush_interval, sizeof(b->flush_interval), "%lu",
                   sim_chance(w, 0.2) ? sim_between(w, 1, 300) : 0ul);
    (void)snprintf(b->checkpoint_interval, sizeof(b->checkpoint_interval), "%lu",
                   sim_chance(w, 0.5) ? sim_between(w, 500, 20000) : 300000ul);
    (void)snprintf(b->retention_interval, sizeof(b->retention_interval), "%lu", sim_between(w, 500, 10000));
    (void)snprintf(b->shards, sizeof(b->shards), "%lu", sim_between(w, 1, 2));
    (void)snprintf(b->durability, sizeof(b->durability), "%s", sim_chance(w, 0.3) ? "object" : "wal");
    b->lives = mem_grow(sim_run_mem(r), b->lives, 0, &b->life_capacity, sizeof(*b->lives));
    b->lives[b->life_count++] = (struct sim_broker_life){0};
    for (unsigned i = 0; i < b->machine_count; i++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "broker%u", i);
        b->seats[i] = (struct sim_broker_seat){.broker = b, .node = sim_node_create(w, name)};
    }
    if (b->wal == SIM_BROKER_WAL_DEVICE) next_device(b);
}

void sim_broker_deinit(struct sim_broker *b) {
    for (unsigned i = 0; i < b->device_count; i++) sim_device_unref(b->devices[i]);
    mem_free(sim_run_mem(b->run), b->devices);
    mem_free(sim_run_mem(b->run), b->lives);
    b->lives = NULL;
}

struct sim_node *sim_broker_node(const struct sim_broker *b) {
    return b->seats[b->at].node;
}

enum err sim_broker_connect(struct sim_broker *b, struct sim_client *c, bool any) {
    char host[64];
    unsigned machine = b->at;
    if (any && b->machine_count > 1 && sim_chance(b->world, 0.2))
        machine = (unsigned)sim_between(b->world, 0, b->machine_count - 1);
    for (unsigned i = 0; any && i < b->machine_count; i++) {
        if (b->lives[b->seats[i].life].overtaken && sim_node_up(b->seats[i].node) && sim_chance(b->world, 0.2))
            machine = i;
    }
    sim_net_address(b->seats[machine].node, host, sizeof(host));
    enum err e = sim_client_open(c, host, SIM_BROKER_PORT);
    if (e == OK) c->peer = b->seats[machine].life;
    return e;
}

void sim_broker_strike(struct sim_broker *b, const struct sim_client *c) {
    struct sim_world *w = b->world;
    struct sim_broker_seat *s = &b->seats[b->lives[c->peer].machine];
    if (s->life != c->peer || !sim_node_up(s->node) || w->faults_off) return;
    if (b->moves && sim_chance(w, 0.4) && sim_node_lose_machine(s->node)) return;
    enum sim_crash kind = sim_chance(w, 0.3) ? SIM_KILL : SIM_POWER_CUT;
    if (sim_fault_allowed(w, kind == SIM_KILL ? SIM_CRASH_KILL : SIM_CRASH_POWER)) sim_node_crash(s->node, kind);
}

uint64_t sim_broker_incarnation(const struct sim_broker *b, const struct sim_client *c) {
    return b->lives[c->peer].incarnation;
}

bool sim_broker_overtaken(const struct sim_broker *b, const struct sim_client *c, uint64_t ago_ns) {
    const struct sim_broker_life *life = &b->lives[c->peer];
    if (!life->overtaken || b->seats[life->machine].life != c->peer) return false;
    return sim_node_now_ns(b->seats[life->machine].node) - life->overtaken_ns >= ago_ns;
}

bool sim_broker_make_topic(struct sim_client *c, const char *name, unsigned partitions) {
    struct arena a;
    arena_init(&a, c->env->mem);
    struct kafka_create_topics_request_topic topic;
    struct kafka_create_topics_request q;
    struct kafka_create_topics_response r;
    kafka_create_topics_request_topic_init(&topic);
    kafka_create_topics_request_init(&q);
    topic.name = kafka_string_of(name);
    topic.num_partitions = (int32_t)partitions;
    topic.replication_factor = 1;
    q.topics.items = &topic;
    q.topics.count = 1;
    enum err e = sim_client_call(c, KAFKA_API_CREATE_TOPICS, 4, &q, 40 * NS_PER_S, &a, &r);
    bool made = e == OK && r.topics.count == 1 &&
                (r.topics.items[0].error_code == 0 || r.topics.items[0].error_code == KAFKA_TOPIC_ALREADY_EXISTS);
    arena_deinit(&a);
    return made;
}

void sim_broker_begin(struct sim_broker *b, bool (*first)(void *ctx, struct sim_client *c), void *ctx) {
    struct sim_world *w = b->world;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    uint64_t give_up_ns = w->now_ns + 600 * NS_PER_S;
    bool made = false, off = w->faults_off;
    w->faults_off = true;
    while (!made && w->now_ns < give_up_ns && !sim_failed(w)) {
        if (!sim_node_up(sim_broker_node(b))) start(b, b->at);
        fiber_sleep_ns(200 * NS_PER_MS);
        if (b->lives[b->seats[b->at].life].incarnation == 0) continue;
        if (!c.conn && sim_broker_connect(b, &c, false) != OK) continue;
        made = first(ctx, &c);
    }
    w->faults_off = off;
    sim_client_deinit(&c);
    if (!made && !sim_failed(w)) sim_fail(w, "topics cannot be made though nothing is broken");
}

/* Another machine takes over, while this one stands still, is cut off from the store, or goes on. */
void sim_broker_take_over(struct sim_broker *b) {
    struct sim_world *w = b->world;
    unsigned next = (b->at + (unsigned)sim_between(w, 1, b->machine_count - 1)) % b->machine_count;
    struct sim_node *old = sim_broker_node(b);
    if (sim_node_up(b->seats[next].node)) { /* overtaken some time ago, and still running */
        if (sim_chance(w, 0.5)) return;
        sim_note(w, b->seats[next].node, SIM_SUBJECT_ALL, "is killed");
        sim_node_crash(b->seats[next].node, SIM_KILL);
    }
    if (sim_chance(w, 0.5)) {
        sim_note(w, old, SIM_SUBJECT_ALL, "stands still");
        sim_node_pause(old, sim_node_pause_ns(w));
    } else if (sim_chance(w, 0.5)) {
        (void)sim_store_cut(old); /* its clients still reach it */
    }
    b->at = next;
    start(b, next);
}

bool sim_broker_serves(const struct sim_broker *b) {
    return sim_node_up(sim_broker_node(b)) && b->lives[b->seats[b->at].life].incarnation > 0;
}

/* Two started at the same time, and the one that was to be is overtaken by the other: an idle one need not notice that
 * until it writes something. */
static void follow_newest(struct sim_broker *b) {
    for (unsigned i = 0; i < b->machine_count; i++) {
        uint64_t mine = b->lives[b->seats[b->at].life].incarnation, other = b->lives[b->seats[i].life].incarnation;
        if (sim_node_up(b->seats[i].node) && mine > 0 && other > mine) b->at = i;
    }
}

/* It is stopped in order, so that the device can be used again, and started. When it is about to write that the device is
 * its own it stands still, and another starts. */
static void race(struct sim_broker *b) {
    struct sim_world *w = b->world;
    struct sim_node *first = sim_broker_node(b);
    b->seats[b->at].stop_asked = true;
    for (unsigned i = 0; i < 1000 && sim_node_up(first) && !sim_failed(w); i++) fiber_sleep_ns(50 * NS_PER_MS);
    if (sim_node_up(first) || sim_failed(w)) return;
    start(b, b->at);
    first->front_pause_ns = sim_between(w, 1, 30) * NS_PER_S;
    for (unsigned i = 0; i < 2000 && first->front_pause_ns > 0 && sim_node_up(first) && !sim_failed(w); i++)
        fiber_sleep_ns(20 * NS_PER_MS);
    unsigned next = (b->at + (unsigned)sim_between(w, 1, b->machine_count - 1)) % b->machine_count;
    if (first->front_pause_ns > 0 || !sim_node_up(first) || sim_node_up(b->seats[next].node)) return;
    b->at = next;
    start(b, next);
}

bool sim_broker_trouble(struct sim_broker *b) {
    struct sim_world *w = b->world;
    follow_newest(b);
    look(b);
    struct sim_node *n = sim_broker_node(b);
    if (!sim_node_up(n)) {
        if (b->moves && sim_chance(w, 0.5)) {
            unsigned next = (unsigned)sim_between(w, 0, b->machine_count - 1);
            if (!sim_node_up(b->seats[next].node)) b->at = next;
        }
        start(b, b->at);
        return false;
    }
    /* One that has not got far yet, and perhaps never does, is what makes an operator start another. */
    if (sim_chance(w, b->takeover > 0 && !sim_broker_serves(b) ? 0.4 : b->takeover)) {
        sim_broker_take_over(b);
    } else if (b->races && b->crash > 0 && sim_chance(w, 0.4)) {
        race(b);
    } else if (b->moves && sim_chance(w, b->crash / 4)) {
        if (sim_node_lose_machine(n)) sim_note(w, n, SIM_SUBJECT_ALL, "is lost with its disks");
    } else if (sim_chance(w, b->crash)) {
        sim_run_crash(b->run, n);
    } else if (sim_chance(w, b->crash / 2)) {
        sim_node_pause(n, sim_node_pause_ns(w));
    } else if (b->shared && sim_chance(w, b->crash / 4)) {
        (void)sim_store_cut(n);
    } else if (sim_chance(w, b->crash > 0 && life_of(&b->seats[b->at])->without_wal ? 0.3 : b->crash / 2)) {
        b->seats[b->at].stop_asked = true;
    }
    return true;
}

static void stop_all(struct sim_broker *b) {
    for (unsigned i = 0; i < b->machine_count; i++) b->seats[i].stop_asked = true;
    for (unsigned i = 0; i < b->machine_count && !sim_failed(b->world); i++) {
        if (!sim_run_wait_down(b->run, b->seats[i].node, 3600 * NS_PER_S))
            sim_fail(b->world, "a broker does not stop though nothing is broken");
    }
}

/* What a start finds is worked off a little at a time. It has time for that as long as it goes on. Suspends. */
static void wait_for_leftovers(struct sim_broker *b) {
    struct sim_world *w = b->world;
    size_t before;
    fiber_sleep_ns(LEFTOVERS_NS - LEFTOVERS_LOOK_NS);
    do {
        before = w->bucket->count;
        fiber_sleep_ns(LEFTOVERS_LOOK_NS);
    } while (w->bucket->count < before && sim_node_up(sim_broker_node(b)) && !sim_failed(w));
}

/* Everything late has landed. Once more it starts, and has its time: then nothing lies in the bucket that nothing needs,
 * nor after it was stopped. Suspends. */
static void check_leftovers(struct sim_broker *b) {
    struct sim_world *w = b->world;
    if (sim_failed(w)) return;
    fiber_sleep_ns(SIM_RUN_LATE_NS);
    struct sim_check_options o = {.memory = b->memory, .exclusive = !b->shared, .merged = true, .swept_ns = w->now_ns};
    for (unsigned i = 0; i < STARTS_MAX && o.settled.v == 0 && !sim_failed(w); i++) {
        start(b, b->at);
        wait_for_leftovers(b);
        o.settled.v = life_of(&b->seats[b->at])->incarnation;
        if (!sim_node_up(sim_broker_node(b))) o.settled.v = 0;
    }
    if (o.settled.v == 0 && !sim_failed(w)) sim_fail(w, "the broker does not start though nothing is broken");
    if (sim_failed(w) || !sim_check_store(w, NULL, &o)) return;
    stop_all(b);
    o.closed = true;
    if (!sim_failed(w)) (void)sim_check_store(w, NULL, &o);
}

void sim_broker_end(struct sim_broker *b, const bool *done) {
    struct sim_world *w = b->world;
    uint64_t give_up_ns = w->now_ns + 3600 * NS_PER_S;
    while (!*done && w->now_ns < give_up_ns && !sim_failed(w)) {
        follow_newest(b);
        if (!sim_node_up(sim_broker_node(b))) start(b, b->at);
        fiber_sleep_ns(100 * NS_PER_MS);
    }
    stop_all(b);
    check_leftovers(b);
}
