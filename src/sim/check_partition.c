#include "sim/check_partition.h"

#include <string.h>

#include "base/map.h"
#include "kafka/message_set.h"
#include "sim/check.h"
#include "sim/history.h"

#define VALUE_HEAD 12u /* the item, and which record of it */
#define RETENTION_MS_DEFAULT (7 * 24 * 3600 * (int64_t)1000)

/* --- Items. */

static uint64_t payload_id(uint32_t item, uint32_t record) {
    return hash64((uint64_t)item << 20 | record);
}

struct check_item *check_item_new(struct check *k, uint32_t *id) {
    struct check_items *t = &k->items;
    if (t->count == CHECK_ITEMS_MAX) return NULL;
    t->items = mem_grow(sim_run_mem(k->run), t->items, t->count, &t->capacity, sizeof(*t->items));
    *id = (uint32_t)t->count;
    struct check_item *it = &t->items[t->count++];
    *it = (struct check_item){.offset = -1, .timestamp = -1, .magic = 2};
    return it;
}

struct check_item *check_item_at(struct check *k, uint32_t id) {
    ASSERT(id < k->items.count);
    return &k->items.items[id];
}

/* A record's value: the item, the record, and bytes that follow from both. */
static void add_records(struct env *env, const struct check_item *it, uint32_t id, struct batch_builder *b) {
    size_t size = VALUE_HEAD + it->value_size;
    uint8_t *value = mem_alloc(env->mem, size);
    for (uint32_t i = 0; i < it->records; i++) {
        be64_put(value, id);
        be32_put(value + 8, i);
        sim_payload_fill(payload_id(id, i), value + VALUE_HEAD, it->value_size);
        batch_builder_add(b, it->timestamp < 0 ? 0 : it->timestamp + i, NULL, 0, value, size, NULL, 0);
    }
    mem_free(env->mem, value);
}

void check_item_make(struct check *k, struct env *env, uint32_t id, int64_t producer, int32_t sequence,
                     struct buf *out) {
    struct check_item *it = check_item_at(k, id);
    struct batch_options o = BATCH_OPTIONS_DEFAULT;
    o.codec = (enum kafka_codec)it->codec;
    if (producer >= 0) {
        o.producer_id = producer;
        o.producer_epoch = 0;
        o.base_sequence = sequence;
    }
    struct batch_builder b;
    struct buf batch;
    buf_init(&batch, env->mem);
    batch_builder_init(&b, env->mem, &o);
    add_records(env, it, id, &b);
    enum err e = batch_builder_finish(&b, it->magic == 2 ? out : &batch);
    ASSERT(e == OK);
    batch_builder_deinit(&b);
    if (it->magic < 2) {
        struct message_set_down how = {.magic = (int8_t)it->magic, .max_bytes = SIZE_MAX, .unpack_limit = 1u << 24};
        bool full = false;
        e = message_set_down_convert(batch.data, batch.size, env->mem, &how, out, &full);
        ASSERT(e == OK && !full);
    }
    it->bytes = (uint32_t)(it->magic == 2 ? out->size : batch.size + 64);
    buf_deinit(&batch);
}

/* Which item that value is a record of, and which one; CHECK_NOBODY: nobody sent this. */
static uint32_t value_item(struct check *k, const uint8_t *value, int32_t size, uint32_t *record) {
    if (size < (int32_t)VALUE_HEAD) return CHECK_NOBODY;
    uint64_t id = be64_get(value);
    *record = be32_get(value + 8);
    if (id >= k->items.count) return CHECK_NOBODY;
    const struct check_item *it = &k->items.items[id];
    bool same = *record < it->records && (size_t)size == VALUE_HEAD + it->value_size &&
                sim_payload_is(payload_id((uint32_t)id, *record), value + VALUE_HEAD, it->value_size);
    return same ? (uint32_t)id : CHECK_NOBODY;
}

/* Which item a batch is. */
static uint32_t batch_item(struct check *k, struct mem *m, const struct batch_header *h) {
    struct batch_iterator it;
    struct batch_record r;
    uint32_t id = CHECK_NOBODY, count = 0;
    if (batch_iterator_init(&it, m, h, 1u << 24) != OK) return CHECK_NOBODY;
    for (; batch_iterator_next(&it, &r) == OK; count++) {
        uint32_t record, found = value_item(k, r.value, r.value_size, &record);
        bool same = found != CHECK_NOBODY && record == count && (count == 0 || found == id);
        if (same && !(h->attributes & BATCH_LOG_APPEND_TIME)) {
            int64_t told = k->items.items[found].timestamp;
            same = told < 0 ? r.timestamp == -1 : r.timestamp == told + count;
        }
        id = same ? found : CHECK_NOBODY;
        if (!same) break;
    }
    batch_iterator_deinit(&it);
    return id != CHECK_NOBODY && count == k->items.items[id].records ? id : CHECK_NOBODY;
}

/* --- Logs. */

void check_partition_init(struct check_partition *l, struct check_topic *t, int32_t partition) {
    *l = (struct check_partition){.topic = t,
                                  .partition = partition,
                                  .retention_ms = RETENTION_MS_DEFAULT,
                                  .retention_bytes = INT64_MAX,
                                  .epoch = {.value = -1}};
}

void check_partition_deinit(struct check *k, struct check_partition *l) {
    mem_free(sim_run_mem(k->run), l->shown);
    l->shown = NULL;
}

uint64_t check_partition_subject(const struct check_partition *l) {
    return sim_subject(l->topic->name->name, l->partition);
}

struct check_look check_partition_look(struct check *k, const struct check_partition *l) {
    return (struct check_look){check_now(k), l->hw, l->start};
}

static struct check_shown *shown_at(struct check *k, struct check_partition *l, int64_t offset) {
    if ((size_t)offset >= l->capacity) {
        size_t capacity = l->capacity ? l->capacity : 64;
        while (capacity <= (size_t)offset) capacity *= 2;
        struct check_shown *grown = mem_zalloc(sim_run_mem(k->run), capacity * sizeof(*grown));
        if (l->capacity) memcpy(grown, l->shown, l->capacity * sizeof(*grown));
        mem_free(sim_run_mem(k->run), l->shown);
        l->shown = grown;
        l->capacity = capacity;
    }
    return &l->shown[offset];
}

#define FAIL(k, l, ...) sim_fail_about((k)->world, check_partition_subject(l), __VA_ARGS__)

static void mark_raise(struct check_mark *m, int64_t value, uint64_t inc) {
    if (value > m->value) m->value = value;
    if (inc > m->inc) m->inc = inc;
}

static bool item_is_in(const struct check_item *it, const struct check_partition *l) {
    return it->name == l->topic->name->index && it->partition == (uint32_t)l->partition && it->topic == l->topic &&
           it->offset >= 0;
}

static bool is_old(const struct check *k, const struct check_partition *l, const struct check_item *it) {
    if (l->topic->name->append_time) return it->appended == 0 || it->appended + l->retention_ms < k->wall_high_ms;
    return it->timestamp < 0 || it->timestamp + it->records - 1 + l->retention_ms < k->wall_high_ms;
}

/* Retention may have moved the start there: whole batches, each of which is old enough, or above the size. */
static void judge_retention(struct check *k, struct check_partition *l, int64_t start) {
    int64_t young_end = -1, left = 0;
    for (size_t i = 0; i < k->items.count; i++) {
        const struct check_item *it = &k->items.items[i];
        if (!item_is_in(it, l) || it->offset >= start) continue;
        int64_t end = it->offset + it->records;
        if (end > start) {
            FAIL(k, l, "%s-%d: the log begins at %ld, in the middle of a batch, which nobody asked for",
                 l->topic->name->name, l->partition, start);
            return;
        }
        if (end > l->delete_asked && end > young_end && !is_old(k, l, it)) young_end = end;
    }
    if (young_end < 0) return;
    for (size_t i = 0; i < k->items.count; i++) {
        const struct check_item *it = &k->items.items[i];
        if (it->name != l->topic->name->index || it->partition != (uint32_t)l->partition) continue;
        if (!item_is_in(it, l) || it->offset >= young_end) left += (int64_t)it->bytes * it->sent;
    }
    if (left < l->retention_bytes) {
        FAIL(k, l, "%s-%d: the log begins at %ld; what lay before %ld was neither old enough nor too much nor deleted",
             l->topic->name->name, l->partition, start, young_end);
    }
}

void check_partition_ends(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                          int64_t hw, int64_t start) {
    const char *name = l->topic->name->name;
    if (inc == 0 || sim_failed(k->world)) return;
    if (hw >= 0) {
        if (look->hw.inc <= inc && hw < look->hw.value)
            FAIL(k, l, "%s-%d: the high watermark went back from %ld to %ld", name, l->partition, look->hw.value, hw);
        else if (inc < l->told.inc && hw > l->told.value) /* what its successor acknowledged may lie further below */
            FAIL(k, l, "%s-%d: a broker that was overtaken shows a high watermark of %ld; its successor's is %ld", name,
                 l->partition, hw, l->told.value);
        mark_raise(&l->told, hw, inc);
        mark_raise(&l->hw, hw, inc);
    }
    if (start < 0 || sim_failed(k->world)) return;
    if (look->start.inc <= inc && start < look->start.value)
        FAIL(k, l, "%s-%d: the log start offset went back from %ld to %ld", name, l->partition, look->start.value,
             start);
    else if (inc < l->start.inc && start > l->start.value)
        FAIL(k, l, "%s-%d: a broker that was overtaken shows a log start of %ld; its successor's is %ld", name,
             l->partition, start, l->start.value);
    else if (hw >= 0 && start > hw)
        FAIL(k, l, "%s-%d: the log begins at %ld and ends at %ld", name, l->partition, start, hw);
    else if (start > l->start.value && start > l->delete_asked)
        judge_retention(k, l, start);
    mark_raise(&l->start, start, inc);
    mark_raise(&l->hw, start, inc);
}

void check_partition_epoch(struct check *k, struct check_partition *l, uint64_t inc, int32_t epoch) {
    const struct check_mark *m = &l->epoch;
    if (inc == 0 || epoch < 0) return;
    bool fits = m->inc == 0 || (inc == m->inc ? epoch == m->value : inc > m->inc ? epoch > m->value : epoch < m->value);
    if (!fits)
        FAIL(k, l, "%s-%d: incarnation %lu says leader epoch %d, incarnation %lu said %ld", l->topic->name->name,
             l->partition, inc, epoch, m->inc, m->value);
    if (inc > m->inc) l->epoch = (struct check_mark){epoch, inc};
}

/* Whether what lies there may have been deleted: asked for, or by retention. */
static bool may_be_gone(const struct check_partition *l, int64_t offset) {
    return offset < l->start.value || offset < l->delete_asked || l->retention_ms < RETENTION_MS_DEFAULT ||
           l->retention_bytes < INT64_MAX;
}

void check_partition_out_of_range(struct check *k, struct check_partition *l, uint64_t inc,
                                  const struct check_look *look, int64_t offset) {
    if (inc == 0 || (look->hw.inc <= inc ? offset > look->hw.value : true)) return; /* it does not know of that yet */
    if (!may_be_gone(l, offset))
        FAIL(k, l, "%s-%d: offset %ld is out of range; the log begins at %ld, and nothing was to be deleted",
             l->topic->name->name, l->partition, offset, l->start.value);
}

/* When a batch was appended, as an answer says. False: that cannot be. */
static bool judge_appended(struct check *k, struct check_partition *l, uint32_t id, int64_t offset, int64_t appended) {
    const struct check_item *it = check_item_at(k, id);
    const struct check_shown *s = offset < (int64_t)l->capacity ? &l->shown[offset] : NULL;
    const char *name = l->topic->name->name;
    int64_t before = s && s->records > 0 && s->item == id ? s->appended : 0;
    if (before == 0 && it->topic == l->topic && it->offset == offset) before = it->appended;
    if (appended == 0) return true;
    if ((appended > 0) != l->topic->name->append_time)
        FAIL(k, l, "%s-%d: batch %u at %ld is said to be from %ld, where the time of %s counts", name, l->partition, id,
             offset, appended, appended > 0 ? "the producer" : "the append");
    else if (appended > k->wall_high_ms)
        FAIL(k, l, "%s-%d: batch %u at %ld is said to be from %ld; no broker's clock was there yet", name, l->partition,
             id, offset, appended);
    else if (before != 0 && appended > 0 && appended != before)
        FAIL(k, l, "%s-%d: batch %u at %ld was appended at %ld, and at %ld before", name, l->partition, id, offset,
             appended, before);
    return !sim_failed(k->world);
}

void check_item_acked(struct check *k, uint32_t id, struct check_topic *t, int64_t offset, int64_t appended,
                      uint64_t inc, const struct check_look *look, int64_t log_start) {
    struct check_item *it = check_item_at(k, id);
    k->run->acked++;
    if (!t) return;
    struct check_partition *l = &t->logs[it->partition];
    if (offset < 0) {
        FAIL(k, l, "%s-%u: batch %u is acknowledged without an offset", t->name->name, it->partition, id);
        return;
    }
    bool once = it->idempotent || it->sent == 1;
    if (once && it->topic == t && it->offset >= 0 && it->offset != offset)
        FAIL(k, l, "%s-%u: batch %u is acknowledged at %ld, and lies or was acknowledged at %ld", t->name->name,
             it->partition, id, offset, it->offset);
    if (offset < (int64_t)l->capacity && l->shown[offset].records > 0 && l->shown[offset].item != id)
        FAIL(k, l, "%s-%u: batch %u is acknowledged at %ld, where readers were shown batch %u", t->name->name,
             it->partition, id, offset, l->shown[offset].item);
    if (once && !judge_appended(k, l, id, offset, appended)) return;
    if (it->topic != t || it->offset != offset) it->appended = 0;
    it->topic = t;
    it->offset = offset;
    it->acked = true;
    if (appended > 0) it->appended = appended;
    check_partition_ends(k, l, inc, look, -1, log_start);
    if (inc != 0) mark_raise(&l->hw, offset + it->records, inc);
}

/* --- What readers are shown. */

/* appended: as for check_item_acked. */
static bool note_shown(struct check *k, struct check_partition *l, uint32_t id, int64_t base, int32_t epoch,
                       int64_t appended, uint32_t audit) {
    struct check_item *it = check_item_at(k, id);
    const char *name = l->topic->name->name;
    if (it->name != l->topic->name->index || it->partition != (uint32_t)l->partition) {
        FAIL(k, l, "%s-%d: at offset %ld lies a batch of %s-%u", name, l->partition, base, k->names[it->name].name,
             it->partition);
        return false;
    }
    struct check_shown *s = shown_at(k, l, base);
    if (s->records > 0 && s->item != id) {
        FAIL(k, l, "%s-%d: offset %ld is batch %u, and was batch %u before", name, l->partition, base, id, s->item);
        return false;
    }
    if (s->records > 0 && s->epoch >= 0 && epoch >= 0 && s->epoch != epoch) {
        FAIL(k, l, "%s-%d: the batch at offset %ld is of epoch %d, and was of %d before", name, l->partition, base,
             epoch, s->epoch);
        return false;
    }
    bool once = it->idempotent || it->sent == 1;
    if (once && it->topic == l->topic && it->offset >= 0 && it->offset != base) {
        FAIL(k, l, "%s-%d: batch %u lies at %ld, and was acknowledged or shown at %ld", name, l->partition, id, base,
             it->offset);
        return false;
    }
    if (!judge_appended(k, l, id, base, appended)) return false;
    if (s->records == 0) s->epoch = -1;
    if (appended > 0) s->appended = appended;
    s->item = id;
    s->records = it->records;
    if (epoch >= 0) s->epoch = epoch;
    if (audit) s->audit = audit;
    if (it->offset < 0) {
        it->offset = base;
        it->topic = l->topic;
    }
    if (appended > 0 && it->topic == l->topic && it->offset == base) it->appended = appended;
    if (base + it->records > l->end) l->end = base + it->records;
    k->run->ops++;
    return true;
}

/* Whether what lies there may be shown at all. */
static bool may_show(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                     int64_t end) {
    if (look->start.inc <= inc && inc != 0 && end <= look->start.value) {
        FAIL(k, l, "%s-%d: what ends at %ld is served, but the log begins at %ld", l->topic->name->name, l->partition,
             end, look->start.value);
        return false;
    }
    if (inc != 0 && end > l->hw.value) {
        FAIL(k, l, "%s-%d: what ends at %ld is served, above the high watermark %ld", l->topic->name->name,
             l->partition, end, l->hw.value);
        return false;
    }
    return true;
}

int64_t check_partition_batch(struct check *k, struct mem *m, struct check_partition *l, uint64_t inc,
                              const struct check_look *look, int64_t next, bool inside, const struct batch_header *h,
                              uint32_t audit) {
    const char *name = l->topic->name->name;
    uint32_t id = batch_item(k, m, h);
    int64_t end = id == CHECK_NOBODY ? 0 : h->base_offset + k->items.items[id].records;
    if (id == CHECK_NOBODY) {
        FAIL(k, l, "%s-%d: at offset %ld lies what nobody sent", name, l->partition, h->base_offset);
    } else if (inside ? h->base_offset > next || end <= next : h->base_offset != next) {
        FAIL(k, l, "%s-%d: offset %ld is followed by %ld", name, l->partition, next, h->base_offset);
    }
    if (sim_failed(k->world) || !may_show(k, l, inc, look, end)) return -1;
    int64_t appended = h->attributes & BATCH_LOG_APPEND_TIME ? h->max_timestamp : -1;
    return note_shown(k, l, id, h->base_offset, h->partition_leader_epoch, appended, audit) ? end : -1;
}

int64_t check_partition_message(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                                int64_t next, const struct check_message *m) {
    int64_t offset = m->offset;
    uint32_t record, id = value_item(k, m->value, m->size, &record);
    if (id == CHECK_NOBODY || offset < record) {
        FAIL(k, l, "%s-%d: at offset %ld lies a message that nobody sent", l->topic->name->name, l->partition, offset);
        return -1;
    }
    if (offset > next) {
        FAIL(k, l, "%s-%d: offset %ld is followed by %ld", l->topic->name->name, l->partition, next, offset);
        return -1;
    }
    int64_t base = offset - record;
    if (!may_show(k, l, inc, look, base + k->items.items[id].records)) return -1;
    int64_t sent = k->items.items[id].timestamp;
    if (m->timed && !m->stamped && m->timestamp != (sent < 0 ? -1 : sent + record)) {
        FAIL(k, l, "%s-%d: the message at %ld has the time %ld, and was sent with %ld", l->topic->name->name,
             l->partition, offset, m->timestamp, sent < 0 ? -1 : sent + record);
        return -1;
    }
    if (!note_shown(k, l, id, base, -1, !m->timed ? 0 : m->stamped ? m->timestamp : -1, 0)) return -1;
    return offset >= next ? offset + 1 : next;
}

void check_partition_delete_asked(struct check *k, struct check_partition *l, int64_t offset) {
    (void)k;
    if (offset < 0) offset = INT64_MAX;
    if (offset > l->delete_asked) l->delete_asked = offset;
}

/* --- Questions about offsets. */

/* The batch that was shown around an offset; NULL: none. */
static const struct check_shown *shown_around(const struct check_partition *l, int64_t offset, int64_t *base) {
    for (int64_t at = offset; at >= 0 && at > offset - 64; at--) {
        if (at >= (int64_t)l->capacity || l->shown[at].records == 0) continue;
        *base = at;
        return at + l->shown[at].records > offset ? &l->shown[at] : NULL;
    }
    return NULL;
}

/* The time of a record of a batch that was shown; -1: it has none, or it is not known. */
static int64_t shown_time(const struct check *k, const struct check_partition *l, const struct check_shown *s,
                          int64_t record) {
    const struct check_item *it = &k->items.items[s->item];
    if (l->topic->name->append_time) return s->appended > 0 ? s->appended : -1;
    return it->timestamp < 0 ? -1 : it->timestamp + record;
}

void check_partition_time(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                          int64_t asked, int64_t offset, int64_t timestamp) {
    if (inc == 0) return;
    const char *name = l->topic->name->name;
    int64_t base = 0, limit = offset >= 0 && asked >= 0 ? offset : look->hw.inc <= inc ? look->hw.value : 0;
    int64_t least = asked >= 0 ? asked : timestamp + 1;
    const struct check_shown *s = offset >= 0 ? shown_around(l, offset, &base) : NULL;
    bool known = s && !(l->topic->name->append_time && s->appended == 0);
    int64_t time = known ? shown_time(k, l, s, offset - base) : -1;
    if (known && (time < 0 || time != timestamp || timestamp < asked))
        FAIL(k, l, "%s-%d: asked for time %ld, told offset %ld with time %ld; its time is %ld", name, l->partition,
             asked, offset, timestamp, time);
    for (int64_t at = l->start.value; at < limit && at < (int64_t)l->capacity; at++) {
        if (may_be_gone(l, at)) continue;
        s = &l->shown[at];
        for (int64_t i = 0; i < s->records && at + i < limit; i++) {
            if (shown_time(k, l, s, i) < 0 || shown_time(k, l, s, i) < least) continue;
            FAIL(k, l, "%s-%d: asked for time %ld, told offset %ld with time %ld; at %ld lies one of %ld", name,
                 l->partition, asked, offset, timestamp, at + i, shown_time(k, l, s, i));
            return;
        }
    }
    k->run->ops++;
}

void check_partition_epoch_end(struct check *k, struct check_partition *l, uint64_t inc, const struct check_look *look,
                               int32_t asked, int32_t epoch, int64_t end) {
    if (inc == 0 || end < 0 || l->epoch.inc != inc) return;
    const char *name = l->topic->name->name;
    if (epoch > asked) FAIL(k, l, "%s-%d: asked for epoch %d, told epoch %d", name, l->partition, asked, epoch);
    if (asked == l->epoch.value && look->hw.inc <= inc && end < look->hw.value)
        FAIL(k, l, "%s-%d: the present epoch ends at %ld, below the high watermark %ld", name, l->partition, end,
             look->hw.value);
    for (int64_t at = l->start.value; at < (int64_t)l->capacity && !sim_failed(k->world); at++) {
        const struct check_shown *s = &l->shown[at];
        if (s->records == 0 || s->epoch < 0) continue;
        bool below = at + s->records <= end;
        if (below && may_be_gone(l, at)) continue; /* with all of the epoch gone, it ends where the log begins */
        if (below ? s->epoch > asked : asked < l->epoch.value && s->epoch <= asked)
            FAIL(k, l, "%s-%d: epoch %d is said to end at %ld; at %ld lies a batch of epoch %d", name, l->partition,
                 asked, end, at, s->epoch);
    }
    k->run->ops++;
}

/* --- The end. */

/* Every batch where it was shown, no more often than it may be, and in order. */
static void judge_shown(struct check *k, struct check_partition *l, int64_t start, int64_t end, uint32_t audit) {
    const char *name = l->topic->name->name;
    struct map64 last; /* of each producer: order + 1 */
    map64_init(&last, sim_run_mem(k->run));
    int32_t epoch = -1;
    int64_t appended = 0; /* the last in that epoch */
    for (int64_t at = 0; at < (int64_t)l->capacity && !sim_failed(k->world); at++) {
        const struct check_shown *s = &l->shown[at];
        if (s->records == 0) continue;
        struct check_item *it = check_item_at(k, s->item);
        it->seen++;
        if (at + s->records > start && s->audit != audit)
            FAIL(k, l, "%s-%d: batch %u was shown at %ld and is not there; the log is [%ld, %ld)", name, l->partition,
                 s->item, at, start, end);
        if (it->seen > (it->idempotent ? 1 : it->sent))
            FAIL(k, l, "%s-%d: batch %u is there %u times, and was sent %u times%s", name, l->partition, s->item,
                 it->seen, it->sent, it->idempotent ? " by an idempotent producer" : "");
        uintptr_t before = (uintptr_t)map64_get(&last, (uint64_t)it->sender + 1);
        if (it->idempotent && it->order + 1 <= before)
            FAIL(k, l, "%s-%d: batch %u of producer %u lies behind a later one", name, l->partition, s->item,
                 it->sender);
        if (it->idempotent) map64_put(&last, (uint64_t)it->sender + 1, (void *)((uintptr_t)it->order + 1));
        if (s->epoch >= 0 && s->epoch < epoch)
            FAIL(k, l, "%s-%d: epoch %d at offset %ld lies behind epoch %d", name, l->partition, s->epoch, at, epoch);
        if (s->epoch > epoch) appended = 0;
        /* An epoch is one process on one machine. */
        if (s->epoch >= 0 && s->appended > 0 && s->appended < appended && k->world->fault_counts[SIM_CLOCK_JUMP] == 0)
            FAIL(k, l, "%s-%d: batch %u at %ld was appended at %ld, behind one of %ld, and no clock has jumped", name,
                 l->partition, s->item, at, s->appended, appended);
        if (s->epoch >= 0 && s->appended > 0) appended = s->appended;
        if (s->epoch >= 0) epoch = s->epoch;
    }
    map64_deinit(&last);
}

void check_partition_judge(struct check *k, struct check_partition *l, int64_t start, int64_t end, uint32_t audit) {
    const char *name = l->topic->name->name;
    if (end < l->end || end < l->hw.value) {
        FAIL(k, l, "%s-%d ends at %ld; %ld was shown, %ld told", name, l->partition, end, l->end, l->hw.value);
        return;
    }
    for (size_t i = 0; i < k->items.count; i++) k->items.items[i].seen = 0;
    judge_shown(k, l, start, end, audit);
    for (size_t i = 0; i < k->items.count && !sim_failed(k->world); i++) {
        const struct check_item *it = &k->items.items[i];
        if (!item_is_in(it, l) || !it->acked || it->offset + it->records <= start) continue;
        const struct check_shown *s = it->offset < (int64_t)l->capacity ? &l->shown[it->offset] : NULL;
        if (!s || s->records == 0 || s->item != i || s->audit != audit)
            FAIL(k, l, "%s-%d: batch %zu was acknowledged at offset %ld and is not there; the log is [%ld, %ld)", name,
                 l->partition, i, it->offset, start, end);
    }
}
