/* What clients asked for and were told, and what was done to brokers: a line for each event, in the order in which they
 * happened. A note has a subject, which is what it is about (a partition, a group, a key of a store), or
 * SIM_SUBJECT_ALL when it concerns everything (a crash, a cut, a start). When a promise about a subject is broken, the
 * notes of that subject and those of everything are the shortest history that shows it.
 *
 * Notes are traced, so they are part of the hash. They live in the world's heap until it ends; the oldest are dropped
 * beyond SIM_HISTORY_NOTES. */
#ifndef OXBOW_SIM_HISTORY_H
#define OXBOW_SIM_HISTORY_H

#include "sim/world.h"

#define SIM_SUBJECT_ALL 0u
#define SIM_SUBJECT_FAULTS 1u /* of everything too, but the first to be left out when there is too much */
#define SIM_HISTORY_NOTES 65536u

/* The subject of that name, e.g. sim_subject("t", 3): partition 3 of topic t. Never one of those above. */
uint64_t sim_subject(const char *name, int64_t index);
/* n: whose doing it is; NULL: the world's. The text is deterministic, below 400 bytes, without \n. */
void sim_note(struct sim_world *w, const struct sim_node *n, uint64_t subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* sim_fail about a subject. */
void sim_fail_about(struct sim_world *w, uint64_t subject, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* At most `max` notes that concern the subject of the failure (or everything, when it has none), oldest first, one call
 * a line without \n. When there are more, those of faults are left out unless they are few, as after shrinking, and of
 * the others the earliest. Returns how many were left out. */
size_t sim_history_show(const struct sim_world *w, size_t max, void (*line)(void *ctx, const char *text), void *ctx);
/* For world.c. */
void sim_history_drop(struct sim_world *w);

#endif
