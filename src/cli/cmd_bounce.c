// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>
#include <unistd.h>

#include "base/check.h"
#include "bounce/bounce_class.h"
#include "cli/cli_commands.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "route/route_file.h"

static const char *const ACTIONS[] = {[DSN_FAILED] = "failed",
                                      [DSN_DELAYED] = "delayed",
                                      [DSN_DELIVERED] = "delivered",
                                      [DSN_RELAYED] = "relayed",
                                      [DSN_EXPANDED] = "expanded"};

// The built-in rules, and before them those that the configuration names. NULL: told why not.
static struct bounce_rules *load_rules(const struct conf *conf)
{
    struct bounce_rules *rules = NULL;
    struct buf text, errors = {0};
    buf_init(&text, BOUNCE_RULES_FILE_MAX);
    int err = conf->bounce.rules.len ? route_file_read(conf->bounce.rules.at, &text) : OK;
    if (err)
        cli_fail(CLI_CONFIG, "bounce.rules: %s: %s", conf->bounce.rules.at, err_text(err));
    else if (bounce_rules_load(buf_bytes(&text), conf->bounce.rules.at, &rules, &errors))
        fputs(buf_cstr(&errors), stderr);
    buf_done(&text);
    buf_done(&errors);
    return rules;
}

// ---- printing ----------------------------------------------------------------------------------------------

static struct json_object *record_object(const struct bounce_record *record)
{
    struct json_object *o = json_object_new_object();
    const char *reason = bounce_reason_name(record->class.reason);
    json_add_text(o, "recipient", record->recipient);
    json_object_object_add(o, "action", json_object_new_string(ACTIONS[record->action]));
    json_add_text(o, "status", record->status);
    json_object_object_add(o, "reply_code",
                           record->reply_code ? json_object_new_int(record->reply_code) : NULL);
    json_object_object_add(o, "reason", json_object_new_string(reason));
    json_object_object_add(o, "hard", json_object_new_boolean(record->class.hard));
    json_add_text(o, "diagnostic", record->diagnostic);
    return o;
}

static void print_json(const struct bounce_mail *mail)
{
    struct json_object *o = json_object_new_object();
    struct json_object *records = json_object_new_array();
    json_object_object_add(o, "kind", json_object_new_string(bounce_kind_name(mail->kind)));
    for (uint32_t i = 0; i < mail->count; i++)
        json_object_array_add(records, record_object(&mail->records[i]));
    json_object_object_add(o, "records", records);
    cli_print_json(o);
    json_object_put(o);
}

static void print_table(struct cli *cli, const struct bounce_mail *mail)
{
    static const char *const headings[] = {"RECIPIENT", "ACTION",     "STATUS", "REASON",
                                           "HARD",      "DIAGNOSTIC", NULL};
    struct cli_table table;
    puts(bounce_kind_name(mail->kind));
    if (!mail->count)
        return;
    cli_table_init(&table, headings);
    for (uint32_t i = 0; i < mail->count; i++) {
        const struct bounce_record *record = &mail->records[i];
        cli_table_add(&table, record->recipient.len ? record->recipient : BYTES("-"));
        cli_table_add(&table, bytes_cstr(ACTIONS[record->action]));
        cli_table_add(&table, record->status.len ? record->status : BYTES("-"));
        cli_table_add(&table, bytes_cstr(bounce_reason_name(record->class.reason)));
        cli_table_add(&table, record->class.hard ? BYTES("hard") : BYTES("no"));
        cli_table_add(&table, record->diagnostic.len ? record->diagnostic : BYTES("-"));
    }
    cli_table_print(&table);
    cli_table_done(&table);
    (void)cli;
}

// ---- classifying -------------------------------------------------------------------------------------------

static void classify_reply(const struct bounce_rules *rules, struct bytes text, struct arena *arena,
                           struct bounce_mail *out)
{
    struct bounce_reply reply;
    struct bounce_verdict v = bounce_classify_text(rules, text, &reply);
    struct bounce_record *record = arena_new(arena, sizeof *record);
    *record = (struct bounce_record){.action = DSN_FAILED,
                                     .status = reply.enhanced,
                                     .reply_code = reply.code,
                                     .class = v.class,
                                     .diagnostic = text,
                                     .rule = v.rule};
    *out = (struct bounce_mail){.kind = BOUNCE_KIND_BOUNCE, .records = record, .count = 1};
    if (v.class.reason == BOUNCE_DELIVERED) {
        record->action = DSN_DELIVERED;
        out->kind = BOUNCE_KIND_SUCCESS;
    } else if (v.again) {
        record->action = DSN_DELAYED;
        out->kind = BOUNCE_KIND_DELAY;
    } else if (!reply.code && !reply.enhanced.len && !v.rule.len) {
        *out = (struct bounce_mail){.kind = BOUNCE_KIND_OTHER}; // no reply at all
    }
}

// E_IO; more than BOUNCE_MAIL_MAX bytes are left unread.
static int read_input(struct buf *out)
{
    for (;;) {
        char *room = out->len < BOUNCE_MAIL_MAX ? buf_reserve(out, 65536) : NULL;
        ssize_t n = room ? read(STDIN_FILENO, room, 65536) : 0;
        if (n <= 0)
            return n < 0 ? E_IO : OK;
        buf_commit(out, (size_t)n);
    }
}

static int classify_input(struct cli *cli, const struct bounce_rules *rules,
                          struct bounce_mail *out)
{
    struct buf mail = {0};
    int err = read_input(&mail);
    if (!err)
        bounce_classify_mail(rules, buf_bytes(&mail), &cli->arena, out);
    bool empty = bytes_trim(buf_bytes(&mail)).len == 0;
    buf_done(&mail);
    if (err)
        return cli_fail(CLI_DATA, "standard input cannot be read");
    return empty ? cli_fail(CLI_DATA, "there is no mail on standard input") : CLI_OK;
}

static int run(struct cli *cli)
{
    const struct conf *conf = cli_conf(cli);
    struct bounce_rules *rules = conf ? load_rules(conf) : NULL;
    if (!rules)
        return CLI_CONFIG;
    struct bounce_mail mail;
    const char *reply = cli_value(cli, "reply");
    int exit = CLI_OK;
    if (reply)
        classify_reply(rules, bytes_trim(bytes_cstr(reply)), &cli->arena, &mail);
    else
        exit = classify_input(cli, rules, &mail);
    if (exit == CLI_OK && cli->json)
        print_json(&mail);
    else if (exit == CLI_OK)
        print_table(cli, &mail);
    bounce_rules_free(rules);
    return exit;
}

static const struct cli_option OPTIONS[] = {
    {"reply", "TEXT", "an SMTP reply instead of a mail, such as \"550 5.1.1 no such user\"", false},
    {0},
};

const struct cli_command cli_bounce_classify = {
    .name = "bounce classify",
    .help = "tell what a mail that came back, or an SMTP reply, means",
    .more = "The mail is read from standard input. docs/BOUNCES.md explains the classes and the "
            "rules.\n",
    .options = OPTIONS,
    .run = run,
};
