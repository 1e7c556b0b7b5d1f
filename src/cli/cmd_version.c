/* `oxbow version`: the release and, where it was built from a repository, the commit; and which stored formats it knows. */
#include <stdio.h>

#include "base/assert.h"
#include "base/format.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/version.h"

static const struct option_spec specs[] = {{0, "formats", NULL}};

static int version_run(int argc, char **argv) {
    struct options o;
    bool formats = false;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i != 0) return options_refuse(&o, "nothing behind 'version' but --formats");
        formats = true;
    }
    if (formats) {
        for (unsigned f = 0; f < FORMAT_COUNT; f++) {
            const struct format_info *info = format_info((enum format)f);
            printf("%-20s reads %u to %u, writes up to %u: %s\n", info->id, info->oldest, info->newest, info->newest,
                   info->text);
        }
        return EXIT_DONE;
    }
    printf("oxbow %s%s%s%s\n", OXBOW_VERSION, OXBOW_COMMIT[0] ? " (" : "", OXBOW_COMMIT, OXBOW_COMMIT[0] ? ")" : "");
    return EXIT_DONE;
}

const struct command command_version = {
    "version",
    "prints the version",
    "usage: oxbow version [--formats]\n\nPrints the version and, where it is known, the commit that this binary was built "
    "from.\n\n"
    "  --formats   prints the formats of what is stored, and which versions of each this binary knows\n",
    version_run,
};
