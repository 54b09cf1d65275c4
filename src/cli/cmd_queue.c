// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"

// ---- list --------------------------------------------------------------------------------------------

struct rows {
    struct cli *cli;
    const char *const *keys; // of the columns, ended by NULL
    struct cli_table table;
    uint64_t next; // cursor of the next page
    bool more;
};

static bool on_row(void *ctx, struct json_object *row)
{
    struct rows *r = ctx;
    r->more = cli_json_field(row, "next") != NULL;
    if (r->more)
        r->next = cli_json_number(row, "next");
    else if (r->cli->json)
        cli_print_json(row);
    else
        for (int i = 0; r->keys[i]; i++)
            cli_table_add(&r->table, cli_json_cell(row, r->keys[i], &r->cli->arena));
    return true;
}

static const struct cli_option list_options[] = {
    {"id", "ID", "only this message"},
    {"domain", "DOMAIN", "only recipients of this domain"},
    {"account", "NAME", "only mail of this account"},
    {NULL},
};

static void make_list_path(struct cli *cli, uint64_t cursor, struct buf *path)
{
    buf_clear(path);
    buf_add_cstr(path, "/v1/queue");
    for (int i = 0; list_options[i].name; i++)
        if (cli_value(cli, list_options[i].name))
            cli_add_query(path, list_options[i].name,
                          bytes_cstr(cli_value(cli, list_options[i].name)));
    if (cursor)
        cli_add_query(path, "cursor",
                      arena_printf(&cli->arena, "%llu", (unsigned long long)cursor));
}

static int run_list(struct cli *cli)
{
    static const char *const headings[] = {"ID",         "ACCOUNT",  "CLASS", "DOMAIN", "STATE",
                                           "RECIPIENTS", "ATTEMPTS", "NEXT",  NULL};
    static const char *const keys[] = {"id",       "account",         "class",
                                       "domain",   "state",           "recipients",
                                       "attempts", "next_attempt_at", NULL};
    struct rows rows = {.cli = cli, .keys = keys};
    struct buf path = {0};
    int exit;
    cli_table_init(&rows.table, headings);
    do {
        make_list_path(cli, rows.next, &path);
        rows.more = false;
        exit = cli_ask_lines(cli, buf_cstr(&path), on_row, &rows);
    } while (exit == CLI_OK && rows.more);
    if (exit == CLI_OK)
        cli_table_print(&rows.table);
    cli_table_done(&rows.table);
    buf_done(&path);
    return exit;
}

const struct cli_command cli_queue_list = {
    .name = "queue list",
    .help = "list what is queued: a line for each message and domain",
    .options = list_options,
    .run = run_list,
};

// ---- lanes -------------------------------------------------------------------------------------------

// What is told whole, in one answer.
static int list_all(struct cli *cli, const char *path, const char *const *headings,
                    const char *const *keys)
{
    struct rows rows = {.cli = cli, .keys = keys};
    cli_table_init(&rows.table, headings);
    int exit = cli_ask_lines(cli, path, on_row, &rows);
    if (exit == CLI_OK)
        cli_table_print(&rows.table);
    cli_table_done(&rows.table);
    return exit;
}

static int run_lanes(struct cli *cli)
{
    static const char *const headings[] = {"LANE",   "READY",   "CONNECTIONS", "HOUR", "DAY",
                                           "OLDEST", "BACKOFF", "TEXT",        NULL};
    static const char *const keys[] = {"lane",          "ready",    "connections",
                                       "hour_used",     "day_used", "oldest_at",
                                       "backoff_until", "text",     NULL};
    return list_all(cli, "/v1/lanes", headings, keys);
}

const struct cli_command cli_queue_lanes = {
    .name = "queue lanes",
    .help = "list the lanes: where mail goes out, and what holds it up",
    .run = run_lanes,
};

// ---- holds -------------------------------------------------------------------------------------------

static int run_holds(struct cli *cli)
{
    static const char *const headings[] = {"SCOPE",    "DOMAIN",     "ACCOUNT", "SINCE", "BY",
                                           "MESSAGES", "RECIPIENTS", "REASON",  NULL};
    static const char *const keys[] = {"scope",    "domain",     "account", "since", "actor",
                                       "messages", "recipients", "reason",  NULL};
    return list_all(cli, "/v1/holds", headings, keys);
}

const struct cli_command cli_queue_holds = {
    .name = "queue holds",
    .help = "list the standing holds: who holds later mail, too, and why",
    .more = "What `queue hold` with --domain, --account or --all has begun and `queue release` has "
            "not\nended.\n",
    .run = run_holds,
};

// ---- actions -----------------------------------------------------------------------------------------

static const struct cli_option action_options[] = {
    {"id", "ID", "this message"},
    {"domain", "DOMAIN", "recipients of this domain"},
    {"account", "NAME", "mail of this account"},
    {"recipient", "ADDRESS", "recipients with this address"},
    {"all", NULL, "everything"},
    {"reason", "TEXT", "why: one line, for whom it concerns"},
    {"dry-run", NULL, "say how many match, change nothing"},
    {"progress", NULL, "say each second how far it is, also when that is no terminal"},
    {NULL},
};

// The request, or NULL when not exactly one selection is given.
static struct json_object *make_action(struct cli *cli, const char *action)
{
    static const char *const selections[] = {"id", "domain", "account", "recipient"};
    struct json_object *request = json_object_new_object();
    int given = 0;
    json_add_text(request, "action", bytes_cstr(action));
    for (size_t i = 0; i < COUNT_OF(selections); i++)
        if (cli_value(cli, selections[i])) {
            json_add_text(request, selections[i], bytes_cstr(cli_value(cli, selections[i])));
            given++;
        }
    if (cli_flag(cli, "all")) {
        json_object_object_add(request, "all", json_object_new_boolean(true));
        given++;
    }
    if (cli_value(cli, "reason"))
        json_add_text(request, "reason", bytes_cstr(cli_value(cli, "reason")));
    if (cli_flag(cli, "dry-run"))
        json_object_object_add(request, "dry_run", json_object_new_boolean(true));
    if (given == 1)
        return request;
    json_object_put(request);
    return NULL;
}

static void print_counts(struct cli *cli, const char *action, struct json_object *answer)
{
    unsigned long long matched = cli_json_number(answer, "matched"),
                       changed = cli_json_number(answer, "changed");
    bool dry_run = cli_flag(cli, "dry-run");
    printf("%s: %llu recipients match, %llu changed%s\n", action, matched, changed,
           dry_run ? " (dry run)" : "");
    if (strcmp(action, "release") == 0 && !dry_run && matched > changed)
        printf("Another hold still covers %llu: `posthaste message why ID` names it.\n",
               matched - changed);
}

static int act(struct cli *cli, const char *action)
{
    struct json_object *answer, *request = make_action(cli, action);
    if (!request)
        return cli_fail_usage(cli,
                              "%s: give exactly one of --id, --domain, --account, --recipient "
                              "and --all",
                              cli->command->name);
    int exit = cli_ask_work(cli, "/v1/queue", request, &answer);
    json_object_put(request);
    if (exit)
        return exit;
    if (cli->json)
        cli_print_json(answer);
    else
        print_counts(cli, action, answer);
    json_object_put(answer);
    return CLI_OK;
}

static int run_hold(struct cli *cli)
{
    return act(cli, "hold");
}
static int run_release(struct cli *cli)
{
    return act(cli, "release");
}
static int run_retry(struct cli *cli)
{
    return act(cli, "retry");
}
static int run_bounce(struct cli *cli)
{
    return act(cli, "bounce");
}
static int run_delete(struct cli *cli)
{
    return act(cli, "delete");
}

const struct cli_command cli_queue_hold = {
    .name = "queue hold",
    .help = "keep recipients in the queue until released",
    .more = "With --domain, --account and --all it holds later mail, too, until released the same "
            "way;\n`queue holds` lists these.\n",
    .options = action_options,
    .run = run_hold,
};
const struct cli_command cli_queue_release = {
    .name = "queue release",
    .help = "end a hold",
    .more =
        "--id lets the message through standing holds. --all also releases a restored backup.\n",
    .options = action_options,
    .run = run_release,
};
const struct cli_command cli_queue_retry = {
    .name = "queue retry",
    .help = "try recipients now, whatever their schedule",
    .options = action_options,
    .run = run_retry,
};
const struct cli_command cli_queue_bounce = {
    .name = "queue bounce",
    .help = "fail recipients; their senders are told",
    .options = action_options,
    .run = run_bounce,
};
const struct cli_command cli_queue_delete = {
    .name = "queue delete",
    .help = "remove recipients; nobody is told",
    .options = action_options,
    .run = run_delete,
};
