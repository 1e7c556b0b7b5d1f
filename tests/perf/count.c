#include <stdbool.h>

#include "count.h"

#include <stdio.h>
#include <valgrind/callgrind.h>

#include "rt/env.h"

static const struct env *counted;
static bool counting;

/* The linker puts ours in the place of loop_step_one (--wrap in tests/meson.build). */
bool __real_loop_step_one(struct loop *l, uint64_t now_ns, uint64_t choice);
bool __wrap_loop_step_one(struct loop *l, uint64_t now_ns, uint64_t choice);

bool __wrap_loop_step_one(struct loop *l, uint64_t now_ns, uint64_t choice) {
    if (!counting || !counted || l->env != counted) return __real_loop_step_one(l, now_ns, choice);
    CALLGRIND_TOGGLE_COLLECT;
    bool stepped = __real_loop_step_one(l, now_ns, choice);
    CALLGRIND_TOGGLE_COLLECT;
    return stepped;
}

void count_only(const struct env *e) {
    counted = e;
}

void count_begin(void) {
    ASSERT(!counting);
    counting = true;
    CALLGRIND_ZERO_STATS;
    if (!counted) CALLGRIND_TOGGLE_COLLECT;
}

void count_end(const char *name, uint64_t units, const char *unit) {
    if (!counted) CALLGRIND_TOGGLE_COLLECT;
    ASSERT(counting);
    counting = false;
    CALLGRIND_DUMP_STATS_AT(name);
    (void)printf("count %s %lu %s\n", name, units, unit);
}
