/* A job of object compaction: what chooses it (compact_choose.c) and what does it (compact.c). Log loop. */
#ifndef OXBOW_STREAM_COMPACT_PRIV_H
#define OXBOW_STREAM_COMPACT_PRIV_H

#include "stream/compact.h"
#include "stream/replacement.h"
#include "stream/streams_priv.h"

/* A run of a stream, which becomes one range. A stream may have several in poor objects. */
struct compact_item {
    struct stream_id stream;
    int32_t epoch;
    struct state_range *old; /* copies: the committed state may move while we read */
    size_t old_count;
    bool failed; /* it cannot be read: the others are merged without it */
    struct object_piece piece;
    uint64_t piece_size;
    uint32_t piece_crc;
    struct state_range range;
};

/* What lies side by side in one object. */
struct span {
    struct compact_span at;
    enum err error;
    struct slice data;
};

/* Where one old range is. */
struct source {
    size_t item, old, span;
};

struct compaction {
    struct streams *s;
    bool looked;                /* it was time to look at all there is */
    bool poor;                  /* it empties poor objects */
    bool compose;               /* one run, which the store puts together itself */
    struct compact_item *items; /* as they are written */
    size_t count, capacity;
    uint64_t bytes, rate; /* of input; a second */
    struct source *sources;
    size_t source_count;
    struct span *spans;
    size_t span_count, span_capacity, next_span;
    uint64_t held_bytes; /* of the spans that were asked for: counted */
    unsigned readers;
    struct waitq read_ended;
    enum err error; /* the first that is no range's own */
    size_t checked; /* bytes since the loop's last turn */
    /* Of what is written. */
    bool has_object;
    struct object_id object;
    struct slices body;
    uint32_t body_crc;
};

/* Both fill items, bytes and rate, and mark the streams as `replacing`. Neither suspends. */
void compact_choose_runs(struct compaction *k);
/* False: there are none, or it is not time to look yet. */
bool compact_choose_poor(struct compaction *k);
/* The same: a stream has more large ranges than it should have. */
bool compact_choose_large(struct compaction *k);
bool compact_has_run(struct streams *s);

/* Suspends until so many bytes may be read or written. */
void compact_pace(struct compaction *k, uint64_t bytes);
/* What is wrong with the object, for ever, and not with the store now. */
bool compact_is_lost(enum err e);
/* The item fails. k->error: another broker has overtaken us. Suspends. */
void compact_unreadable(struct compaction *k, struct compact_item *t, const struct state_range *r, enum err e);
/* Puts the new object of the one item together; it has failed if the store does not do that. Suspends. */
enum err compact_compose(struct compaction *k) WARN_UNUSED;

#endif
