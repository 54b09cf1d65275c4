// SPDX-License-Identifier: MIT
#include "cli/completion.h"

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/manual.h"

// ---- the table, looked at as completion needs it --------------------------------------------------------

// Calls `add` for each option that the command takes, the common ones at the end.
static void each_option(const struct cli_command *command, struct buf *out,
                        void (*add)(const struct cli_command *command,
                                    const struct cli_option *option, struct buf *out))
{
    for (const struct cli_option *o = command->options; o && o->name; o++)
        add(command, o, out);
    for (const struct cli_option *o = cli_common_options; o->name; o++)
        if (cli_has_common(command, o))
            add(command, o, out);
}

// By the word that people see: FILE, DIR, PATH, PEM.
static bool is_file(const char *value)
{
    static const char *const words[] = {"FILE", "PATH", "PEM", "DIR"};
    for (size_t i = 0; value && i < COUNT_OF(words); i++)
        if (bytes_eq(bytes_cstr(value), bytes_cstr(words[i])))
            return true;
    return false;
}

static struct bytes last_word(const struct cli_command *command)
{
    struct bytes group = manual_group_of(command), name = bytes_cstr(command->name);
    return group.len ? bytes_skip(name, group.len + 1) : name;
}

// In single quotes, as all three shells read them; `also` is what gets a backslash beside.
static void add_quoted(struct buf *out, const char *text, const char *also, const char *quote)
{
    for (; *text; text++) {
        if (*text == '\'')
            buf_add_cstr(out, quote);
        else if (strchr(also, *text))
            buf_printf(out, "\\%c", *text);
        else
            buf_add_byte(out, *text);
    }
}

#define QUOTE_SH "'\\''"
#define QUOTE_FISH "\\'"

// Calls `add` for each of a command's words, with those that may follow it.
static void each_argument_word(const struct cli_command *command, struct buf *out,
                               void (*add)(const struct cli_command *command, struct bytes word,
                                           struct bytes after, struct buf *out))
{
    struct buf words = {0}, after = {0}, one = {0};
    if (command->argument_words)
        command->argument_words(NULL, &words);
    struct bytes rest = buf_bytes(&words), word;
    while (rest.len && bytes_cut(&rest, ' ', &word)) {
        buf_clear(&one);
        buf_add(&one, word);
        buf_clear(&after);
        command->argument_words(buf_cstr(&one), &after);
        add(command, word, buf_bytes(&after), out);
    }
    buf_done(&words);
    buf_done(&after);
    buf_done(&one);
}

// ---- bash --------------------------------------------------------------------------------------------

static void add_words(struct buf *out, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        buf_printf(out, "%s%s", i ? " " : "", words[i]);
}

static void bash_option(const struct cli_command *command, const struct cli_option *option,
                        struct buf *out)
{
    buf_printf(out, " --%s", option->name);
}

static void bash_argument(const struct cli_command *command, struct bytes word, struct bytes after,
                          struct buf *out)
{
    buf_printf(out, "    '%s %.*s') words='%.*s' ;;\n", command->name, BYTES_FMT(word),
               BYTES_FMT(after));
}

static void bash_value(const struct cli_command *command, const struct cli_option *option,
                       struct buf *out)
{
    if (!option->value)
        return;
    buf_printf(out, "    '%s --%s') ", command->name, option->name);
    if (option->words) {
        buf_add_cstr(out, "words='");
        add_words(out, option->words);
        buf_add_cstr(out, "' ;;\n");
    } else {
        buf_add_cstr(out, is_file(option->value) ? "files=yes ;;\n" : "return ;;\n");
    }
}

static void bash_group(struct bytes group, struct buf *out)
{
    for (int i = 0; i < cli_commands_count; i++)
        if (bytes_eq(manual_group_of(cli_commands[i]), group))
            buf_printf(out, " %.*s", BYTES_FMT(last_word(cli_commands[i])));
}

static void bash_names(struct buf *out)
{
    buf_add_cstr(out, "    '') words='");
    for (int i = 0; i < cli_commands_count; i++) {
        struct bytes group = manual_group_of(cli_commands[i]);
        if (!group.len || manual_begins_group(i))
            buf_printf(out, " %.*s", BYTES_FMT(group.len ? group : last_word(cli_commands[i])));
    }
    buf_add_cstr(out, "' ;;\n");
    for (int i = 0; i < cli_commands_count; i++) {
        if (!manual_begins_group(i))
            continue;
        struct bytes group = manual_group_of(cli_commands[i]);
        buf_printf(out, "    '%.*s') words='", BYTES_FMT(group));
        bash_group(group, out);
        buf_add_cstr(out, "' ;;\n");
    }
}

static void bash_groups(struct buf *out)
{
    const char *bar = "";
    buf_add_cstr(out, "        ");
    for (int i = 0; i < cli_commands_count; i++) {
        if (!manual_begins_group(i))
            continue;
        struct bytes group = manual_group_of(cli_commands[i]);
        buf_printf(out, "%s%.*s", bar, BYTES_FMT(group));
        bar = " | ";
    }
    buf_add_cstr(out, ") ");
}

void completion_bash(struct buf *out)
{
    buf_add_cstr(out,
                 "# shellcheck shell=bash\n"
                 "# bash completion of posthaste(1); made by tools/gen-manual.c from its table of "
                 "commands\n\n"
                 "_posthaste() {\n"
                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
                 "    local first=1 command='' words='' files='' help=''\n"
                 "    COMPREPLY=()\n"
                 "    # --name=value comes in three words\n"
                 "    if [ \"$cur\" = = ]; then\n"
                 "        cur=''\n"
                 "    elif [ \"$prev\" = = ]; then\n"
                 "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
                 "    fi\n"
                 "    [ \"${COMP_WORDS[1]}\" != help ] || [ \"$COMP_CWORD\" = 1 ] || "
                 "{ first=2; help=yes; }\n"
                 "    if [ \"$COMP_CWORD\" -gt $first ]; then\n"
                 "        command=${COMP_WORDS[first]}\n"
                 "        case $command in\n");
    bash_groups(out);
    buf_add_cstr(out, "[ \"$COMP_CWORD\" -le $((first + 1)) ] || "
                      "command+=\" ${COMP_WORDS[first + 1]}\" ;;\n"
                      "        esac\n    fi\n    case $command in\n");
    bash_names(out);
    buf_add_cstr(out, "    *) [ -z \"$help\" ] || return ;;\n    esac\n    case $command in\n");
    for (int i = 0; i < cli_commands_count; i++) {
        buf_printf(out, "    '%s') words='", cli_commands[i]->name);
        each_option(cli_commands[i], out, bash_option);
        if (cli_commands[i]->argument_words) {
            buf_add_byte(out, ' ');
            cli_commands[i]->argument_words(NULL, out);
        }
        bool files = is_file(cli_commands[i]->arguments);
        buf_printf(out, "'%s ;;\n",
                   files ? "; [ \"${cur:0:1}\" = - ] || { words=''; files=yes; }" : "");
    }
    buf_add_cstr(out, "    esac\n    case \"$command $prev\" in\n");
    for (int i = 0; i < cli_commands_count; i++) {
        each_option(cli_commands[i], out, bash_value);
        each_argument_word(cli_commands[i], out, bash_argument);
    }
    buf_add_cstr(out, "    esac\n"
                      "    if [ -n \"$files\" ]; then\n"
                      "        compopt -o filenames 2>/dev/null\n"
                      "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
                      "    else\n"
                      "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
                      "    fi\n"
                      "}\n"
                      "complete -F _posthaste posthaste\n");
}

// ---- zsh ---------------------------------------------------------------------------------------------

static void zsh_option(const struct cli_command *command, const struct cli_option *option,
                       struct buf *out)
{
    buf_printf(out, " \\\n            '%s--%s%s[", option->repeated ? "*" : "", option->name,
               option->value ? "=" : "");
    add_quoted(out, option->help, "\\[]", QUOTE_SH);
    buf_add_byte(out, ']');
    if (option->value) {
        buf_add_byte(out, ':');
        add_quoted(out, option->value, "\\:", QUOTE_SH);
        buf_add_byte(out, ':');
        if (option->words) {
            buf_add_byte(out, '(');
            add_words(out, option->words);
            buf_add_byte(out, ')');
        } else {
            buf_add_cstr(out, is_file(option->value) ? "_files" : " ");
        }
    }
    buf_add_byte(out, '\'');
}

static void zsh_named(struct bytes name, const char *help, struct buf *out)
{
    buf_printf(out, "            '%.*s:", BYTES_FMT(name));
    add_quoted(out, help, "\\:", QUOTE_SH);
    buf_add_cstr(out, "'\n");
}

// The names that may stand in a place: of a group, or of all commands (group empty).
static void zsh_names(struct bytes group, struct buf *out)
{
    buf_add_cstr(out, "        names=(\n");
    for (int i = 0; i < cli_commands_count; i++) {
        struct bytes of = manual_group_of(cli_commands[i]);
        if (bytes_eq(of, group))
            zsh_named(last_word(cli_commands[i]), cli_commands[i]->help, out);
        else if (!group.len && manual_begins_group(i))
            zsh_named(of, "commands, of which TAB shows more", out);
    }
    buf_add_cstr(out, "        )\n        _describe -t commands command names\n        return\n");
}

static void zsh_argument(const struct cli_command *command, struct bytes word, struct bytes after,
                         struct buf *out)
{
    (void)command;
    buf_printf(out, "(%.*s) compadd -- %.*s;; ", BYTES_FMT(word), BYTES_FMT(after));
}

static void zsh_arguments(const struct cli_command *command, struct buf *out)
{
    if (!command->argument_words) {
        buf_printf(out, " \\\n            '*: :%s'", is_file(command->arguments) ? "_files" : " ");
        return;
    }
    buf_add_cstr(out, " \\\n            '*: :{ case $words[CURRENT-1] in ");
    each_argument_word(command, out, zsh_argument);
    buf_add_cstr(out, "(*) compadd -- ");
    command->argument_words(NULL, out);
    buf_add_cstr(out, ";; esac }'");
}

void completion_zsh(struct buf *out)
{
    buf_add_cstr(out, "#compdef posthaste\n"
                      "# made by tools/gen-manual.c from the table of commands\n\n"
                      "local -a names\n"
                      "if (( CURRENT > 2 )) && [[ $words[2] == help ]]; then\n"
                      "    shift words\n    (( CURRENT-- ))\nfi\n"
                      "if (( CURRENT == 2 )); then\n");
    zsh_names(BYTES_NONE, out);
    buf_add_cstr(out, "fi\nlocal command=$words[2]\nshift words\n(( CURRENT-- ))\n");
    for (int i = 0; i < cli_commands_count; i++) {
        if (!manual_begins_group(i))
            continue;
        struct bytes group = manual_group_of(cli_commands[i]);
        buf_printf(out, "if [[ $command == %.*s ]] && (( CURRENT == 2 )); then\n",
                   BYTES_FMT(group));
        zsh_names(group, out);
        buf_printf(out,
                   "elif [[ $command == %.*s ]]; then\n    command+=\" $words[2]\"\n"
                   "    shift words\n    (( CURRENT-- ))\nfi\n",
                   BYTES_FMT(group));
    }
    buf_add_cstr(out, "case $command in\n");
    for (int i = 0; i < cli_commands_count; i++) {
        buf_printf(out, "    '%s')\n        _arguments", cli_commands[i]->name);
        each_option(cli_commands[i], out, zsh_option);
        if (cli_commands[i]->arguments_max)
            zsh_arguments(cli_commands[i], out);
        buf_add_cstr(out, "\n        ;;\n");
    }
    buf_add_cstr(out, "esac\n");
}

// ---- fish --------------------------------------------------------------------------------------------

static void fish_option(const struct cli_command *command, const struct cli_option *option,
                        struct buf *out)
{
    buf_printf(out, "complete -c posthaste -n '__posthaste_in %s' -l %s", command->name,
               option->name);
    if (option->words) {
        buf_add_cstr(out, " -x -a '");
        add_words(out, option->words);
        buf_add_byte(out, '\'');
    } else if (option->value) {
        buf_add_cstr(out, is_file(option->value) ? " -r -F" : " -x");
    }
    buf_add_cstr(out, " -d '");
    add_quoted(out, option->help, "\\", QUOTE_FISH);
    buf_add_cstr(out, "'\n");
}

static void fish_name(struct bytes behind, struct bytes name, const char *help, struct buf *out)
{
    buf_printf(out, "complete -c posthaste -n '__posthaste_at%s%.*s' -a %.*s -d '",
               behind.len ? " " : "", BYTES_FMT(behind), BYTES_FMT(name));
    add_quoted(out, help, "\\", QUOTE_FISH);
    buf_add_cstr(out, "'\n");
}

// What may follow the word; and the word itself, behind none of them.
static void fish_argument(const struct cli_command *command, struct bytes word, struct bytes after,
                          struct buf *out)
{
    buf_printf(out, "complete -c posthaste -n '__posthaste_in %s; and not __posthaste_behind ",
               command->name);
    command->argument_words(NULL, out);
    buf_printf(out, "' -a %.*s\n", BYTES_FMT(word));
    buf_printf(out,
               "complete -c posthaste -n '__posthaste_in %s; and __posthaste_behind %.*s' "
               "-a '%.*s'\n",
               command->name, BYTES_FMT(word), BYTES_FMT(after));
}

void completion_fish(struct buf *out)
{
    buf_add_cstr(out,
                 "# fish completion of posthaste(1); made by tools/gen-manual.c from its table "
                 "of commands\n\n"
                 "# Are these the words so far (but for `help`)?\n"
                 "function __posthaste_at\n"
                 "    set -l words (commandline -opc)\n"
                 "    set -e words[1]\n"
                 "    test \"$words[1]\" = help; and set -e words[1]\n"
                 "    test \"$words\" = \"$argv\"\n"
                 "end\n\n"
                 "# Do the words so far begin with these?\n"
                 "function __posthaste_in\n"
                 "    set -l words (commandline -opc)\n"
                 "    set -e words[1]\n"
                 "    set -l begin $words[1..(count $argv)]\n"
                 "    test (count $words) -ge (count $argv)\n"
                 "    and test \"$begin\" = \"$argv\"\n"
                 "end\n\n"
                 "# Is the last word so far one of these?\n"
                 "function __posthaste_behind\n"
                 "    set -l words (commandline -opc)\n"
                 "    contains -- \"$words[-1]\" $argv\n"
                 "end\n\n"
                 "complete -c posthaste -f\n");
    for (int i = 0; i < cli_commands_count; i++) {
        const struct cli_command *command = cli_commands[i];
        struct bytes group = manual_group_of(command);
        if (manual_begins_group(i))
            fish_name(BYTES_NONE, group, "commands, of which TAB shows more", out);
        fish_name(group, last_word(command), command->help, out);
        each_option(command, out, fish_option);
        each_argument_word(command, out, fish_argument);
        if (is_file(command->arguments))
            buf_printf(out, "complete -c posthaste -n '__posthaste_in %s' -F\n", command->name);
    }
}
