#include "cli/verbs.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/nearest.h"
#include "cli/commands.h"

static int unknown_verb(const struct verbs *v, const struct options *o, const char *name) {
    struct nearest n;
    nearest_init(&n, name);
    for (size_t i = 0; i < v->count; i++) nearest_try(&n, v->items[i].name);
    fprintf(stderr, "oxbow %s: unknown verb '%s'; ", o->argv[0], name);
    fprintf(stderr, nearest_plausible(&n) ? "did you mean '%s'?\n" : "the nearest one is '%s'\n", n.best);
    return EXIT_USAGE;
}

int verbs_take(struct verbs *v, struct options *o, int i) {
    if (i == OPTIONS_ERROR) return EXIT_USAGE;
    if (i >= 0) {
        ASSERT(i < 32);
        v->seen |= 1u << i;
        return EXIT_DONE;
    }
    if (!v->chosen) {
        for (size_t k = 0; k < v->count; k++) {
            if (strcmp(v->items[k].name, o->value) == 0) v->chosen = &v->items[k];
        }
        return v->chosen ? EXIT_DONE : unknown_verb(v, o, o->value);
    }
    if (v->argument_count == VERB_ARGUMENTS_MAX) return options_refuse(o, "fewer arguments");
    v->arguments[v->argument_count++] = o->value;
    return EXIT_DONE;
}

int verbs_check(const struct verbs *v, const struct options *o) {
    const char *command = o->argv[0];
    if (!v->chosen) {
        fprintf(stderr, "oxbow %s: expected one of", command);
        for (size_t i = 0; i < v->count; i++) fprintf(stderr, "%s %s", i ? "," : "", v->items[i].name);
        fprintf(stderr, " ('oxbow help %s' tells more)\n", command);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < o->count; i++) {
        if (!(v->seen & ~v->chosen->options & (1u << i))) continue;
        fprintf(stderr, "oxbow %s %s: --%s does not belong here ('oxbow help %s' tells more)\n", command,
                v->chosen->name, o->specs[i].name, command);
        return EXIT_USAGE;
    }
    if (v->argument_count >= v->chosen->least && v->argument_count <= v->chosen->most) return EXIT_DONE;
    fprintf(stderr, "oxbow %s %s: expected %s, found %zu argument%s ('oxbow help %s' tells more)\n", command,
            v->chosen->name, v->chosen->expected, v->argument_count, v->argument_count == 1 ? "" : "s", command);
    return EXIT_USAGE;
}
