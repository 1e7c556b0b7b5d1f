/* `oxbow topic describe` and the showing part of `config`: what several APIs tell about topics, put together. What a
 * broker does not offer (sizes, say) is shown as unknown; what it refuses is a failure. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/topic.h"

#define SOURCE_TOPIC 1 /* DescribeConfigs: set for this topic */
#define SUBJECT_SIZE 320u

/* --- Configurations. */

static const char *source_name(int8_t source) {
    static const char *const names[] = {"unknown", "topic",         "broker",         "all brokers", "broker's file",
                                        "default", "broker logger", "client metrics", "group"};
    return source >= 0 && (size_t)source < ARRAY_LEN(names) ? names[source] : names[0];
}

static enum err configs_ask(struct client *c, const struct kafka_string *names, size_t count, struct arena *a,
                            struct kafka_describe_configs_response *r) {
    struct client_conn *cc;
    struct kafka_describe_configs_request q;
    enum err e = client_any(c, &cc);
    if (e != OK) return e;
    kafka_describe_configs_request_init(&q);
    q.resources.items = kafka_describe_configs_request_resource_new(a, count);
    q.resources.count = (int32_t)count;
    for (size_t i = 0; i < count; i++) {
        q.resources.items[i].resource_type = TOPIC_RESOURCE;
        q.resources.items[i].resource_name = names[i];
        q.resources.items[i].configuration_keys.count = -1;
    }
    e = client_call(cc, KAFKA_API_DESCRIBE_CONFIGS, CLIENT_ANY_VERSION, &q, a, r);
    for (int32_t i = 0; e == OK && i < r->results.count; i++) {
        const struct kafka_describe_configs_response_result *x = &r->results.items[i];
        if (x->error_code == 0) continue;
        char subject[SUBJECT_SIZE];
        (void)snprintf(subject, sizeof(subject), "topic '%.*s'", (int)x->resource_name.size, x->resource_name.data);
        return client_fail_code(c, subject, x->error_code, x->error_message);
    }
    return e;
}

int topic_config_show(struct client *c, const char *name, bool all, struct arena *a, struct buf *out) {
    static const char *const headers[] = {"CONFIG", "VALUE", "SOURCE"};
    struct kafka_string wanted = kafka_string_of(name);
    struct kafka_describe_configs_response r;
    if (configs_ask(c, &wanted, 1, a, &r) != OK) return client_say(c);
    struct table t;
    struct json json;
    table_init(&t, &c->mem, headers, ARRAY_LEN(headers), 0);
    json_init(&json, out);
    if (c->json) {
        json_open(&json, NULL, '{');
        json_text(&json, "name", name);
        json_open(&json, "configs", '[');
    }
    for (int32_t i = 0; r.results.count > 0 && i < r.results.items[0].configs.count; i++) {
        const struct kafka_describe_configs_response_config *x = &r.results.items[0].configs.items[i];
        if (!all && x->config_source != SOURCE_TOPIC) continue;
        if (c->json) {
            json_open(&json, NULL, '{');
            json_string(&json, "name", x->name);
            json_string(&json, "value", x->value);
            json_text(&json, "source", source_name(x->config_source));
            json_bool(&json, "read_only", x->read_only);
            json_bool(&json, "sensitive", x->is_sensitive);
            json_close(&json, '}');
        } else {
            table_string(&t, x->name);
            table_string(&t, x->is_sensitive ? kafka_string_of("(hidden)") : x->value);
            table_text(&t, source_name(x->config_source));
        }
    }
    if (c->json) {
        json_close(&json, ']');
        json_close(&json, '}');
    } else if (t.count == 0) {
        buf_printf(out, "topic '%s' has no configuration of its own (--all shows what it inherits)\n", name);
    } else {
        table_print(&t, out);
    }
    table_deinit(&t);
    return EXIT_DONE;
}

/* --- Sizes. */

struct description {
    struct client *client;
    struct arena *arena;
    struct kafka_metadata_response meta;
    size_t partition_count;         /* of all topics that are described */
    struct client_offset *earliest; /* in the order of the metadata */
    struct client_offset *latest;
    int64_t *sizes; /* -1: not known */
    struct kafka_describe_configs_response configs;
};

/* Sizes as one broker tells them, for the partitions that it leads. Brokers that cannot or will not tell: unknown. */
static void sizes_ask(struct description *d, int32_t node) {
    struct client_conn *cc;
    if (client_node(d->client, node, &cc) != OK) return;
    if (client_version(cc, KAFKA_API_DESCRIBE_LOG_DIRS, CLIENT_ANY_VERSION) < 0) return;
    struct kafka_describe_log_dirs_request q;
    struct kafka_describe_log_dirs_response r;
    kafka_describe_log_dirs_request_init(&q);
    q.topics.count = -1;
    if (client_call(cc, KAFKA_API_DESCRIBE_LOG_DIRS, CLIENT_ANY_VERSION, &q, d->arena, &r) != OK) return;
    for (int32_t i = 0; i < r.results.count; i++) {
        for (int32_t k = 0; k < r.results.items[i].topics.count; k++) {
            const struct kafka_describe_log_dirs_response_topic *t = &r.results.items[i].topics.items[k];
            size_t at = 0;
            for (int32_t m = 0; m < d->meta.topics.count; m++) {
                const struct kafka_metadata_response_topic *topic = &d->meta.topics.items[m];
                bool same = kafka_string_equal(topic->name, t->name);
                for (int32_t p = 0; p < topic->partitions.count; p++, at++) {
                    if (!same || topic->partitions.items[p].leader_id != node) continue;
                    for (int32_t x = 0; x < t->partitions.count; x++) {
                        const struct kafka_describe_log_dirs_response_partition *y = &t->partitions.items[x];
                        if (y->partition_index == topic->partitions.items[p].partition_index && !y->is_future_key)
                            d->sizes[at] = y->partition_size;
                    }
                }
            }
        }
    }
}

/* --- Describing. */

/* Keeps the topics that are wanted; the failure of one that is not there. */
static enum err topics_choose(struct description *d, bool named, bool internal) {
    struct kafka_metadata_response *r = &d->meta;
    int32_t kept = 0;
    for (int32_t i = 0; i < r->topics.count; i++) {
        const struct kafka_metadata_response_topic *t = &r->topics.items[i];
        if (!named && t->is_internal && !internal) continue;
        if (t->error_code != 0 && t->error_code != KAFKA_LEADER_NOT_AVAILABLE) {
            char subject[SUBJECT_SIZE];
            (void)snprintf(subject, sizeof(subject), "topic '%.*s'", (int)t->name.size, t->name.data);
            return client_fail_code(d->client, subject, t->error_code, (struct kafka_string){NULL, -1});
        }
        d->partition_count += t->partitions.count > 0 ? (size_t)t->partitions.count : 0;
        r->topics.items[kept++] = *t;
    }
    r->topics.count = kept;
    return OK;
}

static enum err description_load(struct description *d, const char *const *names, size_t count, bool internal) {
    struct client *c = d->client;
    struct kafka_string *wanted = arena_alloc(d->arena, (count + 1) * sizeof(*wanted));
    for (size_t i = 0; i < count; i++) wanted[i] = kafka_string_of(names[i]);
    enum err e = client_metadata(c, wanted, count ? (int32_t)count : -1, d->arena, &d->meta);
    if (e == OK) e = topics_choose(d, count > 0, internal);
    if (e != OK) return e;
    topics_sort(&d->meta);
    d->earliest = ARENA_ARRAY(d->arena, struct client_offset, d->partition_count + 1);
    d->latest = ARENA_ARRAY(d->arena, struct client_offset, d->partition_count + 1);
    d->sizes = ARENA_ARRAY(d->arena, int64_t, d->partition_count + 1);
    struct kafka_string *found = arena_alloc(d->arena, ((size_t)d->meta.topics.count + 1) * sizeof(*found));
    size_t at = 0;
    for (int32_t i = 0; i < d->meta.topics.count; i++) {
        const struct kafka_metadata_response_topic *t = &d->meta.topics.items[i];
        found[i] = t->name;
        for (int32_t p = 0; p < t->partitions.count; p++, at++) {
            d->earliest[at] =
                (struct client_offset){t->name, t->partitions.items[p].partition_index, CLIENT_EARLIEST, -1, 0, false};
            d->latest[at] = d->earliest[at];
            d->latest[at].timestamp = CLIENT_LATEST;
            d->sizes[at] = -1;
        }
    }
    e = client_list_offsets(c, d->earliest, at, 0);
    if (e == OK) e = client_list_offsets(c, d->latest, at, 0);
    if (e == OK && d->meta.topics.count > 0)
        e = configs_ask(c, found, (size_t)d->meta.topics.count, d->arena, &d->configs);
    if (e != OK) return e;
    for (size_t i = 0; at > 0 && i < c->broker_count; i++) sizes_ask(d, c->brokers[i].node_id);
    return OK;
}

static struct kafka_string nodes_text(struct arena *a, const struct kafka_int32_array *nodes) {
    struct kafka_string s = {"", 0};
    for (int32_t i = 0; i < nodes->count; i++) {
        char *more = arena_printf(a, "%.*s%s%d", (int)s.size, s.data, i ? "," : "", (int)nodes->items[i]);
        s = kafka_string_of(more);
    }
    return s;
}

static void json_nodes(struct json *j, const char *key, const struct kafka_int32_array *nodes) {
    json_open(j, key, '[');
    for (int32_t i = 0; i < nodes->count; i++) json_number(j, NULL, nodes->items[i]);
    json_close(j, ']');
}

static void number_or_unknown(struct table *t, int64_t v) {
    if (v < 0) {
        table_text(t, "-");
    } else {
        table_number(t, v);
    }
}

static void json_number_or_null(struct json *j, const char *key, int64_t v) {
    if (v < 0) {
        json_text(j, key, NULL);
    } else {
        json_number(j, key, v);
    }
}

static const struct kafka_describe_configs_response_result *configs_of(const struct description *d,
                                                                       struct kafka_string name) {
    for (int32_t i = 0; i < d->configs.results.count; i++) {
        if (kafka_string_equal(d->configs.results.items[i].resource_name, name)) return &d->configs.results.items[i];
    }
    return NULL;
}

static void topic_print_json(const struct description *d, const struct kafka_metadata_response_topic *topic, size_t at,
                             struct json *j) {
    char id[UUID_TEXT_SIZE];
    uuid_format(&topic->topic_id, id);
    json_open(j, NULL, '{');
    json_string(j, "name", topic->name);
    json_text(j, "topic_id", kafka_uuid_is_zero(&topic->topic_id) ? NULL : id);
    json_bool(j, "internal", topic->is_internal);
    json_open(j, "partitions", '[');
    for (int32_t i = 0; i < topic->partitions.count; i++, at++) {
        const struct kafka_metadata_response_partition *p = &topic->partitions.items[i];
        json_open(j, NULL, '{');
        json_number(j, "partition", p->partition_index);
        json_number_or_null(j, "leader", p->leader_id);
        json_number_or_null(j, "leader_epoch", p->leader_epoch);
        json_nodes(j, "replicas", &p->replica_nodes);
        json_nodes(j, "isr", &p->isr_nodes);
        json_number_or_null(j, "earliest", d->earliest[at].code ? -1 : d->earliest[at].offset);
        json_number_or_null(j, "latest", d->latest[at].code ? -1 : d->latest[at].offset);
        json_number_or_null(j, "size_bytes", d->sizes[at]);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_open(j, "configs", '{');
    const struct kafka_describe_configs_response_result *r = configs_of(d, topic->name);
    for (int32_t i = 0; r && i < r->configs.count; i++) {
        if (r->configs.items[i].config_source != SOURCE_TOPIC) continue;
        json_key(j, r->configs.items[i].name);
        json_string(j, NULL, r->configs.items[i].value);
    }
    json_close(j, '}');
    json_close(j, '}');
}

static void topic_print(const struct description *d, const struct kafka_metadata_response_topic *topic, size_t at,
                        struct buf *out) {
    static const char *const headers[] = {"PARTITION", "LEADER",   "EPOCH",  "REPLICAS",
                                          "ISR",       "EARLIEST", "LATEST", "BYTES"};
    char id[UUID_TEXT_SIZE];
    uuid_format(&topic->topic_id, id);
    buf_printf(out, "topic %.*s  id=%s partitions=%d internal=%s\n", (int)topic->name.size, topic->name.data,
               kafka_uuid_is_zero(&topic->topic_id) ? "-" : id, (int)topic->partitions.count,
               topic->is_internal ? "yes" : "no");
    const struct kafka_describe_configs_response_result *r = configs_of(d, topic->name);
    for (int32_t i = 0; r && i < r->configs.count; i++) {
        const struct kafka_describe_configs_response_config *x = &r->configs.items[i];
        if (x->config_source != SOURCE_TOPIC) continue;
        buf_printf(out, "config %.*s=%.*s\n", (int)x->name.size, x->name.data,
                   x->value.size > 0 ? (int)x->value.size : 0, x->value.data ? x->value.data : "");
    }
    struct table t;
    table_init(&t, &d->client->mem, headers, ARRAY_LEN(headers), 0xe7);
    for (int32_t i = 0; i < topic->partitions.count; i++, at++) {
        const struct kafka_metadata_response_partition *p = &topic->partitions.items[i];
        table_number(&t, p->partition_index);
        number_or_unknown(&t, p->leader_id);
        number_or_unknown(&t, p->leader_epoch);
        table_string(&t, nodes_text(d->arena, &p->replica_nodes));
        table_string(&t, nodes_text(d->arena, &p->isr_nodes));
        number_or_unknown(&t, d->earliest[at].code ? -1 : d->earliest[at].offset);
        number_or_unknown(&t, d->latest[at].code ? -1 : d->latest[at].offset);
        number_or_unknown(&t, d->sizes[at]);
    }
    table_print(&t, out);
    table_deinit(&t);
}

int topic_describe(struct client *c, const char *const *names, size_t count, bool internal, struct arena *a,
                   struct buf *out) {
    struct description d = {.client = c, .arena = a};
    if (description_load(&d, names, count, internal) != OK) return client_say(c);
    struct json json;
    json_init(&json, out);
    if (c->json) json_open(&json, NULL, '[');
    size_t at = 0;
    for (int32_t i = 0; i < d.meta.topics.count; i++) {
        const struct kafka_metadata_response_topic *t = &d.meta.topics.items[i];
        if (c->json) {
            topic_print_json(&d, t, at, &json);
        } else {
            if (i > 0) buf_u8(out, '\n');
            topic_print(&d, t, at, out);
        }
        at += t->partitions.count > 0 ? (size_t)t->partitions.count : 0;
    }
    if (c->json) json_close(&json, ']');
    return EXIT_DONE;
}
