/* Disks of the simulated world: a file system for each machine, and block devices that can be attached to several
 * machines at once (a zombie and the one that takes
 * over). Disks outlive nodes.
 *
 * What a power cut leaves. Content has two images, in sectors of 4096 bytes: what readers see, and what is on the
 * medium. A write to a file opened with ENV_FILE_DSYNC
 * changes both when it completes. Any other write makes its sectors dirty until file_sync. At a power cut each dirty
 * sector persists, vanishes or
 * tears (a mixture of old and new 512-byte units), independently of all others; so do a file's size and each change
 * of a directory that dir_sync has not made
 * durable: a new file may be gone, a removed one may be back. A write in flight at a crash lands whole, in part,
 * torn, or not; on a shared device it may also land
 * later. kill -9 leaves the machine running: completed writes stay, dirty or not.
 *
 * A disk that is full stays so for a while, for all files on it. A failed write (EIO) may have reached any of its sectors. After a failed sync a part of what was dirty counts as
 * clean without being on the medium: later syncs
 * succeed and the next power cut takes it away, as Linux does it. */
#ifndef OXBOW_SIM_DISK_H
#define OXBOW_SIM_DISK_H

#include "sim/node.h"

#define SIM_SECTOR 4096u
#define SIM_SECTOR_UNIT 512u

struct sim_disk;
struct sim_file; /* a file's content, or a device */

struct sim_disk *sim_disk_create(struct sim_world *w);
struct sim_disk *sim_disk_ref(struct sim_disk *d);
void sim_disk_unref(struct sim_disk *d);
/* Capacity; UINT64_MAX (the default): none. Growing beyond it is ERR_FULL. */
void sim_disk_limit(struct sim_disk *d, uint64_t bytes);

/* A block device of a fixed size. One reference for the caller, one for each node that it is attached to. Only
 * ENV_FILE_DIRECT opens when it is attached twice.
 * ENV_FILE_LOCK is exclusive within one node only, as O_EXCL is within one machine. */
struct sim_file *sim_device_create(struct sim_world *w, uint64_t size_bytes);
void sim_device_unref(struct sim_file *f);
void sim_device_attach(struct sim_node *n, const char *path, struct sim_file *f);
/* Revokes it: from now on reads, writes and syncs through that node's open files fail with ERR_IO and do nothing;
 * what is in flight lands or not. */
void sim_device_detach(struct sim_node *n, struct sim_file *f);

/* For checkers, without suspending: the content that a reader sees, and whether the path exists. Returns the bytes
 * copied. */
struct sim_file *sim_disk_find(struct sim_disk *d, const char *path);
size_t sim_file_peek(const struct sim_file *f, uint64_t position, void *out, size_t size);
/* What was there before anything began: writes it, durably. The file or device is long enough. */
void sim_file_poke(struct sim_file *f, uint64_t position, const void *data, size_t size);
uint64_t sim_file_peek_size(const struct sim_file *f);
uint64_t sim_file_dirty_sectors(const struct sim_file *f);

/* Bit rot by hand, at most once per call: changes one bit in [position, position + size), of what is read and of what
 * is on the medium. False: not allowed, or nothing lies there. */
bool sim_file_rot(struct sim_file *f, uint64_t position, uint64_t size);

/* For node.c: the environment's functions, and the ends of nodes. */
enum err sim_file_open(struct env *e, const char *path, unsigned flags, struct env_file **out);
void sim_file_close(struct env_file *f);
enum err sim_file_info(struct env *e, const char *path, struct env_file_info *out);
enum err sim_file_size(struct env_file *f, struct env_file_info *out);
enum err sim_file_read(struct env_file *f, uint64_t position, void *data, size_t size, size_t *got);
enum err sim_file_write(struct env_file *f, uint64_t position, const struct env_bytes *pieces, size_t count);
enum err sim_file_sync(struct env_file *f);
/* A sync that failed: what was dirty may count as clean. Does not suspend. */
void sim_file_sync_failed(struct env_file *f);
/* The node that opened it. */
struct sim_node *sim_file_node(const struct env_file *f);
enum err sim_file_grow(struct env_file *f, uint64_t size_bytes);
enum err sim_file_remove(struct env *e, const char *path);
enum err sim_dir_make(struct env *e, const char *path);
enum err sim_dir_sync(struct env *e, const char *path);
/* The node's process is gone: closes its files; after a power cut its disk forgets. Operations in flight have been
 * told before. */
void sim_disk_node_crashed(struct sim_node *n, enum sim_crash kind);
void sim_disk_node_destroyed(struct sim_node *n);

#endif
