/* `oxbow group reset`: where a group is to go on reading. First everything is worked out and shown; only --execute
 * commits it, and only while the group has no members, whose own commits would undo it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/commands.h"
#include "cli/group.h"
#include "cli/options.h"
#include "cli/output.h"

/* One partition to be reset. */
struct place {
    struct kafka_string topic;
    int32_t partition;
    int64_t committed; /* -1: none */
    int64_t earliest, latest, wanted;
};

struct plan {
    struct client *client;
    const struct reset *reset;
    struct arena *arena;
    struct place *places;
    size_t count, capacity;
};

static void plan_add(struct plan *p, struct kafka_string topic, int32_t partition) {
    for (size_t i = 0; i < p->count; i++) {
        if (p->places[i].partition == partition && kafka_string_equal(p->places[i].topic, topic)) return;
    }
    p->places = mem_grow(&p->client->mem, p->places, p->count, &p->capacity, sizeof(*p->places));
    p->places[p->count++] = (struct place){.topic = topic, .partition = partition, .committed = -1};
}

/* "T", or "T:0,2". Names of topics have no colon. */
static enum err plan_add_topic(struct plan *p, const char *text) {
    struct client *c = p->client;
    size_t size = strcspn(text, ":");
    const char *name = arena_strndup(p->arena, text, size);
    const struct kafka_metadata_response_topic *t;
    enum err e = client_topic(c, name, p->arena, &t);
    if (e != OK) return e;
    if (text[size] == '\0') {
        for (int32_t i = 0; i < t->partitions.count; i++) plan_add(p, t->name, t->partitions.items[i].partition_index);
        return OK;
    }
    for (const char *s = text + size; *s;) {
        s++;
        size_t n = strcspn(s, ",");
        uint64_t partition;
        const char *number = arena_strndup(p->arena, s, n);
        if (!options_u64(number, 0, INT32_MAX, &partition)) {
            return client_fail(c, ERR_INVALID, "expected TOPIC or TOPIC:PARTITION,... behind --topic, found '%s'",
                               text);
        }
        if (!client_find_partition(t, (int32_t)partition)) {
            return client_fail(c, ERR_NOT_FOUND, "topic '%s' has no partition %" PRIu64 ", only %d from 0 on", name,
                               partition, (int)t->partitions.count);
        }
        plan_add(p, t->name, (int32_t)partition);
        s += n;
    }
    return OK;
}

/* Asks for the offset of each place at one time; answers in items. */
static enum err offsets_at(struct plan *p, int64_t timestamp, struct client_offset *items) {
    for (size_t i = 0; i < p->count; i++) {
        items[i] = (struct client_offset){p->places[i].topic, p->places[i].partition, timestamp, -1, 0, false};
    }
    enum err e = client_list_offsets(p->client, items, p->count, 0);
    for (size_t i = 0; e == OK && i < p->count; i++) {
        if (items[i].code == 0) continue;
        char subject[GROUP_SUBJECT_SIZE];
        (void)snprintf(subject, sizeof(subject), "topic '%.*s' partition %d", (int)items[i].topic.size,
                       items[i].topic.data, (int)items[i].partition);
        e = client_fail_code(p->client, subject, items[i].code, (struct kafka_string){NULL, -1});
    }
    return e;
}

static enum err plan_make(struct plan *p) {
    struct client *c = p->client;
    const struct reset *r = p->reset;
    struct client_offset *items = ARENA_ARRAY(p->arena, struct client_offset, p->count + 1);
    struct committed *committed;
    size_t committed_count;
    enum err e = group_committed(c, r->group, p->arena, &committed, &committed_count);
    if (e == OK) e = offsets_at(p, CLIENT_EARLIEST, items);
    for (size_t i = 0; e == OK && i < p->count; i++) p->places[i].earliest = items[i].offset;
    if (e == OK) e = offsets_at(p, CLIENT_LATEST, items);
    for (size_t i = 0; e == OK && i < p->count; i++) p->places[i].latest = items[i].offset;
    int64_t at = r->how == RESET_DURATION ? env_wall_ms(c->env) - r->value : r->value;
    if (at < 0) at = 0;
    if (e == OK && (r->how == RESET_DATETIME || r->how == RESET_DURATION)) e = offsets_at(p, at, items);
    for (size_t i = 0; e == OK && i < p->count; i++) {
        struct place *x = &p->places[i];
        for (size_t k = 0; k < committed_count; k++) {
            if (committed[k].partition == x->partition && kafka_string_equal(committed[k].topic, x->topic))
                x->committed = committed[k].offset;
        }
        int64_t from = x->committed < 0 ? x->earliest : x->committed;
        switch (r->how) {
        case RESET_EARLIEST:
            x->wanted = x->earliest;
            break;
        case RESET_LATEST:
            x->wanted = x->latest;
            break;
        case RESET_OFFSET:
            x->wanted = r->value;
            break;
        case RESET_DATETIME:
        case RESET_DURATION:
            x->wanted = items[i].offset < 0 ? x->latest : items[i].offset;
            break;
        case RESET_SHIFT:
            if (__builtin_add_overflow(from, r->value, &x->wanted)) x->wanted = r->value < 0 ? x->earliest : x->latest;
            break;
        case RESET_NONE:
            UNREACHABLE();
        }
        /* Outside the log a consumer would begin wherever its auto.offset.reset sends it. */
        if (x->wanted < x->earliest) x->wanted = x->earliest;
        if (x->wanted > x->latest) x->wanted = x->latest;
    }
    return e;
}

static enum err plan_execute(struct plan *p) {
    struct client *c = p->client;
    struct committed *items = ARENA_ARRAY(p->arena, struct committed, p->count + 1);
    for (size_t i = 0; i < p->count; i++) {
        items[i] = (struct committed){p->places[i].topic, p->places[i].partition, p->places[i].wanted, 0};
    }
    enum err e = group_commit(c, p->reset->group, -1, "", items, p->count, p->arena);
    for (size_t i = 0; e == OK && i < p->count; i++) {
        if (items[i].code == 0) continue;
        char subject[2 * GROUP_SUBJECT_SIZE];
        (void)snprintf(subject, sizeof(subject), "group '%s', topic '%.*s' partition %d", p->reset->group,
                       (int)items[i].topic.size, items[i].topic.data, (int)items[i].partition);
        e = client_fail_code(c, subject, items[i].code, (struct kafka_string){NULL, -1});
    }
    return e;
}

static void plan_print(const struct plan *p, struct buf *out) {
    static const char *const headers[] = {"TOPIC", "PARTITION", "COMMITTED", "NEW"};
    struct table t;
    struct json json;
    json_init(&json, out);
    table_init(&t, &p->client->mem, headers, ARRAY_LEN(headers), 0xe);
    if (p->client->json) {
        json_open(&json, NULL, '{');
        json_text(&json, "group", p->reset->group);
        json_bool(&json, "executed", p->reset->execute);
        json_open(&json, "partitions", '[');
    }
    for (size_t i = 0; i < p->count; i++) {
        const struct place *x = &p->places[i];
        if (p->client->json) {
            json_open(&json, NULL, '{');
            json_string(&json, "topic", x->topic);
            json_number(&json, "partition", x->partition);
            if (x->committed < 0) {
                json_text(&json, "committed", NULL);
            } else {
                json_number(&json, "committed", x->committed);
            }
            json_number(&json, "new", x->wanted);
            json_close(&json, '}');
        } else {
            table_string(&t, x->topic);
            table_number(&t, x->partition);
            if (x->committed < 0) {
                table_text(&t, "-");
            } else {
                table_number(&t, x->committed);
            }
            table_number(&t, x->wanted);
        }
    }
    if (p->client->json) {
        json_close(&json, ']');
        json_close(&json, '}');
    } else {
        table_print(&t, out);
    }
    table_deinit(&t);
}

/* A group that is not there yet may be given offsets; one with members may not. */
static enum err group_must_be_empty(struct client *c, const char *group, struct arena *a) {
    struct kafka_describe_groups_response_group g;
    enum err e = group_describe_ask(c, group, a, &g);
    if (e != OK) return e == ERR_NOT_FOUND ? OK : e;
    if (g.members.count <= 0) return OK;
    return client_fail(c, ERR_BUSY,
                       "group '%s' has %d member%s (state %.*s): its offsets can be reset when all have left; stop its "
                       "consumers first",
                       group, (int)g.members.count, g.members.count == 1 ? "" : "s", (int)g.group_state.size,
                       g.group_state.data);
}

int group_reset(struct client *c, const struct reset *r, struct arena *a, struct buf *out) {
    struct plan p = {.client = c, .reset = r, .arena = a};
    enum err e = OK;
    for (size_t i = 0; e == OK && i < r->topic_count; i++) e = plan_add_topic(&p, r->topics[i]);
    if (e == OK) e = plan_make(&p);
    if (e == OK && r->execute) e = group_must_be_empty(c, r->group, a);
    if (e == OK && r->execute) e = plan_execute(&p);
    if (e == OK) plan_print(&p, out);
    mem_free(&c->mem, p.places);
    if (e != OK) return client_say(c);
    if (!r->execute) fprintf(stderr, "oxbow group: nothing was changed; with --execute it is\n");
    return EXIT_DONE;
}
