/* What is done with one partition in the workloads "streams", "rivals" and "mirror": appends of several idempotent
 * producers, trims, reads, searches by time; and what must be there after a start. The model keeps what was promised. */
#include "sim/workload_streams_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "kafka/batch.h"

/* Offsets that a batch takes where compaction has left few of its records: the end soon passes what 32 bits hold. */
#define WIDE_SPAN ((uint32_t)INT32_MAX)
#define WIDE_END_MAX (1ull << 40)
#define PRODUCERS 3u

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
    } else if (streams_test_refusal(t, e)) {
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

void part_choose_durability(struct part *p) {
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
        if (sim_chance(t->world, t->change)) part_choose_durability(p);
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

void part_read_all(void *arg) {
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

void part_start_load(struct part *p) {
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

/* --- A start. */

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

void part_check_start(struct part *p) {
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
