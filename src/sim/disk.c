#include "sim/disk.h"

#include <limits.h>
#include <string.h>

#include "base/map.h"
#include "sim/medium.h"

#define FILE_MAGIC 0x51a0003u
#define HANDLE_MAGIC 0x51a0004u
#define WRITE_MAGIC 0x51a0005u
#define PIECES_MAX 16u
#define FRONT_BYTES 16384u /* where superblocks lie */

struct sim_file {
    unsigned magic;
    unsigned refs; /* directory entries, open files, operations, attachments, the device's creator */
    struct sim_world *world;
    struct medium medium;
    bool device;
    unsigned attached;
    struct list handles; /* of all nodes */
};

struct entry {                /* a name; both NULL: forgotten */
    struct sim_file *live;    /* what open finds */
    struct sim_file *durable; /* what a power cut would leave */
};

struct sim_disk {
    struct sim_world *world;
    unsigned refs; /* machines have one; each process on it counts */
    struct mapstr entries;
    struct mapstr dirs; /* values are not NULL and mean nothing */
    uint64_t limit_bytes;
    uint64_t full_until_ns; /* a period of SIM_DISK_FULL */
};

struct attachment {
    struct list link; /* in node->devices */
    struct sim_file *file;
    char *path;
};

struct env_file { /* in the node's memory */
    unsigned magic;
    struct sim_file *file;
    struct sim_node *node;
    unsigned flags;
    bool revoked;
    struct list in_file, in_node;
};

/* --- Files and disks as such. */

static struct sim_file *file_create(struct sim_world *w, uint64_t size, bool device) {
    struct sim_file *f = MEM_NEW(&w->heap, struct sim_file);
    INIT_OBJ(f, FILE_MAGIC);
    f->refs = 1;
    f->world = w;
    f->device = device;
    medium_init(&f->medium, w, size);
    list_init(&f->handles);
    return f;
}

static struct sim_file *file_ref(struct sim_file *f) {
    if (f) f->refs++;
    return f;
}

static void file_unref(struct sim_file *f) {
    if (!f) return;
    CHECK_OBJ(f, FILE_MAGIC);
    if (--f->refs > 0) return;
    ASSERT(list_empty(&f->handles));
    medium_deinit(&f->medium);
    f->magic = 0;
    mem_free(&f->world->heap, f);
}

struct sim_disk *sim_disk_create(struct sim_world *w) {
    struct sim_disk *d = MEM_NEW(&w->heap, struct sim_disk);
    d->world = w;
    d->refs = 1;
    d->limit_bytes = UINT64_MAX;
    mapstr_init(&d->entries, &w->heap);
    mapstr_init(&d->dirs, &w->heap);
    return d;
}

struct sim_disk *sim_disk_ref(struct sim_disk *d) {
    d->refs++;
    return d;
}

void sim_disk_unref(struct sim_disk *d) {
    if (--d->refs > 0) return;
    size_t cursor = 0;
    for (struct entry *x; (x = mapstr_next(&d->entries, &cursor, NULL, NULL)) != NULL;) {
        file_unref(x->live);
        file_unref(x->durable);
        mem_free(&d->world->heap, x);
    }
    mapstr_deinit(&d->entries);
    mapstr_deinit(&d->dirs);
    mem_free(&d->world->heap, d);
}

void sim_disk_limit(struct sim_disk *d, uint64_t bytes) {
    d->limit_bytes = bytes;
}

static uint64_t disk_used(const struct sim_disk *d) {
    uint64_t n = 0;
    size_t cursor = 0;
    for (struct entry *x; (x = mapstr_next(&d->entries, &cursor, NULL, NULL)) != NULL;)
        n += x->live ? x->live->medium.size : 0;
    return n;
}

struct sim_file *sim_device_create(struct sim_world *w, uint64_t size_bytes) {
    ASSERT(size_bytes % SIM_SECTOR == 0);
    return file_create(w, size_bytes, true);
}

void sim_device_unref(struct sim_file *f) {
    file_unref(f);
}

void sim_device_attach(struct sim_node *n, const char *path, struct sim_file *f) {
    CHECK_OBJ(f, FILE_MAGIC);
    struct attachment *a = MEM_NEW(&n->world->heap, struct attachment);
    a->file = file_ref(f);
    a->path = mem_strdup(&n->world->heap, path);
    f->attached++;
    list_push_back(&n->devices, &a->link);
}

static void detach(struct sim_node *n, struct attachment *a) {
    LIST_EACH(it, &a->file->handles) {
        struct env_file *h = LIST_ENTRY(it, struct env_file, in_file);
        if (h->node == n) h->revoked = true;
    }
    list_remove(&a->link);
    a->file->attached--;
    file_unref(a->file);
    mem_free(&n->world->heap, a->path);
    mem_free(&n->world->heap, a);
}

void sim_device_detach(struct sim_node *n, struct sim_file *f) {
    LIST_EACH_SAFE(it, &n->devices) {
        struct attachment *a = LIST_ENTRY(it, struct attachment, link);
        if (a->file == f) detach(n, a);
    }
}

static struct sim_file *node_device(const struct sim_node *n, const char *path) {
    LIST_EACH(it, &n->devices) {
        struct attachment *a = LIST_ENTRY(it, struct attachment, link);
        if (strcmp(a->path, path) == 0) return a->file;
    }
    return NULL;
}

struct sim_file *sim_disk_find(struct sim_disk *d, const char *path) {
    struct entry *x = mapstr_get(&d->entries, path, strlen(path));
    return x ? x->live : NULL;
}

size_t sim_file_peek(const struct sim_file *f, uint64_t position, void *out, size_t size) {
    return medium_read(&f->medium, position, out, size);
}

void sim_file_poke(struct sim_file *f, uint64_t position, const void *data, size_t size) {
    medium_write(&f->medium, position, data, size, MEDIUM_SYNCED, 0);
}

uint64_t sim_file_peek_size(const struct sim_file *f) {
    return f->medium.size;
}

uint64_t sim_file_dirty_sectors(const struct sim_file *f) {
    return medium_dirty(&f->medium);
}

bool sim_file_rot(struct sim_file *f, uint64_t position, uint64_t size) {
    struct medium *m = &f->medium;
    if (position >= m->size || !sim_fault_allowed(f->world, SIM_DISK_BIT_ROT)) return false;
    if (size > m->size - position) size = m->size - position;
    if (!medium_rot(m, position, size)) return false;
    sim_fault_count(f->world, NULL, SIM_DISK_BIT_ROT);
    return true;
}

/* --- Names. */

static bool path_valid(const char *path) {
    size_t n = strlen(path);
    return n > 0 && path[n - 1] != '/';
}

/* Length of the part before the last '/': "a/b" -> 1, "/a" and "a" -> 0. */
static size_t path_parent(const char *path, size_t size) {
    while (size > 0 && path[size - 1] != '/') size--;
    return size > 0 ? size - 1 : 0;
}

static bool dir_exists(struct sim_disk *d, const char *path, size_t size) {
    return size == 0 || (size == 1 && path[0] == '.') || mapstr_get(&d->dirs, path, size) != NULL;
}

static struct entry *entry_at(struct sim_disk *d, const char *path) {
    struct entry *x = mapstr_get(&d->entries, path, strlen(path));
    if (x) return x;
    x = MEM_NEW(&d->world->heap, struct entry);
    mapstr_put(&d->entries, path, strlen(path), x);
    return x;
}

static void entry_set(struct sim_file **place, struct sim_file *f) {
    struct sim_file *before = *place;
    *place = file_ref(f);
    file_unref(before);
}

static uint64_t latency_ns(struct sim_world *w, uint64_t low_us, uint64_t high_us) {
    uint64_t us = sim_between(w, low_us, high_us);
    if (sim_fault(w, SIM_DISK_SLOW)) us += sim_between(w, 0, 2000000);
    if (sim_fault(w, SIM_DISK_STALL)) us += sim_between(w, 2000000, 60000000);
    return us * NS_PER_US;
}

static void disk_wait(struct sim_node *n, uint64_t low_us, uint64_t high_us) {
    sim_suspend(n, latency_ns(n->world, low_us, high_us));
}

/* The moment of a change. Where the node ends just before it, nothing comes after. */
static void disk_effect(struct sim_node *n) {
    if (!sim_node_effect(n)) sim_node_halt(n);
}

enum err sim_file_info(struct env *e, const char *path, struct env_file_info *out) {
    struct sim_node *n = sim_node_of(e);
    *out = (struct env_file_info){0};
    disk_wait(n, 1, 50);
    if (!path_valid(path)) return ERR_INVALID;
    struct sim_file *f = node_device(n, path);
    if (!f) f = sim_disk_find(n->disk, path);
    if (f) {
        out->size_bytes = f->medium.size;
        out->block_device = f->device;
        return OK;
    }
    out->directory = dir_exists(n->disk, path, strlen(path));
    return out->directory ? OK : ERR_NOT_FOUND;
}

enum err sim_file_remove(struct env *e, const char *path) {
    struct sim_node *n = sim_node_of(e);
    disk_wait(n, 5, 100);
    if (!path_valid(path)) return ERR_INVALID;
    struct entry *x = mapstr_get(&n->disk->entries, path, strlen(path));
    if (!x || !x->live) return ERR_NOT_FOUND;
    disk_effect(n);
    sim_trace(n->world, n, "file-remove", path, x->live->medium.size, 0);
    entry_set(&x->live, NULL);
    disk_wait(n, 1, 50);
    return OK;
}

enum err sim_dir_make(struct env *e, const char *path) {
    struct sim_node *n = sim_node_of(e);
    disk_wait(n, 5, 200);
    if (!path_valid(path)) return ERR_INVALID;
    if (sim_disk_find(n->disk, path)) return ERR_EXISTS;
    disk_effect(n);
    for (size_t size = strlen(path); !dir_exists(n->disk, path, size); size = path_parent(path, size)) {
        mapstr_put(&n->disk->dirs, path, size, n->disk);
    }
    return OK;
}

enum err sim_dir_sync(struct env *e, const char *path) {
    struct sim_node *n = sim_node_of(e);
    disk_wait(n, 50, 2000);
    if (!path_valid(path)) return ERR_INVALID;
    size_t size = strcmp(path, ".") == 0 ? 0 : strlen(path), cursor = 0, key_size;
    if (!dir_exists(n->disk, path, size)) return ERR_NOT_FOUND;
    disk_effect(n);
    if (sim_fault(n->world, SIM_DISK_SYNC_FAILS)) return ERR_IO;
    const char *key;
    for (struct entry *x; (x = mapstr_next(&n->disk->entries, &cursor, &key, &key_size)) != NULL;) {
        size_t parent = path_parent(key, key_size);
        if (parent == size && memcmp(key, path, size) == 0) entry_set(&x->durable, x->live);
    }
    sim_trace(n->world, n, "dir-sync", path, 0, 0);
    disk_wait(n, 1, 50);
    return OK;
}

/* --- Open files. */

static bool locked(const struct sim_file *f, const struct sim_node *n) {
    LIST_EACH(it, &f->handles) {
        struct env_file *h = LIST_ENTRY(it, struct env_file, in_file);
        if ((h->flags & ENV_FILE_LOCK) && (!f->device || h->node->disk == n->disk)) return true;
    }
    return false;
}

enum err sim_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out) {
    struct sim_node *n = sim_node_of(e);
    *out = NULL;
    disk_wait(n, 5, 200);
    if (!path_valid(path)) return ERR_INVALID;
    struct sim_file *f = node_device(n, path);
    if (f && f->attached > 1 && !(flags & ENV_FILE_DIRECT)) return ERR_INVALID; /* two page caches would not agree */
    if (!f) {
        if (mapstr_get(&n->disk->dirs, path, strlen(path))) return ERR_INVALID;
        f = sim_disk_find(n->disk, path);
    }
    if (!f) {
        if (!(flags & ENV_FILE_CREATE)) return ERR_NOT_FOUND;
        if (!dir_exists(n->disk, path, path_parent(path, strlen(path)))) return ERR_NOT_FOUND;
        disk_effect(n);
        f = file_create(n->world, 0, false);
        entry_set(&entry_at(n->disk, path)->live, f);
        file_unref(f);
        sim_trace(n->world, n, "file-create", path, 0, 0);
    }
    if ((flags & ENV_FILE_LOCK) && locked(f, n)) return ERR_LOCKED;
    struct env_file *h = MEM_NEW(e->mem, struct env_file);
    INIT_OBJ(h, HANDLE_MAGIC);
    h->file = file_ref(f);
    h->node = n;
    h->flags = flags;
    list_push_back(&f->handles, &h->in_file);
    list_push_back(&n->handles, &h->in_node);
    sim_trace(n->world, n, "file-open", path, flags, f->medium.size);
    disk_wait(n, 1, 50);
    *out = h;
    return OK;
}

static void handle_drop(struct env_file *h) {
    list_remove(&h->in_file);
    list_remove(&h->in_node);
    file_unref(h->file);
    h->magic = 0;
}

void sim_file_close(struct env_file *h) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    struct sim_node *n = h->node;
    disk_wait(n, 1, 50);
    handle_drop(h);
    mem_free(&n->mem.base, h);
    disk_wait(n, 1, 10);
}

enum err sim_file_size(struct env_file *h, struct env_file_info *out) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    disk_wait(h->node, 1, 10);
    *out = (struct env_file_info){.size_bytes = h->file->medium.size, .block_device = h->file->device};
    return OK;
}

static bool aligned(const struct env_file *h, uint64_t position, const struct env_bytes *pieces, size_t count) {
    if (!(h->flags & ENV_FILE_DIRECT)) return true;
    if (position % ENV_FILE_ALIGN != 0) return false;
    for (size_t i = 0; i < count; i++) {
        if ((uintptr_t)pieces[i].data % ENV_FILE_ALIGN != 0 || pieces[i].size % ENV_FILE_ALIGN != 0) return false;
    }
    return true;
}

enum err sim_file_read(struct env_file *h, uint64_t position, void *data, size_t size, size_t *got) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    struct sim_node *n = h->node;
    struct sim_file *f = h->file;
    *got = 0;
    disk_wait(n, 20, 500);
    if (!aligned(h, position, &(struct env_bytes){data, size}, 1)) return ERR_INVALID;
    if (h->revoked || sim_fault(n->world, SIM_DISK_READ_FAILS)) return ERR_IO;
    if (position < f->medium.size && sim_fault(n->world, SIM_DISK_BIT_ROT)) {
        uint64_t there = f->medium.size - position;
        (void)medium_rot(&f->medium, position, there < size ? (size_t)there : size);
    }
    size_t read = medium_read(&f->medium, position, data, size);
    sim_trace(n->world, n, "file-read", NULL, position, read);
    disk_wait(n, 1, 100);
    *got = read;
    return OK;
}

enum err sim_file_sync(struct env_file *h) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    struct sim_node *n = h->node;
    disk_wait(n, 50, 2000);
    if (h->revoked) return ERR_IO;
    disk_effect(n);
    if (sim_fault(n->world, SIM_DISK_SYNC_FAILS)) {
        medium_sync_failed(&h->file->medium);
        return ERR_IO;
    }
    sim_trace(n->world, n, "file-sync", NULL, medium_dirty(&h->file->medium), h->file->medium.size);
    medium_sync(&h->file->medium);
    disk_wait(n, 1, 200);
    return OK;
}

void sim_file_sync_failed(struct env_file *h) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    medium_sync_failed(&h->file->medium);
}

struct sim_node *sim_file_node(const struct env_file *h) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    return h->node;
}

/* True when the file may grow to `end`. */
static bool space_there(const struct env_file *h, uint64_t end) {
    const struct medium *m = &h->file->medium;
    if (end <= m->size) return true;
    if (h->file->device) return false;
    struct sim_disk *d = h->node->disk;
    struct sim_world *w = h->node->world;
    if (d->limit_bytes != UINT64_MAX && disk_used(d) + (end - m->size) > d->limit_bytes) return false;
    if (w->now_ns < d->full_until_ns && !w->faults_off) return false;
    if (!sim_fault(w, SIM_DISK_FULL)) return true;
    d->full_until_ns = w->now_ns + sim_between(w, 0, sim_chance(w, 0.5) ? 100 : 60000) * NS_PER_MS;
    return false;
}

enum err sim_file_grow(struct env_file *h, uint64_t size_bytes) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    struct sim_node *n = h->node;
    disk_wait(n, 20, 2000);
    if (h->flags & ENV_FILE_READ_ONLY) return ERR_INVALID;
    if (!space_there(h, size_bytes)) return ERR_FULL;
    disk_effect(n);
    struct medium *m = &h->file->medium;
    if (size_bytes > m->size) m->size = size_bytes;
    sim_trace(n->world, n, "file-grow", NULL, size_bytes, 0);
    disk_wait(n, 1, 100);
    return OK;
}

/* --- Writes: an operation that goes on when its node is gone. */

struct disk_write {
    unsigned magic;
    struct sim_op op;
    struct sim_file *file;
    struct env_file *handle; /* while the node lives */
    unsigned writer;
    uint64_t position, done_at_ns;
    uint8_t *data;
    size_t size;
    enum medium_write how;
    bool begun; /* a part may have landed before the rest */
    enum err result;
    const struct env_bytes *pieces; /* the caller's, while the node lives */
    size_t piece_count;
};

static void write_free(struct disk_write *x) {
    struct sim_world *w = x->op.world;
    file_unref(x->file);
    x->magic = 0;
    mem_free(&w->heap, x->data);
    mem_free(&w->heap, x);
}

static void write_land_in_doubt(struct disk_write *x, enum medium_write how, bool torn) {
    medium_write_in_doubt(&x->file->medium, x->position, x->data, x->size, how, x->writer, torn);
}

/* The device reads the caller's memory at a time of its own choosing: bytes that change meanwhile may be stored with
 * the checksum of others. */
static void write_check_unchanged(struct disk_write *x) {
    size_t at = 0;
    for (size_t i = 0; i < x->piece_count; i++) {
        if (memcmp(x->data + at, x->pieces[i].data, x->pieces[i].size) != 0) {
            sim_fail(x->op.world, "node %s changed a buffer while its write at %lu was in flight", x->op.node->name,
                     x->position);
            return;
        }
        at += x->pieces[i].size;
    }
}

static void write_fire(struct sim_event *e) {
    struct disk_write *x = CONTAINER_OF(e, struct disk_write, op.event);
    CHECK_OBJ(x, WRITE_MAGIC);
    struct sim_world *w = x->op.world;
    if (!x->op.node) { /* late, after the crash */
        sim_trace(w, NULL, "write-lands-late", NULL, x->position, x->size);
        write_land_in_doubt(x, x->how, true);
        write_free(x);
        return;
    }
    if (!x->begun) {
        x->begun = true;
        write_land_in_doubt(x, x->how, false);
        sim_event_schedule(w, &x->op.event, x->done_at_ns);
        return;
    }
    write_check_unchanged(x);
    if (x->handle->revoked) {
        write_land_in_doubt(x, x->how, true);
        x->result = ERR_IO;
    } else if (!space_there(x->handle, x->position + x->size)) {
        if (!x->file->device) write_land_in_doubt(x, x->how, false);
        x->result = ERR_FULL;
    } else if (sim_fault(w, SIM_DISK_WRITE_FAILS)) {
        medium_write(&x->file->medium, x->position, x->data, x->size, MEDIUM_FAILED, x->writer);
        x->result = ERR_IO;
    } else {
        medium_write(&x->file->medium, x->position, x->data, x->size, x->how, x->writer);
        x->result = OK;
    }
    sim_trace(w, x->op.node, "file-write", err_name(x->result), x->position, x->size);
    sim_op_complete(&x->op);
}

static void write_orphaned(struct sim_op *op, enum sim_crash kind) {
    struct disk_write *x = CONTAINER_OF(op, struct disk_write, op);
    struct sim_world *w = op->world;
    sim_event_cancel(w, &op->event);
    if (!op->done && x->file->device && x->file->attached > 1 && sim_fault(w, SIM_DISK_LATE)) {
        sim_event_schedule(w, &op->event, w->now_ns + sim_between(w, 0, 30 * NS_PER_S));
        return;
    }
    if (!op->done && (!x->file->device || x->position + x->size <= x->file->medium.size)) {
        write_land_in_doubt(x, x->how, kind == SIM_POWER_CUT);
    }
    write_free(x);
}

static struct disk_write *write_begin(struct env_file *h, uint64_t position, const struct env_bytes *pieces,
                                      size_t count, size_t size) {
    struct sim_node *n = h->node;
    struct sim_world *w = n->world;
    struct disk_write *x = MEM_NEW(&w->heap, struct disk_write);
    INIT_OBJ(x, WRITE_MAGIC);
    x->file = file_ref(h->file);
    x->handle = h;
    x->writer = n->id;
    x->position = position;
    x->size = size;
    x->how = h->flags & ENV_FILE_DSYNC ? MEDIUM_SYNCED : MEDIUM_UNSYNCED;
    x->pieces = pieces;
    x->piece_count = count;
    x->data = mem_alloc(&w->heap, size);
    for (size_t i = 0, at = 0; i < count; at += pieces[i].size, i++)
        memcpy(x->data + at, pieces[i].data, pieces[i].size);
    sim_op_init(&x->op, n, write_fire, write_orphaned);
    uint64_t ns = latency_ns(w, 30, 800);
    x->done_at_ns = w->now_ns + ns;
    /* Now and then a part lands well before the rest, so that another machine can read it; never where the file
     * grows. */
    x->begun = position + size > h->file->medium.size || !sim_chance(w, 0.2);
    sim_event_schedule(w, &x->op.event, x->begun ? x->done_at_ns : w->now_ns + ns / 2);
    sim_trace(w, n, "file-write-begin", NULL, position, size);
    sim_hash(w, hash_bytes(x->data, size));
    return x;
}

/* Between what made it write and the write, a process may stand still: where others write, too, it matters, and most of
 * all where it says whose all this is. */
static void shared_write_pauses(struct env_file *h, uint64_t position) {
    struct sim_node *n = h->node;
    struct sim_world *w = n->world;
    if (h->file->attached < 2 || w->faults_off) return;
    uint64_t ns = 0;
    if (position < FRONT_BYTES && n->front_pause_ns > 0) {
        ns = n->front_pause_ns;
        n->front_pause_ns = 0;
    } else if (sim_chance(w, position < FRONT_BYTES ? 0.05 : 0.002)) {
        ns = sim_node_pause_ns(w);
    }
    if (ns == 0) return;
    sim_node_pause(n, ns);
    disk_wait(n, 1, 10);
}

enum err sim_file_write(struct env_file *h, uint64_t position, const struct env_bytes *pieces, size_t count) {
    CHECK_OBJ(h, HANDLE_MAGIC);
    ASSERT(count <= PIECES_MAX);
    size_t size = 0;
    for (size_t i = 0; i < count; i++) size += pieces[i].size;
    if ((h->flags & ENV_FILE_READ_ONLY) || !aligned(h, position, pieces, count) || size == 0) {
        disk_wait(h->node, 1, 10);
        return size == 0 ? OK : ERR_INVALID;
    }
    if (h->revoked) {
        disk_wait(h->node, 1, 100);
        return ERR_IO;
    }
    disk_effect(h->node);
    shared_write_pauses(h, position);
    struct disk_write *x = write_begin(h, position, pieces, count, size);
    sim_op_wait(&x->op);
    enum err e = x->result;
    write_free(x);
    return e;
}

/* --- The ends of nodes. */

static void disk_power_cut(struct sim_disk *d) {
    size_t cursor = 0;
    const char *path;
    for (struct entry *x; (x = mapstr_next(&d->entries, &cursor, &path, NULL)) != NULL;) {
        if (x->live != x->durable) {
            if (sim_chance(d->world, 0.5)) {
                entry_set(&x->live, x->durable);
            } else {
                entry_set(&x->durable, x->live);
            }
        }
        if (x->live) medium_power_cut(&x->live->medium, UINT_MAX, true);
    }
}

void sim_disk_node_crashed(struct sim_node *n, enum sim_crash kind) {
    LIST_EACH_SAFE(it, &n->handles) handle_drop(LIST_ENTRY(it, struct env_file, in_node));
    if (kind != SIM_POWER_CUT) return;
    disk_power_cut(n->disk);
    LIST_EACH(it, &n->devices) {
        medium_power_cut(&LIST_ENTRY(it, struct attachment, link)->file->medium, n->id, false);
    }
}

void sim_disk_node_destroyed(struct sim_node *n) {
    LIST_EACH_SAFE(it, &n->devices) detach(n, LIST_ENTRY(it, struct attachment, link));
}
