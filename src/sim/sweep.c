#include "sim/sweep.h"

#include "base/assert.h"
#include "sim/disk.h"
#include "sim/net.h"
#include "store/store.h"

#define BIT(how) (1u << (how))
#define CRASHES (BIT(SIM_SWEEP_KILL) | BIT(SIM_SWEEP_POWER))
#define NO_ANSWER_NS (5 * NS_PER_S)
#define ERROR_NS (2 * NS_PER_MS)

const char *sim_sweep_name(enum sim_sweep_how how) {
#define X(id, name, sentence) [id] = name,
    static const char *const names[SIM_SWEEP_HOWS] = {SIM_SWEEP_TABLE(X)};
#undef X
    ASSERT(how < SIM_SWEEP_HOWS);
    return names[how];
}

/* The process ends here; what is left of its step does not happen. Outside a fiber the step goes on to its end, and
 * nothing of it is durable. */
static void crash(struct sim_node *n, enum sim_sweep_how how) {
    sim_node_crash(n, how == SIM_SWEEP_POWER ? SIM_POWER_CUT : SIM_KILL);
    while (fiber_self()) fiber_park();
}

/* Counts an operation that can end in the ways of `hows`, or in a crash. True: it is the one. */
static bool meets(struct sim_node *n, enum sim_sweep_class class, unsigned hows, const char *what) {
    struct sim_sweep *s = &n->world->sweep;
    if (s->node != n || !(s->classes & (unsigned)class) || !((hows | CRASHES) & BIT(s->how))) return false;
    uint64_t number = s->met++;
    if (number < s->at || (number > s->at && !s->ever)) return false;
    if (number == s->at) {
        s->reached = true;
        s->what = what;
    }
    sim_trace(n->world, n, "sweep", what, number, s->how);
    if (CRASHES & BIT(s->how)) crash(n, s->how);
    return true;
}

static bool is(const struct sim_node *n, enum sim_sweep_how how) {
    return n->world->sweep.how == how;
}

static enum err file_error(const struct sim_node *n) {
    return is(n, SIM_SWEEP_FULL) ? ERR_FULL : is(n, SIM_SWEEP_DENIED) ? ERR_PERMISSION : ERR_IO;
}

void sim_sweep_memory(struct sim_node *n) {
    if (n->world->stepping == n) (void)meets(n, SIM_SWEEP_MEMORY, 0, "memory");
}

enum err sim_sweep_loop_start(struct sim_node *n) {
    return meets(n, SIM_SWEEP_SYSTEM, BIT(SIM_SWEEP_REFUSED), "loop_start") ? ERR_UNAVAILABLE : OK;
}

/* --- Files. The device takes its time over an error, too. */

static enum err file_fails(struct sim_node *n) {
    enum err e = file_error(n);
    sim_suspend(n, ERROR_NS);
    return e;
}

enum err sim_sweep_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out) {
    struct sim_node *n = sim_node_of(e);
    unsigned hows = BIT(SIM_SWEEP_REFUSED) | BIT(SIM_SWEEP_DENIED);
    if (flags & ENV_FILE_CREATE) hows |= BIT(SIM_SWEEP_FULL) | BIT(SIM_SWEEP_DONE);
    if (!meets(n, SIM_SWEEP_FILES, hows, "file_open")) return sim_file_open(e, path, flags, out);
    if (is(n, SIM_SWEEP_DONE) && sim_file_open(e, path, flags, out) == OK) sim_file_close(*out);
    *out = NULL;
    return file_fails(n);
}

enum err sim_sweep_file_info(struct env *e, const char *path, struct env_file_info *out) {
    struct sim_node *n = sim_node_of(e);
    if (!meets(n, SIM_SWEEP_FILES, BIT(SIM_SWEEP_REFUSED) | BIT(SIM_SWEEP_DENIED), "file_info"))
        return sim_file_info(e, path, out);
    return file_fails(n);
}

enum err sim_sweep_file_size(struct env_file *f, struct env_file_info *out) {
    struct sim_node *n = sim_file_node(f);
    if (!meets(n, SIM_SWEEP_FILES, BIT(SIM_SWEEP_REFUSED), "file_size")) return sim_file_size(f, out);
    return file_fails(n);
}

enum err sim_sweep_file_read(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got) {
    struct sim_node *n = sim_file_node(f);
    if (!meets(n, SIM_SWEEP_FILES, BIT(SIM_SWEEP_REFUSED), "file_read"))
        return sim_file_read(f, position, data, size, got);
    *got = 0;
    return file_fails(n);
}

/* The first half of a write, in whole sectors. */
static void write_half(struct env_file *f, uint64_t position, const struct env_bytes *pieces, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) size += pieces[i].size;
    size = size / 2 / ENV_FILE_ALIGN * ENV_FILE_ALIGN;
    for (size_t i = 0; i < count && size > 0; i++) {
        size_t part = pieces[i].size < size ? pieces[i].size : size;
        if (sim_file_write(f, position, &(struct env_bytes){pieces[i].data, part}, 1) != OK) return;
        position += part;
        size -= part;
    }
}

enum err sim_sweep_file_write(struct env_file *f, uint64_t position, const struct env_bytes *pieces, size_t count) {
    struct sim_node *n = sim_file_node(f);
    unsigned hows = BIT(SIM_SWEEP_REFUSED) | BIT(SIM_SWEEP_LOST) | BIT(SIM_SWEEP_DONE) | BIT(SIM_SWEEP_FULL);
    if (!meets(n, SIM_SWEEP_FILES, hows, "file_write")) return sim_file_write(f, position, pieces, count);
    enum err e = file_error(n);
    if (is(n, SIM_SWEEP_DONE)) (void)sim_file_write(f, position, pieces, count);
    if (is(n, SIM_SWEEP_LOST) || is(n, SIM_SWEEP_FULL)) write_half(f, position, pieces, count);
    sim_suspend(n, ERROR_NS);
    return e;
}

enum err sim_sweep_file_sync(struct env_file *f) {
    struct sim_node *n = sim_file_node(f);
    if (!meets(n, SIM_SWEEP_FILES, BIT(SIM_SWEEP_REFUSED) | BIT(SIM_SWEEP_DONE), "file_sync")) return sim_file_sync(f);
    if (is(n, SIM_SWEEP_DONE)) {
        (void)sim_file_sync(f);
    } else {
        sim_file_sync_failed(f);
    }
    return file_fails(n);
}

#define CHANGES (BIT(SIM_SWEEP_REFUSED) | BIT(SIM_SWEEP_DONE))

enum err sim_sweep_file_grow(struct env_file *f, uint64_t size_bytes) {
    struct sim_node *n = sim_file_node(f);
    if (!meets(n, SIM_SWEEP_FILES, CHANGES | BIT(SIM_SWEEP_FULL), "file_grow")) return sim_file_grow(f, size_bytes);
    if (is(n, SIM_SWEEP_DONE)) (void)sim_file_grow(f, size_bytes);
    return file_fails(n);
}

enum err sim_sweep_file_remove(struct env *e, const char *path) {
    struct sim_node *n = sim_node_of(e);
    if (!meets(n, SIM_SWEEP_FILES, CHANGES | BIT(SIM_SWEEP_DENIED), "file_remove")) return sim_file_remove(e, path);
    if (is(n, SIM_SWEEP_DONE)) (void)sim_file_remove(e, path);
    return file_fails(n);
}

enum err sim_sweep_dir_make(struct env *e, const char *path) {
    struct sim_node *n = sim_node_of(e);
    if (!meets(n, SIM_SWEEP_FILES, CHANGES | BIT(SIM_SWEEP_FULL) | BIT(SIM_SWEEP_DENIED), "dir_make"))
        return sim_dir_make(e, path);
    if (is(n, SIM_SWEEP_DONE)) (void)sim_dir_make(e, path);
    return file_fails(n);
}

enum err sim_sweep_dir_sync(struct env *e, const char *path) {
    struct sim_node *n = sim_node_of(e);
    if (!meets(n, SIM_SWEEP_FILES, CHANGES, "dir_sync")) return sim_dir_sync(e, path);
    if (is(n, SIM_SWEEP_DONE)) (void)sim_dir_sync(e, path);
    return file_fails(n);
}

/* --- Sockets. */

enum err sim_sweep_listen(struct env *e, const char *host, uint16_t port, bool reuse_port,
                          void (*accepted)(void *ctx, struct env_conn *c), void *ctx, struct env_listener **out,
                          struct env_address *bound) {
    struct sim_node *n = sim_node_of(e);
    if (!meets(n, SIM_SWEEP_SYSTEM, BIT(SIM_SWEEP_REFUSED) | BIT(SIM_SWEEP_DENIED), "listen"))
        return sim_net_listen(e, host, port, reuse_port, accepted, ctx, out, bound);
    return is(n, SIM_SWEEP_DENIED) ? ERR_PERMISSION : ERR_UNAVAILABLE;
}

enum err sim_sweep_connect(struct env *e, const char *host, uint16_t port, struct env_conn **out) {
    struct sim_node *n = sim_node_of(e);
    if (!meets(n, SIM_SWEEP_SYSTEM, BIT(SIM_SWEEP_REFUSED), "connect")) return sim_net_connect(e, host, port, out);
    *out = NULL;
    sim_suspend(n, ERROR_NS);
    return ERR_UNAVAILABLE;
}

/* --- The store. */

struct swept_store {
    struct store base;
    struct sim_node *node;
    struct store *inner;
};

static struct swept_store *swept_of(struct store *s) {
    CHECK_OBJ(s, STORE_MAGIC);
    return CONTAINER_OF(s, struct swept_store, base);
}

#define ASKS (BIT(SIM_SWEEP_REFUSED) | BIT(SIM_SWEEP_LOST) | BIT(SIM_SWEEP_DENIED))

/* Suspends until the client is told. */
static enum err store_fails(struct sim_node *n) {
    enum err e = is(n, SIM_SWEEP_REFUSED)  ? ERR_UNAVAILABLE
                 : is(n, SIM_SWEEP_FULL)   ? ERR_FULL
                 : is(n, SIM_SWEEP_DENIED) ? ERR_PERMISSION
                 : is(n, SIM_SWEEP_DONE)   ? ERR_UNKNOWN_OUTCOME
                 : is(n, SIM_SWEEP_EXISTS) ? ERR_EXISTS
                                           : ERR_TIMEOUT;
    sim_suspend(n, e == ERR_TIMEOUT || e == ERR_UNKNOWN_OUTCOME ? NO_ANSWER_NS : ERROR_NS);
    return e;
}

static enum err swept_put(struct store *s, const char *key, const struct slice *data, size_t count, bool create_only,
                          enum store_purpose purpose) {
    struct swept_store *x = swept_of(s);
    unsigned hows = ASKS | BIT(SIM_SWEEP_DONE) | BIT(SIM_SWEEP_FULL) | (create_only ? BIT(SIM_SWEEP_EXISTS) : 0);
    if (!meets(x->node, SIM_SWEEP_STORE, hows, create_only ? "store_create" : "store_put"))
        return x->inner->ops->put(x->inner, key, data, count, create_only, purpose);
    if (is(x->node, SIM_SWEEP_DONE) || is(x->node, SIM_SWEEP_EXISTS))
        (void)x->inner->ops->put(x->inner, key, data, count, create_only, purpose);
    return store_fails(x->node);
}

static enum err swept_get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                          struct slice *out) {
    struct swept_store *x = swept_of(s);
    if (!meets(x->node, SIM_SWEEP_STORE, ASKS, "store_get"))
        return x->inner->ops->get(x->inner, key, position, size, purpose, out);
    *out = (struct slice){0};
    return store_fails(x->node);
}

static enum err swept_list(struct store *s, const char *prefix, const char *start_after, size_t max,
                           struct store_listing *out) {
    struct swept_store *x = swept_of(s);
    if (!meets(x->node, SIM_SWEEP_STORE, ASKS, "store_list"))
        return x->inner->ops->list(x->inner, prefix, start_after, max, out);
    return store_fails(x->node);
}

static enum err swept_delete(struct store *s, const char *const *keys, size_t count, enum err *each) {
    struct swept_store *x = swept_of(s);
    if (!meets(x->node, SIM_SWEEP_STORE, ASKS | BIT(SIM_SWEEP_DONE), "store_delete"))
        return x->inner->ops->del(x->inner, keys, count, each);
    if (is(x->node, SIM_SWEEP_DONE)) (void)x->inner->ops->del(x->inner, keys, count, each);
    return store_fails(x->node);
}

static enum err swept_compose(struct store *s, const char *key, const struct store_piece *pieces, size_t count,
                              enum store_purpose purpose) {
    struct swept_store *x = swept_of(s);
    unsigned hows = ASKS | BIT(SIM_SWEEP_DONE) | BIT(SIM_SWEEP_FULL) | BIT(SIM_SWEEP_EXISTS);
    if (!meets(x->node, SIM_SWEEP_STORE, hows, "store_compose"))
        return x->inner->ops->compose(x->inner, key, pieces, count, purpose);
    if (is(x->node, SIM_SWEEP_DONE) || is(x->node, SIM_SWEEP_EXISTS))
        (void)x->inner->ops->compose(x->inner, key, pieces, count, purpose);
    return store_fails(x->node);
}

static enum err swept_uploads(struct store *s, const char *prefix, struct store_uploads *out) {
    struct swept_store *x = swept_of(s);
    if (!meets(x->node, SIM_SWEEP_STORE, ASKS, "store_uploads")) return x->inner->ops->uploads(x->inner, prefix, out);
    return store_fails(x->node);
}

static enum err swept_abort(struct store *s, const char *key, const char *id) {
    struct swept_store *x = swept_of(s);
    if (!meets(x->node, SIM_SWEEP_STORE, ASKS | BIT(SIM_SWEEP_DONE), "store_abort"))
        return x->inner->ops->abort(x->inner, key, id);
    if (is(x->node, SIM_SWEEP_DONE)) (void)x->inner->ops->abort(x->inner, key, id);
    return store_fails(x->node);
}

static void swept_close(struct store *s) {
    struct swept_store *x = swept_of(s);
    store_close(x->inner);
    x->base.magic = 0;
    mem_free(&x->node->mem.base, x);
}

struct store *sim_sweep_store(struct store *inner) {
    static const struct store_ops ops = {swept_put,   swept_get,     swept_list,    swept_delete,
                                         swept_close, swept_compose, swept_uploads, swept_abort};
    struct swept_store *x = MEM_NEW(inner->env->mem, struct swept_store);
    x->base = *inner;
    x->base.ops = &ops;
    x->node = sim_node_of(inner->env);
    x->inner = inner;
    return &x->base;
}
