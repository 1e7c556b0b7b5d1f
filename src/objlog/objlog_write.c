/* Writing an object log: numbers are given out in the order of the calls, entries are created several at once, and each
 * call returns when its entry and all before it are durable.
 *
 * An attempt that fails leaves the outcome open or is known to have done nothing; either way the same bytes are sent
 * again. Nothing else may ever be sent to that number: the earlier attempt may still land. So there is nothing to
 * decide until the store answers OK or ERR_EXISTS, and then the header at that number tells whose it is.
 *
 * Chains of nonces need no waiting: a number's nonce is drawn when the number is given out. */
#include <inttypes.h>
#include <string.h>

#include "base/crc32c.h"
#include "objlog/objlog_priv.h"

#define DELETE_BATCH 500u
#define PIECES_ON_STACK 16u
#define OWNER_READS 4u

struct objlog *objlog_create(const struct objlog_options *o) {
    ASSERT(o->depth >= 1 && o->depth <= OBJLOG_DEPTH_MAX);
    ASSERT(o->store->magic == STORE_MAGIC);
    char key[OBJLOG_KEY_MAX];
    objlog_key(key, sizeof(key), o->prefix, UINT64_MAX);
    ASSERT(store_key_valid(key));
    struct objlog *l = MEM_NEW(o->store->env->mem, struct objlog);
    INIT_OBJ(l, OBJLOG_MAGIC);
    l->store = o->store;
    l->env = o->store->env;
    l->prefix = mem_strdup(l->env->mem, o->prefix);
    l->depth = o->depth;
    l->writer = o->writer;
    l->purpose = o->purpose;
    l->trimmed = o->trimmed;
    l->last_known = l->writable = true;
    l->fenced_at = UINT64_MAX;
    waitq_init(&l->turn);
    waitq_init(&l->halted);
    for (unsigned i = 0; i < OBJLOG_DEPTH_MAX; i++) waitq_init(&l->window[i].owner);
    return l;
}

void objlog_destroy(struct objlog *l) {
    if (!l) return;
    CHECK_OBJ(l, OBJLOG_MAGIC);
    ASSERT(l->appending == 0 && l->repeating == 0);
    struct mem *m = l->env->mem;
    mem_free(m, l->prefix);
    l->magic = 0;
    mem_free(m, l);
}

/* Everybody looks again. */
static void wake_everybody(struct objlog *l) {
    waitq_wake_all(&l->turn);
    waitq_wake_all(&l->halted);
    for (unsigned i = 0; i < OBJLOG_DEPTH_MAX; i++) waitq_wake_all(&l->window[i].owner);
}

void objlog_stop(struct objlog *l) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    l->stopped = true;
    wake_everybody(l);
}

static void fenced(struct objlog *l, uint64_t number) {
    if (number >= l->fenced_at) return;
    l->fenced_at = number;
    wake_everybody(l);
}

void objlog_backoff(struct objlog *l, unsigned attempt) {
    ASSERT(attempt > 0);
    uint64_t limit = attempt < 20 ? OBJLOG_BACKOFF_BASE_NS << attempt : OBJLOG_BACKOFF_CAP_NS;
    if (limit > OBJLOG_BACKOFF_CAP_NS) limit = OBJLOG_BACKOFF_CAP_NS;
    uint64_t random;
    env_random(l->env, &random, sizeof(random));
    (void)waitq_wait_until(&l->halted, env_now_ns(l->env) + 1 + random % limit);
}

/* One line when repeating starts and one when it ends, however many entries are under way. */
static void repeating_began(struct objlog *l, uint64_t number, enum err e) {
    if (l->repeating++ > 0) return;
    metric_gauge_add(l->env->metrics, M_STORE_FAILING, 1);
    log_warn(l->env->log, "object store refuses writes, repeating",
             "prefix=%s number=%" PRIu64 " error=%s reason=\"%s\"", l->prefix, number, err_name(e), err_text(e));
}

static void repeating_ended(struct objlog *l, uint64_t number, bool works) {
    ASSERT(l->repeating > 0);
    if (--l->repeating > 0) return;
    metric_gauge_add(l->env->metrics, M_STORE_FAILING, -1);
    if (works) log_info(l->env->log, "object store takes writes again", "prefix=%s number=%" PRIu64, l->prefix, number);
}

/* After ERR_EXISTS: OK, it is mine; ERR_EXISTS, it is not; anything else, the question is open. Whose it is is for the
 * header to say; what is no header may have been damaged on its way, and is read again before it is believed. */
static enum err owner_find(struct objlog *l, const char *key, const struct slice *header) {
    for (unsigned i = 1;; i++) {
        struct slice found = {0};
        struct objlog_header decoded;
        enum err e = store_get(l->store, key, 0, OBJLOG_HEADER_SIZE, l->purpose, &found);
        bool same = e == OK && found.size == header->size && memcmp(found.data, header->data, header->size) == 0;
        bool whole = e == OK && objlog_header_decode(found.data, found.size, &decoded) == OK;
        slice_unref(&found);
        if (e != OK) return e == ERR_NOT_FOUND ? ERR_UNKNOWN_OUTCOME : e; /* that it is not there proves nothing */
        if (same) return OK;
        if (whole || i == OWNER_READS) return ERR_EXISTS;
    }
}

/* For MUTANT_OTHER_BYTES. */
static void other_bytes(struct objlog *l, uint8_t header[OBJLOG_HEADER_SIZE]) {
    struct objlog_header h;
    if (objlog_header_decode(header, OBJLOG_HEADER_SIZE, &h) != OK) return;
    env_random(l->env, h.nonce.bytes, sizeof(h.nonce.bytes));
    objlog_header_encode(&h, header);
}

enum err objlog_put(struct objlog *l, uint64_t number, const struct slice *data, size_t count) {
    ASSERT(count >= 1 && data[0].size == OBJLOG_HEADER_SIZE);
    char key[OBJLOG_KEY_MAX];
    objlog_key(key, sizeof(key), l->prefix, number);
    enum err e;
    for (unsigned failures = 0;;) {
        if (l->stopped || number > l->fenced_at) {
            e = l->stopped ? ERR_CANCELLED : ERR_FENCED;
        } else {
            e = store_put(l->store, key, data, count, !env_mutant(l->env, MUTANT_NO_CONDITION), l->purpose);
            if (e == ERR_EXISTS) e = env_mutant(l->env, MUTANT_EXISTS_IS_OK) ? OK : owner_find(l, key, &data[0]);
            bool hopeful = env_mutant(l->env, MUTANT_UNKNOWN_IS_OK) ||
                           (env_mutant(l->env, MUTANT_MEMBER_UNKNOWN_IS_OK) && l->purpose == STORE_FOR_WAL);
            if (hopeful && err_class(e) == ERR_CLASS_UNKNOWN) e = OK;
            if (env_mutant(l->env, MUTANT_OTHER_BYTES) && e != OK) other_bytes(l, (uint8_t *)(uintptr_t)data[0].data);
        }
        bool gives_up = env_mutant(l->env, MUTANT_UNKNOWN_IS_FAILURE) && err_class(e) == ERR_CLASS_UNKNOWN;
        if (gives_up) e = ERR_CANCELLED;
        bool known = e == OK || e == ERR_EXISTS || gives_up;
        if (known || l->stopped || number > l->fenced_at) {
            if (failures > 0) repeating_ended(l, number, known);
            if (known) return e;
            return l->stopped ? ERR_CANCELLED : ERR_FENCED;
        }
        if (failures++ == 0) repeating_began(l, number, e);
        objlog_backoff(l, failures);
    }
}

/* Marks a number as mine, and moves the prefix over all that is whole now. */
static void entry_done(struct objlog *l, const struct objlog_header *h) {
    ASSERT(h->number >= l->durable && h->number < l->durable + l->depth);
    struct objlog_slot *slot = &l->window[h->number % OBJLOG_DEPTH_MAX];
    ASSERT(!slot->done);
    slot->done = true;
    slot->checkpoint = h->kind == OBJLOG_CHECKPOINT;
    slot->boundary = h->boundary;
    /* Those who waited have been told that it is not known: the prefix does not move over them any more, or who comes
     * behind would wait for their answers. */
    if (l->stopped) return;
    while (l->durable < l->next && l->durable < l->fenced_at) {
        slot = &l->window[l->durable % OBJLOG_DEPTH_MAX];
        if (!slot->done) break;
        if (slot->checkpoint && !l->trimmed) l->boundary = l->durable;
        if (slot->boundary > l->carried) l->carried = slot->boundary;
        slot->done = false;
        waitq_wake_all(&slot->owner); /* in the order of the numbers */
        l->durable++;
    }
    ASSERT(l->carried <= l->boundary);
    waitq_wake_all(&l->turn);
}

/* Sends the entry. OK: it lies there and is mine. */
static enum err entry_send(struct objlog *l, const struct objlog_header *h, const struct slice *head,
                           const struct slice *body, size_t body_count) {
    uint8_t header[OBJLOG_HEADER_SIZE];
    objlog_header_encode(h, header);
    struct slice on_stack[PIECES_ON_STACK], *data = on_stack;
    if (body_count + 2 > PIECES_ON_STACK) data = mem_alloc(l->env->mem, (body_count + 2) * sizeof(*data));
    size_t count = 0;
    data[count++] = slice_borrow(header, sizeof(header));
    if (h->head_size > 0) data[count++] = *head; /* the caller's references hold until we return */
    for (size_t i = 0; i < body_count; i++) data[count++] = body[i];
    enum err e = objlog_put(l, h->number, data, count);
    if (data != on_stack) mem_free(l->env->mem, data);
    if (e == ERR_EXISTS) {
        log_warn(l->env->log, "object log lost to another writer", "prefix=%s number=%" PRIu64, l->prefix, h->number);
        fenced(l, h->number);
        e = ERR_FENCED;
    }
    return e;
}

/* A number that is known not to be mine comes first: what lies below it may still become durable. */
static bool append_over(const struct objlog *l, uint64_t number) {
    return l->stopped || number >= l->fenced_at;
}

/* An entry that is there: until the prefix has reached it, and then until those before it have answered. */
static bool append_waits(const struct objlog *l, uint64_t number) {
    return number < l->durable ? l->answered < number : !append_over(l, number);
}

enum err objlog_append(struct objlog *l, enum objlog_kind kind, const struct slice *head, const struct slice *body,
                       size_t body_count, uint32_t body_crc, uint64_t *number) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    ASSERT(kind == OBJLOG_DATA || kind == OBJLOG_CHECKPOINT);
    ASSERT(l->writable && l->last_known);
    if (l->fenced_at != UINT64_MAX) return ERR_FENCED;
    if (l->stopped) return ERR_CANCELLED;
    struct objlog_header h = {.kind = kind,
                              .number = l->next++,
                              .previous = l->last,
                              .writer = l->writer,
                              .head_size = head ? head->size : 0,
                              .head_crc = head ? crc32c(0, head->data, head->size) : 0,
                              .body_crc = body_crc};
    for (size_t i = 0; i < body_count; i++) h.body_size += body[i].size;
    env_random(l->env, h.nonce.bytes, sizeof(h.nonce.bytes));
    l->last = h.nonce;
    *number = h.number;
    l->appending++;

    while (!append_over(l, h.number) && h.number >= l->durable + l->depth) waitq_wait(&l->turn);
    if (!append_over(l, h.number)) {
        h.boundary = l->boundary;
        enum err e = entry_send(l, &h, head, body, body_count);
        if (e == OK && h.number < l->fenced_at) entry_done(l, &h);
        bool hasty = e == OK && env_mutant(l->env, MUTANT_ACK_EARLY);
        while (e == OK && !hasty && append_waits(l, h.number))
            waitq_wait(&l->window[h.number % OBJLOG_DEPTH_MAX].owner);
        if (hasty || (e != OK && env_mutant(l->env, MUTANT_UNKNOWN_IS_FAILURE))) {
            l->appending--;
            return e;
        }
    }
    l->appending--;
    if (h.number < l->durable) {
        ASSERT(l->answered == h.number);
        l->answered++;
        waitq_wake_all(&l->window[l->answered % OBJLOG_DEPTH_MAX].owner);
        return OK;
    }
    return h.number >= l->fenced_at ? ERR_FENCED : ERR_CANCELLED;
}

uint64_t objlog_next(const struct objlog *l) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    return l->next;
}

uint64_t objlog_durable(const struct objlog *l) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    return l->durable;
}

void objlog_trim(struct objlog *l, uint64_t number) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    ASSERT(l->trimmed && number < l->durable);
    if (number > l->boundary) l->boundary = number;
}

uint64_t objlog_boundary(const struct objlog *l) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    return l->boundary;
}

uint64_t objlog_deletable_below(const struct objlog *l) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    if (env_mutant(l->env, MUTANT_TRIM_EARLY)) return l->boundary;
    return l->carried;
}

bool objlog_fenced(const struct objlog *l) {
    CHECK_OBJ(l, OBJLOG_MAGIC);
    return l->at_fence || l->fenced_at != UINT64_MAX;
}

enum err objlog_delete(struct store *s, const char *prefix, const uint64_t *numbers, size_t count) {
    struct mem *m = s->env->mem;
    size_t key_size = strlen(prefix) + 22, batch = count < DELETE_BATCH ? count : DELETE_BATCH;
    char *text = mem_alloc(m, batch * key_size);
    const char **keys = mem_alloc(m, batch * sizeof(*keys));
    enum err e = OK, refused = OK;
    for (size_t done = 0; done < count && e == OK; done += batch) {
        if (batch > count - done) batch = count - done;
        for (size_t i = 0; i < batch; i++) {
            objlog_key(text + i * key_size, key_size, prefix, numbers[done + i]);
            keys[i] = text + i * key_size;
        }
        e = store_delete(s, keys, batch, STORE_FOR_DELETION);
        if (e != ERR_PERMISSION) continue;
        refused = e; /* of some; the others go on */
        e = OK;
    }
    mem_free(m, keys);
    mem_free(m, text);
    return e == OK ? refused : e;
}
