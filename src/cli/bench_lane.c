/* A producer's lanes: records become batches, and batches are acknowledged, or wait to be repeated (bench_producer.c). */
#include "base/assert.h"
#include "cli/bench_producer_priv.h"
#include "cli/partitioner.h"

#define MAKE_RECORDS_MAX 16384u /* in one go; then the others' turn */

void bench_producer_trouble(struct bench_producer *p) {
    p->trouble = true;
    waitq_wake_all(&p->wake);
}

bool bench_producer_timed(const struct bench_producer *p) {
    return p->what.schedule.rate > 0;
}

bool bench_more_wanted(const struct bench_producer *p) {
    return p->running && !p->finishing && p->made < p->what.records;
}

/* --- Lanes. */

void bench_lane_ready(struct lane *l) {
    if (l->ready || l->blocked || !l->outlet) return;
    l->ready = true;
    list_push_back(&l->outlet->ready, &l->ready_node);
}

void bench_lane_unready(struct lane *l) {
    l->ready = false;
    list_remove(&l->ready_node);
}

/* Finishes the batch that is being filled. */
enum err bench_lane_close(struct bench_producer *p, struct lane *l) {
    struct bench_batch *b = l->open;
    ASSERT(b && b->count > 0);
    l->open = NULL;
    list_remove(&l->open_node);
    /* Records without a key go to the next lane with the next batch, full or not, as Kafka's clients do. */
    if (l == &p->lanes[p->sticky]) p->sticky = (p->sticky + 1) % p->lane_count;
    bool sequenced = p->settings->idempotence;
    size_t before = b->size;
    enum err e = bench_batch_finish(b, p->producer_id, p->producer_epoch, sequenced ? l->next_sequence : -1);
    if (e != OK) {
        bench_batch_release(b);
        bench_thread_fail(p->thread, "a batch cannot be compressed");
        return e;
    }
    p->buffered -= before;
    p->buffered += b->size;
    if (sequenced) l->next_sequence = (int32_t)(((int64_t)l->next_sequence + b->count) & INT32_MAX);
    list_push_back(&l->closed, &b->node);
    p->waiting++;
    return OK;
}

/* --- Making records. */

static void record_make(struct bench_producer *p, struct lane *l, const uint8_t *key, uint64_t due_ns,
                        int64_t wall_ms) {
    const struct bench_settings *s = p->settings;
    size_t key_size = key ? KEY_SIZE : 0, body = (size_t)s->record_size - BENCH_STAMP_SIZE;
    if (!l->open) {
        l->open = bench_batch_take(&p->batches);
        p->buffered += l->open->size;
        list_push_back(&p->open, &l->open_node);
    }
    struct bench_batch *b = l->open;
    size_t before = b->size;
    const uint8_t *payload = payload_next(&p->thread->run->payload, &p->walk, body);
    bench_batch_add(b, wall_ms, key, key_size, p->what.stamped ? due_ns : 0, payload, body, due_ns,
                    bench_producer_timed(p));
    p->buffered += b->size - before;
    p->made++;
}

static struct lane *lane_of_key(struct bench_producer *p, uint8_t key[KEY_SIZE]) {
    const struct bench_run *r = p->thread->run;
    key_text(keys_draw(&r->keys, &p->rng), key);
    const struct bench_topic *t = &r->topics[r->topic_count > 1 ? rng_below(&p->rng, r->topic_count) : 0];
    return &p->lanes[t->first + (size_t)partition_of_key(key, KEY_SIZE, t->partitions)];
}

/* The next record of a timetable or with a key; false when a batch could not be closed. */
static bool record_place(struct bench_producer *p, uint64_t due_ns, int64_t wall_ms) {
    const struct bench_settings *s = p->settings;
    uint8_t key[KEY_SIZE];
    bool keyed = s->key_kind != KEY_NONE;
    struct lane *l = keyed ? lane_of_key(p, key) : &p->lanes[p->sticky];
    size_t key_size = keyed ? KEY_SIZE : 0;
    if (l->open && !bench_batch_fits(l->open, key_size, (size_t)s->record_size)) {
        if (bench_lane_close(p, l) != OK) return false;
        bench_lane_ready(l);
        if (!keyed) l = &p->lanes[p->sticky];
    }
    record_make(p, l, keyed ? key : NULL, due_ns, wall_ms);
    return true;
}

/* Records that are due, or as many as the buffer takes; true when more could be made at once. */
bool bench_records_make(struct bench_producer *p, uint64_t now_ns) {
    struct env *env = p->client.env;
    int64_t wall_ms = env_wall_ms(env);
    for (unsigned n = 0; bench_more_wanted(p) && p->buffered < p->settings->buffer_bytes; n++) {
        uint64_t due_ns = bench_producer_timed(p) ? schedule_due_ns(&p->what.schedule, p->made) : now_ns;
        if (due_ns > now_ns) return false;
        if (n == MAKE_RECORDS_MAX) return true;
        if (!record_place(p, due_ns, wall_ms)) return false;
    }
    return false;
}

/* Whether records are put into lanes ahead of requests; else batches are made on demand. */
bool bench_fills_ahead(const struct bench_producer *p) {
    return bench_producer_timed(p) || p->settings->key_kind != KEY_NONE;
}

/* A full batch for an outlet, at full speed without keys: the lanes of the outlet in turn. */
struct lane *bench_lane_fill(struct bench_producer *p, struct outlet *o, uint64_t round, uint64_t now_ns) {
    int64_t wall_ms = env_wall_ms(p->client.env);
    LIST_EACH_SAFE(n, &o->lanes) {
        struct lane *l = LIST_ENTRY(n, struct lane, place);
        if (l->round == round) return NULL; /* once around */
        list_remove(&l->place);
        list_push_back(&o->lanes, &l->place);
        if (l->blocked) {
            l->round = round;
            continue;
        }
        while (bench_more_wanted(p) && (!l->open || bench_batch_fits(l->open, 0, (size_t)p->settings->record_size)))
            record_make(p, l, NULL, now_ns, wall_ms);
        return l->open ? l : NULL;
    }
    return NULL;
}

/* Lanes whose batch has lingered long enough, or must go for other reasons. */
void bench_open_expire(struct bench_producer *p, uint64_t now_ns) {
    bool all = !bench_more_wanted(p) || p->buffered >= p->settings->buffer_bytes;
    LIST_EACH(n, &p->open) {
        struct lane *l = LIST_ENTRY(n, struct lane, open_node);
        if (!all && l->open->opened_ns + p->settings->linger_ns > now_ns) break;
        bench_lane_ready(l);
    }
}

/* --- Acknowledged, or not. */

void bench_batch_forget(struct bench_producer *p, struct bench_batch *b) {
    p->buffered -= b->size;
    bench_batch_release(b);
}

void bench_batch_acknowledged(struct bench_producer *p, struct bench_batch *b, uint64_t now_ns) {
    struct bench_counts *c = &p->thread->counts;
    c->in_records += (uint64_t)b->count;
    c->in_bytes += b->payload_bytes;
    c->in_batch_bytes += b->size;
    c->in_batches++;
    if (p->what.stamped && bench_producer_timed(p)) {
        for (int32_t i = 0; i < b->count; i++)
            histogram_add(&c->produce, (now_ns > b->dues[i] ? now_ns - b->dues[i] : 0) / NS_PER_US, 1);
    } else if (p->what.stamped) {
        histogram_add(&c->produce, (now_ns - b->handed_ns) / NS_PER_US, (uint64_t)b->count);
    }
    p->attempt = 0;
    p->failing_since_ns = 0;
    bench_batch_forget(p, b);
}

/* It is no longer under way. */
void bench_batch_landed(struct bench_producer *p, struct lane *l) {
    ASSERT(l->flying_count > 0 && p->flying > 0);
    l->flying_count--;
    p->flying--;
    if (l->blocked && l->flying_count == 0) bench_producer_trouble(p); /* the fiber can repeat what failed */
}

/* To be repeated. Those of a lane fail in the order in which they were sent, or are put back into it. */
void bench_batch_failed(struct bench_producer *p, struct lane *l, struct bench_batch *b) {
    list_remove(&b->node);
    list_push_back(&l->again, &b->node);
    p->waiting++;
    l->blocked = true;
    if (l->ready) bench_lane_unready(l);
    bench_producer_trouble(p);
}
