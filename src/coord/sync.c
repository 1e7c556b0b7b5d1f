/* SyncGroup, Heartbeat and LeaveGroup: the sync phase of a rebalance, and what members do between rebalances.
 *
 *   Completing --the leader's sync--> Stable
 *
 * Assignments are written before any member hears of its own. */
#include "base/assert.h"
#include "coord/group.h"
#include "kafka/error.h"

/* ---- who has not synced ---- */

static void synced(struct member *m) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct group *g = m->group;
    if (!m->pending_sync) return;
    ASSERT(g->unsynced > 0);
    m->pending_sync = false;
    if (--g->unsynced == 0) timers_disarm(&g->coord->timers, &g->timer);
}

void sync_clear_pending(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    if (g->unsynced == 0) return;
    LIST_EACH(it, &g->order) LIST_ENTRY(it, struct member, link)->pending_sync = false;
    g->unsynced = 0;
    timers_disarm(&g->coord->timers, &g->timer);
}

void sync_arm_timer(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    ASSERT(g->state == GROUP_COMPLETING || g->state == GROUP_STABLE);
    int64_t now_ms = g->coord->now.mono_ms;
    /* Called for each join that is answered: the members are looked through once for all of one moment. */
    if (g->unsynced == 0 || g->sync_armed_ms == now_ms) return;
    g->sync_armed_ms = now_ms;
    timers_arm(&g->coord->timers, &g->timer, now_ms + group_rebalance_timeout(g));
}

/* The rebalance time-out holds for the sync phase too: who did not sync in time is out. */
void sync_timer_due(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    ASSERT((g->state == GROUP_COMPLETING || g->state == GROUP_STABLE) && g->unsynced > 0);
    if (g->hold > c->durable) { /* their joins were not answered yet */
        group_wait_again(g);
        return;
    }
    g->why = "a member did not sync in time";
    LIST_EACH_SAFE(it, &g->order) {
        struct member *m = LIST_ENTRY(it, struct member, link);
        if (!m->pending_sync) continue;
        group_event(g, COORD_MEMBER_EXPIRED, m);
        member_expel(m, ERR_UNKNOWN_MEMBER_ID);
    }
    group_member_gone(g);
}

/* ---- SyncGroup ---- */

static void fill(const struct member *m, struct coord_reply *r) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct kafka_sync_group_response *out = r->answer.sync;
    const struct group *g = m->group;
    r->error = OK;
    out->error_code = KAFKA_NONE;
    out->protocol_type = text_in(r->arena, g->protocol_type);
    out->protocol_name = text_in(r->arena, g->protocol);
    out->assignment = bytes_in(r->arena, m->assignment);
}

static void answer(struct member *m, struct coord_reply *r) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    fill(m, r);
    member_touch(m);
    reply_finish(m->group->coord, r, m, m->group->hold);
}

void sync_answer_all(struct group *g, enum err e) {
    CHECK_OBJ(g, GROUP_MAGIC);
    LIST_EACH(it, &g->order) {
        struct member *m = LIST_ENTRY(it, struct member, link);
        struct coord_reply *r = m->sync;
        m->sync = NULL;
        if (r && e) {
            member_touch(m);
            reply_error(g->coord, r, e, g->hold);
        } else if (r) {
            answer(m, r);
        }
    }
}

static void take_assignments(struct group *g, const struct kafka_sync_group_request *request) {
    CHECK_OBJ(g, GROUP_MAGIC);
    for (int32_t i = 0; i < request->assignments.count; i++) {
        struct member *m = member_find(g, request->assignments.items[i].member_id);
        if (!m) continue; /* left, or never was one */
        member_assign(m, request->assignments.items[i].assignment);
    }
    group_transition(g, GROUP_STABLE);
    group_store(g);
    sync_answer_all(g, OK);
}

static void sync_completing(struct member *m, const struct kafka_sync_group_request *request, struct coord_reply *r) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct group *g = m->group;
    struct coord_reply *before = m->sync;
    m->sync = r;
    if (before) reply_error(g->coord, before, ERR_REBALANCE_IN_PROGRESS, g->hold);
    synced(m);
    if (m == g->leader) take_assignments(g, request);
}

static bool differs(struct kafka_string given, struct kafka_string ours) {
    return given.size >= 0 && !kafka_string_equal(given, ours);
}

static enum err check_sync(const struct group *g, const struct kafka_sync_group_request *request, struct member **m) {
    CHECK_OBJ(g, GROUP_MAGIC);
    enum err e = member_validate(g, request->member_id, request->group_instance_id, m);
    if (e) return e;
    bool any = mutant_is(g->coord->config.mutant, MUTANT_SYNC_ANY);
    if (request->generation_id != g->generation && !any) return ERR_ILLEGAL_GENERATION;
    if (differs(request->protocol_type, g->protocol_type) || differs(request->protocol_name, g->protocol)) {
        return ERR_INCONSISTENT_GROUP_PROTOCOL;
    }
    return g->state == GROUP_PREPARING ? ERR_REBALANCE_IN_PROGRESS : OK;
}

void coord_sync(struct coord *c, struct coord_now now, int16_t api_version,
                const struct kafka_sync_group_request *request, struct coord_reply *reply) {
    if (!reply_begin(c, reply, REPLY_SYNC, api_version)) return;
    c->now = now;
    if (request->group_id.size <= 0) {
        reply_error(c, reply, ERR_INVALID_GROUP_ID, 0);
        return;
    }
    if (api_version >= 5 && (request->protocol_type.size < 0 || request->protocol_name.size < 0)) {
        reply_error(c, reply, ERR_INCONSISTENT_GROUP_PROTOCOL, 0);
        return;
    }
    struct group *g = group_find(c, request->group_id);
    struct member *m = NULL;
    enum err e = g ? check_sync(g, request, &m) : ERR_UNKNOWN_MEMBER_ID;
    if (e) {
        reply_error(c, reply, e, group_hold(c, request->group_id));
        return;
    }
    if (g->state == GROUP_COMPLETING) {
        sync_completing(m, request, reply);
    } else {
        ASSERT(g->state == GROUP_STABLE);
        synced(m);
        answer(m, reply);
    }
    group_check(g);
}

/* ---- Heartbeat ---- */

static enum err beat(struct coord *c, struct group *g, const struct kafka_heartbeat_request *request) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct member *m;
    if (request->group_id.size <= 0) return ERR_INVALID_GROUP_ID;
    if (!g) return ERR_UNKNOWN_MEMBER_ID;
    enum err e = member_validate(g, request->member_id, request->group_instance_id, &m);
    if (e) return e;
    if (request->generation_id != g->generation) return ERR_ILLEGAL_GENERATION;
    ASSERT(g->state != GROUP_EMPTY && g->state != GROUP_DEAD);
    member_touch(m);
    return g->state == GROUP_PREPARING ? ERR_REBALANCE_IN_PROGRESS : OK;
}

void coord_heartbeat(struct coord *c, struct coord_now now, const struct kafka_heartbeat_request *request,
                     struct coord_reply *reply) {
    if (!reply_begin(c, reply, REPLY_HEARTBEAT, 0)) return;
    c->now = now;
    struct group *g = group_find(c, request->group_id);
    enum err e = beat(c, g, request);
    reply_error(c, reply, e, g ? g->hold : group_hold(c, request->group_id));
}

/* ---- LeaveGroup ---- */

static enum err leave_one(struct group *g, struct kafka_string id, struct kafka_string instance_id) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct pending *p = pending_find(g, id);
    if (p) {
        pending_remove(p);
        group_maybe_complete_join(g);
        return OK;
    }
    struct member *m;
    /* An operator removes static members by their instance id alone. */
    if (id.size <= 0 && instance_id.size >= 0) {
        if (!group_is_static(g, instance_id, &m)) return ERR_UNKNOWN_MEMBER_ID;
    } else {
        enum err e = member_validate(g, id, instance_id, &m);
        if (e) return e;
    }
    g->why = "a member left";
    member_expel(m, ERR_UNKNOWN_MEMBER_ID);
    group_member_gone(g);
    return OK;
}

void coord_leave(struct coord *c, struct coord_now now, int16_t api_version,
                 const struct kafka_leave_group_request *request, struct coord_reply *reply) {
    if (!reply_begin(c, reply, REPLY_LEAVE, api_version)) return;
    c->now = now;
    if (request->group_id.size <= 0) {
        reply_error(c, reply, ERR_INVALID_GROUP_ID, 0);
        return;
    }
    struct group *g = group_find(c, request->group_id);
    struct kafka_leave_group_response *out = reply->answer.leave;
    if (api_version < 3) {
        enum err e = g ? leave_one(g, request->member_id, kafka_string_of(NULL)) : ERR_UNKNOWN_MEMBER_ID;
        reply->error = e;
        out->error_code = kafka_error_of(e);
    } else {
        size_t count = request->members.count > 0 ? (size_t)request->members.count : 0;
        out->members.items = kafka_leave_group_response_member_new(reply->arena, count);
        out->members.count = (int32_t)count;
        for (size_t i = 0; i < count; i++) {
            const struct kafka_leave_group_request_member *in = &request->members.items[i];
            enum err e = g ? leave_one(g, in->member_id, in->group_instance_id) : ERR_UNKNOWN_MEMBER_ID;
            out->members.items[i].member_id = text_in(reply->arena, in->member_id);
            out->members.items[i].group_instance_id = text_in(reply->arena, in->group_instance_id);
            out->members.items[i].error_code = kafka_error_of(e);
        }
    }
    if (g) group_check(g);
    reply_finish(c, reply, NULL, group_hold(c, request->group_id));
}
