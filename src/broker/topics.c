/* CreateTopics and DeleteTopics. The checks and their words are Kafka's. Everything that looks at or changes the
 * cluster log runs on loop 0, in one loop_call per request, several topics at a time: their commits share group
 * commits. */
#include <limits.h>

#include "base/assert.h"
#include "broker/broker_priv.h"
#include "broker/crew.h"
#include "broker/dynamic.h"
#include "kafka/kafka_messages.h"

#define COMMITS_MAX 64u
#define PARTITIONS_MAX 10000 /* of one request, as with Kafka's controller */

/* --- Creating. */

struct creation {
    const struct kafka_create_topics_request_topic *want;
    struct kafka_create_topics_response_topic *out;
    const char *name; /* NUL-terminated */
    struct meta_config *configs;
    size_t config_count;
    int32_t partition_count;
    int16_t replication_factor;
    enum err err;
    const char *why; /* NULL: the error's own text */
    bool refused;    /* its name stands in the request again */
};

struct creations {
    struct request *r;
    struct broker *broker;
    struct creation *items;
    size_t count;
    bool validate_only;
    int64_t partitions_there, partitions_total; /* before this request; of what it makes */
    unsigned suggestions;                       /* how many more unknown configurations are told what is near */
    size_t told_bytes;                          /* what the configurations take that the answer tells */
};

static enum err refuse(struct creation *c, enum err e, const char *why) {
    c->why = why;
    return e;
}

static char normal(char c) {
    return c == '.' ? '_' : c;
}

/* Names that differ only in '.' and '_' would share the names of their metrics: Kafka allows only one of them. */
static const char *colliding_topic(const struct meta *m, const char *name) {
    if (!strpbrk(name, "._")) return NULL;
    const struct meta_topic *t;
    for (size_t cursor = 0; (t = meta_topic_next(m, &cursor)) != NULL;) {
        size_t i = 0;
        while (name[i] && normal(name[i]) == normal(t->name[i])) i++;
        if (!name[i] && !t->name[i]) return t->name;
    }
    return NULL;
}

static enum err check_name(struct creations *all, struct creation *c) {
    struct arena *a = &all->r->arena;
    struct kafka_string name = c->want->name;
    if (!meta_topic_name_valid(name.data, (size_t)name.size)) {
        return refuse(
            c, ERR_INVALID_TOPIC,
            "a topic's name is 1 to 249 characters long, not \".\" or \"..\", and of ASCII letters and digits, '.', '_' and '-' only");
    }
    if (meta_topic_by_name(all->broker->meta, name.data, (size_t)name.size)) {
        return refuse(c, ERR_TOPIC_EXISTS, arena_printf(a, "Topic '%s' already exists.", c->name));
    }
    return OK;
}

static enum err check_collision(struct creations *all, struct creation *c) {
    const char *other = colliding_topic(all->broker->meta, c->name);
    if (!other) return OK;
    return refuse(c, ERR_INVALID_TOPIC,
                  arena_printf(&all->r->arena, "Topic '%s' collides with existing topic: %s", c->name, other));
}

/* An assignment that the client has made itself: there is one broker, so there is one that is right. */
static enum err check_assignments(struct creations *all, struct creation *c) {
    const struct kafka_create_topics_request_topic *w = c->want;
    int32_t count = w->assignments.count, self = all->broker->config->node_id;
    if (w->num_partitions != -1 || w->replication_factor != -1) {
        return refuse(
            c, ERR_INVALID_REQUEST,
            "A manual partition assignment was specified, but numPartitions or replicationFactor was not set to -1.");
    }
    uint8_t *seen = arena_zalloc(&all->r->arena, (size_t)count);
    for (int32_t i = 0; i < count; i++) {
        const struct kafka_create_topics_request_assignment *as = &w->assignments.items[i];
        if (as->partition_index < 0 || as->partition_index >= count || seen[as->partition_index]++) {
            return refuse(c, ERR_INVALID_REPLICA_ASSIGNMENT,
                          "partitions should be a consecutive 0-based integer sequence");
        }
        if (as->broker_ids.count != 1 || as->broker_ids.items[0] != self) {
            return refuse(c, ERR_INVALID_REPLICA_ASSIGNMENT,
                          arena_printf(&all->r->arena,
                                       "each partition must be assigned to broker %d, which is the only one", self));
        }
    }
    c->partition_count = count;
    c->replication_factor = 1;
    return OK;
}

static enum err check_size(struct creations *all, struct creation *c) {
    const struct kafka_create_topics_request_topic *w = c->want;
    const struct config *config = all->broker->config;
    if (w->assignments.count > 0) {
        enum err e = check_assignments(all, c);
        if (e != OK) return e;
    } else {
        c->partition_count = w->num_partitions == -1 ? config->num_partitions : w->num_partitions;
        if (c->partition_count <= 0)
            return refuse(c, ERR_INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.");
        /* A factor above the number of brokers is remembered, not refused: durability comes from the object store. */
        c->replication_factor =
            w->replication_factor == -1 ? (int16_t)config->default_replication_factor : w->replication_factor;
        if (c->replication_factor <= 0)
            return refuse(c, ERR_INVALID_REPLICATION_FACTOR,
                          "Replication factor must be larger than 0, or -1 to use the default value.");
    }
    if (all->partitions_total + c->partition_count > PARTITIONS_MAX) {
        return refuse(c, ERR_POLICY_VIOLATION, "Excessively large number of partitions per request.");
    }
    if (!broker_has_room_for(all->broker, all->partitions_there + all->partitions_total + c->partition_count))
        return refuse(c, ERR_POLICY_VIOLATION, "The broker has no memory for so many partitions more (state.bytes).");
    all->partitions_total += c->partition_count;
    return OK;
}

static enum err check_configs(struct creations *all, struct creation *c) {
    struct arena *a = &all->r->arena;
    size_t count = (size_t)c->want->configs.count;
    if (count > TOPIC_PROPERTIES) return refuse(c, ERR_INVALID_CONFIG, "more configurations than there are");
    c->configs = ARENA_ARRAY(a, struct meta_config, count);
    for (size_t i = 0; i < count; i++) {
        const struct kafka_create_topics_request_config *w = &c->want->configs.items[i];
        const char *name = arena_strndup(a, w->name.data, (size_t)w->name.size);
        size_t k = 0; /* As with Kafka, the last one counts. */
        while (k < c->config_count && strcmp(c->configs[k].name, name) != 0) k++;
        c->configs[k] = (struct meta_config){(char *)(uintptr_t)name, NULL};
        if (w->value.size >= 0) c->configs[k].value = arena_strndup(a, w->value.data, (size_t)w->value.size);
        if (k == c->config_count) c->config_count++;
    }
    char why[TOPIC_CONFIG_WHY_SIZE];
    struct topic_config resolved;
    enum err e = topic_config_resolve(&all->broker->topic_defaults, c->configs, c->config_count, &resolved,
                                      &all->suggestions, why, sizeof(why));
    return e == OK ? OK : refuse(c, e, arena_printf(a, "%s", why));
}

/* Kafka protocol: CreateTopics 5 and later tells the configuration that the topic has got; where that becomes too much in one
 * answer, as if it might not be seen. */
static void tell_configs(struct creations *all, struct creation *c) {
    struct arena *a = &all->r->arena;
    struct topic_config_entry e;
    size_t before = a->used_bytes;
    if (all->told_bytes >= request_answer_most(all->r)) {
        c->out->configs.count = -1;
        c->out->topic_config_error_code = KAFKA_POLICY_VIOLATION;
        return;
    }
    c->out->configs.items = kafka_new(&kafka_create_topics_response_config_type, a, TOPIC_PROPERTIES);
    c->out->configs.count = 0;
    for (size_t cursor = 0;
         topic_config_describe(&all->broker->topic_defaults, c->configs, c->config_count, &cursor, &e);) {
        struct kafka_create_topics_response_config *out = &c->out->configs.items[c->out->configs.count++];
        struct config_chain chain;
        topic_property_chain(all->broker, a, &e, &chain);
        out->name = kafka_string_of(e.name);
        out->value = kafka_string_of(chain.links[0].value);
        out->config_source = (int8_t)chain.links[0].source;
    }
    all->told_bytes += 2 * (a->used_bytes - before); /* as it is, and as it will be sent */
}

static void create_one(void *ctx, size_t i) {
    struct creations *all = ctx;
    struct creation *c = &all->items[i];
    if (c->refused) return;
    c->err = check_name(all, c);
    if (c->err == OK) c->err = check_size(all, c);
    if (c->err == OK) c->err = check_collision(all, c);
    if (c->err == OK) c->err = check_configs(all, c);
    if (c->err == OK && !all->validate_only) {
        struct topic_wish wish = {c->name, c->partition_count, c->replication_factor, c->configs, c->config_count};
        struct uuid id;
        c->err = broker_create_topic(all->broker, &wish, &id);
        if (c->err == OK) {
            c->out->topic_id = uuid_to_kafka(&id);
            log_info(all->broker->env->log, "topic created", "topic=%s partitions=%d by=client", c->name,
                     c->partition_count);
        }
    }
    if (c->err != OK) return;
    c->out->num_partitions = c->partition_count;
    c->out->replication_factor = c->replication_factor;
    if (request_version(all->r) >= 5) tell_configs(all, c);
}

static void create_there(void *arg) {
    struct creations *all = arg;
    all->partitions_there = broker_partitions_there(all->broker);
    crew_run("CreateTopics", all->count, COMMITS_MAX, create_one, all);
}

/* Fills the items in. As Kafka: all that share a name are refused with one answer, for none of them is more right than
 * another. */
static void creations_from(struct creations *all, const struct kafka_create_topics_request *in,
                           struct kafka_create_topics_response *out) {
    struct arena *a = &all->r->arena;
    struct mapstr seen;
    mapstr_init(&seen, all->broker->env->mem);
    for (int32_t i = 0; i < in->topics.count; i++) {
        const struct kafka_create_topics_request_topic *w = &in->topics.items[i];
        struct creation *twice = mapstr_get(&seen, w->name.data, (size_t)w->name.size);
        if (twice) {
            twice->refused = true;
            twice->err = refuse(twice, ERR_INVALID_REQUEST, "Duplicate topic name.");
            continue;
        }
        struct kafka_create_topics_response_topic *o = &out->topics.items[all->count];
        o->name = w->name;
        o->error_message = (struct kafka_string){NULL, -1};
        o->configs.count = 0;
        struct creation *c = &all->items[all->count++];
        *c = (struct creation){.want = w, .out = o, .name = arena_strndup(a, w->name.data, (size_t)w->name.size)};
        mapstr_put(&seen, w->name.data, (size_t)w->name.size, c);
    }
    mapstr_deinit(&seen);
    out->topics.count = (int32_t)all->count;
}

enum request_outcome handle_create_topics(struct request *r, const void *message, void *response) {
    const struct kafka_create_topics_request *in = message;
    struct kafka_create_topics_response *out = response;
    struct broker *b = request_shard(r)->broker;
    struct creations all = {
        .r = r, .broker = b, .validate_only = in->validate_only, .suggestions = TOPIC_CONFIG_SUGGESTIONS};
    all.items = ARENA_ARRAY(&r->arena, struct creation, (size_t)in->topics.count);
    out->topics.items = kafka_new(&kafka_create_topics_response_topic_type, &r->arena, (size_t)in->topics.count);
    creations_from(&all, in, out);
    size_t told = all.count < PARTITIONS_MAX ? all.count : PARTITIONS_MAX, most = request_answer_most(r);
    told *= 3 * TOPIC_PROPERTIES * sizeof(struct kafka_create_topics_response_config);
    if (request_version(r) >= 5) request_answer_make(r, told < most ? told : most, false);
    loop_call(b->o.loop0, create_there, &all);
    for (size_t i = 0; i < all.count; i++) {
        const struct creation *c = &all.items[i];
        if (c->err == OK) continue;
        c->out->error_code = request_error(r, c->err);
        c->out->error_message = kafka_string_of(c->why ? c->why : err_text(c->err));
    }
    return REQUEST_ANSWER;
}

/* --- Deleting. */

struct deletion {
    struct kafka_string name; /* null: by id */
    struct uuid id;           /* zero: by name */
    enum err err;
    const char *why; /* NULL: the error's own text */
    int16_t code;    /* instead of err's */
    bool dropped;    /* another item of the request answers for it */
};

struct deletions {
    struct request *r;
    struct broker *broker;
    struct deletion *items;
    size_t count;
};

static void deletion_refuse(struct deletion *d, const char *why) {
    d->err = ERR_INVALID_REQUEST;
    d->why = why;
}

static bool deletion_stands(const struct deletion *d) {
    return d->err == OK && d->code == 0 && !d->dropped;
}

static const struct meta_topic *deletion_topic(const struct meta *m, const struct deletion *d) {
    return d->name.size < 0 ? meta_topic_by_id(m, &d->id) : meta_topic_by_name(m, d->name.data, (size_t)d->name.size);
}

static void delete_one(void *ctx, size_t i) {
    struct deletions *all = ctx;
    struct deletion *d = &all->items[i];
    struct broker *b = all->broker;
    if (!deletion_stands(d)) return;
    bool by_id = d->name.size < 0;
    const struct meta_topic *t = deletion_topic(b->meta, d);
    if (!t) {
        d->err = by_id ? ERR_UNKNOWN_TOPIC_ID : ERR_UNKNOWN_TOPIC_OR_PARTITION;
        return;
    }
    char *name = arena_strndup(&all->r->arena, t->name, strlen(t->name));
    struct uuid id = t->id;
    if (topic_is_internal(name, strlen(name))) { /* all groups would be gone with it */
        d->err = ERR_INVALID_TOPIC;
        return;
    }
    d->err = broker_delete_topic(b, &id);
    /* Gone while this was under way: somebody else deleted it. */
    if (d->err == ERR_UNKNOWN_TOPIC_ID && !by_id) d->err = ERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (d->err != OK) return;
    d->name = kafka_string_of(name);
    d->id = id;
    log_info(b->env->log, "topic deleted", "topic=%s by=client", name);
}

/* A topic that is named and also given by its id: as Kafka, one answer that refuses both. */
static void refuse_same(struct deletions *all) {
    const struct meta *m = all->broker->meta;
    struct mapstr by_id;
    mapstr_init(&by_id, all->broker->env->mem);
    for (size_t i = 0; i < all->count; i++) {
        struct deletion *d = &all->items[i];
        if (deletion_stands(d) && d->name.size < 0) mapstr_put(&by_id, d->id.bytes, sizeof(d->id.bytes), d);
    }
    for (size_t i = 0; i < all->count && by_id.count > 0; i++) {
        struct deletion *d = &all->items[i];
        const struct meta_topic *t = deletion_stands(d) && d->name.size >= 0 ? deletion_topic(m, d) : NULL;
        struct deletion *other = t ? mapstr_get(&by_id, t->id.bytes, sizeof(t->id.bytes)) : NULL;
        if (!other) continue;
        d->id = t->id;
        deletion_refuse(d, "The provided topic name maps to an ID that was already supplied.");
        other->dropped = true;
    }
    mapstr_deinit(&by_id);
}

static void delete_there(void *arg) {
    struct deletions *all = arg;
    refuse_same(all);
    crew_run("DeleteTopics", all->count, COMMITS_MAX, delete_one, all);
}

static void deletion_from(struct request *r, const struct kafka_delete_topics_request *in, size_t i,
                          struct deletion *d) {
    if (request_version(r) < 6) {
        d->name = in->topic_names.items[i];
        return;
    }
    const struct kafka_delete_topics_request_topic *w = &in->topics.items[i];
    d->name = w->name;
    memcpy(d->id.bytes, w->topic_id.bytes, sizeof(d->id.bytes));
    bool has_id = !kafka_uuid_is_zero(&w->topic_id);
    if (has_id && w->name.size >= 0) deletion_refuse(d, "You may not specify both topic name and topic id.");
    if (!has_id && w->name.size < 0) deletion_refuse(d, "Neither topic name nor id were specified.");
}

static void deletions_from(struct deletions *all, const struct kafka_delete_topics_request *in) {
    struct broker *b = all->broker;
    struct mapstr seen;
    mapstr_init(&seen, b->env->mem);
    for (size_t i = 0; i < all->count; i++) {
        struct deletion *d = &all->items[i];
        deletion_from(all->r, in, i, d);
        if (!b->config->delete_topic_enable)
            d->code = request_version(all->r) < 3 ? KAFKA_INVALID_REQUEST : KAFKA_TOPIC_DELETION_DISABLED;
        if (d->err != OK) continue;
        const void *key = d->name.size >= 0 ? (const void *)d->name.data : d->id.bytes;
        size_t key_size = d->name.size >= 0 ? (size_t)d->name.size : sizeof(d->id.bytes);
        struct deletion *twice = mapstr_get(&seen, key, key_size);
        if (twice) {
            deletion_refuse(twice, twice->name.size >= 0 ? "Duplicate topic name." : "Duplicate topic id.");
            d->dropped = true;
        } else {
            mapstr_put(&seen, key, key_size, d);
        }
    }
    mapstr_deinit(&seen);
}

enum request_outcome handle_delete_topics(struct request *r, const void *message, void *response) {
    const struct kafka_delete_topics_request *in = message;
    struct kafka_delete_topics_response *out = response;
    int32_t count = request_version(r) < 6 ? in->topic_names.count : in->topics.count;
    struct deletions all = {.r = r, .broker = request_shard(r)->broker, .count = (size_t)count};
    all.items = ARENA_ARRAY(&r->arena, struct deletion, all.count);
    deletions_from(&all, in);
    loop_call(all.broker->o.loop0, delete_there, &all);
    out->responses.items = kafka_new(&kafka_delete_topics_response_topic_type, &r->arena, all.count);
    for (size_t i = 0; i < all.count; i++) {
        const struct deletion *d = &all.items[i];
        if (d->dropped) continue;
        struct kafka_delete_topics_response_topic *o = &out->responses.items[out->responses.count++];
        o->name = d->name;
        o->topic_id = uuid_to_kafka(&d->id);
        if (d->err == OK && d->code == 0) continue;
        int16_t code = request_error(r, d->err);
        o->error_code = d->code ? d->code : code;
        if (d->code == 0) o->error_message = kafka_string_of(d->why ? d->why : err_text(d->err));
    }
    return REQUEST_ANSWER;
}
