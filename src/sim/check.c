#include "sim/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/history.h"

#define FAIL(k, n, ...) sim_fail_about((k)->world, check_subject(n), __VA_ARGS__)

struct check *check_create(struct sim_run *r) {
    struct check *k = MEM_NEW(sim_run_mem(r), struct check);
    k->run = r;
    k->world = r->world;
    k->wall_high_ms = INT64_MIN;
    for (unsigned g = 0; g < CHECK_GROUPS_MAX; g++) {
        for (unsigned n = 0; n < CHECK_NAMES_MAX; n++) {
            for (unsigned p = 0; p < CHECK_PARTITIONS_MAX; p++)
                k->commits[g][n][p] = (struct check_commit){.low = -1, .high = -1};
        }
    }
    return k;
}

static void topic_free(struct check *k, struct check_topic *t) {
    for (unsigned p = 0; p < CHECK_PARTITIONS_MAX; p++) check_partition_deinit(k, &t->logs[p]);
    mem_free(sim_run_mem(k->run), t);
}

void check_destroy(struct check *k) {
    struct mem *m = sim_run_mem(k->run);
    for (unsigned n = 0; n < k->name_count; n++) {
        for (size_t i = 0; i < k->names[n].topic_count; i++) topic_free(k, k->names[n].topics[i]);
        mem_free(m, k->names[n].topics);
    }
    mem_free(m, k->items.items);
    mem_free(m, k);
}

uint64_t check_now(struct check *k) {
    return ++k->clock;
}

void check_wall(struct check *k, int64_t wall_ms) {
    if (wall_ms > k->wall_high_ms) k->wall_high_ms = wall_ms;
}

struct check_name *check_name_add(struct check *k, int32_t partitions) {
    ASSERT(k->name_count < CHECK_NAMES_MAX && partitions <= (int32_t)CHECK_PARTITIONS_MAX);
    struct check_name *n = &k->names[k->name_count];
    n->index = k->name_count++;
    n->partitions = partitions;
    n->retention_ms = n->retention_bytes = INT64_MAX;
    (void)snprintf(n->name, sizeof(n->name), "t%u", n->index);
    return n;
}

uint64_t check_subject(const struct check_name *n) {
    return sim_subject(n->name, -1);
}

static void later(uint64_t *inc, uint64_t other) {
    if (other > *inc) *inc = other;
}

/* Of a request to whom nobody knows, the end is never certain. */
static uint64_t known_or_ever(uint64_t inc) {
    return inc ? inc : UINT64_MAX;
}

/* --- Topics. */

struct check_topic *check_current(const struct check_name *n) {
    return n->topic_count > 0 ? n->topics[n->topic_count - 1] : NULL;
}

bool check_certain(const struct check_topic *t) {
    return t && t->there && !t->leaving && !t->gone && t->name->loose_delete == 0;
}

bool check_must_know(const struct check_topic *t, uint64_t inc, uint64_t asked, int32_t partition) {
    return check_certain(t) && t->there_inc <= inc && t->there_at < asked && t->leaving_at < asked &&
           (partition < t->count_low && t->count_inc <= inc && t->count_at < asked);
}

bool check_may_serve(const struct check_topic *t, uint64_t inc, uint64_t asked) {
    return !(t->gone && t->gone_inc <= inc && t->gone_at < asked);
}

static struct check_topic *topic_new(struct check *k, struct check_name *n) {
    struct check_topic *t = MEM_NEW(sim_run_mem(k->run), struct check_topic);
    t->name = n;
    t->number = (unsigned)n->topic_count;
    t->count_low = t->count_high = n->partitions;
    for (int32_t p = 0; p < (int32_t)CHECK_PARTITIONS_MAX; p++) {
        check_partition_init(&t->logs[p], t, p);
        if (n->retention_ms < t->logs[p].retention_ms) t->logs[p].retention_ms = n->retention_ms;
        t->logs[p].retention_bytes = n->retention_bytes;
        if (n->loose_change == 0) continue;
        t->logs[p].delete_asked = INT64_MAX;
        t->logs[p].retention_ms = 0;
    }
    if (n->loose_change) t->count_high = (int32_t)CHECK_PARTITIONS_MAX;
    n->topics = mem_grow(sim_run_mem(k->run), n->topics, n->topic_count, &n->topic_capacity, sizeof(*n->topics));
    n->topics[n->topic_count++] = t;
    return t;
}

struct check_topic *check_create_asked(struct check *k, struct check_name *n) {
    struct check_topic *t = check_current(n);
    return t && !t->gone ? t : topic_new(k, n);
}

static void topic_there(struct check *k, struct check_topic *t, uint64_t inc) {
    if (t->there || inc == 0) return;
    t->there = true;
    t->there_inc = t->count_inc = inc;
    t->there_at = t->count_at = check_now(k);
}

static void bind_id(struct check_topic *t, const struct kafka_uuid *id) {
    t->id = *id;
    t->id_known = true;
}

static struct check_topic *topic_by_id(struct check_name *n, const struct kafka_uuid *id) {
    for (size_t i = 0; i < n->topic_count; i++) {
        struct check_topic *t = n->topics[i];
        if (t->id_known && memcmp(&t->id, id, sizeof(*id)) == 0) return t;
    }
    return NULL;
}

void check_create_told(struct check *k, struct check_topic *t, uint64_t inc, uint64_t asked, enum check_outcome o,
                       const struct kafka_uuid *id) {
    struct check_name *n = t->name;
    if (o == CHECK_UNKNOWN) {
        later(&n->loose_create, known_or_ever(inc));
    } else if (o == CHECK_DONE) {
        k->run->acked++;
        if (t->gone) {
            /* Somebody else's turn came in between: it saw that the one of that name, when this was asked for, has gone.
             * What was made is a new one then, unless it is gone as well. */
            if (!topic_by_id(n, id)) later(&n->loose_create, known_or_ever(inc));
            return;
        }
        if (t->id_known && memcmp(&t->id, id, sizeof(*id)) != 0 && !t->leaving && n->loose_delete == 0) {
            FAIL(k, n, "%s is created, and another topic of that name is there", n->name);
            return;
        }
        if (topic_by_id(n, id) && topic_by_id(n, id) != t) {
            FAIL(k, n, "%s is created with the id of a topic that was deleted", n->name);
            return;
        }
        if (t->id_known && memcmp(&t->id, id, sizeof(*id)) != 0) { /* the old one had gone */
            t->gone = true;
            t->gone_inc = inc;
            t->gone_at = check_now(k);
            t = topic_new(k, n);
        }
        if (!t->id_known) bind_id(t, id);
        topic_there(k, t, inc);
    } else if (!t->there && n->loose_create == 0 && inc != 0 &&
               (t->number == 0 || !check_may_serve(n->topics[t->number - 1], inc, asked))) {
        FAIL(k, n, "%s is said to exist, and nobody has created it", n->name);
    }
}

static void topic_gone(struct check *k, struct check_topic *t, uint64_t inc) {
    if (t->gone || inc == 0) return;
    t->gone = true;
    t->gone_inc = inc;
    t->gone_at = check_now(k);
}

void check_delete_asked(struct check *k, struct check_topic *t, uint64_t inc, bool by_id) {
    t->leaving = true;
    t->leaving_at = check_now(k);
    later(&t->leaving_inc, known_or_ever(inc));
    (void)by_id;
    for (unsigned g = 0; g < CHECK_GROUPS_MAX; g++) check_commit_drop_asked(k, g, t->name);
}

void check_delete_told(struct check *k, struct check_topic *t, uint64_t inc, uint64_t asked, bool by_id,
                       enum check_outcome o) {
    struct check_name *n = t->name;
    bool sure = by_id || n->loose_create == 0;
    /* Of unknown outcome for the topic, and so for its offsets: these are dropped as long as it is leaving. */
    for (unsigned g = 0; g < CHECK_GROUPS_MAX; g++)
        check_commit_drop_told(k, g, n, inc, o == CHECK_DONE && sure ? CHECK_DONE : CHECK_REFUSED);
    if (o == CHECK_UNKNOWN) {
        if (!by_id) later(&n->loose_delete, known_or_ever(inc));
    } else if (o == CHECK_DONE) {
        k->run->acked++;
        if (!check_may_serve(t, inc, asked)) FAIL(k, n, "%s is deleted, and was before", n->name);
        if (sure) topic_gone(k, t, inc);
    } else if (t->there && t->there_inc <= inc && t->there_at < asked && sure) {
        topic_gone(k, t, inc); /* it was asked for before, or is by us */
    }
}

void check_grow_asked(struct check *k, struct check_topic *t, uint64_t inc, int32_t count) {
    (void)k;
    (void)inc;
    if (count > t->count_high) t->count_high = count;
}

void check_grow_told(struct check *k, struct check_topic *t, uint64_t inc, int32_t count, enum check_outcome o) {
    if (o == CHECK_UNKNOWN) later(&t->name->loose_change, known_or_ever(inc));
    if (o != CHECK_DONE || inc == 0) return;
    k->run->acked++;
    if (t != check_current(t->name) || t->gone) return;
    if (count > t->count_low) t->count_low = count;
    later(&t->count_inc, inc);
    t->count_at = check_now(k);
}

/* What a later incarnation says is final for all that was asked of earlier ones. */
static void settle(struct check_name *n, uint64_t inc) {
    if (inc > n->loose_create) n->loose_create = 0;
    if (inc > n->loose_delete) n->loose_delete = 0;
    if (inc > n->loose_change) n->loose_change = 0;
}

static struct check_topic *seen_new(struct check *k, struct check_name *n, const struct kafka_uuid *id) {
    struct check_topic *t = check_current(n);
    if (t && !t->id_known && !t->gone) {
        bind_id(t, id);
        return t;
    }
    if (n->loose_create == 0) {
        FAIL(k, n, "%s has an id that no creation made", n->name);
        return NULL;
    }
    if (check_certain(t)) {
        FAIL(k, n, "%s has another id, and nobody has deleted the topic of that name", n->name);
        return NULL;
    }
    t = topic_new(k, n);
    bind_id(t, id);
    return t;
}

static void seen_count(struct check *k, struct check_topic *t, uint64_t inc, uint64_t asked, int32_t count) {
    if (count > t->count_high)
        FAIL(k, t->name, "%s has %d partitions; nobody asked for more than %d", t->name->name, count, t->count_high);
    if (count < t->count_low && t->count_inc <= inc && t->count_at < asked)
        FAIL(k, t->name, "%s has %d partitions; it had %d", t->name->name, count, t->count_low);
    if (count > t->count_low) {
        t->count_low = count;
        later(&t->count_inc, inc);
        t->count_at = check_now(k);
    }
}

static void seen_nothing(struct check *k, struct check_name *n, uint64_t inc, uint64_t asked) {
    struct check_topic *t = check_current(n);
    if (!t || t->gone || !t->there || t->there_inc > inc || t->there_at >= asked) return;
    if (!t->leaving && n->loose_delete == 0) {
        FAIL(k, n, "%s is not there, and nobody has deleted it", n->name);
        return;
    }
    topic_gone(k, t, inc);
}

struct check_topic *check_name_seen(struct check *k, struct check_name *n, uint64_t inc, uint64_t asked, bool exists,
                                    const struct kafka_uuid *id, int32_t count) {
    struct check_topic *t = NULL;
    if (inc == 0) return NULL;
    k->run->ops++;
    if (!exists) {
        seen_nothing(k, n, inc, asked);
    } else {
        t = topic_by_id(n, id);
        if (!t) t = seen_new(k, n, id);
        if (t && !check_may_serve(t, inc, asked))
            FAIL(k, n, "%s is shown with the id of a topic that was deleted", n->name);
        if (t && !t->gone && !sim_failed(k->world)) {
            topic_there(k, t, inc);
            if (inc > t->leaving_inc) t->leaving = false; /* whoever was asked to delete it has not */
            for (unsigned i = 0; i < t->number; i++) topic_gone(k, n->topics[i], inc);
            seen_count(k, t, inc, asked, count);
        }
    }
    settle(n, inc);
    return sim_failed(k->world) || (t && t->gone) ? NULL : t;
}

void check_settle(struct check *k) {
    for (unsigned i = 0; i < k->name_count; i++) {
        struct check_name *n = &k->names[i];
        struct check_topic *t = check_current(n);
        /* Whether what nobody heard the end of was done, is seen next. */
        n->loose_delete = 0;
        if (t && !t->gone) t->leaving_inc = 0;
    }
}

/* --- Configurations. */

const char *check_config_name(enum check_config_key key) {
    static const char *const names[] = {
        [CHECK_RETENTION_MS] = "retention.ms",   [CHECK_RETENTION_BYTES] = "retention.bytes",
        [CHECK_SEGMENT_BYTES] = "segment.bytes", [CHECK_SEGMENT_MS] = "segment.ms",
        [CHECK_DURABILITY] = "oxbow.durability",
    };
    ASSERT(key < CHECK_CONFIGS);
    return names[key];
}

void check_config_asked(struct check *k, struct check_topic *t, enum check_config_key key, const char *value,
                        uint64_t inc) {
    (void)k;
    (void)inc;
    int64_t number = value ? strtoll(value, NULL, 10) : -1;
    for (unsigned p = 0; p < CHECK_PARTITIONS_MAX && number >= 0; p++) {
        struct check_partition *l = &t->logs[p];
        if (key == CHECK_RETENTION_MS && number < l->retention_ms) l->retention_ms = number;
        if (key == CHECK_RETENTION_BYTES && number < l->retention_bytes) l->retention_bytes = number;
    }
}

void check_config_told(struct check *k, struct check_topic *t, enum check_config_key key, const char *value,
                       uint64_t inc, enum check_outcome o) {
    struct check_config *c = &t->configs[key];
    if (o == CHECK_UNKNOWN) {
        later(&t->name->loose_change, known_or_ever(inc));
        later(&c->open_inc, known_or_ever(inc));
        if (value && c->open_count < CHECK_OPENS_MAX)
            (void)snprintf(c->opens[c->open_count++], CHECK_VALUE_SIZE, "%s", value);
        else if (value)
            c->known = false;
        else
            c->open_reset = true;
    }
    if (o != CHECK_DONE || inc == 0) return;
    k->run->acked++;
    c->known = value != NULL;
    later(&c->inc, inc);
    if (value) (void)snprintf(c->value, sizeof(c->value), "%s", value);
}

void check_config_seen(struct check *k, struct check_topic *t, enum check_config_key key, const char *value,
                       uint64_t inc, uint64_t asked) {
    struct check_config *c = &t->configs[key];
    if (inc == 0 || inc < c->inc || !check_certain(t) || t->there_at >= asked) return;
    bool fits = !c->known || strcmp(value, c->value) == 0 || t->name->loose_change != 0;
    for (unsigned i = 0; i < c->open_count; i++) fits |= strcmp(value, c->opens[i]) == 0;
    if (!fits && c->open_reset && c->reset[0] == '\0') (void)snprintf(c->reset, sizeof(c->reset), "%s", value);
    if (c->open_reset) fits |= strcmp(value, c->reset) == 0;
    if (!fits)
        FAIL(k, t->name, "%s: %s is %s, and was set to %s", t->name->name, check_config_name(key), value, c->value);
    c->known = true;
    c->inc = inc;
    (void)snprintf(c->value, sizeof(c->value), "%s", value);
    if (inc > c->open_inc) {
        c->open_count = 0;
        c->open_reset = false;
    }
    k->run->ops++;
}

/* --- Committed offsets. */

static void commit_loose(struct check_commit *c, uint64_t inc, int64_t offset) {
    if (c->loose == 0 || offset < c->loose_low) c->loose_low = offset;
    later(&c->loose, known_or_ever(inc));
}

uint64_t check_commit_asked(struct check *k, unsigned group, const struct check_name *n, int32_t partition,
                            int64_t offset) {
    struct check_commit *c = &k->commits[group][n->index][partition];
    if (offset > c->high) c->high = offset;
    c->in_flight++;
    return check_now(k);
}

void check_commit_told(struct check *k, unsigned group, const struct check_name *n, int32_t partition, int64_t offset,
                       uint64_t inc, uint64_t asked, enum check_outcome o) {
    struct check_commit *c = &k->commits[group][n->index][partition];
    const struct check_topic *t = check_current(n);
    ASSERT(c->in_flight > 0);
    c->in_flight--;
    c->told_at = check_now(k);
    if (o == CHECK_UNKNOWN) commit_loose(c, inc, offset);
    if (o != CHECK_DONE) return;
    k->run->acked++;
    /* A commit that the end of the topic may have taken along is none. */
    bool stays = inc != 0 && check_certain(t) && t->there_at < asked && t->leaving_at < asked &&
                 c->dropped_at < asked && c->dropping == 0;
    if (!stays) return;
    if (offset > c->low) c->low = offset;
    later(&c->inc, inc);
}

void check_commit_drop_asked(struct check *k, unsigned group, const struct check_name *n) {
    for (unsigned i = 0; i < k->name_count; i++) {
        if (n && n->index != i) continue;
        for (unsigned p = 0; p < CHECK_PARTITIONS_MAX; p++) {
            struct check_commit *c = &k->commits[group][i][p];
            c->low = -1;
            c->dropped_at = check_now(k);
            if (c->dropping++ == 0) c->dropping_since = c->dropped_at;
        }
    }
}

void check_commit_drop_told(struct check *k, unsigned group, const struct check_name *n, uint64_t inc,
                            enum check_outcome o) {
    for (unsigned i = 0; i < k->name_count; i++) {
        if (n && n->index != i) continue;
        for (unsigned p = 0; p < CHECK_PARTITIONS_MAX; p++) {
            struct check_commit *c = &k->commits[group][i][p];
            /* A commit that was under way at the same time may have come after it. */
            bool alone = c->in_flight == 0 && c->told_at < c->dropping_since;
            c->dropped_at = check_now(k);
            c->dropping--;
            if (o == CHECK_UNKNOWN) commit_loose(c, inc, -1);
            if (o == CHECK_DONE && alone && c->loose == 0) c->high = c->low;
        }
    }
}

void check_commit_seen(struct check *k, unsigned group, const struct check_name *n, int32_t partition,
                       const struct check_commit *low, int64_t offset, uint64_t inc) {
    struct check_commit *c = &k->commits[group][n->index][partition];
    uint64_t subject = sim_subject(k->groups[group], partition);
    if (inc == 0) return;
    k->run->ops++;
    /* What was dropped meanwhile need not be found; what may have come from before the drop is allowed. */
    bool dropped = c->dropped_at != low->dropped_at; /* and perhaps committed again since */
    int64_t least = dropped ? -1 : low->low < c->low ? low->low : c->low;
    if (c->loose && c->loose_low < least) least = c->loose_low;
    if (low->inc <= inc && offset < least)
        sim_fail_about(k->world, subject, "%s of %s-%d is %ld; %ld was committed", k->groups[group], n->name, partition,
                       offset, least);
    int64_t most = low->high > c->high ? low->high : c->high;
    if (offset > most)
        sim_fail_about(k->world, subject, "%s of %s-%d is %ld; nobody has committed more than %ld", k->groups[group],
                       n->name, partition, offset, most);
    if (inc > c->loose) c->loose = 0;
}
