#include "sim/check_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/map.h"
#include "meta/meta_cluster.h"
#include "meta/meta_image.h"
#include "stream/compact.h"
#include "stream/object.h"
#include "stream/wal_claim.h"

/* --- What was seen before. */

struct span {
    uint64_t start, end;
};

struct sim_check_memory {
    struct mem *mem;
    struct map64 streams, ledgers; /* stream id, incarnation -> struct span * */
    struct span cluster;
    /* The last look that found all in order, at a moment: what it told of streams. */
    const struct sim_bucket *looked_at; /* NULL: none */
    uint64_t version;
    bool exclusive;
    struct sim_check_stream *told; /* topic: owned */
    size_t told_count, told_capacity;
};

struct sim_check_memory *sim_check_memory_create(struct mem *m) {
    struct sim_check_memory *c = MEM_NEW(m, struct sim_check_memory);
    c->mem = m;
    map64_init(&c->streams, m);
    map64_init(&c->ledgers, m);
    return c;
}

static void told_forget(struct sim_check_memory *c) {
    c->looked_at = NULL;
    for (size_t i = 0; i < c->told_count; i++) mem_free(c->mem, (char *)c->told[i].topic);
    c->told_count = 0;
}

static void told_add(struct sim_check_memory *c, const struct sim_check_stream *s) {
    c->told = mem_grow(c->mem, c->told, c->told_count, &c->told_capacity, sizeof(*c->told));
    c->told[c->told_count] = *s;
    c->told[c->told_count++].topic = mem_strdup(c->mem, s->topic);
}

static void span_remember(struct stored_report *r, struct span *known, uint64_t start, uint64_t end, const char *what,
                          uint64_t id) {
    if (start < known->start)
        stored_bad(r, "%s %" PRIu64 " begins at %" PRIu64 "; it began at %" PRIu64 " before", what, id, start,
                   known->start);
    else if (end < known->end)
        stored_bad(r, "%s %" PRIu64 " ends at %" PRIu64 "; it ended at %" PRIu64 " before", what, id, end, known->end);
    *known = (struct span){start, end};
}

static void remember(struct stored_report *r, struct sim_check_memory *c, struct map64 *map, uint64_t id,
                     uint64_t start, uint64_t end, const char *what) {
    struct span *known = map64_get(map, id);
    if (!known) {
        known = MEM_NEW(c->mem, struct span);
        (void)map64_put(map, id, known);
    }
    span_remember(r, known, start, end, what, id);
}

/* --- One look. */

struct sim_seen_piece {
    struct state_range range;
    uint64_t stream;
};

struct place { /* of an object that a ledger can name */
    struct object_id id;
    size_t object;
};

struct extent { /* bytes of an object that a range names */
    size_t object;
    uint64_t position, end;
    uint64_t stream;
};

struct check {
    struct mem *mem;
    const struct sim_bucket *bucket;
    const struct sim_check_options *options;
    struct sim_check_found *found;
    struct stored_report *report;
    char generation[META_GENERATION_SIZE + 1];
    struct meta_image image;
    bool *needed, *read;   /* by index in the bucket; read: it was verified as an entry of a log */
    size_t ours, ours_end; /* objects of the generation: from, to */
    struct place *places;  /* in the order of their keys: by kind, creator, number */
    size_t place_count;
    struct extent *extents;
    size_t extent_count, extent_capacity;
    uint64_t cluster_boundary;
    uint64_t settled_boundary; /* of the settled one's ledger */
};

static bool failed(const struct check *c) {
    return stored_failed(c->report);
}

/* The object's index; bucket->count: there is none. */
static size_t object_find(const struct check *c, const char *key) {
    size_t i = sim_bucket_from(c->bucket, key);
    return i < c->bucket->count && strcmp(c->bucket->objects[i]->key, key) == 0 ? i : c->bucket->count;
}

/* What the key says, whatever the generation that it begins with. False: it names no object of a ledger. */
static bool object_named(struct sim_object *o) {
    struct sim_seen *s = &o->seen;
    if (!s->named) {
        char generation[META_GENERATION_SIZE + 1] = "";
        const char *end = strchr(o->key, '/');
        s->named = true;
        if (end && end - o->key == META_GENERATION_SIZE) {
            memcpy(generation, o->key, META_GENERATION_SIZE);
            s->data = object_key_parse(o->key, generation, &s->id);
        }
    }
    return s->data;
}

static int place_compare(struct object_id a, struct object_id b) {
    if (a.kind != b.kind) return a.kind == OBJECT_DATA ? -1 : 1; /* "data" lies before "ledger" */
    return object_id_compare(a, b);
}

static void places_find(struct check *c) {
    const struct sim_bucket *b = c->bucket;
    char behind[META_GENERATION_SIZE + 1];
    memcpy(behind, c->generation, sizeof(behind));
    behind[META_GENERATION_SIZE - 1]++;
    c->ours = sim_bucket_from(b, c->generation);
    c->ours_end = sim_bucket_from(b, behind);
    c->places = mem_alloc(c->mem, (c->ours_end - c->ours + 1) * sizeof(*c->places));
    for (size_t i = c->ours; i < c->ours_end; i++) {
        if (!object_named(b->objects[i])) continue;
        struct place *p = &c->places[c->place_count++];
        *p = (struct place){b->objects[i]->seen.id, i};
        DCHECK(c->place_count == 1 || place_compare(p[-1].id, p->id) < 0);
    }
}

/* As object_find, of what a ledger names. */
static size_t place_find(const struct check *c, struct object_id id) {
    size_t low = 0, high = c->place_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (place_compare(c->places[middle].id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < c->place_count && object_id_equal(c->places[low].id, id) ? c->places[low].object : c->bucket->count;
}

/* --- The cluster. */

static bool cluster_read(struct check *c) {
    size_t i = object_find(c, META_CLUSTER_KEY);
    if (i == c->bucket->count) return false;
    const struct sim_object *o = c->bucket->objects[i];
    struct uuid id;
    enum err e = meta_cluster_decode(o->data, o->size, c->generation, &id);
    if (e != OK) stored_bad(c->report, META_CLUSTER_KEY ": it does not verify: %s", err_name(e));
    c->needed[i] = true;
    return e == OK;
}

static void cluster_records(struct check *c, const struct stored_entry *x) {
    struct reader in = reader_of(x->head, x->header.head_size);
    for (uint64_t index = 0; reader_left(&in) > 0 && !failed(c); index++) {
        struct meta_record record;
        enum err e = meta_record_decode(&record, c->mem, &in);
        if (e == OK) {
            e = meta_image_apply(&c->image, &record, meta_position(x->header.number, index));
            meta_record_deinit(&record, c->mem);
        }
        if (e != OK) stored_bad(c->report, "%s: record %" PRIu64 ": %s", x->object->key, index, err_name(e));
    }
}

static void cluster_snapshot(struct check *c, const struct stored_entry *x, bool first) {
    struct meta_image there;
    enum err e = meta_snapshot_decode(&there, c->mem, slice_borrow(x->head, x->header.head_size));
    if (e != OK) {
        stored_bad(c->report, "%s: the snapshot: %s", x->object->key, err_name(e));
        return;
    }
    if (!first) {
        struct buf before;
        buf_init(&before, c->mem);
        c->image.cleaned_below = there.cleaned_below; /* only snapshots carry it */
        meta_snapshot_encode(&c->image, &before);
        if (before.size != x->header.head_size || memcmp(before.data, x->head, before.size) != 0)
            stored_bad(c->report, "%s: the snapshot is not what the records before it amount to", x->object->key);
        buf_deinit(&before);
    }
    meta_image_deinit(&c->image);
    c->image = there;
}

static void cluster_log_read(struct check *c) {
    char prefix[64];
    struct stored_log l;
    (void)snprintf(prefix, sizeof(prefix), "%s/cluster", c->generation);
    if (stored_log_read(c->report, c->mem, c->bucket, prefix, 1, &l) && l.fenced)
        stored_bad(c->report, "%s: a fence at %" PRIu64 " ends the cluster log", prefix, l.end);
    c->cluster_boundary = l.boundary;
    for (size_t i = l.first; i < l.behind && !failed(c); i++) {
        const struct stored_entry *x = &l.entries[i];
        c->needed[x->index] = true;
        if (x->header.kind == OBJLOG_CHECKPOINT)
            cluster_snapshot(c, x, i == l.first);
        else
            cluster_records(c, x);
        if (x->header.body_size != 0) stored_bad(c->report, "%s: it has a body", x->object->key);
    }
    for (size_t i = l.behind; i < l.count && !failed(c); i++) c->needed[l.entries[i].index] = true;
    for (size_t i = 0; i < l.count; i++) c->found->elections += l.entries[i].header.kind == OBJLOG_ELECTION;
    if (!failed(c) && c->options->memory)
        span_remember(c->report, &c->options->memory->cluster, l.boundary, l.end, "the cluster log", 0);
    stored_log_deinit(&l, c->mem);
}

/* --- A ledger: what its entries say about the partitions that the cluster log gives its incarnation. */

struct view {
    struct stream_id id;
    int32_t epoch;
    uint64_t start, end;
    struct state_range *ranges;
    size_t count, capacity;
    bool in_checkpoint;
};

struct ledger {
    struct check *check;
    struct incarnation creator;
    struct map64 views; /* stream id -> struct view * */
    uint8_t wal_id[16];
    struct wal_membership members;
    uint64_t next; /* number behind the last entry */
    bool any;
};

static const struct meta_partition *partition_of(const struct check *c, struct stream_id id) {
    int32_t index;
    const struct meta_topic *t = meta_image_topic_of_stream(&c->image, id, &index);
    return t ? &t->partitions[index] : NULL;
}

static bool is_current(const struct ledger *l, struct stream_id id, int32_t epoch) {
    const struct meta_partition *p = partition_of(l->check, id);
    return p && p->owner.v == l->creator.v && p->epoch == epoch;
}

static struct view *view_of(struct ledger *l, struct stream_id id, int32_t epoch) {
    struct view *v = map64_get(&l->views, id.v);
    if (v) return v;
    v = MEM_NEW(l->check->mem, struct view);
    v->id = id;
    v->epoch = epoch;
    (void)map64_put(&l->views, id.v, v);
    return v;
}

static void view_trim(struct view *v, uint64_t start) {
    if (start > v->start) v->start = start;
    size_t gone = 0;
    while (gone < v->count && v->ranges[gone].end_offset <= v->start) gone++;
    v->count -= gone;
    if (gone > 0) memmove(v->ranges, v->ranges + gone, v->count * sizeof(*v->ranges));
}

static void view_append(struct ledger *l, struct view *v, const struct stored_entry *x, const struct stream_state *d) {
    struct check *c = l->check;
    if (d->first_offset != v->end) {
        stored_bad(c->report,
                   "%s: what it appends to stream %" PRIu64 " begins at %" PRIu64 "; the stream ends at %" PRIu64,
                   x->object->key, v->id.v, d->first_offset, v->end);
        return;
    }
    uint64_t end = d->first_offset;
    for (size_t i = 0; i < d->range_count; i++) {
        v->ranges = mem_grow(c->mem, v->ranges, v->count, &v->capacity, sizeof(*v->ranges));
        v->ranges[v->count++] = d->ranges[i];
        end = d->ranges[i].end_offset;
    }
    bool trimmed = d->start_offset >= d->end_offset; /* by the same entry: then no range is worth naming */
    if (end != d->end_offset && !trimmed)
        stored_bad(c->report, "%s: stream %" PRIu64 " grows to %" PRIu64 ", and its ranges to %" PRIu64, x->object->key,
                   v->id.v, d->end_offset, end);
    v->end = d->end_offset;
    view_trim(v, d->start_offset);
}

/* The new ranges, each of which begins where the one before ends, take the place of those they cover, but for what a trim
 * has taken away meanwhile; if they do not line up, it has no effect. */
static void view_replace(struct ledger *l, struct view *v, const struct state_range *r, size_t count) {
    uint64_t from = r[0].first_offset, to = r[count - 1].end_offset;
    size_t first = 0, last = 0;
    while (first < v->count && v->ranges[first].end_offset <= from) first++;
    while (last < v->count && v->ranges[last].end_offset < to) last++;
    if (last >= v->count || v->ranges[last].end_offset != to) return;
    bool whole = v->ranges[first].first_offset == from;
    bool trimmed = first == 0 && v->ranges[0].first_offset > from && v->ranges[0].first_offset <= v->start;
    if (!whole && !trimmed) return;
    size_t behind = v->count - last - 1;
    while (v->capacity < first + count + behind)
        v->ranges = mem_grow(l->check->mem, v->ranges, v->capacity, &v->capacity, sizeof(*v->ranges));
    memmove(&v->ranges[first + count], &v->ranges[last + 1], behind * sizeof(*v->ranges));
    memcpy(&v->ranges[first], r, count * sizeof(*r));
    v->count = first + count + behind;
    view_trim(v, v->start);
}

static void section_apply(struct ledger *l, const struct stored_entry *x, const struct object_section *s) {
    struct check *c = l->check;
    struct stream_state d;
    struct reader in = reader_of(s->delta, s->delta_size);
    enum err e = state_decode(&d, c->mem, &in);
    if (e != OK || !d.delta || reader_left(&in) > 0) {
        stored_bad(c->report, "%s: the delta of stream %" PRIu64 " is none: %s", x->object->key, s->stream.v,
                   err_name(e == OK ? ERR_CORRUPT : e));
    } else if (is_current(l, s->stream, s->epoch)) {
        for (size_t i = 0; i < d.range_count; i++) {
            struct state_range *r = &d.ranges[i];
            if (r->object.number != OBJECT_THIS_ENTRY) continue;
            r->object = (struct object_id){l->creator, x->header.number, OBJECT_LEDGER_ENTRY};
            r->position += OBJLOG_HEADER_SIZE + x->header.head_size;
        }
        struct view *v = view_of(l, s->stream, s->epoch);
        if (s->kind == OBJECT_APPENDED)
            view_append(l, v, x, &d);
        else if (s->kind == OBJECT_REPLACED && d.range_count > 0)
            view_replace(l, v, d.ranges, d.range_count);
    }
    if (e == OK) state_deinit(&d);
}

/* --- Checkpoints. */

static bool ranges_equal(const struct state_range *a, const struct state_range *b) {
    return object_id_equal(a->object, b->object) && a->first_offset == b->first_offset &&
           a->end_offset == b->end_offset && a->max_timestamp == b->max_timestamp && a->position == b->position &&
           a->size_bytes == b->size_bytes && a->block_count == b->block_count;
}

/* What the checkpoint says of a stream; what the entries before it said must be the same. */
static void state_take(struct ledger *l, const struct stored_entry *x, const struct object_state_pointer *p,
                       const struct stream_state *s) {
    struct check *c = l->check;
    struct view *v = map64_get(&l->views, p->stream.v);
    bool same = !v || (v->start == s->start_offset && v->end == s->end_offset && v->count == s->range_count);
    for (size_t i = 0; v && same && i < v->count; i++) same = ranges_equal(&v->ranges[i], &s->ranges[i]);
    if (!same) {
        stored_bad(c->report,
                   "%s: the checkpoint says that stream %" PRIu64 " is %" PRIu64 "..%" PRIu64
                   " in %u ranges; the entries before it say %" PRIu64 "..%" PRIu64 " in %zu",
                   x->object->key, p->stream.v, s->start_offset, s->end_offset, s->range_count, v->start, v->end,
                   v->count);
        return;
    }
    if (!v) {
        v = view_of(l, p->stream, p->epoch);
        v->start = s->start_offset;
        v->end = s->end_offset;
        for (size_t i = 0; i < s->range_count; i++) {
            v->ranges = mem_grow(c->mem, v->ranges, v->count, &v->capacity, sizeof(*v->ranges));
            v->ranges[v->count++] = s->ranges[i];
        }
    }
    v->in_checkpoint = true;
}

static void pointer_follow(struct ledger *l, const struct stored_entry *x, struct object_state_pointer *p) {
    struct check *c = l->check;
    if (p->entry == OBJECT_THIS_ENTRY) {
        p->entry = x->header.number;
        p->position += OBJLOG_HEADER_SIZE + x->header.head_size;
    }
    struct object_id id = {l->creator, p->entry, OBJECT_LEDGER_ENTRY};
    size_t i = place_find(c, id);
    if (i == c->bucket->count) {
        char key[OBJECT_KEY_MAX];
        object_key(key, c->generation, id);
        stored_bad(c->report, "%s: it names the state of stream %" PRIu64 " in %s, which is missing", x->object->key,
                   p->stream.v, key);
        return;
    }
    c->needed[i] = true;
    const struct sim_object *o = c->bucket->objects[i];
    if (p->position > o->size || p->size > o->size - p->position ||
        crc32c(0, o->data + p->position, p->size) != p->crc) {
        stored_bad(c->report, "%s: the state of stream %" PRIu64 " at %" PRIu64 " does not verify", o->key, p->stream.v,
                   p->position);
        return;
    }
    if (p->refused) stored_bad(c->report, "%s: stream %" PRIu64 " is refused", x->object->key, p->stream.v);
    struct stream_state s;
    struct reader in = reader_of(o->data + p->position, p->size);
    enum err e = state_decode(&s, c->mem, &in);
    if (e != OK) {
        stored_bad(c->report, "%s: the state of stream %" PRIu64 ": %s", o->key, p->stream.v, err_name(e));
        return;
    }
    if (s.delta || reader_left(&in) > 0)
        stored_bad(c->report, "%s: the state of stream %" PRIu64 " is none", o->key, p->stream.v);
    else
        state_take(l, x, p, &s);
    state_deinit(&s);
}

/* A stream that the entries before knew and the checkpoint does not is lost. */
static void views_all_there(struct ledger *l, const struct stored_entry *x) {
    size_t cursor = 0;
    struct view *v;
    while ((v = map64_next(&l->views, &cursor, NULL)) != NULL) {
        if (!v->in_checkpoint)
            stored_bad(l->check->report, "%s: the checkpoint knows nothing of stream %" PRIu64, x->object->key,
                       v->id.v);
        v->in_checkpoint = false;
    }
}

static void entry_apply(struct ledger *l, const struct stored_entry *x) {
    struct check *c = l->check;
    struct object_head head;
    struct reader in = reader_of(x->head, x->header.head_size);
    enum err e = object_head_decode(&in, &head);
    if (e == OK && x->header.writer != l->creator.v) e = ERR_FOREIGN;
    for (uint32_t i = 0; i < head.section_count && e == OK && !failed(c); i++) {
        struct object_section s;
        e = object_section_decode(&in, &s);
        if (e == OK) section_apply(l, x, &s);
    }
    for (uint32_t i = 0; i < head.state_count && e == OK && !failed(c); i++) {
        struct object_state_pointer p;
        e = object_state_decode(&in, &p);
        if (e == OK && is_current(l, p.stream, p.epoch)) pointer_follow(l, x, &p);
    }
    if (e == OK && !failed(c) && reader_left(&in) > 0) e = ERR_CORRUPT;
    if (e != OK) stored_bad(c->report, "%s: the head of a ledger entry: %s", x->object->key, err_name(e));
    if (failed(c)) return;
    if (x->header.kind == OBJLOG_CHECKPOINT) views_all_there(l, x);
    memcpy(l->wal_id, head.wal_id, sizeof(l->wal_id));
    if (head.members.version > 0 && head.members.version >= l->members.version) l->members = head.members;
}

/* --- What ranges name. */

static bool range_right(struct check *c, const struct view *v, const struct state_range *r,
                        const struct sim_object *o) {
    if (r->object.kind == OBJECT_DATA) {
        struct object_id named;
        struct stream_id stream = {0};
        uint64_t size = 0;
        enum err e = object_data_header_decode(o->data, o->size, &named, &stream, &size);
        bool one = stream.v != 0; /* else of several: extents_check looks at who has what */
        bool right = e == OK && object_id_equal(named, r->object) && r->position >= OBJECT_DATA_HEADER &&
                     o->size == OBJECT_DATA_HEADER + size && (!one || stream.v == v->id.v);
        if (!right)
            stored_bad(c->report, "%s: it is not the data object that stream %" PRIu64 " refers to", o->key, v->id.v);
    }
    return !failed(c) && stored_piece(c->report, o->key, o->data, o->size, r);
}

static bool range_seen(struct sim_seen *s, const struct view *v, const struct state_range *r) {
    for (size_t i = 0; i < s->piece_count; i++) {
        if (s->piece_next >= s->piece_count) s->piece_next = 0;
        const struct sim_seen_piece *p = &s->pieces[s->piece_next++];
        if (p->range.position == r->position && p->stream == v->id.v && ranges_equal(&p->range, r)) return true;
    }
    return false;
}

static void range_check(struct check *c, const struct view *v, const struct state_range *r) {
    size_t i = place_find(c, r->object);
    if (i == c->bucket->count) {
        char key[OBJECT_KEY_MAX];
        object_key(key, c->generation, r->object);
        stored_bad(c->report, "%s: stream %" PRIu64 " needs it for offsets %" PRIu64 "..%" PRIu64 ", and it is missing",
                   key, v->id.v, r->first_offset, r->end_offset);
        return;
    }
    struct sim_object *o = c->bucket->objects[i];
    struct sim_seen *s = &o->seen;
    c->needed[i] = true;
    if (!range_seen(s, v, r)) {
        if (!range_right(c, v, r, o)) return;
        s->pieces =
            mem_grow(&c->bucket->world->heap, s->pieces, s->piece_count, &s->piece_capacity, sizeof(*s->pieces));
        s->pieces[s->piece_count++] = (struct sim_seen_piece){*r, v->id.v};
    }
    c->extents = mem_grow(c->mem, c->extents, c->extent_count, &c->extent_capacity, sizeof(*c->extents));
    c->extents[c->extent_count++] = (struct extent){i, r->position, r->position + r->size_bytes, v->id.v};
}

static void view_check(struct check *c, const struct view *v) {
    uint64_t offset = v->count > 0 ? v->ranges[0].first_offset : v->end;
    if (v->start > v->end || (v->count > 0 ? offset > v->start : v->start != v->end))
        stored_bad(c->report, "stream %" PRIu64 " is %" PRIu64 "..%" PRIu64 ", and its first range begins at %" PRIu64,
                   v->id.v, v->start, v->end, offset);
    struct compact_run run;
    if (c->options->merged && compact_find_run(v->ranges, v->count, COMPACT_BYTES_MIN, &run))
        stored_bad(c->report, "stream %" PRIu64 ": %zu ranges from offset %" PRIu64 " on were not merged", v->id.v,
                   run.count, v->ranges[run.first].first_offset);
    for (size_t i = 0; i < v->count && !failed(c); i++) {
        const struct state_range *r = &v->ranges[i];
        if (r->first_offset != offset)
            stored_bad(c->report,
                       "stream %" PRIu64 ": the range that ends at %" PRIu64 " is followed by one from %" PRIu64,
                       v->id.v, offset, r->first_offset);
        offset = r->end_offset;
        if (!failed(c)) range_check(c, v, r);
    }
    if (!failed(c) && offset != v->end)
        stored_bad(c->report, "stream %" PRIu64 " ends at %" PRIu64 ", and its ranges at %" PRIu64, v->id.v, v->end,
                   offset);
}

/* By object and position. Of most objects there are few, and nearly in order. */
static void extents_sort(struct check *c) {
    struct extent *sorted = mem_zalloc(c->mem, (c->extent_count + 1) * sizeof(*sorted)); /* zero: nothing goes before */
    size_t *end = mem_zalloc(c->mem, (c->bucket->count + 1) * sizeof(*end));
    for (size_t i = 0; i < c->extent_count; i++) end[c->extents[i].object + 1]++;
    for (size_t i = 1; i <= c->bucket->count; i++) end[i] += end[i - 1];
    for (size_t i = 0; i < c->extent_count; i++) {
        const struct extent *x = &c->extents[i];
        size_t at = end[x->object]++;
        for (; at > 0 && sorted[at - 1].object == x->object && sorted[at - 1].position > x->position; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = *x;
    }
    c->extents = sorted;
}

static void extents_check(struct check *c) {
    extents_sort(c);
    for (size_t i = 1; i < c->extent_count && !failed(c); i++) {
        const struct extent *x = &c->extents[i - 1], *y = &c->extents[i];
        if (x->object == y->object && y->position < x->end)
            stored_bad(c->report, "%s: ranges of streams %" PRIu64 " and %" PRIu64 " share its bytes at %" PRIu64,
                       c->bucket->objects[x->object]->key, x->stream, y->stream, y->position);
    }
}

/* What is not worth keeping has been written again: objects of which little is needed, and small ones of which there are
 * many. Entries of the settled one's own ledger have time until its checkpoints have moved on. */
static void poor_check(struct check *c) {
    uint64_t dead = 0, needed = 0, small = 0;
    for (size_t i = 0; i < c->extent_count;) {
        const struct sim_object *o = c->bucket->objects[c->extents[i].object];
        uint64_t live = 0, end = 0;
        size_t object = c->extents[i].object;
        for (; i < c->extent_count && c->extents[i].object == object; i++) {
            live += c->extents[i].end - c->extents[i].position;
            end = c->extents[i].end;
        }
        const struct object_id *id = &o->seen.id; /* a range names it */
        needed += live;
        if (id->creator.v == c->options->settled.v && id->kind == OBJECT_LEDGER_ENTRY) continue;
        if (end >= COMPACT_SMALL_BELOW && live < end / 4) dead += end - live;
        small += o->size < COMPACT_SMALL_BELOW;
    }
    if (small >= COMPACT_SMALL_OBJECTS) stored_bad(c->report, "%" PRIu64 " small objects were not put together", small);
    if (dead >= COMPACT_DEAD_MIN && dead >= needed / 16)
        stored_bad(c->report, "%" PRIu64 " bytes that nothing needs lie in objects of which little is needed", dead);
}

/* --- Ledgers of the living, and of the dead that nobody has recovered yet. */

static void tell_streams(struct ledger *l) {
    struct check *c = l->check;
    for (size_t i = 0; i < c->image.topic_count && !failed(c); i++) {
        const struct meta_topic *t = c->image.topics[i];
        for (int32_t k = 0; k < t->partition_count && !failed(c); k++) {
            const struct meta_partition *p = &t->partitions[k];
            if (p->owner.v != l->creator.v) continue;
            const struct view *v = map64_get(&l->views, p->stream.v);
            struct sim_check_stream s = {
                .topic = t->name, .partition = k, .id = p->stream, .epoch = p->epoch, .owner = p->owner};
            memcpy(s.wal_id, l->wal_id, sizeof(s.wal_id));
            s.members = l->members;
            if (v) {
                s.start = v->start;
                s.end = v->end;
            }
            if (p->epoch > 0 && p->state_entry >= l->next)
                stored_bad(c->report,
                           "stream %" PRIu64 ": its state is in entry %" PRIu64 " of ledger %" PRIx64
                           ", which ends at %" PRIu64,
                           p->stream.v, p->state_entry, l->creator.v, l->next);
            if (c->options->memory)
                remember(c->report, c->options->memory, &c->options->memory->streams, s.id.v, s.start, s.end, "stream");
            if (c->options->memory) told_add(c->options->memory, &s);
            if (c->options->stream) c->options->stream(c->options->ctx, &s);
        }
    }
}

static void ledger_check(struct check *c, struct incarnation creator) {
    struct ledger l = {.check = c, .creator = creator};
    struct stored_log log;
    char prefix[OBJECT_KEY_MAX];
    object_ledger_prefix(prefix, c->generation, creator);
    map64_init(&l.views, c->mem);
    if (stored_log_read(c->report, c->mem, c->bucket, prefix, OBJLOG_DEPTH_MAX, &log)) {
        l.next = log.end;
        for (size_t i = 0; i < log.count; i++) {
            c->read[log.entries[i].index] = true;
            c->needed[log.entries[i].index] = i >= log.first;
        }
        for (size_t i = log.first; i < log.behind && !failed(c); i++) entry_apply(&l, &log.entries[i]);
        if (c->options->memory)
            remember(c->report, c->options->memory, &c->options->memory->ledgers, creator.v, log.boundary, log.end,
                     "ledger");
        if (creator.v == c->options->settled.v) {
            c->settled_boundary = log.boundary;
            if (c->options->log_max > 0 && log.behind - log.first > c->options->log_max)
                stored_bad(c->report, "%s: %zu entries are still log; no more than %" PRIu64 " should be", prefix,
                           log.behind - log.first, c->options->log_max);
        }
    }
    size_t cursor = 0;
    const struct view *v;
    while (!failed(c) && (v = map64_next(&l.views, &cursor, NULL)) != NULL) view_check(c, v);
    if (!failed(c)) tell_streams(&l);
    stored_log_deinit(&log, c->mem);
}

/* --- Everything else that lies there. */

enum lot {
    LOT_NEEDED,
    LOT_PROBE,
    LOT_FENCE,
    LOT_ELECTION,
    LOT_LATE,    /* it landed after it could be seen that nothing needs it */
    LOT_GARBAGE, /* to be deleted, and not due yet */
    LOT_ORPHAN,
};

/* Of ledgers that nobody replays any more, and data objects: whole by themselves. kind: what an entry is. */
static bool object_whole(struct check *c, size_t i, struct object_id id, enum objlog_kind *kind) {
    struct sim_object *o = c->bucket->objects[i];
    if (id.kind == OBJECT_LEDGER_ENTRY) {
        struct stored_entry entry;
        if (c->read[i] && c->needed[i]) return true;
        bool whole = stored_entry_read(c->report, o, id.number, &entry);
        *kind = entry.header.kind;
        return whole;
    }
    if (o->seen.whole) return true;
    struct object_id named = {{0}, 0, OBJECT_DATA};
    struct stream_id stream;
    uint64_t size = 0;
    enum err e = object_data_header_decode(o->data, o->size, &named, &stream, &size);
    if (e != OK || !object_id_equal(named, id) || o->size != OBJECT_DATA_HEADER + size)
        stored_bad(c->report, "%s: it is not the data object that its key says", o->key);
    o->seen.whole = !failed(c);
    return o->seen.whole;
}

/* It was refused to whoever would delete it, and is tried again, less and less often (stream/collect.c). */
static bool tried_again_later(const struct check *c, const struct sim_object *o) {
    const struct sim_check_options *x = c->options;
    if (o->refusals == 0) return false;
    if (x->closed && o->locked_until_ns >= x->swept_ns) return true; /* then nobody does any more */
    /* Twice as long as before; and twice again, should the store have failed when it was time. */
    unsigned doubled = o->refusals < 9 ? o->refusals + 1 : 10;
    return c->bucket->world->now_ns < o->refused_ns + (10 * NS_PER_S << doubled) + 30 * NS_PER_S;
}

#define CLOSE_TAKES_NS (30 * NS_PER_S)

/* An object that nothing needs, of a ledger or by itself. */
static enum lot lot_of_data(const struct check *c, const struct sim_object *o, struct object_id id,
                            enum objlog_kind kind) {
    const struct sim_check_options *x = c->options;
    if (kind == OBJLOG_FENCE && !x->exclusive) return LOT_FENCE;
    if (x->settled.v == 0 || id.creator.v > x->settled.v || tried_again_later(c, o)) return LOT_GARBAGE;
    if (id.creator.v < x->settled.v) return o->landed_ns >= x->swept_ns ? LOT_LATE : LOT_ORPHAN;
    bool own_entry = id.kind == OBJECT_LEDGER_ENTRY;
    if (own_entry && (x->closed || id.number >= c->settled_boundary)) return LOT_GARBAGE;
    /* Of a job that the close cut short: the next start's sweep finds it. */
    if (x->closed && c->bucket->world->now_ns < o->landed_ns + CLOSE_TAKES_NS) return LOT_GARBAGE;
    return o->again && !x->exclusive ? LOT_LATE : LOT_ORPHAN;
}

static enum lot lot_of_cluster_entry(struct check *c, const struct sim_object *o) {
    struct objlog_header h = {0};
    if (objlog_header_decode(o->data, o->size, &h) != OK) return LOT_ORPHAN;
    bool takeover = h.kind == OBJLOG_ELECTION || h.kind == OBJLOG_FENCE;
    if (takeover && !c->options->exclusive) return LOT_ELECTION;
    if (o->again && !c->options->exclusive) return LOT_LATE;
    if (o->locked_until_ns >= c->options->swept_ns && o->refusals > 0) return LOT_GARBAGE;
    return c->options->merged ? LOT_ORPHAN : LOT_GARBAGE;
}

/* A WAL id is claimed once, for ever: whoever read it, however long ago, must find that it is taken. */
static enum lot lot_of_claim(struct check *c, struct sim_object *o) {
    struct wal_claim claim;
    char key[OBJECT_KEY_MAX] = "";
    c->found->claims++;
    if (o->seen.whole) return LOT_NEEDED;
    enum err e = wal_claim_decode(o->data, o->size, &claim);
    if (e == OK) wal_claim_key(key, sizeof(key), c->generation, claim.wal_id);
    if (e != OK || strcmp(key, o->key) != 0)
        stored_bad(c->report, "%s: it is no claim of that WAL: %s", o->key, err_name(e));
    o->seen.whole = !failed(c);
    return LOT_NEEDED;
}

static enum lot lot_of(struct check *c, size_t i) {
    struct sim_object *o = c->bucket->objects[i];
    bool ours = i >= c->ours && i < c->ours_end;
    enum objlog_kind kind = OBJLOG_DATA;
    bool data = ours && object_named(o);
    if (data && !object_whole(c, i, o->seen.id, &kind)) return LOT_ORPHAN;
    if (c->needed[i]) return LOT_NEEDED;
    if (data) return lot_of_data(c, o, o->seen.id, kind);
    if (ours && strncmp(o->key + META_GENERATION_SIZE, "/cluster/", 9) == 0) return lot_of_cluster_entry(c, o);
    if (strncmp(o->key, "oxbow/probe-", 12) == 0) return LOT_PROBE;
    if (ours && strncmp(o->key + META_GENERATION_SIZE, "/wal/", 5) == 0) return lot_of_claim(c, o);
    stored_bad(c->report, "%s: nobody knows such an object", o->key);
    return LOT_ORPHAN;
}

static void leftovers_check(struct check *c) {
    uint64_t *counts[] = {[LOT_NEEDED] = &c->found->needed, [LOT_PROBE] = &c->found->probes,
                          [LOT_FENCE] = &c->found->fences,  [LOT_ELECTION] = NULL,
                          [LOT_LATE] = &c->found->late,     [LOT_GARBAGE] = &c->found->garbage,
                          [LOT_ORPHAN] = &c->found->garbage};
    struct incarnation of = {0};
    uint64_t fences = 0;
    for (size_t i = 0; i < c->bucket->count && !failed(c); i++) {
        enum lot lot = lot_of(c, i);
        const struct sim_object *o = c->bucket->objects[i];
        if (counts[lot]) ++*counts[lot];
        if (lot == LOT_ORPHAN && c->options->settled.v != 0)
            stored_bad(c->report, "%s: nothing needs it, it has lain there for %" PRIu64 " s, and it is not deleted",
                       o->key, (c->bucket->world->now_ns - o->landed_ns) / (uint64_t)NS_PER_S);
        if (lot != LOT_FENCE) continue;
        fences = o->seen.id.creator.v == of.v ? fences + 1 : 1;
        of = o->seen.id.creator;
        if (fences > SIM_CHECK_FENCES_MAX)
            stored_bad(c->report, "%s: it is fence number %" PRIu64 " of that ledger", o->key, fences);
    }
}

/* What dead incarnations began in parts. */
static void uploads_check(struct check *c) {
    const struct sim_check_options *x = c->options;
    for (size_t i = 0; i < c->bucket->upload_count && !failed(c); i++) {
        const struct sim_upload *u = &c->bucket->uploads[i];
        struct object_id id;
        bool ours = object_key_parse(u->key, c->generation, &id);
        if (ours && x->settled.v != 0 && id.creator.v < x->settled.v && u->begun_ns < x->swept_ns)
            stored_bad(c->report, "%s: it was begun in parts, nobody will complete it, and it was not given up",
                       u->key);
    }
}

bool sim_check_bucket(struct mem *m, const struct sim_bucket *b, const struct sim_check_options *o,
                      struct sim_check_found *out) {
    struct sim_mem scratch;
    sim_mem_init(&scratch, m);
    *out = (struct sim_check_found){.objects = b->count};
    if (o->memory) told_forget(o->memory);
    struct check c = {.mem = &scratch.base, .bucket = b, .options = o, .found = out, .report = &out->report};
    c.needed = mem_zalloc(c.mem, b->count + 1);
    c.read = mem_zalloc(c.mem, b->count + 1);
    meta_image_init(&c.image, c.mem);
    if (cluster_read(&c)) {
        places_find(&c);
        cluster_log_read(&c);
        for (size_t i = 0; i < c.image.broker_count && !failed(&c); i++) {
            const struct meta_broker *k = &c.image.brokers[i];
            if (!k->retired) ledger_check(&c, k->incarnation);
        }
        if (!failed(&c)) extents_check(&c);
        if (!failed(&c) && c.options->merged && c.options->settled.v != 0) poor_check(&c);
    }
    if (!failed(&c)) leftovers_check(&c);
    if (!failed(&c)) uploads_check(&c);
    sim_mem_drop(&scratch); /* all of it: what was read is borrowed, or lies in there */
    return !stored_failed(&out->report);
}

/* Nothing is another thing than it was then; and what depends on the time is asked of the settled only. */
static bool seen_before(const struct sim_bucket *b, const struct sim_check_options *o) {
    const struct sim_check_memory *c = o->memory;
    if (!c || c->looked_at != b || c->version != b->version || c->exclusive != o->exclusive) return false;
    return o->settled.v == 0 && !o->merged;
}

bool sim_check_store(struct sim_world *w, const struct sim_bucket *b, const struct sim_check_options *o) {
    static const struct sim_check_options none;
    struct sim_check_found found;
    if (sim_failed(w)) return false;
    if (!b) b = w->bucket;
    if (!o) o = &none;
    if (seen_before(b, o)) {
        for (size_t i = 0; o->stream && i < o->memory->told_count; i++) o->stream(o->ctx, &o->memory->told[i]);
        return true;
    }
    if (sim_check_bucket(&w->heap, b, o, &found)) {
        if (!o->memory) return true;
        o->memory->looked_at = b;
        o->memory->version = b->version;
        o->memory->exclusive = o->exclusive;
        return true;
    }
    sim_fail(w, "the store: %s", found.report.text);
    return false;
}

bool sim_check_log(struct sim_world *w, const char *prefix, unsigned depth, struct sim_check_memory *memory,
                   uint64_t *end, bool *fenced) {
    struct stored_report r = {""};
    struct stored_log l;
    if (stored_log_read(&r, &w->heap, w->bucket, prefix, depth, &l) && memory)
        span_remember(&r, &memory->cluster, l.boundary, l.end, "the log", 0);
    *end = l.end;
    *fenced = l.fenced;
    stored_log_deinit(&l, &w->heap);
    if (stored_failed(&r)) sim_fail(w, "the store: %s", r.text);
    return !stored_failed(&r);
}
