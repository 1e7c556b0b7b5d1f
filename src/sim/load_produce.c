/* Producers: idempotent ones with several requests in flight, plain ones, some that want no answer; several batches in a
 * request, compressed ones, old message sets. Some die in the middle of a request: what they have sent may be there or
 * not, and whoever comes next has an id of its own. */
#include <string.h>

#include "kafka/error.h"
#include "sim/history.h"
#include "sim/load.h"

#define IN_FLIGHT_MAX 5u
#define BATCHES_MAX 3u

struct sent_batch {
    uint32_t item;
    int32_t sequence;
    struct check_topic *topic;
    struct check_look look; /* as of the last time that it was sent */
    bool overtaken;         /* its broker, by then */
};

struct sent_request {
    struct sent_batch batches[BATCHES_MAX];
    unsigned count;
    uint32_t first; /* the lowest of its items: requests are made in the order of these */
};

struct lane { /* to one partition */
    int32_t next_sequence;
    uint32_t next_order;
    uint64_t inc; /* the latest that has acknowledged something */
};

struct producer {
    struct load *load;
    struct sim_client client;
    struct load_view view;
    bool view_known, idempotent, hopeless; /* hopeless: what is in the window will not be taken */
    bool jumbled;                          /* it has sent requests in the wrong order, and may be told so */
    bool impatient;                        /* it sends again what it has only just sent */
    int16_t version, acks;
    int64_t producer_id; /* -1: to be asked for */
    uint32_t sender;
    struct lane lanes[CHECK_NAMES_MAX][CHECK_PARTITIONS_MAX];
    struct sent_request window[IN_FLIGHT_MAX]; /* what is not answered, oldest first */
    unsigned count, depth;
    unsigned sent; /* of the window, on this connection */
};

/* Nothing that was sent is sent again, and what comes next is another producer's. */
static void begin_anew(struct producer *p) {
    p->count = p->sent = 0;
    p->jumbled = false;
    p->producer_id = -1;
    p->sender = p->load->senders++;
    memset(p->lanes, 0, sizeof(p->lanes));
}

static bool ask_producer_id(struct producer *p) {
    struct arena a;
    arena_init(&a, p->client.env->mem);
    struct kafka_init_producer_id_request q;
    struct kafka_init_producer_id_response r;
    kafka_init_producer_id_request_init(&q);
    q.transactional_id = (struct kafka_string){NULL, -1};
    bool good = load_call(p->load, &p->client, KAFKA_API_INIT_PRODUCER_ID, 1, &q, &a, &r) && r.error_code == 0;
    if (good) p->producer_id = r.producer_id;
    arena_deinit(&a);
    return good;
}

static void look_again(struct producer *p) {
    struct load_view before = p->view;
    if (!load_metadata(p->load, &p->client, &p->view)) {
        p->view = before;
        sim_client_close(&p->client);
        return;
    }
    bool same = true;
    for (unsigned n = 0; n < CHECK_NAMES_MAX; n++) same &= !before.topics[n] || before.topics[n] == p->view.topics[n];
    p->view_known = true;
    if (!same) {
        begin_anew(p);
        sim_client_close(&p->client); /* what is under way is nobody's any more */
    }
}

/* --- Sending. */

static void choose_item(struct producer *p, struct check_item *it) {
    struct load *l = p->load;
    struct sim_world *w = l->world;
    it->records = (uint32_t)sim_between(w, 1, 3);
    it->value_size = (uint32_t)sim_between(w, 0, !l->configures && !l->retains && sim_chance(w, 0.1) ? 20000 : 200);
    it->idempotent = p->idempotent;
    it->sender = p->sender;
    it->timestamp = env_wall_ms(p->client.env);
    if (l->retains && sim_chance(w, 0.3)) it->timestamp -= (int64_t)sim_between(w, 0, 3600000);
    if (p->version < 3) {
        it->magic = (uint8_t)sim_between(w, 0, p->version < 2 ? 0 : 1);
        if (it->magic == 0) it->timestamp = -1;
    }
    /* Before magic 2 there was no zstd, and readers of that time do not take it. */
    bool zstd = p->version >= 7 && !l->old_formats;
    if (l->compresses && sim_chance(w, 0.4)) it->codec = (uint8_t)sim_between(w, 1, zstd ? 4 : 3);
}

static bool request_has(const struct sent_request *q, const struct check *k, unsigned name, unsigned partition) {
    for (unsigned i = 0; i < q->count; i++) {
        const struct check_item *it = &k->items.items[q->batches[i].item];
        if (it->name == name && it->partition == partition) return true;
    }
    return false;
}

/* One more batch for a partition that the request has nothing for. */
static void add_batch(struct producer *p, struct sent_request *q) {
    struct load *l = p->load;
    unsigned name = (unsigned)sim_between(l->world, 0, l->check->name_count - 1);
    struct check_topic *t = p->view.topics[name];
    if (!t) return;
    unsigned partition = (unsigned)sim_between(l->world, 0, (uint64_t)p->view.counts[name] - 1);
    if (request_has(q, l->check, name, partition)) return;
    uint32_t id;
    struct check_item *it = check_item_new(l->check, &id);
    if (!it) return;
    struct lane *lane = &p->lanes[name][partition];
    it->name = name;
    it->partition = partition;
    choose_item(p, it);
    it->order = lane->next_order++;
    q->batches[q->count++] = (struct sent_batch){.item = id, .sequence = lane->next_sequence, .topic = t};
    lane->next_sequence += (int32_t)it->records;
    l->run->ops++;
}

/* A new request at the end of the window. False: there is nothing to write to. */
static bool new_request(struct producer *p) {
    struct sent_request *q = &p->window[p->count];
    q->count = 0;
    unsigned most = sim_chance(p->load->world, 0.3) ? BATCHES_MAX : 1;
    for (unsigned i = 0; i < most + 3 && q->count < most; i++) add_batch(p, q);
    if (q->count > 0) p->count++;
    q->first = q->batches[0].item;
    return q->count > 0;
}

/* Batches of one topic stand together, in the order in which they are in the request already. */
static void group_by_topic(const struct check *k, struct sent_request *q) {
    for (unsigned i = 1; i < q->count; i++) {
        for (unsigned j = i;
             j > 0 && k->items.items[q->batches[j - 1].item].name > k->items.items[q->batches[j].item].name; j--) {
            struct sent_batch b = q->batches[j];
            q->batches[j] = q->batches[j - 1];
            q->batches[j - 1] = b;
        }
    }
}

/* dies: it ends meanwhile. */
static enum err send_request(struct producer *p, struct sent_request *s, bool dies) {
    struct load *l = p->load;
    struct check *k = l->check;
    struct kafka_produce_request_partition parts[BATCHES_MAX];
    struct kafka_produce_request_topic topics[BATCHES_MAX];
    struct kafka_produce_request q;
    struct buf bytes[BATCHES_MAX];
    int32_t topic_count = 0;
    group_by_topic(k, s);
    for (unsigned i = 0; i < s->count; i++) {
        struct sent_batch *b = &s->batches[i];
        struct check_item *it = check_item_at(k, b->item);
        buf_init(&bytes[i], p->client.env->mem);
        check_item_make(k, p->client.env, b->item, p->idempotent ? p->producer_id : -1, b->sequence, &bytes[i]);
        it->sent++;
        b->overtaken = sim_broker_overtaken(&l->broker, &p->client, 0);
        b->look = check_partition_look(k, &b->topic->logs[it->partition]);
        parts[i] = (struct kafka_produce_request_partition){
            .index = (int32_t)it->partition, .records = {.data = bytes[i].data, .size = (int32_t)bytes[i].size}};
        if (i == 0 || b->topic != s->batches[i - 1].topic) {
            struct kafka_produce_request_topic *t = &topics[topic_count++];
            kafka_produce_request_topic_init(t);
            t->name = kafka_string_of(b->topic->name->name);
            t->topic_id = b->topic->id;
            t->partition_data.items = &parts[i];
        }
        topics[topic_count - 1].partition_data.count++;
        sim_note(l->world, p->client.env ? sim_node_of(p->client.env) : NULL,
                 check_partition_subject(&b->topic->logs[it->partition]),
                 "sends batch %u (%u records, sequence %d)%s%s", b->item, it->records, b->sequence,
                 it->sent > 1 ? " again" : "", dies ? " and dies" : "");
    }
    kafka_produce_request_init(&q);
    q.transactional_id = (struct kafka_string){NULL, -1};
    q.acks = p->acks;
    q.timeout_ms = 30000;
    q.topic_data.items = topics;
    q.topic_data.count = topic_count;
    enum err e = dies ? ERR_CLOSED : sim_client_send(&p->client, KAFKA_API_PRODUCE, p->version, &q);
    if (dies) sim_client_die(&p->client, KAFKA_API_PRODUCE, p->version, &q, (unsigned)sim_between(l->world, 0, 1000));
    for (unsigned i = 0; i < s->count; i++) buf_deinit(&bytes[i]);
    return e;
}

/* --- Answers. */

static void take_ack(struct producer *p, struct sent_batch *b, uint64_t inc,
                     const struct kafka_produce_response_partition *r) {
    struct load *l = p->load;
    struct check_item *it = check_item_at(l->check, b->item);
    bool by_id = p->version >= 13;
    struct check_partition *log = &b->topic->logs[it->partition];
    if (by_id && !check_may_serve(b->topic, inc, b->look.asked))
        sim_fail_about(l->world, check_partition_subject(log), "%s-%u acknowledges a batch, and was deleted before",
                       b->topic->name->name, it->partition);
    bool certain = by_id || check_must_know(b->topic, inc, b->look.asked, (int32_t)it->partition);
    int64_t log_start = p->version >= 5 && certain ? r->log_start_offset : -1;
    sim_note(l->world, sim_node_of(p->client.env), check_partition_subject(log), "batch %u is acknowledged at %ld",
             b->item, r->base_offset);
    check_item_acked(l->check, b->item, certain ? b->topic : NULL, r->base_offset,
                     p->version >= 2 ? r->log_append_time_ms : 0, inc, &b->look, log_start);
    struct lane *lane = &p->lanes[it->name][it->partition];
    if (inc > lane->inc) lane->inc = inc;
    load_strike(l, &p->client);
}

/* What a producer that did nothing wrong is not told, by anybody who knows what was acknowledged before. */
static bool is_accusation(int16_t code) {
    return code == KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER || code == KAFKA_UNKNOWN_PRODUCER_ID ||
           code == KAFKA_INVALID_PRODUCER_EPOCH || code == KAFKA_INVALID_RECORD || code == KAFKA_CORRUPT_MESSAGE ||
           code == KAFKA_MESSAGE_TOO_LARGE || code == KAFKA_DUPLICATE_SEQUENCE_NUMBER;
}

static bool take_part(struct producer *p, struct sent_batch *b, const struct kafka_produce_response_partition *r) {
    struct load *l = p->load;
    uint64_t inc = load_incarnation(l, &p->client);
    const struct check_item *it = check_item_at(l->check, b->item);
    if (r->index != (int32_t)it->partition) {
        sim_fail(l->world, "an answer to Produce tells of partition %d instead of %u", r->index, it->partition);
        return false;
    }
    if (r->error_code == KAFKA_NONE) {
        take_ack(p, b, inc, r);
        return true;
    }
    uint64_t subject = check_partition_subject(&b->topic->logs[it->partition]);
    bool known = check_must_know(b->topic, inc, b->look.asked, (int32_t)it->partition);
    sim_note(l->world, sim_node_of(p->client.env), subject, "batch %u is answered %s", b->item,
             kafka_error_name(r->error_code));
    p->client.overtaken = b->overtaken;
    load_judge(l, &p->client, KAFKA_API_PRODUCE, r->error_code, false);
    if (r->error_code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION || r->error_code == KAFKA_UNKNOWN_TOPIC_ID) {
        p->view_known = false;
        if (known)
            sim_fail_about(l->world, subject, "%s-%u is there, and a producer is told %s", b->topic->name->name,
                           it->partition, kafka_error_name(r->error_code));
    } else if (is_accusation(r->error_code) && p->jumbled) {
        /* Where nothing was known of it the later batch was taken, and the earlier one never will be. */
        p->hopeless |= sim_chance(l->world, 0.3);
    } else if (is_accusation(r->error_code) && known && inc >= p->lanes[it->name][it->partition].inc) {
        sim_fail_about(l->world, subject, "a producer that did nothing wrong was answered %s for batch %u, sequence %d",
                       kafka_error_name(r->error_code), b->item, b->sequence);
    }
    p->hopeless |= r->error_code == KAFKA_INVALID_TIMESTAMP; /* clocks that differ too much */
    return false;
}

static void window_pop(struct producer *p) {
    memmove(&p->window[0], &p->window[1], (p->count - 1) * sizeof(p->window[0]));
    p->count--;
    p->sent--;
}

/* The answer to the oldest request. False: send everything again. */
static bool take_answer(struct producer *p) {
    struct load *l = p->load;
    struct sent_request *s = &p->window[0];
    struct arena a;
    arena_init(&a, p->client.env->mem);
    struct kafka_produce_response r;
    enum err e = sim_client_receive(&p->client, KAFKA_API_PRODUCE, p->version, LOAD_PATIENCE_NS, &a, &r);
    if (e == ERR_PROTOCOL) sim_fail(l->world, "an answer to Produce that is not one, or not the one whose turn it is");
    load_look_at_clocks(l);
    bool good = e == OK;
    unsigned n = 0;
    for (int32_t t = 0; e == OK && t < r.responses.count; t++) {
        for (int32_t i = 0; i < r.responses.items[t].partition_responses.count && n < s->count; i++)
            good &= take_part(p, &s->batches[n++], &r.responses.items[t].partition_responses.items[i]);
    }
    if (e == OK && n != s->count) sim_fail(l->world, "an answer to Produce leaves partitions out");
    if (good) window_pop(p);
    arena_deinit(&a);
    return good && !sim_failed(l->world);
}

/* In the order in which they were made, whatever order they were sent in. */
static void window_sort(struct producer *p) {
    for (unsigned i = 1; i < p->count; i++) {
        for (unsigned j = i; j > 0 && p->window[j - 1].first > p->window[j].first; j--) {
            struct sent_request s = p->window[j];
            p->window[j] = p->window[j - 1];
            p->window[j - 1] = s;
        }
    }
}

static void stop(struct producer *p) {
    sim_client_close(&p->client);
    p->sent = 0;
    /* What a plain producer did not hear of is given up: to send it again would be to send it twice. */
    if (!p->idempotent) p->count = 0;
    window_sort(p);
}

static void choose_version(struct producer *p) {
    static const int16_t versions[] = {13, 13, 13, 12, 9, 7, 5, 3}; /* with zstd from 7 on */
    struct sim_world *w = p->load->world;
    p->version = versions[sim_between(w, 0, p->idempotent ? 5 : 7)];
    if (p->idempotent) return;
    p->acks = (int16_t)((int)sim_between(w, 0, 2) - 1);
    if (p->load->old_formats && sim_chance(w, 0.6)) p->version = (int16_t)sim_between(w, 0, 2);
}

/* Once, the last two requests of the window change places: the later one must be refused. */
static void jumble(struct producer *p) {
    struct sent_request *last = &p->window[p->count - 1], was = *last;
    if (!p->idempotent || p->jumbled || p->count < p->sent + 2 || !sim_chance(p->load->world, 0.02)) return;
    *last = last[-1];
    last[-1] = was;
    p->jumbled = true;
}

/* It closes before an answer can come and sends everything again at once: then the original is often not durable yet. */
static bool loses_patience(struct producer *p) {
    struct sim_world *w = p->load->world;
    p->impatient = p->idempotent && !p->jumbled && sim_chance(w, 0.05);
    if (p->impatient) fiber_sleep_ns(sim_between(w, 1, 20) * NS_PER_MS);
    return p->impatient;
}

/* Sends what is to be sent, takes one answer. False: the connection is of no use. */
static bool produce(struct producer *p) {
    bool good = true;
    while (p->count < p->depth && new_request(p)) continue;
    if (p->count == 0) {
        p->view_known = false; /* there is no topic */
        load_pause(p->load);
        return true;
    }
    jumble(p);
    for (; p->sent < p->count && good; p->sent++) {
        if (sim_fault(p->load->world, SIM_CLIENT_DIES)) {
            (void)send_request(p, &p->window[p->sent], true);
            begin_anew(p);
            return false;
        }
        good = send_request(p, &p->window[p->sent], false) == OK;
    }
    if (good && p->acks == 0) {
        p->count = p->sent = 0;
        p->client.next_answer = p->client.next_correlation; /* nobody answers these */
        load_pause(p->load);
        return true;
    }
    return good && !loses_patience(p) && take_answer(p);
}

void load_produce_main(void *arg) {
    struct load_client *me = arg;
    struct load *l = me->load;
    struct producer p = {.load = l, .acks = -1};
    p.idempotent = sim_chance(l->world, 0.7);
    p.depth = (unsigned)sim_between(l->world, 1, IN_FLIGHT_MAX);
    sim_client_init(&p.client, loop_current()->env);
    begin_anew(&p);
    while (load_goes_on(l, &p.client, true)) {
        if (!p.client.conn) {
            stop(&p);
            if (!p.impatient) load_pause(l);
            p.impatient = false;
            if (sim_chance(l->world, 0.05)) begin_anew(&p); /* another one in its place */
            choose_version(&p);
            p.view_known &= sim_chance(l->world, 0.5);
            if (sim_broker_connect(&l->broker, &p.client, true) != OK) continue;
        }
        if (!p.view_known && p.sent == 0) {
            look_again(&p);
            continue;
        }
        if (p.idempotent && p.producer_id < 0 && !ask_producer_id(&p)) {
            sim_client_close(&p.client);
            continue;
        }
        if (!produce(&p)) stop(&p);
        if (p.hopeless) begin_anew(&p);
        p.hopeless = false;
        if (sim_chance(l->world, 0.2)) fiber_sleep_ns(sim_between(l->world, 0, 100) * NS_PER_MS);
    }
    sim_client_deinit(&p.client);
}
