/* Output buffer: the bytes of an answer (or request) while they are being made. It is a chain of inline pieces, into
 * which small fields are copied, and of references to slices, for record data that must not be copied once more. The
 * result is a `struct slices`, ready for writev.
 *
 * The pointer that outbuf_extend returns stays valid until the buffer's slices are released: pieces never move.
 * Encoders leave a partial message behind when they fail: outbuf_clear the buffer then. One owner at a time; not
 * thread-safe; its slices may travel. */
#ifndef OXBOW_KAFKA_OUTBUF_H
#define OXBOW_KAFKA_OUTBUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/slice.h"

/* From this size on a slice is referenced; below, copying is cheaper than another entry for writev. */
#define OUTBUF_REFERENCE_MIN ((size_t)4096)
#define OUTBUF_PIECE_MIN ((size_t)512)
#define OUTBUF_PIECE_MAX ((size_t)65536)

struct outbuf {
    struct mem *mem;
    struct slices done; /* finished pieces and references, in order */
    struct slab *slab;  /* current inline piece; owns a reference; NULL before the first byte */
    uint8_t *start;     /* first byte of the piece that is not in `done` yet */
    uint8_t *at, *end;  /* where the next byte goes, and the end of the piece */
    size_t piece_bytes; /* size of the next inline piece */
    size_t done_bytes;
};

void outbuf_init(struct outbuf *o, struct mem *m); /* allocates nothing */
void outbuf_deinit(struct outbuf *o);
void outbuf_clear(struct outbuf *o); /* drops everything in it; usable again */

static inline size_t outbuf_size(const struct outbuf *o) {
    return o->done_bytes + (size_t)(o->at - o->start);
}

/* A new inline piece with room for n contiguous bytes. For the functions below. */
void outbuf_new_piece(struct outbuf *o, size_t n);

/* n contiguous uninitialised bytes. */
static inline uint8_t *outbuf_extend(struct outbuf *o, size_t n) {
    if ((size_t)(o->end - o->at) < n) outbuf_new_piece(o, n);
    uint8_t *p = o->at;
    o->at += n;
    return p;
}
static inline void outbuf_u8(struct outbuf *o, uint8_t v) {
    *outbuf_extend(o, 1) = v;
}
static inline void outbuf_be16(struct outbuf *o, uint16_t v) {
    be16_put(outbuf_extend(o, 2), v);
}
static inline void outbuf_be32(struct outbuf *o, uint32_t v) {
    be32_put(outbuf_extend(o, 4), v);
}
static inline void outbuf_be64(struct outbuf *o, uint64_t v) {
    be64_put(outbuf_extend(o, 8), v);
}
void outbuf_put(struct outbuf *o, const void *data, size_t n); /* copies */
void outbuf_uvarint(struct outbuf *o, uint32_t v);
/* Appends the bytes of `s`: copies them when they are fewer than OUTBUF_REFERENCE_MIN, else takes a reference of its
 * own (the caller keeps its own). A slice without a slab borrows: its memory must outlive the result. */
void outbuf_slice(struct outbuf *o, const struct slice *s);

/* Moves everything to the end of *out, in order, with the references; the buffer is empty then and may be used again.
 * It keeps the unused rest of its last piece: outbuf_clear or outbuf_deinit gives that up. */
void outbuf_finish(struct outbuf *o, struct slices *out);

#endif
