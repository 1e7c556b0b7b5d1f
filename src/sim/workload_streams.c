/* Workload "streams": the storage engine of one broker, whole: cluster log, ledger, WAL, log cache, upload,
 * checkpoints, merging of small ranges, deletion, reading back. A broker opens some
 * partitions, appends batches of several idempotent producers, trims, reads; it is killed, loses power, stands
 * still, stops in order, and starts again.
 *
 * Promises, for each partition:
 *  - what was acknowledged, and what a reader was shown, is there after every start, at its offset, byte for byte;
 *    offsets are contiguous;
 *  - nothing else is there but batches that were appended at that offset;
 *  - the state after a start (end, producers, segments, leader epochs, log start, and the table of every other
 *    partition) is the state of exactly the batches that are there; the leader epoch is higher than before;
 *  - the first batch that is found for a timestamp is the first one that there is;
 *  - the log start offset is one that was asked for, and not below one that was acknowledged;
 *  - while nothing is broken everything can be read; no object that is referred to is missing.
 *
 * Workload "rivals": the same without a WAL, on a store that two machines share. A second broker takes over while the
 * first stands still or goes on; topics are deleted (also of one broker with a WAL). In addition:
 *  - whoever was overtaken acknowledges, and shows, nothing that its successor does not have; it may give up.
 * There the successor's model begins as a copy of what the other one promised.
 *
 * Workload "mirror": the same with a WAL that is a mirror of two devices, or of one or two and an object log in another
 * bucket. Devices fail, stall, are lost for good and replaced by empty ones, go away and come back with what they held, or
 * another broker's appears in their place; the bucket has the faults that buckets have. Or two machines reach them, now and
 * then not all of them, which take turns as in "rivals", and take them over by mark; an operator makes new what a start has
 * left alone. In addition:
 *  - at any moment each member that the newest membership in the ledger names has all that was acknowledged and is not in
 *    the ledger; taken over by mark, it is there;
 *  - what another broker's device holds stays as it is.
 *
 * Both draw a durability class and stay inside what it survives (atlas.h). In some runs there are faults that are only
 * detected: objects rot, a machine is lost with its WAL. Then a start or a read may be refused; what is read is right all
 * the same, and a start that succeeds has everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "kafka/batch.h"
#include "meta/meta.h"
#include "sim/atlas.h"
#include "sim/check_store.h"
#include "sim/disk.h"
#include "sim/history.h"
#include "sim/workloads.h"
#include "stream/object.h"
#include "stream/sizes.h"
#include "stream/stream.h"
#include "stream/wal_objects.h"

#define PARTITIONS_MAX 4u
#define BATCHES_MAX 4000u
#define PRODUCERS 3u
/* Offsets that a batch takes where compaction has left few of its records: the end soon passes what 32 bits hold. */
#define WIDE_SPAN ((uint32_t)INT32_MAX)
#define WIDE_END_MAX (1ull << 40)
#define WAL_PATH "/var/wal/broker.wal"
#define MIRRORED 2u
#define OTHERS_OWNER 78u
#define OTHERS_LOOKED_AT (8u * ENV_FILE_ALIGN)
#define SETTLE_NS (120 * NS_PER_S) /* every interval of the engine has passed in it */

struct model_batch {
    uint64_t id, base_offset, end_offset;
    struct state_batch view;
    uint32_t size;
    uint32_t records, value_size;
};

struct model {
    /* as appended by the newest broker; cut back to what was found at each start */
    struct model_batch batches[BATCHES_MAX];
    size_t count;
    uint64_t acked_end, shown_end;
    uint64_t trim_asked, trim_acked;
    int32_t epoch_next; /* the lowest leader epoch that a start may have now */
    /* Another broker has opened the partition: nothing above these may be acknowledged any more. */
    bool overtaken;
    uint64_t kept_end, kept_start;
};

/* A machine. There is one, or two that take turns: then the one that was started last is the one that counts. */
struct side {
    struct streams_test *test;
    struct sim_node *broker;
    struct model models[PARTITIONS_MAX];
    bool superseded; /* the other one was started since */
    struct env *env; /* of its newest life */
    bool stop_asked;
    bool cut[MIRRORED]; /* devices that it does not reach, where two machines do; */
    bool missed;        /* and one of them since it was started */
};

struct streams_test {
    struct sim_run *run;
    struct sim_world *world;
    struct side sides[2], *current;
    struct side *holders[PARTITIONS_MAX]; /* whose model is the newest */
    unsigned partitions;
    bool over; /* the load ends; the broker stops in order */
    bool audited;
    size_t value_max;
    uint64_t wal_bytes, upload_bytes, cache_bytes, block_cache_bytes, read_ahead_bytes;
    unsigned read_gets;
    unsigned followers; /* of each partition: readers that catch up */
    uint32_t upload_interval_ms, checkpoint_entries, checkpoint_interval_ms;
    unsigned starts;
    unsigned shards;         /* loops of their own; 0: everything on one */
    double crash_recovering; /* chance of a crash between a recovery and the record of it in the cluster log */
    double drop;             /* chance that the topic is deleted and made anew */
    double slow_open;        /* chance of a pause between two opens */
    double trim;             /* chance of a trim after a read */
    double crash;            /* chance of a crash every few seconds */
    bool no_wal;             /* the ledger confirms everything */
    bool shared;             /* the store is not exclusive: what a dead broker sent may still land */
    double by_ledger;        /* chance that a partition's records are confirmed by the ledger, WAL or not */
    double change;           /* chance that a reader changes that */
    double wide;             /* chance that a batch takes WIDE_SPAN offsets */
    uint32_t flush_interval_ms;
    double takeover; /* chance that the other machine takes over */
    /* A mirror: */
    bool mirrored, mirror_stops, mirror_quick;
    bool loses;     /* devices are lost, one at a time, while another has everything; */
    bool loses_any; /* or any, which may be too much */
    uint32_t mirror_timeout_ms;
    unsigned rings; /* devices of the mirror, at most MIRRORED */
    struct sim_file *devices[MIRRORED];
    bool away[MIRRORED];               /* detached */
    struct sim_file *others[MIRRORED]; /* another broker's, in the place of one that is away; or NULL */
    uint32_t others_crc[MIRRORED];
    struct sim_bucket *bucket; /* of the mirror's object log; NULL: it has none */
    bool closing;              /* the last incarnation goes in order, or is gone: what it has trimmed it deletes */
    char generation[40];       /* once known, and */
    struct incarnation newest; /* of who has opened the engine */
    /* Two machines reach the devices, which are taken over by mark (wal.h, rules 6 and 7). */
    bool marks;
    double ways;             /* chance that a machine's way to a device breaks, or is there again */
    bool init_due[MIRRORED]; /* the newest start has left it alone: an operator may make it new, */
    bool init_begun;         /* and nobody else is started before that is done */
    struct side *racing;     /* stands still, or will, just before it says on a device that it is its own */
    unsigned topic_number;
    bool drop_asked; /* of the topic with that number; perhaps done */
    bool detects;    /* faults may come that are refused, not survived */
    bool detected;   /* something was */
    struct sim_check_memory *memory;
    struct incarnation settled; /* the newest one that had its time while nothing was broken */
    uint64_t swept_ns;
};

struct part {
    struct broker_life *life;
    struct model *model;
    unsigned index;
    struct stream *stream;
    struct stream_state live;
    int32_t epoch;
    int32_t sequences[PRODUCERS];
    bool busy, gone;
    struct loop *home;
    enum err opened;
    bool ok;
};

struct broker_life {
    struct streams_test *test;
    struct side *side;
    struct env *env;
    struct store *store;
    struct meta *meta;
    struct streams *streams;
    struct part parts[PARTITIONS_MAX];
    struct waitgroup group;
    struct loop *loops[3];
    unsigned loop_count;
    char topic[16];
    bool fatal;
};

static uint64_t subject_of(const struct part *p) {
    return sim_subject("partition", p->index);
}

/* --- Batches. */

/* Every other partition is a table: few keys, many deletions. What a record says follows from its id. */
static bool is_table(unsigned partition) {
    return partition % 2 == 1;
}

static size_t table_key(uint64_t record_id, char out[8]) {
    return (size_t)snprintf(out, 8, "k%u", (unsigned)(hash64(record_id) % 16));
}

static bool table_deletes(uint64_t record_id) {
    return (hash64(record_id) >> 8) % 3 == 0;
}

/* As compaction would leave it: the records that follow those at its beginning are gone. */
static void widen(struct buf *batch, struct model_batch *b) {
    b->end_offset = b->base_offset + WIDE_SPAN;
    be32_put(batch->data + 23, WIDE_SPAN - 1);
    be32_put(batch->data + 17, crc32c(0, batch->data + 21, batch->size - 21));
}

static void make_batch(struct part *p, struct buf *out, struct model_batch *b) {
    struct streams_test *t = p->life->test;
    struct mem *m = p->life->env->mem;
    int64_t producer = (int64_t)sim_between(t->world, 0, PRODUCERS) - 1;
    unsigned records = (unsigned)sim_between(t->world, 1, 4);
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.base_offset = (int64_t)stream_appended_end(p->stream);
    o.partition_leader_epoch = p->epoch;
    if (producer >= 0) {
        struct state_producer *known = state_producer_get(&p->live, producer);
        o.producer_id = producer;
        o.producer_epoch = 0;
        o.base_sequence =
            known ? (int32_t)(((uint32_t)known->batches[known->count - 1].last_sequence + 1u) & INT32_MAX) : 0;
    }
    *b = (struct model_batch){.id = rng_next(&t->world->rng),
                              .base_offset = (uint64_t)o.base_offset,
                              .end_offset = (uint64_t)o.base_offset + records};
    struct batch_builder builder;
    batch_builder_init(&builder, m, &o);
    int64_t time = env_wall_ms(p->life->env);
    size_t size = sim_between(t->world, 0, t->value_max);
    uint8_t *value = mem_alloc(m, size);
    for (unsigned i = 0; i < records; i++) {
        char key[8] = "key";
        size_t key_size = is_table(p->index) ? table_key(b->id + i, key) : 3;
        bool deletes = is_table(p->index) && table_deletes(b->id + i);
        sim_payload_fill(b->id + i, value, size);
        batch_builder_add(&builder, time + i, key, key_size, deletes ? NULL : value, deletes ? 0 : size, NULL, 0);
    }
    enum err e = batch_builder_finish(&builder, out);
    ASSERT(e == OK);
    batch_builder_deinit(&builder);
    mem_free(m, value);
    if (producer < 0 && sim_chance(t->world, t->wide) && b->base_offset < WIDE_END_MAX) widen(out, b);
    b->size = (uint32_t)out->size;
    b->records = records;
    b->value_size = (uint32_t)size;
    b->view = (struct state_batch){
        .base_offset = b->base_offset,
        .end_offset = b->end_offset,
        .first_timestamp = time,
        .max_timestamp = time + (int64_t)records - 1,
        .size_bytes = b->size,
        .leader_epoch = p->epoch,
        .producer_id = producer,
        .producer_epoch = producer >= 0 ? 0 : -1,
        .first_sequence = o.base_sequence,
        .last_sequence = producer >= 0 ? (int32_t)(((uint32_t)o.base_sequence + records - 1) & INT32_MAX) : -1,
        .rolls = sim_chance(t->world, 0.05)};
}

static bool batch_is(const struct part *p, const struct model_batch *b, const struct batch_header *h, struct mem *m) {
    if ((uint64_t)h->base_offset != b->base_offset || h->size != b->size) return false;
    struct batch_iterator it;
    if (batch_iterator_init(&it, m, h, 1u << 24) != OK) return false;
    struct batch_record r;
    bool same = true;
    for (unsigned i = 0; same && batch_iterator_next(&it, &r) == OK; i++) {
        bool deletes = is_table(p->index) && table_deletes(b->id + i);
        same =
            deletes ? r.value_size < 0 : r.value_size >= 0 && sim_payload_is(b->id + i, r.value, (size_t)r.value_size);
    }
    batch_iterator_deinit(&it);
    return same;
}

static struct model_batch *model_at(struct model *m, uint64_t offset) {
    size_t low = 0, high = m->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (m->batches[mid].end_offset > offset)
            high = mid;
        else
            low = mid + 1;
    }
    return low < m->count && m->batches[low].base_offset <= offset ? &m->batches[low] : NULL;
}

/* --- The load. */

static bool append_one(struct part *p) {
    struct broker_life *l = p->life;
    struct streams_test *t = l->test;
    struct model *model = p->model;
    if (model->count == BATCHES_MAX) return false;
    size_t most = t->value_max * 4 + 400;
    if (stream_reserve(p->stream, most) != OK || model->count == BATCHES_MAX) return false;
    struct buf bytes;
    buf_init(&bytes, l->env->mem);
    struct model_batch b;
    make_batch(p, &bytes, &b);
    struct stream_record r = {.type = STREAM_BATCH,
                              .flags = (b.view.rolls ? STREAM_RECORD_ROLLS : 0u) |
                                       (is_table(p->index) ? STREAM_RECORD_TABLE : 0u),
                              .base_offset = b.base_offset,
                              .end_offset = b.end_offset,
                              .max_timestamp = b.view.max_timestamp,
                              .payload = bytes.data,
                              .payload_size = bytes.size,
                              .payload_crc = crc32c(0, bytes.data, bytes.size)};
    ASSERT(bytes.size <= most);
    stream_append(p->stream, &r);
    state_apply_batch(&p->live, &b.view);
    model->batches[model->count++] = b;
    buf_deinit(&bytes);
    t->run->ops++;
    struct sim_node *self = l->side->broker;
    sim_note(t->world, self, subject_of(p), "partition %u: appends %lu..%lu", p->index, b.base_offset, b.end_offset);
    if (stream_wait_durable(p->stream, b.end_offset) != OK) return false;
    sim_note(t->world, self, subject_of(p), "partition %u: %lu..%lu is acknowledged", p->index, b.base_offset,
             b.end_offset);
    if (b.end_offset > model->acked_end) model->acked_end = b.end_offset;
    if (model->overtaken && b.end_offset > model->kept_end)
        sim_fail_about(t->world, subject_of(p),
                       "partition %u: %lu was acknowledged by a broker whose successor ends at %lu", p->index,
                       b.end_offset, model->kept_end);
    t->run->acked++;
    return true;
}

static bool trim_one(struct part *p) {
    struct streams_test *t = p->life->test;
    uint64_t low = stream_durable_start(p->stream), high = stream_durable_end(p->stream);
    if (high <= low || stream_reserve(p->stream, 0) != OK) return false;
    high = stream_durable_end(p->stream);
    uint64_t to = sim_chance(t->world, 0.3) ? high : sim_between(t->world, low, high);
    if (to <= p->model->trim_asked) return true;
    p->model->trim_asked = to;
    sim_note(t->world, p->life->side->broker, subject_of(p), "partition %u: trims below %lu", p->index, to);
    struct stream_record r = {.type = STREAM_TRIM, .base_offset = to, .end_offset = to};
    stream_append(p->stream, &r);
    state_apply_trim(&p->live, to);
    while (stream_durable_start(p->stream) < to && !p->life->fatal) fiber_sleep_ns(5 * NS_PER_MS);
    if (stream_durable_start(p->stream) < to) return true;
    if (p->model->trim_acked < to) p->model->trim_acked = to;
    sim_note(t->world, p->life->side->broker, subject_of(p), "partition %u: the trim below %lu is acknowledged",
             p->index, to);
    if (p->model->overtaken && to > p->model->kept_start)
        sim_fail_about(t->world, subject_of(p),
                       "partition %u: a trim to %lu was acknowledged by a broker whose successor begins at %lu",
                       p->index, to, p->model->kept_start);
    return true;
}

static void check_slices(struct part *p, const struct slices *got, uint64_t offset, uint64_t limit) {
    struct streams_test *t = p->life->test;
    for (size_t i = 0; i < got->count; i++) {
        size_t at = 0;
        while (at < got->items[i].size && !sim_failed(t->world)) {
            struct batch_header h;
            if (batch_parse(got->items[i].data + at, got->items[i].size - at, &h) != OK) {
                sim_fail_about(t->world, subject_of(p), "partition %u: what was read at %lu is no batch", p->index,
                               offset);
                return;
            }
            struct model_batch *b = model_at(p->model, offset);
            if (!b || !batch_is(p, b, &h, p->life->env->mem))
                sim_fail_about(t->world, subject_of(p), "partition %u: offset %lu reads as another batch", p->index,
                               offset);
            if ((uint64_t)batch_end_offset(&h) > limit)
                sim_fail_about(t->world, subject_of(p), "partition %u: a batch above the limit was shown", p->index);
            offset = (uint64_t)batch_end_offset(&h);
            at += h.size;
        }
    }
    if (offset > p->model->shown_end) {
        sim_note(t->world, p->life->side->broker, subject_of(p), "partition %u: shows up to %lu", p->index, offset);
        p->model->shown_end = offset;
    }
    if (p->model->overtaken && offset > p->model->kept_end)
        sim_fail_about(t->world, subject_of(p), "partition %u: %lu was shown by a broker whose successor ends at %lu",
                       p->index, offset, p->model->kept_end);
}

/* Whether that is how a fault shows which this run need not survive. */
static bool is_refusal(struct streams_test *t, enum err e) {
    bool refusal = t->detects && (e == ERR_CORRUPT || e == ERR_TRUNCATED || e == ERR_NOT_FOUND || e == ERR_GAP ||
                                  e == ERR_FOREIGN || e == ERR_VERSION || e == ERR_FENCED);
    t->detected |= refusal;
    return refusal;
}

/* One read from *offset on, which moves behind what came. False: it could not be read, or there was nothing. */
static bool read_step(struct part *p, uint64_t *offset, uint64_t end, bool everything, bool *refused) {
    struct broker_life *l = p->life;
    struct streams_test *t = l->test;
    struct slices got;
    slices_init(&got, l->env->mem);
    enum err e = stream_read(p->stream, *offset, end, sim_between(t->world, 1, 100000), true, false, UINT64_MAX, &got);
    bool ok = e == OK && got.count > 0;
    if (e != OK && l->side->superseded) { /* the successor deletes what it does not need */
        ok = false;
    } else if (is_refusal(t, e)) {
        *refused = true;
        ok = false;
    } else {
        if (e == ERR_OFFSET_OUT_OF_RANGE && stream_durable_start(p->stream) <= *offset && !everything) {
            sim_fail_about(t->world, subject_of(p), "partition %u: offset %lu is out of range between %lu and %lu",
                           p->index, *offset, stream_durable_start(p->stream), end);
        }
        if (everything && !ok)
            sim_fail_about(t->world, subject_of(p), "partition %u: offset %lu cannot be read: %s", p->index, *offset,
                           err_name(e));
        if (e == ERR_NOT_FOUND || e == ERR_CORRUPT || e == ERR_TRUNCATED)
            sim_fail_about(t->world, subject_of(p), "partition %u: reading offset %lu: %s", p->index, *offset,
                           err_name(e));
    }
    if (ok) {
        check_slices(p, &got, *offset, end);
        t->run->ops++;
        struct batch_header h;
        struct slice *s = &got.items[got.count - 1];
        size_t at = 0;
        while (at < s->size && batch_parse_unchecked(s->data + at, s->size - at, &h) == OK) at += h.size;
        uint64_t next = (uint64_t)batch_end_offset(&h);
        if (next <= *offset) ok = false;
        *offset = next;
    }
    slices_deinit(&got);
    return ok;
}

/* Reads from somewhere, or everything. False: it could not be read. */
static bool read_some(struct part *p, bool everything) {
    struct streams_test *t = p->life->test;
    uint64_t start = stream_durable_start(p->stream), end = stream_durable_end(p->stream);
    uint64_t offset = everything ? start : sim_between(t->world, start, end);
    bool ok = true, refused = false;
    while (offset < end && ok && !sim_failed(t->world)) {
        ok = read_step(p, &offset, end, everything, &refused);
        if (!everything && sim_chance(t->world, 0.5)) break;
    }
    return refused ? everything : ok;
}

/* Asks for a timestamp at or beside that of some batch. */
static void find_one(struct part *p) {
    struct streams_test *t = p->life->test;
    const struct model *m = p->model;
    uint64_t start = stream_durable_start(p->stream), end = stream_durable_end(p->stream);
    if (m->count == 0) return;
    int64_t time = m->batches[sim_between(t->world, 0, m->count - 1)].view.max_timestamp;
    if (sim_chance(t->world, 0.3)) time += sim_chance(t->world, 0.5) ? 1 : -1;
    struct slice got = {0};
    enum err e = stream_find_timestamp(p->stream, start, end, time, &got);
    struct batch_header h = {.base_offset = -1};
    if (e == OK && batch_parse(got.data, got.size, &h) != OK)
        sim_fail(t->world, "partition %u: what was found for a timestamp is no batch", p->index);
    slice_unref(&got);
    /* Another error than that there is none says nothing; nor does a search during which the log start moved. */
    if ((e != OK && e != ERR_NOT_FOUND) || p->life->side->superseded || stream_durable_start(p->stream) != start)
        return;
    int64_t want = -1;
    for (size_t i = 0; i < m->count && want < 0 && m->batches[i].end_offset <= end; i++) {
        const struct model_batch *b = &m->batches[i];
        if (b->end_offset > start && b->view.max_timestamp >= time) want = (int64_t)b->base_offset;
    }
    t->run->ops++;
    if (h.base_offset != want)
        sim_fail(t->world, "partition %u: for timestamp %ld the batch at %ld was found; it is %ld", p->index, time,
                 h.base_offset, want);
}

static bool goes_on(const struct part *p) {
    const struct streams_test *t = p->life->test;
    return !t->over && !p->life->side->stop_asked && !p->life->fatal && !p->gone && !sim_failed(t->world);
}

static void producer_there(void *arg) {
    struct part *p = arg;
    struct streams_test *t = p->life->test;
    while (goes_on(p) && append_one(p)) {
        if (sim_chance(t->world, 0.3)) fiber_sleep_ns(sim_between(t->world, 0, 60) * NS_PER_MS);
    }
}

static void choose_durability(struct part *p) {
    bool by_ledger = sim_chance(p->life->test->world, p->life->test->by_ledger);
    stream_set_durability(p->stream, by_ledger ? STREAM_DURABILITY_OBJECT : STREAM_DURABILITY_WAL);
}

static void reader_there(void *arg) {
    struct part *p = arg;
    struct streams_test *t = p->life->test;
    while (goes_on(p)) {
        fiber_sleep_ns(sim_between(t->world, 10, 800) * NS_PER_MS);
        (void)read_some(p, false);
        if (sim_chance(t->world, 0.5)) find_one(p);
        if (sim_chance(t->world, t->trim)) (void)trim_one(p);
        if (sim_chance(t->world, t->change)) choose_durability(p);
    }
}

/* Reads on and on from somewhere, now fast and now slow, as one that catches up; and begins elsewhere at the end. */
static void follower_there(void *arg) {
    struct part *p = arg;
    struct streams_test *t = p->life->test;
    uint64_t offset = 0;
    bool ok = false, refused = false;
    while (goes_on(p)) {
        uint64_t start = stream_durable_start(p->stream), end = stream_durable_end(p->stream);
        if (!ok || offset < start) offset = sim_chance(t->world, 0.5) ? start : sim_between(t->world, start, end);
        ok = offset < end && read_step(p, &offset, end, false, &refused);
        if (!ok || sim_chance(t->world, 0.2)) fiber_sleep_ns(sim_between(t->world, 1, ok ? 50 : 2000) * NS_PER_MS);
    }
}

static void read_all_there(void *arg) {
    struct part *p = arg;
    p->ok = read_some(p, true);
}

/* On the log loop, where the group is counted. */
static void producer(void *arg) {
    struct part *p = arg;
    loop_call(p->home, producer_there, p);
    waitgroup_done(&p->life->group);
}

static void reader(void *arg) {
    struct part *p = arg;
    loop_call(p->home, reader_there, p);
    waitgroup_done(&p->life->group);
}

static void follower(void *arg) {
    struct part *p = arg;
    loop_call(p->home, follower_there, p);
    waitgroup_done(&p->life->group);
}

/* --- A start. */

/* By the other machine, which was started later; or was started before, and stood still before it was elected. */
static bool may_be_overtaken(const struct side *side) {
    return side->superseded || (side->test->takeover > 0 && !side->test->over);
}

static void on_fatal(void *ctx, enum err why, const char *what) {
    struct broker_life *l = ctx;
    l->fatal = true;
    if (may_be_overtaken(l->side) && why == ERR_FENCED) return;
    if (is_refusal(l->test, why)) return; /* an entry of its own that rotted reads as another's */
    sim_fail(l->test->world, "a broker that nobody has overtaken gave up: %s (%s)", what, err_name(why));
}

struct owner_query {
    struct meta *meta;
    struct incarnation dead;
};

static bool is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    struct owner_query *q = ctx;
    int32_t index;
    const struct meta_topic *t = meta_topic_of_stream(q->meta, id, &index);
    if (!t || t->partitions[index].owner.v != q->dead.v) return false;
    *epoch = t->partitions[index].epoch;
    return true;
}

static const char *const device_paths[MIRRORED] = {"/dev/wal0", "/dev/wal1"};

static unsigned members_of(const struct streams_test *t) {
    return t->rings + (t->bucket != NULL);
}

static enum err open_bucket(void *ctx, const char *url, struct store **out, char *why, size_t why_size) {
    struct broker_life *l = ctx;
    struct sim_store_options o = {.exclusive = !l->test->shared};
    (void)url, (void)why, (void)why_size;
    *out = sim_store_open(l->test->bucket, l->env, &o);
    return OK;
}

static enum err open_engine(struct broker_life *l) {
    struct streams_test *t = l->test;
    const char *why = "";
    struct meta_options mo = {.env = l->env, .store = l->store, .node_id = 1, .rack = ""};
    enum err e = meta_open(&mo, &l->meta, &why);
    if (e != OK) return e;
    struct loop *loop = loop_current();
    l->loops[0] = loop;
    l->loop_count = t->shards ? t->shards : 1;
    for (unsigned i = 0; i < t->shards; i++) {
        if (env_loop_start(l->env, "shard", &l->loops[i]) != OK) return ERR_IO;
    }
    (void)snprintf(t->generation, sizeof(t->generation), "%s", meta_generation(l->meta));
    t->newest = meta_incarnation(l->meta);
    struct stream_wal_member members[MIRRORED + 1] = {{.path = device_paths[0]}, {.path = device_paths[1]}};
    for (unsigned d = 0; d < t->rings; d++) members[d].takeover_mark = t->marks;
    if (t->bucket) members[t->rings] = (struct stream_wal_member){.path = "s3://another", .objects = true};
    struct streams_options so = {.env = l->env,
                                 .store = l->store,
                                 .generation = meta_generation(l->meta),
                                 .incarnation = meta_incarnation(l->meta),
                                 .wal_path = t->no_wal || t->mirrored ? NULL : WAL_PATH,
                                 .wal_size_bytes = t->wal_bytes,
                                 .wal_members = members,
                                 .wal_member_count = t->mirrored ? members_of(t) : 0,
                                 .open_store = open_bucket,
                                 .open_ctx = l,
                                 .wal_mirror_stops = t->mirror_stops,
                                 .wal_mirror_timeout_ms = t->mirror_timeout_ms,
                                 .cache_log_bytes = t->cache_bytes,
                                 .cache_block_bytes = t->block_cache_bytes,
                                 .read_ahead_bytes = t->read_ahead_bytes,
                                 .read_gets_max = t->read_gets,
                                 .upload_bytes = t->upload_bytes,
                                 .upload_interval_ms = t->upload_interval_ms,
                                 .object_flush_interval_ms = t->flush_interval_ms,
                                 .checkpoint_entries = t->checkpoint_entries,
                                 .checkpoint_interval_ms = t->checkpoint_interval_ms,
                                 .producer_expiration_ms = 86400000,
                                 .shards = l->loops,
                                 .shard_count = l->loop_count,
                                 .log_loop = loop,
                                 .fatal = on_fatal,
                                 .ctx = l};
    e = streams_open(&so, &l->streams, &why);
    if (e != OK) return e;
    struct meta_broker dead;
    while (e == OK && meta_unrecovered(l->meta, &dead, 1) > 0) {
        struct owner_query q = {l->meta, dead.incarnation};
        uint64_t entry = 0;
        e = streams_recover(l->streams, dead.incarnation, is_current, &q, &entry, &why);
        if (e == OK && !t->over && !l->side->stop_asked && sim_chance(t->world, t->crash_recovering) &&
            sim_fault_allowed(t->world, SIM_CRASH_KILL)) {
            fiber_sleep_ns(sim_between(t->world, 0, 500) * NS_PER_MS);
            sim_node_crash(l->side->broker, SIM_KILL);
            fiber_sleep_ns(NS_PER_S);
        }
        if (e == OK) e = meta_recovered(l->meta, dead.incarnation, entry);
    }
    if (e == OK) e = streams_start(l->streams, &why);
    return e;
}

static void table_note(struct state_table **table, struct mem *m, const struct model_batch *b) {
    uint8_t *value = mem_alloc(m, b->value_size);
    for (unsigned i = 0; i < b->records; i++) {
        char key[8];
        size_t key_size = table_key(b->id + i, key);
        sim_payload_fill(b->id + i, value, b->value_size);
        int32_t size = table_deletes(b->id + i) ? -1 : (int32_t)b->value_size;
        state_table_put(table, m, b->base_offset + i, key, key_size, value, size, false);
    }
    mem_free(m, value);
}

static bool segments_equal(const struct stream_state *a, const struct stream_state *b) {
    bool same = a->segment_count == b->segment_count;
    for (size_t i = 0; same && i < a->segment_count; i++) {
        same = a->segments[i].base_offset == b->segments[i].base_offset &&
               a->segments[i].size_bytes == b->segments[i].size_bytes;
    }
    return same;
}

static bool tables_equal(const struct state_table *a, const struct state_table *b, struct mem *m) {
    if (state_table_count(a) != state_table_count(b)) return false;
    if (state_table_count(a) == 0) return true;
    struct buf x, y;
    buf_init(&x, m);
    buf_init(&y, m);
    state_table_encode(a, &x);
    state_table_encode(b, &y);
    bool same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    buf_deinit(&x);
    buf_deinit(&y);
    return same;
}

/* The newest model of this partition is the other machine's, which may still be running. */
static void inherit(struct part *p) {
    struct side *me = p->life->side, **holder = &p->life->test->holders[p->index];
    if (*holder == me) return;
    struct model *theirs = &(*holder)->models[p->index];
    *p->model = *theirs;
    p->model->overtaken = false;
    theirs->overtaken = true;
    theirs->kept_end = p->live.end_offset;
    theirs->kept_start = p->live.start_offset;
    *holder = me;
}

/* Cuts the model back to what is there, and holds the state against it. */
static void check_start(struct part *p) {
    struct streams_test *t = p->life->test;
    struct model *m = p->model;
    uint64_t end = p->live.end_offset;
    t->run->ops++;
    inherit(p);
    sim_note(t->world, p->life->side->broker, subject_of(p), "partition %u: opens with %lu..%lu, leader epoch %d",
             p->index, p->live.start_offset, end, p->epoch);
    if (end < m->acked_end)
        sim_fail_about(t->world, subject_of(p), "partition %u ends at %lu after a start; %lu was acknowledged",
                       p->index, end, m->acked_end);
    if (end < m->shown_end)
        sim_fail_about(t->world, subject_of(p), "partition %u ends at %lu after a start; %lu was shown", p->index, end,
                       m->shown_end);
    while (m->count > 0 && m->batches[m->count - 1].base_offset >= end) m->count--;
    uint64_t model_end = m->count ? m->batches[m->count - 1].end_offset : 0;
    if (end != model_end)
        sim_fail_about(t->world, subject_of(p),
                       "partition %u ends at %lu after a start, inside or behind what was appended (%lu)", p->index,
                       end, model_end);
    uint64_t start = p->live.start_offset;
    if (start < m->trim_acked || start > m->trim_asked) {
        sim_fail_about(t->world, subject_of(p),
                       "partition %u begins at %lu after a start; %lu was acknowledged, %lu asked for", p->index, start,
                       m->trim_acked, m->trim_asked);
    }
    if (p->epoch < m->epoch_next)
        sim_fail(t->world, "partition %u: leader epoch %d after a start; %d was seen before", p->index, p->epoch,
                 m->epoch_next - 1);
    m->epoch_next = p->epoch + 1;
    if (sim_failed(t->world)) return;
    m->trim_asked = m->trim_acked = start;
    m->acked_end = m->shown_end = end;
    struct mem *mem = p->life->env->mem;
    struct stream_state want;
    state_init(&want, mem);
    for (size_t i = 0; i < m->count; i++) {
        state_apply_batch(&want, &m->batches[i].view);
        if (is_table(p->index)) table_note(&want.table, mem, &m->batches[i]);
    }
    state_apply_trim(&want, start);
    bool same = want.end_offset == p->live.end_offset && want.producers.count == p->live.producers.count &&
                want.epoch_count == p->live.epoch_count && segments_equal(&want, &p->live);
    for (int64_t id = 0; same && id < PRODUCERS; id++) {
        struct state_producer *a = state_producer_get(&want, id), *b = state_producer_get(&p->live, id);
        same = (a == NULL) == (b == NULL) &&
               (!a || (a->count == b->count && a->epoch == b->epoch &&
                       memcmp(a->batches, b->batches, a->count * sizeof(a->batches[0])) == 0));
    }
    for (size_t i = 0; same && i < want.epoch_count; i++) {
        same = want.epochs[i].leader_epoch == p->live.epochs[i].leader_epoch &&
               want.epochs[i].start_offset == p->live.epochs[i].start_offset;
    }
    if (!same)
        sim_fail_about(t->world, subject_of(p), "partition %u: the state after a start is not that of its batches",
                       p->index);
    if (!tables_equal(want.table, p->live.table, mem))
        sim_fail_about(t->world, subject_of(p), "partition %u: the table after a start is not that of its batches",
                       p->index);
    state_deinit(&want);
}

static void nothing(void *ctx) {
    (void)ctx;
}

static void close_there(void *arg) {
    struct part *p = arg;
    stream_close(p->stream);
    state_deinit(&p->live);
    p->stream = NULL;
}

static void open_there(void *arg) {
    struct part *p = arg;
    struct broker_life *l = p->life;
    const struct meta_topic *topic = meta_topic_by_name(l->meta, l->topic, strlen(l->topic));
    p->opened =
        stream_open(l->streams, topic->partitions[p->index].stream, p->epoch, nothing, NULL, &p->live, &p->stream);
    if (p->opened != OK) {
        if (!l->side->superseded && !l->fatal && !is_refusal(l->test, p->opened))
            sim_fail_about(l->test->world, subject_of(p), "partition %u cannot be opened: %s", p->index,
                           err_name(p->opened));
        p->stream = NULL;
        return;
    }
    if (l->side->superseded) { /* what it knows may be old */
        close_there(p);
        p->opened = ERR_STALE;
        return;
    }
    check_start(p);
    choose_durability(p);
}

static void start_load(struct part *p) {
    struct streams_test *t = p->life->test;
    unsigned producers = (unsigned)sim_between(t->world, 1, 3);
    for (unsigned k = 0; k <= producers; k++) {
        waitgroup_add(&p->life->group);
        fiber_spawn(loop_current(), k < producers ? "producer" : "reader", k < producers ? producer : reader, p);
    }
    for (unsigned k = 0; k < t->followers; k++) {
        waitgroup_add(&p->life->group);
        fiber_spawn(loop_current(), "follower", follower, p);
    }
}

static bool open_parts(struct broker_life *l) {
    struct streams_test *t = l->test;
    (void)snprintf(l->topic, sizeof(l->topic), "t%u", t->topic_number);
    if (!meta_topic_by_name(l->meta, l->topic, strlen(l->topic))) {
        if (l->side->superseded) return false;
        if (t->drop_asked) { /* it was done, whatever its answer */
            (void)snprintf(l->topic, sizeof(l->topic), "t%u", ++t->topic_number);
            memset(l->side->models, 0, sizeof(l->side->models));
            for (unsigned i = 0; i < PARTITIONS_MAX; i++) t->holders[i] = l->side;
            t->drop_asked = false;
        }
        struct uuid id;
        if (meta_topic_create(l->meta, l->topic, (int32_t)t->partitions, 1, NULL, 0, &id) != OK) return false;
    }
    for (unsigned i = 0; i < t->partitions; i++) {
        const struct meta_topic *topic = meta_topic_by_name(l->meta, l->topic, strlen(l->topic));
        struct part *p = &l->parts[i];
        *p = (struct part){.life = l, .model = &l->side->models[i], .index = i, .epoch = topic->partitions[i].epoch};
        p->home = l->loops[stream_home(topic->partitions[i].stream, l->loop_count)];
        loop_call(p->home, open_there, p);
        if (p->opened != OK) return false;
        if (!t->over) start_load(p); /* at once: the others are opened while it runs */
        if (!t->over && sim_chance(t->world, t->slow_open)) fiber_sleep_ns(sim_between(t->world, 0, 3000) * NS_PER_MS);
    }
    return !sim_failed(t->world);
}

static void close_engine(struct broker_life *l) {
    for (unsigned i = 0; i < l->test->partitions; i++) {
        struct part *p = &l->parts[i];
        if (!p->stream) continue;
        loop_call(p->home, close_there, p);
    }
    l->test->closing = true;
    if (l->streams) streams_close(l->streams);
    if (l->meta) meta_close(l->meta);
    store_close(l->store);
}

/* The topic is deleted while its last records are on their way to the ledger; then there is a new one. False: it was
 * not done. */
static bool drop_topic(struct broker_life *l) {
    struct streams_test *t = l->test;
    struct stream_id streams[PARTITIONS_MAX];
    const struct meta_topic *topic = meta_topic_by_name(l->meta, l->topic, strlen(l->topic));
    for (unsigned i = 0; i < t->partitions; i++) streams[i] = topic->partitions[i].stream;
    struct uuid id = topic->id;
    t->drop_asked = true;
    sim_note(t->world, l->side->broker, SIM_SUBJECT_ALL, "deletes topic %s", l->topic);
    if (meta_topic_delete(l->meta, &id) != OK) return false;
    for (unsigned i = 0; i < t->partitions; i++) l->parts[i].gone = true;
    waitgroup_wait(&l->group);
    for (unsigned i = 0; i < t->partitions; i++) {
        if (l->parts[i].stream) loop_call(l->parts[i].home, close_there, &l->parts[i]);
        streams_drop(l->streams, streams[i]);
    }
    return true;
}

static void drop_topics(struct broker_life *l) {
    struct streams_test *t = l->test;
    while (!t->over && !l->side->stop_asked && !l->side->superseded && !l->fatal && !sim_failed(t->world) &&
           sim_chance(t->world, t->drop)) {
        fiber_sleep_ns(sim_between(t->world, 0, 5000) * NS_PER_MS);
        if (l->side->superseded || !drop_topic(l) || !open_parts(l)) break;
    }
}

/* --- What lies in the bucket and in the WAL. */

/* What a recovery would find of the newest topic's partitions. */
struct holdings {
    struct streams_test *test;
    struct stored_wal wal;
    struct sim_check_stream parts[PARTITIONS_MAX];
    bool any[PARTITIONS_MAX];
};

static void holding_of_ledger(void *ctx, const struct sim_check_stream *s) {
    struct holdings *h = ctx;
    char topic[16];
    (void)snprintf(topic, sizeof(topic), "t%u", h->test->topic_number);
    if (strcmp(s->topic, topic) != 0) return;
    h->parts[s->partition] = *s;
    h->any[s->partition] = true;
}

static bool names_ring(const struct sim_check_stream *s, const struct stored_wal *w) {
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
        if (!names_ring(s, &h->wal)) continue;
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
        if (!h->any[i] || (ledger && !names_ring(&ledger->parts[i], &h->wal))) continue;
        t->run->ops++;
        if (h->parts[i].end < m->acked_end || h->parts[i].end < m->shown_end)
            sim_fail(t->world, "partition %u: %lu was acknowledged and %lu shown; bucket and WAL hold it to %lu", i,
                     m->acked_end, m->shown_end, h->parts[i].end);
        if (h->parts[i].start < m->trim_acked || h->parts[i].start > m->trim_asked)
            sim_fail(t->world, "partition %u begins at %lu in bucket and WAL; %lu was acknowledged, %lu asked for", i,
                     h->parts[i].start, m->trim_acked, m->trim_asked);
    }
}

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

static uint32_t others_crc(const struct sim_file *f) {
    uint8_t front[OTHERS_LOOKED_AT];
    size_t got = sim_file_peek(f, 0, front, sizeof(front));
    return crc32c(0, front, got);
}

static void look_at_others(struct streams_test *t) {
    for (unsigned d = 0; d < t->rings; d++) {
        if (t->others[d] && others_crc(t->others[d]) != t->others_crc[d])
            sim_fail(t->world, "the WAL of another broker, in place of device %u, was written to", d);
    }
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
        counting += h.any[0] && names_ring(&h.parts[0], &h.wal);
        look_compare(t, &h, ledger);
    }
    bool objects = look_at_objects(t, ledger);
    counting += objects;
    if (counting == 0) look_compare(t, ledger, NULL);
    unsigned named = ledger->any[0] ? ledger->parts[0].members.count : 0;
    if (t->marks && named > counting + (t->bucket && !objects && t->closing))
        sim_fail(t->world, "the ledger names %u members of the mirror, and %u are there", named, counting);
}

/* At any moment: what was promised lies in the bucket, or in the WAL that its ledger names. Not where things rot. */
static void look(void *arg) {
    struct streams_test *t = arg;
    look_at_others(t);
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

/* Nothing is broken, and nothing is asked of the broker: in a while all that nothing needs is gone. */
static void settle(struct broker_life *l) {
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

/* It was stopped in order, without a fault since it started. */
static void check_closed(struct streams_test *t) {
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

/* Until what a crashed machine has sent to a device is there, or never will be. */
#define OPERATOR_WAITS_NS (31 * NS_PER_S)

/* By what the ledger says, whoever wrote it. */
static bool device_is_needed(struct streams_test *t, unsigned d) {
    struct holdings h = {.test = t};
    struct stored_report r = {""};
    struct stored_wal wal;
    struct sim_check_options o = {.exclusive = !t->shared, .stream = holding_of_ledger, .ctx = &h};
    if (t->detects) return false; /* a start may be refused */
    if (!sim_check_store(t->world, NULL, &o)) return true;
    if (!stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], NULL, NULL, &wal) || !wal.formatted) return false;
    bool needed = false;
    for (unsigned i = 0; i < t->partitions; i++) needed |= h.any[i] && names_ring(&h.parts[i], &wal);
    return needed;
}

/* The operator's part where devices are taken over by mark: the other machine is down, and this one has not begun. */
static void operator_makes_new(struct broker_life *l) {
    struct streams_test *t = l->test;
    const struct side *other = l->side == &t->sides[0] ? &t->sides[1] : &t->sides[0];
    bool due[MIRRORED], any = false;
    for (unsigned d = 0; d < t->rings; d++) {
        due[d] = t->init_due[d] && !l->side->cut[d] && !device_is_needed(t, d);
        any |= due[d];
    }
    if (!t->marks || sim_node_up(other->broker)) return;
    if (!t->init_begun && (!any || sim_chance(t->world, 0.2))) return;
    t->init_begun = true;
    sim_suspend(l->side->broker, OPERATOR_WAITS_NS);
    for (unsigned d = 0; d < t->rings; d++) {
        struct wal_options o = {.env = l->env, .path = device_paths[d]};
        uint8_t id[16];
        const char *why;
        if (!due[d]) continue;
        env_random(l->env, id, sizeof(id));
        while (wal_init(&o, id, true, &why) != OK) sim_suspend(l->side->broker, NS_PER_S);
        t->init_due[d] = false;
        sim_note(t->world, l->side->broker, SIM_SUBJECT_ALL, "an operator has made device %u new", d);
    }
    t->init_begun = false;
}

/* Known from the first moment of a start on. */
static void note_left_alone(struct broker_life *l) {
    struct streams_test *t = l->test;
    if (!t->marks || l->side->superseded) return;
    for (unsigned d = 0; d < t->rings; d++) {
        struct stored_report r = {""};
        struct stored_wal wal;
        bool read = stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], NULL, NULL, &wal) && wal.formatted;
        t->init_due[d] = !read || wal.superblock.incarnation.v != meta_incarnation(l->meta).v;
        sim_note(t->world, l->side->broker, SIM_SUBJECT_ALL, "device %u is %s", d,
                 t->init_due[d] ? "left alone" : "in use");
    }
}

/* What this start will do to the devices is not known before it is over. */
static void devices_are_in_doubt(struct side *side) {
    struct streams_test *t = side->test;
    side->missed = false;
    for (unsigned d = 0; d < t->rings; d++) {
        t->init_due[d] = false;
        side->missed |= side->cut[d];
    }
    t->racing = NULL;
    if (!t->marks || t->over || !sim_chance(t->world, t->takeover)) return;
    t->racing = side;
    side->broker->front_pause_ns = sim_between(t->world, 20, 200) * NS_PER_S; /* longer than a start */
}

static void broker_main(void *arg) {
    struct side *side = arg;
    struct streams_test *t = side->test;
    struct broker_life l = {.test = t, .side = side, .env = loop_current()->env};
    side->env = l.env;
    l.store = sim_run_store(t->run, l.env, !t->shared);
    t->starts++;
    sim_note(t->world, side->broker, SIM_SUBJECT_ALL, "starts");
    waitgroup_init(&l.group);
    operator_makes_new(&l);
    devices_are_in_doubt(side);
    enum err e = open_engine(&l);
    if (e == OK) {
        note_left_alone(&l);
        t->closing = false; /* and its membership is the newest */
    }
    sim_note(t->world, side->broker, SIM_SUBJECT_ALL, "has started: %s", err_name(e));
    if (may_be_overtaken(side) && (side->superseded || e == ERR_FENCED)) {
        /* the other one goes on */
    } else if (t->shared && e == ERR_FENCED) {
        /* An election that a crash of this same machine left under way landed during the start: started again. */
    } else if (e == ERR_NOT_FOUND && side->missed) {
        /* What it does not reach may be what it needs: refused, and started again. */
    } else if (e == ERR_CORRUPT || e == ERR_NOT_FOUND || e == ERR_FOREIGN || e == ERR_TRUNCATED || e == ERR_GAP ||
               e == ERR_VERSION || e == ERR_FENCED) {
        if (!is_refusal(t, e)) sim_fail(t->world, "a start failed for good: %s", err_name(e));
    }
    if (e == OK && open_parts(&l)) {
        for (unsigned i = 0; i < t->partitions; i++) {
            if (t->over) {
                loop_call(l.parts[i].home, read_all_there, &l.parts[i]);
                if (!l.parts[i].ok)
                    sim_fail_about(t->world, subject_of(&l.parts[i]),
                                   "partition %u cannot be read though nothing is broken", i);
            }
        }
        struct incarnation oldest;
        if (sim_chance(t->world, 0.7) || t->over) {
            e = streams_sweep(l.streams, &oldest); /* a sweep that fails leaves it to the next start */
        }
        if (t->over) t->audited = true;
        if (t->drop > 0) drop_topics(&l);
    }
    waitgroup_wait(&l.group);
    if (t->world->faults_off && !t->detects && e == OK && l.parts[0].stream && !l.fatal && !side->superseded &&
        !sim_failed(t->world))
        settle(&l);
    close_engine(&l);
}

/* Keeps the run inside what its class survives, or detects. Last: here it is known. */
static void class_choose(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->detects = sim_chance(w, 0.15);
    sim_faults_within(w,
                      t->no_wal  ? SIM_CLASS_OBJECT
                      : t->marks ? SIM_CLASS_WAL_DEVICE
                                 : SIM_CLASS_WAL_FILE,
                      t->detects ? SIM_DETECTS : SIM_SURVIVES);
    if (t->detects) w->faults.chance[SIM_STORE_ROT] = sim_chance(w, 0.3) ? 0 : sim_chance(w, 0.5) ? 0.001 : 0.02;
}

static void load_choose(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->partitions = (unsigned)sim_between(w, 1, PARTITIONS_MAX);
    t->value_max = sim_chance(w, 0.3) ? 20000 : 300;
    t->wal_bytes = WAL_RING_MIN + WAL_RING_MIN / 8 + 4096 * sim_between(w, 0, 20);
    t->upload_bytes = sim_chance(w, 0.5) ? 20000 : 2000000;
    t->cache_bytes = sim_chance(w, 0.5) ? 0 : 64u << 20;
    t->block_cache_bytes = sim_chance(w, 0.5) ? (sim_chance(w, 0.5) ? 1000 : 200000) : 16u << 20;
    t->read_ahead_bytes = sim_chance(w, 0.5) ? 0 : 50000;
    t->read_gets = (unsigned)sim_between(w, 1, 8);
    t->followers = sim_chance(w, 0.5) ? 0 : (unsigned)sim_between(w, 1, 5);
    t->upload_interval_ms = (uint32_t)sim_between(w, 200, 20000);
    t->checkpoint_entries = (uint32_t)sim_between(w, 1, 12);
    t->checkpoint_interval_ms = sim_chance(w, 0.5) ? 0 : (uint32_t)sim_between(w, 500, 30000);
    t->slow_open = sim_chance(w, 0.5) ? 0.5 : 0;
    t->trim = sim_chance(w, 0.3) ? 0.5 : 0.05;
    if (sim_chance(w, 0.3)) t->checkpoint_entries = 100;
    t->shards = sim_chance(w, 0.5) ? (unsigned)sim_between(w, 1, 3) : 0;
    t->crash_recovering = sim_chance(w, 0.3) ? 0.3 : 0;
    t->crash = sim_chance(w, 0.4) ? 0.3 : sim_chance(w, 0.5) ? 0.08 : 0.02;
    t->no_wal = sim_chance(w, 0.25);
    t->shared = sim_chance(w, 0.3);
    t->by_ledger = t->no_wal ? 1 : sim_chance(w, 0.5) ? (sim_chance(w, 0.5) ? 1 : 0.5) : 0;
    t->change = sim_chance(w, 0.5) ? 0.5 : 0;
    t->wide = sim_chance(w, 0.2) ? 0.3 : 0;
    t->flush_interval_ms = sim_chance(w, 0.2) ? (uint32_t)sim_between(w, 1, 500) : 0;
    if (sim_chance(w, 0.2)) w->faults.chance[SIM_DISK_WRITE_FAILS] = 0.05;
}

/* --- A mirror. */

static void mirror_choose(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->mirrored = true;
    if (sim_chance(w, 0.5)) t->bucket = sim_bucket_create(w, "mirror");
    t->rings = t->bucket && sim_chance(w, 0.6) ? 1 : MIRRORED;
    t->mirror_stops = sim_chance(w, 0.3);
    t->mirror_quick = sim_chance(w, 0.8);
    t->mirror_timeout_ms = sim_chance(w, 0.5) ? (uint32_t)sim_between(w, 100, 2000) : 5000;
    /* Elsewhere the store fails often enough: starts that take minutes leave little time for more. */
    for (unsigned f = SIM_STORE_UNAVAILABLE; f <= SIM_STORE_CRASH_LATE && t->mirror_quick; f++)
        w->faults.chance[f] *= 0.1;
    if (t->marks) {
        /* what happens to devices happens in the other runs */
    } else if (sim_chance(w, 0.4)) {
        t->loses_any = true;
        t->detects = true;
    } else if (!t->detects && sim_chance(w, 0.5)) {
        /* Nothing else may happen to the other meanwhile. */
        t->loses = true;
        t->mirror_timeout_ms = 3600 * 1000;
        w->faults.chance[SIM_DISK_WRITE_FAILS] = 0;
    }
    for (unsigned d = 0; d < t->rings; d++) {
        t->devices[d] = sim_device_create(w, t->wal_bytes / 4096 * 4096);
        sim_device_attach(t->sides[0].broker, device_paths[d], t->devices[d]);
        if (t->marks) sim_device_attach(t->sides[1].broker, device_paths[d], t->devices[d]);
        t->init_due[d] = t->marks;
    }
}

/* By what the ledger says, each of the members has everything. */
static bool all_count(struct streams_test *t) {
    struct sim_node *node = t->current->broker;
    if (!sim_node_up(node) || atomic_load(&t->current->env->metrics->gauges[M_WAL_MEMBERS]) != members_of(t) ||
        atomic_load(&t->current->env->metrics->gauges[M_WAL_FAILED]) != 0)
        return false;
    struct holdings h = {.test = t};
    struct sim_check_options o = {.exclusive = !t->shared, .stream = holding_of_ledger, .ctx = &h};
    if (!sim_check_store(t->world, NULL, &o) || !h.any[0]) return false;
    if (h.parts[0].members.count != members_of(t)) return false;
    for (unsigned d = 0; d < t->rings; d++) {
        struct stored_report r = {""};
        struct stored_wal wal = {0};
        if (t->away[d] || !stored_wal_read(&r, sim_run_mem(t->run), t->devices[d], NULL, NULL, &wal)) return false;
        if (!wal.formatted || !names_ring(&h.parts[0], &wal)) return false;
    }
    return true;
}

static void device_goes(struct streams_test *t, unsigned d) {
    sim_note(t->world, t->current->broker, SIM_SUBJECT_ALL, "device %u does not answer any more", d);
    sim_device_detach(t->current->broker, t->devices[d]);
    t->away[d] = true;
}

static void others_go(struct streams_test *t, unsigned d) {
    if (!t->others[d]) return;
    sim_device_detach(t->current->broker, t->others[d]);
    sim_device_unref(t->others[d]);
    t->others[d] = NULL;
}

/* In its place there is one that another broker of the cluster has records on. */
static void others_come(struct streams_test *t, unsigned d) {
    if (!t->generation[0] || t->others[d]) return;
    sim_note(t->world, t->current->broker, SIM_SUBJECT_ALL, "another broker's is in the place of device %u", d);
    uint64_t size = t->wal_bytes / 4096 * 4096;
    struct sim_file *f = t->others[d] = sim_device_create(t->world, size);
    struct wal_superblock s = {.owner = OTHERS_OWNER,
                               .incarnation = {1},
                               .ring_size = size - WAL_RING_START,
                               .initialised = size - WAL_RING_START,
                               .closed = sim_chance(t->world, 0.3)};
    (void)snprintf(s.generation, sizeof(s.generation), "%s", t->generation);
    for (unsigned slot = 0; slot < 2; slot++) {
        uint8_t sector[WAL_SUPERBLOCK_SIZE];
        s.sequence = slot + 1;
        wal_superblock_encode(&s, sector);
        sim_file_poke(f, slot * (uint64_t)ENV_FILE_ALIGN, sector, sizeof(sector));
    }
    t->others_crc[d] = others_crc(f);
    sim_device_attach(t->current->broker, device_paths[d], f);
}

static void device_comes(struct streams_test *t, unsigned d, bool empty) {
    others_go(t, d);
    sim_note(t->world, t->current->broker, SIM_SUBJECT_ALL, "device %u is there %s", d,
             empty ? "anew, and empty" : "again");
    if (empty) {
        sim_device_unref(t->devices[d]);
        t->devices[d] = sim_device_create(t->world, t->wal_bytes / 4096 * 4096);
    }
    sim_device_attach(t->current->broker, device_paths[d], t->devices[d]);
    t->away[d] = false;
}

static void mirror_trouble(struct streams_test *t) {
    if (!(t->loses || t->loses_any)) return;
    bool works = sim_node_up(t->current->broker) && t->current->env &&
                 atomic_load(&t->current->env->metrics->gauges[M_WAL_MEMBERS]) > 0;
    if (!works && sim_chance(t->world, 0.9)) return; /* else few would ever start */
    unsigned d = (unsigned)sim_between(t->world, 0, t->rings - 1);
    if (t->away[d]) {
        if (sim_chance(t->world, 0.3))
            others_come(t, d);
        else if (sim_chance(t->world, 0.5))
            device_comes(t, d, t->loses || sim_chance(t->world, 0.5));
    } else if (sim_chance(t->world, 0.3) && (t->loses_any || all_count(t))) {
        device_goes(t, d);
    } else {
        return;
    }
    if (t->loses_any && t->rings == MIRRORED && sim_chance(t->world, 0.3)) {
        d = MIRRORED - 1 - d;
        if (t->away[d])
            device_comes(t, d, false);
        else
            device_goes(t, d);
    }
}

static void way_changes(struct streams_test *t, struct side *side, unsigned d) {
    side->cut[d] = !side->cut[d];
    side->missed |= side->cut[d];
    sim_note(t->world, side->broker, SIM_SUBJECT_ALL, "device %u is %s", d,
             side->cut[d] ? "out of its reach" : "within its reach again");
    if (side->cut[d])
        sim_device_detach(side->broker, t->devices[d]);
    else
        sim_device_attach(side->broker, device_paths[d], t->devices[d]);
}

static void ways_trouble(struct streams_test *t) {
    if (t->ways == 0 || t->init_begun || !sim_chance(t->world, t->ways)) return;
    way_changes(t, &t->sides[sim_between(t->world, 0, 1)], (unsigned)sim_between(t->world, 0, t->rings - 1));
}

static void mirror_heal(struct streams_test *t) {
    for (unsigned d = 0; t->mirrored && d < t->rings; d++) {
        if (t->away[d]) device_comes(t, d, t->loses);
        for (unsigned i = 0; i < ARRAY_LEN(t->sides); i++) {
            if (t->sides[i].cut[d]) way_changes(t, &t->sides[i], d);
        }
    }
}

/* The other machine takes over, while this one stands still or goes on. */
static void take_turns(struct streams_test *t) {
    struct side *now = t->current, *next = now == &t->sides[0] ? &t->sides[1] : &t->sides[0];
    if (t->init_begun) return;
    if (sim_node_up(next->broker)) { /* overtaken some time ago, and still running */
        bool wakes = t->marks && next->broker->paused_until_ns > t->world->now_ns; /* and may do harm then */
        if (sim_chance(t->world, wakes ? 0.95 : 0.5) || !sim_fault_allowed(t->world, SIM_CRASH_KILL)) return;
        sim_node_crash(next->broker, SIM_KILL);
    }
    if (sim_chance(t->world, t->marks ? 0.8 : 0.5)) sim_node_pause(now->broker, 2 * sim_node_pause_ns(t->world));
    now->superseded = true;
    next->superseded = next->stop_asked = false;
    t->current = next;
    sim_note(t->world, next->broker, SIM_SUBJECT_ALL, "takes over");
    sim_node_start(next->broker, broker_main, next);
}

/* What a broker would leave that dies while it puts large objects together; in these short runs few do that. */
static void leave_upload(struct streams_test *t) {
    if (!t->shared || !t->generation[0] || !sim_chance(t->world, 0.1)) return;
    char key[OBJECT_KEY_MAX];
    object_key(key, t->generation, (struct object_id){t->newest, sim_between(t->world, 1, 1000), OBJECT_DATA});
    sim_bucket_leave_upload(t->world->bucket, key);
}

static void streams_load(struct streams_test *t) {
    struct sim_world *w = t->world;
    uint64_t least_ns = (t->marks ? 180 : 30) * NS_PER_S; /* an operator takes half a minute each time */
    uint64_t end_ns = w->now_ns + sim_run_load_after_ns(t->run, least_ns, 2), most_ns = end_ns + 900 * NS_PER_S;
    if (t->run->options->load_ns > 0) most_ns = end_ns;
    /* A start takes long on a store that fails half the time; a load that nothing came of proves nothing. */
    while ((w->now_ns < end_ns || (t->run->acked < 50 && w->now_ns < most_ns && !t->detected)) && !sim_failed(w)) {
        struct side *now = t->current;
        look(t);
        if (!sim_node_up(now->broker)) {
            leave_upload(t);
            now->stop_asked = false;
            sim_node_start(now->broker, broker_main, now);
        }
        fiber_sleep_ns(sim_between(w, 10, 9000) * NS_PER_MS);
        mirror_trouble(t);
        ways_trouble(t);
        bool races = t->racing == now && sim_node_up(now->broker) && now->broker->front_pause_ns == 0;
        if (races) {
            t->racing = NULL;
            take_turns(t);
            continue;
        }
        if (sim_chance(w, t->crash / 2)) sim_node_pause(now->broker, sim_node_pause_ns(w));
        if (sim_chance(w, t->crash / 4))
            (void)sim_node_lose_machine(now->broker);
        else if (sim_chance(w, t->crash))
            sim_run_crash(t->run, now->broker);
        else if (sim_chance(w, 0.1)) {
            sim_note(w, now->broker, SIM_SUBJECT_ALL, "is asked to stop");
            now->stop_asked = true;
        }
        if (t->takeover > 0 && sim_chance(w, t->takeover)) take_turns(t);
    }
}

static void stop_all(struct streams_test *t) {
    unsigned count = t->takeover > 0 ? 2 : 1;
    sim_run_heal(t->run);
    mirror_heal(t);
    for (unsigned i = 0; i < count; i++) t->sides[i].stop_asked = true;
    for (unsigned i = 0; i < count && !sim_failed(t->world); i++) {
        if (!sim_run_wait_down(t->run, t->sides[i].broker, 3600 * NS_PER_S))
            sim_fail(t->world, "the broker does not stop though nothing is broken");
    }
}

static void streams_run(struct streams_test *t) {
    struct sim_world *w = t->world;
    t->current = &t->sides[0];
    w->bucket->deleted = look; /* whatever is deleted: nothing may need it */
    w->bucket->deleted_ctx = t;
    for (unsigned i = 0; i < PARTITIONS_MAX; i++) t->holders[i] = t->current;
    for (unsigned i = 0; i < ARRAY_LEN(t->sides); i++) t->sides[i].test = t;
    streams_load(t);
    stop_all(t);
    look(t);
    fiber_sleep_ns(SIM_RUN_LATE_NS);
    look(t);
    t->over = true;
    for (unsigned i = 0; i < 3 && !t->audited && !sim_failed(w); i++) {
        sim_node_start(t->current->broker, broker_main, t->current);
        if (!sim_run_wait_down(t->run, t->current->broker, 3600 * NS_PER_S))
            sim_fail(w, "the last start does not end though nothing is broken");
    }
    if (!sim_failed(w) && !t->audited && !t->detected)
        sim_fail(w, "the broker does not start though nothing is broken");
    if (!sim_failed(w) && t->audited && !t->detects) check_closed(t);
}

static struct streams_test *test_create(struct sim_run *r) {
    struct streams_test *t = MEM_NEW(sim_run_mem(r), struct streams_test);
    t->run = r;
    t->world = r->world;
    t->sides[0].broker = sim_node_create(r->world, "broker");
    t->memory = sim_check_memory_create(sim_run_mem(r));
    return t;
}

void workload_streams(struct sim_run *r) {
    struct streams_test *t = test_create(r);
    load_choose(t);
    class_choose(t);
    streams_run(t);
}

void workload_mirror(struct sim_run *r) {
    struct streams_test *t = test_create(r);
    load_choose(t);
    t->no_wal = false;
    if (t->by_ledger == 1) t->by_ledger = 0;
    if (sim_chance(r->world, 0.4)) {
        t->marks = t->shared = true;
        t->sides[1].broker = sim_node_create(r->world, "rival");
        t->change = 0;
        t->takeover = sim_chance(r->world, 0.8) ? 0.3 : 0.05;
        t->ways = sim_chance(r->world, 0.5) ? 0.2 : 0;
    }
    class_choose(t);
    mirror_choose(t);
    streams_run(t);
    for (unsigned d = 0; d < t->rings; d++) {
        others_go(t, d);
        sim_device_unref(t->devices[d]);
    }
}

void workload_rivals(struct sim_run *r) {
    struct streams_test *t = test_create(r);
    struct sim_world *w = r->world;
    t->sides[1].broker = sim_node_create(w, "rival");
    load_choose(t);
    if (sim_chance(w, 0.7)) {
        t->no_wal = t->shared = true;
        t->by_ledger = 1;
        t->change = 0;
        t->takeover = sim_chance(w, 0.8) ? 0.3 : 0.05;
    }
    t->drop = t->takeover == 0 || sim_chance(w, 0.5) ? 0.5 : 0;
    class_choose(t);
    streams_run(t);
}
