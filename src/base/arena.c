#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

struct arena_chunk {
    struct arena_chunk *next;
    size_t size; /* of the allocation, this header included */
} __attribute__((aligned(16)));

void arena_init(struct arena *a, struct mem *m) {
    *a = (struct arena){.mem = m, .chunk_bytes = ARENA_CHUNK_MIN, .limit_bytes = SIZE_MAX};
}

static void free_chunks(struct arena *a, struct arena_chunk *keep) {
    struct arena_chunk *c = a->chunks;
    while (c) {
        struct arena_chunk *next = c->next;
        if (c != keep) mem_free(a->mem, c);
        c = next;
    }
}

void arena_deinit(struct arena *a) {
    free_chunks(a, NULL);
    *a = (struct arena){0};
}

void arena_reset(struct arena *a) {
    struct arena_chunk *keep = NULL;
    for (struct arena_chunk *c = a->chunks; c; c = c->next) {
        if (c->size <= ARENA_CHUNK_MAX && (!keep || c->size > keep->size)) keep = c;
    }
    free_chunks(a, keep);
    a->chunks = keep;
    a->used_bytes = 0;
    a->held_bytes = 0;
    a->at = a->end = NULL;
    a->chunk_bytes = ARENA_CHUNK_MIN;
    if (!keep) return;
    keep->next = NULL;
    a->held_bytes = keep->size;
    a->at = (uint8_t *)(keep + 1);
    a->end = (uint8_t *)keep + keep->size;
    a->chunk_bytes = keep->size;
}

static void add_chunk(struct arena *a, size_t need) {
    size_t size = a->chunk_bytes;
    if (size < need + sizeof(struct arena_chunk)) size = need + sizeof(struct arena_chunk);
    a->chunk_bytes = a->chunk_bytes < ARENA_CHUNK_MAX / 2 ? a->chunk_bytes * 2 : ARENA_CHUNK_MAX;
    struct arena_chunk *c = mem_alloc(a->mem, size);
    c->next = a->chunks;
    c->size = size;
    a->chunks = c;
    a->held_bytes += size;
    a->at = (uint8_t *)(c + 1);
    a->end = (uint8_t *)c + size;
}

void *arena_alloc(struct arena *a, size_t size) {
    ASSERT(size <= SIZE_MAX / 2);
    size = size ? (size + 15) & ~(size_t)15 : 16;
    if ((size_t)(a->end - a->at) < size) add_chunk(a, size);
    void *p = a->at;
    a->at += size;
    a->used_bytes += size;
    return p;
}

void *arena_try_alloc(struct arena *a, size_t size) {
    if (a->used_bytes > a->limit_bytes || size > a->limit_bytes - a->used_bytes) return NULL;
    return arena_alloc(a, size);
}

void *arena_zalloc(struct arena *a, size_t size) {
    return memset(arena_alloc(a, size), 0, size);
}

void *arena_copy(struct arena *a, const void *data, size_t size) {
    void *p = arena_alloc(a, size);
    if (size) memcpy(p, data, size);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n) {
    char *p = arena_alloc(a, n + 1);
    if (n) memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *arena_printf(struct arena *a, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    ASSERT(n >= 0);
    char *s = arena_alloc(a, (size_t)n + 1);
    va_start(ap, format);
    (void)vsnprintf(s, (size_t)n + 1, format, ap);
    va_end(ap);
    return s;
}
