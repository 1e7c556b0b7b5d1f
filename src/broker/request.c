/* A request from its frame to its answer: its memory and references, whether what it says is still true, how much it may
 * say, the fiber that works on it. When it starts and when its answer leaves is the connection's business (conn.c). */
#include "broker/request.h"

#include "base/assert.h"
#include "broker/broker.h"
#include "broker/conn_priv.h"
#include "kafka/kafka_messages.h"

/* Charged to the budget for a request, beside its bytes: what it takes while it waits, and the stack and arena of one that
 * is worked on. */
#define REQUEST_COST ((size_t)2048)
#define REQUEST_WORK_COST ((size_t)12 << 10)
#define ARENA_UNCOUNTED ((size_t)16 << 10) /* of what decoding took: more is charged */
#define DETACH_BELOW                                                                                                   \
    ((size_t)4096) /* smaller frames are copied out of the slab (except Produce, which lets go of it soon) */
#define MAKER_LOOKS_NS (20 * NS_PER_MS)
#define DECODE_UNCOUNTED ((size_t)1 << 20) /* what decoding a request may take without asking the budget */

/* --- How much there is to say. */

/* An eighth is for those that go on all the same: whose batch is more than was granted, and who is let in. */
static uint64_t answers_room(const struct conns *set) {
    uint64_t used = set->unsent_bytes + set->granted_bytes, limit = set->o.answer_bytes - set->o.answer_bytes / 8;
    return used < limit ? limit - used : 0;
}

bool conns_crowded(const struct conns *set) {
    const struct metrics *m = set->o.env->metrics;
    if (set->makers > 0) return true; /* who has begun goes first */
    if (set->o.answer_bytes > 0 && answers_room(set) == 0) return true;
    return memory_is_over(m, MEMORY_LOG_CACHE_LENT) || memory_is_over(m, MEMORY_BLOCK_CACHE_LENT);
}

bool conns_have_waiters(const struct conns *set) {
    return !list_empty(&set->crowded) || !list_empty(&set->due);
}

/* made: it is memory of the answer's own. */
static void request_grant(struct request *r, size_t bytes, bool made) {
    struct conns *set = r->conns;
    ASSERT(r->granted <= set->granted_bytes);
    int64_t before = r->made ? (int64_t)r->granted : 0, now = made ? (int64_t)bytes : 0;
    if (now != before) {
        metric_gauge_add(set->o.env->metrics, M_UNSENT_BYTES, now - before);
        metric_gauge_add(set->o.env->metrics, M_MADE_BYTES, now - before);
    }
    if (!made && set->maker == r) set->maker = NULL;
    set->granted_bytes = set->granted_bytes - r->granted + bytes;
    r->granted = bytes;
    r->made = made;
}

size_t request_answer_grant(struct request *r, size_t wanted) {
    struct conns *set = r->conns;
    request_grant(r, 0, false);
    uint64_t most = answers_room(set) / 2;
    if (most < CONN_ANSWER_MIN) most = CONN_ANSWER_MIN;
    if (conns_crowded(set)) most = CONN_ANSWER_LEAST;
    if (set->o.answer_bytes > 0 && wanted > most) wanted = (size_t)most;
    request_grant(r, wanted, false);
    return wanted;
}

static void request_answer_keep(struct request *r, size_t bytes) {
    struct conns *set = r->conns;
    if (r->granted <= bytes) return;
    request_grant(r, bytes, false);
    if (set->makers > 0) waitq_wake_all(&set->decode_waiters);
    if (conns_have_waiters(set)) conns_kick(set);
}

size_t request_answer_most(const struct request *r) {
    uint64_t limit = r->conns->o.answer_bytes;
    return limit > 0 ? (size_t)(limit - limit / 8) : SIZE_MAX;
}

/* Beside the others' answers; or where these are next to nothing, for it could wait forever else. */
static bool answer_has_room(const struct request *r, size_t bytes) {
    const struct conns *set = r->conns;
    uint64_t others = set->unsent_bytes + set->granted_bytes - r->granted, limit = set->o.answer_bytes;
    return others + bytes <= limit || others <= limit / 8;
}

/* Of who is let in one batch may be above the limit, at a time. */
static bool batch_has_room(const struct request *r, size_t bytes) {
    const struct conns *set = r->conns;
    if (bytes <= r->granted || set->o.answer_bytes == 0 || !r->conn || set->draining) return true;
    bool within = set->unsent_bytes + set->granted_bytes - r->granted <= set->o.answer_bytes;
    return answer_has_room(r, bytes) || (r->admitted && within);
}

bool request_answer_took(struct request *r, size_t bytes) {
    if (!batch_has_room(r, bytes)) return false;
    if (bytes > r->granted) request_grant(r, bytes, false);
    request_answer_keep(r, bytes);
    return true;
}

void request_answer_await(struct request *r, size_t bytes) {
    struct conns *set = r->conns;
    request_answer_keep(r, 0);
    set->makers++;
    while (!batch_has_room(r, bytes)) {
        /* Nobody tells when clients take something. */
        (void)waitq_wait_until(&set->decode_waiters, env_now_ns(set->o.env) + MAKER_LOOKS_NS);
    }
    set->makers--;
    request_grant(r, bytes, false);
    if (conns_have_waiters(set)) conns_kick(set);
}

void request_answer_make(struct request *r, size_t bytes, bool more) {
    struct conns *set = r->conns;
    if (bytes <= r->granted || bytes <= CONN_ANSWER_LEAST || set->o.answer_bytes == 0) return;
    /* It does not wait for each step. */
    size_t ahead = bytes + bytes / 4, most = request_answer_most(r);
    if (more && bytes < most) bytes = ahead < most ? ahead : most;
    set->makers++;
    /* Of those who wait for more only one holds a part already: so all the others end, and give it theirs. */
    bool first = set->maker != r;
    if (first) request_grant(r, 0, false);
    while ((first && more && set->maker) || !answer_has_room(r, bytes)) {
        /* Nobody tells when clients take something. */
        (void)waitq_wait_until(&set->decode_waiters, env_now_ns(set->o.env) + MAKER_LOOKS_NS);
    }
    if (more) set->maker = r;
    request_grant(r, bytes, true);
    set->makers--;
    if (conns_have_waiters(set)) conns_kick(set);
}

/* --- Its life. */

struct request *request_create(struct conn *c, struct conns *set, struct frame *f) {
    struct request *r = MEM_NEW(set->o.env->mem, struct request);
    INIT_OBJ(r, REQUEST_MAGIC);
    r->refs = 1;
    r->conns = set;
    r->conn = c;
    r->shard = set->o.shard;
    arena_init(&r->arena, set->o.env->mem);
    slices_init(&r->answer, set->o.env->mem);
    list_init(&r->due);
    bool produce = f->size >= 2 && be16_get(f->data) == KAFKA_API_PRODUCE;
    if (f->size < DETACH_BELOW && !produce) receive_frame_detach(&set->pool, f);
    r->frame = *f;
    r->charged = REQUEST_COST + REQUEST_WORK_COST;
    receive_pool_charge(&set->pool, r->charged);
    return r;
}

static void request_free(struct request *r) {
    struct conns *set = r->conns;
    ASSERT(list_empty(&r->due));
    request_answer_keep(r, 0);
    receive_frame_release(&set->pool, &r->frame);
    receive_pool_uncharge(&set->pool, r->charged);
    slices_deinit(&r->answer);
    arena_deinit(&r->arena);
    r->magic = 0;
    mem_free(set->o.env->mem, r);
}

void request_unref(struct request *r) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    ASSERT(r->refs > 0);
    if (--r->refs == 0) request_free(r);
}

void request_hold(struct request *r) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    r->refs++;
    waitgroup_add(&r->conns->requests);
}

void request_end(struct request *r) {
    struct conns *set = r->conns;
    request_unref(r);
    waitgroup_done(&set->requests);
}

void request_release_frame(struct request *r) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    r->info.body = NULL;
    r->info.body_size = 0;
    r->info.client_id = (struct kafka_string){NULL, -1};
    receive_frame_release(&r->conns->pool, &r->frame);
}

void request_charge(struct request *r, size_t bytes) {
    r->charged += bytes;
    receive_pool_charge(&r->conns->pool, bytes);
}

int16_t request_error(struct request *r, enum err e) {
    if (e == OK) return KAFKA_NONE;
    metric_add(r->conns->o.env->metrics, M_REQUEST_ERRORS, (unsigned)e, 1);
    r->accuses |= kafka_error_accuses(e);
    return kafka_error_of(e);
}

/* --- Freshness. */

/* Since when it must be known that this broker is in office; false: it need not be known. */
static bool request_fresh_since(const struct request *r, uint64_t *since_ns) {
    unsigned flags = r->api && !r->excused ? r->api->flags : 0;
    bool certain = r->accuses || (flags & API_CERTAIN);
    if (!r->conns->o.confirm_office || (!certain && !(flags & API_LEASED))) return false;
    uint64_t now = env_now_ns(r->conns->o.env);
    *since_ns = now > BROKER_LEASE_NS ? now - BROKER_LEASE_NS : 0;
    if (certain && *since_ns < r->received_ns) *since_ns = r->received_ns;
    return true;
}

bool request_is_fresh(const struct request *r) {
    uint64_t since_ns;
    return !request_fresh_since(r, &since_ns) || r->conns->o.office_known(r->conns->o.shard, since_ns);
}

bool request_stands(struct request *r) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    uint64_t since_ns;
    bool stands = !request_fresh_since(r, &since_ns) || r->conns->o.confirm_office(r->conns->o.shard, since_ns) == OK;
    r->excused = !stands;
    r->accuses &= stands;
    return stands;
}

/* --- Its end. */

static void request_finish(struct request *r, enum request_outcome outcome) {
    r->outcome = outcome;
    r->state = REQUEST_DONE;
    r->appended = true;
    r->wake = NULL;
    if (r->conn) {
        conn_flush_soon(r->conn);
    } else {
        slices_clear(&r->answer);
    }
}

void request_done(struct request *r, enum request_outcome outcome) {
    if (r->answered) return;
    r->answered = true;
    request_finish(r, outcome);
}

static bool request_encode(struct request *r, int16_t version, const void *response) {
    struct outbuf out;
    outbuf_init(&out, r->conns->o.env->mem);
    enum err e = kafka_response_encode(r->info.api, version, r->info.correlation_id, response, &out);
    if (e == OK) outbuf_finish(&out, &r->answer);
    outbuf_deinit(&out);
    if (e != OK) {
        log_error(r->conns->o.env->log, "answer cannot be encoded", "api=%s version=%d err=%s", r->info.api->name,
                  version, err_name(e));
    }
    return e == OK;
}

static void request_confirm_main(void *arg) {
    struct request *r = arg;
    request_finish(r, request_stands(r) ? REQUEST_ANSWER : REQUEST_CLOSE);
    request_end(r);
}

void request_answer(struct request *r, const void *response) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    if (r->answered) return;
    bool ok = !r->conn || request_encode(r, r->info.api_version, response);
    if (!ok || !r->conn || request_is_fresh(r)) {
        request_done(r, ok ? REQUEST_ANSWER : REQUEST_CLOSE);
        return;
    }
    /* It waits in its encoded form: what it was made of may go. */
    r->answered = true;
    r->wake = NULL;
    request_hold(r);
    fiber_spawn(r->conns->o.loop, "freshness", request_confirm_main, r);
}

void request_append_done(struct request *r) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    if (r->appended) return;
    r->appended = true;
    if (r->conn) conn_advance(r->conn);
}

void request_wait(struct request *r, void (*wake)(struct request *r, bool cancelled), void *waiter) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    ASSERT(r->state == REQUEST_RUNNING && r->refs > 0);
    request_hold(r);
    r->state = REQUEST_WAITING;
    r->wake = wake;
    r->waiter = waiter;
    r->charged -= REQUEST_WORK_COST;
    receive_pool_uncharge(&r->conns->pool, REQUEST_WORK_COST);
    request_answer_keep(r, 0);
    /* Whoever went away while the handler was looking is noticed here. */
    if (!r->conn || r->conns->draining) wake(r, !r->conn);
}

static void request_go(struct request *r) {
    list_remove(&r->due);
    fiber_spawn(r->conns->o.loop, r->info.api->name, r->resume, r->waiter);
}

void request_resume(struct request *r, size_t bytes, fiber_fn *main) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    struct conns *set = r->conns;
    ASSERT(r->state == REQUEST_WAITING && !r->resume);
    r->resume = main;
    bool goes = bytes == 0 || !r->conn || set->draining;
    if (goes || (list_empty(&set->due) && !conns_crowded(set))) {
        (void)request_answer_grant(r, bytes); /* many may begin before the first has read */
        request_go(r);
        return;
    }
    list_push_back(&set->due, &r->due);
    conns_arm_sweep(set);
}

void request_resume_now(struct request *r) {
    CHECK_OBJ(r, REQUEST_MAGIC);
    if (!list_empty(&r->due)) request_go(r);
}

void conns_resume_next(struct conns *set, bool admitted) {
    struct request *r = LIST_ENTRY(set->due.next, struct request, due);
    CHECK_OBJ(r, REQUEST_MAGIC);
    r->admitted |= admitted;
    (void)request_answer_grant(r, CONN_ANSWER_MIN);
    request_go(r);
}

/* --- The work. */

/* Decodes the body. Hardly any request takes much memory for that, whatever its size, for most of it is records and
 * names; one that does is decoded again with memory that was granted to it. Suspends then. *granted: to be given back.
 */
static enum err request_decode(struct request *r, void *in, size_t *granted) {
    struct conns *set = r->conns;
    const struct kafka_request_info *i = &r->info;
    r->arena.limit_bytes = r->arena.used_bytes + DECODE_UNCOUNTED;
    enum err e = kafka_decode(i->api->request, i->api_version, i->body, i->body_size, &r->arena, in);
    if (e == ERR_TOO_LARGE) {
        size_t bound = kafka_decode_bound(i->body_size) + KAFKA_ELEMENT_BYTES * i->body_size;
        if (bound > set->decode.limit_bytes) bound = (size_t)set->decode.limit_bytes;
        while (!budget_take(&set->decode, bound)) waitq_wait(&set->decode_waiters);
        metric_gauge_add(set->o.env->metrics, M_DECODE_BYTES, (int64_t)bound);
        *granted = bound;
        r->arena.limit_bytes = r->arena.used_bytes + bound;
        e = kafka_decode(i->api->request, i->api_version, i->body, i->body_size, &r->arena, in);
    }
    r->arena.limit_bytes = SIZE_MAX;
    if (*granted == 0 && r->arena.used_bytes > ARENA_UNCOUNTED) request_charge(r, r->arena.used_bytes);
    return e;
}

/* What a long list of questions has become counts as it will be sent, also where each answer is short. Who
 * was let in although there is too much goes on. Suspends. */
static void request_make_room(struct request *r, const void *out) {
    if (!(r->api->flags & API_LARGE) || r->made || r->admitted || r->arena.used_bytes <= CONN_ANSWER_LEAST) return;
    size_t size = 0;
    enum err e = kafka_encoded_size(r->info.api->response, r->info.api_version, out, &size);
    if (e == OK) request_answer_make(r, size, false); /* else encoding it will tell */
}

static enum request_outcome request_handle(struct request *r, size_t *granted) {
    const struct kafka_request_info *i = &r->info;
    void *in = arena_zalloc(&r->arena, i->api->request->size);
    void *out = kafka_new(i->api->response, &r->arena, 1);
    enum err e = request_decode(r, in, granted);
    if (e != OK) {
        if (r->conn)
            conn_complain(r->conn, "a %s request of version %d that cannot be read: %s", i->api->name, i->api_version,
                          err_text(e));
        return REQUEST_CLOSE;
    }
    enum request_outcome outcome = r->api->handle(r, in, out);
    if (outcome != REQUEST_ANSWER || r->answered) return outcome;
    if (r->conn && !request_stands(r)) return REQUEST_CLOSE;
    if (r->conn) request_make_room(r, out);
    return !r->conn || request_encode(r, i->api_version, out) ? REQUEST_ANSWER : REQUEST_CLOSE;
}

static void request_main(void *arg) {
    struct request *r = arg;
    CHECK_OBJ(r, REQUEST_MAGIC);
    struct conns *set = r->conns;
    size_t granted = 0;
    enum request_outcome outcome = request_handle(r, &granted);
    if (granted) {
        budget_give(&set->decode, granted);
        metric_gauge_add(set->o.env->metrics, M_DECODE_BYTES, -(int64_t)granted);
        waitq_wake_all(&set->decode_waiters);
    }
    if (outcome != REQUEST_LATER) {
        request_release_frame(r);
        request_done(r, outcome);
    }
    request_end(r);
}

void request_start(struct request *r) {
    r->state = REQUEST_RUNNING;
    request_hold(r);
    fiber_spawn(r->conns->o.loop, r->info.api->name, request_main, r);
}

void request_answer_versions(struct request *r) {
    static const struct api nothing;
    const struct api *api = r->api ? r->api : &nothing;
    struct kafka_api_versions_response *out = kafka_new(r->info.api->response, &r->arena, 1);
    out->error_code = KAFKA_UNSUPPORTED_VERSION;
    out->api_keys.items = kafka_new(&kafka_api_versions_response_api_type, &r->arena, 1);
    out->api_keys.count = 1;
    out->api_keys.items[0].api_key = api->key;
    out->api_keys.items[0].min_version = api->min_version;
    out->api_keys.items[0].max_version = api->max_version;
    bool ok = request_encode(r, 0, out);
    request_done(r, ok ? REQUEST_ANSWER : REQUEST_CLOSE);
}
