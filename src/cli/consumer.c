#include "cli/consumer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* From version 13 on topics are named by their ids. */
#define FETCH_VERSION_MAX 12
#define FETCH_WAIT_MS 500
#define FETCH_BYTES ((int32_t)16 << 20)
#define PARTITION_BYTES ((int32_t)1 << 20)
#define UNPACKED_BYTES_MAX ((size_t)1 << 30)
#define SUBJECT_SIZE 320u

void consumer_init(struct consumer *x, struct client *c, const char *topic) {
    *x = (struct consumer){.client = c, .topic = topic};
}

void consumer_deinit(struct consumer *x) {
    mem_free(&x->client->mem, x->places);
    x->places = NULL;
    x->count = 0;
}

void consumer_add(struct consumer *x, int32_t index, int32_t leader, int64_t offset, int64_t end) {
    x->places = mem_realloc(&x->client->mem, x->places, (x->count + 1) * sizeof(*x->places));
    x->places[x->count++] = (struct place_read){index, leader, offset, end, PARTITION_BYTES, false};
}

static bool place_at_end(const struct place_read *p) {
    return p->offset >= p->end;
}

bool consumer_at_end(const struct consumer *x) {
    for (size_t i = 0; i < x->count; i++) {
        if (!place_at_end(&x->places[i])) return false;
    }
    return true;
}

static void place_subject(const struct consumer *x, const struct place_read *p, char out[SUBJECT_SIZE]) {
    (void)snprintf(out, SUBJECT_SIZE, "topic '%.200s' partition %d", x->topic, (int)p->index);
}

/* --- Batches. */

/* Producers whose transaction, aborted later, is open at the place that is being read. */
struct aborted {
    const struct kafka_fetch_response_aborted_transaction *items; /* by first offset */
    int32_t count, next;
    int64_t *producers;
    size_t open;
};

static int compare_aborted(const void *a, const void *b) {
    const struct kafka_fetch_response_aborted_transaction *x = a, *y = b;
    return (x->first_offset > y->first_offset) - (x->first_offset < y->first_offset);
}

static void aborted_init(struct aborted *w, const struct kafka_fetch_response_partition *r, struct arena *a) {
    int32_t count = r->aborted_transactions.count > 0 ? r->aborted_transactions.count : 0;
    *w = (struct aborted){.items = r->aborted_transactions.items, .count = count};
    w->producers = arena_alloc(a, ((size_t)count + 1) * sizeof(*w->producers));
    if (count > 1) qsort(r->aborted_transactions.items, (size_t)count, sizeof(*w->items), compare_aborted);
}

/* A control record's key: int16 version, int16 type; 0 is abort, 1 is commit. */
static bool is_abort_marker(struct mem *m, const struct batch_header *h) {
    struct batch_iterator it;
    struct batch_record r;
    if (batch_iterator_init(&it, m, h, 1 << 20) != OK) return false;
    bool found = batch_iterator_next(&it, &r) == OK && r.key_size >= 4 && be16_get(r.key + 2) == 0;
    batch_iterator_deinit(&it);
    return found;
}

/* Keeps the book; true when the batch is not to be seen. */
static bool aborted_hides(struct aborted *w, struct mem *m, const struct batch_header *h) {
    while (w->next < w->count && w->items[w->next].first_offset <= batch_last_offset(h)) {
        w->producers[w->open++] = w->items[w->next++].producer_id;
    }
    if (!batch_is_transactional(h)) return false;
    for (size_t i = 0; i < w->open; i++) {
        if (w->producers[i] != h->producer_id) continue;
        if (batch_is_control(h) && is_abort_marker(m, h)) w->producers[i] = w->producers[--w->open];
        return true;
    }
    return false;
}

static enum err batch_take(struct consumer *x, struct place_read *p, const struct batch_header *h) {
    struct mem *m = &x->client->mem;
    struct batch_iterator it;
    struct batch_record r;
    enum err e = batch_iterator_init(&it, m, h, UNPACKED_BYTES_MAX);
    if (e != OK) return e;
    while ((e = batch_iterator_next(&it, &r)) == OK) {
        if (r.offset < p->offset) continue; /* a batch may begin before what was asked for */
        if (r.offset >= p->end) break;
        bool more = x->take(x->ctx, p->index, &r);
        p->offset = r.offset + 1;
        if (more) continue;
        x->full = true;
        break;
    }
    batch_iterator_deinit(&it);
    if (e == ERR_NOT_FOUND) e = OK;
    /* Compaction leaves batches whose last offset no record has. */
    if (e == OK && !x->full && p->offset < p->end && p->offset < batch_end_offset(h)) p->offset = batch_end_offset(h);
    return e;
}

static enum err records_take(struct consumer *x, struct place_read *p, const struct kafka_fetch_response_partition *r,
                             struct arena *a) {
    struct mem *m = &x->client->mem;
    struct aborted aborted;
    aborted_init(&aborted, r, a);
    const uint8_t *at = r->records.data;
    size_t left = r->records.size > 0 ? (size_t)r->records.size : 0;
    bool first = true;
    while (left > 0 && !x->full && !place_at_end(p)) {
        struct batch_header h;
        enum err e = batch_parse(at, left, &h);
        if (e == ERR_TRUNCATED) {
            /* The last one is cut off where the limit was; the first one never fits. */
            if (first && p->max_bytes < INT32_MAX / 2) p->max_bytes *= 2;
            return OK;
        }
        bool hidden = e == OK && x->isolation == 1 && aborted_hides(&aborted, m, &h);
        if (e == OK && !hidden && !batch_is_control(&h)) {
            e = batch_take(x, p, &h);
        } else if (e == OK && batch_end_offset(&h) > p->offset) {
            p->offset = batch_end_offset(&h);
        }
        if (e != OK) {
            char subject[SUBJECT_SIZE];
            place_subject(x, p, subject);
            const char *why =
                e == ERR_INVALID_RECORD && left > 16 && at[16] < 2
                    ? "the records are in a format from before Kafka 0.11, which this program does not read"
                    : err_text(e);
            return client_fail(x->client, e, "%s, at offset %" PRId64 ": %s", subject, p->offset, why);
        }
        at += h.size;
        left -= h.size;
        first = false;
    }
    return OK;
}

/* --- Answers. */

/* Records that were to be read next have gone (retention, DeleteRecords), or never were. */
static enum err out_of_range(struct consumer *x, struct place_read *p) {
    char subject[SUBJECT_SIZE];
    struct client_offset ends[2] = {{kafka_string_of(x->topic), p->index, CLIENT_EARLIEST, -1, 0, false},
                                    {kafka_string_of(x->topic), p->index, CLIENT_LATEST, -1, 0, false}};
    place_subject(x, p, subject);
    enum err e = client_list_offsets(x->client, ends, 1, 0);
    if (e == OK) e = client_list_offsets(x->client, ends + 1, 1, x->isolation);
    if (e != OK) return e;
    if (ends[0].code != 0 || ends[1].code != 0) return OK; /* asked again in the next round */
    if (p->began && p->offset < ends[0].offset) {
        fprintf(stderr,
                "oxbow %s: %s: the records %" PRId64 " to %" PRId64 " have been removed, going on behind them\n",
                x->client->command, subject, p->offset, ends[0].offset - 1);
        p->offset = ends[0].offset;
        return OK;
    }
    return client_fail(x->client, ERR_OFFSET_OUT_OF_RANGE,
                       "%s: there is no offset %" PRId64 ": its log begins at %" PRId64 " and ends at %" PRId64,
                       subject, p->offset, ends[0].offset, ends[1].offset);
}

static enum err partition_take(struct consumer *x, const struct kafka_fetch_response_partition *r, bool *failed,
                               struct arena *a) {
    struct place_read *p = NULL;
    for (size_t i = 0; i < x->count && !p; i++) {
        if (x->places[i].index == r->partition_index) p = &x->places[i];
    }
    if (!p) return OK;
    char subject[SUBJECT_SIZE];
    place_subject(x, p, subject);
    if (r->error_code == 0) {
        p->began = true;
        return records_take(x, p, r, a);
    }
    enum err e = client_fail_code(x->client, subject, r->error_code, (struct kafka_string){NULL, -1});
    if (r->error_code == KAFKA_OFFSET_OUT_OF_RANGE) return out_of_range(x, p);
    if (!client_code_retriable(r->error_code)) return e;
    *failed = true;
    return OK;
}

/* --- Rounds. */

static enum err leader_send(struct consumer *x, int32_t leader, struct arena *a, struct client_conn **out) {
    enum err e = client_node(x->client, leader, out);
    if (e != OK) return e;
    struct kafka_fetch_request q;
    kafka_fetch_request_init(&q);
    q.replica_id = -1;
    q.max_wait_ms = FETCH_WAIT_MS;
    q.min_bytes = 1;
    q.max_bytes = FETCH_BYTES;
    q.isolation_level = x->isolation;
    q.session_epoch = -1;
    q.topics.items = kafka_fetch_request_topic_new(a, 1);
    q.topics.count = 1;
    q.topics.items[0].topic = kafka_string_of(x->topic);
    q.topics.items[0].partitions.items = kafka_fetch_request_partition_new(a, x->count);
    q.topics.items[0].partitions.count = 0;
    for (size_t i = 0; i < x->count; i++) {
        if (x->places[i].leader != leader || place_at_end(&x->places[i])) continue;
        struct kafka_fetch_request_partition *p =
            &q.topics.items[0].partitions.items[q.topics.items[0].partitions.count++];
        p->partition = x->places[i].index;
        p->fetch_offset = x->places[i].offset;
        p->partition_max_bytes = x->places[i].max_bytes;
    }
    return client_send(*out, KAFKA_API_FETCH, FETCH_VERSION_MAX, &q);
}

static void leaders_refresh(struct consumer *x) {
    struct arena a;
    struct kafka_metadata_response r;
    struct kafka_string name = kafka_string_of(x->topic);
    arena_init(&a, &x->client->mem);
    if (client_metadata(x->client, &name, 1, &a, &r) == OK) {
        const struct kafka_metadata_response_topic *t = client_find_topic(&r, name);
        for (size_t i = 0; i < x->count; i++) {
            const struct kafka_metadata_response_partition *p = client_find_partition(t, x->places[i].index);
            if (p) x->places[i].leader = p->leader_id;
        }
    }
    arena_deinit(&a);
}

static enum err answer_take(struct consumer *x, const struct kafka_fetch_response *r, bool *failed, struct arena *a) {
    if (r->error_code != 0) {
        enum err e = client_fail_code(x->client, x->topic, r->error_code, (struct kafka_string){NULL, -1});
        *failed = true;
        return client_code_retriable(r->error_code) ? OK : e;
    }
    for (int32_t i = 0; i < r->responses.count; i++) {
        for (int32_t k = 0; k < r->responses.items[i].partitions.count && !x->full; k++) {
            enum err e = partition_take(x, &r->responses.items[i].partitions.items[k], failed, a);
            if (e != OK) return e;
        }
    }
    return OK;
}

static enum err fetch_all(struct consumer *x, bool *failed, struct arena *a) {
    struct client_conn **conns = arena_alloc(a, x->count * sizeof(struct client_conn *));
    int32_t *leaders = arena_alloc(a, x->count * sizeof(*leaders));
    size_t count = 0;
    enum err fatal = OK;
    for (size_t i = 0; i < x->count; i++) {
        int32_t leader = x->places[i].leader;
        bool known = place_at_end(&x->places[i]);
        if (!known && leader < 0) {
            *failed = true;
            (void)client_fail_code(x->client, x->topic, KAFKA_LEADER_NOT_AVAILABLE, (struct kafka_string){NULL, -1});
            continue;
        }
        for (size_t k = 0; k < count && !known; k++) known = leaders[k] == leader;
        if (known) continue;
        struct client_conn *cc;
        enum err e = leader_send(x, leader, a, &cc);
        leaders[count] = leader;
        conns[count++] = e == OK ? cc : NULL;
        if (e == ERR_UNSUPPORTED_VERSION) fatal = e;
        if (e != OK) *failed = true;
    }
    /* Every answer is awaited, wanted or not: a connection carries one request at a time. */
    for (size_t i = 0; i < count; i++) {
        struct kafka_fetch_response r;
        if (!conns[i]) continue;
        if (client_await(conns[i], FETCH_WAIT_MS * NS_PER_MS, a, &r) != OK) {
            *failed = true;
            continue;
        }
        enum err e = fatal == OK && !x->full ? answer_take(x, &r, failed, a) : OK;
        if (fatal == OK) fatal = e;
    }
    return fatal;
}

enum err consumer_round(struct consumer *x) {
    struct client *c = x->client;
    struct arena a;
    bool failed = false;
    arena_init(&a, &c->mem);
    enum err e = fetch_all(x, &failed, &a);
    arena_deinit(&a);
    if (e != OK) return e;
    if (!failed) {
        x->failing_since_ns = 0;
        x->attempt = 0;
        return OK;
    }
    uint64_t now_ns = env_now_ns(c->env);
    if (x->failing_since_ns == 0) x->failing_since_ns = now_ns;
    if (now_ns - x->failing_since_ns >= c->timeout_ns) return ERR_UNAVAILABLE; /* client.why tells */
    env_backoff(c->env, x->attempt++, 50 * NS_PER_MS, NS_PER_S);
    leaders_refresh(x);
    return OK;
}
