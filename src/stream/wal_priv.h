/* Shared by wal.c and wal_open.c. */
#ifndef OXBOW_STREAM_WAL_PRIV_H
#define OXBOW_STREAM_WAL_PRIV_H

#include "stream/wal.h"

#define WAL_OPS_MAX 16u

struct wal {
    struct env *env;
    struct wal_options options;
    char *path;
    struct env_file *file;
    bool block_device;
    struct wal_superblock superblock;
    bool has_superblock;
    unsigned superblock_slot; /* where the newest one lies */
    struct fiber_mutex superblock_lock;
    uint64_t ring_size;
    uint64_t initialised;      /* ring bytes from the beginning on that have been written at least once, or are being */
    bool zeroing;              /* behind these, zeros are being written */
    uint64_t zeros_failed_end; /* up to here, by a write that failed; or 0 */
    uint64_t initialise_to;
    struct waitq initialised_grown;
    uint64_t head; /* logical position of the next group */
    uint64_t confirmed_end;
    uint64_t trim_requested, trim_durable;
    struct list queued, placed; /* blocks: not yet placed; placed and not confirmed, in order of position */
    struct fiber_mutex place_lock;
    struct waitq space, idle;
    unsigned writers; /* fibers under way: writers, pre-writer, trimmer */
    bool prewriting, trimming, advancing;
    bool failed, reported;
    bool ever_failed; /* then a write of ours may land at any time */
    enum err failed_why;
    uint64_t op_began_ns[WAL_OPS_MAX]; /* of what the device has to do; 0: a free place */
};

enum err wal_write_superblock(struct wal *w, uint64_t trim_position, bool closed) WARN_UNUSED;
/* As env_file_write and env_file_read; known to wal_oldest_op_ns meanwhile. */
enum err wal_device_write(struct wal *w, uint64_t at, const struct env_bytes *pieces, size_t count) WARN_UNUSED;
enum err wal_device_read(struct wal *w, uint64_t at, void *data, size_t size, size_t *got) WARN_UNUSED;
/* Makes the first part of the ring ready in the background. */
void wal_prewrite_begin(struct wal *w);

#endif
