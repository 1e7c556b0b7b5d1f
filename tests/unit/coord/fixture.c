#include "unit/coord/fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "kafka/error.h"

static void done(struct coord_reply *r) {
    struct call *c = CONTAINER_OF(r, struct call, reply);
    assert_false(c->done); /* exactly once */
    c->done = true;
    if (c->f->on_done) c->f->on_done(c);
}

struct call *fixture_call(struct fixture *f) {
    struct call *c = MEM_NEW(&f->mem, struct call);
    c->f = f;
    arena_init(&c->arena, &f->mem);
    c->reply.arena = &c->arena;
    c->reply.done = done;
    c->next = f->calls;
    f->calls = c;
    return c;
}

static void create(struct fixture *f) {
    f->coord = coord_create(&f->mem, &f->config, ++f->seed);
    struct stored *s;
    const char *key;
    size_t size;
    for (size_t i = 0; (s = mapstr_next(&f->log, &i, &key, &size)) != NULL;) {
        assert_int_equal(coord_load(f->coord, key, size, s->bytes, s->size), OK);
    }
    coord_loaded(f->coord, f->now);
    fixture_pump(f);
}

void fixture_init(struct fixture *f) {
    memset(f, 0, sizeof(*f));
    mem_init_heap(&f->mem);
    coord_config_init(&f->config);
    f->now = (struct coord_now){.mono_ms = 1000, .wall_ms = WALL_MS};
    mapstr_init(&f->log, &f->mem);
    create(f);
}

static void destroy(struct fixture *f) {
    coord_unload(f->coord);
    for (struct call *c = f->calls; c; c = c->next) assert_true(c->done);
    coord_destroy(f->coord);
    for (; f->count > 0; f->count--) coord_effects_deinit(&f->batches[f->first++ % FIXTURE_BATCHES]);
}

void fixture_deinit(struct fixture *f) {
    destroy(f);
    while (f->calls) {
        struct call *c = f->calls;
        assert_true(c->done); /* unloading answers what waits */
        f->calls = c->next;
        arena_deinit(&c->arena);
        mem_free(&f->mem, c);
    }
    struct stored *s;
    for (size_t i = 0; (s = mapstr_next(&f->log, &i, NULL, NULL)) != NULL;) mem_free(&f->mem, s);
    mapstr_deinit(&f->log);
    assert_int_equal(f->mem.allocated_bytes, 0);
}

static void apply(struct fixture *f, const struct coord_effects *e, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct coord_record *r = &e->records[i];
        struct stored *s = NULL;
        if (r->value) {
            s = mem_alloc(&f->mem, sizeof(*s) + r->value_size);
            s->size = r->value_size;
            memcpy(s->bytes, r->value, r->value_size);
            mem_free(&f->mem, mapstr_put(&f->log, r->key, r->key_size, s));
        } else {
            mem_free(&f->mem, mapstr_remove(&f->log, r->key, r->key_size));
        }
    }
}

void fixture_pump(struct fixture *f) {
    struct coord_effects e;
    while (coord_effects_take(f->coord, &e)) {
        assert_true(f->count < FIXTURE_BATCHES && e.count > 0);
        f->batches[(f->first + f->count++) % FIXTURE_BATCHES] = e;
        f->written += e.count;
        if (!f->manual) fixture_durable(f, f->count);
    }
}

void fixture_durable(struct fixture *f, size_t n) {
    while (n-- > 0) {
        assert_true(f->count > 0);
        struct coord_effects *e = &f->batches[f->first % FIXTURE_BATCHES];
        apply(f, e, e->count);
        uint64_t sequence = e->sequence;
        coord_effects_deinit(e);
        f->first++;
        f->count--;
        coord_durable(f->coord, f->now, sequence);
    }
    if (!f->manual) fixture_pump(f);
}

void fixture_advance(struct fixture *f, int64_t ms) {
    int64_t end = f->now.mono_ms + ms;
    for (;;) {
        int64_t due = coord_next_due(f->coord);
        int64_t to = due < end ? due : end;
        if (to > f->now.mono_ms) {
            f->now.wall_ms += to - f->now.mono_ms;
            f->now.mono_ms = to;
        }
        if (due > end) return;
        coord_tick(f->coord, f->now);
        fixture_pump(f);
    }
}

void fixture_crash(struct fixture *f, size_t batches, size_t records) {
    for (size_t i = 0; i <= batches && i < f->count; i++) {
        const struct coord_effects *e = &f->batches[(f->first + i) % FIXTURE_BATCHES];
        apply(f, e, i < batches || records > e->count ? e->count : records);
    }
}

void fixture_reload(struct fixture *f) {
    destroy(f);
    create(f);
}

static struct kafka_string str(const char *s) {
    return kafka_string_of(s ? s : "");
}

static struct kafka_bytes bytes_of(const char *s) {
    return (struct kafka_bytes){(const uint8_t *)s, (int32_t)strlen(s)};
}

struct call *fixture_join(struct fixture *f, struct join_spec spec) {
    struct call *c = fixture_call(f);
    struct kafka_join_group_request r;
    kafka_join_group_request_init(&r);
    struct kafka_join_group_request_protocol protocols[4];
    for (int i = 0; i < 4 && spec.protocols[i]; i++) {
        protocols[i].name = kafka_string_of(spec.protocols[i]);
        protocols[i].metadata = spec.metadata            ? bytes_of(spec.metadata)
                                : spec.subscription.size ? spec.subscription
                                                         : fixture_subscription(f, "t", NULL);
        r.protocols.count++;
    }
    r.protocols.items = protocols;
    r.group_id = str(spec.group);
    r.member_id = str(spec.member);
    r.group_instance_id = kafka_string_of(spec.instance);
    r.protocol_type = kafka_string_of(spec.type ? spec.type : "consumer");
    r.session_timeout_ms = spec.session_ms ? spec.session_ms : 10000;
    r.rebalance_timeout_ms = spec.rebalance_ms ? spec.rebalance_ms : 60000;
    struct coord_client client = {.client_id = str(spec.client ? spec.client : "client"),
                                  .host = kafka_string_of("/127.0.0.1"),
                                  .api_version = (int16_t)spec.version};
    coord_join(f->coord, f->now, &client, &r, &c->reply);
    fixture_pump(f);
    return c;
}

struct call *fixture_sync(struct fixture *f, struct sync_spec spec) {
    struct call *c = fixture_call(f);
    struct kafka_sync_group_request r;
    kafka_sync_group_request_init(&r);
    struct kafka_sync_group_request_assignment a[8];
    for (int i = 0; i < 8 && spec.assign[2 * i]; i++) {
        a[i].member_id = kafka_string_of(spec.assign[2 * i]);
        a[i].assignment = bytes_of(spec.assign[2 * i + 1]);
        r.assignments.count++;
    }
    r.assignments.items = a;
    r.group_id = str(spec.group);
    r.member_id = str(spec.member);
    r.group_instance_id = kafka_string_of(spec.instance);
    r.generation_id = spec.generation;
    r.protocol_type = kafka_string_of(spec.type);
    r.protocol_name = kafka_string_of(spec.protocol);
    coord_sync(f->coord, f->now, (int16_t)spec.version, &r, &c->reply);
    fixture_pump(f);
    return c;
}

struct call *fixture_heartbeat(struct fixture *f, struct who w) {
    struct call *c = fixture_call(f);
    struct kafka_heartbeat_request r;
    kafka_heartbeat_request_init(&r);
    r.group_id = str(w.group);
    r.member_id = str(w.member);
    r.group_instance_id = kafka_string_of(w.instance);
    r.generation_id = w.generation;
    coord_heartbeat(f->coord, f->now, &r, &c->reply);
    fixture_pump(f);
    return c;
}

enum err fixture_beat(struct fixture *f, struct who w) {
    struct call *c = fixture_heartbeat(f, w);
    assert_true(c->done);
    return c->reply.error;
}

struct call *fixture_leave(struct fixture *f, int version, struct who w) {
    struct call *c = fixture_call(f);
    struct kafka_leave_group_request r;
    kafka_leave_group_request_init(&r);
    struct kafka_leave_group_request_member m;
    kafka_leave_group_request_member_init(&m);
    r.group_id = str(w.group);
    if (version < 3) {
        r.member_id = str(w.member);
    } else {
        m.member_id = str(w.member);
        m.group_instance_id = kafka_string_of(w.instance);
        r.members.items = &m;
        r.members.count = 1;
    }
    coord_leave(f->coord, f->now, (int16_t)version, &r, &c->reply);
    fixture_pump(f);
    return c;
}

static enum err error_of(int16_t code) {
    for (int e = 0; e < ERR_COUNT; e++) {
        if (kafka_error_of((enum err)e) == code && code != KAFKA_UNKNOWN_SERVER_ERROR) return (enum err)e;
    }
    fail_msg("no error has code %d", code);
    return OK;
}

enum err fixture_left(const struct call *c) {
    assert_true(c->done);
    const struct kafka_leave_group_response *r = c->reply.answer.leave;
    assert_int_equal(r->error_code, kafka_error_of(c->reply.error));
    return r->members.count > 0 ? error_of(r->members.items[0].error_code) : c->reply.error;
}

struct kafka_uuid fixture_topic_id(uint8_t last) {
    struct kafka_uuid id = {{0}};
    id.bytes[15] = last;
    return id;
}

struct call *fixture_commit(struct fixture *f, struct commit_spec spec) {
    struct call *c = fixture_call(f);
    struct coord_commit_item *item = ARENA_NEW(&c->arena, struct coord_commit_item);
    *item = (struct coord_commit_item){
        .topic = kafka_string_of(spec.topic ? spec.topic : "t"),
        .topic_id = fixture_topic_id(spec.topic_id),
        .partition = spec.partition,
        .leader_epoch = spec.leader_epoch ? spec.leader_epoch : -1,
        .offset = spec.offset,
        .commit_timestamp_ms = spec.timestamp_ms ? spec.timestamp_ms : -1,
        .metadata = kafka_string_of(spec.metadata),
    };
    struct coord_commit commit = {
        .group_id = str(spec.group),
        .member_id = str(spec.member),
        .group_instance_id = kafka_string_of(spec.instance),
        .generation = spec.generation ? spec.generation : -1,
        .retention_ms = spec.retention_ms ? spec.retention_ms : -1,
        .items = item,
        .item_count = 1,
    };
    coord_commit_offsets(f->coord, f->now, &commit, &c->reply);
    fixture_pump(f);
    return c;
}

enum err fixture_committed(const struct call *c) {
    assert_true(c->done);
    const struct coord_commit_item *item = c->reply.items;
    if (c->reply.error) assert_int_equal(item->error, c->reply.error);
    return item->error;
}

int64_t fixture_offset(struct fixture *f, const char *group, const char *topic, int partition) {
    struct arena a;
    arena_init(&a, &f->mem);
    struct coord_offset_item item = {.topic = kafka_string_of(topic), .partition = partition};
    struct coord_fetch fetch = {.group_id = kafka_string_of(group), .items = &item, .item_count = 1};
    assert_int_equal(coord_fetch_offsets(f->coord, &fetch, &a), OK);
    assert_int_equal(item.error, OK);
    arena_deinit(&a);
    return item.offset;
}

struct call *fixture_delete_offset(struct fixture *f, const char *group, const char *topic, int partition) {
    struct call *c = fixture_call(f);
    struct coord_delete_item *item = ARENA_NEW(&c->arena, struct coord_delete_item);
    *item = (struct coord_delete_item){.topic = kafka_string_of(topic), .partition = partition};
    c->reply.context = item;
    coord_delete_offsets(f->coord, f->now, kafka_string_of(group), item, 1, &c->reply);
    fixture_pump(f);
    return c;
}

enum err fixture_deleted(const struct call *c) {
    assert_true(c->done);
    const struct coord_delete_item *item = c->reply.context;
    return c->reply.error ? c->reply.error : item->error;
}

struct call *fixture_describe(struct fixture *f, const char *group, int version) {
    struct call *c = fixture_call(f);
    coord_describe(f->coord, (int16_t)version, kafka_string_of(group), &c->reply);
    return c;
}

const char *fixture_state(struct fixture *f, const char *group) {
    struct call *c = fixture_describe(f, group, 5);
    return fixture_str(f, c->reply.answer.describe->group_state);
}

struct call *fixture_delete_group(struct fixture *f, const char *group) {
    struct call *c = fixture_call(f);
    coord_delete_group(f->coord, f->now, kafka_string_of(group), &c->reply);
    fixture_pump(f);
    return c;
}

struct kafka_bytes fixture_subscription(struct fixture *f, const char *topic1, const char *topic2) {
    struct call *keep = fixture_call(f); /* only for its arena */
    keep->done = true;
    uint8_t *out = arena_zalloc(&keep->arena, 256);
    size_t at = 6;
    const char *topics[] = {topic1, topic2};
    for (int i = 0; i < 2 && topics[i]; i++) {
        size_t n = strlen(topics[i]);
        be16_put(out + at, (uint16_t)n);
        memcpy(out + at + 2, topics[i], n);
        at += 2 + n;
        be32_put(out + 2, (uint32_t)(i + 1));
    }
    be32_put(out + at, 0xffffffffu); /* no user data */
    return (struct kafka_bytes){out, (int32_t)at + 4};
}

const char *fixture_str(struct fixture *f, struct kafka_string s) {
    struct call *keep = fixture_call(f);
    keep->done = true;
    assert_true(s.size >= 0);
    return arena_strndup(&keep->arena, s.data, (size_t)s.size);
}

void fixture_stable(struct fixture *f, const char *group, int n, const char **ids) {
    struct call *joins[8];
    for (int i = 0; i < n; i++) joins[i] = JOIN(f, .group = group, .protocols = {"range"}, .version = 3);
    fixture_advance(f, f->config.initial_rebalance_delay_ms * (n > 1 ? 2 : 1));
    struct sync_spec lead = {.group = group, .generation = 1, .version = 3};
    for (int i = 0; i < n; i++) {
        assert_true(joins[i]->done);
        assert_int_equal(joins[i]->reply.error, OK);
        assert_int_equal(joins[i]->reply.answer.join->generation_id, 1);
        ids[i] = MEMBER_OF(f, joins[i]);
        lead.assign[2 * i] = ids[i];
        lead.assign[2 * i + 1] = "assigned";
    }
    lead.member = ids[0];
    assert_int_equal(fixture_sync(f, lead)->reply.error, OK);
    for (int i = 1; i < n; i++) {
        struct call *c = SYNC(f, .group = group, .member = ids[i], .generation = 1);
        assert_true(c->done);
        assert_int_equal(c->reply.answer.sync->assignment.size, 8);
    }
}

void fixture_assert_string(struct kafka_string s, const char *expected, int line) {
    if (!expected ? s.size >= 0 : !kafka_string_equal(s, kafka_string_of(expected))) {
        fail_msg("line %d: \"%.*s\", expected \"%s\"", line, s.size < 0 ? 4 : (int)s.size, s.size < 0 ? "null" : s.data,
                 expected ? expected : "null");
    }
}

void fixture_assert_error(const struct call *c, enum err e, int line) {
    if (!c->done) fail_msg("line %d: not answered", line);
    if (c->reply.error != e) fail_msg("line %d: %s, expected %s", line, err_name(c->reply.error), err_name(e));
}

int fixture_setup(void **state) {
    static struct fixture f; /* one test at a time */
    fixture_init(&f);
    *state = &f;
    return 0;
}

int fixture_teardown(void **state) {
    fixture_deinit(*state);
    return 0;
}
