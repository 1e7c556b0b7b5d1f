/* DescribeConfigs and ListConfigResources: what topics and the broker are configured as, and where each value comes from
 * (dynamic.h). On loop 0, where the cluster log's image is. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/dynamic.h"
#include "kafka/kafka_messages.h"

/* Asked for room in these steps: what is beside the budget is less. */
#define DESCRIBED_AT_ONCE_BYTES ((size_t)256 << 10)

typedef struct kafka_describe_configs_response_config answer_config;

struct describe {
    struct request *r;
    struct broker *broker;
    const struct kafka_describe_configs_request *in;
    struct kafka_describe_configs_response *out;
    struct mapstr seen;
    int32_t next;        /* of the resources */
    size_t bytes;        /* that the answer takes by now, as it is and as it will be sent */
    answer_config *bare; /* of topics that nothing was set for: all are alike */
    int32_t bare_count;
};

static bool is_wanted(const struct kafka_describe_configs_request_resource *want, const char *name) {
    if (want->configuration_keys.count <= 0) return true; /* as with Kafka, an empty list is none at all */
    struct kafka_string n = kafka_string_of(name);
    for (int32_t i = 0; i < want->configuration_keys.count; i++) {
        if (kafka_string_equal(want->configuration_keys.items[i], n)) return true;
    }
    return false;
}

/* The names and texts are literals; the values in the arena. */
static void put_entry(const struct describe *d, answer_config *c, const char *name, int8_t type, const char *text,
                      bool read_only, const struct config_chain *chain) {
    ASSERT(chain->count > 0);
    c->name = kafka_string_of(name);
    c->value = kafka_string_of(chain->links[0].value);
    c->read_only = read_only;
    c->config_source = (int8_t)chain->links[0].source;
    c->config_type = type;
    c->documentation = d->in->include_documentation ? kafka_string_of(text) : (struct kafka_string){NULL, -1};
    if (!d->in->include_synonyms) return;
    c->synonyms.items = kafka_new(&kafka_describe_configs_response_synonym_type, &d->r->arena, chain->count);
    for (size_t i = 0; i < chain->count; i++) {
        const struct config_link *link = &chain->links[i];
        if (!link->name) continue;
        struct kafka_describe_configs_response_synonym *s = &c->synonyms.items[c->synonyms.count++];
        s->name = kafka_string_of(link->name);
        s->value = kafka_string_of(link->value);
        s->source = (int8_t)link->source;
    }
}

static enum err describe_topic(struct describe *d, const struct kafka_describe_configs_request_resource *want,
                               struct kafka_describe_configs_response_result *out) {
    struct kafka_string name = want->resource_name;
    if (!meta_topic_name_valid(name.data, (size_t)name.size)) return ERR_INVALID_TOPIC;
    const struct meta_topic *t = meta_topic_by_name(d->broker->meta, name.data, (size_t)name.size);
    if (!t) return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    bool bare = t->config_count == 0 && want->configuration_keys.count <= 0;
    if (bare && d->bare) {
        out->configs.items = d->bare;
        out->configs.count = d->bare_count;
        return OK;
    }
    out->configs.items = kafka_new(&kafka_describe_configs_response_config_type, &d->r->arena, TOPIC_PROPERTIES);
    struct topic_config_entry e;
    for (size_t cursor = 0;
         topic_config_describe(&d->broker->topic_defaults, t->configs, t->config_count, &cursor, &e);) {
        if (!is_wanted(want, e.name)) continue;
        struct config_chain chain;
        topic_property_chain(d->broker, &d->r->arena, &e, &chain);
        put_entry(d, &out->configs.items[out->configs.count++], e.name, (int8_t)e.type, e.text, false, &chain);
    }
    if (bare) {
        d->bare = out->configs.items;
        d->bare_count = out->configs.count;
    }
    return OK;
}

/* The number of a broker in a resource's name. */
static enum err check_broker_name(const struct describe *d, struct kafka_string name, const char **why) {
    char *text = arena_strndup(&d->r->arena, name.data, (size_t)name.size), *end;
    int32_t self = d->broker->config->node_id;
    long number = strtol(text, &end, 10);
    if (*end != '\0' || end == text) {
        *why = arena_printf(&d->r->arena, "Broker id must be an integer, but it is: %s", text);
    } else if (number != self) {
        *why = arena_printf(&d->r->arena, "Unexpected broker id, expected %d or empty string, but received %s", self,
                            text);
    } else {
        return OK;
    }
    return ERR_INVALID_REQUEST;
}

/* Of the broker all properties; of "", which stands for all brokers, those that were set. */
static enum err describe_broker(const struct describe *d, const struct kafka_describe_configs_request_resource *want,
                                struct kafka_describe_configs_response_result *out, const char **why) {
    bool own = want->resource_name.size > 0;
    enum err e = own ? check_broker_name(d, want->resource_name, why) : OK;
    if (e != OK) return e;
    struct broker_property p;
    size_t count = 0;
    for (size_t cursor = 0; broker_property_next(&cursor, &p);) count++;
    out->configs.items = kafka_new(&kafka_describe_configs_response_config_type, &d->r->arena, count);
    for (size_t cursor = 0; broker_property_next(&cursor, &p);) {
        struct config_chain chain;
        if (!is_wanted(want, p.name)) continue;
        broker_property_chain(d->broker, &d->r->arena, &p, own, &chain);
        if (!own && chain.links[0].source != SOURCE_DYNAMIC_DEFAULT_BROKER) continue;
        put_entry(d, &out->configs.items[out->configs.count++], p.name, p.type, p.text, !p.dynamic, &chain);
    }
    return OK;
}

/* There is one logger. */
static enum err describe_loggers(const struct describe *d, const struct kafka_describe_configs_request_resource *want,
                                 struct kafka_describe_configs_response_result *out, const char **why) {
    if (want->resource_name.size <= 0) {
        *why = "Broker id must not be empty";
        return ERR_INVALID_REQUEST;
    }
    enum err e = check_broker_name(d, want->resource_name, why);
    if (e != OK || !is_wanted(want, ROOT_LOGGER)) return e;
    out->configs.items = kafka_new(&kafka_describe_configs_response_config_type, &d->r->arena, 1);
    out->configs.count = 1;
    struct config_chain chain = {.links = {{ROOT_LOGGER, broker_log_level(d->broker), SOURCE_DYNAMIC_BROKER_LOGGER}},
                                 .count = 1};
    put_entry(d, &out->configs.items[0], ROOT_LOGGER, PROPERTY_STRING, "The least important lines that are logged.",
              false, &chain);
    out->configs.items[0].synonyms.count = 0;
    return OK;
}

static enum err describe_one(struct describe *d, const struct kafka_describe_configs_request_resource *want,
                             struct kafka_describe_configs_response_result *out, const char **why) {
    bool named = want->resource_name.size > 0;
    switch (want->resource_type) {
    case RESOURCE_TOPIC:
        return describe_topic(d, want, out);
    case RESOURCE_BROKER:
        return describe_broker(d, want, out, why);
    case RESOURCE_BROKER_LOGGER:
        return describe_loggers(d, want, out, why);
    case RESOURCE_CLIENT_METRICS: /* none is ever configured */
        if (!named) *why = "Client metrics subscription name must not be empty";
        return named ? OK : ERR_INVALID_REQUEST;
    case RESOURCE_GROUP: /* nor has a group a configuration of its own */
        if (!named) *why = "Group name must not be empty";
        return named ? OK : ERR_INVALID_REQUEST;
    default:
        *why = "Unsupported resource type";
        return ERR_INVALID_REQUEST;
    }
}

/* What is described takes a hundred times what it takes to ask for it. */
static void describe_count(struct describe *d, struct kafka_describe_configs_response_result *out, size_t before) {
    size_t encoded = 0;
    enum err e = kafka_encoded_size(&kafka_describe_configs_response_result_type, request_version(d->r), out, &encoded);
    d->bytes += d->r->arena.used_bytes - before + (e == OK ? encoded : 0);
}

/* The next few of them. */
static void describe_there(void *arg) {
    struct describe *d = arg;
    size_t begun = d->bytes, most = request_answer_most(d->r);
    for (; d->next < d->in->resources.count && d->bytes - begun < DESCRIBED_AT_ONCE_BYTES; d->next++) {
        const struct kafka_describe_configs_request_resource *want = &d->in->resources.items[d->next];
        size_t before = d->r->arena.used_bytes;
        char *key = arena_printf(&d->r->arena, "%d/%.*s", want->resource_type, (int)want->resource_name.size,
                                 want->resource_name.data);
        if (mapstr_put(&d->seen, key, strlen(key), key)) continue;
        struct kafka_describe_configs_response_result *out = &d->out->results.items[d->out->results.count++];
        out->resource_type = want->resource_type;
        out->resource_name = want->resource_name;
        out->error_message = (struct kafka_string){NULL, -1};
        const char *why = NULL;
        enum err e = d->bytes < most ? describe_one(d, want, out, &why) : ERR_POLICY_VIOLATION;
        if (e == ERR_POLICY_VIOLATION)
            why = "The answer would be larger than queued.max.response.bytes allows: ask for fewer at once.";
        if (e != OK) {
            out->error_code = request_error(d->r, e);
            out->error_message = kafka_string_of(why ? why : err_text(e));
        }
        describe_count(d, out, before);
    }
}

enum request_outcome handle_describe_configs(struct request *r, const void *message, void *response) {
    struct describe d = {.r = r, .broker = request_shard(r)->broker, .in = message, .out = response};
    d.out->results.items =
        kafka_new(&kafka_describe_configs_response_result_type, &r->arena, (size_t)d.in->resources.count);
    /* A resource named again would be described again, for a few bytes of request each time: once is enough. */
    mapstr_init(&d.seen, d.broker->env->mem);
    while (d.next < d.in->resources.count) {
        loop_call(d.broker->o.loop0, describe_there, &d);
        request_answer_make(r, d.bytes, true);
    }
    mapstr_deinit(&d.seen);
    for (int32_t i = 0; i < d.out->results.count && request_version(r) == 0; i++) {
        const struct kafka_describe_configs_response_result *result = &d.out->results.items[i];
        for (int32_t k = 0; k < result->configs.count; k++)
            result->configs.items[k].is_default = result->configs.items[k].config_source == SOURCE_DEFAULT;
    }
    return REQUEST_ANSWER;
}

/* --- ListConfigResources: what there is to be described. Answered from the shard's routes. */

static bool lists(const struct kafka_list_config_resources_request *in, int16_t version, int8_t type) {
    if (version == 0) return type == RESOURCE_CLIENT_METRICS;
    for (int32_t i = 0; i < in->resource_types.count; i++) {
        if (in->resource_types.items[i] == type) return true;
    }
    return in->resource_types.count <= 0;
}

static void list_put(struct kafka_list_config_resources_response *out, int8_t type, struct kafka_string name) {
    struct kafka_list_config_resources_response_config_resource *c =
        &out->config_resources.items[out->config_resources.count++];
    c->resource_name = name;
    c->resource_type = type;
}

enum request_outcome handle_list_config_resources(struct request *r, const void *message, void *response) {
    static const int8_t known[] = {RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS,
                                   RESOURCE_GROUP};
    const struct kafka_list_config_resources_request *in = message;
    struct kafka_list_config_resources_response *out = response;
    for (int32_t i = 0; i < in->resource_types.count; i++) {
        if (memchr(known, in->resource_types.items[i], sizeof(known))) continue;
        out->error_code = request_error(r, ERR_UNSUPPORTED_VERSION);
        return REQUEST_ANSWER;
    }
    const struct shard *s = request_shard(r);
    int16_t version = request_version(r);
    const struct topic_route *t;
    size_t bytes = 0;
    for (size_t cursor = 0; (t = mapstr_next(&s->routes.by_id, &cursor, NULL, NULL)) != NULL;)
        bytes += 2 * (sizeof(*out->config_resources.items) + t->name_size);
    request_answer_make(r, bytes, false);
    out->config_resources.items =
        kafka_new(&kafka_list_config_resources_response_config_resource_type, &r->arena, s->routes.by_id.count + 2);
    for (size_t cursor = 0;
         lists(in, version, RESOURCE_TOPIC) && (t = mapstr_next(&s->routes.by_id, &cursor, NULL, NULL)) != NULL;) {
        list_put(out, RESOURCE_TOPIC, kafka_string_view(arena_strndup(&r->arena, t->name, t->name_size), t->name_size));
    }
    struct kafka_string self = kafka_string_of(arena_printf(&r->arena, "%d", s->broker->config->node_id));
    if (lists(in, version, RESOURCE_BROKER)) list_put(out, RESOURCE_BROKER, self);
    if (lists(in, version, RESOURCE_BROKER_LOGGER)) list_put(out, RESOURCE_BROKER_LOGGER, self);
    return REQUEST_ANSWER;
}
