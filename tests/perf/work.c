/* The work whose instructions tests/perf/guard.py counts: `guard_work WORK`, one of those below. Each is the same from run to
 * run: a simulated world without faults, one seed, one thread. */
#include <gnu/libc-version.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "count.h"

/* What decides, beside the code, which instructions run: libraries choose their functions by it. */
static void say_machine(void) {
    (void)printf("machine libc-%s", gnu_get_libc_version());
#define FEATURE(name)                                                                                                  \
    if (__builtin_cpu_supports(name)) (void)printf(" " name)
    FEATURE("sse4.2");
    FEATURE("pclmul");
    FEATURE("avx");
    FEATURE("avx2");
    FEATURE("bmi2");
    FEATURE("fma");
    FEATURE("avx512f");
#undef FEATURE
    (void)printf("\n");
}

int main(int argc, char **argv) {
    const char *work = argc > 1 ? argv[1] : "";
    /* Another seed is another order of events: what a figure owes to that order. */
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    say_machine();
    if (strcmp(work, "codec") == 0)
        work_codec();
    else if (strcmp(work, "log-large") == 0)
        work_log(false, seed);
    else if (strcmp(work, "log-small") == 0)
        work_log(true, seed);
    else if (strcmp(work, "recover-large") == 0)
        work_recover(false, seed);
    else if (strcmp(work, "recover-small") == 0)
        work_recover(true, seed);
    else {
        (void)fprintf(stderr, "usage: guard_work codec|log-large|log-small|recover-large|recover-small [SEED]\n");
        return 2;
    }
    return 0;
}
