/* The configuration of a broker: a struct with one field per property, made from config_table.h together with its
 * parser, its printer and docs/configuration.md. It reads no file: the command line hands over text and single
 * settings. In this order: config_init_defaults; config_load (a file) and config_set (--set key=value) in any number;
 * config_check once.
 *
 * Every message names the property, says what was expected and what was found; an unknown property's names the nearest
 * one. Messages are sentences without a full stop, cut to fit the buffer. Not thread-safe; constant once the broker
 * runs. */
#ifndef OXBOW_BROKER_CONFIG_H
#define OXBOW_BROKER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"

#define CONFIG_MAGIC 0xc0f16001u
#define CONFIG_WHY_SIZE 512u /* enough for every message */

/* clang-format off */
enum config_property {
#define CONFIG_SECTION(title)
#define CONFIG_BOOL(field, ...) CONFIG_##field,
#define CONFIG_INT(field, ...) CONFIG_##field,
#define CONFIG_LONG(field, ...) CONFIG_##field,
#define CONFIG_DOUBLE(field, ...) CONFIG_##field,
#define CONFIG_COUNT(field, ...) CONFIG_##field,
#define CONFIG_SIZE(field, ...) CONFIG_##field,
#define CONFIG_STRING(field, ...) CONFIG_##field,
#define CONFIG_LIST(field, ...) CONFIG_##field,
#define CONFIG_ENUM(field, ...) CONFIG_##field,
#define CONFIG_ALIAS(...)
#include "broker/config_table.h"
    CONFIG_PROPERTIES
};
/* clang-format on */

/* Values of enum properties: indexes into the table's list of values. */
enum config_io_backend { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_EPOLL };
enum config_compression {
    CONFIG_COMPRESSION_PRODUCER,
    CONFIG_COMPRESSION_NONE,
    CONFIG_COMPRESSION_GZIP,
    CONFIG_COMPRESSION_SNAPPY,
    CONFIG_COMPRESSION_LZ4,
    CONFIG_COMPRESSION_ZSTD
};
enum config_timestamp_type { CONFIG_CREATE_TIME, CONFIG_LOG_APPEND_TIME };
/* log.level has the values of enum log_level (base/log.h). */

struct config {
    unsigned magic;
    struct mem *mem;
    /* Called with a line for each property that is accepted without having an effect, once per name; may be NULL. */
    void (*warn)(void *ctx, const char *message);
    void *warn_ctx;
    struct mapstr warned;
    uint8_t rank[CONFIG_PROPERTIES]; /* 0: the default; else 1 + the rank of the name that set it, see config_set */

#define CONFIG_SECTION(title)
#define CONFIG_BOOL(field, ...) bool field;
#define CONFIG_INT(field, ...) int32_t field;
#define CONFIG_LONG(field, ...) int64_t field;
#define CONFIG_DOUBLE(field, ...) double field;
#define CONFIG_COUNT(field, ...) int32_t field; /* 0: auto */
#define CONFIG_SIZE(field, ...) int64_t field;
#define CONFIG_STRING(field, ...) char *field; /* owned; never NULL */
#define CONFIG_LIST(field, ...) char *field;   /* owned; never NULL; the text with its commas */
#define CONFIG_ENUM(field, ...) int32_t field;
#define CONFIG_ALIAS(...)
#include "broker/config_table.h"
};

void config_init_defaults(struct config *c, struct mem *m);
void config_deinit(struct config *c);

/* One setting. A name with a smaller rank wins over its aliases in whatever order they come, as with Kafka's
 * log.retention.ms over .minutes over .hours; among equal ones the last wins. ERR_INVALID: *why tells. Values are
 * trimmed. */
enum err config_set(struct config *c, const char *name, const char *value, char *why, size_t why_size) WARN_UNUSED;
/* "key=value", as given to --set. */
enum err config_set_pair(struct config *c, const char *pair, char *why, size_t why_size) WARN_UNUSED;
/* A text in the format of server.properties (java.util.Properties). `source` names it in messages
 * ("server.properties:12: ..."). Stops at the first error; what came before it is set. */
enum err config_load(struct config *c, const char *text, size_t size, const char *source, char *why,
                     size_t why_size) WARN_UNUSED;
/* What no single property shows: that addresses and URLs can be understood, and that the properties go together. */
enum err config_check(const struct config *c, char *why, size_t why_size) WARN_UNUSED;

/* The table at run time, for printing and for DescribeConfigs. */
enum config_type {
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_INT,
    CONFIG_TYPE_LONG,
    CONFIG_TYPE_DOUBLE,
    CONFIG_TYPE_COUNT,
    CONFIG_TYPE_SIZE,
    CONFIG_TYPE_STRING,
    CONFIG_TYPE_LIST,
    CONFIG_TYPE_ENUM
};
struct config_row {
    const char *name;
    enum config_type type;
    const char *values; /* LIST, ENUM: "a|b"; else "" */
    int64_t min, max;   /* INT, LONG, DOUBLE, COUNT, SIZE */
    const char *text;   /* one sentence or two */
};
const struct config_row *config_row(enum config_property p);
/* By its own name, not by an alias; CONFIG_PROPERTIES if there is none. */
enum config_property config_find(const char *name);
/* The value as text that config_set would take; returns out (cut to fit). */
const char *config_value(const struct config *c, enum config_property p, char *out, size_t out_size);

/* Walks a comma-separated list: start with *cursor = the list; the element is written to out, trimmed. False at the
 * end. Empty elements are skipped; what does not fit is cut. */
bool config_list_next(const char **cursor, char *out, size_t out_size);

/* Appends all properties with their values as `name=value`, each after its sentence, type, limits and default. */
void config_print(const struct config *c, struct buf *out);
/* Appends docs/configuration.md. */
void config_print_markdown(struct buf *out, struct mem *m);

#endif
