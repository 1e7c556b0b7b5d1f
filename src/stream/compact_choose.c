/* Object compaction, first part: what a job takes.
 *
 * Runs (compact.h). Nothing here may cost what all streams cost, for it happens with each entry: so streams that have
 * something to merge are in a list, from the entry on that gave them their last range, and those that have half as much in
 * another. One that has not after all leaves it when that is seen. A job looks at all of the first, and at so many of the
 * second.
 *
 * Poor objects. An object goes when nothing needs it; what one stream has in it may keep it for ever. Two kinds are
 * emptied: *sparse* ones, of which less than a quarter is still needed (their other streams were merged, trimmed,
 * compacted or deleted), once COMPACT_DEAD_MIN bytes or a sixteenth of all that is needed lie in them in vain; and *small*
 * ones, once there are COMPACT_SMALL_OBJECTS of them. Objects of dead incarnations are no different: so what these have
 * left is few objects of which most is needed. Hence, but for what lies in streams that cannot be read and what a job
 * takes a minute for: what is stored is at most four times what is needed, and that sixteenth; and there are no more
 * objects than those, and one for each COMPACT_SMALL_BELOW bytes. What a sparse object costs is less than a third of what
 * has gone of it, so all of them cost less than a third of what was ever written.
 *
 * Large ranges. A stream that lives for years has ever more of them, each some sixty bytes of memory, twice, and some
 * twenty in each checkpoint that has its state. So of those that are older than the last COMPACT_LARGE_RANGES, runs of
 * about COMPACT_HUGE_BYTES become one, put together by the store where it can do that: that costs a copy and a GET for
 * each range, and no byte passes through here. Where it cannot, they are read and written, as much as there is memory for.
 * Hence a stream has at most about COMPACT_LARGE_RANGES, and as many as COMPACT_LARGE_RUN for each COMPACT_HUGE_BYTES / 2
 * of what is older; in the rule one for each COMPACT_HUGE_BYTES.
 *
 * To find poor objects is to look at all objects, and to find what is in them, at all streams, as a checkpoint does: once
 * in COMPACT_WITHIN_NS at most, and only if there have been entries since. */
#include <stdlib.h>

#include "base/assert.h"
#include "stream/compact_priv.h"

#define NOTE_LOOK 256u /* last ranges that an entry looks at */

/* ---- lists ---- */

static struct ledger_stream *crowded_of(struct list *node) {
    return LIST_ENTRY(node, struct ledger_stream, crowded);
}

static bool can_merge(const struct ledger_stream *c) {
    return !c->refused && !c->unreadable;
}

/* Of its last ranges, so many. */
static void look(struct streams *s, struct ledger_stream *c, size_t last) {
    struct compact_run run;
    size_t n = c->state.range_count, skipped = n > last ? n - last : 0;
    const struct state_range *ranges = c->state.ranges + skipped;
    if (!can_merge(c)) return;
    if (compact_find_run(ranges, n - skipped, s->options.compact_bytes, &run)) {
        list_remove(&c->crowded);
        list_push_back(&s->crowded, &c->crowded);
    } else if (list_empty(&c->crowded) && compact_may_join(ranges, n - skipped, s->options.compact_bytes)) {
        list_push_back(&s->nearly, &c->crowded);
    }
}

/* A run becomes long enough by what is added behind it: the last ranges tell. */
void compact_note(struct streams *s, struct ledger_stream *c) {
    look(s, c, NOTE_LOOK);
}

void compact_enlist(struct streams *s, struct ledger_stream *c) {
    list_remove(&c->crowded);
    look(s, c, SIZE_MAX);
}

void compact_begin(struct streams *s) {
    size_t cursor = 0;
    struct ledger_stream *c;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) compact_enlist(s, c);
    /* What earlier starts left is looked at now: there may be many that do not live for long. */
    if (s->uses.map.count < COMPACT_SMALL_OBJECTS) s->poor_look_ns = env_now_ns(s->env) + COMPACT_WITHIN_NS;
    compact_poke(s);
}

static bool has_run(const struct streams *s, const struct ledger_stream *c, struct compact_run *run) {
    return can_merge(c) && compact_find_run(c->state.ranges, c->state.range_count, s->options.compact_bytes, run);
}

bool compact_has_run(struct streams *s) {
    struct compact_run run;
    while (!list_empty(&s->crowded) && !has_run(s, crowded_of(s->crowded.next), &run))
        compact_enlist(s, crowded_of(s->crowded.next));
    return !list_empty(&s->crowded);
}

/* ---- runs ---- */

static void take(struct compaction *k, struct ledger_stream *c, const struct compact_run *run) {
    struct streams *s = k->s;
    k->bytes += run->bytes;
    k->items = mem_grow(s->mem, k->items, k->count, &k->capacity, sizeof(*k->items));
    struct compact_item *t = &k->items[k->count++];
    *t = (struct compact_item){.stream = c->id, .epoch = c->epoch, .old_count = run->count};
    t->old = mem_alloc(s->mem, t->old_count * sizeof(*t->old));
    memcpy(t->old, &c->state.ranges[run->first], t->old_count * sizeof(*t->old));
    object_piece_init(&t->piece, s->mem);
    c->replacing = true;
}

/* Whatever there is to do is done within that time. */
static void set_rate(struct compaction *k, uint64_t debt) {
    metric_set(k->s->env->metrics, M_MERGE_DEBT, (int64_t)debt);
    k->rate = debt / (COMPACT_WITHIN_NS / NS_PER_S);
    if (k->rate < COMPACT_RATE_MIN) k->rate = COMPACT_RATE_MIN;
}

struct streams_list {
    struct ledger_stream **items;
    size_t count, capacity;
};

static void list_add(struct streams *s, struct streams_list *l, struct ledger_stream *c) {
    l->items = mem_grow(s->mem, l->items, l->count, &l->capacity, sizeof(struct ledger_stream *));
    l->items[l->count++] = c;
}

static int by_stream(const void *a, const void *b) {
    const struct ledger_stream *const *x = a, *const *y = b;
    return (*x)->id.v < (*y)->id.v ? -1 : (*x)->id.v > (*y)->id.v;
}

/* Those that a job may take. Returns what all of them have to merge, those too that somebody else rewrites now: a job
 * takes one run of each, and there may be many behind it. */
static uint64_t candidates(struct streams *s, struct streams_list *l) {
    uint64_t debt = 0;
    LIST_EACH_SAFE(it, &s->crowded) {
        struct ledger_stream *c = crowded_of(it);
        struct compact_run run;
        if (!has_run(s, c, &run)) {
            compact_enlist(s, c);
            continue;
        }
        debt += compact_debt(c->state.ranges, c->state.range_count);
        if (!c->replacing) list_add(s, l, c);
    }
    if (l->count == 0) return debt;
    size_t seen = l->count;
    LIST_EACH_SAFE(it, &s->nearly) {
        struct ledger_stream *c = crowded_of(it);
        if (l->count - seen == COMPACT_LOOK_MAX) break;
        if (!c->replacing && can_merge(c)) list_add(s, l, c);
    }
    /* The others the next time. */
    for (size_t i = seen; i < l->count && l->count - seen == COMPACT_LOOK_MAX; i++) {
        list_remove(&l->items[i]->crowded);
        list_push_back(&s->nearly, &l->items[i]->crowded);
    }
    if (l->count > 1) qsort(l->items, l->count, sizeof(struct ledger_stream *), by_stream);
    return debt;
}

void compact_choose_runs(struct compaction *k) {
    struct streams *s = k->s;
    struct streams_list l = {0};
    uint64_t debt = candidates(s, &l);
    struct compact_stream *all = mem_alloc(s->mem, (l.count + 1) * sizeof(*all));
    struct compact_pick *picks = mem_alloc(s->mem, (l.count + 1) * sizeof(*picks));
    for (size_t i = 0; i < l.count; i++)
        all[i] = (struct compact_stream){l.items[i]->id, l.items[i]->state.ranges, l.items[i]->state.range_count};
    size_t count = compact_choose(s->mem, all, l.count, &s->compact_last, s->options.compact_bytes, picks);
    for (size_t i = 0; i < count; i++) take(k, l.items[picks[i].stream], &picks[i].run);
    set_rate(k, debt);
    mem_free(s->mem, picks);
    mem_free(s->mem, all);
    mem_free(s->mem, l.items);
}

/* ---- poor objects ---- */

struct poor {
    struct object_id id;
    uint64_t live_bytes, found_bytes;
    uint32_t parts;
    bool sparse, taken;
};
struct poor_list {
    struct poor *items;
    size_t count, capacity;
};

/* Where a range of one of them is. */
struct part {
    struct ledger_stream *c;
    size_t range, object;
};
struct part_list {
    struct part *items;
    size_t count, capacity;
};

/* It would not go, or not soon, if it were emptied. */
static bool stays(const struct streams *s, const struct object_use *use) {
    if (use->ranges == 0 || use->pins > 0) return true;
    uint64_t below = objlog_deletable_below(s->log);
    bool own_entry = use->id.creator.v == s->options.incarnation.v && use->id.kind == OBJECT_LEDGER_ENTRY;
    return own_entry && (use->id.number >= below || use->not_before > below);
}

static int by_id(const void *a, const void *b) {
    const struct poor *x = a, *y = b;
    return object_id_compare(x->id, y->id);
}

/* By id; none: it is not worth it. */
static void poor_find(struct streams *s, struct poor_list *l) {
    uint64_t needed = 0, dead = 0;
    size_t small = 0, cursor = 0, left = 0;
    const struct object_use *use;
    while ((use = mapstr_next(&s->uses.map, &cursor, NULL, NULL)) != NULL) {
        needed += use->live_bytes;
        bool is_small = use->size_bytes < COMPACT_SMALL_BELOW;
        bool sparse = !is_small && use->live_bytes < use->size_bytes / 4;
        if ((!sparse && !is_small) || stays(s, use)) continue;
        l->items = mem_grow(s->mem, l->items, l->count, &l->capacity, sizeof(*l->items));
        l->items[l->count++] = (struct poor){.id = use->id, .live_bytes = use->live_bytes, .sparse = sparse};
        dead += sparse ? use->size_bytes - use->live_bytes : 0;
        small += is_small;
    }
    bool take_sparse = dead >= COMPACT_DEAD_MIN && (dead >= needed / 16 || dead >= COMPACT_DEAD_MAX);
    bool take_small = small >= COMPACT_SMALL_OBJECTS;
    for (size_t i = 0; i < l->count; i++) {
        if (l->items[i].sparse ? take_sparse : take_small) l->items[left++] = l->items[i];
    }
    l->count = left;
    if (left > 1) qsort(l->items, left, sizeof(*l->items), by_id);
}

/* What lies in them, of streams that can be rewritten now. */
static void poor_parts(struct streams *s, struct poor_list *l, struct part_list *parts) {
    size_t cursor = 0;
    struct ledger_stream *c;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) {
        if (!can_merge(c) || c->replacing) continue;
        for (size_t i = 0; i < c->state.range_count; i++) {
            struct poor key = {.id = c->state.ranges[i].object};
            struct poor *found = bsearch(&key, l->items, l->count, sizeof(key), by_id);
            if (!found) continue;
            found->found_bytes += c->state.ranges[i].size_bytes;
            found->parts++;
            parts->items = mem_grow(s->mem, parts->items, parts->count, &parts->capacity, sizeof(*parts->items));
            parts->items[parts->count++] = (struct part){c, i, (size_t)(found - l->items)};
        }
    }
}

/* Whole ones, the oldest first, as many as there is room for: one of which something has to stay gains nothing. Does not
 * count what lies between. */
static void poor_take(const struct streams *s, struct poor_list *l) {
    uint64_t bytes = 0;
    size_t parts = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct poor *p = &l->items[i];
        ASSERT(p->found_bytes <= p->live_bytes);
        bool fits = bytes + p->live_bytes <= s->options.compact_bytes &&
                    (parts == 0 || parts + p->parts <= COMPACT_SECTIONS_MAX);
        p->taken = fits && p->found_bytes == p->live_bytes;
        if (!p->taken) continue;
        bytes += p->live_bytes;
        parts += p->parts;
    }
}

/* Of those that were taken, as many as there is memory for, with what lies between. */
static void poor_fit(const struct streams *s, struct poor_list *l, const struct part_list *parts) {
    struct compact_wanted *wanted = mem_alloc(s->mem, (parts->count + 1) * sizeof(*wanted));
    bool *fits = mem_zalloc(s->mem, l->count * sizeof(*fits));
    size_t count = 0;
    for (size_t i = 0; i < parts->count; i++) {
        const struct part *p = &parts->items[i];
        if (l->items[p->object].taken)
            wanted[count++] = (struct compact_wanted){&p->c->state.ranges[p->range], p->object};
    }
    compact_wanted_sort(wanted, count);
    compact_objects_fit(wanted, count, s->options.compact_bytes, fits);
    for (size_t i = 0; i < l->count; i++) l->items[i].taken = fits[i];
    mem_free(s->mem, fits);
    mem_free(s->mem, wanted);
}

static int by_item(const void *a, const void *b) {
    const struct compact_item *x = a, *y = b;
    if (x->stream.v != y->stream.v) return x->stream.v < y->stream.v ? -1 : 1;
    return x->old[0].first_offset < y->old[0].first_offset ? -1 : 1;
}

/* What is adjacent becomes one: the parts of a stream are one after the other, by their offsets. */
static void poor_items(struct compaction *k, const struct poor_list *l, const struct part_list *parts) {
    struct ledger_stream *c = NULL;
    struct compact_run run = {0};
    for (size_t i = 0; i <= parts->count; i++) {
        const struct part *p = i < parts->count ? &parts->items[i] : NULL;
        if (p && !l->items[p->object].taken) continue;
        const struct state_range *r = p ? &p->c->state.ranges[p->range] : NULL;
        bool goes_on = p && c == p->c && run.first + run.count == p->range &&
                       run.bytes + r->size_bytes <= k->s->options.compact_bytes;
        if (c && !goes_on) take(k, c, &run);
        if (!p) break;
        if (!goes_on) run = (struct compact_run){.first = p->range};
        c = p->c;
        run.count++;
        run.bytes += r->size_bytes;
    }
    if (k->count > 1) qsort(k->items, k->count, sizeof(*k->items), by_item);
    if (k->count > 1 && env_mutant(k->s->env, MUTANT_POOR_DROPS)) {
        struct compact_item *t = &k->items[--k->count];
        ledger_image_get(&k->s->image, t->stream)->replacing = false;
        object_piece_deinit(&t->piece);
        mem_free(k->s->mem, t->old);
    }
}

bool compact_choose_poor(struct compaction *k) {
    struct streams *s = k->s;
    uint64_t now_ns = env_now_ns(s->env);
    if (now_ns < s->poor_look_ns) return false;
    s->poor_look_ns = now_ns + COMPACT_WITHIN_NS;
    k->looked = true;
    struct poor_list l = {0};
    struct part_list parts = {0};
    poor_find(s, &l);
    if (l.count > 0) {
        poor_parts(s, &l, &parts);
        poor_take(s, &l);
        poor_fit(s, &l, &parts);
        poor_items(k, &l, &parts);
    }
    mem_free(s->mem, l.items);
    mem_free(s->mem, parts.items);
    k->poor = k->count > 0;
    if (k->poor) set_rate(k, k->bytes);
    return k->poor;
}

/* ---- large ranges ---- */

/* The oldest ones that are to become one. huge: what that has about. */
static bool large_run(const struct ledger_stream *c, uint64_t huge, struct compact_run *out) {
    struct compact_run run = {0};
    if (c->state.range_count <= COMPACT_LARGE_RANGES) return false;
    size_t count = c->state.range_count - COMPACT_LARGE_RANGES;
    for (size_t i = 0; i < count; i++) {
        uint64_t size = c->state.ranges[i].size_bytes;
        bool is_huge = size >= huge / 2;
        if (run.count >= COMPACT_LARGE_RUN && (is_huge || run.bytes + size > huge)) {
            *out = run;
            return true;
        }
        if (is_huge || run.bytes + size > huge) run = (struct compact_run){.first = is_huge ? i + 1 : i};
        if (is_huge) continue;
        run.count++;
        run.bytes += size;
    }
    return false;
}

/* Of which runs are made, now or later. */
static uint64_t large_debt(const struct ledger_stream *c, uint64_t huge) {
    uint64_t debt = 0;
    for (size_t i = 0; i + COMPACT_LARGE_RANGES < c->state.range_count; i++) {
        uint64_t size = c->state.ranges[i].size_bytes;
        debt += size < huge / 2 ? size : 0;
    }
    return debt;
}

/* Parts of less than what is large are too small for stores; the first one goes through memory. */
static bool can_compose(const struct streams *s, const struct ledger_stream *c, const struct compact_run *run) {
    bool can = !s->no_compose && c->state.ranges[run->first].size_bytes <= s->options.compact_bytes;
    for (size_t i = 0; i < run->count && can; i++)
        can = c->state.ranges[run->first + i].size_bytes >= COMPACT_HIGH_BELOW;
    return can;
}

bool compact_choose_large(struct compaction *k) {
    struct streams *s = k->s;
    size_t cursor = 0;
    struct ledger_stream *c;
    if (!k->looked) return false;
    uint64_t budget = s->options.compact_bytes < COMPACT_HUGE_BYTES ? s->options.compact_bytes : COMPACT_HUGE_BYTES;
    while ((c = map64_next(&s->image.streams, &cursor, NULL)) != NULL) {
        struct compact_run run;
        if (!can_merge(c) || c->replacing) continue;
        k->compose = large_run(c, COMPACT_HUGE_BYTES, &run) && can_compose(s, c, &run);
        if (!k->compose && !large_run(c, budget, &run)) continue;
        take(k, c, &run);
        set_rate(k, large_debt(c, k->compose ? COMPACT_HUGE_BYTES : budget));
        s->poor_look_ns = env_now_ns(s->env) + NS_PER_S; /* there may be more; others come between */
        return true;
    }
    return false;
}
