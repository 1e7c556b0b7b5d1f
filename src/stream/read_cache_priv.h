/* The parts of the block cache, for read_cache.c (what is kept) and read_load.c (how it comes). */
#ifndef OXBOW_STREAM_READ_CACHE_PRIV_H
#define OXBOW_STREAM_READ_CACHE_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "stream/read_cache.h"

#define READ_CACHE_MAGIC 0x4eadcac4u
#define READ_KEY_SIZE 25u

/* Outlives the cache, as long as answers hold what it has lent. */
struct read_held {
    _Atomic uint32_t refs;
    _Atomic uint64_t lent_bytes;
    struct mem *mem;
    struct metrics *metrics;
};

/* Where an extent is kept. */
enum read_place {
    READ_AHEAD, /* has blocks that nobody has used yet; the longest unused first */
    READ_SMALL, /* used up; the oldest first */
    READ_MAIN,  /* several readers wanted it */
    READ_INDEX, /* a decoded index; the least recently used first */
    READ_PLACES
};

/* The bytes of one GET: memory that comes and goes as a whole, so that what is counted is what is held. */
struct extent {
    struct slab slab; /* of what is given out; with its last reference everything goes, on whatever thread */
    struct slice raw;
    struct read_held *held;
    uint64_t bytes;
    struct list node; /* in its place */
    enum read_place place;
    struct list entries;
    unsigned ahead; /* of them, not yet used */
    unsigned uses;  /* by another reader than the last one; at most 3 */
    bool again;     /* was wanted again soon after it went */
    uint64_t last_reader, used_ns;
};

/* One index or block. While it is on its way, `load` is set and whoever wants it waits. */
struct cached {
    struct list node; /* in its extent */
    uint8_t key[READ_KEY_SIZE];
    uint64_t size;
    struct slice data;
    struct extent *extent;
    struct load *load;
    enum err error; /* of the load that has ended */
    bool ahead;     /* counted as read-ahead: until it is used, or goes */
    bool gone;      /* not in the cache any more: the last who waits frees it */
    unsigned waiting;
    struct waitq loaded;
};

/* Something to be fetched: a run of blocks, or an index with the first blocks behind it. */
struct load {
    struct list node;
    bool index, wanted /* somebody waits, or did */, alone /* not together with others */, waited /* counted */,
        flying /* in a GET, not in line */;
    unsigned attempts;
    struct state_range piece;
    uint64_t from, size;         /* in the piece */
    uint64_t reserved;           /* an index: of the read-ahead's budget, for the blocks behind it */
    struct slice decoded;        /* an index, once it is here: struct object_block[] */
    enum err index_error;        /* of the decoding */
    uint32_t count;              /* of `blocks` */
    struct cached **entries;     /* `count`, or the index's one */
    struct object_block *blocks; /* a run's; own copy, for the caller's may go */
    bool *good;                  /* by block: its checksum is right */
    uint32_t good_count;
};

struct read_cache {
    unsigned magic;
    struct read_cache_options o;
    char *generation;
    struct read_held *held;
    struct mapstr map;
    struct list places[READ_PLACES];
    uint64_t place_bytes[READ_PLACES], bytes;
    struct budget ahead;
    uint64_t reader_ids;
    /* Readers of the last second, for their shares. */
    uint64_t epoch, epoch_ns;
    unsigned seen, active;
    /* What went lately: a ring of hashes of keys, and where in it each is. */
    uint64_t *ghosts;
    size_t ghost_capacity;
    uint64_t ghost_next;
    struct map64 ghost_map;
    /* Loads in line; fibers that run them. */
    struct list wanted, later;
    unsigned queued, fibers, busy, gets; /* busy: fibers that have a GET, or a pause after one */
    uint64_t under_way_bytes;
    struct waitgroup running;
    bool closing;
};

/* read_cache.c */
struct cached *cached_find(const struct read_cache *c, const struct state_range *piece, uint64_t position);
/* On its way; in the map. */
struct cached *cached_begin(struct read_cache *c, const struct state_range *piece, uint64_t position, uint64_t size,
                            struct load *l);
void cached_arrived(struct read_cache *c, struct cached *e, struct extent *x, uint64_t position);
void cached_failed(struct read_cache *c, struct cached *e, enum err error);
/* A reference to raw is taken over. */
struct extent *extent_create(struct read_cache *c, struct slice raw);
/* After its entries have arrived. May be gone then. */
void extent_keep(struct read_cache *c, struct extent *x, bool index);
/* Keeps nothing of it: what is borrowed is lent. */
void extent_forget(struct read_cache *c, struct extent *x);
/* Lets go of what is least worth until `bytes` more fit; false: they cannot before a GET ends, and nothing has gone. */
bool read_cache_make_room(struct read_cache *c, uint64_t bytes);
void read_cache_make_empty(struct read_cache *c);
/* As much as the budget of the read-ahead allows; false: nothing is taken. */
bool read_ahead_take(struct read_cache *c, uint64_t bytes);
void read_cache_check(const struct read_cache *c);

/* read_load.c */
/* Puts a run of blocks in line, none of which is there or on its way; the first is read ahead unless it is `wanted`, all
 * others are: their bytes are taken from the budget already. */
void load_blocks(struct read_cache *c, const struct state_range *piece, const struct object_block *blocks,
                 uint32_t count, bool wanted);
void load_index(struct read_cache *c, const struct state_range *piece, size_t window_bytes, bool wanted);
/* Somebody waits for what was to be read ahead. */
void load_hurry(struct read_cache *c, struct load *l);
/* Ends those in line that have not begun. */
void loads_cancel(struct read_cache *c);

#endif
