/* Receiving: turns the bytes of a socket into whole request frames (int32 size, then that many bytes; Kafka protocol:
 * framing).
 *
 * Bytes are read into the shard's current slab, one after another for all connections, so that a frame that arrives
 * whole is used where it lies: its payload is not copied before the append. A frame of which only a part has come
 *   - keeps its place in the slab, the rest of it reserved behind it, when much of it is there already and it fits;
 *   - else moves to a buffer of its own, which grows with what has arrived and never by what the client announced
 * alone: at most RECEIVE_FIRST_BYTES (or the size of its last whole frame) before there is any data, at most
 * RECEIVE_AHEAD times the data afterwards. A slab is used again when nothing refers to it any more.
 *
 * The budget (queued.max.request.bytes) is charged with slabs, with buffers of their own, and with
 * requests that wait. When it is used up, receiver_room gives nothing and the connection waits; one connection at a
 * time, the pool's favourite, may go on regardless, for if all held parts of requests and none could be completed, none
 * would ever end. A part of the budget is kept for it. Once that is used up as well, there is no other favourite while
 * whole requests are in memory: these end by themselves. Connections that have sent a whole request before come first, and the
 * others have half of the budget at most, for there might be many that never do. Half
 * of what is kept may also go to connections that are between two requests: RECEIVE_LITTLE_BYTES are read of the next,
 * which is all of a heartbeat.
 *
 * Pure bookkeeping: no I/O, no clock. Everything belongs to one loop. */
#ifndef OXBOW_BROKER_RECEIVE_H
#define OXBOW_BROKER_RECEIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "rt/env.h"

#define RECEIVE_SLAB_BYTES ((size_t)512 << 10)
#define RECEIVE_ROOM_MIN ((size_t)16 << 10) /* a slab with less room is not read into any more */
#define RECEIVE_FIRST_BYTES ((size_t)16 << 10)
#define RECEIVE_AHEAD 8u
#define RECEIVE_PEEK_BYTES ((size_t)4096) /* read into the slab when a large frame is expected: it will move anyway */

#define RECEIVE_LITTLE_BYTES ((size_t)1024)

/* Buffers of their own that frames have let go of and the next large ones get: with their pages, which the kernel would
 * otherwise have to find and clear for every large request. */
#define RECEIVE_SPARES 4u
#define RECEIVE_SPARE_MIN ((size_t)64 << 10)
#define RECEIVE_SPARE_MAX ((size_t)2 << 20)

struct receive_buffer {
    uint8_t *data;
    size_t size;
};

struct receive_slab {
    struct receive_pool *pool;
    unsigned refs;
    size_t used;
    uint8_t data[];
};

struct receiver;

struct receive_pool {
    struct mem *mem;
    struct metrics *metrics; /* M_RECEIVE_BYTES follows the charges; may be NULL */
    struct budget budget;
    /* Of it, parts from connections that have sent no whole request yet: half at most. */
    uint64_t unproven_bytes;
    uint64_t frames;              /* that were given out and not released */
    uint64_t reserve_bytes;       /* of the budget: see above. 0 after receive_pool_init */
    struct receive_slab *current; /* owns a reference; NULL before the first byte */
    struct receive_slab *spare;
    struct receive_buffer spares[RECEIVE_SPARES]; /* data NULL: none */
    struct receiver *lent;                        /* whom receiver_room gave a part of the slab last */
    struct receiver *favourite;                   /* goes on though the budget is used up */
    void (*freed)(
        void *ctx); /* the budget has room again, or the favourite's place is free; must not call back into the pool */
    void *ctx;
};
void receive_pool_init(struct receive_pool *p, struct mem *m, uint64_t budget_bytes, struct metrics *metrics,
                       void (*freed)(void *ctx), void *ctx);
/* All receivers and frames must be gone. */
void receive_pool_deinit(struct receive_pool *p);
/* Nobody is connected: gives memory back that was kept for the next bytes. */
void receive_pool_trim(struct receive_pool *p);
/* Parts of requests fill it, and there is no favourite: somebody has to give up. */
bool receive_pool_is_stuck(const struct receive_pool *p);
/* Charges that are not tied to a slab: requests that wait. The budget may be overdrawn by them. */
void receive_pool_charge(struct receive_pool *p, size_t bytes);
void receive_pool_uncharge(struct receive_pool *p, size_t bytes);

/* A whole frame, without its size field. Owned by whoever got it: receive_frame_release. The bytes may be changed in
 * place. */
struct frame {
    uint8_t *data;
    size_t size;
    struct receive_slab *slab; /* holds a reference, or */
    uint8_t *own;              /* an allocation of its own, */
    size_t own_size;           /* of this size */
    size_t charged;
};
void receive_frame_release(struct receive_pool *p, struct frame *f); /* NULL data: harmless; empties *f */
/* Moves a frame out of its slab into an allocation of its own size, so that a small one does not keep a slab from being
 * used again. */
void receive_frame_detach(struct receive_pool *p, struct frame *f);

struct receiver {
    struct receive_pool *pool;
    size_t max_frame_bytes;
    /* Unused bytes: [at, at + have), of capacity bytes that are ours. Nothing: all zero. */
    uint8_t *at;
    size_t have, capacity;
    struct receive_slab *slab; /* holds a reference, or */
    uint8_t *own;              /* an allocation that begins at `at` and is for one frame only, */
    size_t own_size;           /* of this size: capacity or more */
    size_t charged;            /* for own */
    size_t unproven;           /* of that, counted in the pool's unproven_bytes */
    size_t proven;             /* size of the last whole frame: so much was sent before, and may be expected again */
};
void receiver_init(struct receiver *r, struct receive_pool *p, size_t max_frame_bytes);
/* Drops a partial frame. */
void receiver_deinit(struct receiver *r);

/* Where to read to, as env_conn_events.room. Size 0: the budget is used up; ask again after freed(). */
struct env_bytes receiver_room(struct receiver *r);
/* `size` bytes arrived where receiver_room said. Then take frames with receiver_next until there is none. */
void receiver_received(struct receiver *r, size_t size);
/* OK: a frame. ERR_NOT_FOUND: no more whole frames; what is left has been put where it can wait. ERR_TOO_LARGE: the
 * client announced more than max_frame_bytes, or ERR_PROTOCOL: a negative or impossibly small size; *announced tells;
 * close the connection. */
enum err receiver_next(struct receiver *r, struct frame *f, int64_t *announced) WARN_UNUSED;
/* A part of a frame is here. */
static inline bool receiver_partial(const struct receiver *r) {
    return r->have > 0;
}

#endif
