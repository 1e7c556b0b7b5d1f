/* Groups and members: the table of states, and what members support together. */
#include "coord/group.h"

#include <string.h>

#include "base/assert.h"

/* ---- strings ---- */

struct kafka_string text_copy(struct mem *m, struct kafka_string s) {
    if (s.size < 0) return kafka_string_of(NULL);
    return kafka_string_view(mem_strndup(m, s.data, (size_t)s.size), (size_t)s.size);
}

void text_free(struct mem *m, struct kafka_string *s) {
    mem_free(m, (void *)s->data);
    *s = kafka_string_of(NULL);
}

struct kafka_bytes bytes_copy(struct mem *m, struct kafka_bytes b) {
    if (b.size <= 0) return (struct kafka_bytes){NULL, 0};
    uint8_t *copy = mem_alloc(m, (size_t)b.size);
    memcpy(copy, b.data, (size_t)b.size);
    return (struct kafka_bytes){copy, b.size};
}

void bytes_free(struct mem *m, struct kafka_bytes *b) {
    mem_free(m, (void *)b->data);
    *b = (struct kafka_bytes){NULL, 0};
}

struct kafka_string text_in(struct arena *a, struct kafka_string s) {
    if (s.size < 0) return s;
    return kafka_string_view(arena_strndup(a, s.data, (size_t)s.size), (size_t)s.size);
}

struct kafka_bytes bytes_in(struct arena *a, struct kafka_bytes b) {
    if (b.size <= 0) return (struct kafka_bytes){(const uint8_t *)"", 0};
    return (struct kafka_bytes){arena_copy(a, b.data, (size_t)b.size), b.size};
}

/* ---- states ---- */

static const struct {
    const char *name;
    bool from[GROUP_STATE_COUNT]; /* which states may come before */
} states[GROUP_STATE_COUNT] = {
    [GROUP_EMPTY] = {"Empty", {[GROUP_PREPARING] = true, [GROUP_DEAD] = true}},
    [GROUP_PREPARING] = {"PreparingRebalance",
                         {[GROUP_EMPTY] = true, [GROUP_COMPLETING] = true, [GROUP_STABLE] = true}},
    [GROUP_COMPLETING] = {"CompletingRebalance", {[GROUP_PREPARING] = true}},
    [GROUP_STABLE] = {"Stable", {[GROUP_COMPLETING] = true}},
    [GROUP_DEAD] = {"Dead", {[GROUP_EMPTY] = true}},
};

const char *group_state_name(enum group_state s) {
    ASSERT(s < GROUP_STATE_COUNT);
    return states[s].name;
}

void group_event(const struct group *g, enum coord_event_kind kind, const struct member *m) {
    const struct coord_config *config = &g->coord->config;
    if (!config->event) return;
    static const struct kafka_string none = {"", 0};
    struct coord_event e = {.kind = kind,
                            .group = g->id,
                            .member = m ? m->id : none,
                            .client_id = m ? m->client_id : none,
                            .host = m ? m->host : none,
                            .protocol = g->protocol,
                            .reason = g->why ? g->why : "it was loaded in the middle of one",
                            .generation = g->generation,
                            .members = g->members.count};
    config->event(config->event_ctx, &e);
}

void group_transition(struct group *g, enum group_state to) {
    CHECK_OBJ(g, GROUP_MAGIC);
    ASSERT(to < GROUP_STATE_COUNT && states[to].from[g->state]);
    g->previous_state = g->state;
    g->state = to;
    g->state_ms = g->coord->now.wall_ms;
}

void group_check(const struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    size_t members = g->members.count;
    ASSERT(g->joined <= members && g->unsynced <= members && g->statics.count <= members);
    ASSERT(g->state < GROUP_STATE_COUNT && g->generation >= 0);
    ASSERT((g->state != GROUP_EMPTY && g->state != GROUP_DEAD) || members == 0);
    ASSERT((g->state != GROUP_COMPLETING && g->state != GROUP_STABLE) || (members > 0 && g->protocol.size >= 0));
    ASSERT(g->state == GROUP_PREPARING || g->joined == 0);
    ASSERT(g->state == GROUP_COMPLETING || g->state == GROUP_STABLE || g->unsynced == 0);
    ASSERT(members > 0 || !g->leader);
    ASSERT(g->state != GROUP_PREPARING || timer_armed(&g->timer));
    ASSERT(g->state != GROUP_DEAD || (!g->has_record && g->pendings.count == 0));
    ASSERT(g->hold < g->coord->next_sequence);
#ifdef OXBOW_DCHECK
    size_t joined = 0, unsynced = 0, statics = 0, count = 0;
    bool leader = !g->leader;
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        CHECK_OBJ(m, MEMBER_MAGIC);
        ASSERT(m->group == g && member_find(g, m->id) == m);
        ASSERT(!m->sync || g->state == GROUP_COMPLETING);
        ASSERT(timer_armed(&m->session) || g->coord->phase != COORD_ACTIVE);
        joined += m->join != NULL;
        unsynced += m->pending_sync;
        statics += m->instance_id.size >= 0;
        leader |= m == g->leader;
        count++;
    }
    ASSERT(joined == g->joined && unsynced == g->unsynced && statics == g->statics.count);
    ASSERT(count == members && leader);
#endif
}

/* ---- groups ---- */

static size_t group_bytes(const struct group *g) {
    return COORD_GROUP_BYTES + 2 * (size_t)g->id.size;
}

struct group *group_any(struct coord *c, struct kafka_string id) {
    return id.size < 0 ? NULL : mapstr_get(&c->groups, id.data, (size_t)id.size);
}

struct group *group_find(struct coord *c, struct kafka_string id) {
    struct group *g = group_any(c, id);
    return g && g->state != GROUP_DEAD ? g : NULL;
}

uint64_t group_hold(struct coord *c, struct kafka_string id) {
    const struct group *g = group_any(c, id);
    return g ? g->hold : 0;
}

struct group *group_open(struct coord *c, struct kafka_string id) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(id.size >= 0);
    struct group *g = group_any(c, id);
    if (g) {
        if (g->state == GROUP_DEAD) group_transition(g, GROUP_EMPTY);
        return g;
    }
    g = MEM_NEW(c->mem, struct group);
    INIT_OBJ(g, GROUP_MAGIC);
    g->coord = c;
    g->id = text_copy(c->mem, id);
    g->state = g->previous_state = GROUP_EMPTY;
    g->state_ms = c->now.wall_ms;
    g->protocol_type = g->protocol = kafka_string_of(NULL);
    mapstr_init(&g->members, c->mem);
    mapstr_init(&g->statics, c->mem);
    mapstr_init(&g->pendings, c->mem);
    mapstr_init(&g->topics, c->mem);
    list_init(&g->order);
    g->timer.kind = TIMER_GROUP;
    void *before = mapstr_put(&c->groups, id.data, (size_t)id.size, g);
    ASSERT(!before);
    coord_hold(c, group_bytes(g));
    return g;
}

void group_store(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    arena_reset(&c->scratch);
    struct kafka_bytes key = records_group_key(c, g->id), value = records_group_value(c, g);
    g->hold = effect_add(c, key.data, (size_t)key.size, value.data, (size_t)value.size);
    g->has_record = true;
}

static void pendings_clear(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct pending *p;
    for (size_t i = 0; (p = mapstr_next(&g->pendings, &i, NULL, NULL)) != NULL;) {
        timers_disarm(&g->coord->timers, &p->timer);
        coord_let_go(g->coord, COORD_PENDING_BYTES);
        text_free(g->coord->mem, &p->id);
        mem_free(g->coord->mem, p);
    }
    mapstr_deinit(&g->pendings);
    mapstr_init(&g->pendings, g->coord->mem);
}

void group_bury(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    ASSERT(g->state == GROUP_EMPTY && g->members.count == 0 && offset_live(g) == 0);
    pendings_clear(g);
    if (g->has_record) {
        arena_reset(&c->scratch);
        struct kafka_bytes key = records_group_key(c, g->id);
        g->hold = effect_add(c, key.data, (size_t)key.size, NULL, 0);
        g->has_record = false;
    }
    g->generation = 0;
    text_free(c->mem, &g->protocol_type);
    text_free(c->mem, &g->protocol);
    timers_disarm(&c->timers, &g->timer);
    group_transition(g, GROUP_DEAD);
    group_check(g);
}

bool group_reap(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    offset_reap(g);
    if (g->state != GROUP_DEAD || g->offsets > 0 || g->hold > c->durable) return false;
    void *removed = mapstr_remove(&c->groups, g->id.data, (size_t)g->id.size);
    ASSERT(removed == g);
    group_destroy(g);
    return true;
}

void group_destroy(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    while (!list_empty(&g->order)) member_remove(LIST_ENTRY(g->order.next, struct member, link));
    pendings_clear(g);
    struct offset_topic *t;
    for (size_t cursor = 0; (t = mapstr_next(&g->topics, &cursor, NULL, NULL)) != NULL;) offset_topic_destroy(c, t);
    timers_disarm(&c->timers, &g->timer);
    mapstr_deinit(&g->members);
    mapstr_deinit(&g->statics);
    mapstr_deinit(&g->pendings);
    mapstr_deinit(&g->topics);
    for (size_t i = 0; i < g->supported_count; i++) text_free(c->mem, &g->supported[i].name);
    mem_free(c->mem, g->supported);
    coord_let_go(c, group_bytes(g));
    text_free(c->mem, &g->id);
    text_free(c->mem, &g->protocol_type);
    text_free(c->mem, &g->protocol);
    g->magic = 0;
    mem_free(c->mem, g);
}

/* ---- members ---- */

struct member *member_find(const struct group *g, struct kafka_string id) {
    return id.size <= 0 ? NULL : mapstr_get(&g->members, id.data, (size_t)id.size);
}

bool group_is_static(const struct group *g, struct kafka_string instance_id, struct member **m) {
    *m = instance_id.size < 0 ? NULL : mapstr_get(&g->statics, instance_id.data, (size_t)instance_id.size);
    return *m != NULL;
}

enum err member_validate(const struct group *g, struct kafka_string id, struct kafka_string instance_id,
                         struct member **m) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct member *by_instance;
    if (instance_id.size >= 0) {
        if (!group_is_static(g, instance_id, &by_instance)) return ERR_UNKNOWN_MEMBER_ID;
        if (!kafka_string_equal(by_instance->id, id)) return ERR_FENCED_INSTANCE_ID;
        *m = by_instance;
        return OK;
    }
    *m = member_find(g, id);
    return *m ? OK : ERR_UNKNOWN_MEMBER_ID;
}

struct member *member_create(struct group *g, struct kafka_string id, struct kafka_string instance_id,
                             struct kafka_string client_id, struct kafka_string host) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    ASSERT(id.size > 0);
    struct member *m = MEM_NEW(c->mem, struct member);
    INIT_OBJ(m, MEMBER_MAGIC);
    m->group = g;
    m->id = text_copy(c->mem, id);
    m->instance_id = text_copy(c->mem, instance_id);
    m->client_id = text_copy(c->mem, client_id.size < 0 ? kafka_string_of("") : client_id);
    m->host = text_copy(c->mem, host.size < 0 ? kafka_string_of("") : host);
    m->session.kind = TIMER_SESSION;
    list_init(&m->held);
    list_push_back(&g->order, &m->link);
    void *before = mapstr_put(&g->members, id.data, (size_t)id.size, m);
    ASSERT(!before);
    if (instance_id.size >= 0) {
        before = mapstr_put(&g->statics, instance_id.data, (size_t)instance_id.size, m);
        ASSERT(!before);
    }
    if (!g->leader) g->leader = m;
    c->members++;
    coord_hold(c, COORD_MEMBER_BYTES);
    return m;
}

static void forget_held(struct member *m) {
    struct list *it;
    while ((it = list_pop_front(&m->held)) != NULL) LIST_ENTRY(it, struct coord_reply, member_link)->member = NULL;
}

static struct protocol_count *supported(const struct group *g, struct kafka_string name) {
    CHECK_OBJ(g, GROUP_MAGIC);
    for (size_t i = 0; i < g->supported_count; i++) {
        if (kafka_string_equal(g->supported[i].name, name)) return &g->supported[i];
    }
    return NULL;
}

static void count_protocol(struct group *g, struct kafka_string name) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct protocol_count *p = supported(g, name);
    if (!p) {
        g->supported =
            mem_grow(g->coord->mem, g->supported, g->supported_count, &g->supported_capacity, sizeof(*g->supported));
        p = &g->supported[g->supported_count++];
        *p = (struct protocol_count){text_copy(g->coord->mem, name), 0};
    }
    p->members++;
}

static void uncount_protocol(struct group *g, struct kafka_string name) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct protocol_count *p = supported(g, name);
    ASSERT(p && p->members > 0);
    if (--p->members > 0) return;
    text_free(g->coord->mem, &p->name);
    *p = g->supported[--g->supported_count];
}

/* A name may stand in a client's list twice; it counts once. */
static bool named_before(const struct protocol *protocols, size_t i) {
    for (size_t j = 0; j < i; j++) {
        if (kafka_string_equal(protocols[j].name, protocols[i].name)) return true;
    }
    return false;
}

static void drop_protocols(struct member *m) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct mem *mem = m->group->coord->mem;
    for (size_t i = m->protocol_count; i-- > 0;) {
        if (!named_before(m->protocols, i)) uncount_protocol(m->group, m->protocols[i].name);
        text_free(mem, &m->protocols[i].name);
        bytes_free(mem, &m->protocols[i].metadata);
    }
    mem_free(mem, m->protocols);
    m->protocols = NULL;
    m->protocol_count = 0;
    m->group->says_bytes -= m->says_bytes;
    coord_let_go(m->group->coord, 2 * m->says_bytes);
    m->says_bytes = 0;
}

static size_t text_bytes(struct kafka_string s) {
    return s.size > 0 ? (size_t)s.size : 0;
}

size_t protocols_bytes(const struct protocol *protocols, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes +=
            text_bytes(protocols[i].name) + (protocols[i].metadata.size > 0 ? (size_t)protocols[i].metadata.size : 0);
    return bytes;
}

void member_set_protocols(struct member *m, const struct protocol *protocols, size_t count) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    ASSERT(count > 0);
    struct mem *mem = m->group->coord->mem;
    drop_protocols(m);
    m->protocols = mem_alloc(mem, count * sizeof(*protocols));
    for (size_t i = 0; i < count; i++) {
        m->protocols[i] = (struct protocol){text_copy(mem, protocols[i].name), bytes_copy(mem, protocols[i].metadata)};
        if (!named_before(m->protocols, i)) count_protocol(m->group, protocols[i].name);
    }
    m->protocol_count = count;
    m->says_bytes = protocols_bytes(m->protocols, count) + text_bytes(m->id) + text_bytes(m->instance_id) +
                    text_bytes(m->client_id) + text_bytes(m->host);
    m->group->says_bytes += m->says_bytes;
    coord_hold(m->group->coord, 2 * m->says_bytes);
}

bool member_matches(const struct member *m, const struct protocol *protocols, size_t count) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    if (m->protocol_count != count) return false;
    for (size_t i = 0; i < count; i++) {
        const struct protocol *a = &m->protocols[i], *b = &protocols[i];
        int32_t b_size = b->metadata.size < 0 ? 0 : b->metadata.size;
        if (!kafka_string_equal(a->name, b->name) || a->metadata.size != b_size) return false;
        if (b_size > 0 && memcmp(a->metadata.data, b->metadata.data, (size_t)b_size) != 0) return false;
    }
    return true;
}

struct kafka_bytes member_metadata(const struct member *m, struct kafka_string protocol) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    for (size_t i = 0; i < m->protocol_count; i++) {
        if (kafka_string_equal(m->protocols[i].name, protocol)) return m->protocols[i].metadata;
    }
    return (struct kafka_bytes){NULL, 0};
}

void member_assign(struct member *m, struct kafka_bytes assignment) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct coord *c = m->group->coord;
    coord_let_go(c, 2 * (size_t)m->assignment.size);
    bytes_free(c->mem, &m->assignment);
    m->assignment = bytes_copy(c->mem, assignment);
    coord_hold(c, 2 * (size_t)m->assignment.size);
}

void member_remove(struct member *m) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct group *g = m->group;
    struct coord *c = g->coord;
    ASSERT(!m->join && !m->sync);
    forget_held(m);
    drop_protocols(m);
    if (m->pending_sync) g->unsynced--;
    timers_disarm(&c->timers, &m->session);
    list_remove(&m->link);
    void *removed = mapstr_remove(&g->members, m->id.data, (size_t)m->id.size);
    ASSERT(removed == m);
    if (m->instance_id.size >= 0) {
        removed = mapstr_remove(&g->statics, m->instance_id.data, (size_t)m->instance_id.size);
        ASSERT(removed == m);
    }
    if (g->leader == m) {
        g->leader = list_empty(&g->order) ? NULL : LIST_ENTRY(g->order.next, struct member, link);
    }
    text_free(c->mem, &m->id);
    text_free(c->mem, &m->instance_id);
    text_free(c->mem, &m->client_id);
    text_free(c->mem, &m->host);
    member_assign(m, (struct kafka_bytes){NULL, 0});
    c->members--;
    coord_let_go(c, COORD_MEMBER_BYTES);
    m->magic = 0;
    mem_free(c->mem, m);
}

void member_rename(struct member *m, struct kafka_string id) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct group *g = m->group;
    ASSERT(m->instance_id.size >= 0 && !member_find(g, id));
    forget_held(m); /* those are answers to the one that was replaced */
    void *removed = mapstr_remove(&g->members, m->id.data, (size_t)m->id.size);
    ASSERT(removed == m);
    text_free(g->coord->mem, &m->id);
    m->id = text_copy(g->coord->mem, id);
    mapstr_put(&g->members, id.data, (size_t)id.size, m);
}

void member_touch(struct member *m) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct coord *c = m->group->coord;
    m->deadline_ms = c->now.mono_ms + m->session_timeout_ms;
    if (!timer_armed(&m->session) || m->session.due_ms > m->deadline_ms) {
        timers_arm(&c->timers, &m->session, m->deadline_ms);
    }
}

/* ---- what members have in common ---- */

bool group_supports(const struct group *g, struct kafka_string type, const struct protocol *protocols, size_t count) {
    CHECK_OBJ(g, GROUP_MAGIC);
    if (type.size <= 0 || count == 0) return false;
    if (g->members.count == 0) return true;
    if (!kafka_string_equal(g->protocol_type, type)) return false;
    for (size_t i = 0; i < count; i++) {
        const struct protocol_count *p = supported(g, protocols[i].name);
        if (p && p->members == g->members.count) return true;
    }
    return false;
}

struct kafka_string group_select_protocol(const struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    ASSERT(g->members.count > 0 && g->supported_count > 0);
    struct coord *c = g->coord;
    size_t *votes = mem_zalloc(c->mem, g->supported_count * sizeof(*votes));
    const struct protocol_count *winner = NULL;
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        for (size_t i = 0; i < m->protocol_count; i++) {
            const struct protocol_count *p = supported(g, m->protocols[i].name);
            if (p->members < g->members.count) continue;
            votes[p - g->supported]++;
            /* On a tie the first that got so far. */
            if (!winner || votes[p - g->supported] > votes[winner - g->supported]) winner = p;
            break;
        }
    }
    mem_free(c->mem, votes);
    ASSERT(winner != NULL); /* members are let in only if they share one with all */
    return winner->name;
}

int32_t group_rebalance_timeout(const struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    int32_t longest = 0;
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        if (m->rebalance_timeout_ms > longest) longest = m->rebalance_timeout_ms;
    }
    return longest;
}

void group_wait_again(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    int64_t wait_ms = group_rebalance_timeout(g);
    if (wait_ms < WAIT_AGAIN_MIN_MS) wait_ms = WAIT_AGAIN_MIN_MS;
    timers_arm(&g->coord->timers, &g->timer, g->coord->now.mono_ms + wait_ms);
}

/* ---- member ids that were given out ---- */

struct pending *pending_find(const struct group *g, struct kafka_string id) {
    return id.size <= 0 ? NULL : mapstr_get(&g->pendings, id.data, (size_t)id.size);
}

void pending_add(struct group *g, struct kafka_string id, int32_t timeout_ms) {
    CHECK_OBJ(g, GROUP_MAGIC);
    ASSERT(!pending_find(g, id) && !member_find(g, id));
    struct coord *c = g->coord;
    struct pending *p = MEM_NEW(c->mem, struct pending);
    p->group = g;
    p->id = text_copy(c->mem, id);
    p->timer.kind = TIMER_PENDING;
    mapstr_put(&g->pendings, id.data, (size_t)id.size, p);
    timers_arm(&c->timers, &p->timer, c->now.mono_ms + timeout_ms);
    coord_hold(c, COORD_PENDING_BYTES);
}

void pending_remove(struct pending *p) {
    struct coord *c = p->group->coord;
    void *removed = mapstr_remove(&p->group->pendings, p->id.data, (size_t)p->id.size);
    ASSERT(removed == p);
    timers_disarm(&c->timers, &p->timer);
    coord_let_go(c, COORD_PENDING_BYTES);
    text_free(c->mem, &p->id);
    mem_free(c->mem, p);
}
