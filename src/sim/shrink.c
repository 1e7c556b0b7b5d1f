#include "sim/shrink.h"

#include <string.h>

#define LOAD_MIN_NS NS_PER_MS

struct shrinker {
    const struct sim_workload *workload;
    struct sim_run_options options; /* of the smallest run so far; `keep` is `kept` once a fault was left out */
    const struct sim_result *failed;
    struct sim_result best;
    struct sim_numbers done;      /* the faults of the smallest run */
    struct sim_numbers kept;      /* options.keep */
    struct sim_numbers candidate; /* the faults that the next try may have */
    struct sim_numbers tried;     /* what it had */
    unsigned runs;
    uint64_t steps;
    bool (*stop)(void *ctx);
    void *ctx;
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool sim_shrink_same_promise(const char *a, const char *b) {
    for (;;) {
        bool number = is_digit(*a);
        if (number != is_digit(*b)) return false;
        while (is_digit(*a)) a++;
        while (is_digit(*b)) b++;
        if (number) continue;
        if (*a != *b) return false;
        if (*a == '\0') return true;
        a++;
        b++;
    }
}

static bool enough(const struct shrinker *k) {
    return k->runs >= SIM_SHRINK_RUNS_MAX || k->steps >= SIM_SHRINK_STEPS_MAX || (k->stop && k->stop(k->ctx));
}

/* One run. True: the same promise is broken; `tried` holds its faults. */
static bool try_run(struct shrinker *k, const struct sim_run_options *o, struct sim_result *out) {
    struct sim_run_options run = *o;
    run.trace = NULL;
    run.history = NULL;
    run.done = &k->tried;
    /* One that does not fail, or that hangs, is not to take for ever. */
    run.steps_max = k->failed->steps * 2 + 100000;
    sim_run_seed(k->workload, &run, out);
    k->runs++;
    k->steps += out->steps;
    return sim_shrink_same_promise(out->failure, k->failed->failure);
}

static void take_smaller(struct shrinker *k, const struct sim_run_options *o, const struct sim_result *r) {
    k->options = *o;
    k->best = *r;
    sim_numbers_copy(&k->done, &k->tried);
    if (!o->keep || o->keep == &k->kept) return;
    sim_numbers_copy(&k->kept, o->keep);
    k->options.keep = &k->kept;
}

/* The shortest load, by halving: as if every longer one failed as well. */
static void shrink_load(struct shrinker *k) {
    if (k->best.load_ns == 0) return; /* this workload does not ask */
    uint64_t good_ms = k->best.load_ns / NS_PER_MS, bad_ms = 0;
    while (good_ms - bad_ms > 1 && !enough(k)) {
        uint64_t mid_ms = bad_ms + (good_ms - bad_ms) / 2;
        struct sim_run_options o = k->options;
        struct sim_result r;
        o.load_ns = mid_ms * LOAD_MIN_NS;
        if (try_run(k, &o, &r) && k->tried.count <= k->done.count && r.faults <= k->best.faults) {
            take_smaller(k, &o, &r);
            good_ms = mid_ms;
        } else {
            bad_ms = mid_ms;
        }
    }
}

/* Without the faults [from, to) of the smallest run. */
static bool shrink_without(struct shrinker *k, size_t from, size_t to) {
    k->candidate.count = 0;
    for (size_t i = 0; i < k->done.count; i++) {
        if (i < from || i >= to) sim_numbers_add(&k->candidate, k->done.items[i]);
    }
    struct sim_run_options o = k->options;
    struct sim_result r;
    o.keep = &k->candidate;
    if (!try_run(k, &o, &r) || r.faults > k->best.faults) return false;
    take_smaller(k, &o, &r);
    return true;
}

static void shrink_faults(struct shrinker *k) {
    size_t part = k->done.count;
    while (part > 0 && !enough(k)) {
        bool less = false;
        for (size_t to = k->done.count; to > 0 && !enough(k);) {
            size_t from = to > part ? to - part : 0;
            less |= shrink_without(k, from, to);
            /* What lies before the first fault that was left out is as it was. */
            to = from < k->done.count ? from : k->done.count;
        }
        if (part == 1 && less) continue;
        part = (part < k->done.count ? part : k->done.count) / 2;
    }
}

void sim_shrink(const struct sim_workload *s, const struct sim_run_options *o, const struct sim_result *failed,
                bool (*stop)(void *ctx), void *ctx, struct buf *history, struct sim_shrunk *out) {
    ASSERT(failed->failure[0] != '\0');
    struct mem heap;
    mem_init_heap(&heap);
    struct shrinker k = {.workload = s, .options = *o, .failed = failed, .best = *failed, .stop = stop, .ctx = ctx};
    k.done.mem = k.kept.mem = k.candidate.mem = k.tried.mem = &heap;
    *out = (struct sim_shrunk){.result = *failed, .kept.mem = history->mem};
    struct sim_result first;
    bool same = try_run(&k, o, &first) && first.hash == failed->hash;
    if (same) {
        take_smaller(&k, o, &first);
        shrink_load(&k);
        shrink_faults(&k);
        shrink_load(&k);
    }
    /* The smallest once more, for its history. */
    struct sim_run_options last = k.options;
    last.trace = NULL;
    last.done = NULL;
    last.history = history;
    last.steps_max = o->steps_max;
    sim_run_seed(s, &last, &out->result);
    k.runs++;
    out->runs = k.runs;
    out->differs = !same || out->result.hash != k.best.hash;
    out->load_ns = k.options.load_ns;
    out->keeps = k.options.keep != NULL;
    /* A number that was kept and never came up has no part in it. */
    if (out->keeps) sim_numbers_copy(&out->kept, &k.done);
    sim_numbers_free(&k.done);
    sim_numbers_free(&k.kept);
    sim_numbers_free(&k.candidate);
    sim_numbers_free(&k.tried);
}
