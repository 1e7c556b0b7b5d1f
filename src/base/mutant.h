/* Deliberate mistakes, for the simulator and tests alone: each is a line or two in the code that it breaks, and shows
 * that the checks around that code would notice. The mistake that an instance is to make lies in its environment
 * (env->mutant, rt/env.h), which every layer has at hand. No configuration reaches it: what makes an environment for a
 * real machine leaves it at MUTANT_NONE, and only simulated worlds set another (`oxbow sim --mutant`, tests).
 *
 * In the code that is broken: `if (mutant_is(env->mutant, MUTANT_NO_FLUSH)) ...`, one compare, never inside a loop over
 * bytes. To add one: a row in mutant_table.h, that line, and a workload that notices it. */
#ifndef OXBOW_BASE_MUTANT_H
#define OXBOW_BASE_MUTANT_H

#include <stdbool.h>

enum mutant {
#define X(id, name, workloads, sentence) MUTANT_##id,
#include "base/mutant_table.h"
#undef X
    MUTANTS
};

static inline bool mutant_is(enum mutant made, enum mutant asked) {
    return __builtin_expect(made == asked, 0);
}

#endif
