/* Subcommands that have verbs: `oxbow topic list`. A verb says which options and how many arguments it takes. */
#ifndef OXBOW_CLI_VERBS_H
#define OXBOW_CLI_VERBS_H

#include "cli/options.h"

#define VERB_ARGUMENTS_MAX 256u

struct verb {
    const char *name;
    unsigned options;     /* bit i: the option specs[i] belongs to it */
    size_t least, most;   /* arguments behind it */
    const char *expected; /* for messages: "NAME" */
};

struct verbs {
    const struct verb *items;
    size_t count;
    const struct verb *chosen; /* NULL before the first argument */
    unsigned seen;             /* options, as bits */
    const char *arguments[VERB_ARGUMENTS_MAX];
    size_t argument_count;
};
/* Takes the next option or argument that options_next has returned (i, o->value); EXIT_DONE, or EXIT_USAGE with a line
 * on stderr. */
int verbs_take(struct verbs *v, struct options *o, int i);
/* After the last one: is there a verb, do the options belong to it, are the arguments as many as it wants? */
int verbs_check(const struct verbs *v, const struct options *o);

#endif
