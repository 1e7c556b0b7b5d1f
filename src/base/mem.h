/* Memory of one instance (a broker process, or one simulated node). Every allocation of ours names its `struct mem`, so
 * that the simulator can drop a crashed node's memory whole and memory can be counted. Libraries keep their own
 * allocators.
 *
 * mem_alloc never returns NULL: small fixed structures that do not fit mean the process is beyond help; it says so in
 * one line and aborts, which loses no more than any crash does. Memory whose size a client chooses is granted from a
 * `struct budget` first; there, refusal is an ordinary answer. Thread-safe. */
#ifndef OXBOW_BASE_MEM_H
#define OXBOW_BASE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem;

struct mem_ops {
    /* alignment is a power of two, at least 16; returns zeroed memory when `zeroed`. */
    void *(*alloc)(struct mem *m, size_t size, size_t alignment, bool zeroed);
    void *(*realloc)(struct mem *m, void *p, size_t size);
    void (*free)(struct mem *m, void *p);
};

struct mem {
    const struct mem_ops *ops;
    _Atomic uint64_t allocated_bytes; /* what is out now, as the allocator rounds it */
    /* Of the process's heap: in large pieces, since the beginning; and who is told now and then (mem_on_growth). */
    _Atomic uint64_t large_bytes;
    void (*grown)(void *ctx);
    void *grown_ctx;
    /* Large pages of the system's; NULL: what the allocator gives will do. */
    void *(*map)(struct mem *m, size_t size);
    void (*unmap)(struct mem *m, void *p, size_t size);
};

/* The process's own heap. */
void mem_init_heap(struct mem *m);

/* `grown` is called, on any thread and before the piece is given out, whenever MEM_GROWTH_STEP more has been allocated in
 * pieces of at least MEM_LARGE. It must not allocate. NULL: nobody. While no other thread allocates. */
#define MEM_LARGE ((size_t)64 << 10)
#define MEM_GROWTH_STEP ((uint64_t)16 << 20)
void mem_on_growth(struct mem *m, void (*grown)(void *ctx), void *ctx);

void *mem_alloc(struct mem *m, size_t size);  /* uninitialised */
void *mem_zalloc(struct mem *m, size_t size); /* zeroed; large sizes cost no physical memory until touched */
void *mem_aligned(struct mem *m, size_t size, size_t alignment);
/* p may be NULL; an alignment above 16 is lost. */
void *mem_realloc(struct mem *m, void *p, size_t size);
void mem_free(struct mem *m, void *p); /* p may be NULL */
/* For large buffers that bytes pass through: uninitialised, aligned to 4 KiB at least, from MEM_LARGE_PAGE on to that and
 * on large pages, as far as they are whole, where the environment has them (map returns such memory, unmap takes it back);
 * freed with the same size. */
#define MEM_LARGE_PAGE ((size_t)2 << 20)
void *mem_pages(struct mem *m, size_t size);
void mem_pages_free(struct mem *m, void *p, size_t size);
char *mem_strdup(struct mem *m, const char *s);
char *mem_strndup(struct mem *m, const char *s, size_t n);
char *mem_printf(struct mem *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define MEM_NEW(m, type) ((type *)mem_zalloc((m), sizeof(type)))

/* Grows an array for one more element: doubles `capacity` when `count` has reached it. */
void *mem_grow(struct mem *m, void *array, size_t count, size_t *capacity, size_t element_size);

/* A budget: bytes that may be out at once. Not thread-safe unless the owner says so; counts only, allocates nothing. */
struct budget {
    uint64_t limit_bytes;
    uint64_t used_bytes;
};

static inline bool budget_take(struct budget *b, uint64_t bytes) {
    /* The limit may have been lowered below what is out. */
    if (b->used_bytes > b->limit_bytes || bytes > b->limit_bytes - b->used_bytes) return false;
    b->used_bytes += bytes;
    return true;
}
void budget_give(struct budget *b, uint64_t bytes);

#endif
