/* The one binary: `oxbow SUBCOMMAND ...`. This file only finds the subcommand and gives help; see commands.h. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/nearest.h"
#include "cli/commands.h"

static const struct command *const commands[] = {
    &command_serve,
    &command_config,
    &command_topic,
    &command_group,
    &command_produce,
    &command_consume,
    &command_bench,
    &command_cost,
    &command_wal,
    &command_ledger,
    &command_object,
    &command_sim,
    &command_version,
};

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    }
    return NULL;
}

static void print_overview(FILE *to) {
    fputs("usage: oxbow SUBCOMMAND [OPTION]...\n\n"
          "A Kafka-compatible streaming broker that keeps its data in an object store.\n\n"
          "Subcommands:\n",
          to);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    fputs("  help       this text, or with the name of a subcommand its help\n\n"
          "Exit status: 0 done, 1 failed, 2 wrong usage or configuration.\n",
          to);
}

static int unknown_command(const char *name) {
    struct nearest n;
    nearest_init(&n, name);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) nearest_try(&n, commands[i]->name);
    nearest_try(&n, "help");
    fprintf(stderr, "oxbow: unknown %s '%s'; ", name[0] == '-' ? "option" : "subcommand", name);
    if (nearest_plausible(&n)) {
        fprintf(stderr, "did you mean '%s'?\n", n.best);
    } else {
        fprintf(stderr, "the nearest one is '%s' ('oxbow help' lists all)\n", n.best);
    }
    return EXIT_USAGE;
}

static bool is_help(const char *argument) {
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

/* What was printed must have arrived: a full disk behind stdout is a failure. */
static int finish(int status) {
    if (status == EXIT_NO_READER) return EXIT_DONE;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (status == EXIT_DONE) fputs("oxbow: cannot write to standard output\n", stderr);
        return status == EXIT_DONE ? EXIT_FAILED : status;
    }
    return status;
}

static int help_command(int argc, char **argv) {
    if (argc <= 1) {
        print_overview(stdout);
        return EXIT_DONE;
    }
    if (argc > 2) {
        fprintf(stderr, "oxbow help: expected one subcommand, found '%s' too\n", argv[2]);
        return EXIT_USAGE;
    }
    const struct command *c = find_command(argv[1]);
    if (!c) return strcmp(argv[1], "help") == 0 || is_help(argv[1]) ? help_command(1, argv) : unknown_command(argv[1]);
    fputs(c->help, stdout);
    return EXIT_DONE;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) return finish(help_command(argc - 1, argv + 1));
    const struct command *c = find_command(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (!c) return unknown_command(argv[1]);
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!is_help(argv[i])) continue;
        fputs(c->help, stdout);
        return finish(EXIT_DONE);
    }
    return finish(c->run(argc - 1, argv + 1));
}
