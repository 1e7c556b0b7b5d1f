/* Options of a subcommand: --name, --name value, --name=value, -n, -n value, -nvalue; "--" ends them. Arguments that
 * are no options may stand anywhere. An unknown option's message names the nearest one.
 *
 *   static const struct option_spec specs[] = {{'c', "config", "FILE"}, {0, "markdown", NULL}};
 *   struct options o;
 *   options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
 *   for (int i; (i = options_next(&o)) != OPTIONS_END;) switch (i) { case 0: file = o.value; ... case OPTIONS_ERROR:
 * return EXIT_USAGE; } */
#ifndef OXBOW_CLI_OPTIONS_H
#define OXBOW_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct option_spec {
    char letter;            /* 0: none */
    const char *name;       /* without the dashes */
    const char *value_name; /* NULL: a flag */
};

enum { OPTIONS_END = -1, OPTIONS_ARGUMENT = -2, OPTIONS_ERROR = -3 };

struct options {
    int argc, index;
    char **argv; /* argv[0] is the subcommand, for messages */
    const struct option_spec *specs;
    size_t count;
    bool ended;        /* after "--" */
    const char *value; /* of the option or argument returned last; borrowed from argv; NULL for a flag */
};
void options_init(struct options *o, int argc, char **argv, const struct option_spec *specs, size_t count);
/* The index in specs, or one of OPTIONS_*; for OPTIONS_ERROR a line has been written to stderr. */
int options_next(struct options *o);
/* For an argument where none belongs, or a value that makes no sense: writes the line and returns EXIT_USAGE. */
int options_refuse(const struct options *o, const char *expected);

/* Whole decimal numbers for option values: false unless the whole text is one, within the limits. */
bool options_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out);

#endif
