/* The object log: a numbered sequence of objects, each created exactly once by conditional create. The one primitive
 * of coordination; the cluster log
 * and every broker's ledger are object logs. See docs/formats.md ("Object log entry") and design rules in
 * ARCHITECTURE.md.
 *
 * An entry = a header of OBJLOG_HEADER_SIZE bytes, then the head (small: what a reader that walks needs), then the
 * body (may be large, read by range).
 * Header (little-endian): magic "OXLG", version, kind, number, nonce (16 bytes), predecessor's nonce, boundary,
 * writer (64 bits), head size, body size,
 * crc32c of head, crc32c of body, crc32c of the header itself.
 *
 * Rules kept here (each closes a way to lose data):
 *  1. A number is never given other bytes. An unknown outcome is resolved by repeating the same bytes until OK or
 *     ERR_EXISTS, then reading: mine means
 *     an identical header (the nonce is 128 random bits; the checksums cover the rest). A missing object proves
 *     nothing.
 *  2. An append counts when its entry and all before it are mine: a contiguous prefix. The first number that is not
 *     mine ends this writer for ever (ERR_FENCED).
 *  3. A takeover at n counts only after a LIST begun later shows nothing above n with a boundary above n; else start
 *     again from that boundary. Also when the
 *     fence was found rather than made.
 *  4. Numbers below the boundary are no longer log. They are deleted one by one, in any order, once an entry that
 *     carries that boundary is in the prefix.
 *     Fences and elections stay for ever, unless the store is `exclusive`.
 *  5. A reader that meets a wrong predecessor nonce (or a number gone under it) drops its state and reloads: ERR_STALE.
 *
 * All functions suspend. One log object is used from one loop. */
#ifndef OXBOW_OBJLOG_OBJLOG_H
#define OXBOW_OBJLOG_OBJLOG_H

#include "store/store.h"

#define OBJLOG_HEADER_SIZE 128u
#define OBJLOG_DEPTH_MAX 64u
#define OBJLOG_MAGIC 0x0b1067u

enum objlog_kind {
    OBJLOG_DATA = 1,
    OBJLOG_CHECKPOINT = 2 /* may become a boundary */,
    OBJLOG_FENCE = 3,
    OBJLOG_ELECTION = 4
};

struct objlog_nonce {
    uint8_t bytes[16];
};

struct objlog_header {
    enum objlog_kind kind;
    uint64_t number;
    struct objlog_nonce nonce, previous; /* previous is zero for number 0 */
    /* number of the newest checkpoint that is already in the contiguous prefix; 0 if none */
    uint64_t boundary;
    uint64_t writer; /* who appended it: an incarnation, or a recoverer's for a fence */
    uint64_t head_size, body_size;
    uint32_t head_crc, body_crc;
};

void objlog_header_encode(const struct objlog_header *h, uint8_t out[OBJLOG_HEADER_SIZE]);
/* ERR_FOREIGN, ERR_VERSION, ERR_CORRUPT, ERR_TRUNCATED. */
enum err objlog_header_decode(const uint8_t *data, size_t size, struct objlog_header *out) WARN_UNUSED;
/* "<prefix>/<number, 20 decimal digits>" */
void objlog_key(char *out, size_t out_size, const char *prefix, uint64_t number);

/* An entry as a reader sees it: header and head. The body stays in the store at key, from position
 * OBJLOG_HEADER_SIZE + head_size on. */
struct objlog_entry {
    struct objlog_header header;
    struct slice head; /* verified; borrowed until the callback returns */
};
/* Reads one entry's header and head (one GET where the head is below 64 KiB - header). ERR_NOT_FOUND: a hole.
 * ERR_CORRUPT etc. are final. */
enum err objlog_read(struct store *s, const char *prefix, uint64_t number, enum store_purpose purpose,
                     struct objlog_entry *out) WARN_UNUSED;
void objlog_entry_deinit(struct objlog_entry *e);

struct objlog; /* a writer, and the position of a reader */

struct objlog_options {
    struct store *store;
    const char *prefix; /* copied */
    unsigned depth;     /* 1 (cluster log) .. OBJLOG_DEPTH_MAX (ledgers) */
    uint64_t writer;
    enum store_purpose purpose;
    /* The owner moves the boundary (objlog_trim); its entries are all checkpoints, in that each may become it. To be said
     * by readers too. */
    bool trimmed;
};

/* A writer for a log that begins empty (a new incarnation's ledger: the prefix is its own). No I/O. */
struct objlog *objlog_create(const struct objlog_options *o);
void objlog_destroy(struct objlog *l); /* nothing may be under way */

/* Replays a log: from its boundary (found by LIST and the highest entry) to the first hole; apply() is called for
 * each entry in order, the checkpoint at
 * the boundary first; an error from it ends the walk and is returned. apply() may suspend. Then the log stands at
 * the hole, for objlog_take_over. ERR_STALE is handled inside by
 * calling reset() and starting again. ERR_NOT_FOUND: the log is empty (not an error for objlog_take_over). */
struct objlog_replay {
    enum err (*apply)(void *ctx, const struct objlog_entry *e);
    void (*reset)(void *ctx); /* drop all state: the replay begins anew */
    void *ctx;
};
enum err objlog_recover(struct objlog *l, const struct objlog_replay *replay) WARN_UNUSED;

/* After objlog_recover (also when that found the log empty): puts an OBJLOG_FENCE or OBJLOG_ELECTION with that head
 * at the hole, by the takeover rules (races are walked on, applying what others wrote).
 * On OK *number is where it lies; for an election this log is now the writer and may append; for a fence the log is
 * closed for all. When a fence of another is found:
 * OK with *number = that fence's number and *mine = false (a ledger once fenced is fenced); an election of another
 * found: ERR_FENCED after applying it.
 * apply() is called for what others wrote, fences included, and not for the entry made here. Repeats for ever on a
 * store that is not there now, until objlog_stop. */
enum err objlog_take_over(struct objlog *l, enum objlog_kind kind, const struct objlog_replay *replay,
                          const struct slice *head, uint64_t *number, bool *mine) WARN_UNUSED;

/* Appends; suspends until this entry and all before it are durable (OK) or the log is lost to another (ERR_FENCED).
 * Repeats for ever on everything else, with jitter, until
 * objlog_stop. Several fibers may append at once: numbers are given in the order of the calls; while `depth` are in
 * flight, or a number is reserved, callers wait in order.
 * kind OBJLOG_CHECKPOINT: once durable it becomes the boundary of later entries. */
enum err objlog_append(struct objlog *l, enum objlog_kind kind, const struct slice *head, const struct slice *body,
                       size_t body_count, uint32_t body_crc, uint64_t *number) WARN_UNUSED;
/* Makes appends that are under way return ERR_CANCELLED at their next attempt (their outcome is then unknown). */
void objlog_stop(struct objlog *l);

uint64_t objlog_next(const struct objlog *l); /* the number the next append gets */
/* count of the contiguous durable prefix: all numbers below it are durable */
uint64_t objlog_durable(const struct objlog *l);
/* Of a log that is trimmed: nothing below this number, a durable one, is needed any more: later entries carry it as their
 * boundary. Never suspends. */
void objlog_trim(struct objlog *l, uint64_t number);
uint64_t objlog_boundary(const struct objlog *l); /* newest durable checkpoint, 0 if none */
/* The boundary that some durable entry already carries: numbers below it may be deleted by rule 4. */
uint64_t objlog_deletable_below(const struct objlog *l);
bool objlog_fenced(const struct objlog *l);

/* Deletes numbers of a log whose object is no longer needed; the caller vouches for rule 4. */
enum err objlog_delete(struct store *s, const char *prefix, const uint64_t *numbers, size_t count) WARN_UNUSED;

#endif
