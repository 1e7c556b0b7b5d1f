/* Life of a coordinator, its batches of records, and the answers that wait for them; and the requests that only look. */
#include "coord/coord.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "coord/group.h"
#include "kafka/error.h"

void coord_config_init(struct coord_config *c) {
    *c = (struct coord_config){
        .session_timeout_min_ms = 6000,
        .session_timeout_max_ms = 1800000,
        .group_max_size = INT32_MAX,
        .initial_rebalance_delay_ms = 3000,
        .offset_metadata_max_bytes = 4096,
        .offsets_retention_ms = INT64_C(10080) * 60 * 1000,
        .offsets_check_interval_ms = 600000,
    };
}

/* ---- life ---- */

struct coord *coord_create(struct mem *mem, const struct coord_config *config, uint64_t seed) {
    struct coord *c = MEM_NEW(mem, struct coord);
    INIT_OBJ(c, COORD_MAGIC);
    c->mem = mem;
    rng_seed(&c->rng, seed);
    coord_configure(c, config);
    mapstr_init(&c->groups, mem);
    timers_init(&c->timers, mem);
    c->offsets_timer.kind = TIMER_OFFSETS;
    map64_init(&c->batches, mem);
    c->next_sequence = 1;
    arena_init(&c->scratch, mem);
    outbuf_init(&c->out, mem);
    return c;
}

void coord_configure(struct coord *c, const struct coord_config *config) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(config->session_timeout_min_ms >= 0 && config->session_timeout_min_ms <= config->session_timeout_max_ms);
    ASSERT(config->group_max_size > 0 && config->initial_rebalance_delay_ms >= 0);
    ASSERT(config->offsets_retention_ms > 0 && config->offsets_check_interval_ms > 0);
    c->config = *config;
}

void coord_hold(struct coord *c, size_t bytes) {
    c->bytes += bytes;
}

void coord_let_go(struct coord *c, size_t bytes) {
    ASSERT(c->bytes >= bytes);
    c->bytes -= bytes;
}

size_t coord_bytes(const struct coord *c) {
    CHECK_OBJ(c, COORD_MAGIC);
    return c->bytes;
}

bool coord_is_crowded(const struct coord *c) {
    return c->config.crowded && c->config.crowded(c->config.crowded_ctx);
}

enum err coord_load(struct coord *c, const void *key, size_t key_size, const void *value, size_t value_size) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(c->phase == COORD_LOADING);
    return records_load(c, key, key_size, value, value_size);
}

/* A group as it was stored: in the middle of a rebalance if nobody has an assignment, for then the leader's was not
 * stored; too large if group.max.size was lowered. Both rebalance. */
static void start_group(struct group *g) {
    CHECK_OBJ(g, GROUP_MAGIC);
    size_t assigned = 0;
    if (g->state == GROUP_EMPTY && !g->has_record && offset_live(g) == 0) group_bury(g);
    LIST_EACH(it, &g->order) {
        struct member *m = LIST_ENTRY(it, struct member, link);
        member_touch(m);
        assigned += m->assignment.size > 0;
    }
    if (g->state == GROUP_STABLE && (assigned == 0 || g->members.count > (size_t)g->coord->config.group_max_size)) {
        group_prepare_rebalance(g);
    }
    group_check(g);
}

void coord_loaded(struct coord *c, struct coord_now now) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(c->phase == COORD_LOADING && !c->open && c->next_sequence == 1);
    c->now = now;
    c->phase = COORD_ACTIVE;
    struct group *g;
    for (size_t cursor = 0; (g = mapstr_next(&c->groups, &cursor, NULL, NULL)) != NULL;) start_group(g);
    expiry_start(c);
}

static void batch_destroy(struct coord *c, struct batch *b) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(list_empty(&b->replies) && list_empty(&b->values));
    if (!b->taken) coord_effects_deinit(&b->effects);
    mem_free(c->mem, b);
}

/* Everything that waits is answered: changes whose record is not known to be stored, and those who wait for others. */
static void end(struct coord *c) {
    CHECK_OBJ(c, COORD_MAGIC);
    c->phase = COORD_ENDED;
    for (uint64_t s = c->durable + 1; s < c->next_sequence; s++) {
        struct batch *b = batch_find(c, s);
        struct list *it;
        while ((it = list_pop_front(&b->replies)) != NULL) {
            struct coord_reply *r = LIST_ENTRY(it, struct coord_reply, link);
            reply_error(c, r, ERR_COORDINATOR_NOT_AVAILABLE, 0);
        }
    }
    struct group *g;
    for (size_t cursor = 0; (g = mapstr_next(&c->groups, &cursor, NULL, NULL)) != NULL;) {
        LIST_EACH(it, &g->order) {
            struct member *m = LIST_ENTRY(it, struct member, link);
            struct coord_reply *join = m->join, *sync = m->sync;
            m->join = m->sync = NULL;
            if (join) {
                g->joined--;
                join_fill_error(join, ERR_NOT_COORDINATOR, m->id);
                reply_finish(c, join, NULL, 0);
            }
            if (sync) reply_error(c, sync, ERR_NOT_COORDINATOR, 0);
        }
    }
    ASSERT(c->waiting == 0);
}

void coord_unload(struct coord *c) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (c->phase != COORD_ENDED) end(c);
}

void coord_write_failed(struct coord *c, uint64_t sequence) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(sequence > c->durable && sequence <= c->taken);
    if (c->phase != COORD_ENDED) end(c);
}

void coord_destroy(struct coord *c) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(c->waiting == 0);
    struct group *g;
    for (size_t cursor = 0; (g = mapstr_next(&c->groups, &cursor, NULL, NULL)) != NULL;) group_destroy(g);
    for (uint64_t s = c->durable + 1; s < c->next_sequence; s++) batch_destroy(c, map64_remove(&c->batches, s));
    ASSERT(c->members == 0 && c->bytes == 0);
    mapstr_deinit(&c->groups);
    timers_deinit(&c->timers);
    map64_deinit(&c->batches);
    arena_deinit(&c->scratch);
    outbuf_deinit(&c->out);
    c->magic = 0;
    mem_free(c->mem, c);
}

/* ---- batches ---- */

struct batch *batch_find(struct coord *c, uint64_t sequence) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct batch *b = map64_get(&c->batches, sequence);
    ASSERT(b && b->sequence == sequence);
    return b;
}

static struct batch *open_batch(struct coord *c) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (c->open) return c->open;
    struct batch *b = MEM_NEW(c->mem, struct batch);
    b->sequence = c->next_sequence++;
    b->effects.sequence = b->sequence;
    arena_init(&b->effects.arena, c->mem);
    list_init(&b->replies);
    list_init(&b->values);
    map64_put(&c->batches, b->sequence, b);
    c->open = b;
    return b;
}

uint64_t effect_add(struct coord *c, const void *key, size_t key_size, const void *value, size_t value_size) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(c->phase == COORD_ACTIVE && key_size > 0);
    struct batch *b = open_batch(c);
    struct coord_effects *e = &b->effects;
    e->records = mem_grow(c->mem, e->records, e->count, &b->record_capacity, sizeof(*e->records));
    e->records[e->count++] = (struct coord_record){
        .key = arena_copy(&e->arena, key, key_size),
        .key_size = key_size,
        .value = value ? arena_copy(&e->arena, value, value_size) : NULL,
        .value_size = value_size,
    };
    e->size_bytes += key_size + value_size;
    return b->sequence;
}

bool coord_effects_take(struct coord *c, struct coord_effects *out) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct batch *b = c->open;
    if (!b || c->phase != COORD_ACTIVE) return false;
    ASSERT(!b->taken && b->sequence == c->taken + 1 && b->effects.count > 0);
    *out = b->effects;
    b->taken = true;
    c->taken = b->sequence;
    c->open = NULL;
    return true;
}

void coord_effects_deinit(struct coord_effects *e) {
    if (e->arena.mem) mem_free(e->arena.mem, e->records);
    arena_deinit(&e->arena);
    e->records = NULL;
    e->count = 0;
}

static void deliver(struct coord *c, struct coord_reply *r) {
    CHECK_OBJ(c, COORD_MAGIC);
    struct member *m = r->member;
    list_remove(&r->member_link);
    r->member = NULL;
    if (m && c->phase == COORD_ACTIVE) {
        /* Only now can the member know what it has to do next. */
        member_touch(m);
        if (r->kind == REPLY_JOIN && m->pending_sync) sync_arm_timer(m->group);
    }
    ASSERT(c->waiting > 0);
    c->waiting--;
    r->done(r);
}

void coord_durable(struct coord *c, struct coord_now now, uint64_t sequence) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(sequence <= c->taken);
    if (c->phase != COORD_ACTIVE) return;
    c->now = now;
    while (c->durable < sequence) {
        struct batch *b = batch_find(c, c->durable + 1);
        ASSERT(b->taken);
        c->durable++;
        struct list *it;
        while ((it = list_pop_front(&b->values)) != NULL) {
            offset_value_durable(c, LIST_ENTRY(it, struct offset_value, batch_link));
        }
        while ((it = list_pop_front(&b->replies)) != NULL) deliver(c, LIST_ENTRY(it, struct coord_reply, link));
        map64_remove(&c->batches, b->sequence);
        batch_destroy(c, b);
    }
}

/* ---- replies ---- */

void reply_init(struct coord *c, struct coord_reply *r, enum reply_kind kind, int16_t api_version) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(r->done != NULL);
    r->kind = (uint8_t)kind;
    r->api_version = api_version;
    r->error = OK;
    r->member = NULL;
    list_init(&r->link);
    list_init(&r->member_link);
    if (kind == REPLY_JOIN) r->answer.join = kafka_join_group_response_new(r->arena, 1);
    if (kind == REPLY_SYNC) r->answer.sync = kafka_sync_group_response_new(r->arena, 1);
    if (kind == REPLY_LEAVE) r->answer.leave = kafka_leave_group_response_new(r->arena, 1);
    if (kind == REPLY_DESCRIBE) r->answer.describe = kafka_describe_groups_response_group_new(r->arena, 1);
    c->waiting++;
}

bool reply_begin(struct coord *c, struct coord_reply *r, enum reply_kind kind, int16_t api_version) {
    reply_init(c, r, kind, api_version);
    return reply_serve(c, r);
}

bool reply_serve(struct coord *c, struct coord_reply *r) {
    CHECK_OBJ(c, COORD_MAGIC);
    if (c->phase == COORD_ACTIVE) return true;
    enum reply_kind kind = r->kind;
    enum err e = c->phase == COORD_LOADING ? ERR_COORDINATOR_LOAD_IN_PROGRESS : ERR_NOT_COORDINATOR;
    if (c->phase == COORD_LOADING && kind == REPLY_HEARTBEAT) e = OK;
    /* Old clients do not expect LOAD_IN_PROGRESS from SyncGroup; a rebalance is what it comes to. */
    if (c->phase == COORD_LOADING && kind == REPLY_SYNC) e = ERR_REBALANCE_IN_PROGRESS;
    reply_error(c, r, e, 0);
    return false;
}

void reply_finish(struct coord *c, struct coord_reply *r, struct member *m, uint64_t hold) {
    CHECK_OBJ(c, COORD_MAGIC);
    ASSERT(list_empty(&r->link) && hold < c->next_sequence);
    if (r->kind == REPLY_COMMIT && mutant_is(c->config.mutant, MUTANT_OFFSETS_EARLY)) hold = 0;
    if (r->kind != REPLY_COMMIT && mutant_is(c->config.mutant, MUTANT_GROUP_EARLY)) hold = 0;
    if (hold <= c->durable) {
        deliver(c, r);
        return;
    }
    if (m) {
        CHECK_OBJ(m, MEMBER_MAGIC);
        r->member = m;
        list_push_back(&m->held, &r->member_link);
    }
    list_push_back(&batch_find(c, hold)->replies, &r->link);
}

static void set_item_errors(struct coord_reply *r, enum err e) {
    struct coord_commit_item *items = r->items;
    for (size_t i = 0; i < r->item_count; i++) {
        if (items[i].error == OK) items[i].error = e;
    }
}

void reply_set_error(struct coord_reply *r, enum err e) {
    r->error = e;
    int16_t code = kafka_error_of(e);
    switch ((enum reply_kind)r->kind) {
    case REPLY_JOIN:
        join_fill_error(r, e, r->answer.join->member_id);
        return;
    case REPLY_SYNC:
        kafka_sync_group_response_init(r->answer.sync);
        r->answer.sync->error_code = code;
        return;
    case REPLY_LEAVE:
        kafka_leave_group_response_init(r->answer.leave);
        r->answer.leave->error_code = code;
        return;
    case REPLY_DESCRIBE: {
        struct kafka_string id = r->answer.describe->group_id;
        kafka_describe_groups_response_group_init(r->answer.describe);
        r->answer.describe->group_id = id;
        r->answer.describe->error_code = code;
        return;
    }
    case REPLY_COMMIT:
        set_item_errors(r, e);
        return;
    case REPLY_HEARTBEAT:
    case REPLY_DELETE_OFFSETS:
    case REPLY_DELETE_GROUP:
        return;
    }
    UNREACHABLE();
}

void reply_error(struct coord *c, struct coord_reply *r, enum err e, uint64_t hold) {
    reply_set_error(r, e);
    reply_finish(c, r, NULL, hold);
}

/* ---- looking ---- */

static void describe_members(const struct group *g, struct coord_reply *r) {
    CHECK_OBJ(g, GROUP_MAGIC);
    struct kafka_describe_groups_response_group *out = r->answer.describe;
    out->members.items = kafka_describe_groups_response_member_new(r->arena, g->members.count);
    bool stable = g->state == GROUP_STABLE;
    LIST_EACH(it, &g->order) {
        const struct member *m = LIST_ENTRY(it, struct member, link);
        struct kafka_describe_groups_response_member *o = &out->members.items[out->members.count++];
        o->member_id = text_in(r->arena, m->id);
        o->group_instance_id = text_in(r->arena, m->instance_id);
        o->client_id = text_in(r->arena, m->client_id);
        o->client_host = text_in(r->arena, m->host);
        if (!stable) continue;
        o->member_metadata = bytes_in(r->arena, member_metadata(m, g->protocol));
        o->member_assignment = bytes_in(r->arena, m->assignment);
    }
    ASSERT((size_t)out->members.count == g->members.count);
}

void coord_describe(struct coord *c, int16_t api_version, struct kafka_string group_id, struct coord_reply *reply) {
    reply_init(c, reply, REPLY_DESCRIBE, api_version);
    struct kafka_describe_groups_response_group *out = reply->answer.describe;
    out->group_id = text_in(reply->arena, group_id);
    if (!reply_serve(c, reply)) return;
    if (group_id.size < 0) {
        reply_error(c, reply, ERR_INVALID_GROUP_ID, 0);
        return;
    }
    const struct group *g = group_find(c, group_id);
    if (!g) {
        out->group_state = kafka_string_of(group_state_name(GROUP_DEAD));
        if (api_version >= 6) {
            reply->error = ERR_GROUP_ID_NOT_FOUND;
            out->error_code = KAFKA_GROUP_ID_NOT_FOUND;
            out->error_message =
                kafka_string_of(arena_printf(reply->arena, "Group %.*s not found.", (int)group_id.size, group_id.data));
        }
        reply_finish(c, reply, NULL, group_hold(c, group_id));
        return;
    }
    out->group_state = kafka_string_of(group_state_name(g->state));
    if (g->protocol_type.size > 0) out->protocol_type = text_in(reply->arena, g->protocol_type);
    if (g->state == GROUP_STABLE) out->protocol_data = text_in(reply->arena, g->protocol);
    describe_members(g, reply);
    reply_finish(c, reply, NULL, g->hold);
}

static bool passes(const struct kafka_string_array *filter, const char *name) {
    if (!filter || filter->count <= 0) return true;
    for (int32_t i = 0; i < filter->count; i++) {
        struct kafka_string s = filter->items[i];
        if (s.size == (int32_t)strlen(name) && strncasecmp(s.data, name, (size_t)s.size) == 0) return true;
    }
    return false;
}

static int compare_text(struct kafka_string a, struct kafka_string b) {
    size_t n = (size_t)(a.size < b.size ? a.size : b.size);
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_listed(const void *a, const void *b) {
    const struct kafka_list_groups_response_group *x = a, *y = b;
    return compare_text(x->group_id, y->group_id);
}

enum err coord_list(struct coord *c, const struct kafka_string_array *states, const struct kafka_string_array *types,
                    struct kafka_list_groups_response_group_array *out, struct arena *arena) {
    CHECK_OBJ(c, COORD_MAGIC);
    out->items = NULL;
    out->count = 0;
    if (c->phase != COORD_ACTIVE) {
        return c->phase == COORD_LOADING ? ERR_COORDINATOR_LOAD_IN_PROGRESS : ERR_NOT_COORDINATOR;
    }
    if (!passes(types, "classic")) return OK;
    out->items = kafka_list_groups_response_group_new(arena, c->groups.count);
    const struct group *g;
    for (size_t cursor = 0; (g = mapstr_next(&c->groups, &cursor, NULL, NULL)) != NULL;) {
        if (g->state == GROUP_DEAD || !passes(states, group_state_name(g->state))) continue;
        struct kafka_list_groups_response_group *o = &out->items[out->count++];
        o->group_id = text_in(arena, g->id);
        if (g->protocol_type.size > 0) o->protocol_type = text_in(arena, g->protocol_type);
        o->group_state = kafka_string_of(group_state_name(g->state));
        o->group_type = kafka_string_of("classic");
    }
    if (out->count > 1) qsort(out->items, (size_t)out->count, sizeof(*out->items), compare_listed);
    return OK;
}

static bool tombstone(struct offset_entry *e, void *context) {
    (void)context;
    if (offset_newest(e)) offset_delete(e);
    return true;
}

void coord_delete_group(struct coord *c, struct coord_now now, struct kafka_string group_id,
                        struct coord_reply *reply) {
    if (!reply_begin(c, reply, REPLY_DELETE_GROUP, 0)) return;
    c->now = now;
    struct group *g = group_find(c, group_id);
    if (group_id.size < 0) {
        reply_error(c, reply, ERR_INVALID_GROUP_ID, 0);
    } else if (!g) {
        reply_error(c, reply, ERR_GROUP_ID_NOT_FOUND, group_hold(c, group_id));
    } else if (g->state != GROUP_EMPTY) {
        reply_error(c, reply, ERR_NON_EMPTY_GROUP, g->hold);
    } else {
        offset_each(g, tombstone, NULL);
        group_bury(g);
        /* Its offsets' tombstones count too: whatever this call wrote lies in the open batch. */
        if (c->open) g->hold = c->open->sequence;
        uint64_t hold = g->hold;
        group_reap(g);
        reply_finish(c, reply, NULL, hold);
    }
}

void coord_counts(const struct coord *c, struct coord_counts *out) {
    CHECK_OBJ(c, COORD_MAGIC);
    _Static_assert(ARRAY_LEN(((struct coord_counts *)0)->by_state) == GROUP_STATE_COUNT, "one count for each state");
    *out = (struct coord_counts){.members = c->members, .waiting = c->waiting};
    const struct group *g;
    for (size_t cursor = 0; (g = mapstr_next(&c->groups, &cursor, NULL, NULL)) != NULL;) {
        out->by_state[g->state]++;
        if (g->state != GROUP_DEAD) out->groups++;
        out->offsets += offset_live(g);
    }
}
