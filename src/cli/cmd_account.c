// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "cli/cli_commands.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "store/store_options.h"

static bool json_flag(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(object, key, &value) && json_object_get_boolean(value);
}

static int show_account(struct cli *cli, struct json_object *account)
{
    struct bytes name = json_find_text(account, "account");
    if (cli->json)
        cli_print_json(account);
    else
        printf("account %.*s: %.*s, %.*s%s\n", BYTES_FMT(name),
               BYTES_FMT(json_find_text(account, "state")),
               BYTES_FMT(json_find_text(account, "class")),
               json_flag(account, "any_sender") ? ", any sender" : "");
    json_object_put(account);
    return CLI_OK;
}

static int change_account(struct cli *cli, const char *op, struct json_object *args)
{
    struct json_object *account;
    json_add_text(args, "account", cli_argument(cli, 0));
    int exit = cli_store_apply(cli, op, args, &account);
    return exit ? exit : show_account(cli, account);
}

static int run_add(struct cli *cli)
{
    struct json_object *args = json_object_new_object();
    if (cli_value(cli, "class"))
        json_add_text(args, "class", bytes_cstr(cli_value(cli, "class")));
    json_object_object_add(args, "any_sender",
                           json_object_new_boolean(cli_flag(cli, "any-sender")));
    return change_account(cli, "account.add", args);
}

static int run_suspend(struct cli *cli)
{
    return change_account(cli, "account.suspend", json_object_new_object());
}

static int run_activate(struct cli *cli)
{
    return change_account(cli, "account.activate", json_object_new_object());
}

static int run_close(struct cli *cli)
{
    return change_account(cli, "account.close", json_object_new_object());
}

static void print_accounts(struct json_object *list)
{
    static const char *const headings[] = {"ACCOUNT", "STATE", "CLASS", "SENDERS", "CREATED", NULL};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *account = json_object_array_get_idx(list, i);
        cli_table_add(&table, json_find_text(account, "account"));
        cli_table_add(&table, json_find_text(account, "state"));
        cli_table_add(&table, json_find_text(account, "class"));
        cli_table_add(&table,
                      json_flag(account, "any_sender") ? BYTES("any") : BYTES("own domains"));
        cli_table_add(&table, json_find_text(account, "created_at"));
    }
    cli_table_print(&table);
    cli_table_done(&table);
}

static int run_list(struct cli *cli)
{
    struct json_object *result, *list;
    int exit = cli_store_apply(cli, "account.list", NULL, &result);
    if (exit)
        return exit;
    if (!json_object_object_get_ex(result, "accounts", &list))
        exit = cli_fail(CLI_TEMPORARY, "the answer has no accounts");
    else if (cli->json)
        for (size_t i = 0; i < cli_json_count(list); i++)
            cli_print_json(json_object_array_get_idx(list, i));
    else
        print_accounts(list);
    json_object_put(result);
    return exit;
}

static void print_options(struct json_object *options)
{
    static const char *const headings[] = {"OPTION", "VALUE", "ALLOWED", "WHAT", NULL};
    struct cli_table table;
    struct buf values = {0};
    cli_table_init(&table, headings);
    for (int i = 0; i < STORE_OPTIONS_COUNT; i++) {
        const struct store_option_row *row = store_option_row((enum store_option)i);
        buf_clear(&values);
        store_option_list_values((enum store_option)i, &values);
        cli_table_add(&table, bytes_cstr(row->name));
        cli_table_add(&table, json_find_text(options, row->name));
        cli_table_add(&table, buf_bytes(&values));
        cli_table_add(&table, bytes_cstr(row->help));
    }
    cli_table_print(&table);
    cli_table_done(&table);
    buf_done(&values);
}

// The account with its options, as account.show and account.set answer; takes over `args`.
static int show_options(struct cli *cli, const char *op, struct json_object *args)
{
    struct json_object *account, *options = NULL;
    json_add_text(args, "account", cli_argument(cli, 0));
    int exit = cli_store_apply(cli, op, args, &account);
    if (exit)
        return exit;
    json_object_object_get_ex(account, "options", &options);
    json_object_get(options);
    exit = show_account(cli, account);
    if (!cli->json)
        print_options(options);
    json_object_put(options);
    return exit;
}

static int run_show(struct cli *cli)
{
    return show_options(cli, "account.show", json_object_new_object());
}

static int run_set(struct cli *cli)
{
    struct json_object *args = json_object_new_object();
    json_add_text(args, "option", cli_argument(cli, 1));
    json_add_text(args, "value", cli_argument(cli, 2));
    return show_options(cli, "account.set", args);
}

static const struct cli_option add_options[] = {
    {"class", "CLASS", "class of its mail: transactional (default), personal or bulk",
     .words = cli_class_words},
    {"any-sender", NULL, "let it send as any domain, not only as those it has verified"},
    {NULL},
};

const struct cli_command cli_account_add = {
    .name = "account add",
    .arguments = "NAME",
    .help = "make an account",
    .more = "The same command again changes nothing. Works while the service is stopped, too.\n",
    .options = add_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_add,
};
const struct cli_command cli_account_list = {
    .name = "account list", .help = "list the accounts", .run = run_list};
const struct cli_command cli_account_show = {
    .name = "account show",
    .arguments = "NAME",
    .help = "an account and its options",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_show,
};
static void option_words(const char *before, struct buf *out)
{
    for (int i = 0; i < STORE_OPTIONS_COUNT; i++) {
        const struct store_option_row *row = store_option_row((enum store_option)i);
        if (!before)
            buf_printf(out, "%s%s", out->len ? " " : "", row->name);
        for (int v = 0; before && strcmp(before, row->name) == 0 && v < STORE_OPTION_VALUES_MAX &&
                        row->values[v];
             v++)
            buf_printf(out, "%s%s", v ? " " : "", row->values[v]);
    }
}

const struct cli_command cli_account_set = {
    .name = "account set",
    .arguments = "NAME OPTION VALUE",
    .help = "choose an option of an account",
    .more =
        "Options: preflight off|warn|hold|refuse, unsubscribe off|bulk,\n"
        "return_path off|message|recipient, suppressed refuse|remove, priority any|normal|off;\n"
        "`account show` says what they do. Holds for messages that begin from now on.\n",
    .arguments_min = 3,
    .arguments_max = 3,
    .argument_words = option_words,
    .run = run_set,
};
const struct cli_command cli_account_suspend = {
    .name = "account suspend",
    .arguments = "NAME",
    .help = "refuse its logins and hold its mail",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_suspend,
};
const struct cli_command cli_account_activate = {
    .name = "account activate",
    .arguments = "NAME",
    .help = "end a suspension",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_activate,
};
const struct cli_command cli_account_close = {
    .name = "account close",
    .arguments = "NAME",
    .help = "end it for ever; its logins and domains go, its name stays taken",
    .more = "Mail that it has queued is held: `queue bounce --account NAME` gives it back.\n",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_close,
};
