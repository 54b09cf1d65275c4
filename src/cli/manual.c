// SPDX-License-Identifier: MIT
//
// How it works: running text is filled here, a sentence a line at most, because that is how mdoc wants it; a line of
// a row's further help that is indented, or shows a command, stands as it is.
#include "cli/manual.h"

#include "base/check.h"
#include "cli/cli_commands.h"
#include "conf/conf_doc.h"
#include "conf/conf_params.h"

#define LINE_MAX_CHARS 76

// ---- text --------------------------------------------------------------------------------------------

// One line's bytes with what roff would take for itself written out.
static void add_escaped(struct buf *out, struct bytes text)
{
    if (text.len && (text.at[0] == '.' || text.at[0] == '\''))
        buf_add_cstr(out, "\\&");
    for (size_t i = 0; i < text.len; i++) {
        switch (text.at[i]) {
        case '\\':
            buf_add_cstr(out, "\\e");
            break;
        case '-':
            buf_add_cstr(out, "\\-");
            break;
        case '`':
            buf_add_cstr(out, "\\(ga");
            break;
        case '^':
            buf_add_cstr(out, "\\(ha");
            break;
        case '~':
            buf_add_cstr(out, "\\(ti");
            break;
        default:
            buf_add_byte(out, text.at[i]);
        }
    }
}

static bool ends_sentence(struct bytes word)
{
    return bytes_ends(word, BYTES(".")) || bytes_ends(word, BYTES(".)"));
}

// Running text; ends its last line.
static void add_text(struct buf *out, struct bytes text)
{
    size_t column = 0;
    struct bytes word;
    bool any = true;
    while (any && text.len) {
        any = bytes_cut(&text, ' ', &word);
        if (!word.len)
            continue;
        if (column && column + 1 + word.len > LINE_MAX_CHARS) {
            buf_add_byte(out, '\n');
            column = 0;
        }
        if (column)
            buf_add_byte(out, ' ');
        size_t before = out->len;
        add_escaped(out, word);
        column += out->len - before + 1;
        if (ends_sentence(word)) {
            buf_add_byte(out, '\n');
            column = 0;
        }
    }
    if (column)
        buf_add_byte(out, '\n');
}

// A row's one line of help has no final dot.
static void add_sentence(struct buf *out, const char *text)
{
    struct buf sentence = {0};
    buf_printf(&sentence, "%s.", text);
    if (sentence.at[0] >= 'a' && sentence.at[0] <= 'z')
        sentence.at[0] = (char)(sentence.at[0] - 'a' + 'A');
    add_text(out, buf_bytes(&sentence));
    buf_done(&sentence);
}

static bool is_verbatim(struct bytes line)
{
    return bytes_starts(line, BYTES("  ")) || bytes_starts(line, BYTES("posthaste "));
}

static void add_verbatim(struct buf *out, struct bytes *text)
{
    struct bytes line, rest = *text;
    size_t indent = 0; // the first line's
    while (rest.at[indent] == ' ')
        indent++;
    buf_add_cstr(out, ".Bd -literal -offset indent\n");
    while (bytes_cut(&rest, '\n', &line) && is_verbatim(line)) {
        for (size_t i = 0; i < indent && bytes_starts(line, BYTES(" ")); i++)
            line = bytes_skip(line, 1);
        add_escaped(out, line);
        buf_add_byte(out, '\n');
        *text = rest;
    }
    buf_add_cstr(out, ".Ed\n.Pp\n");
}

// The further help of a row: lines that end in \n.
static void add_more(struct buf *out, const char *more)
{
    struct bytes text = bytes_cstr(more), line, rest;
    struct buf paragraph = {0};
    while (text.len) {
        if (is_verbatim(text)) {
            add_verbatim(out, &text);
            continue;
        }
        buf_clear(&paragraph);
        for (rest = text; !is_verbatim(rest) && bytes_cut(&rest, '\n', &line); text = rest)
            buf_printf(&paragraph, "%.*s ", BYTES_FMT(line));
        add_text(out, buf_bytes(&paragraph));
    }
    buf_done(&paragraph);
}

// ---- parts of a page -----------------------------------------------------------------------------------

void manual_name(struct bytes words, struct buf *out)
{
    buf_add_cstr(out, "posthaste-");
    for (size_t i = 0; i < words.len; i++)
        buf_add_byte(out, words.at[i] == ' ' ? '-' : words.at[i]);
}

static void add_head(struct buf *out, struct bytes name, int section, const char *date,
                     const char *what)
{
    buf_printf(out, ".\\\" Made by tools/gen-manual.c\n.Dd %s\n.Dt ", date);
    for (size_t i = 0; i < name.len; i++)
        buf_add_byte(out, name.at[i] >= 'a' && name.at[i] <= 'z' ? (char)(name.at[i] - 'a' + 'A')
                                                                 : name.at[i]);
    buf_printf(out, " %d\n.Os\n.Sh NAME\n.Nm %.*s\n.Nd ", section, BYTES_FMT(name));
    add_escaped(out, bytes_cstr(what));
    buf_add_cstr(out, "\n");
}

static void add_option(struct buf *out, const struct cli_option *option)
{
    buf_printf(out, ".It Fl \\-%s", option->name);
    if (option->value) {
        buf_add_cstr(out, " Ar ");
        add_escaped(out, bytes_cstr(option->value));
    }
    buf_add_byte(out, '\n');
    add_sentence(out, option->help);
    if (option->repeated)
        buf_add_cstr(out, "May be given more than once.\n");
    if (!option->words)
        return;
    buf_add_cstr(out, "One of\n");
    for (int i = 0; option->words[i]; i++) {
        buf_add_cstr(out, ".Cm ");
        add_escaped(out, bytes_cstr(option->words[i]));
        buf_add_cstr(out, option->words[i + 1] ? " ,\n" : " .\n");
    }
}

static void add_options(struct buf *out, const struct cli_command *command)
{
    buf_add_cstr(out, ".Sh OPTIONS\n.Bl -tag -width Ds\n");
    for (const struct cli_option *o = command->options; o && o->name; o++)
        add_option(out, o);
    for (const struct cli_option *o = cli_common_options; o->name; o++)
        if (cli_has_common(command, o))
            add_option(out, o);
    buf_add_cstr(out, ".El\n");
}

static void add_exits(struct buf *out)
{
    buf_add_cstr(out, ".Sh EXIT STATUS\n.Bl -tag -width Ds\n");
    for (const struct cli_exit_row *row = cli_exits; row->means; row++) {
        buf_printf(out, ".It %d\n", (int)row->code);
        add_sentence(out, row->means);
    }
    buf_add_cstr(out, ".El\n");
}

static void add_item(struct buf *out, const struct cli_command *command)
{
    struct buf name = {0};
    manual_name(bytes_cstr(command->name), &name);
    buf_printf(out, ".It Xr %.*s 1\n", BYTES_FMT(buf_bytes(&name)));
    add_sentence(out, command->help);
    buf_done(&name);
}

static void add_see_also(struct buf *out)
{
    buf_add_cstr(out, ".Sh SEE ALSO\n.Xr posthaste 1 ,\n.Xr posthaste.yaml 5\n");
}

// ---- pages -------------------------------------------------------------------------------------------

void manual_command(const struct cli_command *command, const char *date, struct buf *out)
{
    struct buf name = {0};
    manual_name(bytes_cstr(command->name), &name);
    add_head(out, buf_bytes(&name), 1, date, command->help);
    buf_printf(out, ".Sh SYNOPSIS\n.Nm posthaste\n.Cm %s\n", command->name);
    if (command->arguments) {
        buf_add_cstr(out, "\\fI");
        add_escaped(out, bytes_cstr(command->arguments));
        buf_add_cstr(out, "\\fR\n");
    }
    buf_add_cstr(out, ".Op Ar option ...\n.Sh DESCRIPTION\n");
    add_sentence(out, command->help);
    if (command->more) {
        if (!is_verbatim(bytes_cstr(command->more)))
            buf_add_cstr(out, ".Pp\n");
        add_more(out, command->more);
        if (bytes_ends(buf_bytes(out), BYTES(".Pp\n")))
            out->len -= strlen(".Pp\n");
    }
    add_options(out, command);
    add_exits(out);
    add_see_also(out);
    buf_done(&name);
}

struct bytes manual_group_of(const struct cli_command *command)
{
    struct bytes name = bytes_cstr(command->name);
    ptrdiff_t space = bytes_find(name, ' ');
    return space < 0 ? BYTES_NONE : bytes_first(name, (size_t)space);
}

bool manual_begins_group(int command)
{
    struct bytes group = manual_group_of(cli_commands[command]);
    for (int i = 0; i < command; i++)
        if (bytes_eq(manual_group_of(cli_commands[i]), group))
            return false;
    return group.len > 0;
}

void manual_group(struct bytes group, const char *date, struct buf *out)
{
    struct buf name = {0}, what = {0};
    manual_name(group, &name);
    buf_printf(&what, "the commands posthaste %.*s", BYTES_FMT(group));
    add_head(out, buf_bytes(&name), 1, date, buf_cstr(&what));
    buf_printf(out,
               ".Sh SYNOPSIS\n.Nm posthaste\n.Cm %.*s\n.Ar command\n.Op Ar option ...\n"
               ".Sh DESCRIPTION\nThe commands are:\n.Bl -tag -width Ds\n",
               BYTES_FMT(group));
    for (int i = 0; i < cli_commands_count; i++)
        if (bytes_eq(manual_group_of(cli_commands[i]), group))
            add_item(out, cli_commands[i]);
    buf_add_cstr(out, ".El\n");
    add_see_also(out);
    buf_done(&name);
    buf_done(&what);
}

void manual_program(const char *date, struct buf *out)
{
    add_head(out, BYTES("posthaste"), 1, date, CLI_WHAT);
    buf_add_cstr(out,
                 ".Sh SYNOPSIS\n.Nm\n.Ar command\n.Op Ar option ...\n.Sh DESCRIPTION\n"
                 "Programs and people hand it mail over SMTP.\n"
                 "It keeps the mail safe on disk, finds the receiving servers, delivers to them,\n"
                 "and tells what happened to each message.\n"
                 ".Cm posthaste serve\n"
                 "is the service; the other commands ask it, tell it, or work without it.\n"
                 "Data goes to standard output, everything else to standard error.\n"
                 ".Pp\nThe commands are:\n.Bl -tag -width Ds\n");
    for (int i = 0; i < cli_commands_count; i++)
        add_item(out, cli_commands[i]);
    buf_add_cstr(out, ".El\n.Sh OPTIONS\nMost commands take these:\n.Bl -tag -width Ds\n");
    for (const struct cli_option *o = cli_common_options; o->name; o++)
        add_option(out, o);
    buf_add_cstr(out, ".El\n.Sh ENVIRONMENT\n.Bl -tag -width Ds\n.It Ev POSTHASTE_CONFIG\n"
                      "The configuration file, where\n.Fl \\-config\nis not given.\n.El\n"
                      ".Sh FILES\n.Bl -tag -width Ds\n.It Pa " CLI_USUAL_CONFIG "\n"
                      "The configuration file, where nothing else is said.\n.El\n");
    add_exits(out);
    buf_add_cstr(out, ".Sh SEE ALSO\n.Xr posthaste.yaml 5\n");
}

// ---- the configuration ---------------------------------------------------------------------------------

static void add_parameter(struct buf *out, const struct conf_param *param)
{
    bool section = param->type == CONF_MAP || param->type == CONF_ENTRIES;
    struct buf text = {0};
    buf_printf(out, ".It Cm %s\n", param->name);
    add_sentence(out, param->help);
    if (!section) {
        buf_add_cstr(&text, "Takes ");
        conf_param_describe(param, &text);
        buf_add_byte(&text, '.');
        add_text(out, buf_bytes(&text));
    }
    if (param->required) {
        buf_add_cstr(out, "It must be given.\n");
    } else if (!section || param->shown_default) {
        buf_clear(&text);
        buf_printf(&text, "Default: %s.", conf_doc_default(param));
        add_text(out, buf_bytes(&text));
    }
    if (!section && param->reloadable)
        buf_add_cstr(out, "Read again by SIGHUP.\n");
    buf_done(&text);
}

void manual_configuration(const char *date, struct buf *out)
{
    add_head(out, BYTES("posthaste.yaml"), 5, date, "configuration of posthaste");
    buf_add_cstr(out, ".Sh DESCRIPTION\n"
                      "The file is YAML.\n"
                      "Below, a key inside another stands behind a dot, and\n"
                      ".Cm []\n"
                      "is each entry of a list:\n"
                      ".Cm tls.certificate\n"
                      "is the key\n.Cm certificate\nin the section\n.Cm tls .\n"
                      "Relative paths begin at the folder of the file.\n"
                      ".Xr posthaste-check-config 1\n"
                      "tells all that is wrong with it, with line and column.\n"
                      ".Bl -tag -width Ds\n");
    for (uint32_t i = 0; i < conf_params_count; i++)
        add_parameter(out, &conf_params[i]);
    buf_add_cstr(out, ".El\n.Sh FILES\n.Bl -tag -width Ds\n.It Pa " CLI_USUAL_CONFIG "\n"
                      "Where it usually is.\n.El\n"
                      ".Sh SEE ALSO\n.Xr posthaste 1 ,\n.Xr posthaste-check-config 1 ,\n"
                      ".Xr posthaste-config-schema 1 ,\n.Xr posthaste-config-show 1\n");
}
