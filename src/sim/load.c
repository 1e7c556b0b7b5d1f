#include "sim/load.h"

#include <stdio.h>
#include <string.h>

#include "kafka/error.h"
#include "sim/history.h"

struct load *load_create(struct sim_run *r) {
    struct load *l = MEM_NEW(sim_run_mem(r), struct load);
    l->run = r;
    l->world = r->world;
    l->check = check_create(r);
    l->check->groups[LOAD_READERS_GROUP] = "readers";
    l->check->groups[LOAD_MEMBERS_GROUP] = "members";
    sim_broker_init(&l->broker, r);
    return l;
}

void load_destroy(struct load *l) {
    sim_broker_deinit(&l->broker);
    if (l->group) load_group_destroy(l->group);
    check_destroy(l->check);
    mem_free(sim_run_mem(l->run), l);
}

struct load_client *load_add(struct load *l, const char *name, unsigned number, fiber_fn *main) {
    ASSERT(l->client_count < LOAD_CLIENTS_MAX);
    struct load_client *c = &l->clients[l->client_count++];
    char text[32];
    (void)snprintf(text, sizeof(text), "%s%u", name, number);
    *c = (struct load_client){.load = l, .node = sim_node_create(l->world, text), .main = main, .number = number};
    sim_node_start(c->node, main, c);
    return c;
}

void load_wait(struct load *l) {
    for (unsigned i = 0; i < l->client_count && !sim_failed(l->world); i++) {
        if (!sim_run_wait_down(l->run, l->clients[i].node, 600 * NS_PER_S))
            sim_fail(l->world, "%s does not end", l->clients[i].node->name);
    }
}

bool load_goes_on(const struct load *l) {
    return !l->over && !sim_failed(l->world);
}

void load_pause(struct load *l) {
    fiber_sleep_ns(sim_between(l->world, 10, 1000) * NS_PER_MS);
}

void load_look_at_clocks(struct load *l) {
    for (unsigned i = 0; i < l->broker.machine_count; i++) check_wall(l->check, l->broker.seats[i].node->wall_shown_ms);
}

uint64_t load_incarnation(const struct load *l, const struct sim_client *c) {
    return sim_broker_incarnation(&l->broker, c);
}

bool load_call(struct load *l, struct sim_client *c, int16_t api, int16_t version, const void *q, struct arena *a,
               void *r) {
    enum err e = sim_client_call(c, api, version, q, LOAD_PATIENCE_NS, a, r);
    if (e == ERR_PROTOCOL)
        sim_fail(l->world, "an answer to API %d version %d that is not one, or not the one whose turn it is", api,
                 version);
    load_look_at_clocks(l);
    return e == OK && !sim_failed(l->world);
}

enum check_outcome load_outcome(bool answered, int16_t code, int16_t refused) {
    if (!answered) return CHECK_UNKNOWN;
    return code == 0 ? CHECK_DONE : code == refused ? CHECK_REFUSED : CHECK_UNKNOWN;
}

static void view_take(struct load *l, struct load_view *v, struct check_name *n,
                      const struct kafka_metadata_response_topic *t, uint64_t inc, uint64_t asked) {
    bool exists = t->error_code == 0;
    if (!exists && t->error_code != KAFKA_UNKNOWN_TOPIC_OR_PARTITION) return;
    struct check_topic *topic = check_name_seen(l->check, n, inc, asked, exists, &t->topic_id, t->partitions.count);
    v->topics[n->index] = topic;
    v->counts[n->index] = topic ? t->partitions.count : 0;
    for (int32_t p = 0; topic && p < t->partitions.count; p++) {
        const struct kafka_metadata_response_partition *part = &t->partitions.items[p];
        v->epochs[n->index][p] = part->leader_epoch;
        check_partition_epoch(l->check, &topic->logs[part->partition_index], inc, part->leader_epoch);
    }
}

bool load_metadata(struct load *l, struct sim_client *c, struct load_view *v) {
    struct check *k = l->check;
    struct arena a;
    arena_init(&a, c->env->mem);
    struct kafka_metadata_request_topic topics[CHECK_NAMES_MAX];
    struct kafka_metadata_request q;
    struct kafka_metadata_response r;
    kafka_metadata_request_init(&q);
    for (unsigned i = 0; i < k->name_count; i++) {
        kafka_metadata_request_topic_init(&topics[i]);
        topics[i].name = kafka_string_of(k->names[i].name);
    }
    q.topics.items = topics;
    q.topics.count = (int32_t)k->name_count;
    q.allow_auto_topic_creation = false;
    uint64_t asked = check_now(k);
    bool good = load_call(l, c, KAFKA_API_METADATA, 12, &q, &a, &r) && r.topics.count == (int32_t)k->name_count;
    memset(v, 0, sizeof(*v));
    for (int32_t i = 0; good && i < r.topics.count; i++)
        view_take(l, v, &k->names[i], &r.topics.items[i], load_incarnation(l, c), asked);
    arena_deinit(&a);
    return good && !sim_failed(l->world);
}
