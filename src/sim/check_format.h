/* What lies in buckets and on disks, read by the checkers for themselves: object logs, pieces of data objects, the ring
 * of a WAL. This is a second reading of docs/formats.md, beside the product's: it shares the decoders of single headers
 * with it, and nothing of its recovery, its replays or its retries. Nothing here suspends, changes anything, draws a
 * random number or is seen in the trace; so it can be called at any moment, and a run is the same with it. */
#ifndef OXBOW_SIM_CHECK_FORMAT_H
#define OXBOW_SIM_CHECK_FORMAT_H

#include "objlog/objlog.h"
#include "sim/disk.h"
#include "sim/sim_store.h"
#include "stream/record.h"
#include "stream/wal.h"

/* The first thing that is wrong; "" while there is none. */
struct stored_report {
    char text[400];
};
void stored_bad(struct stored_report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline bool stored_failed(const struct stored_report *r) {
    return r->text[0] != '\0';
}

/* --- Object logs. */

struct stored_entry {
    const struct sim_object *object;
    size_t index; /* in the bucket */
    struct objlog_header header;
    const uint8_t *head, *body;
};

/* Whether the object is that entry, whole. Its checksums are computed once (`seen`). */
bool stored_entry_read(struct stored_report *r, struct sim_object *o, uint64_t number,
                       struct stored_entry *e) WARN_UNUSED;

struct stored_log {
    struct stored_entry *entries; /* all that lie there, by number; owned */
    size_t count;
    size_t first, behind; /* entries[first, behind) are the log, without the fence that ends it */
    uint64_t boundary;    /* number of the first one; 0 in an empty log */
    uint64_t end;         /* the first hole, or the fence */
    bool fenced;
};
/* Reads the log under "<prefix>/". Every entry there must be whole: header, number, size, both checksums. The one at
 * the boundary must be there, a checkpoint; from there on each names its predecessor; behind the first hole lies only
 * what a writer with `depth` appends under way, or a fencer, can have put there. False: the report says what is wrong.
 * out: to be freed with stored_log_deinit in either case. */
bool stored_log_read(struct stored_report *r, struct mem *m, const struct sim_bucket *b, const char *prefix,
                     unsigned depth, struct stored_log *out) WARN_UNUSED;
void stored_log_deinit(struct stored_log *l, struct mem *m);

/* --- Pieces: a block index and its blocks, as a range of a partition's state says that they are. */
struct state_range;
/* data: the whole object that the range names. The index, the checksums of the blocks, and every batch in them are right,
 * and offsets run from the range's first to its end without a gap. */
bool stored_piece(struct stored_report *r, const char *key, const uint8_t *data, size_t size,
                  const struct state_range *range) WARN_UNUSED;

/* --- The WAL. */

struct stored_wal {
    bool formatted; /* there is a superblock */
    bool both;      /* both superblocks verify, are of the same WAL, and follow each other */
    bool marked;
    struct wal_superblock superblock;
    uint64_t end; /* logical position behind the last whole group */
    uint64_t groups, records;
};
/* Reads the ring of a file or device as its readers see it now: from the trim position of the newest superblock to the
 * first place that is no group of its incarnation. record() gets every record, in order; it may be NULL. What was
 * confirmed must not be damaged: no group behind the end may say that its place had been. file NULL: there is none. */
bool stored_wal_read(struct stored_report *r, struct mem *m, const struct sim_file *file,
                     void (*record)(void *ctx, const struct record_header *h, const uint8_t *payload), void *ctx,
                     struct stored_wal *out) WARN_UNUSED;

#endif
