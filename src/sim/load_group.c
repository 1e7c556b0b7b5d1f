/* Members of a classic consumer group, who share the partitions of a topic while they come, leave, die and are cut off.
 * They read nothing: what they work off is counted, and committed. The topic may be deleted and made again meanwhile:
 * then nothing can be committed, and they go on.
 *
 * Promises:
 *  - a generation has one leader and one set of members, whoever is told of it and whenever; its number is never used for
 *    another;
 *  - in a generation a partition is given to one member;
 *  - generations rise: nobody is told a lower one than somebody had been told when it asked;
 *  - nobody commits for a generation after a member of a later one has its assignment;
 *  - a commit that was acknowledged is found, by every later owner; nothing is found that nobody committed.
 *
 * As in Kafka a group goes that has no members and no offsets, and who joins then finds another one under its name, whose
 * generations begin at 1. That is taken for what it is only where the group can have gone: whatever was committed for
 * sure may have gone with the topic, and no member was at work less than a session ago, or all had left. */
#include <string.h>

#include "base/map.h"
#include "kafka/error.h"
#include "sim/history.h"
#include "sim/load.h"

#define MEMBERS_MAX 4u
#define PARTITIONS_MAX ((int32_t)CHECK_PARTITIONS_MAX)
#define GENERATIONS_MAX 4000
#define MEMBER_ID_MAX 128
#define WORK_ENOUGH 20u
#define SESSION_MS 8000
/* A session that ends sooner has not run on any machine: their clocks are fast by 30 percent at most. */
#define SESSION_MIN_NS ((uint64_t)SESSION_MS * NS_PER_MS * 100 / 130)
#define LIFE_UNKNOWN UINT32_MAX

struct generation {
    bool known, set_known;
    uint64_t leader; /* hashes of member ids */
    uint64_t set[MEMBERS_MAX * 4];
    size_t set_size;
    uint64_t told[MEMBERS_MAX * 4]; /* who was told of it */
    size_t told_count;
    uint64_t owner[CHECK_PARTITIONS_MAX]; /* 0: nobody was told */
};

struct load_group {
    struct load *load;
    struct check_name *topic;
    bool quiet;
    uint32_t life; /* how often a group of this name has gone; what follows is of the present one */
    struct generation generations[GENERATIONS_MAX];
    int32_t newest_assigned;             /* the newest generation of which a member has its assignment */
    int32_t newest_told;                 /* the newest of which somebody was told */
    uint64_t newest_inc;                 /* by this incarnation, or an earlier one */
    uint64_t in_it_ns[LOAD_CLIENTS_MAX]; /* by client: until then it is a member, unless it leaves */
    uint64_t dead_in_it_ns;              /* the same, of clients that have died */
    uint64_t worked;                     /* since it is quiet */
};

struct membership {
    struct load *load;
    struct load_group *group;
    unsigned number;
    struct sim_client client;
    struct arena arena; /* of one request */
    char id[MEMBER_ID_MAX];
    int32_t generation;
    uint32_t life; /* in which that generation is; LIFE_UNKNOWN: nobody can tell */
    /* When the last request was sent: the time, and what had been told by then. */
    uint64_t asked_ns, asked_newest_inc;
    uint32_t asked_life;
    int32_t asked_newest;
    bool owns[CHECK_PARTITIONS_MAX];
    int64_t position[CHECK_PARTITIONS_MAX];
};

#define FAIL(m, ...) sim_fail_about((m)->load->world, sim_subject("members", -1), __VA_ARGS__)
#define NOTE(m, ...) sim_note((m)->load->world, sim_node_of((m)->client.env), sim_subject("members", -1), __VA_ARGS__)

struct load_group *load_group_create(struct load *l, struct check_name *topic) {
    struct load_group *g = MEM_NEW(sim_run_mem(l->run), struct load_group);
    g->load = l;
    g->topic = topic;
    g->newest_assigned = g->newest_told = -1;
    return g;
}

void load_group_destroy(struct load_group *g) {
    mem_free(sim_run_mem(g->load->run), g);
}

void load_group_quiet(struct load_group *g) {
    g->quiet = true;
}

bool load_group_works(const struct load_group *g) {
    return g->worked >= WORK_ENOUGH;
}

static struct kafka_string group_name(const struct membership *m) {
    return kafka_string_of(m->load->check->groups[LOAD_MEMBERS_GROUP]);
}

static uint64_t id_hash(struct kafka_string s) {
    return hash_bytes(s.data, (size_t)s.size) | 1;
}

static bool contains(const uint64_t *items, size_t count, uint64_t v) {
    for (size_t i = 0; i < count; i++) {
        if (items[i] == v) return true;
    }
    return false;
}

/* --- What members are told, held against what others were told. */

static struct generation *generation_of(struct membership *m, int32_t number) {
    if (number < 0 || number >= GENERATIONS_MAX) {
        FAIL(m, "generation %d is out of all proportion", number);
        return NULL;
    }
    return &m->group->generations[number];
}

static bool same_set(const struct generation *g, const struct kafka_join_group_response *r) {
    if (g->set_size != (size_t)r->members.count) return false;
    for (int32_t i = 0; i < r->members.count; i++) {
        if (!contains(g->set, g->set_size, id_hash(r->members.items[i].member_id))) return false;
    }
    return true;
}

static void note_set(struct membership *m, struct generation *g, const struct kafka_join_group_response *r) {
    if (g->set_known) {
        if (!same_set(g, r)) FAIL(m, "generation %d has two sets of members", r->generation_id);
        return;
    }
    g->set_known = true;
    for (int32_t i = 0; i < r->members.count && g->set_size < ARRAY_LEN(g->set); i++)
        g->set[g->set_size++] = id_hash(r->members.items[i].member_id);
    for (size_t i = 0; i < g->told_count; i++) {
        if (!contains(g->set, g->set_size, g->told[i]))
            FAIL(m, "generation %d was told to one who is not a member of it", r->generation_id);
    }
}

/* It was told, in answer to the last request, that it is a member: so it was one when that was sent, or later. */
static void note_in_it(struct membership *m) {
    uint64_t until_ns = m->asked_ns + SESSION_MIN_NS;
    if (m->life != m->group->life || load_incarnation(m->load, &m->client) < m->group->newest_inc) return;
    if (until_ns > m->group->in_it_ns[m->number]) m->group->in_it_ns[m->number] = until_ns;
}

static void forget_id(struct membership *m) {
    m->id[0] = '\0';
    m->group->in_it_ns[m->number] = 0;
}

/* NULL: the group may have gone. Else why not. */
static const char *cannot_have_gone(const struct load_group *g) {
    const struct check *k = g->load->check;
    uint64_t now_ns = g->load->world->now_ns;
    for (unsigned p = 0; p < CHECK_PARTITIONS_MAX; p++) {
        if (k->commits[LOAD_MEMBERS_GROUP][g->topic->index][p].low >= 0) return "it has offsets";
    }
    for (unsigned i = 0; i < LOAD_CLIENTS_MAX; i++) {
        if (g->in_it_ns[i] > now_ns) return "it has members";
    }
    return g->dead_in_it_ns > now_ns ? "a member's session had not ended" : NULL;
}

static void begin_life(struct membership *m, int32_t generation) {
    struct load_group *g = m->group;
    NOTE(m, "finds that the group had gone, and begins anew: generation %d after %d", generation, g->newest_told);
    g->life++;
    memset(g->generations, 0, sizeof(g->generations));
    memset(g->in_it_ns, 0, sizeof(g->in_it_ns));
    g->dead_in_it_ns = 0;
    g->newest_assigned = g->newest_told = -1;
    m->asked_life = g->life;
}

/* Whether what r says can be of a group of which this is known. */
static bool contradicts(const struct generation *g, uint64_t me, uint64_t leader) {
    return (g->known && g->leader != leader) || (g->set_known && !contains(g->set, g->set_size, me));
}

static void note_generation(struct membership *m, struct generation *g, const struct kafka_join_group_response *r) {
    uint64_t me = id_hash(r->member_id), leader = id_hash(r->leader);
    if (g->known && g->leader != leader) FAIL(m, "generation %d has two leaders", r->generation_id);
    g->known = true;
    g->leader = leader;
    if (g->set_known && !contains(g->set, g->set_size, me))
        FAIL(m, "generation %d was told to one who is not a member of it", r->generation_id);
    if (!contains(g->told, g->told_count, me) && g->told_count < ARRAY_LEN(g->told)) g->told[g->told_count++] = me;
    if (me == leader) note_set(m, g, r);
}

static void note_join(struct membership *m, const struct kafka_join_group_response *r) {
    struct load_group *all = m->group;
    struct generation *g = generation_of(m, r->generation_id);
    if (!g) return;
    uint64_t inc = load_incarnation(m->load, &m->client);
    bool current = m->asked_life == all->life && inc >= all->newest_inc,
         back = m->asked_life == all->life && inc >= m->asked_newest_inc && r->generation_id < m->asked_newest;
    NOTE(m, "joins generation %d", r->generation_id);
    if (back || (current && contradicts(g, id_hash(r->member_id), id_hash(r->leader)))) {
        const char *why = cannot_have_gone(all);
        if (!why) {
            begin_life(m, r->generation_id);
        } else if (back) {
            FAIL(m, "a member was told generation %d after %d, and the group cannot have gone: %s", r->generation_id,
                 m->asked_newest, why);
        }
    }
    m->load->run->ops++;
    m->life = m->asked_life == all->life ? all->life : LIFE_UNKNOWN;
    if (m->life == LIFE_UNKNOWN) return;
    if (r->generation_id > all->newest_told) all->newest_told = r->generation_id;
    if (inc > all->newest_inc) all->newest_inc = inc;
    note_generation(m, g, r);
    note_in_it(m);
}

static void note_assignment(struct membership *m, struct kafka_bytes assignment) {
    struct generation *g = generation_of(m, m->generation);
    uint64_t me = id_hash(kafka_string_of(m->id));
    if (!g) return;
    memset(m->owns, 0, sizeof(m->owns));
    bool ours = m->life == m->group->life; /* else what is known is of another group */
    for (int32_t i = 0; i < assignment.size; i++) {
        unsigned p = assignment.data[i];
        ASSERT(p < CHECK_PARTITIONS_MAX);
        m->owns[p] = true;
        if (!ours) continue;
        if (g->owner[p] != 0 && g->owner[p] != me)
            FAIL(m, "in generation %d partition %u is given to two members", m->generation, p);
        g->owner[p] = me;
    }
    NOTE(m, "has its assignment of generation %d, %d partitions", m->generation, assignment.size);
    m->load->run->ops++;
    if (!ours) return;
    if (m->generation > m->group->newest_assigned) m->group->newest_assigned = m->generation;
    note_in_it(m);
}

/* --- Requests. */

/* Without a reset of the arena. */
static bool ask_on(struct membership *m, int16_t api, int16_t version, const void *q, void *r) {
    const struct load_group *g = m->group;
    m->asked_ns = m->load->world->now_ns;
    m->asked_life = g->life;
    m->asked_newest = g->newest_told;
    m->asked_newest_inc = g->newest_inc;
    return load_call(m->load, &m->client, api, version, q, &m->arena, r);
}

static bool ask(struct membership *m, int16_t api, int16_t version, const void *q, void *r) {
    arena_reset(&m->arena);
    return ask_on(m, api, version, q, r);
}

/* Who is not known begins anew. False: connect again. */
static bool join(struct membership *m, struct kafka_join_group_response *r) {
    for (unsigned attempt = 0; attempt < 3; attempt++) {
        struct kafka_join_group_request_protocol p = {.name = kafka_string_of("range"),
                                                      .metadata = {(const uint8_t *)"m", 1}};
        struct kafka_join_group_request q;
        kafka_join_group_request_init(&q);
        q.group_id = group_name(m);
        q.session_timeout_ms = SESSION_MS;
        q.rebalance_timeout_ms = 12000;
        q.member_id = kafka_string_of(m->id);
        q.protocol_type = kafka_string_of("consumer");
        q.protocols.items = &p;
        q.protocols.count = 1;
        if (!ask(m, KAFKA_API_JOIN_GROUP, 5, &q, r)) return false;
        load_judge(m->load, &m->client, KAFKA_API_JOIN_GROUP, r->error_code, true);
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
        if (r->error_code == KAFKA_UNKNOWN_MEMBER_ID) forget_id(m);
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
    unsigned partitions = (unsigned)m->group->topic->partitions;
    struct kafka_sync_group_request_assignment *items =
        kafka_new(&kafka_sync_group_request_assignment_type, &m->arena, n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *bytes = arena_alloc(&m->arena, partitions);
        int32_t count = 0;
        for (unsigned p = 0; p < partitions; p++) {
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
    q.group_id = group_name(m);
    q.generation_id = m->generation;
    q.member_id = kafka_string_of(m->id);
    if (kafka_string_equal(joined->leader, joined->member_id)) assign(m, joined, &q);
    /* The request's strings are of the answer to the join. */
    if (!ask_on(m, KAFKA_API_SYNC_GROUP, 3, &q, &r)) return false;
    load_judge(m->load, &m->client, KAFKA_API_SYNC_GROUP, r.error_code, true);
    if (r.error_code != 0) return false;
    note_assignment(m, r.assignment);
    return true;
}

/* From where a new owner goes on. */
static bool find_positions(struct membership *m) {
    struct check *k = m->load->check;
    const struct check_name *n = m->group->topic;
    struct check_commit low[CHECK_PARTITIONS_MAX];
    int32_t indexes[CHECK_PARTITIONS_MAX];
    memcpy(low, k->commits[LOAD_MEMBERS_GROUP][n->index], sizeof(low));
    for (int32_t i = 0; i < PARTITIONS_MAX; i++) indexes[i] = i;
    struct kafka_offset_fetch_request_topic topic;
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response r;
    kafka_offset_fetch_request_topic_init(&topic);
    kafka_offset_fetch_request_init(&q);
    topic.name = kafka_string_of(n->name);
    topic.partition_indexes.items = indexes;
    topic.partition_indexes.count = n->partitions;
    q.group_id = group_name(m);
    q.topics.items = &topic;
    q.topics.count = 1;
    if (!ask(m, KAFKA_API_OFFSET_FETCH, 5, &q, &r)) return false;
    load_judge(m->load, &m->client, KAFKA_API_OFFSET_FETCH, r.error_code, true);
    if (r.error_code != 0 || r.topics.count != 1) return false;
    for (int32_t i = 0; i < r.topics.items[0].partitions.count; i++) {
        const struct kafka_offset_fetch_response_partition *p = &r.topics.items[0].partitions.items[i];
        if (p->error_code != 0) return false;
        check_commit_seen(k, LOAD_MEMBERS_GROUP, n, p->partition_index, &low[p->partition_index], p->committed_offset,
                          load_incarnation(m->load, &m->client));
        m->position[p->partition_index] = p->committed_offset < 0 ? 0 : p->committed_offset;
    }
    return !sim_failed(m->load->world);
}

/* What became of a commit for one partition. True: the member goes on. */
static bool committed(struct membership *m, int32_t partition, uint64_t asked, bool answered, int16_t code,
                      uint32_t life, int32_t newest) {
    struct check *k = m->load->check;
    if (answered) load_judge(m->load, &m->client, KAFKA_API_OFFSET_COMMIT, code, true);
    check_commit_told(k, LOAD_MEMBERS_GROUP, m->group->topic, partition, m->position[partition],
                      load_incarnation(m->load, &m->client), asked,
                      answered && code != 0 && code != KAFKA_COORDINATOR_NOT_AVAILABLE &&
                              code != KAFKA_REQUEST_TIMED_OUT && code != KAFKA_UNKNOWN_SERVER_ERROR
                          ? CHECK_REFUSED
                          : load_outcome(answered, code, 0));
    sim_note(m->load->world, sim_node_of(m->client.env), sim_subject("members", partition),
             "commits %ld for partition %d in generation %d: %s", m->position[partition], partition, m->generation,
             answered ? kafka_error_name(code) : "no answer");
    if (answered && code == 0 && m->life == life && m->generation < newest)
        FAIL(m, "a commit for generation %d was taken when generation %d was at work", m->generation, newest);
    if (answered && code == 0 && m->life < life)
        FAIL(m, "a commit for generation %d of a group that had gone was taken", m->generation);
    return answered && (code == 0 || code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
}

static bool commit(struct membership *m) {
    struct check *k = m->load->check;
    const struct check_name *n = m->group->topic;
    struct kafka_offset_commit_request_partition parts[CHECK_PARTITIONS_MAX];
    uint64_t asked[CHECK_PARTITIONS_MAX];
    int32_t count = 0;
    for (int32_t i = 0; i < PARTITIONS_MAX; i++) {
        if (!m->owns[i]) continue;
        m->position[i] += (int64_t)sim_between(m->load->world, 0, 3);
        kafka_offset_commit_request_partition_init(&parts[count]);
        parts[count].partition_index = i;
        parts[count].committed_offset = m->position[i];
        parts[count].committed_metadata = kafka_string_of("");
        asked[count++] = check_commit_asked(k, LOAD_MEMBERS_GROUP, n, i, m->position[i]);
    }
    if (count == 0) return true;
    struct kafka_offset_commit_request_topic topic;
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response r;
    kafka_offset_commit_request_topic_init(&topic);
    kafka_offset_commit_request_init(&q);
    topic.name = kafka_string_of(n->name);
    topic.partitions.items = parts;
    topic.partitions.count = count;
    q.group_id = group_name(m);
    q.generation_id_or_member_epoch = m->generation;
    q.member_id = kafka_string_of(m->id);
    q.topics.items = &topic;
    q.topics.count = 1;
    uint32_t life = m->group->life;
    int32_t newest = m->group->newest_assigned;
    bool answered = ask(m, KAFKA_API_OFFSET_COMMIT, 7, &q, &r) && r.topics.count == 1 &&
                    r.topics.items[0].partitions.count == count,
         good = answered;
    for (int32_t i = 0; i < count; i++)
        good &= committed(m, parts[i].partition_index, asked[i], answered,
                          answered ? r.topics.items[0].partitions.items[i].error_code : -1, life, newest);
    return good && !sim_failed(m->load->world);
}

static bool heartbeat(struct membership *m) {
    struct kafka_heartbeat_request q;
    struct kafka_heartbeat_response r;
    kafka_heartbeat_request_init(&q);
    q.group_id = group_name(m);
    q.generation_id = m->generation;
    q.member_id = kafka_string_of(m->id);
    if (!ask(m, KAFKA_API_HEARTBEAT, 3, &q, &r)) return false;
    load_judge(m->load, &m->client, KAFKA_API_HEARTBEAT, r.error_code, true);
    if (r.error_code == KAFKA_UNKNOWN_MEMBER_ID) forget_id(m);
    if (r.error_code == 0) note_in_it(m);
    return r.error_code == 0;
}

static void leave(struct membership *m) {
    struct kafka_leave_group_request q;
    struct kafka_leave_group_response r;
    kafka_leave_group_request_init(&q);
    q.group_id = group_name(m);
    q.member_id = kafka_string_of(m->id);
    m->group->in_it_ns[m->number] = 0; /* from the moment in which it is sent */
    (void)ask(m, KAFKA_API_LEAVE_GROUP, 1, &q, &r);
    forget_id(m);
}

/* What was meant for the generation before comes late, as from a thread that has not heard: it must be refused. */
static bool speak_late(struct membership *m) {
    if (sim_chance(m->load->world, 0.5)) {
        struct kafka_sync_group_request q;
        struct kafka_sync_group_response r;
        kafka_sync_group_request_init(&q);
        q.group_id = group_name(m);
        q.generation_id = m->generation - 1;
        q.member_id = kafka_string_of(m->id);
        if (!ask(m, KAFKA_API_SYNC_GROUP, 3, &q, &r)) return false;
        if (r.error_code == 0)
            FAIL(m, "a sync for generation %d was answered, and the member is in %d", q.generation_id, m->generation);
        return true;
    }
    struct kafka_offset_commit_request_partition p;
    struct kafka_offset_commit_request_topic topic;
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response r;
    kafka_offset_commit_request_partition_init(&p);
    kafka_offset_commit_request_topic_init(&topic);
    kafka_offset_commit_request_init(&q);
    p.committed_offset = m->position[0];
    p.committed_metadata = kafka_string_of("");
    topic.name = kafka_string_of(m->group->topic->name);
    topic.partitions.items = &p;
    topic.partitions.count = 1;
    q.group_id = group_name(m);
    q.generation_id_or_member_epoch = m->generation - 1;
    q.member_id = kafka_string_of(m->id);
    q.topics.items = &topic;
    q.topics.count = 1;
    if (!ask(m, KAFKA_API_OFFSET_COMMIT, 7, &q, &r)) return false;
    if (r.topics.count == 1 && r.topics.items[0].partitions.count == 1 &&
        r.topics.items[0].partitions.items[0].error_code == 0)
        FAIL(m, "a commit for generation %d was taken, and the member is in %d", q.generation_id_or_member_epoch,
             m->generation);
    return true;
}

/* Works until somebody says otherwise. */
static void work(struct membership *m) {
    struct load_group *g = m->group;
    if (!find_positions(m)) return;
    while (load_goes_on(m->load, &m->client, false)) {
        if (!commit(m) || !heartbeat(m)) return;
        if (g->quiet) g->worked++;
        if (!g->quiet && m->generation > 1 && sim_chance(m->load->world, 0.1) && !speak_late(m)) return;
        fiber_sleep_ns(sim_between(m->load->world, 100, 2500) * NS_PER_MS);
        if (!g->quiet && sim_chance(m->load->world, 0.03)) {
            leave(m);
            fiber_sleep_ns(sim_between(m->load->world, 0, 5000) * NS_PER_MS);
            return;
        }
    }
}

void load_member_main(void *arg) {
    struct load_client *me = arg;
    struct load *l = me->load;
    struct load_group *g = l->group;
    struct membership m = {.load = l, .group = g, .number = me->number};
    /* Who was here before, and died, is still a member. */
    if (g->in_it_ns[me->number] > g->dead_in_it_ns) g->dead_in_it_ns = g->in_it_ns[me->number];
    g->in_it_ns[me->number] = 0;
    sim_client_init(&m.client, loop_current()->env);
    arena_init(&m.arena, loop_current()->env->mem);
    while (load_goes_on(l, &m.client, true)) {
        if (!m.client.conn && sim_broker_connect(&l->broker, &m.client, !m.group->quiet) != OK) {
            load_pause(l);
            continue;
        }
        struct kafka_join_group_response joined;
        memset(m.owns, 0, sizeof(m.owns));
        if (join(&m, &joined) && sync_group(&m, &joined)) {
            work(&m);
        } else {
            sim_client_close(&m.client);
            fiber_sleep_ns(sim_between(l->world, 10, 500) * NS_PER_MS);
        }
    }
    if (m.id[0] && m.client.conn) leave(&m);
    arena_deinit(&m.arena);
    sim_client_deinit(&m.client);
}
