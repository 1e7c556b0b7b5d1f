#include "unit/objlog/fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc32c.h"

/* --- The environment. */

static struct fixture *of_env(struct env *e) {
    return (struct fixture *)(void *)e;
}

static uint64_t now_ns(struct env *e) {
    return of_env(e)->now_ns;
}

static int64_t wall_ms(struct env *e) {
    return (int64_t)(of_env(e)->now_ns / NS_PER_MS);
}

static void random_bytes(struct env *e, void *out, size_t n) {
    rng_fill(&of_env(e)->rng, out, n);
}

static void wake(struct loop *l) {
    (void)l;
}

static const struct env_ops env_table = {
    .now_ns = now_ns, .wall_ms = wall_ms, .random = random_bytes, .loop_wake = wake};

static int64_t log_wall(void *ctx) {
    (void)ctx;
    return 0;
}

static void log_sink(void *ctx, const char *line, size_t size) {
    struct fixture *f = ctx;
    if (f->log_size + size >= sizeof(f->log)) return;
    memcpy(f->log + f->log_size, line, size);
    f->log_size += size;
}

unsigned fixture_log_count(const struct fixture *f, const char *text) {
    unsigned count = 0;
    for (const char *p = f->log; (p = strstr(p, text)) != NULL; p++) count++;
    return count;
}

/* --- The store. */

static size_t place_of(struct fixture *f, const char *key, bool *found) {
    size_t i = 0, end = f->object_count;
    while (i < end) {
        size_t middle = i + (end - i) / 2;
        if (strcmp(f->objects[middle].key, key) < 0) {
            i = middle + 1;
        } else {
            end = middle;
        }
    }
    *found = i < f->object_count && strcmp(f->objects[i].key, key) == 0;
    return i;
}

static bool object_insert(struct fixture *f, const char *key, const void *data, size_t size) {
    bool found;
    size_t i = place_of(f, key, &found);
    if (found) return false;
    f->objects = mem_grow(&f->mem, f->objects, f->object_count, &f->object_capacity, sizeof(*f->objects));
    memmove(&f->objects[i + 1], &f->objects[i], (f->object_count - i) * sizeof(*f->objects));
    f->object_count++;
    f->objects[i] = (struct object){mem_strdup(&f->mem, key), mem_alloc(&f->mem, size), size};
    memcpy(f->objects[i].data, data, size);
    return true;
}

static void object_erase(struct fixture *f, const char *key) {
    bool found;
    size_t i = place_of(f, key, &found);
    if (!found) return;
    mem_free(&f->mem, f->objects[i].key);
    mem_free(&f->mem, f->objects[i].data);
    memmove(&f->objects[i], &f->objects[i + 1], (--f->object_count - i) * sizeof(*f->objects));
}

static uint64_t number_of(const char *key) {
    size_t n = strlen(PREFIX);
    if (strncmp(key, PREFIX "/", n + 1) != 0) return UINT64_MAX;
    return strtoull(key + n + 1, NULL, 10);
}

static struct plan plan_take(struct fixture *f, enum store_op op, const char *key) {
    uint64_t number = number_of(key);
    f->requests[op]++;
    if (f->watch) f->watch(f, op, number);
    for (size_t i = 0; i < f->plan_count; i++) {
        if (f->plans[i].op != op || f->plans[i].number != number) continue;
        struct plan p = f->plans[i].plan;
        memmove(&f->plans[i], &f->plans[i + 1], (--f->plan_count - i) * sizeof(*f->plans));
        return p;
    }
    if (f->improvise) return f->improvise(f, op, key);
    return (struct plan){.delay_ms = 1};
}

struct late {
    struct fixture *fixture;
    char *key;
    uint8_t *data;
    size_t size;
    uint64_t ms;
};

static void land_late(void *arg) {
    struct late *l = arg;
    struct fixture *f = l->fixture;
    fiber_sleep_ns(l->ms * NS_PER_MS);
    (void)object_insert(f, l->key, l->data, l->size);
    mem_free(&f->mem, l->key);
    mem_free(&f->mem, l->data);
    mem_free(&f->mem, l);
}

static enum err fake_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                         enum store_purpose purpose) {
    (void)purpose;
    struct fixture *f = of_env(s->env);
    assert_true(create_only);
    if (++f->put_now > f->put_most) f->put_most = f->put_now;
    struct plan p = plan_take(f, STORE_CREATE, key);
    fiber_sleep_ns(p.delay_ms * NS_PER_MS);
    f->put_now--;
    struct buf whole;
    buf_init(&whole, &f->mem);
    for (size_t i = 0; i < count; i++) buf_put(&whole, data[i].data, data[i].size);
    enum err truth = OK;
    if (p.effect == DONE) {
        truth = object_insert(f, key, whole.data, whole.size) ? OK : ERR_EXISTS;
    } else if (p.effect == DONE_LATER) {
        struct late *l = MEM_NEW(&f->mem, struct late);
        *l = (struct late){f, mem_strdup(&f->mem, key), whole.data, whole.size, p.later_ms};
        whole.data = NULL;
        fixture_spawn(f, land_late, l);
    }
    buf_deinit(&whole);
    return p.answer != OK ? p.answer : truth;
}

static enum err fake_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                         struct slice *out) {
    (void)purpose;
    struct fixture *f = of_env(s->env);
    struct plan p = plan_take(f, STORE_GET, key);
    fiber_sleep_ns(p.delay_ms * NS_PER_MS);
    if (p.answer != OK) return p.answer;
    bool found;
    size_t i = place_of(f, key, &found);
    if (!found) return ERR_NOT_FOUND;
    const struct object *o = &f->objects[i];
    if (position >= o->size) return OK;
    if (size > o->size - position) size = (size_t)(o->size - position);
    struct slab *slab = slab_create(&f->mem, size, 16);
    memcpy(slab->data, o->data + position, size);
    *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return OK;
}

static enum err fake_list(struct store *s, const char *prefix, const char *start_after, size_t max,
                          struct store_listing *out) {
    struct fixture *f = of_env(s->env);
    struct plan p = plan_take(f, STORE_LIST, prefix);
    fiber_sleep_ns(p.delay_ms * NS_PER_MS);
    if (p.answer != OK) return p.answer;
    bool found = false;
    size_t first = place_of(f, start_after ? start_after : prefix, &found);
    for (size_t i = first + (start_after && found); i < f->object_count; i++) {
        const char *key = f->objects[i].key;
        if (strncmp(key, prefix, strlen(prefix)) != 0) break;
        if (out->count == max) {
            out->more = true;
            break;
        }
        store_listing_add(out, key, f->objects[i].size);
    }
    return OK;
}

static enum err fake_del(struct store *s, const char *const *keys, size_t count, enum err *each) {
    (void)each;
    struct fixture *f = of_env(s->env);
    for (size_t i = 0; i < count; i++) {
        struct plan p = plan_take(f, STORE_DELETE, keys[i]);
        fiber_sleep_ns(p.delay_ms * NS_PER_MS);
        if (p.answer != OK) return p.answer;
        object_erase(f, keys[i]);
    }
    return OK;
}

static void fake_close(struct store *s) {
    (void)s;
}

static const struct store_ops fake_ops = {
    .put = fake_put, .get = fake_get, .list = fake_list, .del = fake_del, .close = fake_close};

/* --- The fixture. */

struct fixture *fixture_create(uint64_t seed) {
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    mem_init_heap(&f->mem);
    rng_seed(&f->rng, seed);
    f->logger = (struct logger){.level = LOG_INFO, .wall_ms = log_wall, .sink = log_sink, .ctx = f};
    f->env =
        (struct env){.magic = ENV_MAGIC, .ops = &env_table, .mem = &f->mem, .log = &f->logger, .metrics = &f->metrics};
    f->store = (struct store){.magic = STORE_MAGIC, .ops = &fake_ops, .env = &f->env, .list_consistent = true};
    loop_init(&f->loop, &f->env, "test", 0);
    loop_set_current(&f->loop);
    return f;
}

void fixture_destroy(struct fixture *f) {
    loop_deinit(&f->loop);
    while (f->object_count > 0) {
        f->object_count--;
        mem_free(&f->mem, f->objects[f->object_count].key);
        mem_free(&f->mem, f->objects[f->object_count].data);
    }
    mem_free(&f->mem, f->objects);
    mem_free(&f->mem, f->plans);
    metrics_deinit(&f->metrics, &f->mem);
    assert_int_equal(f->mem.allocated_bytes, 0);
    free(f);
}

void fixture_spawn(struct fixture *f, fiber_fn *fn, void *arg) {
    (void)fiber_spawn(&f->loop, "test", fn, arg);
}

void fixture_run(struct fixture *f, fiber_fn *fn, void *arg) {
    fixture_spawn(f, fn, arg);
    for (;;) {
        while (loop_step(&f->loop, f->now_ns)) {
        }
        uint64_t next = loop_next_deadline_ns(&f->loop);
        if (next == UINT64_MAX) break;
        if (next > f->now_ns) f->now_ns = next;
        /* Far more than any test needs: something repeats without end. */
        assert_true(f->now_ns < 100000 * NS_PER_S);
    }
    assert_int_equal(f->loop.fibers_alive, 0); /* else a fiber waits for what never comes */
}

void fixture_plan(struct fixture *f, enum store_op op, uint64_t number, struct plan plan) {
    f->plans = mem_grow(&f->mem, f->plans, f->plan_count, &f->plan_capacity, sizeof(*f->plans));
    f->plans[f->plan_count++] = (struct planned){op, number, plan};
}

struct object *fixture_object(struct fixture *f, uint64_t number) {
    char key[64];
    objlog_key(key, sizeof(key), PREFIX, number);
    bool found;
    size_t i = place_of(f, key, &found);
    return found ? &f->objects[i] : NULL;
}

void fixture_object_set(struct fixture *f, const char *key, const void *data, size_t size) {
    object_erase(f, key);
    assert_true(object_insert(f, key, data, size));
}

void fixture_object_remove(struct fixture *f, uint64_t number) {
    char key[64];
    objlog_key(key, sizeof(key), PREFIX, number);
    object_erase(f, key);
}

struct objlog_header fixture_header(struct fixture *f, uint64_t number) {
    struct object *o = fixture_object(f, number);
    assert_non_null(o);
    struct objlog_header h;
    assert_int_equal(objlog_header_decode(o->data, o->size, &h), OK);
    return h;
}

struct objlog_nonce fixture_entry(struct fixture *f, enum objlog_kind kind, uint64_t number, uint64_t boundary,
                                  const char *head, const struct objlog_nonce *previous) {
    struct objlog_header h = {
        .kind = kind, .number = number, .boundary = boundary, .writer = 99, .head_size = strlen(head)};
    h.head_crc = crc32c(0, head, strlen(head));
    rng_fill(&f->rng, h.nonce.bytes, sizeof(h.nonce.bytes));
    if (previous) {
        h.previous = *previous;
    } else if (number > 0 && fixture_object(f, number - 1)) {
        h.previous = fixture_header(f, number - 1).nonce;
    }
    char key[64];
    objlog_key(key, sizeof(key), PREFIX, number);
    uint8_t bytes[OBJLOG_HEADER_SIZE + 256];
    assert_true(strlen(head) <= 256);
    objlog_header_encode(&h, bytes);
    memcpy(bytes + OBJLOG_HEADER_SIZE, head, strlen(head));
    fixture_object_set(f, key, bytes, OBJLOG_HEADER_SIZE + strlen(head));
    return h.nonce;
}

struct objlog *fixture_log(struct fixture *f, unsigned depth, uint64_t writer) {
    struct objlog_options o = {
        .store = &f->store, .prefix = PREFIX, .depth = depth, .writer = writer, .purpose = STORE_FOR_LEDGER};
    return objlog_create(&o);
}

static enum err seen_apply(void *ctx, const struct objlog_entry *e) {
    struct seen *s = ctx;
    static const char *const letters[] = {"", "", "c", "f", "e"};
    if (s->sleep_ms) fiber_sleep_ns(s->sleep_ms * NS_PER_MS);
    if (s->fail_with != OK && e->header.number == s->fail_at) return s->fail_with;
    int n = snprintf(s->text + s->size, sizeof(s->text) - s->size, "%s%" PRIu64 ":%.*s ", letters[e->header.kind],
                     e->header.number, (int)(e->head.size < 16 ? e->head.size : 16), (const char *)e->head.data);
    assert_true(n > 0 && (size_t)n < sizeof(s->text) - s->size);
    s->size += (size_t)n;
    return OK;
}

static void seen_reset(void *ctx) {
    struct seen *s = ctx;
    assert_true(s->size + 2 < sizeof(s->text));
    s->text[s->size++] = '|';
    s->text[s->size] = '\0';
}

struct objlog_replay fixture_replay(struct fixture *f, struct seen *s) {
    s->fixture = f;
    return (struct objlog_replay){seen_apply, seen_reset, s};
}
