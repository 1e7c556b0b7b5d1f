/* The configuration of a topic: what a client may set (topic_config_table.h), checked by Kafka's rules, and the
 * values that a partition goes by.
 *
 * A topic keeps only its overrides, as text (struct meta_config). Laid over the broker's defaults they give a
 * `struct topic_config`: plain data without pointers,
 * copied freely. The broker makes its defaults once: topic_config_init, then topic_config_set for what its own
 * properties say.
 *
 * Messages are sentences without a full stop, cut to fit: the name, what was expected, what was found. Pure
 * functions, callable anywhere. */
#ifndef OXBOW_PARTITION_TOPIC_CONFIG_H
#define OXBOW_PARTITION_TOPIC_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "meta/meta.h"

#define TOPIC_CONFIG_WHY_SIZE 512u /* enough for every message */

/* Kafka protocol: DescribeConfigs, ConfigType. */
enum topic_type {
    TOPIC_TYPE_BOOLEAN = 1,
    TOPIC_TYPE_STRING = 2,
    TOPIC_TYPE_INT = 3,
    TOPIC_TYPE_LONG = 5,
    TOPIC_TYPE_DOUBLE = 6,
    TOPIC_TYPE_LIST = 7
};

enum topic_property {
#define TOPIC_INT(field, ...) TOPIC_##field,
#define TOPIC_LONG(field, ...) TOPIC_##field,
#define TOPIC_DOUBLE(field, ...) TOPIC_##field,
#define TOPIC_ENUM(field, ...) TOPIC_##field,
#define TOPIC_BOOL(field, ...) TOPIC_##field,
#define TOPIC_SET(field, ...) TOPIC_##field,
#define TOPIC_KEPT(id, ...) TOPIC_##id,
#include "partition/topic_config_table.h"
    TOPIC_PROPERTIES
};

/* Values of compression_type, message_timestamp_type and durability, and bits of cleanup_policy: the order in the
 * table. */
enum topic_compression {
    TOPIC_COMPRESSION_PRODUCER,
    TOPIC_COMPRESSION_NONE,
    TOPIC_COMPRESSION_GZIP,
    TOPIC_COMPRESSION_SNAPPY,
    TOPIC_COMPRESSION_LZ4,
    TOPIC_COMPRESSION_ZSTD
};
enum topic_timestamp_type { TOPIC_CREATE_TIME, TOPIC_LOG_APPEND_TIME };
enum topic_durability { TOPIC_DURABILITY_WAL, TOPIC_DURABILITY_OBJECT };
enum topic_cleanup_policy { TOPIC_CLEANUP_DELETE = 1, TOPIC_CLEANUP_COMPACT = 2 };

struct topic_config {
    uint64_t set; /* bit p: property p was set by topic_config_set; laid over defaults: by an override */
#define TOPIC_INT(field, ...) int32_t field;
#define TOPIC_LONG(field, ...) int64_t field;
#define TOPIC_DOUBLE(field, ...) double field;
#define TOPIC_ENUM(field, ...) int32_t field;
#define TOPIC_BOOL(field, ...) int32_t field;
#define TOPIC_SET(field, ...) int32_t field;
#define TOPIC_KEPT(id, ...)
#include "partition/topic_config_table.h"
};

/* Kafka's own defaults. */
void topic_config_init(struct topic_config *c);
/* By the topic's name of it ("retention.ms"). ERR_INVALID_CONFIG: *why tells, nothing has changed. */
enum err topic_config_set(struct topic_config *c, const char *name, const char *value, char *why,
                          size_t why_size) WARN_UNUSED;

/* The limits for timestamps, with message.timestamp.difference.max.ms taken into account. */
int64_t topic_config_before_max_ms(const struct topic_config *c);
int64_t topic_config_after_max_ms(const struct topic_config *c);

/* segment.ms; of a compacted topic no more than max.compaction.lag.ms, for what is active is never compacted. */
int64_t topic_config_segment_ms(const struct topic_config *c);
double topic_config_cleanable_ratio(const struct topic_config *c);
/* The shortest digits that are the number again, with a point; returns out, of 32 bytes at least. */
const char *topic_config_double_text(double d, char *out, size_t out_size);

/* The overrides laid over the defaults, and checked together: for CreateTopics, and before a change is committed.
 * ERR_INVALID_CONFIG: *why tells; out is then
 * undefined. A NULL value is an error here. *suggestions: for how many more unknown names the nearest known one is looked
 * for, which costs about as much as a small request; NULL: for this one. */
#define TOPIC_CONFIG_SUGGESTIONS 8u /* in answer to one request */
enum err topic_config_resolve(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                              struct topic_config *out, unsigned *suggestions, char *why, size_t why_size) WARN_UNUSED;
/* The same for overrides that are committed already: what is unknown or wrong (a newer version may have written it)
 * is skipped. */
void topic_config_apply(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                        struct topic_config *out);

/* Kafka protocol: IncrementalAlterConfigs. */
enum topic_config_op {
    TOPIC_CONFIG_SET = 0,
    TOPIC_CONFIG_DELETE = 1,
    TOPIC_CONFIG_APPEND = 2,
    TOPIC_CONFIG_SUBTRACT = 3
};
/* One operation on a topic with these overrides: *value gets the new text, NUL-terminated, or *remove is set: the
 * override goes. operand is NULL or borrowed. The caller
 * then checks all changes together with topic_config_resolve, and commits them with meta_topic_configure.
 * ERR_INVALID_CONFIG, ERR_INVALID_REQUEST (no such
 * operation, or no operand). *suggestions as above. */
enum err topic_config_alter(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                            int op, const char *name, const char *operand, struct buf *value, bool *remove,
                            unsigned *suggestions, char *why, size_t why_size) WARN_UNUSED;

/* Kafka protocol: DescribeConfigs, ConfigSource. */
enum topic_config_source { TOPIC_SOURCE_TOPIC = 1, TOPIC_SOURCE_BROKER = 4, TOPIC_SOURCE_DEFAULT = 5 };
struct topic_config_entry { /* borrows from the overrides and the table */
    enum topic_property property;
    const char *name;
    const char *value;               /* in force */
    const char *broker_value;        /* without the override */
    const char *default_value;       /* Kafka's */
    enum topic_config_source source; /* of value; broker_value's is BROKER if broker_set, else DEFAULT */
    bool broker_set;
    bool is_default; /* no override */
    bool effect;     /* the broker acts on it now */
    enum topic_type type;
    const char *synonym; /* the broker property that gives the default; "" if none */
    const char *text;    /* documentation */
    char buffer[3][64];  /* values may point in here: an entry is not to be copied */
};
/* Walks all properties by name: start with *cursor = 0; false at the end. */
bool topic_config_describe(const struct topic_config *defaults, const struct meta_config *overrides, size_t count,
                           size_t *cursor, struct topic_config_entry *out);

/* TOPIC_PROPERTIES if there is none of that name. */
enum topic_property topic_config_find(const char *name);
/* The property whose default the broker's property of that name gives; Kafka's old names are not looked at. */
enum topic_property topic_config_find_synonym(const char *name);

/* The table at run time. */
struct topic_config_row {
    const char *name, *synonym, *text;
    const char *default_value; /* may point into buffer: not to be copied */
    enum topic_type type;
    bool effect, old; /* old: Kafka 4 no longer knows the name */
    char buffer[64];
};
void topic_config_row(enum topic_property p, struct topic_config_row *out);

#endif
