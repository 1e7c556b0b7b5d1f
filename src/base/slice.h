/* Slices: immutable, reference-counted views of slabs. A slab is one allocation that many slices share; its count is
 * atomic, for slices travel between shards. A slice with `slab == NULL` borrows memory that somebody else keeps alive.
 */
#ifndef OXBOW_BASE_SLICE_H
#define OXBOW_BASE_SLICE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define SLAB_MAGIC 0x51ab51abu

struct slab {
    unsigned magic;
    _Atomic uint32_t refs;
    uint8_t *data;
    size_t size;
    /* Called when the last reference goes, on whatever thread that is; frees or recycles the slab. */
    void (*release)(struct slab *s);
    void *owner; /* for release */
};

struct slice {
    const uint8_t *data;
    size_t size;
    struct slab *slab;
};

/* A slab with its own `size` bytes behind it, one reference, freed with the last. alignment: power of two,
 * 16 to 4096. From MEM_LARGE_PAGE on they lie on large pages (mem_pages). */
struct slab *slab_create(struct mem *m, size_t size, size_t alignment);
/* For slabs that are part of something else. */
void slab_init(struct slab *s, uint8_t *data, size_t size, void (*release)(struct slab *), void *owner);
struct slab *slab_ref(struct slab *s);
void slab_unref(struct slab *s); /* NULL is fine */

/* A slice of s with a reference of its own. */
struct slice slice_of(struct slab *s, size_t position, size_t size);
/* Another reference to a part of `a`. */
struct slice slice_sub(struct slice a, size_t position, size_t size);
static inline struct slice slice_borrow(const void *data, size_t size) {
    return (struct slice){(const uint8_t *)data, size, NULL};
}
void slice_unref(struct slice *s); /* drops the reference, empties *s */

/* A growing list of slices; owns a reference each. */
struct slices {
    struct mem *mem;
    struct slice *items;
    size_t count, capacity;
    size_t size_bytes; /* of all items together */
};
void slices_init(struct slices *v, struct mem *m);
void slices_deinit(struct slices *v);
void slices_push(struct slices *v, struct slice s); /* takes the reference */
void slices_clear(struct slices *v);

#endif
