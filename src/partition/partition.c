/* A partition's life: opening, closing, configuration, watches, and the getters. */
#include "partition/partition.h"

#include "base/assert.h"
#include "partition/partition_priv.h"

static void on_durable(void *ctx);
static void on_wake(struct timer *t);

static uint64_t live_bytes(const struct stream_state *s) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->segment_count; i++) bytes += s->segments[i].size_bytes;
    return bytes;
}

bool partition_active_in_use(const struct partition *p) {
    const struct stream_state *s = &p->live;
    return s->segment_count > 0 && s->segments[s->segment_count - 1].size_bytes > 0 && s->start_offset < s->end_offset;
}

void partition_draw_jitter(struct partition *p) {
    int64_t most =
        p->config.segment_jitter_ms < p->config.segment_ms ? p->config.segment_jitter_ms : p->config.segment_ms;
    p->roll_jitter_ms = most > 0 ? (int64_t)rng_below(&p->rng, (uint64_t)most) : 0;
}

static void take_durability(struct partition *p) {
    bool by_object = p->config.durability == TOPIC_DURABILITY_OBJECT;
    stream_set_durability(p->stream, by_object ? STREAM_DURABILITY_OBJECT : STREAM_DURABILITY_WAL);
}

enum err partition_open(const struct partition_options *o, struct partition **out) {
    CHECK_OBJ(o->env, ENV_MAGIC);
    ASSERT(o->stream.v != 0 && o->leader_epoch >= 0 && o->config != NULL && o->conversions != NULL);
    struct mem *m = o->env->mem;
    struct partition *p = MEM_NEW(m, struct partition);
    INIT_OBJ(p, PARTITION_MAGIC);
    p->env = o->env;
    p->loop = loop_current();
    p->id = o->stream;
    p->leader_epoch = o->leader_epoch;
    p->index = o->index;
    p->producer_id_expiration_ms = o->producer_id_expiration_ms;
    p->conversions = o->conversions;
    p->config = *o->config;
    list_init(&p->turns);
    list_init(&p->watches);
    waitgroup_init(&p->users);
    waitq_init(&p->woken);
    timer_init(&p->wake, on_wake);
    /* Until it is open, on_durable may come already: it finds no watch. */
    enum err e = stream_open(o->streams, o->stream, o->leader_epoch, on_durable, p, &p->live, &p->stream);
    if (e != OK) {
        p->magic = 0;
        mem_free(m, p);
        return e;
    }
    ASSERT(p->live.end_offset == stream_appended_end(p->stream) && p->live.start_offset <= p->live.end_offset);
    p->topic = mem_strdup(m, o->topic);
    uint64_t seed;
    env_random(o->env, &seed, sizeof(seed));
    rng_seed(&p->rng, seed);
    partition_draw_jitter(p);
    p->segment_opened_ms = p->appended_ms = env_wall_ms(p->env);
    state_expiry_begin(&p->live, &p->expiry, env_now_ns(p->env), p->appended_ms);
    take_durability(p);
    partition_count_producers(p);
    p->opened_start = p->live.start_offset;
    p->opened_end = p->live.end_offset;
    p->opened_bytes = p->bytes_end = live_bytes(&p->live);
    *out = p;
    return OK;
}

bool partition_enter(struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    ASSERT(p->loop == loop_current());
    if (p->closing) return false;
    waitgroup_add(&p->users);
    return true;
}

void partition_leave(struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    waitgroup_done(&p->users);
}

void partition_close(struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    ASSERT(!p->closing);
    p->closing = true;
    partition_wake_soon(p);
    waitgroup_wait(&p->users);
    while (!list_empty(&p->watches)) waitq_wait(&p->woken);
    timer_disarm(&p->wake);
    ASSERT(list_empty(&p->turns));
    stream_close(p->stream);
    state_deinit(&p->live);
    p->live.producers.count = 0;
    partition_count_producers(p);
    struct mem *m = p->env->mem;
    mem_free(m, p->marks);
    mem_free(m, p->topic);
    p->magic = 0;
    mem_free(m, p);
}

void partition_configure(struct partition *p, const struct topic_config *config) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    bool redraw =
        p->config.segment_jitter_ms != config->segment_jitter_ms || p->config.segment_ms != config->segment_ms;
    p->config = *config;
    if (redraw) partition_draw_jitter(p);
    take_durability(p);
}

void partition_set_producer_expiration(struct partition *p, int64_t ms) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    p->producer_id_expiration_ms = ms;
}

/* Watches. They are called from the loop itself: when the stream tells that the durable end has moved, or by a timer
 * that is due at once. */

static void watches_call(struct partition *p) {
    struct list due;
    list_init(&due);
    uint64_t high_watermark = stream_durable_end(p->stream), start_offset = stream_durable_start(p->stream);
    LIST_EACH_SAFE(it, &p->watches) {
        struct partition_watch *w = LIST_ENTRY(it, struct partition_watch, node);
        if (!p->closing && w->offset >= high_watermark && w->start_offset >= start_offset) continue;
        list_remove(it);
        list_push_back(&due, it);
    }
    /* What a watch does may take others off (also those still in `due`) or put itself on again. */
    struct list *node;
    while ((node = list_pop_front(&due)) != NULL) {
        struct partition_watch *w = LIST_ENTRY(node, struct partition_watch, node);
        w->ready(w);
    }
    if (p->closing && list_empty(&p->watches)) waitq_wake_all(&p->woken);
}

static void on_durable(void *ctx) {
    struct partition *p = ctx;
    CHECK_OBJ(p, PARTITION_MAGIC);
    if (list_empty(&p->watches)) return;
    if (fiber_self() == NULL) {
        watches_call(p);
    } else {
        partition_wake_soon(p); /* a log that shares this loop confirms from a fiber of its own */
    }
}

static void on_wake(struct timer *t) {
    struct partition *p = CONTAINER_OF(t, struct partition, wake);
    CHECK_OBJ(p, PARTITION_MAGIC);
    watches_call(p);
}

void partition_wake_soon(struct partition *p) {
    if (!list_empty(&p->watches) && !timer_armed(&p->wake)) timer_arm(&p->wake, 0);
}

void partition_watch_init(struct partition_watch *w, void (*ready)(struct partition_watch *w)) {
    list_init(&w->node);
    w->offset = 0;
    w->start_offset = UINT64_MAX;
    w->ready = ready;
}

void partition_watch_on(struct partition *p, struct partition_watch *w, uint64_t offset) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    ASSERT(list_empty(&w->node));
    w->offset = offset;
    list_push_back(&p->watches, &w->node);
    bool due = offset < stream_durable_end(p->stream) || w->start_offset < stream_durable_start(p->stream);
    if (p->closing || due) partition_wake_soon(p);
}

void partition_watch_off(struct partition_watch *w) {
    list_remove(&w->node);
}

/* Getters: only what is durable is shown. */

uint64_t partition_high_watermark(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return stream_durable_end(p->stream);
}

uint64_t partition_log_start_offset(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return stream_durable_start(p->stream);
}

uint64_t partition_last_stable_offset(const struct partition *p) {
    return partition_high_watermark(p);
}

int32_t partition_leader_epoch(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return p->leader_epoch;
}

struct stream_id partition_stream(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return p->id;
}

uint64_t partition_size_bytes(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return p->live.start_offset < p->live.end_offset ? live_bytes(&p->live) : 0;
}

void partition_cleaned(struct partition *p, const struct stream_state *progress) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    enum err e = state_apply_cleaned(&p->live, progress);
    ASSERT(e == OK); /* live is ahead */
}

bool partition_down_converts(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return p->config.message_downconversion_enable != 0;
}

bool partition_is_zstd(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return p->config.compression_type == TOPIC_COMPRESSION_ZSTD;
}

const struct partition_counters *partition_counters(const struct partition *p) {
    CHECK_OBJ(p, PARTITION_MAGIC);
    return &p->counters;
}

enum err partition_check_epoch(const struct partition *p, int32_t current_leader_epoch) {
    if (current_leader_epoch < 0 || current_leader_epoch == p->leader_epoch) return OK;
    return current_leader_epoch < p->leader_epoch ? ERR_FENCED_LEADER_EPOCH : ERR_UNKNOWN_LEADER_EPOCH;
}

/* Turns. */

void partition_turn_take(struct partition *p, struct partition_turn *t) {
    t->waiting = NULL;
    list_push_back(&p->turns, &t->node);
}

void partition_turn_await(struct partition *p, struct partition_turn *t) {
    while (p->turns.next != &t->node) {
        t->waiting = fiber_self();
        fiber_park();
    }
    t->waiting = NULL;
}

void partition_turn_end(struct partition *p, struct partition_turn *t) {
    list_remove(&t->node);
    if (list_empty(&p->turns)) return;
    struct partition_turn *first = LIST_ENTRY(p->turns.next, struct partition_turn, node);
    if (first->waiting) fiber_unpark(first->waiting);
}
