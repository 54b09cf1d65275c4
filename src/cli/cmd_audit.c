// SPDX-License-Identifier: MIT
//
// posthaste audit
#include <json-c/json.h>
#include <stdio.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "conf/conf_value.h"

#define LIMIT_INITIAL 100
#define PAGE_MAX 1000

// A time as it is given, or how long ago ("2h").
static void add_time(struct cli *cli, struct json_object *args, const char *key)
{
    const char *text = cli_value(cli, key);
    int64_t ms;
    struct buf at = {0};
    if (!text)
        return;
    if (conf_value_duration(bytes_cstr(text), &ms) == OK)
        wall_format(wall_add_ms(cli_store_now(), -ms), &at);
    else
        buf_add_cstr(&at, text);
    json_add_text(args, key, buf_bytes(&at));
    buf_done(&at);
}

static struct json_object *make_args(struct cli *cli, uint64_t max, uint64_t before)
{
    struct json_object *args = json_object_new_object();
    add_time(cli, args, "since");
    add_time(cli, args, "until");
    if (cli_value(cli, "user"))
        json_add_text(args, "user", bytes_cstr(cli_value(cli, "user")));
    if (cli_value(cli, "action"))
        json_add_text(args, "action", bytes_cstr(cli_value(cli, "action")));
    json_object_object_add(args, "max", json_object_new_uint64(max < PAGE_MAX ? max : PAGE_MAX));
    if (before)
        json_object_object_add(args, "before", json_object_new_uint64(before));
    return args;
}

// The arguments as words: "account=acme class=bulk".
static struct bytes words_of(struct json_object *args, struct arena *arena)
{
    struct buf out = {0};
    struct json_object_iterator it = json_object_iter_begin(args);
    struct json_object_iterator end = json_object_iter_end(args);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *value = json_object_get_string(json_object_iter_peek_value(&it));
        buf_printf(&out, "%s%s=%s", out.len ? " " : "", json_object_iter_peek_name(&it),
                   value ? value : "-");
    }
    struct bytes words = arena_dup(arena, buf_bytes(&out));
    buf_done(&out);
    return words;
}

static void add_row(struct cli_table *table, struct json_object *entry)
{
    struct arena *arena = &table->arena;
    struct json_object *args = cli_json_field(entry, "args");
    cli_table_add(table, cli_json_cell(entry, "at", arena));
    cli_table_add(table, cli_json_cell(entry, "actor", arena));
    cli_table_add(table, cli_json_cell(entry, "action", arena));
    cli_table_add(table, cli_json_field(entry, "outcome") ? cli_json_cell(entry, "outcome", arena)
                                                          : BYTES("not known"));
    cli_table_add(table, cli_json_cell(entry, "detail", arena));
    cli_table_add(table,
                  json_object_is_type(args, json_type_object) ? words_of(args, arena) : BYTES_NONE);
}

// A page; *out_next: where the next begins, 0: there is none.
static int show_page(struct cli *cli, struct json_object *page, uint64_t *out_next)
{
    static const char *const headings[] = {"AT",     "WHO",       "ACTION", "OUTCOME",
                                           "DETAIL", "ARGUMENTS", NULL};
    struct json_object *entries = cli_json_field(page, "entries");
    struct cli_table table;
    size_t count = cli_json_count(entries);
    cli_table_init(&table, headings);
    for (size_t i = 0; i < count; i++) {
        struct json_object *entry = json_object_array_get_idx(entries, i);
        if (cli->json)
            cli_print_json(entry);
        else
            add_row(&table, entry);
    }
    if (!cli->json)
        cli_table_print(&table);
    cli_table_done(&table);
    *out_next = cli_json_number(page, "next");
    return (int)count;
}

static int run(struct cli *cli)
{
    const char *limit = cli_value(cli, "limit");
    uint64_t left = LIMIT_INITIAL, next = 0;
    int exit = CLI_OK;
    if (limit && (bytes_to_u64(bytes_cstr(limit), INT32_MAX, &left) != OK || !left))
        return cli_fail_usage(cli, "audit: --limit wants a number from 1 to %d", INT32_MAX);
    do {
        struct json_object *page;
        exit = cli_store_apply(cli, "audit.list", make_args(cli, left, next), &page);
        if (exit)
            break;
        left -= (uint64_t)show_page(cli, page, &next);
        json_object_put(page);
    } while (next && left);
    return exit;
}

static const struct cli_option options[] = {
    {"since", "TIME", "from then on: 2026-01-31T12:00:00Z, or how long ago: 2h"},
    {"until", "TIME", "before then"},
    {"user", "USER", "only this user's: a name, or a number"},
    {"action", "ACTION", "only this action, such as queue.delete, or kind of it, such as queue"},
    {"limit", "N", "at most so many; default: 100"},
    {NULL},
};

const struct cli_command cli_audit = {
    .name = "audit",
    .help = "who did what, when, and what became of it, the newest first",
    .more = "Everything that changes something is in it, and who tried what they may not. An "
            "outcome that is\n"
            "not known is of an action in which the service ended. Works while it is stopped, "
            "too.\n",
    .options = options,
    .run = run,
};
