/* Deliberate mistakes, for tests alone: the simulator makes them to show that its checks would notice. Each is one line
 * in the code that it breaks. No configuration reaches them; what zero-initialises its options has none. */
#ifndef OXBOW_STREAM_MUTANT_H
#define OXBOW_STREAM_MUTANT_H

enum stream_mutant {
    STREAM_MUTANT_NONE = 0,
    /* the WAL */
    STREAM_MUTANT_NO_FLUSH,    /* writes are confirmed that nothing has flushed */
    STREAM_MUTANT_NO_DIR_SYNC, /* the name of a new file is not made durable */
    STREAM_MUTANT_SKIP_PAD,    /* the rest of a lap is left as it is */
    STREAM_MUTANT_NO_MARK,     /* the takeover mark is not read before confirming */
    STREAM_MUTANT_KEEP_TORN,   /* records of a torn group are kept though their checksum is wrong */
    STREAM_MUTANT_KEEP_STALE,  /* groups of an earlier lap or incarnation are taken for new ones */
    STREAM_MUTANT_REUSE_EARLY, /* space is used again before the superblock that frees it is durable */
    /* the engine */
    STREAM_MUTANT_TRIM_EARLY,        /* the WAL is trimmed before the upload has landed */
    STREAM_MUTANT_FORGET_PRODUCERS,  /* deltas without producer state */
    STREAM_MUTANT_RANGES_OFF,        /* ranges point to where the entry's first piece lies */
    STREAM_MUTANT_DELETE_LOG,        /* entries are deleted while they are still log */
    STREAM_MUTANT_CHANGE_EARLY,      /* a stream changes its durability before all of it is in the ledger */
    STREAM_MUTANT_NO_DRAIN,          /* a checkpoint does not wait for the entries before it */
    STREAM_MUTANT_ACK_UNSENT,        /* the ledger's records are acknowledged when they are sent */
    STREAM_MUTANT_OLD_STATES,        /* a checkpoint names the old state of what has changed */
    STREAM_MUTANT_FORGET_TOMBSTONES, /* deltas of tables without the deletions */
    STREAM_MUTANT_SWEEP_FENCES,      /* fences of dead incarnations are swept though these may still write */
};

#endif
