/* Shared by wal_objects.c and wal_objects_read.c. */
#ifndef OXBOW_STREAM_WAL_OBJECTS_PRIV_H
#define OXBOW_STREAM_WAL_OBJECTS_PRIV_H

#include "objlog/objlog.h"
#include "rt/fiber.h"
#include "stream/wal_objects.h"

struct wal_objects {
    struct env *env;
    struct wal_objects_options options; /* owns the URL */
    struct store *store;                /* NULL: not open */
    bool checked;                       /* it creates conditionally */
    char why[512];
    /* The log that is written; NULL: none. */
    struct objlog *log;
    char prefix[WAL_OBJECTS_PREFIX_MAX];
    uint8_t id[16];
    struct incarnation incarnation;
    uint64_t head, confirmed_end, trimmed; /* logical, as in a ring */
    uint64_t deleted;                      /* numbers below are deleted */
    struct list queued, placed;            /* blocks: waiting; in an entry that is on its way */
    uint64_t queued_bytes;
    struct list entries; /* sent_entry: in the log, from the boundary on */
    unsigned sending;    /* entries on their way */
    bool starting;       /* a sender has been spawned, and has not run yet */
    unsigned fibers;     /* alive: senders, and who deletes */
    bool deleting;
    bool failed, reported;
    enum err failed_why;
    struct waitq idle;
    uint64_t op_began_ns[OBJLOG_DEPTH_MAX]; /* of the entries on their way; 0: a free place */
};

#endif
