/* Memory on large pages, straight from the system (mem_pages). Where there are none it is as good as any other. */
#include <sys/mman.h>

#include "rt/linux/linux_priv.h"

void *linux_pages_map(size_t size) {
    /* One page more is asked for, and what lies beside the aligned ones goes back. */
    char *p = mmap(NULL, size + MEM_LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t lead = (size_t)(-(uintptr_t)p % MEM_LARGE_PAGE);
    if (lead > 0) (void)munmap(p, lead);
    if (lead < MEM_LARGE_PAGE) (void)munmap(p + lead + size, MEM_LARGE_PAGE - lead);
    (void)madvise(p + lead, size, MADV_HUGEPAGE);
    return p + lead;
}

void linux_pages_unmap(void *p, size_t size) {
    (void)munmap(p, size);
}
