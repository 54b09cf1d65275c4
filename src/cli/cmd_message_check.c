// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_mail.h"
#include "cli/cli_store.h"
#include "dns/dns_query.h"
#include "mail/mail_header.h"
#include "mail/preflight.h"

#define LOOKUP_MS 10000

// ---- what the account does to it ---------------------------------------------------------------------------

static int ask_store(struct cli *cli, const char *op, struct json_object **out)
{
    struct json_object *args = json_object_new_object();
    json_add_text(args, "account", bytes_cstr(cli_value(cli, "account")));
    return cli_store_apply(cli, op, args, out);
}

// Does one of the list, whose field `flag` has the wanted value, name the domain or one above it?
static bool has_domain(struct json_object *list, const char *flag, const char *wanted,
                       struct bytes domain)
{
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        struct json_object *value = cli_json_field(one, flag);
        if (value && bytes_eq(bytes_cstr(json_object_get_string(value)), bytes_cstr(wanted)) &&
            mail_domain_is_within(domain, json_find_text(one, "domain")))
            return true;
    }
    return false;
}

// Would the account's mail from there be signed: a verified domain, at or above it, with a key that signs?
static int take_signing(struct cli *cli, struct bytes from_domain, struct preflight_facts *facts)
{
    struct json_object *domains, *keys = NULL;
    int exit = ask_store(cli, "domain.list", &domains);
    if (exit)
        return exit;
    exit = ask_store(cli, "dkim.list", &keys);
    facts->we_sign =
        !exit && has_domain(cli_json_field(domains, "domains"), "verified", "true", from_domain) &&
        has_domain(cli_json_field(keys, "keys"), "state", "active", from_domain);
    json_object_put(domains);
    json_object_put(keys);
    return exit;
}

static int take_account(struct cli *cli, struct bytes from_domain, struct preflight_facts *facts)
{
    struct json_object *account, *options;
    facts->alignment_unknown = !cli_value(cli, "account");
    if (facts->alignment_unknown)
        return CLI_OK;
    int exit = ask_store(cli, "account.show", &account);
    if (exit)
        return exit;
    (void)!mail_class_parse(json_find_text(account, "class"), &facts->class);
    options = cli_json_field(account, "options");
    facts->we_add_unsubscribe = cli_conf(cli)->unsubscribe.url.len &&
                                bytes_eq(json_find_text(options, "unsubscribe"), BYTES("bulk"));
    json_object_put(account);
    return take_signing(cli, from_domain, facts);
}

// The class that stands in the message, or is given, before the account's own.
static int take_class(struct cli *cli, const struct cli_mail *mail, struct preflight_facts *facts)
{
    struct mail_field field;
    const char *given = cli_value(cli, "class");
    if (given && mail_class_parse(bytes_cstr(given), &facts->class) != OK)
        return cli_fail_usage(cli, "--class: '%s' is no class: transactional, personal or bulk",
                              given);
    if (!given && mail_header_find(mail->header, BYTES("X-Posthaste-Class"), &field))
        (void)!mail_class_parse(bytes_trim(field.value), &facts->class);
    return CLI_OK;
}

// MAIL FROM as given, else with the From field's domain.
static int take_mail_from(struct cli *cli, struct bytes from_domain, struct buf *domain)
{
    const char *given = cli_value(cli, "from");
    struct mail_address address;
    if (!given) {
        buf_add(domain, from_domain);
        return CLI_OK;
    }
    if (*given && (mail_address_parse(bytes_cstr(given), &address) != OK ||
                   mail_domain_route(address.domain, domain) != OK))
        return cli_fail_usage(cli, "--from: '%s' is no mail address", given);
    return CLI_OK;
}

// ---- the DNS -----------------------------------------------------------------------------------------------

static bool has_none(const struct dns_question *q)
{
    return q->answer.code == DNS_NXDOMAIN || q->answer.code == DNS_NODATA;
}

// Certainly no mail: a null MX, or neither MX nor address.
static bool takes_no_mail(const struct dns_question q[3])
{
    const struct dns_answer *mx = &q[0].answer;
    if (mx->code == DNS_OK)
        return mx->count == 1 && mx->records[0].name.len == 0;
    return has_none(&q[0]) && has_none(&q[1]) && has_none(&q[2]);
}

static int look_up(struct cli *cli, struct bytes domain, struct preflight_facts *facts)
{
    const char *zone = cli_value(cli, "zone");
    const struct conf *conf = zone ? NULL : cli_conf(cli);
    struct dns_conf options = {0};
    struct dns_resolver resolver;
    struct buf error = {0};
    if (!domain.len || domain.at[0] == '[')
        return CLI_OK;
    if (!zone && !conf)
        return CLI_CONFIG;
    if (conf)
        options = (struct dns_conf){conf->dns.servers, conf->dns.servers_count,
                                    conf->dns.trust_anchor.len ? conf->dns.trust_anchor.at : NULL};
    int err = dns_resolver_open(&options, zone, &resolver, &error), exit = CLI_OK;
    if (err) {
        exit = cli_fail(zone ? cli_exit_of(err) : CLI_CONFIG, "%s", buf_cstr(&error));
    } else {
        struct dns_question q[] = {{.name = domain, .type = DNS_MX},
                                   {.name = domain, .type = DNS_A},
                                   {.name = domain, .type = DNS_AAAA}};
        dns_query_wait(resolver.dns, q, COUNT_OF(q), LOOKUP_MS, &cli->arena);
        facts->from_takes_no_mail = takes_no_mail(q);
        dns_resolver_close(&resolver);
    }
    buf_done(&error);
    return exit;
}

// ---- the verdict -------------------------------------------------------------------------------------------

static struct json_object *finding_json(const struct preflight_finding *f)
{
    const struct preflight_row *row = preflight_row(f->id);
    struct json_object *object = json_object_new_object();
    json_add_text(object, "id", bytes_cstr(row->name));
    json_add_text(object, "severity", bytes_cstr(preflight_severity_name(row->severity)));
    json_add_text(object, "where", bytes_cstr(f->where));
    json_add_text(object, "text", bytes_cstr(row->text));
    json_add_text(object, "fix", bytes_cstr(row->fix));
    return object;
}

static void show(struct cli *cli, const struct preflight_result *result)
{
    if (cli->json) {
        struct json_object *object = json_object_new_object(), *list = json_object_new_array();
        json_add_text(object, "verdict", bytes_cstr(preflight_severity_name(result->verdict)));
        for (size_t i = 0; i < result->count; i++)
            json_object_array_add(list, finding_json(&result->findings[i]));
        json_object_object_add(object, "findings", list);
        cli_print_json(object);
        json_object_put(object);
        return;
    }
    printf("verdict: %s\n", preflight_severity_name(result->verdict));
    for (size_t i = 0; i < result->count; i++) {
        const struct preflight_row *row = preflight_row(result->findings[i].id);
        printf("\n%s: %s\n  where  %s\n  why    %s\n  fix    %s\n",
               preflight_severity_name(row->severity), row->name, result->findings[i].where,
               row->text, row->fix);
    }
}

static int check(struct cli *cli, const struct cli_mail *mail)
{
    struct preflight *p = preflight_new();
    struct preflight_facts facts = {.class = MAIL_TRANSACTIONAL};
    struct preflight_result result;
    struct buf mail_from = {0};
    preflight_feed(p, buf_bytes(&mail->text));
    struct bytes domain = preflight_from_domain(p);
    int exit = take_account(cli, domain, &facts);
    if (!exit)
        exit = take_class(cli, mail, &facts);
    if (!exit)
        exit = take_mail_from(cli, domain, &mail_from);
    if (!exit)
        exit = look_up(cli, domain, &facts);
    facts.mail_from = buf_bytes(&mail_from);
    if (!exit) {
        preflight_finish(p, &facts, &result);
        show(cli, &result);
    }
    buf_done(&mail_from);
    preflight_free(p);
    return exit;
}

static int run_check(struct cli *cli)
{
    struct cli_mail mail;
    int exit = cli_mail_read(&mail);
    if (!exit)
        exit = check(cli, &mail);
    cli_mail_done(&mail);
    return exit;
}

static const struct cli_option check_options[] = {
    {"account", "NAME", "as mail of this account: its class, its keys, its options"},
    {"from", "ADDRESS", "the address of MAIL FROM (default: of the From field's domain)"},
    {"class", "CLASS", "its class (default: X-Posthaste-Class, else the account's)",
     .words = cli_class_words},
    {"zone", "FILE", "answer DNS questions from this JSON file, not from servers"},
    {NULL},
};

const struct cli_command cli_message_check = {
    .name = "message check",
    .help = "what receivers would hold against a message on standard input",
    .more =
        "The verdict is ok, warn or refuse, the worst of what was found; what the service does\n"
        "with such mail is the account's option `preflight`. Without --account nothing is said\n"
        "about signatures, for nobody knows whose mail it is.\n"
        "Exit code 0 whenever a verdict was reached; 65: no message.\n",
    .options = check_options,
    .run = run_check,
};
