/* `-c FILE` and `--set key=value`, for every subcommand that has a configuration. */
#ifndef OXBOW_CLI_SETTINGS_H
#define OXBOW_CLI_SETTINGS_H

#include "broker/config.h"

#define SETTINGS_MAX 256u

struct settings {
    const char *file; /* NULL: none */
    const char *sets[SETTINGS_MAX];
    size_t count;
};

/* Rows of an option table and what to do with them: OPTION_CONFIG and OPTION_SET are their indexes in it. */
#define SETTINGS_OPTIONS                                                                                               \
    {'c', "config", "FILE"}, {                                                                                         \
        0, "set", "key=value"                                                                                          \
    }
enum { OPTION_CONFIG, OPTION_SET, SETTINGS_OPTION_COUNT };
#define SETTINGS_HELP                                                                                                  \
    "  -c, --config FILE     properties in the format of Kafka's server.properties; '-' reads standard input\n"        \
    "      --set key=value   sets one property, after the file; may be repeated\n"

/* Remembers the value of option OPTION_CONFIG or OPTION_SET; EXIT_DONE, or EXIT_USAGE with a line on stderr. */
int settings_take(struct settings *s, int option, const char *value);
/* Initialises c: defaults, the file, the settings, the check. Warnings go to stderr. EXIT_DONE, or else EXIT_USAGE or
 * EXIT_FAILED (the file cannot be read) with a line on stderr, and c needs no deinit. */
int settings_load(const struct settings *s, const char *command, struct config *c, struct mem *m);

#endif
