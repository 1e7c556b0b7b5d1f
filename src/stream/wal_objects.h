/* A member of a mirrored WAL that is an object log in another store: another bucket, or another folder. Each group of the
 * mirror becomes part of an entry of the log; it is confirmed when that entry and all before it have been created
 * (objlog/objlog.h: conditionally, unknown outcomes are looked at, a number never gets other bytes).
 * Lives on the log loop.
 *
 * Each time the member is begun it is a new log, under a new id: nothing that lies there is ever begun anew, and nobody
 * else's is touched. The keys are "<generation>/mirror/<incarnation, 16 hex digits>-<WAL id, 32 hex digits>/<number>".
 *
 * Entry: an object log entry of kind checkpoint (any of them may become the boundary: what lies below it has been trimmed).
 *    head, 40 bytes, little-endian: magic "OXBWOLOG", u32 version = 1, u32 group count, 16 bytes WAL id, u64 zero
 *    body: so many groups as in a ring (record.h), one after the other, without the padding behind them. The first entry
 *    of a log has none.
 *
 * Rules:
 *  1. One entry is on its way at a time, or as many as the depth says while there is much: what waits meanwhile goes
 *     together. So the number of requests follows from how long one takes, not from the number of groups.
 *  2. Trimming makes the first entry that is still needed the boundary; entries below it are deleted, many in one request,
 *     once a later entry carries that boundary (objlog.h, rule 4).
 *  3. Who recovers puts a fence at the end before it believes what it has read: from then on the holder, should it live,
 *     confirms nothing. The fence stays, but on a store that is held alone.
 *  4. A log that was closed in order, or that no membership names any more, is deleted by who wrote it, as far as it can;
 *     what is left of those of dead incarnations goes by wal_objects_sweep. */
#ifndef OXBOW_STREAM_WAL_OBJECTS_H
#define OXBOW_STREAM_WAL_OBJECTS_H

#include "stream/block.h"

#define WAL_OBJECTS_HEAD_SIZE 40u
#define WAL_OBJECTS_PREFIX_MAX 128u

struct wal_objects;

struct wal_objects_options {
    struct env *env;
    const char *url; /* copied */
    /* Opens the store that the URL names; why: a sentence. Suspends. */
    enum err (*open_store)(void *ctx, const char *url, struct store **out, char *why, size_t why_size);
    void *open_ctx;
    unsigned depth; /* entries on their way at once, at most */
    /* As in wal_options. */
    void (*confirmed)(void *ctx, struct block *b);
    void (*failed)(void *ctx, enum err why);
    void *ctx;
};
/* No I/O. */
struct wal_objects *wal_objects_create(const struct wal_objects_options *o);
/* in_order: everything has been trimmed: what is left is deleted. Suspends. */
void wal_objects_destroy(struct wal_objects *w, bool in_order);

/* Opens the store, if it is not open, and tries whether it creates conditionally. ERR_UNSUPPORTED: it does not. *why: a
 * sentence, the member's own or a literal. Suspends. */
enum err wal_objects_open(struct wal_objects *w, const char **why) WARN_UNUSED;
bool wal_objects_is_open(const struct wal_objects *w);
/* A new log of this id; what was there of an earlier one of ours is deleted. OK: its first entry is there, and blocks are
 * taken. ERR_TIMEOUT: not within patience_ns. Nothing may be under way. Suspends. */
enum err wal_objects_begin(struct wal_objects *w, const char *generation, struct incarnation incarnation,
                           const uint8_t id[16], uint64_t patience_ns) WARN_UNUSED;
bool wal_objects_begun(const struct wal_objects *w);

/* As those of wal.h. ERR_FENCED in failed(): another broker has taken this log over. */
void wal_objects_submit(struct wal_objects *w, struct block *b);
void wal_objects_trim(struct wal_objects *w, uint64_t position);
void wal_objects_give_up(struct wal_objects *w);
void wal_objects_abandon(struct wal_objects *w, struct list *left);
uint64_t wal_objects_oldest_op_ns(const struct wal_objects *w);
uint64_t wal_objects_used_bytes(const struct wal_objects *w);
bool wal_objects_idle(const struct wal_objects *w);

/* Fences and reads the log of a dead incarnation, from its boundary to its end; record() as in wal_replay, but the same
 * records may come more than once. ERR_NOT_FOUND: no such log is there. ERR_TIMEOUT: not within patience_ns. Suspends. */
struct wal_objects_found {
    uint64_t entries, groups, records;
};
enum err wal_objects_replay(struct wal_objects *w, const char *generation, struct incarnation dead,
                            const uint8_t id[16], struct incarnation taker, uint64_t patience_ns,
                            enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload),
                            void *ctx, struct wal_objects_found *found) WARN_UNUSED;

/* Deletes what earlier incarnations have left, but for fences where somebody may still meet them. All of them must be dead
 * and recovered. Suspends. */
enum err wal_objects_sweep(struct wal_objects *w, const char *generation, struct incarnation self, const bool *stop,
                           uint64_t *deleted) WARN_UNUSED;

/* --- The format; pure. */
void wal_objects_prefix(char out[WAL_OBJECTS_PREFIX_MAX], const char *generation, struct incarnation incarnation,
                        const uint8_t id[16]);
void wal_objects_head_encode(uint8_t out[WAL_OBJECTS_HEAD_SIZE], const uint8_t id[16], uint32_t groups);
/* ERR_FOREIGN, ERR_VERSION, ERR_TRUNCATED, ERR_CORRUPT: it is of another log. */
enum err wal_objects_head_decode(const uint8_t *data, size_t size, const uint8_t id[16], uint32_t *groups) WARN_UNUSED;
/* The body of an entry that `writer` wrote: exactly so many groups, whole. An error of record() ends it. */
enum err wal_objects_body_read(const uint8_t *data, size_t size, uint32_t groups, struct incarnation writer,
                               enum err (*record)(void *ctx, const struct record_header *h, const uint8_t *payload),
                               void *ctx, uint64_t *records) WARN_UNUSED;

#endif
