/* Old formats on their way in and out: workers and their memory. */
#include "partition/conversions.h"

#include "base/assert.h"
#include "partition/partition_priv.h"

/* Converted where the loop is: at most so much packed, and unfolding to at most so much. */
#define INLINE_PACKED ((size_t)16 << 10)
#define INLINE_UNPACKED ((size_t)64 << 10)
/* How far things ordinarily unfold. */
#define USUAL_RATIO 8

void conversions_init(struct conversions *c, struct env *env, uint64_t limit_bytes) {
    *c = (struct conversions){.env = env, .limit_bytes = limit_bytes};
    fiber_mutex_init(&c->order);
    waitq_init(&c->room);
}

/* Suspends until there is room, in order of arrival. */
static void take(struct conversions *c, uint64_t bytes) {
    fiber_mutex_lock(&c->order);
    while (c->used_bytes > 0 && (bytes > c->limit_bytes || c->used_bytes > c->limit_bytes - bytes))
        waitq_wait(&c->room);
    c->used_bytes += bytes;
    metric_gauge_add(c->env->metrics, M_CONVERSION_BYTES, (int64_t)bytes);
    fiber_mutex_unlock(&c->order);
}

static void give(struct conversions *c, uint64_t bytes) {
    ASSERT(bytes <= c->used_bytes);
    c->used_bytes -= bytes;
    metric_gauge_add(c->env->metrics, M_CONVERSION_BYTES, -(int64_t)bytes);
    waitq_wake_one(&c->room); /* there is at most one: the others wait for its lock */
}

static size_t first_limit(size_t packed) {
    size_t guess = packed < PARTITION_UNPACK_MAX / USUAL_RATIO ? packed * USUAL_RATIO : PARTITION_UNPACK_MAX;
    guess = guess < INLINE_UNPACKED ? INLINE_UNPACKED : guess;
    return guess < PARTITION_UNPACK_MAX ? guess : PARTITION_UNPACK_MAX;
}

/* --- Up. */

struct up_job {
    struct conversions *c;
    struct conversion_up *u;
    struct buf *out;
    bool parsed;
    enum err result;
};

static void up_parse(struct up_job *j) {
    struct conversion_up *u = j->u;
    j->result = message_set_parse(u->data, u->size, u->message_max, &u->set, &u->why);
    j->parsed = true;
    if (j->result == OK && u->set.count > 0 && u->set.magic < 2)
        u->how.codec = u->codec_for(u->ctx, u->set.codec, &u->how.level);
}

static void up_run(void *arg) {
    struct up_job *j = arg;
    struct conversion_up *u = j->u;
    if (!j->parsed) up_parse(j);
    if (j->result != OK && j->result != ERR_TOO_LARGE) return;
    if (u->set.count == 0 || u->set.magic == 2) return;
    j->result = message_set_up_convert(&u->set, j->c->env->mem, &u->how, j->out, &u->check, &u->why);
}

/* Working memory: what it unfolds to, the records in their new form in a buffer that grows by doubling, and, with a
 * codec, those again. */
static uint64_t up_bytes(size_t limit) {
    return (uint64_t)limit * 4;
}

enum err conversions_up(struct conversions *c, struct conversion_up *u, void (*await)(void *ctx), struct buf *out) {
    ASSERT(out->size == 0);
    struct up_job j = {.c = c, .u = u, .out = out};
    u->held_bytes = 0;
    u->how.unpack_limit = INLINE_UNPACKED;
    if (u->size <= INLINE_PACKED) {
        up_run(&j);
        if (j.result != ERR_TOO_LARGE) return j.result;
    }
    if (await) await(u->ctx);
    size_t limits[2] = {first_limit(u->size), PARTITION_UNPACK_MAX};
    for (int i = 0; i < 2; i++) {
        u->how.unpack_limit = limits[i];
        u->held_bytes = up_bytes(limits[i]);
        take(c, u->held_bytes);
        env_offload(c->env, up_run, &j);
        if (j.result == OK && out->capacity < u->held_bytes) {
            give(c, u->held_bytes - out->capacity);
            u->held_bytes = out->capacity;
        }
        if (j.result != ERR_TOO_LARGE) break;
        conversions_release(c, u);
    }
    return j.result;
}

void conversions_release(struct conversions *c, struct conversion_up *u) {
    if (u->held_bytes == 0) return;
    give(c, u->held_bytes);
    u->held_bytes = 0;
}

/* --- Down. */

struct down_job {
    struct conversions *c;
    struct message_set_down how;
    struct slices *records; /* batches */
    struct slab *set;       /* out; NULL: empty */
    enum err result;
};

/* A set on its way to a reader. */
struct set_slab {
    struct slab slab; /* its bytes lie behind */
    struct conversions *c;
};

static void set_slab_release(struct slab *slab) {
    struct set_slab *s = CONTAINER_OF(slab, struct set_slab, slab);
    atomic_fetch_sub_explicit(&s->c->out_bytes, slab->size, memory_order_relaxed);
    metric_gauge_add(s->c->env->metrics, M_CONVERSION_BYTES, -(int64_t)slab->size);
    mem_free(s->c->env->mem, s);
}

static struct slab *set_slab_create(struct conversions *c, const uint8_t *data, size_t size) {
    struct set_slab *s = mem_alloc(c->env->mem, sizeof(*s) + size);
    s->c = c;
    uint8_t *bytes = (uint8_t *)(s + 1);
    memcpy(bytes, data, size);
    slab_init(&s->slab, bytes, size, set_slab_release, NULL);
    atomic_fetch_add_explicit(&c->out_bytes, size, memory_order_relaxed);
    metric_gauge_add(c->env->metrics, M_CONVERSION_BYTES, (int64_t)size);
    return &s->slab;
}

static void down_run(void *arg) {
    struct down_job *j = arg;
    struct mem *mem = j->c->env->mem;
    struct buf out;
    buf_init(&out, mem);
    bool full = false;
    j->result = OK;
    for (size_t i = 0; i < j->records->count && !full && j->result == OK; i++) {
        const struct slice *s = &j->records->items[i];
        j->result = message_set_down_convert(s->data, s->size, mem, &j->how, &out, &full);
    }
    /* What was made before a batch that cannot be read is of use: the reader comes again for the rest. */
    if (j->result != OK && j->result != ERR_TOO_LARGE && out.size > 0) j->result = OK;
    if (j->result == OK && out.size > 0) j->set = set_slab_create(j->c, out.data, out.size);
    buf_deinit(&out);
}

/* Working memory: what a batch unfolds to, and the set twice while it is copied. */
static uint64_t down_bytes(const struct message_set_down *how, size_t limit) {
    return (uint64_t)limit + 3 * (uint64_t)how->max_bytes;
}

enum err conversions_down(struct conversions *c, const struct message_set_down *how, struct slices *records) {
    struct down_job j = {.c = c, .how = *how, .records = records, .result = ERR_TOO_LARGE};
    bool much = atomic_load_explicit(&c->out_bytes, memory_order_relaxed) >= c->limit_bytes;
    if (much && j.how.max_bytes > CONVERSIONS_LITTLE) {
        /* A part of a message would tell the reader that it asks for too little. */
        if (j.how.cut_first) j.how.whole_first = true;
        j.how.cut_first = false;
        j.how.max_bytes = CONVERSIONS_LITTLE;
    }
    size_t largest = 0;
    for (size_t i = 0; i < records->count; i++) {
        if (records->items[i].size > largest) largest = records->items[i].size;
    }
    j.how.unpack_limit = INLINE_UNPACKED;
    if (records->size_bytes <= INLINE_PACKED) down_run(&j);
    size_t limits[2] = {first_limit(largest), PARTITION_UNPACK_MAX};
    for (int i = 0; i < 2 && j.result == ERR_TOO_LARGE; i++) {
        j.how.unpack_limit = limits[i];
        uint64_t bytes = down_bytes(&j.how, limits[i]);
        take(c, bytes);
        env_offload(c->env, down_run, &j);
        give(c, bytes);
    }
    slices_clear(records);
    if (j.result == OK && j.set) slices_push(records, slice_of(j.set, 0, j.set->size));
    slab_unref(j.set);
    return j.result;
}
