/* Time: sessions, member ids that nobody used, the phases of rebalances, and offsets that nobody refreshed.
 *
 * Kafka's rule for offsets: those of a group that has a protocol type expire when the group has been Empty for the
 * retention; of a Stable consumer group those of topics that it does not subscribe to any more, by when they were
 * committed; those of a group that only stores offsets, by when they were committed. An Empty group without offsets
 * goes. */
#include "base/assert.h"
#include "coord/group.h"

/* So many tombstones at a time; the rest after a pause. */
#define SWEEP_RECORDS_MAX 4096
#define SWEEP_PAUSE_MS 100

void expiry_start(struct coord *c) {
    timers_arm(&c->timers, &c->offsets_timer, c->now.mono_ms + c->config.offsets_check_interval_ms);
}

/* ---- sessions ---- */

static void session_due(struct member *m) {
    CHECK_OBJ(m, MEMBER_MAGIC);
    struct group *g = m->group;
    struct coord *c = g->coord;
    bool waits = m->join || m->sync || !list_empty(&m->held);
    if (m->deadline_ms > c->now.mono_ms) {
        timers_arm(&c->timers, &m->session, m->deadline_ms);
    } else if (waits && !(m->is_new && m->join)) {
        /* It can do nothing but wait for us. A new one is not waited for for ever: perhaps it gave up and joined anew. */
        member_touch(m);
        if (!timer_armed(&m->session)) timers_arm(&c->timers, &m->session, m->deadline_ms);
    } else {
        g->why = "a member's session ended";
        group_event(g, COORD_MEMBER_EXPIRED, m);
        member_expel(m, ERR_UNKNOWN_MEMBER_ID);
        group_member_gone(g);
    }
}

static void pending_due(struct pending *p) {
    struct group *g = p->group;
    pending_remove(p);
    group_maybe_complete_join(g);
    group_check(g);
}

static void group_due(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    if (g->state == GROUP_PREPARING) {
        join_timer_due(g);
    } else {
        sync_timer_due(g);
    }
    group_check(g);
}

/* ---- offsets ---- */

static bool expired(const struct offset_entry *e, const struct offset_value *v) {
    const struct group *g = e->group;
    const struct coord *c = g->coord;
    bool grouped = g->protocol_type.size > 0;
    int64_t base_ms = grouped && g->state == GROUP_EMPTY && g->state_ms >= 0 ? g->state_ms : v->fresh_commit_ms;
    bool due = v->expire_ms >= 0 ? c->now.wall_ms >= v->fresh_expire_ms
                                 : c->now.wall_ms - base_ms >= c->config.offsets_retention_ms;
    if (!due || !grouped || g->state == GROUP_EMPTY) return due;
    if (g->state != GROUP_STABLE || !group_uses_consumer_protocol(g)) return false;
    bool known, subscribed = group_subscribes(g, e->topic->name, &known);
    return known && !subscribed;
}

static bool room_left(const struct coord *c) {
    return !c->open || c->open->effects.count < SWEEP_RECORDS_MAX;
}

static bool expire_entry(struct offset_entry *e, void *context) {
    struct coord *c = context;
    const struct offset_value *v = offset_newest(e);
    if (v && !e->first && expired(e, v)) offset_delete(e);
    return room_left(c);
}

/* false: there was too much to do. */
static bool sweep_group(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct coord *c = g->coord;
    if (!offset_each(g, expire_entry, c)) return false;
    if (g->state == GROUP_EMPTY && g->pendings.count == 0 && offset_live(g) == 0) {
        g->why = "it has no members and no offsets";
        if (g->has_record) group_event(g, COORD_GROUP_REMOVED, NULL);
        group_bury(g);
    }
    group_reap(g);
    return room_left(c);
}

static void offsets_due(struct coord *c) {
    CHECK_OBJ(c, COORD_MAGIC);
    size_t count = 0;
    struct group **groups = mem_alloc(c->mem, (c->groups.count + 1) * sizeof(struct group *)), *g;
    for (size_t i = 0; (g = mapstr_next(&c->groups, &i, NULL, NULL)) != NULL;) groups[count++] = g;
    ASSERT(count == c->groups.count);
    bool all = true;
    for (size_t i = 0; i < count && all; i++) all = sweep_group(groups[i]);
    mem_free(c->mem, groups);
    int64_t wait_ms = all ? c->config.offsets_check_interval_ms : SWEEP_PAUSE_MS;
    timers_arm(&c->timers, &c->offsets_timer, c->now.mono_ms + wait_ms);
}

/* ---- all of them ---- */

void coord_tick(struct coord *c, struct coord_now now) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (c->phase != COORD_ACTIVE) return;
    c->now = now;
    struct timer *t;
    while ((t = timers_first(&c->timers)) != NULL && t->due_ms <= now.mono_ms) {
        timers_disarm(&c->timers, t);
        switch (t->kind) {
        case TIMER_SESSION:
            session_due(CONTAINER_OF(t, struct member, session));
            break;
        case TIMER_PENDING:
            pending_due(CONTAINER_OF(t, struct pending, timer));
            break;
        case TIMER_GROUP:
            group_due(CONTAINER_OF(t, struct group, timer));
            break;
        case TIMER_OFFSETS:
            offsets_due(c);
            break;
        }
    }
}

int64_t coord_next_due(const struct coord *c) {
    CHECK_OBJ(c, COORD_MAGIC);
    const struct timer *t = timers_first(&c->timers);
    return t && c->phase == COORD_ACTIVE ? t->due_ms : INT64_MAX;
}
