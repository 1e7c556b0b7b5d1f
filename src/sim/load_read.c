/* Readers: they follow all partitions of all topics, with fetch sessions or without, by name or by id, in new formats or
 * old ones, from the beginning, from somewhere, or from a time; ask where logs begin and end, and where epochs end. Some
 * commit what they have read to a group; some of these die, and another goes on where the group is. At the end one reads everything once more: the audit. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "kafka/compress.h"
#include "kafka/error.h"
#include "sim/history.h"
#include "sim/load.h"

#define PLACES_MAX (CHECK_NAMES_MAX * CHECK_PARTITIONS_MAX)

enum { LATEST = -1, EARLIEST = -2, MAX_TIMESTAMP = -3 };

/* Where it reads in one partition. */
struct place {
    struct check_topic *topic;
    int32_t partition;
    int64_t next; /* -1: to be looked up */
    bool inside;  /* chosen, so that a batch may begin below */
    bool changed; /* since the session was told */
    bool left;    /* the session was asked to forget it */
    bool told;    /* within the session, what follows */
    struct check_look look;
    int64_t high_watermark, start, told_start;
    int64_t refused; /* the offset that was out of range; -1: none */
    uint64_t refused_inc;
};

struct follower {
    struct load *load;
    struct sim_client client;
    struct load_view view;
    bool view_known, commits, sessions;
    bool resumes; /* it goes on from what is committed, once it knows that */
    int16_t version;
    int32_t session_id, session_epoch; /* epoch 0: a new one */
    struct place places[PLACES_MAX];
    size_t place_count;
    uint32_t audit; /* 0: it is none */
};

static struct check_partition *log_of(const struct place *p) {
    return &p->topic->logs[p->partition];
}

/* What a partition's name means is certain, or it is asked for by id. */
static bool place_is_certain(const struct follower *r, const struct place *p, bool by_id, uint64_t inc) {
    return by_id || r->audit || check_must_know(p->topic, inc, p->look.asked, p->partition);
}

static struct place *place_find(struct follower *r, const struct check_topic *t, int32_t partition) {
    for (size_t i = 0; i < r->place_count; i++) {
        if (r->places[i].topic == t && r->places[i].partition == partition) return &r->places[i];
    }
    return NULL;
}

/* The places go with the view; those that stay keep their offset. */
static bool look_again(struct follower *r) {
    struct load *l = r->load;
    if (!load_metadata(l, &r->client, &r->view)) return false;
    struct place *old = mem_alloc(r->client.env->mem, sizeof(r->places));
    size_t old_count = r->place_count, count = 0;
    memcpy(old, r->places, sizeof(r->places));
    struct place *places = mem_zalloc(r->client.env->mem, sizeof(r->places));
    for (unsigned n = 0; n < l->check->name_count; n++) {
        for (int32_t i = 0; r->view.topics[n] && i < r->view.counts[n]; i++) {
            const struct place *was = place_find(r, r->view.topics[n], i);
            places[count++] = was ? *was
                                  : (struct place){.topic = r->view.topics[n],
                                                   .partition = i,
                                                   .next = r->audit || sim_chance(l->world, 0.3) ? -1 : 0,
                                                   .refused = -1};
        }
    }
    bool same = count == old_count;
    for (size_t i = 0; i < count && same; i++)
        same = old[i].topic == places[i].topic && old[i].partition == places[i].partition;
    memcpy(r->places, places, sizeof(r->places));
    r->place_count = count;
    if (!same) r->session_epoch = 0;
    r->view_known = true;
    mem_free(r->client.env->mem, old);
    mem_free(r->client.env->mem, places);
    return true;
}

/* --- ListOffsets, OffsetForLeaderEpoch. */

/* A partition is not known, or not led: look again; who must know it is told so. */
static void take_error(struct follower *r, const struct place *p, int16_t code, uint64_t inc) {
    r->view_known = false;
    if (code != KAFKA_UNKNOWN_TOPIC_OR_PARTITION && code != KAFKA_UNKNOWN_TOPIC_ID) return;
    if (check_must_know(p->topic, inc, p->look.asked, p->partition))
        sim_fail_about(r->load->world, check_partition_subject(log_of(p)), "%s-%d is there, and a reader is told %s",
                       p->topic->name->name, p->partition, kafka_error_name(code));
}

/* *offset: as told; -1: none. False: no answer that helps. Suspends. */
static bool list_offset(struct follower *r, struct place *p, int64_t time, int64_t *offset) {
    struct load *l = r->load;
    struct arena a;
    arena_init(&a, r->client.env->mem);
    struct kafka_list_offsets_request_partition part;
    struct kafka_list_offsets_request_topic topic;
    struct kafka_list_offsets_request q;
    struct kafka_list_offsets_response out;
    kafka_list_offsets_request_partition_init(&part);
    kafka_list_offsets_request_topic_init(&topic);
    kafka_list_offsets_request_init(&q);
    part.partition_index = p->partition;
    part.timestamp = time;
    topic.name = kafka_string_of(p->topic->name->name);
    topic.partitions.items = &part;
    topic.partitions.count = 1;
    q.replica_id = -1;
    q.topics.items = &topic;
    q.topics.count = 1;
    p->look = check_partition_look(l->check, log_of(p));
    bool good = load_call(l, &r->client, KAFKA_API_LIST_OFFSETS, 7, &q, &a, &out) && out.topics.count == 1 &&
                out.topics.items[0].partitions.count == 1;
    const struct kafka_list_offsets_response_partition *got = good ? &out.topics.items[0].partitions.items[0] : NULL;
    uint64_t inc = load_incarnation(l, &r->client);
    if (good) load_judge(l, &r->client, KAFKA_API_LIST_OFFSETS, got->error_code, true);
    if (good && got->error_code != 0) take_error(r, p, got->error_code, inc);
    good = good && got->error_code == 0 && place_is_certain(r, p, false, inc);
    if (good) {
        *offset = got->offset;
        if (time == LATEST) check_partition_ends(l->check, log_of(p), inc, &p->look, got->offset, -1);
        if (time == EARLIEST) check_partition_ends(l->check, log_of(p), inc, &p->look, -1, got->offset);
        if (time >= 0 || time == MAX_TIMESTAMP)
            check_partition_time(l->check, log_of(p), inc, &p->look, time, got->offset, got->timestamp);
        /* Above the end it may be: what was committed by name for the topic before counts for the new one, as in Kafka. */
        bool within = p->refused >= got->offset && p->refused <= p->look.hw.value;
        if (time == EARLIEST && within && inc >= p->refused_inc && p->refused_inc > 0)
            sim_fail_about(l->world, check_partition_subject(log_of(p)),
                           "%s-%d: offset %ld was out of range, and the log begins at %ld", p->topic->name->name,
                           p->partition, p->refused, got->offset);
    }
    arena_deinit(&a);
    return good && !sim_failed(l->world);
}

static bool ask_epoch_end(struct follower *r, struct place *p, int32_t epoch) {
    struct load *l = r->load;
    struct arena a;
    arena_init(&a, r->client.env->mem);
    struct kafka_offset_for_leader_epoch_request_partition part;
    struct kafka_offset_for_leader_epoch_request_topic topic;
    struct kafka_offset_for_leader_epoch_request q;
    struct kafka_offset_for_leader_epoch_response out;
    kafka_offset_for_leader_epoch_request_partition_init(&part);
    kafka_offset_for_leader_epoch_request_topic_init(&topic);
    kafka_offset_for_leader_epoch_request_init(&q);
    part.partition = p->partition;
    part.current_leader_epoch = -1;
    part.leader_epoch = epoch;
    topic.topic = kafka_string_of(p->topic->name->name);
    topic.partitions.items = &part;
    topic.partitions.count = 1;
    q.replica_id = -1;
    q.topics.items = &topic;
    q.topics.count = 1;
    p->look = check_partition_look(l->check, log_of(p));
    bool good = load_call(l, &r->client, KAFKA_API_OFFSET_FOR_LEADER_EPOCH, 3, &q, &a, &out) && out.topics.count == 1 &&
                out.topics.items[0].partitions.count == 1;
    uint64_t inc = load_incarnation(l, &r->client);
    if (good) {
        const struct kafka_offset_for_leader_epoch_response_partition *got = &out.topics.items[0].partitions.items[0];
        load_judge(l, &r->client, KAFKA_API_OFFSET_FOR_LEADER_EPOCH, got->error_code, true);
        if (got->error_code == 0 && r->client.overtaken)
            sim_fail(l->world, "where an epoch ends is told by a broker that had been overtaken before it was asked");
        if (got->error_code != 0)
            take_error(r, p, got->error_code, inc);
        else if (place_is_certain(r, p, false, inc))
            check_partition_epoch_end(l->check, log_of(p), inc, &p->look, epoch, got->leader_epoch, got->end_offset);
    }
    arena_deinit(&a);
    return good && !sim_failed(l->world);
}

/* Where to read on: where the log begins, or in the middle, or at a time. */
static bool find_place(struct follower *r, struct place *p) {
    struct sim_world *w = r->load->world;
    int64_t start, end, at = -1;
    if (!list_offset(r, p, EARLIEST, &start)) return false;
    p->refused = -1;
    p->inside = true;
    p->changed = true;
    p->next = p->start = start;
    if (r->audit || sim_chance(w, 0.4)) return true;
    if (sim_chance(w, 0.5)) {
        if (!list_offset(r, p, LATEST, &end)) return false;
        if (end > start) p->next = (int64_t)sim_between(w, (uint64_t)start, (uint64_t)end);
        return true;
    }
    int64_t ago = (int64_t)sim_between(w, 0, r->load->retains ? 4000000 : 60000);
    int64_t time = sim_chance(w, 0.1) ? MAX_TIMESTAMP : env_wall_ms(r->client.env) - ago;
    if (!list_offset(r, p, time, &at)) return false;
    if (at >= 0) p->next = at;
    return true;
}

/* --- Fetch. */

#define OLD_HEAD 12u /* offset, size */
#define OLD_MAGIC 16u
#define OLD_ATTRIBUTES 17u
#define OLD_STAMPED 8 /* among the attributes: the time is that of the append */

/* A message as it lies there. False: it is none of that magic, or its checksum is wrong. */
static bool old_message(const uint8_t *m, size_t length, uint8_t magic, struct check_message *out) {
    size_t key_at = OLD_ATTRIBUTES + 1 + (magic == 1 ? 8 : 0);
    *out = (struct check_message){.offset = (int64_t)be64_get(m), .timed = magic == 1};
    if (length < key_at + 8 - OLD_HEAD || m[OLD_MAGIC] != magic) return false;
    if (be32_get(m + OLD_HEAD) != crc32(0, m + OLD_MAGIC, (uInt)(length - 4))) return false;
    int32_t key = (int32_t)be32_get(m + key_at);
    if (key > 0 && (size_t)key > length) return false;
    size_t value_at = key_at + 8 + (key > 0 ? (size_t)key : 0);
    if (value_at > OLD_HEAD + length) return false;
    out->value = m + value_at;
    out->size = (int32_t)be32_get(m + value_at - 4);
    out->stamped = magic == 1 && m[OLD_ATTRIBUTES] & OLD_STAMPED;
    out->timestamp = magic == 1 ? (int64_t)be64_get(m + OLD_ATTRIBUTES + 1) : -1;
    return out->size >= 0 && value_at + (size_t)out->size == OLD_HEAD + length;
}

/* A set of old messages; wrappers unfold. False: a promise is broken. */
static bool take_set(struct follower *r, struct place *p, const uint8_t *data, size_t size,
                     const struct check_message *wrapper, uint64_t inc) {
    struct load *l = r->load;
    uint8_t magic = r->version < 2 ? 0 : 1;
    int64_t inner_last = -1;
    for (size_t at = 0; wrapper && size - at >= OLD_HEAD;) { /* offsets inside count from the first */
        inner_last = (int64_t)be64_get(data + at);
        at += OLD_HEAD + (size_t)be32_get(data + at + 8);
    }
    for (size_t at = 0; size - at >= OLD_HEAD && !sim_failed(l->world);) {
        size_t length = (size_t)be32_get(data + at + 8);
        if (length > size - at - OLD_HEAD) break; /* cut off, as old clients expect it */
        struct check_message m;
        if (!old_message(data + at, length, magic, &m)) {
            sim_fail_about(l->world, check_partition_subject(log_of(p)),
                           "%s-%d: what was fetched is no message of magic %u", p->topic->name->name, p->partition,
                           magic);
            return false;
        }
        if (wrapper && magic == 1) m.offset += wrapper->offset - inner_last;
        if (wrapper && wrapper->stamped) { /* the time of the wrapper counts */
            m.stamped = true;
            m.timestamp = wrapper->timestamp;
        }
        uint8_t codec = data[at + OLD_ATTRIBUTES] & BATCH_CODEC_MASK;
        if (codec) {
            struct buf plain;
            buf_init(&plain, r->client.env->mem);
            enum err e =
                magic == 0 ? kafka_decompress_magic0((enum kafka_codec)codec, m.value, (size_t)m.size, 1u << 24, &plain)
                           : kafka_decompress((enum kafka_codec)codec, m.value, (size_t)m.size, 1u << 24, &plain);
            if (e != OK) sim_fail(l->world, "a wrapper that was fetched does not unfold: %s", err_name(e));
            bool good = e == OK && take_set(r, p, plain.data, plain.size, &m, inc);
            buf_deinit(&plain);
            if (!good) return false;
        } else {
            int64_t next = check_partition_message(l->check, log_of(p), inc, &p->look, p->next, &m);
            if (next < 0) return false;
            p->next = next;
            p->inside = true; /* a set may have been cut off in the middle of what newer readers get as one batch */
        }
        at += OLD_HEAD + length;
    }
    return !sim_failed(l->world);
}

static bool take_batches(struct follower *r, struct place *p, const uint8_t *data, size_t size, uint64_t inc) {
    struct load *l = r->load;
    for (size_t at = 0; at < size && !sim_failed(l->world);) {
        struct batch_header h;
        enum err e = batch_parse(data + at, size - at, &h);
        if (e == ERR_TRUNCATED) break;
        if (e != OK) {
            sim_fail_about(l->world, check_partition_subject(log_of(p)),
                           "%s-%d: what was fetched at %ld is no batch: %s", p->topic->name->name, p->partition,
                           p->next, err_name(e));
            return false;
        }
        int64_t next = check_partition_batch(l->check, r->client.env->mem, log_of(p), inc, &p->look, p->next, p->inside,
                                             &h, r->audit);
        if (next < 0) return false;
        p->next = next;
        p->inside = false;
        at += h.size;
    }
    return true;
}

static bool take_place(struct follower *r, struct place *p, const struct kafka_fetch_response_partition *got) {
    struct load *l = r->load;
    uint64_t inc = load_incarnation(l, &r->client);
    bool by_id = r->version >= 13;
    if (!place_is_certain(r, p, by_id, inc)) {
        r->view_known = false;
        return true;
    }
    p->told = got->error_code == 0;
    if (got->error_code == KAFKA_OFFSET_OUT_OF_RANGE) {
        check_partition_out_of_range(l->check, log_of(p), inc, &p->look, p->next);
        p->refused = p->next;
        p->refused_inc = inc >= p->look.hw.inc ? inc : 0;
        p->next = -1;
        return true;
    }
    if (got->error_code != 0) {
        take_error(r, p, got->error_code, inc);
        return false;
    }
    if (by_id && !check_may_serve(p->topic, inc, p->look.asked)) {
        sim_fail_about(l->world, check_partition_subject(log_of(p)), "%s-%d is served, and was deleted before",
                       p->topic->name->name, p->partition);
        return false;
    }
    check_partition_ends(l->check, log_of(p), inc, &p->look, got->high_watermark, got->log_start_offset);
    p->high_watermark = got->high_watermark;
    p->told_start = got->log_start_offset;
    int64_t before = p->next, end_before = log_of(p)->end;
    size_t size = got->records.size > 0 ? (size_t)got->records.size : 0;
    bool good = r->version < 4 ? take_set(r, p, got->records.data, size, NULL, inc)
                               : take_batches(r, p, got->records.data, size, inc);
    p->changed |= p->next != before;
    if (log_of(p)->end > end_before) load_strike(l, &r->client);
    if (p->next != before)
        sim_note(l->world, sim_node_of(r->client.env), check_partition_subject(log_of(p)),
                 "reads %ld to %ld of [%ld, %ld)", before, p->next, got->log_start_offset, got->high_watermark);
    return good && !sim_failed(l->world);
}

/* The request for all places, or for those of which the session does not know. Returns how many there are. */
static int32_t fill_fetch(struct follower *r, struct kafka_fetch_request_topic *topics,
                          struct kafka_fetch_request_partition *parts, int32_t *topic_count) {
    struct load *l = r->load;
    int32_t n = 0;
    const struct check_topic *last = NULL;
    *topic_count = 0;
    for (size_t i = 0; i < r->place_count; i++) {
        struct place *p = &r->places[i];
        p->look = check_partition_look(l->check, log_of(p));
        if (r->session_epoch == 0) p->left = p->told = false;
        if (p->left && sim_chance(l->world, 0.3)) {
            p->left = p->told = false;
            p->changed = true;
        }
        if (p->left || p->next < 0 || (r->session_epoch > 0 && !p->changed)) continue;
        kafka_fetch_request_partition_init(&parts[n]);
        parts[n].partition = p->partition;
        parts[n].fetch_offset = p->next;
        /* Before version 3 a larger batch is not given: it takes readers of that time more to go on. */
        parts[n].partition_max_bytes = r->version < 3 ? 100000 : 50000;
        if (sim_chance(l->world, 0.3))
            parts[n].current_leader_epoch = r->view.epochs[p->topic->name->index][p->partition];
        if (p->topic != last) {
            struct kafka_fetch_request_topic *t = &topics[(*topic_count)++];
            kafka_fetch_request_topic_init(t);
            t->topic = kafka_string_of(p->topic->name->name);
            t->topic_id = p->topic->id;
            t->partitions.items = &parts[n];
            last = p->topic;
        }
        topics[*topic_count - 1].partitions.count++;
        p->changed = false;
        n++;
    }
    return n;
}

static struct place *place_of_answer(struct follower *r, const struct kafka_fetch_response_topic *t,
                                     int32_t partition) {
    for (size_t i = 0; i < r->place_count; i++) {
        const struct place *p = &r->places[i];
        bool same = r->version >= 13 ? memcmp(&p->topic->id, &t->topic_id, sizeof(t->topic_id)) == 0
                                     : kafka_string_equal(t->topic, kafka_string_of(p->topic->name->name));
        if (same && p->partition == partition) return &r->places[i];
    }
    return NULL;
}

/* What an incremental answer does not mention is as it was. */
static bool take_silence(struct follower *r, const bool *mentioned) {
    struct load *l = r->load;
    uint64_t inc = load_incarnation(l, &r->client);
    for (size_t i = 0; i < r->place_count; i++) {
        const struct place *p = &r->places[i];
        if (mentioned[i] || !p->told || p->left || !place_is_certain(r, p, r->version >= 13, inc)) continue;
        check_partition_ends(l->check, log_of(p), inc, &p->look, p->high_watermark, p->told_start);
    }
    return !sim_failed(l->world);
}

static bool take_fetch(struct follower *r, const struct kafka_fetch_response *answer) {
    bool mentioned[PLACES_MAX] = {false}, incremental = r->session_epoch > 0;
    if (answer->error_code != 0) {
        r->session_epoch = 0;
        return answer->error_code == KAFKA_FETCH_SESSION_ID_NOT_FOUND ||
               answer->error_code == KAFKA_INVALID_FETCH_SESSION_EPOCH;
    }
    if (r->sessions && answer->session_id != 0) {
        r->session_id = answer->session_id;
        r->session_epoch++;
    }
    bool good = true;
    for (int32_t t = 0; t < answer->responses.count; t++) {
        for (int32_t i = 0; i < answer->responses.items[t].partitions.count && good; i++) {
            const struct kafka_fetch_response_partition *got = &answer->responses.items[t].partitions.items[i];
            struct place *p = place_of_answer(r, &answer->responses.items[t], got->partition_index);
            if (!p) {
                sim_fail(r->load->world, "a reader is told of partition %d, which it did not ask for",
                         got->partition_index);
                return false;
            }
            load_judge(r->load, &r->client, KAFKA_API_FETCH, got->error_code, false);
            if (p->left) {
                sim_fail_about(r->load->world, check_partition_subject(log_of(p)),
                               "a session has forgotten %s-%d, and a reader is told of it", p->topic->name->name,
                               p->partition);
                return false;
            }
            mentioned[p - r->places] = true;
            if (p->next >= 0) good = take_place(r, p, got);
        }
    }
    return good && (!incremental || take_silence(r, mentioned));
}

/* Now and then a session no longer wants one of its partitions, for a while. */
static void fill_forgotten(struct follower *r, struct kafka_fetch_request *q,
                           struct kafka_fetch_request_forgotten_topic *topic, int32_t *partition) {
    struct load *l = r->load;
    if (r->session_epoch == 0 || r->place_count < 2 || !sim_chance(l->world, 0.1)) return;
    struct place *p = &r->places[sim_between(l->world, 0, r->place_count - 1)];
    if (p->left || p->next < 0 || !p->told) return;
    p->left = true;
    kafka_fetch_request_forgotten_topic_init(topic);
    topic->topic = kafka_string_of(p->topic->name->name);
    topic->topic_id = p->topic->id;
    *partition = p->partition;
    topic->partitions.items = partition;
    topic->partitions.count = 1;
    q->forgotten_topics_data.items = topic;
    q->forgotten_topics_data.count = 1;
}

static bool fetch_once(struct follower *r) {
    struct load *l = r->load;
    struct kafka_fetch_request_partition parts[PLACES_MAX];
    struct kafka_fetch_request_topic topics[PLACES_MAX];
    struct kafka_fetch_request q;
    struct kafka_fetch_response answer;
    struct kafka_fetch_request_forgotten_topic forgotten;
    int32_t topic_count, forgotten_partition;
    bool sessions = r->sessions && r->version >= 7;
    if (!sessions) r->session_epoch = 0;
    kafka_fetch_request_init(&q);
    fill_forgotten(r, &q, &forgotten, &forgotten_partition);
    int32_t count = fill_fetch(r, topics, parts, &topic_count);
    if (count == 0 && r->session_epoch == 0) {
        load_pause(l);
        return true;
    }
    q.max_wait_ms = (int32_t)sim_between(l->world, 0, 500);
    q.min_bytes = sim_chance(l->world, 0.8) ? 1 : (int32_t)sim_between(l->world, 0, 3000);
    q.max_bytes = 200000;
    q.isolation_level = (int8_t)sim_between(l->world, 0, 1);
    q.session_id = sessions && r->session_epoch > 0 ? r->session_id : 0;
    q.session_epoch = sessions ? r->session_epoch : -1;
    q.rack_id = kafka_string_of("");
    q.topics.items = topics;
    q.topics.count = topic_count;
    struct arena a;
    arena_init(&a, r->client.env->mem);
    bool good = load_call(l, &r->client, KAFKA_API_FETCH, r->version, &q, &a, &answer) && take_fetch(r, &answer);
    arena_deinit(&a);
    return good && !sim_failed(l->world);
}

/* --- Commits, as a simple consumer: no member, no generation. */

/* It has died; the next one knows nothing but what is committed. */
static void begin_anew(struct follower *r) {
    sim_client_close(&r->client);
    r->place_count = 0;
    r->view_known = false;
    r->resumes = true;
}

static bool commit_once(struct follower *r) {
    struct load *l = r->load;
    if (r->place_count == 0) return true;
    struct place *p = &r->places[sim_between(l->world, 0, r->place_count - 1)];
    const struct check_name *n = p->topic->name;
    const struct check_commit *c = &l->check->commits[LOAD_READERS_GROUP][n->index][p->partition];
    if (p->next < 0 || p->next < c->high) return true; /* it began anew: commits only go up */
    struct arena a;
    arena_init(&a, r->client.env->mem);
    struct kafka_offset_commit_request_partition part;
    struct kafka_offset_commit_request_topic topic;
    struct kafka_offset_commit_request q;
    struct kafka_offset_commit_response out;
    kafka_offset_commit_request_partition_init(&part);
    kafka_offset_commit_request_topic_init(&topic);
    kafka_offset_commit_request_init(&q);
    part.partition_index = p->partition;
    part.committed_offset = p->next;
    part.committed_metadata = kafka_string_of("");
    topic.name = kafka_string_of(n->name);
    topic.partitions.items = &part;
    topic.partitions.count = 1;
    q.group_id = kafka_string_of(l->check->groups[LOAD_READERS_GROUP]);
    q.generation_id_or_member_epoch = -1;
    q.member_id = kafka_string_of("");
    q.topics.items = &topic;
    q.topics.count = 1;
    int64_t offset = p->next;
    int32_t partition = p->partition;
    uint64_t asked = check_commit_asked(l->check, LOAD_READERS_GROUP, n, partition, offset);
    bool dies = sim_fault(l->world, SIM_CLIENT_DIES);
    if (dies) {
        sim_client_die(&r->client, KAFKA_API_OFFSET_COMMIT, 7, &q, (unsigned)sim_between(l->world, 0, 1000));
        begin_anew(r);
    }
    bool good = !dies && load_call(l, &r->client, KAFKA_API_OFFSET_COMMIT, 7, &q, &a, &out) && out.topics.count == 1 &&
                out.topics.items[0].partitions.count == 1;
    int16_t code = good ? out.topics.items[0].partitions.items[0].error_code : -1;
    if (good) load_judge(l, &r->client, KAFKA_API_OFFSET_COMMIT, code, true);
    check_commit_told(l->check, LOAD_READERS_GROUP, n, partition, offset, load_incarnation(l, &r->client), asked,
                      load_outcome(good, code, KAFKA_UNKNOWN_TOPIC_OR_PARTITION));
    sim_note(l->world, sim_node_of(r->client.env), sim_subject("readers", partition), "commits %ld for %s-%d: %s",
             offset, n->name, partition, good ? kafka_error_name(code) : "no answer");
    arena_deinit(&a);
    return good;
}

bool load_committed(struct load *l, struct sim_client *c, unsigned group, const struct load_view *v,
                    int64_t (*found)[CHECK_PARTITIONS_MAX]) {
    struct check *k = l->check;
    struct check_commit *low = mem_alloc(c->env->mem, sizeof(k->commits[group]));
    memcpy(low, k->commits[group], sizeof(k->commits[group]));
    int32_t indexes[CHECK_PARTITIONS_MAX];
    for (int32_t i = 0; i < (int32_t)CHECK_PARTITIONS_MAX; i++) indexes[i] = i;
    struct kafka_offset_fetch_request_topic topics[CHECK_NAMES_MAX];
    const struct check_name *names[CHECK_NAMES_MAX];
    struct kafka_offset_fetch_request q;
    struct kafka_offset_fetch_response out;
    kafka_offset_fetch_request_init(&q);
    for (unsigned n = 0; n < k->name_count; n++) {
        if (!v->topics[n]) continue;
        struct kafka_offset_fetch_request_topic *t = &topics[q.topics.count];
        kafka_offset_fetch_request_topic_init(t);
        t->name = kafka_string_of(k->names[n].name);
        t->partition_indexes.items = indexes;
        t->partition_indexes.count = v->counts[n];
        names[q.topics.count++] = &k->names[n];
    }
    q.topics.items = topics;
    q.group_id = kafka_string_of(k->groups[group]);
    struct arena a;
    arena_init(&a, c->env->mem);
    bool good = q.topics.count == 0;
    if (!good) {
        good = load_call(l, c, KAFKA_API_OFFSET_FETCH, 5, &q, &a, &out) && out.error_code == 0 &&
               out.topics.count == q.topics.count;
        if (good) load_judge(l, c, KAFKA_API_OFFSET_FETCH, 0, true);
        for (int32_t t = 0; good && t < out.topics.count; t++) {
            for (int32_t i = 0; good && i < out.topics.items[t].partitions.count; i++) {
                const struct kafka_offset_fetch_response_partition *p = &out.topics.items[t].partitions.items[i];
                good = p->error_code == 0;
                if (good && found) found[names[t]->index][p->partition_index] = p->committed_offset;
                if (good)
                    check_commit_seen(k, group, names[t], p->partition_index,
                                      &low[names[t]->index * CHECK_PARTITIONS_MAX + (unsigned)p->partition_index],
                                      p->committed_offset, load_incarnation(l, c));
            }
        }
    }
    arena_deinit(&a);
    mem_free(c->env->mem, low);
    return good && !sim_failed(l->world);
}

/* --- The reader. */

static void choose_version(struct follower *r) {
    static const int16_t versions[] = {5, 7, 11, 12, 13, 13, 17};
    struct load *l = r->load;
    r->version = versions[sim_between(l->world, 0, ARRAY_LEN(versions) - 1)];
    /* Those before 10 do not take what zstd has packed, those before 4 want it as it was long ago. */
    if (l->compresses && !l->old_formats && r->version < 10) r->version = 11;
    if (l->old_formats && sim_chance(l->world, 0.4)) r->version = (int16_t)sim_between(l->world, 0, 3);
    r->sessions = sim_chance(l->world, 0.5);
    r->session_epoch = 0;
}

/* Where its predecessor has come to; what nothing is committed for it looks up. False: no answer. Suspends. */
static bool resume(struct follower *r) {
    int64_t found[CHECK_NAMES_MAX][CHECK_PARTITIONS_MAX];
    memset(found, 0xff, sizeof(found));
    if (!load_committed(r->load, &r->client, LOAD_READERS_GROUP, &r->view, found)) return false;
    for (size_t i = 0; i < r->place_count; i++) {
        struct place *p = &r->places[i];
        p->next = found[p->topic->name->index][p->partition];
        p->inside = true;
        sim_note(r->load->world, sim_node_of(r->client.env), check_partition_subject(log_of(p)), "resumes at %ld",
                 p->next);
    }
    r->resumes = false;
    return true;
}

static bool read_on(struct follower *r) {
    struct load *l = r->load;
    if (!r->view_known && !look_again(r)) return false;
    if (r->resumes && !resume(r)) return false;
    for (size_t i = 0; i < r->place_count; i++) {
        if (r->places[i].next >= 0) continue;
        if (!find_place(r, &r->places[i])) return false;
        if (!r->view_known) return true;
    }
    if (!fetch_once(r)) return false;
    if (r->commits && sim_chance(l->world, 0.2) && !commit_once(r)) return false;
    if (r->commits && sim_chance(l->world, 0.1) && !load_committed(l, &r->client, LOAD_READERS_GROUP, &r->view, NULL))
        return false;
    if (r->place_count > 0 && sim_chance(l->world, 0.05)) {
        struct place *p = &r->places[sim_between(l->world, 0, r->place_count - 1)];
        int32_t now = r->view.epochs[p->topic->name->index][p->partition];
        return ask_epoch_end(r, p, (int32_t)sim_between(l->world, 0, (uint64_t)now));
    }
    /* One that was overtaken is asked for what only the newest knows. */
    if (r->client.overtaken && sim_chance(l->world, 0.5)) {
        r->view_known = false;
        if (r->place_count > 0) r->places[sim_between(l->world, 0, r->place_count - 1)].next = -1;
    }
    if (sim_chance(l->world, 0.05)) r->view_known = false;
    return true;
}

void load_read_main(void *arg) {
    struct load_client *me = arg;
    struct load *l = me->load;
    struct follower *r = mem_zalloc(loop_current()->env->mem, sizeof(*r));
    r->load = l;
    r->commits = me->number == 0;
    sim_client_init(&r->client, loop_current()->env);
    while (load_goes_on(l, &r->client, false)) {
        if (!r->client.conn) {
            load_pause(l);
            choose_version(r);
            r->view_known = false;
            if (sim_chance(l->world, 0.1)) r->place_count = 0; /* reads everything again */
            if (sim_broker_connect(&l->broker, &r->client, true) != OK) continue;
        }
        if (!read_on(r)) sim_client_close(&r->client);
        if (r->commits && sim_fault(l->world, SIM_CLIENT_DIES)) begin_anew(r);
        if (sim_chance(l->world, 0.3)) fiber_sleep_ns(sim_between(l->world, 0, 400) * NS_PER_MS);
    }
    sim_client_deinit(&r->client);
    mem_free(r->client.env->mem, r);
}

/* --- The audit. */

/* One step. True: everything was read to its end. */
static bool audit_step(struct follower *r, bool *good) {
    struct load *l = r->load;
    *good = r->view_known || look_again(r);
    for (size_t i = 0; i < r->place_count && *good; i++) {
        if (r->places[i].next < 0) *good = find_place(r, &r->places[i]);
    }
    if (!*good || !r->view_known) return false;
    *good = fetch_once(r);
    bool whole = *good && r->view_known;
    for (size_t i = 0; i < r->place_count && whole; i++) whole = r->places[i].next == r->places[i].high_watermark;
    if (!whole) return false;
    for (unsigned g = 0; g < 2 && *good; g++) *good = load_committed(l, &r->client, g, &r->view, NULL);
    for (unsigned n = 0; n < l->check->name_count && *good; n++) {
        if (r->view.topics[n]) *good = load_describe(l, &r->client, r->view.topics[n]);
    }
    if (*good && !l->deletes && !l->drops_offsets) *good = load_audit_offsets(l, &r->client, &r->view);
    return *good;
}

void load_audit_main(void *arg) {
    struct load *l = arg;
    struct follower *r = mem_zalloc(loop_current()->env->mem, sizeof(*r));
    r->load = l;
    r->version = 13;
    r->audit = 1;
    sim_client_init(&r->client, loop_current()->env);
    uint64_t give_up_ns = l->world->now_ns + 600 * NS_PER_S;
    bool whole = false, good = true;
    while (!whole && !sim_failed(l->world) && l->world->now_ns < give_up_ns) {
        if (!r->client.conn && sim_broker_connect(&l->broker, &r->client, false) != OK) {
            load_pause(l);
            continue;
        }
        whole = audit_step(r, &good);
        if (good) continue;
        sim_client_close(&r->client);
        r->place_count = 0; /* what was read of another broker is read again */
        r->view_known = false;
        r->audit++;
        load_pause(l);
    }
    if (!whole && !sim_failed(l->world)) sim_fail(l->world, "not everything is served though nothing is broken");
    for (size_t i = 0; i < r->place_count && !sim_failed(l->world); i++) {
        const struct place *p = &r->places[i];
        check_partition_judge(l->check, log_of(p), p->start, p->next, r->audit);
    }
    l->audited = true;
    sim_client_deinit(&r->client);
    mem_free(r->client.env->mem, r);
}
