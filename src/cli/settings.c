#include "cli/settings.h"

#include <stdio.h>

#include "base/assert.h"
#include "broker/memory.h"
#include "cli/commands.h"
#include "cli/process.h"
#include "rt/linux/linux_env.h"

int settings_take(struct settings *s, int option, const char *value) {
    if (option == OPTION_CONFIG) {
        if (s->file) {
            fprintf(stderr, "oxbow: expected one configuration file, found '%s' and '%s'\n", s->file, value);
            return EXIT_USAGE;
        }
        s->file = value;
        return EXIT_DONE;
    }
    ASSERT(option == OPTION_SET);
    if (s->count == SETTINGS_MAX) {
        fprintf(stderr, "oxbow: expected at most %u times --set; put them into a file\n", SETTINGS_MAX);
        return EXIT_USAGE;
    }
    s->sets[s->count++] = value;
    return EXIT_DONE;
}

static void warn(void *ctx, const char *message) {
    fprintf(stderr, "oxbow %s: warning: %s\n", (const char *)ctx, message);
}

int settings_load(const struct settings *s, const char *command, struct config *c, struct mem *m) {
    char why[CONFIG_WHY_SIZE];
    int status = EXIT_DONE;
    config_init_defaults(c, m);
    c->warn = warn;
    c->warn_ctx = (void *)(uintptr_t)command;
    if (s->file) {
        struct buf text;
        buf_init(&text, m);
        if (process_read_file(s->file, &text, why, sizeof(why)) != OK) {
            status = EXIT_FAILED;
        } else if (config_load(c, text.data ? (const char *)text.data : "", text.size, s->file, why, sizeof(why)) !=
                   OK) {
            status = EXIT_USAGE;
        }
        buf_deinit(&text);
    }
    for (size_t i = 0; i < s->count && status == EXIT_DONE; i++) {
        if (config_set_pair(c, s->sets[i], why, sizeof(why)) != OK) status = EXIT_USAGE;
    }
    if (status == EXIT_DONE && memory_derive(c, linux_memory_bytes(), linux_processors(), why, sizeof(why)) != OK)
        status = EXIT_USAGE;
    if (status == EXIT_DONE && config_check(c, why, sizeof(why)) != OK) status = EXIT_USAGE;
    if (status != EXIT_DONE) {
        fprintf(stderr, "oxbow %s: %s\n", command, why);
        config_deinit(c);
    }
    return status;
}
