// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>

#include "cli/cli_commands.h"
#include "cli/cli_dkim.h"
#include "cli/cli_domain.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "cli/cli_txt.h"
#include "store/store_password.h"
#include "sys/sys.h"

static bool is_verified(struct json_object *domain)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(domain, "verified", &value) && json_object_get_boolean(value);
}

static void print_domain(struct json_object *domain)
{
    struct bytes account = json_find_text(domain, "account"),
                 name = json_find_text(domain, "domain");
    printf("domain %.*s of account %.*s: %s\n", BYTES_FMT(name), BYTES_FMT(account),
           is_verified(domain) ? "verified" : "not verified");
    printf("\nRecords to publish:\n");
    cli_domain_print_records(domain);
    if (!is_verified(domain))
        printf("\nThen run: posthaste domain verify %.*s %.*s\n", BYTES_FMT(account),
               BYTES_FMT(name));
    printf("\nTo see what is still missing: posthaste domain check %.*s\n", BYTES_FMT(name));
}

static void show_domain(struct cli *cli, struct json_object *domain)
{
    (void)cli_dkim_look_after(cli); // keys are made now, if the service runs
    cli_domain_complete(cli, domain);
    if (cli->json)
        cli_print_json(domain);
    else
        print_domain(domain);
}

static struct json_object *domain_args(struct cli *cli)
{
    struct json_object *args = json_object_new_object();
    json_add_text(args, "account", cli_argument(cli, 0));
    json_add_text(args, "domain", cli_argument(cli, 1));
    return args;
}

static int run_add(struct cli *cli)
{
    uint8_t random[STORE_PASSWORD_RANDOM];
    char token[STORE_PASSWORD_CHARS + 1];
    struct json_object *args = domain_args(cli), *domain;
    sys_random(random, sizeof random);
    store_password_generate(random, token);
    json_add_text(args, "token", bytes_cstr(token));
    json_object_object_add(args, "trust", json_object_new_boolean(cli_flag(cli, "trust")));
    int exit = cli_store_apply(cli, "domain.add", args, &domain);
    if (!exit)
        show_domain(cli, domain);
    json_object_put(domain);
    return exit;
}

// The account's own entry of the domain, by name.
static int find_domain(struct cli *cli, struct json_object **out_domain)
{
    struct json_object *result, *list = NULL;
    *out_domain = NULL;
    int exit = cli_store_apply(cli, "domain.show", domain_args(cli), &result);
    if (exit)
        return exit;
    if (json_object_object_get_ex(result, "domains", &list) && cli_json_count(list) == 1)
        *out_domain = json_object_get(json_object_array_get_idx(list, 0));
    json_object_put(result);
    return *out_domain ? CLI_OK : cli_fail(CLI_TEMPORARY, "the answer has no domain");
}

static int refuse(enum cli_txt_answer answer, struct bytes name, struct buf *seen)
{
    if (answer == CLI_TXT_NONE)
        return cli_fail(CLI_TEMPORARY, "there is no TXT record at %.*s yet", BYTES_FMT(name));
    if (answer == CLI_TXT_OTHER)
        return cli_fail(CLI_TEMPORARY, "the TXT record at %.*s is another one: \"%s\"",
                        BYTES_FMT(name), buf_cstr(seen));
    return cli_fail(CLI_TEMPORARY, "looking up %.*s failed: %s", BYTES_FMT(name), buf_cstr(seen));
}

// Looks for the record; CLI_OK if it is there.
static int prove(struct cli *cli, struct json_object *domain)
{
    struct json_object *proof = cli_domain_proof(domain);
    struct bytes name = json_find_text(proof, "name");
    enum cli_txt_answer answer;
    struct buf seen = {0};
    int err = cli_txt_ask(cli_conf(cli), name, json_find_text(proof, "value"), &answer, &seen);
    int exit = CLI_OK;
    if (err)
        exit =
            cli_fail(CLI_CONFIG, "the resolver does not start (dns.servers, dns.trust_anchor): %s",
                     err_text(err));
    else if (answer != CLI_TXT_FOUND)
        exit = refuse(answer, name, &seen);
    buf_done(&seen);
    return exit;
}

static int run_verify(struct cli *cli)
{
    struct json_object *domain, *verified = NULL;
    int exit = find_domain(cli, &domain);
    if (!exit && !is_verified(domain))
        exit = prove(cli, domain);
    if (!exit)
        exit = cli_store_apply(cli, "domain.verified", domain_args(cli), &verified);
    if (!exit)
        show_domain(cli, verified);
    json_object_put(verified);
    json_object_put(domain);
    return exit;
}

static int run_remove(struct cli *cli)
{
    struct json_object *result;
    int exit = cli_store_apply(cli, "domain.remove", domain_args(cli), &result);
    if (exit)
        return exit;
    if (cli->json)
        cli_print_json(result);
    else
        printf("domain %.*s removed\n", BYTES_FMT(json_find_text(result, "domain")));
    json_object_put(result);
    return CLI_OK;
}

static void print_domains(struct json_object *list)
{
    static const char *const headings[] = {"ACCOUNT", "DOMAIN", "STATE", "TXT RECORD", NULL};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *domain = json_object_array_get_idx(list, i);
        cli_table_add(&table, json_find_text(domain, "account"));
        cli_table_add(&table, json_find_text(domain, "domain"));
        cli_table_add(&table, is_verified(domain) ? BYTES("verified") : BYTES("not verified"));
        cli_table_add(&table, is_verified(domain)
                                  ? BYTES("-")
                                  : json_find_text(cli_domain_proof(domain), "value"));
    }
    cli_table_print(&table);
    cli_table_done(&table);
}

static int run_list(struct cli *cli)
{
    struct json_object *args = json_object_new_object(), *result, *list;
    if (cli->arguments_count)
        json_add_text(args, "account", cli_argument(cli, 0));
    int exit = cli_store_apply(cli, "domain.list", args, &result);
    if (exit)
        return exit;
    if (!json_object_object_get_ex(result, "domains", &list))
        exit = cli_fail(CLI_TEMPORARY, "the answer has no domains");
    else if (cli->json)
        for (size_t i = 0; i < cli_json_count(list); i++) {
            cli_domain_complete(cli, json_object_array_get_idx(list, i));
            cli_print_json(json_object_array_get_idx(list, i));
        }
    else
        print_domains(list);
    json_object_put(result);
    return exit;
}

static const struct cli_option add_options[] = {
    {"trust", NULL, "take it as verified: you answer for it"},
    {NULL},
};

const struct cli_command cli_domain_add = {
    .name = "domain add",
    .arguments = "ACCOUNT DOMAIN",
    .help = "a domain that the account wants to send as",
    .more =
        "Prints the records that the domain's owner is to publish: the one that proves that the\n"
        "domain is the account's (until that is verified the account can't send as it), SPF,\n"
        "DKIM, DMARC and the return path. The same command again prints them again.\n"
        "Subdomains are domains of their own.\n",
    .options = add_options,
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_add,
};
const struct cli_command cli_domain_list = {
    .name = "domain list",
    .arguments = "[ACCOUNT]",
    .help = "list the sender domains",
    .arguments_max = 1,
    .run = run_list,
};
const struct cli_command cli_domain_verify = {
    .name = "domain verify",
    .arguments = "ACCOUNT DOMAIN",
    .help = "look for the TXT record; if it is there, the account may send",
    .more = "Exit code 75: the record is not there (yet), or DNS did not answer.\n",
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_verify,
};
const struct cli_command cli_domain_remove = {
    .name = "domain remove",
    .arguments = "ACCOUNT DOMAIN",
    .help = "the account can't send as it any more",
    .arguments_min = 2,
    .arguments_max = 2,
    .run = run_remove,
};
