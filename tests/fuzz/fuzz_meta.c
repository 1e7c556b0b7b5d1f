/* Any bytes from the cluster log: the first byte says what as. 0: the head of a data entry: records, applied to an
 * image as far as they fit; the image's snapshot comes back the same. 1: a snapshot. 2, 3: the object that names the
 * cluster (3: its checksum is made to match). */
#include "base/assert.h"
#include "base/crc32c.h"
#include "meta/meta_cluster.h"
#include "meta/meta_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same_again(struct mem *m, const struct meta_image *i) {
    struct buf one, two;
    buf_init(&one, m);
    buf_init(&two, m);
    meta_snapshot_encode(i, &one);
    struct meta_image again;
    enum err e = meta_snapshot_decode(&again, m, slice_borrow(one.data, one.size));
    ASSERT(e == OK);
    meta_snapshot_encode(&again, &two);
    ASSERT(one.size == two.size && memcmp(one.data, two.data, one.size) == 0);
    meta_image_deinit(&again);
    buf_deinit(&one);
    buf_deinit(&two);
}

static void records(struct mem *m, const uint8_t *data, size_t size) {
    struct meta_image image;
    meta_image_init(&image, m);
    struct reader r = reader_of(data, size);
    bool fits = true;
    for (uint64_t n = 0; fits && reader_left(&r) > 0; n++) {
        struct meta_record record;
        enum err e = meta_record_decode(&record, m, &r);
        ASSERT(e == OK || e == ERR_VERSION || e == ERR_CORRUPT || e == ERR_TRUNCATED);
        if (e != OK) break;
        struct buf again;
        buf_init(&again, m);
        meta_record_encode(&record, &again);
        struct reader inside = reader_of(again.data, again.size);
        struct meta_record back;
        e = meta_record_decode(&back, m, &inside);
        ASSERT(e == OK && back.kind == record.kind && reader_left(&inside) == 0);
        meta_record_deinit(&back, m);
        e = meta_image_apply(&image, &record, meta_position(1, n));
        ASSERT(e == OK || e == ERR_CORRUPT);
        fits = e == OK;
        meta_record_deinit(&record, m);
        buf_deinit(&again);
        if (image.extent_count > 1000) break;
    }
    same_again(m, &image);
    meta_image_deinit(&image);
}

static void snapshot(struct mem *m, const uint8_t *data, size_t size) {
    struct meta_image image;
    if (meta_snapshot_decode(&image, m, slice_borrow(data, size)) != OK) return;
    same_again(m, &image);
    meta_image_deinit(&image);
}

static void cluster(struct mem *m, const uint8_t *data, size_t size, bool repair) {
    uint8_t *copy = mem_alloc(m, size + 1);
    memcpy(copy, data, size);
    if (repair && size >= 12) le32_put(copy + size - 4, crc32c(0, copy, size - 4));
    char generation[META_GENERATION_SIZE + 1];
    struct uuid id;
    if (meta_cluster_decode(copy, size, generation, &id) == OK) ASSERT(strlen(generation) == META_GENERATION_SIZE);
    mem_free(m, copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct mem m;
    mem_init_heap(&m);
    switch (data[0] & 3) {
    case 0:
        records(&m, data + 1, size - 1);
        break;
    case 1:
        snapshot(&m, data + 1, size - 1);
        break;
    default:
        cluster(&m, data + 1, size - 1, data[0] & 1);
        break;
    }
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
