// SPDX-License-Identifier: MIT
#include "cli/cli.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "conf/conf_doc.h"

#define WORDS_MAX 3    // of a command's name
#define HELP_COLUMN 36 // of what a command is for, in lists

const struct cli_option cli_common_options[] = {
    {"config", "FILE", "default: $POSTHASTE_CONFIG, else " CLI_USUAL_CONFIG},
    {"json", NULL, "print JSON, an object a line"},
    {"help", NULL, "print this"},
    {NULL},
};

const struct cli_exit_row cli_exits[] = {
    {CLI_OK, "done"},
    {CLI_USAGE, "the command line is wrong"},
    {CLI_DATA, "what was given, or what is there, does not do"},
    {CLI_NOT_FOUND, "there is no such thing"},
    {CLI_NOT_RUNNING, "the service is not running"},
    {CLI_TEMPORARY, "not now: try again later"},
    {CLI_PERMISSION, "no permission"},
    {CLI_CONFIG, "the configuration is wrong"},
    {CLI_INTERRUPTED, "interrupted (^C, SIGTERM), at a safe place"},
    {0, NULL},
};

// ---- finding -----------------------------------------------------------------------------------------

// How many of the words make up the command's name; 0: they are not it.
static int match_name(const struct cli_command *command, int argc, char **argv)
{
    struct bytes name = bytes_cstr(command->name), word;
    int n = 0;
    while (bytes_cut(&name, ' ', &word)) {
        if (n == argc || !bytes_eq(word, bytes_cstr(argv[n])))
            return 0;
        n++;
    }
    return n;
}

const struct cli_command *cli_find(int argc, char **argv, int *out_words)
{
    const struct cli_command *found = NULL;
    *out_words = 0;
    for (int i = 0; i < cli_commands_count; i++) {
        int words = match_name(cli_commands[i], argc, argv);
        if (words > *out_words) {
            *out_words = words;
            found = cli_commands[i];
        }
    }
    return found;
}

// ---- parsing -----------------------------------------------------------------------------------------

static const struct cli_option *find_in(const struct cli_option *options, struct bytes name)
{
    for (; options && options->name; options++)
        if (bytes_eq(bytes_cstr(options->name), name))
            return options;
    return NULL;
}

static const struct cli_option *find_option(const struct cli_command *command, struct bytes name)
{
    const struct cli_option *option = find_in(command->options, name);
    if (!option) {
        option = find_in(cli_common_options, name);
        if (option && !cli_has_common(command, option))
            return NULL;
    }
    return option;
}

bool cli_has_common(const struct cli_command *command, const struct cli_option *option)
{
    struct bytes name = bytes_cstr(option->name);
    if (command->run_itself)
        return bytes_eq(name, BYTES("help"));
    return !(command->no_config && bytes_eq(name, BYTES("config"))) &&
           !(command->no_json && bytes_eq(name, BYTES("json")));
}

static bool is_given(const struct cli *cli, const struct cli_option *option)
{
    for (int i = 0; i < cli->given_count; i++)
        if (cli->given[i].option == option)
            return true;
    return false;
}

// "--name", "--name=value" or "--name value"; moves *i over what it took.
static int take_option(struct cli *cli, int argc, char **argv, int *i, struct buf *error)
{
    struct bytes word = bytes_cstr(argv[*i] + 2);
    ptrdiff_t sign = bytes_find(word, '=');
    struct bytes name = sign < 0 ? word : bytes_first(word, (size_t)sign);
    const char *value = sign < 0 ? NULL : word.at + sign + 1;
    const struct cli_option *option = find_option(cli->command, name);
    if (!option)
        buf_printf(error, "unknown option --%.*s", BYTES_FMT(name));
    else if (!option->value && value)
        buf_printf(error, "--%s takes no value", option->name);
    else if (is_given(cli, option) && !option->repeated)
        buf_printf(error, "--%s is given twice", option->name);
    else if (cli->given_count == CLI_ARGUMENTS_MAX)
        buf_add_cstr(error, "too many options");
    else if (option->value && !value && *i + 1 == argc)
        buf_printf(error, "--%s needs a value: %s", option->name, option->value);
    else if (option->value && !value)
        value = argv[++*i];
    if (error->len)
        return CLI_USAGE;
    cli->given[cli->given_count].option = option;
    cli->given[cli->given_count++].value = value;
    return 0;
}

static int take_argument(struct cli *cli, const char *word, struct buf *error)
{
    if (cli->arguments_count == cli->command->arguments_max) {
        buf_printf(error, "what is '%s' for?", word);
        return CLI_USAGE;
    }
    CHECK(cli->arguments_count < CLI_ARGUMENTS_MAX);
    cli->arguments[cli->arguments_count++] = word;
    return 0;
}

static const char *config_of(const struct cli *cli)
{
    const char *environment = getenv("POSTHASTE_CONFIG");
    if (cli_value(cli, "config"))
        return cli_value(cli, "config");
    if (environment && *environment)
        return environment;
    return access(CLI_USUAL_CONFIG, F_OK) == 0 ? CLI_USUAL_CONFIG : NULL;
}

int cli_parse(struct cli *cli, int argc, char **argv, bool *out_help, struct buf *error)
{
    bool options = true;
    for (int i = 0; i < argc; i++) {
        struct bytes word = bytes_cstr(argv[i]);
        int exit = 0;
        if (options && bytes_eq(word, BYTES("--")))
            options = false;
        else if (options && bytes_starts(word, BYTES("--")))
            exit = take_option(cli, argc, argv, &i, error);
        else if (options && word.len > 1 && word.at[0] == '-' && !bytes_eq(word, BYTES("-h"))) {
            buf_printf(error, "unknown option %s", argv[i]);
            exit = CLI_USAGE;
        } else if (options && bytes_eq(word, BYTES("-h")))
            *out_help = true;
        else
            exit = take_argument(cli, argv[i], error);
        if (exit)
            return exit;
    }
    *out_help = *out_help || cli_flag(cli, "help");
    cli->json = cli_flag(cli, "json");
    cli->config = config_of(cli);
    if (!*out_help && cli->arguments_count < cli->command->arguments_min) {
        buf_printf(error, "%s is missing", cli->command->arguments);
        return CLI_USAGE;
    }
    return 0;
}

// ---- what a command asks -----------------------------------------------------------------------------

const char *cli_values(const struct cli *cli, const char *option, int n)
{
    for (int i = 0; i < cli->given_count; i++)
        if (bytes_eq(bytes_cstr(cli->given[i].option->name), bytes_cstr(option)) && n-- == 0)
            return cli->given[i].value;
    return NULL;
}

const char *cli_value(const struct cli *cli, const char *option)
{
    return cli_values(cli, option, 0);
}

bool cli_flag(const struct cli *cli, const char *option)
{
    for (int i = 0; i < cli->given_count; i++)
        if (bytes_eq(bytes_cstr(cli->given[i].option->name), bytes_cstr(option)))
            return true;
    return false;
}

struct bytes cli_argument(const struct cli *cli, int n)
{
    return n < cli->arguments_count ? bytes_cstr(cli->arguments[n]) : BYTES_NONE;
}

// What was typed, or stands in a file, may have bytes that a terminal would act on.
static void print_plain(struct buf *text)
{
    for (size_t i = 0; i < text->len; i++)
        if (((unsigned char)text->at[i] < ' ' && text->at[i] != '\n' && text->at[i] != '\t') ||
            text->at[i] == 0x7f)
            text->at[i] = '?';
    fputs(buf_cstr(text), stderr);
}

// Who has forgotten --config would else wonder where the account went.
static void tell_default(const struct conf *conf, struct buf *out)
{
    buf_printf(out,
               "posthaste: no configuration file: neither --config, nor $POSTHASTE_CONFIG, "
               "nor " CLI_USUAL_CONFIG "; going by the embedded default, with its data in %.*s\n",
               BYTES_FMT(conf->state));
}

const struct conf *cli_conf(struct cli *cli)
{
    struct buf text = {0};
    bool known = cli->conf;
    int err = known ? OK : conf_load(cli->config, &cli->conf, &text);
    if (!known && !err && !cli->config)
        tell_default(cli->conf, &text);
    if (!known && (err || !cli->config))
        print_plain(&text);
    buf_done(&text);
    return cli->conf;
}

// ---- what a command says -----------------------------------------------------------------------------

static void complain(const char *format, va_list args) __attribute__((format(printf, 1, 0)));
static void complain(const char *format, va_list args)
{
    char text[2048];
    struct buf line = {0};
    vsnprintf(text, sizeof text, format, args);
    buf_printf(&line, "posthaste: %s\n", text);
    print_plain(&line);
    buf_done(&line);
}

int cli_fail(int exit, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    return exit;
}

static int print_usage(const struct cli_command *command)
{
    fprintf(stderr, "usage: posthaste %s%s%s [OPTION...]; see posthaste help %s\n", command->name,
            command->arguments ? " " : "", command->arguments ? command->arguments : "",
            command->name);
    return CLI_USAGE;
}

int cli_fail_usage(const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    return print_usage(cli->command);
}

void cli_print_json(struct json_object *object)
{
    puts(json_object_to_json_string_ext(object,
                                        JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

int cli_exit_of(int err)
{
    switch (err) {
    case 0:
        return CLI_OK;
    case E_SYNTAX:
    case E_LIMIT:
    case E_EXISTS:
    case E_VERSION:
    case E_DAMAGED:
        return CLI_DATA;
    case E_NOT_FOUND:
        return CLI_NOT_FOUND;
    case E_DENIED:
        return CLI_PERMISSION;
    default:
        return CLI_TEMPORARY;
    }
}

// ---- help --------------------------------------------------------------------------------------------

static void add_option_line(const struct cli_option *option, struct buf *out)
{
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", option->name, option->value ? " " : "",
             option->value ? option->value : "");
    buf_printf(out, "  %-26s %s\n", left, option->help);
}

void cli_help_command(const struct cli_command *command, struct buf *out)
{
    buf_printf(out, "posthaste %s - %s\n\nusage: posthaste %s%s%s [OPTION...]\n", command->name,
               command->help, command->name, command->arguments ? " " : "",
               command->arguments ? command->arguments : "");
    if (command->more)
        buf_printf(out, "\n%s", command->more);
    buf_add_cstr(out, "\noptions:\n");
    for (const struct cli_option *o = command->options; o && o->name; o++)
        add_option_line(o, out);
    for (const struct cli_option *o = cli_common_options; o->name; o++)
        if (cli_has_common(command, o))
            add_option_line(o, out);
}

static void add_command_line(const struct cli_command *command, struct buf *out)
{
    struct buf left = {0};
    buf_printf(&left, "%s%s%s", command->name, command->arguments ? " " : "",
               command->arguments ? command->arguments : "");
    buf_printf(out, "  %-*s", HELP_COLUMN, buf_cstr(&left));
    if (left.len > HELP_COLUMN)
        buf_printf(out, "\n  %-*s", HELP_COLUMN, "");
    buf_printf(out, " %s\n", command->help);
    buf_done(&left);
}

void cli_help_all(struct buf *out)
{
    buf_add_cstr(out, "posthaste - " CLI_WHAT "\n\n"
                      "usage: posthaste COMMAND [OPTION...]\n\ncommands:\n");
    for (int i = 0; i < cli_commands_count; i++)
        add_command_line(cli_commands[i], out);
    buf_add_cstr(out, "\noptions of most commands:\n");
    for (const struct cli_option *o = cli_common_options; o->name; o++)
        add_option_line(o, out);
    buf_add_cstr(out, "\nexit codes:\n");
    for (const struct cli_exit_row *row = cli_exits; row->means; row++)
        buf_printf(out, "  %3d  %s\n", (int)row->code, row->means);
}

bool cli_help_group(const char *group, struct buf *out)
{
    struct bytes prefix = bytes_cstr(group);
    bool any = false;
    for (int i = 0; i < cli_commands_count; i++) {
        struct bytes name = bytes_cstr(cli_commands[i]->name);
        if (!bytes_starts(name, prefix) || name.len == prefix.len || name.at[prefix.len] != ' ')
            continue;
        if (!any)
            buf_printf(out, "usage: posthaste %s COMMAND [OPTION...]\n\ncommands:\n", group);
        add_command_line(cli_commands[i], out);
        any = true;
    }
    return any;
}

static int fail_unknown(int words, char **argv)
{
    struct buf name = {0};
    for (int i = 0; i < words; i++)
        buf_printf(&name, "%s%s", i ? " " : "", argv[i]);
    int exit = cli_fail(CLI_USAGE, "there is no command '%s'; see posthaste help", buf_cstr(&name));
    buf_done(&name);
    return exit;
}

static int help_configuration(struct bytes key, struct buf *out)
{
    if (conf_doc_text(key, out))
        return CLI_OK;
    return cli_fail(CLI_USAGE, "there is no key '%.*s'; see posthaste help configuration",
                    BYTES_FMT(key));
}

static int run_help(struct cli *cli)
{
    struct buf out = {0};
    int words, argc = cli->arguments_count, exit = CLI_OK;
    char **argv = (char **)(uintptr_t)cli->arguments;
    const struct cli_command *command = cli_find(argc, argv, &words);
    if (!argc) {
        cli_help_all(&out);
    } else if (command && words == argc) {
        cli_help_command(command, &out);
    } else if (argc <= 2 && bytes_eq(cli_argument(cli, 0), BYTES("configuration"))) {
        exit = help_configuration(cli_argument(cli, 1), &out);
    } else if (argc > 1 || !cli_help_group(argv[0], &out)) {
        exit = fail_unknown(argc, argv);
    }
    fputs(buf_cstr(&out), stdout);
    buf_done(&out);
    return exit;
}

const struct cli_command cli_help = {
    .name = "help",
    .arguments = "[COMMAND]",
    .help = "what there is, or how a command is used; help configuration [KEY]: its keys",
    .arguments_max = WORDS_MAX,
    .no_config = true,
    .no_json = true,
    .run = run_help,
};

static int run_version(struct cli *cli)
{
    if (cli->json)
        puts("{\"version\":\"" POSTHASTE_VERSION "\"}");
    else
        puts("posthaste " POSTHASTE_VERSION);
    return CLI_OK;
}

const struct cli_command cli_version = {
    .name = "version", .help = "print the version", .no_config = true, .run = run_version};

// ---- running -----------------------------------------------------------------------------------------

static int print_help(const struct cli_command *command)
{
    struct buf text = {0};
    cli_help_command(command, &text);
    fputs(buf_cstr(&text), stdout);
    buf_done(&text);
    return CLI_OK;
}

// Of a command that parses its options by itself, which may have a -h of its own.
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || (argc == 1 && strcmp(argv[i], "-h") == 0))
            return true;
    return false;
}

static int run_command(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli = {.command = command};
    struct buf error = {0};
    bool help = false;
    int exit = cli_parse(&cli, argc, argv, &help, &error);
    if (exit) {
        cli_fail(exit, "%s: %s", command->name, buf_cstr(&error));
        print_usage(command);
    } else if (help) {
        exit = print_help(command);
    } else {
        exit = command->run(&cli);
    }
    buf_done(&error);
    conf_free(cli.conf);
    arena_done(&cli.arena);
    return exit;
}

// A group alone, which --help may be asked of; else no command.
static int run_unknown(int argc, char **argv)
{
    struct buf out = {0};
    bool group = cli_help_group(argv[0], &out);
    bool asked = group && argc == 2 && asks_for_help(1, argv + 1);
    bool named = argc > 1 && argv[1][0] != '-';
    if (!group || named)
        fail_unknown(group ? 2 : 1, argv);
    fputs(buf_cstr(&out), asked ? stdout : stderr);
    buf_done(&out);
    return asked ? CLI_OK : CLI_USAGE;
}

static int run_words(int argc, char **argv)
{
    static const struct {
        const char *option;
        const struct cli_command *command;
    } options[] = {{"--help", &cli_help}, {"-h", &cli_help}, {"--version", &cli_version}};
    int words;
    const struct cli_command *command = cli_find(argc, argv, &words);
    if (command && command->run_itself && asks_for_help(argc - words, argv + words))
        return print_help(command);
    if (command && command->run_itself)
        return command->run_itself(argc - words + 1, argv + words - 1);
    if (command)
        return run_command(command, argc - words, argv + words);
    for (size_t i = 0; argc && i < COUNT_OF(options); i++)
        if (bytes_eq(bytes_cstr(argv[0]), bytes_cstr(options[i].option)))
            return run_command(options[i].command, argc - 1, argv + 1);
    if (argc)
        return run_unknown(argc, argv);
    struct buf all = {0};
    cli_help_all(&all);
    fputs(buf_cstr(&all), stderr);
    buf_done(&all);
    return CLI_USAGE;
}

// The names by which other programs look for a mail service: links to this one.
static const struct cli_command *called_as(const char *path)
{
    static const struct cli_command *const names[] = {&cli_sendmail, &cli_mailq, &cli_newaliases};
    const char *slash = path ? strrchr(path, '/') : NULL, *name = slash ? slash + 1 : path;
    for (size_t i = 0; name && i < COUNT_OF(names); i++)
        if (strcmp(name, names[i]->name) == 0)
            return names[i];
    return NULL;
}

int cli_main(int argc, char **argv)
{
    const struct cli_command *named = called_as(argc ? argv[0] : NULL);
    int exit = named ? named->run_itself(argc, argv) : run_words(argc - 1, argv + 1);
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (!written && errno != EPIPE && exit == CLI_OK) // EPIPE: the reader has seen enough
        return cli_fail(CLI_TEMPORARY, "cannot write to standard output");
    return exit;
}
