#include "broker/compatibility.h"

#include "base/assert.h"
#include "broker/dynamic.h"
#include "kafka/frame.h"
#include "kafka/kafka_messages.h"

enum status { WORKS, ACCEPTED, ABSENT };

static const struct row {
    int16_t key;
    const char *name; /* NULL: the schema has it */
    int16_t min, max;
    enum status status;
    const char *text;
} rows[] = {
#define API(name, min, max, flags, handler, status, text) {KAFKA_API_##name, NULL, min, max, status, text},
#define NO_API(key, name, min, max, text) {key, name, min, max, ABSENT, text},
#include "broker/api_rows.h"
};

static void print_apis(struct buf *out, enum status status) {
    buf_printf(out, "| Key | API | Versions | |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        ASSERT(i == 0 || rows[i - 1].key < r->key);
        if (r->status != status) continue;
        const char *name = r->name ? r->name : kafka_api_find(r->key)->name;
        buf_printf(out, "| %d | %s | ", r->key, name);
        if (r->min == r->max) {
            buf_printf(out, "%d", r->min);
        } else {
            buf_printf(out, "%d-%d", r->min, r->max);
        }
        buf_printf(out, " | %s |\n", r->text);
    }
}

static const char *type_text(int8_t t) {
    static const char *const names[] = {"", "boolean", "string", "int", "", "long", "double", "list"};
    ASSERT(t > 0 && (size_t)t < ARRAY_LEN(names));
    return names[t];
}

static void print_value(const char *value, struct buf *out) {
    buf_printf(out, value[0] ? "`%s`" : "empty", value);
}

static void print_topic_configs(struct buf *out, bool effect) {
    buf_printf(out, "| Property | Type | Default | |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < TOPIC_PROPERTIES; i++) {
        struct topic_config_row row;
        topic_config_row((enum topic_property)i, &row);
        if (row.effect != effect) continue;
        buf_printf(out, "| `%s` | %s | ", row.name, type_text((int8_t)row.type));
        print_value(row.default_value, out);
        buf_printf(out, " | %s%s |\n", row.text, row.old ? " Kafka 4 has dropped it; shown where it is set." : "");
    }
}

static void print_broker_configs(struct buf *out) {
    struct broker_property p;
    buf_printf(out, "| Property | Type | |\n| --- | --- | --- |\n");
    for (size_t cursor = 0; broker_property_next(&cursor, &p);) {
        if (p.dynamic) buf_printf(out, "| `%s` | %s | %s |\n", p.name, type_text(p.type), p.text);
    }
}

void compatibility_print_markdown(struct buf *out) {
    buf_printf(
        out, "# Compatibility with Kafka\n\n"
             "This page is made from `src/broker/api_rows.h`, `src/partition/topic_config_table.h` and "
             "`src/broker/config_table.h`\nby `oxbow config --compatibility`; do not edit it.\n\n"
             "A client asks for what is offered (ApiVersions) and takes the newest version that both know. What is not "
             "offered it\ndoes without, or tells its user that the API is not supported; who sends it all the same is "
             "disconnected.\n\n## APIs that work\n\n");
    print_apis(out, WORKS);
    buf_printf(out, "\n## APIs that are answered though there is nothing to be done\n\n");
    print_apis(out, ACCEPTED);
    buf_printf(out, "\n## APIs that are not there\n\nWith the versions of Kafka 4.3, why, and what a client sees.\n\n");
    print_apis(out, ABSENT);
    buf_printf(out,
               "\nWhat Kafka's brokers and controllers say among each other (4-7, 52-54, 56, 58, 59, 62, 63, 67, 70, "
               "73, 80-87) is\nno concern of clients, and not there.\n\n## Topic configurations that take effect\n\n");
    print_topic_configs(out, true);
    buf_printf(out, "\n## Topic configurations that are kept\n\nChecked, kept with the topic and shown again, without "
                    "an effect of their own.\n\n");
    print_topic_configs(out, false);
    buf_printf(out,
               "\n## Broker configurations that can be changed at run time\n\nFor one broker, or for all (an empty "
               "name); kept in the cluster log, in force at once on all shards. All others are\n"
               "shown, and refused with INVALID_REQUEST when somebody tries to change them: "
               "[configuration.md](configuration.md).\n\n");
    print_broker_configs(out);
}
