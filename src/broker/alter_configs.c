/* AlterConfigs and IncrementalAlterConfigs: of topics, of the broker or all brokers (what dynamic.h says can be changed
 * while it runs), and the level of the log. The checks and their words are Kafka's. AlterConfigs gives the whole
 * configuration of a resource: what it does not list goes back to its default; both come down to a list of changes.
 *
 * On loop 0, one resource after the other, and one request after the other: what is made of a resource's values must
 * still be right when it is committed. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/dynamic.h"
#include "kafka/kafka_messages.h"

/* One value of a resource, as either API gives it. */
struct wish {
    const char *name, *value; /* NUL-terminated; value NULL: none */
    int op;                   /* enum topic_config_op */
};

struct resource {
    int8_t type;
    struct kafka_string name;
    struct wish *wishes;
    size_t count;
    enum err err;
    const char *why; /* NULL: the error's own text */
};

struct alter {
    struct request *r;
    struct broker *broker;
    bool whole; /* AlterConfigs: what is not listed is reset */
    bool validate_only;
    unsigned *suggestions; /* how many more unknown names are told what is near */
    struct resource *resources;
    size_t count;
};

static enum err refuse(struct resource *s, enum err e, const char *why) {
    s->why = why;
    return e;
}

/* --- What is wrong with the list itself. */

static enum err check_wishes(const struct alter *al, struct resource *s) {
    const char *nulls = NULL;
    struct mapstr seen;
    bool twice = false;
    mapstr_init(&seen, al->broker->env->mem);
    for (size_t i = 0; i < s->count; i++) {
        const struct wish *w = &s->wishes[i];
        twice |= mapstr_put(&seen, w->name, strlen(w->name), s) != NULL;
        if (w->value || w->op == TOPIC_CONFIG_DELETE) continue;
        nulls = nulls ? arena_printf(&al->r->arena, "%s, %s", nulls, w->name) : w->name;
        if (i > 100) break; /* that says enough */
    }
    mapstr_deinit(&seen);
    if (twice) return refuse(s, ERR_INVALID_REQUEST, "Error due to duplicate config keys");
    if (nulls) {
        return refuse(s, ERR_INVALID_REQUEST, arena_printf(&al->r->arena, "Null value not supported for : %s", nulls));
    }
    return OK;
}

/* Adds to the changes those values that are set and not in the list: they go. */
static void changes_reset(struct meta_config *changes, size_t *count, const struct meta_config *set, size_t set_count) {
    size_t listed = *count;
    for (size_t i = 0; i < set_count; i++) {
        size_t k = 0;
        while (k < listed && strcmp(changes[k].name, set[i].name) != 0) k++;
        if (k == listed) changes[(*count)++] = (struct meta_config){set[i].name, NULL};
    }
}

/* --- Topics. */

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

static bool is_set(const struct meta_topic *t, const char *name) {
    for (size_t i = 0; i < t->config_count; i++) {
        if (strcmp(t->configs[i].name, name) == 0) return true;
    }
    return false;
}

/* What is to be committed of the wishes; to take away what is not there is nothing. */
static enum err topic_changes(const struct alter *al, const struct resource *s, const struct meta_topic *t,
                              struct meta_config *changes, size_t *count, char *why, size_t why_size) {
    struct arena *a = &al->r->arena;
    struct buf value;
    buf_init(&value, al->broker->env->mem);
    enum err e = OK;
    for (size_t i = 0; i < s->count && e == OK; i++) {
        const struct wish *w = &s->wishes[i];
        bool remove = false;
        value.size = 0;
        e = topic_config_alter(&al->broker->topic_defaults, t->configs, t->config_count, w->op, w->name, w->value,
                               &value, &remove, al->suggestions, why, why_size);
        if (e != OK || (remove && !is_set(t, w->name))) continue;
        struct meta_config *c = &changes[(*count)++];
        c->name = (char *)(uintptr_t)w->name;
        if (!remove) c->value = arena_strndup(a, (const char *)value.data, value.size);
    }
    buf_deinit(&value);
    return e;
}

static enum err alter_topic(const struct alter *al, struct resource *s) {
    struct broker *b = al->broker;
    struct arena *a = &al->r->arena;
    char why[TOPIC_CONFIG_WHY_SIZE] = "";
    if (s->name.size <= 0) return refuse(s, ERR_INVALID_REQUEST, "A topic's name must not be empty.");
    if (!meta_topic_name_valid(s->name.data, (size_t)s->name.size)) return ERR_INVALID_TOPIC;
    const struct meta_topic *t = meta_topic_by_name(b->meta, s->name.data, (size_t)s->name.size);
    if (!t) {
        return refuse(s, ERR_UNKNOWN_TOPIC_OR_PARTITION,
                      arena_printf(a, "The topic '%.*s' does not exist.", (int)s->name.size, s->name.data));
    }
    size_t change_count = 0, count;
    struct meta_config *changes = ARENA_ARRAY(a, struct meta_config, s->count + t->config_count);
    enum err e = topic_changes(al, s, t, changes, &change_count, why, sizeof(why));
    size_t own = change_count;
    if (e == OK && al->whole) changes_reset(changes, &change_count, t->configs, t->config_count);
    if (e == OK) {
        const struct meta_config *all = overrides_with(a, t, changes, change_count, &count);
        struct topic_config resolved;
        e = topic_config_resolve(&b->topic_defaults, all, count, &resolved, al->suggestions, why, sizeof(why));
    }
    if (e != OK) return refuse(s, e, why[0] ? arena_strndup(a, why, strlen(why)) : NULL);
    if (al->validate_only || change_count == 0) return OK;
    /* The image's names go with the topic. */
    for (size_t i = own; i < change_count; i++)
        changes[i].name = arena_strndup(a, changes[i].name, strlen(changes[i].name));
    struct uuid id = t->id;
    return broker_configure_topic(b, &id, changes, change_count);
}

/* --- The broker, and all brokers (""). */

/* The number of this broker; META_ALL_BROKERS where that may be meant. */
static enum err check_broker_name(const struct alter *al, struct resource *s, bool may_be_all, int32_t *node_id) {
    struct arena *a = &al->r->arena;
    *node_id = al->broker->config->node_id;
    if (s->name.size <= 0 && may_be_all) {
        *node_id = META_ALL_BROKERS;
        return OK;
    }
    const char *text = s->name.size < 0 ? "" : arena_strndup(a, s->name.data, (size_t)s->name.size);
    char *end;
    long number = strtol(text, &end, 10);
    if (*end != '\0' || end == text)
        return refuse(s, ERR_INVALID_REQUEST, arena_printf(a, "Node id must be an integer, but it is: %s", text));
    if (number == *node_id) return OK;
    return refuse(s, ERR_INVALID_REQUEST,
                  arena_printf(a, "Unexpected broker id, expected %d, but received %s", *node_id, text));
}

static enum err alter_broker(const struct alter *al, struct resource *s) {
    struct broker *b = al->broker;
    struct arena *a = &al->r->arena;
    char why[CONFIG_WHY_SIZE] = "";
    int32_t node_id;
    enum err e = check_broker_name(al, s, true, &node_id);
    if (e != OK) return e;
    size_t set_count, change_count = s->count;
    const struct meta_config *set = meta_broker_configs(b->meta, node_id, &set_count);
    struct meta_config *changes = ARENA_ARRAY(a, struct meta_config, s->count + set_count);
    for (size_t i = 0; i < s->count && e == OK; i++) {
        const char *value;
        changes[i].name = (char *)(uintptr_t)s->wishes[i].name;
        e = broker_property_alter(b, a, node_id, s->wishes[i].op, changes[i].name, s->wishes[i].value, &value, why,
                                  sizeof(why));
        if (e == OK) changes[i].value = (char *)(uintptr_t)value;
    }
    if (e == OK && al->whole) {
        changes_reset(changes, &change_count, set, set_count);
        for (size_t i = s->count; i < change_count; i++)
            changes[i].name = arena_strndup(a, changes[i].name, strlen(changes[i].name));
    }
    if (e == OK) e = broker_properties_check(b, node_id, changes, change_count, why, sizeof(why));
    if (e != OK) return refuse(s, e, why[0] ? arena_strndup(a, why, strlen(why)) : NULL);
    if (al->validate_only || change_count == 0) return OK;
    return broker_configure_self(b, node_id, changes, change_count);
}

/* --- The log's level. It is not kept: a start begins with what the configuration says. */

static const char *const level_names[] = {"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "TRACE"};
static const enum log_level level_values[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_NONE, LOG_DEBUG};

const char *broker_log_level(const struct broker *b) {
    enum log_level level = atomic_load(&b->env->log->level);
    for (size_t i = 0; i < ARRAY_LEN(level_values); i++) {
        if (level_values[i] == level) return level_names[i];
    }
    UNREACHABLE();
}

static enum err check_logger(const struct alter *al, struct resource *s, const struct wish *w, size_t *level) {
    struct arena *a = &al->r->arena;
    if (w->op == TOPIC_CONFIG_APPEND || w->op == TOPIC_CONFIG_SUBTRACT) {
        return refuse(s, ERR_INVALID_REQUEST,
                      arena_printf(a, "%s operation is not allowed for the BROKER_LOGGER resource",
                                   w->op == TOPIC_CONFIG_APPEND ? "APPEND" : "SUBTRACT"));
    }
    if (w->op < TOPIC_CONFIG_SET || w->op > TOPIC_CONFIG_SUBTRACT)
        return refuse(s, ERR_INVALID_REQUEST, "Unknown operation");
    if (strcmp(w->name, ROOT_LOGGER) != 0)
        return refuse(s, ERR_INVALID_CONFIG, arena_printf(a, "Logger %s does not exist!", w->name));
    if (w->op == TOPIC_CONFIG_DELETE)
        return refuse(s, ERR_INVALID_REQUEST, "Removing the log level of the root logger is not allowed");
    for (*level = 0; *level < ARRAY_LEN(level_names); (*level)++) {
        if (strcmp(level_names[*level], w->value) == 0) return OK;
    }
    return refuse(s, ERR_INVALID_CONFIG,
                  arena_printf(a,
                               "Cannot set the log level of %s to %s as it is not a supported log level. Valid log "
                               "levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
                               w->name, w->value));
}

static enum err alter_loggers(const struct alter *al, struct resource *s) {
    if (al->whole) return refuse(s, ERR_INVALID_REQUEST, "Unexpected resource type BROKER_LOGGER.");
    int32_t node_id;
    size_t level = 0;
    enum err e = check_broker_name(al, s, false, &node_id);
    for (size_t i = 0; i < s->count && e == OK; i++) e = check_logger(al, s, &s->wishes[i], &level);
    if (e != OK || al->validate_only || s->count == 0) return e;
    atomic_store(&al->broker->env->log->level, level_values[level]);
    log_info(al->broker->env->log, "log level changed", "level=%s by=client", level_names[level]);
    return OK;
}

/* --- A request. */

static enum err alter_one(const struct alter *al, struct resource *s) {
    enum err e = check_wishes(al, s);
    if (e != OK) return e;
    switch (s->type) {
    case RESOURCE_TOPIC:
        return alter_topic(al, s);
    case RESOURCE_BROKER:
        return alter_broker(al, s);
    case RESOURCE_BROKER_LOGGER:
        return alter_loggers(al, s);
    case RESOURCE_CLIENT_METRICS:
        return refuse(s, ERR_INVALID_REQUEST, "Metrics of clients are not collected here.");
    case RESOURCE_GROUP:
        return s->count == 0 ? OK
                             : refuse(s, ERR_INVALID_CONFIG,
                                      arena_printf(&al->r->arena, "Unknown group config name: %s", s->wishes[0].name));
    default:
        return refuse(s, ERR_INVALID_REQUEST, arena_printf(&al->r->arena, "Unknown resource type %d.", s->type));
    }
}

static void alter_there(void *arg) {
    const struct alter *al = arg;
    struct mapstr seen;
    mapstr_init(&seen, al->broker->env->mem);
    for (size_t i = 0; i < al->count; i++) {
        struct resource *s = &al->resources[i];
        char *key =
            arena_printf(&al->r->arena, "%d/%.*s", s->type, s->name.size < 0 ? 0 : (int)s->name.size, s->name.data);
        struct resource *other = mapstr_put(&seen, key, strlen(key), s);
        if (!other) continue;
        s->err = refuse(s, ERR_INVALID_REQUEST, "Each resource must appear at most once.");
        other->err = refuse(other, ERR_INVALID_REQUEST, s->why);
    }
    mapstr_deinit(&seen);
    fiber_mutex_lock(&al->broker->configs_lock);
    for (size_t i = 0; i < al->count; i++) {
        if (al->resources[i].err == OK) al->resources[i].err = alter_one(al, &al->resources[i]);
    }
    fiber_mutex_unlock(&al->broker->configs_lock);
}

static const char *copied(struct request *r, struct kafka_string s) {
    return s.size < 0 ? NULL : arena_strndup(&r->arena, s.data, (size_t)s.size);
}

/* The code and the text of what became of it. */
static int16_t alter_result(struct request *r, const struct resource *s, struct kafka_string *text) {
    *text = (struct kafka_string){NULL, -1};
    if (s->err == OK) return KAFKA_NONE;
    *text = kafka_string_of(s->why ? s->why : err_text(s->err));
    return request_error(r, s->err);
}

enum request_outcome handle_incremental_alter_configs(struct request *r, const void *message, void *response) {
    const struct kafka_incremental_alter_configs_request *in = message;
    struct kafka_incremental_alter_configs_response *out = response;
    unsigned suggestions = TOPIC_CONFIG_SUGGESTIONS;
    struct alter al = {.r = r,
                       .suggestions = &suggestions,
                       .broker = request_shard(r)->broker,
                       .validate_only = in->validate_only,
                       .count = (size_t)in->resources.count};
    al.resources = ARENA_ARRAY(&r->arena, struct resource, al.count);
    for (size_t i = 0; i < al.count; i++) {
        const struct kafka_incremental_alter_configs_request_resource *w = &in->resources.items[i];
        struct resource *s = &al.resources[i];
        *s = (struct resource){.type = w->resource_type, .name = w->resource_name, .count = (size_t)w->configs.count};
        s->wishes = ARENA_ARRAY(&r->arena, struct wish, s->count);
        for (size_t k = 0; k < s->count; k++) {
            const struct kafka_incremental_alter_configs_request_config *c = &w->configs.items[k];
            s->wishes[k] = (struct wish){copied(r, c->name), copied(r, c->value), c->config_operation};
        }
    }
    loop_call(al.broker->o.loop0, alter_there, &al);
    out->responses.items =
        kafka_new(&kafka_incremental_alter_configs_response_topic_type, &r->arena, (size_t)in->resources.count);
    out->responses.count = in->resources.count;
    for (size_t i = 0; i < al.count; i++) {
        struct kafka_incremental_alter_configs_response_topic *o = &out->responses.items[i];
        o->resource_type = al.resources[i].type;
        o->resource_name = al.resources[i].name;
        o->error_code = alter_result(r, &al.resources[i], &o->error_message);
    }
    return REQUEST_ANSWER;
}

enum request_outcome handle_alter_configs(struct request *r, const void *message, void *response) {
    const struct kafka_alter_configs_request *in = message;
    struct kafka_alter_configs_response *out = response;
    unsigned suggestions = TOPIC_CONFIG_SUGGESTIONS;
    struct alter al = {.r = r,
                       .suggestions = &suggestions,
                       .broker = request_shard(r)->broker,
                       .whole = true,
                       .validate_only = in->validate_only,
                       .count = (size_t)in->resources.count};
    al.resources = ARENA_ARRAY(&r->arena, struct resource, al.count);
    for (size_t i = 0; i < al.count; i++) {
        const struct kafka_alter_configs_request_resource *w = &in->resources.items[i];
        struct resource *s = &al.resources[i];
        *s = (struct resource){.type = w->resource_type, .name = w->resource_name, .count = (size_t)w->configs.count};
        s->wishes = ARENA_ARRAY(&r->arena, struct wish, s->count);
        for (size_t k = 0; k < s->count; k++) {
            const struct kafka_alter_configs_request_config *c = &w->configs.items[k];
            s->wishes[k] = (struct wish){copied(r, c->name), copied(r, c->value), TOPIC_CONFIG_SET};
        }
    }
    loop_call(al.broker->o.loop0, alter_there, &al);
    out->responses.items =
        kafka_new(&kafka_alter_configs_response_response_type, &r->arena, (size_t)in->resources.count);
    out->responses.count = in->resources.count;
    for (size_t i = 0; i < al.count; i++) {
        struct kafka_alter_configs_response_response *o = &out->responses.items[i];
        o->resource_type = al.resources[i].type;
        o->resource_name = al.resources[i].name;
        o->error_code = alter_result(r, &al.resources[i], &o->error_message);
    }
    return REQUEST_ANSWER;
}
