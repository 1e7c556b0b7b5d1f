#include "base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define MEM_SMALL_PAGE ((size_t)4096)

static void count(struct mem *m, void *p, bool out) {
    size_t n = malloc_usable_size(p);
    if (out) {
        atomic_fetch_add_explicit(&m->allocated_bytes, n, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&m->allocated_bytes, n, memory_order_relaxed);
    }
}

/* Small things that do not fit, or a machine that has nothing left: the process ends, as by kill -9. What was acknowledged
 * is durable, and the next start recovers. */
static _Noreturn void out_of_memory(size_t size) {
    fprintf(stderr, "level=fatal msg=\"out of memory\" wanted_bytes=%zu\n", size);
    fflush(stderr);
    abort();
}

static void note_large(struct mem *m, size_t size) {
    uint64_t before = atomic_fetch_add_explicit(&m->large_bytes, size, memory_order_relaxed);
    if (m->grown && (before + size) / MEM_GROWTH_STEP != before / MEM_GROWTH_STEP) m->grown(m->grown_ctx);
}

static void *heap_alloc(struct mem *m, size_t size, size_t alignment, bool zeroed) {
    void *p = NULL;
    if (OX_UNLIKELY(size >= MEM_LARGE)) note_large(m, size);
    if (alignment <= 16) {
        p = zeroed ? calloc(1, size) : malloc(size);
    } else {
        if (posix_memalign(&p, alignment, size) != 0) p = NULL;
        if (p && zeroed) memset(p, 0, size);
    }
    if (OX_UNLIKELY(!p)) out_of_memory(size);
    count(m, p, true);
    return p;
}

static void *heap_realloc(struct mem *m, void *p, size_t size) {
    if (p) count(m, p, false);
    if (OX_UNLIKELY(size >= MEM_LARGE)) note_large(m, size);
    p = realloc(p, size);
    if (OX_UNLIKELY(!p)) out_of_memory(size);
    count(m, p, true);
    return p;
}

static void heap_free(struct mem *m, void *p) {
    count(m, p, false);
    free(p);
}

static const struct mem_ops heap_ops = {heap_alloc, heap_realloc, heap_free};

void mem_init_heap(struct mem *m) {
    m->ops = &heap_ops;
    atomic_init(&m->allocated_bytes, 0);
    atomic_init(&m->large_bytes, 0);
    mem_on_growth(m, NULL, NULL);
    m->map = NULL;
    m->unmap = NULL;
}

void mem_on_growth(struct mem *m, void (*grown)(void *ctx), void *ctx) {
    m->grown = grown;
    m->grown_ctx = ctx;
}

void *mem_alloc(struct mem *m, size_t size) {
    return m->ops->alloc(m, size ? size : 1, 16, false);
}

void *mem_zalloc(struct mem *m, size_t size) {
    return m->ops->alloc(m, size ? size : 1, 16, true);
}

void *mem_aligned(struct mem *m, size_t size, size_t alignment) {
    ASSERT(alignment >= 16 && (alignment & (alignment - 1)) == 0);
    return m->ops->alloc(m, size ? size : 1, alignment, false);
}

void *mem_realloc(struct mem *m, void *p, size_t size) {
    return m->ops->realloc(m, p, size ? size : 1);
}

void mem_free(struct mem *m, void *p) {
    if (p) m->ops->free(m, p);
}

static bool has_pages(const struct mem *m, size_t size) {
    return m->map && size >= MEM_LARGE_PAGE;
}

void *mem_pages(struct mem *m, size_t size) {
    if (!has_pages(m, size)) return mem_aligned(m, size, MEM_SMALL_PAGE);
    note_large(m, size);
    void *p = m->map(m, size);
    if (OX_UNLIKELY(!p)) out_of_memory(size);
    atomic_fetch_add_explicit(&m->allocated_bytes, size, memory_order_relaxed);
    return p;
}

void mem_pages_free(struct mem *m, void *p, size_t size) {
    if (!has_pages(m, size)) {
        mem_free(m, p);
        return;
    }
    atomic_fetch_sub_explicit(&m->allocated_bytes, size, memory_order_relaxed);
    m->unmap(m, p, size);
}

char *mem_strndup(struct mem *m, const char *s, size_t n) {
    char *copy = mem_alloc(m, n + 1);
    if (n > 0) memcpy(copy, s, n); /* an empty string may have no address */
    copy[n] = '\0';
    return copy;
}

char *mem_strdup(struct mem *m, const char *s) {
    return mem_strndup(m, s, strlen(s));
}

char *mem_printf(struct mem *m, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    ASSERT(n >= 0);
    char *s = mem_alloc(m, (size_t)n + 1);
    va_start(ap, format);
    (void)vsnprintf(s, (size_t)n + 1, format, ap);
    va_end(ap);
    return s;
}

void *mem_grow(struct mem *m, void *array, size_t used, size_t *capacity, size_t element_size) {
    if (used < *capacity) return array;
    *capacity = *capacity ? *capacity * 2 : 8;
    return mem_realloc(m, array, *capacity * element_size);
}

void budget_give(struct budget *b, uint64_t bytes) {
    ASSERT(b->used_bytes >= bytes);
    b->used_bytes -= bytes;
}
