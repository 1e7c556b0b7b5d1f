/* `oxbow group`: consumer groups of a cluster, looked at and changed. Resetting offsets is in group_reset.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/consumer_protocol.h"
#include "cli/group.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "cli/when.h"

struct group_job {
    struct verbs verbs;
    const char *state; /* list: NULL for all */
    struct reset reset;
    bool how_twice;
};

/* --- list */

static enum err groups_ask(struct client *c, int32_t node, const char *state, struct arena *a,
                           struct kafka_list_groups_response *r) {
    struct client_conn *cc;
    enum err e = client_node(c, node, &cc);
    if (e != OK) return e;
    struct kafka_list_groups_request q;
    struct kafka_string filter = kafka_string_of(state);
    kafka_list_groups_request_init(&q);
    if (state) {
        q.states_filter.items = &filter;
        q.states_filter.count = 1;
        if (client_version(cc, KAFKA_API_LIST_GROUPS, CLIENT_ANY_VERSION) < 4) {
            return client_fail(c, ERR_UNSUPPORTED_VERSION, "the broker at %s is too old to list groups by state",
                               client_conn_name(cc));
        }
    }
    e = client_call(cc, KAFKA_API_LIST_GROUPS, CLIENT_ANY_VERSION, &q, a, r);
    if (e == OK && r->error_code != 0) {
        e = client_fail_code(c, "listing groups", r->error_code, (struct kafka_string){NULL, -1});
    }
    return e;
}

static int compare_groups(const void *a, const void *b) {
    const struct kafka_list_groups_response_group *x = a, *y = b;
    size_t n = (size_t)(x->group_id.size < y->group_id.size ? x->group_id.size : y->group_id.size);
    int d = memcmp(x->group_id.data, y->group_id.data, n);
    return d ? d : (x->group_id.size > y->group_id.size) - (x->group_id.size < y->group_id.size);
}

/* Every broker knows the groups that it coordinates. */
static enum err groups_gather(struct client *c, const char *state, struct arena *a,
                              struct kafka_list_groups_response_group **out, size_t *count) {
    struct kafka_metadata_response meta;
    struct kafka_string none = {NULL, -1};
    enum err e = client_metadata(c, &none, 0, a, &meta);
    size_t capacity = 0;
    *out = NULL;
    *count = 0;
    for (int32_t i = 0; e == OK && i < meta.brokers.count; i++) {
        struct kafka_list_groups_response r;
        e = groups_ask(c, meta.brokers.items[i].node_id, state, a, &r);
        for (int32_t k = 0; e == OK && k < r.groups.count; k++) {
            *out = mem_grow(&c->mem, *out, *count, &capacity, sizeof(**out));
            (*out)[(*count)++] = r.groups.items[k];
        }
    }
    if (*count > 1) qsort(*out, *count, sizeof(**out), compare_groups);
    return e;
}

static int group_list(struct client *c, const struct group_job *j, struct arena *a, struct buf *out) {
    static const char *const headers[] = {"GROUP", "STATE", "TYPE", "PROTOCOL TYPE"};
    struct kafka_list_groups_response_group *groups;
    size_t count;
    enum err e = groups_gather(c, j->state, a, &groups, &count);
    struct table t;
    struct json json;
    table_init(&t, &c->mem, headers, ARRAY_LEN(headers), 0);
    json_init(&json, out);
    if (e == OK && c->json) json_open(&json, NULL, '[');
    for (size_t i = 0; e == OK && i < count; i++) {
        const struct kafka_list_groups_response_group *g = &groups[i];
        if (c->json) {
            json_open(&json, NULL, '{');
            json_string(&json, "group", g->group_id);
            json_string(&json, "state", g->group_state);
            json_string(&json, "type", g->group_type);
            json_string(&json, "protocol_type", g->protocol_type);
            json_close(&json, '}');
        } else {
            table_string(&t, g->group_id);
            table_string(&t, g->group_state);
            table_string(&t, g->group_type);
            table_string(&t, g->protocol_type);
        }
    }
    if (e == OK && c->json) {
        json_close(&json, ']');
    } else if (e == OK) {
        table_print(&t, out);
    }
    table_deinit(&t);
    mem_free(&c->mem, groups);
    return e == OK ? EXIT_DONE : client_say(c);
}

/* --- describe */

struct group_view {
    struct kafka_describe_groups_response_group group;
    struct assignment *assignments; /* of the members, in their order; empty where it cannot be read */
    struct committed *committed;
    struct client_offset *ends;
    size_t count; /* of the two above: all that was committed, and all that is assigned */
};

/* Partitions that a member has and that were never committed are shown, too. */
static void view_add_assigned(struct client *c, struct group_view *v, struct arena *a) {
    size_t capacity = v->count + 1;
    struct committed *all = mem_alloc(&c->mem, capacity * sizeof(*all));
    size_t known = v->count, count = v->count;
    if (known) memcpy(all, v->committed, known * sizeof(*all));
    for (int32_t m = 0; m < v->group.members.count; m++) {
        for (int32_t i = 0; i < v->assignments[m].count; i++) {
            const struct assigned_topic *t = &v->assignments[m].topics[i];
            for (int32_t k = 0; k < t->partitions.count; k++) {
                bool there = false;
                for (size_t x = 0; x < count && !there; x++) {
                    there = all[x].partition == t->partitions.items[k] && kafka_string_equal(all[x].topic, t->topic);
                }
                if (there) continue;
                all = mem_grow(&c->mem, all, count, &capacity, sizeof(*all));
                all[count++] = (struct committed){t->topic, t->partitions.items[k], -1, 0};
            }
        }
    }
    v->committed = arena_copy(a, all, count * sizeof(*all));
    v->count = count;
    mem_free(&c->mem, all);
}

static enum err view_load(struct client *c, const char *name, struct arena *a, struct group_view *v) {
    enum err e = group_describe_ask(c, name, a, &v->group);
    if (e != OK) return e;
    int32_t members = v->group.members.count;
    v->assignments = ARENA_ARRAY(a, struct assignment, (members > 0 ? members : 0) + 1);
    for (int32_t i = 0; i < members; i++) {
        const struct kafka_bytes *b = &v->group.members.items[i].member_assignment;
        bool consumer = kafka_string_equal(v->group.protocol_type, kafka_string_of("consumer"));
        if (consumer && b->size > 0) (void)assignment_decode(b->data, (size_t)b->size, a, &v->assignments[i]);
    }
    e = group_committed(c, name, a, &v->committed, &v->count);
    if (e != OK) return e;
    view_add_assigned(c, v, a);
    v->ends = ARENA_ARRAY(a, struct client_offset, v->count + 1);
    for (size_t i = 0; i < v->count; i++) {
        v->ends[i] =
            (struct client_offset){v->committed[i].topic, v->committed[i].partition, CLIENT_LATEST, -1, 0, false};
    }
    return client_list_offsets(c, v->ends, v->count, 0);
}

/* The member that a partition is assigned to; NULL: none. */
static const struct kafka_describe_groups_response_member *view_owner(const struct group_view *v, size_t at) {
    for (int32_t m = 0; m < v->group.members.count; m++) {
        for (int32_t i = 0; i < v->assignments[m].count; i++) {
            const struct assigned_topic *t = &v->assignments[m].topics[i];
            if (!kafka_string_equal(t->topic, v->committed[at].topic)) continue;
            for (int32_t k = 0; k < t->partitions.count; k++) {
                if (t->partitions.items[k] == v->committed[at].partition) return &v->group.members.items[m];
            }
        }
    }
    return NULL;
}

static int64_t view_end(const struct group_view *v, size_t i) {
    return v->ends[i].code == 0 ? v->ends[i].offset : -1;
}

/* -1: not known. A committed offset behind the end (records were lost, or it was set so) has no lag. */
static int64_t view_lag(const struct group_view *v, size_t i) {
    int64_t end = view_end(v, i), committed = v->committed[i].offset;
    if (end < 0 || committed < 0) return -1;
    return committed < end ? end - committed : 0;
}

static void json_number_or_null(struct json *j, const char *key, int64_t v) {
    if (v < 0) {
        json_text(j, key, NULL);
    } else {
        json_number(j, key, v);
    }
}

static void view_print_json(const struct group_view *v, struct json *j) {
    json_open(j, NULL, '{');
    json_string(j, "group", v->group.group_id);
    json_string(j, "state", v->group.group_state);
    json_string(j, "protocol_type", v->group.protocol_type);
    json_string(j, "protocol", v->group.protocol_data);
    json_open(j, "members", '[');
    for (int32_t i = 0; i < v->group.members.count; i++) {
        const struct kafka_describe_groups_response_member *m = &v->group.members.items[i];
        json_open(j, NULL, '{');
        json_string(j, "member_id", m->member_id);
        json_string(j, "group_instance_id", m->group_instance_id);
        json_string(j, "client_id", m->client_id);
        json_string(j, "host", m->client_host);
        json_open(j, "assignment", '[');
        for (int32_t k = 0; k < v->assignments[i].count; k++) {
            const struct assigned_topic *t = &v->assignments[i].topics[k];
            json_open(j, NULL, '{');
            json_string(j, "topic", t->topic);
            json_open(j, "partitions", '[');
            for (int32_t p = 0; p < t->partitions.count; p++) json_number(j, NULL, t->partitions.items[p]);
            json_close(j, ']');
            json_close(j, '}');
        }
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
    json_open(j, "partitions", '[');
    for (size_t i = 0; i < v->count; i++) {
        const struct kafka_describe_groups_response_member *owner = view_owner(v, i);
        json_open(j, NULL, '{');
        json_string(j, "topic", v->committed[i].topic);
        json_number(j, "partition", v->committed[i].partition);
        json_number_or_null(j, "committed", v->committed[i].offset);
        json_number_or_null(j, "end", view_end(v, i));
        json_number_or_null(j, "lag", view_lag(v, i));
        json_string(j, "member_id", owner ? owner->member_id : (struct kafka_string){NULL, -1});
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}

static struct kafka_string assignment_text(const struct assignment *x, struct arena *a) {
    struct kafka_string s = {"", 0};
    for (int32_t i = 0; i < x->count; i++) {
        for (int32_t k = 0; k < x->topics[i].partitions.count; k++) {
            const char *more =
                k == 0
                    ? arena_printf(a, "%.*s%s%.*s:%d", (int)s.size, s.data, i ? " " : "", (int)x->topics[i].topic.size,
                                   x->topics[i].topic.data, (int)x->topics[i].partitions.items[k])
                    : arena_printf(a, "%.*s,%d", (int)s.size, s.data, (int)x->topics[i].partitions.items[k]);
            s = kafka_string_of(more);
        }
    }
    return s;
}

static void number_or_unknown(struct table *t, int64_t v) {
    if (v < 0) {
        table_text(t, "-");
    } else {
        table_number(t, v);
    }
}

static void view_print(const struct group_view *v, struct client *c, struct arena *a, struct buf *out) {
    static const char *const member_headers[] = {"MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNMENT"};
    static const char *const headers[] = {"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"};
    const struct kafka_describe_groups_response_group *g = &v->group;
    struct table t;
    buf_printf(out, "group %.*s  state=%.*s protocol=%.*s members=%d\n", (int)g->group_id.size, g->group_id.data,
               (int)g->group_state.size, g->group_state.data,
               g->protocol_data.size > 0 ? (int)g->protocol_data.size : 1,
               g->protocol_data.size > 0 ? g->protocol_data.data : "-", (int)g->members.count);
    table_init(&t, &c->mem, member_headers, ARRAY_LEN(member_headers), 0);
    for (int32_t i = 0; i < g->members.count; i++) {
        table_string(&t, g->members.items[i].member_id);
        table_string(&t, g->members.items[i].group_instance_id);
        table_string(&t, g->members.items[i].client_id);
        table_string(&t, g->members.items[i].client_host);
        table_string(&t, assignment_text(&v->assignments[i], a));
    }
    if (t.count > 0) {
        table_print(&t, out);
        if (v->count > 0) buf_u8(out, '\n');
    }
    table_deinit(&t);
    table_init(&t, &c->mem, headers, ARRAY_LEN(headers), 0x1e);
    for (size_t i = 0; i < v->count; i++) {
        const struct kafka_describe_groups_response_member *owner = view_owner(v, i);
        table_string(&t, v->committed[i].topic);
        table_number(&t, v->committed[i].partition);
        number_or_unknown(&t, v->committed[i].offset);
        number_or_unknown(&t, view_end(v, i));
        number_or_unknown(&t, view_lag(v, i));
        table_string(&t, owner ? owner->member_id : (struct kafka_string){NULL, -1});
    }
    if (v->count > 0) table_print(&t, out);
    table_deinit(&t);
}

static int group_describe(struct client *c, const struct group_job *j, struct arena *a, struct buf *out) {
    struct json json;
    json_init(&json, out);
    if (c->json) json_open(&json, NULL, '[');
    for (size_t i = 0; i < j->verbs.argument_count; i++) {
        struct group_view v = {0};
        if (view_load(c, j->verbs.arguments[i], a, &v) != OK) {
            out->size = 0;
            return client_say(c);
        }
        if (c->json) {
            view_print_json(&v, &json);
        } else {
            if (i > 0) buf_u8(out, '\n');
            view_print(&v, c, a, out);
        }
    }
    if (c->json) json_close(&json, ']');
    return EXIT_DONE;
}

/* --- delete */

static int group_delete(struct client *c, const struct group_job *j, struct arena *a, struct buf *out) {
    struct json json;
    int status = EXIT_DONE;
    json_init(&json, out);
    if (c->json) json_open(&json, NULL, '[');
    for (size_t i = 0; i < j->verbs.argument_count; i++) {
        const char *name = j->verbs.arguments[i];
        struct kafka_string group = kafka_string_of(name);
        struct client_conn *cc;
        struct kafka_delete_groups_request q;
        struct kafka_delete_groups_response r;
        kafka_delete_groups_request_init(&q);
        q.groups_names.items = &group;
        q.groups_names.count = 1;
        enum err e = client_coordinator(c, group, &cc);
        if (e == OK) e = client_call(cc, KAFKA_API_DELETE_GROUPS, CLIENT_ANY_VERSION, &q, a, &r);
        if (e == OK && r.results.count == 1 && r.results.items[0].error_code != 0) {
            char subject[GROUP_SUBJECT_SIZE];
            group_subject(name, subject);
            e = client_fail_code(c, subject, r.results.items[0].error_code, (struct kafka_string){NULL, -1});
        }
        if (e != OK) status = client_say(c);
        if (c->json) {
            json_open(&json, NULL, '{');
            json_text(&json, "group", name);
            json_text(&json, "result", e == OK ? "deleted" : "failed");
            if (e != OK) json_text(&json, "message", c->why);
            json_close(&json, '}');
        } else if (e == OK) {
            buf_printf(out, "group '%s' deleted\n", name);
        }
    }
    if (c->json) json_close(&json, ']');
    return status;
}

/* --- The command line. */

enum group_verb { VERB_LIST, VERB_DESCRIBE, VERB_RESET, VERB_DELETE };
enum group_option {
    OPT_STATE = CLIENT_OPTION_COUNT,
    OPT_TOPIC,
    OPT_EARLIEST,
    OPT_LATEST,
    OPT_OFFSET,
    OPT_DATETIME,
    OPT_DURATION,
    OPT_SHIFT,
    OPT_EXECUTE
};
#define ALWAYS ((1u << CLIENT_OPTION_COUNT) - 1)
#define RESET_OPTIONS (((1u << (OPT_EXECUTE + 1)) - 1) & ~(1u << OPT_STATE))

static const struct option_spec specs[] = {
    CLIENT_OPTIONS,
    {0, "state", "STATE"},
    {'t', "topic", "TOPIC[:PARTITION,...]"},
    {0, "to-earliest", NULL},
    {0, "to-latest", NULL},
    {0, "to-offset", "N"},
    {0, "to-datetime", "WHEN"},
    {0, "by-duration", "PnDTnHnMnS"},
    {0, "shift-by", "N"},
    {0, "execute", NULL},
};

static const struct verb verbs[] = {
    [VERB_LIST] = {"list", ALWAYS | 1u << OPT_STATE, 0, 0, "nothing"},
    [VERB_DESCRIBE] = {"describe", ALWAYS, 1, VERB_ARGUMENTS_MAX, "NAME..."},
    [VERB_RESET] = {"reset", ALWAYS | RESET_OPTIONS, 1, 1, "NAME"},
    [VERB_DELETE] = {"delete", ALWAYS, 1, VERB_ARGUMENTS_MAX, "NAME..."},
};

static void how_take(struct group_job *j, enum reset_how how) {
    j->how_twice = j->how_twice || j->reset.how != RESET_NONE;
    j->reset.how = how;
}

/* A whole number with or without a sign. */
static bool shift_parse(const char *text, int64_t *out) {
    uint64_t v;
    bool negative = *text == '-';
    if (!options_u64(text + (*text == '-' || *text == '+'), 0, INT64_MAX, &v)) return false;
    *out = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

/* What was expected, when the value makes no sense; else NULL. */
static const char *option_take(struct group_job *j, enum group_option option, const char *value) {
    uint64_t v;
    switch (option) {
    case OPT_STATE:
        j->state = value;
        return NULL;
    case OPT_TOPIC:
        if (j->reset.topic_count == GROUP_TOPICS_MAX) return "at most 64 times --topic";
        j->reset.topics[j->reset.topic_count++] = value;
        return NULL;
    case OPT_EARLIEST:
        how_take(j, RESET_EARLIEST);
        return NULL;
    case OPT_LATEST:
        how_take(j, RESET_LATEST);
        return NULL;
    case OPT_OFFSET:
        how_take(j, RESET_OFFSET);
        if (!options_u64(value, 0, INT64_MAX, &v)) return "an offset";
        j->reset.value = (int64_t)v;
        return NULL;
    case OPT_DATETIME:
        how_take(j, RESET_DATETIME);
        return when_parse(value, &j->reset.value) ? NULL : "a moment such as 2024-02-29T12:30:45.123Z";
    case OPT_DURATION:
        how_take(j, RESET_DURATION);
        return duration_parse(value, &j->reset.value) ? NULL : "a duration such as P1DT2H30M or PT45S";
    case OPT_SHIFT:
        how_take(j, RESET_SHIFT);
        return shift_parse(value, &j->reset.value) ? NULL : "a number of records, negative for backwards";
    case OPT_EXECUTE:
        j->reset.execute = true;
        return NULL;
    }
    UNREACHABLE();
}

static int group_work(struct client *c, void *arg) {
    struct group_job *j = arg;
    struct arena a;
    struct buf out;
    arena_init(&a, &c->mem);
    buf_init(&out, &c->mem);
    int status = EXIT_FAILED;
    switch ((enum group_verb)(j->verbs.chosen - verbs)) {
    case VERB_LIST:
        status = group_list(c, j, &a, &out);
        break;
    case VERB_DESCRIBE:
        status = group_describe(c, j, &a, &out);
        break;
    case VERB_RESET:
        j->reset.group = j->verbs.arguments[0];
        status = group_reset(c, &j->reset, &a, &out);
        break;
    case VERB_DELETE:
        status = group_delete(c, j, &a, &out);
        break;
    }
    if (c->json && out.size > 0) buf_u8(&out, '\n');
    int written = output_write(&out, c->command);
    buf_deinit(&out);
    arena_deinit(&a);
    return status == EXIT_DONE ? written : status;
}

static int group_run(int argc, char **argv) {
    struct group_job j = {.verbs = {.items = verbs, .count = ARRAY_LEN(verbs)}};
    struct client_options co = {0};
    struct options o;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        int status = verbs_take(&j.verbs, &o, i);
        if (status != EXIT_DONE) return status;
        if (i < 0) continue;
        const char *expected = i < CLIENT_OPTION_COUNT ? client_options_take(&co, i, o.value)
                                                       : option_take(&j, (enum group_option)i, o.value);
        if (expected) return options_refuse(&o, expected);
    }
    int status = verbs_check(&j.verbs, &o);
    if (status != EXIT_DONE) return status;
    if (j.verbs.chosen == &verbs[VERB_RESET] &&
        (j.reset.how == RESET_NONE || j.how_twice || j.reset.topic_count == 0)) {
        fprintf(stderr,
                "oxbow group reset: expected --topic and exactly one of --to-earliest, --to-latest, --to-offset, "
                "--to-datetime, --by-duration, --shift-by ('oxbow help group' tells more)\n");
        return EXIT_USAGE;
    }
    return client_run("group", &co, group_work, &j);
}

const struct command command_group = {
    "group",
    "consumer groups of a cluster: list, describe, reset, delete",
    "usage: oxbow group list [--state STATE]\n"
    "       oxbow group describe NAME...\n"
    "       oxbow group reset NAME --topic TOPIC[:PARTITION,...]... HOW [--execute]\n"
    "       oxbow group delete NAME...\n\n"
    "Looks at and changes the consumer groups of any Kafka cluster. `describe` shows members with what is assigned to\n"
    "them, and for each partition the committed offset, the end of the log and the records between them. `reset` shows\n"
    "where the group would go on reading, kept within the log, and sets it with --execute; a group with members is refused.\n\n"
    "      --state STATE     only groups in this state: Stable, Empty, PreparingRebalance, ...\n"
    "  -t, --topic TOPIC     all partitions of it, or those behind the colon; may be repeated\n"
    "      --to-earliest | --to-latest | --to-offset N | --shift-by N (negative: back)\n"
    "      --to-datetime WHEN        the first record at or after e.g. 2024-02-29T12:30:45.123Z, or ...+02:00\n"
    "      --by-duration PnDTnHnMnS  so long ago, e.g. P1DT12H\n"
    "      --execute         does it\n"
    "      --json            one JSON document instead of a table\n" CLIENT_OPTIONS_HELP,
    group_run,
};
