#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"

const uint8_t *reader_bytes(struct reader *r, size_t n) {
    if (r->failed || reader_left(r) < n) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    if (n > 0) r->at += n;
    return p;
}

uint8_t reader_u8(struct reader *r) {
    const uint8_t *p = reader_bytes(r, 1);
    return p ? *p : 0;
}

uint16_t reader_u16(struct reader *r) {
    const uint8_t *p = reader_bytes(r, 2);
    return p ? le16_get(p) : 0;
}

uint32_t reader_u32(struct reader *r) {
    const uint8_t *p = reader_bytes(r, 4);
    return p ? le32_get(p) : 0;
}

uint64_t reader_u64(struct reader *r) {
    const uint8_t *p = reader_bytes(r, 8);
    return p ? le64_get(p) : 0;
}

uint64_t reader_varint(struct reader *r) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = reader_u8(r);
        if (r->failed) return 0;
        if (shift == 63 && b > 1) break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return v;
    }
    r->failed = true;
    return 0;
}

void buf_init(struct buf *b, struct mem *m) {
    *b = (struct buf){.mem = m};
}

void buf_deinit(struct buf *b) {
    mem_free(b->mem, b->data);
    *b = (struct buf){0};
}

void buf_reserve(struct buf *b, size_t more) {
    size_t need = b->size + more;
    ASSERT(need >= b->size);
    if (need <= b->capacity) return;
    size_t capacity = b->capacity ? b->capacity * 2 : 256;
    if (capacity < need) capacity = need;
    b->data = mem_realloc(b->mem, b->data, capacity);
    b->capacity = capacity;
}

uint8_t *buf_extend(struct buf *b, size_t n) {
    buf_reserve(b, n);
    uint8_t *p = b->data + b->size;
    b->size += n;
    return p;
}

void buf_put(struct buf *b, const void *data, size_t n) {
    if (n == 0) return;
    memcpy(buf_extend(b, n), data, n);
}

void buf_zero(struct buf *b, size_t n) {
    if (n == 0) return;
    memset(buf_extend(b, n), 0, n);
}

void buf_u8(struct buf *b, uint8_t v) {
    *buf_extend(b, 1) = v;
}

void buf_u16(struct buf *b, uint16_t v) {
    le16_put(buf_extend(b, 2), v);
}

void buf_u32(struct buf *b, uint32_t v) {
    le32_put(buf_extend(b, 4), v);
}

void buf_u64(struct buf *b, uint64_t v) {
    le64_put(buf_extend(b, 8), v);
}

void buf_varint(struct buf *b, uint64_t v) {
    while (v >= 0x80) {
        buf_u8(b, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    buf_u8(b, (uint8_t)v);
}

void buf_printf(struct buf *b, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    ASSERT(n >= 0);
    buf_reserve(b, (size_t)n + 1);
    va_start(ap, format);
    (void)vsnprintf((char *)b->data + b->size, (size_t)n + 1, format, ap);
    va_end(ap);
    b->size += (size_t)n;
}
