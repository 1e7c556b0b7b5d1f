/* Opening, formatting, marking and reading the ring. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/format.h"
#include "stream/wal_priv.h"

#define SUPERBLOCK_MAGIC "OXBWWAL1"
#define SUPERBLOCK_VERSION 1u
#define MARK_MAGIC "OXBWMARK"
#define MARK_VERSION 1u
#define MARK_SIZE 64u
static_assert(SUPERBLOCK_VERSION == FORMAT_WAL_SUPERBLOCK_NEWEST, "one table has them all");
static_assert(MARK_VERSION == FORMAT_WAL_MARK_NEWEST, "one table has them all");

void wal_superblock_encode(const struct wal_superblock *s, uint8_t out[WAL_SUPERBLOCK_SIZE]) {
    memset(out, 0, WAL_SUPERBLOCK_SIZE);
    memcpy(out, SUPERBLOCK_MAGIC, 8);
    le32_put(out + 8, SUPERBLOCK_VERSION);
    le32_put(out + 12, s->closed ? 2 : 1);
    le64_put(out + 16, s->sequence);
    memcpy(out + 24, s->generation, sizeof(s->generation));
    memcpy(out + 64, s->wal_id, 16);
    le64_put(out + 80, s->incarnation.v);
    le64_put(out + 88, s->trim_position);
    le64_put(out + 96, s->ring_size);
    le64_put(out + 104, s->initialised);
    le64_put(out + 112, s->owner);
    le32_put(out + WAL_SUPERBLOCK_SIZE - 4, crc32c(0, out, WAL_SUPERBLOCK_SIZE - 4));
}

enum err wal_superblock_decode(const uint8_t *data, size_t size, struct wal_superblock *s) {
    if (size < WAL_SUPERBLOCK_SIZE) return ERR_TRUNCATED;
    if (memcmp(data, SUPERBLOCK_MAGIC, 8) != 0) return ERR_FOREIGN;
    if (le32_get(data + WAL_SUPERBLOCK_SIZE - 4) != crc32c(0, data, WAL_SUPERBLOCK_SIZE - 4)) return ERR_CORRUPT;
    if (le32_get(data + 8) != SUPERBLOCK_VERSION) return ERR_VERSION;
    s->closed = le32_get(data + 12) == 2;
    s->sequence = le64_get(data + 16);
    memcpy(s->generation, data + 24, sizeof(s->generation));
    s->generation[sizeof(s->generation) - 1] = '\0';
    memcpy(s->wal_id, data + 64, 16);
    s->incarnation.v = le64_get(data + 80);
    s->trim_position = le64_get(data + 88);
    s->ring_size = le64_get(data + 96);
    s->initialised = le64_get(data + 104);
    s->owner = le64_get(data + 112);
    if (s->ring_size < WAL_RING_MIN || s->ring_size % ENV_FILE_ALIGN != 0 || s->trim_position % ENV_FILE_ALIGN != 0)
        return ERR_CORRUPT;
    if (s->initialised > s->ring_size) return ERR_CORRUPT;
    return OK;
}

static bool all_zero(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (data[i]) return false;
    }
    return true;
}

/* The very first superblock goes into slot 1. Torn there, beside a slot 0 that was never written, it is as good as none:
 * nothing is confirmed before both are durable. Each byte is what it was to be or still zero; of those that differ from
 * WAL to WAL it cannot be told, of the others it is. */
static bool torn_first(const uint8_t *sectors) {
    enum { SAME_IN_EACH = 24 }; /* magic, version, state, sequence */
    const uint8_t *torn = sectors + ENV_FILE_ALIGN;
    uint8_t format[WAL_SUPERBLOCK_SIZE], init[WAL_SUPERBLOCK_SIZE]; /* open, and closed */
    wal_superblock_encode(&(struct wal_superblock){.sequence = 1}, format);
    wal_superblock_encode(&(struct wal_superblock){.sequence = 1, .closed = true}, init);
    for (size_t i = 0; i < SAME_IN_EACH; i++) {
        if (torn[i] && torn[i] != format[i] && torn[i] != init[i]) return false;
    }
    return all_zero(sectors, ENV_FILE_ALIGN) && all_zero(torn + sizeof(format), ENV_FILE_ALIGN - sizeof(format));
}

/* The newer of two superblocks that verify. Neither: OK without one if there never was a whole one, else why the file is
 * refused. */
static enum err choose_superblock(struct wal *w, const uint8_t *sectors, const char **why) {
    enum err worst = OK;
    for (unsigned slot = 0; slot < 2; slot++) {
        const uint8_t *sector = sectors + (size_t)slot * ENV_FILE_ALIGN;
        struct wal_superblock s;
        enum err e = wal_superblock_decode(sector, ENV_FILE_ALIGN, &s);
        if (e == OK && (!w->has_superblock || s.sequence > w->superblock.sequence)) {
            w->superblock = s;
            w->superblock_slot = slot;
            w->has_superblock = true;
        }
        if (e == ERR_VERSION)
            format_newer(w->env->log, FORMAT_WAL_SUPERBLOCK,
                         format_found(FORMAT_WAL_SUPERBLOCK, sector, WAL_SUPERBLOCK_SIZE), "path=%s superblock=%u",
                         w->path, slot);
        if (e == OK || (e == ERR_FOREIGN && all_zero(sector, ENV_FILE_ALIGN))) continue;
        if (worst != ERR_VERSION) worst = e;
    }
    if (worst == ERR_VERSION) {
        *why =
            "the WAL was written by a newer version of Oxbow (the line above has the versions): start that version or a later one; "
            "nothing of it was changed";
        return ERR_VERSION;
    }
    if (w->has_superblock || worst == OK || torn_first(sectors)) return OK;
    *why =
        worst == ERR_FOREIGN
            ? "the WAL file or device holds something that is not an Oxbow WAL: give another wal.url, or clear it if it is not needed"
            : "both superblocks of the WAL are damaged: it is not safe to guess what it holds; restore the device, or move it away";
    return worst;
}

static enum err resolve_path(struct env *env, const char *given, bool create, char **out) {
    struct env_file_info info;
    enum err e = env_file_info(env, given, &info);
    bool folder;
    if (e == OK) {
        folder = info.directory;
    } else if (e == ERR_NOT_FOUND && create) {
        const char *name = strrchr(given, '/');
        folder = strchr(name ? name : given, '.') == NULL || (name && name[1] == '\0');
        if (folder) {
            e = env_dir_make(env, given);
            if (e != OK) return e;
        } else if (name && name != given) {
            char *parent = mem_strndup(env->mem, given, (size_t)(name - given));
            e = env_dir_make(env, parent);
            mem_free(env->mem, parent);
            if (e != OK) return e;
        }
    } else {
        return e;
    }
    *out = folder ? mem_printf(env->mem, "%s/oxbow.wal", given) : mem_strdup(env->mem, given);
    return OK;
}

static struct wal *wal_new(const struct wal_options *o) {
    struct wal *w = MEM_NEW(o->env->mem, struct wal);
    w->env = o->env;
    w->options = *o;
    if (w->options.depth == 0) w->options.depth = 4;
    fiber_mutex_init(&w->superblock_lock);
    fiber_mutex_init(&w->place_lock);
    waitq_init(&w->space);
    waitq_init(&w->idle);
    waitq_init(&w->initialised_grown);
    list_init(&w->queued);
    list_init(&w->placed);
    return w;
}

static void wal_free(struct wal *w) {
    if (w->file) env_file_close(w->env, w->file);
    mem_free(w->env->mem, w->path);
    mem_free(w->env->mem, w);
}

static const char wal_in_use[] = "another process uses this WAL: is another broker running on it?";

/* A device that is not there now must not become a file in its place. */
static bool creates(const struct wal_options *o) {
    return !o->read_only && o->size_bytes > 0;
}

static enum err open_file(struct wal *w, const char **why) {
    const struct wal_options *o = &w->options;
    unsigned flags = ENV_FILE_DIRECT | (o->read_only ? ENV_FILE_READ_ONLY : ENV_FILE_DSYNC);
    if (creates(o)) flags |= ENV_FILE_CREATE;
    if (!o->read_only) flags |= ENV_FILE_LOCK;
    if (env_mutant(w->env, MUTANT_NO_FLUSH)) flags &= ~(unsigned)ENV_FILE_DSYNC;
    enum err e = env_file_open(w->env, w->path, flags, &w->file);
    if (e == OK) return OK;
    *why = e == ERR_LOCKED ? wal_in_use : "the WAL could not be opened";
    return e;
}

/* The ring's size: what the superblock says; for a new one, what the file or device offers. */
static enum err size_ring(struct wal *w, const char **why) {
    struct env_file_info info;
    enum err e = env_file_size(w->env, w->file, &info);
    if (e != OK) {
        *why = "the size of the WAL could not be read";
        return e;
    }
    uint64_t size = info.size_bytes;
    /* Before it is grown: zeros in place of what was cut off would look like the end of the log. */
    if (w->has_superblock && (size < WAL_RING_START || w->superblock.ring_size > size - WAL_RING_START)) {
        *why = "the WAL file is shorter than its superblock says: it was truncated; restore it";
        return ERR_TRUNCATED;
    }
    if (!info.block_device && !w->options.read_only && size < w->options.size_bytes) {
        size = w->options.size_bytes;
        e = env_file_grow(w->env, w->file, size);
        if (e != OK) {
            *why = "no room to make the WAL as large as wal.url says: free space or give a smaller size";
            return e;
        }
    }
    uint64_t ring = size < WAL_RING_START ? 0 : (size - WAL_RING_START) & ~(uint64_t)(ENV_FILE_ALIGN - 1);
    if (ring < WAL_RING_MIN) {
        *why = "the WAL is smaller than 9 MiB: give it a larger size in wal.url";
        return ERR_INVALID;
    }
    w->ring_size = ring;
    w->block_device = info.block_device;
    if (info.block_device) w->initialised = ring;
    return OK;
}

static enum err read_superblocks(struct wal *w, const char **why) {
    struct env *env = w->env;
    uint8_t *sectors = mem_aligned(env->mem, 2 * ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    memset(sectors, 0, 2 * ENV_FILE_ALIGN);
    size_t got = 0;
    *why = "the WAL's superblocks could not be read";
    enum err e = env_file_read(env, w->file, 0, sectors, 2 * ENV_FILE_ALIGN, &got);
    if (e == OK) e = choose_superblock(w, sectors, why);
    mem_free(env->mem, sectors);
    return e;
}

enum err wal_open(const struct wal_options *o, struct wal **out, const char **why) {
    struct wal *w = wal_new(o);
    *why = "the path of the WAL could not be looked up or made";
    enum err e = resolve_path(o->env, o->path, creates(o), &w->path);
    if (e == OK) e = open_file(w, why);
    if (e == OK) e = read_superblocks(w, why);
    if (e == OK) e = size_ring(w, why);
    if (e != OK) {
        wal_free(w);
        return e;
    }
    *why = NULL;
    *out = w;
    return OK;
}

enum err wal_check_free(struct env *env, const char *path, const char **why) {
    char *file_path = NULL;
    struct env_file *f = NULL;
    enum err e = resolve_path(env, path, false, &file_path);
    if (e == OK) e = env_file_open(env, file_path, ENV_FILE_DIRECT | ENV_FILE_LOCK, &f);
    if (f) env_file_close(env, f);
    mem_free(env->mem, file_path);
    if (e != ERR_LOCKED) return OK; /* whatever else there is, wal_open says it */
    *why = wal_in_use;
    return e;
}

void wal_abandon(struct wal *w, struct list *left) {
    wal_give_up(w);
    while (w->writers > 0) waitq_wait(&w->idle);
    list_splice_back(left, &w->placed);
    list_splice_back(left, &w->queued);
}

void wal_close(struct wal *w, bool in_order) {
    while (w->writers > 0) waitq_wait(&w->idle);
    bool quiet = !w->failed && !(w->ever_failed && w->options.takeover_mark);
    if (in_order && quiet && w->has_superblock && !w->options.read_only) {
        ASSERT(wal_idle(w));
        if (wal_write_superblock(w, w->head, true) != OK) {
            log_warn(w->env->log, "wal not closed in order", "path=%s", w->path);
        }
    }
    wal_free(w);
}

const struct wal_superblock *wal_superblock(const struct wal *w) {
    return w->has_superblock ? &w->superblock : NULL;
}

bool wal_takes_mark(const struct wal *w) {
    return w->options.takeover_mark;
}

const char *wal_path(const struct wal *w) {
    return w->path;
}

/* OK with `data` there; `data` is MARK_SIZE bytes, or NULL: none. */
static enum err write_mark(struct wal *w, const uint8_t *data) {
    uint8_t *sector = mem_aligned(w->env->mem, ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    memset(sector, 0, ENV_FILE_ALIGN);
    if (data) memcpy(sector, data, MARK_SIZE);
    struct env_bytes piece = {sector, ENV_FILE_ALIGN};
    enum err e = wal_device_write(w, 2 * (uint64_t)ENV_FILE_ALIGN, &piece, 1);
    mem_free(w->env->mem, sector);
    return e;
}

enum err wal_mark(struct wal *w, struct incarnation taken, struct incarnation taker) {
    uint8_t mark[MARK_SIZE] = {0};
    memcpy(mark, MARK_MAGIC, 8);
    le32_put(mark + 8, MARK_VERSION);
    le64_put(mark + 16, taken.v);
    le64_put(mark + 24, taker.v);
    le32_put(mark + MARK_SIZE - 4, crc32c(0, mark, MARK_SIZE - 4));
    enum err e = write_mark(w, mark);
    return e == OK ? wal_look_again(w) : e;
}

enum err wal_look_again(struct wal *w) {
    const char *why;
    return read_superblocks(w, &why);
}

enum err wal_read_mark(struct wal *w, struct incarnation *taken) {
    uint8_t *sector = mem_aligned(w->env->mem, ENV_FILE_ALIGN, ENV_FILE_ALIGN);
    size_t got = 0;
    enum err e = wal_device_read(w, 2 * (uint64_t)ENV_FILE_ALIGN, sector, ENV_FILE_ALIGN, &got);
    if (e == OK && got < MARK_SIZE) e = ERR_TRUNCATED;
    if (e == OK) {
        if (all_zero(sector, MARK_SIZE)) {
            e = ERR_NOT_FOUND;
        } else {
            /* A mark that does not verify is a mark being written: it counts. */
            taken->v = le64_get(sector + 16);
        }
    }
    mem_free(w->env->mem, sector);
    return e;
}

/* The file's length and its name in the folder: without them a power cut takes the whole WAL away, however well its
 * sectors were written. */
static enum err make_durable(struct wal *w) {
    if (w->block_device || env_mutant(w->env, MUTANT_NO_DIR_SYNC)) return OK;
    enum err e = env_file_sync(w->env, w->file);
    const char *slash = strrchr(w->path, '/');
    char *folder = slash ? mem_strndup(w->env->mem, w->path, slash == w->path ? 1 : (size_t)(slash - w->path))
                         : mem_strdup(w->env->mem, ".");
    if (e == OK) e = env_dir_sync(w->env, folder);
    mem_free(w->env->mem, folder);
    return e;
}

enum err wal_format(struct wal *w, const char *generation, struct incarnation incarnation, const uint8_t wal_id[16]) {
    return wal_format_at(w, generation, incarnation, wal_id, 0);
}

enum err wal_format_at(struct wal *w, const char *generation, struct incarnation incarnation, const uint8_t wal_id[16],
                       uint64_t position) {
    ASSERT(position % ENV_FILE_ALIGN == 0);
    ASSERT(w->writers == 0 && wal_idle(w));
    if (w->options.takeover_mark) {
        struct incarnation taken;
        enum err marked = wal_read_mark(w, &taken);
        if (marked != ERR_NOT_FOUND) return marked == OK ? ERR_FENCED : marked;
    }
    if (w->has_superblock && w->superblock.initialised > w->initialised && w->superblock.ring_size == w->ring_size) {
        w->initialised = w->superblock.initialised;
    }
    uint64_t sequence = w->has_superblock ? w->superblock.sequence : 0;
    w->superblock = (struct wal_superblock){
        .sequence = sequence, .incarnation = incarnation, .ring_size = w->ring_size, .owner = w->options.owner};
    int n = snprintf(w->superblock.generation, sizeof(w->superblock.generation), "%s", generation);
    ASSERT(n > 0 && (size_t)n < sizeof(w->superblock.generation));
    memcpy(w->superblock.wal_id, wal_id, 16);
    w->head = w->confirmed_end = w->trim_requested = w->trim_durable = position;
    enum err e = make_durable(w);
    if (e != OK) return e;
    e = wal_write_superblock(w, position, false);
    if (e != OK) return e;
    /* Both slots: an old superblock must not come back if the new one is damaged later. */
    e = wal_write_superblock(w, position, false);
    if (e != OK) return e;
    if (!w->options.member) {
        metric_set(w->env->metrics, M_WAL_FAILED, 0);
        metric_set(w->env->metrics, M_WAL_SIZE_BYTES, (int64_t)w->ring_size);
        metric_set(w->env->metrics, M_WAL_USED_BYTES, 0);
    }
    wal_prewrite_begin(w);
    return OK;
}

struct wal_superblock wal_superblock_new(const uint8_t wal_id[16], uint64_t ring_size) {
    struct wal_superblock s = {.ring_size = ring_size, .closed = true};
    memcpy(s.wal_id, wal_id, 16);
    return s;
}

/* Superblocks first: with the old mark the new id is not used yet. */
static enum err make_new(struct wal *w, const uint8_t wal_id[16]) {
    uint64_t sequence = w->has_superblock ? w->superblock.sequence : 0;
    if (w->has_superblock && w->superblock.initialised > w->initialised && w->superblock.ring_size == w->ring_size)
        w->initialised = w->superblock.initialised;
    w->superblock = wal_superblock_new(wal_id, w->ring_size);
    w->superblock.sequence = sequence;
    enum err e = make_durable(w);
    for (unsigned slot = 0; slot < 2 && e == OK; slot++) e = wal_write_superblock(w, 0, true);
    return e == OK ? write_mark(w, NULL) : e;
}

enum err wal_init(const struct wal_options *o, const uint8_t wal_id[16], bool force, const char **why) {
    struct wal *w;
    enum err e = wal_open(o, &w, why);
    if (e != OK) return e;
    if (w->has_superblock && !w->superblock.closed && !force) {
        *why =
            "it holds a WAL that was not closed in order: what is in it may be nowhere else. A broker whose wal.url it "
            "is recovers it first, and says so; then --force gives it up";
        e = ERR_EXISTS;
    } else {
        *why = "the superblocks could not be written";
        e = make_new(w, wal_id);
    }
    wal_close(w, false);
    return e;
}

/* ---- reading ---- */

/* A piece of the ring, being read or read. */
struct replay_piece {
    struct replay *r;
    uint8_t *data;
    uint64_t position; /* logical */
    size_t wanted, size;
    bool reading;
    enum err error;
};

/* Reads the ring from some position on, REPLAY_AHEAD pieces at a time, so that the device has always something to do
 * while we check what it has given. */
struct replay {
    struct wal *w;
    uint64_t ring;                            /* as the superblock says: that is how it was written */
    uint64_t limit;                           /* logical; nothing is read from here on */
    struct replay_piece pieces[REPLAY_AHEAD]; /* a ring, in order of position */
    unsigned first, count;                    /* the one that we are in, and those behind it */
    uint64_t ahead;                           /* where the next one to be read begins */
    uint8_t *joint;                           /* what lies in several pieces, put together */
    size_t joint_capacity;
    struct waitq piece_read;
};

static void replay_read_piece(void *arg) {
    struct replay_piece *p = arg;
    struct replay *r = p->r;
    p->error =
        env_file_read(r->w->env, r->w->file, WAL_RING_START + p->position % r->ring, p->data, p->wanted, &p->size);
    p->reading = false;
    waitq_wake_all(&r->piece_read);
}

/* Pieces end where the lap does. */
static void replay_read_ahead(struct replay *r) {
    for (; r->count < REPLAY_AHEAD && r->ahead < r->limit; r->count++) {
        struct replay_piece *p = &r->pieces[(r->first + r->count) % REPLAY_AHEAD];
        uint64_t left = r->ring - r->ahead % r->ring;
        if (left > r->limit - r->ahead) left = r->limit - r->ahead;
        if (!p->data) p->data = mem_aligned(r->w->env->mem, REPLAY_PIECE, ENV_FILE_ALIGN);
        p->r = r;
        p->position = r->ahead;
        p->wanted = left < REPLAY_PIECE ? (size_t)left : REPLAY_PIECE;
        p->size = 0;
        p->reading = true;
        r->ahead += p->wanted;
        fiber_spawn(loop_current(), "wal-read", replay_read_piece, p);
    }
}

/* Waits for what is being read: the memory is then ours again. */
static void replay_settle(struct replay *r) {
    for (unsigned i = 0; i < REPLAY_AHEAD; i++) {
        while (r->pieces[i].reading) waitq_wait(&r->piece_read);
    }
}

/* The piece that holds `position`; NULL with *e = OK when the file ends before. */
static const struct replay_piece *replay_piece_at(struct replay *r, uint64_t position, enum err *e) {
    *e = OK;
    if (position >= r->limit) return NULL;
    if (r->count == 0 || position < r->pieces[r->first].position || position >= r->ahead) {
        replay_settle(r);
        r->count = 0;
        r->ahead = position;
    }
    for (;;) {
        replay_read_ahead(r);
        struct replay_piece *p = &r->pieces[r->first];
        while (p->reading) waitq_wait(&r->piece_read);
        if (position < p->position + p->wanted) {
            *e = p->error;
            return p->error == OK && position < p->position + p->size ? p : NULL;
        }
        r->first = (r->first + 1) % REPLAY_AHEAD;
        r->count--;
        fiber_yield(); /* when the device is quicker than we are, nothing else lets others run */
    }
}

/* Bytes [position, position + size) of the ring, until the next call; NULL with *e = OK when the lap or the file ends
 * before. Position and size are multiples of ENV_FILE_ALIGN, or the size ends within a group. */
static const uint8_t *replay_bytes(struct replay *r, uint64_t position, size_t size, enum err *e) {
    *e = OK;
    if (size > r->ring - position % r->ring) return NULL;
    const struct replay_piece *p = replay_piece_at(r, position, e);
    if (!p) return NULL;
    size_t at = (size_t)(position - p->position);
    if (size <= p->size - at) return p->data + at;
    if (size > r->joint_capacity) {
        mem_free(r->w->env->mem, r->joint);
        r->joint = mem_aligned(r->w->env->mem, size, ENV_FILE_ALIGN);
        r->joint_capacity = size;
    }
    for (size_t have = 0; have < size;) {
        p = replay_piece_at(r, position + have, e);
        if (!p) return NULL;
        at = (size_t)(position + have - p->position);
        size_t here = p->size - at < size - have ? p->size - at : size - have;
        memcpy(r->joint + have, p->data + at, here);
        have += here;
    }
    return r->joint;
}

static void replay_end(struct replay *r) {
    replay_settle(r);
    for (unsigned i = 0; i < REPLAY_AHEAD; i++) mem_free(r->w->env->mem, r->pieces[i].data);
    mem_free(r->w->env->mem, r->joint);
}

static enum err replay_group(struct replay *r, const struct group_header *g, const uint8_t *data,
                             enum err (*record)(void *, const struct record_header *, const uint8_t *), void *ctx,
                             struct wal_found *found) {
    size_t at = GROUP_HEADER_SIZE;
    uint64_t before = found->records;
    for (uint32_t i = 0; i < g->record_count; i++) {
        struct record_header h;
        const uint8_t *payload;
        enum err e = record_decode(data + at, g->size - at, g->incarnation, g->block_id, &h, &payload);
        if (e == ERR_CORRUPT && env_mutant(r->w->env, MUTANT_KEEP_TORN)) e = OK;
        if (e == ERR_VERSION) { /* whole, and acknowledged perhaps */
            format_newer(r->w->env->log, FORMAT_WAL_RECORD_TYPE,
                         format_found(FORMAT_WAL_RECORD_TYPE, data + at, g->size - at),
                         "path=%s position=%" PRIu64 " record=%u", r->w->path, g->position, i);
            return e;
        }
        if (e != OK) {
            found->torn = true;
            found->stopped_by = e;
            break;
        }
        e = record(ctx, &h, payload);
        if (e != OK) return e;
        found->records++;
        at += record_size(h.payload_size);
        if (at > g->size) {
            found->torn = true;
            found->stopped_by = ERR_CORRUPT;
            break;
        }
    }
    const struct wal_options *o = &r->w->options;
    if (o->group_found) o->group_found(o->ctx, g, (uint32_t)(found->records - before));
    return OK;
}

/* Looks at every sector from `position` on, up to LOOK_BEHIND_BYTES or `limit`, for the beginning of a group. */
static enum err look_behind(struct replay *r, uint64_t position, uint64_t limit, struct wal_found *found) {
    if (limit - position > LOOK_BEHIND_BYTES) limit = position + LOOK_BEHIND_BYTES;
    enum err e = OK;
    for (uint64_t at = position + ENV_FILE_ALIGN; at < limit && e == OK; at += ENV_FILE_ALIGN) {
        const uint8_t *data = replay_bytes(r, at, ENV_FILE_ALIGN, &e);
        struct group_header g;
        if (!data || group_decode(data, ENV_FILE_ALIGN, &g) != OK) continue;
        if (g.incarnation.v != r->w->superblock.incarnation.v || g.position != at) continue;
        if (found->groups_behind++ == 0) found->first_behind = at;
        if (g.confirmed_position > position) found->damaged = true;
    }
    return e;
}

/* For MUTANT_IGNORE_LOST_GROUP: the next group behind `position`, if there is one not far from it. */
static bool group_behind(struct replay *r, uint64_t *position, uint64_t limit) {
    enum err e = OK;
    struct group_header g;
    for (uint64_t at = *position + ENV_FILE_ALIGN; at < limit && e == OK; at += ENV_FILE_ALIGN) {
        const uint8_t *data = replay_bytes(r, at, ENV_FILE_ALIGN, &e);
        if (!data || group_decode(data, ENV_FILE_ALIGN, &g) != OK) continue;
        if (g.incarnation.v != r->w->superblock.incarnation.v || g.position != at) continue;
        *position = at;
        return true;
    }
    return false;
}

/* A group of ours that a newer program has written: says so. */
static void group_newer(const struct replay *r, const uint8_t *data, uint64_t position) {
    unsigned version = format_found(FORMAT_WAL_GROUP, data, GROUP_HEADER_SIZE);
    bool kind = version <= FORMAT_WAL_GROUP_NEWEST;
    format_newer(r->w->env->log, kind ? FORMAT_WAL_GROUP_KIND : FORMAT_WAL_GROUP,
                 kind ? format_found(FORMAT_WAL_GROUP_KIND, data, GROUP_HEADER_SIZE) : version,
                 "path=%s position=%" PRIu64, r->w->path, position);
}

enum err wal_replay(struct wal *w, enum err (*record)(void *, const struct record_header *, const uint8_t *), void *ctx,
                    struct wal_found *found) {
    ASSERT(w->has_superblock);
    *found = (struct wal_found){0};
    uint64_t position = w->superblock.trim_position, limit = position + w->superblock.ring_size;
    struct replay r = {.w = w, .ring = w->superblock.ring_size, .limit = limit};
    waitq_init(&r.piece_read);
    enum err e = OK;
    while (position < limit) {
        const uint8_t *data = replay_bytes(&r, position, ENV_FILE_ALIGN, &e);
        if (e != OK) break;
        struct group_header g;
        found->stopped_by = data ? group_decode(data, ENV_FILE_ALIGN, &g) : ERR_TRUNCATED;
        bool stale = data && (found->stopped_by == OK || found->stopped_by == ERR_VERSION) &&
                     (g.incarnation.v != w->superblock.incarnation.v || g.position != position);
        if (found->stopped_by == ERR_VERSION && !stale) {
            group_newer(&r, data, position);
            e = ERR_VERSION;
            break;
        }
        if (found->stopped_by == ERR_VERSION)
            found->stopped_by = ERR_STALE; /* what a newer program left here long ago */
        if (found->stopped_by != OK && env_mutant(w->env, MUTANT_IGNORE_LOST_GROUP) &&
            group_behind(&r, &position, limit))
            continue;
        if (found->stopped_by != OK) break;
        if (stale && !env_mutant(w->env, MUTANT_KEEP_STALE)) {
            found->stopped_by = ERR_STALE;
            if (env_mutant(w->env, MUTANT_IGNORE_LOST_GROUP) && group_behind(&r, &position, limit)) continue;
            break;
        }
        if (g.kind == GROUP_PAD) {
            if (g.size != r.ring - position % r.ring) {
                found->stopped_by = ERR_CORRUPT;
                break;
            }
            if (w->options.group_found) w->options.group_found(w->options.ctx, &g, 0);
            position += g.size;
            continue;
        }
        data = replay_bytes(&r, position, g.size, &e);
        if (e != OK) break;
        if (!data) {
            found->stopped_by = ERR_TRUNCATED;
            break;
        }
        e = replay_group(&r, &g, data, record, ctx, found);
        if (e != OK || found->torn) break;
        found->groups++;
        position += (g.size + ENV_FILE_ALIGN - 1) & ~(uint64_t)(ENV_FILE_ALIGN - 1);
    }
    found->end_position = position;
    if (e == OK) e = look_behind(&r, position, limit, found);
    replay_end(&r);
    return e;
}
