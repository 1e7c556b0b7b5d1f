/* A world for tests of the object log: one loop on virtual time, real fibers, and an object store in memory whose
 * answers are scripted.
 *
 * Each request takes the next plan made for its operation and number, or the default. A plan says how long the request
 * takes, whether the store does it (now, never, or some time after the answer) and what it answers. Nothing is left to
 * chance but what a test draws from f->rng. */
#ifndef OXBOW_TESTS_OBJLOG_FIXTURE_H
#define OXBOW_TESTS_OBJLOG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/random.h"
#include "objlog/objlog.h"
#include "rt/env.h"
#include "rt/fiber.h"

enum effect { DONE, NOT_DONE, DONE_LATER };

struct plan {
    uint64_t delay_ms;
    enum effect effect;
    enum err answer;   /* OK: what really happened */
    uint64_t later_ms; /* DONE_LATER: that long after the answer */
};

struct object {
    char *key;
    uint8_t *data;
    size_t size;
};

struct planned {
    enum store_op op;
    uint64_t number;
    struct plan plan;
};

struct fixture {
    struct env env; /* first */
    struct mem mem;
    struct logger logger;
    struct metrics metrics;
    struct loop loop;
    struct store store;
    uint64_t now_ns;
    struct rng rng;

    struct object *objects; /* sorted by key */
    size_t object_count, object_capacity;
    struct planned *plans;
    size_t plan_count, plan_capacity;
    /* For every request without a plan; may be NULL. */
    struct plan (*improvise)(struct fixture *f, enum store_op op, const char *key);
    /* Called when a request of that kind begins; may be NULL. May suspend. */
    void (*watch)(struct fixture *f, enum store_op op, uint64_t number);
    void *watch_ctx;
    uint64_t requests[STORE_OPS];
    unsigned put_now, put_most; /* creates under way, and the most that ever were */
    char log[65536];
    size_t log_size;
};

#define PREFIX "test/log"

struct fixture *fixture_create(uint64_t seed);
void fixture_destroy(struct fixture *f);
/* Runs fn(arg) in a fiber, and all that it starts, until nothing is left to do. */
void fixture_run(struct fixture *f, fiber_fn *fn, void *arg);
void fixture_plan(struct fixture *f, enum store_op op, uint64_t number, struct plan plan);
void fixture_spawn(struct fixture *f, fiber_fn *fn, void *arg);
unsigned fixture_log_count(const struct fixture *f, const char *text);

struct object *fixture_object(struct fixture *f, uint64_t number);
void fixture_object_set(struct fixture *f, const char *key, const void *data, size_t size);
void fixture_object_remove(struct fixture *f, uint64_t number);
/* Puts an entry of another writer there. previous NULL: the nonce of the entry below, if there is one. Returns its
 * nonce. */
struct objlog_nonce fixture_entry(struct fixture *f, enum objlog_kind kind, uint64_t number, uint64_t boundary,
                                  const char *head, const struct objlog_nonce *previous);
struct objlog_header fixture_header(struct fixture *f, uint64_t number);

struct objlog *fixture_log(struct fixture *f, unsigned depth, uint64_t writer);

/* What a replay saw: "1:head 2:head ", "|" at a reset; fences and elections with a letter before the number. */
struct seen {
    struct fixture *fixture;
    char text[16384];
    size_t size;
    enum err fail_with; /* apply() returns it at fail_at */
    uint64_t fail_at;
    uint64_t sleep_ms; /* apply() takes that long */
};
struct objlog_replay fixture_replay(struct fixture *f, struct seen *s);

#endif
