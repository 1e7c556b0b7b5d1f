#include "sim/broker_node.h"

#include <stdio.h>
#include <string.h>

#include "broker/broker.h"
#include "kafka/error.h"
#include "sim/net.h"

struct broker_life {
    struct sim_broker *of;
    bool fatal;
};

static void on_fatal(void *ctx, enum err why, const char *what) {
    struct broker_life *l = ctx;
    /* One broker at a time: whoever was overtaken is gone. */
    sim_fail(l->of->world, "the only broker gave up: %s (%s)", what, err_name(why));
    l->fatal = true;
}

static void set(struct config *c, const char *name, const char *value) {
    char why[CONFIG_WHY_SIZE];
    enum err e = config_set(c, name, value, why, sizeof(why));
    ASSERT(e == OK);
}

static void broker_main(void *arg) {
    struct sim_broker *t = arg;
    struct env *env = loop_current()->env;
    struct broker_life life = {.of = t};
    struct config config;
    config_init_defaults(&config, env->mem);
    char address[64], listener[96], why_text[512];
    sim_net_address(sim_node_of(env), address, sizeof(address));
    (void)snprintf(listener, sizeof(listener), "PLAINTEXT://%s:%u", address, SIM_BROKER_PORT);
    set(&config, "listeners", listener);
    set(&config, "wal.url", t->no_wal ? "none" : "file:///var/wal?size=16MiB");
    set(&config, "upload.bytes", t->upload_bytes);
    set(&config, "upload.interval.ms", t->upload_interval);
    set(&config, "object.flush.interval.ms", t->flush_interval);
    set(&config, "oxbow.durability", t->durability);
    set(&config, "shards", t->shards);
    set(&config, "offsets.topic.num.partitions", "2");
    set(&config, "group.initial.rebalance.delay.ms", "300");
    struct store *store = sim_run_store(t->run, env, !t->shared);
    struct broker_options o = {.env = env,
                               .loop0 = loop_current(),
                               .store = store,
                               .config = &config,
                               .why_text = why_text,
                               .why_size = sizeof(why_text),
                               .processors = 2,
                               .fatal = on_fatal,
                               .ctx = &life};
    struct broker *b = NULL;
    const char *why = NULL;
    enum err e = broker_start(&o, &b, &why);
    if (e == ERR_CORRUPT || e == ERR_FOREIGN || e == ERR_GAP || e == ERR_VERSION)
        sim_fail(t->world, "a start failed for good: %s (%s)", why, err_name(e));
    if (e == OK) {
        while (!t->stop_asked && !life.fatal && !sim_failed(t->world)) fiber_sleep_ns(50 * NS_PER_MS);
        broker_stop(b);
    }
    store_close(store);
    config_deinit(&config);
}

/* --- Its life. */

void sim_broker_init(struct sim_broker *b, struct sim_run *r) {
    struct sim_world *w = r->world;
    *b = (struct sim_broker){.run = r, .world = w};
    b->no_wal = sim_chance(w, 0.4);
    b->shared = sim_chance(w, 0.4);
    b->moves = b->no_wal && b->shared; /* a folder is locked by one machine */
    b->crash = sim_chance(w, 0.3) ? 0 : sim_chance(w, 0.5) ? 0.05 : 0.2;
    (void)snprintf(b->upload_bytes, sizeof(b->upload_bytes), "%lu", sim_chance(w, 0.5) ? 65536ul : 4ul << 20);
    (void)snprintf(b->upload_interval, sizeof(b->upload_interval), "%lu", sim_between(w, 50, 5000));
    (void)snprintf(b->flush_interval, sizeof(b->flush_interval), "%lu",
                   sim_chance(w, 0.2) ? sim_between(w, 1, 300) : 0ul);
    (void)snprintf(b->shards, sizeof(b->shards), "%lu", sim_between(w, 1, 2));
    (void)snprintf(b->durability, sizeof(b->durability), "%s", sim_chance(w, 0.3) ? "object" : "wal");
    b->machines[0] = sim_node_create(w, "broker0");
    b->machines[1] = sim_node_create(w, "broker1");
}

enum err sim_broker_connect(const struct sim_broker *b, struct sim_client *c) {
    char host[64];
    sim_net_address(b->machines[b->at], host, sizeof(host));
    return sim_client_open(c, host, SIM_BROKER_PORT);
}

static bool ask_for_topic(struct sim_client *c, const char *name, unsigned partitions) {
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

void sim_broker_begin(struct sim_broker *b, const char *topic, unsigned partitions) {
    struct sim_world *w = b->world;
    struct sim_client c;
    sim_client_init(&c, loop_current()->env);
    uint64_t give_up_ns = w->now_ns + 600 * NS_PER_S;
    bool made = false;
    w->faults_off = true;
    while (!made && w->now_ns < give_up_ns && !sim_failed(w)) {
        if (!sim_node_up(b->machines[b->at])) sim_node_start(b->machines[b->at], broker_main, b);
        fiber_sleep_ns(200 * NS_PER_MS);
        if (!c.conn && sim_broker_connect(b, &c) != OK) continue;
        made = ask_for_topic(&c, topic, partitions);
    }
    w->faults_off = false;
    sim_client_deinit(&c);
    if (!made && !sim_failed(w)) sim_fail(w, "a topic cannot be made though nothing is broken");
}

bool sim_broker_trouble(struct sim_broker *b) {
    struct sim_world *w = b->world;
    struct sim_node *n = b->machines[b->at];
    if (!sim_node_up(n)) {
        b->stop_asked = false;
        if (b->moves && sim_chance(w, 0.5)) b->at = 1 - b->at;
        sim_node_start(b->machines[b->at], broker_main, b);
        return false;
    }
    if (sim_chance(w, b->crash)) {
        sim_run_crash(b->run, n);
    } else if (sim_chance(w, b->crash / 2)) {
        sim_node_pause(n, sim_between(w, 0, 20) * NS_PER_S);
    } else if (sim_chance(w, b->crash / 2)) {
        b->stop_asked = true;
    }
    return true;
}

void sim_broker_end(struct sim_broker *b, const bool *done) {
    struct sim_world *w = b->world;
    uint64_t give_up_ns = w->now_ns + 3600 * NS_PER_S;
    while (!*done && w->now_ns < give_up_ns && !sim_failed(w)) {
        if (!sim_node_up(b->machines[b->at])) {
            b->stop_asked = false;
            sim_node_start(b->machines[b->at], broker_main, b);
        }
        fiber_sleep_ns(100 * NS_PER_MS);
    }
    b->stop_asked = true;
    if (!sim_failed(w) && !sim_run_wait_down(b->run, b->machines[b->at], 3600 * NS_PER_S))
        sim_fail(w, "the broker does not stop though nothing is broken");
}
