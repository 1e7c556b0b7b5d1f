/* Any bytes as what a connection brings, in any pieces. Flags (1: a small budget, 2: the stream comes as often again as the
 * next byte says, and so is longer than a slab), then the number of steps, and steps: a byte, how many bytes of the stream
 * arrive at once, up to what there is room for; frames are taken and kept or given back as the byte says. The
 * frames are, one after another, the bytes of the stream; what is charged is given back; a client that says little
 * does not make the broker hold much. */
#include "base/assert.h"
#include "base/bytes.h"
#include "broker/receive.h"
#include "feed.h"

#define KEPT_MAX 8u
#define FRAME_MAX ((size_t)1 << 20)

struct stream {
    const uint8_t *data;
    size_t size, sent, taken; /* taken: whole frames so far, sizes included */
};

static void freed(void *ctx) {
    (void)ctx;
}

static void frame_check(struct stream *s, const struct frame *f) {
    ASSERT(s->taken + 4 + f->size <= s->sent);
    ASSERT(be32_get(s->data + s->taken) == f->size);
    ASSERT(f->size == 0 || memcmp(f->data, s->data + s->taken + 4, f->size) == 0);
    s->taken += 4 + f->size;
}

/* False: the connection is to be closed. */
static bool frames_take(struct receive_pool *p, struct receiver *r, struct stream *s, struct frame *kept, uint8_t how) {
    for (;;) {
        struct frame f;
        int64_t announced = 0;
        enum err e = receiver_next(r, &f, &announced);
        if (e == ERR_NOT_FOUND) return true;
        if (e != OK) {
            ASSERT(e == ERR_TOO_LARGE ? announced > (int64_t)FRAME_MAX : e == ERR_PROTOCOL);
            ASSERT(s->sent - s->taken >= 4 && (int32_t)be32_get(s->data + s->taken) == announced);
            return false;
        }
        frame_check(s, &f);
        if (f.size > 0) f.data[0] ^= 0xff; /* it is the owner's */
        if (how & 0x80) receive_frame_detach(p, &f);
        struct frame *place = &kept[how % KEPT_MAX];
        receive_frame_release(p, place);
        if (how & 0x40)
            *place = f;
        else
            receive_frame_release(p, &f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem m;
    mem_init_heap(&m);
    struct feed f = feed_of(data, size);
    uint8_t flags = feed_u8(&f);
    unsigned again = flags & 2 ? feed_u8(&f) : 0;
    size_t step_count;
    const uint8_t *steps = feed_bytes(&f, feed_u8(&f), &step_count);
    struct buf bytes;
    buf_init(&bytes, &m);
    for (unsigned i = 0; i <= again; i++) buf_put(&bytes, f.at, feed_left(&f));
    struct stream s = {.data = bytes.data, .size = bytes.size};
    struct receive_pool pool;
    receive_pool_init(&pool, &m, flags & 1 ? (uint64_t)1 << 20 : (uint64_t)64 << 20, NULL, freed, NULL);
    struct receiver r;
    receiver_init(&r, &pool, FRAME_MAX);
    struct frame kept[KEPT_MAX] = {{0}};
    for (size_t i = 0; s.sent < s.size; i++) {
        uint8_t step = step_count ? steps[i % step_count] : 0xff;
        struct env_bytes room = receiver_room(&r);
        if (room.size == 0) { /* what others hold is in the way */
            for (size_t k = 0; k < KEPT_MAX; k++) receive_frame_release(&pool, &kept[k]);
            room = receiver_room(&r);
            ASSERT(room.size > 0);
        }
        size_t n = step & 1 ? (size_t)step * 256 : (size_t)(step >> 1) + 1;
        if (n > s.size - s.sent) n = s.size - s.sent;
        if (n > room.size) n = room.size;
        memcpy(room.data, s.data + s.sent, n);
        s.sent += n;
        receiver_received(&r, n);
        if (!frames_take(&pool, &r, &s, kept, step)) break;
        ASSERT(receiver_partial(&r) == (s.sent > s.taken));
    }
    ASSERT(m.allocated_bytes <= 4 * RECEIVE_SLAB_BYTES + KEPT_MAX * (FRAME_MAX + RECEIVE_SLAB_BYTES) +
                                    RECEIVE_FIRST_BYTES + RECEIVE_AHEAD * s.size + bytes.capacity);
    for (size_t k = 0; k < KEPT_MAX; k++) receive_frame_release(&pool, &kept[k]);
    receiver_deinit(&r);
    receive_pool_deinit(&pool);
    buf_deinit(&bytes);
    ASSERT(m.allocated_bytes == 0);
    return 0;
}
