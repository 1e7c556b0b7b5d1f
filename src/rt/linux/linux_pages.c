/* Memory on large pages, straight from the system (mem_pages). Where there are none it is as good as any other.
 *
 * What is let go of is kept for who wants as much next: the kernel clears pages before it gives them out, and on a virtual
 * machine, whose host takes back what its guest has had free for two seconds (free page reporting), they are found anew by
 * faults of the host. There 1.1 to 2.2 seconds of a processor were seen for a GB, and 0.1 where it had just been freed.
 * As with what the C library keeps, it is harmless until the process has more than it was allowed (linux_trim.c), and it
 * is never more than a quarter of that. */
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"

#define SMALL_PAGE ((size_t)4096)

/* Sizes in steps of an eighth, so that what is of about the same size fits the next. */
static size_t rounded(size_t size) {
    size_t step = SMALL_PAGE;
    while (step * 16 <= size) step *= 2;
    return (size + step - 1) & ~(step - 1);
}

static void *pages_new(size_t size) {
    /* One page more is asked for, and what lies beside the aligned ones goes back. */
    char *p = mmap(NULL, size + MEM_LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t lead = (size_t)(-(uintptr_t)p % MEM_LARGE_PAGE);
    if (lead > 0) (void)munmap(p, lead);
    if (lead < MEM_LARGE_PAGE) (void)munmap(p + lead + size, MEM_LARGE_PAGE - lead);
    (void)madvise(p + lead, size & ~(MEM_LARGE_PAGE - 1), MADV_HUGEPAGE);
    return p + lead;
}

static struct pages_kept kept_take(struct linux_pages *k, unsigned i) {
    struct pages_kept x = k->kept[i];
    k->count--;
    k->bytes -= x.size;
    memmove(&k->kept[i], &k->kept[i + 1], (k->count - i) * sizeof(x));
    return x;
}

void *linux_pages_map(struct mem *m, size_t size) {
    struct linux_pages *k = &CONTAINER_OF(m, struct linux_env, mem)->pages;
    void *p = NULL;
    size = rounded(size);
    pthread_mutex_lock(&k->lock);
    for (unsigned i = 0; i < k->count && !p; i++) {
        if (k->kept[i].size == size) p = kept_take(k, i).p;
    }
    pthread_mutex_unlock(&k->lock);
    if (p) return p;
    p = pages_new(size);
    if (p) return p;
    pages_give_back(k);
    return pages_new(size);
}

void linux_pages_unmap(struct mem *m, void *p, size_t size) {
    struct linux_pages *k = &CONTAINER_OF(m, struct linux_env, mem)->pages;
    struct pages_kept gone[PAGES_KEPT_MAX + 1];
    unsigned count = 0;
    size = rounded(size);
    pthread_mutex_lock(&k->lock);
    bool keep = size <= k->most_bytes;
    while (keep && (k->count == PAGES_KEPT_MAX || k->bytes + size > k->most_bytes))
        gone[count++] = kept_take(k, k->count - 1);
    if (keep) {
        memmove(&k->kept[1], &k->kept[0], k->count * sizeof(k->kept[0]));
        k->kept[0] = (struct pages_kept){p, size};
        k->count++;
        k->bytes += size;
    } else {
        gone[count++] = (struct pages_kept){p, size};
    }
    pthread_mutex_unlock(&k->lock);
    for (unsigned i = 0; i < count; i++) (void)munmap(gone[i].p, gone[i].size);
}

void pages_give_back(struct linux_pages *k) {
    struct pages_kept gone[PAGES_KEPT_MAX];
    pthread_mutex_lock(&k->lock);
    unsigned count = k->count;
    memcpy(gone, k->kept, count * sizeof(gone[0]));
    k->count = 0;
    k->bytes = 0;
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
