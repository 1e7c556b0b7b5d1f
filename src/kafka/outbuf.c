#include "kafka/outbuf.h"

#include "base/assert.h"

void outbuf_init(struct outbuf *o, struct mem *m) {
    *o = (struct outbuf){.mem = m, .piece_bytes = OUTBUF_PIECE_MIN};
    slices_init(&o->done, m);
}

void outbuf_clear(struct outbuf *o) {
    slices_clear(&o->done);
    slab_unref(o->slab);
    o->slab = NULL;
    o->start = o->at = o->end = NULL;
    o->piece_bytes = OUTBUF_PIECE_MIN;
    o->done_bytes = 0;
}

void outbuf_deinit(struct outbuf *o) {
    outbuf_clear(o);
    slices_deinit(&o->done);
    *o = (struct outbuf){0};
}

/* Moves what is in the current piece behind `start` to the finished ones. */
static void seal(struct outbuf *o) {
    size_t n = (size_t)(o->at - o->start);
    if (n == 0) return;
    slices_push(&o->done, slice_of(o->slab, (size_t)(o->start - o->slab->data), n));
    o->done_bytes += n;
    o->start = o->at;
}

void outbuf_new_piece(struct outbuf *o, size_t n) {
    seal(o);
    slab_unref(o->slab);
    size_t size = n > o->piece_bytes ? n : o->piece_bytes;
    if (o->piece_bytes < OUTBUF_PIECE_MAX) o->piece_bytes *= 2;
    o->slab = slab_create(o->mem, size, 16);
    o->start = o->at = o->slab->data;
    o->end = o->start + size;
}

void outbuf_put(struct outbuf *o, const void *data, size_t n) {
    if (n == 0) return;
    /* Fill the current piece first, so that long strings waste nothing. */
    size_t room = (size_t)(o->end - o->at);
    size_t head = n < room ? n : room;
    if (head) memcpy(outbuf_extend(o, head), data, head);
    if (n > head) memcpy(outbuf_extend(o, n - head), (const uint8_t *)data + head, n - head);
}

void outbuf_uvarint(struct outbuf *o, uint32_t v) {
    while (v >= 0x80) {
        outbuf_u8(o, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    outbuf_u8(o, (uint8_t)v);
}

void outbuf_slice(struct outbuf *o, const struct slice *s) {
    if (s->size < OUTBUF_REFERENCE_MIN) {
        outbuf_put(o, s->data, s->size);
        return;
    }
    seal(o);
    slices_push(&o->done, slice_sub(*s, 0, s->size));
    o->done_bytes += s->size;
}

void outbuf_finish(struct outbuf *o, struct slices *out) {
    seal(o);
    for (size_t i = 0; i < o->done.count; i++) slices_push(out, o->done.items[i]);
    o->done.count = 0; /* the references went with the items */
    o->done.size_bytes = 0;
    o->done_bytes = 0;
    ASSERT(outbuf_size(o) == 0);
}
