/* The parts of the engine, for the files of this folder. Two sides that share nothing but commit slabs (atomic
 * references), blocks (handed over by mail) and mail:
 *
 *   shard side (shard.c, read.c, stream.c): open block, log cache, ranges as readers see them, block cache
 *   log side (log.c, log_wal.c, upload.c, checkpoint.c, recover.c, collect.c): WAL, ledger, committed states, object uses */
#ifndef OXBOW_STREAM_STREAMS_PRIV_H
#define OXBOW_STREAM_STREAMS_PRIV_H

#include "stream/block.h"
#include "stream/ledger.h"
#include "stream/read_cache.h"
#include "stream/wal_mirror.h"

#define STREAMS_MAGIC 0x57e4357eu
#define STREAM_MAGIC 0x57e4a301u
#define STREAM_SHARD_MAGIC 0x57a4d001u
#define WAL_DEPTH 4u
/* Blocks of a lane that may be on their way to durability before the next one is filled up rather than sealed. */
#define LANE_LEDGER_DEPTH 16u
/* GETs for readers under way at once, of all shards. */
#define READ_GETS_DEFAULT 16u

struct shard_fifo { /* one append that is not yet durable */
    struct stream *stream;
    uint64_t sequence; /* of its block */
    uint64_t end_offset, start_offset;
};

/* A lane: blocks that become durable one after the other, in the way that its kind says. A shard has one of each; a
 * stream is in one of them, and changes over only when all that it has appended is in the ledger, so that the order of
 * its records is the same everywhere. Lanes of all shards are numbered: shard * LANE_KINDS + kind. */
enum lane_kind { LANE_WAL, LANE_LEDGER, LANE_KINDS };

/* Touched on the shard's loop only, but for what is atomic. */
struct lane {
    struct stream_shard *shard;
    unsigned number;
    /* Filling. */
    struct commit_slab *slab; /* the newest; also in the shard's `slabs` */
    struct block *open;       /* or NULL */
    uint64_t next_sequence;   /* of the next block; from 1 */
    uint64_t sealed_sequence; /* newest handed to the log loop */
    bool seal_posted;
    struct mail seal_mail;
    struct timer seal_timer; /* while little is open and writes are under way */
    uint64_t sealed_ns;      /* when the newest was sealed */
    /* Waiting to become durable. */
    struct shard_fifo *fifo;
    size_t fifo_head, fifo_count, fifo_capacity; /* a ring */
    uint64_t durable_sequence;
    uint64_t uploaded_sequence; /* newest whose records are in the ledger */
    /* Mail from the log loop: the newest durable sequence. */
    _Atomic uint64_t posted_durable;
    _Atomic bool durable_mail_out;
    struct mail durable_mail;
};

/* What a shard keeps. Touched on its loop only. */
struct stream_shard {
    unsigned magic;
    struct streams *engine;
    struct loop *loop;
    unsigned index;
    struct map64 streams; /* stream id -> struct stream * */
    struct lane lanes[LANE_KINDS];
    /* Log cache. */
    struct list slabs;         /* commit slabs, oldest first */
    struct commit_slab *spare; /* evicted last, for the next one; or NULL */
    uint64_t cache_bytes, cache_limit;
    uint64_t index_bytes; /* of the streams' rings of entries; beside cache_bytes */
    struct waitq room;
    struct waitq moved; /* streams that wait to change lanes look again: something is in the ledger */
    bool stopped;       /* no appends are taken any more */
    enum err stop_reason;
    struct read_cache *blocks;
};

struct cache_entry {
    uint64_t base_offset, end_offset;
    int64_t max_timestamp;
    struct commit_slab *slab; /* kept alive by the shard's list */
    const uint8_t *data;
    uint32_t size;
};

#define STREAM_CURSORS_MIN 4u
#define STREAM_CURSORS_MAX 32u
/* Where a reader of objects goes on. */
struct read_cursor {
    uint64_t next_offset;
    uint64_t used;   /* larger: more recent; 0: never */
    uint64_t reader; /* its name in the block cache */
    uint64_t seen;   /* of read_cache_share */
    size_t window_bytes;
    /* Where next_offset lies, if that is in the middle of a block: at this byte of the one that begins there. */
    struct object_id object;
    uint64_t block_position;
    uint32_t at; /* 0: not known */
};

struct stream {
    unsigned magic;
    struct stream_shard *shard;
    struct stream_id id;
    int32_t epoch;
    bool loaded;
    bool missed; /* a commit came before the copy of the committed state was taken over: another copy is needed */
    enum lane_kind lane, wanted_lane; /* the latter holds once everything before it is in the ledger */
    uint64_t appended_end, durable_end, durable_start;
    uint64_t uploaded_end;     /* what is below is in the ledger */
    struct cache_entry *cache; /* ring, in offset order */
    size_t cache_head, cache_count, cache_capacity;
    struct state_range *ranges; /* contiguous */
    size_t range_count, range_capacity;
    uint64_t ranges_version; /* counts changes: a reader that met a missing object looks again */
    uint64_t pending;        /* entries of the shard's fifo */
    unsigned readers;        /* fibers inside stream_read and friends */
    struct waitq durable_waiters, quiet;
    void (*durable)(void *ctx);
    void *ctx;
    struct read_cursor *cursors; /* none until something is read from objects */
    unsigned cursor_count;
    uint64_t cursor_clock;
};

/* What an upload made durable, for one shard. */
struct commit_item {
    struct stream_id stream;
    struct state_range range;
    bool has_range;
    struct state_range *replaced; /* or these, together, replace others; owned; NULL: none */
    uint32_t replaced_count;
    bool forget;           /* they have fewer records: readers are to see that, and not what the log cache has */
    uint64_t start_offset; /* ranges wholly below are gone */
    uint64_t end_offset;   /* all below is in the ledger */
};
struct commit_mail {
    struct mail mail;
    struct stream_shard *shard;
    uint64_t uploaded_sequence[LANE_KINDS]; /* 0: no news */
    struct commit_item *items;
    size_t count, capacity;
};

enum wal_mode { WAL_MODE_OFF /* not started, or there is none */, WAL_MODE_ON, WAL_MODE_FAILED };

/* Sealed blocks on the log loop, by what becomes of them next. */
enum queue_kind {
    QUEUE_LEDGER,  /* of streams with object durability: the ledger confirms them */
    QUEUE_PENDING, /* confirmed by the WAL, to be uploaded; in WAL order */
    QUEUE_UNACKED, /* the WAL failed: the ledger confirms them, after all that is pending */
    QUEUE_KINDS
};
struct block_queue {
    struct list blocks;
    uint64_t bytes;
    uint64_t under_way; /* entries made of it that are not yet durable */
};

/* Objects that nothing needs and that could not be deleted, while others could (collect.c). */
struct stuck_object {
    struct object_id id;
    uint64_t due_ns; /* when it is tried again */
    uint32_t refusals;
};
struct stuck_objects {
    struct stuck_object *items; /* at most STUCK_MAX, in no order */
    size_t count, capacity;
    uint64_t forgotten; /* for which there was no room: the sweep of the next start finds them */
    uint64_t told_ns;   /* when the log has told of one, if it has */
    bool told;
};

struct streams {
    unsigned magic;
    struct streams_options options;
    char *generation;
    struct env *env;
    struct mem *mem;
    struct store *store;
    struct stream_shard *shards;
    unsigned shard_count;
    /* Log side. */
    struct wal *wal;           /* one ring; or */
    struct wal_mirror *mirror; /* several; neither: none, the ledger confirms everything */
    enum wal_mode wal_mode;
    uint8_t wal_id[16];            /* zero until this incarnation has formatted its WAL; of a mirror always */
    struct wal_membership members; /* of a mirror: durable in our ledger, or to be named by its next entry; or none */
    struct objlog *log;
    char ledger_prefix[OBJECT_KEY_MAX];
    bool started; /* the dead are recovered, appends are taken */
    struct ledger_image image;
    struct object_uses uses;
    /* Entries of ours overlap (upload.c): each is numbered in the order in which its records were taken, and applied to
     * the image in that order, when it and all before it are durable. */
    uint64_t entries_under_way;
    uint64_t ticket_next, ticket_turn; /* of uploads: whose number is drawn next */
    struct waitq ticket_wait;
    bool draining; /* a checkpoint waits until none is under way: no other may begin */
    struct waitq entry_ended;
    struct fiber_mutex checkpoint_lock;
    uint64_t entries_since_checkpoint;
    uint64_t checkpoints[8]; /* numbers, newest last */
    unsigned checkpoint_count;
    uint64_t next_data_object;
    struct block_queue queues[QUEUE_KINDS];
    uint64_t *lane_submitted, *lane_durable, *lane_uploaded; /* per lane: newest sequences */
    uint64_t staged_bytes;                                   /* that uploads under way have copied */
    uint64_t flush_sent_ns;                                  /* when the newest acknowledging entry was taken */
    uint64_t flush_latency_ns;                               /* how long they take, smoothed */
    uint64_t ledger_queue_used_ns;                           /* when a block last came for QUEUE_LEDGER */
    struct timer checkpoint_timer, compact_timer, poor_timer, close_timer, stuck_timer;
    uint64_t close_seen; /* ledger entries when the close was last looked at */
    bool close_begun;    /* by streams_close: no stream is open any more */
    bool upload_wanted;  /* by a shard without room */
    unsigned flushing;   /* so many wait for everything to be uploaded */
    bool uploading;      /* the uploader is alive */
    bool upload_asleep;  /* and waits, until upload_wake_ns or a poke */
    uint64_t upload_wake_ns;
    uint64_t wal_retry_ns; /* when a failed WAL is tried again */
    unsigned wal_attempt;
    bool wal_restarting;
    bool compacting, checkpointing;
    bool no_compose; /* the store does not put objects together */
    struct list crowded;   /* ledger streams that may have ranges to merge: all that have are in it, once started; */
    struct list nearly;    /* and those with half as many, which go along with others (compact_choose.c) */
    uint64_t poor_look_ns; /* when objects that are not worth keeping are looked for again, at the earliest */
    struct stream_id compact_last; /* of the last run that was merged: the next ones are behind it */
    uint64_t compact_free_ns;      /* compaction's next request goes then at the earliest */
    struct waitq compact_wake;     /* it need not wait any more: closing */
    struct mail want_mail;         /* from a shard on another loop */
    _Atomic bool want_mail_out;
    bool closing, fenced;
    bool ended; /* the closing checkpoint has been made: no entry may follow */
    struct waitq upload_done;
    struct waitq upload_wake; /* the uploader, while it has nothing to do */
    struct waitgroup background;
    bool collecting;
    struct stuck_objects stuck;
};

/* shard.c */
void shard_init(struct stream_shard *h, struct streams *s, struct loop *loop, unsigned index);
void shard_deinit(struct stream_shard *h);
struct stream_shard *shard_of_loop(struct streams *s, struct loop *l);
void lane_seal(struct lane *n);
void lane_on_durable(struct lane *n, uint64_t sequence);
void shard_on_commit(struct commit_mail *m);
void shard_stop(struct stream_shard *h, enum err why);
struct cache_entry *stream_cache_at(const struct stream *s, size_t index);
void stream_cache_drop(struct stream *s); /* all entries, and their memory */
/* Index of the cached entry that holds offset; SIZE_MAX when the cache begins above it or ends below. */
size_t stream_cache_find(const struct stream *s, uint64_t offset);
const struct state_range *stream_range_find(const struct stream *s, uint64_t offset);

static inline struct lane *lane_by_number(struct streams *s, unsigned number) {
    return &s->shards[number / LANE_KINDS].lanes[number % LANE_KINDS];
}

/* log.c: blocks in, durability out */
void log_submit(struct streams *s, struct block *b); /* on the log loop */
void log_publish_durable(struct streams *s, struct block *b);
void log_fatal(struct streams *s, enum err why, const char *what);

void log_queue_push(struct streams *s, enum queue_kind kind, struct block *b);

/* log_wal.c: what there is of a WAL, one ring or a mirror */
enum err log_wal_open(struct streams *s, const char **why) WARN_UNUSED;
/* By streams_start: begins it anew, or goes on without. Then, once the ledger names it: it takes blocks. Suspends. */
enum err log_wal_format(struct streams *s, const char **why) WARN_UNUSED;
void log_wal_start(struct streams *s);
void log_wal_close(struct streams *s, bool in_order);
static inline bool log_wal_is(const struct streams *s) {
    return s->wal || s->mirror;
}
/* The opened rings, in order; NULL behind the last. Those out of reach are left out. */
struct wal *log_wal_ring(const struct streams *s, unsigned index);
const char *log_wal_path(const struct streams *s);
void log_wal_names(const struct streams *s, struct object_head *head); /* which WAL an entry of ours names */
/* As those of wal.h. */
enum err log_wal_restart(struct streams *s) WARN_UNUSED;
void log_wal_submit(struct streams *s, struct block *b);
void log_wal_trim(struct streams *s, uint64_t position);
uint64_t log_wal_used_bytes(const struct streams *s);
uint64_t log_wal_capacity(const struct streams *s); /* any loop: it does not change once started */

/* checkpoint.c */
/* The members of the WAL, for recoveries: OK when that is durable. Suspends. */
enum err ledger_write_members(struct streams *s, const struct wal_membership *members) WARN_UNUSED;
/* An entry of ours begins and ends. Between the two no checkpoint is made; a checkpoint that waits lets none begin:
 * ledger_enter suspends. ERR_CLOSED: no entry may follow any more. */
enum err ledger_enter(struct streams *s) WARN_UNUSED;
void ledger_leave(struct streams *s);
enum err checkpoint_write(struct streams *s, bool closed) WARN_UNUSED; /* takes checkpoint_lock; suspends */
/* An entry was appended: a checkpoint is due some time. */
void checkpoint_entry_made(struct streams *s);
void checkpoint_due(struct timer *t);

/* upload.c */
void upload_start(struct streams *s);          /* the uploader's fiber */
void upload_poke(struct streams *s);           /* something has changed: the uploader looks whether there is work */
void upload_wake_everybody(struct streams *s); /* closing or fenced: all that wait look again */
void upload_want(struct streams *s);           /* as soon as possible, any thread's loop: posts */
/* Everything that has been submitted when it is called is in durable entries when this returns. Suspends. */
enum err upload_flush(struct streams *s) WARN_UNUSED;
/* An entry that says which WAL we use; the first of a new ledger is a checkpoint. Suspends. */
enum err upload_announce(struct streams *s) WARN_UNUSED;
/* Recovery: records of a dead incarnation's WAL, as blocks made by the caller, who reads on while entries of them are
 * under way, RECOVERY_UPLOADS at a time. */
struct upload_recovered {
    struct streams *s;
    unsigned under_way;
    enum err error; /* the first; no entry is begun after it */
    struct waitq ended;
};
void upload_recovered_init(struct upload_recovered *r, struct streams *s);
/* One more entry, of these blocks, which are taken. Suspends while too many are under way. Gives the error of any of
 * those before it. */
enum err upload_recovered_add(struct upload_recovered *r, struct list *blocks) WARN_UNUSED;
/* Suspends until none is under way. Always to be called. */
enum err upload_recovered_wait(struct upload_recovered *r) WARN_UNUSED;
/* The mail of one commit, per shard; sent by upload_post_mails. */
struct commit_mail **upload_mails_create(struct streams *s);
struct commit_item *upload_mail_item(struct streams *s, struct commit_mail **mails, struct stream_id id);
void upload_post_mails(struct streams *s, struct commit_mail **mails);
/* Counts what a range of a committed state needs, or no longer needs. */
void upload_count_ranges(struct streams *s, struct ledger_stream *c, int delta);

/* Puts an object under a name that only we use: whatever lies there is ours. Repeats until it is known to be there.
 * ERR_FENCED, ERR_CANCELLED: closing. Suspends. */
enum err upload_put_object(struct streams *s, struct object_id id, const struct slice *data, size_t count,
                           enum store_purpose purpose) WARN_UNUSED;

/* compact_choose.c, compact.c: many small ranges of a stream become one; objects that are not worth keeping go */
void compact_begin(struct streams *s);                           /* at the start: looks at every stream */
void compact_note(struct streams *s, struct ledger_stream *c);   /* it has got a range more */
void compact_enlist(struct streams *s, struct ledger_stream *c); /* it has got other ranges */
void compact_poke(struct streams *s);
void compact_due(struct timer *t);
void compact_poor_due(struct timer *t);

/* collect.c: deletes what nothing needs */
void collect_poke(struct streams *s);
void collect_stuck_due(struct timer *t);

#endif
