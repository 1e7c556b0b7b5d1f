#include "partition/cleaner.h"

#include "base/assert.h"
#include "stream/sizes.h"

struct pass {
    const struct cleaner_options *o;
    struct cleaner_result *out;
    struct replace *replace;
    const struct stream_state *state;
    struct clean_map map;
    struct clean_rules rules;
    uint64_t *segment_bytes; /* left of each of the state's segments */
    uint64_t io_seen;
    bool full, changed; /* of the map; of the present run */
};

/* What a worker thread does meanwhile touches nothing but this and the map. */
struct job {
    struct pass *pass;
    struct slice block;
    struct buf out;
    bool changed;
    struct clean_counts counts;
    enum err error;
};

static enum err go_on(struct pass *p) {
    uint64_t bytes = replace_io_bytes(p->replace);
    uint64_t more = bytes - p->io_seen;
    p->io_seen = bytes;
    return p->o->go_on(p->o->ctx, more) ? OK : ERR_CANCELLED;
}

static void hold(struct pass *p, size_t more, size_t less) {
    metric_gauge_add(p->o->env->metrics, M_CLEANER_BYTES, (int64_t)more - (int64_t)less);
}

/* ---- the map ---- */

static void map_job(void *arg) {
    struct job *j = arg;
    struct pass *p = j->pass;
    j->error = clean_map_block(&p->map, j->block.data, j->block.size, p->out->choice.first_dirty, p->out->choice.end,
                               &p->full, p->o->env->mem);
}

static enum err map_block(void *ctx, struct slice block) {
    struct pass *p = ctx;
    if (p->full) return OK;
    struct job j = {.pass = p, .block = block};
    env_offload(p->o->env, map_job, &j);
    return j.error == OK ? go_on(p) : j.error;
}

static enum err build_map(struct pass *p) {
    const struct clean_choice *c = &p->out->choice;
    struct env *env = p->o->env;
    uint64_t secret[2], bytes = p->o->map_bytes < CLEAN_MAP_BYTES_MAX ? p->o->map_bytes : CLEAN_MAP_BYTES_MAX;
    env_random(env, secret, sizeof(secret));
    clean_map_init(&p->map, env->mem, secret, bytes, p->o->map_load, c->end - c->first_dirty);
    metric_set(env->metrics, M_CLEANER_MAP_BYTES, (int64_t)clean_map_bytes(&p->map));
    hold(p, clean_map_bytes(&p->map), 0);
    p->map.end_offset = c->first_dirty;
    enum err e = OK;
    for (uint32_t i = 0; i < p->state->range_count && e == OK && !p->full; i++) {
        const struct state_range *g = &p->state->ranges[i];
        if (g->end_offset <= c->first_dirty || g->first_offset >= c->end) continue;
        e = replace_read(p->replace, i, c->first_dirty, c->end, map_block, p);
    }
    if (e != OK) return e;
    /* What an earlier pass removed at the end is known all the same. */
    if (!p->full) p->map.end_offset = c->end;
    ASSERT(p->map.end_offset > c->first_dirty && p->map.end_offset <= c->end);
    p->out->keys = p->map.count;
    p->out->map_bytes = clean_map_bytes(&p->map);
    p->out->map_full = p->full;
    return OK;
}

/* ---- runs ---- */

static void clean_job(void *arg) {
    struct job *j = arg;
    j->error = clean_block(&j->pass->rules, j->block.data, j->block.size, &j->out, &j->changed, &j->counts);
}

/* Where bytes are left, by segment. */
static void note_bytes(struct pass *p, const struct buf *out) {
    const struct stream_state *s = p->state;
    uint32_t i = 0;
    for (size_t at = 0; at < out->size;) {
        struct batch_header h;
        enum err e = batch_parse_unchecked(out->data + at, out->size - at, &h);
        ASSERT(e == OK); /* we have made it, or parsed it */
        while (i + 1 < s->segment_count && s->segments[i + 1].base_offset <= (uint64_t)h.base_offset) i++;
        if (i < s->segment_count) p->segment_bytes[i] += h.size;
        at += h.size;
    }
}

static enum err clean_one_block(void *ctx, struct slice block) {
    struct pass *p = ctx;
    struct env *env = p->o->env;
    struct job j = {.pass = p, .block = block};
    buf_init(&j.out, env->mem);
    env_offload(env, clean_job, &j);
    enum err e = j.error;
    size_t out_bytes = j.out.capacity;
    hold(p, out_bytes, 0);
    if (e == OK) {
        clean_counts_add(&p->out->counts, &j.counts);
        p->changed |= j.changed;
        note_bytes(p, &j.out);
    }
    struct slice left = {0};
    if (e == OK && j.out.size > 0) {
        struct slab *slab = slab_create(env->mem, j.out.size, 16);
        memcpy(slab->data, j.out.data, j.out.size);
        left = slice_of(slab, 0, j.out.size);
        slab_unref(slab);
    }
    buf_deinit(&j.out);
    hold(p, 0, out_bytes);
    if (left.size > 0) e = replace_run_add(p->replace, left);
    return e == OK ? go_on(p) : e;
}

static enum err clean_run(struct pass *p, uint32_t first, uint32_t count) {
    p->changed = false;
    p->rules.last_end = p->state->ranges[first + count - 1].end_offset;
    p->out->runs++;
    replace_run_begin(p->replace, first, count);
    enum err e = OK;
    for (uint32_t i = first; i < first + count && e == OK; i++)
        e = replace_read(p->replace, i, 0, UINT64_MAX, clean_one_block, p);
    if (e == OK && p->changed) {
        e = replace_run_commit(p->replace);
        if (e == OK) p->out->runs_replaced++;
        if (e == OK) e = go_on(p);
        if (e == OK) return OK;
    }
    replace_run_drop(p->replace);
    return e;
}

/* Neighbouring ranges that together are small are one run. */
static enum err clean_runs(struct pass *p) {
    const struct stream_state *s = p->state;
    enum err e = OK;
    for (uint32_t first = 0; first < s->range_count && e == OK && s->ranges[first].first_offset < p->map.end_offset;) {
        uint32_t count = 0;
        uint64_t bytes = 0;
        do {
            bytes += s->ranges[first + count++].size_bytes;
        } while (first + count < s->range_count && s->ranges[first + count].first_offset < p->map.end_offset &&
                 bytes + s->ranges[first + count].size_bytes <= CLEAN_RUN_BYTES);
        e = clean_run(p, first, count);
        first += count;
    }
    return e;
}

/* ---- the end ---- */

static enum err write_progress(struct pass *p) {
    struct cleaner_result *r = p->out;
    const struct stream_state *s = p->state;
    uint64_t clean = p->map.end_offset, above = 0;
    for (uint32_t i = 0; i < s->segment_count && s->segments[i].base_offset <= clean; i++)
        above = s->segments[i].base_offset;
    struct state_segment *segments;
    uint32_t count =
        clean_segments(s, above, p->segment_bytes, (uint64_t)p->o->config->segment_bytes, p->o->env->mem, &segments);
    enum err e = replace_progress(p->replace, clean, segments, count);
    if (e == OK) {
        r->clean_offset = clean;
        r->progress.end_offset = r->progress.clean_offset = clean;
        r->progress.segments = segments;
        r->progress.segment_count = r->progress.segment_capacity = count;
    } else {
        mem_free(p->o->env->mem, segments);
    }
    return e;
}

static enum err run(struct pass *p) {
    struct env *env = p->o->env;
    p->state = replace_state(p->replace);
    int64_t now_ms = env_wall_ms(env);
    if (!clean_choose(p->state, p->o->config, now_ms, &p->out->choice)) return ERR_NOT_FOUND;
    enum err e = build_map(p);
    if (e != OK) return e;
    p->segment_bytes = mem_zalloc(env->mem, (p->state->segment_count + 1) * sizeof(*p->segment_bytes));
    p->rules = (struct clean_rules){.map = &p->map,
                                    .state = p->state,
                                    .now_ms = now_ms,
                                    .delete_retention_ms = p->o->config->delete_retention_ms,
                                    .mutant = env->mutant};
    bool early = env_mutant(env, MUTANT_CLEAN_PROGRESS_EARLY);
    if (early) e = write_progress(p);
    if (e == OK) e = clean_runs(p);
    return e == OK && !early ? write_progress(p) : e;
}

enum err cleaner_run(const struct cleaner_options *o, struct cleaner_result *out) {
    *out = (struct cleaner_result){0};
    state_init_delta(&out->progress, o->env->mem, 0);
    struct pass p = {.o = o, .out = out};
    enum err e = replace_begin(o->streams, o->stream, &p.replace);
    if (e != OK) return e;
    e = run(&p);
    out->io_bytes = replace_io_bytes(p.replace);
    mem_free(o->env->mem, p.segment_bytes);
    hold(&p, 0, p.map.mem ? clean_map_bytes(&p.map) : 0);
    clean_map_deinit(&p.map);
    metric_set(o->env->metrics, M_CLEANER_MAP_BYTES, 0);
    replace_end(p.replace);
    return e;
}

void cleaner_result_deinit(struct cleaner_result *r) {
    state_deinit(&r->progress);
}
