#include "sim/history.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "sim/node.h"

#define TEXT_MAX 400u

struct sim_note {
    struct list link;
    uint64_t at_ns, subject;
    char text[];
};

uint64_t sim_subject(const char *name, int64_t index) {
    uint64_t subject = hash64(hash_bytes(name, strlen(name)) + (uint64_t)index);
    return subject <= SIM_SUBJECT_FAULTS ? SIM_SUBJECT_FAULTS + 1 : subject;
}

void sim_note(struct sim_world *w, const struct sim_node *n, uint64_t subject, const char *format, ...) {
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    sim_trace(w, n, "note", text, subject, 0);
    const char *who = n ? n->name : "-";
    size_t size = strlen(who) + strlen(text) + 3;
    struct sim_note *note = mem_alloc(&w->heap, sizeof(*note) + size);
    note->at_ns = w->now_ns;
    note->subject = subject;
    (void)snprintf(note->text, size, "%s: %s", who, text);
    list_push_back(&w->notes, &note->link);
    if (++w->note_count <= SIM_HISTORY_NOTES) return;
    w->note_count--;
    mem_free(&w->heap, LIST_ENTRY(list_pop_front(&w->notes), struct sim_note, link));
}

void sim_fail_about(struct sim_world *w, uint64_t subject, const char *format, ...) {
    char text[sizeof(w->failure)];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (!sim_failed(w)) w->failed_subject = subject;
    sim_fail(w, "%s", text);
}

static bool concerns(const struct sim_world *w, const struct sim_note *note) {
    return w->failed_subject == SIM_SUBJECT_ALL || note->subject <= SIM_SUBJECT_FAULTS ||
           note->subject == w->failed_subject;
}

size_t sim_history_show(const struct sim_world *w, size_t max, void (*line)(void *ctx, const char *text), void *ctx) {
    size_t faults = 0, others = 0, left_out = 0;
    LIST_EACH(it, &w->notes) {
        const struct sim_note *note = LIST_ENTRY(it, struct sim_note, link);
        if (note->subject == SIM_SUBJECT_FAULTS)
            faults++;
        else
            others += concerns(w, note);
    }
    bool all_faults = faults + others <= max || faults <= max / 3;
    size_t room = all_faults ? max - faults : max, skip = others > room ? others - room : 0;
    LIST_EACH(it, &w->notes) {
        const struct sim_note *note = LIST_ENTRY(it, struct sim_note, link);
        if (!concerns(w, note)) continue;
        bool fault = note->subject == SIM_SUBJECT_FAULTS;
        if (fault ? !all_faults : skip > 0) {
            if (!fault) skip--;
            left_out++;
            continue;
        }
        char text[TEXT_MAX + 64];
        (void)snprintf(text, sizeof(text), "t=%llu.%06llu %s", note->at_ns / NS_PER_S,
                       note->at_ns % NS_PER_S / NS_PER_US, note->text);
        line(ctx, text);
    }
    return left_out;
}

void sim_history_drop(struct sim_world *w) {
    LIST_EACH_SAFE(it, &w->notes) {
        struct sim_note *note = LIST_ENTRY(it, struct sim_note, link);
        list_remove(&note->link);
        mem_free(&w->heap, note);
    }
    w->note_count = 0;
}
