/* `oxbow version`: the release and, where it was built from a repository, the commit. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/version.h"

static int version_run(int argc, char **argv) {
    struct options o;
    options_init(&o, argc, argv, NULL, 0);
    int i = options_next(&o);
    if (i == OPTIONS_ERROR) return EXIT_USAGE;
    if (i != OPTIONS_END) return options_refuse(&o, "nothing behind 'version'");
    printf("oxbow %s%s%s%s\n", OXBOW_VERSION, OXBOW_COMMIT[0] ? " (" : "", OXBOW_COMMIT, OXBOW_COMMIT[0] ? ")" : "");
    return EXIT_DONE;
}

const struct command command_version = {
    "version",
    "prints the version",
    "usage: oxbow version\n\nPrints the version and, where it is known, the commit that this binary was built from.\n",
    version_run,
};
