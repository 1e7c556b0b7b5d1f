/* What the tests of meta over a simulated store share: a workload is run in a world of its own, broken expectations end
 * it. */
#ifndef OXBOW_TESTS_META_RUN_H
#define OXBOW_TESTS_META_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "meta/meta.h"
#include "sim/run.h"

/* In fibers cmocka's own assertions cannot jump; the first that fails is told at the end of the run. */
#define EXPECT(r, c) ((c) ? (void)0 : sim_fail((r)->world, "line %d: %s", __LINE__, #c))

/* Opens the cluster on that store as a broker of that node id; NULL when it fails, which is reported unless *e is
 * wanted. */
static inline struct meta *run_open(struct sim_run *r, struct store *s, int32_t node_id, enum err *e) {
    struct meta *m = NULL;
    const char *why = NULL;
    struct meta_options o = {.env = s->env, .store = s, .node_id = node_id, .rack = "r", .endpoint = "host:9092"};
    enum err got = meta_open(&o, &m, &why);
    if (e) {
        *e = got;
    } else if (got != OK) {
        sim_fail(r->world, "meta_open: %s: %s", err_name(got), why);
    }
    if (got != OK && (!why || !*why)) sim_fail(r->world, "meta_open gave no reason");
    return m;
}

/* How many objects have keys with that prefix. */
static inline size_t run_count(struct sim_run *r, const char *prefix) {
    const struct sim_bucket *b = r->world->bucket;
    size_t n = 0;
    for (size_t i = sim_bucket_from(b, prefix);
         i < b->count && strncmp(b->objects[i]->key, prefix, strlen(prefix)) == 0; i++)
        n++;
    return n;
}

static inline void run_workload(const char *name, sim_workload_fn *fn, uint64_t seed, bool calm) {
    const struct sim_workload s = {name, name, fn};
    const struct sim_run_options o = {.seed = seed, .mutant = MUTANT_NONE, .calm = calm};
    struct sim_result result;
    sim_run_seed(&s, &o, &result);
    if (result.failure[0]) fail_msg("%s, seed %lu: %s", name, seed, result.failure);
}

#endif
