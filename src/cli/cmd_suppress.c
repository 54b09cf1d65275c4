// SPDX-License-Identifier: MIT
//
// posthaste suppress add, remove, check, list
#include <json-c/json.h>
#include <stdio.h>

#include "base/check.h"
#include "base/clock.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/cli_suppress.h"
#include "cli/cli_table.h"
#include "conf/conf_value.h"

static void add_option(struct cli *cli, struct json_object *args, const char *key)
{
    if (cli_value(cli, key))
        json_add_text(args, key, bytes_cstr(cli_value(cli, key)));
}

// --expires: a time, or how long from now ("90d").
static int add_expires(struct cli *cli, struct json_object *args)
{
    const char *text = cli_value(cli, "expires");
    int64_t ms;
    if (!text)
        return CLI_OK;
    if (conf_value_duration(bytes_cstr(text), &ms) != OK) {
        json_add_text(args, "expires", bytes_cstr(text));
        return CLI_OK;
    }
    struct buf at = {0};
    wall_format(wall_add_ms(cli_store_now(), ms), &at);
    json_add_text(args, "expires", buf_bytes(&at));
    buf_done(&at);
    return CLI_OK;
}

static struct json_object *arguments_of(struct cli *cli)
{
    struct json_object *args = json_object_new_object();
    if (cli->arguments_count)
        json_add_text(args, "address", cli_argument(cli, 0));
    add_option(cli, args, "account");
    add_option(cli, args, "stream");
    add_option(cli, args, "reason");
    return args;
}

static void print_entry(struct cli *cli, struct json_object *e)
{
    struct arena *a = &cli->arena;
    bool named = cli_json_field(e, "account") != NULL;
    printf("%.*s: %.*s, ", BYTES_FMT(cli_json_cell(e, "address", a)),
           BYTES_FMT(cli_json_cell(e, "reason", a)));
    if (named)
        printf("account %.*s", BYTES_FMT(cli_json_cell(e, "account", a)));
    else
        printf("the whole service");
    if (cli_json_field(e, "stream"))
        printf(", stream %.*s", BYTES_FMT(cli_json_cell(e, "stream", a)));
    printf(", since %.*s", BYTES_FMT(cli_json_cell(e, "since", a)));
    if (cli_json_field(e, "expires"))
        printf(", until %.*s", BYTES_FMT(cli_json_cell(e, "expires", a)));
    printf(" (%.*s)", BYTES_FMT(cli_json_cell(e, "actor", a)));
    if (json_find_text(e, "note").len)
        printf(": %.*s", BYTES_FMT(cli_json_cell(e, "note", a)));
    printf("\n");
}

// ---- add, remove -----------------------------------------------------------------------------------------

static int run_add(struct cli *cli)
{
    struct json_object *args = arguments_of(cli), *entry;
    add_option(cli, args, "note");
    add_option(cli, args, "since");
    int exit = add_expires(cli, args);
    if (!exit)
        exit = cli_suppress_once(cli, "suppress.add", args, &entry);
    json_object_put(args);
    if (exit)
        return exit;
    if (cli->json)
        cli_print_json(entry);
    else
        print_entry(cli, entry);
    json_object_put(entry);
    return CLI_OK;
}

static int run_remove(struct cli *cli)
{
    struct json_object *args = arguments_of(cli), *result;
    int exit = cli_suppress_once(cli, "suppress.remove", args, &result);
    json_object_put(args);
    if (exit)
        return exit;
    uint64_t removed = cli_json_number(result, "removed");
    if (cli->json)
        cli_print_json(result);
    else if (removed)
        printf("%.*s: %llu removed\n", BYTES_FMT(cli_json_cell(result, "address", &cli->arena)),
               (unsigned long long)removed);
    json_object_put(result);
    return removed || cli->json
               ? CLI_OK
               : cli_fail(CLI_NOT_FOUND, "no such entry; `suppress check ADDRESS` shows all");
}

// ---- check -----------------------------------------------------------------------------------------------

static void print_check(struct cli *cli, struct json_object *result)
{
    struct json_object *entries = cli_json_field(result, "entries");
    struct json_object *changes = cli_json_field(result, "changes");
    for (size_t i = 0; i < cli_json_count(entries); i++)
        print_entry(cli, json_object_array_get_idx(entries, i));
    if (cli_json_count(entries) == 0)
        printf("%.*s: not suppressed\n", BYTES_FMT(cli_json_cell(result, "address", &cli->arena)));
    static const char *const headings[] = {"AT",      "ACTOR",  "CHANGE", "SCOPE",
                                           "ACCOUNT", "STREAM", "REASON", NULL};
    static const char *const keys[] = {"at", "actor", "op", "scope", "account", "stream", "reason"};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(changes); i++)
        for (size_t k = 0; k < COUNT_OF(keys); k++)
            cli_table_add(
                &table, cli_json_cell(json_object_array_get_idx(changes, i), keys[k], &cli->arena));
    cli_table_print(&table);
    cli_table_done(&table);
}

static int run_check(struct cli *cli)
{
    struct json_object *args = arguments_of(cli), *result;
    int exit = cli_suppress_once(cli, "suppress.check", args, &result);
    json_object_put(args);
    if (exit)
        return exit;
    if (cli->json)
        cli_print_json(result);
    else
        print_check(cli, result);
    json_object_put(result);
    return CLI_OK;
}

// ---- list ------------------------------------------------------------------------------------------------

static const char *const COLUMNS[] = {"address", "scope",   "account", "stream",
                                      "reason",  "expires", "note"};

static void print_page(struct cli *cli, struct json_object *entries)
{
    static const char *const headings[] = {"ADDRESS", "SCOPE",   "ACCOUNT", "STREAM",
                                           "REASON",  "EXPIRES", "NOTE",    NULL};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(entries); i++)
        for (size_t k = 0; k < COUNT_OF(COLUMNS); k++)
            cli_table_add(&table, cli_json_cell(json_object_array_get_idx(entries, i), COLUMNS[k],
                                                &table.arena));
    cli_table_print(&table);
    cli_table_done(&table);
}

static int run_list(struct cli *cli)
{
    struct json_object *args = arguments_of(cli), *page, *next = NULL;
    struct cli_suppress *list;
    if (cli_flag(cli, "service"))
        json_object_object_add(args, "service", json_object_new_boolean(true));
    int exit = cli_suppress_open(cli, &list);
    if (exit) {
        json_object_put(args);
        return exit;
    }
    do {
        exit = cli_suppress_apply(list, "suppress.list", args, &page);
        if (exit)
            break;
        struct json_object *entries = cli_json_field(page, "entries");
        for (size_t i = 0; cli->json && i < cli_json_count(entries); i++)
            cli_print_json(json_object_array_get_idx(entries, i));
        if (!cli->json)
            print_page(cli, entries);
        next = json_object_get(cli_json_field(page, "next"));
        json_object_object_add(args, "cursor", next);
        json_object_put(page);
    } while (next);
    cli_suppress_close(list);
    json_object_put(args);
    return exit;
}

// ---- commands --------------------------------------------------------------------------------------------

#define SCOPE_OPTIONS                                                                              \
    {"account", "NAME", "for this account only; - is mail without an account"},                    \
    {                                                                                              \
        "stream", "TAG", "for mail of the account with this tag only"                              \
    }
#define REASONS_HELP "hard-bounce, complaint, unsubscribe or manual"

static const struct cli_option add_options[] = {
    SCOPE_OPTIONS,
    {"reason", "REASON", REASONS_HELP " (default)", .words = cli_reason_words},
    {"expires", "TIME", "when it ends: 2026-01-31T12:00:00Z, or how long from now: 90d"},
    {"since", "TIME", "when it began, if not now"},
    {"note", "TEXT", "for whoever looks at it later"},
    {NULL},
};
static const struct cli_option remove_options[] = {
    SCOPE_OPTIONS,
    {"reason", "REASON", "only this reason's: " REASONS_HELP, .words = cli_reason_words},
    {NULL},
};
static const struct cli_option check_options[] = {SCOPE_OPTIONS, {NULL}};
static const struct cli_option list_options[] = {
    SCOPE_OPTIONS,
    {"service", NULL, "entries for the whole service only"},
    {"reason", "REASON", "only this reason's: " REASONS_HELP, .words = cli_reason_words},
    {NULL},
};

const struct cli_command cli_suppress_add_command = {
    .name = "suppress add",
    .arguments = "ADDRESS",
    .help = "let no mail go to an address",
    .more = "Without --account: no mail of the whole service. An entry that is there stays, for at "
            "least as\n"
            "long. Works while the service is stopped, too.\n",
    .options = add_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_add,
};
const struct cli_command cli_suppress_remove_command = {
    .name = "suppress remove",
    .arguments = "ADDRESS",
    .help = "let mail go to an address again",
    .more = "Removes the entries of exactly this scope: of the whole service, of an account, or of "
            "a stream.\n",
    .options = remove_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_remove,
};
const struct cli_command cli_suppress_check_command = {
    .name = "suppress check",
    .arguments = "ADDRESS",
    .help = "show what keeps mail from an address, and who changed that when",
    .more = "With --account: what concerns that account's mail.\n",
    .options = check_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_check,
};
const struct cli_command cli_suppress_list_command = {
    .name = "suppress list",
    .help = "list the entries of the suppression list",
    .options = list_options,
    .run = run_list,
};
