// SPDX-License-Identifier: MIT
//
// cli - how the commands of the one binary are made
//
// A command is a row: its words, its options, what it takes and a function that returns the exit
// code. The parser knows nothing else, so whatever the row does not allow is a usage error (64) and
// prints how it is meant. Data goes to standard output, everything else to standard error; with
// --json a command prints one object, a list one object a line. To add a command: a row in a file
// cmd_NAME.c, a line in cli_commands.h and one in cli_commands.c.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "conf/conf.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_USAGE = 64,       // the command line
    CLI_DATA = 65,        // what was given, or what is there, does not do
    CLI_NOT_FOUND = 66,   // no such thing
    CLI_NOT_RUNNING = 69, // needs a running service
    CLI_TEMPORARY = 75,   // may work later
    CLI_PERMISSION = 77,
    CLI_CONFIG = 78,
    CLI_INTERRUPTED = 130, // by ^C or SIGTERM, at a safe place
};

#define CLI_OPTIONS_MAX 24   // of one command, the common ones included
#define CLI_ARGUMENTS_MAX 16 // of one command line

struct cli_option {
    const char *name;  // "class", without the dashes; NULL ends a list
    const char *value; // "CLASS" for people; NULL: a flag
    const char *help;
    bool repeated; // may be given more than once (cli_values)
    const char *const
        *words; // where the value is one of few: these, ended by NULL; for manual and completion
};

struct cli;
struct cli_command {
    const char *name;                 // "account add"
    const char *arguments;            // "NAME [FILE]" for people, or NULL
    const char *help;                 // one line, no final dot
    const char *more;                 // further help, or NULL; lines end in \n
    const struct cli_option *options; // or NULL
    int arguments_min, arguments_max;
    // Words that may stand as an argument, for completion: with `before` NULL those that others follow, else what may
    // follow that one, separated by spaces; NULL: it takes no such words.
    void (*argument_words)(const char *before, struct buf *out);
    bool no_config; // takes no --config
    bool no_json;   // takes no --json: what it prints has a form of its own, or it prints nothing
    int (*run)(struct cli *cli); // returns an enum cli_exit
    // Instead of run: parses its options by itself, and knows of the common ones only --help, which does not get
    // there; argv[0] is the command's name.
    int (*run_itself)(int argc, char **argv);
};

// One run of a command.
struct cli {
    const struct cli_command *command;
    struct arena arena; // lives as long as the run
    bool json;
    const char *config; // the file, from --config or $POSTHASTE_CONFIG or where it usually is;
                        // NULL: the default
    struct conf *conf;  // once cli_conf() has read it
    int arguments_count;
    const char *arguments[CLI_ARGUMENTS_MAX];
    int given_count;
    struct {
        const struct cli_option *option;
        const char *value; // NULL: a flag
    } given[CLI_ARGUMENTS_MAX];
};

// ---- what a command asks -----------------------------------------------------------------------------

// The value of an option, or NULL.
const char *cli_value(const struct cli *cli, const char *option);
// The n-th value of a repeated option, from 0, or NULL.
const char *cli_values(const struct cli *cli, const char *option, int n);
bool cli_flag(const struct cli *cli, const char *option);
struct bytes cli_argument(const struct cli *cli, int n); // empty if not given
// The configuration, read once; where no file was found standard error tells of the embedded default.
// On failure its errors are on standard error and NULL comes back: return CLI_CONFIG.
const struct conf *cli_conf(struct cli *cli);

// ---- what a command says -----------------------------------------------------------------------------

// "posthaste: TEXT" on standard error; returns `exit`.
int cli_fail(int exit, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The same with how the command is used; returns CLI_USAGE.
int cli_fail_usage(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// One line of JSON on standard output.
struct json_object;
void cli_print_json(struct json_object *object);
// What an error of a store operation, or of a file, means as an exit code.
int cli_exit_of(int err);

// ---- running -----------------------------------------------------------------------------------------

// Finds the command among the words, parses and runs it; returns the process's exit code.
int cli_main(int argc, char **argv);
// Parses the words behind the command's name. Returns 0, or CLI_USAGE with a sentence in `error`;
// the flag `help` of the result says that --help was asked for.
int cli_parse(struct cli *cli, int argc, char **argv, bool *out_help, struct buf *error);
// The command whose name the first words are, the longest; out_words says how many. NULL: none.
const struct cli_command *cli_find(int argc, char **argv, int *out_words);

// What an exit code means, for help and manual; ended by a NULL text.
struct cli_exit_row {
    enum cli_exit code;
    const char *means;
};
extern const struct cli_exit_row cli_exits[];

#define CLI_WHAT "a mail relay that keeps mail safe and explains itself"
#define CLI_USUAL_CONFIG "/etc/posthaste/posthaste.yaml"

// The options of every command that is not told to have fewer; has one, `option` of `command`?
extern const struct cli_option cli_common_options[];
bool cli_has_common(const struct cli_command *command, const struct cli_option *option);

// `posthaste --help`, `posthaste help COMMAND`, a group's commands ("account").
void cli_help_all(struct buf *out);
void cli_help_command(const struct cli_command *command, struct buf *out);
bool cli_help_group(const char *group, struct buf *out); // false: no such group
