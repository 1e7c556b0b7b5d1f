/* DescribeConfigs and IncrementalAlterConfigs. A topic's configuration can be changed; the broker's own comes from its
 * file and command line, is shown, and cannot be changed while it runs. What belongs to topics runs on loop 0, where
 * the cluster log's image is. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "kafka/kafka_messages.h"

/* Kafka protocol: ConfigResource.Type, DescribeConfigs ConfigSource and ConfigType. */
enum { RESOURCE_TOPIC = 2, RESOURCE_BROKER = 4 };
enum { SOURCE_STATIC_BROKER = 4, SOURCE_DEFAULT = 5 };
enum { TYPE_BOOLEAN = 1, TYPE_STRING = 2, TYPE_INT = 3, TYPE_LONG = 5, TYPE_LIST = 7 };

typedef struct kafka_describe_configs_response_config answer_config;

struct describe {
    struct request *r;
    struct broker *broker;
    const struct kafka_describe_configs_request *in;
    struct kafka_describe_configs_response *out;
};

static struct kafka_string text(struct request *r, const char *s) {
    return kafka_string_of(arena_strndup(&r->arena, s, strlen(s)));
}

static bool is_wanted(const struct kafka_describe_configs_request_resource *want, const char *name) {
    if (want->configuration_keys.count < 0) return true;
    struct kafka_string n = kafka_string_of(name);
    for (int32_t i = 0; i < want->configuration_keys.count; i++) {
        if (kafka_string_equal(want->configuration_keys.items[i], n)) return true;
    }
    return false;
}

static void add_synonym(struct request *r, answer_config *c, const char *name, const char *value, int8_t source) {
    struct kafka_describe_configs_response_synonym *s = &c->synonyms.items[c->synonyms.count++];
    s->name = text(r, name);
    s->value = text(r, value);
    s->source = source;
}

/* --- Topics. */

static void describe_topic_entry(const struct describe *d, const struct topic_config_entry *e, answer_config *c) {
    struct request *r = d->r;
    c->name = kafka_string_of(e->name);
    c->value = text(r, e->value);
    c->config_source = (int8_t)e->source;
    c->config_type = (int8_t)e->type;
    c->documentation = d->in->include_documentation ? kafka_string_of(e->text) : (struct kafka_string){NULL, -1};
    if (!d->in->include_synonyms) return;
    c->synonyms.items = kafka_new(&kafka_describe_configs_response_synonym_type, &r->arena, 3);
    if (!e->is_default) add_synonym(r, c, e->name, e->value, TOPIC_SOURCE_TOPIC);
    if (!e->synonym[0]) return;
    if (e->broker_set) add_synonym(r, c, e->synonym, e->broker_value, SOURCE_STATIC_BROKER);
    add_synonym(r, c, e->synonym, e->default_value, SOURCE_DEFAULT);
}

static enum err describe_topic(const struct describe *d, const struct kafka_describe_configs_request_resource *want,
                               struct kafka_describe_configs_response_result *out) {
    struct kafka_string name = want->resource_name;
    if (!meta_topic_name_valid(name.data, (size_t)name.size)) return ERR_INVALID_TOPIC;
    const struct meta_topic *t = meta_topic_by_name(d->broker->meta, name.data, (size_t)name.size);
    if (!t) return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    out->configs.items = kafka_new(&kafka_describe_configs_response_config_type, &d->r->arena, TOPIC_PROPERTIES);
    struct topic_config_entry e;
    for (size_t cursor = 0;
         topic_config_describe(&d->broker->topic_defaults, t->configs, t->config_count, &cursor, &e);) {
        if (is_wanted(want, e.name)) describe_topic_entry(d, &e, &out->configs.items[out->configs.count++]);
    }
    return OK;
}

/* --- The broker. */

static int8_t broker_type(enum config_type t) {
    switch (t) {
    case CONFIG_TYPE_BOOL:
        return TYPE_BOOLEAN;
    case CONFIG_TYPE_INT:
        return TYPE_INT;
    case CONFIG_TYPE_LONG:
        return TYPE_LONG;
    case CONFIG_TYPE_LIST:
        return TYPE_LIST;
    case CONFIG_TYPE_COUNT: /* may be "auto" */
    case CONFIG_TYPE_SIZE:  /* may be "256MiB" */
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_ENUM:
        return TYPE_STRING;
    }
    UNREACHABLE();
}

static void describe_broker_entry(const struct describe *d, const struct config *defaults, enum config_property p,
                                  answer_config *c) {
    struct request *r = d->r;
    const struct config *config = d->broker->config;
    const struct config_row *row = config_row(p);
    bool set = config->rank[p] != 0;
    char value[2048];
    c->name = kafka_string_of(row->name);
    c->value = text(r, config_value(config, p, value, sizeof(value)));
    c->read_only = true;
    c->config_source = set ? SOURCE_STATIC_BROKER : SOURCE_DEFAULT;
    c->config_type = broker_type(row->type);
    c->documentation = d->in->include_documentation ? kafka_string_of(row->text) : (struct kafka_string){NULL, -1};
    if (!d->in->include_synonyms) return;
    c->synonyms.items = kafka_new(&kafka_describe_configs_response_synonym_type, &r->arena, 2);
    if (set) add_synonym(r, c, row->name, value, SOURCE_STATIC_BROKER);
    add_synonym(r, c, row->name, config_value(defaults, p, value, sizeof(value)), SOURCE_DEFAULT);
}

/* "" is the default of all brokers, of which nothing is ever set; else it must be this one. */
static enum err check_broker_name(const struct broker *b, struct kafka_string name) {
    char self[16];
    (void)snprintf(self, sizeof(self), "%d", b->config->node_id);
    return name.size == 0 || kafka_string_equal(name, kafka_string_of(self)) ? OK : ERR_INVALID_REQUEST;
}

static enum err describe_broker(const struct describe *d, const struct kafka_describe_configs_request_resource *want,
                                struct kafka_describe_configs_response_result *out) {
    enum err e = check_broker_name(d->broker, want->resource_name);
    if (e != OK || want->resource_name.size == 0) return e;
    struct config defaults;
    config_init_defaults(&defaults, d->broker->env->mem);
    out->configs.items = kafka_new(&kafka_describe_configs_response_config_type, &d->r->arena, CONFIG_PROPERTIES);
    for (size_t p = 0; p < CONFIG_PROPERTIES; p++) {
        if (!is_wanted(want, config_row((enum config_property)p)->name)) continue;
        describe_broker_entry(d, &defaults, (enum config_property)p, &out->configs.items[out->configs.count++]);
    }
    config_deinit(&defaults);
    return OK;
}

static void describe_there(void *arg) {
    const struct describe *d = arg;
    /* A resource named again would be described again, for a few bytes of request each time: once is enough. */
    struct mapstr seen;
    mapstr_init(&seen, d->broker->env->mem);
    for (int32_t i = 0; i < d->in->resources.count; i++) {
        const struct kafka_describe_configs_request_resource *want = &d->in->resources.items[i];
        char *key = arena_printf(&d->r->arena, "%d/%.*s", want->resource_type, (int)want->resource_name.size,
                                 want->resource_name.data);
        if (mapstr_put(&seen, key, strlen(key), key)) continue;
        struct kafka_describe_configs_response_result *out = &d->out->results.items[d->out->results.count++];
        out->resource_type = want->resource_type;
        out->resource_name = want->resource_name;
        out->error_message = (struct kafka_string){NULL, -1};
        enum err e = ERR_INVALID_REQUEST;
        const char *why = NULL;
        if (want->resource_type == RESOURCE_TOPIC) {
            e = describe_topic(d, want, out);
        } else if (want->resource_type == RESOURCE_BROKER) {
            e = describe_broker(d, want, out);
            why = "Unexpected broker id";
        } else {
            why = "Unsupported resource type";
        }
        if (e == OK) continue;
        out->error_code = request_error(d->r, e);
        out->error_message = kafka_string_of(why ? why : err_text(e));
    }
    mapstr_deinit(&seen);
}

enum request_outcome handle_describe_configs(struct request *r, const void *message, void *response) {
    struct describe d = {.r = r, .broker = request_shard(r)->broker, .in = message, .out = response};
    d.out->results.items =
        kafka_new(&kafka_describe_configs_response_result_type, &r->arena, (size_t)d.in->resources.count);
    loop_call(d.broker->o.loop0, describe_there, &d);
    for (int32_t i = 0; i < d.out->results.count && request_version(r) == 0; i++) {
        const struct kafka_describe_configs_response_result *result = &d.out->results.items[i];
        for (int32_t k = 0; k < result->configs.count; k++)
            result->configs.items[k].is_default = result->configs.items[k].config_source == SOURCE_DEFAULT;
    }
    return REQUEST_ANSWER;
}

/* --- Changing. */

struct alter {
    struct request *r;
    struct broker *broker;
    const struct kafka_incremental_alter_configs_request *in;
    struct kafka_incremental_alter_configs_response *out;
};

/* The overrides as they would be: for the check of all together. */
static struct meta_config *overrides_with(struct arena *a, const struct meta_topic *t,
                                          const struct meta_config *changes, size_t change_count, size_t *count) {
    struct meta_config *all = ARENA_ARRAY(a, struct meta_config, t->config_count + change_count);
    *count = 0;
    for (size_t i = 0; i < t->config_count; i++) {
        bool changed = false;
        for (size_t k = 0; k < change_count; k++) changed |= strcmp(t->configs[i].name, changes[k].name) == 0;
        if (!changed) all[(*count)++] = t->configs[i];
    }
    for (size_t k = 0; k < change_count; k++) {
        if (changes[k].value) all[(*count)++] = changes[k];
    }
    return all;
}

/* One operation after the other; what they amount to in `changes`. */
static enum err make_changes(const struct alter *al,
                             const struct kafka_incremental_alter_configs_request_resource *want,
                             const struct meta_topic *t, struct meta_config *changes, char *why, size_t why_size) {
    struct arena *a = &al->r->arena;
    struct buf value;
    buf_init(&value, al->broker->env->mem);
    enum err e = OK;
    for (int32_t i = 0; i < want->configs.count && e == OK; i++) {
        const struct kafka_incremental_alter_configs_request_config *c = &want->configs.items[i];
        changes[i].name = arena_strndup(a, c->name.data, (size_t)c->name.size);
        for (int32_t k = 0; k < i; k++) {
            if (strcmp(changes[k].name, changes[i].name) != 0) continue;
            (void)snprintf(why, why_size, "Error due to duplicate config keys");
            e = ERR_INVALID_REQUEST;
        }
        if (e != OK) break;
        const char *operand = c->value.size >= 0 ? arena_strndup(a, c->value.data, (size_t)c->value.size) : NULL;
        bool remove = false;
        value.size = 0;
        e = topic_config_alter(&al->broker->topic_defaults, t->configs, t->config_count, c->config_operation,
                               changes[i].name, operand, &value, &remove, why, why_size);
        if (e == OK && !remove) changes[i].value = arena_strndup(a, (const char *)value.data, value.size);
    }
    buf_deinit(&value);
    return e;
}

static enum err alter_topic(const struct alter *al, const struct kafka_incremental_alter_configs_request_resource *want,
                            char *why, size_t why_size) {
    struct broker *b = al->broker;
    struct kafka_string name = want->resource_name;
    const struct meta_topic *t = meta_topic_by_name(b->meta, name.data, (size_t)name.size);
    if (!t) return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    size_t change_count = (size_t)want->configs.count, count;
    struct meta_config *changes = ARENA_ARRAY(&al->r->arena, struct meta_config, change_count);
    enum err e = make_changes(al, want, t, changes, why, why_size);
    if (e != OK) return e;
    const struct meta_config *all = overrides_with(&al->r->arena, t, changes, change_count, &count);
    struct topic_config resolved;
    e = topic_config_resolve(&b->topic_defaults, all, count, &resolved, why, why_size);
    if (e != OK || al->in->validate_only || change_count == 0) return e;
    struct uuid id = t->id;
    return broker_configure_topic(b, &id, changes, change_count);
}

static void alter_one(const struct alter *al, const struct kafka_incremental_alter_configs_request_resource *want,
                      struct kafka_incremental_alter_configs_response_topic *out, bool twice) {
    char why[TOPIC_CONFIG_WHY_SIZE] = "";
    enum err e = ERR_INVALID_REQUEST;
    out->resource_type = want->resource_type;
    out->resource_name = want->resource_name;
    out->error_message = (struct kafka_string){NULL, -1};
    if (twice) {
        (void)snprintf(why, sizeof(why), "Each resource must appear at most once.");
    } else if (want->resource_type == RESOURCE_TOPIC) {
        e = alter_topic(al, want, why, sizeof(why));
    } else if (want->resource_type == RESOURCE_BROKER) {
        (void)snprintf(why, sizeof(why), "The configuration of a broker cannot be changed while it runs.");
    } else {
        (void)snprintf(why, sizeof(why), "Unsupported resource type");
    }
    if (e == OK) return;
    out->error_code = request_error(al->r, e);
    out->error_message = text(al->r, why[0] ? why : err_text(e));
}

static void alter_there(void *arg) {
    const struct alter *al = arg;
    struct mapstr seen;
    mapstr_init(&seen, al->broker->env->mem);
    /* What is made of a topic's overrides must still be right when it is committed. */
    fiber_mutex_lock(&al->broker->configs_lock);
    for (int32_t i = 0; i < al->in->resources.count; i++) {
        const struct kafka_incremental_alter_configs_request_resource *want = &al->in->resources.items[i];
        char *key = arena_printf(&al->r->arena, "%d/%.*s", want->resource_type, (int)want->resource_name.size,
                                 want->resource_name.data);
        bool twice = mapstr_put(&seen, key, strlen(key), key) != NULL;
        alter_one(al, want, &al->out->responses.items[i], twice);
    }
    fiber_mutex_unlock(&al->broker->configs_lock);
    mapstr_deinit(&seen);
}

enum request_outcome handle_incremental_alter_configs(struct request *r, const void *message, void *response) {
    struct alter al = {.r = r, .broker = request_shard(r)->broker, .in = message, .out = response};
    al.out->responses.items =
        kafka_new(&kafka_incremental_alter_configs_response_topic_type, &r->arena, (size_t)al.in->resources.count);
    al.out->responses.count = al.in->resources.count;
    loop_call(al.broker->o.loop0, alter_there, &al);
    return REQUEST_ANSWER;
}
