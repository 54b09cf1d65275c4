// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"

#define FOLLOW_PAUSE_MS 200
#define PAGE "1000"

struct events {
    struct cli *cli;
    uint64_t cursor; // of the last one printed
    uint64_t count;  // of this page
};

static void print_event(struct json_object *event, struct arena *arena)
{
    static const char *const fields[] = {"at",     "type", "id",       "recipient", "lane",
                                         "reason", "code", "enhanced", "text"};
    struct buf line = {0};
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        if (!cli_json_field(event, fields[i]))
            continue;
        if (line.len)
            buf_add_cstr(&line, "  ");
        size_t from = line.len;
        buf_add_visible(&line, cli_json_cell(event, fields[i], arena), 1024);
        for (; i == 1 && line.len < from + 9;)
            buf_add_byte(&line, ' ');
    }
    puts(buf_cstr(&line));
    buf_done(&line);
}

static bool on_event(void *ctx, struct json_object *event)
{
    struct events *e = ctx;
    struct arena arena = {0};
    e->cursor = cli_json_number(event, "cursor");
    e->count++;
    if (e->cli->json)
        cli_print_json(event);
    else
        print_event(event, &arena);
    arena_done(&arena);
    return true;
}

static int ask_page(struct events *e)
{
    char path[128];
    e->count = 0;
    uint64_t before = e->cursor;
    snprintf(path, sizeof path, "/v1/events?max=" PAGE "&after=%" PRIu64, e->cursor);
    int exit = cli_ask_lines(e->cli, path, on_event, e);
    if (!exit && e->count && e->cursor <= before)
        return cli_fail(CLI_TEMPORARY, "posthaste answered with events that were told before");
    return exit;
}

static int run(struct cli *cli)
{
    struct events e = {.cli = cli};
    const char *after = cli_value(cli, "after");
    if (after && bytes_to_u64(bytes_cstr(after), INT64_MAX, &e.cursor) != OK)
        return cli_fail_usage(cli, "events: --after takes the cursor of an event");
    for (;;) {
        int exit = ask_page(&e);
        if (exit)
            return exit;
        if (fflush(stdout) != 0)
            return CLI_OK; // nobody reads on, as with `events --follow | head`
        if (e.count)
            continue;
        if (!cli_flag(cli, "follow"))
            return CLI_OK;
        usleep(FOLLOW_PAUSE_MS * 1000);
    }
}

static const struct cli_option options[] = {
    {"follow", NULL, "go on with events as they happen"},
    {"after", "CURSOR", "only events after this one; default: from the beginning of the history"},
    {NULL},
};

const struct cli_command cli_events = {
    .name = "events",
    .help = "what happened to all mail, in order",
    .more =
        "To go on later, give the last cursor seen to --after. Events that share a cursor (the\n"
        "recipients of one acceptance) always come together.\n",
    .options = options,
    .run = run,
};
