// SPDX-License-Identifier: MIT
//
// How it works: as Postfix's postqueue prints it, because programs read that: a line for each message, with * where it
// is being delivered and ! where it is held, reasons in parentheses, a line for each recipient.
#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/sendmail.h"

#define REASON_WIDTH 76

struct listing {
    struct arena arena;
    struct message_id_text {
        char at[40];
    } last; // a message may come again on the next page
    uint64_t next, messages, bytes;
    bool more, failed;
};

// "Mon Nov 23 10:11:12", local time, of "2026-11-23T09:11:12.000Z".
static void format_arrival(struct bytes text, char out[32])
{
    struct wall at;
    struct tm local;
    snprintf(out, 32, "%s", "-");
    if (wall_parse(text, &at) != OK)
        return;
    time_t seconds = (time_t)(at.us / 1000000);
    if (localtime_r(&seconds, &local))
        strftime(out, 32, "%a %b %e %H:%M:%S", &local);
}

// Bytes from outside, as they may be shown.
static const char *shown(struct listing *l, struct json_object *object, const char *key)
{
    struct buf out = {0};
    struct json_object *value = cli_json_field(object, key);
    buf_add_visible(&out, bytes_cstr(value ? json_object_get_string(value) : ""), 1000);
    const char *kept = arena_dup(&l->arena, buf_bytes(&out)).at;
    buf_done(&out);
    return kept ? kept : "";
}

static void print_recipients(struct listing *l, struct json_object *list)
{
    const char *before = "";
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        const char *reason = shown(l, one, "reason");
        int width = REASON_WIDTH - (int)strlen(reason);
        if (reason[0] && strcmp(reason, before) != 0)
            printf("%*s(%s)\n", width > 0 ? width : 0, "", reason);
        before = reason;
        printf("%-21s %8s %19s %s\n", "", "", "", shown(l, one, "address"));
    }
}

static bool on_message(void *ctx, struct json_object *message)
{
    struct listing *l = ctx;
    char id[32], arrival[32];
    struct json_object *at = cli_json_field(message, "accepted_at");
    l->more = cli_json_field(message, "next") != NULL;
    if (l->more) {
        l->next = cli_json_number(message, "next");
        return true;
    }
    const char *state = shown(l, message, "state"), *name = shown(l, message, "id");
    if (strcmp(name, l->last.at) == 0)
        return true;
    snprintf(l->last.at, sizeof l->last.at, "%s", name);
    snprintf(id, sizeof id, "%.24s%s", name,
             strcmp(state, "active") == 0 ? "*"
             : strcmp(state, "held") == 0 ? "!"
                                          : "");
    format_arrival(bytes_cstr(at ? json_object_get_string(at) : ""), arrival);
    const char *sender = shown(l, message, "sender");
    if (l->messages == 0)
        printf("%-21s %8s %19s %s\n", "------Queue ID-------", "--Size--", "---Arrival Time----",
               "--Sender/Recipient------");
    printf("%s%-21s %8llu %19.19s %s\n", l->messages ? "\n" : "", id,
           (unsigned long long)cli_json_number(message, "size"), arrival,
           sender[0] ? sender : "MAILER-DAEMON");
    print_recipients(l, cli_json_field(message, "recipients"));
    l->messages++;
    l->bytes += cli_json_number(message, "size");
    return true;
}

static int list(struct cli *cli)
{
    struct listing l = {0};
    struct buf path = {0};
    int code;
    do {
        buf_clear(&path);
        buf_add_cstr(&path, "/v1/mailq");
        if (l.next)
            buf_printf(&path, "?cursor=%llu", (unsigned long long)l.next);
        l.more = false;
        code = cli_ask_lines(cli, buf_cstr(&path), on_message, &l);
        arena_done(&l.arena);
    } while (code == CLI_OK && l.more);
    buf_done(&path);
    if (code == CLI_OK && l.messages)
        printf("\n-- %llu Kbytes in %llu Request%s.\n", (unsigned long long)(l.bytes / 1024),
               (unsigned long long)l.messages, l.messages == 1 ? "" : "s");
    else if (code == CLI_OK)
        puts("Mail queue is empty");
    return code;
}

static int run_mailq(int argc, char **argv)
{
    struct sendmail options;
    struct sendmail_places places;
    struct cli cli = {.command = &cli_mailq};
    int code = sendmail_parse(argc, argv, &options);
    if (!code)
        code = sendmail_find_places(options.config, &cli.arena, &places);
    if (!code) {
        struct conf where = {.control = places.control}; // all that asking needs
        cli.conf = &where;
        code = list(&cli);
    }
    arena_done(&cli.arena);
    return code;
}

const struct cli_command cli_mailq = {
    .name = "mailq",
    .help = "list the queue as Postfix's mailq does",
    .more =
        "Called by the name mailq, and by sendmail -bp, too. A line for each message: its id, with "
        "*\n"
        "where it is being delivered and ! where it is held, its size, when it came, its sender;\n"
        "why it still waits, in parentheses, and to whom. Users without a role (roles.operators,\n"
        "roles.readers) see the mail that they sent by sendmail.\n",
    .run_itself = run_mailq,
};
