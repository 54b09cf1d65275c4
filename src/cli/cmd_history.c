// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "conf/conf_value.h"

#define LIMIT_INITIAL 100
#define LIMIT_MAX 10000

struct page {
    struct cli *cli;
    struct cli_table table;
    struct bytes cursor; // of the last event
    uint64_t count;
};

// "550 5.1.1 no such user".
static struct bytes said_cell(struct json_object *event, struct arena *arena)
{
    static const char *const PARTS[] = {"code", "enhanced", "text"};
    struct buf text = {0};
    for (size_t i = 0; i < COUNT_OF(PARTS); i++)
        if (cli_json_field(event, PARTS[i]))
            buf_printf(&text, "%s%s", text.len ? " " : "",
                       json_object_get_string(cli_json_field(event, PARTS[i])));
    struct bytes cell = text.len ? arena_dup(arena, buf_bytes(&text)) : BYTES("-");
    buf_done(&text);
    return cell;
}

static bool on_event(void *ctx, struct json_object *event)
{
    static const char *const CELLS[] = {"at", "type", "id", "sender", "recipient"};
    struct page *p = ctx;
    struct arena *arena = &p->cli->arena;
    p->count++;
    p->cursor = arena_dup(arena, json_find_text(event, "cursor"));
    if (p->cli->json) {
        cli_print_json(event);
        return true;
    }
    for (size_t i = 0; i < COUNT_OF(CELLS); i++)
        cli_table_add(&p->table, cli_json_cell(event, CELLS[i], arena));
    cli_table_add(&p->table, said_cell(event, arena));
    return true;
}

// A time, or how long ago ("2h").
static struct bytes time_of(struct cli *cli, const char *text)
{
    int64_t ms;
    struct timespec now;
    if (conf_value_duration(bytes_cstr(text), &ms) != OK)
        return bytes_cstr(text);
    clock_gettime(CLOCK_REALTIME, &now);
    struct wall at = {(int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000};
    struct buf shown = {0};
    wall_format(wall_add_ms(at, -ms), &shown);
    struct bytes kept = arena_dup(&cli->arena, buf_bytes(&shown));
    buf_done(&shown);
    return kept;
}

static int add_limit(struct cli *cli, struct buf *path, uint64_t *out)
{
    const char *text = cli_value(cli, "limit");
    *out = LIMIT_INITIAL;
    if (text && (bytes_to_u64(bytes_cstr(text), LIMIT_MAX, out) != OK || *out == 0))
        return cli_fail_usage(cli, "history: --limit takes a number from 1 to %d", LIMIT_MAX);
    buf_printf(path, "?max=%llu", (unsigned long long)*out);
    return CLI_OK;
}

static int run_history(struct cli *cli)
{
    static const char *const HEADINGS[] = {"AT",        "EVENT", "ID", "SENDER",
                                           "RECIPIENT", "SAID",  NULL};
    static const struct {
        const char *option, *query;
    } TEXTS[] = {{"recipient", "recipient"}, {"sender", "sender"}, {"message-id", "message_id"},
                 {"envid", "envid"},         {"tag", "tag"},       {"account", "account"},
                 {"type", "type"},           {"before", "before"}};
    static const char *const TIMES[] = {"since", "until"};
    struct buf path = {0};
    uint64_t limit;
    buf_add_cstr(&path, "/v1/history");
    int exit = add_limit(cli, &path, &limit);
    for (size_t i = 0; i < COUNT_OF(TEXTS) && !exit; i++)
        if (cli_value(cli, TEXTS[i].option))
            cli_add_query(&path, TEXTS[i].query, bytes_cstr(cli_value(cli, TEXTS[i].option)));
    for (size_t i = 0; i < COUNT_OF(TIMES) && !exit; i++)
        if (cli_value(cli, TIMES[i]))
            cli_add_query(&path, TIMES[i], time_of(cli, cli_value(cli, TIMES[i])));
    struct page page = {.cli = cli};
    cli_table_init(&page.table, HEADINGS);
    if (!exit)
        exit = cli_ask_lines(cli, buf_cstr(&path), on_event, &page);
    if (exit == CLI_OK)
        cli_table_print(&page.table);
    if (exit == CLI_OK && page.count >= limit && !cli->json)
        fprintf(stderr, "there may be more: --before %.*s\n", BYTES_FMT(page.cursor));
    cli_table_done(&page.table);
    buf_done(&path);
    return exit;
}

static const char *const TYPES[] = {"accepted", "deferred", "delivered", "bounced",
                                    "expired",  "held",     "released",  "removed",
                                    "dsn",      "feedback", NULL};

static const struct cli_option options[] = {
    {"recipient", "ADDRESS", "to this address; @example.org: to anybody there"},
    {"sender", "ADDRESS", "with this reverse-path; <>: the null sender"},
    {"message-id", "ID", "with this Message-ID field"},
    {"envid", "ENVID", "with this ENVID (RFC 3461)"},
    {"tag", "TAG", "with this X-Posthaste-Tag"},
    {"account", "NAME", "of this account"},
    {"type", "TYPE", "only events of this type", .words = TYPES},
    {"since", "TIME", "from this time on, such as 2026-11-22T05:57:00Z, or how long ago: 2h"},
    {"until", "TIME", "before this time, or so long ago"},
    {"limit", "N", "at most about so many, 1 to 10000; default: 100"},
    {"before", "CURSOR", "go on behind the event with this cursor, the last of an earlier page"},
    {NULL},
};

const struct cli_command cli_history = {
    .name = "history",
    .help = "look for what happened to mail, the newest first",
    .more =
        "What is given must all hold; without anything it shows what happened last. Recipients of\n"
        "one acceptance always come together. History is kept for events.keep.\n",
    .options = options,
    .run = run_history,
};
