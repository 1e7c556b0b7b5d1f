#include "broker/crew.h"

#include "base/assert.h"

struct crew {
    size_t next, count;
    void (*fn)(void *ctx, size_t i);
    void *ctx;
    struct waitgroup members;
};

static void crew_work(struct crew *c) {
    while (c->next < c->count) c->fn(c->ctx, c->next++);
}

static void crew_member(void *arg) {
    struct crew *c = arg;
    crew_work(c);
    waitgroup_done(&c->members);
}

void crew_run(const char *name, size_t count, size_t width, void (*fn)(void *ctx, size_t i), void *ctx) {
    ASSERT(width > 0);
    struct crew c = {.count = count, .fn = fn, .ctx = ctx};
    waitgroup_init(&c.members);
    for (size_t i = 1; i < width && i < count; i++) {
        waitgroup_add(&c.members);
        fiber_spawn(loop_current(), name, crew_member, &c);
    }
    crew_work(&c);
    waitgroup_wait(&c.members);
}
