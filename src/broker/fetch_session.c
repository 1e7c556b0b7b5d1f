#include "broker/fetch_session.h"

#include "base/assert.h"

#define SESSION_MAGIC 0xf5e55101u

struct session_topic {
    char *name; /* NULL: by id */
    size_t name_size;
    struct kafka_uuid id;
    struct map64 parts; /* by partition index */
};

struct session_part {
    struct list node; /* in session->order, or session->resting */
    struct fetch_session *session;
    struct session_topic *topic;
    struct partition_watch watch; /* on while it rests */
    int32_t index;
    int64_t offset;
    int32_t max_bytes, current_leader_epoch, last_fetched_epoch;
    /* What the client was told last; -1: nothing it could rely on. */
    int64_t high_watermark, log_start_offset;
};

struct fetch_session {
    unsigned magic;
    struct fetch_sessions *all;
    struct mem *mem;
    struct list node; /* in sessions->by_use */
    int32_t id, epoch;
    bool by_id;
    uint64_t made_ns, used_ns;
    struct mapstr topics;
    struct list order; /* of parts: those that brought records go to the end, so that all get their turn */
    struct list resting;
    size_t count, resting_count;
    void (*news)(void *ctx); /* of the fetch that waits; or NULL */
    void *news_ctx;
};

void fetch_sessions_init(struct fetch_sessions *s, struct mem *m, struct metrics *metrics, size_t max, size_t bytes_max,
                         unsigned index, unsigned stride, uint64_t seed) {
    ASSERT(stride > 0 && index < stride);
    *s = (struct fetch_sessions){
        .mem = m, .metrics = metrics, .max = max, .bytes_max = bytes_max, .index = index, .stride = stride};
    rng_seed(&s->rng, seed);
    map64_init(&s->by_id, m);
    list_init(&s->by_use);
}

static void count_bytes(struct fetch_sessions *s, size_t more, size_t less) {
    ASSERT(s->bytes + more >= less);
    s->bytes = s->bytes + more - less;
    if (s->metrics) metric_gauge_add(s->metrics, M_FETCH_SESSION_BYTES, (int64_t)more - (int64_t)less);
}

/* --- Parts of a session. */

static size_t topic_bytes(const struct session_topic *t) {
    return FETCH_SESSION_TOPIC_BYTES + 2 * t->name_size;
}

static const void *topic_key(bool by_id, const struct kafka_string *name, const struct kafka_uuid *id, size_t *size) {
    *size = by_id ? sizeof(id->bytes) : (size_t)(name->size > 0 ? name->size : 0);
    return by_id ? (const void *)id->bytes : (const void *)name->data;
}

static struct session_part *part_find(const struct fetch_session *s, const struct kafka_string *name,
                                      const struct kafka_uuid *id, int32_t index) {
    size_t size;
    const void *key = topic_key(s->by_id, name, id, &size);
    const struct session_topic *t = mapstr_get(&s->topics, key, size);
    return t ? map64_get(&t->parts, (uint32_t)index) : NULL;
}

static void topic_free(struct fetch_session *s, struct session_topic *t) {
    map64_deinit(&t->parts);
    mem_free(s->mem, t->name);
    mem_free(s->mem, t);
}

/* Whoever waits looks again. */
static void session_news(struct fetch_session *s) {
    void (*news)(void *) = s->news;
    s->news = NULL;
    if (news) news(s->news_ctx);
}

static void part_wake(struct session_part *p) {
    struct fetch_session *s = p->session;
    if (p->watch.offset == UINT64_MAX) return;
    partition_watch_off(&p->watch);
    p->watch.offset = UINT64_MAX;
    list_remove(&p->node);
    list_push_back(&s->order, &p->node);
    ASSERT(s->resting_count > 0);
    s->resting_count--;
}

static void part_has_news(struct partition_watch *w) {
    struct session_part *p = CONTAINER_OF(w, struct session_part, watch);
    CHECK_OBJ(p->session, SESSION_MAGIC);
    part_wake(p);
    session_news(p->session);
}

/* `told` is what the client knows of it. What happened since it was read is news. */
static void part_rest(struct session_part *p, const struct fetch_told *told) {
    struct fetch_session *s = p->session;
    if (p->watch.offset != UINT64_MAX) return;
    list_remove(&p->node);
    list_push_back(&s->resting, &p->node);
    s->resting_count++;
    p->watch.start_offset = (uint64_t)told->log_start_offset;
    partition_watch_on(told->still, &p->watch, (uint64_t)told->high_watermark);
}

static struct session_part *part_add(struct fetch_session *s, const struct kafka_string *name,
                                     const struct kafka_uuid *id, int32_t index) {
    size_t size;
    const void *key = topic_key(s->by_id, name, id, &size);
    struct session_topic *t = mapstr_get(&s->topics, key, size);
    if (!t) {
        t = MEM_NEW(s->mem, struct session_topic);
        if (!s->by_id) {
            t->name = mem_strndup(s->mem, name->data, size);
            t->name_size = size;
        }
        t->id = *id;
        map64_init(&t->parts, s->mem);
        mapstr_put(&s->topics, key, size, t);
        count_bytes(s->all, topic_bytes(t), 0);
    }
    struct session_part *p = map64_get(&t->parts, (uint32_t)index);
    if (p) return p;
    p = MEM_NEW(s->mem, struct session_part);
    p->session = s;
    p->topic = t;
    p->index = index;
    partition_watch_init(&p->watch, part_has_news);
    p->watch.offset = UINT64_MAX; /* awake */
    p->high_watermark = p->log_start_offset = -1;
    map64_put(&t->parts, (uint32_t)index, p);
    list_push_back(&s->order, &p->node);
    s->count++;
    count_bytes(s->all, FETCH_SESSION_PART_BYTES, 0);
    return p;
}

static void part_remove(struct fetch_session *s, struct session_part *p) {
    struct session_topic *t = p->topic;
    part_wake(p);
    map64_remove(&t->parts, (uint32_t)p->index);
    list_remove(&p->node);
    mem_free(s->mem, p);
    s->count--;
    count_bytes(s->all, 0, FETCH_SESSION_PART_BYTES);
    if (t->parts.count > 0) return;
    count_bytes(s->all, 0, topic_bytes(t));
    struct kafka_string name = kafka_string_view(t->name, t->name_size);
    size_t size;
    const void *key = topic_key(s->by_id, &name, &t->id, &size);
    mapstr_remove(&s->topics, key, size);
    topic_free(s, t);
}

static void session_remove(struct fetch_sessions *all, struct fetch_session *s) {
    CHECK_OBJ(s, SESSION_MAGIC);
    map64_remove(&all->by_id, (uint32_t)s->id);
    list_remove(&s->node);
    session_news(s);
    while (!list_empty(&s->resting)) part_remove(s, LIST_ENTRY(s->resting.next, struct session_part, node));
    while (!list_empty(&s->order)) part_remove(s, LIST_ENTRY(s->order.next, struct session_part, node));
    ASSERT(s->resting_count == 0 && s->count == 0 && s->topics.count == 0);
    mapstr_deinit(&s->topics);
    count_bytes(all, 0, FETCH_SESSION_BYTES);
    s->magic = 0;
    mem_free(s->mem, s);
}

void fetch_sessions_deinit(struct fetch_sessions *s) {
    while (!list_empty(&s->by_use)) session_remove(s, LIST_ENTRY(s->by_use.next, struct fetch_session, node));
    map64_deinit(&s->by_id);
}

static void session_touch(struct fetch_sessions *all, struct fetch_session *s, uint64_t now_ns) {
    s->used_ns = now_ns;
    list_remove(&s->node);
    list_push_back(&all->by_use, &s->node);
}

/* --- Slots. */

static bool drop_stale(struct fetch_sessions *all, uint64_t now_ns) {
    if (list_empty(&all->by_use)) return false;
    struct fetch_session *oldest = LIST_ENTRY(all->by_use.next, struct fetch_session, node);
    if (now_ns - oldest->used_ns < FETCH_SESSION_STALE_NS) return false;
    session_remove(all, oldest);
    return true;
}

/* Of the memory. How many topics there are shows when they are added: what turns out too large is dropped again. */
static bool sessions_make_bytes(struct fetch_sessions *all, size_t count, uint64_t now_ns) {
    size_t need = FETCH_SESSION_BYTES + count * FETCH_SESSION_PART_BYTES;
    if (need > all->bytes_max) return false;
    while (all->bytes > all->bytes_max - need) {
        if (!drop_stale(all, now_ns)) return false;
    }
    return true;
}

/* Makes room for a session of `count` partitions if it deserves it. */
static bool sessions_make_room(struct fetch_sessions *all, size_t count, uint64_t now_ns) {
    if (!sessions_make_bytes(all, count, now_ns)) return false;
    if (all->by_id.count < all->max) return true;
    if (drop_stale(all, now_ns)) return true;
    struct fetch_session *smallest = NULL;
    LIST_EACH(n, &all->by_use) {
        struct fetch_session *s = LIST_ENTRY(n, struct fetch_session, node);
        if (now_ns - s->made_ns < FETCH_SESSION_STALE_NS || s->count >= count) continue;
        if (!smallest || s->count < smallest->count) smallest = s;
    }
    if (!smallest) return false;
    session_remove(all, smallest);
    return true;
}

static int32_t sessions_new_id(struct fetch_sessions *all) {
    for (;;) {
        uint64_t v = rng_next(&all->rng) & 0x7fffffff;
        v = v - v % all->stride + all->index;
        if (v > 0 && v <= INT32_MAX && !map64_get(&all->by_id, v)) return (int32_t)v;
    }
}

static int32_t epoch_after(int32_t epoch) {
    return epoch == INT32_MAX ? 1 : epoch + 1;
}

/* --- Plans. */

static void part_update(struct session_part *p, const struct kafka_fetch_request_partition *in) {
    part_wake(p);
    p->offset = in->fetch_offset;
    p->max_bytes = in->partition_max_bytes;
    p->current_leader_epoch = in->current_leader_epoch;
    p->last_fetched_epoch = in->last_fetched_epoch;
}

static void plan_from_request(const struct kafka_fetch_request *in, bool by_id, struct arena *a,
                              struct fetch_plan *plan) {
    size_t total = 0;
    for (int32_t i = 0; i < in->topics.count; i++) total += (size_t)in->topics.items[i].partitions.count;
    plan->wants = ARENA_ARRAY(a, struct fetch_want, total);
    for (int32_t i = 0; i < in->topics.count; i++) {
        const struct kafka_fetch_request_topic *t = &in->topics.items[i];
        struct kafka_string name = {NULL, -1};
        if (!by_id) name = (struct kafka_string){arena_strndup(a, t->topic.data, (size_t)t->topic.size), t->topic.size};
        for (int32_t k = 0; k < t->partitions.count; k++) {
            const struct kafka_fetch_request_partition *p = &t->partitions.items[k];
            plan->wants[plan->count++] = (struct fetch_want){name,
                                                             t->topic_id,
                                                             p->partition,
                                                             p->fetch_offset,
                                                             p->partition_max_bytes,
                                                             p->current_leader_epoch,
                                                             p->last_fetched_epoch};
        }
    }
}

static void plan_from_session(const struct fetch_session *s, struct arena *a, struct fetch_plan *plan) {
    plan->count = 0;
    plan->resting = s->resting_count;
    plan->wants = ARENA_ARRAY(a, struct fetch_want, s->count - s->resting_count);
    const struct session_topic *last = NULL;
    struct kafka_string name = {NULL, -1};
    LIST_EACH(n, &s->order) {
        const struct session_part *p = LIST_ENTRY(n, struct session_part, node);
        if (p->topic != last) {
            last = p->topic;
            if (!s->by_id) name = kafka_string_view(arena_strndup(a, last->name, last->name_size), last->name_size);
        }
        plan->wants[plan->count++] = (struct fetch_want){
            name, last->id, p->index, p->offset, p->max_bytes, p->current_leader_epoch, p->last_fetched_epoch};
    }
    ASSERT(plan->count + plan->resting == s->count);
}

static void session_apply(struct fetch_session *s, const struct kafka_fetch_request *in) {
    for (int32_t i = 0; i < in->forgotten_topics_data.count; i++) {
        const struct kafka_fetch_request_forgotten_topic *t = &in->forgotten_topics_data.items[i];
        for (int32_t k = 0; k < t->partitions.count; k++) {
            struct session_part *p = part_find(s, &t->topic, &t->topic_id, t->partitions.items[k]);
            if (p) part_remove(s, p);
        }
    }
    for (int32_t i = 0; i < in->topics.count; i++) {
        const struct kafka_fetch_request_topic *t = &in->topics.items[i];
        for (int32_t k = 0; k < t->partitions.count; k++) {
            part_update(part_add(s, &t->topic, &t->topic_id, t->partitions.items[k].partition),
                        &t->partitions.items[k]);
        }
    }
}

enum err fetch_plan_make(struct fetch_sessions *all, const struct kafka_fetch_request *in, int16_t version,
                         uint64_t now_ns, struct arena *a, struct fetch_plan *plan) {
    *plan = (struct fetch_plan){.by_id = version >= 13};
    struct fetch_session *s = in->session_id > 0 ? map64_get(&all->by_id, (uint32_t)in->session_id) : NULL;
    if (version < 7 || in->session_epoch <= 0) {
        if (s) session_remove(all, s); /* closed: the client begins anew, or ends */
        plan->kind = version >= 7 && in->session_epoch == 0 ? FETCH_FULL : FETCH_WITHOUT_SESSION;
        plan_from_request(in, plan->by_id, a, plan);
        return OK;
    }
    if (!s) return ERR_FETCH_SESSION_ID_NOT_FOUND;
    if (s->by_id != plan->by_id) return ERR_FETCH_SESSION_TOPIC_ID;
    if (s->epoch != in->session_epoch) return ERR_INVALID_FETCH_SESSION_EPOCH;
    session_news(s); /* somebody who waited has been overtaken */
    session_apply(s, in);
    while (in->min_bytes > 1 && !list_empty(&s->resting))
        part_wake(LIST_ENTRY(s->resting.next, struct session_part, node));
    if (all->bytes > all->bytes_max) {
        session_remove(all, s);
        return ERR_FETCH_SESSION_ID_NOT_FOUND;
    }
    if (s->count == 0) {
        session_remove(all, s);
        plan->kind = FETCH_WITHOUT_SESSION;
        return OK;
    }
    session_touch(all, s, now_ns);
    s->epoch = epoch_after(s->epoch);
    plan->kind = FETCH_INCREMENTAL;
    plan->session_id = s->id;
    plan->next_epoch = s->epoch;
    plan_from_session(s, a, plan);
    return OK;
}

static void part_tell(struct session_part *p, const struct fetch_told *told) {
    /* After an error everything is told again. */
    p->high_watermark = told->error_code ? -1 : told->high_watermark;
    p->log_start_offset = told->error_code ? -1 : told->log_start_offset;
}

static bool told_differs(const struct session_part *p, const struct fetch_told *told) {
    return told->records_bytes > 0 || told->error_code != 0 || told->diverging ||
           p->high_watermark != told->high_watermark || p->log_start_offset != told->log_start_offset;
}

static int32_t session_create(struct fetch_sessions *all, const struct fetch_plan *plan, const struct fetch_told *told,
                              uint64_t now_ns) {
    if (plan->count == 0 || all->max == 0) return 0;
    if (!sessions_make_room(all, plan->count, now_ns)) return 0;
    struct fetch_session *s = MEM_NEW(all->mem, struct fetch_session);
    INIT_OBJ(s, SESSION_MAGIC);
    s->all = all;
    s->mem = all->mem;
    s->id = sessions_new_id(all);
    s->epoch = 1;
    s->by_id = plan->by_id;
    s->made_ns = s->used_ns = now_ns;
    count_bytes(all, FETCH_SESSION_BYTES, 0);
    mapstr_init(&s->topics, all->mem);
    list_init(&s->order);
    list_init(&s->resting);
    for (size_t i = 0; i < plan->count; i++) {
        const struct fetch_want *w = &plan->wants[i];
        struct session_part *p = part_add(s, &w->name, &w->id, w->index);
        p->offset = w->offset;
        p->max_bytes = w->max_bytes;
        p->current_leader_epoch = w->current_leader_epoch;
        p->last_fetched_epoch = w->last_fetched_epoch;
        part_tell(p, &told[i]);
        if (told[i].still) part_rest(p, &told[i]);
    }
    map64_put(&all->by_id, (uint32_t)s->id, s);
    list_push_back(&all->by_use, &s->node);
    if (all->bytes <= all->bytes_max) return s->id;
    session_remove(all, s);
    return 0;
}

enum err fetch_plan_finish(struct fetch_sessions *all, const struct fetch_plan *plan, const struct fetch_told *told,
                           bool *include, uint64_t now_ns, int32_t *session_id) {
    *session_id = 0;
    for (size_t i = 0; i < plan->count; i++) include[i] = true;
    if (plan->kind == FETCH_FULL) *session_id = session_create(all, plan, told, now_ns);
    if (plan->kind != FETCH_INCREMENTAL) return OK;
    struct fetch_session *s = map64_get(&all->by_id, (uint32_t)plan->session_id);
    if (!s) return ERR_FETCH_SESSION_ID_NOT_FOUND;
    if (s->epoch != plan->next_epoch) return ERR_INVALID_FETCH_SESSION_EPOCH;
    *session_id = s->id;
    for (size_t i = 0; i < plan->count; i++) {
        const struct fetch_want *w = &plan->wants[i];
        struct session_part *p = part_find(s, &w->name, &w->id, w->index);
        if (!p) continue;
        include[i] = told_differs(p, &told[i]);
        if (include[i]) part_tell(p, &told[i]);
        if (told[i].still) part_rest(p, &told[i]);
        if (told[i].records_bytes > 0) {
            list_remove(&p->node);
            list_push_back(&s->order, &p->node);
        }
    }
    return OK;
}

/* The plan's session, while the plan is its newest. */
static struct fetch_session *plan_session(const struct fetch_sessions *all, const struct fetch_plan *plan) {
    if (plan->kind != FETCH_INCREMENTAL) return NULL;
    struct fetch_session *s = map64_get(&all->by_id, (uint32_t)plan->session_id);
    return s && s->epoch == plan->next_epoch ? s : NULL;
}

void fetch_plan_wait(struct fetch_sessions *all, const struct fetch_plan *plan, const struct fetch_told *told,
                     bool *rested, void (*news)(void *ctx), void *ctx) {
    ASSERT(plan->kind == FETCH_INCREMENTAL);
    struct fetch_session *s = plan_session(all, plan);
    if (s) {
        ASSERT(!s->news);
        s->news = news;
        s->news_ctx = ctx;
    }
    for (size_t i = 0; i < plan->count; i++) {
        const struct fetch_want *w = &plan->wants[i];
        struct session_part *p = s && told[i].still ? part_find(s, &w->name, &w->id, w->index) : NULL;
        rested[i] = p && !told_differs(p, &told[i]);
        if (rested[i]) part_rest(p, &told[i]);
    }
}

bool fetch_plan_again(struct fetch_sessions *all, struct arena *a, struct fetch_plan *plan) {
    struct fetch_session *s = plan_session(all, plan);
    if (!s) return false;
    s->news = NULL;
    plan_from_session(s, a, plan);
    return true;
}

void fetch_plan_drop(struct fetch_sessions *all, const struct fetch_plan *plan) {
    struct fetch_session *s = plan_session(all, plan);
    if (s) s->news = NULL;
}
