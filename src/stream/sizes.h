/* The sizes of the engine, all in one place. With OXBOW_SMALL they are small: the simulator's second build, in which
 * a short run reaches every limit, fills every buffer and laps every
 * ring. Nothing stored depends on them but WAL_RING_MIN; a broker of either build reads what the other wrote. */
#ifndef OXBOW_STREAM_SIZES_H
#define OXBOW_STREAM_SIZES_H

#ifdef OXBOW_SMALL
#define COMMIT_SLAB_SIZE (64u << 10)
#define BLOCK_SIZE_MAX (32u << 10)
#define UPLOAD_ENTRY_MAX (64u << 10)
#define UPLOAD_SECTIONS_MAX 3u
#define UPLOAD_RECOVERY_MAX (64u << 10)
#define RECOVERY_UPLOADS 3u
#define BUILD_STEPS 3u
#define FLUSH_ENTRY_MIN (8u << 10)
#define FLUSH_ENTRY_MAX (64u << 10)
#define OBJECT_BLOCK_TARGET (16u << 10)
#define COMPACT_LOW_BELOW (4u << 10)
#define COMPACT_LOW_RANGES 4u
#define COMPACT_HIGH_BELOW (24u << 10)
#define COMPACT_HIGH_RANGES 3u
#define COMPACT_SECTIONS_MAX 5u
#define COMPACT_LOOK_MAX 8u
#define COMPACT_LARGE_RANGES 6u
#define COMPACT_LARGE_RUN 3u
#define COMPACT_HUGE_BYTES (128u << 10)
#define COMPACT_SMALL_BELOW (4u << 10)
#define COMPACT_SMALL_OBJECTS 6u
#define COMPACT_DEAD_MIN (16u << 10)
#define COMPACT_DEAD_MAX ((uint64_t)1 << 20)
#define COMPACT_BYTES_MIN (80u << 10)
#define COMPACT_GET_MAX (30u << 10)
#define COMPACT_GAP (1u << 10)
#define COMPACT_GAP_MAX (6u << 10)
#define COMPACT_ENTRY_MAX (20u << 10)
#define COMPACT_WITHIN_NS (2 * NS_PER_S)
#define COMPACT_RATE_MIN (64u << 10)
#define COMPACT_AT_ONCE (4u << 10)
#define REPLACE_READ_BYTES (40u << 10)
#define REPLACE_OBJECT_BYTES (48u << 10)
#define CLEAN_RUN_BYTES (96u << 10)
#define CLEAN_MAP_BYTES_MAX 600u
#define WAL_RING_MIN (256u << 10)
#define WAL_AHEAD_BYTES (128u << 10)
#define WAL_ZERO_SIZE (16u << 10)
#define WAL_ZERO_WHILE (32u << 10)
#define WAL_FIRST_BYTES (64u << 10)
#define REPLAY_PIECE (64u << 10)
#define REPLAY_AHEAD 3u
#define LOOK_BEHIND_BYTES (512u << 10)
#define WINDOW_MIN (16u << 10)
#define WINDOW_MAX (128u << 10)
#define READ_GET_MAX (64u << 10)
#define READ_GAP_MAX (2u << 10)
#define VERIFY_HERE_MAX (8u << 10)
#define FIRST_READ_BYTES (20u << 10)
#else
#define COMMIT_SLAB_SIZE (2u << 20) /* one allocation of the log cache */
#define BLOCK_SIZE_MAX                                                                                                 \
    (1u                                                                                                                \
     << 20) /* a commit block is sealed when it has reached this; a larger record has a block, and slab, of its own */
#define UPLOAD_ENTRY_MAX (64u << 20)     /* of records in a ledger entry itself; more have an object of their own */
#define UPLOAD_SECTIONS_MAX 8192u        /* streams in one ledger entry: then no block is added any more */
#define UPLOAD_RECOVERY_MAX (32u << 20)  /* the same during recovery, which has to copy them; */
#define RECOVERY_UPLOADS 3u              /* and so many entries under way meanwhile */
#define BUILD_STEPS 64u                  /* records, or sections, between two pauses of the building of an entry */
#define FLUSH_ENTRY_MIN (1u << 20)       /* of records that wait to be confirmed by the ledger, that go at once; */
#define FLUSH_ENTRY_MAX (8u << 20)       /* and in one entry: several are quicker than a large one */
#define OBJECT_BLOCK_TARGET (512u << 10) /* a block of an object is closed when it has reached this */
/* Compaction: ranges below so many bytes are of the low tier, others below so many of the high one; once a stream has so
 * many of one tier, with nothing larger between them, they become one. */
#define COMPACT_LOW_BELOW (1u << 20)
#define COMPACT_LOW_RANGES 32u
#define COMPACT_HIGH_BELOW (16u << 20)
#define COMPACT_HIGH_RANGES 8u
#define COMPACT_SECTIONS_MAX 8192u           /* streams in one job */
#define COMPACT_LOOK_MAX 16384u              /* streams with half a run that a job looks at */
#define COMPACT_LARGE_RANGES 1024u           /* of a stream; of older ones, */
#define COMPACT_LARGE_RUN 8u                 /* so many or more become one, */
#define COMPACT_HUGE_BYTES (1u << 30)        /* of about that size */
#define COMPACT_SMALL_BELOW (1u << 20)       /* objects below that size are emptied */
#define COMPACT_SMALL_OBJECTS 64u            /* once there are so many; */
#define COMPACT_DEAD_MIN (16u << 20)         /* sparse ones once so much of them is not needed, */
#define COMPACT_DEAD_MAX ((uint64_t)4 << 30) /* and a sixteenth of what is, or so much */
#define COMPACT_BYTES_MIN (128u << 20)    /* what one run may have, and so the least that compaction has memory for */
#define COMPACT_GET_MAX (512u << 20)      /* of what lies side by side, in one GET, */
#define COMPACT_GAP (256u << 10)          /* with no more than this between that is not wanted, */
#define COMPACT_GAP_MAX (8u << 20)        /* or than this and than what is wanted before it */
#define COMPACT_ENTRY_MAX (4u << 20)      /* less than this is in the entry itself; more has an object of its own */
#define COMPACT_WITHIN_NS (60 * NS_PER_S) /* what can be merged is, within about that time, */
#define COMPACT_RATE_MIN (4u << 20)       /* or at so many bytes a second, if that is sooner */
#define COMPACT_AT_ONCE (1u << 20)        /* but so much without any pause */
#define REPLACE_READ_BYTES (4u << 20)     /* of old ranges, in one read of log compaction, */
#define REPLACE_OBJECT_BYTES (32u << 20)  /* and when what is left of them is made an object; */
#define CLEAN_RUN_BYTES (32u << 20) /* ranges that together are no larger are rewritten at once, or stay as they are */
#define CLEAN_MAP_BYTES_MAX UINT64_MAX /* of the map of keys, beside what is configured */
#define WAL_RING_MIN (8u << 20)
#define WAL_AHEAD_BYTES (32u << 20) /* how far the ring is written once before its first use */
#define WAL_ZERO_SIZE (256u << 10)  /* the buffer of zeros for that, */
#define WAL_ZERO_WHILE (512u << 10) /* which is done while no more than this waits for the device */
#define WAL_FIRST_BYTES (4u << 20)  /* how much of it right after the format */
#define REPLAY_PIECE (2u << 20)     /* of the ring, in one read of recovery, */
#define REPLAY_AHEAD 6u             /* and so many of these at a time */
#define LOOK_BEHIND_BYTES                                                                                              \
    (16u << 20)                   /* how far behind the end of the ring recovery looks for what should not be there */
#define WINDOW_MIN (512u << 10)   /* read-ahead of a reader that has just begun, */
#define WINDOW_MAX (16u << 20)    /* and of one that has read on and on; */
#define READ_GET_MAX (4u << 20)   /* so much of it in one GET, or a single block that is larger */
#define READ_GAP_MAX (128u << 10) /* between two parts of an object that are wanted: cheaper than another GET */
#define VERIFY_HERE_MAX (128u << 10) /* what is read back is verified on the loop up to this size, else by a worker */
#define FIRST_READ_BYTES (1u << 20)  /* a piece up to this size is read whole with its index */
#endif

#endif
