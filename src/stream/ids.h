/* The identities of what is stored. Each kind is its own one-field struct, so that they cannot be mixed up. */
#ifndef OXBOW_STREAM_IDS_H
#define OXBOW_STREAM_IDS_H

#include <stdbool.h>
#include <stdint.h>

/* What backs one partition, for ever. Given out by the cluster log, never reused; 0 is none. */
struct stream_id {
    uint64_t v;
};

/* One start of one broker: the position of its registration in the cluster log, (object number << 20 | record index)
 * + 1. Unique and ordered, never a
 * wall clock; 0 is none. */
struct incarnation {
    uint64_t v;
};

/* Where stored data lies: entry `number` of the creator's ledger, or its data object `number`. */
enum object_kind { OBJECT_LEDGER_ENTRY = 1, OBJECT_DATA = 2 };
struct object_id {
    struct incarnation creator;
    uint64_t number;
    enum object_kind kind;
};
static inline bool object_id_equal(struct object_id a, struct object_id b) {
    return a.creator.v == b.creator.v && a.number == b.number && a.kind == b.kind;
}
/* As qsort has it. */
static inline int object_id_compare(struct object_id a, struct object_id b) {
    if (a.creator.v != b.creator.v) return a.creator.v < b.creator.v ? -1 : 1;
    if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
    return a.number < b.number ? -1 : a.number > b.number;
}

/* Which WALs hold what an incarnation has acknowledged and not uploaded: each of them all of it (wal_mirror.h). Of one
 * incarnation's memberships the one with the highest version counts; version 0: it has none. No members: all of it is in
 * the ledger. */
#define WAL_MEMBERS_MAX 4u
struct wal_membership {
    uint64_t version;
    unsigned count;
    uint8_t ids[WAL_MEMBERS_MAX][16];
};

#endif
