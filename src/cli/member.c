#include "cli/member.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/consumer_protocol.h"

#define SESSION_MS 30000
#define REBALANCE_MS 60000
#define BEAT_NS (3 * NS_PER_S)
#define COMMIT_NS NS_PER_S

void member_init(struct member *m, struct client *c, const char *group, const char *topic) {
    *m = (struct member){.client = c, .group = group, .topic = topic, .generation = -1};
}

void member_deinit(struct member *m) {
    mem_free(&m->client->mem, m->partitions);
    mem_free(&m->client->mem, m->committed);
}

static enum err fail_code(struct member *m, int16_t code) {
    char subject[GROUP_SUBJECT_SIZE];
    group_subject(m->group, subject);
    return client_fail_code(m->client, subject, code, (struct kafka_string){NULL, -1});
}

/* True for codes after which one joins again; an id that the group does not know any more is given up. */
static bool code_rejoins(struct member *m, int16_t code) {
    switch (code) {
    case KAFKA_UNKNOWN_MEMBER_ID:
        m->id[0] = '\0';
        return true;
    case KAFKA_ILLEGAL_GENERATION:
    case KAFKA_REBALANCE_IN_PROGRESS:
    case KAFKA_NOT_COORDINATOR:
    case KAFKA_COORDINATOR_LOAD_IN_PROGRESS:
    case KAFKA_COORDINATOR_NOT_AVAILABLE:
        return true;
    default:
        return false;
    }
}

/* --- What a leader does. */

struct candidate {
    struct kafka_string id;
    struct kafka_string_array topics;
    struct assignment assignment; /* has room for all its topics */
};

static int compare_candidates(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    size_t n = (size_t)(x->id.size < y->id.size ? x->id.size : y->id.size);
    int d = memcmp(x->id.data, y->id.data, n);
    return d ? d : (x->id.size > y->id.size) - (x->id.size < y->id.size);
}

static bool candidate_wants(const struct candidate *x, struct kafka_string topic) {
    for (int32_t i = 0; i < x->topics.count; i++) {
        if (kafka_string_equal(x->topics.items[i], topic)) return true;
    }
    return false;
}

/* The range assignor: each topic's partitions in runs; the first members get one more where they do not divide. */
static void topic_assign(struct candidate *all, int32_t count, const struct kafka_metadata_response_topic *t,
                         struct arena *a) {
    int32_t wanting = 0, at = 0, seen = 0;
    for (int32_t i = 0; i < count; i++) wanting += candidate_wants(&all[i], t->name);
    for (int32_t i = 0; i < count; i++) {
        if (!candidate_wants(&all[i], t->name)) continue;
        int32_t share = t->partitions.count / wanting + (seen++ < t->partitions.count % wanting);
        if (share == 0) continue;
        struct assigned_topic *to = &all[i].assignment.topics[all[i].assignment.count++];
        to->topic = t->name;
        to->partitions.items = ARENA_ARRAY(a, int32_t, share);
        to->partitions.count = share;
        for (int32_t k = 0; k < share; k++) to->partitions.items[k] = at++;
    }
}

static enum err lead(struct member *m, const struct kafka_join_group_response *r, struct arena *a,
                     struct kafka_sync_group_request *q) {
    int32_t count = r->members.count;
    struct candidate *all = ARENA_ARRAY(a, struct candidate, count + 1);
    int32_t name_count = 0, name_max = 0;
    for (int32_t i = 0; i < count; i++) {
        const struct kafka_bytes *b = &r->members.items[i].metadata;
        all[i].id = r->members.items[i].member_id;
        if (!subscription_decode(b->data, b->size > 0 ? (size_t)b->size : 0, a, &all[i].topics))
            all[i].topics.count = 0;
        all[i].assignment.topics = ARENA_ARRAY(a, struct assigned_topic, all[i].topics.count + 1);
        name_max += all[i].topics.count;
    }
    struct kafka_string *names = ARENA_ARRAY(a, struct kafka_string, name_max + 1);
    for (int32_t i = 0; i < count; i++) {
        for (int32_t k = 0; k < all[i].topics.count; k++) {
            bool known = false;
            for (int32_t n = 0; n < name_count && !known; n++)
                known = kafka_string_equal(names[n], all[i].topics.items[k]);
            if (!known) names[name_count++] = all[i].topics.items[k];
        }
    }
    struct kafka_metadata_response meta;
    enum err e = client_metadata(m->client, names, name_count, a, &meta);
    if (e != OK) return e;
    qsort(all, (size_t)count, sizeof(*all), compare_candidates);
    for (int32_t i = 0; i < meta.topics.count; i++) topic_assign(all, count, &meta.topics.items[i], a);
    q->assignments.items = kafka_sync_group_request_assignment_new(a, (size_t)count);
    q->assignments.count = count;
    for (int32_t i = 0; i < count; i++) {
        struct buf bytes;
        buf_init(&bytes, &m->client->mem);
        assignment_encode(&all[i].assignment, &bytes);
        q->assignments.items[i].member_id = all[i].id;
        q->assignments.items[i].assignment =
            (struct kafka_bytes){arena_copy(a, bytes.data, bytes.size), (int32_t)bytes.size};
        buf_deinit(&bytes);
    }
    return OK;
}

/* --- Joining. */

/* *code: Kafka's, after OK. */
static enum err join_once(struct member *m, struct arena *a, struct kafka_join_group_response *r) {
    struct client_conn *cc;
    struct kafka_join_group_request q;
    struct kafka_string topic = kafka_string_of(m->topic);
    enum err e = client_coordinator(m->client, kafka_string_of(m->group), &cc);
    if (e != OK) return e;
    struct buf subscription;
    buf_init(&subscription, &m->client->mem);
    subscription_encode(&topic, 1, &subscription);
    kafka_join_group_request_init(&q);
    q.group_id = kafka_string_of(m->group);
    q.session_timeout_ms = SESSION_MS;
    q.rebalance_timeout_ms = REBALANCE_MS;
    q.member_id = kafka_string_of(m->id);
    q.group_instance_id = (struct kafka_string){NULL, -1};
    q.protocol_type = kafka_string_of("consumer");
    q.protocols.items = kafka_join_group_request_protocol_new(a, 1);
    q.protocols.count = 1;
    q.protocols.items[0].name = kafka_string_of("range");
    q.protocols.items[0].metadata = (struct kafka_bytes){subscription.data, (int32_t)subscription.size};
    e = client_send(cc, KAFKA_API_JOIN_GROUP, CLIENT_ANY_VERSION, &q);
    buf_deinit(&subscription);
    if (e == OK) e = client_await(cc, (uint64_t)REBALANCE_MS * NS_PER_MS, a, r);
    if (e != OK) return e;
    if ((r->error_code == 0 || r->error_code == KAFKA_MEMBER_ID_REQUIRED) && r->member_id.size > 0) {
        if ((size_t)r->member_id.size >= sizeof(m->id))
            return client_fail(m->client, ERR_PROTOCOL, "the member id is too long");
        memcpy(m->id, r->member_id.data, (size_t)r->member_id.size);
        m->id[r->member_id.size] = '\0';
    }
    return OK;
}

static enum err sync_once(struct member *m, const struct kafka_join_group_response *joined, struct arena *a,
                          struct kafka_sync_group_response *r) {
    struct kafka_sync_group_request q;
    struct client_conn *cc;
    kafka_sync_group_request_init(&q);
    q.group_id = kafka_string_of(m->group);
    q.generation_id = joined->generation_id;
    q.member_id = kafka_string_of(m->id);
    q.group_instance_id = (struct kafka_string){NULL, -1};
    q.protocol_type = kafka_string_of("consumer");
    q.protocol_name = kafka_string_of("range");
    enum err e = OK;
    bool leads = kafka_string_equal(joined->leader, q.member_id) && !joined->skip_assignment;
    if (leads) e = lead(m, joined, a, &q);
    if (e == OK) e = client_coordinator(m->client, q.group_id, &cc);
    if (e == OK) e = client_send(cc, KAFKA_API_SYNC_GROUP, CLIENT_ANY_VERSION, &q);
    return e == OK ? client_await(cc, (uint64_t)REBALANCE_MS * NS_PER_MS, a, r) : e;
}

static enum err assignment_take(struct member *m, const struct kafka_sync_group_response *r, struct arena *a) {
    struct assignment got;
    struct committed *items;
    size_t count;
    const struct kafka_bytes *b = &r->assignment;
    if (!assignment_decode(b->data, b->size > 0 ? (size_t)b->size : 0, a, &got)) {
        return client_fail(m->client, ERR_PROTOCOL, "group '%s': the leader's assignment cannot be read", m->group);
    }
    member_deinit(m);
    m->partitions = NULL;
    m->committed = NULL;
    m->partition_count = 0;
    for (int32_t i = 0; i < got.count; i++) {
        if (!kafka_string_equal(got.topics[i].topic, kafka_string_of(m->topic))) continue;
        size_t more = (size_t)got.topics[i].partitions.count;
        m->partitions = mem_realloc(&m->client->mem, m->partitions, (m->partition_count + more + 1) * sizeof(int32_t));
        memcpy(m->partitions + m->partition_count, got.topics[i].partitions.items, more * sizeof(int32_t));
        m->partition_count += more;
    }
    m->committed = mem_alloc(&m->client->mem, (m->partition_count + 1) * sizeof(int64_t));
    for (size_t i = 0; i < m->partition_count; i++) m->committed[i] = -1;
    enum err e = group_committed(m->client, m->group, a, &items, &count);
    for (size_t k = 0; e == OK && k < count; k++) {
        if (!kafka_string_equal(items[k].topic, kafka_string_of(m->topic))) continue;
        for (size_t i = 0; i < m->partition_count; i++) {
            if (m->partitions[i] == items[k].partition) m->committed[i] = items[k].offset;
        }
    }
    return e;
}

enum err member_join(struct member *m) {
    struct client *c = m->client;
    uint64_t deadline_ns = client_deadline_ns(c) + (uint64_t)REBALANCE_MS * NS_PER_MS;
    for (unsigned attempt = 0; !c->stopping; attempt++) {
        struct arena a;
        struct kafka_join_group_response joined;
        struct kafka_sync_group_response synced;
        arena_init(&a, &c->mem);
        enum err e = join_once(m, &a, &joined);
        int16_t code = e == OK ? joined.error_code : 0;
        if (e == OK && code == 0) {
            m->generation = joined.generation_id;
            e = sync_once(m, &joined, &a, &synced);
            code = e == OK ? synced.error_code : 0;
            if (e == OK && code == 0) e = assignment_take(m, &synced, &a);
        }
        arena_deinit(&a);
        if (e == OK && code == 0) {
            m->rejoin = false;
            m->beat_due_ns = env_now_ns(c->env) + BEAT_NS;
            m->commit_due_ns = env_now_ns(c->env) + COMMIT_NS;
            return OK;
        }
        if (e == OK && code == KAFKA_MEMBER_ID_REQUIRED) continue;
        if (e == OK && !code_rejoins(m, code)) return fail_code(m, code);
        if (e == OK) (void)fail_code(m, code);
        if (env_now_ns(c->env) >= deadline_ns || e == ERR_UNSUPPORTED_VERSION) return e == OK ? ERR_TIMEOUT : e;
        env_backoff(c->env, attempt, 50 * NS_PER_MS, NS_PER_S);
    }
    return OK;
}

/* --- Staying. */

enum err member_beat(struct member *m) {
    struct client *c = m->client;
    if (env_now_ns(c->env) < m->beat_due_ns || m->rejoin) return OK;
    m->beat_due_ns = env_now_ns(c->env) + BEAT_NS;
    struct client_conn *cc;
    struct arena a;
    struct kafka_heartbeat_request q;
    struct kafka_heartbeat_response r;
    arena_init(&a, &c->mem);
    kafka_heartbeat_request_init(&q);
    q.group_id = kafka_string_of(m->group);
    q.generation_id = m->generation;
    q.member_id = kafka_string_of(m->id);
    q.group_instance_id = (struct kafka_string){NULL, -1};
    enum err e = client_coordinator(c, q.group_id, &cc);
    if (e == OK) e = client_call(cc, KAFKA_API_HEARTBEAT, CLIENT_ANY_VERSION, &q, &a, &r);
    arena_deinit(&a);
    /* A coordinator that cannot be reached now is met again when joining. */
    if (e != OK) m->rejoin = true;
    if (e == OK && r.error_code != 0) {
        m->rejoin = code_rejoins(m, r.error_code);
        if (!m->rejoin) return fail_code(m, r.error_code);
    }
    return OK;
}

enum err member_commit(struct member *m, const struct consumer *x, bool now) {
    struct client *c = m->client;
    if (!now && env_now_ns(c->env) < m->commit_due_ns) return OK;
    m->commit_due_ns = env_now_ns(c->env) + COMMIT_NS;
    struct arena a;
    arena_init(&a, &c->mem);
    struct committed *items = ARENA_ARRAY(&a, struct committed, x->count + 1);
    size_t count = 0;
    for (size_t i = 0; i < x->count; i++) {
        ASSERT(x->places[i].index == m->partitions[i]);
        if (x->places[i].offset == m->committed[i]) continue;
        items[count++] = (struct committed){kafka_string_of(m->topic), x->places[i].index, x->places[i].offset, 0};
    }
    enum err e = count > 0 ? group_commit(c, m->group, m->generation, m->id, items, count, &a) : OK;
    int16_t code = 0;
    for (size_t k = 0; e == OK && k < count; k++) {
        if (items[k].code != 0) code = items[k].code;
        for (size_t i = 0; i < x->count && items[k].code == 0; i++) {
            if (m->partitions[i] == items[k].partition) m->committed[i] = items[k].offset;
        }
    }
    arena_deinit(&a);
    if (e != OK) m->rejoin = true;
    if (e != OK || code == 0) return OK;
    (void)fail_code(m, code);
    if (code_rejoins(m, code)) {
        m->rejoin = true;
        return OK;
    }
    return ERR_INVALID_REQUEST;
}

void member_leave(struct member *m) {
    struct client *c = m->client;
    struct client_conn *cc;
    struct arena a;
    struct kafka_leave_group_request q;
    struct kafka_leave_group_response r;
    if (m->id[0] == '\0') return;
    arena_init(&a, &c->mem);
    kafka_leave_group_request_init(&q);
    q.group_id = kafka_string_of(m->group);
    enum err e = client_coordinator(c, q.group_id, &cc);
    if (e == OK && client_version(cc, KAFKA_API_LEAVE_GROUP, CLIENT_ANY_VERSION) >= 3) {
        q.members.items = kafka_leave_group_request_member_new(&a, 1);
        q.members.count = 1;
        q.members.items[0].member_id = kafka_string_of(m->id);
        q.members.items[0].group_instance_id = (struct kafka_string){NULL, -1};
    } else {
        q.member_id = kafka_string_of(m->id);
    }
    if (e == OK) e = client_call(cc, KAFKA_API_LEAVE_GROUP, CLIENT_ANY_VERSION, &q, &a, &r);
    (void)e; /* else its session ends by itself */
    arena_deinit(&a);
}
