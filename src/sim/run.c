#include "sim/run.h"

#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "sim/workloads.h"

const struct sim_workload sim_workloads[] = {
    {"objlog", "one pipelined writer of an object log with trimming, crashes and zombies; several fencers take it over",
     workload_objlog},
    {"clusterlog",
     "several nodes elect themselves, append to one object log, write snapshots and delete what is below them",
     workload_clusterlog},
    {"wal", "the write-ahead log alone: wrap, torn and late writes, takeover by mark", workload_wal},
    {"streams", "the storage engine of one broker, whole, over crashes and restarts", workload_streams},
    {"broker", "the whole broker over a network: producers, readers, a group's offsets, crashes, moves",
     workload_broker},
    {"group", "members of a consumer group share partitions, over crashes of theirs and of the broker", workload_group},
    {"rivals", "the storage engine without a WAL on a shared store: brokers overtake each other; topics are deleted",
     workload_rivals},
};
const size_t sim_workload_count = ARRAY_LEN(sim_workloads);

/* A run that takes more is one that hangs: loads of some minutes take a tenth of it. */
#define STEPS_MAX 3000000u

const struct sim_workload *sim_workload_find(const char *name) {
    for (size_t i = 0; i < sim_workload_count; i++) {
        if (strcmp(sim_workloads[i].name, name) == 0) return &sim_workloads[i];
    }
    return NULL;
}

static const struct {
    const char *name, *workloads, *sentence;
    unsigned broken;
    enum stream_mutant stream;
} mutant_table[SIM_MUTANTS] = {
#define X(id, name, workloads, broken, stream, sentence) [id] = {name, workloads, sentence, broken, stream},
#include "sim/mutant_table.h"
#undef X
};

const char *sim_mutant_name(enum sim_mutant m) {
    ASSERT(m < SIM_MUTANTS);
    return mutant_table[m].name;
}

const char *sim_mutant_sentence(enum sim_mutant m) {
    ASSERT(m < SIM_MUTANTS);
    return mutant_table[m].sentence;
}

bool sim_mutant_concerns(enum sim_mutant m, const char *workload) {
    ASSERT(m < SIM_MUTANTS);
    size_t size = strlen(workload);
    for (const char *at = mutant_table[m].workloads; *at;) {
        size_t word = strcspn(at, " ");
        if (word == size && memcmp(at, workload, size) == 0) return true;
        at += word + strspn(at + word, " ");
    }
    return false;
}

enum stream_mutant sim_run_stream_mutant(const struct sim_run *r) {
    return mutant_table[r->options->mutant].stream;
}

enum sim_mutant sim_mutant_find(const char *name) {
    unsigned m = 0;
    while (m < SIM_MUTANTS && strcmp(mutant_table[m].name, name) != 0) m++;
    return (enum sim_mutant)m;
}

static void driver_main(void *arg) {
    struct sim_run *r = arg;
    r->workload->run(r);
}

static bool driver_ended(void *arg) {
    return !sim_node_up(arg);
}

static void run_judge(struct sim_run *r, enum sim_end end) {
    if (end == SIM_END_IDLE) sim_fail(r->world, "nothing can happen any more, and the workload still waits");
    if (end == SIM_END_STEPS) sim_fail(r->world, "no end after %u steps: something repeats itself for ever", STEPS_MAX);
}

void sim_run_seed(const struct sim_workload *s, const struct sim_run_options *o, struct sim_result *out) {
    struct mem heap;
    mem_init_heap(&heap);
    struct sim_world_options wo = {.seed = hash64(o->seed + 1) ^ hash_bytes(s->name, strlen(s->name)),
                                   .trace = o->trace,
                                   .trace_ctx = o->trace_ctx,
                                   .node_logs = o->trace != NULL};
    struct sim_run r = {.options = o, .workload = s, .world = sim_world_create(&wo)};
    struct sim_world *w = r.world;
    sim_mem_init(&r.scratch, &heap);
    sim_faults_swarm(&w->faults, &w->rng);
    w->faults_off = o->calm;
    r.driver = sim_node_create(w, "driver");
    r.driver->steady = true;
    sim_node_start(r.driver, driver_main, &r);
    run_judge(&r, sim_world_run(w, STEPS_MAX, driver_ended, r.driver));
    *out = (struct sim_result){.hash = sim_world_hash(w),
                               .ops = r.ops,
                               .acked = r.acked,
                               .faults = sim_world_faults(w),
                               .steps = w->steps,
                               .virtual_ns = w->now_ns};
    memcpy(out->fault_counts, w->fault_counts, sizeof(out->fault_counts));
    memcpy(out->failure, w->failure, sizeof(out->failure));
    sim_world_destroy(w);
    sim_mem_drop(&r.scratch);
}

/* --- For workloads. */

uint64_t sim_run_load_ns(struct sim_run *r, uint64_t usual_minutes) {
    if (r->options->minutes > 0) return r->options->minutes * 60 * NS_PER_S;
    return sim_between(r->world, 5, usual_minutes * 60) * NS_PER_S;
}

struct store *sim_run_store(struct sim_run *r, struct env *e, bool exclusive) {
    struct sim_store_options o = {.exclusive = exclusive, .broken = mutant_table[r->options->mutant].broken};
    return sim_store_open(NULL, e, &o);
}

void sim_run_crash(struct sim_run *r, struct sim_node *n) {
    if (!sim_node_up(n)) return;
    enum sim_crash kind = sim_chance(r->world, 0.5) ? SIM_KILL : SIM_POWER_CUT;
    if (!sim_fault_allowed(r->world, kind == SIM_KILL ? SIM_CRASH_KILL : SIM_CRASH_POWER)) return;
    if (sim_chance(r->world, 0.3)) {
        sim_node_crash(n, kind);
    } else if (sim_fault(r->world, SIM_CRASH_EFFECT)) {
        sim_node_crash_in_effects(n, sim_between(r->world, 1, 40), kind);
    } else {
        /* Half of them soon, which is in the middle of a start; half when there is work under way. */
        sim_node_crash_in(n, sim_between(r->world, 1, sim_chance(r->world, 0.5) ? 60 : 3000), kind);
    }
}

void sim_run_heal(struct sim_run *r) {
    sim_world_heal(r->world);
}

bool sim_run_wait_down(struct sim_run *r, struct sim_node *n, uint64_t limit_ns) {
    uint64_t end_ns = r->world->now_ns + limit_ns;
    while (sim_node_up(n)) {
        if (r->world->now_ns >= end_ns) return false;
        fiber_sleep_ns(100 * NS_PER_MS);
    }
    return true;
}

void sim_payload_fill(uint64_t id, uint8_t *out, size_t size) {
    for (size_t at = 0; at < size; at += 8) {
        uint64_t v = hash64(id + at);
        memcpy(out + at, &v, size - at < 8 ? size - at : 8);
    }
}

bool sim_payload_is(uint64_t id, const uint8_t *data, size_t size) {
    for (size_t at = 0; at < size; at += 8) {
        uint64_t v = hash64(id + at);
        if (memcmp(data + at, &v, size - at < 8 ? size - at : 8) != 0) return false;
    }
    return true;
}
