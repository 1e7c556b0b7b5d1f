#include "sim/load.h"

#include <stdio.h>
#include <string.h>

#include "broker/broker.h"
#include "kafka/error.h"
#include "sim/history.h"

#define STRIKES 0.03 /* of the chance of trouble at a look */
#define LULL_MAX_NS (40 * NS_PER_S)

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

void load_choose_cleaner(struct load *l) {
    struct sim_world *w = l->world;
    struct sim_broker *b = &l->broker;
    if (!sim_chance(w, 0.6)) return;
    (void)snprintf(b->clean_backoff, sizeof(b->clean_backoff), "%lu", sim_between(w, 20, 3000));
    double most = sim_chance(w, 0.3) ? (double)sim_between(w, 20000, 400000) : 1e12;
    (void)snprintf(b->clean_bytes, sizeof(b->clean_bytes), "%.0f", most);
    /* Segments are short, or nothing would ever lie below the active one. */
    (void)snprintf(b->offsets_segment, sizeof(b->offsets_segment), "%lu", sim_between(w, 600, 4000));
    (void)snprintf(b->tombstone_retention, sizeof(b->tombstone_retention), "%s", sim_chance(w, 0.5) ? "0" : "86400000");
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

void load_end(struct load *l) {
    struct sim_node *auditor = sim_node_create(l->world, "auditor");
    sim_node_start(auditor, load_audit_main, l);
    sim_broker_end(&l->broker, &l->audited);
    sim_broker_deinit(&l->broker);
    if (l->group) load_group_destroy(l->group);
    check_destroy(l->check);
    mem_free(sim_run_mem(l->run), l);
}

bool load_goes_on(const struct load *l, struct sim_client *c, bool writes) {
    bool waited = l->lull;
    while (l->lull && !l->over && !sim_failed(l->world)) fiber_sleep_ns(50 * NS_PER_MS);
    if (waited && sim_chance(l->world, writes ? 0.8 : 0.2)) sim_client_close(c);
    return !l->over && !sim_failed(l->world);
}

void load_lull(struct load *l) {
    struct sim_world *w = l->world;
    l->lull = true;
    fiber_sleep_ns(sim_between(w, 500, 4000) * NS_PER_MS);
    sim_broker_take_over(&l->broker);
    uint64_t until_ns = w->now_ns + LULL_MAX_NS;
    while (!sim_broker_serves(&l->broker) && w->now_ns < until_ns && !sim_failed(w)) {
        if (!sim_node_up(sim_broker_node(&l->broker))) (void)sim_broker_trouble(&l->broker);
        fiber_sleep_ns(100 * NS_PER_MS);
    }
    if (sim_chance(w, 0.5)) fiber_sleep_ns(sim_between(w, 0, 8000) * NS_PER_MS);
    l->lull = false;
}

void load_pause(struct load *l) {
    fiber_sleep_ns(sim_between(l->world, 10, 1000) * NS_PER_MS);
}

void load_strike(struct load *l, const struct sim_client *c) {
    if (!l->over && sim_chance(l->world, l->broker.crash * STRIKES)) sim_broker_strike(&l->broker, c);
}

void load_look_at_clocks(struct load *l) {
    for (unsigned i = 0; i < l->broker.machine_count; i++) check_wall(l->check, l->broker.seats[i].node->wall_shown_ms);
}

uint64_t load_incarnation(const struct load *l, const struct sim_client *c) {
    return sim_broker_incarnation(&l->broker, c);
}

static bool is_accusation(int16_t code) {
    static const int16_t codes[] = {
        KAFKA_OFFSET_OUT_OF_RANGE,
        KAFKA_UNKNOWN_TOPIC_OR_PARTITION,
        KAFKA_UNKNOWN_TOPIC_ID,
        KAFKA_INCONSISTENT_TOPIC_ID,
        KAFKA_TOPIC_ALREADY_EXISTS,
        KAFKA_INVALID_PARTITIONS,
        KAFKA_MESSAGE_TOO_LARGE,
        KAFKA_INVALID_TIMESTAMP,
        KAFKA_INVALID_RECORD,
        KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER,
        KAFKA_UNKNOWN_PRODUCER_ID,
        KAFKA_INVALID_PRODUCER_EPOCH,
        KAFKA_FENCED_LEADER_EPOCH,
        KAFKA_UNKNOWN_LEADER_EPOCH,
        KAFKA_DUPLICATE_SEQUENCE_NUMBER,
        KAFKA_UNKNOWN_MEMBER_ID,
        KAFKA_ILLEGAL_GENERATION,
        KAFKA_FENCED_INSTANCE_ID,
        KAFKA_GROUP_ID_NOT_FOUND,
        KAFKA_NON_EMPTY_GROUP,
        KAFKA_GROUP_SUBSCRIBED_TO_TOPIC,
    };
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i] == code) return true;
    }
    return false;
}

void load_asks(struct load *l, struct sim_client *c) {
    c->overtaken = sim_broker_overtaken(&l->broker, c, 0);
    c->expired = sim_broker_overtaken(&l->broker, c, BROKER_LEASE_NS);
}

void load_judge(struct load *l, const struct sim_client *c, int16_t api, int16_t code, bool leased) {
    if (c->overtaken && is_accusation(code))
        sim_fail(l->world, "an answer to API %d accuses with %s, and its broker had been overtaken before it was asked",
                 api, kafka_error_name(code));
    if (c->expired && leased && code == 0)
        sim_fail(l->world, "API %d is answered by a broker that had been overtaken for longer than its lease", api);
}

void load_judge_change(struct load *l, const struct sim_client *c, int16_t api, int16_t code) {
    load_judge(l, c, api, code, false);
    if (c->overtaken && code == 0)
        sim_fail(l->world, "a change (API %d) is acknowledged by a broker that had been overtaken before it was asked",
                 api);
}

bool load_call(struct load *l, struct sim_client *c, int16_t api, int16_t version, const void *q, struct arena *a,
               void *r) {
    load_asks(l, c);
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

static void view_take(struct load *l, const struct sim_client *c, struct load_view *v, struct check_name *n,
                      const struct kafka_metadata_response_topic *t, uint64_t inc, uint64_t asked) {
    bool exists = t->error_code == 0;
    load_judge(l, c, KAFKA_API_METADATA, t->error_code, false);
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
        view_take(l, c, v, &k->names[i], &r.topics.items[i], load_incarnation(l, c), asked);
    arena_deinit(&a);
    return good && !sim_failed(l->world);
}
