/* Any bytes as a ledger entry, applied to an image as recovery does it: u8 (1: a checkpoint; 2: checksums of
 * checkpointed states are made to match), u16 size of the head, head, body. The object that checkpointed states lie in
 * is this entry itself. An entry that goes through is applied twice. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "stream/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct one_object {
    struct store base;
    const uint8_t *data;
    size_t size;
};

static enum err get(struct store *s, const char *key, uint64_t position, size_t size, enum store_purpose purpose,
                    struct slice *out) {
    (void)purpose;
    struct one_object *o = (struct one_object *)(void *)s;
    (void)key;
    if (position > o->size) position = o->size;
    if (size > o->size - position) size = o->size - (size_t)position;
    struct slab *slab = slab_create(s->env->mem, size ? size : 1, 16);
    memcpy(slab->data, o->data + position, size);
    *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return OK;
}

static bool is_current(void *ctx, struct stream_id id, int32_t *epoch) {
    (void)ctx;
    *epoch = 0;
    return id.v != 0; /* the cluster log never gives out 0 */
}

static uint64_t now_ns(struct env *e) {
    (void)e;
    return 1;
}

/* Puts the right checksum into each state pointer behind the sections, where its bytes are there. */
static void repair(uint8_t *head, size_t head_size, const uint8_t *whole, size_t whole_size) {
    struct reader r = reader_of(head, head_size);
    struct object_head h;
    struct object_section s;
    if (object_head_decode(&r, &h) != OK) return;
    for (uint32_t i = 0; i < h.section_count; i++) {
        if (object_section_decode(&r, &s) != OK) return;
    }
    for (uint32_t i = 0; i < h.state_count && reader_left(&r) >= 40; i++) {
        uint8_t *at = head + (r.at - head);
        struct object_state_pointer p;
        if (object_state_decode(&r, &p) != OK) return;
        uint64_t position = p.entry == OBJECT_THIS_ENTRY ? p.position + OBJLOG_HEADER_SIZE + head_size : p.position;
        if (position <= whole_size && p.size <= whole_size - position)
            le32_put(at + 16, crc32c(0, whole + position, p.size));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    struct mem m;
    mem_init_heap(&m);
    static const struct env_ops env_ops = {.now_ns = now_ns};
    static const struct store_ops store_ops = {.get = get};
    struct metrics *metrics = MEM_NEW(&m, struct metrics);
    struct env env = {.magic = ENV_MAGIC, .ops = &env_ops, .mem = &m, .metrics = metrics};
    bool checkpoint = data[0] & 1;
    size_t head_size = le16_get(data + 1), left = size - 3;
    if (head_size > left) head_size = left;
    size_t whole_size = OBJLOG_HEADER_SIZE + left;
    uint8_t *whole = mem_zalloc(&m, whole_size), *head = whole + OBJLOG_HEADER_SIZE;
    memcpy(head, data + 3, left);
    if (data[0] & 2) repair(head, head_size, whole, whole_size);
    struct one_object store = {
        .base = {.magic = STORE_MAGIC, .ops = &store_ops, .env = &env}, .data = whole, .size = whole_size};
    struct ledger_image image;
    ledger_image_init(&image, &m);
    struct ledger_filter filter = {is_current, NULL};
    struct objlog_entry e = {.header = {.kind = checkpoint ? OBJLOG_CHECKPOINT : OBJLOG_DATA,
                                        .number = 4,
                                        .head_size = head_size,
                                        .body_size = left - head_size},
                             .head = slice_borrow(head, head_size)};
    struct object_head out;
    if (ledger_apply_entry(&image, &store.base, "g", (struct incarnation){1}, &e, &filter, &out) == OK) {
        e.header.number = 5;
        if (ledger_apply_entry(&image, &store.base, "g", (struct incarnation){1}, &e, &filter, &out) == OK) {
            size_t cursor = 0;
            struct ledger_stream *s;
            while ((s = map64_next(&image.streams, &cursor, NULL)) != NULL)
                ASSERT(s->state.start_offset <= s->state.end_offset);
        }
    }
    ledger_image_deinit(&image);
    mem_free(&m, whole);
    metrics_deinit(metrics, &m);
    mem_free(&m, metrics);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
