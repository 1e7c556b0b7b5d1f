/* A materialised table: of key/value records, the newest value of each key. Part of the state of a stream whose batches
 * are appended with STREAM_RECORD_TABLE, so that whoever needs the table (a coordinator) has it when the partition is
 * opened, and replays nothing.
 *
 * A record without a value deletes its key. A *delta's* table keeps such tombstones, for the key may be in what the
 * delta is merged into; a whole state's drops the key. Records without a key are no part of the table. Each entry
 * carries the offset of its record. The log start offset does not matter: an entry outlives its record.
 *
 * Plain data and pure functions, like state.h, which owns the table of a state; NULL there means an empty one, which
 * costs nothing. */
#ifndef OXBOW_STREAM_STATE_TABLE_H
#define OXBOW_STREAM_STATE_TABLE_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/map.h"

struct state_table {
    struct mem *mem;
    struct mapstr entries; /* key -> struct state_table_entry * */
};

struct state_table_entry {
    uint64_t offset;
    int32_t value_size; /* -1: deleted (deltas only) */
    uint8_t value[];
};

/* NULL is fine. */
void state_table_destroy(struct state_table *t);
struct state_table *state_table_copy(const struct state_table *t, struct mem *m);
size_t state_table_count(const struct state_table *t);
/* NULL: the key is not there. */
const struct state_table_entry *state_table_get(const struct state_table *t, const void *key, size_t key_size);
/* Walks all, in no order that means anything: start with *cursor = 0; NULL at the end. Key and entry are the table's. */
const struct state_table_entry *state_table_next(const struct state_table *t, size_t *cursor, const char **key,
                                                 size_t *key_size);

/* One record. value_size -1: delete; `keep` the tombstone or drop the key. *t may be NULL before, and is when the table
 * is empty. */
void state_table_put(struct state_table **t, struct mem *m, uint64_t offset, const void *key, size_t key_size,
                     const void *value, int32_t value_size, bool keep);
/* All records of one uncompressed batch (v2), with its position set. ERR_CORRUPT_MESSAGE: it is none; ERR_INVALID_RECORD:
 * a record is malformed. The table may then have a part of it. */
enum err state_table_apply(struct state_table **t, struct mem *m, const uint8_t *batch, size_t size,
                           bool keep) WARN_UNUSED;
/* The entries of a later section take the place of earlier ones; `keep` tells whether *t is a delta's. */
void state_table_merge(struct state_table **t, struct mem *m, const struct state_table *later, bool keep);

/* For MUTANT_FORGET_TOMBSTONES. */
void state_table_forget_tombstones(struct state_table **t);

/* The stored form; the essay is in state.c. Canonical: sorted by key. */
void state_table_encode(const struct state_table *t, struct buf *out);
/* At least one entry, offsets in [first_offset, end_offset), tombstones only where `keep`. False: the bytes are no such
 * table; *t may then be a part of it, to be destroyed. */
bool state_table_decode(struct state_table **t, struct mem *m, struct reader *r, uint64_t first_offset,
                        uint64_t end_offset, bool keep);

#endif
