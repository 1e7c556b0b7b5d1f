/* Preloaded into a broker, it breaks what the power-cut tests are about: files are opened without O_DIRECT and
 * O_DSYNC, and nothing is
 * flushed. What is written then lies in the page cache and nowhere else. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/uio.h>
#include <unistd.h>

static int without(int flags) {
    return flags & ~(O_DIRECT | O_DSYNC | (O_SYNC & ~O_DSYNC));
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static mode_t mode_of(va_list ap, int flags) {
    return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? (mode_t)va_arg(ap, int) : 0;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list ap;                                                                                                    \
        va_start(ap, flags);                                                                                           \
        mode_t mode = mode_of(ap, flags);                                                                              \
        va_end(ap);                                                                                                    \
        return REAL(name)(path, without(flags), mode);                                                                 \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int dir, const char *path, int flags, ...) {                                                              \
        va_list ap;                                                                                                    \
        va_start(ap, flags);                                                                                           \
        mode_t mode = mode_of(ap, flags);                                                                              \
        va_end(ap);                                                                                                    \
        return REAL(name)(dir, path, without(flags), mode);                                                            \
    }
OPENAT(openat)
OPENAT(openat64)

int fsync(int fd) {
    (void)fd;
    return 0;
}
int fdatasync(int fd) {
    (void)fd;
    return 0;
}
int syncfs(int fd) {
    (void)fd;
    return 0;
}
int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags) {
    (void)fd, (void)offset, (void)count, (void)flags;
    return 0;
}
ssize_t pwritev2(int fd, const struct iovec *v, int count, off_t offset, int flags) {
    return REAL(pwritev2)(fd, v, count, offset, flags & ~(RWF_DSYNC | RWF_SYNC));
}
