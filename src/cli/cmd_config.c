/* `oxbow config`: every property with its type, limits, default and value; as a properties file, or as the
 * documentation. */
#include <stdbool.h>
#include <stdio.h>

#include "base/assert.h"
#include "broker/compatibility.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/settings.h"

static int config_run(int argc, char **argv) {
    static const struct option_spec specs[] = {SETTINGS_OPTIONS, {0, "markdown", NULL}, {0, "compatibility", NULL}};
    struct options o;
    struct settings s = {0};
    bool markdown = false, compatibility = false;
    options_init(&o, argc, argv, specs, ARRAY_LEN(specs));
    for (int i; (i = options_next(&o)) != OPTIONS_END;) {
        if (i == OPTIONS_ERROR) return EXIT_USAGE;
        if (i == OPTIONS_ARGUMENT) return options_refuse(&o, "only options");
        if (i == SETTINGS_OPTION_COUNT) {
            markdown = true;
        } else if (i == SETTINGS_OPTION_COUNT + 1) {
            compatibility = true;
        } else if (settings_take(&s, i, o.value) != EXIT_DONE) {
            return EXIT_USAGE;
        }
    }
    struct mem m;
    mem_init_heap(&m);
    struct config c;
    int status = settings_load(&s, argv[0], &c, &m);
    if (status != EXIT_DONE) return status;
    struct buf out;
    buf_init(&out, &m);
    if (compatibility) {
        compatibility_print_markdown(&out);
    } else if (markdown) {
        config_print_markdown(&out, &m);
    } else {
        config_print(&c, &out);
    }
    fwrite(out.data, 1, out.size, stdout);
    buf_deinit(&out);
    config_deinit(&c);
    return EXIT_DONE;
}

const struct command command_config = {
    "config",
    "prints every property with its meaning, limits, default and value",
    "usage: oxbow config [-c FILE] [--set key=value]... [--markdown | --compatibility]\n\n"
    "Prints every property with its meaning, type, limits, default and current value, as a properties\n"
    "file that `oxbow serve -c` takes. Checks the configuration on the way.\n\n" SETTINGS_HELP
    "      --markdown        prints docs/configuration.md instead\n"
    "      --compatibility   prints docs/compatibility.md instead\n",
    config_run,
};
