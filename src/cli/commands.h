/* The subcommands of the one binary. Each lives in a file of its own, cmd_<name>.c, that defines its row of the table;
 * main.c finds the row, answers --help, and returns what `run` returns as the exit status of the process. */
#ifndef OXBOW_CLI_COMMANDS_H
#define OXBOW_CLI_COMMANDS_H

#define EXIT_DONE 0
#define EXIT_FAILED 1    /* it was tried and did not work; a line on stderr says why */
#define EXIT_USAGE 2     /* the command line or the configuration is wrong */
#define EXIT_NO_READER 3 /* inside only: whoever read standard output has closed it; main ends quietly with 0 */

struct command {
    const char *name;
    const char *summary; /* one line, for `oxbow help` */
    const char *help;    /* for `oxbow help NAME`: usage line, what it does, options; ends with a newline */
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name */
};

extern const struct command command_serve;
extern const struct command command_config;
extern const struct command command_version;
extern const struct command command_sim;
extern const struct command command_wal;
extern const struct command command_ledger;
extern const struct command command_object;
extern const struct command command_topic;
extern const struct command command_group;
extern const struct command command_produce;
extern const struct command command_consume;
extern const struct command command_bench;
extern const struct command command_cost;

#endif
