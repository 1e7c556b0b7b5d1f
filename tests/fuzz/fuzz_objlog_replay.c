/* A log of any entries, replayed. What lies in the store is made of the input: for each entry u8 number (0 to 31), u8
 * flags (1-2 kind, 4 its predecessor is the entry before it, else any; 8 a nonce of its own, else one that comes again;
 * 16 no predecessor, 32 its head is damaged, 64 the object ends early, 128 it stands under the next number), u8
 * boundary, u8 size of its head. So entries are sound one by one and hang together as they please.
 * A replay ends. What it applies are consecutive numbers, each naming the one before, beginning with 0 or a checkpoint;
 * a reset begins anew; where it ends is a hole or a fence. objlog_write.c is included, so that waiting takes no time. */
#define objlog_backoff objlog_backoff_that_waits
#include "objlog/objlog_write.c"
#undef objlog_backoff

#include "base/log.h"
#include "feed.h"

#define NUMBERS 33u
#define PREFIX "gen/cluster"

void objlog_backoff(struct objlog *l, unsigned attempt);
void objlog_backoff(struct objlog *l, unsigned attempt) {
    (void)l, (void)attempt;
}

struct many_objects {
    struct store base;
    uint8_t *data[NUMBERS];
    size_t size[NUMBERS];
    uint64_t gets;
};

static struct many_objects *objects_of(struct store *s) {
    return (struct many_objects *)(void *)s;
}

static enum err get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                    struct slice *out) {
    (void)purpose;
    struct many_objects *o = objects_of(s);
    uint64_t n;
    bool ours = objlog_key_parse(PREFIX, key, &n);
    ASSERT(ours && ++o->gets < 100000);
    if (n >= NUMBERS || !o->data[n]) return ERR_NOT_FOUND;
    if (position > o->size[n]) position = o->size[n];
    if (size > o->size[n] - position) size = o->size[n] - (size_t)position;
    if (size == 0) return OK;
    struct slab *slab = slab_create(s->env->mem, size, 16);
    memcpy(slab->data, o->data[n] + position, size);
    *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return OK;
}

static enum err list(struct store *s, const char *prefix, const char *after, size_t max, struct store_listing *out) {
    struct many_objects *o = objects_of(s);
    ASSERT(strcmp(prefix, PREFIX "/") == 0);
    for (uint64_t n = 0; n < NUMBERS; n++) {
        char key[OBJLOG_KEY_MAX];
        objlog_key(key, sizeof(key), PREFIX, n);
        if (!o->data[n] || (after && strcmp(key, after) <= 0)) continue;
        if (out->count == max) {
            out->more = true;
            break;
        }
        store_listing_add(out, key, o->size[n]);
    }
    return OK;
}

static struct objlog_nonce nonce_of(unsigned n) {
    struct objlog_nonce nonce = {{1}};
    nonce.bytes[15] = (uint8_t)n;
    return nonce;
}

static void entry_make(struct many_objects *o, struct mem *m, struct feed *f) {
    unsigned number = feed_u8(f) & 31;
    uint8_t flags = feed_u8(f), boundary = feed_u8(f);
    size_t head_size;
    const uint8_t *head = feed_bytes(f, feed_u8(f), &head_size);
    struct objlog_header h = {.kind = (enum objlog_kind)(OBJLOG_DATA + (flags & 3)),
                              .number = number,
                              .nonce = nonce_of(flags & 8 ? number : flags >> 6),
                              .boundary = number > 0 ? boundary % number : 0,
                              .head_size = head_size,
                              .head_crc = crc32c(0, head, head_size) ^ (flags & 32 ? 1u : 0u)};
    if (number > 0 && !(flags & 16)) h.previous = nonce_of(flags & 4 ? number - 1 : boundary);
    unsigned place = flags & 128 ? number + 1 : number;
    mem_free(m, o->data[place]);
    o->size[place] = OBJLOG_HEADER_SIZE + head_size;
    o->data[place] = mem_alloc(m, o->size[place]);
    objlog_header_encode(&h, o->data[place]);
    memcpy(o->data[place] + OBJLOG_HEADER_SIZE, head, head_size);
    if (flags & 64) o->size[place] -= boundary % (o->size[place] + 1);
}

struct follower {
    bool any;
    struct objlog_header last;
    unsigned resets;
};

static enum err apply(void *ctx, const struct objlog_entry *e) {
    struct follower *w = ctx;
    const struct objlog_header *h = &e->header;
    ASSERT(e->head.size == h->head_size && crc32c(0, e->head.data, e->head.size) == h->head_crc);
    if (w->any) {
        ASSERT(h->number == w->last.number + 1 && w->last.kind != OBJLOG_FENCE);
        bool ahead = h->kind == OBJLOG_FENCE && objlog_nonce_is_zero(&h->previous);
        ASSERT(ahead || objlog_nonce_equal(&h->previous, &w->last.nonce));
    } else {
        ASSERT(h->number == 0 || h->kind == OBJLOG_CHECKPOINT);
    }
    w->any = true;
    w->last = *h;
    return OK;
}

static void reset(void *ctx) {
    struct follower *w = ctx;
    w->any = false;
    w->resets++;
    ASSERT(w->resets < 1000);
}

static uint64_t now_ns(struct env *e) {
    (void)e;
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    static const struct env_ops env_ops = {.now_ns = now_ns};
    static const struct store_ops store_ops = {.get = get, .list = list};
    struct metrics *metrics = MEM_NEW(&m, struct metrics);
    struct logger log = {.level = LOG_NONE};
    struct env env = {.magic = ENV_MAGIC, .ops = &env_ops, .mem = &m, .metrics = metrics, .log = &log};
    struct many_objects store = {.base = {.magic = STORE_MAGIC, .ops = &store_ops, .env = &env}};
    struct feed f = feed_of(data, size);
    for (unsigned i = 0; i < 64 && feed_left(&f) > 0; i++) entry_make(&store, &m, &f);
    struct objlog_options o = {.store = &store.base, .prefix = PREFIX, .depth = 1, .purpose = STORE_FOR_CLUSTER_LOG};
    struct objlog *l = objlog_create(&o);
    struct follower w = {.any = false};
    struct objlog_replay replay = {apply, reset, &w};
    enum err e = objlog_recover(l, &replay);
    ASSERT(e == OK || e == ERR_NOT_FOUND || e == ERR_CORRUPT || e == ERR_TRUNCATED);
    if (e == OK) {
        uint64_t next = objlog_next(l);
        ASSERT(next <= NUMBERS && (w.any || next == 0));
        if (!w.any)
            ASSERT(!store.data[0]); /* what there is lies behind a hole: none of it was acknowledged */
        else if (w.last.kind == OBJLOG_FENCE)
            ASSERT(next == w.last.number);
        else
            ASSERT(next == w.last.number + 1 && (next == NUMBERS || !store.data[next]));
        if (w.any) ASSERT(objlog_boundary(l) <= w.last.number);
    }
    objlog_destroy(l);
    for (size_t i = 0; i < NUMBERS; i++) mem_free(&m, store.data[i]);
    metrics_deinit(metrics, &m);
    mem_free(&m, metrics);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
