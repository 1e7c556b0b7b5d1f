/* Workload "group": members of a classic consumer group share partitions while they come, leave, die and are cut off, and
 * the broker is killed, moved and stopped. They read nothing: what they work off is counted, and committed.
 *
 * Promises:
 *  - a generation has one leader and one set of members, whoever is told of it and whenever; its number is never used for
 *    another;
 *  - in a generation a partition is given to one member;
 *  - what a member is told never goes back: its generations rise;
 *  - nobody commits for a generation after a member of a later one has its assignment;
 *  - a commit that was acknowledged is found, by every later owner; nothing is found that nobody committed;
 *  - when nothing is broken any more the group gets to work within a bound. */
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "kafka/error.h"
#include "sim/broker_node.h"
#include "sim/history.h"
#include "sim/net.h"
#include "sim/workloads.h"

#define PARTITIONS 5
#define MEMBERS_MAX 4u
#define GENERATIONS_MAX 4000
#define TOPIC "t"
#define GROUP "g"
#define PATIENCE_NS (40 * NS_PER_S)
#define MEMBER_ID_MAX 128

struct generation {
    bool known, set_known;
    uint64_t leader; /* hashes of member ids */
    uint64_t set[MEMBERS_MAX * 4];
    size_t set_size;
    uint64_t told[MEMBERS_MAX * 4]; /* who was told of it */
    size_t told_count;
    uint64_t owner[PARTITIONS]; /* 0: nobody was told */
};

struct group_test {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_broker broker;
    struct sim_node *members[MEMBERS_MAX];
    unsigned member_count;
    bool load_over, quiet, audited;
    struct generation generations[GENERATIONS_MAX];
    int32_t newest_assigned; /* the newest generation of which a member has its assignment */
    int64_t asked[PARTITIONS], acked[PARTITIONS];
    uint64_t worked_after_quiet;
};

struct membership {
    struct group_test *test;
    struct sim_client client;
    struct arena arena; /* of one request */
    char id[MEMBER_ID_MAX];
    int32_t generation, highest_seen;
    bool owns[PARTITIONS];
    int64_t position[PARTITIONS];
};

static uint64_t id_hash(struct kafka_string s) {
    return hash_bytes(s.data, (size_t)s.size) | 1;
}

static bool contains(const uint64_t *items, size_t count, uint64_t v) {
    for (size_t i = 0; i < count; i++) {
        if (items[i] == v) return true;
    }
    return false;
}

static uint64_t subject_of_generation(int32_t generation) {
    return sim_subject("generation", generation);
}

static uint64_t subject_of_partition(int32_t partition) {
    return sim_subject("partition", partition);
}

/* --- What members are told, held against what others were told. */

static struct generation *generation_of(struct group_test *t, int32_t number) {
    if (number < 0 || number >= GENERATIONS_MAX) {
        sim_fail(t->world, "generation %d is out of all proportion", number);
        return NULL;
    }
    return &t->generations[number];
}

static bool same_set(const struct generation *g, const struct kafka_join_group_response *r) {
    if (g->set_size != (size_t)r->members.count) return false;
    for (int32_t i = 0; i < r->members.count; i++) {
        if (!contains(g->set, g->set_size, id_hash(r->members.items[i].member_id))) return false;
    }
    return true;
}

static void note_set(struct group_test *t, struct generation *g, const struct kafka_join_group_response *r) {
    if (g->set_known) {
        if (!same_set(g, r))
            sim_fail_about(t->world, subject_of_generation(r->generation_id), "generation %d has two sets of members",
                           r->generation_id);
        return;
    }
    g->set_known = true;
    for (int32_t i = 0; i < r->members.count && g->set_size < ARRAY_LEN(g->set); i++)
        g->set[g->set_size++] = id_hash(r->members.items[i].member_id);
    for (size_t i = 0; i < g->told_count; i++) {
        if (!contains(g->set, g->set_size, g->told[i]))
            sim_fail_about(t->world, subject_of_generation(r->generation_id),
                           "generation %d was told to one who is not a member of it", r->generation_id);
    }
}

static void note_join(struct membership *m, const struct kafka_join_group_response *r) {
    struct group_test *t = m->test;
    struct generation *g = generation_of(t, r->generation_id);
    if (!g) return;
    uint64_t me = id_hash(r->member_id), leader = id_hash(r->leader);
    sim_note(t->world, t->world->stepping, subject_of_generation(r->generation_id),
             "%.*s is told generation %d, led by %.*s, of %d members (0: only the leader is told)", r->member_id.size,
             r->member_id.data, r->generation_id, r->leader.size, r->leader.data, r->members.count);
    if (r->generation_id < m->highest_seen)
        sim_fail(t->world, "a member was told generation %d after %d", r->generation_id, m->highest_seen);
    m->highest_seen = r->generation_id;
    if (g->known && g->leader != leader)
        sim_fail_about(t->world, subject_of_generation(r->generation_id), "generation %d has two leaders",
                       r->generation_id);
    g->known = true;
    g->leader = leader;
    if (g->set_known && !contains(g->set, g->set_size, me))
        sim_fail_about(t->world, subject_of_generation(r->generation_id),
                       "generation %d was told to one who is not a member of it", r->generation_id);
    if (!contains(g->told, g->told_count, me) && g->told_count < ARRAY_LEN(g->told)) g->told[g->told_count++] = me;
    if (me == leader) note_set(t, g, r);
    t->run->ops++;
}

static void note_assignment(struct membership *m, struct kafka_bytes assignment) {
    struct group_test *t = m->test;
    struct generation *g = generation_of(t, m->generation);
    uint64_t me = id_hash(kafka_string_of(m->id));
    if (!g) return;
    memset(m->owns, 0, sizeof(m->owns));
    sim_note(t->world, t->world->stepping, SIM_SUBJECT_ALL, "%s is given %d partitions in generation %d", m->id,
             assignment.size, m->generation);
    for (int32_t i = 0; i < assignment.size; i++) {
        unsigned p = assignment.data[i];
        sim_note(t->world, t->world->stepping, subject_of_generation(m->generation), "%s is given partition %u in it",
                 m->id, p);
        ASSERT(p < PARTITIONS);
        if (g->owner[p] != 0 && g->owner[p] != me)
            sim_fail_about(t->world, subject_of_generation(m->generation),
                           "in generation %d partition %u is given to two members", m->generation, p);
        g->owner[p] = me;
        m->owns[p] = true;
    }
    if (m->generation > t->newest_assigned) t->newest_assigned = m->generation;
    t->run->ops++;
}

/* --- Requests. */

static enum err ask(struct membership *m, int16_t api, int16_t version, const void *q, void *r) {
    arena_reset(&m->arena);
    enum err e = sim_client_call(&m->client, api, version, q, PATIENCE_NS, &m->arena, r);
    if (e == ERR_PROTOCOL) sim_fail(m->test->world, "an answer that is not one");
    return e;
}

/* Who is not known begins anew. False: connect again. */
static bool join(struct membership *m, struct kafka_join_group_response *r) {
    for (unsigned attempt = 0; attempt < 3; attempt++) {
        struct kafka_join_group_request_protocol p = {.name = kafka_string_of("range"),
                                                      .metadata = {(const uint8_t *)"m", 1}};
        struct kafka_join_group_request q;
        kafka_join_group_request_init(&q);
        q.group_id = kafka_string_of(GROUP);
        q.session_timeout_ms = 8000;
        q.rebalance_timeout_ms = 12000;
        q.member_id = kafka_string_of(m->id);
        q.protocol_type = kafka_string_of("consumer");
        q.protocols.items = &p;
        q.protocols.count = 1;
        if (ask(m, KAFKA_API_JOIN_GROUP, 5, &q, r) != OK) return false;
        if (r->error_code == KAFKA_MEMBER_ID_REQUIRED || r->error_code == 0) {
            ASSERT(r->member_id.size < MEMBER_ID_MAX);
            memcpy(m->id, r->member_id.data, (size_t)r->member_id.size);
            m->id[r->member_id.size] = '\0';
        }
        if (r->error_code == 0) {
            m->generation = r->generation_id;
            note_join(m, r);
            return true;
        }
        if (r->error_code == KAFKA_UNKNOWN_MEMBER_ID) m->id[0] = '\0';
        if (r->error_code != KAFKA_MEMBER_ID_REQUIRED && r->error_code != KAFKA_UNKNOWN_MEMBER_ID) {
            fiber_sleep_ns(200 * NS_PER_MS);
            return false;
        }
    }
    return false;
}

/* Round robin, another way round in each generation. */
static void assign(struct membership *m, const struct kafka_join_group_response *r,
                   struct kafka_sync_group_request *q) {
    size_t n = (size_t)r->members.count;
    struct kafka_sync_group_request_assignment *items =
        kafka_new(&kafka_sync_group_request_assignment_type, &m->arena, n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *bytes = arena_alloc(&m->arena, PARTITIONS);
        int32_t count = 0;
        for (unsigned p = 0; p < PARTITIONS; p++) {
            if ((p + (unsigned)r->generation_id) % n == i) bytes[count++] = (uint8_t)p;
        }
        items[i].member_id = r->members.items[i].member_id;
        items[i].assignment = (struct kafka_bytes){bytes, count};
    }
    q->assignments.items = items;
    q->assignments.count = (int32_t)n;
}

static bool sync_group(struct membership *m, const struct kafka_join_group_response *joined) {
    struct kafka_sync_group_request q;
    struct kafka_sync_group_response r;
    kafka_sync_group_request_init(&q);
    q.group_id = kafka_string_of(GROUP);
    q.generation_id = m->generation;
    q.member_id = kafka_string_of(m->id);
    if (kafka_string_equal(joined->leader, joined->member_id)) assign(m, joined, &q);
    /* Without a reset of the arena: the request's strings are of the answer to the join. */
    enum err e = sim_client_call(&m->client, KAFKA_API_SYNC_GROUP, 3, &q, PATIENCE_NS, &m->arena, &r);
    if (e != OK || r.error_code != 0) return false;
    note_assignment(m, r.assignment);
    return true;
}

static bool find_positions(struct membership *m) {
    struct group_test *t = m->test;
    int32_t indexes[PARTITIONS];
    int64_t acked[PARTITIONS];
    for (int32_t i = 0; i < PARTITIONS; i++) {
        indexes[i] = i;
        acked[i] = t->acked[i];
    }
    struct kafka_offset_fetch_request_topic topic;
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response r;
    kafka_offset_fetch_request_topic_init(&topic);
    kafka_offset_fetch_request_init(&q);
    topic.name = kafka_string_of(TOPIC);
    topic.partition_indexes.items = indexes;
    topic.partition_indexes.count = PARTITIONS;
    q.group_id = kafka_string_of(GROUP);
    q.topics.items = &topic;
    q.topics.count = 1;
    if (ask(m, KAFKA_API_OFFSET_FETCH, 5, &q, &r) != OK || r.error_code != 0 || r.topics.count != 1) return false;
    for (int32_t i = 0; i < r.topics.items[0].partitions.count; i++) {
        const struct kafka_offset_fetch_response_partition *p = &r.topics.items[0].partitions.items[i];
        if (p->error_code != 0) return false;
        int64_t found = p->committed_offset < 0 ? 0 : p->committed_offset;
        sim_note(t->world, t->world->stepping, subject_of_partition(p->partition_index), "partition %d: %ld is found",
                 p->partition_index, found);
        if (found < acked[p->partition_index] || found > t->asked[p->partition_index])
            sim_fail_about(t->world, subject_of_partition(p->partition_index),
                           "partition %d: offset %ld is found; %ld was acknowledged, %ld asked for", p->partition_index,
                           found, acked[p->partition_index], t->asked[p->partition_index]);
        m->position[p->partition_index] = found;
    }
    t->run->ops++;
    return true;
}

static bool commit(struct membership *m) {
    struct group_test *t = m->test;
    struct kafka_offset_commit_request_partition parts[PARTITIONS];
    int32_t count = 0;
    for (int32_t i = 0; i < PARTITIONS; i++) {
        if (!m->owns[i]) continue;
        m->position[i] += (int64_t)sim_between(t->world, 0, 3);
        kafka_offset_commit_request_partition_init(&parts[count]);
        parts[count].partition_index = i;
        parts[count].committed_offset = m->position[i];
        parts[count++].committed_metadata = kafka_string_of("");
        if (t->asked[i] < m->position[i]) t->asked[i] = m->position[i];
        sim_note(t->world, t->world->stepping, subject_of_partition(i),
                 "%s commits partition %d: %ld, in generation %d", m->id, i, m->position[i], m->generation);
    }
    if (count == 0) return true;
    struct kafka_offset_commit_request_topic topic;
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response r;
    kafka_offset_commit_request_topic_init(&topic);
    kafka_offset_commit_request_init(&q);
    topic.name = kafka_string_of(TOPIC);
    topic.partitions.items = parts;
    topic.partitions.count = count;
    q.group_id = kafka_string_of(GROUP);
    q.generation_id_or_member_epoch = m->generation;
    q.member_id = kafka_string_of(m->id);
    q.topics.items = &topic;
    q.topics.count = 1;
    int32_t newest = t->newest_assigned;
    if (ask(m, KAFKA_API_OFFSET_COMMIT, 7, &q, &r) != OK || r.topics.count != 1) return false;
    for (int32_t i = 0; i < r.topics.items[0].partitions.count; i++) {
        const struct kafka_offset_commit_response_partition *p = &r.topics.items[0].partitions.items[i];
        sim_note(t->world, t->world->stepping, subject_of_partition(p->partition_index),
                 "%s is told of its commit of partition %d: error %d", m->id, p->partition_index, p->error_code);
        if (p->error_code != 0) return false;
        if (m->generation < newest)
            sim_fail_about(t->world, subject_of_partition(p->partition_index),
                           "a commit for generation %d was taken when generation %d was at work", m->generation,
                           newest);
        if (t->acked[p->partition_index] < m->position[p->partition_index])
            t->acked[p->partition_index] = m->position[p->partition_index];
        t->run->acked++;
    }
    if (t->quiet) t->worked_after_quiet++;
    return true;
}

static bool heartbeat(struct membership *m) {
    struct kafka_heartbeat_request q;
    struct kafka_heartbeat_response r;
    kafka_heartbeat_request_init(&q);
    q.group_id = kafka_string_of(GROUP);
    q.generation_id = m->generation;
    q.member_id = kafka_string_of(m->id);
    if (ask(m, KAFKA_API_HEARTBEAT, 3, &q, &r) != OK) return false;
    if (r.error_code == KAFKA_UNKNOWN_MEMBER_ID) m->id[0] = '\0';
    return r.error_code == 0;
}

static void leave(struct membership *m) {
    struct kafka_leave_group_request q;
    struct kafka_leave_group_response r;
    kafka_leave_group_request_init(&q);
    q.group_id = kafka_string_of(GROUP);
    q.member_id = kafka_string_of(m->id);
    (void)ask(m, KAFKA_API_LEAVE_GROUP, 1, &q, &r);
    m->id[0] = '\0';
}

/* Works until somebody says otherwise. */
static void work(struct membership *m) {
    struct group_test *t = m->test;
    if (!find_positions(m)) return;
    while (!t->load_over && !sim_failed(t->world)) {
        if (!commit(m) || !heartbeat(m)) return;
        fiber_sleep_ns(sim_between(t->world, 100, 2500) * NS_PER_MS);
        if (!t->quiet && sim_chance(t->world, 0.03)) {
            leave(m);
            fiber_sleep_ns(sim_between(t->world, 0, 5000) * NS_PER_MS);
            return;
        }
    }
}

static void member_main(void *arg) {
    struct group_test *t = arg;
    struct membership m = {.test = t, .highest_seen = -1};
    sim_client_init(&m.client, loop_current()->env);
    arena_init(&m.arena, loop_current()->env->mem);
    while (!t->load_over && !sim_failed(t->world)) {
        if (!m.client.conn && sim_broker_connect(&t->broker, &m.client) != OK) {
            fiber_sleep_ns(sim_between(t->world, 10, 1000) * NS_PER_MS);
            continue;
        }
        struct kafka_join_group_response joined;
        memset(m.owns, 0, sizeof(m.owns));
        if (join(&m, &joined) && sync_group(&m, &joined)) {
            work(&m);
        } else {
            sim_client_close(&m.client);
            fiber_sleep_ns(sim_between(t->world, 10, 500) * NS_PER_MS);
        }
    }
    if (m.id[0] && m.client.conn) leave(&m);
    arena_deinit(&m.arena);
    sim_client_deinit(&m.client);
}

static void audit_main(void *arg) {
    struct group_test *t = arg;
    struct membership m = {.test = t};
    sim_client_init(&m.client, loop_current()->env);
    arena_init(&m.arena, loop_current()->env->mem);
    uint64_t give_up_ns = t->world->now_ns + 600 * NS_PER_S;
    bool found = false;
    while (!found && !sim_failed(t->world) && t->world->now_ns < give_up_ns) {
        bool connected = m.client.conn || sim_broker_connect(&t->broker, &m.client) == OK;
        found = connected && find_positions(&m);
        if (!found) fiber_sleep_ns(200 * NS_PER_MS);
    }
    if (!found && !sim_failed(t->world)) sim_fail(t->world, "committed offsets are not told though nothing is broken");
    t->audited = true;
    arena_deinit(&m.arena);
    sim_client_deinit(&m.client);
}

static void trouble(struct group_test *t) {
    struct sim_world *w = t->world;
    struct sim_node *member = t->members[sim_between(w, 0, t->member_count - 1)];
    if (!sim_node_up(member)) {
        sim_node_start(member, member_main, t);
    } else if (sim_chance(w, 0.05)) {
        sim_run_crash(t->run, member);
    } else if (sim_chance(w, 0.05)) {
        sim_node_pause(member, sim_between(w, 0, 30) * NS_PER_S);
    }
    if (!sim_broker_trouble(&t->broker)) return;
    if (sim_chance(w, t->broker.crash)) {
        sim_net_cut(w, t->broker.machines[t->broker.at], member, true);
    } else if (sim_chance(w, 0.3)) {
        sim_net_heal(w);
    }
}

static bool keep_up(struct group_test *t, uint64_t until_ns) {
    struct sim_world *w = t->world;
    while (w->now_ns < until_ns && !sim_failed(w) && t->worked_after_quiet < 20) {
        t->broker.crash = 0;
        (void)sim_broker_trouble(&t->broker);
        for (unsigned i = 0; i < t->member_count; i++) {
            if (!sim_node_up(t->members[i])) sim_node_start(t->members[i], member_main, t);
        }
        fiber_sleep_ns(200 * NS_PER_MS);
    }
    return t->worked_after_quiet >= 20;
}

void workload_group(struct sim_run *r) {
    struct sim_world *w = r->world;
    struct group_test *t = MEM_NEW(sim_run_mem(r), struct group_test);
    t->run = r;
    t->world = w;
    t->newest_assigned = -1;
    sim_broker_init(&t->broker, r);
    t->member_count = (unsigned)sim_between(w, 1, MEMBERS_MAX);
    sim_broker_begin(&t->broker, TOPIC, PARTITIONS);
    for (unsigned i = 0; i < t->member_count; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "member%u", i);
        t->members[i] = sim_node_create(w, name);
        sim_node_start(t->members[i], member_main, t);
    }
    uint64_t end_ns = w->now_ns + sim_run_load_after_ns(r, 20 * NS_PER_S, 2);
    while (w->now_ns < end_ns && !sim_failed(w)) {
        fiber_sleep_ns(sim_between(w, 10, 3000) * NS_PER_MS);
        trouble(t);
    }
    sim_run_heal(r);
    sim_net_heal(w);
    t->quiet = true;
    if (!sim_failed(w) && !keep_up(t, w->now_ns + 900 * NS_PER_S) && !sim_failed(w))
        sim_fail(w, "the group does not get to work though nothing is broken");
    t->load_over = true;
    for (unsigned i = 0; i < t->member_count && !sim_failed(w); i++) {
        if (!sim_run_wait_down(r, t->members[i], 600 * NS_PER_S)) sim_fail(w, "a member does not end");
    }
    struct sim_node *auditor = sim_node_create(w, "auditor");
    sim_node_start(auditor, audit_main, t);
    sim_broker_end(&t->broker, &t->audited);
}
