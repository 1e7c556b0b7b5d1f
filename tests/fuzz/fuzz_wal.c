/* Any bytes as a write-ahead log: 256 bytes of superblock, then the ring from its beginning. The first byte says what
 * is made to match first, so that the fuzzer gets behind the checksums: 1 the superblock, 2 group headers at the
 * beginning of sectors, 4 the records of the groups. Then what recovery does: open, read the mark, replay. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/wal.h"

#define FILE_SIZE (17u << 20)
#define RING_MAX ((size_t)256 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct image {
    struct env env;
    const uint8_t *superblock;
    const uint8_t *ring;
    size_t ring_size;
    uint64_t records;
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
    for (size_t i = 0; i < part_size; i++) {
        if (at + i >= position && at + i < position + size) out[at + i - position] = part[i];
    }
}
static enum err image_read(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got) {
    struct image *m = (struct image *)(void *)f;
    if (position > FILE_SIZE) position = FILE_SIZE;
    if (size > FILE_SIZE - position) size = (size_t)(FILE_SIZE - position);
    memset(data, 0, size);
    overlay(data, position, size, 0, m->superblock, WAL_SUPERBLOCK_SIZE);
    overlay(data, position, size, WAL_RING_START, m->ring, m->ring_size);
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

static void repair(unsigned what, uint8_t *superblock, uint8_t *ring, size_t ring_size) {
    if (what & 1) {
        memcpy(superblock, "OXBWWAL1\1\0\0", 12);
        le64_put(superblock + 96, (16u << 20) + (le64_get(superblock + 96) & 0xf000));
        le32_put(superblock + WAL_SUPERBLOCK_SIZE - 4, crc32c(0, superblock, WAL_SUPERBLOCK_SIZE - 4));
    }
    for (size_t at = 0; at + GROUP_HEADER_SIZE <= ring_size; at += ENV_FILE_ALIGN) {
        if ((what & 2) && le32_get(ring + at) == GROUP_MAGIC) le32_put(ring + at + 60, crc32c(0, ring + at, 60));
        if (what & 4) repair_records(ring + at, ring_size - at);
    }
}

static enum err on_record(void *ctx, const struct record_header *h, const uint8_t *payload) {
    struct image *m = ctx;
    ASSERT(h->type == STREAM_BATCH || h->type == STREAM_TRIM);
    ASSERT(h->end_offset >= h->base_offset);
    m->records += crc32c(0, payload, h->payload_size) & 1; /* reads all of it */
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 + WAL_SUPERBLOCK_SIZE) return 0;
    static const struct env_ops ops = {.file_info = image_info,
                                       .file_open = image_open,
                                       .file_close = image_close,
                                       .file_size = image_size,
                                       .file_read = image_read};
    struct mem m;
    mem_init_heap(&m);
    size_t ring_size = size - 1 - WAL_SUPERBLOCK_SIZE < RING_MAX ? size - 1 - WAL_SUPERBLOCK_SIZE : RING_MAX;
    uint8_t *superblock = mem_alloc(&m, WAL_SUPERBLOCK_SIZE), *ring = mem_alloc(&m, ring_size + 1);
    memcpy(superblock, data + 1, WAL_SUPERBLOCK_SIZE);
    memcpy(ring, data + 1 + WAL_SUPERBLOCK_SIZE, ring_size);
    repair(data[0], superblock, ring, ring_size);
    struct image image = {.env = {.magic = ENV_MAGIC, .ops = &ops, .mem = &m},
                          .superblock = superblock,
                          .ring = ring,
                          .ring_size = ring_size};
    struct wal_options o = {.env = &image.env, .path = "image", .read_only = true, .ctx = &image};
    struct wal *w;
    const char *why = NULL;
    if (wal_open(&o, &w, &why) == OK) {
        struct incarnation taken;
        ASSERT(wal_read_mark(w, &taken) == ERR_NOT_FOUND);
        if (wal_superblock(w)) {
            struct wal_found found;
            enum err e = wal_replay(w, on_record, &image, &found);
            ASSERT(e == OK || e == ERR_VERSION);
            ASSERT(found.end_position >= wal_superblock(w)->trim_position);
        }
        wal_close(w, false);
    } else {
        ASSERT(why != NULL);
    }
    mem_free(&m, superblock);
    mem_free(&m, ring);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
