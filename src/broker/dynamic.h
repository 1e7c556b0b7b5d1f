/* A broker's configuration while it runs: what its properties are worth, from where, and what of it can be changed.
 *
 * A property's value comes from the first of: what was set for this broker at run time, what was set for all brokers at
 * run time (both in the cluster log), the configuration it was started with, the default. The properties are those of
 * config_table.h; the brokers' names of topic properties that have no place there; and those of Kafka's that tools ask
 * for and that have an honest value here.
 *
 * Loop 0 only, as the cluster log's image is; what shards go by is handed to them by dynamic_apply. */
#ifndef OXBOW_BROKER_DYNAMIC_H
#define OXBOW_BROKER_DYNAMIC_H

#include "base/arena.h"
#include "broker/config.h"
#include "partition/topic_config.h"

struct broker;

/* Kafka protocol: DescribeConfigs, ConfigSource. */
enum config_source {
    SOURCE_TOPIC = 1,
    SOURCE_DYNAMIC_BROKER = 2,
    SOURCE_DYNAMIC_DEFAULT_BROKER = 3,
    SOURCE_STATIC_BROKER = 4,
    SOURCE_DEFAULT = 5,
    SOURCE_DYNAMIC_BROKER_LOGGER = 6
};

/* Kafka protocol: DescribeConfigs, ConfigType. */
enum {
    PROPERTY_BOOLEAN = 1,
    PROPERTY_STRING = 2,
    PROPERTY_INT = 3,
    PROPERTY_LONG = 5,
    PROPERTY_DOUBLE = 6,
    PROPERTY_LIST = 7
};

enum broker_property_kind {
    BROKER_PROPERTY_CONFIG, /* of config_table.h */
    BROKER_PROPERTY_TOPIC,  /* the default of a topic property, under the broker's name */
    BROKER_PROPERTY_FIXED   /* Kafka's: follows from something else, or is kept without effect */
};
struct broker_property {
    const char *name;
    enum broker_property_kind kind;
    size_t index; /* in the table of its kind */
    int8_t type;  /* Kafka protocol: DescribeConfigs, ConfigType */
    bool dynamic; /* can be changed at run time */
    const char *text;
};
/* Walks all properties: start with *cursor = 0; false at the end. */
bool broker_property_next(size_t *cursor, struct broker_property *out);
/* False: there is none of that name. */
bool broker_property_find(const char *name, struct broker_property *out);

/* Where a value comes from: the one in force first, then those that it hides. */
#define CONFIG_LINKS_MAX 5u
struct config_link {
    const char *name, *value; /* name: NULL where there is none but the topic's */
    enum config_source source;
};
struct config_chain {
    struct config_link links[CONFIG_LINKS_MAX];
    size_t count;
};
/* `own`: as this broker has it; else as all brokers have it unless they say otherwise. Values are in the arena. */
void broker_property_chain(const struct broker *b, struct arena *a, const struct broker_property *p, bool own,
                           struct config_chain *out);
/* A topic's property: its override if it has one, then what the broker's property of that meaning is worth. Never
 * empty. */
void topic_property_chain(const struct broker *b, struct arena *a, const struct topic_config_entry *e,
                          struct config_chain *out);

/* Makes of `operand` what `op` (enum topic_config_op) says, given what is set at that level; *value: in the arena,
 * NULL: the value goes. ERR_INVALID_REQUEST, ERR_INVALID_CONFIG: *why tells. */
enum err broker_property_alter(const struct broker *b, struct arena *a, int32_t node_id, int op, const char *name,
                               const char *operand, const char **value, char *why, size_t why_size) WARN_UNUSED;
/* Would the topics' defaults still go together with these changes (value NULL: it goes)? ERR_INVALID_REQUEST. */
enum err broker_properties_check(const struct broker *b, int32_t node_id, const struct meta_config *changes,
                                 size_t count, char *why, size_t why_size) WARN_UNUSED;

/* What follows from the image is put in force, on all shards. At the start (before there are shards' routes: nothing is
 * published), and after each change. Suspends when the broker runs. */
void dynamic_apply(struct broker *b);

#endif
