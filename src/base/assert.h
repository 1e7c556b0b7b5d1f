/* Assertions that stay on. A confused broker must halt rather than guess: a failed assertion ends the process.
 * Bytes from network, disk or store are never asserted; they are checked and answered with an `enum err`. */
#ifndef OXBOW_BASE_ASSERT_H
#define OXBOW_BASE_ASSERT_H

#include <stddef.h>

#define OX_LIKELY(c) __builtin_expect(!!(c), 1)
#define OX_UNLIKELY(c) __builtin_expect(!!(c), 0)

/* Prints one line to stderr and aborts. */
_Noreturn void assert_failed(const char *expression, const char *file, int line, const char *function);

#define ASSERT(c) (OX_LIKELY(c) ? (void)0 : assert_failed(#c, __FILE__, __LINE__, __func__))
#define UNREACHABLE() assert_failed("unreachable", __FILE__, __LINE__, __func__)

/* DCHECK is for checks that cost more than the work they guard: only in builds with OXBOW_DCHECK (tests, simulator). */
#ifdef OXBOW_DCHECK
#define DCHECK(c) ASSERT(c)
#else
#define DCHECK(c) ((void)sizeof(!!(c)))
#endif

/* Typed objects: the first member is `unsigned magic`. CHECK_OBJ on entry of functions that take one. */
#define INIT_OBJ(p, m) ((p)->magic = (m))
#define CHECK_OBJ(p, m) ASSERT((p) != NULL && (p)->magic == (m))
/* Moves ownership: reads the pointer at *pp, checks it, leaves NULL behind. */
#define TAKE_OBJ(to, pp, m)                                                                                            \
    do {                                                                                                               \
        (to) = *(pp);                                                                                                  \
        *(pp) = NULL;                                                                                                  \
        CHECK_OBJ(to, m);                                                                                              \
    } while (0)

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
