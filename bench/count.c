/* Counts the allocations of the process it is preloaded into (LD_PRELOAD): calls, and bytes asked for. The counters lie
 * in the file that OXBOW_BENCH_COUNTS names (four uint64, shared), so that the bench can read them at any moment. The
 * calls go on to glibc. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *p);

struct counts {
    _Atomic uint64_t allocations, bytes, frees, large; /* large: 64 KiB and more */
};
static struct counts before_start;
static struct counts *counts = &before_start;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("OXBOW_BENCH_COUNTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *p = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED) counts = p;
}

static void count(size_t size) {
    atomic_fetch_add_explicit(&counts->allocations, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counts->bytes, size, memory_order_relaxed);
    if (size >= 65536) atomic_fetch_add_explicit(&counts->large, 1, memory_order_relaxed);
}

void *malloc(size_t size) {
    count(size);
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    count(n * size);
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t size) {
    count(size);
    return __libc_realloc(p, size);
}
int posix_memalign(void **out, size_t alignment, size_t size) {
    count(size);
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : ENOMEM;
}
void free(void *p) {
    if (p) atomic_fetch_add_explicit(&counts->frees, 1, memory_order_relaxed);
    __libc_free(p);
}
