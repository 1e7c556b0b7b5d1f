/* Any bytes as a write-ahead log: 256 bytes of superblock, then the ring from its beginning. The first byte says what
 * is made to match first, so that the fuzzer gets behind the checksums: 1 the superblocks, 2 group headers at the
 * beginning of sectors, 4 the records of the groups; and what else there is: 8 the bytes of the ring lie at its trim
 * position and go round, 16 a second superblock comes behind the first, 32 then 64 bytes of a takeover mark. Then what
 * recovery does: open, read the mark, replay. Of two superblocks the one with the higher sequence counts; any mark
 * counts; a superblock that was read is said again; records come as they lie, in groups that follow each other.
 * The reading half of the log is included, with small sizes: of a large ring most runs would be spent on zeros. */
#define OXBOW_SMALL
#include "stream/wal_open.c"

#include "stream/object.h"

#include "rt/fiber.h"
#include "rt/loop.h"

#define FILE_SIZE (WAL_RING_START + (512u << 10))
#define RING_MAX ((size_t)256 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct image {
    struct env env;
    const uint8_t *superblocks; /* two */
    const uint8_t *mark;
    const uint8_t *ring;
    size_t ring_size;
    uint64_t ring_at, lap; /* where the bytes of the ring begin; the ring's whole size */
    uint64_t records;
    uint64_t group_end; /* of the last group that was found; 0: none yet */
};

static enum err image_info(struct env *e, const char *path, struct env_file_info *out) {
    (void)e, (void)path;
    *out = (struct env_file_info){.size_bytes = FILE_SIZE};
    return OK;
}
static enum err image_open(struct env *e, const char *path, unsigned flags, struct env_file **out) {
    (void)path;
    ASSERT((flags & ENV_FILE_READ_ONLY) && !(flags & (ENV_FILE_CREATE | ENV_FILE_LOCK)));
    *out = (struct env_file *)(void *)e;
    return OK;
}
static void image_close(struct env_file *f) {
    (void)f;
}
static enum err image_size(struct env_file *f, struct env_file_info *out) {
    (void)f;
    *out = (struct env_file_info){.size_bytes = FILE_SIZE};
    return OK;
}
static void overlay(uint8_t *out, uint64_t position, size_t size, uint64_t at, const uint8_t *part, size_t part_size) {
    uint64_t from = at > position ? at : position, end = position + size;
    if (end > at + part_size) end = at + part_size;
    if (from < end) memcpy(out + (from - position), part + (from - at), (size_t)(end - from));
}
static enum err image_read(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got) {
    struct image *m = (struct image *)(void *)f;
    if (position > FILE_SIZE) position = FILE_SIZE;
    if (size > FILE_SIZE - position) size = (size_t)(FILE_SIZE - position);
    memset(data, 0, size);
    for (unsigned i = 0; i < 2; i++)
        overlay(data, position, size, (uint64_t)i * ENV_FILE_ALIGN, m->superblocks + (size_t)i * WAL_SUPERBLOCK_SIZE,
                WAL_SUPERBLOCK_SIZE);
    overlay(data, position, size, 2 * (uint64_t)ENV_FILE_ALIGN, m->mark, MARK_SIZE);
    size_t first = m->lap - m->ring_at < m->ring_size ? (size_t)(m->lap - m->ring_at) : m->ring_size;
    overlay(data, position, size, WAL_RING_START + m->ring_at, m->ring, first);
    overlay(data, position, size, WAL_RING_START, m->ring + first, m->ring_size - first);
    *got = size;
    return OK;
}

static void repair_records(uint8_t *group, size_t size) {
    struct group_header g;
    if (group_decode(group, size, &g) != OK || g.size > size) return;
    size_t at = GROUP_HEADER_SIZE;
    for (uint32_t i = 0; i < g.record_count && at + RECORD_HEADER_SIZE <= g.size; i++) {
        uint32_t payload = le32_get(group + at);
        if (payload > g.size - at - RECORD_HEADER_SIZE) return;
        uint8_t seed[16];
        le64_put(seed, g.incarnation.v);
        le64_put(seed + 8, g.block_id);
        le32_put(group + at + 4,
                 crc32c(crc32c(0, seed, sizeof(seed)), group + at + 8, RECORD_HEADER_SIZE - 8 + payload));
        at += record_size(payload);
    }
}

static void superblock_repair(uint8_t *superblock) {
    memcpy(superblock, "OXBWWAL1\1\0\0", 12);
    le64_put(superblock + 96, WAL_RING_MIN + (le64_get(superblock + 96) & 0xf000));
    le32_put(superblock + WAL_SUPERBLOCK_SIZE - 4, crc32c(0, superblock, WAL_SUPERBLOCK_SIZE - 4));
}

static void ring_repair(unsigned what, uint8_t *ring, size_t ring_size) {
    for (size_t at = 0; at + GROUP_HEADER_SIZE <= ring_size; at += ENV_FILE_ALIGN) {
        if ((what & 2) && le32_get(ring + at) == GROUP_MAGIC) le32_put(ring + at + 60, crc32c(0, ring + at, 60));
        if (what & 4) repair_records(ring + at, ring_size - at);
    }
}

static void superblock_said_again(const struct wal_superblock *s) {
    uint8_t one[WAL_SUPERBLOCK_SIZE], two[WAL_SUPERBLOCK_SIZE];
    struct wal_superblock again = {.sequence = 0};
    wal_superblock_encode(s, one);
    enum err e = wal_superblock_decode(one, sizeof(one), &again);
    ASSERT(e == OK);
    wal_superblock_encode(&again, two);
    ASSERT(memcmp(one, two, sizeof(one)) == 0);
}

/* The one that counts is sound, and no sound one is newer. */
static void superblock_check(const struct image *image, const struct wal_superblock *s) {
    superblock_said_again(s);
    for (size_t i = 0; i < 2; i++) {
        struct wal_superblock other;
        if (wal_superblock_decode(image->superblocks + i * WAL_SUPERBLOCK_SIZE, WAL_SUPERBLOCK_SIZE, &other) == OK)
            ASSERT(other.sequence <= s->sequence);
    }
}

static enum err on_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct image *m = ctx;
    ASSERT(h->type == STREAM_BATCH || h->type == STREAM_TRIM);
    ASSERT(h->end_offset >= h->base_offset);
    struct state_batch view;
    if (h->type == STREAM_BATCH && object_batch_view(h, payload, &view) == OK)
        ASSERT(view.base_offset == h->base_offset && view.end_offset == h->end_offset);
    m->records += crc32c(0, payload, h->payload_size) & 1; /* reads all of it */
    return OK;
}

static void on_group(void *ctx, const struct group_header *g, uint32_t whole_records) {
    struct image *m = ctx;
    ASSERT(whole_records <= g->record_count && (m->group_end == 0 || g->position == m->group_end));
    m->group_end = g->position + ((g->size + ENV_FILE_ALIGN - 1) & ~(uint64_t)(ENV_FILE_ALIGN - 1));
}

static void use(struct image *image) {
    struct wal_options o = {
        .env = &image->env, .path = "image", .read_only = true, .ctx = image, .group_found = on_group};
    struct wal *w;
    const char *why = NULL;
    if (wal_open(&o, &w, &why) != OK) {
        ASSERT(why != NULL);
        return;
    }
    struct incarnation taken = {0};
    bool marked = false;
    for (size_t i = 0; i < MARK_SIZE; i++) marked |= image->mark[i] != 0;
    enum err e = wal_read_mark(w, &taken);
    ASSERT(e == (marked ? OK : ERR_NOT_FOUND) && taken.v == (marked ? le64_get(image->mark + 16) : 0));
    const struct wal_superblock *s = wal_superblock(w);
    if (s) {
        superblock_check(image, s);
        image->lap = s->ring_size;
        image->ring_at = image->ring_at ? s->trim_position % s->ring_size : 0;
        struct wal_found found;
        e = wal_replay(w, on_record, image, &found);
        ASSERT(e == OK || e == ERR_VERSION);
        ASSERT(found.end_position - s->trim_position <= s->ring_size);
        if (image->group_end && !found.torn) ASSERT(found.end_position == image->group_end);
    }
    wal_close(w, false);
}

/* A replay reads ahead, in fibers: so all this runs on a loop, whose time stands still. */
static uint64_t image_now(struct env *e) {
    (void)e;
    return 0;
}
static void image_wake(struct loop *l) {
    (void)l;
}
static void use_fiber(void *arg) {
    use(arg);
}
static void use_on_loop(struct image *image) {
    struct loop loop;
    loop_init(&loop, &image->env, "fuzz", 0);
    loop_set_current(&loop);
    (void)fiber_spawn(&loop, "use", use_fiber, image);
    while (loop_step(&loop, 0)) {
    }
    ASSERT(loop.fibers_alive == 0);
    loop_set_current(NULL);
    loop_deinit(&loop);
}

/* The next n bytes, or fewer and then zeros. */
static void take(uint8_t *out, size_t n, const uint8_t **data, size_t *size) {
    size_t got = n < *size ? n : *size;
    memset(out, 0, n);
    memcpy(out, *data, got);
    *data += got;
    *size -= got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 + WAL_SUPERBLOCK_SIZE) return 0;
    static const struct env_ops ops = {.now_ns = image_now,
                                       .loop_wake = image_wake,
                                       .file_info = image_info,
                                       .file_open = image_open,
                                       .file_close = image_close,
                                       .file_size = image_size,
                                       .file_read = image_read};
    struct mem m;
    mem_init_heap(&m);
    uint8_t what = *data++;
    size--;
    uint8_t superblocks[2 * WAL_SUPERBLOCK_SIZE] = {0}, mark[MARK_SIZE] = {0};
    for (unsigned i = 0; i < (what & 16 ? 2u : 1u); i++) {
        take(superblocks + (size_t)i * WAL_SUPERBLOCK_SIZE, WAL_SUPERBLOCK_SIZE, &data, &size);
        if (what & 1) superblock_repair(superblocks + (size_t)i * WAL_SUPERBLOCK_SIZE);
    }
    if (what & 32) take(mark, MARK_SIZE, &data, &size);
    size_t ring_size = size < RING_MAX ? size : RING_MAX;
    uint8_t *ring = mem_alloc(&m, ring_size + 1);
    memcpy(ring, data, ring_size);
    ring_repair(what, ring, ring_size);
    struct image image = {.env = {.magic = ENV_MAGIC, .ops = &ops, .mem = &m},
                          .superblocks = superblocks,
                          .mark = mark,
                          .ring = ring,
                          .ring_size = ring_size,
                          .ring_at = what & 8 ? 1 : 0,
                          .lap = FILE_SIZE - WAL_RING_START};
    use_on_loop(&image);
    mem_free(&m, ring);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
