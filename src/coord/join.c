/* JoinGroup, and the join phase of a rebalance.
 *
 *   Empty --join--> Preparing (initial delay, extended while members come) --delay over--> Completing
 *   Stable, Completing --join, leave, expiry--> Preparing --all have joined, or time is up--> Completing, or Empty
 *
 * At the end of the join phase the new generation with its members and without assignments is written; only when it is
 * durable do the members hear of it. So no generation is ever seen with two sets of members, and none comes twice: a
 * coordinator that loads such a record lets the group rebalance into the next one. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "coord/group.h"
#include "kafka/error.h"

#define UUID_TEXT ((size_t)36)

/* A join with what was made of its request. */
struct joining {
    const struct coord_client *client;
    struct kafka_string member_id, instance_id, protocol_type;
    const struct protocol *protocols;
    size_t protocol_count;
    int32_t session_timeout_ms, rebalance_timeout_ms;
    struct coord_reply *reply;
};

/* ---- answers ---- */

void join_fill_error(struct coord_reply *r, enum err e, struct kafka_string member_id) {
    ASSERT(r->kind == REPLY_JOIN && e != OK);
    struct kafka_join_group_response *out = r->answer.join;
    struct kafka_string id = text_in(r->arena, member_id);
    kafka_join_group_response_init(out);
    r->error = e;
    out->error_code = kafka_error_of(e);
    out->member_id = id.size < 0 ? kafka_string_of("") : id;
    if (r->api_version >= 7) out->protocol_name = kafka_string_of(NULL);
}

static void refuse(struct coord *c, const struct joining *j, enum err e, struct kafka_string member_id, uint64_t hold) {
    join_fill_error(j->reply, e, member_id);
    reply_finish(c, j->reply, NULL, hold);
}

static void fill_members(const struct group *g, struct coord_reply *r) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct kafka_join_group_response *out = r->answer.join;
    out->members.items = kafka_join_group_response_member_new(r->arena, g->members.count);
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        struct kafka_join_group_response_member *o = &out->members.items[out->members.count++];
        o->member_id = text_in(r->arena, m->id);
        o->group_instance_id = text_in(r->arena, m->instance_id);
        o->metadata = bytes_in(r->arena, member_metadata(m, g->protocol));
    }
    ASSERT((size_t)out->members.count == g->members.count);
}

/* The present generation, for m. */
static void fill_generation(const struct member *m, struct coord_reply *r, struct kafka_string leader,
                            bool with_members) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    const struct group *g = m->group;
    struct kafka_join_group_response *out = r->answer.join;
    r->error = OK;
    out->error_code = KAFKA_NONE;
    out->generation_id = g->generation;
    out->protocol_type = text_in(r->arena, g->protocol_type);
    out->protocol_name = text_in(r->arena, g->protocol);
    out->leader = leader.size < 0 ? kafka_string_of("") : text_in(r->arena, leader);
    out->member_id = text_in(r->arena, m->id);
    if (with_members) fill_members(g, r);
}

static struct kafka_string leader_id(const struct group *g) {
    return g->leader ? g->leader->id : kafka_string_of("");
}

static void answer_generation(struct member *m, struct coord_reply *r, bool with_members) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    bool all_lead = mutant_is(m->group->coord->config.mutant, MUTANT_TWO_LEADERS);
    fill_generation(m, r, all_lead ? m->id : leader_id(m->group), with_members || all_lead);
    member_touch(m);
    reply_finish(m->group->coord, r, m, m->group->hold);
}

/* The member waits with this join for the generation to come. One that it sent before, and gave up, is answered. */
static void wait_join(struct member *m, struct coord_reply *r) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct coord *c = m->group->coord;
    ASSERT(m->group->state == GROUP_PREPARING);
    if (m->join) {
        join_fill_error(m->join, ERR_REBALANCE_IN_PROGRESS, m->id);
        reply_finish(c, m->join, NULL, m->group->hold);
    } else {
        m->group->joined++;
    }
    m->join = r;
}

void member_expel(struct member *m, enum err e) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct group *g = m->group;
    if (m->join) {
        struct coord_reply *r = m->join;
        m->join = NULL;
        g->joined--;
        join_fill_error(r, e, kafka_string_of(""));
        reply_finish(g->coord, r, NULL, g->hold);
    }
    if (m->sync) {
        struct coord_reply *r = m->sync;
        m->sync = NULL;
        reply_error(g->coord, r, e, g->hold);
    }
    member_remove(m);
}

/* ---- the join phase ---- */

void group_prepare_rebalance(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    ASSERT(g->state != GROUP_PREPARING && g->joined == 0);
    if (g->state == GROUP_COMPLETING) sync_answer_all(g, ERR_REBALANCE_IN_PROGRESS);
    sync_clear_pending(g);
    group_event(g, COORD_REBALANCE_BEGINS, NULL);
    g->why = NULL;
    int64_t timeout_ms = group_rebalance_timeout(g);
    bool initial = g->state == GROUP_EMPTY;
    group_transition(g, GROUP_PREPARING);
    if (initial) {
        int64_t delay_ms = c->config.initial_rebalance_delay_ms;
        g->remaining_ms = timeout_ms > delay_ms ? timeout_ms - delay_ms : 0;
        g->member_added = false;
        timeout_ms = delay_ms;
    }
    timers_arm(&c->timers, &g->timer, c->now.mono_ms + timeout_ms);
}

static void maybe_prepare(struct group *g) {
    if (g->state != GROUP_PREPARING) group_prepare_rebalance(g);
}

/* The leader is one who joined; false: nobody did. */
static bool elect_leader(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    if (g->leader && g->leader->join) return true;
    LIST_EACH(it, &g->order) {
        struct member *m = LIST_ENTRY(it, struct member, link);
        if (!m->join) continue;
        g->leader = m;
        return true;
    }
    return false;
}

static void become_empty(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    group_transition(g, GROUP_EMPTY);
    text_free(c->mem, &g->protocol);
    timers_disarm(&c->timers, &g->timer);
    group_store(g);
    group_event(g, COORD_GENERATION_MADE, NULL);
}

static void become_generation(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    struct kafka_string protocol = text_copy(c->mem, group_select_protocol(g));
    text_free(c->mem, &g->protocol);
    g->protocol = protocol;
    group_transition(g, GROUP_COMPLETING);
    LIST_EACH(it, &g->order) {
        struct member *m = LIST_ENTRY(it, struct member, link);
        member_assign(m, (struct kafka_bytes){NULL, 0});
        m->is_new = false;
        m->pending_sync = true;
        g->unsynced++;
    }
    group_store(g);
    group_event(g, COORD_GENERATION_MADE, g->leader);
    LIST_EACH(it, &g->order) {
        struct member *m = LIST_ENTRY(it, struct member, link);
        struct coord_reply *r = m->join;
        m->join = NULL;
        if (r) {
            g->joined--;
            answer_generation(m, r, m == g->leader);
        } else {
            member_touch(m);
        }
    }
    g->sync_armed_ms = -1;
    sync_arm_timer(g);
}

void group_complete_join(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    ASSERT(g->state == GROUP_PREPARING);
    /* Who did not come is out; static members stay until their session ends. */
    g->why = "a member did not join in time";
    LIST_EACH_SAFE(it, &g->order) {
        struct member *m = LIST_ENTRY(it, struct member, link);
        if (m->join || m->instance_id.size >= 0) continue;
        group_event(g, COORD_MEMBER_EXPIRED, m);
        member_remove(m);
    }
    if (g->members.count > 0 && !elect_leader(g)) {
        /* Only static members that are away: wait for them, or for the end of their sessions. */
        group_wait_again(g);
        return;
    }
    bool same = g->generation > 0 && mutant_is(g->coord->config.mutant, MUTANT_SAME_GENERATION);
    if (!same) g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
    if (g->members.count == 0) {
        become_empty(g);
    } else {
        become_generation(g);
    }
    group_check(g);
}

void group_maybe_complete_join(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    /* The initial delay is waited for whatever happens. */
    if (g->state != GROUP_PREPARING || g->previous_state == GROUP_EMPTY) return;
    if (g->joined == g->members.count && g->pendings.count == 0) group_complete_join(g);
}

void group_member_gone(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING) group_prepare_rebalance(g);
    group_maybe_complete_join(g);
    group_check(g);
}

/* Some who did not join have an answer that is not out yet, for its record is not durable: they cannot know. */
static bool somebody_is_held(const struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        if (!m->join && !list_empty(&m->held)) return true;
    }
    return false;
}

void join_timer_due(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    ASSERT(g->state == GROUP_PREPARING);
    if (g->previous_state == GROUP_EMPTY && g->member_added && g->remaining_ms > 0) {
        int64_t delay_ms = c->config.initial_rebalance_delay_ms;
        if (delay_ms > g->remaining_ms) delay_ms = g->remaining_ms;
        g->remaining_ms -= delay_ms;
        g->member_added = false;
        timers_arm(&c->timers, &g->timer, c->now.mono_ms + delay_ms);
    } else if (somebody_is_held(g)) {
        group_wait_again(g);
    } else {
        group_complete_join(g);
    }
}

/* ---- who joins ---- */

static void update_member(struct member *m, const struct joining *j) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    member_set_protocols(m, j->protocols, j->protocol_count);
    m->session_timeout_ms = j->session_timeout_ms > 0 ? j->session_timeout_ms : 1; /* the broker's limits may allow 0 */
    m->rebalance_timeout_ms = j->rebalance_timeout_ms;
}

static void rejoin(struct member *m, const struct joining *j) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    update_member(m, j);
    m->group->why = "a member joined again";
    maybe_prepare(m->group);
    wait_join(m, j->reply);
    group_maybe_complete_join(m->group);
}

static void add_member(struct group *g, const struct joining *j, struct kafka_string id) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    ASSERT(group_supports(g, j->protocol_type, j->protocols, j->protocol_count));
    if (g->members.count == 0) {
        text_free(c->mem, &g->protocol_type);
        g->protocol_type = text_copy(c->mem, j->protocol_type);
    }
    struct member *m = member_create(g, id, j->instance_id, j->client->client_id, j->client->host);
    update_member(m, j);
    m->is_new = true;
    m->deadline_ms = c->now.mono_ms + NEW_MEMBER_JOIN_TIMEOUT_MS;
    timers_arm(&c->timers, &m->session, m->deadline_ms);
    if (g->state == GROUP_PREPARING && g->previous_state == GROUP_EMPTY) g->member_added = true;
    g->why = "a new member joined";
    maybe_prepare(g);
    wait_join(m, j->reply);
    group_maybe_complete_join(g);
}

/* "client-6ba7b810-9dad-41d1-80b4-00c04fd430c8": the client's id or the instance's, and a random UUID. */
static struct kafka_string make_member_id(struct coord *c, const struct joining *j) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct kafka_string prefix = j->instance_id.size >= 0 ? j->instance_id : j->client->client_id;
    if (prefix.size < 0) prefix = kafka_string_of("");
    size_t most = INT16_MAX - UUID_TEXT - 1, size = (size_t)prefix.size < most ? (size_t)prefix.size : most;
    uint8_t u[16];
    rng_fill(&c->rng, u, sizeof(u));
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40);
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    /* Copied, not printed: a client's id may have any bytes, zeros too. */
    char *id = arena_alloc(j->reply->arena, size + UUID_TEXT + 2);
    if (size > 0) memcpy(id, prefix.data, size);
    snprintf(id + size, UUID_TEXT + 2, "-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
             u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
    return kafka_string_view(id, size + UUID_TEXT + 1);
}

/* Whoever held the instance id is fenced, and m goes on under its new id. The group rebalances only if its protocol
 * would be another one. */
static void replace_static(struct member *m, const struct joining *j, struct kafka_string id) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct group *g = m->group;
    struct coord *c = g->coord;
    struct kafka_string old_leader = text_in(j->reply->arena, leader_id(g));
    if (m->join) {
        struct coord_reply *r = m->join;
        m->join = NULL;
        g->joined--;
        join_fill_error(r, ERR_FENCED_INSTANCE_ID, m->id);
        reply_finish(c, r, NULL, g->hold);
    }
    if (m->sync) {
        struct coord_reply *r = m->sync;
        m->sync = NULL;
        reply_error(c, r, ERR_FENCED_INSTANCE_ID, g->hold);
    }
    member_rename(m, id);
    text_free(c->mem, &m->client_id);
    text_free(c->mem, &m->host);
    m->client_id = text_copy(c->mem, j->client->client_id.size < 0 ? kafka_string_of("") : j->client->client_id);
    m->host = text_copy(c->mem, j->client->host.size < 0 ? kafka_string_of("") : j->client->host);
    update_member(m, j);
    member_touch(m);
    if (g->state == GROUP_STABLE && kafka_string_equal(group_select_protocol(g), g->protocol)) {
        group_store(g);
        bool leads = m == g->leader, skip = j->client->api_version >= 9;
        /* Before version 9 a leader could not be told to skip its assignment: it is told of the old leader, so that it
         * takes itself for a follower, and nobody waits for an assignment that the stable group would not take. */
        fill_generation(m, j->reply, skip ? leader_id(g) : old_leader, skip && leads);
        j->reply->answer.join->skip_assignment = skip && leads;
        reply_finish(c, j->reply, m, g->hold);
        return;
    }
    g->why = "a static member came back";
    maybe_prepare(g);
    wait_join(m, j->reply);
    group_maybe_complete_join(g);
}

static void join_new(struct group *g, const struct joining *j) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    struct kafka_string id = make_member_id(c, j);
    struct member *m;
    if (!group_supports(g, j->protocol_type, j->protocols, j->protocol_count)) {
        refuse(c, j, ERR_INCONSISTENT_GROUP_PROTOCOL, kafka_string_of(""), g->hold);
    } else if (group_is_static(g, j->instance_id, &m)) {
        replace_static(m, j, id);
    } else if (j->instance_id.size < 0 && j->client->api_version >= 4) {
        pending_add(g, id, j->session_timeout_ms);
        refuse(c, j, ERR_MEMBER_ID_REQUIRED, id, g->hold);
    } else {
        add_member(g, j, id);
    }
}

static void join_known(struct group *g, const struct joining *j) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    struct member *m;
    if (!group_supports(g, j->protocol_type, j->protocols, j->protocol_count)) {
        refuse(c, j, ERR_INCONSISTENT_GROUP_PROTOCOL, j->member_id, g->hold);
        return;
    }
    struct pending *p = pending_find(g, j->member_id);
    if (p && j->instance_id.size < 0) {
        pending_remove(p);
        add_member(g, j, j->member_id);
        return;
    }
    enum err e = member_validate(g, j->member_id, j->instance_id, &m);
    if (e) {
        refuse(c, j, e, j->member_id, g->hold);
        return;
    }
    bool same = member_matches(m, j->protocols, j->protocol_count);
    switch (g->state) {
    case GROUP_PREPARING:
        rejoin(m, j);
        return;
    case GROUP_COMPLETING:
        /* With the same metadata it probably did not get the answer. */
        if (same) {
            answer_generation(m, j->reply, m == g->leader);
        } else {
            rejoin(m, j);
        }
        return;
    case GROUP_STABLE:
        /* A leader joins again to have the group assigned anew: topics may have changed. */
        if (same && m != g->leader) {
            answer_generation(m, j->reply, false);
        } else {
            rejoin(m, j);
        }
        return;
    case GROUP_EMPTY:
    case GROUP_DEAD:
    case GROUP_STATE_COUNT:
        break;
    }
    UNREACHABLE(); /* there is a member */
}

/* group.max.size, as Kafka counts: in the join phase those who have joined, else all. */
static bool has_room(const struct group *g, struct kafka_string member_id) {
    CHECK_OBJ(g, GROUP_MAGIC);
    size_t most = (size_t)g->coord->config.group_max_size;
    const struct member *m = member_find(g, member_id);
    if (g->state == GROUP_EMPTY) return true;
    if (g->state == GROUP_PREPARING) return (m && m->join) || g->joined < most;
    return m || g->members.count < most;
}

/* What all members say fits into one record, with what this one says now. */
static bool has_room_for_words(const struct group *g, const struct joining *j, const struct member *m) {
    CHECK_OBJ(g, GROUP_MAGIC);
    size_t others = g->says_bytes - (m ? m->says_bytes : 0);
    return protocols_bytes(j->protocols, j->protocol_count) <=
           GROUP_SAYS_MAX - (others < GROUP_SAYS_MAX ? others : GROUP_SAYS_MAX);
}

static void join_group(struct coord *c, struct kafka_string group_id, const struct joining *j) {
    CHECK_OBJ(c, COORD_MAGIC);
    bool unknown = j->member_id.size <= 0;
    struct group *g = group_find(c, group_id);
    if (!g) {
        if (!unknown) {
            refuse(c, j, ERR_UNKNOWN_MEMBER_ID, j->member_id, group_hold(c, group_id));
            return;
        }
        if (j->protocol_type.size <= 0 || j->protocol_count == 0) {
            refuse(c, j, ERR_INCONSISTENT_GROUP_PROTOCOL, j->member_id, 0);
            return;
        }
        if (coord_is_crowded(c)) {
            refuse(c, j, ERR_GROUP_MAX_SIZE_REACHED, kafka_string_of(""), group_hold(c, group_id));
            return;
        }
        g = group_open(c, group_id);
    }
    struct member *m = member_find(g, j->member_id), *replaced = NULL;
    if (unknown) (void)group_is_static(g, j->instance_id, &replaced);
    if (!has_room_for_words(g, j, m ? m : replaced)) {
        refuse(c, j, ERR_GROUP_MAX_SIZE_REACHED, kafka_string_of(""), g->hold);
    } else if (!has_room(g, j->member_id) && !replaced) {
        refuse(c, j, ERR_GROUP_MAX_SIZE_REACHED, kafka_string_of(""), g->hold);
        if (m) member_expel(m, ERR_GROUP_MAX_SIZE_REACHED);
        group_maybe_complete_join(g);
    } else if (unknown && !replaced && coord_is_crowded(c)) {
        refuse(c, j, ERR_GROUP_MAX_SIZE_REACHED, kafka_string_of(""), g->hold);
    } else if (unknown) {
        join_new(g, j);
    } else {
        join_known(g, j);
    }
    group_check(g);
}

void coord_join(struct coord *c, struct coord_now now, const struct coord_client *client,
                const struct kafka_join_group_request *request, struct coord_reply *reply) {
    int16_t version = client->api_version;
    reply_init(c, reply, REPLY_JOIN, version);
    reply->answer.join->member_id = text_in(reply->arena, request->member_id);
    if (!reply_serve(c, reply)) return;
    c->now = now;
    size_t count = request->protocols.count > 0 ? (size_t)request->protocols.count : 0;
    struct protocol *protocols = ARENA_ARRAY(reply->arena, struct protocol, count);
    for (size_t i = 0; i < count; i++) {
        protocols[i] = (struct protocol){request->protocols.items[i].name, request->protocols.items[i].metadata};
    }
    int32_t rebalance_ms =
        version == 0 || request->rebalance_timeout_ms < 0 ? request->session_timeout_ms : request->rebalance_timeout_ms;
    struct joining j = {
        .client = client,
        .member_id = request->member_id,
        .instance_id = request->group_instance_id,
        .protocol_type = request->protocol_type,
        .protocols = protocols,
        .protocol_count = count,
        .session_timeout_ms = request->session_timeout_ms,
        .rebalance_timeout_ms = rebalance_ms,
        .reply = reply,
    };
    if (request->group_id.size <= 0) {
        refuse(c, &j, ERR_INVALID_GROUP_ID, request->member_id, 0);
    } else if (request->session_timeout_ms < c->config.session_timeout_min_ms ||
               request->session_timeout_ms > c->config.session_timeout_max_ms) {
        refuse(c, &j, ERR_INVALID_SESSION_TIMEOUT, request->member_id, 0);
    } else if (count > MEMBER_PROTOCOLS_MAX) {
        refuse(c, &j, ERR_INCONSISTENT_GROUP_PROTOCOL, request->member_id, 0);
    } else {
        join_group(c, request->group_id, &j);
    }
}
