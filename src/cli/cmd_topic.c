/* `oxbow topic`: topics of a cluster, looked at and changed. Describing is in topic_describe.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/topic.h"
#include "cli/verbs.h"

#define CHANGES_MAX 64u
#define SUBJECT_SIZE 320u

enum { OP_SET, OP_DELETE }; /* as IncrementalAlterConfigs has them */

struct change {
    const char *name; /* not NUL-terminated */
    size_t name_size;
    const char *value; /* OP_SET */
    int8_t op;
};

struct topic_job {
    struct verbs verbs;
    bool internal, if_not_exists, if_exists, all;
    uint64_t partitions, replication; /* 0: the broker's default */
    struct change changes[CHANGES_MAX];
    size_t change_count;
};

static int compare_topics(const void *a, const void *b) {
    const struct kafka_metadata_response_topic *x = a, *y = b;
    size_t n = (size_t)(x->name.size < y->name.size ? x->name.size : y->name.size);
    int d = memcmp(x->name.data, y->name.data, n);
    return d ? d : (x->name.size > y->name.size) - (x->name.size < y->name.size);
}

void topics_sort(struct kafka_metadata_response *r) {
    if (r->topics.count > 1) qsort(r->topics.items, (size_t)r->topics.count, sizeof(*r->topics.items), compare_topics);
}

/* --- list */

static int topic_list(struct client *c, const struct topic_job *j, struct arena *a, struct buf *out) {
    static const char *const headers[] = {"TOPIC", "PARTITIONS", "REPLICATION", "INTERNAL"};
    struct kafka_metadata_response r;
    if (client_metadata(c, NULL, -1, a, &r) != OK) return client_say(c);
    topics_sort(&r);
    struct table t;
    struct json json;
    table_init(&t, &c->mem, headers, ARRAY_LEN(headers), 6);
    json_init(&json, out);
    if (c->json) json_open(&json, NULL, '[');
    for (int32_t i = 0; i < r.topics.count; i++) {
        const struct kafka_metadata_response_topic *topic = &r.topics.items[i];
        if (topic->is_internal && !j->internal) continue;
        int32_t replication = topic->partitions.count > 0 ? topic->partitions.items[0].replica_nodes.count : 0;
        if (c->json) {
            json_open(&json, NULL, '{');
            json_string(&json, "name", topic->name);
            json_number(&json, "partitions", topic->partitions.count);
            json_number(&json, "replication_factor", replication);
            json_bool(&json, "internal", topic->is_internal);
            json_close(&json, '}');
        } else {
            table_string(&t, topic->name);
            table_number(&t, topic->partitions.count);
            table_number(&t, replication);
            table_text(&t, topic->is_internal ? "yes" : "no");
        }
    }
    if (c->json) {
        json_close(&json, ']');
    } else {
        table_print(&t, out);
    }
    table_deinit(&t);
    return EXIT_DONE;
}

/* --- What changes something: one result a topic, said in words or as JSON. */

struct results {
    struct client *client;
    struct json json;
    struct buf *out;
    const char *done; /* "created" */
    int status;
};

static void results_init(struct results *r, struct client *c, struct buf *out, const char *done) {
    *r = (struct results){.client = c, .out = out, .done = done};
    json_init(&r->json, out);
    if (c->json) json_open(&r->json, NULL, '[');
}

/* note: what is said instead of `done` although the code is not 0; NULL: a code is a failure. */
static void results_add(struct results *r, struct kafka_string name, int16_t code, struct kafka_string message,
                        const char *note) {
    bool failed = code != 0 && !note;
    if (failed) r->status = EXIT_FAILED;
    if (r->client->json) {
        json_open(&r->json, NULL, '{');
        json_string(&r->json, "name", name);
        json_text(&r->json, "result", failed ? "failed" : note ? note : r->done);
        if (failed) {
            json_text(&r->json, "error", kafka_error_name(code));
            json_number(&r->json, "error_code", code);
            json_string(&r->json, "message", message.size > 0 ? message : kafka_string_of(client_code_text(code)));
        }
        json_close(&r->json, '}');
    } else if (!failed) {
        buf_printf(r->out, "topic '%.*s' %s\n", (int)name.size, name.data, note ? note : r->done);
    }
    if (failed) {
        char subject[SUBJECT_SIZE];
        (void)snprintf(subject, sizeof(subject), "topic '%.*s'", (int)name.size, name.data);
        (void)client_fail_code(r->client, subject, code, message);
        (void)client_say(r->client);
    }
}

static int results_end(struct results *r) {
    if (r->client->json) json_close(&r->json, ']');
    return r->status;
}

static int32_t timeout_ms(const struct client *c) {
    return (int32_t)(c->timeout_ns / NS_PER_MS);
}

static int topic_create(struct client *c, const struct topic_job *j, struct arena *a, struct buf *out) {
    struct client_conn *cc;
    if (client_controller(c, &cc) != OK) return client_say(c);
    /* Before version 4 (Kafka 2.4) the broker has no defaults to give. */
    bool defaults = client_version(cc, KAFKA_API_CREATE_TOPICS, CLIENT_ANY_VERSION) >= 4;
    struct kafka_create_topics_request q;
    struct kafka_create_topics_response r;
    kafka_create_topics_request_init(&q);
    q.timeout_ms = timeout_ms(c);
    q.topics.items = kafka_create_topics_request_topic_new(a, j->verbs.argument_count);
    q.topics.count = (int32_t)j->verbs.argument_count;
    for (size_t i = 0; i < j->verbs.argument_count; i++) {
        struct kafka_create_topics_request_topic *t = &q.topics.items[i];
        t->name = kafka_string_of(j->verbs.arguments[i]);
        t->num_partitions = j->partitions ? (int32_t)j->partitions : defaults ? -1 : 1;
        t->replication_factor = j->replication ? (int16_t)j->replication : defaults ? -1 : 1;
        t->configs.items = kafka_create_topics_request_config_new(a, j->change_count);
        t->configs.count = (int32_t)j->change_count;
        for (size_t k = 0; k < j->change_count; k++) {
            t->configs.items[k].name = kafka_string_view(j->changes[k].name, j->changes[k].name_size);
            t->configs.items[k].value = kafka_string_of(j->changes[k].value);
        }
    }
    if (client_call(cc, KAFKA_API_CREATE_TOPICS, CLIENT_ANY_VERSION, &q, a, &r) != OK) return client_say(c);
    struct results results;
    results_init(&results, c, out, "created");
    for (int32_t i = 0; i < r.topics.count; i++) {
        const struct kafka_create_topics_response_topic *t = &r.topics.items[i];
        bool harmless = j->if_not_exists && t->error_code == KAFKA_TOPIC_ALREADY_EXISTS;
        results_add(&results, t->name, t->error_code, t->error_message, harmless ? "exists already" : NULL);
    }
    return results_end(&results);
}

static int topic_delete(struct client *c, const struct topic_job *j, struct arena *a, struct buf *out) {
    struct client_conn *cc;
    if (client_controller(c, &cc) != OK) return client_say(c);
    struct kafka_delete_topics_request q;
    struct kafka_delete_topics_response r;
    kafka_delete_topics_request_init(&q);
    q.timeout_ms = timeout_ms(c);
    size_t count = j->verbs.argument_count;
    struct kafka_string *names = arena_alloc(a, count * sizeof(*names));
    for (size_t i = 0; i < count; i++) names[i] = kafka_string_of(j->verbs.arguments[i]);
    if (client_version(cc, KAFKA_API_DELETE_TOPICS, CLIENT_ANY_VERSION) >= 6) {
        q.topics.items = kafka_delete_topics_request_topic_new(a, count);
        q.topics.count = (int32_t)count;
        for (size_t i = 0; i < count; i++) q.topics.items[i].name = names[i];
    } else {
        q.topic_names.items = names;
        q.topic_names.count = (int32_t)count;
    }
    if (client_call(cc, KAFKA_API_DELETE_TOPICS, CLIENT_ANY_VERSION, &q, a, &r) != OK) return client_say(c);
    struct results results;
    results_init(&results, c, out, "deleted");
    for (int32_t i = 0; i < r.responses.count; i++) {
        const struct kafka_delete_topics_response_topic *t = &r.responses.items[i];
        bool harmless = j->if_exists && t->error_code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        results_add(&results, t->name, t->error_code, t->error_message, harmless ? "does not exist" : NULL);
    }
    return results_end(&results);
}

static int topic_partitions(struct client *c, const struct topic_job *j, struct arena *a, struct buf *out) {
    struct client_conn *cc;
    if (client_controller(c, &cc) != OK) return client_say(c);
    struct kafka_create_partitions_request q;
    struct kafka_create_partitions_response r;
    kafka_create_partitions_request_init(&q);
    q.timeout_ms = timeout_ms(c);
    q.topics.items = kafka_create_partitions_request_topic_new(a, 1);
    q.topics.count = 1;
    q.topics.items[0].name = kafka_string_of(j->verbs.arguments[0]);
    q.topics.items[0].count = (int32_t)j->partitions;
    q.topics.items[0].assignments.count = -1;
    if (client_call(cc, KAFKA_API_CREATE_PARTITIONS, CLIENT_ANY_VERSION, &q, a, &r) != OK) return client_say(c);
    struct results results;
    char done[64];
    (void)snprintf(done, sizeof(done), "has %" PRIu64 " partitions", j->partitions);
    results_init(&results, c, out, done);
    for (int32_t i = 0; i < r.results.count; i++) {
        results_add(&results, r.results.items[i].name, r.results.items[i].error_code, r.results.items[i].error_message,
                    NULL);
    }
    return results_end(&results);
}

/* --- config */

static enum err configs_change(struct client *c, const struct topic_job *j, struct arena *a) {
    struct client_conn *cc;
    enum err e = client_controller(c, &cc);
    if (e != OK) return e;
    struct kafka_incremental_alter_configs_request q;
    struct kafka_incremental_alter_configs_response r;
    kafka_incremental_alter_configs_request_init(&q);
    q.resources.items = kafka_incremental_alter_configs_request_resource_new(a, 1);
    q.resources.count = 1;
    q.resources.items[0].resource_type = TOPIC_RESOURCE;
    q.resources.items[0].resource_name = kafka_string_of(j->verbs.arguments[0]);
    q.resources.items[0].configs.items = kafka_incremental_alter_configs_request_config_new(a, j->change_count);
    q.resources.items[0].configs.count = (int32_t)j->change_count;
    for (size_t i = 0; i < j->change_count; i++) {
        struct kafka_incremental_alter_configs_request_config *to = &q.resources.items[0].configs.items[i];
        to->name = kafka_string_view(j->changes[i].name, j->changes[i].name_size);
        to->config_operation = j->changes[i].op;
        to->value = kafka_string_of(j->changes[i].value);
    }
    e = client_call(cc, KAFKA_API_INCREMENTAL_ALTER_CONFIGS, CLIENT_ANY_VERSION, &q, a, &r);
    if (e != OK || r.responses.count < 1 || r.responses.items[0].error_code == 0) return e;
    char subject[SUBJECT_SIZE];
    (void)snprintf(subject, sizeof(subject), "topic '%s'", j->verbs.arguments[0]);
    return client_fail_code(c, subject, r.responses.items[0].error_code, r.responses.items[0].error_message);
}

static int topic_config(struct client *c, const struct topic_job *j, struct arena *a, struct buf *out) {
    if (j->change_count > 0 && configs_change(c, j, a) != OK) return client_say(c);
    return topic_config_show(c, j->verbs.arguments[0], j->all, a, out);
}

/* --- The command line. */

enum topic_verb { VERB_LIST, VERB_CREATE, VERB_DESCRIBE, VERB_DELETE, VERB_CONFIG, VERB_PARTITIONS };
enum topic_option {
    OPT_INTERNAL = CLIENT_OPTION_COUNT,
    OPT_PARTITIONS,
    OPT_REPLICATION,
    OPT_CONFIG,
    OPT_IF_NOT_EXISTS,
    OPT_IF_EXISTS,
    OPT_SET,
    OPT_DELETE,
    OPT_ALL
};
#define ALWAYS ((1u << CLIENT_OPTION_COUNT) - 1)

static const struct option_spec specs[] = {
    CLIENT_OPTIONS,
    {0, "internal", NULL},
    {'p', "partitions", "N"},
    {'r', "replication-factor", "N"},
    {0, "config", "key=value"},
    {0, "if-not-exists", NULL},
    {0, "if-exists", NULL},
    {0, "set", "key=value"},
    {0, "delete", "key"},
    {0, "all", NULL},
};

static const struct verb verbs[] = {
    [VERB_LIST] = {"list", ALWAYS | 1u << OPT_INTERNAL, 0, 0, "nothing"},
    [VERB_CREATE] = {"create",
                     ALWAYS | 1u << OPT_PARTITIONS | 1u << OPT_REPLICATION | 1u << OPT_CONFIG | 1u << OPT_IF_NOT_EXISTS,
                     1, VERB_ARGUMENTS_MAX, "NAME..."},
    [VERB_DESCRIBE] = {"describe", ALWAYS | 1u << OPT_INTERNAL, 0, VERB_ARGUMENTS_MAX, "[NAME...]"},
    [VERB_DELETE] = {"delete", ALWAYS | 1u << OPT_IF_EXISTS, 1, VERB_ARGUMENTS_MAX, "NAME..."},
    [VERB_CONFIG] = {"config", ALWAYS | 1u << OPT_SET | 1u << OPT_DELETE | 1u << OPT_ALL, 1, 1, "NAME"},
    [VERB_PARTITIONS] = {"partitions", ALWAYS, 2, 2, "NAME N"},
};

/* "key=value", or for OP_DELETE "key". */
static bool change_take(struct topic_job *j, int8_t op, const char *text) {
    if (j->change_count == CHANGES_MAX) return false;
    size_t size = strcspn(text, "=");
    if (size == 0 || (text[size] == '=') != (op == OP_SET)) return false;
    j->changes[j->change_count++] = (struct change){text, size, op == OP_SET ? text + size + 1 : NULL, op};
    return true;
}

/* What was expected, when the value makes no sense; else NULL. */
static const char *option_take(struct topic_job *j, enum topic_option option, const char *value) {
    switch (option) {
    case OPT_INTERNAL:
        j->internal = true;
        return NULL;
    case OPT_PARTITIONS:
        return options_u64(value, 1, INT32_MAX, &j->partitions) ? NULL : "a number of partitions";
    case OPT_REPLICATION:
        return options_u64(value, 1, INT16_MAX, &j->replication) ? NULL : "a replication factor";
    case OPT_CONFIG:
    case OPT_SET:
        return change_take(j, OP_SET, value) ? NULL : "key=value, at most 64 times";
    case OPT_DELETE:
        return change_take(j, OP_DELETE, value) ? NULL : "the name of a configuration, at most 64 times";
    case OPT_IF_NOT_EXISTS:
        j->if_not_exists = true;
        return NULL;
    case OPT_IF_EXISTS:
        j->if_exists = true;
        return NULL;
    case OPT_ALL:
        j->all = true;
        return NULL;
    }
    UNREACHABLE();
}

static int topic_work(struct client *c, void *arg) {
    struct topic_job *j = arg;
    struct arena a;
    struct buf out;
    arena_init(&a, &c->mem);
    buf_init(&out, &c->mem);
    int status = EXIT_FAILED;
    switch ((enum topic_verb)(j->verbs.chosen - verbs)) {
    case VERB_LIST:
        status = topic_list(c, j, &a, &out);
        break;
    case VERB_CREATE:
        status = topic_create(c, j, &a, &out);
        break;
    case VERB_DESCRIBE:
        status = topic_describe(c, j->verbs.arguments, j->verbs.argument_count, j->internal, &a, &out);
        break;
    case VERB_DELETE:
        status = topic_delete(c, j, &a, &out);
        break;
    case VERB_CONFIG:
        status = topic_config(c, j, &a, &out);
        break;
    case VERB_PARTITIONS:
        status = topic_partitions(c, j, &a, &out);
        break;
    }
    if (c->json && out.size > 0) buf_u8(&out, '\n');
    int written = output_write(&out, c->command);
    buf_deinit(&out);
    arena_deinit(&a);
    return status == EXIT_DONE ? written : status;
}

static int topic_run(int argc, char **argv) {
    struct topic_job j = {.verbs = {.items = verbs, .count = ARRAY_LEN(verbs)}};
    struct client_options co = {0};
    struct options o;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        int status = verbs_take(&j.verbs, &o, i);
        if (status != EXIT_DONE) return status;
        if (i < 0) continue;
        const char *expected = i < CLIENT_OPTION_COUNT ? client_options_take(&co, i, o.value)
                                                       : option_take(&j, (enum topic_option)i, o.value);
        if (expected) return options_refuse(&o, expected);
    }
    int status = verbs_check(&j.verbs, &o);
    if (status != EXIT_DONE) return status;
    if (j.verbs.chosen == &verbs[VERB_PARTITIONS] && !options_u64(j.verbs.arguments[1], 1, INT32_MAX, &j.partitions)) {
        o.value = j.verbs.arguments[1];
        return options_refuse(&o, "a number of partitions");
    }
    return client_run("topic", &co, topic_work, &j);
}

const struct command command_topic = {
    "topic",
    "topics of a cluster: list, create, describe, delete, config, partitions",
    "usage: oxbow topic list [--internal]\n"
    "       oxbow topic create NAME... [--partitions N] [--replication-factor N] [--config key=value]...\n"
    "                          [--if-not-exists]\n"
    "       oxbow topic describe [NAME]... [--internal]\n"
    "       oxbow topic config NAME [--set key=value]... [--delete key]... [--all]\n"
    "       oxbow topic partitions NAME N\n"
    "       oxbow topic delete NAME... [--if-exists]\n\n"
    "Looks at and changes the topics of any Kafka cluster. `describe` shows leaders, replicas, the first offset and the\n"
    "next one, sizes where the broker tells them, and the configurations that are not defaults. `config` shows these, or\n"
    "with --all every one, with where its value comes from; changes are made first.\n\n"
    "      --internal        internal topics too\n"
    "  -p, --partitions N    (default: the broker's num.partitions)\n"
    "  -r, --replication-factor N   (default: the broker's)\n"
    "      --json            one JSON document instead of a table\n" CLIENT_OPTIONS_HELP,
    topic_run,
};
