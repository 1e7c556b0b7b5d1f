/* What every client subcommand asks: metadata, the coordinator of a group, offsets by time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/client.h"

#define BACKOFF_BASE_NS (50 * NS_PER_MS)
#define BACKOFF_CAP_NS (1 * NS_PER_S)
#define NAME_SIZE 320u

/* --- Metadata. */

static void brokers_remember(struct client *c, const struct kafka_metadata_response *r) {
    if (r->brokers.count <= 0) return;
    size_t count = (size_t)r->brokers.count;
    mem_free(&c->mem, c->brokers);
    c->brokers = mem_zalloc(&c->mem, count * sizeof(*c->brokers));
    c->broker_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct kafka_metadata_response_broker *b = &r->brokers.items[i];
        struct client_broker *to = &c->brokers[c->broker_count];
        if (b->host.size <= 0 || (size_t)b->host.size >= sizeof(to->address.host) || b->port < 1 ||
            b->port > UINT16_MAX)
            continue;
        to->node_id = b->node_id;
        to->address.port = (uint16_t)b->port;
        memcpy(to->address.host, b->host.data, (size_t)b->host.size);
        to->address.host[b->host.size] = '\0';
        c->broker_count++;
    }
    c->controller_id = r->controller_id;
}

/* Brokers name partitions in any order. */
static int compare_partitions(const void *a, const void *b) {
    const struct kafka_metadata_response_partition *x = a, *y = b;
    return (x->partition_index > y->partition_index) - (x->partition_index < y->partition_index);
}

enum err client_metadata(struct client *c, const struct kafka_string *names, int32_t count, struct arena *a,
                         struct kafka_metadata_response *out) {
    struct client_conn *cc;
    enum err e = client_any(c, &cc);
    if (e != OK) return e;
    struct kafka_metadata_request q;
    kafka_metadata_request_init(&q);
    q.allow_auto_topic_creation = false;
    q.topics.count = count;
    if (count < 0 && client_version(cc, KAFKA_API_METADATA, CLIENT_ANY_VERSION) == 0) q.topics.count = 0; /* all */
    if (count > 0) q.topics.items = kafka_metadata_request_topic_new(a, (size_t)count);
    for (int32_t i = 0; i < count; i++) q.topics.items[i].name = names[i];
    e = client_call(cc, KAFKA_API_METADATA, CLIENT_ANY_VERSION, &q, a, out);
    if (e == ERR_CLOSED || e == ERR_IO) {
        /* It had broken without telling: once more, on a new connection. */
        e = client_any(c, &cc);
        if (e == OK) e = client_call(cc, KAFKA_API_METADATA, CLIENT_ANY_VERSION, &q, a, out);
    }
    if (e != OK) return e;
    if (out->error_code != 0) {
        return client_fail_code(c, client_conn_name(cc), out->error_code, (struct kafka_string){NULL, -1});
    }
    brokers_remember(c, out);
    for (int32_t i = 0; i < out->topics.count; i++) {
        struct kafka_metadata_response_partition_array *p = &out->topics.items[i].partitions;
        if (p->count > 1) qsort(p->items, (size_t)p->count, sizeof(*p->items), compare_partitions);
    }
    return OK;
}

const struct kafka_metadata_response_topic *client_find_topic(const struct kafka_metadata_response *m,
                                                              struct kafka_string name) {
    for (int32_t i = 0; i < m->topics.count; i++) {
        if (kafka_string_equal(m->topics.items[i].name, name)) return &m->topics.items[i];
    }
    return NULL;
}

const struct kafka_metadata_response_partition *client_find_partition(const struct kafka_metadata_response_topic *t,
                                                                      int32_t index) {
    if (!t) return NULL;
    /* In order and complete, as a rule: a topic may have a hundred thousand. */
    if (index >= 0 && index < t->partitions.count && t->partitions.items[index].partition_index == index)
        return &t->partitions.items[index];
    for (int32_t i = 0; i < t->partitions.count; i++) {
        if (t->partitions.items[i].partition_index == index) return &t->partitions.items[i];
    }
    return NULL;
}

enum err client_topic(struct client *c, const char *name, struct arena *a,
                      const struct kafka_metadata_response_topic **out) {
    uint64_t deadline_ns = client_deadline_ns(c);
    char subject[NAME_SIZE];
    struct kafka_string wanted = kafka_string_of(name);
    (void)snprintf(subject, sizeof(subject), "topic '%s'", name);
    for (unsigned attempt = 0;; attempt++) {
        struct kafka_metadata_response r;
        enum err e = client_metadata(c, &wanted, 1, a, &r);
        if (e != OK) return e;
        const struct kafka_metadata_response_topic *t = client_find_topic(&r, wanted);
        int16_t code = t ? t->error_code : KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
        for (int32_t i = 0; t && code == 0 && i < t->partitions.count; i++) {
            if (t->partitions.items[i].leader_id < 0) code = KAFKA_LEADER_NOT_AVAILABLE;
        }
        *out = t;
        if (code == 0) return OK;
        if (code != KAFKA_LEADER_NOT_AVAILABLE || env_now_ns(c->env) >= deadline_ns || c->stopping) {
            return client_fail_code(c, subject, code, (struct kafka_string){NULL, -1});
        }
        env_backoff(c->env, attempt, BACKOFF_BASE_NS, BACKOFF_CAP_NS);
    }
}

enum err client_controller(struct client *c, struct client_conn **out) {
    struct arena a;
    struct kafka_metadata_response r;
    struct kafka_string none = {NULL, -1};
    arena_init(&a, &c->mem);
    enum err e = client_metadata(c, &none, 0, &a, &r);
    arena_deinit(&a);
    if (e != OK) return e;
    return c->controller_id >= 0 ? client_node(c, c->controller_id, out) : client_any(c, out);
}

/* --- Coordinators. */

static enum err coordinator_ask(struct client *c, struct kafka_string group, struct arena *a, int16_t *code,
                                struct client_broker *found) {
    struct client_conn *cc;
    enum err e = client_any(c, &cc);
    if (e != OK) return e;
    struct kafka_find_coordinator_request q;
    struct kafka_find_coordinator_response r;
    kafka_find_coordinator_request_init(&q);
    bool many = client_version(cc, KAFKA_API_FIND_COORDINATOR, CLIENT_ANY_VERSION) >= 4;
    if (many) {
        q.coordinator_keys.items = &group;
        q.coordinator_keys.count = 1;
    } else {
        q.key = group;
    }
    e = client_call(cc, KAFKA_API_FIND_COORDINATOR, CLIENT_ANY_VERSION, &q, a, &r);
    if (e != OK) return e;
    struct kafka_string host = r.host;
    int32_t port = r.port;
    found->node_id = r.node_id;
    *code = r.error_code;
    if (many) {
        if (r.coordinators.count != 1) {
            return client_fail(c, ERR_PROTOCOL, "the broker at %s names %d coordinators of one group",
                               client_conn_name(cc), (int)r.coordinators.count);
        }
        host = r.coordinators.items[0].host;
        port = r.coordinators.items[0].port;
        found->node_id = r.coordinators.items[0].node_id;
        *code = r.coordinators.items[0].error_code;
    }
    if (*code != 0) return OK;
    if (host.size <= 0 || (size_t)host.size >= sizeof(found->address.host) || port < 1 || port > UINT16_MAX) {
        return client_fail(c, ERR_PROTOCOL, "the broker at %s gives no valid address of the group's coordinator",
                           client_conn_name(cc));
    }
    memcpy(found->address.host, host.data, (size_t)host.size);
    found->address.host[host.size] = '\0';
    found->address.port = (uint16_t)port;
    return OK;
}

/* The coordinator is known by its node id like any broker. */
static void broker_add(struct client *c, const struct client_broker *b) {
    for (size_t i = 0; i < c->broker_count; i++) {
        if (c->brokers[i].node_id != b->node_id) continue;
        c->brokers[i] = *b;
        return;
    }
    c->brokers = mem_realloc(&c->mem, c->brokers, (c->broker_count + 1) * sizeof(*c->brokers));
    c->brokers[c->broker_count++] = *b;
}

enum err client_coordinator(struct client *c, struct kafka_string group, struct client_conn **out) {
    uint64_t deadline_ns = client_deadline_ns(c);
    char subject[NAME_SIZE];
    (void)snprintf(subject, sizeof(subject), "group '%.*s'", (int)group.size, group.data);
    for (unsigned attempt = 0;; attempt++) {
        struct arena a;
        struct client_broker found = {0};
        int16_t code = 0;
        arena_init(&a, &c->mem);
        enum err e = coordinator_ask(c, group, &a, &code, &found);
        arena_deinit(&a);
        if (e != OK) return e;
        if (code == 0) {
            broker_add(c, &found);
            return client_node(c, found.node_id, out);
        }
        if (!client_code_retriable(code) || env_now_ns(c->env) >= deadline_ns || c->stopping) {
            return client_fail_code(c, subject, code, (struct kafka_string){NULL, -1});
        }
        env_backoff(c->env, attempt, BACKOFF_BASE_NS, BACKOFF_CAP_NS);
    }
}

/* --- Offsets by time. */

/* Distinct names of what is not done; names has room for all. */
static int32_t names_pending(const struct client_offset *items, size_t count, struct kafka_string *names) {
    int32_t n = 0;
    for (size_t i = 0; i < count; i++) {
        bool known = items[i].done;
        for (int32_t k = n - 1; k >= 0 && !known; k--) known = kafka_string_equal(names[k], items[i].topic);
        if (!known) names[n++] = items[i].topic;
    }
    return n;
}

/* Asks one leader about those of its partitions that are not done: those with leaders[i] == node. */
static enum err offsets_ask(struct client *c, int32_t node, const int32_t *leaders, struct client_offset *items,
                            size_t count, int8_t isolation, struct arena *a) {
    struct client_conn *cc;
    enum err e = client_node(c, node, &cc);
    if (e != OK) return e;
    struct kafka_list_offsets_request q;
    struct kafka_list_offsets_response r;
    kafka_list_offsets_request_init(&q);
    q.replica_id = -1;
    q.isolation_level = isolation;
    q.timeout_ms = (int32_t)(c->timeout_ns / NS_PER_MS);
    q.topics.items = kafka_list_offsets_request_topic_new(a, count);
    q.topics.count = 0;
    for (size_t i = 0; i < count; i++) {
        if (leaders[i] != node || items[i].done) continue;
        struct kafka_list_offsets_request_topic *t = q.topics.count ? &q.topics.items[q.topics.count - 1] : NULL;
        if (!t || !kafka_string_equal(t->name, items[i].topic)) {
            t = &q.topics.items[q.topics.count++];
            t->name = items[i].topic;
            t->partitions.items = kafka_list_offsets_request_partition_new(a, count);
            t->partitions.count = 0;
        }
        struct kafka_list_offsets_request_partition *p = &t->partitions.items[t->partitions.count++];
        p->partition_index = items[i].partition;
        p->timestamp = items[i].timestamp;
    }
    e = client_call(cc, KAFKA_API_LIST_OFFSETS, CLIENT_ANY_VERSION, &q, a, &r);
    if (e != OK) return e;
    size_t next = 0; /* brokers answer in the order of the request, as a rule */
    for (int32_t k = 0; k < r.topics.count; k++) {
        const struct kafka_list_offsets_response_topic *t = &r.topics.items[k];
        for (int32_t m = 0; m < t->partitions.count; m++) {
            const struct kafka_list_offsets_response_partition *p = &t->partitions.items[m];
            for (size_t n = 0; n < count; n++) {
                size_t i = (next + n) % count;
                if (items[i].partition != p->partition_index || leaders[i] != node || items[i].done) continue;
                if (!kafka_string_equal(items[i].topic, t->name)) continue;
                items[i].code = p->error_code;
                items[i].offset = p->offset;
                items[i].done = !client_code_retriable(p->error_code);
                next = i + 1;
                break;
            }
        }
    }
    return OK;
}

/* One round: metadata, then each leader. */
static enum err offsets_round(struct client *c, struct client_offset *items, size_t count, int8_t isolation,
                              struct arena *a) {
    struct kafka_string *names = arena_alloc(a, count * sizeof(*names));
    int32_t *leaders = arena_alloc(a, count * sizeof(*leaders));
    struct kafka_metadata_response r;
    enum err e = client_metadata(c, names, names_pending(items, count, names), a, &r);
    if (e != OK) return e;
    for (size_t i = 0; i < count; i++) {
        leaders[i] = -1;
        if (items[i].done) continue;
        const struct kafka_metadata_response_topic *t = client_find_topic(&r, items[i].topic);
        const struct kafka_metadata_response_partition *p = client_find_partition(t, items[i].partition);
        items[i].code = t && t->error_code != 0 ? t->error_code
                        : !p                    ? KAFKA_UNKNOWN_TOPIC_OR_PARTITION
                        : p->leader_id < 0      ? KAFKA_LEADER_NOT_AVAILABLE
                                                : 0;
        items[i].done = items[i].code != 0 && items[i].code != KAFKA_LEADER_NOT_AVAILABLE;
        if (items[i].code == 0) leaders[i] = p->leader_id;
    }
    for (size_t i = 0; i < count; i++) {
        int32_t node = leaders[i];
        if (node < 0 || items[i].done) continue;
        e = offsets_ask(c, node, leaders, items, count, isolation, a);
        if (e != OK) return e;
        for (size_t k = i; k < count; k++) {
            if (leaders[k] == node) leaders[k] = -1;
        }
    }
    return OK;
}

enum err client_list_offsets(struct client *c, struct client_offset *items, size_t count, int8_t isolation) {
    uint64_t deadline_ns = client_deadline_ns(c);
    for (size_t i = 0; i < count; i++) items[i].done = false;
    if (count == 0) return OK;
    for (unsigned attempt = 0;; attempt++) {
        struct arena a;
        arena_init(&a, &c->mem);
        enum err e = offsets_round(c, items, count, isolation, &a);
        arena_deinit(&a);
        if (e != OK) return e;
        bool all = true;
        for (size_t i = 0; i < count; i++) all = all && items[i].done;
        if (all || env_now_ns(c->env) >= deadline_ns || c->stopping) return OK;
        env_backoff(c->env, attempt, BACKOFF_BASE_NS, BACKOFF_CAP_NS);
    }
}
