// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>
#include <unistd.h>

#include "bounce/bounce_rules.h"
#include "cli/cli_commands.h"
#include "cli/cli_store.h"
#include "daemon/guard_users.h"
#include "daemon/roles.h"
#include "net/net_tls.h"
#include "route/route.h"

#define PEM_MAX ((size_t)1 << 20)

static const char *plural(uint32_t n)
{
    return n == 1 ? "" : "s";
}

static void show_good(const struct cli *cli, const struct conf *conf)
{
    if (cli->json) {
        struct json_object *object = json_object_new_object();
        json_add_text(object, "file", conf->file);
        json_object_object_add(object, "ok", json_object_new_boolean(true));
        cli_print_json(object);
        json_object_put(object);
        return;
    }
    printf("%s: ok: %u listener%s, %u route%s, %u lane%s\n", conf->file.at, conf->listeners_count,
           plural(conf->listeners_count), conf->routes_count, plural(conf->routes_count),
           conf->lanes_count, plural(conf->lanes_count));
}

static void read_pem(struct bytes path, struct buf *out)
{
    FILE *file = fopen(path.at, "re");
    buf_init(out, PEM_MAX);
    for (size_t n = 1; file && n > 0;) {
        char *room = buf_reserve(out, 4096);
        n = room ? fread(room, 1, 4096, file) : 0;
        buf_commit(out, n);
    }
    if (file)
        fclose(file);
}

// What the service would make of the files, as it does at its start.
static int check_pair(const struct conf *conf, struct buf *errors)
{
    struct buf certificate, key;
    struct net_tls_server *server;
    char reason[NET_TLS_REASON];
    if (!conf->tls.certificate.len)
        return 0;
    read_pem(conf->tls.certificate, &certificate);
    read_pem(conf->tls.key, &key);
    int err = net_tls_server_new(buf_bytes(&certificate), buf_bytes(&key), &server, reason);
    if (!err)
        net_tls_server_free(server);
    else
        buf_printf(errors, "%s: error: tls.certificate or tls.key: %s\n", conf->file.at, reason);
    buf_done(&certificate);
    buf_done(&key);
    return err;
}

static int check_rules(const struct conf *conf, struct buf *errors)
{
    struct bounce_rules *rules;
    struct buf text;
    buf_init(&text, BOUNCE_RULES_FILE_MAX);
    int err = conf->bounce.rules.len ? route_file_read(conf->bounce.rules.at, &text) : OK;
    if (err)
        buf_printf(errors, "%s: error: bounce.rules: %s\n", conf->file.at, err_text(err));
    else
        err = bounce_rules_load(buf_bytes(&text), conf->bounce.rules.at, &rules, errors);
    if (!err)
        bounce_rules_free(rules);
    buf_done(&text);
    return err;
}

static int check_client_authorities(const struct conf *conf, struct buf *errors)
{
    struct bytes path = conf->tls.client_authorities;
    struct net_tls_authorities *authorities = NULL;
    char reason[NET_TLS_REASON];
    struct buf pem;
    if (!path.len)
        return OK;
    read_pem(path, &pem);
    int err = net_tls_authorities_new(buf_bytes(&pem), &authorities, reason);
    if (err)
        buf_printf(errors, "%s: error: tls.client_authorities: %s: %s\n", conf->file.at, path.at,
                   reason);
    net_tls_authorities_free(authorities);
    buf_done(&pem);
    return err;
}

static int check_contents(const struct conf *conf, struct buf *errors)
{
    struct route_table *routes;
    int pair = check_pair(conf, errors);
    int clients = check_client_authorities(conf, errors);
    int rules = check_rules(conf, errors);
    int err = route_table_new(conf, NULL, 1, &routes, errors);
    if (!err)
        route_table_free(routes);
    return pair ? pair : clients ? clients : rules ? rules : err;
}

// Users and groups that this host has to have; who is not root stays who it is, as the service does.
static int check_names(const struct conf *conf, struct buf *errors)
{
    struct roles found;
    int user = geteuid() == 0 ? guard_users_check(conf, errors) : OK;
    int roles = roles_find(conf, &found, errors);
    return user ? user : roles;
}

static int run(struct cli *cli)
{
    struct buf errors = {0};
    const struct conf *conf = cli_conf(cli);
    if (!conf)
        return CLI_CONFIG;
    int names = check_names(conf, &errors);
    int files = conf_check_files(conf, &errors);
    int contents = files ? OK : check_contents(conf, &errors);
    bool good = !names && !files && !contents;
    if (good)
        show_good(cli, conf);
    else
        fputs(buf_cstr(&errors), stderr);
    buf_done(&errors);
    return good ? CLI_OK : CLI_CONFIG;
}

const struct cli_command cli_check_config = {
    .name = "check-config",
    .help = "read the configuration and tell all that is wrong with it",
    .more = "Errors go to standard error as FILE:LINE:COLUMN: error: TEXT; the exit code is 78.\n",
    .run = run,
};
