#include "broker/dynamic.h"

#include <stdio.h>

#include "base/assert.h"
#include "broker/broker_priv.h"

/* --- The properties. */

/* Kafka's, which tools ask for; in the order of their names. A value of NULL is made by fixed_value. */
static const struct fixed {
    const char *name;
    int8_t type;
    const char *value;
    bool dynamic; /* kept, and that is all */
    const char *text;
} fixed[] = {
    {"authorizer.class.name", PROPERTY_STRING, "", false,
     "What decides who may do what; empty: everybody may do everything."},
    {"broker.id", PROPERTY_INT, NULL, false, "The id of this broker, as `node.id`."},
    {"follower.replication.throttled.rate", PROPERTY_LONG, "9223372036854775807", true,
     "Kept and shown; nothing is copied between brokers here."},
    {"inter.broker.protocol.version", PROPERTY_STRING, "4.3-IV0", false,
     "The release of Kafka whose protocol clients are served with."},
    {"leader.replication.throttled.rate", PROPERTY_LONG, "9223372036854775807", true,
     "Kept and shown; nothing is copied between brokers here."},
    {"log.cleaner.threads", PROPERTY_INT, "1", false, "Partitions that are compacted at once."},
    {"log.dirs", PROPERTY_LIST, NULL, false, "Where records lie: the address of the object store."},
    {"num.io.threads", PROPERTY_INT, NULL, false, "Threads that serve clients; the same as num.network.threads."},
    {"num.network.threads", PROPERTY_INT, NULL, false, "Threads that serve clients, as `shards` has made them."},
    {"process.roles", PROPERTY_LIST, "broker,controller", false, "What this process does: all of it."},
    {"remote.log.storage.system.enable", PROPERTY_BOOLEAN, "false", false,
     "Whether tiered storage is used; everything lies in the object store here."},
    {"replica.alter.log.dirs.io.max.bytes.per.second", PROPERTY_LONG, "9223372036854775807", true,
     "Kept and shown; there is one log directory."},
    {"security.inter.broker.protocol", PROPERTY_STRING, "PLAINTEXT", false, "How brokers talk to each other."},
};

/* Of config_table.h, beside the defaults of topics. */
static const enum config_property dynamic_configs[] = {
    CONFIG_auto_create_topics_enable,
    CONFIG_max_connections,
    CONFIG_max_connections_per_ip,
    CONFIG_producer_id_expiration_ms,
};

static int8_t config_type_of(enum config_type t) {
    switch (t) {
    case CONFIG_TYPE_BOOL:
        return PROPERTY_BOOLEAN;
    case CONFIG_TYPE_INT:
        return PROPERTY_INT;
    case CONFIG_TYPE_LONG:
        return PROPERTY_LONG;
    case CONFIG_TYPE_DOUBLE:
        return PROPERTY_DOUBLE;
    case CONFIG_TYPE_LIST:
        return PROPERTY_LIST;
    case CONFIG_TYPE_COUNT: /* may be "auto" */
    case CONFIG_TYPE_SIZE:  /* may be "256MiB" */
    case CONFIG_TYPE_STRING:
    case CONFIG_TYPE_ENUM:
        return PROPERTY_STRING;
    }
    UNREACHABLE();
}

static struct broker_property property_of_config(enum config_property p) {
    const struct config_row *row = config_row(p);
    bool dynamic = topic_config_find_synonym(row->name) != TOPIC_PROPERTIES;
    for (size_t i = 0; i < ARRAY_LEN(dynamic_configs); i++) dynamic |= dynamic_configs[i] == p;
    return (struct broker_property){row->name, BROKER_PROPERTY_CONFIG, p, config_type_of(row->type), dynamic,
                                    row->text};
}

static struct broker_property property_of_topic(enum topic_property p) {
    struct topic_config_row row;
    topic_config_row(p, &row);
    return (struct broker_property){row.synonym, BROKER_PROPERTY_TOPIC, p, (int8_t)row.type, true, row.text};
}

static struct broker_property property_of_fixed(size_t i) {
    return (struct broker_property){fixed[i].name, BROKER_PROPERTY_FIXED, i,
                                    fixed[i].type, fixed[i].dynamic,      fixed[i].text};
}

bool broker_property_next(size_t *cursor, struct broker_property *out) {
    for (; *cursor < CONFIG_PROPERTIES + TOPIC_PROPERTIES + ARRAY_LEN(fixed); (*cursor)++) {
        size_t i = *cursor;
        if (i < CONFIG_PROPERTIES) {
            *out = property_of_config((enum config_property)i);
        } else if (i < CONFIG_PROPERTIES + TOPIC_PROPERTIES) {
            enum topic_property p = (enum topic_property)(i - CONFIG_PROPERTIES);
            *out = property_of_topic(p);
            /* Those without a name at the broker, with an old one, and those that config_table.h has. */
            if (!out->name[0] || topic_config_find_synonym(out->name) != p ||
                config_find(out->name) != CONFIG_PROPERTIES)
                continue;
        } else {
            *out = property_of_fixed(i - CONFIG_PROPERTIES - TOPIC_PROPERTIES);
        }
        (*cursor)++;
        return true;
    }
    return false;
}

bool broker_property_find(const char *name, struct broker_property *out) {
    enum config_property p = config_find(name);
    enum topic_property t = name[0] ? topic_config_find_synonym(name) : TOPIC_PROPERTIES;
    if (p != CONFIG_PROPERTIES) {
        *out = property_of_config(p);
        return true;
    }
    if (t != TOPIC_PROPERTIES) {
        *out = property_of_topic(t);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        if (strcmp(fixed[i].name, name) != 0) continue;
        *out = property_of_fixed(i);
        return true;
    }
    return false;
}

/* --- Values. */

static const char *set_at(const struct broker *b, int32_t node_id, const char *name) {
    size_t count;
    const struct meta_config *set = meta_broker_configs(b->meta, node_id, &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(set[i].name, name) == 0) return set[i].value;
    }
    return NULL;
}

static void link_add(struct config_chain *c, const char *name, const char *value, enum config_source source) {
    ASSERT(c->count < CONFIG_LINKS_MAX);
    c->links[c->count++] = (struct config_link){name, value, source};
}

static const char *copied(struct arena *a, const char *s) {
    return arena_strndup(a, s, strlen(s));
}

/* What was set at run time; the names outlive the arena. */
static void links_dynamic(const struct broker *b, struct arena *a, const char *name, bool own,
                          struct config_chain *out) {
    const char *value = own ? set_at(b, b->config->node_id, name) : NULL;
    if (value) link_add(out, name, copied(a, value), SOURCE_DYNAMIC_BROKER);
    value = set_at(b, META_ALL_BROKERS, name);
    if (value) link_add(out, name, copied(a, value), SOURCE_DYNAMIC_DEFAULT_BROKER);
}

static void links_config(const struct broker *b, struct arena *a, enum config_property p, struct config_chain *out) {
    char value[2048];
    const char *name = config_row(p)->name;
    if (b->config->rank[p] != 0)
        link_add(out, name, copied(a, config_value(b->config, p, value, sizeof(value))), SOURCE_STATIC_BROKER);
    link_add(out, name, copied(a, config_value(&b->config_defaults, p, value, sizeof(value))), SOURCE_DEFAULT);
}

static const char *fixed_value(const struct broker *b, struct arena *a, const struct fixed *f) {
    if (f->value) return f->value;
    if (strcmp(f->name, "log.dirs") == 0)
        return arena_strndup(a, b->config->storage_url, strcspn(b->config->storage_url, "?"));
    if (strcmp(f->name, "broker.id") == 0) return arena_printf(a, "%d", b->config->node_id);
    return arena_printf(a, "%u", b->shard_count);
}

void broker_property_chain(const struct broker *b, struct arena *a, const struct broker_property *p, bool own,
                           struct config_chain *out) {
    out->count = 0;
    if (p->dynamic) links_dynamic(b, a, p->name, own, out);
    struct topic_config_row row;
    switch (p->kind) {
    case BROKER_PROPERTY_CONFIG:
        links_config(b, a, (enum config_property)p->index, out);
        return;
    case BROKER_PROPERTY_TOPIC:
        topic_config_row((enum topic_property)p->index, &row);
        link_add(out, p->name, copied(a, row.default_value), SOURCE_DEFAULT);
        return;
    case BROKER_PROPERTY_FIXED:
        /* What follows from the configuration was not chosen by anybody. */
        link_add(out, p->name, fixed_value(b, a, &fixed[p->index]), SOURCE_DEFAULT);
        return;
    }
    UNREACHABLE();
}

void topic_property_chain(const struct broker *b, struct arena *a, const struct topic_config_entry *e,
                          struct config_chain *out) {
    struct config_chain broker = {.count = 0};
    struct broker_property p;
    if (e->synonym[0] && broker_property_find(e->synonym, &p)) broker_property_chain(b, a, &p, true, &broker);
    if (broker.count == 0)
        link_add(&broker, e->synonym[0] ? e->synonym : NULL, copied(a, e->default_value), SOURCE_DEFAULT);
    out->count = 0;
    if (!e->is_default) link_add(out, e->name, copied(a, e->value), SOURCE_TOPIC);
    for (size_t i = 0; i < broker.count; i++) out->links[out->count++] = broker.links[i];
}

/* --- Changing. */

static enum err refuse(char *why, size_t why_size, const char *text) {
    (void)snprintf(why, why_size, "%s", text);
    return ERR_INVALID_REQUEST;
}

/* A topic property's complaint, under the broker's name of it. */
static enum err refuse_topic(const char *name, const char *complaint, char *why, size_t why_size) {
    const char *rest = strstr(complaint, ": ");
    (void)snprintf(why, why_size, "%s%s", rest ? name : "", rest ? rest : complaint);
    return ERR_INVALID_REQUEST;
}

/* What is kept: a rate. */
static enum err check_fixed(const struct broker_property *p, const char *value, char *why, size_t why_size) {
    int64_t rate = 0;
    const char *s = value;
    bool fits = *s != '\0';
    for (; *s && fits; s++) {
        fits = *s >= '0' && *s <= '9' && !__builtin_mul_overflow(rate, 10, &rate) &&
               !__builtin_add_overflow(rate, *s - '0', &rate);
    }
    if (fits) return OK;
    (void)snprintf(why, why_size, "%s: expected a whole number of at least 0 that fits 64 bits, found '%.64s'", p->name,
                   value);
    return ERR_INVALID_REQUEST;
}

static enum err check_value(const struct broker *b, const struct broker_property *p, const char *value, char *why,
                            size_t why_size) {
    if (p->kind == BROKER_PROPERTY_FIXED) return check_fixed(p, value, why, why_size);
    if (p->kind == BROKER_PROPERTY_CONFIG) {
        struct config scratch;
        config_init_defaults(&scratch, b->env->mem);
        enum err e = config_set(&scratch, p->name, value, why, why_size);
        config_deinit(&scratch);
        if (e != OK) return ERR_INVALID_REQUEST;
    }
    enum topic_property topic = topic_config_find_synonym(p->name);
    if (topic == TOPIC_PROPERTIES) return OK;
    char complaint[TOPIC_CONFIG_WHY_SIZE];
    struct topic_config_row row;
    struct topic_config scratch;
    topic_config_row(topic, &row);
    topic_config_init(&scratch);
    enum err e = topic_config_set(&scratch, row.name, value, complaint, sizeof(complaint));
    return e == OK ? OK : refuse_topic(p->name, complaint, why, why_size);
}

/* APPEND and SUBTRACT: lists are defaults of topics, whose rules hold. */
static enum err alter_list(const struct broker *b, struct arena *a, int32_t node_id, int op,
                           const struct broker_property *p, const char *operand, const char **value, char *why,
                           size_t why_size) {
    enum topic_property topic = topic_config_find_synonym(p->name);
    if (p->type != PROPERTY_LIST || topic == TOPIC_PROPERTIES) {
        (void)snprintf(why, why_size, "Can't %s to key %s because its type is not LIST",
                       op == TOPIC_CONFIG_APPEND ? "APPEND" : "SUBTRACT", p->name);
        return ERR_INVALID_CONFIG;
    }
    struct topic_config_row row;
    topic_config_row(topic, &row);
    const char *set = set_at(b, node_id, p->name);
    struct meta_config old = {(char *)(uintptr_t)row.name, (char *)(uintptr_t)set};
    struct buf text;
    buf_init(&text, b->env->mem);
    bool remove;
    enum err result = topic_config_alter(&b->topic_defaults, &old, set ? 1 : 0, op, row.name, operand, &text, &remove,
                                         NULL, why, why_size);
    if (result == OK) *value = copied(a, (const char *)text.data);
    buf_deinit(&text);
    return result;
}

enum err broker_property_alter(const struct broker *b, struct arena *a, int32_t node_id, int op, const char *name,
                               const char *operand, const char **value, char *why, size_t why_size) {
    struct broker_property p;
    *value = NULL;
    if (!broker_property_find(name, &p)) {
        (void)snprintf(why, why_size, "Unknown broker config name: %.128s", name);
        return ERR_INVALID_REQUEST;
    }
    if (!p.dynamic) {
        (void)snprintf(why, why_size, "Cannot update these configs dynamically: Set(%s)", p.name);
        return ERR_INVALID_REQUEST;
    }
    if (op == TOPIC_CONFIG_DELETE) return OK;
    if (op < TOPIC_CONFIG_SET || op > TOPIC_CONFIG_SUBTRACT) return refuse(why, why_size, "Unknown operation");
    ASSERT(operand); /* looked at by whoever has all of them */
    if (op != TOPIC_CONFIG_SET) return alter_list(b, a, node_id, op, &p, operand, value, why, why_size);
    enum err e = check_value(b, &p, operand, why, why_size);
    if (e == OK) *value = operand;
    return e;
}

/* One of the topics' defaults: the last that is set, from the default up. What a topic would not take (the broker's
 * limits are not always the topic's, nor another version's) leaves what is below it. */
static void topic_default_make(struct topic_config *out, const char *name, const char *const *levels) {
    for (int level = SOURCE_DEFAULT; level >= SOURCE_DYNAMIC_BROKER; level--) {
        char why[TOPIC_CONFIG_WHY_SIZE];
        enum err taken = levels[level] ? topic_config_set(out, name, levels[level], why, sizeof(why)) : OK;
        (void)taken;
    }
}

/* The topics' defaults as the broker's properties give them, were these changes made at that node's level. */
static void topic_defaults_make(const struct broker *b, int32_t node_id, const struct meta_config *changes,
                                size_t count, struct topic_config *out) {
    struct arena a;
    arena_init(&a, b->env->mem);
    topic_config_init(out);
    for (size_t i = 0; i < TOPIC_PROPERTIES; i++) {
        struct topic_config_row row;
        struct broker_property p;
        struct config_chain chain;
        const char *levels[SOURCE_DEFAULT + 1] = {NULL};
        topic_config_row((enum topic_property)i, &row);
        if (row.old || !row.synonym[0] || !broker_property_find(row.synonym, &p)) continue;
        broker_property_chain(b, &a, &p, true, &chain);
        for (size_t k = 0; k < chain.count; k++) levels[chain.links[k].source] = chain.links[k].value;
        for (size_t k = 0; k < count; k++) {
            if (strcmp(changes[k].name, p.name) == 0)
                levels[node_id == META_ALL_BROKERS ? SOURCE_DYNAMIC_DEFAULT_BROKER : SOURCE_DYNAMIC_BROKER] =
                    changes[k].value;
        }
        topic_default_make(out, row.name, levels);
    }
    out->set = 0;
    arena_deinit(&a);
}

enum err broker_properties_check(const struct broker *b, int32_t node_id, const struct meta_config *changes,
                                 size_t count, char *why, size_t why_size) {
    struct topic_config defaults, resolved;
    topic_defaults_make(b, node_id, changes, count, &defaults);
    enum err e = topic_config_resolve(&defaults, NULL, 0, &resolved, NULL, why, why_size);
    return e == OK ? OK : ERR_INVALID_REQUEST;
}

/* --- Putting it in force. */

/* A number in force. */
static int64_t number_now(const struct broker *b, struct arena *a, enum config_property p) {
    struct broker_property property = property_of_config(p);
    struct config_chain chain;
    broker_property_chain(b, a, &property, true, &chain);
    struct config scratch;
    char why[CONFIG_WHY_SIZE];
    config_init_defaults(&scratch, b->env->mem);
    int64_t v = 0;
    bool found = false;
    /* What another version took and this one does not is passed over. */
    for (size_t i = 0; i < chain.count && !found; i++)
        found = config_set(&scratch, property.name, chain.links[i].value, why, sizeof(why)) == OK;
    ASSERT(found);
    switch (p) {
    case CONFIG_auto_create_topics_enable:
        v = scratch.auto_create_topics_enable;
        break;
    case CONFIG_max_connections:
        v = scratch.max_connections;
        break;
    case CONFIG_max_connections_per_ip:
        v = scratch.max_connections_per_ip;
        break;
    case CONFIG_producer_id_expiration_ms:
        v = scratch.producer_id_expiration_ms;
        break;
    default:
        UNREACHABLE();
    }
    config_deinit(&scratch);
    return v;
}

struct expiration {
    struct shard *shard;
    int64_t ms;
};

static void expiration_there(void *arg) {
    const struct expiration *e = arg;
    shard_set_producer_expiration(e->shard, e->ms);
}

static void expiration_apply(struct broker *b, int64_t ms) {
    if (atomic_exchange(&b->producer_expiration_ms, ms) == ms || !b->streams) return;
    streams_set_producer_expiration(b->streams, ms);
    for (unsigned i = 0; i < b->shard_count; i++) {
        struct expiration e = {&b->shards[i], ms};
        loop_call(b->loops[i], expiration_there, &e);
    }
}

void dynamic_apply(struct broker *b) {
    struct arena a;
    arena_init(&a, b->env->mem);
    atomic_store(&b->auto_create_topics, number_now(b, &a, CONFIG_auto_create_topics_enable) != 0);
    atomic_store(&b->quota.max, (uint32_t)number_now(b, &a, CONFIG_max_connections));
    atomic_store(&b->quota.max_per_ip, (uint32_t)number_now(b, &a, CONFIG_max_connections_per_ip));
    int64_t expiration_ms = number_now(b, &a, CONFIG_producer_id_expiration_ms);
    arena_deinit(&a);
    struct topic_config defaults;
    topic_defaults_make(b, META_ALL_BROKERS, NULL, 0, &defaults);
    bool changed = memcmp(&defaults, &b->topic_defaults, sizeof(defaults)) != 0;
    b->topic_defaults = defaults;
    expiration_apply(b, expiration_ms);
    if (changed && b->streams) broker_publish_all(b);
}
