// SPDX-License-Identifier: MIT
//
// cmd_trace - message trace; trace add, list, remove
#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "conf/conf_value.h"

// ---- message trace -----------------------------------------------------------------------------------

static void print_field(const char *label, struct bytes text)
{
    struct buf shown = {0};
    buf_add_visible(&shown, text, 4096);
    printf("%-12s %s\n", label, buf_cstr(&shown));
    buf_done(&shown);
}

// A reply of several lines, as it came: "250-...", "250 ...".
static void print_line(struct json_object *line)
{
    struct bytes text = json_find_text(line, "text"), one = BYTES_NONE,
                 from = json_find_text(line, "from");
    uint64_t code = cli_json_number(line, "code");
    const char *mark = bytes_eq(from, BYTES("us"))       ? ">"
                       : bytes_eq(from, BYTES("server")) ? "<"
                                                         : "*";
    for (bool more = true; more;) {
        struct buf shown = {0};
        more = bytes_find(text, '\n') >= 0;
        (void)bytes_cut(&text, '\n', &one);
        if (code)
            buf_printf(&shown, "%llu%s", (unsigned long long)code, more ? "-" : " ");
        buf_add_visible(&shown, one, 2048);
        printf("%8llu  %s %s\n", (unsigned long long)cli_json_number(line, "ms"), mark,
               buf_cstr(&shown));
        buf_done(&shown);
    }
}

static void print_recipients(struct json_object *list)
{
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        print_field("recipient", json_text(one));
    }
}

static void print_trace(struct cli *cli, struct json_object *trace)
{
    static const char *const FIELDS[] = {"id", "at", "result", "mx", "ip", "tls", "lane"};
    struct json_object *lines = cli_json_field(trace, "dialogue");
    uint64_t left_out = cli_json_number(trace, "left_out");
    for (size_t i = 0; i < COUNT_OF(FIELDS); i++)
        if (cli_json_field(trace, FIELDS[i]))
            print_field(FIELDS[i], cli_json_cell(trace, FIELDS[i], &cli->arena));
    print_recipients(cli_json_field(trace, "recipients"));
    if (!lines) {
        printf("\nThe dialogue is not in memory any more (limits.trace_memory).\n"
               "`posthaste trace add` records the next one.\n");
        return;
    }
    printf("\n%8s\n", "ms");
    for (size_t i = 0; i < cli_json_count(lines); i++)
        print_line(json_object_array_get_idx(lines, i));
    if (left_out)
        printf("\n%llu lines in the middle are left out.\n", (unsigned long long)left_out);
}

static int run_trace(struct cli *cli)
{
    struct json_object *trace;
    struct buf path = {0};
    buf_add_cstr(&path, "/v1/trace");
    cli_add_query(&path, "id", cli_argument(cli, 0));
    cli_add_query(&path, "recipient", cli_argument(cli, 1));
    int exit = cli_ask(cli, buf_cstr(&path), NULL, &trace);
    buf_done(&path);
    if (exit)
        return exit;
    if (cli->json)
        cli_print_json(trace);
    else
        print_trace(cli, trace);
    json_object_put(trace);
    return CLI_OK;
}

const struct cli_command cli_message_trace = {
    .name = "message trace",
    .arguments = "ID [RECIPIENT]",
    .help = "the SMTP dialogue of a message's last attempt",
    .more = "Passwords and content are never in it. Dialogues are kept in memory "
            "(limits.trace_memory),\n"
            "those of failures longer; where there is none left, the record says how it ended.\n"
            "RECIPIENT is an address or its number in the message.\n",
    .arguments_min = 1,
    .arguments_max = 2,
    .run = run_trace,
};

// ---- trace add, list, remove -------------------------------------------------------------------------

static int change(struct cli *cli, const char *op, struct bytes until)
{
    struct json_object *body = json_object_new_object(), *args = json_object_new_object(), *done;
    json_object_object_add(body, "op", json_object_new_string(op));
    json_object_object_add(body, "args", args);
    json_add_text(args, "address", cli_argument(cli, 0));
    if (until.len)
        json_add_text(args, "until", until);
    int exit = cli_ask(cli, "/v1/trace", body, &done);
    if (exit)
        return exit;
    if (cli->json)
        cli_print_json(done);
    else if (cli_json_field(done, "until"))
        printf("mail to %.*s is traced until %.*s\n", BYTES_FMT(json_find_text(done, "address")),
               BYTES_FMT(json_find_text(done, "until")));
    json_object_put(done);
    return CLI_OK;
}

static int run_add(struct cli *cli)
{
    const char *text = cli_value(cli, "for");
    struct timespec now;
    struct buf until = {0};
    int64_t ms = 3600000;
    if (text && conf_value_duration(bytes_cstr(text), &ms) != OK)
        return cli_fail_usage(cli, "trace add: --for takes a duration such as 30m or 2d");
    clock_gettime(CLOCK_REALTIME, &now);
    wall_format(wall_add_ms((struct wall){(int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000}, ms),
                &until);
    int exit = change(cli, "trace.add", buf_bytes(&until));
    buf_done(&until);
    return exit;
}

static const struct cli_option add_options[] = {
    {"for", "DURATION", "for how long, at most 7d; default: 1h"},
    {NULL},
};

const struct cli_command cli_trace_add = {
    .name = "trace add",
    .arguments = "ADDRESS|@DOMAIN",
    .help = "record all that is said when mail goes to this address",
    .more = "From the next attempt on, in full, for `message trace` and into the log, until its "
            "time is\n"
            "over.\n",
    .options = add_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_add,
};

static int run_remove(struct cli *cli)
{
    return change(cli, "trace.remove", BYTES_NONE);
}

const struct cli_command cli_trace_remove = {
    .name = "trace remove",
    .arguments = "ADDRESS|@DOMAIN",
    .help = "record no more",
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_remove,
};

struct listing {
    struct cli *cli;
    struct cli_table table;
};

static bool on_watch(void *ctx, struct json_object *watch)
{
    struct listing *l = ctx;
    if (l->cli->json) {
        cli_print_json(watch);
        return true;
    }
    cli_table_add(&l->table, cli_json_cell(watch, "address", &l->cli->arena));
    cli_table_add(&l->table, cli_json_cell(watch, "until", &l->cli->arena));
    return true;
}

static int run_list(struct cli *cli)
{
    static const char *const HEADINGS[] = {"ADDRESS", "UNTIL", NULL};
    struct listing l = {.cli = cli};
    cli_table_init(&l.table, HEADINGS);
    int exit = cli_ask_lines(cli, "/v1/traces", on_watch, &l);
    if (exit == CLI_OK)
        cli_table_print(&l.table);
    cli_table_done(&l.table);
    return exit;
}

const struct cli_command cli_trace_list = {
    .name = "trace list",
    .help = "of whom all is recorded, and until when",
    .run = run_list,
};
