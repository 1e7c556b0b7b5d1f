/* Memory on large pages, straight from the system (mem_pages). Where there are none it is as good as any other.
 *
 * What is let go of is kept for who wants memory next: the kernel clears pages before it gives them out, and on a virtual
 * machine, whose host takes back what its guest has had free for two seconds (free page reporting), they are found anew by
 * faults of the host. There 1.1 to 2.2 seconds of a processor were seen for a GB, and 0.1 where it had just been freed; a
 * large page is some milliseconds in which that processor does nothing else.
 *
 * Kept are ranges of whole large pages, by address; neighbours become one, and who wants less takes a part. (What merging
 * reads is of another size each time: kept by sizes it was never found again.) As with what the C library keeps, it is
 * harmless until the process has more than it was allowed (linux_trim.c), and it is never more than a quarter of that. */
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"

static size_t rounded(size_t size) {
    return (size + MEM_LARGE_PAGE - 1) & ~(MEM_LARGE_PAGE - 1);
}

/* Only what is whole: who has a little more than some large pages does not get one more for that. */
static void advise(char *p, size_t size) {
    (void)madvise(p, size & ~(MEM_LARGE_PAGE - 1), MADV_HUGEPAGE);
}

static char *pages_new(size_t size) {
    /* One page more is asked for, and what lies beside the aligned ones goes back. */
    char *p = mmap(NULL, size + MEM_LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t lead = (size_t)(-(uintptr_t)p % MEM_LARGE_PAGE);
    if (lead > 0) (void)munmap(p, lead);
    if (lead < MEM_LARGE_PAGE) (void)munmap(p + lead + size, MEM_LARGE_PAGE - lead);
    return p + lead;
}

/* ---- What is kept, under the lock. ---- */

static void kept_resized(struct linux_pages *k, uint64_t more, uint64_t less) {
    k->bytes += more - less;
    metric_set(&CONTAINER_OF(k, struct linux_env, pages)->metrics, M_MEMORY_KEPT_BYTES, (int64_t)k->bytes);
}

static void kept_remove(struct linux_pages *k, unsigned i) {
    k->count--;
    memmove(&k->kept[i], &k->kept[i + 1], (k->count - i) * sizeof(k->kept[0]));
}

/* A part of the smallest range that has as much, or NULL. */
static char *kept_take(struct linux_pages *k, size_t size) {
    struct pages_range *best = NULL;
    for (unsigned i = 0; i < k->count; i++) {
        struct pages_range *x = &k->kept[i];
        if (x->size >= size && (!best || x->size < best->size)) best = x;
    }
    if (!best) return NULL;
    char *p = best->p;
    best->p += size;
    best->size -= size;
    if (best->size == 0) kept_remove(k, (unsigned)(best - k->kept));
    kept_resized(k, 0, size);
    return p;
}

/* Joins it to its neighbours. False: there is no room for one more range. */
static bool kept_put(struct linux_pages *k, struct pages_range x) {
    unsigned i = 0;
    while (i < k->count && k->kept[i].p < x.p) i++;
    bool before = i > 0 && k->kept[i - 1].p + k->kept[i - 1].size == x.p;
    bool behind = i < k->count && x.p + x.size == k->kept[i].p;
    if (!before && !behind && k->count == PAGES_KEPT_MAX) return false;
    if (before) {
        k->kept[i - 1].size += x.size + (behind ? k->kept[i].size : 0);
        if (behind) kept_remove(k, i);
    } else if (behind) {
        k->kept[i] = (struct pages_range){x.p, x.size + k->kept[i].size};
    } else {
        memmove(&k->kept[i + 1], &k->kept[i], (k->count - i) * sizeof(k->kept[0]));
        k->kept[i] = x;
        k->count++;
    }
    kept_resized(k, x.size, 0);
    return true;
}

/* ---- */

void *linux_pages_map(struct mem *m, size_t size) {
    struct linux_pages *k = &CONTAINER_OF(m, struct linux_env, mem)->pages;
    size_t whole = rounded(size);
    pthread_mutex_lock(&k->lock);
    char *p = kept_take(k, whole);
    pthread_mutex_unlock(&k->lock);
    if (!p) p = pages_new(whole);
    if (!p) {
        pages_give_back(k);
        p = pages_new(whole);
    }
    if (p) advise(p, size);
    return p;
}

void linux_pages_unmap(struct mem *m, void *p, size_t size) {
    struct linux_pages *k = &CONTAINER_OF(m, struct linux_env, mem)->pages;
    struct pages_range x = {p, rounded(size)};
    pthread_mutex_lock(&k->lock);
    bool kept = k->bytes + x.size <= k->most_bytes && kept_put(k, x);
    pthread_mutex_unlock(&k->lock);
    if (!kept) (void)munmap(x.p, x.size);
}

void pages_give_back(struct linux_pages *k) {
    struct pages_range gone[PAGES_KEPT_MAX];
    pthread_mutex_lock(&k->lock);
    unsigned count = k->count;
    memcpy(gone, k->kept, count * sizeof(gone[0]));
    k->count = 0;
    kept_resized(k, 0, k->bytes);
    pthread_mutex_unlock(&k->lock);
    for (unsigned i = 0; i < count; i++) (void)munmap(gone[i].p, gone[i].size);
}

void pages_init(struct linux_pages *k) {
    *k = (struct linux_pages){0};
    ASSERT(pthread_mutex_init(&k->lock, NULL) == 0);
}

void pages_deinit(struct linux_pages *k) {
    pages_give_back(k);
    pthread_mutex_destroy(&k->lock);
}
