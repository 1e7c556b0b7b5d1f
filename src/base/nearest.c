#include "base/nearest.h"

#include <stdint.h>
#include <string.h>

#include "base/assert.h"

#define LENGTH_MAX 96u

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static size_t min_of(size_t a, size_t b) {
    return a < b ? a : b;
}

size_t edit_distance(const char *a, const char *b) {
    size_t size_a = strnlen(a, LENGTH_MAX), size_b = strnlen(b, LENGTH_MAX);
    /* Three rows of the table of distances between prefixes: the current one and the two above it. */
    size_t rows[3][LENGTH_MAX + 1];
    for (size_t j = 0; j <= size_b; j++) rows[0][j] = j;
    for (size_t i = 1; i <= size_a; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= size_b; j++) {
            char ca = lower(a[i - 1]), cb = lower(b[j - 1]);
            size_t d = above[j - 1] + (ca != cb);
            d = min_of(d, min_of(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && ca == lower(b[j - 2]) && cb == lower(a[i - 2])) d = min_of(d, above2[j - 2] + 1);
            row[j] = d;
        }
    }
    return rows[size_a % 3][size_b];
}

void nearest_init(struct nearest *n, const char *wanted) {
    ASSERT(wanted != NULL);
    *n = (struct nearest){.wanted = wanted, .distance = SIZE_MAX};
}

void nearest_try(struct nearest *n, const char *candidate) {
    ASSERT(n->wanted != NULL);
    size_t d = edit_distance(n->wanted, candidate);
    if (d < n->distance) {
        n->distance = d;
        n->best = candidate;
    }
}

const char *nearest_plausible(const struct nearest *n) {
    size_t size = strnlen(n->wanted, LENGTH_MAX);
    return n->best && n->distance <= 1 + size / 3 ? n->best : NULL;
}
