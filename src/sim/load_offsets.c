/* What lies in __consumer_offsets, as a tool from outside reads it, held against what the coordinators say. They are loaded from
 * a table in the partition's state, and the log beside it is compacted like any other: so the two could part and no client of a
 * group would notice. The newest record of each committed offset must be there and say what OffsetFetch says; where
 * OffsetFetch knows of none there is none, or a tombstone. */
#include <string.h>

#include "broker/coordinator.h"
#include "kafka/batch.h"
#include "kafka/error.h"
#include "sim/load.h"

#define PARTITIONS 2 /* broker_node.c */

struct newest {
    int64_t offset; /* committed; -1: none */
};

struct log_reading {
    struct load *load;
    struct sim_client *client;
    int32_t partition;
    int64_t next, high_watermark;
    struct newest found[CHECK_GROUPS_MAX][CHECK_NAMES_MAX][CHECK_PARTITIONS_MAX];
};

static int find_group(const struct load *l, struct kafka_string name) {
    for (int g = 0; g < (int)CHECK_GROUPS_MAX; g++) {
        if (l->check->groups[g] && kafka_string_equal(name, kafka_string_of(l->check->groups[g]))) return g;
    }
    return -1;
}

static int find_name(const struct load *l, struct kafka_string name) {
    for (unsigned n = 0; n < l->check->name_count; n++) {
        if (kafka_string_equal(name, kafka_string_of(l->check->names[n].name))) return (int)n;
    }
    return -1;
}

/* Kafka: OffsetCommitKey and OffsetCommitValue. Others are passed over. */
static bool take_record(struct log_reading *r, const struct batch_record *m, struct arena *a) {
    struct load *l = r->load;
    struct kafka_offset_commit_key key;
    struct kafka_offset_commit_value value;
    if (m->key_size < 2 || be16_get(m->key) > 1) return true;
    if (kafka_offset_commit_key_decode(&key, (int16_t)be16_get(m->key), m->key + 2, (size_t)m->key_size - 2, a) != OK) {
        sim_fail(l->world, "__consumer_offsets-%d: the key at %ld cannot be read", r->partition, m->offset);
        return false;
    }
    int g = find_group(l, key.group), n = find_name(l, key.topic);
    if (g < 0 || n < 0 || key.partition < 0 || key.partition >= (int32_t)CHECK_PARTITIONS_MAX) return true;
    struct newest *f = &r->found[g][n][key.partition];
    f->offset = -1;
    if (m->value_size < 2) return true;
    int16_t version = (int16_t)be16_get(m->value);
    if (kafka_offset_commit_value_decode(&value, version, m->value + 2, (size_t)m->value_size - 2, a) != OK) {
        sim_fail(l->world, "__consumer_offsets-%d: the value at %ld cannot be read", r->partition, m->offset);
        return false;
    }
    f->offset = value.offset;
    return true;
}

static bool take_batches(struct log_reading *r, const uint8_t *data, size_t size) {
    struct load *l = r->load;
    struct arena a;
    arena_init(&a, r->client->env->mem);
    for (size_t at = 0; at < size && !sim_failed(l->world);) {
        struct batch_header h;
        enum err e = batch_parse(data + at, size - at, &h);
        if (e == ERR_TRUNCATED) break;
        struct batch_iterator it;
        if (e == OK) e = batch_iterator_init(&it, r->client->env->mem, &h, 1u << 24);
        if (e != OK) {
            sim_fail(l->world, "__consumer_offsets-%d: what lies at %ld is no batch: %s", r->partition, r->next,
                     err_name(e));
            break;
        }
        struct batch_record m;
        while (batch_iterator_next(&it, &m) == OK && take_record(r, &m, &a)) arena_reset(&a);
        batch_iterator_deinit(&it);
        r->next = batch_end_offset(&h);
        at += h.size;
    }
    arena_deinit(&a);
    return !sim_failed(l->world);
}

/* False: no answer that helps. */
static bool fetch(struct log_reading *r) {
    struct sim_client_fetch f;
    struct kafka_fetch_response answer;
    sim_client_fetch_init(&f, OFFSETS_TOPIC, r->partition, r->next, 20000);
    struct arena a;
    arena_init(&a, r->client->env->mem);
    bool good = load_call(r->load, r->client, KAFKA_API_FETCH, 11, &f.q, &a, &answer) && answer.error_code == 0 &&
                answer.responses.count == 1 && answer.responses.items[0].partitions.count == 1;
    if (good) {
        const struct kafka_fetch_response_partition *got = &answer.responses.items[0].partitions.items[0];
        int16_t code = got->error_code;
        bool none = code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION; /* nobody has needed it */
        good = code == 0 || none;
        r->high_watermark = none ? r->next : got->high_watermark;
        int64_t before = r->next;
        if (good && !none)
            good = take_batches(r, got->records.data, (size_t)(got->records.size < 0 ? 0 : got->records.size));
        if (good && r->next == before && r->next < r->high_watermark) {
            sim_fail(r->load->world, "__consumer_offsets-%d: nothing is given at %ld, below the high watermark of %ld",
                     r->partition, before, r->high_watermark);
            good = false;
        }
    }
    arena_deinit(&a);
    return good && !sim_failed(r->load->world);
}

static void forget(int64_t (*asked)[CHECK_PARTITIONS_MAX]) {
    for (unsigned n = 0; n < CHECK_NAMES_MAX; n++) {
        for (unsigned p = 0; p < CHECK_PARTITIONS_MAX; p++) asked[n][p] = -1;
    }
}

static void compare(const struct log_reading *r, unsigned group, const struct load_view *v,
                    int64_t (*asked)[CHECK_PARTITIONS_MAX]) {
    struct load *l = r->load;
    for (unsigned n = 0; n < l->check->name_count; n++) {
        for (int32_t p = 0; v->topics[n] && p < v->counts[n] && !sim_failed(l->world); p++) {
            int64_t in_log = r->found[group][n][p].offset;
            if (in_log == asked[n][p]) continue;
            sim_fail(l->world,
                     "group %s has committed %ld for %s-%d, and in __consumer_offsets the newest record says %ld",
                     l->check->groups[group], asked[n][p], l->check->names[n].name, p, in_log);
        }
    }
}

bool load_audit_offsets(struct load *l, struct sim_client *c, const struct load_view *v) {
    struct log_reading *r = mem_zalloc(c->env->mem, sizeof(*r));
    r->load = l;
    r->client = c;
    for (unsigned g = 0; g < CHECK_GROUPS_MAX; g++) {
        for (unsigned n = 0; n < CHECK_NAMES_MAX; n++) {
            for (unsigned p = 0; p < CHECK_PARTITIONS_MAX; p++) r->found[g][n][p].offset = -1;
        }
    }
    int64_t before[CHECK_NAMES_MAX][CHECK_PARTITIONS_MAX], after[CHECK_NAMES_MAX][CHECK_PARTITIONS_MAX];
    bool good = true;
    for (unsigned g = 0; g < 2 && good; g++) {
        forget(before);
        forget(after);
        good = load_committed(l, c, g, v, before);
        for (r->partition = 0; r->partition < PARTITIONS && good; r->partition++) {
            r->next = r->high_watermark = 0;
            do {
                good = fetch(r);
            } while (good && r->next < r->high_watermark);
        }
        if (good) good = load_committed(l, c, g, v, after);
        /* Something was still on its way: once more. */
        if (good) good = memcmp(before, after, sizeof(before)) == 0;
        if (good) compare(r, g, v, after);
    }
    mem_free(c->env->mem, r);
    return good && !sim_failed(l->world);
}
