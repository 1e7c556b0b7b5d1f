/* What the tests of the coordinator share: a coordinator, a clock that the test moves, the log that its records go to (a table, as
 * compaction would leave it), and calls whose answers can be looked at later. Writes are durable at once unless the
 * test says otherwise. */
#ifndef OXBOW_TESTS_COORD_FIXTURE_H
#define OXBOW_TESTS_COORD_FIXTURE_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/bytes.h"
#include "base/map.h"
#include "coord/coord.h"

#define WALL_MS INT64_C(1700000000000)
#define FIXTURE_BATCHES 4096

struct stored {
    size_t size;
    uint8_t bytes[];
};

struct call { /* one request and its answer */
    struct fixture *f;
    struct call *next;
    struct arena arena;
    struct coord_reply reply;
    bool done;
};

struct fixture {
    struct mem mem;
    struct coord_config config;
    struct coord *coord;
    struct coord_now now;
    struct mapstr log;
    bool manual; /* the test says when writes are durable */
    struct coord_effects batches[FIXTURE_BATCHES];
    size_t first, count; /* taken and not durable */
    size_t written;      /* records in all */
    uint64_t seed;
    struct call *calls;
    void (*on_done)(struct call *c); /* may be NULL; within the call that answers */
    void *context;
};

void fixture_init(struct fixture *f);
void fixture_deinit(struct fixture *f);
void fixture_pump(struct fixture *f);                /* takes what there is to write */
void fixture_durable(struct fixture *f, size_t n);   /* the next n batches */
void fixture_advance(struct fixture *f, int64_t ms); /* with ticks whenever one is due */
/* Unloads, and loads anew from the log. Batches that are not durable are lost. */
void fixture_reload(struct fixture *f);
/* What a crash may leave: the next n batches and so many records of the one behind them are in the log, though nobody was told;
 * to be followed by fixture_reload. */
void fixture_crash(struct fixture *f, size_t batches, size_t records);
struct call *fixture_call(struct fixture *f);

struct join_spec {
    const char *group, *member, *instance, *type, *client;
    const char *protocols[4]; /* names */
    const char *metadata;     /* of all of them; NULL: a subscription to "t" */
    struct kafka_bytes subscription;
    int version, session_ms, rebalance_ms;
};
struct call *fixture_join(struct fixture *f, struct join_spec spec);
#define JOIN(f, ...) fixture_join(f, (struct join_spec){__VA_ARGS__})

struct sync_spec {
    const char *group, *member, *instance, *type, *protocol;
    int generation, version;
    const char *assign[16]; /* member, assignment, ... */
};
struct call *fixture_sync(struct fixture *f, struct sync_spec spec);
#define SYNC(f, ...) fixture_sync(f, (struct sync_spec){__VA_ARGS__})

struct who {
    const char *group, *member, *instance;
    int generation;
};
struct call *fixture_heartbeat(struct fixture *f, struct who w);
/* Asserts that it is answered, returns the error. */
enum err fixture_beat(struct fixture *f, struct who w);
#define BEAT(f, ...) fixture_beat(f, (struct who){__VA_ARGS__})
struct call *fixture_leave(struct fixture *f, int version, struct who w);
#define LEAVE(f, version, ...) fixture_leave(f, version, (struct who){__VA_ARGS__})
enum err fixture_left(const struct call *c); /* of the only member */

struct commit_spec {
    const char *group, *member, *instance, *topic, *metadata;
    int generation; /* 0 is -1 */
    int partition, leader_epoch;
    uint8_t topic_id; /* the last byte of the topic's id; 0: none */
    int64_t offset, retention_ms, timestamp_ms;
};
struct kafka_uuid fixture_topic_id(uint8_t last);
struct call *fixture_commit(struct fixture *f, struct commit_spec spec);
#define COMMIT(f, ...) fixture_commit(f, (struct commit_spec){__VA_ARGS__})
enum err fixture_committed(const struct call *c);
/* -1: nothing. */
int64_t fixture_offset(struct fixture *f, const char *group, const char *topic, int partition);
struct call *fixture_delete_offset(struct fixture *f, const char *group, const char *topic, int partition);
enum err fixture_deleted(const struct call *c);
struct call *fixture_describe(struct fixture *f, const char *group, int version);
const char *fixture_state(struct fixture *f, const char *group);
struct call *fixture_delete_group(struct fixture *f, const char *group);

/* A subscription in ConsumerProtocol's format; in the fixture's memory until its end. */
struct kafka_bytes fixture_subscription(struct fixture *f, const char *topic1, const char *topic2);
/* NUL-terminated copies, for use as arguments. */
const char *fixture_str(struct fixture *f, struct kafka_string s);
#define MEMBER_OF(f, c) fixture_str(f, (c)->reply.answer.join->member_id)

/* A group of n members that is Stable in generation 1; ids[i] are their ids, ids[0] leads. */
void fixture_stable(struct fixture *f, const char *group, int n, const char **ids);
void fixture_assert_string(struct kafka_string s, const char *expected, int line);
#define ASSERT_STRING(s, expected) fixture_assert_string(s, expected, __LINE__)
void fixture_assert_error(const struct call *c, enum err e, int line);
#define ASSERT_ANSWER(c, e) fixture_assert_error(c, e, __LINE__)

int fixture_setup(void **state);
int fixture_teardown(void **state);
#define COORD_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
