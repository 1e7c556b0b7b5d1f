/* A mapping of its own for each stack: the guard page below it, the stack above. Neighbours never merge, thus no huge
 * pages, and only touched pages are resident. */
#include "rt/linux/stack.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "rt/sanitizer.h"

#define GUARD_SIZE ((size_t)64 * 1024) /* the largest page size of any machine we run on */
#if OXBOW_ASAN || OXBOW_TSAN
#define STACK_SIZE ((size_t)512 * 1024) /* instrumented frames are several times larger */
#else
#define STACK_SIZE ((size_t)128 * 1024)
#endif

struct fiber_stack stack_map(void) {
    uint8_t *p =
        mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    ASSERT(p != MAP_FAILED);
    ASSERT(mprotect(p + GUARD_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE) == 0);
    struct fiber_stack s = {p + GUARD_SIZE, STACK_SIZE};
#if OXBOW_ASAN
    /* What a suspended fiber alone points to is not leaked. */
    __lsan_register_root_region(s.base, s.size);
#endif
    return s;
}

void stack_unmap(struct fiber_stack s) {
    ASSERT(s.size == STACK_SIZE);
#if OXBOW_ASAN
    __lsan_unregister_root_region(s.base, s.size);
    /* The next mapping here must not inherit the red zones of frames that never returned. */
    __asan_unpoison_memory_region(s.base, s.size);
#endif
    ASSERT(munmap((uint8_t *)s.base - GUARD_SIZE, GUARD_SIZE + s.size) == 0);
}
