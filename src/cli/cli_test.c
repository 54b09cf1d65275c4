// SPDX-License-Identifier: MIT
#include "cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/check.h"
#include "cli/cli_commands.h"

static const struct cli_option options[] = {
    {"class", "CLASS", "a value"},
    {"force", NULL, "a flag"},
    {"match", "TEXT", "a value, often", true},
    {NULL},
};
static const struct cli_command command = {.name = "test thing",
                                           .arguments = "NAME [FILE]",
                                           .help = "for the tests",
                                           .options = options,
                                           .arguments_min = 1,
                                           .arguments_max = 2};
static const struct cli_command bare = {
    .name = "bare", .help = "nothing", .no_config = true, .no_json = true};

static int split(char *text, char **out)
{
    int n = 0;
    for (char *word = text; *word; word++) {
        if (word == text || word[-1] == 0)
            out[n++] = word;
        if (*word == ' ')
            *word = 0;
    }
    return n;
}

static void show(const struct cli *cli, struct buf *out)
{
    buf_printf(out, "class=%s force=%d json=%d config=%s args=", cli_value(cli, "class"),
               cli_flag(cli, "force"), cli->json, cli->config ? cli->config : "-");
    for (int i = 0; i < cli->arguments_count; i++)
        buf_printf(out, "[%s]", cli->arguments[i]);
    for (int i = 0; cli_values(cli, "match", i); i++)
        buf_printf(out, " match=%s", cli_values(cli, "match", i));
}

static void test_parse(void **state)
{
    static const struct {
        const char *words;
        int want;
        const char *says;
    } cases[] = {
        {"a", 0, "class=(null) force=0 json=0 config=/env args=[a]"},
        {"a b --class c", 0, "class=c force=0 json=0 config=/env args=[a][b]"},
        {"--class=c --force a", 0, "class=c force=1"},
        {"--class= a", 0, "class= force=0"},
        {"a --class=x=y", 0, "class=x=y"},
        {"a --config /f --json", 0, "json=1 config=/f"},
        {"--match 1 a --match=2", 0, "args=[a] match=1 match=2"},
        {"-- --class -x", 0, "args=[--class][-x]"},
        {"a -", 0, "args=[a][-]"},
        {"--class --force a", 0, "class=--force"}, // a value is whatever follows
        {"", CLI_USAGE, "NAME [FILE] is missing"},
        {"a b c", CLI_USAGE, "what is 'c' for?"},
        {"a --clas c", CLI_USAGE, "unknown option --clas"},
        {"a --CLASS c", CLI_USAGE, "unknown option --CLASS"},
        {"a --class", CLI_USAGE, "--class needs a value: CLASS"},
        {"a --force=1", CLI_USAGE, "--force takes no value"},
        {"a --class b --class c", CLI_USAGE, "--class is given twice"},
        {"a --force --force", CLI_USAGE, "--force is given twice"},
        {"a -f", CLI_USAGE, "unknown option -f"},
        {"a --", 0, "args=[a]"},
        {"a --=x", CLI_USAGE, "unknown option --"},
        {"a --match 1 --match 1 --match 1 --match 1 --match 1 --match 1 --match 1 --match 1 "
         "--match 1 --match 1 --match 1 --match 1 --match 1 --match 1 --match 1 --match 1 "
         "--match 1",
         CLI_USAGE, "too many options"},
    };
    setenv("POSTHASTE_CONFIG", "/env", 1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct cli cli = {.command = &command};
        struct buf error = {0}, out = {0};
        char text[512], *words[64];
        bool help = false;
        snprintf(text, sizeof text, "%s", cases[i].words);
        int argc = split(text, words);
        int got = cli_parse(&cli, argc, words, &help, &error);
        if (!got)
            show(&cli, &out);
        struct bytes said = buf_bytes(got ? &error : &out);
        if (got != cases[i].want || help || bytes_search(said, bytes_cstr(cases[i].says)) < 0)
            fail_msg("%s: got %d, %.*s", cases[i].words, got, BYTES_FMT(said));
        buf_done(&error);
        buf_done(&out);
    }
}

static void test_parse_help(void **state)
{
    static const char *const asking[] = {"--help", "-h", "a --help", "a b --class c -h"};
    for (size_t i = 0; i < COUNT_OF(asking); i++) {
        struct cli cli = {.command = &command};
        struct buf error = {0};
        char text[64], *words[16];
        bool help = false;
        snprintf(text, sizeof text, "%s", asking[i]);
        int argc = split(text, words);
        assert_int_equal(cli_parse(&cli, argc, words, &help, &error), 0);
        assert_true(help);
    }
}

static void test_without_common_options(void **state)
{
    static const char *const asked[] = {"--config", "--json"};
    for (size_t i = 0; i < COUNT_OF(asked); i++) {
        struct cli cli = {.command = &bare};
        struct buf error = {0}, help_text = {0};
        char word[16], *words[] = {word, (char[]){"x"}};
        bool help = false;
        snprintf(word, sizeof word, "%s", asked[i]);
        assert_int_equal(cli_parse(&cli, 2, words, &help, &error), CLI_USAGE);
        assert_true(bytes_starts(buf_bytes(&error), BYTES("unknown option --")) &&
                    bytes_ends(buf_bytes(&error), bytes_cstr(asked[i])));
        cli_help_command(&bare, &help_text);
        assert_true(bytes_search(buf_bytes(&help_text), bytes_cstr(asked[i])) < 0);
        buf_done(&error);
        buf_done(&help_text);
    }
}

static void test_find(void **state)
{
    static const struct {
        const char *words, *want;
        int taken;
    } cases[] = {
        {"account add acme", "account add", 2},
        {"account", NULL, 0},
        {"account shout", NULL, 0},
        {"acc add", NULL, 0}, // no abbreviations: a script must not break when commands are added
        {"help account", "help", 1},
        {"check-config", "check-config", 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[64], *words[16];
        int taken;
        snprintf(text, sizeof text, "%s", cases[i].words);
        int argc = split(text, words);
        const struct cli_command *found = cli_find(argc, words, &taken);
        assert_int_equal(taken, cases[i].taken);
        if (cases[i].want)
            assert_string_equal(found->name, cases[i].want);
        else
            assert_null(found);
    }
}

// Every row keeps to the rules that the parser and the help rely on.
static void test_rows(void **state)
{
    for (int i = 0; i < cli_commands_count; i++) {
        const struct cli_command *c = cli_commands[i];
        struct buf help = {0};
        int n = 0;
        assert_true(c->name && c->help && (c->run != NULL) != (c->run_itself != NULL));
        assert_true(c->help[strlen(c->help) - 1] != '.');
        assert_true(c->arguments_min <= c->arguments_max && c->arguments_max <= CLI_ARGUMENTS_MAX);
        assert_true(c->run_itself || (c->arguments != NULL) == (c->arguments_max > 0));
        assert_true(!c->more || c->more[strlen(c->more) - 1] == '\n');
        for (const struct cli_option *o = c->options; o && o->name; o++, n++) {
            assert_true(o->help && o->name[0] != '-');
            for (const struct cli_option *common = cli_common_options; common->name; common++)
                assert_true(!cli_has_common(c, common) || strcmp(o->name, common->name) != 0);
            assert_true(!o->words || o->value);
        }
        assert_true(n + 3 <= CLI_OPTIONS_MAX);
        for (int j = 0; j < i; j++)
            assert_true(strcmp(c->name, cli_commands[j]->name) != 0);
        cli_help_command(c, &help);
        struct bytes rest = buf_bytes(&help), line;
        while (bytes_cut(&rest, '\n', &line))
            if (line.len > 100)
                fail_msg("%s: a line of %zu characters: %.*s", c->name, line.len, BYTES_FMT(line));
        buf_done(&help);
    }
}

static void test_help_lists_all(void **state)
{
    struct buf all = {0}, group = {0};
    cli_help_all(&all);
    for (int i = 0; i < cli_commands_count; i++) {
        struct bytes rest = buf_bytes(&all), line;
        bool in_column = false; // however long its name and arguments are
        assert_true(bytes_search(rest, bytes_cstr(cli_commands[i]->name)) >= 0);
        while (bytes_cut(&rest, '\n', &line))
            in_column =
                in_column || bytes_eq(bytes_skip(line, 39), bytes_cstr(cli_commands[i]->help));
        if (!in_column)
            fail_msg("what %s is for is not in its column", cli_commands[i]->name);
    }
    assert_true(cli_help_group("account", &group));
    assert_true(bytes_search(buf_bytes(&group), BYTES("account close")) >= 0);
    assert_true(bytes_search(buf_bytes(&group), BYTES("domain")) < 0 ||
                bytes_search(buf_bytes(&group), BYTES("domain add")) < 0);
    assert_false(cli_help_group("acc", &group));
    assert_false(cli_help_group("help", &group));
    buf_done(&all);
    buf_done(&group);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_help),
        cmocka_unit_test(test_without_common_options),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_help_lists_all),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
