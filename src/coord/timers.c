#include "coord/timers.h"

#include "base/assert.h"

void timers_init(struct timers *t, struct mem *mem) {
    *t = (struct timers){.mem = mem};
}

void timers_deinit(struct timers *t) {
    mem_free(t->mem, t->heap);
    *t = (struct timers){0};
}

static void put(struct timers *t, size_t i, struct timer *timer) {
    DCHECK(i < t->count);
    t->heap[i] = timer;
    timer->place = i + 1;
}

static void sift_up(struct timers *t, size_t i, struct timer *timer) {
    while (i > 0 && t->heap[(i - 1) / 2]->due_ms > timer->due_ms) {
        put(t, i, t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(t, i, timer);
}

static void sift_down(struct timers *t, size_t i, struct timer *timer) {
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= t->count) break;
        if (child + 1 < t->count && t->heap[child + 1]->due_ms < t->heap[child]->due_ms) child++;
        if (t->heap[child]->due_ms >= timer->due_ms) break;
        put(t, i, t->heap[child]);
        i = child;
    }
    put(t, i, timer);
}

void timers_arm(struct timers *t, struct timer *timer, int64_t due_ms) {
    if (timer->place != 0) {
        ASSERT(timer->place <= t->count && t->heap[timer->place - 1] == timer);
        bool earlier = due_ms < timer->due_ms;
        timer->due_ms = due_ms;
        if (earlier) {
            sift_up(t, timer->place - 1, timer);
        } else {
            sift_down(t, timer->place - 1, timer);
        }
        return;
    }
    t->heap = mem_grow(t->mem, t->heap, t->count, &t->capacity, sizeof(*t->heap));
    timer->due_ms = due_ms;
    t->count++;
    sift_up(t, t->count - 1, timer);
}

void timers_disarm(struct timers *t, struct timer *timer) {
    if (timer->place == 0) return;
    size_t i = timer->place - 1;
    ASSERT(i < t->count && t->heap[i] == timer);
    struct timer *last = t->heap[--t->count];
    timer->place = 0;
    if (last == timer) return;
    /* The last one takes the free place, from where it may have to go either way. */
    if (i > 0 && t->heap[(i - 1) / 2]->due_ms > last->due_ms) {
        sift_up(t, i, last);
    } else {
        sift_down(t, i, last);
    }
}
