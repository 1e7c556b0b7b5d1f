/* Arenas: memory that lives exactly as long as one piece of work, a request say, and is given back in one go.
 * Chunks double from ARENA_CHUNK_MIN to ARENA_CHUNK_MAX bytes; a larger allocation gets a chunk of its own size. What
 * an arena holds is therefore at most twice what was asked of it (each request rounded up to 16 bytes) plus
 * ARENA_CHUNK_MAX. An arena from which nothing was taken holds no memory. Not thread-safe. */
#ifndef OXBOW_BASE_ARENA_H
#define OXBOW_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

#define ARENA_CHUNK_MIN ((size_t)2048)
#define ARENA_CHUNK_MAX ((size_t)65536)

struct arena_chunk;

struct arena {
    struct mem *mem;
    struct arena_chunk *chunks; /* newest first; owned */
    uint8_t *at, *end;          /* free part of the newest chunk */
    size_t chunk_bytes;         /* size of the next chunk */
    size_t used_bytes;          /* asked for so far, rounded */
    size_t limit_bytes;         /* for arena_try_alloc; SIZE_MAX after arena_init; set by the owner */
    size_t held_bytes;          /* sum of the chunks, their headers included */
};

void arena_init(struct arena *a, struct mem *m);
void arena_deinit(struct arena *a);
/* Forgets everything that was allocated; keeps one chunk of at most ARENA_CHUNK_MAX bytes for the next round. */
void arena_reset(struct arena *a);

/* 16-byte aligned; never NULL; freed by arena_reset or arena_deinit only. */
void *arena_alloc(struct arena *a, size_t size); /* uninitialised */
/* NULL when used_bytes and `size`, not yet rounded, would pass limit_bytes: for sizes that somebody outside chose. */
void *arena_try_alloc(struct arena *a, size_t size);
void *arena_zalloc(struct arena *a, size_t size);
void *arena_copy(struct arena *a, const void *data, size_t size);
char *arena_strndup(struct arena *a, const char *s, size_t n); /* NUL-terminated copy */
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_zalloc((a), sizeof(type) * (size_t)(count)))

#endif
