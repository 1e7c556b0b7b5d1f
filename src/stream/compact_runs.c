#include <stdlib.h>

#include "base/assert.h"
#include "stream/compact.h"

static const struct tier {
    uint64_t below;
    unsigned ranges;
} tiers[] = {{COMPACT_LOW_BELOW, COMPACT_LOW_RANGES}, {COMPACT_HIGH_BELOW, COMPACT_HIGH_RANGES}};
#define TOP (ARRAY_LEN(tiers) - 1)

static uint64_t tier_from(unsigned t) {
    return t > 0 ? tiers[t - 1].below : 0;
}

/* ---- of one stream ---- */

/* part: that share of a whole run is enough, 1 or 2. */
static bool find_in_tier(const struct state_range *ranges, size_t count, uint64_t budget, unsigned t, unsigned part,
                         struct compact_run *out) {
    struct compact_run run = {.tier = t};
    unsigned of_tier = 0, wanted = tiers[t].ranges / part;
    for (size_t i = 0; i < count; i++) {
        uint64_t size = ranges[i].size_bytes;
        if (size >= tiers[t].below) {
            run = (struct compact_run){.first = i + 1, .tier = t};
            of_tier = 0;
            continue;
        }
        run.count++;
        run.bytes += size;
        of_tier += size >= tier_from(t);
        for (; run.bytes > budget; run.first++, run.count--) {
            uint64_t gone = ranges[run.first].size_bytes;
            run.bytes -= gone;
            of_tier -= gone >= tier_from(t);
        }
        if (of_tier == wanted) {
            *out = run;
            return true;
        }
    }
    return false;
}

static bool find(const struct state_range *ranges, size_t count, uint64_t budget, unsigned part,
                 struct compact_run *out) {
    for (unsigned t = 0; t <= TOP; t++) {
        if (find_in_tier(ranges, count, budget, t, part, out)) return true;
    }
    return false;
}

bool compact_find_run(const struct state_range *ranges, size_t count, uint64_t budget, struct compact_run *out) {
    return find(ranges, count, budget, 1, out);
}

bool compact_may_join(const struct state_range *ranges, size_t count, uint64_t budget) {
    struct compact_run run;
    return find(ranges, count, budget, 2, &run);
}

uint64_t compact_debt(const struct state_range *ranges, size_t count) {
    uint64_t debt = 0;
    for (unsigned t = 0; t <= TOP; t++) {
        uint64_t bytes = 0;
        unsigned of_tier = 0;
        for (size_t i = 0; i <= count; i++) {
            if (i < count && ranges[i].size_bytes < tiers[t].below) {
                bytes += ranges[i].size_bytes;
                of_tier += ranges[i].size_bytes >= tier_from(t);
                continue;
            }
            if (of_tier >= tiers[t].ranges) debt += bytes;
            bytes = of_tier = 0;
        }
    }
    return debt;
}

/* ---- of many, by objects ---- */

struct member {
    struct object_id object;
    unsigned turn; /* in the order in which the first stream has them */
};

/* The objects that a job reads, as the run of the stream whose turn it is has them. */
struct group {
    struct member *members; /* by id */
    unsigned count;
    unsigned tier;
    uint64_t budget;
};

static int by_object(const void *a, const void *b) {
    const struct member *x = a, *y = b;
    return object_id_compare(x->object, y->object);
}

/* Its turn; UINT_MAX: it is none of them. */
static unsigned turn_of(const struct group *g, struct object_id id) {
    struct member key = {.object = id};
    const struct member *found = bsearch(&key, g->members, g->count, sizeof(key), by_object);
    return found ? found->turn : UINT32_MAX;
}

static void group_init(struct group *g, struct mem *m, const struct state_range *ranges, const struct compact_run *run,
                       uint64_t budget) {
    *g = (struct group){.tier = run->tier, .budget = budget};
    g->members = mem_alloc(m, run->count * sizeof(*g->members));
    for (size_t i = 0; i < run->count; i++) {
        struct object_id id = ranges[run->first + i].object;
        unsigned n = 0;
        while (n < g->count && !object_id_equal(g->members[n].object, id)) n++;
        if (n == g->count) {
            g->members[n] = (struct member){id, n};
            g->count++;
        }
    }
    qsort(g->members, g->count, sizeof(*g->members), by_object);
}

/* A run that is looked at: it ends in the group; what lies in front of that and is not large goes along, or it would be
 * left behind for ever. */
struct part {
    struct compact_run run;
    uint64_t inside; /* bytes in objects of the group */
};

/* Ranges of lower tiers count as well: what lies in the same objects costs no GET, and lets these go. But a third of it
 * is new: a byte is not written again for each few that follow. */
static bool part_is_enough(const struct group *g, const struct part *p) {
    const struct tier *t = &tiers[g->tier];
    return p->run.count > 1 && (p->run.count >= t->ranges / 2 || p->run.bytes >= t->below) &&
           p->inside >= p->run.bytes / 3;
}

/* Of the first `limit` objects of the group. */
static bool part_find(const struct group *g, const struct compact_stream *x, unsigned limit, struct compact_run *out) {
    struct part now = {.run = {.tier = g->tier}}, best = {.run = {.count = 0}};
    struct part open = now; /* with what follows, which may not end in the group */
    for (size_t i = 0; i <= x->count; i++) {
        const struct state_range *r = i < x->count ? &x->ranges[i] : NULL;
        if (!r || r->size_bytes >= tiers[g->tier].below) {
            if (part_is_enough(g, &now) && now.run.bytes > best.run.bytes) best = now;
            now = open = (struct part){.run = {.first = i + 1, .tier = g->tier}};
            continue;
        }
        bool inside = turn_of(g, r->object) < limit;
        open.run.count++;
        open.run.bytes += r->size_bytes;
        open.inside += inside ? r->size_bytes : 0;
        for (; open.run.bytes > g->budget; open.run.first++, open.run.count--) {
            const struct state_range *gone = &x->ranges[open.run.first];
            open.run.bytes -= gone->size_bytes;
            open.inside -= turn_of(g, gone->object) < limit ? gone->size_bytes : 0;
        }
        if (inside) now = open;
    }
    *out = best.run;
    return best.run.count > 0;
}

struct amount {
    uint64_t bytes, leaves; /* of that in parts that leave the tier */
};

static struct amount group_amount(const struct group *g, const struct compact_stream *streams, size_t count,
                                  unsigned limit) {
    struct amount a = {0};
    struct compact_run run;
    for (size_t i = 0; i < count; i++) {
        if (!part_find(g, &streams[i], limit, &run)) continue;
        a.bytes += run.bytes;
        a.leaves += run.bytes >= tiers[g->tier].below ? run.bytes : 0;
    }
    return a;
}

/* What of the run lies in the first `limit` objects. */
static struct compact_run cut(const struct group *g, const struct state_range *ranges, struct compact_run run,
                              unsigned limit) {
    struct compact_run out = {.first = run.first, .tier = run.tier};
    while (out.count < run.count && turn_of(g, ranges[run.first + out.count].object) < limit)
        out.bytes += ranges[run.first + out.count++].size_bytes;
    return out;
}

/* How many of the group's objects are read: as many as there is memory for, if most of what comes out leaves the tier;
 * else all, of fewer streams. */
static unsigned group_limit(const struct group *g, const struct compact_stream *streams, size_t count) {
    unsigned low = 1, high = g->count; /* there is memory for the former, if any */
    struct amount all = group_amount(g, streams, count, high);
    if (all.bytes <= g->budget) return high;
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        if (group_amount(g, streams, count, middle).bytes <= g->budget)
            low = middle;
        else
            high = middle;
    }
    struct amount a = group_amount(g, streams, count, low);
    bool of_all = a.bytes / low >= all.bytes / g->count / 4 * 3; /* few streams have enough in so few objects */
    return low > 1 && a.bytes <= g->budget && of_all && a.leaves >= a.bytes / 8 * 7 ? low : g->count;
}

/* What will be merged again lies side by side. */
static int as_written(const void *a, const void *b) {
    const struct compact_pick *x = a, *y = b;
    bool x_large = x->run.bytes >= COMPACT_HIGH_BELOW, y_large = y->run.bytes >= COMPACT_HIGH_BELOW;
    if (x_large != y_large) return x_large ? 1 : -1;
    return x->stream < y->stream ? -1 : x->stream > y->stream;
}

/* Those of the highest tier first: what others have in the same objects goes along with them, but not the reverse. */
static bool whose_turn(const struct compact_stream *streams, size_t count, struct stream_id last, uint64_t budget,
                       size_t *turn, struct compact_run *run) {
    size_t begin = 0;
    while (begin < count && streams[begin].id.v <= last.v) begin++;
    for (unsigned t = TOP + 1; t-- > 0;) {
        for (size_t n = 0; n < count; n++) {
            *turn = (begin + n) % count;
            const struct compact_stream *x = &streams[*turn];
            if (find_in_tier(x->ranges, x->count, budget, t, 1, run)) return true;
        }
    }
    return false;
}

/* How many of the picks there is memory for, with what lies between their ranges: the first in any case. */
static size_t picks_fit(struct mem *m, const struct compact_stream *streams, const struct compact_pick *picks,
                        size_t count, uint64_t budget) {
    size_t n = 0, low = 1, high = count + 1; /* there is memory for the former, but not for the latter */
    for (size_t i = 0; i < count; i++) n += picks[i].run.count;
    struct compact_wanted *wanted = mem_alloc(m, n * sizeof(*wanted));
    n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct state_range *first = &streams[picks[i].stream].ranges[picks[i].run.first];
        for (size_t k = 0; k < picks[i].run.count; k++) wanted[n++] = (struct compact_wanted){first + k, i};
    }
    compact_wanted_sort(wanted, n);
    if (compact_wanted_bytes(wanted, n, count) <= budget) low = count;
    while (low < count && high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (compact_wanted_bytes(wanted, n, middle) <= budget)
            low = middle;
        else
            high = middle;
    }
    mem_free(m, wanted);
    return low;
}

size_t compact_choose(struct mem *m, const struct compact_stream *streams, size_t count, struct stream_id *last,
                      uint64_t budget, struct compact_pick *picks) {
    struct compact_run run;
    size_t turn, picked = 1;
    if (!whose_turn(streams, count, *last, budget, &turn, &run)) return 0;
    struct group g;
    group_init(&g, m, streams[turn].ranges, &run, budget);
    unsigned limit = group_limit(&g, streams, count);
    picks[0] = (struct compact_pick){turn, cut(&g, streams[turn].ranges, run, limit)};
    uint64_t bytes = picks[0].run.bytes;
    for (size_t i = 1; i < count && picked < COMPACT_SECTIONS_MAX; i++) {
        struct compact_pick p = {.stream = (turn + i) % count};
        if (!part_find(&g, &streams[p.stream], limit, &p.run)) continue;
        bytes += p.run.bytes;
        if (bytes > budget) break;
        picks[picked++] = p;
    }
    mem_free(m, g.members);
    picked = picks_fit(m, streams, picks, picked, budget);
    *last = streams[picks[picked - 1].stream].id;
    qsort(picks, picked, sizeof(*picks), as_written);
    return picked;
}

/* ---- reading ---- */

int compact_by_place(const struct state_range *a, const struct state_range *b) {
    int order = object_id_compare(a->object, b->object);
    return order != 0 ? order : a->position < b->position ? -1 : a->position > b->position;
}

bool compact_span_join(struct compact_span *x, const struct state_range *r, uint64_t *vain) {
    uint64_t end = x->position + x->size;
    if (!object_id_equal(x->object, r->object) || r->position < end) return false;
    uint64_t gap = r->position - end, size = r->position + r->size_bytes - x->position;
    bool worth = gap <= COMPACT_GAP || (gap <= COMPACT_GAP_MAX && gap <= x->size);
    if (!worth || size > COMPACT_GET_MAX || gap > *vain) return false;
    x->size = size;
    *vain -= gap;
    return true;
}

static int wanted_by_place(const void *a, const void *b) {
    const struct compact_wanted *x = a, *y = b;
    return compact_by_place(x->range, y->range);
}

void compact_wanted_sort(struct compact_wanted *wanted, size_t count) {
    if (count > 1) qsort(wanted, count, sizeof(*wanted), wanted_by_place);
}

uint64_t compact_wanted_bytes(const struct compact_wanted *wanted, size_t count, size_t limit) {
    uint64_t bytes = 0, vain = UINT64_MAX;
    struct compact_span x = {.size = 0};
    for (size_t i = 0; i < count; i++) {
        const struct state_range *r = wanted[i].range;
        if (wanted[i].by >= limit) continue;
        bytes += r->size_bytes;
        if (x.size == 0 || !compact_span_join(&x, r, &vain))
            x = (struct compact_span){r->object, r->position, r->size_bytes};
    }
    return bytes + (UINT64_MAX - vain);
}

void compact_objects_fit(const struct compact_wanted *wanted, size_t count, uint64_t budget, bool *fits) {
    uint64_t bytes = 0;
    size_t end;
    for (size_t i = 0; i < count; i = end) {
        for (end = i; end < count && wanted[end].by == wanted[i].by;) end++;
        uint64_t more = compact_wanted_bytes(wanted + i, end - i, SIZE_MAX);
        fits[wanted[i].by] = bytes == 0 || bytes + more <= budget;
        bytes += fits[wanted[i].by] ? more : 0;
    }
}
