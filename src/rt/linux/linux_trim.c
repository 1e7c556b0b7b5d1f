/* Gives memory back that the C library keeps. Its allocator cuts large and small pieces out of the same heaps, and what is
 * freed between others stays with the process: under loads that change, as much as is in use. That is harmless, and spares
 * the kernel's new pages, until the process has more than it was allowed; so only then everything that is free goes back,
 * what linux_pages.c keeps first (malloc_trim for the rest), on a thread of its own, for it can take some tens of milliseconds.
 *
 * Looked at whenever so much has been allocated in large pieces (mem.h): an idle process does not look. */
#include <malloc.h>
#include <time.h>

#include "base/assert.h"
#include "rt/linux/linux_priv.h"

/* With less than this to be had it is not worth it; a 32nd of what is allowed, if that is more. */
#define TRIM_LEAST_BYTES ((uint64_t)8 << 20)
#define TRIM_PAUSE_NS 200000000l
/* From the first time on, what is free at the end of a heap goes back at once above this: malloc_trim cannot reach the
 * ends of all heaps. */
#define TRIM_TOP_BYTES (4 << 20)

/* What there is to be had; 0: not worth it. */
static uint64_t trim_worth(const struct linux_env *e) {
    uint64_t most = e->trim.most_bytes, resident = linux_resident_bytes();
    uint64_t allocated = atomic_load_explicit(&e->mem.allocated_bytes, memory_order_relaxed);
    uint64_t least = most / 32 > TRIM_LEAST_BYTES ? most / 32 : TRIM_LEAST_BYTES;
    if (resident <= most || resident < allocated + least) return 0;
    return resident - allocated;
}

static void *trim_main(void *arg) {
    struct linux_env *e = arg;
    struct linux_trim *t = &e->trim;
    (void)mallopt(M_TRIM_THRESHOLD, TRIM_TOP_BYTES);
    pthread_mutex_lock(&t->lock);
    while (!t->stopping) {
        if (!t->wanted) {
            pthread_cond_wait(&t->work, &t->lock);
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        pages_give_back(&e->pages);
        (void)malloc_trim(0);
        metric_add(&e->metrics, M_MEMORY_TRIMS, 0, 1);
        pthread_mutex_lock(&t->lock);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TRIM_PAUSE_NS;
        until.tv_sec += until.tv_nsec / 1000000000l;
        until.tv_nsec %= 1000000000l;
        while (!t->stopping && pthread_cond_timedwait(&t->work, &t->lock, &until) == 0) {
        }
        t->wanted = false;
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* On any thread, from inside an allocation: nothing is allocated here but, once, a thread. */
static void memory_grown(void *ctx) {
    struct linux_env *e = ctx;
    struct linux_trim *t = &e->trim;
    if (trim_worth(e) == 0) return;
    pthread_mutex_lock(&t->lock);
    if (!t->wanted && !t->stopping) {
        t->wanted = true;
        if (t->started) {
            pthread_cond_signal(&t->work);
        } else {
            t->started = thread_start(&t->thread, "trim", trim_main, e) == 0;
            t->wanted = t->started;
        }
    }
    pthread_mutex_unlock(&t->lock);
}

void trim_init(struct linux_env *e) {
    ASSERT(pthread_mutex_init(&e->trim.lock, NULL) == 0);
    ASSERT(pthread_cond_init(&e->trim.work, NULL) == 0);
}

void linux_env_keep_within(struct env *env, uint64_t bytes) {
    struct linux_env *e = linux_env_of(env);
    e->trim.most_bytes = bytes;
    e->pages.most_bytes = bytes / 4;
    mem_on_growth(&e->mem, memory_grown, e);
}

void trim_deinit(struct linux_env *e) {
    struct linux_trim *t = &e->trim;
    mem_on_growth(&e->mem, NULL, NULL);
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
    if (t->started) pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
}
