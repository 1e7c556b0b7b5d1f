/* Any bytes as an object of the store, looked at as `oxbow ledger|object inspect` does: the first byte says under which
 * key (ledger entry, data object, cluster log entry), and whether checksums are made to match: 4 the entry's or data
 * object's header, 8 head and body, 16 the block index at the beginning of the body (of a ledger entry: of as many
 * blocks as the top three bits say, and one). Whatever is found is a line, BAD or not; nothing is read outside of the
 * object. */
#include <stdio.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "cli/inspect.h"
#include "feed.h"

#define GENERATION "aaaaaaaaaaaaaaaaaaaaaaaaaa"

int LLVMFuzzerInitialize(int *argc, char ***argv);

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
    if (size == 0) return OK;
    struct slab *slab = slab_create(s->env->mem, size, 16);
    memcpy(slab->data, o->data + position, size);
    *out = slice_of(slab, 0, size);
    slab_unref(slab);
    return OK;
}

static uint64_t now_ns(struct env *e) {
    (void)e;
    return 1;
}

static void repair(uint8_t what, uint8_t *data, size_t size) {
    if ((what & 3) == 1) {
        if (size < OBJECT_DATA_HEADER) return;
        if (what & 4) le32_put(data + 60, crc32c(0, data, 60));
        size_t index =
            size - OBJECT_DATA_HEADER >= object_index_size(1) ? (size_t)le64_get(data + OBJECT_DATA_HEADER + 24) : 0;
        if ((what & 16) && index >= object_index_size(1) && index <= size - OBJECT_DATA_HEADER)
            le32_put(data + OBJECT_DATA_HEADER + index - 8, crc32c(0, data + OBJECT_DATA_HEADER, index - 8));
        return;
    }
    if (size < OBJLOG_HEADER_SIZE) return;
    uint64_t head_size = le64_get(data + 64), left = size - OBJLOG_HEADER_SIZE;
    if (head_size > left) return;
    uint8_t *head = data + OBJLOG_HEADER_SIZE, *body = head + head_size;
    size_t body_size = (size_t)(left - head_size);
    size_t index = object_index_size(1u + (what >> 5));
    if ((what & 16) && index <= body_size) le32_put(body + index - 8, crc32c(0, body, index - 8));
    if (what & 8) {
        le64_put(data + 72, body_size);
        le32_put(data + 80, crc32c(0, head, (size_t)head_size));
        le32_put(data + 84, crc32c(0, body, body_size));
    }
    if (what & 4) le32_put(data + OBJLOG_HEADER_SIZE - 4, crc32c(0, data, OBJLOG_HEADER_SIZE - 4));
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    FILE *nowhere = freopen("/dev/null", "w", stdout); /* what it prints is many lines a run */
    ASSERT(nowhere != NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct mem m;
    mem_init_heap(&m);
    static const struct env_ops env_ops = {.now_ns = now_ns};
    static const struct store_ops store_ops = {.get = get};
    struct metrics *metrics = MEM_NEW(&m, struct metrics);
    struct env env = {.magic = ENV_MAGIC, .ops = &env_ops, .mem = &m, .metrics = metrics};
    uint8_t what = data[0];
    size--;
    uint8_t *copy = mem_alloc(&m, size + 1);
    memcpy(copy, data + 1, size);
    repair(what, copy, size);
    struct one_object store = {
        .base = {.magic = STORE_MAGIC, .ops = &store_ops, .env = &env}, .data = copy, .size = size};
    struct inspect x = {.command = "fuzz", .env = &env, .store = &store.base, .verbose = true};
    memcpy(x.generation, GENERATION, sizeof(GENERATION));
    /* The key that the object says it has, so that this is not what it fails by. */
    char key[OBJECT_KEY_MAX];
    struct object_id id = {.kind = OBJECT_LEDGER_ENTRY, .creator = {1}, .number = size >= 16 ? le64_get(copy + 8) : 0};
    if ((what & 3) == 1)
        id = (struct object_id){.kind = OBJECT_DATA,
                                .creator = {size >= 16 ? le64_get(copy + 8) : 0},
                                .number = size >= 24 ? le64_get(copy + 16) : 0};
    object_key(key, GENERATION, id);
    if ((what & 3) == 2) (void)snprintf(key, sizeof(key), GENERATION "/cluster/%020llu", (unsigned long long)id.number);
    inspect_object(&x, key, false);
    ASSERT(x.bad + x.objects > 0);
    mem_free(&m, copy);
    metrics_deinit(metrics, &m);
    mem_free(&m, metrics);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
