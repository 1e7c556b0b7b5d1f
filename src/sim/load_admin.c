/* Administrators: they create, delete and create again, add partitions, change configurations while everything runs (how
 * long records are kept, how durable they are), delete records, delete what groups have committed, and look whether it
 * is so. At each name one at a time is at work; what an earlier one did not hear the end of may still be done. */
#include <stdio.h>
#include <string.h>

#include "kafka/error.h"
#include "sim/history.h"
#include "sim/load.h"

struct admin {
    struct load *load;
    struct sim_client *client;
    struct arena arena; /* of one request */
    struct load_view view;
};

static uint64_t inc_of(const struct admin *a) {
    return load_incarnation(a->load, a->client);
}

static bool call(struct admin *a, int16_t api, int16_t version, const void *q, void *r) {
    arena_reset(&a->arena);
    return load_call(a->load, a->client, api, version, q, &a->arena, r);
}

static void note(struct admin *a, const struct check_name *n, const char *what, bool answered, int16_t code) {
    if (answered) load_judge_change(a->load, a->client, -1, code);
    sim_note(a->load->world, sim_node_of(a->client->env), check_subject(n), "%s %s: %s", what, n->name,
             answered ? kafka_error_name(code) : "no answer");
}

/* --- Topics. */

/* What all topics of a name begin with. */
static int32_t first_configs(struct admin *a, const struct check_name *n,
                             struct kafka_create_topics_request_config *out) {
    const struct {
        enum check_config_key key;
        int64_t value;
    } all[] = {{CHECK_SEGMENT_BYTES, LOAD_SEGMENT_MIN},
               {CHECK_RETENTION_MS, n->retention_ms},
               {CHECK_RETENTION_BYTES, n->retention_bytes}};
    int32_t count = 0;
    if (n->append_time) {
        kafka_create_topics_request_config_init(&out[count]);
        out[count].name = kafka_string_of("message.timestamp.type");
        out[count++].value = kafka_string_of("LogAppendTime");
    }
    for (size_t i = 0; i < ARRAY_LEN(all) && a->load->retains; i++) {
        if (all[i].value == INT64_MAX) continue;
        kafka_create_topics_request_config_init(&out[count]);
        out[count].name = kafka_string_of(check_config_name(all[i].key));
        out[count++].value = kafka_string_of(arena_printf(&a->arena, "%ld", all[i].value));
    }
    return count;
}

static bool create(struct admin *a, struct check_name *n) {
    struct load *l = a->load;
    struct kafka_create_topics_request_topic topic;
    struct kafka_create_topics_request_config configs[CHECK_CONFIGS];
    struct kafka_create_topics_request q;
    struct kafka_create_topics_response r;
    kafka_create_topics_request_topic_init(&topic);
    kafka_create_topics_request_init(&q);
    topic.name = kafka_string_of(n->name);
    topic.num_partitions = n->partitions;
    topic.replication_factor = 1;
    topic.configs.items = configs;
    topic.configs.count = first_configs(a, n, configs);
    q.topics.items = &topic;
    q.topics.count = 1;
    struct check_topic *t = check_create_asked(l->check, n);
    uint64_t asked = check_now(l->check);
    /* Without a reset of the arena, which has the values. */
    bool good = load_call(l, a->client, KAFKA_API_CREATE_TOPICS, 7, &q, &a->arena, &r) && r.topics.count == 1;
    int16_t code = good ? r.topics.items[0].error_code : -1;
    note(a, n, "creates", good, code);
    check_create_told(l->check, t, inc_of(a), asked, load_outcome(good, code, KAFKA_TOPIC_ALREADY_EXISTS),
                      good ? &r.topics.items[0].topic_id : NULL);
    return good;
}

static bool delete (struct admin *a, struct check_name *n) {
    struct load *l = a->load;
    struct check_topic *t = check_current(n);
    if (!t || t->gone) return true;
    bool by_id = t->id_known && sim_chance(l->world, 0.5);
    struct kafka_delete_topics_request_topic topic;
    struct kafka_delete_topics_request q;
    struct kafka_delete_topics_response r;
    struct kafka_string name = kafka_string_of(n->name);
    kafka_delete_topics_request_topic_init(&topic);
    kafka_delete_topics_request_init(&q);
    if (by_id) {
        topic.topic_id = t->id;
        q.topics.items = &topic;
        q.topics.count = 1;
    } else {
        q.topic_names.items = &name;
        q.topic_names.count = 1;
    }
    q.timeout_ms = 30000;
    check_delete_asked(l->check, t, inc_of(a), by_id);
    uint64_t asked = check_now(l->check);
    bool good = call(a, KAFKA_API_DELETE_TOPICS, by_id ? 6 : 5, &q, &r) && r.responses.count == 1;
    int16_t code = good ? r.responses.items[0].error_code : -1;
    note(a, n, by_id ? "deletes by id" : "deletes", good, code);
    check_delete_told(l->check, t, inc_of(a), asked, by_id,
                      load_outcome(good, code, by_id ? KAFKA_UNKNOWN_TOPIC_ID : KAFKA_UNKNOWN_TOPIC_OR_PARTITION));
    return good;
}

static bool grow(struct admin *a, struct check_name *n) {
    struct load *l = a->load;
    struct check_topic *t = a->view.topics[n->index];
    int32_t count = a->view.counts[n->index] + 1;
    if (!t || count > (int32_t)CHECK_PARTITIONS_MAX) return true;
    struct kafka_create_partitions_request_topic topic;
    struct kafka_create_partitions_request q;
    struct kafka_create_partitions_response r;
    kafka_create_partitions_request_topic_init(&topic);
    kafka_create_partitions_request_init(&q);
    topic.name = kafka_string_of(n->name);
    topic.count = count;
    topic.assignments.count = -1;
    q.topics.items = &topic;
    q.topics.count = 1;
    q.timeout_ms = 30000;
    check_grow_asked(l->check, t, inc_of(a), count);
    bool good = call(a, KAFKA_API_CREATE_PARTITIONS, 1, &q, &r) && r.results.count == 1;
    int16_t code = good ? r.results.items[0].error_code : -1;
    note(a, n, "adds a partition to", good, code);
    check_grow_told(l->check, t, inc_of(a), count, load_outcome(good, code, KAFKA_UNKNOWN_TOPIC_OR_PARTITION));
    return good;
}

/* --- Configurations. */

static void choose_value(struct load *l, enum check_config_key key, char *out, size_t size) {
    static const char *const durabilities[] = {"wal", "object"};
    struct sim_world *w = l->world;
    uint64_t v = 0;
    switch (key) {
    case CHECK_RETENTION_MS:
        v = sim_chance(w, 0.5) ? sim_between(w, 1000, 100000) : sim_between(w, 100000, 8000000);
        break;
    case CHECK_RETENTION_BYTES:
        v = sim_between(w, 1000, 200000);
        break;
    case CHECK_SEGMENT_BYTES:
        v = sim_between(w, LOAD_SEGMENT_MIN, 100000);
        break;
    case CHECK_SEGMENT_MS:
        v = sim_between(w, 100, 60000);
        break;
    case CHECK_DURABILITY:
        (void)snprintf(out, size, "%s", durabilities[sim_between(w, 0, 1)]);
        return;
    case CHECK_CONFIGS:
        UNREACHABLE();
    }
    (void)snprintf(out, size, "%lu", v);
}

static bool configure(struct admin *a, struct check_name *n) {
    struct load *l = a->load;
    struct check_topic *t = a->view.topics[n->index];
    if (!t) return true;
    enum check_config_key key = l->retains ? (enum check_config_key)sim_between(l->world, 0, CHECK_CONFIGS - 1)
                                : sim_chance(l->world, 0.5) ? CHECK_DURABILITY
                                                            : CHECK_SEGMENT_BYTES;
    char value[CHECK_VALUE_SIZE], what[80];
    choose_value(l, key, value, sizeof(value));
    bool reset = sim_chance(l->world, 0.2);
    struct kafka_incremental_alter_configs_request_config config;
    struct kafka_incremental_alter_configs_request_resource resource;
    struct kafka_incremental_alter_configs_request q;
    struct kafka_incremental_alter_configs_response r;
    kafka_incremental_alter_configs_request_config_init(&config);
    kafka_incremental_alter_configs_request_resource_init(&resource);
    kafka_incremental_alter_configs_request_init(&q);
    config.name = kafka_string_of(check_config_name(key));
    config.config_operation = reset ? 1 : 0;
    config.value = reset ? (struct kafka_string){NULL, -1} : kafka_string_of(value);
    resource.resource_type = 2;
    resource.resource_name = kafka_string_of(n->name);
    resource.configs.items = &config;
    resource.configs.count = 1;
    q.resources.items = &resource;
    q.resources.count = 1;
    check_config_asked(l->check, t, key, reset ? NULL : value, inc_of(a));
    bool good = call(a, KAFKA_API_INCREMENTAL_ALTER_CONFIGS, 0, &q, &r) && r.responses.count == 1;
    int16_t code = good ? r.responses.items[0].error_code : -1;
    (void)snprintf(what, sizeof(what), "sets %s=%s of", check_config_name(key), reset ? "default" : value);
    note(a, n, what, good, code);
    check_config_told(l->check, t, key, reset ? NULL : value, inc_of(a),
                      load_outcome(good, code, KAFKA_UNKNOWN_TOPIC_OR_PARTITION));
    return good;
}

bool load_describe(struct load *l, struct sim_client *c, struct check_topic *t) {
    struct kafka_describe_configs_request_resource resource;
    struct kafka_describe_configs_request q;
    struct kafka_describe_configs_response r;
    struct kafka_string keys[CHECK_CONFIGS];
    for (unsigned i = 0; i < CHECK_CONFIGS; i++) keys[i] = kafka_string_of(check_config_name((enum check_config_key)i));
    kafka_describe_configs_request_resource_init(&resource);
    kafka_describe_configs_request_init(&q);
    resource.resource_type = 2;
    resource.resource_name = kafka_string_of(t->name->name);
    resource.configuration_keys.items = keys;
    resource.configuration_keys.count = CHECK_CONFIGS;
    q.resources.items = &resource;
    q.resources.count = 1;
    struct arena a;
    arena_init(&a, c->env->mem);
    uint64_t asked = check_now(l->check);
    bool good = load_call(l, c, KAFKA_API_DESCRIBE_CONFIGS, 1, &q, &a, &r) && r.results.count == 1;
    if (good) load_judge(l, c, KAFKA_API_DESCRIBE_CONFIGS, r.results.items[0].error_code, false);
    for (int32_t i = 0; good && r.results.items[0].error_code == 0 && i < r.results.items[0].configs.count; i++) {
        const struct kafka_describe_configs_response_config *got = &r.results.items[0].configs.items[i];
        char value[CHECK_VALUE_SIZE];
        (void)snprintf(value, sizeof(value), "%.*s", got->value.size > 0 ? (int)got->value.size : 0, got->value.data);
        for (unsigned key = 0; key < CHECK_CONFIGS; key++) {
            if (kafka_string_equal(got->name, keys[key]))
                check_config_seen(l->check, t, (enum check_config_key)key, value, load_incarnation(l, c), asked);
        }
    }
    arena_deinit(&a);
    return good && !sim_failed(l->world);
}

static bool describe(struct admin *a, struct check_name *n) {
    struct check_topic *t = a->view.topics[n->index];
    return !t || load_describe(a->load, a->client, t);
}

/* --- Records, and what was committed. */

static bool delete_records(struct admin *a, struct check_name *n) {
    struct load *l = a->load;
    struct check_topic *t = a->view.topics[n->index];
    if (!t) return true;
    struct kafka_delete_records_request_partition part;
    struct kafka_delete_records_request_topic topic;
    struct kafka_delete_records_request q;
    struct kafka_delete_records_response r;
    kafka_delete_records_request_partition_init(&part);
    kafka_delete_records_request_topic_init(&topic);
    kafka_delete_records_request_init(&q);
    part.partition_index = (int32_t)sim_between(l->world, 0, (uint64_t)a->view.counts[n->index] - 1);
    struct check_partition *log = &t->logs[part.partition_index];
    part.offset = sim_chance(l->world, 0.2) ? -1 : (int64_t)sim_between(l->world, 0, (uint64_t)log->hw.value);
    topic.name = kafka_string_of(n->name);
    topic.partitions.items = &part;
    topic.partitions.count = 1;
    q.topics.items = &topic;
    q.topics.count = 1;
    q.timeout_ms = 30000;
    struct check_look look = check_partition_look(l->check, log);
    check_partition_delete_asked(l->check, log, part.offset);
    bool good =
        call(a, KAFKA_API_DELETE_RECORDS, 1, &q, &r) && r.topics.count == 1 && r.topics.items[0].partitions.count == 1;
    int16_t code = good ? r.topics.items[0].partitions.items[0].error_code : -1;
    int64_t low = good ? r.topics.items[0].partitions.items[0].low_watermark : -1;
    uint64_t inc = inc_of(a);
    sim_note(l->world, sim_node_of(a->client->env), check_partition_subject(log),
             "deletes records of %s-%d up to %ld: %s, %ld", n->name, part.partition_index, part.offset,
             good ? kafka_error_name(code) : "no answer", low);
    if (good) load_judge_change(l, a->client, KAFKA_API_DELETE_RECORDS, code);
    enum check_outcome o = load_outcome(good, code, KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
    if (o == CHECK_UNKNOWN) n->loose_change = inc && n->loose_change < inc ? inc : inc ? n->loose_change : UINT64_MAX;
    if (o == CHECK_DONE && check_must_know(t, inc, look.asked, part.partition_index)) {
        l->run->acked++;
        if (part.offset >= 0 && low < part.offset)
            sim_fail_about(l->world, check_partition_subject(log),
                           "%s-%d: records up to %ld are deleted, and the log begins at %ld", n->name,
                           part.partition_index, part.offset, low);
        check_partition_ends(l->check, log, inc, &look, -1, low);
    }
    return good;
}

/* The offsets of one name, or the whole group with all of them. */
static bool drop_offsets(struct admin *a, struct check_name *n) {
    struct load *l = a->load;
    const char *group = l->check->groups[LOAD_READERS_GROUP];
    struct kafka_string name = kafka_string_of(group);
    bool whole = sim_chance(l->world, 0.3), good;
    int16_t code = -1;
    if (!a->view.topics[n->index] && !whole) return true;
    check_commit_drop_asked(l->check, LOAD_READERS_GROUP, whole ? NULL : n);
    if (whole) {
        struct kafka_delete_groups_request q;
        struct kafka_delete_groups_response r;
        kafka_delete_groups_request_init(&q);
        q.groups_names.items = &name;
        q.groups_names.count = 1;
        good = call(a, KAFKA_API_DELETE_GROUPS, 1, &q, &r) && r.results.count == 1;
        if (good) code = r.results.items[0].error_code;
    } else {
        struct kafka_offset_delete_request_partition parts[CHECK_PARTITIONS_MAX];
        struct kafka_offset_delete_request_topic topic;
        struct kafka_offset_delete_request q;
        struct kafka_offset_delete_response r;
        kafka_offset_delete_request_topic_init(&topic);
        kafka_offset_delete_request_init(&q);
        for (int32_t i = 0; i < a->view.counts[n->index]; i++) {
            kafka_offset_delete_request_partition_init(&parts[i]);
            parts[i].partition_index = i;
        }
        topic.name = kafka_string_of(n->name);
        topic.partitions.items = parts;
        topic.partitions.count = a->view.counts[n->index];
        q.group_id = name;
        q.topics.items = &topic;
        q.topics.count = 1;
        good = call(a, KAFKA_API_OFFSET_DELETE, 0, &q, &r);
        if (good) code = r.error_code;
        for (int32_t i = 0; good && code == 0 && i < r.topics.items[0].partitions.count; i++)
            code = r.topics.items[0].partitions.items[i].error_code;
    }
    if (good) load_judge_change(l, a->client, whole ? KAFKA_API_DELETE_GROUPS : KAFKA_API_OFFSET_DELETE, code);
    for (int32_t i = 0; i < (int32_t)CHECK_PARTITIONS_MAX; i++)
        sim_note(l->world, sim_node_of(a->client->env), sim_subject(group, i), "deletes %s of %s: %s",
                 whole ? "all" : n->name, group, good ? kafka_error_name(code) : "no answer");
    check_commit_drop_told(l->check, LOAD_READERS_GROUP, whole ? NULL : n, inc_of(a),
                           load_outcome(good, code, KAFKA_GROUP_ID_NOT_FOUND));
    return good;
}

/* --- The administrator. */

typedef bool deed(struct admin *a, struct check_name *n);

static deed *choose_deed(struct admin *a, const struct check_name *n) {
    struct load *l = a->load;
    struct sim_world *w = l->world;
    const struct check_topic *t = a->view.topics[n->index];
    if (!t && sim_chance(w, 0.7)) return create;
    if (sim_chance(w, 0.05)) return create; /* it is there already */
    if (l->deletes && sim_chance(w, 0.25)) return delete;
    if (l->grows && sim_chance(w, 0.15)) return grow;
    if (l->configures && sim_chance(w, 0.3)) return configure;
    if (l->deletes_records && sim_chance(w, 0.6)) return delete_records;
    if (l->drops_offsets && sim_chance(w, 0.1)) return drop_offsets;
    return describe;
}

void load_admin_main(void *arg) {
    struct load_client *me = arg;
    struct load *l = me->load;
    struct sim_client client;
    struct admin a = {.load = l, .client = &client};
    sim_client_init(&client, loop_current()->env);
    arena_init(&a.arena, client.env->mem);
    while (load_goes_on(l, &client, true)) {
        fiber_sleep_ns(sim_between(l->world, 20, 1500) * NS_PER_MS);
        struct check_name *n = &l->check->names[sim_between(l->world, 0, l->check->name_count - 1)];
        if (n->busy) continue;
        n->busy = true;
        bool good = client.conn || sim_broker_connect(&l->broker, &client, true) == OK;
        if (good) good = load_metadata(l, &client, &a.view) && choose_deed(&a, n)(&a, n);
        if (!good) sim_client_close(&client);
        n->busy = false;
    }
    arena_deinit(&a.arena);
    sim_client_deinit(&client);
}

bool load_first(void *ctx, struct sim_client *c) {
    struct load *l = ctx;
    struct admin a = {.load = l, .client = c};
    arena_init(&a.arena, c->env->mem);
    bool good = load_metadata(l, c, &a.view), all = good;
    for (unsigned n = 0; n < l->check->name_count && good; n++) {
        if (a.view.topics[n]) continue;
        good = create(&a, &l->check->names[n]);
        all = all && good && check_current(&l->check->names[n])->there;
    }
    arena_deinit(&a.arena);
    return good && all;
}
