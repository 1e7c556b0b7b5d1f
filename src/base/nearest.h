/* The nearest of several names to one that was mistyped: for messages about unknown properties, subcommands and
 * options. */
#ifndef OXBOW_BASE_NEAREST_H
#define OXBOW_BASE_NEAREST_H

#include <stddef.h>

/* Insertions, deletions, replacements and swaps of neighbours that lead from a to b, without regard to case. Only the
 * first 96 bytes of each are looked at. */
size_t edit_distance(const char *a, const char *b);

/* Offer the candidates one by one; the first of the equally near ones wins. All strings are borrowed. */
struct nearest {
    const char *wanted;
    const char *best; /* NULL before the first candidate */
    size_t distance;  /* of best */
};
void nearest_init(struct nearest *n, const char *wanted);
void nearest_try(struct nearest *n, const char *candidate);
/* best, if it is near enough to be what was meant; else NULL. */
const char *nearest_plausible(const struct nearest *n);

#endif
