#include "sim/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "sim/history.h"
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
    {"compacted", "a compacted topic, written to and read while it is compacted, over crashes and moves of its broker",
     workload_compacted},
    {"rivals", "the storage engine without a WAL on a shared store: brokers overtake each other; topics are deleted",
     workload_rivals},
    {"mirror", "the storage engine with a mirrored WAL, whose devices fail, stall, are lost and come back",
     workload_mirror},
};
const size_t sim_workload_count = ARRAY_LEN(sim_workloads);

/* A run that takes more is one that hangs: loads of some minutes take a tenth of it. One that is to last for long may
 * take more for each minute; without faults, clients get most done. */
#define STEPS_MAX 3000000u
#define STEPS_PER_MINUTE 1000000u

const struct sim_workload *sim_workload_find(const char *name) {
    for (size_t i = 0; i < sim_workload_count; i++) {
        if (strcmp(sim_workloads[i].name, name) == 0) return &sim_workloads[i];
    }
    return NULL;
}

static const struct {
    const char *name, *workloads, *sentence;
} mutant_table[MUTANTS] = {
#define X(id, name, workloads, sentence) [MUTANT_##id] = {name, workloads, sentence},
#include "base/mutant_table.h"
#undef X
};

const char *sim_mutant_name(enum mutant m) {
    ASSERT(m < MUTANTS);
    return mutant_table[m].name;
}

const char *sim_mutant_sentence(enum mutant m) {
    ASSERT(m < MUTANTS);
    return mutant_table[m].sentence;
}

const char *sim_mutant_workloads(enum mutant m) {
    ASSERT(m < MUTANTS);
    return mutant_table[m].workloads;
}

bool sim_mutant_concerns(enum mutant m, const char *workload) {
    ASSERT(m < MUTANTS);
    size_t size = strlen(workload);
    for (const char *at = mutant_table[m].workloads; *at;) {
        size_t word = strcspn(at, " ");
        if (word == size && memcmp(at, workload, size) == 0) return true;
        at += word + strspn(at + word, " ");
    }
    return false;
}

enum mutant sim_mutant_find(const char *name) {
    unsigned m = 0;
    while (m < MUTANTS && strcmp(mutant_table[m].name, name) != 0) m++;
    return (enum mutant)m;
}

/* --- Which faults. */

#define CHANCE_WHEN_ASKED 0.05

/* "0.25": digits, with a point among them, at most 1. */
static bool chance_parse(const char *text, size_t size, double *out) {
    double v = 0, unit = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '.' && unit == 0 && size > 1) {
            unit = 1;
            continue;
        }
        if (text[i] < '0' || text[i] > '9') return false;
        v = v * 10 + (text[i] - '0');
        unit *= 10;
        if (v > 1e15) return false;
    }
    *out = unit > 0 ? v / unit : v;
    return size > 0 && *out <= 1;
}

static bool word_is(const char *word, size_t size, const char *name) {
    return strlen(name) == size && memcmp(word, name, size) == 0;
}

static bool plan_word(struct sim_fault_plan *p, const char *word, size_t size, const char **expected) {
    static const char *const mixtures[] = {"swarm", "usual", "none"};
    for (unsigned i = 0; i < ARRAY_LEN(mixtures); i++) {
        if (!word_is(word, size, mixtures[i])) continue;
        *p = (struct sim_fault_plan){.mixture = (enum sim_mixture)i};
        return true;
    }
    const char *equals = memchr(word, '=', size);
    size_t name_size = equals ? (size_t)(equals - word) : size;
    *expected = "faults: none, usual, swarm, or NAME[=CHANCE] (see --list-faults)";
    unsigned f = 0;
    while (f < SIM_FAULTS && !word_is(word, name_size, sim_fault_name((enum sim_fault)f))) f++;
    if (f == SIM_FAULTS) return false;
    struct sim_faults usual;
    sim_faults_usual(&usual);
    double chance = usual.chance[f] > 0 ? usual.chance[f] : CHANCE_WHEN_ASKED;
    *expected = "a chance behind the fault's name: 0 to 1";
    if (equals && !chance_parse(equals + 1, size - name_size - 1, &chance)) return false;
    p->set[f] = true;
    p->chance[f] = chance;
    return true;
}

bool sim_fault_plan_parse(struct sim_fault_plan *p, const char *text, const char **expected) {
    *p = (struct sim_fault_plan){0};
    for (;;) {
        size_t size = strcspn(text, ",");
        if (!plan_word(p, text, size, expected)) return false;
        if (!text[size]) return true;
        text += size + 1;
    }
}

static bool plan_forbids(const struct sim_fault_plan *p, enum sim_fault f) {
    return p->set[f] ? p->chance[f] <= 0 : p->mixture == SIM_MIXTURE_NONE;
}

/* The same chances are drawn whatever the plan is: with one fault less, a seed's world is made as it was. */
static void plan_apply(const struct sim_fault_plan *p, struct sim_world *w) {
    sim_faults_swarm(&w->faults, &w->rng);
    if (p->mixture == SIM_MIXTURE_USUAL) sim_faults_usual(&w->faults);
    if (p->mixture == SIM_MIXTURE_NONE) sim_faults_none(&w->faults);
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        if (p->set[i]) w->faults.chance[i] = p->chance[i];
    }
}

void sim_numbers_add(struct sim_numbers *n, uint64_t v) {
    ASSERT(n->count == 0 || n->items[n->count - 1] < v);
    n->items = mem_grow(n->mem, n->items, n->count, &n->capacity, sizeof(*n->items));
    n->items[n->count++] = v;
}

bool sim_numbers_contain(const struct sim_numbers *n, uint64_t v) {
    size_t low = 0, high = n->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (n->items[mid] < v)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n->count && n->items[low] == v;
}

void sim_numbers_put(const struct sim_numbers *n, struct buf *out) {
    if (n->count == 0) buf_printf(out, "none");
    for (size_t i = 0, next; i < n->count; i = next) {
        for (next = i + 1; next < n->count && n->items[next] == n->items[next - 1] + 1;) next++;
        buf_printf(out, "%s%" PRIu64, i ? "," : "", n->items[i]);
        /* A pair is no shorter as a range. */
        if (next - i == 2) buf_printf(out, ",%" PRIu64, n->items[i + 1]);
        if (next - i > 2) buf_printf(out, "-%" PRIu64, n->items[next - 1]);
    }
}

/* The number that begins at *text, which then points behind it. */
static bool number_parse(const char **text, uint64_t *out) {
    const char *begin = *text;
    for (*out = 0; **text >= '0' && **text <= '9'; (*text)++) {
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, (uint64_t)(**text - '0'), out))
            return false;
    }
    return *text > begin;
}

bool sim_numbers_parse(struct sim_numbers *n, const char *text) {
    n->count = 0;
    if (strcmp(text, "none") == 0) return true;
    for (;; text++) {
        uint64_t first, last;
        if (!number_parse(&text, &first)) return false;
        last = first;
        if (*text == '-') {
            text++;
            if (!number_parse(&text, &last)) return false;
        }
        if (last < first || last - first >= SIM_NUMBERS_MAX - n->count) return false;
        if (n->count > 0 && first <= n->items[n->count - 1]) return false;
        for (uint64_t i = 0; i <= last - first; i++) sim_numbers_add(n, first + i);
        if (*text == '\0') return true;
        if (*text != ',') return false;
    }
}

void sim_numbers_copy(struct sim_numbers *to, const struct sim_numbers *from) {
    to->count = 0;
    for (size_t i = 0; i < from->count; i++) sim_numbers_add(to, from->items[i]);
}

void sim_numbers_free(struct sim_numbers *n) {
    mem_free(n->mem, n->items);
    *n = (struct sim_numbers){.mem = n->mem};
}

static bool run_veto(void *ctx, uint64_t number, enum sim_fault f) {
    struct sim_run *r = ctx;
    const struct sim_run_options *o = r->options;
    if (plan_forbids(&o->faults, f) || (o->keep && !sim_numbers_contain(o->keep, number))) return true;
    if (o->done) sim_numbers_add(o->done, number);
    sim_note(r->world, r->world->stepping, SIM_SUBJECT_FAULTS, "fault %lu: %s", number, sim_fault_name(f));
    return false;
}

/* --- A run. */

static void driver_main(void *arg) {
    struct sim_run *r = arg;
    r->workload->run(r);
}

static bool driver_ended(void *arg) {
    return !sim_node_up(arg);
}

static void run_judge(struct sim_run *r, enum sim_end end, uint64_t steps_max) {
    if (end == SIM_END_IDLE) sim_fail(r->world, "nothing can happen any more, and the workload still waits");
    if (end == SIM_END_STEPS) {
        sim_fail(r->world, "no end after %lu steps: something repeats itself for ever", steps_max);
    }
}

static void history_line(void *ctx, const char *text) {
    buf_printf(ctx, "%s\n", text);
}

static void history_tell(const struct sim_world *w, struct buf *out) {
    struct buf lines;
    buf_init(&lines, out->mem);
    size_t skipped = sim_history_show(w, SIM_RUN_HISTORY_LINES, history_line, &lines);
    if (skipped > 0) buf_printf(out, "... %zu earlier events left out\n", skipped);
    buf_put(out, lines.data, lines.size);
    buf_deinit(&lines);
}

void sim_run_seed(const struct sim_workload *s, const struct sim_run_options *o, struct sim_result *out) {
    struct mem heap;
    mem_init_heap(&heap);
    struct sim_world_options wo = {.seed = hash64(o->seed + 1) ^ hash_bytes(s->name, strlen(s->name)),
                                   .trace = o->trace,
                                   .trace_ctx = o->trace_ctx,
                                   .node_logs = o->trace != NULL,
                                   .mutant = o->mutant};
    struct sim_run r = {.options = o, .workload = s, .world = sim_world_create(&wo)};
    struct sim_world *w = r.world;
    uint64_t steps_max = o->steps_max ? o->steps_max : STEPS_MAX + o->minutes * STEPS_PER_MINUTE;
    sim_mem_init(&r.scratch, &heap);
    plan_apply(&o->faults, w);
    w->faults_off = o->calm;
    w->fault_veto = run_veto;
    w->fault_veto_ctx = &r;
    if (o->done) o->done->count = 0;
    r.driver = sim_node_create(w, "driver");
    r.driver->steady = true;
    sim_node_start(r.driver, driver_main, &r);
    run_judge(&r, sim_world_run(w, steps_max, driver_ended, r.driver), steps_max);
    *out = (struct sim_result){.hash = sim_world_hash(w),
                               .ops = r.ops,
                               .acked = r.acked,
                               .faults = sim_world_faults(w),
                               .steps = w->steps,
                               .virtual_ns = w->now_ns,
                               .load_ns = r.load_ns};
    memcpy(out->fault_counts, w->fault_counts, sizeof(out->fault_counts));
    memcpy(out->failure, w->failure, sizeof(out->failure));
    if (sim_failed(w) && o->history) history_tell(w, o->history);
    w->fault_veto = NULL; /* what is left to land asks for nothing that counts */
    sim_world_destroy(w);
    sim_mem_drop(&r.scratch);
}

bool sim_run_seed_twice(const struct sim_workload *s, const struct sim_run_options *o, struct sim_result *out) {
    struct sim_run_options plain = *o;
    plain.trace = NULL;
    plain.done = NULL;
    plain.history = NULL;
    struct sim_result again;
    struct mem heap;
    mem_init_heap(&heap);
    sim_run_seed(s, o, out);
    void *shift = mem_alloc(&heap, 4096 + (out->hash & 0xfff));
    sim_run_seed(s, &plain, &again);
    mem_free(&heap, shift);
    if (again.hash == out->hash && again.steps == out->steps && again.ops == out->ops && again.acked == out->acked &&
        again.virtual_ns == out->virtual_ns && strcmp(again.failure, out->failure) == 0)
        return true;
    (void)snprintf(out->failure, sizeof(out->failure),
                   "the same seed made two runs: hash %016lx after %lu steps, and %016lx after %lu", out->hash,
                   out->steps, again.hash, again.steps);
    return false;
}

/* --- For workloads. */

uint64_t sim_run_load_ns(struct sim_run *r, uint64_t usual_minutes) {
    return sim_run_load_after_ns(r, 0, usual_minutes);
}

uint64_t sim_run_load_after_ns(struct sim_run *r, uint64_t least_ns, uint64_t usual_minutes) {
    r->load_ns = sim_between(r->world, 5, usual_minutes * 60) * NS_PER_S; /* drawn always: the rest is the same then */
    if (r->options->minutes > 0) r->load_ns = r->options->minutes * 60 * NS_PER_S;
    r->load_ns += least_ns;
    r->planned_ns = r->load_ns;
    if (r->options->load_ns > 0) r->load_ns = r->options->load_ns;
    return r->load_ns;
}

struct store *sim_run_store(struct sim_run *r, struct env *e, bool exclusive) {
    (void)r;
    struct sim_store_options o = {.exclusive = exclusive};
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
    sim_note(r->world, NULL, SIM_SUBJECT_ALL, "no more faults");
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
    size_t at = 0;
    for (; size - at >= 8; at += 8) {
        uint64_t v = hash64(id + at);
        memcpy(out + at, &v, 8);
    }
    uint64_t v = hash64(id + at);
    memcpy(out + at, &v, size - at);
}

bool sim_payload_is(uint64_t id, const uint8_t *data, size_t size) {
    size_t at = 0;
    for (; size - at >= 8; at += 8) { /* a fixed size is no call */
        uint64_t v = hash64(id + at);
        if (memcmp(data + at, &v, 8) != 0) return false;
    }
    uint64_t v = hash64(id + at);
    return memcmp(data + at, &v, size - at) == 0;
}
