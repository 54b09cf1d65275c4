// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"

// Several lines as one.
static void add_cell(struct cli_table *table, struct bytes text)
{
    struct buf cell = {0};
    struct bytes line;
    while (bytes_cut(&text, '\n', &line)) {
        buf_add_cstr(&cell, cell.len ? ", " : "");
        buf_add(&cell, line);
    }
    cli_table_add(table, cell.len ? buf_bytes(&cell) : BYTES("-"));
    buf_done(&cell);
}

static bool is_ok(struct json_object *check)
{
    return bytes_eq(json_find_text(check, "state"), BYTES("ok"));
}

// Of several lines the first has the name.
static void print_lines(const char *name, struct bytes text)
{
    struct bytes line;
    while (bytes_cut(&text, '\n', &line)) {
        struct buf shown = {0};
        buf_add_visible(&shown, line, 4096);
        if (line.len)
            printf("  %-6s %s\n", name, buf_cstr(&shown));
        buf_done(&shown);
        name = "";
    }
}

// What is wrong, with what there should be and what to do.
static void print_fixes(struct json_object *checks)
{
    for (size_t i = 0; i < cli_json_count(checks); i++) {
        struct json_object *check = json_object_array_get_idx(checks, i);
        if (is_ok(check))
            continue;
        printf("\n%.*s: %.*s\n", BYTES_FMT(json_find_text(check, "id")),
               BYTES_FMT(json_find_text(check, "state")));
        print_lines("want", json_find_text(check, "want"));
        print_lines("found", json_find_text(check, "found"));
        print_lines("fix", json_find_text(check, "fix"));
    }
}

static void print_checks(struct json_object *checks)
{
    static const char *const headings[] = {"CHECK", "STATE", "FOUND", NULL};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(checks); i++) {
        struct json_object *check = json_object_array_get_idx(checks, i);
        cli_table_add(&table, json_find_text(check, "id"));
        cli_table_add(&table, json_find_text(check, "state"));
        add_cell(&table, json_find_text(check, "found"));
    }
    cli_table_print(&table);
    cli_table_done(&table);
    print_fixes(checks);
}

static int run_check(struct cli *cli)
{
    struct json_object *result, *checks = NULL;
    struct buf path = {0};
    buf_add_cstr(&path, "/v1/domain-check");
    cli_add_query(&path, "domain", cli_argument(cli, 0));
    if (cli_value(cli, "account"))
        cli_add_query(&path, "account", bytes_cstr(cli_value(cli, "account")));
    int exit = cli_ask(cli, buf_cstr(&path), NULL, &result);
    buf_done(&path);
    if (exit)
        return exit;
    if (!json_object_object_get_ex(result, "checks", &checks))
        exit = cli_fail(CLI_TEMPORARY, "the answer has no checks");
    else if (cli->json)
        cli_print_json(result);
    else
        print_checks(checks);
    json_object_put(result);
    return exit;
}

static const struct cli_option check_options[] = {
    {"account", "NAME", "which account's, where several have the domain"},
    {NULL},
};

const struct cli_command cli_domain_check = {
    .name = "domain check",
    .arguments = "DOMAIN",
    .help = "look in the DNS whether all is in place for the domain's mail",
    .more =
        "Checks ownership, spf, dkim, dmarc, return_path, mx, ptr and tls, and says what to do\n"
        "about each that is missing or wrong; \"unknown\": the DNS gave no answer. A domain whose\n"
        "ownership record is found is verified from then on, as by `domain verify`; a return\n"
        "path that is found is used from then on.\n"
        "Exit code 0 whenever the checks were made, whatever they found.\n",
    .options = check_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_check,
};
