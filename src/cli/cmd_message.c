// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"

static void print_escaped(const char *label, struct bytes text)
{
    struct buf shown = {0};
    buf_add_visible(&shown, text, 4096);
    if (shown.len)
        printf("%-12s %s\n", label, buf_cstr(&shown));
    buf_done(&shown);
}

// ---- show --------------------------------------------------------------------------------------------

// "user-unknown 550 5.1.1 No such user (mx1.example.org)"
static struct bytes last_cell(struct json_object *recipient, struct arena *arena)
{
    static const char *const parts[] = {"reason", "code", "enhanced", "text"};
    struct json_object *last = cli_json_field(recipient, "last");
    struct buf text = {0};
    if (!last)
        return BYTES("-");
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (cli_json_field(last, parts[i]))
            buf_printf(&text, "%s%s", text.len ? " " : "",
                       json_object_get_string(cli_json_field(last, parts[i])));
    if (cli_json_field(last, "mx"))
        buf_printf(&text, " (%s)", json_object_get_string(cli_json_field(last, "mx")));
    struct bytes cell = arena_dup(arena, buf_bytes(&text));
    buf_done(&text);
    return cell;
}

static void print_recipients(struct cli *cli, struct json_object *list)
{
    static const char *const headings[] = {"RECIPIENT", "STATE", "ATTEMPTS", "NEXT", "LAST", NULL};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *recipient = json_object_array_get_idx(list, i);
        cli_table_add(&table, json_find_text(recipient, "address"));
        cli_table_add(&table, json_find_text(recipient, "state"));
        cli_table_add(&table, cli_json_cell(recipient, "attempts", &cli->arena));
        cli_table_add(&table, cli_json_cell(recipient, "next_attempt_at", &cli->arena));
        cli_table_add(&table, last_cell(recipient, &cli->arena));
    }
    cli_table_print(&table);
    cli_table_done(&table);
}

// What came back about recipients, if anything: one row each.
static void print_feedback(struct cli *cli, struct json_object *list)
{
    static const char *const headings[] = {"RECIPIENT", "CAME BACK", "REASON", "AT", "TEXT", NULL};
    struct cli_table table;
    size_t count = 0;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *recipient = json_object_array_get_idx(list, i);
        struct json_object *feedback = cli_json_field(recipient, "feedback");
        size_t n = cli_json_count(feedback);
        for (size_t k = 0; k < n; k++, count++) {
            struct json_object *one = json_object_array_get_idx(feedback, k);
            cli_table_add(&table, json_find_text(recipient, "address"));
            cli_table_add(&table, json_find_text(one, "kind"));
            cli_table_add(&table, cli_json_cell(one, "reason", &cli->arena));
            cli_table_add(&table, cli_json_cell(one, "at", &cli->arena));
            cli_table_add(&table, cli_json_cell(one, "diagnostic", &cli->arena));
        }
    }
    if (count) {
        putchar('\n');
        cli_table_print(&table);
    }
    cli_table_done(&table);
}

// What preflight has found, if anything.
static void print_findings(struct json_object *list)
{
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        struct buf text = {0};
        buf_printf(&text, "%.*s (%.*s): %.*s", BYTES_FMT(json_find_text(one, "id")),
                   BYTES_FMT(json_find_text(one, "where")), BYTES_FMT(json_find_text(one, "text")));
        print_escaped("preflight", buf_bytes(&text));
        buf_done(&text);
    }
}

static int run_show(struct cli *cli)
{
    static const char *const fields[] = {
        "id",    "account", "credential",  "class", "tag",      "sender",    "message_id",
        "envid", "size",    "accepted_at", "body",  "priority", "not_before"};
    struct json_object *message;
    struct buf path = {0};
    buf_add_cstr(&path, "/v1/message");
    cli_add_query(&path, "id", cli_argument(cli, 0));
    int exit = cli_ask(cli, buf_cstr(&path), NULL, &message);
    buf_done(&path);
    if (exit)
        return exit;
    if (cli->json) {
        cli_print_json(message);
    } else {
        for (size_t i = 0; i < COUNT_OF(fields); i++)
            if (cli_json_field(message, fields[i]))
                print_escaped(fields[i], cli_json_cell(message, fields[i], &cli->arena));
        print_findings(cli_json_field(message, "preflight"));
        putchar('\n');
        print_recipients(cli, cli_json_field(message, "recipients"));
        print_feedback(cli, cli_json_field(message, "recipients"));
    }
    json_object_put(message);
    return CLI_OK;
}

const struct cli_command cli_message_show = {
    .name = "message show",
    .arguments = "ID",
    .help = "what has become of a message",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_show,
};

// ---- find --------------------------------------------------------------------------------------------

static const struct cli_option find_options[] = {
    {"recipient", "ADDRESS", "to this address; @example.org: to anybody there"},
    {"sender", "ADDRESS", "with this reverse-path; <>: the null sender"},
    {"message-id", "ID", "with this Message-ID field"},
    {"envid", "ENVID", "with this ENVID (RFC 3461)"},
    {"tag", "TAG", "with this X-Posthaste-Tag"},
    {"account", "NAME", "of this account"},
    {"since", "TIME", "accepted at or after this time, such as 2026-11-22T05:57:00Z"},
    {"until", "TIME", "accepted before this time"},
    {NULL},
};

struct found {
    struct cli *cli;
    struct cli_table table;
};

// "delivered", or "delivered 2, queued 1".
static struct bytes states_cell(struct json_object *list, struct arena *arena)
{
    static const char *const states[] = {"queued", "held",    "delivered",
                                         "failed", "expired", "removed"};
    size_t total = cli_json_count(list);
    struct buf text = {0};
    for (size_t k = 0; k < COUNT_OF(states); k++) {
        size_t n = 0;
        for (size_t i = 0; i < total; i++)
            n += bytes_eq(json_find_text(json_object_array_get_idx(list, i), "state"),
                          bytes_cstr(states[k]));
        if (n == total)
            buf_add_cstr(&text, states[k]);
        else if (n)
            buf_printf(&text, "%s%s %zu", text.len ? ", " : "", states[k], n);
    }
    struct bytes cell = arena_dup(arena, buf_bytes(&text));
    buf_done(&text);
    return cell;
}

static bool on_found(void *ctx, struct json_object *message)
{
    struct found *f = ctx;
    if (f->cli->json) {
        cli_print_json(message);
        return true;
    }
    struct json_object *list = cli_json_field(message, "recipients");
    size_t count = cli_json_count(list);
    struct bytes first =
        count ? json_find_text(json_object_array_get_idx(list, 0), "address") : BYTES("-");
    cli_table_add(&f->table, json_find_text(message, "id"));
    cli_table_add(&f->table, json_find_text(message, "accepted_at"));
    cli_table_add(&f->table, cli_json_cell(message, "sender", &f->cli->arena));
    cli_table_add(&f->table, count > 1 ? arena_printf(&f->cli->arena, "%.*s and %zu more",
                                                      BYTES_FMT(first), count - 1)
                                       : first);
    cli_table_add(&f->table, states_cell(list, &f->cli->arena));
    return true;
}

static int run_find(struct cli *cli)
{
    static const char *const headings[] = {"ID", "ACCEPTED", "SENDER", "RECIPIENTS", "STATE", NULL};
    static const struct {
        const char *option, *query;
    } filters[] = {{"recipient", "recipient"}, {"sender", "sender"}, {"message-id", "message_id"},
                   {"envid", "envid"},         {"tag", "tag"},       {"account", "account"}};
    struct buf path = {0};
    buf_add_cstr(&path, "/v1/messages");
    for (size_t i = 0; i < COUNT_OF(filters); i++)
        if (cli_value(cli, filters[i].option))
            cli_add_query(&path, filters[i].query, bytes_cstr(cli_value(cli, filters[i].option)));
    if (bytes_find(buf_bytes(&path), '?') < 0) {
        buf_done(&path);
        return cli_fail_usage(cli, "message find: say what to look for: --recipient, --sender, "
                                   "--message-id, --envid, --tag or --account");
    }
    if (cli_value(cli, "since"))
        cli_add_query(&path, "since", bytes_cstr(cli_value(cli, "since")));
    if (cli_value(cli, "until"))
        cli_add_query(&path, "until", bytes_cstr(cli_value(cli, "until")));
    struct found found = {.cli = cli};
    cli_table_init(&found.table, headings);
    int exit = cli_ask_lines(cli, buf_cstr(&path), on_found, &found);
    if (exit == CLI_OK)
        cli_table_print(&found.table);
    cli_table_done(&found.table);
    buf_done(&path);
    return exit;
}

const struct cli_command cli_message_find = {
    .name = "message find",
    .help = "find messages, the newest first",
    .more = "What is given must all hold. At most 1000 messages are shown.\n",
    .options = find_options,
    .run = run_find,
};

// ---- why ---------------------------------------------------------------------------------------------

static int run_why(struct cli *cli)
{
    struct json_object *reason;
    struct buf path = {0};
    buf_add_cstr(&path, "/v1/why");
    cli_add_query(&path, "id", cli_argument(cli, 0));
    cli_add_query(&path, "recipient", cli_argument(cli, 1));
    int exit = cli_ask(cli, buf_cstr(&path), NULL, &reason);
    buf_done(&path);
    if (exit)
        return exit;
    if (cli->json) {
        cli_print_json(reason);
    } else {
        print_escaped("limit", json_find_text(reason, "limit"));
        print_escaped("until", json_find_text(reason, "until"));
        print_escaped("setting", json_find_text(reason, "setting"));
        print_escaped("text", json_find_text(reason, "text"));
        if (cli_json_field(reason, "last"))
            print_escaped("last", last_cell(reason, &cli->arena));
    }
    json_object_put(reason);
    return CLI_OK;
}

const struct cli_command cli_message_why = {
    .name = "message why",
    .arguments = "ID [RECIPIENT]",
    .help = "what a message waits for, until when, and which setting counts",
    .more =
        "RECIPIENT is an address or its number in the message; default: the first one queued.\n",
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run_why,
};
