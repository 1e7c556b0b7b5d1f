#include "broker/receive.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

#define SIZE_FIELD ((size_t)4)
#define FRAME_MIN 8 /* api key, version, correlation id */

/* --- The pool. */

void receive_pool_init(struct receive_pool *p, struct mem *m, uint64_t budget_bytes, struct metrics *metrics,
                       void (*freed)(void *ctx), void *ctx) {
    *p = (struct receive_pool){
        .mem = m, .metrics = metrics, .budget = {.limit_bytes = budget_bytes}, .freed = freed, .ctx = ctx};
}

void receive_pool_charge(struct receive_pool *p, size_t bytes) {
    p->budget.used_bytes += bytes;
    if (p->metrics) metric_gauge_add(p->metrics, M_RECEIVE_BYTES, (int64_t)bytes);
}

void receive_pool_uncharge(struct receive_pool *p, size_t bytes) {
    if (bytes == 0) return;
    budget_give(&p->budget, bytes);
    if (p->metrics) metric_gauge_add(p->metrics, M_RECEIVE_BYTES, -(int64_t)bytes);
    if (p->freed) p->freed(p->ctx);
}

static bool pool_has_room(const struct receive_pool *p, size_t bytes) {
    return p->budget.used_bytes + bytes + p->reserve_bytes <= p->budget.limit_bytes;
}

static void slab_drop(struct receive_slab *s) {
    ASSERT(s->refs > 0);
    if (--s->refs > 0) return;
    struct receive_pool *p = s->pool;
    ASSERT(s != p->current);
    receive_pool_uncharge(p, RECEIVE_SLAB_BYTES);
    if (!p->spare) {
        p->spare = s;
    } else {
        mem_free(p->mem, s);
    }
}

/* The slab to read into, with at least room_min free; NULL when the budget has none and `force` is not set. */
static struct receive_slab *pool_slab(struct receive_pool *p, size_t room_min, bool force) {
    struct receive_slab *s = p->current;
    if (s && s->refs == 1) s->used = 0;
    if (s && RECEIVE_SLAB_BYTES - s->used >= room_min) return s;
    /* The old one, if nobody refers to it, has just been emptied; so it is still in use: its charge stays. */
    if (!force && !pool_has_room(p, RECEIVE_SLAB_BYTES)) return NULL;
    if (s) {
        p->current = NULL;
        slab_drop(s);
    }
    if (p->spare) {
        s = p->spare;
        p->spare = NULL;
    } else {
        s = mem_alloc(p->mem, sizeof(*s) + RECEIVE_SLAB_BYTES);
    }
    *s = (struct receive_slab){.pool = p, .refs = 1};
    receive_pool_charge(p, RECEIVE_SLAB_BYTES);
    p->current = s;
    return s;
}

/* A buffer of at least `size` bytes: the one that was used last, which the processor's caches know best. */
static struct receive_buffer buffer_take(struct receive_pool *p, size_t size) {
    for (unsigned i = 0; size >= RECEIVE_SPARE_MIN && i < RECEIVE_SPARES; i++) {
        struct receive_buffer b = p->spares[i];
        if (b.size < size) continue;
        memmove(&p->spares[i], &p->spares[i + 1], (RECEIVE_SPARES - 1 - i) * sizeof(b));
        p->spares[RECEIVE_SPARES - 1] = (struct receive_buffer){0};
        return b;
    }
    return (struct receive_buffer){mem_alloc(p->mem, size), size};
}

/* Keeps it; the one that was not used for longest is freed if there are too many. */
static void buffer_drop(struct receive_pool *p, struct receive_buffer b) {
    if (b.size >= RECEIVE_SPARE_MIN && b.size <= RECEIVE_SPARE_MAX) {
        struct receive_buffer oldest = p->spares[RECEIVE_SPARES - 1];
        memmove(&p->spares[1], &p->spares[0], (RECEIVE_SPARES - 1) * sizeof(b));
        p->spares[0] = b;
        b = oldest;
    }
    mem_free(p->mem, b.data);
}

void receive_pool_trim(struct receive_pool *p) {
    for (unsigned i = 0; i < RECEIVE_SPARES; i++) {
        mem_free(p->mem, p->spares[i].data);
        p->spares[i] = (struct receive_buffer){0};
    }
    mem_free(p->mem, p->spare);
    p->spare = NULL;
}

void receive_pool_deinit(struct receive_pool *p) {
    p->freed = NULL;
    if (p->current) {
        struct receive_slab *s = p->current;
        p->current = NULL;
        slab_drop(s);
    }
    ASSERT(p->budget.used_bytes == 0 && p->frames == 0 && p->unproven_bytes == 0);
    receive_pool_trim(p);
}

/* --- Frames. */

void receive_frame_release(struct receive_pool *p, struct frame *f) {
    struct frame old = *f;
    *f = (struct frame){0};
    if (old.data) p->frames--;
    if (old.slab) slab_drop(old.slab);
    buffer_drop(p, (struct receive_buffer){old.own, old.own_size});
    receive_pool_uncharge(p, old.charged);
}

void receive_frame_detach(struct receive_pool *p, struct frame *f) {
    if (!f->slab) return;
    struct receive_slab *s = f->slab;
    f->own_size = f->size;
    f->own = mem_alloc(p->mem, f->size);
    memcpy(f->own, f->data, f->size);
    f->data = f->own;
    f->slab = NULL;
    f->charged = f->size;
    receive_pool_charge(p, f->charged);
    slab_drop(s);
}

/* --- One connection's receiver. */

void receiver_init(struct receiver *r, struct receive_pool *p, size_t max_frame_bytes) {
    *r = (struct receiver){.pool = p, .max_frame_bytes = max_frame_bytes};
}

static void unproven_forget(struct receiver *r) {
    ASSERT(r->unproven <= r->pool->unproven_bytes);
    r->pool->unproven_bytes -= r->unproven;
    r->unproven = 0;
}

/* Gives up what is held; the bookkeeping of the connection stays. */
static void receiver_reset(struct receiver *r) {
    struct receive_slab *s = r->slab;
    struct receive_buffer own = {r->own, r->own_size};
    size_t charged = r->charged;
    unproven_forget(r);
    r->slab = NULL;
    r->own = r->at = NULL;
    r->have = r->capacity = r->own_size = r->charged = 0;
    if (s) slab_drop(s);
    buffer_drop(r->pool, own);
    receive_pool_uncharge(r->pool, charged);
}

static void favourite_leave(struct receiver *r) {
    struct receive_pool *p = r->pool;
    if (p->favourite != r) return;
    p->favourite = NULL;
    if (p->freed) p->freed(p->ctx);
}

void receiver_deinit(struct receiver *r) {
    receiver_reset(r);
    if (r->pool->lent == r) r->pool->lent = NULL;
    favourite_leave(r);
}

/* Bytes of the frame at `at` with its size field; 0 while that is not known. */
static size_t receiver_needs(const struct receiver *r) {
    return r->have < SIZE_FIELD ? 0 : SIZE_FIELD + be32_get(r->at);
}

static size_t own_capacity(const struct receiver *r, size_t needs) {
    size_t ahead = r->have * RECEIVE_AHEAD;
    if (ahead < RECEIVE_FIRST_BYTES) ahead = RECEIVE_FIRST_BYTES;
    if (ahead < r->proven) ahead = r->proven;
    if (ahead > needs) ahead = needs;
    if (pool_has_room(r->pool, ahead)) return ahead;
    /* Step by step, then, or with what has come: perhaps it has to wait. */
    size_t step = r->have + (r->have < RECEIVE_ROOM_MIN ? r->have : RECEIVE_ROOM_MIN + r->have / 4);
    return ahead < step ? ahead : step;
}

/* Is there more than `quarters` of what is kept back? */
static bool pool_has_reserve(const struct receive_pool *p, unsigned quarters) {
    return p->budget.used_bytes + p->reserve_bytes / 4 * quarters < p->budget.limit_bytes;
}

/* May this connection go on when the budget is used up? One may. */
static bool receiver_favoured(struct receiver *r) {
    struct receive_pool *p = r->pool;
    /* Who has sent a whole request before will do so again: the others might be many, and hold on to what they get. */
    bool better = !p->favourite || (r->proven > 0 && p->favourite->proven == 0);
    bool may = pool_has_reserve(p, r->proven > 0 ? 1 : 3);
    if (!may && p->frames == 0) { /* nothing is there that would end by itself */
        uint64_t more = p->reserve_bytes > 0 ? p->reserve_bytes / 4 : r->max_frame_bytes;
        may = r->proven > 0 ? p->budget.used_bytes < p->budget.limit_bytes + more
                            : p->reserve_bytes == 0 || pool_has_reserve(p, 1);
    }
    if (better && may) p->favourite = r;
    return p->favourite == r;
}

/* What is asked for counts, whatever has come of it: the allocator may have handed it out before. */
static void own_charge(struct receiver *r) {
    ASSERT(r->capacity >= r->charged);
    receive_pool_charge(r->pool, r->capacity - r->charged);
    r->charged = r->capacity;
    if (r->proven > 0) return;
    r->pool->unproven_bytes += r->charged - r->unproven;
    r->unproven = r->charged;
}

/* Room for more of what it sends, without being the favourite? */
static bool receiver_has_room(const struct receiver *r) {
    const struct receive_pool *p = r->pool;
    bool tried = r->proven > 0 || p->reserve_bytes == 0 || p->unproven_bytes <= p->budget.limit_bytes / 2;
    return tried && pool_has_room(p, 1);
}

static void own_grow(struct receiver *r) {
    own_charge(r);
    if (r->own_size >= r->capacity) return;
    r->own = r->at = mem_realloc(r->pool->mem, r->own, r->capacity);
    r->own_size = r->capacity;
}

static struct env_bytes room_own(struct receiver *r) {
    size_t needs = receiver_needs(r);
    if (needs == 0) return (struct env_bytes){r->at + r->have, SIZE_FIELD - r->have};
    if (r->have == r->capacity) {
        r->capacity = own_capacity(r, needs);
        own_grow(r);
    }
    ASSERT(r->have < r->capacity && r->capacity <= needs);
    return (struct env_bytes){r->at + r->have, r->capacity - r->have};
}

bool receive_pool_is_stuck(const struct receive_pool *p) {
    return !p->favourite && p->frames == 0 && !pool_has_reserve(p, 1);
}

/* Between two requests, while there is no room for many. */
static struct env_bytes room_little(struct receiver *r) {
    struct receive_pool *p = r->pool;
    const struct env_bytes none = {NULL, 0};
    if (r->have > 0 || p->reserve_bytes == 0 || !pool_has_reserve(p, 2)) return none;
    bool force = p->budget.used_bytes + RECEIVE_SLAB_BYTES <= p->budget.limit_bytes;
    struct receive_slab *s = pool_slab(p, RECEIVE_LITTLE_BYTES, force);
    if (!s) return none;
    p->lent = r;
    return (struct env_bytes){s->data + s->used, RECEIVE_LITTLE_BYTES};
}

struct env_bytes receiver_room(struct receiver *r) {
    struct receive_pool *p = r->pool;
    p->lent = NULL;
    bool room = receiver_has_room(r);
    if (!room) {
        struct env_bytes little = room_little(r);
        if (little.size > 0) return little;
        if (!receiver_favoured(r)) return little;
    }
    if (r->own) return room_own(r);
    if (r->slab) return (struct env_bytes){r->at + r->have, r->capacity - r->have};
    /* Where a frame like the last one would not fit, most of it would have to be moved. */
    bool fits = r->proven > RECEIVE_ROOM_MIN && r->proven <= RECEIVE_SLAB_BYTES / 2;
    size_t room_min = fits ? r->proven : RECEIVE_ROOM_MIN;
    struct receive_slab *s = pool_slab(p, room_min, !room);
    if (!s && receiver_favoured(r)) s = pool_slab(p, room_min, true);
    if (!s) return (struct env_bytes){NULL, 0};
    p->lent = r;
    size_t size = RECEIVE_SLAB_BYTES - s->used;
    return (struct env_bytes){
        s->data + s->used, r->proven > RECEIVE_SLAB_BYTES / 2 && size > RECEIVE_PEEK_BYTES ? RECEIVE_PEEK_BYTES : size};
}

void receiver_received(struct receiver *r, size_t size) {
    struct receive_pool *p = r->pool;
    if (r->own) {
        ASSERT(r->have + size <= (r->capacity ? r->capacity : SIZE_FIELD));
    } else if (!r->slab) {
        ASSERT(p->lent == r && p->current);
        struct receive_slab *s = p->current;
        ASSERT(size <= RECEIVE_SLAB_BYTES - s->used);
        s->refs++;
        r->slab = s;
        r->at = s->data + s->used;
        r->capacity = size;
        s->used += size;
    }
    p->lent = NULL;
    r->have += size;
    ASSERT(r->have <= r->capacity);
}

/* A part of a frame in the slab: reserves the rest behind it or moves it out. It has just arrived, so that nothing lies
 * behind it. */
static void receiver_settle(struct receiver *r) {
    if (!r->slab || r->capacity > r->have) return;
    struct receive_slab *s = r->slab;
    size_t needs = receiver_needs(r);
    size_t position = (size_t)(r->at - s->data);
    ASSERT(position + r->have == s->used);
    if (needs > 0 && needs <= RECEIVE_SLAB_BYTES - position && r->have >= needs / RECEIVE_AHEAD) {
        r->capacity = needs;
        s->used = position + needs;
        return;
    }
    s->used -= r->have;
    size_t capacity = needs ? own_capacity(r, needs) : SIZE_FIELD;
    struct receive_buffer own = buffer_take(r->pool, capacity);
    r->own = own.data;
    r->own_size = own.size;
    memcpy(r->own, r->at, r->have);
    r->at = r->own;
    r->capacity = capacity;
    own_charge(r);
    r->slab = NULL;
    slab_drop(s);
}

/* Takes the first `needs` bytes as a frame. */
static void receiver_take(struct receiver *r, size_t needs, struct frame *f) {
    *f = (struct frame){.data = r->at + SIZE_FIELD, .size = needs - SIZE_FIELD};
    r->pool->frames++;
    r->proven = needs;
    unproven_forget(r);
    if (r->own) {
        ASSERT(r->have == needs);
        f->own = r->own;
        f->own_size = r->own_size;
        f->charged = r->charged;
        r->own = r->at = NULL;
        r->have = r->capacity = r->own_size = r->charged = 0;
    } else {
        r->slab->refs++;
        f->slab = r->slab;
        r->at += needs;
        r->have -= needs;
        r->capacity -= needs;
        if (r->have == 0) receiver_reset(r);
    }
    favourite_leave(r);
}

enum err receiver_next(struct receiver *r, struct frame *f, int64_t *announced) {
    if (r->have == 0) {
        receiver_reset(r);
        return ERR_NOT_FOUND;
    }
    if (r->have >= SIZE_FIELD) {
        *announced = (int32_t)be32_get(r->at);
        if (*announced < FRAME_MIN) return ERR_PROTOCOL;
        if ((uint64_t)*announced > r->max_frame_bytes) return ERR_TOO_LARGE;
        size_t needs = receiver_needs(r);
        if (r->have >= needs) {
            receiver_take(r, needs, f);
            return OK;
        }
    }
    receiver_settle(r);
    return ERR_NOT_FOUND;
}
