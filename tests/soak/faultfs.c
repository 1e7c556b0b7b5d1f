/* A FUSE file system that shows a folder as it is, and fails what it is told to fail:
 *
 *   faultfs FOLDER MOUNTPOINT CONTROL
 *
 * CONTROL is a file that both sides map (struct control below, little-endian as the machine is): who starts it writes
 * there which operations fail, below which path, how often and how, and reads how many did. With `error` zero the file
 * system is whole.
 *
 * Nothing is kept back: every write has been handed on when it returns, with the flags the file was opened with
 * (O_DSYNC), and fsync is handed on too. So what a caller may believe of the folder below it may believe here, and power
 * cuts of the disk below mean what they mean without it. O_DIRECT is the one flag that is not handed on, for libfuse's
 * buffers lie anywhere; the kernel's page cache stays out of it all the same (direct_io). File locks are the kernel's. */
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum op {
    OP_READ = 1,
    OP_WRITE = 2,
    OP_FSYNC = 4,
    OP_FSYNCDIR = 8,
    OP_CREATE = 16,
    OP_LINK = 32, /* and rename */
    OP_MKDIR = 64,
    OP_UNLINK = 128,
    OP_ALLOCATE = 256,
    OP_OPEN = 512,
};

enum how {
    HOW_BEFORE = 0, /* nothing was done */
    HOW_AFTER = 1,  /* it was done, and its caller is told that it was not */
    HOW_HALF = 2,   /* of a write its first half was done */
};

/* The layout is known to place.py. */
struct control {
    _Atomic uint32_t error; /* an errno; 0: fail nothing */
    uint32_t ops;           /* of enum op */
    uint32_t chance;        /* of a million */
    uint32_t how;           /* HOW_AFTER is for what a disk may have done: reads and ENOSPC know only HOW_BEFORE */
    _Atomic uint64_t hits;
    char under[104]; /* paths that begin so, e.g. "/wal"; empty: all */
};

static struct control *control;
static int root;
static _Atomic uint64_t draws;

/* The name of a path, relative to the folder. */
static const char *at(const char *path) {
    return path[1] ? path + 1 : ".";
}

static uint32_t draw(void) {
    uint64_t x = (atomic_fetch_add(&draws, 1) + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ (x >> 31)) % 1000000);
}

/* The errno with which this operation is to fail, or 0; *how says when. */
static int fault(enum op op, const char *path, uint32_t *how) {
    int error = (int)atomic_load(&control->error);
    if (error == 0 || !(control->ops & op)) return 0;
    if (path && strncmp(path, control->under, strlen(control->under)) != 0) return 0;
    if (draw() >= control->chance) return 0;
    atomic_fetch_add(&control->hits, 1);
    *how = op == OP_READ || error == ENOSPC ? HOW_BEFORE : control->how;
    return error;
}

/* `result` is what the call below said; it is told, or the fault is. */
static int told(int error, int result) {
    if (error) return -error;
    return result < 0 ? -errno : 0;
}

/* For operations that are done whole or not at all: `call` is not carried out when the fault comes before it. */
#define PASS(op, path, call)                                                                                           \
    do {                                                                                                               \
        uint32_t how = HOW_BEFORE;                                                                                     \
        int error = fault((op), (path), &how);                                                                         \
        if (error && how != HOW_AFTER) return -error;                                                                  \
        int result = (call);                                                                                           \
        return told(error, result);                                                                                    \
    } while (0)

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi) {
    int rc = fi ? fstat((int)fi->fh, st) : fstatat(root, at(path), st, AT_SYMLINK_NOFOLLOW);
    return rc < 0 ? -errno : 0;
}

static int fs_access(const char *path, int mask) {
    return faccessat(root, at(path), mask, 0) < 0 ? -errno : 0;
}

static int fs_readlink(const char *path, char *buffer, size_t size) {
    ssize_t n = readlinkat(root, at(path), buffer, size - 1);
    if (n < 0) return -errno;
    buffer[n] = '\0';
    return 0;
}

static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
                      enum fuse_readdir_flags flags) {
    (void)offset, (void)fi, (void)flags;
    uint32_t how;
    int error = fault(OP_READ, path, &how);
    if (error) return -error;
    int fd = openat(root, at(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) return -errno;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st = {.st_ino = e->d_ino, .st_mode = (mode_t)(e->d_type << 12)};
        if (fill(buffer, e->d_name, &st, 0, 0)) break;
    }
    closedir(d);
    return 0;
}

static int fs_mkdir(const char *path, mode_t mode) {
    PASS(OP_MKDIR, path, mkdirat(root, at(path), mode));
}
static int fs_unlink(const char *path) {
    PASS(OP_UNLINK, path, unlinkat(root, at(path), 0));
}
static int fs_rmdir(const char *path) {
    PASS(OP_UNLINK, path, unlinkat(root, at(path), AT_REMOVEDIR));
}
static int fs_link(const char *from, const char *to) {
    PASS(OP_LINK, to, linkat(root, at(from), root, at(to), 0));
}
static int fs_rename(const char *from, const char *to, unsigned flags) {
    PASS(OP_LINK, to, renameat2(root, at(from), root, at(to), flags));
}
static int fs_symlink(const char *target, const char *path) {
    return symlinkat(target, root, at(path)) < 0 ? -errno : 0;
}
static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *fi) {
    int rc = fi ? fchmod((int)fi->fh, mode) : fchmodat(root, at(path), mode, 0);
    return rc < 0 ? -errno : 0;
}
static int fs_utimens(const char *path, const struct timespec tv[2], struct fuse_file_info *fi) {
    int rc = fi ? futimens((int)fi->fh, tv) : utimensat(root, at(path), tv, AT_SYMLINK_NOFOLLOW);
    return rc < 0 ? -errno : 0;
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *fi) {
    uint32_t how;
    int error = fault(OP_WRITE, path, &how);
    if (error) return -error;
    if (fi) return ftruncate((int)fi->fh, size) < 0 ? -errno : 0;
    int fd = openat(root, at(path), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int rc = ftruncate(fd, size) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int opened(const char *path, struct fuse_file_info *fi, int more, mode_t mode) {
    int fd = openat(root, at(path), (fi->flags & ~O_DIRECT) | more | O_CLOEXEC, mode);
    if (fd < 0) return -errno;
    fi->fh = (uint64_t)fd;
    fi->direct_io = 1;
    return 0;
}
static int fs_create(const char *path, mode_t mode, struct fuse_file_info *fi) {
    uint32_t how;
    int error = fault(OP_CREATE, path, &how);
    return error ? -error : opened(path, fi, O_CREAT, mode);
}
static int fs_open(const char *path, struct fuse_file_info *fi) {
    uint32_t how;
    int error = fault(OP_OPEN, path, &how);
    return error ? -error : opened(path, fi, 0, 0);
}
static int fs_release(const char *path, struct fuse_file_info *fi) {
    (void)path;
    close((int)fi->fh);
    return 0;
}

static int fs_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *fi) {
    uint32_t how;
    int error = fault(OP_READ, path, &how);
    if (error) return -error;
    ssize_t n = pread((int)fi->fh, buffer, size, offset);
    return n < 0 ? -errno : (int)n;
}

static int fs_write(const char *path, const char *data, size_t size, off_t offset, struct fuse_file_info *fi) {
    uint32_t how = HOW_BEFORE;
    int error = fault(OP_WRITE, path, &how);
    if (error && how == HOW_BEFORE) return -error;
    if (error && how == HOW_HALF) size /= 2;
    ssize_t n = pwrite((int)fi->fh, data, size, offset);
    if (error) return -error;
    return n < 0 ? -errno : (int)n;
}

static int fs_fsync(const char *path, int data_only, struct fuse_file_info *fi) {
    PASS(OP_FSYNC, path, data_only ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static int sync_folder(const char *path) {
    int fd = openat(root, at(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    int rc = fsync(fd), error = errno;
    close(fd);
    errno = error;
    return rc;
}
static int fs_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi) {
    (void)data_only, (void)fi;
    PASS(OP_FSYNCDIR, path, sync_folder(path));
}

static int fs_fallocate(const char *path, int mode, off_t offset, off_t size, struct fuse_file_info *fi) {
    PASS(OP_ALLOCATE, path, fallocate((int)fi->fh, mode, offset, size));
}

static int fs_statfs(const char *path, struct statvfs *st) {
    (void)path;
    return fstatvfs(root, st) < 0 ? -errno : 0;
}

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config) {
    (void)connection;
    config->use_ino = 1;
    config->hard_remove = 1; /* an unlinked file that is open is known by its descriptor */
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = fs_init,
    .getattr = fs_getattr,
    .access = fs_access,
    .readlink = fs_readlink,
    .readdir = fs_readdir,
    .mkdir = fs_mkdir,
    .unlink = fs_unlink,
    .rmdir = fs_rmdir,
    .link = fs_link,
    .rename = fs_rename,
    .symlink = fs_symlink,
    .chmod = fs_chmod,
    .utimens = fs_utimens,
    .truncate = fs_truncate,
    .create = fs_create,
    .open = fs_open,
    .release = fs_release,
    .read = fs_read,
    .write = fs_write,
    .fsync = fs_fsync,
    .fsyncdir = fs_fsyncdir,
    .fallocate = fs_fallocate,
    .statfs = fs_statfs,
};

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: faultfs FOLDER MOUNTPOINT CONTROL\n");
        return 2;
    }
    root = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = open(argv[3], O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (root < 0 || map == MAP_FAILED) {
        perror("faultfs");
        return 1;
    }
    control = map;
    umask(0);
    char *arguments[] = {argv[0], argv[2], "-f", "-o", "fsname=faultfs,default_permissions", NULL};
    return fuse_main(5, arguments, &operations, NULL);
}
