/* Whether a bucket keeps the store's promises: read as a fresh broker would read it, directly from the bytes, at any
 * moment of a run (check_format.h). It needs no node, suspends nowhere and changes nothing but what it remembers.
 *
 * At every moment:
 *  - every checksum of every object is right, and every object is one that docs/formats.md knows, whole;
 *  - the cluster log hangs together from its newest snapshot to its end, each snapshot in it says what the records
 *    before it amount to, and so does the ledger of every incarnation that is not retired, with its checkpoints;
 *  - nothing that is referred to is missing: states that checkpoints name, objects that ranges name. A partition's ranges
 *    follow each other without a gap from its log start to its end; what they name is there, long enough, of that stream,
 *    and index, blocks and batches verify and agree about the offsets. No two ranges share bytes. No partition is refused;
 *  - with a memory: no log and no partition becomes shorter, whatever crashed between two looks.
 * An object's bytes are verified at the first look that needs them (`sim_seen`), and with a memory sim_check_store does not read
 * a bucket again in which nothing has changed (`version`), except of a settled broker: there it depends on the time.
 * What is under way needs no allowance but one: entries of a ledger that wait behind a hole, not further than a writer
 * may be ahead.
 *
 * Of a broker that has had its time (`settled`): nothing lies there that nothing needs. The rules:
 *  - objects of incarnations before it: swept. What landed after the sweep began is due at the sweep of the next start:
 *    a request that was on its way for long, or the repetition of one whose sender does not know yet that it was
 *    overtaken (what it puts lies below its fence, where its successor has read it: nobody is deceived);
 *  - what those began in parts and did not finish: given up;
 *  - claims of WALs stay for ever, and so do fences on a shared store; elections too, in the cluster log. A ledger has one fence that ends it, and those
 *    that a recoverer put ahead of a writer who was quicker, one for eight lost races: SIM_CHECK_FENCES_MAX is plenty;
 *  - its own: what is no longer log and not referred to is deleted. What is still log is bounded by checkpoints;
 *  - entries of the cluster log below its boundary are deleted; one that lands once more after that stays for
 *    ever: the next start looks only above what was cleaned, and what would be read for it is not worth some hundred bytes;
 *  - an object that cannot be deleted for a while holds up no other, and goes soon after: ledger entries and data objects
 *    by the clock, entries of the cluster log when it is cleaned the next time;
 *  - probes of the store's check may stay: another broker may be using what looks left over. */
#ifndef OXBOW_SIM_CHECK_STORE_H
#define OXBOW_SIM_CHECK_STORE_H

#include "sim/check_format.h"
#include "stream/ids.h"

#define SIM_CHECK_FENCES_MAX 16u

/* What a partition amounts to by the ledger of its owner. */
struct sim_check_stream {
    const char *topic;
    int32_t partition;
    struct stream_id id;
    int32_t epoch; /* as the cluster log says */
    struct incarnation owner;
    uint64_t start, end;
    uint8_t wal_id[16];            /* of the WAL that the owner's newest entry names; zero: none */
    struct wal_membership members; /* of a mirror, the newest; or none */
};

/* What was seen before. Lives as long as the bucket, in memory that outlives the nodes; never freed by itself. */
struct sim_check_memory;
struct sim_check_memory *sim_check_memory_create(struct mem *m);

struct sim_check_options {
    struct sim_check_memory *memory; /* NULL: each look by itself */
    bool exclusive;                  /* the store is held alone: fences and elections go as well */
    /* Not 0: this incarnation is up or was closed in order, nothing has failed for a while, it had nothing to do, and its sweep ended well. */
    struct incarnation settled;
    bool closed;       /* it was closed: its last checkpoint left some of its own entries to its successor's sweep */
    bool merged;       /* nothing failed since it started: what is small has been merged, the cluster log is clean */
    uint64_t swept_ns; /* when its sweep began */
    uint64_t log_max;  /* so many entries of its ledger may be log; 0: not looked at */
    void (*stream)(void *ctx, const struct sim_check_stream *s); /* told of every partition of every topic; or NULL */
    void *ctx;
};

struct sim_check_found { /* for tests and for totals */
    struct stored_report report;
    uint64_t objects, needed, fences, elections, late, garbage, probes, claims;
};
/* False: *out says what is wrong. */
bool sim_check_bucket(struct mem *m, const struct sim_bucket *b, const struct sim_check_options *o,
                      struct sim_check_found *out) WARN_UNUSED;
/* The same for a run: what is wrong fails it. False: it did. bucket NULL: the world's own; o NULL: none. */
bool sim_check_store(struct sim_world *w, const struct sim_bucket *b, const struct sim_check_options *o);

/* One object log alone, for workloads that have nothing else. False: it is wrong, and the run failed. */
bool sim_check_log(struct sim_world *w, const char *prefix, unsigned depth, struct sim_check_memory *memory,
                   uint64_t *end, bool *fenced);

#endif
