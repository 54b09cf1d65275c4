// SPDX-License-Identifier: MIT
//
// The keys that the service signs with: list, rotate, import, and the zone that CNAMEs point into.
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_dkim.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "cli/control_client.h"
#include "daemon/key_seal.h"
#include "sign/dkim_key.h"
#include "sign/domain_records.h"

#define PEM_MAX ((size_t)64 << 10)
#define ZONE_TTL_S 300

int cli_dkim_look_after(struct cli *cli)
{
    const struct conf *conf = cli_conf(cli);
    struct json_object *body = json_object_new_object();
    struct control_reply reply = {0};
    struct buf error = {0};
    if (conf && control_request(conf->control, "/v1/dkim", body, &reply, &error) == OK)
        json_object_put(reply.body);
    buf_done(&error);
    json_object_put(body);
    return conf ? CLI_OK : CLI_CONFIG;
}

// ---- what is there -------------------------------------------------------------------------------------

static struct json_object *owner_args(struct bytes account, struct bytes domain)
{
    struct json_object *args = json_object_new_object();
    if (account.len)
        json_add_text(args, "account", account);
    if (domain.len)
        json_add_text(args, "domain", domain);
    return args;
}

// The array of dkim.list, its own reference.
static int list_keys(struct cli *cli, struct bytes account, struct bytes domain, bool pairs,
                     struct json_object **out)
{
    struct json_object *result, *keys = NULL, *args = owner_args(account, domain);
    json_object_object_add(args, "pairs", json_object_new_boolean(pairs));
    *out = NULL;
    int exit = cli_store_apply(cli, "dkim.list", args, &result);
    if (!exit && json_object_object_get_ex(result, "keys", &keys))
        *out = json_object_get(keys);
    json_object_put(result);
    return !exit && !*out ? cli_fail(CLI_TEMPORARY, "the answer has no keys") : exit;
}

int cli_dkim_published(struct cli *cli, struct bytes account, struct bytes domain,
                       struct json_object **out_keys)
{
    struct json_object *all;
    *out_keys = NULL;
    bool pairs = cli_conf(cli)->domains.dkim == CONF_DKIM_CNAME;
    int exit = list_keys(cli, account, domain, pairs, &all);
    if (exit)
        return exit;
    *out_keys = json_object_new_array();
    for (size_t i = 0; i < cli_json_count(all); i++) {
        struct json_object *key = json_object_array_get_idx(all, i);
        if (bytes_eq_nocase(json_find_text(key, "account"), account)) // null: the service's
            json_object_array_add(*out_keys, json_object_get(key));
    }
    json_object_put(all);
    return CLI_OK;
}

// A record as a zone file has it, `class` with the blank behind it, or empty.
static void print_txt(struct bytes name, const char *class, struct bytes text)
{
    struct buf value = {0};
    domain_format_txt(text, &value);
    printf("%.*s. %sTXT %s\n", BYTES_FMT(name), class, buf_cstr(&value));
    buf_done(&value);
}

// The record of a key in its own domain.
static void print_key_txt(struct bytes selector, struct bytes domain, struct bytes record)
{
    struct buf name = {0};
    dkim_key_name(selector, domain, &name);
    print_txt(buf_bytes(&name), "", record);
    buf_done(&name);
}

// The record that the CNAME of a key leads to, in the service's zone.
static void print_zone_record(struct cli *cli, struct json_object *key)
{
    char class[32];
    struct bytes name = domain_key_target(cli_conf(cli), json_find_text(key, "domain"),
                                          json_find_text(key, "selector"), &cli->arena);
    snprintf(class, sizeof class, "%d IN ", ZONE_TTL_S);
    print_txt(name, class, json_find_text(key, "record"));
}

// ---- list ----------------------------------------------------------------------------------------------

static void print_keys(struct json_object *keys)
{
    static const char *const headings[] = {"DOMAIN", "ACCOUNT", "SELECTOR", "ALGORITHM",
                                           "STATE",  "SINCE",   NULL};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(keys); i++) {
        struct json_object *key = json_object_array_get_idx(keys, i);
        struct bytes account = json_find_text(key, "account"), state = json_find_text(key, "state");
        const char *since = bytes_eq(state, BYTES("new"))      ? "created_at"
                            : bytes_eq(state, BYTES("active")) ? "active_at"
                                                               : "old_at";
        cli_table_add(&table, json_find_text(key, "domain"));
        cli_table_add(&table, account.len ? account : BYTES("(service)"));
        cli_table_add(&table, json_find_text(key, "selector"));
        cli_table_add(&table, json_find_text(key, "algorithm"));
        cli_table_add(&table, state);
        cli_table_add(&table, json_find_text(key, since));
    }
    cli_table_print(&table);
    cli_table_done(&table);
}

static void show_keys(struct cli *cli, struct json_object *keys)
{
    if (!cli->json) {
        print_keys(keys);
        return;
    }
    for (size_t i = 0; i < cli_json_count(keys); i++)
        cli_print_json(json_object_array_get_idx(keys, i));
}

static int run_list(struct cli *cli)
{
    struct json_object *keys;
    struct bytes account = cli->arguments_count > 0 ? cli_argument(cli, 0) : BYTES_NONE;
    struct bytes domain = cli->arguments_count > 1 ? cli_argument(cli, 1) : BYTES_NONE;
    int exit = list_keys(cli, account, domain, false, &keys);
    if (!exit)
        show_keys(cli, keys);
    json_object_put(keys);
    return exit;
}

// ---- rotate --------------------------------------------------------------------------------------------

// ACCOUNT DOMAIN, or --service: the domain in the configuration.
static int take_owner(struct cli *cli, struct bytes *out_account, struct bytes *out_domain)
{
    bool service = cli_flag(cli, "service");
    const struct conf *conf = cli_conf(cli);
    if (!conf)
        return CLI_CONFIG;
    if (service ? cli->arguments_count != 0 : cli->arguments_count != 2)
        return cli_fail_usage(cli, "either ACCOUNT and DOMAIN, or --service");
    if (service && !conf->dkim.service_domain.len)
        return cli_fail(CLI_CONFIG, "dkim.service_domain is not configured");
    *out_account = service ? BYTES_NONE : cli_argument(cli, 0);
    *out_domain = service ? conf->dkim.service_domain : cli_argument(cli, 1);
    return CLI_OK;
}

static bool is_new(struct json_object *key)
{
    return bytes_eq(json_find_text(key, "state"), BYTES("new"));
}

// The records of the keys that are not in use yet: what the domain's owner is to publish, or, where his CNAMEs lead
// to it, the operator in the service's zone.
static void print_new(struct cli *cli, struct json_object *keys)
{
    const struct conf *conf = cli_conf(cli);
    bool in_zone = conf->domains.dkim == CONF_DKIM_CNAME, any = false;
    for (size_t i = 0; i < cli_json_count(keys); i++) {
        struct json_object *key = json_object_array_get_idx(keys, i);
        if (!is_new(key))
            continue;
        if (!any && in_zone)
            printf("\nRecords to publish in the zone %.*s:\n", BYTES_FMT(conf->domains.dkim_zone));
        else if (!any)
            printf("\nRecords to publish:\n");
        any = true;
        if (in_zone)
            print_zone_record(cli, key);
        else
            print_key_txt(json_find_text(key, "selector"), json_find_text(key, "domain"),
                          json_find_text(key, "record"));
    }
    if (!any)
        printf("\nThere are no new keys yet: the service makes them while it runs%s.\nThe same "
               "command again prints their records then.\n",
               in_zone ? ", once the names of the old ones are free (dkim.grace)" : "");
}

static int run_rotate(struct cli *cli)
{
    struct bytes account, domain;
    struct json_object *result = NULL, *keys = NULL;
    int exit = take_owner(cli, &account, &domain);
    if (!exit)
        exit = cli_store_apply(cli, "dkim.rotate", owner_args(account, domain), &result);
    json_object_put(result);
    if (!exit)
        exit = cli_dkim_look_after(cli);
    if (!exit)
        exit = cli_dkim_published(cli, account, domain, &keys);
    if (!exit)
        show_keys(cli, keys);
    if (!exit && !cli->json)
        print_new(cli, keys);
    json_object_put(keys);
    return exit;
}

// ---- import --------------------------------------------------------------------------------------------

static int read_pem(struct cli *cli, struct buf *out)
{
    buf_init(out, PEM_MAX);
    for (;;) {
        char *room = buf_reserve(out, 4096);
        ssize_t n = room ? read(STDIN_FILENO, room, 4096) : -1;
        if (n < 0)
            return cli_fail(CLI_DATA, "standard input is no private key in PEM");
        if (n == 0)
            return CLI_OK;
        buf_commit(out, (size_t)n);
    }
}

static void add_hex(struct json_object *args, const char *key, struct bytes data)
{
    struct buf hex = {0};
    for (size_t i = 0; i < data.len; i++)
        buf_printf(&hex, "%02x", (unsigned char)data.at[i]);
    json_add_text(args, key, buf_bytes(&hex));
    buf_done(&hex);
}

// Made here, it belongs to who starts the service: to root where that gives up its privileges itself (`user`), else to
// the owner of the state folder, as the databases do.
static int load_master(struct cli *cli, struct key_master *out)
{
    const char *path = cli_conf(cli)->dkim.master_key.at;
    struct stat folder;
    bool is_new = access(path, F_OK) == -1;
    int err = key_master_load(path, true, out);
    if (err || !is_new || geteuid() != 0 || cli_conf(cli)->user.len)
        return err;
    if (stat(cli_conf(cli)->state.at, &folder) == -1 ||
        lchown(path, folder.st_uid, folder.st_gid) == -1)
        return err_from_errno(errno);
    return OK;
}

// The key is sealed here: it is nothing that the relay process should see.
static int seal_key(struct cli *cli, struct bytes pem, struct json_object *args)
{
    const char *path = cli_conf(cli)->dkim.master_key.at;
    struct key_master master;
    struct buf record = {0}, sealed = {0};
    enum sign_kind kind;
    int err = load_master(cli, &master), exit = CLI_OK;
    if (err) {
        exit = cli_fail(cli_exit_of(err), "master key %s: %s", path, key_master_why(err));
    } else if (key_import(&master, pem, &kind, &record, &sealed) != OK) {
        exit = cli_fail(CLI_DATA,
                        "standard input is no private key of RSA (%d to %d bits) or "
                        "Ed25519 in PEM, without a passphrase",
                        KEY_RSA_BITS_MIN, KEY_RSA_BITS_MAX);
    } else {
        json_add_text(args, "algorithm", kind == SIGN_ED25519 ? BYTES("ed25519") : BYTES("rsa"));
        json_add_text(args, "record", buf_bytes(&record));
        add_hex(args, "sealed", buf_bytes(&sealed));
    }
    key_master_wipe(&master);
    buf_done(&record);
    buf_done(&sealed);
    return exit;
}

static int run_import(struct cli *cli)
{
    struct bytes account, domain;
    const char *selector = cli_value(cli, "selector");
    struct json_object *args = NULL, *key = NULL;
    struct buf pem = {0};
    int exit = take_owner(cli, &account, &domain);
    if (!exit && !selector)
        exit = cli_fail_usage(cli, "--selector is missing");
    if (!exit)
        exit = read_pem(cli, &pem);
    if (!exit) {
        args = owner_args(account, domain);
        json_add_text(args, "selector", bytes_cstr(selector));
        exit = seal_key(cli, buf_bytes(&pem), args);
    }
    if (pem.at)
        explicit_bzero(pem.at, pem.cap);
    buf_done(&pem);
    if (!exit)
        exit = cli_store_apply(cli, "dkim.add", args, &key);
    else
        json_object_put(args);
    if (!exit && cli->json)
        cli_print_json(key);
    else if (!exit)
        print_key_txt(bytes_cstr(selector), domain, json_find_text(key, "record"));
    json_object_put(key);
    return exit;
}

// ---- zone ----------------------------------------------------------------------------------------------

static int run_zone(struct cli *cli)
{
    struct json_object *keys = NULL;
    if (!cli_conf(cli))
        return CLI_CONFIG;
    int exit = cli_dkim_look_after(cli);
    if (!exit)
        exit = list_keys(cli, BYTES_NONE, BYTES_NONE, false, &keys);
    for (size_t i = 0; !exit && i < cli_json_count(keys); i++)
        print_zone_record(cli, json_object_array_get_idx(keys, i));
    json_object_put(keys);
    return exit;
}

// ---- the commands --------------------------------------------------------------------------------------

static const struct cli_option owner_options[] = {
    {"service", NULL, "the service's own domain (dkim.service_domain)"},
    {NULL},
};
static const struct cli_option import_options[] = {
    {"service", NULL, "for the service's own domain (dkim.service_domain)"},
    {"selector", "NAME", "the name that its record stands at, or is to"},
    {NULL},
};

const struct cli_command cli_dkim_list = {
    .name = "dkim list",
    .arguments = "[ACCOUNT [DOMAIN]]",
    .help = "list the keys that mail is signed with",
    .more =
        "new: to be published; signs once it is seen in the DNS. active: signs. old: followed by\n"
        "another; stays published for dkim.grace.\n",
    .arguments_max = 2,
    .run = run_list,
};
const struct cli_command cli_dkim_rotate = {
    .name = "dkim rotate",
    .arguments = "ACCOUNT DOMAIN | --service",
    .help = "make new keys for a domain, which sign once they are published",
    .more =
        "Prints the domain's keys and the records of the new ones, which are to be published; the\n"
        "keys in use go on until these are seen in the DNS. Before that the same command prints\n"
        "them again. Happens by itself, too: dkim.rotate_after.\n",
    .options = owner_options,
    .arguments_max = 2,
    .run = run_rotate,
};
const struct cli_command cli_dkim_import = {
    .name = "dkim import",
    .arguments = "ACCOUNT DOMAIN | --service",
    .help = "take over a private key in PEM from standard input",
    .more = "posthaste dkim import ACCOUNT DOMAIN --selector S < KEY.pem\n"
            "It needs the master key, so root's or the service's rights. The key takes the place "
            "of one\n"
            "that waits to be published, and signs once its record is seen in the DNS.\n",
    .options = import_options,
    .arguments_max = 2,
    .run = run_import,
};
const struct cli_command cli_dkim_zone = {
    .name = "dkim zone",
    .help = "print the records for the zone that domains' CNAMEs point into",
    .more = "Lines of a zone file, for domains.dkim_zone with domains.dkim: cname.\n",
    .no_json = true,
    .run = run_zone,
};
