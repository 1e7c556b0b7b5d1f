/* Does this store create conditionally? Everything rests on it, and there are stores, and settings of stores, that take
 * the condition and ignore it. So it is tried before anything is written: a probe is created twice; in full, eight
 * fibers also create one object at once. Exactly one may succeed each time, and what lies there afterwards must be that
 * one's bytes.
 *
 * An attempt with an unclear answer (the store was busy or slow) proves nothing either way: it is repeated with another
 * key. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "rt/fiber.h"
#include "store/store.h"

#define RACERS 8u
#define ATTEMPTS_MAX 6u
#define PROBE_KEY_MAX 600u
#define PROBE_NAME "probe-"
#define LEFTOVERS_MAX 1000u
#define LEFTOVERS_BATCH 64u

struct probe {
    struct store *store;
    char key[PROBE_KEY_MAX];
    enum err results[RACERS];
    struct waitgroup running;
};
struct racer {
    struct probe *probe;
    unsigned index;
};

static size_t racer_bytes(unsigned index, char out[32]) {
    return (size_t)snprintf(out, 32, "probe %u\n", index);
}

static enum err probe_create(struct probe *p, unsigned index) {
    char bytes[32];
    struct slice data = slice_borrow(bytes, racer_bytes(index, bytes));
    return store_put(p->store, p->key, &data, 1, true, STORE_FOR_OTHER);
}

static void race(void *arg) {
    struct racer *r = arg;
    r->probe->results[r->index] = probe_create(r->probe, r->index);
    waitgroup_done(&r->probe->running);
}

static void probe_name(struct probe *p, const char *prefix) {
    uint64_t random;
    env_random(p->store->env, &random, sizeof(random));
    int n = snprintf(p->key, sizeof(p->key), "%s/" PROBE_NAME "%016" PRIx64, prefix, random);
    ASSERT(n > 0 && (size_t)n < sizeof(p->key));
}

/* OK: it behaved. ERR_UNSUPPORTED: it did not. Else: nothing is proven, and this is why. */
static enum err judge(struct probe *p, unsigned count, const char **why) {
    unsigned created = 0, winner = 0;
    enum err unclear = OK;
    for (unsigned i = 0; i < count; i++) {
        if (p->results[i] == OK) {
            created++;
            winner = i;
        } else if (p->results[i] != ERR_EXISTS) {
            unclear = p->results[i];
        }
    }
    if (created > 1) {
        *why =
            "the object store lets a second create of one object succeed: it ignores the condition 'only if absent', and cannot be used";
        return ERR_UNSUPPORTED;
    }
    if (unclear != OK) return unclear;
    /* One landed whose answer was lost, and the store's own repetition met it? Unclear; a store that says so each
     * time is refused in the end. */
    if (created == 0) return ERR_EXISTS;
    char bytes[32];
    size_t size = racer_bytes(winner, bytes);
    struct slice found = {0};
    enum err e = store_get(p->store, p->key, 0, sizeof(bytes), STORE_FOR_OTHER, &found);
    if (e == ERR_NOT_FOUND || (e == OK && (found.size != size || memcmp(found.data, bytes, size) != 0))) {
        *why = "the object store does not give back what the one successful create of an object wrote";
        e = ERR_UNSUPPORTED;
    }
    slice_unref(&found);
    return e;
}

static enum err probe_twice(struct probe *p, const char **why) {
    for (unsigned i = 0; i < 2; i++) p->results[i] = probe_create(p, i);
    enum err e = judge(p, 2, why);
    if (e == OK && p->results[0] != OK) {
        *why = "the object store let the second of two creates win";
        return ERR_UNSUPPORTED;
    }
    return e;
}

static enum err probe_race(struct probe *p, const char **why) {
    struct racer racers[RACERS];
    waitgroup_init(&p->running);
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){p, i};
        waitgroup_add(&p->running);
        (void)fiber_spawn(loop_current(), "store probe", race, &racers[i]);
    }
    waitgroup_wait(&p->running);
    return judge(p, RACERS, why);
}

static enum err probe_until_clear(struct store *s, const char *prefix, enum err (*run)(struct probe *, const char **),
                                  const char **why) {
    enum err e = OK;
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        if (attempt > 0) env_backoff(s->env, attempt, 50 * NS_PER_MS, 2 * NS_PER_S);
        struct probe p = {.store = s};
        probe_name(&p, prefix);
        e = run(&p, why);
        const char *key = p.key;
        /* A probe that stays behind does no harm; it is a leftover. */
        enum err deleted = store_delete(s, &key, 1, STORE_FOR_OTHER);
        if (deleted != OK) log_warn(s->env->log, "probe object not deleted", "key=%s error=%s", key, err_name(deleted));
        if (e == OK || **why) return e; /* it behaved, or a sentence says how it did not */
        if (e != ERR_EXISTS && err_class(e) == ERR_CLASS_FATAL) break;
    }
    if (e == ERR_EXISTS) {
        *why =
            "the object store says of an object that was never there that it exists: conditional creation does not work";
        return ERR_UNSUPPORTED;
    }
    *why = "the object store did not take or give a clear answer to the test of conditional creation";
    return e;
}

enum err store_check_conditional_create(struct store *s, const char *prefix, bool full, const char **why) {
    CHECK_OBJ(s, STORE_MAGIC);
    *why = "";
    enum err e = probe_until_clear(s, prefix, probe_twice, why);
    if (e == OK && full) e = probe_until_clear(s, prefix, probe_race, why);
    return e;
}

enum err store_check_leftovers(struct store *s, const char *prefix, struct store_listing *out) {
    CHECK_OBJ(s, STORE_MAGIC);
    char start[PROBE_KEY_MAX];
    int n = snprintf(start, sizeof(start), "%s/" PROBE_NAME, prefix);
    ASSERT(n > 0 && (size_t)n < sizeof(start));
    return store_list(s, start, NULL, LEFTOVERS_MAX, STORE_FOR_OTHER, out);
}

enum err store_check_forget(struct store *s, const struct store_listing *leftovers) {
    const char *keys[LEFTOVERS_BATCH];
    enum err e = OK;
    for (size_t at = 0; at < leftovers->count && e == OK;) {
        size_t n = 0;
        while (n < LEFTOVERS_BATCH && at < leftovers->count) keys[n++] = leftovers->items[at++].key;
        e = store_delete(s, keys, n, STORE_FOR_OTHER);
    }
    if (e == OK && leftovers->count > 0)
        log_info(s->env->log, "probes of earlier starts deleted", "count=%zu", leftovers->count);
    return e;
}
