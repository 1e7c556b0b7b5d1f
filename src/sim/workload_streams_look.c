/* What lies in the bucket and in the WAL, or in each member of a mirror, at any moment of the workloads "streams", "rivals"
 * and "mirror", beside what was promised; and what is left when nothing needs it any more. Read with the checkers' own
 * code (check_format.h). */
#include "sim/workload_streams_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/sizes.h"
#include "stream/wal_objects.h"

#define SETTLE_NS (120 * NS_PER_S) /* every interval of the engine has passed in it */

/* --- What a recovery would find. */

void holding_of_ledger(void *ctx, const struct sim_check_stream *s) {
    struct holdings *h = ctx;
    char topic[16];
    (void)snprintf(topic, sizeof(topic), "t%u", h->test->topic_number);
    if (strcmp(s->topic, topic) != 0) return;
    h->parts[s->partition] = *s;
    h->any[s->partition] = true;
}

bool holding_names_ring(const struct sim_check_stream *s, const struct stored_wal *w) {
    if (s->members.version == 0) return memcmp(s->wal_id, w->superblock.wal_id, sizeof(s->wal_id)) == 0;
    for (unsigned i = 0; i < s->members.count; i++) {
        if (memcmp(s->members.ids[i], w->superblock.wal_id, 16) == 0) return true;
    }
    return false;
}

/* The WAL counts if the ledger's newest entry names it, from where the ledger ends. */
static void holding_of_wal(void *ctx, const struct record_header *r, const uint8_t *payload) {
    struct holdings *h = ctx;
    (void)payload;
    for (unsigned i = 0; i < PARTITIONS_MAX; i++) {
        struct sim_check_stream *s = &h->parts[i];
        if (!h->any[i] || s->id.v != r->stream.v || s->epoch != r->epoch) continue;
        if (!holding_names_ring(s, &h->wal)) continue;
        if (r->type == STREAM_TRIM) {
            if (r->end_offset > s->start && r->end_offset <= s->end) s->start = r->end_offset;
        } else if (r->base_offset > s->end) {
            sim_fail(h->test->world, "partition %u: the WAL goes on at %lu, and what is before it ends at %lu", i,
                     r->base_offset, s->end);
        } else if (r->end_offset > s->end) {
            s->end = r->end_offset;
        }
    }
}

static void look_compare(struct streams_test *t, const struct holdings *h, const struct holdings *ledger) {
    for (unsigned i = 0; i < t->partitions && !sim_failed(t->world); i++) {
        const struct model *m = &t->holders[i]->models[i];
        if (!h->any[i] || (ledger && !holding_names_ring(&ledger->parts[i], &h->wal))) continue;
        t->run->ops++;
        if (h->parts[i].end < m->acked_end || h->parts[i].end < m->shown_end)
            sim_fail(t->world, "partition %u: %lu was acknowledged and %lu shown; bucket and WAL hold it to %lu", i,
                     m->acked_end, m->shown_end, h->parts[i].end);
        if (h->parts[i].start < m->trim_acked || h->parts[i].start > m->trim_asked)
            sim_fail(t->world, "partition %u begins at %lu in bucket and WAL; %lu was acknowledged, %lu asked for", i,
                     h->parts[i].start, m->trim_acked, m->trim_asked);
    }
}

/* --- A mirror's members. */

static enum err holding_of_objects(void *ctx, const struct record_header *r, const uint8_t *payload) {
    holding_of_wal(ctx, r, payload);
    return OK;
}

/* The log with this id, if there is one: "<folder>/<incarnation>-<id>". */
static bool object_log_find(const struct sim_bucket *b, const uint8_t id[16], char *out, size_t out_size) {
    char text[35] = "-";
    for (unsigned i = 0; i < 16; i++) (void)snprintf(text + 1 + 2 * (size_t)i, 3, "%02x", id[i]);
    text[33] = '/';
    text[34] = '\0';
    for (size_t i = 0; i < b->count; i++) {
        const char *at = strstr(b->objects[i]->key, text);
        if (!at) continue;
        (void)snprintf(out, out_size, "%.*s", (int)(at + 33 - b->objects[i]->key), b->objects[i]->key);
        return true;
    }
    return false;
}

/* What that log holds, from its boundary to its end. */
static void object_log_read(struct streams_test *t, const char *prefix, struct holdings *h) {
    struct stored_report r = {""};
    struct stored_log log;
    if (!stored_log_read(&r, sim_run_mem(t->run), t->bucket, prefix, OBJLOG_DEPTH_MAX, &log) && !t->closing)
        sim_fail(t->world, "the object log of the mirror: %s", r.text);
    for (size_t i = log.first; i < log.behind && !sim_failed(t->world); i++) {
        const struct stored_entry *n = &log.entries[i];
        uint32_t groups;
        uint64_t records = 0;
        if (wal_objects_head_decode(n->head, n->header.head_size, h->wal.superblock.wal_id, &groups) != OK ||
            wal_objects_body_read(n->body, n->header.body_size, groups, (struct incarnation){n->header.writer},
                                  holding_of_objects, h, &records) != OK)
            sim_fail(t->world, "the object log of the mirror: entry %lu is not one", n->header.number);
    }
    stored_log_deinit(&log, sim_run_mem(t->run));
}

/* As look_at_mirror, of the object log. True: it counts. */
static bool look_at_objects(struct streams_test *t, const struct holdings *ledger) {
    char prefix[WAL_OBJECTS_PREFIX_MAX];
    for (unsigned i = 0; t->bucket && ledger->any[0] && i < ledger->parts[0].members.count; i++) {
        const uint8_t *id = ledger->parts[0].members.ids[i];
        if (!object_log_find(t->bucket, id, prefix, sizeof(prefix))) continue;
        struct holdings h = *ledger;
        memcpy(h.wal.superblock.wal_id, id, 16);
        object_log_read(t, prefix, &h);
        look_compare(t, &h, ledger);
        return true;
    }
    return false;
}

/* Each device that counts, by itself. What counts and is nowhere was given up: then the ledger has everything, or there
 * must be another. Where none is replaced, none is nowhere, but for an object log that its broker is deleting. */
static void look_at_mirror(struct streams_test *t, const struct holdings *ledger) {
    unsigned counting = 0;
    for (unsigned d = 0; d < t->rings && !sim_failed(t->world); d++) {
        struct holdings h = *ledger;
        struct stored_report r = {""};
        if (t->away[d]) continue;
        if (!stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], holding_of_wal, &h, &h.wal)) {
            sim_fail(t->world, "the WAL %u: %s", d, r.text);
            return;
        }
        if (!h.wal.formatted) continue;
        counting += h.any[0] && holding_names_ring(&h.parts[0], &h.wal);
        look_compare(t, &h, ledger);
    }
    bool objects = look_at_objects(t, ledger);
    counting += objects;
    if (counting == 0) look_compare(t, ledger, NULL);
    unsigned named = ledger->any[0] ? ledger->parts[0].members.count : 0;
    if (t->marks && named > counting + (t->bucket && !objects && t->closing))
        sim_fail(t->world, "the ledger names %u members of the mirror, and %u are there", named, counting);
}

/* --- At any moment, and in the end. */

void look_at_all(void *arg) {
    struct streams_test *t = arg;
    mirror_check_others(t);
    if (t->detects) return;
    struct holdings h = {.test = t};
    struct sim_check_options o = {.memory = t->memory, .exclusive = !t->shared, .stream = holding_of_ledger, .ctx = &h};
    if (!sim_check_store(t->world, NULL, &o)) return;
    struct stored_report r = {""};
    if (t->mirrored) {
        look_at_mirror(t, &h);
        return;
    }
    if (!t->no_wal) {
        struct sim_file *f = sim_disk_find(t->sides[0].broker->disk, WAL_PATH);
        if (!stored_wal_read(&r, sim_run_mem(t->run), f, holding_of_wal, &h, &h.wal))
            sim_fail(t->world, "the WAL: %s", r.text);
    }
    look_compare(t, &h, NULL);
}

void look_settled(struct broker_life *l) {
    struct streams_test *t = l->test;
    struct incarnation oldest, me = meta_incarnation(l->meta);
    /* Of before that there may be a deletion under way, and the next one waits for its answer. */
    if (!t->over) fiber_sleep_ns(SIM_STORE_SLOWEST_NS);
    uint64_t swept_ns = t->world->now_ns;
    enum err e = streams_sweep(l->streams, &oldest);
    if (l->fatal || l->side->superseded) return;
    if (e != OK) sim_fail(t->world, "a sweep fails though nothing is broken: %s", err_name(e));
    fiber_sleep_ns(SETTLE_NS);
    if (l->fatal || l->side->superseded) return;
    struct sim_check_options o = {.memory = t->memory,
                                  .exclusive = !t->shared,
                                  .settled = me,
                                  .merged = t->over,
                                  .swept_ns = swept_ns,
                                  .log_max = 2 * (t->checkpoint_entries + OBJLOG_DEPTH_MAX)};
    if (!sim_check_store(t->world, NULL, &o)) return;
    t->settled = me;
    t->swept_ns = swept_ns;
}

/* Of the object logs of earlier starts nothing is left but fences, and what may be one. */
static void check_object_logs(struct streams_test *t) {
    const struct sim_bucket *b = t->bucket;
    for (size_t i = 0, end; i < b->count; i = end) {
        const char *key = b->objects[i]->key, *last = strrchr(key, '/'), *dash = strstr(key, "-");
        size_t size = (size_t)(last - key);
        for (end = i + 1; end < b->count && strncmp(b->objects[end]->key, key, size + 1) == 0;) end++;
        if (!strstr(key, "/mirror/") || !dash || strtoull(dash - 16, NULL, 16) >= t->settled.v) continue;
        for (size_t k = i; k < end && end - i > 1; k++) {
            const struct sim_object *o = b->objects[k];
            struct objlog_header h;
            if (o->landed_ns < t->swept_ns && o->locked_until_ns < t->swept_ns &&
                (objlog_header_decode(o->data, o->size, &h) != OK || h.kind != OBJLOG_FENCE))
                sim_fail(t->world, "a sweep has left %s", o->key);
        }
    }
}

void look_closed(struct streams_test *t) {
    struct sim_check_options o = {.memory = t->memory,
                                  .exclusive = !t->shared,
                                  .settled = t->settled,
                                  .closed = true,
                                  .merged = true,
                                  .swept_ns = t->swept_ns};
    if (!sim_check_store(t->world, NULL, &o)) return;
    if (t->bucket) check_object_logs(t);
    if (t->no_wal || t->mirrored) return;
    struct stored_report r = {""};
    struct stored_wal w;
    struct sim_file *f = sim_disk_find(t->sides[0].broker->disk, WAL_PATH);
    if (!stored_wal_read(&r, sim_run_mem(t->run), f, NULL, NULL, &w))
        sim_fail(t->world, "the WAL: %s", r.text);
    else if (!w.formatted || !w.both || !w.superblock.closed || w.marked)
        sim_fail(t->world, "the superblocks of a WAL that was closed in order do not say so");
    else if (w.superblock.incarnation.v != t->settled.v || w.records > 0)
        sim_fail(t->world, "a WAL that was closed in order still holds %lu records", w.records);
}
