#include "base/slice.h"

#include "base/assert.h"

static void slab_free_own(struct slab *s) {
    struct mem *m = s->owner;
    s->magic = 0;
    if (s->size >= MEM_LARGE_PAGE) {
        mem_pages_free(m, s->data, s->size);
    } else {
        mem_free(m, s->data);
    }
    mem_free(m, s);
}

struct slab *slab_create(struct mem *m, size_t size, size_t alignment) {
    struct slab *s = MEM_NEW(m, struct slab);
    ASSERT(alignment <= 4096); /* what mem_pages promises */
    uint8_t *data = size >= MEM_LARGE_PAGE ? mem_pages(m, size) : mem_aligned(m, size, alignment);
    slab_init(s, data, size, slab_free_own, m);
    return s;
}

void slab_init(struct slab *s, uint8_t *data, size_t size, void (*release)(struct slab *), void *owner) {
    INIT_OBJ(s, SLAB_MAGIC);
    atomic_init(&s->refs, 1);
    s->data = data;
    s->size = size;
    s->release = release;
    s->owner = owner;
}

struct slab *slab_ref(struct slab *s) {
    CHECK_OBJ(s, SLAB_MAGIC);
    uint32_t before = atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return s;
}

void slab_unref(struct slab *s) {
    if (!s) return;
    CHECK_OBJ(s, SLAB_MAGIC);
    uint32_t before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1) s->release(s);
}

struct slice slice_of(struct slab *s, size_t position, size_t size) {
    ASSERT(position <= s->size && size <= s->size - position);
    return (struct slice){s->data + position, size, slab_ref(s)};
}

struct slice slice_sub(struct slice a, size_t position, size_t size) {
    ASSERT(position <= a.size && size <= a.size - position);
    return (struct slice){a.data + position, size, a.slab ? slab_ref(a.slab) : NULL};
}

void slice_unref(struct slice *s) {
    slab_unref(s->slab);
    *s = (struct slice){0};
}

void slices_init(struct slices *v, struct mem *m) {
    *v = (struct slices){.mem = m};
}

void slices_clear(struct slices *v) {
    for (size_t i = 0; i < v->count; i++) slice_unref(&v->items[i]);
    v->count = 0;
    v->size_bytes = 0;
}

void slices_deinit(struct slices *v) {
    slices_clear(v);
    mem_free(v->mem, v->items);
    *v = (struct slices){0};
}

void slices_push(struct slices *v, struct slice s) {
    v->items = mem_grow(v->mem, v->items, v->count, &v->capacity, sizeof(*v->items));
    v->items[v->count++] = s;
    v->size_bytes += s.size;
}
