/* Fixed-width integers in memory, in either byte order: our stored formats are little-endian, Kafka's are big-endian.
 * And two cursors: `struct reader` over bytes that are not trusted, `struct buf` for bytes being made. */
#ifndef OXBOW_BASE_BYTES_H
#define OXBOW_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"

#define BYTES_ACCESSORS(bits)                                                                                          \
    static inline uint##bits##_t le##bits##_get(const void *p) {                                                       \
        uint##bits##_t v;                                                                                              \
        memcpy(&v, p, sizeof(v));                                                                                      \
        return BYTES_LE##bits(v);                                                                                      \
    }                                                                                                                  \
    static inline void le##bits##_put(void *p, uint##bits##_t v) {                                                     \
        v = BYTES_LE##bits(v);                                                                                         \
        memcpy(p, &v, sizeof(v));                                                                                      \
    }                                                                                                                  \
    static inline uint##bits##_t be##bits##_get(const void *p) {                                                       \
        uint##bits##_t v;                                                                                              \
        memcpy(&v, p, sizeof(v));                                                                                      \
        return BYTES_BE##bits(v);                                                                                      \
    }                                                                                                                  \
    static inline void be##bits##_put(void *p, uint##bits##_t v) {                                                     \
        v = BYTES_BE##bits(v);                                                                                         \
        memcpy(p, &v, sizeof(v));                                                                                      \
    }
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BYTES_LE16(v) (v)
#define BYTES_LE32(v) (v)
#define BYTES_LE64(v) (v)
#define BYTES_BE16(v) __builtin_bswap16(v)
#define BYTES_BE32(v) __builtin_bswap32(v)
#define BYTES_BE64(v) __builtin_bswap64(v)
#else
#define BYTES_LE16(v) __builtin_bswap16(v)
#define BYTES_LE32(v) __builtin_bswap32(v)
#define BYTES_LE64(v) __builtin_bswap64(v)
#define BYTES_BE16(v) (v)
#define BYTES_BE32(v) (v)
#define BYTES_BE64(v) (v)
#endif
BYTES_ACCESSORS(16)
BYTES_ACCESSORS(32)
BYTES_ACCESSORS(64)

/* Reads stored (little-endian) fields from untrusted bytes. Past the end, every getter returns zero and `failed` stays
 * set: check it once after a group of reads, and before a count or length that was read is used. */
struct reader {
    const uint8_t *at, *end;
    bool failed;
};
static inline struct reader reader_of(const void *data, size_t size) {
    /* Of no bytes it may be NULL, to which nothing may be added, not even 0. */
    const uint8_t *at = (const uint8_t *)data;
    return (struct reader){at, size > 0 ? at + size : at, false};
}
static inline size_t reader_left(const struct reader *r) {
    return (size_t)(r->end - r->at);
}
/* n bytes at the cursor, or NULL. */
const uint8_t *reader_bytes(struct reader *r, size_t n);
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
uint64_t reader_varint(struct reader *r); /* unsigned LEB128, at most 10 bytes */

/* A growing buffer; owns its bytes. */
struct buf {
    struct mem *mem;
    uint8_t *data;
    size_t size, capacity;
};
void buf_init(struct buf *b, struct mem *m);
void buf_deinit(struct buf *b);
void buf_reserve(struct buf *b, size_t more); /* room for `more` bytes behind size */
uint8_t *buf_extend(struct buf *b, size_t n); /* grows by n uninitialised bytes, returns their start */
void buf_put(struct buf *b, const void *data, size_t n);
void buf_zero(struct buf *b, size_t n);
void buf_u8(struct buf *b, uint8_t v);
void buf_u16(struct buf *b, uint16_t v); /* little-endian, as all of these */
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
void buf_varint(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
