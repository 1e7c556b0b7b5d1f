/* Worker threads. A task lies on the stack of the fiber that waits for it; its end comes back as mail. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "rt/fiber_priv.h"
#include "rt/linux/linux_priv.h"
#include "rt/sanitizer.h"

#define THREAD_STACK_BYTES ((size_t)1024 * 1024)

int thread_start(pthread_t *out, const char *name, void *(*main_fn)(void *), void *arg) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attributes;
    int rc = pthread_attr_init(&attributes);
    if (rc != 0) return rc;
    if (!OXBOW_ASAN && !OXBOW_TSAN) (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(out, &attributes, main_fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (rc == 0) {
        char short_name[16]; /* the kernel's limit */
        snprintf(short_name, sizeof(short_name), "%.15s", name);
        (void)pthread_setname_np(*out, short_name);
    }
    return rc;
}

static void task_done(struct mail *m) {
    fiber_resume(CONTAINER_OF(m, struct worker_task, mail)->waiter);
}

static void *worker_main(void *arg) {
    struct worker_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->first && !p->stopping) {
            p->idle++;
            pthread_cond_wait(&p->work, &p->lock);
            p->idle--;
        }
        struct worker_task *t = p->first;
        if (!t) break;
        p->first = t->next;
        if (!p->first) p->last = &p->first;
        p->queued--;
        pthread_mutex_unlock(&p->lock);
        t->fn(t->arg);
        loop_post(t->loop, &t->mail); /* t may be gone from here on */
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void worker_pool_init(struct worker_pool *p, struct mem *m, const char *name, unsigned threads_max) {
    *p = (struct worker_pool){.name = name, .mem = m, .count_max = threads_max};
    p->last = &p->first;
    p->threads = mem_zalloc(m, threads_max * sizeof(*p->threads));
    ASSERT(pthread_mutex_init(&p->lock, NULL) == 0);
    ASSERT(pthread_cond_init(&p->work, NULL) == 0);
}

void worker_pool_run(struct worker_pool *p, fiber_fn *fn, void *arg) {
    struct fiber *self = fiber_self();
    ASSERT(self);
    struct worker_task t = {.fn = fn, .arg = arg, .loop = loop_current(), .waiter = self, .mail = {NULL, task_done}};
    pthread_mutex_lock(&p->lock);
    ASSERT(!p->stopping);
    *p->last = &t;
    p->last = &t.next;
    p->queued++;
    if (p->queued > p->idle && p->count < p->count_max) {
        int rc = thread_start(&p->threads[p->count], p->name, worker_main, p);
        ASSERT(rc == 0 || p->count > 0); /* with one worker everything gets done, later */
        if (rc == 0) p->count++;
    }
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    fiber_suspend();
}

void worker_pool_deinit(struct worker_pool *p) {
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->count; i++) pthread_join(p->threads[i], NULL);
    mem_free(p->mem, p->threads);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
}
