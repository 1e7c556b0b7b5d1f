/* What can be said about environments without knowing which one it is. */
#include "rt/env.h"

#include "base/assert.h"

void env_backoff(struct env *e, unsigned attempt, uint64_t base_ns, uint64_t cap_ns) {
    CHECK_OBJ(e, ENV_MAGIC);
    uint64_t limit = attempt < 64 && base_ns <= cap_ns >> attempt ? base_ns << attempt : cap_ns;
    if (limit > cap_ns) limit = cap_ns;
    uint64_t r;
    env_random(e, &r, sizeof(r));
    fiber_sleep_ns(limit == UINT64_MAX ? r : r % (limit + 1));
}
